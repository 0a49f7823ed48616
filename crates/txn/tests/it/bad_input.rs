//! Random conversations: right and wrong producers, old and new clients, a log that refuses and lags, a coordinator that
//! moves, timeouts. Checked after every step.
//!
//! What holds: every request is answered exactly once, in its version; epochs of a producer id never go back; a
//! transaction's decision is committed before its markers are asked for, and never becomes the other one; every marker
//! that was asked for is asked for again after a load until it is written; at the end no transaction is open.

use std::collections::{BTreeMap, BTreeSet};

use milena_base::{ErrorCode, Prng};
use milena_protocol::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use milena_protocol::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, DescribeTransactionsRequest, EndTxnRequest,
    InitProducerIdRequest, ListTransactionsRequest, Message, Str,
};
use milena_testkit::{Arbitrary, for_each_seed};
use milena_txn::{
    Event, KeyValue, LoadedRecord, Markers, Payload, Producer, State, Token, TxnConfig, TxnRequest,
    TxnResponse, TxnShard,
};

use crate::world::{Seen, World};

const STRING_BYTES_MAX: usize = 32_767;

struct Run {
    world: World,
    prng: Prng,
    /// Producers that the coordinator gave out, by id; wrong ones are made of them.
    producers: BTreeMap<Str, Vec<Producer>>,
    waiting: BTreeMap<Token, i16>,
    /// The last epoch in the log, by producer id.
    epochs: BTreeMap<i64, i16>,
    /// Outcome of each end, by id, producer id and marker's epoch of a client of KIP-890.
    outcomes: BTreeMap<(Str, i64, i16), bool>,
    answers: usize,
    ends: usize,
}

impl Run {
    fn new(seed: u64) -> Run {
        let config = TxnConfig {
            id_expiration_ms: 200_000,
            expire_interval_ms: 50_000,
            ..TxnConfig::default()
        };
        let mut world = World::new(config, 2);
        world.elect(0);
        world.elect(1);
        Run {
            world,
            prng: Prng::new(seed),
            producers: BTreeMap::new(),
            waiting: BTreeMap::new(),
            epochs: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            answers: 0,
            ends: 0,
        }
    }

    fn id(&mut self) -> Str {
        match self.prng.below(60) {
            0 => Str::from(""),
            1 => Str::from("x".repeat(STRING_BYTES_MAX)),
            2 => Str::from(self.prng.text(20)),
            n => Str::from(["a", "b", "c", "d"][n as usize % 4]),
        }
    }

    fn producer(&mut self, id: &Str) -> Producer {
        let known = self.producers.get(id).and_then(|all| all.last()).copied();
        let mut producer = known.unwrap_or(Producer { id: -1, epoch: -1 });
        match self.prng.below(10) {
            0 => producer.epoch = producer.epoch.wrapping_sub(1),
            1 => producer.epoch = producer.epoch.wrapping_add(1),
            2 => producer.id = self.prng.next_u64() as i64,
            3 => producer.epoch = self.prng.next_u64() as i16,
            _ => {}
        }
        producer
    }

    fn topics(&mut self) -> Vec<AddPartitionsToTxnTopic> {
        let count = self.prng.below(3);
        let mut topic = || AddPartitionsToTxnTopic {
            name: Str::from(*self.prng.pick(&["t", "t", "u", "t", "u", "missing"])),
            partitions: (0..self.prng.below(3))
                .map(|_| self.prng.below(3) as i32 - i32::from(self.prng.chance(1, 40)))
                .collect(),
        };
        (0..count).map(|_| topic()).collect()
    }

    fn request(&mut self) -> (i16, TxnRequest) {
        let id = self.id();
        let Producer {
            id: producer_id,
            epoch: producer_epoch,
        } = self.producer(&id);
        match self.prng.below(12) {
            0 | 1 => {
                let brings = self.prng.chance(1, 3);
                let timeouts = [1_000, 30_000, 60_000, 0, i32::MIN, i32::MAX];
                let request = InitProducerIdRequest {
                    transactional_id: Some(id),
                    transaction_timeout_ms: *self.prng.pick(&timeouts),
                    producer_id: if brings { producer_id } else { -1 },
                    producer_epoch: if brings { producer_epoch } else { -1 },
                    ..Default::default()
                };
                (3 + self.prng.below(3) as i16, request.into())
            }
            2..=5 => self.add(id, producer_id, producer_epoch),
            6 => {
                let request = AddOffsetsToTxnRequest {
                    transactional_id: id,
                    producer_id,
                    producer_epoch,
                    group_id: self.prng.text(5).into(),
                };
                (self.prng.below(5) as i16, request.into())
            }
            7..=9 => {
                let request = EndTxnRequest {
                    transactional_id: id,
                    producer_id,
                    producer_epoch,
                    committed: self.prng.chance(2, 3),
                };
                let old = self.prng.below(5) as i16;
                let version = if self.prng.chance(2, 3) { 5 } else { old };
                (version, request.into())
            }
            10 => {
                let pattern = self.prng.pick(&["", "a.*", "(", "[b-c]", "*"]).to_string();
                let request = ListTransactionsRequest {
                    state_filters: vec![(*self.prng.pick(&["Ongoing", "Empty", "Nosuch"])).into()],
                    producer_id_filters: vec![producer_id],
                    duration_filter: self.prng.next_u64() as i64,
                    transactional_id_pattern: Some(pattern.into()),
                };
                (2, request.into())
            }
            _ => {
                let request = DescribeTransactionsRequest {
                    transactional_ids: vec![id.clone(), id],
                };
                (0, request.into())
            }
        }
    }

