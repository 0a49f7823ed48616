//! Walking over the batches of a log file by their headers alone, through a window of the file.
//!
//! Batches of Kafka's formats 0 and 1 may still lie in old directories. They are walked over and served as they are;
//! nothing of them is decoded here but their length, offset and timestamp.

use std::io;
use std::sync::Arc;

use milena_base::{Epoch, Offset, Timestamp};
use milena_disk::File;

/// Bytes of a batch header of format 2.
pub(crate) const HEADER_BYTES: usize = 61;
/// Bytes in front of what the length field counts.
const LENGTH_OVERHEAD: u64 = 12;
/// Bytes from the start of a batch to its format ("magic"), included.
const MAGIC_END: usize = 17;
/// Bytes of a message header of format 1, timestamp included.
const LEGACY_BYTES: usize = 26;
/// Where the CRC of format 2 begins to count.
const CRC_COVERS_FROM: u64 = 21;
/// Where the CRC of formats 0 and 1 begins to count.
const LEGACY_CRC_COVERS_FROM: u64 = 16;

const CONTROL: i16 = 1 << 5;
const TRANSACTIONAL: i16 = 1 << 4;

/// The header of a batch in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchView {
    /// Where the batch begins.
    pub position: u32,
    /// Bytes of the whole batch.
    pub size: u32,
    pub magic: u8,
    pub base_offset: Offset,
    pub last_offset: Offset,
    pub leader_epoch: Epoch,
    pub max_timestamp: Timestamp,
    pub attributes: i16,
    pub crc: u32,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
}

impl BatchView {
    pub(crate) fn end(&self) -> u32 {
        self.position + self.size
    }

    pub(crate) fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    pub(crate) fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    pub(crate) fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return self.base_sequence;
        }
        let delta = self.last_offset - self.base_offset;
        ((i64::from(self.base_sequence) + delta) & i64::from(i32::MAX)) as i32
    }

    /// The view of a whole batch in memory, as if at the front of a file.
    pub(crate) fn of_bytes(bytes: &[u8]) -> Option<BatchView> {
        let size = u32::try_from(bytes.len()).ok()?;
        match (*bytes.get(MAGIC_END - 1)?, bytes.first_chunk()) {
            (2, Some(head)) => BatchView::of_current(0, size, head),
            (0 | 1, _) => BatchView::of_legacy(0, size, bytes),
            _ => None,
        }
    }

    fn of_current(position: u32, size: u32, head: &[u8; HEADER_BYTES]) -> Option<BatchView> {
        let base_offset = Offset(i64_at(head, 0));
        let delta = i32_at(head, 23);
        if delta < 0 || (size as usize) < HEADER_BYTES || base_offset < Offset::ZERO {
            return None;
        }
        Some(BatchView {
            position,
            size,
            magic: head[16],
            base_offset,
            last_offset: Offset(base_offset.0.checked_add(i64::from(delta))?),
            leader_epoch: Epoch(i32_at(head, 12)),
            max_timestamp: Timestamp(i64_at(head, 35)),
            attributes: i16::from_be_bytes([head[21], head[22]]),
            crc: i32_at(head, 17) as u32,
            producer_id: i64_at(head, 43),
            producer_epoch: i16::from_be_bytes([head[51], head[52]]),
            base_sequence: i32_at(head, 53),
        })
    }

    /// A message, or wrapper of compressed messages, of format 0 or 1. Its offset is that of its last record.
    fn of_legacy(position: u32, size: u32, head: &[u8]) -> Option<BatchView> {
        let offset = Offset(i64_at(head, 0));
        let has_timestamp = head[16] == 1 && head.len() >= LEGACY_BYTES;
        if (size as usize) < LEGACY_BYTES - 8 || offset < Offset::ZERO {
            return None;
        }
        Some(BatchView {
            position,
            size,
            magic: head[16],
            base_offset: offset,
            last_offset: offset,
            leader_epoch: Epoch::NONE,
            max_timestamp: match has_timestamp {
                true => Timestamp(i64_at(head, 18)),
                false => Timestamp::NONE,
            },
            attributes: 0,
            crc: i32_at(head, 12) as u32,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
        })
    }
}

/// The CRC-32 of formats 0 and 1 (zlib's). Slow, and rarely needed.
fn crc32_append(crc: u32, bytes: &[u8]) -> u32 {
    let mut rest = !crc;
    for byte in bytes {
        rest ^= u32::from(*byte);
        for _ in 0..8 {
            rest = (rest >> 1) ^ (0xedb8_8320 & (rest & 1).wrapping_neg());
        }
    }
    !rest
}

fn i64_at(bytes: &[u8], at: usize) -> i64 {
    let mut field = [0; 8];
    field.copy_from_slice(&bytes[at..at + 8]);
    i64::from_be_bytes(field)
}

fn i32_at(bytes: &[u8], at: usize) -> i32 {
    let mut field = [0; 4];
    field.copy_from_slice(&bytes[at..at + 4]);
    i32::from_be_bytes(field)
}

/// A window of a file, for lookups: one read serves several headers.
pub(crate) type SmallWindow = [u8; 4096];

