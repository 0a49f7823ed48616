//! Faults happen, within what the protocol promises to survive: power is lost by one node at a time, and by nobody while
//! another has not recovered from an unclean stop, unless acknowledged means durable (KIP-966: min.insync.replicas − 1
//! unclean losses).

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use milena_base::TopicIdPartition;
use milena_disk::{Disk, Op};
use milena_image::{Image, Partition};

use crate::clients::admin::Wish;
use crate::net::Host;
use crate::node::Ended;
use crate::plan::{Cut, Kind, Pick, Time};
use crate::world::{Event, World};

/// Room that a filled disk still has, in bytes.
const ROOM: u64 = 3 * 4096;

impl World {
    pub fn fault(&mut self, at: usize) {
        let fault = self.plan.faults[at].clone();
        let Some(node) = self.picked(fault.pick) else {
            return;
        };
        if let Some(why) = self.refuses(node, &fault.kind) {
            return self.note_node(node, format!("is spared: {why}"));
        }
        self.note_node(node, format!("FAULT {:?}", fault.kind));
        self.figures.faults += 1;
        self.hit(node, fault.kind);
    }

    /// The newest published metadata.
    pub fn newest(&self) -> Option<Arc<Image>> {
        let live = self.nodes.iter().filter_map(|n| n.live.as_ref());
        live.map(|live| live.broker.image())
            .max_by_key(|image| image.provenance.offset)
    }

    /// Partitions of the workload's topics.
    pub fn partitions(&self) -> Vec<(TopicIdPartition, String, Arc<Partition>)> {
        let Some(image) = self.newest() else {
            return Vec::new();
        };
        let mut all = Vec::new();
        for topic in image.topics.by_name() {
            for (number, partition) in &topic.partitions {
                let id = TopicIdPartition::new(topic.id, *number);
                all.push((id, topic.name.to_string(), partition.clone()));
            }
        }
        all
    }

    fn picked(&self, pick: Pick) -> Option<usize> {
        let chosen = |number: u64| {
            let all = self.partitions();
            let index = number.checked_rem(all.len() as u64)?;
            Some(all[index as usize].2.clone())
        };
        match pick {
            Pick::Node(node) => Some(node),
            Pick::Controller => self.controller(),
            Pick::Leader(number) => usize::try_from(chosen(number)?.leader - 1).ok(),
            Pick::Follower(number) => {
                let partition = chosen(number)?;
                let others = partition
                    .replicas
                    .iter()
                    .filter(|r| **r != partition.leader);
                let others: Vec<i32> = others.copied().collect();
                let which = number as usize / 7 % others.len().max(1);
                others.get(which).map(|id| *id as usize - 1)
            }
        }
    }

    /// The node that leads the quorum in the latest epoch.
    pub fn controller(&self) -> Option<usize> {
        let leading = self.nodes.iter().filter_map(|node| {
            let raft = node.live.as_ref()?.quorum().raft();
            let epoch = raft.leader_and_epoch().epoch;
            (raft.role_name() == "leader").then_some((epoch, node.index))
        });
        leading.max().map(|(_, index)| index)
    }

