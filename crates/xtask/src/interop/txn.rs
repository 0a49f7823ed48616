//! Transactions: in a directory that goes from Milena to Apache Kafka and back with open ones in it, in a cluster of both,
//! and a copy of a topic exactly once while the copier and the node are killed. The clients are Apache Kafka's own (`interop/java/Transactions.java`).

mod copy;
mod dirs;
mod mixed;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout};

use super::java;

pub fn run() -> Result<(), String> {
    mixed::run()?;
    dirs::run()?;
    copy::run()
}

/// Apache Kafka's clients in a JVM, one command after the other; dropping it ends it.
struct Clients {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Clients {
    fn start(bootstrap: &str) -> Result<Clients, String> {
        let mut child = java::start_answering("Transactions", java::KAFKA, &["say", bootstrap])?;
        let input = child.stdin.take().ok_or("no pipe to java")?;
        let output = child.stdout.take().ok_or("no pipe from java")?;
        Ok(Clients {
            child,
            input,
            output: BufReader::new(output),
        })
    }

    fn say(&mut self, command: &str) -> Result<String, String> {
        writeln!(self.input, "{command}").map_err(|e| format!("to java: {e}"))?;
        let mut line = String::new();
        let read = self.output.read_line(&mut line);
        match read.map_err(|e| format!("from java: {e}"))? {
            0 => Err(format!("the clients ended at {command}")),
            _ => Ok(line.trim_end().to_owned()),
        }
    }

    /// The answer must be this.
    fn expect(&mut self, command: &str, wanted: &str) -> Result<(), String> {
        let said = self.say(command)?;
        match said == wanted {
            true => Ok(()),
            false => Err(format!("{command}: {said:?} instead of {wanted:?}")),
        }
    }

    /// Commands that must go well.
    fn all(&mut self, commands: &[&str]) -> Result<(), String> {
        commands.iter().try_for_each(|c| self.expect(c, "ok"))
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}
