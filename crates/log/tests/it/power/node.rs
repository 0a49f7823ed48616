//! One node with one partition, as `broker` drives it: lock, load, open; append, flush, checkpoint; stop.

use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use milena_base::{Epoch, Now, Offset, Timestamp, TopicPartition, Uuid};
use milena_disk::{Disk, SimDisk};
use milena_log::{
    AbortedTxn, AppendError, AppendOrigin, Cleanup, Fault, Flush, Log, LogAppended, LogDir,
    LogOptions, ProducerEntry,
};
use milena_records::{
    BatchBuilder, Compression, ControlType, NewRecord, ValidBatch, batches, control_record_key,
};

use super::root;
use super::truth::{Stored, Truth};

/// Any trouble: in these tests only the disk makes it.
#[derive(Debug)]
pub struct Trouble(String);

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Trouble {
        Trouble(fault.to_string())
    }
}

impl From<AppendError> for Trouble {
    fn from(error: AppendError) -> Trouble {
        Trouble(error.to_string())
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble(error.to_string())
    }
}

pub type Done = Result<(), Trouble>;

pub struct Node {
    pub dir: LogDir,
    pub log: Log,
    pub epoch: Epoch,
    /// Flushes of closed segments that nobody has run yet.
    pub owed: Vec<Flush>,
}

pub fn partition() -> TopicPartition {
    TopicPartition::new("t", 0)
}

pub const TOPIC_ID: Uuid = Uuid::from_parts(7, 7);

/// Small limits, so that a short script meets rolls, index entries and retention.
fn options(scale: usize) -> LogOptions {
    let scale = scale as u32;
    LogOptions {
        segment_bytes: 1500 * scale,
        segment_index_bytes: 64,
        index_interval_bytes: 100 * scale,
        retention_bytes: Some(4000 * u64::from(scale)),
        retention_ms: None,
        cleanup: Cleanup {
            delete: true,
            compact: false,
        },
        ..LogOptions::default()
    }
}

impl Node {
    pub fn start(disk: &SimDisk, truth: &Truth) -> Result<Node, Trouble> {
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        let mut dir = LogDir::lock(disk.clone(), root())?;
        dir.load()?;
        let path = dir.partition_path(&partition());
        let hints = dir.hints(&partition());
        let options = options(truth.scale);
        let (log, _) = Log::open(disk, &path, partition(), options, hints, truth.now)?;
        let epoch = log.reader().latest_epoch().unwrap_or(Epoch::ZERO);
        Ok(Node {
            dir,
            log,
            epoch,
            owed: Vec::new(),
        })
    }

    /// Appends as leader. The truth learns of the batch before the log does: a crash may leave it behind.
    pub fn append(&mut self, truth: &mut Truth, batch: ValidBatch, origin: AppendOrigin) -> Done {
        let base = self.log.log_end();
        let mut stamped = batch.clone();
        stamped.stamp(base, self.epoch, None);
        let stored = Stored {
            base,
            last: stamped.header().last_offset(),
            bytes: stamped.to_bytes(),
        };
        truth.batches.retain(|batch| batch.base < base);
        truth.batches.push(stored);
        let done = self
            .log
            .append_as_leader(batch, self.epoch, origin, truth.now);
        self.taken(truth, base, done?);
        Ok(())
    }

    fn taken(&mut self, truth: &mut Truth, base: Offset, done: LogAppended) {
        if done.duplicate {
            truth.batches.retain(|batch| batch.base < base);
        }
        truth.taken = self.log.log_end();
        self.owed.extend(done.rolled);
    }

    pub fn append_plain(&mut self, truth: &mut Truth, value_bytes: usize) -> Done {
        let count = 1 + value_bytes % 4;
        let batch = build(truth.now.wall, None, value_bytes * truth.scale, count);
        self.append(truth, batch, AppendOrigin::Client)
    }

    /// Appends as a follower, in one call, what a leader would have sent.
    pub fn append_replicated(&mut self, truth: &mut Truth, value_bytes: usize) -> Done {
        let base = self.log.log_end();
        let mut next = base;
        let mut batches = Vec::new();
        truth.batches.retain(|batch| batch.base < base);
        for count in 1..=3 {
            let mut batch = build(truth.now.wall, None, value_bytes * truth.scale, count);
            batch.stamp(next, self.epoch, None);
            let last = batch.header().last_offset();
            let bytes = batch.to_bytes();
            truth.batches.push(Stored {
                base: next,
                last,
                bytes,
            });
            next = last + 1;
            batches.push(batch);
        }
        if let Some(done) = self.log.append_as_follower(&batches, truth.now)? {
            self.taken(truth, base, done);
        }
        Ok(())
    }

