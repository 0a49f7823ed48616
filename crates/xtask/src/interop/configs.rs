//! The key table, its parsing and the rules between keys, against Kafka's classes; then descriptions and changes,
//! against a running broker. `interop/java/Configs.java` asks Kafka and compares.
//!
//! A question is a line: a verb, its arguments and our answer, separated by tabs; pairs are separated by U+001F.

mod live;

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::process::Child;

use milena_config::alter::{self, Configs, Context, ResourceType};
use milena_config::{Key, Layers, NodeConfig, Properties, Scope, Type, Update, keys};

use super::java;

const SCOPES: [(Scope, &str); 4] = [
    (Scope::Broker, "broker"),
    (Scope::Topic, "topic"),
    (Scope::Group, "group"),
    (Scope::ClientMetrics, "client-metrics"),
];

/// What a node needs to start; `Configs.java` has the same.
const NODE: [(&str, &str); 5] = [
    ("process.roles", "broker,controller"),
    ("node.id", "1"),
    ("controller.listener.names", "CONTROLLER"),
    ("controller.quorum.voters", "1@localhost:9093"),
    (
        "listeners",
        "PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093",
    ),
];

pub fn run() -> Result<(), String> {
    let mut questions = Questions::start(&[])?;
    table(&mut questions)?;
    values(&mut questions)?;
    checks(&mut questions)?;
    settings(&mut questions)?;
    starts(&mut questions)?;
    questions.finish()?;
    live::run()
}

/// The pipe to the Java program.
struct Questions {
    child: Child,
    out: BufWriter<std::process::ChildStdin>,
}

impl Questions {
    fn start(arguments: &[&str]) -> Result<Questions, String> {
        let mut child = java::start("Configs", java::KAFKA, arguments)?;
        let pipe = child.stdin.take().ok_or("no pipe to java")?;
        Ok(Questions {
            child,
            out: BufWriter::new(pipe),
        })
    }

    fn ask(&mut self, parts: &[&str], answer: &str) -> Result<(), String> {
        let mut line = parts.join("\t");
        line.push('\t');
        line += &escape(answer);
        writeln!(self.out, "{line}").map_err(|e| format!("to java: {e}"))
    }

    fn finish(mut self) -> Result<(), String> {
        self.out.flush().map_err(|e| format!("to java: {e}"))?;
        drop(self.out);
        match self.child.wait().map_err(|e| e.to_string())?.success() {
            true => Ok(()),
            false => Err("Apache Kafka answers differently: see above".into()),
        }
    }
}

fn escape(text: &str) -> String {
    text.replace('\t', "\\t").replace('\n', "\\n")
}

fn pairs<K: AsRef<str>, V: AsRef<str>>(map: impl IntoIterator<Item = (K, V)>) -> String {
    let pair = |(key, value): (K, V)| format!("{}={}", key.as_ref(), escape(value.as_ref()));
    map.into_iter().map(pair).collect::<Vec<_>>().join("\u{1f}")
}

fn configs(pairs: &[(&str, &str)]) -> Configs {
    pairs
        .iter()
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect()
}

/// Every row: type, default, importance, whether internal, how it changes, synonyms.
fn table(questions: &mut Questions) -> Result<(), String> {
    for (scope, name) in SCOPES {
        for key in keys(scope).iter() {
            questions.ask(&["key", name, key.name], &row(key))?;
        }
    }
    Ok(())
}

fn row(key: &Key) -> String {
    let default = match key.default_text() {
        Some(text) => text,
        None if key.required => "(required)".into(),
        None => "(null)".into(),
    };
    let update = match key.update {
        Update::ReadOnly => "read-only",
        Update::PerBroker => "per-broker",
        Update::ClusterWide => "cluster-wide",
        Update::DynamicOnly => "cluster-wide-only",
        Update::Resource => "resource",
    };
    let synonym = |synonym: &milena_config::Synonym| match synonym.factor {
        1 => synonym.name.to_owned(),
        factor => format!("{}*{factor}", synonym.name),
    };
    let synonyms: Vec<String> = key.synonyms.iter().map(synonym).collect();
    let importance = format!("{:?}", key.importance).to_lowercase();
    let kind = key.kind.name();
    [
        kind,
        &default,
        &importance,
        &key.internal.to_string(),
        update,
        &synonyms.join(","),
    ]
    .join("\n")
}

