//! Producers: one that is only idempotent, and one with transactions that also reads in them.

use std::collections::BTreeMap;

use bytes::Bytes;
use milena_base::{ErrorCode, Prng, Timestamp};
use milena_protocol::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use milena_protocol::produce_request::{PartitionProduceData, TopicProduceData};
use milena_protocol::{
    AddPartitionsToTxnRequest, EndTxnRequest, InitProducerIdRequest, ProduceRequest, Records, Str,
};
use milena_records::{BatchBuilder, Codec, NewRecord};
use milena_testkit::history::{Outcome, Step};

use super::line::{Line, To, is_temporary};
use super::readers::Positions;
use super::{PARTITIONS, TOPIC, World};
use crate::transactional::now_ms;

/// Sends batches, each again until it is acknowledged.
pub fn idempotent(world: &World, process: u32, mut prng: Prng) {
    let mut producer = Producer::new(world, None);
    producer.init();
    while world.is_writing() {
        let began = world.now();
        let partition = prng.below(PARTITIONS as u64) as u32;
        let values: Vec<u64> = (0..1 + prng.below(3)).map(|_| world.value()).collect();
        let (code, base) = producer.send(partition, &values);
        // The batch was there, and the node does not know any more at which offset.
        let is_known = code == 0 && base >= 0;
        let is_repeat = code == ErrorCode::DuplicateSequenceNumber.code();
        assert!(is_known || is_repeat, "produce: error {code}");
        let sent = sent(partition, &values, is_known.then_some(base));
        world.note(process, began, Outcome::Ok, sent);
    }
}

/// One transaction after the other, of sends and polls; most are committed.
pub fn transactional(world: &World, process: u32, mut prng: Prng) {
    let mut producer = Producer::new(world, Some(format!("writer-{process}")));
    producer.init();
    let mut positions = Positions::default();
    while world.is_writing() {
        let began = world.now();
        let before = positions.clone();
        let mut steps = Vec::new();
        let mut is_good = true;
        for _ in 0..1 + prng.below(5) {
            let partition = prng.below(PARTITIONS as u64) as u32;
            is_good = match prng.chance(1, 3) {
                true => {
                    steps.extend(positions.poll(&mut producer.line, world, &[partition]));
                    true
                }
                false => producer.send_in_transaction(world, partition, &mut prng, &mut steps),
            };
            if !is_good {
                break;
            }
        }
        let outcome = producer.end(is_good, &mut prng, &steps);
        world.note(process, began, outcome, steps);
        if outcome != Outcome::Ok {
            positions = before;
            let began = world.now();
            let seeks = (0..PARTITIONS as u32).map(|partition| Step::Seek { partition });
            world.note(process, began, Outcome::Ok, seeks.collect());
        }
        if outcome == Outcome::Unknown || producer.is_abandoned {
            producer.start_again(world, process, &mut prng);
        }
    }
}

struct Producer<'a> {
    line: Line<'a>,
    versions: (i16, i16),
    transactional_id: Option<String>,
    id: i64,
    epoch: i16,
    sequences: BTreeMap<u32, i32>,
    /// It has left its transaction open.
    is_abandoned: bool,
}

