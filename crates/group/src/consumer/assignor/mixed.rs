//! `uniform` where members subscribe to different topics: what is free goes to those that have least, then topic after
//! topic is evened out until nothing moves any more. Source: `UniformHeterogeneousAssignmentBuilder`.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use milena_base::Uuid;

use crate::consumer::assignment::Partitions;
use crate::consumer::assignor::{GroupSpec, java, members_in_order};

/// Rounds over all topics, at most.
const ROUNDS_MAX: usize = 16;

struct Topic {
    /// Members in their order, as indices of `Builder::order`.
    subscribers: Vec<usize>,
    owners: Vec<Option<usize>>,
}

struct Builder<'a> {
    group: &'a GroupSpec<'a>,
    /// Where each member of the order stands in the group.
    order: Vec<usize>,
    topics: BTreeMap<Uuid, Topic>,
    targets: Vec<Arc<Partitions>>,
    sizes: Vec<usize>,
}

pub(super) fn assign(group: &GroupSpec<'_>) -> Vec<Arc<Partitions>> {
    let mut builder = Builder::new(group);
    if !builder.topics.is_empty() {
        builder.keep();
        builder.assign_free();
        builder.balance();
    }
    let mut targets = vec![Arc::default(); group.members.len()];
    for (member, target) in builder.targets.into_iter().enumerate() {
        targets[builder.order[member]] = target;
    }
    targets
}

impl<'a> Builder<'a> {
    fn new(group: &'a GroupSpec<'a>) -> Builder<'a> {
        let order = members_in_order(group);
        let mut topics: BTreeMap<Uuid, Topic> = BTreeMap::new();
        for (member, &index) in order.iter().enumerate() {
            for &id in group.members[index].topics.iter() {
                let new = || Topic {
                    subscribers: Vec::new(),
                    owners: vec![None; usize::try_from((group.partitions)(id)).unwrap_or(0)],
                };
                topics
                    .entry(id)
                    .or_insert_with(new)
                    .subscribers
                    .push(member);
            }
        }
        Builder {
            group,
            targets: vec![Arc::default(); order.len()],
            sizes: vec![0; order.len()],
            order,
            topics,
        }
    }

    /// Members keep what they still subscribe to.
    fn keep(&mut self) {
        for member in 0..self.order.len() {
            let spec = &self.group.members[self.order[member]];
            let mut kept: Option<Partitions> = None;
            for (id, partitions) in spec.target.iter() {
                if !spec.topics.contains(id) {
                    kept.get_or_insert_with(|| Partitions::clone(&spec.target))
                        .remove(id);
                    continue;
                }
                self.sizes[member] += partitions.len();
                let topic = self.topics.get_mut(id).expect("somebody subscribes to it");
                for &partition in partitions {
                    if let Some(owner) = topic.owners.get_mut(partition as usize) {
                        *owner = Some(member);
                    }
                }
            }
            self.targets[member] = kept.map_or_else(|| spec.target.clone(), Arc::new);
        }
    }

    /// Topics with most partitions for each subscriber first.
    fn sorted(&self, topics: impl Iterator<Item = Uuid>) -> Vec<Uuid> {
        let density = |id: &Uuid| {
            let topic = &self.topics[id];
            topic.owners.len() as f64 / topic.subscribers.len() as f64
        };
        let subscribers = |id: &Uuid| self.topics[id].subscribers.len();
        let mut topics: Vec<Uuid> = topics.collect();
        topics.sort_by(|a, b| {
            let by_density = density(b)
                .partial_cmp(&density(a))
                .unwrap_or(Ordering::Equal);
            let by_subscribers = || subscribers(a).cmp(&subscribers(b));
            let by_id = || java::parts(*a).cmp(&java::parts(*b));
            by_density.then_with(by_subscribers).then_with(by_id)
        });
        topics
    }

    fn assign_free(&mut self) {
        let free = |(id, topic): (&Uuid, &Topic)| topic.owners.contains(&None).then_some(*id);
        let with_free: Vec<Uuid> = self.topics.iter().filter_map(free).collect();
        for id in self.sorted(with_free.into_iter()) {
            let topic = &self.topics[&id];
            let mut loads = Loads::new(&topic.subscribers, &self.sizes);
            let free = topic.owners.iter().enumerate();
            let free: Vec<usize> = free.filter(|(_, o)| o.is_none()).map(|(p, _)| p).collect();
            for partition in free {
                let member = loads.next_least(&self.sizes);
                self.give(id, partition, member);
            }
        }
    }

    fn balance(&mut self) {
        let shared = self
            .topics
            .iter()
            .filter(|(_, topic)| topic.subscribers.len() >= 2);
        let shared: Vec<Uuid> = shared.map(|(id, _)| *id).collect();
        let sorted = self.sorted(shared.into_iter());
        let mut last_moved = None;
        for _ in 0..ROUNDS_MAX {
            for (index, &id) in sorted.iter().enumerate() {
                if last_moved == Some(index) {
                    return;
                }
                if self.balance_topic(id) > 0 || last_moved.is_none() {
                    last_moved = Some(index);
                }
            }
        }
    }

    /// How many partitions have moved.
    fn balance_topic(&mut self, id: Uuid) -> usize {
        let topic = &self.topics[&id];
        let mut loads = Loads::new(&topic.subscribers, &self.sizes);
        if loads.imbalance(&self.sizes) <= 1 {
            return 0;
        }
        // Each owner's partitions, ascending: the last goes first.
        let mut owned: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (partition, owner) in topic.owners.iter().enumerate() {
            if let Some(owner) = owner {
                owned.entry(*owner).or_default().push(partition);
            }
        }
        let mut moved = 0;
        while !loads.is_balanced() {
            let Some(most) = loads.next_most(&self.sizes) else {
                break;
            };
            let Some(partition) = owned.get_mut(&most).and_then(Vec::pop) else {
                loads.exclude_most();
                continue;
            };
            let least = loads.next_least(&self.sizes);
            if loads.is_balanced() {
                break;
            }
            self.give(id, partition, least);
            moved += 1;
        }
        moved
    }

    fn give(&mut self, id: Uuid, partition: usize, member: usize) {
        let topic = self.topics.get_mut(&id).expect("somebody subscribes to it");
        let old = topic.owners[partition].replace(member);
        let number = partition as i32;
        if let Some(old) = old {
            self.sizes[old] -= 1;
            let target = Arc::make_mut(&mut self.targets[old]);
            if let Some(partitions) = target.get_mut(&id) {
                partitions.remove(&number);
                if partitions.is_empty() {
                    target.remove(&id);
                }
            }
        }
        self.sizes[member] += 1;
        let target = Arc::make_mut(&mut self.targets[member]);
        target.entry(id).or_default().insert(number);
    }
}

