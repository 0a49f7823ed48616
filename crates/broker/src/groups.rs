//! The groups' mailbox: the group coordinator, and the carrying out of what it wants: appends to `__consumer_offsets`,
//! loads from it, answers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use milena_base::{Epoch, ErrorCode, Instant, Now, Offset, Prng, Uuid};
use milena_config::GroupSettings;
use milena_coordinator::{Effect, Event, KeyValue, Marker, Producer, Token};
use milena_group::{
    ConsumerGroupSettings, DeletedTopic, GroupConfig, GroupCoordinator, GroupRequest,
    GroupResponse, RequestContext, Topics,
};
use milena_image::ConfigResource;
use milena_protocol::{Str, TxnOffsetCommitRequest};
use milena_records::Codec;
use milena_replica::Vouched;

use crate::broker::Broker;
use crate::coordinator_log::CoordinatorLog;
use crate::ctx::{Ctx, Outbox, ReplyTo};
use crate::mailbox::Mailbox;
use crate::markers::MarkerAsker;
use crate::topics;

/// What the mailbox is told.
#[derive(Debug)]
pub enum GroupsEvent {
    /// Boxed together: requests are much larger than everything else.
    Request(Box<(Ctx, GroupRequest)>),
    /// This broker leads the partition of `__consumer_offsets`.
    Elected {
        shard: i32,
        epoch: Epoch,
    },
    Resigned {
        shard: i32,
        epoch: Option<Epoch>,
    },
    /// TxnOffsetCommit, with what its producer's coordinator said.
    TxnOffsetCommit {
        ctx: Box<Ctx>,
        request: Box<TxnOffsetCommitRequest>,
        vouched: Vouched,
    },
    /// A transaction ends in a partition of `__consumer_offsets`.
    EndTransaction {
        shard: i32,
        marker: Marker,
        asker: MarkerAsker,
    },
    /// The high watermark of the partition of `__consumer_offsets` moved.
    HighWatermark {
        shard: i32,
    },
    TopicDeleted {
        id: Uuid,
        name: Str,
    },
    /// Topics were created (`created`: one at least), deleted, or placed anew.
    TopicsChanged {
        names: Vec<Str>,
        created: bool,
    },
    Stop,
}

/// The coordinator's view of the topics that exist.
struct ImageTopics(Arc<Broker>);

impl Topics for ImageTopics {
    fn name(&self, id: Uuid) -> Option<Str> {
        self.0.topic_name(id)
    }

    fn id(&self, name: &str) -> Option<Uuid> {
        self.0.topic_id(name)
    }

    fn has_partition(&self, name: &str, partition: i32) -> bool {
        let image = self.0.image();
        let topic = image.topics.named(name);
        topic.is_some_and(|topic| topic.partitions.contains_key(&partition))
    }

    fn partitions(&self, name: &str) -> Option<i32> {
        let image = self.0.image();
        let topic = image.topics.named(name)?;
        i32::try_from(topic.partitions.len()).ok()
    }

    fn racks(&self, name: &str) -> Option<Vec<Vec<Str>>> {
        let image = self.0.image();
        let topic = image.topics.named(name)?;
        let racks = |replicas: &[i32]| {
            let brokers = replicas.iter().filter_map(|id| image.cluster.broker(*id));
            let mut racks: Vec<Str> = brokers.filter_map(|broker| broker.rack.clone()).collect();
            racks.sort();
            racks
        };
        Some(
            topic
                .partitions
                .values()
                .map(|p| racks(&p.replicas))
                .collect(),
        )
    }

    fn names(&self) -> Vec<Str> {
        let image = self.0.image();
        image
            .topics
            .by_name()
            .map(|topic| topic.name.clone())
            .collect()
    }

    fn version(&self) -> i64 {
        self.0.image().provenance.offset.0
    }

    /// Read anew each time: both a group's configs and the broker's may change.
    fn consumer_settings(&self, group_id: &str) -> Option<ConsumerGroupSettings> {
        let own = self.0.image().configs.get(&ConfigResource::group(group_id));
        let layers = self.0.layers();
        let broker = layers.current();
        if own.is_empty() {
            return Some(ConsumerGroupSettings {
                session_timeout_ms: broker.int("group.consumer.session.timeout.ms"),
                heartbeat_interval_ms: broker.int("group.consumer.heartbeat.interval.ms"),
                assignment_interval_ms: broker.int("group.consumer.assignment.interval.ms"),
            });
        }
        let own = own
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()));
        let settings = GroupSettings::resolve(broker, &own.collect()).ok()?;
        let number = |key| i32::try_from(settings.number(key)).unwrap_or(i32::MAX);
        Some(ConsumerGroupSettings {
            session_timeout_ms: number("consumer.session.timeout.ms"),
            heartbeat_interval_ms: number("consumer.heartbeat.interval.ms"),
            assignment_interval_ms: number("consumer.assignment.interval.ms"),
        })
    }
}

