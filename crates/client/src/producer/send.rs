//! Produce requests: which batches go, and what their answers mean.

use std::collections::{BTreeMap, VecDeque};

use milena_base::{ErrorCode, Uuid};
use milena_protocol::produce_request::{PartitionProduceData, TopicProduceData};
use milena_protocol::produce_response::PartitionProduceResponse;
use milena_protocol::{ProduceRequest, ProduceResponse, Records, Str};
use milena_records::increment_sequence;
use tokio::time::Instant;

use super::batch::QueuedBatch;
use super::{Failed, Place, Producer, Written};
use crate::{Error, Target};

/// The answer of one broker.
pub struct Answered {
    broker: i32,
    result: Result<ProduceResponse, Error>,
}

impl Producer {
    /// Sends the first batch of every partition that is due and whose leader is free. Returns when to look again.
    pub(super) async fn send_due(&mut self, all: bool) -> Option<Instant> {
        let now = Instant::now();
        let mut look_again: Option<Instant> = None;
        let mut by_leader: BTreeMap<i32, Vec<Place>> = BTreeMap::new();
        for (place, queue) in &self.queues {
            if self.busy.values().flatten().any(|busy| busy == place) {
                continue;
            }
            let Some(first) = queue.front() else { continue };
            let mut due = first.resume;
            if !all && !first.full && queue.len() == 1 {
                due = due.max(first.created + self.config.linger);
            }
            let leader = self
                .client
                .topic(&place.0)
                .and_then(|t| t.partitions.get(&place.1));
            match leader {
                _ if due > now => look_again = Some(look_again.map_or(due, |at| at.min(due))),
                Some(leader) if leader.node >= 0 => {
                    by_leader
                        .entry(leader.node)
                        .or_default()
                        .push(place.clone());
                }
                _ => self.refresh_metadata = true,
            }
        }
        for (broker, places) in by_leader {
            if !self.busy.contains_key(&broker) {
                self.send(broker, places).await;
            }
        }
        look_again
    }

    async fn send(&mut self, broker: i32, mut places: Vec<Place>) {
        let connection = match self.client.connection(Target::Node(broker)).await {
            Ok(connection) => connection,
            Err(error) => {
                self.refresh_metadata = true;
                return places
                    .iter()
                    .for_each(|place| self.failed_try(place, error.clone()));
            }
        };
        let request = self.request(&mut places);
        if self.config.acks == 0 {
            let sent = connection.send_unanswered(&request);
            for place in &places {
                match &sent {
                    Ok(()) => self.done(place, -1),
                    Err(error) => self.give_up(place, error.clone()),
                }
            }
            return;
        }
        let pending = connection.send(&request);
        let within = self.config.request_timeout;
        self.busy.insert(broker, places);
        self.under_way.spawn(async move {
            let result = match pending {
                Ok(pending) => pending.within(within).response().await,
                Err(error) => Err(error),
            };
            Answered { broker, result }
        });
    }

    /// One batch for each partition, as many as fit into `max.request.size`; the rest leaves `places`.
    fn request(&mut self, places: &mut Vec<Place>) -> ProduceRequest {
        let mut topics: BTreeMap<Str, TopicProduceData> = BTreeMap::new();
        let mut bytes = 0;
        let mut taken = Vec::new();
        for place in places.drain(..) {
            let queue = self
                .queues
                .get_mut(&place)
                .expect("only queued partitions are due");
            let batch = queue.front_mut().expect("queues are not empty");
            if bytes > 0 && bytes + batch.size() > self.config.request_bytes_max {
                continue;
            }
            let producer = self.identity.map(|identity| {
                let sequence = *self.sequences.entry(place.clone()).or_insert(0);
                (identity.id, identity.epoch, sequence)
            });
            if let Some((.., sequence)) = producer.filter(|_| batch.bytes.is_none()) {
                let next = increment_sequence(sequence, batch.records.len() as i32);
                self.sequences.insert(place.clone(), next);
            }
            batch.tries += 1;
            let before = batch.size();
            let records = batch.seal(producer);
            self.buffered_bytes = (self.buffered_bytes + batch.size()).saturating_sub(before);
            bytes += records.len();
            let id = self
                .client
                .topic(&place.0)
                .map_or(Uuid::ZERO, |topic| topic.id);
            let topic = topics
                .entry(place.0.clone())
                .or_insert_with(|| TopicProduceData {
                    name: place.0.clone(),
                    topic_id: id,
                    partition_data: Vec::new(),
                });
            topic.partition_data.push(PartitionProduceData {
                index: place.1,
                records: Some(Records::Bytes(records)),
            });
            taken.push(place);
        }
        *places = taken;
        ProduceRequest {
            transactional_id: None,
            acks: self.config.acks,
            timeout_ms: self
                .config
                .request_timeout
                .as_millis()
                .min(i32::MAX as u128) as i32,
            topic_data: topics.into_values().collect(),
        }
    }

