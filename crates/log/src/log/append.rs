//! Appending: sequence checks, offsets, rolling, one write, then everything that is derived from it.

use milena_base::{Epoch, ErrorCode, Now, Offset, Timestamp};
use milena_records::{BatchHeader, ValidBatch};

use crate::error::{AppendError, Fault};
use crate::log::{Flush, Log, refused};
use crate::marker;
use crate::producers::{AppendOrigin, BatchMetadata, CompletedTxn, ProducerBatch, Verdict};
use crate::segment::{AbortedTxn, Appended};

/// What an append did.
#[derive(Debug)]
pub struct LogAppended {
    /// Offset of the first record.
    pub first: Offset,
    /// Offset of the last record.
    pub last: Offset,
    /// Epoch stamped into the batch.
    pub leader_epoch: Epoch,
    /// The timestamp that the records got, where `message.timestamp.type` is `LogAppendTime`; −1 otherwise. Of a
    /// repeated batch: its largest timestamp, as Kafka answers it.
    pub log_append_time: Timestamp,
    pub log_start: Offset,
    pub log_end: Offset,
    /// One of the producer's last batches came again: nothing was appended.
    pub duplicate: bool,
    /// `flush.messages` asks for a flush: the append may be acknowledged once the recovery point is beyond `last`.
    pub flush_due: bool,
    /// A segment was closed: its flush, to be run without hurry.
    pub rolled: Option<Flush>,
}

impl Log {
    /// Appends a batch that this node, as leader in `epoch`, takes from a producer or makes itself. It is stamped with
    /// the log's end and the epoch and, where the topic asks for it, with the time.
    pub fn append_as_leader(
        &mut self,
        mut batch: ValidBatch,
        epoch: Epoch,
        origin: AppendOrigin,
        now: Now,
    ) -> Result<LogAppended, AppendError> {
        self.check_writable()?;
        let log_append_time = self.options.log_append_time.then_some(now.wall);
        batch.stamp(self.log_end(), epoch, log_append_time);
        let (header, parts) = (batch.header(), batch.parts());
        let size = batch.len() as u32;
        // As in Kafka the epoch has begun even if its first batch is refused.
        self.assign_epoch_of(epoch, header.base_offset());
        self.check_size(size)?;
        let producer = producer_batch(header, parts[1]);
        if let Some(duplicate) = self.check_producer(producer.as_ref(), origin)? {
            return Ok(self.repeated(epoch, duplicate));
        }
        let appended = Appended {
            size,
            last_offset: header.last_offset(),
            max_timestamp: header.max_timestamp(),
        };
        let rolled = self.roll_for(header.base_offset(), &appended, now)?;
        self.write(&parts, &[appended], producer.as_slice())?;
        Ok(LogAppended {
            first: header.base_offset(),
            last: header.last_offset(),
            leader_epoch: epoch,
            log_append_time: log_append_time.unwrap_or(Timestamp::NONE),
            log_start: self.log_start(),
            log_end: self.log_end(),
            duplicate: false,
            flush_due: self.is_flush_due(),
            rolled,
        })
    }

    /// Appends batches as another log has them: offsets, epochs and timestamps stay. They must lie behind the log's
    /// end and follow each other. Returns `None` for no batches.
    pub fn append_as_follower(
        &mut self,
        batches: &[ValidBatch],
        now: Now,
    ) -> Result<Option<LogAppended>, AppendError> {
        self.check_writable()?;
        let Some((first, last)) = batches.first().zip(batches.last()) else {
            return Ok(None);
        };
        self.check_offsets(batches)?;
        let (first, last) = (*first.header(), *last.header());
        let total: usize = batches.iter().map(ValidBatch::len).sum();
        let mut rolled = None;
        if total as u64 <= u64::from(self.options.segment_bytes) {
            rolled = self.append_together(batches, now)?;
        } else {
            for batch in batches {
                let flush = self.append_together(std::slice::from_ref(batch), now)?;
                rolled = flush.or(rolled);
            }
        }
        Ok(Some(LogAppended {
            first: first.base_offset(),
            last: last.last_offset(),
            leader_epoch: last.leader_epoch(),
            log_append_time: Timestamp::NONE,
            log_start: self.log_start(),
            log_end: self.log_end(),
            duplicate: false,
            flush_due: self.is_flush_due(),
            rolled,
        }))
    }

