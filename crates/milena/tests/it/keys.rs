//! What single keys of `server.properties`, and of topics, change. Each test sets keys and sees their effect.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use milena_base::{ErrorCode, Uuid};
use milena_config::Properties;
use milena_protocol::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use milena_protocol::delete_topics_request::DeleteTopicState;
use milena_protocol::describe_topic_partitions_request::TopicRequest;
use milena_protocol::fetch_request::{FetchPartition, FetchTopic};
use milena_protocol::metadata_request::MetadataRequestTopic;
use milena_protocol::{
    DeleteRecordsRequest, DeleteTopicsRequest, DescribeTopicPartitionsRequest, FetchRequest,
    FetchResponse, MetadataRequest, MetadataResponse, Records, Str,
};
use milena_records::{Codec, Compression};

use crate::node::Home;
use crate::transactional::now_ms;
use crate::wire::{Outcome, Wire, batch};

const BROKER: i8 = 4;
const SOON: Duration = Duration::from_secs(20);
const HOUR_MS: i64 = 3_600_000;

fn metadata(wire: &mut Wire, topic: &str) -> MetadataResponse {
    let request = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            name: Some(Str::copy(topic)),
            ..MetadataRequestTopic::default()
        }]),
        allow_auto_topic_creation: true,
        ..MetadataRequest::default()
    };
    wire.call(&request, 12)
}

/// A fetch from the start of partition 0, which opens a session.
fn fetch(wire: &mut Wire, topic: &str) -> FetchResponse {
    let request = FetchRequest {
        max_bytes: 10 << 20,
        session_epoch: 0,
        topics: vec![FetchTopic {
            topic_id: wire.topic_id(topic),
            partitions: vec![FetchPartition {
                partition_max_bytes: 10 << 20,
                ..FetchPartition::default()
            }],
            ..FetchTopic::default()
        }],
        ..FetchRequest::default()
    };
    wire.call(&request, 18)
}

fn bytes(response: &FetchResponse) -> usize {
    match &response.responses[0].partitions[0].records {
        Some(Records::Bytes(bytes)) => bytes.len(),
        _ => 0,
    }
}

/// The files of a directory whose names end so, with their sizes, by name.
fn files(dir: &Path, ending: &str) -> Vec<(PathBuf, u64)> {
    let mut found: Vec<(PathBuf, u64)> = fs::read_dir(dir)
        .map(|entries| entries.filter_map(Result::ok).collect::<Vec<_>>())
        .unwrap_or_default()
        .iter()
        .filter(|entry| entry.file_name().to_string_lossy().ends_with(ending))
        .map(|entry| (entry.path(), entry.metadata().map_or(0, |data| data.len())))
        .collect();
    found.sort();
    found
}

/// The smallest `log.segment.bytes`; two batches of [`large`] fit into such a segment.
const SEGMENT_BYTES: &str = "1048576";

/// A batch of one record of 400,000 bytes.
fn large(timestamp: i64) -> bytes::Bytes {
    batch(&[&[b'v'; 400_000]], timestamp, Codec::NONE)
}

/// A batch of one record of 1000 bytes.
fn kilobyte(timestamp: i64) -> bytes::Bytes {
    batch(&[&[b'v'; 1000]], timestamp, Codec::NONE)
}

#[test]
fn requests_and_answers_have_bounds() {
    let home = Home::new()
        .with("message.max.bytes", "2000")
        .with("fetch.max.bytes", "2500")
        .with("max.request.partition.size.limit", "2")
        .with("max.incremental.fetch.session.cache.slots", "1");
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    wire.create_topic("bounded", 3, &[]);
    for _ in 0..3 {
        assert_eq!(
            wire.produce("bounded", kilobyte(now_ms()), -1).error_code,
            0
        );
    }
    let large = batch(&[&[b'v'; 2000]], now_ms(), Codec::NONE);
    let refused = wire.produce("bounded", large, -1).error_code;
    assert_eq!(refused, ErrorCode::MessageTooLarge.code());
    let first = fetch(&mut wire, "bounded");
    assert!(
        (2_000..=2_500).contains(&bytes(&first)),
        "{}",
        bytes(&first)
    );
    assert_ne!(first.session_id, 0);
    let mut other = Wire::connect(&node.address);
    assert_eq!(
        fetch(&mut other, "bounded").session_id,
        0,
        "no slot is left"
    );
    let request = DescribeTopicPartitionsRequest {
        topics: vec![TopicRequest {
            name: Str::copy("bounded"),
        }],
        ..DescribeTopicPartitionsRequest::default()
    };
    let page = wire.call(&request, 0);
    assert_eq!(page.topics[0].partitions.len(), 2);
    assert_eq!(page.next_cursor.expect("a third").partition_index, 2);
}

