//! Replication throttles (KIP-73): bytes a second that are copied of named replicas, as their leader and as their
//! follower. Replicas that are in sync are counted, and never held back.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use milena_base::{BrokerId, Instant, Now};

use crate::broker::{Broker, Hosted};

/// `replication.quota.window.num` and `.size.seconds`.
#[derive(Clone, Copy, Debug)]
pub struct Windows {
    pub count: usize,
    pub each: Duration,
}

/// Bytes in the last windows, and how many a second there may be.
#[derive(Debug)]
pub(crate) struct Throttle {
    /// Bytes a second; `i64::MAX` for no bound, which costs nothing.
    rate: AtomicI64,
    windows: Windows,
    /// Start of each window and its bytes, oldest first. Touched for throttled replicas alone.
    samples: Mutex<VecDeque<(Instant, u64)>>,
}

impl Throttle {
    pub fn new(windows: Windows) -> Throttle {
        Throttle {
            rate: AtomicI64::new(i64::MAX),
            windows,
            samples: Mutex::default(),
        }
    }

    pub fn set_rate(&self, bytes_per_second: i64) {
        self.rate.store(bytes_per_second, Ordering::Release);
    }

    pub fn record(&self, bytes: usize, now: Now) {
        let mut samples = self.samples.lock().expect("no panic while held");
        self.expire(&mut samples, now.mono);
        match samples.back_mut() {
            Some((start, sum)) if now.mono.since(*start) < self.windows.each => {
                *sum += bytes as u64;
            }
            _ => samples.push_back((now.mono, bytes as u64)),
        }
    }

    pub fn is_spent(&self, now: Now) -> bool {
        let rate = self.rate.load(Ordering::Acquire);
        if rate == i64::MAX {
            return false;
        }
        let mut samples = self.samples.lock().expect("no panic while held");
        self.expire(&mut samples, now.mono);
        let Some((oldest, _)) = samples.front() else {
            return false;
        };
        // A rate over less than all windows but one would let the first burst look like a flood (as Kafka counts).
        let whole = self.windows.each * (self.windows.count.max(2) as u32 - 1);
        let elapsed = now.mono.since(*oldest).max(whole);
        let sum: u64 = samples.iter().map(|(_, bytes)| bytes).sum();
        sum as f64 > rate as f64 * elapsed.as_secs_f64()
    }

    fn expire(&self, samples: &mut VecDeque<(Instant, u64)>, now: Instant) {
        let kept = self.windows.each * self.windows.count as u32;
        while samples
            .front()
            .is_some_and(|(start, _)| now.since(*start) > kept)
        {
            samples.pop_front();
        }
    }
}

/// Whether a topic's list of throttled replicas names this one: `partition:broker`, or `*` for all.
pub(crate) fn names(list: &[String], partition: i32, broker: BrokerId) -> bool {
    let wanted = format!("{partition}:{broker}");
    list.iter().any(|item| item == "*" || *item == wanted)
}

impl Broker {
    /// Takes over the dynamic rates.
    pub(crate) fn set_replication_rates(&self) {
        let layers = self.layers();
        let rate = |key| layers.current().long(key);
        let (leader, follower) = (
            "leader.replication.throttled.rate",
            "follower.replication.throttled.rate",
        );
        self.leader_throttle.set_rate(rate(leader));
        self.follower_throttle.set_rate(rate(follower));
    }

    /// Whether a replica here may not be copied to just now, unless it is in sync.
    pub(crate) fn holds_follower_back(&self, hosted: &Hosted, now: Now) -> bool {
        hosted.rules().throttled_follower && self.follower_throttle.is_spent(now)
    }

    /// Counts what was copied to a replica here.
    pub(crate) fn note_copied(&self, hosted: &Hosted, bytes: usize, now: Now) {
        if bytes > 0 && hosted.rules().throttled_follower {
            self.follower_throttle.record(bytes, now);
        }
    }

    /// Whether a follower of what is led here gets no records just now.
    pub(crate) fn holds_back_from(&self, hosted: &Hosted, follower: BrokerId, now: Now) -> bool {
        hosted.rules().throttled_leader
            && self.leader_throttle.is_spent(now)
            && !hosted.partition.is_in_sync(follower)
    }

    /// Counts what was read here for a follower.
    pub(crate) fn note_read(&self, hosted: &Hosted, bytes: usize, now: Now) {
        if bytes > 0 && hosted.rules().throttled_leader {
            self.leader_throttle.record(bytes, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_bytes_over_the_last_windows() {
        let each = Duration::from_secs(1);
        let throttle = Throttle::new(Windows { count: 11, each });
        let at = |ms| Now::from_millis(ms, 0);
        throttle.record(1 << 40, at(0));
        assert!(!throttle.is_spent(at(1)), "no rate is set");
        throttle.set_rate(1000);
        assert!(throttle.is_spent(at(1)));
        assert!(!throttle.is_spent(at(11_001)), "it is long ago");
        throttle.record(10_000, at(12_000));
        assert!(
            !throttle.is_spent(at(12_000)),
            "1000 a second over ten seconds"
        );
        throttle.record(1, at(12_500));
        assert!(throttle.is_spent(at(12_500)));
    }

    #[test]
    fn a_list_names_partition_and_broker() {
        let list = ["0:1".to_owned(), "1:12".to_owned()];
        assert!(names(&list, 0, BrokerId(1)) && !names(&list, 1, BrokerId(1)));
        assert!(names(&["*".to_owned()], 7, BrokerId(3)));
    }
}
