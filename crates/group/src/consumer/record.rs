//! The records of a consumer group, at the version that Kafka 4.4 writes.

use bytes::Bytes;
use milena_coordinator::KeyValue;
use milena_protocol::consumer_group_member_metadata_value::{
    ClassicMemberMetadata, ClassicProtocol,
};
use milena_protocol::{
    ConsumerGroupCurrentMemberAssignmentKey, ConsumerGroupCurrentMemberAssignmentValue,
    ConsumerGroupMemberMetadataKey, ConsumerGroupMemberMetadataValue, ConsumerGroupMetadataKey,
    ConsumerGroupMetadataValue, ConsumerGroupPartitionMetadataKey,
    ConsumerGroupPartitionMetadataValue, ConsumerGroupRegularExpressionKey,
    ConsumerGroupTargetAssignmentMemberKey, ConsumerGroupTargetAssignmentMemberValue,
    ConsumerGroupTargetAssignmentMetadataKey, ConsumerGroupTargetAssignmentMetadataValue,
    EncodeError, GroupCoordinatorKey, GroupCoordinatorValue, Message, Str, encode_versioned,
};

use crate::consumer::assignment::{self, Partitions};
use crate::consumer::group::Resolved;

/// The one version of all values.
const VERSION: i16 = 0;

/// A record, or its end.
#[derive(Clone, Debug, PartialEq)]
pub enum ConsumerRecord {
    Metadata(Option<ConsumerGroupMetadataValue>),
    /// Written before 4.1 only.
    PartitionMetadata(Option<ConsumerGroupPartitionMetadataValue>),
    Member(Str, Option<Box<ConsumerGroupMemberMetadataValue>>),
    TargetMetadata(Option<ConsumerGroupTargetAssignmentMetadataValue>),
    Target(Str, Option<Partitions>),
    Current(Str, Option<Box<ConsumerGroupCurrentMemberAssignmentValue>>),
    Regex(Str, Option<Resolved>),
}

impl ConsumerRecord {
    pub(crate) fn epoch(epoch: i32, metadata_hash: i64) -> ConsumerRecord {
        ConsumerRecord::Metadata(Some(ConsumerGroupMetadataValue {
            epoch,
            metadata_hash,
        }))
    }

    pub(crate) fn encode(&self, group: &Str) -> Result<KeyValue, EncodeError> {
        let value = match self {
            ConsumerRecord::Metadata(value) => written(value.as_ref()),
            ConsumerRecord::PartitionMetadata(value) => written(value.as_ref()),
            ConsumerRecord::Member(_, value) => written(value.as_deref()),
            ConsumerRecord::TargetMetadata(value) => written(value.as_ref()),
            ConsumerRecord::Target(_, value) => {
                let value = value.as_ref().map(|partitions| {
                    let topic_partitions = assignment::to_target(partitions);
                    ConsumerGroupTargetAssignmentMemberValue { topic_partitions }
                });
                written(value.as_ref())
            }
            ConsumerRecord::Current(_, value) => written(value.as_deref()),
            ConsumerRecord::Regex(_, value) => {
                written(value.as_ref().map(Resolved::to_record).as_ref())
            }
        };
        Ok(KeyValue {
            key: self.key(group).encode()?,
            value: value.transpose()?,
        })
    }

    fn key(&self, group: &Str) -> GroupCoordinatorKey {
        let group_id = group.clone();
        match self {
            ConsumerRecord::Metadata(_) => ConsumerGroupMetadataKey { group_id }.into(),
            ConsumerRecord::PartitionMetadata(_) => {
                ConsumerGroupPartitionMetadataKey { group_id }.into()
            }
            ConsumerRecord::Member(id, _) => ConsumerGroupMemberMetadataKey {
                group_id,
                member_id: id.clone(),
            }
            .into(),
            ConsumerRecord::TargetMetadata(_) => {
                ConsumerGroupTargetAssignmentMetadataKey { group_id }.into()
            }
            ConsumerRecord::Target(id, _) => ConsumerGroupTargetAssignmentMemberKey {
                group_id,
                member_id: id.clone(),
            }
            .into(),
            ConsumerRecord::Current(id, _) => ConsumerGroupCurrentMemberAssignmentKey {
                group_id,
                member_id: id.clone(),
            }
            .into(),
            ConsumerRecord::Regex(regex, _) => ConsumerGroupRegularExpressionKey {
                group_id,
                regular_expression: regex.clone(),
            }
            .into(),
        }
    }

