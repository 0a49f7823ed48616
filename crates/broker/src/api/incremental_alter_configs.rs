//! IncrementalAlterConfigs (KIP-339). v1: flexible.
//!
//! Resources that this broker refuses are answered here; the others are the controller's.

use milena_controller::ControllerRequest;
use milena_protocol::incremental_alter_configs_response::AlterConfigsResourceResponse;
use milena_protocol::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, Str};

use crate::altering::check_altered;
use crate::api::{ListenerKind, to_controller};
use crate::ask::Origin;
use crate::broker::Broker;
use crate::ctx::{Ctx, Outbox, Reply};

pub(super) fn handle(
    broker: &Broker,
    ctx: &Ctx,
    mut request: IncrementalAlterConfigsRequest,
    out: &mut Outbox,
) -> Reply {
    let mut refused = Vec::new();
    if broker.listener_kind(ctx.listener) == ListenerKind::Broker {
        request.resources.retain(|resource| {
            let Err((code, why)) = check_altered(broker, resource) else {
                return true;
            };
            refused.push(AlterConfigsResourceResponse {
                error_code: code.code(),
                error_message: Some(Str::from(why)),
                resource_type: resource.resource_type,
                resource_name: resource.resource_name.clone(),
            });
            false
        });
    }
    if request.resources.is_empty() {
        return ctx.now_frame(&IncrementalAlterConfigsResponse {
            responses: refused,
            ..IncrementalAlterConfigsResponse::default()
        });
    }
    let origin = match refused.is_empty() {
        true => Origin::Client(ctx.to),
        false => Origin::IncrementalAlterConfigs(ctx.to, refused),
    };
    to_controller(broker, ctx, origin, ControllerRequest::IncrementalAlterConfigs(request), out)
}