/// Every key with texts of every kind, and around each number that its rule names.
fn values(questions: &mut Questions) -> Result<(), String> {
    const TEXTS: [&str; 40] = [
        "",
        " ",
        "x",
        " x ",
        "-1",
        "0",
        "1",
        " 7 ",
        "+3",
        "5.5",
        "1e3",
        "NaN",
        "-Infinity",
        "1d",
        "true",
        "FALSE",
        "no",
        "2147483648",
        "-2147483649",
        "32768",
        "9223372036854775808",
        "0.1",
        "123456789.5",
        "a,b",
        " a , b ",
        "a,a",
        "a,,b",
        ",",
        "compact,delete",
        "gzip",
        "GZIP",
        "LogAppendTime",
        "*",
        "0:1,1:2",
        "0:a",
        "latest",
        "by_duration:PT1H",
        "by_duration:P1",
        "by_duration:-PT1S",
        "read_committed",
    ];
    for (scope, name) in SCOPES {
        for key in keys(scope).iter().filter(|key| key.kind != Type::Class) {
            let special = key.name.starts_with("controller.quorum.") && key.kind == Type::List;
            let mut texts: Vec<String> = TEXTS.iter().map(|text| text.to_string()).collect();
            texts.extend(near_bounds(&key.expectation()));
            for text in texts {
                if special {
                    continue;
                }
                for (verb, parsed) in [
                    ("value", key.parse(&text)),
                    ("strict", key.parse_strict(&text)),
                ] {
                    let answer = match parsed {
                        Ok(value) => format!("ok {}", value.to_text()),
                        Err(invalid) => invalid.0,
                    };
                    questions.ask(&[verb, name, key.name, &escape(&text)], &answer)?;
                }
            }
        }
    }
    Ok(())
}

/// The numbers in a text, and those beside them.
fn near_bounds(text: &str) -> Vec<String> {
    let number = |c: char| c.is_ascii_digit() || c == '-' || c == '.';
    let words = text
        .split(|c| !number(c))
        .filter_map(|word| word.parse::<i64>().ok());
    words
        .flat_map(|n| [n.saturating_sub(1), n, n.saturating_add(1)])
        .map(|n| n.to_string())
        .collect()
}

fn node(more: &[(&str, &str)]) -> Result<NodeConfig, String> {
    let all = NODE.iter().chain(more).map(|(key, value)| (*key, *value));
    let properties: Properties = all.collect();
    match NodeConfig::from_properties(&properties) {
        Ok((config, _)) => Ok(config),
        Err(error) => Err(error.to_string()),
    }
}

/// Whole resources: kind, name, configs before and after.
type Case = (
    ResourceType,
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static [(&'static str, &'static str)],
);

