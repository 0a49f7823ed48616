//! From committed batches and snapshots to published images (Kafka's `MetadataLoader` and `MetadataBatchLoader`).
//!
//! A metadata transaction shows all at once or not at all: while one is open nothing is published, and an abort
//! throws away what came since its begin. A snapshot always lies outside transactions.

use milena_protocol::MetadataRecord;

use crate::{Delta, Image, Provenance, ReplayError};

/// What is to be published: the delta's `image()` is the new image.
pub type Loaded = Delta;

#[derive(Debug)]
enum Transaction {
    None,
    /// Records since the begin are in the pending delta.
    Open,
}

/// Single-owner; its image is the last one published.
#[derive(Debug)]
pub struct Loader {
    image: Image,
    pending: Delta,
    transaction: Transaction,
}

impl Default for Loader {
    fn default() -> Loader {
        Loader::new(Image::default())
    }
}

impl Loader {
    /// Starts from an image that is outside any transaction.
    pub fn new(image: Image) -> Loader {
        Loader {
            pending: Delta::new(&image),
            image,
            transaction: Transaction::None,
        }
    }

    /// The last image outside a transaction.
    pub fn image(&self) -> &Image {
        &self.image
    }

    pub fn in_transaction(&self) -> bool {
        matches!(self.transaction, Transaction::Open)
    }

    /// Replays one committed batch. `last` is its last offset, epoch and time (also of a control batch, then with no
    /// records). Returns what is to be published, oldest first: nothing while a transaction is open; two where one
    /// begins after other records of the batch and ends before its end.
    pub fn load_batch(
        &mut self,
        records: &[MetadataRecord],
        last: Provenance,
    ) -> Result<Vec<Loaded>, ReplayError> {
        let mut published = Vec::new();
        let first = last.offset - (records.len() as i64 - 1);
        for (at, record) in records.iter().enumerate() {
            let before = Provenance {
                offset: first + at as i64 - 1,
                ..last
            };
            self.load_record(record, at > 0, before, &mut published)?;
        }
        if !self.in_transaction() {
            published.push(self.publish(last));
        }
        Ok(published)
    }

    /// Replaces everything by a snapshot that ends at `last`.
    pub fn load_snapshot(
        &mut self,
        records: impl IntoIterator<Item = MetadataRecord>,
        last: Provenance,
    ) -> Result<Loaded, ReplayError> {
        let mut image = Image::default();
        for record in records {
            image.replay(&record)?;
        }
        image.provenance = last;
        let delta = Delta::between(&self.image, &image);
        *self = Loader::new(image);
        Ok(delta)
    }

    fn load_record(
        &mut self,
        record: &MetadataRecord,
        not_first: bool,
        before: Provenance,
        published: &mut Vec<Loaded>,
    ) -> Result<(), ReplayError> {
        use MetadataRecord as R;
        match (record, &self.transaction) {
            (R::BeginTransaction(_), Transaction::None) => {
                if not_first {
                    published.push(self.publish(before));
                }
                self.transaction = Transaction::Open;
            }
            (R::BeginTransaction(_), Transaction::Open) => {
                return Err(ReplayError::new(
                    "a metadata transaction begins inside another",
                ));
            }
            (R::EndTransaction(_), Transaction::Open) => self.transaction = Transaction::None,
            (R::AbortTransaction(_), Transaction::Open) => {
                self.transaction = Transaction::None;
                self.pending = Delta::new(&self.image);
            }
            (R::EndTransaction(_) | R::AbortTransaction(_), Transaction::None) => {
                return Err(ReplayError::new(
                    "a metadata transaction ends that never began",
                ));
            }
            (record, _) => self.pending.replay(record)?,
        }
        Ok(())
    }

    fn publish(&mut self, last: Provenance) -> Loaded {
        self.pending.set_provenance(last);
        self.image = self.pending.image().clone();
        std::mem::replace(&mut self.pending, Delta::new(&self.image))
    }
}
