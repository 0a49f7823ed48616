//! One member of a consumer group. A value: what changes is a new member in its place.

use std::collections::BTreeSet;
use std::sync::Arc;

use milena_base::Uuid;
use milena_protocol::consumer_group_member_metadata_value::ClassicMemberMetadata;
use milena_protocol::{
    ConsumerGroupCurrentMemberAssignmentValue, ConsumerGroupMemberMetadataValue, Str,
    consumer_group_describe_response as describe,
};

use crate::api::Topics;
use crate::consumer::assignment::{self, Owned, Partitions};

/// The epoch of a member that leaves.
pub const LEAVE_EPOCH: i32 = -1;
/// The epoch of a static member that leaves and means to come back.
pub const LEAVE_STATIC_EPOCH: i32 = -2;

/// How far a member is on its way to the target assignment (Kafka's `MemberState`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberState {
    Stable,
    /// It has to give partitions back first.
    UnrevokedPartitions,
    /// It waits for partitions that others still have.
    UnreleasedPartitions,
    /// Written by a release that this one does not know.
    Unknown,
}

impl MemberState {
    fn from_code(code: i8) -> MemberState {
        match code {
            0 => MemberState::Stable,
            1 => MemberState::UnrevokedPartitions,
            2 => MemberState::UnreleasedPartitions,
            _ => MemberState::Unknown,
        }
    }

    fn code(self) -> i8 {
        match self {
            MemberState::Stable => 0,
            MemberState::UnrevokedPartitions => 1,
            MemberState::UnreleasedPartitions => 2,
            MemberState::Unknown => 127,
        }
    }
}

/// A member. `assigned` and `pending_revocation` are disjoint.
#[derive(Clone, Debug, PartialEq)]
pub struct ConsumerMember {
    pub id: Str,
    pub epoch: i32,
    pub previous_epoch: i32,
    pub state: MemberState,
    pub instance_id: Option<Str>,
    pub rack_id: Option<Str>,
    pub rebalance_timeout_ms: i32,
    pub client_id: Str,
    pub client_host: Str,
    pub topics: Arc<BTreeSet<Str>>,
    /// Empty and null both mean none.
    pub regex: Option<Str>,
    pub assignor: Option<Str>,
    pub assigned: Arc<Owned>,
    pub pending_revocation: Arc<Owned>,
    /// There for members that use the classic protocol.
    pub classic: Option<Arc<ClassicMemberMetadata>>,
}

impl ConsumerMember {
    pub(crate) fn new(id: Str) -> ConsumerMember {
        ConsumerMember {
            id,
            epoch: 0,
            previous_epoch: -1,
            state: MemberState::Stable,
            instance_id: None,
            rack_id: None,
            rebalance_timeout_ms: -1,
            client_id: Str::EMPTY,
            client_host: Str::EMPTY,
            topics: Arc::default(),
            regex: Some(Str::EMPTY),
            assignor: None,
            assigned: Arc::default(),
            pending_revocation: Arc::default(),
            classic: None,
        }
    }

    /// The regular expression that it subscribes to, if it does.
    pub fn subscribed_regex(&self) -> Option<&Str> {
        self.regex.as_ref().filter(|regex| !regex.is_empty())
    }

    pub fn uses_classic_protocol(&self) -> bool {
        self.classic.is_some()
    }

    pub(crate) fn is_reconciled_to(&self, target_epoch: i32) -> bool {
        self.state == MemberState::Stable && self.epoch == target_epoch
    }

    pub(crate) fn at_epoch(mut self, epoch: i32) -> ConsumerMember {
        self.previous_epoch = self.epoch;
        self.epoch = epoch;
        self
    }

    /// The epoch since which it has a partition, or has been asked to give it back.
    pub(crate) fn partition_epoch(&self, topic: Uuid, partition: i32) -> Option<i32> {
        let of = |owned: &Owned| owned.get(&topic)?.get(&partition).copied();
        of(&self.assigned).or_else(|| of(&self.pending_revocation))
    }

    // Records.

    pub(crate) fn to_metadata(&self) -> ConsumerGroupMemberMetadataValue {
        ConsumerGroupMemberMetadataValue {
            instance_id: self.instance_id.clone(),
            rack_id: self.rack_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            subscribed_topic_names: self.topics.iter().cloned().collect(),
            subscribed_topic_regex: self.regex.clone(),
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            server_assignor: self.assignor.clone(),
            classic_member_metadata: self.classic.as_deref().cloned(),
        }
    }

    pub(crate) fn with_metadata(self, value: ConsumerGroupMemberMetadataValue) -> ConsumerMember {
        ConsumerMember {
            instance_id: value.instance_id,
            rack_id: value.rack_id,
            client_id: value.client_id,
            client_host: value.client_host,
            topics: Arc::new(value.subscribed_topic_names.into_iter().collect()),
            regex: value.subscribed_topic_regex,
            rebalance_timeout_ms: value.rebalance_timeout_ms,
            assignor: value.server_assignor,
            classic: value.classic_member_metadata.map(Arc::new),
            ..self
        }
    }

    pub(crate) fn to_current(&self) -> ConsumerGroupCurrentMemberAssignmentValue {
        ConsumerGroupCurrentMemberAssignmentValue {
            member_epoch: self.epoch,
            previous_member_epoch: self.previous_epoch,
            state: self.state.code(),
            assigned_partitions: assignment::to_current(&self.assigned),
            partitions_pending_revocation: assignment::to_current(&self.pending_revocation),
        }
    }

    pub(crate) fn with_current(
        self,
        value: ConsumerGroupCurrentMemberAssignmentValue,
    ) -> ConsumerMember {
        let epoch = value.member_epoch;
        let owned = |topics| Arc::new(assignment::from_current(topics, epoch));
        ConsumerMember {
            epoch,
            previous_epoch: value.previous_member_epoch,
            state: MemberState::from_code(value.state),
            assigned: owned(value.assigned_partitions),
            pending_revocation: owned(value.partitions_pending_revocation),
            ..self
        }
    }

    /// The member without anything that it had.
    pub(crate) fn without_current(self) -> ConsumerMember {
        ConsumerMember {
            epoch: LEAVE_EPOCH,
            previous_epoch: LEAVE_EPOCH,
            assigned: Arc::default(),
            pending_revocation: Arc::default(),
            ..self
        }
    }

    // Answers.

    pub(crate) fn describe(&self, target: &Partitions, names: &dyn Topics) -> describe::Member {
        let mut has: Partitions = Partitions::new();
        for (topic, epochs) in self.assigned.iter().chain(self.pending_revocation.iter()) {
            has.entry(*topic).or_default().extend(epochs.keys());
        }
        let listed = |partitions: &Partitions| {
            let topics = partitions.iter();
            let topics = topics.map(|(id, set)| (*id, set.iter().copied().collect()));
            assignment::describe(topics.collect::<Vec<_>>().into_iter(), names)
        };
        describe::Member {
            member_id: self.id.clone(),
            instance_id: self.instance_id.clone(),
            rack_id: self.rack_id.clone(),
            member_epoch: self.epoch,
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            subscribed_topic_names: self.topics.iter().cloned().collect(),
            subscribed_topic_regex: self.regex.clone(),
            assignment: listed(&has),
            target_assignment: listed(target),
            member_type: i8::from(!self.uses_classic_protocol()),
        }
    }
}
