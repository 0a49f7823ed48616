//! The first 61 bytes of a batch. Every number is big-endian; the CRC covers everything from the attributes on.
//!
//! ```text
//!  0 baseOffset i64          27 baseTimestamp i64
//!  8 batchLength i32         35 maxTimestamp i64
//! 12 partitionLeaderEpoch    43 producerId i64
//! 16 magic i8                51 producerEpoch i16
//! 17 crc u32                 53 baseSequence i32
//! 21 attributes i16          57 recordsCount i32
//! 23 lastOffsetDelta i32     61 records
//! ```

use std::fmt;

use milena_base::{Epoch, Offset, Timestamp};

use crate::Compression;

/// Bytes of a batch before its records.
pub const HEADER_BYTES: usize = 61;
/// Bytes before those that `batchLength` counts: the base offset and the length itself.
pub const LOG_OVERHEAD_BYTES: usize = 12;
/// The sequence of a batch without a producer id.
pub const NO_SEQUENCE: i32 = -1;

const LENGTH_AT: usize = 8;
const LEADER_EPOCH_AT: usize = 12;
pub(crate) const MAGIC_AT: usize = 16;
const CRC_AT: usize = 17;
/// Where the bytes covered by the CRC begin.
pub(crate) const COVERED_AT: usize = 21;
const LAST_OFFSET_DELTA_AT: usize = 23;
const BASE_TIMESTAMP_AT: usize = 27;
const MAX_TIMESTAMP_AT: usize = 35;
const PRODUCER_ID_AT: usize = 43;
const PRODUCER_EPOCH_AT: usize = 51;
const BASE_SEQUENCE_AT: usize = 53;
const COUNT_AT: usize = 57;

const COMPRESSION_MASK: i16 = 0x07;
const LOG_APPEND_TIME: i16 = 0x08;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;
const DELETE_HORIZON: i16 = 0x40;

/// Whose clock a batch's timestamps are from (`message.timestamp.type`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimestampType {
    #[default]
    CreateTime,
    LogAppendTime,
}

impl TimestampType {
    /// Kafka's name, as in configs and tools.
    pub fn name(self) -> &'static str {
        match self {
            TimestampType::CreateTime => "CreateTime",
            TimestampType::LogAppendTime => "LogAppendTime",
        }
    }
}

/// A batch's header: 61 owned bytes with accessors. Any 61 bytes are one; nothing is checked here.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    bytes: [u8; HEADER_BYTES],
}

macro_rules! field {
    ($get:ident $set:ident $type:ty, $at:expr, $doc:literal) => {
        #[doc = $doc]
        pub fn $get(&self) -> $type {
            <$type>::from_be_bytes(self.at($at))
        }

        pub(crate) fn $set(&mut self, value: $type) {
            let bytes = value.to_be_bytes();
            self.bytes[$at..$at + bytes.len()].copy_from_slice(&bytes);
        }
    };
}

impl BatchHeader {
    /// The header at the front of these bytes; `None` where there are fewer than 61.
    pub fn parse(bytes: &[u8]) -> Option<BatchHeader> {
        bytes
            .first_chunk::<HEADER_BYTES>()
            .map(|bytes| BatchHeader { bytes: *bytes })
    }

    /// A header of zeros but for the magic byte and the "none" values: what the builder starts from.
    pub(crate) fn empty() -> BatchHeader {
        let mut header = BatchHeader {
            bytes: [0; HEADER_BYTES],
        };
        header.bytes[MAGIC_AT] = 2;
        header.set_leader_epoch_raw(Epoch::NONE.0);
        header.set_base_timestamp_raw(Timestamp::NONE.0);
        header.set_max_timestamp_raw(Timestamp::NONE.0);
        header.set_producer_id(-1);
        header.set_producer_epoch(-1);
        header.set_base_sequence(NO_SEQUENCE);
        header
    }

    fn at<const N: usize>(&self, at: usize) -> [u8; N] {
        *self.bytes[at..]
            .first_chunk::<N>()
            .expect("fields lie within the header")
    }

    /// The header as it is written.
    pub fn as_bytes(&self) -> &[u8; HEADER_BYTES] {
        &self.bytes
    }

