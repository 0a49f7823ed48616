//! IncrementalAlterConfigs and AlterConfigs, and the configuration of a topic that is created.

use std::collections::{BTreeMap, BTreeSet};

use milena_base::ErrorCode;
use milena_image::ConfigResource;
use milena_protocol::create_topics_request::CreatableTopic;
use milena_protocol::create_topics_response::CreatableTopicConfigs;
use milena_protocol::{
    AlterConfigsRequest, AlterConfigsResponse, ClearElrRecord, ConfigRecord,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, MetadataRecord, Str,
};
use milena_protocol::{alter_configs_response, incremental_alter_configs_response};

use crate::decision::{Decision, Records};
use crate::names::check_topic_name;
use crate::refusal::fields;
use crate::{Controller, Refusal, RequestContext};

pub(crate) const MIN_INSYNC_REPLICAS: &str = "min.insync.replicas";
const UNCLEAN_LEADER_ELECTION: &str = "unclean.leader.election.enable";
const CORDONED_LOG_DIRS: &str = "cordoned.log.dirs";
const VALUE_LENGTH_MAX: usize = 32767;

/// What is to happen to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Set,
    Delete,
    Append,
    Subtract,
}

impl Operation {
    fn from_code(code: i8) -> Option<Operation> {
        Some(match code {
            0 => Operation::Set,
            1 => Operation::Delete,
            2 => Operation::Append,
            3 => Operation::Subtract,
            _ => return None,
        })
    }
}

/// One change of one key. Without `Debug`: the value may be secret.
#[derive(Clone)]
pub(crate) struct Requested {
    pub name: Str,
    pub operation: Operation,
    pub value: Option<Str>,
}

type Values = BTreeMap<Str, Str>;

