//! A topic's configuration as its log and the requests for it need it.

use std::time::Duration;

use milena_base::{BrokerId, Prng, TopicIdPartition};
use milena_config::{CompressionType, TimestampType as ConfiguredTimestamp, TopicSettings};
use milena_log::{Cleanup, LogOptions};
use milena_records::{CheckOptions, Codec, Compression, Limits, TimestampType};

use crate::broker::TopicRules;
use crate::throttle;

/// Of one partition's log. Its segments are closed by up to `segment.jitter.ms` sooner, each partition's by another time, so that not
/// all roll at once.
pub(crate) fn log_options(
    settings: &TopicSettings,
    id: TopicIdPartition,
    producer_id_expiration_ms: i64,
) -> LogOptions {
    let limited = |bytes: Option<i64>| bytes.filter(|b| *b >= 0);
    LogOptions {
        segment_bytes: settings.segment_size().max(1) as u32,
        segment_ms: settings.segment_ms_max(),
        segment_jitter_ms: jitter_ms(settings, id),
        preallocate: settings.preallocate,
        segment_index_bytes: settings.segment_index_bytes.max(1) as u32,
        index_interval_bytes: settings.index_interval_bytes.max(0) as u32,
        flush_messages: settings.flush_messages,
        flush_ms: (settings.flush_ms != i64::MAX).then_some(settings.flush_ms as u64),
        retention_ms: limited(settings.retention_ms),
        retention_bytes: limited(settings.retention_bytes).map(|bytes| bytes as u64),
        log_append_time: settings.message_timestamp_type == ConfiguredTimestamp::LogAppendTime,
        cleanup: Cleanup {
            delete: settings.cleanup_policy.delete,
            compact: settings.cleanup_policy.compact,
        },
        min_cleanable_dirty_ratio: settings.min_cleanable_dirty_ratio,
        min_compaction_lag_ms: settings.min_compaction_lag_ms,
        max_compaction_lag_ms: settings.max_compaction_lag_ms,
        delete_retention_ms: settings.delete_retention_ms,
        file_delete_delay: Duration::from_millis(settings.file_delete_delay_ms.max(0) as u64),
        producer_id_expiration_ms,
    }
}

fn jitter_ms(settings: &TopicSettings, id: TopicIdPartition) -> i64 {
    let most = settings.segment_jitter_ms.min(settings.segment_ms);
    if most <= 0 {
        return 0;
    }
    let (high, low) = id.topic_id.0.split_at(8);
    let half = |bytes: &[u8]| bytes.iter().fold(0, |n, b| (n << 8) | u64::from(*b));
    let seed = half(high) ^ half(low) ^ (id.partition as u64).rotate_left(32);
    Prng::new(seed).below(most as u64) as i64
}

/// Of one partition on this broker.
pub(crate) fn rules(settings: &TopicSettings, partition: i32, me: BrokerId) -> TopicRules {
    let throttled = |list: &[String]| throttle::names(list, partition, me);
    TopicRules {
        throttled_leader: throttled(&settings.leader_replication_throttled_replicas),
        throttled_follower: throttled(&settings.follower_replication_throttled_replicas),
        check: CheckOptions {
            message_bytes_max: settings.max_message_bytes.max(0) as usize,
            compacted: settings.cleanup_policy.compact,
            timestamp_type: match settings.message_timestamp_type {
                ConfiguredTimestamp::CreateTime => TimestampType::CreateTime,
                ConfiguredTimestamp::LogAppendTime => TimestampType::LogAppendTime,
            },
            timestamp_before_ms_max: settings.message_timestamp_before_max_ms,
            timestamp_after_ms_max: settings.message_timestamp_after_max_ms,
            compression: codec(settings.compression_type),
            limits: Limits {
                record_bytes_max: settings.max_decompressed_message_bytes.max(0) as u32,
                ..Limits::default()
            },
            ..CheckOptions::default()
        },
        deletes: settings.cleanup_policy.delete,
    }
}

fn codec(configured: CompressionType) -> Option<Codec> {
    let codec = |compression, level| Some(Codec { compression, level });
    match configured {
        CompressionType::Producer => None,
        CompressionType::Uncompressed => Some(Codec::NONE),
        CompressionType::Gzip { level } => codec(Compression::Gzip, level),
        CompressionType::Snappy => Some(Codec::of(Compression::Snappy)),
        CompressionType::Lz4 { level } => codec(Compression::Lz4, level),
        CompressionType::Zstd { level } => codec(Compression::Zstd, level),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use milena_base::Uuid;
    use milena_config::{NodeConfig, Properties};

    use super::*;

    fn jitters(node: &[(&str, &str)], topic: &[(&str, &str)]) -> Vec<i64> {
        let mut properties = Properties::from_iter([
            ("process.roles", "broker,controller"),
            ("node.id", "1"),
            ("controller.listener.names", "CONTROLLER"),
            (
                "listeners",
                "PLAINTEXT://localhost:0,CONTROLLER://localhost:0",
            ),
            ("controller.quorum.bootstrap.servers", "localhost:9093"),
        ]);
        for (key, value) in node {
            properties.set(*key, *value);
        }
        let own = topic
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let own: BTreeMap<String, String> = own.collect();
        let (config, _) = NodeConfig::from_properties(&properties).expect("good");
        let settings = TopicSettings::resolve(&config, &own).expect("good");
        let ids = (0..8).map(|partition| TopicIdPartition::new(Uuid([9; 16]), partition));
        ids.map(|id| log_options(&settings, id, 0).segment_jitter_ms)
            .collect()
    }

    #[test]
    fn partitions_roll_at_times_of_their_own() {
        assert!(jitters(&[], &[]).iter().all(|ms| *ms == 0));
        for (node, most) in [
            (("log.roll.jitter.ms", "60000"), 60_000),
            (("log.roll.jitter.hours", "1"), 3_600_000),
        ] {
            let drawn = jitters(&[node], &[]);
            assert!(drawn.iter().all(|ms| (0..most).contains(ms)), "{drawn:?}");
            assert!(drawn.windows(2).all(|pair| pair[0] != pair[1]), "{drawn:?}");
        }
        let own = [("segment.jitter.ms", "5000"), ("segment.ms", "1000")];
        let drawn = jitters(&[], &own);
        assert!(drawn.iter().all(|ms| (0..1_000).contains(ms)), "{drawn:?}");
        assert_eq!(drawn, jitters(&[], &own), "the same after a restart");
    }
}
