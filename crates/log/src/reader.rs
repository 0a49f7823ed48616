//! A log's readers: no lock is taken on the way of a fetch. They see the segments as one immutable view, and a
//! segment's end as one word.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use milena_base::{Epoch, Offset, Timestamp, TopicPartition};
use milena_disk::FileSlice;
use milena_records::{Batch, Limits};

use crate::epochs::EpochEntry;
use crate::error::{Fault, ReadError};
use crate::log::{Segments, Shared};
use crate::segment::scan::{BatchView, Scan, SmallWindow, read_batch};
use crate::segment::{AbortedTxn, Segment};

/// Decompressed bytes of one batch that a search by timestamp walks through, at most.
const BATCH_DECOMPRESSED_BYTES_MAX: u64 = 1 << 31;

/// A reader of one partition's log.
#[derive(Clone, Debug)]
pub struct LogReader {
    shared: Arc<Shared>,
}

/// Batches in one segment's file. The first one holds the offset that was asked for, or the next one that exists;
/// the last one may be cut off.
#[derive(Clone, Debug)]
pub struct Slice {
    /// `None` where nothing may be read at the offset (yet).
    pub file: Option<FileSlice>,
    /// Base offset of the first batch, or the offset asked for where there is none.
    pub first_offset: Offset,
    /// Bytes of the first batch; 0 where there is none.
    pub first_batch_bytes: u32,
    /// Base offset of the segment.
    pub segment_base: Offset,
    /// Where the first batch begins in the segment's file.
    pub position: u32,
    /// The segments as they were: positions mean something in their files alone, which a cleaner may replace.
    view: Option<Arc<Segments>>,
}

impl Slice {
    fn empty(offset: Offset) -> Slice {
        Slice {
            file: None,
            first_offset: offset,
            first_batch_bytes: 0,
            segment_base: offset,
            position: 0,
            view: None,
        }
    }

    /// Bytes of the slice.
    pub fn len(&self) -> u32 {
        self.file.as_ref().map_or(0, |file| file.length)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether not even the first batch is whole.
    pub fn is_first_batch_cut(&self) -> bool {
        self.len() < self.first_batch_bytes
    }
}

/// An offset found by its timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundOffset {
    pub offset: Offset,
    /// The record's timestamp; −1 where none was asked for.
    pub timestamp: Timestamp,
    /// Epoch in which the record was written, where it is known.
    pub leader_epoch: Option<Epoch>,
}

impl LogReader {
    pub(crate) fn new(shared: Arc<Shared>) -> LogReader {
        LogReader { shared }
    }

    pub fn partition(&self) -> &TopicPartition {
        &self.shared.partition
    }

    /// The first offset that may be read.
    pub fn log_start(&self) -> Offset {
        self.shared.log_start()
    }

    /// The offset that the next record gets.
    pub fn log_end(&self) -> Offset {
        self.shared.log_end()
    }

    /// Everything below is on the disk.
    pub fn recovery_point(&self) -> Offset {
        self.shared.recovery_point()
    }

    /// First offset of the oldest transaction that is undecided, or decided by a marker at or beyond the high
    /// watermark that the log was last told of.
    pub fn first_unstable_offset(&self) -> Option<Offset> {
        self.shared.first_unstable()
    }

    /// What a `read_committed` reader may read up to, given the high watermark: load that one first.
    pub fn last_stable_offset(&self, high_watermark: Offset) -> Offset {
        match self.first_unstable_offset() {
            Some(first) => first.min(high_watermark),
            None => high_watermark,
        }
    }

    /// Bytes of all log files.
    pub fn size_bytes(&self) -> u64 {
        let segments = self.shared.segments.load();
        segments
            .iter()
            .map(|segment| u64::from(segment.size()))
            .sum()
    }

    /// Segments, the active one included.
    pub fn segment_count(&self) -> usize {
        self.shared.segments.load().len()
    }

    /// Base offset and log file length of each segment, oldest first.
    pub fn segment_sizes(&self) -> Vec<(Offset, u32)> {
        let segments = self.shared.segments.load();
        segments
            .iter()
            .map(|segment| (segment.base(), segment.size()))
            .collect()
    }

    /// Base offset of the segment that holds `offset`.
    pub fn segment_base_of(&self, offset: Offset) -> Offset {
        let segments = self.shared.segments.load();
        segments[floor(&segments, offset)].base()
    }

