//! A line on the terminal while work takes longer than a second: what is done, and for how long. It is on standard
//! error, and only where that is a terminal; what the tool says takes its place.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Work that is done sooner says nothing.
const QUIET: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(250);

/// Whether a line stands on the terminal now. Held while it is drawn.
static DRAWN: Mutex<bool> = Mutex::new(false);

/// How much is done, in bytes.
#[derive(Debug, Default)]
struct Done {
    done: AtomicU64,
    /// 0 where nobody knows.
    all: AtomicU64,
}

/// Work under way; its end takes the line away.
pub struct Progress {
    done: Arc<Done>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// Begins to watch; `what` is a phrase like `Waiting for localhost:9092`.
    pub fn of(what: &str) -> Progress {
        let done = Arc::new(Done::default());
        if !std::io::stderr().is_terminal() {
            return Progress {
                done,
                stop: None,
                thread: None,
            };
        }
        let (stop, stopped) = channel();
        let (what, seen) = (what.to_owned(), done.clone());
        let draw = move || {
            let begun = Instant::now();
            let mut pause = QUIET;
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(pause) {
                pause = PAUSE;
                show(&line(&what, &seen, begun.elapsed()));
            }
            hide();
        };
        Progress {
            done,
            stop: Some(stop),
            thread: Some(std::thread::spawn(draw)),
        }
    }

    /// How many bytes of how many are done.
    pub fn at(&self, done: u64, all: u64) {
        self.done.all.store(all, Ordering::Relaxed);
        self.done.done.store(done, Ordering::Relaxed);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // It only draws.
            let _ = thread.join();
        }
    }
}

/// Runs a call to a cluster; the terminal shows how long it has been waited for.
pub fn run<F: Future>(future: F) -> F::Output {
    let _waiting = Progress::of("Waiting for the cluster");
    milena_client::run(future)
}

fn line(what: &str, done: &Done, since: Duration) -> String {
    let (at, all) = (
        done.done.load(Ordering::Relaxed),
        done.all.load(Ordering::Relaxed),
    );
    let seconds = since.as_secs();
    match all {
        0 => format!("{what} for {seconds} s"),
        all => {
            let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
            let percent = at.min(all) * 100 / all;
            format!(
                "{what}: {:.0} of {:.0} MiB, {percent} %, {seconds} s",
                mib(at),
                mib(all)
            )
        }
    }
}

fn show(line: &str) {
    let mut drawn = DRAWN.lock().expect("nothing panics with the lock");
    *drawn = true;
    let mut stderr = std::io::stderr();
    let _ = write!(stderr, "\r\x1b[K{line}").and_then(|()| stderr.flush());
}

/// Takes the line away, before something else is said.
pub fn hide() {
    let mut drawn = DRAWN.lock().expect("nothing panics with the lock");
    if std::mem::take(&mut *drawn) {
        let mut stderr = std::io::stderr();
        let _ = write!(stderr, "\r\x1b[K").and_then(|()| stderr.flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_much_is_done() {
        let done = Done::default();
        let after = Duration::from_millis(2300);
        assert_eq!(line("Waiting", &done, after), "Waiting for 2 s");
        done.all.store(4 << 20, Ordering::Relaxed);
        done.done.store(1 << 20, Ordering::Relaxed);
        assert_eq!(
            line("Reading x", &done, after),
            "Reading x: 1 of 4 MiB, 25 %, 2 s"
        );
    }
}
