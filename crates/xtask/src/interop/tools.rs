//! The lines that a new user types, word for word, on a broker with defaults: by the scripts in `bin`, and by Apache
//! Kafka's own tools, 4.3.1 and 2.5.0. What our tools and those of 4.3.1 print of the same broker is compared.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use super::java;
use super::server::{End, Maker, Server, milena};
use super::tool_host::ToolHost;

const PORT: u16 = 9092;
const LIMIT: Duration = Duration::from_secs(30);
const CREATE: &str = "kafka-topics.sh --create --bootstrap-server localhost:9092 --replication-factor 1 --partitions 1 --topic test";
const LIST: &str = "kafka-topics.sh --list --bootstrap-server localhost:9092";
const DELETE: &str = "kafka-topics.sh --delete --bootstrap-server localhost:9092 --topic test";
const PRODUCE: &str =
    "kafka-console-producer.sh --bootstrap-server localhost:9092 --topic loan_request";
const CONSUME: &str = "kafka-console-consumer.sh --bootstrap-server localhost:9092 --topic loan_request --from-beginning";

/// Lines whose output is the same from our tool and from Kafka's 4.3.1.
const SAME: &[&str] = &[
    LIST,
    "kafka-topics.sh --describe --bootstrap-server localhost:9092 --topic loan_request",
    "kafka-topics.sh --list --bootstrap-server localhost:9092 --exclude-internal",
    "kafka-consumer-groups.sh --list --bootstrap-server localhost:9092",
    "kafka-consumer-groups.sh --describe --group readers --bootstrap-server localhost:9092",
    "kafka-consumer-groups.sh --describe --group readers --state --bootstrap-server localhost:9092",
    "kafka-consumer-groups.sh --describe --group readers --members --bootstrap-server localhost:9092",
    "kafka-cluster.sh cluster-id --bootstrap-server localhost:9092",
];

pub fn run() -> Result<(), String> {
    if TcpListener::bind(("127.0.0.1", PORT)).is_err() {
        return Err(format!(
            "these lines name port {PORT}, and something else has it"
        ));
    }
    let place = milena_testkit::temp_dir();
    let ours = Ours {
        milena: milena()?,
        place: place.path().to_owned(),
    };
    let log = place.path().join("milena.log");
    let server = Server::spawn(
        Maker::Milena,
        ours.command("kafka-server-start.sh"),
        PORT,
        &log,
    )?;
    let checked = check(&ours);
    checked.map_err(|why| format!("{why}\n-- the broker said:\n{}", server.said()))?;
    server.end(End::Clean)
}

fn check(ours: &Ours) -> Result<(), String> {
    let mut written = ours.lines()?;
    println!("  our tools: {} records there and back", written.len());
    let mut kafka = ToolHost::start("4.3.1")?;
    theirs(&mut kafka, "4.3.1", &mut written)?;
    for line in SAME {
        same(ours, &mut kafka, line)?;
    }
    println!(
        "  {} lines say the same by our tools as by Kafka's 4.3.1",
        SAME.len()
    );
    drop(kafka);
    theirs(&mut ToolHost::start("2.5.0")?, "2.5.0", &mut written)
}

/// The scripts in `bin`.
struct Ours {
    milena: PathBuf,
    place: PathBuf,
}

impl Ours {
    fn command(&self, line: &str) -> Command {
        let bin = std::path::absolute(java::root().join("bin")).unwrap_or_default();
        let mut words = line.split(' ');
        let mut command = Command::new(bin.join(words.next().unwrap_or_default()));
        command
            .args(words)
            .env("MILENA_BIN", &self.milena)
            .current_dir(&self.place);
        command.stdin(Stdio::null());
        command
    }

    /// The lines in their order; what was written.
    fn lines(&self) -> Result<Vec<String>, String> {
        expect(CREATE, &self.run(CREATE)?, "Created topic test.")?;
        expect(LIST, &self.run(LIST)?, "test")?;
        let typed: Vec<String> = (1..=3).map(|n| format!("typed {n}")).collect();
        self.type_lines(&typed)?;
        let piped: Vec<String> = (1..=500).map(|n| format!("from a file {n}")).collect();
        let file = self.place.join("loans.txt");
        std::fs::write(&file, piped.join("\n")).map_err(|e| e.to_string())?;
        let file = File::open(&file).map_err(|e| e.to_string())?;
        finished(PRODUCE, self.command(PRODUCE).stdin(file))?;
        let written = [typed, piped].concat();
        let read = self.consume(written.len())?;
        let by_group = format!("{CONSUME} --group readers --max-messages 100");
        let by_group = self.run(&by_group)?;
        match (
            read == written,
            by_group.lines().eq(written.iter().take(100)),
        ) {
            (true, true) => Ok(written),
            _ => Err(format!(
                "{} lines written, other {} read; {} by a group",
                written.len(),
                read.len(),
                by_group.lines().count()
            )),
        }
    }

