//! One entry of `log.dirs`: its lock, who it belongs to, how it was left, and its partitions.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use milena_base::{Offset, Timestamp, TopicPartition, Uuid};
use milena_disk::{DirLock, Disk, read_all, replace};

use crate::checkpoint::{
    CLEANER_CHECKPOINT, LOG_START_CHECKPOINT, RECOVERY_POINT_CHECKPOINT, REPLICATION_CHECKPOINT,
    format_offsets, parse_offsets,
};
use crate::clean_shutdown;
use crate::error::{Fault, Malformed};
use crate::log::OpenHints;
use crate::meta_properties::{self, MetaProperties};
use crate::names::{self, DirectoryKind};

const LOCK: &str = ".lock";
/// Kafka keeps indexes of remote segments there.
const REMOTE_INDEX_CACHE: &str = "remote-log-index-cache";
/// No checkpoint is larger than this (about a million partitions).
const CHECKPOINT_BYTES_MAX: u64 = 512 << 20;

/// A partition's directory inside a log directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionDir {
    pub partition: TopicPartition,
    pub kind: DirectoryKind,
    pub path: PathBuf,
}

/// A log directory that this process holds the lock of.
#[derive(Debug)]
pub struct LogDir {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    _lock: Box<dyn DirLock>,
    meta: Option<MetaProperties>,
    clean: bool,
    broker_epoch: Option<i64>,
    recovery_points: BTreeMap<TopicPartition, Offset>,
    log_starts: BTreeMap<TopicPartition, Offset>,
    high_watermarks: BTreeMap<TopicPartition, Offset>,
    cleaner_offsets: BTreeMap<TopicPartition, Offset>,
    warnings: Vec<String>,
    /// The recovery point checkpoint is damaged.
    recovery_points_lost: bool,
}

impl LogDir {
    /// Makes the directory if it is not there, locks it and reads who it belongs to. Nothing is changed until
    /// [`LogDir::load`], so that a directory of another cluster or node can be left as it is.
    ///
    /// Errors: `WouldBlock` while another process (ours or a JVM) holds the lock; `InvalidData` for a
    /// `meta.properties` that cannot be read.
    pub fn lock(disk: Arc<dyn Disk>, path: &Path) -> Result<LogDir, Fault> {
        let locked = LogDir::try_lock(disk, path);
        locked.map_err(|source| Fault::new(path, source))
    }

    fn try_lock(disk: Arc<dyn Disk>, path: &Path) -> io::Result<LogDir> {
        if disk.stat(path)?.is_none() {
            disk.create_dir_all(path)?;
        }
        let lock = disk.lock(&path.join(LOCK))?;
        let meta_path = path.join(meta_properties::FILE);
        let meta = match read_text(&*disk, &meta_path)? {
            Some(text) => Some(MetaProperties::parse(&text).map_err(|error| {
                let text = format!("{}: {error}", meta_path.display());
                io::Error::new(io::ErrorKind::InvalidData, text)
            })?),
            None => None,
        };
        Ok(LogDir {
            disk,
            path: path.to_path_buf(),
            _lock: lock,
            meta,
            clean: false,
            broker_epoch: None,
            recovery_points: BTreeMap::new(),
            log_starts: BTreeMap::new(),
            high_watermarks: BTreeMap::new(),
            cleaner_offsets: BTreeMap::new(),
            warnings: Vec::new(),
            recovery_points_lost: false,
        })
    }

    /// Reads how the directory was left, and takes the mark of a clean stop away, durably: from here on a crash
    /// means recovery. Logs are opened after this.
    pub fn load(&mut self) -> Result<(), Fault> {
        let loaded = self.try_load();
        loaded.map_err(|source| Fault::new(&self.path, source))
    }

