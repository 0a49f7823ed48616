//! Walking records without keeping them: the one parser of a record's structure, over a slice or over a
//! decompressed stream of any length, in constant memory.

use std::io::Read;

use crate::varint::{unzigzag32, unzigzag64};
use crate::{Decoder, RecordError};

/// Decompressed bytes held at a time.
const WINDOW_BYTES: usize = 16 * 1024;

/// Bytes to walk over.
pub(crate) trait Source {
    /// The next byte; the end is [`RecordError::Cut`].
    fn byte(&mut self) -> Result<u8, RecordError>;
    /// Passes over bytes; it is an error if there are fewer.
    fn skip(&mut self, count: usize) -> Result<(), RecordError>;
    /// Bytes taken so far.
    fn position(&self) -> u64;
    fn at_end(&mut self) -> Result<bool, RecordError>;

    /// A zig-zag int of at most 5 bytes; bits beyond 32 are dropped, as in Kafka.
    #[inline]
    fn varint(&mut self) -> Result<i32, RecordError> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.byte()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(unzigzag32(value));
            }
        }
        Err(RecordError::Malformed("a varint of more than 5 bytes"))
    }

    /// A zig-zag long of at most 10 bytes.
    #[inline]
    fn varlong(&mut self) -> Result<i64, RecordError> {
        let mut value = 0u64;
        for index in 0..10 {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << (index * 7);
            if byte < 0x80 {
                return Ok(unzigzag64(value));
            }
        }
        Err(RecordError::Malformed("a varlong of more than 10 bytes"))
    }
}

/// What a record says of itself; keys, values and headers are passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHead {
    /// Bytes after the length.
    pub body_bytes: u32,
    pub attributes: i8,
    pub timestamp_delta: i64,
    pub offset_delta: i32,
    /// Negative where the key is null.
    pub key_bytes: i32,
    /// Negative where the value is null.
    pub value_bytes: i32,
    pub headers: u32,
}

/// Reads a record's length, at most `max`.
#[inline]
pub(crate) fn walk_length(source: &mut impl Source, max: u32) -> Result<u32, RecordError> {
    let length = source.varint()?;
    let length = u32::try_from(length).map_err(|_| RecordError::Malformed("a negative length"))?;
    match length > max {
        true => Err(RecordError::TooLarge { bytes: length, max }),
        false => Ok(length),
    }
}

/// Walks one record. Its parts must fill its length exactly.
#[inline]
pub(crate) fn walk_record(source: &mut impl Source, max: u32) -> Result<RecordHead, RecordError> {
    let body_bytes = walk_length(source, max)?;
    let end = source.position() + u64::from(body_bytes);
    let attributes = source.byte()? as i8;
    let timestamp_delta = source.varlong()?;
    let offset_delta = source.varint()?;
    let key_bytes = walk_bytes(source)?;
    let value_bytes = walk_bytes(source)?;
    let headers = walk_headers(source, end)?;
    if source.position() != end {
        return Err(RecordError::Malformed(
            "a length that its parts do not fill",
        ));
    }
    Ok(RecordHead {
        body_bytes,
        attributes,
        timestamp_delta,
        offset_delta,
        key_bytes,
        value_bytes,
        headers,
    })
}

#[inline]
fn walk_bytes(source: &mut impl Source) -> Result<i32, RecordError> {
    let length = source.varint()?;
    if length > 0 {
        source.skip(length as usize)?;
    }
    Ok(length)
}

fn walk_headers(source: &mut impl Source, end: u64) -> Result<u32, RecordError> {
    let count = u32::try_from(source.varint()?)
        .map_err(|_| RecordError::Malformed("a negative number of headers"))?;
    if u64::from(count) > end.saturating_sub(source.position()) {
        return Err(RecordError::Malformed("more headers than bytes"));
    }
    for _ in 0..count {
        if walk_bytes(source)? < 0 {
            return Err(RecordError::Malformed("a header without a key"));
        }
        walk_bytes(source)?;
    }
    Ok(count)
}

/// A walk over bytes in memory.
pub(crate) struct SliceSource<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> SliceSource<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> SliceSource<'a> {
        SliceSource { bytes, at: 0 }
    }

    pub(crate) fn starting_at(bytes: &'a [u8], at: usize) -> SliceSource<'a> {
        SliceSource { bytes, at }
    }
}

