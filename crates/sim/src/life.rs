//! Births and deaths of nodes.

use std::path::Path;
use std::sync::Arc;

use milena_base::Prng;
use milena_broker::format::{FormatRequest, InitialControllers, format};
use milena_broker::start::{Bound, start};
use milena_broker::{LifecycleEvent, Outbox, Post};
use milena_config::{NodeConfig, Properties};
use milena_disk::{Disk, SimDisk};

use crate::atlas::broken;
use crate::council::FETCH_TIMEOUT;
use crate::net::{ConnId, Opener, Parcel};
use crate::node::{Ended, Live, MAILBOXES, Node, RATE_ONE};
use crate::plan::{MICRO, MILLI, Plan, Roles, SECOND, Shape, Time};
use crate::serve::{BROKER_PORT, CONTROLLER_PORT};
use crate::steps::quiet;
use crate::world::{Event, World};

const CLUSTER: &str = "AAAAAAAAAAAAAAAAAAABzg";

/// The machines of a plan, formatted.
pub fn machines(plan: &Plan) -> Result<Vec<Node>, String> {
    let mut prng = Prng::new(plan.seed ^ 0x6d61_6368);
    let shape = &plan.shape;
    let mut nodes = Vec::new();
    let directories: Vec<_> = shape
        .nodes
        .iter()
        .map(|_| milena_base::Uuid::random(&mut prng))
        .collect();
    let controllers = || {
        (1..)
            .zip(&shape.nodes)
            .zip(&directories)
            .filter(|((_, r), _)| r.controller)
    };
    let initial: Vec<String> = controllers()
        .map(|((id, _), directory)| format!("{id}@n{id}:{CONTROLLER_PORT}:{directory}"))
        .collect();
    for (index, roles) in shape.nodes.iter().enumerate() {
        let config = config(index as i32 + 1, *roles, shape)?;
        let disk = SimDisk::new(prng.next_u64());
        let mut request = FormatRequest::new(&config, CLUSTER);
        if shape.dynamic_quorum && roles.controller {
            request.initial_controllers = InitialControllers::Listed(initial.join(","));
        }
        let port: Arc<dyn Disk> = Arc::new(disk.clone());
        format(&port, &request, &mut prng, milena_base::Timestamp(1)).map_err(|e| e.to_string())?;
        let span = 2 * shape.skew + 1;
        nodes.push(Node {
            index,
            config,
            disk,
            seed: prng.next_u64(),
            live: None,
            life: 0,
            booted_at: 0,
            rate: RATE_ONE - shape.skew + prng.below(span),
            wall_offset: 0,
            paused_until: 0,
            slow: 1,
            ended: Ended::Cleanly,
            unrecovered: false,
            disk_failed: false,
            armed: None,
            down_for: 0,
            starts: 0,
        });
    }
    Ok(nodes)
}

fn config(id: i32, roles: Roles, shape: &Shape) -> Result<NodeConfig, String> {
    let mut properties = Properties::default();
    let mut set = |key: &str, value: String| properties.set(key, value);
    let mut listeners = Vec::new();
    let mut names = Vec::new();
    if roles.broker {
        names.push("broker");
        listeners.push(format!("PLAINTEXT://n{id}:{BROKER_PORT}"));
        set(
            "advertised.listeners",
            format!("PLAINTEXT://n{id}:{BROKER_PORT}"),
        );
    }
    if roles.controller {
        names.push("controller");
        listeners.push(format!("CONTROLLER://n{id}:{CONTROLLER_PORT}"));
    }
    set("process.roles", names.join(","));
    set("node.id", id.to_string());
    set("listeners", listeners.join(","));
    set("controller.listener.names", "CONTROLLER".into());
    let voters = (1..).zip(&shape.nodes).filter(|(_, r)| r.controller);
    let voters: Vec<i32> = voters.map(|(id, _)| id).collect();
    if shape.dynamic_quorum {
        let servers = voters.iter().map(|id| format!("n{id}:{CONTROLLER_PORT}"));
        let servers: Vec<String> = servers.collect();
        set("controller.quorum.bootstrap.servers", servers.join(","));
    } else {
        let servers = voters
            .iter()
            .map(|id| format!("{id}@n{id}:{CONTROLLER_PORT}"));
        let servers: Vec<String> = servers.collect();
        set("controller.quorum.voters", servers.join(","));
    }
    set("log.dirs", "/data".into());
    let snapshots = if shape.small_snapshots {
        2000
    } else {
        20 << 20
    };
    set(
        "metadata.log.max.record.bytes.between.snapshots",
        snapshots.to_string(),
    );
    for (key, value) in TIMES {
        set(key, (*value).into());
    }
    set(
        "controller.quorum.fetch.timeout.ms",
        (FETCH_TIMEOUT / MILLI).to_string(),
    );
    let config = NodeConfig::from_properties(&properties);
    config
        .map(|(config, _)| config)
        .map_err(|why| why.to_string())
}

