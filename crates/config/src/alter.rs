//! Changes to the configs that the metadata keeps: what an alteration makes of a resource's configs, and whether
//! it may, with Kafka's codes and words. The controller calls this for every resource; for its own broker
//! resource a broker asks [`Layers::check_broker_change`](crate::Layers::check_broker_change) first.

use std::collections::BTreeMap;
use std::fmt;

use milena_base::ErrorCode;

use crate::client_metrics;
use crate::group;
use crate::java;
use crate::key::{Scope, Type, keys};
use crate::node::NodeConfig;
use crate::topic::{self, TopicSettings, resolve_values};
use crate::value::Invalid;

/// Longest value that a config may be set to, in UTF-16 units, as Java counts.
pub const VALUE_LENGTH_MAX: usize = 32_767;

/// What a resource of configs is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i8)]
pub enum ResourceType {
    Unknown = 0,
    Topic = 2,
    Broker = 4,
    BrokerLogger = 8,
    ClientMetrics = 16,
    Group = 32,
}

impl ResourceType {
    /// Every type that requests may name.
    pub const ALL: [ResourceType; 5] = [
        ResourceType::Topic,
        ResourceType::Broker,
        ResourceType::BrokerLogger,
        ResourceType::ClientMetrics,
        ResourceType::Group,
    ];

    /// The type of this number; `Unknown` where Kafka knows none.
    pub fn from_id(id: i8) -> ResourceType {
        let known = ResourceType::ALL.into_iter().find(|kind| kind.id() == id);
        known.unwrap_or(ResourceType::Unknown)
    }

    /// The number on the wire and in metadata records.
    pub fn id(self) -> i8 {
        self as i8
    }

    /// Kafka's name.
    pub fn name(self) -> &'static str {
        match self {
            ResourceType::Unknown => "UNKNOWN",
            ResourceType::Topic => "TOPIC",
            ResourceType::Broker => "BROKER",
            ResourceType::BrokerLogger => "BROKER_LOGGER",
            ResourceType::ClientMetrics => "CLIENT_METRICS",
            ResourceType::Group => "GROUP",
        }
    }

    /// The table that describes its keys.
    pub fn scope(self) -> Option<Scope> {
        match self {
            ResourceType::Topic => Some(Scope::Topic),
            ResourceType::Broker => Some(Scope::Broker),
            ResourceType::ClientMetrics => Some(Scope::ClientMetrics),
            ResourceType::Group => Some(Scope::Group),
            ResourceType::Unknown | ResourceType::BrokerLogger => None,
        }
    }
}

/// What IncrementalAlterConfigs does with one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i8)]
pub enum Op {
    Set = 0,
    Delete = 1,
    Append = 2,
    Subtract = 3,
}

impl Op {
    /// The operation of this number.
    pub fn from_id(id: i8) -> Option<Op> {
        [Op::Set, Op::Delete, Op::Append, Op::Subtract]
            .into_iter()
            .find(|op| *op as i8 == id)
    }

    /// Kafka's name.
    pub fn name(self) -> &'static str {
        match self {
            Op::Set => "SET",
            Op::Delete => "DELETE",
            Op::Append => "APPEND",
            Op::Subtract => "SUBTRACT",
        }
    }
}

/// Why an alteration is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub code: ErrorCode,
    pub message: String,
}

impl Refused {
    pub(crate) fn config(message: impl Into<String>) -> Refused {
        Refused {
            code: ErrorCode::InvalidConfig,
            message: message.into(),
        }
    }

    pub(crate) fn request(message: impl Into<String>) -> Refused {
        Refused {
            code: ErrorCode::InvalidRequest,
            message: message.into(),
        }
    }
}

