//! Values: text in, typed value out, and the text that Kafka shows of it.

use std::collections::BTreeSet;
use std::fmt;

use crate::java;
use crate::key::{Key, Type};

/// Text that must not be shown. Its `Debug` and `Display` say `[hidden]`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The secret itself: for the code that uses it, never for a log line or an answer.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

/// A typed value. Null is the absence of one (`Option<Value>`).
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Boolean(bool),
    String(String),
    Int(i32),
    Short(i16),
    Long(i64),
    Double(f64),
    List(Vec<String>),
    Class(String),
    Password(Secret),
}

impl Value {
    /// The text that Kafka shows of a value; `[hidden]` for a password.
    pub fn to_text(&self) -> String {
        match self {
            Value::Boolean(value) => value.to_string(),
            Value::String(text) | Value::Class(text) => text.clone(),
            Value::Int(value) => value.to_string(),
            Value::Short(value) => value.to_string(),
            Value::Long(value) => value.to_string(),
            Value::Double(value) => java::double_text(*value),
            Value::List(items) => items.join(","),
            Value::Password(secret) => secret.to_string(),
        }
    }

    /// The number in it, if it is one.
    pub(crate) fn number(&self) -> Option<f64> {
        match self {
            Value::Int(value) => Some(f64::from(*value)),
            Value::Short(value) => Some(f64::from(*value)),
            Value::Long(value) => Some(*value as f64),
            Value::Double(value) => Some(*value),
            _ => None,
        }
    }

    /// The whole number in it, if it is one.
    pub(crate) fn integer(&self) -> Option<i64> {
        match self {
            Value::Int(value) => Some(i64::from(*value)),
            Value::Short(value) => Some(i64::from(*value)),
            Value::Long(value) => Some(*value),
            _ => None,
        }
    }
}

/// Why a value is refused, in Kafka's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid(pub String);

impl Invalid {
    /// `Invalid value … for configuration …: …`.
    pub(crate) fn value(name: &str, value: &str, why: &str) -> Invalid {
        Invalid(format!(
            "Invalid value {value} for configuration {name}: {why}"
        ))
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Invalid {}

impl Key {
    /// Reads text as this key's type and checks it against what is allowed. Of an element that a list repeats only
    /// the first is kept.
    ///
    /// # Errors
    /// Kafka's message.
    pub fn parse(&self, text: &str) -> Result<Value, Invalid> {
        let mut value = parse_type(self.name, text, self.kind)?;
        if let Value::List(items) = &mut value
            && self.allowed.is_list()
        {
            let mut seen = BTreeSet::new();
            items.retain(|item| seen.insert(item.clone()));
        }
        self.allowed.check(self.name, &value)?;
        Ok(value)
    }

    /// As [`Key::parse`], but a repeated element is refused: so Kafka takes a broker's dynamic configs.
    ///
    /// # Errors
    /// Kafka's message.
    pub fn parse_strict(&self, text: &str) -> Result<Value, Invalid> {
        let value = parse_type(self.name, text, self.kind)?;
        self.allowed.check(self.name, &value)?;
        Ok(value)
    }
}

/// Reads text as a type, without a look at what the key allows.
pub(crate) fn parse_type(name: &str, text: &str, kind: Type) -> Result<Value, Invalid> {
    let trimmed = java::trim(text);
    let no_number = || Invalid::value(name, text, &format!("Not a number of type {}", kind.name()));
    Ok(match kind {
        Type::Boolean if trimmed.eq_ignore_ascii_case("true") => Value::Boolean(true),
        Type::Boolean if trimmed.eq_ignore_ascii_case("false") => Value::Boolean(false),
        Type::Boolean => {
            return Err(Invalid::value(
                name,
                text,
                "Expected value to be either true or false",
            ));
        }
        Type::String => Value::String(trimmed.to_owned()),
        Type::Class => Value::Class(trimmed.to_owned()),
        Type::Password => Value::Password(Secret(trimmed.to_owned())),
        Type::List => Value::List(java::split_list(text)),
        Type::Int => Value::Int(trimmed.parse().map_err(|_| no_number())?),
        Type::Short => Value::Short(trimmed.parse().map_err(|_| no_number())?),
        Type::Long => Value::Long(trimmed.parse().map_err(|_| no_number())?),
        Type::Double => Value::Double(java::parse_double(trimmed).ok_or_else(no_number)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_parse_by_type() {
        let parse = |text, kind| parse_type("k", text, kind);
        assert_eq!(parse(" TRUE ", Type::Boolean), Ok(Value::Boolean(true)));
        assert_eq!(parse("+5", Type::Int), Ok(Value::Int(5)));
        assert_eq!(parse("-1", Type::Long), Ok(Value::Long(-1)));
        assert_eq!(parse("a, b", Type::List).unwrap().to_text(), "a,b");
        assert_eq!(
            parse("70000", Type::Short).unwrap_err().0,
            "Invalid value 70000 for configuration k: Not a number of type SHORT"
        );
        assert_eq!(
            parse(" maybe", Type::Boolean).unwrap_err().0,
            "Invalid value  maybe for configuration k: Expected value to be either true or false"
        );
    }

    #[test]
    fn secrets_stay_hidden() {
        let value = parse_type("k", "sesame", Type::Password).unwrap();
        assert_eq!(value.to_text(), "[hidden]");
        assert!(!format!("{value:?}").contains("sesame"));
    }
}
