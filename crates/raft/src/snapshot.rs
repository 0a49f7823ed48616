//! Snapshots: their bytes, when one is due, and which may go.
//!
//! A snapshot is a file of batches: a control batch with the header (and, from `kraft.version` 1 on, the version and
//! the voter set), the state machine's records, a control batch with the footer. Offsets in it count from zero, the epoch
//! is the snapshot's (KIP-630).

use std::time::Duration;

use bytes::Bytes;
use milena_base::{Instant, Now, Offset, Timestamp};
use milena_records::{BatchBuilder, Compression};

use crate::batch::{ControlRecord, control_batch, placed, value_record, walk};
use crate::log::{Fault, ReplicatedLog, SnapshotId};
use crate::voters::VoterSet;

/// Batches of a snapshot are closed at this size: small beside the 8 MiB that Kafka allows, so that writing one takes
/// little memory.
const BATCH_BYTES: usize = 256 * 1024;

/// Makes the bytes of one snapshot, batch after batch; writing them to a file is the caller's.
#[derive(Debug)]
pub struct SnapshotBuilder {
    id: SnapshotId,
    next: Offset,
    pending: Vec<Bytes>,
    pending_bytes: usize,
    out: Vec<Bytes>,
}

impl SnapshotBuilder {
    /// Begins with the header. `dynamic` is the `kraft.version` and the voter set as of the snapshot's end; version 0 has
    /// no voter set.
    pub fn new(
        id: SnapshotId,
        last_contained_log_timestamp: Timestamp,
        dynamic: (i16, Option<&VoterSet>),
        now: Timestamp,
    ) -> SnapshotBuilder {
        let mut head = vec![ControlRecord::SnapshotHeader {
            last_contained_log_timestamp,
        }];
        let (kraft_version, voters) = dynamic;
        if kraft_version > 0 {
            head.push(ControlRecord::KRaftVersion(kraft_version));
            head.extend(voters.map(|voters| ControlRecord::Voters(voters.to_record())));
        }
        let mut builder = SnapshotBuilder {
            id,
            next: Offset::ZERO,
            pending: Vec::new(),
            pending_bytes: 0,
            out: Vec::new(),
        };
        builder.close(control_batch(&head, now));
        builder
    }

    pub fn id(&self) -> SnapshotId {
        self.id
    }

    /// Appends one record of the state machine.
    pub fn append(&mut self, value: Bytes, now: Timestamp) {
        self.pending_bytes += value.len() + 16;
        self.pending.push(value);
        if self.pending_bytes >= BATCH_BYTES {
            self.close_pending(now);
        }
    }

    /// The batches that are complete so far, in order; each is given out once.
    pub fn take(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.out)
    }

    /// Ends with the footer; the last batches.
    pub fn finish(mut self, now: Timestamp) -> Vec<Bytes> {
        self.close_pending(now);
        self.close(control_batch(&[ControlRecord::SnapshotFooter], now));
        self.out
    }

    fn close_pending(&mut self, now: Timestamp) {
        if self.pending.is_empty() {
            return;
        }
        let mut batch = BatchBuilder::new(Compression::None);
        for value in &self.pending {
            batch
                .append(value_record(value, now))
                .expect("a batch is closed long before 2 GiB");
        }
        self.pending.clear();
        self.pending_bytes = 0;
        self.close(batch);
    }

    fn close(&mut self, batch: BatchBuilder) {
        let batch = placed(batch, self.next, self.id.epoch);
        self.next = batch.header().last_offset() + 1;
        self.out.push(batch.to_bytes());
    }
}

/// Append time of the last record that a snapshot holds: what its header says.
pub fn last_contained_log_timestamp(
    log: &dyn ReplicatedLog,
    id: SnapshotId,
) -> Result<Timestamp, Fault> {
    let head = log.read_snapshot(id, 0, BATCH_BYTES)?;
    if let Some(batch) = walk(head).next().transpose()? {
        for record in batch.control {
            if let ControlRecord::SnapshotHeader {
                last_contained_log_timestamp,
            } = record
            {
                return Ok(last_contained_log_timestamp);
            }
        }
    }
    Err(Fault::corrupt(format!(
        "snapshot {id} does not begin with a header"
    )))
}

