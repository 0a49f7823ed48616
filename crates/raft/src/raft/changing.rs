//! How the voter set changes, on the leader: AddRaftVoter, RemoveRaftVoter, UpdateRaftVoter (KIP-853). One change at a time,
//! none before the last one is committed, so that any two majorities overlap. v1 of AddRaftVoter: whether the answer waits
//! for the commit.

use milena_base::{BrokerId, Epoch, ErrorCode, Now, Offset};
use milena_protocol::{
    AddRaftVoterRequest, ApiVersionsRequest, ApiVersionsResponse, RemoveRaftVoterRequest,
    UpdateRaftVoterRequest, UpdateRaftVoterResponse, update_raft_voter_response,
};

use super::Raft;
use crate::batch::{ControlRecord, control_batch};
use crate::change::{Change, Kind, added, removed};
use crate::log::Fault;
use crate::message::{Effect, Peer, RaftRequest, RaftResponse};
use crate::role::Role;
use crate::voters::{Endpoint, ReplicaKey, Voter, VoterSet};

/// The feature that says whether voters can change.
const KRAFT_VERSION: &str = "kraft.version";

/// Why a request is refused, in the words of Kafka.
type Refusal = (ErrorCode, Option<String>);

fn because(code: ErrorCode, why: impl Into<String>) -> Refusal {
    (code, Some(why.into()))
}

impl Raft {
    pub(super) fn on_add_voter(
        &mut self,
        token: u64,
        request: AddRaftVoterRequest,
        now: Now,
        out: &mut Vec<Effect>,
    ) {
        let checked = self.voter_to_add(&request);
        let (voter, peer) = match checked {
            Ok(checked) => checked,
            Err((code, why)) => {
                let response = RaftResponse::AddRaftVoter(added(code, why));
                return out.push(Effect::Answer { token, response });
            }
        };
        if !self.peers.is_ready(peer.id, now.mono) {
            let why = format!(
                "New voter {} is not ready to receive requests",
                voter.key.text()
            );
            let response = RaftResponse::AddRaftVoter(added(ErrorCode::RequestTimedOut, Some(why)));
            return out.push(Effect::Answer { token, response });
        }
        self.send(peer, |_| api_versions_request(), now, out);
        let until = now.mono + self.config.request_timeout;
        if let Role::Leader(leader) = &mut self.role {
            leader.change = Some(Change {
                kind: Kind::Add(voter),
                token: Some(token),
                ack_when_committed: request.ack_when_committed,
                until,
                written: None,
            });
        }
    }

    fn voter_to_add(&self, request: &AddRaftVoterRequest) -> Result<(Voter, Peer), Refusal> {
        self.check_asked(request.cluster_id.as_deref())?;
        let key = ReplicaKey::new(BrokerId(request.voter_id), request.voter_directory_id);
        if request.voter_id < 0 || key.directory.is_none() {
            let why = "Add voter request didn't include a valid voter";
            return Err(because(ErrorCode::InvalidRequest, why));
        }
        let listeners = request.listeners.iter();
        let endpoints = listeners.map(|l| endpoint(l.name.as_str(), l.host.as_str(), l.port));
        let voter = Voter {
            key,
            endpoints: endpoints.collect(),
            kraft_versions: (0, 0),
        };
        let Some(peer) = self.peer_of(&voter) else {
            let why = format!(
                "Add voter request didn't include the endpoint ({}) for the default listener ListenerName({})",
                endpoints_text(&voter.endpoints),
                self.config.listener
            );
            return Err(because(ErrorCode::InvalidRequest, why));
        };
        let voters = self.changeable("adding")?;
        if voters.get(key.id).is_some() {
            let why = format!(
                "The voter id for {} is already part of the set of voters {}.",
                key.text(),
                voters.keys_text()
            );
            return Err(because(ErrorCode::DuplicateVoter, why));
        }
        Ok((voter, peer))
    }

