//! Group coordinators move: with the loss of their broker, and back while both live.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use milena_protocol::elect_leaders_request::TopicPartitions;
use milena_protocol::offset_fetch_request::OffsetFetchRequestGroup;
use milena_protocol::{ElectLeadersRequest, FindCoordinatorRequest, OffsetFetchRequest};

use super::Workload;
use super::cluster::{Client, Cluster};
use crate::cluster::until;
use crate::wire::Wire;

const TOPIC: &str = "read";
const GROUP: &str = "readers";
const OFFSETS: &str = "__consumer_offsets";
const NOT_COORDINATOR: i16 = 16;
/// Records that a consumer has to read between one move and the next.
const BETWEEN_MOVES: usize = 500;
/// Writers pause so that the reader, which waits for each commit, keeps up.
const PAUSE: Duration = Duration::from_millis(25);

/// By partition, in the order of reading: offset and number.
type Read = BTreeMap<i32, Vec<(i64, i64)>>;

/// A consumer in a process of its own, which commits after each batch.
struct Reader {
    child: Child,
    read: Arc<Mutex<Read>>,
    lines: Option<thread::JoinHandle<()>>,
}

impl Reader {
    fn start(bootstrap: &str) -> Reader {
        let mut command = Command::new(env!("CARGO_BIN_EXE_milena"));
        command.args(["kafka-verifiable-consumer", "--verbose"]);
        command.args(["--bootstrap-server", bootstrap]);
        command.args(["--topic", TOPIC, "--group-id", GROUP]);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("it is started");
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let read = Arc::new(Mutex::new(Read::new()));
        let notes = read.clone();
        let lines = Some(thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if let Some((partition, offset, number)) = record(&line) {
                    let mut notes = notes.lock().unwrap();
                    notes.entry(partition).or_default().push((offset, number));
                }
            }
        }));
        Reader { child, read, lines }
    }

    fn count(&self) -> usize {
        self.read.lock().unwrap().values().map(Vec::len).sum()
    }

    fn goes_on(&self, why: &str) {
        let before = self.count();
        until(why, || {
            (self.count() >= before + BETWEEN_MOVES).then_some(())
        });
    }

    /// SIGTERM; what it has read.
    fn stop(mut self) -> Read {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(sent.expect("there is a kill").success());
        assert!(self.child.wait().expect("it ends").success());
        let lines = self.lines.take().map(thread::JoinHandle::join);
        assert!(lines.is_some_and(|read| read.is_ok()), "all lines are read");
        std::mem::take(&mut self.read.lock().unwrap())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Partition, offset and number of a line about one record.
fn record(line: &str) -> Option<(i32, i64, i64)> {
    let after = |name: &str| {
        let (_, rest) = line.split_once(&format!("\"{name}\":"))?;
        let rest = rest.trim_start_matches('"');
        let end = rest.find(|c: char| c != '-' && !c.is_ascii_digit())?;
        rest[..end].parse::<i64>().ok()
    };
    let told = line.contains("\"record_data\"");
    told.then_some(())?;
    Some((
        after("partition")? as i32,
        after("offset")?,
        after("value")?,
    ))
}

/// Node and address of the group's coordinator, once it is known.
fn coordinator(client: &Client) -> (i32, String) {
    until("a coordinator", || {
        let request = FindCoordinatorRequest {
            coordinator_keys: vec![GROUP.into()],
            ..FindCoordinatorRequest::default()
        };
        let answer = client.ask(&request, 4)?;
        let found = &answer.coordinators[0];
        let address = format!("{}:{}", found.host, found.port);
        (found.error_code == 0).then_some((found.node_id, address))
    })
}

/// The error code and the committed offsets by partition, as a broker tells.
fn committed(address: &str) -> (i16, BTreeMap<i32, i64>) {
    let request = OffsetFetchRequest {
        groups: vec![OffsetFetchRequestGroup {
            group_id: GROUP.into(),
            member_id: None,
            member_epoch: -1,
            topics: None,
        }],
        require_stable: true,
        ..OffsetFetchRequest::default()
    };
    let mut answer = Wire::connect(address).call(&request, 9);
    let group = answer.groups.remove(0);
    let partitions = group.topics.iter().flat_map(|topic| &topic.partitions);
    let offsets = partitions.map(|p| (p.partition_index, p.committed_offset));
    (group.error_code, offsets.collect())
}

/// Every partition of the offsets' topic goes to its first replica.
fn elect_preferred(client: &Client) {
    let request = ElectLeadersRequest {
        topic_partitions: Some(vec![TopicPartitions {
            topic: OFFSETS.into(),
            partitions: vec![0, 1, 2],
        }]),
        timeout_ms: 10_000,
        ..ElectLeadersRequest::default()
    };
    let answer = client.ask(&request, 2).expect("somebody answers");
    assert_eq!(answer.error_code, 0);
}

#[test]
fn a_group_goes_on_when_its_coordinator_moves() {
    let mut cluster = Cluster::start();
    let client = cluster.client();
    client.create_topic(TOPIC, &[&[1, 2, 3], &[2, 3, 1], &[3, 1, 2]], 2);
    let mut workload = Workload::start(&client, TOPIC, PAUSE);
    let addresses: Vec<&str> = (1..=3)
        .map(|id| cluster.node(id).address.as_str())
        .collect();
    let reader = Reader::start(&addresses.join(","));
    reader.goes_on("records before the first move");
    // Its broker dies: another leads the partition, loads the group from its replica, and the member goes on.
    let (first, _) = coordinator(&client);
    cluster.kill(first);
    let (second, address) = until("another coordinator", || {
        Some(coordinator(&client)).filter(|found| found.0 != first)
    });
    reader.goes_on("records without the first broker");
    cluster.restart(first);
    until("offsets in sync", || client.all_in_sync(OFFSETS));
    // It goes back while both live: the broker that it leaves says so.
    elect_preferred(&client);
    let back = until("the coordinator is back", || {
        let (node, address) = coordinator(&client);
        (node == first).then_some(address)
    });
    until("the second has let go", || {
        (committed(&address).0 == NOT_COORDINATOR).then_some(())
    });
    reader.goes_on("records with the coordinator back at its broker");
    workload.end();
    let acked = (0..).zip(workload.counts()).collect::<BTreeMap<i32, i64>>();
    until("everything is read and committed", || {
        (committed(&back) == (0, acked.clone())).then_some(())
    });
    let read = reader.stop();
    let total: i64 = acked.values().sum();
    let count: usize = read.values().map(Vec::len).sum();
    for (partition, acked) in acked {
        let mut numbers = read[&partition].clone();
        numbers.sort_unstable();
        numbers.dedup();
        let all: Vec<(i64, i64)> = (0..acked).map(|number| (number, number)).collect();
        assert!(numbers == all, "partition {partition}: {numbers:?}");
    }
    println!(
        "{total} records acknowledged and read, {} of them again; the coordinator was at {first}, {second}, {first}",
        count as i64 - total
    );
}
