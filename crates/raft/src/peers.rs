//! One request at a time to each peer, with a time limit and a pause after a failure. Kafka class `RequestManager`.

use std::collections::BTreeMap;
use std::time::Duration;

use milena_base::{BrokerId, Instant};

use crate::message::Peer;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Connection {
    Awaiting { correlation: u64, until: Instant },
    BackingOff { until: Instant },
}

/// What is under way to whom.
#[derive(Debug)]
pub(crate) struct Peers {
    connections: BTreeMap<BrokerId, Connection>,
    bootstrap: Vec<Peer>,
    /// Which bootstrap server is asked next.
    turn: usize,
    next_correlation: u64,
    request_timeout: Duration,
    retry_backoff: Duration,
}

impl Peers {
    pub fn new(
        bootstrap: &[(String, u16)],
        request_timeout: Duration,
        retry_backoff: Duration,
    ) -> Peers {
        let bootstrap = bootstrap.iter().enumerate().map(|(i, (host, port))| Peer {
            id: BrokerId(-2 - i as i32),
            host: host.clone(),
            port: *port,
        });
        Peers {
            connections: BTreeMap::new(),
            bootstrap: bootstrap.collect(),
            turn: 0,
            next_correlation: 1,
            request_timeout,
            retry_backoff,
        }
    }

    /// Whether a request may go to this peer now.
    pub fn is_ready(&self, id: BrokerId, now: Instant) -> bool {
        self.busy_until(id).is_none_or(|until| until <= now)
    }

    /// When a request may go to this peer; `None` where it may now.
    pub fn busy_until(&self, id: BrokerId) -> Option<Instant> {
        self.connections
            .get(&id)
            .map(|connection| match connection {
                Connection::Awaiting { until, .. } | Connection::BackingOff { until } => *until,
            })
    }

    /// Whether the request to this peer ran out of time.
    pub fn timed_out(&self, id: BrokerId, now: Instant) -> bool {
        matches!(self.connections.get(&id), Some(Connection::Awaiting { until, .. }) if *until <= now)
    }

    /// Whether the last request to this peer failed a moment ago.
    pub fn is_backing_off(&self, id: BrokerId, now: Instant) -> bool {
        matches!(self.connections.get(&id), Some(Connection::BackingOff { until }) if *until > now)
    }

    /// Whether any request is under way.
    pub fn any_awaited(&self, now: Instant) -> bool {
        self.connections
            .values()
            .any(|c| matches!(c, Connection::Awaiting { until, .. } if *until > now))
    }

    /// When the request that an observer waits for runs out of time: the one to its leader, or else the last one. `None`
    /// where nothing is under way: only then a pause is waited for, as no request begins while one is awaited.
    pub fn awaited_until(&self, leader: BrokerId) -> Option<Instant> {
        let until = |connection: &Connection| match connection {
            Connection::Awaiting { until, .. } => Some(*until),
            Connection::BackingOff { .. } => None,
        };
        let of_leader = self.connections.get(&leader).and_then(until);
        of_leader.or_else(|| self.connections.values().filter_map(until).max())
    }

    /// Notes that a request goes to this peer; its correlation.
    pub fn sent(&mut self, id: BrokerId, now: Instant) -> u64 {
        let correlation = self.next_correlation;
        self.next_correlation += 1;
        let until = now + self.request_timeout;
        self.connections
            .insert(id, Connection::Awaiting { correlation, until });
        correlation
    }

    /// Notes that the answer came, or (`failed`) that none will. The peer; `None` where the answer is not awaited any
    /// more.
    pub fn settle(&mut self, correlation: u64, failed: bool, now: Instant) -> Option<BrokerId> {
        let id = *self.connections.iter().find_map(|(id, connection)| {
            matches!(connection, Connection::Awaiting { correlation: c, .. } if *c == correlation)
                .then_some(id)
        })?;
        if failed {
            let until = now + self.retry_backoff;
            self.connections
                .insert(id, Connection::BackingOff { until });
        } else {
            self.connections.remove(&id);
        }
        Some(id)
    }

