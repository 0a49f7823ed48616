//! A log beside a naive one: a list of batches. Random operations, crashes and clean stops among them; after each,
//! everything that can be asked is asked of both.

use milena_base::{Epoch, ErrorCode, Offset, Prng, Timestamp};
use milena_disk::SimDisk;
use milena_log::{AppendError, AppendOrigin, Log, LogOptions, OpenHints, remove_files};
use milena_records::{BatchBuilder, Compression, ValidBatch};
use milena_testkit::for_each_seed;

use crate::harness::*;

const PRODUCERS: i64 = 3;

#[derive(Clone, Debug)]
struct Stored {
    base: i64,
    last: i64,
    epoch: i32,
    /// Producer id, its epoch, first and last sequence, transactional.
    producer: Option<(i64, i16, i32, i32, bool)>,
    /// Of a marker: whether it aborts.
    aborts: Option<bool>,
    /// Timestamp of the first record; each further has one more.
    timestamp: i64,
    bytes: Vec<u8>,
}

#[derive(Debug, Default)]
struct Model {
    /// Also those below the start.
    batches: Vec<Stored>,
    start: i64,
    epoch: i32,
    /// Producers whose state the log may have forgotten with what it dropped.
    vague: Vec<i64>,
    clock: i64,
}

/// A transaction as the model sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Txn {
    producer: i64,
    first: i64,
    marker: Option<(i64, bool)>,
}

impl Model {
    fn end(&self) -> i64 {
        self.batches
            .last()
            .map_or(self.start, |batch| batch.last + 1)
            .max(self.start)
    }

    fn live(&self) -> impl Iterator<Item = &Stored> {
        self.batches.iter().filter(|batch| batch.last >= self.start)
    }

    fn last_of(&self, producer: i64) -> Option<&Stored> {
        let of = |batch: &&Stored| {
            batch.aborts.is_none() && batch.producer.is_some_and(|found| found.0 == producer)
        };
        self.batches.iter().rev().find(of)
    }

    fn txns(&self) -> Vec<Txn> {
        let mut txns: Vec<Txn> = Vec::new();
        for batch in &self.batches {
            let Some((producer, _, _, _, true)) = batch.producer else {
                continue;
            };
            let open = txns
                .iter_mut()
                .find(|txn| txn.producer == producer && txn.marker.is_none());
            match (open, batch.aborts) {
                (Some(txn), Some(aborts)) => txn.marker = Some((batch.base, aborts)),
                (None, None) => txns.push(Txn {
                    producer,
                    first: batch.base,
                    marker: None,
                }),
                _ => {}
            }
        }
        txns
    }

    fn epochs(&self) -> Vec<(i32, i64)> {
        let mut epochs: Vec<(i32, i64)> = Vec::new();
        for batch in &self.batches {
            if epochs.last().is_none_or(|(epoch, _)| *epoch < batch.epoch) {
                epochs.push((batch.epoch, batch.base));
            }
        }
        let passed = epochs
            .iter()
            .take_while(|(_, start)| *start <= self.start)
            .count();
        if passed > 0 {
            epochs.drain(..passed - 1);
            epochs[0].1 = self.start;
        }
        epochs
    }
}

struct Pair {
    home: Home,
    log: Option<Log>,
    model: Model,
    prng: Prng,
}

impl Pair {
    fn new(seed: u64) -> Pair {
        let mut prng = Prng::new(seed);
        let home = Home::simulated(
            &SimDisk::new(seed),
            LogOptions {
                segment_bytes: 2_000 + prng.below(6_000) as u32,
                index_interval_bytes: prng.below(800) as u32,
                retention_bytes: Some(20_000),
                retention_ms: None,
                ..LogOptions::default()
            },
        );
        let log = home.open_new();
        Pair {
            home,
            log: Some(log),
            model: Model::default(),
            prng,
        }
    }

    fn log(&mut self) -> &mut Log {
        self.log.as_mut().expect("the log is open")
    }