impl Controller {
    pub(crate) fn incremental_alter_configs(
        &self,
        request: &IncrementalAlterConfigsRequest,
        ctx: &RequestContext,
    ) -> Decision {
        use incremental_alter_configs_response::AlterConfigsResourceResponse;
        let key = |r: &milena_protocol::incremental_alter_configs_request::AlterConfigsResource| {
            (r.resource_type, r.resource_name.clone())
        };
        let duplicates = duplicates(request.resources.iter().map(key));
        let mut records = Records::default();
        let mut responses = Vec::new();
        for (kind, name) in &duplicates {
            responses.push((*kind, name.clone(), Err(duplicate_resource())));
        }
        let single = request
            .resources
            .iter()
            .filter(|r| !duplicates.contains(&key(r)));
        for asked in single {
            let (kind, name) = key(asked);
            let result = check_kind(kind).and_then(|()| {
                let changes = asked.configs.iter().map(|c| {
                    let operation = Operation::from_code(c.config_operation);
                    Ok(Requested {
                        name: c.name.clone(),
                        operation: operation
                            .ok_or_else(|| unknown_operation(c.config_operation))?,
                        value: c.value.clone(),
                    })
                });
                let changes: Vec<Requested> = changes.collect::<Result<_, Refusal>>()?;
                let resource = ConfigResource::new(kind, name.clone());
                self.alter_resource(&resource, &changes, false, ctx.forwarded)
            });
            responses.push((kind, name, result.map(|made| records.append(made))));
        }
        if request.validate_only {
            records = Records::default();
        }
        let responses = responses.into_iter().map(|(kind, name, result)| {
            let (error_code, error_message) = fields(&result);
            AlterConfigsResourceResponse {
                error_code,
                error_message,
                resource_type: kind,
                resource_name: name,
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
        let key = |r: &milena_protocol::alter_configs_request::AlterConfigsResource| {
            (r.resource_type, r.resource_name.clone())
        };
        let duplicates = duplicates(request.resources.iter().map(key));
        let mut records = Records::default();
        let mut responses = Vec::new();
        for (kind, name) in &duplicates {
            responses.push((*kind, name.clone(), Err(duplicate_resource())));
        }
        let single = request
            .resources
            .iter()
            .filter(|r| !duplicates.contains(&key(r)));
        for asked in single {
            let (kind, name) = key(asked);
            let result = check_kind(kind).and_then(|()| {
                let resource = ConfigResource::new(kind, name.clone());
                let wanted = asked
                    .configs
                    .iter()
                    .map(|c| (c.name.clone(), c.value.clone()));
                self.replace_resource(&resource, &wanted.collect(), ctx.forwarded)
            });
            responses.push((kind, name, result.map(|made| records.append(made))));
        }
        if request.validate_only {
            records = Records::default();
        }
        let responses = responses.into_iter().map(|(kind, name, result)| {
            let (error_code, error_message) = fields(&result);
            AlterConfigsResourceResponse {
                error_code,
                error_message,
                resource_type: kind,
                resource_name: name,
            }
        });
        let answer = AlterConfigsResponse {
            responses: responses.collect(),
            ..AlterConfigsResponse::default()
        };
        Decision::records(records).with_answer(answer).atomic()
    }

    /// The records for changes of one resource; `is_new` where it is made in the same batch.
    pub(crate) fn alter_resource(
        &self,
        resource: &ConfigResource,
        changes: &[Requested],
        is_new: bool,
        forwarded: bool,
    ) -> Result<Records, Refusal> {
        let mut altered = Vec::new();
        for change in changes {
            let current = self
                .state
                .image
                .configs
                .value(resource, &change.name)
                .cloned();
            let new = self.changed_value(resource, change, current.clone())?;
            if new != current || resource.kind == ConfigResource::BROKER {
                altered.push((change.name.clone(), new));
            }
        }
        self.check_change(resource, &altered, is_new, forwarded)?;
        Ok(self.config_records(resource, altered))
    }

    fn replace_resource(
        &self,
        resource: &ConfigResource,
        wanted: &BTreeMap<Str, Option<Str>>,
        forwarded: bool,
    ) -> Result<Records, Refusal> {
        let current = self.state.image.configs.get(resource);
        let is_broker = resource.kind == ConfigResource::BROKER;
        let explicit = wanted
            .iter()
            .filter(|(k, v)| is_broker || current.get(*k) != v.as_ref());
        let explicit = explicit.map(|(k, v)| (k.clone(), v.clone()));
        let implicit = current.keys().filter(|k| !wanted.contains_key(*k));
        let implicit = implicit.map(|k| (k.clone(), None));
        let altered: Vec<(Str, Option<Str>)> = explicit.chain(implicit).collect();
        self.check_change(resource, &altered, false, forwarded)?;
        Ok(self.config_records(resource, altered))
    }

    fn changed_value(
        &self,
        resource: &ConfigResource,
        change: &Requested,
        current: Option<Str>,
    ) -> Result<Option<Str>, Refusal> {
        let what = match change.operation {
            Operation::Set => return Ok(change.value.clone()),
            Operation::Delete => return Ok(None),
            Operation::Append => "APPEND",
            Operation::Subtract => "SUBTRACT",
        };
        let key = change.name.as_str();
        if !self.rules.is_list(resource.kind, key) {
            let text = format!("Can't {what} to key {key} because its type is not LIST.");
            return Err(Refusal::new(ErrorCode::InvalidConfig, text));
        }
        let current = current.map(|value| value.to_string());
        let current = current.or_else(|| self.rules.default_value(resource.kind, key));
        let current = current.unwrap_or_default();
        let parts = |list: &str| -> Vec<String> { list.split(',').map(str::to_owned).collect() };
        let mut list = parts(&current);
        list.retain(|part| !part.is_empty());
        for part in parts(change.value.as_deref().unwrap_or_default()) {
            let present = list.iter().position(|p| *p == part);
            match (change.operation, present) {
                (Operation::Append, None) => list.push(part),
                (Operation::Subtract, Some(at)) => drop(list.remove(at)),
                _ => {}
            }
        }
        Ok(Some(Str::from(list.join(","))))
    }

    fn check_change(
        &self,
        resource: &ConfigResource,
        altered: &[(Str, Option<Str>)],
        is_new: bool,
        forwarded: bool,
    ) -> Result<(), Refusal> {
        let current: Values = self.state.image.configs.get(resource).into_iter().collect();
        let mut all = current.clone();
        for (key, value) in altered {
            if resource.kind == ConfigResource::BROKER {
                let before = current.get(key.as_str()).map(Str::as_str);
                self.check_broker_key(resource, key, value.as_deref(), before, forwarded)?;
            }
            match value {
                None => drop(all.remove(key.as_str())),
                Some(value) if value.encode_utf16().count() > VALUE_LENGTH_MAX => {
                    return Err(invalid(
                        "The configuration value cannot be added because it exceeds the maximum \
                         value size of 32767 bytes.",
                    ));
                }
                Some(value) => drop(all.insert(key.clone(), value.clone())),
            }
        }
        check_resource_name(resource)?;
        self.rules.check(resource, &all, &current)?;
        if is_new {
            return Ok(());
        }
        self.check_exists(resource)
    }

    fn check_broker_key(
        &self,
        resource: &ConfigResource,
        key: &str,
        value: Option<&str>,
        before: Option<&str>,
        forwarded: bool,
    ) -> Result<(), Refusal> {
        let image = &self.state.image;
        match key {
            MIN_INSYNC_REPLICAS if image.features.elr_enabled() && !resource.name.is_empty() => {
                Err(invalid(
                    "Broker-level min.insync.replicas cannot be altered while ELR is enabled.",
                ))
            }
            MIN_INSYNC_REPLICAS if image.features.elr_enabled() && value.is_none() => Err(invalid(
                "Cluster-level min.insync.replicas cannot be removed while ELR is enabled.",
            )),
            CORDONED_LOG_DIRS if !image.metadata_version().supports_cordoned_log_dirs() => {
                Err(invalid(
                    "The cordoned.log.dirs configuration value cannot be set because it requires \
                     metadata.version >= 4.3-IV0",
                ))
            }
            CORDONED_LOG_DIRS if !forwarded && !is_subset(value, before) => Err(invalid(
                "When updating cordoned.log.dirs via controllers,  the new value must be a subset \
                 of the current configuration value.",
            )),
            _ => Ok(()),
        }
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
                    || self.options.voters.contains(&id)
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
    fn config_records(
        &self,
        resource: &ConfigResource,
        altered: Vec<(Str, Option<Str>)>,
    ) -> Records {
        let mut records = Records::default();
        let mut clears_elr = false;
        for (name, value) in altered {
            clears_elr |= *name == *MIN_INSYNC_REPLICAS;
            let record = ConfigRecord {
                resource_type: resource.kind,
                resource_name: resource.name.clone(),
                name,
                value,
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
            let value = Str::from(self.options.min_insync_replicas.to_string());
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
        let node = self.options.node_id;
        let set = self
            .state
            .dynamic_topic_value(&topic.name, MIN_INSYNC_REPLICAS, node);
        let set = set.and_then(|value| value.trim().parse::<i32>().ok());
        let min = set.unwrap_or(self.options.min_insync_replicas).max(0) as usize;
        let first = topic.partitions.get(&0);
        min.min(first.map_or(1, |p| p.replicas.len()))
    }

    pub(crate) fn unclean_enabled(&self, topic: &str) -> bool {
        let node = self.options.node_id;
        let set = self
            .state
            .dynamic_topic_value(topic, UNCLEAN_LEADER_ELECTION, node);
        set.map_or(self.options.unclean_leader_election, |value| {
            value.trim().eq_ignore_ascii_case("true")
        })
    }

    /// A new topic's effective configuration, by name.
    pub(crate) fn created_topic_configs(
        &self,
        topic: &CreatableTopic,
    ) -> Vec<CreatableTopicConfigs> {
        let given = topic.configs.iter();
        let given = given.filter_map(|c| Some((c.name.clone(), c.value.clone()?)));
        let values = |resource| -> Values {
            self.state
                .image
                .configs
                .get(&resource)
                .into_iter()
                .collect()
        };
        self.rules.effective_topic(
            &given.collect(),
            &values(ConfigResource::broker(self.options.node_id)),
            &values(ConfigResource::default_broker()),
        )
    }
}

fn invalid(text: &str) -> Refusal {
    Refusal::new(ErrorCode::InvalidConfig, text)
}

fn duplicates<K: Ord + Clone>(keys: impl Iterator<Item = K>) -> BTreeSet<K> {
    let mut seen = BTreeSet::new();
    keys.filter(|key| !seen.insert(key.clone())).collect()
}

fn duplicate_resource() -> Refusal {
    Refusal::new(ErrorCode::InvalidRequest, "Duplicate resource.")
}

fn unknown_operation(code: i8) -> Refusal {
    Refusal::new(
        ErrorCode::InvalidRequest,
        format!("Unknown config operation {code}."),
    )
}

fn check_kind(kind: i8) -> Result<(), Refusal> {
    match kind {
        ConfigResource::TOPIC
        | ConfigResource::BROKER
        | ConfigResource::BROKER_LOGGER
        | ConfigResource::CLIENT_METRICS
        | ConfigResource::GROUP => Ok(()),
        other => {
            let text = format!("Unknown resource type {other}.");
            Err(Refusal::new(ErrorCode::UnsupportedVersion, text))
        }
    }
}

fn check_resource_name(resource: &ConfigResource) -> Result<(), Refusal> {
    let refuse = |text: &str| Err(Refusal::new(ErrorCode::InvalidRequest, text));
    match (resource.kind, resource.name.as_str()) {
        (ConfigResource::TOPIC, "") => refuse("Default topic resources are not allowed."),
        (ConfigResource::TOPIC, name) => check_topic_name(name),
        (ConfigResource::BROKER, "") => Ok(()),
        (ConfigResource::BROKER, name) => match name.parse::<i32>() {
            Err(_) => refuse("Unable to parse broker name as a base 10 number."),
            Ok(id) if id < 0 => refuse("Invalid negative broker ID."),
            Ok(_) => Ok(()),
        },
        (ConfigResource::GROUP, "") => refuse("Default group resources are not allowed."),
        (ConfigResource::BROKER_LOGGER, _) => refuse("Unknown resource type BROKER_LOGGER"),
        _ => Ok(()),
    }
}

/// Whether all directories of a comma-separated list are in another.
fn is_subset(new: Option<&str>, old: Option<&str>) -> bool {
    let parts = |list: Option<&str>| -> Vec<String> {
        let list = list
            .unwrap_or_default()
            .split(',')
            .map(|part| part.trim().to_owned());
        list.filter(|part| !part.is_empty()).collect()
    };
    let old = parts(old);
    parts(new).iter().all(|part| old.contains(part))
}