/// Shorter than Kafka's, so that more happens in a run.
const TIMES: &[(&str, &str)] = &[
    ("broker.session.timeout.ms", "3000"),
    ("broker.heartbeat.interval.ms", "500"),
    ("controller.quorum.election.timeout.ms", "600"),
    ("controller.quorum.request.timeout.ms", "1500"),
    ("replica.lag.time.max.ms", "2500"),
    ("replica.socket.timeout.ms", "3000"),
    ("replica.fetch.wait.max.ms", "300"),
    ("replica.high.watermark.checkpoint.interval.ms", "1000"),
    ("log.flush.offset.checkpoint.interval.ms", "2000"),
    ("offsets.topic.num.partitions", "2"),
    ("offsets.topic.replication.factor", "3"),
    ("min.insync.replicas", "2"),
    ("default.replication.factor", "3"),
];

impl Node {
    /// The place of a port among the node's listeners.
    pub fn listener_of(&self, port: u16) -> usize {
        let listeners = self.config.listeners().iter();
        let mut ports = listeners.map(|l| l.endpoint.port);
        ports.position(|p| p == port).unwrap_or(0)
    }

    /// Without power, it doesn't even refuse.
    pub fn is_dark(&self) -> bool {
        self.live.is_none() && self.ended == Ended::Powerless
    }

    fn bound(&self) -> Bound {
        let listeners = self.config.listeners().iter();
        Bound {
            ports: listeners.map(|l| l.endpoint.port).collect(),
            host: self.name(),
        }
    }
}

impl World {
    pub fn boot(&mut self, node: usize) {
        let at = &mut self.nodes[node];
        if at.live.is_some() {
            return;
        }
        if at
            .disk
            .space(Path::new("/"))
            .is_ok_and(|space| space.total < 1 << 40)
        {
            // A full disk: whoever minds the machine makes room first.
            return self.at(self.now + SECOND, Event::Boot { node });
        }
        at.life += 1;
        at.starts += 1;
        at.booted_at = self.now;
        at.disk.heal();
        at.disk_failed = false;
        let (config, bound) = (at.config.clone(), at.bound());
        let seed = at.seed.wrapping_add(u64::from(at.life));
        let port: Arc<dyn Disk> = Arc::new(at.disk.clone());
        let now = at.clock(self.now);
        self.note_node(node, "starts");
        let mut out = Outbox::default();
        let started = quiet(|| start(config, &bound, port, seed, now, &mut out));
        if self.transcript.is_on() {
            let name = self.nodes[node].name();
            self.transcript.node_lines(self.now, &name);
        }
        if let Some(call) = self.nodes[node].disk.crashed() {
            return self.crashed_at_call(node, &call);
        }
        match started {
            Ok(Ok(parts)) => self.begin(node, Live::new(parts, self.now), out),
            Ok(Err(why)) => {
                let how = format!("n{}: {why}", node + 1);
                self.check(broken("it-starts", how));
            }
            Err(panic) => {
                let how = format!("n{}: {panic}", node + 1);
                self.check(broken("no-panic", how));
            }
        }
    }

    fn begin(&mut self, node: usize, live: Live, out: Outbox) {
        self.nodes[node].live = Some(live);
        self.reset_old_connections(node);
        self.deliver(node, out);
        for slot in 0..MAILBOXES {
            self.schedule(node, slot);
        }
    }

