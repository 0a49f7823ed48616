//! A producer: records are gathered in batches for each partition. A request takes one batch of every partition of
//! its broker that is due, and as many requests are under way to a broker as
//! `max.in.flight.requests.per.connection` says. A batch that fails is sent again unchanged, before those behind it
//! that are not under way; the broker keeps the order of an idempotent producer's, and without idempotence only one
//! request in flight does.

mod answers;
mod batch;
mod config;
mod partitioner;
mod send;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use milena_base::ErrorCode;
use milena_protocol::{InitProducerIdRequest, InitProducerIdResponse, Str};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

pub use batch::Sizes;
pub use config::ProducerConfig;
pub use partitioner::Partitioner;

use crate::metrics::Seen;
use crate::{Client, Error, Metric, Target};
use batch::QueuedBatch;

/// A record to send.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    pub topic: Str,
    /// `None`: by the key, or anywhere.
    pub partition: Option<i32>,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<(Str, Option<Bytes>)>,
    /// The caller's own; comes back with what became of the record.
    pub tag: u64,
}

impl Record {
    /// Most bytes that it takes up in a batch.
    fn bytes_max(&self) -> usize {
        let header = |(name, value): &(Str, Option<Bytes>)| {
            10 + name.len() + value.as_ref().map_or(0, Bytes::len)
        };
        let fields = [&self.key, &self.value];
        let fields = fields.iter().map(|f| f.as_ref().map_or(0, Bytes::len));
        31 + fields.sum::<usize>() + self.headers.iter().map(header).sum::<usize>()
    }

    fn sizes(&self) -> Sizes {
        Sizes {
            key: self.key.as_ref().map(Bytes::len),
            value: self.value.as_ref().map(Bytes::len),
        }
    }
}

/// A record that was not written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    pub topic: Str,
    pub sizes: Sizes,
    pub tag: u64,
    pub error: Error,
}

/// Records of one batch that were written, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    pub topic: Str,
    pub partition: i32,
    /// Of the first record; −1 where the broker does not say (acks=0).
    pub base_offset: i64,
    /// Tags and sizes.
    pub records: Vec<(u64, Sizes)>,
}

type Place = (Str, i32);

/// Who we are for the brokers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    id: i64,
    epoch: i16,
}

/// A request under way: its broker, and the partitions that it has a batch of.
#[derive(Debug)]
struct InFlight {
    broker: i32,
    places: Vec<Place>,
    since: Instant,
}

/// Sends records. Everything happens inside of its calls; between them nothing is sent.
pub struct Producer {
    client: Client,
    config: ProducerConfig,
    identity: Option<Identity>,
    sequences: BTreeMap<Place, i32>,
    partitioner: Partitioner,
    queues: BTreeMap<Place, VecDeque<QueuedBatch>>,
    /// Requests by number.
    in_flight: BTreeMap<u64, InFlight>,
    next_request: u64,
    under_way: JoinSet<answers::Answered>,
    refresh_metadata: bool,
    metadata_since: Instant,
    failed: Vec<Failed>,
    /// `None` where nobody wants to know.
    written: Option<Vec<Written>>,
    /// Bytes of all batches in `queues`.
    buffered_bytes: usize,
    figures: Figures,
}

/// What has happened so far.
#[derive(Debug, Default)]
struct Figures {
    batch_bytes: Seen,
    request_records: Seen,
    latency_ms: Seen,
    sent_records: u64,
    failed_records: u64,
    retried_records: u64,
}

impl Producer {
    /// `client` becomes the producer's own. Must be called inside of [`crate::run`].
    pub fn new(client: Client, config: ProducerConfig) -> Producer {
        Producer {
            client,
            config,
            identity: None,
            sequences: BTreeMap::new(),
            partitioner: Partitioner::default(),
            queues: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            next_request: 0,
            under_way: JoinSet::new(),
            refresh_metadata: false,
            metadata_since: Instant::now(),
            failed: Vec::new(),
            written: None,
            buffered_bytes: 0,
            figures: Figures::default(),
        }
    }

