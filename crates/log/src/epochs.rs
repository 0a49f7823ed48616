//! Where each leader epoch's records begin in this log (KIP-101): the ground on which followers find out where their
//! log parts from the leader's. As Kafka's `LeaderEpochFileCache`.

use milena_base::{Epoch, Offset};

/// One leader epoch and the first offset that was, or would be, written in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEntry {
    pub epoch: Epoch,
    pub start_offset: Offset,
}

/// The epochs of one log. Invariant: epochs and start offsets both strictly increase.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaderEpochs {
    entries: Vec<EpochEntry>,
}

impl LeaderEpochs {
    /// Ascending.
    pub fn entries(&self) -> &[EpochEntry] {
        &self.entries
    }

    pub fn latest(&self) -> Option<EpochEntry> {
        self.entries.last().copied()
    }

    pub fn earliest(&self) -> Option<EpochEntry> {
        self.entries.first().copied()
    }

    /// Notes that `epoch` begins at `start_offset`; entries that contradict it go. Whether anything changed.
    pub fn assign(&mut self, epoch: Epoch, start_offset: Offset) -> bool {
        if let Some(latest) = self.latest()
            && epoch == latest.epoch
            && start_offset >= latest.start_offset
        {
            return false;
        }
        while let Some(latest) = self.latest()
            && (latest.epoch >= epoch || latest.start_offset >= start_offset)
        {
            self.entries.pop();
        }
        self.entries.push(EpochEntry {
            epoch,
            start_offset,
        });
        true
    }

    /// The largest epoch at most `requested` and the offset where it ends; `None` where this log cannot know it.
    pub fn end_offset_for(&self, requested: Epoch, log_end: Offset) -> Option<(Epoch, Offset)> {
        if requested == Epoch::NONE {
            return None;
        }
        if self
            .latest()
            .is_some_and(|latest| latest.epoch == requested)
        {
            return Some((requested, log_end));
        }
        let higher = self
            .entries
            .partition_point(|entry| entry.epoch <= requested);
        let end = self.entries.get(higher)?.start_offset;
        let epoch = match higher {
            0 => requested,
            _ => self.entries[higher - 1].epoch,
        };
        Some((epoch, end))
    }

    /// The epoch that wrote the record at `offset`.
    pub fn epoch_for(&self, offset: Offset) -> Option<Epoch> {
        let higher = self
            .entries
            .partition_point(|entry| entry.start_offset <= offset);
        Some(self.entries[higher.checked_sub(1)?].epoch)
    }

    /// Learns from a record at `offset` that `epoch` wrote it: entries that say otherwise go, later ones stay.
    pub fn learn(&mut self, epoch: Epoch, offset: Offset) {
        if self.epoch_for(offset) == Some(epoch) {
            return;
        }
        self.entries
            .retain(|entry| (entry.epoch > epoch) == (entry.start_offset > offset));
        if self.epoch_for(offset) != Some(epoch) {
            let at = self.entries.partition_point(|entry| entry.epoch < epoch);
            let start_offset = offset;
            self.entries.insert(
                at,
                EpochEntry {
                    epoch,
                    start_offset,
                },
            );
        }
    }

    /// The epoch before `epoch` among those known.
    pub fn previous(&self, epoch: Epoch) -> Option<Epoch> {
        let at = self.entries.partition_point(|entry| entry.epoch < epoch);
        Some(self.entries[at.checked_sub(1)?].epoch)
    }

    /// Drops the epochs that begin at or beyond `end`. Whether anything changed.
    pub fn truncate_from_end(&mut self, end: Offset) -> bool {
        let kept = self
            .entries
            .partition_point(|entry| entry.start_offset < end);
        let changed = kept < self.entries.len();
        self.entries.truncate(kept);
        changed
    }

    /// Drops the epochs that ended before `start`; the one at `start` then begins there. Whether anything changed.
    pub fn truncate_from_start(&mut self, start: Offset) -> bool {
        let gone = self
            .entries
            .partition_point(|entry| entry.start_offset <= start);
        let Some(first) = gone.checked_sub(1) else {
            return false;
        };
        let changed = first > 0 || self.entries[first].start_offset != start;
        self.entries.drain(..first);
        self.entries[0].start_offset = start;
        changed
    }

