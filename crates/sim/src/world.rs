//! The world of one run: its machines, its time, and what is to happen. One thread, one queue; everything that happens
//! follows from the plan.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use milena_base::{Digest, Prng};
use milena_broker::{Post, ReplyTo};
use milena_net::Frame;

use crate::atlas::{Atlas, Broken, Check};
use crate::clients::Client;
use crate::council::Council;
use crate::net::{ConnId, Departure, Host, Net, Opener, Parcel};
use crate::node::Node;
use crate::plan::{Plan, Time};
use crate::transcript::Transcript;

/// What is to happen at its time.
pub enum Event {
    /// A mailbox of a node's life runs.
    Mail {
        node: usize,
        life: u32,
        slot: usize,
    },
    /// Parked requests may be due.
    Waiters {
        node: usize,
        life: u32,
    },
    /// A link's timer.
    Link {
        node: usize,
        life: u32,
        link: u64,
    },
    /// A late answer reaches its connection's task.
    Answer {
        to: ReplyTo,
        frame: Frame,
        node: usize,
        life: u32,
    },
    /// A connection is being opened.
    Syn {
        conn: ConnId,
    },
    Arrive {
        conn: ConnId,
        to_server: bool,
        parcel: Parcel,
    },
    /// The opener learns that a connection was cut.
    Lost {
        opener: Opener,
        conn: ConnId,
    },
    Client {
        index: usize,
    },
    /// A stopping broker waits for its controller no longer.
    LeaveLate {
        node: usize,
        life: u32,
    },
    Boot {
        node: usize,
    },
    /// A fault of the plan, by its place there.
    Fault(usize),
    Unblock(Vec<(Host, Host)>),
    Unslow(usize),
    Unfill(usize),
    /// A look at how far the run has come.
    Look,
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The nodes start.
    Starting,
    /// The topics are created.
    Creating,
    /// Faults and work, since then.
    Working(Time),
    /// Everything is healed: what was promised comes, until then.
    Converging(Time),
    Done,
}

/// How a run failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub broken: Broken,
    pub at: Time,
}

/// Figures of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    pub events: u64,
    pub messages: u64,
    pub faults: u64,
    pub acked: u64,
    pub read: u64,
    pub elections: u64,
    pub epochs_led: u64,
    pub images_compared: u64,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} events, {} messages, {} faults, {} records acked, {} read, {} quorum leaders, {} partition leaders, {} images compared",
            self.events,
            self.messages,
            self.faults,
            self.acked,
            self.read,
            self.elections,
            self.epochs_led,
            self.images_compared
        )
    }
}

/// See the module's words.
pub struct World {
    pub plan: Plan,
    pub now: Time,
    queue: BTreeMap<(Time, u64), Event>,
    next: u64,
    pub nodes: Vec<Node>,
    pub net: Net,
    pub clients: Vec<Client>,
    /// Draws how long threads take.
    pub prng: Prng,
    pub atlas: Atlas,
    pub council: Council,
    pub digest: Digest,
    pub transcript: Transcript,
    pub failure: Option<Failure>,
    pub phase: Phase,
    pub figures: Figures,
}

/// Events after which a run is given up: it would not end.
const EVENTS_MAX: u64 = 20_000_000;

impl World {
    pub fn new(
        plan: Plan,
        nodes: Vec<Node>,
        clients: Vec<Client>,
        transcript: Transcript,
    ) -> World {
        let mut prng = Prng::new(plan.seed ^ 0x776f_726c);
        World {
            net: Net::new(&plan.shape, prng.fork()),
            plan,
            now: 0,
            queue: BTreeMap::new(),
            next: 0,
            nodes,
            clients,
            prng,
            atlas: Atlas::default(),
            council: Council::default(),
            digest: Digest::default(),
            transcript,
            failure: None,
            phase: Phase::Starting,
            figures: Figures::default(),
        }
    }

    pub fn at(&mut self, time: Time, event: Event) {
        let key = (time.max(self.now), self.next);
        self.next += 1;
        self.queue.insert(key, event);
    }

    pub fn depart(&mut self, departure: Option<Departure>) {
        if let Some(d) = departure {
            let (conn, to_server, parcel) = (d.conn, d.to_server, d.parcel);
            let event = Event::Arrive {
                conn,
                to_server,
                parcel,
            };
            self.at(d.at, event);
        }
    }

    pub fn note(&mut self, who: impl fmt::Display, what: impl fmt::Display) {
        self.transcript.line(self.now, who, what);
    }

