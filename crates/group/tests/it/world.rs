//! A coordinator with a log under it: appends go to a list, the high watermark follows unless it is held back.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use milena_base::{Epoch, ErrorCode, Now, Offset, Prng, Uuid};
use milena_group::{
    ConsumerGroupSettings, Effect, Event, GroupConfig, GroupCoordinator, GroupRequest,
    GroupResponse, KeyValue, LoadedRecord, LogEnd, Marker, Payload, RequestContext, Token, Topics,
};
use milena_protocol::Str;

/// Topics that exist: name, id, partitions; what groups have of their own; how often topics changed.
#[derive(Default)]
pub struct FakeTopics(
    Mutex<BTreeMap<String, (Uuid, i32)>>,
    Mutex<BTreeMap<String, ConsumerGroupSettings>>,
    AtomicI64,
);

impl FakeTopics {
    pub fn create(&self, name: &str, id: u64, partitions: i32) {
        let id = Uuid::from_parts(0, id);
        self.2.fetch_add(1, Ordering::Relaxed);
        self.0
            .lock()
            .unwrap()
            .insert(name.to_string(), (id, partitions));
    }

    pub fn configure(&self, group: &str, settings: ConsumerGroupSettings) {
        self.1.lock().unwrap().insert(group.to_string(), settings);
    }

    pub fn delete(&self, name: &str) -> Uuid {
        self.2.fetch_add(1, Ordering::Relaxed);
        self.0.lock().unwrap().remove(name).expect("it exists").0
    }
}

impl Topics for FakeTopics {
    fn name(&self, id: Uuid) -> Option<Str> {
        let topics = self.0.lock().unwrap();
        let found = topics.iter().find(|(_, (of, _))| *of == id);
        found.map(|(name, _)| Str::copy(name))
    }

    fn id(&self, name: &str) -> Option<Uuid> {
        self.0.lock().unwrap().get(name).map(|(id, _)| *id)
    }

    fn has_partition(&self, name: &str, partition: i32) -> bool {
        let topics = self.0.lock().unwrap();
        let found = topics.get(name);
        found.is_some_and(|(_, partitions)| (0..*partitions).contains(&partition))
    }

    fn partitions(&self, name: &str) -> Option<i32> {
        let topics = self.0.lock().unwrap();
        topics.get(name).map(|(_, partitions)| *partitions)
    }

    fn racks(&self, name: &str) -> Option<Vec<Vec<Str>>> {
        let partitions = self.partitions(name)?;
        Some(
            (0..partitions)
                .map(|p| vec![Str::from(format!("r{}", p % 3))])
                .collect(),
        )
    }

    fn names(&self) -> Vec<Str> {
        self.0
            .lock()
            .unwrap()
            .keys()
            .map(|name| Str::copy(name))
            .collect()
    }

    fn version(&self) -> i64 {
        self.2.load(Ordering::Relaxed)
    }

    fn consumer_settings(&self, group_id: &str) -> Option<ConsumerGroupSettings> {
        self.1.lock().unwrap().get(group_id).copied()
    }
}

/// What the outside sees.
pub enum Seen {
    Appended(KeyValue),
    /// Appended within this producer's transaction.
    Within(i64, KeyValue),
    /// The end of this producer's transaction: whether committed.
    Ended(i64, bool),
    Refused(KeyValue),
    Loading(i32),
    Reply(Token, GroupResponse),
}

pub struct World {
    pub coordinator: GroupCoordinator,
    pub topics: Arc<FakeTopics>,
    pub logs: BTreeMap<i32, Vec<LoadedRecord>>,
    pub now_ms: u64,
    pub epoch: i32,
    /// Appends are refused with this.
    pub refuse: Option<ErrorCode>,
    /// The high watermark stays where it is.
    pub hold: bool,
    high_watermarks: BTreeMap<i32, i64>,
    tokens: u64,
}

/// Wall-clock time at the beginning, in milliseconds.
pub const WALL_MS: i64 = 1_000_000;

impl World {
    pub fn new(config: GroupConfig, partitions: i32, seed: u64) -> World {
        let topics = Arc::new(FakeTopics::default());
        let prng = Prng::new(seed);
        World {
            coordinator: GroupCoordinator::new(config, partitions, topics.clone(), prng),
            topics,
            logs: BTreeMap::new(),
            now_ms: 0,
            epoch: 0,
            refuse: None,
            hold: false,
            high_watermarks: BTreeMap::new(),
            tokens: 0,
        }
    }

