//! InitProducerId. v3: a producer may bring the id and epoch that it had. v4: PRODUCER_FENCED. v6: two-phase commit.

use milena_base::ErrorCode;
use milena_protocol::InitProducerIdRequest;

use crate::broker::Broker;
use crate::ctx::{Ctx, Outbox, Reply};
use crate::producer_ids;
use crate::transactions::TxnEvent;

pub(super) fn handle(
    broker: &Broker,
    ctx: &Ctx,
    request: InitProducerIdRequest,
    out: &mut Outbox,
) -> Reply {
    let both_or_none = (request.producer_id == -1) == (request.producer_epoch == -1);
    let named = request.transactional_id.as_ref();
    if !both_or_none || named.is_some_and(|id| id.is_empty()) {
        return ctx.now_frame(&producer_ids::refused(ErrorCode::InvalidRequest));
    }
    match named {
        None => producer_ids::answer_with_fresh(broker, ctx.to, out),
        Some(_) => out.post(TxnEvent::Request {
            ctx: Box::new(ctx.clone()),
            request: request.into(),
        }),
    }
    Reply::Parked
}
