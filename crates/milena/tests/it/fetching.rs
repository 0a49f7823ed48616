//! Fetch, ListOffsets, DeleteRecords and sequences over a raw socket: what clients see only by its effects.

use std::time::{Duration, Instant};

use bytes::Bytes;
use milena_base::{ErrorCode, Timestamp, Uuid};
use milena_disk::{Advice, Disk, OpenMode, OsDisk};
use milena_protocol::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use milena_protocol::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use milena_protocol::fetch_response::PartitionData;
use milena_protocol::{
    DeleteRecordsRequest, FetchRequest, FetchResponse, InitProducerIdRequest, Records, Str,
};
use milena_records::{BatchBuilder, Codec, NewRecord, batches};

use crate::node::Home;
use crate::wire::{Wire, batch};

const NOW: i64 = 1_700_000_000_000;

struct Topic {
    name: &'static str,
    id: Uuid,
}

impl Topic {
    fn new(wire: &mut Wire, name: &'static str, partitions: i32) -> Topic {
        wire.create_topic(name, partitions, &[]);
        let id = wire.topic_id(name);
        Topic { name, id }
    }

    /// A fetch outside of any session: partition and offset.
    fn fetch(&self, wanted: &[(i32, i64)]) -> FetchRequest {
        let partitions = wanted.iter().map(|(partition, offset)| FetchPartition {
            partition: *partition,
            fetch_offset: *offset,
            partition_max_bytes: 1 << 20,
            ..FetchPartition::default()
        });
        FetchRequest {
            max_bytes: 10 << 20,
            min_bytes: 1,
            topics: vec![FetchTopic {
                topic: self.name.into(),
                topic_id: self.id,
                partitions: partitions.collect(),
            }],
            ..FetchRequest::default()
        }
    }
}

fn only(response: &FetchResponse) -> &PartitionData {
    assert_eq!(response.error_code, 0);
    assert_eq!(response.responses.len(), 1, "{response:?}");
    &response.responses[0].partitions[0]
}

fn bytes(data: &PartitionData) -> Bytes {
    match &data.records {
        Some(Records::Bytes(bytes)) => bytes.clone(),
        _ => Bytes::new(),
    }
}

/// Five batches of one record of 1000 bytes each; gives the size of one.
fn fill(wire: &mut Wire, topic: &str) -> usize {
    let mut size = 0;
    for index in 0..5 {
        let records = batch(&[&[b'v'; 1000]], NOW + index, Codec::NONE);
        size = records.len();
        assert_eq!(wire.produce(topic, records, -1).error_code, 0);
    }
    size
}

#[test]
fn a_fetch_waits_for_data_or_its_time() {
    let home = Home::new();
    let node = home.start();
    let (mut reader, mut writer) = (Wire::connect(&node.address), Wire::connect(&node.address));
    let topic = Topic::new(&mut writer, "polled", 1);
    let mut fetch = topic.fetch(&[(0, 0)]);
    fetch.max_wait_ms = 300;
    let before = Instant::now();
    let empty = reader.call(&fetch, 18);
    assert!(before.elapsed() >= Duration::from_millis(300));
    assert!(bytes(only(&empty)).is_empty());
    // Data ends the wait long before its time.
    fetch.max_wait_ms = 120_000;
    reader.send(&fetch, 18);
    std::thread::sleep(Duration::from_millis(50));
    let records = batch(&[b"news"], NOW, Codec::NONE);
    let size = records.len();
    assert_eq!(writer.produce("polled", records, -1).error_code, 0);
    let found = reader.receive::<FetchRequest>(18);
    assert_eq!(bytes(only(&found)).len(), size);
    // Until there is as much as was asked for.
    fetch.min_bytes = 2 * size as i32;
    reader.send(&fetch, 18);
    std::thread::sleep(Duration::from_millis(50));
    let records = batch(&[b"more"], NOW, Codec::NONE);
    assert_eq!(writer.produce("polled", records, -1).error_code, 0);
    let found = reader.receive::<FetchRequest>(18);
    assert_eq!(bytes(only(&found)).len(), 2 * size);
    println!("long poll: 3 waits");
}

