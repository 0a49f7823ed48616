//! Layers of a broker's configuration and what DescribeConfigs shows of them: each key with its value, where
//! that comes from, and every value that it hides, strongest first.
//!
//! A broker key is, in this order: the broker's own dynamic config, the cluster-wide one, what the properties
//! file says, the default; and in each of them the key's synonyms. A topic's or group's own config stands before
//! those of its broker keys.

use std::collections::BTreeMap;

use crate::client_metrics;
use crate::group::GroupSettings;
use crate::key::{Key, Scope, Type, keys};
use crate::node::NodeConfig;
use crate::topic::resolve_values;
use crate::value::{Invalid, Value};

/// Where a value comes from, with the numbers that DescribeConfigs uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i8)]
pub enum ConfigSource {
    Unknown = 0,
    DynamicTopic = 1,
    DynamicBroker = 2,
    DynamicDefaultBroker = 3,
    StaticBroker = 4,
    Default = 5,
    DynamicBrokerLogger = 6,
    ClientMetrics = 7,
    Group = 8,
}

impl ConfigSource {
    /// The number on the wire.
    pub fn id(self) -> i8 {
        self as i8
    }
}

/// One of the values that a key could have, were the stronger ones not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntrySynonym {
    pub name: String,
    /// `None` where it is sensitive.
    pub value: Option<String>,
    pub source: ConfigSource,
}

/// One key as DescribeConfigs shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    pub name: String,
    /// `None` where it is null or sensitive.
    pub value: Option<String>,
    pub source: ConfigSource,
    pub read_only: bool,
    pub sensitive: bool,
    pub synonyms: Vec<EntrySynonym>,
    /// `None` for a key that is not in the table.
    pub kind: Option<Type>,
    pub documentation: Option<&'static str>,
}

/// A broker's configuration with its dynamic parts, and what they come to.
#[derive(Clone, Debug)]
pub struct Layers {
    /// What the node started with.
    pub(crate) fixed: NodeConfig,
    /// Dynamic configs of all brokers, as the metadata has them, without those that do not parse.
    pub(crate) dynamic_default: BTreeMap<String, String>,
    /// Dynamic configs of this broker, likewise.
    pub(crate) dynamic_broker: BTreeMap<String, String>,
    pub(crate) current: NodeConfig,
}

impl Layers {
    /// A node without dynamic configs.
    pub fn new(fixed: NodeConfig) -> Layers {
        let current = fixed.clone();
        Layers {
            fixed,
            dynamic_default: BTreeMap::new(),
            dynamic_broker: BTreeMap::new(),
            current,
        }
    }

    /// What the node started with.
    pub fn fixed(&self) -> &NodeConfig {
        &self.fixed
    }

    /// The effective configuration.
    pub fn current(&self) -> &NodeConfig {
        &self.current
    }

    /// This broker's keys, those that are set though they are internal or unknown included.
    pub fn describe_broker(&self) -> Vec<ConfigEntry> {
        let table = keys(Scope::Broker);
        let originals = &self.current.originals;
        let known = table
            .iter()
            .filter(|key| key.update != crate::key::Update::DynamicOnly)
            .filter(|key| !key.internal || originals.contains_key(key.name))
            .map(|key| {
                let value = self.current.value(key.name).map(Value::to_text);
                self.broker_entry(key.name, value, true)
            });
        let others = originals
            .iter()
            .filter(|(name, _)| {
                table
                    .get(name)
                    .is_none_or(|key| key.update == crate::key::Update::DynamicOnly)
            })
            .map(|(name, value)| self.broker_entry(name, Some(value.clone()), true));
        known.chain(others).collect()
    }

    /// The dynamic configs of all brokers, with nothing else.
    pub fn describe_broker_defaults(&self) -> Vec<ConfigEntry> {
        let entry =
            |(name, value): (&String, &String)| self.broker_entry(name, Some(value.clone()), false);
        self.dynamic_default.iter().map(entry).collect()
    }

