//! The door in and the doors out of the state machine.

use std::time::Duration;

use milena_base::{BrokerId, Epoch, Offset, Uuid};
use milena_protocol::{
    AddRaftVoterRequest, AddRaftVoterResponse, ApiVersionsRequest, ApiVersionsResponse,
    BeginQuorumEpochRequest, BeginQuorumEpochResponse, DescribeQuorumRequest,
    DescribeQuorumResponse, EndQuorumEpochRequest, EndQuorumEpochResponse, FetchRequest,
    FetchResponse, FetchSnapshotRequest, FetchSnapshotResponse, RemoveRaftVoterRequest,
    RemoveRaftVoterResponse, UpdateRaftVoterRequest, UpdateRaftVoterResponse, VoteRequest,
    VoteResponse,
};

use crate::batch::BATCH_BYTES_MAX;
use crate::log::SnapshotId;
use crate::voters::{Endpoint, ReplicaKey, Voter, VoterSet};

/// Name of the replicated partition's topic; its only partition is 0.
pub const METADATA_TOPIC: &str = "__cluster_metadata";

/// What a replica of the quorum is told once, at its start.
#[derive(Clone, Debug)]
pub struct RaftConfig {
    /// `node.id`.
    pub node: BrokerId,
    /// `directory.id` of the metadata log's directory; not zero.
    pub directory: Uuid,
    pub cluster_id: String,
    /// Where this node listens as a controller, in the order of `controller.listener.names`; empty on a broker.
    pub endpoints: Vec<Endpoint>,
    /// The listener by which controllers reach each other: the first of `controller.listener.names`.
    pub listener: String,
    /// `controller.quorum.voters`; empty with a dynamic quorum.
    pub static_voters: VoterSet,
    /// `controller.quorum.bootstrap.servers`: whom to ask where no leader is known.
    pub bootstrap: Vec<(String, u16)>,
    /// Whether this node, once it follows, asks to become a voter (`controller.quorum.auto.join.enable`).
    pub auto_join: bool,
    /// `controller.quorum.election.timeout.ms`.
    pub election_timeout: Duration,
    /// `controller.quorum.fetch.timeout.ms`.
    pub fetch_timeout: Duration,
    /// `controller.quorum.election.backoff.max.ms`.
    pub election_backoff_max: Duration,
    /// `controller.quorum.request.timeout.ms`.
    pub request_timeout: Duration,
    /// `controller.quorum.retry.backoff.ms`.
    pub retry_backoff: Duration,
    /// `controller.quorum.fetch.max.bytes`: asked for in one fetch.
    pub fetch_bytes_max: i32,
    /// `controller.quorum.fetch.snapshot.max.bytes`: asked for in one FetchSnapshot.
    pub snapshot_bytes_max: i32,
}

impl RaftConfig {
    /// Kafka's default timeouts.
    pub fn new(node: BrokerId, directory: Uuid, cluster_id: impl Into<String>) -> RaftConfig {
        RaftConfig {
            node,
            directory,
            cluster_id: cluster_id.into(),
            endpoints: Vec::new(),
            listener: "CONTROLLER".to_owned(),
            static_voters: VoterSet::default(),
            bootstrap: Vec::new(),
            auto_join: false,
            election_timeout: Duration::from_millis(1000),
            fetch_timeout: Duration::from_millis(2000),
            election_backoff_max: Duration::from_millis(1000),
            request_timeout: Duration::from_millis(2000),
            retry_backoff: Duration::from_millis(20),
            fetch_bytes_max: BATCH_BYTES_MAX as i32,
            snapshot_bytes_max: BATCH_BYTES_MAX as i32,
        }
    }

    pub(crate) fn key(&self) -> ReplicaKey {
        ReplicaKey::new(self.node, self.directory)
    }

    /// This node's entry in a voter set.
    pub(crate) fn voter(&self) -> Voter {
        Voter {
            key: self.key(),
            endpoints: self.endpoints.clone(),
            kraft_versions: KRAFT_VERSIONS,
        }
    }
}

/// Lowest and highest `kraft.version` that this release supports.
pub const KRAFT_VERSIONS: (i16, i16) = (0, 1);

