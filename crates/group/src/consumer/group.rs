//! The state of a consumer group. It changes by its records alone; the maps are persistent, so that a committed state
//! can be kept beside the newest one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::OrdMap;
use milena_base::Uuid;
use milena_protocol::Str;

use crate::consumer::assignment::{Owned, Partitions};
use crate::consumer::assignor::java;
use crate::consumer::member::ConsumerMember;
use crate::record::ConsumerRecord;

/// Where a consumer group stands. A group that is gone has no state here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsumerState {
    Empty,
    /// A new target assignment is due.
    Assigning,
    /// Members are on their way to the target assignment.
    Reconciling,
    Stable,
}

impl ConsumerState {
    /// As in ListGroups and ConsumerGroupDescribe.
    pub fn name(self) -> &'static str {
        match self {
            ConsumerState::Empty => "Empty",
            ConsumerState::Assigning => "Assigning",
            ConsumerState::Reconciling => "Reconciling",
            ConsumerState::Stable => "Stable",
        }
    }
}

/// Who subscribes to a topic: members by its name, and regular expressions that match it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subscribers {
    pub names: usize,
    pub regexes: usize,
}

/// The topics that a regular expression stood for when it was last looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    pub topics: Arc<BTreeSet<Str>>,
    /// Of the metadata: the offset of the image.
    pub version: i64,
    /// Milliseconds since 1970.
    pub timestamp: i64,
}

/// The topics that are subscribed to. Invariant: none with nobody.
pub(crate) type Subscriptions = OrdMap<Str, Subscribers>;

/// How often each name is used. Invariant: none that is not.
pub(crate) type Counts = OrdMap<Str, usize>;

/// A consumer group (KIP-848). The fields after `targets` are sums over members and targets, kept as they change:
/// a heartbeat must not look at all members.
#[derive(Clone, Debug)]
pub struct ConsumerGroup {
    pub(crate) id: Str,
    pub(crate) epoch: i32,
    pub(crate) metadata_hash: i64,
    /// −1: the target assignment is gone, and the group about to go.
    pub(crate) assignment_epoch: i32,
    /// When the target assignment was computed, in milliseconds since 1970; 0 means that the next is not to wait.
    pub(crate) assignment_timestamp: i64,
    pub(crate) members: OrdMap<Str, Arc<ConsumerMember>>,
    pub(crate) targets: OrdMap<Str, Arc<Partitions>>,
    pub(crate) resolved: OrdMap<Str, Arc<Resolved>>,
    /// A record of a release before 4.1, to be ended.
    pub(crate) has_partition_metadata: bool,
    /// Member ids by instance id.
    pub(crate) static_members: OrdMap<Str, Str>,
    pub(crate) subscriptions: Subscriptions,
    /// Members by the regular expression that they subscribe to.
    pub(crate) regexes: Counts,
    pub(crate) assignors: Counts,
    /// The members in Kafka's order.
    order: Arc<java::Table>,
    pub(crate) classic_members: usize,
    pub(crate) classic_protocols: Counts,
    target_owners: OrdMap<(Uuid, i32), Str>,
    /// The epoch of the member that has a partition.
    partition_epochs: OrdMap<(Uuid, i32), i32>,
}

impl ConsumerGroup {
    pub(crate) fn new(id: Str) -> ConsumerGroup {
        ConsumerGroup {
            id,
            epoch: 1,
            metadata_hash: 0,
            assignment_epoch: 1,
            assignment_timestamp: 0,
            members: OrdMap::new(),
            targets: OrdMap::new(),
            resolved: OrdMap::new(),
            has_partition_metadata: false,
            static_members: OrdMap::new(),
            subscriptions: OrdMap::new(),
            regexes: OrdMap::new(),
            assignors: OrdMap::new(),
            order: Arc::default(),
            classic_members: 0,
            classic_protocols: OrdMap::new(),
            target_owners: OrdMap::new(),
            partition_epochs: OrdMap::new(),
        }
    }

    // Questions.

    pub fn epoch(&self) -> i32 {
        self.epoch
    }

    pub fn assignment_epoch(&self) -> i32 {
        self.assignment_epoch
    }