    fn broker_entry(&self, name: &str, value: Option<String>, one_broker: bool) -> ConfigEntry {
        let key = broker_key(name);
        let sensitive = key.is_none_or(Key::is_sensitive);
        let mut synonyms = self.broker_synonyms(name, sensitive);
        if !one_broker {
            synonyms.retain(|synonym| synonym.source == ConfigSource::DynamicDefaultBroker);
        }
        ConfigEntry {
            name: name.to_owned(),
            value: value.filter(|_| !sensitive),
            source: synonyms
                .first()
                .map_or(ConfigSource::Default, |first| first.source),
            read_only: !keys(Scope::Broker).get(name).is_some_and(Key::is_dynamic),
            sensitive,
            synonyms,
            kind: key.map(|key| key.kind),
            documentation: keys(Scope::Broker)
                .get(name)
                .and_then(|key| key.documentation),
        }
    }

    /// Every value that a broker key or its synonyms have, strongest first, from the first that is the key's own.
    fn broker_synonyms(&self, name: &str, sensitive: bool) -> Vec<EntrySynonym> {
        let names = synonym_names(name);
        let mut found = Vec::new();
        let layers = [
            (&self.dynamic_broker, ConfigSource::DynamicBroker),
            (&self.dynamic_default, ConfigSource::DynamicDefaultBroker),
            (&self.fixed.originals, ConfigSource::StaticBroker),
        ];
        let mut add = |name: &str, value: String, source| {
            let value = Some(value).filter(|_| !sensitive);
            found.push(EntrySynonym {
                name: name.to_owned(),
                value,
                source,
            });
        };
        for (layer, source) in layers {
            for name in &names {
                if let Some(value) = layer.get(*name) {
                    add(name, value.clone(), source);
                }
            }
        }
        for name in &names {
            let key = keys(Scope::Broker).get(name);
            let key = key.filter(|key| key.update != crate::key::Update::DynamicOnly);
            if let Some(default) = key.and_then(Key::default_text) {
                add(name, default, ConfigSource::Default);
            }
        }
        let start = found
            .iter()
            .position(|synonym| synonym.name == name)
            .unwrap_or(found.len());
        found.split_off(start)
    }

    /// A topic's keys, given its own configs.
    ///
    /// # Errors
    /// A value of its own that does not parse.
    pub fn describe_topic(
        &self,
        own: &BTreeMap<String, String>,
    ) -> Result<Vec<ConfigEntry>, Invalid> {
        let values = resolve_values(&self.current, own)?;
        Ok(self.resource_entries(Scope::Topic, ConfigSource::DynamicTopic, own, values))
    }

    /// A group's keys, given its own configs.
    ///
    /// # Errors
    /// A value of its own that does not parse.
    pub fn describe_group(
        &self,
        own: &BTreeMap<String, String>,
    ) -> Result<Vec<ConfigEntry>, Invalid> {
        let values = GroupSettings::resolve(&self.current, own)?.into_values();
        Ok(self.resource_entries(Scope::Group, ConfigSource::Group, own, values))
    }

    /// A client-metrics subscription's keys, given its configs.
    ///
    /// # Errors
    /// A value that does not parse.
    pub fn describe_client_metrics(
        &self,
        own: &BTreeMap<String, String>,
    ) -> Result<Vec<ConfigEntry>, Invalid> {
        let values = client_metrics::resolve_values(own)?;
        Ok(self.resource_entries(
            Scope::ClientMetrics,
            ConfigSource::ClientMetrics,
            own,
            values,
        ))
    }

    fn resource_entries(
        &self,
        scope: Scope,
        source: ConfigSource,
        own: &BTreeMap<String, String>,
        mut values: BTreeMap<&'static str, Option<Value>>,
    ) -> Vec<ConfigEntry> {
        keys(scope)
            .iter()
            .filter(|key| !key.internal || own.contains_key(key.name))
            .map(|key| {
                let value = values
                    .remove(key.name)
                    .flatten()
                    .map(|value| value.to_text());
                let value = value.filter(|_| !key.is_sensitive());
                let mut synonyms = Vec::new();
                if own.contains_key(key.name) {
                    let (name, value) = (key.name.to_owned(), value.clone());
                    synonyms.push(EntrySynonym {
                        name,
                        value,
                        source,
                    });
                }
                synonyms.extend(self.inherited(key));
                ConfigEntry {
                    name: key.name.to_owned(),
                    value,
                    source: synonyms
                        .first()
                        .map_or(ConfigSource::Default, |first| first.source),
                    read_only: false,
                    sensitive: key.is_sensitive(),
                    synonyms,
                    kind: Some(key.kind),
                    documentation: key.documentation,
                }
            })
            .collect()
    }

