//! A world: a broker, a tool set, and a folder to work in.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::cases::{Case, words};
use crate::interop::place::Place;
use crate::interop::server::{End, Maker, Server, milena};
use crate::interop::tool_host::ToolHost;

const LIMIT: Duration = Duration::from_secs(90);
const JOIN_LIMIT: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(20);

/// Whose tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tools {
    Kafka,
    Milena,
}

/// What a tool left behind, with the world's own names for its addresses and folders.
#[derive(Debug)]
pub struct Answer {
    pub status: i32,
    pub out: String,
    pub err: String,
}

pub struct World {
    pub tools: Tools,
    broker: Maker,
    place: Place,
    server: Server,
    members: Members,
    prefix: String,
}

impl World {
    pub fn start(tools: Tools, broker: Maker) -> Result<World, String> {
        let place = Place::standalone()?;
        place.format(broker)?;
        fs::create_dir(place.root.path().join("work")).map_err(|e| e.to_string())?;
        let log = place.root.path().join("broker.log");
        let server = Server::start(broker, &place.properties(), place.port, &log)?;
        Ok(World {
            tools,
            broker,
            place,
            server,
            members: Members(Vec::new()),
            prefix: String::new(),
        })
    }

    pub fn name(&self) -> String {
        format!("{:?}'s tools on {:?}", self.tools, self.broker)
    }

    pub fn end(mut self) -> Result<(), String> {
        self.members.dismiss();
        self.server.end(End::Clean)
    }

    /// Runs a case; nothing where our tool is not there.
    pub fn play(
        &mut self,
        case: &Case,
        host: Option<&mut ToolHost>,
    ) -> Result<Option<Answer>, String> {
        if self.prefix != case.prefix {
            self.members.dismiss();
            self.prefix.clone_from(&case.prefix);
        }
        for (name, text) in &case.files {
            let path = self.work().join(name);
            fs::write(&path, self.with_own(text)).map_err(|e| e.to_string())?;
        }
        for (group, command) in &case.members {
            self.join(group, command)?;
        }
        let words: Vec<String> = words(&case.command)
            .iter()
            .map(|word| self.with_own(word))
            .collect();
        let typed = self.with_own(&case.typed);
        let tool = words[0].trim_end_matches(".sh");
        let said = match host {
            Some(host) => {
                let words: Vec<&str> = words[1..].iter().map(String::as_str).collect();
                let said = host.run(tool, &words, &typed)?;
                (said.status, said.out, said.err)
            }
            None if !here(tool) => return Ok(None),
            None => self.ours(tool, &words[1..], &typed)?,
        };
        Ok(Some(Answer {
            status: said.0,
            out: self.without_own(said.1),
            err: self.without_own(said.2),
        }))
    }

    fn work(&self) -> PathBuf {
        self.place.root.path().join("work")
    }

    fn own(&self) -> [(&'static str, String); 4] {
        [
            ("BROKER", self.place.bootstrap()),
            ("CONTROLLER", self.place.controller()),
            ("DATA", self.place.data().display().to_string()),
            ("WORK", self.work().display().to_string()),
        ]
    }

    fn with_own(&self, text: &str) -> String {
        let own = self.own();
        own.iter().fold(text.to_owned(), |text, (name, value)| {
            text.replace(name, value)
        })
    }

    /// A port that stands apart from its host keeps its width in tables: five digits.
    fn without_own(&self, text: String) -> String {
        let own = self.own();
        let replaced = own
            .iter()
            .fold(text, |text, (name, value)| text.replace(value, name));
        let ports = [self.place.bootstrap(), self.place.controller()];
        ports
            .iter()
            .zip(["PORT_", "CPORT"])
            .fold(replaced, |text, (address, name)| {
                let port = address.rsplit(':').next().unwrap_or_default();
                text.replace(port, name)
            })
    }

    fn ours(
        &self,
        tool: &str,
        words: &[String],
        typed: &str,
    ) -> Result<(i32, String, String), String> {
        let input = self.file("stdin");
        fs::write(&input, typed).map_err(|e| e.to_string())?;
        let (out, err) = (self.file("stdout"), self.file("stderr"));
        let open = |path: &Path| fs::File::create(path).map_err(|e| e.to_string());
        let mut child = Command::new(milena()?)
            .arg(tool)
            .args(words)
            .current_dir(self.work())
            .stdin(fs::File::open(&input).map_err(|e| e.to_string())?)
            .stdout(open(&out)?)
            .stderr(open(&err)?)
            .spawn()
            .map_err(|e| format!("{tool}: {e}"))?;
        let status =
            ended(&mut child, LIMIT).ok_or_else(|| format!("{tool} {words:?}: does not end"))?;
        let text = |path: &Path| {
            fs::read(path)
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                .map_err(|e| e.to_string())
        };
        Ok((status, text(&out)?, text(&err)?))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.place.root.path().join(name)
    }

    /// Starts a member of a group, by our console consumer, and waits until the group is stable.
    fn join(&mut self, group: &str, command: &str) -> Result<(), String> {
        if self.members.0.iter().any(|(there, _)| there == group) {
            return Ok(());
        }
        let words = words(&self.with_own(command));
        let child = Command::new(milena()?)
            .args(&words)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| e.to_string())?;
        self.members.0.push((group.to_owned(), child));
        let bootstrap = self.place.bootstrap();
        let ask = [
            "--bootstrap-server",
            &bootstrap,
            "--describe",
            "--state",
            "--group",
            group,
        ];
        let ask = ask.map(str::to_owned);
        let limit = Instant::now() + JOIN_LIMIT;
        while !self
            .ours("kafka-consumer-groups", &ask, "")?
            .1
            .contains("Stable")
        {
            if Instant::now() > limit {
                return Err(format!("{}: {group} does not become stable", self.name()));
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }
}

/// Consumers that stay, by their group; they end with the file that started them.
struct Members(Vec<(String, Child)>);

impl Members {
    fn dismiss(&mut self) {
        for (_, mut child) in self.0.drain(..) {
            let pid = child.id().to_string();
            let _ = Command::new("kill").args(["-INT", &pid]).status();
            // One that does not end in time is killed.
            let _ = ended(&mut child, JOIN_LIMIT);
        }
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        self.dismiss();
    }
}

fn here(tool: &str) -> bool {
    tool == "kafka-server-start" || milena_tools::NAMES.contains(&tool)
}

/// Its status when it ends in time (128 and more for a signal); otherwise it is killed.
fn ended(child: &mut Child, limit: Duration) -> Option<i32> {
    let end = Instant::now() + limit;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status.code().unwrap_or(128)),
            Ok(None) if Instant::now() < end => std::thread::sleep(PAUSE),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
        }
    }
}
