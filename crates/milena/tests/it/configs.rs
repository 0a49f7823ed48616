//! Topic configs changed while the node runs take effect.

use std::time::Duration;

use milena_base::ErrorCode;
use milena_protocol::describe_configs_request::DescribeConfigsResource;
use milena_protocol::fetch_request::{FetchPartition, FetchTopic};
use milena_protocol::{DescribeConfigsRequest, FetchRequest, Records, Str};
use milena_records::{BatchHeader, Codec, Compression, TimestampType};

use crate::node::Home;
use crate::wire::{Wire, batch};

const TOPIC: i8 = 2;
const NOW: i64 = 1_700_000_000_000;
const EFFECT_WITHIN: Duration = Duration::from_secs(20);

/// Sets a topic's config, or takes it away; the error code.
fn alter(wire: &mut Wire, topic: &str, key: &str, value: Option<&str>) -> i16 {
    wire.alter_config(TOPIC, topic, key, value).0
}

/// Value and source of a topic's config.
fn described(wire: &mut Wire, topic: &str, key: &str) -> (Option<String>, i8) {
    let request = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: TOPIC,
            resource_name: Str::copy(topic),
            configuration_keys: Some(vec![Str::copy(key)]),
        }],
        ..DescribeConfigsRequest::default()
    };
    let answer = wire.call(&request, 4);
    assert_eq!(answer.results[0].error_code, 0);
    let config = &answer.results[0].configs[0];
    (
        config.value.as_ref().map(|v| v.to_string()),
        config.config_source,
    )
}

/// The header of the batch at this offset.
fn header_at(wire: &mut Wire, topic: &str, offset: i64) -> BatchHeader {
    let fetch = FetchRequest {
        max_bytes: 1 << 20,
        topics: vec![FetchTopic {
            topic: Str::copy(topic),
            topic_id: wire.topic_id(topic),
            partitions: vec![FetchPartition {
                fetch_offset: offset,
                partition_max_bytes: 1 << 20,
                ..FetchPartition::default()
            }],
        }],
        ..FetchRequest::default()
    };
    let answer = wire.call(&fetch, 17);
    let data = &answer.responses[0].partitions[0];
    assert_eq!(data.error_code, 0);
    let Some(Records::Bytes(bytes)) = &data.records else {
        panic!("no records at {offset}");
    };
    BatchHeader::parse(bytes).expect("a batch")
}

#[test]
fn changed_configs_rule_the_next_produce() {
    let home = Home::new();
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    wire.create_topic("ruled", 1, &[]);
    let records = batch(&[&[b'v'; 3000]], NOW, Codec::NONE);

    assert_eq!(wire.produce("ruled", records.clone(), -1).error_code, 0);
    assert_eq!(
        alter(&mut wire, "ruled", "max.message.bytes", Some("2000")),
        0
    );
    let too_large = ErrorCode::MessageTooLarge.code();
    home.within(EFFECT_WITHIN, "max.message.bytes", || {
        wire.produce("ruled", records.clone(), -1).error_code == too_large
    });
    assert_eq!(
        described(&mut wire, "ruled", "max.message.bytes"),
        (Some("2000".into()), 1)
    );
    assert_eq!(alter(&mut wire, "ruled", "max.message.bytes", None), 0);
    home.within(EFFECT_WITHIN, "its default", || {
        wire.produce("ruled", records.clone(), -1).error_code == 0
    });
    assert_eq!(described(&mut wire, "ruled", "max.message.bytes").1, 5);

    let mut codecs = 0;
    for (name, codec) in [
        ("gzip", Compression::Gzip),
        ("snappy", Compression::Snappy),
        ("lz4", Compression::Lz4),
        ("zstd", Compression::Zstd),
        ("uncompressed", Compression::None),
    ] {
        assert_eq!(alter(&mut wire, "ruled", "compression.type", Some(name)), 0);
        home.within(EFFECT_WITHIN, name, || {
            let answer = wire.produce("ruled", records.clone(), -1);
            assert_eq!(answer.error_code, 0);
            header_at(&mut wire, "ruled", answer.base_offset).compression() == Ok(codec)
        });
        codecs += 1;
    }

    let stamped = Some("LogAppendTime");
    assert_eq!(
        alter(&mut wire, "ruled", "message.timestamp.type", stamped),
        0
    );
    home.within(EFFECT_WITHIN, "message.timestamp.type", || {
        let answer = wire.produce("ruled", records.clone(), -1);
        let header = header_at(&mut wire, "ruled", answer.base_offset);
        let by_log = header.timestamp_type() == TimestampType::LogAppendTime;
        assert_eq!(by_log, answer.log_append_time_ms > NOW);
        assert_eq!(
            by_log,
            header.max_timestamp().0 == answer.log_append_time_ms
        );
        by_log
    });
    println!("configs: 1 size, 1 default, {codecs} codecs, 1 timestamp type");
}

#[test]
fn retention_deletes_what_is_too_old() {
    let home = Home::new().with("log.retention.check.interval.ms", "100");
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    wire.create_topic("old", 1, &[("retention.ms", "-1")]);
    for _ in 0..3 {
        let records = batch(&[b"old"], NOW, Codec::NONE);
        assert_eq!(wire.produce("old", records, -1).error_code, 0);
    }
    assert_eq!(wire.list_offset("old", 0, -2).2, 0);
    assert_eq!(alter(&mut wire, "old", "retention.ms", Some("1000")), 0);
    home.within(EFFECT_WITHIN, "retention.ms", || {
        wire.list_offset("old", 0, -2).2 == 3
    });
    assert_eq!(wire.log_end("old"), 3);
    let records = batch(&[b"new"], NOW, Codec::NONE);
    assert_eq!(wire.produce("old", records, -1).base_offset, 3);
    println!("configs: 1 retention");
}

#[test]
fn more_in_sync_replicas_than_there_are_cannot_be_asked_for() {
    let home = Home::new();
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    wire.create_topic("alone", 1, &[("min.insync.replicas", "3")]);
    let records = batch(&[b"kept"], NOW, Codec::NONE);
    assert_eq!(wire.produce("alone", records, -1).error_code, 0);
    let shown = described(&mut wire, "alone", "min.insync.replicas");
    assert_eq!(shown, (Some("3".into()), 1));
    println!("configs: 1 min.insync.replicas");
}

#[test]
fn bad_configs_are_refused() {
    let home = Home::new();
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    wire.create_topic("strict", 1, &[]);
    let invalid = ErrorCode::InvalidConfig.code();
    let cases = [
        ("retention.ms", "soon"),
        ("retention.ms", "-2"),
        ("compression.type", "brotli"),
        ("cleanup.policy", "keep"),
        ("min.insync.replicas", "0"),
        ("no.such.key", "1"),
    ];
    for (key, value) in cases {
        assert_eq!(
            alter(&mut wire, "strict", key, Some(value)),
            invalid,
            "{key}={value}"
        );
    }
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    assert_eq!(
        alter(&mut wire, "missing", "retention.ms", Some("1")),
        unknown
    );
    println!("configs: {} refusals", cases.len() + 1);
}
