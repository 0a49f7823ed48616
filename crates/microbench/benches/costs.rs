//! What the parts of a produce and a fetch cost: codec, batch check, append, index look-up, fetch planning.
//!
//! `cargo xtask bench --micro [FILTER]`. Figures of one run compare with each other and with the run before on the same quiet
//! machine; criterion says how sure it is of a change.

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use milena_base::{
    BrokerId, Epoch, Now, Offset, Prng, Timestamp, TopicIdPartition, TopicPartition, Uuid,
};
use milena_disk::OsDisk;
use milena_log::{AppendOrigin, Log, LogOptions, OpenHints};
use milena_protocol::fetch_response::{FetchableTopicResponse, PartitionData};
use milena_protocol::metadata_response::{MetadataResponsePartition, MetadataResponseTopic};
use milena_protocol::produce_request::{PartitionProduceData, TopicProduceData};
use milena_protocol::{FetchResponse, Message, MetadataResponse, ProduceRequest, Records};
use milena_records::{
    BatchBuilder, CheckOptions, Codec, Compression, NewRecord, ValidBatch, check,
};
use milena_replica::{Assignment, Isolation, Partition, ReadFrom, Wanted};
use tempfile::TempDir;

const WALL: i64 = 1_700_000_000_000;

fn now() -> Now {
    Now::from_millis(1_000, WALL)
}

fn builder(codec: Codec, count: usize, value_bytes: usize) -> BatchBuilder {
    let mut prng = Prng::new(1);
    let mut builder = BatchBuilder::new(codec);
    for _ in 0..count {
        // Half of it is noise, so that compression has something to do and something to gain.
        let value: Vec<u8> = (0..value_bytes)
            .map(|at| {
                if at % 2 == 0 {
                    b'v'
                } else {
                    prng.below(256) as u8
                }
            })
            .collect();
        let record = NewRecord {
            timestamp: Timestamp(WALL),
            key: Some(b"a key"),
            value: Some(&value),
            ..NewRecord::default()
        };
        builder.append(record).expect("a record fits");
    }
    builder
}

fn batch(count: usize, value_bytes: usize) -> ValidBatch {
    builder(Codec::NONE, count, value_bytes).build()
}

fn wire_bytes(codec: Codec, count: usize, value_bytes: usize) -> Bytes {
    let built = builder(codec, count, value_bytes).build();
    Bytes::from(built.parts().concat())
}

fn codec(criterion: &mut Criterion) {
    let produce = ProduceRequest {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            topic_id: Uuid([7; 16]),
            partition_data: vec![PartitionProduceData {
                index: 3,
                records: Some(Records::Bytes(wire_bytes(Codec::NONE, 15, 1_024))),
            }],
            ..TopicProduceData::default()
        }],
        ..ProduceRequest::default()
    };
    let frame = produce.to_bytes(13).expect("it is encoded");
    let mut group = criterion.benchmark_group("codec");
    group.bench_function("decode Produce v13, one batch of 16 KiB", |bench| {
        bench.iter(|| ProduceRequest::from_bytes(black_box(frame.clone()), 13));
    });
    let partitions = (0..100).map(|partition_index| PartitionData {
        partition_index,
        high_watermark: 1_000_000,
        last_stable_offset: 1_000_000,
        ..PartitionData::default()
    });
    let fetch = FetchResponse {
        session_id: 7,
        responses: vec![FetchableTopicResponse {
            topic_id: Uuid([7; 16]),
            partitions: partitions.collect(),
            ..FetchableTopicResponse::default()
        }],
        ..FetchResponse::default()
    };
    group.bench_function("encode Fetch v18, 100 partitions", |bench| {
        bench.iter(|| black_box(&fetch).to_bytes(18));
    });
    let topics = (0..100).map(|topic: u8| MetadataResponseTopic {
        name: Some(format!("topic-{topic}").into()),
        topic_id: Uuid([topic; 16]),
        partitions: (0..10)
            .map(|partition_index| MetadataResponsePartition {
                partition_index,
                leader_id: 1,
                replica_nodes: vec![1, 2, 3],
                isr_nodes: vec![1, 2, 3],
                ..MetadataResponsePartition::default()
            })
            .collect(),
        ..MetadataResponseTopic::default()
    });
    let metadata = MetadataResponse {
        topics: topics.collect(),
        ..MetadataResponse::default()
    };
    group.bench_function("encode Metadata v13, 1,000 partitions", |bench| {
        bench.iter(|| black_box(&metadata).to_bytes(13));
    });
    group.finish();
}

