//! An idempotent producer (acks=all): sends every batch until it is acknowledged, several at a time in order.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use milena_base::{ErrorCode, Timestamp, TopicIdPartition};
use milena_broker::Answered;
use milena_protocol::produce_request::{PartitionProduceData, TopicProduceData};
use milena_protocol::produce_response::PartitionProduceResponse;
use milena_protocol::{InitProducerIdRequest, ProduceRequest, Records};
use milena_records::{BatchBuilder, Compression, NewRecord};

use super::{AGAIN, Actor, Cx, METADATA_TAG, View};
use crate::atlas::{Atlas, Check, broken};
use crate::plan::{MILLI, Time};

const INIT_TAG: u64 = u64::MAX - 1;
const INIT_VERSION: i16 = 4;
/// The first version that names topics by their ids.
const PRODUCE_VERSION: i16 = 13;
const RECORDS_MAX: u64 = 4;

struct Batch {
    sequence: i32,
    values: Vec<u64>,
    bytes: Bytes,
    /// Under way with this tag.
    tag: Option<u64>,
    acked: bool,
}

#[derive(Default)]
struct Lane {
    next_sequence: i32,
    batches: VecDeque<Batch>,
    /// Something failed: everything is sent again in order, once nothing is under way.
    broken: bool,
    again_at: Time,
}

impl Lane {
    fn under_way(&self) -> usize {
        self.batches.iter().filter(|b| b.tag.is_some()).count()
    }

    fn forget_acked(&mut self) {
        while self
            .batches
            .front()
            .is_some_and(|b| b.acked && b.tag.is_none())
        {
            self.batches.pop_front();
        }
    }
}

/// See the module's words.
pub struct Producer {
    brokers: Vec<usize>,
    topics: Vec<String>,
    view: View,
    id: Option<(i64, i16)>,
    init_asked: bool,
    lanes: BTreeMap<TopicIdPartition, Lane>,
    /// Batches to be made.
    left: u64,
    next_value: u64,
    next_tag: u64,
    in_flight_max: usize,
    pause: Time,
    next_at: Time,
    wake: Time,
    acked: u64,
}

impl Producer {
    /// Values count up from `first_value`.
    pub fn new(
        brokers: Vec<usize>,
        topics: Vec<String>,
        batches: u64,
        in_flight_max: usize,
        first_value: u64,
    ) -> Producer {
        Producer {
            brokers,
            topics,
            view: View::default(),
            id: None,
            init_asked: false,
            lanes: BTreeMap::new(),
            left: batches,
            next_value: first_value,
            next_tag: 0,
            in_flight_max,
            pause: 30_000 * MILLI / batches.max(1),
            next_at: 0,
            wake: 0,
            acked: 0,
        }
    }

    fn make(&mut self, cx: &mut Cx<'_>) {
        if cx.now < self.next_at {
            return;
        }
        self.next_at = cx.now + MILLI + cx.prng.below(2 * self.pause + 1);
        let partitions: Vec<TopicIdPartition> = self.targets().collect();
        let Some((id, epoch)) = self.id.filter(|_| !partitions.is_empty() && self.left > 0) else {
            return;
        };
        let target = partitions[cx.prng.below(partitions.len() as u64) as usize];
        let lane = self.lanes.entry(target).or_default();
        if lane.batches.len() >= self.in_flight_max {
            return;
        }
        self.left -= 1;
        let count = 1 + cx.prng.below(RECORDS_MAX);
        let values: Vec<u64> = (0..count).map(|at| self.next_value + at).collect();
        self.next_value += count;
        let sequence = lane.next_sequence;
        lane.next_sequence += count as i32;
        let mut builder = BatchBuilder::new(Compression::None).producer(id, epoch, sequence);
        for value in &values {
            let record = NewRecord {
                timestamp: Timestamp(1_795_440_000_000),
                value: Some(&value.to_be_bytes()),
                ..NewRecord::default()
            };
            builder.append(record).expect("a small record");
        }
        lane.batches.push_back(Batch {
            sequence,
            values,
            bytes: builder.build().to_bytes(),
            tag: None,
            acked: false,
        });
    }

    fn targets(&self) -> impl Iterator<Item = TopicIdPartition> {
        let ids = self
            .topics
            .iter()
            .filter_map(|name| self.view.ids.get(name));
        let ids: Vec<_> = ids.copied().collect();
        let all = self.view.leaders.keys().copied();
        all.filter(move |target| ids.contains(&target.topic_id))
    }

    fn send(&mut self, cx: &mut Cx<'_>) {
        for (target, lane) in &mut self.lanes {
            if lane.broken {
                if lane.under_way() > 0 || cx.now < lane.again_at {
                    continue;
                }
                lane.broken = false;
            }
            let Some((leader, _)) = self.view.leaders.get(target) else {
                continue;
            };
            for batch in lane
                .batches
                .iter_mut()
                .filter(|b| b.tag.is_none() && !b.acked)
            {
                let tag = self.next_tag;
                self.next_tag += 1;
                batch.tag = Some(tag);
                cx.ask(*leader, request(*target, batch), PRODUCE_VERSION, tag);
            }
        }
    }

