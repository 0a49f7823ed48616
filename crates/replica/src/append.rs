//! What a leader does to its log: appending, making durable, deleting records.

use milena_base::{Epoch, ErrorCode, Now, Offset, Timestamp};
use milena_log::{AppendError, AppendOrigin, Fault, Flush};
use milena_records::ValidBatch;

use crate::Partition;
use crate::partition::Inner;
use crate::role::Role;
use crate::verify::{self, Vouched};

/// A batch that was appended (or had been before).
#[derive(Debug)]
pub struct Appended {
    pub first: Offset,
    /// The offset after the last record: acks=all waits until the high watermark has reached it.
    pub end: Offset,
    pub leader_epoch: Epoch,
    /// −1 unless the topic stamps records itself.
    pub log_append_time: Timestamp,
    pub log_start: Offset,
    /// Whether the high watermark moved: waiting fetches and produces may complete.
    pub high_watermark_moved: bool,
    /// A segment was closed: its flush, to be run without hurry.
    pub rolled: Option<Flush>,
}

/// Why nothing was appended.
#[derive(Debug)]
pub enum AppendRefused {
    /// The client's trouble, with the sentence for it.
    Refused(ErrorCode, String),
    /// The machine's trouble: the log directory's owner decides what becomes of it.
    Fault(Fault),
}

impl Partition {
    /// Appends a checked batch. `all`: the producer wants it on every in-sync replica (acks=all), so that too few
    /// of them refuse it. Where every record has to be durable (`flush.messages=1`) this waits for the disk, but not
    /// under the lock.
    pub fn append_as_leader(
        &self,
        batch: ValidBatch,
        all: bool,
        origin: AppendOrigin,
        now: Now,
    ) -> Result<Appended, AppendRefused> {
        self.append_vouched(batch, all, origin, Vouched::Unasked, now)
    }

    /// The same for a transactional batch, with what speaks for it.
    ///
    /// Errors: INVALID_TXN_STATE where a transaction of the producer ended here since the coordinator was asked.
    pub fn append_vouched(
        &self,
        batch: ValidBatch,
        all: bool,
        origin: AppendOrigin,
        vouched: Vouched,
        now: Now,
    ) -> Result<Appended, AppendRefused> {
        let (mut appended, flush) = self.append_locked(batch, all, origin, vouched, now)?;
        if let Some(flush) = flush {
            appended.high_watermark_moved |= self.make_durable(&flush, now)?;
        }
        Ok(appended)
    }

    fn append_locked(
        &self,
        batch: ValidBatch,
        all: bool,
        origin: AppendOrigin,
        vouched: Vouched,
        now: Now,
    ) -> Result<(Appended, Option<Flush>), AppendRefused> {
        let mut inner = self.lock();
        let min_insync = inner.min_insync;
        let Inner {
            log,
            role,
            verifying,
            ..
        } = &mut *inner;
        let (Some(log), Role::Leader(leader)) = (log, role) else {
            return Err(self.not_leading());
        };
        if all && !leader.has_enough_in_sync(min_insync) {
            let (have, want) = (leader.isr.len(), leader.min_isr(min_insync));
            let why = format!(
                "{have} replicas of {} are in sync, {want} are wanted",
                self.name
            );
            return Err(AppendRefused::Refused(ErrorCode::NotEnoughReplicas, why));
        }
        let header = *batch.header();
        verify::check(log, verifying, &header, vouched)?;
        let done = log.append_as_leader(batch, leader.epoch, origin, now)?;
        if header.is_transactional() {
            verifying.end(&header, origin);
        }
        let flush = match done.flush_due {
            true => log.start_flush().map_err(AppendRefused::Fault)?,
            false => None,
        };
        let appended = Appended {
            first: done.first,
            end: done.last + 1,
            leader_epoch: done.leader_epoch,
            log_append_time: done.log_append_time,
            log_start: done.log_start,
            high_watermark_moved: self.advance_high_watermark(&mut inner),
            rolled: done.rolled,
        };
        Ok((appended, flush))
    }

