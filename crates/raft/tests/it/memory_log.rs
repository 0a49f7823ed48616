//! The log in memory: what is flushed survives a power cut, the rest does not.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::{Bytes, BytesMut};
use milena_base::{Epoch, Now, Offset};
use milena_raft::{Fault, OffsetAndEpoch, ReplicatedLog, SnapshotId};
use milena_records::ValidBatch;

#[derive(Clone, Debug)]
struct Stored {
    base: Offset,
    last: Offset,
    epoch: Epoch,
    bytes: Bytes,
}

/// What outlives the process.
#[derive(Debug, Default)]
pub struct Disk {
    start: Offset,
    batches: Vec<Stored>,
    flushed: Offset,
    high_watermark: Offset,
    pub snapshots: BTreeMap<SnapshotId, Bytes>,
    downloads: BTreeMap<SnapshotId, BytesMut>,
    pub quorum_state: Option<Vec<u8>>,
    /// The next calls of `flush` fail.
    pub fail_flush: bool,
}

impl Disk {
    /// Takes away what was not flushed.
    pub fn cut_power(&mut self) {
        let flushed = self.flushed;
        self.batches.retain(|batch| batch.last < flushed);
        self.downloads.clear();
        self.high_watermark = Offset::ZERO;
    }

    fn end(&self) -> Offset {
        self.batches
            .last()
            .map_or(self.start, |batch| batch.last + 1)
    }

    /// Epoch of the last record below `end`.
    pub fn epoch_before(&self, end: Offset) -> Epoch {
        let batch = self.batches.iter().rev().find(|batch| batch.last < end);
        let snapshot = self.snapshots.keys().rev().find(|id| id.offset <= end);
        batch.map_or(snapshot.map_or(Epoch::ZERO, |id| id.epoch), |b| b.epoch)
    }

    /// Every batch, one line each.
    pub fn dump(&self) -> String {
        let mut out = format!("start={} ", self.start);
        for batch in &self.batches {
            out += &format!("[{}-{} e{}]", batch.base, batch.last, batch.epoch);
        }
        for id in self.snapshots.keys() {
            out += &format!(" snapshot={}-{}", id.offset, id.epoch);
        }
        out
    }

    /// The committed bytes, to compare replicas.
    pub fn prefix(&self, end: Offset) -> Vec<Bytes> {
        let below = self.batches.iter().filter(|batch| batch.last < end);
        below.map(|batch| batch.bytes.clone()).collect()
    }
}

#[derive(Clone, Debug, Default)]
pub struct MemoryLog {
    pub disk: Arc<Mutex<Disk>>,
}

impl MemoryLog {
    pub fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap()
    }

    fn push(&self, batch: &ValidBatch) {
        let header = batch.header();
        let mut disk = self.disk();
        assert_eq!(header.base_offset(), disk.end(), "no gaps");
        disk.batches.push(Stored {
            base: header.base_offset(),
            last: header.last_offset(),
            epoch: header.leader_epoch(),
            bytes: batch.to_bytes(),
        });
    }
}

impl ReplicatedLog for MemoryLog {
    fn start_offset(&self) -> Offset {
        self.disk().start
    }

    fn end_offset(&self) -> Offset {
        self.disk().end()
    }

    fn last_epoch(&self) -> Epoch {
        let disk = self.disk();
        match disk.batches.last() {
            Some(batch) => batch.epoch,
            None => disk
                .snapshots
                .last_key_value()
                .map_or(Epoch::ZERO, |(id, _)| id.epoch),
        }
    }

    fn end_offset_for_epoch(&self, epoch: Epoch) -> OffsetAndEpoch {
        let latest = OffsetAndEpoch {
            offset: self.end_offset(),
            epoch: self.last_epoch(),
        };
        if epoch >= latest.epoch {
            return latest;
        }
        let disk = self.disk();
        let next = disk.batches.iter().find(|batch| batch.epoch > epoch);
        let floor = disk.batches.iter().rev().find(|batch| batch.epoch <= epoch);
        let offset = next.map_or(disk.end(), |batch| batch.base);
        match floor {
            Some(batch) => OffsetAndEpoch {
                offset,
                epoch: batch.epoch,
            },
            None => match disk.snapshots.first_key_value() {
                Some((id, _)) if id.offset == offset => *id,
                _ => OffsetAndEpoch { offset, epoch },
            },
        }
    }

    fn append_as_leader(
        &mut self,
        mut batch: ValidBatch,
        epoch: Epoch,
        _: Now,
    ) -> Result<(Offset, Offset), Fault> {
        batch.stamp(self.end_offset(), epoch, None);
        self.push(&batch);
        Ok((batch.header().base_offset(), batch.header().last_offset()))
    }