    fn check_offsets(&self, batches: &[ValidBatch]) -> Result<(), AppendError> {
        let mut next = self.log_end();
        for batch in batches {
            let header = batch.header();
            if header.base_offset() < next || header.last_offset() < header.base_offset() {
                let message = format!(
                    "Unexpected offset in append to {}: batch from {} to {}, next offset {next}",
                    self.shared.partition,
                    header.base_offset(),
                    header.last_offset()
                );
                return Err(refused(ErrorCode::UnknownServerError, message));
            }
            next = header.last_offset() + 1;
        }
        Ok(())
    }

    fn append_together(
        &mut self,
        batches: &[ValidBatch],
        now: Now,
    ) -> Result<Option<Flush>, AppendError> {
        let mut parts = Vec::with_capacity(batches.len() * 2);
        let mut appended = Vec::with_capacity(batches.len());
        let mut producers = Vec::new();
        for batch in batches {
            let header = batch.header();
            let batch_parts = batch.parts();
            self.assign_epoch_of(header.leader_epoch(), header.base_offset());
            appended.push(Appended {
                size: batch.len() as u32,
                last_offset: header.last_offset(),
                max_timestamp: header.max_timestamp(),
            });
            producers.extend(producer_batch(header, batch_parts[1]));
            parts.extend(batch_parts);
        }
        let whole = Appended {
            size: appended.iter().map(|batch| batch.size).sum(),
            last_offset: appended
                .last()
                .map_or(self.log_end(), |batch| batch.last_offset),
            max_timestamp: appended
                .iter()
                .map(|batch| batch.max_timestamp)
                .max()
                .unwrap_or_default(),
        };
        let base = batches
            .first()
            .map_or(self.log_end(), |batch| batch.header().base_offset());
        let rolled = self.roll_for(base, &whole, now)?;
        self.write(&parts, &appended, &producers)?;
        Ok(rolled)
    }

    fn check_size(&self, size: u32) -> Result<(), AppendError> {
        if size <= self.options.segment_bytes {
            return Ok(());
        }
        let message = format!(
            "Message batch size is {size} bytes in append to partition {}, which exceeds the maximum configured \
             segment size of {}.",
            self.shared.partition, self.options.segment_bytes
        );
        Err(refused(ErrorCode::RecordListTooLarge, message))
    }

    fn check_producer(
        &self,
        batch: Option<&ProducerBatch>,
        origin: AppendOrigin,
    ) -> Result<Option<BatchMetadata>, AppendError> {
        let Some(batch) = batch else {
            return Ok(None);
        };
        match self.producers.check(batch, origin, &self.shared.partition) {
            Ok(Verdict::Append) => Ok(None),
            Ok(Verdict::Duplicate(earlier)) => Ok(Some(earlier)),
            Err((code, message)) => Err(refused(code, message)),
        }
    }

    fn repeated(&self, epoch: Epoch, earlier: BatchMetadata) -> LogAppended {
        LogAppended {
            first: earlier.first_offset(),
            last: earlier.last_offset,
            leader_epoch: epoch,
            log_append_time: earlier.timestamp,
            log_start: self.log_start(),
            log_end: self.log_end(),
            duplicate: true,
            flush_due: self.options.flush_messages == 1
                && self.recovery_point() <= earlier.last_offset,
            rolled: None,
        }
    }

