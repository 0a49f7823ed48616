//! Between batches of a log and what shards deal in.

use bytes::Bytes;
use milena_base::Timestamp;
use milena_records::{
    Batch, BatchBuilder, BuildError, Codec, ControlType, Limits, NewRecord, ValidBatch, batches,
    control_record_key,
};

use crate::{KeyValue, LoadedRecord, Marker, Payload, Producer};

/// Sequence of batches that are not checked for one.
const NO_SEQUENCE: i32 = -1;
/// Version of `EndTxnMarker`, the value of a marker.
const MARKER_VERSION: i16 = 0;

/// One batch of these records, each with the time of its writing; offsets and leader epoch are the log's to stamp.
/// Fails where a batch would exceed 2 GiB.
pub fn build_batch(
    records: &[KeyValue],
    codec: Codec,
    now: Timestamp,
) -> Result<ValidBatch, BuildError> {
    fill(BatchBuilder::new(codec), records, now)
}

/// The same as a part of a producer's open transaction, without a sequence.
pub fn build_transactional_batch(
    records: &[KeyValue],
    producer: Producer,
    codec: Codec,
    now: Timestamp,
) -> Result<ValidBatch, BuildError> {
    let builder = BatchBuilder::new(codec)
        .producer(producer.id, producer.epoch, NO_SEQUENCE)
        .transactional(true);
    fill(builder, records, now)
}

/// The control batch of a marker, as Kafka's `MemoryRecords.withEndTransactionMarker` makes it.
pub fn build_marker(marker: &Marker, now: Timestamp) -> ValidBatch {
    let kind = match marker.committed {
        true => ControlType::Commit,
        false => ControlType::Abort,
    };
    let mut value = MARKER_VERSION.to_be_bytes().to_vec();
    value.extend_from_slice(&marker.coordinator_epoch.to_be_bytes());
    let record = NewRecord {
        timestamp: now,
        key: Some(&control_record_key(kind)),
        value: Some(&value),
        headers: &[],
    };
    let producer = marker.producer;
    let mut builder = BatchBuilder::new(Codec::NONE)
        .producer(producer.id, producer.epoch, NO_SEQUENCE)
        .transactional(true)
        .control(true);
    builder
        .append(record)
        .expect("a marker is small and of this century");
    builder.build()
}

fn fill(
    mut builder: BatchBuilder,
    records: &[KeyValue],
    now: Timestamp,
) -> Result<ValidBatch, BuildError> {
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
