//! CreateTopics. v5: the created topic's configuration in the answer; v7: its id.

use std::collections::{BTreeMap, BTreeSet};

use milena_base::{ErrorCode, Uuid};
use milena_config::alter;
use milena_image::Partition;
use milena_protocol::create_topics_request::CreatableTopic;
use milena_protocol::create_topics_response::CreatableTopicResult;
use milena_protocol::{CreateTopicsRequest, CreateTopicsResponse, Str, TopicRecord};

use crate::decision::{Decision, RECORDS_PER_BATCH_MAX, Records};
use crate::placement;
use crate::{Controller, Refusal, RequestContext};

/// The metadata log's own topic, which nobody creates.
const CLUSTER_METADATA_TOPIC: &str = "__cluster_metadata";

impl Controller {
    pub(crate) fn create_topics(
        &mut self,
        request: &CreateTopicsRequest,
        ctx: &RequestContext,
    ) -> Result<Decision, Refusal> {
        let duplicates = duplicate_names(request.topics.iter().map(|t| &t.name));
        let is_single = |t: &&CreatableTopic| {
            !duplicates.contains(&t.name) && *t.name != *CLUSTER_METADATA_TOPIC
        };
        let topics: Vec<&CreatableTopic> = request.topics.iter().filter(is_single).collect();
        self.check_partition_count(&topics)?;
        let mut records = Records::default();
        let mut results = Vec::new();
        for topic in topics {
            let created = self.create_topic(topic, ctx);
            results.push(match created {
                Ok((result, made)) => {
                    records.append(made);
                    result
                }
                Err(refusal) => refused(&topic.name, &refusal),
            });
        }
        let invalid = |text: String| Refusal::new(ErrorCode::InvalidRequest, text);
        let twice = invalid("Duplicate topic name.".to_owned());
        results.extend(duplicates.iter().map(|name| refused(name, &twice)));
        let internal = Str::from_static(CLUSTER_METADATA_TOPIC);
        let asked = request.topics.iter().any(|t| t.name == internal);
        if asked && !duplicates.contains(&internal) {
            let text =
                format!("Creation of internal topic {CLUSTER_METADATA_TOPIC} is prohibited.");
            results.push(refused(&internal, &invalid(text)));
        }
        if request.validate_only {
            records = Records::default();
        }
        let answer = CreateTopicsResponse {
            topics: results,
            ..CreateTopicsResponse::default()
        };
        Ok(Decision::records(records).with_answer(answer).atomic())
    }

    fn default_partitions(&self) -> i32 {
        self.layers.fixed().int("num.partitions")
    }

    fn check_partition_count(&self, topics: &[&CreatableTopic]) -> Result<(), Refusal> {
        let count = |t: &&CreatableTopic| match (t.assignments.len(), t.num_partitions) {
            (0, -1) => self.default_partitions().max(0) as usize,
            (0, given) => given.max(0) as usize,
            (assigned, _) => assigned,
        };
        if topics.iter().map(count).sum::<usize>() > RECORDS_PER_BATCH_MAX {
            let text = "Excessively large number of partitions per request.";
            return Err(Refusal::new(ErrorCode::PolicyViolation, text));
        }
        Ok(())
    }

    fn create_topic(
        &mut self,
        topic: &CreatableTopic,
        ctx: &RequestContext,
    ) -> Result<(CreatableTopicResult, Records), Refusal> {
        self.check_new_name(&topic.name)?;
        let config_records = self.creation_configs(topic, ctx)?;
        let partitions = if topic.assignments.is_empty() {
            self.place_topic(topic)?
        } else {
            self.assigned_partitions(topic)?
        };
        let id = Uuid::random(&mut self.prng);
        let mut records = Records::default();
        let record = TopicRecord {
            name: topic.name.clone(),
            topic_id: id,
        };
        records.push(record, 0);
        records.append(config_records);
        let replication_factor = partitions.first().map_or(0, |p| p.replicas.len() as i16);
        for (index, partition) in partitions.iter().enumerate() {
            self.push_partition(id, index as i32, partition, &mut records);
        }
        let result = CreatableTopicResult {
            name: topic.name.clone(),
            topic_id: id,
            error_code: ErrorCode::None.code(),
            error_message: None,
            num_partitions: partitions.len() as i32,
            replication_factor,
            configs: Some(self.created_topic_configs(topic)),
            ..CreatableTopicResult::default()
        };
        Ok((result, records))
    }

