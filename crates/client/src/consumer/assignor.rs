//! Who in a classic group gets which partitions: the leader's decision, a pure function.

use std::collections::{BTreeMap, BTreeSet};

use milena_protocol::Str;

/// A topic and a partition.
pub type Place = (Str, i32);

/// The assignors that we speak, by Kafka's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assignor {
    /// Each topic's partitions in a row, cut into pieces.
    Range,
    /// Balanced, with as little moving as possible, and what moves is given up before it is taken (KIP-429).
    CooperativeSticky,
}

impl Assignor {
    /// By the name in the protocol or by Kafka's class.
    pub fn from_name(name: &str) -> Option<Assignor> {
        let class = name.strip_prefix("org.apache.kafka.clients.consumer.");
        match class.unwrap_or(name) {
            "RangeAssignor" | "range" => Some(Assignor::Range),
            "CooperativeStickyAssignor" | "cooperative-sticky" => Some(Assignor::CooperativeSticky),
            _ => None,
        }
    }

    /// The name in JoinGroup.
    pub fn name(self) -> &'static str {
        match self {
            Assignor::Range => "range",
            Assignor::CooperativeSticky => "cooperative-sticky",
        }
    }

    /// The partitions of every member. `partitions` says how many each topic has.
    pub fn assign(
        self,
        members: &BTreeMap<Str, Member>,
        partitions: &BTreeMap<Str, i32>,
    ) -> BTreeMap<Str, BTreeSet<Place>> {
        match self {
            Assignor::Range => range(members, partitions),
            Assignor::CooperativeSticky => cooperative_sticky(members, partitions),
        }
    }
}

/// What a member said when it joined.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    pub instance_id: Option<Str>,
    pub topics: BTreeSet<Str>,
    pub owned: BTreeSet<Place>,
    /// In which generation it got `owned`; −1 unknown.
    pub generation: i32,
}

type Assignment = BTreeMap<Str, BTreeSet<Place>>;

fn empty(members: &BTreeMap<Str, Member>) -> Assignment {
    members
        .keys()
        .map(|id| (id.clone(), BTreeSet::new()))
        .collect()
}

/// Kafka's RangeAssignor without racks: members in the order of instance id, then member id; the first ones get
/// the partitions that do not divide evenly.
fn range(members: &BTreeMap<Str, Member>, partitions: &BTreeMap<Str, i32>) -> Assignment {
    let mut assignment = empty(members);
    for (topic, &count) in partitions {
        let mut takers: Vec<(&Str, &Member)> = members
            .iter()
            .filter(|(_, member)| member.topics.contains(topic))
            .collect();
        takers.sort_by_key(|(id, member)| {
            (
                member.instance_id.is_none(),
                member.instance_id.clone(),
                (*id).clone(),
            )
        });
        let Ok(takers_count) = i32::try_from(takers.len()) else {
            continue;
        };
        if takers_count == 0 {
            continue;
        }
        let (each, extra) = (count / takers_count, count % takers_count);
        let mut next = 0;
        for (at, (id, _)) in takers.into_iter().enumerate() {
            let length = each + i32::from((at as i32) < extra);
            let piece = (next..next + length).map(|partition| (topic.clone(), partition));
            assignment
                .get_mut(id)
                .expect("every member is in it")
                .extend(piece);
            next += length;
        }
    }
    assignment
}

fn cooperative_sticky(
    members: &BTreeMap<Str, Member>,
    partitions: &BTreeMap<Str, i32>,
) -> Assignment {
    let before = undisputed(members, partitions);
    let mut assignment = before.clone();
    let all = partitions
        .iter()
        .flat_map(|(topic, &count)| (0..count).map(move |p| (topic.clone(), p)));
    let held: BTreeSet<Place> = before.values().flatten().cloned().collect();
    for place in all.filter(|place| !held.contains(place)) {
        let takers = members
            .iter()
            .filter(|(_, member)| member.topics.contains(&place.0));
        let least = takers.min_by_key(|(id, _)| (assignment[*id].len(), (*id).clone()));
        if let Some((id, _)) = least {
            assignment
                .get_mut(id)
                .expect("every member is in it")
                .insert(place);
        }
    }
    while let Some((from, to, place)) = better_move(members, &assignment) {
        assignment
            .get_mut(&from)
            .expect("every member is in it")
            .remove(&place);
        assignment
            .get_mut(&to)
            .expect("every member is in it")
            .insert(place);
    }
    give_up_before_taking(members, &mut assignment);
    assignment
}

/// What each member keeps for now: owned, still there, subscribed, and claimed by nobody of a later generation
/// (by nobody else of the same one).
fn undisputed(members: &BTreeMap<Str, Member>, partitions: &BTreeMap<Str, i32>) -> Assignment {
    let mut claims: BTreeMap<&Place, Vec<(i32, &Str)>> = BTreeMap::new();
    for (id, member) in members {
        let exists = |(topic, p): &&Place| partitions.get(topic).is_some_and(|count| p < count);
        let wanted = |place: &&Place| member.topics.contains(&place.0);
        for place in member.owned.iter().filter(exists).filter(wanted) {
            claims
                .entry(place)
                .or_default()
                .push((member.generation, id));
        }
    }
    let mut kept = empty(members);
    for (place, mut claimants) in claims {
        claimants.sort();
        let disputed = claimants.len() > 1
            && claimants[claimants.len() - 1].0 == claimants[claimants.len() - 2].0;
        if let Some((_, id)) = claimants.last().filter(|_| !disputed) {
            kept.get_mut(*id)
                .expect("every member is in it")
                .insert(place.clone());
        }
    }
    kept
}

/// A move that evens two members out; none once no two that could exchange differ by more than one.
fn better_move(
    members: &BTreeMap<Str, Member>,
    assignment: &Assignment,
) -> Option<(Str, Str, Place)> {
    let mut by_load: Vec<&Str> = assignment.keys().collect();
    by_load.sort_by_key(|id| assignment[*id].len());
    for from in by_load.iter().rev() {
        for to in &by_load {
            if assignment[*from].len() <= assignment[*to].len() + 1 {
                break;
            }
            let takes = |place: &&Place| members[*to].topics.contains(&place.0);
            if let Some(place) = assignment[*from].iter().rev().find(takes) {
                return Some(((*from).clone(), (*to).clone(), place.clone()));
            }
        }
    }
    None
}

/// A partition that another member still owns is given to nobody in this round.
fn give_up_before_taking(members: &BTreeMap<Str, Member>, assignment: &mut Assignment) {
    for (id, places) in assignment {
        places.retain(|place| {
            let others = members.iter().filter(|(other, _)| *other != id);
            members[id].owned.contains(place)
                || !others.map(|(_, m)| m).any(|m| m.owned.contains(place))
        });
    }
}
