//! One partition of `__transaction_state`: its transactional ids, behind the runtime's trait.

use std::sync::Arc;
use std::time::Duration;

use imbl::OrdMap;
use milena_base::{ErrorCode, Offset};
use milena_coordinator::{KeyValue, Marker, Shard, Token, Turn, Write};
use milena_protocol::Str;

use crate::EPOCH_BUMP_FROM;
use crate::config::TxnConfig;
use crate::coordinator::Cluster;
use crate::init::producer_of;
use crate::list;
use crate::record::TxnRecord;
use crate::request::{Markers, ShardRequest, ShardResponse};
use crate::transaction::Transaction;

/// Where producer ids come from.
pub trait ProducerIds {
    /// One that nobody has; `None` while the next block is under way.
    fn take(&self) -> Option<i64>;
}

/// Transactional ids of a shard; a clone is a snapshot.
pub type Transactions = OrdMap<Str, Transaction>;

/// Names of timers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// The next look for transactions whose timeout has passed.
    AbortTimedOut,
    /// The next look for ids that nobody uses.
    Expire,
    /// A decision's commit was not heard of in time: is it committed by now?
    Prepared(Str),
}

/// What remains to be done when a write is committed or has failed.
#[derive(Debug)]
pub enum After {
    /// Markers are due for the decisions about these ids.
    Prepared(Vec<Str>),
    /// This id's transaction is over; where that could not be written, its markers are asked for again.
    Completed(Str),
}

/// The token under which a shard asks for markers: no request has it.
pub(crate) const MARKERS: Token = Token(u64::MAX);
/// When a decision is looked at again that was not committed in time.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// One partition's transactional ids.
pub struct TxnShard {
    index: i32,
    config: Arc<TxnConfig>,
    ids: Arc<dyn ProducerIds + Send + Sync>,
    cluster: Arc<dyn Cluster + Send + Sync>,
    /// With what is not committed yet.
    pub(crate) transactions: Transactions,
}

impl TxnShard {
    /// `index` is the partition of `__transaction_state`.
    pub fn new(
        index: i32,
        config: Arc<TxnConfig>,
        ids: Arc<dyn ProducerIds + Send + Sync>,
        cluster: Arc<dyn Cluster + Send + Sync>,
    ) -> TxnShard {
        TxnShard {
            index,
            config,
            ids,
            cluster,
            transactions: Transactions::new(),
        }
    }

    /// All transactional ids, with what is not committed yet.
    pub fn transactions(&self) -> &Transactions {
        &self.transactions
    }

    /// The finalised level of `transaction.version`.
    pub(crate) fn cluster_version(&self) -> i16 {
        self.cluster.transaction_version()
    }

    pub(crate) fn fresh_id(&self) -> Result<i64, ErrorCode> {
        self.ids.take().ok_or(ErrorCode::CoordinatorLoadInProgress)
    }

    pub(crate) fn record(&self, id: Str, transaction: Transaction) -> TxnRecord {
        TxnRecord {
            transactional_id: id,
            transaction: Some(transaction),
            version: self.record_version(),
        }
    }

    fn record_version(&self) -> i16 {
        i16::from(self.cluster_version() >= 1)
    }

    /// Asks for the markers of decisions that are committed.
    fn ask_for_markers(&self, ids: Vec<Str>, turn: &mut Turn<'_, TxnShard>) {
        for id in ids {
            let transaction = self.transactions.get(&id);
            let Some(transaction) = transaction.filter(|t| t.state.is_prepared()) else {
                continue;
            };
            let markers = self.markers(id, transaction);
            turn.reply(MARKERS, ShardResponse::WriteMarkers(Box::new(markers)));
        }
    }

    fn markers(&self, id: Str, transaction: &Transaction) -> Markers {
        let version = transaction.client_version;
        Markers {
            shard: self.index,
            transactional_id: id,
            marker: Marker {
                producer: producer_of(transaction),
                // The runtime knows the epoch under which this shard is led.
                coordinator_epoch: -1,
                committed: transaction.state == crate::State::PrepareCommit,
                transaction_version: if version >= EPOCH_BUMP_FROM {
                    version
                } else {
                    0
                },
            },
            partitions: transaction.partitions.clone(),
        }
    }

    fn expire(&self, now_ms: i64) -> Option<Write<TxnShard>> {
        let before = now_ms.saturating_sub(self.config.id_expiration_ms);
        let expired = self
            .transactions
            .iter()
            .filter(|(_, t)| t.state.may_expire() && t.updated_ms <= before);
        let tombstones = expired.map(|(id, _)| TxnRecord {
            transactional_id: id.clone(),
            transaction: None,
            version: 0,
        });
        let records: Vec<TxnRecord> = tombstones.collect();
        (!records.is_empty()).then(|| Write::new(records).divisible())
    }

    fn schedule(&self, timer: Timer, turn: &mut Turn<'_, TxnShard>) {
        let interval = match timer {
            Timer::AbortTimedOut => Duration::from_millis(self.config.abort_interval_ms),
            Timer::Expire => Duration::from_millis(self.config.expire_interval_ms),
            Timer::Prepared(_) => LOOK_AGAIN,
        };
        turn.schedule(timer, turn.now.mono + interval);
    }