    fn produced(&mut self, tag: u64, answer: Option<Answered>, cx: &mut Cx<'_>) -> Check {
        let has = |lane: &Lane| lane.batches.iter().position(|b| b.tag == Some(tag));
        let Some((target, at)) = self.lanes.iter().find_map(|(t, l)| Some((*t, has(l)?))) else {
            return Ok(());
        };
        let lane = self.lanes.get_mut(&target).expect("it was just found");
        lane.batches[at].tag = None;
        let decoded = answer.map(Answered::decode::<ProduceRequest>);
        let told = match decoded {
            Some(Ok(response)) => response
                .responses
                .into_iter()
                .flat_map(|topic| topic.partition_responses)
                .next(),
            Some(Err(_)) | None => None,
        };
        let code = told.as_ref().map(|told| told.error_code);
        match (told, code.and_then(ErrorCode::from_code)) {
            (Some(told), Some(ErrorCode::None)) => return self.acknowledged(target, at, &told, cx),
            (_, Some(ErrorCode::DuplicateSequenceNumber)) => {
                lane.batches[at].acked = true;
                lane.forget_acked();
            }
            (_, Some(code)) if is_lost(code) && at == 0 => {
                return broken(
                    "sequences-go-on",
                    format!("{} for sequence {}", code.name(), lane.batches[at].sequence),
                );
            }
            (_, code) => {
                if let Some(code) = code {
                    cx.note(format!(
                        "{} for sequence {}",
                        code.name(),
                        lane.batches[at].sequence
                    ));
                }
                lane.broken = true;
                lane.again_at = cx.now + AGAIN;
                self.view.doubt();
            }
        }
        Ok(())
    }

    fn acknowledged(
        &mut self,
        target: TopicIdPartition,
        at: usize,
        told: &PartitionProduceResponse,
        cx: &mut Cx<'_>,
    ) -> Check {
        let lane = self.lanes.get_mut(&target).expect("its batch was found");
        let batch = &mut lane.batches[at];
        batch.acked = true;
        self.acked += batch.values.len() as u64;
        let stored = cx
            .atlas
            .acknowledged(target, told.base_offset, &batch.values);
        lane.forget_acked();
        stored
    }
}

/// The broker says that the sequence does not follow what it has.
fn is_lost(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::OutOfOrderSequenceNumber | ErrorCode::UnknownProducerId
    )
}

fn request(target: TopicIdPartition, batch: &Batch) -> ProduceRequest {
    let data = PartitionProduceData {
        index: target.partition,
        records: Some(Records::Bytes(batch.bytes.clone())),
    };
    ProduceRequest {
        transactional_id: None,
        acks: -1,
        timeout_ms: 3000,
        topic_data: vec![TopicProduceData {
            topic_id: target.topic_id,
            partition_data: vec![data],
            ..TopicProduceData::default()
        }],
    }
}

impl Actor for Producer {
    fn tick(&mut self, cx: &mut Cx<'_>) -> Check {
        self.view.refresh(&self.brokers, cx);
        if self.id.is_none() && !self.init_asked {
            self.init_asked = true;
            let node = cx.any(&self.brokers);
            let request = InitProducerIdRequest {
                transactional_id: None,
                transaction_timeout_ms: 60_000,
                producer_id: -1,
                producer_epoch: -1,
                ..InitProducerIdRequest::default()
            };
            cx.ask(node, request, INIT_VERSION, INIT_TAG);
        }
        self.make(cx);
        self.send(cx);
        self.wake = (cx.now + AGAIN).min(self.next_at.max(cx.now + MILLI));
        Ok(())
    }

    fn answered(&mut self, tag: u64, answer: Option<Answered>, cx: &mut Cx<'_>) -> Check {
        match tag {
            METADATA_TAG => self.view.learn(answer, cx.now),
            INIT_TAG => {
                self.init_asked = false;
                let decoded = answer.map(Answered::decode::<InitProducerIdRequest>);
                match decoded {
                    Some(Ok(response)) if response.error_code == 0 => {
                        self.id = Some((response.producer_id, response.producer_epoch));
                    }
                    other => cx.note(format!("no producer id: {other:?}")),
                }
            }
            tag => self.produced(tag, answer, cx)?,
        }
        self.send(cx);
        Ok(())
    }

    fn wakes_at(&self) -> Time {
        self.wake
    }

    fn unfinished(&self, _: &Atlas) -> Option<String> {
        let waiting: usize = self.lanes.values().map(|lane| lane.batches.len()).sum();
        let left = self.left + waiting as u64;
        (left > 0).then(|| format!("{left} batches are not acknowledged"))
    }

    fn done(&self) -> u64 {
        self.acked
    }
}
