//! What a log remembers of one producer: its epoch, its last batches, its open transaction.

use milena_base::{Offset, Timestamp};

/// Batches remembered for each producer; a retry of one of them is answered without an append.
pub const BATCHES_REMEMBERED: usize = 5;

/// No producer epoch seen yet.
pub(crate) const NO_EPOCH: i16 = -1;

/// One appended batch, as far as duplicates are told by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchMetadata {
    pub last_sequence: i32,
    pub last_offset: Offset,
    /// Records in the batch, less one.
    pub offset_delta: i32,
    pub timestamp: Timestamp,
}

impl BatchMetadata {
    pub fn first_sequence(&self) -> i32 {
        if self.last_sequence >= self.offset_delta {
            return self.last_sequence - self.offset_delta;
        }
        // Sequences wrap from the largest int32 to 0.
        i32::MAX - (self.offset_delta - self.last_sequence) + 1
    }

    pub fn first_offset(&self) -> Offset {
        self.last_offset - i64::from(self.offset_delta)
    }
}

/// The last batches of one producer epoch, oldest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RecentBatches {
    batches: [BatchMetadata; BATCHES_REMEMBERED],
    count: u8,
}

impl RecentBatches {
    pub(crate) fn as_slice(&self) -> &[BatchMetadata] {
        &self.batches[..usize::from(self.count)]
    }

    pub(crate) fn push(&mut self, batch: BatchMetadata) {
        if usize::from(self.count) == BATCHES_REMEMBERED {
            self.batches.rotate_left(1);
            self.count -= 1;
        }
        self.batches[usize::from(self.count)] = batch;
        self.count += 1;
    }

    fn clear(&mut self) {
        self.count = 0;
    }
}

/// The state of one producer id in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerEntry {
    pub producer_id: i64,
    /// −1 before the first batch.
    pub producer_epoch: i16,
    /// Epoch of the transaction coordinator that wrote the last marker, −1 without one.
    pub coordinator_epoch: i32,
    pub last_timestamp: Timestamp,
    /// First offset of the open transaction.
    pub txn_first_offset: Option<Offset>,
    pub(crate) recent: RecentBatches,
}

impl ProducerEntry {
    pub(crate) fn empty(producer_id: i64) -> ProducerEntry {
        ProducerEntry {
            producer_id,
            producer_epoch: NO_EPOCH,
            coordinator_epoch: -1,
            last_timestamp: Timestamp::NONE,
            txn_first_offset: None,
            recent: RecentBatches::default(),
        }
    }

    /// The remembered batches of the current epoch, oldest first.
    pub fn batches(&self) -> &[BatchMetadata] {
        self.recent.as_slice()
    }

    pub fn last_batch(&self) -> Option<&BatchMetadata> {
        self.batches().last()
    }

    /// Sequence of the last record, −1 without one.
    pub fn last_sequence(&self) -> i32 {
        self.last_batch().map_or(-1, |batch| batch.last_sequence)
    }

    /// Takes over the epoch; batches of another epoch are forgotten.
    pub(crate) fn enter_epoch(&mut self, epoch: i16) {
        if self.producer_epoch != epoch {
            self.recent.clear();
            self.producer_epoch = epoch;
        }
    }

    /// The remembered batch that `first..=last` repeats.
    pub(crate) fn duplicate_of(&self, epoch: i16, first: i32, last: i32) -> Option<BatchMetadata> {
        if epoch != self.producer_epoch {
            return None;
        }
        let same =
            |batch: &&BatchMetadata| batch.first_sequence() == first && batch.last_sequence == last;
        self.batches().iter().find(same).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(last_sequence: i32, offset_delta: i32) -> BatchMetadata {
        BatchMetadata {
            last_sequence,
            last_offset: Offset(100),
            offset_delta,
            timestamp: Timestamp(1),
        }
    }

    #[test]
    fn sequences_wrap() {
        assert_eq!(batch(9, 9).first_sequence(), 0);
        assert_eq!(batch(0, 1).first_sequence(), i32::MAX);
        assert_eq!(batch(1, 4).first_sequence(), i32::MAX - 2);
        assert_eq!(batch(9, 9).first_offset(), Offset(91));
    }

    #[test]
    fn five_batches_are_remembered_and_an_epoch_forgets_them() {
        let mut entry = ProducerEntry::empty(1);
        entry.enter_epoch(0);
        for last in 0..7 {
            entry.recent.push(batch(last, 0));
        }
        let kept: Vec<i32> = entry
            .batches()
            .iter()
            .map(|batch| batch.last_sequence)
            .collect();
        assert_eq!(kept, [2, 3, 4, 5, 6]);
        assert!(entry.duplicate_of(0, 2, 2).is_some());
        assert!(entry.duplicate_of(0, 1, 1).is_none());
        assert!(entry.duplicate_of(1, 2, 2).is_none());
        entry.enter_epoch(1);
        assert_eq!(entry.batches(), []);
        assert_eq!(entry.last_sequence(), -1);
    }
}
