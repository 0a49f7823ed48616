//! The offset index: 8-byte entries, the last offset of a batch relative to the segment's base and the batch's
//! position in the log file, one about every `index.interval.bytes`.
//!
//! The file is searched with small reads. The newest entries are also held in a ring of words, so that readers at
//! the log's end need no read of the index, and so that entries are written in groups. An entry is a hint: who
//! follows it checks the batch it points at.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use milena_base::Offset;
use milena_disk::File;

use crate::error::Malformed;
use crate::segment::search;

/// Bytes of an entry.
pub const OFFSET_ENTRY_BYTES: usize = 8;
/// Entries held in memory.
const RING: u32 = 64;
/// Entries that may be missing in the file while the log is open.
const UNWRITTEN_MAX: u32 = 32;

/// An entry of an offset index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetEntry {
    /// Last offset of the batch, less the segment's base offset.
    pub relative_offset: u32,
    /// Where the batch begins in the log file.
    pub position: u32,
}

impl OffsetEntry {
    pub fn offset(&self, base: Offset) -> Offset {
        base + i64::from(self.relative_offset)
    }

    fn to_word(self) -> u64 {
        u64::from(self.relative_offset) << 32 | u64::from(self.position)
    }

    fn from_word(word: u64) -> OffsetEntry {
        OffsetEntry {
            relative_offset: (word >> 32) as u32,
            position: word as u32,
        }
    }

    fn from_bytes(bytes: &[u8; OFFSET_ENTRY_BYTES]) -> OffsetEntry {
        OffsetEntry::from_word(u64::from_be_bytes(*bytes))
    }
}

/// The entries of an offset index file. A preallocated file of a log in use ends with zeros: reading stops at the
/// first entry that does not lie behind the one before.
pub fn parse_offset_index(bytes: &[u8]) -> Result<Vec<OffsetEntry>, Malformed> {
    let (chunks, rest) = bytes.as_chunks::<OFFSET_ENTRY_BYTES>();
    if !rest.is_empty() {
        let length = bytes.len();
        return Err(Malformed(format!("offset index of {length} bytes")));
    }
    let entries: Vec<OffsetEntry> = chunks.iter().map(OffsetEntry::from_bytes).collect();
    let ordered = entries
        .windows(2)
        .take_while(|pair| pair[0].relative_offset < pair[1].relative_offset)
        .count();
    let count = match entries.first() {
        Some(first) if ordered == 0 && *first == OffsetEntry::from_word(0) => 0,
        Some(_) => ordered + 1,
        None => 0,
    };
    Ok(entries[..count].to_vec())
}

#[derive(Debug, Default)]
pub(crate) struct OffsetIndex {
    /// Entries in all.
    count: AtomicU32,
    /// Entries in the file.
    written: AtomicU32,
    /// The first entry that the ring holds.
    ring_from: AtomicU32,
    ring: OnceLock<Box<[AtomicU64; RING as usize]>>,
}

impl OffsetIndex {
    /// An index whose file has `bytes`.
    pub(crate) fn of_len(bytes: u64) -> OffsetIndex {
        let count = (bytes / OFFSET_ENTRY_BYTES as u64) as u32;
        let index = OffsetIndex::default();
        index.set_count(count);
        index
    }

    pub(crate) fn count(&self) -> u32 {
        self.count.load(Ordering::Acquire)
    }

    /// Bytes of the entries, written or not.
    pub(crate) fn len_bytes(&self) -> u64 {
        u64::from(self.count()) * OFFSET_ENTRY_BYTES as u64
    }

    fn set_count(&self, count: u32) {
        self.ring_from.store(count, Ordering::Release);
        self.written.store(count, Ordering::Release);
        self.count.store(count, Ordering::Release);
    }

    /// Adds an entry behind all others. Only the writer calls this, after [`OffsetIndex::make_room`].
    pub(crate) fn append(&self, entry: OffsetEntry) {
        let ring = self
            .ring
            .get_or_init(|| Box::new([const { AtomicU64::new(0) }; RING as usize]));
        let count = self.count.load(Ordering::Relaxed);
        debug_assert!(count - self.written.load(Ordering::Relaxed) < UNWRITTEN_MAX);
        ring[(count % RING) as usize].store(entry.to_word(), Ordering::Release);
        self.count.store(count + 1, Ordering::Release);
    }

    /// Whether entries have to be written before more are added.
    pub(crate) fn needs_room(&self) -> bool {
        self.count.load(Ordering::Relaxed) - self.written.load(Ordering::Relaxed) >= UNWRITTEN_MAX
    }

    pub(crate) fn has_unwritten(&self) -> bool {
        self.count.load(Ordering::Relaxed) != self.written.load(Ordering::Relaxed)
    }

