//! OffsetCommit: topics that do not exist are refused before the group is asked. v10: topics by id.

use milena_base::ErrorCode;
use milena_protocol::OffsetCommitRequest;
use milena_protocol::offset_commit_request::OffsetCommitRequestTopic;
use milena_protocol::offset_commit_response::OffsetCommitResponseTopic;

use crate::api::Topics;
use crate::offsets::commit::partition_errors;

/// First version that names topics by id.
const TOPIC_IDS_FROM: i16 = 10;

/// Leaves in the request what exists, with name and id, and returns the answer for the rest.
pub(crate) fn split(
    request: &mut OffsetCommitRequest,
    version: i16,
    topics: &dyn Topics,
) -> Vec<OffsetCommitResponseTopic> {
    let mut refused = Vec::new();
    let asked = std::mem::take(&mut request.topics);
    for mut topic in asked {
        if let Err(error) = identify(&mut topic, version, topics) {
            let partitions = partition_errors(&topic.partitions, error);
            refuse(&mut refused, &topic, partitions);
            continue;
        }
        let partitions = std::mem::take(&mut topic.partitions);
        let exists = |p: &_| {
            let p: &milena_protocol::offset_commit_request::OffsetCommitRequestPartition = p;
            topics.has_partition(&topic.name, p.partition_index)
        };
        let (known, unknown): (Vec<_>, Vec<_>) = partitions.into_iter().partition(exists);
        if !unknown.is_empty() {
            let partitions = partition_errors(&unknown, ErrorCode::UnknownTopicOrPartition);
            refuse(&mut refused, &topic, partitions);
        }
        if !known.is_empty() {
            topic.partitions = known;
            request.topics.push(topic);
        }
    }
    refused
}

/// Completes name and id of a topic.
fn identify(
    topic: &mut OffsetCommitRequestTopic,
    version: i16,
    topics: &dyn Topics,
) -> Result<(), ErrorCode> {
    if version >= TOPIC_IDS_FROM {
        topic.name = topics
            .name(topic.topic_id)
            .ok_or(ErrorCode::UnknownTopicId)?;
    } else {
        let id = topics.id(&topic.name);
        topic.topic_id = id.ok_or(ErrorCode::UnknownTopicOrPartition)?;
    }
    Ok(())
}

fn refuse(
    refused: &mut Vec<OffsetCommitResponseTopic>,
    topic: &OffsetCommitRequestTopic,
    partitions: Vec<milena_protocol::offset_commit_response::OffsetCommitResponsePartition>,
) {
    refused.push(OffsetCommitResponseTopic {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partitions,
    });
}

/// What was refused first, then what the group answered; a topic that is in both stands once.
pub(crate) fn merge(
    mut refused: Vec<OffsetCommitResponseTopic>,
    answered: Vec<OffsetCommitResponseTopic>,
) -> Vec<OffsetCommitResponseTopic> {
    if refused.is_empty() {
        return answered;
    }
    for topic in answered {
        let same = |t: &&mut OffsetCommitResponseTopic| {
            t.name == topic.name && t.topic_id == topic.topic_id
        };
        match refused.iter_mut().find(same) {
            Some(there) => there.partitions.extend(topic.partitions),
            None => refused.push(topic),
        }
    }
    refused
}
