//! Records of `__consumer_offsets`, at the versions that Kafka 4.4 writes.

use bytes::Bytes;
use milena_coordinator::KeyValue;
use milena_protocol::group_metadata_value::MemberMetadata;
use milena_protocol::{
    DecodeError, EncodeError, GroupCoordinatorKey, GroupCoordinatorValue, GroupMetadataKey,
    GroupMetadataValue, LegacyOffsetCommitValue, OffsetCommitKey, OffsetCommitValue, Str,
    encode_versioned,
};

use crate::offsets::OffsetKey;

pub use crate::consumer::record::ConsumerRecord;

/// Version of `GroupMetadataValue` that is written.
const GROUP_METADATA_VERSION: i16 = 3;
/// Version of `OffsetCommitValue` that is written.
const OFFSET_COMMIT_VERSION: i16 = 4;
/// The one version of `OffsetCommitValue` that has an expiry time of its own.
const OFFSET_COMMIT_VERSION_WITH_EXPIRY: i16 = 1;

/// One record, parsed.
#[derive(Clone, Debug, PartialEq)]
pub enum GroupRecord {
    /// A committed offset, or its end.
    Offset {
        key: OffsetKey,
        value: Option<OffsetCommitValue>,
    },
    /// A classic group, or its end.
    Classic {
        group: Str,
        value: Option<GroupMetadataValue>,
    },
    /// A part of a consumer group (KIP-848), or its end.
    Consumer { group: Str, record: ConsumerRecord },
    /// A record of a group kind that is kept, not served: share and streams groups.
    Other {
        group: Str,
        /// The kind, as in the key's first two bytes.
        type_id: i16,
        key: Bytes,
        value: Option<Bytes>,
    },
}

impl GroupRecord {
    /// A classic group's end.
    pub fn classic_tombstone(group: &Str) -> GroupRecord {
        GroupRecord::Classic {
            group: group.clone(),
            value: None,
        }
    }

    /// An offset's end.
    pub fn offset_tombstone(key: OffsetKey) -> GroupRecord {
        GroupRecord::Offset { key, value: None }
    }

    /// Fails on a string that is too long for a record.
    pub(crate) fn encode(&self) -> Result<KeyValue, EncodeError> {
        let (key, value) = match self {
            GroupRecord::Offset { key, value } => {
                let encode = |value: &OffsetCommitValue| match value.expire_timestamp {
                    -1 => encode_versioned(value, OFFSET_COMMIT_VERSION),
                    _ => encode_versioned(value, OFFSET_COMMIT_VERSION_WITH_EXPIRY),
                };
                let key = GroupCoordinatorKey::OffsetCommit(OffsetCommitKey {
                    group: key.group.clone(),
                    topic: key.topic.clone(),
                    partition: key.partition,
                });
                (key.encode()?, value.as_ref().map(encode).transpose()?)
            }
            GroupRecord::Classic { group, value } => {
                let encode = |value| encode_versioned(value, GROUP_METADATA_VERSION);
                let group = group.clone();
                let key = GroupCoordinatorKey::GroupMetadata(GroupMetadataKey { group });
                (key.encode()?, value.as_ref().map(encode).transpose()?)
            }
            GroupRecord::Consumer { group, record } => return record.encode(group),
            GroupRecord::Other { key, value, .. } => (key.clone(), value.clone()),
        };
        Ok(KeyValue { key, value })
    }

    /// Everything is copied out of the input, so that no read buffer is kept alive.
    /// `Ok(None)`: a kind that this release does not know.
    pub(crate) fn decode(record: KeyValue) -> Result<Option<GroupRecord>, String> {
        let said = |error: DecodeError| error.to_string();
        let key = match GroupCoordinatorKey::decode(&record.key) {
            Ok(key) => key,
            Err(DecodeError::UnknownRecord { .. }) => return Ok(None),
            Err(error) => return Err(said(error)),
        };
        let value = record.value.as_ref();
        let parse = |type_id| {
            value
                .map(|v| GroupCoordinatorValue::decode(type_id, v))
                .transpose()
        };
        let parsed = match key {
            GroupCoordinatorKey::LegacyOffsetCommit(key) => GroupRecord::Offset {
                key: OffsetKey::new(&key.group, &key.topic, key.partition),
                value: parse(0).map_err(said)?.and_then(offset_value),
            },
            GroupCoordinatorKey::OffsetCommit(key) => GroupRecord::Offset {
                key: OffsetKey::new(&key.group, &key.topic, key.partition),
                value: parse(1).map_err(said)?.and_then(offset_value),
            },
            GroupCoordinatorKey::GroupMetadata(key) => GroupRecord::Classic {
                group: key.group.detached(),
                value: parse(2).map_err(said)?.and_then(classic_value),
            },
            other => {
                let type_id = other.type_id();
                let Some(group) = group_of(&other) else {
                    return Ok(None);
                };
                let parsed = parse(type_id).map_err(said)?.map(|(value, _)| value);
                if let Some((group, record)) = ConsumerRecord::parsed(&other, parsed) {
                    return Ok(Some(GroupRecord::Consumer { group, record }));
                }
                GroupRecord::Other {
                    group: group.detached(),
                    type_id,
                    key: Bytes::copy_from_slice(&record.key),
                    value: value.map(|v| Bytes::copy_from_slice(v)),
                }
            }
        };
        Ok(Some(parsed))
    }
}

