//! The quorum's log over the files of a partition: `__cluster_metadata-0`, its segments, its snapshots and
//! `quorum-state`. Kafka class `KafkaRaftLog`.
//!
//! The directory is opened without trust in how it was left: a node may go on appending metadata after its log
//! directories were marked as cleanly stopped. So the last two segments are checked batch by batch at every start. (An
//! older one is complete: a closed segment is synced before anything but the next one's first batches is written.)

mod bootstrap;
mod snapshots;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use milena_base::{Epoch, Now, Offset, TopicPartition, Uuid};
use milena_disk::{Disk, read_all};
use milena_log::{
    AppendError, AppendOrigin, Cleanup, Log, LogAppended, LogOptions, LogReader, OpenHints, Opened,
    ReadError, names,
};
use milena_raft::{
    Fault, METADATA_TOPIC, OffsetAndEpoch, QUORUM_STATE_FILE, QuorumState, ReplicatedLog,
    SnapshotId,
};
use milena_records::ValidBatch;

pub use bootstrap::{BOOTSTRAP_FILE, bootstrap_records};
pub use snapshots::{SnapshotWriter, snapshot_file_name};

use snapshots::Snapshots;

/// No quorum-state file is larger: it lists the voters.
const QUORUM_STATE_BYTES_MAX: u64 = 1 << 20;

/// The settings of the metadata log.
#[derive(Clone, Copy, Debug)]
pub struct MetadataLogOptions {
    /// `metadata.log.segment.bytes`.
    pub segment_bytes: u32,
    /// `metadata.log.segment.ms`.
    pub segment_ms: i64,
}

impl Default for MetadataLogOptions {
    /// Kafka's.
    fn default() -> MetadataLogOptions {
        MetadataLogOptions {
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 3_600_000,
        }
    }
}

/// Directory of the metadata partition inside a log directory.
pub fn metadata_partition_dir(log_dir: &Path) -> PathBuf {
    log_dir.join(format!("{METADATA_TOPIC}-0"))
}

/// The file `quorum-state`; `None` where the node has taken no part in a quorum yet.
pub fn read_quorum_state(disk: &dyn Disk, dir: &Path) -> Result<Option<QuorumState>, Fault> {
    let path = dir.join(QUORUM_STATE_FILE);
    let bytes = read_all(disk, &path, QUORUM_STATE_BYTES_MAX)
        .map_err(|error| Fault::io("quorum-state can't be read", error))?;
    // Kafka deletes a file that it can't parse, and may then vote twice: better not to start.
    bytes
        .map(|bytes| QuorumState::from_file(&bytes))
        .transpose()
        .map_err(|error| Fault::corrupt(format!("{}: {error}", path.display())))
}

/// Replaces `quorum-state`, durably: what [`milena_raft::Effect::Persist`] asks for.
pub fn write_quorum_state(disk: &dyn Disk, dir: &Path, bytes: &[u8]) -> Result<(), Fault> {
    milena_disk::replace(disk, &dir.join(QUORUM_STATE_FILE), bytes)
        .map_err(|error| Fault::io("quorum-state could not be written", error))
}

/// The metadata partition on disk.
#[derive(Debug)]
pub struct MetadataLog {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    log: Log,
    reader: LogReader,
    snapshots: Snapshots,
}

impl MetadataLog {
    /// Opens the metadata partition in a log directory whose lock is held, or makes it. Blocks on the disk.
    pub fn open(
        disk: Arc<dyn Disk>,
        log_dir: &Path,
        options: MetadataLogOptions,
        now: Now,
    ) -> Result<(MetadataLog, Opened), Fault> {
        let dir = metadata_partition_dir(log_dir);
        make_durable_dir(&*disk, log_dir, &dir).map_err(|error| at(&dir, error))?;
        let hints = OpenHints {
            clean: false,
            recovery_point: recovery_point(&*disk, &dir).map_err(|error| at(&dir, error))?,
            log_start: Offset::ZERO,
        };
        let partition = TopicPartition::new(METADATA_TOPIC, 0);
        let opened = Log::open(
            Arc::clone(&disk),
            &dir,
            partition,
            log_options(options),
            hints,
            now,
        );
        let (mut log, opened) = opened.map_err(log_fault)?;
        log.assign_topic_id(Uuid::METADATA_TOPIC)
            .map_err(append_fault)?;
        let snapshots = Snapshots::open(Arc::clone(&disk), &dir, log.log_start())?;
        let log = MetadataLog {
            reader: log.reader(),
            disk,
            dir,
            log,
            snapshots,
        };
        Ok((log, opened))
    }