#[test]
fn bytes_are_bounded_but_the_first_batch_always_comes() {
    let home = Home::new();
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    let topic = Topic::new(&mut wire, "bounded", 2);
    let size = fill(&mut wire, "bounded");
    let mut cases = 0;
    for (partition_max, max, least, most) in [
        (1, 1, size, size),
        (1, 10 << 20, size, size),
        (10 << 20, 1, size, size),
        (2 * size as i32 + 100, 10 << 20, 2 * size, 2 * size + 100),
        (10 << 20, 3 * size as i32, 3 * size, 3 * size),
        (10 << 20, 10 << 20, 5 * size, 5 * size),
    ] {
        let mut fetch = topic.fetch(&[(0, 0)]);
        fetch.max_bytes = max;
        fetch.topics[0].partitions[0].partition_max_bytes = partition_max;
        let found = wire.call(&fetch, 18);
        let got = bytes(only(&found)).len();
        assert!(
            (least..=most).contains(&got),
            "{got} of {partition_max}, {max}"
        );
        cases += 1;
    }
    println!("max bytes: {cases} cases");
}

#[test]
fn what_left_the_page_cache_is_sent_whole_and_in_its_turn() {
    let home = Home::new();
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    let topic = Topic::new(&mut wire, "cold", 1);
    let mut sent = Vec::new();
    for index in 0..5 {
        let records = batch(&[&[index; 500_000]], NOW, Codec::NONE);
        sent.push(records.len());
        assert_eq!(wire.produce("cold", records, -1).error_code, 0);
    }
    let mut fetch = topic.fetch(&[(0, 0)]);
    fetch.topics[0].partitions[0].partition_max_bytes = 10 << 20;
    let warm = bytes(only(&wire.call(&fetch, 18)));
    assert_eq!(warm.len(), sent.iter().sum::<usize>());
    let log = OsDisk.open(&home.partition_file("cold", ".log"), OpenMode::ReadWrite);
    let log = log.expect("the log");
    for _ in 0..3 {
        log.sync_all().expect("written out");
        log.advise(0, 0, Advice::DontNeed);
        // The answer of the second waits for that of the first.
        wire.send(&fetch, 18);
        wire.send(&topic.fetch(&[(0, 5)]), 18);
        wire.take_back(1);
        assert_eq!(bytes(only(&wire.receive::<FetchRequest>(18))), warm);
        wire.take_back(-1);
        let behind = wire.receive::<FetchRequest>(18);
        assert!(bytes(only(&behind)).is_empty());
    }
    println!("cold fetches: 3 of {} bytes", warm.len());
}

#[test]
fn every_version_reads_the_same_records() {
    let home = Home::new();
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    let topic = Topic::new(&mut wire, "versions", 1);
    let size = fill(&mut wire, "versions");
    for version in 4..=18 {
        for isolation in [0, 1] {
            let mut fetch = topic.fetch(&[(0, 2)]);
            fetch.isolation_level = isolation;
            let found = wire.call(&fetch, version);
            let data = only(&found);
            assert_eq!((data.error_code, data.high_watermark), (0, 5), "v{version}");
            assert_eq!(data.last_stable_offset, 5, "v{version}");
            let records = bytes(data);
            assert_eq!(records.len(), 3 * size);
            let found =
                batches(records).map(|batch| batch.expect("whole").header().base_offset().0);
            assert_eq!(found.collect::<Vec<_>>(), [2, 3, 4]);
            let aborted = data.aborted_transactions.as_ref().map_or(0, Vec::len);
            assert_eq!(aborted, 0);
        }
    }
    let mut cases = 30;
    for (partition, offset, code) in [
        (0, 6, ErrorCode::OffsetOutOfRange),
        (0, -1, ErrorCode::OffsetOutOfRange),
        (9, 0, ErrorCode::UnknownTopicOrPartition),
    ] {
        let found = wire.call(&topic.fetch(&[(partition, offset)]), 18);
        assert_eq!(
            only(&found).error_code,
            code.code(),
            "{partition}, {offset}"
        );
        cases += 1;
    }
    let nowhere = Topic {
        name: "nowhere",
        id: Uuid([3; 16]),
    };
    let by_id = wire.call(&nowhere.fetch(&[(0, 0)]), 18);
    assert_eq!(only(&by_id).error_code, ErrorCode::UnknownTopicId.code());
    let by_name = wire.call(&nowhere.fetch(&[(0, 0)]), 12);
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    assert_eq!(only(&by_name).error_code, unknown);
    println!("fetch: {} cases", cases + 2);
}

