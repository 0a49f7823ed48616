//! ApiVersions. v3: flexible body, features, client software. v4: levels of 0 in supported features. v5: the client
//! may name the node that it means to reach.
//!
//! A version that is not spoken is answered in version 0, so that the client can come back with one that is
//! (KIP-35, KIP-511).

use std::collections::BTreeMap;

use milena_base::ErrorCode;
use milena_image::{Features, KRAFT_VERSION, METADATA_VERSION};
use milena_net::Frame;
use milena_protocol::api_versions_response::{
    ApiVersion, FinalizedFeatureKey, SupportedFeatureKey,
};
use milena_protocol::{ApiKey, ApiVersionsRequest, ApiVersionsResponse, Str};

use crate::api::{self, ListenerKind};
use crate::broker::Broker;
use crate::ctx::{Ctx, Outbox, Reply};

pub(super) fn handle(
    broker: &Broker,
    ctx: &Ctx,
    request: ApiVersionsRequest,
    _out: &mut Outbox,
) -> Reply {
    if ctx.version() >= 3 && !names_software(&request) {
        return ctx.now_frame(&refused(ErrorCode::InvalidRequest));
    }
    if let Some(code) = wrong_node(broker, &request) {
        return ctx.now_frame(&refused(code));
    }
    let image = broker.image();
    let response = ApiVersionsResponse {
        api_keys: served(broker.listener_kind(ctx.listener)),
        supported_features: supported(ctx.version()),
        finalized_features_epoch: broker.finalized_features_epoch(&image),
        finalized_features: finalised(&image.features, broker.kraft_version()),
        ..ApiVersionsResponse::default()
    };
    ctx.now_frame(&response)
}

/// Features that are on, with those that are kept elsewhere: `metadata.version` and `kraft.version`.
fn finalised(features: &Features, kraft_version: i16) -> Vec<FinalizedFeatureKey> {
    let others = features.finalized().map(|(name, level)| (name.clone(), level));
    let metadata = features.metadata_version().map_or(0, |v| v.level());
    let apart = [(METADATA_VERSION, metadata), (KRAFT_VERSION, kraft_version)];
    let apart = apart.map(|(name, level)| (Str::from_static(name), level));
    let all: BTreeMap<Str, i16> = others.chain(apart).collect();
    let on = all.into_iter().filter(|(_, level)| *level > 0);
    on.map(|(name, level)| FinalizedFeatureKey {
        name,
        max_version_level: level,
        min_version_level: level,
    })
    .collect()
}

/// The answer to a version that is not spoken: version 0, with the versions that are.
pub(crate) fn unsupported(ctx: &Ctx) -> Reply {
    let mut body = refused(ErrorCode::UnsupportedVersion);
    body.api_keys = vec![row(ApiKey::ApiVersions)];
    let frame = Frame::response(
        ApiKey::ApiVersions,
        0,
        ctx.to.correlation_id,
        &body,
        Vec::new(),
    );
    frame.map_or_else(|error| Reply::Close(error.to_string()), Reply::Now)
}

fn refused(code: ErrorCode) -> ApiVersionsResponse {
    ApiVersionsResponse {
        error_code: code.code(),
        ..ApiVersionsResponse::default()
    }
}

/// Kafka's pattern for software names and versions: letters, digits, dots and dashes, neither first nor last.
fn names_software(request: &ApiVersionsRequest) -> bool {
    let valid = |text: &str| {
        let inner = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        edge(text.chars().next()) && edge(text.chars().last()) && text.chars().all(inner)
    };
    valid(&request.client_software_name) && valid(&request.client_software_version)
}

/// A client that names another cluster or node has been led astray (KIP-1242).
fn wrong_node(broker: &Broker, request: &ApiVersionsRequest) -> Option<ErrorCode> {
    let other_cluster = request
        .cluster_id
        .as_ref()
        .is_some_and(|id| id.as_str() != broker.cluster_id());
    let other_node = request.node_id >= 0 && request.node_id != broker.node().0;
    (other_cluster || other_node).then_some(ErrorCode::RebootstrapRequired)
}

fn served(kind: ListenerKind) -> Vec<ApiVersion> {
    let here = api::all().filter(|api| api::serves(kind, *api, api.max_version()));
    here.map(row).collect()
}

fn row(api: ApiKey) -> ApiVersion {
    ApiVersion {
        api_key: api.code(),
        // Old librdkafka wants to see Produce 0 (KAFKA-18659); versions below 3 are refused when sent.
        min_version: if api == ApiKey::Produce { 0 } else { api.min_version() },
        max_version: api.max_version(),
    }
}

fn supported(version: i16) -> Vec<SupportedFeatureKey> {
    let all = milena_image::supported_features().into_iter();
    // Before version 4 a client can't read a lowest level of 0 (KAFKA-17011).
    all.filter(|(_, range)| version >= 4 || range.min > 0)
        .map(|(name, range)| SupportedFeatureKey {
            name: name.into(),
            min_version: range.min,
            max_version: range.max,
        })
        .collect()
}
