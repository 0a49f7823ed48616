//! The rules between keys that a node checks before it starts: those of Kafka 4.4's `KafkaConfig`, told in our
//! own words with the key, its value and what would be right.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::endpoint::SecurityProtocol;
use crate::java::split_list;
use crate::node::{NodeConfig, Problem, Role, Warning};
use crate::topic;

/// Checks a configuration whose single values are fine.
pub(crate) fn check(config: &NodeConfig, warnings: &mut Vec<Warning>, problems: &mut Vec<Problem>) {
    let mut rules = Rules {
        config,
        warnings,
        problems,
    };
    rules.identity();
    rules.log();
    rules.replication();
    rules.quorum();
    match (config.is_broker(), config.is_controller()) {
        (true, false) => rules.broker_only(),
        (false, true) => rules.controller_only(),
        _ => rules.controller(),
    }
    if config.is_broker() {
        rules.broker();
        rules.cordoned();
    }
    rules.advertised();
    rules.security();
    rules.connections();
    rules.groups();
}

struct Rules<'a> {
    config: &'a NodeConfig,
    warnings: &'a mut Vec<Warning>,
    problems: &'a mut Vec<Problem>,
}

impl Rules<'_> {
    fn require(&mut self, holds: bool, key: &str, message: impl Into<String>) {
        if !holds {
            self.problems.push(self.config.problem(key, message.into()));
        }
    }

    fn warn(&mut self, message: String) {
        self.warnings.push(Warning(message));
    }

    fn identity(&mut self) {
        let same = self.config.int("node.id") == self.config.int("broker.id");
        self.require(
            same,
            "broker.id",
            "is the old name of node.id and must have the same value",
        );
    }

    fn log(&mut self) {
        let config = self.config;
        let positive = |key: &str| config.long_option(key).is_none_or(|value| value >= 1);
        self.require(positive("log.roll.ms"), "log.roll.ms", "must be at least 1");
        let jitter = config
            .long_option("log.roll.jitter.ms")
            .is_none_or(|value| value >= 0);
        self.require(jitter, "log.roll.jitter.ms", "must be at least 0");
        for key in [
            "log.retention.ms",
            "log.retention.minutes",
            "log.retention.hours",
        ] {
            if let Some(value) = config.long_option(key) {
                self.require(value != 0, key, "must be -1 (for ever) or at least 1");
                break;
            }
        }
        let threads = config.long("log.cleaner.threads").max(1);
        let buffer = config.long("log.cleaner.dedupe.buffer.size") / threads;
        self.require(
            buffer > 1024 * 1024,
            "log.cleaner.dedupe.buffer.size",
            format!("must be more than 1048576 for each of log.cleaner.threads={threads}"),
        );
        let lag = topic::TopicSettings::defaults(config);
        self.require(
            lag.min_compaction_lag_ms <= lag.max_compaction_lag_ms,
            "log.cleaner.min.compaction.lag.ms",
            format!(
                "must be at most log.cleaner.max.compaction.lag.ms={}",
                lag.max_compaction_lag_ms
            ),
        );
    }

    fn replication(&mut self) {
        let config = self.config;
        let wait = config.long("replica.fetch.wait.max.ms");
        for key in ["replica.socket.timeout.ms", "replica.lag.time.max.ms"] {
            let limit = config.long(key);
            self.require(
                wait <= limit,
                "replica.fetch.wait.max.ms",
                format!("must be at most {key}={limit}"),
            );
        }
        let session = config.long("broker.session.timeout.ms");
        let heartbeat = config.long("broker.heartbeat.interval.ms");
        if heartbeat * 2 > session {
            self.warn(format!(
                "broker.heartbeat.interval.ms={heartbeat} should be at most half of \
                 broker.session.timeout.ms={session}, or one lost heartbeat fences a broker"
            ));
        }
    }

    fn quorum(&mut self) {
        let config = self.config;
        self.require(
            !config.voters().is_empty() || !config.bootstrap_servers().is_empty(),
            "controller.quorum.bootstrap.servers",
            "with process.roles, set this to the controllers' host:port, or controller.quorum.voters \
             to their id@host:port",
        );
    }

    fn voter_list(&self) -> String {
        let voters: Vec<String> = self
            .config
            .voters()
            .iter()
            .map(ToString::to_string)
            .collect();
        voters.join(",")
    }

    fn is_voter(&self) -> bool {
        self.config
            .voters()
            .iter()
            .any(|voter| voter.id == self.config.node_id())
    }

    fn broker_only(&mut self) {
        let config = self.config;
        let message = format!(
            "a node that is a broker only must not be among controller.quorum.voters={}",
            self.voter_list()
        );
        self.require(!self.is_voter(), "node.id", message);
        let own: BTreeSet<&str> = config.listener_names();
        for name in config.controller_listener_names() {
            self.require(
                !own.contains(name.as_str()),
                "controller.listener.names",
                format!("{name} must not be among listeners when process.roles is broker only"),
            );
            self.require(
                config.security_protocols().contains_key(name),
                "controller.listener.names",
                format!("{name} needs a protocol in listener.security.protocol.map"),
            );
        }
        self.require(
            !config.quorum_auto_join_enable(),
            "controller.quorum.auto.join.enable",
            "needs the controller role in process.roles",
        );
        if config.controller_listener_names().len() > 1 {
            let names = config.controller_listener_names().join(",");
            self.warn(format!(
                "controller.listener.names={names}: a node that is a broker only uses the first"
            ));
        }
        self.ignored_by_brokers();
    }

    fn ignored_by_brokers(&mut self) {
        for key in ["num.partitions", "default.replication.factor"] {
            if self.config.is_set(key) {
                self.warn(format!(
                    "{key} is set on a broker; from Kafka 5.0 only controllers read it"
                ));
            }
        }
    }

    fn controller_only(&mut self) {
        let config = self.config;
        let own = config.listener_names();
        let only = own
            .iter()
            .all(|name| is_in(config.controller_listener_names(), name));
        self.require(
            only,
            "listeners",
            "a node that is a controller only has no listeners but those in controller.listener.names",
        );
        if config.is_set("inter.broker.listener.name") {
            self.require(
                !is_in(
                    config.controller_listener_names(),
                    config.inter_broker_listener(),
                ),
                "inter.broker.listener.name",
                "must not be one of controller.listener.names",
            );
        }
        self.controller();
    }

    fn controller(&mut self) {
        let config = self.config;
        let message = format!(
            "a controller must be among controller.quorum.voters={}",
            self.voter_list()
        );
        self.require(
            config.voters().is_empty() || self.is_voter(),
            "node.id",
            message,
        );
        let own = config.listener_names();
        for name in config.controller_listener_names() {
            let message = format!("{name} is not among listeners, and this node is a controller");
            self.require(
                own.contains(name.as_str()),
                "controller.listener.names",
                message,
            );
        }
    }

    fn broker(&mut self) {
        let config = self.config;
        let advertised = config.advertised_broker_listeners();
        let names: Vec<&str> = advertised.iter().map(|e| e.listener.as_str()).collect();
        self.require(
            !names.is_empty(),
            "advertised.listeners",
            "a broker needs a listener that is not among controller.listener.names",
        );
        self.require(
            names.is_empty() || names.contains(&config.inter_broker_listener()),
            "inter.broker.listener.name",
            format!(
                "brokers reach each other by {}, which is not advertised; there is {}",
                config.inter_broker_listener(),
                names.join(", ")
            ),
        );
        let own = config.listener_names();
        for name in &names {
            let known: Vec<&str> = own.iter().copied().collect();
            self.require(
                own.contains(name),
                "advertised.listeners",
                format!(
                    "{name} is not among listeners, which has {}",
                    known.join(", ")
                ),
            );
        }
    }

    fn cordoned(&mut self) {
        let config = self.config;
        let cordoned = config.list("cordoned.log.dirs");
        if cordoned.iter().any(|dir| dir == "*") {
            let alone = cordoned.len() == 1;
            self.require(
                alone,
                "cordoned.log.dirs",
                "* stands for all and must stand alone",
            );
            return;
        }
        for dir in cordoned {
            let known = config
                .log_dirs()
                .iter()
                .any(|known| known.as_os_str() == dir.as_str());
            self.require(
                known,
                "cordoned.log.dirs",
                format!("{dir} is not among log.dirs"),
            );
        }
    }

    fn advertised(&mut self) {
        let config = self.config;
        let brokers = config.advertised_broker_listeners();
        let controllers = config.advertised_controller_listeners();
        for endpoint in brokers.iter().chain(&controllers) {
            self.require(
                endpoint.host != "0.0.0.0",
                "advertised.listeners",
                format!("no one can connect to {endpoint}; name an address that others can reach"),
            );
        }
    }

    /// Listeners other than PLAINTEXT are not built yet; what Kafka checks between SASL keys comes with them.
    fn security(&mut self) {
        let config = self.config;
        for listener in config.listeners() {
            let endpoint = &listener.endpoint;
            self.require(
                endpoint.protocol == SecurityProtocol::Plaintext,
                "listeners",
                format!(
                    "{} uses {}, which is not built yet; only PLAINTEXT is",
                    endpoint.listener,
                    endpoint.protocol.name()
                ),
            );
        }
        let inter_broker = config
            .security_protocols()
            .get(config.inter_broker_listener());
        let named = config.is_set("inter.broker.listener.name");
        let key = [
            "security.inter.broker.protocol",
            "inter.broker.listener.name",
        ];
        self.require(
            inter_broker.is_none_or(|protocol| *protocol == SecurityProtocol::Plaintext),
            key[usize::from(named)],
            "not built yet: only PLAINTEXT is possible between brokers",
        );
        for name in config.controller_listener_names() {
            let protocol = config.security_protocols().get(name);
            self.require(
                protocol.is_none_or(|protocol| *protocol == SecurityProtocol::Plaintext),
                "listener.security.protocol.map",
                format!("{name} is not PLAINTEXT, which is all that is built yet"),
            );
        }
    }

    fn connections(&mut self) {
        let config = self.config;
        let queued = config.queued_max_request_bytes();
        let request = i64::from(config.socket_request_max_bytes());
        self.require(
            queued <= 0 || queued >= request,
            "queued.max.request.bytes",
            format!("must be 0 or less (no limit) or at least socket.request.max.bytes={request}"),
        );
        let overrides = split_list(
            config
                .text("max.connections.per.ip.overrides")
                .unwrap_or(""),
        );
        self.require(
            config.max_connections_per_ip() != 0 || !overrides.is_empty(),
            "max.connections.per.ip",
            "may be 0 only with max.connections.per.ip.overrides",
        );
        for entry in &overrides {
            self.require(
                is_override(entry),
                "max.connections.per.ip.overrides",
                format!("{entry} is not address:number"),
            );
        }
        let idle = config.connections_max_idle_ms();
        let delay = config.long("connection.failed.authentication.delay.ms");
        self.require(
            idle < 0 || delay < idle,
            "connection.failed.authentication.delay.ms",
            format!("must be less than connections.max.idle.ms={idle}"),
        );
    }

    /// Bounds, defaults and timeouts of group protocols, and the offsets topic's codec.
    fn groups(&mut self) {
        let config = self.config;
        self.require(
            (0..=4).contains(&config.offsets_topic_compression_codec()),
            "offsets.topic.compression.codec",
            "must be 0 (none), 1 (gzip), 2 (snappy), 3 (lz4) or 4 (zstd)",
        );
        let state = config.int("share.coordinator.state.topic.compression.codec");
        self.require(
            (0..=4).contains(&state),
            "share.coordinator.state.topic.compression.codec",
            "must be 0 (none), 1 (gzip), 2 (snappy), 3 (lz4) or 4 (zstd)",
        );
        for kind in ["consumer", "share", "streams"] {
            for what in [
                "heartbeat.interval.ms",
                "session.timeout.ms",
                "assignment.interval.ms",
            ] {
                let key = |bound: &str| format!("group.{kind}.{bound}{what}");
                self.bounded(&key("min."), &key(""), &key("max."));
            }
            let heartbeat = format!("group.{kind}.heartbeat.interval.ms");
            let session = format!("group.{kind}.session.timeout.ms");
            let value = config.long(&session);
            let less = config.long(&heartbeat) < value;
            self.require(
                less,
                &heartbeat,
                format!("must be less than {session}={value}"),
            );
        }
        for what in [
            "delivery.count.limit",
            "partition.max.record.locks",
            "record.lock.duration.ms",
        ] {
            let key = |bound: &str| format!("group.share.{bound}{what}");
            self.bounded(&key("min."), &key(""), &key("max."));
        }
        self.at_most("group.share.max.size", "group.share.max.share.sessions");
        self.at_most(
            "group.streams.num.standby.replicas",
            "group.streams.max.standby.replicas",
        );
        self.at_most(
            "group.streams.num.warmup.replicas",
            "group.streams.max.warmup.replicas",
        );
        self.at_most(
            "group.streams.min.task.offset.interval.ms",
            "group.streams.task.offset.interval.ms",
        );
        self.assignors();
        let protocols = config.group_coordinator_rebalance_protocols();
        self.require(
            is_in(protocols, "classic"),
            "group.coordinator.rebalance.protocols",
            "must have classic among others",
        );
    }

    fn bounded(&mut self, low: &str, value: &str, high: &str) {
        self.at_most(low, high);
        self.at_most(low, value);
        self.at_most(value, high);
    }

    fn at_most(&mut self, low: &str, high: &str) {
        let (low_value, high_value) = (self.config.long(low), self.config.long(high));
        self.require(
            low_value <= high_value,
            low,
            format!("must be at most {high}={high_value}"),
        );
    }

    /// Assignors that are Java classes cannot be loaded here.
    fn assignors(&mut self) {
        let config = self.config;
        let share = config.list("group.share.assignors").len();
        self.require(
            share == 1,
            "group.share.assignors",
            "must name one assignor",
        );
        for (key, known) in [
            ("group.consumer.assignors", &["uniform", "range"][..]),
            ("group.share.assignors", &["simple"]),
            ("group.streams.assignors", &["sticky"]),
        ] {
            for name in config.list(key) {
                let message = format!("{name} is not one of {}", known.join(", "));
                self.require(known.contains(&name.as_str()), key, message);
            }
        }
    }
}

fn is_in(names: &[String], name: &str) -> bool {
    names.iter().any(|known| known == name)
}

/// Whether it is an address or host name and a number of connections.
fn is_override(entry: &str) -> bool {
    let Some((host, count)) = entry.rsplit_once(':') else {
        return false;
    };
    let host = host.trim();
    let named = !host.is_empty()
        && host
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
    (host.parse::<IpAddr>().is_ok() || named) && count.trim().parse::<i32>().is_ok()
}

impl NodeConfig {
    fn listener_names(&self) -> BTreeSet<&str> {
        self.listeners()
            .iter()
            .map(|listener| listener.endpoint.listener.as_str())
            .collect()
    }

    /// Whether it does both.
    pub fn is_combined(&self) -> bool {
        self.roles().contains(&Role::Broker) && self.roles().contains(&Role::Controller)
    }
}