/// See the module's words.
pub struct Groups {
    broker: Arc<Broker>,
    coordinator: GroupCoordinator,
    asked: BTreeMap<Token, ReplyTo>,
    next_token: u64,
    /// Who wants to know of a marker.
    markers: BTreeMap<Token, MarkerAsker>,
    /// What speaks for the next transactional batch of a partition's producer.
    vouched: BTreeMap<(i32, i64), Vouched>,
    log: CoordinatorLog,
    stopped: bool,
}

impl Groups {
    /// `load_bytes`: how much is read at once when a partition is loaded (`offsets.load.buffer.size`); `codec`: that
    /// of the batches written (`offsets.topic.compression.codec`).
    pub fn new(
        broker: Arc<Broker>,
        config: GroupConfig,
        load_bytes: u32,
        codec: Codec,
        prng: Prng,
    ) -> Groups {
        let partitions = broker.settings().offsets_topic_partitions;
        let topics = Arc::new(ImageTopics(broker.clone()));
        let log = CoordinatorLog {
            broker: broker.clone(),
            topic: topics::CONSUMER_OFFSETS,
            load_bytes,
            codec,
        };
        Groups {
            broker,
            coordinator: GroupCoordinator::new(config, partitions, topics, prng),
            asked: BTreeMap::new(),
            next_token: 1,
            markers: BTreeMap::new(),
            vouched: BTreeMap::new(),
            log,
            stopped: false,
        }
    }

    /// Whether the answer was given at once.
    fn ask(&mut self, ctx: &Ctx, request: GroupRequest, now: Now, out: &mut Outbox) -> bool {
        let token = self.next_token();
        self.asked.insert(token, ctx.to);
        let context = RequestContext {
            api_version: ctx.version(),
            client_id: ctx.client_id.clone().unwrap_or_default().detached(),
            client_host: format!("/{}", ctx.client_host).into(),
        };
        let mut effects = Vec::new();
        self.coordinator
            .request(token, context, request, now, &mut effects);
        self.carry_out(effects, now, out);
        !self.asked.contains_key(&token)
    }

    fn tell(&mut self, event: Event, now: Now, out: &mut Outbox) {
        let mut effects = Vec::new();
        self.coordinator.step(event, now, &mut effects);
        self.carry_out(effects, now, out);
    }

    /// Carries effects out in order, and those that follow from them.
    fn carry_out(&mut self, effects: Vec<Effect<GroupResponse>>, now: Now, out: &mut Outbox) {
        let mut queue = VecDeque::from(effects);
        while let Some(effect) = queue.pop_front() {
            let mut more = Vec::new();
            match effect {
                Effect::Append {
                    shard,
                    epoch,
                    records,
                } => {
                    let result = self.log.append(shard, epoch, &records, now, out);
                    self.append(shard, result, now, &mut more);
                }
                Effect::AppendTransactional {
                    shard,
                    epoch,
                    producer,
                    records,
                } => {
                    let result = self.append_within(shard, epoch, producer, &records, now, out);
                    self.append(shard, result, now, &mut more);
                }
                Effect::AppendMarker {
                    shard,
                    epoch,
                    marker,
                } => {
                    let result = self.log.append_marker(shard, epoch, &marker, now, out);
                    self.append(shard, result, now, &mut more);
                }
                Effect::Load { shard, epoch } => self.load(shard, epoch, now, &mut more),
                Effect::Reply { token, response } => self.answer(token, response, out),
            }
            queue.extend(more);
        }
    }

    fn answer(&mut self, token: Token, response: GroupResponse, out: &mut Outbox) {
        if let GroupResponse::TransactionEnded(error) = response {
            if let Some(asker) = self.markers.remove(&token) {
                asker.told(as_leader(error), out);
            }
            return;
        }
        let Some(to) = self.asked.remove(&token) else {
            return;
        };
        match &response {
            GroupResponse::JoinGroup(body) => out.reply(to, body),
            GroupResponse::SyncGroup(body) => out.reply(to, body),
            GroupResponse::Heartbeat(body) => out.reply(to, body),
            GroupResponse::LeaveGroup(body) => out.reply(to, body),
            GroupResponse::OffsetCommit(body) => out.reply(to, body),
            GroupResponse::OffsetFetch(body) => out.reply(to, body),
            GroupResponse::OffsetDelete(body) => out.reply(to, body),
            GroupResponse::ListGroups(body) => out.reply(to, body),
            GroupResponse::DescribeGroups(body) => out.reply(to, body),
            GroupResponse::DeleteGroups(body) => out.reply(to, body),
            GroupResponse::ConsumerGroupHeartbeat(body) => out.reply(to, body),
            GroupResponse::ConsumerGroupDescribe(body) => out.reply(to, body),
            GroupResponse::TxnOffsetCommit(body) => out.reply(to, body),
            GroupResponse::TransactionEnded(_) => {}
        }
    }

