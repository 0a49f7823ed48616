//! Server-side assignors: from who subscribes to what, and who had what, to who is to have what. Pure functions that
//! give what Kafka 4.4's classes of the same names give for the same group.

pub(crate) mod java;
mod mixed;
mod range;
mod uniform;

use std::sync::Arc;

use milena_base::Uuid;
use milena_protocol::Str;

use crate::consumer::assignment::Partitions;

/// The assignors of Kafka 4.4 (`group.consumer.assignors`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assignor {
    Uniform,
    Range,
}

impl Assignor {
    /// By its name.
    pub fn named(name: &str) -> Option<Assignor> {
        match name {
            "uniform" => Some(Assignor::Uniform),
            "range" => Some(Assignor::Range),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Assignor::Uniform => "uniform",
            Assignor::Range => "range",
        }
    }

    /// The new target of every member, in the order of the members.
    pub fn assign(self, group: &GroupSpec<'_>) -> Vec<Arc<Partitions>> {
        match self {
            Assignor::Range => range::assign(group),
            Assignor::Uniform if group.homogeneous => uniform::assign(group),
            Assignor::Uniform => mixed::assign(group),
        }
    }
}

/// A group as an assignor sees it.
pub struct GroupSpec<'a> {
    /// In the order in which Kafka's group lists them.
    pub members: Vec<MemberSpec>,
    /// Whether all members subscribe to the same topics.
    pub homogeneous: bool,
    /// The number of partitions of a topic that exists.
    pub partitions: &'a dyn Fn(Uuid) -> i32,
    /// Whether a partition is in anybody's target now.
    pub is_assigned: &'a dyn Fn(Uuid, i32) -> bool,
}

/// A member as an assignor sees it.
#[derive(Clone, Debug)]
pub struct MemberSpec {
    pub id: Str,
    pub instance_id: Option<Str>,
    /// Topics that exist, in the order in which Kafka goes through the names.
    pub topics: Arc<[Uuid]>,
    /// Its target until now.
    pub target: Arc<Partitions>,
}

/// Indices of the members in the order in which Kafka goes through them.
fn members_in_order(group: &GroupSpec<'_>) -> Vec<usize> {
    let indices = (0..group.members.len()).collect();
    java::in_order(indices, java::DEFAULT_CAPACITY, |&index| {
        java::string_hash(&group.members[index].id)
    })
}

/// A topic's partitions as they come out of a set that was read from a record.
fn partitions_in_order(partitions: &std::collections::BTreeSet<i32>) -> Vec<i32> {
    let keys: Vec<i32> = partitions.iter().copied().collect();
    let capacity = java::capacity_for_copy(keys.len());
    java::in_order(keys, capacity, |&partition| partition)
}
