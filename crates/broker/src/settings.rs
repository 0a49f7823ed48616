//! The node's own settings, resolved once at start from its configuration.

use std::path::PathBuf;
use std::time::Duration;

use milena_base::BrokerId;

use crate::api::ListenerKind;
use crate::throttle::Windows;

/// One address that the node listens on.
#[derive(Clone, Debug)]
pub struct ListenerSettings {
    pub name: String,
    pub kind: ListenerKind,
    pub bind_host: String,
    pub bind_port: u16,
    pub advertised_host: String,
    pub advertised_port: u16,
    /// Kafka's number: 0 is PLAINTEXT.
    pub security_protocol: i16,
}

/// See the module's words. Field names follow the keys.
#[derive(Clone, Debug)]
pub struct Settings {
    pub node: BrokerId,
    pub cluster_id: String,
    pub listeners: Vec<ListenerSettings>,
    /// `inter.broker.listener.name`, or the one of the protocol.
    pub inter_broker_listener: String,
    /// `controller.quorum.request.timeout.ms`.
    pub quorum_request_timeout: Duration,
    /// `broker.session.timeout.ms`.
    pub broker_session_timeout: Duration,
    /// `replica.fetch.backoff.ms`.
    pub replica_fetch_backoff: Duration,
    /// `replica.socket.timeout.ms`.
    pub replica_socket_timeout: Duration,
    /// `replica.fetch.max.bytes`.
    pub replica_fetch_bytes_max: i32,
    /// `replica.fetch.response.max.bytes`.
    pub replica_fetch_response_bytes_max: i32,
    /// `replica.fetch.min.bytes`.
    pub replica_fetch_min_bytes: i32,
    /// `replica.fetch.wait.max.ms`.
    pub replica_fetch_wait_max_ms: i32,
    /// `replica.lag.time.max.ms`.
    pub replica_lag_time_max: Duration,
    /// `replication.quota.window.num` and `replication.quota.window.size.seconds`.
    pub replication_windows: Windows,
    /// `replica.selector.class` is Kafka's selector by rack.
    pub reads_by_rack: bool,
    /// `fetch.max.bytes`.
    pub fetch_bytes_max: usize,
    /// `max.incremental.fetch.session.cache.slots`.
    pub fetch_sessions_max: usize,
    /// `max.request.partition.size.limit`.
    pub partitions_per_page_max: i32,
    /// `auto.create.topics.enable`.
    pub auto_create_topics: bool,
    /// `offsets.topic.num.partitions`.
    pub offsets_topic_partitions: i32,
    /// `offsets.topic.replication.factor`.
    pub offsets_topic_replication: i16,
    /// `offsets.topic.segment.bytes`.
    pub offsets_topic_segment_bytes: i32,
    /// `transaction.state.log.num.partitions`.
    pub transaction_topic_partitions: i32,
    /// `transaction.state.log.replication.factor`.
    pub transaction_topic_replication: i16,
    /// `transaction.state.log.segment.bytes`.
    pub transaction_topic_segment_bytes: i32,
    /// `transaction.state.log.min.isr`.
    pub transaction_topic_min_isr: i32,
    /// Directory of `__cluster_metadata-0`.
    pub metadata_dir: PathBuf,
    /// `log.retention.check.interval.ms`.
    pub retention_check_interval: Duration,
    /// `log.initial.task.delay.ms`.
    pub initial_task_delay: Duration,
    /// `replica.high.watermark.checkpoint.interval.ms`.
    pub high_watermark_checkpoint_interval: Duration,
    /// `log.flush.offset.checkpoint.interval.ms`.
    pub recovery_point_checkpoint_interval: Duration,
    /// `log.flush.start.offset.checkpoint.interval.ms`.
    pub log_start_checkpoint_interval: Duration,
    /// `producer.id.expiration.check.interval.ms`.
    pub producer_expiry_interval: Duration,
    /// `log.flush.scheduler.interval.ms`.
    pub flush_check_interval: Duration,
}
