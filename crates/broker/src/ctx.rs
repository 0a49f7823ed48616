//! What a handler is told about a request, and the ways in which it can answer.

use std::net::IpAddr;

use bytes::BytesMut;
use milena_base::{ErrorCode, Now};
use milena_disk::FileSlice;
use milena_net::{Frame, Part};
use milena_protocol::{ApiKey, EncodeError, EnvelopeResponse, Message, Str, Writer};

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
    /// Where the request came in an Envelope: the answer goes back in one.
    pub envelope: Option<Enveloped>,
}

/// The Envelope around a request: its own version and correlation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Enveloped {
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
        if self.envelope.is_some() {
            return self.frame_with(|w| body.encode(w, self.version));
        }
        Frame::response(self.api, self.version, self.correlation_id, body, slices)
            .unwrap_or_else(|error| panic!("{} v{}: {error}", M::NAME, self.version))
    }

    /// As [`ReplyTo::frame`], for a body that knows how to write itself.
    pub fn frame_with(&self, encode: impl FnOnce(&mut Writer) -> Result<(), EncodeError>) -> Frame {
        let frame = Frame::response_with(self.api, self.version, self.correlation_id, encode);
        let frame = frame.unwrap_or_else(|why| panic!("{:?} v{}: {why}", self.api, self.version));
        match self.envelope {
            Some(envelope) => envelope.wrap(&frame),
            None => frame,
        }
    }
}

impl Enveloped {
    fn wrap(self, inner: &Frame) -> Frame {
        let mut bytes = BytesMut::with_capacity(inner.len());
        for part in &inner.parts {
            // An answer that is passed on by another node holds no file slices.
            if let Part::Bytes(part) = part {
                bytes.extend_from_slice(part);
            }
        }
        self.frame(&EnvelopeResponse {
            response_data: Some(bytes.freeze().slice(4..)),
            error_code: ErrorCode::None.code(),
        })
    }

    fn frame(self, body: &EnvelopeResponse) -> Frame {
        let (version, correlation_id) = (self.version, self.correlation_id);
        Frame::response(ApiKey::Envelope, version, correlation_id, body, Vec::new())
            .unwrap_or_else(|why| panic!("Envelope v{version}: {why}"))
    }

    /// The envelope comes back with a code, and nothing in it.
    pub fn refused(self, code: ErrorCode) -> Frame {
        self.frame(&EnvelopeResponse {
            response_data: None,
            error_code: code.code(),
        })
    }
}

/// One request's surroundings.
#[derive(Clone, Debug)]
pub struct Ctx {
    pub to: ReplyTo,
    pub client_id: Option<Str>,
    pub client_host: IpAddr,
    /// Who asks, where another node vouches for it.
    pub principal: Option<Str>,
    /// Index into the node's listeners.
    pub listener: usize,
    pub now: Now,
}

impl Ctx {
    pub fn version(&self) -> i16 {
        self.to.version
    }

    /// Who asks. Without authentication everybody is this one.
    pub fn principal(&self) -> &str {
        self.principal.as_deref().unwrap_or("User:ANONYMOUS")
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
