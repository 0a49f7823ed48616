//! Kafka's rules of retention, one by one.

use milena_base::{Epoch, Offset, Timestamp};
use milena_log::{AppendOrigin, CleanError, CleanStep, CleanerOptions, Log, LogOptions, OpenHints};
use milena_records::{Batch, BatchBuilder, Compression, Limits, NewRecord, ValidBatch, batches};

use super::{clean, cleaner, compacted};
use crate::harness::*;

/// One batch of records, each a key and a value (`-`: a tombstone).
fn keyed(builder: BatchBuilder, records: &[(&str, &str)], timestamp: i64) -> ValidBatch {
    let mut builder = builder;
    for (key, value) in records {
        let record = NewRecord {
            timestamp: Timestamp(timestamp),
            key: Some(key.as_bytes()),
            value: (*value != "-").then_some(value.as_bytes()),
            headers: &[],
        };
        builder.append(record).expect("it fits");
    }
    builder.build()
}

fn put(log: &mut Log, records: &[(&str, &str)]) {
    append(
        log,
        keyed(BatchBuilder::new(Compression::None), records, 500),
    );
}

fn put_of(log: &mut Log, id: i64, sequence: i32, txn: bool, records: &[(&str, &str)]) {
    let builder = BatchBuilder::new(Compression::None)
        .producer(id, 0, sequence)
        .transactional(txn);
    append(log, keyed(builder, records, 500));
}

fn end(log: &mut Log, id: i64, commit: bool) {
    try_append(log, marker(id, 0, commit), 0, AppendOrigin::Coordinator).expect("a marker");
}

fn roll(log: &mut Log) {
    log.roll(at(1_000)).expect("it rolls");
}

fn all_batches(log: &Log) -> Vec<Batch> {
    let reader = log.reader();
    let mut found = Vec::new();
    let mut offset = log.log_start();
    while offset < log.log_end() {
        let slice = reader
            .read(offset, 1, log.log_end(), true)
            .expect("in range");
        let Some(file) = slice.file else { break };
        let bytes = file.read().expect("readable");
        for batch in batches(bytes.into()) {
            let batch = batch.expect("a batch");
            offset = batch.header().next_offset();
            found.push(batch);
        }
    }
    found
}

