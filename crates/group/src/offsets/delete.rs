//! OffsetDelete (KIP-496), and what goes with a deleted group or topic.

use milena_base::{ErrorCode, Uuid};
use milena_coordinator::{Token, Write};
use milena_protocol::offset_delete_request::OffsetDeleteRequestPartition;
use milena_protocol::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use milena_protocol::{OffsetDeleteRequest, OffsetDeleteResponse, Str};

use crate::offsets::OffsetKey;
use crate::record::GroupRecord;
use crate::request::ShardResponse;
use crate::shard::{Group, GroupShard};

/// A topic that is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletedTopic {
    pub name: Str,
    pub id: Uuid,
}

impl GroupShard {
    pub(crate) fn delete_offsets(
        &self,
        token: Token,
        request: OffsetDeleteRequest,
    ) -> Write<GroupShard> {
        let mut records = Vec::new();
        let response = match self.decide_offset_delete(&request, &mut records) {
            Ok(topics) => OffsetDeleteResponse {
                topics,
                ..Default::default()
            },
            Err(error) => OffsetDeleteResponse {
                error_code: error.code(),
                ..Default::default()
            },
        };
        Write::new(records).answer(token, ShardResponse::OffsetDelete(response))
    }

    fn decide_offset_delete(
        &self,
        request: &OffsetDeleteRequest,
        records: &mut Vec<GroupRecord>,
    ) -> Result<Vec<OffsetDeleteResponseTopic>, ErrorCode> {
        let group = self.groups.get(&request.group_id);
        let group = group.ok_or(ErrorCode::GroupIdNotFound)?;
        if let Group::Classic(group) = group {
            group.validate_offset_delete()?;
        }
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            let error = match group.is_subscribed_to(&topic.name) {
                true => ErrorCode::GroupSubscribedToTopic,
                false => ErrorCode::None,
            };
            for partition in &topic.partitions {
                let key = OffsetKey::new(&request.group_id, &topic.name, partition.partition_index);
                if error.is_none() && self.has_offset(&key) {
                    records.push(GroupRecord::offset_tombstone(key));
                }
            }
            topics.push(OffsetDeleteResponseTopic {
                name: topic.name.clone(),
                partitions: partition_errors(&topic.partitions, error),
            });
        }
        Ok(topics)
    }

    fn has_offset(&self, key: &OffsetKey) -> bool {
        self.offsets.table.get(key).is_some() || self.offsets.open.contains(key)
    }

    /// Tombstones of all offsets of a group, also of those in open transactions.
    pub(crate) fn offset_tombstones(&self, group: &Str, records: &mut Vec<GroupRecord>) {
        let table = &self.offsets.table;
        let committed = table.of_group(group).map(|(key, _)| key);
        let open = self.offsets.open.keys_of(group);
        let open = open.filter(|key| table.get(key).is_none());
        let keys = committed.chain(open).cloned();
        records.extend(keys.map(GroupRecord::offset_tombstone));
    }

    /// A deleted topic's offsets end; those of a newer topic of the same name stay.
    pub(crate) fn topics_deleted(
        &self,
        token: Token,
        topics: &[DeletedTopic],
    ) -> Write<GroupShard> {
        let gone = |name: &Str, id: Uuid| {
            let gone =
                |topic: &DeletedTopic| topic.name == *name && (id.is_zero() || id == topic.id);
            topics.iter().any(gone)
        };
        let committed = self.offsets.table.iter();
        let committed = committed.filter(|(key, offset)| gone(&key.topic, offset.topic_id));
        let open = self.offsets.open.all();
        let open = open.filter(|(key, offset)| {
            self.offsets.table.get(key).is_none() && gone(&key.topic, offset.topic_id)
        });
        let keys = committed.chain(open).map(|(key, _)| key.clone());
        Write::new(keys.map(GroupRecord::offset_tombstone).collect())
            .divisible()
            .answer(token, ShardResponse::Done)
    }
}

fn partition_errors(
    partitions: &[OffsetDeleteRequestPartition],
    error: ErrorCode,
) -> Vec<OffsetDeleteResponsePartition> {
    let result = |partition: &OffsetDeleteRequestPartition| OffsetDeleteResponsePartition {
        partition_index: partition.partition_index,
        error_code: error.code(),
    };
    partitions.iter().map(result).collect()
}
