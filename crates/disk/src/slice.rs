//! A piece of a file that is handed to the edge instead of its bytes.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Advice, File};

/// How far apart [`FileSlice::bring_in`] touches what it waits for: no page is smaller.
const PAGE_BYTES: usize = 4096;

/// Counts the truncations of one log. The log bumps it *before* it cuts a file or writes over what was cut; every
/// slice remembers the count at which it was made.
#[derive(Clone, Debug, Default)]
pub struct Generation(Arc<AtomicU64>);

impl Generation {
    pub fn new() -> Generation {
        Generation::default()
    }

    /// Makes every slice that was taken so far invalid.
    pub fn bump(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    /// How often it was bumped.
    pub fn current(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// `length` bytes of `file` from `position` on. The file handle keeps the bytes readable when the segment is
/// deleted meanwhile; a truncation is noticed by the generation.
#[derive(Clone, Debug)]
pub struct FileSlice {
    pub file: Arc<dyn File>,
    pub position: u64,
    pub length: u32,
    generation: Generation,
    taken_at: u64,
}

impl FileSlice {
    /// A slice of a log whose truncation generation was `taken_at` when its reader loaded its view (load it
    /// first, then the view).
    pub fn new(
        file: Arc<dyn File>,
        position: u64,
        length: u32,
        generation: &Generation,
        taken_at: u64,
    ) -> FileSlice {
        let generation = generation.clone();
        FileSlice {
            file,
            position,
            length,
            generation,
            taken_at,
        }
    }

    /// Whether the log was not truncated since. If not, the connection closes before a byte goes out.
    pub fn still_valid(&self) -> bool {
        self.generation.current() == self.taken_at
    }

    /// The first `length` bytes at most, of the same taking.
    pub fn head(&self, length: u32) -> FileSlice {
        FileSlice {
            length: self.length.min(length),
            ..self.clone()
        }
    }

    /// Whether it can be sent without waiting for a device ([`File::is_cached`]).
    pub fn is_cached(&self) -> bool {
        self.file.is_cached(self.position, self.length.into())
    }

    /// Brings the bytes into the page cache, and waits for them; as many behind them are asked for and not waited
    /// for, since who reads old bytes reads on. An error is left to whoever reads them next.
    pub fn bring_in(&self) {
        let length = u64::from(self.length);
        let end = self.position + length;
        self.file
            .advise(self.position, 2 * length, Advice::WillNeed);
        let mut byte = [0];
        for position in (self.position..end).step_by(PAGE_BYTES) {
            let _ = self.file.read_at(&mut byte, position);
        }
    }

    /// The bytes, read into memory; `UnexpectedEof` where the file is shorter.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.length as usize];
        self.file.read_exact_at(&mut bytes, self.position)?;
        Ok(bytes)
    }
}