    fn try_load(&mut self) -> io::Result<()> {
        self.recovery_points = self.read_checkpoint(RECOVERY_POINT_CHECKPOINT)?;
        self.recovery_points_lost = !self.warnings.is_empty();
        self.log_starts = self.read_checkpoint(LOG_START_CHECKPOINT)?;
        self.high_watermarks = self.read_checkpoint(REPLICATION_CHECKPOINT)?;
        self.cleaner_offsets = self.read_checkpoint(CLEANER_CHECKPOINT)?;
        let marker = self.path.join(clean_shutdown::FILE);
        if let Some(text) = read_text(&*self.disk, &marker)? {
            self.clean = true;
            self.broker_epoch = clean_shutdown::parse(&text).ok();
            self.disk.remove_file(&marker)?;
            self.disk.sync_dir(&self.path)?;
        }
        Ok(())
    }

    /// A checkpoint that is damaged counts as empty: more is recovered than need be, and log starts go back to the
    /// first segment.
    fn read_checkpoint(&mut self, name: &str) -> io::Result<BTreeMap<TopicPartition, Offset>> {
        let path = self.path.join(name);
        let parsed = match read_text(&*self.disk, &path) {
            Ok(text) => parse_offsets(&text.unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(Malformed(error.to_string()))
            }
            Err(error) => return Err(error),
        };
        Ok(parsed.unwrap_or_else(|malformed| {
            let text = format!("{} is taken as empty: {malformed}", path.display());
            self.warnings.push(text);
            BTreeMap::new()
        }))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Who the directory belongs to; `None` where it was never formatted.
    pub fn meta(&self) -> Option<&MetaProperties> {
        self.meta.as_ref()
    }

    /// Whether the node that used the directory last stopped cleanly.
    pub fn was_clean(&self) -> bool {
        self.clean
    }

    /// The broker epoch that a clean stop left; `None` after a crash.
    pub fn clean_broker_epoch(&self) -> Option<i64> {
        self.broker_epoch
    }

    /// What was found damaged and passed over, for the log.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What the checkpoints say of a partition, for opening its log.
    pub fn hints(&self, partition: &TopicPartition) -> OpenHints {
        let of = |offsets: &BTreeMap<TopicPartition, Offset>| {
            offsets
                .get(partition)
                .copied()
                .unwrap_or(Offset::ZERO)
                .max(Offset::ZERO)
        };
        let recovery_point = match self.recovery_points_lost {
            true => Offset::NONE,
            false => of(&self.recovery_points),
        };
        OpenHints {
            clean: self.clean,
            recovery_point,
            log_start: of(&self.log_starts),
        }
    }

    /// The high watermark that was checkpointed last.
    pub fn high_watermark(&self, partition: &TopicPartition) -> Option<Offset> {
        self.high_watermarks.get(partition).copied()
    }

    /// Where the cleaner's checkpoint said that each log was clean to, when the directory was loaded.
    pub fn cleaner_offsets(&self) -> &BTreeMap<TopicPartition, Offset> {
        &self.cleaner_offsets
    }

    /// The partitions in the directory, but for the quorum's log; ordered by name.
    ///
    /// Errors: `InvalidData` for a directory that is no partition's. It is not known what it is, so nothing is done.
    pub fn partitions(&self) -> Result<Vec<PartitionDir>, Fault> {
        let listed = self.try_partitions();
        listed.map_err(|source| Fault::new(&self.path, source))
    }

    fn try_partitions(&self) -> io::Result<Vec<PartitionDir>> {
        let mut partitions = Vec::new();
        for entry in self.disk.list(&self.path)? {
            if !entry.is_dir || entry.name == REMOTE_INDEX_CACHE {
                continue;
            }
            let Some((partition, kind)) = names::parse_directory(&entry.name) else {
                let text = format!(
                    "{} is in a log directory but is not named <topic>-<partition>; move it elsewhere",
                    self.path.join(&entry.name).display()
                );
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            };
            if partition.topic != names::CLUSTER_METADATA_TOPIC {
                partitions.push(PartitionDir {
                    partition,
                    kind,
                    path: self.path.join(&entry.name),
                });
            }
        }
        Ok(partitions)
    }

    /// Where a partition's log is, or is to be made.
    pub fn partition_path(&self, partition: &TopicPartition) -> PathBuf {
        self.path.join(names::directory(partition))
    }

    /// Takes a partition's directory out of service by renaming it; its log must have been dropped. Returns the new
    /// path. A deleted one is to be removed after `file.delete.delay.ms`, by [`LogDir::remove`].
    pub fn rename(
        &self,
        partition: &TopicPartition,
        kind: DirectoryKind,
        unique: Uuid,
    ) -> Result<PathBuf, Fault> {
        let target = self.path.join(names::directory_as(partition, kind, unique));
        let from = self.partition_path(partition);
        let renamed = self
            .disk
            .rename(&from, &target)
            .and_then(|()| self.disk.sync_dir(&self.path));
        renamed.map_err(|source| Fault::new(&self.path, source))?;
        Ok(target)
    }

    /// Removes a directory that was renamed, with all that is in it.
    pub fn remove(&self, path: &Path) -> Result<(), Fault> {
        match self.disk.remove_dir_all(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Fault::new(&self.path, error))
            }
            _ => Ok(()),
        }
    }

    /// Writes the recovery points of all logs of this directory, durably.
    pub fn write_recovery_points<'a>(
        &self,
        offsets: impl ExactSizeIterator<Item = (&'a TopicPartition, Offset)>,
    ) -> Result<(), Fault> {
        self.write(RECOVERY_POINT_CHECKPOINT, &format_offsets(offsets))
    }

    /// Writes the starts of the logs that begin inside of their first segment, durably.
    pub fn write_log_starts<'a>(
        &self,
        offsets: impl ExactSizeIterator<Item = (&'a TopicPartition, Offset)>,
    ) -> Result<(), Fault> {
        self.write(LOG_START_CHECKPOINT, &format_offsets(offsets))
    }

    /// Writes the high watermarks of all partitions of this directory, durably.
    pub fn write_high_watermarks<'a>(
        &self,
        offsets: impl ExactSizeIterator<Item = (&'a TopicPartition, Offset)>,
    ) -> Result<(), Fault> {
        self.write(REPLICATION_CHECKPOINT, &format_offsets(offsets))
    }

    /// Writes how far each log of this directory is clean, durably.
    pub fn write_cleaner_offsets<'a>(
        &self,
        offsets: impl ExactSizeIterator<Item = (&'a TopicPartition, Offset)>,
    ) -> Result<(), Fault> {
        self.write(CLEANER_CHECKPOINT, &format_offsets(offsets))
    }

    /// Says who the directory belongs to, durably.
    pub fn write_meta(&mut self, meta: MetaProperties, now: Timestamp) -> Result<(), Fault> {
        self.write(meta_properties::FILE, &meta.format(now))?;
        self.meta = Some(meta);
        Ok(())
    }

    /// The last act of a clean stop: every log is closed and every checkpoint written.
    pub fn write_clean_shutdown(&self, broker_epoch: i64) -> Result<(), Fault> {
        self.write(clean_shutdown::FILE, &clean_shutdown::format(broker_epoch))
    }

    fn write(&self, name: &str, text: &str) -> Result<(), Fault> {
        let written = replace(&*self.disk, &self.path.join(name), text.as_bytes());
        written.map_err(|source| Fault::new(&self.path, source))
    }
}

fn read_text(disk: &dyn Disk, path: &Path) -> io::Result<Option<String>> {
    let Some(bytes) = read_all(disk, path, CHECKPOINT_BYTES_MAX)? else {
        return Ok(None);
    };
    let text = String::from_utf8(bytes).map_err(|_| {
        let text = format!("{} is not UTF-8", path.display());
        io::Error::new(io::ErrorKind::InvalidData, text)
    })?;
    Ok(Some(text))
}
