//! Writing the primitive types, in one pass.

use bytes::Bytes;
use milena_base::Uuid;

use crate::reader::STRING_BYTES_MAX;
use crate::{Element, EncodeError, Str};

type Result<T> = std::result::Result<T, EncodeError>;

/// Record batches as they stand in a request or response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Records {
    Bytes(Bytes),
    /// A slice of a file that the edge sends itself; `id` is the caller's name for it, `length` in bytes.
    External {
        id: u64,
        length: u32,
    },
}

impl Records {
    /// Size in bytes.
    pub fn len(&self) -> usize {
        match self {
            Records::Bytes(bytes) => bytes.len(),
            Records::External { length, .. } => *length as usize,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes, where they are in memory. Decoding gives nothing else.
    pub fn as_bytes(&self) -> Option<&Bytes> {
        match self {
            Records::Bytes(bytes) => Some(bytes),
            Records::External { .. } => None,
        }
    }
}

impl Default for Records {
    fn default() -> Records {
        Records::Bytes(Bytes::new())
    }
}

impl From<Bytes> for Records {
    fn from(bytes: Bytes) -> Records {
        Records::Bytes(bytes)
    }
}

/// Where external records belong: after the first `at` bytes of [`Encoded::bytes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    pub at: usize,
    pub id: u64,
    pub length: u32,
}

/// An encoded message, with the holes in ascending order of `at`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    pub bytes: Bytes,
    pub holes: Vec<Hole>,
}