    /// Whether the decision about an id is committed as it stands.
    fn is_committed(&self, id: &Str, turn: &Turn<'_, TxnShard>) -> bool {
        turn.committed.get(id) == self.transactions.get(id)
    }
}

impl Shard for TxnShard {
    type Request = ShardRequest;
    type Response = ShardResponse;
    type Record = TxnRecord;
    type Timer = Timer;
    type After = After;
    type Snapshot = Transactions;

    fn request(
        &mut self,
        token: Token,
        request: ShardRequest,
        turn: &mut Turn<'_, Self>,
    ) -> Option<Write<Self>> {
        match request {
            ShardRequest::Init {
                id,
                timeout_ms,
                expected,
            } => self.init(token, id, timeout_ms, expected, turn),
            ShardRequest::Add {
                id,
                producer,
                partitions,
                client_version,
            } => self.add_partitions(token, id, producer, partitions, client_version, turn),
            ShardRequest::Verify {
                id,
                producer,
                partitions,
            } => self.verify_partitions(token, &id, producer, partitions),
            ShardRequest::End {
                id,
                producer,
                committed,
                client_version,
            } => self.end(token, id, producer, committed, client_version, turn),
            ShardRequest::List(filter) => {
                let listed = list::list(turn.committed, &filter, turn.now.wall.0);
                turn.reply(token, ShardResponse::List(Ok(listed)));
                None
            }
            ShardRequest::Describe(id) => {
                let described = list::describe(turn.committed, id);
                turn.reply(token, ShardResponse::Describe(described));
                None
            }
            ShardRequest::Written { id, producer } => {
                turn.reply(token, ShardResponse::Done);
                self.written(id, producer, turn.now.wall.0)
            }
        }
    }

    fn timer(&mut self, timer: Timer, turn: &mut Turn<'_, Self>) -> Option<Write<Self>> {
        match timer {
            Timer::AbortTimedOut => {
                self.schedule(Timer::AbortTimedOut, turn);
                self.abort_timed_out(turn.now.wall.0)
            }
            Timer::Expire => {
                self.schedule(Timer::Expire, turn);
                self.expire(turn.now.wall.0)
            }
            Timer::Prepared(id) => {
                match self.is_committed(&id, turn) {
                    true => self.ask_for_markers(vec![id], turn),
                    false => self.schedule(Timer::Prepared(id), turn),
                }
                None
            }
        }
    }

    fn after(
        &mut self,
        after: After,
        result: Result<(), ErrorCode>,
        turn: &mut Turn<'_, Self>,
    ) -> Option<Write<Self>> {
        let ids = match (after, result) {
            (After::Prepared(ids), Ok(())) => {
                self.ask_for_markers(ids, turn);
                return None;
            }
            (After::Completed(_), Ok(())) => return None,
            // Some of the records may be in the log, and yet be committed.
            (After::Prepared(ids), Err(_)) => ids,
            (After::Completed(id), Err(_)) => vec![id],
        };
        for id in ids {
            let transaction = self.transactions.get(&id);
            if transaction.is_some_and(|t| t.state.is_prepared()) {
                self.schedule(Timer::Prepared(id), turn);
            }
        }
        None
    }

    fn replay(&mut self, _offset: Offset, _producer_id: i64, record: TxnRecord) {
        match record.transaction {
            Some(transaction) => {
                _ = self
                    .transactions
                    .insert(record.transactional_id, transaction)
            }
            None => _ = self.transactions.remove(&record.transactional_id),
        }
    }

    fn end_transaction(&mut self, _producer_id: i64, _committed: bool) {}

    fn loaded(&mut self, turn: &mut Turn<'_, Self>) -> Option<Write<Self>> {
        self.schedule(Timer::AbortTimedOut, turn);
        self.schedule(Timer::Expire, turn);
        let prepared = self
            .transactions
            .iter()
            .filter(|(_, t)| t.state.is_prepared());
        let ids: Vec<Str> = prepared.map(|(id, _)| id.clone()).collect();
        // Nothing to write, but to wait until what was read is committed.
        (!ids.is_empty()).then(|| Write::new(Vec::new()).after(After::Prepared(ids)))
    }

    fn unloaded(&mut self) -> Vec<(Token, ShardResponse)> {
        Vec::new()
    }

    fn snapshot(&self) -> Transactions {
        self.transactions.clone()
    }

    fn encode(record: &TxnRecord) -> Result<KeyValue, String> {
        record.encode().map_err(|error| error.to_string())
    }

    fn decode(record: KeyValue) -> Result<Option<TxnRecord>, String> {
        TxnRecord::decode(record)
    }

    fn refused(request: ShardRequest, error: ErrorCode) -> ShardResponse {
        request.refused(error)
    }

    fn failed(response: ShardResponse, error: ErrorCode) -> ShardResponse {
        response.failed(error)
    }
}
