//! Fsync mode (`flush.messages=1`): nothing is committed or acknowledged before the disk has it, and after a failed
//! fsync nothing is any more.

use std::io::ErrorKind;

use milena_base::{BrokerId, Epoch, Now, Offset};
use milena_disk::{Op, SimDisk};
use milena_log::{AppendOrigin, LogOptions};
use milena_replica::{AppendRefused, Assignment, Partition};

use crate::machine::{partition_on, records};

fn leading(disk: &SimDisk) -> Partition {
    let options = LogOptions {
        flush_messages: 1,
        ..Default::default()
    };
    let partition = partition_on(disk, options);
    let alone = Assignment {
        leader: BrokerId(1),
        leader_epoch: Epoch(0),
        partition_epoch: 0,
        replicas: vec![BrokerId(1)],
        isr: vec![BrokerId(1)],
        recovering: false,
    };
    partition.lead(&alone, now());
    partition
}

fn now() -> Now {
    Now::from_millis(0, 1_000_000)
}

fn append(partition: &Partition) -> Result<bool, AppendRefused> {
    let batch = records(2, 1_000_000).build();
    partition
        .append_as_leader(batch, true, AppendOrigin::Client, now())
        .map(|appended| appended.high_watermark_moved)
}

#[test]
fn an_append_is_committed_once_the_disk_has_it() {
    let disk = SimDisk::new(2);
    let partition = leading(&disk);
    assert!(append(&partition).unwrap());
    assert_eq!(partition.reader().recovery_point(), Offset(2));
    assert_eq!(partition.high_watermark(), Offset(2));
    disk.power_cut_losing_all();
    let files = disk.files(std::path::Path::new("/t-0"));
    let log = &files["00000000000000000000.log"];
    let batches = milena_records::batches(log.clone().into()).filter(|batch| {
        let batch = batch.as_ref();
        batch.is_ok_and(|batch| batch.check_crc().is_ok())
    });
    assert_eq!(batches.count(), 1);
}

#[test]
fn after_a_failed_fsync_nothing_is_committed_or_taken() {
    let disk = SimDisk::new(3);
    let partition = leading(&disk);
    append(&partition).unwrap();
    disk.fail(Op::Sync, ".log", ErrorKind::Other, 1);
    assert!(matches!(append(&partition), Err(AppendRefused::Fault(_))));
    assert_eq!(partition.high_watermark(), Offset(2));
    assert!(matches!(append(&partition), Err(AppendRefused::Fault(_))));
    assert_eq!(partition.high_watermark(), Offset(2));
}
