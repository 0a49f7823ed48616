//! The operating system's disk: pread, pwritev, fdatasync. Linux and other Unix systems.

use std::fs;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use milena_base::Timestamp;
use rustix::fs::{Advice as OsAdvice, fadvise, statvfs};

use crate::{Advice, DirEntry, DirLock, Disk, DiskError, File, Op, OpenMode, Space, Stat, os_lock};

/// Parts that one pwritev takes (Linux's `IOV_MAX`).
const WRITE_PARTS_MAX: usize = 1024;

/// The file systems of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsDisk;

impl Disk for OsDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true).write(mode != OpenMode::Read);
        options.create(mode == OpenMode::Create);
        options.create_new(mode == OpenMode::CreateNew);
        let file = options.open(path).map_err(at(Op::Open, path))?;
        let path = path.to_path_buf();
        Ok(Arc::new(OsFile { file, path }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to).map_err(at(Op::Rename, from))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path).map_err(at(Op::RemoveFile, path))
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path).map_err(at(Op::RemoveDir, path))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path).map_err(at(Op::CreateDir, path))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let synced = fs::File::open(path).and_then(|dir| dir.sync_all());
        synced.map_err(at(Op::SyncDir, path))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path).map_err(at(Op::List, path))? {
            let entry = entry.map_err(at(Op::List, path))?;
            match fs::metadata(entry.path()) {
                Ok(metadata) => entries.push(DirEntry {
                    name: entry.file_name().to_string_lossy().into_owned(),
                    is_dir: metadata.is_dir(),
                    len: file_len(&metadata),
                }),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(at(Op::List, &entry.path())(e)),
            }
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn stat(&self, path: &Path) -> io::Result<Option<Stat>> {
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(at(Op::Stat, path)(e)),
        };
        let modified = metadata.modified().map_err(at(Op::Stat, path))?;
        let since_1970 = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Some(Stat {
            is_dir: metadata.is_dir(),
            len: file_len(&metadata),
            modified: Timestamp(since_1970.as_millis() as i64),
        }))
    }

    fn set_read_only(&self, path: &Path) -> io::Result<()> {
        let metadata = fs::metadata(path).map_err(at(Op::SetReadOnly, path))?;
        let mut permissions = metadata.permissions();
        permissions.set_mode(permissions.mode() & !0o222);
        fs::set_permissions(path, permissions).map_err(at(Op::SetReadOnly, path))
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let system = statvfs(path).map_err(|e| DiskError::wrap(Op::Space, path, e))?;
        Ok(Space {
            total: system.f_blocks.saturating_mul(system.f_frsize),
            free: system.f_bavail.saturating_mul(system.f_frsize),
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirLock>> {
        let lock = os_lock::lock(path).map_err(at(Op::Lock, path))?;
        Ok(Box::new(lock))
    }
}

fn file_len(metadata: &fs::Metadata) -> u64 {
    if metadata.is_dir() { 0 } else { metadata.len() }
}

fn at(op: Op, path: &Path) -> impl Fn(io::Error) -> io::Error + '_ {
    move |source| DiskError::wrap(op, path, source)
}

/// An open file. Its path, for errors, is the one it was opened by.
#[derive(Debug)]
struct OsFile {
    file: fs::File,
    path: PathBuf,
}

impl OsFile {
    /// One pwritev of `parts` from byte `skip` of them on; how many bytes it took.
    fn write_some(&self, parts: &[&[u8]], mut skip: usize, position: u64) -> io::Result<usize> {
        let mut slices = Vec::with_capacity(parts.len().min(WRITE_PARTS_MAX));
        for part in parts {
            let passed = skip.min(part.len());
            skip -= passed;
            if passed < part.len() && slices.len() < WRITE_PARTS_MAX {
                slices.push(IoSlice::new(&part[passed..]));
            }
        }
        match rustix::io::pwritev(&self.file, &slices, position) {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => Ok(written),
            Err(rustix::io::Errno::INTR) => Ok(0),
            Err(e) => Err(e.into()),
        }
    }

    fn reads_at_once(&self, position: u64) -> bool {
        let mut byte = [0];
        let mut buffers = [io::IoSliceMut::new(&mut byte)];
        let read = rustix::io::preadv2(
            &self.file,
            &mut buffers,
            position,
            rustix::io::ReadWriteFlags::NOWAIT,
        );
        // Anything else is an answer, and so is a file system that does not know the flag.
        read != Err(rustix::io::Errno::AGAIN)
    }
}

impl File for OsFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buf.len() {
            match self
                .file
                .read_at(&mut buf[filled..], position + filled as u64)
            {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(at(Op::Read, &self.path)(e)),
            }
        }
        Ok(filled)
    }

    fn read_exact_at(&self, buf: &mut [u8], position: u64) -> io::Result<()> {
        let read = self.file.read_exact_at(buf, position);
        read.map_err(at(Op::Read, &self.path))
    }

    fn write_all_at(&self, parts: &[&[u8]], position: u64) -> io::Result<()> {
        let total: usize = parts.iter().map(|part| part.len()).sum();
        let mut done = 0;
        while done < total {
            done += self
                .write_some(parts, done, position + done as u64)
                .map_err(at(Op::Write, &self.path))?;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len).map_err(at(Op::SetLen, &self.path))
    }

    fn len(&self) -> io::Result<u64> {
        let metadata = self.file.metadata().map_err(at(Op::Len, &self.path))?;
        Ok(metadata.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data().map_err(at(Op::Sync, &self.path))
    }

    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all().map_err(at(Op::Sync, &self.path))
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }

    fn is_cached(&self, position: u64, len: u64) -> bool {
        self.reads_at_once(position) && self.reads_at_once(position + len.saturating_sub(1))
    }

    fn advise(&self, position: u64, len: u64, advice: Advice) {
        let advice = match advice {
            Advice::Sequential => OsAdvice::Sequential,
            Advice::WillNeed => OsAdvice::WillNeed,
            Advice::DontNeed => OsAdvice::DontNeed,
        };
        // A hint: a file system that does not take it changes nothing.
        let _ = fadvise(&self.file, position, std::num::NonZeroU64::new(len), advice);
    }
}
