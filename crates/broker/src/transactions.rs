//! The transactions' mailbox: the transaction coordinator, and the carrying out of what it wants: appends to
//! `__transaction_state`, loads from it, answers, and markers in every partition of a transaction until all have it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use milena_base::{BrokerId, Epoch, ErrorCode, Instant, Now, Offset, Prng, TopicPartition};
use milena_coordinator::{Effect, Event, Token};
use milena_protocol::AddPartitionsToTxnResponse;
use milena_records::Codec;
use milena_txn::{Cluster, Markers, TxnConfig, TxnCoordinator, TxnEffect, TxnRequest, TxnResponse};
use tracing::warn;

use crate::api::{produce, txn_offset_commit};
use crate::broker::Broker;
use crate::coordinator_log::CoordinatorLog;
use crate::ctx::{Ctx, Outbox, ReplyTo};
use crate::mailbox::Mailbox;
use crate::markers::MarkerAsker;
use crate::peers::PeerAnswer;
use crate::producer_ids::{self, CoordinatorIds};
use crate::topics;
use crate::txn_calls::{Told, TxnCalls};
use crate::verification::{self, Held, Question};

/// Producers that may wait for a producer id.
const WAITING_MAX: usize = 10_000;

/// What the mailbox is told.
#[derive(Debug)]
pub enum TxnEvent {
    Request {
        ctx: Box<Ctx>,
        request: TxnRequest,
    },
    /// Whether a producer may write.
    Ask(Box<Question>),
    /// This broker leads the partition of `__transaction_state`.
    Elected {
        shard: i32,
        epoch: Epoch,
    },
    Resigned {
        shard: i32,
        epoch: Option<Epoch>,
    },
    /// The high watermark of the partition of `__transaction_state` moved.
    HighWatermark {
        shard: i32,
    },
    /// There are producer ids again, or there are to be none.
    ProducerIds,
    /// How a marker fared in one partition.
    MarkerTold {
        task: u64,
        partition: TopicPartition,
        error: ErrorCode,
    },
    /// Another broker answered, or did not.
    Answered(PeerAnswer),
    Stop,
}

/// How the mailbox behaves beside its coordinator.
#[derive(Clone, Copy, Debug)]
pub struct TransactionsOptions {
    /// How much is read at once when a partition is loaded (`transaction.state.log.load.buffer.size`).
    pub load_bytes: u32,
    /// `add.partitions.to.txn.retry.backoff.ms`.
    pub ask_again_after: Duration,
    /// `add.partitions.to.txn.retry.backoff.max.ms`: how long it is asked again.
    pub ask_again_until: Duration,
    /// When a marker is sent again that was not taken.
    pub send_again_after: Duration,
}

/// The coordinator's view of the metadata.
struct ImageCluster(Arc<Broker>);

impl Cluster for ImageCluster {
    fn has_partition(&self, topic: &str, partition: i32) -> bool {
        let image = self.0.image();
        let topic = image.topics.named(topic);
        topic.is_some_and(|topic| topic.partitions.contains_key(&partition))
    }

    fn offsets_partition(&self, group: &str) -> TopicPartition {
        let partition = self.0.offsets_partition(group);
        TopicPartition::new(topics::CONSUMER_OFFSETS, partition)
    }

    fn transaction_version(&self) -> i16 {
        self.0.image().features.level("transaction.version")
    }
}

/// Who waits for an answer of the coordinator.
enum Asked {
    Client(ReplyTo),
    Broker {
        question: Box<Question>,
        until: Instant,
    },
}

/// Markers that are being written.
struct Task {
    markers: Markers,
    left: BTreeSet<TopicPartition>,
    /// Partitions that were asked and have not told.
    asked: BTreeSet<TopicPartition>,
    /// When those that were not taken are sent again.
    again: Instant,
}

/// See the module's words.
pub struct Transactions {
    broker: Arc<Broker>,
    coordinator: TxnCoordinator,
    log: CoordinatorLog,
    options: TransactionsOptions,
    asked: BTreeMap<Token, Asked>,
    next_token: u64,
    tasks: BTreeMap<u64, Task>,
    next_task: u64,
    /// Producers that start and need an id.
    starting: VecDeque<(Box<Ctx>, TxnRequest)>,
    /// Questions that are asked again.
    again: Vec<(Instant, Box<Question>, Instant)>,
    /// What other brokers are asked.
    calls: TxnCalls,
    stopped: bool,
}

