//! `cargo xtask interop`: Milena beside Apache Kafka from its published jars. Needs a JDK 17 and Maven.

mod batches;
mod bytes;
mod configs;
mod dirs;
mod examples;
mod goldens;
mod groups;
mod java;
mod kcat;
mod logs;
mod place;
mod quorum;
pub mod replace;
mod server;
mod storage;
mod tool_host;
mod tools;
mod txn;

/// A part of the comparison: its name, what it shows, and how it is run.
type Part = fn() -> Result<(), String>;

const PARTS: &[(&str, &str, Part)] = &[
    (
        "bytes",
        "messages and records in every version against Kafka's own classes",
        bytes::run,
    ),
    (
        "configs",
        "keys, values, rules and descriptions against Kafka's own classes and a running broker",
        configs::run,
    ),
    (
        "batches",
        "record batches, right and wrong, against Kafka's own log; batches of every codec both ways",
        batches::run,
    ),
    (
        "logs",
        "partition directories: the same operations give the same bytes, each opens the other's, also after a crash",
        logs::run,
    ),
    (
        "storage",
        "a formatted directory and its metadata log to and fro between Milena and Apache Kafka",
        storage::run,
    ),
    (
        "dirs",
        "a node's directories to and fro between Milena and Apache Kafka, after clean stops and kills",
        dirs::run,
    ),
    (
        "quorum",
        "one quorum of Milena and Apache Kafka: each follows and leads the other, brokers of each under the other",
        quorum::run,
    ),
    (
        "cluster",
        "three Apache Kafka nodes under work are replaced by Milena one at a time, and back",
        replace::run,
    ),
    (
        "tools",
        "a broker with defaults, by our tools and by those of Apache Kafka 4.3.1 and 2.5.0",
        tools::run,
    ),
    (
        "groups",
        "consumer groups: the assignors against Kafka's own, the facts by Java clients, a group at work that changes brokers",
        groups::run,
    ),
    (
        "kcat",
        "librdkafka's kcat: codecs, headers, offsets, groups",
        kcat::run,
    ),
    (
        "examples",
        "the programs of examples/, and what is lost when servers and the broker die",
        examples::run,
    ),
    (
        "txn",
        "transactions that outlive a change of the program, and a copy exactly once under kills",
        txn::run,
    ),
    (
        "goldens",
        "the same commands by Kafka's tools and ours, on Apache Kafka and on Milena",
        goldens::run,
    ),
];

pub fn run(names: &[String]) -> Result<(), String> {
    if let Some(unknown) = names.iter().find(|n| PARTS.iter().all(|p| p.0 != **n)) {
        let known: Vec<&str> = PARTS.iter().map(|part| part.0).collect();
        return Err(format!(
            "no part {unknown:?}; there are {}",
            known.join(", ")
        ));
    }
    java::needed()?;
    let chosen = |name: &str| names.is_empty() || names.iter().any(|n| n == name);
    for (name, shows, part) in PARTS.iter().filter(|part| chosen(part.0)) {
        println!("interop {name}: {shows}");
        part()?;
    }
    Ok(())
}
