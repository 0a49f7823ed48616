//! What a seed means: the shape of a cluster, its weather, and the faults that hit it. A plan is a value: a failing one is
//! made smaller by taking faults and work out of it ([`crate::shrink`]).

use std::fmt;

use milena_base::Prng;

/// Virtual time in nanoseconds since the run began.
pub type Time = u64;

pub const MICRO: Time = 1_000;
pub const MILLI: Time = 1_000_000;
pub const SECOND: Time = 1_000_000_000;

/// Faults begin within this time after the topics were created.
const FAULTY: Time = 25 * SECOND;

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles {
    pub controller: bool,
    pub broker: bool,
}

/// The cluster and its weather.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Node 1 is the first.
    pub nodes: Vec<Roles>,
    /// KIP-853 voters instead of `controller.quorum.voters`.
    pub dynamic_quorum: bool,
    /// Partitions of each topic. Every partition has three replicas, two of which must be in sync.
    pub topics: Vec<i32>,
    /// Acknowledged means durable (`flush.messages=1`): then all may lose their power.
    pub flushed: bool,
    /// Segments of 1 KiB instead of Kafka's gigabyte.
    pub small_segments: bool,
    /// A metadata snapshot after every few records instead of 20 MiB.
    pub small_snapshots: bool,
    /// Time of a message on its way, without spikes.
    pub delay: Time,
    /// One message in so many takes up to a hundred times as long; zero: none.
    pub spikes: u64,
    /// Each node's clock runs by up to so many thousandths faster or slower.
    pub skew: u64,
    pub producers: usize,
    /// Batches on their way for one partition.
    pub in_flight_max: usize,
}

/// Whom a fault hits: decided when it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// This node, as an index.
    Node(usize),
    /// The active controller.
    Controller,
    /// The leader of some partition; the number chooses among all.
    Leader(u64),
    /// A follower of some partition.
    Follower(u64),
}

/// Which way is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    Both,
    /// What it sends is lost.
    Out,
    /// What is sent to it is lost.
    In,
}

/// What goes wrong. Times are how long it lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// kill −9; with `at_call` at the so-many-th change of the disk from then on.
    Kill { down: Time, at_call: Option<u64> },
    /// The power goes: what was not synced is lost, each page with its own luck.
    Power { down: Time, at_call: Option<u64> },
    /// A stop by leave, and a start.
    Restart { down: Time },
    /// Stopped and continued (SIGSTOP, SIGCONT).
    Pause { time: Time },
    /// One of the node's threads does not run.
    Stall { mailbox: usize, time: Time },
    /// Cut off from all other nodes and clients.
    Isolate { cut: Cut, time: Time },
    /// Cut off from one other node.
    Part { other: usize, cut: Cut, time: Time },
    /// Every connection of the node ends; what is under way on it is lost.
    Reset,
    /// Its messages take so many times as long.
    Slow { factor: u64, time: Time },
    /// Its wall clock jumps: it is wrong by so many milliseconds from then on.
    Jump { millis: i64 },
    /// Its disk takes nothing more.
    Full { time: Time },
    /// One write or fsync of the node's partitions fails.
    Io { sync: bool },
    /// Every partition gets its preferred leader.
    Elect,
    /// A partition's replicas are put in another order, so that another broker is preferred, and that is elected.
    Reorder(u64),
}

/// One fault of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// After the workload began.
    pub at: Time,
    pub pick: Pick,
    pub kind: Kind,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of {:?}", self.kind, self.pick)
    }
}

/// Everything that a run does.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub shape: Shape,
    pub faults: Vec<Fault>,
    /// Batches that each producer sends.
    pub batches: u64,
}

impl Plan {
    pub fn of_seed(seed: u64) -> Plan {
        let mut prng = Prng::new(seed ^ 0x706c_616e);
        let shape = shape(&mut prng);
        let faults = faults(&shape, &mut prng);
        let batches = 20 + prng.below(100);
        Plan {
            seed,
            shape,
            faults,
            batches,
        }
    }

    /// When the last fault is over: everything is healed then.
    pub fn heals_at(&self) -> Time {
        let ends = self.faults.iter().map(|f| f.at + f.kind.time());
        ends.max().unwrap_or(0).min(FAULTY + 15 * SECOND) + 2 * SECOND
    }
}

