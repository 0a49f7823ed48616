//! What is asked of one shard, and what it answers.

use std::collections::BTreeSet;
use std::sync::Arc;

use milena_base::{ErrorCode, TopicPartition};
use milena_coordinator::{Marker, Producer};
use milena_protocol::Str;
use milena_protocol::describe_transactions_response::TransactionState as Described;
use milena_protocol::list_transactions_response::TransactionState as Listed;

use crate::list::Filter;

/// A question for one partition's shard.
#[derive(Clone, Debug)]
pub enum ShardRequest {
    /// A producer starts. `expected` is what it says it had.
    Init {
        id: Str,
        timeout_ms: i32,
        expected: Option<Producer>,
    },
    /// Partitions join the transaction. `client_version`: the protocol that the request shows.
    Add {
        id: Str,
        producer: Producer,
        partitions: Vec<TopicPartition>,
        client_version: i16,
    },
    /// Whether partitions are in the transaction.
    Verify {
        id: Str,
        producer: Producer,
        partitions: Vec<TopicPartition>,
    },
    End {
        id: Str,
        producer: Producer,
        committed: bool,
        client_version: i16,
    },
    List(Arc<Filter>),
    Describe(Str),
    /// All markers of a transaction are written.
    Written {
        id: Str,
        producer: Producer,
    },
}

/// The answer to the [`ShardRequest`] of the same name.
#[derive(Clone, Debug, PartialEq)]
pub enum ShardResponse {
    Init(Result<Producer, ErrorCode>),
    Add(Result<(), ErrorCode>),
    /// The partitions that are not in the transaction.
    Verify(Result<BTreeSet<TopicPartition>, ErrorCode>),
    End(Result<Producer, ErrorCode>),
    List(Result<Vec<Listed>, ErrorCode>),
    Describe(Described),
    Done,
    /// No answer: markers that are to be written.
    WriteMarkers(Box<Markers>),
}

/// The end of a transaction, to be told to every partition in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Markers {
    /// The partition of `__transaction_state` that decided.
    pub shard: i32,
    pub transactional_id: Str,
    pub marker: Marker,
    pub partitions: BTreeSet<TopicPartition>,
}

impl ShardRequest {
    /// The answer when no shard can be asked.
    pub(crate) fn refused(self, error: ErrorCode) -> ShardResponse {
        match self {
            ShardRequest::Init { .. } => ShardResponse::Init(Err(error)),
            ShardRequest::Add { .. } => ShardResponse::Add(Err(error)),
            ShardRequest::Verify { .. } => ShardResponse::Verify(Err(error)),
            ShardRequest::End { .. } => ShardResponse::End(Err(error)),
            // A partition that moved away is listed by its new leader.
            ShardRequest::List(_) if error == ErrorCode::NotCoordinator => {
                ShardResponse::List(Ok(Vec::new()))
            }
            ShardRequest::List(_) => ShardResponse::List(Err(error)),
            ShardRequest::Describe(id) => ShardResponse::Describe(describe_error(id, error)),
            ShardRequest::Written { .. } => ShardResponse::Done,
        }
    }
}

impl ShardResponse {
    /// The same answer with an error, after its records could not be committed.
    pub(crate) fn failed(self, error: ErrorCode) -> ShardResponse {
        let error = visible(error);
        match self {
            ShardResponse::Init(_) => ShardResponse::Init(Err(error)),
            ShardResponse::Add(_) => ShardResponse::Add(Err(error)),
            ShardResponse::Verify(_) => ShardResponse::Verify(Err(error)),
            ShardResponse::End(_) => ShardResponse::End(Err(error)),
            ShardResponse::List(_) => ShardResponse::List(Err(error)),
            ShardResponse::Describe(described) => {
                ShardResponse::Describe(describe_error(described.transactional_id, error))
            }
            other @ (ShardResponse::Done | ShardResponse::WriteMarkers(_)) => other,
        }
    }
}

pub(crate) fn describe_error(id: Str, error: ErrorCode) -> Described {
    Described {
        error_code: error.code(),
        transactional_id: id,
        ..Default::default()
    }
}

/// An append's error as producers are to see it.
fn visible(error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::UnknownTopicOrPartition
        | ErrorCode::NotEnoughReplicas
        | ErrorCode::NotEnoughReplicasAfterAppend
        | ErrorCode::RequestTimedOut => ErrorCode::CoordinatorNotAvailable,
        ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError => ErrorCode::NotCoordinator,
        ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge => ErrorCode::UnknownServerError,
        other => other,
    }
}