    /// Whether the request is for this cluster and its leader.
    fn check_asked(&self, cluster: Option<&str>) -> Result<(), Refusal> {
        if let Err(code) = self.check_cluster(cluster) {
            let why = format!(
                "The given id \"{}\" doesn't match the cluster id \"{}\"",
                cluster.unwrap_or_default(),
                self.config.cluster_id
            );
            return Err(because(code, why));
        }
        match &self.role {
            Role::Leader(_) => Ok(()),
            _ => Err((ErrorCode::NotLeaderOrFollower, None)),
        }
    }

    /// The voter set, where it may change now.
    fn changeable(&self, what: &str) -> Result<&VoterSet, Refusal> {
        let late = |why: String| because(ErrorCode::RequestTimedOut, why);
        let Role::Leader(leader) = &self.role else {
            return Err((ErrorCode::NotLeaderOrFollower, None));
        };
        if leader.change.is_some() {
            let why =
                "Request timed out waiting for leader to handle previous voter change request";
            return Err(late(why.to_owned()));
        }
        let Some(high_watermark) = leader.high_watermark else {
            let why = "Request timed out waiting for leader to establish HWM and fence previous voter changes";
            return Err(late(why.to_owned()));
        };
        let version = self.control.kraft_version();
        if version == 0 {
            let why = format!(
                "Cluster doesn't support {what} voter because the {KRAFT_VERSION} feature is {version}"
            );
            return Err(because(ErrorCode::UnsupportedVersion, why));
        }
        match self.control.voters_offset() {
            Some(offset) if offset < high_watermark => Ok(self.control.voters()),
            offset => {
                let offset = match offset {
                    Some(offset) => format!("Optional[{offset}]"),
                    None => "Optional.empty".to_owned(),
                };
                Err(late(format!(
                    "Request timed out waiting for voters to commit the latest voter change at {offset} with HWM {high_watermark}"
                )))
            }
        }
    }

    /// What the replica that is to become a voter supports; `false` where the answer makes no sense.
    pub(super) fn on_api_versions(
        &mut self,
        from: BrokerId,
        response: &ApiVersionsResponse,
        now: Now,
        out: &mut Vec<Effect>,
    ) -> Result<bool, Fault> {
        let Role::Leader(leader) = &mut self.role else {
            return Ok(true);
        };
        let Some(mut change) = leader.change.take_if(|change| {
            change.written.is_none()
                && matches!(&change.kind, Kind::Add(voter) if voter.key.id == from)
        }) else {
            return Ok(true);
        };
        match self.voters_with(&change, response, now) {
            Ok(voters) => {
                change.written = Some(self.write_voters(&voters, now, out)?);
                if !change.ack_when_committed {
                    change.answer(ErrorCode::None, None, out);
                }
                if let Role::Leader(leader) = &mut self.role {
                    leader.change = Some(change);
                }
                Ok(true)
            }
            Err((code, why)) => {
                change.answer(code, why, out);
                Ok(response.error_code == 0)
            }
        }
    }

    /// The voter set with the new voter, where that one can be taken.
    fn voters_with(
        &self,
        change: &Change,
        response: &ApiVersionsResponse,
        now: Now,
    ) -> Result<VoterSet, Refusal> {
        let (Role::Leader(leader), Kind::Add(voter)) = (&self.role, &change.kind) else {
            return Err((ErrorCode::UnknownServerError, None));
        };
        let key = voter.key.text();
        if response.error_code != 0 {
            let why = format!(
                "Aborted add voter operation for {key} since API_VERSIONS returned the error code {}",
                response.error_code
            );
            return Err(because(ErrorCode::RequestTimedOut, why));
        }
        let mut features = response.supported_features.iter();
        let feature = features.find(|feature| &*feature.name == KRAFT_VERSION);
        let range = feature.map_or((0, 0), |f| (f.min_version, f.max_version));
        let version = self.control.kraft_version();
        if version < range.0 || version > range.1 {
            let why = format!(
                "Aborted add voter operation for {key} since the {KRAFT_VERSION} range (min: {}, max: {}) doesn't support the finalized version {version}",
                range.0, range.1
            );
            return Err(because(ErrorCode::InvalidRequest, why));
        }
        if !leader.is_caught_up(voter.key, now.mono) {
            let why = format!("Aborted add voter operation for {key} since it is lagging behind");
            return Err(because(ErrorCode::RequestTimedOut, why));
        }
        let mut voter = voter.clone();
        voter.kraft_versions = range;
        let added = self.control.voters().with_added(voter);
        added.ok_or((ErrorCode::DuplicateVoter, None))
    }