/// A topic's subscribers by what they have, all topics together. Those with least take their turns, each getting one;
/// so do those with most, each losing one. Sizes are those of the moment, which the turns change.
struct Loads {
    members: Vec<usize>,
    least_end: usize,
    least_size: i64,
    next_least: usize,
    most_start: usize,
    most_end: usize,
    most_size: i64,
    /// One less than an index; −1 is none.
    next_most: i64,
}

impl Loads {
    fn new(subscribers: &[usize], sizes: &[usize]) -> Loads {
        let mut members = subscribers.to_vec();
        members.sort_by_key(|&member| (sizes[member], member));
        let of = |at: Option<&usize>| at.map_or(0, |&member| sizes[member] as i64);
        Loads {
            least_end: 0,
            least_size: of(members.first()) - 1,
            next_least: 0,
            most_start: members.len(),
            most_end: members.len(),
            most_size: of(members.last()) + 1,
            next_most: members.len() as i64 - 1,
            members,
        }
    }

    fn size(&self, at: usize, sizes: &[usize]) -> i64 {
        sizes[self.members[at]] as i64
    }

    fn imbalance(&self, sizes: &[usize]) -> i64 {
        self.size(self.members.len() - 1, sizes) - self.size(0, sizes)
    }

    fn next_least(&mut self, sizes: &[usize]) -> usize {
        if self.next_least >= self.least_end {
            self.least_size += 1;
            while self.least_end < self.members.len()
                && self.size(self.least_end, sizes) == self.least_size
            {
                self.least_end += 1;
            }
            self.next_least = 0;
        }
        self.next_least += 1;
        self.members[self.next_least - 1]
    }

    fn next_most(&mut self, sizes: &[usize]) -> Option<usize> {
        if self.next_most < self.most_start as i64 {
            match self.most_end <= self.most_start && self.most_start > 0 {
                true => self.most_size = self.size(self.most_start - 1, sizes),
                false => self.most_size -= 1,
            }
            while self.most_start > 0 && self.size(self.most_start - 1, sizes) == self.most_size {
                self.most_start -= 1;
            }
            self.next_most = self.most_end as i64 - 1;
        }
        let at = usize::try_from(self.next_most).ok()?;
        self.next_most -= 1;
        Some(self.members[at])
    }

    /// The one that was named last has nothing of this topic to lose.
    fn exclude_most(&mut self) {
        let at = usize::try_from(self.next_most + 1).unwrap_or(0);
        self.members.swap(at, self.most_end - 1);
        self.most_end -= 1;
    }

    fn is_balanced(&self) -> bool {
        self.most_size - self.least_size <= 1
    }
}