    /// Batches from `offset` on, of at most `bytes_max` bytes and below `upper_bound`; with `at_least_one` the first
    /// batch comes whole, however large it is.
    pub fn read(
        &self,
        offset: Offset,
        bytes_max: u32,
        upper_bound: Offset,
        at_least_one: bool,
    ) -> Result<Slice, ReadError> {
        // The generation first, so that a truncation in between makes the slice invalid.
        let taken_at = self.shared.generation.current();
        let log_end = self.log_end();
        if offset < self.log_start() || offset > log_end {
            return Err(ReadError::OutOfRange);
        }
        if offset >= upper_bound || offset == log_end {
            return Ok(Slice::empty(offset));
        }
        let segments = self.shared.segments.load_full();
        for segment in &segments[floor(&segments, offset)..] {
            let end = self.checked(end_below(segment, upper_bound))?;
            let Some(first) = self.checked(segment.find(offset, end))? else {
                continue;
            };
            let bytes = match at_least_one {
                true => bytes_max.max(first.size),
                false => bytes_max,
            };
            let length = bytes.min(end - first.position);
            let file = self.checked(segment.log_file())?;
            let position = u64::from(first.position);
            let generation = &self.shared.generation;
            return Ok(Slice {
                file: Some(FileSlice::new(file, position, length, generation, taken_at)),
                first_offset: first.base_offset,
                first_batch_bytes: first.size,
                segment_base: segment.base(),
                position: first.position,
                view: Some(Arc::clone(&segments)),
            });
        }
        Ok(Slice::empty(offset))
    }

