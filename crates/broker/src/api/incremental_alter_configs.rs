//! IncrementalAlterConfigs (KIP-339). v1: flexible.
//!
//! Log levels are this node's own. Other resources that it refuses are answered here; what is left is the controller's.

use milena_base::ErrorCode;
use milena_controller::ControllerRequest;
use milena_image::ConfigResource;
use milena_protocol::incremental_alter_configs_request::AlterConfigsResource;
use milena_protocol::incremental_alter_configs_response::AlterConfigsResourceResponse;
use milena_protocol::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, Str};

use crate::altering::{alter_loggers, check_altered};
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
    let dry = request.validate_only;
    let mut answered = Vec::new();
    let answer = |resource: &AlterConfigsResource, (code, why): (ErrorCode, Option<String>)| {
        AlterConfigsResourceResponse {
            error_code: code.code(),
            error_message: why.map(Str::from),
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.clone(),
        }
    };
    request.resources.retain(|resource| {
        if resource.resource_type != ConfigResource::BROKER_LOGGER {
            return true;
        }
        let done = alter_loggers(broker, resource, dry);
        let told = done.map_or_else(|(code, why)| (code, Some(why)), |()| (ErrorCode::None, None));
        answered.push(answer(resource, told));
        false
    });
    if broker.listener_kind(ctx.listener) == ListenerKind::Broker {
        request.resources.retain(|resource| {
            let Err((code, why)) = check_altered(broker, resource) else {
                return true;
            };
            answered.push(answer(resource, (code, Some(why))));
            false
        });
    }
    if request.resources.is_empty() {
        return ctx.now_frame(&IncrementalAlterConfigsResponse {
            responses: answered,
            ..IncrementalAlterConfigsResponse::default()
        });
    }
    let origin = match answered.is_empty() {
        true => Origin::Client(ctx.to),
        false => Origin::IncrementalAlterConfigs(ctx.to, answered),
    };
    to_controller(broker, ctx, origin, ControllerRequest::IncrementalAlterConfigs(request), out)
}
