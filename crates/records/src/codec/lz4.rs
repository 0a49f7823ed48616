//! LZ4 frames as Kafka reads and writes them: independent blocks only, at most 4 MiB each; a content checksum is
//! skipped, block checksums are verified; nothing is read after the end mark.

use std::io::{self, Read};

use lz4::block::CompressionMode;

use super::corrupt;
use super::xxhash::xxh32;

const MAGIC: u32 = 0x184D_2204;
const UNCOMPRESSED_BLOCK: u32 = 0x8000_0000;
/// Blocks of 64 KiB, as Kafka writes.
const BLOCK_BYTES: usize = 64 * 1024;
const BLOCK_BYTES_CODE: u8 = 4;
/// Version 1, independent blocks, no checksums.
const FLAGS: u8 = 0x60;
/// One byte of a block gives at most 255.
const RATIO_MAX: usize = 255;
/// The level at which Kafka takes the fast compressor instead of the strong one.
const FAST_LEVEL: i32 = 9;

pub(super) struct Unlz4<'a> {
    rest: &'a [u8],
    block_bytes_max: usize,
    block_checksums: bool,
    block: Vec<u8>,
    at: usize,
    finished: bool,
}

impl<'a> Unlz4<'a> {
    pub(super) fn new(compressed: &'a [u8]) -> io::Result<Unlz4<'a>> {
        let mut reader = Unlz4 {
            rest: compressed,
            block_bytes_max: 0,
            block_checksums: false,
            block: Vec::new(),
            at: 0,
            finished: false,
        };
        reader.read_head()?;
        Ok(reader)
    }

    fn take(&mut self, count: usize) -> io::Result<&'a [u8]> {
        if self.rest.len() < count {
            return Err(corrupt("LZ4 stream cut short"));
        }
        let (taken, rest) = self.rest.split_at(count);
        self.rest = rest;
        Ok(taken)
    }

    fn take_u32(&mut self) -> io::Result<u32> {
        self.take(4)
            .map(|bytes| u32::from_le_bytes(*bytes.first_chunk().expect("four bytes")))
    }

    fn read_head(&mut self) -> io::Result<()> {
        if self.take_u32()? != MAGIC {
            return Err(corrupt("not an LZ4 frame"));
        }
        let descriptor = self.rest;
        let [flags, block] = *self.take(2)?.first_chunk().expect("two bytes");
        if flags & 0x03 != 0 || flags >> 6 != 1 || block & 0x8f != 0 {
            return Err(corrupt("unknown flags of an LZ4 frame"));
        }
        if flags & 0x20 == 0 {
            return Err(corrupt("LZ4 blocks that depend on each other"));
        }
        if block >> 4 < 4 {
            return Err(corrupt("unknown block size of an LZ4 frame"));
        }
        self.block_bytes_max = 1 << (2 * (block >> 4) + 8);
        self.block_checksums = flags & 0x10 != 0;
        let sized = flags & 0x08 != 0;
        if sized {
            self.take(8)?;
        }
        let descriptor = &descriptor[..if sized { 10 } else { 2 }];
        match self.take(1)?[0] == (xxh32(descriptor) >> 8) as u8 {
            true => Ok(()),
            false => Err(corrupt("checksum of an LZ4 frame's head")),
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        self.at = 0;
        self.block.clear();
        let word = self.take_u32()?;
        let length = (word & !UNCOMPRESSED_BLOCK) as usize;
        if length == 0 {
            self.finished = true;
            return Ok(());
        }
        if length > self.block_bytes_max {
            return Err(corrupt("LZ4 block longer than its frame allows"));
        }
        let block = self.take(length)?;
        if word & UNCOMPRESSED_BLOCK != 0 {
            self.block.extend_from_slice(block);
        } else {
            let room = length.saturating_mul(RATIO_MAX).min(self.block_bytes_max);
            self.block.resize(room, 0);
            let size = lz4::block::decompress_to_buffer(block, Some(room as i32), &mut self.block)?;
            self.block.truncate(size);
        }
        if self.block_checksums && self.take_u32()? != xxh32(block) {
            return Err(corrupt("checksum of an LZ4 block"));
        }
        Ok(())
    }
}

impl Read for Unlz4<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.at == self.block.len() && !self.finished {
            self.fill()?; // an empty block reads as an end, as it does in Kafka
        }
        let count = buf.len().min(self.block.len() - self.at);
        buf[..count].copy_from_slice(&self.block[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

pub(crate) struct Lz4 {
    out: Vec<u8>,
    pending: Vec<u8>,
    mode: CompressionMode,
}

impl Lz4 {
    pub(super) fn new(level: i32, mut out: Vec<u8>) -> Lz4 {
        let descriptor = [FLAGS, BLOCK_BYTES_CODE << 4];
        out.extend_from_slice(&MAGIC.to_le_bytes());
        out.extend_from_slice(&descriptor);
        out.push((xxh32(&descriptor) >> 8) as u8);
        let mode = match level {
            FAST_LEVEL => CompressionMode::DEFAULT,
            level => CompressionMode::HIGHCOMPRESSION(level),
        };
        Lz4 {
            out,
            pending: Vec::with_capacity(BLOCK_BYTES),
            mode,
        }
    }

    pub(super) fn written(&self) -> usize {
        self.out.len()
    }

    pub(super) fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.pending.len() == BLOCK_BYTES {
                self.flush_block()?;
            }
            let count = bytes.len().min(BLOCK_BYTES - self.pending.len());
            self.pending.extend_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
        }
        Ok(())
    }

    fn flush_block(&mut self) -> io::Result<()> {
        let length_at = self.out.len();
        let block_at = length_at + 4;
        let room = lz4::block::compress_bound(self.pending.len())?;
        self.out.resize(block_at + room, 0);
        let mut length = lz4::block::compress_to_buffer(
            &self.pending,
            Some(self.mode),
            false,
            &mut self.out[block_at..],
        )?;
        let mut word = length as u32;
        if length >= self.pending.len() {
            length = self.pending.len();
            word = length as u32 | UNCOMPRESSED_BLOCK;
            self.out[block_at..block_at + length].copy_from_slice(&self.pending);
        }
        self.out.truncate(block_at + length);
        self.out[length_at..block_at].copy_from_slice(&word.to_le_bytes());
        self.pending.clear();
        Ok(())
    }

    pub(super) fn finish(mut self) -> io::Result<Vec<u8>> {
        if !self.pending.is_empty() {
            self.flush_block()?;
        }
        self.out.extend_from_slice(&0u32.to_le_bytes());
        Ok(self.out)
    }
}
