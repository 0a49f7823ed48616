//! One cluster of Milena and Apache Kafka: transactions whose coordinator is the one and whose partitions the other has.

use std::fs::OpenOptions;
use std::io::Write;

use super::Clients;
use super::dirs::eventually;
use crate::interop::quorum::cluster::{Cluster, Roles, Voters};
use crate::interop::server::{End, Maker};

/// Ids enough for each broker to coordinate some.
const IDS: usize = 8;
const MORE: &str = "\
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=8
group.initial.rebalance.delay.ms=0
";

pub fn run() -> Result<(), String> {
    let nodes = [
        (1, Maker::Milena, Roles::Both),
        (2, Maker::Kafka, Roles::Broker),
    ];
    let mut cluster = Cluster::new(true, &nodes);
    for (id, ..) in nodes {
        cluster.format(id, Voters::Static)?;
        let file = OpenOptions::new().append(true).open(cluster.properties(id));
        let written = file.and_then(|mut file| file.write_all(MORE.as_bytes()));
        written.map_err(|e| e.to_string())?;
        cluster.launch(id)?;
    }
    cluster.wait_alive(1, &[1, 2])?;
    // Each has one of the topics.
    cluster.create(1, "milenas", "1")?;
    cluster.create(1, "kafkas", "2")?;
    let told = transactions(&cluster).map_err(|why| cluster.report(&why));
    let by = told?;
    println!(
        "  Milena and Apache Kafka in one cluster: {} transactions coordinated by Milena and {} by Apache Kafka, in partitions of both",
        3 * by[0],
        3 * by[1],
    );
    cluster.end(2, End::Clean)?;
    cluster.end(1, End::Clean)
}

/// How many of the ids each broker coordinates.
fn transactions(cluster: &Cluster) -> Result<[usize; 2], String> {
    let mut clients = Clients::start(&cluster.broker(1))?;
    let mut by = [0; 2];
    let mut committed = Vec::new();
    for at in 0..IDS {
        let id = format!("t{at}");
        clients.expect(&format!("start {id} {id} 60000"), "ok")?;
        for (ends, value) in [("commit", "a"), ("abort", "b"), ("commit", "c")] {
            let value = format!("{id}{value}");
            let offset = 10 * at + usize::from(value.ends_with('c'));
            for command in [
                format!("begin {id}"),
                format!("send {id} milenas {value}"),
                format!("send {id} kafkas {value}"),
                format!("offset {id} group milenas {offset}"),
                format!("{ends} {id}"),
            ] {
                clients.expect(&command, "ok")?;
            }
            if ends == "commit" {
                committed.push(value);
            }
        }
        match clients.say(&format!("coordinator {id}"))?.as_str() {
            "1" => by[0] += 1,
            "2" => by[1] += 1,
            other => return Err(format!("{id} is coordinated by {other}")),
        }
    }
    let all = committed.join(" ");
    for topic in ["milenas", "kafkas"] {
        eventually(&mut clients, &format!("read read_committed {topic}"), &all)?;
    }
    let last = 10 * (IDS - 1) + 1;
    eventually(&mut clients, "offsets group milenas", &last.to_string())?;
    match by.contains(&0) {
        true => Err(format!("one broker coordinates everything: {by:?}")),
        false => Ok(by),
    }
}
