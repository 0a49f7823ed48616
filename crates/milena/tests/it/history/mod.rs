//! Random producers, transactions and readers at once, while nodes are killed, stopped and paused; and what they did and
//! saw is checked (`milena_testkit::history`).
//!
//! `MILENA_HISTORY_SEED`, `MILENA_HISTORY_FAULTS` and `MILENA_HISTORY_NODES` make another, a longer one, and one of three
//! nodes of it: `cargo xtask history`.

mod line;
mod nodes;
mod readers;
mod writers;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use milena_base::{Prng, Uuid};
use milena_testkit::history::{Op, Outcome, Report, Rules, Step, check};

use crate::replication::cluster::Client;
use crate::transactional::{NEW, OLD};
use nodes::{Faults, Nodes};

const TOPIC: &str = "history";
const PARTITIONS: i32 = 4;
/// Ops between two faults.
const OPS: u64 = 250;
const IN_TIME: Duration = Duration::from_secs(60);

/// What all clients of a run share.
struct World {
    /// Knows where the nodes are.
    client: Client,
    topic_id: Uuid,
    /// Produce and EndTxn of the clients with transactions.
    versions: (i16, i16),
    begun: Instant,
    values: AtomicU64,
    count: AtomicU64,
    /// Answers that did not come.
    lost: AtomicU64,
    ops: Mutex<Vec<Op>>,
    /// Producers go on.
    writing: AtomicBool,
    /// Nobody goes on: the run has failed.
    over: AtomicBool,
    /// Where readers are to come to, once all has been written.
    ends: Mutex<Option<Vec<i64>>>,
}

impl World {
    fn now(&self) -> u64 {
        self.begun.elapsed().as_micros() as u64
    }

    fn value(&self) -> u64 {
        self.values.fetch_add(1, Ordering::Relaxed)
    }

    fn is_writing(&self) -> bool {
        self.writing.load(Ordering::Relaxed)
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn note(&self, process: u32, began: u64, outcome: Outcome, steps: Vec<Step>) {
        let ended = self.now();
        self.count.fetch_add(1, Ordering::Relaxed);
        self.ops.lock().expect("nobody panicked").push(Op {
            process,
            began,
            ended,
            outcome,
            steps,
        });
    }

    fn await_ops(&self, count: u64) {
        let target = self.count.load(Ordering::Relaxed) + count;
        let deadline = Instant::now() + IN_TIME;
        while self.count.load(Ordering::Relaxed) < target {
            assert!(Instant::now() < deadline, "the clients stand still");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Lets all clients end, however the run ends.
struct EndAll<'a>(&'a World);

impl Drop for EndAll<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
        self.0.writing.store(false, Ordering::Relaxed);
    }
}

fn number(key: &str, default: u64) -> u64 {
    let text = std::env::var(key).ok();
    text.map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn a_history_with_faults_has_no_anomaly() {
    let seed = number("MILENA_HISTORY_SEED", 1);
    let faults = number("MILENA_HISTORY_FAULTS", 3);
    let nodes = number("MILENA_HISTORY_NODES", 1);
    for (protocol, versions, faults) in [("TV2", NEW, faults), ("TV1", OLD, faults.div_ceil(2))] {
        let (ops, met) = run(seed, versions, faults, nodes);
        let rules = Rules {
            read_to_the_end: true,
            moving_positions: false,
        };
        let report = check(&ops, rules);
        println!("history: {protocol} seed {seed} nodes {nodes}, {met:?}, {report}");
        judge(&report, &ops, protocol, seed);
    }
}

fn judge(report: &Report, ops: &[Op], protocol: &str, seed: u64) {
    if !report.anomalies.is_empty() {
        let lines = ops.iter().enumerate();
        let lines = lines.map(|(index, op)| format!("{index} {op:?}\n"));
        let path = format!("{}/history-{protocol}-{seed}", env!("CARGO_TARGET_TMPDIR"));
        std::fs::write(&path, lines.collect::<String>()).expect("it is written");
        panic!("anomalies; the ops are in {path}");
    }
    // Some of each: with fewer transactions begun, fewer are aborted.
    assert!(report.ok > 100 && report.failed > 3 && report.polled > 200);
}

fn run(seed: u64, versions: (i16, i16), faults: u64, count: u64) -> (Vec<Op>, Faults) {
    let mut nodes = Nodes::start(count);
    let client = nodes.client();
    nodes.create_topic(&client);
    let world = World {
        topic_id: client.any().expect("they run").topic_id(TOPIC),
        client: client.clone(),
        versions,
        begun: Instant::now(),
        values: AtomicU64::new(1),
        count: AtomicU64::new(0),
        lost: AtomicU64::new(0),
        ops: Mutex::new(Vec::new()),
        writing: AtomicBool::new(true),
        over: AtomicBool::new(false),
        ends: Mutex::new(None),
    };
    let mut prng = Prng::new(seed);
    let mut met = Faults::default();
    thread::scope(|scope| {
        let world = &world;
        let _end = EndAll(world);
        let mut writing = Vec::new();
        for process in 0..2 {
            let prng = prng.fork();
            writing.push(scope.spawn(move || writers::idempotent(world, process, prng)));
        }
        for process in 10..13 {
            let prng = prng.fork();
            writing.push(scope.spawn(move || writers::transactional(world, process, prng)));
        }
        let mut reading = Vec::new();
        for process in 20..22 {
            let prng = prng.fork();
            reading.push(scope.spawn(move || readers::reader(world, process, prng)));
        }
        for _ in 0..faults {
            world.await_ops(OPS);
            met.one(&mut prng, &mut nodes, &client);
        }
        world.await_ops(OPS);
        world.writing.store(false, Ordering::Relaxed);
        for writer in writing {
            writer.join().expect("a writer comes to its end");
        }
        *world.ends.lock().expect("nobody panicked") = Some(readers::stable_ends(world));
        for reader in reading {
            reader.join().expect("a reader comes to its end");
        }
    });
    met.answers_lost = world.lost.into_inner();
    (world.ops.into_inner().expect("nobody panicked"), met)
}
