//! What a node is made of: its directories locked and checked, its quorum opened, its mailboxes ready to run.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use milena_base::{BrokerId, Now, Prng, Uuid};
use milena_config::{NodeConfig, Voter as ConfiguredVoter};
use milena_controller::{Controller, Options};
use milena_disk::Disk;
use milena_group::consumer::assignor::Assignor;
use milena_group::{ConsumerGroupConfig, GroupConfig, MigrationPolicy};
use milena_image::VersionedRecord;
use milena_log::LogDir;
use milena_log::meta_properties::MetaProperties;
use milena_protocol::MetadataRecord;
use milena_protocol::broker_registration_request::{Feature, Listener};
use milena_raft::{
    Endpoint, KRAFT_VERSIONS, Raft, RaftConfig, ReplicaKey, Retention, SnapshotPolicy, Voter,
    VoterSet,
};
use milena_records::{Codec, Compression};
use milena_txn::TxnConfig;

use crate::api::ListenerKind;
use crate::broker::Broker;
use crate::cleaner::Cleaner;
use crate::controller_registration::ControllerLife;
use crate::ctx::Outbox;
use crate::dirs::Dirs;
use crate::followers::Followers;
use crate::groups::Groups;
use crate::housekeeping::Housekeeper;
use crate::insync::InSync;
use crate::lifecycle::{Lifecycle, Registration};
use crate::metadata_log::{self, MetadataLog, MetadataLogOptions};
use crate::publisher::Publisher;
use crate::quorum::{Quorum, QuorumParts};
use crate::settings::{ListenerSettings, Settings};
use crate::throttle::Windows;
use crate::to_controller::ToController;
use crate::transactions::{Transactions, TransactionsOptions};

/// When a marker is sent again that a partition did not take.
const MARKER_RETRY: Duration = Duration::from_millis(100);

/// Values of `replica.selector.class`; without one all read at the leader.
const RACK_SELECTOR: &str = "org.apache.kafka.common.replica.RackAwareReplicaSelector";
const LEADER_SELECTOR: &str = "org.apache.kafka.common.replica.LeaderSelector";

/// Why a node does not start: one sentence that names the key or the file.
#[derive(Debug)]
pub struct StartError(pub String);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

fn refuse<T>(why: impl Into<String>) -> Result<T, StartError> {
    Err(StartError(why.into()))
}

/// A node, ready to run: each mailbox wants a thread.
pub struct Parts {
    pub broker: Arc<Broker>,
    pub quorum: Quorum,
    pub publisher: Publisher,
    pub groups: Groups,
    pub transactions: Transactions,
    pub lifecycle: Lifecycle,
    pub to_controller: ToController,
    pub housekeeper: Housekeeper,
    pub cleaner: Cleaner,
    pub followers: Followers,
    pub insync: InSync,
}

/// What the edge knows of the machine.
#[derive(Clone, Debug)]
pub struct Bound {
    /// The ports that were bound, in the order of `listeners`: port 0 has become the real one.
    pub ports: Vec<u16>,
    /// The machine's name, for listeners that name no host.
    pub host: String,
}

