//! DeleteRecords. v2: flexible. −1 stands for the high watermark.

use milena_base::{ErrorCode, Offset, TopicIdPartition};
use milena_protocol::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use milena_protocol::{DeleteRecordsRequest, DeleteRecordsResponse, Str};
use milena_replica::AppendRefused;

use crate::broker::Broker;
use crate::ctx::{Ctx, Outbox, Reply};

pub(super) fn handle(
    broker: &Broker,
    ctx: &Ctx,
    request: DeleteRecordsRequest,
    out: &mut Outbox,
) -> Reply {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let before = Offset(partition.offset);
            let result = delete(broker, &topic.name, partition.partition_index, before, out);
            let (low_watermark, code) = match result {
                Ok(start) => (start.0, ErrorCode::None),
                Err(code) => (-1, code),
            };
            partitions.push(DeleteRecordsPartitionResult {
                partition_index: partition.partition_index,
                low_watermark,
                error_code: code.code(),
            });
        }
        topics.push(DeleteRecordsTopicResult {
            name: topic.name.clone(),
            partitions,
        });
    }
    ctx.now_frame(&DeleteRecordsResponse {
        topics,
        ..DeleteRecordsResponse::default()
    })
}

fn delete(
    broker: &Broker,
    topic: &Str,
    index: i32,
    before: Offset,
    out: &mut Outbox,
) -> Result<Offset, ErrorCode> {
    let topic_id = broker
        .topic_id(topic)
        .ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let id = TopicIdPartition::new(topic_id, index);
    let hosted = broker.hosted(id).ok_or_else(|| broker.why_not_hosted(id))?;
    if !hosted.rules().deletes {
        return Err(ErrorCode::PolicyViolation);
    }
    hosted
        .partition
        .delete_records(before)
        .map_err(|refused| match refused {
            AppendRefused::Refused(code, _) => code,
            AppendRefused::Fault(fault) => {
                broker.on_fault(fault, out);
                ErrorCode::KafkaStorageError
            }
        })
}
