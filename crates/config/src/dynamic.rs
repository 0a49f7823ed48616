//! A broker's dynamic configs: laying them over what it started with, and whether a change may be made while it
//! runs, with Kafka's codes and words.

use std::collections::BTreeMap;

use crate::alter::{self, Changes, Configs, Op, Refused, ResourceType};
use crate::describe::{Layers, listener_base, synonym_names};
use crate::java;
use crate::key::{Key, Scope, Support, Type, Update, keys};
use crate::node::{ConfigError, NodeConfig, Warning};
use crate::properties::Properties;
use crate::value::Value;

/// Keys that Kafka changes while it runs and this node does not yet: it would have to bind and unbind listeners.
const FIXED_WHILE_RUNNING: [&str; 2] = ["listeners", "listener.security.protocol.map"];

/// Sizes of thread pools, which Kafka changes by at most a factor of two at a time.
const THREAD_POOLS: [&str; 5] = [
    "num.io.threads",
    "num.network.threads",
    "num.replica.fetchers",
    "num.recovery.threads.per.data.dir",
    "background.threads",
];

impl Layers {
    /// The same node with the dynamic configs that the metadata has now: those of all brokers, and its own. What
    /// does not parse, or contradicts the rest, is left out and warned of.
    pub fn with_dynamic(&self, default: &Configs, broker: &Configs) -> (Layers, Vec<Warning>) {
        let mut warnings = Vec::new();
        let dynamic_default = usable(default, false, &mut warnings);
        let dynamic_broker = usable(broker, true, &mut warnings);
        let mut layers = Layers {
            fixed: self.fixed.clone(),
            current: self.current.clone(),
            dynamic_default,
            dynamic_broker,
        };
        match overlay(
            &layers.fixed,
            &[&layers.dynamic_default, &layers.dynamic_broker],
        ) {
            Ok(config) => layers.current = config,
            Err(error) => {
                for problem in error.problems {
                    warnings.push(Warning(format!("dynamic config ignored: {problem}")));
                }
            }
        }
        (layers, warnings)
    }

    /// Whether this broker can take the changes of its own resource (`one_broker`) or of all brokers', given that
    /// resource's current dynamic configs. The broker that a client asks checks this before it forwards the change.
    ///
    /// # Errors
    /// `INVALID_REQUEST`, with Kafka's message where Kafka refuses it too.
    pub fn check_broker_change(
        &self,
        one_broker: bool,
        current: &Configs,
        changes: &Changes,
    ) -> Result<(), Refused> {
        let new = alter::apply(current, changes);
        let bare: BTreeMap<&str, &String> = new
            .iter()
            .map(|(name, value)| (name.as_str(), value))
            .collect();
        refuse_names(
            bare.keys().filter(|name| is_read_only(name)),
            "Cannot update these configs dynamically",
        )?;
        refuse_names(
            bare.keys().filter(|name| is_security(name)),
            "These security configs can be dynamically updated only per-listener using the listener \
             prefix",
        )?;
        check_types(&new)?;
        if !one_broker {
            refuse_names(
                bare.keys().filter(|name| is_per_broker(name)),
                "Cannot update these configs at default cluster level, broker id must be specified",
            )?;
        }
        self.check_built(changes)?;
        let layers: [&Configs; 2] = match one_broker {
            true => [&self.dynamic_default, &new],
            false => [&new, &self.dynamic_broker],
        };
        let config =
            overlay(&self.fixed, &layers).map_err(|error| Refused::request(error.to_string()))?;
        self.check_steps(&config)
    }

    /// What IncrementalAlterConfigs would make of a broker's dynamic configs, checked as
    /// [`Layers::check_broker_change`] does.
    ///
    /// # Errors
    /// As there, and `INVALID_CONFIG` for an append or subtraction on a key that is no list.
    pub fn check_broker_ops(
        &self,
        one_broker: bool,
        current: &Configs,
        ops: &[(String, Op, Option<String>)],
    ) -> Result<(), Refused> {
        for (name, op, _) in ops {
            let word = match op {
                Op::Append => "append",
                Op::Subtract => "subtract",
                Op::Set | Op::Delete => continue,
            };
            match keys(Scope::Broker).get(name) {
                None => return Err(Refused::config(format!("Unknown config name: {name}"))),
                Some(key) if key.kind == Type::List => {}
                Some(_) => {
                    return Err(Refused::config(format!(
                        "Config value {word} is not allowed for config key: {name}"
                    )));
                }
            }
        }
        let changes = alter::incremental(ResourceType::Broker, current, ops)?;
        self.check_broker_change(one_broker, current, &changes)
    }

    /// Refuses what this node could not act upon.
    fn check_built(&self, changes: &Changes) -> Result<(), Refused> {
        for (name, value) in changes {
            let Some(value) = value else { continue };
            let base = listener_base(name).unwrap_or(name);
            let Some(key) = keys(Scope::Broker).get(base) else {
                continue;
            };
            let built = key.support != Support::NotYet && !FIXED_WHILE_RUNNING.contains(&base);
            let same = self.current.value(base).map(Value::to_text) == Some(value.clone());
            if !built && !same {
                return Err(Refused::request(format!(
                    "{name} cannot be changed on this node while it runs: not built yet"
                )));
            }
        }
        Ok(())
    }

