//! The transaction coordinator of a node: all partitions of `__transaction_state` that it leads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use milena_base::{Epoch, ErrorCode, Instant, Now, Prng, TopicPartition};
use milena_coordinator::{Effect, Event, Options, Producer, Runtime, Token};
use milena_protocol::add_partitions_to_txn_request::AddPartitionsToTxnTransaction;
use milena_protocol::add_partitions_to_txn_response::AddPartitionsToTxnResult;
use milena_protocol::describe_transactions_response::TransactionState as Described;
use milena_protocol::list_transactions_response::TransactionState as Listed;
use milena_protocol::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, DescribeTransactionsRequest,
    DescribeTransactionsResponse, EndTxnRequest, InitProducerIdRequest, ListTransactionsRequest,
    ListTransactionsResponse, Str,
};

use crate::api::{self, TxnRequest, TxnResponse};
use crate::config::TxnConfig;
use crate::list::Filter;
use crate::request::{Markers, ShardRequest, ShardResponse, describe_error};
use crate::shard::{MARKERS, ProducerIds, TxnShard};
use crate::{EPOCH_BUMP_FROM, transaction::NO_EPOCH};

/// First version of EndTxn that shows a client of KIP-890.
const END_BUMPS_FROM: i16 = 5;

/// What the cluster's metadata says now.
pub trait Cluster {
    /// Whether the topic exists and has the partition.
    fn has_partition(&self, topic: &str, partition: i32) -> bool;
    /// Where a group's offsets are.
    fn offsets_partition(&self, group: &str) -> TopicPartition;
    /// The finalised level of `transaction.version`.
    fn transaction_version(&self) -> i16;
}

/// What the owner has to do.
#[derive(Debug)]
pub enum TxnEffect {
    /// Carry this out, as for any coordinator.
    Runtime(Effect<TxnResponse>),
    /// Write these markers, whoever leads the partitions, until all are written, and then call
    /// [`TxnCoordinator::markers_written`]. The same may be asked for again.
    WriteMarkers(Markers),
}

/// What is waited for under an inner token.
enum Waiting {
    Init(Token, i16),
    AddOffsets(Token, i16),
    End(Token, i16),
    /// A part of what is gathered.
    Part(u64, usize),
    Nobody,
}

/// An answer that is put together from the answers of several shards.
struct Gather {
    token: Token,
    version: i16,
    missing: usize,
    whole: Whole,
}

enum Whole {
    Add(
        Vec<(
            AddPartitionsToTxnTransaction,
            Option<AddPartitionsToTxnResult>,
        )>,
    ),
    List {
        unknown: Vec<Str>,
        found: Vec<Listed>,
        error: ErrorCode,
    },
    Describe(Vec<Described>),
}

/// Single-owner mailbox: requests come in by [`TxnCoordinator::request`], what happens to the partitions by
/// [`TxnCoordinator::step`]; the owner carries the effects out, in order.
pub struct TxnCoordinator {
    config: Arc<TxnConfig>,
    runtime: Runtime<TxnShard>,
    cluster: Arc<dyn Cluster + Send + Sync>,
    partitions: i32,
    epochs: BTreeMap<i32, Epoch>,
    tokens: u64,
    waiting: BTreeMap<Token, Waiting>,
    gathers: BTreeMap<u64, Gather>,
}

impl TxnCoordinator {
    /// `partitions` is the number of partitions of `__transaction_state` (`transaction.state.log.num.partitions` before
    /// it exists).
    pub fn new(
        config: TxnConfig,
        partitions: i32,
        ids: Arc<dyn ProducerIds + Send + Sync>,
        cluster: Arc<dyn Cluster + Send + Sync>,
        prng: Prng,
    ) -> TxnCoordinator {
        let config = Arc::new(config);
        let options = Options {
            commit_timeout: Duration::from_millis(config.commit_timeout_ms),
            batch_bytes_max: config.batch_bytes_max,
        };
        let (for_shards, view) = (config.clone(), cluster.clone());
        let make = move |index| TxnShard::new(index, for_shards.clone(), ids.clone(), view.clone());
        TxnCoordinator {
            config,
            runtime: Runtime::new(options, prng, make),
            cluster,
            partitions: partitions.max(1),
            epochs: BTreeMap::new(),
            tokens: 0,
            waiting: BTreeMap::new(),
            gathers: BTreeMap::new(),
        }
    }

