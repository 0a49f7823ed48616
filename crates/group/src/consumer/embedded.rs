//! The consumer protocol that is embedded in the classic one: subscriptions and assignments as members exchange them
//! in JoinGroup and SyncGroup. The coordinator reads it where a group has members of both protocols (Kafka's
//! `ConsumerProtocol`).

use std::collections::BTreeSet;

use bytes::Bytes;
use milena_base::Uuid;
use milena_protocol::consumer_group_heartbeat_request::TopicPartitions;
use milena_protocol::consumer_protocol_assignment::TopicPartition;
use milena_protocol::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, Message, Reader, Str,
    encode_versioned,
};

use crate::api::Topics;
use crate::consumer::assignment::{Owned, Partitions};

/// The newest version; what is newer only appends.
const VERSION_MAX: i16 = 3;

/// Why bytes that a member brought are of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    Malformed,
    /// What the assignor of the members keeps in the assignment would be lost.
    CustomAssignor,
}

/// What a member subscribes to, and what it has.
pub(crate) struct Subscription {
    pub(crate) topics: BTreeSet<Str>,
    /// Of topics that exist.
    pub(crate) owned: Vec<TopicPartitions>,
    pub(crate) rack_id: Option<Str>,
}

impl Subscription {
    /// Copies what it keeps.
    pub(crate) fn read(metadata: &Bytes, topics: &dyn Topics) -> Result<Subscription, Unusable> {
        let read: ConsumerProtocolSubscription = read(metadata)?;
        let owned = read.owned_partitions.into_iter().filter_map(|owned| {
            Some(TopicPartitions {
                topic_id: topics.id(&owned.topic)?,
                partitions: owned.partitions,
            })
        });
        Ok(Subscription {
            topics: read.topics.iter().map(Str::detached).collect(),
            owned: owned.collect(),
            rack_id: read.rack_id.map(|rack| rack.detached()),
        })
    }
}

/// The partitions of topics that exist in an assignment; none in one that was never made.
pub(crate) fn read_assignment(
    assignment: &Bytes,
    topics: &dyn Topics,
) -> Result<Partitions, Unusable> {
    let mut partitions = Partitions::new();
    if assignment.is_empty() {
        return Ok(partitions);
    }
    let read: ConsumerProtocolAssignment = read(assignment)?;
    if read.user_data.is_some_and(|data| !data.is_empty()) {
        return Err(Unusable::CustomAssignor);
    }
    for assigned in read.assigned_partitions {
        if let Some(id) = topics.id(&assigned.topic)
            && !assigned.partitions.is_empty()
        {
            let set = partitions.entry(id).or_default();
            set.extend(assigned.partitions);
        }
    }
    Ok(partitions)
}

/// An assignment in the version of the subscription that it answers. Topics that are gone are left out.
pub(crate) fn write_assignment(
    partitions: impl Iterator<Item = (Uuid, Vec<i32>)>,
    subscription: &Bytes,
    topics: &dyn Topics,
) -> Result<Bytes, Unusable> {
    let version = version(subscription)?;
    let named = partitions.filter_map(|(id, partitions)| {
        Some(TopicPartition {
            topic: topics.name(id)?,
            partitions,
        })
    });
    let assignment = ConsumerProtocolAssignment {
        assigned_partitions: named.collect(),
        user_data: None,
    };
    encode_versioned(&assignment, version).map_err(|_| Unusable::Malformed)
}

/// What a member has, for [`write_assignment`].
pub(crate) fn of_owned(owned: &Owned) -> impl Iterator<Item = (Uuid, Vec<i32>)> + '_ {
    let topics = owned.iter();
    topics.map(|(id, partitions)| (*id, partitions.keys().copied().collect()))
}

/// What a member is to have, for [`write_assignment`].
pub(crate) fn of_target(target: &Partitions) -> impl Iterator<Item = (Uuid, Vec<i32>)> + '_ {
    let topics = target.iter();
    topics.map(|(id, partitions)| (*id, partitions.iter().copied().collect()))
}

fn read<M: Message>(bytes: &Bytes) -> Result<M, Unusable> {
    let version = version(bytes)?;
    let mut r = Reader::new(bytes.slice(2..));
    M::decode(&mut r, version).map_err(|_| Unusable::Malformed)
}

fn version(bytes: &Bytes) -> Result<i16, Unusable> {
    let version = Reader::new(bytes.clone()).i16();
    match version {
        Ok(version) if version >= 0 => Ok(version.min(VERSION_MAX)),
        _ => Err(Unusable::Malformed),
    }
}
