//! The channel to other nodes: requests of this node as values, and what became of them.
//!
//! A mailbox that wants something of another node posts a [`PeerCall`] ([`crate::Outbox::call`]) and gets exactly one
//! [`PeerAnswer`] back as an event of its own, found again by the tag that it gave: the answer, or why there is none. It
//! comes at the call's deadline at the latest. To ask from a new mailbox, add it to [`Asker`] and to
//! [`PeerAnswer::into_post`].
//!
//! Calls to one node in one [`Lane`] share a connection: they arrive in the order in which they were posted, several may
//! be under way, and a slow one holds up the later ones of its lane alone. Nothing is sent twice: whether to try again is
//! the asker's decision. The edge (`node`, or a simulator) connects, asks for the peer's ApiVersions, chooses the highest
//! version that both know up to [`PeerCall::version_max`], pauses after a failed connection (calls wait for it up to their
//! deadline), and holds at most [`CALLS_MAX`] calls a connection. A call that runs out of time ends its connection, as in
//! Kafka's `NetworkClient`: nobody knows how long the answers behind it would wait.

use std::fmt;

use bytes::Bytes;
use milena_base::{BrokerId, Instant};
use milena_net::call;
use milena_protocol::{ApiKey, EncodeError, Request, Str};

use crate::broker::Broker;
use crate::followers::FollowersEvent;
use crate::mailbox::Post;
use crate::quorum::QuorumEvent;
use crate::to_controller::ToControllerEvent;
use crate::transactions::TxnEvent;

/// Calls that may wait or be under way on one connection; more are [`Unanswered::Overloaded`].
pub const CALLS_MAX: usize = 1000;
/// The largest answer that is taken but for fetches, whose bound is their own `max_bytes` and one batch.
const ANSWER_BYTES_MAX: usize = 100 << 20;

/// What never waits behind one another: each lane has a connection of its own to each node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Votes, fetches and snapshots of the metadata log.
    Quorum,
    /// Whether a silent broker is there.
    Probe,
    /// Registrations and heartbeats to the active controller.
    Heartbeat,
    /// AlterPartition, AssignReplicasToDirs and AllocateProducerIds to the active controller.
    Controller,
    /// Clients' requests on their way to the active controller.
    Forwarding,
    /// Replica fetches; one lane a fetcher thread (`num.replica.fetchers`).
    Fetch(u16),
    /// Markers of decided transactions.
    Markers,
    /// AddPartitionsToTxn to transaction coordinators (KIP-890).
    Verification,
}

impl Lane {
    /// The client id under which this node asks in this lane, as Kafka's nodes do.
    pub fn client_id(self, node: BrokerId) -> String {
        match self {
            Lane::Quorum => format!("raft-client-{node}"),
            Lane::Probe | Lane::Heartbeat | Lane::Controller | Lane::Forwarding => node.to_string(),
            Lane::Fetch(fetcher) => format!("broker-{node}-fetcher-{fetcher}"),
            Lane::Markers => format!("broker-{node}-txn-marker-sender"),
            Lane::Verification => format!("broker-{node}-add-partitions-to-txn"),
        }
    }

    /// The largest answer that is taken, in bytes.
    pub fn answer_bytes_max(self) -> usize {
        match self {
            Lane::Fetch(_) | Lane::Quorum => i32::MAX as usize,
            _ => ANSWER_BYTES_MAX,
        }
    }
}

/// Whom to ask.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PeerAddress {
    /// A registered broker, by its listener of the name `inter.broker.listener.name` in the published metadata.
    Broker(BrokerId),
    At {
        host: String,
        port: u16,
    },
}

/// A request that can be put into a frame: every [`Request`] of the protocol.
pub trait PeerRequest: fmt::Debug + Send {
    fn api(&self) -> ApiKey;

    /// The whole frame. Fails where this version can't carry what the request says.
    fn frame(
        &self,
        version: i16,
        correlation_id: i32,
        client_id: Option<Str>,
    ) -> Result<Bytes, EncodeError>;
}

impl<R: Request + Send> PeerRequest for R {
    fn api(&self) -> ApiKey {
        R::API_KEY
    }

