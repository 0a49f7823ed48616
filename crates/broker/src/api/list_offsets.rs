//! ListOffsets. v2: isolation level. v4: leader epochs both ways. v6: flexible. v7: -3, the largest timestamp.
//! v8: -4, the first local offset. v9: -5, the last tiered offset. v10: a timeout. v11: -6, the first offset that is
//! not tiered yet.

use std::collections::BTreeSet;

use milena_base::{ErrorCode, Offset, TopicIdPartition};
use milena_protocol::list_offsets_request::ListOffsetsPartition;
use milena_protocol::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use milena_protocol::{ListOffsetsRequest, ListOffsetsResponse, Str};
use milena_replica::{Isolation, Lookup, ReadRefused};

use crate::broker::Broker;
use crate::ctx::{Ctx, Outbox, Reply};

pub(super) fn handle(
    broker: &Broker,
    ctx: &Ctx,
    request: ListOffsetsRequest,
    out: &mut Outbox,
) -> Reply {
    let reads_as = match (request.replica_id, request.isolation_level) {
        (0.., _) => None,
        (_, 1) => Some(Isolation::ReadCommitted),
        (_, _) => Some(Isolation::ReadUncommitted),
    };
    let twice = named_twice(&request);
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let index = partition.partition_index;
            let found = match twice.contains(&(topic.name.clone(), index)) {
                true => Err(ErrorCode::InvalidRequest),
                false => look_up(broker, ctx, &topic.name, partition, reads_as, out),
            };
            partitions.push(found.unwrap_or_else(|code| refused(index, code)));
        }
        topics.push(ListOffsetsTopicResponse {
            name: topic.name.clone(),
            partitions,
        });
    }
    ctx.now_frame(&ListOffsetsResponse {
        topics,
        ..ListOffsetsResponse::default()
    })
}

fn named_twice(request: &ListOffsetsRequest) -> BTreeSet<(Str, i32)> {
    let (mut seen, mut twice) = (BTreeSet::new(), BTreeSet::new());
    for topic in &request.topics {
        for partition in &topic.partitions {
            let key = (topic.name.clone(), partition.partition_index);
            if !seen.insert(key.clone()) {
                twice.insert(key);
            }
        }
    }
    twice
}

fn lookup(timestamp: i64, version: i16) -> Result<Lookup, ErrorCode> {
    let (lookup, since) = match timestamp {
        -1 => (Lookup::Latest, 1),
        -2 => (Lookup::Earliest, 1),
        -3 => (Lookup::MaxTimestamp, 7),
        -4 => (Lookup::Earliest, 8),
        -5 | -6 => (Lookup::Tiered, if timestamp == -5 { 9 } else { 11 }),
        0.. => (Lookup::Timestamp(milena_base::Timestamp(timestamp)), 0),
        _ => return Err(ErrorCode::UnsupportedVersion),
    };
    match version >= since {
        true => Ok(lookup),
        false => Err(ErrorCode::UnsupportedVersion),
    }
}

fn look_up(
    broker: &Broker,
    ctx: &Ctx,
    topic: &Str,
    wanted: &ListOffsetsPartition,
    reads_as: Option<Isolation>,
    out: &mut Outbox,
) -> Result<ListOffsetsPartitionResponse, ErrorCode> {
    let lookup = match (lookup(wanted.timestamp, ctx.version())?, reads_as) {
        (Lookup::Latest, None) => Lookup::LogEnd,
        (lookup, _) => lookup,
    };
    let isolation = reads_as.unwrap_or(Isolation::ReadUncommitted);
    let topic_id = broker
        .topic_id(topic)
        .ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let id = TopicIdPartition::new(topic_id, wanted.partition_index);
    let hosted = broker.hosted(id).ok_or_else(|| broker.why_not_hosted(id))?;
    let found = hosted
        .partition
        .look_up(lookup, isolation, wanted.current_leader_epoch);
    let found = found.map_err(|refused| match refused {
        ReadRefused::Code(ErrorCode::OffsetNotAvailable) if ctx.version() < 5 => {
            ErrorCode::LeaderNotAvailable
        }
        ReadRefused::Code(code) => code,
        ReadRefused::Fault(fault) => {
            broker.on_fault(fault, out);
            ErrorCode::KafkaStorageError
        }
    })?;
    let mut answer = ListOffsetsPartitionResponse {
        partition_index: wanted.partition_index,
        ..ListOffsetsPartitionResponse::default()
    };
    if let Some(found) = found {
        answer.offset = found.offset.0;
        answer.timestamp = found.timestamp.0;
        if ctx.version() >= 4 {
            answer.leader_epoch = found.epoch.0;
        }
    }
    Ok(answer)
}

fn refused(index: i32, code: ErrorCode) -> ListOffsetsPartitionResponse {
    ListOffsetsPartitionResponse {
        partition_index: index,
        error_code: code.code(),
        offset: Offset::NONE.0,
        ..ListOffsetsPartitionResponse::default()
    }
}
