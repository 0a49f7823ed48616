//! Typed access to single keys. A wrong name or type is a slip of ours and panics; a test goes through all.

use crate::node::{NodeConfig, table};
use crate::value::Value;

impl NodeConfig {
    /// The effective value of a key, `None` where it is null.
    ///
    /// # Panics
    /// If the table has no such broker key.
    pub fn value(&self, key: &str) -> Option<&Value> {
        let at = table()
            .index(key)
            .unwrap_or_else(|| panic!("no broker key {key}"));
        self.values[at].as_ref()
    }

    /// Whether the effective value of a key is its default, set or not.
    ///
    /// # Panics
    /// If the table has no such broker key.
    pub fn has_default(&self, key: &str) -> bool {
        let row = table().get(key);
        let row = row.unwrap_or_else(|| panic!("no broker key {key}"));
        self.value(key) == row.default.as_ref()
    }

    /// A BOOLEAN key's value.
    pub fn boolean(&self, key: &str) -> bool {
        match self.value(key) {
            Some(Value::Boolean(value)) => *value,
            other => panic!("{key} is no BOOLEAN: {other:?}"),
        }
    }

    /// An INT or SHORT key's value.
    pub fn int(&self, key: &str) -> i32 {
        match self.value(key) {
            Some(Value::Int(value)) => *value,
            Some(Value::Short(value)) => i32::from(*value),
            other => panic!("{key} is no INT: {other:?}"),
        }
    }

    /// An INT, SHORT or LONG key's value.
    pub fn long(&self, key: &str) -> i64 {
        let value = self.value(key);
        value
            .and_then(Value::integer)
            .unwrap_or_else(|| panic!("{key} is no LONG: {value:?}"))
    }

    /// An INT, SHORT or LONG key's value where the default may be null.
    pub fn long_option(&self, key: &str) -> Option<i64> {
        self.value(key)?;
        Some(self.long(key))
    }

    /// A DOUBLE key's value.
    pub fn double(&self, key: &str) -> f64 {
        match self.value(key) {
            Some(Value::Double(value)) => *value,
            other => panic!("{key} is no DOUBLE: {other:?}"),
        }
    }

    /// A STRING or CLASS key's value.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.value(key)? {
            Value::String(text) | Value::Class(text) => Some(text),
            other => panic!("{key} is no STRING: {other:?}"),
        }
    }

    /// A LIST key's value; empty where it is null.
    pub fn list(&self, key: &str) -> &[String] {
        match self.value(key) {
            Some(Value::List(items)) => items,
            None => &[],
            other => panic!("{key} is no LIST: {other:?}"),
        }
    }
}

macro_rules! accessors {
    ($($read:ident $name:ident -> $type:ty = $key:literal;)*) => {
        impl NodeConfig {
            $(
                #[doc = concat!("`", $key, "`.")]
                pub fn $name(&self) -> $type {
                    self.$read($key)
                }
            )*
        }

        #[cfg(test)]
        fn read_all(config: &NodeConfig) -> usize {
            $(let _ = config.$name();)*
            [$($key),*].len()
        }
    };
}

