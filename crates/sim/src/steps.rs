//! Running a node's parts: mailboxes, parked requests, and what they cause.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use milena_base::Now;
use milena_broker::{Outbox, Post, QuorumEvent};
use milena_disk::Op;

use crate::atlas::broken;
use crate::node::{Ended, Live, QUORUM, Wanted};
use crate::plan::{MICRO, SECOND, Time};
use crate::world::{Event, World};

/// What an fsync takes at most.
const SYNC_MAX: Time = 2000 * MICRO;
/// Ticks in a row that change nothing.
const IDLE_TICKS_MAX: u32 = 1000;

thread_local! {
    /// What the last panic said.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Panics of simulated nodes are caught and judged: nothing is printed for them.
pub fn quiet<T>(body: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: std::sync::Once = std::sync::Once::new();
    thread_local!(static CAUGHT: RefCell<bool> = const { RefCell::new(false) });
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            match CAUGHT.with_borrow(|caught| *caught) {
                true => PANIC.set(Some(info.to_string())),
                false => before(info),
            }
        }));
    });
    CAUGHT.set(true);
    let done = catch_unwind(AssertUnwindSafe(body));
    CAUGHT.set(false);
    done.map_err(|_| PANIC.take().unwrap_or_default())
}

impl World {
    /// Runs something of a node's present life, delivers what it causes, and looks at the node. `None` where the node
    /// is gone, before or by it.
    pub fn on_node<T>(
        &mut self,
        node: usize,
        body: impl FnOnce(&mut Live, Now, &mut Outbox) -> T,
    ) -> Option<T> {
        let mut live = self.nodes[node].live.take()?;
        let now = self.nodes[node].clock(self.now);
        self.nodes[node].disk.set_now(now.wall);
        let mut out = Outbox::default();
        let done = quiet(|| body(&mut live, now, &mut out));
        self.nodes[node].live = Some(live);
        if self.transcript.is_on() {
            let name = self.nodes[node].name();
            self.transcript.node_lines(self.now, &name);
        }
        if let Some(call) = self.nodes[node].disk.crashed() {
            self.crashed_at_call(node, &call);
            return None;
        }
        let done = match done {
            Ok(done) => done,
            Err(panic) => {
                let how = format!("n{}: {panic}", node + 1);
                self.check(broken("no-panic", how));
                return None;
            }
        };
        self.deliver(node, out);
        self.watch(node);
        Some(done)
    }

    fn watch(&mut self, node: usize) {
        let Some(live) = &mut self.nodes[node].live else {
            return;
        };
        let deadline = match live.wanted(QUORUM) {
            Some(Wanted::At(at)) => at,
            Some(Wanted::Soon) | None => milena_base::Instant::ZERO,
        };
        let idle = self.nodes[node].time_of(deadline) > self.now;
        let (at, nodes) = (&self.nodes[node], &self.nodes);
        let checked = self.atlas.look(at, nodes);
        let checked = checked.and_then(|()| self.council.look(at, nodes, idle, self.now));
        self.check(checked);
    }

    /// One event or tick of a mailbox.
    pub fn mail(&mut self, node: usize, slot: usize) {
        let now = self.now;
        let at = &mut self.nodes[node];
        let live = at.live.as_mut().expect("it lives");
        if live.slots[slot].next > now {
            return; // it ran meanwhile
        }
        live.slots[slot].next = Time::MAX;
        let syncs = |disk: &milena_disk::SimDisk| disk.calls(Op::Sync) + disk.calls(Op::SyncDir);
        let before = syncs(&at.disk);
        let ran = self.on_node(node, |live, now, out| {
            live.run(slot, now, out);
            live.slots[slot].idle_ticks
        });
        let Some(idle_ticks) = ran else {
            return;
        };
        let took = (syncs(&self.nodes[node].disk) - before) * self.prng.below(SYNC_MAX);
        if idle_ticks > IDLE_TICKS_MAX {
            let name = crate::node::NAMES[slot];
            self.check(broken("nothing-spins", format!("{name} of n{}", node + 1)));
        }
        if let Some(live) = &mut self.nodes[node].live {
            let slot = &mut live.slots[slot];
            slot.free_at = slot.free_at.max(now + took);
        }
        self.schedule(node, slot);
        self.schedule_waiters(node);
        self.end_if_stopped(node);
    }

