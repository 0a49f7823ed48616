//! A cluster: who is in it, connections to its nodes, calls with retries.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use milena_base::{ErrorCode, Prng, Uuid};
use milena_protocol::metadata_request::MetadataRequestTopic;
use milena_protocol::metadata_response::MetadataResponseTopic;
use milena_protocol::{
    DescribeClusterRequest, DescribeClusterResponse, FindCoordinatorRequest, MetadataRequest,
    MetadataResponse, Request, Str,
};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::{Address, ClientConfig, Connection, Error};

/// A node as the cluster advertises it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub id: i32,
    pub address: Address,
    pub rack: Option<Str>,
}

/// Who is to answer a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Whoever is connected, else whoever can be reached.
    Any,
    /// The node of this id, at its advertised address.
    Node(i32),
    /// The active controller, where controllers are spoken to; any broker otherwise (it forwards).
    Controller,
}

/// Kinds of coordinators in FindCoordinator.
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

/// A client of one cluster.
#[derive(Debug)]
pub struct Client {
    config: ClientConfig,
    random: Prng,
    nodes: BTreeMap<i32, Node>,
    /// −1 while unknown.
    controller: i32,
    /// Bootstrap addresses stand under ids below 0, as in Kafka.
    connections: BTreeMap<i32, Arc<Connection>>,
    topics: BTreeMap<Str, Topic>,
    notice: fn(&Error),
}

/// A topic as the last metadata answer had it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topic {
    pub id: Uuid,
    /// `NONE`, or why there are no partitions.
    pub error: i16,
    /// One of Kafka's own.
    pub internal: bool,
    pub partitions: BTreeMap<i32, Leader>,
}

/// Who leads a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leader {
    /// −1 while there is none.
    pub node: i32,
    /// −1 where the broker does not tell.
    pub epoch: i32,
}

impl Client {
    /// Nothing is connected yet. `random` spreads clients over brokers.
    pub fn new(config: ClientConfig, random: Prng) -> Client {
        Client {
            config,
            random,
            nodes: BTreeMap::new(),
            controller: -1,
            connections: BTreeMap::new(),
            topics: BTreeMap::new(),
            notice: |_| {},
        }
    }

    /// Calls `notice` with each failure that is going to be tried again.
    #[must_use]
    pub fn with_notice(mut self, notice: fn(&Error)) -> Client {
        self.notice = notice;
        self
    }

    /// Tells of a failure that is going to be tried again.
    pub(crate) fn tell(&self, error: &Error) {
        (self.notice)(error);
    }

    pub fn config(&self) -> &ClientConfig {
        &self.config
    }

    /// Randomness for whoever works with this client.
    pub fn random(&mut self) -> &mut Prng {
        &mut self.random
    }

    /// The brokers (or controllers) that were in the last answer about the cluster.
    pub fn nodes(&self) -> &BTreeMap<i32, Node> {
        &self.nodes
    }

    /// Every topic that metadata was asked for.
    pub(crate) fn topic_names(&self) -> impl Iterator<Item = &Str> {
        self.topics.keys()
    }

    /// What is known about a topic that metadata was asked for.
    pub fn topic(&self, name: &str) -> Option<&Topic> {
        self.topics.get(name)
    }

    /// An open connection to the target.
    pub async fn connection(&mut self, target: Target) -> Result<Arc<Connection>, Error> {
        self.connections
            .retain(|_, connection| connection.is_open());
        match target {
            Target::Any => self.any().await,
            Target::Node(id) => self.node(id).await,
            Target::Controller if !self.config.controllers => self.any().await,
            Target::Controller => {
                if self.controller < 0 || !self.nodes.contains_key(&self.controller) {
                    self.describe_cluster(false).await?;
                }
                self.node(self.controller).await
            }
        }
    }

