//! Tools of the binary against a node.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

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

/// Connections end at the level DEBUG of `milena_node`: the log says so while that is its level.
#[test]
fn log_levels_are_set_while_the_node_runs() {
    let home = Home::new();
    let node = home.start();
    let (status, printed, said) = configs(&node, "--describe --broker-logger 1");
    assert_eq!(status, 0, "{said}");
    assert!(
        printed.contains("  milena_node=INFO sensitive=false synonyms={}\n"),
        "{printed}"
    );
    assert!(!home.log().contains("connection closed"));
    let (status, printed, said) = configs(
        &node,
        "--alter --broker-logger 1 --add-config milena_node=DEBUG",
    );
    assert_eq!(
        (status, &printed[..]),
        (0, "Completed updating config for broker-logger 1.\n"),
        "{said}"
    );
    home.wait_for_log("connection closed");
    let (status, _, said) = configs(
        &node,
        "--alter --broker-logger 1 --add-config milena_node=LOUD",
    );
    assert!(
        status == 1 && said.contains("Valid log levels are DEBUG, ERROR"),
        "{said}"
    );
    let (status, _, said) = configs(
        &node,
        "--alter --broker-logger 1 --add-config kafka.server=INFO",
    );
    assert!(
        status == 1 && said.contains("Invalid broker logger(s): kafka.server"),
        "{said}"
    );
    let (status, ..) = configs(
        &node,
        "--alter --broker-logger 1 --delete-config milena_node",
    );
    let (_, printed, _) = configs(&node, "--describe --broker-logger 1");
    assert!(
        status == 0 && printed.contains("  milena_node=INFO "),
        "{printed}"
    );
}

/// The address that was asked answers, and sends the tool to one that nobody serves.
#[test]
fn an_advertised_address_that_cannot_be_reached_is_named() {
    let [port, controller, nobody] = milena_testkit::free_ports();
    let nowhere = format!("127.0.0.1:{nobody}");
    let listeners = format!("PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}");
    let home = Home::new()
        .with("listeners", &listeners)
        .with("advertised.listeners", &format!("PLAINTEXT://{nowhere}"));
    let mut node = home.start();
    // What is said at the start is the advertised one.
    node.address = format!("127.0.0.1:{port}");
    let (status, printed, said) = tool(
        &node,
        "kafka-consumer-groups",
        &["--list", "--timeout", "1500"],
    );
    let told = format!(
        "broker 1 advertises the address {nowhere}, which cannot be reached from here (Connection refused (os error 111)): its advertised.listeners have to name one that can"
    );
    assert_eq!(status, 0, "as Kafka's tool");
    assert!(
        printed.contains(&told) && said.contains(&told),
        "{printed}{said}"
    );
}

/// `bin/kafka-server-stop.sh` where `ps` sees this node alone, so that it stops no other of the machine.
fn server_stop(home: &Home, pid: u32, args: &[&str]) -> Output {
    let bin = home.path().join("bin");
    fs::create_dir_all(&bin).expect("a folder");
    let seen = format!(
        "milena kafka-server-start {}/server.properties",
        home.path().display()
    );
    let text = format!("#!/bin/sh\ncase $1 in ax) echo {pid} {seen} ;; *) echo {seen} ;; esac\n");
    let ps = bin.join("ps");
    fs::write(&ps, text).expect("it is written");
    fs::set_permissions(&ps, Permissions::from_mode(0o755)).expect("it is ours");
    let path = std::env::var("PATH").expect("a path");
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../bin/kafka-server-stop.sh"
    );
    Command::new("sh")
        .arg(script)
        .args(args)
        .env("PATH", format!("{}:{path}", bin.display()))
        .output()
        .expect("the script runs")
}

#[test]
fn the_stop_script_stops_what_it_is_told_to() {
    let home = Home::new();
    let mut node = home.start();
    let pid = node.pid();
    for (args, status) in [
        (&["--help"][..], 0),
        (&["--all"], 1),
        (&["--node-id=7"], 0),
        (&["--process-role=controller"], 0),
    ] {
        let ended = server_stop(&home, pid, args).status.code();
        assert_eq!(ended, Some(status), "{args:?}");
    }
    tool(
        &node,
        "kafka-topics",
        &["--create", "--topic", "still-here"],
    );
    assert!(!home.log().contains("stopping"), "{}", home.log());
    let stopped = server_stop(&home, pid, &["--node-id=1"]);
    assert!(stopped.status.success(), "{stopped:?}");
    assert!(node.ended_well(), "{}", home.log());
    assert!(home.log().contains("stopping: SIGTERM"), "{}", home.log());
}

/// Twice 3000 records by `kafka-producer-perf-test`.
fn measure_producers(node: &Node) {
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
        vec!["--print-metrics"],
        vec!["--command-property", "acks=1", "compression.type=lz4"],
    ] {
        let args: Vec<&str> = sending.iter().copied().chain(more).collect();
        let (status, printed, said) = tool(node, "kafka-producer-perf-test", &args);
        assert_eq!(status, 0, "{said}");
        let line = |begin: &str| printed.lines().rfind(|line| line.starts_with(begin));
        let last = line("3000 records sent, ").expect("a summary");
        assert!(last.ends_with("ms 99.9th."), "{last}");
        let sent = line("producer-metrics:record-send-total:{client-id=perf-producer-client} ");
        assert_eq!(
            sent.is_some(),
            args.contains(&"--print-metrics"),
            "{printed}"
        );
        assert!(
            sent.is_none_or(|line| line.ends_with(" : 3000.000")),
            "{printed}"
        );
    }
}

#[test]
fn performance_is_measured() {
    let home = Home::new();
    let node = home.start();
    let topic = ["--create", "--topic", "perf", "--partitions", "2"];
    tool(&node, "kafka-topics", &topic);
    measure_producers(&node);
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
        "--print-metrics",
    ];
    let (status, printed, said) = tool(&node, "kafka-consumer-perf-test", &reading);
    assert_eq!(status, 0, "{said}");
    assert_eq!(printed.split(", ").nth(4), Some("6005"), "{printed}");
    let read = "consumer-fetch-manager-metrics:records-consumed-total:";
    let read = printed.lines().find(|line| line.starts_with(read));
    assert!(
        read.is_some_and(|line| line.ends_with(" : 6005.000")),
        "{printed}"
    );
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
