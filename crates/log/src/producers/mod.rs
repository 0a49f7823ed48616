//! What a log remembers of idempotent and transactional producers, so that no retry is appended twice and no reader
//! sees an undecided transaction. As Kafka's `ProducerStateManager`, without its files: those are the log's.

mod check;
mod entry;
mod snapshot;

use std::collections::BTreeMap;
use std::fmt::Display;

use milena_base::{Offset, Timestamp};

pub(crate) use check::Refusal;
pub use check::{AppendOrigin, EndMarker, ProducerBatch, Verdict};
pub use entry::{BATCHES_REMEMBERED, BatchMetadata, ProducerEntry};
pub use snapshot::{format_snapshot, parse_snapshot};

/// A transaction that has ended at `last_offset`, its marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompletedTxn {
    pub producer_id: i64,
    pub first_offset: Offset,
    pub last_offset: Offset,
    pub aborted: bool,
}

/// The producers of one partition.
///
/// Invariant: `ongoing` has one entry for each producer with an open transaction, at its first offset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProducerState {
    producers: BTreeMap<i64, ProducerEntry>,
    /// First offset of each open transaction, and its producer.
    ongoing: BTreeMap<Offset, i64>,
    /// First and last offset of each ended transaction whose marker is not below the high watermark yet.
    unreplicated: BTreeMap<Offset, Offset>,
    /// The offset up to which batches have been seen.
    end: Offset,
}

impl ProducerState {
    pub fn starting_at(end: Offset) -> ProducerState {
        ProducerState {
            end,
            ..ProducerState::default()
        }
    }

    /// The state that a snapshot at `end` holds; producers that have expired are left out.
    pub fn from_snapshot(
        entries: Vec<ProducerEntry>,
        end: Offset,
        now: Timestamp,
        expiration_ms: i64,
    ) -> ProducerState {
        let mut state = ProducerState::starting_at(end);
        for entry in entries {
            if is_expired(&entry, now, expiration_ms) {
                continue;
            }
            if let Some(first) = entry.txn_first_offset {
                state.ongoing.insert(first, entry.producer_id);
            }
            state.producers.insert(entry.producer_id, entry);
        }
        state
    }

    /// The offset up to which batches have been seen.
    pub fn end(&self) -> Offset {
        self.end
    }

    pub fn set_end(&mut self, end: Offset) {
        self.end = end;
    }

    /// Ordered by producer id.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = &ProducerEntry> {
        self.producers.values()
    }

    pub fn get(&self, producer_id: i64) -> Option<&ProducerEntry> {
        self.producers.get(&producer_id)
    }

    /// Whether a batch may be appended, or was already. Changes nothing.
    pub fn check(
        &self,
        batch: &ProducerBatch,
        origin: AppendOrigin,
        partition: &dyn Display,
    ) -> Result<Verdict, Refusal> {
        match self.producers.get(&batch.producer_id) {
            Some(entry) => check::check(entry, batch, origin, partition),
            None => check::check(
                &ProducerEntry::empty(batch.producer_id),
                batch,
                origin,
                partition,
            ),
        }
    }

    /// Takes over a batch that was appended. Returns the transaction that it ended.
    pub fn apply(&mut self, batch: &ProducerBatch) -> Option<CompletedTxn> {
        let entry = self
            .producers
            .entry(batch.producer_id)
            .or_insert_with(|| ProducerEntry::empty(batch.producer_id));
        entry.enter_epoch(batch.producer_epoch);
        entry.last_timestamp = batch.max_timestamp;
        let Some(marker) = batch.marker else {
            entry.recent.push(BatchMetadata {
                last_sequence: batch.last_sequence,
                last_offset: batch.last_offset,
                offset_delta: (batch.last_offset - batch.base_offset) as i32,
                timestamp: batch.max_timestamp,
            });
            if batch.transactional && entry.txn_first_offset.is_none() {
                entry.txn_first_offset = Some(batch.base_offset);
                self.ongoing.insert(batch.base_offset, batch.producer_id);
            }
            return None;
        };
        entry.coordinator_epoch = marker.coordinator_epoch;
        let first_offset = entry.txn_first_offset.take()?;
        Some(CompletedTxn {
            producer_id: batch.producer_id,
            first_offset,
            last_offset: batch.base_offset,
            aborted: marker.abort,
        })
    }

    /// The last stable offset once `txn` has ended: what the transaction index notes beside it.
    pub fn last_stable_offset(&self, txn: &CompletedTxn) -> Offset {
        let mut others = self
            .ongoing
            .iter()
            .filter(|(_, producer_id)| **producer_id != txn.producer_id);
        others
            .next()
            .map_or(txn.last_offset + 1, |(first, _)| *first)
    }

    /// Moves an ended transaction to those that wait for the high watermark.
    pub fn complete(&mut self, txn: &CompletedTxn) {
        self.ongoing.remove(&txn.first_offset);
        self.unreplicated.insert(txn.first_offset, txn.last_offset);
    }

    /// The first offset that a transaction keeps from being stable: open, or ended by a marker that is not below
    /// the high watermark.
    pub fn first_unstable_offset(&self) -> Option<Offset> {
        let open = self.ongoing.keys().next();
        let waiting = self.unreplicated.keys().next();
        open.into_iter().chain(waiting).min().copied()
    }

    /// Forgets the ended transactions whose marker is below `offset`. Whether there were any.
    pub fn forget_replicated(&mut self, offset: Offset) -> bool {
        let before = self.unreplicated.len();
        self.unreplicated.retain(|_, last| *last >= offset);
        self.unreplicated.len() < before
    }

    pub fn has_unreplicated(&self) -> bool {
        !self.unreplicated.is_empty()
    }

    /// Forgets the producers that have been silent for `expiration_ms` and have no open transaction.
    pub fn expire(&mut self, now: Timestamp, expiration_ms: i64) {
        self.producers
            .retain(|_, entry| !is_expired(entry, now, expiration_ms));
    }
}

fn is_expired(entry: &ProducerEntry, now: Timestamp, expiration_ms: i64) -> bool {
    entry.txn_first_offset.is_none() && now.0 - entry.last_timestamp.0 >= expiration_ms
}

#[cfg(test)]
mod tests;
