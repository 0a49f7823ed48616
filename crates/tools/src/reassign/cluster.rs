//! What the cluster is asked and told.

use std::collections::{BTreeMap, BTreeSet};

use milena_base::ErrorCode;
use milena_client::{Client, Error, Target};
use milena_protocol::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use milena_protocol::alter_replica_log_dirs_request::{
    AlterReplicaLogDir, AlterReplicaLogDirTopic,
};
use milena_protocol::list_partition_reassignments_request::ListPartitionReassignmentsTopics;
use milena_protocol::{
    AlterPartitionReassignmentsRequest, AlterReplicaLogDirsRequest, DescribeLogDirsRequest,
    ListPartitionReassignmentsRequest, Str,
};

use super::Failure;
use super::moves::{AllOngoing, Ongoing};
use super::placement::Candidate;
use super::plan::{Assignment, Place, Replica, named, named_replica};
use super::states::Dirs;

fn timeout_ms(client: &Client) -> i32 {
    client.config().request_timeout.as_millis() as i32
}

/// Reassignments under way: of these partitions, or all.
pub async fn ongoing(client: &mut Client, of: Option<&[Place]>) -> Result<AllOngoing, Error> {
    let topics = of.map(|places| {
        let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        for (topic, partition) in places {
            topics.entry(topic).or_default().push(*partition);
        }
        let one = |(name, partition_indexes)| ListPartitionReassignmentsTopics {
            name: Str::copy(name),
            partition_indexes,
        };
        topics.into_iter().map(one).collect()
    });
    let request = ListPartitionReassignmentsRequest {
        timeout_ms: timeout_ms(client),
        topics,
    };
    let answer = client
        .retry("listPartitionReassignments", async |client: &mut Client| {
            let connection = client.connection(Target::Controller).await?;
            let answer = connection.call(&request).await?;
            Error::check(answer.error_code, answer.error_message.as_deref())?;
            Ok(answer)
        })
        .await?;
    let mut all = AllOngoing::new();
    for topic in answer.topics {
        for partition in topic.partitions {
            let ongoing = Ongoing {
                replicas: partition.replicas,
                adding: partition.adding_replicas,
                removing: partition.removing_replicas,
            };
            all.insert((topic.name.to_string(), partition.partition_index), ongoing);
        }
    }
    Ok(all)
}

/// The replicas of topics. A topic that does not exist is an error, or (`lenient`) left out.
pub async fn replicas(
    client: &mut Client,
    topics: &BTreeSet<&str>,
    lenient: bool,
) -> Result<Assignment, Error> {
    let mut all = Assignment::new();
    if topics.is_empty() {
        return Ok(all);
    }
    let names: Vec<Str> = topics.iter().map(|name| Str::copy(name)).collect();
    let answer = client.metadata("describeTopics", Some(&names)).await?;
    for topic in answer.topics {
        let name = topic.name.map(|name| name.to_string()).unwrap_or_default();
        let unknown = ErrorCode::UnknownTopicOrPartition;
        if topic.error_code == unknown.code() {
            if lenient {
                continue;
            }
            let text = format!("Topic {name} not found.");
            Error::check(topic.error_code, Some(&text))?;
        }
        Error::check(topic.error_code, None)?;
        for partition in topic.partitions {
            all.insert(
                (name.clone(), partition.partition_index),
                partition.replica_nodes,
            );
        }
    }
    Ok(all)
}

/// The live brokers with their racks.
pub async fn brokers(client: &mut Client) -> Result<Vec<Candidate>, Error> {
    let cluster = client
        .retry("listNodes", async |client: &mut Client| {
            client.describe_cluster(false).await
        })
        .await?;
    let rack = |rack: Option<Str>| rack.map(|rack| rack.to_string());
    let brokers = cluster.brokers.into_iter();
    Ok(brokers.map(|b| (b.broker_id, rack(b.rack))).collect())
}

/// In which directories these brokers hold what.
pub async fn dirs(client: &mut Client, brokers: &BTreeSet<i32>) -> Result<Dirs, Error> {
    let mut all = Dirs::new();
    let request = DescribeLogDirsRequest { topics: None };
    for broker in brokers {
        let found = client
            .retry("describeReplicaLogDirs", async |client: &mut Client| {
                let connection = client.connection(Target::Node(*broker)).await?;
                let answer = connection.call(&request).await?;
                Error::check(answer.error_code, None)?;
                Ok(answer.results)
            })
            .await?;
        for dir in found.iter().filter(|dir| dir.error_code == 0) {
            for topic in &dir.topics {
                for partition in &topic.partitions {
                    let replica = (*broker, topic.name.to_string(), partition.partition_index);
                    let (current, future) = all.entry(replica).or_default();
                    let slot = if partition.is_future_key {
                        future
                    } else {
                        current
                    };
                    *slot = Some(dir.log_dir.to_string());
                }
            }
        }
    }
    Ok(all)
}