    fn frame(
        &self,
        version: i16,
        correlation_id: i32,
        client_id: Option<Str>,
    ) -> Result<Bytes, EncodeError> {
        call::encode(self, version, correlation_id, client_id)
    }
}

/// The mailbox that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    Quorum,
    ToController,
    Followers,
    Transactions,
}

/// One request to another node.
#[derive(Debug)]
pub struct PeerCall {
    pub to: PeerAddress,
    pub lane: Lane,
    pub request: Box<dyn PeerRequest>,
    /// The highest version to use: what the finalised features allow; `i16::MAX` where the peers settle it.
    pub version_max: i16,
    /// No answer is awaited longer. The call is given up before it was sent, too.
    pub deadline: Instant,
    pub asker: Asker,
    /// Means something to the asker alone.
    pub tag: u64,
}

impl PeerCall {
    pub fn new(
        to: PeerAddress,
        lane: Lane,
        request: impl Request + Send,
        deadline: Instant,
        asker: Asker,
        tag: u64,
    ) -> PeerCall {
        PeerCall {
            to,
            lane,
            request: Box::new(request),
            version_max: i16::MAX,
            deadline,
            asker,
            tag,
        }
    }

    /// The end of this call.
    pub fn end(&self, result: Result<Answered, Unanswered>) -> PeerAnswer {
        PeerAnswer {
            asker: self.asker,
            tag: self.tag,
            result,
        }
    }
}

/// A response, still in its frame: the asker knows what it asked.
#[derive(Clone, Debug)]
pub struct Answered {
    /// The version in which the request was sent.
    pub version: i16,
    frame: Bytes,
}

impl Answered {
    /// `frame`: without its length prefix.
    pub fn new(version: i16, frame: Bytes) -> Answered {
        Answered { version, frame }
    }

    /// The response's body, undecoded.
    pub fn body(self, api: ApiKey) -> Result<Bytes, Unanswered> {
        call::body(self.frame, api, self.version).map_err(|_| Unanswered::Malformed)
    }

    /// The response to the `R` that was sent.
    pub fn decode<R: Request>(self) -> Result<R::Response, Unanswered> {
        call::decode::<R>(self.frame, self.version).map_err(|_| Unanswered::Malformed)
    }
}

/// Why a request brought no answer. It may have been carried out all the same, but for [`Unanswered::Refused`],
/// [`Unanswered::UnsupportedVersion`] and [`Unanswered::Overloaded`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// No address is known.
    Unknown,
    /// Nobody listens at the address: the process is gone, or not there yet.
    Refused,
    /// The connection failed or ended.
    Unreachable,
    TimedOut,
    /// The peer does not serve the API, or not in a version that can carry the request.
    UnsupportedVersion,
    Overloaded,
    /// The answer does not have the form of its API and version.
    Malformed,
}

/// What became of a [`PeerCall`].
#[derive(Clone, Debug)]
pub struct PeerAnswer {
    pub asker: Asker,
    pub tag: u64,
    pub result: Result<Answered, Unanswered>,
}

impl PeerAnswer {
    /// The response to the `R` that was sent.
    pub fn decode<R: Request>(self) -> Result<R::Response, Unanswered> {
        self.result.and_then(Answered::decode::<R>)
    }

    /// For the mailbox that asked.
    pub fn into_post(self) -> Post {
        match self.asker {
            Asker::Quorum => Post::Quorum(QuorumEvent::Answered(self)),
            Asker::ToController => Post::ToController(ToControllerEvent::Answered(self)),
            Asker::Followers => Post::Followers(FollowersEvent::Answered(self)),
            Asker::Transactions => Post::Transactions(TxnEvent::Answered(self)),
        }
    }
}

impl Broker {
    /// Host and port of a peer, as far as the published metadata tells.
    pub fn resolve_peer(&self, peer: &PeerAddress) -> Option<(String, u16)> {
        match peer {
            PeerAddress::At { host, port } => Some((host.clone(), *port)),
            PeerAddress::Broker(id) => {
                let image = self.image();
                let listeners = &image.cluster.broker(id.0)?.listeners;
                let endpoint = listeners.get(self.settings.inter_broker_listener.as_str())?;
                Some((endpoint.host.to_string(), endpoint.port))
            }
        }
    }
}
