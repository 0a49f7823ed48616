//! From a line to a record, as Kafka's `LineMessageReader` takes it apart.

use bytes::Bytes;
use milena_client::producer::Record;
use milena_protocol::Str;

use crate::connect::Properties;

/// How lines are taken apart.
#[derive(Clone, Debug)]
pub struct LineReader {
    topic: Str,
    parse_key: bool,
    parse_headers: bool,
    ignore_error: bool,
    key_separator: String,
    headers_delimiter: String,
    headers_separator: String,
    headers_key_separator: String,
    null_marker: Option<String>,
    line: u64,
}

impl LineReader {
    pub fn new(topic: &str, properties: &Properties) -> Result<LineReader, String> {
        let flag = |key: &str| {
            let value = properties.get(key).map(|value| value.trim());
            value.is_some_and(|value| value.eq_ignore_ascii_case("true"))
        };
        let text = |key: &str, default: &str| {
            properties
                .get(key)
                .cloned()
                .unwrap_or_else(|| default.to_string())
        };
        let reader = LineReader {
            topic: Str::copy(topic),
            parse_key: flag("parse.key"),
            parse_headers: flag("parse.headers"),
            ignore_error: flag("ignore.error"),
            key_separator: text("key.separator", "\t"),
            headers_delimiter: text("headers.delimiter", "\t"),
            headers_separator: text("headers.separator", ","),
            headers_key_separator: text("headers.key.separator", ":"),
            null_marker: properties.get("null.marker").cloned(),
            line: 0,
        };
        reader.check()?;
        Ok(reader)
    }

    /// No two separators, and not the null marker, may be the same.
    fn check(&self) -> Result<(), String> {
        let named = [
            ("headers.delimiter", &self.headers_delimiter),
            ("headers.separator", &self.headers_separator),
            ("headers.key.separator", &self.headers_key_separator),
        ];
        for (i, (name, text)) in named.iter().enumerate() {
            for (other, other_text) in &named[i + 1..] {
                if self.parse_headers && text == other_text {
                    return Err(format!("{name} and {other} may not be equal"));
                }
            }
        }
        let key = ("key.separator", &self.key_separator);
        for (name, text) in [key].into_iter().chain(named) {
            if self.null_marker.as_ref() == Some(text) {
                return Err(format!("null.marker and {name} may not be equal"));
            }
        }
        Ok(())
    }

    /// The record of the next line.
    pub fn read(&mut self, line: &str, timestamp: i64) -> Result<Record, String> {
        self.line += 1;
        let mut rest = line;
        let headers = match self.parse_headers {
            true => self.cut(
                &mut rest,
                line,
                &self.headers_delimiter,
                "headers delimiter",
            )?,
            false => None,
        };
        let key = match self.parse_key {
            true => self.cut(&mut rest, line, &self.key_separator, "key separator")?,
            false => None,
        };
        let headers = match headers.filter(|text| !self.is_null(text)) {
            Some(text) => self.headers(text)?,
            None => Vec::new(),
        };
        Ok(Record {
            tag: 0,
            topic: self.topic.clone(),
            partition: None,
            timestamp,
            key: key.and_then(|key| self.field(key)),
            value: self.field(rest),
            headers,
        })
    }

    /// What stands before the separator; `rest` moves behind it.
    fn cut<'a>(
        &self,
        rest: &mut &'a str,
        line: &str,
        separator: &str,
        what: &str,
    ) -> Result<Option<&'a str>, String> {
        match rest.split_once(separator) {
            Some((before, after)) => {
                *rest = after;
                Ok(Some(before))
            }
            None if self.ignore_error => Ok(None),
            None => Err(format!(
                "No {what} found on line number {}: '{line}'",
                self.line
            )),
        }
    }

    fn is_null(&self, text: &str) -> bool {
        self.null_marker.as_deref() == Some(text)
    }

    fn field(&self, text: &str) -> Option<Bytes> {
        (!self.is_null(text)).then(|| Bytes::copy_from_slice(text.as_bytes()))
    }

    fn headers(&self, text: &str) -> Result<Vec<(Str, Option<Bytes>)>, String> {
        let mut pairs: Vec<&str> = text.split(&self.headers_separator).collect();
        // As Java's split: empty pieces at the end are none.
        while pairs.len() > 1 && pairs.last() == Some(&"") {
            pairs.pop();
        }
        let pairs = pairs.into_iter().map(|pair| {
            let Some((name, value)) = pair.split_once(&self.headers_key_separator) else {
                return match self.ignore_error {
                    true => Ok((Str::copy(pair), None)),
                    false => Err(format!(
                        "No header key separator found in pair '{pair}' on line number {}",
                        self.line
                    )),
                };
            };
            match self.is_null(name) {
                true => Err(format!(
                    "Header keys should not be equal to the null marker '{name}' as they can't be null"
                )),
                false => Ok((Str::copy(name), self.field(value))),
            }
        });
        pairs.collect()
    }
}

/// Cuts bytes into lines as Java's `BufferedReader` does: after `\n`, `\r` or both.
#[derive(Debug, Default)]
pub struct LineCutter {
    pending: Vec<u8>,
    after_return: bool,
}

impl LineCutter {
    /// The lines that end in these bytes.
    pub fn feed(&mut self, bytes: &[u8], mut line: impl FnMut(String)) {
        for &byte in bytes {
            let skipped = byte == b'\n' && std::mem::take(&mut self.after_return);
            self.after_return = byte == b'\r';
            match byte {
                _ if skipped => {}
                b'\n' | b'\r' => line(self.take()),
                byte => self.pending.push(byte),
            }
        }
    }

    /// What stands after the last line's end.
    pub fn finish(&mut self) -> Option<String> {
        (!self.pending.is_empty()).then(|| self.take())
    }

    fn take(&mut self) -> String {
        let bytes = std::mem::take(&mut self.pending);
        String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }
}
