//! DescribeCluster (KIP-700). v1: brokers or controllers. v2: fenced brokers too.

use milena_base::ErrorCode;
use milena_protocol::describe_cluster_response::DescribeClusterBroker;
use milena_protocol::{DescribeClusterRequest, DescribeClusterResponse};

use crate::api::ListenerKind;
use crate::broker::Broker;
use crate::ctx::{Ctx, Outbox, Reply};
use crate::operations;

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub(super) fn handle(
    broker: &Broker,
    ctx: &Ctx,
    request: DescribeClusterRequest,
    _out: &mut Outbox,
) -> Reply {
    let kind = broker.listener_kind(ctx.listener);
    let mut response = DescribeClusterResponse {
        endpoint_type: request.endpoint_type,
        cluster_id: broker.cluster_id().to_owned().into(),
        ..DescribeClusterResponse::default()
    };
    let asks_for = match request.endpoint_type {
        BROKERS => ListenerKind::Broker,
        CONTROLLERS => ListenerKind::Controller,
        other => {
            response.error_code = ErrorCode::UnsupportedEndpointType.code();
            response.error_message = Some(format!("Unsupported endpoint type {other}").into());
            return ctx.now_frame(&response);
        }
    };
    if asks_for != kind {
        response.error_code = ErrorCode::MismatchedEndpointType.code();
        let why = "The request was sent to an endpoint of the wrong type.";
        response.error_message = Some(why.into());
        return ctx.now_frame(&response);
    }
    let listener = broker.listener_name(ctx.listener);
    match kind {
        ListenerKind::Broker => brokers(broker, listener, request.include_fenced_brokers, &mut response),
        ListenerKind::Controller => controllers(broker, listener, &mut response),
    }
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = operations::CLUSTER;
    }
    ctx.now_frame(&response)
}

fn brokers(broker: &Broker, listener: &str, fenced: bool, response: &mut DescribeClusterResponse) {
    let image = broker.image();
    response.controller_id = broker.any_alive_broker(&image);
    let wanted = image.cluster.brokers.values().filter(|b| fenced || !b.fenced);
    let rows = wanted.filter_map(|node| {
        let endpoint = node.listeners.get(listener)?;
        Some(DescribeClusterBroker {
            broker_id: node.id,
            host: endpoint.host.clone(),
            port: i32::from(endpoint.port),
            rack: node.rack.clone(),
            is_fenced: node.fenced,
        })
    });
    response.brokers = rows.collect();
}

fn controllers(broker: &Broker, listener: &str, response: &mut DescribeClusterResponse) {
    let image = broker.image();
    response.controller_id = broker.active_controller();
    let rows = image.cluster.controllers.values().filter_map(|node| {
        let endpoint = node.listeners.get(listener)?;
        Some(DescribeClusterBroker {
            broker_id: node.id,
            host: endpoint.host.clone(),
            port: i32::from(endpoint.port),
            ..DescribeClusterBroker::default()
        })
    });
    response.brokers = rows.collect();
}