    fn run(&self, line: &str) -> Result<String, String> {
        finished(line, &mut self.command(line))
    }

    /// One line after the other, as from a keyboard.
    fn type_lines(&self, lines: &[String]) -> Result<(), String> {
        let mut child = spawn(self.command(PRODUCE).stdin(Stdio::piped()))?;
        let mut keyboard = child.0.stdin.take().ok_or("no pipe")?;
        for line in lines {
            writeln!(keyboard, "{line}").map_err(|e| e.to_string())?;
            std::thread::sleep(Duration::from_millis(50));
        }
        drop(keyboard);
        child.wait(PRODUCE)
    }

    /// Reads so many lines, then interrupts it.
    fn consume(&self, count: usize) -> Result<Vec<String>, String> {
        let mut child = spawn(self.command(CONSUME).stdout(Stdio::piped()))?;
        let out = child.0.stdout.take().ok_or("no pipe")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let end = Instant::now() + LIMIT;
        let mut read = Vec::new();
        while read.len() < count {
            let left = end.saturating_duration_since(Instant::now());
            let line = lines.recv_timeout(left);
            read.push(line.map_err(|_| format!("{CONSUME}: {} of {count} lines", read.len()))?);
        }
        let pid = child.0.id().to_string();
        let told = Command::new("kill").args(["-INT", &pid]).status();
        told.map_err(|e| e.to_string())?;
        // As for Kafka's tool the status of an interrupted consumer says that it was interrupted.
        let _ = child.wait(CONSUME);
        Ok(read)
    }
}

/// The same lines by Kafka's tools of one release; a topic `test` is there already.
fn theirs(tools: &mut ToolHost, version: &str, written: &mut Vec<String>) -> Result<(), String> {
    let mut run = |line: &str, typed: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let tool = words[0].trim_end_matches(".sh");
        tools.ok(tool, &words[1..], typed).map(|said| said.out)
    };
    run(DELETE, "")?;
    expect(CREATE, &run(CREATE, "")?, "Created topic test.")?;
    expect(LIST, &run(LIST, "")?, "test")?;
    let lines: Vec<String> = (1..=200).map(|n| format!("by {version} {n}")).collect();
    run(PRODUCE, &(lines.join("\n") + "\n"))?;
    written.extend(lines);
    // Without a number it would wait for more.
    let consume = format!(
        "{CONSUME} --max-messages {} --timeout-ms 30000",
        written.len()
    );
    let read = run(&consume, "")?;
    if !read.lines().eq(written.iter()) {
        return Err(format!(
            "{version} read other {} lines than the {} written",
            read.lines().count(),
            written.len()
        ));
    }
    println!(
        "  Kafka's {version}: topic made and listed, {} records read",
        written.len()
    );
    Ok(())
}

fn same(ours: &Ours, kafka: &mut ToolHost, line: &str) -> Result<(), String> {
    let we = ours.run(line)?;
    let words: Vec<&str> = line.split(' ').collect();
    let they = kafka
        .ok(words[0].trim_end_matches(".sh"), &words[1..], "")?
        .out;
    match in_order(&we) == in_order(&they) {
        true => Ok(()),
        false => Err(format!(
            "{line}\n-- ours says:\n{we}\n-- Kafka's says:\n{they}"
        )),
    }
}

/// Kafka's tools say some lists in the order of a hash table.
fn in_order(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

fn expect(line: &str, said: &str, wanted: &str) -> Result<(), String> {
    match said.lines().any(|said| said == wanted) {
        true => Ok(()),
        false => Err(format!("{line}\ndoes not say {wanted:?} but:\n{said}")),
    }
}

/// A child that does not outlive us.
struct Running(Child);

impl Running {
    fn wait(&mut self, line: &str) -> Result<(), String> {
        let end = Instant::now() + LIMIT;
        loop {
            match self.0.try_wait().map_err(|e| e.to_string())? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(format!("{line}: {status}")),
                None if Instant::now() > end => return Err(format!("{line}: does not end")),
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn spawn(command: &mut Command) -> Result<Running, String> {
    let child = command.spawn().map_err(|e| format!("{command:?}: {e}"))?;
    Ok(Running(child))
}

/// Its output, through a file so that no full pipe stops it.
fn finished(line: &str, command: &mut Command) -> Result<String, String> {
    let out = output_file()?;
    let writer = out.reopen().map_err(|e| e.to_string())?;
    spawn(command.stdout(writer))?.wait(line)?;
    read(out.path())
}

fn output_file() -> Result<tempfile::NamedTempFile, String> {
    tempfile::NamedTempFile::new().map_err(|e| e.to_string())
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}
