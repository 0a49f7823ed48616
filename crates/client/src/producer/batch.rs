//! Records that wait to be sent, in batches.

use bytes::Bytes;
use milena_base::Timestamp;
use milena_records::{BatchBuilder, Codec, NewRecord};
use tokio::time::Instant;

use super::Record;
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
    /// Set when it is first sent; sent again unchanged.
    pub bytes: Option<Bytes>,
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
            bytes: None,
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
        self.bytes.as_ref().map_or(open, Bytes::len)
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

    /// Its bytes; made now, with the producer's id, epoch and first sequence, if this is the first time.
    pub fn seal(&mut self, producer: Option<(i64, i16, i32)>) -> Bytes {
        if let Some(builder) = self.builder.take() {
            let builder = match producer {
                Some((id, epoch, sequence)) => builder.producer(id, epoch, sequence),
                None => builder,
            };
            self.bytes = Some(builder.build().to_bytes());
        }
        self.bytes
            .clone()
            .expect("a batch without builder has bytes")
    }
}
