//! The incoming byte stream, cut into frames: a 4-byte big-endian length, then that many bytes.

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};

/// Bytes that are made ready for a read while no frame is under way.
const READ_AHEAD_BYTES: usize = 16 * 1024;
/// A frame's announced length is trusted for this much room; beyond it room grows with what has arrived.
const TRUSTED_BYTES_MAX: usize = 1280 * 1024;

/// Why a connection must be closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The length prefix is negative or above the limit.
    FrameLength { announced: i32, max: usize },
    /// The request header can't be read.
    Header(String),
    /// An API key or a version that this listener does not serve.
    Api { key: i16, version: i16 },
    /// The body does not have the form of its API and version.
    Body {
        api: &'static str,
        version: i16,
        why: String,
    },
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::FrameLength { announced, max } => {
                write!(
                    f,
                    "a frame of {announced} bytes was announced; 0 to {max} are taken"
                )
            }
            Refused::Header(why) => write!(f, "the request header can't be read: {why}"),
            Refused::Api { key, version } => {
                write!(
                    f,
                    "API key {key} version {version} is not served on this listener"
                )
            }
            Refused::Body { api, version, why } => {
                write!(f, "the {api} v{version} request can't be read: {why}")
            }
        }
    }
}

/// Bytes received and not yet handed out. Holds no memory while it is empty.
#[derive(Debug)]
pub struct Input {
    buffer: BytesMut,
    frame_bytes_max: usize,
}

impl Input {
    /// `frame_bytes_max`: the largest length prefix that is taken (`socket.request.max.bytes`).
    pub fn new(frame_bytes_max: usize) -> Input {
        Input {
            buffer: BytesMut::new(),
            frame_bytes_max,
        }
    }

    /// The buffer to append received bytes to, with room for a sensible read. The room exceeds what the peer
    /// has sent by at most [`TRUSTED_BYTES_MAX`].
    pub fn buffer(&mut self) -> &mut BytesMut {
        let room = self.room();
        if self.buffer.capacity() - self.buffer.len() < room {
            self.buffer.reserve(room);
        }
        &mut self.buffer
    }

    fn room(&self) -> usize {
        let Some(announced) = self.announced() else {
            return READ_AHEAD_BYTES;
        };
        let whole = 4 + announced.clamp(0, self.frame_bytes_max as i64) as usize;
        let missing = whole.saturating_sub(self.buffer.len());
        missing.clamp(
            1,
            TRUSTED_BYTES_MAX
                .max(self.buffer.len())
                .max(READ_AHEAD_BYTES),
        )
    }

    fn announced(&self) -> Option<i64> {
        let prefix = self.buffer.first_chunk::<4>()?;
        Some(i64::from(i32::from_be_bytes(*prefix)))
    }

    /// Bytes held that belong to no finished frame.
    pub fn pending_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Gives memory back when nothing is pending: an idle connection holds none.
    pub fn release_if_idle(&mut self) {
        if self.buffer.is_empty() && self.buffer.capacity() > 0 {
            self.buffer = BytesMut::new();
        }
    }

    /// Whether [`Input::next_frame`] gives a frame or refuses one, without further bytes.
    pub fn has_frame(&self) -> bool {
        self.announced().is_some_and(|announced| {
            let taken = (0..=self.frame_bytes_max as i64).contains(&announced);
            !taken || self.buffer.len() as i64 - 4 >= announced
        })
    }

    /// The next whole frame without its length prefix; `None` until it has arrived.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, Refused> {
        let Some(announced) = self.announced() else {
            return Ok(None);
        };
        if announced < 0 || announced as usize > self.frame_bytes_max {
            return Err(Refused::FrameLength {
                announced: announced as i32,
                max: self.frame_bytes_max,
            });
        }
        let length = announced as usize;
        if self.buffer.len() < 4 + length {
            return Ok(None);
        }
        self.buffer.advance(4);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BufMut;

    #[test]
    fn frames_come_out_whole_however_they_are_cut() {
        let stream = b"\0\0\0\x03abc\0\0\0\0\0\0\0\x01z";
        for cut in 1..stream.len() {
            let mut input = Input::new(100);
            let mut frames = Vec::new();
            for piece in stream.chunks(cut) {
                input.buffer().put_slice(piece);
                while let Some(frame) = input.next_frame().unwrap() {
                    frames.push(frame);
                }
                assert!(!input.has_frame());
            }
            assert_eq!(frames, [&b"abc"[..], b"", b"z"]);
            assert_eq!(input.pending_bytes(), 0);
        }
    }

    #[test]
    fn lengths_outside_the_limit_are_refused_before_their_bytes_arrive() {
        for (announced, taken) in [(-1, false), (101, false), (i32::MAX, false), (100, true)] {
            let mut input = Input::new(100);
            input.buffer().put_slice(&i32::to_be_bytes(announced));
            assert_eq!(input.next_frame().is_ok(), taken, "{announced}");
        }
    }

    #[test]
    fn room_follows_what_was_sent_not_what_was_announced() {
        let mut input = Input::new(100 << 20);
        input.buffer().put_slice(&i32::to_be_bytes(100 << 20));
        let buffer = input.buffer();
        assert!(
            buffer.capacity() <= 2 * TRUSTED_BYTES_MAX,
            "{}",
            buffer.capacity()
        );
    }
}