impl Source for SliceSource<'_> {
    #[inline]
    fn byte(&mut self) -> Result<u8, RecordError> {
        let byte = *self.bytes.get(self.at).ok_or(RecordError::Cut)?;
        self.at += 1;
        Ok(byte)
    }

    #[inline]
    fn skip(&mut self, count: usize) -> Result<(), RecordError> {
        if self.bytes.len() - self.at < count {
            return Err(RecordError::Cut);
        }
        self.at += count;
        Ok(())
    }

    #[inline]
    fn position(&self) -> u64 {
        self.at as u64
    }

    fn at_end(&mut self) -> Result<bool, RecordError> {
        Ok(self.at == self.bytes.len())
    }
}

/// A walk over a compressed stream, a window at a time.
pub(crate) struct StreamSource<'a> {
    decoder: Decoder<'a>,
    window: Vec<u8>,
    at: usize,
    end: usize,
    /// Decompressed bytes before the window.
    before: u64,
    bytes_max: u64,
}

impl<'a> StreamSource<'a> {
    /// `bytes_max` bounds the decompressed bytes of the whole stream.
    pub(crate) fn new(decoder: Decoder<'a>, bytes_max: u64) -> StreamSource<'a> {
        StreamSource {
            decoder,
            window: vec![0; WINDOW_BYTES],
            at: 0,
            end: 0,
            before: 0,
            bytes_max,
        }
    }

    /// Replaces an exhausted window; false at the stream's end.
    fn refill(&mut self) -> Result<bool, RecordError> {
        self.before += self.end as u64;
        (self.at, self.end) = (0, 0);
        self.end = self.decoder.read(&mut self.window)?;
        if self.before + self.end as u64 > self.bytes_max {
            let max = self.bytes_max;
            return Err(RecordError::BatchTooLarge { max });
        }
        Ok(self.end > 0)
    }

    /// Appends the next `count` bytes to `out`, which grows with what is there, not with `count`.
    pub(crate) fn read_into(&mut self, count: usize, out: &mut Vec<u8>) -> Result<(), RecordError> {
        let mut missing = count;
        while missing > 0 {
            if self.at == self.end && !self.refill()? {
                return Err(RecordError::Cut);
            }
            let step = missing.min(self.end - self.at);
            out.extend_from_slice(&self.window[self.at..self.at + step]);
            self.at += step;
            missing -= step;
        }
        Ok(())
    }
}

impl Source for StreamSource<'_> {
    #[inline]
    fn byte(&mut self) -> Result<u8, RecordError> {
        if self.at == self.end && !self.refill()? {
            return Err(RecordError::Cut);
        }
        let byte = self.window[self.at];
        self.at += 1;
        Ok(byte)
    }

    fn skip(&mut self, count: usize) -> Result<(), RecordError> {
        let mut missing = count;
        while missing > 0 {
            if self.at == self.end && !self.refill()? {
                return Err(RecordError::Cut);
            }
            let step = missing.min(self.end - self.at);
            self.at += step;
            missing -= step;
        }
        Ok(())
    }

    fn position(&self) -> u64 {
        self.before + self.at as u64
    }

    fn at_end(&mut self) -> Result<bool, RecordError> {
        Ok(self.at == self.end && !self.refill()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::varint;

    #[test]
    fn varints_are_read_back_in_the_size_foretold() {
        for value in [
            0,
            1,
            -1,
            63,
            64,
            -64,
            -65,
            300,
            i64::from(i32::MAX),
            i64::MAX,
            i64::MIN,
        ] {
            let mut out = Vec::new();
            varint::write_i64(&mut out, value);
            assert_eq!(out.len(), varint::size_i64(value), "{value}");
            let mut source = SliceSource::new(&out);
            assert_eq!(source.varlong(), Ok(value));
            assert_eq!(source.at_end(), Ok(true));
            if let Ok(int) = i32::try_from(value) {
                assert_eq!(SliceSource::new(&out).varint(), Ok(int));
            }
        }
    }

    #[test]
    fn too_long_or_cut_varints_are_refused() {
        assert!(SliceSource::new(&[0x80; 6]).varint().is_err());
        assert!(SliceSource::new(&[0x80; 11]).varlong().is_err());
        assert_eq!(
            SliceSource::new(&[0x80, 0x80]).varint(),
            Err(RecordError::Cut)
        );
    }
}