    /// The answer made no sense: the peer is asked again after a pause.
    pub fn pause(&mut self, id: BrokerId, now: Instant) {
        let until = now + self.retry_backoff;
        self.connections
            .insert(id, Connection::BackingOff { until });
    }

    /// Forgets pauses that are over: nothing waits for them any more.
    pub fn end_pauses(&mut self, now: Instant) {
        self.connections
            .retain(|_, c| !matches!(c, Connection::BackingOff { until } if *until <= now));
    }

    /// Forgets what is under way to this peer.
    pub fn forget(&mut self, id: BrokerId) {
        self.connections.remove(&id);
    }

    /// Forgets what is under way: answers that come later are not looked at.
    pub fn reset(&mut self) {
        self.connections.clear();
    }

    /// The bootstrap server to ask now, each in its turn; `None` where all are busy.
    pub fn bootstrap(&mut self, now: Instant) -> Option<Peer> {
        let count = self.bootstrap.len();
        let ready = (0..count)
            .map(|step| (self.turn + step) % count)
            .find(|&i| self.is_ready(self.bootstrap[i].id, now))?;
        self.turn = ready + 1;
        Some(self.bootstrap[ready].clone())
    }

    /// When the first bootstrap server is free; `None` where one is, or none is known.
    pub fn bootstrap_busy_until(&self) -> Option<Instant> {
        let mut earliest = None;
        for peer in &self.bootstrap {
            let until = self.busy_until(peer.id)?;
            earliest = Some(earliest.map_or(until, |e: Instant| e.min(until)));
        }
        earliest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observer_waits_for_an_answer_and_not_for_a_pause_that_is_over() {
        let ms = Instant::from_millis;
        let mut peers = Peers::new(&[], Duration::from_millis(500), Duration::from_millis(20));
        let (leader, other) = (BrokerId(1), BrokerId(-2));
        let first = peers.sent(leader, ms(0));
        assert_eq!(peers.awaited_until(leader), Some(ms(500)));
        peers.settle(first, true, ms(10));
        assert_eq!(peers.awaited_until(leader), None);
        peers.sent(other, ms(10));
        assert_eq!(peers.awaited_until(leader), Some(ms(510)));
    }

    #[test]
    fn one_request_at_a_time_and_a_pause_after_a_failure() {
        let at = Instant::from_millis;
        let mut peers = Peers::new(&[], Duration::from_millis(2000), Duration::from_millis(20));
        let id = BrokerId(2);
        assert!(peers.is_ready(id, at(0)));
        let first = peers.sent(id, at(0));
        assert!(!peers.is_ready(id, at(1999)));
        assert!(peers.timed_out(id, at(2000)));
        assert_eq!(peers.settle(first, true, at(5)), Some(id));
        assert!(!peers.is_ready(id, at(24)));
        assert!(peers.is_ready(id, at(25)));
        let second = peers.sent(id, at(25));
        assert_eq!(peers.settle(first, false, at(26)), None, "an old answer");
        assert_eq!(peers.settle(second, false, at(26)), Some(id));
        assert!(peers.is_ready(id, at(26)));
    }

    #[test]
    fn bootstrap_servers_take_turns() {
        let servers = [("a".to_owned(), 1), ("b".to_owned(), 2)];
        let mut peers = Peers::new(&servers, Duration::from_secs(2), Duration::from_millis(20));
        let now = Instant::ZERO;
        let first = peers.bootstrap(now).unwrap();
        peers.sent(first.id, now);
        let second = peers.bootstrap(now).unwrap();
        assert_ne!(first, second);
        peers.sent(second.id, now);
        assert_eq!(peers.bootstrap(now), None);
        assert_eq!(
            peers.bootstrap_busy_until(),
            Some(now + Duration::from_secs(2))
        );
    }
}