    pub fn now(&self) -> Now {
        Now::from_millis(self.now_ms, WALL_MS + self.now_ms as i64)
    }

    pub fn elect(&mut self, shard: i32) -> Vec<Seen> {
        self.epoch += 1;
        let epoch = Epoch(self.epoch);
        let mut seen = self.step(Event::Elected { shard, epoch });
        seen.extend(self.finish_load(shard));
        seen
    }

    /// Gives the shard its log, in two parts.
    pub fn finish_load(&mut self, shard: i32) -> Vec<Seen> {
        let epoch = Epoch(self.epoch);
        let log = self.logs.entry(shard).or_default().clone();
        let end = log.last().map_or(Offset::ZERO, |record| record.offset + 1);
        let high_watermark = Offset(*self.high_watermarks.entry(shard).or_insert(end.0));
        let half = log.len() / 2;
        let mut seen = Vec::new();
        for records in [log[..half].to_vec(), log[half..].to_vec()] {
            seen.extend(self.step(Event::Records {
                shard,
                epoch,
                records,
                high_watermark,
            }));
        }
        let result = Ok(LogEnd {
            log_end: end,
            high_watermark,
        });
        seen.extend(self.step(Event::Loaded {
            shard,
            epoch,
            result,
        }));
        seen
    }

    pub fn resign(&mut self, shard: i32) -> Vec<Seen> {
        let epoch = None;
        self.step(Event::Resigned { shard, epoch })
    }

    pub fn request(
        &mut self,
        version: i16,
        client: &str,
        request: impl Into<GroupRequest>,
    ) -> (Token, Vec<Seen>) {
        self.tokens += 1;
        let token = Token(self.tokens);
        let context = RequestContext {
            api_version: version,
            client_id: Str::copy(client),
            client_host: "/127.0.0.1".into(),
        };
        let mut effects = Vec::new();
        let now = self.now();
        self.coordinator
            .request(token, context, request.into(), now, &mut effects);
        (token, self.carry_out(effects))
    }

    pub fn step(&mut self, event: Event) -> Vec<Seen> {
        let mut effects = Vec::new();
        self.coordinator.step(event, self.now(), &mut effects);
        self.carry_out(effects)
    }

    /// A topic is created, or has more partitions.
    pub fn topic_changed(&mut self, name: &str, id: u64, partitions: i32) -> Vec<Seen> {
        let created = self.topics.id(name).is_none();
        self.topics.create(name, id, partitions);
        self.tell_topics(name, created)
    }

    fn tell_topics(&mut self, name: &str, created: bool) -> Vec<Seen> {
        let mut effects = Vec::new();
        let (now, names) = (self.now(), vec![Str::copy(name)]);
        self.coordinator
            .topics_changed(names, created, now, &mut effects);
        self.carry_out(effects)
    }

    pub fn topic_deleted(&mut self, name: &str) -> Vec<Seen> {
        let id = self.topics.delete(name);
        let mut seen = self.tell_topics(name, false);
        let name = Str::copy(name);
        let topics = vec![milena_group::DeletedTopic { name, id }];
        let mut effects = Vec::new();
        let now = self.now();
        self.coordinator.topics_deleted(topics, now, &mut effects);
        seen.extend(self.carry_out(effects));
        seen
    }

    /// Lets time pass, from deadline to deadline.
    pub fn pass(&mut self, millis: u64) -> Vec<Seen> {
        let end = self.now_ms + millis;
        let mut seen = Vec::new();
        loop {
            let deadline = self.coordinator.next_deadline().map(|at| at.as_millis());
            match deadline.filter(|at| *at <= end) {
                Some(at) => self.now_ms = at.max(self.now_ms),
                None => break,
            }
            seen.extend(self.step(Event::Tick));
        }
        self.now_ms = end;
        seen
    }

    /// The high watermark reaches the end of each log.
    pub fn release(&mut self) -> Vec<Seen> {
        self.hold = false;
        let shards: Vec<i32> = self.logs.keys().copied().collect();
        let raise = |shard| self.raise(shard);
        shards.into_iter().flat_map(raise).collect()
    }

