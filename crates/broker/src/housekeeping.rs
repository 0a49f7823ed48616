//! The work on disks that nobody waits for: flushes of closed segments, retention, checkpoints, deletes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use milena_base::{Instant, Now, TopicIdPartition};
use milena_disk::OpenMode;
use milena_image::Image;
use milena_log::{Closed, Fault, Flush, Log, remove_files};
use milena_raft::SnapshotBuilder;
use milena_replica::AppendRefused;
use tracing::{info, warn};

use crate::broker::{Broker, Hosted};
use crate::ctx::Outbox;
use crate::dirs::{self, Row};
use crate::mailbox::{Mailbox, Post};
use crate::quorum::QuorumEvent;

/// What the mailbox is told.
#[derive(Debug)]
pub enum Chore {
    /// A segment was closed.
    Flush {
        partition: TopicIdPartition,
        flush: Flush,
    },
    /// A partition's directory was renamed; it goes at this time.
    RemoveDir {
        dir: usize,
        path: PathBuf,
        due: Instant,
    },
    /// A metadata snapshot is to be written.
    Snapshot {
        builder: Box<SnapshotBuilder>,
        image: Box<Image>,
    },
    /// The logs that were there at the start are open.
    LogsLoaded,
    Stop,
}

impl From<Chore> for Post {
    fn from(chore: Chore) -> Post {
        Post::Chore(chore)
    }
}

/// The repeated work, each with the time when it is next due.
struct Schedule {
    retention: Instant,
    high_watermarks: Instant,
    recovery_points: Instant,
    log_starts: Instant,
    flushes: Instant,
    producers: Instant,
}

/// See the module's words.
pub struct Housekeeper {
    broker: Arc<Broker>,
    schedule: Schedule,
    removals: BTreeMap<(Instant, PathBuf), usize>,
    /// High watermarks as they were last written: an idle node writes nothing.
    written: BTreeMap<TopicIdPartition, (i64, i64, i64)>,
    stopped: bool,
}

impl Housekeeper {
    pub fn new(broker: Arc<Broker>, now: Now) -> Housekeeper {
        let s = broker.settings();
        let schedule = Schedule {
            // From when there are logs to look at.
            retention: Instant::NEVER,
            high_watermarks: now.mono + s.high_watermark_checkpoint_interval,
            recovery_points: now.mono + s.recovery_point_checkpoint_interval,
            log_starts: now.mono + s.log_start_checkpoint_interval,
            flushes: now.mono + s.flush_check_interval,
            producers: now.mono + s.producer_expiry_interval,
        };
        Housekeeper {
            broker,
            schedule,
            removals: BTreeMap::new(),
            written: BTreeMap::new(),
            stopped: false,
        }
    }

    fn flush(&self, id: TopicIdPartition, flush: &Flush, now: Now, out: &mut Outbox) {
        let Some(hosted) = self.broker.hosted(id) else {
            return; // deleted meanwhile
        };
        match hosted.partition.make_durable(flush, now) {
            Ok(true) => self.broker.high_watermark_moved(id, &hosted, out),
            Ok(false) => {}
            Err(AppendRefused::Fault(fault)) => self.broker.on_fault(fault, out),
            Err(AppendRefused::Refused(..)) => {}
        }
    }

    fn retention(&mut self, now: Now, out: &mut Outbox) {
        for (id, hosted) in self.broker.all_hosted() {
            let high_watermark = hosted.partition.high_watermark();
            let kept = hosted.partition.with_log(|log| {
                log.close_idle_files();
                log.retention(now, high_watermark)
            });
            match kept {
                Some(Ok(done)) => {
                    if done.segments > 0 {
                        let name = &hosted.partition.name;
                        info!(partition = %name, segments = done.segments, bytes = done.bytes, "retention dropped");
                    }
                    if let Some(flush) = done.rolled {
                        self.flush(id, &flush, now, out);
                    }
                }
                Some(Err(fault)) => self.broker.on_fault(fault, out),
                None => {}
            }
        }
    }