    fn append(
        &mut self,
        shard: i32,
        result: Result<Offset, ErrorCode>,
        now: Now,
        effects: &mut Vec<Effect<GroupResponse>>,
    ) {
        let high_watermark = self.log.high_watermark(shard);
        self.coordinator
            .step(Event::Appended { shard, result }, now, effects);
        if let (Ok(_), Some(offset)) = (result, high_watermark) {
            self.coordinator
                .step(Event::HighWatermark { shard, offset }, now, effects);
        }
    }

    /// Appends within a producer's transaction, with what its coordinator said of it.
    fn append_within(
        &mut self,
        shard: i32,
        epoch: Epoch,
        producer: Producer,
        records: &[KeyValue],
        now: Now,
        out: &mut Outbox,
    ) -> Result<Offset, ErrorCode> {
        let said = self.vouched.remove(&(shard, producer.id));
        let vouched = said.unwrap_or(Vouched::ByOpenTransaction);
        let log = &self.log;
        log.append_transactional(shard, epoch, producer, vouched, records, now, out)
    }

    /// Reads a partition from its start to its end into the coordinator.
    fn load(
        &mut self,
        shard: i32,
        epoch: Epoch,
        now: Now,
        effects: &mut Vec<Effect<GroupResponse>>,
    ) {
        let coordinator = &mut self.coordinator;
        self.log.load("groups and offsets", shard, epoch, |event| {
            coordinator.step(event, now, effects);
        });
    }

    /// Offsets that are committed within a transaction, once their producer's coordinator has been asked.
    fn ask_vouched(
        &mut self,
        ctx: &Ctx,
        request: TxnOffsetCommitRequest,
        vouched: Vouched,
        now: Now,
        out: &mut Outbox,
    ) {
        let shard = self.coordinator.partition_for(&request.group_id);
        let producer = (shard, request.producer_id);
        self.vouched.insert(producer, vouched);
        // An answer that comes later needs what was said until its batch is appended.
        if self.ask(ctx, request.into(), now, out) {
            self.vouched.remove(&producer);
        }
    }

    fn end_transaction(
        &mut self,
        shard: i32,
        marker: Marker,
        asker: MarkerAsker,
        now: Now,
        out: &mut Outbox,
    ) {
        let token = self.next_token();
        self.markers.insert(token, asker);
        let mut effects = Vec::new();
        self.coordinator
            .end_transaction(token, shard, marker, now, &mut effects);
        self.carry_out(effects, now, out);
    }

    fn next_token(&mut self) -> Token {
        let token = Token(self.next_token);
        self.next_token += 1;
        token
    }
}

/// What a partition's leader would have answered (Kafka does not tell a coordinator that moved from a leader that did).
fn as_leader(error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::CoordinatorNotAvailable
        | ErrorCode::CoordinatorLoadInProgress
        | ErrorCode::NotCoordinator => ErrorCode::NotLeaderOrFollower,
        other => other,
    }
}

impl Mailbox for Groups {
    type Event = GroupsEvent;

    fn step(&mut self, event: GroupsEvent, now: Now, out: &mut Outbox) {
        match event {
            GroupsEvent::Request(asked) => {
                let (ctx, request) = *asked;
                _ = self.ask(&ctx, request, now, out);
            }
            GroupsEvent::TxnOffsetCommit {
                ctx,
                request,
                vouched,
            } => self.ask_vouched(&ctx, *request, vouched, now, out),
            GroupsEvent::EndTransaction {
                shard,
                marker,
                asker,
            } => self.end_transaction(shard, marker, asker, now, out),
            GroupsEvent::Elected { shard, epoch } => {
                if let Some(topic) = self.broker.image().topics.named(topics::CONSUMER_OFFSETS) {
                    self.coordinator
                        .set_partitions(topic.partitions.len() as i32);
                }
                self.tell(Event::Elected { shard, epoch }, now, out);
            }
            GroupsEvent::Resigned { shard, epoch } => {
                self.tell(Event::Resigned { shard, epoch }, now, out);
            }
            GroupsEvent::HighWatermark { shard } => {
                if let Some(offset) = self.log.high_watermark(shard) {
                    self.tell(Event::HighWatermark { shard, offset }, now, out);
                }
            }
            GroupsEvent::TopicDeleted { id, name } => {
                let mut effects = Vec::new();
                let deleted = vec![DeletedTopic { id, name }];
                self.coordinator.topics_deleted(deleted, now, &mut effects);
                self.carry_out(effects, now, out);
            }
            GroupsEvent::TopicsChanged { names, created } => {
                let mut effects = Vec::new();
                self.coordinator
                    .topics_changed(names, created, now, &mut effects);
                self.carry_out(effects, now, out);
            }
            GroupsEvent::Stop => self.stopped = true,
        }
    }

    fn tick(&mut self, now: Now, out: &mut Outbox) {
        self.tell(Event::Tick, now, out);
    }

    fn deadline(&self) -> Instant {
        self.coordinator.next_deadline().unwrap_or(Instant::NEVER)
    }

    fn is_finished(&self) -> bool {
        self.stopped
    }
}
