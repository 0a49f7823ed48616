//! The last stable offset of a partition that is opened anew.

use std::path::Path;
use std::sync::Arc;

use milena_base::{BrokerId, Epoch, Now, Offset, TopicIdPartition, TopicPartition, Uuid};
use milena_disk::SimDisk;
use milena_log::{AppendOrigin, Log, LogOptions, OpenHints};
use milena_records::{BatchBuilder, Codec, ControlType, NewRecord, ValidBatch, control_record_key};
use milena_replica::{Assignment, Partition};

use crate::machine::{partition_on, records};

const START: i64 = 1_000_000;

fn alone() -> Assignment {
    Assignment {
        leader: BrokerId(1),
        leader_epoch: Epoch(0),
        partition_epoch: 0,
        replicas: vec![BrokerId(1)],
        isr: vec![BrokerId(1)],
        recovering: false,
    }
}

fn now() -> Now {
    Now::from_millis(0, START)
}

fn commit(producer_id: i64) -> ValidBatch {
    let builder = BatchBuilder::new(Codec::NONE).producer(producer_id, 0, -1);
    let mut builder = builder.transactional(true).control(true);
    let key = control_record_key(ControlType::Commit);
    let record = NewRecord {
        key: Some(&key),
        value: Some(&[0; 6]),
        ..Default::default()
    };
    builder.append(record).unwrap();
    builder.build()
}

#[test]
fn ended_transactions_hold_nobody_up_after_a_crash() {
    let disk = SimDisk::new(2);
    let partition = partition_on(&disk, LogOptions::default());
    partition.lead(&alone(), now());
    let append = |batch, origin| {
        let done = partition.append_as_leader(batch, true, origin, now());
        done.unwrap().end
    };
    for producer in [1, 2] {
        let batch = records(2, START)
            .producer(producer, 0, 0)
            .transactional(true);
        append(batch.build(), AppendOrigin::Client);
    }
    append(commit(1), AppendOrigin::Coordinator);
    assert_eq!(partition.last_stable(), Offset(2));
    let end = append(commit(2), AppendOrigin::Coordinator);
    assert_eq!(partition.last_stable(), end);
    drop(partition);
    // Found at every high watermark that a checkpoint may have had.
    for high_watermark in 0..=end.0 {
        let name = TopicPartition::new("t", 0);
        let port = Arc::new(disk.clone());
        let hints = OpenHints {
            clean: false,
            ..OpenHints::NEW
        };
        let options = LogOptions::default();
        let dir = Path::new("/t-0");
        let (log, _) = Log::open(port, dir, name.clone(), options, hints, now()).unwrap();
        let id = TopicIdPartition::new(Uuid([7; 16]), 0);
        let me = BrokerId(1);
        let partition = Partition::new(id, name, me, log, Offset(high_watermark));
        partition.lead(&alone(), now());
        assert_eq!(partition.high_watermark(), end);
        assert_eq!(partition.last_stable(), end, "from {high_watermark}");
    }
    println!("opened at {} high watermarks", end.0 + 1);
}