    fn expire_producers(&self, now: Now) {
        for (_, hosted) in self.broker.all_hosted() {
            hosted
                .partition
                .with_log(|log| log.expire_producers(now.wall));
        }
    }

    /// Flushes logs whose `flush.ms` has passed, and removes files whose delay has passed.
    fn flush_and_remove(&mut self, now: Now, out: &mut Outbox) {
        for (id, hosted) in self.broker.all_hosted() {
            let work = hosted.partition.with_log(|log| flush_work(log, now));
            let Some((due, flush)) = work else { continue };
            for path in due {
                // One that is not there had the name of a later one, and went with it.
                if let Err(error) = remove_files(&*self.broker.dirs.disk, &[path]) {
                    warn!("a deleted segment's file stays: {error}");
                }
            }
            match flush {
                Ok(Some(flush)) => self.flush(id, &flush, now, out),
                Ok(None) => {}
                Err(fault) => self.broker.on_fault(fault, out),
            }
        }
    }

    fn remove_dirs(&mut self, now: Now, out: &mut Outbox) {
        while let Some(entry) = self.removals.first_entry() {
            if entry.key().0 > now.mono {
                return;
            }
            let ((_, path), dir) = entry.remove_entry();
            if let Err(fault) = self.broker.dirs.get(dir).log_dir.remove(&path) {
                self.broker.on_fault(fault, out);
            }
        }
    }

    fn checkpoint(
        &mut self,
        out: &mut Outbox,
        write: fn(&milena_log::LogDir, &[Row]) -> Result<(), Fault>,
    ) {
        let rows = rows(&self.broker);
        for (index, dir) in self.broker.dirs.all().iter().enumerate() {
            if dir.is_offline() {
                continue;
            }
            let mine = rows.get(&index).map_or(&[][..], Vec::as_slice);
            if let Err(fault) = write(&dir.log_dir, mine) {
                self.broker.on_fault(fault, out);
            }
        }
    }

    /// Writes a snapshot beside its name, makes it durable, and renames it.
    fn write_snapshot(
        &self,
        mut builder: SnapshotBuilder,
        image: &Image,
        now: Now,
    ) -> Result<(), String> {
        let id = builder.id();
        let dir = &self.broker.settings().metadata_dir;
        let name = format!("{:020}-{:010}.checkpoint", id.offset.0, id.epoch.0);
        let (part, path) = (dir.join(format!("{name}.part")), dir.join(&name));
        let disk = &*self.broker.dirs.disk;
        let file = disk
            .open(&part, OpenMode::Create)
            .map_err(|e| e.to_string())?;
        file.set_len(0).map_err(|e| e.to_string())?;
        let mut end = 0;
        let mut put = |batches: Vec<bytes::Bytes>| -> Result<(), String> {
            for batch in batches {
                file.write_all_at(&[&batch], end)
                    .map_err(|e| e.to_string())?;
                end += batch.len() as u64;
            }
            Ok(())
        };
        let records = image
            .to_records(image.metadata_version())
            .map_err(|e| e.0)?;
        for (record, version) in records {
            let value = record.encode(version).map_err(|e| e.to_string())?;
            builder.append(value, now.wall);
            put(builder.take())?;
        }
        put(builder.finish(now.wall))?;
        file.sync_all().map_err(|e| e.to_string())?;
        let placed = disk.rename(&part, &path).and_then(|()| disk.sync_dir(dir));
        placed
            .and_then(|()| disk.set_read_only(&path))
            .map_err(|e| e.to_string())
    }

    /// Whether any offset that a checkpoint holds has moved since the last look.
    fn moved(&mut self) -> bool {
        let mut fresh = BTreeMap::new();
        for (id, hosted) in self.broker.all_hosted() {
            let reader = hosted.partition.reader();
            let offsets = (
                hosted.partition.high_watermark().0,
                reader.recovery_point().0,
                reader.log_start().0,
            );
            fresh.insert(id, offsets);
        }
        let moved = fresh != self.written;
        self.written = fresh;
        moved
    }
}

