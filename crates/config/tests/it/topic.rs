use std::collections::BTreeMap;

use milena_config::{CompressionType, NodeConfig, Properties, TopicSettings};

fn node(more: &[(&str, &str)]) -> NodeConfig {
    let mut properties = Properties::from_iter([
        ("process.roles", "broker,controller"),
        ("node.id", "1"),
        ("controller.listener.names", "CONTROLLER"),
        (
            "listeners",
            "PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093",
        ),
        ("controller.quorum.voters", "1@localhost:9093"),
    ]);
    for (key, value) in more {
        properties.set(*key, *value);
    }
    NodeConfig::from_properties(&properties).unwrap().0
}

fn own(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect()
}

#[test]
fn defaults_are_kafkas() {
    let settings = TopicSettings::defaults(&node(&[]));
    assert!(settings.cleanup_policy.delete && !settings.cleanup_policy.compact);
    assert_eq!(settings.compression_type, CompressionType::Producer);
    assert_eq!(settings.segment_bytes, 1 << 30);
    assert_eq!(settings.segment_ms, 604_800_000);
    assert_eq!(settings.retention_ms, Some(604_800_000));
    assert_eq!(settings.retention_bytes, None);
    assert_eq!(settings.flush_ms, i64::MAX);
    assert_eq!(settings.max_message_bytes, 1_048_588);
}

#[test]
fn the_broker_gives_what_the_topic_does_not_say() {
    let config = node(&[
        ("log.retention.hours", "2"),
        ("log.roll.hours", "3"),
        ("log.flush.scheduler.interval.ms", "5000"),
        ("message.max.bytes", "77"),
        ("compression.type", "zstd"),
        ("compression.zstd.level", "7"),
    ]);
    let settings = TopicSettings::defaults(&config);
    assert_eq!(settings.retention_ms, Some(7_200_000));
    assert_eq!(settings.segment_ms, 10_800_000);
    assert_eq!(settings.flush_ms, 5000);
    assert_eq!(settings.max_message_bytes, 77);
    assert_eq!(
        settings.compression_type,
        CompressionType::Zstd { level: 7 }
    );

    let finer = node(&[("log.retention.hours", "2"), ("log.retention.minutes", "1")]);
    assert_eq!(TopicSettings::defaults(&finer).retention_ms, Some(60_000));
    let forever = node(&[
        ("log.retention.hours", "-5"),
        ("log.retention.minutes", "-1"),
    ]);
    assert_eq!(TopicSettings::defaults(&forever).retention_ms, None);
}

#[test]
fn the_topic_wins_over_the_broker() {
    let config = node(&[("log.retention.ms", "1000")]);
    let settings = TopicSettings::resolve(
        &config,
        &own(&[
            ("retention.ms", "-1"),
            ("cleanup.policy", "compact"),
            ("segment.ms", "9000"),
            ("max.compaction.lag.ms", "8000"),
            ("from.the.future", "1"),
        ]),
    )
    .unwrap();
    assert_eq!(settings.retention_ms, None);
    assert!(settings.cleanup_policy.compact && !settings.cleanup_policy.delete);
    assert_eq!(settings.segment_ms_max(), 8000);
}

#[test]
fn what_does_not_parse_is_an_error_or_left_out() {
    let config = node(&[]);
    let bad = own(&[("retention.ms", "soon"), ("segment.bytes", "2097152")]);
    assert_eq!(
        TopicSettings::resolve(&config, &bad).unwrap_err().0,
        "Invalid value soon for configuration retention.ms: Not a number of type LONG"
    );
    let (settings, refused) = TopicSettings::resolve_lenient(&config, &bad);
    assert_eq!(refused.len(), 1);
    assert_eq!(
        (settings.retention_ms, settings.segment_bytes),
        (Some(604_800_000), 2_097_152)
    );
}
