//! AlterPartition: a leader's changes of its ISR. v3: broker epochs with the ISR (KIP-903).

use milena_base::{ErrorCode, TopicIdPartition, Uuid};
use milena_image::{LeaderRecoveryState, NO_LEADER_CHANGE, Partition};
use milena_protocol::alter_partition_request::{BrokerState, PartitionData as Asked};
use milena_protocol::alter_partition_response::{PartitionData, TopicData};
use milena_protocol::{AlterPartitionRequest, AlterPartitionResponse};

use crate::decision::{Decision, Records};
use crate::partition_change::Election;
use crate::{Controller, Refusal, RequestContext};

impl Controller {
    pub(crate) fn alter_partition(
        &self,
        request: &AlterPartitionRequest,
        ctx: &RequestContext,
    ) -> Result<Decision, Refusal> {
        if request.topics.is_empty() {
            return Ok(Decision::answer(AlterPartitionResponse::default()));
        }
        self.check_broker_epoch(request.broker_id, request.broker_epoch)?;
        let mut records = Records::default();
        let mut topics = Vec::new();
        for topic in &request.topics {
            let mut partitions = Vec::new();
            for asked in &topic.partitions {
                let isr = new_isr(asked, ctx.version);
                let id = topic.topic_id;
                let result = self.alter_isr(request.broker_id, id, asked, &isr, &mut records);
                partitions.push(result.unwrap_or_else(|code| PartitionData {
                    partition_index: asked.partition_index,
                    error_code: code.code(),
                    ..PartitionData::default()
                }));
            }
            topics.push(TopicData {
                topic_id: topic.topic_id,
                partitions,
            });
        }
        let answer = AlterPartitionResponse {
            topics,
            ..AlterPartitionResponse::default()
        };
        Ok(Decision::records(records).with_answer(answer))
    }

    fn alter_isr(
        &self,
        broker: i32,
        topic_id: Uuid,
        asked: &Asked,
        isr: &[BrokerState],
        records: &mut Records,
    ) -> Result<PartitionData, ErrorCode> {
        let topic = self.state.topic(topic_id);
        let topic = topic.ok_or(ErrorCode::UnknownTopicId)?;
        let key = TopicIdPartition::new(topic_id, asked.partition_index);
        let partition = self.state.partition(key);
        let partition = partition.ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let recovery = self.check_alter(broker, partition, asked, isr)?;
        let unclean_enabled = self.unclean_enabled(&topic.name);
        let change = self.change(key, partition, |change| {
            if unclean_enabled {
                change.election = Election::Unclean;
            }
            change.isr = isr.iter().map(|state| state.broker_id).collect();
            change.recovery = recovery;
        });
        let Some((record, version)) = change else {
            return Ok(answer(asked.partition_index, partition));
        };
        let after = partition
            .merge(&record)
            .expect("a change that was decided for this partition fits it");
        let new_leader = record.leader != broker && record.leader != NO_LEADER_CHANGE;
        records.push(record, version);
        if new_leader {
            return Err(ErrorCode::NewLeaderElected);
        }
        Ok(answer(asked.partition_index, &after))
    }

    /// A leader with newer epochs than ours knows more than this controller does: it should look for another.
    fn check_alter(
        &self,
        broker: i32,
        partition: &Partition,
        asked: &Asked,
        isr: &[BrokerState],
    ) -> Result<LeaderRecoveryState, ErrorCode> {
        if asked.leader_epoch > partition.leader_epoch
            || asked.partition_epoch > partition.partition_epoch
        {
            return Err(ErrorCode::NotController);
        }
        if asked.leader_epoch < partition.leader_epoch {
            return Err(ErrorCode::FencedLeaderEpoch);
        }
        if broker != partition.leader {
            return Err(ErrorCode::InvalidRequest);
        }
        if asked.partition_epoch < partition.partition_epoch {
            return Err(ErrorCode::InvalidUpdateVersion);
        }
        let ids: Vec<i32> = isr.iter().map(|state| state.broker_id).collect();
        if !is_isr_of(&partition.replicas, &ids) || !ids.contains(&partition.leader) {
            return Err(ErrorCode::InvalidRequest);
        }
        let recovery = LeaderRecoveryState::from_value(asked.leader_recovery_state)
            .ok_or(ErrorCode::InvalidRequest)?;
        if recovery == LeaderRecoveryState::Recovering {
            let was_recovered = partition.leader_recovery_state == LeaderRecoveryState::Recovered;
            if ids.len() > 1 || was_recovered {
                return Err(ErrorCode::InvalidRequest);
            }
        }
        if isr.iter().any(|state| !self.is_eligible(state)) {
            return Err(ErrorCode::IneligibleReplica);
        }
        Ok(recovery)
    }

    /// Only a live broker in the incarnation that the leader fetched from may be in sync.
    fn is_eligible(&self, state: &BrokerState) -> bool {
        let broker = self.state.broker(state.broker_id);
        broker.is_some_and(|b| {
            b.is_active() && (state.broker_epoch == -1 || state.broker_epoch == b.epoch)
        })
    }
}

fn new_isr(asked: &Asked, version: i16) -> Vec<BrokerState> {
    if version >= 3 {
        return asked.new_isr_with_epochs.clone();
    }
    let state = |id: &i32| BrokerState {
        broker_id: *id,
        ..BrokerState::default()
    };
    asked.new_isr.iter().map(state).collect()
}

fn is_isr_of(replicas: &[i32], isr: &[i32]) -> bool {
    let mut sorted = isr.to_vec();
    sorted.sort_unstable();
    let distinct = sorted.windows(2).all(|pair| pair[0] != pair[1]);
    distinct && sorted.iter().all(|r| *r >= 0 && replicas.contains(r))
}

fn answer(partition_index: i32, partition: &Partition) -> PartitionData {
    PartitionData {
        partition_index,
        error_code: ErrorCode::None.code(),
        leader_id: partition.leader,
        leader_epoch: partition.leader_epoch,
        isr: partition.isr.clone(),
        leader_recovery_state: partition.leader_recovery_state.value(),
        partition_epoch: partition.partition_epoch,
    }
}
