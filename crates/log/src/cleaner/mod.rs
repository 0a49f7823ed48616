//! Compaction. A cleaning of one log reads its dirty segments into a map from key to newest offset, then copies what
//! the map and Kafka's rules leave of every segment, group by group, into new segments that take their places.
//!
//! It works in bounded steps on segments that never change, so its owner needs the partition's lock only to begin
//! ([`Log::begin_cleaning`]) and to put a finished segment in place ([`Log::put_in_place`]); between any two steps it
//! may stop, wait, or give up. Offsets, epochs, sequences and the order of records stay. Readers that have the old
//! segments in view go on with their files.

mod dirty;
mod filter;
mod groups;
mod offset_map;
mod place;
mod source;
mod transactions;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use milena_base::{Offset, Timestamp};
use milena_records::Batch;

use crate::error::Fault;
use crate::log::{Log, Segments};
use crate::options::LogOptions;
use crate::reader::aborted_between;
use crate::segment::{AbortedTxn, Appended, Appender, Env, Segment};
pub use dirty::Cleanable;
use filter::{Counts, LastBatch, Left, Rules};
use offset_map::OffsetMap;
use source::{Source, Stored};
use transactions::Transactions;

/// What one cleaning may use.
#[derive(Clone, Copy, Debug)]
pub struct CleanerOptions {
    /// Bytes of the map from keys to offsets, 24 a key (`log.cleaner.dedupe.buffer.size` of one cleaner).
    pub dedupe_buffer_bytes: u64,
    /// The share of it that may be filled (`log.cleaner.io.buffer.load.factor`).
    pub dedupe_buffer_load_factor: f64,
    /// Bytes that are read at a time, and written at a time; a larger batch takes what it needs.
    pub io_buffer_bytes: usize,
    /// Random: nobody who chooses keys may know it.
    pub secret: [u8; 16],
}

/// Why a cleaning ended early. The log is as it was, but for the groups that are in place already.
#[derive(Debug)]
pub enum CleanError {
    /// The log was truncated, cut at its start or deleted meanwhile.
    Gone,
    /// Something in the log cannot be cleaned, and could not the next time; the sentence says what.
    Uncleanable(String),
    Fault(Fault),
}

impl fmt::Display for CleanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CleanError::Gone => f.write_str("the log changed while it was cleaned"),
            CleanError::Uncleanable(why) => f.write_str(why),
            CleanError::Fault(fault) => fault.fmt(f),
        }
    }
}

impl std::error::Error for CleanError {}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CleanStep {
    /// Bytes read and written; there is more to do.
    Worked { bytes: u64 },
    /// A segment is ready and durable, to be put in place by [`Log::put_in_place`].
    Ready,
    /// All is done: below this offset the log is clean, and the checkpoint may say so.
    Done { cleaned_to: Offset },
}

/// What a cleaning has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CleanStats {
    /// Keys in the map.
    pub keys: u64,
    pub map_bytes_read: u64,
    pub bytes_read: u64,
    pub bytes_written: u64,
    pub records_read: u64,
    pub records_kept: u64,
    /// Records without a key, which were dropped.
    pub keyless: u64,
    pub segments_before: u64,
    pub segments_after: u64,
}

/// A cleaning of one log.
pub struct Cleaning {
    env: Arc<Env>,
    view: Arc<Segments>,
    options: LogOptions,
    log_start: Offset,
    first_dirty: Offset,
    first_uncleanable: Offset,
    io_buffer_bytes: usize,
    map: OffsetMap,
    rules: Rules,
    /// Of the pass that copies.
    transactions: Transactions,
    phase: Phase,
    stats: CleanStats,
}

enum Phase {
    Mapping(Mapping),
    Copying {
        groups: VecDeque<Range<usize>>,
        current: Option<Copying>,
    },
    Over,
}

/// The pass that fills the map.
struct Mapping {
    /// The segments from the first dirty one on.
    segments: Range<usize>,
    source: Option<Source>,
    transactions: Transactions,
}