const CHECKS: &[Case] = {
    use ResourceType::{Broker, BrokerLogger, ClientMetrics, Group, Topic};
    &[
        (Topic, "t", &[], &[]),
        (Topic, "", &[], &[("retention.ms", "1")]),
        (Topic, ".", &[], &[]),
        (Topic, "..", &[], &[]),
        (Topic, "a b", &[], &[]),
        (Topic, "é", &[], &[]),
        (Topic, "t", &[], &[("no.such", "1")]),
        (Topic, "t", &[], &[("retention.ms", "abc")]),
        (Topic, "t", &[], &[("retention.ms", "-2")]),
        (Topic, "t", &[], &[("retention.bytes", "-2")]),
        (Topic, "t", &[], &[("cleanup.policy", "")]),
        (Topic, "t", &[], &[("cleanup.policy", "compact, delete")]),
        (
            Topic,
            "t",
            &[],
            &[
                ("min.compaction.lag.ms", "10"),
                ("max.compaction.lag.ms", "5"),
            ],
        ),
        (Topic, "t", &[], &[("remote.storage.enable", "true")]),
        (
            Topic,
            "t",
            &[("remote.storage.enable", "true")],
            &[("remote.storage.enable", "false")],
        ),
        (
            Topic,
            "t",
            &[("remote.storage.enable", "true")],
            &[("remote.log.delete.on.disable", "true")],
        ),
        (Topic, "t", &[], &[("local.retention.ms", "-1")]),
        (
            Topic,
            "t",
            &[],
            &[("leader.replication.throttled.replicas", "*")],
        ),
        (
            Topic,
            "t",
            &[],
            &[("follower.replication.throttled.replicas", "0:x")],
        ),
        (Topic, "t", &[], &[("max.decompressed.message.bytes", "0")]),
        (Topic, "t", &[], &[("internal.segment.bytes", "100")]),
        (Broker, "", &[], &[("listeners", "x")]),
        (Broker, "1", &[], &[("no.such", "x")]),
        (Broker, "-1", &[], &[]),
        (Broker, "one", &[], &[]),
        (BrokerLogger, "1", &[], &[]),
        (ClientMetrics, "", &[], &[]),
        (ClientMetrics, "m", &[], &[("interval.ms", "99")]),
        (ClientMetrics, "m", &[], &[("interval.ms", "3600001")]),
        (ClientMetrics, "m", &[], &[("interval.ms", "soon")]),
        (
            ClientMetrics,
            "m",
            &[],
            &[
                ("interval.ms", "100"),
                ("metrics", "*"),
                ("match", "client_id=a.*"),
            ],
        ),
        (ClientMetrics, "m", &[], &[("match", "client_id")]),
        (ClientMetrics, "m", &[], &[("match", "who=a")]),
        (ClientMetrics, "m", &[], &[("match", "client_id=[a")]),
        (ClientMetrics, "m", &[], &[("match", "client_id=*")]),
        (ClientMetrics, "m", &[], &[("match", "client_id=a=b")]),
        (ClientMetrics, "m", &[], &[("metrics", "a,a")]),
        (ClientMetrics, "m", &[], &[("unknown", "1")]),
        (Group, "", &[], &[]),
        (Group, "g", &[], &[("no.such", "1")]),
        (Group, "g", &[], &[("consumer.session.timeout.ms", "10")]),
        (Group, "g", &[], &[("consumer.session.timeout.ms", "0")]),
        (Group, "g", &[], &[("consumer.session.timeout.ms", "60001")]),
        (Group, "g", &[], &[("consumer.session.timeout.ms", "50000")]),
        (
            Group,
            "g",
            &[],
            &[("consumer.heartbeat.interval.ms", "4999")],
        ),
        (
            Group,
            "g",
            &[],
            &[("share.record.lock.duration.ms", "14999")],
        ),
        (Group, "g", &[], &[("share.delivery.count.limit", "11")]),
        (
            Group,
            "g",
            &[],
            &[("share.auto.offset.reset", "by_duration:PT1H")],
        ),
        (Group, "g", &[], &[("share.isolation.level", "none")]),
        (Group, "g", &[], &[("streams.num.standby.replicas", "3")]),
        (Group, "g", &[], &[("streams.num.warmup.replicas", "21")]),
        (
            Group,
            "g",
            &[],
            &[("streams.task.offset.interval.ms", "1000")],
        ),
        (Group, "g", &[], &[("streams.assignor.name", "mine")]),
        (Group, "g", &[], &[("streams.assignor.name", "sticky")]),
        (
            Group,
            "g",
            &[],
            &[("streams.rack.aware.assignment.tags", "a,a")],
        ),
        (
            Group,
            "g",
            &[],
            &[("errors.deadletterqueue.topic.name", "__dlq")],
        ),
        (
            Group,
            "g",
            &[],
            &[("errors.deadletterqueue.topic.name", "dlq")],
        ),
    ]
};

fn checks(questions: &mut Questions) -> Result<(), String> {
    let config = node(&[])?;
    let context = Context {
        config: &config,
        elr_enabled: false,
        cordoned_log_dirs_supported: true,
        forwarded: true,
    };
    let long = "t".repeat(250);
    let long_case: Case = (ResourceType::Topic, "", &[], &[]);
    let cases = CHECKS
        .iter()
        .map(|case| (case.1, case))
        .chain([(long.as_str(), &long_case)]);
    for (name, (kind, _, old, new)) in cases {
        let (old, new) = (configs(old), configs(new));
        // Kafka's validator is told the whole new configs, which are the old ones with the changes.
        let whole = alter::apply(&old, &changes(&new));
        let answer = match alter::check(&context, *kind, name, &old, &changes(&new)) {
            Ok(()) => "ok".into(),
            Err(refused) => refused.to_string(),
        };
        questions.ask(
            &["check", kind.name(), name, &pairs(&old), &pairs(&whole)],
            &answer,
        )?;
    }
    Ok(())
}

fn changes(new: &Configs) -> alter::Changes {
    new.iter()
        .map(|(key, value)| (key.clone(), Some(value.clone())))
        .collect()
}

