//! How an epoch is made known and given up: BeginQuorumEpoch, EndQuorumEpoch, and what any message says of the leader.

use std::time::Duration;

use milena_base::{BrokerId, Epoch, ErrorCode, Now, Uuid};
use milena_protocol::begin_quorum_epoch_request::{self, BeginQuorumEpochRequest};
use milena_protocol::begin_quorum_epoch_response::{self, BeginQuorumEpochResponse};
use milena_protocol::end_quorum_epoch_request::{self, EndQuorumEpochRequest};
use milena_protocol::end_quorum_epoch_response::{self, EndQuorumEpochResponse};

use super::Raft;
use crate::log::Fault;
use crate::message::{Effect, METADATA_TOPIC, Peer, RaftRequest};
use crate::role::Role;
use crate::voters::ReplicaKey;

impl Raft {
    /// Takes over what a message says of the leader, if it is newer. A message that contradicts what is known of this epoch
    /// changes nothing: `false`.
    pub(super) fn learn(
        &mut self,
        epoch: Epoch,
        leader: Option<BrokerId>,
        endpoint: Option<Peer>,
        now: Now,
        out: &mut Vec<Effect>,
    ) -> Result<bool, Fault> {
        let known = self.role.leader(self.config.node);
        if leader == Some(self.config.node) {
            return Ok(epoch <= self.epoch);
        }
        if epoch == self.epoch && leader.is_some() && known.is_some() && leader != known {
            return Ok(false);
        }
        let reachable = leader.and_then(|id| endpoint.or_else(|| self.voter_peer(id)));
        // A replica that lost touch with the leader is not sent back by others that only name it.
        let follows = match &self.role {
            Role::Unattached(_) => true,
            Role::Prospective(role) | Role::Candidate(role) => role.leader.is_none(),
            Role::Follower(_) | Role::Leader(_) | Role::Resigned(_) => false,
        };
        match reachable {
            Some(peer) if epoch > self.epoch || (epoch == self.epoch && follows) => {
                self.become_follower(epoch, peer, now, out)?;
            }
            None if epoch > self.epoch => self.become_unattached(epoch, now, out)?,
            _ => {}
        }
        Ok(true)
    }

    pub(super) fn on_begin_quorum(
        &mut self,
        request: BeginQuorumEpochRequest,
        now: Now,
        out: &mut Vec<Effect>,
    ) -> Result<BeginQuorumEpochResponse, Fault> {
        if let Err(error) = self.check_cluster(request.cluster_id.as_deref()) {
            return Ok(begin_refused(error));
        }
        let Some(asked) = begin_partition(&request) else {
            return Ok(begin_refused(ErrorCode::InvalidRequest));
        };
        let (epoch, leader) = (Epoch(asked.leader_epoch), BrokerId(asked.leader_id));
        if let Some(error) = self.refuse_from_voter(leader, epoch) {
            return Ok(self.begin_answer(error));
        }
        let endpoint = request
            .leader_endpoints
            .iter()
            .find(|e| *e.name == *self.config.listener);
        let endpoint = endpoint.map(|endpoint| Peer {
            id: leader,
            host: endpoint.host.to_string(),
            port: endpoint.port,
        });
        if !self.learn(epoch, Some(leader), endpoint, now, out)? {
            return Ok(self.begin_answer(ErrorCode::InvalidRequest));
        }
        let meant = self.is_meant(request.voter_id, asked.voter_directory_id);
        let error = if meant {
            ErrorCode::None
        } else {
            ErrorCode::InvalidVoterKey
        };
        Ok(self.begin_answer(error))
    }

    fn begin_answer(&self, error: ErrorCode) -> BeginQuorumEpochResponse {
        let (leader_id, leader_epoch) = self.leader_fields();
        BeginQuorumEpochResponse {
            error_code: ErrorCode::None.code(),
            topics: vec![begin_quorum_epoch_response::TopicData {
                topic_name: METADATA_TOPIC.into(),
                partitions: vec![begin_quorum_epoch_response::PartitionData {
                    partition_index: 0,
                    error_code: error.code(),
                    leader_id,
                    leader_epoch,
                }],
            }],
            node_endpoints: self
                .leader_peer()
                .map(|peer| begin_quorum_epoch_response::NodeEndpoint {
                    node_id: peer.id.0,
                    host: peer.host.into(),
                    port: peer.port,
                })
                .into_iter()
                .collect(),
        }
    }

