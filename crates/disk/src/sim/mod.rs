//! A disk in memory that does to the log what real ones do: it loses what was not synced, tears writes, fills up,
//! fails, rots and stops at any call. Everything it does follows from its seed and the calls made.
//!
//! A test arms a crash ([`SimDisk::crash_at`]), runs until the first error, then lets the machine come back with
//! ([`SimDisk::kill`]) or without ([`SimDisk::power_cut`]) its page cache. Handles and locks of before are dead.

mod content;
mod file;
mod state;
mod tree;

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use milena_base::Timestamp;

use crate::{DirEntry, DirLock, Disk, File, Op, OpenMode, Space, Stat};
use content::Keep;
use file::{SimFile, SimLock};
use state::{Fault, Share, State, at};

/// What `space` tells of a disk without a quota.
const SPACE_WITHOUT_QUOTA: u64 = 1 << 40;

/// The simulated disk; clones share one state.
#[derive(Clone, Debug)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

impl SimDisk {
    /// An empty disk: only `/` exists.
    pub fn new(seed: u64) -> SimDisk {
        SimDisk::of(State::new(seed))
    }

    fn of(state: State) -> SimDisk {
        SimDisk {
            state: Arc::new(Mutex::new(state)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A separate disk in the same state, synced and unsynced, whose luck follows from another seed: for trying
    /// many outcomes of one moment. No handle or lock leads to it.
    pub fn fork(&self, seed: u64) -> SimDisk {
        let mut state = self.state().clone();
        state.prng = milena_base::Prng::new(seed);
        state.restart();
        SimDisk::of(state)
    }

    /// Power is cut and comes back: of each file's unsynced pages, lengths and cuts, and of each directory's
    /// unsynced changes, any subset survives (sometimes all, sometimes none); a page may be torn into sectors.
    pub fn power_cut(&self) {
        let mut state = self.state();
        let pages = Keep(state.prng.below(5));
        let entries = Keep(state.prng.below(5));
        state.power_cut(pages, entries);
    }

    /// Power is cut and nothing survives but what a sync has confirmed.
    pub fn power_cut_losing_all(&self) {
        self.state().power_cut(Keep(0), Keep(0));
    }

    /// The process is killed and starts again: the page cache survives, handles and locks don't.
    pub fn kill(&self) {
        self.state().restart();
    }

    /// The `nth` change from now on (1 is the next) is not done, done in part or done, then every call fails
    /// until `kill` or `power_cut`. Calls that change nothing are not counted.
    pub fn crash_at(&self, nth: u64) {
        let mut state = self.state();
        state.crash_at = Some(state.mutations + nth);
    }

    /// An armed crash that has not happened yet does not happen.
    pub fn disarm(&self) {
        self.state().crash_at = None;
    }

    /// At which call the armed crash happened, in words; `None` while the machine runs.
    pub fn crashed(&self) -> Option<String> {
        self.state().crashed.clone()
    }

    /// Changes made so far, over all restarts.
    pub fn mutations(&self) -> u64 {
        self.state().mutations
    }

    /// A digest of every change so far and of the bytes written.
    pub fn digest(&self) -> u64 {
        self.state().digest.value()
    }

    /// Calls of one operation so far.
    pub fn calls(&self, op: Op) -> u64 {
        self.state().calls.get(&op).copied().unwrap_or(0)
    }

    /// The next call of `op` fails. A write has stored a part of its bytes by then; a sync has stored nothing,
    /// and the pages it was to store are forgotten by later syncs too, as Linux does it.
    pub fn fail_next(&self, op: Op, kind: ErrorKind) {
        self.fail(op, "", kind, 1);
    }

    /// The next `times` calls of `op` on paths that contain `path_part` fail; `u32::MAX`: all until `heal`.
    pub fn fail(&self, op: Op, path_part: &str, kind: ErrorKind, times: u32) {
        let path_part = path_part.to_string();
        self.state().faults.push(Fault {
            op,
            path_part,
            kind,
            times,
        });
    }

    /// No more injected errors, no lies.
    pub fn heal(&self) {
        let mut state = self.state();
        state.faults.clear();
        state.sync_lies = false;
    }

    /// Bytes that all files together may take, in whole pages; a write past it stores what fits and fails with
    /// `StorageFull`.
    pub fn set_quota(&self, bytes: Option<u64>) {
        self.state().quota = bytes;
    }

    /// From now on a sync of a file says that it succeeded and stores nothing.
    pub fn lie_about_sync(&self) {
        self.state().sync_lies = true;
    }

    /// The disk's own clock, for modification times.
    pub fn set_now(&self, now: Timestamp) {
        self.state().now = now;
    }

    /// Flips one bit of a stored file; no effect past its end.
    pub fn flip_bit(&self, path: &Path, position: u64, bit: u8) -> io::Result<()> {
        let mut state = self.state();
        let id = state.tree.find(path)?;
        state.tree.file_mut(id)?.flip_bit(position, bit);
        Ok(())
    }

    /// Every file under a directory, by its path relative to it, with its bytes as read now: for comparing states.
    pub fn files(&self, dir: &Path) -> BTreeMap<String, Vec<u8>> {
        let state = self.state();
        let mut files = BTreeMap::new();
        if let Ok(id) = state.tree.find(dir) {
            state.tree.files(id, "", &mut files);
        }
        files
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut state = self.state();
        let (id, boot) = open_node(&mut state, path, mode).map_err(at(Op::Open, path))?;
        *state.open.entry(id).or_default() += 1;
        drop(state);
        Ok(Arc::new(SimFile {
            state: self.state.clone(),
            id,
            boot,
            writable: mode != OpenMode::Read,
            path: path.to_path_buf(),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let renamed = self
            .state()
            .change_whole(Op::Rename, from, |state| state.tree.rename(from, to));
        renamed.map_err(at(Op::Rename, from))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let removed = state.change_whole(Op::RemoveFile, path, |state| {
            let id = state.tree.find(path)?;
            state.tree.file(id)?;
            state.tree.unlink(path)
        });
        removed.map_err(at(Op::RemoveFile, path))
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        remove_tree(&mut self.state(), path).map_err(at(Op::RemoveDir, path))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        make_dirs(&mut self.state(), path).map_err(at(Op::CreateDir, path))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let synced = state.change_whole(Op::SyncDir, path, |state| state.tree.sync_dir(path));
        synced.map_err(at(Op::SyncDir, path))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut state = self.state();
        let looked = state.look(Op::List, path);
        looked
            .and_then(|()| state.tree.list(path))
            .map_err(at(Op::List, path))
    }

    fn stat(&self, path: &Path) -> io::Result<Option<Stat>> {
        let mut state = self.state();
        state.look(Op::Stat, path).map_err(at(Op::Stat, path))?;
        let id = match state.tree.find(path) {
            Ok(id) => id,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(at(Op::Stat, path)(e)),
        };
        let file = state.tree.file(id).ok();
        Ok(Some(Stat {
            is_dir: file.is_none(),
            len: file.map_or(0, |file| file.now.len),
            modified: file.map_or(state.now, |file| file.modified),
        }))
    }

    fn set_read_only(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let done = state.change_whole(Op::SetReadOnly, path, |state| {
            let id = state.tree.find(path)?;
            state.tree.file_mut(id)?.read_only = true;
            Ok(())
        });
        done.map_err(at(Op::SetReadOnly, path))
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let mut state = self.state();
        let looked = state.look(Op::Space, path);
        looked
            .and_then(|()| state.tree.find(path))
            .map_err(at(Op::Space, path))?;
        let total = state.quota.unwrap_or(SPACE_WITHOUT_QUOTA);
        let used = state.tree.used(&state.open_nodes());
        let free = total.saturating_sub(used);
        Ok(Space { total, free })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirLock>> {
        let mut state = self.state();
        let id = lock_node(&mut state, path).map_err(at(Op::Lock, path))?;
        let boot = state.boot;
        drop(state);
        let state = self.state.clone();
        Ok(Box::new(SimLock { state, id, boot }))
    }
}

fn open_node(state: &mut State, path: &Path, mode: OpenMode) -> io::Result<(u64, u64)> {
    let boot = state.boot;
    match (state.tree.find(path), mode) {
        (Ok(_), OpenMode::CreateNew) => {
            state.look(Op::Open, path)?;
            Err(ErrorKind::AlreadyExists.into())
        }
        (Ok(id), _) => {
            state.look(Op::Open, path)?;
            let read_only = state.tree.file(id)?.read_only;
            match read_only && mode != OpenMode::Read {
                true => Err(ErrorKind::PermissionDenied.into()),
                false => Ok((id, boot)),
            }
        }
        (Err(e), OpenMode::Create | OpenMode::CreateNew) if e.kind() == ErrorKind::NotFound => {
            let mut made = None;
            state.change_whole(Op::Open, path, |state| {
                made = Some(state.tree.add_file(path, state.now)?);
                Ok(())
            })?;
            made.map(|id| (id, boot)).ok_or_else(state::powerless)
        }
        (Err(e), _) => {
            state.look(Op::Open, path)?;
            Err(e)
        }
    }
}

fn make_dirs(state: &mut State, path: &Path) -> io::Result<()> {
    match state.tree.find(path) {
        Ok(id) if state.tree.is_dir(id) => return state.look(Op::CreateDir, path),
        Ok(_) => return Err(ErrorKind::AlreadyExists.into()),
        Err(_) => {}
    }
    if let Some(parent) = path.parent() {
        make_dirs(state, parent)?;
    }
    state.change_whole(Op::CreateDir, path, |state| {
        state.tree.add_dir(path).map(|_| ())
    })
}

/// Every entry is a change of its own: the machine can stop between any two.
fn remove_tree(state: &mut State, path: &Path) -> io::Result<()> {
    for entry in state.tree.list(path)? {
        let path = path.join(&entry.name);
        match entry.is_dir {
            true => remove_tree(state, &path)?,
            false => state.change_whole(Op::RemoveDir, &path, |state| state.tree.unlink(&path))?,
        }
    }
    state.change_whole(Op::RemoveDir, path, |state| state.tree.unlink(path))
}

fn lock_node(state: &mut State, path: &Path) -> io::Result<u64> {
    let id = match state.tree.find(path) {
        Ok(id) => {
            state.look(Op::Lock, path)?;
            id
        }
        Err(_) => {
            let fate = state.change(Op::Lock, path)?;
            if let (Share::Nothing | Share::Part, Some(error)) = (fate.share, fate.error) {
                return Err(error);
            }
            state.tree.add_file(path, state.now)?
        }
    };
    state.tree.file(id)?;
    match state.locked.insert(id) {
        true => Ok(id),
        false => Err(ErrorKind::WouldBlock.into()),
    }
}
