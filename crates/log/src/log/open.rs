//! Opening a partition's directory. After a clean stop nothing is scanned but the few batches behind the last index
//! entry; after a crash what lies beyond the recovery point is checked, whatever wrote it.

mod files;

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use arc_swap::ArcSwap;
use milena_base::{Instant, Now, Offset, TopicPartition, Uuid};
use milena_disk::{Disk, Generation, read_all};

use crate::checkpoint::parse_epochs;
use crate::epochs::LeaderEpochs;
use crate::error::Fault;
use crate::log::recover::{Rebuilt, epochs_of, load_producers, recover_segment};
use crate::log::snapshots::Snapshots;
use crate::log::{Log, Segments, Shared, Versions};
use crate::names::{FileKind, LEADER_EPOCH_CHECKPOINT, PARTITION_METADATA};
use crate::options::LogOptions;
use crate::partition_metadata;
use crate::producers::ProducerState;
use crate::segment::{Appender, Env, Segment, rename_to_deleted};
use files::Listing;

/// A small text file is not larger than this.
pub(crate) const TEXT_BYTES_MAX: u64 = 16 << 20;

/// What the log directory knows of a partition that is opened.
#[derive(Clone, Copy, Debug)]
pub struct OpenHints {
    /// The directory was stopped cleanly: nothing needs recovery.
    pub clean: bool,
    /// From the recovery point checkpoint; 0 where it says nothing of the partition, −1 where it cannot be read.
    pub recovery_point: Offset,
    /// From the log start checkpoint; 0 where it says nothing.
    pub log_start: Offset,
}

impl OpenHints {
    /// For a partition that is new.
    pub const NEW: OpenHints = OpenHints {
        clean: true,
        recovery_point: Offset::ZERO,
        log_start: Offset::ZERO,
    };
}

/// What opening did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// The directory was made.
    pub created: bool,
    /// Segments whose batches were checked.
    pub recovered_segments: usize,
    /// Bytes of their log files.
    pub recovered_bytes: u64,
    /// Bytes that were cut off because they were no batches.
    pub truncated_bytes: u64,
    /// Segments that were dropped, since they came after a damaged one or before the log's start.
    pub dropped_segments: usize,
}

struct Loader<'a> {
    env: Arc<Env>,
    options: &'a LogOptions,
    hints: OpenHints,
    now: Now,
    segments: Segments,
    /// Segments whose indexes are missing or of impossible length.
    damaged: BTreeSet<Offset>,
    snapshots: Snapshots,
    epochs: LeaderEpochs,
    epochs_dirty: bool,
    producers: Option<ProducerState>,
    recovered: Vec<Offset>,
    opened: Opened,
}

impl Log {
    /// Opens a partition's directory, or makes it. Blocks on the disk; after a crash it may take seconds.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        partition: TopicPartition,
        options: LogOptions,
        hints: OpenHints,
        now: Now,
    ) -> Result<(Log, Opened), Fault> {
        let env = Arc::new(Env {
            disk,
            dir: dir.to_path_buf(),
        });
        let opened = Loader::load(&env, partition, options, hints, now);
        opened.map_err(|source| env.fault(source))
    }
}

