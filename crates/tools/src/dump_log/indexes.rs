//! Indexes, checked against their segment, and producer snapshots.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use milena_base::{Offset, Timestamp};
use milena_log::{
    OffsetEntry, TimeEntry, parse_offset_index, parse_snapshot, parse_time_index, parse_txn_index,
};

use super::batches::Batches;
use super::{absolute, base_offset, read, sibling, with_path};
use crate::say::out;

/// What is wrong with the files, by file; told at the end.
#[derive(Debug, Default)]
pub struct Findings {
    mismatches: BTreeMap<String, Vec<(i64, i64)>>,
    timestamps: BTreeMap<String, Vec<(i64, i64)>>,
    disorder: BTreeMap<String, Vec<(i64, i64)>>,
    missing: BTreeMap<String, Vec<(i64, i64)>>,
    gaps: BTreeMap<String, Vec<(i64, i64)>>,
}

impl Findings {
    pub fn gap(&mut self, file: &str, first: i64, second: i64) {
        self.gaps
            .entry(file.to_string())
            .or_default()
            .push((first, second));
    }

    /// The lines for stderr.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut list = |head: &str, found: &BTreeMap<String, Vec<(i64, i64)>>, a: &str, b: &str| {
            for (file, pairs) in found {
                let _ = writeln!(text, "{head}{file}");
                for (first, second) in pairs {
                    let _ = writeln!(text, "{a}{first}{b}{second}");
                }
            }
        };
        let (index, log) = ("  Index offset: ", ", log offset: ");
        list("Mismatches in :", &self.mismatches, index, log);
        let (index, log) = ("  Index timestamp: ", ", log timestamp: ");
        list(
            "Found timestamp mismatch in :",
            &self.timestamps,
            index,
            log,
        );
        let before = ", Previously indexed timestamp: ";
        list(
            "Found out of order timestamp in :",
            &self.disorder,
            "  Index timestamp: ",
            before,
        );
        let head = "The following indexed offsets are not found in :";
        list(
            head,
            &self.missing,
            "Indexed offset: ",
            ", found log offset: ",
        );
        list(
            "Non-consecutive offsets in ",
            &self.gaps,
            "  ",
            " is followed by ",
        );
        text
    }
}

/// The entries as Kafka's tool sees them: of a file of zeros, the first.
fn offset_entries(file: &Path) -> Result<Vec<OffsetEntry>, String> {
    let bytes = read(file)?;
    let mut entries = parse_offset_index(&bytes).map_err(|error| with_path(file, error))?;
    if entries.is_empty() && !bytes.is_empty() {
        entries.push(OffsetEntry {
            relative_offset: 0,
            position: 0,
        });
    }
    Ok(entries)
}

pub fn offsets(
    file: &Path,
    sanity: bool,
    quiet: bool,
    findings: &mut Findings,
) -> Result<(), String> {
    let base = Offset(base_offset(file)?);
    let log = sibling(file, "log");
    let entries = offset_entries(file)?;
    Batches::open(&log, 0, u64::MAX)?;
    if entries.is_empty() {
        out(format_args!("{} is empty.\n", file.display()));
        return Ok(());
    }
    if sanity {
        out(format_args!("{} passed sanity check.\n", file.display()));
        return Ok(());
    }
    for entry in entries {
        let offset = entry.offset(base).0;
        let found = Batches::open(&log, entry.position.into(), u64::MAX)?.next();
        let found = found.map_err(|why| with_path(&log, why))?;
        let last = found.map_or(-1, |batch| batch.header().last_offset().0);
        if last != offset {
            let pairs = findings.mismatches.entry(absolute(file)).or_default();
            pairs.push((offset, last));
        }
        if !quiet {
            out(format_args!(
                "offset: {offset} position: {}\n",
                entry.position
            ));
        }
    }
    Ok(())
}

