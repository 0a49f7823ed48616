//! The lock on `.lock`: an fcntl write lock on the whole file, as a JVM's `FileChannel.tryLock` takes it.
//!
//! fcntl locks belong to the process: a second one in the same process would succeed, and closing it would drop
//! the first. So this process keeps a list of the files it has locked, by device and inode, and looks there first,
//! without opening the file.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{FlockOperation, fcntl_lock};

use crate::DirLock;

/// Device and inode of the files locked by this process.
static LOCKED: Mutex<BTreeSet<(u64, u64)>> = Mutex::new(BTreeSet::new());

fn locked() -> MutexGuard<'static, BTreeSet<(u64, u64)>> {
    LOCKED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A held lock; dropping it closes the file, which releases it.
#[derive(Debug)]
pub(crate) struct OsLock {
    file: Option<fs::File>,
    id: (u64, u64),
}

impl DirLock for OsLock {}

pub(crate) fn lock(path: &Path) -> io::Result<OsLock> {
    let mut locked = locked();
    match fs::metadata(path) {
        Ok(metadata) if locked.contains(&id(&metadata)) => return Err(held("this process")),
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let file = options.open(path)?;
    match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => {
            return Err(held("another process"));
        }
        Err(e) => return Err(e.into()),
    }
    let id = id(&file.metadata()?);
    locked.insert(id);
    let file = Some(file);
    Ok(OsLock { file, id })
}

fn held(by: &str) -> io::Error {
    let text = format!("it is locked by {by}");
    io::Error::new(io::ErrorKind::WouldBlock, text)
}

fn id(metadata: &fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

impl Drop for OsLock {
    fn drop(&mut self) {
        let mut locked = locked();
        drop(self.file.take());
        locked.remove(&self.id);
    }
}
