//! The writer's side of a segment: appending, cutting, closing, and rebuilding the indexes from the batches.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use milena_base::{Offset, Timestamp};

use crate::names::FileKind;
use crate::options::LogOptions;
use crate::segment::offset_index::OffsetEntry;
use crate::segment::scan::{BatchView, Scan, Step};
use crate::segment::time_index::TimeEntry;
use crate::segment::txn_index::{AbortedTxn, TXN_ENTRY_BYTES};
use crate::segment::{OFFSET_ENTRY_BYTES, Segment, TIME_ENTRY_BYTES};
use milena_disk::OpenMode;

/// What the writer knows of the segment it appends to, beside what readers see.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Appender {
    /// Bytes appended since the last index entry.
    bytes_since_index: u64,
    /// Largest timestamp of the first batch, by which the segment's age is told; `None` when not known yet.
    first_timestamp: Option<Timestamp>,
    /// Wall-clock time when the segment was made or opened: its age where there are no timestamps.
    created: Timestamp,
}

/// What the indexes note of an appended batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Appended {
    pub size: u32,
    pub last_offset: Offset,
    pub max_timestamp: Timestamp,
}

impl Appender {
    pub(crate) fn new(created: Timestamp) -> Appender {
        Appender {
            bytes_since_index: 0,
            first_timestamp: None,
            created,
        }
    }

    pub(crate) fn created(&self) -> Timestamp {
        self.created
    }

    /// Whether a batch must go to a new segment.
    pub(crate) fn should_roll(
        &mut self,
        segment: &Segment,
        options: &LogOptions,
        batch: &Appended,
        now: Timestamp,
    ) -> io::Result<bool> {
        let size = segment.size();
        if size == 0 {
            return Ok(segment.relative(batch.last_offset).is_none());
        }
        let too_long = u64::from(size) + u64::from(batch.size) > u64::from(options.segment_bytes);
        if too_long
            || segment.relative(batch.last_offset).is_none()
            || segment.indexes_full(options)
        {
            return Ok(true);
        }
        let waited = self.waited_ms(segment, batch.max_timestamp, now)?;
        Ok(waited > options.segment_ms - options.segment_jitter_ms)
    }

    /// How long the segment has been growing, by its records' timestamps where there are any.
    fn waited_ms(
        &mut self,
        segment: &Segment,
        newest: Timestamp,
        now: Timestamp,
    ) -> io::Result<i64> {
        if self.first_timestamp.is_none() {
            self.first_timestamp = segment.first_timestamp()?;
        }
        match self.first_timestamp {
            Some(first) if first >= Timestamp(0) => Ok(newest.0 - first.0),
            _ => Ok(now.0 - self.created.0),
        }
    }
}

impl Segment {
    fn indexes_full(&self, options: &LogOptions) -> bool {
        let offsets_max = options.segment_index_bytes / OFFSET_ENTRY_BYTES as u32;
        let times_max = options.segment_index_bytes / TIME_ENTRY_BYTES as u32;
        self.offsets.count() >= offsets_max || self.times().count() + 1 >= times_max
    }

    /// Writes batches behind the last one, in one write, and then lets readers see them. When the write fails the
    /// file is cut back to where it ended.
    pub(crate) fn append(
        &self,
        appender: &mut Appender,
        index_interval_bytes: u32,
        parts: &[&[u8]],
        batches: &[Appended],
    ) -> io::Result<()> {
        let Some(last) = batches.last() else {
            return Ok(());
        };
        self.make_index_room(batches.len())?;
        let (_, position) = self.end();
        let file = self.log_file()?;
        if let Err(error) = file.write_all_at(parts, u64::from(position)) {
            // Whatever part of it was written must not be taken for a batch by whoever opens the file next.
            file.set_len(u64::from(position))?;
            return Err(error);
        }
        let before = (*appender, self.offsets.count(), self.loaded_times()?.mark());
        if let Err(error) = self.index(appender, index_interval_bytes, position, batches) {
            *appender = before.0;
            self.offsets.rewind(before.1, &*self.offsets_file()?)?;
            self.times().rewind(before.2);
            file.set_len(u64::from(position))?;
            return Err(error);
        }
        let size: u32 = batches.iter().map(|batch| batch.size).sum();
        self.set_end(last.last_offset + 1, position + size);
        Ok(())
    }

    /// Notes batches that were just written from `position` on.
    fn index(
        &self,
        appender: &mut Appender,
        index_interval_bytes: u32,
        position: u32,
        batches: &[Appended],
    ) -> io::Result<()> {
        let mut at = position;
        let mut times = self.loaded_times()?;
        for batch in batches {
            let relative_offset = (batch.last_offset - self.base) as u32;
            if at == 0 {
                appender.first_timestamp = Some(batch.max_timestamp);
            }
            times.observe(TimeEntry {
                timestamp: batch.max_timestamp,
                relative_offset,
            });
            if appender.bytes_since_index > u64::from(index_interval_bytes) {
                self.offsets.append(OffsetEntry {
                    relative_offset,
                    position: at,
                });
                times.append_largest();
                appender.bytes_since_index = 0;
                if self.offsets.needs_room() {
                    self.offsets.write(&*self.offsets_file()?)?;
                }
            }
            appender.bytes_since_index += u64::from(batch.size);
            at += batch.size;
        }
        Ok(())
    }

    /// Writes index entries that wait, so that those of the next append fit: what can fail, fails before the batch
    /// is in the file.
    fn make_index_room(&self, batches: usize) -> io::Result<()> {
        if self.offsets.needs_room() || (batches > 1 && self.offsets.has_unwritten()) {
            self.offsets.write(&*self.offsets_file()?)?;
        }
        let mut times = self.loaded_times()?;
        if times.needs_room() {
            times.write(&*self.times_file()?)?;
        }
        Ok(())
    }

