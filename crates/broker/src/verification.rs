//! The question whether a producer may write to partitions (KIP-890): which request waits for it, and what it is
//! told. The question goes to the coordinator of the transactional id as an AddPartitionsToTxn.

use std::collections::BTreeMap;

use milena_base::{ErrorCode, TopicPartition};
use milena_protocol::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use milena_protocol::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, Str, TxnOffsetCommitRequest,
};
use milena_replica::Guard;

use crate::api::produce::HeldProduce;
use crate::ctx::Ctx;

/// Version of AddPartitionsToTxn between brokers.
pub(crate) const VERSION: i16 = 5;

/// What the asking client can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Support {
    /// It adds its partitions itself, and knows INVALID_TXN_STATE.
    OldErrors,
    /// It adds its partitions itself, and knows TRANSACTION_ABORTABLE.
    AbortableError,
    /// It leaves the adding to the broker.
    AddsImplicitly,
}

impl Support {
    pub(crate) fn of_produce(version: i16) -> Support {
        Support::of(version, 11)
    }

    pub(crate) fn of_offset_commit(version: i16) -> Support {
        Support::of(version, 4)
    }

    /// `abortable` is the first version that knows the error; the next one adds implicitly.
    fn of(version: i16, abortable: i16) -> Support {
        match version {
            v if v > abortable => Support::AddsImplicitly,
            v if v == abortable => Support::AbortableError,
            _ => Support::OldErrors,
        }
    }
}

/// A request that waits for the coordinator's word.
#[derive(Debug)]
pub enum Held {
    Produce(Box<HeldProduce>),
    Offsets {
        ctx: Box<Ctx>,
        request: Box<TxnOffsetCommitRequest>,
        guard: Guard,
    },
}

/// The question, and who waits for the answer.
#[derive(Debug)]
pub struct Question {
    pub transactional_id: Str,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub partitions: Vec<TopicPartition>,
    pub support: Support,
    pub held: Held,
}

impl Question {
    pub(crate) fn request(&self) -> AddPartitionsToTxnRequest {
        let mut topics: Vec<AddPartitionsToTxnTopic> = Vec::new();
        for partition in &self.partitions {
            match topics.iter_mut().find(|t| t.name == partition.topic) {
                Some(topic) => topic.partitions.push(partition.partition),
                None => topics.push(AddPartitionsToTxnTopic {
                    name: Str::copy(&partition.topic),
                    partitions: vec![partition.partition],
                }),
            }
        }
        AddPartitionsToTxnRequest {
            transactions: vec![AddPartitionsToTxnTransaction {
                transactional_id: self.transactional_id.clone(),
                producer_id: self.producer_id,
                producer_epoch: self.producer_epoch,
                verify_only: self.support != Support::AddsImplicitly,
                topics,
            }],
            ..Default::default()
        }
    }

    /// The coordinator's word on each partition, as the client knows errors.
    pub(crate) fn verdicts(
        &self,
        response: &AddPartitionsToTxnResponse,
    ) -> BTreeMap<TopicPartition, ErrorCode> {
        let transactions = response.results_by_transaction.iter();
        let topics = transactions.flat_map(|t| &t.topic_results);
        let partitions = topics.flat_map(|topic| {
            topic.results_by_partition.iter().map(|result| {
                let code = ErrorCode::from_code(result.partition_error_code);
                let error = code.unwrap_or(ErrorCode::UnknownServerError);
                let partition = TopicPartition::new(topic.name.as_str(), result.partition_index);
                (partition, self.known(error))
            })
        });
        partitions.collect()
    }

    /// The same word on every partition.
    pub(crate) fn all(&self, error: ErrorCode) -> BTreeMap<TopicPartition, ErrorCode> {
        let partitions = self.partitions.iter().cloned();
        partitions.map(|partition| (partition, error)).collect()
    }

    fn known(&self, error: ErrorCode) -> ErrorCode {
        match error {
            ErrorCode::ProducerFenced => ErrorCode::InvalidProducerEpoch,
            ErrorCode::TransactionAbortable if self.support == Support::OldErrors => {
                ErrorCode::InvalidTxnState
            }
            other => other,
        }
    }

    /// The transaction before has not got all its markers yet: soon it will.
    pub(crate) fn is_worth_waiting(&self, response: &AddPartitionsToTxnResponse) -> bool {
        let concurrent = ErrorCode::ConcurrentTransactions.code();
        let transactions = response.results_by_transaction.iter();
        let mut partitions = transactions
            .flat_map(|t| &t.topic_results)
            .flat_map(|topic| &topic.results_by_partition);
        self.support == Support::AddsImplicitly
            && partitions.any(|result| result.partition_error_code == concurrent)
    }
}