    /// Runs a flush without the lock; whether the high watermark moved by it.
    pub fn make_durable(&self, flush: &Flush, now: Now) -> Result<bool, AppendRefused> {
        let run = flush.run();
        let mut inner = self.lock();
        let Some(log) = &mut inner.log else {
            return run.map(|()| false).map_err(AppendRefused::Fault);
        };
        match run {
            Ok(()) => log.finish_flush(flush, now.mono),
            Err(fault) => {
                log.flush_failed(&fault);
                return Err(AppendRefused::Fault(fault));
            }
        }
        Ok(self.advance_high_watermark(&mut inner))
    }

    /// Whether an acks=all produce that ended at `end` under `leader_epoch` is done: `None` while it waits,
    /// NOT_LEADER_OR_FOLLOWER once another epoch began, NOT_ENOUGH_REPLICAS_AFTER_APPEND where in-sync replicas were
    /// lost since.
    pub fn replicated(&self, end: Offset, leader_epoch: Epoch) -> Option<Result<(), ErrorCode>> {
        match self.leader_view() {
            Err(code) => return Some(Err(code)),
            Ok(role) if role.leader_epoch != leader_epoch => {
                return Some(Err(ErrorCode::NotLeaderOrFollower));
            }
            Ok(_) => {}
        }
        if self.high_watermark() < end {
            return None;
        }
        let inner = self.lock();
        Some(match &inner.role {
            Role::Leader(leader) if leader.epoch != leader_epoch => {
                Err(ErrorCode::NotLeaderOrFollower)
            }
            Role::Leader(leader) if !leader.has_enough_in_sync(inner.min_insync) => {
                Err(ErrorCode::NotEnoughReplicasAfterAppend)
            }
            Role::Leader(_) => Ok(()),
            Role::Follower(_) | Role::Offline => Err(ErrorCode::NotLeaderOrFollower),
        })
    }

    /// Moves the log's start (DeleteRecords); −1 stands for the high watermark. Returns the new start.
    pub fn delete_records(&self, before: Offset) -> Result<Offset, AppendRefused> {
        let mut inner = self.lock();
        let Inner { log, role, .. } = &mut *inner;
        let (Some(log), Role::Leader(_)) = (log, role) else {
            return Err(self.not_leading());
        };
        let cleanup = log.options().cleanup;
        if cleanup.compact && !cleanup.delete {
            let why = format!("records of {} are compacted, not deleted", self.name);
            return Err(AppendRefused::Refused(ErrorCode::PolicyViolation, why));
        }
        let high_watermark = self.high_watermark();
        let target = match before {
            Offset::NONE => high_watermark,
            offset => offset,
        };
        if target < Offset::ZERO || target > high_watermark {
            return Err(refused(ErrorCode::OffsetOutOfRange));
        }
        log.advance_log_start(target);
        Ok(self.reader().log_start())
    }

    /// The smallest log start of the replicas in `alive` and of this one: what a DeleteRecords waits for and answers.
    pub fn low_watermark(&self, alive: impl Fn(milena_base::BrokerId) -> bool) -> Offset {
        let inner = self.lock();
        let own = self.reader().log_start();
        match &inner.role {
            Role::Leader(leader) => leader.low_watermark(alive).map_or(own, |low| low.min(own)),
            Role::Follower(_) | Role::Offline => own,
        }
    }

    fn not_leading(&self) -> AppendRefused {
        refused(
            self.leader_view()
                .err()
                .unwrap_or(ErrorCode::NotLeaderOrFollower),
        )
    }
}

pub(crate) fn refused(code: ErrorCode) -> AppendRefused {
    AppendRefused::Refused(code, String::new())
}

impl From<AppendError> for AppendRefused {
    fn from(error: AppendError) -> AppendRefused {
        match error {
            AppendError::Refused(code, why) => AppendRefused::Refused(code, why),
            AppendError::Fault(fault) => AppendRefused::Fault(fault),
        }
    }
}

impl From<Fault> for AppendRefused {
    fn from(fault: Fault) -> AppendRefused {
        AppendRefused::Fault(fault)
    }
}