    /// Writes what is missing in the file.
    pub(crate) fn write(&self, file: &dyn File) -> io::Result<()> {
        let (from, to) = (self.written.load(Ordering::Relaxed), self.count());
        let Some(ring) = self.ring.get().filter(|_| from < to) else {
            return Ok(());
        };
        let mut bytes = [0; UNWRITTEN_MAX as usize * OFFSET_ENTRY_BYTES];
        let mut length = 0;
        for index in from..to {
            let word = ring[(index % RING) as usize].load(Ordering::Relaxed);
            bytes[length..length + OFFSET_ENTRY_BYTES].copy_from_slice(&word.to_be_bytes());
            length += OFFSET_ENTRY_BYTES;
        }
        file.write_all_at(
            &[&bytes[..length]],
            u64::from(from) * OFFSET_ENTRY_BYTES as u64,
        )?;
        self.written.store(to, Ordering::Release);
        Ok(())
    }

    /// The last entry whose offset is at most `relative_offset`.
    pub(crate) fn floor(
        &self,
        relative_offset: u32,
        file: impl FnOnce() -> io::Result<std::sync::Arc<dyn File>>,
    ) -> io::Result<Option<OffsetEntry>> {
        let (ring_from, in_ring) = self.newest();
        let found = in_ring
            .rev()
            .map(|index| self.in_ring(index))
            .find(|entry| entry.relative_offset <= relative_offset);
        if found.is_some() || ring_from == 0 {
            return Ok(found);
        }
        let below = |bytes: &[u8; OFFSET_ENTRY_BYTES]| {
            OffsetEntry::from_bytes(bytes).relative_offset <= relative_offset
        };
        let file = file()?;
        let after = search::partition_point(&*file, ring_from, below)?;
        match after.checked_sub(1) {
            Some(index) => Ok(Some(OffsetEntry::from_bytes(&search::entry(
                &*file, index,
            )?))),
            None => Ok(None),
        }
    }

    /// The first entry whose batch begins at or beyond `position`.
    pub(crate) fn first_at_position(
        &self,
        position: u64,
        file: impl FnOnce() -> io::Result<std::sync::Arc<dyn File>>,
    ) -> io::Result<Option<OffsetEntry>> {
        let (ring_from, mut in_ring) = self.newest();
        if ring_from > 0 {
            let below = |bytes: &[u8; OFFSET_ENTRY_BYTES]| {
                u64::from(OffsetEntry::from_bytes(bytes).position) < position
            };
            let file = file()?;
            let at = search::partition_point(&*file, ring_from, below)?;
            if at < ring_from {
                return Ok(Some(OffsetEntry::from_bytes(&search::entry(&*file, at)?)));
            }
        }
        Ok(in_ring
            .by_ref()
            .map(|index| self.in_ring(index))
            .find(|entry| u64::from(entry.position) >= position))
    }

    /// The last entry.
    pub(crate) fn last(
        &self,
        file: impl FnOnce() -> io::Result<std::sync::Arc<dyn File>>,
    ) -> io::Result<Option<OffsetEntry>> {
        self.floor(u32::MAX, file)
    }

    /// Drops the entries of batches that end at or beyond `relative_offset`, in the file too. Readers that still see
    /// them find that the batch is gone.
    pub(crate) fn truncate(&self, relative_offset: u32, file: &dyn File) -> io::Result<()> {
        self.write(file)?;
        let below = |bytes: &[u8; OFFSET_ENTRY_BYTES]| {
            OffsetEntry::from_bytes(bytes).relative_offset < relative_offset
        };
        let kept = search::partition_point(file, self.count(), below)?;
        self.reset_to(kept, file)
    }

    /// Forgets the entries behind the first `count`, which name batches that were not written after all. Some before
    /// them may go too: the index is sparse anyway.
    pub(crate) fn rewind(&self, count: u32, file: &dyn File) -> io::Result<()> {
        let written = self.written.load(Ordering::Relaxed);
        self.set_count(count.min(written));
        match written > count {
            true => file.set_len(self.len_bytes()),
            false => Ok(()),
        }
    }

    /// Keeps the first `count` entries.
    pub(crate) fn reset_to(&self, count: u32, file: &dyn File) -> io::Result<()> {
        self.set_count(count);
        file.set_len(u64::from(count) * OFFSET_ENTRY_BYTES as u64)
    }

    /// Where the ring begins now, and the entries in it.
    fn newest(&self) -> (u32, std::ops::Range<u32>) {
        let count = self.count();
        let from = self
            .ring_from
            .load(Ordering::Acquire)
            .max(count.saturating_sub(RING))
            .min(count);
        (from, from..count)
    }

    fn in_ring(&self, index: u32) -> OffsetEntry {
        let word = self.ring.get().map_or(0, |ring| {
            ring[(index % RING) as usize].load(Ordering::Acquire)
        });
        OffsetEntry::from_word(word)
    }
}
