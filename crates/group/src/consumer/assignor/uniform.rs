//! `uniform` where all members subscribe to the same topics: everybody keeps what it has up to its share, and what is
//! left over goes to those with less. Source: `UniformHomogeneousAssignmentBuilder`.

use std::collections::BTreeSet;
use std::sync::Arc;

use milena_base::Uuid;

use crate::consumer::assignment::Partitions;
use crate::consumer::assignor::{GroupSpec, java, members_in_order, partitions_in_order};

struct Builder<'a> {
    group: &'a GroupSpec<'a>,
    topics: BTreeSet<Uuid>,
    /// Not in anybody's target, or taken away from one that has too much; in the order in which they are given away.
    free: Vec<(Uuid, i32)>,
    /// Members below their share, with what they lack.
    unfilled: Vec<(usize, usize)>,
    targets: Vec<Arc<Partitions>>,
    share: usize,
    /// Members that are to have one more than the share.
    extra: usize,
}

pub(super) fn assign(group: &GroupSpec<'_>) -> Vec<Arc<Partitions>> {
    let order = members_in_order(group);
    let topics = order
        .first()
        .map(|&first| group.members[first].topics.to_vec());
    let topics = topics.unwrap_or_default();
    if topics.is_empty() {
        return vec![Arc::default(); group.members.len()];
    }
    let mut builder = Builder::new(group, topics);
    builder.revoke(&order);
    builder.fill();
    builder.targets
}

impl<'a> Builder<'a> {
    fn new(group: &'a GroupSpec<'a>, topics: Vec<Uuid>) -> Builder<'a> {
        let capacity = java::capacity_for_copy(topics.len());
        let topics = java::in_order(topics, capacity, |id| java::uuid_hash(*id));
        let mut free = Vec::new();
        let mut total = 0;
        for &topic in &topics {
            let partitions = (group.partitions)(topic);
            total += usize::try_from(partitions).unwrap_or(0);
            let unassigned = (0..partitions).filter(|&p| !(group.is_assigned)(topic, p));
            free.extend(unassigned.map(|partition| (topic, partition)));
        }
        Builder {
            group,
            topics: topics.into_iter().collect(),
            free,
            unfilled: Vec::new(),
            targets: vec![Arc::default(); group.members.len()],
            share: total / group.members.len(),
            extra: total % group.members.len(),
        }
    }

    fn revoke(&mut self, order: &[usize]) {
        for (turn, &index) in order.iter().enumerate() {
            let mut quota = self.share;
            let mut has_extra = self.extra > 0;
            quota += usize::from(has_extra);
            let target = self.keep(index, &mut quota);
            // Those to come need not all get one more: leave it to one that has it already.
            if quota > 0 && has_extra && order.len() - turn > self.extra {
                quota -= 1;
                has_extra = false;
            }
            if quota > 0 {
                self.unfilled.push((index, quota));
            }
            self.extra -= usize::from(has_extra);
            self.targets[index] = target;
        }
    }

    /// What a member keeps of its old target, as far as the quota goes; the rest is free.
    fn keep(&mut self, index: usize, quota: &mut usize) -> Arc<Partitions> {
        let old = &self.group.members[index].target;
        let topics: Vec<Uuid> = old.keys().copied().collect();
        let topics = java::in_order(topics, java::DEFAULT_CAPACITY, |id| java::uuid_hash(*id));
        let mut kept: Option<Partitions> = None;
        for topic in topics {
            let partitions = &old[&topic];
            if !self.topics.contains(&topic) {
                kept.get_or_insert_with(|| Partitions::clone(old))
                    .remove(&topic);
                continue;
            }
            if partitions.len() <= *quota {
                *quota -= partitions.len();
                continue;
            }
            let in_order = partitions_in_order(partitions);
            let (stay, go) = in_order.split_at(*quota);
            *quota = 0;
            self.free
                .extend(go.iter().map(|&partition| (topic, partition)));
            let kept = kept.get_or_insert_with(|| Partitions::clone(old));
            match stay.is_empty() {
                true => _ = kept.remove(&topic),
                false => _ = kept.insert(topic, stay.iter().copied().collect()),
            }
        }
        kept.map_or_else(|| old.clone(), Arc::new)
    }

    fn fill(&mut self) {
        let mut free = std::mem::take(&mut self.free).into_iter();
        for (index, lacks) in std::mem::take(&mut self.unfilled) {
            let target = Arc::make_mut(&mut self.targets[index]);
            for (topic, partition) in free.by_ref().take(lacks) {
                target.entry(topic).or_default().insert(partition);
            }
        }
    }
}
