//! A broker under comparison, Milena or Apache Kafka: started on a properties file, asked whether it serves, ended.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::java;

const START_LIMIT: Duration = Duration::from_secs(90);
const STOP_LIMIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);

/// Which program is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    Milena,
    Kafka,
}

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// SIGTERM, and it ends by itself.
    Clean,
    /// SIGKILL.
    Killed,
}

/// Milena's program: `$MILENA_BIN`, or what cargo builds from this tree.
pub fn milena() -> Result<PathBuf, String> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    BUILT.get_or_init(build).clone()
}

fn build() -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os("MILENA_BIN") {
        return Ok(path.into());
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--package", "milena"])
        .current_dir(java::root())
        .status()
        .map_err(|e| format!("cargo build: {e}"))?;
    match status.success() {
        true => {
            std::path::absolute(java::target_dir().join("debug/milena")).map_err(|e| e.to_string())
        }
        false => Err("milena does not build".into()),
    }
}

/// A running broker; dropping it kills it.
pub struct Server {
    child: Child,
    /// Everything that it printed.
    log: PathBuf,
    maker: Maker,
}

impl Server {
    /// Starts it and waits until it knows itself as a broker.
    pub fn start(maker: Maker, properties: &Path, port: u16, log: &Path) -> Result<Server, String> {
        Server::spawn(maker, command(maker, properties)?, port, log)
    }

    /// The same with a command of one's own.
    pub fn spawn(maker: Maker, command: Command, port: u16, log: &Path) -> Result<Server, String> {
        let mut server = Server::launch(maker, command, log)?;
        server.wait_until_it_serves(port)?;
        Ok(server)
    }

    /// Starts it and waits for nothing.
    pub fn launch(maker: Maker, mut command: Command, log: &Path) -> Result<Server, String> {
        let out = File::options().create(true).append(true).open(log);
        let out = out.map_err(|e| format!("{}: {e}", log.display()))?;
        let err = out.try_clone().map_err(|e| e.to_string())?;
        let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn();
        Ok(Server {
            child: child.map_err(|e| format!("{command:?}: {e}"))?,
            log: log.to_owned(),
            maker,
        })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn wait_until_it_serves(&mut self, port: u16) -> Result<(), String> {
        let end = Instant::now() + START_LIMIT;
        while !serves(port) {
            let gone = self.child.try_wait().map_err(|e| e.to_string())?;
            if let Some(status) = gone {
                return Err(format!(
                    "{:?} ended with {status}:\n{}",
                    self.maker,
                    self.said()
                ));
            }
            if Instant::now() > end {
                return Err(format!("{:?} does not serve:\n{}", self.maker, self.said()));
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// The last lines that it printed.
    pub fn said(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    pub fn end(mut self, end: End) -> Result<(), String> {
        if end == End::Killed {
            return self
                .child
                .kill()
                .and_then(|()| self.child.wait())
                .map(drop)
                .map_err(|e| e.to_string());
        }
        let pid = self.child.id().to_string();
        let told = Command::new("kill").args(["-TERM", &pid]).status();
        if !told.is_ok_and(|status| status.success()) {
            return Err(format!(
                "{:?} is gone already:\n{}",
                self.maker,
                self.said()
            ));
        }
        let limit = Instant::now() + STOP_LIMIT;
        loop {
            match self.child.try_wait().map_err(|e| e.to_string())? {
                // A JVM that is told to end says so by 128 + SIGTERM.
                Some(status) if matches!(status.code(), Some(0 | 143)) => return Ok(()),
                Some(status) => {
                    return Err(format!(
                        "{:?} stopped with {status}:\n{}",
                        self.maker,
                        self.said()
                    ));
                }
                None if Instant::now() > limit => {
                    return Err(format!("{:?} does not stop:\n{}", self.maker, self.said()));
                }
                None => std::thread::sleep(PAUSE),
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What starts a node on a properties file.
pub fn command(maker: Maker, properties: &Path) -> Result<Command, String> {
    command_of(java::KAFKA, maker, properties)
}

/// The same with a release of Apache Kafka of one's own choice.
pub fn command_of(release: &str, maker: Maker, properties: &Path) -> Result<Command, String> {
    let mut command = match maker {
        Maker::Milena => {
            let mut command = Command::new(milena()?);
            command.arg("kafka-server-start");
            command
        }
        Maker::Kafka => kafka(release)?,
    };
    command.arg(properties);
    Ok(command)
}

fn kafka(release: &str) -> Result<Command, String> {
    let jars = java::classpath(release)?;
    let cache = Path::new(&jars).ancestors().nth(2).map(Path::to_owned);
    let logging = cache.unwrap_or_default().join("log4j2.properties");
    let mut command = Command::new("java");
    command.args([
        "-Xms128m",
        "-Xmx384m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
    ]);
    command.arg(format!("-Dlog4j2.configurationFile={}", logging.display()));
    command.args(["-cp", &jars, "kafka.Kafka"]);
    Ok(command)
}

/// Whether Metadata v1 names a broker.
fn serves(port: u16) -> bool {
    brokers(port).is_some_and(|count| count > 0)
}

fn brokers(port: u16) -> Option<i32> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    // Size, Metadata v1, correlation 1, client "x", no topics.
    let request = [0, 0, 0, 15, 0, 3, 0, 1, 0, 0, 0, 1, 0, 1, b'x', 0, 0, 0, 0];
    stream.write_all(&request).ok()?;
    // Size, correlation, number of brokers.
    let mut head = [0; 12];
    stream.read_exact(&mut head).ok()?;
    Some(i32::from_be_bytes([head[8], head[9], head[10], head[11]]))
}
