//! The table itself: `keys/*.tsv`, parsed once.
//!
//! Columns: name, type, default (`(required)`, `(null)`, `(empty)` are marks), allowed values, importance,
//! `internal`, how it may change, synonyms, support, documentation. A broker key's synonyms are the keys that
//! may stand for it, strongest first and itself included; a topic's or group's are the broker keys that give
//! its default, strongest first, `*n` where the number is to be multiplied.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use crate::check::Allowed;
use crate::value::{Value, parse_type};

/// What a key configures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    Broker,
    Topic,
    Group,
    ClientMetrics,
}

/// Type of a key's value, with the numbers that DescribeConfigs uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i8)]
pub enum Type {
    Boolean = 1,
    String = 2,
    Int = 3,
    Short = 4,
    Long = 5,
    Double = 6,
    List = 7,
    Class = 8,
    Password = 9,
}

impl Type {
    /// Kafka's name, as it stands in error messages.
    pub fn name(self) -> &'static str {
        match self {
            Type::Boolean => "BOOLEAN",
            Type::String => "STRING",
            Type::Int => "INT",
            Type::Short => "SHORT",
            Type::Long => "LONG",
            Type::Double => "DOUBLE",
            Type::List => "LIST",
            Type::Class => "CLASS",
            Type::Password => "PASSWORD",
        }
    }

    fn from_name(name: &str) -> Option<Type> {
        use Type::*;
        [
            Boolean, String, Int, Short, Long, Double, List, Class, Password,
        ]
        .into_iter()
        .find(|kind| kind.name() == name)
    }
}

/// How much a key matters to whoever runs the node, as Kafka ranks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Importance {
    High,
    Medium,
    Low,
}

/// How a key may change while the node runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Update {
    /// Only the properties file sets it.
    ReadOnly,
    /// For one broker at a time.
    PerBroker,
    /// For one broker or for all.
    ClusterWide,
    /// As `ClusterWide`, and no properties file sets it.
    DynamicOnly,
    /// It belongs to a topic, group or metrics subscription and changes with that.
    Resource,
}

/// Whether this node acts upon a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Support {
    /// The node does what the key says.
    Served,
    /// Any value is accepted: it tunes a part that this node does not have, or a feature that is off.
    Inert,
    /// Refused in a properties file unless it is the default: silence would promise what is not built.
    NotYet,
}

/// A key whose value may stand for another's, times a factor (hours for milliseconds: 3,600,000).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Synonym {
    pub name: &'static str,
    pub factor: i64,
}

/// One row of the table.
#[derive(Debug)]
pub struct Key {
    pub scope: Scope,
    pub name: &'static str,
    pub kind: Type,
    /// Whether a node cannot start without it.
    pub required: bool,
    /// The default; `None` where it is null or where there is none.
    pub default: Option<Value>,
    pub allowed: Allowed,
    pub importance: Importance,
    /// Left out of DescribeConfigs unless it is set.
    pub internal: bool,
    pub update: Update,
    /// See the module's documentation.
    pub synonyms: Vec<Synonym>,
    pub support: Support,
    /// One sentence for DescribeConfigs and the manual.
    pub documentation: Option<&'static str>,
}

impl Key {
    /// Whether the value must not be shown: Kafka hides passwords only.
    pub fn is_sensitive(&self) -> bool {
        self.kind == Type::Password
    }

    /// What a value should be, for whoever wrote another one.
    pub fn expectation(&self) -> String {
        if !self.allowed.is_any() && matches!(self.kind, Type::String | Type::List) {
            return self.allowed.to_string();
        }
        let kind = match self.kind {
            Type::Boolean => "true or false",
            Type::Int | Type::Short | Type::Long => "a whole number",
            Type::Double => "a number",
            Type::List => "a comma-separated list",
            Type::String | Type::Class | Type::Password => "text",
        };
        if self.allowed.is_any() {
            kind.into()
        } else {
            format!("{kind}, {}", self.allowed)
        }
    }

    /// Whether a running node takes a new value for it.
    pub fn is_dynamic(&self) -> bool {
        self.update != Update::ReadOnly
    }

    /// The default as text, `None` where it is null.
    pub fn default_text(&self) -> Option<String> {
        self.default.as_ref().map(Value::to_text)
    }
}

/// All keys of one scope, by name.
#[derive(Debug)]
pub struct Keys {
    rows: Vec<Key>,
    by_name: BTreeMap<&'static str, usize>,
}

impl Keys {
    /// The row of this name.
    pub fn get(&self, name: &str) -> Option<&Key> {
        self.by_name.get(name).map(|&index| &self.rows[index])
    }

    /// Position of the row of this name in [`Keys::iter`].
    pub(crate) fn index(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// Every row, ordered by name.
    pub fn iter(&self) -> std::slice::Iter<'_, Key> {
        self.rows.iter()
    }

    fn parse(scope: Scope, text: &'static str) -> Keys {
        let rows: Vec<Key> = text.lines().skip(1).map(|line| row(scope, line)).collect();
        let by_name = rows
            .iter()
            .enumerate()
            .map(|(at, key)| (key.name, at))
            .collect();
        Keys { rows, by_name }
    }
}

