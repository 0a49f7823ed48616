//! A node's connections to other nodes, as `node`'s links keep them: calls of one lane share a connection and are
//! answered in order; a call that runs out of time ends it; a failure is followed by a pause.

use std::collections::{BTreeMap, VecDeque};

use milena_broker::{Answered, CALLS_MAX, Lane, PeerAnswer, PeerCall, Unanswered};
use milena_net::call;
use milena_protocol::{ApiVersionsResponse, Str};

use crate::net::ConnId;
use crate::plan::{MILLI, SECOND, Time};

/// Connecting and learning the versions may take this long.
const OPEN_MAX: Time = 10 * SECOND;
const PAUSE_MIN: Time = 50 * MILLI;
const PAUSE_MAX: Time = 500 * MILLI;

type Ranges = BTreeMap<i16, (i16, i16)>;

pub type Target = (String, u16, Lane);

/// All of a node's life.
#[derive(Default)]
pub struct Links {
    pub all: BTreeMap<u64, Link>,
    by_target: BTreeMap<Target, u64>,
}

impl Links {
    /// The link to a target, made where there is none.
    pub fn to(&mut self, target: Target) -> u64 {
        let next = self.by_target.len() as u64;
        *self.by_target.entry(target.clone()).or_insert_with(|| {
            self.all.insert(next, Link::new(target));
            next
        })
    }
}

struct Sent {
    correlation_id: i32,
    version: i16,
    call: PeerCall,
}

#[derive(Clone, Debug)]
enum State {
    Idle,
    Opening { conn: ConnId, until: Time },
    Open { conn: ConnId, ranges: Ranges },
}

/// See the module's words.
pub struct Link {
    pub target: Target,
    state: State,
    queued: VecDeque<PeerCall>,
    sent: VecDeque<Sent>,
    next_correlation_id: i32,
    pause: Time,
    paused_until: Time,
    /// The timer that is scheduled.
    pub timer: Time,
}

/// What a link wants done.
pub enum Want {
    Connect,
    Close(ConnId),
    Send(ConnId, bytes::Bytes),
    Answer(PeerAnswer),
}

impl Link {
    fn new(target: Target) -> Link {
        Link {
            target,
            state: State::Idle,
            queued: VecDeque::new(),
            sent: VecDeque::new(),
            next_correlation_id: 0,
            pause: 0,
            paused_until: 0,
            timer: Time::MAX,
        }
    }

    pub fn queue(&mut self, call: PeerCall, out: &mut Vec<Want>) {
        match self.queued.len() + self.sent.len() < CALLS_MAX {
            true => self.queued.push_back(call),
            false => out.push(Want::Answer(call.end(Err(Unanswered::Overloaded)))),
        }
    }

    /// Goes on: sends, opens, and ends what has run out of time. `due` tells whether a deadline has passed.
    pub fn drive(
        &mut self,
        now: Time,
        due: impl Fn(milena_base::Instant) -> bool,
        client_id: &Str,
        out: &mut Vec<Want>,
    ) {
        self.queued.retain(|call| {
            let late = due(call.deadline);
            if late {
                out.push(Want::Answer(call.end(Err(Unanswered::TimedOut))));
            }
            !late
        });
        if let Some(at) = self.sent.iter().position(|sent| due(sent.call.deadline)) {
            let late = self.sent.remove(at).expect("it was just found");
            out.push(Want::Answer(late.call.end(Err(Unanswered::TimedOut))));
            self.end(Unanswered::Unreachable, now, out);
        }
        match self.state.clone() {
            State::Opening { until, .. } if until <= now => {
                self.fail(Unanswered::Unreachable, now, out);
            }
            State::Idle if !self.queued.is_empty() && self.paused_until <= now => {
                out.push(Want::Connect);
            }
            State::Open { conn, ranges } => self.send_queued(conn, &ranges, client_id, out),
            State::Opening { .. } | State::Idle => {}
        }
    }

