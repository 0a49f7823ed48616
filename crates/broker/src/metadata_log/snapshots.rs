//! Snapshot files: `<end offset, 20 digits>-<epoch, 10 digits>.checkpoint`, with `.part` behind it while one is
//! written and `.deleted` when it is given up. Kafka classes `Snapshots`, `FileRawSnapshotWriter`.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use milena_base::{Instant, Now, Offset};
use milena_disk::{Disk, File, OpenMode};
use milena_raft::{Fault, OffsetAndEpoch, SnapshotId};

use super::at;

const SUFFIX: &str = ".checkpoint";
const PART: &str = ".checkpoint.part";
const DELETED: &str = ".checkpoint.deleted";
const OFFSET_DIGITS: usize = 20;
const EPOCH_DIGITS: usize = 10;
/// A reader may still be in a snapshot that is given up.
const DELETE_DELAY: Duration = Duration::from_secs(60);

/// The name of a complete snapshot's file.
pub fn snapshot_file_name(id: SnapshotId) -> String {
    format!("{:020}-{:010}{SUFFIX}", id.offset.0, id.epoch.0)
}

/// The id in the name of a snapshot's file, whatever its suffix; and whether it is complete.
fn parse(name: &str) -> Option<(SnapshotId, bool)> {
    let complete = name.ends_with(SUFFIX);
    if !complete && !name.ends_with(PART) && !name.ends_with(DELETED) {
        return None;
    }
    let offset = name.get(..OFFSET_DIGITS)?.parse().ok()?;
    let epoch = name.get(OFFSET_DIGITS + 1..OFFSET_DIGITS + 1 + EPOCH_DIGITS)?;
    Some((OffsetAndEpoch::new(offset, epoch.parse().ok()?), complete))
}

/// The snapshots of one directory.
#[derive(Debug)]
pub(super) struct Snapshots {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    ids: BTreeSet<SnapshotId>,
    downloads: BTreeMap<SnapshotId, Arc<dyn File>>,
    deleted: Vec<(Instant, PathBuf)>,
}

impl Snapshots {
    /// Finds the complete snapshots, and removes what is no use: parts, deleted ones, and those before the log's start.
    /// A log that starts above zero without a snapshot is a fault: what came before is nowhere.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, log_start: Offset) -> Result<Snapshots, Fault> {
        let mut ids = BTreeSet::new();
        let mut useless = Vec::new();
        for entry in disk.list(dir).map_err(|error| at(dir, error))? {
            match parse(&entry.name) {
                Some((id, true)) if id.offset >= log_start => {
                    ids.insert(id);
                }
                Some(_) => useless.push(dir.join(&entry.name)),
                None => {}
            }
        }
        if log_start > Offset::ZERO && ids.is_empty() {
            return Err(Fault::corrupt(format!(
                "{}: the metadata log starts at offset {log_start}, but there is no snapshot of what came before",
                dir.display()
            )));
        }
        for path in useless {
            remove_if_there(&*disk, &path)?;
        }
        Ok(Snapshots {
            disk,
            dir: dir.to_path_buf(),
            ids,
            downloads: BTreeMap::new(),
            deleted: Vec::new(),
        })
    }

    pub fn ids(&self) -> Vec<SnapshotId> {
        self.ids.iter().copied().collect()
    }

    fn path(&self, id: SnapshotId) -> PathBuf {
        self.dir.join(snapshot_file_name(id))
    }

    pub fn frozen(&mut self, id: SnapshotId) {
        self.ids.insert(id);
    }

    pub fn size(&self, id: SnapshotId) -> Result<Option<u64>, Fault> {
        if !self.ids.contains(&id) {
            return Ok(None);
        }
        let path = self.path(id);
        let stat = self.disk.stat(&path).map_err(|error| at(&path, error))?;
        Ok(stat.map(|stat| stat.len))
    }

    pub fn read(&self, id: SnapshotId, position: u64, max_bytes: usize) -> Result<Bytes, Fault> {
        let path = self.path(id);
        let read = || -> io::Result<Bytes> {
            let file = self.disk.open(&path, OpenMode::Read)?;
            let left = file.len()?.saturating_sub(position);
            let wanted = left.min(max_bytes as u64) as usize;
            let mut bytes = BytesMut::zeroed(wanted);
            file.read_exact_at(&mut bytes, position)?;
            Ok(bytes.freeze())
        };
        read().map_err(|error| at(&path, error))
    }

    /// Gives up the snapshots before `id`: renamed now, removed later.
    pub fn forget_before(&mut self, id: SnapshotId, now: Now) -> Result<(), Fault> {
        let kept = self.ids.split_off(&id);
        for old in std::mem::replace(&mut self.ids, kept) {
            let path = self.path(old);
            let name = format!("{:020}-{:010}{DELETED}", old.offset.0, old.epoch.0);
            let renamed = self.dir.join(name);
            match self.disk.rename(&path, &renamed) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(at(&path, error)),
                Ok(()) => self.deleted.push((now.mono + DELETE_DELAY, renamed)),
            }
        }
        Ok(())
    }

    pub fn remove_deleted(&mut self, now: Now) -> Result<(), Fault> {
        let (due, later) = std::mem::take(&mut self.deleted)
            .into_iter()
            .partition(|(at, _)| *at <= now.mono);
        self.deleted = later;
        for (_, path) in Vec::<(Instant, PathBuf)>::into_iter(due) {
            remove_if_there(&*self.disk, &path)?;
        }
        Ok(())
    }

    pub fn write_downloaded(
        &mut self,
        id: SnapshotId,
        position: u64,
        bytes: &[u8],
    ) -> Result<(), Fault> {
        let path = part_path(&self.dir, id);
        let mut write = || -> io::Result<()> {
            if position == 0 {
                let file = self.disk.open(&path, OpenMode::Create)?;
                file.set_len(0)?;
                self.downloads.insert(id, file);
            }
            match self.downloads.get(&id) {
                Some(file) => file.write_all_at(&[bytes], position),
                None => Err(io::Error::from(io::ErrorKind::NotFound)),
            }
        };
        write().map_err(|error| at(&path, error))
    }

    pub fn freeze_downloaded(&mut self, id: SnapshotId) -> Result<(), Fault> {
        let path = part_path(&self.dir, id);
        let Some(file) = self.downloads.remove(&id) else {
            let missing = io::Error::from(io::ErrorKind::NotFound);
            return Err(at(&path, missing));
        };
        freeze(&*self.disk, &self.dir, id, &*file).map_err(|error| at(&path, error))
    }
}

