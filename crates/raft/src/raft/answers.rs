//! What comes back from peers, and what all messages have in common.

use milena_base::{BrokerId, Epoch, ErrorCode, Now, Uuid};
use milena_protocol::{
    BeginQuorumEpochResponse, EndQuorumEpochResponse, FetchResponse, FetchSnapshotResponse,
    VoteResponse,
};

use super::Raft;
use crate::log::Fault;
use crate::message::{Effect, METADATA_TOPIC, Peer, RaftResponse, Unanswered};
use crate::role::Role;

/// The part of an answer that says who leads.
struct Common {
    error: Option<ErrorCode>,
    epoch: Epoch,
    leader: Option<BrokerId>,
    endpoint: Option<Peer>,
}

impl Common {
    fn new(error: i16, leader: i32, epoch: i32, endpoints: impl Iterator<Item = Peer>) -> Common {
        let leader = (leader >= 0).then_some(BrokerId(leader));
        Common {
            error: ErrorCode::from_code(error),
            epoch: Epoch(epoch),
            leader,
            endpoint: endpoints.into_iter().find(|peer| Some(peer.id) == leader),
        }
    }
}

impl Raft {
    pub(super) fn on_response(
        &mut self,
        correlation: u64,
        result: Result<RaftResponse, Unanswered>,
        now: Now,
        out: &mut Vec<Effect>,
    ) -> Result<(), Fault> {
        let Some(from) = self.peers.settle(correlation, result.is_err(), now.mono) else {
            return Ok(());
        };
        let before = self.leader_and_epoch();
        let understood = match result {
            Ok(RaftResponse::Vote(response)) => self.on_voted(from, response, now, out)?,
            Ok(RaftResponse::BeginQuorumEpoch(response)) => {
                self.on_begun(from, response, now, out)?
            }
            Ok(RaftResponse::EndQuorumEpoch(response)) => {
                self.on_ended(from, response, now, out)?
            }
            Ok(RaftResponse::Fetch(response)) => {
                self.on_fetch_response(from, response, now, out)?
            }
            Ok(RaftResponse::FetchSnapshot(response)) => {
                self.on_snapshot_response(response, now, out)?
            }
            Ok(RaftResponse::DescribeQuorum(_)) => false,
            Ok(RaftResponse::ApiVersions(response)) => {
                self.on_api_versions(from, &response, now, out)?
            }
            Ok(RaftResponse::AddRaftVoter(response)) => {
                self.on_change_answered(response.error_code, ErrorCode::DuplicateVoter, now)
            }
            Ok(RaftResponse::RemoveRaftVoter(response)) => {
                self.on_change_answered(response.error_code, ErrorCode::VoterNotFound, now)
            }
            Ok(RaftResponse::UpdateRaftVoter(response)) => self.on_updated(&response, now, out)?,
            Err(why) => {
                self.on_vote_unanswered(from, why);
                self.on_new_voter_unanswered(from, out);
                true
            }
        };
        // Where there is news, the next request goes out at once.
        if !understood && self.leader_and_epoch() == before {
            self.peers.pause(from, now.mono);
        }
        Ok(())
    }

    /// Takes over what the answer says of the leader. Whether the rest of it still concerns this role.
    fn take_common(
        &mut self,
        common: Common,
        now: Now,
        out: &mut Vec<Effect>,
    ) -> Result<bool, Fault> {
        let Common {
            error,
            epoch,
            leader,
            endpoint,
        } = common;
        if epoch < self.epoch || error == Some(ErrorCode::UnknownLeaderEpoch) {
            return Ok(false);
        }
        let stale = matches!(
            error,
            Some(ErrorCode::FencedLeaderEpoch | ErrorCode::NotLeaderOrFollower)
        );
        let told = self.epoch;
        let news = epoch > told || stale || leader.is_some();
        if news && !self.learn(epoch, leader, endpoint, now, out)? {
            return Ok(false);
        }
        // What was asked in an older epoch is answered in it.
        Ok(epoch == told && !stale)
    }

    fn on_voted(
        &mut self,
        from: BrokerId,
        response: VoteResponse,
        now: Now,
        out: &mut Vec<Effect>,
    ) -> Result<bool, Fault> {
        let endpoints = response.node_endpoints.iter().map(|e| Peer {
            id: BrokerId(e.node_id),
            host: e.host.to_string(),
            port: e.port,
        });
        let partition = response.topics.first().and_then(|t| t.partitions.first());
        let Some(partition) = partition.filter(|_| response.error_code == 0) else {
            return Ok(false);
        };
        let common = Common::new(
            partition.error_code,
            partition.leader_id,
            partition.leader_epoch,
            endpoints,
        );
        let granted = partition.vote_granted;
        let refused = common.error != Some(ErrorCode::None);
        // A voter in an older epoch that refuses is a refusal too; one in a newer is news.
        if self.take_common(common, now, out)? && !refused {
            self.on_vote_response(from, granted);
        }
        Ok(!refused)
    }

