//! IncrementalAlterConfigs and AlterConfigs, and the configuration of a topic that is created. What a value may be is
//! decided in `config`; here is what the metadata knows beside it.

use std::collections::BTreeSet;

use milena_base::ErrorCode;
use milena_config::alter::{self, Changes, Op, Refused, ResourceType};
use milena_image::ConfigResource;
use milena_protocol::create_topics_request::CreatableTopic;
use milena_protocol::create_topics_response::CreatableTopicConfigs;
use milena_protocol::{
    AlterConfigsRequest, AlterConfigsResponse, ClearElrRecord, ConfigRecord,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, MetadataRecord, Str,
};
use milena_protocol::{alter_configs_response, incremental_alter_configs_response};

use crate::decision::{Decision, Records};
use crate::refusal::fields;
use crate::{Controller, Refusal, RequestContext};

pub(crate) const MIN_INSYNC_REPLICAS: &str = "min.insync.replicas";
const UNCLEAN_LEADER_ELECTION: &str = "unclean.leader.election.enable";

/// A resource as a request names it.
type Named = (i8, Str);
type Results = Vec<(Named, Result<(), Refusal>)>;

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Refusal {
        Refusal::new(refused.code, refused.message)
    }
}

impl Controller {
    pub(crate) fn incremental_alter_configs(
        &self,
        request: &IncrementalAlterConfigsRequest,
        ctx: &RequestContext,
    ) -> Decision {
        use incremental_alter_configs_response::AlterConfigsResourceResponse;
        let asked = request.resources.iter().map(|resource| {
            let ops = resource.configs.iter().map(|c| {
                let op = Op::from_id(c.config_operation);
                let op = op.ok_or_else(|| unknown_operation(c.config_operation))?;
                Ok((c.name.to_string(), op, c.value.as_ref().map(Str::to_string)))
            });
            let ops: Result<Vec<_>, Refusal> = ops.collect();
            (
                (resource.resource_type, resource.resource_name.clone()),
                ops,
            )
        });
        let (responses, mut records) = self.alter_each(
            asked.collect(),
            |kind, current, ops| Ok(alter::incremental(kind, current, &ops?)?),
            ctx,
        );
        if request.validate_only {
            records = Records::default();
        }
        let responses = responses
            .into_iter()
            .map(|((resource_type, resource_name), result)| {
                let (error_code, error_message) = fields(&result);
                AlterConfigsResourceResponse {
                    error_code,
                    error_message,
                    resource_type,
                    resource_name,
                }
            });
        let answer = IncrementalAlterConfigsResponse {
            responses: responses.collect(),
            ..IncrementalAlterConfigsResponse::default()
        };
        Decision::records(records).with_answer(answer).atomic()
    }

    /// The old AlterConfigs: what is not named is deleted.
    pub(crate) fn alter_configs(
        &self,
        request: &AlterConfigsRequest,
        ctx: &RequestContext,
    ) -> Decision {
        use alter_configs_response::AlterConfigsResourceResponse;
        let asked = request.resources.iter().map(|resource| {
            let values = resource.configs.iter();
            let values = values.map(|c| (c.name.to_string(), c.value.as_ref().map(Str::to_string)));
            let values: Changes = values.collect();
            (
                (resource.resource_type, resource.resource_name.clone()),
                values,
            )
        });
        let (responses, mut records) = self.alter_each(
            asked.collect(),
            |kind, current, values| Ok(alter::replace(kind, current, &values)),
            ctx,
        );
        if request.validate_only {
            records = Records::default();
        }
        let responses = responses
            .into_iter()
            .map(|((resource_type, resource_name), result)| {
                let (error_code, error_message) = fields(&result);
                AlterConfigsResourceResponse {
                    error_code,
                    error_message,
                    resource_type,
                    resource_name,
                }
            });
        let answer = AlterConfigsResponse {
            responses: responses.collect(),
            ..AlterConfigsResponse::default()
        };
        Decision::records(records).with_answer(answer).atomic()
    }