    /// Writes the index entries that are only in memory.
    pub(crate) fn write_indexes(&self) -> io::Result<()> {
        if self.offsets.has_unwritten() {
            self.offsets.write(&*self.offsets_file()?)?;
        }
        let mut times = self.times();
        if times.has_unwritten() {
            times.write(&*self.times_file()?)?;
        }
        Ok(())
    }

    /// Ends the segment's growth: the largest timestamp goes into the time index, both indexes into their files, and
    /// room that was not used goes back.
    pub(crate) fn seal(&self) -> io::Result<()> {
        if self.has_room.swap(false, Ordering::AcqRel) {
            self.log_file()?.set_len(self.size().into())?;
        }
        self.loaded_times()?.append_largest();
        self.write_indexes()
    }

    /// Notes an aborted transaction, whose marker is in this segment.
    pub(crate) fn append_aborted(&self, txn: AbortedTxn) -> io::Result<()> {
        let path = self.path(FileKind::TxnIndex);
        let file = self
            .txns_file
            .get(|| self.env.disk.open(&path, OpenMode::Create))?;
        let length = self.txns_len.load(Ordering::Relaxed);
        file.write_all_at(&[&txn.to_bytes()], u64::from(length))?;
        self.txns_len
            .store(length + TXN_ENTRY_BYTES as u32, Ordering::Release);
        Ok(())
    }

    /// Cuts the segment so that it ends before the batch that holds `offset`.
    pub(crate) fn truncate_to(&self, offset: Offset) -> io::Result<()> {
        let (next, size) = self.end();
        let position = match self.find(offset, size)? {
            Some(batch) => batch.position,
            None => size,
        };
        let relative = self.relative(offset).unwrap_or(u32::MAX);
        self.set_end(next.min(offset), position);
        self.log_file()?.set_len(u64::from(position))?;
        self.offsets.truncate(relative, &*self.offsets_file()?)?;
        self.times().truncate(relative, &*self.times_file()?)?;
        self.truncate_txns(offset)?;
        self.reload_largest_timestamp(position)
    }

    /// Drops the aborted transactions whose marker is at or beyond `offset`.
    pub(crate) fn truncate_txns(&self, offset: Offset) -> io::Result<()> {
        let kept = self
            .aborted_txns()?
            .iter()
            .take_while(|txn| txn.last_offset < offset)
            .count()
            * TXN_ENTRY_BYTES;
        if kept < self.txns_len.load(Ordering::Relaxed) as usize {
            self.txns_len.store(kept as u32, Ordering::Release);
            let file = self.txns_file.get(|| self.open(FileKind::TxnIndex))?;
            file.set_len(kept as u64)?;
        }
        Ok(())
    }

    /// After the last entry of the time index there may be batches with larger timestamps.
    fn reload_largest_timestamp(&self, size: u32) -> io::Result<()> {
        let indexed = self.loaded_times()?.largest();
        let near = indexed.map_or(self.base, |entry| entry.offset(self.base));
        let mut scan = self.scan_near(near, size)?;
        let mut largest = indexed;
        while let Some(batch) = scan.next()? {
            let seen = largest.map_or(Timestamp::NONE, |entry| entry.timestamp);
            if batch.max_timestamp > seen {
                largest = Some(TimeEntry {
                    timestamp: batch.max_timestamp,
                    relative_offset: (batch.last_offset - self.base) as u32,
                });
            }
        }
        self.times().set_largest(largest);
        Ok(())
    }

    /// Checks every batch and rebuilds the indexes from them; what follows the last good batch is cut off. `visit`
    /// sees each good batch with its file. Returns the bytes that were cut off.
    pub(crate) fn recover(
        &self,
        index_interval_bytes: u32,
        mut visit: impl FnMut(&Segment, &BatchView) -> io::Result<()>,
    ) -> io::Result<u64> {
        let file = self.log_file()?;
        let length = file.len()?;
        let scanned = length.min(i32::MAX as u64) as u32;
        self.reset_indexes()?;
        let mut scan = Scan::large(Arc::clone(&file), 0, scanned);
        let (mut next, mut end, mut indexed_at) = (self.base, 0, 0);
        while let Step::Batch(batch) = scan.step()? {
            let in_order =
                batch.base_offset >= next || batch.magic < 2 && batch.last_offset >= next;
            let Some(relative_offset) = self.relative(batch.last_offset).filter(|_| in_order)
            else {
                break;
            };
            if !scan.is_intact(&batch)? {
                break;
            }
            visit(self, &batch)?;
            let mut times = self.times();
            times.observe(TimeEntry {
                timestamp: batch.max_timestamp,
                relative_offset,
            });
            if batch.position - indexed_at > index_interval_bytes {
                self.offsets.append(OffsetEntry {
                    relative_offset,
                    position: batch.position,
                });
                times.append_largest();
                indexed_at = batch.position;
                if self.offsets.needs_room() {
                    self.offsets.write(&*self.offsets_file()?)?;
                    times.write(&*self.times_file()?)?;
                }
            }
            next = batch.last_offset + 1;
            end = batch.end();
        }
        self.set_end(next, end);
        if u64::from(end) < length {
            file.set_len(u64::from(end))?;
        }
        self.seal()?;
        Ok(length - u64::from(end))
    }

    fn reset_indexes(&self) -> io::Result<()> {
        self.offsets.reset_to(0, &*self.offsets_file()?)?;
        self.times().reset_to(0, &*self.times_file()?)?;
        if self.txns_len.swap(0, Ordering::AcqRel) > 0 {
            let file = self.txns_file.get(|| self.open(FileKind::TxnIndex))?;
            file.set_len(0)?;
        }
        Ok(())
    }
}
