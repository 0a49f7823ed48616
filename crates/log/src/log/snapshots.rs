//! The producer snapshot files beside the segments: when one is written, kept, dropped and read.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use milena_base::{Offset, Timestamp};
use milena_disk::{File, OpenMode, read_all};

use crate::names::FileKind;
use crate::producers::{ProducerState, format_snapshot, parse_snapshot};
use crate::segment::{Env, deleted_name};

/// A snapshot file is read whole; this bounds it (about a million producers).
const SNAPSHOT_BYTES_MAX: u64 = 64 << 20;

/// The snapshot files of a log.
#[derive(Debug, Default)]
pub(crate) struct Snapshots {
    offsets: BTreeSet<Offset>,
    /// Files that no finished flush has synced.
    unsynced: BTreeMap<Offset, Arc<dyn File>>,
    /// No snapshot is written unless the state has moved beyond this.
    last: Offset,
}

impl Snapshots {
    pub(crate) fn new(offsets: BTreeSet<Offset>) -> Snapshots {
        Snapshots {
            offsets,
            unsynced: BTreeMap::new(),
            last: Offset::ZERO,
        }
    }

    /// Drops the files that belong to no segment, but for the newest if it is not older than the newest segment:
    /// that one was written by a clean stop.
    pub(crate) fn remove_strays(&mut self, env: &Env, bases: &BTreeSet<Offset>) -> io::Result<()> {
        let mut strays: Vec<Offset> = self.offsets.difference(bases).copied().collect();
        if let (Some(latest), Some(newest)) = (strays.last(), bases.last())
            && latest >= newest
        {
            strays.pop();
        }
        strays
            .into_iter()
            .try_for_each(|offset| self.remove(env, offset))
    }

    /// Drops the files that are not strictly behind the log's start and at most at its end, as Kafka does
    /// (`ProducerStateManager.truncateAndReload`): the state begins anew at the start.
    pub(crate) fn remove_outside(
        &mut self,
        env: &Env,
        start: Offset,
        end: Offset,
    ) -> io::Result<()> {
        let outside: Vec<Offset> = self
            .offsets
            .iter()
            .copied()
            .filter(|offset| *offset > end || *offset <= start)
            .collect();
        outside
            .into_iter()
            .try_for_each(|offset| self.remove(env, offset))
    }

    fn remove(&mut self, env: &Env, offset: Offset) -> io::Result<()> {
        self.offsets.remove(&offset);
        self.unsynced.remove(&offset);
        match env
            .disk
            .remove_file(&FileKind::ProducerSnapshot.path(&env.dir, offset))
        {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Renames the file at `offset`, if there is one, to `.deleted`; returns the new name.
    pub(crate) fn rename_to_deleted(
        &mut self,
        env: &Env,
        offset: Offset,
    ) -> io::Result<Option<PathBuf>> {
        if !self.offsets.remove(&offset) {
            return Ok(None);
        }
        self.unsynced.remove(&offset);
        let path = FileKind::ProducerSnapshot.path(&env.dir, offset);
        let target = deleted_name(&path);
        match env.disk.rename(&path, &target) {
            Ok(()) => Ok(Some(target)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// The state of the newest snapshot that can be read, at most at `end`; without one, an empty state at
    /// `log_start`. A damaged file is dropped and the one before it tried.
    pub(crate) fn load_latest(
        &mut self,
        env: &Env,
        log_start: Offset,
        end: Offset,
        now: Timestamp,
        expiration_ms: i64,
    ) -> io::Result<ProducerState> {
        while let Some(offset) = self.offsets.range(..=end).next_back().copied() {
            let path = FileKind::ProducerSnapshot.path(&env.dir, offset);
            let bytes = match read_all(&*env.disk, &path, SNAPSHOT_BYTES_MAX) {
                Err(error) if error.kind() == io::ErrorKind::InvalidData => None,
                other => other?,
            };
            if let Some(entries) = bytes.and_then(|bytes| parse_snapshot(&bytes).ok()) {
                self.last = offset;
                return Ok(ProducerState::from_snapshot(
                    entries,
                    offset,
                    now,
                    expiration_ms,
                ));
            }
            self.remove(env, offset)?;
        }
        self.last = log_start;
        Ok(ProducerState::starting_at(log_start))
    }

    /// Writes a snapshot where the state has moved since the last one; it waits to be synced. Whether it did.
    pub(crate) fn take(&mut self, env: &Env, state: &ProducerState) -> io::Result<bool> {
        if state.end() <= self.last {
            return Ok(false);
        }
        let path = FileKind::ProducerSnapshot.path(&env.dir, state.end());
        let file = env.disk.open(&path, OpenMode::Create)?;
        let bytes = format_snapshot(state.entries());
        // Left over from a crash it may be longer than what is written now.
        let written = file
            .set_len(0)
            .and_then(|()| file.write_all_at(&[&bytes], 0));
        if let Err(error) = written {
            env.disk.remove_file(&path)?;
            return Err(error);
        }
        self.offsets.insert(state.end());
        self.unsynced.insert(state.end(), file);
        self.last = state.end();
        Ok(true)
    }

    /// What a flush has to sync.
    pub(crate) fn unsynced(&self) -> Vec<Arc<dyn File>> {
        self.unsynced.values().cloned().collect()
    }

    /// A flush has synced these files.
    pub(crate) fn synced(&mut self, files: &[Arc<dyn File>]) {
        let is_synced = |file: &Arc<dyn File>| files.iter().any(|synced| Arc::ptr_eq(synced, file));
        self.unsynced.retain(|_, file| !is_synced(file));
    }

    /// The log's start has moved.
    pub(crate) fn set_start(&mut self, log_start: Offset) {
        self.last = self.offsets.last().copied().unwrap_or(log_start);
    }

    /// Drops all files.
    pub(crate) fn clear(&mut self, env: &Env) -> io::Result<()> {
        for offset in std::mem::take(&mut self.offsets) {
            self.remove(env, offset)?;
        }
        self.last = Offset::ZERO;
        Ok(())
    }
}
