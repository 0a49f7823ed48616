//! Bringing back what a crash left: batches are checked from the recovery point on, and what derives from them is
//! built again.

use std::io;
use std::sync::Arc;

use milena_base::{Epoch, Now, Offset};

use crate::epochs::LeaderEpochs;
use crate::log::Log;
use crate::log::snapshots::Snapshots;
use crate::marker;
use crate::options::LogOptions;
use crate::producers::{ProducerBatch, ProducerState};
use crate::segment::scan::{BatchView, HEADER_BYTES, Step, read_batch};
use crate::segment::{AbortedTxn, Env, Segment};

/// What a batch in a file means to the producer state.
pub(crate) fn producer_batch_of(
    segment: &Segment,
    batch: &BatchView,
) -> io::Result<Option<ProducerBatch>> {
    if batch.producer_id < 0 {
        return Ok(None);
    }
    let marker = match batch.is_control() {
        true => {
            let bytes = read_batch(&*segment.log_file()?, batch)?;
            let Some(marker) = marker::parse(&bytes[HEADER_BYTES..]) else {
                return Ok(None);
            };
            Some(marker)
        }
        false => None,
    };
    Ok(Some(ProducerBatch {
        producer_id: batch.producer_id,
        producer_epoch: batch.producer_epoch,
        base_sequence: batch.base_sequence,
        last_sequence: batch.last_sequence(),
        base_offset: batch.base_offset,
        last_offset: batch.last_offset,
        max_timestamp: batch.max_timestamp,
        transactional: batch.is_transactional(),
        marker,
    }))
}

/// What is built up while segments are recovered one after another.
pub(crate) struct Rebuilt<'a> {
    pub producers: &'a mut ProducerState,
    pub epochs: &'a mut LeaderEpochs,
    pub log_start: Offset,
}

impl Rebuilt<'_> {
    /// The checkpoint may be from before a truncation, or from after one that was lost: what a batch says goes before
    /// it.
    fn note_epoch(&mut self, batch: &BatchView) {
        let base = batch.base_offset.max(self.log_start);
        if batch.leader_epoch >= Epoch::ZERO && batch.last_offset >= self.log_start {
            self.epochs.learn(batch.leader_epoch, base);
        }
    }
}

/// Checks a segment and rebuilds its indexes, the producers and the epochs from its batches. Returns the bytes that
/// were cut off its end.
pub(crate) fn recover_segment(
    segment: &Segment,
    options: &LogOptions,
    rebuilt: &mut Rebuilt<'_>,
) -> io::Result<u64> {
    segment.recover(options.index_interval_bytes, |segment, batch| {
        rebuilt.note_epoch(batch);
        if let Some(producer) = producer_batch_of(segment, batch)?
            && let Some(txn) = rebuilt.producers.apply(&producer)
        {
            if txn.aborted {
                let stable = rebuilt.producers.last_stable_offset(&txn);
                segment.append_aborted(AbortedTxn::of(&txn, stable))?;
            }
            rebuilt.producers.complete(&txn);
        }
        rebuilt.producers.set_end(batch.last_offset + 1);
        Ok(())
    })
}

/// The producers as of `end`: from the newest snapshot, and from the batches behind it.
pub(crate) fn load_producers(
    env: &Env,
    segments: &[Arc<Segment>],
    snapshots: &mut Snapshots,
    options: &LogOptions,
    log_start: Offset,
    end: Offset,
    now: Now,
) -> io::Result<ProducerState> {
    let expiration_ms = options.producer_id_expiration_ms;
    let mut state = snapshots.load_latest(env, log_start, end, now.wall, expiration_ms)?;
    if state.end() < end {
        let from = state.end();
        let first = segments
            .partition_point(|segment| segment.base() <= from)
            .saturating_sub(1);
        for segment in segments[first..]
            .iter()
            .filter(|segment| segment.base() < end)
        {
            replay(segment, &mut state, end)?;
        }
        state.set_end(end);
    }
    Ok(state)
}

/// Takes the batches of a segment from the state's end up to `end` into the state.
fn replay(segment: &Segment, state: &mut ProducerState, end: Offset) -> io::Result<()> {
    let mut scan = segment.sweep_from(state.end(), segment.size())?;
    while let Step::Batch(batch) = scan.step()? {
        if batch.base_offset >= end {
            break;
        }
        if batch.last_offset < state.end() {
            continue;
        }
        if let Some(producer) = producer_batch_of(segment, &batch)?
            && let Some(txn) = state.apply(&producer)
        {
            state.complete(&txn);
        }
    }
    Ok(())
}

/// The epochs as the batches have them: only for a log whose checkpoint is lost or damaged.
pub(crate) fn epochs_of(segments: &[Arc<Segment>]) -> io::Result<LeaderEpochs> {
    let mut epochs = LeaderEpochs::default();
    for segment in segments {
        let mut scan = segment.sweep_from(segment.base(), segment.size())?;
        while let Step::Batch(batch) = scan.step()? {
            if batch.leader_epoch >= Epoch::ZERO {
                epochs.assign(batch.leader_epoch, batch.base_offset);
            }
        }
    }
    Ok(epochs)
}

impl Log {
    /// The producers as of the log's end, after it was cut.
    pub(crate) fn rebuild_producers(&mut self, now: Now) -> io::Result<()> {
        let env = Arc::clone(&self.shared.env);
        let (start, end) = (self.log_start(), self.log_end());
        self.snapshots.remove_outside(&env, start, end)?;
        let segments = self.shared.segments.load_full();
        self.producers = load_producers(
            &env,
            &segments,
            &mut self.snapshots,
            &self.options,
            start,
            end,
            now,
        )?;
        self.snapshots.take(&env, &self.producers)?;
        Ok(())
    }
}
