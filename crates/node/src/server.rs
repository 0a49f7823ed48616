//! A node from its first bind to its last checkpoint.

use std::fmt;
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::Duration;

use milena_broker::start::{Bound, Parts, start};
use milena_broker::{
    Chore, CleanerEvent, FollowersEvent, GroupsEvent, InSyncEvent, LifecycleEvent, ListenerKind,
    Loggers, MetadataEvent, Outbox, PeerCall, Post, QuorumEvent, ToControllerEvent, TxnEvent,
};
use milena_config::NodeConfig;
use milena_disk::OsDisk;
use milena_net::Limits;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tracing::{info, warn};

use crate::clock::Clock;
use crate::edge::{Edge, Life, Senders};
use crate::listener::SocketOptions;
use crate::peers::{self, Calls};
use crate::{limits, listener, threads};

/// How long the controller may take to let a stopping broker go.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);
const THREAD_STACK_BYTES: usize = 1024 * 1024;
/// How many answers may wait for bytes from a disk at once; the others wait for these.
const COLD_READS_MAX: usize = 8;

/// Why a node did not start, or ended badly.
#[derive(Debug)]
pub struct ServerError(pub String);

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ServerError {}

/// Where a node serves, told when it does.
#[derive(Clone, Debug)]
pub struct Ready {
    /// Host and port of each listener, in the order of `listeners`.
    pub addresses: Vec<(String, u16)>,
    /// Since the node's start.
    pub after: Duration,
}

/// Runs a node until it is told to stop: by SIGTERM or SIGINT, or by `stop` being dropped or sent to. `ready` is
/// called once, when clients are served. `loggers` are the process's log levels.
pub fn run(
    config: NodeConfig,
    ready: impl FnOnce(&Ready) + Send + 'static,
    stop: Option<tokio::sync::oneshot::Receiver<()>>,
    loggers: Loggers,
) -> Result<(), ServerError> {
    let clock = Clock::start();
    limits::raise_open_files();
    let listeners = bind(&config)?;
    let bound = Bound {
        ports: listeners.iter().map(port).collect(),
        host: limits::host_name(),
    };
    let seed = limits::seed().map_err(|error| ServerError(format!("no randomness: {error}")))?;
    let mut out = Outbox::default();
    let disk = Arc::new(OsDisk);
    let parts = start(config.clone(), &bound, disk, seed, clock.now(), &mut out)
        .map_err(|error| ServerError(error.0))?;
    parts.broker.log_by(loggers);
    let node = Node::new(&config, clock, parts, &mut out);
    node.serve(listeners, ready, stop)
}

fn port(listener: &StdListener) -> u16 {
    listener.local_addr().map_or(0, |address| address.port())
}

fn bind(config: &NodeConfig) -> Result<Vec<StdListener>, ServerError> {
    let options = SocketOptions::of(config);
    let bind = |l: &milena_config::Listener| {
        let endpoint = &l.endpoint;
        listener::bind(&endpoint.host, endpoint.port, options).map_err(|error| {
            let (host, port) = (&endpoint.host, endpoint.port);
            ServerError(format!(
                "listener {} can't listen on {host}:{port}: {error}",
                endpoint.listener
            ))
        })
    };
    config.listeners().iter().map(bind).collect()
}

struct Node {
    edge: Arc<Edge>,
    life: UnboundedReceiver<Life>,
    threads: Vec<JoinHandle<()>>,
    waiters: JoinHandle<()>,
    quorum: JoinHandle<()>,
    /// The calls to other nodes, until their thread is started.
    calls: Option<UnboundedReceiver<Option<PeerCall>>>,
    again: Calls,
    socket_options: SocketOptions,
    /// `controlled.shutdown.enable`.
    asks_to_leave: bool,
}

fn limits(config: &NodeConfig) -> Limits {
    Limits {
        frame_bytes_max: config.socket_request_max_bytes().max(0) as usize,
        ..Limits::default()
    }
}

