//! What stays of a batch: Kafka's rules of retention (`Cleaner.cleanInto`, `MemoryRecords.filterTo`).

use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;
use milena_base::{Offset, Timestamp};
use milena_records::{Batch, BatchHeader, Limits, Record, emptied, retain_records};

use super::offset_map::OffsetMap;
use super::source::invalid;
use super::transactions::Meaning;

/// The batch that the state of a producer rests on.
#[derive(Clone, Copy, Debug)]
pub(super) struct LastBatch {
    /// Offset of its last record; `None` where only markers are known.
    pub data: Option<Offset>,
    pub epoch: i16,
}

/// What a round of cleaning goes by.
pub(super) struct Rules {
    pub producers: BTreeMap<i64, LastBatch>,
    pub high_watermark: Offset,
    pub now: Timestamp,
    pub delete_retention_ms: i64,
}

/// What stays of a batch.
pub(super) enum Left {
    Nothing,
    /// All of it, byte for byte.
    Same,
    Less(Bytes),
}

/// Counts of one batch.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub read: u64,
    pub kept: u64,
    /// Without a key, which compaction cannot keep.
    pub keyless: u64,
}

impl Rules {
    pub(super) fn left_of(
        &self,
        batch: &Batch,
        meaning: Meaning,
        map: &OffsetMap,
        counts: &mut Counts,
    ) -> io::Result<Left> {
        let header = batch.header();
        let discarded = meaning.discardable && self.is_past_its_time(header);
        let kept_when_empty =
            self.is_last_of_producer(header) || header.next_offset() == self.high_watermark;
        let records = u64::try_from(header.count()).unwrap_or(0);
        counts.read += records;
        if discarded {
            return Ok(without_records(header, kept_when_empty));
        }
        let sifted = self.sift(batch, map, counts)?;
        if sifted.kept == 0 {
            return Ok(without_records(header, kept_when_empty));
        }
        counts.kept += sifted.kept;
        let empty_txn = meaning.discardable && header.is_control();
        let new_horizon = (sifted.tombstones || empty_txn) && header.delete_horizon().is_none();
        if sifted.kept == records && !new_horizon {
            return Ok(Left::Same);
        }
        let horizon = match new_horizon {
            true => Some(Timestamp(
                self.now.0.saturating_add(self.delete_retention_ms),
            )),
            false => header.delete_horizon(),
        };
        let left = retain_records(batch, &sifted.keep, horizon, Limits::default());
        left.map(Left::Less).map_err(invalid)
    }

    /// A marker stays for `delete.retention.ms` after its transaction is gone, so that a slow reader sees the
    /// transaction end.
    fn is_past_its_time(&self, header: &BatchHeader) -> bool {
        !header.is_control() || header.delete_horizon().is_some_and(|at| at <= self.now)
    }

    /// Whether the producer's state would be lost with the batch: its last sequence, or its epoch.
    fn is_last_of_producer(&self, header: &BatchHeader) -> bool {
        if !header.has_producer_id() {
            return false;
        }
        let last = self.producers.get(&header.producer_id());
        last.is_some_and(|last| match last.data {
            Some(offset) => header.last_offset() == offset,
            None => header.is_control() && header.producer_epoch() == last.epoch,
        })
    }

    fn sift(&self, batch: &Batch, map: &OffsetMap, counts: &mut Counts) -> io::Result<Sifted> {
        let mut sifted = Sifted::default();
        for record in batch.records(Limits::default()) {
            let record = record.map_err(invalid)?;
            let keep =
                batch.header().is_control() || self.keeps(batch.header(), &record, map, counts);
            sifted.keep.push(keep);
            if keep {
                sifted.kept += 1;
                sifted.tombstones |= record.value.is_none();
            }
        }
        Ok(sifted)
    }

    fn keeps(
        &self,
        header: &BatchHeader,
        record: &Record,
        map: &OffsetMap,
        counts: &mut Counts,
    ) -> bool {
        if record.offset > map.latest() {
            return true;
        }
        let Some(key) = &record.key else {
            counts.keyless += 1;
            return false;
        };
        let is_newest = map.get(key).is_none_or(|newest| record.offset >= newest);
        let is_needed = || {
            let horizon = header.delete_horizon();
            record.value.is_some() || horizon.is_none_or(|horizon| self.now < horizon)
        };
        is_newest && is_needed()
    }
}

/// Which records of a batch stay.
#[derive(Default)]
struct Sifted {
    keep: Vec<bool>,
    kept: u64,
    tombstones: bool,
}

fn without_records(header: &BatchHeader, kept: bool) -> Left {
    match kept {
        true => Left::Less(emptied(header)),
        false => Left::Nothing,
    }
}
