//! A node under test: formatted in a temporary directory, run as a child, killed when it is dropped.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use milena_base::{Prng, Timestamp, Uuid};
use milena_broker::format::{FormatRequest, InitialControllers, format};
use milena_config::{NodeConfig, Properties};
use milena_disk::{Disk, OsDisk};
use tempfile::TempDir;

/// How long a node may take to start, to stop and to refuse: machines that run tests are loaded.
pub const PATIENCE: Duration = Duration::from_secs(30);

const PROPERTIES: &str = "\
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:0
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers=127.0.0.1:9093
offsets.topic.replication.factor=1
offsets.topic.num.partitions=3
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=2
group.initial.rebalance.delay.ms=100
log.retention.ms=-1
";

/// A node's directory and properties, kept over its restarts.
pub struct Home {
    dir: TempDir,
    pub properties: Properties,
    /// The network namespace that it runs in, but for the machine's own.
    pub namespace: Option<String>,
    /// How often.
    formatted: AtomicU64,
}

impl Home {
    /// A formatted directory.
    pub fn new() -> Home {
        let home = Home::unformatted();
        home.format(&Uuid([7; 16]).to_string());
        home
    }

    pub fn unformatted() -> Home {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut properties = Properties::parse(PROPERTIES.as_bytes()).expect("they are in order");
        let data = dir.path().join("data");
        fs::create_dir(&data).expect("a data directory");
        properties.set("log.dirs", data.display().to_string());
        Home {
            dir,
            properties,
            namespace: None,
            formatted: AtomicU64::new(0),
        }
    }

    pub fn with(mut self, key: &str, value: &str) -> Home {
        self.properties.set(key, value.to_owned());
        self
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A file of the partition 0 of a topic whose name ends so; the first by name.
    pub fn partition_file(&self, topic: &str, ending: &str) -> PathBuf {
        let dir = self.data().join(format!("{topic}-0"));
        let mut files: Vec<PathBuf> = fs::read_dir(&dir)
            .unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.to_string_lossy().ends_with(ending))
            .collect();
        files.sort();
        files.into_iter().next().expect("a file of this kind")
    }

    pub fn format(&self, cluster_id: &str) {
        self.format_with(cluster_id, InitialControllers::Standalone);
    }

    pub fn format_with(&self, cluster_id: &str, controllers: InitialControllers) {
        let (config, _) = NodeConfig::from_properties(&self.properties).expect("a good config");
        let mut request = FormatRequest::new(&config, cluster_id);
        request.initial_controllers = controllers;
        let disk: Arc<dyn Disk> = Arc::new(OsDisk);
        // A directory's id is its own, also that of a second one of the same node.
        let nth = self.formatted.fetch_add(1, Ordering::Relaxed);
        let mut prng = Prng::new(config.node_id().0 as u64 + 1000 * nth);
        format(&disk, &request, &mut prng, Timestamp(1_700_000_000_000)).expect("it is formatted");
    }

    fn command(&self) -> Command {
        let file = self.dir.path().join("server.properties");
        let mut text = String::new();
        for (key, value) in self.properties.iter() {
            text += &format!("{key}={value}\n");
        }
        fs::write(&file, text).expect("the properties are written");
        let errors = File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("stderr"))
            .expect("a file for the log");
        let mut command = match &self.namespace {
            None => Command::new(env!("CARGO_BIN_EXE_milena")),
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace, env!("CARGO_BIN_EXE_milena")]);
                command
            }
        };
        command
            .arg("kafka-server-start")
            .arg(&file)
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors);
        command
    }

    /// All that the node has logged so far, over its starts.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("stderr")).unwrap_or_default()
    }

    /// Waits until the node has logged a text.
    pub fn wait_for_log(&self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.log().contains(text) {
            assert!(
                Instant::now() < deadline,
                "no {text:?} in the log:\n{}",
                self.log()
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Starts the node and waits until it serves.
    pub fn start(&self) -> Node {
        self.spawn().wait_ready()
    }

    /// Starts the node. It may need others before it serves.
    pub fn spawn(&self) -> Starting<'_> {
        let mut child = self.command().spawn().expect("the node is started");
        let stdout = child.stdout.take().expect("it is piped");
        let (told, hears) = channel();
        thread::spawn(move || {
            let mut line = String::new();
            let _ = BufReader::new(stdout).read_line(&mut line);
            let _ = told.send(line);
        });
        let node = Node {
            address: String::new(),
            child,
        };
        Starting {
            home: self,
            node,
            line: hears,
        }
    }

    /// Starts a node that must refuse; gives what it said.
    pub fn refusal(&self) -> String {
        let before = self.log().len();
        let child = self.command().spawn().expect("the node is started");
        let mut node = Node {
            address: String::new(),
            child,
        };
        let status = node.wait();
        let said = self.log()[before..].to_owned();
        assert!(!status.success(), "it ended well: {said}");
        assert_eq!(status.code(), Some(1), "it should exit with 1: {said}");
        assert!(!said.contains("panicked"), "{said}");
        said
    }

    /// Tries until it holds; where it does not in time, all that the node has logged is told.
    pub fn within(&self, time: Duration, what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + time;
        while !holds() {
            assert!(
                Instant::now() < deadline,
                "{what}: not in time\n{}",
                self.log()
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// A node that was started and may not serve yet.
pub struct Starting<'a> {
    home: &'a Home,
    node: Node,
    line: Receiver<String>,
}

impl Starting<'_> {
    pub fn wait_ready(mut self) -> Node {
        let line = self.line.recv_timeout(PATIENCE).unwrap_or_default();
        let address = line
            .strip_prefix("Milena serves on ")
            .and_then(|rest| rest.split(' ').next());
        let Some(address) = address else {
            panic!("the node did not start: {line:?}\n{}", self.home.log());
        };
        address.clone_into(&mut self.node.address);
        self.node
    }
}

/// A running node.
pub struct Node {
    /// `host:port` of the listener for clients.
    pub address: String,
    child: Child,
}

impl Node {
    /// Waits for the end of the process.
    fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                return status;
            }
            if Instant::now() > deadline {
                let _ = self.child.kill();
                panic!("the node did not end in time");
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status();
        assert!(sent.expect("there is a kill").success());
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for an end that somebody else asked for; whether it was a clean one.
    pub fn ended_well(&mut self) -> bool {
        self.wait().success()
    }

    /// SIGSTOP: the process stands still until [`Node::resume`], with its connections open.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    /// SIGTERM, and the end of the process.
    pub fn stop(mut self) {
        self.signal("-TERM");
        let status = self.wait();
        assert!(status.success(), "a clean stop ends with 0: {status}");
    }

    /// SIGKILL: nothing is flushed, closed or told to anybody.
    pub fn kill(mut self) {
        self.child.kill().expect("it is our child");
        self.child.wait().expect("it has ended");
    }

    /// Most memory that was resident so far, in MiB.
    pub fn peak_mib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))
            .expect("the node is running");
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1));
        kib.expect("the kernel says it")
            .parse::<u64>()
            .expect("KiB")
            / 1024
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
