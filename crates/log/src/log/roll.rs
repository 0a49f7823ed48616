//! Closing a segment and opening the next, and closing the whole log.

use std::sync::Arc;

use milena_base::{Now, Offset};

use crate::error::Fault;
use crate::log::{Flush, Log, Segments};
use crate::segment::{Appender, Segment};

impl Log {
    /// Closes the active segment, if anything is in it, and opens the next at the log's end. What the closed one
    /// holds is to be flushed; the flush is the caller's to run.
    pub fn roll(&mut self, now: Now) -> Result<Option<Flush>, Fault> {
        self.roll_at(self.log_end(), now)
    }

    /// Rolls to a segment that begins at `base`, or at the log's end if that is larger.
    pub(crate) fn roll_at(&mut self, base: Offset, now: Now) -> Result<Option<Flush>, Fault> {
        self.check_writable()?;
        let base = base.max(self.log_end());
        if base == self.active.base() {
            return Ok(None);
        }
        let sealed = self.active.seal();
        self.guard(sealed)?;
        self.sealed.push(self.active.base());
        self.producers.set_end(base);
        let env = Arc::clone(&self.shared.env);
        let taken = self.snapshots.take(&env, &self.producers);
        self.guard(taken)?;
        self.settle_active()?;
        let created = Segment::create(&env, base, &self.options);
        let segment = Arc::new(self.guard(created)?);
        self.dir_version.change();
        let mut segments = Segments::clone(&self.shared.segments.load());
        segments.push(Arc::clone(&segment));
        self.activate(segments, segment, now);
        self.start_flush_upto(base, Vec::new())
    }

    /// What must be durable before there is a segment behind this one, since no recovery would find it missing:
    /// that it exists, if it is the first (a gap shows that a later one is lost); and where the recovery point is at
    /// its end already, so that a recovery begins behind it, its indexes and the producers at its end.
    fn settle_active(&mut self) -> Result<(), Fault> {
        let is_first = self.shared.segments.load().len() == 1 && self.dir_version.is_dirty();
        let is_flushed = self.recovery_point() == self.log_end();
        if is_flushed {
            let files = self.active.files_to_sync();
            let mut files = self.guard(files)?;
            files.extend(self.snapshots.unsynced());
            let synced = files.iter().try_for_each(|file| file.sync_data());
            self.guard(synced)?;
            self.snapshots.synced(&files);
        }
        if is_first || is_flushed {
            let synced = self.shared.env.disk.sync_dir(self.dir());
            self.guard(synced)?;
            self.dir_version.durable = self.dir_version.current;
        }
        Ok(())
    }

    /// Makes `active`, the last of `segments`, the one that is appended to.
    pub(crate) fn activate(&mut self, segments: Segments, active: Arc<Segment>, now: Now) {
        self.shared.segments.store(Arc::new(segments));
        self.active = active;
        self.appender = Appender::new(now.wall);
        self.publish_log_end();
    }

    /// Makes everything durable and leaves the directory as a clean stop leaves it: producers in a snapshot, indexes
    /// complete. The log takes nothing more.
    pub fn close_cleanly(mut self, now: Now) -> Result<Closed, Fault> {
        self.check_writable()?;
        let sealed = self.active.seal();
        self.guard(sealed)?;
        let env = Arc::clone(&self.shared.env);
        let taken = self.snapshots.take(&env, &self.producers);
        if self.guard(taken)? {
            self.dir_version.change();
        }
        let mut files = Vec::new();
        if self.indexes_dirty {
            // A transaction index may be new.
            self.dir_version.change();
            let active = self.active.files_to_sync();
            files.extend(self.guard(active)?);
        }
        if let Some(flush) = self.start_flush_upto(self.log_end(), files)? {
            flush.run()?;
            self.finish_flush(&flush, now.mono);
        }
        self.active.close_files();
        Ok(Closed {
            log_start: self.log_start(),
            first_segment_base: self.first_segment_base(),
            recovery_point: self.recovery_point(),
        })
    }
}

/// What the checkpoints say of a log that was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    pub log_start: Offset,
    pub first_segment_base: Offset,
    pub recovery_point: Offset,
}