impl<'a> Producer<'a> {
    fn new(world: &'a World, transactional_id: Option<String>) -> Producer<'a> {
        Producer {
            line: Line::new(world),
            versions: world.versions,
            transactional_id,
            id: -1,
            epoch: -1,
            sequences: BTreeMap::new(),
            is_abandoned: false,
        }
    }

    fn name(&self) -> Str {
        Str::copy(self.transactional_id.as_deref().unwrap_or_default())
    }

    /// Who gives producer ids and decides about transactions.
    fn coordinator(&self) -> To {
        match &self.transactional_id {
            Some(name) => To::Coordinator(name.clone()),
            None => To::Any,
        }
    }

    fn init(&mut self) {
        let request = InitProducerIdRequest {
            transactional_id: self.transactional_id.as_deref().map(Str::copy),
            transaction_timeout_ms: 60_000,
            producer_id: -1,
            producer_epoch: -1,
            ..Default::default()
        };
        let to = self.coordinator();
        (self.id, self.epoch) = self.line.insist(&to, &request, 5, |answer| {
            let code = answer.error_code;
            assert!(code == 0 || is_temporary(code), "init: error {code}");
            (code == 0).then_some((answer.producer_id, answer.producer_epoch))
        });
        self.sequences.clear();
        self.is_abandoned = false;
    }

    /// Error code and base offset of a batch.
    fn send(&mut self, partition: u32, values: &[u64]) -> (i16, i64) {
        let sequence = self.sequences.get(&partition).copied().unwrap_or(0);
        let request = self.produce(partition, self.batch(sequence, values));
        let (to, version) = (To::Leader(partition), self.versions.0);
        let (code, base) = self.line.insist(&to, &request, version, |answer| {
            let partition = &answer.responses[0].partition_responses[0];
            let code = partition.error_code;
            (!is_temporary(code)).then_some((code, partition.base_offset))
        });
        if code == 0 {
            let next = sequence + values.len() as i32;
            self.sequences.insert(partition, next);
        }
        (code, base)
    }

    fn batch(&self, sequence: i32, values: &[u64]) -> Bytes {
        let builder = BatchBuilder::new(Codec::NONE).producer(self.id, self.epoch, sequence);
        let mut builder = builder.transactional(self.transactional_id.is_some());
        for value in values {
            let value = value.to_string();
            let record = NewRecord {
                timestamp: Timestamp(now_ms()),
                key: None,
                value: Some(value.as_bytes()),
                headers: &[],
            };
            builder.append(record).expect("it fits");
        }
        builder.build().to_bytes()
    }

    fn produce(&self, partition: u32, records: Bytes) -> ProduceRequest {
        ProduceRequest {
            transactional_id: self.transactional_id.as_deref().map(Str::copy),
            acks: -1,
            timeout_ms: 30_000,
            topic_data: vec![TopicProduceData {
                name: TOPIC.into(),
                partition_data: vec![PartitionProduceData {
                    index: partition as i32,
                    records: Some(Records::Bytes(records)),
                }],
                ..Default::default()
            }],
        }
    }

    /// Whether the transaction can go on.
    fn send_in_transaction(
        &mut self,
        world: &World,
        partition: u32,
        prng: &mut Prng,
        steps: &mut Vec<Step>,
    ) -> bool {
        if self.versions.1 < 5 {
            self.add(partition);
        }
        let values: Vec<u64> = (0..1 + prng.below(2)).map(|_| world.value()).collect();
        let (code, base) = self.send(partition, &values);
        steps.extend(sent(partition, &values, (code == 0).then_some(base)));
        code == 0
    }

    /// Adds a partition to the transaction, as clients before KIP-890 do.
    fn add(&mut self, partition: u32) {
        let request = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: self.name(),
            v3_and_below_producer_id: self.id,
            v3_and_below_producer_epoch: self.epoch,
            v3_and_below_topics: vec![AddPartitionsToTxnTopic {
                name: TOPIC.into(),
                partitions: vec![partition as i32],
            }],
            ..Default::default()
        };
        self.line
            .insist(&self.coordinator(), &request, 3, |answer| {
                let topics = answer.results_by_topic_v3_and_below;
                let code = topics[0].results_by_partition[0].partition_error_code;
                assert!(code == 0 || is_temporary(code), "add: error {code}");
                (code == 0).then_some(())
            });
    }

    /// Ends the transaction one way or the other, or leaves it open.
    fn end(&mut self, is_good: bool, prng: &mut Prng, steps: &[Step]) -> Outcome {
        let wrote = steps.iter().any(|step| matches!(step, Step::Send { .. }));
        if !wrote {
            return Outcome::Ok;
        }
        self.is_abandoned = !is_good || prng.chance(1, 12);
        if self.is_abandoned {
            return Outcome::Failed;
        }
        let committed = prng.chance(4, 5);
        let request = EndTxnRequest {
            transactional_id: self.name(),
            producer_id: self.id,
            producer_epoch: self.epoch,
            committed,
        };
        let (to, version) = (self.coordinator(), self.versions.1);
        let answer = self.line.insist(&to, &request, version, |answer| {
            (!is_temporary(answer.error_code)).then_some(answer)
        });
        if answer.error_code != 0 {
            return Outcome::Unknown;
        }
        if version >= 5 {
            self.epoch = answer.producer_epoch;
            self.id = answer.producer_id;
            self.sequences.clear();
        }
        match committed {
            true => Outcome::Ok,
            false => Outcome::Failed,
        }
    }

    /// As a client that was started again; sometimes the one before is not dead, and sends once more.
    fn start_again(&mut self, world: &World, process: u32, prng: &mut Prng) {
        let partition = prng.below(PARTITIONS as u64) as u32;
        let values = [world.value()];
        let sequence = self.sequences.get(&partition).copied().unwrap_or(0);
        let late = self.produce(partition, self.batch(sequence, &values));
        self.init();
        if prng.chance(1, 2) {
            let began = world.now();
            let (to, version) = (To::Leader(partition), self.versions.0);
            self.line.insist(&to, &late, version, |answer| {
                let code = answer.responses[0].partition_responses[0].error_code;
                assert_ne!(code, 0, "a fenced producer appends");
                (!is_temporary(code)).then_some(())
            });
            // Of a process of its own: its sends are in no order with the others.
            let steps = sent(partition, &values, None);
            world.note(process + 100, began, Outcome::Failed, steps);
        }
    }
}

fn sent(partition: u32, values: &[u64], base: Option<i64>) -> Vec<Step> {
    let at = |(index, value): (usize, &u64)| Step::Send {
        partition,
        value: *value,
        offset: base.map(|base| base + index as i64),
    };
    values.iter().enumerate().map(at).collect()
}
