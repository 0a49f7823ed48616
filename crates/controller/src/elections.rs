//! Leaders: new ones where a broker comes, goes or loses a directory; on request; and by timer.

use milena_base::{ErrorCode, TopicIdPartition};
use milena_image::Partition;
use milena_protocol::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use milena_protocol::{ElectLeadersRequest, ElectLeadersResponse, PartitionChangeRecord};

use crate::decision::{Decision, Records};
use crate::partition_change::{Change, Circumstances, Election};
use crate::refusal::fields;
use crate::{Controller, Refusal};

/// Most leaders that one timer's decision moves.
pub(crate) const ELECTIONS_PER_TICK_MAX: usize = 1000;

const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

/// Why partitions are looked at again. At most one of the three is meant at a time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BrokerEvent {
    pub removed: Option<i32>,
    pub added: Option<i32>,
    /// Came back without having stopped cleanly.
    pub unclean: Option<i32>,
}

impl Controller {
    /// The record for a change of one partition as things stand; `edit` says what is wanted.
    pub(crate) fn change(
        &self,
        key: TopicIdPartition,
        partition: &Partition,
        edit: impl FnOnce(&mut Change),
    ) -> Option<(PartitionChangeRecord, i16)> {
        self.change_among(key, partition, &|r| self.state.is_active(r), edit)
    }

    fn change_among(
        &self,
        key: TopicIdPartition,
        partition: &Partition,
        is_live: &dyn Fn(i32) -> bool,
        edit: impl FnOnce(&mut Change),
    ) -> Option<(PartitionChangeRecord, i16)> {
        let can_lead = |replica: i32| {
            let directory = partition.directory(replica);
            let broker = self.state.broker(replica);
            let online = broker
                .zip(directory)
                .is_some_and(|(b, d)| b.has_online_dir(d));
            is_live(replica) && online
        };
        let topic = self.state.topic(key.topic_id)?;
        let image = &self.state.image;
        let given = Circumstances {
            can_lead: &can_lead,
            default_directory: &|broker| self.state.default_directory(broker),
            version: image.metadata_version(),
            elr_enabled: image.features.elr_enabled(),
            min_isr: self.effective_min_isr(topic),
        };
        let mut change = Change::new(partition, key.topic_id, key.partition, given);
        edit(&mut change);
        change.build()
    }

    /// Leaders and ISRs after something happened to a broker (Kafka's `generateLeaderAndIsrUpdates`).
    pub(crate) fn update_leaders(
        &self,
        event: BrokerEvent,
        partitions: impl IntoIterator<Item = TopicIdPartition>,
        records: &mut Records,
    ) {
        let gone = |r: i32| Some(r) == event.removed || Some(r) == event.unclean;
        let is_live = |r: i32| !gone(r) && (Some(r) == event.added || self.state.is_active(r));
        for key in partitions {
            let (Some(topic), Some(partition)) =
                (self.state.topic(key.topic_id), self.state.partition(key))
            else {
                continue;
            };
            let unclean_enabled = self.unclean_enabled(&topic.name);
            let change = self.change_among(key, partition, &is_live, |change| {
                if unclean_enabled {
                    change.election = Election::Unclean;
                }
                change.unclean_shutdown.extend(event.unclean);
                change.isr.retain(|r| !gone(*r));
            });
            if let Some((record, version)) = change {
                records.push(record, version);
            }
        }
    }

    pub(crate) fn elect_leaders(&self, request: &ElectLeadersRequest) -> Result<Decision, Refusal> {
        let election = match request.election_type {
            PREFERRED => Election::Preferred,
            UNCLEAN => Election::Unclean,
            other => {
                let text = format!("Unknown election type {other}");
                return Err(Refusal::new(ErrorCode::InvalidRequest, text));
            }
        };
        let mut records = Records::default();
        let mut results = Vec::new();
        let mut elect = |topic: &str, partition_id: i32| {
            let result = self.elect_leader(topic, partition_id, election);
            let result = result.map(|(record, version)| records.push(record, version));
            let (error_code, error_message) = fields(&result);
            PartitionResult {
                partition_id,
                error_code,
                error_message,
            }
        };
        match &request.topic_partitions {
            None => {
                for topic in self.state.image.topics.by_name() {
                    let all = topic.partitions.keys().map(|p| elect(&topic.name, *p));
                    let not_needed = ErrorCode::ElectionNotNeeded.code();
                    results.push(ReplicaElectionResult {
                        topic: topic.name.clone(),
                        partition_result: all.filter(|r| r.error_code != not_needed).collect(),
                    });
                }
            }
            Some(topics) => {
                for topic in topics {
                    let partitions = topic.partitions.iter();
                    results.push(ReplicaElectionResult {
                        topic: topic.topic.clone(),
                        partition_result: partitions.map(|p| elect(&topic.topic, *p)).collect(),
                    });
                }
            }
        }
        let answer = ElectLeadersResponse {
            replica_election_results: results,
            ..ElectLeadersResponse::default()
        };
        Ok(Decision::records(records).with_answer(answer))
    }

    fn elect_leader(
        &self,
        topic: &str,
        partition_id: i32,
        election: Election,
    ) -> Result<(PartitionChangeRecord, i16), Refusal> {
        let unknown = |text| Refusal::new(ErrorCode::UnknownTopicOrPartition, text);
        let id = self.state.image.topics.id(topic);
        let id = id.ok_or_else(|| unknown(format!("No such topic as {topic}")))?;
        let key = TopicIdPartition::new(id, partition_id);
        let partition = self.state.partition(key);
        let partition = partition
            .ok_or_else(|| unknown(format!("No such partition as {topic}-{partition_id}")))?;
        let (done, failed) = match election {
            Election::Unclean => (
                partition.has_leader(),
                ErrorCode::EligibleLeadersNotAvailable,
            ),
            _ => (
                partition.has_preferred_leader(),
                ErrorCode::PreferredLeaderNotAvailable,
            ),
        };
        if done {
            return Err(Refusal::with_default_text(ErrorCode::ElectionNotNeeded));
        }
        let change = self.change(key, partition, |change| change.election = election);
        change.ok_or_else(|| Refusal::with_default_text(failed))
    }

    /// Gives leadership back to preferred replicas. True where there may be more to do.
    pub(crate) fn balance_leaders(&self) -> (Records, bool) {
        let mut records = Records::default();
        for key in self.state.index.imbalanced() {
            if records.len() >= ELECTIONS_PER_TICK_MAX {
                return (records, true);
            }
            let Some(partition) = self.state.partition(key) else {
                continue;
            };
            let change = self.change(key, partition, |c| c.election = Election::Preferred);
            if let Some((record, version)) = change {
                records.push(record, version);
            }
        }
        (records, false)
    }

    /// Elects out-of-sync leaders where a topic allows it. True where there may be more to do.
    pub(crate) fn elect_unclean_leaders(&self) -> (Records, bool) {
        let mut records = Records::default();
        for key in self.state.index.leaderless() {
            if records.len() >= ELECTIONS_PER_TICK_MAX {
                return (records, true);
            }
            let Some(topic) = self.state.topic(key.topic_id) else {
                continue;
            };
            if self.unclean_enabled(&topic.name)
                && let Ok((record, version)) =
                    self.elect_leader(&topic.name, key.partition, Election::Unclean)
            {
                records.push(record, version);
            }
        }
        (records, false)
    }
}
