//! InitProducerId. v3: a producer may bring the id and epoch that it had. Transactional ids have no coordinator here
//! yet.

use milena_base::ErrorCode;
use milena_protocol::InitProducerIdRequest;

use crate::broker::Broker;
use crate::ctx::{Ctx, Outbox, Reply};
use crate::producer_ids;

pub(super) fn handle(
    broker: &Broker,
    ctx: &Ctx,
    request: InitProducerIdRequest,
    out: &mut Outbox,
) -> Reply {
    match &request.transactional_id {
        Some(id) if id.is_empty() => {
            return ctx.now_frame(&producer_ids::refused(ErrorCode::InvalidRequest));
        }
        Some(_) => {
            return ctx.now_frame(&producer_ids::refused(ErrorCode::CoordinatorNotAvailable));
        }
        None => {}
    }
    let both_or_none = (request.producer_id == -1) == (request.producer_epoch == -1);
    if !both_or_none {
        return ctx.now_frame(&producer_ids::refused(ErrorCode::InvalidRequest));
    }
    producer_ids::answer_with_fresh(broker, ctx.to, out);
    Reply::Parked
}
