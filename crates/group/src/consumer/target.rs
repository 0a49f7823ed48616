//! A new target assignment: what the assignor says, as records of what changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use milena_base::{Now, Uuid};
use milena_protocol::{ConsumerGroupTargetAssignmentMetadataValue, Str};

use crate::api::Topics;
use crate::consumer::assignment::Partitions;
use crate::consumer::assignor::{Assignor, GroupSpec, MemberSpec, java};
use crate::consumer::group::{ConsumerGroup, Counts, Subscriptions};
use crate::consumer::member::ConsumerMember;
use crate::record::{ConsumerRecord, GroupRecord};

/// Whether all members subscribe to the same: by names alone, or by one regular expression alone.
pub(crate) fn is_homogeneous(regexes: &Counts, topics: &Subscriptions, members: usize) -> bool {
    match regexes.values().next() {
        None => topics.values().all(|topic| topic.names == members),
        Some(&users) => {
            let by_it = |regexes, names| regexes == 1 && names == 0;
            users == members && topics.values().all(|t| by_it(t.regexes, t.names))
        }
    }
}

/// What the assignment is for.
pub(crate) struct Targeting<'a> {
    pub(crate) group: &'a ConsumerGroup,
    pub(crate) topics: &'a dyn Topics,
    pub(crate) epoch: i32,
    pub(crate) homogeneous: bool,
    pub(crate) assignor: Assignor,
    pub(crate) now: Now,
}

/// The group's members with one that changes.
struct Members<'a> {
    /// In Kafka's order; one that is new comes last.
    all: Vec<&'a ConsumerMember>,
    /// Its target until now.
    target: Option<&'a Arc<Partitions>>,
}

impl Targeting<'_> {
    /// Appends the records; the target of the member that is new or changed.
    pub(crate) fn assign(
        &self,
        member: &ConsumerMember,
        records: &mut Vec<GroupRecord>,
    ) -> Arc<Partitions> {
        let members = self.members_with(member);
        let mut ids = Ids::new(self.topics);
        let specs: Vec<MemberSpec> = members
            .all
            .iter()
            .map(|of| MemberSpec {
                id: of.id.clone(),
                instance_id: of.instance_id.clone(),
                topics: ids.of(self.group.topics_of(of)),
                target: self
                    .old_target(&members, of, member)
                    .cloned()
                    .unwrap_or_default(),
            })
            .collect();
        let counts = ids.counts;
        let spec = GroupSpec {
            members: specs,
            homogeneous: self.homogeneous,
            partitions: &|id| counts.get(&id).copied().unwrap_or(0),
            is_assigned: &|id, partition| self.group.is_in_target(id, partition),
        };
        let targets = self.assignor.assign(&spec);
        let mut own = Arc::default();
        let mut targeted: Vec<_> = members.all.iter().zip(targets).collect();
        targeted.sort_by_key(|(of, _)| &of.id);
        for (of, target) in targeted {
            let old = self.old_target(&members, of, member);
            if old.is_none_or(|old| **old != *target) {
                let value = Some(Partitions::clone(&target));
                let record = ConsumerRecord::Target(of.id.clone(), value);
                records.push(self.group.record(record));
            }
            if of.id == member.id {
                own = target;
            }
        }
        let metadata = ConsumerGroupTargetAssignmentMetadataValue {
            assignment_epoch: self.epoch,
            assignment_timestamp: self.now.wall.0,
        };
        let metadata = ConsumerRecord::TargetMetadata(Some(metadata));
        records.push(self.group.record(metadata));
        own
    }

    fn members_with<'a>(&'a self, member: &'a ConsumerMember) -> Members<'a> {
        let group = self.group;
        let instance_id = member.instance_id.as_ref();
        let previous = instance_id.and_then(|id| group.static_members.get(id));
        let gone = previous.filter(|id| **id != member.id);
        let stay = group.in_order().filter(|of| Some(&of.id) != gone);
        let mut all: Vec<&ConsumerMember> = stay
            .map(|of| match of.id == member.id {
                true => member,
                false => &**of,
            })
            .collect();
        if group.member(&member.id).is_none() {
            all.push(member);
        }
        let target = group.targets.get(previous.unwrap_or(&member.id));
        Members { all, target }
    }

    fn old_target<'a>(
        &'a self,
        members: &Members<'a>,
        of: &ConsumerMember,
        changed: &ConsumerMember,
    ) -> Option<&'a Arc<Partitions>> {
        match of.id == changed.id {
            true => members.target,
            false => self.group.targets.get(&of.id),
        }
    }
}

/// A set of names, and the ids of those that exist.
type Resolved = (Arc<BTreeSet<Str>>, Arc<[Uuid]>);

/// Topic ids for sets of names. Most members have the same set.
struct Ids<'a> {
    topics: &'a dyn Topics,
    last: Option<Resolved>,
    counts: BTreeMap<Uuid, i32>,
}

impl<'a> Ids<'a> {
    fn new(topics: &'a dyn Topics) -> Ids<'a> {
        Ids {
            topics,
            last: None,
            counts: BTreeMap::new(),
        }
    }

    fn of(&mut self, names: Arc<BTreeSet<Str>>) -> Arc<[Uuid]> {
        if let Some((last, ids)) = &self.last
            && (Arc::ptr_eq(last, &names) || *last == names)
        {
            return ids.clone();
        }
        let sorted: Vec<&Str> = names.iter().collect();
        let capacity = java::capacity_for_copy(sorted.len());
        let ordered = java::in_order(sorted, capacity, |name| java::string_hash(name));
        let mut ids = Vec::with_capacity(ordered.len());
        for name in ordered {
            if let (Some(id), Some(count)) = (self.topics.id(name), self.topics.partitions(name)) {
                self.counts.insert(id, count);
                ids.push(id);
            }
        }
        let ids: Arc<[Uuid]> = ids.into();
        self.last = Some((names, ids.clone()));
        ids
    }
}
