//! Soft state of an active controller: who is alive, and who is leaving (Kafka's `BrokerHeartbeatManager`).
//!
//! Never recorded and not part of replay: a new active controller starts with every unfenced broker heard of just now.

use std::collections::BTreeMap;
use std::time::Duration;

use milena_base::Instant;
use milena_image::Image;

/// States of a broker, as its heartbeats move it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BrokerState {
    Fenced,
    Unfenced,
    ControlledShutdown,
    ShutdownNow,
}

impl BrokerState {
    pub fn is_fenced(self) -> bool {
        matches!(self, BrokerState::Fenced | BrokerState::ShutdownNow)
    }
}

#[derive(Clone, Debug)]
struct Heard {
    fenced: bool,
    /// How far the broker has read the metadata log; −1 unknown.
    metadata_offset: i64,
    /// Last offset of the batch that moved its leaderships away; −1 while it is not leaving.
    shutdown_offset: i64,
}

impl Heard {
    fn leaving(&self) -> bool {
        self.shutdown_offset >= 0
    }
}

/// What a heartbeat wants.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    pub fence: bool,
    pub shut_down: bool,
    pub metadata_offset: i64,
    /// Offset of the broker's registration record.
    pub registered_at: i64,
    pub has_leaderships: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Heartbeats {
    session_timeout: Duration,
    brokers: BTreeMap<i32, Heard>,
    /// By broker id and epoch: a session belongs to one registration.
    contacts: BTreeMap<(i32, i64), Instant>,
}

impl Heartbeats {
    pub fn new(session_timeout: Duration, image: &Image, now: Instant) -> Heartbeats {
        let mut heartbeats = Heartbeats {
            session_timeout,
            brokers: BTreeMap::new(),
            contacts: BTreeMap::new(),
        };
        for broker in image.cluster.brokers.values() {
            heartbeats.register(broker.id, broker.fenced);
            if !broker.fenced {
                heartbeats.contact(broker.id, broker.epoch, now);
            }
        }
        heartbeats
    }

    pub fn contact(&mut self, broker: i32, epoch: i64, now: Instant) {
        self.contacts.insert((broker, epoch), now);
    }

    pub fn has_session(&self, broker: i32, epoch: i64, now: Instant) -> bool {
        let contact = self.contacts.get(&(broker, epoch));
        contact.is_some_and(|at| !self.is_expired(*at, now))
    }

    /// Ends a session early, unless something was heard after `lost_at`. Whether it did.
    pub fn end_session(&mut self, broker: i32, epoch: i64, lost_at: Instant) -> bool {
        let key = (broker, epoch);
        let quiet = self.contacts.get(&key).is_some_and(|at| *at <= lost_at);
        if quiet {
            self.contacts.remove(&key);
        }
        quiet
    }

    fn is_expired(&self, contact: Instant, now: Instant) -> bool {
        now > contact + self.session_timeout
    }

    /// Forgets one expired session and says whose it was.
    pub fn take_expired(&mut self, now: Instant) -> Option<(i32, i64)> {
        let expired = self
            .contacts
            .iter()
            .find(|(_, at)| self.is_expired(**at, now));
        let key = *expired?.0;
        self.contacts.remove(&key);
        Some(key)
    }

    /// After a registration or a change of it was replayed.
    pub fn register(&mut self, broker: i32, fenced: bool) {
        let known = self.brokers.get(&broker);
        let metadata_offset = match known {
            Some(heard) if heard.fenced != fenced => heard.metadata_offset,
            _ => -1,
        };
        self.brokers.entry(broker).or_insert(Heard {
            fenced,
            metadata_offset: -1,
            shutdown_offset: -1,
        });
        self.touch(broker, fenced, metadata_offset);
    }

    pub fn touch(&mut self, broker: i32, fenced: bool, metadata_offset: i64) {
        if let Some(heard) = self.brokers.get_mut(&broker) {
            heard.fenced = fenced;
            heard.metadata_offset = metadata_offset;
            if fenced {
                heard.shutdown_offset = -1;
            }
        }
    }

    pub fn remove(&mut self, broker: i32) {
        self.brokers.remove(&broker);
    }

    pub fn fence(&mut self, broker: i32) {
        if let Some(heard) = self.brokers.get_mut(&broker) {
            heard.fenced = true;
        }
    }

    /// The batch that announced the shutdown ends here; only the first one counts.
    pub fn set_shutdown_offset(&mut self, broker: i32, offset: i64) {
        if let Some(heard) = self.brokers.get_mut(&broker)
            && !heard.leaving()
        {
            heard.shutdown_offset = offset;
        }
    }

