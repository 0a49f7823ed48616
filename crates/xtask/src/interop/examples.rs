//! The programs of `examples/`, as a person runs them: what README says of them is what they do, also when servers and
//! the broker die.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::java;
use super::place::Place;
use super::server::{End, Maker, Server};

const IN_TIME: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);

pub fn run() -> Result<(), String> {
    let python = python()?;
    let place = Place::standalone()?;
    place.format(Maker::Milena)?;
    let mut examples = Examples {
        server: Some(start(&place)?),
        place,
        python,
    };
    let checked = examples
        .request_and_reply()
        .and_then(|()| examples.fire_and_forget());
    let said = examples.server.as_ref().map(Server::said);
    checked.map_err(|why| {
        let said = said.unwrap_or_default();
        format!("{why}\n-- the broker said:\n{said}")
    })
}

/// A Python with what `examples/requirements.txt` says, made once by pip in the target directory.
fn python() -> Result<PathBuf, String> {
    let requirements = java::root().join("examples/requirements.txt");
    let venv = java::target_dir().join("examples-venv");
    let python = venv.join("bin/python3");
    let has_it = Command::new(&python)
        .args(["-c", "import confluent_kafka"])
        .stderr(Stdio::null())
        .status();
    if has_it.is_ok_and(|status| status.success()) {
        return Ok(python);
    }
    let mut make = Command::new("python3");
    make.args(["-m", "venv"]).arg(&venv);
    let mut install = Command::new(&python);
    install
        .args(["-m", "pip", "install", "--quiet", "--requirement"])
        .arg(requirements);
    for mut command in [make, install] {
        let status = command.status().map_err(|e| format!("{command:?}: {e}"))?;
        if !status.success() {
            return Err(format!("{command:?}: {status}"));
        }
    }
    Ok(python)
}

fn start(place: &Place) -> Result<Server, String> {
    let log = place.root.path().join("milena.log");
    Server::start(Maker::Milena, &place.properties(), place.port, &log)
}

struct Examples {
    place: Place,
    server: Option<Server>,
    python: PathBuf,
}

impl Examples {
    /// The program with these words, behind what `command` is so far.
    fn with(&self, mut command: Command, program: &str, words: &[&str]) -> Command {
        command.arg(java::root().join("examples").join(program));
        command.args(["--bootstrap-server", &self.place.bootstrap()]);
        command.args(words);
        command
    }

    fn background(&self, program: &str, words: &[&str]) -> Command {
        self.with(Command::new(&self.python), program, words)
    }

    /// Ended where it takes too long.
    fn command(&self, program: &str, words: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", "120"]).arg(&self.python);
        self.with(command, program, words)
    }

    fn says(&self, program: &str, words: &[&str], wanted: &str) -> Result<(), String> {
        let output = self.command(program, words).output();
        let said = text(output.map_err(|e| e.to_string())?);
        match said.contains(wanted) {
            true => Ok(()),
            false => Err(format!(
                "{program} {words:?} does not say {wanted:?} but:\n{said}"
            )),
        }
    }

    fn request_and_reply(&self) -> Result<(), String> {
        let program = "request_reply.py";
        let nobody = ["--timeout", "2", "ask", "100"];
        self.says(program, &nobody, "100: no answer within 2 s")?;
        let mut servers = Vec::new();
        for index in 0..2 {
            servers.push(Background::start(
                self.background(program, &["serve"]),
                &self.place.root.path().join(format!("serve-{index}")),
            )?);
        }
        for server in &servers {
            server.says("serving")?;
        }
        let numbers: Vec<String> = (980..1020).map(|n| n.to_string()).collect();
        let mut words = vec!["--timeout", "30", "ask"];
        words.extend(numbers.iter().map(String::as_str));
        let granted = |n: &i32| if *n < 1000 { "granted" } else { "refused" };
        let lines = (980..1020).map(|n| format!("{n}: {}\n", granted(&n)));
        let answers: String = lines.collect();
        self.says(program, &words, &answers)?;
        // What one of them would have answered, the other does after the session timeout.
        drop(servers.pop());
        self.says(program, &words, &answers)?;
        println!(
            "  request_reply.py: 81 requests, 2 servers, 1 killed; 80 answers and 1 timeout as said"
        );
        Ok(())
    }

