//! Compression as Kafka frames it: gzip members, snappy in the xerial framing (raw blocks are read too), LZ4 frames
//! of independent blocks, zstd frames. [`Decoder`] is the one way out of a compressed stream: it hands out pieces,
//! never more than its caller asked for, and [`decompress`] puts a cap on the whole.

mod gzip;
mod lz4;
mod snappy;
mod xxhash;

use std::fmt;
use std::io::{self, Read, Write};

/// Codec of a batch's records: the lowest three bits of its attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i16)]
pub enum Compression {
    #[default]
    None = 0,
    Gzip = 1,
    Snappy = 2,
    Lz4 = 3,
    Zstd = 4,
}

impl Compression {
    pub const ALL: [Compression; 5] = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];

    /// The codec of this number; `None` where there is none.
    pub fn from_id(id: i16) -> Option<Compression> {
        Compression::ALL.get(usize::try_from(id).ok()?).copied()
    }

    /// The number in the attributes.
    pub fn id(self) -> i16 {
        self as i16
    }

    /// Kafka's name, as in `compression.type`.
    pub fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }

    pub fn from_name(name: &str) -> Option<Compression> {
        Compression::ALL
            .into_iter()
            .find(|codec| codec.name() == name)
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A codec to write with, and how hard it tries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Codec {
    pub compression: Compression,
    /// `compression.<codec>.level`: gzip 1–9 or −1, lz4 1–17 (9 is the fast compressor, as in Kafka), zstd
    /// −131072–22. Without meaning for the others.
    pub level: i32,
}

impl Codec {
    pub const NONE: Codec = Codec {
        compression: Compression::None,
        level: 0,
    };

    /// With Kafka's default level: gzip −1 (the library's own), lz4 9, zstd 3.
    pub fn of(compression: Compression) -> Codec {
        let level = match compression {
            Compression::None | Compression::Snappy => 0,
            Compression::Gzip => -1,
            Compression::Lz4 => 9,
            Compression::Zstd => 3,
        };
        Codec { compression, level }
    }
}

impl From<Compression> for Codec {
    fn from(compression: Compression) -> Codec {
        Codec::of(compression)
    }
}

/// Reads what a compressed stream holds. Its memory is bounded by the codec's window or block (zstd: 128 MiB, LZ4:
/// 4 MiB, gzip: 32 KiB, snappy: 22 times the compressed block), and none of it is reserved on the stream's word alone.
pub struct Decoder<'a> {
    kind: Kind<'a>,
}

enum Kind<'a> {
    None(&'a [u8]),
    Gzip(Box<gzip::Gunzip<'a>>),
    Snappy(snappy::Unsnap<'a>),
    Lz4(lz4::Unlz4<'a>),
    Zstd(zstd::stream::read::Decoder<'a, &'a [u8]>),
}

impl<'a> Decoder<'a> {
    /// Starts reading. The stream's head is looked at here, so a foreign one is an error at once.
    pub fn new(compression: Compression, compressed: &'a [u8]) -> io::Result<Decoder<'a>> {
        let kind = match compression {
            Compression::None => Kind::None(compressed),
            Compression::Gzip => Kind::Gzip(Box::new(gzip::Gunzip::new(compressed))),
            Compression::Snappy => Kind::Snappy(snappy::Unsnap::new(compressed)?),
            Compression::Lz4 => Kind::Lz4(lz4::Unlz4::new(compressed)?),
            Compression::Zstd => Kind::Zstd(zstd::stream::read::Decoder::with_buffer(compressed)?),
        };
        Ok(Decoder { kind })
    }
}

impl Read for Decoder<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match &mut self.kind {
            Kind::None(reader) => reader.read(buf),
            Kind::Gzip(reader) => reader.read(buf),
            Kind::Snappy(reader) => reader.read(buf),
            Kind::Lz4(reader) => reader.read(buf),
            Kind::Zstd(reader) => reader.read(buf),
        }
    }
}

/// Why [`decompress`] gave nothing.
#[derive(Debug)]
pub enum DecodeLimitError {
    /// The stream holds more than the cap (in bytes).
    TooLarge { max: usize },
    /// The stream is not what its codec writes.
    Corrupt(io::Error),
}

impl fmt::Display for DecodeLimitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeLimitError::TooLarge { max } => {
                write!(f, "the decompressed data is larger than {max} bytes")
            }
            DecodeLimitError::Corrupt(error) => write!(f, "cannot decompress: {error}"),
        }
    }
}

impl std::error::Error for DecodeLimitError {}

/// The whole of a compressed stream, if that is at most `max` bytes. Memory grows with what comes out, so that a
/// small bomb costs no more than the cap.
pub fn decompress(
    compression: Compression,
    compressed: &[u8],
    max: usize,
) -> Result<Vec<u8>, DecodeLimitError> {
    let mut out = Vec::new();
    Decoder::new(compression, compressed)
        .and_then(|decoder| decoder.take(max as u64 + 1).read_to_end(&mut out))
        .map_err(DecodeLimitError::Corrupt)?;
    match out.len() > max {
        true => Err(DecodeLimitError::TooLarge { max }),
        false => Ok(out),
    }
}

