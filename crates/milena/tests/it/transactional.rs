//! A transactional producer and a reader of committed records over raw sockets.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use milena_base::{ErrorCode, Offset, Timestamp};
use milena_protocol::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use milena_protocol::fetch_request::{FetchPartition, FetchTopic};
use milena_protocol::fetch_response::PartitionData;
use milena_protocol::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use milena_protocol::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use milena_protocol::produce_response::PartitionProduceResponse;
use milena_protocol::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use milena_protocol::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, DescribeTransactionsRequest, EndTxnRequest,
    FetchRequest, FindCoordinatorRequest, InitProducerIdRequest, ListOffsetsRequest,
    OffsetFetchRequest, ProduceRequest, Records, Str, TxnOffsetCommitRequest,
};
use milena_records::{BatchBuilder, Codec, NewRecord, batches};

use crate::node::Node;
use crate::wire::{Wire, produce};

pub const IN_TIME: Duration = Duration::from_secs(20);
pub const READ_COMMITTED: i8 = 1;
/// Produce and EndTxn of a client that knows KIP-890 in full, and of one that does not.
pub const NEW: (i16, i16) = (12, 5);
pub const OLD: (i16, i16) = (9, 3);

/// Tries until it gives something.
pub fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
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
pub fn is_temporary(code: i16) -> bool {
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
pub struct Producer {
    /// To the leader of what it writes to.
    pub wire: Wire,
    /// To the coordinator of its transactions.
    pub coordinator: Wire,
    pub group: String,
    pub name: &'static str,
    pub id: i64,
    pub epoch: i16,
    /// The next sequence by topic.
    sequences: BTreeMap<String, i32>,
    pub versions: (i16, i16),
}

impl Producer {
    pub fn start(
        node: &Node,
        name: &'static str,
        versions: (i16, i16),
        timeout_ms: i32,
    ) -> Producer {
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
        drop(wire);
        let wires = [(); 2].map(|()| Wire::connect(&node.address));
        Producer::of(wires, name, "copiers", versions, timeout_ms)
    }

    /// `wires`: to the leader of what it writes and of the group's offsets, and to the coordinator of its transactions.
    pub fn of(
        wires: [Wire; 2],
        name: &'static str,
        group: &str,
        versions: (i16, i16),
        timeout_ms: i32,
    ) -> Producer {
        let [wire, mut coordinator] = wires;
        let (id, epoch) = init(&mut coordinator, name, timeout_ms);
        Producer {
            wire,
            coordinator,
            group: group.into(),
            name,
            id,
            epoch,
            sequences: BTreeMap::new(),
            versions,
        }
    }

    pub fn is_new(&self) -> bool {
        self.versions == NEW
    }

    pub fn add(&mut self, topic: &str) -> i16 {
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
            let answer = self.coordinator.call(&request, 3);
            let topics = answer.results_by_topic_v3_and_below;
            let code = topics[0].results_by_partition[0].partition_error_code;
            (!is_temporary(code)).then_some(code)
        })
    }

    /// One record, in a transaction that an old producer has begun by then.
    pub fn send(&mut self, topic: &str, value: &str) -> PartitionProduceResponse {
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

    pub fn produce(&mut self, topic: &str, records: Bytes) -> PartitionProduceResponse {
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

    pub fn sent(&mut self, topic: &str, value: &str) {
        if !self.is_new() {
            assert_eq!(self.add(topic), 0);
        }
        let answer = self.send(topic, value);
        assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
    }

    /// The error code; a new epoch is taken over.
    pub fn end(&mut self, committed: bool) -> i16 {
        let request = EndTxnRequest {
            transactional_id: self.name.into(),
            producer_id: self.id,
            producer_epoch: self.epoch,
            committed,
        };
        let version = self.versions.1;
        let answer = eventually("an end", || {
            let answer = self.coordinator.call(&request, version);
            (!is_temporary(answer.error_code)).then_some(answer)
        });
        if version >= 5 && answer.error_code == 0 {
            assert_eq!(answer.producer_epoch, self.epoch + 1);
            self.epoch = answer.producer_epoch;
            self.sequences.clear();
        }
        answer.error_code
    }

    pub fn commit_offset(&mut self, topic: &str, offset: i64) -> i16 {
        if !self.is_new() {
            let request = AddOffsetsToTxnRequest {
                transactional_id: self.name.into(),
                producer_id: self.id,
                producer_epoch: self.epoch,
                group_id: Str::copy(&self.group),
            };
            assert_eq!(self.coordinator.call(&request, 3).error_code, 0);
        }
        let request = TxnOffsetCommitRequest {
            transactional_id: self.name.into(),
            group_id: Str::copy(&self.group),
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
pub fn init(wire: &mut Wire, name: &str, timeout_ms: i32) -> (i64, i16) {
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

pub fn init_request(name: &str, timeout_ms: i32) -> InitProducerIdRequest {
    InitProducerIdRequest {
        transactional_id: Some(Str::copy(name)),
        transaction_timeout_ms: timeout_ms,
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    }
}

pub fn batch(id: i64, epoch: i16, sequence: i32, value: &str) -> Bytes {
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

pub fn now_ms() -> i64 {
    let since = SystemTime::UNIX_EPOCH.elapsed();
    since.expect("a clock after 1970").as_millis() as i64
}

pub fn fetch_request(wire: &mut Wire, topic: &str, offset: i64, isolation: i8) -> FetchRequest {
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
pub fn values(data: &PartitionData) -> Vec<String> {
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

pub fn read(wire: &mut Wire, topic: &str, isolation: i8) -> Vec<String> {
    let request = fetch_request(wire, topic, 0, isolation);
    let answer = wire.call(&request, 17);
    let data = &answer.responses[0].partitions[0];
    assert_eq!(data.error_code, 0);
    values(data)
}

pub fn committed(wire: &mut Wire, topic: &str) -> Vec<String> {
    read(wire, topic, READ_COMMITTED)
}

pub fn last_stable(wire: &mut Wire, topic: &str) -> i64 {
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

/// Error code and offset of the copiers' group.
pub fn offset_of(wire: &mut Wire, topic: &str, require_stable: bool) -> (i16, i64) {
    offset_of_group(wire, "copiers", topic, require_stable)
}

pub fn offset_of_group(
    wire: &mut Wire,
    group: &str,
    topic: &str,
    require_stable: bool,
) -> (i16, i64) {
    let request = OffsetFetchRequest {
        groups: vec![OffsetFetchRequestGroup {
            group_id: Str::copy(group),
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

pub fn state(wire: &mut Wire, name: &str) -> String {
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

pub fn ends(wire: &mut Wire, name: &str, with: &str) {
    eventually(with, || (state(wire, name) == with).then_some(()));
}
