//! The records of a consumer group, at the version that Kafka 4.4 writes.

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
    EncodeError, GroupCoordinatorKey, GroupCoordinatorValue, Str, encode_versioned,
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
    pub(crate) fn encode(&self, group: &Str) -> Result<KeyValue, EncodeError> {
        let group_id = group.clone();
        let member = |id: &Str| (group.clone(), id.clone());
        let (key, value): (GroupCoordinatorKey, _) = match self {
            ConsumerRecord::Metadata(value) => {
                let key = ConsumerGroupMetadataKey { group_id };
                (
                    key.into(),
                    value.as_ref().map(|v| encode_versioned(v, VERSION)),
                )
            }
            ConsumerRecord::PartitionMetadata(value) => {
                let key = ConsumerGroupPartitionMetadataKey { group_id };
                (
                    key.into(),
                    value.as_ref().map(|v| encode_versioned(v, VERSION)),
                )
            }
            ConsumerRecord::Member(id, value) => {
                let (group_id, member_id) = member(id);
                let key = ConsumerGroupMemberMetadataKey {
                    group_id,
                    member_id,
                };
                (
                    key.into(),
                    value.as_ref().map(|v| encode_versioned(&**v, VERSION)),
                )
            }
            ConsumerRecord::TargetMetadata(value) => {
                let key = ConsumerGroupTargetAssignmentMetadataKey { group_id };
                (
                    key.into(),
                    value.as_ref().map(|v| encode_versioned(v, VERSION)),
                )
            }
            ConsumerRecord::Target(id, value) => {
                let (group_id, member_id) = member(id);
                let key = ConsumerGroupTargetAssignmentMemberKey {
                    group_id,
                    member_id,
                };
                let value = value.as_ref().map(|partitions| {
                    let value = ConsumerGroupTargetAssignmentMemberValue {
                        topic_partitions: assignment::to_target(partitions),
                    };
                    encode_versioned(&value, VERSION)
                });
                (key.into(), value)
            }
            ConsumerRecord::Current(id, value) => {
                let (group_id, member_id) = member(id);
                let key = ConsumerGroupCurrentMemberAssignmentKey {
                    group_id,
                    member_id,
                };
                (
                    key.into(),
                    value.as_ref().map(|v| encode_versioned(&**v, VERSION)),
                )
            }
            ConsumerRecord::Regex(regex, value) => {
                let key = ConsumerGroupRegularExpressionKey {
                    group_id,
                    regular_expression: regex.clone(),
                };
                let value = value
                    .as_ref()
                    .map(|v| encode_versioned(&v.to_record(), VERSION));
                (key.into(), value)
            }
        };
        Ok(KeyValue {
            key: key.encode()?,
            value: value.transpose()?,
        })
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
        metadata: bytes::Bytes::copy_from_slice(&protocol.metadata),
    });
    ClassicMemberMetadata {
        supported_protocols: protocols.collect(),
        ..classic
    }
}
