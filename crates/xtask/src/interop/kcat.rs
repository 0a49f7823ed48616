//! `kcat` (librdkafka) against Milena: what it writes it gets back, by every codec and query that it has.

use std::io::Write;
use std::process::{Command, Stdio};

use super::place::Place;
use super::server::{End, Maker, Server};

const LINES: usize = 100;
/// Seconds for one run of it.
const LIMIT: &str = "30";

pub fn run() -> Result<(), String> {
    let version = Command::new("kcat").arg("-V").output();
    let version =
        version.map_err(|e| format!("kcat is missing ({e}); it is Debian's package kcat"))?;
    let version = String::from_utf8_lossy(&version.stdout)
        .lines()
        .find(|line| line.starts_with("Version"))
        .unwrap_or_default()
        .trim()
        .to_owned();
    let place = Place::standalone()?;
    place.format(Maker::Milena)?;
    let log = place.root.path().join("milena.log");
    let server = Server::start(Maker::Milena, &place.properties(), place.port, &log)?;
    let mut kcat = Kcat {
        bootstrap: place.bootstrap(),
        runs: 0,
    };
    let checked = kcat.check();
    checked.map_err(|why| format!("{why}\n-- the broker said:\n{}", server.said()))?;
    server.end(End::Clean)?;
    println!("  {version}: {} runs as expected", kcat.runs);
    Ok(())
}

struct Kcat {
    bootstrap: String,
    runs: usize,
}

impl Kcat {
    fn check(&mut self) -> Result<(), String> {
        let lines: Vec<String> = (1..=LINES).map(|n| n.to_string()).collect();
        let typed = lines.join("\n") + "\n";
        self.says("brokers:", &["-L"], "")?;
        for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
            let topic = format!("codec-{codec}");
            self.run(&["-P", "-t", &topic, "-p", "0", "-z", codec], &typed)?;
            let read = self.run(
                &["-C", "-t", &topic, "-p", "0", "-o", "beginning", "-e", "-q"],
                "",
            )?;
            if read != typed {
                return Err(format!(
                    "kcat read other lines of {topic} than it wrote:\n{read}"
                ));
            }
        }
        self.headers_and_offsets()?;
        self.idempotent_and_group(&typed)
    }

    fn headers_and_offsets(&mut self) -> Result<(), String> {
        let produce = [
            "-P", "-t", "keys", "-K:", "-H", "a=1", "-H", "b=2", "-p", "0",
        ];
        self.run(&produce, "k1:v1\nk2:v2\n")?;
        let format = [
            "-C",
            "-t",
            "keys",
            "-p",
            "0",
            "-e",
            "-q",
            "-f",
            "%k %s %h %p %o\\n",
            "-o",
        ];
        let from = |at: &'static str| [&format[..], &[at]].concat();
        self.says(
            "k1 v1 a=1,b=2 0 0\nk2 v2 a=1,b=2 0 1\n",
            &from("beginning"),
            "",
        )?;
        self.says("k2 v2 a=1,b=2 0 1\n", &from("-1"), "")?;
        self.says("k2 v2 a=1,b=2 0 1\n", &from("1"), "")?;
        for (at, offset) in [("-1", "2"), ("-2", "0"), ("1", "0")] {
            self.says(
                &format!("offset {offset}"),
                &["-Q", "-t", &format!("keys:0:{at}")],
                "",
            )?;
        }
        Ok(())
    }

    fn idempotent_and_group(&mut self, typed: &str) -> Result<(), String> {
        self.run(
            &[
                "-P",
                "-t",
                "safe",
                "-p",
                "0",
                "-X",
                "enable.idempotence=true",
            ],
            typed,
        )?;
        let committed = ["-X", "isolation.level=read_committed"];
        let read = [
            &["-C", "-t", "safe", "-p", "0", "-o", "beginning", "-e", "-q"],
            &committed[..],
        ]
        .concat();
        let earliest = [
            "-G",
            "group",
            "-e",
            "-q",
            "-X",
            "auto.offset.reset=earliest",
            "safe",
        ];
        for words in [&read[..], &earliest] {
            let got = self.run(words, "")?;
            if got != typed {
                return Err(format!(
                    "kcat {words:?} read other lines than were written:\n{got}"
                ));
            }
        }
        match self.run(&earliest, "")?.as_str() {
            "" => Ok(()),
            again => Err(format!("the group reads what it has committed: {again}")),
        }
    }

    fn says(&mut self, wanted: &str, words: &[&str], typed: &str) -> Result<(), String> {
        let said = self.run(words, typed)?;
        match said.contains(wanted) {
            true => Ok(()),
            false => Err(format!(
                "kcat {words:?} does not say {wanted:?} but:\n{said}"
            )),
        }
    }

    fn run(&mut self, words: &[&str], typed: &str) -> Result<String, String> {
        self.runs += 1;
        let mut command = Command::new("timeout");
        command
            .args(["-k", "5", LIMIT, "kcat", "-b", &self.bootstrap])
            .args(words);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|e| format!("timeout: {e}"))?;
        let mut pipe = child.stdin.take().ok_or("no pipe")?;
        // It may end without reading everything; then its status tells.
        let _ = pipe.write_all(typed.as_bytes());
        drop(pipe);
        let output = child.wait_with_output().map_err(|e| e.to_string())?;
        let err = String::from_utf8_lossy(&output.stderr);
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(format!("kcat {words:?}: {}: {err}", output.status)),
        }
    }
}
