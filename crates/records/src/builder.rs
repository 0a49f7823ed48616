//! Building batches: what our coordinators, the quorum, the tools' producer and recompression write.

use std::fmt;

use milena_base::{Epoch, Offset, Timestamp};

use crate::codec::Encoder;
use crate::varint::{size_i64, write_i32, write_i64};
use crate::{
    BatchHeader, Codec, HEADER_BYTES, LOG_OVERHEAD_BYTES, Record, TimestampType, ValidBatch,
};

/// A record to append. Keys of headers are UTF-8.
#[derive(Clone, Copy, Debug, Default)]
pub struct NewRecord<'a> {
    /// −1 for none.
    pub timestamp: Timestamp,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: &'a [(&'a [u8], Option<&'a [u8]>)],
}

/// What a batch cannot hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuildError {
    /// A timestamp before 1970 other than −1.
    NegativeTimestamp(i64),
    /// Offsets must increase and stay within 2³¹ of the base.
    OffsetDelta(i64),
    /// A record or batch of 2 GiB or more.
    TooLarge,
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuildError::NegativeTimestamp(timestamp) => write!(f, "negative timestamp {timestamp}"),
            BuildError::OffsetDelta(delta) => {
                write!(f, "offset {delta} from the batch's first does not fit")
            }
            BuildError::TooLarge => f.write_str("a record or batch of 2 GiB or more"),
        }
    }
}

impl std::error::Error for BuildError {}

/// Builds one batch. Records are compressed as they are appended.
pub struct BatchBuilder {
    header: BatchHeader,
    codec: Codec,
    timestamps: TimestampType,
    log_append_time: Timestamp,
    transactional: bool,
    control: bool,
    delete_horizon: Option<Timestamp>,
    encoder: Encoder,
    /// One record's bytes while it is encoded.
    scratch: Vec<u8>,
    next_delta: i64,
    /// Bytes of the records before compression.
    uncompressed: u64,
}

impl BatchBuilder {
    /// An empty batch at offset 0, without producer and leader epoch.
    pub fn new(codec: impl Into<Codec>) -> BatchBuilder {
        let codec = codec.into();
        let encoder = Encoder::new(codec, vec![0; HEADER_BYTES])
            .expect("a compressor for a known codec can be allocated");
        BatchBuilder {
            header: BatchHeader::empty(),
            codec,
            timestamps: TimestampType::CreateTime,
            log_append_time: Timestamp::NONE,
            transactional: false,
            control: false,
            delete_horizon: None,
            encoder,
            scratch: Vec::new(),
            next_delta: 0,
            uncompressed: 0,
        }
    }

    #[must_use]
    pub fn base_offset(mut self, offset: Offset) -> BatchBuilder {
        self.header.set_base_offset_raw(offset.0);
        self
    }

    #[must_use]
    pub fn leader_epoch(mut self, epoch: Epoch) -> BatchBuilder {
        self.header.set_leader_epoch_raw(epoch.0);
        self
    }

    /// An idempotent producer's batch; `sequence` is that of the first record (−1 for markers).
    #[must_use]
    pub fn producer(mut self, id: i64, epoch: i16, sequence: i32) -> BatchBuilder {
        self.header.set_producer_id(id);
        self.header.set_producer_epoch(epoch);
        self.header.set_base_sequence(sequence);
        self
    }

    #[must_use]
    pub fn transactional(mut self, transactional: bool) -> BatchBuilder {
        self.transactional = transactional;
        self
    }

    #[must_use]
    pub fn control(mut self, control: bool) -> BatchBuilder {
        self.control = control;
        self
    }

    /// Marks the batch with log-append time, which then stands for every record's timestamp.
    #[must_use]
    pub fn log_append_time(mut self, time: Timestamp) -> BatchBuilder {
        self.timestamps = TimestampType::LogAppendTime;
        self.log_append_time = time;
        self
    }

    /// The time from which on compaction may drop tombstones and markers; it stands in the place of the base
    /// timestamp (KIP-534).
    #[must_use]
    pub(crate) fn delete_horizon(mut self, time: Timestamp) -> BatchBuilder {
        self.delete_horizon = Some(time);
        self.header.set_base_timestamp_raw(time.0);
        self
    }

    /// The distance of the last offset that the batch was written with, where records behind the last one are gone.
    #[must_use]
    pub(crate) fn last_offset_delta(mut self, delta: i32) -> BatchBuilder {
        self.header.set_last_offset_delta(delta);
        self
    }

    /// Records appended so far.
    pub fn count(&self) -> usize {
        self.header.count() as usize
    }

    pub fn is_empty(&self) -> bool {
        self.header.count() == 0
    }

    /// Bytes of the records before compression.
    pub fn uncompressed_bytes(&self) -> u64 {
        self.uncompressed
    }

