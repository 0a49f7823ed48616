//! Bits that rot and files that are lost or cut while the node is down (faults F4 and F5): what derives from the
//! batches is made again or passed over, what does not is refused with the file's name, and no record is lost or
//! found in the wrong place.

use milena_base::Prng;
use milena_disk::{Disk, OpenMode, SimDisk};

use super::node::{Node, Trouble};
use super::script::Script;
use super::truth::Truth;
use super::{Counts, root};

/// One damage in so many bytes of a file.
const EVERY_BYTES: u64 = 37;

/// Files whose loss costs nothing but work.
fn is_derived(name: &str) -> bool {
    [
        ".index",
        ".timeindex",
        ".snapshot",
        "leader-epoch-checkpoint",
    ]
    .iter()
    .any(|end| name.ends_with(end))
}

/// A partition that was stopped cleanly, with several segments.
fn stopped(seed: u64) -> (SimDisk, Truth) {
    let run = Script::new(seed).run(None);
    (run.disk, run.truth)
}

fn start(disk: &SimDisk, truth: &Truth) -> Result<Node, Trouble> {
    Node::start(disk, truth)
}

/// Every record is where it was.
fn check_records(node: &Node, truth: &Truth, what: &str) {
    let reader = node.log.reader();
    assert_eq!(reader.log_end(), truth.taken, "{what}");
    for stored in truth
        .batches
        .iter()
        .filter(|stored| stored.base >= reader.log_start())
    {
        let read = reader.read(stored.last, 1, reader.log_end(), true);
        let slice = read.unwrap_or_else(|e| panic!("{what}: {}: {e:?}", stored.last));
        let bytes = slice.file.map(|file| file.read().expect("it is there"));
        assert_eq!(
            bytes.as_deref(),
            Some(&stored.bytes[..]),
            "{what}: {}",
            stored.last
        );
        let timestamp = stored.batch().header().max_timestamp();
        let found = reader.offset_for_timestamp(timestamp);
        assert!(found.is_ok(), "{what}: {timestamp:?}: {found:?}");
    }
}

#[test]
fn a_flipped_bit_in_what_is_derived_costs_no_record() {
    let mut flips = 0;
    for seed in 0..4 {
        let (disk, truth) = stopped(seed);
        let mut prng = Prng::new(seed);
        let files = disk.files(&root().join("t-0"));
        for (name, bytes) in files.iter().filter(|(name, _)| is_derived(name)) {
            for position in
                (prng.below(EVERY_BYTES)..bytes.len() as u64).step_by(EVERY_BYTES as usize)
            {
                let bit = prng.below(8) as u8;
                let damaged = disk.fork(seed);
                let path = root().join("t-0").join(name);
                damaged.flip_bit(&path, position, bit).expect("it is there");
                let what = format!("seed {seed}, bit {bit} of byte {position} of {name}");
                let node = start(&damaged, &truth).unwrap_or_else(|e| panic!("{what}: {e}"));
                check_records(&node, &truth, &what);
                flips += 1;
            }
        }
    }
    assert!(flips > 100);
    println!("{flips} bits flipped");
}

#[test]
fn a_derived_file_that_is_lost_or_cut_is_made_again() {
    let mut counts = Counts::default();
    for seed in 0..8 {
        let (disk, truth) = stopped(seed);
        let mut prng = Prng::new(seed);
        let files = disk.files(&root().join("t-0"));
        for (name, bytes) in files.iter().filter(|(name, _)| is_derived(name)) {
            let path = root().join("t-0").join(name);
            for cut in [None, Some(0), Some(prng.below(bytes.len() as u64 + 1))] {
                let damaged = disk.fork(seed);
                match cut {
                    None => damaged.remove_file(&path).expect("it is there"),
                    Some(len) => {
                        let file = damaged
                            .open(&path, OpenMode::ReadWrite)
                            .expect("it is there");
                        file.set_len(len).expect("it can be cut");
                    }
                }
                let what = format!("seed {seed}, {name} left with {cut:?} bytes");
                let node = start(&damaged, &truth).unwrap_or_else(|e| panic!("{what}: {e}"));
                check_records(&node, &truth, &what);
                counts.recoveries += 1;
            }
        }
    }
    assert!(counts.recoveries > 100);
}

#[test]
fn a_bit_of_a_batch_is_never_served_as_another_record_and_cut_off_after_a_crash() {
    let mut refused = 0;
    for seed in 0..4 {
        let (disk, truth) = stopped(seed);
        let mut prng = Prng::new(seed);
        let files = disk.files(&root().join("t-0"));
        for (name, bytes) in files
            .iter()
            .filter(|(name, bytes)| name.ends_with(".log") && !bytes.is_empty())
        {
            for _ in 0..6 {
                let damaged = disk.fork(prng.next_u64());
                let position = prng.below(bytes.len() as u64);
                let bit = prng.below(8) as u8;
                let path = root().join("t-0").join(name);
                damaged.flip_bit(&path, position, bit).expect("it is there");
                for file in [".kafka_cleanshutdown", "recovery-point-offset-checkpoint"] {
                    damaged
                        .remove_file(&root().join(file))
                        .expect("it is there");
                }
                let what = format!("seed {seed}, bit {bit} of byte {position} of {name}");
                let mut node = start(&damaged, &truth).unwrap_or_else(|e| panic!("{what}: {e}"));
                let found = node.found(&what);
                let stored = |batch| truth.batches.contains(batch);
                let same = found.batches.iter().filter(|batch| stored(batch)).count();
                // The epoch of a batch is not covered by its checksum: that flip alone goes unseen.
                assert!(
                    found.batches.len() - same <= 1,
                    "{what}: {}",
                    found.summary()
                );
                refused += u64::from(found.batches.len() < truth.batches.len());
            }
        }
    }
    assert!(refused > 20, "{refused}");
}
