//! What an Apache Kafka 4.4.0 broker wrote to `__consumer_offsets`, and ours in the same bytes.
//!
//! The fixture is a segment of such a broker after: a classic group with a static member and two committed offsets
//! (`classic`), one whose member left (`left`), offsets committed without members (`simple`), three transactions with
//! offsets of `txn` (committed, aborted, still open), a KIP-848 group (`next`) and a share group (`shared`).

use bytes::Bytes;
use milena_base::Timestamp;
use milena_coordinator::Shard;
use milena_group::{
    GroupConfig, GroupRecord, GroupShard, LoadedRecord, Payload, build_batch, read_batches,
};
use milena_records::{Codec, Compression, Limits};

use crate::print::Names;
use crate::transcripts::Player;
use crate::world::World;

const SEGMENT: &[u8] = include_bytes!("../fixtures/kafka-4.4.0-consumer-offsets.log");

fn segment() -> Vec<LoadedRecord> {
    read_batches(Bytes::from_static(SEGMENT), Limits::default()).unwrap()
}

#[test]
fn a_directory_of_apache_kafka_is_served() {
    milena_testkit::check("foreign/kafka-4.4.0.txt", {
        let mut world = World::new(GroupConfig::default(), 1, 1);
        for record in segment() {
            world.write_foreign(0, record.producer_id, record.payload);
        }
        let mut player = Player::of(world);
        move |line| player.say(line)
    });
}

/// Decoding and encoding again gives Kafka's bytes, so what we write Kafka reads.
#[test]
fn records_have_apache_kafkas_bytes() {
    let mut kinds = [0; 4];
    for record in segment() {
        let Payload::Data(data) = record.payload else {
            continue;
        };
        let parsed = GroupShard::decode(data.clone())
            .unwrap()
            .expect("a known kind");
        kinds[match parsed {
            GroupRecord::Offset { .. } => 0,
            GroupRecord::Classic { .. } => 1,
            GroupRecord::Consumer { .. } => 2,
            GroupRecord::Other { .. } => 3,
        }] += 1;
        assert_eq!(GroupShard::encode(&parsed).unwrap(), data);
    }
    assert_eq!(kinds, [9, 5, 5, 7]);
}

/// What our own coordinator appends comes back from its batches.
#[test]
fn appended_batches_load_again() {
    let mut world = World::new(GroupConfig::default(), 1, 1);
    let segment = segment();
    let data = segment.iter().filter_map(|record| match &record.payload {
        Payload::Data(data) if record.producer_id == -1 => Some(data.clone()),
        _ => None,
    });
    let data: Vec<_> = data.collect();
    let batch = build_batch(&data, Codec::of(Compression::None), Timestamp(5)).unwrap();
    for record in read_batches(batch.to_bytes(), Limits::default()).unwrap() {
        world.write_foreign(0, record.producer_id, record.payload);
    }
    world.elect(0);
    let (shard, committed) = world.coordinator.runtime().peek(0).unwrap();
    assert_eq!(committed.groups.len(), shard.groups().count());
    let mut names = Names::default();
    let lines = data.iter().map(|record| names.record(record));
    assert!(lines.into_iter().all(|line| !line.contains("unreadable")));
}
