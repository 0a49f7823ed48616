//! The next step of one member towards the target assignment (Kafka's `CurrentAssignmentBuilder`): first it gives back
//! what it is not to have, then it gets what is free. It moves to the target's epoch as soon as it has nothing left to
//! give back; what others still have comes later.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use milena_base::{ErrorCode, Uuid};

use crate::api::Topics;
use crate::consumer::assignment::{Owned, Partitions, Reported, overlaps};
use crate::consumer::group::ConsumerGroup;
use crate::consumer::member::{ConsumerMember, MemberState};

/// What the step depends on.
pub(crate) struct Reconciling<'a> {
    pub(crate) group: &'a ConsumerGroup,
    pub(crate) topics: &'a dyn Topics,
    pub(crate) target_epoch: i32,
    pub(crate) target: &'a Partitions,
    pub(crate) subscription_changed: bool,
    /// What the member says it has.
    pub(crate) reported: Option<&'a Reported>,
}

impl Reconciling<'_> {
    /// The member after the step; the same where there is nothing to do.
    ///
    /// # Errors
    /// `FENCED_MEMBER_EPOCH` for a member in a state that this release does not know, until it has given up everything.
    pub(crate) fn step(&self, member: &ConsumerMember) -> Result<ConsumerMember, ErrorCode> {
        if !self.subscription_changed && member.is_reconciled_to(self.target_epoch) {
            return Ok(member.clone());
        }
        let waits = match member.state {
            MemberState::Stable => member.epoch == self.target_epoch,
            MemberState::UnrevokedPartitions => overlaps(self.reported, &member.pending_revocation),
            MemberState::UnreleasedPartitions => false,
            MemberState::Unknown => {
                return match self.reported.is_some_and(<[_]>::is_empty) {
                    true => Ok(self.next(member, self.target_epoch)),
                    false => Err(ErrorCode::FencedMemberEpoch),
                };
            }
        };
        Ok(match waits {
            false => self.next(member, member.epoch),
            true if self.subscription_changed => self.drop_unsubscribed(member),
            true => member.clone(),
        })
    }

    fn subscribed(&self, member: &ConsumerMember) -> BTreeSet<Uuid> {
        let names = self.group.topics_of(member);
        names
            .iter()
            .filter_map(|name| self.topics.id(name))
            .collect()
    }

    /// The target stays, but what the member no longer subscribes to is taken away at once.
    fn drop_unsubscribed(&self, member: &ConsumerMember) -> ConsumerMember {
        let subscribed = self.subscribed(member);
        let (kept, dropped): (Owned, Owned) = member
            .assigned
            .iter()
            .map(|(topic, partitions)| (*topic, partitions.clone()))
            .partition(|(topic, _)| subscribed.contains(topic));
        if dropped.is_empty() {
            return member.clone();
        }
        let mut pending = Owned::clone(&member.pending_revocation);
        for (topic, partitions) in dropped {
            pending.entry(topic).or_default().extend(partitions);
        }
        let next = member.clone().at_epoch(member.epoch);
        match overlaps(self.reported, &pending) {
            true => ConsumerMember {
                state: MemberState::UnrevokedPartitions,
                assigned: Arc::new(kept),
                pending_revocation: Arc::new(pending),
                ..next
            },
            false => ConsumerMember {
                assigned: Arc::new(kept),
                ..next
            },
        }
    }

    fn next(&self, member: &ConsumerMember, epoch: i32) -> ConsumerMember {
        let subscribed = self.subscribed(member);
        let empty = BTreeSet::new();
        let mut kept = Owned::new();
        let mut revoked = Owned::new();
        for (topic, partitions) in member.assigned.iter() {
            let target = self
                .target
                .get(topic)
                .filter(|_| subscribed.contains(topic));
            let target = target.unwrap_or(&empty);
            let (stay, go): (BTreeMap<i32, i32>, BTreeMap<i32, i32>) =
                partitions.iter().partition(|(p, _)| target.contains(p));
            put(&mut kept, *topic, stay);
            put(&mut revoked, *topic, go);
        }
        if !revoked.is_empty() && overlaps(self.reported, &revoked) {
            return ConsumerMember {
                state: MemberState::UnrevokedPartitions,
                assigned: Arc::new(kept),
                pending_revocation: Arc::new(revoked),
                ..member.clone().at_epoch(epoch)
            };
        }
        let unreleased = self.take_free(member, &subscribed, &mut kept);
        ConsumerMember {
            state: match unreleased {
                true => MemberState::UnreleasedPartitions,
                false => MemberState::Stable,
            },
            assigned: Arc::new(kept),
            pending_revocation: Arc::default(),
            ..member.clone().at_epoch(self.target_epoch)
        }
    }

    /// Adds what is in the target and free; whether others still have some of it.
    fn take_free(
        &self,
        member: &ConsumerMember,
        subscribed: &BTreeSet<Uuid>,
        kept: &mut Owned,
    ) -> bool {
        let mut unreleased = false;
        let target = self
            .target
            .iter()
            .filter(|(topic, _)| subscribed.contains(topic));
        for (&topic, partitions) in target {
            let pending = member.pending_revocation.get(&topic);
            for &partition in partitions {
                let has = kept
                    .get(&topic)
                    .is_some_and(|kept| kept.contains_key(&partition));
                if has {
                    continue;
                }
                let taken = self.group.partition_epoch(topic, partition).is_some();
                let own = pending.is_some_and(|pending| pending.contains_key(&partition));
                match taken && !own {
                    true => unreleased = true,
                    false => {
                        let kept = kept.entry(topic).or_default();
                        kept.insert(partition, self.target_epoch);
                    }
                }
            }
        }
        unreleased
    }
}

fn put(owned: &mut Owned, topic: Uuid, partitions: BTreeMap<i32, i32>) {
    if !partitions.is_empty() {
        owned.insert(topic, partitions);
    }
}
