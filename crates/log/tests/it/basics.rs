//! What each operation does, one at a time.

use milena_base::{Epoch, ErrorCode, Offset, Timestamp};
use milena_log::{AppendError, AppendOrigin, LogOptions, OpenHints, ReadError};

use crate::harness::*;

#[test]
fn what_was_appended_is_read_and_survives_a_clean_stop() {
    let home = Home::new(small());
    let mut log = home.open_new();
    for index in 0..50 {
        let appended = append(&mut log, batch(3, 100, 1_000 + index));
        assert_eq!(appended.first, Offset(index * 3));
        assert_eq!(appended.last, Offset(index * 3 + 2));
    }
    let expected: Vec<i64> = (0..50).map(|index| index * 3).collect();
    let reader = log.reader();
    let mut found = Vec::new();
    while found.len() < 50 {
        let next = found.len() as i64 * 3;
        found.extend(read(&reader, next, 4_000, log.log_end()));
    }
    assert_eq!(found, expected);
    assert!(reader.segment_count() > 1);
    let closed = log.close_cleanly(at(2_000)).expect("it closes");
    assert_eq!(closed.recovery_point, Offset(150));
    let (log, opened) = home.open(OpenHints::NEW);
    assert_eq!(opened.recovered_segments, 0);
    assert_eq!((log.log_start(), log.log_end()), (Offset(0), Offset(150)));
    assert_eq!(read(&log.reader(), 77, 1, log.log_end()), [75]);
}

#[test]
fn reads_stop_at_the_bound_and_give_one_batch_whole() {
    let home = Home::new(small());
    let mut log = home.open_new();
    for _ in 0..10 {
        append(&mut log, batch(2, 300, 1_000));
    }
    let reader = log.reader();
    assert_eq!(read(&reader, 4, u32::MAX, Offset(10)), [4, 6, 8]);
    assert_eq!(read(&reader, 5, u32::MAX, Offset(10)), [4, 6, 8]);
    assert_eq!(read(&reader, 4, 0, Offset(10)), [4]);
    assert_eq!(read(&reader, 10, u32::MAX, Offset(10)), []);
    assert_eq!(read(&reader, 20, u32::MAX, Offset(20)), []);
    let cut = reader
        .read(Offset(4), 100, Offset(10), false)
        .expect("in range");
    assert!(cut.is_first_batch_cut());
    assert_eq!(cut.len(), 100);
    for outside in [-1, 21] {
        let read = reader.read(Offset(outside), 1, Offset(20), true);
        assert!(matches!(read, Err(ReadError::OutOfRange)), "{outside}");
    }
}

#[test]
fn a_retry_is_answered_and_a_gap_refused() {
    let home = Home::new(small());
    let mut log = home.open_new();
    append(&mut log, producer_batch(9, 0, 0, 5, false));
    append(&mut log, producer_batch(9, 0, 5, 5, false));
    let again = append(&mut log, producer_batch(9, 0, 0, 5, false));
    assert!(again.duplicate);
    assert_eq!((again.first, again.last), (Offset(0), Offset(4)));
    assert_eq!(log.log_end(), Offset(10));
    let gap = try_append(
        &mut log,
        producer_batch(9, 0, 11, 1, false),
        0,
        AppendOrigin::Client,
    );
    let Err(AppendError::Refused(code, _)) = gap else {
        panic!("a gap was taken");
    };
    assert_eq!(code, ErrorCode::OutOfOrderSequenceNumber);
    log.close_cleanly(at(2_000)).expect("it closes");
    let mut log = home.open_new();
    let again = append(&mut log, producer_batch(9, 0, 5, 5, false));
    assert!(again.duplicate, "the snapshot remembers the last batch");
}

