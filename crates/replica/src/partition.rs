//! A partition: its role, its log and its high watermark.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use arc_swap::ArcSwap;
use milena_base::{BrokerId, Epoch, ErrorCode, Now, Offset, TopicIdPartition, TopicPartition};
use milena_log::{Log, LogReader};

use crate::role::{Assignment, Follower, Leader, Role};
use crate::verify::Verifying;

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

    /// Why an offline replica answers nothing.
    fn check_online(&self) -> Result<(), ErrorCode> {
        match (self.offline, self.leader_epoch) {
            (false, _) => Ok(()),
            (true, Epoch::NONE) => Err(ErrorCode::NotLeaderOrFollower),
            (true, _) => Err(ErrorCode::KafkaStorageError),
        }
    }

    fn check_leads(&self) -> Result<(), ErrorCode> {
        match self.is_leader {
            true => Ok(()),
            false => Err(ErrorCode::NotLeaderOrFollower),
        }
    }
}

/// A partition's offsets, loaded together: `log_start` ≤ `last_stable` ≤ `high_watermark` ≤ `log_end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    pub log_start: Offset,
    /// Below it every transaction is decided.
    pub last_stable: Offset,
    pub high_watermark: Offset,
    pub log_end: Offset,
}

pub(crate) struct Inner {
    /// `None` once it was closed or given up.
    pub log: Option<Log>,
    pub role: Role,
    pub min_insync: i32,
    pub verifying: Verifying,
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
        mut log: Log,
        high_watermark: Offset,
    ) -> Partition {
        let reader = log.reader();
        let bounded = high_watermark.clamp(reader.log_start(), reader.log_end());
        // Transactions that were found ended below it hold nobody up.
        log.on_high_watermark(bounded);
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
                verifying: Verifying::default(),
            }),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
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
        self.leader_for(-1)
    }

    /// The same for a client that believes in a leader epoch (−1: in none), which is checked before leadership, as
    /// in Kafka.
    pub fn leader_for(&self, claimed_epoch: i32) -> Result<RoleView, ErrorCode> {
        let role = self.role();
        role.check_online()?;
        role.check_epoch(claimed_epoch)?;
        role.check_leads()?;
        Ok(role)
    }

    /// The same for a reader at any replica (KIP-392).
    pub fn replica_for(&self, claimed_epoch: i32) -> Result<RoleView, ErrorCode> {
        let role = self.role();
        role.check_online()?;
        role.check_epoch(claimed_epoch)?;
        Ok(role)
    }

    pub fn reader(&self) -> &LogReader {
        &self.reader
    }

    pub fn high_watermark(&self) -> Offset {
        Offset(self.high_watermark.load(Ordering::Acquire))
    }

    /// The last stable offset: below it every transaction is decided.
    pub fn last_stable(&self) -> Offset {
        self.offsets().last_stable
    }

    /// The offsets, in the order of the crate's words.
    pub fn offsets(&self) -> Offsets {
        let log_start = self.reader.log_start();
        let high_watermark = self.high_watermark().max(log_start);
        let stable = self.reader.last_stable_offset(high_watermark);
        Offsets {
            log_start,
            // The log moves its start before it forgets the transactions below it.
            last_stable: stable.max(log_start),
            high_watermark,
            log_end: self.reader.log_end(),
        }
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

    /// `min.insync.replicas` of the topic; whether the high watermark moved.
    pub fn set_min_insync(&self, min_insync: i32) -> bool {
        let mut inner = self.lock();
        inner.min_insync = min_insync;
        self.advance_high_watermark(&mut inner)
    }

    /// Leads from here on, under committed metadata. Returns whether the high watermark moved. Metadata older than
    /// what this replica knows changes nothing: the answer to its own AlterPartition may have come before.
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
        if role.is_newer_than(assignment) {
            return false;
        }
        match role {
            Role::Leader(leader) if leader.epoch == assignment.leader_epoch => {
                if assignment.partition_epoch > leader.partition_epoch {
                    leader.update(assignment, now);
                }
            }
            _ => {
                let end = log.reader().log_end();
                log.assign_epoch_start(assignment.leader_epoch, end);
                let mut leads = Leader::new(self.me, assignment, end, now);
                if let Role::Leader(before) = role {
                    leads.remember(before);
                }
                *role = Role::Leader(leads);
            }
        }
        let moved = self.advance_high_watermark(&mut inner);
        self.publish_role(&inner.role);
        moved
    }

    /// Follows `assignment.leader` from here on. Nothing is truncated here: that is decided when the leader's
    /// epochs are known ([`Partition::truncate_as_told`]).
    pub fn follow(&self, assignment: &Assignment) {
        let mut inner = self.lock();
        if inner.log.is_none() || inner.role.is_newer_than(assignment) {
            return;
        }
        inner.role = Role::Follower(Follower {
            leader: assignment.leader,
            epoch: assignment.leader_epoch,
            partition_epoch: assignment.partition_epoch,
        });
        self.publish_role(&inner.role);
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

    fn publish_role(&self, role: &Role) {
        let view = match role {
            Role::Offline => RoleView::OFFLINE,
            Role::Follower(follower) => RoleView {
                is_leader: false,
                leader: follower.leader,
                leader_epoch: follower.epoch,
                epoch_start: Offset::ZERO,
                offline: false,
            },
            Role::Leader(leads) => RoleView {
                is_leader: true,
                leader: self.me,
                leader_epoch: leads.epoch,
                epoch_start: leads.epoch_start,
                offline: false,
            },
        };
        self.role.store(Arc::new(view));
    }

    /// Moves the high watermark as far as the in-sync replicas allow; never back. Whether it moved.
    pub(crate) fn advance_high_watermark(&self, inner: &mut Inner) -> bool {
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

    pub(crate) fn raise_high_watermark(&self, inner: &mut Inner, to: Offset) -> bool {
        let moves = to > self.high_watermark();
        if moves {
            if let Some(log) = &mut inner.log {
                log.on_high_watermark(to);
            }
            self.high_watermark.store(to.0, Ordering::Release);
        }
        moves
    }

    /// A truncation takes the high watermark with it, before the log's end falls. `inner` shows that the caller
    /// holds the lock.
    pub(crate) fn lower_high_watermark(&self, _inner: &mut Inner, to: Offset) {
        if to < self.high_watermark() {
            self.high_watermark.store(to.0, Ordering::Release);
        }
    }
}
