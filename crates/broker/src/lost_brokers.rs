//! Brokers that died, found before their session is over. When a broker's process is gone, the system closes its connection to
//! the active controller, and then nobody listens where it listened: a connection that is refused.
//!
//! That is a hint and no more. What follows is what follows when a session ends: the broker is fenced, its partitions get
//! other leaders in new epochs, and one that lives all the same learns so and comes back. A hint counts only where this node
//! has reached that listener before (a firewall may refuse, too) and nothing was heard of the broker since.
//!
//! Another hint is a process that wants to register under the same id and the very listeners of one whose connection was lost:
//! two can't listen there, so it is the one that was killed, started again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use milena_base::{BrokerId, Instant, Now};
use milena_protocol::{ApiVersionsRequest, BrokerHeartbeatRequest};
use tracing::info;

use crate::broker::Broker;
use crate::ctx::{ConnectionId, Outbox};
use crate::peers::{Asker, Lane, PeerAddress, PeerAnswer, PeerCall, Unanswered};

/// How often it is looked for brokers that this node has not reached yet.
const SWEEP_EVERY: Duration = Duration::from_secs(2);
const PROBE_MAX: Duration = Duration::from_secs(3);
/// A process that ends closes its connections and its listeners one after the other: the first probes may still get in.
const TRIES: u32 = 4;

/// A broker's id and epoch: one registration.
pub(crate) type Registered = (i32, i64);

#[derive(Debug)]
struct Probe {
    of: Registered,
    /// When the connection was lost; `None` for a look at a broker that is alive.
    lost_at: Option<Instant>,
    tries_left: u32,
}

/// See the module's words.
#[derive(Debug, Default)]
pub(crate) struct LostBrokers {
    /// Who beats over which connection.
    beats: BTreeMap<ConnectionId, Registered>,
    /// Registrations whose listener has answered.
    reached: BTreeSet<Registered>,
    /// Registrations that lost their connection and were not heard of since.
    silent: BTreeMap<Registered, Instant>,
    probes: BTreeMap<u64, Probe>,
    next_tag: u64,
    next_sweep: Instant,
}

impl LostBrokers {
    pub fn next_sweep(&self) -> Instant {
        self.next_sweep
    }

    /// A heartbeat came over this connection.
    pub fn heard(&mut self, connection: ConnectionId, beat: &BrokerHeartbeatRequest) {
        let of = (beat.broker_id, beat.broker_epoch);
        self.beats.insert(connection, of);
        self.silent.remove(&of);
    }

    /// Since when a broker's registrations are silent, where they are: its id, epochs and times.
    pub fn silent(&self, broker: i32) -> Option<(i64, Instant)> {
        let mut of = self.silent.range((broker, i64::MIN)..=(broker, i64::MAX));
        of.next_back().map(|((_, epoch), at)| (*epoch, *at))
    }

    /// A connection to this controller ended.
    pub fn closed(&mut self, connection: ConnectionId, now: Now, out: &mut Outbox) {
        if let Some(of) = self.beats.remove(&connection) {
            let elsewhere = self.beats.values().any(|other| *other == of);
            if !elsewhere {
                self.silent.insert(of, now.mono);
            }
            self.suspect(of, now, out);
        }
    }

    /// This node's controller became active: what died with the one before has no connection to it that could end.
    pub fn suspect_all(&mut self, broker: &Broker, now: Now, out: &mut Outbox) {
        for of in others(broker) {
            self.suspect(of, now, out);
        }
    }

    fn suspect(&mut self, of: Registered, now: Now, out: &mut Outbox) {
        if self.reached.contains(&of) {
            self.probe(of, Some(now.mono), TRIES, now, out);
        }
    }

    /// Looks at brokers that have not been reached yet, so that a refusal will say something.
    pub fn sweep(&mut self, broker: &Broker, now: Now, out: &mut Outbox) {
        if now.mono < self.next_sweep {
            return;
        }
        self.next_sweep = now.mono + SWEEP_EVERY;
        let alive: BTreeSet<Registered> = others(broker).collect();
        self.reached.retain(|of| alive.contains(of));
        self.silent.retain(|of, _| alive.contains(of));
        for of in alive {
            let under_way = self.probes.values().any(|probe| probe.of == of);
            if !under_way && !self.reached.contains(&of) {
                self.probe(of, None, 1, now, out);
            }
        }
    }

    fn probe(
        &mut self,
        of: Registered,
        lost_at: Option<Instant>,
        tries_left: u32,
        now: Now,
        out: &mut Outbox,
    ) {
        let tag = self.next_tag;
        self.next_tag += 1;
        let probe = Probe {
            of,
            lost_at,
            tries_left,
        };
        self.probes.insert(tag, probe);
        let request = ApiVersionsRequest {
            client_software_name: "milena".into(),
            client_software_version: env!("CARGO_PKG_VERSION").into(),
            ..ApiVersionsRequest::default()
        };
        let to = PeerAddress::Broker(BrokerId(of.0));
        let deadline = now.mono + PROBE_MAX;
        let (lane, asker) = (Lane::Probe, Asker::LostBrokers);
        out.call(PeerCall::new(to, lane, request, deadline, asker, tag));
    }