    /// The partition's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Leaves the directory as a clean stop leaves it.
    pub fn close_cleanly(self, now: Now) -> Result<(), Fault> {
        self.log.close_cleanly(now).map(|_| ()).map_err(log_fault)
    }

    /// A closed segment is synced before anything else happens: recovery relies on it.
    fn after_append(&mut self, appended: &LogAppended, now: Now) -> Result<(), Fault> {
        if let Some(flush) = &appended.rolled {
            if let Err(fault) = flush.run() {
                self.log.flush_failed(&fault);
                // Whatever the reason, the batch is written: this is no append that may be tried again.
                return Err(Fault::corrupt(format!(
                    "a closed segment of the metadata log could not be synced: {fault}"
                )));
            }
            self.log.finish_flush(flush, now.mono);
        }
        Ok(())
    }
}

fn log_options(options: MetadataLogOptions) -> LogOptions {
    LogOptions {
        segment_bytes: options.segment_bytes,
        segment_ms: options.segment_ms,
        retention_ms: None,
        retention_bytes: None,
        cleanup: Cleanup {
            delete: true,
            compact: false,
        },
        ..LogOptions::default()
    }
}

/// Makes the directory and its name durable: a vote in it must not vanish with it.
fn make_durable_dir(disk: &dyn Disk, parent: &Path, dir: &Path) -> io::Result<()> {
    disk.create_dir_all(dir)?;
    disk.sync_dir(parent)
}

/// Base of the last segment but one: what lies before is known to be complete.
fn recovery_point(disk: &dyn Disk, dir: &Path) -> io::Result<Offset> {
    let mut bases = Vec::new();
    for entry in disk.list(dir)? {
        if let Some((names::FileKind::Log, base)) = names::FileKind::parse(&entry.name) {
            bases.push(base);
        }
    }
    bases.sort();
    Ok(bases.iter().rev().nth(1).copied().unwrap_or(Offset::ZERO))
}

pub(crate) fn at(path: &Path, source: io::Error) -> Fault {
    Fault::io(path.display().to_string(), source)
}

fn log_fault(fault: milena_log::Fault) -> Fault {
    at(&fault.dir, fault.source)
}

fn append_fault(error: AppendError) -> Fault {
    match error {
        AppendError::Fault(fault) => log_fault(fault),
        AppendError::Refused(code, message) => Fault::corrupt(format!(
            "the metadata log refuses a batch: {code}: {message}"
        )),
    }
}

impl ReplicatedLog for MetadataLog {
    fn start_offset(&self) -> Offset {
        self.log.log_start()
    }

    fn end_offset(&self) -> Offset {
        self.log.log_end()
    }

    fn last_epoch(&self) -> Epoch {
        match self.reader.latest_epoch() {
            Some(epoch) => epoch,
            None => self.latest_snapshot().map_or(Epoch::ZERO, |id| id.epoch),
        }
    }

    fn end_offset_for_epoch(&self, epoch: Epoch) -> OffsetAndEpoch {
        match (
            self.reader.end_offset_for_epoch(epoch),
            self.earliest_snapshot(),
        ) {
            // The epoch is older than the log: its end is the snapshot that the log starts with.
            (Some((found, offset)), Some(id)) if id.offset == offset && found == epoch => id,
            (Some((epoch, offset)), _) => OffsetAndEpoch { offset, epoch },
            (None, _) => OffsetAndEpoch {
                offset: self.end_offset(),
                epoch: self.last_epoch(),
            },
        }
    }

    fn append_as_leader(
        &mut self,
        batch: ValidBatch,
        epoch: Epoch,
        now: Now,
    ) -> Result<(Offset, Offset), Fault> {
        let appended = self
            .log
            .append_as_leader(batch, epoch, AppendOrigin::RaftLeader, now)
            .map_err(append_fault)?;
        self.after_append(&appended, now)?;
        Ok((appended.first, appended.last))
    }

