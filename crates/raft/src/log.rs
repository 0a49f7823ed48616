//! The port to the replicated log and its snapshots. `broker` implements it over `log`; tests over memory.
//!
//! All calls are synchronous: an append is a write to the page cache. Only [`ReplicatedLog::flush`] waits for the
//! disk, and it is called by the owner of a `Raft` (for [`crate::Effect::Flush`]), never by `Raft` itself.

use std::fmt;
use std::io;

use bytes::Bytes;
use milena_base::{Epoch, Now, Offset};
use milena_records::ValidBatch;

/// A point in the log: the next offset to be written, and the epoch of the record before it. Also the name of a
/// snapshot, which holds everything below `offset`. Ordered by epoch, then offset, as KRaft compares logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OffsetAndEpoch {
    pub offset: Offset,
    pub epoch: Epoch,
}

impl OffsetAndEpoch {
    pub fn new(offset: i64, epoch: i32) -> OffsetAndEpoch {
        OffsetAndEpoch {
            offset: Offset(offset),
            epoch: Epoch(epoch),
        }
    }
}

impl Ord for OffsetAndEpoch {
    fn cmp(&self, other: &OffsetAndEpoch) -> std::cmp::Ordering {
        (self.epoch, self.offset).cmp(&(other.epoch, other.offset))
    }
}

impl PartialOrd for OffsetAndEpoch {
    fn partial_cmp(&self, other: &OffsetAndEpoch) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for OffsetAndEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({}, epoch {})", self.offset, self.epoch)
    }
}

/// A snapshot's id.
pub type SnapshotId = OffsetAndEpoch;

/// The snapshot that formatting writes: no log is in it, only what the log begins with.
pub const BOOTSTRAP_SNAPSHOT: SnapshotId = OffsetAndEpoch {
    offset: Offset::ZERO,
    epoch: Epoch::ZERO,
};

/// Trouble that the quorum can't go on with: the machine's, or a log that contradicts what the quorum knows. The
/// node stops; nothing that failed is taken as done.
#[derive(Debug)]
pub struct Fault {
    pub what: String,
    pub source: Option<io::Error>,
}

impl Fault {
    /// A failed operation on the disk.
    pub fn io(what: impl Into<String>, source: io::Error) -> Fault {
        Fault {
            what: what.into(),
            source: Some(source),
        }
    }

    /// Whether the disk or a quota is full.
    pub fn is_full(&self) -> bool {
        let kind = self.source.as_ref().map(io::Error::kind);
        matches!(
            kind,
            Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        )
    }

    /// Stored bytes that can't be, or contradict each other.
    pub fn corrupt(what: impl Into<String>) -> Fault {
        Fault {
            what: what.into(),
            source: None,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Some(source) => write!(f, "{}: {source}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

impl std::error::Error for Fault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}

/// The metadata partition and its snapshots, as the quorum sees them.
///
/// Invariants: `start_offset <= end_offset`; where `start_offset > 0`, a snapshot with at least that offset is there;
/// what lies below a high watermark that was told to [`ReplicatedLog::set_high_watermark`] is never truncated.
pub trait ReplicatedLog: Send + fmt::Debug {
    fn start_offset(&self) -> Offset;

    /// The next offset to be written.
    fn end_offset(&self) -> Offset;

    /// Epoch of the last record; that of the snapshot where the log is empty above one; 0 where nothing is there.
    fn last_epoch(&self) -> Epoch;

    /// The largest epoch that is at most `epoch`, and the offset where it ends.
    fn end_offset_for_epoch(&self, epoch: Epoch) -> OffsetAndEpoch;

    /// Appends the leader's own batch at the end, stamped with offsets and `epoch`; its first and last offset. Where the
    /// disk is full ([`Fault::is_full`]) the log ends where it ended before, and may be appended to again.
    fn append_as_leader(
        &mut self,
        batch: ValidBatch,
        epoch: Epoch,
        now: Now,
    ) -> Result<(Offset, Offset), Fault>;

    /// Appends batches as the leader sent them; they begin at the end of the log.
    fn append_as_follower(&mut self, batches: Vec<ValidBatch>, now: Now) -> Result<(), Fault>;

    /// Drops the records from `offset` on.
    fn truncate_to(&mut self, offset: Offset, now: Now) -> Result<(), Fault>;

    /// Where the latest snapshot lies beyond the log's end: drops the log and starts it at the snapshot. Whether it
    /// did.
    fn truncate_to_latest_snapshot(&mut self, now: Now) -> Result<bool, Fault>;

    /// Notes that `epoch` starts at the log's end.
    fn start_epoch(&mut self, epoch: Epoch) -> Result<(), Fault>;

    /// What is committed now. Never goes back.
    fn set_high_watermark(&mut self, offset: Offset);

    /// Makes everything below the log's end durable (fsync).
    fn flush(&mut self, now: Now) -> Result<(), Fault>;

    /// Batches from the one that holds `from` on, at least one whole one where there is any, and no more than about
    /// `max_bytes`; empty at the log's end. The first batch may begin before `from`, the last may be cut off. `from` is
    /// at least the log's start.
    fn read(&self, from: Offset, max_bytes: usize) -> Result<Bytes, Fault>;

    /// Ids of the complete snapshots, ascending.
    fn snapshots(&self) -> Vec<SnapshotId>;

    fn latest_snapshot(&self) -> Option<SnapshotId> {
        self.snapshots().last().copied()
    }

    fn earliest_snapshot(&self) -> Option<SnapshotId> {
        self.snapshots().first().copied()
    }

    /// Size in bytes of a complete snapshot.
    fn snapshot_size(&self, id: SnapshotId) -> Result<Option<u64>, Fault>;

    /// At most `max_bytes` of a complete snapshot from `position` on; not cut at batches.
    fn read_snapshot(
        &self,
        id: SnapshotId,
        position: u64,
        max_bytes: usize,
    ) -> Result<Bytes, Fault>;

    /// A snapshot was written and renamed to its name: counts it from here on.
    fn snapshot_frozen(&mut self, id: SnapshotId);

    /// Bytes of all segments.
    fn size(&self) -> u64;

    /// Starts the log at this snapshot and deletes what lies wholly before: segments and older snapshots. The caller
    /// decided that it may.
    fn delete_before(&mut self, id: SnapshotId, now: Now) -> Result<(), Fault>;

    /// Removes files that were given up a while ago.
    fn remove_deleted(&mut self, now: Now) -> Result<(), Fault>;

    /// Appends downloaded bytes to a snapshot that is not complete yet; `position` zero begins it anew.
    fn write_downloaded(
        &mut self,
        id: SnapshotId,
        position: u64,
        bytes: &[u8],
    ) -> Result<(), Fault>;

    /// Makes a downloaded snapshot durable and complete.
    fn freeze_downloaded(&mut self, id: SnapshotId) -> Result<(), Fault>;
}
