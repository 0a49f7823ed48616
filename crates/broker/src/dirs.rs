//! The node's log directories: which partition lies where, what their checkpoints say, and what becomes of one whose
//! disk failed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use milena_base::{Now, Offset, TopicPartition, Uuid};
use milena_disk::Disk;
use milena_log::names::DirectoryKind;
use milena_log::{Closed, Fault, Log, LogDir, LogOptions};
use tracing::{error, info, warn};

use crate::broker::Broker;
use crate::ctx::Outbox;
use crate::lifecycle::LifecycleEvent;

/// One entry of `log.dirs`.
pub struct Dir {
    pub id: Uuid,
    pub log_dir: LogDir,
    offline: AtomicBool,
    /// Said once, until an append succeeds again.
    full: AtomicBool,
}

impl Dir {
    pub fn is_offline(&self) -> bool {
        self.offline.load(Ordering::Acquire)
    }
}

/// All of them, in the order of `log.dirs`.
pub struct Dirs {
    pub disk: Arc<dyn Disk>,
    dirs: Vec<Dir>,
}

impl Dirs {
    /// Directories that are locked and loaded.
    pub fn new(disk: Arc<dyn Disk>, loaded: Vec<(Uuid, LogDir)>) -> Dirs {
        let dirs = loaded.into_iter().map(|(id, log_dir)| Dir {
            id,
            log_dir,
            offline: AtomicBool::new(false),
            full: AtomicBool::new(false),
        });
        Dirs {
            disk,
            dirs: dirs.collect(),
        }
    }

    pub fn all(&self) -> &[Dir] {
        &self.dirs
    }

    pub fn get(&self, index: usize) -> &Dir {
        &self.dirs[index]
    }

    pub fn index_of(&self, id: Uuid) -> Option<usize> {
        self.dirs.iter().position(|dir| dir.id == id)
    }

    pub fn any_online(&self) -> bool {
        self.dirs.iter().any(|dir| !dir.is_offline())
    }

    /// The directory that holds a partition already.
    pub fn holding(&self, partition: &TopicPartition) -> Option<usize> {
        let holds = |dir: &Dir| {
            let path = dir.log_dir.partition_path(partition);
            matches!(self.disk.stat(&path), Ok(Some(stat)) if stat.is_dir)
        };
        let online = self
            .dirs
            .iter()
            .enumerate()
            .filter(|(_, dir)| !dir.is_offline());
        online.filter(|(_, dir)| holds(dir)).map(|(i, _)| i).next()
    }

    /// The online directory with the fewest partitions.
    pub fn emptiest(&self, broker: &Broker) -> Option<usize> {
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        if self.dirs.len() > 1 {
            for (_, hosted) in broker.all_hosted() {
                *counts.entry(hosted.dir).or_default() += 1;
            }
        }
        let online = (0..self.dirs.len()).filter(|i| !self.dirs[*i].is_offline());
        online.min_by_key(|i| counts.get(i).copied().unwrap_or(0))
    }

    /// Opens a partition's log, or makes it.
    pub fn open(
        &self,
        index: usize,
        partition: &TopicPartition,
        options: LogOptions,
        now: Now,
    ) -> Result<(Log, Offset), Fault> {
        let dir = &self.dirs[index].log_dir;
        let (log, opened) = Log::open(
            self.disk.clone(),
            &dir.partition_path(partition),
            partition.clone(),
            options,
            dir.hints(partition),
            now,
        )?;
        if opened.recovered_segments > 0 || opened.dropped_segments > 0 {
            info!(
                %partition,
                segments = opened.recovered_segments,
                bytes = opened.recovered_bytes,
                cut = opened.truncated_bytes,
                "recovered"
            );
        }
        let high_watermark = dir.high_watermark(partition);
        Ok((log, high_watermark.unwrap_or(Offset::ZERO)))
    }

    /// Takes a partition's directory out of service; its log must have been dropped.
    pub fn retire(
        &self,
        index: usize,
        partition: &TopicPartition,
        kind: DirectoryKind,
        unique: Uuid,
    ) -> Result<std::path::PathBuf, Fault> {
        self.dirs[index].log_dir.rename(partition, kind, unique)
    }

