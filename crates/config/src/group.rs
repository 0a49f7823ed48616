//! A group's settings: the keys of consumer, share and streams groups, within bounds that the broker sets.

use std::collections::BTreeMap;

use crate::alter::Refused;
use crate::java;
use crate::key::{Scope, keys};
use crate::node::NodeConfig;
use crate::value::{Invalid, Value};

/// Every group key, resolved and within the broker's bounds.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupSettings {
    values: BTreeMap<&'static str, Option<Value>>,
}

/// Group keys with bounds: the key, the broker's lower bound and its upper one.
const BOUNDS: &[(&str, Option<&str>, Option<&str>)] = &[
    (
        "consumer.heartbeat.interval.ms",
        Some("group.consumer.min.heartbeat.interval.ms"),
        Some("group.consumer.max.heartbeat.interval.ms"),
    ),
    (
        "consumer.session.timeout.ms",
        Some("group.consumer.min.session.timeout.ms"),
        Some("group.consumer.max.session.timeout.ms"),
    ),
    (
        "consumer.assignment.interval.ms",
        Some("group.consumer.min.assignment.interval.ms"),
        Some("group.consumer.max.assignment.interval.ms"),
    ),
    (
        "share.heartbeat.interval.ms",
        Some("group.share.min.heartbeat.interval.ms"),
        Some("group.share.max.heartbeat.interval.ms"),
    ),
    (
        "share.session.timeout.ms",
        Some("group.share.min.session.timeout.ms"),
        Some("group.share.max.session.timeout.ms"),
    ),
    (
        "share.record.lock.duration.ms",
        Some("group.share.min.record.lock.duration.ms"),
        Some("group.share.max.record.lock.duration.ms"),
    ),
    (
        "share.delivery.count.limit",
        Some("group.share.min.delivery.count.limit"),
        Some("group.share.max.delivery.count.limit"),
    ),
    (
        "share.partition.max.record.locks",
        Some("group.share.min.partition.max.record.locks"),
        Some("group.share.max.partition.max.record.locks"),
    ),
    (
        "share.assignment.interval.ms",
        Some("group.share.min.assignment.interval.ms"),
        Some("group.share.max.assignment.interval.ms"),
    ),
    (
        "streams.heartbeat.interval.ms",
        Some("group.streams.min.heartbeat.interval.ms"),
        Some("group.streams.max.heartbeat.interval.ms"),
    ),
    (
        "streams.session.timeout.ms",
        Some("group.streams.min.session.timeout.ms"),
        Some("group.streams.max.session.timeout.ms"),
    ),
    (
        "streams.num.standby.replicas",
        None,
        Some("group.streams.max.standby.replicas"),
    ),
    (
        "streams.assignment.interval.ms",
        Some("group.streams.min.assignment.interval.ms"),
        Some("group.streams.max.assignment.interval.ms"),
    ),
    (
        "streams.task.offset.interval.ms",
        Some("group.streams.min.task.offset.interval.ms"),
        None,
    ),
    (
        "streams.num.warmup.replicas",
        None,
        Some("group.streams.max.warmup.replicas"),
    ),
];

impl GroupSettings {
    /// Settings of a group with these configs of its own, cut to the broker's bounds.
    ///
    /// # Errors
    /// The first value that does not parse; unknown keys are ignored.
    pub fn resolve(
        config: &NodeConfig,
        own: &BTreeMap<String, String>,
    ) -> Result<GroupSettings, Invalid> {
        let mut values = broker_values(config);
        for (name, text) in own {
            if let Some(key) = keys(Scope::Group).get(name) {
                let value = key.parse(text)?;
                values.insert(key.name, Some(clamped(config, key.name, value)));
            }
        }
        Ok(GroupSettings { values })
    }

    /// A key's value, `None` where it is null or unknown.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.values.get(key)?.as_ref()
    }

    /// A numeric key's value.
    ///
    /// # Panics
    /// If it is no numeric group key.
    pub fn number(&self, key: &str) -> i64 {
        let value = self.value(key);
        value
            .and_then(Value::integer)
            .unwrap_or_else(|| panic!("{key} is no number: {value:?}"))
    }

    pub(crate) fn into_values(self) -> BTreeMap<&'static str, Option<Value>> {
        self.values
    }
}

/// What a broker's configuration makes of every group key.
fn broker_values(config: &NodeConfig) -> BTreeMap<&'static str, Option<Value>> {
    let value = |key: &crate::key::Key| match key.synonyms.first() {
        // The broker's list of assignors; a group uses the first.
        Some(synonym) if key.name == "streams.assignor.name" => config
            .list(synonym.name)
            .first()
            .map(|name| Value::String(name.clone())),
        Some(synonym) => config.value(synonym.name).cloned(),
        None => key.default.clone(),
    };
    keys(Scope::Group)
        .iter()
        .map(|key| (key.name, value(key)))
        .collect()
}

