//! Which transactional batches a cleaner may drop: those of aborted transactions at once, a marker once nothing of its
//! transaction is left. As Kafka's `CleanedTransactionMetadata`.

use std::collections::{BTreeMap, BTreeSet};

use milena_base::Offset;
use milena_records::{BatchHeader, HEADER_BYTES};

use crate::marker;
use crate::segment::AbortedTxn;

/// An aborted transaction whose marker was not met yet, and whether any batch of it was.
#[derive(Clone, Copy, Debug)]
struct Aborting {
    txn: AbortedTxn,
    met: bool,
}

#[derive(Debug, Default)]
pub(super) struct Transactions {
    /// By first offset and producer: not begun yet.
    ahead: BTreeMap<(Offset, i64), AbortedTxn>,
    aborting: BTreeMap<i64, Aborting>,
    /// Producers of whose undropped transactions a batch was met.
    committing: BTreeSet<i64>,
}

/// What a transactional or control batch means to the cleaner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Meaning {
    /// Nothing needs the batch: it belongs to an aborted transaction, or marks one of which nothing is left.
    pub discardable: bool,
    /// The batch is the marker of this aborted transaction, of which batches are left.
    pub aborts: Option<AbortedTxn>,
}

impl Transactions {
    /// Makes aborted transactions known; each must be before the walk comes to its first batch.
    pub(super) fn add(&mut self, aborted: impl IntoIterator<Item = AbortedTxn>) {
        let keyed = aborted
            .into_iter()
            .map(|txn| ((txn.first_offset, txn.producer_id), txn));
        self.ahead.extend(keyed);
    }

    /// The next batch of the walk: its header and all of its bytes.
    pub(super) fn on_batch(&mut self, header: &BatchHeader, bytes: &[u8]) -> Meaning {
        self.begin_up_to(header.last_offset());
        if header.is_control() {
            return self.on_control(header, bytes);
        }
        if !header.is_transactional() {
            return Meaning::default();
        }
        let discardable = match self.aborting.get_mut(&header.producer_id()) {
            Some(aborting) => {
                aborting.met = true;
                true
            }
            None => {
                self.committing.insert(header.producer_id());
                false
            }
        };
        Meaning {
            discardable,
            aborts: None,
        }
    }

    fn on_control(&mut self, header: &BatchHeader, bytes: &[u8]) -> Meaning {
        let discard = |discardable| Meaning {
            discardable,
            aborts: None,
        };
        if header.count() == 0 {
            return discard(true);
        }
        let id = header.producer_id();
        match marker::parse(&bytes[HEADER_BYTES..]) {
            // Not a transaction's: a control record that a later release knows.
            None => discard(false),
            Some(end) if end.abort => match self.aborting.remove(&id) {
                Some(Aborting { txn, met: true }) => Meaning {
                    discardable: false,
                    aborts: Some(txn),
                },
                _ => discard(true),
            },
            Some(_) => discard(!self.committing.remove(&id)),
        }
    }

    fn begin_up_to(&mut self, offset: Offset) {
        while let Some(entry) = self.ahead.first_entry() {
            if entry.key().0 > offset {
                return;
            }
            let txn = entry.remove();
            let aborting = Aborting { txn, met: false };
            self.aborting.entry(txn.producer_id).or_insert(aborting);
        }
    }
}
