//! What the active controller, or the leader of its quorum, is asked: by clients of this node, by this node itself, and by
//! other nodes.

use std::net::IpAddr;

use bytes::Bytes;
use milena_base::{BrokerId, ErrorCode, Instant};
use milena_controller::{ControllerAnswer, ControllerRequest, RequestContext};
use milena_net::call;
use milena_protocol::{
    AddRaftVoterResponse, ApiKey, DescribeQuorumResponse, EncodeError, Message,
    RemoveRaftVoterResponse, RequestHeader, Str, Writer, alter_configs_response,
    incremental_alter_configs_response,
};
use milena_raft::RaftRequest;

use crate::broker::Broker;
use crate::ctx::{Outbox, ReplyTo};
use crate::insync::InSyncEvent;
use crate::lifecycle::LifecycleEvent;
use crate::mailbox::Post;
use crate::peers::PeerRequest;
use crate::producer_ids;
use crate::quorum::QuorumEvent;
use crate::to_controller::ToControllerEvent;

/// Who asked, and so where the answer goes.
#[derive(Clone, Debug)]
pub enum Origin {
    Client(ReplyTo),
    /// With the resources that the broker itself refused.
    IncrementalAlterConfigs(
        ReplyTo,
        Vec<incremental_alter_configs_response::AlterConfigsResourceResponse>,
    ),
    AlterConfigs(
        ReplyTo,
        Vec<alter_configs_response::AlterConfigsResourceResponse>,
    ),
    Lifecycle,
    ProducerIds,
    InSync,
    /// The answer is not looked at: the committed records tell.
    Nobody,
}

/// The client in whose name a request is forwarded (KIP-590).
#[derive(Clone, Debug)]
pub struct Behalf {
    pub principal: String,
    pub client_id: Option<Str>,
    pub host: IpAddr,
}

/// What is asked.
#[derive(Clone, Debug)]
pub enum Wanted {
    Controller(Box<ControllerRequest>, RequestContext),
    Quorum(RaftRequest),
}

/// One request to the active controller.
#[derive(Clone, Debug)]
pub struct Ask {
    pub origin: Origin,
    pub wanted: Wanted,
    /// `None` for a request of the node itself.
    pub behalf: Option<Behalf>,
    /// Whether it may travel on to another node: it came from a client of a broker listener here, or from this node.
    pub travels: bool,
    /// When it is given up; [`Instant::NEVER`] where that is not said yet.
    pub deadline: Instant,
}

impl Ask {
    /// A request of this node itself.
    pub fn own(origin: Origin, request: impl Into<ControllerRequest>) -> Ask {
        let request = Box::new(request.into());
        let context = RequestContext {
            version: request.api_key().max_version(),
            forwarded: true,
            ..RequestContext::default()
        };
        Ask {
            origin,
            wanted: Wanted::Controller(request, context),
            behalf: None,
            travels: true,
            deadline: Instant::NEVER,
        }
    }

    pub fn api(&self) -> ApiKey {
        match &self.wanted {
            Wanted::Controller(request, _) => request.api_key(),
            Wanted::Quorum(request) => raft_api(request),
        }
    }

    /// The client's connection and version, where a client asked.
    pub fn reply_to(&self) -> Option<ReplyTo> {
        match &self.origin {
            Origin::Client(to)
            | Origin::IncrementalAlterConfigs(to, _)
            | Origin::AlterConfigs(to, _) => Some(*to),
            Origin::Lifecycle | Origin::ProducerIds | Origin::InSync | Origin::Nobody => None,
        }
    }

    fn encode_body(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        match &self.wanted {
            Wanted::Controller(request, _) => request.encode(w, version),
            Wanted::Quorum(request) => encode_raft(request, w, version),
        }
    }

    /// The request as a frame, its length prefix included.
    pub fn frame(
        &self,
        version: i16,
        correlation_id: i32,
        client_id: Option<Str>,
    ) -> Result<Bytes, EncodeError> {
        let header = RequestHeader {
            request_api_key: self.api().code(),
            request_api_version: version,
            correlation_id,
            client_id,
        };
        call::encode_with(header, |w| self.encode_body(w, version))
    }

    /// Answers with a code for all of it.
    pub fn refuse(self, broker: &Broker, code: ErrorCode, out: &mut Outbox) {
        let version = self.reply_to().map_or(i16::MAX, |to| to.version);
        match self.wanted {
            Wanted::Controller(request, context) => {
                let answer = request.refused(code, version.min(context.version));
                deliver(broker, self.origin, answer, out);
            }
            Wanted::Quorum(request) => {
                if let Origin::Client(to) = self.origin {
                    refuse_quorum(&request, to, code, out);
                }
            }
        }
    }
}

