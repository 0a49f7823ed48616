//! What the log has promised so far, by which what comes back is judged.

use std::fmt;

use bytes::Bytes;
use milena_base::{Now, Offset};
use milena_records::Batch;

use super::node::{Found, TOPIC_ID};

/// A batch as it was handed over, stamped.
#[derive(Clone, PartialEq, Eq)]
pub struct Stored {
    pub base: Offset,
    pub last: Offset,
    pub bytes: Bytes,
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let batch = self.batch();
        let header = batch.header();
        let kind = match (header.is_control(), header.is_transactional()) {
            (true, _) => "!",
            (_, true) => "t",
            _ => "",
        };
        let producer = header.producer_id();
        write!(f, "{}..={} p{producer}{kind}", self.base, self.last)
    }
}

impl Stored {
    pub fn batch(&self) -> Batch {
        Batch::parse(self.bytes.clone()).expect("it was built as a batch")
    }
}

/// Promises of one partition, up to a crash.
#[derive(Clone, Debug)]
pub struct Truth {
    pub now: Now,
    /// How much larger than a few bytes the records and segments are.
    pub scale: usize,
    /// The topic's id was noted.
    pub has_id: bool,
    /// Every batch handed to the log, the last one perhaps not taken.
    pub batches: Vec<Stored>,
    /// The log before each truncation that no flush has confirmed: it may come back instead of what replaced it.
    pub cut_off: Vec<Vec<Stored>>,
    /// The end that appends have returned.
    pub taken: Offset,
    /// The end that flushes have confirmed.
    pub flushed: Offset,
    /// Where the log starts in memory, at most.
    pub start: Offset,
    /// The start that was checkpointed.
    pub start_confirmed: Offset,
}

impl Truth {
    pub fn new(now: Now, scale: usize) -> Truth {
        Truth {
            now,
            scale,
            has_id: false,
            batches: Vec::new(),
            cut_off: Vec::new(),
            taken: Offset::ZERO,
            flushed: Offset::ZERO,
            start: Offset::ZERO,
            start_confirmed: Offset::ZERO,
        }
    }

    /// The end below which nothing may be missing.
    fn end_promised(&self, cut: bool) -> Offset {
        match cut {
            true => self.flushed,
            false => self.taken,
        }
    }

    /// Records that must be there.
    pub fn promised(&self, cut: bool) -> u64 {
        (self.end_promised(cut) - self.start).max(0) as u64
    }

    pub fn check(&self, found: &Found, cut: bool, what: &str) {
        let promised = self.end_promised(cut);
        assert!(
            found.end >= promised,
            "{what}: it ends at {}, {promised} was promised",
            found.end
        );
        assert!(
            found.start <= self.start && found.start >= self.start_confirmed.min(found.end),
            "{what}: it starts at {}, not within {}..={}",
            found.start,
            self.start_confirmed,
            self.start
        );
        // Without a flush the whole directory may be gone.
        let is_named = found.topic_id == Some(TOPIC_ID);
        let must_be_named = self.has_id && (!cut || self.flushed > Offset::ZERO);
        assert!(is_named || !must_be_named, "{what}: the topic's id is lost");
        let whole = is_run_of(&found.batches, &self.batches, self.start);
        let before = self
            .cut_off
            .iter()
            .any(|old| is_run_of(&found.batches, old, self.start));
        assert!(whole || before, "{what}: {}", self.difference(found));
        assert!(
            found.is_contiguous(self.start.min(self.end_promised(cut))),
            "{what}: a hole in {}",
            found.summary()
        );
    }

    fn difference(&self, found: &Found) -> String {
        let offsets = |batches: &[Stored]| {
            let pairs: Vec<_> = batches.iter().map(|b| (b.base.0, b.last.0)).collect();
            format!("{pairs:?}")
        };
        let cut_off: Vec<_> = self.cut_off.iter().map(|old| offsets(old)).collect();
        format!(
            "found {}\nstored {}\ncut off {cut_off:?}",
            found.summary(),
            offsets(&self.batches)
        )
    }

    /// The promises of a log that came back as `found`. (It came back from a disk that has settled, or its
    /// next start is from the same cache.)
    pub fn after(&self, found: &Found) -> Truth {
        Truth {
            now: self.now,
            scale: self.scale,
            has_id: found.topic_id.is_some(),
            batches: found.batches.clone(),
            cut_off: Vec::new(),
            taken: found.end,
            flushed: self.flushed,
            start: self.start.max(found.start),
            start_confirmed: self.start_confirmed,
        }
    }
}

/// Whether `found` is what `stored` holds from `start` on, up to some batch; and of what was deleted before, any.
fn is_run_of(found: &[Stored], stored: &[Stored], start: Offset) -> bool {
    let (deleted, kept) = found.split_at(found.partition_point(|batch| batch.last < start));
    let run = match kept.first() {
        Some(first) => {
            let from = stored.partition_point(|batch| batch.base < first.base);
            stored[from..].starts_with(kept)
        }
        None => true,
    };
    run && deleted.iter().all(|batch| stored.contains(batch))
}
