//! Reassignments (KIP-455): which replicas come and go, when one is complete, what its cancel restores.

use std::collections::BTreeSet;

use milena_base::{ErrorCode, TopicIdPartition, Uuid};
use milena_image::Partition;
use milena_protocol::alter_partition_reassignments_request::ReassignablePartition;
use milena_protocol::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use milena_protocol::list_partition_reassignments_response::{
    OngoingPartitionReassignment, OngoingTopicReassignment,
};
use milena_protocol::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse, PartitionChangeRecord,
};

use crate::decision::{Decision, Records};
use crate::partition_change::Election;
use crate::refusal::fields;
use crate::{Controller, Refusal};

/// Replicas and ISR after a complete reassignment: all that are added are in sync, and where fewer are added than
/// removed the rest is too. `None` while it goes on, or where there is none.
pub(crate) fn complete(
    removing: &[i32],
    adding: &[i32],
    replicas: &[i32],
    isr: &[i32],
) -> Option<(Vec<i32>, Vec<i32>)> {
    if removing.is_empty() && adding.is_empty() {
        return None;
    }
    let staying = |ids: &[i32]| -> Vec<i32> {
        ids.iter()
            .copied()
            .filter(|r| !removing.contains(r))
            .collect()
    };
    let (new_isr, new_replicas) = (staying(isr), staying(replicas));
    if !removing.is_empty() && (new_isr.is_empty() || new_replicas.is_empty()) {
        return None;
    }
    let in_sync = |ids: &[i32]| ids.iter().all(|r| new_isr.contains(r));
    if !in_sync(adding) || (adding.len() < removing.len() && !in_sync(&new_replicas)) {
        return None;
    }
    Some((new_replicas, new_isr))
}

fn without(ids: &[i32], others: &[i32]) -> Vec<i32> {
    let ids: BTreeSet<i32> = ids.iter().copied().collect();
    ids.into_iter().filter(|r| !others.contains(r)).collect()
}

impl Controller {
    pub(crate) fn alter_reassignments(
        &self,
        request: &AlterPartitionReassignmentsRequest,
    ) -> Decision {
        let allow_change = request.allow_replication_factor_change;
        let mut records = Records::default();
        let mut responses = Vec::new();
        for topic in &request.topics {
            let mut partitions = Vec::new();
            for target in &topic.partitions {
                let result = self.alter_reassignment(&topic.name, target, allow_change);
                let result = result.map(|change| {
                    if let Some((change, version)) = change {
                        records.push(change, version);
                    }
                });
                let (error_code, error_message) = fields(&result);
                partitions.push(ReassignablePartitionResponse {
                    partition_index: target.partition_index,
                    error_code,
                    error_message,
                });
            }
            responses.push(ReassignableTopicResponse {
                name: topic.name.clone(),
                partitions,
            });
        }
        let answer = AlterPartitionReassignmentsResponse {
            allow_replication_factor_change: allow_change,
            error_message: None,
            responses,
            ..AlterPartitionReassignmentsResponse::default()
        };
        Decision::records(records).with_answer(answer).atomic()
    }

    fn alter_reassignment(
        &self,
        topic: &str,
        target: &ReassignablePartition,
        allow_change: bool,
    ) -> Result<Option<(PartitionChangeRecord, i16)>, Refusal> {
        let unknown = |text| Refusal::new(ErrorCode::UnknownTopicOrPartition, text);
        let id = self.state.image.topics.id(topic);
        let id = id.ok_or_else(|| unknown(format!("Unable to find a topic named {topic}.")))?;
        let index = target.partition_index;
        let partition = self.state.image.topics.partition(id, index);
        let partition = partition
            .ok_or_else(|| unknown(format!("Unable to find partition {topic}:{index}.")))?;
        match &target.replicas {
            None => self.cancel_reassignment(topic, id, index, partition),
            Some(replicas) => self.start_reassignment(id, index, partition, replicas, allow_change),
        }
    }

