//! Places that are proposed: leaders go round the brokers, and the other replicas of a partition follow at a distance
//! that grows with every round; with racks, each rack gets a replica before any gets a second (KIP-36).

use std::collections::{BTreeMap, BTreeSet};

use super::Failure;
use super::plan::Assignment;

/// A broker that may be used, with its rack where racks are looked at.
pub type Candidate = (i32, Option<String>);

/// Where a proposal begins; random, so that proposals spread.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    pub first: usize,
    pub shift: usize,
}

/// New places for the partitions of each topic, as many replicas as the topic's first partition has.
pub fn propose(
    current: &Assignment,
    candidates: &[Candidate],
    mut start: impl FnMut() -> Start,
) -> Result<Assignment, Failure> {
    let mut topics: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for ((topic, _), replicas) in current {
        topics.entry(topic).or_default().push(replicas.len());
    }
    let mut proposed = Assignment::new();
    for (topic, partitions) in topics {
        let replicas = partitions[0];
        if replicas > candidates.len() {
            return Err(Failure::Operation(format!(
                "Replication factor: {replicas} larger than available brokers: {}.",
                candidates.len()
            )));
        }
        let order = in_turn(candidates);
        let start = start();
        for partition in 0..partitions.len() {
            let picked = pick(&order, partition, replicas, start);
            proposed.insert((topic.to_owned(), partition as i32), picked);
        }
    }
    Ok(proposed)
}

/// The brokers as given, or one of each rack in turn.
fn in_turn(candidates: &[Candidate]) -> Vec<Candidate> {
    let mut racks: BTreeMap<&str, BTreeSet<i32>> = BTreeMap::new();
    for (id, rack) in candidates {
        match rack {
            Some(rack) => racks.entry(rack).or_default().insert(*id),
            None => return candidates.to_vec(),
        };
    }
    let mut order = Vec::with_capacity(candidates.len());
    for round in 0..candidates.len() {
        for (rack, ids) in &racks {
            let id = ids.iter().nth(round);
            order.extend(id.map(|id| (*id, Some((*rack).to_owned()))));
        }
    }
    order
}

fn pick(order: &[Candidate], partition: usize, replicas: usize, start: Start) -> Vec<i32> {
    let count = order.len();
    let racks: BTreeSet<&Option<String>> = order.iter().map(|(_, rack)| rack).collect();
    let by_rack = order.first().is_some_and(|(_, rack)| rack.is_some());
    let step = if by_rack { racks.len() } else { 1 };
    let shift = (start.shift + partition / count) * step;
    let first = (partition + start.first) % count;
    let mut picked = vec![first];
    let mut used = BTreeSet::from([&order[first].1]);
    // Every other broker is passed at least once within two rounds, so that this ends.
    for k in 0.. {
        if picked.len() >= replicas {
            break;
        }
        let next = (first + 1 + (shift + k) % (count - 1)) % count;
        let rack = &order[next].1;
        let rack_fits = !by_rack || !used.contains(rack) || used.len() == racks.len();
        if rack_fits && !picked.contains(&next) {
            picked.push(next);
            used.insert(rack);
        }
    }
    picked.into_iter().map(|at| order[at].0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Start = Start { first: 0, shift: 0 };

    fn three_partitions() -> Assignment {
        let places = (0..3).map(|p| (("t".to_owned(), p), vec![9, 8]));
        places.collect()
    }

    #[test]
    fn leaders_go_round_and_racks_alternate() {
        let plain: Vec<Candidate> = (1..=3).map(|id| (id, None)).collect();
        let proposed = propose(&three_partitions(), &plain, || START).ok().unwrap();
        let all: Vec<_> = proposed.into_values().collect();
        assert_eq!(all, [[1, 2], [2, 3], [3, 1]]);
        let rack = |id: i32| Some(if id < 3 { "a" } else { "b" }.to_owned());
        let racks: Vec<Candidate> = (1..=4).map(|id| (id, rack(id))).collect();
        let proposed = propose(&three_partitions(), &racks, || START).ok().unwrap();
        for replicas in proposed.values() {
            assert_ne!(rack(replicas[0]), rack(replicas[1]), "{replicas:?}");
        }
    }

    #[test]
    fn too_few_brokers_are_refused() {
        let refused = propose(&three_partitions(), &[(1, None)], || START);
        let Err(Failure::Operation(text)) = refused else {
            panic!("{refused:?}")
        };
        let expected = "Replication factor: 2 larger than available brokers: 1.";
        assert_eq!(text, expected);
    }
}
