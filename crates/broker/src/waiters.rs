//! The one table of parked requests: who waits, for which partitions, and until when.
//!
//! A waiter leaves the table exactly once: taken by a wake-up that found it complete, or by its deadline. The
//! table knows nothing of what is waited for; [`crate::fetch`] and [`crate::produce`] look again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use milena_base::{Instant, TopicIdPartition};

/// A waiter's place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WaiterId(u64);

struct Parked<W> {
    waiter: Arc<W>,
    partitions: Vec<TopicIdPartition>,
    deadline: Instant,
}

struct Table<W> {
    next: u64,
    parked: BTreeMap<WaiterId, Parked<W>>,
    by_partition: BTreeMap<TopicIdPartition, BTreeSet<WaiterId>>,
    by_deadline: BTreeSet<(Instant, WaiterId)>,
    /// When whoever expires waiters looks next, unless it is woken.
    watched_until: Instant,
}

/// See the module's words.
pub struct Waiters<W> {
    table: Mutex<Table<W>>,
    /// Number of parked waiters, read without the lock: an append with nobody waiting pays one load.
    count: AtomicUsize,
}

impl<W> Default for Waiters<W> {
    fn default() -> Waiters<W> {
        let table = Table {
            next: 0,
            parked: BTreeMap::new(),
            by_partition: BTreeMap::new(),
            by_deadline: BTreeSet::new(),
            watched_until: Instant::NEVER,
        };
        Waiters {
            table: Mutex::new(table),
            count: AtomicUsize::new(0),
        }
    }
}

impl<W> Waiters<W> {
    fn table(&self) -> MutexGuard<'_, Table<W>> {
        self.table.lock().expect("no panic while the table is held")
    }

    /// Parks a waiter. The caller looks at the partitions once more afterwards, since a wake-up may have passed
    /// between its look and this call. Returns whether whoever expires waiters has to be woken, because it would look
    /// after this deadline. Where it looks too early, since the waiter it looks for is gone, it need not be.
    pub fn park(
        &self,
        waiter: Arc<W>,
        partitions: Vec<TopicIdPartition>,
        deadline: Instant,
    ) -> (WaiterId, bool) {
        let mut table = self.table();
        let id = WaiterId(table.next);
        table.next += 1;
        for &partition in &partitions {
            table.by_partition.entry(partition).or_default().insert(id);
        }
        table.by_deadline.insert((deadline, id));
        let too_late = deadline < table.watched_until;
        if too_late {
            table.watched_until = deadline;
        }
        let parked = Parked {
            waiter,
            partitions,
            deadline,
        };
        table.parked.insert(id, parked);
        self.count.store(table.parked.len(), Ordering::SeqCst);
        (id, too_late)
    }

    /// Everyone who waits for this partition, to be looked at without the lock.
    pub fn on_partition(&self, partition: TopicIdPartition) -> Vec<(WaiterId, Arc<W>)> {
        if self.count.load(Ordering::SeqCst) == 0 {
            return Vec::new();
        }
        let table = self.table();
        let Some(ids) = table.by_partition.get(&partition) else {
            return Vec::new();
        };
        let found = ids.iter().map(|id| (*id, table.parked[id].waiter.clone()));
        found.collect()
    }

    /// Takes a waiter out. False where somebody else was first, who then answers.
    pub fn take(&self, id: WaiterId) -> bool {
        let mut table = self.table();
        let Some(parked) = table.parked.remove(&id) else {
            return false;
        };
        self.count.store(table.parked.len(), Ordering::SeqCst);
        table.by_deadline.remove(&(parked.deadline, id));
        for partition in parked.partitions {
            if let Some(ids) = table.by_partition.get_mut(&partition) {
                ids.remove(&id);
                if ids.is_empty() {
                    table.by_partition.remove(&partition);
                }
            }
        }
        true
    }

    /// Everyone whose deadline has come; they are still in the table.
    pub fn expired(&self, now: Instant) -> Vec<(WaiterId, Arc<W>)> {
        let table = self.table();
        let due = table.by_deadline.iter().take_while(|(at, _)| *at <= now);
        due.map(|(_, id)| (*id, table.parked[id].waiter.clone()))
            .collect()
    }

    /// The earliest deadline, at which the caller looks next; it is woken before by those with an earlier one only.
    pub fn watch(&self) -> Option<Instant> {
        let mut table = self.table();
        let next = table.by_deadline.first().map(|(at, _)| *at);
        table.watched_until = next.unwrap_or(Instant::NEVER);
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use milena_base::Uuid;

    #[test]
    fn a_waiter_is_taken_once() {
        let waiters = Waiters::default();
        let (a, b) = (
            TopicIdPartition::new(Uuid::ONE, 0),
            TopicIdPartition::new(Uuid::ONE, 1),
        );
        let (first, _) = waiters.park(Arc::new("first"), vec![a, b], Instant(20));
        let (second, _) = waiters.park(Arc::new("second"), vec![b], Instant(10));
        assert_eq!(waiters.on_partition(a).len(), 1);
        assert_eq!(waiters.on_partition(b).len(), 2);
        assert_eq!(waiters.expired(Instant(10))[0].0, second);
        assert!(waiters.take(first));
        assert!(!waiters.take(first));
        assert!(waiters.on_partition(a).is_empty());
        assert_eq!(waiters.watch(), Some(Instant(10)));
        assert!(waiters.take(second));
        assert_eq!(waiters.count.load(Ordering::SeqCst), 0);
        assert_eq!(waiters.watch(), None);
    }

    #[test]
    fn only_a_deadline_before_the_next_look_wakes() {
        let waiters = Waiters::default();
        let park = |at| waiters.park(Arc::new(()), Vec::new(), Instant(at));
        let (first, wakes) = park(20);
        assert!(wakes, "nobody looks yet");
        assert!(!park(30).1);
        assert_eq!(waiters.watch(), Some(Instant(20)));
        assert!(waiters.take(first));
        assert!(!park(25).1, "the look at 20 comes in time");
        assert!(park(15).1);
        assert!(!park(15).1, "it was woken for the first of them");
        assert_eq!(waiters.watch(), Some(Instant(15)));
    }
}
