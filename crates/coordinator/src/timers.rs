//! Named deadlines of one shard.

use std::collections::BTreeMap;

use milena_base::Instant;

/// Invariant: both maps hold the same timers. Of equal deadlines the one set first is due first.
#[derive(Debug)]
pub(crate) struct Timers<K> {
    by_name: BTreeMap<K, (Instant, u64)>,
    by_deadline: BTreeMap<(Instant, u64), K>,
    set: u64,
}

impl<K: Ord + Clone> Timers<K> {
    pub(crate) fn new() -> Timers<K> {
        Timers {
            by_name: BTreeMap::new(),
            by_deadline: BTreeMap::new(),
            set: 0,
        }
    }

    pub(crate) fn schedule(&mut self, name: K, deadline: Instant) {
        self.cancel(&name);
        self.set += 1;
        self.by_deadline.insert((deadline, self.set), name.clone());
        self.by_name.insert(name, (deadline, self.set));
    }

    pub(crate) fn cancel(&mut self, name: &K) {
        if let Some(at) = self.by_name.remove(name) {
            self.by_deadline.remove(&at);
        }
    }

    pub(crate) fn deadline(&self, name: &K) -> Option<Instant> {
        self.by_name.get(name).map(|&(deadline, _)| deadline)
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.by_deadline
            .keys()
            .next()
            .map(|&(deadline, _)| deadline)
    }

    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<K> {
        let (&at, _) = self.by_deadline.first_key_value()?;
        if at.0 > now {
            return None;
        }
        let name = self.by_deadline.remove(&at)?;
        self.by_name.remove(&name);
        Some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moved_timer_fires_once_and_ties_keep_their_order() {
        let mut timers = Timers::new();
        let at = Instant::from_millis;
        timers.schedule("a", at(5));
        timers.schedule("b", at(5));
        timers.schedule("a", at(9));
        timers.schedule("c", at(5));
        timers.cancel(&"nobody");
        assert_eq!(timers.next_deadline(), Some(at(5)));
        assert_eq!(timers.pop_due(at(4)), None);
        assert_eq!(timers.pop_due(at(9)), Some("b"));
        assert_eq!(timers.pop_due(at(9)), Some("c"));
        assert_eq!(timers.pop_due(at(9)), Some("a"));
        assert_eq!(timers.pop_due(at(99)), None);
        assert_eq!(timers.next_deadline(), None);
    }
}
