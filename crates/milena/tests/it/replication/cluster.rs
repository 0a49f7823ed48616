//! A cluster of three whose nodes come and go, and what its clients ask of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use milena_base::Uuid;
use milena_broker::format::InitialControllers;
use milena_protocol::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use milena_protocol::describe_quorum_request::{PartitionData, TopicData};
use milena_protocol::metadata_request::MetadataRequestTopic;
use milena_protocol::metadata_response::{MetadataResponseBroker, MetadataResponsePartition};
use milena_protocol::{
    CreateTopicsRequest, DescribeQuorumRequest, InitProducerIdRequest, InitProducerIdResponse,
    MetadataRequest, MetadataResponse, Request, Str,
};

use crate::cluster::{free_ports, home, static_voters, until};
use crate::node::{Home, Node};
use crate::wire::Wire;

use super::network::Network;

/// How long a client waits for a node that may stand still.
pub const CLIENT_PATIENCE: Duration = Duration::from_secs(1);

/// Partitions in their order, and the addresses of nodes.
pub type View = (Vec<MetadataResponsePartition>, BTreeMap<i32, String>);

/// Three nodes, each broker and controller; clients find it by whoever runs.
pub struct Cluster {
    pub homes: Vec<Home>,
    nodes: Vec<Option<Node>>,
    pub network: Network,
    addresses: Arc<Mutex<Vec<Option<String>>>>,
    _turn: MutexGuard<'static, ()>,
}

/// Six nodes at a time are enough for a small machine; for the most part they wait.
static TURNS: [Mutex<()>; 2] = [Mutex::new(()), Mutex::new(())];
static NEXT_TURN: AtomicUsize = AtomicUsize::new(0);

impl Cluster {
    pub fn start() -> Cluster {
        Cluster::start_in(Network::Loopback)
    }

    /// With these keys beside those that every such cluster has.
    pub fn start_with(more: &[(&str, &str)]) -> Cluster {
        Cluster::start_each(Network::Loopback, |home| {
            let set = |home: Home, (key, value): &(&str, &str)| home.with(key, value);
            more.iter().fold(home, set)
        })
    }

    pub fn start_in(network: Network) -> Cluster {
        Cluster::start_each(network, |home| home)
    }

    /// With more of its own for each node.
    pub fn start_each(network: Network, more: impl Fn(Home) -> Home) -> Cluster {
        let turn = NEXT_TURN.fetch_add(1, Ordering::Relaxed) % TURNS.len();
        let turn = TURNS[turn].lock().unwrap_or_else(PoisonError::into_inner);
        let ports = free_ports(3);
        let voters = match &network {
            Network::Loopback => static_voters(&ports),
            Network::Spaces(spaces) => spaces.voters(),
        };
        let homes = (1..=3).map(|id| {
            let home = home(id, "broker,controller", &ports)
                .with("controller.quorum.voters", &voters)
                .with("offsets.topic.replication.factor", "3")
                .with("broker.session.timeout.ms", "3000")
                .with("broker.heartbeat.interval.ms", "500")
                .with("replica.lag.time.max.ms", "5000");
            let home = match &network {
                Network::Loopback => home,
                Network::Spaces(spaces) => spaces.place(home, id),
            };
            let home = more(home);
            format(&home);
            home
        });
        let homes: Vec<Home> = homes.collect();
        let starting: Vec<_> = homes.iter().map(Home::spawn).collect();
        let nodes: Vec<Node> = starting.into_iter().map(|s| s.wait_ready()).collect();
        let addresses = nodes.iter().map(|node| Some(node.address.clone()));
        let addresses = Arc::new(Mutex::new(addresses.collect()));
        Cluster {
            homes,
            nodes: nodes.into_iter().map(Some).collect(),
            network,
            addresses,
            _turn: turn,
        }
    }

    pub fn node(&self, id: i32) -> &Node {
        self.nodes[id as usize - 1].as_ref().expect("it runs")
    }

    pub fn kill(&mut self, id: i32) {
        self.take(id).kill();
    }

    /// A node that clients do not look for any more.
    pub fn take(&mut self, id: i32) -> Node {
        let at = id as usize - 1;
        self.addresses.lock().unwrap()[at] = None;
        self.nodes[at].take().expect("it runs")
    }

    /// SIGTERM, and the end of the process.
    pub fn stop(&mut self, id: i32) {
        let at = id as usize - 1;
        self.addresses.lock().unwrap()[at] = None;
        self.nodes[at].take().expect("it runs").stop();
    }

    pub fn restart(&mut self, id: i32) {
        let at = id as usize - 1;
        let node = self.homes[at].start();
        self.addresses.lock().unwrap()[at] = Some(node.address.clone());
        self.nodes[at] = Some(node);
    }

    /// The node's directory is a new one, with an id of its own.
    pub fn lose_disk(&self, id: i32) {
        let home = &self.homes[id as usize - 1];
        std::fs::remove_dir_all(home.data()).expect("it is removed");
        std::fs::create_dir(home.data()).expect("it is made");
        format(home);
    }

    pub fn client(&self) -> Client {
        Client(self.addresses.clone())
    }

    /// Ends everybody without a word. What was written is in the files: the machine runs on.
    pub fn kill_all(&mut self) {
        self.nodes
            .iter_mut()
            .filter_map(Option::take)
            .for_each(Node::kill);
    }

    /// The bytes of one partition's log at a node.
    pub fn log(&self, id: i32, topic: &str, partition: i32) -> Vec<u8> {
        let home = &self.homes[id as usize - 1];
        let dir = home.data().join(format!("{topic}-{partition}"));
        let files = std::fs::read_dir(&dir).expect("it is there");
        let mut files: Vec<PathBuf> = files.map(|f| f.unwrap().path()).collect();
        files.retain(|f| f.extension().is_some_and(|e| e == "log"));
        files.sort();
        let bytes = files.iter().map(|f| std::fs::read(f).expect("it is there"));
        bytes.flatten().collect()
    }
}