/// Opens everything that a node needs. Effects of the start (an election, first records) are in `out`.
pub fn start(
    config: NodeConfig,
    bound: &Bound,
    disk: Arc<dyn Disk>,
    seed: u64,
    now: Now,
    out: &mut Outbox,
) -> Result<Parts, StartError> {
    check_selector(&config)?;
    let mut prng = Prng::new(seed);
    let owned = own_dirs(&config, &disk, &mut prng, now)?;
    let previous_broker_epoch = owned.clean_epoch;
    let settings = settings(&config, bound, &owned.cluster_id);
    let metadata_dir = settings.metadata_dir.clone();
    let registration = registration(&config, &settings, &owned, &mut prng, previous_broker_epoch);
    let bootstrap = bootstrap_records(&*disk, config.metadata_log_dir())?;
    let controller = controller(&config, &owned.cluster_id, bootstrap, &mut prng);
    let raft = raft_config(&config, &settings, &owned);
    let dirs = Dirs::new(disk.clone(), owned.dirs);
    let snapshots = SnapshotPolicy::new(
        config
            .long("metadata.log.max.record.bytes.between.snapshots")
            .max(1) as u64,
        positive_ms(config.long("metadata.log.max.snapshot.interval.ms")),
        now.mono,
    );
    let log_options = metadata_log_options(&config);
    let broker = Arc::new(Broker::new(settings, config.clone(), dirs, prng.fork()));
    let (log, opened) =
        MetadataLog::open(disk.clone(), config.metadata_log_dir(), log_options, now)
            .map_err(|fault| StartError(format!("the metadata log can't be opened: {fault}")))?;
    if opened.recovered_bytes > 0 {
        tracing::info!(
            bytes = opened.recovered_bytes,
            cut = opened.truncated_bytes,
            "recovered the metadata log"
        );
    }
    let stored = metadata_log::read_quorum_state(&*disk, &metadata_dir)
        .map_err(|fault| StartError(fault.to_string()))?;
    let mut opening = Vec::new();
    let raft = Raft::open(raft, Box::new(log), stored, prng.fork(), now, &mut opening)
        .map_err(|fault| StartError(format!("the quorum can't be opened: {fault}")))?;
    let parts = QuorumParts {
        raft,
        opening,
        controller,
        is_controller: config.is_controller(),
        dir: metadata_dir,
        snapshots,
        retention: metadata_retention(&config),
    };
    let quorum = Quorum::start(broker.clone(), parts, now, out);
    Ok(Parts {
        quorum,
        publisher: Publisher::new(broker.clone(), prng.fork()),
        groups: groups(&config, &broker, &mut prng),
        transactions: transactions(&config, &broker, &mut prng),
        lifecycle: lifecycle(&config, &broker, registration, &mut prng, now),
        to_controller: ToController::new(broker.clone()),
        housekeeper: Housekeeper::new(broker.clone(), now),
        cleaner: Cleaner::new(broker.clone(), prng.fork(), now),
        followers: Followers::new(broker.clone()),
        insync: InSync::new(broker.clone(), now),
        broker,
    })
}

fn metadata_retention(config: &NodeConfig) -> Retention {
    Retention {
        bytes_max: config.long("metadata.max.retention.bytes"),
        age_ms_max: config.long("metadata.max.retention.ms"),
    }
}

/// A class of somebody's own can't be run here.
fn check_selector(config: &NodeConfig) -> Result<(), StartError> {
    match config.text("replica.selector.class") {
        None | Some(RACK_SELECTOR | LEADER_SELECTOR) => Ok(()),
        Some(other) => refuse(format!(
            "replica.selector.class={other}: the selectors here are {RACK_SELECTOR} and {LEADER_SELECTOR}"
        )),
    }
}

struct Owned {
    dirs: Vec<(Uuid, LogDir)>,
    cluster_id: String,
    metadata_directory: Uuid,
    /// −1 after an unclean stop of any directory.
    clean_epoch: i64,
}

/// Locks every log directory, checks that they belong to this node and to one cluster, and loads them.
fn own_dirs(
    config: &NodeConfig,
    disk: &Arc<dyn Disk>,
    prng: &mut Prng,
    now: Now,
) -> Result<Owned, StartError> {
    let mut paths: Vec<PathBuf> = config.log_dirs().to_vec();
    let metadata = config.metadata_log_dir().to_path_buf();
    let extra = !paths.contains(&metadata);
    if extra {
        paths.push(metadata.clone());
    }
    let mut locked = Vec::new();
    for path in &paths {
        let dir = LogDir::lock(disk.clone(), path);
        let dir = dir.map_err(|fault| StartError(lock_refusal(path, &fault)))?;
        locked.push(dir);
    }
    let formatted = |dir: &LogDir| dir.meta().and_then(|m| m.cluster_id.clone());
    let Some(cluster_id) = locked.iter().find_map(formatted) else {
        return refuse(format!(
            "{} is not formatted: run kafka-storage.sh format -t CLUSTER_ID -c CONFIG first",
            paths[0].display()
        ));
    };
    let mut dirs = Vec::new();
    let mut clean_epoch = None;
    for (path, mut dir) in paths.iter().zip(locked) {
        let id = own_dir(
            config.node_id(),
            path,
            &mut dir,
            &cluster_id,
            prng,
            now,
            *path == metadata,
        )?;
        if path == &metadata && extra {
            dirs.push((id, dir, true));
            continue;
        }
        dir.load()
            .map_err(|fault| StartError(format!("a log directory can't be read: {fault}")))?;
        for warning in dir.warnings() {
            tracing::warn!("{warning}");
        }
        let epoch = dir.clean_broker_epoch().unwrap_or(-1);
        clean_epoch = Some(clean_epoch.map_or(epoch, |known: i64| known.min(epoch)));
        dirs.push((id, dir, false));
    }
    let at = paths.iter().position(|path| *path == metadata);
    let metadata_directory = dirs[at.expect("it is one of them")].0;
    Ok(Owned {
        // A directory that holds the metadata log alone stays locked, but holds no partitions.
        dirs: dirs.into_iter().map(|(id, dir, _)| (id, dir)).collect(),
        cluster_id,
        metadata_directory,
        clean_epoch: clean_epoch.unwrap_or(-1),
    })
}