fn flush_work(log: &mut Log, now: Now) -> (Vec<PathBuf>, Result<Option<Flush>, Fault>) {
    let due = log.take_due_deletions(now.mono);
    let flush = match log.is_flush_due_by_time(now.mono) {
        true => log.start_flush(),
        false => Ok(None),
    };
    (due, flush)
}

/// The checkpoints' rows by directory.
fn rows(broker: &Broker) -> BTreeMap<usize, Vec<Row>> {
    let mut rows: BTreeMap<usize, Vec<Row>> = BTreeMap::new();
    for (_, hosted) in broker.all_hosted() {
        if let Some(row) = row(&hosted) {
            rows.entry(hosted.dir).or_default().push(row);
        }
    }
    rows
}

fn row(hosted: &Hosted) -> Option<Row> {
    let end = hosted.partition.with_log(|log| Closed {
        log_start: log.log_start(),
        first_segment_base: log.first_segment_base(),
        recovery_point: log.recovery_point(),
    })?;
    Some(Row {
        name: hosted.partition.name.clone(),
        end,
        high_watermark: hosted.partition.high_watermark(),
    })
}

impl Mailbox for Housekeeper {
    type Event = Chore;

    fn step(&mut self, chore: Chore, now: Now, out: &mut Outbox) {
        match chore {
            Chore::Flush { partition, flush } => self.flush(partition, &flush, now, out),
            Chore::RemoveDir { dir, path, due } => {
                self.removals.insert((due, path), dir);
            }
            Chore::Snapshot { builder, image } => {
                let id = builder.id();
                let written = self.write_snapshot(*builder, &image, now);
                match &written {
                    Ok(()) => info!(offset = id.offset.0, "wrote a metadata snapshot"),
                    Err(why) => warn!("a metadata snapshot was not written: {why}"),
                }
                out.post(QuorumEvent::SnapshotWritten(id, written.is_ok()));
            }
            Chore::LogsLoaded => {
                // As Kafka does it, the first look comes soon after the start.
                let s = self.broker.settings();
                let delay = s.retention_check_interval.min(s.initial_task_delay);
                self.schedule.retention = now.mono + delay;
            }
            Chore::Stop => self.stopped = true,
        }
    }

    fn tick(&mut self, now: Now, out: &mut Outbox) {
        let s = self.broker.settings().clone();
        let due = |at: &mut Instant, every| {
            let is_due = *at <= now.mono;
            if is_due {
                *at = now.mono + every;
            }
            is_due
        };
        if due(&mut self.schedule.retention, s.retention_check_interval) {
            self.retention(now, out);
        }
        if due(&mut self.schedule.flushes, s.flush_check_interval) {
            self.flush_and_remove(now, out);
        }
        if due(
            &mut self.schedule.high_watermarks,
            s.high_watermark_checkpoint_interval,
        ) && self.moved()
        {
            self.checkpoint(out, dirs::write_high_watermarks);
        }
        if due(
            &mut self.schedule.recovery_points,
            s.recovery_point_checkpoint_interval,
        ) {
            self.checkpoint(out, dirs::write_recovery_points);
        }
        if due(
            &mut self.schedule.log_starts,
            s.log_start_checkpoint_interval,
        ) {
            self.checkpoint(out, dirs::write_log_starts);
        }
        if due(&mut self.schedule.producers, s.producer_expiry_interval) {
            self.expire_producers(now);
        }
        self.remove_dirs(now, out);
    }

    fn deadline(&self) -> Instant {
        let s = &self.schedule;
        let times = [
            s.retention,
            s.high_watermarks,
            s.recovery_points,
            s.log_starts,
            s.flushes,
            s.producers,
        ];
        let removal = self.removals.keys().map(|(at, _)| *at).next();
        times
            .into_iter()
            .chain(removal)
            .min()
            .unwrap_or(Instant::NEVER)
    }

    fn is_finished(&self) -> bool {
        self.stopped
    }
}
