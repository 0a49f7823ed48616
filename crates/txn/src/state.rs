//! The states of a transactional id.

use std::fmt;

/// As in Kafka's `TransactionState`; the number is the one in the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i8)]
pub enum State {
    /// Nothing was written yet under the current epoch.
    Empty = 0,
    Ongoing = 1,
    /// Decided; markers are due.
    PrepareCommit = 2,
    PrepareAbort = 3,
    /// All markers are written.
    CompleteCommit = 4,
    CompleteAbort = 5,
    /// The id has expired. Never in a record.
    Dead = 6,
    /// A newer producer ends the transaction of an older one. Never in a record.
    PrepareEpochFence = 7,
}

impl State {
    pub const ALL: [State; 8] = [
        State::Empty,
        State::Ongoing,
        State::PrepareCommit,
        State::PrepareAbort,
        State::CompleteCommit,
        State::CompleteAbort,
        State::Dead,
        State::PrepareEpochFence,
    ];

    pub fn of_id(id: i8) -> Option<State> {
        State::ALL.into_iter().find(|state| *state as i8 == id)
    }

    /// The name in answers and filters; they are told apart by case.
    pub fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::Ongoing => "Ongoing",
            State::PrepareCommit => "PrepareCommit",
            State::PrepareAbort => "PrepareAbort",
            State::CompleteCommit => "CompleteCommit",
            State::CompleteAbort => "CompleteAbort",
            State::Dead => "Dead",
            State::PrepareEpochFence => "PrepareEpochFence",
        }
    }

    pub fn of_name(name: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Decided, but not all markers are known to be written.
    pub fn is_prepared(self) -> bool {
        matches!(self, State::PrepareCommit | State::PrepareAbort)
    }

    /// An id in this state may expire.
    pub fn may_expire(self) -> bool {
        matches!(
            self,
            State::Empty | State::CompleteCommit | State::CompleteAbort
        )
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_told_apart() {
        for (id, state) in State::ALL.into_iter().enumerate() {
            assert_eq!(State::of_id(id as i8), Some(state));
            assert_eq!(State::of_name(state.name()), Some(state));
        }
        assert_eq!(State::of_id(8), None);
        assert_eq!(State::of_id(-1), None);
        assert_eq!(State::of_name("ongoing"), None);
    }
}
