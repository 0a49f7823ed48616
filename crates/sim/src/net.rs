//! The simulated network: connections as TCP gives them. What is sent on one arrives in order or not at all; different
//! connections overtake one another; a cut-off direction holds what is sent until it heals or the connection ends.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use milena_base::Prng;
use milena_net::Connection;

use crate::plan::{MILLI, Shape, Time};

/// A machine on the network: nodes first, then clients.
pub type Host = usize;
pub type ConnId = u64;

/// Who opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opener {
    /// A node's link to another, in one of its lives.
    Link {
        node: usize,
        life: u32,
        link: u64,
    },
    Client {
        index: usize,
    },
}

/// What travels.
#[derive(Clone, Debug)]
pub enum Parcel {
    /// The connection stands (to its opener).
    Opened,
    /// Nobody listens there (to its opener).
    Refused,
    Frame(Bytes),
    /// The other end closed it.
    Closed,
}

#[derive(Debug, Default)]
struct Way {
    /// When the last parcel on its way arrives.
    last: Time,
    held: VecDeque<Parcel>,
}

/// One connection, both ends of it.
pub struct Conn {
    pub opener: Opener,
    from: Host,
    /// The node that it leads to, and in which of its lives.
    pub server: usize,
    pub server_life: u32,
    /// Index into the server's listeners.
    pub listener: usize,
    /// The server's end, while that is open.
    pub end: Option<Connection>,
    /// The opener's end is open.
    pub open: bool,
    up: Way,
    down: Way,
}

/// See the module's words.
pub struct Net {
    prng: Prng,
    delay: Time,
    spikes: u64,
    conns: BTreeMap<ConnId, Conn>,
    next: ConnId,
    /// Directions in which nothing arrives.
    blocked: BTreeSet<(Host, Host)>,
    slow: BTreeMap<Host, u64>,
    pub sent: u64,
}

/// A parcel that is to arrive.
pub struct Departure {
    pub at: Time,
    pub conn: ConnId,
    pub to_server: bool,
    pub parcel: Parcel,
}

impl Net {
    pub fn new(shape: &Shape, prng: Prng) -> Net {
        Net {
            prng,
            delay: shape.delay,
            spikes: shape.spikes,
            conns: BTreeMap::new(),
            next: 1,
            blocked: BTreeSet::new(),
            slow: BTreeMap::new(),
            sent: 0,
        }
    }

    pub fn get(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.conns.get_mut(&id)
    }

    pub fn add(&mut self, opener: Opener, from: Host, server: usize, listener: usize) -> ConnId {
        let id = self.next;
        self.next += 1;
        self.conns.insert(
            id,
            Conn {
                opener,
                from,
                server,
                server_life: 0,
                listener,
                end: None,
                open: true,
                up: Way::default(),
                down: Way::default(),
            },
        );
        id
    }

    pub fn forget(&mut self, id: ConnId) {
        self.conns.remove(&id);
    }

    /// Ends that are both closed are of no interest any more.
    pub fn forget_if_closed(&mut self, id: ConnId) {
        if self
            .conns
            .get(&id)
            .is_some_and(|c| !c.open && c.end.is_none())
        {
            self.conns.remove(&id);
        }
    }

    pub fn delay(&mut self, from: Host, to: Host) -> Time {
        let base = self.delay / 2 + self.prng.below(self.delay.max(1));
        let spike = self.spikes > 0 && self.prng.chance(1, self.spikes);
        let factor = if spike { 1 + self.prng.below(100) } else { 1 };
        let slow = |host| self.slow.get(&host).copied().unwrap_or(1);
        (base * factor * slow(from).max(slow(to))).min(3_000 * MILLI)
    }

    pub fn is_blocked(&self, from: Host, to: Host) -> bool {
        self.blocked.contains(&(from, to))
    }

    /// Whether a connection can be opened between the two.
    pub fn meets(&self, a: Host, b: Host) -> bool {
        !self.is_blocked(a, b) && !self.is_blocked(b, a)
    }

    pub fn block(&mut self, from: Host, to: Host) {
        if from != to {
            self.blocked.insert((from, to));
        }
    }

    pub fn set_slow(&mut self, host: Host, factor: u64) {
        self.slow.insert(host, factor);
    }

    /// Sends to one end. `None` where it is held, or nobody is there any more.
    pub fn send(
        &mut self,
        id: ConnId,
        to_server: bool,
        parcel: Parcel,
        now: Time,
    ) -> Option<Departure> {
        let conn = self.conns.get(&id)?;
        let (from, to) = match to_server {
            true => (conn.from, conn.server),
            false => (conn.server, conn.from),
        };
        let delay = self.delay(from, to);
        let blocked = self.is_blocked(from, to);
        let conn = self.conns.get_mut(&id)?;
        let way = if to_server {
            &mut conn.up
        } else {
            &mut conn.down
        };
        self.sent += 1;
        if blocked || !way.held.is_empty() {
            way.held.push_back(parcel);
            return None;
        }
        let at = (now + delay).max(way.last + 1);
        way.last = at;
        Some(Departure {
            at,
            conn: id,
            to_server,
            parcel,
        })
    }

    /// Opens the directions; what was held departs.
    pub fn unblock(&mut self, ways: &[(Host, Host)], now: Time) -> Vec<Departure> {
        for way in ways {
            self.blocked.remove(way);
        }
        let ids: Vec<ConnId> = self.conns.keys().copied().collect();
        let mut departures = Vec::new();
        for id in ids {
            for to_server in [true, false] {
                departures.extend(self.release(id, to_server, now));
            }
        }
        departures
    }

    fn release(&mut self, id: ConnId, to_server: bool, now: Time) -> Vec<Departure> {
        let conn = self.conns.get_mut(&id).expect("it was just listed");
        let way = if to_server {
            &mut conn.up
        } else {
            &mut conn.down
        };
        let (from, to) = match to_server {
            true => (conn.from, conn.server),
            false => (conn.server, conn.from),
        };
        if way.held.is_empty() || self.blocked.contains(&(from, to)) {
            return Vec::new();
        }
        let held = std::mem::take(&mut way.held);
        let sent = held
            .into_iter()
            .filter_map(|parcel| self.send(id, to_server, parcel, now));
        sent.collect()
    }

    /// Connections that touch a host, oldest first.
    pub fn of_host(&self, host: Host) -> Vec<ConnId> {
        let touching = self
            .conns
            .iter()
            .filter(|(_, c)| c.from == host || c.server == host);
        touching.map(|(id, _)| *id).collect()
    }

    /// Loses everything that is under way on a connection: from here on it carries what is sent later.
    pub fn drop_held(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.up.held.clear();
            conn.down.held.clear();
        }
    }
}
