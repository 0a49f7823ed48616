//! The same against a running broker: topics created, configs altered and described by Kafka's admin client, and
//! what our layers make of the same.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use milena_config::alter::{self, Configs, Context, Op, Refused, ResourceType};
use milena_config::{ConfigEntry, ConfigSource, Layers, NodeConfig, Properties};

use super::super::java;
use super::{Questions, configs, pairs};

/// Starts a broker and plays the conversation.
pub(super) fn run() -> Result<(), String> {
    let dir = std::env::temp_dir().join(format!("milena-interop-configs-{}", std::process::id()));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../interop/apache-kafka");
    let extra = "log.retention.hours=48\nlog.roll.hours=24\ncompression.type=zstd\nbackground.threads=6\nmy.own=1";
    // The script's node takes the ports 1 and 51 above its base; two in a row of free ones are unlikely to be taken.
    let [port] = milena_testkit::free_ports();
    let base = port.min(65_000).saturating_sub(1).to_string();
    let started = Command::new(&script)
        .args([java::KAFKA, "start"])
        .arg(&dir)
        .args(["1", &base])
        .env("KAFKA_EXTRA", extra)
        .output()
        .map_err(|e| format!("{}: {e}", script.display()))?;
    let result = match started.status.success() {
        true => converse(&dir, String::from_utf8_lossy(&started.stdout).trim()),
        false => Err(String::from_utf8_lossy(&started.stderr).into_owned()),
    };
    let stopped = Command::new(&script).arg("stop").arg(&dir).status();
    let _ = std::fs::remove_dir_all(&dir);
    stopped.map_err(|e| e.to_string())?;
    result
}

fn converse(dir: &Path, address: &str) -> Result<(), String> {
    let bytes = std::fs::read(dir.join("node1.properties")).map_err(|e| e.to_string())?;
    let properties = Properties::parse(&bytes).map_err(|e| e.to_string())?;
    let (config, _) = NodeConfig::from_properties(&properties).map_err(|e| e.to_string())?;
    // A cluster formatted with eligible leader replicas opens with this cluster-wide config.
    let first = configs(&[("min.insync.replicas", "1")]);
    let mut cluster = Cluster {
        questions: Questions::start(&[address])?,
        layers: Layers::new(config),
        resources: BTreeMap::from([((ResourceType::Broker, String::new()), first)]),
    };
    cluster.relayer()?;
    cluster.play()?;
    cluster.questions.finish()
}

struct Cluster {
    questions: Questions,
    layers: Layers,
    resources: BTreeMap<(ResourceType, String), Configs>,
}

impl Cluster {
    fn play(&mut self) -> Result<(), String> {
        self.play_topics()?;
        self.play_brokers()?;
        self.play_others()
    }

    fn play_topics(&mut self) -> Result<(), String> {
        use Op::{Append, Delete, Set, Subtract};
        use ResourceType::{Broker, Topic};
        self.describe(Broker, "1", "")?;
        self.create("plain", &[])?;
        self.describe(Topic, "plain", "")?;
        self.create(
            "own",
            &[("retention.ms", "3600000"), ("segment.bytes", " 2097152")],
        )?;
        self.create("bad", &[("segment.bytes", "1")])?;
        self.create("worse", &[("no.such", "1")])?;
        self.describe(Topic, "own", "")?;
        self.alter(Topic, "own", &[(Append, "cleanup.policy", "compact")])?;
        self.describe(Topic, "own", "cleanup.policy|delete,compact")?;
        self.alter(
            Topic,
            "own",
            &[
                (Subtract, "cleanup.policy", "delete"),
                (Delete, "retention.ms", ""),
            ],
        )?;
        self.describe(Topic, "own", "cleanup.policy|compact|")?;
        self.alter(Topic, "own", &[(Append, "retention.ms", "1")])?;
        self.alter(Topic, "own", &[(Set, "retention.ms", "abc")])?;
        self.alter(Topic, "own", &[(Set, "min.cleanable.dirty.ratio", "2")])?;
        Ok(())
    }

