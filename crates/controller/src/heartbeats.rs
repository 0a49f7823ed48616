//! Soft state of an active controller: who is alive, and who is leaving (Kafka's `BrokerHeartbeatManager`).
//!
//! Never recorded and not part of replay: a new active controller starts with every unfenced broker heard of just now.

use std::collections::{BTreeMap, BTreeSet};
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
    /// Sessions of processes that are known to be gone: they end before their time.
    gone: BTreeSet<(i32, i64)>,
}

/// A broker that has not been heard of for this part of its session is silent.
const SILENT_PART: u32 = 3;

impl Heartbeats {
    pub fn new(session_timeout: Duration, image: &Image, now: Instant) -> Heartbeats {
        let mut heartbeats = Heartbeats {
            session_timeout,
            brokers: BTreeMap::new(),
            contacts: BTreeMap::new(),
            gone: BTreeSet::new(),
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
        self.gone.remove(&(broker, epoch));
    }

    fn is_silent(&self, contact: Instant, now: Instant) -> bool {
        now > contact + self.session_timeout / SILENT_PART
    }

    /// Unfenced brokers that have not been heard of for longer than their heartbeats' interval should be.
    pub fn silent(&self, now: Instant) -> impl Iterator<Item = i32> + '_ {
        let silent = move |(_, at): &(&(i32, i64), &Instant)| self.is_silent(**at, now);
        self.contacts.iter().filter(silent).map(|((id, _), _)| *id)
    }

    /// Ends the sessions of a broker that is silent still. Whether there was one.
    pub fn presume_gone(&mut self, broker: i32, now: Instant) -> bool {
        let of_broker = self.contacts.range((broker, i64::MIN)..=(broker, i64::MAX));
        let silent = of_broker.filter(|(_, at)| self.is_silent(**at, now));
        let silent: Vec<_> = silent.map(|(key, _)| *key).collect();
        self.gone.extend(&silent);
        !silent.is_empty()
    }

    pub fn has_session(&self, broker: i32, epoch: i64, now: Instant) -> bool {
        let contact = self.contacts.get(&(broker, epoch));
        let gone = self.gone.contains(&(broker, epoch));
        contact.is_some_and(|at| !gone && !self.is_expired(*at, now))
    }

    fn is_expired(&self, contact: Instant, now: Instant) -> bool {
        now > contact + self.session_timeout
    }

    /// Forgets one expired session and says whose it was.
    pub fn take_expired(&mut self, now: Instant) -> Option<(i32, i64)> {
        let expired = self
            .contacts
            .iter()
            .find(|(key, at)| self.gone.contains(*key) || self.is_expired(**at, now));
        let key = *expired?.0;
        self.contacts.remove(&key);
        self.gone.remove(&key);
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
    fn a_session_ends_after_its_timeout_and_once() {
        let mut heartbeats = heartbeats(&[1]);
        heartbeats.contact(1, 7, Instant::from_millis(1000));
        let (at, late) = (Instant::from_millis(10_000), Instant::from_millis(10_001));
        assert!(heartbeats.has_session(1, 7, at) && !heartbeats.has_session(1, 8, at));
        assert_eq!(heartbeats.take_expired(at), None);
        assert_eq!(heartbeats.take_expired(late), Some((1, 7)));
        assert_eq!(heartbeats.take_expired(late), None);
    }

    #[test]
    fn the_session_of_a_silent_broker_ends_where_its_process_is_gone() {
        let mut heartbeats = heartbeats(&[1, 2]);
        heartbeats.contact(1, 7, Instant::from_millis(1000));
        heartbeats.contact(2, 8, Instant::from_millis(3000));
        let (early, at) = (Instant::from_millis(4000), Instant::from_millis(4001));
        assert!(!heartbeats.presume_gone(1, early) && heartbeats.silent(early).next().is_none());
        assert!(heartbeats.silent(at).eq([1]));
        assert!(heartbeats.presume_gone(1, at) && !heartbeats.presume_gone(2, at));
        // A heartbeat that comes before the fencing speaks against it.
        heartbeats.contact(1, 7, at);
        assert_eq!(heartbeats.take_expired(at), None);
        let later = Instant::from_millis(8000);
        assert!(heartbeats.presume_gone(1, later));
        assert!(!heartbeats.has_session(1, 7, later));
        assert_eq!(heartbeats.take_expired(later), Some((1, 7)));
        assert_eq!(heartbeats.take_expired(later), None);
    }
}
