//! Log directories: which replica lies where (KIP-858), which are gone, which take no more (KIP-1066).

use std::collections::BTreeSet;

use milena_base::{ErrorCode, TopicIdPartition, Uuid};
use milena_image::MetadataVersion;
use milena_protocol::assign_replicas_to_dirs_request::DirectoryData as AskedDirectory;
use milena_protocol::assign_replicas_to_dirs_response::{DirectoryData, PartitionData, TopicData};
use milena_protocol::{AssignReplicasToDirsRequest, AssignReplicasToDirsResponse};

use crate::brokers::{registration_change, removed};
use crate::decision::{Decision, Records};
use crate::{Controller, Refusal};

impl Controller {
    fn version(&self) -> MetadataVersion {
        self.state.image.metadata_version()
    }

    /// Directories that a broker says it lost: its replicas there leave their ISRs.
    pub(crate) fn directories_offline(
        &self,
        broker: i32,
        epoch: i64,
        offline: &[Uuid],
        records: &mut Records,
    ) {
        let Some(registration) = self.state.broker(broker) else {
            return;
        };
        let known = registration.directories.iter().copied();
        let (gone, left): (Vec<Uuid>, Vec<Uuid>) = known.partition(|d| offline.contains(d));
        if gone.is_empty() || !self.version().supports_directory_assignment() {
            return;
        }
        for directory in gone {
            let partitions = self.state.index.in_directory(directory);
            self.update_leaders(removed(broker), partitions, records);
        }
        let mut change = registration_change(broker, epoch);
        change.log_dirs = left;
        records.push(change, 2);
    }

    pub(crate) fn directories_cordoned(
        &self,
        broker: i32,
        epoch: i64,
        cordoned: &[Uuid],
        records: &mut Records,
    ) {
        if !self.version().supports_cordoned_log_dirs() {
            return;
        }
        let known = self.state.broker(broker);
        let known = known.and_then(|b| b.cordoned_directories.as_deref());
        let set = |directories: &[Uuid]| directories.iter().copied().collect::<BTreeSet<_>>();
        if known.is_none_or(|known| set(known) != set(cordoned)) {
            let mut change = registration_change(broker, epoch);
            change.cordoned_log_dirs = Some(cordoned.to_vec());
            records.push(change, 3);
        }
    }

    pub(crate) fn assign_replicas_to_dirs(
        &self,
        request: &AssignReplicasToDirsRequest,
    ) -> Result<Decision, Refusal> {
        if !self.version().supports_directory_assignment() {
            let text = "Directory assignment is not supported yet.";
            return Err(Refusal::new(ErrorCode::UnsupportedVersion, text));
        }
        let broker = request.broker_id;
        self.check_broker_epoch(broker, request.broker_epoch)?;
        let mut records = Records::default();
        let mut offline = BTreeSet::new();
        let mut directories = Vec::new();
        for asked in &request.directories {
            let answer = self.assign_directory(broker, asked, &mut offline, &mut records);
            directories.push(answer);
        }
        self.update_leaders(removed(broker), offline, &mut records);
        let answer = AssignReplicasToDirsResponse {
            directories,
            ..AssignReplicasToDirsResponse::default()
        };
        Ok(Decision::records(records).with_answer(answer))
    }

    /// Replicas in a directory that is not online also lose their leadership: they are added to `offline`.
    fn assign_directory(
        &self,
        broker: i32,
        asked: &AskedDirectory,
        offline: &mut BTreeSet<TopicIdPartition>,
        records: &mut Records,
    ) -> DirectoryData {
        let registration = self.state.broker(broker);
        let is_online = registration.is_some_and(|b| b.has_online_dir(asked.id));
        let mut topics = Vec::new();
        for topic in &asked.topics {
            let mut partitions = Vec::new();
            for partition in &topic.partitions {
                let key = TopicIdPartition::new(topic.topic_id, partition.partition_index);
                let result = self.assign_replica(broker, key, asked.id, records);
                if result.is_none() && !is_online {
                    offline.insert(key);
                }
                partitions.push(PartitionData {
                    partition_index: partition.partition_index,
                    error_code: result.code(),
                });
            }
            topics.push(TopicData {
                topic_id: topic.topic_id,
                partitions,
            });
        }
        DirectoryData {
            id: asked.id,
            topics,
        }
    }

    fn assign_replica(
        &self,
        broker: i32,
        key: TopicIdPartition,
        directory: Uuid,
        records: &mut Records,
    ) -> ErrorCode {
        if self.state.topic(key.topic_id).is_none() {
            return ErrorCode::UnknownTopicId;
        }
        let Some(partition) = self.state.partition(key) else {
            return ErrorCode::UnknownTopicOrPartition;
        };
        if !partition.replicas.contains(&broker) {
            return ErrorCode::NotLeaderOrFollower;
        }
        let change = self.change(key, partition, |c| c.set_directory(broker, directory));
        if let Some((record, version)) = change {
            records.push(record, version);
        }
        ErrorCode::None
    }
}