fn raft_api(request: &RaftRequest) -> ApiKey {
    match request {
        RaftRequest::Vote(_) => ApiKey::Vote,
        RaftRequest::BeginQuorumEpoch(_) => ApiKey::BeginQuorumEpoch,
        RaftRequest::EndQuorumEpoch(_) => ApiKey::EndQuorumEpoch,
        RaftRequest::Fetch(_) => ApiKey::Fetch,
        RaftRequest::FetchSnapshot(_) => ApiKey::FetchSnapshot,
        RaftRequest::DescribeQuorum(_) => ApiKey::DescribeQuorum,
        RaftRequest::AddRaftVoter(_) => ApiKey::AddRaftVoter,
        RaftRequest::RemoveRaftVoter(_) => ApiKey::RemoveRaftVoter,
        RaftRequest::UpdateRaftVoter(_) => ApiKey::UpdateRaftVoter,
        RaftRequest::ApiVersions(_) => ApiKey::ApiVersions,
    }
}

fn encode_raft(request: &RaftRequest, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
    match request {
        RaftRequest::Vote(r) => r.encode(w, version),
        RaftRequest::BeginQuorumEpoch(r) => r.encode(w, version),
        RaftRequest::EndQuorumEpoch(r) => r.encode(w, version),
        RaftRequest::Fetch(r) => r.encode(w, version),
        RaftRequest::FetchSnapshot(r) => r.encode(w, version),
        RaftRequest::DescribeQuorum(r) => r.encode(w, version),
        RaftRequest::AddRaftVoter(r) => r.encode(w, version),
        RaftRequest::RemoveRaftVoter(r) => r.encode(w, version),
        RaftRequest::UpdateRaftVoter(r) => r.encode(w, version),
        RaftRequest::ApiVersions(r) => r.encode(w, version),
    }
}

/// What clients of a broker ask of the quorum; replicas ask the controllers themselves.
fn refuse_quorum(request: &RaftRequest, to: ReplyTo, code: ErrorCode, out: &mut Outbox) {
    let error_code = code.code();
    match request {
        RaftRequest::AddRaftVoter(_) => out.reply(
            to,
            &AddRaftVoterResponse {
                error_code,
                ..AddRaftVoterResponse::default()
            },
        ),
        RaftRequest::RemoveRaftVoter(_) => out.reply(
            to,
            &RemoveRaftVoterResponse {
                error_code,
                ..RemoveRaftVoterResponse::default()
            },
        ),
        _ => out.reply(
            to,
            &DescribeQuorumResponse {
                error_code,
                ..DescribeQuorumResponse::default()
            },
        ),
    }
}

/// A request of this node itself, as it goes over the channel.
#[derive(Debug)]
pub(crate) struct OwnRequest(pub Box<Ask>);

impl PeerRequest for OwnRequest {
    fn api(&self) -> ApiKey {
        self.0.api()
    }

    fn frame(
        &self,
        version: i16,
        correlation_id: i32,
        client_id: Option<Str>,
    ) -> Result<Bytes, EncodeError> {
        self.0.frame(version, correlation_id, client_id)
    }
}

/// Sends an answer to whoever asked.
pub(crate) fn deliver(broker: &Broker, origin: Origin, answer: ControllerAnswer, out: &mut Outbox) {
    match (origin, answer) {
        (Origin::Client(to), answer) => {
            let frame = to.frame_with(|w| answer.encode(w, to.version));
            out.replies.push((to, frame));
        }
        (
            Origin::IncrementalAlterConfigs(to, refused),
            ControllerAnswer::IncrementalAlterConfigs(mut body),
        ) => {
            body.responses.extend(refused);
            out.reply(to, &body);
        }
        (Origin::AlterConfigs(to, refused), ControllerAnswer::AlterConfigs(mut body)) => {
            body.responses.extend(refused);
            out.reply(to, &body);
        }
        (Origin::Lifecycle, ControllerAnswer::BrokerRegistration(body)) => {
            out.post(LifecycleEvent::Registered(Box::new(body)));
        }
        (Origin::Lifecycle, ControllerAnswer::BrokerHeartbeat(body)) => {
            out.post(LifecycleEvent::Beaten(Box::new(body)));
        }
        (Origin::Lifecycle, ControllerAnswer::ControllerRegistration(body)) => {
            out.post(LifecycleEvent::ControllerRegistered(body.error_code));
        }
        (Origin::ProducerIds, ControllerAnswer::AllocateProducerIds(body)) => {
            producer_ids::on_block(broker, &body, out);
        }
        (Origin::InSync, ControllerAnswer::AlterPartition(body)) => {
            out.post(InSyncEvent::Answered(Box::new(body)));
        }
        // An answer of another kind than its request is not made.
        (_, _) => {}
    }
}

impl Broker {
    /// Asks the active controller, here or on another node. The answer goes to `origin`: add a variant there, and its
    /// answer to `deliver`, to ask in a new name.
    pub(crate) fn ask_controller(
        &self,
        origin: Origin,
        request: impl Into<ControllerRequest>,
        out: &mut Outbox,
    ) {
        let ask = Box::new(Ask::own(origin, request));
        out.posts.push(self.route(ask));
    }

    /// To the quorum's mailbox where the active controller seems to be here; otherwise to the channel that finds it. A
    /// request that may not travel goes no further than to this node's own.
    pub(crate) fn route(&self, ask: Box<Ask>) -> Post {
        let here = self.active_controller() == BrokerId(self.node().0).0;
        match here || !ask.travels {
            true => Post::Quorum(QuorumEvent::Ask(ask)),
            false => Post::ToController(ToControllerEvent::Ask(ask)),
        }
    }
}