    field!(base_offset_raw set_base_offset_raw i64, 0, "Offset of the first record, as a plain integer.");
    field!(batch_length set_batch_length i32, LENGTH_AT, "Bytes after this field; see [`BatchHeader::size`].");
    field!(leader_epoch_raw set_leader_epoch_raw i32, LEADER_EPOCH_AT, "`partitionLeaderEpoch`, as a plain integer.");
    field!(crc set_crc u32, CRC_AT, "CRC-32C of everything from the attributes on, as stored.");
    field!(attributes set_attributes i16, COVERED_AT, "The attribute bits.");
    field!(last_offset_delta set_last_offset_delta i32, LAST_OFFSET_DELTA_AT, "Last offset minus base offset; kept by compaction.");
    field!(base_timestamp_raw set_base_timestamp_raw i64, BASE_TIMESTAMP_AT, "What the records' timestamps count from, or the delete horizon (ms).");
    field!(max_timestamp_raw set_max_timestamp_raw i64, MAX_TIMESTAMP_AT, "Largest timestamp of the batch, as a plain integer (ms).");
    field!(producer_id set_producer_id i64, PRODUCER_ID_AT, "−1 where the producer is not idempotent.");
    field!(producer_epoch set_producer_epoch i16, PRODUCER_EPOCH_AT, "−1 where the producer is not idempotent.");
    field!(base_sequence set_base_sequence i32, BASE_SEQUENCE_AT, "Sequence of the first record; −1 without one.");
    field!(count set_count i32, COUNT_AT, "Records in the batch, as declared.");

    pub fn base_offset(&self) -> Offset {
        Offset(self.base_offset_raw())
    }

    /// Offset of the last record that the batch was written with. Wraps, as a Java `long` does.
    pub fn last_offset(&self) -> Offset {
        Offset(
            self.base_offset_raw()
                .wrapping_add(i64::from(self.last_offset_delta())),
        )
    }

    /// The offset after this batch.
    pub fn next_offset(&self) -> Offset {
        Offset(self.last_offset().0.wrapping_add(1))
    }

    pub fn leader_epoch(&self) -> Epoch {
        Epoch(self.leader_epoch_raw())
    }

    /// 2 for every batch that this crate reads further.
    pub fn magic(&self) -> i8 {
        self.bytes[MAGIC_AT] as i8
    }

    /// Bytes of the whole batch, header and all; `None` where the length field is negative.
    pub fn size(&self) -> Option<usize> {
        usize::try_from(self.batch_length())
            .ok()
            .map(|length| length + LOG_OVERHEAD_BYTES)
    }

    /// The codec of the records; the number where it is none that exists.
    pub fn compression(&self) -> Result<Compression, i16> {
        let id = self.attributes() & COMPRESSION_MASK;
        Compression::from_id(id).ok_or(id)
    }

    pub fn timestamp_type(&self) -> TimestampType {
        match self.attributes() & LOG_APPEND_TIME {
            0 => TimestampType::CreateTime,
            _ => TimestampType::LogAppendTime,
        }
    }

    pub fn is_transactional(&self) -> bool {
        self.attributes() & TRANSACTIONAL != 0
    }

    /// Whether the batch holds control records (markers of transactions, of the quorum) that no consumer sees.
    pub fn is_control(&self) -> bool {
        self.attributes() & CONTROL != 0
    }

    /// When compaction may drop the batch's tombstones and markers (KIP-534); `None` while it has not been set.
    pub fn delete_horizon(&self) -> Option<Timestamp> {
        (self.attributes() & DELETE_HORIZON != 0).then(|| Timestamp(self.base_timestamp_raw()))
    }

    pub fn base_timestamp(&self) -> Timestamp {
        Timestamp(self.base_timestamp_raw())
    }

    pub fn max_timestamp(&self) -> Timestamp {
        Timestamp(self.max_timestamp_raw())
    }

    /// Whether the producer is idempotent.
    pub fn has_producer_id(&self) -> bool {
        self.producer_id() > -1
    }

    /// Sequence of the last record; −1 without one. Wraps to 0 after `i32::MAX`.
    pub fn last_sequence(&self) -> i32 {
        match self.base_sequence() {
            NO_SEQUENCE => NO_SEQUENCE,
            base => increment_sequence(base, self.last_offset_delta()),
        }
    }

    /// CRC of the header's covered bytes alone.
    pub(crate) fn covered_crc(&self) -> u32 {
        crc32c::crc32c(&self.bytes[COVERED_AT..])
    }

    /// The CRC that the batch should have, given the bytes after the header.
    pub fn computed_crc(&self, records: &[u8]) -> u32 {
        crc32c::crc32c_append(self.covered_crc(), records)
    }

    pub(crate) fn set_flags(
        &mut self,
        compression: Compression,
        timestamps: TimestampType,
        transactional: bool,
        control: bool,
    ) {
        let mut attributes = compression.id();
        if timestamps == TimestampType::LogAppendTime {
            attributes |= LOG_APPEND_TIME;
        }
        if transactional {
            attributes |= TRANSACTIONAL;
        }
        if control {
            attributes |= CONTROL;
        }
        self.set_attributes(attributes);
    }

