//! Transactions over a raw socket: what readers see before and after their end, who is fenced, what a crash between
//! decision and markers leaves, and what the keys change.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use milena_base::{ErrorCode, Offset, Timestamp};
use milena_protocol::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use milena_protocol::describe_producers_request::TopicRequest;
use milena_protocol::fetch_request::{FetchPartition, FetchTopic};
use milena_protocol::fetch_response::PartitionData;
use milena_protocol::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use milena_protocol::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use milena_protocol::produce_response::PartitionProduceResponse;
use milena_protocol::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use milena_protocol::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, DescribeProducersRequest,
    DescribeTransactionsRequest, EndTxnRequest, FetchRequest, FindCoordinatorRequest,
    InitProducerIdRequest, ListOffsetsRequest, ListTransactionsRequest, OffsetFetchRequest,
    ProduceRequest, Records, Str, TxnOffsetCommitRequest,
};
use milena_records::{BatchBuilder, Codec, NewRecord, batches};

use crate::node::{Home, Node};
use crate::wire::{Wire, produce};

const IN_TIME: Duration = Duration::from_secs(20);
const READ_COMMITTED: i8 = 1;
/// Produce and EndTxn of a client that knows KIP-890 in full, and of one that does not.
const NEW: (i16, i16) = (12, 5);
const OLD: (i16, i16) = (9, 3);

/// A node that is taken back soon after it was killed.
fn soon_back() -> Home {
    let home = Home::new().with("broker.session.timeout.ms", "1000");
    home.with("broker.heartbeat.interval.ms", "200")
}

