//! A partition: its role, its log and its high watermark.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use arc_swap::ArcSwap;
use milena_base::{
    BrokerId, Epoch, ErrorCode, Now, Offset, Timestamp, TopicIdPartition, TopicPartition,
};
use milena_log::{AppendError, AppendOrigin, Fault, Flush, Log, LogReader};
use milena_records::ValidBatch;

use crate::role::{Assignment, Follower, Leader, Role};

/// What readers see of the role; never changes under its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoleView {
    pub is_leader: bool,
    /// −1 where unknown.
    pub leader: BrokerId,
    pub leader_epoch: Epoch,
    /// Where the leader's epoch began in its log; below it a new leader's watermark may lag (KIP-207).
    pub epoch_start: Offset,
    pub offline: bool,
}

impl RoleView {
    const OFFLINE: RoleView = RoleView {
        is_leader: false,
        leader: BrokerId::NONE,
        leader_epoch: Epoch::NONE,
        epoch_start: Offset::ZERO,
        offline: true,
    };

    /// Checks the leader epoch that a client believes in (KIP-320); −1 is not checked.
    pub fn check_epoch(&self, claimed: i32) -> Result<(), ErrorCode> {
        match claimed {
            -1 => Ok(()),
            older if older < self.leader_epoch.0 => Err(ErrorCode::FencedLeaderEpoch),
            newer if newer > self.leader_epoch.0 => Err(ErrorCode::UnknownLeaderEpoch),
            _ => Ok(()),
        }
    }
}

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

struct Inner {
    /// `None` once it was closed or given up.
    log: Option<Log>,
    role: Role,
    min_insync: i32,
}

/// See the crate's words.
pub struct Partition {
    pub id: TopicIdPartition,
    pub name: TopicPartition,
    me: BrokerId,
    inner: Mutex<Inner>,
    role: ArcSwap<RoleView>,
    high_watermark: AtomicI64,
    reader: LogReader,
}

