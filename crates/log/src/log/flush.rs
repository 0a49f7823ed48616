//! Making appended records durable. A flush is prepared under the partition's lock, run without it (it waits for the
//! disk), and taken note of under the lock again.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use milena_base::{Instant, Offset};
use milena_disk::{File, replace};

use crate::checkpoint::format_epochs;
use crate::error::Fault;
use crate::log::{Log, Versions};
use crate::names::LEADER_EPOCH_CHECKPOINT;
use crate::segment::{Env, Segment};

/// What a flush has to sync.
#[must_use = "nothing is durable until it has run"]
#[derive(Debug)]
pub struct Flush {
    env: Arc<Env>,
    upto: Offset,
    generation: u64,
    /// Versions of the epochs, the directory and its entry that are durable when the flush has run.
    versions: [u64; 4],
    /// Text of the leader epoch checkpoint, if it has changed.
    epochs: Option<String>,
    epochs_written: Arc<Mutex<u64>>,
    files: Vec<Arc<dyn File>>,
    /// Closed segments whose indexes are among the files.
    sealed: Vec<Offset>,
    dirs: Vec<PathBuf>,
}

impl Flush {
    /// Records below this offset are durable when the flush has run.
    pub fn upto(&self) -> Offset {
        self.upto
    }

    /// Waits for the disk. After a fault nothing may be acknowledged and the log directory is offline: a failed sync
    /// is never tried again, since the pages it was for may be gone.
    pub fn run(&self) -> Result<(), Fault> {
        let synced = self.sync();
        // A deleted partition's directory has another name by now; nothing of it need last.
        let gone = |error: &io::Error| {
            error.kind() == io::ErrorKind::NotFound
                && matches!(self.env.disk.stat(&self.env.dir), Ok(None))
        };
        match synced {
            Err(error) if !gone(&error) => Err(self.env.fault(error)),
            _ => Ok(()),
        }
    }

    fn sync(&self) -> io::Result<()> {
        if let Some(text) = &self.epochs {
            let [version, ..] = self.versions;
            write_epochs(&self.env, text, version, &self.epochs_written)?;
        }
        for file in &self.files {
            file.sync_data()?;
        }
        for dir in &self.dirs {
            self.env.disk.sync_dir(dir)?;
        }
        Ok(())
    }
}

/// Flushes may run side by side: none writes over what one that was prepared later has written.
fn write_epochs(env: &Env, text: &str, version: u64, written: &Mutex<u64>) -> io::Result<()> {
    let mut written = written.lock().unwrap_or_else(PoisonError::into_inner);
    if *written < version {
        let path = env.dir.join(LEADER_EPOCH_CHECKPOINT);
        replace(&*env.disk, &path, text.as_bytes())?;
        *written = version;
    }
    Ok(())
}

impl Log {
    /// Prepares a flush of everything that was appended; `None` where all of it is durable already.
    pub fn start_flush(&mut self) -> Result<Option<Flush>, Fault> {
        self.start_flush_upto(self.log_end(), Vec::new())
    }

    /// Takes note of a flush that has run. One that a truncation has overtaken counts for nothing.
    pub fn finish_flush(&mut self, flush: &Flush, now: Instant) {
        self.last_flush = now;
        let parts = [
            &mut self.epochs_version,
            &mut self.dir_version,
            &mut self.parent_version,
            &mut self.cut_version,
        ];
        for (part, version) in parts.into_iter().zip(flush.versions) {
            part.durable = part.durable.max(version);
        }
        self.snapshots.synced(&flush.files);
        self.sealed.retain(|base| !flush.sealed.contains(base));
        let overtaken = flush.generation != self.shared.generation.current();
        if !overtaken && flush.upto > self.recovery_point() {
            self.set_recovery_point(flush.upto.min(self.log_end()));
        }
    }

    /// Writes the leader epoch checkpoint at once: after a truncation it would contradict what is appended next.
    pub(crate) fn write_epochs(&mut self) -> Result<(), Fault> {
        let version = self.epochs_version.current;
        let text = format_epochs(&self.shared.epochs.load());
        let written = write_epochs(&self.shared.env, &text, version, &self.epochs_written);
        self.guard(written)?;
        self.epochs_version.durable = version;
        Ok(())
    }