    /// Tells the other voters that this replica leads.
    pub(super) fn send_begin_quorum(&mut self, now: Now, out: &mut Vec<Effect>) {
        let own = self.config.node;
        let others: Vec<BrokerId> = self
            .control
            .voters()
            .ids()
            .filter(|&id| id != own)
            .collect();
        for id in others {
            let Some(peer) = self.voter_peer(id) else {
                continue;
            };
            self.send(peer, |raft| raft.begin_request(id), now, out);
        }
    }

    fn begin_request(&self, voter: BrokerId) -> RaftRequest {
        let key = self.control.voters().get(voter).map(|voter| voter.key);
        let endpoints = self.config.endpoints.iter();
        RaftRequest::BeginQuorumEpoch(BeginQuorumEpochRequest {
            cluster_id: Some(self.config.cluster_id.clone().into()),
            voter_id: voter.0,
            topics: vec![begin_quorum_epoch_request::TopicData {
                topic_name: METADATA_TOPIC.into(),
                partitions: vec![begin_quorum_epoch_request::PartitionData {
                    partition_index: 0,
                    voter_directory_id: key.map_or(Uuid::ZERO, ReplicaKey::directory_or_zero),
                    leader_id: self.config.node.0,
                    leader_epoch: self.epoch.0,
                }],
            }],
            leader_endpoints: endpoints
                .map(|endpoint| begin_quorum_epoch_request::LeaderEndpoint {
                    name: endpoint.name.clone().into(),
                    host: endpoint.host.clone().into(),
                    port: endpoint.port,
                })
                .collect(),
        })
    }

    pub(super) fn on_end_quorum(
        &mut self,
        request: EndQuorumEpochRequest,
        now: Now,
        out: &mut Vec<Effect>,
    ) -> Result<EndQuorumEpochResponse, Fault> {
        if let Err(error) = self.check_cluster(request.cluster_id.as_deref()) {
            return Ok(end_refused(error));
        }
        let Some(asked) = end_partition(&request) else {
            return Ok(end_refused(ErrorCode::InvalidRequest));
        };
        let (epoch, leader) = (Epoch(asked.leader_epoch), BrokerId(asked.leader_id));
        if let Some(error) = self.refuse_from_voter(leader, epoch) {
            return Ok(self.end_answer(error));
        }
        let endpoint = request
            .leader_endpoints
            .iter()
            .find(|e| *e.name == *self.config.listener);
        let endpoint = endpoint.map(|endpoint| Peer {
            id: leader,
            host: endpoint.host.to_string(),
            port: endpoint.port,
        });
        if !self.learn(epoch, Some(leader), endpoint, now, out)? {
            return Ok(self.end_answer(ErrorCode::InvalidRequest));
        }
        let pause = self.succession_pause(asked);
        if let Role::Follower(role) = &mut self.role
            && role.leader.id == leader
        {
            role.fetch_at = now.mono + pause;
            // The leader is gone by its own word: nobody has to be protected from a pre-vote.
            role.has_fetched = false;
        }
        Ok(self.end_answer(ErrorCode::None))
    }

    /// How long this replica waits before it wants to lead: the further behind in the list, the longer.
    fn succession_pause(&self, asked: &end_quorum_epoch_request::PartitionData) -> Duration {
        let max = self.config.election_backoff_max;
        let (place, count) = if asked.preferred_candidates.is_empty() {
            let own = self.config.node.0;
            let list = &asked.preferred_successors;
            (list.iter().position(|&id| id == own), list.len())
        } else {
            let list = &asked.preferred_candidates;
            let own = self.config.key();
            let place = list.iter().position(|candidate| {
                let key = ReplicaKey::new(
                    BrokerId(candidate.candidate_id),
                    candidate.candidate_directory_id,
                );
                key.id == own.id && (key.directory.is_none() || key.directory == own.directory)
            });
            (place, list.len())
        };
        match place {
            Some(0) => Duration::ZERO,
            Some(place) if place < 31 && count < 31 => {
                let unit = max.as_millis() as u64 >> (count - 1);
                Duration::from_millis(unit << (place - 1)).min(max)
            }
            _ => max,
        }
    }

