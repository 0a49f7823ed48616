//! What the simulated disk may lose, and what it must not.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use milena_base::Prng;
use milena_disk::{Disk, Op, OpenMode, SimDisk, is_full, read_all, replace};

const ROOT: &str = "/d";

fn disk(seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    disk.create_dir_all(Path::new(ROOT)).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk
}

fn path(name: &str) -> PathBuf {
    Path::new(ROOT).join(name)
}

fn content(disk: &SimDisk, name: &str) -> Option<Vec<u8>> {
    read_all(disk, &path(name), 1 << 20).unwrap()
}

fn put(disk: &SimDisk, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let file = disk.open(&path(name), OpenMode::Create)?;
    file.write_all_at(&[bytes], 0)
}

#[test]
fn what_was_synced_with_its_name_survives_every_cut() {
    for seed in 0..200 {
        let disk = disk(seed);
        let file = disk.open(&path("f"), OpenMode::CreateNew).unwrap();
        file.write_all_at(&[&[5; 10_000]], 0).unwrap();
        file.sync_data().unwrap();
        disk.sync_dir(Path::new(ROOT)).unwrap();
        file.write_all_at(&[&[6; 10_000]], 10_000).unwrap();
        disk.power_cut();
        let bytes = content(&disk, "f").unwrap();
        assert_eq!(bytes[..10_000], [5; 10_000]);
        assert!(bytes[10_000..].iter().all(|byte| [0, 6].contains(byte)));
        disk.power_cut();
        assert_eq!(content(&disk, "f").unwrap(), bytes, "a cut settles things");
        assert!(file.len().is_err(), "the handle is of an earlier boot");
    }
}

#[test]
fn of_the_unsynced_every_subset_is_seen() {
    let mut pages = BTreeSet::new();
    let mut names = BTreeSet::new();
    let mut lengths = BTreeSet::new();
    let mut torn = 0;
    for seed in 0..2000 {
        let disk = disk(seed);
        let file = disk.open(&path("f"), OpenMode::CreateNew).unwrap();
        file.write_all_at(&[&[1; 3 * 4096]], 0).unwrap();
        file.sync_all().unwrap();
        disk.sync_dir(Path::new(ROOT)).unwrap();
        file.write_all_at(&[&[2; 5 * 4096]], 0).unwrap();
        put(&disk, "a", b"").unwrap();
        put(&disk, "b", b"").unwrap();
        disk.power_cut();
        let bytes = content(&disk, "f").unwrap();
        let uniform = |page: &[u8]| page.iter().all(|byte| *byte == page[0]);
        torn += bytes.chunks(4096).filter(|page| !uniform(page)).count();
        pages.insert([0, 1, 2].map(|page| bytes[page * 4096]));
        lengths.insert(bytes.len());
        names.insert((content(&disk, "a").is_some(), content(&disk, "b").is_some()));
    }
    assert_eq!((pages.len(), names.len()), (8, 4));
    assert!(torn > 100, "{torn} torn pages");
    assert!(lengths.len() > 50, "{} lengths", lengths.len());
    println!(
        "8 page subsets, 4 name subsets, {torn} torn pages, {} lengths",
        lengths.len()
    );
}

#[test]
fn a_rename_happens_or_not_and_the_bytes_under_it_are_not_its_business() {
    let mut seen = BTreeMap::new();
    for seed in 0..500 {
        let disk = disk(seed);
        put(&disk, "old", b"content").unwrap();
        let file = disk.open(&path("old"), OpenMode::ReadWrite).unwrap();
        file.sync_all().unwrap();
        disk.sync_dir(Path::new(ROOT)).unwrap();
        disk.rename(&path("old"), &path("new")).unwrap();
        disk.power_cut();
        let both = (content(&disk, "old"), content(&disk, "new"));
        *seen.entry(both).or_insert(0) += 1;
    }
    let bytes = || Some(b"content".to_vec());
    let expected = BTreeSet::from([(bytes(), None), (None, bytes())]);
    assert_eq!(seen.keys().cloned().collect::<BTreeSet<_>>(), expected);
}

#[test]
fn a_cut_that_was_synced_never_gives_the_old_bytes_back() {
    for seed in 0..500 {
        let disk = disk(seed);
        put(&disk, "f", &[1; 20_000]).unwrap();
        let file = disk.open(&path("f"), OpenMode::ReadWrite).unwrap();
        file.sync_all().unwrap();
        disk.sync_dir(Path::new(ROOT)).unwrap();
        file.set_len(5000).unwrap();
        let synced = seed % 2 == 0;
        if synced {
            file.sync_all().unwrap();
        }
        file.write_all_at(&[&[2; 9000]], 5000).unwrap();
        disk.power_cut();
        let bytes = content(&disk, "f").unwrap();
        assert_eq!(bytes[..5000], [1; 5000]);
        let mixed = bytes.contains(&2) && bytes[5000..].contains(&1);
        assert!(!mixed, "what follows the cut is ordered after it");
        assert!(!synced || !bytes[5000..].contains(&1));
    }
}

