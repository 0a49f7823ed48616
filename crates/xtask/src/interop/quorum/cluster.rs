//! Several nodes on loopback, each Milena or Apache Kafka, and what our tools say of them.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::super::java;
use super::super::server::{End, Maker, Server, command_of, milena};

const CLUSTER_ID: &str = "AAAAAAAAAAAAAAAAAAABqQ";
/// How long anything may take before it counts as not happening.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(150);
const NODES_MAX: usize = 6;
/// What 4.3 can open.
const OF_4_3: [&str; 4] = [
    "--release-version",
    "4.3-IV0",
    "--feature",
    "share.version=1",
];

/// What the properties files of all nodes say.
const COMMON: &str = "\
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=500
metadata.log.max.record.bytes.between.snapshots=1500
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
log.initial.task.delay.ms=600000
replica.lag.time.max.ms=4000
";

/// Which part a node takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Roles {
    Broker,
    Controller,
    Both,
}

impl Roles {
    fn text(self) -> &'static str {
        match self {
            Roles::Broker => "broker",
            Roles::Controller => "controller",
            Roles::Both => "broker,controller",
        }
    }
}

/// How a new directory says who votes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voters {
    /// `controller.quorum.voters` names all controllers.
    Static,
    /// KIP-853; this node begins alone.
    Standalone,
    /// KIP-853; this node learns who votes.
    Learned,
}

pub struct Node {
    pub id: u16,
    pub maker: Maker,
    roles: Roles,
    broker_port: u16,
    controller_port: u16,
    server: Option<Server>,
}

pub struct Cluster {
    /// Removed at the end.
    root: tempfile::TempDir,
    nodes: Vec<Node>,
    is_static: bool,
    /// More lines for every properties file; they win over the ones before.
    more: &'static str,
    /// Of Apache Kafka.
    release: String,
}

/// A row of `kafka-metadata-quorum describe --replication`.
#[derive(Clone, Debug)]
pub struct Replica {
    pub id: u16,
    pub lag: i64,
    pub votes: bool,
}

impl Cluster {
    /// Nodes by id, not formatted and not started. They have only the ports of their roles.
    pub fn new(is_static: bool, nodes: &[(u16, Maker, Roles)]) -> Cluster {
        let ports: [u16; 2 * NODES_MAX] = milena_testkit::free_ports();
        assert!(nodes.len() <= NODES_MAX);
        let nodes = nodes.iter().zip(ports.chunks(2));
        let nodes = nodes.map(|(&(id, maker, roles), ports)| Node {
            id,
            maker,
            roles,
            broker_port: ports[0],
            controller_port: ports[1],
            server: None,
        });
        Cluster {
            root: milena_testkit::temp_dir(),
            nodes: nodes.collect(),
            is_static,
            more: "",
            release: java::KAFKA.to_owned(),
        }
    }

    /// With a release of Apache Kafka of one's own choice; directories are formatted at its level.
    pub fn of_release(mut self, release: &str) -> Cluster {
        release.clone_into(&mut self.release);
        self
    }

    /// With these lines in every properties file.
    pub fn with(mut self, more: &'static str) -> Cluster {
        self.more = more;
        self
    }

    /// From its next start on the node runs the other program, on the same directories and properties file.
    pub fn become_of(&mut self, id: u16, maker: Maker) {
        self.node_mut(id).maker = maker;
    }

    fn node(&self, id: u16) -> &Node {
        let found = self.nodes.iter().find(|node| node.id == id);
        found.expect("the node is one of the cluster's")
    }

    fn node_mut(&mut self, id: u16) -> &mut Node {
        let found = self.nodes.iter_mut().find(|node| node.id == id);
        found.expect("the node is one of the cluster's")
    }

    pub fn runs(&self, id: u16) -> bool {
        self.node(id).server.is_some()
    }

    pub fn maker(&self, id: u16) -> Maker {
        self.node(id).maker
    }

    pub fn broker(&self, id: u16) -> String {
        format!("127.0.0.1:{}", self.node(id).broker_port)
    }

    pub fn controller(&self, id: u16) -> String {
        format!("127.0.0.1:{}", self.node(id).controller_port)
    }

