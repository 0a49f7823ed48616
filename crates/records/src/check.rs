//! The checks of a produce, in Kafka 4.4's order and with its codes (`ProduceRequest.validateRecords`,
//! `UnifiedLog.analyzeAndValidateRecords`, `LogValidator`), before any lock is taken.
//!
//! What Kafka accepts is accepted, also where it is generous: a cut batch after the first one is ignored, a wrong
//! largest timestamp is corrected. Stricter where Kafka stores what no consumer can read: a compressed record must
//! fill the length that it states, offsets in a batch must count up (unless it is encoded anew), and a batch may not
//! decompress to more than [`Limits::batch_bytes_max`]. Where Kafka's check itself falls over a broken batch (a stream
//! that does not decompress, an unknown codec) and answers UNKNOWN_SERVER_ERROR, this one says INVALID_RECORD.

use std::fmt;

use bytes::Bytes;
use milena_base::{ErrorCode, Timestamp};

use crate::record::record_timestamp;
use crate::walk::{RecordHead, SliceSource, Source, StreamSource, walk_record};
use crate::{
    Batch, BatchError, BatchHeader, Codec, Compression, Decoder, HEADER_BYTES, Limits, RecordError,
    TimestampType, ValidBatch, rewrite, split_first,
};

/// Errors of single records that are reported; a batch may hold millions of records.
const RECORD_ERRORS_MAX: usize = 1000;
/// First Produce version that may carry zstd (KIP-110).
const ZSTD_VERSION_MIN: i16 = 7;

