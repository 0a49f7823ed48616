//! The two kinds of trouble that a log meets: the machine's (a fault) and the client's (a code).

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use milena_base::ErrorCode;

/// The machine's trouble. Unless [`Fault::is_full`], the log directory is offline from here on: nothing that failed
/// may be retried as if it had succeeded.
#[derive(Debug)]
pub struct Fault {
    /// The partition's directory, or the log directory itself.
    pub dir: PathBuf,
    pub source: io::Error,
}

impl Fault {
    pub fn new(dir: &Path, source: io::Error) -> Fault {
        Fault {
            dir: dir.to_path_buf(),
            source,
        }
    }

    /// Whether the disk or a quota is full: the log was cut back to its last good end, reads go on, and appends may be
    /// tried again when there is space.
    pub fn is_full(&self) -> bool {
        milena_disk::is_full(&self.source)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.dir.display(), self.source)
    }
}

impl std::error::Error for Fault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Why nothing was appended.
#[derive(Debug)]
pub enum AppendError {
    /// The batch may not be appended: the code and the sentence that the producer gets.
    Refused(ErrorCode, String),
    /// The machine failed; the log ends where it ended before.
    Fault(Fault),
}

impl From<Fault> for AppendError {
    fn from(fault: Fault) -> AppendError {
        AppendError::Fault(fault)
    }
}

impl AppendError {
    /// The code that a client gets: every fault is a storage error to it.
    pub fn code(&self) -> ErrorCode {
        match self {
            AppendError::Refused(code, _) => *code,
            AppendError::Fault(_) => ErrorCode::KafkaStorageError,
        }
    }
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AppendError::Refused(code, message) => write!(f, "{code:?}: {message}"),
            AppendError::Fault(fault) => fault.fmt(f),
        }
    }
}

/// Why nothing was read.
#[derive(Debug)]
pub enum ReadError {
    /// The offset is below the log's start or beyond its end.
    OutOfRange,
    /// The bytes there are no batches; the sentence says where.
    Corrupt(String),
    Fault(Fault),
}

impl From<Fault> for ReadError {
    fn from(fault: Fault) -> ReadError {
        ReadError::Fault(fault)
    }
}

/// A file whose bytes are not what its format says. Derived files are then rebuilt or read as absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed(pub String);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Malformed {}
