//! A message ready to be sent: bytes, and file slices that the edge sends without reading them.

use bytes::Bytes;
use milena_disk::FileSlice;
use milena_protocol::{ApiKey, EncodeError, Encoded, Message, ResponseHeader, Writer};

/// One piece of a frame, in sending order.
#[derive(Clone, Debug)]
pub enum Part {
    Bytes(Bytes),
    Slice(FileSlice),
}

impl Part {
    pub fn len(&self) -> usize {
        match self {
            Part::Bytes(bytes) => bytes.len(),
            Part::Slice(slice) => slice.length as usize,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A whole frame, its length prefix included.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    pub parts: Vec<Part>,
}

impl Frame {
    /// Encodes a response. `slices[id]` stands where the message holds `Records::External { id, .. }`.
    pub fn response<M: Message>(
        api: ApiKey,
        version: i16,
        correlation_id: i32,
        body: &M,
        slices: Vec<FileSlice>,
    ) -> Result<Frame, EncodeError> {
        let mut writer = Writer::new();
        writer.i32(0);
        let header = ResponseHeader { correlation_id };
        header.encode(&mut writer, api.response_header_version(version))?;
        body.encode(&mut writer, version)?;
        writer.patch_i32(0, (writer.wire_length() - 4) as i32);
        Ok(Frame::assemble(writer.finish(), slices))
    }

    /// As [`Frame::response`], for a body that knows how to write itself.
    pub fn response_with(
        api: ApiKey,
        version: i16,
        correlation_id: i32,
        encode: impl FnOnce(&mut Writer) -> Result<(), EncodeError>,
    ) -> Result<Frame, EncodeError> {
        let mut writer = Writer::new();
        writer.i32(0);
        let header = ResponseHeader { correlation_id };
        header.encode(&mut writer, api.response_header_version(version))?;
        encode(&mut writer)?;
        writer.patch_i32(0, (writer.wire_length() - 4) as i32);
        Ok(Frame::assemble(writer.finish(), Vec::new()))
    }

    fn assemble(encoded: Encoded, slices: Vec<FileSlice>) -> Frame {
        let mut bytes = encoded.bytes;
        let mut parts = Vec::with_capacity(1 + 2 * encoded.holes.len());
        let mut taken = 0;
        let mut slices: Vec<Option<FileSlice>> = slices.into_iter().map(Some).collect();
        for hole in &encoded.holes {
            let before = bytes.split_to(hole.at - taken);
            taken = hole.at;
            if !before.is_empty() {
                parts.push(Part::Bytes(before));
            }
            let slice = slices[hole.id as usize].take();
            parts.push(Part::Slice(slice.expect("each slice is sent once")));
        }
        if !bytes.is_empty() {
            parts.push(Part::Bytes(bytes));
        }
        Frame { parts }
    }

    /// Bytes on the wire.
    pub fn len(&self) -> usize {
        self.parts.iter().map(Part::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }
}