    /// Chooses when a mailbox runs next.
    pub fn schedule(&mut self, node: usize, slot: usize) {
        let pause = MICRO + self.prng.below(100 * MICRO);
        let life = self.nodes[node].life;
        let Some(live) = &mut self.nodes[node].live else {
            return;
        };
        let (wanted, state) = (live.wanted(slot), live.slots[slot]);
        let at = match wanted {
            None => return,
            Some(Wanted::Soon) => self.now + pause,
            Some(Wanted::At(at)) => self.nodes[node].time_of(at).max(self.now + MICRO),
        };
        let at = at.max(state.free_at);
        if at < state.next {
            let live = self.nodes[node].live.as_mut().expect("it was there");
            live.slots[slot].next = at;
            self.at(at, Event::Mail { node, life, slot });
        }
    }

    pub fn waiters(&mut self, node: usize) {
        if let Some(live) = &mut self.nodes[node].live {
            live.waiters_at = Time::MAX;
        }
        self.on_node(node, |live, now, out| live.broker.expire_waiters(now, out));
        self.schedule_waiters(node);
    }

    pub fn schedule_waiters(&mut self, node: usize) {
        let life = self.nodes[node].life;
        let Some(live) = &self.nodes[node].live else {
            return;
        };
        let Some(deadline) = live.broker.waiter_deadline() else {
            return;
        };
        let at = self.nodes[node].time_of(deadline).max(self.now + MICRO);
        let live = self.nodes[node].live.as_mut().expect("it was there");
        if at < live.waiters_at {
            live.waiters_at = at;
            self.at(at, Event::Waiters { node, life });
        }
    }

    /// Carries out what a node's part caused.
    pub fn deliver(&mut self, node: usize, out: Outbox) {
        let life = self.nodes[node].life;
        for (to, frame) in out.replies {
            // Another thread's task takes it up.
            let at = self.now + MICRO + self.prng.below(20 * MICRO);
            self.at(
                at,
                Event::Answer {
                    to,
                    frame,
                    node,
                    life,
                },
            );
        }
        for post in out.posts {
            self.digest_post(node, &post);
            self.post(node, post);
        }
        self.schedule_waiters(node);
    }

    pub fn post(&mut self, node: usize, post: Post) {
        let Some(live) = &mut self.nodes[node].live else {
            return;
        };
        match live.post(post) {
            Ok(slot) => self.schedule(node, slot),
            Err(post) => self.carry_out_post(node, *post),
        }
    }

    /// What is for no mailbox, but for the edge.
    fn carry_out_post(&mut self, node: usize, post: Post) {
        let live = self.nodes[node].live.as_mut().expect("it posted");
        match post {
            Post::Call(call) => self.call(node, *call),
            Post::BrokerEpoch(epoch) => live.broker.set_broker_epoch(epoch),
            Post::Unfenced => {
                live.unfenced = true;
                self.note_node(node, "serves");
            }
            Post::Left => self.leave(node),
            Post::Halt(why) => self.halt(node, &why),
            _ => self.schedule_waiters(node),
        }
    }

    /// The controller let the broker go: it closes its logs, and the quorum hands over.
    fn leave(&mut self, node: usize) {
        self.note_node(node, "has left");
        self.close_server_ends(node);
        let closed = self.on_node(node, |live, now, _| {
            live.broker.begin_stop();
            for slot in &mut live.slots[QUORUM + 1..] {
                slot.gone = true;
            }
            live.left = true;
            live.broker.dirs().close(&live.broker, now);
        });
        if closed.is_some() {
            self.post(node, Post::from(QuorumEvent::Stop));
        }
    }

    pub fn leave_late(&mut self, node: usize, life: u32) {
        let waits = |live: &Live| !live.left;
        if self.lives(node, life) && self.nodes[node].live.as_ref().is_some_and(waits) {
            self.note_node(node, "was not let go in time");
            self.leave(node);
        }
    }

    fn end_if_stopped(&mut self, node: usize) {
        let Some(live) = &self.nodes[node].live else {
            return;
        };
        if live.left && live.slots[QUORUM].gone {
            self.stopped(node);
        }
    }

    /// The node said that it can't go on.
    fn halt(&mut self, node: usize, why: &str) {
        self.note_node(node, format!("halts: {why}"));
        if !self.nodes[node].disk_failed {
            self.check(broken("no-halt", format!("n{}: {why}", node + 1)));
        }
        match self.nodes[node].armed {
            // What a failed fsync left in the cache alone is not to be trusted.
            Some((Ended::Powerless, down)) => self.lose_power(node, down),
            _ => self.kill(node, SECOND),
        }
    }
}