/// What a topic and a request say about a batch.
#[derive(Clone, Debug)]
pub struct CheckOptions {
    /// Version of the Produce request.
    pub produce_version: i16,
    /// `max.message.bytes`: of the batch as it is stored.
    pub message_bytes_max: usize,
    /// Whether `cleanup.policy` contains `compact`: records need keys.
    pub compacted: bool,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`.
    pub timestamp_before_ms_max: i64,
    /// `message.timestamp.after.max.ms`.
    pub timestamp_after_ms_max: i64,
    /// `compression.type` and its level; `None` keeps the producer's.
    pub compression: Option<Codec>,
    /// `max.decompressed.message.bytes`, and the bound of a whole batch.
    pub limits: Limits,
}

impl Default for CheckOptions {
    /// Kafka's defaults, for the newest Produce version.
    fn default() -> CheckOptions {
        CheckOptions {
            produce_version: 13,
            message_bytes_max: 1_048_588,
            compacted: false,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_ms_max: i64::MAX,
            timestamp_after_ms_max: 3_600_000,
            compression: None,
            limits: Limits::default(),
        }
    }
}

/// A batch that is not appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    pub code: ErrorCode,
    /// One sentence. Kafka sends a text only where `record_errors` is not empty.
    pub message: String,
    /// Index in the batch and reason of the records at fault (the first 1000 of them): for the response.
    pub record_errors: Vec<(i32, String)>,
}

impl Rejected {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Rejected {
        Rejected {
            code,
            message: message.into(),
            record_errors: Vec::new(),
        }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Rejected {
        Rejected::new(ErrorCode::InvalidRecord, message)
    }

    pub(crate) fn too_large(bytes: usize, max: usize) -> Rejected {
        Rejected::new(
            ErrorCode::MessageTooLarge,
            format!(
                "the batch of {bytes} bytes is larger than the topic's max.message.bytes, {max}"
            ),
        )
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Rejected {}

impl From<BatchError> for Rejected {
    fn from(error: BatchError) -> Rejected {
        Rejected::new(error.code(), error.to_string())
    }
}

impl From<RecordError> for Rejected {
    fn from(error: RecordError) -> Rejected {
        let code = match error {
            RecordError::BatchTooLarge { .. } => ErrorCode::MessageTooLarge,
            _ => ErrorCode::InvalidRecord,
        };
        Rejected::new(code, error.to_string())
    }
}

/// Checks what a producer sent for one partition: exactly one batch, intact and well formed. `now` is what its
/// timestamps are compared with; log-append time itself is stamped later. No allocation per record.
pub fn check(
    records: Bytes,
    options: &CheckOptions,
    now: Timestamp,
) -> Result<ValidBatch, Rejected> {
    let batch = single_batch(records, options)?;
    let compression = check_batch(&batch, options)?;
    check_client_header(batch.header())?;
    let walked = walk(&batch, compression, options, now)?;
    if let Some(target) = options
        .compression
        .filter(|to| to.compression != compression)
    {
        return rewrite::rewrite(&batch, target, options);
    }
    if !walked.contiguous {
        return Err(Rejected::invalid(
            "the offsets in the batch do not count up",
        ));
    }
    let mut header = *batch.header();
    if options.timestamp_type == TimestampType::CreateTime {
        header.set_max_timestamp(
            TimestampType::CreateTime,
            walked.max_timestamp,
            batch.bytes().len() - HEADER_BYTES,
        );
    }
    Ok(ValidBatch::new(header, batch.into_bytes()))
}

/// What the Produce API demands of a partition's records.
fn single_batch(records: Bytes, options: &CheckOptions) -> Result<Batch, Rejected> {
    let Some((size, magic)) = split_first(&records)? else {
        return Err(Rejected::invalid("there is no whole record batch"));
    };
    if magic != 2 {
        return Err(BatchError::OldFormat(magic).into());
    }
    let more = &records[size..];
    let batch = Batch::parse(records.slice(..size))?;
    if options.produce_version < ZSTD_VERSION_MIN {
        let compression = batch.header().compression();
        if compression.map_err(RecordError::UnknownCodec)? == Compression::Zstd {
            return Err(Rejected::new(
                ErrorCode::UnsupportedCompressionType,
                format!("zstd needs version {ZSTD_VERSION_MIN} of Produce"),
            ));
        }
    }
    match split_first(more)? {
        None => Ok(batch),
        Some(_) => Err(Rejected::invalid("there is more than one record batch")),
    }
}

/// What the log demands of a batch as a whole.
fn check_batch(batch: &Batch, options: &CheckOptions) -> Result<Compression, Rejected> {
    let header = batch.header();
    if header.base_offset_raw() != 0 {
        return Err(Rejected::invalid(format!(
            "the batch's base offset is {}, not 0",
            header.base_offset()
        )));
    }
    let size = batch.bytes().len();
    if size > options.message_bytes_max {
        return Err(Rejected::too_large(size, options.message_bytes_max));
    }
    batch.check_crc()?;
    let compression = header.compression().map_err(RecordError::UnknownCodec)?;
    Ok(compression)
}

/// What a client's header may say.
fn check_client_header(header: &BatchHeader) -> Result<(), Rejected> {
    let spanned = i64::from(header.last_offset_delta()) + 1;
    let count = i64::from(header.count());
    if spanned <= 0 {
        return Err(Rejected::invalid(format!(
            "the batch's last offset is {} before its first",
            -(spanned - 1)
        )));
    }
    if count <= 0 {
        return Err(Rejected::invalid(format!(
            "the batch states {count} records"
        )));
    }
    if spanned != count {
        return Err(Rejected::invalid(format!(
            "the batch states {count} records but spans {spanned} offsets"
        )));
    }
    if header.is_control() {
        return Err(Rejected::invalid("clients may not write control records"));
    }
    if header.has_producer_id() && header.base_sequence() < 0 {
        return Err(Rejected::invalid(format!(
            "the batch of producer {} has the sequence {}",
            header.producer_id(),
            header.base_sequence()
        )));
    }
    Ok(())
}

/// What is known once every record has been walked.
struct Walked {
    max_timestamp: Timestamp,
    /// Whether the records' offsets count up from 0.
    contiguous: bool,
}

fn walk(
    batch: &Batch,
    compression: Compression,
    options: &CheckOptions,
    now: Timestamp,
) -> Result<Walked, Rejected> {
    let records = &batch.bytes()[HEADER_BYTES..];
    let rules = RecordRules::new(batch.header(), options, now);
    if compression == Compression::None {
        return rules.walk(&mut SliceSource::new(records), u32::MAX);
    }
    let decoder = Decoder::new(compression, records).map_err(RecordError::from)?;
    let limits = options.limits;
    let mut source = StreamSource::new(decoder, limits.batch_bytes_max);
    rules.walk(&mut source, limits.record_bytes_max)
}

/// The rules for single records, and what has been found.
struct RecordRules<'a> {
    header: &'a BatchHeader,
    options: &'a CheckOptions,
    now: Timestamp,
    errors: Vec<(i32, String)>,
    errors_total: u64,
    bad_timestamps: bool,
}

impl<'a> RecordRules<'a> {
    fn new(header: &'a BatchHeader, options: &'a CheckOptions, now: Timestamp) -> RecordRules<'a> {
        RecordRules {
            header,
            options,
            now,
            errors: Vec::new(),
            errors_total: 0,
            bad_timestamps: false,
        }
    }

    /// A structural fault ends the walk at once; faults of single records are collected.
    fn walk(mut self, source: &mut impl Source, record_max: u32) -> Result<Walked, Rejected> {
        let mut walked = Walked {
            max_timestamp: Timestamp::NONE,
            contiguous: true,
        };
        for index in 0..self.header.count() {
            let record = walk_record(source, record_max)?;
            let timestamp = record_timestamp(self.header, record.timestamp_delta);
            walked.max_timestamp = walked.max_timestamp.max(timestamp);
            walked.contiguous &= record.offset_delta == index;
            self.judge(index, &record, timestamp);
        }
        if !source.at_end()? {
            return Err(RecordError::Malformed("bytes after the last of its batch").into());
        }
        self.verdict().map(|()| walked)
    }

    #[inline]
    fn judge(&mut self, index: i32, record: &RecordHead, timestamp: Timestamp) {
        if self.options.compacted && record.key_bytes < 0 {
            return self.note(index, || "a compacted topic needs records with keys".into());
        }
        let create_time = self.options.timestamp_type == TimestampType::CreateTime;
        if create_time && timestamp != Timestamp::NONE {
            if self.out_of_range(timestamp) {
                self.bad_timestamps = true;
                let (from, to) = self.range();
                self.note(index, || {
                    format!("the timestamp {} is not within {from} to {to}", timestamp.0)
                });
            }
        } else if self.header.timestamp_type() == TimestampType::LogAppendTime {
            self.bad_timestamps = true;
            self.note(index, || "a producer may not set log-append time".into());
        }
    }

    fn out_of_range(&self, timestamp: Timestamp) -> bool {
        let age = self.now.0.wrapping_sub(timestamp.0);
        age > self.options.timestamp_before_ms_max
            || age.wrapping_neg() > self.options.timestamp_after_ms_max
    }

    fn range(&self) -> (i64, i64) {
        let before = self.options.timestamp_before_ms_max;
        let after = self.options.timestamp_after_ms_max;
        (
            self.now.0.saturating_sub(before),
            self.now.0.saturating_add(after),
        )
    }

    #[cold]
    fn note(&mut self, index: i32, reason: impl FnOnce() -> String) {
        self.errors_total += 1;
        if self.errors.len() < RECORD_ERRORS_MAX {
            self.errors.push((index, reason()));
        }
    }

    fn verdict(self) -> Result<(), Rejected> {
        let total = self.errors_total;
        let (code, message) = match (total, self.bad_timestamps) {
            (0, _) => return Ok(()),
            (_, true) => (
                ErrorCode::InvalidTimestamp,
                format!("{total} records of the batch are refused, some for their timestamps"),
            ),
            (_, false) => (
                ErrorCode::InvalidRecord,
                format!("{total} records of the batch are refused"),
            ),
        };
        Err(Rejected {
            code,
            message,
            record_errors: self.errors,
        })
    }
}
