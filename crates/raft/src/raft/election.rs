//! Elections: pre-vote, vote, and how a vote is given. KIP-595, KIP-996.

use std::collections::BTreeSet;
use std::time::Duration;

use milena_base::{BrokerId, Epoch, ErrorCode, Instant, Now, Offset};
use milena_protocol::vote_request::{self, VoteRequest};
use milena_protocol::vote_response::{self, VoteResponse};

use super::Raft;
use crate::batch::{ControlRecord, control_batch};
use crate::leader::Leader;
use crate::log::{Fault, OffsetAndEpoch};
use crate::message::{Effect, METADATA_TOPIC, Peer, RaftRequest, Unanswered};
use crate::role::{Canvass, Role, Unattached};
use crate::voters::ReplicaKey;

/// Unit of the pause before another election.
const BACKOFF_BASE: Duration = Duration::from_millis(100);

impl Raft {
    /// Asks the others whether they would vote for this replica.
    pub(super) fn become_prospective(
        &mut self,
        leader: Option<Peer>,
        now: Now,
        out: &mut Vec<Effect>,
    ) -> Result<(), Fault> {
        let attempt = match &self.role {
            Role::Candidate(role) => role.attempt,
            _ => 0,
        };
        let voted = self.role.voted();
        let canvass = self.canvass(leader, voted, attempt, now.mono);
        self.become_role(Role::Prospective(canvass), out)
    }

    /// Asks for votes in a new epoch, its own given.
    pub(super) fn become_candidate(
        &mut self,
        now: Now,
        out: &mut Vec<Effect>,
    ) -> Result<(), Fault> {
        let attempt = match &self.role {
            Role::Prospective(role) => role.attempt + 1,
            _ => 1,
        };
        self.epoch = self.epoch.next();
        let canvass = self.canvass(None, Some(self.config.key()), attempt, now.mono);
        self.become_role(Role::Candidate(canvass), out)
    }

    fn canvass(
        &mut self,
        leader: Option<Peer>,
        voted: Option<ReplicaKey>,
        attempt: u32,
        now: Instant,
    ) -> Canvass {
        Canvass {
            leader,
            voted,
            granted: self
                .is_voter()
                .then_some(self.config.node)
                .into_iter()
                .collect(),
            rejected: BTreeSet::new(),
            election_at: self.election_time(now),
            back_off_until: None,
            attempt,
        }
    }

    /// The role of knowing no leader in a later epoch than this.
    pub(super) fn become_unattached(
        &mut self,
        epoch: Epoch,
        now: Now,
        out: &mut Vec<Effect>,
    ) -> Result<(), Fault> {
        // A replica that waits for an election goes on waiting, so that a stream of candidates can't keep it from one.
        let election_at = match &self.role {
            Role::Unattached(role) => role.election_at,
            Role::Prospective(role) | Role::Candidate(role) => role.election_at,
            _ => self.election_time(now.mono),
        };
        self.epoch = epoch;
        self.become_role(
            Role::Unattached(Unattached {
                leader: None,
                voted: None,
                election_at,
            }),
            out,
        )
    }

    pub(super) fn poll_canvass(&mut self, now: Now, out: &mut Vec<Effect>) -> Result<bool, Fault> {
        let (role, pre_vote) = match &self.role {
            Role::Prospective(role) => (role, true),
            Role::Candidate(role) => (role, false),
            _ => return Ok(false),
        };
        let voters = self.control.voters();
        let expired = role.election_at <= now.mono;
        if role.is_won(voters) {
            if pre_vote {
                self.become_candidate(now, out)?;
            } else {
                self.become_leader(now, out)?;
            }
            return Ok(true);
        }
        if self.stopping {
            return Ok(false);
        }
        if pre_vote && (role.is_lost(voters) || expired) {
            self.give_up_pre_vote(now, out)?;
            return Ok(true);
        }
        match role.back_off_until {
            Some(until) if until <= now.mono => {
                self.become_prospective(None, now, out)?;
                return Ok(true);
            }
            Some(_) => return Ok(false),
            None if !pre_vote && (role.is_lost(voters) || expired) => self.back_off(now.mono),
            None => self.send_votes(pre_vote, now, out),
        }
        Ok(false)
    }

    /// A pre-vote that was lost leaves things as they were.
    fn give_up_pre_vote(&mut self, now: Now, out: &mut Vec<Effect>) -> Result<(), Fault> {
        let Role::Prospective(role) = &self.role else {
            return Ok(());
        };
        let (leader, voted) = (role.leader.clone(), role.voted);
        let role = match leader {
            Some(leader) => self.follower(leader, voted, now.mono),
            None => Role::Unattached(Unattached {
                leader: None,
                voted,
                election_at: self.election_time(now.mono),
            }),
        };
        self.become_role(role, out)
    }

