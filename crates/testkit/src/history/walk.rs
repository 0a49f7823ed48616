//! The order in which each process sent and polled, and how far behind its polls were.

use std::collections::BTreeMap;

use super::logs::Logs;
use super::{Kind, Op, Outcome, Report, Rules, Step};

/// Where one process is in one partition; `op` is the one that brought it there.
#[derive(Clone, Copy)]
struct At {
    offset: i64,
    op: usize,
}

#[derive(Default)]
struct Process {
    sent: BTreeMap<u32, At>,
    polled: BTreeMap<u32, At>,
    /// The highest offset that it has had, also before it was set back.
    furthest: BTreeMap<u32, i64>,
}

pub(super) fn check_order(ops: &[Op], logs: &Logs, rules: Rules, report: &mut Report) {
    let mut processes: BTreeMap<u32, Process> = BTreeMap::new();
    let acknowledged = Acknowledged::of(ops, logs);
    for (index, op) in ops.iter().enumerate() {
        let process = processes.entry(op.process).or_default();
        for step in &op.steps {
            match step {
                Step::Send {
                    partition, offset, ..
                } => {
                    if let Some(offset) = *offset {
                        let at = At { offset, op: index };
                        sent(process, *partition, at, report);
                    }
                }
                Step::Poll { partition, records } => {
                    precommitted(ops, logs, index, records, report);
                    for (offset, _) in records {
                        let at = At {
                            offset: *offset,
                            op: index,
                        };
                        polled(process, logs, *partition, at, rules, report);
                    }
                    let furthest = process.furthest.entry(*partition).or_insert(-1);
                    let last = records.last().map_or(-1, |(offset, _)| *offset);
                    *furthest = last.max(*furthest);
                    let lag = acknowledged.lag(*partition, *furthest, op.began);
                    report.worst_realtime_lag = report.worst_realtime_lag.max(lag);
                }
                Step::Seek { partition } => drop(process.polled.remove(partition)),
            }
        }
    }
}

fn sent(process: &mut Process, partition: u32, at: At, report: &mut Report) {
    let Some(before) = process.sent.insert(partition, at) else {
        return;
    };
    if before.offset < at.offset {
        return;
    }
    let kind = match before.op == at.op {
        true => Kind::InternalNonmonotonicSend,
        false => Kind::NonmonotonicSend,
    };
    report.found(kind, after(partition, before, at));
}

fn polled(
    process: &mut Process,
    logs: &Logs,
    partition: u32,
    at: At,
    rules: Rules,
    report: &mut Report,
) {
    let Some(before) = process.polled.insert(partition, at) else {
        return;
    };
    let is_internal = before.op == at.op;
    if rules.moving_positions && !is_internal {
        return;
    }
    if at.offset <= before.offset {
        let kind = match is_internal {
            true => Kind::InternalNonmonotonicPoll,
            false => Kind::NonmonotonicPoll,
        };
        return report.found(kind, after(partition, before, at));
    }
    let between = (partition, before.offset + 1)..(partition, at.offset);
    if let Some(((_, left_out), _)) = logs.read.range(between).next() {
        let kind = match is_internal {
            true => Kind::InternalPollSkip,
            false => Kind::PollSkip,
        };
        let what = after(partition, before, at);
        report.found(kind, format!("{what}: {left_out} is left out"));
    }
}

fn after(partition: u32, before: At, at: At) -> String {
    format!(
        "{partition}: {} (op {}) after {} (op {})",
        at.offset, at.op, before.offset, before.op
    )
}

fn precommitted(
    ops: &[Op],
    logs: &Logs,
    index: usize,
    records: &[(i64, u64)],
    report: &mut Report,
) {
    for (offset, value) in records {
        let own = logs.sent.get(value).is_some_and(|sent| sent.op == index);
        if own {
            let process = ops[index].process;
            let what = format!("{value} at {offset} by op {index} of process {process}");
            report.found(Kind::PrecommittedRead, what);
        }
    }
}

/// For every place that was acknowledged: when it, or any behind it, was acknowledged first.
struct Acknowledged(BTreeMap<(u32, i64), u64>);

impl Acknowledged {
    fn of(ops: &[Op], logs: &Logs) -> Acknowledged {
        let mut first: BTreeMap<(u32, i64), u64> = BTreeMap::new();
        for sent in logs.sent.values() {
            let op = &ops[sent.op];
            if let (Some(offset), Outcome::Ok) = (sent.offset, op.outcome) {
                first.insert((sent.partition, offset), op.ended);
            }
        }
        let mut least: Option<(u32, u64)> = None;
        for ((partition, _), ended) in first.iter_mut().rev() {
            let behind = least.filter(|(of, _)| of == partition);
            *ended = behind.map_or(*ended, |(_, behind)| behind.min(*ended));
            least = Some((*partition, *ended));
        }
        Acknowledged(first)
    }

    /// How long ago, at `now`, the first record beyond `position` was acknowledged.
    fn lag(&self, partition: u32, position: i64, now: u64) -> u64 {
        let beyond = (partition, position + 1)..=(partition, i64::MAX);
        let first = self.0.range(beyond).next();
        first.map_or(0, |(_, ended)| now.saturating_sub(*ended))
    }
}
