//! A buffer of batches, taken apart.

use std::fmt;

use bytes::Bytes;
use milena_base::ErrorCode;

use crate::header::MAGIC_AT;
use crate::{BatchHeader, HEADER_BYTES, LOG_OVERHEAD_BYTES, Limits, Records};

/// Smallest length that a batch of any format can state (Kafka's `RECORD_OVERHEAD_V0`).
const LENGTH_MIN: i32 = 14;

/// Why bytes are no batch that can be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BatchError {
    /// The length field is smaller than any batch.
    Length(i32),
    /// A format that does not exist.
    Magic(i8),
    /// Format 0 or 1.
    OldFormat(i8),
    /// Shorter than a header.
    Short { bytes: usize },
    /// The checksum is not that of the bytes.
    Crc { stored: u32, computed: u32 },
    /// Offsets that run backwards, in a batch or from one to the next.
    OffsetOrder { last: i64, next: i64 },
    /// Records that cannot be read (only where they are walked).
    Record(crate::RecordError),
}

impl BatchError {
    /// What Kafka answers for it.
    pub fn code(&self) -> ErrorCode {
        match self {
            BatchError::OldFormat(_) | BatchError::Record(_) => ErrorCode::InvalidRecord,
            _ => ErrorCode::CorruptMessage,
        }
    }
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BatchError::Length(length) => write!(f, "a batch cannot be {length} bytes long"),
            BatchError::Magic(magic) => write!(f, "there is no batch format {magic}"),
            BatchError::OldFormat(magic) => {
                write!(
                    f,
                    "batches of format {magic} are not supported, only format 2"
                )
            }
            BatchError::Short { bytes } => {
                write!(f, "{bytes} bytes are fewer than a batch's header")
            }
            BatchError::Crc { stored, computed } => {
                write!(
                    f,
                    "the batch is corrupt: its CRC is {stored}, its bytes have {computed}"
                )
            }
            BatchError::OffsetOrder { last, next } => {
                write!(f, "offset {next} follows offset {last}")
            }
            BatchError::Record(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for BatchError {}

impl From<crate::RecordError> for BatchError {
    fn from(error: crate::RecordError) -> BatchError {
        BatchError::Record(error)
    }
}

/// Size and format of the batch at the front of these bytes. `None` where they end before it does: nothing, or a
/// part of a batch, as a fetch may end. (Kafka's `ByteBufferLogInputStream`.)
pub fn split_first(bytes: &[u8]) -> Result<Option<(usize, i8)>, BatchError> {
    let Some(length) = bytes
        .get(LOG_OVERHEAD_BYTES - 4..)
        .and_then(|bytes| bytes.first_chunk::<4>())
    else {
        return Ok(None);
    };
    let length = i32::from_be_bytes(*length);
    if length < LENGTH_MIN {
        return Err(BatchError::Length(length));
    }
    let Some(&magic) = bytes.get(MAGIC_AT) else {
        return Ok(None);
    };
    let magic = magic as i8;
    if !(0..=2).contains(&magic) {
        return Err(BatchError::Magic(magic));
    }
    let size = length as usize + LOG_OVERHEAD_BYTES;
    Ok((bytes.len() >= size).then_some((size, magic)))
}

/// A batch of format 2: its header, and all of its bytes. Only the structure of the header has been looked at.
#[derive(Clone, Debug)]
pub struct Batch {
    header: BatchHeader,
    bytes: Bytes,
}

impl Batch {
    /// The batch that fills these bytes.
    pub fn parse(bytes: Bytes) -> Result<Batch, BatchError> {
        match split_first(&bytes)? {
            Some((size, 2)) if size == bytes.len() => {
                let header = BatchHeader::parse(&bytes).ok_or(BatchError::Short { bytes: size })?;
                Ok(Batch { header, bytes })
            }
            Some((_, magic)) if magic < 2 => Err(BatchError::OldFormat(magic)),
            _ => Err(BatchError::Short { bytes: bytes.len() }),
        }
    }

    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The whole batch.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// Compares the checksum with the bytes.
    pub fn check_crc(&self) -> Result<(), BatchError> {
        let stored = self.header.crc();
        let computed = self.header.computed_crc(&self.bytes[HEADER_BYTES..]);
        match stored == computed {
            true => Ok(()),
            false => Err(BatchError::Crc { stored, computed }),
        }
    }

    /// The records, decompressed as they are asked for.
    pub fn records(&self, limits: Limits) -> Records<'_> {
        Records::new(self.header, &self.bytes, limits)
    }
}

/// The batches of a buffer, one after the other; a part of a batch at the end is passed over. Ends after the first
/// error.
pub fn batches(bytes: Bytes) -> Batches {
    Batches { rest: bytes }
}

/// See [`batches`].
#[derive(Clone, Debug)]
pub struct Batches {
    rest: Bytes,
}

impl Batches {
    /// Bytes not yet taken: after the last batch, what is left of a cut one.
    pub fn rest(&self) -> &Bytes {
        &self.rest
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, BatchError>;

    fn next(&mut self) -> Option<Result<Batch, BatchError>> {
        let size = match split_first(&self.rest) {
            Ok(None) => return None,
            Ok(Some((size, _))) => size,
            Err(error) => {
                self.rest = Bytes::new();
                return Some(Err(error));
            }
        };
        let batch = Batch::parse(self.rest.split_to(size));
        if batch.is_err() {
            self.rest = Bytes::new();
        }
        Some(batch)
    }
}