    /// Alters each resource by itself; `changes` says what becomes of its configs. A resource that is named twice is
    /// refused once.
    fn alter_each<T>(
        &self,
        asked: Vec<(Named, T)>,
        changes: impl Fn(ResourceType, &alter::Configs, T) -> Result<Changes, Refusal>,
        ctx: &RequestContext,
    ) -> (Results, Records) {
        let mut seen = BTreeSet::new();
        let again = asked.iter().map(|(named, _)| named);
        let duplicates: BTreeSet<Named> = again.filter(|n| !seen.insert(*n)).cloned().collect();
        let twice = || {
            Err(Refusal::new(
                ErrorCode::InvalidRequest,
                "Duplicate resource.",
            ))
        };
        let mut responses: Results = duplicates.iter().map(|n| (n.clone(), twice())).collect();
        let mut records = Records::default();
        for (named, what) in asked.into_iter().filter(|(n, _)| !duplicates.contains(n)) {
            let result = known_kind(named.0).and_then(|kind| {
                let resource = ConfigResource::new(named.0, named.1.clone());
                let current = self.current(&resource);
                let changes = changes(kind, &current, what)?;
                let made = self.alter_resource(&resource, &current, changes, ctx)?;
                self.check_exists(&resource)?;
                Ok(made)
            });
            responses.push((named, result.map(|made| records.append(made))));
        }
        (responses, records)
    }

    fn current(&self, resource: &ConfigResource) -> alter::Configs {
        let values = self.state.image.configs.get(resource);
        values
            .iter()
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect()
    }

    /// The records for changes of one resource, which are checked; not that it exists.
    fn alter_resource(
        &self,
        resource: &ConfigResource,
        current: &alter::Configs,
        changes: Changes,
        ctx: &RequestContext,
    ) -> Result<Records, Refusal> {
        let image = &self.state.image;
        let context = alter::Context {
            config: self.layers.current(),
            elr_enabled: image.features.elr_enabled(),
            cordoned_log_dirs_supported: image.metadata_version().supports_cordoned_log_dirs(),
            forwarded: ctx.forwarded,
        };
        let kind = ResourceType::from_id(resource.kind);
        alter::check(&context, kind, &resource.name, current, &changes)?;
        Ok(self.config_records(resource, changes))
    }

    /// The records of a new topic's configs.
    pub(crate) fn creation_configs(
        &self,
        topic: &CreatableTopic,
        ctx: &RequestContext,
    ) -> Result<Records, Refusal> {
        let without_value = topic.configs.iter().filter(|c| c.value.is_none());
        let names: Vec<&str> = without_value.map(|c| c.name.as_str()).collect();
        if !names.is_empty() {
            let text = format!(
                "Null value not supported for topic configs: {}",
                names.join(",")
            );
            return Err(Refusal::new(ErrorCode::InvalidConfig, text));
        }
        if topic.configs.is_empty() {
            return Ok(Records::default());
        }
        let set = topic.configs.iter();
        let set = set.map(|c| (c.name.to_string(), c.value.as_ref().map(Str::to_string)));
        let resource = ConfigResource::new(ConfigResource::TOPIC, topic.name.clone());
        self.alter_resource(&resource, &alter::Configs::new(), set.collect(), ctx)
    }

    fn check_exists(&self, resource: &ConfigResource) -> Result<(), Refusal> {
        let name = &resource.name;
        match resource.kind {
            ConfigResource::TOPIC if self.state.image.topics.id(name).is_none() => {
                let text = format!("The topic '{name}' does not exist.");
                Err(Refusal::new(ErrorCode::UnknownTopicOrPartition, text))
            }
            ConfigResource::BROKER if !name.is_empty() => {
                let id = name.parse().unwrap_or(-1);
                let cluster = &self.state.image.cluster;
                let known = cluster.broker(id).is_some()
                    || self.voters.contains(&id)
                    || cluster.controller(id).is_some();
                if known {
                    return Ok(());
                }
                let text = format!("No node with id {id} found.");
                Err(Refusal::new(ErrorCode::BrokerIdNotRegistered, text))
            }
            _ => Ok(()),
        }
    }

