//! Handles of the simulated disk: of an open file, and of a lock.

use std::fmt;
use std::io::{self, ErrorKind};
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::state::{Share, State, at, powerless};
use crate::{Advice, DirLock, File, Op};

/// One call in so many lets the kernel write some pages back on its own.
const WRITE_BACK_ONE_IN: u64 = 16;

pub(super) struct SimFile {
    pub state: Arc<Mutex<State>>,
    pub id: u64,
    pub boot: u64,
    pub writable: bool,
    pub path: PathBuf,
}

/// The handle alone: the whole disk hangs on it.
impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimFile({}, boot {})", self.path.display(), self.boot)
    }
}

impl SimFile {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.boot == self.boot {
            true => Ok(state),
            false => Err(powerless()),
        }
    }

    fn state_for_writing(&self) -> io::Result<MutexGuard<'_, State>> {
        match self.writable {
            true => self.state(),
            false => Err(ErrorKind::PermissionDenied.into()),
        }
    }

    fn read(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        let mut state = self.state()?;
        state.look(Op::Read, &self.path)?;
        Ok(state.tree.file(self.id)?.now.read(buf, position))
    }

    fn write(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let mut state = self.state_for_writing()?;
        let fate = state.change(Op::Write, &self.path)?;
        state.digest.word(position);
        state.digest.bytes(bytes);
        let wanted = match fate.share {
            Share::Nothing => 0,
            Share::Part => state.prng.below(bytes.len() as u64 + 1),
            Share::All => bytes.len() as u64,
        };
        let fits = state.fitting(self.id, position, wanted)?;
        let (now, mut prng) = (state.now, state.prng.fork());
        let file = state.tree.file_mut(self.id)?;
        file.write(&bytes[..fits as usize], position);
        file.modified = now;
        if prng.chance(1, WRITE_BACK_ONE_IN) {
            file.write_back_some(&mut prng);
        }
        match fate.error {
            Some(error) => Err(error),
            None if fits < wanted => Err(ErrorKind::StorageFull.into()),
            None => Ok(()),
        }
    }

    fn cut(&self, len: u64) -> io::Result<()> {
        let mut state = self.state_for_writing()?;
        state.digest.word(len);
        state.change_whole(Op::SetLen, &self.path, |state| {
            let (now, mut prng) = (state.now, state.prng.fork());
            let file = state.tree.file_mut(self.id)?;
            file.set_len(len);
            file.modified = now;
            if prng.chance(1, WRITE_BACK_ONE_IN) {
                file.write_back_some(&mut prng);
            }
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state()?;
        let fate = state.change(Op::Sync, &self.path)?;
        let (lies, mut prng) = (state.sync_lies, state.prng.fork());
        let stopped = state.crashed.is_some();
        let file = state.tree.file_mut(self.id)?;
        match fate.share {
            _ if lies => {}
            Share::All => file.sync(),
            Share::Part if stopped => file.write_back_some(&mut prng),
            Share::Part => file.sync_fails(),
            Share::Nothing => {}
        }
        fate.error.map_or(Ok(()), Err)
    }

    fn length(&self) -> io::Result<u64> {
        let mut state = self.state()?;
        state.look(Op::Len, &self.path)?;
        Ok(state.tree.file(self.id)?.now.len)
    }
}

impl File for SimFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        self.read(buf, position).map_err(at(Op::Read, &self.path))
    }

    fn read_exact_at(&self, buf: &mut [u8], position: u64) -> io::Result<()> {
        match self.read_at(buf, position)? == buf.len() {
            true => Ok(()),
            false => Err(at(Op::Read, &self.path)(ErrorKind::UnexpectedEof.into())),
        }
    }

    fn write_all_at(&self, parts: &[&[u8]], position: u64) -> io::Result<()> {
        self.write(&parts.concat(), position)
            .map_err(at(Op::Write, &self.path))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.cut(len).map_err(at(Op::SetLen, &self.path))
    }

    fn len(&self) -> io::Result<u64> {
        self.length().map_err(at(Op::Len, &self.path))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync_all()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync().map_err(at(Op::Sync, &self.path))
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn is_cached(&self, _position: u64, _len: u64) -> bool {
        true
    }

    fn advise(&self, _position: u64, _len: u64, _advice: Advice) {}
}

impl Drop for SimFile {
    fn drop(&mut self) {
        if let Ok(mut state) = self.state() {
            state.close(self.id);
        }
    }
}

#[derive(Debug)]
pub(super) struct SimLock {
    pub state: Arc<Mutex<State>>,
    pub id: u64,
    pub boot: u64,
}

impl DirLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.boot == self.boot {
            state.locked.remove(&self.id);
        }
    }
}
