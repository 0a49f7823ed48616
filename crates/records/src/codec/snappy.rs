//! Snappy in the xerial framing of snappy-java: a 16-byte head, then blocks, each after its length. Streams without
//! the head are one raw block (librdkafka writes those).

use std::io::{self, Read};

use super::corrupt;

const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const HEAD_BYTES: usize = 16;
const VERSION: i32 = 1;
/// snappy-java's default.
const BLOCK_BYTES: usize = 32 * 1024;
/// A copy of three bytes gives at most 64: what a block claims beyond that is a lie.
const RATIO_MAX: usize = 22;

pub(super) struct Unsnap<'a> {
    rest: &'a [u8],
    raw: bool,
    block: Vec<u8>,
    at: usize,
}

impl<'a> Unsnap<'a> {
    pub(super) fn new(compressed: &'a [u8]) -> io::Result<Unsnap<'a>> {
        let framed = compressed.len() >= HEAD_BYTES && compressed.starts_with(&MAGIC);
        let mut reader = Unsnap {
            rest: compressed,
            raw: !framed,
            block: Vec::new(),
            at: 0,
        };
        if framed {
            let version = i32::from_be_bytes(*compressed[8..].first_chunk().expect("16 bytes"));
            if version < VERSION {
                return Err(corrupt("unknown version of the snappy framing"));
            }
            reader.rest = &compressed[HEAD_BYTES..];
        }
        Ok(reader)
    }

    /// The next block's compressed bytes; `None` at the end.
    fn next_block(&mut self) -> io::Result<Option<&'a [u8]>> {
        if self.raw {
            let block = std::mem::take(&mut self.rest);
            return Ok((!block.is_empty()).then_some(block));
        }
        loop {
            let Some(length) = self.rest.first_chunk::<4>() else {
                return Ok(None);
            };
            if length[..] == MAGIC[..4] && self.rest.len() >= HEAD_BYTES {
                self.rest = &self.rest[HEAD_BYTES..]; // another stream follows
                continue;
            }
            let length = usize::try_from(i32::from_be_bytes(*length))
                .map_err(|_| corrupt("negative length of a snappy block"))?;
            if self.rest.len() - 4 < length {
                return Err(corrupt("snappy block cut short"));
            }
            let (block, rest) = self.rest[4..].split_at(length);
            self.rest = rest;
            return Ok(Some(block));
        }
    }

    fn fill(&mut self) -> io::Result<bool> {
        let Some(block) = self.next_block()? else {
            return Ok(false);
        };
        let length = snap::raw::decompress_len(block).map_err(io::Error::other)?;
        if length > block.len().saturating_mul(RATIO_MAX) {
            return Err(corrupt("snappy block claims more than it can hold"));
        }
        self.block.resize(length, 0);
        snap::raw::Decoder::new()
            .decompress(block, &mut self.block)
            .map_err(io::Error::other)?;
        self.at = 0;
        Ok(true)
    }
}

impl Read for Unsnap<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        while self.at == self.block.len() {
            if !self.fill()? {
                return Ok(0);
            }
        }
        let count = buf.len().min(self.block.len() - self.at);
        buf[..count].copy_from_slice(&self.block[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

pub(crate) struct Snap {
    out: Vec<u8>,
    pending: Vec<u8>,
    encoder: snap::raw::Encoder,
}

impl Snap {
    pub(super) fn new(mut out: Vec<u8>) -> Snap {
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_be_bytes());
        out.extend_from_slice(&VERSION.to_be_bytes());
        Snap {
            out,
            pending: Vec::with_capacity(BLOCK_BYTES),
            encoder: snap::raw::Encoder::new(),
        }
    }

    pub(super) fn written(&self) -> usize {
        self.out.len()
    }

    pub(super) fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = bytes.len().min(BLOCK_BYTES - self.pending.len());
            self.pending.extend_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            if self.pending.len() == BLOCK_BYTES {
                self.flush_block()?;
            }
        }
        Ok(())
    }

    fn flush_block(&mut self) -> io::Result<()> {
        let length_at = self.out.len();
        let block_at = length_at + 4;
        let room = snap::raw::max_compress_len(self.pending.len());
        self.out.resize(block_at + room, 0);
        let length = self
            .encoder
            .compress(&self.pending, &mut self.out[block_at..])
            .map_err(io::Error::other)?;
        self.out.truncate(block_at + length);
        self.out[length_at..block_at].copy_from_slice(&(length as u32).to_be_bytes());
        self.pending.clear();
        Ok(())
    }

    pub(super) fn finish(mut self) -> io::Result<Vec<u8>> {
        if !self.pending.is_empty() {
            self.flush_block()?;
        }
        Ok(self.out)
    }
}

#[cfg(test)]
mod tests {
    use crate::{Compression, compress, decompress};

    #[test]
    fn raw_blocks_and_following_streams_are_read() {
        let raw = snap::raw::Encoder::new()
            .compress_vec(b"a raw block")
            .unwrap();
        assert_eq!(
            decompress(Compression::Snappy, &raw, 100).unwrap(),
            b"a raw block"
        );
        let mut two = compress(Compression::Snappy.into(), b"one ").unwrap();
        two.extend(compress(Compression::Snappy.into(), b"two").unwrap());
        assert_eq!(
            decompress(Compression::Snappy, &two, 100).unwrap(),
            b"one two"
        );
    }

    #[test]
    fn a_block_that_claims_too_much_is_refused_before_memory_is_taken() {
        let lie = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0];
        assert!(decompress(Compression::Snappy, &lie, usize::MAX - 1).is_err());
    }
}
