//! Changes of the in-sync replicas: proposed by the leader, committed by the controller (AlterPartition, KIP-497).

use std::collections::BTreeSet;
use std::time::Duration;

use milena_base::{BrokerId, Epoch, ErrorCode, Now, Offset};

use crate::Partition;
use crate::role::{FetchNote, Leader, Role};

/// What the leader asks the controller to commit, always as RECOVERED.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsrProposal {
    pub leader_epoch: Epoch,
    /// The partition epoch that this builds on.
    pub partition_epoch: i32,
    /// The new in-sync replicas with the broker epoch under which each last fetched (−1: not known). The caller
    /// puts its own for this broker.
    pub isr: Vec<(BrokerId, i64)>,
}

/// What a follower's fetch brought about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Noted {
    pub high_watermark_moved: bool,
    /// The follower may be one to propose ([`Partition::propose_isr`]), as far as its log goes.
    pub may_join: bool,
}

/// What became of a proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IsrAnswer {
    /// Committed (or so already): what the controller has now.
    Committed {
        leader_epoch: Epoch,
        partition_epoch: i32,
        isr: Vec<BrokerId>,
    },
    Failed(ErrorCode),
}

impl Partition {
    /// Notes a follower's fetch.
    ///
    /// Errors: UNKNOWN_LEADER_EPOCH where it is no replica that this leader knows yet, NOT_LEADER_OR_FOLLOWER for a
    /// broker's earlier life.
    pub fn on_fetch(&self, fetch: &FetchNote, now: Now) -> Result<Noted, ErrorCode> {
        let mut inner = self.lock();
        let log_end = self.reader().log_end();
        let Role::Leader(leader) = &mut inner.role else {
            return Err(ErrorCode::NotLeaderOrFollower);
        };
        leader.on_fetch(fetch, log_end, now)?;
        let may_join = leader.may_join(fetch.follower, self.high_watermark());
        Ok(Noted {
            high_watermark_moved: self.advance_high_watermark(&mut inner),
            may_join,
        })
    }

    /// Whether this leader has a replica among the in-sync ones.
    pub fn is_in_sync(&self, replica: BrokerId) -> bool {
        match &self.lock().role {
            Role::Leader(leader) => leader.isr.contains(&replica),
            Role::Follower(_) | Role::Offline => false,
        }
    }

    /// Other in-sync replicas that have this offset, with their logs' ends (KIP-392).
    pub fn readable_at(&self, offset: Offset) -> Vec<(BrokerId, Offset)> {
        match &self.lock().role {
            Role::Leader(leader) => leader.readable_at(offset),
            Role::Follower(_) | Role::Offline => Vec::new(),
        }
    }

    /// In-sync replicas that have fallen behind.
    pub fn lagging(&self, lag_max: Duration, now: Now) -> Vec<BrokerId> {
        let inner = self.lock();
        match &inner.role {
            Role::Leader(leader) => leader.lagging(lag_max, self.reader().log_end(), now),
            Role::Follower(_) | Role::Offline => Vec::new(),
        }
    }

    /// The change that is due, if any: replicas that lag leave, one that has caught up joins, a partition that was
    /// elected while recovering says that it has. `eligible` tells whether a broker, last seen under this broker
    /// epoch, may join as far as metadata goes: not fenced, not shutting down, epoch current (KIP-841, KIP-903).
    /// To be asked now and then and after a follower's fetch. Until [`Partition::on_isr_answer`] nothing more is
    /// proposed, and who may have joined holds the high watermark back.
    pub fn propose_isr(
        &self,
        lag_max: Duration,
        eligible: impl Fn(BrokerId, i64) -> bool,
        now: Now,
    ) -> Option<IsrProposal> {
        let mut inner = self.lock();
        let log_end = self.reader().log_end();
        let high_watermark = self.high_watermark();
        let Role::Leader(leader) = &mut inner.role else {
            return None;
        };
        if leader.pending.is_some() {
            return None;
        }
        let lagging = leader.lagging(lag_max, log_end, now);
        let joining = leader.joining(high_watermark, eligible);
        let wanted: BTreeSet<BrokerId> = match (lagging.is_empty(), joining) {
            (false, _) => leader
                .isr
                .iter()
                .filter(|id| !lagging.contains(id))
                .copied()
                .collect(),
            (true, Some(id)) => leader.isr.iter().copied().chain([id]).collect(),
            (true, None) if leader.recovering => leader.isr.clone(),
            (true, None) => return None,
        };
        let proposal = leader.proposal(&wanted);
        leader.propose(wanted);
        Some(proposal)
    }

    /// Takes over what the controller said to a proposal. Whether the high watermark moved, and whether to send
    /// the same proposal again.
    pub fn on_isr_answer(&self, proposal: &IsrProposal, answer: &IsrAnswer) -> (bool, bool) {
        let mut inner = self.lock();
        let Role::Leader(leader) = &mut inner.role else {
            return (false, false);
        };
        let stale = leader.epoch != proposal.leader_epoch
            || leader.partition_epoch != proposal.partition_epoch;
        if stale || leader.pending.is_none() {
            return (false, false); // metadata was faster
        }
        match answer {
            IsrAnswer::Committed {
                leader_epoch,
                partition_epoch,
                isr,
            } => {
                if *leader_epoch == leader.epoch && *partition_epoch >= leader.partition_epoch {
                    leader.commit(*partition_epoch, isr);
                }
                (self.advance_high_watermark(&mut inner), false)
            }
            IsrAnswer::Failed(code) => (false, failed(leader, *code)),
        }
    }
}

/// Whether to send it again. Where the controller certainly did not apply it, the leader is free to propose anew;
/// otherwise the proposal stands until metadata tells what happened.
fn failed(leader: &mut Leader, code: ErrorCode) -> bool {
    match code {
        ErrorCode::OperationNotAttempted | ErrorCode::IneligibleReplica => {
            leader.pending = None;
            false
        }
        ErrorCode::UnknownTopicOrPartition
        | ErrorCode::UnknownTopicId
        | ErrorCode::FencedLeaderEpoch
        | ErrorCode::InvalidUpdateVersion
        | ErrorCode::InvalidRequest
        | ErrorCode::NewLeaderElected => false,
        _ => true,
    }
}
