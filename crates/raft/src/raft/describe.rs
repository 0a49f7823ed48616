//! DescribeQuorum (KIP-595, KIP-836, KIP-853). v1: fetch times. v2: directory ids, endpoints, messages.

use milena_base::{ErrorCode, Now, Timestamp, Uuid};
use milena_protocol::describe_quorum_request::DescribeQuorumRequest;
use milena_protocol::describe_quorum_response::{
    DescribeQuorumResponse, Listener, Node, PartitionData, ReplicaState, TopicData,
};

use super::Raft;
use crate::leader;
use crate::message::METADATA_TOPIC;
use crate::role::Role;
use crate::voters::Voter;

impl Raft {
    /// The leader's view of the quorum; NOT_LEADER_OR_FOLLOWER elsewhere.
    pub fn describe_quorum(
        &mut self,
        version: i16,
        request: &DescribeQuorumRequest,
        now: Now,
    ) -> DescribeQuorumResponse {
        let known = matches!(request.topics.as_slice(), [topic]
            if Raft::is_metadata_topic(&topic.topic_name)
                && matches!(topic.partitions.as_slice(), [partition] if partition.partition_index == 0));
        if !known {
            return every_partition_unknown(request);
        }
        let leads = matches!(self.role, Role::Leader(_));
        let (partition, nodes) = if leads {
            (
                self.quorum_partition(version, now),
                self.quorum_nodes(version),
            )
        } else {
            (failed(0, ErrorCode::NotLeaderOrFollower), Vec::new())
        };
        DescribeQuorumResponse {
            topics: vec![TopicData {
                topic_name: METADATA_TOPIC.into(),
                partitions: vec![partition],
            }],
            nodes,
            ..DescribeQuorumResponse::default()
        }
    }

    fn quorum_partition(&mut self, version: i16, now: Now) -> PartitionData {
        let epoch = self.epoch.0;
        let node = self.config.node;
        let Role::Leader(leader) = &mut self.role else {
            return failed(0, ErrorCode::NotLeaderOrFollower);
        };
        let describe = |state: &leader::ReplicaState, local: bool| ReplicaState {
            replica_id: state.key.id.0,
            replica_directory_id: match version >= 2 {
                true => state.key.directory_or_zero(),
                false => Uuid::ZERO,
            },
            log_end_offset: state.end.map_or(-1, |end| end.0),
            last_fetch_timestamp: time_of(local, state.last_fetch, now),
            last_caught_up_timestamp: time_of(local, state.last_caught_up, now),
        };
        let mut voters = Vec::new();
        for state in leader.voter_states() {
            voters.push(describe(state, leader.is_local(state)));
        }
        let observers = leader.observer_states(now.mono);
        let observers = observers
            .map(|state| describe(state, state.key.id == node))
            .collect();
        PartitionData {
            partition_index: 0,
            error_code: ErrorCode::None.code(),
            leader_id: node.0,
            leader_epoch: epoch,
            high_watermark: leader.high_watermark.map_or(-1, |hw| hw.0),
            current_voters: voters,
            observers,
            ..PartitionData::default()
        }
    }

    fn quorum_nodes(&self, version: i16) -> Vec<Node> {
        if version < 2 {
            return Vec::new();
        }
        let listeners = |voter: &Voter| {
            let endpoints = voter.endpoints.iter();
            endpoints
                .map(|endpoint| Listener {
                    name: endpoint.name.clone().into(),
                    host: endpoint.host.clone().into(),
                    port: endpoint.port,
                })
                .collect()
        };
        let voters = self.control.voters().iter();
        voters
            .map(|voter| Node {
                node_id: voter.key.id.0,
                listeners: listeners(voter),
            })
            .collect()
    }
}

/// The leader has always just fetched from itself.
fn time_of(local: bool, time: Timestamp, now: Now) -> i64 {
    if local { now.wall.0 } else { time.0 }
}

fn failed(partition_index: i32, error: ErrorCode) -> PartitionData {
    PartitionData {
        partition_index,
        error_code: error.code(),
        ..PartitionData::default()
    }
}

fn every_partition_unknown(request: &DescribeQuorumRequest) -> DescribeQuorumResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter();
        TopicData {
            topic_name: topic.topic_name.clone(),
            partitions: partitions
                .map(|p| failed(p.partition_index, ErrorCode::UnknownTopicOrPartition))
                .collect(),
        }
    });
    DescribeQuorumResponse {
        topics: topics.collect(),
        ..DescribeQuorumResponse::default()
    }
}
