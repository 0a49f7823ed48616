//! OffsetFetch: one group before v8, several since. v10: topics by id.

use milena_base::ErrorCode;
use milena_protocol::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use milena_protocol::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use milena_protocol::{OffsetFetchRequest, OffsetFetchResponse, Str};

use crate::api::Topics;

/// First version with a list of groups.
const GROUPS_FROM: i16 = 8;
/// First version that names topics by id.
const TOPIC_IDS_FROM: i16 = 10;
/// First version with an error of the whole group.
const GROUP_ERROR_FROM: i16 = 2;

/// What of one group's question the answer is made of, beside what the shard says.
#[derive(Debug, Default)]
pub(crate) struct HeldTopics {
    /// Topics whose id nobody knows.
    refused: Vec<OffsetFetchResponseTopics>,
    /// What was asked for, where the version has no other place for an error.
    asked: Vec<OffsetFetchRequestTopics>,
    /// All topics were asked for.
    all: bool,
}

/// The question for each group, whatever the version.
pub(crate) fn groups(
    request: OffsetFetchRequest,
    version: i16,
    topics: &dyn Topics,
) -> Vec<(OffsetFetchRequestGroup, HeldTopics)> {
    if version < GROUPS_FROM {
        let one = OffsetFetchRequestGroup {
            group_id: request.group_id,
            topics: request
                .topics
                .map(|topics| topics.into_iter().map(modern).collect()),
            ..Default::default()
        };
        let mut held = HeldTopics {
            all: one.topics.is_none(),
            ..Default::default()
        };
        if version < GROUP_ERROR_FROM {
            held.asked = one.topics.clone().unwrap_or_default();
        }
        return vec![(one, held)];
    }
    let groups = request.groups.into_iter();
    let split = |group| match version >= TOPIC_IDS_FROM {
        true => name_topics(group, topics),
        false => (group, HeldTopics::default()),
    };
    groups.map(split).collect()
}

fn modern(topic: OffsetFetchRequestTopic) -> OffsetFetchRequestTopics {
    OffsetFetchRequestTopics {
        name: topic.name,
        partition_indexes: topic.partition_indexes,
        ..Default::default()
    }
}

/// Leaves in the question the topics whose id is known.
fn name_topics(
    mut group: OffsetFetchRequestGroup,
    topics: &dyn Topics,
) -> (OffsetFetchRequestGroup, HeldTopics) {
    let mut held = HeldTopics {
        all: group.topics.is_none(),
        ..Default::default()
    };
    let asked = group.topics.iter_mut();
    for list in asked {
        list.retain_mut(|topic| match topics.name(topic.topic_id) {
            Some(name) => {
                topic.name = name;
                true
            }
            None => {
                held.refused
                    .push(topic_error(topic, ErrorCode::UnknownTopicId));
                false
            }
        });
    }
    (group, held)
}

fn topic_error(topic: &OffsetFetchRequestTopics, error: ErrorCode) -> OffsetFetchResponseTopics {
    let failed = |&partition_index: &i32| OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: -1,
        committed_leader_epoch: -1,
        metadata: Some(Str::EMPTY),
        error_code: error.code(),
    };
    OffsetFetchResponseTopics {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partitions: topic.partition_indexes.iter().map(failed).collect(),
    }
}

/// The answer in the request's version; the groups stand in the order of the questions.
pub(crate) fn answer(
    groups: Vec<(OffsetFetchResponseGroup, HeldTopics)>,
    version: i16,
    topics: &dyn Topics,
) -> OffsetFetchResponse {
    let finished = groups
        .into_iter()
        .map(|(group, held)| finish(group, held, version, topics));
    if version >= GROUPS_FROM {
        return OffsetFetchResponse {
            groups: finished.collect(),
            ..Default::default()
        };
    }
    let Some(group) = finished.into_iter().next() else {
        return OffsetFetchResponse::default();
    };
    OffsetFetchResponse {
        error_code: match version >= GROUP_ERROR_FROM {
            true => group.error_code,
            false => 0,
        },
        topics: group.topics.into_iter().map(old).collect(),
        ..Default::default()
    }
}

fn finish(
    mut group: OffsetFetchResponseGroup,
    held: HeldTopics,
    version: i16,
    topics: &dyn Topics,
) -> OffsetFetchResponseGroup {
    if group.error_code != 0 {
        let error = ErrorCode::from_code(group.error_code).unwrap_or(ErrorCode::UnknownServerError);
        let errors = held.asked.iter().map(|topic| topic_error(topic, error));
        group.topics = errors.collect();
        return group;
    }
    if held.all && version >= TOPIC_IDS_FROM {
        group
            .topics
            .retain_mut(|topic| match topics.id(&topic.name) {
                Some(id) => {
                    topic.topic_id = id;
                    true
                }
                None => false,
            });
    }
    group.topics.extend(held.refused);
    group
}

fn old(topic: OffsetFetchResponseTopics) -> OffsetFetchResponseTopic {
    let partitions = topic
        .partitions
        .into_iter()
        .map(|p| OffsetFetchResponsePartition {
            partition_index: p.partition_index,
            committed_offset: p.committed_offset,
            committed_leader_epoch: p.committed_leader_epoch,
            metadata: p.metadata,
            error_code: p.error_code,
        });
    OffsetFetchResponseTopic {
        name: topic.name,
        partitions: partitions.collect(),
    }
}
