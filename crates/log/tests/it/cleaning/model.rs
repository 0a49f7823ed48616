//! The naive model: every record that was ever appended, and what must be left of them.

use std::collections::BTreeMap;

use milena_base::{Epoch, Offset, Timestamp};
use milena_log::{Log, LogReader};
use milena_records::{Limits, batches};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
    pub timestamp: i64,
    /// Producer of a transactional record.
    pub txn: Option<i64>,
}

/// The fate of a transactional producer's records up to an offset.
#[derive(Clone, Copy, Debug)]
pub struct End {
    pub producer: i64,
    pub marker: i64,
    pub commit: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Model {
    pub records: BTreeMap<i64, Stored>,
    pub ends: Vec<End>,
    /// Last sequence of each producer, and the epoch.
    pub sequences: BTreeMap<i64, i32>,
    pub end: i64,
    /// The log is clean below; time of each cleaning and where it ended.
    pub cleanings: Vec<(i64, i64)>,
    pub cleaned_to: i64,
    /// No cleaning has touched what follows.
    pub dirty_from: i64,
}

/// What was compared, for the report.
#[derive(Debug, Default)]
pub struct Compared {
    pub looks: u64,
    pub records: u64,
    pub keys: u64,
    pub dropped: u64,
    pub aborted: u64,
    pub tombstones_kept: u64,
    pub tombstones_gone: u64,
}

impl Model {
    fn end_of(&self, offset: i64, producer: i64) -> Option<End> {
        let ends = self.ends.iter();
        let mut of = ends.filter(|end| end.producer == producer && end.marker > offset);
        of.next().copied()
    }

    fn is_aborted(&self, offset: i64, record: &Stored) -> bool {
        let end = record
            .txn
            .and_then(|producer| self.end_of(offset, producer));
        end.is_some_and(|end| !end.commit)
    }

    fn is_undecided(&self, offset: i64, record: &Stored) -> bool {
        record
            .txn
            .is_some_and(|producer| self.end_of(offset, producer).is_none())
    }

    /// The newest record of each key that counts: not aborted.
    fn newest(&self) -> BTreeMap<&[u8], (i64, &Stored)> {
        let mut newest = BTreeMap::new();
        for (offset, record) in &self.records {
            if !self.is_aborted(*offset, record) {
                newest.insert(&record.key[..], (*offset, record));
            }
        }
        newest
    }

    /// When the first cleaning that saw a record as the newest of its key began.
    fn first_cleaned(&self, offset: i64) -> Option<i64> {
        let mut passed = self.cleanings.iter().filter(|(_, to)| *to > offset);
        passed.next().map(|(at, _)| *at)
    }

    /// Compares a log with the model; `now` is the latest time of any cleaning.
    pub fn check(&self, log: &Log, delete_retention_ms: i64, compared: &mut Compared) {
        let reader = log.reader();
        let found = read_all(&reader, log.log_end());
        compared.looks += 1;
        compared.records += found.len() as u64;
        compared.dropped += (self.records.len() - found.len()) as u64;
        for (offset, record) in &found {
            assert_eq!(Some(record), self.records.get(offset), "offset {offset}");
        }
        for (offset, record) in self.records.range(self.dirty_from..) {
            // Aborted ones may go from the segment that the cleaning ended in.
            if !self.is_aborted(*offset, record) {
                assert!(found.contains_key(offset), "offset {offset} is dirty");
            }
        }
        for (offset, record) in &self.records {
            if self.is_undecided(*offset, record) {
                assert!(found.contains_key(offset), "offset {offset} is undecided");
            }
        }
        let last_cleaning = self.cleanings.last().map_or(i64::MIN, |(at, _)| *at);
        for (key, (offset, record)) in self.newest() {
            compared.keys += 1;
            let is_there = found.contains_key(&offset);
            let first = self.first_cleaned(offset).unwrap_or(i64::MAX);
            let may_go = record.value.is_none()
                && first.saturating_add(delete_retention_ms) <= last_cleaning;
            assert!(is_there || may_go, "the newest of {key:?}, at {offset}");
            match (&record.value, is_there) {
                (None, true) => compared.tombstones_kept += 1,
                (None, false) => {
                    compared.tombstones_gone += 1;
                    // A deleted key does not come back.
                    let older = found.iter().find(|(older, record)| {
                        record.key == key && !self.is_aborted(**older, record)
                    });
                    assert_eq!(older, None, "{key:?} was deleted at {offset}");
                }
                _ => {}
            }
        }
        self.check_committed(&reader, &found, log, compared);
        self.check_producers(log);
    }

