//! ListConfigResources (KIP-1142). v0: client-metrics subscriptions only. v1: every kind that has configs.

use std::collections::BTreeSet;

use milena_base::ErrorCode;
use milena_image::{ConfigResource, Image};
use milena_protocol::list_config_resources_response::ConfigResource as Row;
use milena_protocol::{ListConfigResourcesRequest, ListConfigResourcesResponse, Str};

use crate::broker::Broker;
use crate::ctx::{Ctx, Outbox, Reply};

const SUPPORTED: [i8; 5] = [
    ConfigResource::TOPIC,
    ConfigResource::BROKER,
    ConfigResource::BROKER_LOGGER,
    ConfigResource::CLIENT_METRICS,
    ConfigResource::GROUP,
];

pub(super) fn handle(
    broker: &Broker,
    ctx: &Ctx,
    request: ListConfigResourcesRequest,
    _out: &mut Outbox,
) -> Reply {
    let wanted: BTreeSet<i8> = match (ctx.version(), request.resource_types.is_empty()) {
        (0, _) => [ConfigResource::CLIENT_METRICS].into(),
        (_, true) => SUPPORTED.into(),
        (_, false) => request.resource_types.into_iter().collect(),
    };
    if wanted.iter().any(|kind| !SUPPORTED.contains(kind)) {
        return ctx.now_frame(&ListConfigResourcesResponse {
            error_code: ErrorCode::UnsupportedVersion.code(),
            ..ListConfigResourcesResponse::default()
        });
    }
    let image = broker.image();
    let rows = wanted.into_iter().flat_map(|kind| {
        names(&image, kind).into_iter().map(move |name| Row {
            resource_name: name,
            resource_type: kind,
        })
    });
    ctx.now_frame(&ListConfigResourcesResponse {
        config_resources: rows.collect(),
        ..ListConfigResourcesResponse::default()
    })
}

fn names(image: &Image, kind: i8) -> Vec<Str> {
    let brokers = || image.cluster.brokers.keys().map(|id| Str::from(id.to_string()));
    match kind {
        ConfigResource::TOPIC => image.topics.by_name().map(|t| t.name.clone()).collect(),
        ConfigResource::BROKER | ConfigResource::BROKER_LOGGER => brokers().collect(),
        _ => {
            let all = image.configs.iter();
            let mine = all.filter(|(resource, _)| resource.kind == kind);
            mine.map(|(resource, _)| resource.name.clone()).collect()
        }
    }
}