impl Transactions {
    pub fn new(
        broker: Arc<Broker>,
        config: TxnConfig,
        options: TransactionsOptions,
        prng: Prng,
    ) -> Transactions {
        let partitions = broker.settings().transaction_topic_partitions;
        let ids = Arc::new(CoordinatorIds(broker.clone()));
        let cluster = Arc::new(ImageCluster(broker.clone()));
        let log = CoordinatorLog {
            broker: broker.clone(),
            topic: topics::TRANSACTION_STATE,
            load_bytes: options.load_bytes,
            // As in Kafka, whatever is configured.
            codec: Codec::NONE,
        };
        Transactions {
            broker,
            coordinator: TxnCoordinator::new(config, partitions, ids, cluster, prng),
            log,
            options,
            asked: BTreeMap::new(),
            next_token: 1,
            tasks: BTreeMap::new(),
            next_task: 1,
            starting: VecDeque::new(),
            again: Vec::new(),
            calls: TxnCalls::default(),
            stopped: false,
        }
    }

    // Requests.

    fn request(&mut self, ctx: Box<Ctx>, request: TxnRequest, now: Now, out: &mut Outbox) {
        let starts = matches!(request, TxnRequest::InitProducerId(_));
        if starts
            && self.starting.len() < WAITING_MAX
            && !producer_ids::are_at_hand(&self.broker, out)
        {
            return self.starting.push_back((ctx, request));
        }
        self.ask(ctx.version(), request, Asked::Client(ctx.to), now, out);
    }

    fn ask_producers_question(
        &mut self,
        question: Box<Question>,
        until: Instant,
        now: Now,
        out: &mut Outbox,
    ) {
        if let Some(other) = self.other_coordinator(&question.transactional_id) {
            return self.calls.ask(other, question, until, now.mono, out);
        }
        let request = question.request().into();
        let asked = Asked::Broker { question, until };
        self.ask(verification::VERSION, request, asked, now, out);
    }

    /// The broker that coordinates a transactional id, where it is another one.
    fn other_coordinator(&self, transactional_id: &str) -> Option<BrokerId> {
        let image = self.broker.image();
        let topic = image.topics.named(topics::TRANSACTION_STATE)?;
        let count = topic.partitions.len() as i32;
        let index = milena_coordinator::partition_for(transactional_id, count);
        let leader = topic.partitions.get(&index)?.leader;
        (leader >= 0 && leader != self.broker.node().0).then_some(BrokerId(leader))
    }

    fn ask(&mut self, version: i16, request: TxnRequest, asked: Asked, now: Now, out: &mut Outbox) {
        let token = Token(self.next_token);
        self.next_token += 1;
        self.asked.insert(token, asked);
        let mut effects = Vec::new();
        self.coordinator
            .request(token, version, request, now, &mut effects);
        self.carry_out(effects, now, out);
    }

    fn tell(&mut self, event: Event, now: Now, out: &mut Outbox) {
        let mut effects = Vec::new();
        self.coordinator.step(event, now, &mut effects);
        self.carry_out(effects, now, out);
    }

    /// Carries effects out in order, and those that follow from them.
    fn carry_out(&mut self, effects: Vec<TxnEffect>, now: Now, out: &mut Outbox) {
        let mut queue = VecDeque::from(effects);
        while let Some(effect) = queue.pop_front() {
            let mut more = Vec::new();
            match effect {
                TxnEffect::WriteMarkers(markers) => self.begin(markers, now, &mut more, out),
                TxnEffect::Runtime(Effect::Append {
                    shard,
                    epoch,
                    records,
                }) => {
                    let result = self.log.append(shard, epoch, &records, now, out);
                    self.appended(shard, result, now, &mut more);
                }
                TxnEffect::Runtime(Effect::Load { shard, epoch }) => {
                    self.load(shard, epoch, now, &mut more);
                }
                TxnEffect::Runtime(Effect::Reply { token, response }) => {
                    self.answer(token, response, now, out);
                }
                TxnEffect::Runtime(
                    Effect::AppendTransactional { .. } | Effect::AppendMarker { .. },
                ) => unreachable!("the coordinator's records are in no transaction"),
            }
            queue.extend(more);
        }
    }

    fn answer(&mut self, token: Token, response: TxnResponse, now: Now, out: &mut Outbox) {
        match (self.asked.remove(&token), response) {
            (Some(Asked::Client(to)), response) => match &response {
                TxnResponse::InitProducerId(body) => out.reply(to, body),
                TxnResponse::AddPartitionsToTxn(body) => out.reply(to, body),
                TxnResponse::AddOffsetsToTxn(body) => out.reply(to, body),
                TxnResponse::EndTxn(body) => out.reply(to, body),
                TxnResponse::ListTransactions(body) => out.reply(to, body),
                TxnResponse::DescribeTransactions(body) => out.reply(to, body),
            },
            (
                Some(Asked::Broker { question, until }),
                TxnResponse::AddPartitionsToTxn(response),
            ) => self.judge(question, until, Ok(response), now, out),
            (Some(Asked::Broker { .. }) | None, _) => {}
        }
    }

