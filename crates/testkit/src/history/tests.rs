//! Every kind of anomaly is planted and found; a history without one is passed.

use super::*;

const WHOLE: Rules = Rules {
    read_to_the_end: true,
    moving_positions: false,
};

/// Ops of one clock: each begins when the one before has ended.
#[derive(Default)]
struct History(Vec<Op>);

impl History {
    fn op(mut self, process: u32, outcome: Outcome, steps: Vec<Step>) -> History {
        let began = self.0.len() as u64 * 10;
        self.0.push(Op {
            process,
            began,
            ended: began + 5,
            outcome,
            steps,
        });
        self
    }

    fn ok(self, process: u32, steps: Vec<Step>) -> History {
        self.op(process, Outcome::Ok, steps)
    }

    fn kinds(&self, rules: Rules) -> Vec<String> {
        let report = check(&self.0, rules);
        let kinds = report.anomalies.iter();
        kinds.map(|found| found.kind.to_string()).collect()
    }

    #[track_caller]
    fn shows(&self, kinds: &[&str]) {
        assert_eq!(self.kinds(WHOLE), kinds);
    }
}

fn send(partition: u32, value: u64, offset: i64) -> Step {
    Step::Send {
        partition,
        value,
        offset: Some(offset),
    }
}

fn poll(partition: u32, records: &[(i64, u64)]) -> Step {
    Step::Poll {
        partition,
        records: records.to_vec(),
    }
}

/// Two transactions over two partitions, a failed one, one of unknown end, and two readers.
fn good() -> History {
    History::default()
        .ok(1, vec![send(0, 1, 0), send(1, 2, 0)])
        .op(2, Outcome::Failed, vec![send(0, 3, 2), send(1, 4, 2)])
        .op(3, Outcome::Unknown, vec![send(0, 5, 4), send(1, 6, 4)])
        .ok(1, vec![send(0, 7, 6), send(0, 8, 7)])
        .ok(8, vec![poll(0, &[(0, 1)])])
        .ok(8, vec![poll(0, &[(4, 5), (6, 7)]), poll(1, &[(0, 2)])])
        .ok(8, vec![poll(0, &[(7, 8)]), poll(1, &[(4, 6)])])
        .ok(9, vec![poll(1, &[(0, 2), (4, 6)])])
}

#[test]
fn a_good_history_is_passed() {
    let report = check(&good().0, WHOLE);
    assert_eq!(report.anomalies, [], "{report}");
    assert_eq!((report.ops, report.ok, report.failed), (8, 6, 1));
    assert_eq!((report.unknown, report.sent, report.polled), (1, 8, 8));
    // Process 8 polled partition 0 at 50 up to 7, and 8 was acknowledged at 35.
    assert_eq!(report.worst_realtime_lag, 15);
}

#[test]
fn a_reader_that_stays_behind_is_measured() {
    let history = good().ok(9, vec![poll(0, &[])]);
    // At 80 it has nothing of partition 0, where 1 was acknowledged at 5.
    assert_eq!(check(&history.0, WHOLE).worst_realtime_lag, 75);
}

#[test]
fn two_values_at_one_offset() {
    let history = good().op(4, Outcome::Unknown, vec![send(0, 90, 7)]);
    history.shows(&["inconsistent-offsets"]);
}

#[test]
fn one_value_at_two_offsets() {
    good().ok(8, vec![poll(0, &[(9, 8)])]).shows(&["duplicate"]);
}

#[test]
fn what_was_acknowledged_and_passed_over() {
    let history = good().ok(4, vec![send(0, 90, 5)]);
    history.shows(&["lost-write"]);
}

#[test]
fn what_was_acknowledged_and_never_read() {
    let history = good().ok(4, vec![send(0, 90, 8)]);
    history.shows(&["unseen"]);
    let going_on = Rules {
        read_to_the_end: false,
        ..WHOLE
    };
    assert_eq!(history.kinds(going_on), [""; 0]);
}

#[test]
fn what_was_aborted_and_read() {
    let history = good().ok(7, vec![poll(0, &[(2, 3)])]);
    // The readers that were right have now left out what another read.
    history.shows(&["G1a", "poll-skip"]);
}

#[test]
fn a_transaction_that_reads_itself() {
    let own = vec![send(0, 90, 8), poll(0, &[(8, 90)])];
    good().ok(4, own).shows(&["precommitted-read"]);
}

#[test]
fn a_part_of_an_undecided_transaction() {
    let part = vec![send(0, 90, 8), send(1, 91, 8)];
    let history = good().op(4, Outcome::Unknown, part);
    history.ok(7, vec![poll(0, &[(8, 90)])]).shows(&["torn"]);
}

#[test]
fn a_reader_that_leaves_out_or_goes_back() {
    let skip = || good().ok(9, vec![poll(0, &[(0, 1)])]);
    skip().ok(9, vec![poll(0, &[(6, 7)])]).shows(&["poll-skip"]);
    skip()
        .ok(9, vec![poll(0, &[(0, 1)])])
        .shows(&["nonmonotonic-poll"]);
    let moving = Rules {
        moving_positions: true,
        ..WHOLE
    };
    let skipped = skip().ok(9, vec![poll(0, &[(6, 7)])]);
    assert_eq!(skipped.kinds(moving), [""; 0]);
    let seek = Step::Seek { partition: 0 };
    skip().ok(9, vec![seek, poll(0, &[(6, 7)])]).shows(&[]);
}

#[test]
fn a_poll_that_leaves_out_or_goes_back_by_itself() {
    good()
        .ok(9, vec![poll(0, &[(0, 1), (6, 7)])])
        .shows(&["int-poll-skip"]);
    good()
        .ok(9, vec![poll(0, &[(4, 5), (0, 1)])])
        .shows(&["int-nonmonotonic-poll"]);
}

#[test]
fn sends_out_of_order() {
    let read = |history: History| history.ok(9, vec![poll(1, &[(6, 91), (7, 90)])]);
    read(
        good()
            .ok(4, vec![send(1, 90, 7)])
            .ok(4, vec![send(1, 91, 6)]),
    )
    .shows(&["nonmonotonic-send"]);
    read(good().ok(4, vec![send(1, 90, 7), send(1, 91, 6)])).shows(&["int-nonmonotonic-send"]);
}

#[test]
fn transactions_that_read_each_other() {
    let history = good()
        .ok(4, vec![poll(1, &[(9, 91)]), send(0, 90, 9)])
        .ok(5, vec![poll(0, &[(9, 90)]), send(1, 91, 9)]);
    history.shows(&["G1c"]);
}

#[test]
fn cycles_that_are_allowed_are_counted() {
    // Their writes are interleaved; and a reader saw one write of op 9 and not yet the other.
    let history = good()
        .ok(4, vec![send(0, 90, 10), send(1, 91, 13)])
        .ok(5, vec![send(0, 92, 12), send(1, 93, 11)])
        .ok(9, vec![poll(1, &[(11, 93), (13, 91)])])
        .ok(8, vec![poll(0, &[(10, 90)]), poll(1, &[(11, 93)])])
        .ok(8, vec![poll(0, &[(12, 92)]), poll(1, &[(13, 91)])]);
    let report = check(&history.0, WHOLE);
    assert_eq!(report.anomalies, [], "{report}");
    assert_eq!(report.allowed.get("G0"), Some(&1));
    // The other one: a poll of the good history ended amid a transaction.
    assert_eq!(report.allowed.get("G-single or G2"), Some(&2));
}
