//! `log` keeps one partition's records in Kafka's files: segments of batches with offset, time and transaction
//! indexes, producer snapshots, leader epochs and checkpoints; and the log directory that holds all partitions.
//!
//! It decides where a batch goes, whether a producer may append it, what survives a crash and which segments are too
//! old. It never decides who leads, what is committed or what a client may read: offsets and epochs are told to it.
//! It opens no socket, starts no thread and reads no clock; it waits for the disk only where its documentation says so.
//!
//! Start at [`Log::open`] and [`Log::append_as_leader`]; readers go through [`LogReader::read`]; [`LogDir`] is one
//! entry of `log.dirs`. The formats can be read without a log, for tools: [`parse_offset_index`],
//! [`parse_time_index`], [`parse_txn_index`], [`parse_snapshot`], [`checkpoint`], [`partition_metadata`],
//! [`meta_properties`], [`clean_shutdown`].
//!
//! Compaction is a [`Cleaning`]: its owner steps it without the partition's lock, and takes the lock to put what it
//! made in place ([`Log::put_in_place`]).
#![forbid(unsafe_code)]

pub mod checkpoint;
pub mod clean_shutdown;
mod cleaner;
mod epochs;
mod error;
mod log;
mod log_dir;
mod marker;
pub mod meta_properties;
pub mod names;
mod options;
pub mod partition_metadata;
mod producers;
mod reader;
mod segment;

pub use cleaner::{CleanError, CleanStats, CleanStep, Cleanable, CleanerOptions, Cleaning};
pub use epochs::{EpochEntry, LeaderEpochs};
pub use error::{AppendError, Fault, Malformed, ReadError};
pub use log::{Closed, Flush, Log, LogAppended, OpenHints, Opened, Retained};
pub use log_dir::{LogDir, PartitionDir};
pub use options::{Cleanup, LogOptions};
pub use producers::{
    AppendOrigin, BATCHES_REMEMBERED, BatchMetadata, CompletedTxn, EndMarker, ProducerBatch,
    ProducerEntry, ProducerState, Verdict, format_snapshot, parse_snapshot,
};
pub use reader::{FoundOffset, LogReader, Slice};
pub use segment::{
    AbortedTxn, OFFSET_ENTRY_BYTES, OffsetEntry, TIME_ENTRY_BYTES, TXN_ENTRY_BYTES, TimeEntry,
    parse_offset_index, parse_time_index, parse_txn_index, remove_files,
};
