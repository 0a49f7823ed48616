//! One group in a coordinator of ours, with a log under it that takes everything.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use milena_base::{Epoch, Now, Offset, Prng, Uuid};
use milena_group::consumer::assignor::Assignor;
use milena_group::{
    ConsumerGroupConfig, ConsumerGroupSettings, Effect, Event, GroupConfig, GroupCoordinator,
    GroupResponse, KeyValue, LogEnd, RequestContext, Token, Topics,
};
use milena_protocol::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, GroupCoordinatorKey,
    GroupCoordinatorValue, Str,
};

pub const GROUP: &str = "g";

/// Topics that exist: id and number of partitions.
#[derive(Default)]
pub struct Known(Mutex<BTreeMap<String, (Uuid, i32)>>);

impl Known {
    pub fn put(&self, name: &str, id: Uuid, partitions: i32) {
        let mut topics = self.0.lock().expect("no panic");
        topics.insert(name.to_string(), (id, partitions));
    }

    fn of(&self, name: &str) -> Option<(Uuid, i32)> {
        self.0.lock().expect("no panic").get(name).copied()
    }
}

impl Topics for Known {
    fn name(&self, id: Uuid) -> Option<Str> {
        let topics = self.0.lock().expect("no panic");
        let found = topics.iter().find(|(_, topic)| topic.0 == id);
        found.map(|(name, _)| Str::copy(name))
    }

    fn id(&self, name: &str) -> Option<Uuid> {
        Some(self.of(name)?.0)
    }

    fn has_partition(&self, name: &str, partition: i32) -> bool {
        let topic = self.of(name);
        topic.is_some_and(|(_, partitions)| (0..partitions).contains(&partition))
    }

    fn partitions(&self, name: &str) -> Option<i32> {
        Some(self.of(name)?.1)
    }

    fn racks(&self, name: &str) -> Option<Vec<Vec<Str>>> {
        let partitions = usize::try_from(self.of(name)?.1).ok()?;
        Some(vec![Vec::new(); partitions])
    }

    fn names(&self) -> Vec<Str> {
        let topics = self.0.lock().expect("no panic");
        topics.keys().map(|name| Str::copy(name)).collect()
    }

    fn version(&self) -> i64 {
        1
    }

    fn consumer_settings(&self, _: &str) -> Option<ConsumerGroupSettings> {
        None
    }
}

/// A member's new target, as its record tells it: `topic:partition,…`.
pub type Target = (String, Vec<String>);

pub struct Driver {
    coordinator: GroupCoordinator,
    pub topics: Arc<Known>,
    now_ms: u64,
    end: i64,
    /// Targets that were recorded, in their order, since somebody looked.
    pub recorded: Vec<Target>,
    /// Targets that have been computed.
    pub computed: usize,
}

impl Driver {
    pub fn new(first: Assignor, seed: u64) -> Driver {
        let second = match first {
            Assignor::Uniform => Assignor::Range,
            Assignor::Range => Assignor::Uniform,
        };
        let mut consumer = ConsumerGroupConfig {
            assignors: vec![first, second],
            ..Default::default()
        };
        consumer.defaults.assignment_interval_ms = 0;
        let config = GroupConfig {
            consumer,
            ..Default::default()
        };
        let topics = Arc::new(Known::default());
        let prng = Prng::new(seed);
        let mut driver = Driver {
            coordinator: GroupCoordinator::new(config, 1, topics.clone(), prng),
            topics,
            now_ms: 0,
            end: 0,
            recorded: Vec::new(),
            computed: 0,
        };
        let epoch = Epoch(1);
        driver.step(Event::Elected { shard: 0, epoch });
        let result = Ok(LogEnd {
            log_end: Offset::ZERO,
            high_watermark: Offset::ZERO,
        });
        driver.step(Event::Loaded {
            shard: 0,
            epoch,
            result,
        });
        driver
    }

    /// A topic is new, or has more partitions.
    pub fn topic_changed(&mut self, name: &str) {
        let (mut effects, now) = (Vec::new(), self.now());
        let names = vec![Str::copy(name)];
        self.coordinator
            .topics_changed(names, true, now, &mut effects);
        self.carry_out(effects);
    }

    /// One heartbeat and its answer.
    pub fn beat(
        &mut self,
        request: ConsumerGroupHeartbeatRequest,
    ) -> ConsumerGroupHeartbeatResponse {
        self.now_ms += 1;
        let context = RequestContext {
            api_version: 1,
            client_id: "c".into(),
            client_host: "/127.0.0.1".into(),
        };
        let mut effects = Vec::new();
        let (now, token) = (self.now(), Token(self.now_ms));
        self.coordinator
            .request(token, context, request.into(), now, &mut effects);
        match self.carry_out(effects) {
            Some(GroupResponse::ConsumerGroupHeartbeat(answer)) => answer,
            other => panic!("a heartbeat is answered at once: {other:?}"),
        }
    }

    fn now(&self) -> Now {
        Now::from_millis(self.now_ms, 1_000_000 + self.now_ms as i64)
    }

    fn step(&mut self, event: Event) -> Option<GroupResponse> {
        let mut effects = Vec::new();
        self.coordinator.step(event, self.now(), &mut effects);
        self.carry_out(effects)
    }

    /// The last answer.
    fn carry_out(&mut self, effects: Vec<Effect<GroupResponse>>) -> Option<GroupResponse> {
        let mut answer = None;
        for effect in effects {
            match effect {
                Effect::Reply { response, .. } => answer = Some(response),
                Effect::Load { .. } => {}
                Effect::AppendTransactional { .. } | Effect::AppendMarker { .. } => {
                    panic!("nobody has a transaction")
                }
                Effect::Append { shard, records, .. } => {
                    let base = self.end;
                    self.end += records.len() as i64;
                    records.iter().for_each(|record| self.learn(record));
                    let result = Ok(Offset(base));
                    answer = self.step(Event::Appended { shard, result }).or(answer);
                    let offset = Offset(self.end);
                    answer = self.step(Event::HighWatermark { shard, offset }).or(answer);
                }
            }
        }
        answer
    }

    fn learn(&mut self, record: &KeyValue) {
        let key = GroupCoordinatorKey::decode(&record.key).expect("a key of ours");
        let GroupCoordinatorKey::ConsumerGroupTargetAssignmentMember(member) = &key else {
            if let GroupCoordinatorKey::ConsumerGroupTargetAssignmentMetadata(_) = key {
                self.computed += 1;
            }
            return;
        };
        let member_id = member.member_id.to_string();
        let Some(value) = &record.value else {
            return;
        };
        let value = GroupCoordinatorValue::decode(key.type_id(), value).expect("a value of ours");
        let (GroupCoordinatorValue::ConsumerGroupTargetAssignmentMember(value), _) = value else {
            panic!("the value of another key");
        };
        let topics = value.topic_partitions.iter().map(|topic| {
            let name = self.topics.name(topic.topic_id).expect("topics stay");
            let partitions: Vec<String> = topic.partitions.iter().map(i32::to_string).collect();
            format!("{name}:{}", partitions.join(","))
        });
        let topics = topics.collect();
        self.recorded.push((member_id, topics));
    }
}
