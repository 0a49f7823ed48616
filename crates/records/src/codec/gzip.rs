//! gzip, as Java's `GZIPInputStream` reads it: members follow each other, and what follows the last one without
//! being a member's head is ignored.

use std::io::{self, Read};

use flate2::bufread::GzDecoder;

pub(super) struct Gunzip<'a> {
    member: Option<GzDecoder<&'a [u8]>>,
    /// Whether a whole member has been read: only then may a head be missing.
    any_whole: bool,
}

impl<'a> Gunzip<'a> {
    pub(super) fn new(compressed: &'a [u8]) -> Gunzip<'a> {
        Gunzip {
            member: Some(GzDecoder::new(compressed)),
            any_whole: false,
        }
    }
}

impl Read for Gunzip<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        while let Some(mut member) = self.member.take() {
            match member.read(buf) {
                Ok(0) => {
                    self.any_whole = true;
                    let rest = member.into_inner();
                    self.member = (!rest.is_empty()).then(|| GzDecoder::new(rest));
                }
                Ok(count) => {
                    self.member = Some(member);
                    return Ok(count);
                }
                Err(_) if self.any_whole && member.header().is_none() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(0)
    }
}

pub(super) fn encoder(level: i32, out: Vec<u8>) -> flate2::write::GzEncoder<Vec<u8>> {
    let level =
        u32::try_from(level).map_or(flate2::Compression::default(), flate2::Compression::new);
    flate2::write::GzEncoder::new(out, level)
}

#[cfg(test)]
mod tests {
    use crate::{Compression, compress, decompress};

    #[test]
    fn members_follow_each_other_and_garbage_ends_them() {
        let mut packed = compress(Compression::Gzip.into(), b"one ").unwrap();
        packed.extend(compress(Compression::Gzip.into(), b"two").unwrap());
        assert_eq!(
            decompress(Compression::Gzip, &packed, 100).unwrap(),
            b"one two"
        );
        packed.extend(b"no gzip head at all, and long enough");
        assert_eq!(
            decompress(Compression::Gzip, &packed, 100).unwrap(),
            b"one two"
        );
        assert!(decompress(Compression::Gzip, b"no gzip at all", 100).is_err());
    }
}