    fn cancel_reassignment(
        &self,
        topic: &str,
        id: Uuid,
        index: i32,
        partition: &Partition,
    ) -> Result<Option<(PartitionChangeRecord, i16)>, Refusal> {
        if !partition.is_reassigning() {
            return Err(Refusal::bare(ErrorCode::NoReassignmentInProgress));
        }
        let original = |ids: &[i32]| -> Vec<i32> {
            let adding = &partition.adding_replicas;
            ids.iter()
                .copied()
                .filter(|r| !adding.contains(r))
                .collect()
        };
        let replicas = original(&partition.replicas);
        let mut isr = original(&partition.isr);
        let invalid = |text: String| Refusal::new(ErrorCode::InvalidReplicaAssignment, text);
        let unclean_enabled = self.unclean_enabled(topic);
        if isr.is_empty() {
            let first = replicas.first().ok_or_else(|| {
                invalid("Invalid replica assignment: addingReplicas contains all replicas.".into())
            })?;
            if !unclean_enabled {
                return Err(invalid(format!(
                    "Unable to revert partition assignment for {topic}:{index} because it would \
                     require an unclean leader election."
                )));
            }
            isr.push(*first);
        }
        Ok(
            self.change(TopicIdPartition::new(id, index), partition, |change| {
                if unclean_enabled {
                    change.election = Election::Unclean;
                }
                change.isr = isr;
                change.replicas = replicas;
                change.removing.clear();
                change.adding.clear();
            }),
        )
    }

    fn start_reassignment(
        &self,
        id: Uuid,
        index: i32,
        partition: &Partition,
        target: &[i32],
        allow_change: bool,
    ) -> Result<Option<(PartitionChangeRecord, i16)>, Refusal> {
        self.check_manual_assignment(target, None)?;
        let current = partition.replicas.iter().chain(&partition.adding_replicas);
        let current: Vec<i32> = current.copied().collect();
        let current = without(&current, &partition.removing_replicas).len();
        if !allow_change && current != target.len() {
            let text = format!(
                "The replication factor is changed from {current} to {}",
                target.len()
            );
            return Err(Refusal::new(ErrorCode::InvalidReplicationFactor, text));
        }
        let removing = without(&partition.replicas, target);
        let adding = without(target, &partition.replicas);
        Ok(
            self.change(TopicIdPartition::new(id, index), partition, |change| {
                change.replicas = target.iter().chain(&removing).copied().collect();
                if !removing.is_empty() {
                    change.removing = removing;
                }
                if !adding.is_empty() {
                    change.adding = adding;
                }
            }),
        )
    }

    pub(crate) fn list_reassignments(
        &self,
        request: &ListPartitionReassignmentsRequest,
    ) -> Decision {
        let wanted = |name: &str, partition: i32| match &request.topics {
            None => true,
            Some(topics) => topics
                .iter()
                .any(|t| &*t.name == name && t.partition_indexes.contains(&partition)),
        };
        let mut topics: Vec<OngoingTopicReassignment> = Vec::new();
        for key in self.state.index.reassigning() {
            let (Some(topic), Some(p)) =
                (self.state.topic(key.topic_id), self.state.partition(key))
            else {
                continue;
            };
            if !wanted(&topic.name, key.partition) {
                continue;
            }
            if topics.last().is_none_or(|last| last.name != topic.name) {
                topics.push(OngoingTopicReassignment {
                    name: topic.name.clone(),
                    partitions: Vec::new(),
                });
            }
            let last = topics.last_mut().expect("one was just pushed");
            last.partitions.push(OngoingPartitionReassignment {
                partition_index: key.partition,
                replicas: p.replicas.clone(),
                adding_replicas: p.adding_replicas.clone(),
                removing_replicas: p.removing_replicas.clone(),
            });
        }
        Decision::answer(ListPartitionReassignmentsResponse {
            error_message: None,
            topics,
            ..ListPartitionReassignmentsResponse::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::complete;

    #[test]
    fn a_reassignment_waits_for_what_it_adds() {
        let all = [3, 4, 1, 2];
        assert_eq!(complete(&[1, 2], &[3, 4], &all, &[1, 2, 3]), None);
        let done = complete(&[1, 2], &[3, 4], &all, &[1, 2, 4, 3]).unwrap();
        assert_eq!(done, (vec![3, 4], vec![4, 3]));
        assert_eq!(complete(&[2, 3], &[], &[1, 2, 3], &[2, 3]), None);
        let done = complete(&[2, 3], &[], &[1, 2, 3], &[1, 2]).unwrap();
        assert_eq!(done, (vec![1], vec![1]));
        assert_eq!(complete(&[], &[], &[1], &[1]), None);
    }
}
