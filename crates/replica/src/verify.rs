//! Whether a producer may write into a transaction (KIP-890): before the first batch of a transaction in a partition
//! its coordinator is asked, and the batch is taken only if no transaction of the producer ended here meanwhile.
//!
//! Source: Kafka's `VerificationStateEntry` and `VerificationGuard`.

use std::collections::BTreeMap;

use milena_base::ErrorCode;
use milena_log::Log;
use milena_records::BatchHeader;

use crate::Partition;
use crate::append::AppendRefused;

/// Questions under way; more of them are refused.
const VERIFYING_MAX: usize = 100_000;

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

    pub(crate) fn end(&mut self, producer_id: i64) {
        self.entries.remove(&producer_id);
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