#[test]
fn an_aborted_transaction_is_found_again_also_after_a_crash() {
    let home = Home::new(small());
    let mut log = home.open_new();
    append(&mut log, producer_batch(1, 0, 0, 4, true));
    append(&mut log, producer_batch(2, 0, 0, 2, true));
    let reader = log.reader();
    assert_eq!(reader.last_stable_offset(Offset(6)), Offset(0));
    let ended = try_append(&mut log, marker(1, 0, false), 0, AppendOrigin::Coordinator);
    assert_eq!(ended.expect("the marker is taken").first, Offset(6));
    log.on_high_watermark(Offset(7));
    assert_eq!(reader.last_stable_offset(Offset(7)), Offset(4));
    let aborted = reader
        .aborted_transactions(Offset(0), Offset(7))
        .expect("readable");
    let [txn] = aborted[..] else {
        panic!("one transaction was aborted: {aborted:?}");
    };
    assert_eq!(
        (txn.producer_id, txn.first_offset, txn.last_offset),
        (1, Offset(0), Offset(6))
    );
    assert_eq!(txn.last_stable_offset, Offset(4));
    let index = home.bytes("00000000000000000000.txnindex");
    drop(log);
    let (log, opened) = home.open_after_crash(Offset(0), Offset(0));
    assert_eq!(opened.recovered_segments, 1);
    assert_eq!(home.bytes("00000000000000000000.txnindex"), index);
    let reader = log.reader();
    assert_eq!(
        reader.first_unstable_offset(),
        Some(Offset(0)),
        "no high watermark yet"
    );
    let slice = reader
        .read(Offset(0), u32::MAX, Offset(7), true)
        .expect("in range");
    let aborted = reader
        .aborted_in_slice(Offset(0), &slice)
        .expect("readable");
    assert_eq!(aborted, [txn]);
}

#[test]
fn a_torn_end_is_cut_off_after_a_crash() {
    let home = Home::new(small());
    let mut log = home.open_new();
    for _ in 0..5 {
        append(&mut log, batch(1, 50, 1_000));
    }
    drop(log);
    let path = home.dir().join("00000000000000000000.log");
    let whole = std::fs::read(&path).expect("the log file");
    for cut in 1..whole.len() {
        std::fs::write(&path, &whole[..cut]).expect("a shorter log file");
        let (log, _) = home.open_after_crash(Offset(0), Offset(0));
        let batch_bytes = whole.len() / 5;
        assert_eq!(log.log_end(), Offset((cut / batch_bytes) as i64), "{cut}");
        assert_eq!(
            home.bytes("00000000000000000000.log").len() % batch_bytes,
            0
        );
    }
}

#[test]
fn a_flipped_bit_beyond_the_recovery_point_cuts_the_log_there() {
    let home = Home::new(small());
    let mut log = home.open_new();
    for _ in 0..4 {
        append(&mut log, batch(1, 50, 1_000));
    }
    drop(log);
    let path = home.dir().join("00000000000000000000.log");
    let mut bytes = std::fs::read(&path).expect("the log file");
    let third = bytes.len() / 2 + 70;
    bytes[third] ^= 1;
    std::fs::write(&path, &bytes).expect("the damaged file");
    let (log, opened) = home.open_after_crash(Offset(0), Offset(0));
    assert_eq!(log.log_end(), Offset(2));
    assert_eq!(opened.truncated_bytes, bytes.len() as u64 / 2);
}

#[test]
fn a_lost_index_is_built_again_as_it_was() {
    let home = Home::new(small());
    let mut log = home.open_new();
    for index in 0..200 {
        append(&mut log, batch(1, 100, 1_000 + index));
    }
    log.close_cleanly(at(2_000)).expect("it closes");
    for kind in ["index", "timeindex"] {
        let name = format!("00000000000000000000.{kind}");
        let before = home.bytes(&name);
        assert!(!before.is_empty());
        std::fs::remove_file(home.dir().join("00000000000000000000.index")).expect("removed");
        let (log, opened) = home.open(OpenHints::NEW);
        assert_eq!(opened.recovered_segments, 1);
        log.close_cleanly(at(2_000)).expect("it closes");
        assert_eq!(home.bytes(&name), before, "{name}");
    }
}