/// A walk over the batches of a log file from `position` to `end`.
pub(crate) struct Scan<W> {
    file: Arc<dyn File>,
    position: u32,
    end: u32,
    window: W,
    window_at: u64,
    window_len: usize,
}

/// What a walk meets.
pub(crate) enum Step {
    Batch(BatchView),
    /// The end: nothing follows, or less than a whole batch.
    End,
    /// What follows is no batch.
    Corrupt,
}

impl Scan<SmallWindow> {
    pub(crate) fn small(file: Arc<dyn File>, position: u32, end: u32) -> Scan<SmallWindow> {
        Scan::new(file, position, end, [0; 4096])
    }
}

impl Scan<Vec<u8>> {
    pub(crate) fn large(file: Arc<dyn File>, position: u32, end: u32) -> Scan<Vec<u8>> {
        Scan::new(file, position, end, vec![0; 256 * 1024])
    }
}

impl<W: AsMut<[u8]> + AsRef<[u8]>> Scan<W> {
    fn new(file: Arc<dyn File>, position: u32, end: u32, window: W) -> Scan<W> {
        Scan {
            file,
            position,
            end,
            window,
            window_at: 0,
            window_len: 0,
        }
    }

    /// Where the walk is.
    pub(crate) fn position(&self) -> u32 {
        self.position
    }

    /// Moves the walk to a batch that begins at `position`.
    pub(crate) fn go_to(&mut self, position: u32) {
        self.position = position;
    }

    /// The batch at the current position; the walk moves behind it.
    pub(crate) fn step(&mut self) -> io::Result<Step> {
        let left = u64::from(self.end - self.position.min(self.end));
        if left < MAGIC_END as u64 {
            return Ok(Step::End);
        }
        let position = self.position;
        let wanted = left.min(HEADER_BYTES as u64) as usize;
        let head = self.bytes(u64::from(position), wanted)?;
        let length = i32_at(head, 8);
        let Some(size) = u32::try_from(length)
            .ok()
            .and_then(|length| length.checked_add(LENGTH_OVERHEAD as u32))
        else {
            return Ok(Step::Corrupt);
        };
        let view = match (head[16], head.first_chunk()) {
            (2, Some(head)) => BatchView::of_current(position, size, head),
            (0 | 1, _) => BatchView::of_legacy(position, size, head),
            _ => None,
        };
        let Some(view) = view else {
            return Ok(Step::Corrupt);
        };
        if u64::from(size) > left {
            return Ok(Step::End);
        }
        self.position = view.end();
        Ok(Step::Batch(view))
    }

    /// Like [`Scan::step`], for a reader that can go on only with a batch.
    pub(crate) fn next(&mut self) -> io::Result<Option<BatchView>> {
        match self.step()? {
            Step::Batch(view) => Ok(Some(view)),
            Step::End => Ok(None),
            Step::Corrupt => {
                let text = format!("no batch at position {}", self.position);
                Err(io::Error::new(io::ErrorKind::InvalidData, text))
            }
        }
    }

    /// Whether the batch's CRC is that of its bytes. (A header of format 2 that was torn before its format looks like one
    /// of format 0: the CRC of that one tells them apart.)
    pub(crate) fn is_intact(&mut self, batch: &BatchView) -> io::Result<bool> {
        let legacy = batch.magic < 2;
        let covers_from = if legacy {
            LEGACY_CRC_COVERS_FROM
        } else {
            CRC_COVERS_FROM
        };
        let mut at = u64::from(batch.position) + covers_from;
        let end = u64::from(batch.end());
        let capacity = self.window.as_ref().len() as u64;
        let mut crc = 0;
        while at < end {
            let length = (end - at).min(capacity) as usize;
            let bytes = self.bytes(at, length)?;
            crc = match legacy {
                true => crc32_append(crc, bytes),
                false => crc32c::crc32c_append(crc, bytes),
            };
            at += length as u64;
        }
        Ok(crc == batch.crc)
    }

    /// `length` bytes at `position`; at most a window.
    fn bytes(&mut self, position: u64, length: usize) -> io::Result<&[u8]> {
        let have = self.window_at..self.window_at + self.window_len as u64;
        if !(have.start <= position && position + length as u64 <= have.end) {
            let window = self.window.as_mut();
            let left = u64::from(self.end).saturating_sub(position);
            let wanted = left.min(window.len() as u64) as usize;
            self.window_len = 0;
            let read = self.file.read_at(&mut window[..wanted], position)?;
            if read < length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.window_at = position;
            self.window_len = read;
        }
        let at = (position - self.window_at) as usize;
        Ok(&self.window.as_ref()[at..at + length])
    }
}

/// Reads a whole batch.
pub(crate) fn read_batch(file: &dyn File, batch: &BatchView) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; batch.size as usize];
    file.read_exact_at(&mut bytes, u64::from(batch.position))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_of_the_old_formats() {
        assert_eq!(crc32_append(0, b"123456789"), 0xcbf4_3926);
        assert_eq!(
            crc32_append(crc32_append(0, b"1234"), b"56789"),
            0xcbf4_3926
        );
    }
}
