//! What a replica may do. A role is made from committed metadata and consumed by the next one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use milena_base::{BrokerId, Epoch, Instant, Now, Offset};

/// A partition as committed metadata describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    pub leader: BrokerId,
    pub leader_epoch: Epoch,
    pub partition_epoch: i32,
    pub replicas: Vec<BrokerId>,
    pub isr: Vec<BrokerId>,
    /// The leader was elected uncleanly and has not yet said that it recovered.
    pub recovering: bool,
}

/// Exactly one of these at any time.
#[derive(Debug)]
pub enum Role {
    /// Not assigned yet, or its log directory failed.
    Offline,
    Follower(Follower),
    Leader(Leader),
}

/// Copies from the leader.
#[derive(Debug)]
pub struct Follower {
    pub leader: BrokerId,
    pub epoch: Epoch,
    pub partition_epoch: i32,
}

/// What the leader knows of another replica.
#[derive(Clone, Copy, Debug)]
struct Peer {
    log_end: Offset,
    /// When it was last seen to hold everything up to the leader's end of that moment.
    caught_up_at: Instant,
    /// The leader's end when it last fetched, and when that was.
    last_seen: (Offset, Instant),
    broker_epoch: i64,
}

/// Accepts appends.
///
/// Invariants: `isr` holds this replica and is a subset of the replicas; the high watermark is the smallest
/// log end of `isr` ∪ `pending`, and moves only while `isr` has at least the effective minimum.
#[derive(Debug)]
pub struct Leader {
    me: BrokerId,
    pub epoch: Epoch,
    pub partition_epoch: i32,
    /// The log end when this epoch began: who has not reached it may not join the in-sync replicas (KAFKA-7128).
    pub epoch_start: Offset,
    pub isr: BTreeSet<BrokerId>,
    /// In-sync replicas of a change that the controller has not committed: they hold the watermark back too.
    pub pending: Option<BTreeSet<BrokerId>>,
    pub recovering: bool,
    peers: BTreeMap<BrokerId, Peer>,
    replicas: usize,
}

impl Leader {
    pub fn new(me: BrokerId, assignment: &Assignment, log_end: Offset, now: Now) -> Leader {
        let others = assignment.replicas.iter().filter(|id| **id != me);
        let unseen = Peer {
            log_end: Offset::NONE,
            caught_up_at: now.mono,
            last_seen: (Offset::NONE, now.mono),
            broker_epoch: -1,
        };
        Leader {
            me,
            epoch: assignment.leader_epoch,
            partition_epoch: assignment.partition_epoch,
            epoch_start: log_end,
            isr: assignment.isr.iter().copied().collect(),
            pending: None,
            recovering: assignment.recovering,
            peers: others.map(|id| (*id, unseen)).collect(),
            replicas: assignment.replicas.len(),
        }
    }

    /// Takes over committed metadata of the same leader epoch.
    pub fn update(&mut self, assignment: &Assignment, now: Now) {
        let fresh = Leader::new(self.me, assignment, self.epoch_start, now);
        let known = std::mem::replace(&mut self.peers, fresh.peers);
        for (id, peer) in known {
            if let Some(slot) = self.peers.get_mut(&id) {
                *slot = peer;
            }
        }
        self.partition_epoch = assignment.partition_epoch;
        self.isr = fresh.isr;
        self.pending = None;
        self.recovering = assignment.recovering;
        self.replicas = fresh.replicas;
    }

    /// `min.insync.replicas`, but never more than there are replicas.
    pub fn min_isr(&self, configured: i32) -> usize {
        (configured.max(1) as usize).min(self.replicas)
    }

    pub fn has_enough_in_sync(&self, configured: i32) -> bool {
        self.isr.len() >= self.min_isr(configured)
    }

    /// The offset up to which every member of the maximal in-sync set holds the log.
    pub fn replicated(&self, log_end: Offset) -> Offset {
        let members = self.isr.iter().chain(self.pending.iter().flatten());
        let ends = members.map(|id| {
            if *id == self.me {
                log_end
            } else {
                self.peers.get(id).map_or(Offset::NONE, |peer| peer.log_end)
            }
        });
        ends.min().unwrap_or(log_end).min(log_end)
    }

    /// Notes a follower's fetch. False where it is no replica of this partition.
    pub fn on_fetch(
        &mut self,
        follower: BrokerId,
        fetched_from: Offset,
        broker_epoch: i64,
        log_end: Offset,
        now: Now,
    ) -> bool {
        let Some(peer) = self.peers.get_mut(&follower) else {
            return false;
        };
        if fetched_from >= log_end {
            peer.caught_up_at = now.mono;
        } else if fetched_from >= peer.last_seen.0 {
            peer.caught_up_at = peer.caught_up_at.max(peer.last_seen.1);
        }
        peer.last_seen = (log_end, now.mono);
        peer.log_end = fetched_from;
        peer.broker_epoch = broker_epoch;
        true
    }

    /// Whether a follower may be proposed for the in-sync replicas.
    pub fn may_join(&self, follower: BrokerId, high_watermark: Offset) -> bool {
        let peer = self.peers.get(&follower);
        !self.isr.contains(&follower)
            && self.pending.is_none()
            && peer.is_some_and(|p| p.log_end >= high_watermark && p.log_end >= self.epoch_start)
    }

    /// In-sync replicas that have not been caught up for longer than `lag_max`.
    pub fn lagging(&self, lag_max: Duration, log_end: Offset, now: Now) -> Vec<BrokerId> {
        let late = |id: &&BrokerId| {
            self.peers.get(id).is_some_and(|peer| {
                peer.log_end != log_end && now.mono.since(peer.caught_up_at) > lag_max
            })
        };
        self.isr.iter().filter(late).copied().collect()
    }
}