    pub fn clear(&mut self) {
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(entries: &[(i32, i64)]) -> LeaderEpochs {
        let mut epochs = LeaderEpochs::default();
        for (epoch, start) in entries {
            epochs.assign(Epoch(*epoch), Offset(*start));
        }
        epochs
    }

    fn pairs(epochs: &LeaderEpochs) -> Vec<(i32, i64)> {
        epochs
            .entries()
            .iter()
            .map(|entry| (entry.epoch.0, entry.start_offset.0))
            .collect()
    }

    #[test]
    fn an_epoch_is_noted_once() {
        let mut epochs = epochs(&[(1, 10)]);
        assert!(!epochs.assign(Epoch(1), Offset(20)));
        assert!(epochs.assign(Epoch(2), Offset(20)));
        assert_eq!(pairs(&epochs), [(1, 10), (2, 20)]);
    }

    #[test]
    fn contradicting_entries_go() {
        assert_eq!(
            pairs(&epochs(&[(1, 10), (2, 20), (3, 15)])),
            [(1, 10), (3, 15)]
        );
        assert_eq!(
            pairs(&epochs(&[(1, 10), (5, 20), (3, 30)])),
            [(1, 10), (3, 30)]
        );
        assert_eq!(pairs(&epochs(&[(1, 10), (1, 5)])), [(1, 5)]);
    }

    #[test]
    fn the_end_of_an_epoch_is_the_start_of_the_next() {
        let epochs = epochs(&[(2, 10), (4, 20)]);
        let end = |epoch| {
            let found = epochs.end_offset_for(Epoch(epoch), Offset(33));
            found.map(|(epoch, offset)| (epoch.0, offset.0))
        };
        assert_eq!(end(-1), None);
        assert_eq!(end(0), Some((0, 10)));
        assert_eq!(end(2), Some((2, 20)));
        assert_eq!(end(3), Some((2, 20)));
        assert_eq!(end(4), Some((4, 33)));
        assert_eq!(end(5), None);
    }

    #[test]
    fn truncation_keeps_what_is_inside() {
        let mut from_start = epochs(&[(1, 0), (2, 10), (3, 20)]);
        assert!(from_start.truncate_from_start(Offset(15)));
        assert_eq!(pairs(&from_start), [(2, 15), (3, 20)]);
        assert!(!from_start.truncate_from_start(Offset(15)));
        let mut from_end = epochs(&[(1, 0), (2, 10), (3, 20)]);
        assert!(from_end.truncate_from_end(Offset(20)));
        assert!(!from_end.truncate_from_end(Offset(20)));
        assert_eq!(pairs(&from_end), [(1, 0), (2, 10)]);
        assert_eq!(from_end.epoch_for(Offset(9)), Some(Epoch(1)));
        assert_eq!(from_end.epoch_for(Offset(10)), Some(Epoch(2)));
        assert_eq!(from_end.previous(Epoch(2)), Some(Epoch(1)));
        assert_eq!(from_end.previous(Epoch(1)), None);
    }

    #[test]
    fn a_record_tells_the_epoch_that_wrote_it() {
        let entries = [(0, 0), (2, 10), (5, 20)];
        let learned = |epoch, offset| {
            let mut epochs = LeaderEpochs::default();
            for (epoch, start) in entries {
                epochs.assign(Epoch(epoch), Offset(start));
            }
            epochs.learn(Epoch(epoch), Offset(offset));
            let pairs = epochs.entries.iter();
            pairs
                .map(|entry| (entry.epoch.0, entry.start_offset.0))
                .collect::<Vec<_>>()
        };
        assert_eq!(learned(2, 15), entries);
        assert_eq!(learned(0, 12), [(0, 0), (5, 20)]);
        assert_eq!(learned(2, 5), [(0, 0), (2, 5), (5, 20)]);
        assert_eq!(learned(1, 15), [(0, 0), (1, 15), (5, 20)]);
        assert_eq!(learned(7, 18), [(0, 0), (2, 10), (7, 18)]);
    }
}