    /// A consumer that reads committed records, as clients do it, gets those that were not aborted.
    fn check_committed(
        &self,
        reader: &LogReader,
        found: &BTreeMap<i64, Stored>,
        log: &Log,
        compared: &mut Compared,
    ) {
        let stable = reader.last_stable_offset(log.log_end());
        let mut seen = Vec::new();
        let mut offset = log.log_start();
        while offset < stable {
            let slice = reader.read(offset, 900, stable, true).expect("in range");
            let mut aborted = reader.aborted_in_slice(offset, &slice).expect("an index");
            aborted.sort_by_key(|txn| txn.first_offset);
            let mut aborting: Vec<i64> = Vec::new();
            let Some(file) = slice.file else { break };
            let bytes = file.read().expect("readable");
            for batch in batches(bytes.into()) {
                let batch = batch.expect("a batch");
                let header = *batch.header();
                offset = header.next_offset();
                aborted.retain(|txn| {
                    let begins = txn.first_offset <= header.last_offset();
                    if begins {
                        aborting.push(txn.producer_id);
                    }
                    !begins
                });
                if header.is_control() {
                    aborting.retain(|id| *id != header.producer_id());
                    continue;
                }
                if header.is_transactional() && aborting.contains(&header.producer_id()) {
                    continue;
                }
                for record in batch.records(Limits::default()) {
                    seen.push(record.expect("a record").offset.0);
                }
            }
        }
        let all = found.range(..stable.0);
        let expected: Vec<i64> = all
            .filter(|(offset, record)| !self.is_aborted(**offset, record))
            .map(|(offset, _)| *offset)
            .collect();
        compared.aborted += (found.len() - expected.len()) as u64;
        assert_eq!(seen, expected, "what a consumer of committed records sees");
    }

    fn check_producers(&self, log: &Log) {
        let known: BTreeMap<i64, i32> = log
            .active_producers()
            .map(|entry| (entry.producer_id, entry.last_sequence()))
            .collect();
        assert_eq!(known, self.sequences, "the last sequences");
    }
}

/// Every data record, checking what must hold of any log (invariant 2).
pub fn read_all(reader: &LogReader, end: Offset) -> BTreeMap<i64, Stored> {
    let mut found = BTreeMap::new();
    let mut offset = reader.log_start();
    let (mut next, mut epoch) = (Offset::ZERO, Epoch::NONE);
    while offset < end {
        let slice = reader.read(offset, 4_000, end, true).expect("in range");
        let Some(file) = slice.file else { break };
        let bytes = file.read().expect("readable");
        for batch in batches(bytes.into()) {
            let batch = batch.expect("a batch");
            batch.check_crc().expect("intact");
            let header = *batch.header();
            assert!(header.base_offset() >= next && header.leader_epoch() >= epoch);
            (next, epoch) = (header.next_offset(), header.leader_epoch());
            offset = next;
            if header.is_control() {
                continue;
            }
            for record in batch.records(Limits::default()) {
                let record = record.expect("a record");
                let Timestamp(timestamp) = record.timestamp;
                let stored = Stored {
                    key: record.key.expect("a key").to_vec(),
                    value: record.value.map(|value| value.to_vec()),
                    timestamp,
                    txn: header.is_transactional().then(|| header.producer_id()),
                };
                found.insert(record.offset.0, stored);
            }
        }
    }
    found
}
