//! What clients of partitioned logs did and saw, and a checker that says what of it may not be.
//!
//! Every value is sent once, so who reads it knows who wrote it. An [`Op`] is what happens whole or not at all: a
//! batch, a transaction, or a poll. After Jepsen's checks of queues and logs, and Adya's kinds of cycles.

mod cycles;
mod logs;
mod report;
#[cfg(test)]
mod tests;
mod walk;

pub use report::{Anomaly, Kind, Report};

/// What became of an [`Op`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Acknowledged, or committed.
    Ok,
    /// It did not happen: refused, or aborted.
    Failed,
    /// The answer was lost: it happened whole or not at all.
    Unknown,
}

/// What one client did at once.
#[derive(Clone, Debug)]
pub struct Op {
    /// Who: the ops of one process follow one another.
    pub process: u32,
    /// When it began and when its answer was there, on one clock for all processes.
    pub began: u64,
    pub ended: u64,
    pub outcome: Outcome,
    pub steps: Vec<Step>,
}

/// A part of an [`Op`], in the order in which they were done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// `offset` is what the answer said, where there was one.
    Send {
        partition: u32,
        value: u64,
        offset: Option<i64>,
    },
    /// Records that a poll gave, each an offset and a value.
    Poll {
        partition: u32,
        records: Vec<(i64, u64)>,
    },
    /// The reader's position was set anew: the next poll may go on anywhere.
    Seek { partition: u32 },
}

/// What is to be expected of a history.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// After all that was sent, readers went on to the end of every partition.
    pub read_to_the_end: bool,
    /// Positions move by themselves, as those of a group's members do: skips and steps back between polls are not
    /// counted.
    pub moving_positions: bool,
}

/// Checks a history; the ops of each process are in their order.
pub fn check(ops: &[Op], rules: Rules) -> Report {
    let mut report = Report::of(ops);
    let logs = logs::Logs::of(ops);
    logs.check_offsets(&mut report);
    logs.check_fates(ops, rules, &mut report);
    walk::check_order(ops, &logs, rules, &mut report);
    cycles::check(ops, &logs, &mut report);
    report
}
