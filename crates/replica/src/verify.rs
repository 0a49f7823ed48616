//! Whether a producer may write into a transaction (KIP-890): before the first batch of a transaction in a partition
//! its coordinator is asked, and the batch is taken only if no transaction of the producer ended here meanwhile.
//!
//! Source: Kafka's `VerificationStateEntry` and `VerificationGuard`.

use std::collections::BTreeMap;

use milena_base::ErrorCode;
use milena_log::{AppendOrigin, Log};
use milena_records::BatchHeader;

use crate::Partition;
use crate::append::AppendRefused;

/// Questions under way; more of them are refused.
const VERIFYING_MAX: usize = 100_000;

/// `transaction.version` from which an end has an epoch of its own, that of the next transaction.
const EPOCH_BUMP_FROM: i16 = 2;

/// A question to the coordinator that is under way, or was answered with yes. Good for one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Guard(u64);

/// What has to be done before a transactional batch is appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verification {
    /// The producer's transaction has batches here already.
    NotNeeded,
    /// The coordinator is to be asked; its yes is worth this guard.
    Ask(Guard),
}

/// What speaks for a transactional batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vouched {
    /// Nobody was asked, and need not be.
    Unasked,
    /// A transaction of the same epoch that has batches here already.
    ByOpenTransaction,
    /// The coordinator's yes.
    By(Guard),
}

/// The questions under way, by producer id.
#[derive(Debug, Default)]
pub(crate) struct Verifying {
    entries: BTreeMap<i64, (i16, Guard)>,
    last: u64,
}

impl Verifying {
    fn begin(&mut self, producer_id: i64, epoch: i16) -> Option<Guard> {
        if let Some((known, guard)) = self.entries.get(&producer_id)
            && *known == epoch
        {
            return Some(*guard);
        }
        if self.entries.len() >= VERIFYING_MAX {
            return None;
        }
        self.last += 1;
        let guard = Guard(self.last);
        self.entries.insert(producer_id, (epoch, guard));
        Some(guard)
    }

    fn is_good(&self, producer_id: i64, guard: Guard) -> bool {
        let entry = self.entries.get(&producer_id);
        entry.is_some_and(|(_, known)| *known == guard)
    }

    /// A transactional batch was appended: its transaction is open now, or has ended. Neither leaves an earlier yes good,
    /// but for the yes to a later transaction: the coordinator may give it before the end of the one before, under the
    /// epoch that this end has (KIP-890), is written here.
    pub(crate) fn end(&mut self, batch: &BatchHeader, origin: AppendOrigin) {
        self.end_up_to(batch.producer_id(), batch.producer_epoch(), origin);
    }

    fn end_up_to(&mut self, producer_id: i64, epoch: i16, origin: AppendOrigin) {
        let ends_the_one_before = matches!(
            origin,
            AppendOrigin::Marker { transaction_version } if transaction_version >= EPOCH_BUMP_FROM
        );
        let known = self.entries.get(&producer_id).map(|(epoch, _)| *epoch);
        if known.is_some_and(|of| of < epoch || (of == epoch && !ends_the_one_before)) {
            self.entries.remove(&producer_id);
        }
    }
}

impl Partition {
    /// Begins the verification of a producer that wants to write into a transaction. Several batches of one epoch
    /// that wait share a guard.
    ///
    /// Errors: as for an append; NOT_ENOUGH_REPLICAS, which is tried again, where too many questions are under way.
    pub fn begin_verification(
        &self,
        producer_id: i64,
        epoch: i16,
    ) -> Result<Verification, ErrorCode> {
        self.leader_view()?;
        let mut inner = self.lock();
        let log = inner.log.as_ref().ok_or(ErrorCode::KafkaStorageError)?;
        if has_open(log, producer_id, epoch) {
            return Ok(Verification::NotNeeded);
        }
        let guard = inner.verifying.begin(producer_id, epoch);
        guard
            .map(Verification::Ask)
            .ok_or(ErrorCode::NotEnoughReplicas)
    }
}

fn has_open(log: &Log, producer_id: i64, epoch: i16) -> bool {
    let entry = log.producer(producer_id);
    entry.is_some_and(|entry| entry.producer_epoch == epoch && entry.txn_first_offset.is_some())
}

/// Refuses a transactional batch that nobody vouched for.
pub(crate) fn check(
    log: &Log,
    verifying: &Verifying,
    batch: &BatchHeader,
    vouched: Vouched,
) -> Result<(), AppendRefused> {
    let id = batch.producer_id();
    let good = match vouched {
        Vouched::Unasked => true,
        Vouched::ByOpenTransaction => false,
        Vouched::By(guard) => verifying.is_good(id, guard),
    };
    match good || has_open(log, id, batch.producer_epoch()) {
        true => Ok(()),
        false => Err(AppendRefused::Refused(
            ErrorCode::InvalidTxnState,
            "Record was not part of an ongoing transaction".into(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_yes_outlives_the_end_of_the_transaction_before_alone() {
        let mut verifying = Verifying::default();
        let marker = |transaction_version| AppendOrigin::Marker {
            transaction_version,
        };
        // The end of the transaction before has the epoch of the next one.
        let guard = verifying.begin(7, 3).unwrap();
        verifying.end_up_to(7, 3, marker(2));
        assert!(verifying.is_good(7, guard));
        assert_eq!(verifying.begin(7, 3), Some(guard));
        // The end of the transaction itself, a batch of it, and an end that may be either.
        for (epoch, origin) in [
            (4, marker(2)),
            (3, AppendOrigin::Client),
            (3, AppendOrigin::Coordinator),
            (3, marker(1)),
            (3, marker(0)),
        ] {
            let guard = verifying.begin(7, 3).unwrap();
            verifying.end_up_to(8, epoch, origin);
            assert!(verifying.is_good(7, guard));
            verifying.end_up_to(7, epoch, origin);
            assert!(!verifying.is_good(7, guard), "{epoch} {origin:?}");
        }
        // A batch of an earlier transaction is late; the question about the next one is not touched.
        let guard = verifying.begin(7, 5).unwrap();
        verifying.end_up_to(7, 4, AppendOrigin::Client);
        assert!(verifying.is_good(7, guard));
    }
}