#[test]
fn a_session_tells_only_what_changed() {
    let home = Home::new();
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    let topic = Topic::new(&mut wire, "session", 2);
    let mut open = topic.fetch(&[(0, 0), (1, 0)]);
    open.session_epoch = 0;
    let first = wire.call(&open, 18);
    let id = first.session_id;
    assert_ne!(id, 0);
    assert_eq!(first.responses[0].partitions.len(), 2);
    let next = |epoch: i32| FetchRequest {
        session_id: id,
        session_epoch: epoch,
        max_bytes: 1 << 20,
        min_bytes: 1,
        ..FetchRequest::default()
    };
    assert_eq!(wire.call(&next(1), 18).responses, []);
    fill(&mut wire, "session");
    let news = wire.call(&next(2), 18);
    assert_eq!(news.responses[0].partitions.len(), 1);
    assert_eq!(only(&news).partition_index, 0);
    // Forgotten, the partition is told no more, though it has records.
    let mut forget = next(3);
    forget.forgotten_topics_data = vec![ForgottenTopic {
        topic: Str::default(),
        topic_id: topic.id,
        partitions: vec![0],
    }];
    assert_eq!(wire.call(&forget, 18).responses, []);
    let stale = wire.call(&next(2), 18);
    let code = ErrorCode::InvalidFetchSessionEpoch.code();
    assert_eq!(stale.error_code, code);
    let mut unknown = next(4);
    unknown.session_id = id.wrapping_add(1).max(1);
    let code = ErrorCode::FetchSessionIdNotFound.code();
    assert_eq!(wire.call(&unknown, 18).error_code, code);
    // Epoch −1 ends the session.
    assert_eq!(wire.call(&next(-1), 18).session_id, 0);
    assert_eq!(wire.call(&next(4), 18).error_code, code);
    println!("sessions: 8 fetches");
}

#[test]
fn offsets_are_found_by_time_and_by_their_special_names() {
    let home = Home::new();
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    wire.create_topic("times", 1, &[]);
    let empty = [
        (-1, 0),
        (-2, 0),
        (-3, -1),
        (-4, 0),
        (-5, -1),
        (-6, -1),
        (NOW, -1),
    ];
    for (timestamp, offset) in empty {
        assert_eq!(
            wire.list_offset("times", 0, timestamp),
            (0, -1, offset),
            "{timestamp}"
        );
    }
    // The largest timestamp is not the last.
    for timestamp in [NOW, NOW + 5000, NOW + 1000] {
        let records = batch(&[b"a", b"b"], timestamp, Codec::NONE);
        assert_eq!(wire.produce("times", records, -1).error_code, 0);
    }
    let full = [
        (-1, -1, 6),
        (-2, -1, 0),
        (-3, NOW + 5001, 3),
        (-4, -1, 0),
        (-5, -1, -1),
        (-6, -1, -1),
        (0, NOW, 0),
        (NOW + 1, NOW + 1, 1),
        (NOW + 2, NOW + 5000, 2),
        (NOW + 5001, NOW + 5001, 3),
        (NOW + 5002, -1, -1),
    ];
    for (timestamp, found, offset) in full {
        assert_eq!(
            wire.list_offset("times", 0, timestamp),
            (0, found, offset),
            "{timestamp}"
        );
    }
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    assert_eq!(wire.list_offset("times", 4, -1).0, unknown);
    println!("ListOffsets: {} lookups", empty.len() + full.len() + 1);
}

