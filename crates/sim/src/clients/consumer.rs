//! A consumer without a group: reads every partition of the workload from its start to its end, in order.

use std::collections::BTreeMap;

use milena_base::{ErrorCode, TopicIdPartition};
use milena_broker::Answered;
use milena_protocol::fetch_request::{FetchPartition, FetchTopic};
use milena_protocol::fetch_response::PartitionData;
use milena_protocol::{FetchRequest, Records};
use milena_records::{Limits, batches};

use super::{AGAIN, Actor, Cx, METADATA_TAG, View};
use crate::atlas::{Atlas, Check, broken, value_of};
use crate::plan::{MILLI, Time};

const FETCH_VERSION: i16 = 16;
const BYTES_MAX: i32 = 64 * 1024;

/// See the module's words.
pub struct Consumer {
    brokers: Vec<usize>,
    topics: Vec<String>,
    view: View,
    /// Next offset of each partition.
    positions: BTreeMap<TopicIdPartition, i64>,
    /// The node that is being asked, by the request's tag.
    asked: BTreeMap<u64, usize>,
    next_tag: u64,
    wake: Time,
    read: u64,
}

impl Consumer {
    pub fn new(brokers: Vec<usize>, topics: Vec<String>) -> Consumer {
        Consumer {
            brokers,
            topics,
            view: View::default(),
            positions: BTreeMap::new(),
            asked: BTreeMap::new(),
            next_tag: 0,
            wake: 0,
            read: 0,
        }
    }

    fn fetch(&mut self, cx: &mut Cx<'_>) {
        let mut wanted: BTreeMap<usize, Vec<(TopicIdPartition, i32)>> = BTreeMap::new();
        let ids: Vec<_> = self
            .topics
            .iter()
            .filter_map(|t| self.view.ids.get(t))
            .collect();
        for (target, (leader, epoch)) in &self.view.leaders {
            if ids.contains(&&target.topic_id) {
                wanted.entry(*leader).or_default().push((*target, *epoch));
            }
        }
        for (leader, targets) in wanted {
            if self.asked.values().any(|node| *node == leader) {
                continue;
            }
            let request = self.request(&targets);
            self.asked.insert(self.next_tag, leader);
            cx.ask(leader, request, FETCH_VERSION, self.next_tag);
            self.next_tag += 1;
        }
    }

    fn request(&mut self, targets: &[(TopicIdPartition, i32)]) -> FetchRequest {
        let mut topics: Vec<FetchTopic> = Vec::new();
        for (target, epoch) in targets {
            let partition = FetchPartition {
                partition: target.partition,
                current_leader_epoch: *epoch,
                fetch_offset: *self.positions.entry(*target).or_default(),
                last_fetched_epoch: -1,
                log_start_offset: -1,
                partition_max_bytes: BYTES_MAX,
                ..FetchPartition::default()
            };
            match topics.last_mut().filter(|t| t.topic_id == target.topic_id) {
                Some(topic) => topic.partitions.push(partition),
                None => topics.push(FetchTopic {
                    topic_id: target.topic_id,
                    partitions: vec![partition],
                    ..FetchTopic::default()
                }),
            }
        }
        FetchRequest {
            max_wait_ms: 200,
            min_bytes: 1,
            max_bytes: BYTES_MAX,
            session_epoch: -1,
            topics,
            ..FetchRequest::default()
        }
    }

    fn take(&mut self, id: TopicIdPartition, data: PartitionData, cx: &mut Cx<'_>) -> Check {
        match ErrorCode::from_code(data.error_code) {
            Some(ErrorCode::None) => {}
            Some(ErrorCode::OffsetOutOfRange) => {
                let at = self.positions.get(&id);
                return broken("reads-go-on", format!("{at:?} of {id:?} is out of range"));
            }
            _ => {
                self.view.doubt();
                return Ok(());
            }
        }
        let Some(Records::Bytes(bytes)) = data.records else {
            return Ok(());
        };
        let position = self.positions.entry(id).or_default();
        for batch in batches(bytes) {
            let Ok(batch) = batch else {
                return broken(
                    "reads-are-valid",
                    format!("a batch at {position} of {id:?}"),
                );
            };
            if batch.check_crc().is_err() {
                return broken(
                    "reads-are-valid",
                    format!("the CRC of the batch at {position}"),
                );
            }
            for record in batch.records(Limits::default()).flatten() {
                let offset = record.offset.0;
                if offset < *position {
                    continue;
                }
                if offset != *position {
                    return broken(
                        "reads-go-on",
                        format!("{offset} of {id:?} after {position}"),
                    );
                }
                *position += 1;
                if let Some(value) = value_of(record.value.as_ref()) {
                    cx.atlas.read(id, offset, value)?;
                    self.read += 1;
                }
            }
        }
        Ok(())
    }
}

impl Actor for Consumer {
    fn tick(&mut self, cx: &mut Cx<'_>) -> Check {
        self.view.refresh(&self.brokers, cx);
        self.fetch(cx);
        self.wake = cx.now + AGAIN;
        Ok(())
    }

    fn answered(&mut self, tag: u64, answer: Option<Answered>, cx: &mut Cx<'_>) -> Check {
        if tag == METADATA_TAG {
            self.view.learn(answer, cx.now);
            return Ok(());
        }
        self.asked.remove(&tag);
        match answer.map(Answered::decode::<FetchRequest>) {
            Some(Ok(response)) if response.error_code == 0 => {
                for topic in response.responses {
                    for data in topic.partitions {
                        let id = TopicIdPartition::new(topic.topic_id, data.partition_index);
                        self.take(id, data, cx)?;
                    }
                }
            }
            _ => self.view.doubt(),
        }
        self.wake = cx.now + MILLI;
        Ok(())
    }

    fn wakes_at(&self) -> Time {
        self.wake
    }

    fn unfinished(&self, atlas: &Atlas) -> Option<String> {
        for (id, known) in &atlas.partitions {
            let last = known
                .values
                .last_key_value()
                .map_or(-1, |(offset, _)| *offset);
            let position = self.positions.get(id).copied().unwrap_or(0);
            if last >= position {
                return Some(format!("{} is read up to {position} of {last}", known.name));
            }
        }
        None
    }

    fn done(&self) -> u64 {
        self.read
    }
}