fn lock_refusal(path: &Path, fault: &milena_log::Fault) -> String {
    if fault.source.kind() == std::io::ErrorKind::WouldBlock {
        return format!(
            "{} is in use by another process (its .lock is held)",
            path.display()
        );
    }
    format!("log directory {fault}")
}

/// The directory's id. An empty directory beside formatted ones is taken into use, as Kafka does.
fn own_dir(
    node: BrokerId,
    path: &Path,
    dir: &mut LogDir,
    cluster_id: &str,
    prng: &mut Prng,
    now: Now,
    is_metadata: bool,
) -> Result<Uuid, StartError> {
    let file = path.join("meta.properties");
    let file = file.display();
    let Some(meta) = dir.meta().cloned() else {
        if is_metadata {
            return refuse(format!(
                "{} is not formatted: run kafka-storage.sh format first",
                path.display()
            ));
        }
        let id = Uuid::random(prng);
        let meta = MetaProperties {
            version: 1,
            cluster_id: Some(cluster_id.to_owned()),
            node_id: Some(node),
            directory_id: Some(id),
        };
        dir.write_meta(meta, now.wall)
            .map_err(|fault| StartError(format!("{file} can't be written: {}", fault.source)))?;
        return Ok(id);
    };
    if meta.cluster_id.as_deref() != Some(cluster_id) {
        let other = meta.cluster_id.unwrap_or_default();
        return refuse(format!(
            "{file} belongs to cluster {other}, the other directories to {cluster_id}"
        ));
    }
    if meta.node_id != Some(node) {
        let other = meta
            .node_id
            .map_or("no node".to_owned(), |id| format!("node {id}"));
        return refuse(format!("{file} belongs to {other}, but node.id is {node}"));
    }
    match meta.directory_id {
        Some(id) => Ok(id),
        None => refuse(format!(
            "{file} has no directory.id: format it with kafka-storage.sh"
        )),
    }
}

