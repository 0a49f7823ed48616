//! Cutting the log's end off: a follower does so where its leader's log parts from its own (KIP-101).

use std::sync::Arc;

use milena_base::{Now, Offset};

use crate::error::Fault;
use crate::log::{Log, Segments};
use crate::producers::ProducerState;
use crate::segment::{Appender, Segment};

impl Log {
    /// Drops every record at or beyond `offset`, durably. Whether anything went. Slices that were read before become
    /// invalid.
    ///
    /// The recovery point may fall; the caller writes the recovery point checkpoint before it appends again, since
    /// after a crash what it says is not checked.
    pub fn truncate_to(&mut self, offset: Offset, now: Now) -> Result<bool, Fault> {
        self.check_writable()?;
        if offset >= self.log_end() {
            self.update_epochs(|epochs| epochs.truncate_from_end(offset));
            return Ok(false);
        }
        if offset < self.first_segment_base() {
            self.truncate_fully_and_start_at(offset, now)?;
            return Ok(true);
        }
        let result = self.cut(offset, now);
        if result.is_err() {
            // Half cut, the log is not what its readers are told; it takes nothing more.
            self.broken
                .get_or_insert_with(|| "a truncation failed".into());
        }
        result.map(|()| true)
    }

    fn cut(&mut self, offset: Offset, now: Now) -> Result<(), Fault> {
        self.shared.generation.bump();
        let mut segments = Segments::clone(&self.shared.segments.load());
        let kept = segments.partition_point(|segment| segment.base() <= offset);
        let gone = segments.split_off(kept);
        let active = Arc::clone(&segments[kept - 1]);
        self.lower_ends(offset);
        self.delete_from_end(&gone, now)?;
        // Durably too: an end that a power cut brought back, in front of a segment that begins where it ends, would
        // part from the leader's log without anybody seeing it.
        let cut = active
            .truncate_to(offset)
            .and_then(|()| active.log_file()?.sync_data());
        self.guard(cut)?;
        self.activate(segments, active, now);
        self.update_epochs(|epochs| epochs.truncate_from_end(offset));
        let start = self.log_start().min(offset);
        self.set_log_start(start);
        let rebuilt = self.rebuild_producers(now);
        self.guard(rebuilt)?;
        self.publish_first_unstable();
        self.dir_version.change();
        self.indexes_dirty = true;
        self.generation_bump_after_cut();
        self.write_epochs()
    }

    /// Drops everything; the log goes on, empty, at `offset`.
    pub fn truncate_fully_and_start_at(&mut self, offset: Offset, now: Now) -> Result<(), Fault> {
        self.check_writable()?;
        self.shared.generation.bump();
        let gone = self.shared.segments.load_full();
        let env = Arc::clone(&self.shared.env);
        self.delete_from_end(&gone, now)?;
        let cleared = self.snapshots.clear(&env);
        self.guard(cleared)?;
        let created = Segment::create(&env, offset, &self.options);
        let segment = Arc::new(self.guard(created)?);
        self.dir_version.change();
        self.lower_ends(offset);
        self.set_log_start(offset);
        self.set_recovery_point(offset);
        self.activate(vec![Arc::clone(&segment)], segment, now);
        self.update_epochs(|epochs| {
            epochs.clear();
            true
        });
        self.producers = ProducerState::starting_at(offset);
        self.publish_first_unstable();
        self.generation_bump_after_cut();
        self.write_epochs()
    }

    /// Durably one after another, the last first: at any moment what is left on the disk has no gap, which below the
    /// recovery point nobody would look for.
    fn delete_from_end(&mut self, gone: &[Arc<Segment>], now: Now) -> Result<(), Fault> {
        let mut last_first = gone.iter().rev();
        last_first
            .try_for_each(|segment| self.delete_files(std::slice::from_ref(segment), now.mono))
    }

    /// What readers and recovery go by falls before the bytes do.
    fn lower_ends(&mut self, offset: Offset) {
        self.cut_to = Some(self.cut_to.map_or(offset, |before| before.min(offset)));
        let ordering = std::sync::atomic::Ordering::Release;
        self.shared.log_end.store(offset.0, ordering);
        if self.recovery_point() > offset {
            self.set_recovery_point(offset);
        }
    }

    /// A slice that was taken between the first bump and the cut may reach beyond it.
    fn generation_bump_after_cut(&mut self) {
        self.shared.generation.bump();
        self.appender = Appender::new(self.appender.created());
    }
}
