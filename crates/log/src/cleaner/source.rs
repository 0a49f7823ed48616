//! Reading a segment's batches whole, a buffer at a time.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use milena_base::{Offset, Timestamp};
use milena_disk::File;
use milena_records::{Batch, HEADER_BYTES, LOG_OVERHEAD_BYTES, split_first};

use crate::segment::Segment;
use crate::segment::scan::BatchView;

/// Where a walk over one segment is.
pub(super) struct Source {
    file: Arc<dyn File>,
    position: u32,
    end: u32,
}

/// A batch in memory.
pub(super) enum Stored {
    Batch(Batch),
    /// Of format 0 or 1, which is not taken apart.
    Legacy {
        bytes: Bytes,
        last_offset: Offset,
        max_timestamp: Timestamp,
    },
}

impl Source {
    pub(super) fn new(segment: &Segment, position: u32) -> io::Result<Source> {
        Ok(Source {
            file: segment.log_file()?,
            position,
            end: segment.size(),
        })
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.position >= self.end
    }

    /// The next whole batches, of about `bytes_max` bytes and at least one; their checksums hold.
    ///
    /// Errors: `InvalidData` where no batch is.
    pub(super) fn next(&mut self, bytes_max: usize) -> io::Result<Vec<Stored>> {
        // At least so much as tells how long the first one is.
        let mut chunk = self.read(bytes_max.max(HEADER_BYTES))?;
        if let Some(size) = size_of_first(&chunk)
            && size > chunk.len()
            && size as u64 <= u64::from(self.end - self.position)
        {
            chunk = self.read(size)?;
        }
        let mut batches = Vec::new();
        while let Some((size, magic)) = split_first(&chunk).map_err(invalid)? {
            batches.push(stored(chunk.split_to(size), magic)?);
            self.position += size as u32;
        }
        if batches.is_empty() {
            let text = format!("no whole batch at position {}", self.position);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(batches)
    }

    fn read(&self, bytes_max: usize) -> io::Result<Bytes> {
        let left = (self.end - self.position) as usize;
        let mut chunk = vec![0; bytes_max.min(left)];
        self.file
            .read_exact_at(&mut chunk, u64::from(self.position))?;
        Ok(chunk.into())
    }
}

fn size_of_first(chunk: &[u8]) -> Option<usize> {
    let length = chunk.get(LOG_OVERHEAD_BYTES - 4..LOG_OVERHEAD_BYTES)?;
    let length = u32::from_be_bytes(*length.first_chunk()?);
    Some(length as usize + LOG_OVERHEAD_BYTES)
}

fn stored(bytes: Bytes, magic: i8) -> io::Result<Stored> {
    if magic < 2 {
        let view = BatchView::of_bytes(&bytes)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a message of no offset"))?;
        return Ok(Stored::Legacy {
            bytes,
            last_offset: view.last_offset,
            max_timestamp: view.max_timestamp,
        });
    }
    let batch = Batch::parse(bytes).map_err(invalid)?;
    // What is rotten must not get a new checksum.
    batch.check_crc().map_err(|error| {
        let text = format!("offset {}: {error}", batch.header().base_offset());
        io::Error::new(io::ErrorKind::InvalidData, text)
    })?;
    Ok(Stored::Batch(batch))
}

pub(super) fn invalid(error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}
