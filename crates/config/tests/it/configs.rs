//! A controller and a broker in one: configs are altered and described, a line each.

use std::collections::BTreeMap;

use milena_config::alter::{self, Configs, Context, Op, Refused, ResourceType};
use milena_config::{ConfigEntry, Layers, NodeConfig, Properties};
use milena_testkit::check;

const NODE: &str = "process.roles=broker,controller node.id=1 controller.listener.names=CONTROLLER \
    listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093 \
    controller.quorum.voters=1@localhost:9093";

struct Machine {
    layers: Layers,
    resources: BTreeMap<(ResourceType, String), Configs>,
    elr_enabled: bool,
}

/// `a=b`; without a value where there is no `=`.
fn pair(text: &str) -> (String, Option<String>) {
    match text.split_once('=') {
        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
        None => (text.to_owned(), None),
    }
}

fn kind(word: &str) -> ResourceType {
    let found = ResourceType::ALL
        .into_iter()
        .find(|kind| kind.name().eq_ignore_ascii_case(word));
    found.unwrap_or(ResourceType::Unknown)
}

fn name(word: &str) -> String {
    if word == "-" {
        String::new()
    } else {
        word.to_owned()
    }
}

impl Machine {
    fn new(more: &str) -> Machine {
        let words = NODE.split_whitespace().chain(more.split_whitespace());
        let properties: Properties = words.map(|word| word.split_once('=').unwrap()).collect();
        let config = NodeConfig::from_properties(&properties).unwrap().0;
        Machine {
            layers: Layers::new(config),
            resources: BTreeMap::new(),
            elr_enabled: false,
        }
    }

    fn answer(&mut self, line: &str) -> String {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        match verb {
            "node" => {
                *self = Machine::new(rest);
                String::new()
            }
            "elr" => {
                self.elr_enabled = true;
                String::new()
            }
            "create" => self.create(rest),
            "alter" | "replace" => match self.alter(verb, rest) {
                Ok(said) => said,
                Err(refused) => refused.to_string(),
            },
            "describe" => self.describe(rest),
            _ => panic!("{line}"),
        }
    }

    fn context(&self) -> Context<'_> {
        Context {
            config: self.layers.current(),
            elr_enabled: self.elr_enabled,
            cordoned_log_dirs_supported: true,
            forwarded: true,
        }
    }

    fn create(&mut self, rest: &str) -> String {
        let mut words = rest.split_whitespace();
        let topic = words.next().unwrap().to_owned();
        let given: Vec<_> = words.map(pair).collect();
        match alter::check_new_topic(&self.context(), &topic, &given) {
            Ok(configs) => {
                let own = self.layers.effective_topic(&configs);
                self.resources
                    .insert((ResourceType::Topic, topic), configs.clone());
                let shown = |entry: &&ConfigEntry| {
                    configs.contains_key(&entry.name)
                        || entry.source != milena_config::ConfigSource::Default
                };
                own.iter().filter(shown).map(line).collect()
            }
            Err(refused) => refused.to_string(),
        }
    }

    /// `alter KIND NAME OP KEY=VALUE …`, `replace KIND NAME KEY=VALUE …`.
    fn alter(&mut self, verb: &str, rest: &str) -> Result<String, Refused> {
        let mut words = rest.split_whitespace();
        let (kind, name) = (kind(words.next().unwrap()), name(words.next().unwrap()));
        let current = self.configs(kind, &name);
        let changes = if verb == "replace" {
            let new: Vec<_> = words.map(pair).collect();
            alter::replace(kind, &current, &new)
        } else {
            let mut ops = Vec::new();
            while let Some(op) = words.next() {
                let op = match op {
                    "set" => Op::Set,
                    "delete" => Op::Delete,
                    "append" => Op::Append,
                    "subtract" => Op::Subtract,
                    _ => panic!("{rest}"),
                };
                let (key, value) = pair(words.next().unwrap());
                ops.push((key, op, value));
            }
            if kind == ResourceType::Broker {
                self.layers
                    .check_broker_ops(!name.is_empty(), &current, &ops)?;
            }
            alter::incremental(kind, &current, &ops)?
        };
        alter::check(&self.context(), kind, &name, &current, &changes)?;
        self.resources
            .insert((kind, name), alter::apply(&current, &changes));
        let default = self.configs(ResourceType::Broker, "");
        let broker = self.configs(ResourceType::Broker, "1");
        let (layers, warnings) = self.layers.with_dynamic(&default, &broker);
        self.layers = layers;
        let mut said: Vec<String> = changes
            .iter()
            .map(|(key, value)| format!("{key} := {value:?}"))
            .collect();
        said.extend(warnings.iter().map(|warning| format!("warning: {warning}")));
        Ok(said.join("\n"))
    }

    fn configs(&self, kind: ResourceType, name: &str) -> Configs {
        self.resources
            .get(&(kind, name.to_owned()))
            .cloned()
            .unwrap_or_default()
    }

    /// `describe KIND NAME KEY…`; without keys only what is not a default.
    fn describe(&self, rest: &str) -> String {
        let mut words = rest.split_whitespace();
        let (kind, name) = (kind(words.next().unwrap()), name(words.next().unwrap()));
        let wanted: Vec<&str> = words.collect();
        let own = self.configs(kind, &name);
        let entries = match kind {
            ResourceType::Topic => self.layers.describe_topic(&own).unwrap(),
            ResourceType::Group => self.layers.describe_group(&own).unwrap(),
            ResourceType::ClientMetrics => self.layers.describe_client_metrics(&own).unwrap(),
            _ if name.is_empty() => self.layers.describe_broker_defaults(),
            _ => self.layers.describe_broker(),
        };
        let shown = |entry: &&ConfigEntry| match wanted.is_empty() {
            true => entry.source != milena_config::ConfigSource::Default,
            false => wanted.contains(&entry.name.as_str()),
        };
        entries.iter().filter(shown).map(line).collect()
    }
}

fn line(entry: &ConfigEntry) -> String {
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "null".into());
    let mut line = format!(
        "{} = {} from {:?}",
        entry.name,
        text(&entry.value),
        entry.source
    );
    if entry.sensitive {
        line += ", sensitive";
    }
    if entry.read_only {
        line += ", read-only";
    }
    for synonym in &entry.synonyms {
        line += &format!(
            "; {:?} {} = {}",
            synonym.source,
            synonym.name,
            text(&synonym.value)
        );
    }
    line + "\n"
}

#[test]
fn topics() {
    let mut machine = Machine::new("");
    check("topics.txt", |line| machine.answer(line));
}

#[test]
fn brokers() {
    let mut machine = Machine::new("");
    check("brokers.txt", |line| machine.answer(line));
}

#[test]
fn groups_and_client_metrics() {
    let mut machine = Machine::new("");
    check("groups.txt", |line| machine.answer(line));
}
