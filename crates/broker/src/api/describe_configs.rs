//! DescribeConfigs. v1: sources and synonyms. v3: types and documentation. v4: flexible.

use milena_base::ErrorCode;
use milena_config::{ConfigEntry, ConfigSource, Type};
use milena_image::ConfigResource;
use milena_protocol::describe_configs_request::DescribeConfigsResource;
use milena_protocol::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use milena_protocol::{DescribeConfigsRequest, DescribeConfigsResponse, Str};

use crate::broker::Broker;
use crate::configs::own;
use crate::ctx::{Ctx, Outbox, Reply};
use crate::topics;

pub(super) fn handle(
    broker: &Broker,
    ctx: &Ctx,
    request: DescribeConfigsRequest,
    _out: &mut Outbox,
) -> Reply {
    let results = request.resources.iter().map(|resource| {
        let described = describe(broker, resource);
        let mut result = DescribeConfigsResult {
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.clone(),
            ..DescribeConfigsResult::default()
        };
        match described {
            Ok(entries) => {
                let wanted = |entry: &ConfigEntry| match &resource.configuration_keys {
                    Some(keys) if !keys.is_empty() => keys.iter().any(|k| **k == *entry.name),
                    _ => true,
                };
                let shown = entries.into_iter().filter(wanted);
                result.configs = shown.map(|entry| row(entry, &request)).collect();
            }
            Err((code, why)) => {
                result.error_code = code.code();
                result.error_message = Some(why.into());
            }
        }
        result
    });
    ctx.now_frame(&DescribeConfigsResponse {
        results: results.collect(),
        ..DescribeConfigsResponse::default()
    })
}

type Refusal = (ErrorCode, String);

fn describe(
    broker: &Broker,
    resource: &DescribeConfigsResource,
) -> Result<Vec<ConfigEntry>, Refusal> {
    let name = &resource.resource_name;
    let image = broker.image();
    let layers = broker.layers();
    let invalid = |why: milena_config::Invalid| (ErrorCode::InvalidRequest, why.0);
    match resource.resource_type {
        ConfigResource::TOPIC => {
            if !topics::is_legal(name) {
                return Err((ErrorCode::InvalidTopicException, format!("Topic name {name:?} is illegal")));
            }
            if image.topics.named(name).is_none() {
                return Err((ErrorCode::UnknownTopicOrPartition, String::new()));
            }
            let own = own(&image, &ConfigResource::topic(name));
            layers.describe_topic(&own).map_err(invalid)
        }
        ConfigResource::BROKER if name.is_empty() => Ok(layers.describe_broker_defaults()),
        ConfigResource::BROKER => {
            let id: i32 = name.parse().map_err(|_| {
                let why = format!("Broker id must be an integer, but it is: {name}");
                (ErrorCode::InvalidRequest, why)
            })?;
            if id != broker.node().0 {
                let me = broker.node();
                let why = format!("Unexpected broker id, expected {me} or empty string, but received {name}");
                return Err((ErrorCode::InvalidRequest, why));
            }
            Ok(layers.describe_broker())
        }
        ConfigResource::BROKER_LOGGER => loggers(broker, name),
        ConfigResource::GROUP => {
            if name.is_empty() {
                let why = "Group name must not be empty".to_owned();
                return Err((ErrorCode::InvalidRequest, why));
            }
            let own = own(&image, &ConfigResource::group(name));
            layers.describe_group(&own).map_err(invalid)
        }
        ConfigResource::CLIENT_METRICS => {
            if name.is_empty() {
                let why = "Client metrics subscription name must not be empty".to_owned();
                return Err((ErrorCode::InvalidRequest, why));
            }
            let resource = ConfigResource::new(ConfigResource::CLIENT_METRICS, name.clone());
            layers.describe_client_metrics(&own(&image, &resource)).map_err(invalid)
        }
        other => Err((
            ErrorCode::InvalidRequest,
            format!("Unsupported resource type: {other}"),
        )),
    }
}

/// The log levels of this node.
fn loggers(broker: &Broker, name: &str) -> Result<Vec<ConfigEntry>, Refusal> {
    let me = broker.node().0;
    let why = match name.parse::<i32>() {
        Ok(id) if id == me => {
            let levels = broker.loggers.get().map(|loggers| loggers.all());
            let entry = |(name, level)| ConfigEntry {
                name,
                value: Some(level),
                source: ConfigSource::DynamicBrokerLogger,
                read_only: false,
                sensitive: false,
                synonyms: Vec::new(),
                kind: None,
                documentation: None,
            };
            return Ok(levels.unwrap_or_default().into_iter().map(entry).collect());
        }
        Ok(_) => format!("Unexpected broker id, expected {me} but received {name}"),
        Err(_) if name.is_empty() => "Broker id must not be empty".to_owned(),
        Err(_) => format!("Broker id must be an integer, but it is: {name}"),
    };
    Err((ErrorCode::InvalidRequest, why))
}

fn row(entry: ConfigEntry, request: &DescribeConfigsRequest) -> DescribeConfigsResourceResult {
    let synonyms = match request.include_synonyms {
        false => Vec::new(),
        true => entry
            .synonyms
            .into_iter()
            .map(|synonym| DescribeConfigsSynonym {
                name: synonym.name.into(),
                value: synonym.value.map(Str::from),
                source: synonym.source.id(),
            })
            .collect(),
    };
    let documentation = entry.documentation.filter(|_| request.include_documentation);
    DescribeConfigsResourceResult {
        name: entry.name.into(),
        value: entry.value.map(Str::from),
        read_only: entry.read_only,
        config_source: entry.source.id(),
        is_sensitive: entry.sensitive,
        synonyms,
        config_type: entry.kind.map_or(0, type_id),
        documentation: documentation.map(Str::from),
    }
}

/// `DescribeConfigsResponse.ConfigType`.
fn type_id(kind: Type) -> i8 {
    match kind {
        Type::Boolean => 1,
        Type::String => 2,
        Type::Int => 3,
        Type::Short => 4,
        Type::Long => 5,
        Type::Double => 6,
        Type::List => 7,
        Type::Class => 8,
        Type::Password => 9,
    }
}
