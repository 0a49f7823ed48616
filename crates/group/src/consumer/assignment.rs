//! Sets of partitions by topic: what a member is to have (`Partitions`) and what it has, since which epoch (`Owned`).

use std::collections::{BTreeMap, BTreeSet};

use milena_base::Uuid;
use milena_protocol::{
    consumer_group_current_member_assignment_value as current, consumer_group_describe_response,
    consumer_group_heartbeat_request, consumer_group_heartbeat_response,
    consumer_group_target_assignment_member_value as target,
};

use crate::api::Topics;

/// Partitions by topic id. Invariant: no topic without partitions.
pub type Partitions = BTreeMap<Uuid, BTreeSet<i32>>;

/// Partitions by topic id, each with the epoch in which the member got it. Invariant: no topic without partitions.
pub type Owned = BTreeMap<Uuid, BTreeMap<i32, i32>>;

/// A target assignment as it is recorded.
pub(crate) fn to_target(partitions: &Partitions) -> Vec<target::TopicPartition> {
    let topic = |(&topic_id, partitions): (&Uuid, &BTreeSet<i32>)| target::TopicPartition {
        topic_id,
        partitions: partitions.iter().copied().collect(),
    };
    partitions.iter().map(topic).collect()
}

pub(crate) fn from_target(topics: Vec<target::TopicPartition>) -> Partitions {
    let mut partitions = Partitions::new();
    for topic in topics {
        if !topic.partitions.is_empty() {
            let set = partitions.entry(topic.topic_id).or_default();
            set.extend(topic.partitions);
        }
    }
    partitions
}

/// What a member has, as it is recorded.
pub(crate) fn to_current(owned: &Owned) -> Vec<current::TopicPartitions> {
    let topic = |(&topic_id, epochs): (&Uuid, &BTreeMap<i32, i32>)| current::TopicPartitions {
        topic_id,
        partitions: epochs.keys().copied().collect(),
        assignment_epochs: Some(epochs.values().copied().collect()),
    };
    owned.iter().map(topic).collect()
}

/// Records from before epochs were kept count from the member's epoch (KIP-1251).
pub(crate) fn from_current(topics: Vec<current::TopicPartitions>, member_epoch: i32) -> Owned {
    let default = member_epoch.max(0);
    let mut owned = Owned::new();
    for topic in topics {
        let epochs = topic.assignment_epochs.unwrap_or_default();
        let whole = epochs.len() == topic.partitions.len();
        let epoch = |i: usize| match whole {
            true => epochs[i],
            false => default,
        };
        let partitions = topic.partitions.iter().enumerate();
        let partitions: BTreeMap<i32, i32> = partitions.map(|(i, &p)| (p, epoch(i))).collect();
        if !partitions.is_empty() {
            owned.entry(topic.topic_id).or_default().extend(partitions);
        }
    }
    owned
}

/// What a heartbeat's answer tells the member to have.
pub(crate) fn to_heartbeat(owned: &Owned) -> consumer_group_heartbeat_response::Assignment {
    let topic = |(&topic_id, epochs): (&Uuid, &BTreeMap<i32, i32>)| {
        consumer_group_heartbeat_response::TopicPartitions {
            topic_id,
            partitions: epochs.keys().copied().collect(),
        }
    };
    consumer_group_heartbeat_response::Assignment {
        topic_partitions: owned.iter().map(topic).collect(),
    }
}

/// For ConsumerGroupDescribe: topics that are gone are left out.
pub(crate) fn describe<'a>(
    topics: impl Iterator<Item = (Uuid, Vec<i32>)> + 'a,
    names: &dyn Topics,
) -> consumer_group_describe_response::Assignment {
    let known = topics.filter_map(|(topic_id, partitions)| {
        Some(consumer_group_describe_response::TopicPartitions {
            topic_id,
            topic_name: names.name(topic_id)?,
            partitions,
        })
    });
    consumer_group_describe_response::Assignment {
        topic_partitions: known.collect(),
    }
}

/// What a member says that it has.
pub(crate) type Reported = [consumer_group_heartbeat_request::TopicPartitions];

/// Whether a member that says it has `reported` has any of `owned`. One that does not say may have all.
pub(crate) fn overlaps(reported: Option<&Reported>, owned: &Owned) -> bool {
    let Some(reported) = reported else {
        return true;
    };
    reported.iter().any(|topic| {
        let owned = owned.get(&topic.topic_id);
        owned.is_some_and(|owned| topic.partitions.iter().any(|p| owned.contains_key(p)))
    })
}

/// Whether all that a member says it has is in `owned`. One that does not say may have anything.
pub(crate) fn is_within(reported: Option<&Reported>, owned: &Owned) -> bool {
    let Some(reported) = reported else {
        return false;
    };
    reported.iter().all(|topic| {
        let owned = owned.get(&topic.topic_id);
        owned.is_some_and(|owned| topic.partitions.iter().all(|p| owned.contains_key(p)))
    })
}
