//! The port. What is said here holds for every implementation and is checked by `disk_conformance`.
//!
//! **Durability.** A write is in the page cache when the call returns, and survives the end of the process but not
//! a power cut. `sync_data`/`sync_all` make a file's bytes and length durable, not its name: a created, renamed or
//! removed entry is durable after `sync_dir` of the directory that holds it (of both, where a rename crosses
//! directories). Before that each may be there or not, in any combination.
//!
//! **Errors** carry operation and path ([`crate::DiskError`]). After a failed write any prefix of the bytes, in
//! any pieces, may have been stored.

use std::fmt::Debug;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;

use milena_base::Timestamp;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// For reading; `NotFound` where it is absent. Writing to it is an error.
    Read,
    /// For reading and writing; `NotFound` where it is absent.
    ReadWrite,
    /// For reading and writing; made empty where it is absent, kept as it is where it exists.
    Create,
    /// For reading and writing; `AlreadyExists` where it exists.
    CreateNew,
}

/// One entry of a directory. A name that is not UTF-8 comes with replacement characters and can't be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    pub name: String,
    pub is_dir: bool,
    /// Bytes of a file; zero for a directory.
    pub len: u64,
}

/// What is known of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    pub is_dir: bool,
    /// Bytes of a file; zero for a directory.
    pub len: u64,
    /// When the content last changed, by the disk's own clock.
    pub modified: Timestamp,
}

/// Bytes of the file system that holds a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    pub total: u64,
    /// What this process may still use (what is reserved for root is not in it, unless it is root's).
    pub free: u64,
}

/// What will be read; a hint that is never an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Front to back: read ahead generously.
    Sequential,
    /// Soon: fetch it now.
    WillNeed,
    /// Not soon: its cached pages may go.
    DontNeed,
}

/// A lock on a file, held until it is dropped.
pub trait DirLock: Send + Sync + Debug {}

/// Directories and names. All paths are absolute. Symbolic links are followed, but not by removals.
pub trait Disk: Send + Sync + Debug {
    /// Opens a file. It stays readable and writable under its handle after a rename or removal of its name.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>>;

    /// Renames a file or directory in one step. An existing file at `to` is replaced; an existing directory only
    /// if it is empty.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file; `NotFound` where it is absent.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory with all that is in it, entry by entry; a crash in between leaves some of them.
    /// `NotFound` where it is absent.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Makes a directory and its missing parents; success where it is there already.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Makes the entries of this directory durable: what was created, renamed and removed in it.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// The entries of a directory, sorted by name. What vanishes meanwhile is left out.
    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>>;

    /// What is at a path; `None` where nothing is.
    fn stat(&self, path: &Path) -> io::Result<Option<Stat>>;

    /// Takes all write permission from a file (handles that are open for writing keep it).
    fn set_read_only(&self, path: &Path) -> io::Result<()>;

    /// Size and free bytes of the file system under an existing path.
    fn space(&self, path: &Path) -> io::Result<Space>;

    /// Takes an exclusive lock on a file, creating it where it is absent: an fcntl lock on the whole file, which
    /// is what a JVM's `FileChannel.tryLock` takes, so that Milena and Apache Kafka exclude each other.
    /// `WouldBlock` if another process, or another lock of this process, holds it.
    ///
    /// The system drops such a lock as soon as the process closes *any* handle of the file: never `open` a
    /// path that is locked.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirLock>>;
}

/// An open file. Positions are bytes from the start; there is no cursor, so that readers and one writer can share
/// a handle.
pub trait File: Send + Sync + Debug {
    /// Reads what is there, at most `buf`; fewer bytes only at the end of the file (zero: nothing left).
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize>;

    /// Fills `buf`; `UnexpectedEof` where the file ends before.
    fn read_exact_at(&self, buf: &mut [u8], position: u64) -> io::Result<()>;

    /// Writes all parts, one after another, from `position` on; a gap before it reads as zeros.
    fn write_all_at(&self, parts: &[&[u8]], position: u64) -> io::Result<()>;

    /// Cuts the file, or extends it with zeros (sparse).
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Bytes of the file.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Makes content and length durable (fdatasync).
    fn sync_data(&self) -> io::Result<()>;

    /// Makes content, length and times durable (fsync).
    fn sync_all(&self) -> io::Result<()>;

    /// The descriptor, for `sendfile`; `None` where no operating system is behind it.
    fn fd(&self) -> Option<BorrowedFd<'_>>;

    /// Whether `len` bytes from `position` on can be read without waiting for a device, as far as a look at the first
    /// and the last of them tells. True where that can't be told.
    fn is_cached(&self, position: u64, len: u64) -> bool;

    /// Tells what will be read of `len` bytes from `position` on (zero: to the end).
    fn advise(&self, position: u64, len: u64, advice: Advice);
}
