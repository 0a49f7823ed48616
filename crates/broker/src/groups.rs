//! The groups' mailbox: the group coordinator, and the carrying out of what it wants: appends to `__consumer_offsets`,
//! loads from it, answers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use milena_base::{Epoch, ErrorCode, Instant, Now, Offset, Prng, TopicIdPartition, Uuid};
use milena_coordinator::{Effect, Event, KeyValue, LogEnd, Token, build_batch, read_batches};
use milena_group::{
    DeletedTopic, GroupConfig, GroupCoordinator, GroupRequest, GroupResponse, RequestContext,
    Topics,
};
use milena_log::AppendOrigin;
use milena_protocol::Str;
use milena_records::{Codec, Limits, batches};
use milena_replica::AppendRefused;
use tracing::{info, warn};

use crate::broker::{Broker, Hosted};
use crate::ctx::{Ctx, Outbox, ReplyTo};
use crate::housekeeping::Chore;
use crate::mailbox::Mailbox;
use crate::topics;

/// What the mailbox is told.
#[derive(Debug)]
pub enum GroupsEvent {
    Request {
        ctx: Box<Ctx>,
        request: GroupRequest,
    },
    /// This broker leads the partition of `__consumer_offsets`.
    Elected {
        shard: i32,
        epoch: Epoch,
    },
    Resigned {
        shard: i32,
        epoch: Option<Epoch>,
    },
    /// The high watermark of the partition of `__consumer_offsets` moved.
    HighWatermark {
        shard: i32,
    },
    TopicDeleted {
        id: Uuid,
        name: Str,
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
}

/// See the module's words.
pub struct Groups {
    broker: Arc<Broker>,
    coordinator: GroupCoordinator,
    asked: BTreeMap<Token, ReplyTo>,
    next_token: u64,
    load_bytes: u32,
    codec: Codec,
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
        Groups {
            broker,
            coordinator: GroupCoordinator::new(config, partitions, topics, prng),
            asked: BTreeMap::new(),
            next_token: 1,
            load_bytes,
            codec,
            stopped: false,
        }
    }

