//! `disk` is the only file I/O of the server: a synchronous port ([`Disk`], [`File`]), the operating system
//! behind it ([`OsDisk`]) and a simulated disk that tears, forgets, fills up and fails ([`SimDisk`]).
//!
//! It decides nothing about what is stored: no formats, no retries, no clock. It never reads ahead, never maps a
//! file into memory (a mapped I/O error is a signal) and never answers success for what did not happen.
//! Start at [`Disk`]; [`replace`] is the one crash-safe way to change a small file.
#![forbid(unsafe_code)]

mod conformance;
mod error;
mod os;
mod os_lock;
mod port;
mod replace;
mod sim;
mod slice;

pub use conformance::disk_conformance;
pub use error::{DiskError, Op, is_full};
pub use os::OsDisk;
pub use port::{Advice, DirEntry, DirLock, Disk, File, OpenMode, Space, Stat};
pub use replace::{read_all, replace};
pub use sim::SimDisk;
pub use slice::{FileSlice, Generation};