    /// The members, by id.
    pub fn members(&self) -> impl Iterator<Item = &ConsumerMember> {
        self.members.values().map(|member| &**member)
    }

    pub fn member(&self, id: &str) -> Option<&Arc<ConsumerMember>> {
        self.members.get(id)
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(crate) fn static_member(&self, instance_id: &str) -> Option<&Arc<ConsumerMember>> {
        self.members.get(self.static_members.get(instance_id)?)
    }

    /// Looks at all members where the group is not empty and has its target assignment.
    pub fn state(&self) -> ConsumerState {
        if self.members.is_empty() {
            return ConsumerState::Empty;
        }
        if self.epoch > self.assignment_epoch {
            return ConsumerState::Assigning;
        }
        let target = self.assignment_epoch;
        match self.members().all(|member| member.is_reconciled_to(target)) {
            true => ConsumerState::Stable,
            false => ConsumerState::Reconciling,
        }
    }

    pub(crate) fn is_subscribed_to(&self, topic: &Str) -> bool {
        self.subscriptions.contains_key(topic)
    }

    /// The target of a member, or of the one whose place as a static member it takes.
    pub(crate) fn target_of(&self, member_id: &Str, instance_id: Option<&Str>) -> Arc<Partitions> {
        let id = match instance_id {
            None => Some(member_id),
            Some(instance_id) => self.static_members.get(instance_id),
        };
        let target = id.and_then(|id| self.targets.get(id));
        target.cloned().unwrap_or_default()
    }

    pub(crate) fn is_in_target(&self, topic: Uuid, partition: i32) -> bool {
        self.target_owners.contains_key(&(topic, partition))
    }

    /// The epoch of the member that has a partition.
    pub(crate) fn partition_epoch(&self, topic: Uuid, partition: i32) -> Option<i32> {
        self.partition_epochs.get(&(topic, partition)).copied()
    }

    /// Everything that a member subscribes to, as far as it is resolved.
    pub(crate) fn topics_of(&self, member: &ConsumerMember) -> Arc<BTreeSet<Str>> {
        let resolved = member
            .subscribed_regex()
            .and_then(|regex| self.resolved.get(regex));
        match resolved {
            Some(resolved) if member.topics.is_empty() => resolved.topics.clone(),
            Some(resolved) if !resolved.topics.is_empty() => {
                Arc::new(member.topics.union(&resolved.topics).cloned().collect())
            }
            _ => member.topics.clone(),
        }
    }

    /// The members in the order in which Kafka's group lists them: it decides who keeps what.
    pub(crate) fn in_order(&self) -> impl Iterator<Item = &Arc<ConsumerMember>> {
        self.order.iter().filter_map(|id| self.members.get(id))
    }

    /// The assignor that most members ask for; of equals the first in Kafka's table.
    pub(crate) fn preferred_assignor(&self) -> Option<Str> {
        preferred(&self.assignors_in_order())
    }

    /// The same with a member changed. Kafka copies the counts, takes the old choice out and puts the new one in, so
    /// that of equals one that was not there, or was taken out, is the first.
    pub(crate) fn preferred_assignor_with(
        &self,
        old: &ConsumerMember,
        new: &ConsumerMember,
    ) -> Option<Str> {
        let mut counts = self.assignors_in_order();
        if let Some(old) = &old.assignor
            && let Some(at) = counts.iter().position(|(name, _)| name == old)
        {
            counts[at].1 -= 1;
            counts.retain(|(_, count)| *count > 0);
        }
        if let Some(new) = &new.assignor {
            match counts.iter_mut().find(|(name, _)| name == new) {
                Some((_, count)) => *count += 1,
                None => counts.insert(0, (new.clone(), 1)),
            }
        }
        preferred(&counts)
    }

    fn assignors_in_order(&self) -> Vec<(Str, usize)> {
        let mut table = java::Table::default();
        self.assignors.keys().for_each(|name| table.put(name));
        let counted = table
            .iter()
            .map(|name| (name.clone(), self.assignors.get(name)));
        counted
            .map(|(name, count)| (name, count.copied().unwrap_or(0)))
            .collect()
    }

    // Sums as they would be with a member changed. `None`: no such member.

    pub(crate) fn assignors_with(
        &self,
        old: Option<&ConsumerMember>,
        new: Option<&ConsumerMember>,
    ) -> Counts {
        let mut counts = self.assignors.clone();
        count(&mut counts, old.and_then(|m| m.assignor.as_ref()), false);
        count(&mut counts, new.and_then(|m| m.assignor.as_ref()), true);
        counts
    }

    pub(crate) fn regexes_with(
        &self,
        old: Option<&ConsumerMember>,
        new: Option<&ConsumerMember>,
    ) -> Counts {
        let mut counts = self.regexes.clone();
        count(
            &mut counts,
            old.and_then(ConsumerMember::subscribed_regex),
            false,
        );
        count(
            &mut counts,
            new.and_then(ConsumerMember::subscribed_regex),
            true,
        );
        counts
    }

    /// A regular expression that nobody uses any more takes its topics with it.
    pub(crate) fn subscriptions_with(
        &self,
        old: &ConsumerMember,
        new: &ConsumerMember,
    ) -> Subscriptions {
        let mut topics = self.subscriptions.clone();
        if old.topics != new.topics {
            count_names(&mut topics, &old.topics, false);
            count_names(&mut topics, &new.topics, true);
        }
        if let Some(regex) = old.subscribed_regex()
            && new.subscribed_regex() != Some(regex)
            && self.regexes.get(regex) == Some(&1)
            && let Some(resolved) = self.resolved.get(regex)
        {
            count_regex(&mut topics, &resolved.topics, false);
        }
        topics
    }

    pub(crate) fn subscriptions_without(
        &self,
        members: &[Arc<ConsumerMember>],
        regexes: &BTreeSet<Str>,
    ) -> Subscriptions {
        let mut topics = self.subscriptions.clone();
        for member in members {
            count_names(&mut topics, &member.topics, false);
        }
        for resolved in regexes.iter().filter_map(|regex| self.resolved.get(regex)) {
            count_regex(&mut topics, &resolved.topics, false);
        }
        topics
    }

    /// Regular expressions that go when these members do.
    pub(crate) fn regexes_only_of(&self, members: &[Arc<ConsumerMember>]) -> BTreeSet<Str> {
        let mut counts: BTreeMap<&Str, usize> = BTreeMap::new();
        for regex in members
            .iter()
            .filter_map(|member| member.subscribed_regex())
        {
            *counts.entry(regex).or_default() += 1;
        }
        let all = |(regex, count): &(&Str, usize)| self.regexes.get(*regex) == Some(count);
        let gone = counts.into_iter().filter(all);
        gone.map(|(regex, _)| regex.clone()).collect()
    }

    // Records.

    /// Takes a record in; false when the group is gone.
    pub(crate) fn replay(&mut self, record: ConsumerRecord) -> bool {
        match record {
            ConsumerRecord::Metadata(None) => return false,
            ConsumerRecord::Metadata(Some(value)) => {
                self.epoch = value.epoch;
                self.metadata_hash = value.metadata_hash;
            }
            ConsumerRecord::PartitionMetadata(value) => {
                self.has_partition_metadata = value.is_some();
            }
            ConsumerRecord::Member(id, Some(value)) => {
                let member = self.member_or_new(&id).with_metadata(*value);
                self.put_member(member);
            }
            ConsumerRecord::Member(id, None) => self.remove_member(&id),
            ConsumerRecord::Current(id, Some(value)) => {
                let member = self.member_or_new(&id).with_current(*value);
                self.put_member(member);
            }
            ConsumerRecord::Current(id, None) => {
                if let Some(member) = self.members.get(&id) {
                    let member = ConsumerMember::clone(member).without_current();
                    self.put_member(member);
                }
            }
            ConsumerRecord::TargetMetadata(value) => {
                let value = value.map(|value| (value.assignment_epoch, value.assignment_timestamp));
                (self.assignment_epoch, self.assignment_timestamp) = value.unwrap_or((-1, 0));
            }
            ConsumerRecord::Target(id, value) => self.put_target(id, value),
            ConsumerRecord::Regex(regex, value) => self.put_resolved(regex, value),
        }
        true
    }

    fn member_or_new(&self, id: &Str) -> ConsumerMember {
        match self.members.get(id) {
            Some(member) => ConsumerMember::clone(member),
            None => ConsumerMember::new(id.clone()),
        }
    }

    fn put_member(&mut self, mut member: ConsumerMember) {
        let old = self.members.get(&member.id).cloned();
        self.share_topics(&mut member, old.as_deref());
        self.count_member(old.as_deref(), Some(&member));
        if let Some(old) = &old {
            self.give_back(&old.assigned, old.epoch);
            self.give_back(&old.pending_revocation, old.epoch);
            if let Some(instance_id) = &old.instance_id {
                self.static_members.remove(instance_id);
            }
        }
        self.take(&member.assigned, member.epoch);
        self.take(&member.pending_revocation, member.epoch);
        if let Some(instance_id) = &member.instance_id {
            self.static_members
                .insert(instance_id.clone(), member.id.clone());
        }
        if old.is_none() || self.order.is_full() {
            Arc::make_mut(&mut self.order).put(&member.id);
        }
        self.members.insert(member.id.clone(), Arc::new(member));
    }

    /// Members mostly subscribe to the same topics: equal sets are kept once.
    fn share_topics(&self, member: &mut ConsumerMember, old: Option<&ConsumerMember>) {
        let some = self.members.values().next().map(|some| &some.topics);
        let known = old.map(|old| &old.topics).into_iter().chain(some);
        if let Some(same) = known.into_iter().find(|topics| **topics == member.topics) {
            member.topics = same.clone();
        }
    }

    fn remove_member(&mut self, id: &Str) {
        let Some(old) = self.members.remove(id) else {
            return;
        };
        Arc::make_mut(&mut self.order).remove(id);
        self.count_member(Some(&old), None);
        self.give_back(&old.assigned, old.epoch);
        self.give_back(&old.pending_revocation, old.epoch);
        if let Some(instance_id) = &old.instance_id {
            self.static_members.remove(instance_id);
        }
    }

    fn count_member(&mut self, old: Option<&ConsumerMember>, new: Option<&ConsumerMember>) {
        self.assignors = self.assignors_with(old, new);
        self.regexes = self.regexes_with(old, new);
        if old.map(|old| &old.topics) != new.map(|new| &new.topics) {
            if let Some(old) = old {
                count_names(&mut self.subscriptions, &old.topics, false);
            }
            if let Some(new) = new {
                count_names(&mut self.subscriptions, &new.topics, true);
            }
        }
        for (member, present) in [(old, false), (new, true)] {
            let Some(classic) = member.and_then(|member| member.classic.as_ref()) else {
                continue;
            };
            self.classic_members = match present {
                true => self.classic_members + 1,
                false => self.classic_members.saturating_sub(1),
            };
            let names: BTreeSet<&Str> = classic
                .supported_protocols
                .iter()
                .map(|p| &p.name)
                .collect();
            for name in names {
                count(&mut self.classic_protocols, Some(name), present);
            }
        }
    }

    /// A partition is free only if nobody took it since.
    fn give_back(&mut self, owned: &Owned, epoch: i32) {
        for (&topic, partitions) in owned {
            for &partition in partitions.keys() {
                if self.partition_epochs.get(&(topic, partition)) == Some(&epoch) {
                    self.partition_epochs.remove(&(topic, partition));
                }
            }
        }
    }

    fn take(&mut self, owned: &Owned, epoch: i32) {
        for (&topic, partitions) in owned {
            for &partition in partitions.keys() {
                self.partition_epochs.insert((topic, partition), epoch);
            }
        }
    }

    fn put_target(&mut self, id: Str, value: Option<Partitions>) {
        let old = match &value {
            Some(new) => self.targets.insert(id.clone(), Arc::new(new.clone())),
            None => self.targets.remove(&id),
        };
        let old = old.unwrap_or_default();
        let new = value.unwrap_or_default();
        let has = |set: &Partitions, topic, partition: &i32| {
            let of: Option<&BTreeSet<i32>> = set.get(topic);
            of.is_some_and(|partitions| partitions.contains(partition))
        };
        for (topic, partitions) in old.iter() {
            for partition in partitions.iter().filter(|p| !has(&new, topic, p)) {
                let key = (*topic, *partition);
                if self.target_owners.get(&key) == Some(&id) {
                    self.target_owners.remove(&key);
                }
            }
        }
        for (topic, partitions) in &new {
            for partition in partitions.iter().filter(|p| !has(&old, topic, p)) {
                self.target_owners.insert((*topic, *partition), id.clone());
            }
        }
    }

    fn put_resolved(&mut self, regex: Str, value: Option<Resolved>) {
        if let Some(old) = self.resolved.remove(&regex) {
            count_regex(&mut self.subscriptions, &old.topics, false);
        }
        if let Some(new) = value {
            count_regex(&mut self.subscriptions, &new.topics, true);
            self.resolved.insert(regex, Arc::new(new));
        }
    }

    /// Panics where an invariant is broken; for tests.
    #[doc(hidden)]
    pub fn check(&self) {
        let mut again = ConsumerGroup::new(self.id.clone());
        for member in self.members.values() {
            again.put_member(ConsumerMember::clone(member));
        }
        for (id, target) in &self.targets {
            again.put_target(id.clone(), Some(Partitions::clone(target)));
        }
        for (regex, resolved) in &self.resolved {
            again.put_resolved(regex.clone(), Some(Resolved::clone(resolved)));
        }
        assert_eq!(again.static_members, self.static_members);
        assert_eq!(again.subscriptions, self.subscriptions);
        assert_eq!(again.regexes, self.regexes);
        assert_eq!(again.assignors, self.assignors);
        let ordered: BTreeSet<&Str> = self.order.iter().collect();
        assert!(ordered.into_iter().eq(self.members.keys()));
        assert_eq!(self.order.iter().count(), self.members.len());
        assert_eq!(again.classic_members, self.classic_members);
        assert_eq!(again.classic_protocols, self.classic_protocols);
        assert_eq!(again.partition_epochs, self.partition_epochs);
        let mut owners: BTreeMap<(Uuid, i32), &Str> = BTreeMap::new();
        for member in self.members.values() {
            for owned in [&member.assigned, &member.pending_revocation] {
                for (topic, partitions) in owned.iter() {
                    for partition in partitions.keys() {
                        let other = owners.insert((*topic, *partition), &member.id);
                        assert_eq!(other, None, "{topic}-{partition} has one owner");
                    }
                }
            }
        }
        let assigned: usize = self
            .targets
            .values()
            .flat_map(|t| t.values())
            .map(BTreeSet::len)
            .sum();
        assert_eq!(
            assigned,
            self.target_owners.len(),
            "a partition is in one target"
        );
    }
}

/// The first of those with the highest count.
fn preferred(counts: &[(Str, usize)]) -> Option<Str> {
    let most = counts.iter().map(|(_, count)| *count).max()?;
    let first = counts.iter().find(|(_, count)| *count == most);
    first.map(|(name, _)| name.clone())
}

fn count(counts: &mut Counts, name: Option<&Str>, present: bool) {
    let Some(name) = name else {
        return;
    };
    let now = counts.get(name).copied().unwrap_or(0);
    let now = match present {
        true => now + 1,
        false => now.saturating_sub(1),
    };
    match now {
        0 => counts.remove(name),
        now => counts.insert(name.clone(), now),
    };
}

pub(crate) fn count_names(topics: &mut Subscriptions, names: &BTreeSet<Str>, present: bool) {
    for name in names {
        change(topics, name, |subscribers| {
            subscribers.names = match present {
                true => subscribers.names + 1,
                false => subscribers.names.saturating_sub(1),
            }
        });
    }
}

pub(crate) fn count_regex(topics: &mut Subscriptions, names: &BTreeSet<Str>, present: bool) {
    for name in names {
        change(topics, name, |subscribers| {
            subscribers.regexes = match present {
                true => subscribers.regexes + 1,
                false => subscribers.regexes.saturating_sub(1),
            }
        });
    }
}

fn change(topics: &mut Subscriptions, name: &Str, change: impl FnOnce(&mut Subscribers)) {
    let mut subscribers = topics.get(name).copied().unwrap_or_default();
    change(&mut subscribers);
    match subscribers == Subscribers::default() {
        true => topics.remove(name),
        false => topics.insert(name.clone(), subscribers),
    };
}