    pub fn assign_id(&mut self, truth: &mut Truth) -> Done {
        self.log.assign_topic_id(TOPIC_ID)?;
        truth.has_id = true;
        Ok(())
    }

    pub fn flush(&mut self, truth: &mut Truth) -> Done {
        self.owed.clear();
        let upto = self.log.log_end();
        self.log.flush(truth.now.mono)?;
        truth.flushed = truth.flushed.max(upto);
        truth.cut_off.clear();
        Ok(())
    }

    /// Runs the flush of a closed segment that waited.
    pub fn pay(&mut self, truth: &mut Truth) -> Done {
        if self.owed.is_empty() {
            return Ok(());
        }
        let flush = self.owed.remove(0);
        flush.run()?;
        self.log.finish_flush(&flush, truth.now.mono);
        if self.log.recovery_point() > truth.flushed {
            truth.flushed = self.log.recovery_point();
            truth.cut_off.clear();
        }
        Ok(())
    }

    pub fn checkpoint(&mut self) -> Done {
        let name = partition();
        let point = self.log.recovery_point();
        self.dir
            .write_recovery_points([(&name, point)].into_iter())?;
        Ok(())
    }

    pub fn checkpoint_start(&mut self, truth: &mut Truth) -> Done {
        let name = partition();
        let start = self.log.log_start();
        let inside = start > self.log.first_segment_base();
        let starts: Vec<_> = inside.then_some((&name, start)).into_iter().collect();
        self.dir.write_log_starts(starts.into_iter())?;
        if inside {
            truth.start_confirmed = start;
        }
        Ok(())
    }

    pub fn truncate(&mut self, truth: &mut Truth, offset: Offset) -> Done {
        let kept = truth.batches.iter().filter(|batch| batch.last < offset);
        let kept: Vec<Stored> = kept.cloned().collect();
        truth.cut_off.push(truth.batches.clone());
        truth.flushed = truth.flushed.min(offset);
        truth.taken = truth.taken.min(offset);
        truth.batches = kept;
        self.owed.clear();
        self.log.truncate_to(offset, truth.now)?;
        truth.cut_off.clear();
        self.checkpoint()
    }

    pub fn stop_cleanly(self, truth: &mut Truth) -> Done {
        let Node { dir, log, .. } = self;
        let end = log.log_end();
        let closed = log.close_cleanly(truth.now)?;
        truth.flushed = end;
        truth.cut_off.clear();
        let name = partition();
        dir.write_recovery_points([(&name, closed.recovery_point)].into_iter())?;
        let inside = closed.log_start > closed.first_segment_base;
        let starts: Vec<_> = inside
            .then_some((&name, closed.log_start))
            .into_iter()
            .collect();
        dir.write_log_starts(starts.into_iter())?;
        dir.write_clean_shutdown(1)?;
        Ok(())
    }

    pub fn found(&mut self, what: &str) -> Found {
        Found::of(&mut self.log, what)
    }
}

/// A batch of `count` records; a producer gives id, epoch, first sequence and whether it is transactional.
pub fn build(
    now: Timestamp,
    producer: Option<(i64, i16, i32, bool)>,
    value_bytes: usize,
    count: usize,
) -> ValidBatch {
    let mut builder = BatchBuilder::new(Compression::None);
    if let Some((id, epoch, sequence, transactional)) = producer {
        builder = builder
            .producer(id, epoch, sequence)
            .transactional(transactional);
    }
    let value = vec![b'v'; value_bytes];
    for index in 0..count {
        let record = NewRecord {
            timestamp: Timestamp(now.0 + index as i64),
            key: None,
            value: Some(&value),
            headers: &[],
        };
        builder.append(record).expect("a small record");
    }
    builder.build()
}

