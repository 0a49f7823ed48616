//! One simulated node: its disk, its clock, and, while it lives, the same parts that `node` gives threads to.

use std::collections::VecDeque;
use std::sync::Arc;

use milena_base::{Instant, Now, Timestamp};
use milena_broker::start::Parts;
use milena_broker::{
    Broker, Followers, Groups, Housekeeper, InSync, Lifecycle, ListenerKind, Mailbox, Outbox, Post,
    Publisher, Quorum, ToController, Transactions,
};
use milena_config::NodeConfig;
use milena_disk::SimDisk;

use crate::link::Links;
use crate::plan::{MILLI, Time};

/// Milliseconds since 1970 at virtual time zero.
const WALL_AT_ZERO: i64 = 1_795_440_000_000;
/// A rate of 1: a node's clock against true time.
pub const RATE_ONE: u64 = 1000;

pub const MAILBOXES: usize = 9;
pub const QUORUM: usize = 0;
pub const METADATA: usize = 1;
const GROUPS: usize = 2;
const LIFECYCLE: usize = 3;
const TO_CONTROLLER: usize = 4;
const HOUSEKEEPING: usize = 5;
const FOLLOWERS: usize = 6;
const INSYNC: usize = 7;
const TRANSACTIONS: usize = 8;
/// Their names, as `node` names their threads.
pub const NAMES: [&str; MAILBOXES] = [
    "quorum",
    "metadata",
    "groups",
    "lifecycle",
    "to-controller",
    "housekeeping",
    "followers",
    "insync",
    "transactions",
];

/// A mailbox with what was posted to it.
struct Held<M: Mailbox> {
    mailbox: M,
    queue: VecDeque<M::Event>,
}

impl<M: Mailbox> Held<M> {
    fn new(mailbox: M) -> Held<M> {
        Held {
            mailbox,
            queue: VecDeque::new(),
        }
    }

    fn take(&mut self, event: M::Event, slot: usize) -> usize {
        self.queue.push_back(event);
        slot
    }
}

/// What the scheduler needs of a mailbox.
trait Runs {
    /// One event, or the tick that is due.
    fn run(&mut self, now: Now, out: &mut Outbox);
    fn is_pending(&self) -> bool;
    fn deadline(&self) -> Instant;
    fn is_finished(&self) -> bool;
}

impl<M: Mailbox> Runs for Held<M> {
    fn run(&mut self, now: Now, out: &mut Outbox) {
        match self.queue.pop_front() {
            Some(event) => self.mailbox.step(event, now, out),
            None if self.mailbox.deadline() <= now.mono => self.mailbox.tick(now, out),
            None => {}
        }
    }

    fn is_pending(&self) -> bool {
        !self.queue.is_empty()
    }

    fn deadline(&self) -> Instant {
        self.mailbox.deadline()
    }

    fn is_finished(&self) -> bool {
        self.mailbox.is_finished()
    }
}

/// When a mailbox runs next.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// The event that is scheduled; `Time::MAX` where none is.
    pub next: Time,
    /// Its thread is busy until then.
    pub free_at: Time,
    /// Ticks in a row that moved no deadline.
    pub idle_ticks: u32,
    pub gone: bool,
}

/// A running process.
pub struct Live {
    pub broker: Arc<Broker>,
    quorum: Held<Quorum>,
    metadata: Held<Publisher>,
    groups: Held<Groups>,
    lifecycle: Held<Lifecycle>,
    to_controller: Held<ToController>,
    housekeeping: Held<Housekeeper>,
    followers: Held<Followers>,
    insync: Held<InSync>,
    transactions: Held<Transactions>,
    pub slots: [Slot; MAILBOXES],
    pub waiters_at: Time,
    pub links: Links,
    /// Clients are served, as far as the controller knows.
    pub unfenced: bool,
    /// It has left the cluster: only the quorum runs on.
    pub left: bool,
}

impl Live {
    pub fn new(parts: Parts, now: Time) -> Live {
        let slot = Slot {
            next: Time::MAX,
            free_at: now,
            idle_ticks: 0,
            gone: false,
        };
        Live {
            broker: parts.broker,
            quorum: Held::new(parts.quorum),
            metadata: Held::new(parts.publisher),
            groups: Held::new(parts.groups),
            lifecycle: Held::new(parts.lifecycle),
            to_controller: Held::new(parts.to_controller),
            housekeeping: Held::new(parts.housekeeper),
            followers: Held::new(parts.followers),
            insync: Held::new(parts.insync),
            transactions: Held::new(parts.transactions),
            slots: [slot; MAILBOXES],
            waiters_at: Time::MAX,
            links: Links::default(),
            unfenced: false,
            left: false,
        }
    }

