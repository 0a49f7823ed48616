//! The metadata log on files: starts, rolls, snapshots, retention, damage.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use milena_base::{Offset, Prng, Timestamp};
use milena_broker::format::{InitialControllers, format};
use milena_broker::metadata_log::{metadata_partition_dir, read_quorum_state};
use milena_disk::{Disk, OpenMode, OsDisk, SimDisk};
use milena_raft::{NotAppended, OffsetAndEpoch, Retention};

use crate::replica::{Replica, at, request};

const DIR: &str = "/data";

fn new_node(initial: InitialControllers) -> Arc<dyn Disk> {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(5));
    let request = request(Path::new(DIR), initial);
    format(&disk, &request, &mut Prng::new(1), Timestamp(1)).unwrap();
    disk
}

fn value(i: usize) -> Bytes {
    Bytes::from(format!("{i:>100}"))
}

fn files(disk: &Arc<dyn Disk>) -> Vec<String> {
    let dir = metadata_partition_dir(&Path::new(DIR).join("one"));
    let entries = disk.list(&dir).unwrap();
    entries.into_iter().map(|entry| entry.name).collect()
}

#[test]
fn a_directory_of_the_operating_system() {
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    let temp = milena_testkit::temp_dir();
    let request = request(temp.path(), InitialControllers::Standalone);
    format(&disk, &request, &mut Prng::new(1), Timestamp(1)).unwrap();
    for epoch in 1..4 {
        let mut replica = Replica::open(&disk, temp.path(), 4096, at(epoch)).unwrap();
        assert_eq!(replica.active.unwrap().0, epoch as i32);
        for i in 0..50 {
            replica.append(&[value(i)], at(epoch)).unwrap();
        }
        assert_eq!(replica.values().len(), 6 + 50 * epoch as usize);
        if epoch == 2 {
            replica.snapshot(at(epoch)).unwrap();
        }
    }
}

#[test]
fn each_start_leads_a_new_epoch_and_loses_nothing() {
    let disk = new_node(InitialControllers::Unspecified);
    let dir = Path::new(DIR);
    for epoch in 1..6 {
        let mut replica = Replica::open(&disk, dir, 2000, at(epoch)).unwrap();
        let written = 10 * (epoch as usize - 1);
        let values = replica.values();
        assert_eq!(values.len(), 6 + written);
        assert!(values[6..].iter().enumerate().all(|(i, v)| *v == value(i)));
        assert_eq!(replica.active.unwrap().0, epoch as i32);
        for i in 0..10 {
            replica.append(&[value(written + i)], at(epoch)).unwrap();
        }
        let partition = metadata_partition_dir(&dir.join("one"));
        let state = read_quorum_state(&*disk, &partition).unwrap().unwrap();
        assert_eq!(state.epoch.0, epoch as i32);
    }
}

#[test]
fn snapshots_take_the_place_of_the_log() {
    let disk = new_node(InitialControllers::Standalone);
    let dir = Path::new(DIR);
    let mut replica = Replica::open(&disk, dir, 1000, at(0)).unwrap();
    let mut ids = Vec::new();
    for round in 0..4u64 {
        for i in 0..20 {
            replica.append(&[value(i)], at(round)).unwrap();
        }
        ids.push(replica.snapshot(at(round)).unwrap());
    }
    assert_eq!(replica.raft.log().snapshots()[1..], ids);
    let before = replica.values();
    let keep_two = Retention {
        bytes_max: -1,
        age_ms_max: 1,
    };
    // The third and fourth were taken within the last two milliseconds of the clock that asks.
    assert!(keep_two.clean(replica.raft.log_mut(), at(3)).unwrap());
    assert_eq!(replica.raft.log().snapshots(), ids[2..]);
    assert_eq!(replica.raft.log().start_offset(), ids[2].offset);
    assert!(
        files(&disk)
            .iter()
            .any(|name| name.ends_with(".checkpoint.deleted"))
    );
    let all = Retention {
        bytes_max: -1,
        age_ms_max: -1,
    };
    all.clean(replica.raft.log_mut(), at(100_000)).unwrap();
    assert!(
        !files(&disk).iter().any(|name| name.ends_with(".deleted")),
        "{:?}",
        files(&disk)
    );
    assert_eq!(replica.values(), before);
    drop(replica);

    let replica = Replica::open(&disk, dir, 1000, at(200_000)).unwrap();
    assert_eq!(replica.values(), before);
    assert_eq!(replica.raft.voters().len(), 1, "known from the snapshot");
}