    fn ask(&mut self, ctx: &Ctx, request: GroupRequest, now: Now, out: &mut Outbox) {
        let token = Token(self.next_token);
        self.next_token += 1;
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
                } => self.append(shard, epoch, &records, now, &mut more, out),
                Effect::Load { shard, epoch } => self.load(shard, epoch, now, &mut more, out),
                Effect::Reply { token, response } => self.answer(token, response, out),
            }
            queue.extend(more);
        }
    }

    fn answer(&mut self, token: Token, response: GroupResponse, out: &mut Outbox) {
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
        }
    }

    fn hosted(&self, shard: i32) -> Option<(TopicIdPartition, Arc<Hosted>)> {
        let id = self.broker.topic_id(topics::CONSUMER_OFFSETS)?;
        let id = TopicIdPartition::new(id, shard);
        Some((id, self.broker.hosted(id)?))
    }

    fn append(
        &mut self,
        shard: i32,
        epoch: Epoch,
        records: &[KeyValue],
        now: Now,
        effects: &mut Vec<Effect<GroupResponse>>,
        out: &mut Outbox,
    ) {
        let result = self.append_batch(shard, epoch, records, now, out);
        let high_watermark = self
            .hosted(shard)
            .map(|(_, h)| h.partition.high_watermark());
        self.coordinator
            .step(Event::Appended { shard, result }, now, effects);
        if let (Ok(_), Some(offset)) = (result, high_watermark) {
            self.coordinator
                .step(Event::HighWatermark { shard, offset }, now, effects);
        }
    }

    /// Appends one batch as the partition's leader; the offset of its first record.
    fn append_batch(
        &self,
        shard: i32,
        epoch: Epoch,
        records: &[KeyValue],
        now: Now,
        out: &mut Outbox,
    ) -> Result<Offset, ErrorCode> {
        let (id, hosted) = self.hosted(shard).ok_or(ErrorCode::NotLeaderOrFollower)?;
        if hosted.partition.leader_view()?.leader_epoch != epoch {
            return Err(ErrorCode::NotLeaderOrFollower);
        }
        let batch = build_batch(records, self.codec, now.wall)
            .map_err(|_| ErrorCode::RecordListTooLarge)?;
        if batch.len() > hosted.rules().check.message_bytes_max {
            return Err(ErrorCode::RecordListTooLarge);
        }
        let origin = AppendOrigin::Coordinator;
        let appended = hosted.partition.append_as_leader(batch, true, origin, now);
        match appended {
            Ok(appended) => {
                if let Some(flush) = appended.rolled {
                    let partition = id;
                    out.post(Chore::Flush { partition, flush });
                }
                self.broker.wake(id, out);
                Ok(appended.first)
            }
            Err(AppendRefused::Refused(code, _)) => Err(code),
            Err(AppendRefused::Fault(fault)) => {
                self.broker.on_fault(fault, out);
                Err(ErrorCode::KafkaStorageError)
            }
        }
    }

    /// Reads a partition from its start to its end into the coordinator.
    fn load(
        &mut self,
        shard: i32,
        epoch: Epoch,
        now: Now,
        effects: &mut Vec<Effect<GroupResponse>>,
        _out: &mut Outbox,
    ) {
        let result = self.load_records(shard, epoch, now, effects);
        if let Err(why) = &result {
            warn!(
                partition = shard,
                "the groups of a partition can't be loaded: {why}"
            );
        }
        let loaded = Event::Loaded {
            shard,
            epoch,
            result,
        };
        self.coordinator.step(loaded, now, effects);
    }

    fn load_records(
        &mut self,
        shard: i32,
        epoch: Epoch,
        now: Now,
        effects: &mut Vec<Effect<GroupResponse>>,
    ) -> Result<LogEnd, String> {
        let (_, hosted) = self.hosted(shard).ok_or("the partition is not here")?;
        let reader = hosted.partition.reader();
        let mut next = reader.log_start();
        let mut count = 0;
        while next < reader.log_end() {
            let read = reader.read(next, self.load_bytes, reader.log_end(), true);
            let slice = read.map_err(|error| format!("{error:?}"))?;
            let file = slice.file.ok_or("a batch can't be found")?;
            let bytes = Bytes::from(file.read().map_err(|error| error.to_string())?);
            let from = next;
            let last = batches(bytes.clone()).map_while(Result::ok).last();
            next = last.map_or(from, |batch| batch.header().next_offset());
            if next == from {
                return Err("a batch is cut".into());
            }
            let mut records = read_batches(bytes, Limits::default())?;
            records.retain(|record| record.offset >= from);
            count += records.len();
            let event = Event::Records {
                shard,
                epoch,
                records,
                high_watermark: hosted.partition.high_watermark(),
            };
            self.coordinator.step(event, now, effects);
        }
        if count > 0 {
            info!(
                partition = shard,
                records = count,
                "loaded groups and offsets"
            );
        }
        Ok(LogEnd {
            log_end: next,
            high_watermark: hosted.partition.high_watermark(),
        })
    }
}

impl Mailbox for Groups {
    type Event = GroupsEvent;

    fn step(&mut self, event: GroupsEvent, now: Now, out: &mut Outbox) {
        match event {
            GroupsEvent::Request { ctx, request } => self.ask(&ctx, request, now, out),
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
                if let Some((_, hosted)) = self.hosted(shard) {
                    let offset = hosted.partition.high_watermark();
                    self.tell(Event::HighWatermark { shard, offset }, now, out);
                }
            }
            GroupsEvent::TopicDeleted { id, name } => {
                let mut effects = Vec::new();
                let deleted = vec![DeletedTopic { id, name }];
                self.coordinator.topics_deleted(deleted, now, &mut effects);
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
