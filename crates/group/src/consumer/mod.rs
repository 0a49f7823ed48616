//! Consumer groups (KIP-848): the coordinator assigns, and each member moves to its assignment in its own time, by
//! heartbeats. Source: Kafka's `ConsumerGroup` and the consumer half of `GroupMetadataManager`.
//!
//! Three epochs: the group's goes up when members, subscriptions or topics change; the target assignment has that of
//! the group it was computed for ([`target`]); a member's is that of the target it has reached ([`reconcile`]).
//! A member keeps what it has for as long as it is in its target: a rebalance stops nobody else.
//!
//! Everything is decided into records and replayed ([`group`]). Soft state are timers alone, and what may be looked at
//! again later.

pub(crate) mod assignment;
pub mod assignor;
pub(crate) mod classic;
mod commit;
mod describe;
mod embedded;
mod fence;
pub(crate) mod group;
mod hash;
mod heartbeat;
mod member;
mod migrate;
mod reconcile;
pub(crate) mod record;
pub mod regex;
mod regexes;
mod target;
pub(crate) mod watch;

pub use assignment::{Owned, Partitions};
pub use group::{ConsumerGroup, ConsumerState, Resolved};
pub use member::{ConsumerMember, LEAVE_EPOCH, LEAVE_STATIC_EPOCH, MemberState};

use milena_base::ErrorCode;

use crate::shard::GroupShard;

pub(crate) type Turn<'a> = milena_coordinator::Turn<'a, GroupShard>;
pub(crate) type Write = milena_coordinator::Write<GroupShard>;

/// A refusal, with a sentence for whoever asked.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) code: ErrorCode,
    pub(crate) message: Option<String>,
}

pub(crate) fn refuse<T>(code: ErrorCode, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal {
        code,
        message: Some(message.into()),
    })
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Refusal {
        Refusal {
            code,
            message: None,
        }
    }
}