    fn add(&mut self, id: Str, producer_id: i64, producer_epoch: i16) -> (i16, TxnRequest) {
        let topics = self.topics();
        if self.prng.chance(1, 3) {
            let request = AddPartitionsToTxnRequest {
                v3_and_below_transactional_id: id,
                v3_and_below_producer_id: producer_id,
                v3_and_below_producer_epoch: producer_epoch,
                v3_and_below_topics: topics,
                ..Default::default()
            };
            return (self.prng.below(4) as i16, request.into());
        }
        let one = AddPartitionsToTxnTransaction {
            transactional_id: id,
            producer_id,
            producer_epoch,
            verify_only: self.prng.chance(1, 3),
            topics,
        };
        let other = AddPartitionsToTxnTransaction {
            transactional_id: self.id(),
            topics: self.topics(),
            ..one.clone()
        };
        let mut transactions = vec![one, other];
        transactions.truncate(self.prng.below(3) as usize);
        let request = AddPartitionsToTxnRequest {
            transactions,
            ..Default::default()
        };
        (4 + self.prng.below(2) as i16, request.into())
    }

    fn step(&mut self) {
        let seen = match self.prng.below(40) {
            0 => {
                self.world.hold = true;
                Vec::new()
            }
            1 | 2 => self.world.release(),
            3 => {
                let refusals = [
                    ErrorCode::NotEnoughReplicas,
                    ErrorCode::NotLeaderOrFollower,
                    ErrorCode::KafkaStorageError,
                ];
                self.world.refuse = Some(*self.prng.pick(&refusals));
                Vec::new()
            }
            4 | 5 => {
                self.world.refuse = None;
                Vec::new()
            }
            6 => self.move_shard(),
            7..=10 => self.world.write_markers(),
            11..=13 => self.world.pass(self.prng.below(20_000)),
            _ => {
                let (version, request) = self.request();
                let id = match &request {
                    TxnRequest::InitProducerId(r) => r.transactional_id.clone(),
                    TxnRequest::EndTxn(r) => Some(r.transactional_id.clone()),
                    _ => None,
                };
                let (token, seen) = self.world.request(version, request);
                self.waiting.insert(token, version);
                self.learn(id, &seen);
                seen
            }
        };
        self.check(seen);
    }

    fn move_shard(&mut self) -> Vec<Seen> {
        // What is not committed may be there or not after a move; here it is there.
        let shard = self.prng.below(2) as i32;
        self.world.due.retain(|markers| markers.shard != shard);
        let mut seen = self.world.resign(shard);
        seen.extend(self.world.elect(shard));
        seen
    }

    fn learn(&mut self, id: Option<Str>, seen: &[Seen]) {
        for seen in seen {
            let Seen::Reply(_, response) = seen else {
                continue;
            };
            let producer = match &**response {
                TxnResponse::InitProducerId(r) if r.error_code == 0 => {
                    (r.producer_id, r.producer_epoch)
                }
                TxnResponse::EndTxn(r) if r.error_code == 0 => (r.producer_id, r.producer_epoch),
                _ => continue,
            };
            let all = self
                .producers
                .entry(id.clone().unwrap_or_default())
                .or_default();
            all.push(Producer {
                id: producer.0,
                epoch: producer.1,
            });
        }
    }

    fn check(&mut self, seen: Vec<Seen>) {
        for seen in seen {
            match seen {
                Seen::Reply(token, response) => {
                    let version = self.waiting.remove(&token);
                    encode(&response, version.expect("one answer to each request"));
                    self.answers += 1;
                }
                Seen::Markers(markers) => self.check_markers(&markers),
                Seen::Appended(record) => self.check_record(record),
                Seen::Refused(_) | Seen::Loading(_) => {}
            }
        }
    }

