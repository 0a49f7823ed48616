//! What of a log is dirty and may be cleaned, and whether it should be (`LogCleanerManager`, `LogToClean`).

use std::io;
use std::sync::Arc;

use milena_base::{Offset, Timestamp};

use crate::error::Fault;
use crate::log::{Flush, Log};
use crate::reader::floor;
use crate::segment::Segment;

/// The dirty part of a compacted log.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cleanable {
    /// Below it the log is clean.
    pub first_dirty: Offset,
    /// Base offset of the first segment that may not be cleaned.
    pub first_uncleanable: Offset,
    /// Bytes of the segments that begin below `first_dirty`.
    pub clean_bytes: u64,
    /// Bytes of the segments that hold `first_dirty` and what follows, up to the first that may not be cleaned.
    pub cleanable_bytes: u64,
    /// How long ago `max.compaction.lag.ms` asked for a cleaning; 0 where it does not.
    pub overdue_ms: i64,
    /// What the checkpoint said does not fit the log: all of it counts as dirty.
    pub is_reset: bool,
}

impl Cleanable {
    /// Dirty bytes of all bytes, from 0 to 1.
    pub fn dirty_ratio(&self) -> f64 {
        let total = self.clean_bytes + self.cleanable_bytes;
        match total {
            0 => 0.0,
            _ => self.cleanable_bytes as f64 / total as f64,
        }
    }

    /// Whether the log is to be cleaned now: it is dirty enough (`min.cleanable.dirty.ratio`) or overdue.
    pub fn is_due(&self, min_cleanable_dirty_ratio: f64) -> bool {
        let is_overdue = self.overdue_ms > 0 && self.cleanable_bytes > 0;
        is_overdue || self.dirty_ratio() > min_cleanable_dirty_ratio
    }
}

impl Log {
    /// What may be cleaned, given where the last cleaning ended (`None`: it never was), what is committed, and the
    /// time. Nothing at or beyond the last stable offset may, nor what is not flushed: of two records of one key the
    /// older must not go while a power cut may take the newer.
    pub fn cleanable(
        &mut self,
        cleaned_to: Option<Offset>,
        high_watermark: Offset,
        now: Timestamp,
    ) -> Result<Cleanable, Fault> {
        let found = self.find_cleanable(cleaned_to, high_watermark, now);
        found.map_err(|error| self.shared.env.fault(error))
    }

    fn find_cleanable(
        &mut self,
        cleaned_to: Option<Offset>,
        high_watermark: Offset,
        now: Timestamp,
    ) -> io::Result<Cleanable> {
        let (start, end) = (self.log_start(), self.log_end());
        // A cut above what is known to be clean changes nothing.
        self.cut_to = self
            .cut_to
            .filter(|cut| cleaned_to.is_some_and(|to| *cut < to));
        let cut = self.cut_to.unwrap_or(Offset::MAX);
        let checkpoint = cleaned_to.map(|offset| offset.min(cut));
        let fits = |offset: &Offset| (start..=end).contains(offset);
        let first_dirty = checkpoint.filter(fits).unwrap_or(start);
        let segments = self.shared.segments.load_full();
        let (_, closed) = segments.split_last().expect("a log has a segment");
        let dirty = match first_dirty < self.active.base() {
            true => &closed[floor(closed, first_dirty)..],
            false => &[],
        };
        let too_young = self.first_too_young(dirty, now)?;
        let stable = self.reader().last_stable_offset(high_watermark);
        let uncleanable = [stable, self.active.base(), self.recovery_point()]
            .into_iter()
            .chain(too_young)
            .fold(Offset::MAX, Offset::min)
            .max(first_dirty);
        // The segment that holds the offset, and so begins at or below it.
        let first_uncleanable = match uncleanable >= self.active.base() {
            true => self.active.base(),
            false => segments[floor(&segments, uncleanable)].base(),
        };
        let bytes = |segments: &mut dyn Iterator<Item = &Arc<Segment>>| {
            segments.map(|segment| u64::from(segment.size())).sum()
        };
        let is_clean = |segment: &&Arc<Segment>| segment.base() < first_dirty;
        let is_cleanable = |segment: &&Arc<Segment>| segment.base() < first_uncleanable;
        Ok(Cleanable {
            first_dirty,
            first_uncleanable,
            clean_bytes: bytes(&mut segments.iter().filter(is_clean)),
            cleanable_bytes: bytes(&mut dirty.iter().filter(is_cleanable)),
            overdue_ms: self.overdue_ms(dirty, now)?,
            is_reset: cleaned_to.is_some_and(|offset| offset != first_dirty),
        })
    }

    /// Base of the first segment with a record that is younger than `min.compaction.lag.ms`.
    fn first_too_young(
        &self,
        dirty: &[Arc<Segment>],
        now: Timestamp,
    ) -> io::Result<Option<Offset>> {
        let lag = self.options.min_compaction_lag_ms;
        if lag <= 0 {
            return Ok(None);
        }
        for segment in dirty {
            if segment.age_timestamp()?.0 > now.0.saturating_sub(lag) {
                return Ok(Some(segment.base()));
            }
        }
        Ok(None)
    }

    fn overdue_ms(&self, dirty: &[Arc<Segment>], now: Timestamp) -> io::Result<i64> {
        let lag = self.options.max_compaction_lag_ms.max(0);
        let clean_until = now.0.saturating_sub(lag);
        if clean_until <= 0 {
            return Ok(0);
        }
        let mut earliest = i64::MAX;
        for segment in dirty {
            let first = segment.first_timestamp()?.filter(|first| first.0 > 0);
            earliest = first.map_or(earliest, |first| earliest.min(first.0));
        }
        Ok(clean_until.saturating_sub(earliest).max(0))
    }

    /// A flush of the closed segments where they are not all known to be durable, as after a crash: nothing of them is
    /// cleaned before.
    pub fn start_flush_of_closed(&mut self) -> Result<Option<Flush>, Fault> {
        match self.recovery_point() < self.active.base() {
            true => self.start_flush_upto(self.active.base(), Vec::new()),
            false => Ok(None),
        }
    }
}