fn bounds(config: &NodeConfig, key: &str) -> Option<(Option<i64>, Option<i64>)> {
    let (_, min, max) = BOUNDS.iter().find(|(name, _, _)| *name == key)?;
    Some((
        min.map(|key| config.long(key)),
        max.map(|key| config.long(key)),
    ))
}

fn clamped(config: &NodeConfig, key: &str, value: Value) -> Value {
    match (&value, bounds(config, key)) {
        (Value::Int(number), Some((min, max))) => {
            let number = i64::from(*number);
            let within = number
                .max(min.unwrap_or(number))
                .min(max.unwrap_or(i64::MAX));
            Value::Int(i32::try_from(within).unwrap_or(i32::MAX))
        }
        _ => value,
    }
}

/// Checks a group's whole configs against names, types and the broker's bounds.
pub(crate) fn check(config: &NodeConfig, new: &BTreeMap<String, String>) -> Result<(), Refused> {
    if let Some(name) = new
        .keys()
        .find(|name| keys(Scope::Group).get(name).is_none())
    {
        return Err(Refused::config(format!(
            "Unknown group config name: {name}"
        )));
    }
    check_tags(new)?;
    let mut parsed = BTreeMap::new();
    for key in keys(Scope::Group).iter() {
        if let Some(text) = new.get(key.name) {
            parsed.insert(key.name, key.parse(text)?);
        }
    }
    for (key, _, _) in BOUNDS {
        if let Some(number) = parsed.get(key).and_then(Value::integer) {
            check_bounds(config, key, number)?;
        }
    }
    if let Some(Value::String(name)) = parsed.get("streams.assignor.name") {
        check_assignor(config, name)?;
    }
    for kind in ["consumer", "share", "streams"] {
        check_session(config, &parsed, kind)?;
    }
    match parsed.get("errors.deadletterqueue.topic.name") {
        Some(Value::String(topic)) if topic.starts_with("__") => Err(Refused::config(
            "errors.deadletterqueue.topic.name: DLQ topic name must not start with '__'",
        )),
        _ => Ok(()),
    }
}

fn check_tags(new: &BTreeMap<String, String>) -> Result<(), Refused> {
    let tags = java::split_list(
        new.get("streams.rack.aware.assignment.tags")
            .map_or("", |v| v),
    );
    let twice = tags
        .iter()
        .enumerate()
        .any(|(at, tag)| tags[..at].contains(tag));
    if twice {
        return Err(Refused::config(
            "streams.rack.aware.assignment.tags must not contain duplicate tag keys.",
        ));
    }
    Ok(())
}

fn check_bounds(config: &NodeConfig, key: &str, number: i64) -> Result<(), Refused> {
    let message = match bounds(config, key) {
        Some((Some(min), Some(max))) if number < min || number > max => {
            format!("{key} must be in the range {min} to {max} inclusive.")
        }
        Some((None, Some(max))) if number > max => {
            format!("{key} must be less than or equal to {max}")
        }
        Some((Some(min), None)) if number < min => {
            format!("{key} must be greater than or equal to {min}")
        }
        _ => return Ok(()),
    };
    Err(Refused::config(message))
}

fn check_assignor(config: &NodeConfig, name: &str) -> Result<(), Refused> {
    let known = config.list("group.streams.assignors");
    if known.iter().any(|known| known == name) {
        return Ok(());
    }
    let known = java::list_text(known);
    Err(Refused::config(format!(
        "streams.assignor.name '{name}' is not a registered task assignor. Registered assignors \
         are: {known}."
    )))
}

/// A session must outlast a heartbeat; what the group does not set is the broker's.
fn check_session(
    config: &NodeConfig,
    parsed: &BTreeMap<&str, Value>,
    kind: &str,
) -> Result<(), Refused> {
    let session_key = format!("{kind}.session.timeout.ms");
    let heartbeat_key = format!("{kind}.heartbeat.interval.ms");
    let own = |key: &str| parsed.get(key).and_then(Value::integer);
    let (session, heartbeat) = (own(&session_key), own(&heartbeat_key));
    if session.is_none() && heartbeat.is_none() {
        return Ok(());
    }
    let effective =
        |own: Option<i64>, key: &str| own.unwrap_or_else(|| config.long(&format!("group.{key}")));
    if effective(session, &session_key) <= effective(heartbeat, &heartbeat_key) {
        return Err(Refused::config(format!(
            "{session_key} must be greater than {heartbeat_key}"
        )));
    }
    Ok(())
}