    fn back_off(&mut self, now: Instant) {
        let Role::Candidate(role) = &self.role else {
            return;
        };
        let steps = self.prng.below(2 << role.attempt.saturating_sub(1).min(20));
        let pause = (BACKOFF_BASE * steps as u32).min(self.config.election_backoff_max);
        if let Role::Candidate(role) = &mut self.role {
            role.back_off_until = Some(now + pause);
        }
    }

    /// Voters whose answer is open.
    pub(super) fn open_voters(&self, role: &Canvass) -> Vec<BrokerId> {
        let ids = self.control.voters().ids();
        ids.filter(|&id| role.is_open(id)).collect()
    }

    fn send_votes(&mut self, pre_vote: bool, now: Now, out: &mut Vec<Effect>) {
        let open = match &self.role {
            Role::Prospective(role) | Role::Candidate(role) => self.open_voters(role),
            _ => return,
        };
        for peer in open
            .into_iter()
            .filter_map(|id| self.voter_peer(id))
            .collect::<Vec<_>>()
        {
            let id = peer.id;
            self.send(peer, |raft| raft.vote_request(id, pre_vote), now, out);
        }
    }

    fn vote_request(&self, voter: BrokerId, pre_vote: bool) -> RaftRequest {
        let end = self.end();
        let voter_directory = self.control.voters().get(voter);
        let partition = vote_request::PartitionData {
            partition_index: 0,
            replica_epoch: self.epoch.0,
            replica_id: self.config.node.0,
            replica_directory_id: self.config.directory,
            voter_directory_id: voter_directory
                .map_or_else(Default::default, |voter| voter.key.directory_or_zero()),
            last_offset_epoch: end.epoch.0,
            last_offset: end.offset.0,
            pre_vote,
        };
        RaftRequest::Vote(VoteRequest {
            cluster_id: Some(self.config.cluster_id.clone().into()),
            voter_id: voter.0,
            topics: vec![vote_request::TopicData {
                topic_name: METADATA_TOPIC.into(),
                partitions: vec![partition],
            }],
        })
    }

    /// Won: begins the epoch with a control batch. Nothing of earlier epochs counts as committed before it does.
    fn become_leader(&mut self, now: Now, out: &mut Vec<Effect>) -> Result<(), Fault> {
        let Role::Candidate(role) = &self.role else {
            return Ok(());
        };
        let granting: Vec<BrokerId> = role.granted.iter().copied().collect();
        let voters = self.control.voters();
        let mut records = vec![ControlRecord::leader_change(
            self.config.node,
            voters,
            &granting,
        )];
        records.extend(self.voters_to_write());
        let leader = Leader::new(
            self.config.key(),
            self.epoch,
            self.log.end_offset(),
            voters,
            self.config.fetch_timeout,
            now.mono,
        );
        self.high_watermark = None;
        self.become_role(Role::Leader(Box::new(leader)), out)?;
        self.log.start_epoch(self.epoch)?;
        let batch = control_batch(&records, now.wall).build();
        self.log.append_as_leader(batch, self.epoch, now)?;
        self.after_append(now, out)
    }

    /// A dynamic quorum's first leader writes what the bootstrap snapshot said into the log; a leader whose own entry is
    /// out of date writes it anew.
    fn voters_to_write(&self) -> Vec<ControlRecord> {
        let version = self.control.kraft_version();
        let Some(offset) = self.control.voters_offset().filter(|_| version > 0) else {
            return Vec::new();
        };
        let (voters, own) = (self.control.voters(), self.config.voter());
        if offset >= Offset::ZERO && voters.get(self.config.node) == Some(&own) {
            return Vec::new();
        }
        let Some(updated) = voters.with_updated(own) else {
            return Vec::new();
        };
        vec![
            ControlRecord::KRaftVersion(version),
            ControlRecord::Voters(updated.to_record()),
        ]
    }