    /// A line about a node; nothing is formatted where nobody listens.
    pub fn note_node(&mut self, node: usize, what: impl fmt::Display) {
        if self.transcript.is_on() {
            let name = self.nodes[node].name();
            self.note(name, what);
        }
    }

    /// The first broken promise ends the run.
    pub fn check(&mut self, check: Check) {
        if let Err(broken) = check
            && self.failure.is_none()
        {
            self.note("!!!", format!("{}: {}", broken.promise, broken.how));
            let at = self.now;
            self.failure = Some(Failure { broken, at });
        }
    }

    /// Feeds the digest with an effect.
    pub fn digest_post(&mut self, node: usize, post: &Post) {
        self.digest.word(node as u64);
        // A digest takes everything.
        let _ = write!(self.digest, "{post:?}");
    }

    /// Runs until it is done or something broke.
    pub fn run(&mut self) {
        while let Some(((time, _), event)) = self.queue.pop_first() {
            self.now = time;
            self.figures.events += 1;
            if let Some(node) = self.node_of(&event)
                && self.nodes[node].paused_until > time
            {
                // A stopped process: everything waits, in its order.
                let until = self.nodes[node].paused_until;
                self.at(until, event);
                continue;
            }
            self.digest.word(time);
            self.handle(event);
            if self.failure.is_some() || self.phase == Phase::Done {
                break;
            }
            if self.figures.events > EVENTS_MAX {
                self.check(crate::atlas::broken("it-ends", "too many events"));
            }
        }
        self.finish();
    }

    fn finish(&mut self) {
        for node in &self.nodes {
            self.digest.word(node.disk.digest());
        }
        let done = |kind: &str| {
            let of_kind = self.clients.iter().filter(|c| c.name.starts_with(kind));
            of_kind.map(|c| c.actor.done()).sum()
        };
        self.figures.acked = done("producer");
        self.figures.read = done("consumer");
        self.figures.messages = self.net.sent;
        self.figures.elections = self.council.elections;
        self.figures.epochs_led = self.atlas.epochs_led;
        self.figures.images_compared = self.council.images_compared;
    }

    /// The node whose process has to run for it.
    fn node_of(&mut self, event: &Event) -> Option<usize> {
        match event {
            Event::Mail { node, .. }
            | Event::Waiters { node, .. }
            | Event::Answer { node, .. }
            | Event::Link { node, .. } => Some(*node),
            Event::Arrive {
                conn, to_server, ..
            } => {
                let conn = self.net.get(*conn)?;
                match (to_server, conn.opener) {
                    (true, _) => Some(conn.server),
                    (false, Opener::Link { node, .. }) => Some(node),
                    (false, Opener::Client { .. }) => None,
                }
            }
            Event::Lost {
                opener: Opener::Link { node, .. },
                ..
            } => Some(*node),
            _ => None,
        }
    }

    /// Whether this life of the node is the present one, and it runs.
    pub fn lives(&self, node: usize, life: u32) -> bool {
        self.nodes[node].life == life && self.nodes[node].live.is_some()
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Mail { node, life, slot } if self.lives(node, life) => self.mail(node, slot),
            Event::Waiters { node, life } if self.lives(node, life) => self.waiters(node),
            Event::Link { node, life, link } if self.lives(node, life) => self.link_due(node, link),
            Event::Answer {
                to,
                frame,
                node,
                life,
            } if self.lives(node, life) => self.late_answer(to, frame),
            Event::Mail { .. }
            | Event::Waiters { .. }
            | Event::Link { .. }
            | Event::Answer { .. } => {}
            Event::Syn { conn } => self.syn(conn),
            Event::Arrive {
                conn,
                to_server: true,
                parcel,
            } => self.arrive_at_server(conn, parcel),
            Event::Arrive {
                conn,
                to_server: false,
                parcel,
            } => self.arrive_at_opener(conn, parcel),
            Event::Lost { opener, conn } => self.opener_lost(opener, conn),
            Event::Client { index } => self.client_due(index),
            Event::LeaveLate { node, life } => self.leave_late(node, life),
            Event::Boot { node } => self.boot(node),
            Event::Fault(at) => self.fault(at),
            Event::Unblock(ways) => self.unblock(&ways),
            Event::Unslow(node) => self.net.set_slow(node, 1),
            Event::Unfill(node) => self.unfill(node),
            Event::Look => self.look(),
        }
    }

    pub fn unblock(&mut self, ways: &[(Host, Host)]) {
        for departure in self.net.unblock(ways, self.now) {
            self.depart(Some(departure));
        }
    }
}
