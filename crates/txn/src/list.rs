//! ListTransactions and DescribeTransactions (KIP-664). List v1: by duration. v2: by a pattern of the id.

use milena_base::ErrorCode;
use milena_protocol::describe_transactions_response::{TopicData, TransactionState as Described};
use milena_protocol::list_transactions_response::TransactionState as Listed;
use milena_protocol::{ListTransactionsRequest, Str};
use regex_lite::Regex;

use crate::request::describe_error;
use crate::shard::Transactions;
use crate::state::State;
use crate::transaction::Transaction;

/// Which transactions are asked for; what is empty or `None` lets all pass.
#[derive(Clone, Debug)]
pub struct Filter {
    states: Vec<State>,
    any_state: bool,
    producer_ids: Vec<i64>,
    duration_ms: i64,
    pattern: Option<Regex>,
}

impl Filter {
    /// The filter, and the names of states that there are not.
    ///
    /// Errors: INVALID_REGULAR_EXPRESSION.
    pub(crate) fn parse(
        request: &ListTransactionsRequest,
    ) -> Result<(Filter, Vec<Str>), ErrorCode> {
        let (mut states, mut unknown) = (Vec::new(), Vec::new());
        for name in &request.state_filters {
            match State::of_name(name) {
                Some(state) => states.push(state),
                None => unknown.push(name.clone()),
            }
        }
        let pattern = request.transactional_id_pattern.as_deref();
        let pattern = pattern.filter(|text| !text.is_empty());
        let whole = |text: &str| Regex::new(&format!("^(?:{text})$"));
        let pattern = pattern.map(whole).transpose();
        let filter = Filter {
            states,
            any_state: request.state_filters.is_empty(),
            producer_ids: request.producer_id_filters.clone(),
            duration_ms: request.duration_filter,
            pattern: pattern.map_err(|_| ErrorCode::InvalidRegularExpression)?,
        };
        Ok((filter, unknown))
    }

    fn lets_pass(&self, id: &str, transaction: &Transaction, now_ms: i64) -> bool {
        let age_ms = now_ms.saturating_sub(transaction.start_ms);
        (self.any_state || self.states.contains(&transaction.state))
            && (self.producer_ids.is_empty()
                || self.producer_ids.contains(&transaction.producer_id))
            && (self.duration_ms < 0 || age_ms > self.duration_ms)
            && self.pattern.as_ref().is_none_or(|p| p.is_match(id))
    }
}

pub(crate) fn list(transactions: &Transactions, filter: &Filter, now_ms: i64) -> Vec<Listed> {
    let found = transactions
        .iter()
        .filter(|(id, t)| filter.lets_pass(id, t, now_ms));
    found
        .map(|(id, transaction)| Listed {
            transactional_id: id.clone(),
            producer_id: transaction.producer_id,
            transaction_state: transaction.state.name().into(),
        })
        .collect()
}

pub(crate) fn describe(transactions: &Transactions, id: Str) -> Described {
    let Some(transaction) = transactions.get(&id) else {
        return describe_error(id, ErrorCode::TransactionalIdNotFound);
    };
    let mut topics: Vec<TopicData> = Vec::new();
    for partition in &transaction.partitions {
        match topics.last_mut().filter(|t| t.topic == partition.topic) {
            Some(topic) => topic.partitions.push(partition.partition),
            None => topics.push(TopicData {
                topic: Str::copy(&partition.topic),
                partitions: vec![partition.partition],
            }),
        }
    }
    Described {
        error_code: 0,
        transactional_id: id,
        transaction_state: transaction.state.name().into(),
        transaction_timeout_ms: transaction.timeout_ms,
        transaction_start_time_ms: transaction.start_ms,
        producer_id: transaction.producer_id,
        producer_epoch: transaction.producer_epoch,
        topics,
    }
}