/// What a node's properties and a topic's own configs come to.
fn settings(questions: &mut Questions) -> Result<(), String> {
    type Pairs = &'static [(&'static str, &'static str)];
    let cases: [(Pairs, Pairs); 6] = [
        (&[], &[]),
        (
            &[
                ("log.retention.hours", "2"),
                ("log.roll.hours", "3"),
                ("log.roll.jitter.hours", "1"),
            ],
            &[],
        ),
        (
            &[
                ("log.retention.minutes", "-7"),
                ("log.flush.scheduler.interval.ms", "1000"),
            ],
            &[],
        ),
        (
            &[
                ("log.retention.ms", "5"),
                ("log.retention.hours", "1"),
                ("log.flush.interval.ms", "7"),
            ],
            &[("segment.ms", "9")],
        ),
        (
            &[
                ("compression.type", "gzip"),
                ("log.cleanup.policy", "compact"),
            ],
            &[("compression.type", "zstd")],
        ),
        (
            &[("message.max.bytes", "10"), ("min.insync.replicas", "2")],
            &[("cleanup.policy", ""), ("min.cleanable.dirty.ratio", ".25")],
        ),
    ];
    for (given, own) in cases {
        let layers = Layers::new(node(given)?);
        let entries = layers
            .describe_topic(&configs(own))
            .map_err(|e| e.to_string())?;
        let mut values: BTreeMap<String, String> = entries
            .into_iter()
            .map(|entry| (entry.name, entry.value.unwrap_or_else(|| "null".into())))
            .collect();
        values.insert("internal.segment.bytes".into(), "null".into());
        let lines: Vec<String> = values
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        questions.ask(
            &[
                "settings",
                &pairs(given.iter().copied()),
                &pairs(own.iter().copied()),
            ],
            &lines.join("\n"),
        )?;
    }
    Ok(())
}