#[test]
fn topics_come_and_go_only_where_that_is_allowed() {
    let home = Home::new()
        .with("auto.create.topics.enable", "false")
        .with("delete.topic.enable", "false");
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    for _ in 0..2 {
        assert_eq!(metadata(&mut wire, "absent").topics[0].error_code, unknown);
    }
    wire.create_topic("kept", 1, &[]);
    let request = DeleteTopicsRequest {
        topics: vec![DeleteTopicState {
            name: Some(Str::copy("kept")),
            topic_id: Uuid::default(),
        }],
        timeout_ms: 10_000,
        ..DeleteTopicsRequest::default()
    };
    let answer = wire.call(&request, 6);
    let disabled = ErrorCode::TopicDeletionDisabled.code();
    assert_eq!(answer.responses[0].error_code, disabled);
    assert_eq!(wire.log_end("kept"), 0);
    drop(node);
    let home = Home::new().with("auto.create.topics.enable", "true");
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    home.within(SOON, "it is created", || {
        metadata(&mut wire, "wanted").topics[0].error_code == 0
    });
}

#[test]
fn clients_are_told_the_advertised_address_and_rack() {
    let home = Home::new()
        .with("advertised.listeners", "PLAINTEXT://kafka.example:19092")
        .with("broker.rack", "rack-7");
    // What the node prints is the advertised address: the real one has to be known before.
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let local = free.local_addr().expect("bound").to_string();
    drop(free);
    let listeners = format!("PLAINTEXT://{local},CONTROLLER://127.0.0.1:0");
    let home = home.with("listeners", &listeners);
    let node = home.start();
    assert_eq!(node.address, "kafka.example:19092");
    let mut wire = Wire::connect(&local);
    home.within(SOON, "it registers", || {
        let answer = metadata(&mut wire, "any");
        answer.brokers.first().is_some_and(|broker| {
            let rack = broker.rack.as_ref().map(|rack| rack.to_string());
            (broker.host.as_str(), broker.port) == ("kafka.example", 19092)
                && rack.as_deref() == Some("rack-7")
        })
    });
}

#[test]
fn an_address_has_as_many_connections_as_it_may() {
    let home = Home::new().with("max.connections.per.ip", "2");
    let node = home.start();
    let mut first = Wire::connect(&node.address);
    let mut second = Wire::connect(&node.address);
    assert!(first.is_served() && second.is_served());
    let mut third = Wire::connect(&node.address);
    assert_eq!(third.outcome(SOON), Outcome::Closed);
    let exception = Some("127.0.0.1:3");
    let key = "max.connections.per.ip.overrides";
    assert_eq!(first.alter_config(BROKER, "1", key, exception).0, 0);
    let mut more = None;
    home.within(SOON, "the exception holds", || {
        let mut wire = Wire::connect(&node.address);
        let taken =
            wire.outcome(Duration::from_millis(100)) == Outcome::Nothing && wire.is_served();
        more = taken.then_some(wire);
        taken
    });
    assert_eq!(Wire::connect(&node.address).outcome(SOON), Outcome::Closed);
    drop(more);
    home.within(SOON, "a place is given back", || {
        let mut wire = Wire::connect(&node.address);
        wire.outcome(Duration::from_millis(100)) == Outcome::Nothing
    });
    drop(node);
}

#[test]
fn connections_beyond_the_limit_wait_for_a_place() {
    let listeners = "EXT://127.0.0.1:0,PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:0";
    let protocols = "EXT:PLAINTEXT,PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT";
    let home = Home::unformatted()
        .with("listeners", listeners)
        .with("listener.security.protocol.map", protocols)
        .with("inter.broker.listener.name", "PLAINTEXT")
        .with("max.connections", "2");
    home.format(&Uuid([7; 16]).to_string());
    let node = home.start();
    let mut first = Wire::connect(&node.address);
    let mut second = Wire::connect(&node.address);
    assert!(first.is_served() && second.is_served());
    let mut third = Wire::connect(&node.address);
    let within = Duration::from_millis(300);
    assert_eq!(third.outcome(within), Outcome::Nothing);
    drop(first);
    assert!(third.is_served());
}

