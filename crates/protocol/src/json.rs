//! Messages as JSON, in the form of Kafka's `…JsonConverter` classes: what `kafka-dump-log` prints and what
//! `quorum-state` holds.
//!
//! Fields stand in the order of the schema under their names in camel case. A field that the version lacks, and
//! a tagged field at its default, are left out. Bytes are base64, ids their text, records an empty string.

use std::fmt::{self, Write};

use bytes::Bytes;

use crate::dynamic::{self, Value};
use crate::{DecodeError, EncodeError, Field, Message, Reader, Schema, Str};

/// A JSON value; objects keep their order. `Display` gives the text without blanks, as Jackson does.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Str),
    Array(Vec<Json>),
    Object(Vec<(Str, Json)>),
}

impl Json {
    /// The JSON of a message in a version. An error where the version cannot carry the value.
    pub fn of<M: Message>(message: &M, version: i16) -> Result<Json, EncodeError> {
        let bytes = message.to_bytes(version)?;
        let json = Json::of_bytes(M::SCHEMA, bytes, version);
        Ok(json.expect("what the codec wrote is read by its table"))
    }

    /// The JSON of an encoded message's body.
    pub fn of_bytes(schema: &Schema, body: Bytes, version: i16) -> Result<Json, DecodeError> {
        let value = dynamic::read(schema, &mut Reader::new(body), version)?;
        Ok(structure(schema, &value))
    }

    /// An object of the given members.
    pub fn object<const N: usize>(members: [(&'static str, Json); N]) -> Json {
        Json::Object(members.map(|(name, json)| (name.into(), json)).into())
    }

    /// The member of an object by its name.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Json> {
        match self {
            Json::Object(members) => members.iter_mut().find(|m| m.0 == *name).map(|m| &mut m.1),
            _ => None,
        }
    }
}

fn structure(schema: &Schema, value: &Value) -> Json {
    let Value::Struct(values) = value else {
        return Json::Null;
    };
    let members = schema.fields.iter().zip(values);
    let present = members.filter(|(_, value)| **value != Value::Absent);
    Json::Object(
        present
            .map(|(field, value)| (field.name.into(), member(field, value)))
            .collect(),
    )
}

fn member(field: &Field, value: &Value) -> Json {
    typed(field.ty, value)
}

fn typed(ty: crate::Type, value: &Value) -> Json {
    match (ty, value) {
        (_, Value::Null | Value::Absent) => Json::Null,
        (_, Value::Bool(b)) => Json::Bool(*b),
        (_, Value::Int(n)) => Json::Int(*n),
        (_, Value::Float(x)) => Json::Float(*x),
        (_, Value::Uuid(id)) => Json::Text(id.to_string().into()),
        (_, Value::Text(text)) => Json::Text(text.clone()),
        (_, Value::Bytes(bytes)) => Json::Text(base64(bytes).into()),
        (_, Value::Records(_)) => Json::Text(Str::EMPTY),
        (crate::Type::Array(element), Value::Array(items)) => {
            Json::Array(items.iter().map(|item| typed(*element, item)).collect())
        }
        (crate::Type::Struct(schema), value) => structure(schema, value),
        (_, Value::Array(_) | Value::Struct(_)) => unreachable!("a value is read by its type"),
    }
}

/// Standard base64, padded.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let mut three = [0; 3];
        three[..group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for i in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * i)) as usize & 63];
            text.push(if i <= group.len() { digit.into() } else { '=' });
        }
    }
    text
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Json::Null => f.write_str("null"),
            Json::Bool(b) => write!(f, "{b}"),
            Json::Int(n) => write!(f, "{n}"),
            Json::Float(x) => float(f, *x),
            Json::Text(text) => quoted(f, text),
            Json::Array(items) => list(f, '[', ']', items, |f, item| write!(f, "{item}")),
            Json::Object(members) => list(f, '{', '}', members, |f, (name, value)| {
                quoted(f, name)?;
                write!(f, ":{value}")
            }),
        }
    }
}

fn list<T>(
    f: &mut fmt::Formatter<'_>,
    open: char,
    close: char,
    items: &[T],
    each: impl Fn(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    f.write_char(open)?;
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            f.write_char(',')?;
        }
        each(f, item)?;
    }
    f.write_char(close)
}

/// Jackson's escapes: short ones where they exist, else `\u00XX`; nothing beyond ASCII is escaped.
fn quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            '\u{8}' => f.write_str("\\b")?,
            '\u{c}' => f.write_str("\\f")?,
            c if c < ' ' => write!(f, "\\u{:04X}", c as u32)?,
            c => f.write_char(c)?,
        }
    }
    f.write_char('"')
}

/// As `Double.toString` of Java: plain between 10^-3 and 10^7, else with an exponent.
fn float(f: &mut fmt::Formatter<'_>, x: f64) -> fmt::Result {
    if !x.is_finite() {
        let sign = if x < 0.0 { "-" } else { "" };
        let name = if x.is_nan() { "NaN" } else { "Infinity" };
        return write!(f, "\"{sign}{name}\"");
    }
    if x == 0.0 || (1e-3..1e7).contains(&x.abs()) {
        return write!(f, "{x:?}");
    }
    let text = format!("{x:e}");
    let (digits, exponent) = text.split_once('e').expect("the form asked for");
    let point = if digits.contains('.') { "" } else { ".0" };
    write!(f, "{digits}{point}E{exponent}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_texts_look_like_jacksons() {
        for (x, expected) in [
            (2048.0, "2048.0"),
            (0.5, "0.5"),
            (1e7, "1.0E7"),
            (-1.5e-9, "-1.5E-9"),
            (f64::MAX, "1.7976931348623157E308"),
            (0.001, "0.001"),
        ] {
            assert_eq!(Json::Float(x).to_string(), expected);
        }
        let text = Json::Text("a\"\\\n\u{1f}é".into());
        assert_eq!(text.to_string(), "\"a\\\"\\\\\\n\\u001Fé\"");
        assert_eq!(base64(b"a"), "YQ==");
        assert_eq!(base64(b"ab\xff"), "YWL/");
        assert_eq!(base64(b""), "");
    }
}
