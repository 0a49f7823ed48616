//! What lies in a partition's directory, once the traces of interrupted work are gone: files to be deleted, a
//! cleaner's half-finished output, segments that a finished one was about to replace.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use milena_base::Offset;
use milena_disk::DirEntry;

use crate::names::{
    CLEANED, DELETED, FileKind, LEADER_EPOCH_CHECKPOINT, PARTITION_METADATA, SWAP, leading_offset,
};
use crate::segment::scan::{Scan, Step};
use crate::segment::{Env, FileLens, OFFSET_ENTRY_BYTES, TIME_ENTRY_BYTES, TXN_ENTRY_BYTES};

#[derive(Debug, Default)]
pub(super) struct Listing {
    pub segments: BTreeMap<Offset, FileLens>,
    pub snapshots: BTreeSet<Offset>,
    pub epochs_len: Option<u64>,
    pub metadata_len: Option<u64>,
}

/// Whether a segment's indexes are there and of whole entries.
pub(super) fn are_plausible(lens: &FileLens) -> bool {
    let whole = |len: u64, entry: usize| len.is_multiple_of(entry as u64);
    lens.offset_index
        .is_some_and(|len| whole(len, OFFSET_ENTRY_BYTES))
        && lens
            .time_index
            .is_some_and(|len| whole(len, TIME_ENTRY_BYTES))
        && whole(lens.txn_index, TXN_ENTRY_BYTES)
        && lens.log <= i32::MAX as u64
}

pub(super) fn tidy_and_list(env: &Env) -> io::Result<Listing> {
    let mut entries = env.disk.list(&env.dir)?;
    let interrupted = |entry: &DirEntry| {
        [DELETED, CLEANED, SWAP]
            .iter()
            .any(|suffix| entry.name.ends_with(suffix))
    };
    if entries.iter().any(interrupted) {
        tidy(env, &entries)?;
        entries = env.disk.list(&env.dir)?;
    }
    let mut listing = Listing::default();
    let mut orphans = BTreeMap::new();
    for entry in entries.iter().filter(|entry| !entry.is_dir) {
        note(&mut listing, &mut orphans, entry);
    }
    for ((kind, base), len) in orphans {
        match listing.segments.get_mut(&base) {
            Some(lens) => set_len(lens, kind, len),
            // An index whose log is gone: a deletion was interrupted.
            None => env.disk.remove_file(&kind.path(&env.dir, base))?,
        }
    }
    Ok(listing)
}

fn note(listing: &mut Listing, indexes: &mut BTreeMap<(FileKind, Offset), u64>, entry: &DirEntry) {
    match FileKind::parse(&entry.name) {
        Some((FileKind::Log, base)) => {
            listing.segments.entry(base).or_default().log = entry.len;
        }
        Some((FileKind::ProducerSnapshot, offset)) => {
            listing.snapshots.insert(offset);
        }
        Some((kind, base)) => {
            indexes.insert((kind, base), entry.len);
        }
        None if entry.name == LEADER_EPOCH_CHECKPOINT => listing.epochs_len = Some(entry.len),
        None if entry.name == PARTITION_METADATA => listing.metadata_len = Some(entry.len),
        None => {}
    }
}

fn set_len(lens: &mut FileLens, kind: FileKind, len: u64) {
    match kind {
        FileKind::OffsetIndex => lens.offset_index = Some(len),
        FileKind::TimeIndex => lens.time_index = Some(len),
        FileKind::TxnIndex => lens.txn_index = len,
        FileKind::Log => lens.log = len,
        FileKind::ProducerSnapshot => {}
    }
}

/// Finishes what was interrupted. A `.swap` is complete and takes the place of the segments whose offsets it covers,
/// unless a `.cleaned` with a smaller offset says that the set of swap files is not.
fn tidy(env: &Env, entries: &[DirEntry]) -> io::Result<()> {
    let mut swaps = Vec::new();
    let mut cleaned = Vec::new();
    let mut first_cleaned = Offset::MAX;
    for entry in entries.iter().filter(|entry| !entry.is_dir) {
        let name = entry.name.as_str();
        if name.ends_with(DELETED) && !name.ends_with(".checkpoint.deleted") {
            env.disk.remove_file(&env.dir.join(name))?;
        } else if name.ends_with(CLEANED) {
            let offset = leading_offset(name).unwrap_or(Offset::ZERO);
            first_cleaned = first_cleaned.min(offset);
            cleaned.push(entry);
        } else if name.ends_with(SWAP) {
            swaps.push(entry);
        }
    }
    let (complete, partial): (Vec<_>, Vec<_>) = swaps
        .into_iter()
        .partition(|entry| leading_offset(&entry.name).is_some_and(|at| at < first_cleaned));
    remove(env, &partial)?;
    // What tells that the set is not complete goes after the set, also for the next start after a power cut.
    if !partial.is_empty() {
        env.disk.sync_dir(&env.dir)?;
    }
    remove(env, &cleaned)?;
    if let Some(covered) = covered_by(env, &complete)? {
        let is_replaced = |entry: &&DirEntry| {
            let is_plain = ![SWAP, DELETED, CLEANED]
                .iter()
                .any(|suffix| entry.name.ends_with(suffix));
            let offset = leading_offset(&entry.name);
            !entry.is_dir && is_plain && offset.is_some_and(|offset| covered.contains(&offset))
        };
        let replaced: Vec<&DirEntry> = entries.iter().filter(is_replaced).collect();
        remove(env, &replaced)?;
        // As in `Log::put_in_place`: none may come back once the `.swap` that tells of them is gone.
        env.disk.sync_dir(&env.dir)?;
    }
    rename_swaps(env, &complete)
}

fn remove(env: &Env, entries: &[&DirEntry]) -> io::Result<()> {
    entries
        .iter()
        .try_for_each(|entry| env.disk.remove_file(&env.dir.join(&entry.name)))
}

/// The offsets of the batches in the swapped log files.
fn covered_by(env: &Env, swaps: &[&DirEntry]) -> io::Result<Option<std::ops::Range<Offset>>> {
    let mut covered: Option<std::ops::Range<Offset>> = None;
    for entry in swaps {
        let plain = entry.name.strip_suffix(SWAP).unwrap_or(&entry.name);
        let Some((FileKind::Log, base)) = FileKind::parse(plain) else {
            continue;
        };
        let path = env.dir.join(&entry.name);
        let file = env.disk.open(&path, milena_disk::OpenMode::Read)?;
        let mut scan = Scan::large(file, 0, entry.len.min(i32::MAX as u64) as u32);
        // Also one without batches takes the place of the segment of its name, and of that one's indexes.
        let mut next = base + 1;
        while let Step::Batch(batch) = scan.step()? {
            next = batch.last_offset + 1;
        }
        covered = Some(match covered {
            Some(range) => range.start.min(base)..range.end.max(next),
            None => base..next,
        });
    }
    Ok(covered)
}

fn rename_swaps(env: &Env, swaps: &[&DirEntry]) -> io::Result<()> {
    for entry in swaps {
        let plain = entry.name.strip_suffix(SWAP).unwrap_or(&entry.name);
        env.disk
            .rename(&env.dir.join(&entry.name), &env.dir.join(plain))?;
    }
    Ok(())
}
