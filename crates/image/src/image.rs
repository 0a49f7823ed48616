//! The whole of the metadata, and what each record does to it.

use milena_base::{Epoch, Offset, Timestamp};
use milena_protocol::{MetadataRecord, ProducerIdsRecord};

use crate::{
    Cluster, Configs, Features, Loss, MetadataVersion, Quotas, ReplayError, Security, Topics,
};

/// A record and the version that it is written in.
pub type VersionedRecord = (MetadataRecord, i16);

/// The last record that an image contains. (A snapshot's name holds the offset after it.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Provenance {
    pub offset: Offset,
    pub epoch: Epoch,
    /// Append time of that record's batch.
    pub timestamp: Timestamp,
}

impl Default for Provenance {
    /// Of the empty image.
    fn default() -> Provenance {
        Provenance {
            offset: Offset::NONE,
            epoch: Epoch::NONE,
            timestamp: Timestamp::NONE,
        }
    }
}

/// The cluster's metadata at one offset. Cloning is cheap; equality is of all of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Image {
    pub provenance: Provenance,
    pub features: Features,
    pub cluster: Cluster,
    pub topics: Topics,
    pub configs: Configs,
    pub quotas: Quotas,
    /// First producer id that was not handed out yet; `None` before the first block.
    pub next_producer_id: Option<i64>,
    pub security: Security,
}

impl Image {
    /// Applies one record. The markers of a metadata transaction do nothing here: [`crate::Loader`] and the
    /// controller mind them.
    pub fn replay(&mut self, record: &MetadataRecord) -> Result<(), ReplayError> {
        use MetadataRecord as R;
        match record {
            R::FeatureLevel(r) => self.features.replay(r)?,
            R::RegisterBroker(r) => self.cluster.register(r),
            R::UnregisterBroker(r) => self.cluster.unregister(r)?,
            R::FenceBroker(r) => self.cluster.set_fenced(r.id, r.epoch, true)?,
            R::UnfenceBroker(r) => self.cluster.set_fenced(r.id, r.epoch, false)?,
            R::BrokerRegistrationChange(r) => self.cluster.change(r)?,
            R::RegisterController(r) => self.cluster.register_controller(r),
            R::UnregisterController(r) => self.cluster.unregister_controller(r)?,
            R::Topic(r) => self.topics.replay_topic(r)?,
            R::Partition(r) => self.topics.replay_partition(r)?,
            R::PartitionChange(r) => self.topics.replay_change(r)?,
            R::ClearElr(r) => self.topics.replay_clear_elr(r)?,
            R::RemoveTopic(r) => {
                let name = self.topics.replay_remove(r)?;
                self.configs.remove_topic(&name);
            }
            R::Config(r) => self.configs.replay(r),
            R::ClientQuota(r) => self.quotas.replay(r),
            R::ProducerIds(r) => self.next_producer_id = Some(r.next_producer_id),
            R::AccessControlEntry(r) => self.security.replay_acl(r),
            R::RemoveAccessControlEntry(r) => self.security.replay_acl_removal(r)?,
            R::UserScramCredential(r) => self.security.replay_scram(r),
            R::RemoveUserScramCredential(r) => self.security.replay_scram_removal(r),
            R::DelegationToken(r) => self.security.replay_token(r),
            R::RemoveDelegationToken(r) => self.security.replay_token_removal(r),
            // Kafka 4.x keeps nothing of the migration from ZooKeeper.
            R::ZkMigrationState(_) | R::NoOp(_) => {}
            R::BeginTransaction(_) | R::EndTransaction(_) | R::AbortTransaction(_) => {}
        }
        Ok(())
    }

    /// The finalised `metadata.version`, or the lowest there is while no bootstrap record has been replayed.
    pub fn metadata_version(&self) -> MetadataVersion {
        self.features
            .metadata_version()
            .unwrap_or(MetadataVersion::MINIMUM)
    }

    /// The records of a snapshot at this level, in Kafka's order: replayed on an empty image they give this one.
    pub fn to_records(&self, version: MetadataVersion) -> Result<Vec<VersionedRecord>, Loss> {
        let mut records = Vec::new();
        self.write(version, &mut |record| records.push(record))?;
        Ok(records)
    }

    /// [`Image::to_records`], one at a time, for snapshots that should not be in memory at once.
    pub fn write(
        &self,
        version: MetadataVersion,
        out: &mut dyn FnMut(VersionedRecord),
    ) -> Result<(), Loss> {
        self.features.write(version, out);
        self.cluster.write(version, out)?;
        self.topics
            .write(version, self.features.elr_enabled(), out)?;
        self.configs.write(out);
        self.quotas.write(out);
        if let Some(next_producer_id) = self.next_producer_id {
            let record = ProducerIdsRecord {
                broker_id: -1,
                broker_epoch: -1,
                next_producer_id,
            };
            out((MetadataRecord::ProducerIds(record), 0));
        }
        self.security.write(version, out)
    }
}
