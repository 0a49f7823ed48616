//! `broker` is the node's brain: what each request is answered, who waits for what, what committed metadata means
//! for this node, and the mailboxes of the quorum, the groups and the broker's own life. It is synchronous: time
//! comes as an argument, effects go into an [`Outbox`], and it opens no socket, starts no thread and reads no clock.
//!
//! Start at [`Broker::handle`] for the way of a request (one file an API in `api/`), and at [`start`] for what a node is
//! made of.
#![forbid(unsafe_code)]

mod altering;
mod api;
mod ask;
mod auto_create;
mod broker;
mod cleaner;
mod configs;
mod controller_registration;
mod coordinator_log;
mod ctx;
mod dirs;
mod followers;
pub mod format;
mod groups;
mod housekeeping;
mod insync;
mod lifecycle;
mod loggers;
mod mailbox;
mod markers;
pub mod metadata_log;
mod operations;
mod parked;
mod peers;
mod probes;
mod producer_ids;
mod publisher;
mod quorum;
mod raft_calls;
mod sessions;
mod settings;
pub mod start;
mod throttle;
mod to_controller;
mod topic_rules;
pub mod topics;
mod transactions;
mod txn_calls;
mod verification;
mod waiters;

pub use api::{ListenerKind, served_apis};
pub use ask::{Ask, Behalf, Origin, Wanted};
pub use broker::{Broker, Hosted, TopicRules};
pub use cleaner::{Cleaner, CleanerEvent};
pub use ctx::{ConnectionId, Ctx, Enveloped, Outbox, Reply, ReplyTo};
pub use dirs::{Dir, Dirs};
pub use followers::{Followers, FollowersEvent, Following};
pub use groups::{Groups, GroupsEvent};
pub use housekeeping::{Chore, Housekeeper};
pub use insync::{InSync, InSyncEvent};
pub use lifecycle::{LifeState, Lifecycle, LifecycleEvent, Registration};
pub use loggers::Loggers;
pub use mailbox::{Mailbox, Post};
pub use peers::{
    Answered, Asker, CALLS_MAX, Lane, PeerAddress, PeerAnswer, PeerCall, PeerRequest, Unanswered,
};
pub use publisher::{MetadataEvent, Publisher};
pub use quorum::{Quorum, QuorumEvent, QuorumParts};
pub use settings::{ListenerSettings, Settings};
pub use throttle::Windows;
pub use to_controller::{ActiveController, ToController, ToControllerEvent};
pub use transactions::{Transactions, TxnEvent};