    fn step(&mut self) {
        match self.prng.below(40) {
            0..16 => self.append_plain(),
            16..22 => self.append_idempotent(),
            22..27 => self.append_transactional(),
            27..29 => self.end_transaction(),
            29 => self.model.epoch += 1,
            30 => self.log().flush(at(1_000).mono).expect("it flushes"),
            31 => drop(self.log().roll(at(1_000)).expect("it rolls")),
            32 => self.truncate(),
            33 => self.advance_start(),
            34 => self.retain(),
            35 | 36 => self.stop_and_start(),
            37 => self.crash(),
            38 => self.log().close_idle_files(),
            _ => self.repeat_last(),
        }
    }

    fn timestamp(&mut self) -> i64 {
        self.model.clock += self.prng.below(20) as i64;
        (self.model.clock - self.prng.below(30) as i64).max(0)
    }

    fn store(&mut self, batch: ValidBatch, stored: Stored, origin: AppendOrigin) {
        let (base, epoch) = (self.model.end(), self.model.epoch);
        let mut stamped = batch.clone();
        stamped.stamp(Offset(base), Epoch(epoch), None);
        let appended = try_append(self.log(), batch, epoch, origin).expect("it is taken");
        assert!(!appended.duplicate);
        assert_eq!(appended.first, Offset(base));
        let last = stamped.header().last_offset().0;
        assert_eq!(appended.last, Offset(last));
        let bytes = stamped.to_bytes().to_vec();
        self.model.batches.push(Stored {
            base,
            last,
            epoch,
            bytes,
            ..stored
        });
    }

    fn build(&mut self, builder: BatchBuilder) -> (ValidBatch, Stored) {
        let (count, value) = (
            1 + self.prng.below(4) as usize,
            self.prng.below(300) as usize,
        );
        let timestamp = self.timestamp();
        let batch = fill(builder, count, value, timestamp);
        let stored = Stored {
            base: 0,
            last: 0,
            epoch: 0,
            producer: None,
            aborts: None,
            timestamp,
            bytes: Vec::new(),
        };
        (batch, stored)
    }

    fn append_plain(&mut self) {
        let codec = match self.prng.chance(1, 3) {
            true => Compression::Lz4,
            false => Compression::None,
        };
        let (batch, stored) = self.build(BatchBuilder::new(codec));
        self.store(batch, stored, AppendOrigin::Client);
    }

    fn append_idempotent(&mut self) {
        let id = self.prng.below(PRODUCERS as u64) as i64;
        if !self.is_open(id) {
            self.append_of(id, false);
        }
    }

    fn append_transactional(&mut self) {
        let id = 100 + self.prng.below(PRODUCERS as u64) as i64;
        self.append_of(id, true);
    }

    fn is_open(&self, id: i64) -> bool {
        self.model
            .txns()
            .iter()
            .any(|txn| txn.producer == id && txn.marker.is_none())
    }

    fn append_of(&mut self, id: i64, txn: bool) {
        let (mut epoch, mut sequence) = (0, 0);
        if let Some(Stored {
            producer: Some((_, last_epoch, _, last, _)),
            ..
        }) = self.model.last_of(id)
        {
            (epoch, sequence) = (*last_epoch, last + 1);
            let vague = self.model.vague.contains(&id);
            if vague || self.prng.chance(1, 8) && !self.is_open(id) {
                (epoch, sequence) = (epoch + 1, 0);
            } else if self.prng.chance(1, 4) {
                return self.refuse_gap(id, epoch, sequence + 1);
            }
        }
        let builder = BatchBuilder::new(Compression::None)
            .producer(id, epoch, sequence)
            .transactional(txn);
        let (batch, mut stored) = self.build(builder);
        stored.producer = Some((id, epoch, sequence, batch.header().last_sequence(), txn));
        self.model.vague.retain(|vague| *vague != id);
        self.store(batch, stored, AppendOrigin::Client);
    }

    fn refuse_gap(&mut self, id: i64, epoch: i16, sequence: i32) {
        let batch = producer_batch(id, epoch, sequence, 1, true);
        let leader = self.model.epoch;
        let refused = try_append(self.log(), batch, leader, AppendOrigin::Client);
        let Err(AppendError::Refused(code, _)) = refused else {
            panic!("a gap was taken: {refused:?}");
        };
        assert_eq!(code, ErrorCode::OutOfOrderSequenceNumber);
    }

