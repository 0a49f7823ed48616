//! The time index: 12-byte entries, the largest timestamp so far and the last offset of the batch that had it.

use std::io;
use std::sync::Arc;

use milena_base::{Offset, Timestamp};
use milena_disk::File;

use crate::error::Malformed;
use crate::segment::search;

/// Bytes of an entry.
pub const TIME_ENTRY_BYTES: usize = 12;
/// Entries that may be missing in the file while the log is open.
const UNWRITTEN_MAX: usize = 32;

/// An entry of a time index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeEntry {
    /// No batch before has a larger timestamp.
    pub timestamp: Timestamp,
    /// Last offset of the batch with that timestamp, less the segment's base offset.
    pub relative_offset: u32,
}

impl TimeEntry {
    pub fn offset(&self, base: Offset) -> Offset {
        base + i64::from(self.relative_offset)
    }

    fn to_bytes(self) -> [u8; TIME_ENTRY_BYTES] {
        let mut bytes = [0; TIME_ENTRY_BYTES];
        bytes[..8].copy_from_slice(&self.timestamp.0.to_be_bytes());
        bytes[8..].copy_from_slice(&self.relative_offset.to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; TIME_ENTRY_BYTES]) -> TimeEntry {
        let [t0, t1, t2, t3, t4, t5, t6, t7, o0, o1, o2, o3] = *bytes;
        TimeEntry {
            timestamp: Timestamp(i64::from_be_bytes([t0, t1, t2, t3, t4, t5, t6, t7])),
            relative_offset: u32::from_be_bytes([o0, o1, o2, o3]),
        }
    }
}

