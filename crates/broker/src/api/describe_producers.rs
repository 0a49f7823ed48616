//! DescribeProducers (KIP-664): what a partition's leader knows of its idempotent and transactional producers.

use milena_base::{ErrorCode, TopicIdPartition};
use milena_protocol::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use milena_protocol::{DescribeProducersRequest, DescribeProducersResponse, Str};

use crate::broker::Broker;
use crate::ctx::{Ctx, Outbox, Reply};

pub(super) fn handle(
    broker: &Broker,
    ctx: &Ctx,
    request: DescribeProducersRequest,
    _out: &mut Outbox,
) -> Reply {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partition_indexes.iter().map(|&index| {
            let found = producers(broker, &topic.name, index);
            let (code, active_producers) = match found {
                Ok(producers) => (ErrorCode::None, producers),
                Err(code) => (code, Vec::new()),
            };
            PartitionResponse {
                partition_index: index,
                error_code: code.code(),
                active_producers,
                ..PartitionResponse::default()
            }
        });
        TopicResponse {
            name: topic.name.clone(),
            partitions: partitions.collect(),
        }
    });
    ctx.now_frame(&DescribeProducersResponse {
        topics: topics.collect(),
        ..DescribeProducersResponse::default()
    })
}

fn producers(broker: &Broker, topic: &Str, index: i32) -> Result<Vec<ProducerState>, ErrorCode> {
    let topic_id = broker
        .topic_id(topic)
        .ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let id = TopicIdPartition::new(topic_id, index);
    let hosted = broker.hosted(id).ok_or_else(|| broker.why_not_hosted(id))?;
    hosted.partition.leader_view()?;
    let found = hosted.partition.with_log(|log| {
        let entries = log.active_producers();
        entries
            .map(|entry| ProducerState {
                producer_id: entry.producer_id,
                producer_epoch: i32::from(entry.producer_epoch),
                last_sequence: entry.last_sequence(),
                last_timestamp: entry.last_timestamp.0,
                coordinator_epoch: entry.coordinator_epoch,
                current_txn_start_offset: entry.txn_first_offset.map_or(-1, |offset| offset.0),
            })
            .collect()
    });
    found.ok_or(ErrorCode::KafkaStorageError)
}