/// The whole of `bytes`, compressed.
pub fn compress(codec: Codec, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = Encoder::new(codec, Vec::new())?;
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// Compresses into a vector that may already hold something: a batch's header.
pub(crate) enum Encoder {
    None(Vec<u8>),
    Gzip(Box<flate2::write::GzEncoder<Vec<u8>>>),
    Snappy(Box<snappy::Snap>),
    Lz4(lz4::Lz4),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Encoder {
    pub(crate) fn new(codec: Codec, out: Vec<u8>) -> io::Result<Encoder> {
        Ok(match codec.compression {
            Compression::None => Encoder::None(out),
            Compression::Gzip => Encoder::Gzip(Box::new(gzip::encoder(codec.level, out))),
            Compression::Snappy => Encoder::Snappy(Box::new(snappy::Snap::new(out))),
            Compression::Lz4 => Encoder::Lz4(lz4::Lz4::new(codec.level, out)),
            Compression::Zstd => {
                Encoder::Zstd(zstd::stream::write::Encoder::new(out, codec.level)?)
            }
        })
    }

    /// Bytes written so far; what the codec still holds back is not counted.
    pub(crate) fn written(&self) -> usize {
        match self {
            Encoder::None(out) => out.len(),
            Encoder::Gzip(encoder) => encoder.get_ref().len(),
            Encoder::Snappy(encoder) => encoder.written(),
            Encoder::Lz4(encoder) => encoder.written(),
            Encoder::Zstd(encoder) => encoder.get_ref().len(),
        }
    }

    pub(crate) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Encoder::None(out) => {
                out.extend_from_slice(bytes);
                Ok(())
            }
            Encoder::Gzip(encoder) => encoder.write_all(bytes),
            Encoder::Snappy(encoder) => encoder.write_all(bytes),
            Encoder::Lz4(encoder) => encoder.write_all(bytes),
            Encoder::Zstd(encoder) => encoder.write_all(bytes),
        }
    }

    pub(crate) fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Encoder::None(out) => Ok(out),
            Encoder::Gzip(encoder) => encoder.finish(),
            Encoder::Snappy(encoder) => encoder.finish(),
            Encoder::Lz4(encoder) => encoder.finish(),
            Encoder::Zstd(encoder) => encoder.finish(),
        }
    }
}

pub(crate) fn corrupt(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(length: usize) -> Vec<u8> {
        let mut prng = milena_base::Prng::new(length as u64);
        let mut bytes = vec![0; length];
        prng.fill(&mut bytes[length / 2..]);
        bytes
    }

    #[test]
    fn every_codec_gives_back_what_it_took() {
        for compression in Compression::ALL {
            for length in [0, 1, 5, 1000, 32 * 1024, 64 * 1024, 64 * 1024 + 1, 300_000] {
                let bytes = sample(length);
                let packed = compress(compression.into(), &bytes).unwrap();
                let back = decompress(compression, &packed, length).unwrap();
                assert!(back == bytes, "{compression} of {length}");
            }
        }
    }

    #[test]
    fn levels_are_taken() {
        let bytes = sample(100_000);
        let levels = [
            (Compression::Gzip, [1, 9]),
            (Compression::Lz4, [1, 17]),
            (Compression::Zstd, [-5, 19]),
        ];
        for (compression, levels) in levels {
            for level in levels {
                let packed = compress(Codec { compression, level }, &bytes).unwrap();
                assert!(decompress(compression, &packed, bytes.len()).unwrap() == bytes);
            }
        }
    }

    #[test]
    fn a_bomb_stops_at_the_cap() {
        let zeros = vec![0u8; 8 << 20];
        for compression in Compression::ALL {
            let bomb = compress(compression.into(), &zeros).unwrap();
            let refused = decompress(compression, &bomb, 1 << 20);
            assert!(matches!(refused, Err(DecodeLimitError::TooLarge { max }) if max == 1 << 20));
        }
    }

    #[test]
    fn damage_is_an_error_or_other_bytes_but_never_a_panic() {
        let bytes = sample(5000);
        let mut prng = milena_base::Prng::new(3);
        for compression in Compression::ALL {
            let packed = compress(compression.into(), &bytes).unwrap();
            for _ in 0..300 {
                let mut damaged = packed.clone();
                for _ in 0..=prng.below(3) {
                    let at = prng.below(damaged.len() as u64) as usize;
                    damaged[at] = prng.next_u64() as u8;
                }
                damaged.truncate(prng.below(damaged.len() as u64 + 1) as usize);
                let _ = decompress(compression, &damaged, 1 << 20);
            }
        }
    }
}