/// A group of segments that becomes one.
struct Copying {
    group: Range<usize>,
    next: usize,
    source: Option<Source>,
    target: Arc<Segment>,
    appender: Appender,
    is_ready: bool,
}

impl Log {
    /// Begins a cleaning of what [`Log::cleanable`] found; the same high watermark and time go with it.
    pub fn begin_cleaning(
        &mut self,
        cleanable: &Cleanable,
        high_watermark: Offset,
        now: Timestamp,
        cleaner: &CleanerOptions,
    ) -> Result<Cleaning, CleanError> {
        self.check_writable().map_err(CleanError::Fault)?;
        let view = self.shared.segments.load_full();
        let env = Arc::clone(&self.shared.env);
        let producers = self.producers.entries().map(|entry| {
            let last = LastBatch {
                data: entry.last_batch().map(|batch| batch.last_offset),
                epoch: entry.producer_epoch,
            };
            (entry.producer_id, last)
        });
        let rules = Rules {
            producers: producers.collect(),
            high_watermark,
            now,
            delete_retention_ms: self.options.delete_retention_ms,
        };
        let offsets = (cleanable.first_uncleanable - cleanable.first_dirty).max(0) as u64;
        let map = OffsetMap::new(
            cleaner.secret,
            cleaner.dedupe_buffer_bytes,
            cleaner.dedupe_buffer_load_factor,
            offsets,
        );
        let mut cleaning = Cleaning {
            env,
            view,
            options: self.options.clone(),
            log_start: self.log_start(),
            first_dirty: cleanable.first_dirty,
            first_uncleanable: cleanable.first_uncleanable,
            io_buffer_bytes: cleaner.io_buffer_bytes.max(1),
            map,
            rules,
            transactions: Transactions::default(),
            phase: Phase::Over,
            stats: CleanStats::default(),
        };
        let mapping = cleaning.begin_mapping();
        cleaning.phase = Phase::Mapping(cleaning.checked(mapping)?);
        Ok(cleaning)
    }
}

impl Cleaning {
    pub fn stats(&self) -> CleanStats {
        self.stats
    }

    /// Does a bounded piece of work: reads about a buffer, and writes what is left of it. Needs no lock.
    pub fn step(&mut self) -> Result<CleanStep, CleanError> {
        let before = self.stats;
        let stepped = self.try_step();
        if let Some(step) = self.checked(stepped)? {
            return Ok(step);
        }
        let now = self.stats;
        let bytes = now.map_bytes_read + now.bytes_read + now.bytes_written;
        let bytes_before = before.map_bytes_read + before.bytes_read + before.bytes_written;
        Ok(CleanStep::Worked {
            bytes: bytes - bytes_before,
        })
    }

    /// Gives up: what was written and is not in place goes.
    pub fn abandon(self) -> Result<(), Fault> {
        match self.phase {
            Phase::Copying {
                current: Some(current),
                ..
            } => current
                .target
                .remove_cleaned()
                .map_err(|error| self.env.fault(error)),
            _ => Ok(()),
        }
    }