fn offset_value((value, _): (GroupCoordinatorValue, i16)) -> Option<OffsetCommitValue> {
    match value {
        GroupCoordinatorValue::OffsetCommit(value) => Some(OffsetCommitValue {
            metadata: value.metadata.detached(),
            ..value
        }),
        GroupCoordinatorValue::LegacyOffsetCommit(value) => Some(modern(value)),
        _ => None,
    }
}

fn modern(value: LegacyOffsetCommitValue) -> OffsetCommitValue {
    OffsetCommitValue {
        offset: value.offset,
        metadata: value.metadata.detached(),
        commit_timestamp: value.commit_timestamp,
        ..Default::default()
    }
}

fn classic_value((value, _): (GroupCoordinatorValue, i16)) -> Option<GroupMetadataValue> {
    let GroupCoordinatorValue::GroupMetadata(value) = value else {
        return None;
    };
    let own = |text: Option<Str>| text.map(|t| t.detached());
    Some(GroupMetadataValue {
        protocol_type: value.protocol_type.detached(),
        protocol: own(value.protocol),
        leader: own(value.leader),
        members: value.members.into_iter().map(detached_member).collect(),
        ..value
    })
}

fn detached_member(member: MemberMetadata) -> MemberMetadata {
    MemberMetadata {
        member_id: member.member_id.detached(),
        group_instance_id: member.group_instance_id.map(|id| id.detached()),
        client_id: member.client_id.detached(),
        client_host: member.client_host.detached(),
        subscription: Bytes::copy_from_slice(&member.subscription),
        assignment: Bytes::copy_from_slice(&member.assignment),
        ..member
    }
}

/// The group that a key of a kind that is not served belongs to.
fn group_of(key: &GroupCoordinatorKey) -> Option<Str> {
    use GroupCoordinatorKey as Key;
    let group = match key {
        Key::ConsumerGroupMetadata(key) => &key.group_id,
        Key::ConsumerGroupPartitionMetadata(key) => &key.group_id,
        Key::ConsumerGroupMemberMetadata(key) => &key.group_id,
        Key::ConsumerGroupTargetAssignmentMetadata(key) => &key.group_id,
        Key::ConsumerGroupTargetAssignmentMember(key) => &key.group_id,
        Key::ConsumerGroupCurrentMemberAssignment(key) => &key.group_id,
        Key::ConsumerGroupRegularExpression(key) => &key.group_id,
        Key::ShareGroupMemberMetadata(key) => &key.group_id,
        Key::ShareGroupMetadata(key) => &key.group_id,
        Key::ShareGroupTargetAssignmentMetadata(key) => &key.group_id,
        Key::ShareGroupTargetAssignmentMember(key) => &key.group_id,
        Key::ShareGroupCurrentMemberAssignment(key) => &key.group_id,
        Key::ShareGroupStatePartitionMetadata(key) => &key.group_id,
        Key::StreamsGroupMetadata(key) => &key.group_id,
        Key::StreamsGroupMemberMetadata(key) => &key.group_id,
        Key::StreamsGroupTargetAssignmentMetadata(key) => &key.group_id,
        Key::StreamsGroupTargetAssignmentMember(key) => &key.group_id,
        Key::StreamsGroupCurrentMemberAssignment(key) => &key.group_id,
        Key::StreamsGroupTopology(key) => &key.group_id,
        Key::LegacyOffsetCommit(_) | Key::OffsetCommit(_) | Key::GroupMetadata(_) => return None,
    };
    Some(group.clone())
}
