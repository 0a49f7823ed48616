//! The workload: clients that speak Kafka's protocol over the simulated network. Each is a state machine of its own; what
//! they share is one connection a broker, and timeouts.

pub mod admin;
pub mod consumer;
pub mod producer;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use milena_base::{Prng, TopicIdPartition, Uuid};
use milena_broker::{Answered, PeerRequest};
use milena_protocol::{MetadataRequest, MetadataResponse, Request};

use crate::atlas::{Atlas, Check};
use crate::net::ConnId;
use crate::plan::{MILLI, SECOND, Time};

/// A request without an answer is given up, and its connection with it.
const REQUEST_TIMEOUT: Time = 6 * SECOND;

/// A request on its way to a node.
pub struct Asked {
    pub node: usize,
    pub request: Box<dyn PeerRequest>,
    pub version: i16,
    pub tag: u64,
}

/// What a client sees of the world.
pub struct Cx<'a> {
    pub now: Time,
    pub prng: &'a mut Prng,
    pub atlas: &'a Atlas,
    pub nodes: usize,
    pub asked: Vec<Asked>,
    pub notes: Vec<String>,
}

impl Cx<'_> {
    pub fn ask(&mut self, node: usize, request: impl Request + Send, version: i16, tag: u64) {
        self.asked.push(Asked {
            node,
            request: Box::new(request),
            version,
            tag,
        });
    }

    pub fn note(&mut self, what: String) {
        self.notes.push(what);
    }

    /// Any node: clients know all of them from their `bootstrap.servers`.
    pub fn any(&mut self, brokers: &[usize]) -> usize {
        brokers[self.prng.below(brokers.len() as u64) as usize]
    }
}

/// A client's logic.
pub trait Actor {
    fn tick(&mut self, cx: &mut Cx<'_>) -> Check;

    /// `None`: no answer came, and what was asked may have been done.
    fn answered(&mut self, tag: u64, answer: Option<Answered>, cx: &mut Cx<'_>) -> Check;

    /// When it wants to be called next.
    fn wakes_at(&self) -> Time;

    /// What it still has to do; `None` where it is done.
    fn unfinished(&self, atlas: &Atlas) -> Option<String>;

    /// What a fault wants of an administrator.
    fn wish(&mut self, _: admin::Wish) {}

    /// Operations that were acknowledged.
    fn done(&self) -> u64;
}

struct Waiting {
    correlation_id: i32,
    version: i16,
    tag: u64,
    until: Time,
}

/// A client's connection to one node.
pub struct Line {
    pub conn: ConnId,
    pub open: bool,
    next: i32,
    /// Frames until it is open.
    pub unsent: Vec<Bytes>,
    waiting: VecDeque<Waiting>,
}

impl Line {
    pub fn new(conn: ConnId) -> Line {
        Line {
            conn,
            open: false,
            next: 0,
            unsent: Vec::new(),
            waiting: VecDeque::new(),
        }
    }

    /// Puts a request into a frame.
    pub fn put(&mut self, asked: &Asked, name: &str, now: Time) -> Bytes {
        let correlation_id = self.next;
        self.next += 1;
        self.waiting.push_back(Waiting {
            correlation_id,
            version: asked.version,
            tag: asked.tag,
            until: now + REQUEST_TIMEOUT,
        });
        let name = Some(name.to_owned().into());
        let frame = asked.request.frame(asked.version, correlation_id, name);
        frame.expect("a request that its version can carry")
    }

    /// The tag and answer of a frame that came; `None` where it was not awaited.
    pub fn take(&mut self, frame: Bytes) -> Option<(u64, Answered)> {
        let got = milena_net::call::correlation_id(&frame)?;
        let first = self.waiting.pop_front()?;
        (first.correlation_id == got).then(|| (first.tag, Answered::new(first.version, frame)))
    }

    pub fn is_late(&self, now: Time) -> bool {
        self.waiting.front().is_some_and(|w| w.until <= now)
    }

    pub fn deadline(&self) -> Time {
        self.waiting.front().map_or(Time::MAX, |w| w.until)
    }

    /// Tags of everything that gets no answer any more.
    pub fn lost(self) -> Vec<u64> {
        self.waiting.into_iter().map(|w| w.tag).collect()
    }
}

/// One machine with one client.
pub struct Client {
    pub name: String,
    pub actor: Box<dyn Actor>,
    pub prng: Prng,
    pub lines: BTreeMap<usize, Line>,
    /// The timer that is scheduled.
    pub timer: Time,
}

/// Who leads what, as a client last heard.
#[derive(Default)]
pub struct View {
    pub leaders: BTreeMap<TopicIdPartition, (usize, i32)>,
    pub ids: BTreeMap<String, Uuid>,
    pub at: Option<Time>,
    asked: bool,
}

/// Tags of metadata requests; actors' own are smaller.
pub const METADATA_TAG: u64 = u64::MAX;
const METADATA_VERSION: i16 = 12;
const STALE_AFTER: Time = SECOND;

impl View {
    /// Asks for metadata where what is known is old, or wrong.
    pub fn refresh(&mut self, brokers: &[usize], cx: &mut Cx<'_>) {
        let fresh = self.at.is_some_and(|at| at + STALE_AFTER > cx.now);
        if fresh || self.asked {
            return;
        }
        self.asked = true;
        let node = cx.any(brokers);
        let request = MetadataRequest {
            topics: None,
            ..MetadataRequest::default()
        };
        cx.ask(node, request, METADATA_VERSION, METADATA_TAG);
    }

    pub fn doubt(&mut self) {
        self.at = None;
    }

    pub fn learn(&mut self, answer: Option<Answered>, now: Time) {
        self.asked = false;
        let decoded = answer.map(Answered::decode::<MetadataRequest>);
        let Some(Ok(response)) = decoded else {
            return;
        };
        self.at = Some(now);
        self.take(response);
    }

    fn take(&mut self, response: MetadataResponse) {
        for topic in response.topics {
            let Some(name) = topic.name.filter(|_| topic.error_code == 0) else {
                continue;
            };
            self.ids.insert(name.to_string(), topic.topic_id);
            for partition in topic.partitions {
                let id = TopicIdPartition::new(topic.topic_id, partition.partition_index);
                let known = self.leaders.get(&id).map_or(-1, |(_, epoch)| *epoch);
                if partition.leader_id > 0 && partition.leader_epoch >= known {
                    let node = partition.leader_id as usize - 1;
                    self.leaders.insert(id, (node, partition.leader_epoch));
                }
            }
        }
    }
}

/// A pause before something is tried again.
pub const AGAIN: Time = 100 * MILLI;
