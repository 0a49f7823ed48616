//! One partition's log: the writer's half. Its owner holds the partition's one lock for each call.

mod append;
mod delete;
mod flush;
mod open;
mod recover;
mod roll;
mod snapshots;
mod truncate;

use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use milena_base::{Epoch, ErrorCode, Instant, Offset, TopicPartition, Uuid};
use milena_disk::{Generation, replace};

use crate::epochs::LeaderEpochs;
use crate::error::{AppendError, Fault};
use crate::names::PARTITION_METADATA;
use crate::options::LogOptions;
use crate::partition_metadata;
use crate::producers::{ProducerEntry, ProducerState};
use crate::reader::LogReader;
use crate::segment::{Appender, Env, Segment};
pub use append::LogAppended;
pub use delete::Retained;
pub use flush::Flush;
pub use open::{OpenHints, Opened};
pub use roll::Closed;

/// Segments in the order of their base offsets; never empty.
pub(crate) type Segments = Vec<Arc<Segment>>;

/// What the writer shows its readers. Order of publication at an append: the segment's end, then `log_end`; when
/// segments come or go: the view first, then what points into it.
#[derive(Debug)]
pub(crate) struct Shared {
    pub env: Arc<Env>,
    pub partition: TopicPartition,
    pub segments: ArcSwap<Segments>,
    pub epochs: ArcSwap<LeaderEpochs>,
    pub generation: Generation,
    log_start: AtomicI64,
    log_end: AtomicI64,
    recovery_point: AtomicI64,
    /// −1 without an undecided transaction.
    first_unstable: AtomicI64,
}

impl Shared {
    pub(crate) fn log_start(&self) -> Offset {
        Offset(self.log_start.load(Ordering::Acquire))
    }

    pub(crate) fn log_end(&self) -> Offset {
        Offset(self.log_end.load(Ordering::Acquire))
    }

    pub(crate) fn recovery_point(&self) -> Offset {
        Offset(self.recovery_point.load(Ordering::Acquire))
    }

    pub(crate) fn first_unstable(&self) -> Option<Offset> {
        let offset = Offset(self.first_unstable.load(Ordering::Acquire));
        (offset >= Offset::ZERO).then_some(offset)
    }
}

/// Something that a flush makes durable: which state it is in, and which state is durable.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Versions {
    current: u64,
    durable: u64,
}

impl Versions {
    fn new(dirty: bool) -> Versions {
        Versions {
            current: u64::from(dirty),
            durable: 0,
        }
    }

    pub(crate) fn change(&mut self) {
        self.current += 1;
    }

    fn is_dirty(self) -> bool {
        self.current > self.durable
    }
}

/// Files that were renamed to `.deleted`, and when they go.
#[derive(Debug)]
pub(crate) struct Deletion {
    pub(crate) due: Instant,
    pub(crate) paths: Vec<PathBuf>,
}

/// The log of one partition, as its single writer holds it.
///
/// Invariants: `log_start <= log_end`; `recovery_point <= log_end`; the last segment of the view is `active`, and
/// `log_end` is where it ends; `producers.end() == log_end` between two calls.
#[derive(Debug)]
pub struct Log {
    pub(crate) shared: Arc<Shared>,
    pub(crate) active: Arc<Segment>,
    appender: Appender,
    pub(crate) options: LogOptions,
    pub(crate) producers: ProducerState,
    pub(crate) snapshots: snapshots::Snapshots,
    topic_id: Option<Uuid>,
    epochs_version: Versions,
    /// Version of the newest checkpoint of the epochs that a flush has written.
    epochs_written: Arc<Mutex<u64>>,
    /// Of the directory: each file that is made in it counts one up.
    pub(crate) dir_version: Versions,
    /// Of the directory's own entry in its parent.
    parent_version: Versions,
    /// Of the active segment's length, which a recovery has cut.
    cut_version: Versions,
    /// Closed segments whose indexes may not be durable. The recovery point does not speak of them: it may have
    /// passed a segment before that was closed.
    sealed: Vec<Offset>,
    /// The active segment's indexes may not be durable, which only a clean stop asks for.
    indexes_dirty: bool,
    last_flush: Instant,
    pub(crate) deletions: Vec<Deletion>,
    /// The lowest offset that the log was cut back to since the cleaner last took note.
    pub(crate) cut_to: Option<Offset>,
    /// Why nothing may be written any more.
    pub(crate) broken: Option<String>,
}

impl Log {
    /// A reader's half; cheap to clone, needs no lock.
    pub fn reader(&self) -> LogReader {
        LogReader::new(Arc::clone(&self.shared))
    }

    pub fn partition(&self) -> &TopicPartition {
        &self.shared.partition
    }

    /// The partition's directory.
    pub fn dir(&self) -> &std::path::Path {
        &self.shared.env.dir
    }

    pub fn options(&self) -> &LogOptions {
        &self.options
    }

    /// Takes over a changed topic configuration; it holds from the next call on.
    pub fn set_options(&mut self, options: LogOptions) {
        self.options = options;
    }

