//! Between batches of a log and what shards deal in.

use bytes::Bytes;
use milena_base::Timestamp;
use milena_records::{
    Batch, BatchBuilder, BuildError, Codec, ControlType, Limits, NewRecord, ValidBatch, batches,
};

use crate::{KeyValue, LoadedRecord, Payload};

/// One batch of these records, each with the time of its writing; offsets and leader epoch are the log's to stamp.
/// Fails where a batch would exceed 2 GiB.
pub fn build_batch(
    records: &[KeyValue],
    codec: Codec,
    now: Timestamp,
) -> Result<ValidBatch, BuildError> {
    let mut builder = BatchBuilder::new(codec);
    for record in records {
        builder.append(NewRecord {
            timestamp: now,
            key: Some(&record.key),
            value: record.value.as_deref(),
            headers: &[],
        })?;
    }
    Ok(builder.build())
}

/// The records of whole batches, as [`crate::Event::Records`] wants them. The text of an error says what is broken.
/// The result shares the input's memory.
pub fn read_batches(bytes: Bytes, limits: Limits) -> Result<Vec<LoadedRecord>, String> {
    let mut loaded = Vec::new();
    for batch in batches(bytes) {
        let batch = batch.map_err(|error| error.to_string())?;
        read_batch(&batch, limits, &mut loaded)?;
    }
    Ok(loaded)
}

fn read_batch(batch: &Batch, limits: Limits, loaded: &mut Vec<LoadedRecord>) -> Result<(), String> {
    let header = batch.header();
    for record in batch.records(limits) {
        let record = record.map_err(|error| error.to_string())?;
        let payload = match header.is_control() {
            false => Payload::Data(KeyValue {
                key: record.key.unwrap_or_default(),
                value: record.value,
            }),
            true => match record.key.as_deref().and_then(ControlType::of_key) {
                Some(ControlType::Commit) => Payload::EndTransaction { committed: true },
                Some(ControlType::Abort) => Payload::EndTransaction { committed: false },
                _ => continue,
            },
        };
        loaded.push(LoadedRecord {
            offset: record.offset,
            producer_id: header.producer_id(),
            payload,
        });
    }
    Ok(())
}