    /// The replica that was to become a voter does not answer.
    pub(super) fn on_new_voter_unanswered(&mut self, from: BrokerId, out: &mut Vec<Effect>) {
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let change = leader.change.take_if(|change| {
            change.written.is_none()
                && matches!(&change.kind, Kind::Add(voter) if voter.key.id == from)
        });
        if let Some(mut change) = change {
            let why = format!("Aborted add voter operation since voter {from} can't be reached");
            change.answer(ErrorCode::RequestTimedOut, Some(why), out);
        }
    }

    pub(super) fn on_remove_voter(
        &mut self,
        token: u64,
        request: &RemoveRaftVoterRequest,
        now: Now,
        out: &mut Vec<Effect>,
    ) -> Result<(), Fault> {
        let voters = match self.voters_without(request) {
            Ok(voters) => voters,
            Err((code, why)) => {
                let response = RaftResponse::RemoveRaftVoter(removed(code, why));
                out.push(Effect::Answer { token, response });
                return Ok(());
            }
        };
        let written = self.write_voters(&voters, now, out)?;
        let until = now.mono + self.config.request_timeout;
        if let Role::Leader(leader) = &mut self.role {
            leader.change = Some(Change {
                kind: Kind::Remove,
                token: Some(token),
                ack_when_committed: true,
                until,
                written: Some(written),
            });
        }
        Ok(())
    }

    fn voters_without(&self, request: &RemoveRaftVoterRequest) -> Result<VoterSet, Refusal> {
        self.check_asked(request.cluster_id.as_deref())?;
        let key = ReplicaKey::new(BrokerId(request.voter_id), request.voter_directory_id);
        if request.voter_id < 0 || key.directory.is_none() {
            let why = "Remove voter request didn't include a valid voter";
            return Err(because(ErrorCode::InvalidRequest, why));
        }
        let voters = self.changeable("removing")?;
        voters.with_removed(key).ok_or_else(|| {
            let why = format!(
                "Cannot remove voter {} from the set of voters {}",
                key.text(),
                voters.keys_text()
            );
            because(ErrorCode::VoterNotFound, why)
        })
    }

    /// A voter tells how it is now: where it listens, what it supports. Answered at once.
    pub(super) fn on_update_voter(
        &mut self,
        request: &UpdateRaftVoterRequest,
        now: Now,
        out: &mut Vec<Effect>,
    ) -> Result<UpdateRaftVoterResponse, Fault> {
        let code = match self.voters_updated(request) {
            Ok(voters) => {
                if voters != *self.control.voters() {
                    self.write_voters(&voters, now, out)?;
                }
                let key = ReplicaKey::new(BrokerId(request.voter_id), request.voter_directory_id);
                if let Role::Leader(leader) = &mut self.role {
                    leader.on_contact(key, now.mono);
                }
                ErrorCode::None
            }
            Err(code) => code,
        };
        let (leader_id, leader_epoch) = self.leader_fields();
        let mut leader = update_raft_voter_response::CurrentLeader {
            leader_id,
            leader_epoch,
            ..Default::default()
        };
        if let Some(peer) = self.leader_peer() {
            leader.host = peer.host.into();
            leader.port = peer.port.into();
        }
        Ok(UpdateRaftVoterResponse {
            error_code: code.code(),
            current_leader: leader,
            ..UpdateRaftVoterResponse::default()
        })
    }