    fn append_as_follower(&mut self, batches: Vec<ValidBatch>, _: Now) -> Result<(), Fault> {
        batches.iter().for_each(|batch| self.push(batch));
        Ok(())
    }

    fn truncate_to(&mut self, offset: Offset, _: Now) -> Result<(), Fault> {
        let mut disk = self.disk();
        if offset < disk.high_watermark {
            panic!("committed records stay: {offset} {disk:?}");
        }
        disk.batches.retain(|batch| batch.last < offset);
        disk.flushed = disk.flushed.min(offset);
        Ok(())
    }

    fn truncate_to_latest_snapshot(&mut self, _: Now) -> Result<bool, Fault> {
        let (end, epoch) = (self.end_offset(), self.last_epoch());
        let mut disk = self.disk();
        let Some((&id, _)) = disk.snapshots.last_key_value() else {
            return Ok(false);
        };
        let log_epoch = disk.batches.last().map_or(Epoch::ZERO, |_| epoch);
        let beyond = id.epoch > log_epoch || (id.epoch == log_epoch && id.offset > end);
        if beyond {
            disk.batches.clear();
            disk.start = id.offset;
            disk.flushed = id.offset;
            disk.snapshots.retain(|&other, _| other >= id);
        }
        Ok(beyond)
    }

    fn start_epoch(&mut self, _: Epoch) -> Result<(), Fault> {
        Ok(())
    }

    fn set_high_watermark(&mut self, offset: Offset) {
        let mut disk = self.disk();
        disk.high_watermark = disk.high_watermark.max(offset);
    }

    fn flush(&mut self, _: Now) -> Result<(), Fault> {
        let mut disk = self.disk();
        if disk.fail_flush {
            return Err(Fault::io(
                "fsync",
                std::io::Error::other("failed by the test"),
            ));
        }
        disk.flushed = disk.end();
        Ok(())
    }

    fn read(&self, from: Offset, max_bytes: usize) -> Result<Bytes, Fault> {
        let disk = self.disk();
        let mut bytes = BytesMut::new();
        for batch in disk.batches.iter().filter(|batch| batch.last >= from) {
            if !bytes.is_empty() && bytes.len() + batch.bytes.len() > max_bytes {
                break;
            }
            bytes.extend_from_slice(&batch.bytes);
        }
        Ok(bytes.freeze())
    }

    fn snapshots(&self) -> Vec<SnapshotId> {
        self.disk().snapshots.keys().copied().collect()
    }

    fn snapshot_size(&self, id: SnapshotId) -> Result<Option<u64>, Fault> {
        Ok(self
            .disk()
            .snapshots
            .get(&id)
            .map(|bytes| bytes.len() as u64))
    }

    fn read_snapshot(&self, id: SnapshotId, at: u64, max: usize) -> Result<Bytes, Fault> {
        let disk = self.disk();
        let bytes = &disk.snapshots[&id];
        let end = bytes.len().min(at as usize + max);
        Ok(bytes.slice(at as usize..end))
    }

    fn snapshot_frozen(&mut self, id: SnapshotId) {
        assert!(self.disk().snapshots.contains_key(&id));
    }

    fn size(&self) -> u64 {
        self.disk()
            .batches
            .iter()
            .map(|b| b.bytes.len() as u64)
            .sum()
    }

    fn delete_before(&mut self, id: SnapshotId, _: Now) -> Result<(), Fault> {
        let mut disk = self.disk();
        assert!(
            id.offset <= disk.high_watermark,
            "only what is committed goes"
        );
        disk.start = id.offset;
        disk.batches.retain(|batch| batch.last >= id.offset);
        disk.snapshots.retain(|&other, _| other >= id);
        Ok(())
    }

    fn remove_deleted(&mut self, _: Now) -> Result<(), Fault> {
        Ok(())
    }

    fn write_downloaded(&mut self, id: SnapshotId, at: u64, bytes: &[u8]) -> Result<(), Fault> {
        let mut disk = self.disk();
        let download = disk.downloads.entry(id).or_default();
        download.truncate(at as usize);
        download.extend_from_slice(bytes);
        Ok(())
    }

    fn freeze_downloaded(&mut self, id: SnapshotId) -> Result<(), Fault> {
        let mut disk = self.disk();
        let bytes = disk.downloads.remove(&id).expect("it was downloaded");
        disk.snapshots.insert(id, bytes.freeze());
        Ok(())
    }
}
