//! A log in a temporary directory, with small segments and a clock that the test turns.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use milena_base::{Epoch, Now, Offset, Timestamp, TopicPartition};
use milena_disk::{Disk, OsDisk, SimDisk};
use milena_log::{
    AppendError, AppendOrigin, Log, LogAppended, LogOptions, LogReader, OpenHints, Opened,
};
use milena_records::{BatchBuilder, Compression, ControlType, NewRecord, ValidBatch};
use milena_records::{batches, control_record_key};

pub fn partition() -> TopicPartition {
    TopicPartition::new("t", 0)
}

pub fn small() -> LogOptions {
    LogOptions {
        segment_bytes: 16 * 1024,
        index_interval_bytes: 512,
        ..LogOptions::default()
    }
}

pub fn at(millis: i64) -> Now {
    Now::from_millis(millis as u64, millis)
}

pub struct Home {
    root: PathBuf,
    /// Keeps a real directory until the test ends.
    _temporary: Option<Box<dyn std::any::Any>>,
    pub disk: Arc<dyn Disk>,
    pub options: LogOptions,
}

impl Home {
    /// In a real directory.
    pub fn new(options: LogOptions) -> Home {
        let temporary = milena_testkit::temp_dir();
        Home {
            root: temporary.path().to_path_buf(),
            _temporary: Some(Box::new(temporary)),
            disk: Arc::new(OsDisk),
            options,
        }
    }

    /// On a simulated disk.
    pub fn simulated(disk: &SimDisk, options: LogOptions) -> Home {
        disk.create_dir_all(Path::new("/data")).expect("it is made");
        Home {
            root: PathBuf::from("/data"),
            _temporary: None,
            disk: Arc::new(disk.clone()),
            options,
        }
    }

    pub fn dir(&self) -> PathBuf {
        self.root.join("t-0")
    }

    pub fn open(&self, hints: OpenHints) -> (Log, Opened) {
        let disk = Arc::clone(&self.disk);
        Log::open(
            disk,
            &self.dir(),
            partition(),
            self.options.clone(),
            hints,
            at(1_000),
        )
        .expect("the log opens")
    }

    /// An empty log in another directory, to hold a place.
    pub fn open_elsewhere(&self) -> Log {
        let disk = Arc::clone(&self.disk);
        let dir = self.root.join("elsewhere-0");
        let options = self.options.clone();
        let opened = Log::open(disk, &dir, partition(), options, OpenHints::NEW, at(1_000));
        opened.expect("the log opens").0
    }

    pub fn open_new(&self) -> Log {
        self.open(OpenHints::NEW).0
    }

    /// As after a crash at which the checkpoints said this.
    pub fn open_after_crash(&self, recovery_point: Offset, log_start: Offset) -> (Log, Opened) {
        self.open(OpenHints {
            clean: false,
            recovery_point,
            log_start,
        })
    }

    pub fn file_names(&self) -> Vec<String> {
        let entries = self.disk.list(&self.dir()).expect("the directory is there");
        entries.into_iter().map(|entry| entry.name).collect()
    }

    pub fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.dir().join(name)).expect("the file is there")
    }
}

/// A batch of `count` records with values of `value_bytes`, whose timestamps start at `timestamp`.
pub fn batch(count: usize, value_bytes: usize, timestamp: i64) -> ValidBatch {
    fill(
        BatchBuilder::new(Compression::None),
        count,
        value_bytes,
        timestamp,
    )
}

pub fn fill(
    mut builder: BatchBuilder,
    count: usize,
    value_bytes: usize,
    timestamp: i64,
) -> ValidBatch {
    let value = vec![b'v'; value_bytes];
    for index in 0..count {
        let record = NewRecord {
            timestamp: Timestamp(timestamp + index as i64),
            value: Some(&value),
            ..NewRecord::default()
        };
        builder.append(record).expect("a record fits");
    }
    builder.build()
}

pub fn producer_batch(id: i64, epoch: i16, sequence: i32, count: usize, txn: bool) -> ValidBatch {
    let builder = BatchBuilder::new(Compression::None)
        .producer(id, epoch, sequence)
        .transactional(txn);
    fill(builder, count, 20, 500)
}

pub fn marker(id: i64, epoch: i16, commit: bool) -> ValidBatch {
    let kind = match commit {
        true => ControlType::Commit,
        false => ControlType::Abort,
    };
    let mut builder = BatchBuilder::new(Compression::None)
        .producer(id, epoch, -1)
        .transactional(true)
        .control(true);
    let record = NewRecord {
        timestamp: Timestamp(600),
        key: Some(&control_record_key(kind)),
        value: Some(&[0, 0, 0, 0, 0, 1]),
        ..NewRecord::default()
    };
    builder.append(record).expect("a marker fits");
    builder.build()
}

pub fn append(log: &mut Log, batch: ValidBatch) -> LogAppended {
    try_append(log, batch, 0, AppendOrigin::Client).expect("the append is taken")
}

pub fn try_append(
    log: &mut Log,
    batch: ValidBatch,
    epoch: i32,
    origin: AppendOrigin,
) -> Result<LogAppended, AppendError> {
    log.append_as_leader(batch, Epoch(epoch), origin, at(1_000))
}

/// The base offsets of the whole batches that one read returns.
pub fn read(reader: &LogReader, offset: i64, bytes_max: u32, upper: Offset) -> Vec<i64> {
    let slice = reader
        .read(Offset(offset), bytes_max, upper, true)
        .expect("the offset is in range");
    let Some(file) = slice.file else {
        return Vec::new();
    };
    let bytes = file.read().expect("the slice is readable");
    let found: Vec<i64> = batches(bytes.into())
        .map(|batch| {
            let batch = batch.expect("a batch");
            batch.check_crc().expect("an intact batch");
            batch.header().base_offset().0
        })
        .collect();
    assert_eq!(found.first(), Some(&slice.first_offset.0));
    found
}
