//! Faults in random order, from a seed: nodes are killed, stopped in order, made to stand still, cut off from the others in
//! one direction or both, and lose their connections, while writers and a reader go on.
//!
//! The short form runs with the other tests, on loopback. `cargo xtask faults` runs the long one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use milena_base::Prng;

use super::cluster::{Client, Cluster};
use super::moves::Reader;
use super::network::{Network, Spaces};
use super::{Workload, assert_kept_once};
use crate::cluster::until;

const TOPIC: &str = "kept";
const GROUP: &str = "watchers";
/// Between a writer's batches: the reader is to keep up.
const PAUSE: Duration = Duration::from_millis(10);
/// How long the reader may need for what is left when the writers have ended.
const READ_PATIENCE: Duration = Duration::from_secs(180);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// SIGKILL, and a start.
    Kill,
    /// SIGTERM, and a start.
    Restart,
    /// SIGSTOP, and SIGCONT when others have taken over.
    Pause,
    /// SIGSTOP, and SIGCONT before anybody has noticed.
    ShortPause,
    /// Its packets reach nobody, and nobody's reach it.
    Isolate,
    /// Its packets reach nobody.
    OneWay,
    /// Its connections end.
    Disconnect,
}

const ON_LOOPBACK: [Fault; 4] = [Fault::Kill, Fault::Pause, Fault::Restart, Fault::ShortPause];
const BETWEEN_SPACES: [Fault; 3] = [Fault::Isolate, Fault::OneWay, Fault::Disconnect];

/// Whom it meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Leader,
    Follower,
    Controller,
}

struct Plan {
    seed: u64,
    faults: usize,
    records: i64,
    network: Network,
}

struct Run {
    cluster: Cluster,
    client: Client,
    workload: Workload,
    prng: Prng,
    /// From the fault until every writer had gone on.
    slowest: Duration,
    counts: BTreeMap<(Fault, Target), u32>,
}

impl Run {
    fn start(plan: Plan) -> Run {
        let cluster = Cluster::start_in(plan.network);
        let client = cluster.client();
        client.create_topic(TOPIC, &[&[1, 2, 3], &[2, 3, 1], &[3, 1, 2]], 2);
        Run {
            workload: Workload::start(&client, TOPIC, PAUSE),
            cluster,
            client,
            prng: Prng::new(plan.seed),
            slowest: Duration::ZERO,
            counts: BTreeMap::new(),
        }
    }

    fn node_of(&mut self, target: Target) -> i32 {
        let partition = self.prng.below(3) as i32;
        let client = &self.client;
        let leader = until("a leader", || client.leader(TOPIC, partition)).0;
        match target {
            Target::Leader => leader,
            Target::Follower => leader % 3 + 1,
            Target::Controller => until("a controller", || client.active_controller()),
        }
    }

    fn strike(&mut self, fault: Fault, target: Target) {
        let id = self.node_of(target);
        *self.counts.entry((fault, target)).or_default() += 1;
        println!("  {fault:?} of a {target:?}, node {id}");
        let begun = Instant::now();
        match fault {
            Fault::Kill => {
                self.cluster.kill(id);
                self.goes_on(fault);
                self.cluster.restart(id);
            }
            Fault::Restart => {
                self.cluster.stop(id);
                self.cluster.restart(id);
                self.goes_on(fault);
            }
            Fault::Pause | Fault::ShortPause => {
                self.cluster.node(id).pause();
                match fault {
                    Fault::Pause => self.goes_on(fault),
                    _ => std::thread::sleep(Duration::from_millis(self.prng.below(1500))),
                }
                self.cluster.node(id).resume();
                self.goes_on(fault);
            }
            Fault::Isolate | Fault::OneWay => self.cut_off(id, fault),
            Fault::Disconnect => {
                if let Network::Spaces(spaces) = &self.cluster.network {
                    assert!(spaces.end_connections(id), "ss -K");
                }
                self.goes_on(fault);
            }
        }
        let took = begun.elapsed();
        println!("    {took:?}");
        self.slowest = self.slowest.max(took);
    }