static BROKER: LazyLock<Keys> =
    LazyLock::new(|| Keys::parse(Scope::Broker, include_str!("../keys/broker.tsv")));
static TOPIC: LazyLock<Keys> =
    LazyLock::new(|| Keys::parse(Scope::Topic, include_str!("../keys/topic.tsv")));
static GROUP: LazyLock<Keys> =
    LazyLock::new(|| Keys::parse(Scope::Group, include_str!("../keys/group.tsv")));
static CLIENT_METRICS: LazyLock<Keys> = LazyLock::new(|| {
    Keys::parse(
        Scope::ClientMetrics,
        include_str!("../keys/client-metrics.tsv"),
    )
});

/// The keys of a scope.
pub fn keys(scope: Scope) -> &'static Keys {
    match scope {
        Scope::Broker => &BROKER,
        Scope::Topic => &TOPIC,
        Scope::Group => &GROUP,
        Scope::ClientMetrics => &CLIENT_METRICS,
    }
}

/// A row of our own table: what does not parse here is a slip in `keys/`, so it panics with the line.
fn row(scope: Scope, line: &'static str) -> Key {
    let columns: Vec<&'static str> = line.split('\t').collect();
    let [
        name,
        kind,
        default,
        allowed,
        importance,
        internal,
        update,
        synonyms,
        support,
        text,
    ] = columns[..]
    else {
        panic!("config table: not ten columns: {line}");
    };
    let kind = Type::from_name(kind).unwrap_or_else(|| panic!("config table: type: {line}"));
    let default_value = match default {
        "(required)" | "(null)" => None,
        "(empty)" => Some(""),
        text => Some(text),
    }
    .map(|text| {
        parse_type(name, text, kind).unwrap_or_else(|error| panic!("config table: {error}: {line}"))
    });
    Key {
        scope,
        name,
        kind,
        required: default == "(required)",
        default: default_value,
        allowed: Allowed::parse(allowed).unwrap_or_else(|| panic!("config table: allowed: {line}")),
        importance: match importance {
            "high" => Importance::High,
            "medium" => Importance::Medium,
            "low" => Importance::Low,
            _ => panic!("config table: importance: {line}"),
        },
        internal: internal == "internal",
        update: update_of(update).unwrap_or_else(|| panic!("config table: update: {line}")),
        synonyms: synonyms
            .split(',')
            .filter(|text| !text.is_empty())
            .map(synonym)
            .collect(),
        support: match support {
            "served" => Support::Served,
            "inert" => Support::Inert,
            "not-yet" => Support::NotYet,
            _ => panic!("config table: support: {line}"),
        },
        documentation: (!text.is_empty()).then_some(text),
    }
}

fn update_of(text: &str) -> Option<Update> {
    Some(match text {
        "read-only" => Update::ReadOnly,
        "per-broker" => Update::PerBroker,
        "cluster-wide" => Update::ClusterWide,
        "cluster-wide-only" => Update::DynamicOnly,
        "per-topic" | "per-group" | "per-subscription" => Update::Resource,
        _ => return None,
    })
}

fn synonym(text: &'static str) -> Synonym {
    match text.split_once('*') {
        None => Synonym {
            name: text,
            factor: 1,
        },
        Some((name, factor)) => Synonym {
            name,
            factor: factor
                .parse()
                .unwrap_or_else(|_| panic!("config table: factor: {text}")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_parses_and_its_default_is_allowed() {
        for (scope, count) in [
            (Scope::Broker, 382),
            (Scope::Topic, 38),
            (Scope::Group, 27),
            (Scope::ClientMetrics, 3),
        ] {
            assert_eq!(keys(scope).iter().count(), count, "{scope:?}");
            for key in keys(scope).iter() {
                if let Some(value) = &key.default {
                    key.allowed.check(key.name, value).unwrap();
                }
            }
        }
    }

    #[test]
    fn rows_are_ordered_and_found() {
        for scope in [
            Scope::Broker,
            Scope::Topic,
            Scope::Group,
            Scope::ClientMetrics,
        ] {
            let names: Vec<_> = keys(scope).iter().map(|key| key.name).collect();
            assert!(names.is_sorted(), "{scope:?}");
            for name in names {
                assert_eq!(keys(scope).get(name).unwrap().name, name);
            }
        }
        assert!(keys(Scope::Topic).get("no.such").is_none());
    }

    #[test]
    fn synonyms_are_broker_keys() {
        for scope in [Scope::Broker, Scope::Topic, Scope::Group] {
            for key in keys(scope).iter() {
                for synonym in &key.synonyms {
                    assert!(
                        keys(Scope::Broker).get(synonym.name).is_some(),
                        "{}",
                        synonym.name
                    );
                }
            }
        }
        let retention = keys(Scope::Topic).get("retention.ms").unwrap();
        assert_eq!(retention.synonyms[2].factor, 3_600_000);
    }
}
