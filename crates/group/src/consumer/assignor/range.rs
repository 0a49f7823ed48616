//! `range`: for each topic the members that subscribe to it, in the order of their names, get one run of partitions
//! each. Static members come first, by their instance ids, so that they get the same after a restart.

use std::collections::BTreeMap;
use std::sync::Arc;

use milena_base::Uuid;

use crate::consumer::assignment::Partitions;
use crate::consumer::assignor::GroupSpec;

/// What of a topic is still to be given away.
struct Topic {
    partitions: i32,
    /// Members that have not had their turn.
    quota: i32,
    extra: i32,
    next: i32,
}

pub(super) fn assign(group: &GroupSpec<'_>) -> Vec<Arc<Partitions>> {
    let mut order: Vec<usize> = (0..group.members.len()).collect();
    order.sort_by(|&a, &b| {
        let (a, b) = (&group.members[a], &group.members[b]);
        match (&a.instance_id, &b.instance_id) {
            (Some(a), Some(b)) => utf16(a).cmp(utf16(b)),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (None, None) => utf16(&a.id).cmp(utf16(&b.id)),
        }
    });
    let mut topics = topics(group);
    let mut targets = vec![Arc::default(); group.members.len()];
    for index in order {
        let mut target = Partitions::new();
        for id in group.members[index].topics.iter() {
            if let Some(run) = topics.get_mut(id).and_then(Topic::next_run) {
                target.insert(*id, run.collect());
            }
        }
        targets[index] = Arc::new(target);
    }
    targets
}

fn topics(group: &GroupSpec<'_>) -> BTreeMap<Uuid, Topic> {
    let mut subscribers: BTreeMap<Uuid, i32> = BTreeMap::new();
    for member in &group.members {
        // Where the group is said to be of one kind, Kafka asks its first member alone.
        for topic in member.topics.iter() {
            *subscribers.entry(*topic).or_default() += 1;
        }
    }
    let topic = |(id, members): (Uuid, i32)| {
        let partitions = (group.partitions)(id);
        let topic = Topic {
            partitions,
            quota: partitions / members,
            extra: partitions % members,
            next: 0,
        };
        (id, topic)
    };
    subscribers.into_iter().map(topic).collect()
}

impl Topic {
    fn next_run(&mut self) -> Option<std::ops::Range<i32>> {
        let more = i32::from(self.extra > 0);
        self.extra -= more;
        let run = self.next..(self.next + self.quota + more).min(self.partitions);
        self.next = run.end;
        Some(run).filter(|run| !run.is_empty())
    }
}

/// Java compares strings by UTF-16 units.
fn utf16(text: &str) -> impl Iterator<Item = u16> + '_ {
    text.encode_utf16()
}