/// The marker that ends a transaction.
pub fn marker(now: Timestamp, id: i64, epoch: i16, commit: bool) -> ValidBatch {
    let kind = match commit {
        true => ControlType::Commit,
        false => ControlType::Abort,
    };
    let mut builder = BatchBuilder::new(Compression::None)
        .producer(id, epoch, -1)
        .transactional(true)
        .control(true);
    let record = NewRecord {
        timestamp: now,
        key: Some(&control_record_key(kind)),
        value: Some(&[0, 0, 0, 0, 0, 7]),
        headers: &[],
    };
    builder.append(record).expect("a small record");
    builder.build()
}

/// What a snapshot keeps of a producer: of its batches only the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Producer {
    id: i64,
    epoch: i16,
    coordinator_epoch: i32,
    last_sequence: i32,
    last_offset: Option<Offset>,
    transaction_from: Option<Offset>,
}

impl Producer {
    fn of(entry: &ProducerEntry) -> Producer {
        Producer {
            id: entry.producer_id,
            epoch: entry.producer_epoch,
            coordinator_epoch: entry.coordinator_epoch,
            last_sequence: entry.last_sequence(),
            last_offset: entry.last_batch().map(|batch| batch.last_offset),
            transaction_from: entry.txn_first_offset,
        }
    }
}

/// What a reader finds in a log.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    pub start: Offset,
    pub end: Offset,
    pub batches: Vec<Stored>,
    pub producers: Vec<Producer>,
    pub epochs: Vec<(Epoch, Offset)>,
    pub aborted: Vec<AbortedTxn>,
    pub first_unstable: Option<Offset>,
    pub largest: Option<(Timestamp, Offset)>,
    pub topic_id: Option<Uuid>,
}

impl Found {
    fn of(log: &mut Log, what: &str) -> Found {
        // All of it is committed: only open transactions hold readers back.
        log.on_high_watermark(log.log_end());
        let reader = log.reader();
        let (start, end) = (log.log_start(), log.log_end());
        let mut found = Vec::new();
        let mut at = start;
        while at < end {
            let slice = reader.read(at, 300, end, true);
            let slice = slice.unwrap_or_else(|e| panic!("{what}: {at} of {start}..{end}: {e:?}"));
            let file = slice
                .file
                .unwrap_or_else(|| panic!("{what}: nothing at {at} of {end}"));
            let bytes = file.read().unwrap_or_else(|e| panic!("{what}: {at}: {e}"));
            let from = found.len();
            for batch in batches(Bytes::from(bytes)) {
                let batch = batch.unwrap_or_else(|e| panic!("{what}: {at}: {e}"));
                batch
                    .check_crc()
                    .unwrap_or_else(|e| panic!("{what}: {at}: {e}"));
                let header = batch.header();
                found.push(Stored {
                    base: header.base_offset(),
                    last: header.last_offset(),
                    bytes: batch.into_bytes(),
                });
            }
            assert!(
                found.len() > from,
                "a read at {at} of {start}..{end} brings a batch"
            );
            at = found.last().map_or(end, |batch| batch.last + 1);
        }
        let epochs = reader.epoch_entries();
        let largest = reader.max_timestamp().expect("the indexes can be read");
        Found {
            start,
            end,
            batches: found,
            producers: log.active_producers().map(Producer::of).collect(),
            epochs: epochs
                .iter()
                .map(|entry| (entry.epoch, entry.start_offset))
                .collect(),
            aborted: reader
                .aborted_transactions(start, end)
                .expect("the index can be read"),
            first_unstable: reader.first_unstable_offset(),
            largest: largest.map(|found| (found.timestamp, found.offset)),
            topic_id: log.topic_id(),
        }
    }

    pub fn records(&self) -> u64 {
        (self.end - self.start) as u64
    }

    /// No record is missing from `start` on. (Of what was deleted before, some may be back.)
    pub fn is_contiguous(&self, start: Offset) -> bool {
        let from = self.batches.partition_point(|batch| batch.last < start);
        let follows = self.batches[from..]
            .windows(2)
            .all(|two| two[0].last + 1 == two[1].base);
        let ends = self
            .batches
            .last()
            .is_none_or(|last| last.last + 1 == self.end);
        let wanted = self.start.max(start);
        let starts = match self.batches.get(from) {
            Some(first) => first.base <= wanted,
            None => wanted >= self.end,
        };
        follows && ends && starts
    }

    pub fn summary(&self) -> String {
        let offsets: Vec<_> = self.batches.iter().map(|b| (b.base.0, b.last.0)).collect();
        format!("{}..{}: {offsets:?}", self.start, self.end)
    }

