//! What `kafka-storage format` prints.

use milena_protocol::MetadataRecord;

use super::Formatted;

impl Formatted {
    /// Kafka's lines on standard output. Keys of credentials are left out.
    pub fn lines(&self) -> Vec<String> {
        if self.directories.is_empty() {
            return vec!["All of the log directories are already formatted.".to_owned()];
        }
        let records: Vec<String> = self.records.iter().map(record_text).collect();
        let mut lines = vec![format!(
            "Bootstrap metadata: BootstrapMetadata(records=[{}], metadataVersionLevel={}, source=format command)",
            records.join(", "),
            self.metadata_version.level()
        )];
        lines.extend(self.directories.iter().map(|(dir, kind)| {
            format!(
                "Formatting {} {} with metadata.version {}.",
                kind.description(),
                dir.display(),
                self.metadata_version.name()
            )
        }));
        lines
    }
}

fn record_text(record: &MetadataRecord) -> String {
    let body = match record {
        MetadataRecord::FeatureLevel(record) => format!(
            "FeatureLevelRecord(name='{}', featureLevel={})",
            record.name, record.feature_level
        ),
        MetadataRecord::UserScramCredential(record) => format!(
            "UserScramCredentialRecord(name='{}', mechanism={}, iterations={})",
            record.name, record.mechanism, record.iterations
        ),
        other => other.name().to_owned(),
    };
    format!("ApiMessageAndVersion({body} at version 0)")
}