/// The entries of a time index file; reading stops at preallocated zeros, as in
/// [`parse_offset_index`](crate::parse_offset_index).
pub fn parse_time_index(bytes: &[u8]) -> Result<Vec<TimeEntry>, Malformed> {
    let (chunks, rest) = bytes.as_chunks::<TIME_ENTRY_BYTES>();
    if !rest.is_empty() {
        let length = bytes.len();
        return Err(Malformed(format!("time index of {length} bytes")));
    }
    let mut entries: Vec<TimeEntry> = Vec::new();
    for entry in chunks.iter().map(TimeEntry::from_bytes) {
        let follows = match entries.last() {
            Some(last) => last.timestamp < entry.timestamp,
            None => entry.timestamp.0 != 0 || entry.relative_offset != 0,
        };
        if !follows {
            break;
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// The state beside the file; its owner guards it with a lock that is held for a few instructions.
#[derive(Debug, Default)]
pub(crate) struct TimeIndex {
    /// Entries in the file.
    written: u32,
    unwritten: Vec<TimeEntry>,
    /// The last entry, once it is known.
    last: Option<Option<TimeEntry>>,
    /// The largest timestamp in the segment, once it is known.
    largest: Option<Option<TimeEntry>>,
}

pub(crate) type Mark = (usize, Option<Option<TimeEntry>>, Option<Option<TimeEntry>>);

impl TimeIndex {
    /// An index whose file has `bytes`.
    pub(crate) fn of_len(bytes: u64) -> TimeIndex {
        let written = (bytes / TIME_ENTRY_BYTES as u64) as u32;
        let known = (written == 0).then_some(None);
        TimeIndex {
            written,
            unwritten: Vec::new(),
            last: known,
            largest: known,
        }
    }

    pub(crate) fn count(&self) -> u32 {
        self.written + self.unwritten.len() as u32
    }

    pub(crate) fn is_loaded(&self) -> bool {
        self.last.is_some() && self.largest.is_some()
    }

    /// Reads the last entry. Of an inactive segment that is its largest timestamp.
    pub(crate) fn load(&mut self, file: &dyn File) -> io::Result<()> {
        if self.is_loaded() {
            return Ok(());
        }
        let last = match self.written.checked_sub(1) {
            Some(index) => Some(TimeEntry::from_bytes(&search::entry(file, index)?)),
            None => None,
        };
        self.last = Some(last);
        self.largest = Some(last);
        Ok(())
    }

    /// The largest timestamp so far; only after [`TimeIndex::load`].
    pub(crate) fn largest(&self) -> Option<TimeEntry> {
        self.largest.flatten()
    }

    /// Notes a batch; only after [`TimeIndex::load`].
    pub(crate) fn observe(&mut self, batch: TimeEntry) {
        let largest = self
            .largest()
            .map_or(Timestamp::NONE, |entry| entry.timestamp);
        if batch.timestamp > largest {
            self.largest = Some(Some(batch));
        }
    }

    pub(crate) fn set_largest(&mut self, largest: Option<TimeEntry>) {
        self.largest = Some(largest);
    }

    /// Adds an entry for the largest timestamp so far, unless the last one says the same.
    pub(crate) fn append_largest(&mut self) {
        let Some(largest) = self.largest() else {
            return;
        };
        let last = self
            .last
            .flatten()
            .map_or(Timestamp::NONE, |entry| entry.timestamp);
        if largest.timestamp > last {
            self.unwritten.push(largest);
            self.last = Some(Some(largest));
        }
    }

    /// What [`TimeIndex::rewind`] goes back to.
    pub(crate) fn mark(&self) -> Mark {
        (self.unwritten.len(), self.last, self.largest)
    }

    /// Forgets what was noted since `mark`; nothing of it was written.
    pub(crate) fn rewind(&mut self, mark: Mark) {
        let (unwritten, last, largest) = mark;
        self.unwritten.truncate(unwritten);
        self.last = last;
        self.largest = largest;
    }

    pub(crate) fn needs_room(&self) -> bool {
        self.unwritten.len() >= UNWRITTEN_MAX
    }

    pub(crate) fn has_unwritten(&self) -> bool {
        !self.unwritten.is_empty()
    }

    /// Writes what is missing in the file.
    pub(crate) fn write(&mut self, file: &dyn File) -> io::Result<()> {
        if self.unwritten.is_empty() {
            return Ok(());
        }
        let bytes: Vec<u8> = self
            .unwritten
            .iter()
            .flat_map(|entry| entry.to_bytes())
            .collect();
        file.write_all_at(&[&bytes], u64::from(self.written) * TIME_ENTRY_BYTES as u64)?;
        self.written += self.unwritten.len() as u32;
        self.unwritten.clear();
        Ok(())
    }

    /// The last entry whose timestamp is at most `timestamp`.
    pub(crate) fn floor(
        &self,
        timestamp: Timestamp,
        file: impl FnOnce() -> io::Result<Arc<dyn File>>,
    ) -> io::Result<Option<TimeEntry>> {
        let newest = self.unwritten.iter().rev();
        let found = newest
            .into_iter()
            .find(|entry| entry.timestamp <= timestamp);
        if found.is_some() || self.written == 0 {
            return Ok(found.copied());
        }
        let below =
            |bytes: &[u8; TIME_ENTRY_BYTES]| TimeEntry::from_bytes(bytes).timestamp <= timestamp;
        let file = file()?;
        let after = search::partition_point(&*file, self.written, below)?;
        match after.checked_sub(1) {
            Some(index) => Ok(Some(TimeEntry::from_bytes(&search::entry(&*file, index)?))),
            None => Ok(None),
        }
    }

    /// Drops the entries of batches that end at or beyond `relative_offset`.
    pub(crate) fn truncate(&mut self, relative_offset: u32, file: &dyn File) -> io::Result<()> {
        self.write(file)?;
        let below = |bytes: &[u8; TIME_ENTRY_BYTES]| {
            TimeEntry::from_bytes(bytes).relative_offset < relative_offset
        };
        let kept = search::partition_point(file, self.written, below)?;
        self.reset_to(kept, file)?;
        self.load(file)
    }

    /// Keeps the first `count` entries.
    pub(crate) fn reset_to(&mut self, count: u32, file: &dyn File) -> io::Result<()> {
        *self = TimeIndex::of_len(u64::from(count) * TIME_ENTRY_BYTES as u64);
        file.set_len(u64::from(count) * TIME_ENTRY_BYTES as u64)
    }
}
