//! Readers of committed records.

use std::collections::BTreeMap;
use std::time::Instant;

use milena_base::{Offset, Prng};
use milena_protocol::fetch_request::{FetchPartition, FetchTopic};
use milena_protocol::fetch_response::PartitionData;
use milena_protocol::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use milena_protocol::{FetchRequest, ListOffsetsRequest, Records};
use milena_records::batches;
use milena_testkit::history::{Outcome, Step};

use super::line::{Line, To};
use super::{IN_TIME, PARTITIONS, TOPIC, World};
use crate::transactional::READ_COMMITTED;

/// Polls all partitions until it is at their ends and no more is written. Now and then it goes back.
pub fn reader(world: &World, process: u32, mut prng: Prng) {
    let all: Vec<u32> = (0..PARTITIONS as u32).collect();
    let mut line = Line::new(world);
    let mut positions = Positions::default();
    let mut deadline = None;
    loop {
        let began = world.now();
        let mut steps = Vec::new();
        let ends = world.ends.lock().expect("nobody panicked").clone();
        if ends.is_none() && prng.chance(1, 60) {
            let partition = prng.below(PARTITIONS as u64) as u32;
            positions.go_back(partition, &mut prng);
            steps.push(Step::Seek { partition });
        }
        steps.extend(positions.poll(&mut line, world, &all));
        world.note(process, began, Outcome::Ok, steps);
        if let Some(ends) = ends {
            if (0..).zip(&ends).all(|(at, end)| positions.at(at) >= *end) {
                return;
            }
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + IN_TIME);
            assert!(Instant::now() < deadline, "{positions:?} of {ends:?}");
        }
        if world.is_over() {
            return;
        }
    }
}

/// The ends of all partitions, once every transaction has ended.
pub fn stable_ends(world: &World) -> Vec<i64> {
    let mut line = Line::new(world);
    let mut end = |partition: u32, isolation_level| {
        let request = ListOffsetsRequest {
            replica_id: -1,
            isolation_level,
            topics: vec![ListOffsetsTopic {
                name: TOPIC.into(),
                partitions: vec![ListOffsetsPartition {
                    partition_index: partition as i32,
                    timestamp: -1,
                    ..Default::default()
                }],
            }],
            ..Default::default()
        };
        line.insist(&To::Leader(partition), &request, 8, |answer| {
            let found = &answer.topics[0].partitions[0];
            (found.error_code == 0).then_some(found.offset)
        })
    };
    let deadline = Instant::now() + IN_TIME;
    let stable = |partition| loop {
        let (all, stable) = (end(partition, 0), end(partition, READ_COMMITTED));
        if all == stable {
            return all;
        }
        assert!(Instant::now() < deadline, "{stable} of {all}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    };
    (0..PARTITIONS as u32).map(stable).collect()
}

/// The offset of the next record of each partition.
#[derive(Clone, Debug, Default)]
pub struct Positions(BTreeMap<u32, i64>);

impl Positions {
    fn at(&self, partition: u32) -> i64 {
        self.0.get(&partition).copied().unwrap_or(0)
    }

    fn go_back(&mut self, partition: u32, prng: &mut Prng) {
        let at = prng.below(self.at(partition) as u64 + 1);
        self.0.insert(partition, at as i64);
    }

    /// A fetch of each; nothing of those whose answer was lost.
    pub fn poll(&mut self, line: &mut Line<'_>, world: &World, partitions: &[u32]) -> Vec<Step> {
        let polled = partitions.iter().filter_map(|partition| {
            let to = To::Leader(*partition);
            let answer = line.call(&to, &self.fetch(world, *partition), 17)?;
            let data = answer.responses.first()?.partitions.first()?;
            let step = self.take(data);
            if step.is_none() {
                line.forget(&to);
            }
            step
        });
        polled.collect()
    }

    fn fetch(&self, world: &World, partition: u32) -> FetchRequest {
        FetchRequest {
            max_bytes: 1 << 20,
            max_wait_ms: 2,
            min_bytes: 1,
            isolation_level: READ_COMMITTED,
            topics: vec![FetchTopic {
                topic: TOPIC.into(),
                topic_id: world.topic_id,
                partitions: vec![FetchPartition {
                    partition: partition as i32,
                    fetch_offset: self.at(partition),
                    partition_max_bytes: 4_000,
                    ..Default::default()
                }],
            }],
            ..Default::default()
        }
    }

    fn take(&mut self, data: &PartitionData) -> Option<Step> {
        if data.error_code != 0 {
            return None;
        }
        let partition = data.partition_index as u32;
        let from = self.at(partition);
        let (records, next) = committed(data, from);
        self.0.insert(partition, next);
        Some(Step::Poll { partition, records })
    }
}

/// What a consumer gets of a fetched partition, and where it goes on.
fn committed(data: &PartitionData, from: i64) -> (Vec<(i64, u64)>, i64) {
    let Some(Records::Bytes(bytes)) = &data.records else {
        return (Vec::new(), from);
    };
    let mut aborted: Vec<(i64, i64)> = data
        .aborted_transactions
        .iter()
        .flatten()
        .map(|aborted| (aborted.producer_id, aborted.first_offset))
        .collect();
    let (mut found, mut next) = (Vec::new(), from);
    for batch in batches(bytes.clone()) {
        let Ok(batch) = batch else { break };
        let header = batch.header();
        let id = header.producer_id();
        let begins = |first: i64| Offset(first) <= header.last_offset();
        next = header.next_offset().0;
        if header.is_control() {
            aborted.retain(|(of, first)| *of != id || !begins(*first));
            continue;
        }
        let is_aborted = aborted
            .iter()
            .any(|(of, first)| *of == id && begins(*first));
        if header.is_transactional() && is_aborted {
            continue;
        }
        for record in batch.records(Default::default()) {
            let record = record.expect("a record");
            if record.offset.0 < from {
                continue;
            }
            let text = String::from_utf8_lossy(&record.value.expect("a value")).into_owned();
            found.push((record.offset.0, text.parse().expect("a number")));
        }
    }
    (found, next)
}
