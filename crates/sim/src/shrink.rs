//! Makes a failing plan smaller: fewer faults, less work, calmer weather, as long as the same promise breaks.

use crate::plan::{Plan, Roles};
use crate::{Outcome, Transcript, run};

/// A smaller plan that breaks the same promise, with the runs that it took.
pub fn shrink(plan: &Plan, promise: &'static str, runs_max: u32) -> (Plan, u32) {
    let mut best = plan.clone();
    let mut runs = 0;
    loop {
        let mut smaller = false;
        for candidate in candidates(&best) {
            if runs == runs_max {
                return (best, runs);
            }
            runs += 1;
            if breaks(&run(&candidate, Transcript::default()), promise) {
                best = candidate;
                smaller = true;
                break;
            }
        }
        if !smaller {
            return (best, runs);
        }
    }
}

fn breaks(outcome: &Outcome, promise: &str) -> bool {
    let failure = outcome.failure.as_ref();
    failure.is_some_and(|failure| failure.broken.promise == promise)
}

/// What to try next, the boldest first.
fn candidates(plan: &Plan) -> Vec<Plan> {
    let mut all = Vec::new();
    let mut with = |change: &dyn Fn(&mut Plan)| {
        let mut candidate = plan.clone();
        change(&mut candidate);
        if candidate.size() < plan.size() {
            all.push(candidate);
        }
    };
    let half = plan.faults.len() / 2;
    if half > 0 {
        with(&|p| drop(p.faults.drain(..half)));
        with(&|p| p.faults.truncate(half));
    }
    for at in 0..plan.faults.len() {
        with(&|p| {
            p.faults.remove(at);
        });
    }
    with(&|p| p.batches /= 2);
    with(&|p| p.shape.producers = 1);
    with(&|p| p.shape.topics = vec![1]);
    with(&|p| {
        p.shape.nodes = vec![
            Roles {
                controller: true,
                broker: true
            };
            3
        ]
    });
    with(&|p| p.shape.skew = 0);
    with(&|p| p.shape.spikes = 0);
    with(&|p| p.shape.small_segments = false);
    with(&|p| p.shape.small_snapshots = false);
    with(&|p| p.shape.in_flight_max = 1);
    all
}

impl Plan {
    /// How much there is in it to take away.
    fn size(&self) -> u64 {
        let shape = &self.shape;
        let extras = [
            shape.small_segments,
            shape.small_snapshots,
            shape.skew > 0,
            shape.spikes > 0,
        ];
        let extras = extras.iter().filter(|on| **on).count() as u64;
        let partitions: i32 = shape.topics.iter().sum();
        self.faults.len() as u64 * 1000
            + self.batches
            + shape.nodes.len() as u64 * 100
            + partitions as u64 * 10
            + (shape.producers + shape.in_flight_max) as u64
            + extras
    }
}
