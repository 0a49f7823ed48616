//! OffsetDelete: partitions that do not exist are refused before the group is asked.

use milena_base::ErrorCode;
use milena_protocol::OffsetDeleteRequest;
use milena_protocol::offset_delete_request::OffsetDeleteRequestPartition;
use milena_protocol::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};

use crate::api::Topics;

/// Leaves in the request what exists, and returns the answer for the rest.
pub(crate) fn split(
    request: &mut OffsetDeleteRequest,
    topics: &dyn Topics,
) -> Vec<OffsetDeleteResponseTopic> {
    let mut refused = Vec::new();
    request.topics.retain_mut(|topic| {
        let name = topic.name.clone();
        let exists =
            |p: &OffsetDeleteRequestPartition| topics.has_partition(&name, p.partition_index);
        let unknown = topic.partitions.iter().filter(|p| !exists(p));
        let unknown: Vec<_> = unknown
            .map(|partition| OffsetDeleteResponsePartition {
                partition_index: partition.partition_index,
                error_code: ErrorCode::UnknownTopicOrPartition.code(),
            })
            .collect();
        topic.partitions.retain(exists);
        if !unknown.is_empty() {
            refused.push(OffsetDeleteResponseTopic {
                name: topic.name.clone(),
                partitions: unknown,
            });
        }
        !topic.partitions.is_empty()
    });
    refused
}

/// What was refused first, then what the group answered.
pub(crate) fn merge(
    mut refused: Vec<OffsetDeleteResponseTopic>,
    answered: Vec<OffsetDeleteResponseTopic>,
) -> Vec<OffsetDeleteResponseTopic> {
    for topic in answered {
        match refused.iter_mut().find(|there| there.name == topic.name) {
            Some(there) => there.partitions.extend(topic.partitions),
            None => refused.push(topic),
        }
    }
    refused
}
