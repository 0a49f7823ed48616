//! What all clients together know of each partition, and what became of every value.

use std::collections::{BTreeMap, BTreeSet};

use super::{Kind, Op, Outcome, Report, Rules, Step};

/// Where a value may be: a partition and an offset.
pub(super) type Place = (u32, i64);

/// A value that was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    /// Index of its op.
    pub op: usize,
    pub partition: u32,
    pub offset: Option<i64>,
}

#[derive(Debug, Default)]
pub(super) struct Logs {
    pub sent: BTreeMap<u64, Sent>,
    /// Places where some poll found a value.
    pub read: BTreeMap<Place, BTreeSet<u64>>,
    /// Places that polls and answers to sends named.
    known: BTreeMap<Place, BTreeSet<u64>>,
    places: BTreeMap<u64, BTreeSet<Place>>,
}

impl Logs {
    pub fn of(ops: &[Op]) -> Logs {
        let mut logs = Logs::default();
        for (op, step) in steps(ops) {
            match step {
                Step::Send {
                    partition,
                    value,
                    offset,
                } => {
                    let sent = Sent {
                        op,
                        partition: *partition,
                        offset: *offset,
                    };
                    let before = logs.sent.insert(*value, sent);
                    assert!(before.is_none(), "the value {value} was sent twice");
                    if let Some(offset) = offset {
                        logs.know((*partition, *offset), *value);
                    }
                }
                Step::Poll { partition, records } => {
                    for (offset, value) in records {
                        let place = (*partition, *offset);
                        logs.read.entry(place).or_default().insert(*value);
                        logs.know(place, *value);
                    }
                }
                Step::Seek { .. } => {}
            }
        }
        logs
    }

    fn know(&mut self, place: Place, value: u64) {
        self.known.entry(place).or_default().insert(value);
        self.places.entry(value).or_default().insert(place);
    }

    /// The values of a partition in the order of their offsets, as far as they are known.
    pub fn known_of(&self, partition: u32) -> impl Iterator<Item = (i64, u64)> {
        let places = self.known.range((partition, 0)..=(partition, i64::MAX));
        places.filter_map(|((_, offset), values)| Some((*offset, *values.first()?)))
    }

    pub fn partitions(&self) -> BTreeSet<u32> {
        self.known.keys().map(|(partition, _)| *partition).collect()
    }

    pub fn check_offsets(&self, report: &mut Report) {
        for ((partition, offset), values) in &self.known {
            if values.len() > 1 {
                let what = format!("{values:?} at offset {offset} of {partition}");
                report.found(Kind::InconsistentOffsets, what);
            }
        }
        for (value, places) in &self.places {
            if places.len() > 1 {
                report.found(Kind::Duplicate, format!("{value} at {places:?}"));
            }
        }
    }

    /// What became of every value that was sent.
    pub fn check_fates(&self, ops: &[Op], rules: Rules, report: &mut Report) {
        let read: BTreeSet<u64> = self.read.values().flatten().copied().collect();
        let mut furthest = BTreeMap::new();
        for (partition, offset) in self.read.keys() {
            furthest.insert(*partition, *offset);
        }
        // By op: how many of its values were read.
        let mut parts: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
        for (value, sent) in &self.sent {
            let outcome = ops[sent.op].outcome;
            let is_read = read.contains(value);
            let (of_op, of_op_read) = parts.entry(sent.op).or_default();
            *of_op += 1;
            *of_op_read += usize::from(is_read);
            let end = furthest.get(&sent.partition).copied().unwrap_or(-1);
            let is_passed = sent.offset.is_some_and(|offset| offset <= end);
            let what = || {
                let Sent {
                    op,
                    partition,
                    offset,
                } = sent;
                format!("{value} of op {op} in {partition} at {offset:?}, read up to {end}")
            };
            match (outcome, is_read) {
                (Outcome::Failed, true) => report.found(Kind::G1a, what()),
                (Outcome::Ok, false) if is_passed => report.found(Kind::LostWrite, what()),
                (Outcome::Ok, false) if rules.read_to_the_end => {
                    report.found(Kind::Unseen, what());
                }
                _ => {}
            }
        }
        for (op, (sent, read)) in parts {
            let is_part = read > 0 && read < sent;
            if is_part && ops[op].outcome == Outcome::Unknown && rules.read_to_the_end {
                report.found(Kind::Torn, format!("{read} of the {sent} of op {op}"));
            }
        }
    }
}

/// Every step with the index of its op.
pub(super) fn steps(ops: &[Op]) -> impl Iterator<Item = (usize, &Step)> {
    let indexed = ops.iter().enumerate();
    indexed.flat_map(|(index, op)| op.steps.iter().map(move |step| (index, step)))
}