impl Encoded {
    /// Bytes on the wire, holes filled.
    pub fn len(&self) -> usize {
        let holes: usize = self.holes.iter().map(|hole| hole.length as usize).sum();
        self.bytes.len() + holes
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Collects bytes. After an error the content is of no use.
#[derive(Debug, Default)]
pub struct Writer {
    buffer: Vec<u8>,
    holes: Vec<Hole>,
}

/// The tagged fields of one structure while they are written.
pub(crate) struct TagCount {
    at: usize,
}

impl Writer {
    pub fn new() -> Writer {
        Writer::with_capacity(128)
    }

    pub fn with_capacity(capacity: usize) -> Writer {
        Writer {
            buffer: Vec::with_capacity(capacity),
            holes: Vec::new(),
        }
    }

    /// Bytes written, without holes.
    pub fn position(&self) -> usize {
        self.buffer.len()
    }

    /// Bytes written, holes included: what a frame's length counts.
    pub fn wire_length(&self) -> usize {
        let holes: usize = self.holes.iter().map(|hole| hole.length as usize).sum();
        self.buffer.len() + holes
    }

    /// Overwrites four bytes, for a length that is known only afterwards. Panics beyond the end.
    pub fn patch_i32(&mut self, at: usize, value: i32) {
        self.buffer[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }

    pub fn finish(self) -> Encoded {
        Encoded {
            bytes: Bytes::from(self.buffer),
            holes: self.holes,
        }
    }

    /// The bytes; an error where there are holes.
    pub fn into_bytes(self) -> Result<Bytes> {
        if self.holes.is_empty() {
            Ok(Bytes::from(self.buffer))
        } else {
            Err(EncodeError::External)
        }
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    pub fn bool(&mut self, value: bool) {
        self.buffer.push(u8::from(value));
    }

    pub fn i8(&mut self, value: i8) {
        self.raw(&value.to_be_bytes());
    }

    pub fn i16(&mut self, value: i16) {
        self.raw(&value.to_be_bytes());
    }

    pub fn u16(&mut self, value: u16) {
        self.raw(&value.to_be_bytes());
    }

    pub fn i32(&mut self, value: i32) {
        self.raw(&value.to_be_bytes());
    }

    pub fn u32(&mut self, value: u32) {
        self.raw(&value.to_be_bytes());
    }

    pub fn i64(&mut self, value: i64) {
        self.raw(&value.to_be_bytes());
    }

    pub fn f64(&mut self, value: f64) {
        self.raw(&value.to_be_bytes());
    }

    pub fn uuid(&mut self, value: Uuid) {
        self.raw(&value.0);
    }

    pub fn uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.buffer.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.buffer.push(value as u8);
    }

    fn length(&mut self, length: usize, flex: bool) -> Result<()> {
        let Ok(count) = i32::try_from(length) else {
            return Err(EncodeError::TooLong { length });
        };
        if flex {
            self.uvarint(count as u32 + 1);
        } else {
            self.i32(count);
        }
        Ok(())
    }

    fn null(&mut self, flex: bool, null_ok: bool, field: &'static str) -> Result<()> {
        if !null_ok {
            return Err(EncodeError::Null { field });
        }
        if flex {
            self.uvarint(0);
        } else {
            self.i32(-1);
        }
        Ok(())
    }

    pub fn string(&mut self, value: &Str, flex: bool) -> Result<()> {
        let length = value.len();
        if length > STRING_BYTES_MAX {
            return Err(EncodeError::TooLong { length });
        }
        if flex {
            self.uvarint(length as u32 + 1);
        } else {
            self.i16(length as i16);
        }
        self.raw(value.as_bytes());
        Ok(())
    }

    /// `field` is named where null is not allowed.
    pub fn nullable_string(
        &mut self,
        value: &Option<Str>,
        flex: bool,
        null_ok: bool,
        field: &'static str,
    ) -> Result<()> {
        match value {
            Some(value) => self.string(value, flex),
            None if null_ok && !flex => {
                self.i16(-1);
                Ok(())
            }
            None => self.null(flex, null_ok, field),
        }
    }

    pub fn bytes(&mut self, value: &Bytes, flex: bool) -> Result<()> {
        self.length(value.len(), flex)?;
        self.raw(value);
        Ok(())
    }

    /// `field` is named where null is not allowed.
    pub fn nullable_bytes(
        &mut self,
        value: &Option<Bytes>,
        flex: bool,
        null_ok: bool,
        field: &'static str,
    ) -> Result<()> {
        match value {
            Some(value) => self.bytes(value, flex),
            None => self.null(flex, null_ok, field),
        }
    }

    pub fn records(&mut self, value: &Records, flex: bool) -> Result<()> {
        match *value {
            Records::Bytes(ref bytes) => self.bytes(bytes, flex),
            Records::External { id, length } => {
                self.length(length as usize, flex)?;
                let at = self.position();
                self.holes.push(Hole { at, id, length });
                Ok(())
            }
        }
    }

    /// `field` is named where null is not allowed.
    pub fn nullable_records(
        &mut self,
        value: &Option<Records>,
        flex: bool,
        null_ok: bool,
        field: &'static str,
    ) -> Result<()> {
        match value {
            Some(value) => self.records(value, flex),
            None => self.null(flex, null_ok, field),
        }
    }

    pub(crate) fn array<T: Element>(
        &mut self,
        items: &[T],
        version: i16,
        flex: bool,
    ) -> Result<()> {
        self.length(items.len(), flex)?;
        items
            .iter()
            .try_for_each(|item| item.write(self, version, flex))
    }

    pub(crate) fn nullable_array<T: Element>(
        &mut self,
        items: &Option<Vec<T>>,
        version: i16,
        flex: bool,
        null_ok: bool,
        field: &'static str,
    ) -> Result<()> {
        match items {
            Some(items) => self.array(items, version, flex),
            None => self.null(flex, null_ok, field),
        }
    }

    pub(crate) fn nullable_struct<T: Element>(
        &mut self,
        value: &Option<T>,
        version: i16,
        flex: bool,
        null_ok: bool,
        field: &'static str,
    ) -> Result<()> {
        match value {
            Some(value) => {
                if null_ok {
                    self.i8(1);
                }
                value.write(self, version, flex)
            }
            None if null_ok => {
                self.i8(-1);
                Ok(())
            }
            None => Err(EncodeError::Null { field }),
        }
    }

    pub(crate) fn nullable_tagged<T: Element>(
        &mut self,
        value: &Option<T>,
        version: i16,
    ) -> Result<()> {
        match value {
            Some(value) => {
                self.uvarint(1);
                value.write(self, version, true)
            }
            None => {
                self.uvarint(0);
                Ok(())
            }
        }
    }

    pub(crate) fn no_tags(&mut self) {
        self.buffer.push(0);
    }

    /// Begins the tagged fields: their number stands first and is counted as they come. No structure has 128.
    pub(crate) fn tags(&mut self) -> TagCount {
        self.buffer.push(0);
        TagCount {
            at: self.position() - 1,
        }
    }

    /// Begins one; the size stands before the content and is written by [`Writer::end_tag`].
    pub(crate) fn tag(&mut self, tags: &mut TagCount, tag: u32) -> usize {
        self.buffer[tags.at] += 1;
        self.uvarint(tag);
        self.buffer.push(0);
        self.position()
    }

    /// Ends the one whose content began at `start`. A size of more than one byte shifts the content.
    pub(crate) fn end_tag(&mut self, start: usize) {
        let size = self.position() - start;
        let mut rest = size as u32;
        let mut place = start - 1;
        while rest >= 0x80 {
            self.buffer[place] = rest as u8 | 0x80;
            rest >>= 7;
            place += 1;
            self.buffer.insert(place, 0);
        }
        self.buffer[place] = rest as u8;
    }
}
