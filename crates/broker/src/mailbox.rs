//! The single-owner mailboxes, and what is posted to them. A mailbox is stepped by one thread of the edge (or by
//! the simulator); nothing in it is locked.

use milena_base::{Instant, Now};

use crate::cleaner::CleanerEvent;
use crate::ctx::Outbox;
use crate::followers::FollowersEvent;
use crate::groups::GroupsEvent;
use crate::housekeeping::Chore;
use crate::insync::InSyncEvent;
use crate::lifecycle::LifecycleEvent;
use crate::peers::PeerCall;
use crate::publisher::MetadataEvent;
use crate::quorum::QuorumEvent;
use crate::to_controller::ToControllerEvent;
use crate::transactions::TxnEvent;

/// A synchronous owner of state: events in, effects out, time as an argument.
pub trait Mailbox {
    type Event;

    fn step(&mut self, event: Self::Event, now: Now, out: &mut Outbox);

    /// Called at or after [`Mailbox::deadline`].
    fn tick(&mut self, now: Now, out: &mut Outbox);

    /// When `tick` is due; [`Instant::NEVER`] where nothing is.
    fn deadline(&self) -> Instant;

    /// Whether the owner may be dropped: it was told to stop and has done so.
    fn is_finished(&self) -> bool {
        false
    }
}

/// An effect for the edge to carry out.
#[derive(Debug)]
pub enum Post {
    Quorum(QuorumEvent),
    Metadata(MetadataEvent),
    Groups(GroupsEvent),
    Transactions(TxnEvent),
    Lifecycle(LifecycleEvent),
    ToController(ToControllerEvent),
    Chore(Chore),
    Cleaner(CleanerEvent),
    Followers(FollowersEvent),
    InSync(InSyncEvent),
    /// A request to another node; see [`crate::peers`].
    Call(Box<PeerCall>),
    /// A parked request's deadline is now the earliest.
    WaiterDeadline,
    /// The epoch under which this broker is registered.
    BrokerEpoch(i64),
    /// The broker is unfenced.
    Unfenced,
    /// The controller let the broker go.
    Left,
    /// The node must stop at once.
    Halt(String),
}

impl From<QuorumEvent> for Post {
    fn from(event: QuorumEvent) -> Post {
        Post::Quorum(event)
    }
}

impl From<MetadataEvent> for Post {
    fn from(event: MetadataEvent) -> Post {
        Post::Metadata(event)
    }
}

impl From<GroupsEvent> for Post {
    fn from(event: GroupsEvent) -> Post {
        Post::Groups(event)
    }
}

impl From<TxnEvent> for Post {
    fn from(event: TxnEvent) -> Post {
        Post::Transactions(event)
    }
}

impl From<LifecycleEvent> for Post {
    fn from(event: LifecycleEvent) -> Post {
        Post::Lifecycle(event)
    }
}

impl From<FollowersEvent> for Post {
    fn from(event: FollowersEvent) -> Post {
        Post::Followers(event)
    }
}

impl From<InSyncEvent> for Post {
    fn from(event: InSyncEvent) -> Post {
        Post::InSync(event)
    }
}
