//! Compaction in a running node: what is left of a topic, which keys rule it, and that the offsets of groups stay
//! small.

use std::time::Duration;

use bytes::Bytes;
use milena_base::{ErrorCode, Timestamp};
use milena_protocol::fetch_request::{FetchPartition, FetchTopic};
use milena_protocol::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use milena_protocol::{
    FetchRequest, FindCoordinatorRequest, OffsetCommitRequest, OffsetFetchRequest, Records, Str,
    offset_fetch_request as fetching,
};
use milena_records::{BatchBuilder, Compression, Limits, NewRecord, batches};

use crate::node::{Home, Node};
use crate::wire::Wire;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const NOW: i64 = 1_700_000_000_000;
const EFFECT_WITHIN: Duration = Duration::from_secs(30);
/// Each round of records is so much later that the segment of the last one is closed.
const ROUND_MS: i64 = 60_000;

/// A node that looks for dirty logs all the time.
fn home() -> Home {
    Home::new().with("log.cleaner.backoff.ms", "20")
}

fn alter(wire: &mut Wire, kind: i8, name: &str, key: &str, value: &str) {
    let (code, message) = wire.alter_config(kind, name, key, Some(value));
    assert_eq!(code, 0, "{key}={value}: {message:?}");
}

fn keyed(records: &[(Option<&str>, Option<&str>)], timestamp: i64) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    for (key, value) in records {
        let record = NewRecord {
            timestamp: Timestamp(timestamp),
            key: key.map(str::as_bytes),
            value: value.map(str::as_bytes),
            headers: &[],
        };
        builder.append(record).expect("it fits");
    }
    builder.build().to_bytes()
}

/// A compacted topic whose segments are closed by time.
fn compacted(wire: &mut Wire, topic: &str, more: &[(&str, &str)]) {
    let mut configs = vec![("cleanup.policy", "compact"), ("segment.ms", "1000")];
    configs.extend(more);
    wire.create_topic(topic, 1, &configs);
}

/// One batch with every key from `0` to `keys`, later than all before.
fn round(wire: &mut Wire, topic: &str, keys: usize, value: Option<&str>) {
    let keys: Vec<String> = (0..keys).map(|key| key.to_string()).collect();
    let records: Vec<_> = keys.iter().map(|key| (Some(key.as_str()), value)).collect();
    let at = NOW + wire.log_end(topic) * ROUND_MS;
    let answer = wire.produce(topic, keyed(&records, at), -1);
    assert_eq!(answer.error_code, 0);
}

fn log_start(wire: &mut Wire, topic: &str) -> i64 {
    wire.wait_for_leaders(topic, 1);
    let (error, _, offset) = wire.list_offset(topic, 0, -2);
    assert_eq!(error, 0);
    offset
}