    fn raise(&mut self, shard: i32) -> Vec<Seen> {
        let last = self.logs.get(&shard).and_then(|log| log.last());
        let offset = last.map_or(Offset::ZERO, |record| record.offset + 1);
        self.high_watermarks.insert(shard, offset.0);
        self.step(Event::HighWatermark { shard, offset })
    }

    fn carry_out(&mut self, effects: Vec<Effect<GroupResponse>>) -> Vec<Seen> {
        let mut seen = Vec::new();
        for effect in effects {
            match effect {
                Effect::Reply { token, response } => seen.push(Seen::Reply(token, response)),
                Effect::Load { shard, .. } => seen.push(Seen::Loading(shard)),
                Effect::Append { shard, records, .. } => {
                    let data = records.into_iter().map(Payload::Data);
                    seen.extend(self.append(shard, -1, data.collect()));
                }
                Effect::AppendTransactional {
                    shard,
                    producer,
                    records,
                    ..
                } => {
                    let data = records.into_iter().map(Payload::Data);
                    seen.extend(self.append(shard, producer.id, data.collect()));
                }
                Effect::AppendMarker { shard, marker, .. } => {
                    let committed = marker.committed;
                    let end = Payload::EndTransaction { committed };
                    seen.extend(self.append(shard, marker.producer.id, vec![end]));
                }
            }
        }
        seen
    }

    fn append(&mut self, shard: i32, producer_id: i64, payloads: Vec<Payload>) -> Vec<Seen> {
        let seen_as = |payload: &Payload| match payload {
            Payload::Data(record) if producer_id == -1 => Seen::Appended(record.clone()),
            Payload::Data(record) => Seen::Within(producer_id, record.clone()),
            Payload::EndTransaction { committed } => Seen::Ended(producer_id, *committed),
        };
        if let Some(error) = self.refuse {
            let refused = payloads.into_iter().filter_map(|payload| match payload {
                Payload::Data(record) => Some(Seen::Refused(record)),
                Payload::EndTransaction { .. } => None,
            });
            let mut seen: Vec<Seen> = refused.collect();
            let result = Err(error);
            seen.extend(self.step(Event::Appended { shard, result }));
            return seen;
        }
        let log = self.logs.entry(shard).or_default();
        let base = log.last().map_or(Offset::ZERO, |record| record.offset + 1);
        let mut seen = Vec::new();
        for (i, payload) in payloads.into_iter().enumerate() {
            seen.push(seen_as(&payload));
            log.push(LoadedRecord {
                offset: base + i as i64,
                producer_id,
                payload,
            });
        }
        let result = Ok(base);
        seen.extend(self.step(Event::Appended { shard, result }));
        if !self.hold {
            seen.extend(self.raise(shard));
        }
        seen
    }

    /// A transaction ends in a partition.
    pub fn end_transaction(&mut self, shard: i32, marker: Marker) -> (Token, Vec<Seen>) {
        self.tokens += 1;
        let token = Token(self.tokens);
        let mut effects = Vec::new();
        let now = self.now();
        self.coordinator
            .end_transaction(token, shard, marker, now, &mut effects);
        (token, self.carry_out(effects))
    }

    /// Writes to a log without the coordinator, as another broker did.
    pub fn write_foreign(&mut self, shard: i32, producer_id: i64, payload: Payload) {
        let log = self.logs.entry(shard).or_default();
        let offset = log.last().map_or(Offset::ZERO, |record| record.offset + 1);
        log.push(LoadedRecord {
            offset,
            producer_id,
            payload,
        });
        self.high_watermarks.insert(shard, offset.0 + 1);
    }

    pub fn log_len(&self, shard: i32) -> usize {
        self.logs.get(&shard).map_or(0, Vec::len)
    }

    /// What is not committed is lost.
    pub fn truncate(&mut self, shard: i32) {
        let high_watermark = self.high_watermarks.get(&shard).copied().unwrap_or(0);
        let log = self.logs.entry(shard).or_default();
        log.retain(|record| record.offset.0 < high_watermark);
    }

    pub fn set_high_watermark(&mut self, shard: i32, offset: i64) {
        self.high_watermarks.insert(shard, offset);
    }
}
