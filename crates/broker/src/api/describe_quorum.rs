//! DescribeQuorum (KIP-836). v1: fetch times. v2: directory ids and the voters' endpoints. The quorum's mailbox
//! answers.

use milena_protocol::DescribeQuorumRequest;

use crate::broker::Broker;
use crate::ctx::{Ctx, Outbox, Reply};
use crate::quorum::QuorumEvent;

pub(super) fn handle(
    _broker: &Broker,
    ctx: &Ctx,
    request: DescribeQuorumRequest,
    out: &mut Outbox,
) -> Reply {
    out.post(QuorumEvent::DescribeQuorum {
        to: ctx.to,
        request,
    });
    Reply::Parked
}
