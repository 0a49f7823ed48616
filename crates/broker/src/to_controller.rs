//! The channel to the active controller, wherever it is: requests of this node go as they are, those of its clients in an
//! Envelope with their principal and address (KIP-590). What meets a node that is not the active controller, or a broken
//! connection, is sent again until its time is up. Kafka classes `NodeToControllerChannelManager`, `ForwardingManager`.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use milena_base::{BrokerId, ErrorCode, Instant, Now};
use milena_controller::ControllerAnswer;
use milena_net::call;
use milena_protocol::{ApiKey, EnvelopeRequest, Reader, Str, Writer};
use tracing::debug;

use crate::ask::{Ask, Behalf, Origin, OwnRequest, deliver};
use crate::broker::Broker;
use crate::ctx::Outbox;
use crate::lifecycle::LifecycleEvent;
use crate::mailbox::{Mailbox, Post};
use crate::peers::{Answered, Asker, Lane, PeerAddress, PeerAnswer, PeerCall, Unanswered};
use crate::quorum::QuorumEvent;

/// Pause before a request is sent again.
const RETRY_AFTER: Duration = Duration::from_millis(50);
/// How long one try may take (`request.timeout.ms` of Kafka's nodes).
const TRY_MAX: Duration = Duration::from_secs(30);
/// How long a change of in-sync replicas is tried: less than whoever asks waits.
const IN_SYNC_MAX: Duration = Duration::from_secs(5);
/// Requests that may wait for a controller; more are refused.
const WAITING_MAX: usize = 10_000;

/// The node whose controller is active.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActiveController {
    pub node: BrokerId,
    pub host: String,
    pub port: u16,
}

/// What the mailbox is told.
#[derive(Debug)]
pub enum ToControllerEvent {
    Ask(Box<Ask>),
    /// Who is active, as far as this node's quorum knows; this node itself, once its controller is.
    Active(Option<ActiveController>),
    Answered(PeerAnswer),
    Stop,
}

struct Waiting {
    ask: Box<Ask>,
    not_before: Instant,
}

/// See the module's words.
pub struct ToController {
    broker: Arc<Broker>,
    active: Option<ActiveController>,
    /// Whose controller was active last.
    asked: Option<BrokerId>,
    waiting: VecDeque<Waiting>,
    sent: BTreeMap<u64, Box<Ask>>,
    next_tag: u64,
    stopped: bool,
}

impl ToController {
    pub fn new(broker: Arc<Broker>) -> ToController {
        ToController {
            broker,
            active: None,
            asked: None,
            waiting: VecDeque::new(),
            sent: BTreeMap::new(),
            next_tag: 0,
            stopped: false,
        }
    }

    fn ask(&mut self, mut ask: Box<Ask>, now: Now, out: &mut Outbox) {
        if self.waiting.len() >= WAITING_MAX {
            return ask.refuse(&self.broker, ErrorCode::RequestTimedOut, out);
        }
        if ask.deadline == Instant::NEVER {
            ask.deadline = now.mono + self.patience(&ask);
        }
        let not_before = Instant::ZERO;
        self.waiting.push_back(Waiting { ask, not_before });
        self.send_due(now, out);
    }

    /// How long a request is tried.
    fn patience(&self, ask: &Ask) -> Duration {
        match ask.origin {
            // A broker that hears nothing for so long begins anew with fresher words.
            Origin::Lifecycle => self.broker.settings.broker_session_timeout / 2,
            Origin::InSync => IN_SYNC_MAX,
            _ => TRY_MAX,
        }
    }

    /// Sends what is due, in the order in which it came.
    fn send_due(&mut self, now: Now, out: &mut Outbox) {
        let Some(active) = self.active.clone() else {
            return;
        };
        for _ in 0..self.waiting.len() {
            let Some(waiting) = self.waiting.pop_front() else {
                return;
            };
            match waiting.not_before <= now.mono {
                true => self.send(waiting.ask, &active, now, out),
                false => self.waiting.push_back(waiting),
            }
        }
    }

