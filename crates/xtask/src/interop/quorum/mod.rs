//! One quorum of Milena and Apache Kafka. Each follows and leads the other, sends it snapshots and hands over to it;
//! brokers of each register with controllers of the other, are fenced when they fall silent, and leave.

pub mod cluster;
mod logs;

use std::fs;
use std::sync::OnceLock;
use std::time::Instant;

use super::server::{End, Maker};
use cluster::{Cluster, Roles, Voters, tool, typed};

use Maker::{Kafka, Milena};

/// Prints a step with the seconds that it ended at.
macro_rules! say {
    ($text:literal $(, $value:expr)* $(,)?) => {
        println!("    {:>3} s  {}", begun().elapsed().as_secs(), format!($text $(, $value)*))
    };
}

fn begun() -> Instant {
    static BEGUN: OnceLock<Instant> = OnceLock::new();
    *BEGUN.get_or_init(Instant::now)
}

/// Topics that make the metadata log longer than some snapshots.
const TOPICS: usize = 12;

pub fn run() -> Result<(), String> {
    begun();
    mixed_voters()?;
    a_kafka_broker_under_milena()
}

/// Voters: 1 and 2 are Apache Kafka, 3 is Milena. Brokers: 1 again, and Milena's 4.
fn mixed_voters() -> Result<(), String> {
    let mut cluster = Cluster::new(
        true,
        &[
            (1, Kafka, Roles::Both),
            (2, Kafka, Roles::Controller),
            (3, Milena, Roles::Controller),
            (4, Milena, Roles::Broker),
        ],
    );
    for id in 1..=4 {
        cluster.format(id, Voters::Static)?;
    }
    let told = milena_leads(&mut cluster)
        .and_then(|()| kafka_joins_by_snapshot(&mut cluster))
        .and_then(|()| a_silent_kafka_broker_is_fenced(&cluster))
        .and_then(|()| milena_hands_over(&mut cluster))
        .and_then(|()| milena_comes_back_empty(&mut cluster))
        .and_then(|()| a_milena_broker_leaves(&mut cluster))
        .and_then(|()| the_leader_is_killed(&mut cluster));
    told.map_err(|why| cluster.report(&why))?;
    for id in [1, 2, 3, 4] {
        if cluster.runs(id) {
            cluster.end(id, End::Killed)?;
        }
    }
    let dirs: Vec<_> = (1..=4).map(|id| cluster.metadata(id)).collect();
    let compared = logs::agree(&dirs)?;
    say!("{compared} batches of the metadata log are the same on every node that has them");
    Ok(())
}

fn milena_leads(cluster: &mut Cluster) -> Result<(), String> {
    for id in [3, 2, 4] {
        cluster.launch(id)?;
    }
    let leader = cluster.until("there is a leader", || cluster.leader().map(Some))?;
    if leader.0 != 3 {
        return Err(format!("node {} leads, not Milena's 3", leader.0));
    }
    cluster.wait_caught_up(&[2, 3, 4])?;
    cluster.wait_alive(4, &[4])?;
    for at in 0..TOPICS {
        cluster.create(4, &format!("before-{at}"), "4,4,4,4")?;
    }
    say!("Milena's 3 leads, Apache Kafka's 2 follows; {TOPICS} topics by way of Milena's broker");
    Ok(())
}

/// Voter 1 comes late: what it lacks is in a snapshot.
fn kafka_joins_by_snapshot(cluster: &mut Cluster) -> Result<(), String> {
    let there = snapshots(cluster, 3)?;
    if there.is_empty() {
        return Err("Milena took no snapshot of its metadata".to_owned());
    }
    cluster.launch(1)?;
    cluster.wait_caught_up(&[1, 2, 3, 4])?;
    same_snapshot(cluster, 3, 1)?;
    cluster.wait_alive(1, &[1, 4])?;
    cluster.wait_alive(4, &[1, 4])?;
    // Apache Kafka's broker passes this on to Milena's controller.
    cluster.create(1, "both", "1:4,4:1")?;
    cluster.wait_led(4, "both", "", "1,4")?;
    produce_and_consume(cluster, 4, 1, "both", "first", 0)?;
    say!(
        "broker 1, Apache Kafka, registers with Milena's controller; records through both brokers"
    );
    Ok(())
}

fn a_silent_kafka_broker_is_fenced(cluster: &Cluster) -> Result<(), String> {
    cluster.signal(1, "STOP")?;
    cluster.wait_alive(4, &[4])?;
    cluster.wait_led(4, "both", "4", "4")?;
    cluster.signal(1, "CONT")?;
    cluster.wait_alive(4, &[1, 4])?;
    cluster.wait_led(4, "both", "", "1,4")?;
    say!("broker 1 falls silent: fenced, its partitions led by 4; back: unfenced and in sync");
    Ok(())
}

