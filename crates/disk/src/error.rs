//! An I/O error that says what was done to which path.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// What was asked of the disk. Also names the operation that a simulated disk is to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
    Open,
    Read,
    Write,
    SetLen,
    Len,
    Sync,
    Rename,
    RemoveFile,
    RemoveDir,
    CreateDir,
    SyncDir,
    List,
    Stat,
    SetReadOnly,
    Space,
    Lock,
}

impl Op {
    /// Every operation.
    pub const ALL: &[Op] = &[
        Op::Open,
        Op::Read,
        Op::Write,
        Op::SetLen,
        Op::Len,
        Op::Sync,
        Op::Rename,
        Op::RemoveFile,
        Op::RemoveDir,
        Op::CreateDir,
        Op::SyncDir,
        Op::List,
        Op::Stat,
        Op::SetReadOnly,
        Op::Space,
        Op::Lock,
    ];

    fn words(self) -> &'static str {
        match self {
            Op::Open => "open",
            Op::Read => "read",
            Op::Write => "write",
            Op::SetLen => "set the length of",
            Op::Len => "read the length of",
            Op::Sync => "sync",
            Op::Rename => "rename",
            Op::RemoveFile => "remove",
            Op::RemoveDir => "remove the directory",
            Op::CreateDir => "create the directory",
            Op::SyncDir => "sync the directory",
            Op::List => "list",
            Op::Stat => "look at",
            Op::SetReadOnly => "write-protect",
            Op::Space => "read the free space of",
            Op::Lock => "lock",
        }
    }
}

/// The payload of every `io::Error` that this crate returns; its text reads
/// `cannot write /data/x/0.log: No space left on device`. `io::Error::kind` is that of the source.
#[derive(Debug)]
pub struct DiskError {
    pub op: Op,
    pub path: PathBuf,
    pub source: io::Error,
}

impl DiskError {
    pub(crate) fn wrap(op: Op, path: &Path, source: impl Into<io::Error>) -> io::Error {
        let source = source.into();
        let path = path.to_path_buf();
        io::Error::new(source.kind(), DiskError { op, path, source })
    }

    /// The path and operation of an error that came from this crate.
    pub fn of(error: &io::Error) -> Option<&DiskError> {
        error.get_ref()?.downcast_ref()
    }
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (op, path) = (self.op.words(), self.path.display());
        write!(f, "cannot {op} {path}: {}", self.source)
    }
}

impl std::error::Error for DiskError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Whether the error says that there is no room (ENOSPC, EDQUOT): what was there before can still be read and cut
/// back. Any other failed write, and any failed sync, means that the directory can't be trusted any more.
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
