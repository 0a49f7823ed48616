//! Classic groups: the members agree on a leader, and the leader assigns (KIP-62, 134, 345, 394, 429, 800, 814).
//!
//! Members, their timers and the requests that wait are soft state: they are changed while deciding, and a
//! `GroupMetadataValue` is written when a generation is settled, empties, or a static member changes its id.
//! Source: Kafka's `ClassicGroup` and the classic half of `GroupMetadataManager`.
//!
//! One generation: a member joins or leaves ([`join`], [`leave`]) → the group prepares a rebalance and waits for all
//! members ([`rebalance`]) → a generation begins, each parked JoinGroup is answered → the leader's SyncGroup brings
//! the assignment, which is written and handed out ([`sync`]) → the group is stable.

mod group;
mod join;
mod leave;
mod member;
mod rebalance;
mod static_member;
mod sync;

pub(crate) use group::CONSUMER_PROTOCOL_TYPE;
pub use group::{ClassicGroup, ClassicState};
pub(crate) use join::{Joining, MEMBER_ID_REQUIRED_FROM};
pub(crate) use member::{Member, Protocol};
pub(crate) use static_member::StaticReplaced;

use crate::shard::GroupShard;

pub(crate) type Turn<'a> = milena_coordinator::Turn<'a, GroupShard>;
pub(crate) type Write = milena_coordinator::Write<GroupShard>;