impl Node {
    /// Starts the mailboxes' threads.
    fn new(config: &NodeConfig, clock: Clock, parts: Parts, out: &mut Outbox) -> Node {
        let (quorum, quorum_events) = channel();
        let (metadata, metadata_events) = channel();
        let (groups, groups_events) = channel();
        let (transactions, txn_events) = channel();
        let (lifecycle, lifecycle_events) = channel();
        let (to_controller, to_controller_events) = channel();
        let (chores, chore_events) = channel();
        let (cleaner, cleaner_events) = channel();
        let (followers, follower_events) = channel();
        let (insync, insync_events) = channel();
        let (waiters, waiters_woken) = channel();
        let (life, life_told) = unbounded_channel();
        let (calls, calls_made) = unbounded_channel();
        let again = calls.clone();
        let senders = Senders {
            quorum,
            metadata,
            groups,
            transactions,
            lifecycle,
            to_controller,
            chores,
            cleaner,
            followers,
            insync,
            calls,
            waiters,
            life,
        };
        let broker = parts.broker.clone();
        let edge = Arc::new(Edge::new(broker, clock, limits(config), senders));
        edge.deliver(out);
        let threads = vec![
            threads::mailbox("metadata", edge.clone(), metadata_events, parts.publisher),
            threads::mailbox("groups", edge.clone(), groups_events, parts.groups),
            threads::mailbox("transactions", edge.clone(), txn_events, parts.transactions),
            threads::mailbox("lifecycle", edge.clone(), lifecycle_events, parts.lifecycle),
            threads::mailbox(
                "to-controller",
                edge.clone(),
                to_controller_events,
                parts.to_controller,
            ),
            threads::mailbox(
                "housekeeping",
                edge.clone(),
                chore_events,
                parts.housekeeper,
            ),
            threads::mailbox("cleaner", edge.clone(), cleaner_events, parts.cleaner),
            threads::mailbox("followers", edge.clone(), follower_events, parts.followers),
            threads::mailbox("insync", edge.clone(), insync_events, parts.insync),
        ];
        let quorum = threads::mailbox("quorum", edge.clone(), quorum_events, parts.quorum);
        let waiters = threads::waiters(edge.clone(), waiters_woken);
        Node {
            edge,
            life: life_told,
            threads,
            waiters,
            quorum,
            calls: Some(calls_made),
            again,
            socket_options: SocketOptions::of(config),
            asks_to_leave: config.controlled_shutdown_enable(),
        }
    }

