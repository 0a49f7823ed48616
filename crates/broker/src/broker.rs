//! What all connections share: the view of the metadata, the partitions hosted here, and who waits.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI16, AtomicI32, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock};

use arc_swap::ArcSwap;
use milena_base::{BrokerId, ErrorCode, Prng, TopicIdPartition, Uuid};
use milena_config::{Layers, NodeConfig};
use milena_image::Image;
use milena_log::Fault;
use milena_net::Incoming;
use milena_protocol::{ApiKey, Str};
use milena_records::CheckOptions;
use milena_replica::Partition;

use crate::api::{self, ListenerKind};
use crate::ctx::{Ctx, Outbox, Reply};
use crate::dirs::Dirs;
use crate::groups::GroupsEvent;
use crate::loggers::Loggers;
use crate::parked::Waiter;
use crate::producer_ids::ProducerIds;
use crate::sessions::{FetchKey, FetchSessions};
use crate::settings::Settings;
use crate::throttle::Throttle;
use crate::topics;
use crate::transactions::TxnEvent;
use crate::verification::Support;
use crate::waiters::Waiters;

/// A partition that this broker holds, and what its topic's configuration says about it.
pub struct Hosted {
    pub partition: Partition,
    topic: ArcSwap<TopicRules>,
    /// Index into the node's log directories.
    pub dir: usize,
}

/// The part of a topic's configuration that a request needs.
#[derive(Clone, Debug)]
pub struct TopicRules {
    pub check: CheckOptions,
    /// `cleanup.policy` contains `delete`.
    pub deletes: bool,
    /// This replica is in `leader.replication.throttled.replicas`.
    pub throttled_leader: bool,
    /// This replica is in `follower.replication.throttled.replicas`.
    pub throttled_follower: bool,
}

impl Hosted {
    pub fn new(partition: Partition, rules: TopicRules, dir: usize) -> Hosted {
        Hosted {
            partition,
            topic: ArcSwap::from_pointee(rules),
            dir,
        }
    }

    pub fn set_rules(&self, rules: TopicRules) {
        self.topic.store(Arc::new(rules));
    }

    pub fn rules(&self) -> Arc<TopicRules> {
        self.topic.load_full()
    }
}

/// See the module's words. Shared by all threads of the edge.
pub struct Broker {
    pub(crate) settings: Settings,
    pub(crate) dirs: Dirs,
    image: ArcSwap<Image>,
    pub(crate) layers: ArcSwap<Layers>,
    hosted: RwLock<BTreeMap<TopicIdPartition, Arc<Hosted>>>,
    pub(crate) waiters: Waiters<Waiter>,
    pub(crate) sessions: FetchSessions,
    pub(crate) leader_throttle: Throttle,
    pub(crate) follower_throttle: Throttle,
    pub(crate) producer_ids: Mutex<ProducerIds>,
    /// Topics whose creation was asked for and not yet seen.
    pub(crate) creating: Mutex<BTreeMap<Str, milena_base::Instant>>,
    broker_epoch: AtomicI64,
    active_controller: AtomicI32,
    kraft_version: AtomicI16,
    stopping: AtomicBool,
    /// Where the edge has a log filter that can be changed.
    pub(crate) loggers: OnceLock<Loggers>,
}

impl Broker {
    pub fn new(settings: Settings, config: NodeConfig, dirs: Dirs, mut prng: Prng) -> Broker {
        Broker {
            sessions: FetchSessions::new(settings.fetch_sessions_max, prng.fork()),
            leader_throttle: Throttle::new(settings.replication_windows),
            follower_throttle: Throttle::new(settings.replication_windows),
            settings,
            dirs,
            image: ArcSwap::default(),
            layers: ArcSwap::from_pointee(Layers::new(config)),
            hosted: RwLock::default(),
            waiters: Waiters::default(),
            producer_ids: Mutex::default(),
            creating: Mutex::default(),
            broker_epoch: AtomicI64::new(-1),
            active_controller: AtomicI32::new(-1),
            kraft_version: AtomicI16::new(0),
            stopping: AtomicBool::new(false),
            loggers: OnceLock::new(),
        }
    }

    /// Lets clients see and set log levels. Called once, by the edge.
    pub fn log_by(&self, loggers: Loggers) {
        let known = self.loggers.set(loggers);
        known.expect("a broker gets its loggers once");
    }

    /// Executes one request.
    pub fn handle(&self, ctx: &Ctx, incoming: Incoming, out: &mut Outbox) -> Reply {
        if incoming.unsupported_version {
            return api::api_versions::unsupported(ctx);
        }
        api::dispatch(self, ctx, incoming, out)
    }