    fn voters_updated(&self, request: &UpdateRaftVoterRequest) -> Result<VoterSet, ErrorCode> {
        self.check_cluster(request.cluster_id.as_deref())?;
        let epoch = Epoch(request.current_leader_epoch);
        if let Some(error) = self.refuse_to_follower(epoch) {
            return Err(error);
        }
        let listeners = request.listeners.iter();
        let endpoints = listeners.map(|l| endpoint(l.name.as_str(), l.host.as_str(), l.port));
        let supported = &request.kraft_version_feature;
        let range = (
            supported.min_supported_version,
            supported.max_supported_version,
        );
        let voter = Voter {
            key: ReplicaKey::new(BrokerId(request.voter_id), request.voter_directory_id),
            endpoints: endpoints.collect(),
            kraft_versions: range,
        };
        let version = self.control.kraft_version();
        let reachable = self.peer_of(&voter).is_some();
        let supports = 0 <= range.0 && range.0 <= version && version <= range.1;
        if request.voter_id < 0 || voter.key.directory.is_none() || !reachable || !supports {
            return Err(ErrorCode::InvalidRequest);
        }
        if version == 0 {
            // No record says how a static voter is.
            let known = self.control.voters().contains(voter.key);
            let voters = known.then(|| self.control.voters().clone());
            return voters.ok_or(ErrorCode::VoterNotFound);
        }
        let voters = self.changeable("updating").map_err(|(code, _)| code)?;
        voters.with_updated(voter).ok_or(ErrorCode::VoterNotFound)
    }

    /// Writes a voter set; in force from here on, though not committed. Its offset.
    fn write_voters(
        &mut self,
        voters: &VoterSet,
        now: Now,
        out: &mut Vec<Effect>,
    ) -> Result<Offset, Fault> {
        let records = [ControlRecord::Voters(voters.to_record())];
        let batch = control_batch(&records, now.wall).build();
        let (_, last) = self.log.append_as_leader(batch, self.epoch, now)?;
        self.after_append(now, out)?;
        Ok(last)
    }

    /// Answers a change whose voter set is committed.
    pub(super) fn settle_change(&mut self, out: &mut Vec<Effect>) {
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let committed = leader.high_watermark;
        let done = leader.change.take_if(|change| {
            change
                .written
                .is_some_and(|at| committed.is_some_and(|hw| at < hw))
        });
        if let Some(mut change) = done {
            change.answer(ErrorCode::None, None, out);
        }
    }

    /// Gives up a change whose time is over. What it wrote may yet be committed.
    pub(super) fn expire_change(&mut self, now: Now, out: &mut Vec<Effect>) {
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let late = leader.change.take_if(|change| change.until <= now.mono);
        if let Some(mut change) = late {
            change.answer(ErrorCode::RequestTimedOut, None, out);
        }
    }

    /// Whether this leader was removed from the voters, for good.
    pub(super) fn is_removed(&self) -> bool {
        let Role::Leader(leader) = &self.role else {
            return false;
        };
        let voters = self.control.voters_offset();
        let committed = voters.is_some_and(|at| leader.high_watermark.is_some_and(|hw| at < hw));
        committed && !self.is_voter()
    }

    fn peer_of(&self, voter: &Voter) -> Option<Peer> {
        let mut endpoints = voter.endpoints.iter();
        let endpoint = endpoints.find(|endpoint| endpoint.name == self.config.listener)?;
        Some(Peer {
            id: voter.key.id,
            host: endpoint.host.clone(),
            port: endpoint.port,
        })
    }
}

fn endpoint(name: &str, host: &str, port: u16) -> Endpoint {
    Endpoint {
        name: name.to_owned(),
        host: host.to_owned(),
        port,
    }
}

fn endpoints_text(endpoints: &[Endpoint]) -> String {
    let endpoints = endpoints
        .iter()
        .map(|e| format!("{}://{}:{}", e.name, e.host, e.port));
    let endpoints: Vec<String> = endpoints.collect();
    endpoints.join(", ")
}

fn api_versions_request() -> RaftRequest {
    RaftRequest::ApiVersions(ApiVersionsRequest {
        client_software_name: "milena".into(),
        client_software_version: env!("CARGO_PKG_VERSION").into(),
        ..ApiVersionsRequest::default()
    })
}