#[test]
fn epochs_end_where_the_next_begins() {
    let disk = new_node(InitialControllers::Unspecified);
    for start in 0..3 {
        let mut replica = Replica::open(&disk, Path::new(DIR), 1 << 20, at(start)).unwrap();
        replica.append(&[value(1), value(2)], at(start)).unwrap();
        let log = replica.raft.log();
        let end = log.end_offset_for_epoch(milena_base::Epoch(1));
        assert_eq!(end, OffsetAndEpoch::new(3, 1));
        assert_eq!(log.last_epoch().0, start as i32 + 1);
    }
}

#[test]
fn a_log_without_its_snapshot_is_not_opened() {
    let disk = new_node(InitialControllers::Unspecified);
    let dir = Path::new(DIR);
    let mut replica = Replica::open(&disk, dir, 1000, at(0)).unwrap();
    for i in 0..40 {
        replica.append(&[value(i)], at(0)).unwrap();
    }
    replica.snapshot(at(0)).unwrap();
    let all = Retention {
        bytes_max: 0,
        age_ms_max: -1,
    };
    assert!(all.clean(replica.raft.log_mut(), at(1)).unwrap());
    drop(replica);
    let partition = metadata_partition_dir(&dir.join("one"));
    for name in files(&disk)
        .iter()
        .filter(|name| name.contains("checkpoint"))
    {
        if name.ends_with(".checkpoint") {
            disk.remove_file(&partition.join(name)).unwrap();
        }
    }
    let Err(fault) = Replica::open(&disk, dir, 1000, at(2)) else {
        panic!("what came before is nowhere");
    };
    assert!(fault.to_string().contains("no snapshot"), "{fault}");
}

#[test]
fn a_damaged_quorum_state_stops_the_start() {
    let disk = new_node(InitialControllers::Unspecified);
    let dir = Path::new(DIR);
    drop(Replica::open(&disk, dir, 1000, at(0)).unwrap());
    let path = metadata_partition_dir(&dir.join("one")).join("quorum-state");
    let file = disk.open(&path, OpenMode::ReadWrite).unwrap();
    file.write_all_at(&[b"x"], 0).unwrap();
    let Err(fault) = Replica::open(&disk, dir, 1000, at(1)) else {
        panic!("the vote may be lost");
    };
    assert!(fault.to_string().contains("quorum-state"), "{fault}");
}

#[test]
fn a_full_disk_is_no_reason_to_stop() {
    let sim = SimDisk::new(9);
    let disk: Arc<dyn Disk> = Arc::new(sim.clone());
    let request = request(Path::new(DIR), InitialControllers::Unspecified);
    format(&disk, &request, &mut Prng::new(1), Timestamp(1)).unwrap();
    let mut replica = Replica::open(&disk, Path::new(DIR), 1 << 20, at(0)).unwrap();
    replica.append(&[value(0)], at(0)).unwrap();
    sim.set_quota(Some(1));
    let big: Vec<Bytes> = (0..200).map(value).collect();
    let refused = replica.append(&big, at(1));
    assert!(matches!(refused, Err(NotAppended::Full(_))), "{refused:?}");
    sim.set_quota(None);
    replica.append(&[value(1)], at(2)).unwrap();
    let values = replica.values();
    assert_eq!(values[6..], [value(0), value(1)]);
    assert_eq!(replica.committed, Offset(3));
}