    /// Why a fault would be more than what is promised.
    fn refuses(&self, node: usize, kind: &Kind) -> Option<&'static str> {
        let at = &self.nodes[node];
        let others = || self.nodes.iter().filter(|n| n.index != node);
        let loses = |n: &crate::node::Node| {
            let armed = matches!(n.armed, Some((Ended::Powerless, _)));
            armed || n.unrecovered && n.ended == Ended::Powerless
        };
        let needs_life = !matches!(
            kind,
            Kind::Jump { .. }
                | Kind::Slow { .. }
                | Kind::Isolate { .. }
                | Kind::Part { .. }
                | Kind::Elect
                | Kind::Reorder(_)
        );
        if needs_life && at.live.is_none() {
            return Some("it is down");
        }
        if self.plan.shape.flushed {
            return None;
        }
        match kind {
            Kind::Power { .. } | Kind::Io { sync: true } => {
                let risky = others().any(|n| n.unrecovered || n.armed.is_some());
                (risky || at.unrecovered).then_some("another has not recovered")
            }
            Kind::Kill { .. } | Kind::Io { sync: false } | Kind::Full { .. } => {
                others().any(loses).then_some("another has lost its power")
            }
            _ => None,
        }
    }

    fn hit(&mut self, node: usize, kind: Kind) {
        let now = self.now;
        match kind {
            Kind::Kill {
                down,
                at_call: None,
            } => self.kill(node, down),
            Kind::Power {
                down,
                at_call: None,
            } => self.lose_power(node, down),
            Kind::Kill {
                down,
                at_call: Some(call),
            } => self.arm(node, Ended::Killed, down, call),
            Kind::Power {
                down,
                at_call: Some(call),
            } => {
                self.arm(node, Ended::Powerless, down, call);
            }
            Kind::Restart { down } => self.stop(node, down),
            Kind::Pause { time } => {
                let at = &mut self.nodes[node];
                at.paused_until = at.paused_until.max(now + time);
            }
            Kind::Stall { mailbox, time } => {
                if let Some(live) = &mut self.nodes[node].live {
                    let slot = &mut live.slots[mailbox];
                    slot.free_at = slot.free_at.max(now + time);
                    // What was scheduled is put off.
                    slot.next = Time::MAX;
                    self.schedule(node, mailbox);
                }
            }
            Kind::Isolate { cut, time } => {
                let others = (0..self.nodes.len() + self.clients.len()).filter(|h| *h != node);
                let ways = others.flat_map(|other| ways(node, other, cut)).collect();
                self.block(ways, time);
            }
            Kind::Part { other, cut, time } => self.block(ways(node, other, cut), time),
            Kind::Reset => self.reset(node),
            Kind::Slow { factor, time } => {
                self.net.set_slow(node, factor);
                self.at(now + time, Event::Unslow(node));
            }
            Kind::Jump { millis } => self.nodes[node].wall_offset = millis,
            Kind::Full { time } => self.fill(node, time),
            Kind::Io { sync } => self.fail_io(node, sync),
            Kind::Elect => self.wish(Wish::Elect),
            Kind::Reorder(number) => self.reorder(number),
        }
    }

    /// The administrator is the first client.
    fn wish(&mut self, wish: Wish) {
        self.clients[0].actor.wish(wish);
    }

    fn arm(&mut self, node: usize, ended: Ended, down: Time, call: u64) {
        let at = &mut self.nodes[node];
        at.armed = Some((ended, down));
        at.disk.crash_at(call);
    }

    fn block(&mut self, ways: Vec<(Host, Host)>, time: Time) {
        for (from, to) in &ways {
            self.net.block(*from, *to);
        }
        self.at(self.now + time, Event::Unblock(ways));
    }

    /// Cuts every connection of a node: what is under way is lost, and both ends learn of it by and by.
    fn reset(&mut self, node: usize) {
        for id in self.net.of_host(node) {
            let Some(conn) = self.net.get(id) else {
                continue;
            };
            let (opener, open) = (conn.opener, conn.open);
            self.net.forget(id);
            if open {
                let at = self.now + self.net.delay(node, node);
                self.at(at, Event::Lost { opener, conn: id });
            }
        }
    }

    fn fill(&mut self, node: usize, time: Time) {
        let at = &mut self.nodes[node];
        let space = at
            .disk
            .space(Path::new("/"))
            .expect("a disk tells its space");
        at.disk.set_quota(Some(space.total - space.free + ROOM));
        at.disk_failed = true;
        self.at(self.now + time, Event::Unfill(node));
    }

    pub fn unfill(&mut self, node: usize) {
        self.nodes[node].disk.set_quota(None);
        self.note_node(node, "has room again");
    }

    fn fail_io(&mut self, node: usize, sync: bool) {
        let at = &mut self.nodes[node];
        let op = if sync { Op::Sync } else { Op::Write };
        at.disk_failed = true;
        at.disk.fail(op, "/data/t", ErrorKind::Other, 1);
        if sync {
            // What the failed fsync was to store is in the cache alone: the machine starts anew with the process.
            at.armed = Some((Ended::Powerless, crate::plan::SECOND));
        }
    }

    fn reorder(&mut self, number: u64) {
        let all = self.partitions();
        let workload: Vec<_> = all
            .iter()
            .filter(|(_, name, _)| !name.starts_with("__"))
            .collect();
        let Some(index) = number.checked_rem(workload.len() as u64) else {
            return;
        };
        let (id, name, partition) = workload[index as usize];
        let mut replicas = partition.replicas.clone();
        replicas.rotate_left(1 + number as usize / 11 % 2);
        self.wish(Wish::Reassign(name.clone(), id.partition, replicas));
        self.wish(Wish::Elect);
    }

    /// The end of all weather.
    pub fn heal(&mut self) {
        self.note("---", "everything heals");
        let hosts = self.nodes.len() + self.clients.len();
        let all = (0..hosts).flat_map(|a| (0..hosts).map(move |b| (a, b)));
        let all: Vec<(Host, Host)> = all.collect();
        self.unblock(&all);
        for node in 0..self.nodes.len() {
            self.net.set_slow(node, 1);
            let at = &mut self.nodes[node];
            at.disk.set_quota(None);
            at.disk.heal();
            at.disk.disarm();
            at.armed = None;
        }
    }
}

/// The directions that a cut between two hosts closes.
fn ways(node: Host, other: Host, cut: Cut) -> Vec<(Host, Host)> {
    match cut {
        Cut::Both => vec![(node, other), (other, node)],
        Cut::Out => vec![(node, other)],
        Cut::In => vec![(other, node)],
    }
}
