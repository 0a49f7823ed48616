//! Records as Apache Kafka writes them, byte for byte, and the kinds that are kept.

use bytes::Bytes;
use milena_base::Uuid;
use milena_group::KeyValue;
use milena_protocol::group_metadata_value::MemberMetadata;
use milena_protocol::{
    ConsumerGroupMemberMetadataKey, ConsumerGroupMemberMetadataValue, ConsumerGroupMetadataKey,
    ConsumerGroupMetadataValue, GroupCoordinatorKey, GroupCoordinatorValue, GroupMetadataKey,
    GroupMetadataValue, OffsetCommitKey, OffsetCommitValue, ShareGroupMetadataKey,
    ShareGroupMetadataValue, Str, StreamsGroupMetadataKey, StreamsGroupMetadataValue,
};
use milena_testkit::Command;

/// A record that a transcript's `written` names.
pub fn written(kind: &str, c: &Command) -> KeyValue {
    let group_id = Str::from(c.find::<String>("group").unwrap_or("g".to_string()));
    let tombstone = c.find("tombstone").unwrap_or(false);
    let (key, value, version): (GroupCoordinatorKey, GroupCoordinatorValue, i16) = match kind {
        "offset" => {
            let (topic, partition): (String, i32) =
                (c.get("topic"), c.find("partition").unwrap_or(0));
            let topic_id = Uuid::from_parts(0, c.find("id").unwrap_or(0));
            let group = group_id;
            let key = OffsetCommitKey {
                group,
                topic: topic.into(),
                partition,
            };
            let offset = c.find("offset").unwrap_or(0);
            let value = OffsetCommitValue {
                offset,
                topic_id,
                ..Default::default()
            };
            (key.into(), value.into(), 4)
        }
        "classic" => {
            let members: Vec<String> = c.list("members");
            let members = members.into_iter().map(|id| MemberMetadata {
                member_id: id.into(),
                session_timeout: 10_000,
                rebalance_timeout: 20_000,
                subscription: Bytes::from_static(b"x"),
                ..Default::default()
            });
            let members: Vec<MemberMetadata> = members.collect();
            let value = GroupMetadataValue {
                protocol: members.first().map(|_| "range".into()),
                leader: members.first().map(|member| member.member_id.clone()),
                members,
                protocol_type: c.find("type").unwrap_or("consumer".to_string()).into(),
                generation: c.find("generation").unwrap_or(1),
                current_state_timestamp: c.find("since").unwrap_or(-1),
            };
            (GroupMetadataKey { group: group_id }.into(), value.into(), 3)
        }
        "consumer" => {
            let value = ConsumerGroupMetadataValue {
                epoch: 1,
                ..Default::default()
            };
            (
                ConsumerGroupMetadataKey { group_id }.into(),
                value.into(),
                0,
            )
        }
        "consumer_member" => {
            let key = ConsumerGroupMemberMetadataKey {
                group_id,
                member_id: "m".into(),
            };
            (
                key.into(),
                ConsumerGroupMemberMetadataValue::default().into(),
                0,
            )
        }
        "share" => {
            let value = ShareGroupMetadataValue {
                epoch: 1,
                ..Default::default()
            };
            (ShareGroupMetadataKey { group_id }.into(), value.into(), 0)
        }
        "streams" => {
            let value = StreamsGroupMetadataValue {
                epoch: 1,
                ..Default::default()
            };
            (StreamsGroupMetadataKey { group_id }.into(), value.into(), 0)
        }
        "unknown" => {
            let key = Bytes::from_static(b"\x7f\x00rest");
            return KeyValue {
                key,
                value: Some(Bytes::from_static(b"whatever")),
            };
        }
        "broken" => {
            let key = Bytes::from_static(b"\x00\x01\x00");
            return KeyValue { key, value: None };
        }
        other => panic!("nobody writes {other:?}"),
    };
    KeyValue {
        key: key.encode().unwrap(),
        value: (!tombstone).then(|| value.encode(version).unwrap()),
    }
}
