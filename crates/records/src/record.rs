//! One record, and the records of a batch one after the other.

use std::borrow::Cow;
use std::fmt;
use std::io;

use bytes::Bytes;
use milena_base::{Offset, Timestamp};

use crate::walk::{SliceSource, Source, StreamSource, walk_length};
use crate::{BatchHeader, Compression, Decoder, TimestampType, increment_sequence};

/// A record's header: a name, not necessarily unique, and a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// UTF-8 by agreement, unchecked.
    pub key: Bytes,
    pub value: Option<Bytes>,
}

impl Header {
    /// The name, with U+FFFD where it is not UTF-8.
    pub fn name(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.key)
    }
}

/// A record with its absolute offset and timestamp. Keys and values are slices of the batch where that is not
/// compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub offset: Offset,
    /// The batch's largest timestamp where the type is log-append time.
    pub timestamp: Timestamp,
    /// −1 where the batch has no producer.
    pub sequence: i32,
    /// No bit has a meaning yet.
    pub attributes: i8,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<Header>,
    /// Bytes of the record in the (decompressed) batch, its length field included.
    pub size: u32,
}

/// Bounds of what a walk over records takes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one decompressed record (`max.decompressed.message.bytes`).
    pub record_bytes_max: u32,
    /// Decompressed bytes of one batch.
    pub batch_bytes_max: u64,
}

impl Default for Limits {
    /// Kafka's: 2147483639 bytes a record. A batch has no bound in Kafka; here 2 GiB, beyond which no client gets.
    fn default() -> Limits {
        Limits {
            record_bytes_max: 2_147_483_639,
            batch_bytes_max: 1 << 31,
        }
    }
}

/// Why records cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordError {
    /// The bytes end inside a record.
    Cut,
    /// The structure is broken; the text says how.
    Malformed(&'static str),
    /// A record is larger than the limit (bytes).
    TooLarge { bytes: u32, max: u32 },
    /// The batch decompresses to more than the limit (bytes).
    BatchTooLarge { max: u64 },
    /// The attributes name no codec.
    UnknownCodec(i16),
    /// The compressed stream is not what its codec writes.
    Undecodable(String),
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordError::Cut => f.write_str("a record is cut short"),
            RecordError::Malformed(what) => write!(f, "a record has {what}"),
            RecordError::TooLarge { bytes, max } => {
                write!(f, "a record of {bytes} bytes is larger than {max} bytes")
            }
            RecordError::BatchTooLarge { max } => {
                write!(f, "the batch decompresses to more than {max} bytes")
            }
            RecordError::UnknownCodec(id) => write!(f, "there is no compression type {id}"),
            RecordError::Undecodable(why) => write!(f, "the records do not decompress: {why}"),
        }
    }
}

impl std::error::Error for RecordError {}

impl From<io::Error> for RecordError {
    fn from(error: io::Error) -> RecordError {
        RecordError::Undecodable(error.to_string())
    }
}

/// The records of a batch, in order; ends after the first error. It yields as many as the header counts and then
/// checks that nothing is left.
pub struct Records<'a> {
    header: BatchHeader,
    body: &'a Bytes,
    bodies: Bodies<'a>,
    limits: Limits,
    left: i32,
}

enum Bodies<'a> {
    /// Where the next record begins in the batch.
    Plain(usize),
    Stream(Box<StreamSource<'a>>),
    Failed(Option<RecordError>),
}

