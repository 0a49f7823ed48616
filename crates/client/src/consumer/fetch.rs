//! Fetch requests and what their answers mean. Without sessions: a tool reads few partitions.

use std::collections::BTreeMap;

use bytes::Bytes;
use milena_base::{ErrorCode, Uuid};
use milena_protocol::fetch_request::{FetchPartition, FetchTopic};
use milena_protocol::fetch_response::PartitionData;
use milena_protocol::{FetchRequest, FetchResponse, Records, Str};
use tokio::time::{Duration, Instant};

use super::{Consumer, Event, Fetched, Place};
use crate::{Error, Target};

/// Buffers of one partition that may wait before no more is fetched for it.
const BUFFERED_MAX: usize = 2;

impl Consumer {
    /// Sends a fetch to every leader that has none under way. Returns when to look again.
    pub(super) async fn send_fetches(&mut self) -> Instant {
        let now = Instant::now();
        let mut wake = now + Duration::from_millis(500);
        let mut by_leader: BTreeMap<i32, BTreeMap<Place, i64>> = BTreeMap::new();
        for (place, position) in &self.positions {
            let buffered = self.fetched.iter().filter(|f| f.place == *place).count();
            if position.offset.is_none() || buffered >= BUFFERED_MAX {
                continue;
            }
            if position.resume > now {
                wake = wake.min(position.resume);
                continue;
            }
            let leader = self
                .client
                .topic(&place.0)
                .and_then(|t| t.partitions.get(&place.1));
            match leader {
                Some(leader) if leader.node >= 0 => {
                    let of_leader = by_leader.entry(leader.node).or_default();
                    of_leader.insert(place.clone(), position.fetch_offset);
                }
                _ => {
                    let at = *self
                        .refresh_metadata
                        .get_or_insert(now + Duration::from_millis(100));
                    wake = wake.min(at);
                }
            }
        }
        for (leader, places) in by_leader {
            if !self.fetching.contains(&leader) {
                self.send_fetch(leader, places).await;
            }
        }
        wake
    }

    async fn send_fetch(&mut self, leader: i32, places: BTreeMap<Place, i64>) {
        let request = self.fetch_request(&places);
        let sent = match self.client.connection(Target::Node(leader)).await {
            Ok(connection) => connection.send(&request),
            Err(error) => Err(error),
        };
        match sent {
            Ok(pending) => {
                self.fetching.insert(leader);
                let since = Instant::now();
                self.under_way.spawn(async move {
                    let answer = pending.response().await;
                    Event::Fetched(leader, places, since.elapsed(), answer)
                });
            }
            Err(error) => {
                self.put_off(places.keys());
                self.retry_metadata(&error);
            }
        }
    }

    fn put_off<'a>(&mut self, places: impl Iterator<Item = &'a Place>) {
        let resume = self.soon();
        for place in places {
            if let Some(position) = self.positions.get_mut(place) {
                position.resume = resume;
            }
        }
    }

    fn fetch_request(&self, places: &BTreeMap<Place, i64>) -> FetchRequest {
        let mut topics: BTreeMap<Str, FetchTopic> = BTreeMap::new();
        for ((name, partition), offset) in places {
            let known = self.client.topic(name);
            let epoch = known
                .and_then(|t| t.partitions.get(partition))
                .map_or(-1, |l| l.epoch);
            let topic = topics.entry(name.clone()).or_insert_with(|| FetchTopic {
                topic: name.clone(),
                topic_id: known.map_or(Uuid::ZERO, |topic| topic.id),
                partitions: Vec::new(),
            });
            topic.partitions.push(FetchPartition {
                partition: *partition,
                current_leader_epoch: epoch,
                fetch_offset: *offset,
                partition_max_bytes: self.config.partition_bytes_max,
                ..Default::default()
            });
        }
        FetchRequest {
            replica_id: -1,
            max_wait_ms: self.config.fetch_wait_max.as_millis() as i32,
            min_bytes: self.config.fetch_bytes_min,
            max_bytes: self.config.fetch_bytes_max,
            isolation_level: i8::from(self.config.read_committed),
            session_id: 0,
            session_epoch: -1,
            topics: topics.into_values().collect(),
            ..Default::default()
        }
    }

    pub(super) fn take_fetch(
        &mut self,
        asked: &BTreeMap<Place, i64>,
        result: Result<FetchResponse, Error>,
    ) -> Result<(), Error> {
        let checked = result.and_then(|answer| {
            Error::check(answer.error_code, None)?;
            Ok(answer)
        });
        let answer = match checked {
            Ok(answer) => answer,
            Err(error) if error.is_retriable() => {
                self.put_off(asked.keys());
                self.retry_metadata(&error);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let parts = answer.responses.iter().flat_map(|topic| &topic.partitions);
        let bytes = parts.map(|part| part.records.as_ref().map_or(0, Records::len));
        self.figures.fetch_bytes.add(bytes.sum::<usize>() as f64);
        for topic in answer.responses {
            for part in topic.partitions {
                let place = asked.iter().find(|((name, partition), _)| {
                    let id = self.client.topic(name).map_or(Uuid::ZERO, |topic| topic.id);
                    let same = match topic.topic.is_empty() {
                        true => id == topic.topic_id,
                        false => *name == topic.topic,
                    };
                    same && *partition == part.partition_index
                });
                if let Some((place, offset)) = place {
                    self.take_partition(place.clone(), *offset, part)?;
                }
            }
        }
        Ok(())
    }

    fn take_partition(
        &mut self,
        place: Place,
        offset: i64,
        part: PartitionData,
    ) -> Result<(), Error> {
        let position = self.positions.get_mut(&place);
        let Some(position) = position.filter(|p| p.offset.is_some() && p.fetch_offset == offset)
        else {
            return Ok(());
        };
        match ErrorCode::from_code(part.error_code).unwrap_or(ErrorCode::UnknownServerError) {
            ErrorCode::None => {}
            ErrorCode::OffsetOutOfRange => {
                let start = self.config.reset.timestamp().ok_or_else(|| {
                    let (topic, partition) = &place;
                    let message = format!(
                        "Offset {offset} is out of range for {topic}-{partition}, and auto.offset.reset is none"
                    );
                    Error::refused(ErrorCode::OffsetOutOfRange, Some(&message))
                })?;
                position.offset = None;
                position.start = start;
                return Ok(());
            }
            code if code.is_retriable() => {
                self.put_off([&place].into_iter());
                self.retry_metadata(&Error::refused(code, None));
                return Ok(());
            }
            code => return Err(Error::refused(code, None)),
        }
        let records = match part.records {
            Some(Records::Bytes(records)) => records,
            _ => Bytes::new(),
        };
        if records.is_empty() {
            return Ok(());
        }
        let aborted = self
            .config
            .read_committed
            .then(|| part.aborted_transactions.unwrap_or_default());
        let end = end_of(&records).unwrap_or(offset);
        position.fetch_offset = end.max(offset);
        let check = self.config.check_crcs;
        let fetched = Fetched::new(place, records, offset, aborted.as_deref(), check);
        self.fetched.push_back(fetched);
        Ok(())
    }
}

/// The offset after the last whole batch.
fn end_of(records: &Bytes) -> Option<i64> {
    let batches = milena_records::batches(records.clone());
    let whole = batches.map_while(Result::ok);
    whole.last().map(|batch| batch.header().next_offset().0)
}
