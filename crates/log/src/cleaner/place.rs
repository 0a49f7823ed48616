//! Putting a cleaned segment in the place of those it was made from, by Kafka's protocol of names: `.cleaned` becomes
//! `.swap` once it is complete, the old segments become `.deleted`, and `.swap` loses its suffix. A crash finds the
//! old segments, or a complete `.swap` that the next start puts in place.

use std::sync::Arc;

use milena_base::{Now, Offset};

use super::{Cleaning, Phase};
use crate::error::Fault;
use crate::log::{Deletion, Log, Segments};
use crate::names::{CLEANED, FileKind, SWAP};
use crate::segment::{Env, Segment, rename_to_deleted, suffixed};

impl Log {
    /// Puts the segment in place that a step has left ready. False where the segments it was made from are not all
    /// there any more: then the cleaning is to be abandoned. Waits for the disk to take the names.
    pub fn put_in_place(&mut self, cleaning: &mut Cleaning, now: Now) -> Result<bool, Fault> {
        self.check_writable()?;
        let Phase::Copying { current, .. } = &mut cleaning.phase else {
            return Ok(true);
        };
        let Some(copying) = current.take_if(|copying| copying.is_ready) else {
            return Ok(true);
        };
        let old = &cleaning.view[copying.group.clone()];
        let view = self.shared.segments.load_full();
        let Some(at) = position_of(&view, old) else {
            *current = Some(copying);
            return Ok(false);
        };
        let placed = self.swap(old, &copying.target, now);
        if placed.is_err() {
            // Half done, the directory is not what the view says.
            self.broken
                .get_or_insert_with(|| "putting a cleaned segment in place failed".into());
        }
        placed?;
        let next = view[at + old.len()].base();
        let furthest = copying.target.base() + (i64::from(i32::MAX) + 1);
        copying.target.set_next_offset(next.min(furthest));
        let mut segments = Segments::clone(&view);
        segments.splice(at..at + old.len(), [Arc::clone(&copying.target)]);
        self.shared.segments.store(Arc::new(segments));
        Ok(true)
    }

    fn swap(&mut self, old: &[Arc<Segment>], target: &Segment, now: Now) -> Result<(), Fault> {
        let env = Arc::clone(&self.shared.env);
        for segment in old {
            let pinned = segment.pin_files();
            self.guard(pinned)?;
        }
        let base = target.base();
        let renamed = rename(&env, base, CLEANED, SWAP);
        self.guard(renamed)?;
        let synced = env.disk.sync_dir(&env.dir);
        self.guard(synced)?;
        let mut paths = Vec::new();
        for segment in old {
            let renamed = rename_to_deleted(&env, segment.base(), &FileKind::OF_SEGMENT);
            paths.extend(self.guard(renamed)?);
            if segment.base() != base {
                let snapshot = self.snapshots.rename_to_deleted(&env, segment.base());
                paths.extend(self.guard(snapshot)?);
            }
        }
        // Before the last names: an old segment that a power cut brought back beside the new one, with no `.swap` to
        // tell of it, would hold the same offsets.
        let synced = env.disk.sync_dir(&env.dir);
        self.guard(synced)?;
        let renamed = rename(&env, base, SWAP, "");
        self.guard(renamed)?;
        target.set_in_place();
        self.dir_version.change();
        let due = now.mono + self.options.file_delete_delay;
        self.deletions.push(Deletion { due, paths });
        Ok(())
    }
}

/// Where all of `old` are in the view, one behind the other and not the last.
fn position_of(view: &Segments, old: &[Arc<Segment>]) -> Option<usize> {
    let first = old.first()?;
    let at = view
        .iter()
        .position(|segment| Arc::ptr_eq(segment, first))?;
    let there = view.get(at..at + old.len())?;
    let same = there.iter().zip(old).all(|(a, b)| Arc::ptr_eq(a, b));
    (same && at + old.len() < view.len()).then_some(at)
}

/// Renames the files of one segment that are there, the log first.
fn rename(env: &Env, base: Offset, from: &str, to: &str) -> std::io::Result<()> {
    for kind in FileKind::OF_SEGMENT {
        let plain = kind.path(&env.dir, base);
        match env
            .disk
            .rename(&suffixed(&plain, from), &suffixed(&plain, to))
        {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
