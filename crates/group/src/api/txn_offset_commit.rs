//! TxnOffsetCommit, which is an OffsetCommit within a transaction. v2: leader epochs. v3: member and generation.
//! v4: TRANSACTION_ABORTABLE. v5: the broker adds the partition to the transaction. v6: topics by id.

use milena_base::ErrorCode;
use milena_protocol::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use milena_protocol::txn_offset_commit_request::TxnOffsetCommitRequestTopic;
use milena_protocol::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use milena_protocol::{
    OffsetCommitRequest, OffsetCommitResponse, TxnOffsetCommitRequest, TxnOffsetCommitResponse,
};

/// First version that names topics by id, and the version of OffsetCommit that does so, and one that does not.
const TOPIC_IDS_FROM: i16 = 6;
const WITH_TOPIC_IDS: i16 = 10;
const WITH_TOPIC_NAMES: i16 = 9;
/// First version whose clients come again after COORDINATOR_LOAD_IN_PROGRESS.
const LOAD_IN_PROGRESS_FROM: i16 = 2;

/// The offsets as an OffsetCommit, and its version.
pub(crate) fn request(request: TxnOffsetCommitRequest, version: i16) -> (OffsetCommitRequest, i16) {
    let version = match version >= TOPIC_IDS_FROM {
        true => WITH_TOPIC_IDS,
        false => WITH_TOPIC_NAMES,
    };
    let plain = OffsetCommitRequest {
        group_id: request.group_id,
        generation_id_or_member_epoch: request.generation_id_or_member_epoch,
        member_id: request.member_id,
        group_instance_id: request.group_instance_id,
        topics: request.topics.into_iter().map(topic).collect(),
        ..Default::default()
    };
    (plain, version)
}

fn topic(topic: TxnOffsetCommitRequestTopic) -> OffsetCommitRequestTopic {
    let partitions = topic.partitions.into_iter();
    OffsetCommitRequestTopic {
        name: topic.name,
        topic_id: topic.topic_id,
        partitions: partitions
            .map(|partition| OffsetCommitRequestPartition {
                partition_index: partition.partition_index,
                committed_offset: partition.committed_offset,
                committed_leader_epoch: partition.committed_leader_epoch,
                committed_metadata: partition.committed_metadata,
            })
            .collect(),
    }
}

pub(crate) fn response(response: OffsetCommitResponse, version: i16) -> TxnOffsetCommitResponse {
    let known = |code: i16| match ErrorCode::CoordinatorLoadInProgress.code() == code {
        true if version < LOAD_IN_PROGRESS_FROM => ErrorCode::CoordinatorNotAvailable.code(),
        _ => code,
    };
    let topics = response.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter();
        TxnOffsetCommitResponseTopic {
            name: topic.name,
            topic_id: topic.topic_id,
            partitions: partitions
                .map(|partition| TxnOffsetCommitResponsePartition {
                    partition_index: partition.partition_index,
                    error_code: known(partition.error_code),
                })
                .collect(),
        }
    });
    TxnOffsetCommitResponse {
        topics: topics.collect(),
        ..Default::default()
    }
}
