//! FindCoordinator. v1: groups or transactions. v4: many keys at once. v5: TV2's new error. v6: share groups.

use milena_base::ErrorCode;
use milena_image::Image;
use milena_protocol::find_coordinator_response::Coordinator;
use milena_protocol::{FindCoordinatorRequest, FindCoordinatorResponse, Str};

use crate::broker::Broker;
use crate::ctx::{Ctx, Outbox, Reply};
use crate::topics;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

pub(super) fn handle(
    broker: &Broker,
    ctx: &Ctx,
    request: FindCoordinatorRequest,
    out: &mut Outbox,
) -> Reply {
    let batched = ctx.version() >= 4;
    let keys = match batched {
        true => request.coordinator_keys,
        false => vec![request.key],
    };
    let found: Vec<Coordinator> = keys
        .into_iter()
        .map(|key| find(broker, ctx, request.key_type, key, out))
        .collect();
    if batched {
        return ctx.now_frame(&FindCoordinatorResponse {
            coordinators: found,
            ..FindCoordinatorResponse::default()
        });
    }
    let only = found.into_iter().next().expect("one key was asked for");
    ctx.now_frame(&FindCoordinatorResponse {
        error_code: only.error_code,
        error_message: only.error_message,
        node_id: only.node_id,
        host: only.host,
        port: only.port,
        ..FindCoordinatorResponse::default()
    })
}

fn find(broker: &Broker, ctx: &Ctx, kind: i8, key: Str, out: &mut Outbox) -> Coordinator {
    let image = broker.image();
    let located = match kind {
        GROUP => locate(broker, ctx, &image, topics::CONSUMER_OFFSETS, &key, out),
        TRANSACTION => locate(broker, ctx, &image, topics::TRANSACTION_STATE, &key, out),
        // Share groups have no coordinator here yet.
        2 => Err(ErrorCode::CoordinatorNotAvailable),
        _ => Err(ErrorCode::InvalidRequest),
    };
    match located {
        Ok((node_id, host, port)) => Coordinator {
            key,
            node_id,
            host,
            port,
            error_message: (ctx.version() < 4).then(|| "NONE".into()),
            ..Coordinator::default()
        },
        Err(code) => Coordinator {
            key,
            node_id: -1,
            port: -1,
            error_code: code.code(),
            error_message: Some(message(code).into()),
            ..Coordinator::default()
        },
    }
}

fn message(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::CoordinatorNotAvailable => "The coordinator is not available.",
        ErrorCode::InvalidGroupId => "The group id is invalid.",
        _ => "The coordinator type is not known.",
    }
}

fn locate(
    broker: &Broker,
    ctx: &Ctx,
    image: &Image,
    log: &'static str,
    key: &Str,
    out: &mut Outbox,
) -> Result<(i32, Str, i32), ErrorCode> {
    let unavailable = ErrorCode::CoordinatorNotAvailable;
    let Some(topic) = image.topics.named(log) else {
        broker.auto_create(ctx, &[log.into()], out);
        return Err(unavailable);
    };
    let count = topic.partitions.len() as i32;
    let index = milena_coordinator::partition_for(key, count);
    let partition = topic.partitions.get(&index).ok_or(unavailable)?;
    let leader = image.cluster.broker(partition.leader).ok_or(unavailable)?;
    if leader.fenced {
        return Err(unavailable);
    }
    let listener = broker.listener_name(ctx.listener);
    let endpoint = leader.listeners.get(listener).ok_or(unavailable)?;
    Ok((leader.id, endpoint.host.clone(), i32::from(endpoint.port)))
}
