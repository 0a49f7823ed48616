//! The course of a run: start, create, work under faults, heal, converge.

use milena_base::Offset;

use crate::atlas::{Check, broken};
use crate::plan::{MILLI, SECOND, Time};
use crate::world::{Event, Phase, World};

const LOOK_EVERY: Time = 100 * MILLI;
/// A cluster without faults serves, and has its topics, within this time.
const BEGINS_WITHIN: Time = 60 * SECOND;
/// After everything healed, what was promised has come within this time.
const CONVERGES_WITHIN: Time = 90 * SECOND;

impl World {
    pub fn look(&mut self) {
        self.recover();
        match self.phase {
            Phase::Starting => self.starting(),
            Phase::Creating => self.creating(),
            Phase::Working(since) => {
                if self.now >= since + self.plan.heals_at() {
                    self.heal();
                    self.phase = Phase::Converging(self.now + CONVERGES_WITHIN);
                }
            }
            Phase::Converging(until) => self.converging(until),
            Phase::Done => {}
        }
        let below = self.nodes.iter().filter_map(|n| n.live.as_ref());
        let below = below
            .map(|live| live.broker.image().provenance.offset)
            .min();
        if let Some(below) = below.filter(|_| self.nodes.iter().all(|n| n.live.is_some())) {
            self.council.forget_images_below(below.0);
        }
        self.at(self.now + LOOK_EVERY, Event::Look);
    }

    fn starting(&mut self) {
        let serve = |n: &crate::node::Node| n.live.as_ref().is_some_and(|live| live.unfenced);
        if self.nodes.iter().all(serve) {
            self.note("---", "all serve");
            self.phase = Phase::Creating;
            for index in 0..self.clients.len() {
                if self.clients[index].name == "admin" {
                    self.schedule_client(index);
                }
            }
        } else if self.now > BEGINS_WITHIN {
            self.check(broken("it-begins", "not all nodes serve"));
        }
    }

    fn creating(&mut self) {
        let wanted: i32 = self.plan.shape.topics.iter().sum();
        let all = self.partitions();
        let whole = all.iter().filter(|(_, _, p)| p.isr.len() == 3).count();
        if whole == wanted as usize {
            self.note("---", "the topics are there: faults and work begin");
            self.phase = Phase::Working(self.now);
            for (index, fault) in self.plan.faults.clone().iter().enumerate() {
                self.at(self.now + fault.at, Event::Fault(index));
            }
            for index in 0..self.clients.len() {
                self.schedule_client(index);
            }
        } else if self.now > 2 * BEGINS_WITHIN {
            self.check(broken(
                "it-begins",
                format!("{whole} of {wanted} partitions are whole"),
            ));
        }
    }

    fn converging(&mut self, until: Time) {
        match self.missing() {
            None => {
                self.note("---", "all has converged");
                let checked = self.end_checks();
                self.check(checked);
                self.phase = Phase::Done;
            }
            Some(what) if self.now > until => self.check(broken("it-converges", what)),
            Some(_) => {}
        }
    }

    /// What has not come yet that was promised.
    fn missing(&self) -> Option<String> {
        for node in &self.nodes {
            let serves = node
                .live
                .as_ref()
                .is_some_and(|live| live.unfenced && !live.left);
            if !serves {
                return Some(format!("n{} does not serve", node.id()));
            }
        }
        for client in &self.clients {
            if let Some(what) = client.actor.unfinished(&self.atlas) {
                return Some(format!("{}: {what}", client.name));
            }
        }
        for (_, name, partition) in self.partitions() {
            if partition.isr.len() != partition.replicas.len() || partition.leader < 0 {
                return Some(format!(
                    "{name} has in sync {:?} of {:?}",
                    partition.isr, partition.replicas
                ));
            }
        }
        self.lagging()
    }

    /// Logs and images that have not come as far as the others.
    fn lagging(&self) -> Option<String> {
        let offsets =
            |n: &crate::node::Node| Some(n.live.as_ref()?.broker.image().provenance.offset);
        let images: Vec<Option<Offset>> = self.nodes.iter().map(offsets).collect();
        if images.iter().any(|at| *at != images[0]) {
            return Some(format!("published metadata is at {images:?}"));
        }
        for (id, name, _) in self.partitions() {
            let hosted = self
                .nodes
                .iter()
                .filter_map(|n| n.live.as_ref()?.broker.hosted(id));
            let at: Vec<_> = hosted.map(|h| h.partition.offsets()).collect();
            let equal = at
                .iter()
                .all(|o| o.log_end == at[0].log_end && o.high_watermark == at[0].log_end);
            if !equal {
                return Some(format!("{name}-{} is at {at:?}", id.partition));
            }
        }
        None
    }

    fn end_checks(&self) -> Check {
        self.atlas.all_equal(&self.nodes)
    }

    /// Who is in every in-sync set again has recovered.
    fn recover(&mut self) {
        if self.nodes.iter().all(|n| !n.unrecovered) {
            return;
        }
        let Some(image) = self.newest() else {
            return;
        };
        let partitions = self.partitions();
        for node in &mut self.nodes {
            let Some(live) = node.live.as_ref().filter(|_| node.unrecovered) else {
                continue;
            };
            let id = node.id();
            let registered = image
                .cluster
                .broker(id)
                .is_some_and(|b| !b.fenced && b.epoch == live.broker.broker_epoch());
            let whole = partitions
                .iter()
                .all(|(_, _, p)| !p.replicas.contains(&id) || p.isr.contains(&id));
            node.unrecovered = !((registered || !node.config.is_broker()) && whole);
        }
    }
}
