//! What a checker found.

use std::collections::BTreeMap;
use std::fmt;

use super::{Op, Outcome, Step};

/// Kinds of what may not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Two values at one offset of one partition.
    InconsistentOffsets,
    /// One value at two places.
    Duplicate,
    /// Acknowledged, and passed over by all readers.
    LostWrite,
    /// Acknowledged, and not read though readers went on to the end.
    Unseen,
    /// Read, and its op did not happen.
    G1a,
    /// Read by the transaction that sent it.
    PrecommittedRead,
    /// A part of an op was read, and another part never.
    Torn,
    /// A reader left out what others read.
    PollSkip,
    /// A reader went back.
    NonmonotonicPoll,
    /// The same inside of one op.
    InternalPollSkip,
    InternalNonmonotonicPoll,
    /// A later send of one process got a lower offset.
    NonmonotonicSend,
    InternalNonmonotonicSend,
    /// Ops that have each read what the other wrote.
    G1c,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::InconsistentOffsets => "inconsistent-offsets",
            Kind::Duplicate => "duplicate",
            Kind::LostWrite => "lost-write",
            Kind::Unseen => "unseen",
            Kind::G1a => "G1a",
            Kind::PrecommittedRead => "precommitted-read",
            Kind::Torn => "torn",
            Kind::PollSkip => "poll-skip",
            Kind::NonmonotonicPoll => "nonmonotonic-poll",
            Kind::InternalPollSkip => "int-poll-skip",
            Kind::InternalNonmonotonicPoll => "int-nonmonotonic-poll",
            Kind::NonmonotonicSend => "nonmonotonic-send",
            Kind::InternalNonmonotonicSend => "int-nonmonotonic-send",
            Kind::G1c => "G1c",
        })
    }
}

/// One thing that may not be, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anomaly {
    pub kind: Kind,
    pub what: String,
}

/// See [`super::check`].
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub anomalies: Vec<Anomaly>,
    /// Cycles that Kafka allows, by kind: G0, since writes are not isolated, and G-single and G2, since a poll of several
    /// partitions is no snapshot.
    pub allowed: BTreeMap<&'static str, u64>,
    pub ops: u64,
    pub ok: u64,
    pub failed: u64,
    pub unknown: u64,
    pub sent: u64,
    pub polled: u64,
    /// How old the oldest record was, in units of the clock, that was acknowledged before a poll and not yet given by it.
    pub worst_realtime_lag: u64,
}

impl Report {
    pub(super) fn of(ops: &[Op]) -> Report {
        let mut report = Report {
            ops: ops.len() as u64,
            ..Report::default()
        };
        for op in ops {
            match op.outcome {
                Outcome::Ok => report.ok += 1,
                Outcome::Failed => report.failed += 1,
                Outcome::Unknown => report.unknown += 1,
            }
            for step in &op.steps {
                match step {
                    Step::Send { .. } => report.sent += 1,
                    Step::Poll { records, .. } => report.polled += records.len() as u64,
                    Step::Seek { .. } => {}
                }
            }
        }
        report
    }

    pub(super) fn found(&mut self, kind: Kind, what: impl Into<String>) {
        let what = what.into();
        self.anomalies.push(Anomaly { kind, what });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ops ({} ok, {} failed, {} unknown), {} sends, {} records polled, worst lag {}, allowed {:?}, {} anomalies",
            self.ops,
            self.ok,
            self.failed,
            self.unknown,
            self.sent,
            self.polled,
            self.worst_realtime_lag,
            self.allowed,
            self.anomalies.len()
        )?;
        for Anomaly { kind, what } in self.anomalies.iter().take(20) {
            write!(f, "\n  {kind}: {what}")?;
        }
        Ok(())
    }
}
