//! Three nodes with three replicas of everything: what was acknowledged survives the loss of leaders, and the replicas
//! end up the same, byte for byte.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use milena_base::{Timestamp, Uuid};
use milena_broker::format::InitialControllers;
use milena_protocol::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use milena_protocol::metadata_request::MetadataRequestTopic;
use milena_protocol::metadata_response::MetadataResponsePartition;
use milena_protocol::produce_request::{PartitionProduceData, TopicProduceData};
use milena_protocol::{
    CreateTopicsRequest, InitProducerIdRequest, InitProducerIdResponse, MetadataRequest,
    ProduceRequest, Records, Request, Str,
};
use milena_records::{BatchBuilder, Codec, Limits, NewRecord, batches};

use crate::cluster::{free_ports, home, static_voters, until};
use crate::node::{Home, Node};
use crate::wire::Wire;

const NOW: i64 = 1_700_000_000_000;
const TOPIC: &str = "kept";
const PARTITIONS: i32 = 3;
const RECORDS_PER_BATCH: i64 = 10;
/// Records that have to be acknowledged between one fault and the next.
const BETWEEN_FAULTS: i64 = 600;

/// A cluster whose nodes come and go; clients find it by whoever runs.
struct Cluster {
    homes: Vec<Home>,
    nodes: Vec<Option<Node>>,
    addresses: Arc<Mutex<Vec<Option<String>>>>,
}

impl Cluster {
    fn start() -> Cluster {
        let ports = free_ports(3);
        let voters = static_voters(&ports);
        let homes = (1..=3).map(|id| {
            let home = home(id, "broker,controller", &ports)
                .with("controller.quorum.voters", &voters)
                .with("offsets.topic.replication.factor", "3")
                .with("broker.session.timeout.ms", "3000")
                .with("broker.heartbeat.interval.ms", "500")
                .with("replica.lag.time.max.ms", "5000");
            home.format_with(&Uuid([7; 16]).to_string(), InitialControllers::Unspecified);
            home
        });
        let homes: Vec<Home> = homes.collect();
        let starting: Vec<_> = homes.iter().map(Home::spawn).collect();
        let nodes: Vec<Node> = starting.into_iter().map(|s| s.wait_ready()).collect();
        let addresses = nodes.iter().map(|node| Some(node.address.clone()));
        let addresses = Arc::new(Mutex::new(addresses.collect()));
        Cluster {
            homes,
            nodes: nodes.into_iter().map(Some).collect(),
            addresses,
        }
    }

    fn kill(&mut self, id: i32) {
        let at = id as usize - 1;
        self.addresses.lock().unwrap()[at] = None;
        self.nodes[at].take().expect("it runs").kill();
    }

    fn restart(&mut self, id: i32) {
        let at = id as usize - 1;
        let node = self.homes[at].start();
        self.addresses.lock().unwrap()[at] = Some(node.address.clone());
        self.nodes[at] = Some(node);
    }

    fn client(&self) -> Client {
        Client(self.addresses.clone())
    }

    fn stop(&mut self) {
        // All at once: the last of a quorum can't hand over alone.
        let nodes: Vec<Node> = self.nodes.iter_mut().filter_map(Option::take).collect();
        thread::scope(|scope| {
            for node in nodes {
                scope.spawn(|| node.stop());
            }
        });
    }

    /// The bytes of one partition's log at each node.
    fn logs(&self, partition: i32) -> Vec<Vec<u8>> {
        let log = |home: &Home| {
            let dir = home.data().join(format!("{TOPIC}-{partition}"));
            let files = std::fs::read_dir(&dir).expect("it is there");
            let mut files: Vec<_> = files.map(|f| f.unwrap().path()).collect();
            files.retain(|f| f.extension().is_some_and(|e| e == "log"));
            files.sort();
            files
                .iter()
                .flat_map(|f| std::fs::read(f).unwrap())
                .collect()
        };
        self.homes.iter().map(log).collect()
    }
}

/// Knows addresses, and asks whoever answers.
#[derive(Clone)]
struct Client(Arc<Mutex<Vec<Option<String>>>>);