    /// The number of partitions of `__transaction_state`, once it is known.
    pub fn set_partitions(&mut self, partitions: i32) {
        self.partitions = partitions.max(1);
    }

    /// The partition that a transactional id's records are in: placed as a group's are.
    pub fn partition_for(&self, transactional_id: &str) -> i32 {
        milena_coordinator::partition_for(transactional_id, self.partitions)
    }

    /// When the next [`Event::Tick`] is wanted.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.runtime.next_deadline()
    }

    /// The runtime, to look at.
    pub fn runtime(&self) -> &Runtime<TxnShard> {
        &self.runtime
    }

    /// The epoch under which a partition of `__transaction_state` is led here.
    pub fn epoch(&self, shard: i32) -> Option<Epoch> {
        self.epochs.get(&shard).copied()
    }

    /// Takes an event; `shard` in it is a partition of `__transaction_state`.
    pub fn step(&mut self, event: Event, now: Now, out: &mut Vec<TxnEffect>) {
        match &event {
            Event::Elected { shard, epoch } => _ = self.epochs.insert(*shard, *epoch),
            Event::Resigned { shard, epoch } => {
                let led = self.epochs.get(shard);
                if epoch.is_none_or(|epoch| led.is_some_and(|led| epoch > *led)) {
                    self.epochs.remove(shard);
                }
            }
            _ => {}
        }
        let mut effects = Vec::new();
        self.runtime.step(event, now, &mut effects);
        self.pass_on(effects, out);
    }

    /// All markers of a transaction are written, as [`TxnEffect::WriteMarkers`] wanted them.
    pub fn markers_written(&mut self, markers: &Markers, now: Now, out: &mut Vec<TxnEffect>) {
        let request = ShardRequest::Written {
            id: markers.transactional_id.clone(),
            producer: markers.marker.producer,
        };
        self.ask(markers.shard, Waiting::Nobody, request, now, out);
    }

    /// Takes a request. Exactly one [`Effect::Reply`] follows, at some time, for the token.
    pub fn request(
        &mut self,
        token: Token,
        version: i16,
        request: TxnRequest,
        now: Now,
        out: &mut Vec<TxnEffect>,
    ) {
        match request {
            TxnRequest::InitProducerId(request) => self.init(token, version, request, now, out),
            TxnRequest::AddPartitionsToTxn(request) => self.add(token, version, request, now, out),
            TxnRequest::AddOffsetsToTxn(request) => {
                self.add_offsets(token, version, request, now, out);
            }
            TxnRequest::EndTxn(request) => self.end(token, version, request, now, out),
            TxnRequest::ListTransactions(request) => self.list(token, &request, now, out),
            TxnRequest::DescribeTransactions(request) => self.describe(token, request, now, out),
        }
    }

    fn init(
        &mut self,
        token: Token,
        version: i16,
        request: InitProducerIdRequest,
        now: Now,
        out: &mut Vec<TxnEffect>,
    ) {
        match self.init_question(request) {
            Ok((shard, question)) => {
                self.ask(shard, Waiting::Init(token, version), question, now, out);
            }
            Err(error) => reply(token, api::init_answer(Err(error), version), out),
        }
    }

    fn init_question(
        &self,
        request: InitProducerIdRequest,
    ) -> Result<(i32, ShardRequest), ErrorCode> {
        let id = request.transactional_id.unwrap_or_default();
        let has_id = request.producer_id != -1;
        if has_id != (request.producer_epoch != NO_EPOCH) || id.is_empty() {
            return Err(ErrorCode::InvalidRequest);
        }
        if request.enable2_pc && !self.config.two_phase_commit {
            return Err(ErrorCode::TransactionalIdAuthorizationFailed);
        }
        if request.enable2_pc || request.keep_prepared_txn {
            return Err(ErrorCode::UnsupportedVersion);
        }
        if !(1..=self.config.timeout_ms_max).contains(&request.transaction_timeout_ms) {
            return Err(ErrorCode::InvalidTransactionTimeout);
        }
        let expected = has_id.then_some(Producer {
            id: request.producer_id,
            epoch: request.producer_epoch,
        });
        let question = ShardRequest::Init {
            id: id.detached(),
            timeout_ms: request.transaction_timeout_ms,
            expected,
        };
        Ok((self.partition_for(&id), question))
    }

    fn add(
        &mut self,
        token: Token,
        version: i16,
        request: AddPartitionsToTxnRequest,
        now: Now,
        out: &mut Vec<TxnEffect>,
    ) {
        let transactions = api::transactions(request, version);
        let mut parts = Vec::with_capacity(transactions.len());
        let mut questions = Vec::new();
        for (index, transaction) in transactions.into_iter().enumerate() {
            let partitions = api::partitions_of(&transaction.topics);
            let refused = self.refused_partitions(&transaction, &partitions, version);
            if refused.is_none() {
                questions.push((index, self.add_question(&transaction, partitions, version)));
            }
            parts.push((transaction, refused));
        }
        let whole = Whole::Add(parts);
        let gather = self.gather(token, version, questions.len(), whole, out);
        for (index, (shard, question)) in questions {
            self.ask(shard, Waiting::Part(gather, index), question, now, out);
        }
    }

    /// Where a transaction names a partition that does not exist, nothing is attempted.
    fn refused_partitions(
        &self,
        transaction: &AddPartitionsToTxnTransaction,
        partitions: &[TopicPartition],
        version: i16,
    ) -> Option<AddPartitionsToTxnResult> {
        if transaction.transactional_id.is_empty() {
            let error = |_: &TopicPartition| ErrorCode::InvalidRequest;
            return Some(api::add_result(transaction, version, error));
        }
        let exists = |p: &TopicPartition| self.cluster.has_partition(p.topic.as_str(), p.partition);
        if partitions.iter().all(exists) {
            return None;
        }
        let error = |p: &TopicPartition| match exists(p) {
            true => ErrorCode::OperationNotAttempted,
            false => ErrorCode::UnknownTopicOrPartition,
        };
        Some(api::add_result(transaction, version, error))
    }

    fn add_question(
        &self,
        transaction: &AddPartitionsToTxnTransaction,
        partitions: Vec<TopicPartition>,
        version: i16,
    ) -> (i32, ShardRequest) {
        let id = transaction.transactional_id.detached();
        let shard = self.partition_for(&id);
        let producer = Producer {
            id: transaction.producer_id,
            epoch: transaction.producer_epoch,
        };
        let question = match transaction.verify_only {
            true => ShardRequest::Verify {
                id,
                producer,
                partitions,
            },
            false => ShardRequest::Add {
                id,
                producer,
                partitions,
                // Before v4 it comes from a client, since v4 from a broker for a client of KIP-890.
                client_version: match version >= api::BATCHED_FROM {
                    true => EPOCH_BUMP_FROM,
                    false => 0,
                },
            },
        };
        (shard, question)
    }

    fn add_offsets(
        &mut self,
        token: Token,
        version: i16,
        request: AddOffsetsToTxnRequest,
        now: Now,
        out: &mut Vec<TxnEffect>,
    ) {
        let id = request.transactional_id.detached();
        if id.is_empty() {
            let answer = api::add_offsets_answer(Err(ErrorCode::InvalidRequest), version);
            return reply(token, answer, out);
        }
        let shard = self.partition_for(&id);
        let question = ShardRequest::Add {
            id,
            producer: Producer {
                id: request.producer_id,
                epoch: request.producer_epoch,
            },
            partitions: vec![self.cluster.offsets_partition(&request.group_id)],
            client_version: 0,
        };
        self.ask(
            shard,
            Waiting::AddOffsets(token, version),
            question,
            now,
            out,
        );
    }

    fn end(
        &mut self,
        token: Token,
        version: i16,
        request: EndTxnRequest,
        now: Now,
        out: &mut Vec<TxnEffect>,
    ) {
        let id = request.transactional_id.detached();
        if id.is_empty() {
            let answer = api::end_answer(Err(ErrorCode::InvalidRequest), version);
            return reply(token, answer, out);
        }
        let shard = self.partition_for(&id);
        let question = ShardRequest::End {
            id,
            producer: Producer {
                id: request.producer_id,
                epoch: request.producer_epoch,
            },
            committed: request.committed,
            client_version: match version >= END_BUMPS_FROM {
                true => EPOCH_BUMP_FROM,
                false => 0,
            },
        };
        self.ask(shard, Waiting::End(token, version), question, now, out);
    }

    fn list(
        &mut self,
        token: Token,
        request: &ListTransactionsRequest,
        now: Now,
        out: &mut Vec<TxnEffect>,
    ) {
        let (filter, unknown) = match Filter::parse(request) {
            Ok(parsed) => parsed,
            Err(error) => {
                let answer = ListTransactionsResponse {
                    error_code: error.code(),
                    ..Default::default()
                };
                return reply(token, answer, out);
            }
        };
        let filter = Arc::new(filter);
        let shards: Vec<i32> = self.runtime.led().collect();
        let whole = Whole::List {
            unknown,
            found: Vec::new(),
            error: ErrorCode::None,
        };
        let gather = self.gather(token, 0, shards.len(), whole, out);
        for (index, shard) in shards.into_iter().enumerate() {
            let question = ShardRequest::List(filter.clone());
            self.ask(shard, Waiting::Part(gather, index), question, now, out);
        }
    }

    fn describe(
        &mut self,
        token: Token,
        request: DescribeTransactionsRequest,
        now: Now,
        out: &mut Vec<TxnEffect>,
    ) {
        let mut parts = Vec::with_capacity(request.transactional_ids.len());
        let mut questions = Vec::new();
        for (index, id) in request.transactional_ids.into_iter().enumerate() {
            if !id.is_empty() {
                questions.push((index, id.detached()));
            }
            parts.push(describe_error(id, ErrorCode::InvalidRequest));
        }
        let gather = self.gather(token, 0, questions.len(), Whole::Describe(parts), out);
        for (index, id) in questions {
            let shard = self.partition_for(&id);
            let question = ShardRequest::Describe(id);
            self.ask(shard, Waiting::Part(gather, index), question, now, out);
        }
    }

    /// Begins an answer of so many parts; with none it is complete.
    fn gather(
        &mut self,
        token: Token,
        version: i16,
        missing: usize,
        whole: Whole,
        out: &mut Vec<TxnEffect>,
    ) -> u64 {
        self.tokens += 1;
        let gather = Gather {
            token,
            version,
            missing,
            whole,
        };
        match missing {
            0 => reply(token, gather.answer(), out),
            _ => _ = self.gathers.insert(self.tokens, gather),
        }
        self.tokens
    }

    fn ask(
        &mut self,
        shard: i32,
        waiting: Waiting,
        request: ShardRequest,
        now: Now,
        out: &mut Vec<TxnEffect>,
    ) {
        self.tokens += 1;
        let inner = Token(self.tokens);
        self.waiting.insert(inner, waiting);
        let mut effects = Vec::new();
        self.runtime
            .request(shard, inner, request, now, &mut effects);
        self.pass_on(effects, out);
    }

    fn pass_on(&mut self, effects: Vec<Effect<ShardResponse>>, out: &mut Vec<TxnEffect>) {
        for effect in effects {
            match effect.translate() {
                Ok(effect) => out.push(TxnEffect::Runtime(effect)),
                Err((MARKERS, ShardResponse::WriteMarkers(markers))) => {
                    out.extend(self.under_epoch(*markers).map(TxnEffect::WriteMarkers));
                }
                Err((token, response)) => self.answer(token, response, out),
            }
        }
    }

    fn under_epoch(&self, mut markers: Markers) -> Option<Markers> {
        let epoch = self.epochs.get(&markers.shard)?;
        markers.marker.coordinator_epoch = epoch.0;
        Some(markers)
    }

    /// Turns a shard's answer into the asker's, where that is complete.
    fn answer(&mut self, inner: Token, response: ShardResponse, out: &mut Vec<TxnEffect>) {
        let Some(waiting) = self.waiting.remove(&inner) else {
            return;
        };
        match (waiting, response) {
            (Waiting::Init(token, version), ShardResponse::Init(result)) => {
                reply(token, api::init_answer(result, version), out);
            }
            (Waiting::AddOffsets(token, version), ShardResponse::Add(result)) => {
                reply(token, api::add_offsets_answer(result, version), out);
            }
            (Waiting::End(token, version), ShardResponse::End(result)) => {
                reply(token, api::end_answer(result, version), out);
            }
            (Waiting::Part(id, index), response) => {
                let Some(gather) = self.gathers.get_mut(&id) else {
                    return;
                };
                gather.put(index, response);
                if gather.missing == 0
                    && let Some(gather) = self.gathers.remove(&id)
                {
                    reply(gather.token, gather.answer(), out);
                }
            }
            (Waiting::Nobody, _) => {}
            (Waiting::Init(..) | Waiting::AddOffsets(..) | Waiting::End(..), response) => {
                unreachable!("an answer of another kind: {response:?}")
            }
        }
    }
}

