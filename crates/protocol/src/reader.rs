//! Reading the primitive types. Nothing is reserved beyond what the input can hold.

use bytes::Bytes;
use milena_base::Uuid;

use crate::{DecodeError, Element, Records, Str};

type Result<T> = std::result::Result<T, DecodeError>;

/// Longest string that Kafka reads or writes, in bytes.
pub(crate) const STRING_BYTES_MAX: usize = 0x7fff;

/// Most elements of one array, and most tagged fields of one structure, that Kafka 4.4 reads (`MessageUtil`).
const ARRAY_LENGTH_MAX: usize = 1_000_000;
const TAGGED_FIELDS_MAX: u32 = 10_000;

/// Decoding allocates at most this many bytes for a byte of input (measured: 59 for a request, 123 for a
/// response), besides a few KiB.
pub const DECODED_BYTES_PER_BYTE_MAX: usize = 200;

/// A cursor over one message. Slices that it yields share the input's memory.
#[derive(Clone, Debug)]
pub struct Reader {
    bytes: Bytes,
    at: usize,
}

/// The tagged fields of one structure while they are read.
pub(crate) struct Tags {
    left: u32,
    tag: u32,
    end: usize,
    started: bool,
}

impl Reader {
    pub fn new(bytes: Bytes) -> Reader {
        Reader { bytes, at: 0 }
    }

    /// Bytes read so far.
    pub fn position(&self) -> usize {
        self.at
    }

    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// What has not been read, without copying it.
    pub fn rest(&self) -> Bytes {
        self.bytes.slice(self.at..)
    }

    #[cold]
    fn truncated(&self, wanted: usize) -> DecodeError {
        DecodeError::Truncated {
            at: self.at,
            wanted,
            remaining: self.remaining(),
        }
    }

    #[inline]
    fn fixed<const N: usize>(&mut self) -> Result<[u8; N]> {
        match self.bytes[self.at..].first_chunk::<N>() {
            Some(&chunk) => {
                self.at += N;
                Ok(chunk)
            }
            None => Err(self.truncated(N)),
        }
    }

    /// The next `length` bytes, shared.
    pub fn take(&mut self, length: usize) -> Result<Bytes> {
        if length > self.remaining() {
            return Err(self.truncated(length));
        }
        let taken = self.bytes.slice(self.at..self.at + length);
        self.at += length;
        Ok(taken)
    }

    pub fn skip(&mut self, length: usize) -> Result<()> {
        if length > self.remaining() {
            return Err(self.truncated(length));
        }
        self.at += length;
        Ok(())
    }

    /// Any byte but 0 is true, as in Kafka.
    pub fn bool(&mut self) -> Result<bool> {
        Ok(self.i8()? != 0)
    }

    pub fn i8(&mut self) -> Result<i8> {
        Ok(i8::from_be_bytes(self.fixed()?))
    }

    pub fn i16(&mut self) -> Result<i16> {
        Ok(i16::from_be_bytes(self.fixed()?))
    }

