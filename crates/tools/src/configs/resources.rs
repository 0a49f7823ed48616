//! Configs of resources over the network: who is asked, and what comes back. `kafka-client-metrics` uses it too.

use milena_client::{Client, Error, Target};
use milena_image::ConfigResource;
use milena_protocol::describe_configs_request::DescribeConfigsResource;
use milena_protocol::describe_configs_response::DescribeConfigsResourceResult;
use milena_protocol::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use milena_protocol::{
    DescribeConfigsRequest, IncrementalAlterConfigsRequest, ListConfigResourcesRequest,
    ListGroupsRequest, Str,
};

const SET: i8 = 0;
const DELETE: i8 = 1;

/// The number of a resource's kind; `None` for entities that are no resources (users, clients, ips).
pub fn kind_of(entity_type: &str) -> Option<i8> {
    Some(match entity_type {
        "topics" => ConfigResource::TOPIC,
        "brokers" => ConfigResource::BROKER,
        "broker-loggers" => ConfigResource::BROKER_LOGGER,
        "client-metrics" => ConfigResource::CLIENT_METRICS,
        "groups" => ConfigResource::GROUP,
        _ => return None,
    })
}

/// Configs of a broker are asked of it, everything else of anybody.
async fn target(client: &mut Client, kind: i8, name: &str) -> Result<Target, Error> {
    let of_broker = matches!(kind, ConfigResource::BROKER | ConfigResource::BROKER_LOGGER);
    let Some(id) = name.parse().ok().filter(|_| of_broker) else {
        return Ok(Target::Any);
    };
    client
        .retry("describeCluster", async |client: &mut Client| {
            if client.nodes().contains_key(&id) {
                return Ok(());
            }
            client.describe_cluster(false).await.map(drop)
        })
        .await?;
    Ok(Target::Node(id))
}

/// Every config of a resource, by name.
pub async fn describe(
    client: &mut Client,
    kind: i8,
    name: &str,
) -> Result<Vec<DescribeConfigsResourceResult>, Error> {
    let target = target(client, kind, name).await?;
    let request = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: kind,
            resource_name: Str::copy(name),
            configuration_keys: None,
        }],
        include_synonyms: true,
        ..DescribeConfigsRequest::default()
    };
    let answer = client.call("describeConfigs", target, &request).await?;
    let mut configs = Vec::new();
    for result in answer.results {
        Error::check(result.error_code, result.error_message.as_deref())?;
        configs.extend(result.configs);
    }
    configs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(configs)
}

/// Sets and takes away configs of a resource.
pub async fn alter<'a>(
    client: &mut Client,
    kind: i8,
    name: &str,
    set: impl IntoIterator<Item = (&'a str, &'a str)>,
    delete: impl IntoIterator<Item = &'a str>,
) -> Result<(), Error> {
    let op = |key: &str, config_operation, value: Option<&str>| AlterableConfig {
        name: Str::copy(key),
        config_operation,
        value: value.map(Str::copy),
    };
    let set = set
        .into_iter()
        .map(|(key, value)| op(key, SET, Some(value)));
    let delete = delete.into_iter().map(|key| op(key, DELETE, None));
    let configs: Vec<AlterableConfig> = set.chain(delete).collect();
    let target = target(client, kind, name).await?;
    let request = IncrementalAlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type: kind,
            resource_name: Str::copy(name),
            configs,
        }],
        validate_only: false,
    };
    let answer = client
        .call("incrementalAlterConfigs", target, &request)
        .await?;
    answer
        .responses
        .iter()
        .try_for_each(|r| Error::check(r.error_code, r.error_message.as_deref()))
}

/// Names of resources with configs of a kind.
pub async fn list(client: &mut Client, kind: i8) -> Result<Vec<String>, Error> {
    let request = ListConfigResourcesRequest {
        resource_types: vec![kind],
    };
    let answer = client
        .call("listConfigResources", Target::Any, &request)
        .await?;
    Error::check(answer.error_code, None)?;
    let named = answer.config_resources.into_iter();
    // An old broker lists client metrics alone, and says so by the kind 0.
    let mine = named.filter(|row| row.resource_type == kind || row.resource_type == 0);
    Ok(mine.map(|row| row.resource_name.to_string()).collect())
}

/// Names of what exists of a kind, sorted.
pub async fn names(client: &mut Client, kind: i8) -> Result<Vec<String>, Error> {
    let mut names = match kind {
        ConfigResource::TOPIC => {
            let metadata = client.metadata("listTopics", None).await?;
            let topics = metadata.topics.into_iter();
            topics
                .filter_map(|topic| topic.name.map(|name| name.to_string()))
                .collect()
        }
        ConfigResource::BROKER | ConfigResource::BROKER_LOGGER => {
            client
                .retry("describeCluster", async |client: &mut Client| {
                    client.describe_cluster(false).await.map(drop)
                })
                .await?;
            client.nodes().keys().map(i32::to_string).collect()
        }
        ConfigResource::GROUP => {
            let mut names = groups(client).await?;
            names.extend(list(client, kind).await?);
            names
        }
        _ => list(client, kind).await?,
    };
    names.sort();
    names.dedup();
    Ok(names)
}

async fn groups(client: &mut Client) -> Result<Vec<String>, Error> {
    client
        .retry("listGroups", async |client: &mut Client| {
            client.describe_cluster(false).await.map(drop)
        })
        .await?;
    let ids: Vec<i32> = client.nodes().keys().copied().collect();
    let mut names = Vec::new();
    for id in ids {
        let request = ListGroupsRequest::default();
        let answer = client
            .call("listGroups", Target::Node(id), &request)
            .await?;
        Error::check(answer.error_code, None)?;
        names.extend(answer.groups.iter().map(|group| group.group_id.to_string()));
    }
    Ok(names)
}