    /// Brokers that can take replicas, but for their directories: id and whether it is fenced.
    pub fn staying(&self) -> impl Iterator<Item = (i32, bool)> + '_ {
        let staying = self.brokers.iter().filter(|(_, heard)| !heard.leaving());
        staying.map(|(id, heard)| (*id, heard.fenced))
    }

    /// The state that a heartbeat finds and the one that it leads to. `None` for a broker never registered.
    pub fn next_state(&self, broker: i32, wish: Wish) -> Option<(BrokerState, BrokerState)> {
        let heard = self.brokers.get(&broker)?;
        Some(if heard.leaving() {
            (
                BrokerState::ControlledShutdown,
                self.when_leaving(heard, wish),
            )
        } else if heard.fenced {
            (BrokerState::Fenced, when_fenced(wish))
        } else {
            (BrokerState::Unfenced, when_unfenced(wish))
        })
    }

    /// A leaving broker may go when it leads nothing and every active broker knows who leads now.
    fn when_leaving(&self, heard: &Heard, wish: Wish) -> BrokerState {
        let active = self.brokers.values().filter(|h| !h.fenced && !h.leaving());
        let lowest = active.map(|h| h.metadata_offset).min().unwrap_or(i64::MAX);
        if !wish.has_leaderships && heard.shutdown_offset <= lowest {
            return BrokerState::ShutdownNow;
        }
        BrokerState::ControlledShutdown
    }
}

fn when_fenced(wish: Wish) -> BrokerState {
    match wish {
        Wish {
            shut_down: true, ..
        } => BrokerState::ShutdownNow,
        Wish { fence: true, .. } => BrokerState::Fenced,
        _ if wish.metadata_offset >= wish.registered_at => BrokerState::Unfenced,
        _ => BrokerState::Fenced,
    }
}

fn when_unfenced(wish: Wish) -> BrokerState {
    match (wish.fence, wish.shut_down) {
        (true, true) => BrokerState::ShutdownNow,
        (true, false) => BrokerState::Fenced,
        (false, true) if wish.has_leaderships => BrokerState::ControlledShutdown,
        (false, true) => BrokerState::ShutdownNow,
        (false, false) => BrokerState::Unfenced,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heartbeats(brokers: &[i32]) -> Heartbeats {
        let timeout = Duration::from_secs(9);
        let mut heartbeats = Heartbeats::new(timeout, &Image::default(), Instant::ZERO);
        for id in brokers {
            heartbeats.register(*id, false);
            heartbeats.touch(*id, false, 100);
        }
        heartbeats
    }

    const LEAVE: Wish = Wish {
        fence: false,
        shut_down: true,
        metadata_offset: 100,
        registered_at: 5,
        has_leaderships: false,
    };

    #[test]
    fn a_leaving_broker_waits_until_the_others_have_read_so_far() {
        let mut heartbeats = heartbeats(&[1, 2]);
        heartbeats.set_shutdown_offset(1, 120);
        heartbeats.set_shutdown_offset(1, 500);
        let next = |h: &Heartbeats| h.next_state(1, LEAVE).unwrap().1;
        assert_eq!(next(&heartbeats), BrokerState::ControlledShutdown);
        heartbeats.touch(2, false, 120);
        assert_eq!(next(&heartbeats), BrokerState::ShutdownNow);
        heartbeats.remove(2);
        assert_eq!(next(&heartbeats), BrokerState::ShutdownNow);
    }

    #[test]
    fn a_session_ends_early_where_nothing_was_heard_since() {
        let mut heartbeats = heartbeats(&[1]);
        let at = Instant::from_millis;
        heartbeats.contact(1, 7, at(1000));
        assert!(!heartbeats.end_session(1, 7, at(999)), "heard since");
        assert!(!heartbeats.end_session(1, 6, at(1000)), "another session");
        assert!(heartbeats.end_session(1, 7, at(1000)));
        assert!(!heartbeats.has_session(1, 7, at(1000)));
    }

    #[test]
    fn a_session_ends_after_its_timeout_and_once() {
        let mut heartbeats = heartbeats(&[1]);
        heartbeats.contact(1, 7, Instant::from_millis(1000));
        let (at, late) = (Instant::from_millis(10_000), Instant::from_millis(10_001));
        assert!(heartbeats.has_session(1, 7, at) && !heartbeats.has_session(1, 8, at));
        assert_eq!(heartbeats.take_expired(at), None);
        assert_eq!(heartbeats.take_expired(late), Some((1, 7)));
        assert_eq!(heartbeats.take_expired(late), None);
    }
}
