//! OffsetCommit and TxnOffsetCommit. v7: group instance id. v9: GROUP_ID_NOT_FOUND for an unknown group. v10: topics by id.

use milena_base::{ErrorCode, Now, Uuid};
use milena_coordinator::{Producer, Token, Turn, Write};
use milena_protocol::offset_commit_request::OffsetCommitRequestPartition;
use milena_protocol::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use milena_protocol::{OffsetCommitRequest, OffsetCommitResponse, OffsetCommitValue};

use crate::consumer::ConsumerGroup;
use crate::offsets::OffsetKey;
use crate::record::GroupRecord;
use crate::request::ShardResponse;
use crate::shard::{Group, GroupShard};

/// First version whose clients understand GROUP_ID_NOT_FOUND.
const GROUP_ID_NOT_FOUND_FROM: i16 = 9;

impl GroupShard {
    pub(crate) fn commit_offsets(
        &mut self,
        token: Token,
        version: i16,
        request: OffsetCommitRequest,
        turn: &mut Turn<'_, GroupShard>,
    ) -> Option<Write<GroupShard>> {
        if let Err(error) = self.admit_commit(version, &request, turn) {
            let answer = commit_error(&request, error);
            return Some(Write::new(Vec::new()).answer(token, ShardResponse::Commit(answer)));
        }
        let (records, response) = self.committing(&request, turn.now);
        Some(Write::new(records).answer(token, ShardResponse::Commit(response)))
    }

    /// TxnOffsetCommit: the offsets wait for the end of the producer's transaction.
    pub(crate) fn commit_in_transaction(
        &mut self,
        token: Token,
        producer: Producer,
        request: OffsetCommitRequest,
        turn: &mut Turn<'_, GroupShard>,
    ) -> Option<Write<GroupShard>> {
        if let Err(error) = self.admit_transactional_commit(&request) {
            let answer = commit_error(&request, error);
            return Some(Write::new(Vec::new()).answer(token, ShardResponse::Commit(answer)));
        }
        let (records, response) = self.committing(&request, turn.now);
        let write = Write::new(records).within(producer);
        Some(write.answer(token, ShardResponse::Commit(response)))
    }

