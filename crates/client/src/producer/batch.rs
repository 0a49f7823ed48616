//! Records that wait to be sent, in batches.

use bytes::Bytes;
use milena_base::Timestamp;
use milena_records::{BatchBuilder, Codec, NewRecord, ValidBatch};
use tokio::time::Instant;

use super::{Identity, Record};
use crate::Error;

/// What a failed record's owner is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    pub key: Option<usize>,
    pub value: Option<usize>,
}

/// A batch of one partition: open while records may join it, then bytes.
pub struct QueuedBatch {
    builder: Option<BatchBuilder>,
    /// Set when it is first sent.
    sealed: Option<ValidBatch>,
    /// Under which identity it is sealed; sent again unchanged while that is the producer's.
    identity: Option<Identity>,
    /// The request that it is under way in.
    pub request: Option<u64>,
    /// Tags and sizes of its records.
    pub records: Vec<(u64, Sizes)>,
    pub created: Instant,
    pub tries: u32,
    /// Not before this, after a failed try.
    pub resume: Instant,
    /// No more records join.
    pub full: bool,
}

impl QueuedBatch {
    pub fn new(codec: Codec, now: Instant) -> QueuedBatch {
        QueuedBatch {
            builder: Some(BatchBuilder::new(codec)),
            sealed: None,
            identity: None,
            request: None,
            records: Vec::new(),
            created: now,
            tries: 0,
            resume: now,
            full: false,
        }
    }

    /// Bytes that it takes up now.
    pub fn size(&self) -> usize {
        let open = self.builder.as_ref().map_or(0, BatchBuilder::written_bytes);
        self.sealed.as_ref().map_or(open, ValidBatch::len)
    }

    /// Whether a record joins it: always the first one, whatever its size.
    pub fn takes(&self, record: &Record, batch_bytes: usize) -> bool {
        let room = || self.size() + record.bytes_max() <= batch_bytes;
        !self.full && self.builder.is_some() && (self.records.is_empty() || room())
    }

    pub fn append(&mut self, record: &Record) -> Result<(), Error> {
        let headers: Vec<(&[u8], Option<&[u8]>)> = record
            .headers
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_deref()))
            .collect();
        let new = NewRecord {
            timestamp: Timestamp(record.timestamp),
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &headers,
        };
        let builder = self
            .builder
            .as_mut()
            .expect("only an open batch takes records");
        builder
            .append(new)
            .map_err(|error| Error::Config(error.to_string()))?;
        self.records.push((record.tag, record.sizes()));
        Ok(())
    }

    pub fn is_sealed(&self) -> bool {
        self.sealed.is_some()
    }

    /// Whether it is sealed, or need not be, under this identity.
    pub fn is_of(&self, identity: Option<Identity>) -> bool {
        self.is_sealed() && self.identity == identity
    }

    /// Its bytes. `producer` gives identity and first sequence where the batch has none of its own yet, or those
    /// of an identity that is over.
    pub fn seal(&mut self, producer: Option<(Identity, i32)>) -> Bytes {
        let given = producer.map(|(identity, _)| identity);
        if let Some(builder) = self.builder.take() {
            let builder = match producer {
                Some((of, sequence)) => builder.producer(of.id, of.epoch, sequence),
                None => builder,
            };
            self.sealed = Some(builder.build());
            self.identity = given;
        }
        let batch = self
            .sealed
            .as_mut()
            .expect("a batch without builder is sealed");
        if let Some((of, sequence)) = producer.filter(|(of, _)| self.identity != Some(*of)) {
            batch.stamp_producer(of.id, of.epoch, sequence);
            self.identity = given;
        }
        batch.to_bytes()
    }
}
