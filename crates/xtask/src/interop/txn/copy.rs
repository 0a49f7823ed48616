//! A copy of 100,000 records exactly once, by a consumer and a transactional producer, while both the copier and the node
//! are killed again and again.

use std::io::{BufRead, BufReader};
use std::process::Child;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use milena_base::Prng;

use super::dirs::place;
use crate::interop::java;
use crate::interop::place::Place;
use crate::interop::server::{End, Maker, Server};

const PARTITIONS: u64 = 4;
const RECORDS: u64 = 100_000;
/// Kills of the node, each followed by one of the copier.
const ROUNDS: u64 = 4;
/// About how long a transaction of the copier takes.
const TRANSACTION_MS: u64 = 40;
const IN_TIME: Duration = Duration::from_secs(180);

pub fn run() -> Result<(), String> {
    let place = place()?;
    place.format(Maker::Milena)?;
    let mut run = Run {
        log: place.root.path().join("milena.log"),
        bootstrap: place.bootstrap(),
        place,
        copied: 0,
        aborted: 0,
        deadline: Instant::now() + IN_TIME,
    };
    let server = run.start()?;
    let each = (RECORDS / PARTITIONS).to_string();
    let filled = run.java(&["fill", &run.bootstrap, "in", &PARTITIONS.to_string(), &each])?;
    if filled != [RECORDS.to_string()] {
        return Err(format!("the topic was filled with {filled:?}"));
    }
    let server = run.copy(server)?;
    let checked = run.check();
    checked.map_err(|why| format!("{why}\n-- the broker said:\n{}", server.said()))?;
    server.end(End::Clean)
}

struct Run {
    place: Place,
    log: std::path::PathBuf,
    bootstrap: String,
    /// As the copiers tell; those of their last transactions may be missing.
    copied: u64,
    aborted: u64,
    deadline: Instant,
}

/// A copier that runs; dropping it kills it.
struct Copier {
    child: Child,
    lines: Receiver<String>,
    /// What it has told so far.
    copied: u64,
}

impl Drop for Copier {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

/// How a copier was left.
#[derive(PartialEq, Eq)]
enum Left {
    Running,
    Done,
}

impl Run {
    fn start(&self) -> Result<Server, String> {
        Server::start(
            Maker::Milena,
            &self.place.properties(),
            self.place.port,
            &self.log,
        )
    }

    fn java(&self, words: &[&str]) -> Result<Vec<String>, String> {
        let child = java::start_answering("Transactions", java::KAFKA, words)?;
        let output = child.wait_with_output().map_err(|e| e.to_string())?;
        if !output.status.success() {
            return Err(format!("Transactions {words:?}: {}", output.status));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text.lines().map(str::to_owned).collect())
    }

    fn copier(&self) -> Result<Copier, String> {
        let words = ["copy", &self.bootstrap, "in", "copiers", "copier"];
        let mut child = java::start_answering("Transactions", java::KAFKA, &words)?;
        let stdout = child.stdout.take().ok_or("no pipe from java")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Copier {
            child,
            lines,
            copied: 0,
        })
    }

    /// Copies everything; gives the node that runs at the end.
    fn copy(&mut self, mut server: Server) -> Result<Server, String> {
        let mut copier = self.copier()?;
        let faults = 2 * ROUNDS;
        for fault in 0..faults {
            let until = RECORDS * (fault + 1) / (faults + 1);
            if self.follow(&mut copier, until)? == Left::Done {
                return Err(format!("all was copied before the kill at {until} records"));
            }
            // Somewhere within a transaction, not always between two.
            let pause = Prng::new(fault).below(TRANSACTION_MS);
            std::thread::sleep(Duration::from_millis(pause));
            match fault % 2 {
                0 => {
                    server.end(End::Killed)?;
                    server = self.start()?;
                }
                _ => {
                    drop(copier);
                    copier = self.copier()?;
                }
            }
        }
        match self.follow(&mut copier, u64::MAX)? {
            Left::Done => Ok(server),
            Left::Running => Err("the copier did not end".into()),
        }
    }

    /// Until so much is copied, or all.
    fn follow(&mut self, copier: &mut Copier, until: u64) -> Result<Left, String> {
        while self.copied < until {
            let left = self.deadline.saturating_duration_since(Instant::now());
            let line = match copier.lines.recv_timeout(left) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => {
                    return Err(format!("only {} records were copied in time", self.copied));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(format!("the copier failed after {} records", self.copied));
                }
            };
            match line.split_once(' ') {
                Some(("copied", count)) => {
                    let count: u64 = count.parse().map_err(|_| line.clone())?;
                    self.copied += count - copier.copied;
                    copier.copied = count;
                }
                Some(("aborted", _)) => self.aborted += 1,
                Some(("done", _)) => return Ok(Left::Done),
                _ => return Err(format!("the copier says {line:?}")),
            }
        }
        Ok(Left::Running)
    }

    fn check(&self) -> Result<(), String> {
        let lines = self.java(&["check", &self.bootstrap, "in"])?;
        // Records, those out of place, different last numbers, and the sum of the last numbers.
        let wanted = format!("read_committed {RECORDS} 0 1 {RECORDS}");
        let [committed, all] = &lines[..] else {
            return Err(format!("the check says {lines:?}"));
        };
        if *committed != wanted {
            return Err(format!("the copy is {committed:?} instead of {wanted:?}"));
        }
        let written: u64 = all
            .split(' ')
            .nth(1)
            .and_then(|count| count.parse().ok())
            .ok_or_else(|| format!("the check says {all:?}"))?;
        println!(
            "  copied {RECORDS} records of {PARTITIONS} partitions exactly once and in order, with {ROUNDS} kills of the node \
             and {ROUNDS} of the copier; {} transactions were aborted by the copier, {} records written and not committed",
            self.aborted,
            written - RECORDS,
        );
        Ok(())
    }
}