accessors! {
    boolean auto_create_topics_enable -> bool = "auto.create.topics.enable";
    boolean auto_leader_rebalance_enable -> bool = "auto.leader.rebalance.enable";
    boolean controlled_shutdown_enable -> bool = "controlled.shutdown.enable";
    boolean delete_topic_enable -> bool = "delete.topic.enable";
    boolean unstable_api_versions_enable -> bool = "unstable.api.versions.enable";
    boolean unstable_feature_versions_enable -> bool = "unstable.feature.versions.enable";
    boolean quorum_auto_join_enable -> bool = "controller.quorum.auto.join.enable";
    int broker_heartbeat_interval_ms -> i32 = "broker.heartbeat.interval.ms";
    int broker_session_timeout_ms -> i32 = "broker.session.timeout.ms";
    int initial_broker_registration_timeout_ms -> i32 = "initial.broker.registration.timeout.ms";
    int num_partitions -> i32 = "num.partitions";
    int default_replication_factor -> i32 = "default.replication.factor";
    int min_insync_replicas -> i32 = "min.insync.replicas";
    int message_max_bytes -> i32 = "message.max.bytes";
    int fetch_max_bytes -> i32 = "fetch.max.bytes";
    int max_incremental_fetch_session_cache_slots -> i32 = "max.incremental.fetch.session.cache.slots";
    int max_request_partition_size_limit -> i32 = "max.request.partition.size.limit";
    int request_timeout_ms -> i32 = "request.timeout.ms";
    int socket_request_max_bytes -> i32 = "socket.request.max.bytes";
    int max_connections -> i32 = "max.connections";
    int max_connections_per_ip -> i32 = "max.connections.per.ip";
    int num_recovery_threads_per_data_dir -> i32 = "num.recovery.threads.per.data.dir";
    int log_flush_offset_checkpoint_interval_ms -> i32 = "log.flush.offset.checkpoint.interval.ms";
    int log_flush_start_offset_checkpoint_interval_ms -> i32 = "log.flush.start.offset.checkpoint.interval.ms";
    boolean transaction_partition_verification_enable -> bool = "transaction.partition.verification.enable";
    int producer_id_expiration_ms -> i32 = "producer.id.expiration.ms";
    int producer_id_expiration_check_interval_ms -> i32 = "producer.id.expiration.check.interval.ms";
    int quorum_election_timeout_ms -> i32 = "controller.quorum.election.timeout.ms";
    int quorum_election_backoff_max_ms -> i32 = "controller.quorum.election.backoff.max.ms";
    int quorum_fetch_timeout_ms -> i32 = "controller.quorum.fetch.timeout.ms";
    int quorum_append_linger_ms -> i32 = "controller.quorum.append.linger.ms";
    int quorum_request_timeout_ms -> i32 = "controller.quorum.request.timeout.ms";
    int quorum_retry_backoff_ms -> i32 = "controller.quorum.retry.backoff.ms";
    int quorum_fetch_max_bytes -> i32 = "controller.quorum.fetch.max.bytes";
    int quorum_fetch_snapshot_max_bytes -> i32 = "controller.quorum.fetch.snapshot.max.bytes";
    int metadata_log_segment_bytes -> i32 = "metadata.log.segment.bytes";
    int metadata_max_batch_bytes -> i32 = "internal.metadata.max.batch.size.in.bytes";
    int metadata_max_idle_interval_ms -> i32 = "metadata.max.idle.interval.ms";
    int replica_fetch_max_bytes -> i32 = "replica.fetch.max.bytes";
    int replica_fetch_min_bytes -> i32 = "replica.fetch.min.bytes";
    int replica_fetch_response_max_bytes -> i32 = "replica.fetch.response.max.bytes";
    int replica_fetch_wait_max_ms -> i32 = "replica.fetch.wait.max.ms";
    int replica_fetch_backoff_ms -> i32 = "replica.fetch.backoff.ms";
    int replica_socket_timeout_ms -> i32 = "replica.socket.timeout.ms";
    int group_min_session_timeout_ms -> i32 = "group.min.session.timeout.ms";
    int group_max_session_timeout_ms -> i32 = "group.max.session.timeout.ms";
    int group_initial_rebalance_delay_ms -> i32 = "group.initial.rebalance.delay.ms";
    int group_max_size -> i32 = "group.max.size";
    int group_coordinator_append_linger_ms -> i32 = "group.coordinator.append.linger.ms";
    int offset_metadata_max_bytes -> i32 = "offset.metadata.max.bytes";
    int offsets_commit_timeout_ms -> i32 = "offsets.commit.timeout.ms";
    int offsets_load_buffer_size -> i32 = "offsets.load.buffer.size";
    int offsets_retention_minutes -> i32 = "offsets.retention.minutes";
    int offsets_topic_compression_codec -> i32 = "offsets.topic.compression.codec";
    int offsets_topic_num_partitions -> i32 = "offsets.topic.num.partitions";
    int offsets_topic_replication_factor -> i32 = "offsets.topic.replication.factor";
    int offsets_topic_segment_bytes -> i32 = "offsets.topic.segment.bytes";
    long offsets_retention_check_interval_ms -> i64 = "offsets.retention.check.interval.ms";
    long connections_max_idle_ms -> i64 = "connections.max.idle.ms";
    long queued_max_request_bytes -> i64 = "queued.max.request.bytes";
    long log_retention_check_interval_ms -> i64 = "log.retention.check.interval.ms";
    long log_initial_task_delay_ms -> i64 = "log.initial.task.delay.ms";
    long log_flush_scheduler_interval_ms -> i64 = "log.flush.scheduler.interval.ms";
    long log_dir_failure_timeout_ms -> i64 = "log.dir.failure.timeout.ms";
    long metadata_log_segment_ms -> i64 = "metadata.log.segment.ms";
    long metadata_max_retention_bytes -> i64 = "metadata.max.retention.bytes";
    long metadata_max_retention_ms -> i64 = "metadata.max.retention.ms";
    long metadata_max_bytes_between_snapshots -> i64 = "metadata.log.max.record.bytes.between.snapshots";
    long metadata_max_snapshot_interval_ms -> i64 = "metadata.log.max.snapshot.interval.ms";
    long metadata_delete_delay_ms -> i64 = "internal.metadata.delete.delay.millis";
    long replica_lag_time_max_ms -> i64 = "replica.lag.time.max.ms";
    long replica_high_watermark_checkpoint_interval_ms -> i64 = "replica.high.watermark.checkpoint.interval.ms";
    long leader_imbalance_check_interval_seconds -> i64 = "leader.imbalance.check.interval.seconds";
    long unclean_leader_election_interval_ms -> i64 = "unclean.leader.election.interval.ms";
    text broker_rack -> Option<&str> = "broker.rack";
    list group_coordinator_rebalance_protocols -> &[String] = "group.coordinator.rebalance.protocols";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::properties::Properties;

    #[test]
    fn every_accessor_names_a_key_of_its_type() {
        let properties = Properties::from_iter([
            ("process.roles", "broker,controller"),
            ("node.id", "1"),
            ("controller.listener.names", "CONTROLLER"),
            (
                "listeners",
                "PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093",
            ),
            ("controller.quorum.voters", "1@localhost:9093"),
        ]);
        let (config, warnings) = NodeConfig::from_properties(&properties).unwrap();
        assert_eq!(warnings, []);
        assert!(read_all(&config) > 70);
    }
}