fn milena_hands_over(cluster: &mut Cluster) -> Result<(), String> {
    let (_, epoch) = cluster.leader()?;
    cluster.wait_caught_up(&[1, 2, 3, 4])?;
    cluster.end(3, End::Clean)?;
    let (leader, later) = cluster.until("Apache Kafka leads", || match cluster.leader()? {
        (leader, later) if leader != 3 && later > epoch => Ok(Some((leader, later))),
        other => Err(format!("{other:?}")),
    })?;
    for at in 0..TOPICS {
        cluster.create(4, &format!("between-{at}"), "4,1")?;
    }
    cluster.wait_alive(1, &[1, 4])?;
    say!(
        "Milena's 3 hands over to Apache Kafka's {leader}, epoch {epoch} to {later}; {TOPICS} topics by way of 4"
    );
    Ok(())
}

/// Voter 3 lost its disk: what it lacks is in a snapshot.
fn milena_comes_back_empty(cluster: &mut Cluster) -> Result<(), String> {
    cluster.format(3, Voters::Static)?;
    cluster.launch(3)?;
    cluster.wait_caught_up(&[1, 2, 3, 4])?;
    let (leader, _) = cluster.leader()?;
    if cluster.maker(leader) != Kafka {
        return Err(format!("{leader} leads, not Apache Kafka"));
    }
    same_snapshot(cluster, leader, 3)?;
    Ok(())
}

fn a_milena_broker_leaves(cluster: &mut Cluster) -> Result<(), String> {
    cluster.end(4, End::Clean)?;
    cluster.wait_alive(1, &[1])?;
    cluster.wait_led(1, "both", "1", "1")?;
    cluster.create(1, "while-away", "1")?;
    cluster.launch(4)?;
    cluster.wait_alive(1, &[1, 4])?;
    cluster.wait_led(1, "both", "", "1,4")?;
    cluster.wait_led(4, "while-away", "1", "1")?;
    produce_and_consume(cluster, 1, 4, "both", "second", 20)?;
    say!("broker 4, Milena, leaves an Apache Kafka controller in order and comes back");
    Ok(())
}

fn the_leader_is_killed(cluster: &mut Cluster) -> Result<(), String> {
    let (leader, epoch) = cluster.leader()?;
    cluster.end(leader, End::Killed)?;
    let (next, later) = cluster.until("another leads", || match cluster.leader()? {
        (next, later) if next != leader && later > epoch => Ok(Some((next, later))),
        other => Err(format!("{other:?}")),
    })?;
    cluster.create(4, "after", "4,4")?;
    cluster.wait_led(4, "before-0", "4", "4")?;
    let maker = cluster.maker(next);
    say!("{leader} is killed: {next}, {maker:?}, leads in epoch {later}; a topic by way of 4");
    Ok(())
}

/// One controller, Milena; brokers 5, Apache Kafka, and 6, Milena. Then 7, an Apache Kafka controller, joins.
fn a_kafka_broker_under_milena() -> Result<(), String> {
    let mut cluster = Cluster::new(
        false,
        &[
            (1, Milena, Roles::Controller),
            (5, Kafka, Roles::Broker),
            (6, Milena, Roles::Broker),
            (7, Kafka, Roles::Controller),
        ],
    );
    cluster.format(1, Voters::Standalone)?;
    cluster.format(5, Voters::Learned)?;
    cluster.format(6, Voters::Learned)?;
    cluster.format(7, Voters::Learned)?;
    let told = a_kafka_broker_joins(&mut cluster)
        .and_then(|()| a_kafka_broker_is_killed(&mut cluster))
        .and_then(|()| a_kafka_broker_leaves(&mut cluster))
        .and_then(|()| voters_come_and_go(&mut cluster));
    told.map_err(|why| cluster.report(&why))
}

fn a_kafka_broker_joins(cluster: &mut Cluster) -> Result<(), String> {
    cluster.launch(1)?;
    cluster.launch(6)?;
    cluster.wait_alive(6, &[6])?;
    for at in 0..TOPICS {
        cluster.create(6, &format!("before-{at}"), "6,6,6,6")?;
    }
    cluster.launch(5)?;
    cluster.wait_alive(6, &[5, 6])?;
    cluster.wait_caught_up(&[1, 5, 6])?;
    same_snapshot(cluster, 1, 5)?;
    cluster.create(5, "both", "5:6,6:5")?;
    cluster.wait_led(5, "both", "", "5,6")?;
    produce_and_consume(cluster, 5, 6, "both", "first", 0)?;
    say!("broker 5, Apache Kafka, joins a quorum that is Milena's alone");
    Ok(())
}

/// No word of it: its session runs out. It comes back under a new broker epoch.
fn a_kafka_broker_is_killed(cluster: &mut Cluster) -> Result<(), String> {
    cluster.end(5, End::Killed)?;
    cluster.wait_alive(6, &[6])?;
    cluster.wait_led(6, "both", "6", "6")?;
    cluster.launch(5)?;
    cluster.wait_alive(6, &[5, 6])?;
    cluster.wait_led(6, "both", "", "5,6")?;
    produce_and_consume(cluster, 6, 5, "both", "second", 20)?;
    say!("broker 5 is killed: fenced when its session ends; back: unfenced and in sync");
    Ok(())
}