/// Offset, key and value of every record in the log.
fn read_all(wire: &mut Wire, topic: &str) -> Vec<(i64, String, Option<String>)> {
    let (mut offset, end) = (log_start(wire, topic), wire.log_end(topic));
    let id = wire.topic_id(topic);
    let text = |bytes: Bytes| String::from_utf8_lossy(&bytes).into_owned();
    let mut found = Vec::new();
    while offset < end {
        let fetch = FetchRequest {
            max_bytes: 1 << 20,
            topics: vec![FetchTopic {
                topic: Str::copy(topic),
                topic_id: id,
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
            panic!("no records at {offset} of {end}");
        };
        for batch in batches(bytes.clone()) {
            let batch = batch.expect("a batch");
            batch.check_crc().expect("intact");
            offset = batch.header().next_offset().0;
            for record in batch.records(Limits::default()) {
                let record = record.expect("a record");
                let key = record.key.map(text).unwrap_or_default();
                found.push((record.offset.0, key, record.value.map(text)));
            }
        }
    }
    found
}

/// Waits until nothing of the first `rounds` rounds is left but in their last one.
fn is_clean(wire: &mut Wire, topic: &str, keys: usize, rounds: usize) -> bool {
    let found = read_all(wire, topic);
    let first = found.first().map_or(0, |(offset, ..)| *offset);
    first >= (keys * (rounds - 1)) as i64
}

#[test]
fn a_compacted_topic_keeps_the_newest_record_of_each_key() {
    let home = home();
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    compacted(&mut wire, "kept", &[("min.cleanable.dirty.ratio", "0")]);
    for value in ["a", "b", "c", "d"] {
        round(&mut wire, "kept", 3, Some(value));
    }
    home.within(EFFECT_WITHIN, "the first rounds go", || {
        is_clean(&mut wire, "kept", 3, 3)
    });
    let expected = |range: std::ops::Range<i64>, value: &str| {
        range
            .map(|at| (at, (at % 3).to_string(), Some(value.to_owned())))
            .collect::<Vec<_>>()
    };
    let found = read_all(&mut wire, "kept");
    // The last round is in the active segment, the one before is what was newest below.
    assert_eq!(found, [expected(6..9, "c"), expected(9..12, "d")].concat());
    let checkpoint = home.data().join("cleaner-offset-checkpoint");
    home.within(EFFECT_WITHIN, "the checkpoint", || {
        std::fs::read_to_string(&checkpoint).is_ok_and(|text| text.contains("kept 0 9\n"))
    });
    // All of it after a kill, too; and the next cleaning goes on from the checkpoint.
    node.kill();
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    assert_eq!(read_all(&mut wire, "kept"), found);
    round(&mut wire, "kept", 3, Some("e"));
    home.within(EFFECT_WITHIN, "the next round goes", || {
        is_clean(&mut wire, "kept", 3, 4)
    });
    let refused = wire.produce("kept", keyed(&[(None, Some("x"))], NOW), -1);
    assert_eq!(refused.error_code, ErrorCode::InvalidRecord.code());
    println!(
        "compaction: {} records of 15 left",
        read_all(&mut wire, "kept").len()
    );
}

#[test]
fn the_keys_of_a_topic_rule_its_compaction_as_they_change() {
    let home = home();
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    // Each for its own reason not to be cleaned, and one that is.
    compacted(&mut wire, "ratio", &[("min.cleanable.dirty.ratio", "1")]);
    let lag = i64::MAX.to_string();
    let young = [
        ("min.cleanable.dirty.ratio", "0"),
        ("min.compaction.lag.ms", &lag),
    ];
    compacted(&mut wire, "young", &young);
    compacted(&mut wire, "late", &[("min.cleanable.dirty.ratio", "1")]);
    compacted(&mut wire, "other", &[("min.cleanable.dirty.ratio", "0")]);
    for topic in ["ratio", "young", "late", "other"] {
        for _ in 0..3 {
            round(&mut wire, topic, 2, Some("v"));
        }
    }
    home.within(EFFECT_WITHIN, "one is cleaned", || {
        is_clean(&mut wire, "other", 2, 2)
    });
    for topic in ["ratio", "young", "late"] {
        assert_eq!(read_all(&mut wire, topic).len(), 6, "{topic}");
    }
    let changes = [
        ("ratio", "min.cleanable.dirty.ratio", "0.2"),
        ("young", "min.compaction.lag.ms", "0"),
        ("late", "max.compaction.lag.ms", "1000"),
    ];
    for (topic, key, value) in changes {
        alter(&mut wire, TOPIC, topic, key, value);
        home.within(EFFECT_WITHIN, key, || is_clean(&mut wire, topic, 2, 2));
    }
    // Tombstones go at once where their retention is nothing, and stay where it is a day.
    alter(&mut wire, TOPIC, "other", "delete.retention.ms", "0");
    alter(&mut wire, TOPIC, "ratio", "min.cleanable.dirty.ratio", "0");
    for topic in ["other", "ratio"] {
        round(&mut wire, topic, 2, None);
    }
    let mut tombstones = |topic: &str| {
        let found = read_all(&mut wire, topic);
        let newest = found.last().map_or(0, |(offset, ..)| *offset);
        let dead = found
            .iter()
            .filter(|(at, _, value)| *at < newest && value.is_none());
        let dead = dead.count();
        round(&mut wire, topic, 1, Some("another"));
        dead
    };
    assert_eq!(tombstones("ratio"), 1);
    home.within(EFFECT_WITHIN, "delete.retention.ms", || {
        tombstones("other") == 0
    });
    assert_eq!(tombstones("ratio"), 2);
    println!("compaction: {} topic keys changed", changes.len() + 1);
}

#[test]
fn the_keys_of_the_broker_rule_the_cleaner() {
    let home = home()
        .with("log.cleaner.enable", "false")
        .with("log.cleaner.min.cleanable.ratio", "0")
        .with("log.cleaner.io.max.bytes.per.second", "1")
        .with("log.cleaner.dedupe.buffer.size", "1048577")
        .with("log.cleaner.io.buffer.load.factor", "0.0001");
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    compacted(&mut wire, "ruled", &[]);
    for _ in 0..3 {
        round(&mut wire, "ruled", 20, Some("v"));
    }
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(read_all(&mut wire, "ruled").len(), 60, "nothing is cleaned");
    node.stop();
    let home = home.with("log.cleaner.enable", "true");
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    // A byte a second: the first buffer takes longer than anybody waits.
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(read_all(&mut wire, "ruled").len(), 60, "it is throttled");
    alter(
        &mut wire,
        BROKER,
        "",
        "log.cleaner.io.max.bytes.per.second",
        "1000000000",
    );
    home.within(EFFECT_WITHIN, "log.cleaner.io.max.bytes.per.second", || {
        is_clean(&mut wire, "ruled", 20, 2)
    });
    // 43,690 places of 24 bytes, a ten thousandth of them used: four keys at a time.
    let said = |keys: u64| home.log().contains(&format!(" keys={keys} "));
    assert!(said(4) && !said(8));
    alter(
        &mut wire,
        BROKER,
        "",
        "log.cleaner.dedupe.buffer.size",
        "2097154",
    );
    home.within(EFFECT_WITHIN, "log.cleaner.dedupe.buffer.size", || {
        round(&mut wire, "ruled", 20, Some("w"));
        said(8)
    });
    let before = home.log().len();
    alter(&mut wire, BROKER, "", "log.cleaner.threads", "2");
    home.within(EFFECT_WITHIN, "log.cleaner.threads", || {
        round(&mut wire, "ruled", 20, Some("x"));
        // Two share the buffer.
        home.log()[before..].contains(" keys=4 ")
    });
    println!("compaction: 6 broker keys");
}

#[test]
fn the_topic_keys_of_the_broker_rule_where_a_topic_says_nothing() {
    let never = i64::MAX.to_string();
    let home = Home::new()
        .with("log.cleaner.backoff.ms", "3600000")
        .with("log.cleaner.min.cleanable.ratio", "0")
        .with("log.cleaner.min.compaction.lag.ms", &never);
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    compacted(&mut wire, "plain", &[]);
    for _ in 0..4 {
        round(&mut wire, "plain", 2, Some("v"));
    }
    alter(&mut wire, BROKER, "", "log.cleaner.backoff.ms", "20");
    // Looked at all the time now, and too young for ever.
    compacted(&mut wire, "old", &[("min.compaction.lag.ms", "0")]);
    for _ in 0..4 {
        round(&mut wire, "old", 2, Some("v"));
    }
    home.within(EFFECT_WITHIN, "log.cleaner.backoff.ms", || {
        is_clean(&mut wire, "old", 2, 3)
    });
    assert_eq!(read_all(&mut wire, "plain").len(), 8);
    let key = "log.cleaner.min.compaction.lag.ms";
    alter(&mut wire, BROKER, "", key, "0");
    home.within(EFFECT_WITHIN, key, || is_clean(&mut wire, "plain", 2, 3));
    // Nothing is dirty enough, and then all is overdue.
    alter(
        &mut wire,
        BROKER,
        "",
        "log.cleaner.min.cleanable.ratio",
        "1",
    );
    round(&mut wire, "plain", 2, None);
    round(&mut wire, "plain", 2, Some("x"));
    let before = read_all(&mut wire, "plain").len();
    let key = "log.cleaner.max.compaction.lag.ms";
    alter(&mut wire, BROKER, "", key, "1000");
    home.within(EFFECT_WITHIN, key, || {
        read_all(&mut wire, "plain").len() < before
    });
    let tombstones = |wire: &mut Wire| {
        let found = read_all(wire, "plain");
        found.iter().filter(|(_, _, value)| value.is_none()).count()
    };
    assert!(tombstones(&mut wire) > 0);
    alter(
        &mut wire,
        BROKER,
        "",
        "log.cleaner.delete.retention.ms",
        "0",
    );
    round(&mut wire, "plain", 2, None);
    round(&mut wire, "plain", 1, None);
    home.within(EFFECT_WITHIN, "log.cleaner.delete.retention.ms", || {
        round(&mut wire, "plain", 1, Some("y"));
        tombstones(&mut wire) == 0
    });
    println!("compaction: 5 keys of the broker for its topics");
}

/// Steps of the last cleaning.
fn steps(home: &Home) -> u32 {
    let log = home.log();
    let (_, after) = log.rsplit_once(" steps=").expect("something was cleaned");
    let (steps, _) = after.split_once(' ').expect("more follows");
    steps.parse().expect("a number")
}

#[test]
fn a_small_buffer_takes_more_steps() {
    let home = home().with("log.cleaner.io.buffer.size", "1048576");
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    compacted(&mut wire, "read", &[("min.cleanable.dirty.ratio", "0")]);
    for _ in 0..3 {
        round(&mut wire, "read", 2, Some("v"));
    }
    home.within(EFFECT_WITHIN, "it is cleaned", || {
        is_clean(&mut wire, "read", 2, 2)
    });
    let few = steps(&home);
    // What a buffer of one byte takes is one batch.
    alter(&mut wire, BROKER, "", "log.cleaner.io.buffer.size", "2");
    for _ in 0..4 {
        wire.produce("read", keyed(&[(Some("0"), Some("w"))], NOW), -1);
    }
    round(&mut wire, "read", 2, Some("w"));
    home.within(EFFECT_WITHIN, "log.cleaner.io.buffer.size", || {
        steps(&home) > few
    });
}

#[test]
fn compact_and_delete_do_both() {
    let home = home().with("log.retention.check.interval.ms", "20");
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    let both = [
        ("cleanup.policy", "compact,delete"),
        ("min.cleanable.dirty.ratio", "0"),
        ("segment.ms", "1000"),
    ];
    wire.create_topic("both", 1, &both);
    for value in ["a", "b", "c"] {
        round(&mut wire, "both", 3, Some(value));
    }
    home.within(EFFECT_WITHIN, "it is compacted", || {
        is_clean(&mut wire, "both", 3, 2)
    });
    assert_eq!(read_all(&mut wire, "both").len(), 6);
    // The records are years old.
    alter(&mut wire, TOPIC, "both", "retention.ms", "60000");
    home.within(EFFECT_WITHIN, "it is deleted", || {
        log_start(&mut wire, "both") == wire.log_end("both")
    });
    // A topic of either kind becomes one of the other.
    alter(&mut wire, TOPIC, "both", "retention.ms", "-1");
    alter(&mut wire, TOPIC, "both", "cleanup.policy", "delete");
    for value in ["a", "b", "c"] {
        round(&mut wire, "both", 3, Some(value));
    }
    assert_eq!(read_all(&mut wire, "both").len(), 9);
    alter(&mut wire, TOPIC, "both", "cleanup.policy", "compact");
    let end = wire.log_end("both");
    home.within(EFFECT_WITHIN, "it is compacted again", || {
        let found = read_all(&mut wire, "both");
        found.len() == 6 && found[0].0 == end - 6
    });
}

/// Of one commit, so that a thousand fill segments of the smallest size that a topic may have.
const METADATA_BYTES: usize = 4_000;

fn commit(wire: &mut Wire, offset: i64) -> i16 {
    let request = OffsetCommitRequest {
        group_id: "busy".into(),
        generation_id_or_member_epoch: -1,
        topics: vec![OffsetCommitRequestTopic {
            name: "t".into(),
            partitions: vec![OffsetCommitRequestPartition {
                committed_offset: offset,
                committed_leader_epoch: -1,
                committed_metadata: Some(Str::copy(&"m".repeat(METADATA_BYTES))),
                ..OffsetCommitRequestPartition::default()
            }],
            ..OffsetCommitRequestTopic::default()
        }],
        ..OffsetCommitRequest::default()
    };
    wire.call(&request, 8).topics[0].partitions[0].error_code
}

fn committed(wire: &mut Wire) -> i64 {
    let request = OffsetFetchRequest {
        groups: vec![fetching::OffsetFetchRequestGroup {
            group_id: "busy".into(),
            member_epoch: -1,
            topics: Some(vec![fetching::OffsetFetchRequestTopics {
                name: "t".into(),
                partition_indexes: vec![0],
                ..fetching::OffsetFetchRequestTopics::default()
            }]),
            ..fetching::OffsetFetchRequestGroup::default()
        }],
        ..OffsetFetchRequest::default()
    };
    let answer = wire.call(&request, 8);
    let group = &answer.groups[0];
    match group.error_code {
        0 => group.topics[0].partitions[0].committed_offset,
        _ => -1,
    }
}

/// Bytes of the segments of the offsets topic.
fn offsets_bytes(home: &Home) -> u64 {
    let dirs = std::fs::read_dir(home.data()).expect("the data directory");
    let offsets = dirs.filter_map(Result::ok).filter(|dir| {
        dir.file_name()
            .to_string_lossy()
            .starts_with("__consumer_offsets-")
    });
    let files = offsets.flat_map(|dir| std::fs::read_dir(dir.path()).expect("a directory"));
    let logs = files.filter_map(Result::ok).filter(|file| {
        let name = file.file_name();
        name.to_string_lossy().ends_with(".log")
    });
    logs.filter_map(|file| file.metadata().ok())
        .map(|meta| meta.len())
        .sum()
}

fn with_coordinator(node: &Node) -> Wire {
    let mut wire = Wire::connect(&node.address);
    wire.create_topic("t", 1, &[]);
    let find = FindCoordinatorRequest {
        coordinator_keys: vec!["busy".into()],
        ..FindCoordinatorRequest::default()
    };
    wire.call(&find, 4);
    wire
}

#[test]
fn the_offsets_of_groups_stay_small() {
    const COMMITS: i64 = 900;
    const SEGMENT_BYTES: u64 = 1 << 20;
    let home = home()
        .with("offsets.topic.segment.bytes", &SEGMENT_BYTES.to_string())
        .with("log.segment.delete.delay.ms", "100");
    let node = home.start();
    let mut wire = with_coordinator(&node);
    home.within(EFFECT_WITHIN, "the first commit", || {
        commit(&mut wire, 0) == 0
    });
    let mut most = 0;
    for offset in 1..=COMMITS {
        assert_eq!(commit(&mut wire, offset), 0);
        most = most.max(offsets_bytes(&home));
    }
    // The active segment stays as it is, and of all before it one commit.
    home.within(EFFECT_WITHIN, "it becomes small", || {
        offsets_bytes(&home) < SEGMENT_BYTES + 2 * METADATA_BYTES as u64
    });
    assert_eq!(committed(&mut wire), COMMITS);
    node.kill();
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    home.within(EFFECT_WITHIN, "it is loaded", || {
        committed(&mut wire) == COMMITS
    });
    println!(
        "compaction: {COMMITS} commits, at most {most} bytes of offsets, {} in the end",
        offsets_bytes(&home)
    );
}
