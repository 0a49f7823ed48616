//! Where new replicas go (Kafka's `StripedReplicaPlacer`): racks in turn, within a rack the brokers in turn, a live
//! broker first in each partition, and a fresh order whenever all have led.

use std::collections::BTreeMap;

use milena_base::Prng;
use milena_protocol::Str;

/// A broker that can take replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UsableBroker {
    pub id: i32,
    pub rack: Option<Str>,
    pub fenced: bool,
}

/// Replicas for each of `partitions` new partitions, or why not.
pub(crate) fn place(
    brokers: &[UsableBroker],
    partitions: usize,
    replication_factor: i16,
    prng: &mut Prng,
) -> Result<Vec<Vec<i32>>, String> {
    let mut racks = RackList::new(brokers, prng);
    if replication_factor <= 0 {
        return Err(format!(
            "Invalid replication factor {replication_factor}: the replication factor must be positive."
        ));
    }
    if racks.live == 0 {
        let text = "All brokers are currently fenced, or have all their log directories cordoned.";
        return Err(text.to_owned());
    }
    let replicas = replication_factor as usize;
    if replicas > brokers.len() {
        return Err(format!(
            "The target replication factor of {replicas} cannot be reached because only {} broker(s) \
             are registered or some brokers have all their log directories cordoned.",
            brokers.len()
        ));
    }
    Ok((0..partitions)
        .map(|_| racks.place(replicas, prng))
        .collect())
}

struct RackList {
    /// In the order in which they take turns.
    racks: Vec<Rack>,
    live: usize,
    /// Partitions placed; never reset, so that no ring takes a new turn for an old one.
    epoch: usize,
    /// Partitions placed since the last shuffle.
    placed: usize,
    offset: usize,
}

#[derive(Default)]
struct Rack {
    live: Ring,
    fenced: Ring,
}

/// Brokers in turn; each new epoch starts one further.
#[derive(Default)]
struct Ring {
    brokers: Vec<i32>,
    epoch: usize,
    index: usize,
    offset: usize,
}

impl RackList {
    fn new(brokers: &[UsableBroker], prng: &mut Prng) -> RackList {
        let mut by_name: BTreeMap<Option<Str>, Rack> = BTreeMap::new();
        for broker in brokers {
            let rack = by_name.entry(broker.rack.clone()).or_default();
            let ring = if broker.fenced {
                &mut rack.fenced
            } else {
                &mut rack.live
            };
            ring.brokers.push(broker.id);
        }
        let mut racks: Vec<Rack> = by_name.into_values().collect();
        for ring in racks
            .iter_mut()
            .flat_map(|rack| [&mut rack.fenced, &mut rack.live])
        {
            if !ring.brokers.is_empty() {
                ring.brokers.sort_unstable();
                ring.offset = prng.below(ring.brokers.len() as u64) as usize;
            }
        }
        let offset = match racks.len() {
            0 => 0,
            count => prng.below(count as u64) as usize,
        };
        RackList {
            live: brokers.iter().filter(|b| !b.fenced).count(),
            racks,
            epoch: 0,
            placed: 0,
            offset,
        }
    }

    /// At least one live broker and `replicas` brokers in all: the caller has seen to it.
    fn place(&mut self, replicas: usize, prng: &mut Prng) -> Vec<i32> {
        if self.placed == self.live && self.live > 1 {
            self.shuffle(prng);
            self.placed = 0;
        }
        let (epoch, count) = (self.epoch, self.racks.len());
        self.offset %= count;
        let mut placed = Vec::with_capacity(replicas);
        let mut first_rack = self.offset;
        loop {
            if let Some(broker) = self.racks[first_rack].live.next(epoch) {
                placed.push(broker);
                break;
            }
            first_rack = (first_rack + 1) % count;
        }
        let mut skip = Some(first_rack);
        let mut rack = self.offset;
        while placed.len() < replicas {
            if skip == Some(rack) {
                skip = None;
            } else {
                placed.extend(self.racks[rack].next(epoch));
            }
            rack = (rack + 1) % count;
        }
        self.epoch += 1;
        self.placed += 1;
        self.offset += 1;
        placed
    }

    fn shuffle(&mut self, prng: &mut Prng) {
        prng.shuffle(&mut self.racks);
        for rack in &mut self.racks {
            prng.shuffle(&mut rack.fenced.brokers);
            prng.shuffle(&mut rack.live.brokers);
        }
    }
}

impl Rack {
    fn next(&mut self, epoch: usize) -> Option<i32> {
        self.live.next(epoch).or_else(|| self.fenced.next(epoch))
    }
}

impl Ring {
    fn next(&mut self, epoch: usize) -> Option<i32> {
        let count = self.brokers.len();
        if count == 0 {
            return None;
        }
        if self.epoch != epoch {
            self.epoch = epoch;
            self.index = 0;
            self.offset = (self.offset + 1) % count;
        }
        if self.index >= count {
            return None;
        }
        let broker = self.brokers[(self.index + self.offset) % count];
        self.index += 1;
        Some(broker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brokers(count: i32, racks: i32, fenced: &[i32]) -> Vec<UsableBroker> {
        let broker = |id| UsableBroker {
            id,
            rack: (racks > 0).then(|| Str::from(format!("r{}", id % racks))),
            fenced: fenced.contains(&id),
        };
        (0..count).map(broker).collect()
    }

    #[test]
    fn replicas_differ_spread_over_racks_and_begin_with_a_live_broker() {
        for seed in 0..300 {
            let mut prng = Prng::new(seed);
            let racks = prng.below(4) as i32;
            let count = 1 + prng.below(8) as i32;
            let fenced: Vec<i32> = (1..count).filter(|_| prng.chance(1, 4)).collect();
            let brokers = brokers(count, racks, &fenced);
            let factor = 1 + prng.below(count as u64) as i16;
            let placed = place(&brokers, 20, factor, &mut prng).unwrap();
            for replicas in &placed {
                let mut distinct = replicas.clone();
                distinct.sort_unstable();
                distinct.dedup();
                assert_eq!(distinct.len(), factor as usize, "seed {seed}: {replicas:?}");
                assert!(!fenced.contains(&replicas[0]), "seed {seed}: {replicas:?}");
            }
        }
    }

    #[test]
    fn leaders_are_even_where_racks_are() {
        let brokers = brokers(6, 3, &[]);
        let placed = place(&brokers, 600, 3, &mut Prng::new(1)).unwrap();
        for broker in 0..6 {
            assert_eq!(placed.iter().filter(|r| r[0] == broker).count(), 100);
        }
        for replicas in placed {
            let mut racks: Vec<i32> = replicas.iter().map(|id| id % 3).collect();
            racks.sort_unstable();
            assert_eq!(racks, [0, 1, 2]);
        }
    }

    #[test]
    fn what_cannot_be_placed_is_told_in_kafkas_words() {
        let refused = |brokers: &[UsableBroker], factor| {
            place(brokers, 1, factor, &mut Prng::new(1)).unwrap_err()
        };
        assert_eq!(
            refused(&brokers(1, 0, &[]), 3),
            "The target replication factor of 3 cannot be reached because only 1 broker(s) are \
             registered or some brokers have all their log directories cordoned."
        );
        assert_eq!(
            refused(&brokers(1, 0, &[0]), 1),
            "All brokers are currently fenced, or have all their log directories cordoned."
        );
    }
}
