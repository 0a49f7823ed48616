//! A real process under test: started, listened to, stopped or killed; never left behind.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// What it has printed so far, and how many of its two streams have ended.
#[derive(Debug, Default)]
struct Output {
    lines: Vec<String>,
    streams_ended: u32,
}

type Shared = Arc<(Mutex<Output>, Condvar)>;

fn lock(output: &Mutex<Output>) -> MutexGuard<'_, Output> {
    output.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running child; dropping it kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    output: Shared,
}

impl Process {
    /// Starts a command with its output captured and nothing on its input.
    pub fn start(command: &mut Command) -> Process {
        command.stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let output = Shared::default();
        listen(child.stdout.take().expect("it is piped"), output.clone());
        listen(child.stderr.take().expect("it is piped"), output.clone());
        Process { child, output }
    }

    /// Waits for a line of stdout or stderr that contains `text`, from the start of the output on. Panics with
    /// the output where the process ends without it, or hangs for `limit`.
    pub fn wait_for(&self, text: &str, limit: Duration) -> String {
        let deadline = Instant::now() + limit;
        let (output, changed) = &*self.output;
        let mut output = lock(output);
        loop {
            if let Some(line) = output.lines.iter().find(|line| line.contains(text)) {
                return line.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if output.streams_ended == 2 || left.is_zero() {
                let said = output.lines.join("\n");
                panic!("no line with {text:?} within {limit:?}; it said:\n{said}");
            }
            let waited = changed.wait_timeout(output, left);
            output = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// All it has printed so far, both streams, a line each.
    pub fn output(&self) -> String {
        lock(&self.output.0).lines.join("\n")
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended; `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap_or_else(|e| panic!("{signal:?} to {pid:?}: {e}"));
    }

    /// SIGTERM, then waits for its end. Panics with its output where it hangs for `limit`.
    pub fn stop(&mut self, limit: Duration) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait(limit)
    }

    /// Waits for its end. Panics with its output where it hangs for `limit`.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            let hangs = Instant::now() > deadline;
            assert!(!hangs, "it does not end; it said:\n{}", self.output());
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            eprintln!("--- output of process {}\n{}", self.id(), self.output());
        }
    }
}

fn listen(stream: impl Read + Send + 'static, output: Shared) {
    thread::spawn(move || {
        let (output, changed) = &*output;
        for line in BufReader::new(stream).split(b'\n') {
            let Ok(line) = line else { break };
            let line = String::from_utf8_lossy(&line).into_owned();
            lock(output).lines.push(line);
            changed.notify_all();
        }
        lock(output).streams_ended += 1;
        changed.notify_all();
    });
}

/// Loopback ports that were free a moment ago, all different: for addresses that must be known before a node
/// listens. Where a node can listen on port 0, that is better.
pub fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("it is bound").port())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    #[test]
    fn its_lines_are_heard_and_it_is_stopped() {
        let mut shell = Command::new("sh");
        let script = "trap 'echo bye; exit 3' TERM; echo ready >&2; while :; do sleep 0.01; done";
        let mut process = Process::start(shell.args(["-c", script]));
        assert_eq!(process.wait_for("read", LIMIT), "ready");
        assert_eq!(process.ended(), None);
        assert_eq!(process.stop(LIMIT).code(), Some(3));
        process.wait_for("bye", LIMIT);
        assert_eq!(process.output(), "ready\nbye");
    }

    #[test]
    #[should_panic = "it said:\nonly this"]
    fn a_process_that_ends_without_the_line_is_a_failure_at_once() {
        let process = Process::start(Command::new("echo").arg("only this"));
        process.wait_for("ready", LIMIT);
    }
}
