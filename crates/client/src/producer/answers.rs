//! What becomes of batches: answers to Produce requests, further tries, and giving up.

use milena_base::{ErrorCode, Uuid};
use milena_protocol::produce_response::PartitionProduceResponse;
use milena_protocol::{ProduceResponse, Str};
use tokio::time::Instant;

use super::batch::QueuedBatch;
use super::{Failed, Place, Producer, Written};
use crate::Error;

/// The answer to a request.
pub struct Answered {
    pub request: u64,
    pub result: Result<ProduceResponse, Error>,
}

impl Producer {
    pub(super) fn take_answer(&mut self, answered: Answered) {
        let id = answered.request;
        let Some(sent) = self.in_flight.remove(&id) else {
            return;
        };
        let places = sent.places;
        let waited = sent.since.elapsed();
        self.figures.latency_ms.add(waited.as_secs_f64() * 1000.0);
        let response = match answered.result {
            Ok(response) => response,
            Err(error) => {
                self.refresh_metadata = true;
                self.client.give_up_on(&error);
                return places
                    .iter()
                    .for_each(|place| self.failed_try(place, id, error.clone()));
            }
        };
        for place in &places {
            match self.part_of(&response, place) {
                Some(part) => self.take_part(place, id, part),
                None => {
                    let error = Error::refused(ErrorCode::UnknownServerError, None);
                    self.failed_try(place, id, error);
                }
            }
        }
    }

    /// A request with acks=0 has gone.
    pub(super) fn unanswered(&mut self, id: u64) {
        let sent = self.in_flight.remove(&id);
        for place in sent.map(|sent| sent.places).unwrap_or_default() {
            self.done(&place, id, -1);
        }
    }

    fn part_of<'a>(
        &self,
        response: &'a ProduceResponse,
        place: &Place,
    ) -> Option<&'a PartitionProduceResponse> {
        let topic = self.client.topic(&place.0);
        let id = topic.map_or(Uuid::ZERO, |topic| topic.id);
        let is_it = |name: &Str, topic_id: Uuid| match name.is_empty() {
            true => topic_id == id,
            false => *name == place.0,
        };
        let mut topics = response.responses.iter();
        let topic = topics.find(|topic| is_it(&topic.name, topic.topic_id))?;
        let mut parts = topic.partition_responses.iter();
        parts.find(|part| part.index == place.1)
    }

    /// Where the batch of a request stands in its queue.
    fn position(&self, place: &Place, id: u64) -> Option<usize> {
        let queue = self.queues.get(place)?;
        queue.iter().position(|batch| batch.request == Some(id))
    }

    fn take_part(&mut self, place: &Place, id: u64, part: &PartitionProduceResponse) {
        let code = ErrorCode::from_code(part.error_code).unwrap_or(ErrorCode::UnknownServerError);
        if matches!(code, ErrorCode::None | ErrorCode::DuplicateSequenceNumber) {
            return self.done(place, id, part.base_offset);
        }
        let error = Error::refused(code, part.error_message.as_deref());
        if code.is_retriable() || code == ErrorCode::UnknownTopicId {
            self.refresh_metadata = true;
            return self.failed_try(place, id, error);
        }
        match self.is_out_of_turn(place, id, code) {
            true => self.again(place, id),
            false => self.give_up(place, id, error),
        }
    }

    /// Whether a batch was refused only since one before it was, or since its identity is over.
    fn is_out_of_turn(&self, place: &Place, id: u64, code: ErrorCode) -> bool {
        let sequence = matches!(
            code,
            ErrorCode::OutOfOrderSequenceNumber
                | ErrorCode::UnknownProducerId
                | ErrorCode::InvalidProducerEpoch
        );
        let Some(at) = self.position(place, id) else {
            return false;
        };
        let over = !self.queues[place][at].is_of(self.identity);
        self.config.idempotent && sequence && (at > 0 || over)
    }

    /// Another try, which does not count: the broker has not looked at the batch itself.
    fn again(&mut self, place: &Place, id: u64) {
        let pause = self.client.config().backoff(0);
        let resume = Instant::now() + self.client.jittered(pause);
        if let Some(batch) = self.batch(place, id) {
            batch.tries = batch.tries.saturating_sub(1);
            batch.request = None;
            batch.resume = resume;
        }
    }

    fn batch(&mut self, place: &Place, id: u64) -> Option<&mut QueuedBatch> {
        let at = self.position(place, id)?;
        self.queues.get_mut(place)?.get_mut(at)
    }

    /// Another try later, or none where all are used up.
    fn failed_try(&mut self, place: &Place, id: u64, error: Error) {
        let retries_max = self.config.retries_max;
        let Some(batch) = self.batch(place, id) else {
            return;
        };
        let tries = batch.tries;
        let final_error = !error.is_retriable() && error.code() != Some(ErrorCode::UnknownTopicId);
        if final_error || tries > retries_max {
            return self.give_up(place, id, error);
        }
        let pause = self.client.config().backoff(tries.saturating_sub(1));
        let resume = Instant::now() + self.client.jittered(pause);
        let batch = self.batch(place, id).expect("it was there just now");
        batch.request = None;
        batch.resume = resume;
        let count = batch.records.len() as u64;
        self.figures.retried_records += count;
    }

    fn done(&mut self, place: &Place, id: u64, base_offset: i64) {
        let at = self.position(place, id);
        let batch = at.and_then(|at| self.take(place, at));
        if let (Some(batch), Some(written)) = (batch, &mut self.written) {
            written.push(Written {
                topic: place.0.clone(),
                partition: place.1,
                base_offset,
                records: batch.records,
            });
        }
    }

    /// Takes a batch out of its queue.
    fn take(&mut self, place: &Place, at: usize) -> Option<QueuedBatch> {
        let queue = self.queues.get_mut(place)?;
        let batch = queue.remove(at);
        if queue.is_empty() {
            self.queues.remove(place);
        }
        let bytes = batch.as_ref().map_or(0, QueuedBatch::size);
        self.buffered_bytes = self.buffered_bytes.saturating_sub(bytes);
        batch
    }

    fn give_up(&mut self, place: &Place, id: u64, error: Error) {
        if let Some(at) = self.position(place, id) {
            self.give_up_at(place, at, error);
        }
    }

    /// A batch will not be written. Its sequences are spent, so that a new identity is needed, under which those
    /// behind it are sent.
    fn give_up_at(&mut self, place: &Place, at: usize, error: Error) {
        let Some(batch) = self.take(place, at) else {
            return;
        };
        if batch.is_of(self.identity) {
            self.identity = None;
        }
        self.figures.failed_records += batch.records.len() as u64;
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
        let mut expired = Vec::new();
        for (place, queue) in &self.queues {
            let late = |batch: &&QueuedBatch| batch.created.elapsed() > limit;
            let first = queue.front().filter(late);
            if let Some(first) = first.filter(|first| first.request.is_none()) {
                expired.push((place.clone(), first.records.len()));
            }
        }
        for (place, count) in expired {
            let message = format!(
                "Expiring {count} record(s) for {}-{}:{} ms has passed since batch creation",
                place.0,
                place.1,
                limit.as_millis()
            );
            let error = Error::refused(ErrorCode::RequestTimedOut, Some(&message));
            self.give_up_at(&place, 0, error);
        }
    }
}