    fn on_begun(
        &mut self,
        from: BrokerId,
        response: BeginQuorumEpochResponse,
        now: Now,
        out: &mut Vec<Effect>,
    ) -> Result<bool, Fault> {
        let endpoints = response.node_endpoints.iter().map(|e| Peer {
            id: BrokerId(e.node_id),
            host: e.host.to_string(),
            port: e.port,
        });
        let partition = response.topics.first().and_then(|t| t.partitions.first());
        let Some(partition) = partition.filter(|_| response.error_code == 0) else {
            return Ok(false);
        };
        let common = Common::new(
            partition.error_code,
            partition.leader_id,
            partition.leader_epoch,
            endpoints,
        );
        let accepted = common.error == Some(ErrorCode::None);
        if self.take_common(common, now, out)?
            && let Role::Leader(leader) = &mut self.role
            && accepted
        {
            leader.acknowledged(from);
        }
        Ok(accepted)
    }

    fn on_ended(
        &mut self,
        from: BrokerId,
        response: EndQuorumEpochResponse,
        now: Now,
        out: &mut Vec<Effect>,
    ) -> Result<bool, Fault> {
        let endpoints = response.node_endpoints.iter().map(|e| Peer {
            id: BrokerId(e.node_id),
            host: e.host.to_string(),
            port: e.port,
        });
        let partition = response.topics.first().and_then(|t| t.partitions.first());
        let Some(partition) = partition.filter(|_| response.error_code == 0) else {
            return Ok(false);
        };
        let common = Common::new(
            partition.error_code,
            partition.leader_id,
            partition.leader_epoch,
            endpoints,
        );
        let accepted = common.error == Some(ErrorCode::None);
        if self.take_common(common, now, out)?
            && let Role::Resigned(role) = &mut self.role
            && accepted
        {
            role.unacknowledged.remove(&from);
        }
        Ok(accepted)
    }

    fn on_fetch_response(
        &mut self,
        from: BrokerId,
        mut response: FetchResponse,
        now: Now,
        out: &mut Vec<Effect>,
    ) -> Result<bool, Fault> {
        let endpoints = response.node_endpoints.iter().map(|e| Peer {
            id: BrokerId(e.node_id),
            host: e.host.to_string(),
            port: u16::try_from(e.port).unwrap_or(0),
        });
        let partition = response
            .responses
            .first_mut()
            .and_then(|t| t.partitions.pop());
        let Some(partition) = partition.filter(|_| response.error_code == 0) else {
            return Ok(false);
        };
        let common = Common::new(
            partition.error_code,
            partition.current_leader.leader_id,
            partition.current_leader.leader_epoch,
            endpoints,
        );
        let accepted = common.error == Some(ErrorCode::None);
        if !self.take_common(common, now, out)? {
            return Ok(accepted);
        }
        self.on_fetched(from, partition, now, out)
    }

    fn on_snapshot_response(
        &mut self,
        mut response: FetchSnapshotResponse,
        now: Now,
        out: &mut Vec<Effect>,
    ) -> Result<bool, Fault> {
        let endpoints = response.node_endpoints.iter().map(|e| Peer {
            id: BrokerId(e.node_id),
            host: e.host.to_string(),
            port: e.port,
        });
        let part = response.topics.first_mut().and_then(|t| t.partitions.pop());
        let Some(part) = part.filter(|_| response.error_code == 0) else {
            return Ok(false);
        };
        let common = Common::new(
            part.error_code,
            part.current_leader.leader_id,
            part.current_leader.leader_epoch,
            endpoints,
        );
        let accepted = common.error == Some(ErrorCode::None);
        if !self.take_common(common, now, out)? {
            return Ok(accepted);
        }
        self.on_snapshot_fetched(part, now, out)
    }

    /// A request of another cluster is refused; one that names none is not (as old peers send them).
    pub(super) fn check_cluster(&self, cluster: Option<&str>) -> Result<(), ErrorCode> {
        match cluster {
            Some(cluster) if cluster != self.config.cluster_id => {
                Err(ErrorCode::InconsistentClusterId)
            }
            _ => Ok(()),
        }
    }

    /// Whether a request is for this replica: an id of another node or directory is a mistake.
    pub(super) fn is_meant(&self, voter: i32, directory: Uuid) -> bool {
        voter < 0
            || (voter == self.config.node.0
                && (directory.is_zero() || directory == self.config.directory))
    }

    /// Leader and epoch as answers carry them.
    pub(super) fn leader_fields(&self) -> (i32, i32) {
        let leader = self.role.leader(self.config.node);
        (leader.map_or(-1, |id| id.0), self.epoch.0)
    }

    /// Where the leader listens for controllers, if known.
    pub fn leader_peer(&self) -> Option<Peer> {
        match &self.role {
            Role::Leader(_) | Role::Resigned(_) => {
                let endpoints = self.config.endpoints.iter();
                let mut named = endpoints.filter(|endpoint| endpoint.name == self.config.listener);
                named.next().map(|endpoint| Peer {
                    id: self.config.node,
                    host: endpoint.host.clone(),
                    port: endpoint.port,
                })
            }
            Role::Follower(role) => Some(role.leader.clone()),
            Role::Prospective(role) | Role::Candidate(role) => role.leader.clone(),
            Role::Unattached(role) => role.leader.and_then(|id| self.voter_peer(id)),
        }
    }

    /// The topic that all requests are about.
    pub(super) fn is_metadata_topic(name: &str) -> bool {
        name == METADATA_TOPIC
    }
}