    /// Batches of an epoch not seen before begin it; they always do before they are in the file, so that the file
    /// never holds an epoch that the checkpoint contradicts.
    fn assign_epoch_of(&mut self, epoch: Epoch, start: Offset) {
        let latest = self.shared.epochs.load().latest();
        if epoch >= Epoch::ZERO && latest.is_none_or(|latest| latest.epoch != epoch) {
            self.update_epochs(|epochs| epochs.assign(epoch, start));
        }
    }

    fn roll_for(
        &mut self,
        base: Offset,
        batch: &Appended,
        now: Now,
    ) -> Result<Option<Flush>, Fault> {
        let roll = self
            .appender
            .should_roll(&self.active, &self.options, batch, now.wall);
        match self.guard(roll)? {
            true => self.roll_at(base, now),
            false => Ok(None),
        }
    }

    fn write(
        &mut self,
        parts: &[&[u8]],
        appended: &[Appended],
        producers: &[ProducerBatch],
    ) -> Result<(), Fault> {
        let aborted = producers
            .iter()
            .any(|batch| batch.marker.is_some_and(|marker| marker.abort));
        if aborted {
            return self.write_with_aborts(parts, appended, producers);
        }
        self.write_batches(parts, appended)?;
        for batch in producers {
            self.apply(batch);
        }
        self.finish_append();
        Ok(())
    }

    /// The transaction index gets its entry before the marker is in the log: should the marker fail to be written,
    /// the entry is taken back.
    fn write_with_aborts(
        &mut self,
        parts: &[&[u8]],
        appended: &[Appended],
        producers: &[ProducerBatch],
    ) -> Result<(), Fault> {
        let before = self.producers.clone();
        for batch in producers {
            let Some(txn) = self.apply(batch).filter(|txn| txn.aborted) else {
                continue;
            };
            let entry = AbortedTxn::of(&txn, self.producers.last_stable_offset(&txn));
            let noted = self.active.append_aborted(entry);
            if let Err(fault) = self.guard(noted) {
                self.take_back(before);
                return Err(fault);
            }
        }
        if let Err(fault) = self.write_batches(parts, appended) {
            self.take_back(before);
            return Err(fault);
        }
        self.finish_append();
        Ok(())
    }

    fn take_back(&mut self, before: crate::producers::ProducerState) {
        self.producers = before;
        let cut = self.active.truncate_txns(self.log_end());
        // A failure to cut breaks the log; the fault that led here is what the caller hears of.
        let _ = self.guard(cut);
    }

    fn write_batches(&mut self, parts: &[&[u8]], appended: &[Appended]) -> Result<(), Fault> {
        let interval = self.options.index_interval_bytes;
        let written = self
            .active
            .append(&mut self.appender, interval, parts, appended);
        self.guard(written)
    }

    fn apply(&mut self, batch: &ProducerBatch) -> Option<CompletedTxn> {
        let ended = self.producers.apply(batch)?;
        self.producers.complete(&ended);
        Some(ended)
    }

    fn finish_append(&mut self) {
        // First what holds readers back, then what lets them on.
        if self.producers.first_unstable_offset() != self.shared.first_unstable() {
            self.publish_first_unstable();
        }
        self.indexes_dirty = true;
        self.publish_log_end();
        self.producers.set_end(self.log_end());
    }
}

/// What the producer state needs of a batch; `None` for a batch of no idempotent producer.
pub(crate) fn producer_batch(header: &BatchHeader, records: &[u8]) -> Option<ProducerBatch> {
    if !header.has_producer_id() {
        return None;
    }
    let marker = match header.is_control() {
        true => Some(marker::parse(records)?),
        false => None,
    };
    Some(ProducerBatch {
        producer_id: header.producer_id(),
        producer_epoch: header.producer_epoch(),
        base_sequence: header.base_sequence(),
        last_sequence: header.last_sequence(),
        base_offset: header.base_offset(),
        last_offset: header.last_offset(),
        max_timestamp: header.max_timestamp(),
        transactional: header.is_transactional(),
        marker,
    })
}