    fn fire_and_forget(&mut self) -> Result<(), String> {
        let program = "fire_and_forget.py";
        self.create("measurements", &[])?;
        let all_told = "done=10000 refused=0 unsent=0";
        self.says(program, &["send", "10000"], all_told)?;
        let all_there = "there=10000 missing=0 repeated=0";
        self.says(program, &["count", "10000"], all_there)?;
        // What the broker refuses is lost, and only who asks for an answer is told.
        self.create("small", &["--config", "max.message.bytes=100"])?;
        let sent = |acks| {
            [
                "--topic", "small", "--bytes", "1000", "--acks", acks, "send", "20",
            ]
        };
        self.says(program, &sent("0"), "done=20 refused=0 unsent=0")?;
        self.says(program, &sent("all"), "done=0 refused=20 unsent=0")?;
        let none = "there=0 missing=20 repeated=0";
        self.says(program, &["--topic", "small", "count", "20"], none)?;
        let lost = self.killed("0")?;
        let kept = self.killed("all")?;
        if lost == 0 || kept != 0 {
            return Err(format!(
                "a broker that was killed lost {lost} with acks=0, {kept} with acks=all"
            ));
        }
        println!(
            "  fire_and_forget.py: 16,060 records; a killed broker lost {lost} of 3,000 with acks=0, none with acks=all"
        );
        Ok(())
    }

    /// How many records that the client took for sent are missing after the broker has been killed amid them. It stands
    /// still before, so that some are on their way for certain.
    fn killed(&mut self, acks: &str) -> Result<u64, String> {
        let topic = format!("killed-{acks}");
        self.create(&topic, &[])?;
        let words = [
            "--topic",
            &topic,
            "--acks",
            acks,
            "--pause-ms",
            "1",
            "send",
            "3000",
        ];
        let said = self.place.root.path().join(format!("send-{acks}"));
        let sender = Background::start(self.background("fire_and_forget.py", &words), &said)?;
        let log = format!("{topic}-0/00000000000000000000.log");
        let log = self.place.data().join(log);
        until("the first records", || {
            fs::metadata(&log).is_ok_and(|meta| meta.len() > 1_000)
        })?;
        let server = self.server.take().ok_or("no broker runs")?;
        let pid = server.pid().to_string();
        let stopped = Command::new("kill").args(["-STOP", &pid]).status();
        stopped.map_err(|e| format!("kill -STOP: {e}"))?;
        std::thread::sleep(Duration::from_millis(500));
        server.end(End::Killed)?;
        self.server = Some(start(&self.place)?);
        sender.says("done=3000 refused=0 unsent=0")?;
        let count = ["--topic", &topic, "count", "3000"];
        let output = self.command("fire_and_forget.py", &count).output();
        let said = text(output.map_err(|e| e.to_string())?);
        let missing = said
            .split(' ')
            .find_map(|word| word.strip_prefix("missing="));
        let missing = missing.and_then(|number| number.parse().ok());
        missing.ok_or_else(|| format!("count says {said}"))
    }

    fn create(&self, topic: &str, more: &[&str]) -> Result<(), String> {
        let bootstrap = self.place.bootstrap();
        let mut command = Command::new(super::server::milena()?);
        command.args(["kafka-topics", "--bootstrap-server", &bootstrap]);
        command.args(["--create", "--partitions", "1", "--topic", topic]);
        let output = command.args(more).output().map_err(|e| e.to_string())?;
        match output.status.success() {
            true => Ok(()),
            false => Err(text(output)),
        }
    }
}

fn text(output: Output) -> String {
    let [out, err] = [output.stdout, output.stderr].map(|bytes| {
        let text = String::from_utf8_lossy(&bytes);
        text.into_owned()
    });
    out + &err
}

fn until(what: &str, mut holds: impl FnMut() -> bool) -> Result<(), String> {
    let deadline = Instant::now() + IN_TIME;
    while !holds() {
        if Instant::now() > deadline {
            return Err(format!("{what}: not in time"));
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// A program that goes on beside; killed when it is dropped.
struct Background {
    child: Child,
    said: PathBuf,
}

impl Background {
    fn start(mut command: Command, said: &Path) -> Result<Background, String> {
        let out = File::create(said).map_err(|e| e.to_string())?;
        let err = out.try_clone().map_err(|e| e.to_string())?;
        let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn();
        Ok(Background {
            child: child.map_err(|e| format!("{command:?}: {e}"))?,
            said: said.to_owned(),
        })
    }

    fn says(&self, wanted: &str) -> Result<(), String> {
        let said = || fs::read_to_string(&self.said).unwrap_or_default();
        until(wanted, || said().contains(wanted)).map_err(|why| format!("{why}:\n{}", said()))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
