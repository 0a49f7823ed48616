//! One transactional id, and what it may become. Every method makes a new value of an old one; nothing else does.

use std::collections::BTreeSet;

use milena_base::{ErrorCode, TopicPartition};

use crate::EPOCH_BUMP_FROM;
use crate::state::State;

/// No epoch was given out yet.
pub(crate) const NO_EPOCH: i16 = -1;
pub(crate) const NO_PRODUCER_ID: i64 = -1;
/// No transaction was begun under this epoch.
const NO_TIME: i64 = -1;
/// The last epoch that a client gets: one more must be left to fence it.
const CLIENT_EPOCH_MAX: i16 = i16::MAX - 1;

/// What the coordinator knows of a transactional id. As Kafka's `TransactionMetadata`.
///
/// Invariants: `partitions` is empty but in `Ongoing` and the prepared states; `next_producer_id` is set only in the
/// prepared states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    pub producer_id: i64,
    /// The producer id before the last change.
    pub previous_producer_id: i64,
    /// Takes over when the markers are written, since the epochs of the current one are used up; −1: none.
    pub next_producer_id: i64,
    pub producer_epoch: i16,
    /// The epoch that a repeated InitProducerId may bring; −1: none. Not in the records, as in Kafka.
    pub last_producer_epoch: i16,
    pub timeout_ms: i32,
    pub state: State,
    pub partitions: BTreeSet<TopicPartition>,
    /// Milliseconds since 1970; −1 before the first transaction of a producer.
    pub start_ms: i64,
    pub updated_ms: i64,
    /// Protocol that the client of the current transaction speaks, as a level of `transaction.version`.
    pub client_version: i16,
}

/// Whether no further epoch may be given out.
pub(crate) fn is_exhausted(epoch: i16) -> bool {
    epoch >= CLIENT_EPOCH_MAX
}

impl Transaction {
    /// An id that nobody used yet.
    pub(crate) fn unused(producer_id: i64, timeout_ms: i32, now_ms: i64) -> Transaction {
        Transaction {
            producer_id,
            previous_producer_id: NO_PRODUCER_ID,
            next_producer_id: NO_PRODUCER_ID,
            producer_epoch: NO_EPOCH,
            last_producer_epoch: NO_EPOCH,
            timeout_ms,
            state: State::Empty,
            partitions: BTreeSet::new(),
            start_ms: NO_TIME,
            updated_ms: now_ms,
            client_version: 0,
        }
    }

    pub fn is_exhausted(&self) -> bool {
        is_exhausted(self.producer_epoch)
    }

    /// Whether a producer's timeout has passed in its open transaction.
    pub(crate) fn is_timed_out(&self, now_ms: i64) -> bool {
        self.state == State::Ongoing
            && self.start_ms.saturating_add(i64::from(self.timeout_ms)) < now_ms
    }

    /// What every change starts from.
    fn changed(&self, state: State, now_ms: i64) -> Transaction {
        Transaction {
            previous_producer_id: self.producer_id,
            state,
            updated_ms: now_ms,
            ..self.clone()
        }
    }

    /// The next epoch for a producer that starts. `expected` is the epoch that it says it had.
    ///
    /// Errors: PRODUCER_FENCED where another producer has started since.
    pub(crate) fn with_next_epoch(
        &self,
        timeout_ms: i32,
        expected: Option<i16>,
        now_ms: i64,
    ) -> Result<Transaction, ErrorCode> {
        let (epoch, last) = match expected {
            None => (self.producer_epoch + 1, NO_EPOCH),
            Some(expected)
                if self.producer_epoch == NO_EPOCH || expected == self.producer_epoch =>
            {
                (self.producer_epoch + 1, self.producer_epoch)
            }
            // The answer to the same request was lost.
            Some(expected) if expected == self.last_producer_epoch => {
                (self.producer_epoch, self.last_producer_epoch)
            }
            Some(_) => return Err(ErrorCode::ProducerFenced),
        };
        Ok(Transaction {
            producer_epoch: epoch,
            last_producer_epoch: last,
            timeout_ms,
            partitions: BTreeSet::new(),
            start_ms: NO_TIME,
            ..self.changed(State::Empty, now_ms)
        })
    }

    /// Another producer id for a producer that starts, since the epochs are used up.
    pub(crate) fn with_producer_id(
        &self,
        producer_id: i64,
        timeout_ms: i32,
        remember_epoch: bool,
        now_ms: i64,
    ) -> Transaction {
        Transaction {
            producer_id,
            producer_epoch: 0,
            last_producer_epoch: match remember_epoch {
                true => self.producer_epoch,
                false => NO_EPOCH,
            },
            timeout_ms,
            partitions: BTreeSet::new(),
            start_ms: NO_TIME,
            ..self.changed(State::Empty, now_ms)
        }
    }

    /// More partitions, in the open transaction or in a new one.
    pub(crate) fn with_partitions(
        &self,
        added: impl IntoIterator<Item = TopicPartition>,
        client_version: i16,
        now_ms: i64,
    ) -> Transaction {
        let mut next = self.changed(State::Ongoing, now_ms);
        if self.state != State::Ongoing {
            next.start_ms = now_ms;
        }
        next.partitions.extend(added);
        next.client_version = client_version;
        next
    }

    /// The epoch that ends the transaction of a producer which is gone (protocol before 2; from 2 on every end has
    /// its own epoch anyway).
    pub(crate) fn fenced(&self) -> Transaction {
        Transaction {
            producer_epoch: self.producer_epoch.saturating_add(1),
            last_producer_epoch: NO_EPOCH,
            ..self.clone()
        }
    }

    /// The decision. `next_producer_id` where the epochs are used up.
    pub(crate) fn prepared(
        &self,
        committed: bool,
        client_version: i16,
        next_producer_id: Option<i64>,
        now_ms: i64,
    ) -> Transaction {
        let state = match committed {
            true => State::PrepareCommit,
            false => State::PrepareAbort,
        };
        let mut next = self.changed(state, now_ms);
        next.client_version = client_version;
        next.next_producer_id = next_producer_id.unwrap_or(NO_PRODUCER_ID);
        if client_version >= EPOCH_BUMP_FROM {
            next.producer_epoch = self.producer_epoch.saturating_add(1);
            next.last_producer_epoch = self.producer_epoch;
        }
        if self.state != State::Ongoing {
            // An abort of nothing begins and ends now.
            next.start_ms = now_ms;
        }
        next
    }

    /// All markers are written.
    pub(crate) fn completed(&self, now_ms: i64) -> Transaction {
        let state = match self.state {
            State::PrepareCommit => State::CompleteCommit,
            _ => State::CompleteAbort,
        };
        let mut next = self.changed(state, now_ms);
        if self.client_version >= EPOCH_BUMP_FROM && self.next_producer_id != NO_PRODUCER_ID {
            next.producer_id = self.next_producer_id;
            next.producer_epoch = 0;
        }
        next.next_producer_id = NO_PRODUCER_ID;
        next.partitions.clear();
        next
    }
}
