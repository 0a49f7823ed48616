//! From a fetched buffer to records, batch by batch: aborted transactions and control batches are left out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use milena_protocol::fetch_response::AbortedTransaction;
use milena_records::{Batch, Batches, ControlType, Header, Limits, Record, TimestampType, batches};

use super::Place;
use crate::Error;

/// A record as a consumer gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerRecord {
    pub topic: milena_protocol::Str,
    pub partition: i32,
    pub offset: i64,
    pub timestamp: i64,
    pub timestamp_type: TimestampType,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<Header>,
    /// −1 where the batch has none.
    pub leader_epoch: i32,
}

/// What a fetch brought for one partition.
pub struct Fetched {
    pub place: Place,
    batches: Batches,
    /// Producers with the first offset of what they aborted, ascending; `None`: everything is read.
    aborted: Option<BTreeMap<i64, Vec<i64>>>,
    aborting: BTreeSet<i64>,
    /// Offset from which records are wanted; after the last record handed out.
    pub next_offset: i64,
    current: VecDeque<Record>,
    /// Of the batch that `current` is from.
    batch_end: i64,
    timestamp_type: TimestampType,
    pub leader_epoch: i32,
    check_crcs: bool,
}

impl Fetched {
    pub fn new(
        place: Place,
        records: Bytes,
        offset: i64,
        aborted: Option<&[AbortedTransaction]>,
        check_crcs: bool,
    ) -> Fetched {
        let aborted = aborted.map(|list| {
            let mut by_offset: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
            for txn in list {
                by_offset
                    .entry(txn.first_offset)
                    .or_default()
                    .push(txn.producer_id);
            }
            by_offset
        });
        Fetched {
            place,
            batches: batches(records),
            aborted,
            aborting: BTreeSet::new(),
            next_offset: offset,
            current: VecDeque::new(),
            batch_end: offset,
            timestamp_type: TimestampType::CreateTime,
            leader_epoch: -1,
            check_crcs,
        }
    }

    /// The next record; `None` at the end, when `next_offset` is where the next fetch begins.
    pub fn next_record(&mut self) -> Result<Option<ConsumerRecord>, Error> {
        loop {
            if let Some(record) = self.current.pop_front() {
                if record.offset.0 >= self.next_offset {
                    self.next_offset = record.offset.0 + 1;
                    return Ok(Some(self.handed_out(record)));
                }
                continue;
            }
            self.next_offset = self.next_offset.max(self.batch_end);
            let Some(batch) = self.batches.next() else {
                return Ok(None);
            };
            let batch = batch.map_err(|error| self.broken(&error.to_string()))?;
            self.open(&batch)?;
        }
    }

    /// Whether records of the batch that was opened last are left.
    pub fn is_within_batch(&self) -> bool {
        !self.current.is_empty()
    }

    fn open(&mut self, batch: &Batch) -> Result<(), Error> {
        let header = *batch.header();
        if self.check_crcs {
            batch
                .check_crc()
                .map_err(|error| self.broken(&error.to_string()))?;
        }
        self.batch_end = header.next_offset().0;
        self.leader_epoch = header.leader_epoch_raw();
        self.timestamp_type = header.timestamp_type();
        let skipped = self.is_aborted(batch);
        if skipped || header.is_control() {
            return Ok(());
        }
        for record in batch.records(Limits::default()) {
            let record = record.map_err(|error| self.broken(&error.to_string()))?;
            self.current.push_back(record);
        }
        Ok(())
    }

    /// Follows the markers: a producer's batches are aborted from its first offset on, until its abort marker.
    fn is_aborted(&mut self, batch: &Batch) -> bool {
        let header = batch.header();
        let Some(aborted) = &mut self.aborted else {
            return false;
        };
        while let Some(first) = aborted.first_entry() {
            if *first.key() > header.last_offset().0 {
                break;
            }
            self.aborting.extend(first.remove());
        }
        let producer = header.producer_id();
        if header.is_control() {
            let first = batch.records(Limits::default()).next();
            let key = first.and_then(Result::ok).and_then(|record| record.key);
            if key.and_then(|key| ControlType::of_key(&key)) == Some(ControlType::Abort) {
                self.aborting.remove(&producer);
            }
            return true;
        }
        header.is_transactional() && self.aborting.contains(&producer)
    }

    fn handed_out(&self, record: Record) -> ConsumerRecord {
        ConsumerRecord {
            topic: self.place.0.clone(),
            partition: self.place.1,
            offset: record.offset.0,
            timestamp: record.timestamp.0,
            timestamp_type: self.timestamp_type,
            key: record.key,
            value: record.value,
            headers: record.headers,
            leader_epoch: self.leader_epoch,
        }
    }

    fn broken(&self, why: &str) -> Error {
        let (topic, partition) = &self.place;
        Error::Malformed {
            peer: format!("the leader of {topic}-{partition}"),
            what: format!(
                "a batch that can't be read, at or after offset {}: {why}",
                self.next_offset
            ),
        }
    }
}