/// A request of the quorum's protocol, decoded.
#[derive(Clone, Debug, PartialEq)]
pub enum RaftRequest {
    Vote(VoteRequest),
    BeginQuorumEpoch(BeginQuorumEpochRequest),
    EndQuorumEpoch(EndQuorumEpochRequest),
    Fetch(FetchRequest),
    FetchSnapshot(FetchSnapshotRequest),
    DescribeQuorum(DescribeQuorumRequest),
    AddRaftVoter(AddRaftVoterRequest),
    RemoveRaftVoter(RemoveRaftVoterRequest),
    UpdateRaftVoter(UpdateRaftVoterRequest),
    /// Asked of a replica that is to become a voter; never answered by one.
    ApiVersions(ApiVersionsRequest),
}

/// The answer to the [`RaftRequest`] of the same name.
#[derive(Clone, Debug, PartialEq)]
pub enum RaftResponse {
    Vote(VoteResponse),
    BeginQuorumEpoch(BeginQuorumEpochResponse),
    EndQuorumEpoch(EndQuorumEpochResponse),
    Fetch(FetchResponse),
    FetchSnapshot(FetchSnapshotResponse),
    DescribeQuorum(DescribeQuorumResponse),
    AddRaftVoter(AddRaftVoterResponse),
    RemoveRaftVoter(RemoveRaftVoterResponse),
    UpdateRaftVoter(UpdateRaftVoterResponse),
    ApiVersions(ApiVersionsResponse),
}

/// Why a request brought no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// No connection, or it ended.
    Unreachable,
    /// The peer does not know the request in a version that can carry it.
    UnsupportedVersion,
}

/// Where a request goes. A negative id stands for a bootstrap server, whose id is not known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    pub id: BrokerId,
    pub host: String,
    pub port: u16,
}

/// What happens to a replica. (Appending has a door of its own, [`crate::Raft::append`], since the controller needs
/// the offsets before it replays; so has flushing, [`crate::Raft::flush`].)
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The time of [`crate::Raft::deadline`] has come. Harmless at any other time.
    Tick,
    /// A peer (or, for DescribeQuorum, a client) asks; `token` comes back with [`Effect::Answer`].
    Request {
        token: u64,
        version: i16,
        request: RaftRequest,
    },
    /// What became of an [`Effect::Send`].
    Response {
        correlation: u64,
        result: Result<RaftResponse, Unanswered>,
    },
    /// A snapshot was written, synced and renamed to its final name.
    SnapshotFrozen(SnapshotId),
    /// The controller of this epoch can't go on: give the leadership up. Ignored in any other epoch.
    Resign(Epoch),
    /// The node stops: hand the leadership over. Done when [`Effect::Stopped`] comes.
    Stop,
}

/// Who leads, as far as this replica knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaderAndEpoch {
    pub leader: Option<BrokerId>,
    pub epoch: Epoch,
}

/// What the owner does, **in this order**: an effect may be carried out only when all before it are done. So a vote is
/// durable before it is sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Replace the file `quorum-state` by these bytes, durably. A failure stops the node.
    Persist(Vec<u8>),
    /// Records were appended: call [`crate::Raft::flush`] soon (events that wait already may go first, so that one fsync
    /// serves them all). What was appended counts only from there on.
    Flush,
    Send {
        to: Peer,
        correlation: u64,
        request: RaftRequest,
    },
    Answer {
        token: u64,
        response: RaftResponse,
    },
    /// Another leader, or another epoch, or none.
    Leader(LeaderAndEpoch),
    /// Everything below is committed: listeners may load up to here.
    Committed {
        high_watermark: Offset,
    },
    /// This node leads `epoch`, and all that earlier leaders wrote is committed: once the controller has loaded everything
    /// below `next_offset`, it may [`crate::Raft::append`].
    Active {
        epoch: Epoch,
        next_offset: Offset,
    },
    /// A snapshot replaced the log's beginning: listeners below the log's start load it first.
    SnapshotLoaded(SnapshotId),
    /// After [`Event::Stop`]: the quorum no longer needs this node.
    Stopped,
}