impl From<Invalid> for Refused {
    fn from(invalid: Invalid) -> Refused {
        Refused::config(invalid.0)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Refused {}

/// A resource's configs.
pub type Configs = BTreeMap<String, String>;

/// New values by key; `None` deletes.
pub type Changes = Vec<(String, Option<String>)>;

/// What IncrementalAlterConfigs makes of a resource's current configs: one change a key, in the order of the
/// request. Unchanged values are left out, but for brokers, who reload files when told a value again.
///
/// # Errors
/// `INVALID_CONFIG` for an append or subtraction on a key that is no list.
pub fn incremental(
    kind: ResourceType,
    current: &Configs,
    ops: &[(String, Op, Option<String>)],
) -> Result<Changes, Refused> {
    let mut changes = Vec::with_capacity(ops.len());
    for (key, op, argument) in ops {
        let old = current.get(key);
        let new = match op {
            Op::Set => argument.clone(),
            Op::Delete => None,
            Op::Append | Op::Subtract => Some(list_change(
                kind,
                key,
                old,
                *op,
                argument.as_deref().unwrap_or_default(),
            )?),
        };
        if old != new.as_ref() || kind == ResourceType::Broker {
            changes.push((key.clone(), new));
        }
    }
    Ok(changes)
}

/// Appends to or subtracts from a list: from its current value, else its default. The argument is split at commas
/// and not trimmed.
fn list_change(
    kind: ResourceType,
    key: &str,
    old: Option<&String>,
    op: Op,
    argument: &str,
) -> Result<String, Refused> {
    let splittable = matches!(kind, ResourceType::Topic | ResourceType::Broker);
    let row = kind
        .scope()
        .filter(|_| splittable)
        .and_then(|scope| keys(scope).get(key));
    let Some(row) = row.filter(|row| row.kind == Type::List) else {
        let op = op.name();
        return Err(Refused::config(format!(
            "Can't {op} to key {key} because its type is not LIST."
        )));
    };
    let start = old
        .cloned()
        .or_else(|| row.default_text())
        .unwrap_or_default();
    let mut items: Vec<&str> = start.split(',').filter(|item| !item.is_empty()).collect();
    for item in java::split_plain(argument) {
        let found = items.iter().position(|known| *known == item);
        match (op, found) {
            (Op::Append, None) => items.push(item),
            (Op::Subtract, Some(at)) => drop(items.remove(at)),
            _ => {}
        }
    }
    Ok(items.join(","))
}

/// What AlterConfigs makes of a resource's current configs: what it names is set, the rest is deleted.
pub fn replace(kind: ResourceType, current: &Configs, new: &[(String, Option<String>)]) -> Changes {
    let mut changes: Changes = new
        .iter()
        .filter(|(key, value)| current.get(key) != value.as_ref() || kind == ResourceType::Broker)
        .cloned()
        .collect();
    let dropped = current
        .keys()
        .filter(|key| new.iter().all(|(named, _)| named != *key));
    changes.extend(dropped.map(|key| (key.clone(), None)));
    changes
}

/// A resource's configs after changes.
pub fn apply(current: &Configs, changes: &[(String, Option<String>)]) -> Configs {
    let mut configs = current.clone();
    for (key, value) in changes {
        match value {
            Some(value) => drop(configs.insert(key.clone(), value.clone())),
            None => drop(configs.remove(key)),
        }
    }
    configs
}

/// What the controller knows beside a resource's configs.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The controller's effective configuration: it gives topics' defaults and groups' bounds.
    pub config: &'a NodeConfig,
    /// Whether `eligible.leader.replicas.version` is at least 1.
    pub elr_enabled: bool,
    /// Whether `metadata.version` is at least 4.3-IV0.
    pub cordoned_log_dirs_supported: bool,
    /// Whether a broker forwarded the request (and so checked it).
    pub forwarded: bool,
}

/// Whether the controller may write these changes of one resource. That the resource exists is checked after this, by
/// who knows.
///
/// # Errors
/// `INVALID_CONFIG`, `INVALID_REQUEST` or `INVALID_TOPIC_EXCEPTION`, with Kafka's message.
pub fn check(
    context: &Context<'_>,
    kind: ResourceType,
    name: &str,
    current: &Configs,
    changes: &[(String, Option<String>)],
) -> Result<(), Refused> {
    for (key, value) in changes {
        if kind == ResourceType::Broker {
            check_broker_record(context, name, current, key, value.as_deref())?;
        }
        let length = value
            .as_ref()
            .map_or(0, |value| value.encode_utf16().count());
        if length > VALUE_LENGTH_MAX {
            return Err(Refused::config(
                "The configuration value cannot be added because it exceeds the maximum value size \
                 of 32767 bytes.",
            ));
        }
    }
    let new = apply(current, changes);
    match kind {
        ResourceType::Topic => {
            check_topic_name(name)?;
            check_topic(context.config, current, &new)
        }
        ResourceType::Broker => check_broker_name(name),
        ResourceType::ClientMetrics => client_metrics::check(name, &new),
        ResourceType::Group => {
            check_group_name(name)?;
            group::check(context.config, &new)
        }
        ResourceType::Unknown | ResourceType::BrokerLogger => Err(Refused::request(format!(
            "Unknown resource type {}",
            kind.name()
        ))),
    }
}

/// The configs of a topic about to be created.
///
/// # Errors
/// As [`check`], and `INVALID_CONFIG` for a null value.
pub fn check_new_topic(
    context: &Context<'_>,
    name: &str,
    configs: &[(String, Option<String>)],
) -> Result<Configs, Refused> {
    let nulls: Vec<&str> = configs
        .iter()
        .filter(|(_, v)| v.is_none())
        .map(|(key, _)| key.as_str())
        .collect();
    if !nulls.is_empty() {
        let nulls = nulls.join(",");
        return Err(Refused::config(format!(
            "Null value not supported for topic configs: {nulls}"
        )));
    }
    check(context, ResourceType::Topic, name, &Configs::new(), configs)?;
    Ok(apply(&Configs::new(), configs))
}

fn check_broker_record(
    context: &Context<'_>,
    name: &str,
    current: &Configs,
    key: &str,
    value: Option<&str>,
) -> Result<(), Refused> {
    let refuse = |message: &str| Err(Refused::config(message));
    match key {
        "min.insync.replicas" if context.elr_enabled && !name.is_empty() => {
            refuse("Broker-level min.insync.replicas cannot be altered while ELR is enabled.")
        }
        "min.insync.replicas" if context.elr_enabled && value.is_none() => {
            refuse("Cluster-level min.insync.replicas cannot be removed while ELR is enabled.")
        }
        "cordoned.log.dirs" if !context.cordoned_log_dirs_supported => refuse(
            "The cordoned.log.dirs configuration value cannot be set because it requires \
             metadata.version >= 4.3-IV0",
        ),
        "cordoned.log.dirs" if !context.forwarded => {
            let old = java::split_list(current.get(key).map_or("", String::as_str));
            let new = java::split_list(value.unwrap_or_default());
            if new.iter().all(|dir| old.contains(dir)) {
                return Ok(());
            }
            refuse(
                "When updating cordoned.log.dirs via controllers,  the new value must be a subset \
                 of the current configuration value.",
            )
        }
        _ => Ok(()),
    }
}

/// Whether a topic may have this name.
///
/// # Errors
/// `INVALID_TOPIC_EXCEPTION`, or `INVALID_REQUEST` for the empty name, which would stand for all topics.
pub fn check_topic_name(name: &str) -> Result<(), Refused> {
    const LENGTH_MAX: usize = 249;
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let why = match name {
        "" => return Err(Refused::request("Default topic resources are not allowed.")),
        "." | ".." => format!("'{name}' is not allowed"),
        _ if name.encode_utf16().count() > LENGTH_MAX => {
            format!("the length of '{name}' is longer than the max allowed length {LENGTH_MAX}")
        }
        _ if !name.bytes().all(legal) => format!(
            "'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and \
             '-'"
        ),
        _ => return Ok(()),
    };
    let message = format!("Topic name is invalid: {why}");
    Err(Refused {
        code: ErrorCode::InvalidTopicException,
        message,
    })
}

fn check_broker_name(name: &str) -> Result<(), Refused> {
    match name.parse::<i32>() {
        _ if name.is_empty() => Ok(()),
        Ok(id) if id < 0 => Err(Refused::request("Invalid negative broker ID.")),
        Ok(_) => Ok(()),
        Err(_) => Err(Refused::request(
            "Unable to parse broker name as a base 10 number.",
        )),
    }
}

fn check_group_name(name: &str) -> Result<(), Refused> {
    if name.is_empty() {
        return Err(Refused::request("Default group resources are not allowed."));
    }
    Ok(())
}

/// Checks a topic's whole configs against names, types and the rules between keys.
fn check_topic(config: &NodeConfig, old: &Configs, new: &Configs) -> Result<(), Refused> {
    if let Some(name) = new
        .keys()
        .find(|name| keys(Scope::Topic).get(name).is_none())
    {
        return Err(Refused::config(format!(
            "Unknown topic config name: {name}"
        )));
    }
    let settings = TopicSettings::from_values(&resolve_values(config, new)?);
    topic::check_rules(config, old, &settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configs(pairs: &[(&str, &str)]) -> Configs {
        pairs
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect()
    }

    fn ops(list: &[(&str, Op, Option<&str>)]) -> Vec<(String, Op, Option<String>)> {
        list.iter()
            .map(|(key, op, v)| (key.to_string(), *op, v.map(str::to_owned)))
            .collect()
    }

    #[test]
    fn unchanged_values_are_left_out_but_for_brokers() {
        let current = configs(&[("retention.ms", "5")]);
        let same = ops(&[
            ("retention.ms", Op::Set, Some("5")),
            ("flush.ms", Op::Delete, None),
        ]);
        assert_eq!(
            incremental(ResourceType::Topic, &current, &same),
            Ok(vec![])
        );
        assert_eq!(
            incremental(ResourceType::Broker, &current, &same)
                .unwrap()
                .len(),
            2
        );
    }

    #[test]
    fn lists_grow_and_shrink_from_their_default() {
        let change = |current: &[(&str, &str)], op, argument| {
            let ops = ops(&[("cleanup.policy", op, Some(argument))]);
            let changes = incremental(ResourceType::Topic, &configs(current), &ops).unwrap();
            changes.into_iter().next().map(|(_, value)| value.unwrap())
        };
        assert_eq!(
            change(&[], Op::Append, "compact").unwrap(),
            "delete,compact"
        );
        assert_eq!(change(&[], Op::Subtract, "delete").unwrap(), "");
        let both = &[("cleanup.policy", "compact,delete")];
        assert_eq!(change(both, Op::Append, "delete"), None);
        assert_eq!(change(both, Op::Subtract, "delete,compact").unwrap(), "");
        assert_eq!(
            change(both, Op::Append, " compact").unwrap(),
            "compact,delete, compact"
        );
    }

    #[test]
    fn only_lists_take_appends() {
        let refused = |kind, key| {
            let ops = ops(&[(key, Op::Append, Some("a"))]);
            incremental(kind, &Configs::new(), &ops)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            refused(ResourceType::Topic, "retention.ms"),
            "INVALID_CONFIG: Can't APPEND to key retention.ms because its type is not LIST."
        );
        refused(ResourceType::ClientMetrics, "metrics");
        refused(ResourceType::Topic, "no.such");
    }

    #[test]
    fn the_old_api_drops_what_it_does_not_name() {
        let current = configs(&[("a", "1"), ("b", "2")]);
        let new = [("b".to_owned(), Some("3".to_owned()))];
        assert_eq!(
            replace(ResourceType::Topic, &current, &new),
            vec![("b".into(), Some("3".into())), ("a".into(), None)]
        );
    }
}
