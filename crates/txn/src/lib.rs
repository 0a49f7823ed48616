//! `txn` is the transaction coordinator: which producer id and epoch a transactional id has, which partitions are in its
//! open transaction, how that ends and when. It decides what a request is answered, which records are written to
//! `__transaction_state`, and which markers are due. It appends nothing itself, talks to no partition and reads no clock.
//!
//! Start at [`TxnCoordinator`]; one partition's state machine is [`TxnShard`], driven by `coordinator`; what a single
//! transactional id may become is on [`Transaction`].
//!
//! Source: KIP-98, KIP-360, KIP-664, KIP-890; Kafka's `TransactionCoordinator` and `TransactionMetadata`.
//! Rules that it keeps:
//! - A decision (`PrepareCommit`, `PrepareAbort`) is in the log and committed before its first marker is asked for,
//!   and its markers are asked for again after every load, until `CompleteX` is in the log.
//! - An epoch that was given out is never given out again for the same producer id.
//! - An open transaction whose timeout has passed is aborted under an epoch that its producer does not have.
#![forbid(unsafe_code)]

mod api;
mod config;
mod coordinator;
mod end;
mod init;
mod list;
mod partitions;
mod record;
mod request;
mod shard;
mod state;
mod transaction;

pub use api::{TxnRequest, TxnResponse};
pub use config::TxnConfig;
pub use coordinator::{Cluster, TxnCoordinator, TxnEffect};
/// What the owner of a [`TxnCoordinator`] deals in.
pub use milena_coordinator::{
    Effect, Event, KeyValue, LoadedRecord, LogEnd, Marker, Payload, Producer, Token,
};
pub use record::TxnRecord;
pub use request::{Markers, ShardRequest, ShardResponse};
pub use shard::{ProducerIds, Transactions, TxnShard};
pub use state::State;
pub use transaction::Transaction;

/// `transaction.version` from which each transaction has an epoch of its own (KIP-890).
pub const EPOCH_BUMP_FROM: i16 = 2;