    fn serve(
        mut self,
        listeners: Vec<StdListener>,
        ready: impl FnOnce(&Ready) + Send + 'static,
        stop: Option<tokio::sync::oneshot::Receiver<()>>,
    ) -> Result<(), ServerError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(COLD_READS_MAX)
            .thread_name("network")
            .thread_stack_size(THREAD_STACK_BYTES)
            .enable_all()
            .build()
            .map_err(|error| ServerError(format!("threads can't be started: {error}")))?;
        let peers = self.start_peers(&runtime, listeners)?;
        let halted = runtime.block_on(self.until_left(ready, stop))?;
        self.edge.broker.begin_stop();
        self.edge.close_all();
        runtime.shutdown_timeout(Duration::from_secs(1));
        if halted {
            self.edge.stop_peers();
            // What is on the disk is all that may be trusted: nothing more is written.
            return Err(ServerError(
                "the node stopped because it could not go on".into(),
            ));
        }
        self.close(peers);
        Ok(())
    }

    /// Accepts clients on the network's threads, once this broker is unfenced: as in Kafka, none hears of a cluster
    /// without it, and those that come early wait in the listener's queue. Other nodes are asked and controllers' listeners served by a thread
    /// that waits for no disk.
    fn start_peers(
        &mut self,
        network: &Runtime,
        listeners: Vec<StdListener>,
    ) -> Result<JoinHandle<()>, ServerError> {
        let mut controllers = Vec::new();
        for (index, listener) in listeners.into_iter().enumerate() {
            let accept = listener::accept(listener, index, self.socket_options, self.edge.clone());
            match self.edge.broker.listener_kind(index) {
                ListenerKind::Broker => drop(network.spawn(accept)),
                ListenerKind::Controller => controllers.push(accept),
            }
        }
        let calls = self.calls.take().expect("a node serves once");
        peers::start(self.edge.clone(), calls, self.again.clone(), controllers)
            .map_err(|error| ServerError(format!("threads can't be started: {error}")))
    }

    /// Serves until the broker has left the cluster; true where it had to halt.
    async fn until_left(
        &mut self,
        ready: impl FnOnce(&Ready) + Send + 'static,
        stop: Option<tokio::sync::oneshot::Receiver<()>>,
    ) -> Result<bool, ServerError> {
        let mut told = stop_told(stop)?;
        let mut ready = Some(ready);
        loop {
            tokio::select! {
                why = &mut told => {
                    info!("stopping: {why}");
                    return Ok(self.leave().await);
                }
                life = self.life.recv() => match life {
                    Some(Life::Ready) => {
                        if let Some(ready) = ready.take() {
                            ready(&self.ready());
                        }
                    }
                    Some(Life::Left) => return Ok(false),
                    Some(Life::Halt) | None => return Ok(true),
                }
            }
        }
    }

    fn ready(&self) -> Ready {
        let listeners = &self.edge.broker.settings().listeners;
        let addresses = listeners.iter();
        Ready {
            addresses: addresses
                .map(|l| (l.advertised_host.clone(), l.advertised_port))
                .collect(),
            after: Duration::from_nanos(self.edge.clock.now().mono.0),
        }
    }

    /// Asks the controller to let this broker go; true where the node had to halt meanwhile.
    async fn leave(&mut self) -> bool {
        if !self.asks_to_leave {
            return false;
        }
        self.edge.post(LifecycleEvent::Stop.into());
        let left = tokio::time::timeout(LEAVE_TIMEOUT, async {
            loop {
                match self.life.recv().await {
                    Some(Life::Left) => return false,
                    Some(Life::Halt) | None => return true,
                    Some(Life::Ready) => {}
                }
            }
        });
        left.await.unwrap_or_else(|_| {
            warn!("the controller did not let go in time: the node stops without leave");
            false
        })
    }

    /// Stops the mailboxes in order, then leaves the directories as a clean stop leaves them.
    fn close(self, peers: JoinHandle<()>) {
        for post in [
            Post::from(TxnEvent::Stop),
            GroupsEvent::Stop.into(),
            MetadataEvent::Stop.into(),
            LifecycleEvent::Ended.into(),
            ToControllerEvent::Stop.into(),
            Chore::Stop.into(),
            CleanerEvent::Stop.into(),
            FollowersEvent::Stop.into(),
            InSyncEvent::Stop.into(),
        ] {
            self.edge.post(post);
        }
        for thread in self.threads {
            drop(thread.join());
        }
        self.edge
            .broker
            .dirs()
            .close(&self.edge.broker, self.edge.clock.now());
        self.edge.post(QuorumEvent::Stop.into());
        drop(self.quorum.join());
        self.edge.stop_peers();
        drop(peers.join());
        self.edge.stop_waiters();
        drop(self.waiters.join());
        info!("stopped");
    }
}

type Told = std::pin::Pin<Box<dyn Future<Output = &'static str> + Send>>;

/// Completes when the node is to stop.
fn stop_told(stop: Option<tokio::sync::oneshot::Receiver<()>>) -> Result<Told, ServerError> {
    if let Some(stop) = stop {
        return Ok(Box::pin(async move {
            let _ = stop.await;
            "told so"
        }));
    }
    let unheard = |error| ServerError(format!("signals can't be heard: {error}"));
    let mut term = signal(SignalKind::terminate()).map_err(unheard)?;
    let mut int = signal(SignalKind::interrupt()).map_err(unheard)?;
    Ok(Box::pin(async move {
        tokio::select! {
            _ = term.recv() => "SIGTERM",
            _ = int.recv() => "SIGINT",
        }
    }))
}
