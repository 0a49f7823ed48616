//! `records` knows the bytes of record batches (format v2, KIP-98): it parses and checks them without copying,
//! stamps their headers, walks and builds their records, and compresses and decompresses within bounds.
//!
//! It decides whether a batch is well formed and whether a producer may append it ([`check`]). It never decides
//! which offset a batch gets, whether a producer's sequence follows, or who leads: that is `log` and `replica`.
//! It performs no I/O and reads no clock.
//!
//! Start at [`BatchHeader`] (the 61 bytes), [`batches`] (a buffer of batches) and [`check`] (the way of a produce).
//! Only this crate can make a [`ValidBatch`], which is what a log appends.
//!
//! Formats 0 and 1 are refused, as Kafka 4 refuses them.
#![forbid(unsafe_code)]

mod batch;
mod builder;
mod check;
mod codec;
mod control;
mod header;
mod record;
mod retain;
mod rewrite;
mod valid;
mod varint;
mod walk;

pub use batch::{Batch, BatchError, Batches, batches, split_first};
pub use builder::{BatchBuilder, BuildError, NewRecord};
pub use check::{CheckOptions, Rejected, check};
pub use codec::{Codec, Compression, DecodeLimitError, Decoder, compress, decompress};
pub use control::{ControlType, control_record_key};
pub use header::{
    BatchHeader, HEADER_BYTES, LOG_OVERHEAD_BYTES, NO_SEQUENCE, TimestampType, decrement_sequence,
    increment_sequence,
};
pub use record::{Header, Limits, Record, RecordError, Records};
pub use retain::{emptied, retain_records};
pub use valid::{ValidBatch, check_replicated};
pub use walk::RecordHead;