    /// Takes note of a flush that failed: the log takes no more records.
    pub fn flush_failed(&mut self, fault: &Fault) {
        self.broken.get_or_insert_with(|| fault.source.to_string());
    }

    /// Prepares, runs and notes a flush, waiting for the disk.
    pub fn flush(&mut self, now: Instant) -> Result<(), Fault> {
        let Some(flush) = self.start_flush()? else {
            return Ok(());
        };
        flush.run().inspect_err(|fault| self.flush_failed(fault))?;
        self.finish_flush(&flush, now);
        Ok(())
    }

    /// Whether a flush is due by number (`flush.messages`): the append that says so may be acknowledged only once
    /// the recovery point has passed it.
    pub(crate) fn is_flush_due(&self) -> bool {
        self.log_end() - self.recovery_point() >= self.options.flush_messages
    }

    /// Whether a flush is due by time (`flush.ms`).
    pub fn is_flush_due_by_time(&self, now: Instant) -> bool {
        let waited = now.since(self.last_flush).as_millis();
        self.options
            .flush_ms
            .is_some_and(|ms| waited >= u128::from(ms))
            && self.recovery_point() < self.log_end()
    }

    pub(crate) fn start_flush_upto(
        &mut self,
        upto: Offset,
        mut files: Vec<Arc<dyn File>>,
    ) -> Result<Option<Flush>, Fault> {
        self.check_writable()?;
        let from = self.recovery_point();
        let versions = self.versions();
        files.extend(self.snapshots.unsynced());
        if upto <= from
            && files.is_empty()
            && self.sealed.is_empty()
            && !versions.iter().any(|part| part.is_dirty())
        {
            return Ok(None);
        }
        let segments = self.shared.segments.load_full();
        self.sealed.retain(|base| {
            let closed = |segment: &Arc<Segment>| !Arc::ptr_eq(segment, &self.active);
            segments
                .iter()
                .any(|segment| segment.base() == *base && closed(segment))
        });
        let sealed = self.sealed.clone();
        let first = segments
            .partition_point(|segment| segment.base() <= from)
            .saturating_sub(1);
        for (index, segment) in segments.iter().enumerate() {
            let unflushed = index >= first && segment.base() < upto;
            let is_cut = self.cut_version.is_dirty() && Arc::ptr_eq(segment, &self.active);
            if unflushed || is_cut || sealed.contains(&segment.base()) {
                let synced = self.files_of(segment);
                files.extend(self.guard(synced)?);
            }
        }
        let env = Arc::clone(&self.shared.env);
        let mut dirs = Vec::new();
        if self.dir_version.is_dirty() {
            dirs.push(env.dir.clone());
        }
        if self.parent_version.is_dirty() {
            dirs.extend(env.dir.parent().map(PathBuf::from));
        }
        let epochs = self.shared.epochs.load();
        Ok(Some(Flush {
            env,
            upto,
            generation: self.shared.generation.current(),
            versions: versions.map(|part| part.current),
            epochs: self
                .epochs_version
                .is_dirty()
                .then(|| format_epochs(&epochs)),
            epochs_written: Arc::clone(&self.epochs_written),
            files,
            sealed,
            dirs,
        }))
    }

    fn versions(&self) -> [Versions; 4] {
        [
            self.epochs_version,
            self.dir_version,
            self.parent_version,
            self.cut_version,
        ]
    }

    /// The active segment's indexes are rebuilt after a crash, since it holds the recovery point; so only its
    /// batches are synced. Of a closed segment everything is.
    fn files_of(&self, segment: &Arc<Segment>) -> io::Result<Vec<Arc<dyn File>>> {
        segment.write_indexes()?;
        match Arc::ptr_eq(segment, &self.active) {
            true => Ok(vec![segment.log_file()?]),
            false => segment.files_to_sync(),
        }
    }
}