/// Starts reassignments, or (`None`) cancels them. What was refused, by partition.
pub async fn reassign(
    client: &mut Client,
    targets: &BTreeMap<Place, Option<Vec<i32>>>,
    allow_replication_factor_change: bool,
) -> Result<BTreeMap<Place, String>, Error> {
    let mut topics: BTreeMap<&str, Vec<ReassignablePartition>> = BTreeMap::new();
    for ((topic, partition_index), replicas) in targets {
        topics
            .entry(topic)
            .or_default()
            .push(ReassignablePartition {
                partition_index: *partition_index,
                replicas: replicas.clone(),
            });
    }
    let topic = |(name, partitions)| ReassignableTopic {
        name: Str::copy(name),
        partitions,
    };
    let request = AlterPartitionReassignmentsRequest {
        timeout_ms: timeout_ms(client),
        allow_replication_factor_change,
        topics: topics.into_iter().map(topic).collect(),
    };
    let answer = client
        .retry(
            "alterPartitionReassignments",
            async |client: &mut Client| {
                let connection = client.connection(Target::Controller).await?;
                let answer = connection.call(&request).await?;
                Error::check(answer.error_code, answer.error_message.as_deref())?;
                Ok(answer)
            },
        )
        .await?;
    let mut refused = BTreeMap::new();
    for topic in answer.responses {
        for partition in topic.partitions {
            let message = partition.error_message.as_deref();
            if let Err(error) = Error::check(partition.error_code, message) {
                let place = (topic.name.to_string(), partition.partition_index);
                refused.insert(place, error.to_string());
            }
        }
    }
    Ok(refused)
}

fn dir_topic((name, partitions): (&str, Vec<i32>)) -> AlterReplicaLogDirTopic {
    AlterReplicaLogDirTopic {
        name: Str::copy(name),
        partitions,
    }
}

/// Starts moves between directories; those that could be started.
pub async fn move_dirs(
    client: &mut Client,
    targets: &BTreeMap<Replica, String>,
) -> Result<BTreeSet<Replica>, Failure> {
    let mut by_broker: BTreeMap<i32, BTreeMap<&str, BTreeMap<&str, Vec<i32>>>> = BTreeMap::new();
    for ((broker, topic, partition), dir) in targets {
        let dirs = by_broker.entry(*broker).or_default();
        let topics = dirs.entry(dir).or_default();
        topics.entry(topic).or_default().push(*partition);
    }
    let mut started = BTreeSet::new();
    for (broker, dirs) in by_broker {
        let dir = |(path, topics): (&str, BTreeMap<&str, Vec<i32>>)| AlterReplicaLogDir {
            path: Str::copy(path),
            topics: topics.into_iter().map(dir_topic).collect(),
        };
        let request = AlterReplicaLogDirsRequest {
            dirs: dirs.into_iter().map(dir).collect(),
        };
        let target = Target::Node(broker);
        let answer = client.call("alterReplicaLogDirs", target, &request).await?;
        for topic in answer.results {
            for partition in topic.partitions {
                let replica = (
                    broker,
                    topic.topic_name.to_string(),
                    partition.partition_index,
                );
                if partition.error_code == ErrorCode::ReplicaNotAvailable.code() {
                    continue; // not there yet: it is tried again
                }
                if let Err(error) = Error::check(partition.error_code, None) {
                    let name = named_replica(&replica);
                    let text = format!("Failed to alter dir for {name}: {error}");
                    return Err(Failure::Command(text));
                }
                started.insert(replica);
            }
        }
    }
    Ok(started)
}

/// Kafka's words for partitions that do not exist.
pub fn unknown<'a>(missing: impl Iterator<Item = &'a Place>) -> Error {
    let names: Vec<String> = missing.map(named).collect();
    let text = format!("Unable to find partition: {}", names.join(", "));
    Error::refused(ErrorCode::UnknownTopicOrPartition, Some(&text))
}
