//! What a follower does to its log: appending what the leader sent, and truncating to where the two logs part.
//!
//! Every call names the leader epoch that the answer was fetched under: one that came late, after another leader was
//! elected, is refused with FENCED_LEADER_EPOCH and changes nothing.

use milena_base::{Epoch, ErrorCode, Now, Offset};
use milena_log::{Flush, Log};
use milena_records::ValidBatch;

use crate::append::refused;
use crate::partition::Inner;
use crate::role::Role;
use crate::{AppendRefused, Divergence, Partition};

/// What was copied from the leader.
#[derive(Debug)]
pub struct Replicated {
    /// Where the next fetch begins. In fsync mode it is not sent before `flush` was run.
    pub log_end: Offset,
    /// Whether the high watermark moved: readers at this replica may go on.
    pub high_watermark_moved: bool,
    /// The flush that this append asks for; for [`Partition::make_durable`].
    pub flush: Option<Flush>,
    /// A segment was closed: its flush, to be run without hurry.
    pub rolled: Option<Flush>,
}

/// A truncation towards the leader's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncation {
    /// The log's end now.
    pub log_end: Offset,
    /// Whether the logs agree below it. If not, the next fetch finds the next point where they may.
    pub complete: bool,
}

impl Partition {
    /// Appends what the leader of `leader_epoch` answered to a fetch from `fetched_from`, and takes over its high
    /// watermark and log start as far as this log reaches. Batches of a later epoch than the leader's are left out
    /// (KAFKA-18723).
    pub fn append_as_follower(
        &self,
        leader_epoch: Epoch,
        fetched_from: Offset,
        batches: &[ValidBatch],
        leader_high_watermark: Offset,
        leader_log_start: Offset,
        now: Now,
    ) -> Result<Replicated, AppendRefused> {
        let mut inner = self.lock();
        let log = self.following(&mut inner, leader_epoch)?;
        if fetched_from != log.log_end() {
            let why = format!(
                "fetched from {fetched_from}, the log ends at {}",
                log.log_end()
            );
            return Err(AppendRefused::Refused(ErrorCode::OffsetOutOfRange, why));
        }
        let known = batches
            .iter()
            .take_while(|batch| batch.header().leader_epoch() <= leader_epoch);
        let done = log.append_as_follower(&batches[..known.count()], now)?;
        let flush = match done.as_ref().is_some_and(|done| done.flush_due) {
            true => log.start_flush()?,
            false => None,
        };
        let log_end = log.log_end();
        let moved = self.raise_high_watermark(&mut inner, leader_high_watermark.min(log_end));
        let start = leader_log_start.min(self.high_watermark());
        self.following(&mut inner, leader_epoch)?
            .advance_log_start(start);
        Ok(Replicated {
            log_end,
            high_watermark_moved: moved,
            flush,
            rolled: done.and_then(|done| done.rolled),
        })
    }

    /// Truncates after the leader said where its log parts from this one: the end of the largest epoch that it knows
    /// up to the one that was asked for (KIP-101, KIP-279, KIP-595).
    pub fn truncate_as_told(
        &self,
        leader_epoch: Epoch,
        told: Divergence,
        now: Now,
    ) -> Result<Truncation, AppendRefused> {
        let mut inner = self.lock();
        let log = self.following(&mut inner, leader_epoch)?;
        let (target, complete) = parting(log, told);
        self.truncate_locked(&mut inner, leader_epoch, target, now)?;
        Ok(Truncation {
            log_end: self.reader().log_end(),
            complete,
        })
    }

    /// Truncates to an offset: to the leader's end, where it has less than this replica (unclean election).
    pub fn truncate_to(
        &self,
        leader_epoch: Epoch,
        offset: Offset,
        now: Now,
    ) -> Result<(), AppendRefused> {
        self.truncate_locked(&mut self.lock(), leader_epoch, offset, now)
    }

    /// Drops everything and goes on at the leader's log start, which lies beyond this log's end.
    pub fn restart_at(
        &self,
        leader_epoch: Epoch,
        leader_log_start: Offset,
        now: Now,
    ) -> Result<(), AppendRefused> {
        let mut inner = self.lock();
        self.following(&mut inner, leader_epoch)?
            .truncate_fully_and_start_at(leader_log_start, now)?;
        self.raise_high_watermark(&mut inner, leader_log_start);
        Ok(())
    }

    fn truncate_locked(
        &self,
        inner: &mut Inner,
        leader_epoch: Epoch,
        offset: Offset,
        now: Now,
    ) -> Result<(), AppendRefused> {
        self.following(inner, leader_epoch)?;
        self.lower_high_watermark(inner, offset);
        let high_watermark = self.high_watermark();
        let log = self.following(inner, leader_epoch)?;
        log.truncate_to(offset, now)?;
        // Producers were read anew: transactions that ended below it hold nobody up.
        log.on_high_watermark(high_watermark);
        Ok(())
    }

    /// The log, if this replica follows in exactly this epoch.
    fn following<'a>(
        &self,
        inner: &'a mut Inner,
        leader_epoch: Epoch,
    ) -> Result<&'a mut Log, AppendRefused> {
        match (&mut inner.log, &inner.role) {
            (Some(log), Role::Follower(follower)) if follower.epoch == leader_epoch => Ok(log),
            (Some(_), Role::Follower(follower)) if follower.epoch < leader_epoch => {
                Err(refused(ErrorCode::UnknownLeaderEpoch))
            }
            (Some(_), Role::Follower(_) | Role::Leader(_)) => {
                Err(refused(ErrorCode::FencedLeaderEpoch))
            }
            (None, _) | (_, Role::Offline) => Err(refused(ErrorCode::KafkaStorageError)),
        }
    }
}

/// Where this log has to end, and whether the leader's agrees below that.
fn parting(log: &Log, told: Divergence) -> (Offset, bool) {
    let log_end = log.log_end();
    match log.reader().end_offset_for_epoch(told.epoch) {
        // This log does not know the epoch: its records between the two are not the leader's.
        Some((epoch, end)) if epoch != told.epoch => (end.min(log_end), false),
        Some((_, end)) => (end.min(told.end_offset).min(log_end), true),
        None => (told.end_offset.min(log_end), true),
    }
}