impl Loader<'_> {
    fn load(
        env: &Arc<Env>,
        partition: TopicPartition,
        options: LogOptions,
        hints: OpenHints,
        now: Now,
    ) -> io::Result<(Log, Opened)> {
        let created = env.disk.stat(&env.dir)?.is_none();
        if created {
            env.disk.create_dir_all(&env.dir)?;
        }
        let listing = files::tidy_and_list(env)?;
        let mut loader = Loader {
            env: Arc::clone(env),
            options: &options,
            hints,
            now,
            segments: Segments::new(),
            damaged: BTreeSet::new(),
            snapshots: Snapshots::new(listing.snapshots.clone()),
            epochs: LeaderEpochs::default(),
            epochs_dirty: created,
            producers: None,
            recovered: Vec::new(),
            opened: Opened {
                created,
                ..Opened::default()
            },
        };
        loader.collect_segments(&listing);
        loader.load_epochs(&listing)?;
        loader.recover()?;
        let next = loader.find_end()?;
        let topic_id = loader.topic_id(&listing)?;
        let opened = loader.opened;
        let log = loader.finish(partition, next, topic_id)?;
        let log = log.into_log(options, now.mono);
        Ok((log, opened))
    }

    /// A closed segment's end is told by the base of the next.
    fn collect_segments(&mut self, listing: &Listing) {
        let bases: Vec<Offset> = listing.segments.keys().copied().collect();
        for (index, (base, lens)) in listing.segments.iter().enumerate() {
            let furthest = *base + (i64::from(i32::MAX) + 1);
            let next = bases
                .get(index + 1)
                .map_or(*base, |next| (*next).min(furthest));
            if !files::are_plausible(lens) {
                self.damaged.insert(*base);
            }
            let segment = Segment::of_files(&self.env, *base, *lens, next);
            self.segments.push(Arc::new(segment));
        }
    }

    fn load_epochs(&mut self, listing: &Listing) -> io::Result<()> {
        let path = self.env.dir.join(LEADER_EPOCH_CHECKPOINT);
        let text = match listing.epochs_len {
            Some(1..) => read_all(&*self.env.disk, &path, TEXT_BYTES_MAX)?,
            _ => None,
        };
        let parsed = text
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .and_then(|text| parse_epochs(&text).ok());
        if let Some(epochs) = parsed {
            self.epochs = epochs;
            return Ok(());
        }
        self.epochs_dirty = true;
        self.epochs = epochs_of(&self.segments)?;
        Ok(())
    }

    fn recover(&mut self) -> io::Result<()> {
        if !self.hints.clean {
            // Before anything is built on them: a recovery that is interrupted and begins again finds the same.
            let start = self.start();
            self.snapshots
                .remove_outside(&self.env, start, Offset(i64::MAX))?;
        }
        let unflushed_from = match self.hints.clean {
            true => self.segments.len(),
            false => self
                .segments
                .partition_point(|segment| segment.base() <= self.hints.recovery_point)
                .saturating_sub(1),
        };
        let mut index = 0;
        while index < self.segments.len() {
            let unflushed = index >= unflushed_from;
            if unflushed || self.damaged.contains(&self.segments[index].base()) {
                let truncated = self.recover_at(index)?;
                if unflushed && (truncated > 0 || self.is_gap_behind(index)) {
                    self.drop_segments_from(index + 1)?;
                }
            } else {
                self.producers = None;
            }
            index += 1;
        }
        Ok(())
    }

    /// Where the log starts: the checkpoint may be from before a deletion of segments.
    fn start(&self) -> Offset {
        let first = self.segments.first();
        first
            .map_or(self.hints.log_start, |first| first.base())
            .max(self.hints.log_start)
    }

    /// Whether the next segment does not begin where this one, just recovered, ends: a power cut took whole batches
    /// between them. In a compacted log that is no sign of a loss.
    fn is_gap_behind(&self, index: usize) -> bool {
        let end = self.segments[index].next_offset();
        let next = self.segments.get(index + 1).map(|next| next.base());
        // Of what was deleted some may be back, with gaps: it lies before the start, or before the recovery point.
        let unflushed =
            |next| next > self.hints.log_start && self.hints.recovery_point >= Offset::ZERO;
        !self.options.cleanup.compact && next.is_some_and(|next| next != end && unflushed(next))
    }

    fn recover_at(&mut self, index: usize) -> io::Result<u64> {
        let segment = Arc::clone(&self.segments[index]);
        let mut producers = self.producers_at(index)?;
        let size = u64::from(segment.size());
        let mut rebuilt = Rebuilt {
            producers: &mut producers,
            epochs: &mut self.epochs,
            log_start: self.hints.log_start,
        };
        let epochs_before = rebuilt.epochs.clone();
        let truncated = recover_segment(&segment, self.options, &mut rebuilt)?;
        self.epochs_dirty |= self.epochs != epochs_before;
        self.snapshots.take(&self.env, &producers)?;
        self.producers = Some(producers);
        self.recovered.push(segment.base());
        self.opened.recovered_segments += 1;
        self.opened.recovered_bytes += size;
        self.opened.truncated_bytes += truncated;
        Ok(truncated)
    }

    /// The producers at the start of a segment that is to be recovered.
    fn producers_at(&mut self, index: usize) -> io::Result<ProducerState> {
        if let Some(producers) = self.producers.take() {
            return Ok(producers);
        }
        let base = self.segments[index].base();
        load_producers(
            &self.env,
            &self.segments[..index],
            &mut self.snapshots,
            self.options,
            self.hints.log_start,
            base,
            self.now,
        )
    }

    fn drop_segments_from(&mut self, index: usize) -> io::Result<()> {
        for segment in self.segments.split_off(index) {
            segment.close_files();
            rename_to_deleted(&self.env, segment.base(), &FileKind::INDEXES)?;
            rename_to_deleted(&self.env, segment.base(), &[FileKind::Log])?;
            self.snapshots
                .rename_to_deleted(&self.env, segment.base())?;
            self.opened.dropped_segments += 1;
        }
        Ok(())
    }

    /// Finds where the log ends, and makes the first segment where there is none.
    fn find_end(&mut self) -> io::Result<Offset> {
        if let Some(last) = self.segments.last() {
            let next = match last.read_next_offset(last.size())? {
                Some(next) => next,
                None => {
                    self.recover_at(self.segments.len() - 1)?;
                    self.segments[self.segments.len() - 1].next_offset()
                }
            };
            if next >= self.hints.log_start {
                let last = &self.segments[self.segments.len() - 1];
                last.set_next_offset(next);
                // Thousands of partitions lie idle: a file is opened again when it is needed.
                last.close_files();
                return Ok(next);
            }
            // Files are missing: what is left lies before the log's start.
            self.drop_segments_from(0)?;
            self.snapshots.clear(&self.env)?;
            self.epochs.clear();
            self.epochs_dirty = true;
            self.producers = None;
        }
        let start = self.hints.log_start;
        self.segments
            .push(Arc::new(Segment::create(&self.env, start, self.options)?));
        Ok(start)
    }

    fn topic_id(&self, listing: &Listing) -> io::Result<Option<Uuid>> {
        if listing.metadata_len.is_none() {
            return Ok(None);
        }
        let path = self.env.dir.join(PARTITION_METADATA);
        let bytes = read_all(&*self.env.disk, &path, TEXT_BYTES_MAX)?.unwrap_or_default();
        match partition_metadata::parse(&bytes) {
            Ok(id) => Ok(Some(id)),
            // Torn by a power cut before its first flush; the metadata knows the id.
            Err(_) if bytes.is_empty() && !self.hints.clean => Ok(None),
            Err(malformed) => {
                let text = format!("{}: {malformed}", path.display());
                Err(io::Error::new(io::ErrorKind::InvalidData, text))
            }
        }
    }

    fn finish(
        mut self,
        partition: TopicPartition,
        next: Offset,
        topic_id: Option<Uuid>,
    ) -> io::Result<Parts> {
        let start = self.start();
        self.epochs_dirty |= self.epochs.truncate_from_end(next);
        self.epochs_dirty |= self.epochs.truncate_from_start(self.hints.log_start);
        let bases = self.segments.iter().map(|segment| segment.base()).collect();
        self.snapshots.remove_strays(&self.env, &bases)?;
        let producers = self.settle_producers(start, next)?;
        let recovery_point = match self.hints.clean {
            true => next,
            false => self.hints.recovery_point.min(next).max(start),
        };
        let first_unstable = producers.first_unstable_offset();
        let first_unstable = first_unstable.map_or(Offset::NONE, |first| first.max(start));
        let active = self
            .segments
            .last()
            .map(Arc::clone)
            .ok_or(io::ErrorKind::NotFound)?;
        let shared = Shared {
            env: Arc::clone(&self.env),
            partition,
            segments: ArcSwap::from_pointee(self.segments),
            epochs: ArcSwap::from_pointee(self.epochs),
            generation: Generation::new(),
            log_start: AtomicI64::new(start.0),
            log_end: AtomicI64::new(next.0),
            recovery_point: AtomicI64::new(recovery_point.0),
            first_unstable: AtomicI64::new(first_unstable.0),
        };
        Ok(Parts {
            shared: Arc::new(shared),
            active,
            producers,
            snapshots: self.snapshots,
            topic_id,
            recovered: self.recovered,
            epochs_dirty: self.epochs_dirty,
            unsynced: !self.hints.clean || self.opened.created,
            now: self.now,
        })
    }

    /// A log from before there were snapshots, or one whose producers are all forgotten: it has no producers, and
    /// says so, as Kafka's does, at its end and at the base of its last two segments.
    fn snapshot_nothing(&mut self, next: Offset) -> io::Result<ProducerState> {
        let last_two = self.segments.len().saturating_sub(2);
        let bases = self.segments[last_two..]
            .iter()
            .map(|segment| segment.base());
        let mut state = ProducerState::starting_at(next);
        for offset in bases.chain([next]) {
            state.set_end(offset);
            self.snapshots.take(&self.env, &state)?;
        }
        Ok(state)
    }

    /// The producers at the log's end: carried over from recovery, or from the snapshot of a clean stop.
    fn settle_producers(&mut self, start: Offset, next: Offset) -> io::Result<ProducerState> {
        if self.snapshots.is_empty() && self.hints.clean && self.producers.is_none() {
            return self.snapshot_nothing(next);
        }
        self.snapshots.remove_outside(&self.env, start, next)?;
        if let Some(producers) = self.producers.take().filter(|state| state.end() == next) {
            return Ok(producers);
        }
        let producers = load_producers(
            &self.env,
            &self.segments,
            &mut self.snapshots,
            self.options,
            start,
            next,
            self.now,
        )?;
        self.snapshots.take(&self.env, &producers)?;
        Ok(producers)
    }
}

/// A log that is loaded, but for its options.
struct Parts {
    shared: Arc<Shared>,
    active: Arc<Segment>,
    producers: ProducerState,
    snapshots: Snapshots,
    topic_id: Option<Uuid>,
    recovered: Vec<Offset>,
    epochs_dirty: bool,
    unsynced: bool,
    now: Now,
}

impl Parts {
    fn into_log(self, options: LogOptions, now: Instant) -> Log {
        Log {
            shared: self.shared,
            active: self.active,
            appender: Appender::new(self.now.wall),
            options,
            producers: self.producers,
            snapshots: self.snapshots,
            topic_id: self.topic_id,
            epochs_version: Versions::new(self.epochs_dirty),
            dir_version: Versions::new(self.unsynced),
            parent_version: Versions::new(self.unsynced),
            cut_version: Versions::new(self.unsynced),
            epochs_written: Arc::default(),
            sealed: self.recovered,
            indexes_dirty: self.unsynced,
            last_flush: now,
            deletions: Vec::new(),
            cut_to: None,
            broken: None,
        }
    }
}