#[test]
fn timestamps_lead_to_offsets() {
    let home = Home::new(small());
    let mut log = home.open_new();
    for index in 0..100 {
        append(&mut log, batch(3, 200, index * 10));
    }
    let reader = log.reader();
    let offset_at = |timestamp| {
        let found = reader
            .offset_for_timestamp(Timestamp(timestamp))
            .expect("readable");
        found.map(|found| (found.offset.0, found.timestamp.0))
    };
    assert_eq!(offset_at(0), Some((0, 0)));
    assert_eq!(offset_at(501), Some((151, 501)));
    assert_eq!(offset_at(503), Some((153, 510)));
    assert_eq!(offset_at(993), None);
    let largest = reader
        .max_timestamp()
        .expect("readable")
        .expect("there are records");
    assert_eq!(
        (largest.offset, largest.timestamp),
        (Offset(299), Timestamp(992))
    );
    assert_eq!(largest.leader_epoch, Some(Epoch(0)));
}

#[test]
fn retention_drops_whole_segments_from_the_front() {
    let home = Home::new(LogOptions {
        retention_bytes: Some(40_000),
        ..small()
    });
    let mut log = home.open_new();
    for _ in 0..100 {
        append(&mut log, batch(1, 1_000, 900));
    }
    let before = log.size_bytes();
    let nothing = log.retention(at(1_000), Offset(0)).expect("retention runs");
    assert_eq!(nothing.segments, 0, "nothing is below the high watermark");
    let done = log
        .retention(at(1_000), log.log_end())
        .expect("retention runs");
    assert!(done.segments > 0);
    assert_eq!(log.size_bytes(), before - done.bytes);
    assert!(log.size_bytes() >= 40_000);
    assert_eq!(log.log_start(), log.first_segment_base());
    assert!(
        home.file_names()
            .iter()
            .any(|name| name.ends_with(".deleted"))
    );
    assert!(log.take_due_deletions(at(1_000).mono).is_empty());
    let due = log.take_due_deletions(at(61_000).mono);
    assert!(due.len() >= done.segments * 3);
}

#[test]
fn retention_by_age_rolls_the_active_segment_too() {
    let home = Home::new(LogOptions {
        retention_ms: Some(100),
        ..small()
    });
    let mut log = home.open_new();
    append(&mut log, batch(1, 10, 500));
    assert_eq!(log.retention(at(600), Offset(1)).expect("runs").segments, 0);
    let done = log.retention(at(601), Offset(1)).expect("retention runs");
    assert_eq!(done.segments, 1);
    assert!(done.rolled.is_some());
    assert_eq!((log.log_start(), log.log_end()), (Offset(1), Offset(1)));
    assert_eq!(log.retention(at(900), Offset(1)).expect("runs").segments, 0);
}

#[test]
fn truncation_makes_slices_invalid_and_forgets_what_went() {
    let home = Home::new(small());
    let mut log = home.open_new();
    for sequence in 0..100 {
        append(&mut log, producer_batch(3, 0, sequence, 1, false));
    }
    log.assign_epoch_start(Epoch(4), Offset(100));
    let reader = log.reader();
    let slice = reader
        .read(Offset(40), 10, Offset(100), true)
        .expect("in range");
    assert!(
        log.truncate_to(Offset(50), at(1_000))
            .expect("it truncates")
    );
    assert!(!slice.file.expect("there was a batch").still_valid());
    assert_eq!(log.log_end(), Offset(50));
    assert_eq!(reader.latest_epoch(), Some(Epoch(0)));
    let next = append(&mut log, producer_batch(3, 0, 50, 1, false));
    assert_eq!(next.first, Offset(50), "the sequence went back too");
    log.truncate_fully_and_start_at(Offset(500), at(1_000))
        .expect("it truncates");
    assert_eq!((log.log_start(), log.log_end()), (Offset(500), Offset(500)));
    assert_eq!(log.active_producers().len(), 0);
}

