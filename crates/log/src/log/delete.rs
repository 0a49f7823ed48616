//! Dropping the oldest records: by age, by size, and below the log's start. Whole segments go: first out of the
//! readers' view, then by rename, and after a delay from the disk.

use std::path::PathBuf;
use std::sync::Arc;

use milena_base::{Instant, Now, Offset, Timestamp};

use crate::error::Fault;
use crate::log::{Deletion, Flush, Log, Segments};
use crate::names::FileKind;
use crate::segment::{Segment, rename_to_deleted};

/// What retention did.
#[derive(Debug, Default)]
pub struct Retained {
    /// Segments that were dropped.
    pub segments: usize,
    /// Bytes of their log files.
    pub bytes: u64,
    /// All segments had to go, so the active one was closed: its flush.
    pub rolled: Option<Flush>,
}

impl Log {
    /// Drops the segments that the log's start has passed and, where `cleanup.policy` says `delete`, those that
    /// are too much or too old. None that holds records at or beyond the high watermark.
    pub fn retention(&mut self, now: Now, high_watermark: Offset) -> Result<Retained, Fault> {
        self.check_writable()?;
        let mut done = Retained::default();
        let start = self.log_start();
        self.drop_while(&mut done, now, high_watermark, |_, next| {
            Ok(next.is_some_and(|next| next <= start))
        })?;
        if !self.options.cleanup.delete {
            return Ok(done);
        }
        if let Some(bytes_max) = self.options.retention_bytes {
            let mut excess = self.size_bytes().saturating_sub(bytes_max);
            self.drop_while(&mut done, now, high_watermark, |segment, _| {
                let size = u64::from(segment.size());
                let goes = excess >= size && excess > 0;
                excess = excess.saturating_sub(size);
                Ok(goes)
            })?;
        }
        if let Some(ms_max) = self.options.retention_ms {
            self.drop_while(&mut done, now, high_watermark, |segment, _| {
                Ok(now.wall.0 - segment.age_timestamp()?.0 > ms_max)
            })?;
        }
        Ok(done)
    }

    /// Bytes of all log files.
    pub fn size_bytes(&self) -> u64 {
        let segments = self.shared.segments.load();
        segments
            .iter()
            .map(|segment| u64::from(segment.size()))
            .sum()
    }

    /// Drops the oldest segments as long as `goes` says so, given a segment and the base of the next.
    fn drop_while(
        &mut self,
        done: &mut Retained,
        now: Now,
        high_watermark: Offset,
        mut goes: impl FnMut(&Segment, Option<Offset>) -> std::io::Result<bool>,
    ) -> Result<(), Fault> {
        let segments = self.shared.segments.load_full();
        let mut count = 0;
        for (index, segment) in segments.iter().enumerate() {
            let next = segments.get(index + 1).map(|next| next.base());
            let empty_active = next.is_none() && segment.size() == 0;
            let end = next.unwrap_or(self.log_end());
            if empty_active || high_watermark < end {
                break;
            }
            let goes = goes(segment, next);
            if !self.guard(goes)? {
                break;
            }
            count += 1;
        }
        if count == 0 {
            return Ok(());
        }
        if count == segments.len() {
            done.rolled = self.roll(now)?;
        }
        done.segments += count;
        done.bytes += segments[..count]
            .iter()
            .map(|segment| u64::from(segment.size()))
            .sum::<u64>();
        self.drop_oldest(count, now.mono)
    }

    fn drop_oldest(&mut self, count: usize, now: Instant) -> Result<(), Fault> {
        let mut segments = Segments::clone(&self.shared.segments.load());
        let gone: Segments = segments.drain(..count).collect();
        let start = segments
            .first()
            .map_or(self.log_end(), |segment| segment.base());
        self.raise_log_start(start);
        self.shared.segments.store(Arc::new(segments));
        self.delete_files(&gone, now)
    }

    /// Moves the log's start to `offset` (DeleteRecords, a follower of a leader that did), which the caller knows to
    /// be at most the high watermark. Whether it moved: it never goes back.
    pub fn advance_log_start(&mut self, offset: Offset) -> bool {
        let moves = offset > self.log_start();
        if moves {
            self.raise_log_start(offset);
        }
        moves
    }

    fn raise_log_start(&mut self, offset: Offset) {
        if offset <= self.log_start() {
            return;
        }
        self.set_log_start(offset);
        self.update_epochs(|epochs| epochs.truncate_from_start(offset));
        self.producers.forget_replicated(offset);
        if self.producers.end() < offset {
            self.producers.set_end(offset);
        }
        self.snapshots.set_start(offset);
        self.publish_first_unstable();
    }

    /// Renames the files of segments that have left the view, and of their producer snapshots. First the log files,
    /// durably: an index without its log is removed at the next start, but a log that a power cut brought back
    /// without its transaction index would show aborted records as committed.
    pub(crate) fn delete_files(
        &mut self,
        gone: &[Arc<Segment>],
        now: Instant,
    ) -> Result<(), Fault> {
        let env = Arc::clone(&self.shared.env);
        let mut paths = Vec::new();
        for segment in gone {
            segment.close_files();
            let renamed = rename_to_deleted(&env, segment.base(), &[FileKind::Log]);
            paths.extend(self.guard(renamed)?);
        }
        if !paths.is_empty() {
            let synced = env.disk.sync_dir(&env.dir);
            self.guard(synced)?;
        }
        for segment in gone {
            let renamed = rename_to_deleted(&env, segment.base(), &FileKind::INDEXES);
            paths.extend(self.guard(renamed)?);
            let snapshot = self.snapshots.rename_to_deleted(&env, segment.base());
            paths.extend(self.guard(snapshot)?);
        }
        if !paths.is_empty() {
            self.dir_version.change();
            let due = now + self.options.file_delete_delay;
            self.deletions.push(Deletion { due, paths });
        }
        Ok(())
    }

    /// The renamed files whose time has come. The caller removes them, without the lock; what is left over at a
    /// crash is removed at the next start.
    pub fn take_due_deletions(&mut self, now: Instant) -> Vec<PathBuf> {
        let (due, later) = std::mem::take(&mut self.deletions)
            .into_iter()
            .partition(|deletion: &Deletion| deletion.due <= now);
        self.deletions = later;
        due.into_iter()
            .flat_map(|deletion| deletion.paths)
            .collect()
    }

    /// When [`Log::take_due_deletions`] next has something.
    pub fn next_deletion(&self) -> Option<Instant> {
        self.deletions.iter().map(|deletion| deletion.due).min()
    }

    /// Closes files of closed segments that nobody has read since the last call.
    pub fn close_idle_files(&self) {
        for segment in self.shared.segments.load().iter() {
            if !Arc::ptr_eq(segment, &self.active) {
                segment.close_idle_files();
            }
        }
    }

    /// The largest record timestamp of the log, or when it was last written.
    pub fn newest_timestamp(&self) -> Result<Timestamp, Fault> {
        self.active
            .age_timestamp()
            .map_err(|error| self.shared.env.fault(error))
    }
}