    fn append_as_follower(&mut self, batches: Vec<ValidBatch>, now: Now) -> Result<(), Fault> {
        let appended = self
            .log
            .append_as_follower(&batches, now)
            .map_err(append_fault)?;
        match appended {
            Some(appended) => self.after_append(&appended, now),
            None => Ok(()),
        }
    }

    fn truncate_to(&mut self, offset: Offset, now: Now) -> Result<(), Fault> {
        self.log.truncate_to(offset, now).map_err(log_fault)?;
        Ok(())
    }

    fn truncate_to_latest_snapshot(&mut self, now: Now) -> Result<bool, Fault> {
        let Some(id) = self.latest_snapshot() else {
            return Ok(false);
        };
        let epoch = self.reader.latest_epoch().unwrap_or(Epoch::ZERO);
        let beyond = id.epoch > epoch || (id.epoch == epoch && id.offset > self.end_offset());
        if beyond {
            self.log
                .truncate_fully_and_start_at(id.offset, now)
                .map_err(log_fault)?;
            self.snapshots.forget_before(id, now)?;
        }
        Ok(beyond)
    }

    fn start_epoch(&mut self, epoch: Epoch) -> Result<(), Fault> {
        self.log.assign_epoch_start(epoch, self.log.log_end());
        Ok(())
    }

    fn set_high_watermark(&mut self, offset: Offset) {
        self.log.on_high_watermark(offset);
    }

    fn flush(&mut self, now: Now) -> Result<(), Fault> {
        self.log.flush(now.mono).map_err(log_fault)
    }

    fn read(&self, from: Offset, max_bytes: usize) -> Result<Bytes, Fault> {
        let max_bytes = u32::try_from(max_bytes).unwrap_or(u32::MAX);
        let end = self.end_offset();
        let slice = match self.reader.read(from, max_bytes, end, true) {
            Ok(slice) => slice,
            Err(ReadError::Fault(fault)) => return Err(log_fault(fault)),
            Err(ReadError::OutOfRange) => {
                return Err(Fault::corrupt(format!(
                    "offset {from} is not in the metadata log, which holds {} to {end}",
                    self.start_offset()
                )));
            }
            Err(ReadError::Corrupt(what)) => return Err(Fault::corrupt(what)),
        };
        let Some(file) = slice.file else {
            return Ok(Bytes::new());
        };
        let bytes = file.read().map_err(|error| at(&self.dir, error))?;
        Ok(Bytes::from(bytes))
    }

    fn snapshots(&self) -> Vec<SnapshotId> {
        self.snapshots.ids()
    }

    fn snapshot_size(&self, id: SnapshotId) -> Result<Option<u64>, Fault> {
        self.snapshots.size(id)
    }

    fn read_snapshot(
        &self,
        id: SnapshotId,
        position: u64,
        max_bytes: usize,
    ) -> Result<Bytes, Fault> {
        self.snapshots.read(id, position, max_bytes)
    }

    fn snapshot_frozen(&mut self, id: SnapshotId) {
        self.snapshots.frozen(id);
    }

    fn size(&self) -> u64 {
        self.log.size_bytes()
    }

    fn delete_before(&mut self, id: SnapshotId, now: Now) -> Result<(), Fault> {
        self.log.advance_log_start(id.offset);
        // The high watermark is at least the snapshot's end, and segments go only below the log's start.
        self.log.retention(now, id.offset).map_err(log_fault)?;
        self.snapshots.forget_before(id, now)
    }

    fn remove_deleted(&mut self, now: Now) -> Result<(), Fault> {
        for path in self.log.take_due_deletions(now.mono) {
            snapshots::remove_if_there(&*self.disk, &path)?;
        }
        self.snapshots.remove_deleted(now)
    }

    fn write_downloaded(
        &mut self,
        id: SnapshotId,
        position: u64,
        bytes: &[u8],
    ) -> Result<(), Fault> {
        self.snapshots.write_downloaded(id, position, bytes)
    }

    fn freeze_downloaded(&mut self, id: SnapshotId) -> Result<(), Fault> {
        self.snapshots.freeze_downloaded(id)
    }
}