    fn send(&mut self, ask: Box<Ask>, active: &ActiveController, now: Now, out: &mut Outbox) {
        if active.node == self.broker.node() {
            return out.post(QuorumEvent::Ask(ask));
        }
        let tag = self.next_tag;
        self.next_tag += 1;
        let to = PeerAddress::At {
            host: active.host.clone(),
            port: active.port,
        };
        let deadline = ask.deadline.min(now.mono + TRY_MAX);
        let call = match (&ask.behalf, ask.reply_to()) {
            (Some(behalf), Some(reply)) => {
                let Ok(envelope) = envelope(&ask, behalf, reply.version, reply.correlation_id)
                else {
                    return ask.refuse(&self.broker, ErrorCode::UnsupportedVersion, out);
                };
                let (lane, asker) = (Lane::Forwarding, Asker::ToController);
                PeerCall::new(to, lane, envelope, deadline, asker, tag)
            }
            _ => PeerCall {
                to,
                lane: lane(ask.api()),
                request: Box::new(OwnRequest(ask.clone())),
                version_max: i16::MAX,
                deadline,
                asker: Asker::ToController,
                tag,
            },
        };
        self.sent.insert(tag, ask);
        out.call(call);
    }

    fn answered(&mut self, answer: PeerAnswer, now: Now, out: &mut Outbox) {
        let Some(ask) = self.sent.remove(&answer.tag) else {
            return;
        };
        let enveloped = ask.behalf.is_some();
        let taken = match answer.result {
            Err(Unanswered::UnsupportedVersion) => Err(ErrorCode::UnsupportedVersion),
            Err(Unanswered::Overloaded) => Err(ErrorCode::RequestTimedOut),
            Err(why) => {
                debug!(api = %ask.api(), ?why, "the controller did not answer");
                return self.again(ask, now, out);
            }
            Ok(answered) if enveloped => open_envelope(answered, &ask),
            Ok(answered) => body(answered, ask.api()),
        };
        match taken {
            Err(ErrorCode::NotController) => self.again(ask, now, out),
            Err(code) => ask.refuse(&self.broker, code, out),
            Ok((version, body)) => self.hand_back(ask, version, body, now, out),
        }
    }

    /// The answer's body, for whoever asked.
    fn hand_back(&mut self, ask: Box<Ask>, version: i16, body: Bytes, now: Now, out: &mut Outbox) {
        if let Origin::Client(to) = ask.origin
            && ask.behalf.is_some()
        {
            let frame = to.frame_with(|w| {
                w.raw(&body);
                Ok(())
            });
            out.replies.push((to, frame));
            return;
        }
        match ControllerAnswer::decode(ask.api(), body, version) {
            Ok(Some(answer)) if answer.is_not_controller() => self.again(ask, now, out),
            Ok(Some(answer)) => deliver(&self.broker, ask.origin, answer, out),
            Ok(None) | Err(_) => ask.refuse(&self.broker, ErrorCode::UnknownServerError, out),
        }
    }

    /// Another node's controller is active: what the one before has not answered is asked again. Its answer may never come
    /// (a process that stands still keeps its connections), and what it has not committed, it won't.
    fn leave(&mut self, active: BrokerId) {
        if self.asked == Some(active) {
            return;
        }
        self.asked = Some(active);
        for ask in std::mem::take(&mut self.sent).into_values() {
            let not_before = Instant::ZERO;
            self.waiting.push_back(Waiting { ask, not_before });
        }
    }

    fn again(&mut self, ask: Box<Ask>, now: Now, out: &mut Outbox) {
        if ask.deadline <= now.mono {
            return ask.refuse(&self.broker, ErrorCode::RequestTimedOut, out);
        }
        let not_before = now.mono + RETRY_AFTER;
        self.waiting.push_front(Waiting { ask, not_before });
    }

    fn expire(&mut self, now: Now, out: &mut Outbox) {
        let due = |waiting: &Waiting| waiting.ask.deadline <= now.mono;
        if !self.waiting.iter().any(due) {
            return;
        }
        for waiting in std::mem::take(&mut self.waiting) {
            match due(&waiting) {
                true => {
                    let code = ErrorCode::RequestTimedOut;
                    waiting.ask.refuse(&self.broker, code, out);
                }
                false => self.waiting.push_back(waiting),
            }
        }
    }
}