    fn check_new_name(&self, name: &str) -> Result<(), Refusal> {
        if self.state.image.topics.id(name).is_some() {
            let text = format!("Topic '{name}' already exists.");
            return Err(Refusal::new(ErrorCode::TopicAlreadyExists, text));
        }
        if let Some(other) = self.state.index.colliding(name) {
            let text = format!("Topic '{name}' collides with existing topic: {other}");
            return Err(Refusal::new(ErrorCode::InvalidTopicException, text));
        }
        match alter::check_topic_name(name) {
            Ok(()) => Ok(()),
            Err(_) if name.is_empty() => {
                let text = "Topic name is invalid: the empty string is not allowed";
                Err(Refusal::new(ErrorCode::InvalidTopicException, text))
            }
            Err(refused) => Err(refused.into()),
        }
    }

    /// Partitions where the client chose the brokers.
    fn assigned_partitions(&self, topic: &CreatableTopic) -> Result<Vec<Partition>, Refusal> {
        let invalid = |text: &str| Refusal::new(ErrorCode::InvalidRequest, text);
        if topic.replication_factor != -1 {
            return Err(invalid(
                "A manual partition assignment was specified, but replication factor was not set to -1.",
            ));
        }
        if topic.num_partitions != -1 {
            return Err(invalid(
                "A manual partition assignment was specified, but numPartitions was not set to -1.",
            ));
        }
        let mut partitions = BTreeMap::new();
        let mut replication_factor = None;
        let invalid = |text| Refusal::new(ErrorCode::InvalidReplicaAssignment, text);
        for assignment in &topic.assignments {
            let index = assignment.partition_index;
            if partitions.contains_key(&index) {
                let what = "Found multiple manual partition assignments for partition";
                return Err(invalid(format!("{what} {index}")));
            }
            self.check_manual_assignment(&assignment.broker_ids, replication_factor)?;
            replication_factor = Some(assignment.broker_ids.len());
            let partition = self.new_partition(&assignment.broker_ids);
            partitions.insert(index, partition.ok_or_else(|| all_fenced(index))?);
        }
        if !partitions.keys().copied().eq(0..partitions.len() as i32) {
            let text = "partitions should be a consecutive 0-based integer sequence";
            return Err(invalid(text.to_owned()));
        }
        Ok(partitions.into_values().collect())
    }

    fn place_topic(&mut self, topic: &CreatableTopic) -> Result<Vec<Partition>, Refusal> {
        if topic.replication_factor < -1 || topic.replication_factor == 0 {
            let text = "Replication factor must be larger than 0, or -1 to use the default value.";
            return Err(Refusal::new(ErrorCode::InvalidReplicationFactor, text));
        }
        if topic.num_partitions < -1 || topic.num_partitions == 0 {
            let text = "Number of partitions was set to an invalid non-positive value.";
            return Err(Refusal::new(ErrorCode::InvalidPartitions, text));
        }
        let count = match topic.num_partitions {
            -1 => self.default_partitions(),
            given => given,
        };
        let replication_factor = match topic.replication_factor {
            -1 => self.layers.fixed().int("default.replication.factor") as i16,
            given => given,
        };
        let placed = self.place(count as usize, replication_factor);
        let placed = placed.map_err(|reason| cannot_replicate(replication_factor, &reason))?;
        self.placed_partitions(&placed, replication_factor)
    }

    /// Replicas for new partitions on brokers of our choice, or why there are none.
    pub(crate) fn place(
        &mut self,
        count: usize,
        replication_factor: i16,
    ) -> Result<Vec<Vec<i32>>, String> {
        let usable = self.usable_brokers();
        placement::place(&usable, count, replication_factor, &mut self.prng)
    }