    fn repeat_last(&mut self) {
        let id = self.prng.below(PRODUCERS as u64) as i64;
        let Some(last) = self
            .model
            .last_of(id)
            .filter(|_| !self.model.vague.contains(&id))
        else {
            return;
        };
        let (base, end) = (last.base, last.last);
        let (_, epoch, first, until, txn) = last.producer.expect("it has a producer");
        let batch = producer_batch(id, epoch, first, (until - first + 1) as usize, txn);
        let leader = self.model.epoch;
        let appended = try_append(self.log(), batch, leader, AppendOrigin::Client);
        let appended = appended.expect("a retry is answered");
        assert!(appended.duplicate);
        assert_eq!((appended.first, appended.last), (Offset(base), Offset(end)));
    }

    fn end_transaction(&mut self) {
        let open: Vec<Txn> = self
            .model
            .txns()
            .into_iter()
            .filter(|txn| txn.marker.is_none())
            .collect();
        let Some(txn) = open.first() else {
            return;
        };
        let last = self.model.last_of(txn.producer).expect("it wrote");
        let (id, epoch, ..) = last.producer.expect("it has a producer");
        let aborts = self.prng.chance(1, 2);
        let stored = Stored {
            producer: Some((id, epoch, -1, -1, true)),
            aborts: Some(aborts),
            timestamp: 600,
            ..last.clone()
        };
        self.store(
            marker(id, epoch, !aborts),
            stored,
            AppendOrigin::Coordinator,
        );
        let end = Offset(self.model.end());
        self.log().on_high_watermark(end);
    }

    fn truncate(&mut self) {
        let (start, end) = (self.model.start, self.model.end());
        let target = start + self.prng.below((end - start) as u64 + 1) as i64;
        let target = self
            .model
            .live()
            .find(|batch| batch.last >= target)
            .map_or(end, |batch| batch.base);
        let target = target.max(start);
        let changed = self
            .log()
            .truncate_to(Offset(target), at(1_000))
            .expect("it truncates");
        assert_eq!(changed, target < end);
        self.model.batches.retain(|batch| batch.last < target);
        self.reopened();
    }

    fn advance_start(&mut self) {
        let (start, end) = (self.model.start, self.model.end());
        let target = start + self.prng.below((end - start) as u64 + 1) as i64;
        self.log().advance_log_start(Offset(target));
        self.model.start = target;
    }

    fn retain(&mut self) {
        let end = Offset(self.model.end());
        let done = self
            .log()
            .retention(at(1_000), end)
            .expect("retention runs");
        drop(done);
        self.model.start = self.log().log_start().0;
        let due = self.log().take_due_deletions(at(100_000).mono);
        remove_files(&*self.home.disk, &due).expect("they are removed");
    }

    /// What lies below the start may not be known any more once the state was loaded again.
    fn forget_dropped(&mut self) {
        for id in (0..PRODUCERS).chain(100..100 + PRODUCERS) {
            let below = self
                .model
                .last_of(id)
                .is_some_and(|batch| batch.base < self.model.start);
            if below && !self.model.vague.contains(&id) {
                self.model.vague.push(id);
            }
        }
    }

    fn stop_and_start(&mut self) {
        let log = self.log.take().expect("the log is open");
        let closed = log.close_cleanly(at(1_000)).expect("it closes");
        let (log, opened) = self.home.open(OpenHints {
            clean: true,
            recovery_point: closed.recovery_point,
            log_start: closed.log_start,
        });
        assert_eq!(opened.recovered_segments, 0);
        self.log = Some(log);
        self.reopened();
    }

    fn crash(&mut self) {
        let log = self.log.take().expect("the log is open");
        let point = self.prng.below(log.recovery_point().0 as u64 + 1) as i64;
        drop(log);
        let (log, opened) = self
            .home
            .open_after_crash(Offset(point), Offset(self.model.start));
        assert_eq!(opened.truncated_bytes, 0);
        self.log = Some(log);
        self.reopened();
    }

    fn reopened(&mut self) {
        self.forget_dropped();
        let end = Offset(self.model.end());
        self.log().on_high_watermark(end);
    }

    fn compare(&mut self) {
        let (start, end) = (self.model.start, self.model.end());
        let log = self.log.as_mut().expect("the log is open");
        assert_eq!(
            (log.log_start(), log.log_end()),
            (Offset(start), Offset(end))
        );
        self.compare_read();
        self.compare_timestamps();
        self.compare_epochs();
        self.compare_transactions();
    }