fn part_path(dir: &Path, id: SnapshotId) -> PathBuf {
    dir.join(format!("{:020}-{:010}{PART}", id.offset.0, id.epoch.0))
}

pub(super) fn remove_if_there(disk: &dyn Disk, path: &Path) -> Result<(), Fault> {
    match disk.remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path, error)),
        _ => Ok(()),
    }
}

/// Content first, then the name: a file with its final name is complete.
fn freeze(disk: &dyn Disk, dir: &Path, id: SnapshotId, file: &dyn File) -> io::Result<()> {
    let part = part_path(dir, id);
    file.sync_all()?;
    disk.set_read_only(&part)?;
    disk.rename(&part, &dir.join(snapshot_file_name(id)))?;
    disk.sync_dir(dir)
}

/// Writes one snapshot's bytes (of [`milena_raft::SnapshotBuilder`]) to its file. Dropped before
/// [`SnapshotWriter::freeze`], a part is left that the next start removes.
#[derive(Debug)]
pub struct SnapshotWriter {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    id: SnapshotId,
    file: Arc<dyn File>,
    position: u64,
}

impl SnapshotWriter {
    /// Begins a snapshot in the metadata partition's directory.
    pub fn create(
        disk: Arc<dyn Disk>,
        dir: &Path,
        id: SnapshotId,
    ) -> Result<SnapshotWriter, Fault> {
        let path = part_path(dir, id);
        let create = || -> io::Result<Arc<dyn File>> {
            // A part of an earlier try may be left, read-only even.
            match disk.remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            disk.open(&path, OpenMode::CreateNew)
        };
        let file = create().map_err(|error| at(&path, error))?;
        Ok(SnapshotWriter {
            disk,
            dir: dir.to_path_buf(),
            id,
            file,
            position: 0,
        })
    }

    pub fn append(&mut self, batches: &[Bytes]) -> Result<(), Fault> {
        let parts: Vec<&[u8]> = batches.iter().map(|batch| &batch[..]).collect();
        self.file
            .write_all_at(&parts, self.position)
            .map_err(|error| at(&part_path(&self.dir, self.id), error))?;
        self.position += parts.iter().map(|part| part.len() as u64).sum::<u64>();
        Ok(())
    }

    /// Makes it durable and complete. Then it is time for [`milena_raft::Event::SnapshotFrozen`].
    pub fn freeze(self) -> Result<SnapshotId, Fault> {
        freeze(&*self.disk, &self.dir, self.id, &*self.file)
            .map_err(|error| at(&part_path(&self.dir, self.id), error))?;
        Ok(self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kafkas() {
        let id = OffsetAndEpoch::new(0, 0);
        let name = "00000000000000000000-0000000000.checkpoint";
        assert_eq!(snapshot_file_name(id), name);
        assert_eq!(parse(name), Some((id, true)));
        // A name of Apache Kafka's while it writes.
        let part = "00000000000000000042-0000000007-5182763.checkpoint.part";
        assert_eq!(parse(part), Some((OffsetAndEpoch::new(42, 7), false)));
        let deleted = "00000000000000000042-0000000007.checkpoint.deleted";
        assert_eq!(parse(deleted), Some((OffsetAndEpoch::new(42, 7), false)));
        for other in [
            "leader-epoch-checkpoint",
            "x.checkpoint",
            "00000000000000000000.log",
        ] {
            assert_eq!(parse(other), None);
        }
    }
}
