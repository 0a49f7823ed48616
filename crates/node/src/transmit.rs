//! Frames on their way into a socket: `writev` for bytes, `sendfile` for file slices.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;

use bytes::{Buf, Bytes};
use milena_disk::FileSlice;
use milena_net::{Frame, Part};
use rustix::net::SendFlags;
use tokio::io::Interest;
use tokio::net::tcp::WriteHalf;

/// Frames are gathered up to this size before a write.
const GATHER_BYTES_MAX: usize = 64 * 1024;
const GATHER_PARTS_MAX: usize = 16;
/// One `sendfile` call moves at most this much, so that one connection does not hold a worker for long.
const SENDFILE_BYTES_MAX: u32 = 1024 * 1024;

/// A slice that is smaller is taken to be in the page cache: whoever looked for its first batch read there, and the
/// system read on.
const COLD_BYTES_MIN: u32 = 16 * 1024;

/// How far a write came.
pub enum Sent {
    All,
    /// The socket takes no more now.
    Full,
    /// The next bytes are on a disk that would have to be waited for: bring them in elsewhere, then write again.
    Cold(FileSlice),
}

/// The unsent rest of the frames that were loaded.
#[derive(Default)]
pub struct Transmit {
    parts: VecDeque<Part>,
    bytes: usize,
    /// Bytes of the first part that need no further look at the page cache.
    warm: usize,
}

impl Transmit {
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Whether a further small frame may share the next write.
    pub fn may_take_more(&self) -> bool {
        self.bytes < GATHER_BYTES_MAX && self.parts.len() < GATHER_PARTS_MAX
    }

    pub fn load(&mut self, frame: Frame) {
        self.bytes += frame.len();
        self.parts
            .extend(frame.parts.into_iter().filter(|part| !part.is_empty()));
    }

    /// Writes until everything is out, the socket is full, or the disk would have to be waited for.
    ///
    /// Fails with `ConnectionAborted` where a file slice was truncated away since it was read: nothing of it
    /// goes out.
    pub fn write(&mut self, socket: &WriteHalf<'_>) -> io::Result<Sent> {
        while let Some(part) = self.parts.front() {
            let result = match part {
                Part::Bytes(_) => self.write_bytes(socket),
                Part::Slice(slice) => {
                    if self.warm == 0 {
                        let head = slice.head(SENDFILE_BYTES_MAX);
                        self.warm = head.length as usize;
                        if head.length >= COLD_BYTES_MIN && !head.is_cached() {
                            return Ok(Sent::Cold(head));
                        }
                    }
                    send_slice(socket, slice, self.warm)
                }
            };
            match result {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.advance(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Sent::Full),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Sent::All)
    }

    fn write_bytes(&self, socket: &WriteHalf<'_>) -> io::Result<usize> {
        let run: Vec<&Bytes> = self.leading_bytes().collect();
        let more = run.len() < self.parts.len();
        if more && run.len() == 1 {
            // A slice follows: let its bytes share the packet.
            return socket.as_ref().try_io(Interest::WRITABLE, || {
                Ok(rustix::net::send(
                    socket.as_ref().as_fd(),
                    run[0],
                    SendFlags::MORE,
                )?)
            });
        }
        let slices: Vec<IoSlice<'_>> = run.iter().map(|bytes| IoSlice::new(bytes)).collect();
        socket.try_write_vectored(&slices)
    }

    fn leading_bytes(&self) -> impl Iterator<Item = &Bytes> {
        self.parts.iter().map_while(|part| match part {
            Part::Bytes(bytes) => Some(bytes),
            Part::Slice(_) => None,
        })
    }

    fn advance(&mut self, mut count: usize) {
        self.bytes -= count;
        while count > 0 {
            let part = self
                .parts
                .front_mut()
                .expect("no more was sent than there was");
            let whole = part.len();
            if count >= whole {
                count -= whole;
                self.warm = 0;
                self.parts.pop_front();
                continue;
            }
            match part {
                Part::Bytes(bytes) => bytes.advance(count),
                Part::Slice(slice) => {
                    slice.position += count as u64;
                    slice.length -= count as u32;
                    self.warm = self.warm.saturating_sub(count);
                }
            }
            return;
        }
    }
}

/// Sends at most `length` bytes of the slice.
fn send_slice(socket: &WriteHalf<'_>, slice: &FileSlice, length: usize) -> io::Result<usize> {
    if !slice.still_valid() {
        return Err(io::ErrorKind::ConnectionAborted.into());
    }
    let Some(fd) = slice.file.fd() else {
        return copy_slice(socket, slice, length);
    };
    let mut position = slice.position;
    socket.as_ref().try_io(Interest::WRITABLE, || {
        Ok(rustix::fs::sendfile(
            socket.as_ref().as_fd(),
            fd,
            Some(&mut position),
            length,
        )?)
    })
}

/// For files without a descriptor (a simulated disk under a real socket).
fn copy_slice(socket: &WriteHalf<'_>, slice: &FileSlice, length: usize) -> io::Result<usize> {
    let mut buffer = vec![0; length.min(64 * 1024)];
    slice.file.read_exact_at(&mut buffer, slice.position)?;
    socket.try_write(&buffer)
}