fn format(home: &Home) {
    home.format_with(&Uuid([7; 16]).to_string(), InitialControllers::Unspecified);
}

/// Knows addresses, and asks whoever answers.
#[derive(Clone)]
pub struct Client(Arc<Mutex<Vec<Option<String>>>>);

impl Client {
    /// Of nodes at these addresses, as far as they run.
    pub fn of(addresses: Arc<Mutex<Vec<Option<String>>>>) -> Client {
        Client(addresses)
    }

    pub fn any(&self) -> Option<Wire> {
        let known: Vec<String> = self.0.lock().unwrap().iter().flatten().cloned().collect();
        known.iter().find_map(|address| Wire::try_connect(address))
    }

    fn answers<R: Request>(&self, request: &R, version: i16) -> impl Iterator<Item = R::Response> {
        let known: Vec<String> = self.0.lock().unwrap().iter().flatten().cloned().collect();
        known.into_iter().filter_map(move |address| {
            let wire = Wire::try_connect(&address)?;
            wire.within(CLIENT_PATIENCE).try_call(request, version)
        })
    }

    /// The first answer that comes in time.
    pub fn ask<R: Request>(&self, request: &R, version: i16) -> Option<R::Response> {
        self.answers(request, version).next()
    }

    /// The topic as each node sees it that answers; `None` where one does not know it.
    fn views(&self, name: &str) -> Vec<Option<View>> {
        let request = MetadataRequest {
            topics: Some(vec![MetadataRequestTopic {
                name: Some(Str::copy(name)),
                ..MetadataRequestTopic::default()
            }]),
            ..MetadataRequest::default()
        };
        let view = |mut answer: MetadataResponse| {
            let at = |b: &MetadataResponseBroker| (b.node_id, format!("{}:{}", b.host, b.port));
            let nodes = answer.brokers.iter().map(at).collect();
            let topic = answer.topics.pop().filter(|t| t.error_code == 0)?;
            let mut partitions = topic.partitions;
            partitions.sort_by_key(|p| p.partition_index);
            Some((partitions, nodes))
        };
        self.answers(&request, 12).map(view).collect()
    }

    /// The topic's partitions, and where the nodes are, by whoever knows of the latest leaders: a node that was cut off
    /// knows of earlier ones.
    pub fn topic(&self, name: &str) -> Option<View> {
        let latest = |(partitions, _): &View| -> i64 {
            let epochs = partitions.iter().map(|p| i64::from(p.leader_epoch));
            epochs.sum()
        };
        self.views(name).into_iter().flatten().max_by_key(latest)
    }

    pub fn leader(&self, topic: &str, partition: i32) -> Option<(i32, String)> {
        let (partitions, nodes) = self.topic(topic)?;
        let partition = partitions.get(partition as usize)?;
        let leader = partition.leader_id;
        nodes.get(&leader).map(|at| (leader, at.clone()))
    }

    /// Every replica of every partition is in sync, as all see it.
    pub fn all_in_sync(&self, topic: &str) -> Option<()> {
        let whole = |p: &MetadataResponsePartition| {
            p.isr_nodes.len() == p.replica_nodes.len() && p.leader_id >= 0
        };
        let views = self.views(topic);
        let seen = |view: &Option<View>| {
            let partitions = view.as_ref().map(|(partitions, _)| partitions);
            partitions.is_some_and(|all| !all.is_empty() && all.iter().all(whole))
        };
        (!views.is_empty() && views.iter().all(seen)).then_some(())
    }

    /// Makes a topic with the replicas given for each of its partitions, and waits until they are in sync.
    pub fn create_topic(&self, name: &str, replicas: &[&[i32]], min_insync: i32) {
        let assignment = |(at, on): (usize, &&[i32])| CreatableReplicaAssignment {
            partition_index: at as i32,
            broker_ids: on.to_vec(),
        };
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: Str::copy(name),
                num_partitions: -1,
                replication_factor: -1,
                assignments: replicas.iter().enumerate().map(assignment).collect(),
                configs: vec![CreatableTopicConfig {
                    name: "min.insync.replicas".into(),
                    value: Some(min_insync.to_string().into()),
                }],
            }],
            timeout_ms: 20_000,
            ..CreateTopicsRequest::default()
        };
        let answer = self.ask(&request, 7).expect("somebody answers");
        let topic = &answer.topics[0];
        assert_eq!(topic.error_code, 0, "{:?}", topic.error_message);
        until("all replicas in sync", || self.all_in_sync(name));
    }

    /// The node whose controller is active.
    pub fn active_controller(&self) -> Option<i32> {
        let request = DescribeQuorumRequest {
            topics: vec![TopicData {
                topic_name: "__cluster_metadata".into(),
                partitions: vec![PartitionData::default()],
            }],
        };
        let answers = self.answers(&request, 2);
        let told = answers.filter_map(|mut answer| answer.topics.pop()?.partitions.pop());
        let led = told.filter(|p| p.error_code == 0 && p.leader_id > 0);
        let latest = led.max_by_key(|p| p.leader_epoch);
        latest.map(|partition| partition.leader_id)
    }

    pub fn producer_id(&self) -> InitProducerIdResponse {
        let request = InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: 60_000,
            ..InitProducerIdRequest::default()
        };
        until("a producer id", || {
            self.ask(&request, 4)
                .filter(|answer| answer.error_code == 0)
        })
    }
}