    /// The first offset that may be read.
    pub fn log_start(&self) -> Offset {
        self.shared.log_start()
    }

    /// The offset that the next record gets.
    pub fn log_end(&self) -> Offset {
        self.shared.log_end()
    }

    /// Everything below is on the disk and needs no recovery.
    pub fn recovery_point(&self) -> Offset {
        self.shared.recovery_point()
    }

    /// Base offset of the first segment: the log start is kept in a checkpoint only where it is larger.
    pub fn first_segment_base(&self) -> Offset {
        let segments = self.shared.segments.load();
        segments
            .first()
            .map_or(self.log_start(), |segment| segment.base())
    }

    /// The topic's id, from `partition.metadata` or [`Log::assign_topic_id`].
    pub fn topic_id(&self) -> Option<Uuid> {
        self.topic_id
    }

    /// Notes the topic's id in the directory, durably. Refused with `InconsistentTopicId` where the directory belongs
    /// to another topic.
    pub fn assign_topic_id(&mut self, topic_id: Uuid) -> Result<(), AppendError> {
        match self.topic_id {
            Some(known) if known == topic_id => Ok(()),
            Some(known) => {
                let message = format!(
                    "Tried to assign topic ID {topic_id} to log for topic partition {}, but log already contained \
                     topic ID {known}",
                    self.shared.partition
                );
                Err(refused(ErrorCode::InconsistentTopicId, message))
            }
            None => {
                let path = self.dir().join(PARTITION_METADATA);
                let text = partition_metadata::format(topic_id);
                let written = replace(&*self.shared.env.disk, &path, text.as_bytes());
                self.guard(written)?;
                self.topic_id = Some(topic_id);
                Ok(())
            }
        }
    }

    /// What is known of the partition's producers, ordered by id (DescribeProducers).
    pub fn active_producers(&self) -> impl ExactSizeIterator<Item = &ProducerEntry> {
        self.producers.entries()
    }

    /// What is known of one producer.
    pub fn producer(&self, producer_id: i64) -> Option<&ProducerEntry> {
        self.producers.get(producer_id)
    }

    /// Forgets producers that have been silent for `producer.id.expiration.ms`; to be called now and then.
    pub fn expire_producers(&mut self, now: milena_base::Timestamp) {
        self.producers
            .expire(now, self.options.producer_id_expiration_ms);
    }

    /// Notes that `epoch` begins at the log's end or where `start` says: a leader does so when it is elected.
    pub fn assign_epoch_start(&mut self, epoch: Epoch, start: Offset) {
        if self
            .shared
            .epochs
            .load()
            .latest()
            .is_some_and(|latest| latest.epoch == epoch)
        {
            return;
        }
        self.update_epochs(|epochs| epochs.assign(epoch, start));
    }

    /// The high watermark has moved: transactions whose marker is below it no longer hold the last stable offset.
    pub fn on_high_watermark(&mut self, high_watermark: Offset) {
        if self.producers.has_unreplicated() && self.producers.forget_replicated(high_watermark) {
            self.publish_first_unstable();
        }
    }

    fn update_epochs(&mut self, change: impl FnOnce(&mut LeaderEpochs) -> bool) {
        let mut epochs = LeaderEpochs::clone(&self.shared.epochs.load());
        if change(&mut epochs) {
            self.shared.epochs.store(Arc::new(epochs));
            self.epochs_version.change();
        }
    }

    fn publish_first_unstable(&self) {
        let first = self.producers.first_unstable_offset();
        let first = first.map_or(Offset::NONE, |first| first.max(self.log_start()));
        self.shared.first_unstable.store(first.0, Ordering::Release);
    }

    fn publish_log_end(&self) {
        let end = self.active.next_offset();
        self.shared.log_end.store(end.0, Ordering::Release);
        if self.recovery_point() > end {
            self.set_recovery_point(end);
        }
    }

    fn set_recovery_point(&self, offset: Offset) {
        self.shared
            .recovery_point
            .store(offset.0, Ordering::Release);
    }

    fn set_log_start(&self, offset: Offset) {
        self.shared.log_start.store(offset.0, Ordering::Release);
        if self.recovery_point() < offset {
            self.set_recovery_point(offset);
        }
    }

    /// Passes an I/O result on. Anything but a full disk ends all writing: what the disk holds is not known any
    /// more, and nothing may be acknowledged from here on.
    pub(crate) fn guard<T>(&mut self, result: std::io::Result<T>) -> Result<T, Fault> {
        result.map_err(|source| {
            let fault = self.shared.env.fault(source);
            if !fault.is_full() && self.broken.is_none() {
                self.broken = Some(fault.source.to_string());
            }
            fault
        })
    }

    pub(crate) fn check_writable(&self) -> Result<(), Fault> {
        match &self.broken {
            None => Ok(()),
            Some(reason) => {
                let text = format!("the log is offline since an earlier failure: {reason}");
                Err(self.shared.env.fault(std::io::Error::other(text)))
            }
        }
    }
}

/// A refusal with its code.
fn refused(code: ErrorCode, message: String) -> AppendError {
    AppendError::Refused(code, message)
}
