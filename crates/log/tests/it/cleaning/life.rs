//! A random life of a compacted log on a simulated disk, and its model.

use std::path::Path;

use milena_base::{Offset, Prng, Timestamp};
use milena_disk::{Disk, SimDisk};
use milena_log::{
    AppendOrigin, CleanError, CleanStep, CleanerOptions, Log, LogOptions, OpenHints, remove_files,
};
use milena_records::{BatchBuilder, Compression, NewRecord, ValidBatch};
use milena_testkit::for_each_seed;

use super::model::{Compared, End, Model, Stored};
use super::{cleaner, compacted};
use crate::harness::*;

const KEYS: u64 = 12;
const PRODUCERS: u64 = 4;
/// The clock of all tests of cleaning begins here.
const BEGIN: i64 = 10_000;

pub struct Life {
    pub prng: Prng,
    pub home: Home,
    pub log: Log,
    pub model: Model,
    pub now: i64,
    pub cleaner: CleanerOptions,
    next_sequence: [i32; PRODUCERS as usize],
    open: [bool; PRODUCERS as usize],
    flushed: Offset,
}

#[derive(Debug, Default)]
struct Counts {
    lives: u64,
    cleanings: u64,
    interrupted: u64,
    crashes: u64,
}

#[test]
fn any_life_leaves_the_newest_of_each_key() {
    let (mut counts, mut compared) = (Counts::default(), Compared::default());
    for_each_seed(30, |seed| {
        counts.lives += 1;
        let disk = SimDisk::new(seed);
        let mut life = Life::new(seed, &disk);
        for _ in 0..120 {
            life.step(&mut counts);
            life.check(&mut compared);
        }
    });
    println!("{counts:?} {compared:?}");
    assert!(counts.cleanings > 100 && counts.interrupted > 10 && counts.crashes > 30);
    assert!(compared.dropped > 1_000 && compared.aborted > 100);
    assert!(compared.tombstones_kept > 100 && compared.tombstones_gone > 100);
}

impl Life {
    pub fn new(seed: u64, disk: &SimDisk) -> Life {
        let mut prng = Prng::new(seed);
        let options = LogOptions {
            segment_bytes: 800 + prng.below(3_000) as u32,
            delete_retention_ms: 1_000,
            ..compacted()
        };
        let home = Home::simulated(disk, options);
        // The data directory itself is there: whoever formats it has seen to that.
        disk.sync_dir(Path::new("/")).expect("a fresh disk");
        let log = home.open(OpenHints::NEW).0;
        let keys_max = 4 + prng.below(40);
        Life {
            log,
            home,
            model: Model::default(),
            now: BEGIN,
            cleaner: CleanerOptions {
                // Sometimes too small for all keys.
                dedupe_buffer_bytes: 24 * keys_max,
                io_buffer_bytes: 100 + prng.below(3_000) as usize,
                ..cleaner()
            },
            prng,
            next_sequence: [0; PRODUCERS as usize],
            open: [false; PRODUCERS as usize],
            flushed: Offset::ZERO,
        }
    }

    fn step(&mut self, counts: &mut Counts) {
        self.now += self.prng.below(60) as i64;
        match self.prng.below(100) {
            0..45 => self.append_plain(),
            45..70 => self.append_of_producer(),
            70..80 => self.end_transaction(),
            80..84 => drop(self.log.roll(at(self.now)).expect("it rolls")),
            84..86 => self.now += 700,
            86..96 => {
                counts.cleanings += 1;
                self.flush();
                let interrupt = self.prng.chance(1, 4).then(|| self.prng.below(12));
                let cleaned = self.clean(interrupt);
                counts.interrupted += u64::from(cleaned.is_err());
            }
            96..98 => self.stop_and_start(),
            _ => {
                counts.crashes += 1;
                self.flush();
                self.crash();
            }
        }
        let due = self.log.take_due_deletions(at(self.now).mono);
        remove_files(&*self.home.disk, &due).expect("they go");
    }

    fn check(&self, compared: &mut Compared) {
        let retention = self.home.options.delete_retention_ms;
        self.model.check(&self.log, retention, compared);
    }

    pub fn grow(&mut self, steps: u64) {
        for _ in 0..steps {
            self.now += self.prng.below(20) as i64;
            match self.prng.below(10) {
                0..5 => self.append_plain(),
                5..8 => self.append_of_producer(),
                _ => self.end_transaction(),
            }
        }
        self.flush();
    }

    /// Everything that was appended is committed and durable.
    pub fn flush(&mut self) {
        self.log.on_high_watermark(self.log.log_end());
        self.log.flush(at(self.now).mono).expect("it is flushed");
        self.flushed = self.log.recovery_point();
    }