    /// The records of a commit that the group takes, and its answer.
    fn committing(
        &self,
        request: &OffsetCommitRequest,
        now: Now,
    ) -> (Vec<GroupRecord>, OffsetCommitResponse) {
        let expire_timestamp = match request.retention_time_ms {
            -1 => -1,
            retention => now.wall.0.saturating_add(retention),
        };
        let mut records = Vec::new();
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for partition in &topic.partitions {
                let too_large = self.metadata_too_large(partition);
                if !too_large {
                    records.push(GroupRecord::Offset {
                        key: OffsetKey::new(
                            &request.group_id,
                            &topic.name,
                            partition.partition_index,
                        ),
                        value: Some(OffsetCommitValue {
                            topic_id: topic.topic_id,
                            expire_timestamp,
                            ..committed(partition, now)
                        }),
                    });
                }
                partitions.push(OffsetCommitResponsePartition {
                    partition_index: partition.partition_index,
                    error_code: match too_large {
                        true => ErrorCode::OffsetMetadataTooLarge.code(),
                        false => 0,
                    },
                });
            }
            topics.push(OffsetCommitResponseTopic {
                name: topic.name.clone(),
                topic_id: topic.topic_id,
                partitions,
            });
        }
        let response = OffsetCommitResponse {
            topics,
            ..Default::default()
        };
        (records, response)
    }

    /// Whether a consumer group takes all these offsets from this member.
    fn admit_to_consumer_group(
        &self,
        group: &ConsumerGroup,
        request: &OffsetCommitRequest,
        version: Option<i16>,
    ) -> Result<(), ErrorCode> {
        let committer = group.validate_offset_commit(
            &request.member_id,
            request.group_instance_id.as_ref(),
            request.generation_id_or_member_epoch,
            version,
        )?;
        for topic in &request.topics {
            let taken = topic
                .partitions
                .iter()
                .filter(|p| !self.metadata_too_large(p));
            // Requests before v10, and those in transactions, name topics alone.
            let known = Some(topic.topic_id).filter(|id| *id != Uuid::ZERO);
            let id = known.or_else(|| self.topics.id(&topic.name));
            for partition in taken {
                committer.check(id.unwrap_or(Uuid::ZERO), partition.partition_index)?;
            }
        }
        Ok(())
    }

    /// Whether the group takes offsets from this member; a good commit counts as a heartbeat.
    fn admit_commit(
        &mut self,
        version: i16,
        request: &OffsetCommitRequest,
        turn: &mut Turn<'_, GroupShard>,
    ) -> Result<(), ErrorCode> {
        let generation = request.generation_id_or_member_epoch;
        match self.groups.get(&request.group_id) {
            // An administrator, or a consumer without group management: the group comes with the record.
            None if generation < 0 => Ok(()),
            None if version >= GROUP_ID_NOT_FOUND_FROM => Err(ErrorCode::GroupIdNotFound),
            None => Err(ErrorCode::IllegalGeneration),
            Some(Group::Other(group)) => group.validate_offset_commit(generation),
            Some(Group::Consumer(group)) => {
                self.admit_to_consumer_group(group, request, Some(version))
            }
            Some(Group::Classic(group)) => {
                let instance = request.group_instance_id.as_ref();
                group.validate_offset_commit(&request.member_id, instance, generation)?;
                if group.is_stable_or_preparing() && group.has_member(&request.member_id) {
                    self.reschedule_session(&request.group_id, &request.member_id, turn);
                }
                Ok(())
            }
        }
    }

    /// Old producers name neither member nor generation; what they name has to be right.
    fn admit_transactional_commit(&self, request: &OffsetCommitRequest) -> Result<(), ErrorCode> {
        let generation = request.generation_id_or_member_epoch;
        match self.groups.get(&request.group_id) {
            None if generation < 0 => Ok(()),
            None => Err(ErrorCode::IllegalGeneration),
            Some(Group::Other(group)) => group.validate_offset_commit(generation),
            Some(Group::Classic(group)) => {
                let instance = request.group_instance_id.as_ref();
                group.validate_transactional_commit(&request.member_id, instance, generation)
            }
            Some(Group::Consumer(group)) => self.admit_to_consumer_group(group, request, None),
        }
    }

    /// Kafka counts UTF-16 units.
    fn metadata_too_large(&self, partition: &OffsetCommitRequestPartition) -> bool {
        let metadata = partition.committed_metadata.as_ref();
        let units = metadata.map_or(0, |text| text.encode_utf16().count());
        units > self.config.offset_metadata_max
    }
}

fn committed(partition: &OffsetCommitRequestPartition, now: Now) -> OffsetCommitValue {
    OffsetCommitValue {
        offset: partition.committed_offset,
        leader_epoch: partition.committed_leader_epoch,
        metadata: partition.committed_metadata.clone().unwrap_or_default(),
        commit_timestamp: now.wall.0,
        ..Default::default()
    }
}

/// The same error for every partition that was asked for.
pub(crate) fn commit_error(
    request: &OffsetCommitRequest,
    error: ErrorCode,
) -> OffsetCommitResponse {
    let topics = request
        .topics
        .iter()
        .map(|topic| OffsetCommitResponseTopic {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            partitions: partition_errors(&topic.partitions, error),
        });
    OffsetCommitResponse {
        topics: topics.collect(),
        ..Default::default()
    }
}

pub(crate) fn partition_errors(
    partitions: &[OffsetCommitRequestPartition],
    error: ErrorCode,
) -> Vec<OffsetCommitResponsePartition> {
    let failed = |partition: &OffsetCommitRequestPartition| OffsetCommitResponsePartition {
        partition_index: partition.partition_index,
        error_code: error.code(),
    };
    partitions.iter().map(failed).collect()
}