    pub fn data(&self, id: u16) -> PathBuf {
        self.root.path().join(format!("data-{id}"))
    }

    pub fn metadata(&self, id: u16) -> PathBuf {
        self.data(id).join("__cluster_metadata-0")
    }

    pub fn properties(&self, id: u16) -> PathBuf {
        self.root.path().join(format!("node-{id}.properties"))
    }

    fn text(&self, node: &Node) -> String {
        let controllers = || self.nodes.iter().filter(|n| n.roles != Roles::Broker);
        let address = |n: &Node| format!("127.0.0.1:{}", n.controller_port);
        let quorum = if self.is_static {
            let voters = controllers().map(|n| format!("{}@{}", n.id, address(n)));
            let voters: Vec<String> = voters.collect();
            format!("controller.quorum.voters={}", voters.join(","))
        } else {
            let servers: Vec<String> = controllers().map(address).collect();
            format!("controller.quorum.bootstrap.servers={}", servers.join(","))
        };
        let mut listeners = Vec::new();
        if node.roles != Roles::Controller {
            listeners.push(format!("PLAINTEXT://127.0.0.1:{}", node.broker_port));
        }
        if node.roles != Roles::Broker {
            listeners.push(format!("CONTROLLER://127.0.0.1:{}", node.controller_port));
        }
        // Of several that may win an election, Milena asks first.
        let elections = match node.maker {
            Maker::Milena => "controller.quorum.election.timeout.ms=300",
            Maker::Kafka => "controller.quorum.election.timeout.ms=5000",
        };
        let joins = node.maker == Maker::Kafka && node.roles == Roles::Controller;
        let joins = match joins && !self.is_static {
            true => "controller.quorum.auto.join.enable=true\n",
            false => "",
        };
        format!(
            "process.roles={}\nnode.id={}\nlisteners={}\nlog.dirs={}\n{quorum}\n{elections}\n{joins}{COMMON}{more}",
            node.roles.text(),
            node.id,
            listeners.join(","),
            self.data(node.id).display(),
            more = self.more,
        )
    }

    /// A new, empty directory for the node; what was there is gone.
    pub fn format(&self, id: u16, voters: Voters) -> Result<(), String> {
        let path = self.properties(id);
        fs::write(&path, self.text(self.node(id))).map_err(|e| e.to_string())?;
        if self.data(id).exists() {
            fs::remove_dir_all(self.data(id)).map_err(|e| e.to_string())?;
        }
        let path = path.display().to_string();
        let mut words = vec!["format", "--cluster-id", CLUSTER_ID, "--config", &path];
        match voters {
            Voters::Static => {}
            Voters::Standalone => words.push("--standalone"),
            Voters::Learned => words.push("--no-initial-controllers"),
        }
        if self.release.starts_with("4.3.") {
            words.extend(OF_4_3);
        }
        tool("kafka-storage", &words).map(drop)
    }

    /// Starts a node; nothing is waited for.
    pub fn launch(&mut self, id: u16) -> Result<(), String> {
        let maker = self.node(id).maker;
        let log = self.root.path().join(format!("node-{id}.log"));
        let command = command_of(&self.release, maker, &self.properties(id))?;
        let server = Server::launch(maker, command, &log)?;
        self.node_mut(id).server = Some(server);
        Ok(())
    }

    pub fn end(&mut self, id: u16, end: End) -> Result<(), String> {
        let server = self.node_mut(id).server.take();
        server.ok_or(format!("node {id} does not run"))?.end(end)
    }

    /// Stops (`STOP`) the process, or lets it go on (`CONT`).
    pub fn signal(&self, id: u16, signal: &str) -> Result<(), String> {
        let server = self.node(id).server.as_ref();
        let pid = server.ok_or(format!("node {id} does not run"))?.pid();
        let flag = format!("-{signal}");
        let status = Command::new("kill")
            .args([&flag, &pid.to_string()])
            .status();
        match status.is_ok_and(|status| status.success()) {
            true => Ok(()),
            false => Err(format!("node {id} can't be sent {signal}")),
        }
    }

