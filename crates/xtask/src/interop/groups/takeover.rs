//! A group with members at work while its broker is exchanged on the same directory: Milena, Apache Kafka, and Milena
//! again. Each goes on from the other's records: members keep their epochs and partitions, and committed offsets count.

use super::client::Client;
use super::node::Node;
use crate::interop::server::Maker;

const RECORDS: u64 = 600;

pub fn run() -> Result<(), String> {
    let mut node = Node::start("")?;
    node.create_topic("moved", 6)?;
    node.produce("moved", RECORDS)?;
    let mut client = Client::start(
        &node.bootstrap(),
        "moving",
        "moved",
        &["group.protocol=consumer".to_owned()],
    )?;
    client.says("add 3")?;
    client.says("wait 2,2,2")?;
    client.says(&format!("read {RECORDS}"))?;
    let before = client.report()?;
    let mut produced = RECORDS;
    for maker in [Maker::Kafka, Maker::Milena] {
        node.hand_over_to(maker)?;
        let taken = taken_over(&node, &mut client, produced + RECORDS);
        taken.map_err(|why| format!("{maker:?} took over: {why}\n-- it said:\n{}", node.said()))?;
        produced += RECORDS;
    }
    let after = client.report()?;
    if after.rebalances != before.rebalances || after.shared > 0 {
        return Err(format!(
            "members were given partitions anew: {} times, then {}",
            before.rebalances, after.rebalances
        ));
    }
    // Whoever joins and leaves now is dealt with from what Kafka left.
    client.says("add 3")?;
    client.says("wait 1,1,1,1,1,1")?;
    println!(
        "  3 members under Milena, Apache Kafka and Milena: {produced} records read, {} twice, no rebalance",
        after.twice
    );
    client.end()?;
    node.stop()
}

fn taken_over(node: &Node, client: &mut Client, records: u64) -> Result<(), String> {
    node.produce("moved", RECORDS)?;
    client.says(&format!("read {records}"))?;
    client.says("wait 2,2,2")?;
    let described = node.tool(&[
        "kafka-consumer-groups",
        "--describe",
        "--group",
        "moving",
        "--state",
    ])?;
    match described.contains("Stable") {
        true => Ok(()),
        false => Err(format!("the group is described as\n{described}")),
    }
}