    /// ConfigRecords, and what a changed min.insync.replicas implies for ELR.
    fn config_records(&self, resource: &ConfigResource, changes: Changes) -> Records {
        let mut records = Records::default();
        let mut clears_elr = false;
        for (name, value) in changes {
            clears_elr |= name == MIN_INSYNC_REPLICAS;
            let record = ConfigRecord {
                resource_type: resource.kind,
                resource_name: resource.name.clone(),
                name: Str::from(name),
                value: value.map(Str::from),
            };
            records.push(record, 0);
        }
        if clears_elr && self.state.image.features.elr_enabled() {
            let topic_name = match resource.kind {
                ConfigResource::TOPIC => resource.name.clone(),
                _ => Str::EMPTY,
            };
            records.push(ClearElrRecord { topic_name }, 0);
        }
        records
    }

    /// What min.insync.replicas has to be when ELR is switched on: set for the cluster, and for no single broker.
    pub(crate) fn elr_safety_records(&self) -> Records {
        let configs = &self.state.image.configs;
        let record = |resource_name: Str, value: Option<Str>| {
            MetadataRecord::Config(ConfigRecord {
                resource_type: ConfigResource::BROKER,
                resource_name,
                name: Str::from_static(MIN_INSYNC_REPLICAS),
                value,
            })
        };
        let mut records = Records::default();
        if configs
            .value(&ConfigResource::default_broker(), MIN_INSYNC_REPLICAS)
            .is_none()
        {
            let value = Str::from(self.min_insync_replicas().to_string());
            records.push(record(Str::EMPTY, Some(value)), 0);
        }
        for (resource, values) in configs.iter() {
            let is_broker = resource.kind == ConfigResource::BROKER && !resource.name.is_empty();
            if is_broker && values.contains_key(MIN_INSYNC_REPLICAS) {
                records.push(record(resource.name.clone(), None), 0);
            }
        }
        records
    }

    /// A topic's min.insync.replicas, but no more than it has replicas.
    pub(crate) fn effective_min_isr(&self, topic: &milena_image::Topic) -> usize {
        let node = self.node_id;
        let set = self
            .state
            .dynamic_topic_value(&topic.name, MIN_INSYNC_REPLICAS, node);
        let set = set.and_then(|value| value.trim().parse::<i32>().ok());
        let min = set.unwrap_or(self.min_insync_replicas()).max(0) as usize;
        let first = topic.partitions.get(&0);
        min.min(first.map_or(1, |p| p.replicas.len()))
    }

    /// As configured statically, or its default.
    pub(crate) fn min_insync_replicas(&self) -> i32 {
        self.layers.fixed().int(MIN_INSYNC_REPLICAS)
    }

    pub(crate) fn unclean_enabled(&self, topic: &str) -> bool {
        let node = self.node_id;
        let set = self
            .state
            .dynamic_topic_value(topic, UNCLEAN_LEADER_ELECTION, node);
        set.map_or(
            self.layers.fixed().boolean(UNCLEAN_LEADER_ELECTION),
            |value| value.trim().eq_ignore_ascii_case("true"),
        )
    }

    /// A new topic's effective configuration, by name.
    pub(crate) fn created_topic_configs(
        &self,
        topic: &CreatableTopic,
    ) -> Vec<CreatableTopicConfigs> {
        let own = topic.configs.iter();
        let own = own.filter_map(|c| Some((c.name.to_string(), c.value.as_ref()?.to_string())));
        let mut entries = self.layers.effective_topic(&own.collect());
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        let config = |entry: milena_config::ConfigEntry| CreatableTopicConfigs {
            name: Str::from(entry.name),
            value: entry.value.map(Str::from),
            read_only: entry.read_only,
            config_source: entry.source.id(),
            is_sensitive: entry.sensitive,
        };
        entries.into_iter().map(config).collect()
    }
}

fn unknown_operation(code: i8) -> Refusal {
    let text = format!("Unknown config operation {code}.");
    Refusal::new(ErrorCode::InvalidRequest, text)
}

fn known_kind(kind: i8) -> Result<ResourceType, Refusal> {
    match ResourceType::from_id(kind) {
        ResourceType::Unknown => {
            let text = format!("Unknown resource type {kind}.");
            Err(Refusal::new(ErrorCode::UnsupportedVersion, text))
        }
        known => Ok(known),
    }
}