    fn checked<T>(&self, result: io::Result<T>) -> Result<T, CleanError> {
        result.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => CleanError::Gone,
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                CleanError::Uncleanable(format!("{}: {error}", self.env.dir.display()))
            }
            _ => CleanError::Fault(self.env.fault(error)),
        })
    }

    fn try_step(&mut self) -> io::Result<Option<CleanStep>> {
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Mapping(mut mapping) => {
                let is_mapped = self.map_some(&mut mapping)?;
                self.phase = match is_mapped {
                    true => self.begin_copying(),
                    false => Phase::Mapping(mapping),
                };
                Ok(None)
            }
            Phase::Copying { groups, current } => self.copy_some(groups, current),
            Phase::Over => Ok(Some(CleanStep::Done {
                cleaned_to: self.cleaned_to(),
            })),
        }
    }

    /// Below it every newest record is in the map.
    fn cleaned_to(&self) -> Offset {
        self.first_dirty.max(self.map.latest() + 1)
    }

    fn begin_mapping(&self) -> io::Result<Mapping> {
        let (from, to) = (self.first_dirty, self.first_uncleanable);
        let end = self.view.partition_point(|segment| segment.base() < to);
        let first = self.view.partition_point(|segment| segment.base() <= from);
        let mut transactions = Transactions::default();
        transactions.add(self.aborted_between(from, to)?);
        Ok(Mapping {
            segments: first.saturating_sub(1).min(end)..end,
            source: None,
            transactions,
        })
    }

    /// As Kafka, without those that ended before the log's start: nobody reads them any more.
    fn aborted_between(&self, from: Offset, to: Offset) -> io::Result<Vec<AbortedTxn>> {
        let mut aborted = aborted_between(&self.view, from, to)?;
        aborted.retain(|txn| txn.last_offset >= self.log_start);
        Ok(aborted)
    }

    /// Reads one buffer into the map. Whether the map is complete, or full.
    fn map_some(&mut self, mapping: &mut Mapping) -> io::Result<bool> {
        let Some(segment) = self.view.get(mapping.segments.start) else {
            return Ok(true);
        };
        if mapping.segments.is_empty() {
            return Ok(true);
        }
        let mut source = match mapping.source.take() {
            Some(source) => source,
            None => Source::new(segment, segment.position_near(self.first_dirty)?)?,
        };
        if !source.is_at_end() {
            for stored in source.next(self.io_buffer_bytes)? {
                if !self.map_batch(&stored, mapping)? {
                    return Ok(true);
                }
            }
            mapping.source = Some(source);
            return Ok(false);
        }
        mapping.segments.start += 1;
        let next = match mapping.segments.is_empty() {
            true => self.first_uncleanable,
            false => self.view[mapping.segments.start].base(),
        };
        self.map.set_latest(next + -1);
        Ok(mapping.segments.is_empty())
    }

    /// False once the map is full.
    fn map_batch(&mut self, stored: &Stored, mapping: &mut Mapping) -> io::Result<bool> {
        let (last_offset, size) = match stored {
            Stored::Legacy {
                last_offset, bytes, ..
            } => (*last_offset, bytes.len()),
            Stored::Batch(batch) => (batch.header().last_offset(), batch.bytes().len()),
        };
        self.stats.map_bytes_read += size as u64;
        if let Stored::Batch(batch) = stored {
            let meaning = mapping.transactions.on_batch(batch.header(), batch.bytes());
            let has_values = !batch.header().is_control() && !meaning.discardable;
            if has_values && !self.map_records(batch)? {
                return Ok(false);
            }
        }
        if last_offset >= self.first_dirty {
            self.map.set_latest(last_offset);
        }
        Ok(true)
    }

    fn map_records(&mut self, batch: &Batch) -> io::Result<bool> {
        for record in batch.records(milena_records::Limits::default()) {
            let record = record.map_err(source::invalid)?;
            let Some(key) = &record.key else { continue };
            if record.offset < self.first_dirty {
                continue;
            }
            if self.map.is_full() {
                return Ok(false);
            }
            self.map.put(key, record.offset);
            self.stats.keys = self.map.entries() as u64;
        }
        Ok(true)
    }

    fn begin_copying(&mut self) -> Phase {
        let cleaned_to = self.cleaned_to();
        let end = self
            .view
            .partition_point(|segment| segment.base() < cleaned_to);
        let groups = groups::group(&self.view[..end], &self.options, self.first_uncleanable);
        Phase::Copying {
            groups: groups.into(),
            current: None,
        }
    }

    fn copy_some(
        &mut self,
        mut groups: VecDeque<Range<usize>>,
        current: Option<Copying>,
    ) -> io::Result<Option<CleanStep>> {
        let mut copying = match current {
            Some(copying) => copying,
            None => match groups.pop_front() {
                Some(group) => self.begin_group(group)?,
                None => return Ok(None),
            },
        };
        let copied = self.copy_buffer(&mut copying);
        let is_ready = copying.is_ready;
        // Also after a failure: whoever gives up removes what was written.
        self.phase = Phase::Copying {
            groups,
            current: Some(copying),
        };
        copied?;
        Ok(is_ready.then_some(CleanStep::Ready))
    }

    fn begin_group(&mut self, group: Range<usize>) -> io::Result<Copying> {
        let base = self.view[group.start].base();
        self.stats.segments_before += group.len() as u64;
        self.stats.segments_after += 1;
        Ok(Copying {
            next: group.start,
            group,
            source: None,
            target: Arc::new(Segment::create_cleaned(&self.env, base)?),
            appender: Appender::new(self.rules.now),
            is_ready: false,
        })
    }

    /// Copies what stays of one buffer; makes the segment durable at its end.
    fn copy_buffer(&mut self, copying: &mut Copying) -> io::Result<()> {
        if copying.is_ready {
            return Ok(());
        }
        let Some(mut source) = copying.source.take() else {
            if copying.next < copying.group.end {
                copying.source = Some(self.begin_source(copying.next)?);
                copying.next += 1;
                return Ok(());
            }
            return self.finish_group(copying);
        };
        if source.is_at_end() {
            return Ok(());
        }
        let mut kept = Kept::default();
        for stored in source.next(self.io_buffer_bytes)? {
            self.copy_batch(stored, &copying.target, &mut kept)?;
        }
        copying.source = Some(source);
        self.stats.bytes_written += kept.bytes();
        let parts: Vec<&[u8]> = kept.parts.iter().map(|part| &part[..]).collect();
        let interval = self.options.index_interval_bytes;
        copying
            .target
            .append(&mut copying.appender, interval, &parts, &kept.appended)
    }

    fn begin_source(&mut self, index: usize) -> io::Result<Source> {
        let segment = &self.view[index];
        let next = self.view.get(index + 1).map(|next| next.base());
        let to = next.unwrap_or(segment.next_offset());
        let aborted = self.aborted_between(segment.base(), to)?;
        self.transactions.add(aborted);
        Source::new(segment, 0)
    }

    fn copy_batch(&mut self, stored: Stored, target: &Segment, kept: &mut Kept) -> io::Result<()> {
        let batch = match stored {
            Stored::Batch(batch) => batch,
            // Older than anything that could replace it, and not to be taken apart: it stays.
            Stored::Legacy {
                bytes,
                last_offset,
                max_timestamp,
            } => {
                self.stats.bytes_read += bytes.len() as u64;
                kept.push(bytes, last_offset, max_timestamp);
                return Ok(());
            }
        };
        self.stats.bytes_read += batch.bytes().len() as u64;
        let meaning = self.transactions.on_batch(batch.header(), batch.bytes());
        if let Some(txn) = meaning.aborts {
            target.append_aborted(txn)?;
        }
        let mut counts = Counts::default();
        let left = self
            .rules
            .left_of(&batch, meaning, &self.map, &mut counts)?;
        self.stats.records_read += counts.read;
        self.stats.records_kept += counts.kept;
        self.stats.keyless += counts.keyless;
        let bytes = match left {
            Left::Nothing => return Ok(()),
            Left::Same => batch.bytes().clone(),
            Left::Less(bytes) => bytes,
        };
        let header = milena_records::BatchHeader::parse(&bytes).expect("a batch has a header");
        kept.push(bytes, header.last_offset(), header.max_timestamp());
        Ok(())
    }

    fn finish_group(&mut self, copying: &mut Copying) -> io::Result<()> {
        copying.target.seal()?;
        for file in copying.target.files_to_sync()? {
            file.sync_data()?;
        }
        copying.is_ready = true;
        Ok(())
    }
}

/// What stays of a buffer, to be written at once.
#[derive(Default)]
struct Kept {
    parts: Vec<Bytes>,
    appended: Vec<Appended>,
}

impl Kept {
    fn push(&mut self, bytes: Bytes, last_offset: Offset, max_timestamp: Timestamp) {
        self.appended.push(Appended {
            size: bytes.len() as u32,
            last_offset,
            max_timestamp,
        });
        self.parts.push(bytes);
    }

    fn bytes(&self) -> u64 {
        self.appended
            .iter()
            .map(|batch| u64::from(batch.size))
            .sum()
    }
}