impl Client {
    fn any(&self) -> Option<Wire> {
        let known: Vec<String> = self.0.lock().unwrap().iter().flatten().cloned().collect();
        known.iter().find_map(|address| Wire::try_connect(address))
    }

    fn ask<R: Request>(&self, request: &R, version: i16) -> Option<R::Response> {
        self.any()?.try_call(request, version)
    }

    /// The topic's partitions, and where the nodes are.
    fn topic(&self) -> Option<(Vec<MetadataResponsePartition>, BTreeMap<i32, String>)> {
        let request = MetadataRequest {
            topics: Some(vec![MetadataRequestTopic {
                name: Some(TOPIC.into()),
                ..MetadataRequestTopic::default()
            }]),
            ..MetadataRequest::default()
        };
        let mut answer = self.ask(&request, 12)?;
        let at = |b: &milena_protocol::metadata_response::MetadataResponseBroker| {
            (b.node_id, format!("{}:{}", b.host, b.port))
        };
        let nodes = answer.brokers.iter().map(at).collect();
        let topic = answer.topics.pop().filter(|t| t.error_code == 0)?;
        let mut partitions = topic.partitions;
        partitions.sort_by_key(|p| p.partition_index);
        Some((partitions, nodes))
    }

    fn leader(&self, partition: i32) -> Option<(i32, String)> {
        let (partitions, nodes) = self.topic()?;
        let partition = partitions.get(partition as usize)?;
        let leader = partition.leader_id;
        nodes.get(&leader).map(|at| (leader, at.clone()))
    }

    /// Every partition has three replicas in sync.
    fn all_in_sync(&self) -> Option<()> {
        let (partitions, _) = self.topic()?;
        let whole = |p: &MetadataResponsePartition| p.isr_nodes.len() == 3 && p.leader_id >= 0;
        (partitions.len() == PARTITIONS as usize && partitions.iter().all(whole)).then_some(())
    }

    fn create_topic(&self) {
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: TOPIC.into(),
                num_partitions: PARTITIONS,
                replication_factor: 3,
                configs: vec![CreatableTopicConfig {
                    name: "min.insync.replicas".into(),
                    value: Some("2".into()),
                }],
                ..CreatableTopic::default()
            }],
            timeout_ms: 20_000,
            ..CreateTopicsRequest::default()
        };
        let answer = self.ask(&request, 7).expect("somebody answers");
        let topic = &answer.topics[0];
        assert_eq!(topic.error_code, 0, "{:?}", topic.error_message);
    }

    fn producer_id(&self) -> InitProducerIdResponse {
        let request = InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: 60_000,
            ..InitProducerIdRequest::default()
        };
        until("a producer id", || {
            self.ask(&request, 4)
                .filter(|answer| answer.error_code == 0)
        })
    }
}

/// Writes counted records to one partition until it is told to end; every batch until it is acknowledged.
struct Writer {
    client: Client,
    partition: i32,
    acked: Arc<AtomicI64>,
    ends: Arc<AtomicBool>,
}

impl Writer {
    /// How many batches had to be sent again.
    fn run(self) -> u32 {
        let id = self.client.producer_id();
        let (mut next, mut resent) = (0, 0);
        let mut wire = None;
        while !self.ends.load(Ordering::Acquire) {
            let batch = batch(id.producer_id, id.producer_epoch, next);
            let request = produce(self.partition, &batch);
            let deadline = Instant::now() + Duration::from_secs(60);
            while !self.send(&mut wire, &request) {
                assert!(
                    Instant::now() < deadline,
                    "partition {} is stuck",
                    self.partition
                );
                (wire, resent) = (None, resent + 1);
                thread::sleep(Duration::from_millis(50));
            }
            next += RECORDS_PER_BATCH;
            self.acked.store(next, Ordering::Release);
        }
        resent
    }

    fn send(&self, wire: &mut Option<Wire>, request: &ProduceRequest) -> bool {
        if wire.is_none() {
            let leader = self.client.leader(self.partition);
            *wire = leader.and_then(|(_, at)| Wire::try_connect(&at));
        }
        let Some(wire) = wire else { return false };
        let answer = wire.try_call(request, 9);
        let code = answer.map(|a| a.responses[0].partition_responses[0].error_code);
        // Sequences that were refused for good would be a defect, not bad luck.
        assert_ne!(code, Some(45), "OUT_OF_ORDER_SEQUENCE_NUMBER");
        code == Some(0)
    }
}

