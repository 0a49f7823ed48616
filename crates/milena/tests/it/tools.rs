//! Tools of the binary against a node.

use std::process::Command;

use crate::node::{Home, Node};

/// Runs a tool on the node; its status, and what it printed.
pub fn tool(node: &Node, name: &str, args: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_milena"))
        .arg(name)
        .args(["--bootstrap-server", &node.address])
        .args(args)
        .output()
        .expect("the tool runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    let status = output.status.code().expect("a status");
    (status, text(output.stdout), text(output.stderr))
}

fn configs(node: &Node, line: &str) -> (i32, String, String) {
    let args: Vec<&str> = line.split(' ').collect();
    tool(node, "kafka-configs", &args)
}

/// Command lines, and what they end with and print.
const CONFIGS: &[(&str, i32, &str)] = &[
    (
        "--alter --topic t --add-config retention.ms=7200000,cleanup.policy=[compact,delete]",
        0,
        "Completed updating config for topic t.\n",
    ),
    (
        "--describe --topic t",
        0,
        "Dynamic configs for topic t are:\n  cleanup.policy=compact,delete sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:cleanup.policy=compact,delete, DEFAULT_CONFIG:log.cleanup.policy=delete}\n  retention.ms=7200000 sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:retention.ms=7200000, STATIC_BROKER_CONFIG:log.retention.ms=-1, DEFAULT_CONFIG:log.retention.hours=168}\n",
    ),
    (
        "--describe --topic nope",
        0,
        "The topic 'nope' doesn't exist and doesn't have dynamic config.\n",
    ),
    ("--alter --topic t --add-config retention.ms=abc", 1, ""),
    (
        "--alter --user alice --add-config SCRAM-SHA-256=[iterations=4096,password=secret]",
        0,
        "Completed updating config for user alice.\n",
    ),
    (
        "--describe --user alice",
        0,
        "SCRAM credential configs for user-principal 'alice' are SCRAM-SHA-256=iterations=4096\n",
    ),
    (
        "--alter --client c1 --add-config producer_byte_rate=1024",
        0,
        "Completed updating config for client c1.\n",
    ),
    (
        "--alter --client-defaults --add-config controller_mutation_rate=10",
        0,
        "Completed updating default config for clients in the cluster.\n",
    ),
    (
        "--describe --entity-type clients",
        0,
        "Quota configs for the default client-id are controller_mutation_rate=10.0\nQuota configs for client-id 'c1' are producer_byte_rate=1024.0\n",
    ),
    (
        "--alter --client c1 --delete-config request_percentage",
        1,
        "",
    ),
    (
        "--alter --client-metrics m --add-config interval.ms=10000",
        0,
        "Completed updating config for client-metric m.\n",
    ),
];

#[test]
fn configs_are_altered_and_described() {
    let home = Home::new();
    let node = home.start();
    tool(&node, "kafka-topics", &["--create", "--topic", "t"]);
    for (line, status, stdout) in CONFIGS {
        let (ended, printed, said) = configs(&node, line);
        assert_eq!(
            (ended, printed.as_str()),
            (*status, *stdout),
            "{line}: {said}"
        );
        assert_eq!(
            said.is_empty(),
            *status == 0 && !line.contains("--add-config SCRAM") && !line.contains("_rate"),
            "{line}: {said}"
        );
        assert!(!said.contains("secret"), "{said}");
    }
    let (status, listed, _) = tool(&node, "kafka-client-metrics", &["--list"]);
    assert_eq!((status, listed.as_str()), (0, "m\n"));
    println!("tools: {} lines of kafka-configs", CONFIGS.len());
}

#[test]
fn performance_is_measured() {
    let home = Home::new();
    let node = home.start();
    tool(
        &node,
        "kafka-topics",
        &["--create", "--topic", "perf", "--partitions", "2"],
    );
    let sending = [
        "--topic",
        "perf",
        "--num-records",
        "3000",
        "--record-size",
        "100",
        "--throughput",
        "-1",
    ];
    for more in [
        vec![],
        vec!["--command-property", "acks=1", "compression.type=lz4"],
    ] {
        let args: Vec<&str> = sending.iter().copied().chain(more).collect();
        let (status, printed, said) = tool(&node, "kafka-producer-perf-test", &args);
        assert_eq!(status, 0, "{said}");
        let last = printed.lines().last().expect("a summary");
        assert!(
            last.starts_with("3000 records sent, ") && last.ends_with("ms 99.9th."),
            "{last}"
        );
    }
    let (status, printed, said) = tool(
        &node,
        "kafka-verifiable-producer",
        &["--topic", "perf", "--max-messages", "5"],
    );
    assert_eq!(status, 0, "{said}");
    assert_eq!(
        printed.matches("producer_send_success").count(),
        5,
        "{printed}"
    );
    assert!(printed.contains("\"sent\":5,\"acked\":5"), "{printed}");
    let reading = [
        "--topic",
        "perf",
        "--num-records",
        "6005",
        "--timeout",
        "20000",
        "--hide-header",
    ];
    let (status, printed, said) = tool(&node, "kafka-consumer-perf-test", &reading);
    assert_eq!(status, 0, "{said}");
    assert_eq!(printed.split(", ").nth(4), Some("6005"), "{printed}");
    let both = [
        "--topic",
        "perf",
        "--num-records",
        "10",
        "--producer-acks",
        "all",
        "--record-size",
        "20",
    ];
    let (status, printed, said) = tool(&node, "kafka-e2e-latency", &both);
    assert_eq!(status, 0, "{said}");
    assert!(printed.contains("Percentiles: 50th = "), "{printed}");
    println!("tools: 6005 records sent and read, 10 ways measured");
}

#[test]
fn verifiable_clients_tell_each_step() {
    let home = Home::new();
    let node = home.start();
    let sending = ["--topic", "told", "--max-messages", "500"];
    let (status, printed, said) = tool(&node, "kafka-verifiable-producer", &sending);
    assert_eq!(status, 0, "{said}");
    assert_eq!(printed.matches("producer_send_success").count(), 500);
    let reading = [
        "--topic",
        "told",
        "--group-id",
        "v",
        "--max-messages",
        "500",
    ];
    let (status, printed, said) = tool(&node, "kafka-verifiable-consumer", &reading);
    assert_eq!(status, 0, "{said}");
    let lines = [
        "startup_complete",
        "partitions_assigned",
        "records_consumed",
        "offsets_committed",
        "partitions_revoked",
        "shutdown_complete",
    ];
    let at = lines.map(|name| {
        printed
            .find(name)
            .unwrap_or_else(|| panic!("no {name}: {printed}"))
    });
    assert!(at.is_sorted(), "{printed}");
    assert!(!printed.contains("\"success\":false"), "{printed}");
    println!("tools: 500 records told of twice");
}
