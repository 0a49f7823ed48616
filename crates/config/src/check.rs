//! What a key allows, and Kafka's words when a value is not among it.

use std::collections::BTreeSet;
use std::fmt;

use crate::endpoint::{is_bootstrap_server, parse_voters};
use crate::java;
use crate::value::{Invalid, Value};

/// The values that a key allows, with its text in the table.
#[derive(Clone, Debug, PartialEq)]
pub struct Allowed {
    text: &'static str,
    rule: Rule,
}

#[derive(Clone, Debug, PartialEq)]
enum Rule {
    Any,
    /// Bounds as the table writes them, both inclusive.
    Range {
        min: Option<&'static str>,
        max: Option<&'static str>,
    },
    /// 1 to 9, or −1 for the codec's own default.
    GzipLevel,
    OneOf(Vec<&'static str>),
    OneOfAnyCase(Vec<&'static str>),
    NonEmpty,
    NonNull,
    /// No element twice and none empty; elements from a list unless that is empty.
    List {
        empty: bool,
        of: Vec<&'static str>,
    },
    /// `*`, or `partition:broker` pairs.
    ThrottledReplicas,
    /// `latest`, `earliest` or `by_duration:` and an ISO 8601 duration.
    OffsetReset,
    Voters,
    Servers,
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.rule {
            Rule::Any => f.write_str("any value of its type"),
            Rule::Range {
                min: Some(min),
                max: Some(max),
            } => write!(f, "{min} to {max}"),
            Rule::Range {
                min: Some(min),
                max: None,
            } => write!(f, "at least {min}"),
            Rule::Range {
                min: None,
                max: Some(max),
            } => write!(f, "at most {max}"),
            Rule::Range {
                min: None,
                max: None,
            } => f.write_str("any number"),
            Rule::OneOf(options) => write!(f, "one of {}", options.join(", ")),
            Rule::OneOfAnyCase(options) => write!(f, "one of {} in any case", options.join(", ")),
            Rule::List { of, .. } if !of.is_empty() => {
                write!(f, "a comma-separated list of {}", of.join(", "))
            }
            Rule::List { .. } => f.write_str("a comma-separated list without repetition"),
            _ => f.write_str(self.text),
        }
    }
}

impl Allowed {
    /// Whether there is no rule beyond the type.
    pub fn is_any(&self) -> bool {
        self.rule == Rule::Any
    }

    /// Whether it is a list whose elements may not repeat.
    pub(crate) fn is_list(&self) -> bool {
        matches!(self.rule, Rule::List { .. })
    }

    /// Reads the table's notation.
    pub(crate) fn parse(text: &'static str) -> Option<Allowed> {
        let rule = match text {
            "" => Rule::Any,
            "[1,...,9] or -1" => Rule::GzipLevel,
            "non-empty string" => Rule::NonEmpty,
            "non-null string" => Rule::NonNull,
            "id@host:port,..." => Rule::Voters,
            "host:port,..." => Rule::Servers,
            "[partitionId]:[brokerId],[partitionId]:[brokerId],..." => Rule::ThrottledReplicas,
            "[latest, earliest, by_duration:PnDTnHnMn.nS]" => Rule::OffsetReset,
            _ if text.starts_with("list") => {
                let (head, of) = text.split_once(" of ").unwrap_or((text, "[]"));
                Rule::List {
                    empty: head.contains("or empty"),
                    of: options(of)?,
                }
            }
            _ if text.contains("...") => range(text)?,
            _ => match text.strip_prefix("(case insensitive) ") {
                Some(rest) => Rule::OneOfAnyCase(options(rest)?),
                None => Rule::OneOf(options(text)?),
            },
        };
        Some(Allowed { text, rule })
    }