fn batch(id: i64, epoch: i16, first: i64) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::NONE).producer(id, epoch, first as i32);
    for number in first..first + RECORDS_PER_BATCH {
        let record = NewRecord {
            timestamp: Timestamp(NOW + number),
            key: None,
            value: Some(&number.to_be_bytes()),
            headers: &[],
        };
        builder.append(record).expect("it fits");
    }
    builder.build().to_bytes()
}

fn produce(partition: i32, batch: &Bytes) -> ProduceRequest {
    ProduceRequest {
        acks: -1,
        timeout_ms: 5_000,
        topic_data: vec![TopicProduceData {
            name: Str::copy(TOPIC),
            partition_data: vec![PartitionProduceData {
                index: partition,
                records: Some(Records::Bytes(batch.clone())),
            }],
            ..TopicProduceData::default()
        }],
        ..ProduceRequest::default()
    }
}

/// The numbers in a log, in its order.
fn numbers(log: Vec<u8>) -> Vec<i64> {
    let mut numbers = Vec::new();
    for batch in batches(Bytes::from(log)) {
        let batch = batch.expect("the log is whole");
        if batch.header().is_control() {
            continue;
        }
        for record in batch.records(Limits::default()) {
            let record = record.expect("it can be read");
            let value = record.value.as_ref().expect("it has one");
            numbers.push(i64::from_be_bytes(value[..].try_into().expect("a number")));
        }
    }
    numbers
}

#[test]
fn acknowledged_records_survive_their_leaders() {
    let mut cluster = Cluster::start();
    let client = cluster.client();
    client.create_topic();
    until("three replicas in sync", || client.all_in_sync());
    let ends = Arc::new(AtomicBool::new(false));
    let mut acked = Vec::new();
    let writers = (0..PARTITIONS).map(|partition| {
        let count = Arc::new(AtomicI64::new(0));
        acked.push(count.clone());
        let writer = Writer {
            client: client.clone(),
            partition,
            acked: count,
            ends: ends.clone(),
        };
        thread::spawn(|| writer.run())
    });
    let writers: Vec<_> = writers.collect();
    let more_everywhere = |why: &str| {
        let at_least: Vec<i64> = acked
            .iter()
            .map(|a| a.load(Ordering::Acquire) + BETWEEN_FAULTS)
            .collect();
        until(why, || {
            let mut counts = acked.iter().zip(&at_least);
            counts
                .all(|(a, least)| a.load(Ordering::Acquire) >= *least)
                .then_some(())
        });
    };
    let mut slowest = Duration::ZERO;
    for round in 0..2 {
        more_everywhere("records before the loss");
        let (leader, _) = until("a leader", || client.leader(round % PARTITIONS));
        let lost_at = Instant::now();
        cluster.kill(leader);
        more_everywhere("records with two of three nodes");
        slowest = slowest.max(lost_at.elapsed());
        cluster.restart(leader);
        more_everywhere("records while the lost replica catches up");
        until("the lost replica is back in sync", || client.all_in_sync());
    }
    ends.store(true, Ordering::Release);
    let resent: u32 = writers
        .into_iter()
        .map(|w| w.join().expect("it wrote on"))
        .sum();
    until("all in sync at the end", || client.all_in_sync());
    cluster.stop();
    let mut total = 0;
    for (partition, acked) in acked.iter().enumerate() {
        let acked = acked.load(Ordering::Acquire);
        let logs = cluster.logs(partition as i32);
        assert!(
            logs.iter().all(|log| *log == logs[0]),
            "partition {partition} differs"
        );
        let numbers = numbers(logs[0].clone());
        let expected: Vec<i64> = (0..acked).collect();
        assert!(
            numbers == expected,
            "partition {partition}: {} of {acked}",
            numbers.len()
        );
        total += acked;
    }
    println!(
        "{total} records acknowledged, 2 leaders killed, {resent} batches sent again, {slowest:?} at most until {BETWEEN_FAULTS} more; 0 lost, 0 twice, 3 equal replicas of {PARTITIONS} partitions"
    );
}
