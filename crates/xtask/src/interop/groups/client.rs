//! A JVM with members of one group.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout};

use crate::interop::java;

pub struct Client {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

/// What its members saw.
pub struct Report {
    /// Calls that gave a member partitions.
    pub rebalances: u64,
    /// Times that a partition was with two members.
    pub shared: u64,
    pub records: u64,
    pub twice: u64,
}

impl Client {
    pub fn start(
        bootstrap: &str,
        group: &str,
        topic: &str,
        properties: &[String],
    ) -> Result<Client, String> {
        let mut arguments = vec![bootstrap, group, topic];
        arguments.extend(properties.iter().map(String::as_str));
        let mut child = java::start_answering("GroupFacts", java::KAFKA, &arguments)?;
        let stdin = child.stdin.take().ok_or("no pipe to java")?;
        let stdout = child.stdout.take().ok_or("no pipe from java")?;
        Ok(Client {
            child,
            stdin,
            stdout: BufReader::new(stdout),
        })
    }

    /// Tells it a line, and takes the answer.
    pub fn says(&mut self, line: &str) -> Result<String, String> {
        let io = |error: std::io::Error| format!("{line}: {error}");
        writeln!(self.stdin, "{line}").map_err(io)?;
        self.stdin.flush().map_err(io)?;
        let mut answer = String::new();
        self.stdout.read_line(&mut answer).map_err(io)?;
        match answer.trim_end() {
            ok if ok.starts_with("ok") => Ok(ok.to_owned()),
            other => Err(format!("{line}: {other:?}")),
        }
    }

    /// The number that it answers.
    pub fn number(&mut self, line: &str) -> Result<u64, String> {
        let answer = self.says(line)?;
        let number = answer.strip_prefix("ok ").and_then(|n| n.parse().ok());
        number.ok_or_else(|| format!("{line}: {answer:?}"))
    }

    pub fn report(&mut self) -> Result<Report, String> {
        let answer = self.says("report")?;
        let numbers: Vec<u64> = answer
            .split(' ')
            .skip(1)
            .filter_map(|n| n.parse().ok())
            .collect();
        match numbers[..] {
            [rebalances, shared, records, twice, _] => Ok(Report {
                rebalances,
                shared,
                records,
                twice,
            }),
            _ => Err(format!("report: {answer:?}")),
        }
    }

    pub fn kill(mut self) -> Result<(), String> {
        self.child.kill().map_err(|e| e.to_string())
    }

    /// Its members leave.
    pub fn end(mut self) -> Result<(), String> {
        let members = self.number("members")?;
        self.says(&format!("close {members}")).map(drop)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
