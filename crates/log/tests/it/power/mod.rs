//! Power cuts and kills at every change that the log makes on its disk: what was confirmed is there, what was not is
//! a valid prefix or gone, whatever derives from the batches is as if built from scratch, and recovering is the
//! same however often it is interrupted (INVARIANTS 44–48).

mod node;
mod rot;
mod script;
mod truth;

use std::path::Path;

use milena_base::Prng;
use milena_disk::SimDisk;
use milena_testkit::for_each_seed;

use node::Node;
use script::Script;
use truth::Truth;

pub const ROOT: &str = "/data";

/// How the machine stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// The process is killed; the page cache survives.
    Kill,
    /// Any subset of what was not synced is lost.
    Cut,
    /// All of it is lost.
    CutLosingAll,
}

const STOPS: [Stop; 4] = [Stop::Kill, Stop::Cut, Stop::Cut, Stop::CutLosingAll];

fn stop(disk: &SimDisk, how: Stop) {
    match how {
        Stop::Kill => disk.kill(),
        Stop::Cut => disk.power_cut(),
        Stop::CutLosingAll => disk.power_cut_losing_all(),
    }
}

/// What was tried, to be printed: a test that tries nothing shows it.
#[derive(Debug, Default)]
struct Counts {
    scripts: u64,
    crash_points: u64,
    recoveries: u64,
    crashes_in_recovery: u64,
    lives_after: u64,
    records_promised: u64,
    records_found: u64,
}

#[test]
fn the_log_comes_back_whatever_is_lost() {
    let mut counts = Counts::default();
    let (scripts, step) = extent();
    for_each_seed(scripts, |seed| {
        counts.scripts += 1;
        let whole = Script::new(seed);
        let changes = whole.run(None).changes;
        for crash_at in (1 + seed % step..=changes).step_by(step as usize) {
            counts.crash_points += 1;
            let run = Script::new(seed).run(Some(crash_at));
            let at = run
                .disk
                .crashed()
                .unwrap_or_else(|| panic!("no crash at change {crash_at}"));
            for (luck, how) in STOPS.into_iter().enumerate() {
                let disk = run.disk.fork(seed ^ crash_at << 20 ^ (luck as u64) << 50);
                stop(&disk, how);
                let what = format!("seed {seed}, {how:?} at change {crash_at} ({at})");
                comes_back(&disk, &run.truth, how, &what, &mut counts);
            }
        }
    });
    println!("{counts:?}");
}

/// How many scripts, and every how manyth change: a few and some, or with `MILENA_POWER_SCRIPTS` so many and all.
fn extent() -> (u64, u64) {
    match std::env::var("MILENA_POWER_SCRIPTS") {
        Ok(count) => (count.parse().expect("a number of scripts"), 1),
        Err(_) => (6, 7),
    }
}

fn comes_back(disk: &SimDisk, truth: &Truth, how: Stop, what: &str, counts: &mut Counts) {
    let whole = disk.fork(1);
    let before = whole.mutations();
    let mut node = Node::start(&whole, truth).unwrap_or_else(|e| panic!("{what}: {e}"));
    let changes = whole.mutations() - before;
    let found = node.found(what);
    truth.check(&found, how != Stop::Kill, what);
    found.check_lookups(&node, what);
    found.check_against_rebuilt(&whole, truth.now, what);
    counts.recoveries += 1;
    counts.records_promised += truth.promised(how != Stop::Kill);
    counts.records_found += found.records();

    let mut luck = Prng::new(disk.mutations() ^ changes << 30);
    if luck.chance(1, 3) {
        recovery_is_idempotent(disk, truth, how, changes, &found, what, counts);
    }
    if luck.chance(1, 2) {
        goes_on(node, &whole, truth, &found, what);
        counts.lives_after += 1;
    }
}

/// A few crashes during the recovery, then another recovery: the same log.
fn recovery_is_idempotent(
    disk: &SimDisk,
    truth: &Truth,
    how: Stop,
    changes: u64,
    expected: &node::Found,
    what: &str,
    counts: &mut Counts,
) {
    let mut points = Prng::new(changes ^ truth.now.wall.0 as u64);
    for _ in 0..changes.min(3) {
        let at = points.below(changes) + 1;
        let again = disk.fork(points.next_u64());
        again.crash_at(at);
        let crashed = Node::start(&again, truth);
        assert!(
            crashed.is_err(),
            "{what}: no crash at change {at} of the recovery"
        );
        let call = again.crashed().unwrap_or_default();
        // What survived a cut is on the platter and stays; after a kill it may still be lost.
        stop(
            &again,
            if how == Stop::Kill {
                Stop::Kill
            } else {
                Stop::Cut
            },
        );
        let what = format!("{what}, then at change {at} of its recovery ({call})");
        let mut node = Node::start(&again, truth).unwrap_or_else(|e| panic!("{what}: {e}"));
        let found = node.found(&what);
        expected.check_same(&found, &what);
        found.check_against_rebuilt(&again, truth.now, &what);
        counts.crashes_in_recovery += 1;
    }
}

/// The log that came back takes records, and what is flushed to it, on top of what was found, is kept.
fn goes_on(mut node: Node, disk: &SimDisk, truth: &Truth, found: &node::Found, what: &str) {
    let mut truth = truth.after(found);
    for _ in 0..3 {
        node.append_plain(&mut truth, 50)
            .unwrap_or_else(|e| panic!("{what}: {e}"));
    }
    node.flush(&mut truth)
        .unwrap_or_else(|e| panic!("{what}: {e}"));
    node.checkpoint().unwrap_or_else(|e| panic!("{what}: {e}"));
    drop(node);
    disk.power_cut_losing_all();
    let what = format!("{what}, then more records and another cut");
    let mut node = Node::start(disk, &truth).unwrap_or_else(|e| panic!("{what}: {e}"));
    truth.check(&node.found(&what), true, &what);
}

fn root() -> &'static Path {
    Path::new(ROOT)
}