/// What `ProducerStateManager.truncateAndReload` keeps: only snapshots beyond the log's start.
#[test]
fn truncation_forgets_producers_below_the_start() {
    let home = Home::new(small());
    let mut log = home.open_new();
    append(&mut log, producer_batch(3, 0, 0, 1, true));
    log.roll(at(1_000)).expect("it rolls");
    append(&mut log, producer_batch(4, 0, 0, 1, false));
    append(&mut log, producer_batch(5, 0, 0, 1, false));
    append(&mut log, producer_batch(6, 0, 0, 1, false));
    log.advance_log_start(Offset(2));
    assert_eq!(log.active_producers().len(), 4);
    assert!(log.truncate_to(Offset(3), at(1_000)).expect("it truncates"));
    let left: Vec<i64> = log
        .active_producers()
        .map(|entry| entry.producer_id)
        .collect();
    assert_eq!(left, [5]);
    assert_eq!(log.reader().last_stable_offset(Offset(3)), Offset(3));
}

#[test]
fn a_flush_raises_the_recovery_point_unless_a_truncation_overtook_it() {
    let home = Home::new(LogOptions {
        flush_messages: 1,
        ..small()
    });
    let mut log = home.open_new();
    assert!(append(&mut log, batch(1, 10, 500)).flush_due);
    let flush = log
        .start_flush()
        .expect("it starts")
        .expect("there is something");
    flush.run().expect("it syncs");
    assert_eq!(log.recovery_point(), Offset(0));
    log.finish_flush(&flush, at(1_000).mono);
    assert_eq!(log.recovery_point(), Offset(1));
    append(&mut log, batch(1, 10, 500));
    let flush = log
        .start_flush()
        .expect("it starts")
        .expect("there is something");
    log.truncate_to(Offset(1), at(1_000)).expect("it truncates");
    append(&mut log, batch(1, 10, 500));
    flush.run().expect("it syncs");
    log.finish_flush(&flush, at(1_000).mono);
    assert_eq!(log.recovery_point(), Offset(1));
}

#[test]
fn log_append_time_is_stamped() {
    let home = Home::new(LogOptions {
        log_append_time: true,
        ..small()
    });
    let mut log = home.open_new();
    let appended = append(&mut log, batch(2, 10, 5));
    assert_eq!(appended.log_append_time, Timestamp(1_000));
    assert_eq!(
        read(&log.reader(), 0, 100, Offset(2)),
        [0],
        "the CRC still holds"
    );
    let found = log
        .reader()
        .max_timestamp()
        .expect("readable")
        .expect("a record");
    assert_eq!(found.timestamp, Timestamp(1_000));
}

#[test]
fn a_preallocated_segment_is_full_of_zeros_until_it_is_closed() {
    let home = Home::new(LogOptions {
        preallocate: true,
        ..small()
    });
    let lens = |home: &Home| {
        let logs = home
            .file_names()
            .into_iter()
            .filter(|name| name.ends_with(".log"));
        logs.map(|name| home.bytes(&name).len()).collect::<Vec<_>>()
    };
    let mut log = home.open_new();
    for _ in 0..5 {
        let appended =
            log.append_as_leader(batch(5, 1_000, 1), Epoch(0), AppendOrigin::Client, at(1));
        appended.expect("it is appended");
    }
    let sizes = lens(&home);
    assert_eq!(sizes.last(), Some(&(16 * 1024)));
    assert!(sizes.len() == 2 && sizes[0] < 16 * 1024, "{sizes:?}");
    // A crash leaves the zeros, and recovery cuts them; nothing that was appended is lost.
    drop(log);
    let (log, opened) = home.open_after_crash(Offset(0), Offset(0));
    assert_eq!((log.log_end(), opened.recovered_segments), (Offset(25), 2));
    let before = lens(&home);
    log.close_cleanly(at(2)).expect("it closes");
    assert_eq!(lens(&home), before);
    assert!(before.iter().all(|len| *len < 16 * 1024), "{before:?}");
    // A clean close cuts them too.
    let mut log = home
        .open(OpenHints {
            recovery_point: Offset(25),
            ..OpenHints::NEW
        })
        .0;
    log.roll(at(3)).expect("it rolls");
    assert_eq!(lens(&home).last(), Some(&(16 * 1024)));
    log.close_cleanly(at(4)).expect("it closes");
    assert_eq!(lens(&home).last(), Some(&0));
}
