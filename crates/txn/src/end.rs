//! EndTxn, and ends that nobody asked for: of fenced producers and after timeouts. v5: the epoch is raised and told
//! in every answer (KIP-890).

use milena_base::ErrorCode;
use milena_coordinator::{Producer, Token, Turn, Write};
use milena_protocol::Str;

use crate::EPOCH_BUMP_FROM;
use crate::init::producer_of;
use crate::request::ShardResponse;
use crate::shard::{After, TxnShard};
use crate::state::State;
use crate::transaction::Transaction;

/// What an EndTxn comes to.
enum Verdict {
    /// It was done before: the answer is that of the first time.
    Repeated,
    /// Decide so.
    Prepare,
}

impl TxnShard {
    pub(crate) fn end(
        &mut self,
        token: Token,
        id: Str,
        producer: Producer,
        committed: bool,
        client_version: i16,
        turn: &mut Turn<'_, TxnShard>,
    ) -> Option<Write<TxnShard>> {
        let decided = match self.transactions.get(&id) {
            None => Err(ErrorCode::InvalidProducerIdMapping),
            Some(transaction) => {
                let verdict = match client_version >= EPOCH_BUMP_FROM {
                    true => verdict_with_epochs(transaction, producer, committed),
                    false => verdict(transaction, producer, committed),
                };
                verdict.and_then(|verdict| match verdict {
                    Verdict::Repeated => Ok((producer_of(transaction), None)),
                    Verdict::Prepare => {
                        let now_ms = turn.now.wall.0;
                        let next = self.decide(transaction, committed, client_version, now_ms)?;
                        Ok((producer_of(&next.completed(now_ms)), Some(next)))
                    }
                })
            }
        };
        match decided {
            Ok((producer, None)) => {
                let answer = ShardResponse::End(Ok(producer));
                Some(Write::new(Vec::new()).answer(token, answer))
            }
            Ok((producer, Some(next))) => {
                let answer = ShardResponse::End(Ok(producer));
                let write = Write::new(vec![self.record(id.clone(), next)]).answer(token, answer);
                Some(write.after(After::Prepared(vec![id])))
            }
            Err(error) => {
                turn.reply(token, ShardResponse::End(Err(error)));
                None
            }
        }
    }

    /// A decision with the id that follows where the epochs are used up.
    fn decide(
        &self,
        transaction: &Transaction,
        committed: bool,
        client_version: i16,
        now_ms: i64,
    ) -> Result<Transaction, ErrorCode> {
        let rotates = client_version >= EPOCH_BUMP_FROM && transaction.is_exhausted();
        let next_id = match rotates {
            true => Some(self.fresh_id()?),
            false => None,
        };
        Ok(transaction.prepared(committed, client_version, next_id, now_ms))
    }

    /// The abort of a transaction whose producer is not to go on with it.
    fn abort(&self, transaction: &Transaction, now_ms: i64) -> Result<Transaction, ErrorCode> {
        let version = self.cluster_version();
        if version >= EPOCH_BUMP_FROM {
            return self.decide(transaction, false, version, now_ms);
        }
        Ok(transaction.fenced().prepared(false, 0, None, now_ms))
    }

    /// Aborts what the producer before left open; the one that asks comes again.
    pub(crate) fn fence(
        &mut self,
        token: Token,
        id: Str,
        transaction: &Transaction,
        turn: &mut Turn<'_, TxnShard>,
    ) -> Option<Write<TxnShard>> {
        match self.abort(transaction, turn.now.wall.0) {
            Ok(next) => {
                let answer = ShardResponse::Init(Err(ErrorCode::ConcurrentTransactions));
                let write = Write::new(vec![self.record(id.clone(), next)]).answer(token, answer);
                Some(write.after(After::Prepared(vec![id])))
            }
            Err(error) => {
                turn.reply(token, ShardResponse::Init(Err(error)));
                None
            }
        }
    }

    /// Aborts every open transaction whose timeout has passed.
    pub(crate) fn abort_timed_out(&mut self, now_ms: i64) -> Option<Write<TxnShard>> {
        let mut records = Vec::new();
        let mut ids = Vec::new();
        for (id, transaction) in &self.transactions {
            if !transaction.is_timed_out(now_ms) {
                continue;
            }
            // Without a producer id to go on with it is tried again at the next look.
            if let Ok(next) = self.abort(transaction, now_ms) {
                tracing::info!(%id, "a transaction has timed out and is aborted");
                records.push(self.record(id.clone(), next));
                ids.push(id.clone());
            }
        }
        (!ids.is_empty()).then(|| Write::new(records).divisible().after(After::Prepared(ids)))
    }

    /// All markers of a transaction are written.
    pub(crate) fn written(
        &mut self,
        id: Str,
        producer: Producer,
        now_ms: i64,
    ) -> Option<Write<TxnShard>> {
        let transaction = self.transactions.get(&id)?;
        if !transaction.state.is_prepared() || producer_of(transaction) != producer {
            return None;
        }
        let next = transaction.completed(now_ms);
        let write = Write::new(vec![self.record(id.clone(), next)]);
        Some(write.after(After::Completed(id)))
    }
}

/// Before KIP-890 one epoch serves many transactions, and a repeated EndTxn cannot be told from a late one.
fn verdict(
    transaction: &Transaction,
    producer: Producer,
    committed: bool,
) -> Result<Verdict, ErrorCode> {
    if transaction.producer_id != producer.id {
        return Err(ErrorCode::InvalidProducerIdMapping);
    }
    if transaction.producer_epoch != producer.epoch {
        return Err(ErrorCode::ProducerFenced);
    }
    match (transaction.state, committed) {
        (State::PrepareCommit | State::PrepareAbort, _) => Err(ErrorCode::ConcurrentTransactions),
        (State::Ongoing, _) => Ok(Verdict::Prepare),
        (State::CompleteCommit, true) | (State::CompleteAbort, false) => Ok(Verdict::Repeated),
        _ => Err(ErrorCode::InvalidTxnState),
    }
}

/// From KIP-890 on the epoch names the transaction: the one before is a repetition, any other is fenced.
fn verdict_with_epochs(
    transaction: &Transaction,
    producer: Producer,
    committed: bool,
) -> Result<Verdict, ErrorCode> {
    if transaction.state.is_prepared() {
        return Err(ErrorCode::ConcurrentTransactions);
    }
    let current = transaction.producer_epoch == producer.epoch;
    let is_complete = matches!(
        transaction.state,
        State::CompleteCommit | State::CompleteAbort
    );
    let over_the_end = transaction.previous_producer_id == producer.id
        && producer.epoch == i16::MAX - 1
        && transaction.producer_epoch == 0;
    let repeated =
        over_the_end || i32::from(transaction.producer_epoch) == i32::from(producer.epoch) + 1;
    if transaction.producer_id != producer.id && !over_the_end {
        return Err(ErrorCode::InvalidProducerIdMapping);
    }
    let known = current || (is_complete && repeated);
    if !known {
        return Err(ErrorCode::ProducerFenced);
    }
    match (transaction.state, committed) {
        (State::Ongoing, _) => Ok(Verdict::Prepare),
        (State::CompleteCommit, true) | (State::CompleteAbort, false) if repeated => {
            Ok(Verdict::Repeated)
        }
        // An abort of nothing is a decision too: it fences writes that are still on their way.
        (State::Empty | State::CompleteCommit | State::CompleteAbort, false) if !repeated => {
            Ok(Verdict::Prepare)
        }
        _ => Err(ErrorCode::InvalidTxnState),
    }
}
