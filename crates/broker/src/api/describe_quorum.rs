//! DescribeQuorum (KIP-836). v1: fetch times. v2: directory ids and the voters' endpoints. The quorum's leader answers; a
//! broker passes the request on to it.

use milena_protocol::DescribeQuorumRequest;
use milena_raft::RaftRequest;

use crate::broker::Broker;
use crate::ctx::{Ctx, Outbox, Reply};

pub(super) fn handle(
    broker: &Broker,
    ctx: &Ctx,
    request: DescribeQuorumRequest,
    out: &mut Outbox,
) -> Reply {
    super::to_quorum(broker, ctx, RaftRequest::DescribeQuorum(request), out)
}
