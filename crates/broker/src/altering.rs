//! What a broker checks of altered configs before it passes them on to the controller: whether it could take the
//! change of its own resource or of all brokers'.

use milena_base::ErrorCode;
use milena_config::alter::{self, Op, Refused, ResourceType};
use milena_image::ConfigResource;
use milena_protocol::alter_configs_request::AlterConfigsResource as Replaced;
use milena_protocol::incremental_alter_configs_request::AlterConfigsResource as Altered;

use crate::broker::Broker;
use crate::configs::own;

/// Why a resource is not passed on.
pub(crate) type Refusal = (ErrorCode, String);

fn refusal(refused: Refused) -> Refusal {
    (refused.code, refused.message)
}

/// The resource of a broker, or of all brokers, that this broker may speak for.
fn broker_resource(
    broker: &Broker,
    kind: i8,
    name: &str,
) -> Result<Option<ConfigResource>, Refusal> {
    match kind {
        // IncrementalAlterConfigs does not come here with it, and Kafka's AlterConfigs does not know it.
        ConfigResource::BROKER_LOGGER => {
            let why = format!("Unknown resource type {kind}");
            Err((ErrorCode::InvalidRequest, why))
        }
        ConfigResource::BROKER if name.is_empty() => Ok(Some(ConfigResource::default_broker())),
        ConfigResource::BROKER => {
            let me = broker.node().0;
            if name.parse() != Ok(me) {
                let why = format!("Unexpected broker id, expected {me}, but received {name}");
                return Err((ErrorCode::InvalidRequest, why));
            }
            Ok(Some(ConfigResource::broker(me)))
        }
        _ => Ok(None),
    }
}

/// Changes log levels of this node, or says why not.
pub(crate) fn alter_loggers(broker: &Broker, resource: &Altered, dry: bool) -> Result<(), Refusal> {
    let (name, me) = (&resource.resource_name, broker.node().0);
    let request = |why: String| Err((ErrorCode::InvalidRequest, why));
    match name.parse::<i32>() {
        Err(_) => return request(format!("Node id must be an integer, but it is: {name}")),
        Ok(id) if id != me => {
            return request(format!(
                "Unexpected node id. Expected {me}, but received {name}"
            ));
        }
        Ok(_) => {}
    }
    match broker.loggers.get() {
        Some(loggers) => loggers.alter(resource, dry),
        None => request("This process has no log whose levels could be set.".into()),
    }
}

pub(crate) fn check_altered(broker: &Broker, resource: &Altered) -> Result<(), Refusal> {
    let name = &resource.resource_name;
    let Some(target) = broker_resource(broker, resource.resource_type, name)? else {
        return Ok(());
    };
    let mut ops = Vec::with_capacity(resource.configs.len());
    for config in &resource.configs {
        let Some(op) = Op::from_id(config.config_operation) else {
            return Ok(()); // the controller has the words for it
        };
        let value = config.value.as_ref().map(|value| value.to_string());
        ops.push((config.name.to_string(), op, value));
    }
    let current = own(&broker.image(), &target);
    let layers = broker.layers();
    layers
        .check_broker_ops(!name.is_empty(), &current, &ops)
        .map_err(refusal)
}

pub(crate) fn check_replaced(broker: &Broker, resource: &Replaced) -> Result<(), Refusal> {
    let name = &resource.resource_name;
    let Some(target) = broker_resource(broker, resource.resource_type, name)? else {
        return Ok(());
    };
    let new: Vec<_> = resource
        .configs
        .iter()
        .map(|c| (c.name.to_string(), c.value.as_ref().map(|v| v.to_string())))
        .collect();
    let current = own(&broker.image(), &target);
    let changes = alter::replace(ResourceType::Broker, &current, &new);
    let layers = broker.layers();
    layers
        .check_broker_change(!name.is_empty(), &current, &changes)
        .map_err(refusal)
}