    /// The coordinator's word on a producer's question, wherever it is.
    fn judge(
        &mut self,
        question: Box<Question>,
        until: Instant,
        response: Result<AddPartitionsToTxnResponse, ErrorCode>,
        now: Now,
        out: &mut Outbox,
    ) {
        let verdicts = match response {
            Ok(response) if question.is_worth_waiting(&response) && now.mono < until => {
                let at = now.mono + self.options.ask_again_after;
                return self.again.push((at, question, until));
            }
            Ok(response) => question.verdicts(&response),
            Err(error) => question.all(error),
        };
        match question.held {
            Held::Produce(produce) => {
                produce::resume(&self.broker, *produce, &verdicts, now, out);
            }
            Held::Offsets {
                ctx,
                request,
                guard,
            } => {
                let error = verdicts.into_values().find(|error| !error.is_none());
                txn_offset_commit::resume(ctx, request, guard, error, out);
            }
        }
    }

    fn answered_by_other(&mut self, answer: PeerAnswer, now: Now, out: &mut Outbox) {
        match self.calls.answered(answer) {
            None => {}
            Some(Told::Verdict {
                question,
                until,
                response,
            }) => self.judge(question, until, response, now, out),
            Some(Told::Markers { task, fared }) => {
                for (partition, error) in fared {
                    self.told(task, &partition, error, now, out);
                }
            }
        }
    }

    // The log.

    fn appended(
        &mut self,
        shard: i32,
        result: Result<Offset, ErrorCode>,
        now: Now,
        effects: &mut Vec<TxnEffect>,
    ) {
        let high_watermark = self.log.high_watermark(shard);
        self.coordinator
            .step(Event::Appended { shard, result }, now, effects);
        if let (Ok(_), Some(offset)) = (result, high_watermark) {
            self.coordinator
                .step(Event::HighWatermark { shard, offset }, now, effects);
        }
    }

    fn load(&mut self, shard: i32, epoch: Epoch, now: Now, effects: &mut Vec<TxnEffect>) {
        let coordinator = &mut self.coordinator;
        self.log.load("transactions", shard, epoch, |event| {
            coordinator.step(event, now, effects);
        });
    }

    // Markers.

    fn begin(
        &mut self,
        markers: Markers,
        now: Now,
        effects: &mut Vec<TxnEffect>,
        out: &mut Outbox,
    ) {
        if markers.partitions.is_empty() {
            return self.coordinator.markers_written(&markers, now, effects);
        }
        // The same may be asked for again after a load: the newer task takes its place.
        let same = |task: &Task| {
            task.markers.shard == markers.shard
                && task.markers.transactional_id == markers.transactional_id
        };
        self.tasks.retain(|_, task| !same(task));
        let number = self.next_task;
        self.next_task += 1;
        let task = Task {
            left: markers.partitions.clone(),
            asked: BTreeSet::new(),
            again: Instant::NEVER,
            markers,
        };
        self.tasks.insert(number, task);
        self.send(number, now, out);
        self.finish_if_done(number, now, effects);
    }

    /// Sends a task's markers to all partitions that are left and not asked.
    fn send(&mut self, number: u64, now: Now, out: &mut Outbox) {
        let Some(task) = self.tasks.get_mut(&number) else {
            return;
        };
        task.again = Instant::NEVER;
        let image = self.broker.image();
        let waiting: Vec<_> = task.left.difference(&task.asked).cloned().collect();
        let mut elsewhere: BTreeMap<BrokerId, Vec<TopicPartition>> = BTreeMap::new();
        for partition in waiting {
            let topic = image.topics.named(&partition.topic);
            let assigned = topic.and_then(|t| t.partitions.get(&partition.partition));
            match assigned {
                // It was deleted with its topic.
                None => _ = task.left.remove(&partition),
                Some(assigned) if assigned.leader == self.broker.node().0 => {
                    task.asked.insert(partition.clone());
                    let asker = MarkerAsker::Coordinator {
                        task: number,
                        partition: partition.clone(),
                    };
                    let marker = &task.markers.marker;
                    self.broker
                        .write_marker(&partition, marker, asker, now, out);
                }
                Some(assigned) if assigned.leader >= 0 => {
                    task.asked.insert(partition.clone());
                    let leader = BrokerId(assigned.leader);
                    elsewhere.entry(leader).or_default().push(partition);
                }
                // Nobody leads it now.
                Some(_) => task.again = now.mono + self.options.send_again_after,
            }
        }
        for (leader, partitions) in elsewhere {
            let marker = &task.markers.marker;
            self.calls
                .write_markers(leader, number, marker, partitions, now.mono, out);
        }
    }

