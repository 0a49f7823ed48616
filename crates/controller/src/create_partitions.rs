//! CreatePartitions: more partitions for a topic that is there.

use milena_base::{ErrorCode, TopicIdPartition};
use milena_image::Partition;
use milena_protocol::create_partitions_request::CreatePartitionsTopic;
use milena_protocol::create_partitions_response::CreatePartitionsTopicResult;
use milena_protocol::{CreatePartitionsRequest, CreatePartitionsResponse};

use crate::create_topics::{all_fenced, duplicate_names};
use crate::decision::{Decision, RECORDS_PER_BATCH_MAX, Records};
use crate::refusal::fields;
use crate::{Controller, Refusal};

impl Controller {
    pub(crate) fn create_partitions(
        &mut self,
        request: &CreatePartitionsRequest,
    ) -> Result<Decision, Refusal> {
        let duplicates = duplicate_names(request.topics.iter().map(|t| &t.name));
        let single = request
            .topics
            .iter()
            .filter(|t| !duplicates.contains(&t.name));
        let topics: Vec<&CreatePartitionsTopic> = single.collect();
        self.check_added_count(&topics)?;
        let twice = Refusal::new(ErrorCode::InvalidRequest, "Duplicate topic name.");
        let mut results: Vec<CreatePartitionsTopicResult> = duplicates
            .iter()
            .map(|name| CreatePartitionsTopicResult {
                name: name.clone(),
                error_code: twice.code.code(),
                error_message: twice.message.clone(),
            })
            .collect();
        let mut records = Records::default();
        for topic in topics {
            let added = self.add_partitions(topic);
            let (error_code, error_message) = fields(&added.map(|made| records.append(made)));
            results.push(CreatePartitionsTopicResult {
                name: topic.name.clone(),
                error_code,
                error_message,
            });
        }
        if request.validate_only {
            records = Records::default();
        }
        let answer = CreatePartitionsResponse {
            results,
            ..CreatePartitionsResponse::default()
        };
        Ok(Decision::records(records).with_answer(answer).atomic())
    }

    fn check_added_count(&self, topics: &[&CreatePartitionsTopic]) -> Result<(), Refusal> {
        let added = |asked: &&CreatePartitionsTopic| {
            let topic = self.state.image.topics.named(&asked.name);
            let present = topic.map_or(asked.count as i64, |t| t.partitions.len() as i64);
            (asked.count as i64 - present).max(0)
        };
        if topics.iter().map(added).sum::<i64>() > RECORDS_PER_BATCH_MAX as i64 {
            let text = "Excessively large number of additional partitions per request.";
            return Err(Refusal::new(ErrorCode::PolicyViolation, text));
        }
        Ok(())
    }

    fn add_partitions(&mut self, asked: &CreatePartitionsTopic) -> Result<Records, Refusal> {
        let topic = self.state.image.topics.named(&asked.name).cloned();
        let topic = topic.ok_or_else(|| Refusal::bare(ErrorCode::UnknownTopicOrPartition))?;
        let present = topic.partitions.len() as i32;
        let invalid = |text| Refusal::new(ErrorCode::InvalidPartitions, text);
        if asked.count == present {
            return Err(invalid(format!(
                "Topic already has {present} partition(s)."
            )));
        }
        if asked.count < present {
            return Err(invalid(format!(
                "The topic {} currently has {present} partition(s); {} would not be an increase.",
                asked.name, asked.count
            )));
        }
        let key = TopicIdPartition::new(topic.id, 0);
        let factor = self.state.partition(key).map_or(1, |p| p.replicas.len());
        let added = (asked.count - present) as usize;
        let partitions = match &asked.assignments {
            Some(assignments) if assignments.len() != added => {
                let text = format!(
                    "Attempted to add {added} additional partition(s), but only {} assignment(s) \
                     were specified.",
                    assignments.len()
                );
                return Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, text));
            }
            Some(assignments) => {
                let replicas = assignments.iter().map(|a| &a.broker_ids[..]);
                self.assigned(replicas, present, factor)?
            }
            None => {
                let invalid = |text| Refusal::new(ErrorCode::InvalidReplicationFactor, text);
                let placed = self.place(added, factor as i16).map_err(invalid)?;
                self.placed_partitions(&placed, factor as i16)?
            }
        };
        let mut records = Records::default();
        for (index, partition) in (present..).zip(&partitions) {
            self.push_partition(topic.id, index, partition, &mut records);
        }
        Ok(records)
    }

    fn assigned<'a>(
        &self,
        assignments: impl Iterator<Item = &'a [i32]>,
        first: i32,
        factor: usize,
    ) -> Result<Vec<Partition>, Refusal> {
        let partition = |(index, replicas): (i32, &[i32])| {
            self.check_manual_assignment(replicas, Some(factor))?;
            self.new_partition(replicas)
                .ok_or_else(|| all_fenced(index))
        };
        (first..).zip(assignments).map(partition).collect()
    }
}