#[test]
fn a_silent_connection_is_closed() {
    let home = Home::new().with("connections.max.idle.ms", "400");
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    assert!(wire.is_served());
    assert_eq!(wire.outcome(SOON), Outcome::Closed);
}

/// The keys of a broker are what its topics get where they say nothing; a topic's own keys come before them.
#[test]
fn segments_and_their_indexes_have_the_configured_sizes() {
    let home = Home::new()
        .with("log.segment.bytes", SEGMENT_BYTES)
        .with("log.index.interval.bytes", "100")
        .with("log.index.size.max.bytes", "83")
        .with("log.preallocate", "true");
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    wire.create_topic("brokers", 1, &[]);
    let own = [
        ("segment.bytes", "10485760"),
        ("index.interval.bytes", "100000000"),
        ("segment.index.bytes", "1048576"),
        ("preallocate", "false"),
    ];
    wire.create_topic("own", 1, &own);
    for topic in ["brokers", "own"] {
        for _ in 0..5 {
            assert_eq!(wire.produce(topic, large(now_ms()), -1).error_code, 0);
        }
    }
    let sizes = |topic: &str, ending: &str| {
        let found = files(&home.data().join(format!("{topic}-0")), ending);
        found.into_iter().map(|(_, size)| size).collect::<Vec<_>>()
    };
    let logs = sizes("brokers", ".log");
    assert_eq!(logs.len(), 3, "two batches a segment: {logs:?}");
    assert_eq!(logs[2], 1_048_576, "preallocated");
    assert!(logs[0] < 900_000, "cut when it was closed");
    // Each batch but a segment's first has an entry.
    assert_eq!(sizes("brokers", ".index")[..2], [8, 8]);
    let logs = sizes("own", ".log");
    assert!(logs.len() == 1 && logs[0] < 2_100_000, "{logs:?}");
    // Indexes that are full close their segment: 83 bytes are six entries of the time index, the last of which is kept
    // for the end.
    for (topic, segments) in [("brokers", 4..=8), ("own", 1..=1)] {
        for _ in 0..24 {
            assert_eq!(wire.produce(topic, kilobyte(now_ms()), -1).error_code, 0);
        }
        let more = sizes(topic, ".log").len();
        assert!(segments.contains(&more), "{topic}: {more} segments");
    }
    drop(node);
    let home = Home::new().with("log.segment.bytes", SEGMENT_BYTES);
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    wire.create_topic("whole", 1, &[("preallocate", "true")]);
    let log = files(&home.data().join("whole-0"), ".log");
    assert_eq!(log[0].1, 1_048_576);
}

#[test]
fn times_of_records_are_checked_or_replaced() {
    let home = Home::new()
        .with("log.message.timestamp.before.max.ms", "60000")
        .with("log.message.timestamp.after.max.ms", "60000");
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    wire.create_topic("checked", 1, &[]);
    let lenient = [
        ("message.timestamp.before.max.ms", "36000000"),
        ("message.timestamp.after.max.ms", "36000000"),
    ];
    wire.create_topic("lenient", 1, &lenient);
    let invalid = ErrorCode::InvalidTimestamp.code();
    for (away, code) in [(-HOUR_MS, invalid), (HOUR_MS, invalid), (0, 0)] {
        let records = kilobyte(now_ms() + away);
        let answer = wire.produce("checked", records.clone(), -1);
        assert_eq!(answer.error_code, code, "{away}");
        assert_eq!(wire.produce("lenient", records, -1).error_code, 0);
    }
    drop(node);
    let home = Home::new().with("log.message.timestamp.type", "LogAppendTime");
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    wire.create_topic("stamped", 1, &[]);
    let before = now_ms();
    let answer = wire.produce("stamped", kilobyte(before - HOUR_MS), -1);
    assert_eq!(answer.error_code, 0);
    assert!(answer.log_append_time_ms >= before);
}

#[test]
fn segments_roll_by_the_records_times() {
    let start = now_ms() - 10 * HOUR_MS;
    for (key, value, apart) in [
        ("log.roll.hours", "1", 2 * HOUR_MS),
        ("log.roll.ms", "1000", 5_000),
    ] {
        let home = Home::new().with(key, value);
        let node = home.start();
        let mut wire = Wire::connect(&node.address);
        wire.create_topic("rolls", 1, &[]);
        for index in 0..3 {
            let records = kilobyte(start + index * apart);
            assert_eq!(wire.produce("rolls", records, -1).error_code, 0);
        }
        let logs = files(&home.data().join("rolls-0"), ".log");
        assert_eq!(logs.len(), 3, "{key}={value}");
    }
}