    /// Checks a typed value.
    pub(crate) fn check(&self, name: &str, value: &Value) -> Result<(), Invalid> {
        let refuse = |why: String| Err(Invalid::value(name, &value.to_text(), &why));
        match (&self.rule, value) {
            (Rule::Range { min, max }, _) => check_range(name, value, *min, *max),
            (Rule::GzipLevel, Value::Int(level)) if !(matches!(level, 1..=9 | -1)) => {
                refuse("Value must be between 1 and 9 or equal to -1".into())
            }
            (Rule::OneOf(options), Value::String(text)) if !options.contains(&text.as_str()) => {
                refuse(format!("String must be one of: {}", options.join(", ")))
            }
            (Rule::OneOfAnyCase(options), Value::String(text))
                if !options.contains(&text.to_uppercase().as_str()) =>
            {
                let options = options.join(", ");
                refuse(format!(
                    "String must be one of (case insensitive): {options}"
                ))
            }
            (Rule::NonEmpty, Value::String(text)) if text.is_empty() => {
                refuse("String must be non-empty".into())
            }
            (Rule::List { empty, of }, Value::List(items)) => check_list(name, items, *empty, of),
            (Rule::ThrottledReplicas, Value::List(items)) => check_throttled(name, items),
            (Rule::OffsetReset, Value::String(text)) => check_offset_reset(name, text),
            (Rule::Voters, Value::List(items)) => match parse_voters(items) {
                Ok(_) => Ok(()),
                Err(why) => Err(Invalid(why)),
            },
            (Rule::Servers, Value::List(items)) => {
                match items.iter().find(|item| !is_bootstrap_server(item)) {
                    None => Ok(()),
                    Some(item) => refuse(format!("{item} is not host:port")),
                }
            }
            _ => Ok(()),
        }
    }
}

fn options(text: &'static str) -> Option<Vec<&'static str>> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    Some(
        inner
            .split(", ")
            .filter(|option| !option.is_empty())
            .collect(),
    )
}

fn range(text: &'static str) -> Option<Rule> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    let (min, max) = inner.split_once("...")?;
    let bound = |text: &'static str| {
        let text = text.trim_matches(',');
        (!text.is_empty()).then_some(text)
    };
    Some(Rule::Range {
        min: bound(min),
        max: bound(max),
    })
}

fn check_range(
    name: &str,
    value: &Value,
    min: Option<&str>,
    max: Option<&str>,
) -> Result<(), Invalid> {
    let Some(number) = value.number() else {
        return Ok(());
    };
    let bound = |text: &str| text.parse::<f64>().unwrap_or(f64::NAN);
    let refuse = |why: String| Err(Invalid::value(name, &value.to_text(), &why));
    match (min, max) {
        (Some(min), _) if number < bound(min) => refuse(format!("Value must be at least {min}")),
        (_, Some(max)) if number > bound(max) => {
            refuse(format!("Value must be no more than {max}"))
        }
        _ => Ok(()),
    }
}

fn check_list(name: &str, items: &[String], empty: bool, of: &[&str]) -> Result<(), Invalid> {
    if items.is_empty() && !empty {
        let valid = if of.is_empty() {
            "any non-empty value".into()
        } else {
            java::list_text(of)
        };
        return Err(Invalid(format!(
            "Configuration '{name}' must not be empty. Valid values include: {valid}"
        )));
    }
    if items.iter().collect::<BTreeSet<_>>().len() != items.len() {
        return Err(Invalid(format!(
            "Configuration '{name}' values must not be duplicated."
        )));
    }
    for item in items {
        if item.is_empty() {
            return Err(Invalid(format!(
                "Configuration '{name}' values must not be empty."
            )));
        }
        if !of.is_empty() && !of.contains(&item.as_str()) {
            let why = format!("String must be one of: {}", of.join(", "));
            return Err(Invalid::value(name, item, &why));
        }
    }
    Ok(())
}

fn check_throttled(name: &str, items: &[String]) -> Result<(), Invalid> {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let pair = |item: &String| match item.split_once(':') {
        Some((partition, broker)) => number(partition) && number(broker),
        None => item.is_empty(),
    };
    if items.iter().all(pair) || items.concat() == "*" {
        return Ok(());
    }
    let why = format!(
        "{name} must be the literal '*' or a list of replicas in the following format: \
         [partitionId]:[brokerId],[partitionId]:[brokerId],..."
    );
    Err(Invalid::value(name, &java::list_text(items), &why))
}