pub fn times(
    file: &Path,
    sanity: bool,
    quiet: bool,
    findings: &mut Findings,
) -> Result<(), String> {
    let base = Offset(base_offset(file)?);
    let log = sibling(file, "log");
    let bytes = read(file)?;
    let mut entries = parse_time_index(&bytes).map_err(|error| with_path(file, error))?;
    if sanity {
        out(format_args!("{} passed sanity check.\n", file.display()));
        return Ok(());
    }
    if entries.is_empty() && !bytes.is_empty() {
        entries.push(TimeEntry {
            timestamp: Timestamp(0),
            relative_offset: 0,
        });
    }
    let offsets = offset_entries(&sibling(file, "index"))?;
    let mut before = -1;
    for entry in entries {
        check_time(file, &log, base, &entry, &offsets, before, findings)?;
        if !quiet {
            let (time, offset) = (entry.timestamp.0, entry.offset(base).0);
            out(format_args!("timestamp: {time} offset: {offset}\n"));
        }
        before = entry.timestamp.0;
    }
    Ok(())
}

fn check_time(
    file: &Path,
    log: &Path,
    base: Offset,
    entry: &TimeEntry,
    offsets: &[OffsetEntry],
    before: i64,
    findings: &mut Findings,
) -> Result<(), String> {
    let (offset, time) = (entry.offset(base).0, entry.timestamp.0);
    let at_most = offsets.partition_point(|other| other.offset(base).0 <= offset);
    let position = at_most.checked_sub(1).map_or(0, |at| offsets[at].position);
    let mut batches = Batches::open(log, position.into(), u64::MAX)?;
    let found = loop {
        match batches.next().map_err(|why| with_path(log, why))? {
            Some(batch) if batch.header().last_offset().0 < offset => {}
            other => break other,
        }
    };
    let header = found.map(|batch| *batch.header());
    let last = header.map_or(-1, |header| header.last_offset().0);
    if last != offset {
        findings
            .missing
            .entry(absolute(file))
            .or_default()
            .push((offset, last));
        return Ok(());
    }
    let max = header.map_or(-1, |header| header.max_timestamp_raw());
    if max != time {
        findings
            .timestamps
            .entry(absolute(file))
            .or_default()
            .push((time, max));
    }
    if before >= time {
        findings
            .disorder
            .entry(absolute(file))
            .or_default()
            .push((time, before));
    }
    Ok(())
}

pub fn producers(file: &Path) -> Result<(), String> {
    let entries = match parse_snapshot(&read(file)?) {
        Ok(entries) => entries,
        Err(error) => {
            eprintln!("{}", with_path(file, error));
            return Ok(());
        }
    };
    for entry in entries {
        let open = entry.txn_first_offset;
        let open = open.map_or("OptionalLong.empty".into(), |o| {
            format!("OptionalLong[{}]", o.0)
        });
        let mut text = format!(
            "producerId: {} producerEpoch: {} coordinatorEpoch: {} currentTxnFirstOffset: {open} lastTimestamp: {} ",
            entry.producer_id,
            entry.producer_epoch,
            entry.coordinator_epoch,
            entry.last_timestamp.0
        );
        if let Some(batch) = entry.batches().first() {
            let _ = write!(
                text,
                "firstSequence: {} lastSequence: {} lastOffset: {} offsetDelta: {} timestamp: {}",
                batch.first_sequence(),
                batch.last_sequence,
                batch.last_offset.0,
                batch.offset_delta,
                batch.timestamp.0
            );
        }
        out(format_args!("{text}\n"));
    }
    Ok(())
}

pub fn transactions(file: &Path) -> Result<(), String> {
    let entries = parse_txn_index(&read(file)?).map_err(|error| with_path(file, error))?;
    for entry in entries {
        out(format_args!(
            "version: 0 producerId: {} firstOffset: {} lastOffset: {} lastStableOffset: {}\n",
            entry.producer_id,
            entry.first_offset.0,
            entry.last_offset.0,
            entry.last_stable_offset.0
        ));
    }
    Ok(())
}
