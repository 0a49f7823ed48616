//! `group` is the group coordinator: who is in a group, who leads it, what each member has been assigned, and which
//! offsets have been committed. It decides what a request about groups is answered and which records are written to
//! `__consumer_offsets`. It appends nothing itself, knows no topic but by what it is told, and reads no clock.
//!
//! Start at [`GroupCoordinator`]; one partition's state machine is [`GroupShard`], driven by `coordinator`.
//! One folder a kind of group: [`classic`] and [`consumer`] are served; the others are kept in [`other`] until they get
//! theirs.
#![forbid(unsafe_code)]

mod admin;
mod admission;
mod api;
pub mod classic;
mod config;
pub mod consumer;
mod coordinator;
mod offsets;
pub mod other;
mod record;
mod request;
mod shard;

pub use api::{GroupRequest, GroupResponse, Topics};
pub use config::{ConsumerGroupConfig, ConsumerGroupSettings, GroupConfig, MigrationPolicy};
pub use coordinator::GroupCoordinator;
/// What the owner of a [`GroupCoordinator`] deals in.
pub use milena_coordinator::{
    Effect, Event, KeyValue, LoadedRecord, LogEnd, Marker, Payload, Producer, Token, build_batch,
    partition_for, read_batches,
};
pub use offsets::delete::DeletedTopic;
pub use offsets::{CommittedOffset, OffsetKey, OffsetTable};
pub use record::{ConsumerRecord, GroupRecord};
pub use request::{RequestContext, ShardRequest, ShardResponse};
pub use shard::{Committed, Group, GroupShard};
