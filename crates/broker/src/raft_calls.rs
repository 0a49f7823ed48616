//! The quorum's requests to its peers, over the channel of [`crate::peers`].

use std::collections::BTreeMap;

use milena_base::Instant;
use milena_protocol::{
    AddRaftVoterRequest, ApiKey, ApiVersionsRequest, BeginQuorumEpochRequest,
    EndQuorumEpochRequest, FetchRequest, FetchSnapshotRequest, RemoveRaftVoterRequest,
    UpdateRaftVoterRequest, VoteRequest,
};
use milena_raft::{Event, Peer, RaftRequest, RaftResponse, Unanswered as Unheard};

use crate::ctx::Outbox;
use crate::peers::{Asker, Lane, PeerAddress, PeerAnswer, PeerCall, Unanswered};

/// What was sent and not answered yet, by raft's correlation.
#[derive(Debug, Default)]
pub(crate) struct RaftCalls {
    sent: BTreeMap<u64, ApiKey>,
}

impl RaftCalls {
    pub fn send(
        &mut self,
        to: Peer,
        correlation: u64,
        request: RaftRequest,
        deadline: Instant,
        out: &mut Outbox,
    ) {
        let to = PeerAddress::At {
            host: to.host,
            port: to.port,
        };
        let (lane, asker) = (Lane::Quorum, Asker::Quorum);
        let call = match request {
            RaftRequest::Vote(r) => PeerCall::new(to, lane, r, deadline, asker, correlation),
            RaftRequest::BeginQuorumEpoch(r) => {
                PeerCall::new(to, lane, r, deadline, asker, correlation)
            }
            RaftRequest::EndQuorumEpoch(r) => {
                PeerCall::new(to, lane, r, deadline, asker, correlation)
            }
            RaftRequest::Fetch(r) => PeerCall::new(to, lane, r, deadline, asker, correlation),
            RaftRequest::FetchSnapshot(r) => {
                PeerCall::new(to, lane, r, deadline, asker, correlation)
            }
            RaftRequest::AddRaftVoter(r) => {
                PeerCall::new(to, lane, r, deadline, asker, correlation)
            }
            RaftRequest::RemoveRaftVoter(r) => {
                PeerCall::new(to, lane, r, deadline, asker, correlation)
            }
            RaftRequest::UpdateRaftVoter(r) => {
                PeerCall::new(to, lane, r, deadline, asker, correlation)
            }
            RaftRequest::ApiVersions(r) => PeerCall::new(to, lane, r, deadline, asker, correlation),
            // Clients ask this; a replica never does.
            RaftRequest::DescribeQuorum(_) => return,
        };
        self.sent.insert(correlation, call.request.api());
        out.call(call);
    }

    /// What the replica is told of an answer; `None` where nobody waits for it.
    pub fn answered(&mut self, answer: PeerAnswer) -> Option<Event> {
        let correlation = answer.tag;
        let api = self.sent.remove(&correlation)?;
        let result = decode(api, answer).map_err(|why| match why {
            Unanswered::UnsupportedVersion => Unheard::UnsupportedVersion,
            _ => Unheard::Unreachable,
        });
        Some(Event::Response {
            correlation,
            result,
        })
    }
}

fn decode(api: ApiKey, answer: PeerAnswer) -> Result<RaftResponse, Unanswered> {
    Ok(match api {
        ApiKey::Vote => RaftResponse::Vote(answer.decode::<VoteRequest>()?),
        ApiKey::BeginQuorumEpoch => {
            RaftResponse::BeginQuorumEpoch(answer.decode::<BeginQuorumEpochRequest>()?)
        }
        ApiKey::EndQuorumEpoch => {
            RaftResponse::EndQuorumEpoch(answer.decode::<EndQuorumEpochRequest>()?)
        }
        ApiKey::Fetch => RaftResponse::Fetch(answer.decode::<FetchRequest>()?),
        ApiKey::AddRaftVoter => RaftResponse::AddRaftVoter(answer.decode::<AddRaftVoterRequest>()?),
        ApiKey::RemoveRaftVoter => {
            RaftResponse::RemoveRaftVoter(answer.decode::<RemoveRaftVoterRequest>()?)
        }
        ApiKey::UpdateRaftVoter => {
            RaftResponse::UpdateRaftVoter(answer.decode::<UpdateRaftVoterRequest>()?)
        }
        ApiKey::ApiVersions => RaftResponse::ApiVersions(answer.decode::<ApiVersionsRequest>()?),
        _ => RaftResponse::FetchSnapshot(answer.decode::<FetchSnapshotRequest>()?),
    })
}