    fn play_brokers(&mut self) -> Result<(), String> {
        use Op::{Append, Delete, Set};
        use ResourceType::{Broker, Topic};
        self.alter(
            Broker,
            "",
            &[
                (Set, "log.retention.ms", "7200000"),
                (Set, "message.max.bytes", "1000000"),
            ],
        )?;
        self.describe(Topic, "plain", "retention.ms|7200000")?;
        self.describe(Broker, "", "")?;
        self.alter(
            Broker,
            "1",
            &[
                (Set, "log.retention.ms", "1800000"),
                (Set, "log.cleaner.threads", "2"),
            ],
        )?;
        self.describe(Topic, "own", "retention.ms|1800000")?;
        self.describe(Broker, "1", "")?;
        self.create("later", &[])?;
        self.alter(Broker, "1", &[(Set, "num.partitions", "3")])?;
        self.alter(Broker, "", &[(Set, "listeners", "PLAINTEXT://:1")])?;
        self.alter(Broker, "1", &[(Set, "log.cleaner.threads", "x")])?;
        self.alter(Broker, "1", &[(Set, "ssl.keystore.location", "x")])?;
        self.alter(Broker, "1", &[(Set, "custom.key", "x")])?;
        self.describe(Broker, "1", "custom.key")?;
        self.alter(Broker, "1", &[(Set, "min.insync.replicas", "2")])?;
        self.alter(Broker, "", &[(Delete, "min.insync.replicas", "")])?;
        self.alter(Broker, "", &[(Set, "min.insync.replicas", "2")])?;
        self.describe(Topic, "plain", "min.insync.replicas|2")?;
        self.alter(Topic, "plain", &[(Set, "min.insync.replicas", "3")])?;
        self.alter(Broker, "", &[(Set, "log.cleanup.policy", "delete,delete")])?;
        self.alter(Broker, "", &[(Append, "log.cleanup.policy", "compact")])?;
        self.alter(Broker, "", &[(Append, "log.retention.ms", "1")])?;
        self.describe(Topic, "plain", "cleanup.policy|delete,compact")?;
        self.alter(
            Broker,
            "1",
            &[(Delete, "log.retention.ms", ""), (Delete, "custom.key", "")],
        )?;
        self.alter(Broker, "", &[(Delete, "message.max.bytes", "")])?;
        self.describe(Topic, "plain", "max.message.bytes|1048588")?;
        Ok(())
    }

    fn play_others(&mut self) -> Result<(), String> {
        use Op::{Append, Set};
        use ResourceType::{ClientMetrics, Group};
        self.alter(Group, "g", &[(Set, "consumer.session.timeout.ms", "50000")])?;
        self.alter(Group, "g", &[(Set, "share.isolation.level", "x")])?;
        self.describe(Group, "g", "consumer.session.timeout.ms|50000")?;
        self.describe(Group, "unheard", "")?;
        self.alter(
            ClientMetrics,
            "m",
            &[(Set, "interval.ms", "1000"), (Set, "match", "client_id=a")],
        )?;
        self.alter(ClientMetrics, "m", &[(Set, "interval.ms", "1")])?;
        self.alter(ClientMetrics, "m", &[(Append, "metrics", "x")])?;
        self.describe(ClientMetrics, "m", "interval.ms|1000")
    }

    fn configs(&self, kind: ResourceType, name: &str) -> Configs {
        self.resources
            .get(&(kind, name.to_owned()))
            .cloned()
            .unwrap_or_default()
    }

