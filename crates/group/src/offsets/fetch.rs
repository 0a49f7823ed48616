//! OffsetFetch of one group. v2: all topics by null. v7: only stable offsets on demand. v8: several groups.
//! v9: member id and epoch (KIP-848). v10: topics by id.

use milena_base::{ErrorCode, Uuid};
use milena_coordinator::{Token, Turn, Write};
use milena_protocol::Str;
use milena_protocol::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use milena_protocol::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
};

use crate::offsets::{CommittedOffset, OffsetKey, OffsetTable, OpenTransactions};
use crate::request::ShardResponse;
use crate::shard::{Group, GroupShard};

/// What a fetch reads: the committed state, or the newest together with what transactions hold open.
struct View<'a> {
    table: Option<&'a OffsetTable>,
    open: Option<&'a OpenTransactions>,
}

impl GroupShard {
    /// Members are known as the offsets are read: from the newest state where that has to be stable.
    fn admit_fetch(
        &self,
        request: &OffsetFetchRequestGroup,
        require_stable: bool,
        turn: &Turn<'_, GroupShard>,
    ) -> Result<(), ErrorCode> {
        let id = &request.group_id;
        let (member_id, epoch) = (request.member_id.as_ref(), request.member_epoch);
        match self.groups.get(id) {
            Some(Group::Other(group)) => group.validate_offset_fetch(request),
            Some(Group::Consumer(group)) if require_stable => {
                group.validate_offset_fetch(member_id, epoch)
            }
            _ => match turn.committed.consumers.get(id) {
                Some(group) => group.validate_offset_fetch(member_id, epoch),
                None => Ok(()),
            },
        }
    }

    /// With `require_stable` the answer is made of the newest state and waits until that is committed.
    pub(crate) fn fetch_offsets(
        &mut self,
        token: Token,
        request: OffsetFetchRequestGroup,
        require_stable: bool,
        turn: &mut Turn<'_, GroupShard>,
    ) -> Option<Write<GroupShard>> {
        if let Err(error) = self.admit_fetch(&request, require_stable, turn) {
            let answer = fetch_error(request.group_id, error);
            turn.reply(token, ShardResponse::Fetch(answer));
            return None;
        }
        let view = match require_stable {
            true => View {
                table: Some(&self.offsets.table)
                    .filter(|_| self.groups.contains_key(&request.group_id)),
                open: Some(&self.offsets.open),
            },
            false => View {
                table: Some(&turn.committed.offsets)
                    .filter(|_| turn.committed.groups.contains(&request.group_id)),
                open: None,
            },
        };
        let topics = match &request.topics {
            Some(topics) => {
                let fetched = topics
                    .iter()
                    .map(|topic| view.topic(&request.group_id, topic));
                fetched.collect()
            }
            None => view.all_topics(&request.group_id),
        };
        let answer = ShardResponse::Fetch(OffsetFetchResponseGroup {
            group_id: request.group_id,
            topics,
            error_code: 0,
        });
        if require_stable {
            return Some(Write::new(Vec::new()).answer(token, answer));
        }
        turn.reply(token, answer);
        None
    }
}

impl View<'_> {
    fn topic(&self, group: &Str, topic: &OffsetFetchRequestTopics) -> OffsetFetchResponseTopics {
        let mut key = OffsetKey {
            group: group.clone(),
            topic: topic.name.clone(),
            partition: 0,
        };
        let partitions = topic.partition_indexes.iter().map(|&partition| {
            key.partition = partition;
            self.partition(&key, topic.topic_id)
        });
        OffsetFetchResponseTopics {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            partitions: partitions.collect(),
        }
    }

    fn all_topics(&self, group: &Str) -> Vec<OffsetFetchResponseTopics> {
        let mut topics: Vec<OffsetFetchResponseTopics> = Vec::new();
        let table = self.table.into_iter();
        for (key, _) in table.flat_map(|table| table.of_group(group)) {
            let partition = self.partition(key, Uuid::ZERO);
            match topics.last_mut().filter(|topic| topic.name == key.topic) {
                Some(topic) => topic.partitions.push(partition),
                None => topics.push(OffsetFetchResponseTopics {
                    name: key.topic.clone(),
                    topic_id: Uuid::ZERO,
                    partitions: vec![partition],
                }),
            }
        }
        topics
    }

    fn partition(&self, key: &OffsetKey, topic_id: Uuid) -> OffsetFetchResponsePartitions {
        let none = OffsetFetchResponsePartitions {
            partition_index: key.partition,
            committed_offset: -1,
            committed_leader_epoch: -1,
            metadata: Some(Str::EMPTY),
            error_code: 0,
        };
        if self.open.is_some_and(|open| open.contains(key)) {
            return OffsetFetchResponsePartitions {
                error_code: ErrorCode::UnstableOffsetCommit.code(),
                ..none
            };
        }
        match self.table.and_then(|table| table.get(key)) {
            Some(offset) if of_topic(offset, topic_id) => OffsetFetchResponsePartitions {
                committed_offset: offset.offset,
                committed_leader_epoch: offset.leader_epoch,
                metadata: Some(offset.metadata.clone()),
                ..none
            },
            _ => none,
        }
    }
}

/// An offset of a deleted topic of the same name does not count, where both sides know the id.
fn of_topic(offset: &CommittedOffset, topic_id: Uuid) -> bool {
    offset.topic_id == topic_id || offset.topic_id.is_zero() || topic_id.is_zero()
}

pub(crate) fn fetch_error(group_id: Str, error: ErrorCode) -> OffsetFetchResponseGroup {
    OffsetFetchResponseGroup {
        group_id,
        error_code: error.code(),
        ..Default::default()
    }
}