fn delete_before(wire: &mut Wire, offset: i64) -> (i16, i64) {
    let request = DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: "deleted".into(),
            partitions: vec![DeleteRecordsPartition {
                partition_index: 0,
                offset,
            }],
        }],
        timeout_ms: 5000,
    };
    let answer = wire.call(&request, 2);
    let found = &answer.topics[0].partitions[0];
    (found.error_code, found.low_watermark)
}

#[test]
fn deleted_records_stay_deleted() {
    let home = Home::new();
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    let topic = Topic::new(&mut wire, "deleted", 1);
    fill(&mut wire, "deleted");
    let outside = ErrorCode::OffsetOutOfRange.code();
    assert_eq!(delete_before(&mut wire, 6), (outside, -1));
    assert_eq!(delete_before(&mut wire, -2).0, outside);
    assert_eq!(delete_before(&mut wire, 3), (0, 3));
    assert_eq!(
        delete_before(&mut wire, 2),
        (0, 3),
        "the start never goes back"
    );
    assert_eq!(wire.list_offset("deleted", 0, -2).2, 3);
    assert_eq!(
        only(&wire.call(&topic.fetch(&[(0, 2)]), 18)).error_code,
        outside
    );
    assert_eq!(
        only(&wire.call(&topic.fetch(&[(0, 3)]), 18)).log_start_offset,
        3
    );
    node.stop();
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    assert_eq!(wire.log_end("deleted"), 5);
    assert_eq!(
        wire.list_offset("deleted", 0, -2).2,
        3,
        "also after a restart"
    );
    assert_eq!(delete_before(&mut wire, -1), (0, 5));
    assert_eq!(wire.list_offset("deleted", 0, -2).2, 5);
    assert_eq!(wire.log_end("deleted"), 5);
    println!("DeleteRecords: 5 requests, 1 restart");
}

/// A batch of one record by an idempotent producer.
fn sequenced(id: i64, epoch: i16, sequence: i32) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::NONE).producer(id, epoch, sequence);
    let record = NewRecord {
        timestamp: Timestamp(NOW),
        value: Some(b"once"),
        ..NewRecord::default()
    };
    builder.append(record).expect("it fits");
    builder.build().to_bytes()
}

#[test]
fn sequences_are_kept_over_a_kill() {
    let home = Home::new();
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    wire.create_topic("sequences", 1, &[]);
    let without_transactions = InitProducerIdRequest {
        transactional_id: None,
        ..InitProducerIdRequest::default()
    };
    let given = wire.call(&without_transactions, 5);
    assert_eq!((given.error_code, given.producer_epoch), (0, 0));
    let id = given.producer_id;
    assert_ne!(wire.call(&without_transactions, 5).producer_id, id);
    let send = |wire: &mut Wire, epoch, sequence| {
        let answer = wire.produce("sequences", sequenced(id, epoch, sequence), -1);
        (answer.error_code, answer.base_offset)
    };
    for sequence in 0..3 {
        assert_eq!(send(&mut wire, 0, sequence), (0, i64::from(sequence)));
    }
    let gap = ErrorCode::OutOfOrderSequenceNumber.code();
    assert_eq!(
        send(&mut wire, 0, 1),
        (0, 1),
        "a batch sent again is where it was"
    );
    assert_eq!(send(&mut wire, 0, 7), (gap, -1));
    node.kill();
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    assert_eq!(wire.log_end("sequences"), 3);
    assert_eq!(send(&mut wire, 0, 2), (0, 2));
    assert_eq!(send(&mut wire, 0, 5), (gap, -1));
    assert_eq!(send(&mut wire, 0, 3), (0, 3));
    assert_eq!(send(&mut wire, 1, 0), (0, 4));
    let fenced = ErrorCode::InvalidProducerEpoch.code();
    assert_eq!(send(&mut wire, 0, 4), (fenced, -1));
    println!("sequences: 10 batches, 1 kill");
}