fn a_kafka_broker_leaves(cluster: &mut Cluster) -> Result<(), String> {
    cluster.end(5, End::Clean)?;
    cluster.wait_alive(6, &[6])?;
    cluster.wait_led(6, "both", "6", "6")?;
    say!("broker 5 leaves in order: its partitions are led by 6 before it is gone");
    Ok(())
}

/// KIP-853, each way: 7 adds itself to Milena's quorum; Milena's 1 is removed, and added again under 7.
fn voters_come_and_go(cluster: &mut Cluster) -> Result<(), String> {
    cluster.launch(7)?;
    cluster.wait_voters(&[1, 7])?;
    cluster.wait_caught_up(&[1, 6, 7])?;
    let (leader, epoch) = cluster.leader()?;
    say!("7, Apache Kafka, adds itself to the voters; {leader} leads in epoch {epoch}");
    let directory = cluster.directory_id(1)?;
    let words = [
        "remove-controller",
        "--controller-id",
        "1",
        "--controller-directory-id",
        &directory,
    ];
    cluster.quorum(&words)?;
    cluster.wait_voters(&[7])?;
    cluster.wait_caught_up(&[1, 6, 7])?;
    let (leader, epoch) = cluster.leader()?;
    cluster.create(6, "under-seven", "6,6")?;
    say!("1, Milena, is removed: {leader} leads in epoch {epoch}; a topic by way of 6");
    let properties = cluster.properties(1).display().to_string();
    let words = ["add-controller"];
    cluster.quorum_with(&["--command-config", &properties], &words)?;
    cluster.wait_voters(&[1, 7])?;
    cluster.end(7, End::Clean)?;
    let (leader, epoch) = cluster.until("1 leads", || match cluster.leader()? {
        (1, epoch) => Ok(Some((1, epoch))),
        other => Err(format!("{other:?}")),
    })?;
    say!("1 is added again, and 7 hands over to it: {leader} leads in epoch {epoch}");
    Ok(())
}

/// Records with acks=all by way of one broker are read by way of another, after those that were there `before`.
fn produce_and_consume(
    cluster: &Cluster,
    by: u16,
    from: u16,
    topic: &str,
    word: &str,
    before: usize,
) -> Result<(), String> {
    const RECORDS: usize = 20;
    let total = before + RECORDS;
    let lines: String = (0..RECORDS).map(|at| format!("{word}-{at}\n")).collect();
    let (to, at) = (cluster.broker(by), cluster.broker(from));
    let words = [
        "--bootstrap-server",
        &to,
        "--topic",
        topic,
        "--producer-property",
        "acks=all",
    ];
    typed("kafka-console-producer", &words, &lines)?;
    let words = [
        "--bootstrap-server",
        &at,
        "--topic",
        topic,
        "--from-beginning",
        "--timeout-ms",
        "20000",
        "--max-messages",
        &total.to_string(),
    ];
    let out = tool("kafka-console-consumer", &words)?;
    let found = out.lines().filter(|line| line.starts_with(word)).count();
    match found == RECORDS {
        true => Ok(()),
        false => Err(format!(
            "{RECORDS} records written to {topic}, {found} read:\n{out}"
        )),
    }
}

/// Names of the snapshots that the node has, but for the one that formatting wrote.
fn snapshots(cluster: &Cluster, id: u16) -> Result<Vec<String>, String> {
    let dir = cluster.metadata(id);
    let mut names = Vec::new();
    for entry in fs::read_dir(&dir).map_err(|e| format!("{}: {e}", dir.display()))? {
        let name = entry.map_err(|e| e.to_string())?.file_name();
        let name = name.to_string_lossy().into_owned();
        let bootstrap = name.starts_with("00000000000000000000-0000000000");
        if name.ends_with(".checkpoint") && !bootstrap {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// The first snapshot of the node that fetched one is, byte for byte, the other's.
fn same_snapshot(cluster: &Cluster, from: u16, to: u16) -> Result<(), String> {
    let fetched = snapshots(cluster, to)?;
    let first = fetched
        .first()
        .ok_or(format!("node {to} has no snapshot: it fetched none"))?;
    let read = |id: u16| {
        let path = cluster.metadata(id).join(first);
        fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))
    };
    let (sent, received) = (read(from)?, read(to)?);
    let (maker, other) = (cluster.maker(from), cluster.maker(to));
    if sent != received {
        return Err(format!("snapshot {first} of {from} is another at {to}"));
    }
    say!(
        "node {to}, {other:?}, fetched the snapshot {first} of {maker:?}'s {from}: {} bytes",
        sent.len()
    );
    Ok(())
}
