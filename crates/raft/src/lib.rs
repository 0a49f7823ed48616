//! `raft` is KRaft, Kafka's quorum over the metadata log (KIP-595, KIP-630, KIP-853, KIP-996), as a state machine: it
//! decides who leads, what is committed and which snapshots are kept. Its records are opaque to it but for its own
//! control records.
//!
//! It never opens a socket or a file, reads no clock and starts no thread. The log is a port ([`ReplicatedLog`]); what has
//! to be sent, answered or made durable comes out as [`Effect`]s, to be carried out **in order**: nothing is said before
//! it is on disk. Start at [`Raft`], the door in is [`Raft::step`].
//!
//! # Rules
//! - At most one leader in an epoch, one vote per voter and epoch; both are durable before they are spoken of.
//! - A replica that led an epoch never leads it again after a restart: it starts as resigned and wins the next one.
//! - Committed is what a majority of the voters in force has on disk, once a record of the leader's own epoch is among it.
//! - The high watermark never goes back; nothing below it is truncated, and a leader that asks for it is a fault.
//! - The log's start is always covered by a snapshot; the bootstrap snapshot 0-0 is never sent to anybody.
//!
//! - The voter set changes by one voter at a time, and not before the last change is committed: any two majorities overlap.
//!   A set is in force from where it is written, and no more where that is truncated. A removed leader leads until its
//!   removal is committed, without a vote of its own, and resigns.
//!
//! # Not built yet
//! Raising `kraft.version` of a running quorum.
#![forbid(unsafe_code)]

mod batch;
mod change;
mod history;
mod leader;
mod log;
mod message;
mod peers;
mod quorum_state;
mod raft;
mod role;
mod snapshot;
mod voters;

pub use batch::{BATCH_BYTES_MAX, ControlRecord, MetadataBatch, walk};
pub use log::{BOOTSTRAP_SNAPSHOT, Fault, OffsetAndEpoch, ReplicatedLog, SnapshotId};
pub use message::{
    Effect, Event, KRAFT_VERSIONS, LeaderAndEpoch, METADATA_TOPIC, Peer, RaftConfig, RaftRequest,
    RaftResponse, Unanswered,
};
pub use quorum_state::{QUORUM_STATE_FILE, QuorumState, QuorumStateError};
pub use raft::{Appended, NotAppended, Raft, SnapshotRefused};
pub use snapshot::{Retention, SnapshotBuilder, SnapshotPolicy, last_contained_log_timestamp};
pub use voters::{Endpoint, ReplicaKey, Voter, VoterSet};