#[test]
fn a_failed_sync_is_not_made_good_by_the_next() {
    let disk = disk(1);
    let file = disk.open(&path("f"), OpenMode::CreateNew).unwrap();
    disk.sync_dir(Path::new(ROOT)).unwrap();
    file.write_all_at(&[b"x"], 0).unwrap();
    disk.fail_next(Op::Sync, ErrorKind::Other);
    assert!(file.sync_data().is_err());
    file.sync_data().unwrap();
    disk.power_cut_losing_all();
    assert_eq!(content(&disk, "f").unwrap(), [0]);
}

#[test]
fn a_kill_keeps_the_page_cache_and_frees_the_lock() {
    let disk = disk(1);
    let lock = disk.lock(&path(".lock")).unwrap();
    put(&disk, "f", b"x").unwrap();
    disk.kill();
    assert_eq!(content(&disk, "f").unwrap(), b"x");
    let again = disk.lock(&path(".lock")).unwrap();
    drop(lock);
    let refused = disk.lock(&path(".lock")).unwrap_err();
    assert_eq!(
        refused.kind(),
        ErrorKind::WouldBlock,
        "a dead lock frees nothing"
    );
    drop(again);
}

#[test]
fn a_full_disk_takes_what_fits_and_goes_on_when_there_is_room() {
    let disk = disk(1);
    disk.set_quota(Some(3 * 4096));
    put(&disk, "a", &[1; 4096]).unwrap();
    let file = disk.open(&path("f"), OpenMode::Create).unwrap();
    let full = file.write_all_at(&[&[2; 4 * 4096]], 100).unwrap_err();
    assert!(is_full(&full), "{full}");
    assert_eq!(file.len().unwrap(), 2 * 4096);
    file.write_all_at(&[&[3; 100]], 0).unwrap();
    assert_eq!(disk.space(Path::new(ROOT)).unwrap().free, 0);
    disk.remove_file(&path("a")).unwrap();
    file.write_all_at(&[&[4; 4096]], 2 * 4096).unwrap();
}

#[test]
fn an_armed_crash_stops_the_machine_at_that_change() {
    for seed in 0..100 {
        let disk = disk(seed);
        put(&disk, "a", b"1").unwrap();
        disk.crash_at(2);
        let file = disk.open(&path("b"), OpenMode::Create).unwrap();
        assert!(disk.crashed().is_none());
        assert!(file.write_all_at(&[b"12"], 0).is_err());
        assert_eq!(disk.crashed().unwrap(), "Write /d/b");
        assert!(disk.list(Path::new(ROOT)).is_err());
        disk.kill();
        let left = content(&disk, "b").unwrap();
        assert!(b"12".starts_with(&left), "{left:?}");
    }
}

#[test]
fn replacing_leaves_old_or_new_at_every_change_and_new_once_it_returned() {
    let (mut old, mut new) = (0, 0);
    for seed in 0..2000 {
        let disk = disk(seed);
        replace(&disk, &path("f"), b"the old text").unwrap();
        disk.crash_at(seed % 8 + 1);
        let done = replace(&disk, &path("f"), b"new").is_ok();
        disk.power_cut();
        match content(&disk, "f").unwrap().as_slice() {
            b"new" => new += 1,
            b"the old text" if !done => old += 1,
            other => panic!("seed {seed}: {other:?}, done: {done}"),
        }
        replace(&disk, &path("f"), b"newer").unwrap();
        assert_eq!(content(&disk, "f").unwrap(), b"newer");
    }
    assert!(old > 100 && new > 100, "old {old}, new {new}");
}

#[test]
fn one_seed_gives_one_outcome() {
    let run = |seed| {
        let disk = disk(seed);
        let mut prng = Prng::new(seed);
        for i in 0..200_u64 {
            let name = format!("{}", prng.below(5));
            put(&disk, &name, &vec![i as u8; prng.below(20_000) as usize]).unwrap();
            if prng.chance(1, 10) {
                disk.sync_dir(Path::new(ROOT)).unwrap();
            }
        }
        disk.power_cut();
        disk.files(Path::new(ROOT))
    };
    let outcomes: BTreeSet<_> = (0..20)
        .map(|seed| (run(seed) == run(seed), run(seed)))
        .collect();
    assert!(outcomes.iter().all(|(same, _)| *same));
    assert!(outcomes.len() > 10);
}