    /// One cleaning; after so many steps it is given up.
    pub fn clean(&mut self, interrupt_after: Option<u64>) -> Result<(), CleanError> {
        let now = at(self.now);
        let high = self.log.log_end();
        let from = Some(Offset(self.model.cleaned_to));
        let cleanable = self.log.cleanable(from, high, now.wall);
        let cleanable = cleanable.map_err(CleanError::Fault)?;
        if !cleanable.is_due(0.0) {
            return Ok(());
        }
        // A tombstone's time begins with the first cleaning that copies it, also with one that did not come to its
        // end or whose map ended before.
        let dirty_from = self.model.dirty_from;
        let uncleanable = cleanable.first_uncleanable.0;
        self.model.cleanings.push((self.now, uncleanable));
        self.model.dirty_from = uncleanable.max(dirty_from);
        let log = &mut self.log;
        let mut cleaning = log.begin_cleaning(&cleanable, high, now.wall, &self.cleaner)?;
        let mut steps = 0;
        loop {
            if interrupt_after.is_some_and(|after| steps >= after) {
                cleaning.abandon().map_err(CleanError::Fault)?;
                return Err(CleanError::Gone);
            }
            steps += 1;
            match cleaning.step()? {
                CleanStep::Worked { .. } => {}
                CleanStep::Ready => {
                    let placed = log.put_in_place(&mut cleaning, now);
                    assert!(placed.map_err(CleanError::Fault)?);
                }
                CleanStep::Done { cleaned_to } => {
                    assert!(cleaned_to.0 > self.model.cleaned_to);
                    self.model.cleaned_to = cleaned_to.0;
                    self.model.dirty_from = cleaned_to.0.max(dirty_from);
                    return Ok(());
                }
            }
        }
    }

    fn stop_and_start(&mut self) {
        let fresh = self.home.open_elsewhere();
        let log = std::mem::replace(&mut self.log, fresh);
        log.close_cleanly(at(self.now)).expect("it closes");
        self.log = self.home.open(OpenHints::NEW).0;
        self.log.on_high_watermark(self.log.log_end());
    }

    /// The process ends; all that was flushed is there.
    fn crash(&mut self) {
        let fresh = self.home.open_elsewhere();
        drop(std::mem::replace(&mut self.log, fresh));
        self.reopen();
    }

    pub fn reopen(&mut self) {
        // The checkpoint may be older than the flush.
        let recovery_point = match self.prng.chance(1, 2) {
            true => self.flushed,
            false => Offset(self.prng.below(self.flushed.0 as u64 + 1) as i64),
        };
        self.log = self.home.open_after_crash(recovery_point, Offset::ZERO).0;
        self.log.on_high_watermark(self.log.log_end());
    }

    /// The same life on another disk, not yet opened.
    pub fn on(&self, disk: &SimDisk) -> Life {
        let mut home = Home::simulated(&SimDisk::new(1), self.home.options.clone());
        let log = home.open_elsewhere();
        home.disk = std::sync::Arc::new(disk.clone());
        Life {
            prng: self.prng.clone(),
            home,
            log,
            model: self.model.clone(),
            now: self.now,
            cleaner: self.cleaner,
            next_sequence: self.next_sequence,
            open: self.open,
            flushed: self.flushed,
        }
    }

    fn append(&mut self, batch: ValidBatch, origin: AppendOrigin) -> i64 {
        let appended = self
            .log
            .append_as_leader(batch, milena_base::Epoch(0), origin, at(self.now))
            .expect("it is appended");
        self.model.end = appended.last.0 + 1;
        appended.first.0
    }

    fn append_plain(&mut self) {
        let codec = match self.prng.below(3) {
            0 => Compression::Lz4,
            _ => Compression::None,
        };
        self.append_keyed(BatchBuilder::new(codec), None);
    }

    fn append_keyed(&mut self, mut builder: BatchBuilder, txn: Option<i64>) -> i32 {
        let count = 1 + self.prng.below(5);
        let mut records = Vec::new();
        for _ in 0..count {
            // Some keys are written all the time, some hardly ever.
            let key = match self.prng.chance(1, 8) {
                true => KEYS + self.prng.below(60),
                false => self.prng.below(KEYS),
            };
            let key = format!("key-{key}").into_bytes();
            let value = (!self.prng.chance(1, 4)).then(|| {
                let length = self.prng.below(60) as usize;
                vec![b'a' + self.prng.below(26) as u8; length]
            });
            let record = NewRecord {
                timestamp: Timestamp(self.now),
                key: Some(&key),
                value: value.as_deref(),
                headers: &[],
            };
            builder.append(record).expect("it fits");
            let timestamp = self.now;
            records.push(Stored {
                key,
                value,
                timestamp,
                txn,
            });
        }
        let first = self.append(builder.build(), AppendOrigin::Client);
        self.model.records.extend((first..).zip(records));
        count as i32
    }

    fn append_of_producer(&mut self) {
        let which = self.prng.below(PRODUCERS) as usize;
        let (id, sequence) = (which as i64, self.next_sequence[which]);
        // Producer 0 is only idempotent.
        let is_transactional = which > 0;
        let builder = BatchBuilder::new(Compression::None)
            .producer(id, 0, sequence)
            .transactional(is_transactional);
        let count = self.append_keyed(builder, is_transactional.then_some(id));
        self.next_sequence[which] += count;
        self.open[which] = is_transactional;
        self.model
            .sequences
            .insert(id, self.next_sequence[which] - 1);
    }

    fn end_transaction(&mut self) {
        let which = 1 + self.prng.below(PRODUCERS - 1) as usize;
        if !std::mem::take(&mut self.open[which]) {
            return;
        }
        let commit = self.prng.chance(1, 2);
        let producer = which as i64;
        let marker = self.append(marker(producer, 0, commit), AppendOrigin::Coordinator);
        self.model.ends.push(End {
            producer,
            marker,
            commit,
        });
    }
}