    pub fn check_same(&self, other: &Found, what: &str) {
        assert_eq!(self.summary(), other.summary(), "{what}");
        assert_eq!(self, other, "{what}");
    }

    /// Every way of finding a record agrees with a walk over all of them.
    pub fn check_lookups(&self, node: &Node, what: &str) {
        let reader = node.log.reader();
        for stored in &self.batches {
            for offset in [stored.base, stored.last] {
                if offset < self.start {
                    continue;
                }
                let slice = reader
                    .read(offset, 1, self.end, true)
                    .expect("within the log");
                assert_eq!(
                    slice.first_offset, stored.base,
                    "{what}: a read at {offset}"
                );
            }
            let epoch = stored.batch().header().leader_epoch();
            let told = reader.epoch_for(stored.base.max(self.start));
            assert_eq!(told, Some(epoch), "{what}: epoch at {}", stored.base);
        }
        self.check_timestamps(node, what);
    }

    fn check_timestamps(&self, node: &Node, what: &str) {
        let reader = node.log.reader();
        let mut all = Vec::new();
        for stored in &self.batches {
            let batch = stored.batch();
            for record in batch.records(milena_records::Limits::default()) {
                let record = record.expect("records were not touched");
                if record.offset >= self.start {
                    all.push((record.timestamp, record.offset));
                }
            }
        }
        let stamps: Vec<Timestamp> = all.iter().map(|(at, _)| *at).collect();
        for wanted in stamps.iter().step_by(3) {
            let first = all
                .iter()
                .find(|(at, _)| at >= wanted)
                .map(|(_, offset)| *offset);
            let told = reader
                .offset_for_timestamp(*wanted)
                .expect("the indexes can be read");
            assert_eq!(
                told.map(|found| found.offset),
                first,
                "{what}: timestamp {wanted:?}"
            );
        }
        let largest = stamps.iter().max().copied();
        assert!(
            self.largest.map(|(at, _)| at) >= largest,
            "{what}: the largest timestamp is {largest:?}, not {:?}",
            self.largest
        );
    }

    /// The same as a log makes of the batches alone: all indexes, snapshots and checkpoints of it are gone.
    pub fn check_against_rebuilt(&self, disk: &SimDisk, now: Now, what: &str) {
        let disk = disk.fork(2);
        let path = root().join("t-0");
        for entry in disk.list(&path).expect("it was opened") {
            if !entry.name.ends_with(".log") {
                disk.remove_file(&path.join(&entry.name))
                    .expect("it is listed");
            }
        }
        let hints = milena_log::OpenHints {
            clean: false,
            recovery_point: Offset::NONE,
            log_start: self.start,
        };
        let port: Arc<dyn Disk> = Arc::new(disk);
        let opened = Log::open(port, &path, partition(), options(1), hints, now);
        let (mut log, _) = opened.unwrap_or_else(|e| panic!("{what}: {e}"));
        let rebuilt = Found::of(&mut log, what);
        let told = (&self.producers, &rebuilt.producers);
        assert_eq!(self.summary(), rebuilt.summary(), "{what}: rebuilt");
        let mut expected = self.clone();
        expected.forget_before_start();
        let mut actual = rebuilt.clone();
        actual.forget_before_start();
        assert_eq!(expected, actual, "{what}: rebuilt; producers {told:?}");
    }

    /// What the batches of a log that does not begin at 0 can't tell is not compared.
    fn forget_before_start(&mut self) {
        self.topic_id = None;
        let start = self.start.max(self.behind_gaps());
        if start == Offset::ZERO {
            return;
        }
        self.producers
            .retain(|producer| producer.last_offset.is_some_and(|last| last >= start));
        for producer in &mut self.producers {
            producer.coordinator_epoch = -1;
            producer.transaction_from = None;
        }
        self.epochs.retain(|(_, at)| *at > start);
        // A transaction that began before seems to begin later.
        self.aborted.clear();
        self.first_unstable = None;
    }

    /// Where the records go on that have no gap behind them.
    fn behind_gaps(&self) -> Offset {
        let gap = self
            .batches
            .windows(2)
            .rfind(|two| two[0].last + 1 != two[1].base);
        match gap {
            Some(two) => two[1].base,
            None => self.batches.first().map_or(self.end, |first| first.base),
        }
    }
}
