//! Group coordinators move: with the loss of their broker, and back while both live.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use milena_protocol::elect_leaders_request::TopicPartitions;
use milena_protocol::offset_fetch_request::OffsetFetchRequestGroup;
use milena_protocol::{ElectLeadersRequest, FindCoordinatorRequest, OffsetFetchRequest, Str};

use super::Workload;
use super::cluster::{CLIENT_PATIENCE, Client, Cluster};
use super::network::Network;
use crate::cluster::until;
use crate::node::PATIENCE;
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
pub type Read = BTreeMap<i32, Vec<(i64, i64)>>;

/// A consumer in a process of its own, which commits after each batch but for what `more` says.
pub struct Reader {
    group: &'static str,
    child: Child,
    read: Arc<Mutex<Read>>,
    lines: Option<thread::JoinHandle<()>>,
}

impl Reader {
    pub fn start(cluster: &Cluster, topic: &str, group: &'static str, more: &[&str]) -> Reader {
        let addresses = [1, 2, 3].map(|id| cluster.node(id).address.as_str());
        let mut command = Command::new(env!("CARGO_BIN_EXE_milena"));
        command.args(["kafka-verifiable-consumer", "--verbose"]);
        command.args(["--bootstrap-server", &addresses.join(",")]);
        command.args(["--topic", topic, "--group-id", group]);
        command.args(more);
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
        Reader {
            group,
            child,
            read,
            lines,
        }
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

    /// Waits until it has read and committed all of these, and holds what it has read to be each of them.
    pub fn reads_all(&self, client: &Client, acked: &[i64], patience: Duration) {
        let ends: BTreeMap<i32, i64> = (0..).zip(acked.iter().copied()).collect();
        let deadline = Instant::now() + patience;
        loop {
            let (_, at) = coordinator(client, self.group);
            let committed = committed(&at, self.group);
            if committed == Some((0, ends.clone())) {
                break;
            }
            let late = Instant::now() > deadline;
            assert!(!late, "of {ends:?} are committed {committed:?}");
            thread::sleep(Duration::from_millis(100));
        }
        let read = self.read.lock().unwrap();
        for (partition, acked) in ends {
            let mut numbers = read.get(&partition).cloned().unwrap_or_default();
            numbers.sort_unstable();
            numbers.dedup();
            let all: Vec<(i64, i64)> = (0..acked).map(|number| (number, number)).collect();
            assert!(numbers == all, "partition {partition} was not read");
        }
    }

    /// SIGTERM; what it has read.
    pub fn stop(mut self) -> Read {
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
fn coordinator(client: &Client, group: &str) -> (i32, String) {
    until("a coordinator", || {
        let request = FindCoordinatorRequest {
            coordinator_keys: vec![Str::copy(group)],
            ..FindCoordinatorRequest::default()
        };
        let answer = client.ask(&request, 4)?;
        let found = &answer.coordinators[0];
        let address = format!("{}:{}", found.host, found.port);
        (found.error_code == 0).then_some((found.node_id, address))
    })
}

/// The error code and the committed offsets by partition, as a broker tells.
fn committed(address: &str, group: &str) -> Option<(i16, BTreeMap<i32, i64>)> {
    let request = OffsetFetchRequest {
        groups: vec![OffsetFetchRequestGroup {
            group_id: Str::copy(group),
            member_id: None,
            member_epoch: -1,
            topics: None,
        }],
        require_stable: true,
        ..OffsetFetchRequest::default()
    };
    let wire = Wire::try_connect(address)?.within(CLIENT_PATIENCE);
    let mut answer = { wire }.try_call(&request, 9)?;
    let group = answer.groups.remove(0);
    let partitions = group.topics.iter().flat_map(|topic| &topic.partitions);
    let offsets = partitions.map(|p| (p.partition_index, p.committed_offset));
    Some((group.error_code, offsets.collect()))
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
    // Kafka's default session: what is dead is found out sooner.
    let mut cluster = Cluster::start_each(Network::Loopback, |home| {
        home.with("broker.session.timeout.ms", "9000")
            .with("broker.heartbeat.interval.ms", "2000")
    });
    let client = cluster.client();
    client.create_topic(TOPIC, &[&[1, 2, 3], &[2, 3, 1], &[3, 1, 2]], 2);
    let mut workload = Workload::start(&client, TOPIC, PAUSE);
    let reader = Reader::start(&cluster, TOPIC, GROUP, &[]);
    reader.goes_on("records before the first move");
    // Its broker dies: another leads the partition, loads the group from its replica, and the member goes on.
    let (first, _) = coordinator(&client, GROUP);
    cluster.kill(first);
    let (second, address) = until("another coordinator", || {
        Some(coordinator(&client, GROUP)).filter(|found| found.0 != first)
    });
    let noticed = cluster
        .homes
        .iter()
        .any(|home| home.log().contains("nobody listens"));
    assert!(noticed, "the dead broker's session ran out");
    reader.goes_on("records without the first broker");
    cluster.restart(first);
    until("offsets in sync", || client.all_in_sync(OFFSETS));
    // It goes back while both live: the broker that it leaves says so.
    elect_preferred(&client);
    until("the coordinator is back", || {
        Some(coordinator(&client, GROUP)).filter(|found| found.0 == first)
    });
    until("the second has let go", || {
        committed(&address, GROUP).filter(|told| told.0 == NOT_COORDINATOR)
    });
    reader.goes_on("records with the coordinator back at its broker");
    workload.end();
    let acked = workload.counts();
    reader.reads_all(&client, &acked, PATIENCE);
    let count: usize = reader.stop().values().map(Vec::len).sum();
    let total: i64 = acked.iter().sum();
    println!(
        "{total} records acknowledged and read, {} of them again; the coordinator was at {first}, {second}, {first}",
        count as i64 - total
    );
}