    /// What became of a probe. A registration whose broker has died, and since when nothing was heard of it.
    pub fn probed(
        &mut self,
        answer: &PeerAnswer,
        now: Now,
        out: &mut Outbox,
    ) -> Option<(Registered, Instant)> {
        let probe = self.probes.remove(&answer.tag)?;
        match (&answer.result, probe.lost_at) {
            (Ok(_), _) => {
                if self.reached.insert(probe.of) {
                    info!(broker = probe.of.0, epoch = probe.of.1, "broker reached");
                }
                None
            }
            (Err(Unanswered::Refused), Some(lost_at)) => Some((probe.of, lost_at)),
            (Err(_), Some(lost_at)) if probe.tries_left > 1 => {
                self.probe(probe.of, Some(lost_at), probe.tries_left - 1, now, out);
                None
            }
            (Err(_), _) => None,
        }
    }
}

/// Registered brokers that are not fenced, but for this node.
fn others(broker: &Broker) -> impl Iterator<Item = Registered> {
    let own = broker.node().0;
    let image = broker.image();
    let alive = image.cluster.brokers.values();
    let alive = alive.filter(|b| !b.fenced && b.id != own);
    let alive: Vec<Registered> = alive.map(|b| (b.id, b.epoch)).collect();
    alive.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mailbox::Post;

    const OF: Registered = (4, 77);

    fn calls(out: &mut Outbox) -> Vec<u64> {
        let posts = std::mem::take(&mut out.posts).into_iter();
        posts
            .map(|post| match post {
                Post::Call(call) => call.tag,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    fn answer(tag: u64, why: Unanswered) -> PeerAnswer {
        PeerAnswer {
            asker: Asker::LostBrokers,
            tag,
            result: Err(why),
        }
    }

    fn beating() -> LostBrokers {
        let mut lost = LostBrokers::default();
        let beat = BrokerHeartbeatRequest {
            broker_id: OF.0,
            broker_epoch: OF.1,
            ..BrokerHeartbeatRequest::default()
        };
        lost.heard(ConnectionId(9), &beat);
        lost
    }

    #[test]
    fn a_refusal_after_a_lost_connection_is_a_death() {
        let (mut lost, mut out) = (beating(), Outbox::default());
        lost.reached.insert(OF);
        let at = Now::from_millis(50, 0);
        lost.closed(ConnectionId(8), at, &mut out);
        assert!(calls(&mut out).is_empty(), "nobody's heartbeats came by it");
        lost.closed(ConnectionId(9), at, &mut out);
        let first = calls(&mut out)[0];
        // It was still half there.
        let found = lost.probed(&answer(first, Unanswered::Unreachable), at, &mut out);
        assert_eq!(found, None);
        let second = calls(&mut out)[0];
        let later = Now::from_millis(70, 0);
        let found = lost.probed(&answer(second, Unanswered::Refused), later, &mut out);
        assert_eq!(found, Some((OF, Instant::from_millis(50))));
        let found = lost.probed(&answer(second, Unanswered::Refused), later, &mut out);
        assert_eq!(found, None, "told once");
    }

    #[test]
    fn a_refusal_says_nothing_of_a_listener_that_was_never_reached() {
        let (mut lost, mut out) = (beating(), Outbox::default());
        lost.closed(ConnectionId(9), Now::default(), &mut out);
        assert!(calls(&mut out).is_empty());
        lost.probe(OF, None, 1, Now::default(), &mut out);
        let tag = calls(&mut out)[0];
        let found = lost.probed(&answer(tag, Unanswered::Refused), Now::default(), &mut out);
        assert_eq!(found, None);
        assert!(calls(&mut out).is_empty(), "the next sweep looks again");
    }

    #[test]
    fn one_that_beats_over_a_new_connection_is_not_silent() {
        let (mut lost, mut out) = (beating(), Outbox::default());
        assert_eq!(lost.silent(OF.0), None);
        lost.closed(ConnectionId(9), Now::from_millis(5, 0), &mut out);
        assert_eq!(lost.silent(OF.0), Some((OF.1, Instant::from_millis(5))));
        let beat = BrokerHeartbeatRequest {
            broker_id: OF.0,
            broker_epoch: OF.1,
            ..BrokerHeartbeatRequest::default()
        };
        lost.heard(ConnectionId(10), &beat);
        assert_eq!(lost.silent(OF.0), None);
    }

    #[test]
    fn silence_is_no_death() {
        let (mut lost, mut out) = (beating(), Outbox::default());
        lost.reached.insert(OF);
        lost.closed(ConnectionId(9), Now::default(), &mut out);
        let mut tries = 0;
        while let [tag] = calls(&mut out)[..] {
            tries += 1;
            let silent = answer(tag, Unanswered::TimedOut);
            assert_eq!(lost.probed(&silent, Now::default(), &mut out), None);
        }
        assert_eq!(tries, TRIES);
    }
}