    /// Asks until the answer is one. Says what was waited for, and what the nodes printed last, where none came.
    pub fn until<T>(
        &self,
        what: &str,
        mut ask: impl FnMut() -> Result<Option<T>, String>,
    ) -> Result<T, String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let asked = ask();
            match asked {
                Ok(Some(found)) => return Ok(found),
                Ok(None) if Instant::now() < deadline => {}
                Err(_) if Instant::now() < deadline => {}
                Ok(None) => return Err(self.report(&format!("waited in vain until {what}"))),
                Err(why) => {
                    return Err(self.report(&format!("waited in vain until {what}: {why}")));
                }
            }
            sleep(PAUSE);
        }
    }

    /// `why`, and what each node that runs said last.
    pub fn report(&self, why: &str) -> String {
        let mut text = why.to_owned();
        for node in &self.nodes {
            if let Some(server) = &node.server {
                let said = server.said();
                let lines: Vec<&str> = said.lines().collect();
                let last = lines[lines.len().saturating_sub(15)..].join("\n");
                text += &format!("\n-- node {} ({:?}) said:\n{last}", node.id, node.maker);
            }
        }
        text
    }

    /// The quorum's replicas as the leader sees them, asked through any of the controllers that answers.
    pub fn replicas(&self) -> Result<Vec<Replica>, String> {
        let out = self.quorum(&["describe", "--replication"])?;
        let rows = out.lines().skip(1).filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            Some(Replica {
                id: words.first()?.parse().ok()?,
                lag: words.get(3)?.parse().ok()?,
                votes: *words.last()? != "Observer",
            })
        });
        Ok(rows.collect())
    }

    /// `kafka-metadata-quorum` by the controllers that run.
    pub fn quorum(&self, words: &[&str]) -> Result<String, String> {
        self.quorum_with(&[], words)
    }

    /// The id in the `meta.properties` of the node's directory.
    pub fn directory_id(&self, id: u16) -> Result<String, String> {
        let path = self.data(id).join("meta.properties");
        let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let line = text.lines().find_map(|l| l.strip_prefix("directory.id="));
        line.map(str::to_owned).ok_or(text.clone())
    }

    /// `kafka-metadata-quorum` with flags of the tool itself before the subcommand.
    pub fn quorum_with(&self, flags: &[&str], words: &[&str]) -> Result<String, String> {
        let running = self.nodes.iter().filter(|n| n.server.is_some());
        let controllers = running.filter(|n| n.roles != Roles::Broker);
        let addresses: Vec<String> = controllers.map(|n| self.controller(n.id)).collect();
        let addresses = addresses.join(",");
        let mut all = vec!["--bootstrap-controller", &addresses];
        all.extend(flags);
        all.extend(words);
        tool("kafka-metadata-quorum", &all)
    }

    /// Waits until exactly these vote, as the leader tells.
    pub fn wait_voters(&self, ids: &[u16]) -> Result<(), String> {
        self.until(&format!("{ids:?} vote"), || {
            let replicas = self.replicas()?;
            let voters = replicas.iter().filter(|replica| replica.votes);
            let mut voters: Vec<u16> = voters.map(|replica| replica.id).collect();
            voters.sort_unstable();
            match voters == ids {
                true => Ok(Some(())),
                false => Err(format!("{replicas:?}")),
            }
        })
    }

    /// Leader and epoch, once there is one.
    pub fn leader(&self) -> Result<(u16, i32), String> {
        let out = self.quorum(&["describe", "--status"])?;
        let field = |name: &str| {
            let line = out.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().last()
        };
        let leader = field("LeaderId:").and_then(|text| text.parse().ok());
        let epoch = field("LeaderEpoch:").and_then(|text| text.parse().ok());
        leader.zip(epoch).ok_or(out)
    }

    /// Waits until exactly these replicas have everything.
    pub fn wait_caught_up(&self, ids: &[u16]) -> Result<(), String> {
        self.until(&format!("replicas {ids:?} have caught up"), || {
            let replicas = self.replicas()?;
            let mut there: Vec<u16> = replicas
                .iter()
                .filter(|replica| replica.lag == 0)
                .map(|replica| replica.id)
                .collect();
            there.sort_unstable();
            there.dedup();
            let all = ids.iter().all(|id| there.contains(id));
            match all {
                true => Ok(Some(())),
                false => Err(format!("{replicas:?}")),
            }
        })
    }

    /// Waits until a broker sees these brokers and no others as alive.
    pub fn wait_alive(&self, asked: u16, ids: &[u16]) -> Result<(), String> {
        let bootstrap = self.broker(asked);
        self.until(&format!("brokers {ids:?} are alive"), || {
            let words = ["list-endpoints", "--bootstrap-server", &bootstrap];
            let out = tool("kafka-cluster", &words)?;
            let rows = out.lines().skip(1);
            let id = |line: &str| line.split_whitespace().next()?.parse().ok();
            let mut alive: Vec<u16> = rows.filter_map(id).collect();
            alive.sort_unstable();
            match alive == ids {
                true => Ok(Some(())),
                false => Err(out),
            }
        })
    }

    /// Creates topics by way of a broker; each with one partition for each list of replicas.
    pub fn create(&self, asked: u16, topic: &str, assignment: &str) -> Result<(), String> {
        let bootstrap = self.broker(asked);
        let words = [
            "--bootstrap-server",
            &bootstrap,
            "--create",
            "--topic",
            topic,
            "--replica-assignment",
            assignment,
        ];
        tool("kafka-topics", &words).map(drop)
    }

    /// Every partition goes back to its first replica.
    pub fn elect_preferred(&self, asked: u16) -> Result<(), String> {
        let bootstrap = self.broker(asked);
        let words = [
            "--bootstrap-server",
            &bootstrap,
            "--election-type",
            "preferred",
            "--all-topic-partitions",
        ];
        tool("kafka-leader-election", &words).map(drop)
    }

    /// Leader and in-sync replicas of each partition, as a broker sees them.
    pub fn partitions(&self, asked: u16, topic: &str) -> Result<Vec<(String, String)>, String> {
        let bootstrap = self.broker(asked);
        let words = [
            "--bootstrap-server",
            &bootstrap,
            "--describe",
            "--topic",
            topic,
        ];
        let out = tool("kafka-topics", &words)?;
        let field = |line: &str, name: &str| {
            let rest = line.split(name).nth(1).unwrap_or_default();
            let mut isr: Vec<&str> = rest
                .split_whitespace()
                .next()
                .unwrap_or_default()
                .split(',')
                .collect();
            isr.sort_unstable();
            isr.join(",")
        };
        let rows = out.lines().filter(|line| line.contains("Partition: "));
        Ok(rows
            .map(|line| (field(line, "Leader: "), field(line, "Isr: ")))
            .collect())
    }

    /// Waits until every partition of the topic has this leader and these in-sync replicas, as a broker sees them. An
    /// empty leader means any.
    pub fn wait_led(&self, asked: u16, topic: &str, leader: &str, isr: &str) -> Result<(), String> {
        self.until(
            &format!("{topic} is led by {leader:?}, in sync {isr}"),
            || {
                let rows = self.partitions(asked, topic)?;
                let right = rows
                    .iter()
                    .all(|row| (leader.is_empty() || row.0 == leader) && row.1 == isr);
                match right && !rows.is_empty() {
                    true => Ok(Some(())),
                    false => Err(format!("{rows:?}")),
                }
            },
        )
    }
}

/// Runs one of Milena's tools; what it printed.
pub fn tool(name: &str, words: &[&str]) -> Result<String, String> {
    typed(name, words, "")
}

/// The same with something on its standard input.
pub fn typed(name: &str, words: &[&str], input: &str) -> Result<String, String> {
    use std::io::Write;
    use std::process::Stdio;
    let mut child = Command::new(milena()?)
        .arg(name)
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| e.to_string())?;
    let mut pipe = child.stdin.take().ok_or("no pipe")?;
    let sent = pipe.write_all(input.as_bytes());
    drop(pipe);
    let output = child.wait_with_output().map_err(|e| e.to_string())?;
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    match output.status.success() && sent.is_ok() {
        true => Ok(out),
        false => Err(format!(
            "{name} {words:?}: {}{out}",
            String::from_utf8_lossy(&output.stderr)
        )),
    }
}