    fn compare_read(&mut self) {
        let (start, end) = (self.model.start, self.model.end());
        let from = start + self.prng.below((end - start) as u64 + 1) as i64;
        let upper = from + self.prng.below((end - from) as u64 + 1) as i64;
        let bytes_max = self.prng.below(4_000) as u32;
        let reader = self.log().reader();
        let slice = reader
            .read(Offset(from), bytes_max, Offset(upper), true)
            .expect("in range");
        let first = self.model.live().find(|batch| batch.last >= from);
        let Some(first) = first.filter(|batch| batch.base < upper && batch.last < upper) else {
            assert!(slice.is_empty(), "nothing is below {upper}");
            return;
        };
        let expected: Vec<u8> = self
            .model
            .live()
            .filter(|batch| batch.base >= first.base && batch.last < upper)
            .flat_map(|batch| batch.bytes.clone())
            .collect();
        let found = slice
            .file
            .as_ref()
            .expect("there is a batch")
            .read()
            .expect("it is read");
        assert!(found.len() <= (bytes_max as usize).max(first.bytes.len()));
        assert!(found.len() >= first.bytes.len());
        assert!(expected.starts_with(&found), "from {from} to {upper}");
    }

    fn compare_timestamps(&mut self) {
        let wanted = self.prng.below(self.model.clock as u64 + 30) as i64;
        let start = self.model.start;
        let expected = self.model.live().find_map(|batch| {
            let records = (batch.base..=batch.last).zip(batch.timestamp..);
            records
                .into_iter()
                .find(|(offset, at)| *offset >= start && *at >= wanted)
        });
        let found = self
            .log()
            .reader()
            .offset_for_timestamp(Timestamp(wanted))
            .expect("readable");
        let found = found.map(|found| (found.offset.0, found.timestamp.0));
        assert_eq!(found, expected, "at {wanted}");
    }

    fn compare_epochs(&mut self) {
        if self.model.start == self.model.end() {
            // An epoch without a record is forgotten at the next start, as in Kafka.
            return;
        }
        let epochs = self.model.epochs();
        let end = self.model.end();
        let reader = self.log().reader();
        let found: Vec<(i32, i64)> = reader
            .epoch_entries()
            .iter()
            .map(|entry| (entry.epoch.0, entry.start_offset.0))
            // A refused batch leaves its epoch, without a record.
            .filter(|(_, start)| *start < end)
            .collect();
        assert_eq!(found, epochs);
    }

    fn compare_transactions(&mut self) {
        let (start, end) = (self.model.start, self.model.end());
        if self.model.txns().iter().any(|txn| txn.first < start) {
            // Producers of what was dropped may be forgotten, and with them where their transaction began.
            return;
        }
        let reader = self.log().reader();
        let open = self
            .model
            .txns()
            .into_iter()
            .filter(|txn| txn.marker.is_none());
        let first_open = open.map(|txn| Offset(txn.first)).min();
        let end_offset = Offset(end);
        assert_eq!(
            reader.last_stable_offset(end_offset),
            first_open.unwrap_or(end_offset)
        );
        let from = start + self.prng.below((end - start) as u64 + 1) as i64;
        let to = from + self.prng.below((end - from) as u64 + 1) as i64;
        let mut expected: Vec<(i64, i64, i64)> = self
            .model
            .txns()
            .iter()
            .filter_map(|txn| Some((txn.producer, txn.first, txn.marker.filter(|m| m.1)?.0)))
            .filter(|(_, first, last)| *last >= from && *first < to)
            .collect();
        expected.sort_by_key(|(_, _, last)| *last);
        let found = reader
            .aborted_transactions(Offset(from), Offset(to))
            .expect("readable");
        let found: Vec<(i64, i64, i64)> = found
            .iter()
            .map(|txn| (txn.producer_id, txn.first_offset.0, txn.last_offset.0))
            .collect();
        assert_eq!(found, expected, "from {from} to {to}");
    }
}

#[test]
fn the_log_does_what_a_list_of_batches_does() {
    for_each_seed(40, |seed| {
        let mut pair = Pair::new(seed);
        for _ in 0..250 {
            pair.step();
            pair.compare();
        }
    });
}