/// Tries until it gives something.
fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + IN_TIME;
    loop {
        if let Some(done) = attempt() {
            return done;
        }
        assert!(Instant::now() < deadline, "{what}: not in time");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What clients try again on.
fn is_temporary(code: i16) -> bool {
    [
        ErrorCode::CoordinatorNotAvailable,
        ErrorCode::CoordinatorLoadInProgress,
        ErrorCode::NotCoordinator,
        ErrorCode::ConcurrentTransactions,
        ErrorCode::NotLeaderOrFollower,
        ErrorCode::UnknownTopicOrPartition,
    ]
    .iter()
    .any(|error| error.code() == code)
}

/// A transactional producer.
struct Producer {
    wire: Wire,
    name: &'static str,
    id: i64,
    epoch: i16,
    /// The next sequence by topic.
    sequences: BTreeMap<String, i32>,
    versions: (i16, i16),
}

impl Producer {
    fn start(node: &Node, name: &'static str, versions: (i16, i16), timeout_ms: i32) -> Producer {
        let mut wire = Wire::connect(&node.address);
        for (key_type, key) in [(0, "copiers"), (1, name)] {
            let find = FindCoordinatorRequest {
                key_type,
                coordinator_keys: vec![key.into()],
                ..Default::default()
            };
            eventually("a coordinator", || {
                let answer = wire.call(&find, 4);
                (answer.coordinators[0].error_code == 0).then_some(())
            });
        }
        let (id, epoch) = init(&mut wire, name, timeout_ms);
        Producer {
            wire,
            name,
            id,
            epoch,
            sequences: BTreeMap::new(),
            versions,
        }
    }

    fn is_new(&self) -> bool {
        self.versions == NEW
    }

    fn add(&mut self, topic: &str) -> i16 {
        let request = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: self.name.into(),
            v3_and_below_producer_id: self.id,
            v3_and_below_producer_epoch: self.epoch,
            v3_and_below_topics: vec![AddPartitionsToTxnTopic {
                name: Str::copy(topic),
                partitions: vec![0],
            }],
            ..Default::default()
        };
        eventually("an added partition", || {
            let answer = self.wire.call(&request, 3);
            let topics = answer.results_by_topic_v3_and_below;
            let code = topics[0].results_by_partition[0].partition_error_code;
            (!is_temporary(code)).then_some(code)
        })
    }

    /// One record, in a transaction that an old producer has begun by then.
    fn send(&mut self, topic: &str, value: &str) -> PartitionProduceResponse {
        let sequence = self.sequences.entry(topic.to_owned()).or_insert(0);
        let at = *sequence;
        *sequence += 1;
        let records = batch(self.id, self.epoch, at, value);
        let answer = self.produce(topic, records);
        if answer.error_code != 0 {
            *self.sequences.get_mut(topic).expect("it is there") = at;
        }
        answer
    }

    fn produce(&mut self, topic: &str, records: Bytes) -> PartitionProduceResponse {
        let request = ProduceRequest {
            transactional_id: Some(self.name.into()),
            ..produce(topic, records, -1)
        };
        let retriable = ErrorCode::NotEnoughReplicas.code();
        eventually("a produce", || {
            let answer = self.wire.call(&request, self.versions.0);
            let answer = answer.responses[0].partition_responses[0].clone();
            (answer.error_code != retriable).then_some(answer)
        })
    }

    fn sent(&mut self, topic: &str, value: &str) {
        if !self.is_new() {
            assert_eq!(self.add(topic), 0);
        }
        let answer = self.send(topic, value);
        assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
    }

    /// The error code; a new epoch is taken over.
    fn end(&mut self, committed: bool) -> i16 {
        let request = EndTxnRequest {
            transactional_id: self.name.into(),
            producer_id: self.id,
            producer_epoch: self.epoch,
            committed,
        };
        let version = self.versions.1;
        let answer = eventually("an end", || {
            let answer = self.wire.call(&request, version);
            (!is_temporary(answer.error_code)).then_some(answer)
        });
        if version >= 5 && answer.error_code == 0 {
            assert_eq!(answer.producer_epoch, self.epoch + 1);
            self.epoch = answer.producer_epoch;
            self.sequences.clear();
        }
        answer.error_code
    }

    fn commit_offset(&mut self, topic: &str, offset: i64) -> i16 {
        if !self.is_new() {
            let request = AddOffsetsToTxnRequest {
                transactional_id: self.name.into(),
                producer_id: self.id,
                producer_epoch: self.epoch,
                group_id: "copiers".into(),
            };
            assert_eq!(self.wire.call(&request, 3).error_code, 0);
        }
        let request = TxnOffsetCommitRequest {
            transactional_id: self.name.into(),
            group_id: "copiers".into(),
            producer_id: self.id,
            producer_epoch: self.epoch,
            generation_id_or_member_epoch: -1,
            topics: vec![TxnOffsetCommitRequestTopic {
                name: Str::copy(topic),
                partitions: vec![TxnOffsetCommitRequestPartition {
                    committed_offset: offset,
                    committed_leader_epoch: -1,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let version = if self.is_new() { 5 } else { 3 };
        let answer = self.wire.call(&request, version);
        answer.topics[0].partitions[0].error_code
    }
}

/// InitProducerId of a producer that brings nothing.
fn init(wire: &mut Wire, name: &str, timeout_ms: i32) -> (i64, i16) {
    let request = init_request(name, timeout_ms);
    eventually("a producer id", || {
        let answer = wire.call(&request, 5);
        assert!(
            answer.error_code == 0 || is_temporary(answer.error_code),
            "{answer:?}"
        );
        (answer.error_code == 0).then_some((answer.producer_id, answer.producer_epoch))
    })
}

fn init_request(name: &str, timeout_ms: i32) -> InitProducerIdRequest {
    InitProducerIdRequest {
        transactional_id: Some(Str::copy(name)),
        transaction_timeout_ms: timeout_ms,
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    }
}

fn batch(id: i64, epoch: i16, sequence: i32, value: &str) -> Bytes {
    let builder = BatchBuilder::new(Codec::NONE).producer(id, epoch, sequence);
    let mut builder = builder.transactional(true);
    let record = NewRecord {
        // As the markers have, or the segment would be rolled between them.
        timestamp: Timestamp(now_ms()),
        key: None,
        value: Some(value.as_bytes()),
        headers: &[],
    };
    builder.append(record).expect("it fits");
    builder.build().to_bytes()
}

fn now_ms() -> i64 {
    let since = SystemTime::UNIX_EPOCH.elapsed();
    since.expect("a clock after 1970").as_millis() as i64
}

fn fetch_request(wire: &mut Wire, topic: &str, offset: i64, isolation: i8) -> FetchRequest {
    FetchRequest {
        max_bytes: 10 << 20,
        min_bytes: 1,
        isolation_level: isolation,
        topics: vec![FetchTopic {
            topic: Str::copy(topic),
            topic_id: wire.topic_id(topic),
            partitions: vec![FetchPartition {
                fetch_offset: offset,
                partition_max_bytes: 1 << 20,
                ..Default::default()
            }],
        }],
        ..Default::default()
    }
}

/// Values that a consumer gets, which leaves out what was aborted as consumers do.
fn values(data: &PartitionData) -> Vec<String> {
    let Some(Records::Bytes(bytes)) = &data.records else {
        return Vec::new();
    };
    let mut aborted: Vec<(i64, i64)> = data
        .aborted_transactions
        .iter()
        .flatten()
        .map(|a| (a.producer_id, a.first_offset))
        .collect();
    let mut found = Vec::new();
    for batch in batches(bytes.clone()) {
        let batch = batch.expect("a batch");
        let (id, base) = (batch.header().producer_id(), batch.header().base_offset());
        if batch.header().is_control() {
            aborted.retain(|(of, first)| *of != id || Offset(*first) > base);
            continue;
        }
        let left_out = batch.header().is_transactional()
            && aborted
                .iter()
                .any(|(of, first)| *of == id && Offset(*first) <= base);
        if left_out {
            continue;
        }
        for record in batch.records(Default::default()) {
            let value = record.expect("a record").value.expect("a value");
            found.push(String::from_utf8(value.to_vec()).expect("text"));
        }
    }
    found
}

fn read(wire: &mut Wire, topic: &str, isolation: i8) -> Vec<String> {
    let request = fetch_request(wire, topic, 0, isolation);
    let answer = wire.call(&request, 17);
    let data = &answer.responses[0].partitions[0];
    assert_eq!(data.error_code, 0);
    values(data)
}

fn committed(wire: &mut Wire, topic: &str) -> Vec<String> {
    read(wire, topic, READ_COMMITTED)
}

fn last_stable(wire: &mut Wire, topic: &str) -> i64 {
    let request = ListOffsetsRequest {
        replica_id: -1,
        isolation_level: READ_COMMITTED,
        topics: vec![ListOffsetsTopic {
            name: Str::copy(topic),
            partitions: vec![ListOffsetsPartition {
                timestamp: -1,
                ..Default::default()
            }],
        }],
        ..Default::default()
    };
    wire.call(&request, 8).topics[0].partitions[0].offset
}

/// Error code and offset of the group.
fn offset_of(wire: &mut Wire, topic: &str, require_stable: bool) -> (i16, i64) {
    let request = OffsetFetchRequest {
        groups: vec![OffsetFetchRequestGroup {
            group_id: "copiers".into(),
            topics: Some(vec![OffsetFetchRequestTopics {
                name: Str::copy(topic),
                partition_indexes: vec![0],
                ..Default::default()
            }]),
            ..Default::default()
        }],
        require_stable,
        ..Default::default()
    };
    let answer = wire.call(&request, 8);
    let group = &answer.groups[0];
    assert_eq!(group.error_code, 0);
    let partition = &group.topics[0].partitions[0];
    (partition.error_code, partition.committed_offset)
}

fn state(wire: &mut Wire, name: &str) -> String {
    let request = DescribeTransactionsRequest {
        transactional_ids: vec![Str::copy(name)],
    };
    let answer = eventually("a description", || {
        let answer = wire.call(&request, 0).transaction_states.remove(0);
        (!is_temporary(answer.error_code)).then_some(answer)
    });
    match ErrorCode::from_code(answer.error_code) {
        Some(ErrorCode::None) => answer.transaction_state.to_string(),
        other => format!("{other:?}"),
    }
}

fn ends(wire: &mut Wire, name: &str, with: &str) {
    eventually(with, || (state(wire, name) == with).then_some(()));
}

#[test]
fn readers_of_committed_records_see_transactions_whole_or_not_at_all() {
    for versions in [OLD, NEW] {
        let home = soon_back();
        let node = home.start();
        let mut wire = Wire::connect(&node.address);
        wire.create_topic("in", 1, &[]);
        wire.create_topic("out", 1, &[]);
        let mut producer = Producer::start(&node, "copier", versions, 60_000);
        producer.sent("out", "a");
        producer.sent("in", "a");
        assert_eq!(committed(&mut wire, "out"), [""; 0]);
        assert_eq!(read(&mut wire, "out", 0), ["a"]);
        assert_eq!((last_stable(&mut wire, "out"), wire.log_end("out")), (0, 1));
        // A reader that waits is woken by the end.
        let mut waiting = fetch_request(&mut wire, "out", 0, READ_COMMITTED);
        waiting.max_wait_ms = 120_000;
        let mut reader = Wire::connect(&node.address);
        reader.send(&waiting, 17);
        assert_eq!(producer.commit_offset("in", 1), 0);
        assert_eq!(offset_of(&mut wire, "in", false), (0, -1));
        let unstable = ErrorCode::UnstableOffsetCommit.code();
        assert_eq!(offset_of(&mut wire, "in", true).0, unstable);
        assert_eq!(producer.end(true), 0);
        let found = reader.receive::<FetchRequest>(17);
        assert_eq!(values(&found.responses[0].partitions[0]), ["a"]);
        ends(&mut wire, "copier", "CompleteCommit");
        assert_eq!(offset_of(&mut wire, "in", true), (0, 1));
        assert_eq!(last_stable(&mut wire, "out"), 2);
        // The next is aborted.
        producer.sent("out", "b");
        assert_eq!(producer.commit_offset("in", 2), 0);
        assert_eq!(producer.end(false), 0);
        ends(&mut wire, "copier", "CompleteAbort");
        producer.sent("out", "c");
        assert_eq!(producer.end(true), 0);
        ends(&mut wire, "copier", "CompleteCommit");
        assert_eq!(committed(&mut wire, "out"), ["a", "c"]);
        assert_eq!(read(&mut wire, "out", 0), ["a", "b", "c"]);
        assert_eq!(offset_of(&mut wire, "in", true), (0, 1));
        node.kill();
        let node = home.start();
        let mut wire = Wire::connect(&node.address);
        wire.log_end("out");
        assert_eq!(committed(&mut wire, "out"), ["a", "c"]);
    }
    println!("transactions: 2 protocols, 6 transactions, 2 kills");
}

#[test]
fn a_fenced_producer_can_do_nothing() {
    let home = Home::new();
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    wire.create_topic("t", 1, &[]);
    for (name, versions) in [("old", OLD), ("new", NEW)] {
        let mut first = Producer::start(&node, name, versions, 60_000);
        first.sent("t", "lost");
        let mut second = Producer::start(&node, name, versions, 60_000);
        assert!(second.epoch > first.epoch);
        // What the first left open is over.
        ends(&mut wire, name, "Empty");
        let epoch = ErrorCode::InvalidProducerEpoch.code();
        let fenced = ErrorCode::ProducerFenced.code();
        assert_eq!(first.send("t", "zombie").error_code, epoch);
        assert_eq!(first.end(true), fenced);
        assert_eq!(first.add("t"), fenced);
        second.sent("t", name);
        assert_eq!(second.end(true), 0);
        ends(&mut wire, name, "CompleteCommit");
    }
    assert_eq!(committed(&mut wire, "t"), ["old", "new"]);
    // An end of the transaction before changes nothing in the next.
    let mut producer = Producer::start(&node, "late", NEW, 60_000);
    producer.sent("t", "one");
    let late = EndTxnRequest {
        transactional_id: "late".into(),
        producer_id: producer.id,
        producer_epoch: producer.epoch,
        committed: false,
    };
    assert_eq!(producer.end(true), 0);
    producer.sent("t", "two");
    let answer = wire.call(&late, 5);
    assert_eq!(answer.error_code, ErrorCode::ProducerFenced.code());
    assert_eq!(state(&mut wire, "late"), "Ongoing");
    assert_eq!(producer.end(true), 0);
    ends(&mut wire, "late", "CompleteCommit");
    assert_eq!(committed(&mut wire, "t"), ["old", "new", "one", "two"]);
    println!("transactions: 2 fenced, 1 late end");
}

#[test]
fn a_batch_outside_of_its_transaction_is_refused() {
    let home = Home::new();
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    wire.create_topic("t", 1, &[]);
    let mut old = Producer::start(&node, "old", OLD, 60_000);
    let refused = old.send("t", "not added");
    assert_eq!(refused.error_code, ErrorCode::InvalidTxnState.code());
    assert_eq!(refused.base_offset, -1);
    old.versions.0 = 11;
    let refused = old.send("t", "not added");
    assert_eq!(refused.error_code, ErrorCode::TransactionAbortable.code());
    assert_eq!(wire.log_end("t"), 0);
    let unknown = EndTxnRequest {
        transactional_id: "nobody".into(),
        producer_id: old.id,
        ..Default::default()
    };
    let mapping = ErrorCode::InvalidProducerIdMapping.code();
    assert_eq!(wire.call(&unknown, 5).error_code, mapping);
    node.stop();
    // Without verification the batch is taken, and the partition waits for an end that nobody will decide.
    let home = home.with("transaction.partition.verification.enable", "false");
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    wire.log_end("t");
    let mut old = Producer::start(&node, "old", OLD, 60_000);
    assert_eq!(old.send("t", "hanging").error_code, 0);
    assert_eq!((last_stable(&mut wire, "t"), wire.log_end("t")), (0, 1));
    let hanging = DescribeProducersRequest {
        topics: vec![TopicRequest {
            name: "t".into(),
            partition_indexes: vec![0],
        }],
    };
    let answer = wire.call(&hanging, 0);
    let producers = &answer.topics[0].partitions[0].active_producers;
    assert_eq!(producers[0].producer_id, old.id);
    assert_eq!(producers[0].current_txn_start_offset, 0);
    println!("transactions: 3 refused, 1 hanging");
}

#[test]
fn a_decided_transaction_is_completed_after_a_crash() {
    let home = soon_back().with("transaction.state.log.num.partitions", "1");
    let home = home.with("transaction.state.log.load.buffer.size", "200");
    let mut seen = 0;
    for (committed_before, name) in [(true, "kept"), (false, "dropped")] {
        let node = home.start();
        let mut wire = Wire::connect(&node.address);
        if committed_before {
            wire.create_topic("t", 1, &[]);
        }
        wire.log_end("t");
        let mut producer = Producer::start(&node, name, NEW, 60_000);
        producer.sent("t", name);
        assert_eq!(producer.end(committed_before), 0);
        let state = if committed_before {
            "CompleteCommit"
        } else {
            "CompleteAbort"
        };
        ends(&mut wire, name, state);
        let (epoch, sequence) = (producer.epoch, 0);
        drop((wire, producer));
        node.kill();
        // As if the crash had come before the markers: neither they nor the word of their end are in the logs.
        cut_last_batch(&home.partition_file("t", ".log"));
        cut_last_batch(&home.partition_file("__transaction_state", ".log"));
        let node = home.start();
        let mut wire = Wire::connect(&node.address);
        wire.log_end("t");
        ends(&mut wire, name, state);
        seen += 1;
        let all = committed(&mut wire, "t");
        assert_eq!(all, ["kept"], "{epoch} {sequence}");
        assert_eq!(last_stable(&mut wire, "t"), 2 * seen);
        node.stop();
    }
    println!("transactions: {seen} crashes between decision and markers");
}

/// Takes the last batch from a segment.
fn cut_last_batch(path: &Path) {
    let bytes = Bytes::from(fs::read(path).expect("a segment"));
    let last = batches(bytes.clone())
        .map_while(Result::ok)
        .last()
        .expect("a batch");
    let length = bytes.len() as u64 - last.bytes().len() as u64;
    let file = OpenOptions::new()
        .write(true)
        .open(path)
        .expect("the segment");
    file.set_len(length).expect("it is cut");
}

#[test]
fn an_open_transaction_ends_after_its_timeout() {
    let home = Home::new()
        .with("transaction.max.timeout.ms", "30000")
        .with(
            "transaction.abort.timed.out.transaction.cleanup.interval.ms",
            "50",
        )
        .with("transaction.state.log.num.partitions", "1")
        .with("transaction.state.log.segment.bytes", "1048576");
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    wire.create_topic("t", 1, &[]);
    let mut producer = Producer::start(&node, "slow", NEW, 300);
    let too_long = wire.call(&init_request("slow", 30_001), 5);
    assert_eq!(
        too_long.error_code,
        ErrorCode::InvalidTransactionTimeout.code()
    );
    producer.sent("t", "late");
    ends(&mut wire, "slow", "CompleteAbort");
    assert_eq!(last_stable(&mut wire, "t"), 2);
    assert_eq!(committed(&mut wire, "t"), [""; 0]);
    let fenced = producer.send("t", "zombie");
    assert_eq!(fenced.error_code, ErrorCode::InvalidProducerEpoch.code());
    assert_ne!(producer.end(true), 0);
    println!("transactions: 1 timeout");
}

#[test]
fn an_unused_transactional_id_is_forgotten() {
    let home = Home::new()
        .with("transactional.id.expiration.ms", "300")
        .with(
            "transaction.remove.expired.transaction.cleanup.interval.ms",
            "50",
        );
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    let producer = Producer::start(&node, "once", NEW, 60_000);
    ends(&mut wire, "once", "Some(TransactionalIdNotFound)");
    let all = ListTransactionsRequest {
        duration_filter: -1,
        ..Default::default()
    };
    assert_eq!(wire.call(&all, 1).transaction_states, []);
    let again = Producer::start(&node, "once", NEW, 60_000);
    assert!((again.id, again.epoch) != (producer.id, producer.epoch));
    println!("transactions: 1 id forgotten");
}
