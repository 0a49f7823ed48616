//! TxnOffsetCommit. v4: TRANSACTION_ABORTABLE. v5: the partition of the group's offsets joins the transaction by it.
//! v6: topics by id.
//!
//! Before the group is asked, the coordinator of the transaction is, unless the transaction is open there already.

use milena_base::{ErrorCode, TopicIdPartition, TopicPartition};
use milena_protocol::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use milena_protocol::{TxnOffsetCommitRequest, TxnOffsetCommitResponse};
use milena_replica::{Guard, Verification, Vouched};

use crate::broker::Broker;
use crate::ctx::{Ctx, Outbox, Reply};
use crate::groups::GroupsEvent;
use crate::topics;
use crate::transactions::TxnEvent;
use crate::verification::{Held, Question, Support};

pub(super) fn handle(
    broker: &Broker,
    ctx: &Ctx,
    request: TxnOffsetCommitRequest,
    out: &mut Outbox,
) -> Reply {
    let support = Support::of_offset_commit(ctx.version());
    let index = broker.offsets_partition(&request.group_id);
    let vouched = match broker.verifies(support) {
        true => begin(broker, &request, index),
        // A partition that is not here is refused by the groups.
        false => Ok(Verification::NotNeeded),
    };
    match vouched {
        Ok(Verification::Ask(guard)) => out.post(TxnEvent::Ask(Box::new(Question {
            transactional_id: request.transactional_id.detached(),
            producer_id: request.producer_id,
            producer_epoch: request.producer_epoch,
            partitions: vec![TopicPartition::new(topics::CONSUMER_OFFSETS, index)],
            support,
            held: Held::Offsets {
                ctx: Box::new(ctx.clone()),
                request: Box::new(request),
                guard,
            },
        }))),
        Ok(Verification::NotNeeded) | Err(_) => {
            let vouched = match broker.verifies(support) {
                true => Vouched::ByOpenTransaction,
                false => Vouched::Unasked,
            };
            let (ctx, request) = (Box::new(ctx.clone()), Box::new(request));
            out.post(GroupsEvent::TxnOffsetCommit {
                ctx,
                request,
                vouched,
            });
        }
    }
    Reply::Parked
}

fn begin(
    broker: &Broker,
    request: &TxnOffsetCommitRequest,
    index: i32,
) -> Result<Verification, ErrorCode> {
    let id = broker.topic_id(topics::CONSUMER_OFFSETS);
    let id = id.ok_or(ErrorCode::NotCoordinator)?;
    let hosted = broker.hosted(TopicIdPartition::new(id, index));
    let hosted = hosted.ok_or(ErrorCode::NotCoordinator)?;
    hosted
        .partition
        .begin_verification(request.producer_id, request.producer_epoch)
}

/// The coordinator of the transaction has answered.
pub(crate) fn resume(
    ctx: Box<Ctx>,
    request: Box<TxnOffsetCommitRequest>,
    guard: Guard,
    error: Option<ErrorCode>,
    out: &mut Outbox,
) {
    match error {
        None => out.post(GroupsEvent::TxnOffsetCommit {
            ctx,
            request,
            vouched: Vouched::By(guard),
        }),
        // Older clients don't try again on the error of a connection.
        Some(ErrorCode::NetworkException) => {
            out.reply(ctx.to, &refused(&request, ErrorCode::CoordinatorLoadInProgress));
        }
        Some(error) => out.reply(ctx.to, &refused(&request, error)),
    }
}

fn refused(request: &TxnOffsetCommitRequest, error: ErrorCode) -> TxnOffsetCommitResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter();
        TxnOffsetCommitResponseTopic {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            partitions: partitions
                .map(|partition| TxnOffsetCommitResponsePartition {
                    partition_index: partition.partition_index,
                    error_code: error.code(),
                })
                .collect(),
        }
    });
    TxnOffsetCommitResponse {
        topics: topics.collect(),
        ..Default::default()
    }
}