fn check_offset_reset(name: &str, text: &str) -> Result<(), Invalid> {
    let duration = text.strip_prefix("by_duration:");
    if text == "latest" || text == "earliest" || duration.is_some_and(is_duration) {
        return Ok(());
    }
    let why = format!(
        "Invalid value `{text}` for configuration {name}. The value must be either 'earliest', \
         'latest' or of the format 'by_duration:<PnDTnHnMn.nS>'."
    );
    Err(Invalid::value(name, text, &why))
}

/// Whether it is an ISO 8601 duration of days and less, not negative.
fn is_duration(text: &str) -> bool {
    let Some(text) = text.strip_prefix(['P', 'p']) else {
        return false;
    };
    let upper = text.to_ascii_uppercase();
    let (days, time) = match upper.split_once('T') {
        Some((_, "")) => return false,
        Some((days, time)) => (days, time),
        None => (upper.as_str(), ""),
    };
    !(days.is_empty() && time.is_empty()) && has_units(days, "D") && has_units(time, "HMS")
}

/// Whether text is a series of a number and a unit, the units in the given order, a fraction only in seconds.
fn has_units(mut text: &str, mut units: &str) -> bool {
    while !text.is_empty() {
        let length = text
            .bytes()
            .take_while(|b| b.is_ascii_digit() || *b == b'.')
            .count();
        let (number, rest) = text.split_at(length);
        let Some(unit) = rest.chars().next() else {
            return false;
        };
        let Some(at) = units.find(unit) else {
            return false;
        };
        let fraction_ok = !number.contains('.') || unit == 'S';
        if number.is_empty() || !fraction_ok || number.parse::<f64>().is_err() {
            return false;
        }
        units = &units[at + 1..];
        text = &rest[1..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{Scope, keys};

    fn message(scope: Scope, name: &str, text: &str) -> String {
        match keys(scope).get(name).unwrap().parse_strict(text) {
            Ok(value) => format!("ok {}", value.to_text()),
            Err(invalid) => invalid.0,
        }
    }

    #[test]
    fn refusals_read_as_kafkas() {
        for (scope, name, text, expected) in [
            (
                Scope::Topic,
                "segment.bytes",
                "1",
                "Invalid value 1 for configuration segment.bytes: Value must be at least 1048576",
            ),
            (
                Scope::Topic,
                "min.cleanable.dirty.ratio",
                "1.5",
                "Invalid value 1.5 for configuration min.cleanable.dirty.ratio: Value must be no more than 1",
            ),
            (
                Scope::Topic,
                "cleanup.policy",
                "delete,shred",
                "Invalid value shred for configuration cleanup.policy: String must be one of: compact, delete",
            ),
            (
                Scope::Topic,
                "cleanup.policy",
                "delete,delete",
                "Configuration 'cleanup.policy' values must not be duplicated.",
            ),
            (
                Scope::Topic,
                "cleanup.policy",
                "delete,",
                "Configuration 'cleanup.policy' values must not be empty.",
            ),
            (Scope::Topic, "cleanup.policy", "", "ok "),
            (
                Scope::Topic,
                "compression.type",
                "lzma",
                "Invalid value lzma for configuration compression.type: String must be one of: uncompressed, zstd, lz4, snappy, gzip, producer",
            ),
            (
                Scope::Topic,
                "compression.zstd.level",
                "23",
                "Invalid value 23 for configuration compression.zstd.level: Value must be no more than 22",
            ),
            (
                Scope::Broker,
                "listeners",
                "",
                "Configuration 'listeners' must not be empty. Valid values include: any non-empty value",
            ),
            (
                Scope::Broker,
                "group.consumer.migration.policy",
                "Upgrade",
                "ok Upgrade",
            ),
            (Scope::Broker, "log.dirs", "/a,/b", "ok /a,/b"),
        ] {
            assert_eq!(message(scope, name, text), expected);
        }
    }

    #[test]
    fn durations() {
        for text in ["P1D", "PT1H", "P1DT2H3M4.5S", "pt5s", "PT0S"] {
            assert!(is_duration(text), "{text}");
        }
        for text in [
            "", "P", "PT", "1D", "P1H", "PT1D", "PT1M1H", "P-1D", "PT.S", "PT1.5H",
        ] {
            assert!(!is_duration(text), "{text}");
        }
    }
}
