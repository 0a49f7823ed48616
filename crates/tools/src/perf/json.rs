//! JSON lines of the verifiable clients.

use std::fmt::Write as _;

/// Text in quotes.
pub fn text(value: &str) -> String {
    let mut out = String::from("\"");
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out + "\""
}

pub fn text_or_null(value: Option<&str>) -> String {
    value.map_or("null".to_owned(), text)
}

/// A line: when, what, and further members as `"key":value`.
pub fn line(timestamp_ms: i64, name: &str, members: &[(&str, String)]) -> String {
    let mut out = format!("{{\"timestamp\":{timestamp_ms},\"name\":{}", text(name));
    for (key, value) in members {
        let _ = write!(out, ",\"{key}\":{value}");
    }
    out + "}\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_json() {
        let members = [
            ("value", text("a\"\\\n\u{1}é")),
            ("key", text_or_null(None)),
        ];
        assert_eq!(
            line(7, "x", &members),
            "{\"timestamp\":7,\"name\":\"x\",\"value\":\"a\\\"\\\\\\n\\u0001é\",\"key\":null}\n"
        );
    }
}