    fn end_answer(&self, error: ErrorCode) -> EndQuorumEpochResponse {
        let (leader_id, leader_epoch) = self.leader_fields();
        EndQuorumEpochResponse {
            error_code: ErrorCode::None.code(),
            topics: vec![end_quorum_epoch_response::TopicData {
                topic_name: METADATA_TOPIC.into(),
                partitions: vec![end_quorum_epoch_response::PartitionData {
                    partition_index: 0,
                    error_code: error.code(),
                    leader_id,
                    leader_epoch,
                }],
            }],
            node_endpoints: self
                .leader_peer()
                .map(|peer| end_quorum_epoch_response::NodeEndpoint {
                    node_id: peer.id.0,
                    host: peer.host.into(),
                    port: peer.port,
                })
                .into_iter()
                .collect(),
        }
    }

    /// Tells the voters that don't know yet that this replica leads no more.
    pub(super) fn send_end_quorum(&mut self, now: Now, out: &mut Vec<Effect>) {
        let untold: Vec<BrokerId> = match &self.role {
            Role::Resigned(role) => role.unacknowledged.iter().copied().collect(),
            _ => return,
        };
        for id in untold {
            let Some(peer) = self.voter_peer(id) else {
                continue;
            };
            self.send(peer, Raft::end_request, now, out);
        }
    }

    fn end_request(&self) -> RaftRequest {
        let successors: &[ReplicaKey] = match &self.role {
            Role::Resigned(role) => &role.successors,
            _ => &[],
        };
        let endpoints = self.config.endpoints.iter();
        RaftRequest::EndQuorumEpoch(EndQuorumEpochRequest {
            cluster_id: Some(self.config.cluster_id.clone().into()),
            topics: vec![end_quorum_epoch_request::TopicData {
                topic_name: METADATA_TOPIC.into(),
                partitions: vec![end_quorum_epoch_request::PartitionData {
                    partition_index: 0,
                    leader_id: self.config.node.0,
                    leader_epoch: self.epoch.0,
                    preferred_successors: successors.iter().map(|key| key.id.0).collect(),
                    preferred_candidates: successors
                        .iter()
                        .map(|key| end_quorum_epoch_request::ReplicaInfo {
                            candidate_id: key.id.0,
                            candidate_directory_id: key.directory_or_zero(),
                        })
                        .collect(),
                }],
            }],
            leader_endpoints: endpoints
                .map(|endpoint| end_quorum_epoch_request::LeaderEndpoint {
                    name: endpoint.name.clone().into(),
                    host: endpoint.host.clone().into(),
                    port: endpoint.port,
                })
                .collect(),
        })
    }

    /// Why a leader's message is not heard.
    fn refuse_from_voter(&self, leader: BrokerId, epoch: Epoch) -> Option<ErrorCode> {
        if epoch < self.epoch {
            Some(ErrorCode::FencedLeaderEpoch)
        } else if leader.0 < 0 {
            Some(ErrorCode::InvalidRequest)
        } else {
            None
        }
    }
}

fn begin_partition(
    request: &BeginQuorumEpochRequest,
) -> Option<&begin_quorum_epoch_request::PartitionData> {
    match request.topics.as_slice() {
        [topic] if &*topic.topic_name == METADATA_TOPIC => match topic.partitions.as_slice() {
            [partition] if partition.partition_index == 0 => Some(partition),
            _ => None,
        },
        _ => None,
    }
}

fn end_partition(
    request: &EndQuorumEpochRequest,
) -> Option<&end_quorum_epoch_request::PartitionData> {
    match request.topics.as_slice() {
        [topic] if &*topic.topic_name == METADATA_TOPIC => match topic.partitions.as_slice() {
            [partition] if partition.partition_index == 0 => Some(partition),
            _ => None,
        },
        _ => None,
    }
}

fn begin_refused(error: ErrorCode) -> BeginQuorumEpochResponse {
    BeginQuorumEpochResponse {
        error_code: error.code(),
        ..BeginQuorumEpochResponse::default()
    }
}

fn end_refused(error: ErrorCode) -> EndQuorumEpochResponse {
    EndQuorumEpochResponse {
        error_code: error.code(),
        ..EndQuorumEpochResponse::default()
    }
}
