//! What a follower says of itself to the leader: a voter, how it is now; an observer that is to join by itself, that it
//! wants to be a voter (KIP-853, KIP-1186). Once in a fetch timeout, in place of a fetch.

use milena_base::{BrokerId, Epoch, ErrorCode, Now};
use milena_protocol::{
    AddRaftVoterRequest, RemoveRaftVoterRequest, UpdateRaftVoterRequest, UpdateRaftVoterResponse,
    add_raft_voter_request, update_raft_voter_request,
};

use super::Raft;
use crate::log::Fault;
use crate::message::{Effect, KRAFT_VERSIONS, Peer, RaftRequest};
use crate::role::Role;
use crate::voters::ReplicaKey;

impl Raft {
    /// Sends what is due to the leader.
    pub(super) fn tell_leader(&mut self, leader: &Peer, now: Now, out: &mut Vec<Effect>) {
        let Role::Follower(role) = &self.role else {
            return;
        };
        let busy = role.unflushed || role.download.is_some();
        if busy || now.mono < role.update_at || !self.peers.is_ready(leader.id, now.mono) {
            return;
        }
        let Some(request) = self.news_for_leader() else {
            return self.told_leader(now);
        };
        self.send(leader.clone(), |_| request, now, out);
        self.told_leader(now);
    }

    fn told_leader(&mut self, now: Now) {
        let next = now.mono + self.config.fetch_timeout;
        if let Role::Follower(role) = &mut self.role {
            role.update_at = next;
        }
    }

    fn news_for_leader(&self) -> Option<RaftRequest> {
        let Role::Follower(role) = &self.role else {
            return None;
        };
        let dynamic = self.control.kraft_version() > 0;
        let known = self.control.voters().get(self.config.node);
        if self.is_voter() {
            let news = match dynamic {
                true => known != Some(&self.config.voter()),
                false => !role.has_updated,
            };
            return news.then(|| self.update_request());
        }
        if !dynamic || !self.config.auto_join {
            return None;
        }
        // An id votes with one directory: that of a lost disk has to go first.
        Some(match known {
            Some(voter) => self.remove_request(voter.key),
            None => self.add_request(),
        })
    }

    fn update_request(&self) -> RaftRequest {
        let endpoints = self.config.endpoints.iter();
        let listeners = endpoints.map(|endpoint| update_raft_voter_request::Listener {
            name: endpoint.name.clone().into(),
            host: endpoint.host.clone().into(),
            port: endpoint.port,
        });
        RaftRequest::UpdateRaftVoter(UpdateRaftVoterRequest {
            cluster_id: Some(self.config.cluster_id.clone().into()),
            current_leader_epoch: self.epoch.0,
            voter_id: self.config.node.0,
            voter_directory_id: self.config.directory,
            listeners: listeners.collect(),
            kraft_version_feature: update_raft_voter_request::KRaftVersionFeature {
                min_supported_version: KRAFT_VERSIONS.0,
                max_supported_version: KRAFT_VERSIONS.1,
            },
        })
    }

    fn add_request(&self) -> RaftRequest {
        let endpoints = self.config.endpoints.iter();
        let listeners = endpoints.map(|endpoint| add_raft_voter_request::Listener {
            name: endpoint.name.clone().into(),
            host: endpoint.host.clone().into(),
            port: endpoint.port,
        });
        RaftRequest::AddRaftVoter(AddRaftVoterRequest {
            cluster_id: Some(self.config.cluster_id.clone().into()),
            timeout_ms: self.config.request_timeout.as_millis() as i32,
            voter_id: self.config.node.0,
            voter_directory_id: self.config.directory,
            listeners: listeners.collect(),
            ack_when_committed: false,
        })
    }

    fn remove_request(&self, key: ReplicaKey) -> RaftRequest {
        RaftRequest::RemoveRaftVoter(RemoveRaftVoterRequest {
            cluster_id: Some(self.config.cluster_id.clone().into()),
            voter_id: key.id.0,
            voter_directory_id: key.directory_or_zero(),
        })
    }

    /// The leader's answer to a change that this replica asked for; `false` where it is an error.
    pub(super) fn on_change_answered(&mut self, error: i16, expected: ErrorCode, now: Now) -> bool {
        let good = [ErrorCode::None, ErrorCode::RequestTimedOut, expected];
        let good = good.iter().any(|code| code.code() == error);
        if good {
            self.told_leader(now);
        }
        good
    }

    pub(super) fn on_updated(
        &mut self,
        response: &UpdateRaftVoterResponse,
        now: Now,
        out: &mut Vec<Effect>,
    ) -> Result<bool, Fault> {
        let leader = &response.current_leader;
        let id = (leader.leader_id >= 0).then_some(BrokerId(leader.leader_id));
        let endpoint = id.filter(|_| !leader.host.is_empty()).and_then(|id| {
            let port = u16::try_from(leader.port).ok()?;
            let host = leader.host.to_string();
            Some(Peer { id, host, port })
        });
        let epoch = Epoch(leader.leader_epoch);
        if epoch > self.epoch {
            self.learn(epoch, id, endpoint, now, out)?;
            return Ok(true);
        }
        let settled = [ErrorCode::None, ErrorCode::UnsupportedVersion];
        let settled = settled
            .iter()
            .any(|code| code.code() == response.error_code);
        if settled && let Role::Follower(role) = &mut self.role {
            role.has_updated = true;
            self.leader_answered(now);
        }
        Ok(settled)
    }
}
