//! The tools: Kafka's scripts, and which of them are here.

use super::table;

/// Every script of Kafka 4.4.0 that a user starts, without its ending.
const KAFKA: &[&str] = &[
    "connect-distributed",
    "connect-mirror-maker",
    "connect-plugin-path",
    "connect-standalone",
    "kafka-acls",
    "kafka-broker-api-versions",
    "kafka-client-metrics",
    "kafka-cluster",
    "kafka-configs",
    "kafka-console-consumer",
    "kafka-console-producer",
    "kafka-console-share-consumer",
    "kafka-consumer-groups",
    "kafka-consumer-perf-test",
    "kafka-delegation-tokens",
    "kafka-delete-records",
    "kafka-dump-log",
    "kafka-e2e-latency",
    "kafka-features",
    "kafka-get-offsets",
    "kafka-groups",
    "kafka-jmx",
    "kafka-leader-election",
    "kafka-log-dirs",
    "kafka-metadata-quorum",
    "kafka-metadata-shell",
    "kafka-producer-perf-test",
    "kafka-reassign-partitions",
    "kafka-replica-verification",
    "kafka-server-start",
    "kafka-server-stop",
    "kafka-share-consumer-perf-test",
    "kafka-share-groups",
    "kafka-storage",
    "kafka-streams-application-reset",
    "kafka-streams-groups",
    "kafka-topics",
    "kafka-transactions",
    "kafka-verifiable-consumer",
    "kafka-verifiable-producer",
    "kafka-verifiable-share-consumer",
];

/// Tools of which a part is missing, and which.
const PARTLY: &[(&str, &str)] = &[
    (
        "kafka-configs",
        "all; broker-loggers are named after Milena's crates, and root",
    ),
    (
        "kafka-console-consumer",
        "formatters and deserializers are Kafka's own, by their names; group.protocol=classic",
    ),
    ("kafka-jmx", "says that there is no JMX, and what there is"),
    ("kafka-producer-perf-test", "all but transactions"),
    (
        "kafka-verifiable-consumer",
        "all but --group-protocol consumer",
    ),
    ("kafka-dump-log", "all but --remote-log-metadata-decoder"),
];

/// Scripts that start the server itself.
const SERVER: &[&str] = &["kafka-server-start", "kafka-server-stop"];

pub fn section() -> String {
    let rows: Vec<Vec<String>> = KAFKA
        .iter()
        .map(|tool| vec![format!("`{tool}.sh`"), status(tool)])
        .collect();
    let count = KAFKA.iter().filter(|tool| is_here(tool)).count();
    format!(
        "## Tools\n\n{count} of {}, with Kafka's flags, tables and exit statuses.\n\n{}",
        KAFKA.len(),
        table(&["Tool", "Here"], &rows)
    )
}

fn is_here(tool: &str) -> bool {
    milena_tools::NAMES.contains(&tool) || SERVER.contains(&tool)
}

fn status(tool: &str) -> String {
    let partly = PARTLY.iter().find(|(name, _)| *name == tool);
    match (is_here(tool), partly) {
        (false, _) => "no".into(),
        (true, None) => "yes".into(),
        (true, Some((_, what))) => format!("partly: {what}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_of_ours_is_one_of_kafkas() {
        let unknown = milena_tools::NAMES
            .iter()
            .find(|ours| !KAFKA.contains(ours));
        assert_eq!(unknown, None);
    }
}