    fn goes_on(&self, fault: Fault) {
        self.workload.goes_on(&format!("records after {fault:?}"));
    }

    fn cut_off(&mut self, id: i32, fault: Fault) {
        let others: Vec<i32> = (1..=3).filter(|other| *other != id).collect();
        let pairs = |both: bool| {
            let out = others.iter().map(move |other| (id, *other));
            let back = others.iter().map(move |other| (*other, id));
            out.chain(back.filter(move |_| both)).collect::<Vec<_>>()
        };
        let pairs = pairs(fault == Fault::Isolate);
        let Network::Spaces(spaces) = &self.cluster.network else {
            return;
        };
        pairs.iter().for_each(|(from, to)| spaces.cut(*from, *to));
        self.goes_on(fault);
        pairs.iter().for_each(|(from, to)| spaces.mend(*from, *to));
    }

    /// All agree in the end, on what was acknowledged.
    fn finish(mut self, reader: Reader, records: i64) -> String {
        while self.workload.counts().iter().sum::<i64>() < records {
            self.workload.goes_on("as many records as were asked for");
        }
        let resent = self.workload.end();
        until("all in sync at the end", || self.client.all_in_sync(TOPIC));
        let acked = self.workload.counts();
        reader.reads_all(&self.client, &acked, READ_PATIENCE);
        let read = reader.stop();
        self.cluster.kill_all();
        let total = assert_kept_once(&self.cluster, TOPIC, &acked);
        let seen: i64 = read.values().map(|records| records.len() as i64).sum();
        format!(
            "{total} records acknowledged, {resent} batches sent again, {} read again, {:?} at most until all went on; 0 lost, 0 twice, 3 equal replicas of 3 partitions",
            seen - total,
            self.slowest
        )
    }
}

/// Faults of all kinds in turn, at random targets; now and then the next one comes before all is well again.
fn run(plan: Plan) {
    let Plan {
        seed,
        faults,
        records,
        ..
    } = plan;
    let mut kinds = ON_LOOPBACK.to_vec();
    if matches!(plan.network, Network::Spaces(_)) {
        kinds.extend(BETWEEN_SPACES);
    }
    let targets = [Target::Leader, Target::Controller, Target::Follower];
    let mut run = Run::start(plan);
    let reader = Reader::start(&run.cluster, TOPIC, GROUP, &["--enable-autocommit"]);
    run.workload.goes_on("records before the first fault");
    for at in 0..faults {
        if at % kinds.len() == 0 && at > 0 {
            run.prng.shuffle(&mut kinds);
        }
        let target = targets[run.prng.below(3) as usize];
        let target = if at == 0 { Target::Leader } else { target };
        run.strike(kinds[at % kinds.len()], target);
        if run.prng.chance(2, 3) {
            until("all in sync", || run.client.all_in_sync(TOPIC));
        }
    }
    let counts: Vec<String> = run
        .counts
        .iter()
        .map(|((fault, target), count)| format!("{count} × {fault:?} of a {target:?}"))
        .collect();
    let counts = counts.join(", ");
    let end = run.finish(reader, records);
    println!("seed {seed}: {faults} faults ({counts}): {end}");
}

#[test]
fn acknowledged_records_survive_faults() {
    run(Plan {
        seed: 1,
        faults: 3,
        records: 0,
        network: Network::Loopback,
    });
}

fn number(name: &str, default: u64) -> u64 {
    let given = std::env::var(name).ok();
    given.map_or(default, |text| text.parse().expect("a number"))
}

#[test]
#[ignore = "long: cargo xtask faults"]
fn many_faults() {
    let spaces = Spaces::make();
    if spaces.is_none() {
        println!("no network namespaces: only root may make them; nodes run on loopback");
    }
    run(Plan {
        seed: number("MILENA_FAULTS_SEED", 1),
        faults: number("MILENA_FAULTS", 50) as usize,
        records: number("MILENA_FAULTS_RECORDS", 100_000) as i64,
        network: spaces.map_or(Network::Loopback, Network::Spaces),
    });
}
