//! Who gives and who gets replicas, and which of them are throttled meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use super::plan::{Assignment, Place};

/// A reassignment that is under way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ongoing {
    pub replicas: Vec<i32>,
    pub adding: Vec<i32>,
    pub removing: Vec<i32>,
}

pub type AllOngoing = BTreeMap<Place, Ongoing>;

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Move {
    pub sources: BTreeSet<i32>,
    pub destinations: BTreeSet<i32>,
}

pub type Moves = BTreeMap<Place, Move>;

/// The moves under way and those that a plan adds to them.
pub fn moves(ongoing: &AllOngoing, proposed: &Assignment, current: &Assignment) -> Moves {
    let mut moves = Moves::new();
    for (place, ongoing) in ongoing {
        let destinations: BTreeSet<i32> = ongoing.adding.iter().copied().collect();
        let replicas = ongoing.replicas.iter().copied();
        let sources = replicas.filter(|r| !destinations.contains(r)).collect();
        moves.insert(
            place.clone(),
            Move {
                sources,
                destinations,
            },
        );
    }
    for (place, replicas) in proposed {
        let sources = match moves.remove(place) {
            Some(known) => known.sources,
            None => current.get(place).into_iter().flatten().copied().collect(),
        };
        let new = replicas.iter().copied().filter(|r| !sources.contains(r));
        let destinations = new.collect();
        moves.insert(
            place.clone(),
            Move {
                sources,
                destinations,
            },
        );
    }
    moves
}

/// By topic, which replicas `of` a move names, as `partition:broker` pairs.
pub fn throttled(moves: &Moves, of: fn(&Move) -> &BTreeSet<i32>) -> BTreeMap<String, String> {
    let mut topics: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for ((topic, partition), one) in moves {
        let pairs = of(one).iter().map(|broker| format!("{partition}:{broker}"));
        topics.entry(topic.clone()).or_default().extend(pairs);
    }
    let text = |pairs: BTreeSet<String>| pairs.into_iter().collect::<Vec<_>>().join(",");
    topics
        .into_iter()
        .map(|(topic, pairs)| (topic, text(pairs)))
        .collect()
}

/// Every broker that gives or gets.
pub fn brokers(moves: &Moves) -> BTreeSet<i32> {
    let all = moves
        .values()
        .flat_map(|m| m.sources.iter().chain(&m.destinations));
    all.copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_copied_is_throttled_at_both_ends() {
        let place = |p| ("t".to_owned(), p);
        let ongoing = Ongoing {
            replicas: vec![1, 2, 3],
            adding: vec![3],
            removing: vec![1],
        };
        let ongoing = AllOngoing::from([(place(0), ongoing)]);
        let proposed = Assignment::from([(place(0), vec![2, 4]), (place(1), vec![2, 5])]);
        let current = Assignment::from([(place(1), vec![1, 2])]);
        let moves = moves(&ongoing, &proposed, &current);
        let leaders = throttled(&moves, |m| &m.sources);
        assert_eq!(leaders["t"], "0:1,0:2,1:1,1:2");
        assert_eq!(throttled(&moves, |m| &m.destinations)["t"], "0:4,1:5");
        assert_eq!(brokers(&moves), BTreeSet::from([1, 2, 4, 5]));
    }
}
