//! AddPartitionsToTxn, and the question of a partition's leader whether a producer may write to it (KIP-890).

use milena_base::{ErrorCode, TopicPartition};
use milena_coordinator::{Producer, Token, Turn, Write};
use milena_protocol::Str;

use crate::init::producer_of;
use crate::request::ShardResponse;
use crate::shard::TxnShard;
use crate::state::State;
use crate::transaction::Transaction;

impl TxnShard {
    pub(crate) fn add_partitions(
        &mut self,
        token: Token,
        id: Str,
        producer: Producer,
        partitions: Vec<TopicPartition>,
        client_version: i16,
        turn: &mut Turn<'_, TxnShard>,
    ) -> Option<Write<TxnShard>> {
        let found = self.transactions.get(&id);
        let found = found.ok_or(ErrorCode::InvalidProducerIdMapping);
        let admitted = found.and_then(|t| match t.state.is_prepared() {
            // First of all: the producer may already use the id that comes after the markers.
            true => Err(ErrorCode::ConcurrentTransactions),
            false => is_current(t, producer).map(|()| t),
        });
        let transaction = match admitted {
            Ok(transaction) => transaction,
            Err(error) => {
                turn.reply(token, ShardResponse::Add(Err(error)));
                return None;
            }
        };
        let all_there = transaction.state == State::Ongoing
            && partitions
                .iter()
                .all(|p| transaction.partitions.contains(p));
        let records = match all_there {
            // The answer waits for what added them.
            true => Vec::new(),
            false => {
                let now_ms = turn.now.wall.0;
                let next = transaction.with_partitions(partitions, client_version, now_ms);
                vec![self.record(id, next)]
            }
        };
        Some(Write::new(records).answer(token, ShardResponse::Add(Ok(()))))
    }

    pub(crate) fn verify_partitions(
        &mut self,
        token: Token,
        id: &Str,
        producer: Producer,
        partitions: Vec<TopicPartition>,
    ) -> Option<Write<TxnShard>> {
        let found = self.transactions.get(id);
        let found = found.ok_or(ErrorCode::InvalidProducerIdMapping);
        let verified = found.and_then(|t| {
            is_current(t, producer)?;
            if t.state.is_prepared() {
                return Err(ErrorCode::ConcurrentTransactions);
            }
            let missing = partitions.into_iter().filter(|p| !t.partitions.contains(p));
            Ok(missing.collect())
        });
        Some(Write::new(Vec::new()).answer(token, ShardResponse::Verify(verified)))
    }
}

fn is_current(transaction: &Transaction, producer: Producer) -> Result<(), ErrorCode> {
    let current = producer_of(transaction);
    if current.id != producer.id {
        return Err(ErrorCode::InvalidProducerIdMapping);
    }
    match current.epoch == producer.epoch {
        true => Ok(()),
        false => Err(ErrorCode::ProducerFenced),
    }
}
