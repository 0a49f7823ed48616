//! What a replica may do. A role is made from committed metadata and consumed by the next one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use milena_base::{BrokerId, Epoch, ErrorCode, Instant, Now, Offset};

use crate::IsrProposal;

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

impl Role {
    /// Whether this role is from later metadata.
    pub(crate) fn is_newer_than(&self, assignment: &Assignment) -> bool {
        let (leader_epoch, partition_epoch) = match self {
            Role::Offline => return false,
            Role::Follower(follower) => (follower.epoch, follower.partition_epoch),
            Role::Leader(leader) => (leader.epoch, leader.partition_epoch),
        };
        leader_epoch > assignment.leader_epoch || partition_epoch > assignment.partition_epoch
    }
}

/// Copies from the leader.
#[derive(Debug)]
pub struct Follower {
    pub leader: BrokerId,
    pub epoch: Epoch,
    pub partition_epoch: i32,
}

/// What a follower's fetch says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchNote {
    pub follower: BrokerId,
    /// Where it fetches from: its log's end.
    pub offset: Offset,
    pub log_start: Offset,
    /// −1 where the request does not say.
    pub broker_epoch: i64,
}

/// What the leader knows of another replica.
#[derive(Clone, Copy, Debug)]
struct Peer {
    log_end: Offset,
    log_start: Offset,
    /// When it was last seen to hold everything up to the leader's end of that moment.
    caught_up_at: Instant,
    /// The leader's end when it last fetched, and when that was.
    last_seen: (Offset, Instant),
    broker_epoch: i64,
    /// It fetched since it was last proposed to leave: only then it may join, as in Kafka. Its log's end alone says
    /// nothing of whether it lives, and who lags would leave and join in turn.
    fetched: bool,
}

impl Peer {
    /// A follower in the in-sync set is believed for one lag period; another has to fetch first.
    fn unseen(in_sync: bool, now: Now) -> Peer {
        let since = if in_sync { now.mono } else { Instant::ZERO };
        Peer {
            log_end: Offset::NONE,
            log_start: Offset::NONE,
            caught_up_at: since,
            last_seen: (Offset::MAX, since),
            broker_epoch: -1,
            fetched: false,
        }
    }
}

/// Accepts appends.
///
/// Invariants: `isr` holds this replica and is a subset of the replicas; the high watermark is at most the smallest
/// log end of `isr` ∪ `pending`, and moves only while `isr` has at least the effective minimum.
#[derive(Debug)]
pub struct Leader {
    me: BrokerId,
    pub epoch: Epoch,
    pub partition_epoch: i32,
    /// The log end when this epoch began: who has not reached it may not join the in-sync replicas (KAFKA-7128).
    pub epoch_start: Offset,
    /// As the controller committed them.
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
        let unseen = |id: &BrokerId| (*id, Peer::unseen(assignment.isr.contains(id), now));
        Leader {
            me,
            epoch: assignment.leader_epoch,
            partition_epoch: assignment.partition_epoch,
            epoch_start: log_end,
            isr: assignment.isr.iter().copied().collect(),
            pending: None,
            recovering: assignment.recovering,
            peers: others.map(unseen).collect(),
            replicas: assignment.replicas.len(),
        }
    }

    /// Keeps what this replica knew of the others when it led the epoch before; but who is in sync has to show it
    /// anew.
    pub(crate) fn remember(&mut self, before: &Leader) {
        for (id, peer) in &mut self.peers {
            if let Some(known) = before.peers.get(id) {
                peer.log_end = known.log_end;
                peer.log_start = known.log_start;
                peer.broker_epoch = known.broker_epoch;
                peer.last_seen.0 = self.epoch_start;
            }
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

    /// The controller committed this leader's proposal.
    pub(crate) fn commit(&mut self, partition_epoch: i32, isr: &[BrokerId]) {
        self.partition_epoch = partition_epoch;
        self.isr = isr.iter().copied().collect();
        self.pending = None;
        self.recovering = false;
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

    /// The smallest log start of the other replicas in `alive`; `None` without one.
    pub(crate) fn low_watermark(&self, alive: impl Fn(BrokerId) -> bool) -> Option<Offset> {
        let alive = self.peers.iter().filter(|(id, _)| alive(**id));
        alive.map(|(_, peer)| peer.log_start).min()
    }

    /// Notes a follower's fetch; see [`Partition::on_fetch`](crate::Partition::on_fetch).
    pub fn on_fetch(
        &mut self,
        fetch: &FetchNote,
        log_end: Offset,
        now: Now,
    ) -> Result<(), ErrorCode> {
        let Some(peer) = self.peers.get_mut(&fetch.follower) else {
            return Err(ErrorCode::UnknownLeaderEpoch);
        };
        if fetch.broker_epoch != -1 && fetch.broker_epoch < peer.broker_epoch {
            return Err(ErrorCode::NotLeaderOrFollower);
        }
        if fetch.offset >= log_end {
            peer.caught_up_at = peer.caught_up_at.max(now.mono);
        } else if fetch.offset >= peer.last_seen.0 {
            peer.caught_up_at = peer.caught_up_at.max(peer.last_seen.1);
        }
        peer.last_seen = (log_end, now.mono);
        peer.log_end = fetch.offset;
        peer.log_start = fetch.log_start;
        peer.broker_epoch = fetch.broker_epoch;
        peer.fetched = true;
        Ok(())
    }

    /// Whether a follower may be proposed for the in-sync replicas.
    pub fn may_join(&self, follower: BrokerId, high_watermark: Offset) -> bool {
        let peer = self.peers.get(&follower);
        !self.isr.contains(&follower)
            && self.pending.is_none()
            && peer.is_some_and(|p| p.log_end >= high_watermark && p.log_end >= self.epoch_start)
    }

    pub(crate) fn readable_at(&self, offset: Offset) -> Vec<(BrokerId, Offset)> {
        let peers = self.peers.iter();
        let readable = peers.filter(|(id, peer)| {
            self.isr.contains(id) && peer.log_end >= offset && peer.log_start <= offset
        });
        readable.map(|(id, peer)| (*id, peer.log_end)).collect()
    }

    /// The first follower that may be proposed and that `eligible` lets pass, given its broker epoch.
    pub(crate) fn joining(
        &self,
        high_watermark: Offset,
        eligible: impl Fn(BrokerId, i64) -> bool,
    ) -> Option<BrokerId> {
        let candidates = self.peers.iter();
        let mut fit = candidates.filter(|(id, peer)| {
            peer.fetched && self.may_join(**id, high_watermark) && eligible(**id, peer.broker_epoch)
        });
        fit.next().map(|(id, _)| *id)
    }

    /// Notes a change that is proposed.
    pub(crate) fn propose(&mut self, isr: BTreeSet<BrokerId>) {
        for gone in self.isr.difference(&isr) {
            if let Some(peer) = self.peers.get_mut(gone) {
                peer.fetched = false;
            }
        }
        self.pending = Some(isr);
    }

    pub(crate) fn proposal(&self, isr: &BTreeSet<BrokerId>) -> IsrProposal {
        let epoch = |id: &BrokerId| self.peers.get(id).map_or(-1, |peer| peer.broker_epoch);
        IsrProposal {
            leader_epoch: self.epoch,
            partition_epoch: self.partition_epoch,
            isr: isr.iter().map(|id| (*id, epoch(id))).collect(),
        }
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
