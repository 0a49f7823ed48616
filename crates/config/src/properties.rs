//! Java properties files, as `java.util.Properties` reads them: Latin-1 bytes, `\uXXXX`, continued lines.

use std::collections::BTreeMap;
use std::fmt;

/// What is wrong with a properties file, and on which line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PropertiesError {
    /// Counted from 1; 0 for an override on the command line.
    pub line: usize,
    pub message: String,
}

impl fmt::Display for PropertiesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.message),
            line => write!(f, "line {line}: {}", self.message),
        }
    }
}

impl std::error::Error for PropertiesError {}

/// Keys and values as a properties file gives them. A later line wins over an earlier one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties(BTreeMap<String, String>);

impl Properties {
    /// Reads the bytes of a file. A key without a separator has an empty value, as in Java.
    pub fn parse(bytes: &[u8]) -> Result<Properties, PropertiesError> {
        let text: String = bytes.iter().map(|&byte| char::from(byte)).collect();
        let mut properties = Properties::default();
        let mut lines = natural_lines(&text).into_iter().enumerate();
        while let Some((at, first)) = lines.next() {
            let first = first.trim_start_matches(is_blank);
            if first.is_empty() || first.starts_with(['#', '!']) {
                continue;
            }
            let mut logical = first.to_owned();
            while ends_in_odd_backslashes(&logical) {
                logical.pop();
                match lines.next() {
                    Some((_, more)) => logical.push_str(more.trim_start_matches(is_blank)),
                    None => break,
                }
            }
            properties
                .line(&logical)
                .map_err(|message| PropertiesError {
                    line: at + 1,
                    message,
                })?;
        }
        Ok(properties)
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        let end = key_end(line);
        let (key, rest) = line.split_at(end);
        let rest = rest.trim_start_matches(is_blank);
        let value = rest
            .strip_prefix(['=', ':'])
            .map_or(rest, |v| v.trim_start_matches(is_blank));
        self.0.insert(unescape(key)?, unescape(value)?);
        Ok(())
    }

    /// Applies one `--override key=value`.
    pub fn set_override(&mut self, argument: &str) -> Result<(), PropertiesError> {
        match argument.split_once('=') {
            Some((key, value)) => {
                self.0.insert(key.to_owned(), value.to_owned());
                Ok(())
            }
            None => Err(PropertiesError {
                line: 0,
                message: format!("--override {argument}: expected key=value"),
            }),
        }
    }

    /// Sets one key.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.0.insert(key.into(), value.into());
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Every key with its value, ordered by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The map itself.
    pub fn as_map(&self) -> &BTreeMap<String, String> {
        &self.0
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Properties {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Properties {
        Properties(
            pairs
                .into_iter()
                .map(|(key, value)| (key.into(), value.into()))
                .collect(),
        )
    }
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\u{c}')
}

fn ends_in_odd_backslashes(line: &str) -> bool {
    line.bytes().rev().take_while(|&byte| byte == b'\\').count() % 2 == 1
}

/// Where the key ends: at the first unescaped blank, `=` or `:`.
fn key_end(line: &str) -> usize {
    let mut escaped = false;
    for (at, c) in line.char_indices() {
        if !escaped && (is_blank(c) || c == '=' || c == ':') {
            return at;
        }
        escaped = c == '\\' && !escaped;
    }
    line.len()
}

/// Natural lines, ended by `\n`, `\r` or both together.
fn natural_lines(text: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['\n', '\r']) {
        lines.push(&rest[..at]);
        let width = if rest[at..].starts_with("\r\n") { 2 } else { 1 };
        rest = &rest[at + width..];
    }
    lines.push(rest);
    lines
}

/// Resolves `\t`, `\n`, `\r`, `\f`, `\uXXXX`; any other escaped character stands for itself.
fn unescape(text: &str) -> Result<String, String> {
    if !text.contains('\\') {
        return Ok(text.to_owned());
    }
    let mut units: Vec<u16> = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let plain = match c {
            '\\' => match chars.next() {
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('f') => '\u{c}',
                Some('u') => {
                    units.push(unicode_escape(&mut chars)?);
                    continue;
                }
                Some(other) => other,
                None => break,
            },
            _ => c,
        };
        units.extend_from_slice(plain.encode_utf16(&mut [0; 2]));
    }
    Ok(String::from_utf16_lossy(&units))
}

fn unicode_escape(chars: &mut std::str::Chars<'_>) -> Result<u16, String> {
    let digits: String = chars.take(4).collect();
    let unit = if digits.len() == 4 {
        u16::from_str_radix(&digits, 16).ok()
    } else {
        None
    };
    unit.ok_or_else(|| "expected four hexadecimal digits after \\u".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Vec<(String, String)> {
        let properties = Properties::parse(text.as_bytes()).unwrap();
        properties
            .iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    fn one(text: &str) -> (String, String) {
        let mut all = parse(text);
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    #[test]
    fn separators_blanks_and_escapes() {
        for text in ["a=b", "a:b", "a b", "  a = b", "a\t:\u{c}b", "\\a=\\b"] {
            assert_eq!(one(text), ("a".into(), "b".into()), "{text}");
        }
        assert_eq!(one("a=b "), ("a".into(), "b ".into()));
        assert_eq!(one("a==b"), ("a".into(), "=b".into()));
        assert_eq!(one("a\\ b=c"), ("a b".into(), "c".into()));
        assert_eq!(one("a"), ("a".into(), String::new()));
        assert_eq!(
            one("a=\\t\\u00e9\\uD83D\\uDE00\\\\"),
            ("a".into(), "\té😀\\".into())
        );
    }

    #[test]
    fn comments_and_continued_lines() {
        assert_eq!(parse("# a=b\n! c=d\n\n   \n").len(), 0);
        assert_eq!(one("a=b,\\\r\n   c,\\\n\td"), ("a".into(), "b,c,d".into()));
        assert_eq!(one("a=b\\\\\n#x"), ("a".into(), "b\\".into()));
        assert_eq!(
            parse("a=1\ra=2\r\nb=3"),
            [("a".into(), "2".into()), ("b".into(), "3".into())]
        );
    }

    #[test]
    fn bytes_are_latin_1() {
        let properties = Properties::parse(b"a=\xe9").unwrap();
        assert_eq!(properties.get("a"), Some("é"));
    }

    #[test]
    fn errors_name_the_line() {
        let error = Properties::parse(b"a=1\nb=\\u12x4\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            "line 2: expected four hexadecimal digits after \\u"
        );
    }

    #[test]
    fn overrides_win() {
        let mut properties = Properties::parse(b"a=1").unwrap();
        properties.set_override("a=2=3").unwrap();
        properties.set_override("b=").unwrap();
        assert_eq!(
            (properties.get("a"), properties.get("b")),
            (Some("2=3"), Some(""))
        );
        assert!(properties.set_override("a").is_err());
    }
}