    pub fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_be_bytes(self.fixed()?))
    }

    pub fn i32(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.fixed()?))
    }

    pub fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.fixed()?))
    }

    pub fn i64(&mut self) -> Result<i64> {
        Ok(i64::from_be_bytes(self.fixed()?))
    }

    pub fn f64(&mut self) -> Result<f64> {
        Ok(f64::from_be_bytes(self.fixed()?))
    }

    pub fn uuid(&mut self) -> Result<Uuid> {
        Ok(Uuid(self.fixed()?))
    }

    /// At most five bytes, seven bits each, the low ones first.
    pub fn uvarint(&mut self) -> Result<u32> {
        let start = self.at;
        let mut value = 0u32;
        for shift in (0..35).step_by(7) {
            let [byte] = self.fixed()?;
            if shift == 28 && byte > 0x0f {
                break;
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DecodeError::Varint { at: start })
    }

    /// A length or count; `None` stands for null.
    fn length(&mut self, flex: bool) -> Result<Option<usize>> {
        let at = self.at;
        let length = if flex {
            i64::from(self.uvarint()?) - 1
        } else {
            i64::from(self.i32()?)
        };
        match usize::try_from(length) {
            Ok(length) if length <= i32::MAX as usize => Ok(Some(length)),
            Ok(_) => Err(DecodeError::Length { at, length }),
            Err(_) => Ok(None),
        }
    }

    fn string_length(&mut self, flex: bool) -> Result<Option<usize>> {
        let at = self.at;
        let length = if flex {
            self.length(true)?
        } else {
            usize::try_from(self.i16()?).ok()
        };
        match length {
            Some(length) if length > STRING_BYTES_MAX => Err(DecodeError::Length {
                at,
                length: length as i64,
            }),
            length => Ok(length),
        }
    }

    fn not_null<T>(&self, value: Option<T>) -> Result<T> {
        value.ok_or(DecodeError::Null { at: self.at })
    }

    fn null_allowed<T>(&self, value: Option<T>, null_ok: bool) -> Result<Option<T>> {
        if value.is_none() && !null_ok {
            return Err(DecodeError::Null { at: self.at });
        }
        Ok(value)
    }

    pub fn string(&mut self, flex: bool) -> Result<Str> {
        let value = self.nullable_string(flex, true)?;
        self.not_null(value)
    }

    /// A string, or null where `null_ok`.
    pub fn nullable_string(&mut self, flex: bool, null_ok: bool) -> Result<Option<Str>> {
        let value = match self.string_length(flex)? {
            Some(length) => Some(Str::from_wire(self.take(length)?)),
            None => None,
        };
        self.null_allowed(value, null_ok)
    }

    pub fn bytes(&mut self, flex: bool) -> Result<Bytes> {
        let value = self.nullable_bytes(flex, true)?;
        self.not_null(value)
    }

    /// Bytes, or null where `null_ok`.
    pub fn nullable_bytes(&mut self, flex: bool, null_ok: bool) -> Result<Option<Bytes>> {
        let value = match self.length(flex)? {
            Some(length) => Some(self.take(length)?),
            None => None,
        };
        self.null_allowed(value, null_ok)
    }

    pub fn records(&mut self, flex: bool) -> Result<Records> {
        self.bytes(flex).map(Records::Bytes)
    }

    /// Records, or null where `null_ok`.
    pub fn nullable_records(&mut self, flex: bool, null_ok: bool) -> Result<Option<Records>> {
        Ok(self.nullable_bytes(flex, null_ok)?.map(Records::Bytes))
    }

    pub(crate) fn array<T: Element>(&mut self, version: i16, flex: bool) -> Result<Vec<T>> {
        let value = self.nullable_array(version, flex, true)?;
        self.not_null(value)
    }

    pub(crate) fn nullable_array<T: Element>(
        &mut self,
        version: i16,
        flex: bool,
        null_ok: bool,
    ) -> Result<Option<Vec<T>>> {
        match self.count(flex, null_ok)? {
            Some(count) => self.items(count, version, flex).map(Some),
            None => Ok(None),
        }
    }

    /// An array's count, already bounded by the bytes that remain.
    pub(crate) fn count(&mut self, flex: bool, null_ok: bool) -> Result<Option<usize>> {
        let at = self.at;
        match self.length(flex)? {
            Some(count) if count > self.remaining() => Err(self.truncated(count)),
            Some(count) if count > ARRAY_LENGTH_MAX => Err(DecodeError::Length {
                at,
                length: count as i64,
            }),
            count => self.null_allowed(count, null_ok),
        }
    }

    /// Reserves at most four times the bytes that remain; a larger array grows as its elements arrive.
    fn items<T: Element>(&mut self, count: usize, version: i16, flex: bool) -> Result<Vec<T>> {
        let needed = count.saturating_mul(T::MIN_SIZE);
        if needed > self.remaining() {
            return Err(self.truncated(needed));
        }
        let affordable = self.remaining().saturating_mul(4) / size_of::<T>().max(1);
        let mut items = Vec::with_capacity(count.min(affordable + 1));
        for _ in 0..count {
            items.push(T::read(self, version, flex)?);
        }
        Ok(items)
    }

    /// A structure behind a byte that says whether it is there.
    pub(crate) fn nullable_struct<T: Element>(
        &mut self,
        version: i16,
        flex: bool,
        null_ok: bool,
    ) -> Result<Option<T>> {
        // Where null is not allowed in a version there is no such byte.
        if null_ok && self.i8()? < 0 {
            return Ok(None);
        }
        T::read(self, version, flex).map(Some)
    }

    /// The same in a tagged field, where the mark is a varint.
    pub(crate) fn nullable_tagged<T: Element>(&mut self, version: i16) -> Result<Option<T>> {
        if self.uvarint()? == 0 {
            return Ok(None);
        }
        T::read(self, version, true).map(Some)
    }

    pub(crate) fn tags(&mut self) -> Result<Tags> {
        let at = self.at;
        let left = self.uvarint()?;
        if left > TAGGED_FIELDS_MAX {
            let length = left.into();
            return Err(DecodeError::Length { at, length });
        }
        Ok(Tags {
            left,
            tag: 0,
            end: 0,
            started: false,
        })
    }

    /// The next tag; first checks that the field before it took the bytes that it stated.
    pub(crate) fn next_tag(&mut self, tags: &mut Tags) -> Result<Option<u32>> {
        if tags.started && self.at != tags.end {
            let (at, tag) = (self.at, tags.tag);
            return Err(DecodeError::TagSize { at, tag });
        }
        if tags.left == 0 {
            return Ok(None);
        }
        tags.left -= 1;
        tags.started = true;
        tags.tag = self.uvarint()?;
        let size = self.uvarint()? as usize;
        if size > self.remaining() {
            return Err(self.truncated(size));
        }
        tags.end = self.at + size;
        Ok(Some(tags.tag))
    }

    /// Passes over an unknown tagged field.
    pub(crate) fn skip_tag(&mut self, tags: &Tags) {
        self.at = tags.end;
    }

    /// Passes over all tagged fields of a structure that knows none.
    pub(crate) fn skip_tags(&mut self) -> Result<()> {
        let mut tags = self.tags()?;
        while self.next_tag(&mut tags)?.is_some() {
            self.skip_tag(&tags);
        }
        Ok(())
    }

    pub(crate) fn tag_of_another_version(&self, tag: u32) -> DecodeError {
        DecodeError::Tag { at: self.at, tag }
    }
}
