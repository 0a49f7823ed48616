//! The facts of a consumer group, by Java clients (`interop/java/GroupFacts.java`) with the classic and with the
//! consumer protocol: one member has all partitions, each of as many members as partitions has one, one more has none,
//! no partition is with two at once, and a dead member's partitions move when its session is over.

use std::time::{Duration, Instant};

use super::client::Client;
use super::node::{self, Node};

const PARTITIONS: u32 = 6;
const RECORDS: u64 = 3_000;
const SESSION_MS: u64 = 6_000;
const HEARTBEAT_MS: u64 = 500;

pub fn run() -> Result<(), String> {
    let session = format!(
        "group.consumer.min.session.timeout.ms=1000\ngroup.consumer.session.timeout.ms={SESSION_MS}\n\
        group.consumer.min.heartbeat.interval.ms=100\ngroup.consumer.heartbeat.interval.ms={HEARTBEAT_MS}\n"
    );
    let node = Node::start(&session)?;
    node.create_topic("facts", PARTITIONS)?;
    node.produce("facts", RECORDS)?;
    for protocol in ["classic", "consumer"] {
        let checked = facts(&node, protocol);
        checked
            .map_err(|why| format!("{protocol}: {why}\n-- the broker said:\n{}", node.said()))?;
    }
    node.stop()
}

fn properties(protocol: &str) -> Vec<String> {
    let mut properties = vec![format!("group.protocol={protocol}")];
    if protocol == "classic" {
        properties.push(format!("session.timeout.ms={SESSION_MS}"));
        properties.push(format!("heartbeat.interval.ms={HEARTBEAT_MS}"));
        properties.push(node::COOPERATIVE.into());
    }
    properties
}

fn facts(node: &Node, protocol: &str) -> Result<(), String> {
    let group = format!("facts-{protocol}");
    let start = || Client::start(&node.bootstrap(), &group, "facts", &properties(protocol));
    let mut client = start()?;
    client.says("add 1")?;
    let alone = client.number("wait 6")?;
    client.says("add 5")?;
    client.says("wait 1,1,1,1,1,1")?;
    client.says("add 1")?;
    client.says("wait 0,1,1,1,1,1,1")?;
    client.says(&format!("read {RECORDS}"))?;
    client.says("close 4")?;
    client.says("wait 2,2,2")?;
    let mut victims = start()?;
    victims.says("add 3")?;
    client.says("wait 1,1,1")?;
    victims.says("wait 1,1,1")?;
    let victims_saw = victims.report()?;
    victims.kill()?;
    let died = Instant::now();
    client.says("wait 2,2,2")?;
    let moved = died.elapsed();
    let least = Duration::from_millis(SESSION_MS - HEARTBEAT_MS - 500);
    if moved < least {
        return Err(format!(
            "a dead member's partitions moved after {moved:?}, before its session was over"
        ));
    }
    let seen = client.report()?;
    let shared = seen.shared + victims_saw.shared;
    if shared > 0 {
        return Err(format!("{shared} times a partition was with two members"));
    }
    println!(
        "  {protocol}: {PARTITIONS} partitions; 1 member has all after {alone} ms, 6 have one each, the 7th none; \
        {} of {RECORDS} records read, {} twice, {} by two at once; {} callbacks; a dead member's moved after {} ms",
        seen.records,
        seen.twice,
        seen.shared,
        seen.rebalances,
        moved.as_millis()
    );
    client.end()
}