    /// Whether connections to a listener are taken: brokers' from when they are unfenced, as `node` does it.
    pub fn serves(&self, listener: usize) -> bool {
        self.unfenced || self.broker.listener_kind(listener) == ListenerKind::Controller
    }

    pub fn quorum(&self) -> &Quorum {
        &self.quorum.mailbox
    }

    fn held(&mut self, slot: usize) -> &mut dyn Runs {
        match slot {
            QUORUM => &mut self.quorum,
            METADATA => &mut self.metadata,
            GROUPS => &mut self.groups,
            LIFECYCLE => &mut self.lifecycle,
            TO_CONTROLLER => &mut self.to_controller,
            HOUSEKEEPING => &mut self.housekeeping,
            FOLLOWERS => &mut self.followers,
            INSYNC => &mut self.insync,
            TRANSACTIONS => &mut self.transactions,
            _ => unreachable!("there are {MAILBOXES} mailboxes"),
        }
    }

    /// Runs one event or tick of a mailbox.
    pub fn run(&mut self, slot: usize, now: Now, out: &mut Outbox) {
        let (pending, due) = (
            self.held(slot).is_pending(),
            self.held(slot).deadline() <= now.mono,
        );
        self.held(slot).run(now, out);
        let spins = !pending && due && self.held(slot).deadline() <= now.mono && out.is_empty();
        let finished = self.held(slot).is_finished();
        let state = &mut self.slots[slot];
        state.idle_ticks = if spins { state.idle_ticks + 1 } else { 0 };
        state.gone |= finished;
    }

    /// When a mailbox wants to run: now, at its deadline, or never.
    pub fn wanted(&mut self, slot: usize) -> Option<Wanted> {
        if self.slots[slot].gone {
            return None;
        }
        let held = self.held(slot);
        match (held.is_pending(), held.deadline()) {
            (true, _) => Some(Wanted::Soon),
            (false, Instant::NEVER) => None,
            (false, at) => Some(Wanted::At(at)),
        }
    }

    /// Puts an event into its mailbox and names that; what is for no mailbox comes back.
    pub fn post(&mut self, post: Post) -> Result<usize, Box<Post>> {
        Ok(match post {
            Post::Quorum(event) => self.quorum.take(event, QUORUM),
            Post::Metadata(event) => self.metadata.take(event, METADATA),
            Post::Groups(event) => self.groups.take(event, GROUPS),
            Post::Lifecycle(event) => self.lifecycle.take(event, LIFECYCLE),
            Post::ToController(event) => self.to_controller.take(event, TO_CONTROLLER),
            Post::Chore(chore) => self.housekeeping.take(chore, HOUSEKEEPING),
            Post::Followers(event) => self.followers.take(event, FOLLOWERS),
            Post::InSync(event) => self.insync.take(event, INSYNC),
            Post::Transactions(event) => self.transactions.take(event, TRANSACTIONS),
            other => return Err(Box::new(other)),
        })
    }
}

/// See [`Live::wanted`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Soon,
    At(Instant),
}

/// How the last life of a node ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Cleanly,
    Killed,
    /// What was not synced is gone.
    Powerless,
}

/// A machine with one node on it.
pub struct Node {
    pub index: usize,
    pub config: NodeConfig,
    pub disk: SimDisk,
    pub seed: u64,
    pub live: Option<Live>,
    /// Counts its lives: events of an earlier one are dropped.
    pub life: u32,
    pub booted_at: Time,
    pub rate: u64,
    pub wall_offset: i64,
    pub paused_until: Time,
    pub slow: u64,
    pub ended: Ended,
    /// It has not been in every in-sync set again since its unclean end.
    pub unrecovered: bool,
    /// A fault of its disk: a halt is no surprise.
    pub disk_failed: bool,
    /// What becomes of it when the disk reaches the armed call: the power, or the process alone; and for how long.
    pub armed: Option<(Ended, Time)>,
    pub down_for: Time,
    pub starts: u32,
}

impl Node {
    pub fn id(&self) -> i32 {
        self.index as i32 + 1
    }

    pub fn name(&self) -> String {
        format!("n{}", self.id())
    }

    pub fn clock(&self, at: Time) -> Now {
        let run = u128::from(at - self.booted_at.min(at)) * u128::from(self.rate);
        Now {
            mono: Instant((run / u128::from(RATE_ONE)) as u64),
            wall: Timestamp(WALL_AT_ZERO + (at / MILLI) as i64 + self.wall_offset),
        }
    }

    /// True time of an instant of this node's clock, rounded up.
    pub fn time_of(&self, at: Instant) -> Time {
        if at == Instant::NEVER {
            return Time::MAX;
        }
        let run = u128::from(at.0) * u128::from(RATE_ONE);
        let run = run.div_ceil(u128::from(self.rate)) as u64;
        self.booted_at.saturating_add(run)
    }
}
