//! The roles of a replica. A transition consumes the old role; what must survive it (the vote, the known leader) is
//! carried over by name.

use std::collections::BTreeSet;

use milena_base::{BrokerId, Epoch, Instant};

use crate::leader::Leader;
use crate::log::SnapshotId;
use crate::message::Peer;
use crate::quorum_state::QuorumState;
use crate::voters::{ReplicaKey, VoterSet};

/// What this replica is in its epoch.
#[derive(Debug)]
pub(crate) enum Role {
    /// Knows no leader that it could fetch from.
    Unattached(Unattached),
    /// Asks whether it would win (pre-vote, KIP-996), before it disturbs anybody with a new epoch.
    Prospective(Canvass),
    /// Asks for votes.
    Candidate(Canvass),
    Follower(Follower),
    Leader(Box<Leader>),
    /// Led this epoch before a restart, or gave it up.
    Resigned(Resigned),
}

#[derive(Debug)]
pub(crate) struct Unattached {
    /// The leader of the epoch, if known, though not where it is.
    pub leader: Option<BrokerId>,
    pub voted: Option<ReplicaKey>,
    pub election_at: Instant,
}

#[derive(Debug)]
pub(crate) struct Canvass {
    /// The leader of the epoch before the fetch timeout, to follow again if the pre-vote is lost.
    pub leader: Option<Peer>,
    pub voted: Option<ReplicaKey>,
    pub granted: BTreeSet<BrokerId>,
    pub rejected: BTreeSet<BrokerId>,
    pub election_at: Instant,
    /// A candidate that can't win any more waits so long.
    pub back_off_until: Option<Instant>,
    /// Elections in a row, this one included.
    pub attempt: u32,
}

impl Canvass {
    pub fn is_won(&self, voters: &VoterSet) -> bool {
        let granted = voters.ids().filter(|id| self.granted.contains(id)).count();
        granted >= voters.majority()
    }

    /// Whether so many rejected that a majority is out of reach.
    pub fn is_lost(&self, voters: &VoterSet) -> bool {
        let rejected = voters.ids().filter(|id| self.rejected.contains(id)).count();
        voters.len() - rejected < voters.majority()
    }

    /// Whether this voter has not answered.
    pub fn is_open(&self, id: BrokerId) -> bool {
        !self.granted.contains(&id) && !self.rejected.contains(&id)
    }
}

#[derive(Debug)]
pub(crate) struct Follower {
    pub leader: Peer,
    pub voted: Option<ReplicaKey>,
    /// When the leader counts as gone.
    pub fetch_at: Instant,
    /// Whether the leader has answered a fetch.
    pub has_fetched: bool,
    /// When a voter next looks whether the leader knows it as it is, and an observer whether it wants to be a voter.
    pub update_at: Instant,
    /// Whether this leader was told how this voter is (`kraft.version` 0, where no record says so).
    pub has_updated: bool,
    /// Something was appended and is not on disk yet: the next fetch would say that it is.
    pub unflushed: bool,
    pub download: Option<Download>,
}

/// A snapshot that is being fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Download {
    pub id: SnapshotId,
    pub position: u64,
}

#[derive(Debug)]
pub(crate) struct Resigned {
    /// Voters that have not been told yet.
    pub unacknowledged: BTreeSet<BrokerId>,
    pub successors: Vec<ReplicaKey>,
    pub election_at: Instant,
}

impl Role {
    /// What has to be on disk for this role.
    pub fn quorum_state(&self, epoch: Epoch, local: BrokerId) -> QuorumState {
        let (leader, voted) = match self {
            Role::Unattached(role) => (role.leader, role.voted),
            Role::Prospective(role) | Role::Candidate(role) => {
                (role.leader.as_ref().map(|peer| peer.id), role.voted)
            }
            Role::Follower(role) => (Some(role.leader.id), role.voted),
            Role::Leader(_) | Role::Resigned(_) => (Some(local), None),
        };
        QuorumState {
            epoch,
            leader,
            voted,
        }
    }

    /// The leader of the epoch, as others are told.
    pub fn leader(&self, local: BrokerId) -> Option<BrokerId> {
        match self {
            Role::Unattached(role) => role.leader,
            Role::Prospective(role) | Role::Candidate(role) => {
                role.leader.as_ref().map(|peer| peer.id)
            }
            Role::Follower(role) => Some(role.leader.id),
            Role::Leader(_) | Role::Resigned(_) => Some(local),
        }
    }

    /// Whom this replica voted for in this epoch.
    pub fn voted(&self) -> Option<ReplicaKey> {
        match self {
            Role::Unattached(role) => role.voted,
            Role::Prospective(role) | Role::Candidate(role) => role.voted,
            Role::Follower(role) => role.voted,
            Role::Leader(_) | Role::Resigned(_) => None,
        }
    }
}