    /// Whether a listener serves an API at a version.
    pub fn serves(&self, listener: usize, api: ApiKey, version: i16) -> bool {
        api::serves(self.listener_kind(listener), api, version)
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub fn dirs(&self) -> &Dirs {
        &self.dirs
    }

    pub fn node(&self) -> BrokerId {
        self.settings.node
    }

    pub fn cluster_id(&self) -> &str {
        &self.settings.cluster_id
    }

    pub fn listener_kind(&self, listener: usize) -> ListenerKind {
        self.settings.listeners[listener].kind
    }

    pub fn listener_name(&self, listener: usize) -> &str {
        &self.settings.listeners[listener].name
    }

    /// The published metadata. The guard is for the length of one request.
    pub fn image(&self) -> Arc<Image> {
        self.image.load_full()
    }

    /// Publishes a new view. Called by the metadata mailbox alone.
    pub(crate) fn set_image(&self, image: Image) {
        self.image.store(Arc::new(image));
    }

    pub fn topic_id(&self, name: &str) -> Option<Uuid> {
        self.image.load().topics.id(name)
    }

    pub fn topic_name(&self, id: Uuid) -> Option<Str> {
        let image = self.image.load();
        image.topics.get(id).map(|topic| topic.name.clone())
    }

    pub fn is_internal_id(&self, id: Uuid) -> bool {
        self.topic_name(id)
            .is_some_and(|name| crate::topics::is_internal(&name))
    }

    /// The partition, if this broker holds it.
    pub fn hosted(&self, id: TopicIdPartition) -> Option<Arc<Hosted>> {
        let hosted = self.hosted.read().expect("no panic while held");
        hosted.get(&id).cloned()
    }

    /// All partitions held here.
    pub fn all_hosted(&self) -> Vec<(TopicIdPartition, Arc<Hosted>)> {
        let hosted = self.hosted.read().expect("no panic while held");
        hosted.iter().map(|(id, h)| (*id, h.clone())).collect()
    }

    pub(crate) fn host(&self, id: TopicIdPartition, partition: Arc<Hosted>) {
        let mut hosted = self.hosted.write().expect("no panic while held");
        hosted.insert(id, partition);
    }

    pub(crate) fn unhost(&self, id: TopicIdPartition) -> Option<Arc<Hosted>> {
        self.hosted
            .write()
            .expect("no panic while held")
            .remove(&id)
    }

    /// What a client is told of a partition that is not held here.
    pub fn why_not_hosted(&self, id: TopicIdPartition) -> ErrorCode {
        let image = self.image.load();
        match image.topics.partition(id.topic_id, id.partition) {
            Some(_) => ErrorCode::NotLeaderOrFollower,
            None => ErrorCode::UnknownTopicOrPartition,
        }
    }

    /// Finds the partition that a fetch names.
    pub(crate) fn resolve(&self, key: &FetchKey) -> Result<TopicIdPartition, ErrorCode> {
        let by_name = !key.topic.is_empty();
        let image = self.image.load();
        let found = match by_name {
            true => image.topics.named(&key.topic),
            false => image.topics.get(key.topic_id),
        };
        match found {
            Some(topic) => Ok(TopicIdPartition::new(topic.id, key.partition)),
            None if by_name => Err(ErrorCode::UnknownTopicOrPartition),
            None => Err(ErrorCode::UnknownTopicId),
        }
    }

    /// A broker that clients may send controller requests to: they are forwarded.
    pub fn any_alive_broker(&self, image: &Image) -> i32 {
        let me = self.node().0;
        let alive = |id: i32| image.cluster.broker(id).is_some_and(|b| !b.fenced);
        if alive(me) {
            return me;
        }
        let others = image.cluster.brokers.values();
        others
            .filter(|b| !b.fenced)
            .map(|b| b.id)
            .next()
            .unwrap_or(-1)
    }

    /// The metadata offset from which the finalised features are known.
    pub fn finalized_features_epoch(&self, image: &Image) -> i64 {
        image.provenance.offset.0
    }

    pub fn set_broker_epoch(&self, epoch: i64) {
        self.broker_epoch.store(epoch, Ordering::Release);
    }

    pub fn broker_epoch(&self) -> i64 {
        self.broker_epoch.load(Ordering::Acquire)
    }

    pub fn active_controller(&self) -> i32 {
        self.active_controller.load(Ordering::Acquire)
    }

    pub(crate) fn set_active_controller(&self, id: i32) {
        self.active_controller.store(id, Ordering::Release);
    }

    /// The version in which this broker fetches as a follower, as the finalised features allow.
    pub(crate) fn fetch_version_max(&self) -> i16 {
        let image = self.image.load();
        image.metadata_version().fetch_request_version()
    }

    /// Whoever waits for the high watermark of a partition goes on: clients, and the coordinator whose log it is.
    pub(crate) fn high_watermark_moved(
        &self,
        id: TopicIdPartition,
        hosted: &Hosted,
        out: &mut Outbox,
    ) {
        self.wake(id, out);
        let shard = id.partition;
        match hosted.partition.name.topic.as_str() {
            topics::CONSUMER_OFFSETS => out.post(GroupsEvent::HighWatermark { shard }),
            topics::TRANSACTION_STATE => out.post(TxnEvent::HighWatermark { shard }),
            _ => {}
        }
    }

    /// The finalised level of `kraft.version`, which stands in the quorum's control records.
    pub fn kraft_version(&self) -> i16 {
        self.kraft_version.load(Ordering::Acquire)
    }

    pub(crate) fn set_kraft_version(&self, level: i16) {
        self.kraft_version.store(level, Ordering::Release);
    }

    /// From here on nothing new is begun.
    pub fn begin_stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// The partition of `__consumer_offsets` that a group's offsets are in.
    pub fn offsets_partition(&self, group: &str) -> i32 {
        let image = self.image.load();
        let topic = image.topics.named(crate::topics::CONSUMER_OFFSETS);
        let count = topic.map_or(self.settings.offsets_topic_partitions, |topic| {
            topic.partitions.len() as i32
        });
        milena_coordinator::partition_for(group, count)
    }

    /// Whether the coordinator is asked before a client of this kind writes to a transaction.
    pub(crate) fn verifies(&self, support: Support) -> bool {
        let layers = self.layers.load();
        support == Support::AddsImplicitly
            || layers.current().transaction_partition_verification_enable()
    }

    /// A disk failed under a partition: its directory goes offline, unless it was only full.
    pub(crate) fn on_fault(&self, fault: Fault, out: &mut Outbox) {
        if fault.is_full() {
            self.dirs.note_full(&fault);
            return;
        }
        self.dirs.take_offline(self, &fault, out);
    }
}