fn lane(api: ApiKey) -> Lane {
    match api {
        ApiKey::BrokerRegistration | ApiKey::BrokerHeartbeat | ApiKey::ControllerRegistration => {
            Lane::Heartbeat
        }
        ApiKey::AlterPartition
        | ApiKey::AssignReplicasToDirs
        | ApiKey::AllocateProducerIds
        | ApiKey::UpdateRaftVoter => Lane::Controller,
        _ => Lane::Forwarding,
    }
}

/// A client's request, in the form in which it came, with who it is from.
fn envelope(
    ask: &Ask,
    behalf: &Behalf,
    version: i16,
    correlation_id: i32,
) -> Result<EnvelopeRequest, milena_protocol::EncodeError> {
    let frame = ask.frame(version, correlation_id, behalf.client_id.clone())?;
    Ok(EnvelopeRequest {
        request_data: frame.slice(4..),
        request_principal: Some(principal_to_bytes(&behalf.principal)?),
        client_host_address: match behalf.host {
            IpAddr::V4(host) => Bytes::copy_from_slice(&host.octets()),
            IpAddr::V6(host) => Bytes::copy_from_slice(&host.octets()),
        },
    })
}

/// Kafka's `DefaultPrincipalData`, version 0: type, name, and whether a delegation token authenticated it.
fn principal_to_bytes(principal: &str) -> Result<Bytes, milena_protocol::EncodeError> {
    let (kind, name) = principal.split_once(':').unwrap_or(("User", principal));
    let mut w = Writer::new();
    w.i16(0);
    w.string(&Str::copy(kind), true)?;
    w.string(&Str::copy(name), true)?;
    w.bool(false);
    w.uvarint(0);
    w.into_bytes()
}

/// The reverse: for example `User:ANONYMOUS`. `None` where the bytes are not of that form.
pub(crate) fn principal_from_bytes(bytes: Bytes) -> Option<String> {
    let mut r = Reader::new(bytes);
    if r.i16().ok()? != 0 {
        return None;
    }
    let kind = r.string(true).ok()?;
    let name = r.string(true).ok()?;
    Some(format!("{kind}:{name}"))
}

fn body(answered: Answered, api: ApiKey) -> Result<(i16, Bytes), ErrorCode> {
    let version = answered.version;
    let body = answered.body(api);
    body.map(|body| (version, body))
        .map_err(|_| ErrorCode::UnknownServerError)
}

fn open_envelope(answered: Answered, ask: &Ask) -> Result<(i16, Bytes), ErrorCode> {
    let malformed = ErrorCode::UnknownServerError;
    let envelope = answered
        .decode::<EnvelopeRequest>()
        .map_err(|_| malformed)?;
    match ErrorCode::from_code(envelope.error_code) {
        Some(ErrorCode::None) => {}
        Some(code) => return Err(code),
        None => return Err(malformed),
    }
    let response = envelope.response_data.ok_or(malformed)?;
    let version = ask.reply_to().ok_or(malformed)?.version;
    let body = call::body(response, ask.api(), version);
    body.map(|body| (version, body)).map_err(|_| malformed)
}

impl Mailbox for ToController {
    type Event = ToControllerEvent;

    fn step(&mut self, event: ToControllerEvent, now: Now, out: &mut Outbox) {
        match event {
            ToControllerEvent::Ask(ask) => self.ask(ask, now, out),
            ToControllerEvent::Active(active) => {
                let known = active.is_some();
                if let Some(active) = &active {
                    self.leave(active.node);
                }
                self.active = active;
                self.send_due(now, out);
                if known {
                    out.post(LifecycleEvent::ControllerReady);
                }
            }
            ToControllerEvent::Answered(answer) => {
                self.answered(answer, now, out);
                self.expire(now, out);
            }
            ToControllerEvent::Stop => self.stopped = true,
        }
    }

    fn tick(&mut self, now: Now, out: &mut Outbox) {
        self.expire(now, out);
        self.send_due(now, out);
    }

    fn deadline(&self) -> Instant {
        let known = self.active.is_some();
        let due = self.waiting.iter().map(|waiting| match known {
            true => waiting.not_before.min(waiting.ask.deadline),
            false => waiting.ask.deadline,
        });
        due.min().unwrap_or(Instant::NEVER)
    }

    fn is_finished(&self) -> bool {
        self.stopped
    }
}

impl From<ToControllerEvent> for Post {
    fn from(event: ToControllerEvent) -> Post {
        Post::ToController(event)
    }
}