    fn context(&self) -> Context<'_> {
        Context {
            config: self.layers.current(),
            elr_enabled: true,
            cordoned_log_dirs_supported: true,
            forwarded: true,
        }
    }

    fn create(&mut self, name: &str, own: &[(&str, &str)]) -> Result<(), String> {
        let given: Vec<_> = own
            .iter()
            .map(|(key, value)| (key.to_string(), Some(value.to_string())))
            .collect();
        let answer = match alter::check_new_topic(&self.context(), name, &given) {
            Ok(configs) => {
                let entries = self.layers.effective_topic(&configs);
                self.resources
                    .insert((ResourceType::Topic, name.to_owned()), configs);
                lines(&entries, |entry| {
                    let value = entry.value.clone().unwrap_or_else(|| "null".into());
                    format!(
                        "{}|{value}|{}|{}",
                        entry.name,
                        source(entry.source),
                        entry.read_only
                    )
                })
            }
            Err(refused) => refused.to_string(),
        };
        self.questions
            .ask(&["create", name, &pairs(own.iter().copied())], &answer)
    }

    fn alter(
        &mut self,
        kind: ResourceType,
        name: &str,
        ops: &[(Op, &str, &str)],
    ) -> Result<(), String> {
        let current = self.configs(kind, name);
        let list: Vec<_> = ops
            .iter()
            .map(|(op, key, value)| {
                (
                    key.to_string(),
                    *op,
                    Some(value.to_string()).filter(|_| *op != Op::Delete),
                )
            })
            .collect();
        let outcome = self.outcome(kind, name, &current, &list);
        let answer = match outcome {
            Ok(configs) => {
                self.resources.insert((kind, name.to_owned()), configs);
                self.relayer()?;
                "ok".into()
            }
            Err(refused) => refused.to_string(),
        };
        let text: Vec<String> = ops
            .iter()
            .map(|(op, key, value)| format!("{}={key}={value}", format!("{op:?}").to_uppercase()))
            .collect();
        self.questions
            .ask(&["alter", kind.name(), name, &text.join("\u{1f}")], &answer)
    }

    /// What a broker and then the controller make of a change.
    fn outcome(
        &self,
        kind: ResourceType,
        name: &str,
        current: &Configs,
        ops: &[(String, Op, Option<String>)],
    ) -> Result<Configs, Refused> {
        if kind == ResourceType::Broker {
            self.layers
                .check_broker_ops(!name.is_empty(), current, ops)?;
        }
        let changes = alter::incremental(kind, current, ops)?;
        alter::check(&self.context(), kind, name, current, &changes)?;
        Ok(alter::apply(current, &changes))
    }

    fn relayer(&mut self) -> Result<(), String> {
        let default = self.configs(ResourceType::Broker, "");
        let broker = self.configs(ResourceType::Broker, "1");
        let (layers, warnings) = self.layers.with_dynamic(&default, &broker);
        self.layers = layers;
        match warnings.first() {
            None => Ok(()),
            Some(warning) => Err(warning.to_string()),
        }
    }

    /// Asks until the broker's answer has a line that opens with `until`.
    fn describe(&mut self, kind: ResourceType, name: &str, until: &str) -> Result<(), String> {
        let own = self.configs(kind, name);
        let entries = match kind {
            ResourceType::Topic => self.layers.describe_topic(&own),
            ResourceType::Group => self.layers.describe_group(&own),
            ResourceType::ClientMetrics => self.layers.describe_client_metrics(&own),
            _ if name.is_empty() => Ok(self.layers.describe_broker_defaults()),
            _ => Ok(self.layers.describe_broker()),
        };
        let entries = entries.map_err(|e| e.to_string())?;
        let answer = lines(&entries, described);
        self.questions
            .ask(&["describe", kind.name(), name, until], &answer)
    }
}

fn lines(entries: &[ConfigEntry], text: impl Fn(&ConfigEntry) -> String) -> String {
    let mut lines: Vec<String> = entries.iter().map(text).collect();
    lines.sort();
    lines.join("\n")
}

fn described(entry: &ConfigEntry) -> String {
    let null = || "null".to_owned();
    let kind = entry.kind.map_or("UNKNOWN", |kind| kind.name());
    let value = entry.value.clone().unwrap_or_else(null);
    let mut line = format!(
        "{}|{value}|{}|{}|{}|{kind}",
        entry.name,
        source(entry.source),
        entry.read_only,
        entry.sensitive
    );
    for synonym in &entry.synonyms {
        let value = synonym.value.clone().unwrap_or_else(null);
        line += &format!("|{}:{}={value}", source(synonym.source), synonym.name);
    }
    line
}

/// The Java client's names.
fn source(source: ConfigSource) -> &'static str {
    match source {
        ConfigSource::Unknown => "UNKNOWN",
        ConfigSource::DynamicTopic => "DYNAMIC_TOPIC_CONFIG",
        ConfigSource::DynamicBroker => "DYNAMIC_BROKER_CONFIG",
        ConfigSource::DynamicDefaultBroker => "DYNAMIC_DEFAULT_BROKER_CONFIG",
        ConfigSource::StaticBroker => "STATIC_BROKER_CONFIG",
        ConfigSource::Default => "DEFAULT_CONFIG",
        ConfigSource::DynamicBrokerLogger => "DYNAMIC_BROKER_LOGGER_CONFIG",
        ConfigSource::ClientMetrics => "DYNAMIC_CLIENT_METRICS_CONFIG",
        ConfigSource::Group => "DYNAMIC_GROUP_CONFIG",
    }
}
