//! The corners of Java's text handling that Kafka's configuration values pass through.

/// `String.trim`: everything up to and including U+0020 goes at both ends.
pub(crate) fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| c <= ' ')
}

/// Whether Java's regular expressions call it white space (`\s`).
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\u{b}' | '\u{c}' | '\r')
}

/// Splits trimmed text at commas, as Kafka splits a list value; empty text is the empty list.
pub(crate) fn split_list(text: &str) -> Vec<String> {
    let text = trim(text);
    if text.is_empty() {
        return Vec::new();
    }
    text.split(',')
        .map(|part| part.trim_matches(is_space).to_owned())
        .collect()
}

/// `String.split(",")`: no trimming, and empty parts at the end are dropped.
pub(crate) fn split_plain(text: &str) -> Vec<&str> {
    if text.is_empty() {
        return vec![""];
    }
    let mut parts: Vec<&str> = text.split(',').collect();
    while parts.last().is_some_and(|part| part.is_empty()) {
        parts.pop();
    }
    parts
}

/// `Double.parseDouble`, but for hexadecimal literals.
pub(crate) fn parse_double(text: &str) -> Option<f64> {
    let text = trim(text);
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let negative = text.starts_with('-');
    let magnitude = match unsigned {
        "NaN" => f64::NAN,
        "Infinity" => f64::INFINITY,
        _ => {
            let digits = unsigned
                .strip_suffix(['d', 'D', 'f', 'F'])
                .unwrap_or(unsigned);
            if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
                return None;
            }
            digits.parse().ok()?
        }
    };
    Some(if negative { -magnitude } else { magnitude })
}

/// `Double.toString`.
pub fn double_text(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 {
            "Infinity".into()
        } else {
            "-Infinity".into()
        };
    }
    let size = value.abs();
    if size == 0.0 || (1e-3..1e7).contains(&size) {
        return format!("{value:?}");
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let point = if digits.contains('.') { "" } else { ".0" };
    format!("{digits}{point}E{exponent}")
}

/// How Java prints a list.
pub(crate) fn list_text<T: AsRef<str>>(items: &[T]) -> String {
    let items: Vec<&str> = items.iter().map(AsRef::as_ref).collect();
    format!("[{}]", items.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_print_as_java_prints_them() {
        for (value, text) in [
            (0.0, "0.0"),
            (0.5, "0.5"),
            (100.0, "100.0"),
            (9_999_999.0, "9999999.0"),
            (1e7, "1.0E7"),
            (1e-3, "0.001"),
            (1e-4, "1.0E-4"),
            (f64::MAX, "1.7976931348623157E308"),
            (2_147_483_647.0, "2.147483647E9"),
            (-1.5, "-1.5"),
        ] {
            assert_eq!(double_text(value), text);
        }
    }

    #[test]
    fn doubles_parse_as_java_parses_them() {
        for (text, value) in [
            ("1", 1.0),
            ("1e3", 1e3),
            (".5", 0.5),
            ("5.", 5.0),
            ("-2d", -2.0),
        ] {
            assert_eq!(parse_double(text), Some(value), "{text}");
        }
        assert_eq!(parse_double("Infinity"), Some(f64::INFINITY));
        for text in ["", "inf", "nan", "infinity", "1x", "--1", "1 2", "d"] {
            assert_eq!(parse_double(text), None, "{text}");
        }
    }

    #[test]
    fn lists_split_as_kafka_splits_them() {
        assert_eq!(split_list(" a , b,, c\t"), ["a", "b", "", "c"]);
        assert_eq!(split_list(" \n"), Vec::<String>::new());
        assert_eq!(split_list("a,"), ["a", ""]);
        assert_eq!(split_plain("a,b,,"), ["a", "b"]);
        assert_eq!(split_plain(""), [""]);
        assert_eq!(split_plain(","), Vec::<&str>::new());
    }
}