impl Kind {
    /// How long it lasts.
    pub fn time(&self) -> Time {
        match self {
            Kind::Kill { down, .. } | Kind::Power { down, .. } | Kind::Restart { down } => *down,
            Kind::Pause { time }
            | Kind::Stall { time, .. }
            | Kind::Isolate { time, .. }
            | Kind::Part { time, .. }
            | Kind::Slow { time, .. }
            | Kind::Full { time } => *time,
            Kind::Reset | Kind::Jump { .. } | Kind::Io { .. } | Kind::Elect | Kind::Reorder(_) => 0,
        }
    }
}

fn shape(prng: &mut Prng) -> Shape {
    let both = Roles {
        controller: true,
        broker: true,
    };
    let alone = |controller| Roles {
        controller,
        broker: !controller,
    };
    let nodes = match prng.below(10) {
        0..7 => vec![both; 3],
        7 => vec![both, both, both, alone(false)],
        _ => [true, true, true, false, false, false].map(alone).to_vec(),
    };
    let delays = [100 * MICRO, 300 * MICRO, 2 * MILLI, 20 * MILLI];
    Shape {
        nodes,
        dynamic_quorum: prng.chance(1, 2),
        topics: (0..1 + prng.below(2))
            .map(|_| 1 + prng.below(2) as i32)
            .collect(),
        flushed: prng.chance(1, 4),
        small_segments: prng.chance(1, 2),
        small_snapshots: prng.chance(1, 2),
        delay: delays[prng.below(4) as usize],
        spikes: [0, 50, 500][prng.below(3) as usize],
        skew: [0, 0, 10, 50][prng.below(4) as usize],
        producers: 1 + prng.below(2) as usize,
        in_flight_max: 1 + prng.below(5) as usize,
    }
}

/// Some kinds of faults, then several of those.
fn faults(shape: &Shape, prng: &mut Prng) -> Vec<Fault> {
    let mut kinds: Vec<u64> = (0..KINDS).collect();
    prng.shuffle(&mut kinds);
    kinds.truncate(1 + prng.below(5) as usize);
    let count = 1 + prng.below(10);
    let mut faults: Vec<Fault> = (0..count)
        .map(|_| {
            let kind = kinds[prng.below(kinds.len() as u64) as usize];
            Fault {
                at: prng.below(FAULTY),
                pick: pick(shape, prng),
                kind: draw(kind, shape, prng),
            }
        })
        .collect();
    faults.sort_by_key(|fault| fault.at);
    faults
}

fn pick(shape: &Shape, prng: &mut Prng) -> Pick {
    let which = prng.next_u64();
    match prng.below(6) {
        0 => Pick::Controller,
        1 | 2 => Pick::Leader(which),
        3 => Pick::Follower(which),
        _ => Pick::Node((which % shape.nodes.len() as u64) as usize),
    }
}

/// Short, middling or long.
fn lasting(prng: &mut Prng) -> Time {
    match prng.below(3) {
        0 => prng.below(500 * MILLI),
        1 => prng.below(4 * SECOND),
        _ => prng.below(12 * SECOND),
    }
}

fn at_call(prng: &mut Prng) -> Option<u64> {
    prng.chance(1, 2).then(|| 1 + prng.below(40))
}

const KINDS: u64 = 14;
/// Milliseconds that a wall clock is wrong at most: brokers refuse records from more than an hour ahead.
const JUMP_MAX: u64 = 3_000_000;

fn draw(kind: u64, shape: &Shape, prng: &mut Prng) -> Kind {
    let time = lasting(prng);
    let cut = [Cut::Both, Cut::Out, Cut::In][prng.below(3) as usize];
    match kind {
        0 => Kind::Kill {
            down: time,
            at_call: at_call(prng),
        },
        1 => Kind::Power {
            down: time,
            at_call: at_call(prng),
        },
        2 => Kind::Restart { down: time },
        3 => Kind::Pause { time },
        4 => Kind::Stall {
            mailbox: prng.below(9) as usize,
            time,
        },
        5 => Kind::Isolate { cut, time },
        6 => Kind::Part {
            other: prng.below(shape.nodes.len() as u64) as usize,
            cut,
            time,
        },
        7 => Kind::Reset,
        8 => Kind::Slow {
            factor: 2 + prng.below(200),
            time,
        },
        9 => Kind::Jump {
            millis: prng.below(2 * JUMP_MAX) as i64 - JUMP_MAX as i64,
        },
        10 => Kind::Full { time },
        11 => Kind::Io {
            sync: prng.chance(1, 3),
        },
        12 => Kind::Elect,
        _ => Kind::Reorder(prng.next_u64()),
    }
}
