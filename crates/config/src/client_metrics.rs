//! A client-metrics subscription: which metrics clients push, how often, and which clients.

use std::collections::BTreeMap;

use crate::alter::Refused;
use crate::key::{Scope, keys};
use crate::value::{Invalid, Value};

/// What a client is matched by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientMatch {
    /// One of `client_instance_id`, `client_id`, `client_software_name`, `client_software_version`,
    /// `client_source_address`, `client_source_port`.
    pub selector: String,
    /// A regular expression for the whole of what is selected.
    pub pattern: String,
}

/// Every key of a subscription, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientMetricsSettings {
    /// 100 to 3,600,000.
    pub interval_ms: i32,
    /// Prefixes of metric names; `*` is all of them, none at all pushes nothing.
    pub metrics: Vec<String>,
    /// All must match; none at all matches every client.
    pub matches: Vec<ClientMatch>,
}

const SELECTORS: [&str; 6] = [
    "client_instance_id",
    "client_id",
    "client_software_name",
    "client_software_version",
    "client_source_address",
    "client_source_port",
];

impl ClientMetricsSettings {
    /// Settings of a subscription with these configs.
    ///
    /// # Errors
    /// The first value that does not parse.
    pub fn resolve(own: &BTreeMap<String, String>) -> Result<ClientMetricsSettings, Invalid> {
        let values = resolve_values(own)?;
        let list = |key: &str| match values.get(key) {
            Some(Some(Value::List(items))) => items.clone(),
            _ => Vec::new(),
        };
        let matches: Result<Vec<ClientMatch>, Invalid> = list("match")
            .iter()
            .map(|entry| parse_match(entry))
            .collect();
        let interval = values
            .get("interval.ms")
            .and_then(Option::as_ref)
            .and_then(Value::integer);
        Ok(ClientMetricsSettings {
            interval_ms: interval
                .and_then(|ms| i32::try_from(ms).ok())
                .unwrap_or(300_000),
            metrics: list("metrics"),
            matches: matches?,
        })
    }
}

/// The table's defaults with a subscription's own values over them.
pub(crate) fn resolve_values(
    own: &BTreeMap<String, String>,
) -> Result<BTreeMap<&'static str, Option<Value>>, Invalid> {
    let mut values = BTreeMap::new();
    for key in keys(Scope::ClientMetrics).iter() {
        let value = match own.get(key.name) {
            Some(text) => Some(key.parse(text)?),
            None => key.default.clone(),
        };
        values.insert(key.name, value);
    }
    Ok(values)
}

/// Checks a subscription's whole configs.
pub(crate) fn check(name: &str, new: &BTreeMap<String, String>) -> Result<(), Refused> {
    if name.is_empty() {
        return Err(Refused::request("Subscription name can't be empty"));
    }
    if let Some(key) = new
        .keys()
        .find(|key| keys(Scope::ClientMetrics).get(key).is_none())
    {
        return Err(Refused::request(format!(
            "Unknown client metrics configuration: {key}"
        )));
    }
    let values = resolve_values(new)?;
    if let Some(Some(Value::Int(interval))) = values.get("interval.ms")
        && !(100..=3_600_000).contains(interval)
    {
        return Err(Refused::request(format!(
            "Invalid value {interval} for interval.ms, interval must be between 100 and 3600000 (1 \
             hour)"
        )));
    }
    if let Some(Some(Value::List(entries))) = values.get("match") {
        for entry in entries {
            parse_match(entry)?;
        }
    }
    Ok(())
}

fn parse_match(entry: &str) -> Result<ClientMatch, Invalid> {
    let illegal = || Invalid(format!("Illegal client matching pattern: {entry}"));
    let parts: Vec<&str> = entry.trim_end_matches('=').split('=').collect();
    let [selector, pattern] = parts[..] else {
        return Err(illegal());
    };
    let (selector, pattern) = (selector.trim(), pattern.trim());
    if !SELECTORS.contains(&selector) || !is_pattern(pattern) {
        return Err(illegal());
    }
    Ok(ClientMatch {
        selector: selector.to_owned(),
        pattern: pattern.to_owned(),
    })
}

/// Whether text can be a regular expression: brackets pair up, nothing dangles. What a client's value is matched with is
/// the evaluator's business.
fn is_pattern(text: &str) -> bool {
    let (mut depth, mut class, mut repeatable) = (0_u32, false, false);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' if chars.next().is_none() => return false,
            ']' if class => class = false,
            _ if class => {}
            '[' => class = true,
            '(' => depth += 1,
            ')' if depth == 0 => return false,
            ')' => depth -= 1,
            '*' | '+' | '?' if !repeatable => return false,
            _ => {}
        }
        repeatable = class || !matches!(c, '(' | '|');
    }
    depth == 0 && !class
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for text in ["abc", "a.*b", "(a|b)+", "[*+]", "\\*", "^x$", ""] {
            assert!(is_pattern(text), "{text}");
        }
        for text in ["(", ")", "[a", "*a", "(+a)", "a|*", "a\\"] {
            assert!(!is_pattern(text), "{text}");
        }
    }
}
