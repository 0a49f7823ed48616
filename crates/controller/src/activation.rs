//! The first records of an active controller: a fresh log gets the bootstrap records, an interrupted metadata
//! transaction is aborted (Kafka's `ActivationRecordsGenerator`).

use milena_image::{ConfigResource, ELR_VERSION, METADATA_VERSION, MetadataVersion};
use milena_protocol::{
    AbortTransactionRecord, BeginTransactionRecord, ConfigRecord, EndTransactionRecord,
    MetadataRecord, Str,
};

use crate::Controller;
use crate::configs::MIN_INSYNC_REPLICAS;
use crate::decision::{Decision, Records};

impl Controller {
    pub(crate) fn activation(&self, in_transaction: bool) -> Decision {
        let mut records = Records::default();
        if in_transaction {
            let record = AbortTransactionRecord {
                reason: Some(Str::from_static("Controller failover")),
            };
            records.push(record, 0);
        }
        if self.state.image.features.metadata_version().is_some() {
            return Decision::records(records).atomic();
        }
        let version = self.bootstrap_level(METADATA_VERSION);
        let transactional = MetadataVersion::from_level(version)
            .is_some_and(MetadataVersion::supports_metadata_transactions);
        if transactional {
            let record = BeginTransactionRecord {
                name: Some(Str::from_static("Bootstrap records")),
            };
            records.push(record, 0);
        }
        records.0.extend(self.bootstrap.iter().cloned());
        if self.bootstrap_level(ELR_VERSION) > 0 {
            let record = ConfigRecord {
                resource_type: ConfigResource::BROKER,
                resource_name: Str::EMPTY,
                name: Str::from_static(MIN_INSYNC_REPLICAS),
                value: Some(Str::from(self.min_insync_replicas().to_string())),
            };
            records.push(record, 0);
        }
        if transactional {
            records.push(EndTransactionRecord::default(), 0);
            return Decision::records(records);
        }
        Decision::records(records).atomic()
    }

    fn bootstrap_level(&self, feature: &str) -> i16 {
        let level = |record: &MetadataRecord| match record {
            MetadataRecord::FeatureLevel(r) if *r.name == *feature => Some(r.feature_level),
            _ => None,
        };
        let levels = self.bootstrap.iter().rev();
        levels
            .map(|(record, _)| record)
            .find_map(level)
            .unwrap_or(0)
    }
}