    pub(super) fn take_answer(&mut self, answered: Answered) {
        let places = self.busy.remove(&answered.broker).unwrap_or_default();
        let response = match answered.result {
            Ok(response) => response,
            Err(error) => {
                self.refresh_metadata = true;
                return places
                    .iter()
                    .for_each(|place| self.failed_try(place, error.clone()));
            }
        };
        for place in &places {
            match self.part_of(&response, place) {
                Some(part) => self.take_part(place, part),
                None => self.failed_try(place, Error::refused(ErrorCode::UnknownServerError, None)),
            }
        }
    }

    fn part_of<'a>(
        &self,
        response: &'a ProduceResponse,
        place: &Place,
    ) -> Option<&'a PartitionProduceResponse> {
        let id = self
            .client
            .topic(&place.0)
            .map_or(Uuid::ZERO, |topic| topic.id);
        let is_it = |name: &Str, topic_id: Uuid| match name.is_empty() {
            true => topic_id == id,
            false => *name == place.0,
        };
        let mut topics = response.responses.iter();
        let topic = topics.find(|topic| is_it(&topic.name, topic.topic_id))?;
        topic
            .partition_responses
            .iter()
            .find(|part| part.index == place.1)
    }

    fn take_part(&mut self, place: &Place, part: &PartitionProduceResponse) {
        let code = ErrorCode::from_code(part.error_code).unwrap_or(ErrorCode::UnknownServerError);
        if matches!(code, ErrorCode::None | ErrorCode::DuplicateSequenceNumber) {
            return self.done(place, part.base_offset);
        }
        let error = Error::refused(code, part.error_message.as_deref());
        if code.is_retriable() || code == ErrorCode::UnknownTopicId {
            self.refresh_metadata = true;
            return self.failed_try(place, error);
        }
        self.give_up(place, error);
    }

    /// Another try later, or none where all are used up.
    fn failed_try(&mut self, place: &Place, error: Error) {
        let Some(batch) = self.queues.get_mut(place).and_then(VecDeque::front_mut) else {
            return;
        };
        let final_error = !error.is_retriable() && error.code() != Some(ErrorCode::UnknownTopicId);
        if final_error || batch.tries > self.config.retries_max {
            return self.give_up(place, error);
        }
        let pause = self.client.config().backoff(batch.tries.saturating_sub(1));
        batch.resume = Instant::now() + self.client.jittered(pause);
    }

    fn done(&mut self, place: &Place, base_offset: i64) {
        let batch = self.take_first(place);
        if let (Some(batch), Some(written)) = (batch, &mut self.written) {
            written.push(Written {
                topic: place.0.clone(),
                partition: place.1,
                base_offset,
                records: batch.records,
            });
        }
    }

    fn take_first(&mut self, place: &Place) -> Option<QueuedBatch> {
        let queue = self.queues.get_mut(place)?;
        let batch = queue.pop_front();
        if queue.is_empty() {
            self.queues.remove(place);
        }
        let bytes = batch.as_ref().map_or(0, QueuedBatch::size);
        self.buffered_bytes = self.buffered_bytes.saturating_sub(bytes);
        batch
    }

    /// The first batch of a partition will not be written. Its sequences are spent, so that a new identity is
    /// needed; batches that were already sent under the old one keep it.
    fn give_up(&mut self, place: &Place, error: Error) {
        let Some(batch) = self.take_first(place) else {
            return;
        };
        if batch.bytes.is_some() {
            self.identity = None;
        }
        let failed = batch.records.iter().map(|(tag, sizes)| Failed {
            topic: place.0.clone(),
            sizes: *sizes,
            tag: *tag,
            error: error.clone(),
        });
        self.failed.extend(failed);
    }

    /// `delivery.timeout.ms`.
    pub(super) fn give_up_expired(&mut self) {
        let limit = self.config.delivery_timeout;
        let expired = |(place, queue): (&Place, &VecDeque<QueuedBatch>)| {
            let first = queue
                .front()
                .filter(|first| first.created.elapsed() > limit)?;
            let busy = self.busy.values().flatten().any(|busy| busy == place);
            (!busy).then(|| (place.clone(), first.records.len()))
        };
        let expired: Vec<(Place, usize)> = self.queues.iter().filter_map(expired).collect();
        for (place, count) in expired {
            let message = format!(
                "Expiring {count} record(s) for {}-{}:{} ms has passed since batch creation",
                place.0,
                place.1,
                limit.as_millis()
            );
            self.give_up(
                &place,
                Error::refused(ErrorCode::RequestTimedOut, Some(&message)),
            );
        }
    }
}