    fn told(
        &mut self,
        number: u64,
        partition: &TopicPartition,
        error: ErrorCode,
        now: Now,
        out: &mut Outbox,
    ) {
        let Some(task) = self.tasks.get_mut(&number) else {
            return;
        };
        task.asked.remove(partition);
        match error {
            ErrorCode::None => _ = task.left.remove(partition),
            // A newer coordinator has taken over, or a newer producer is there: this one has nothing more to say.
            ErrorCode::TransactionCoordinatorFenced | ErrorCode::InvalidProducerEpoch => {
                warn!(%partition, %error, id = %task.markers.transactional_id, "a marker is given up");
                self.tasks.remove(&number);
                return;
            }
            _ => {
                let at = now.mono + self.options.send_again_after;
                task.again = task.again.min(at);
            }
        }
        let mut effects = Vec::new();
        self.finish_if_done(number, now, &mut effects);
        self.carry_out(effects, now, out);
    }

    fn finish_if_done(&mut self, number: u64, now: Now, effects: &mut Vec<TxnEffect>) {
        let done = |task: &Task| task.left.is_empty();
        if !self.tasks.get(&number).is_some_and(done) {
            return;
        }
        if let Some(task) = self.tasks.remove(&number) {
            self.coordinator
                .markers_written(&task.markers, now, effects);
            // Who waits for the end of this transaction to begin the next may go on.
            for (at, question, _) in &mut self.again {
                if question.transactional_id == task.markers.transactional_id {
                    *at = now.mono;
                }
            }
        }
    }

    fn resigned(&mut self, shard: i32) {
        if self.coordinator.epoch(shard).is_none() {
            self.tasks.retain(|_, task| task.markers.shard != shard);
        }
    }

    fn ask_again(&mut self, now: Now, out: &mut Outbox) {
        let (due, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.again)
            .into_iter()
            .partition(|(at, _, _)| *at <= now.mono);
        self.again = later;
        for (_, question, until) in due {
            self.ask_producers_question(question, until, now, out);
        }
    }

    fn send_again(&mut self, now: Now, out: &mut Outbox) {
        let due = |(_, task): &(&u64, &Task)| task.again <= now.mono;
        let due: Vec<u64> = self.tasks.iter().filter(due).map(|(n, _)| *n).collect();
        for number in due {
            self.send(number, now, out);
            let mut effects = Vec::new();
            self.finish_if_done(number, now, &mut effects);
            self.carry_out(effects, now, out);
        }
    }
}

impl Mailbox for Transactions {
    type Event = TxnEvent;

    fn step(&mut self, event: TxnEvent, now: Now, out: &mut Outbox) {
        match event {
            TxnEvent::Request { ctx, request } => self.request(ctx, request, now, out),
            TxnEvent::Ask(question) => {
                let until = now.mono + self.options.ask_again_until;
                self.ask_producers_question(question, until, now, out);
            }
            TxnEvent::Elected { shard, epoch } => {
                let image = self.broker.image();
                if let Some(topic) = image.topics.named(topics::TRANSACTION_STATE) {
                    self.coordinator
                        .set_partitions(topic.partitions.len() as i32);
                }
                producer_ids::are_at_hand(&self.broker, out);
                self.tell(Event::Elected { shard, epoch }, now, out);
            }
            TxnEvent::Resigned { shard, epoch } => {
                self.tell(Event::Resigned { shard, epoch }, now, out);
                self.resigned(shard);
            }
            TxnEvent::HighWatermark { shard } => {
                if let Some(offset) = self.log.high_watermark(shard) {
                    self.tell(Event::HighWatermark { shard, offset }, now, out);
                }
            }
            TxnEvent::ProducerIds => {
                for (ctx, request) in std::mem::take(&mut self.starting) {
                    self.ask(ctx.version(), request, Asked::Client(ctx.to), now, out);
                }
            }
            TxnEvent::MarkerTold {
                task,
                partition,
                error,
            } => self.told(task, &partition, error, now, out),
            TxnEvent::Answered(answer) => self.answered_by_other(answer, now, out),
            TxnEvent::Stop => self.stopped = true,
        }
        self.ask_again(now, out);
    }

    fn tick(&mut self, now: Now, out: &mut Outbox) {
        self.ask_again(now, out);
        self.send_again(now, out);
        self.tell(Event::Tick, now, out);
    }

    fn deadline(&self) -> Instant {
        let coordinator = self.coordinator.next_deadline();
        let questions = self.again.iter().map(|(at, _, _)| *at).min();
        let tasks = self.tasks.values().map(|task| task.again).min();
        let all = [coordinator, questions, tasks].into_iter().flatten();
        all.min().unwrap_or(Instant::NEVER)
    }

    fn is_finished(&self) -> bool {
        self.stopped
    }
}
