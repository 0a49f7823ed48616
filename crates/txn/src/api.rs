//! Requests as clients and brokers send them, and their answers, in every version.

use std::collections::BTreeSet;

use milena_base::{ErrorCode, TopicPartition};
use milena_coordinator::Producer;
use milena_protocol::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use milena_protocol::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
};
use milena_protocol::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse, DescribeTransactionsRequest, DescribeTransactionsResponse,
    EndTxnRequest, EndTxnResponse, InitProducerIdRequest, InitProducerIdResponse,
    ListTransactionsRequest, ListTransactionsResponse,
};

/// A request about transactions.
#[derive(Clone, Debug)]
pub enum TxnRequest {
    /// With a transactional id.
    InitProducerId(InitProducerIdRequest),
    AddPartitionsToTxn(AddPartitionsToTxnRequest),
    AddOffsetsToTxn(AddOffsetsToTxnRequest),
    EndTxn(EndTxnRequest),
    ListTransactions(ListTransactionsRequest),
    DescribeTransactions(DescribeTransactionsRequest),
}

/// The answer to the [`TxnRequest`] of the same name, ready to be encoded in the request's version.
#[derive(Clone, Debug, PartialEq)]
pub enum TxnResponse {
    InitProducerId(InitProducerIdResponse),
    AddPartitionsToTxn(AddPartitionsToTxnResponse),
    AddOffsetsToTxn(AddOffsetsToTxnResponse),
    EndTxn(EndTxnResponse),
    ListTransactions(ListTransactionsResponse),
    DescribeTransactions(DescribeTransactionsResponse),
}

macro_rules! conversions {
    ($($variant:ident $request:ident $response:ident;)*) => {$(
        impl From<$request> for TxnRequest {
            fn from(request: $request) -> TxnRequest {
                TxnRequest::$variant(request)
            }
        }
        impl From<$response> for TxnResponse {
            fn from(response: $response) -> TxnResponse {
                TxnResponse::$variant(response)
            }
        }
    )*};
}

conversions! {
    InitProducerId InitProducerIdRequest InitProducerIdResponse;
    AddPartitionsToTxn AddPartitionsToTxnRequest AddPartitionsToTxnResponse;
    AddOffsetsToTxn AddOffsetsToTxnRequest AddOffsetsToTxnResponse;
    EndTxn EndTxnRequest EndTxnResponse;
    ListTransactions ListTransactionsRequest ListTransactionsResponse;
    DescribeTransactions DescribeTransactionsRequest DescribeTransactionsResponse;
}

/// First version of InitProducerId whose clients know PRODUCER_FENCED.
const INIT_FENCED_FROM: i16 = 4;
/// The same of AddPartitionsToTxn, AddOffsetsToTxn and EndTxn.
const FENCED_FROM: i16 = 2;
/// First version of AddPartitionsToTxn with several transactions.
pub(crate) const BATCHED_FROM: i16 = 4;

/// Older clients know PRODUCER_FENCED by another name.
fn known(error: ErrorCode, version: i16, fenced_from: i16) -> i16 {
    match error {
        ErrorCode::ProducerFenced if version < fenced_from => {
            ErrorCode::InvalidProducerEpoch.code()
        }
        other => other.code(),
    }
}

pub(crate) fn init_answer(
    result: Result<Producer, ErrorCode>,
    version: i16,
) -> InitProducerIdResponse {
    match result {
        Ok(producer) => InitProducerIdResponse {
            producer_id: producer.id,
            producer_epoch: producer.epoch,
            ..Default::default()
        },
        Err(error) => InitProducerIdResponse {
            error_code: known(error, version, INIT_FENCED_FROM),
            producer_id: -1,
            producer_epoch: -1,
            ..Default::default()
        },
    }
}

pub(crate) fn add_offsets_answer(
    result: Result<(), ErrorCode>,
    version: i16,
) -> AddOffsetsToTxnResponse {
    AddOffsetsToTxnResponse {
        error_code: result.map_or_else(|error| known(error, version, FENCED_FROM), |()| 0),
        ..Default::default()
    }
}

pub(crate) fn end_answer(result: Result<Producer, ErrorCode>, version: i16) -> EndTxnResponse {
    match result {
        Ok(producer) => EndTxnResponse {
            producer_id: producer.id,
            producer_epoch: producer.epoch,
            ..Default::default()
        },
        Err(error) => EndTxnResponse {
            error_code: known(error, version, FENCED_FROM),
            producer_id: -1,
            producer_epoch: -1,
            ..Default::default()
        },
    }
}

/// The transactions of an AddPartitionsToTxn; before v4 there is one, beside the list.
pub(crate) fn transactions(
    request: AddPartitionsToTxnRequest,
    version: i16,
) -> Vec<AddPartitionsToTxnTransaction> {
    if version >= BATCHED_FROM {
        return request.transactions;
    }
    vec![AddPartitionsToTxnTransaction {
        transactional_id: request.v3_and_below_transactional_id,
        producer_id: request.v3_and_below_producer_id,
        producer_epoch: request.v3_and_below_producer_epoch,
        verify_only: false,
        topics: request.v3_and_below_topics,
    }]
}

pub(crate) fn partitions_of(topics: &[AddPartitionsToTxnTopic]) -> Vec<TopicPartition> {
    let of_topic = |topic: &AddPartitionsToTxnTopic| {
        let name = topic.name.clone();
        let partitions = topic.partitions.clone().into_iter();
        partitions.map(move |p| TopicPartition::new(name.as_str(), p))
    };
    topics.iter().flat_map(of_topic).collect()
}

/// One transaction's part of the answer: an error for each partition that was named.
pub(crate) fn add_result(
    transaction: &AddPartitionsToTxnTransaction,
    version: i16,
    error_of: impl Fn(&TopicPartition) -> ErrorCode,
) -> AddPartitionsToTxnResult {
    let topics = transaction.topics.iter().map(|topic| {
        let of_partition = |&index: &i32| {
            let error = error_of(&TopicPartition::new(topic.name.as_str(), index));
            AddPartitionsToTxnPartitionResult {
                partition_index: index,
                partition_error_code: known(error, version, FENCED_FROM),
            }
        };
        AddPartitionsToTxnTopicResult {
            name: topic.name.clone(),
            results_by_partition: topic.partitions.iter().map(of_partition).collect(),
        }
    });
    AddPartitionsToTxnResult {
        transactional_id: transaction.transactional_id.clone(),
        topic_results: topics.collect(),
    }
}

/// An error for partitions that are missing from a transaction.
pub(crate) fn verified(
    missing: &Result<BTreeSet<TopicPartition>, ErrorCode>,
    partition: &TopicPartition,
) -> ErrorCode {
    match missing {
        Ok(missing) if missing.contains(partition) => ErrorCode::TransactionAbortable,
        Ok(_) => ErrorCode::None,
        Err(error) => *error,
    }
}

pub(crate) fn add_answer(
    mut results: Vec<AddPartitionsToTxnResult>,
    version: i16,
) -> AddPartitionsToTxnResponse {
    let mut response = AddPartitionsToTxnResponse::default();
    if version >= BATCHED_FROM {
        response.results_by_transaction = results;
    } else if let Some(only) = results.pop() {
        response.results_by_topic_v3_and_below = only.topic_results;
    }
    response
}
