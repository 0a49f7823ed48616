//! A coordinator with logs under it: appends go to a list, the high watermark follows unless it is held back, and
//! markers are written when the test says so.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI16, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use milena_base::{Epoch, ErrorCode, Now, Offset, Prng, TopicPartition};
use milena_txn::{
    Cluster, Effect, Event, KeyValue, LoadedRecord, LogEnd, Markers, Payload, ProducerIds, Token,
    TxnConfig, TxnCoordinator, TxnEffect, TxnRequest, TxnResponse,
};

/// What the cluster is like.
pub struct FakeCluster {
    pub version: AtomicI16,
    pub topics: Mutex<BTreeMap<String, i32>>,
    next_id: AtomicI64,
    ids_end: AtomicI64,
}

impl FakeCluster {
    pub fn grant(&self, count: i64) {
        self.ids_end.fetch_add(count, Ordering::Relaxed);
    }

    pub fn use_up(&self) {
        let next = self.next_id.load(Ordering::Relaxed);
        self.ids_end.store(next, Ordering::Relaxed);
    }
}

impl ProducerIds for FakeCluster {
    fn take(&self) -> Option<i64> {
        let next = self.next_id.load(Ordering::Relaxed);
        if next >= self.ids_end.load(Ordering::Relaxed) {
            return None;
        }
        self.next_id.store(next + 1, Ordering::Relaxed);
        Some(next)
    }
}

impl Cluster for FakeCluster {
    fn has_partition(&self, topic: &str, partition: i32) -> bool {
        let topics = self.topics.lock().unwrap();
        let count = topics.get(topic).copied().unwrap_or(0);
        (0..count).contains(&partition)
    }

    fn offsets_partition(&self, _group: &str) -> TopicPartition {
        TopicPartition::new("__consumer_offsets", 3)
    }

    fn transaction_version(&self) -> i16 {
        self.version.load(Ordering::Relaxed)
    }
}

/// What the outside sees.
pub enum Seen {
    Appended(KeyValue),
    Refused(KeyValue),
    Loading(i32),
    Markers(Markers),
    Reply(Token, Box<TxnResponse>),
}

pub struct World {
    pub coordinator: TxnCoordinator,
    pub cluster: Arc<FakeCluster>,
    pub logs: BTreeMap<i32, Vec<LoadedRecord>>,
    pub due: Vec<Markers>,
    pub hold: bool,
    pub refuse: Option<ErrorCode>,
    pub epoch: i32,
    now_ms: u64,
    tokens: u64,
}

impl World {
    pub fn new(config: TxnConfig, partitions: i32) -> World {
        let cluster = Arc::new(FakeCluster {
            version: AtomicI16::new(2),
            topics: Mutex::new(BTreeMap::from([("t".to_string(), 4), ("u".to_string(), 2)])),
            next_id: AtomicI64::new(1000),
            ids_end: AtomicI64::new(2000),
        });
        let prng = Prng::new(7);
        let (ids, view) = (cluster.clone(), cluster.clone());
        World {
            coordinator: TxnCoordinator::new(config, partitions, ids, view, prng),
            cluster,
            logs: BTreeMap::new(),
            due: Vec::new(),
            hold: false,
            refuse: None,
            epoch: 4,
            now_ms: 1_000_000,
            tokens: 0,
        }
    }

    fn now(&self) -> Now {
        Now::from_millis(self.now_ms, self.now_ms as i64)
    }

    pub fn elect(&mut self, shard: i32) -> Vec<Seen> {
        self.epoch += 1;
        let epoch = Epoch(self.epoch);
        let mut seen = self.step(Event::Elected { shard, epoch });
        let records = self.logs.get(&shard).cloned().unwrap_or_default();
        let log_end = records.last().map_or(Offset::ZERO, |r| r.offset + 1);
        seen.extend(self.step(Event::Records {
            shard,
            epoch,
            records,
            high_watermark: log_end,
        }));
        let result = Ok(LogEnd {
            log_end,
            high_watermark: log_end,
        });
        seen.extend(self.step(Event::Loaded {
            shard,
            epoch,
            result,
        }));
        seen
    }

    pub fn resign(&mut self, shard: i32) -> Vec<Seen> {
        self.step(Event::Resigned { shard, epoch: None })
    }

    pub fn request(&mut self, version: i16, request: TxnRequest) -> (Token, Vec<Seen>) {
        self.tokens += 1;
        let token = Token(self.tokens);
        let mut effects = Vec::new();
        let now = self.now();
        self.coordinator
            .request(token, version, request, now, &mut effects);
        (token, self.carry_out(effects))
    }

    /// All markers that are due are written.
    pub fn write_markers(&mut self) -> Vec<Seen> {
        let mut seen = Vec::new();
        for markers in std::mem::take(&mut self.due) {
            let mut effects = Vec::new();
            let now = self.now();
            self.coordinator
                .markers_written(&markers, now, &mut effects);
            seen.extend(self.carry_out(effects));
        }
        seen
    }

    pub fn step(&mut self, event: Event) -> Vec<Seen> {
        let mut effects = Vec::new();
        let now = self.now();
        self.coordinator.step(event, now, &mut effects);
        self.carry_out(effects)
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
        self.step(Event::HighWatermark { shard, offset })
    }

    fn carry_out(&mut self, effects: Vec<TxnEffect>) -> Vec<Seen> {
        let mut seen = Vec::new();
        for effect in effects {
            match effect {
                TxnEffect::WriteMarkers(markers) => {
                    self.due.push(markers.clone());
                    seen.push(Seen::Markers(markers));
                }
                TxnEffect::Runtime(Effect::Reply { token, response }) => {
                    seen.push(Seen::Reply(token, Box::new(response)));
                }
                TxnEffect::Runtime(Effect::Load { shard, .. }) => seen.push(Seen::Loading(shard)),
                TxnEffect::Runtime(Effect::Append { shard, records, .. }) => {
                    seen.extend(self.append(shard, records));
                }
                TxnEffect::Runtime(
                    Effect::AppendTransactional { .. } | Effect::AppendMarker { .. },
                ) => unreachable!("the coordinator's own records are in no transaction"),
            }
        }
        seen
    }

    fn append(&mut self, shard: i32, records: Vec<KeyValue>) -> Vec<Seen> {
        if let Some(error) = self.refuse {
            let mut seen: Vec<Seen> = records.into_iter().map(Seen::Refused).collect();
            let result = Err(error);
            seen.extend(self.step(Event::Appended { shard, result }));
            return seen;
        }
        let log = self.logs.entry(shard).or_default();
        let base = log.last().map_or(Offset::ZERO, |record| record.offset + 1);
        let mut seen = Vec::new();
        for (i, record) in records.into_iter().enumerate() {
            seen.push(Seen::Appended(record.clone()));
            log.push(LoadedRecord {
                offset: base + i as i64,
                producer_id: -1,
                payload: Payload::Data(record),
            });
        }
        let result = Ok(base);
        seen.extend(self.step(Event::Appended { shard, result }));
        if !self.hold {
            seen.extend(self.raise(shard));
        }
        seen
    }
}