impl Partition {
    /// A partition without a role. `high_watermark` is the checkpointed one; it is bounded by the log.
    pub fn new(
        id: TopicIdPartition,
        name: TopicPartition,
        me: BrokerId,
        log: Log,
        high_watermark: Offset,
    ) -> Partition {
        let reader = log.reader();
        let bounded = high_watermark.clamp(reader.log_start(), reader.log_end());
        Partition {
            id,
            name,
            me,
            role: ArcSwap::from_pointee(RoleView::OFFLINE),
            high_watermark: AtomicI64::new(bounded.0),
            reader,
            inner: Mutex::new(Inner {
                log: Some(log),
                role: Role::Offline,
                min_insync: 1,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic under this lock is a broken storage invariant: the node stops, and so do we.
        self.inner
            .lock()
            .expect("no panic while a partition is held")
    }

    pub fn role(&self) -> RoleView {
        **self.role.load()
    }

    /// The role if this replica leads and is online; the error that a client gets otherwise.
    pub fn leader_view(&self) -> Result<RoleView, ErrorCode> {
        let role = self.role();
        match role {
            RoleView { offline: true, .. } if role.leader_epoch == Epoch::NONE => {
                Err(ErrorCode::NotLeaderOrFollower)
            }
            RoleView { offline: true, .. } => Err(ErrorCode::KafkaStorageError),
            RoleView {
                is_leader: false, ..
            } => Err(ErrorCode::NotLeaderOrFollower),
            _ => Ok(role),
        }
    }

    pub fn reader(&self) -> &LogReader {
        &self.reader
    }

    pub fn high_watermark(&self) -> Offset {
        Offset(self.high_watermark.load(Ordering::Acquire))
    }

    /// The last stable offset: below it every transaction is decided.
    pub fn last_stable(&self) -> Offset {
        let high_watermark = self.high_watermark();
        self.reader.last_stable_offset(high_watermark)
    }

    /// Runs a function over the log under the partition's lock: for configuration, retention and checkpoints.
    /// `None` once the log was taken.
    pub fn with_log<T>(&self, body: impl FnOnce(&mut Log) -> T) -> Option<T> {
        self.lock().log.as_mut().map(body)
    }

    /// Goes offline for good and gives the log up: to close it, or to rename its directory.
    pub fn take_log(&self) -> Option<Log> {
        let mut inner = self.lock();
        inner.role = Role::Offline;
        self.publish_offline();
        inner.log.take()
    }

    /// `min.insync.replicas` of the topic.
    pub fn set_min_insync(&self, min_insync: i32) {
        self.lock().min_insync = min_insync;
    }

    /// Leads from here on, under committed metadata. Returns whether the high watermark moved.
    pub fn lead(&self, assignment: &Assignment, now: Now) -> bool {
        let mut inner = self.lock();
        let Inner {
            log: Some(log),
            role,
            ..
        } = &mut *inner
        else {
            return false;
        };
        match role {
            Role::Leader(leader) if leader.epoch == assignment.leader_epoch => {
                if assignment.partition_epoch > leader.partition_epoch {
                    leader.update(assignment, now);
                }
            }
            _ => {
                let end = log.reader().log_end();
                log.assign_epoch_start(assignment.leader_epoch, end);
                *role = Role::Leader(Leader::new(self.me, assignment, end, now));
            }
        }
        let moved = self.advance_high_watermark(&mut inner);
        self.publish_role(&inner.role, assignment.leader);
        moved
    }

    /// Follows `assignment.leader` from here on. Nothing is truncated here: that is decided when the leader's
    /// epochs are known.
    pub fn follow(&self, assignment: &Assignment) {
        let mut inner = self.lock();
        if inner.log.is_none() {
            return;
        }
        inner.role = Role::Follower(Follower {
            leader: assignment.leader,
            epoch: assignment.leader_epoch,
            partition_epoch: assignment.partition_epoch,
        });
        self.publish_role(&inner.role, assignment.leader);
    }

    /// Neither leads nor follows: the log directory failed, or the topic is gone.
    pub fn go_offline(&self) {
        let mut inner = self.lock();
        inner.role = Role::Offline;
        self.publish_offline();
    }

    /// Offline, but not forgotten: the epoch tells a failed directory from a partition never assigned.
    fn publish_offline(&self) {
        let view = RoleView {
            leader_epoch: self.role().leader_epoch,
            ..RoleView::OFFLINE
        };
        self.role.store(Arc::new(view));
    }

    fn publish_role(&self, role: &Role, leader: BrokerId) {
        let view = match role {
            Role::Offline => RoleView::OFFLINE,
            Role::Follower(follower) => RoleView {
                is_leader: false,
                leader,
                leader_epoch: follower.epoch,
                epoch_start: Offset::ZERO,
                offline: false,
            },
            Role::Leader(leads) => RoleView {
                is_leader: true,
                leader,
                leader_epoch: leads.epoch,
                epoch_start: leads.epoch_start,
                offline: false,
            },
        };
        self.role.store(Arc::new(view));
    }

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
        let (mut appended, flush) = self.append_locked(batch, all, origin, now)?;
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
        now: Now,
    ) -> Result<(Appended, Option<Flush>), AppendRefused> {
        let mut inner = self.lock();
        let min_insync = inner.min_insync;
        let Inner { log, role, .. } = &mut *inner;
        let (Some(log), Role::Leader(leader)) = (log, role) else {
            return Err(refused(ErrorCode::NotLeaderOrFollower));
        };
        if all && !leader.has_enough_in_sync(min_insync) {
            let (have, want) = (leader.isr.len(), leader.min_isr(min_insync));
            let why = format!(
                "{have} replicas of {} are in sync, {want} are wanted",
                self.name
            );
            return Err(AppendRefused::Refused(ErrorCode::NotEnoughReplicas, why));
        }
        let done = log.append_as_leader(batch, leader.epoch, origin, now)?;
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

    /// Moves the high watermark as far as the in-sync replicas allow; never back.
    fn advance_high_watermark(&self, inner: &mut Inner) -> bool {
        let (Some(log), Role::Leader(leader)) = (&inner.log, &inner.role) else {
            return false;
        };
        if !leader.has_enough_in_sync(inner.min_insync) {
            return false;
        }
        let held = match log.options().flush_messages {
            1 => self.reader.recovery_point(),
            _ => self.reader.log_end(),
        };
        let replicated = leader.replicated(held);
        self.raise_high_watermark(inner, replicated)
    }

    fn raise_high_watermark(&self, inner: &mut Inner, to: Offset) -> bool {
        let before = self.high_watermark();
        if to <= before {
            return false;
        }
        if let Some(log) = &mut inner.log {
            log.on_high_watermark(to);
        }
        self.high_watermark.store(to.0, Ordering::Release);
        true
    }

    /// Notes a follower's fetch; whether the high watermark moved.
    pub fn on_fetch(
        &self,
        follower: BrokerId,
        fetched_from: Offset,
        broker_epoch: i64,
        now: Now,
    ) -> Result<bool, ErrorCode> {
        let mut inner = self.lock();
        let log_end = self.reader.log_end();
        let Role::Leader(leader) = &mut inner.role else {
            return Err(ErrorCode::NotLeaderOrFollower);
        };
        if !leader.on_fetch(follower, fetched_from, broker_epoch, log_end, now) {
            return Err(ErrorCode::UnknownLeaderEpoch);
        }
        Ok(self.advance_high_watermark(&mut inner))
    }

    /// In-sync replicas that have fallen behind.
    pub fn lagging(&self, lag_max: Duration, now: Now) -> Vec<BrokerId> {
        let inner = self.lock();
        match &inner.role {
            Role::Leader(leader) => leader.lagging(lag_max, self.reader.log_end(), now),
            _ => Vec::new(),
        }
    }

    /// Moves the log's start (DeleteRecords); −1 stands for the high watermark. Returns the new start.
    pub fn delete_records(&self, before: Offset) -> Result<Offset, AppendRefused> {
        let mut inner = self.lock();
        let Inner { log, role, .. } = &mut *inner;
        let (Some(log), Role::Leader(_)) = (log, role) else {
            return Err(refused(ErrorCode::NotLeaderOrFollower));
        };
        let high_watermark = self.high_watermark();
        let target = match before {
            Offset::NONE => high_watermark,
            offset => offset,
        };
        if target < Offset::ZERO || target > high_watermark {
            return Err(refused(ErrorCode::OffsetOutOfRange));
        }
        log.advance_log_start(target);
        Ok(self.reader.log_start())
    }
}

fn refused(code: ErrorCode) -> AppendRefused {
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