fn settings(config: &NodeConfig, bound: &Bound, cluster_id: &str) -> Settings {
    let ms = |ms: i64| Duration::from_millis(ms.max(1) as u64);
    let checked_often = Duration::from_secs(5);
    Settings {
        node: config.node_id(),
        cluster_id: cluster_id.to_owned(),
        listeners: listeners(config, bound),
        inter_broker_listener: config.inter_broker_listener().to_owned(),
        quorum_request_timeout: ms(i64::from(config.quorum_request_timeout_ms())),
        broker_session_timeout: ms(i64::from(config.int("broker.session.timeout.ms"))),
        replica_fetch_backoff: ms(i64::from(config.replica_fetch_backoff_ms())),
        replica_socket_timeout: ms(i64::from(config.replica_socket_timeout_ms())),
        replica_fetch_bytes_max: config.replica_fetch_max_bytes(),
        replica_fetch_response_bytes_max: config.replica_fetch_response_max_bytes(),
        replica_fetch_min_bytes: config.replica_fetch_min_bytes(),
        replica_fetch_wait_max_ms: config.replica_fetch_wait_max_ms(),
        replica_lag_time_max: ms(config.replica_lag_time_max_ms()),
        replication_windows: Windows {
            count: config.int("replication.quota.window.num").max(1) as usize,
            each: ms(1000 * i64::from(config.int("replication.quota.window.size.seconds"))),
        },
        reads_by_rack: config.text("replica.selector.class") == Some(RACK_SELECTOR),
        fetch_bytes_max: config.fetch_max_bytes().max(0) as usize,
        fetch_sessions_max: config.max_incremental_fetch_session_cache_slots().max(0) as usize,
        partitions_per_page_max: config.max_request_partition_size_limit().max(1),
        auto_create_topics: config.auto_create_topics_enable(),
        offsets_topic_partitions: config.int("offsets.topic.num.partitions"),
        offsets_topic_replication: short(config, "offsets.topic.replication.factor"),
        offsets_topic_segment_bytes: config.int("offsets.topic.segment.bytes"),
        transaction_topic_partitions: config.int("transaction.state.log.num.partitions"),
        transaction_topic_replication: short(config, "transaction.state.log.replication.factor"),
        transaction_topic_segment_bytes: config.int("transaction.state.log.segment.bytes"),
        transaction_topic_min_isr: config.int("transaction.state.log.min.isr"),
        metadata_dir: metadata_log::metadata_partition_dir(config.metadata_log_dir()),
        retention_check_interval: ms(config.long("log.retention.check.interval.ms")),
        initial_task_delay: ms(config.log_initial_task_delay_ms()),
        high_watermark_checkpoint_interval: ms(
            config.long("replica.high.watermark.checkpoint.interval.ms")
        ),
        recovery_point_checkpoint_interval: ms(i64::from(
            config.log_flush_offset_checkpoint_interval_ms(),
        )),
        log_start_checkpoint_interval: ms(i64::from(
            config.log_flush_start_offset_checkpoint_interval_ms(),
        )),
        producer_expiry_interval: ms(i64::from(config.producer_id_expiration_check_interval_ms())),
        flush_check_interval: ms(config.long("log.flush.scheduler.interval.ms")).min(checked_often),
    }
}

fn short(config: &NodeConfig, key: &str) -> i16 {
    match config.value(key) {
        Some(milena_config::Value::Short(value)) => *value,
        _ => config.int(key) as i16,
    }
}

fn listeners(config: &NodeConfig, bound: &Bound) -> Vec<ListenerSettings> {
    let advertised = config.advertised_broker_listeners();
    let controllers = config.advertised_controller_listeners();
    let rows = config
        .listeners()
        .iter()
        .zip(&bound.ports)
        .map(|(listener, port)| {
            let endpoint = &listener.endpoint;
            let mut told = advertised.iter().chain(&controllers);
            let told = told
                .find(|e| e.listener == endpoint.listener)
                .unwrap_or(endpoint);
            ListenerSettings {
                name: endpoint.listener.clone(),
                kind: match listener.controller {
                    true => ListenerKind::Controller,
                    false => ListenerKind::Broker,
                },
                bind_host: endpoint.host.clone(),
                bind_port: *port,
                advertised_host: match told.host.is_empty() {
                    true => bound.host.clone(),
                    false => told.host.clone(),
                },
                advertised_port: if told.port == 0 { *port } else { told.port },
                security_protocol: endpoint.protocol.id(),
            }
        });
    rows.collect()
}

fn registration(
    config: &NodeConfig,
    settings: &Settings,
    owned: &Owned,
    prng: &mut Prng,
    previous_broker_epoch: i64,
) -> Registration {
    let brokers = settings
        .listeners
        .iter()
        .filter(|l| l.kind == ListenerKind::Broker);
    let mut log_dirs: Vec<Uuid> = owned.dirs.iter().map(|(id, _)| *id).collect();
    log_dirs.sort();
    Registration {
        broker_id: settings.node.0,
        cluster_id: settings.cluster_id.clone(),
        incarnation: Uuid::random(prng),
        listeners: brokers.map(listener).collect(),
        features: features(),
        rack: config.text("broker.rack").map(str::to_owned),
        log_dirs,
        previous_broker_epoch,
        heartbeat_interval: Duration::from_millis(config.broker_heartbeat_interval_ms() as u64),
        registration_timeout: Duration::from_millis(
            config.initial_broker_registration_timeout_ms().max(0) as u64,
        ),
    }
}