    /// Bytes of the batch so far, header included; what a compressor still holds back is not in it.
    pub fn written_bytes(&self) -> usize {
        self.encoder.written()
    }

    /// Most bytes that this record adds before compression.
    pub fn record_bytes_max(record: &NewRecord) -> usize {
        // length 5, attributes 1, timestamp 10, offset 5
        21 + fields_bytes(record)
    }

    /// Appends a record at the offset after the last one.
    pub fn append(&mut self, record: NewRecord) -> Result<(), BuildError> {
        self.append_at(self.next_delta, record)
    }

    /// Appends a record `delta` after the batch's base offset, which must be after the last one's.
    pub fn append_at(&mut self, delta: i64, record: NewRecord) -> Result<(), BuildError> {
        let delta32 = i32::try_from(delta)
            .ok()
            .filter(|_| delta >= self.next_delta && self.header.count() < i32::MAX)
            .ok_or(BuildError::OffsetDelta(delta))?;
        if record.timestamp.0 < -1 {
            return Err(BuildError::NegativeTimestamp(record.timestamp.0));
        }
        if self.is_empty() && self.delete_horizon.is_none() {
            self.header.set_base_timestamp_raw(record.timestamp.0);
        }
        let base = self.header.base_timestamp_raw();
        let timestamp_delta = record.timestamp.0.wrapping_sub(base);
        self.encode(delta32, timestamp_delta, &record)?;
        self.header.set_last_offset_delta(delta32);
        self.header.set_count(self.header.count() + 1);
        let max = self.header.max_timestamp_raw().max(record.timestamp.0);
        self.header.set_max_timestamp_raw(max);
        self.next_delta = delta + 1;
        Ok(())
    }

    /// Appends a record that was read, at its distance from `base`.
    pub fn append_record(&mut self, delta: i64, record: &Record) -> Result<(), BuildError> {
        let headers: Vec<(&[u8], Option<&[u8]>)> = record
            .headers
            .iter()
            .map(|header| (&header.key[..], header.value.as_deref()))
            .collect();
        let record = NewRecord {
            timestamp: record.timestamp,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &headers,
        };
        self.append_at(delta, record)
    }

    fn encode(
        &mut self,
        offset_delta: i32,
        timestamp_delta: i64,
        record: &NewRecord,
    ) -> Result<(), BuildError> {
        let body =
            1 + size_i64(timestamp_delta) + size_i64(offset_delta.into()) + fields_bytes(record);
        let body = i32::try_from(body).map_err(|_| BuildError::TooLarge)?;
        let out = &mut self.scratch;
        out.clear();
        write_i32(out, body);
        out.push(0);
        write_i64(out, timestamp_delta);
        write_i32(out, offset_delta);
        write_bytes(out, record.key);
        write_bytes(out, record.value);
        write_i32(out, record.headers.len() as i32);
        for (key, value) in record.headers {
            write_bytes(out, Some(key));
            write_bytes(out, *value);
        }
        self.uncompressed += out.len() as u64;
        self.encoder
            .write_all(out)
            .expect("compressing in memory does not fail");
        match self.encoder.written() < i32::MAX as usize {
            true => Ok(()),
            false => Err(BuildError::TooLarge),
        }
    }

    /// The batch. One without records has the offset delta that was last set: 0.
    pub fn build(self) -> ValidBatch {
        let BatchBuilder {
            mut header,
            encoder,
            ..
        } = self;
        header.set_flags(
            self.codec.compression,
            self.timestamps,
            self.transactional,
            self.control,
        );
        if self.delete_horizon.is_some() {
            header.set_delete_horizon_flag();
        }
        if self.timestamps == TimestampType::LogAppendTime {
            header.set_max_timestamp_raw(self.log_append_time.0);
        }
        let mut bytes = encoder
            .finish()
            .expect("compressing in memory does not fail");
        header.set_batch_length((bytes.len() - LOG_OVERHEAD_BYTES) as i32);
        header.set_crc(header.computed_crc(&bytes[HEADER_BYTES..]));
        bytes[..HEADER_BYTES].copy_from_slice(header.as_bytes());
        ValidBatch::new(header, bytes.into())
    }
}

fn write_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            write_i32(out, bytes.len() as i32);
            out.extend_from_slice(bytes);
        }
        None => write_i32(out, -1),
    }
}

/// Bytes of key, value and headers with their lengths.
fn fields_bytes(record: &NewRecord) -> usize {
    let headers: usize = record
        .headers
        .iter()
        .map(|(key, value)| bytes_bytes(Some(key)) + bytes_bytes(*value))
        .sum();
    bytes_bytes(record.key)
        + bytes_bytes(record.value)
        + size_i64(record.headers.len() as i64)
        + headers
}

fn bytes_bytes(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| size_i64(bytes.len() as i64) + bytes.len())
}
