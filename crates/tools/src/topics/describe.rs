//! `kafka-topics --describe`: collects what the cluster knows, then prints two kinds of lines.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use milena_base::Uuid;
use milena_client::{Client, Error, Target};
use milena_protocol::describe_configs_request::DescribeConfigsResource;
use milena_protocol::describe_topic_partitions_request::TopicRequest;
use milena_protocol::list_partition_reassignments_request::ListPartitionReassignmentsTopics;
use milena_protocol::{
    ApiKey, DescribeConfigsRequest, DescribeTopicPartitionsRequest,
    ListPartitionReassignmentsRequest, Str, describe_topic_partitions_request,
};

use super::{Failure, matching, must_exist};
use crate::options::Options;
use crate::say::out;

const TOPIC_RESOURCE: i8 = 2;
/// Where a config's value is nobody's choice (`ConfigSource.DEFAULT_CONFIG`).
const SOURCE_DEFAULT: i8 = 5;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Topic {
    pub name: String,
    pub id: Uuid,
    pub partitions: Vec<Partition>,
    /// Name, value and whether nobody set it, in the order of the answer.
    pub configs: Vec<(String, String, bool)>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Partition {
    pub index: i32,
    /// Below 0: none.
    pub leader: i32,
    pub replicas: Vec<i32>,
    pub isr: Vec<i32>,
    /// `None` where the broker does not tell.
    pub elr: Option<Vec<i32>>,
    pub last_known_elr: Option<Vec<i32>>,
    /// Adding and removing replicas, while a reassignment goes on.
    pub reassignment: Option<(Vec<i32>, Vec<i32>)>,
}

/// Which lines are asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    pub under_replicated: bool,
    pub unavailable: bool,
    pub under_min_isr: bool,
    pub at_min_isr: bool,
    pub overrides: bool,
}

pub(super) async fn run(client: &mut Client, options: &Options) -> Result<(), Failure> {
    let id = options.value("topic-id")?.map(parse_id).transpose()?;
    let names = match id.filter(|id| !id.is_zero()) {
        Some(id) => named(client, id, options).await?,
        None => {
            let topics = matching(client, options).await?;
            must_exist(&topics, options)?;
            topics
        }
    };
    if names.is_empty() {
        return Ok(());
    }
    let limit = options
        .number("partition-size-limit-per-response")?
        .unwrap_or(2000);
    let names: Vec<Str> = names.iter().map(|name| Str::copy(name)).collect();
    let mut topics = partitions(client, &names, limit).await?;
    add_configs(client, &mut topics).await?;
    let live = live_brokers(client).await?;
    add_reassignments(client, &mut topics).await?;
    let report = Report {
        under_replicated: options.has("under-replicated-partitions"),
        unavailable: options.has("unavailable-partitions"),
        under_min_isr: options.has("under-min-isr-partitions"),
        at_min_isr: options.has("at-min-isr-partitions"),
        overrides: options.has("topics-with-overrides"),
    };
    out(report.text(&topics, &live));
    Ok(())
}

fn parse_id(text: &str) -> Result<Uuid, String> {
    text.parse::<Uuid>().map_err(|error| error.to_string())
}

async fn named(client: &mut Client, id: Uuid, options: &Options) -> Result<Vec<String>, Failure> {
    let metadata = client.metadata("listTopics", None).await?;
    let found = metadata.topics.iter().find(|topic| topic.topic_id == id);
    match found.and_then(|topic| topic.name.as_ref()) {
        Some(name) => Ok(vec![name.to_string()]),
        None if options.has("if-exists") => Ok(Vec::new()),
        None => Err(format!("TopicId '{id}' does not exist as expected").into()),
    }
}

async fn partitions(client: &mut Client, names: &[Str], limit: i32) -> Result<Vec<Topic>, Error> {
    client
        .retry("describeTopics", async |client: &mut Client| {
            let connection = client.connection(Target::Any).await?;
            match connection.version(ApiKey::DescribeTopicPartitions) {
                Some(_) => paged(client, names, limit).await,
                None => from_metadata(client, names).await,
            }
        })
        .await
}

