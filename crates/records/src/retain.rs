//! What compaction leaves of a batch, as Kafka's cleaner leaves it: offsets, sequences, producer and epoch stay, so
//! that neither a consumer nor an idempotent producer sees a difference.

use bytes::Bytes;
use milena_base::Timestamp;

use crate::{
    Batch, BatchBuilder, BatchError, BatchHeader, BuildError, Codec, HEADER_BYTES, Limits,
    RecordError, TimestampType,
};

/// The batch with those of its records for which `keep` (one entry a record) is true, under its own codec; the
/// records' attributes are dropped. With `delete_horizon` the base timestamp becomes that time (KIP-534). One record
/// is in memory at a time beside what is written.
///
/// Errors: records that cannot be read, or that no batch can hold.
pub fn retain_records(
    batch: &Batch,
    keep: &[bool],
    delete_horizon: Option<Timestamp>,
    limits: Limits,
) -> Result<Bytes, BatchError> {
    let header = batch.header();
    let compression = header.compression().map_err(RecordError::UnknownCodec)?;
    let mut builder = BatchBuilder::new(Codec::of(compression))
        .base_offset(header.base_offset())
        .leader_epoch(header.leader_epoch())
        .producer(
            header.producer_id(),
            header.producer_epoch(),
            header.base_sequence(),
        )
        .transactional(header.is_transactional())
        .control(header.is_control());
    if header.timestamp_type() == TimestampType::LogAppendTime {
        builder = builder.log_append_time(header.max_timestamp());
    }
    if let Some(horizon) = delete_horizon {
        builder = builder.delete_horizon(horizon);
    }
    for (record, keep) in batch.records(limits).zip(keep) {
        let record = record?;
        if *keep {
            let delta = record.offset - header.base_offset();
            builder.append_record(delta, &record).map_err(unbuildable)?;
        }
    }
    builder = builder.last_offset_delta(header.last_offset_delta());
    Ok(builder.build().to_bytes())
}

fn unbuildable(error: BuildError) -> BatchError {
    BatchError::Record(RecordError::Malformed(match error {
        BuildError::NegativeTimestamp(_) => "a negative timestamp",
        BuildError::OffsetDelta(_) => "an offset that does not follow",
        BuildError::TooLarge => "2 GiB or more",
    }))
}

/// What stays of a batch without records whose sequence or offset must not be forgotten: its header.
pub fn emptied(header: &BatchHeader) -> Bytes {
    let mut empty = BatchHeader::empty();
    empty.set_base_offset_raw(header.base_offset_raw());
    empty.set_last_offset_delta(header.last_offset_delta());
    empty.set_leader_epoch_raw(header.leader_epoch_raw());
    empty.set_flags(
        crate::Compression::None,
        header.timestamp_type(),
        header.is_transactional(),
        header.is_control(),
    );
    empty.set_max_timestamp_raw(header.max_timestamp_raw());
    empty.set_producer_id(header.producer_id());
    empty.set_producer_epoch(header.producer_epoch());
    empty.set_base_sequence(header.base_sequence());
    empty.set_batch_length((HEADER_BYTES - crate::LOG_OVERHEAD_BYTES) as i32);
    empty.set_crc(empty.computed_crc(&[]));
    Bytes::copy_from_slice(empty.as_bytes())
}

#[cfg(test)]
mod tests {
    use milena_base::{Epoch, Offset};

    use super::*;
    use crate::{Compression, NewRecord, Record};

    fn sample(compression: Compression) -> Batch {
        let mut builder = BatchBuilder::new(compression)
            .base_offset(Offset(100))
            .leader_epoch(Epoch(7))
            .producer(9, 2, 40)
            .transactional(true);
        for index in 0..5i64 {
            let key = [b'k', index as u8];
            let headers: [(&[u8], Option<&[u8]>); 1] = [(b"h", Some(b"x"))];
            let record = NewRecord {
                timestamp: Timestamp(1_000 + index),
                key: Some(&key),
                value: (index != 3).then_some(&b"value"[..]),
                headers: &headers,
            };
            builder.append(record).expect("it fits");
        }
        Batch::parse(builder.build().to_bytes()).expect("a batch")
    }

    fn records(batch: &Batch) -> Vec<Record> {
        let read: Result<Vec<Record>, _> = batch.records(Limits::default()).collect();
        read.expect("the records are readable")
    }

    #[test]
    fn what_stays_is_as_it_was() {
        let codecs = [
            Compression::None,
            Compression::Gzip,
            Compression::Snappy,
            Compression::Lz4,
            Compression::Zstd,
        ];
        let keep = [false, true, false, true, false];
        for compression in codecs {
            for horizon in [None, Some(Timestamp(9_000))] {
                let batch = sample(compression);
                let bytes = retain_records(&batch, &keep, horizon, Limits::default());
                let left = Batch::parse(bytes.expect("it is built")).expect("a batch");
                left.check_crc().expect("intact");
                let (was, is) = (batch.header(), left.header());
                assert_eq!(is.base_offset(), was.base_offset());
                assert_eq!(is.last_offset(), was.last_offset());
                assert_eq!(is.last_sequence(), was.last_sequence());
                assert_eq!(is.leader_epoch(), was.leader_epoch());
                assert_eq!(is.compression(), was.compression());
                assert_eq!(is.delete_horizon(), horizon);
                assert_eq!(is.max_timestamp(), Timestamp(1_003));
                assert!(is.is_transactional() && !is.is_control());
                let kept = records(&batch)
                    .into_iter()
                    .zip(keep)
                    .filter(|(_, keep)| *keep)
                    .map(|(record, _)| (record.offset, record.timestamp, record.key, record.value));
                let found = records(&left)
                    .into_iter()
                    .map(|record| (record.offset, record.timestamp, record.key, record.value));
                assert!(kept.eq(found), "{compression:?}");
            }
        }
    }

    #[test]
    fn a_header_alone_remembers_the_last_sequence_and_offset() {
        let batch = sample(Compression::Zstd);
        let left = Batch::parse(emptied(batch.header())).expect("a batch");
        left.check_crc().expect("intact");
        assert_eq!(records(&left), []);
        let (was, is) = (batch.header(), left.header());
        assert_eq!(is.count(), 0);
        assert_eq!(is.compression(), Ok(Compression::None));
        assert_eq!(is.base_timestamp(), Timestamp::NONE);
        assert_eq!(is.max_timestamp(), was.max_timestamp());
        assert_eq!(
            (is.last_offset(), is.last_sequence()),
            (was.last_offset(), was.last_sequence())
        );
        assert_eq!(is.producer_id(), 9);
        assert!(is.is_transactional());
    }
}