fn reply(token: Token, response: impl Into<TxnResponse>, out: &mut Vec<TxnEffect>) {
    let response = response.into();
    out.push(TxnEffect::Runtime(Effect::Reply { token, response }));
}

impl Gather {
    fn put(&mut self, index: usize, response: ShardResponse) {
        self.missing -= 1;
        match (&mut self.whole, response) {
            (Whole::Add(parts), ShardResponse::Add(result)) => {
                let error = result.err().unwrap_or(ErrorCode::None);
                let (transaction, there) = &mut parts[index];
                *there = Some(api::add_result(transaction, self.version, |_| error));
            }
            (Whole::Add(parts), ShardResponse::Verify(missing)) => {
                let (transaction, there) = &mut parts[index];
                let error = |p: &TopicPartition| api::verified(&missing, p);
                *there = Some(api::add_result(transaction, self.version, error));
            }
            (Whole::List { found, error, .. }, ShardResponse::List(result)) => match result {
                Ok(listed) => found.extend(listed),
                Err(code) => *error = code,
            },
            (Whole::Describe(parts), ShardResponse::Describe(described)) => {
                parts[index] = described;
            }
            (_, response) => unreachable!("an answer of another kind: {response:?}"),
        }
    }

    fn answer(self) -> TxnResponse {
        match self.whole {
            Whole::Add(parts) => {
                let results = parts.into_iter().filter_map(|(_, result)| result);
                api::add_answer(results.collect(), self.version).into()
            }
            Whole::List {
                unknown,
                found,
                error,
            } => {
                let failed = error != ErrorCode::None;
                let response = ListTransactionsResponse {
                    error_code: error.code(),
                    unknown_state_filters: unknown,
                    transaction_states: if failed { Vec::new() } else { found },
                    ..Default::default()
                };
                response.into()
            }
            Whole::Describe(transaction_states) => DescribeTransactionsResponse {
                transaction_states,
                ..Default::default()
            }
            .into(),
        }
    }
}