async fn paged(client: &mut Client, names: &[Str], limit: i32) -> Result<Vec<Topic>, Error> {
    let connection = client.connection(Target::Any).await?;
    let mut topics: BTreeMap<String, Topic> = BTreeMap::new();
    let mut request = DescribeTopicPartitionsRequest {
        topics: names
            .iter()
            .map(|name| TopicRequest { name: name.clone() })
            .collect(),
        response_partition_limit: limit,
        cursor: None,
    };
    loop {
        let answer = connection.call(&request).await?;
        for topic in &answer.topics {
            Error::check(topic.error_code, None)?;
            let name = topic.name.clone().unwrap_or_default().to_string();
            let known = topics.entry(name.clone()).or_insert_with(|| Topic {
                name,
                id: topic.topic_id,
                ..Topic::default()
            });
            known
                .partitions
                .extend(topic.partitions.iter().map(|p| Partition {
                    index: p.partition_index,
                    leader: p.leader_id,
                    replicas: p.replica_nodes.clone(),
                    isr: p.isr_nodes.clone(),
                    elr: p.eligible_leader_replicas.clone(),
                    last_known_elr: p.last_known_elr.clone(),
                    reassignment: None,
                }));
        }
        let Some(next) = answer.next_cursor else {
            return Ok(sorted(topics));
        };
        request
            .topics
            .retain(|topic| *topic.name >= *next.topic_name);
        request.cursor = Some(describe_topic_partitions_request::Cursor {
            topic_name: next.topic_name,
            partition_index: next.partition_index,
        });
    }
}

async fn from_metadata(client: &mut Client, names: &[Str]) -> Result<Vec<Topic>, Error> {
    let metadata = client.metadata_once(Some(names), false).await?;
    let mut topics = BTreeMap::new();
    for topic in &metadata.topics {
        Error::check(topic.error_code, None)?;
        let name = topic.name.clone().unwrap_or_default().to_string();
        let partitions = topic.partitions.iter().map(|p| Partition {
            index: p.partition_index,
            leader: p.leader_id,
            replicas: p.replica_nodes.clone(),
            isr: p.isr_nodes.clone(),
            ..Partition::default()
        });
        let partitions = partitions.collect();
        let id = topic.topic_id;
        topics.insert(
            name.clone(),
            Topic {
                name,
                id,
                partitions,
                configs: Vec::new(),
            },
        );
    }
    Ok(sorted(topics))
}

fn sorted(topics: BTreeMap<String, Topic>) -> Vec<Topic> {
    let mut topics: Vec<Topic> = topics.into_values().collect();
    for topic in &mut topics {
        topic.partitions.sort_by_key(|partition| partition.index);
    }
    topics
}

async fn add_configs(client: &mut Client, topics: &mut [Topic]) -> Result<(), Error> {
    let resources = topics.iter().map(|topic| DescribeConfigsResource {
        resource_type: TOPIC_RESOURCE,
        resource_name: Str::copy(&topic.name),
        configuration_keys: None,
    });
    let request = DescribeConfigsRequest {
        resources: resources.collect(),
        ..Default::default()
    };
    let answer = client
        .call("describeConfigs", Target::Any, &request)
        .await?;
    for result in &answer.results {
        Error::check(result.error_code, result.error_message.as_deref())?;
        let topic = topics
            .iter_mut()
            .find(|topic| result.resource_name == topic.name);
        let Some(topic) = topic else { continue };
        topic.configs = result
            .configs
            .iter()
            .map(|config| {
                let value = config.value.as_ref().map_or("null".into(), Str::to_string);
                let default = config.config_source == SOURCE_DEFAULT;
                (config.name.to_string(), value, default)
            })
            .collect();
    }
    Ok(())
}

async fn live_brokers(client: &mut Client) -> Result<BTreeSet<i32>, Error> {
    client.metadata("describeCluster", Some(&[])).await?;
    Ok(client.nodes().keys().copied().collect())
}

