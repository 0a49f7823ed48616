//! What a log is told about how to behave: plain values, resolved from the topic's configuration by the caller.

use std::time::Duration;

/// Behaviour of one partition's log. The names are those of the topic's keys.
#[derive(Clone, Debug, PartialEq)]
pub struct LogOptions {
    /// `segment.bytes`: a segment does not grow beyond this.
    pub segment_bytes: u32,
    /// `segment.ms`: a segment is closed when its records span more than this.
    pub segment_ms: i64,
    /// `preallocate`: a new segment's log file gets `segment_bytes` at once.
    pub preallocate: bool,
    /// `segment.jitter.ms`, already drawn: how much sooner this log's segments are closed by age.
    pub segment_jitter_ms: i64,
    /// `segment.index.bytes`: a segment is closed when an index would grow beyond this.
    pub segment_index_bytes: u32,
    /// `index.interval.bytes`: bytes of batches between two index entries.
    pub index_interval_bytes: u32,
    /// `flush.messages`: records that may be unflushed. 1: each append is due for a flush.
    pub flush_messages: i64,
    /// `flush.ms`: how long records may be unflushed; `None` leaves it to the operating system.
    pub flush_ms: Option<u64>,
    /// `retention.ms`; `None` keeps records whatever their age.
    pub retention_ms: Option<i64>,
    /// `retention.bytes`; `None` keeps records whatever their size.
    pub retention_bytes: Option<u64>,
    /// `message.timestamp.type` is `LogAppendTime`.
    pub log_append_time: bool,
    /// `cleanup.policy`.
    pub cleanup: Cleanup,
    /// `min.cleanable.dirty.ratio`: the share of dirty bytes beyond which a compacted log is cleaned.
    pub min_cleanable_dirty_ratio: f64,
    /// `min.compaction.lag.ms`: younger records are not compacted.
    pub min_compaction_lag_ms: i64,
    /// `max.compaction.lag.ms`: a log with older dirty records is cleaned whatever its dirty ratio.
    pub max_compaction_lag_ms: i64,
    /// `delete.retention.ms`: how long tombstones and markers stay once they were compacted.
    pub delete_retention_ms: i64,
    /// `file.delete.delay.ms`: how long a file that was renamed to `.deleted` stays.
    pub file_delete_delay: Duration,
    /// `producer.id.expiration.ms`.
    pub producer_id_expiration_ms: i64,
}

/// `cleanup.policy`. Retention deletes; what compacts is [`Cleaning`](crate::Cleaning).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cleanup {
    pub delete: bool,
    pub compact: bool,
}

impl Default for LogOptions {
    /// Kafka's defaults.
    fn default() -> LogOptions {
        LogOptions {
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 3_600_000,
            preallocate: false,
            segment_jitter_ms: 0,
            segment_index_bytes: 10 << 20,
            index_interval_bytes: 4096,
            flush_messages: i64::MAX,
            flush_ms: None,
            retention_ms: Some(7 * 24 * 3_600_000),
            retention_bytes: None,
            log_append_time: false,
            cleanup: Cleanup {
                delete: true,
                compact: false,
            },
            min_cleanable_dirty_ratio: 0.5,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            delete_retention_ms: 24 * 3_600_000,
            file_delete_delay: Duration::from_secs(60),
            producer_id_expiration_ms: 24 * 3_600_000,
        }
    }
}
