//! Counted records: written, sent until they are acknowledged, and read back from files.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use milena_base::Timestamp;
use milena_protocol::produce_request::{PartitionProduceData, TopicProduceData};
use milena_protocol::{ProduceRequest, Records, Str};
use milena_records::{BatchBuilder, Codec, Limits, NewRecord, batches};

use super::cluster::Client;
use crate::wire::Wire;

const NOW: i64 = 1_700_000_000_000;
const RECORDS_PER_BATCH: i64 = 10;
/// How long a writer waits for an answer: longer than the request's own timeout.
const PRODUCE_PATIENCE: Duration = Duration::from_secs(6);

/// Writes counted records to one partition until it is told to end; every batch until it is acknowledged.
pub struct Writer {
    pub client: Client,
    pub topic: &'static str,
    pub partition: i32,
    pub acked: Arc<AtomicI64>,
    pub ends: Arc<AtomicBool>,
    /// After each batch.
    pub pause: Duration,
}

impl Writer {
    /// How many batches had to be sent again.
    pub fn run(self) -> u32 {
        let id = self.client.producer_id();
        let (mut next, mut resent) = (0, 0);
        let mut wire = None;
        while !self.ends.load(Ordering::Acquire) {
            let records = batch((id.producer_id, id.producer_epoch), next, RECORDS_PER_BATCH);
            let request = produce(self.topic, self.partition, &records, -1);
            let deadline = Instant::now() + Duration::from_secs(60);
            while !self.send(&mut wire, &request) {
                let stuck = Instant::now() > deadline;
                assert!(!stuck, "partition {} is stuck", self.partition);
                (wire, resent) = (None, resent + 1);
                thread::sleep(Duration::from_millis(50));
            }
            next += RECORDS_PER_BATCH;
            self.acked.store(next, Ordering::Release);
            thread::sleep(self.pause);
        }
        resent
    }

    fn send(&self, wire: &mut Option<Wire>, request: &ProduceRequest) -> bool {
        if wire.is_none() {
            let leader = self.client.leader(self.topic, self.partition);
            let connected = leader.and_then(|(_, at)| Wire::try_connect(&at));
            *wire = connected.map(|wire| wire.within(PRODUCE_PATIENCE));
        }
        let Some(wire) = wire else { return false };
        let answer = wire.try_call(request, 9);
        let code = answer.map(|a| a.responses[0].partition_responses[0].error_code);
        // Sequences that were refused for good would be a defect, not bad luck.
        assert_ne!(code, Some(45), "OUT_OF_ORDER_SEQUENCE_NUMBER");
        code == Some(0)
    }
}

/// A batch of the numbers from `first` on, by a producer with its id and epoch, whose sequences are the numbers.
pub fn batch(producer: (i64, i16), first: i64, count: i64) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::NONE);
    if producer.0 >= 0 {
        builder = builder.producer(producer.0, producer.1, first as i32);
    }
    for number in first..first + count {
        let text = number.to_string();
        let record = NewRecord {
            timestamp: Timestamp(NOW + number),
            key: None,
            value: Some(text.as_bytes()),
            headers: &[],
        };
        builder.append(record).expect("it fits");
    }
    builder.build().to_bytes()
}

pub fn produce(topic: &str, partition: i32, batch: &Bytes, acks: i16) -> ProduceRequest {
    ProduceRequest {
        acks,
        timeout_ms: 5_000,
        topic_data: vec![TopicProduceData {
            name: Str::copy(topic),
            partition_data: vec![PartitionProduceData {
                index: partition,
                records: Some(Records::Bytes(batch.clone())),
            }],
            ..TopicProduceData::default()
        }],
        ..ProduceRequest::default()
    }
}

/// The numbers in a log, in its order.
pub fn numbers(log: Vec<u8>) -> Vec<i64> {
    let mut numbers = Vec::new();
    for batch in batches(Bytes::from(log)) {
        let batch = batch.expect("the log is whole");
        if batch.header().is_control() {
            continue;
        }
        for record in batch.records(Limits::default()) {
            let record = record.expect("it can be read");
            let value = record.value.as_ref().expect("it has one");
            let text = std::str::from_utf8(value).expect("text");
            numbers.push(text.parse().expect("a number"));
        }
    }
    numbers
}