    /// A file that is gone was deleted or truncated since the view was loaded; what it held is out of range.
    fn checked<T>(&self, result: io::Result<T>) -> Result<T, ReadError> {
        result.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => ReadError::OutOfRange,
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                ReadError::Corrupt(format!("{}: {error}", self.shared.env.dir.display()))
            }
            _ => ReadError::Fault(self.shared.env.fault(error)),
        })
    }

    fn fault<T>(&self, result: io::Result<T>) -> Result<T, Fault> {
        result.map_err(|error| self.shared.env.fault(error))
    }

    /// The transactions that a `read_committed` consumer has to leave out of `slice`, which was read from `offset`.
    pub fn aborted_in_slice(
        &self,
        offset: Offset,
        slice: &Slice,
    ) -> Result<Vec<AbortedTxn>, ReadError> {
        let Some(segments) = &slice.view else {
            return Ok(Vec::new());
        };
        let at = floor(segments, slice.segment_base);
        let slice_end = u64::from(slice.position) + u64::from(slice.len());
        let indexed = self.checked(segments[at].upper_bound_at(slice_end))?;
        let next = segments.get(at + 1).map(|next| next.base());
        let upper_bound = indexed.or(next).unwrap_or(self.log_end());
        self.checked(aborted_between(segments, offset, upper_bound))
    }

    /// The aborted transactions that have records in `from..to`.
    pub fn aborted_transactions(
        &self,
        from: Offset,
        to: Offset,
    ) -> Result<Vec<AbortedTxn>, ReadError> {
        let segments = self.shared.segments.load();
        self.checked(aborted_between(&segments, from, to))
    }

    /// The first record at or behind the log's start with a timestamp of at least `timestamp`.
    pub fn offset_for_timestamp(
        &self,
        timestamp: Timestamp,
    ) -> Result<Option<FoundOffset>, ReadError> {
        let start = self.log_start();
        let segments = self.shared.segments.load();
        for segment in segments.iter() {
            if self.checked(segment.age_timestamp())? < timestamp {
                continue;
            }
            let scan = self.checked(segment.scan_for_timestamp(timestamp, start))?;
            let wanted = |at: Timestamp, offset: Offset| at >= timestamp && offset >= start;
            let found = self.find_record(segment, scan, timestamp, wanted)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The record with the largest timestamp; of several the first.
    pub fn max_timestamp(&self) -> Result<Option<FoundOffset>, ReadError> {
        let segments = self.shared.segments.load();
        let mut best: Option<(Timestamp, Offset, &Arc<Segment>)> = None;
        for segment in segments.iter() {
            let Some((timestamp, offset)) = self.checked(segment.largest_timestamp())? else {
                continue;
            };
            if best
                .as_ref()
                .is_none_or(|(largest, ..)| timestamp > *largest)
            {
                best = Some((timestamp, offset, segment));
            }
        }
        let Some((timestamp, offset, segment)) = best else {
            return Ok(None);
        };
        let scan = self.checked(segment.scan_from(offset))?;
        self.find_record(segment, scan, timestamp, |at, _| at == timestamp)
    }

    /// The first record that is `wanted` among the batches whose largest timestamp is at least `timestamp`.
    fn find_record(
        &self,
        segment: &Segment,
        mut scan: Scan<SmallWindow>,
        timestamp: Timestamp,
        wanted: impl Fn(Timestamp, Offset) -> bool,
    ) -> Result<Option<FoundOffset>, ReadError> {
        while let Some(batch) = self.checked(scan.next())? {
            if batch.max_timestamp < timestamp {
                continue;
            }
            if let Some((at, offset)) = self.record_in(segment, &batch, &wanted)? {
                return Ok(Some(FoundOffset {
                    offset,
                    timestamp: at,
                    leader_epoch: (batch.leader_epoch >= Epoch::ZERO).then_some(batch.leader_epoch),
                }));
            }
        }
        Ok(None)
    }

    fn record_in(
        &self,
        segment: &Segment,
        view: &BatchView,
        wanted: &impl Fn(Timestamp, Offset) -> bool,
    ) -> Result<Option<(Timestamp, Offset)>, ReadError> {
        if view.magic < 2 {
            let found = wanted(view.max_timestamp, view.last_offset);
            return Ok(found.then_some((view.max_timestamp, view.last_offset)));
        }
        let file = self.checked(segment.log_file())?;
        let bytes = self.checked(read_batch(&*file, view))?;
        let corrupt = |error: &dyn std::fmt::Display| {
            ReadError::Corrupt(format!("{}: {error}", self.shared.env.dir.display()))
        };
        let batch = Batch::parse(Bytes::from(bytes)).map_err(|error| corrupt(&error))?;
        let limits = Limits {
            record_bytes_max: u32::MAX,
            batch_bytes_max: BATCH_DECOMPRESSED_BYTES_MAX,
        };
        for record in batch.records(limits) {
            let record = record.map_err(|error| corrupt(&error))?;
            if wanted(record.timestamp, record.offset) {
                return Ok(Some((record.timestamp, record.offset)));
            }
        }
        Ok(None)
    }

    /// The log's start with the epoch that wrote it (ListOffsets −2).
    pub fn earliest(&self) -> FoundOffset {
        let offset = self.log_start();
        let earliest = self.shared.epochs.load().earliest();
        FoundOffset {
            offset,
            timestamp: Timestamp::NONE,
            leader_epoch: earliest
                .filter(|entry| entry.start_offset <= offset)
                .map(|entry| entry.epoch),
        }
    }

    /// The newest epoch that the log has records of, or was told of.
    pub fn latest_epoch(&self) -> Option<Epoch> {
        self.shared.epochs.load().latest().map(|entry| entry.epoch)
    }

    /// Where the newest epoch begins.
    pub fn latest_epoch_entry(&self) -> Option<EpochEntry> {
        self.shared.epochs.load().latest()
    }

    /// All epochs, ascending.
    pub fn epoch_entries(&self) -> Vec<EpochEntry> {
        self.shared.epochs.load().entries().to_vec()
    }

    /// The epoch that wrote the record at `offset`.
    pub fn epoch_for(&self, offset: Offset) -> Option<Epoch> {
        self.shared.epochs.load().epoch_for(offset)
    }

    /// The largest epoch at most `epoch` that this log knows, and the offset where it ends (OffsetForLeaderEpoch).
    pub fn end_offset_for_epoch(&self, epoch: Epoch) -> Option<(Epoch, Offset)> {
        self.shared
            .epochs
            .load()
            .end_offset_for(epoch, self.log_end())
    }

    /// The largest timestamp of each segment, oldest first: for operators.
    pub fn segment_timestamps(&self) -> Result<Vec<(Offset, Timestamp)>, Fault> {
        let segments = self.shared.segments.load();
        let stamped = segments
            .iter()
            .map(|segment| Ok((segment.base(), segment.age_timestamp()?)));
        self.fault(stamped.collect())
    }
}

/// The aborted transactions that have records in `from..to`, from the indexes of these segments.
pub(crate) fn aborted_between(
    segments: &[Arc<Segment>],
    from: Offset,
    to: Offset,
) -> io::Result<Vec<AbortedTxn>> {
    let mut aborted = Vec::new();
    for segment in &segments[floor(segments, from)..] {
        for txn in segment.aborted_txns()? {
            if txn.last_offset >= from && txn.first_offset < to {
                aborted.push(txn);
            }
            if txn.last_stable_offset >= to {
                return Ok(aborted);
            }
        }
    }
    Ok(aborted)
}

/// The last segment whose base is at most `offset`; the first where there is none.
pub(crate) fn floor(segments: &[Arc<Segment>], offset: Offset) -> usize {
    segments
        .partition_point(|segment| segment.base() <= offset)
        .saturating_sub(1)
}

/// Where in the segment's file the batches below `upper_bound` end.
fn end_below(segment: &Segment, upper_bound: Offset) -> io::Result<u32> {
    let (next, size) = segment.end();
    if upper_bound >= next {
        return Ok(size);
    }
    Ok(segment
        .find(upper_bound, size)?
        .map_or(size, |batch| batch.position))
}