fn listener(l: &ListenerSettings) -> Listener {
    Listener {
        name: l.name.clone().into(),
        host: l.advertised_host.clone().into(),
        port: l.advertised_port,
        security_protocol: l.security_protocol,
    }
}

fn features() -> Vec<Feature> {
    let all = milena_image::supported_features().into_iter();
    all.map(|(name, range)| Feature {
        name: name.into(),
        min_supported_version: range.min,
        max_supported_version: range.max,
    })
    .collect()
}

fn lifecycle(
    config: &NodeConfig,
    broker: &Broker,
    registration: Registration,
    prng: &mut Prng,
    now: Now,
) -> Lifecycle {
    let controller = controller_life(config, broker, prng);
    Lifecycle::new(
        config.is_broker().then_some(registration),
        config.is_controller().then_some(controller),
        now,
    )
}

fn controller_life(config: &NodeConfig, broker: &Broker, prng: &mut Prng) -> ControllerLife {
    let controllers = broker.settings().listeners.iter();
    let mine = controllers.filter(|l| l.kind == ListenerKind::Controller);
    ControllerLife::new(
        config.node_id(),
        Uuid::random(prng),
        mine.map(listener).collect(),
        features(),
    )
}

fn positive_ms(ms: i64) -> Option<Duration> {
    (ms > 0).then(|| Duration::from_millis(ms as u64))
}

fn raft_config(config: &NodeConfig, settings: &Settings, owned: &Owned) -> RaftConfig {
    let ms = |ms: i32| Duration::from_millis(ms.max(0) as u64);
    let controllers = settings
        .listeners
        .iter()
        .filter(|l| l.kind == ListenerKind::Controller);
    let endpoints = controllers.map(|l| Endpoint {
        name: l.name.clone(),
        host: l.advertised_host.clone(),
        port: l.advertised_port,
    });
    let mut raft = RaftConfig::new(
        config.node_id(),
        owned.metadata_directory,
        &owned.cluster_id,
    );
    raft.endpoints = endpoints.collect();
    if let Some(first) = config.controller_listener_names().first() {
        raft.listener = first.clone();
    }
    raft.static_voters = static_voters(config.voters(), &raft.listener);
    raft.bootstrap = bootstrap(config);
    raft.auto_join = config.quorum_auto_join_enable();
    raft.election_timeout = ms(config.quorum_election_timeout_ms());
    raft.fetch_timeout = ms(config.quorum_fetch_timeout_ms());
    raft.election_backoff_max = ms(config.quorum_election_backoff_max_ms());
    raft.request_timeout = ms(config.quorum_request_timeout_ms());
    raft.retry_backoff = ms(config.quorum_retry_backoff_ms());
    raft.fetch_bytes_max = config.quorum_fetch_max_bytes();
    raft.snapshot_bytes_max = config.quorum_fetch_snapshot_max_bytes();
    raft
}

/// Whom to ask where no leader is known: the servers that are named for it, and the static voters.
fn bootstrap(config: &NodeConfig) -> Vec<(String, u16)> {
    let others = config.voters().iter();
    let others = others.filter(|voter| voter.id != config.node_id());
    let others = others.map(|v| (v.host.clone(), v.port));
    let mut servers = config.bootstrap_servers().to_vec();
    servers.extend(others);
    servers
}

fn static_voters(voters: &[ConfiguredVoter], listener: &str) -> VoterSet {
    VoterSet::new(voters.iter().map(|voter| Voter {
        key: ReplicaKey {
            id: voter.id,
            directory: voter.directory,
        },
        endpoints: vec![Endpoint {
            name: listener.to_owned(),
            host: voter.host.clone(),
            port: voter.port,
        }],
        kraft_versions: KRAFT_VERSIONS,
    }))
}

fn controller(
    config: &NodeConfig,
    cluster_id: &str,
    bootstrap: Vec<VersionedRecord>,
    prng: &mut Prng,
) -> Controller {
    Controller::new(Options {
        cluster_id: cluster_id.to_owned(),
        config: config.clone(),
        bootstrap,
        seed: prng.next_u64(),
    })
}