fn batch_check(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("check");
    let lz4 = Codec {
        compression: Compression::Lz4,
        level: 9,
    };
    let cases = [
        ("one record of 1 KiB", Codec::NONE, 1),
        ("1,000 records of 1 KiB", Codec::NONE, 1_000),
        ("1,000 records of 1 KiB in lz4", lz4, 1_000),
    ];
    for (name, codec, count) in cases {
        let bytes = wire_bytes(codec, count, 1_024);
        let options = CheckOptions {
            message_bytes_max: 4 << 20,
            ..CheckOptions::default()
        };
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |bench| {
            bench.iter(|| check(black_box(bytes.clone()), &options, Timestamp(WALL)));
        });
    }
    group.finish();
}

fn open(dir: &TempDir, options: LogOptions) -> Log {
    let name = TopicPartition::new("t", 0);
    let path = dir.path().join("t-0");
    let disk = Arc::new(OsDisk);
    let opened = Log::open(disk, &path, name, options, OpenHints::NEW, now());
    opened.expect("the log opens").0
}

fn append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append");
    for (name, count) in [("one record of 1 KiB", 1), ("a batch of 64 KiB", 63)] {
        let dir = tempfile::tempdir().expect("a directory");
        let options = LogOptions {
            segment_bytes: 64 << 20,
            ..LogOptions::default()
        };
        let mut log = open(&dir, options);
        group.throughput(Throughput::Bytes(batch(count, 1_024).len() as u64));
        group.bench_function(name, |bench| {
            bench.iter_batched(
                || batch(count, 1_024),
                |batch| log.append_as_leader(batch, Epoch(1), AppendOrigin::Client, now()),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn wanted(offset: Offset) -> Wanted {
    Wanted {
        offset,
        bytes_max: 1 << 20,
        at_least_one: true,
        current_leader_epoch: -1,
        last_fetched_epoch: -1,
        from: ReadFrom::Consumer(Isolation::ReadUncommitted),
    }
}

fn lead(log: Log) -> Partition {
    let (id, name) = (
        TopicIdPartition::new(Uuid([7; 16]), 0),
        TopicPartition::new("t", 0),
    );
    let end = log.log_end();
    let partition = Partition::new(id, name, BrokerId(1), log, end);
    let assignment = Assignment {
        leader: BrokerId(1),
        leader_epoch: Epoch(1),
        partition_epoch: 0,
        replicas: vec![BrokerId(1)],
        isr: vec![BrokerId(1)],
        recovering: false,
    };
    partition.lead(&assignment, now());
    partition
}

fn look_up(criterion: &mut Criterion) {
    const BATCHES: usize = 100_000;
    let dir = tempfile::tempdir().expect("a directory");
    let options = LogOptions {
        segment_bytes: 8 << 20,
        ..LogOptions::default()
    };
    let mut log = open(&dir, options);
    for _ in 0..BATCHES {
        let appended = log.append_as_leader(batch(10, 20), Epoch(1), AppendOrigin::Client, now());
        appended.expect("it is appended");
    }
    let end = log.log_end().0 as u64;
    let partition = lead(log);
    let mut prng = Prng::new(2);
    let mut group = criterion.benchmark_group("look-up");
    group.bench_function("a random offset of 1,000,000", |bench| {
        bench.iter(|| partition.read(wanted(Offset(prng.below(end) as i64))));
    });
    group.finish();
}

fn plan(criterion: &mut Criterion) {
    const PARTITIONS: usize = 1_000;
    let dirs: Vec<TempDir> = (0..PARTITIONS)
        .map(|_| tempfile::tempdir().expect("a directory"))
        .collect();
    let partitions: Vec<Partition> = dirs
        .iter()
        .map(|dir| {
            let mut log = open(dir, LogOptions::default());
            let appended =
                log.append_as_leader(batch(1, 100), Epoch(1), AppendOrigin::Client, now());
            appended.expect("it is appended");
            lead(log)
        })
        .collect();
    let mut group = criterion.benchmark_group("plan");
    for (name, offset) in [("with nothing new", 1), ("with a batch each", 0)] {
        group.throughput(Throughput::Elements(PARTITIONS as u64));
        group.bench_function(format!("a fetch of 1,000 partitions {name}"), |bench| {
            bench.iter(|| {
                let answers = partitions
                    .iter()
                    .map(|one| one.read(wanted(Offset(offset))));
                answers
                    .filter(|answer| answer.as_ref().is_ok_and(|answer| answer.slice.is_some()))
                    .count()
            });
        });
    }
    group.finish();
}

criterion_group!(costs, codec, batch_check, append, look_up, plan);
criterion_main!(costs);