    async fn any(&mut self) -> Result<Arc<Connection>, Error> {
        if let Some(connection) = self.connections.values().next_back() {
            return Ok(connection.clone());
        }
        let mut known: Vec<(i32, Address)> = Vec::new();
        known.extend(self.nodes.values().map(|n| (n.id, n.address.clone())));
        self.random.shuffle(&mut known);
        let mut first: Vec<(i32, Address)> = self
            .config
            .bootstrap
            .iter()
            .cloned()
            .enumerate()
            .map(|(i, address)| (-1 - i as i32, address))
            .collect();
        self.random.shuffle(&mut first);
        known.extend(first);
        let mut last = None;
        for (id, address) in known {
            let named = self.name_of(id);
            match self.open(id, &address, &named).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = Some(error),
            }
        }
        Err(last.expect("there is a bootstrap address"))
    }

    async fn node(&mut self, id: i32) -> Result<Arc<Connection>, Error> {
        if let Some(connection) = self.connections.get(&id) {
            return Ok(connection.clone());
        }
        let Some(node) = self.nodes.get(&id).cloned() else {
            return Err(Error::NotKnown(format!(
                "node {id} is not in the cluster's metadata now"
            )));
        };
        let named = self.name_of(id);
        self.open(id, &node.address, &named).await
    }

    fn name_of(&self, id: i32) -> String {
        match (id < 0, self.config.controllers) {
            (true, false) => "bootstrap server".to_string(),
            (true, true) => "bootstrap controller".to_string(),
            (false, false) => format!("broker {id}"),
            (false, true) => format!("controller {id}"),
        }
    }

    async fn open(
        &mut self,
        id: i32,
        address: &Address,
        named: &str,
    ) -> Result<Arc<Connection>, Error> {
        let config = &self.config;
        let client_id = config.client_id.clone();
        let (connecting, answering) = (config.connect_timeout, config.request_timeout);
        let open = Connection::open(address, (named, id >= 0), client_id, connecting, answering);
        let connection = Arc::new(open.await?);
        self.connections.insert(id, connection.clone());
        Ok(connection)
    }

    /// Forgets a connection whose peer does not answer.
    pub(crate) fn give_up_on(&mut self, error: &Error) {
        if let Error::NoAnswer { peer, .. } = error {
            self.connections.retain(|_, c| c.peer() != peer);
        }
    }

    /// One request, tried again by Kafka's rules. `call` is the name that a timeout tells.
    pub async fn call<R: Request>(
        &mut self,
        call: &'static str,
        target: Target,
        request: &R,
    ) -> Result<R::Response, Error> {
        self.retry(call, async |client: &mut Client| {
            client.connection(target).await?.call(request).await
        })
        .await
    }

    /// Tries until it succeeds, fails for good, or `default.api.timeout.ms` is over.
    pub async fn retry<T>(
        &mut self,
        call: &'static str,
        attempt: impl AsyncFnMut(&mut Client) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let within = self.config.api_timeout;
        self.retry_within(call, within, attempt).await
    }

    /// The same with a time limit of its own.
    pub async fn retry_within<T>(
        &mut self,
        call: &'static str,
        within: Duration,
        mut attempt: impl AsyncFnMut(&mut Client) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let deadline = Instant::now() + within;
        let mut last = None;
        for tries in 0.. {
            match timeout_at(deadline, attempt(self)).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(error)) if error.is_retriable() => {
                    self.give_up_on(&error);
                    // Whoever led may not lead any more, or be gone: asked anew.
                    self.controller = -1;
                    (self.notice)(&error);
                    last = Some(Box::new(error));
                }
                Ok(Err(error)) => return Err(error),
                Err(_) => break,
            }
            let pause = self.jittered(self.config.backoff(tries));
            if Instant::now() + pause >= deadline {
                break;
            }
            sleep_until(Instant::now() + pause).await;
        }
        Err(Error::TimedOut {
            call,
            after: within,
            last,
        })
    }

    /// A pause with Kafka's jitter of a fifth to both sides.
    pub(crate) fn jittered(&mut self, pause: Duration) -> Duration {
        let thousandths = 800 + self.random.below(401) as u32;
        pause * thousandths / 1000
    }

    /// Metadata of these topics (`None`: of all), and with it the brokers. One try.
    pub async fn metadata_once(
        &mut self,
        topics: Option<&[Str]>,
        auto_create: bool,
    ) -> Result<MetadataResponse, Error> {
        let topics = topics.map(|names| {
            let name = |name: &Str| MetadataRequestTopic {
                name: Some(name.clone()),
                ..Default::default()
            };
            names.iter().map(name).collect()
        });
        let request = MetadataRequest {
            topics,
            allow_auto_topic_creation: auto_create,
            ..Default::default()
        };
        let answer = self.connection(Target::Any).await?.call(&request).await?;
        let nodes = answer.brokers.iter();
        self.nodes = nodes
            .map(|b| (b.node_id, node(b.node_id, &b.host, b.port, &b.rack)))
            .collect();
        self.controller = answer.controller_id;
        if request.topics.is_none() {
            self.topics.clear();
        }
        for topic in &answer.topics {
            if let Some(name) = &topic.name {
                self.topics.insert(name.detached(), view(topic));
            }
        }
        Ok(answer)
    }

    /// The same with retries. Errors of single topics are in the answer.
    pub async fn metadata(
        &mut self,
        call: &'static str,
        topics: Option<&[Str]>,
    ) -> Result<MetadataResponse, Error> {
        self.retry(call, async |client: &mut Client| {
            client.metadata_once(topics, false).await
        })
        .await
    }

    /// The cluster by DescribeCluster, from brokers or controllers as configured. One try.
    pub async fn describe_cluster(
        &mut self,
        include_fenced: bool,
    ) -> Result<DescribeClusterResponse, Error> {
        let request = DescribeClusterRequest {
            endpoint_type: if self.config.controllers { 2 } else { 1 },
            include_fenced_brokers: include_fenced,
            ..Default::default()
        };
        let answer = self.any().await?.call(&request).await?;
        Error::check(answer.error_code, answer.error_message.as_deref())?;
        let nodes = answer.brokers.iter();
        self.nodes = nodes
            .map(|b| (b.broker_id, node(b.broker_id, &b.host, b.port, &b.rack)))
            .collect();
        self.controller = answer.controller_id;
        Ok(answer)
    }

    /// The broker that coordinates a group. One try; it is added to the known nodes.
    pub async fn coordinator_once(&mut self, group: &Str) -> Result<Node, Error> {
        self.find_coordinator(GROUP, group).await
    }

    /// The broker that coordinates the transactions of a transactional id. One try; it is added to the known nodes.
    pub async fn transaction_coordinator_once(&mut self, id: &Str) -> Result<Node, Error> {
        self.find_coordinator(TRANSACTION, id).await
    }

    async fn find_coordinator(&mut self, key_type: i8, key: &Str) -> Result<Node, Error> {
        let connection = self.connection(Target::Any).await?;
        let batched = connection.version(FindCoordinatorRequest::API_KEY) >= Some(4);
        let mut request = FindCoordinatorRequest {
            key_type,
            ..Default::default()
        };
        match batched {
            true => request.coordinator_keys = vec![key.clone()],
            false => request.key = key.clone(),
        }
        let answer = connection.call(&request).await?;
        let (id, host, port) = match answer.coordinators.first() {
            Some(found) => {
                Error::check(found.error_code, found.error_message.as_deref())?;
                (found.node_id, &found.host, found.port)
            }
            None if batched => {
                return Err(Error::refused(ErrorCode::CoordinatorNotAvailable, None));
            }
            None => {
                Error::check(answer.error_code, answer.error_message.as_deref())?;
                (answer.node_id, &answer.host, answer.port)
            }
        };
        let found = node(id, host, port, &None);
        self.nodes.insert(id, found.clone());
        Ok(found)
    }
}

fn view(topic: &MetadataResponseTopic) -> Topic {
    let partitions = topic.partitions.iter().map(|p| {
        let (node, epoch) = (p.leader_id, p.leader_epoch);
        (p.partition_index, Leader { node, epoch })
    });
    Topic {
        id: topic.topic_id,
        error: topic.error_code,
        internal: topic.is_internal,
        partitions: partitions.collect(),
    }
}

fn node(id: i32, host: &Str, port: i32, rack: &Option<Str>) -> Node {
    Node {
        id,
        address: Address::new(host.as_str(), port as u16),
        rack: rack.clone(),
    }
}
