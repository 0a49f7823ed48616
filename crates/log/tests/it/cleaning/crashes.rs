//! The process or the machine ends at every change that a cleaning makes on the disk.

use milena_disk::SimDisk;
use milena_testkit::for_each_seed;

use super::life::Life;
use super::model::Compared;

#[derive(Debug, Default)]
struct Counts {
    crashes: u64,
    swaps_finished_at_start: u64,
    cleanings_after: u64,
}

#[test]
fn a_cleaning_that_ends_anywhere_loses_nothing() {
    let (mut counts, mut compared) = (Counts::default(), Compared::default());
    // A few and some, or with `MILENA_CLEAN_SEEDS` so many and all.
    let (seeds, step) = match std::env::var("MILENA_CLEAN_SEEDS") {
        Ok(count) => (count.parse().expect("a number of seeds"), 1),
        Err(_) => (4, 5),
    };
    for_each_seed(seeds, |seed| {
        let changes = one(seed, None, &mut counts, &mut compared);
        for crash_at in (1 + seed % step..=changes).step_by(step as usize) {
            one(seed, Some(crash_at), &mut counts, &mut compared);
        }
    });
    println!("{counts:?} {compared:?}");
    assert!(counts.crashes > 40 && counts.swaps_finished_at_start > 10);
}

/// A log of some length, cleaned twice, the second time up to the crash; how many changes that cleaning makes.
fn one(seed: u64, crash_at: Option<u64>, counts: &mut Counts, compared: &mut Compared) -> u64 {
    let disk = SimDisk::new(seed);
    let mut life = Life::new(seed, &disk);
    life.grow(50);
    life.clean(None).expect("it is cleaned");
    life.now += 600;
    life.grow(40);
    let before = disk.mutations();
    if let Some(nth) = crash_at {
        disk.crash_at(nth);
    }
    let cleaned = life.clean(None);
    let changes = disk.mutations() - before;
    let Some(nth) = crash_at else {
        cleaned.expect("it is cleaned");
        return changes;
    };
    assert!(disk.crashed().is_some(), "no crash at change {nth}");
    // The last change may be a name that was not there anyway.
    assert!(cleaned.is_err() || nth == changes);
    counts.crashes += 1;
    for how in 0..4u64 {
        let after = disk.fork(seed ^ nth << 8 ^ how << 40);
        match how {
            0 => after.kill(),
            1 | 2 => after.power_cut(),
            _ => after.power_cut_losing_all(),
        }
        lives_on(life.on(&after), counts, compared);
    }
    changes
}

fn lives_on(mut life: Life, counts: &mut Counts, compared: &mut Compared) {
    let swaps = |life: &Life| {
        let names = life.home.file_names();
        names.iter().filter(|name| name.ends_with(".swap")).count()
    };
    counts.swaps_finished_at_start += u64::from(swaps(&life) > 0);
    life.reopen();
    assert_eq!(swaps(&life), 0);
    let retention = life.home.options.delete_retention_ms;
    life.model.check(&life.log, retention, compared);
    life.grow(10);
    life.now += 1_200;
    life.clean(None).expect("it is cleaned");
    life.model.check(&life.log, retention, compared);
    counts.cleanings_after += 1;
}
