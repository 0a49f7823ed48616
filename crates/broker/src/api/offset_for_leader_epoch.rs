//! OffsetForLeaderEpoch (KIP-101, KIP-320). v2: the reader's leader epoch is checked. v3: replica id. v4: flexible.

use milena_base::{Epoch, ErrorCode, TopicIdPartition};
use milena_protocol::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use milena_protocol::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use milena_protocol::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, Str};

use crate::broker::Broker;
use crate::ctx::{Ctx, Outbox, Reply};

pub(super) fn handle(
    broker: &Broker,
    ctx: &Ctx,
    request: OffsetForLeaderEpochRequest,
    _out: &mut Outbox,
) -> Reply {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|wanted| {
            let found = end_of(broker, &topic.topic, wanted);
            let (code, epoch, end) = match found {
                Ok((epoch, end)) => (ErrorCode::None, epoch, end),
                Err(code) => (code, -1, -1),
            };
            EpochEndOffset {
                error_code: code.code(),
                partition: wanted.partition,
                leader_epoch: epoch,
                end_offset: end,
            }
        });
        OffsetForLeaderTopicResult {
            topic: topic.topic.clone(),
            partitions: partitions.collect(),
        }
    });
    ctx.now_frame(&OffsetForLeaderEpochResponse {
        topics: topics.collect(),
        ..OffsetForLeaderEpochResponse::default()
    })
}

fn end_of(
    broker: &Broker,
    topic: &Str,
    wanted: &OffsetForLeaderPartition,
) -> Result<(i32, i64), ErrorCode> {
    let topic_id = broker
        .topic_id(topic)
        .ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let id = TopicIdPartition::new(topic_id, wanted.partition);
    let hosted = broker.hosted(id).ok_or_else(|| broker.why_not_hosted(id))?;
    let asked = Epoch(wanted.leader_epoch);
    let found = hosted
        .partition
        .end_of_epoch(asked, wanted.current_leader_epoch)?;
    Ok(found.map_or((-1, -1), |(epoch, end)| (epoch.0, end.0)))
}