    /// Thread pools and the cleaner's threads change in steps.
    fn check_steps(&self, new: &NodeConfig) -> Result<(), Refused> {
        for key in THREAD_POOLS {
            let (old, new) = (self.current.int(key), new.int(key));
            let refuse = |why: String| {
                Err(Refused::request(format!(
                    "Dynamic thread count update validation failed for {key}={new}: {why}"
                )))
            };
            if new < old / 2 {
                return refuse(format!(
                    "value should be at least half the current value {old}"
                ));
            }
            if i64::from(new) > i64::from(old) * 2 {
                return refuse(format!(
                    "value should not be greater than double the current value {old}"
                ));
            }
        }
        let (old, new) = (
            self.current.int("log.cleaner.threads"),
            new.int("log.cleaner.threads"),
        );
        match new {
            _ if new < 1 => Err(Refused::request("Log cleaner threads should be at least 1")),
            _ if new < old / 2 => Err(Refused::request(format!(
                "Log cleaner threads cannot be reduced to less than half the current value {old}"
            ))),
            _ if i64::from(new) > i64::from(old) * 2 => Err(Refused::request(format!(
                "Log cleaner threads cannot be increased to more than double the current value {old}"
            ))),
            _ => Ok(()),
        }
    }
}

/// A configuration with dynamic layers laid over it, weakest first. A dynamic value hides every synonym of its key.
fn overlay(fixed: &NodeConfig, layers: &[&Configs]) -> Result<NodeConfig, ConfigError> {
    let mut values = fixed.originals.clone();
    for layer in layers {
        for (name, value) in *layer {
            for synonym in synonym_names(name) {
                values.remove(synonym);
            }
            values.insert(name.clone(), value.clone());
        }
    }
    let properties: Properties = values.into_iter().collect();
    NodeConfig::with_dynamic_values(&properties)
}

/// The dynamic configs that parse and may be where they are.
fn usable(configs: &Configs, one_broker: bool, warnings: &mut Vec<Warning>) -> Configs {
    let mut usable = Configs::new();
    for (name, value) in configs {
        let single = Configs::from([(name.clone(), value.clone())]);
        let why = if is_read_only(name) {
            Some("it is not a dynamic config".to_owned())
        } else if !one_broker && is_per_broker(name) {
            Some("it must be set for single brokers".to_owned())
        } else {
            check_types(&single).err().map(|refused| refused.message)
        };
        match why {
            None => drop(usable.insert(name.clone(), value.clone())),
            Some(why) => warnings.push(Warning(format!("dynamic config {name} ignored: {why}"))),
        }
    }
    usable
}

fn refuse_names<'a>(
    names: impl Iterator<Item = &'a &'a str>,
    message: &str,
) -> Result<(), Refused> {
    let names: Vec<&str> = names.copied().collect();
    if names.is_empty() {
        return Ok(());
    }
    Err(Refused::request(format!(
        "{message}: {}",
        java::list_text(&names)
    )))
}

fn check_types(configs: &Configs) -> Result<(), Refused> {
    for (name, value) in configs {
        let base = name
            .strip_prefix("listener.name.")
            .and_then(|rest| rest.split_once('.'));
        let key = keys(Scope::Broker).get(base.map_or(name, |(_, base)| base));
        if let Some(key) = key.filter(|key| key.is_dynamic()) {
            key.parse_strict(value)
                .map_err(|invalid| Refused::request(invalid.0))?;
        }
    }
    Ok(())
}

/// Whether the table has it as a key that only a properties file sets. Names that it does not have are custom.
fn is_read_only(name: &str) -> bool {
    keys(Scope::Broker)
        .get(name)
        .is_some_and(|key| !key.is_dynamic())
}

/// Whether it is a TLS store's key, which must name its listener.
fn is_security(name: &str) -> bool {
    const STORES: [&str; 10] = [
        "ssl.keystore.type",
        "ssl.keystore.location",
        "ssl.keystore.password",
        "ssl.keystore.key",
        "ssl.keystore.certificate.chain",
        "ssl.key.password",
        "ssl.truststore.type",
        "ssl.truststore.location",
        "ssl.truststore.password",
        "ssl.truststore.certificates",
    ];
    STORES.contains(&name)
}

fn is_per_broker(name: &str) -> bool {
    let own = |key: &Key| key.update == Update::PerBroker;
    const CLUSTER_LEVEL: [&str; 3] = [
        "max.connections",
        "max.connection.creation.rate",
        "num.network.threads",
    ];
    match name
        .strip_prefix("listener.name.")
        .and_then(|rest| rest.split_once('.'))
    {
        Some((_, base)) => !CLUSTER_LEVEL.contains(&base),
        None => keys(Scope::Broker).get(name).is_some_and(own),
    }
}