    /// Says that the base timestamp is a delete horizon.
    pub(crate) fn set_delete_horizon_flag(&mut self) {
        self.set_attributes(self.attributes() | DELETE_HORIZON);
    }

    /// Sets type and largest timestamp as Kafka's `setMaxTimestamp` does: nothing changes where both are so
    /// already, otherwise unknown attribute bits are cleared and the CRC follows.
    pub(crate) fn set_max_timestamp(
        &mut self,
        timestamps: TimestampType,
        max: Timestamp,
        records_bytes: usize,
    ) {
        if self.timestamp_type() == timestamps && self.max_timestamp() == max {
            return;
        }
        let before = self.covered_crc();
        let mut attributes =
            self.attributes() & (COMPRESSION_MASK | TRANSACTIONAL | CONTROL | DELETE_HORIZON);
        if timestamps == TimestampType::LogAppendTime {
            attributes |= LOG_APPEND_TIME;
        }
        self.set_attributes(attributes);
        self.set_max_timestamp_raw(max.0);
        self.shift_crc(before, records_bytes);
    }

    /// Sets who produced the batch; the CRC follows.
    pub(crate) fn set_producer(
        &mut self,
        id: i64,
        epoch: i16,
        sequence: i32,
        records_bytes: usize,
    ) {
        let before = self.covered_crc();
        self.set_producer_id(id);
        self.set_producer_epoch(epoch);
        self.set_base_sequence(sequence);
        self.shift_crc(before, records_bytes);
    }

    /// Corrects a CRC that was right for covered header bytes of CRC `before`, without reading the records: a CRC
    /// is linear, so the difference of the two headers' CRCs moves through `records_bytes` bytes.
    fn shift_crc(&mut self, before: u32, records_bytes: usize) {
        let difference = before ^ self.covered_crc();
        let crc = match records_bytes {
            0 => self.crc() ^ difference,
            bytes => crc32c::crc32c_combine(difference, self.crc(), bytes),
        };
        self.set_crc(crc);
    }
}

impl fmt::Debug for BatchHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchHeader")
            .field("base_offset", &self.base_offset_raw())
            .field("batch_length", &self.batch_length())
            .field("leader_epoch", &self.leader_epoch_raw())
            .field("magic", &self.magic())
            .field("crc", &self.crc())
            .field("attributes", &self.attributes())
            .field("last_offset_delta", &self.last_offset_delta())
            .field("base_timestamp", &self.base_timestamp_raw())
            .field("max_timestamp", &self.max_timestamp_raw())
            .field("producer_id", &self.producer_id())
            .field("producer_epoch", &self.producer_epoch())
            .field("base_sequence", &self.base_sequence())
            .field("count", &self.count())
            .finish()
    }
}

/// The sequence `increment` records later: after `i32::MAX` comes 0 (Kafka's `incrementSequence`).
pub fn increment_sequence(sequence: i32, increment: i32) -> i32 {
    if sequence > i32::MAX.wrapping_sub(increment) {
        increment
            .wrapping_sub(i32::MAX.wrapping_sub(sequence))
            .wrapping_sub(1)
    } else {
        sequence.wrapping_add(increment)
    }
}

/// The sequence `decrement` records earlier.
pub fn decrement_sequence(sequence: i32, decrement: i32) -> i32 {
    if sequence < decrement {
        i32::MAX
            .wrapping_sub(decrement.wrapping_sub(sequence))
            .wrapping_add(1)
    } else {
        sequence.wrapping_sub(decrement)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_wrap_to_zero() {
        assert_eq!(increment_sequence(i32::MAX, 1), 0);
        assert_eq!(increment_sequence(i32::MAX - 1, 4), 2);
        assert_eq!(increment_sequence(5, 3), 8);
        assert_eq!(decrement_sequence(0, 1), i32::MAX);
        assert_eq!(decrement_sequence(2, 4), i32::MAX - 1);
    }

    #[test]
    fn the_crc_follows_a_changed_header_without_reading_the_records() {
        for length in [0usize, 1, 7, 64, 1000, 1 << 20] {
            let records: Vec<u8> = (0..length).map(|i| (i * 31) as u8).collect();
            let mut header = BatchHeader::empty();
            header.set_crc(header.computed_crc(&records));
            header.set_max_timestamp(TimestampType::LogAppendTime, Timestamp(1_234_567), length);
            assert_eq!(header.crc(), header.computed_crc(&records), "{length}");
        }
    }
}