/// Which properties a node starts with. `-key` takes one away.
const STARTS: &[&[(&str, &str)]] = &[
    &[],
    &[("-node.id", "")],
    &[("-process.roles", "")],
    &[("-controller.listener.names", "")],
    &[("-controller.quorum.voters", "")],
    &[
        ("-controller.quorum.voters", ""),
        ("controller.quorum.bootstrap.servers", "localhost:9093"),
    ],
    &[("controller.quorum.bootstrap.servers", "localhost")],
    &[("controller.quorum.voters", "2@localhost:9093")],
    &[("controller.quorum.voters", "localhost:9093")],
    &[("controller.quorum.voters", "x@localhost:9093")],
    &[("broker.id", "1")],
    &[("broker.id", "2")],
    &[("-node.id", ""), ("broker.id", "1")],
    &[("node.id", "-1")],
    &[("process.roles", "broker")],
    &[
        ("process.roles", "broker"),
        ("node.id", "2"),
        ("listeners", "PLAINTEXT://:9092"),
    ],
    &[("process.roles", "broker"), ("node.id", "2")],
    &[
        ("process.roles", "broker"),
        ("node.id", "2"),
        ("listeners", "PLAINTEXT://:9092"),
        ("controller.listener.names", "C"),
        ("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT"),
    ],
    &[
        ("process.roles", "controller"),
        ("listeners", "CONTROLLER://:9093"),
    ],
    &[("process.roles", "controller")],
    &[
        ("process.roles", "controller"),
        ("listeners", "CONTROLLER://:9093"),
        ("inter.broker.listener.name", "CONTROLLER"),
    ],
    &[("listeners", "PLAINTEXT://localhost:9092")],
    &[("listeners", "CONTROLLER://localhost:9093")],
    &[(
        "listeners",
        "PLAINTEXT://localhost:9092,CONTROLLER://localhost:9092",
    )],
    &[(
        "listeners",
        "PLAINTEXT://127.0.0.1:9092,CONTROLLER://[::1]:9092",
    )],
    &[(
        "listeners",
        "PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.2:9092",
    )],
    &[(
        "listeners",
        "PLAINTEXT://localhost:0,CONTROLLER://localhost:0",
    )],
    &[(
        "listeners",
        "PLAINTEXT://localhost:9092,PLAINTEXT://localhost:9094,CONTROLLER://:9093",
    )],
    &[("listeners", "EXTERNAL://localhost:9092,CONTROLLER://:9093")],
    &[("listeners", "PLAINTEXT//localhost:9092,CONTROLLER://:9093")],
    &[("listeners", "PLAINTEXT://localhost,CONTROLLER://:9093")],
    &[("listeners", "PLAINTEXT://0.0.0.0:9092,CONTROLLER://:9093")],
    &[
        ("listeners", "PLAINTEXT://0.0.0.0:9092,CONTROLLER://:9093"),
        ("advertised.listeners", "PLAINTEXT://h:9092"),
    ],
    &[(
        "listeners",
        "plaintext://localhost:9092,controller://localhost:9093",
    )],
    &[("advertised.listeners", "PLAINTEXT://a:1,CONTROLLER://a:1")],
    &[
        ("advertised.listeners", "OTHER://a:1"),
        (
            "listener.security.protocol.map",
            "OTHER:PLAINTEXT,CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        ),
    ],
    &[("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT")],
    &[(
        "listener.security.protocol.map",
        "PLAINTEXT:NONE,CONTROLLER:PLAINTEXT",
    )],
    &[("listener.security.protocol.map", "PLAINTEXT")],
    &[("inter.broker.listener.name", "PLAINTEXT")],
    &[("inter.broker.listener.name", "NOPE")],
    &[
        ("inter.broker.listener.name", "PLAINTEXT"),
        ("security.inter.broker.protocol", "PLAINTEXT"),
    ],
    &[("inter.broker.listener.name", "CONTROLLER")],
    &[("log.roll.ms", "0")],
    &[("log.roll.ms", "1")],
    &[("log.roll.jitter.ms", "-1")],
    &[("log.retention.ms", "0")],
    &[("log.retention.ms", "-1")],
    &[("log.retention.ms", "-5")],
    &[("log.retention.minutes", "0")],
    &[("log.retention.hours", "0")],
    &[("log.retention.hours", "0"), ("log.retention.ms", "1")],
    &[("log.dirs", "")],
    &[("log.dirs", "/a,/a")],
    &[("log.dirs", "/a,/b")],
    &[("log.cleaner.dedupe.buffer.size", "1048576")],
    &[("log.cleaner.dedupe.buffer.size", "1048577")],
    &[("log.cleaner.threads", "200")],
    &[("replica.fetch.wait.max.ms", "30001")],
    &[("replica.fetch.wait.max.ms", "30000")],
    &[("replica.lag.time.max.ms", "499")],
    &[("broker.heartbeat.interval.ms", "9000")],
    &[("queued.max.request.bytes", "100")],
    &[("queued.max.request.bytes", "0")],
    &[("max.connections.per.ip", "0")],
    &[
        ("max.connections.per.ip", "0"),
        ("max.connections.per.ip.overrides", "127.0.0.1:5"),
    ],
    &[("max.connections.per.ip.overrides", "127.0.0.1:x")],
    &[("connections.max.idle.ms", "100")],
    &[("connections.max.idle.ms", "101")],
    &[("connections.max.idle.ms", "-1")],
    &[("group.consumer.heartbeat.interval.ms", "20000")],
    &[("group.consumer.heartbeat.interval.ms", "4000")],
    &[
        ("group.consumer.session.timeout.ms", "5000"),
        ("group.consumer.min.session.timeout.ms", "1"),
    ],
    &[("group.consumer.assignors", "range")],
    &[("group.consumer.assignors", "nope")],
    &[("group.share.assignors", "simple,simple")],
    &[
        ("group.share.max.size", "1000"),
        ("group.share.max.share.sessions", "999"),
    ],
    &[
        ("group.share.delivery.count.limit", "10"),
        ("group.share.max.delivery.count.limit", "9"),
    ],
    &[("group.streams.num.standby.replicas", "3")],
    &[
        ("group.min.session.timeout.ms", "9"),
        ("group.max.session.timeout.ms", "8"),
    ],
    &[("group.coordinator.rebalance.protocols", "consumer")],
    &[("group.coordinator.rebalance.protocols", "classic,other")],
    &[("offsets.topic.compression.codec", "4")],
    &[("offsets.topic.compression.codec", "5")],
    &[("share.coordinator.state.topic.compression.codec", "5")],
    &[("unknown.key", "1")],
    &[("compression.type", "none")],
    &[("metadata.log.dir", "/m"), ("log.dir", "/a")],
];

fn starts(questions: &mut Questions) -> Result<(), String> {
    for case in STARTS {
        let mut all: BTreeMap<&str, &str> = NODE.into_iter().collect();
        for (key, value) in *case {
            match key.strip_prefix('-') {
                Some(key) => drop(all.remove(key)),
                None => drop(all.insert(key, value)),
            }
        }
        let properties: Properties = all.iter().map(|(key, value)| (*key, *value)).collect();
        let starts = NodeConfig::from_properties(&properties).is_ok();
        let answer = if starts { "starts" } else { "refused" };
        questions.ask(&["start", &pairs(all)], answer)?;
    }
    Ok(())
}