    pub(crate) fn placed_partitions(
        &self,
        placed: &[Vec<i32>],
        replication_factor: i16,
    ) -> Result<Vec<Partition>, Refusal> {
        let partitions = placed.iter().map(|replicas| self.new_partition(replicas));
        let partitions: Option<Vec<Partition>> = partitions.collect();
        partitions.ok_or_else(|| {
            let reason = "All brokers are currently fenced or in controlled shutdown.";
            cannot_replicate(replication_factor, reason)
        })
    }

    /// A partition as it begins: all active replicas in sync, the first of them leading. `None` where none is active.
    pub(crate) fn new_partition(&self, replicas: &[i32]) -> Option<Partition> {
        let active = replicas
            .iter()
            .copied()
            .filter(|r| self.state.is_active(*r));
        let isr: Vec<i32> = active.collect();
        let directories = replicas.iter().map(|r| self.state.default_directory(*r));
        Some(Partition {
            replicas: replicas.to_vec(),
            directories: directories.collect(),
            leader: *isr.first()?,
            isr,
            ..Partition::default()
        })
    }

    pub(crate) fn push_partition(
        &self,
        topic: Uuid,
        index: i32,
        partition: &Partition,
        records: &mut Records,
    ) {
        let image = &self.state.image;
        let version = image.metadata_version();
        let elr = image.features.elr_enabled();
        let (record, version) = partition
            .to_record(topic, index, version, elr)
            .expect("default directories fit the level that they were chosen for");
        records.push(record, version);
    }

    /// What holds for brokers that a client names as replicas.
    pub(crate) fn check_manual_assignment(
        &self,
        replicas: &[i32],
        replication_factor: Option<usize>,
    ) -> Result<(), Refusal> {
        let check = || {
            if replicas.is_empty() {
                return Err(
                    "The manual partition assignment includes an empty replica list.".into(),
                );
            }
            let mut sorted = replicas.to_vec();
            sorted.sort_unstable();
            for (at, id) in sorted.iter().enumerate() {
                let includes = "The manual partition assignment includes";
                let Some(broker) = self.state.broker(*id) else {
                    return Err(format!(
                        "{includes} broker {id}, but no such broker is registered."
                    ));
                };
                if !broker.has_uncordoned_dirs() {
                    return Err(format!(
                        "{includes} broker {id}, but all its log directories are cordoned."
                    ));
                }
                if at > 0 && sorted[at - 1] == *id {
                    return Err(format!("{includes} the broker {id} more than once."));
                }
            }
            match replication_factor {
                Some(before) if before != replicas.len() => Err(format!(
                    "The manual partition assignment includes a partition with {} replica(s), but \
                     this is not consistent with previous partitions, which have {before} replica(s).",
                    replicas.len()
                )),
                _ => Ok(()),
            }
        };
        check().map_err(|text: String| Refusal::new(ErrorCode::InvalidReplicaAssignment, text))
    }
}

pub(crate) fn all_fenced(partition: i32) -> Refusal {
    let text = format!(
        "All brokers specified in the manual partition assignment for partition {partition} are \
         fenced or in controlled shutdown."
    );
    Refusal::new(ErrorCode::InvalidReplicaAssignment, text)
}

fn cannot_replicate(replication_factor: i16, reason: &str) -> Refusal {
    let text = format!("Unable to replicate the partition {replication_factor} time(s): {reason}");
    Refusal::new(ErrorCode::InvalidReplicationFactor, text)
}

/// Names that come more than once, each once, in order.
pub(crate) fn duplicate_names<'a>(names: impl Iterator<Item = &'a Str>) -> BTreeSet<Str> {
    let mut seen = BTreeSet::new();
    names.filter(|name| !seen.insert(*name)).cloned().collect()
}

fn refused(name: &Str, refusal: &Refusal) -> CreatableTopicResult {
    CreatableTopicResult {
        name: name.clone(),
        error_code: refusal.code.code(),
        error_message: refusal.message.clone(),
        ..CreatableTopicResult::default()
    }
}