    /// What a topic's or group's key would be without its own config: the broker's key and that key's synonyms.
    fn inherited(&self, key: &Key) -> Vec<EntrySynonym> {
        match (key.synonyms.first(), key.scope) {
            (Some(first), _) => self.broker_synonyms(first.name, key.is_sensitive()),
            (None, Scope::Group) => {
                let default = key.default_text();
                let synonym = |value| EntrySynonym {
                    name: key.name.to_owned(),
                    value: Some(value),
                    source: ConfigSource::Default,
                };
                default.into_iter().map(synonym).collect()
            }
            (None, _) => Vec::new(),
        }
    }

    /// A topic's keys as CreateTopics answers them: the text of the layer that decides, unchecked, without synonyms.
    pub fn effective_topic(&self, own: &BTreeMap<String, String>) -> Vec<ConfigEntry> {
        let visible = |key: &&Key| !key.internal || own.contains_key(key.name);
        keys(Scope::Topic)
            .iter()
            .filter(visible)
            .map(|key| self.effective_entry(key, own))
            .collect()
    }

    fn effective_entry(&self, key: &Key, own: &BTreeMap<String, String>) -> ConfigEntry {
        let layers = [
            (&self.dynamic_broker, ConfigSource::DynamicBroker),
            (&self.dynamic_default, ConfigSource::DynamicDefaultBroker),
            (&self.fixed.originals, ConfigSource::StaticBroker),
        ];
        let broker = layers.into_iter().find_map(|(layer, source)| {
            let synonym = key
                .synonyms
                .iter()
                .find(|synonym| layer.contains_key(synonym.name))?;
            let text = layer.get(synonym.name)?;
            let number = text
                .trim()
                .parse::<i64>()
                .ok()
                .filter(|_| synonym.factor != 1);
            let scaled = number.map(|number| number.saturating_mul(synonym.factor).to_string());
            Some((Some(scaled.unwrap_or_else(|| text.clone())), source))
        });
        let own = own
            .get(key.name)
            .map(|text| (Some(text.clone()), ConfigSource::DynamicTopic));
        let (value, source) = own
            .or(broker)
            .unwrap_or_else(|| (key.default_text(), ConfigSource::Default));
        ConfigEntry {
            name: key.name.to_owned(),
            value: value.filter(|_| !key.is_sensitive()),
            source,
            read_only: false,
            sensitive: key.is_sensitive(),
            synonyms: Vec::new(),
            kind: Some(key.kind),
            documentation: key.documentation,
        }
    }
}

/// Names that may stand for a broker key, strongest first. A listener's own setting
/// (`listener.name.internal.max.connections`) falls back to the key without the prefix.
pub(crate) fn synonym_names(name: &str) -> Vec<&str> {
    match keys(Scope::Broker).get(name) {
        Some(key) if !key.synonyms.is_empty() => key.synonyms.iter().map(|s| s.name).collect(),
        _ => match listener_base(name) {
            Some(base) => vec![name, base],
            None => vec![name],
        },
    }
}

/// The key behind `listener.name.{name}.{key}`, and behind a SASL mechanism's prefix.
pub(crate) fn listener_base(name: &str) -> Option<&str> {
    const BY_MECHANISM: [&str; 5] = [
        "sasl.jaas.config",
        "sasl.login.callback.handler.class",
        "sasl.login.class",
        "sasl.server.callback.handler.class",
        "connections.max.reauth.ms",
    ];
    let (_, base) = name.strip_prefix("listener.name.")?.split_once('.')?;
    let by_mechanism = BY_MECHANISM.into_iter().find(|key| base.ends_with(key));
    Some(by_mechanism.map_or(base, |key| &base[base.len() - key.len()..]))
}

/// The row that types a name, through its listener prefix too.
fn broker_key(name: &str) -> Option<&'static Key> {
    let table = keys(Scope::Broker);
    table.get(name).or_else(|| table.get(listener_base(name)?))
}