    /// Says once that a disk is full; appends are refused until there is space.
    pub(crate) fn note_full(&self, fault: &Fault) {
        let full = self
            .of(fault)
            .is_none_or(|dir| !dir.full.swap(true, Ordering::AcqRel));
        if full {
            error!("no space: {fault}; appends there are refused until there is some");
        }
    }

    /// Takes the directory of a failed file offline until the next start, with all its partitions.
    pub(crate) fn take_offline(&self, broker: &Broker, fault: &Fault, out: &mut Outbox) {
        let Some((index, dir)) = self.index_and_dir(fault) else {
            error!("a disk failed outside of the log directories: {fault}");
            return;
        };
        if dir.offline.swap(true, Ordering::AcqRel) {
            return;
        }
        error!(
            "log directory {} is offline: {fault}",
            dir.log_dir.path().display()
        );
        for (_, hosted) in broker.all_hosted() {
            if hosted.dir == index {
                hosted.partition.go_offline();
            }
        }
        out.post(LifecycleEvent::DirectoryFailed(dir.id));
        if !self.any_online() {
            let why = "every log directory has failed".to_owned();
            out.post(crate::mailbox::Post::Halt(why));
        }
    }

    fn of(&self, fault: &Fault) -> Option<&Dir> {
        self.index_and_dir(fault).map(|(_, dir)| dir)
    }

    fn index_and_dir(&self, fault: &Fault) -> Option<(usize, &Dir)> {
        let mut all = self.dirs.iter().enumerate();
        all.find(|(_, dir)| fault.dir.starts_with(dir.log_dir.path()))
    }

    /// Closes all logs and leaves every directory as a clean stop leaves it. Directories with a log that could not be
    /// closed are left to recovery.
    pub fn close(&self, broker: &Broker, now: Now) {
        let mut closed: Vec<Result<Vec<Row>, ()>> = Vec::new();
        closed.resize_with(self.dirs.len(), || Ok(Vec::new()));
        for (_, hosted) in broker.all_hosted() {
            let high_watermark = hosted.partition.high_watermark();
            let Some(log) = hosted.partition.take_log() else {
                continue;
            };
            match (log.close_cleanly(now), &mut closed[hosted.dir]) {
                (Ok(end), Ok(rows)) => rows.push(Row {
                    name: hosted.partition.name.clone(),
                    end,
                    high_watermark,
                }),
                (Ok(_), Err(())) => {}
                (Err(fault), slot) => {
                    warn!("{} could not be closed: {fault}", hosted.partition.name);
                    *slot = Err(());
                }
            }
        }
        for (dir, rows) in self.dirs.iter().zip(closed) {
            let Ok(rows) = rows else { continue };
            if dir.is_offline() {
                continue;
            }
            if let Err(fault) = leave_clean(&dir.log_dir, &rows, broker.broker_epoch()) {
                warn!("log directory is left unclean: {fault}");
            }
        }
    }
}

/// What the checkpoints say of one partition.
pub(crate) struct Row {
    pub name: TopicPartition,
    pub end: Closed,
    pub high_watermark: Offset,
}

fn leave_clean(dir: &LogDir, rows: &[Row], broker_epoch: i64) -> Result<(), Fault> {
    write_checkpoints(dir, rows)?;
    dir.write_clean_shutdown(broker_epoch)
}

pub(crate) fn write_checkpoints(dir: &LogDir, rows: &[Row]) -> Result<(), Fault> {
    write_recovery_points(dir, rows)?;
    write_log_starts(dir, rows)?;
    write_high_watermarks(dir, rows)
}

pub(crate) fn write_recovery_points(dir: &LogDir, rows: &[Row]) -> Result<(), Fault> {
    dir.write_recovery_points(rows.iter().map(|row| (&row.name, row.end.recovery_point)))
}

pub(crate) fn write_log_starts(dir: &LogDir, rows: &[Row]) -> Result<(), Fault> {
    let moved = rows
        .iter()
        .filter(|row| row.end.log_start > row.end.first_segment_base);
    let moved: Vec<_> = moved.map(|row| (&row.name, row.end.log_start)).collect();
    dir.write_log_starts(moved.into_iter())
}

pub(crate) fn write_high_watermarks(dir: &LogDir, rows: &[Row]) -> Result<(), Fault> {
    dir.write_high_watermarks(rows.iter().map(|row| (&row.name, row.high_watermark)))
}