fn groups(config: &NodeConfig, broker: &Arc<Broker>, prng: &mut Prng) -> Groups {
    let group_config = GroupConfig {
        session_timeout_ms_min: config.int("group.min.session.timeout.ms"),
        session_timeout_ms_max: config.int("group.max.session.timeout.ms"),
        members_max: config.int("group.max.size"),
        initial_rebalance_delay_ms: config.int("group.initial.rebalance.delay.ms"),
        offset_metadata_max: config.int("offset.metadata.max.bytes").max(0) as usize,
        offsets_retention_ms: i64::from(config.int("offsets.retention.minutes")) * 60_000,
        offsets_retention_check_interval_ms: config
            .long("offsets.retention.check.interval.ms")
            .max(1) as u64,
        offsets_commit_timeout_ms: config.int("offsets.commit.timeout.ms").max(1) as u64,
        consumer: consumer_groups(config),
        ..GroupConfig::default()
    };
    let load_bytes = config.int("offsets.load.buffer.size").max(1) as u32;
    let codec = match config.offsets_topic_compression_codec() {
        1 => Compression::Gzip,
        2 => Compression::Snappy,
        3 => Compression::Lz4,
        4 => Compression::Zstd,
        _ => Compression::None,
    };
    let codec = Codec::of(codec);
    Groups::new(broker.clone(), group_config, load_bytes, codec, prng.fork())
}

fn consumer_groups(config: &NodeConfig) -> ConsumerGroupConfig {
    let assignors = config.list("group.consumer.assignors");
    ConsumerGroupConfig {
        members_max: config.int("group.consumer.max.size"),
        assignors: assignors
            .iter()
            .filter_map(|name| Assignor::named(name))
            .collect(),
        migration: config
            .text("group.consumer.migration.policy")
            .and_then(MigrationPolicy::named)
            .unwrap_or(MigrationPolicy::Bidirectional),
        regex_refresh_interval_ms: config.int("group.consumer.regex.refresh.interval.ms"),
        ..ConsumerGroupConfig::default()
    }
}

fn transactions(config: &NodeConfig, broker: &Arc<Broker>, prng: &mut Prng) -> Transactions {
    let ms = |key: &str| config.int(key).max(1) as u64;
    let txn = TxnConfig {
        timeout_ms_max: config.int("transaction.max.timeout.ms"),
        id_expiration_ms: i64::from(config.int("transactional.id.expiration.ms")),
        abort_interval_ms: ms("transaction.abort.timed.out.transaction.cleanup.interval.ms"),
        expire_interval_ms: ms("transaction.remove.expired.transaction.cleanup.interval.ms"),
        commit_timeout_ms: ms("request.timeout.ms"),
        ..TxnConfig::default()
    };
    let options = TransactionsOptions {
        load_bytes: config.int("transaction.state.log.load.buffer.size").max(1) as u32,
        ask_again_after: Duration::from_millis(ms("add.partitions.to.txn.retry.backoff.ms")),
        ask_again_until: Duration::from_millis(ms("add.partitions.to.txn.retry.backoff.max.ms")),
        send_again_after: MARKER_RETRY,
    };
    Transactions::new(broker.clone(), txn, options, prng.fork())
}

/// The records that an empty metadata log begins with.
fn bootstrap_records(disk: &dyn Disk, log_dir: &Path) -> Result<Vec<VersionedRecord>, StartError> {
    let unread = |why: String| StartError(format!("the bootstrap checkpoint can't be read: {why}"));
    let values = metadata_log::bootstrap_records(disk, log_dir);
    let values = values.map_err(|fault| unread(fault.to_string()))?;
    let records = values.iter().map(MetadataRecord::decode_with_version);
    let records: Result<Vec<_>, _> = records.collect();
    records.map_err(|error| unread(error.to_string()))
}

fn metadata_log_options(config: &NodeConfig) -> MetadataLogOptions {
    let below_the_bound = config.long_option("internal.metadata.log.segment.bytes");
    let segment_bytes = config.metadata_log_segment_bytes();
    MetadataLogOptions {
        segment_bytes: below_the_bound
            .unwrap_or(segment_bytes.into())
            .clamp(1, i32::MAX.into()) as u32,
        segment_ms: config.long("metadata.log.segment.ms"),
    }
}