/// A home whose properties lack a key.
fn without(mut home: Home, key: &str) -> Home {
    let kept = home.properties.iter().filter(|(name, _)| *name != key);
    let kept: Vec<(String, String)> = kept.map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    home.properties = kept.into_iter().collect::<Properties>();
    home
}

#[test]
fn retention_looks_at_size_and_age() {
    let home = Home::new()
        .with("log.segment.bytes", SEGMENT_BYTES)
        .with("log.retention.bytes", "1000000")
        .with("log.retention.check.interval.ms", "100")
        .with("log.segment.delete.delay.ms", "100");
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    wire.create_topic("sized", 1, &[]);
    wire.create_topic("kept", 1, &[("retention.bytes", "-1")]);
    for topic in ["sized", "kept"] {
        for _ in 0..6 {
            assert_eq!(wire.produce(topic, large(now_ms()), -1).error_code, 0);
        }
    }
    home.within(SOON, "the first segments go", || {
        wire.list_offset("sized", 0, -2).2 == 2
    });
    assert_eq!(wire.list_offset("kept", 0, -2).2, 0);
    home.within(SOON, "their files go too", || {
        files(&home.data().join("sized-0"), ".deleted").is_empty()
    });
    drop(node);
    // The first look is at the start; the next would be in an hour.
    let home = without(Home::new(), "log.retention.ms")
        .with("log.retention.minutes", "10")
        .with("log.roll.hours", "1")
        .with("log.retention.check.interval.ms", "3600000")
        .with("log.initial.task.delay.ms", "0");
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    wire.create_topic("aged", 1, &[]);
    for age in [9, 6, 0] {
        let records = kilobyte(now_ms() - age * HOUR_MS);
        assert_eq!(wire.produce("aged", records, -1).error_code, 0);
    }
    node.stop();
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    home.within(SOON, "what is old goes", || {
        wire.list_offset("aged", 0, -2).2 == 2
    });
}

#[test]
fn files_of_deleted_segments_stay_for_a_while() {
    let home = Home::new();
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    let topics = [("soon", "1"), ("late", "3600000")];
    for (topic, delay) in topics {
        let configs = [
            ("internal.segment.bytes", "1100"),
            ("file.delete.delay.ms", delay),
        ];
        wire.create_topic(topic, 1, &configs);
        for _ in 0..3 {
            assert_eq!(wire.produce(topic, kilobyte(now_ms()), -1).error_code, 0);
        }
        let request = DeleteRecordsRequest {
            topics: vec![DeleteRecordsTopic {
                name: Str::copy(topic),
                partitions: vec![DeleteRecordsPartition {
                    partition_index: 0,
                    offset: 2,
                }],
            }],
            timeout_ms: 10_000,
        };
        let answer = wire.call(&request, 2);
        assert_eq!(answer.topics[0].partitions[0].error_code, 0);
    }
    // Segments before the log's start are taken by the next look of retention, which is asked for now.
    node.stop();
    let home = home
        .with("log.retention.check.interval.ms", "100")
        .with("log.retention.ms", "-1");
    let node = home.start();
    let dir = |topic: &str| home.data().join(format!("{topic}-0"));
    home.within(SOON, "two segments of each are renamed", || {
        files(&dir("late"), ".log.deleted").len() == 2
    });
    home.within(SOON, "the files are removed", || {
        let (log, deleted) = (files(&dir("soon"), ".log"), files(&dir("soon"), ".deleted"));
        log.len() == 1 && deleted.is_empty()
    });
    assert_eq!(files(&dir("late"), ".log.deleted").len(), 2);
    drop(node);
}

/// Bytes of a partition's log for each codec, at these levels.
fn compressed(levels: [(&str, &str); 3]) -> Vec<u64> {
    let mut home = Home::new();
    for (key, level) in levels {
        home = home.with(key, level);
    }
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    let text: Vec<u8> = (0..60_000_u32)
        .flat_map(|n| {
            (n.wrapping_mul(2_654_435_761) % 1_000)
                .to_string()
                .into_bytes()
        })
        .collect();
    let sizes = ["gzip", "lz4", "zstd"].map(|codec| {
        wire.create_topic(codec, 1, &[("compression.type", codec)]);
        let records = batch(&[&text], now_ms(), Codec::NONE);
        assert_eq!(wire.produce(codec, records, -1).error_code, 0);
        files(&home.data().join(format!("{codec}-0")), ".log")[0].1
    });
    sizes.to_vec()
}