impl<'a> Records<'a> {
    /// `batch` is the whole batch.
    pub(crate) fn new(header: BatchHeader, batch: &'a Bytes, limits: Limits) -> Records<'a> {
        let mut left = header.count();
        let bodies = match header.compression() {
            Ok(Compression::None) => Bodies::Plain(crate::HEADER_BYTES),
            Ok(codec) if left > 0 => match Decoder::new(codec, &batch[crate::HEADER_BYTES..]) {
                Ok(decoder) => {
                    Bodies::Stream(Box::new(StreamSource::new(decoder, limits.batch_bytes_max)))
                }
                Err(error) => Bodies::Failed(Some(error.into())),
            },
            Ok(_) => Bodies::Failed(None),
            Err(id) => Bodies::Failed(Some(RecordError::UnknownCodec(id))),
        };
        if left < 0 {
            left = 1;
            return Records {
                header,
                body: batch,
                bodies: Bodies::Failed(Some(RecordError::Malformed("a negative count"))),
                limits,
                left,
            };
        }
        Records {
            header,
            body: batch,
            bodies,
            limits,
            left,
        }
    }

    fn next_record(&mut self) -> Result<Record, RecordError> {
        let (body, size) = self.next_body()?;
        if self.left == 0 && !self.at_end()? {
            return Err(RecordError::Malformed("bytes after the last of its batch"));
        }
        parse_body(&self.header, &body, size)
    }

    /// The bytes of the next record after its length, and its size with the length.
    fn next_body(&mut self) -> Result<(Bytes, u32), RecordError> {
        match &mut self.bodies {
            Bodies::Plain(at) => {
                let mut source = SliceSource::starting_at(self.body, *at);
                let length = walk_length(&mut source, u32::MAX)?;
                let start = source.position() as usize;
                source.skip(length as usize)?;
                let size = source.position() as usize - *at;
                *at += size;
                Ok((self.body.slice(start..*at), size as u32))
            }
            Bodies::Stream(source) => {
                let before = source.position();
                let length = walk_length(source.as_mut(), self.limits.record_bytes_max)?;
                let mut body = Vec::new();
                source.read_into(length as usize, &mut body)?;
                let size = source.position() - before;
                Ok((body.into(), size as u32))
            }
            Bodies::Failed(error) => Err(error.take().unwrap_or(RecordError::Cut)),
        }
    }

    fn at_end(&mut self) -> Result<bool, RecordError> {
        match &mut self.bodies {
            Bodies::Plain(at) => Ok(*at == self.body.len()),
            Bodies::Stream(source) => source.at_end(),
            Bodies::Failed(_) => Ok(true),
        }
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Record, RecordError>;

    fn next(&mut self) -> Option<Result<Record, RecordError>> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let record = self.next_record();
        if record.is_err() {
            self.left = 0;
        }
        Some(record)
    }
}

/// A record from the bytes after its length.
fn parse_body(header: &BatchHeader, body: &Bytes, size: u32) -> Result<Record, RecordError> {
    let mut source = SliceSource::new(body);
    let attributes = source.byte()? as i8;
    let timestamp_delta = source.varlong()?;
    let offset_delta = source.varint()?;
    let key = take_bytes(body, &mut source)?;
    let value = take_bytes(body, &mut source)?;
    let headers = take_headers(body, &mut source)?;
    if !source.at_end()? {
        return Err(RecordError::Malformed(
            "a length that its parts do not fill",
        ));
    }
    Ok(Record {
        offset: Offset(header.base_offset_raw().wrapping_add(offset_delta.into())),
        timestamp: record_timestamp(header, timestamp_delta),
        sequence: match header.base_sequence() {
            base if base >= 0 => increment_sequence(base, offset_delta),
            _ => crate::NO_SEQUENCE,
        },
        attributes,
        key,
        value,
        headers,
        size,
    })
}

/// A record's timestamp, given its distance from the batch's base timestamp.
pub(crate) fn record_timestamp(header: &BatchHeader, delta: i64) -> Timestamp {
    match header.timestamp_type() {
        TimestampType::LogAppendTime => header.max_timestamp(),
        TimestampType::CreateTime => Timestamp(header.base_timestamp_raw().wrapping_add(delta)),
    }
}

fn take_bytes(body: &Bytes, source: &mut SliceSource) -> Result<Option<Bytes>, RecordError> {
    let Ok(length) = usize::try_from(source.varint()?) else {
        return Ok(None);
    };
    let start = source.position() as usize;
    source.skip(length)?;
    Ok(Some(body.slice(start..start + length)))
}

fn take_headers(body: &Bytes, source: &mut SliceSource) -> Result<Vec<Header>, RecordError> {
    let count = usize::try_from(source.varint()?)
        .map_err(|_| RecordError::Malformed("a negative number of headers"))?;
    if count > body.len() - source.position() as usize {
        return Err(RecordError::Malformed("more headers than bytes"));
    }
    let mut headers = Vec::new(); // grows with what is there, not with what is claimed
    for _ in 0..count {
        let key =
            take_bytes(body, source)?.ok_or(RecordError::Malformed("a header without a key"))?;
        let value = take_bytes(body, source)?;
        headers.push(Header { key, value });
    }
    Ok(headers)
}