    pub(super) fn on_vote(
        &mut self,
        request: VoteRequest,
        now: Now,
        out: &mut Vec<Effect>,
    ) -> Result<VoteResponse, Fault> {
        let asked = match self.vote_partition(&request) {
            Ok(partition) => partition.clone(),
            Err(error) => return Ok(self.vote_refused(error)),
        };
        let epoch = Epoch(asked.replica_epoch);
        let last = OffsetAndEpoch::new(asked.last_offset, asked.last_offset_epoch);
        let impossible = last.offset.0 < 0
            || last.epoch.0 < 0
            || (asked.pre_vote && last.epoch > epoch)
            || (!asked.pre_vote && last.epoch >= epoch);
        if impossible || asked.replica_id < 0 {
            return Ok(self.vote_answer(ErrorCode::InvalidRequest, false));
        }
        if epoch < self.epoch {
            return Ok(self.vote_answer(ErrorCode::FencedLeaderEpoch, false));
        }
        if epoch > self.epoch {
            self.become_unattached(epoch, now, out)?;
        }
        if !self.is_meant(request.voter_id, asked.voter_directory_id) {
            return Ok(self.vote_answer(ErrorCode::InvalidVoterKey, false));
        }
        let candidate = ReplicaKey::new(BrokerId(asked.replica_id), asked.replica_directory_id);
        let granted = self.would_vote(candidate, last >= self.end(), asked.pre_vote);
        if granted && !asked.pre_vote {
            self.vote_for(candidate, now, out)?;
        }
        Ok(self.vote_answer(ErrorCode::None, granted))
    }

    fn vote_partition<'a>(
        &self,
        request: &'a VoteRequest,
    ) -> Result<&'a vote_request::PartitionData, ErrorCode> {
        self.check_cluster(request.cluster_id.as_deref())?;
        match request.topics.as_slice() {
            [topic] if &*topic.topic_name == METADATA_TOPIC => match topic.partitions.as_slice() {
                [partition] if partition.partition_index == 0 => Ok(partition),
                _ => Err(ErrorCode::InvalidRequest),
            },
            _ => Err(ErrorCode::InvalidRequest),
        }
    }

    /// Whether this replica gives its vote.
    fn would_vote(&self, candidate: ReplicaKey, up_to_date: bool, pre_vote: bool) -> bool {
        match &self.role {
            Role::Leader(_) => false,
            // A follower whose leader answers has no reason to want another one.
            Role::Follower(role) => pre_vote && up_to_date && !role.has_fetched,
            _ if pre_vote => up_to_date,
            Role::Unattached(_) | Role::Prospective(_) => {
                match (self.role.voted(), self.role.leader(self.config.node)) {
                    (Some(voted), _) => same_vote(voted, candidate),
                    (None, Some(_)) => false,
                    (None, None) => up_to_date,
                }
            }
            Role::Candidate(_) | Role::Resigned(_) => false,
        }
    }

    /// Gives the vote: durable before the answer.
    fn vote_for(
        &mut self,
        candidate: ReplicaKey,
        now: Now,
        out: &mut Vec<Effect>,
    ) -> Result<(), Fault> {
        if self.role.voted().is_some() {
            return Ok(());
        }
        let election_at = self.election_time(now.mono);
        let role = Role::Unattached(Unattached {
            leader: None,
            voted: Some(candidate),
            election_at,
        });
        self.become_role(role, out)
    }

    fn vote_refused(&self, error: ErrorCode) -> VoteResponse {
        VoteResponse {
            error_code: error.code(),
            ..VoteResponse::default()
        }
    }

    fn vote_answer(&self, error: ErrorCode, granted: bool) -> VoteResponse {
        let (leader_id, leader_epoch) = self.leader_fields();
        VoteResponse {
            error_code: ErrorCode::None.code(),
            topics: vec![vote_response::TopicData {
                topic_name: METADATA_TOPIC.into(),
                partitions: vec![vote_response::PartitionData {
                    partition_index: 0,
                    error_code: error.code(),
                    leader_id,
                    leader_epoch,
                    vote_granted: granted,
                }],
            }],
            node_endpoints: self
                .leader_peer()
                .map(|peer| vote_response::NodeEndpoint {
                    node_id: peer.id.0,
                    host: peer.host.into(),
                    port: peer.port,
                })
                .into_iter()
                .collect(),
        }
    }

    pub(super) fn on_vote_response(&mut self, from: BrokerId, granted: bool) {
        if let Role::Prospective(role) | Role::Candidate(role) = &mut self.role {
            match granted {
                true => role.granted.insert(from),
                false => role.rejected.insert(from),
            };
        }
    }

    /// A voter of before KIP-996 can't be asked in advance; it counts as willing.
    pub(super) fn on_vote_unanswered(&mut self, from: BrokerId, why: Unanswered) {
        if let (Role::Prospective(role), Unanswered::UnsupportedVersion) = (&mut self.role, why) {
            role.granted.insert(from);
        }
    }
}

fn same_vote(voted: ReplicaKey, candidate: ReplicaKey) -> bool {
    voted.id == candidate.id
        && (voted.directory.is_none() || voted.directory == candidate.directory)
}