/// Decides when a snapshot is due: so many bytes loaded since the last one
/// (`metadata.log.max.record.bytes.between.snapshots`), or so much time (`metadata.log.max.snapshot.interval.ms`, zero for
/// never) if anything was loaded. Kafka class `SnapshotGenerator`.
#[derive(Clone, Debug)]
pub struct SnapshotPolicy {
    bytes_max: u64,
    interval: Option<Duration>,
    bytes: u64,
    last: Instant,
}

impl SnapshotPolicy {
    pub fn new(bytes_max: u64, interval: Option<Duration>, now: Instant) -> SnapshotPolicy {
        SnapshotPolicy {
            bytes_max,
            interval,
            bytes: 0,
            last: now,
        }
    }

    /// Committed batches of so many bytes were loaded. Whether a snapshot is due now (and counted as taken).
    pub fn loaded(&mut self, bytes: u64, now: Instant) -> bool {
        self.bytes += bytes;
        let by_time = self
            .interval
            .is_some_and(|interval| now.since(self.last) >= interval);
        let due = self.bytes >= self.bytes_max || by_time;
        if due {
            self.restart(now);
        }
        due
    }

    /// A snapshot was loaded or taken otherwise: counts from here.
    pub fn restart(&mut self, now: Instant) {
        self.bytes = 0;
        self.last = now;
    }
}

/// Which old snapshots may go, and the log before them (`metadata.max.retention.bytes` and `.ms`; negative keeps).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    pub bytes_max: i64,
    pub age_ms_max: i64,
}

impl Default for Retention {
    /// Kafka's: 100 MiB, 7 days.
    fn default() -> Retention {
        Retention {
            bytes_max: 100 * 1024 * 1024,
            age_ms_max: 7 * 24 * 3600 * 1000,
        }
    }
}

impl Retention {
    /// Deletes what is beyond the limits, oldest first, and always keeps the latest snapshot. Whether it deleted. Kafka's
    /// `KafkaMetadataLog.maybeClean`. To be called once a minute; also removes files that were given up a while ago.
    pub fn clean(self, log: &mut dyn ReplicatedLog, now: Now) -> Result<bool, Fault> {
        log.remove_deleted(now)?;
        let mut cleaned = false;
        if self.bytes_max >= 0 {
            cleaned |= self.clean_by_size(log, now)?;
        }
        if self.age_ms_max >= 0 {
            cleaned |= self.clean_by_age(log, now)?;
        }
        Ok(cleaned)
    }

    fn clean_by_size(self, log: &mut dyn ReplicatedLog, now: Now) -> Result<bool, Fault> {
        let snapshots = log.snapshots();
        let mut sizes = Vec::new();
        for &id in &snapshots {
            sizes.push(log.snapshot_size(id)?.unwrap_or(0));
        }
        let mut total: u64 = sizes.iter().sum();
        let mut cleaned = false;
        for (i, pair) in snapshots.windows(2).enumerate() {
            if log.size() + total <= self.bytes_max as u64 || !delete_before(log, pair[1], now)? {
                break;
            }
            total -= sizes[i];
            cleaned = true;
        }
        Ok(cleaned)
    }

    fn clean_by_age(self, log: &mut dyn ReplicatedLog, now: Now) -> Result<bool, Fault> {
        let mut cleaned = false;
        for pair in log.snapshots().windows(2) {
            let age = now.wall.0 - last_contained_log_timestamp(log, pair[0])?.0;
            if age <= self.age_ms_max || !delete_before(log, pair[1], now)? {
                break;
            }
            cleaned = true;
        }
        Ok(cleaned)
    }
}

/// Starts the log at a snapshot, if that moves it on.
fn delete_before(log: &mut dyn ReplicatedLog, id: SnapshotId, now: Now) -> Result<bool, Fault> {
    let moves_on = log.start_offset() < id.offset;
    if moves_on {
        log.delete_before(id, now)?;
    }
    Ok(moves_on)
}
