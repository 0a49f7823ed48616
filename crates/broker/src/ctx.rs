//! What a handler is told about a request, and the ways in which it can answer.

use std::net::IpAddr;

use milena_base::Now;
use milena_disk::FileSlice;
use milena_net::Frame;
use milena_protocol::{ApiKey, Message, Str};

use crate::mailbox::Post;
use crate::peers::PeerCall;

/// A connection of the edge; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// Where an answer belongs, and in which form it is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReplyTo {
    pub connection: ConnectionId,
    /// Place in the connection's order of answers.
    pub sequence: u64,
    pub api: ApiKey,
    pub version: i16,
    pub correlation_id: i32,
}

impl ReplyTo {
    /// The frame of this answer.
    ///
    /// # Panics
    /// Where the response holds a value that its version can't carry: a handler's fault, and the edge closes
    /// the connection of a handler that panics.
    pub fn frame<M: Message>(&self, body: &M, slices: Vec<FileSlice>) -> Frame {
        Frame::response(self.api, self.version, self.correlation_id, body, slices)
            .unwrap_or_else(|error| panic!("{} v{}: {error}", M::NAME, self.version))
    }
}

/// One request's surroundings.
#[derive(Clone, Debug)]
pub struct Ctx {
    pub to: ReplyTo,
    pub client_id: Option<Str>,
    pub client_host: IpAddr,
    /// Index into the node's listeners.
    pub listener: usize,
    pub now: Now,
}

impl Ctx {
    pub fn version(&self) -> i16 {
        self.to.version
    }

    /// Who asks. Without authentication everybody is this one.
    pub fn principal(&self) -> &'static str {
        "User:ANONYMOUS"
    }

    pub fn now_frame<M: Message>(&self, body: &M) -> Reply {
        Reply::Now(self.to.frame(body, Vec::new()))
    }
}

/// How a handler leaves its request.
#[derive(Debug)]
pub enum Reply {
    Now(Frame),
    /// The answer comes later, through an [`Outbox`].
    Parked,
    /// The same, and no request of the connection is begun before it is answered.
    Held,
    /// No answer is sent (Produce with acks=0).
    Silent,
    /// The connection is closed; the sentence is logged.
    Close(String),
}

/// What a call into the broker causes outside of it. The edge empties it after each call.
#[derive(Debug, Default)]
pub struct Outbox {
    pub replies: Vec<(ReplyTo, Frame)>,
    pub posts: Vec<Post>,
}

impl Outbox {
    pub fn reply<M: Message>(&mut self, to: ReplyTo, body: &M) {
        self.replies.push((to, to.frame(body, Vec::new())));
    }

    pub fn post(&mut self, post: impl Into<Post>) {
        self.posts.push(post.into());
    }

    /// Asks another node; the answer is an event of the mailbox that the call names.
    pub fn call(&mut self, call: PeerCall) {
        self.posts.push(Post::Call(Box::new(call)));
    }

    pub fn is_empty(&self) -> bool {
        self.replies.is_empty() && self.posts.is_empty()
    }
}