#[test]
fn higher_levels_compress_better() {
    let gzip = "compression.gzip.level";
    let (lz4, zstd) = ("compression.lz4.level", "compression.zstd.level");
    let low = compressed([
        ("compression.gzip.level", "1"),
        ("compression.lz4.level", "1"),
        ("compression.zstd.level", "1"),
    ]);
    let high = compressed([(gzip, "9"), (lz4, "17"), (zstd, "19")]);
    println!("gzip, lz4, zstd: {low:?} and {high:?} bytes");
    for (low, high) in low.iter().zip(&high) {
        assert!(high < low, "{low} became {high}");
    }
}

#[test]
fn what_a_batch_becomes_is_bounded() {
    let home = Home::new().with("max.decompressed.message.bytes", "100000");
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    wire.create_topic("bounded", 1, &[]);
    let own = [("max.decompressed.message.bytes", "1000000")];
    wire.create_topic("own", 1, &own);
    let codec = Codec {
        compression: Compression::Zstd,
        level: 3,
    };
    let records = batch(&[&[0; 300_000]], now_ms(), codec);
    assert_ne!(wire.produce("bounded", records.clone(), -1).error_code, 0);
    assert_eq!(wire.produce("own", records, -1).error_code, 0);
}

#[test]
fn data_and_metadata_lie_where_they_are_told() {
    let home = without(Home::unformatted(), "log.dirs");
    let (data, meta) = (home.path().join("one"), home.path().join("meta"));
    let home = home
        .with("log.dir", &data.display().to_string())
        .with("metadata.log.dir", &meta.display().to_string());
    home.format(&Uuid([7; 16]).to_string());
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    wire.create_topic("placed", 1, &[]);
    assert!(data.join("placed-0").is_dir());
    assert!(meta.join("__cluster_metadata-0").is_dir());
    assert!(!data.join("__cluster_metadata-0").exists());
    assert!(!meta.join("placed-0").exists());
    drop(node);
}

#[test]
fn the_metadata_log_rolls_and_is_summed_up_by_size() {
    let home = Home::new()
        .with("metadata.log.max.record.bytes.between.snapshots", "2000")
        .with("internal.metadata.log.segment.bytes", "4000");
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    for index in 0..40 {
        wire.create_topic(&format!("topic-{index}"), 1, &[]);
    }
    let dir = home.data().join("__cluster_metadata-0");
    home.within(SOON, "there are snapshots", || {
        // The first is what the node was formatted with.
        files(&dir, ".checkpoint").iter().any(|(path, _)| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            !name.starts_with("00000000000000000000-")
        })
    });
    let ever = home.log();
    let segments = files(&dir, ".log").len() + files(&dir, ".log.deleted").len();
    assert!(segments > 1, "{segments} segments\n{ever}");
    drop(node);
}

/// The records of the metadata log, as `kafka-dump-log` prints them.
fn metadata_records(home: &Home) -> String {
    let log = files(&home.data().join("__cluster_metadata-0"), ".log")
        .remove(0)
        .0;
    let dumped = Command::new(env!("CARGO_BIN_EXE_milena"))
        .args(["kafka-dump-log", "--cluster-metadata-decoder", "--files"])
        .arg(log)
        .output()
        .expect("it runs");
    String::from_utf8_lossy(&dumped.stdout).into_owned()
}

#[test]
fn a_broker_leaves_by_asking_only_where_it_is_to() {
    for (value, asks) in [("true", true), ("false", false)] {
        let home = Home::new().with("controlled.shutdown.enable", value);
        home.start().stop();
        let records = metadata_records(&home);
        assert!(records.contains("REGISTER_BROKER_RECORD"), "{records}");
        let asked = records.contains("\"fenced\":1");
        assert_eq!(asked, asks, "controlled.shutdown.enable={value}\n{records}");
    }
}

#[test]
fn an_idle_controller_writes_only_where_it_is_to() {
    let ends = |value: &str| {
        let home = Home::new().with("metadata.max.idle.interval.ms", value);
        let node = home.start();
        std::thread::sleep(Duration::from_millis(1500));
        node.stop();
        metadata_records(&home).matches("NO_OP_RECORD").count()
    };
    assert_eq!(ends("0"), 0);
    assert!(ends("50") > 10);
}
