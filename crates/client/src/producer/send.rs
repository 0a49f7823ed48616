//! Produce requests: which batches go.

use std::collections::BTreeMap;

use milena_base::Uuid;
use milena_protocol::produce_request::{PartitionProduceData, TopicProduceData};
use milena_protocol::{ProduceRequest, Records, Str};
use milena_records::increment_sequence;
use tokio::time::Instant;

use super::answers::Answered;
use super::batch::QueuedBatch;
use super::{InFlight, Place, Producer};
use crate::Target;

/// The first batch of a queue that is not under way, and where it stands.
fn waiting<'a>(
    queue: impl IntoIterator<Item = &'a mut QueuedBatch>,
) -> Option<(usize, &'a mut QueuedBatch)> {
    let mut batches = queue.into_iter().enumerate();
    batches.find(|(_, batch)| batch.request.is_none())
}

impl Producer {
    /// Sends what is due as long as brokers take more requests: of every partition the first batch that is not
    /// under way. Returns when to look again.
    pub(super) async fn send_due(&mut self, all: bool) -> Option<Instant> {
        if self.config.idempotent && self.identity.is_none() {
            return None;
        }
        loop {
            let (by_leader, look_again) = self.due(all);
            let mut sent = false;
            for (broker, places) in by_leader {
                let under_way = self.in_flight.values().filter(|one| one.broker == broker);
                if under_way.count() < self.config.in_flight_max {
                    sent |= self.send(broker, places).await;
                }
            }
            if !sent {
                return look_again;
            }
        }
    }

    /// Partitions with a batch that is due, by their leaders, and when the next one will be.
    fn due(&mut self, all: bool) -> (BTreeMap<i32, Vec<Place>>, Option<Instant>) {
        let now = Instant::now();
        let mut look_again: Option<Instant> = None;
        let mut by_leader: BTreeMap<i32, Vec<Place>> = BTreeMap::new();
        for (place, queue) in &mut self.queues {
            let length = queue.len();
            let Some((at, batch)) = waiting(queue) else {
                continue;
            };
            let mut due = batch.resume;
            if !all && !batch.full && at + 1 == length {
                due = due.max(batch.created + self.config.linger);
            }
            let topic = self.client.topic(&place.0);
            match topic.and_then(|topic| topic.partitions.get(&place.1)) {
                _ if due > now => look_again = Some(look_again.map_or(due, |at| at.min(due))),
                Some(leader) if leader.node >= 0 => {
                    let places = by_leader.entry(leader.node).or_default();
                    places.push(place.clone());
                }
                _ => self.refresh_metadata = true,
            }
        }
        (by_leader, look_again)
    }

    /// Whether a request has gone.
    async fn send(&mut self, broker: i32, mut places: Vec<Place>) -> bool {
        let connection = self.client.connection(Target::Node(broker)).await;
        let id = self.next_request;
        self.next_request += 1;
        let request = self.request(&mut places, id);
        let answer = connection.and_then(|connection| match self.config.acks {
            0 => connection.send_unanswered(&request).map(|()| None),
            _ => connection.send(&request).map(Some),
        });
        self.in_flight.insert(
            id,
            InFlight {
                broker,
                places,
                since: Instant::now(),
            },
        );
        match answer {
            Ok(Some(pending)) => {
                let pending = pending.within(self.config.request_timeout);
                self.under_way.spawn(async move {
                    let result = pending.response().await;
                    Answered {
                        request: id,
                        result,
                    }
                });
                true
            }
            Ok(None) => {
                self.unanswered(id);
                true
            }
            Err(error) => {
                let result = Err(error);
                self.take_answer(Answered {
                    request: id,
                    result,
                });
                false
            }
        }
    }

    /// One batch for each partition, as many as fit into `max.request.size`; the rest leaves `places`.
    fn request(&mut self, places: &mut Vec<Place>, id: u64) -> ProduceRequest {
        let mut topics: BTreeMap<Str, TopicProduceData> = BTreeMap::new();
        let (mut bytes, mut records_sent) = (0, 0);
        places.retain(|place| {
            let queue = self
                .queues
                .get_mut(place)
                .expect("only queued partitions are due");
            let (_, batch) = waiting(queue).expect("one is due");
            if bytes > 0 && bytes + batch.size() > self.config.request_bytes_max {
                return false;
            }
            let producer = self.identity.map(|identity| {
                let sequence = self.sequences.entry(place.clone()).or_insert(0);
                let first = *sequence;
                if !batch.is_of(Some(identity)) {
                    *sequence = increment_sequence(first, batch.records.len() as i32);
                }
                (identity, first)
            });
            batch.tries += 1;
            batch.request = Some(id);
            let before = batch.size();
            let records = batch.seal(producer);
            self.buffered_bytes = (self.buffered_bytes + batch.size()).saturating_sub(before);
            bytes += records.len();
            records_sent += batch.records.len();
            self.figures.batch_bytes.add(records.len() as f64);
            let known = self.client.topic(&place.0);
            let topic_id = known.map_or(Uuid::ZERO, |topic| topic.id);
            let topic = topics.entry(place.0.clone());
            let topic = topic.or_insert_with(|| TopicProduceData {
                name: place.0.clone(),
                topic_id,
                partition_data: Vec::new(),
            });
            topic.partition_data.push(PartitionProduceData {
                index: place.1,
                records: Some(Records::Bytes(records)),
            });
            true
        });
        self.figures.request_records.add(records_sent as f64);
        self.figures.sent_records += records_sent as u64;
        let timeout_ms = self.config.request_timeout.as_millis();
        ProduceRequest {
            transactional_id: None,
            acks: self.config.acks,
            timeout_ms: timeout_ms.min(i32::MAX as u128) as i32,
            topic_data: topics.into_values().collect(),
        }
    }
}
