//! Full disks and failing ones: nothing that was not written is told of, nothing is written after a failure that
//! may have lost something.

use std::io::ErrorKind;

use milena_base::{Epoch, Offset};
use milena_disk::{Op, SimDisk};
use milena_log::{AppendError, AppendOrigin, Log, LogOptions};

use crate::harness::*;

fn is_full(error: &AppendError) -> bool {
    matches!(error, AppendError::Fault(fault) if fault.is_full())
}

/// Everything that the log says it has can be read, and nothing else is in its files.
fn check_whole(home: &Home, log: &Log) {
    let reader = log.reader();
    for offset in log.log_start().0..log.log_end().0 {
        let found = read(&reader, offset, 0, log.log_end());
        assert_eq!(found.len(), 1, "at {offset}");
    }
    for (base, size) in reader.segment_sizes() {
        let path = home.dir().join(format!("{:020}.log", base.0));
        let stat = home
            .disk
            .stat(&path)
            .expect("it can be asked")
            .expect("it is there");
        assert_eq!(stat.len, u64::from(size), "segment {base}");
    }
}

#[test]
fn a_full_disk_refuses_and_goes_on_when_there_is_room() {
    for quota in (6_000..6_200).step_by(7) {
        let disk = SimDisk::new(quota);
        let home = Home::simulated(
            &disk,
            LogOptions {
                segment_bytes: 2_000,
                ..small()
            },
        );
        let mut log = home.open_new();
        disk.set_quota(Some(quota));
        let mut appended = 0;
        let error = loop {
            match try_append(
                &mut log,
                batch(1, 60, 500),
                appended as i32 / 7,
                AppendOrigin::Client,
            ) {
                Ok(_) => appended += 1,
                Err(error) => break error,
            }
            assert!(appended < 200, "the quota was never reached");
        };
        assert!(is_full(&error), "{error}");
        assert_eq!(log.log_end(), Offset(appended));
        check_whole(&home, &log);
        let again = try_append(&mut log, batch(1, 60, 500), 30, AppendOrigin::Client);
        assert!(is_full(&again.expect_err("still full")));
        disk.set_quota(None);
        let next = try_append(&mut log, batch(1, 60, 500), 31, AppendOrigin::Client);
        assert_eq!(next.expect("there is room").first, Offset(appended));
        check_whole(&home, &log);
        let end = log.log_end();
        drop(log);
        disk.kill();
        let (log, opened) = home.open_after_crash(Offset(0), Offset(0));
        assert_eq!((log.log_end(), opened.truncated_bytes), (end, 0));
        check_whole(&home, &log);
    }
}

#[test]
fn an_aborted_transaction_that_did_not_fit_is_taken_back() {
    for op in [Op::Write, Op::Open] {
        let disk = SimDisk::new(1);
        let home = Home::simulated(&disk, small());
        let mut log = home.open_new();
        append(&mut log, producer_batch(1, 0, 0, 2, true));
        disk.fail(op, ".txnindex", ErrorKind::StorageFull, 1);
        let refused = try_append(&mut log, marker(1, 0, false), 0, AppendOrigin::Coordinator);
        assert!(is_full(&refused.expect_err("it did not fit")), "{op:?}");
        assert_eq!(log.reader().first_unstable_offset(), Some(Offset(0)));
        disk.fail(Op::Write, ".log", ErrorKind::StorageFull, 1);
        let refused = try_append(&mut log, marker(1, 0, false), 0, AppendOrigin::Coordinator);
        assert!(is_full(&refused.expect_err("it did not fit")), "{op:?}");
        let none = log
            .reader()
            .aborted_transactions(Offset(0), Offset(9))
            .expect("readable");
        assert_eq!(none, []);
        try_append(&mut log, marker(1, 0, false), 0, AppendOrigin::Coordinator).expect("it fits");
        let one = log
            .reader()
            .aborted_transactions(Offset(0), Offset(9))
            .expect("readable");
        assert_eq!(one.len(), 1);
    }
}

#[test]
fn after_a_failed_write_nothing_is_written_any_more() {
    let disk = SimDisk::new(1);
    let home = Home::simulated(&disk, small());
    let mut log = home.open_new();
    append(&mut log, batch(1, 60, 500));
    disk.fail(Op::Write, ".log", ErrorKind::Other, 1);
    for attempt in 0..3 {
        let failed = try_append(&mut log, batch(1, 60, 500), 0, AppendOrigin::Client);
        let error = failed.expect_err("the disk fails");
        assert!(
            matches!(error, AppendError::Fault(_)) && !is_full(&error),
            "{attempt}"
        );
    }
    assert!(log.start_flush().is_err());
    assert_eq!(
        read(&log.reader(), 0, 100, Offset(1)),
        [0],
        "reading goes on"
    );
    assert_eq!(log.log_end(), Offset(1));
}

#[test]
fn a_failed_sync_is_never_taken_for_a_success() {
    let disk = SimDisk::new(1);
    let home = Home::simulated(&disk, small());
    let mut log = home.open_new();
    append(&mut log, batch(1, 60, 500));
    let flush = log
        .start_flush()
        .expect("it starts")
        .expect("there is something");
    disk.fail(Op::Sync, ".log", ErrorKind::Other, 1);
    let fault = flush.run().expect_err("the sync fails");
    log.flush_failed(&fault);
    assert_eq!(log.recovery_point(), Offset(0));
    assert!(try_append(&mut log, batch(1, 60, 500), 0, AppendOrigin::Client).is_err());
    assert!(log.flush(at(1_000).mono).is_err());
}

#[test]
fn a_failure_at_any_call_of_a_roll_leaves_the_log_as_it_was_or_rolled() {
    for op in [Op::Open, Op::Write, Op::SetLen, Op::Stat, Op::RemoveFile] {
        for kind in [ErrorKind::StorageFull, ErrorKind::Other] {
            let disk = SimDisk::new(1);
            let home = Home::simulated(&disk, small());
            let mut log = home.open_new();
            append(&mut log, producer_batch(1, 0, 0, 3, false));
            disk.fail_next(op, kind);
            let rolled = log.roll(at(1_000));
            disk.heal();
            assert_eq!(log.log_end(), Offset(3));
            let next = try_append(
                &mut log,
                producer_batch(1, 0, 3, 1, false),
                0,
                AppendOrigin::Client,
            );
            let broken = rolled.is_err() && kind == ErrorKind::Other;
            assert_eq!(next.is_err(), broken, "{op:?} {kind:?}");
            let end = log.log_end();
            drop(log);
            disk.kill();
            let (log, _) = home.open_after_crash(Offset(0), Offset(0));
            assert_eq!(log.log_end(), end, "{op:?} {kind:?}");
            check_whole(&home, &log);
        }
    }
}

#[test]
fn a_flush_of_a_deleted_partition_is_no_failure() {
    let disk = SimDisk::new(1);
    let home = Home::simulated(&disk, small());
    let mut log = home.open_new();
    append(&mut log, batch(1, 60, 500));
    log.assign_epoch_start(Epoch(3), Offset(1));
    let flush = log
        .start_flush()
        .expect("it starts")
        .expect("there is something");
    drop(log);
    let away = home.dir().with_file_name("t-0.0123-delete");
    home.disk.rename(&home.dir(), &away).expect("it is renamed");
    flush.run().expect("nothing of it need last");
}