    /// What Kafka's producer calls `producer-metrics`.
    pub fn metrics(&self) -> Vec<Metric> {
        let figures = &self.figures;
        let free = self
            .config
            .buffer_bytes_max
            .saturating_sub(self.buffered_bytes);
        let values = [
            ("batch-size-avg", figures.batch_bytes.mean()),
            ("batch-size-max", figures.batch_bytes.max()),
            ("buffer-available-bytes", free as f64),
            ("buffer-total-bytes", self.config.buffer_bytes_max as f64),
            ("record-error-total", figures.failed_records as f64),
            ("record-retry-total", figures.retried_records as f64),
            ("record-send-total", figures.sent_records as f64),
            ("records-per-request-avg", figures.request_records.mean()),
            ("request-latency-avg", figures.latency_ms.mean()),
            ("request-latency-max", figures.latency_ms.max()),
            ("requests-in-flight", self.in_flight.len() as f64),
        ];
        let group = "producer-metrics";
        let metric = |(name, value)| Metric { group, name, value };
        values.into_iter().map(metric).collect()
    }

    /// Keeps what was written for [`Producer::take_written`], which then has to be called.
    #[must_use]
    pub fn with_receipts(mut self) -> Producer {
        self.written = Some(Vec::new());
        self
    }

    /// Records that were written since the last call, if receipts are kept.
    pub fn take_written(&mut self) -> Vec<Written> {
        self.written
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    /// Sends what is due and takes the answers that are here, without waiting.
    pub async fn poll(&mut self) -> Result<(), Error> {
        match self.is_idle() {
            true => Ok(()),
            false => self.step(false, Instant::now()).await,
        }
    }

    /// Takes a record in. Waits for the topic's metadata, and for room when `buffer.memory` is used up, both
    /// for at most `max.block.ms`.
    pub async fn append(&mut self, record: Record) -> Result<(), Error> {
        let bytes = record.bytes_max();
        if bytes > self.config.request_bytes_max {
            let max = self.config.request_bytes_max;
            return Err(Error::refused(
                ErrorCode::MessageTooLarge,
                Some(&format!(
                    "The message is {bytes} bytes when serialized which is larger than {max}, which is the value of the max.request.size configuration."
                )),
            ));
        }
        self.know(&record.topic).await?;
        self.wait_for_room(bytes).await?;
        let partition = self.partition_of(&record, bytes)?;
        let queue = self
            .queues
            .entry((record.topic.clone(), partition))
            .or_default();
        let batch_bytes = self.config.batch_bytes;
        if queue
            .back()
            .is_none_or(|last| !last.takes(&record, batch_bytes))
        {
            if let Some(last) = queue.back_mut() {
                last.full = true;
            }
            let batch = QueuedBatch::new(self.config.codec, Instant::now());
            self.buffered_bytes += batch.size();
            queue.push_back(batch);
        }
        let batch = queue.back_mut().expect("pushed just now");
        let before = batch.size();
        batch.append(&record)?;
        self.buffered_bytes += batch.size().saturating_sub(before);
        Ok(())
    }

    /// Metadata of a topic, waited for.
    async fn know(&mut self, topic: &Str) -> Result<(), Error> {
        if self
            .client
            .topic(topic)
            .is_some_and(|t| !t.partitions.is_empty())
        {
            return Ok(());
        }
        let block_max = self.config.block_max;
        let names = [topic.clone()];
        let known = self
            .client
            .retry_within("metadata", block_max, async |client: &mut Client| {
                let answer = client.metadata_once(Some(&names), true).await?;
                let found = answer.topics.first();
                let code =
                    found.map_or(ErrorCode::UnknownTopicOrPartition.code(), |t| t.error_code);
                let invalid = ErrorCode::InvalidTopicException;
                if code == invalid.code() {
                    let message = format!("Invalid topics: [{}]", names[0]);
                    return Err(Error::refused(invalid, Some(&message)));
                }
                Error::check(code, None)
            });
        self.metadata_since = Instant::now();
        match known.await {
            Err(Error::TimedOut { last, .. }) => {
                let why = last.map_or(String::new(), |last| format!(" Last: {last}."));
                let waited = block_max.as_millis();
                let message =
                    format!("Topic {topic} not present in metadata after {waited} ms.{why}");
                Err(Error::refused(ErrorCode::RequestTimedOut, Some(&message)))
            }
            other => other,
        }
    }

    fn partition_of(&mut self, record: &Record, bytes: usize) -> Result<i32, Error> {
        let topic = self
            .client
            .topic(&record.topic)
            .expect("its metadata is known");
        let partitions = &topic.partitions;
        if let Some(partition) = record.partition {
            return match partitions.contains_key(&partition) {
                true => Ok(partition),
                false => Err(Error::Config(format!(
                    "Partition {partition} of topic {} does not exist; it has {}",
                    record.topic,
                    partitions.len()
                ))),
            };
        }
        if let Some(key) = &record.key {
            return Ok(Partitioner::of_key(key, partitions.len() as i32));
        }
        let led = partitions.iter().filter(|(_, leader)| leader.node >= 0);
        let mut available: Vec<i32> = led.map(|(partition, _)| *partition).collect();
        if available.is_empty() {
            available = partitions.keys().copied().collect();
        }
        let batch_bytes = self.config.batch_bytes;
        let (topic, random) = (&record.topic, self.client.random());
        let partitioner = &mut self.partitioner;
        Ok(partitioner.without_key(topic, &available, bytes, batch_bytes, random))
    }

    async fn wait_for_room(&mut self, bytes: usize) -> Result<(), Error> {
        let deadline = Instant::now() + self.config.block_max;
        while self.queued_bytes() + bytes > self.config.buffer_bytes_max {
            if Instant::now() >= deadline || self.queues.is_empty() {
                let max = self.config.block_max.as_millis();
                let message = format!(
                    "Failed to allocate {bytes} bytes within the configured max blocking time {max} ms."
                );
                return Err(Error::refused(ErrorCode::RequestTimedOut, Some(&message)));
            }
            let soon = Instant::now() + Duration::from_millis(100);
            self.step(true, deadline.min(soon)).await?;
        }
        Ok(())
    }

    fn queued_bytes(&self) -> usize {
        self.buffered_bytes
    }

    /// Whether everything that was taken in has been answered or given up.
    pub fn is_idle(&self) -> bool {
        self.queues.is_empty()
    }

    /// Whether a batch is full and could go.
    pub fn has_full_batch(&self) -> bool {
        self.queues.values().any(|queue| queue.len() > 1)
    }

    /// Records that were given up since the last call.
    pub fn take_failed(&mut self) -> Vec<Failed> {
        std::mem::take(&mut self.failed)
    }

    /// Sends everything and waits for the answers.
    pub async fn flush(&mut self) -> Result<(), Error> {
        while !self.is_idle() {
            let soon = Instant::now() + Duration::from_millis(100);
            self.step(true, soon).await?;
        }
        Ok(())
    }

    /// Sends what is due (`all`: whatever there is) and takes answers, until `until` or the first answer.
    pub async fn step(&mut self, all: bool, until: Instant) -> Result<(), Error> {
        self.give_up_expired();
        self.refresh_if_needed().await;
        // What is under way belongs to the identity that is over.
        let anonymous = self.config.idempotent && self.identity.is_none();
        if anonymous && self.in_flight.is_empty() && !self.is_idle() {
            self.identify().await?;
        }
        let next_due = self.send_due(all).await;
        tokio::task::yield_now().await;
        let until = next_due.map_or(until, |due| until.min(due));
        if self.under_way.is_empty() {
            tokio::time::sleep_until(until).await;
            return Ok(());
        }
        if let Ok(Some(joined)) = timeout_at(until, self.under_way.join_next()).await {
            let answered = joined.expect("a request's task does not panic");
            self.take_answer(answered);
        }
        while let Some(joined) = self.under_way.try_join_next() {
            let answered = joined.expect("a request's task does not panic");
            self.take_answer(answered);
        }
        Ok(())
    }

    async fn refresh_if_needed(&mut self) {
        let old = self.metadata_since.elapsed() > self.client.config().metadata_age_max;
        if !self.refresh_metadata && !old {
            return;
        }
        let mut topics: Vec<Str> = self.queues.keys().map(|(topic, _)| topic.clone()).collect();
        topics.dedup();
        if self.client.metadata_once(Some(&topics), true).await.is_ok() {
            self.refresh_metadata = false;
            self.metadata_since = Instant::now();
        }
    }

    /// Asks for a producer id, with which batches that come twice are written once.
    async fn identify(&mut self) -> Result<(), Error> {
        let request = InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: i32::MAX,
            producer_id: -1,
            producer_epoch: -1,
            ..Default::default()
        };
        let given = self
            .client
            .retry("initProducerId", async |client: &mut Client| {
                let connection = client.connection(Target::Any).await?;
                let answer: InitProducerIdResponse = connection.call(&request).await?;
                Error::check(answer.error_code, None)?;
                Ok(answer)
            });
        let given = given.await?;
        self.identity = Some(Identity {
            id: given.producer_id,
            epoch: given.producer_epoch,
        });
        self.sequences.clear();
        Ok(())
    }
}
