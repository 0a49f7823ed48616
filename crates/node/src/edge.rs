//! Where the brain's effects become real: answers go to their connections, posts to their mailboxes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, RwLock};

use milena_broker::{
    Broker, Chore, CleanerEvent, ConnectionId, FollowersEvent, GroupsEvent, InSyncEvent, Lane,
    LifecycleEvent, MetadataEvent, Outbox, PeerAddress, PeerAnswer, Post, QuorumEvent,
    ToControllerEvent, TxnEvent,
};
use milena_net::Limits;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;

use crate::admission::Admission;
use crate::clock::Clock;
use crate::connection::Answer;
use crate::peers::{Calls, Home};

/// The senders into the mailboxes' threads.
pub struct Senders {
    pub quorum: Sender<QuorumEvent>,
    pub metadata: Sender<MetadataEvent>,
    pub groups: Sender<GroupsEvent>,
    pub transactions: Sender<TxnEvent>,
    pub lifecycle: Sender<LifecycleEvent>,
    pub to_controller: Sender<ToControllerEvent>,
    pub chores: Sender<Chore>,
    pub cleaner: Sender<CleanerEvent>,
    pub followers: Sender<FollowersEvent>,
    pub insync: Sender<InSyncEvent>,
    pub calls: Calls,
    /// True: a new deadline; false: stop.
    pub waiters: Sender<bool>,
    /// The node's own life, told to whoever runs it.
    pub life: UnboundedSender<Life>,
}

/// News for whoever runs the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Unfenced: clients are served.
    Ready,
    /// The controller let go of this broker.
    Left,
    /// A broken storage or quorum invariant: the process must end.
    Halt,
}

/// Shared by all threads and tasks of the node.
pub struct Edge {
    pub broker: Arc<Broker>,
    pub clock: Clock,
    pub limits: Limits,
    pub admission: Admission,
    senders: Senders,
    // Keyed by numbers that this process hands out: the order is never looked at.
    connections: RwLock<HashMap<ConnectionId, UnboundedSender<Answer>>>,
    next_connection: AtomicU64,
    /// Whether the controller has unfenced this broker once.
    served: watch::Sender<bool>,
}

impl Edge {
    pub fn new(broker: Arc<Broker>, clock: Clock, limits: Limits, senders: Senders) -> Edge {
        Edge {
            broker,
            clock,
            limits,
            admission: Admission::default(),
            senders,
            connections: RwLock::default(),
            next_connection: AtomicU64::new(1),
            served: watch::Sender::new(false),
        }
    }

    /// Waits until the controller has unfenced this broker. Whoever reached it before might copy from a leader of the
    /// past: after an unclean stop it has that role until its new registration takes it away.
    pub async fn until_served(&self) {
        // The sender is here, so it can't be gone.
        let _ = self.served.subscribe().wait_for(|served| *served).await;
    }

    /// A new connection's id, and where its late answers arrive.
    pub fn open(&self) -> (ConnectionId, UnboundedReceiver<Answer>) {
        let id = ConnectionId(self.next_connection.fetch_add(1, Ordering::Relaxed));
        let (sender, receiver) = unbounded_channel();
        let mut connections = self.connections.write().expect("no panic while held");
        connections.insert(id, sender);
        (id, receiver)
    }

    pub fn close(&self, id: ConnectionId) {
        let mut connections = self.connections.write().expect("no panic while held");
        connections.remove(&id);
    }

    /// Drops every connection's sender: their tasks end.
    pub fn close_all(&self) {
        let mut connections = self.connections.write().expect("no panic while held");
        connections.clear();
    }

    /// No other node is asked any more.
    pub fn stop_peers(&self) {
        send(self.senders.calls.send(None));
    }

    pub fn stop_waiters(&self) {
        send(self.senders.waiters.send(false));
    }

    /// Empties an outbox.
    pub fn deliver(&self, out: &mut Outbox) {
        if out.is_empty() {
            return;
        }
        if !out.replies.is_empty() {
            let connections = self.connections.read().expect("no panic while held");
            for (to, frame) in out.replies.drain(..) {
                if let Some(sender) = connections.get(&to.connection) {
                    // A closed receiver is a connection that ended meanwhile.
                    let _ = sender.send((to.sequence, frame));
                }
            }
        }
        for post in out.posts.drain(..) {
            self.post(post);
        }
    }

    /// Sends to a mailbox. One that has ended takes nothing more: the node is stopping.
    pub fn post(&self, post: Post) {
        let senders = &self.senders;
        match post {
            Post::Quorum(event) => send(senders.quorum.send(event)),
            Post::Metadata(event) => send(senders.metadata.send(event)),
            Post::Groups(event) => send(senders.groups.send(event)),
            Post::Transactions(event) => send(senders.transactions.send(event)),
            Post::Lifecycle(event) => send(senders.lifecycle.send(event)),
            Post::ToController(event) => send(senders.to_controller.send(event)),
            Post::Chore(chore) => send(senders.chores.send(chore)),
            Post::Cleaner(event) => send(senders.cleaner.send(event)),
            Post::Followers(event) => send(senders.followers.send(event)),
            Post::InSync(event) => send(senders.insync.send(event)),
            Post::Call(call) => send(senders.calls.send(Some(*call))),
            Post::WaiterDeadline => send(senders.waiters.send(true)),
            Post::BrokerEpoch(epoch) => self.broker.set_broker_epoch(epoch),
            Post::Unfenced => {
                self.served.send_replace(true);
                send(senders.life.send(Life::Ready));
            }
            Post::Left => send(senders.life.send(Life::Left)),
            Post::Halt(why) => {
                tracing::error!("the node stops: {why}");
                send(senders.life.send(Life::Halt));
            }
        }
    }
}

impl Home for Edge {
    fn answer(&self, answer: PeerAnswer) {
        self.post(answer.into_post());
    }

    fn resolve(&self, peer: &PeerAddress) -> Option<(String, u16)> {
        self.broker.resolve_peer(peer)
    }

    fn client_id(&self, lane: Lane) -> String {
        lane.client_id(self.broker.node())
    }

    fn clock(&self) -> Clock {
        self.clock
    }
}

/// A mailbox that has ended takes nothing more: the node is stopping, and nobody waits for the event.
fn send<E>(result: Result<(), E>) {
    let _ = result;
}
