//! Power cuts at every change of the disk: of formatting, and of a node that starts, appends, rolls, takes snapshots and
//! cleans. It always comes back, with everything that was called committed, and no epoch is led twice.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use milena_base::{Epoch, Prng, Timestamp};
use milena_broker::format::{InitialControllers, format};
use milena_disk::{Disk, SimDisk};
use milena_raft::{Fault, NotAppended, Retention};

use crate::replica::{Replica, at, request};

const DIR: &str = "/data";
/// A cut can turn out in many ways; each crash point is tried in so many of them.
fn outcomes() -> u64 {
    let asked = std::env::var("MILENA_OUTCOMES").ok();
    asked.and_then(|asked| asked.parse().ok()).unwrap_or(1)
}

fn disk_of(sim: &SimDisk) -> Arc<dyn Disk> {
    Arc::new(sim.clone())
}

fn format_it(sim: &SimDisk, seed: u64) -> Result<(), String> {
    let mut request = request(Path::new(DIR), InitialControllers::Standalone);
    request.ignore_formatted = true;
    format(&disk_of(sim), &request, &mut Prng::new(seed), Timestamp(1))
        .map(|_| ())
        .map_err(|error| error.to_string())
}

#[test]
fn formatting() {
    let whole = SimDisk::new(1);
    format_it(&whole, 1).unwrap();
    let changes = whole.mutations();
    assert!(changes > 10);
    for point in 1..=changes {
        for outcome in 0..outcomes() {
            let sim = SimDisk::new(point * 100 + outcome);
            sim.crash_at(point);
            let crashed = format_it(&sim, 1).is_err();
            sim.power_cut();
            // What says that it is formatted is formatted; what is not can be formatted again.
            format_it(&sim, 2).unwrap_or_else(|why| panic!("{point}: {why}"));
            let replica = Replica::open(&disk_of(&sim), Path::new(DIR), 1 << 20, at(0));
            let replica = replica.unwrap_or_else(|fault| panic!("{point}: {fault}"));
            assert!(crashed, "{point} of {changes}");
            assert_eq!(replica.raft.voters().len(), 1, "{point}");
            assert!(replica.active.is_some(), "{point}");
        }
    }
}

/// What the world was told before the power went.
#[derive(Default)]
struct Promised {
    values: Vec<Bytes>,
    epochs: BTreeSet<Epoch>,
    /// Appended but perhaps not committed.
    last: Option<Bytes>,
}

/// A life of a node; ends at the first error, which the cut causes.
fn live(sim: &SimDisk, promised: &mut Promised, clock: u64) -> Result<(), Fault> {
    let disk = disk_of(sim);
    let mut replica = Replica::open(&disk, Path::new(DIR), 1500, at(clock))?;
    check(&replica, promised, sim);
    let epoch = replica.active.expect("a lone voter is active at once");
    assert!(promised.epochs.insert(epoch), "epoch {epoch} is led twice");
    for round in 0..30u64 {
        let value = Bytes::from(format!("{clock}.{round:>90}"));
        promised.last = Some(value.clone());
        match replica.append(std::slice::from_ref(&value), at(clock + round)) {
            Ok(at) => assert!(at.last < replica.committed, "appended, flushed, committed"),
            Err(NotAppended::Fault(fault) | NotAppended::Full(fault)) => return Err(fault),
            Err(other) => panic!("{other:?}"),
        }
        promised.values.push(value);
        promised.last = None;
        if round % 10 == 9 {
            replica.snapshot(at(clock + round))?;
        }
        if round % 15 == 14 {
            let newest = Retention {
                bytes_max: 0,
                age_ms_max: -1,
            };
            newest.clean(replica.raft.log_mut(), at(clock + round * 10_000))?;
        }
    }
    Ok(())
}

fn check(replica: &Replica, promised: &mut Promised, sim: &SimDisk) {
    let mut values = replica.values();
    values.drain(..6);
    let kept = values.len() - promised.values.len();
    assert!(
        kept <= 1,
        "{} values, {} promised",
        values.len(),
        promised.values.len()
    );
    assert_eq!(
        values[..promised.values.len()],
        promised.values,
        "{:?}",
        sim.crashed()
    );
    if kept == 1 {
        assert_eq!(values.last(), promised.last.as_ref());
        promised.values = values;
    }
    promised.last = None;
}

#[test]
fn a_nodes_life() {
    let born = SimDisk::new(1);
    format_it(&born, 1).unwrap();
    let whole = born.fork(1);
    let before = whole.mutations();
    live(&whole, &mut Promised::default(), 0).unwrap();
    let changes = whole.mutations() - before;
    assert!(changes > 200, "{changes}");
    for point in 1..=changes {
        for outcome in 0..outcomes() {
            let sim = born.fork(point * 100 + outcome);
            let mut promised = Promised::default();
            sim.crash_at(point);
            live(&sim, &mut promised, 0).unwrap_err();
            sim.power_cut();
            // Once more, while it recovers.
            sim.crash_at(point % 23 + 1);
            let _ = live(&sim, &mut promised, 1_000_000);
            sim.power_cut();
            live(&sim, &mut promised, 2_000_000)
                .unwrap_or_else(|fault| panic!("point {point}, outcome {outcome}: {fault}"));
        }
    }
}
