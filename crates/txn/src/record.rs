//! Records of `__transaction_state`.

use std::collections::{BTreeMap, BTreeSet};

use milena_base::TopicPartition;
use milena_coordinator::KeyValue;
use milena_protocol::transaction_log_value::PartitionsSchema;
use milena_protocol::{
    DecodeError, EncodeError, Str, TransactionCoordinatorKey, TransactionCoordinatorValue,
    TransactionLogKey, TransactionLogValue, encode_versioned,
};

use crate::state::State;
use crate::transaction::{NO_EPOCH, Transaction};

/// What is known of a transactional id from here on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnRecord {
    pub transactional_id: Str,
    /// `None`: the id has expired.
    pub transaction: Option<Transaction>,
    /// Version of the value: 1, with tagged fields, once `transaction.version` is finalised at 1 or higher.
    pub version: i16,
}

impl TxnRecord {
    pub(crate) fn encode(&self) -> Result<KeyValue, EncodeError> {
        let key = TransactionCoordinatorKey::TransactionLog(TransactionLogKey {
            transactional_id: self.transactional_id.clone(),
        });
        let value = self.transaction.as_ref().map(|t| value(t, self.version));
        let encode = |value| encode_versioned(&value, self.version);
        Ok(KeyValue {
            key: key.encode()?,
            value: value.map(encode).transpose()?,
        })
    }

    /// Copies everything out of the input. `Ok(None)`: a kind that this release does not know.
    pub(crate) fn decode(record: KeyValue) -> Result<Option<TxnRecord>, String> {
        let said = |error: DecodeError| error.to_string();
        let TransactionCoordinatorKey::TransactionLog(key) =
            match TransactionCoordinatorKey::decode(&record.key) {
                Ok(key) => key,
                Err(DecodeError::UnknownRecord { .. }) => return Ok(None),
                Err(error) => return Err(said(error)),
            };
        let decode = |bytes| TransactionCoordinatorValue::decode(0, bytes).map_err(said);
        let decoded = record.value.as_ref().map(decode).transpose()?;
        let version = decoded.as_ref().map_or(0, |(_, version)| *version);
        let transaction = match decoded {
            None => None,
            Some((TransactionCoordinatorValue::TransactionLog(value), _)) => {
                Some(transaction(&value)?)
            }
        };
        Ok(Some(TxnRecord {
            transactional_id: key.transactional_id.detached(),
            transaction,
            version,
        }))
    }
}

fn value(transaction: &Transaction, version: i16) -> TransactionLogValue {
    let mut value = TransactionLogValue {
        producer_id: transaction.producer_id,
        producer_epoch: transaction.producer_epoch,
        transaction_timeout_ms: transaction.timeout_ms,
        transaction_status: transaction.state as i8,
        transaction_partitions: (transaction.state != State::Empty)
            .then(|| by_topic(&transaction.partitions)),
        transaction_last_update_timestamp_ms: transaction.updated_ms,
        transaction_start_timestamp_ms: transaction.start_ms,
        ..Default::default()
    };
    if version >= 1 {
        value.previous_producer_id = transaction.previous_producer_id;
        value.next_producer_id = transaction.next_producer_id;
        value.client_transaction_version = transaction.client_version;
    }
    value
}

fn by_topic(partitions: &BTreeSet<TopicPartition>) -> Vec<PartitionsSchema> {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for partition in partitions {
        let ids = topics.entry(&partition.topic).or_default();
        ids.push(partition.partition);
    }
    let topics = topics.into_iter();
    topics
        .map(|(topic, partition_ids)| PartitionsSchema {
            topic: Str::copy(topic),
            partition_ids,
        })
        .collect()
}

fn transaction(value: &TransactionLogValue) -> Result<Transaction, String> {
    let status = value.transaction_status;
    let state =
        State::of_id(status).ok_or_else(|| format!("unknown transaction status {status}"))?;
    let topics = value.transaction_partitions.iter().flatten();
    let partitions = topics.flat_map(|topic| {
        let ids = topic.partition_ids.iter();
        ids.map(|id| TopicPartition::new(topic.topic.as_str(), *id))
    });
    Ok(Transaction {
        producer_id: value.producer_id,
        previous_producer_id: value.previous_producer_id,
        next_producer_id: value.next_producer_id,
        producer_epoch: value.producer_epoch,
        last_producer_epoch: NO_EPOCH,
        timeout_ms: value.transaction_timeout_ms,
        state,
        partitions: partitions.collect(),
        start_ms: value.transaction_start_timestamp_ms,
        updated_ms: value.transaction_last_update_timestamp_ms,
        client_version: value.client_transaction_version,
    })
}
