//! One node, or a cluster of three, and what is done to them.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use milena_base::Prng;

use super::TOPIC;
use crate::cluster::until;
use crate::node::{Home, Node};
use crate::replication::cluster::{Client, Cluster};

/// So that a node that was killed is taken back soon, and internal topics are small.
const KEYS: &[(&str, &str)] = &[
    ("broker.session.timeout.ms", "1000"),
    ("broker.heartbeat.interval.ms", "200"),
    ("transaction.state.log.num.partitions", "2"),
];

pub enum Nodes {
    One {
        home: Home,
        node: Option<Node>,
        address: Arc<Mutex<Vec<Option<String>>>>,
    },
    Three(Cluster),
}

impl Nodes {
    pub fn start(count: u64) -> Nodes {
        if count > 1 {
            let more = [
                ("transaction.state.log.replication.factor", "3"),
                ("transaction.state.log.min.isr", "2"),
                ("broker.session.timeout.ms", "2000"),
            ];
            return Nodes::Three(Cluster::start_with(&[KEYS, &more].concat()));
        }
        let keyed = |home: Home, (key, value): &(&str, &str)| home.with(key, value);
        let home = KEYS.iter().fold(Home::new(), keyed);
        let node = home.start();
        Nodes::One {
            address: Arc::new(Mutex::new(vec![Some(node.address.clone())])),
            node: Some(node),
            home,
        }
    }

    pub fn client(&self) -> Client {
        match self {
            Nodes::One { address, .. } => Client::of(address.clone()),
            Nodes::Three(cluster) => cluster.client(),
        }
    }

    /// The topic of the histories.
    pub fn create_topic(&self, client: &Client) {
        match self {
            Nodes::One { .. } => {
                let replicas: [&[i32]; 4] = [&[1]; 4];
                client.create_topic(TOPIC, &replicas, 1);
            }
            Nodes::Three(_) => {
                let replicas: [&[i32]; 4] = [&[1, 2, 3], &[2, 3, 1], &[3, 1, 2], &[1, 3, 2]];
                client.create_topic(TOPIC, &replicas, 2);
            }
        }
    }

    fn take(&mut self, id: i32) -> Node {
        match self {
            Nodes::One { node, .. } => node.take().expect("it runs"),
            Nodes::Three(cluster) => cluster.take(id),
        }
    }

    fn restart(&mut self, id: i32) {
        match self {
            Nodes::One {
                home,
                node,
                address,
            } => {
                let started = home.start();
                let at = Some(started.address.clone());
                *address.lock().expect("nobody panicked") = vec![at];
                *node = Some(started);
            }
            Nodes::Three(cluster) => cluster.restart(id),
        }
    }

    fn node(&self, id: i32) -> &Node {
        match self {
            Nodes::One { node, .. } => node.as_ref().expect("it runs"),
            Nodes::Three(cluster) => cluster.node(id),
        }
    }
}

/// What was done to the nodes.
#[derive(Debug, Default)]
pub struct Faults {
    pub kills: u64,
    pub stops: u64,
    pub pauses: u64,
    pub answers_lost: u64,
}

impl Faults {
    /// One fault, and its end: the node is back, and in a cluster its replicas are in sync again.
    pub fn one(&mut self, prng: &mut Prng, nodes: &mut Nodes, client: &Client) {
        let id = match nodes {
            Nodes::One { .. } => 1,
            Nodes::Three(_) => 1 + prng.below(3) as i32,
        };
        match prng.below(4) {
            0 | 1 => {
                self.kills += 1;
                nodes.take(id).kill();
                nodes.restart(id);
            }
            2 => {
                self.stops += 1;
                nodes.take(id).stop();
                nodes.restart(id);
            }
            _ => {
                self.pauses += 1;
                nodes.node(id).pause();
                // Shorter and longer than a session.
                thread::sleep(Duration::from_millis(prng.below(3_000)));
                nodes.node(id).resume();
            }
        }
        until("all in sync", || client.all_in_sync(TOPIC));
    }
}