/// Every batch as `base..last key=value@offset …`; markers as `commit` or `abort`.
fn shown(log: &Log) -> Vec<String> {
    let text = |bytes: Option<bytes::Bytes>| match bytes {
        Some(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        None => "-".into(),
    };
    let show = |batch: Batch| {
        let header = batch.header();
        let mut line = format!("{}..{}", header.base_offset(), header.last_offset());
        if header.delete_horizon().is_some() {
            line += " horizon";
        }
        for record in batch.records(Limits::default()) {
            let record = record.expect("a record");
            line += &match (header.is_control(), record.key.as_deref()) {
                (true, Some([.., 1])) => " commit".into(),
                (true, _) => " abort".into(),
                _ => format!(
                    " {}={}@{}",
                    text(record.key),
                    text(record.value),
                    record.offset
                ),
            };
        }
        line
    };
    all_batches(log).into_iter().map(show).collect()
}

fn new_log() -> (Home, Log) {
    let home = Home::new(compacted());
    let log = home.open_new();
    (home, log)
}

#[test]
fn the_newest_of_each_key_stays_at_its_offset() {
    let (home, mut log) = new_log();
    put(&mut log, &[("a", "1"), ("b", "1"), ("c", "1")]);
    put(&mut log, &[("a", "2")]);
    roll(&mut log);
    put(&mut log, &[("b", "2")]);
    roll(&mut log);
    put(&mut log, &[("c", "2")]);
    let (to, stats) = clean(&mut log, None, 2_000, &cleaner()).expect("it is cleaned");
    // The active segment is neither cleaned nor looked at.
    assert_eq!(to, Offset(5));
    assert_eq!(
        shown(&log),
        ["0..2 c=1@2", "3..3 a=2@3", "4..4 b=2@4", "5..5 c=2@5"]
    );
    assert_eq!(
        (stats.records_read, stats.records_kept, stats.keys),
        (5, 3, 3)
    );
    assert_eq!((stats.segments_before, stats.segments_after), (2, 1));
    assert_eq!(log.reader().segment_count(), 2);
    let names = home.file_names();
    let left = |suffix: &str| names.iter().filter(|n| n.ends_with(suffix)).count();
    assert_eq!((left(".cleaned"), left(".swap"), left(".log")), (0, 0, 2));
    // A stop and a start see the same.
    let before = shown(&log);
    log.close_cleanly(at(2_000)).expect("it closes");
    assert_eq!(shown(&home.open(OpenHints::NEW).0), before);
}

#[test]
fn a_tombstone_stays_until_its_horizon() {
    let (_home, mut log) = new_log();
    put(&mut log, &[("a", "1"), ("b", "1")]);
    put(&mut log, &[("a", "-")]);
    roll(&mut log);
    put(&mut log, &[("x", "1")]);
    let (to, _) = clean(&mut log, None, 2_000, &cleaner()).expect("it is cleaned");
    assert_eq!(shown(&log)[..2], ["0..1 b=1@1", "2..2 horizon a=-@2"]);
    // `delete.retention.ms` later, with something dirty.
    roll(&mut log);
    put(&mut log, &[("x", "2")]);
    let (to, _) = clean(&mut log, Some(to), 2_999, &cleaner()).expect("it is cleaned");
    assert_eq!(shown(&log)[..2], ["0..1 b=1@1", "2..2 horizon a=-@2"]);
    roll(&mut log);
    put(&mut log, &[("x", "3")]);
    clean(&mut log, Some(to), 3_000, &cleaner()).expect("it is cleaned");
    assert_eq!(shown(&log), ["0..1 b=1@1", "4..4 x=2@4", "5..5 x=3@5"]);
}

#[test]
fn aborted_records_go_at_once_and_markers_when_their_time_has_come() {
    let (_home, mut log) = new_log();
    put_of(&mut log, 1, 0, true, &[("a", "aborted")]);
    put_of(&mut log, 2, 0, true, &[("b", "committed")]);
    end(&mut log, 1, false);
    end(&mut log, 2, true);
    put_of(&mut log, 1, 1, true, &[("z", "1")]);
    put_of(&mut log, 2, 1, true, &[("z", "1")]);
    end(&mut log, 1, true);
    end(&mut log, 2, true);
    roll(&mut log);
    put(&mut log, &[("x", "1")]);
    let (mut to, _) = clean(&mut log, None, 2_000, &cleaner()).expect("it is cleaned");
    let first = [
        "1..1 b=committed@1",
        "2..2 abort",
        "3..3 commit",
        // The last sequence of producer 1; its record was superseded.
        "4..4",
        "5..5 z=1@5",
        "6..6 commit",
        "7..7 commit",
        "8..8 x=1@8",
    ];
    assert_eq!(shown(&log), first);
    let aborted = |log: &Log| {
        let found = log.reader().aborted_transactions(Offset(0), Offset(9));
        found.expect("the index is read").len()
    };
    assert_eq!(aborted(&log), 1);
    // Once nothing is left of its transaction a marker's time begins, and that is 1,000.
    for (now, expected) in [(2_500, Some("2..2 horizon abort")), (3_500, None)] {
        roll(&mut log);
        put(&mut log, &[("x", "1")]);
        (to, _) = clean(&mut log, Some(to), now, &cleaner()).expect("it is cleaned");
        let lines = shown(&log);
        let marker = lines.iter().find(|line| line.contains("abort"));
        assert_eq!(marker.map(String::as_str), expected, "at {now}");
        assert_eq!(aborted(&log), 0);
        // The marker of a transaction of which a batch is left stays for ever.
        assert!(shown(&log).iter().any(|line| line.starts_with("3..3")));
    }
}

#[test]
fn an_undecided_transaction_holds_the_cleaner_back() {
    let (_home, mut log) = new_log();
    put(&mut log, &[("a", "1")]);
    roll(&mut log);
    put(&mut log, &[("a", "2")]);
    put_of(&mut log, 1, 0, true, &[("a", "3")]);
    roll(&mut log);
    put(&mut log, &[("a", "4")]);
    roll(&mut log);
    let (to, _) = clean(&mut log, None, 2_000, &cleaner()).expect("it is cleaned");
    assert_eq!(
        to,
        Offset(1),
        "the segment with the undecided one is not cleaned"
    );
    end(&mut log, 1, true);
    roll(&mut log);
    let (to, _) = clean(&mut log, Some(to), 2_000, &cleaner()).expect("it is cleaned");
    assert_eq!(to, Offset(5));
    assert_eq!(shown(&log), ["2..2", "3..3 a=4@3", "4..4 commit"]);
}

#[test]
fn nothing_uncommitted_or_unflushed_is_cleaned() {
    let (_home, mut log) = new_log();
    for value in ["1", "2", "3"] {
        put(&mut log, &[("a", value)]);
        roll(&mut log);
    }
    let now = Timestamp(2_000);
    let unflushed = log
        .cleanable(None, Offset(3), now)
        .expect("it is looked at");
    assert_eq!(unflushed.first_uncleanable, Offset(0));
    log.flush(at(2_000).mono).expect("it is flushed");
    for (high_watermark, uncleanable) in [(0, 0), (1, 1), (2, 2), (3, 3)] {
        let found = log.cleanable(None, Offset(high_watermark), now);
        let found = found.expect("it is looked at");
        assert_eq!(found.first_uncleanable, Offset(uncleanable));
    }
}

#[test]
fn the_lags_and_the_ratio_decide() {
    let (_home, mut log) = new_log();
    for timestamp in [1_000, 2_000, 3_000] {
        let builder = BatchBuilder::new(Compression::None);
        append(&mut log, keyed(builder, &[("a", "1")], timestamp));
        roll(&mut log);
    }
    log.flush(at(1_000).mono).expect("it is flushed");
    let mut look = |change: &dyn Fn(&mut LogOptions), cleaned_to: i64, now: i64| {
        let mut options = compacted();
        change(&mut options);
        log.set_options(options);
        let found = log.cleanable(Some(Offset(cleaned_to)), Offset(3), Timestamp(now));
        found.expect("it is looked at")
    };
    let young = look(&|o| o.min_compaction_lag_ms = 1_500, 0, 3_600);
    assert_eq!(
        young.first_uncleanable,
        Offset(2),
        "2,000 is old enough, 3,000 is not"
    );
    let late = look(&|o| o.max_compaction_lag_ms = 1_500, 1, 3_600);
    assert_eq!(late.overdue_ms, 100, "of the record of 2,000");
    assert!(late.is_due(1.0) && !look(&|_| (), 1, 3_600).is_due(1.0));
    let third = look(&|_| (), 2, 3_600);
    assert!((third.dirty_ratio() - 1.0 / 3.0).abs() < 0.01);
    assert!(third.is_due(0.3) && !third.is_due(0.4));
    assert!(
        look(&|_| (), 99, 3_600).is_reset,
        "no such offset: all is dirty"
    );
}

#[test]
fn a_full_map_cleans_as_far_as_it_knows() {
    let (_home, mut log) = new_log();
    for index in 0..20 {
        let key = format!("k{}", index % 10);
        put(&mut log, &[(&key, "1")]);
    }
    roll(&mut log);
    let tiny = CleanerOptions {
        dedupe_buffer_bytes: 24 * 4,
        dedupe_buffer_load_factor: 1.0,
        ..cleaner()
    };
    let (mut to, stats) = clean(&mut log, None, 2_000, &tiny).expect("it is cleaned");
    assert_eq!((to, stats.keys), (Offset(4), 4), "four keys fit");
    for _ in 0..4 {
        to = clean(&mut log, Some(to), 2_000, &tiny)
            .expect("it is cleaned")
            .0;
    }
    assert_eq!(to, Offset(20));
    assert_eq!(shown(&log).len(), 10);
    assert_eq!(shown(&log)[0], "10..10 k0=1@10");
}

#[test]
fn a_buffer_of_one_byte_takes_a_batch_at_a_time() {
    let (_home, mut log) = new_log();
    for value in ["1", "2", "3"] {
        put(&mut log, &[("a", value)]);
    }
    roll(&mut log);
    let tiny = CleanerOptions {
        io_buffer_bytes: 1,
        ..cleaner()
    };
    clean(&mut log, None, 2_000, &tiny).expect("it is cleaned");
    assert_eq!(shown(&log), ["2..2 a=3@2"]);
}

#[test]
fn readers_with_the_old_segments_in_view_go_on() {
    let (_home, mut log) = new_log();
    put_of(&mut log, 1, 0, true, &[("a", "aborted")]);
    end(&mut log, 1, false);
    for _ in 0..3 {
        put(&mut log, &[("a", "1")]);
        roll(&mut log);
    }
    let reader = log.reader();
    let slice = reader
        .read(Offset(0), 10_000, log.log_end(), true)
        .expect("in range");
    log.reader().segment_timestamps().expect("they are read");
    log.close_idle_files();
    log.close_idle_files();
    clean(&mut log, None, 2_000, &cleaner()).expect("it is cleaned");
    let file = slice.file.clone().expect("something was there");
    assert!(file.still_valid());
    let bytes = file.read().expect("the old file is there");
    assert_eq!(batches(bytes.into()).count(), 3, "as it was");
    let aborted = reader
        .aborted_in_slice(Offset(0), &slice)
        .expect("its index is there");
    assert_eq!(
        aborted.len(),
        1,
        "the aborted transaction of the old records"
    );
    assert_eq!(shown(&log), ["0..0", "1..1 abort", "4..4 a=1@4"]);
}

#[test]
fn a_log_that_changed_meanwhile_is_left_as_it_is() {
    let (home, mut log) = new_log();
    for _ in 0..3 {
        put(&mut log, &[("a", "1")]);
        roll(&mut log);
    }
    log.flush(at(1_000).mono).expect("it is flushed");
    let now = at(2_000);
    let cleanable = log.cleanable(None, Offset(3), now.wall).expect("looked at");
    let begun = log.begin_cleaning(&cleanable, Offset(3), now.wall, &cleaner());
    let mut cleaning = begun.expect("it begins");
    while cleaning.step().expect("a step") != CleanStep::Ready {}
    log.truncate_to(Offset(1), now).expect("it is cut");
    assert!(!log.put_in_place(&mut cleaning, now).expect("it is tried"));
    cleaning.abandon().expect("it is given up");
    assert!(
        !home
            .file_names()
            .iter()
            .any(|name| name.ends_with(".cleaned"))
    );
    assert_eq!(shown(&log), ["0..0 a=1@0"]);
    // What lies behind the cut is dirty again, whatever the checkpoint says.
    put(&mut log, &[("a", "2")]);
    roll(&mut log);
    log.flush(at(1_000).mono).expect("it is flushed");
    let found = log
        .cleanable(Some(Offset(2)), Offset(2), now.wall)
        .expect("looked at");
    assert_eq!(found.first_dirty, Offset(1));
}

#[test]
fn rot_is_not_copied() {
    let (home, mut log) = new_log();
    put(&mut log, &[("a", "some value")]);
    roll(&mut log);
    put(&mut log, &[("a", "1")]);
    log.flush(at(1_000).mono).expect("it is flushed");
    let path = home.dir().join("00000000000000000000.log");
    let mut bytes = std::fs::read(&path).expect("the file is there");
    let last = bytes.len() - 3;
    bytes[last] ^= 1;
    std::fs::write(&path, &bytes).expect("it is written");
    match clean(&mut log, None, 2_000, &cleaner()) {
        Err(CleanError::Uncleanable(why)) => assert!(why.contains("corrupt"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_producer_goes_on_where_it_was_also_after_a_crash() {
    let (home, mut log) = new_log();
    for sequence in 0..4 {
        put_of(&mut log, 1, sequence, false, &[("a", "1")]);
    }
    put(&mut log, &[("a", "2")]);
    roll(&mut log);
    clean(&mut log, None, 2_000, &cleaner()).expect("it is cleaned");
    assert_eq!(shown(&log), ["3..3", "4..4 a=2@4"]);
    drop(log);
    let (mut log, _) = home.open_after_crash(Offset(0), Offset(0));
    let entry = *log
        .active_producers()
        .next()
        .expect("the producer is known");
    assert_eq!((entry.producer_id, entry.last_sequence()), (1, 3));
    put_of(&mut log, 1, 4, false, &[("a", "3")]);
    assert_eq!(log.reader().latest_epoch(), Some(Epoch(0)));
}