async fn add_reassignments(client: &mut Client, topics: &mut [Topic]) -> Result<(), Error> {
    let asked = topics.iter().map(|topic| ListPartitionReassignmentsTopics {
        name: Str::copy(&topic.name),
        partition_indexes: topic.partitions.iter().map(|p| p.index).collect(),
    });
    let request = ListPartitionReassignmentsRequest {
        timeout_ms: client.config().request_timeout.as_millis() as i32,
        topics: Some(asked.collect()),
    };
    let call = client.call("listPartitionReassignments", Target::Controller, &request);
    let answer = match call.await {
        Ok(answer) => answer,
        Err(Error::Unsupported { .. }) => return Ok(()),
        Err(error) => return Err(error),
    };
    for topic in &answer.topics {
        let Some(known) = topics.iter_mut().find(|known| topic.name == known.name) else {
            continue;
        };
        for going in &topic.partitions {
            let mut partitions = known.partitions.iter_mut();
            if let Some(p) = partitions.find(|p| p.index == going.partition_index) {
                let (adding, removing) = (&going.adding_replicas, &going.removing_replicas);
                p.reassignment = Some((adding.clone(), removing.clone()));
            }
        }
    }
    Ok(())
}

impl Report {
    /// Whether some partitions are asked for; then topics have no line of their own.
    fn selects_partitions(&self) -> bool {
        self.under_replicated || self.unavailable || self.under_min_isr || self.at_min_isr
    }

    /// The tables for these topics.
    pub fn text(&self, topics: &[Topic], live: &BTreeSet<i32>) -> String {
        let mut text = String::new();
        for topic in topics {
            let overridden = topic.configs.iter().any(|(_, _, default)| !default);
            if !self.selects_partitions() && (!self.overrides || overridden) {
                topic.write(&mut text);
            }
            for partition in &topic.partitions {
                if !self.overrides && self.wants(partition, topic.min_isr(), live) {
                    partition.write(&topic.name, &mut text);
                }
            }
        }
        text
    }

    fn wants(&self, partition: &Partition, min_isr: usize, live: &BTreeSet<i32>) -> bool {
        let isr = partition.isr.len();
        let leaderless = partition.leader < 0;
        !self.selects_partitions()
            || self.under_replicated && partition.replication_factor() > isr
            || self.unavailable && (leaderless || !live.contains(&partition.leader))
            || self.under_min_isr && (leaderless || isr < min_isr)
            || self.at_min_isr && isr == min_isr
    }
}

impl Topic {
    fn min_isr(&self) -> usize {
        let mut configs = self.configs.iter();
        let found = configs.find(|(name, ..)| name == "min.insync.replicas");
        found
            .and_then(|(_, value, _)| value.parse().ok())
            .unwrap_or(1)
    }

    fn write(&self, text: &mut String) {
        let _ = write!(text, "Topic: {}", self.name);
        if !self.id.is_zero() {
            let _ = write!(text, "\tTopicId: {}", self.id);
        }
        let factor = self
            .partitions
            .first()
            .map_or(0, Partition::replication_factor);
        let set = self.configs.iter().filter(|(_, _, default)| !default);
        let set: Vec<String> = set
            .map(|(name, value, _)| format!("{name}={value}"))
            .collect();
        let _ = writeln!(
            text,
            "\tPartitionCount: {}\tReplicationFactor: {factor}\tConfigs: {}",
            self.partitions.len(),
            set.join(",")
        );
    }
}

impl Partition {
    /// Replicas, without those that a reassignment is adding.
    fn replication_factor(&self) -> usize {
        let adding = self
            .reassignment
            .as_ref()
            .map_or(0, |(adding, _)| adding.len());
        self.replicas.len() - adding.min(self.replicas.len())
    }

    fn write(&self, topic: &str, text: &mut String) {
        let leader = if self.leader < 0 {
            "none".to_string()
        } else {
            self.leader.to_string()
        };
        let _ = write!(
            text,
            "\tTopic: {topic}\tPartition: {}\tLeader: {leader}\tReplicas: {}\tIsr: {}",
            self.index,
            ids(&self.replicas),
            ids(&self.isr)
        );
        if let Some((adding, removing)) = &self.reassignment {
            let (adding, removing) = (ids(adding), ids(removing));
            let _ = write!(
                text,
                "\tAdding Replicas: {adding}\tRemoving Replicas: {removing}"
            );
        }
        let elr = |list: &Option<Vec<i32>>| list.as_deref().map_or("N/A".to_string(), ids);
        let _ = writeln!(
            text,
            "\tElr: {}\tLastKnownElr: {}",
            elr(&self.elr),
            elr(&self.last_known_elr)
        );
    }
}

fn ids(list: &[i32]) -> String {
    let ids: Vec<String> = list.iter().map(i32::to_string).collect();
    ids.join(",")
}