    /// `None`: not the record of a consumer group. Everything is copied out of what was read.
    pub(crate) fn parsed(
        key: &GroupCoordinatorKey,
        value: Option<GroupCoordinatorValue>,
    ) -> Option<(Str, ConsumerRecord)> {
        use GroupCoordinatorKey as Key;
        use GroupCoordinatorValue as Value;
        macro_rules! of {
            ($kind:ident) => {
                value.and_then(|value| match value {
                    Value::$kind(value) => Some(value),
                    _ => None,
                })
            };
        }
        let (group, record) = match key {
            Key::ConsumerGroupMetadata(key) => {
                let record = ConsumerRecord::Metadata(of!(ConsumerGroupMetadata));
                (&key.group_id, record)
            }
            Key::ConsumerGroupPartitionMetadata(key) => {
                // Only that it is there matters: it is ended at the next chance.
                let value = of!(ConsumerGroupPartitionMetadata);
                let value = value.map(|_| ConsumerGroupPartitionMetadataValue::default());
                (&key.group_id, ConsumerRecord::PartitionMetadata(value))
            }
            Key::ConsumerGroupMemberMetadata(key) => {
                let value = of!(ConsumerGroupMemberMetadata).map(|v| Box::new(own_member(v)));
                let record = ConsumerRecord::Member(key.member_id.detached(), value);
                (&key.group_id, record)
            }
            Key::ConsumerGroupTargetAssignmentMetadata(key) => {
                let value = of!(ConsumerGroupTargetAssignmentMetadata);
                (&key.group_id, ConsumerRecord::TargetMetadata(value))
            }
            Key::ConsumerGroupTargetAssignmentMember(key) => {
                let value = of!(ConsumerGroupTargetAssignmentMember);
                let value = value.map(|value| assignment::from_target(value.topic_partitions));
                let record = ConsumerRecord::Target(key.member_id.detached(), value);
                (&key.group_id, record)
            }
            Key::ConsumerGroupCurrentMemberAssignment(key) => {
                let value = of!(ConsumerGroupCurrentMemberAssignment).map(Box::new);
                let record = ConsumerRecord::Current(key.member_id.detached(), value);
                (&key.group_id, record)
            }
            Key::ConsumerGroupRegularExpression(key) => {
                let value = of!(ConsumerGroupRegularExpression).map(Resolved::from_record);
                let regex = key.regular_expression.detached();
                (&key.group_id, ConsumerRecord::Regex(regex, value))
            }
            _ => return None,
        };
        Some((group.detached(), record))
    }

    /// Whether it ends something. Nothing comes into being by that.
    pub(crate) fn is_tombstone(&self) -> bool {
        match self {
            ConsumerRecord::Metadata(value) => value.is_none(),
            ConsumerRecord::PartitionMetadata(value) => value.is_none(),
            ConsumerRecord::Member(_, value) => value.is_none(),
            ConsumerRecord::TargetMetadata(value) => value.is_none(),
            ConsumerRecord::Target(_, value) => value.is_none(),
            ConsumerRecord::Current(_, value) => value.is_none(),
            ConsumerRecord::Regex(_, value) => value.is_none(),
        }
    }
}

fn written<M: Message>(value: Option<&M>) -> Option<Result<Bytes, EncodeError>> {
    value.map(|value| encode_versioned(value, VERSION))
}

fn own_member(value: ConsumerGroupMemberMetadataValue) -> ConsumerGroupMemberMetadataValue {
    let own = |text: Option<Str>| text.map(|text| text.detached());
    let topics = value.subscribed_topic_names.iter().map(Str::detached);
    ConsumerGroupMemberMetadataValue {
        instance_id: own(value.instance_id),
        rack_id: own(value.rack_id),
        client_id: value.client_id.detached(),
        client_host: value.client_host.detached(),
        subscribed_topic_names: topics.collect(),
        subscribed_topic_regex: own(value.subscribed_topic_regex),
        server_assignor: own(value.server_assignor),
        classic_member_metadata: value.classic_member_metadata.map(own_classic),
        ..value
    }
}

fn own_classic(classic: ClassicMemberMetadata) -> ClassicMemberMetadata {
    let protocols = classic.supported_protocols.iter();
    let protocols = protocols.map(|protocol| ClassicProtocol {
        name: protocol.name.detached(),
        metadata: Bytes::copy_from_slice(&protocol.metadata),
    });
    ClassicMemberMetadata {
        supported_protocols: protocols.collect(),
        ..classic
    }
}
