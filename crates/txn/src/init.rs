//! InitProducerId with a transactional id. v3: a producer may bring the id and epoch that it had (KIP-360).

use milena_base::ErrorCode;
use milena_coordinator::{Producer, Token, Turn, Write};
use milena_protocol::Str;

use crate::request::ShardResponse;
use crate::shard::TxnShard;
use crate::state::State;
use crate::transaction::{NO_EPOCH, Transaction, is_exhausted};

impl TxnShard {
    pub(crate) fn init(
        &mut self,
        token: Token,
        id: Str,
        timeout_ms: i32,
        expected: Option<Producer>,
        turn: &mut Turn<'_, TxnShard>,
    ) -> Option<Write<TxnShard>> {
        let now_ms = turn.now.wall.0;
        let there = self.transactions.get(&id).cloned();
        let decided = match there {
            Some(transaction) if transaction.state == State::Ongoing => {
                match may_start(&transaction, expected) {
                    // Whoever asks comes again, by when the transaction of the producer before is aborted.
                    Ok(()) => return self.fence(token, id, &transaction, turn),
                    Err(error) => Err(error),
                }
            }
            Some(transaction) => self.restart(&transaction, timeout_ms, expected, now_ms),
            None => self.begin(timeout_ms, expected, now_ms),
        };
        match decided {
            Ok(next) => {
                let answer = ShardResponse::Init(Ok(producer_of(&next)));
                Some(Write::new(vec![self.record(id, next)]).answer(token, answer))
            }
            Err(error) => {
                turn.reply(token, ShardResponse::Init(Err(error)));
                None
            }
        }
    }

    fn begin(
        &self,
        timeout_ms: i32,
        expected: Option<Producer>,
        now_ms: i64,
    ) -> Result<Transaction, ErrorCode> {
        let unused = Transaction::unused(self.fresh_id()?, timeout_ms, now_ms);
        unused.with_next_epoch(timeout_ms, expected.map(|p| p.epoch), now_ms)
    }

    fn restart(
        &self,
        transaction: &Transaction,
        timeout_ms: i32,
        expected: Option<Producer>,
        now_ms: i64,
    ) -> Result<Transaction, ErrorCode> {
        may_start(transaction, expected)?;
        let is_current = |p: Producer| p.epoch == transaction.producer_epoch;
        if transaction.is_exhausted() && expected.is_none_or(is_current) {
            let fresh = self.fresh_id()?;
            let remember = expected.is_some();
            return Ok(transaction.with_producer_id(fresh, timeout_ms, remember, now_ms));
        }
        if transaction.is_exhausted()
            && expected.map(|p| p.epoch) != Some(transaction.last_producer_epoch)
        {
            return Err(ErrorCode::ProducerFenced);
        }
        transaction.with_next_epoch(timeout_ms, expected.map(|p| p.epoch), now_ms)
    }
}

fn may_start(transaction: &Transaction, expected: Option<Producer>) -> Result<(), ErrorCode> {
    if transaction.state.is_prepared() {
        return Err(ErrorCode::ConcurrentTransactions);
    }
    let is_known = |p: Producer| {
        transaction.producer_epoch == NO_EPOCH
            || p.id == transaction.producer_id
            || (p.id == transaction.previous_producer_id && is_exhausted(p.epoch))
    };
    match expected.is_none_or(is_known) {
        true => Ok(()),
        false => Err(ErrorCode::ProducerFenced),
    }
}

pub(crate) fn producer_of(transaction: &Transaction) -> Producer {
    Producer {
        id: transaction.producer_id,
        epoch: transaction.producer_epoch,
    }
}