    fn check_record(&mut self, record: KeyValue) {
        use milena_coordinator::Shard;
        let record = TxnShard::decode(record)
            .expect("our record")
            .expect("a kind we know");
        let Some(transaction) = record.transaction else {
            return;
        };
        let last = self.epochs.entry(transaction.producer_id).or_insert(-1);
        assert!(
            transaction.producer_epoch >= *last,
            "{transaction:?} after epoch {last}"
        );
        *last = transaction.producer_epoch;
        let open = matches!(
            transaction.state,
            State::Ongoing | State::PrepareCommit | State::PrepareAbort
        );
        assert!(open || transaction.partitions.is_empty(), "{transaction:?}");
    }

    fn check_markers(&mut self, markers: &Markers) {
        let shard = self.world.coordinator.epoch(markers.shard);
        assert_eq!(shard.map(|e| e.0), Some(markers.marker.coordinator_epoch));
        let producer = markers.marker.producer;
        if markers.marker.transaction_version >= 2 {
            let key = (
                markers.transactional_id.clone(),
                producer.id,
                producer.epoch,
            );
            let committed = markers.marker.committed;
            let before = *self.outcomes.entry(key).or_insert(committed);
            assert_eq!(before, committed, "two ends of {markers:?}");
        }
        self.ends += 1;
    }

    fn heal(&mut self) {
        self.world.refuse = None;
        for _ in 0..6 {
            let seen = self.world.release();
            self.check(seen);
            let seen = self.world.pass(70_000);
            self.check(seen);
            let seen = self.world.write_markers();
            self.check(seen);
        }
        assert!(self.waiting.is_empty(), "not answered: {:?}", self.waiting);
        assert!(self.world.due.is_empty());
        let (token, seen) = self.world.request(
            2,
            ListTransactionsRequest {
                duration_filter: -1,
                ..Default::default()
            }
            .into(),
        );
        self.waiting.insert(token, 2);
        for seen in &seen {
            if let Seen::Reply(_, response) = seen
                && let TxnResponse::ListTransactions(r) = &**response
            {
                let states: BTreeSet<&str> = r
                    .transaction_states
                    .iter()
                    .map(|t| t.transaction_state.as_str())
                    .collect();
                for state in states {
                    let state = State::of_name(state).expect("a state");
                    assert!(state.may_expire(), "{state} at the end");
                }
            }
        }
        self.check(seen);
    }
}

/// The answer has a form in the request's version.
fn encode(response: &TxnResponse, version: i16) {
    fn check<M: Message>(message: &M, version: i16) {
        let mut writer = milena_protocol::Writer::new();
        message
            .encode(&mut writer, version)
            .expect("an answer in its version");
    }
    match response {
        TxnResponse::InitProducerId(r) => check(r, version),
        TxnResponse::AddPartitionsToTxn(r) => check(r, version),
        TxnResponse::AddOffsetsToTxn(r) => check(r, version),
        TxnResponse::EndTxn(r) => check(r, version),
        TxnResponse::ListTransactions(r) => check(r, version),
        TxnResponse::DescribeTransactions(r) => check(r, version),
    }
}

#[test]
fn random_conversations_keep_the_rules() {
    let (mut answers, mut ends) = (0, 0);
    for_each_seed(60, |seed| {
        let mut run = Run::new(seed);
        for _ in 0..400 {
            run.step();
        }
        run.heal();
        answers += run.answers;
        ends += run.ends;
    });
    println!("transactions: 60 seeds, {answers} answers, {ends} ends");
    assert!(
        answers > 10_000 && ends > 500,
        "{answers} answers, {ends} ends"
    );
}

#[test]
fn nothing_in_a_log_makes_the_coordinator_panic() {
    let mut read = 0;
    for_each_seed(100, |seed| {
        let mut prng = Prng::new(seed);
        let mut world = World::new(TxnConfig::default(), 1);
        world.elect(0);
        let init = InitProducerIdRequest {
            transactional_id: Some("x".into()),
            transaction_timeout_ms: 1_000,
            producer_id: -1,
            producer_epoch: -1,
            ..Default::default()
        };
        world.request(5, init.into());
        world.resign(0);
        let log = world.logs.entry(0).or_default();
        let good = log[0].clone();
        for offset in 1..5 {
            let Payload::Data(mut record) = good.payload.clone() else {
                unreachable!("a record");
            };
            let mut value = record.value.take().expect("a value").to_vec();
            let at = prng.below(value.len() as u64) as usize;
            value[at] ^= 1 << prng.below(8);
            value.truncate(value.len() - prng.below(3) as usize);
            record.value = Some(value.into());
            log.push(LoadedRecord {
                offset: good.offset + offset,
                producer_id: -1,
                payload: Payload::Data(record),
            });
        }
        world.elect(0);
        world.pass(100_000);
        world.write_markers();
        world.step(Event::Tick);
        read += 1;
    });
    println!("transactions: {read} logs with broken records");
}