    /// The machine answers again: with a reset, on what it does not know.
    fn reset_old_connections(&mut self, node: usize) {
        let life = self.nodes[node].life;
        for id in self.net.of_host(node) {
            let Some(conn) = self.net.get(id) else {
                continue;
            };
            let old_opener = matches!(conn.opener, Opener::Link { node: n, life: l, .. } if n == node && l < life);
            let to_opener =
                conn.server == node && conn.end.is_none() && conn.open && conn.server_life > 0;
            if old_opener && conn.end.is_some() {
                let departure = self.net.send(id, true, Parcel::Closed, self.now);
                self.depart(departure);
            } else if to_opener && conn.server_life < life {
                let departure = self.net.send(id, false, Parcel::Closed, self.now);
                self.depart(departure);
            }
        }
    }

    /// The process is gone; its kernel closes its connections.
    pub fn kill(&mut self, node: usize, down: Time) {
        self.gone(node, Ended::Killed, down);
        self.nodes[node].disk.kill();
        for id in self.net.of_host(node) {
            self.close_by_kernel(node, id);
        }
    }

    fn close_by_kernel(&mut self, node: usize, id: ConnId) {
        let Some(conn) = self.net.get(id) else {
            return;
        };
        let to_server = conn.server != node;
        match to_server {
            true => conn.open = false,
            false => conn.end = None,
        }
        let departure = self.net.send(id, to_server, Parcel::Closed, self.now);
        self.depart(departure);
    }

    pub fn close_server_ends(&mut self, node: usize) {
        for id in self.net.of_host(node) {
            if self.net.get(id).is_some_and(|conn| conn.server == node) {
                self.close_by_kernel(node, id);
            }
        }
    }

    /// The power goes. Nobody is told.
    pub fn lose_power(&mut self, node: usize, down: Time) {
        self.gone(node, Ended::Powerless, down);
        self.nodes[node].disk.power_cut();
        for id in self.net.of_host(node) {
            if let Some(conn) = self.net.get(id) {
                match conn.server == node {
                    true => conn.end = None,
                    false => conn.open = false,
                }
            }
        }
    }

    fn gone(&mut self, node: usize, ended: Ended, down: Time) {
        self.note_node(node, format!("{ended:?}, down for {} ms", down / MILLI));
        let at = &mut self.nodes[node];
        self.digest.word(at.disk.digest());
        at.live = None;
        at.ended = match (at.unrecovered, at.ended) {
            // What was lost stays lost.
            (true, Ended::Powerless) => Ended::Powerless,
            _ => ended,
        };
        at.unrecovered = true;
        at.armed = None;
        at.paused_until = 0;
        self.at(self.now + down + MICRO, Event::Boot { node });
    }

    /// The disk reached the armed call.
    pub fn crashed_at_call(&mut self, node: usize, call: &str) {
        self.note_node(node, format!("dies at {call}"));
        let armed = self.nodes[node].armed.take();
        match armed {
            Some((Ended::Powerless, down)) => self.lose_power(node, down),
            Some((_, down)) => self.kill(node, down),
            None => self.kill(node, SECOND),
        }
    }

    /// A stop by leave.
    pub fn stop(&mut self, node: usize, down: Time) {
        self.nodes[node].down_for = down;
        self.post(node, Post::from(LifecycleEvent::Stop));
        // As `node` does it: a controller that does not let go is not waited for longer.
        let life = self.nodes[node].life;
        let at = self.now + 5 * SECOND;
        self.at(at, Event::LeaveLate { node, life });
    }

    /// The clean end of a stop.
    pub fn stopped(&mut self, node: usize) {
        self.note_node(node, "has stopped");
        let down = self.nodes[node].down_for;
        let at = &mut self.nodes[node];
        self.digest.word(at.disk.digest());
        at.live = None;
        at.disk.kill();
        if !at.unrecovered {
            at.ended = Ended::Cleanly;
        }
        for id in self.net.of_host(node) {
            self.close_by_kernel(node, id);
        }
        self.at(self.now + down + MICRO, Event::Boot { node });
    }
}