    pub fn connecting(&mut self, conn: ConnId, now: Time) {
        let until = now + OPEN_MAX;
        self.state = State::Opening { conn, until };
    }

    /// Whether this is the connection that is used now.
    pub fn uses(&self, id: ConnId) -> bool {
        match &self.state {
            State::Idle => false,
            State::Opening { conn, .. } | State::Open { conn, .. } => *conn == id,
        }
    }

    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    /// The peer's versions are known.
    pub fn opened(&mut self, conn: ConnId, versions: &ApiVersionsResponse) {
        let ranges = versions.api_keys.iter();
        let ranges = ranges.map(|api| (api.api_key, (api.min_version, api.max_version)));
        self.pause = 0;
        self.state = State::Open {
            conn,
            ranges: ranges.collect(),
        };
    }

    /// A frame came, without its length prefix. False: it was not the one that was awaited.
    pub fn answered(&mut self, frame: bytes::Bytes, out: &mut Vec<Want>) -> bool {
        let got = call::correlation_id(&frame);
        let Some(sent) = self.sent.pop_front() else {
            return false;
        };
        if Some(sent.correlation_id) != got {
            self.sent.push_front(sent);
            return false;
        }
        let answered = Answered::new(sent.version, frame);
        out.push(Want::Answer(sent.call.end(Ok(answered))));
        true
    }

    /// The connection could not be opened: what waits is told.
    pub fn fail(&mut self, why: Unanswered, now: Time, out: &mut Vec<Want>) {
        for call in self.queued.drain(..) {
            out.push(Want::Answer(call.end(Err(why))));
        }
        self.end(why, now, out);
    }

    /// The connection ended: what was sent is told.
    pub fn end(&mut self, why: Unanswered, now: Time, out: &mut Vec<Want>) {
        if let State::Opening { conn, .. } | State::Open { conn, .. } = self.state {
            out.push(Want::Close(conn));
        }
        for sent in self.sent.drain(..) {
            out.push(Want::Answer(sent.call.end(Err(why))));
        }
        self.state = State::Idle;
        self.pause = (self.pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
        self.paused_until = now + self.pause;
    }

    fn send_queued(&mut self, conn: ConnId, ranges: &Ranges, client_id: &Str, out: &mut Vec<Want>) {
        while let Some(call) = self.queued.pop_front() {
            let correlation_id = self.next_correlation_id;
            let version = version_for(&call, ranges);
            let frame = version.and_then(|version| {
                let client_id = Some(client_id.clone());
                call.request.frame(version, correlation_id, client_id).ok()
            });
            let (Some(version), Some(frame)) = (version, frame) else {
                let ended = call.end(Err(Unanswered::UnsupportedVersion));
                out.push(Want::Answer(ended));
                continue;
            };
            self.next_correlation_id = correlation_id.wrapping_add(1) & i32::MAX;
            out.push(Want::Send(conn, frame));
            self.sent.push_back(Sent {
                correlation_id,
                version,
                call,
            });
        }
    }

    /// When [`Link::drive`] is due: an instant of the node's clock, and a true time.
    pub fn deadlines(&self) -> (milena_base::Instant, Time) {
        let queued = self.queued.iter().map(|call| call.deadline);
        let sent = self.sent.iter().map(|sent| sent.call.deadline);
        let first = queued.chain(sent).min();
        let at = match &self.state {
            State::Opening { until, .. } => *until,
            State::Idle if !self.queued.is_empty() => self.paused_until,
            State::Idle | State::Open { .. } => Time::MAX,
        };
        (first.unwrap_or(milena_base::Instant::NEVER), at)
    }
}

/// The highest version that both ends know and the call allows.
fn version_for(call: &PeerCall, ranges: &Ranges) -> Option<i16> {
    let api = call.request.api();
    let (min, max) = *ranges.get(&api.code())?;
    let version = max.min(api.max_version()).min(call.version_max);
    (version >= min.max(api.min_version())).then_some(version)
}
