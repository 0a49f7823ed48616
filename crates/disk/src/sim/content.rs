//! One simulated file: what a reader sees now, and what a power cut would leave.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use milena_base::{Prng, Timestamp};

/// Bytes that reach the disk together or not at all, unless the write is torn.
pub(super) const PAGE: u64 = 4096;
/// Bytes that a torn page never splits.
const SECTOR: usize = 512;

type Page = [u8; PAGE as usize];

/// Sparse bytes. Invariant: bytes past `len` in the last page are zero, and no page lies wholly past it.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    pub len: u64,
    pages: BTreeMap<u64, Arc<Page>>,
}

impl Content {
    pub fn pages_held(&self) -> u64 {
        self.pages.len() as u64
    }

    /// Pages that a write of these bytes would newly allocate.
    pub fn pages_missing(&self, position: u64, len: u64) -> u64 {
        pages_of(position, len)
            .filter(|page| !self.pages.contains_key(page))
            .count() as u64
    }

    pub fn read(&self, buf: &mut [u8], position: u64) -> usize {
        let wanted = (buf.len() as u64).min(self.len.saturating_sub(position));
        let mut done = 0;
        while done < wanted {
            let (page, at, count) = piece(position + done, wanted - done);
            let into = &mut buf[done as usize..][..count];
            match self.pages.get(&page) {
                Some(bytes) => into.copy_from_slice(&bytes[at..at + count]),
                None => into.fill(0),
            }
            done += count as u64;
        }
        wanted as usize
    }

    fn write(&mut self, bytes: &[u8], position: u64) {
        let mut done = 0;
        while done < bytes.len() as u64 {
            let (page, at, count) = piece(position + done, bytes.len() as u64 - done);
            let held = self
                .pages
                .entry(page)
                .or_insert_with(|| Arc::new([0; PAGE as usize]));
            Arc::make_mut(held)[at..at + count].copy_from_slice(&bytes[done as usize..][..count]);
            done += count as u64;
        }
        self.len = self.len.max(position + bytes.len() as u64);
    }

    /// Cuts or extends, whatever pages lie past the end now.
    fn set_len(&mut self, len: u64) {
        self.len = len;
        self.pages.split_off(&len.div_ceil(PAGE));
        let used = (len % PAGE) as usize;
        if used > 0
            && let Some(page) = self.pages.get_mut(&(len / PAGE))
        {
            Arc::make_mut(page)[used..].fill(0);
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len as usize];
        self.read(&mut bytes, 0);
        bytes
    }

    fn flip_bit(&mut self, position: u64, bit: u8) {
        if position < self.len {
            let mut byte = [0];
            self.read(&mut byte, position);
            self.write(&[byte[0] ^ (1 << (bit % 8))], position);
        }
    }

    /// Takes a page as `other` has it; with `torn`, only some of its sectors.
    fn take_page(&mut self, other: &Content, page: u64, torn: Option<&mut Prng>) {
        let Some(prng) = torn else {
            match other.pages.get(&page) {
                Some(bytes) => self.pages.insert(page, bytes.clone()),
                None => self.pages.remove(&page),
            };
            return;
        };
        let mut mixed = self.page(page);
        let new = other.page(page);
        for sector in (0..PAGE as usize).step_by(SECTOR) {
            if prng.chance(1, 2) {
                mixed[sector..sector + SECTOR].copy_from_slice(&new[sector..sector + SECTOR]);
            }
        }
        self.pages.insert(page, Arc::new(mixed));
    }

    fn page(&self, page: u64) -> Page {
        self.pages.get(&page).map_or([0; PAGE as usize], |p| **p)
    }
}

/// The page of `position`, where in it that is, and how many of `rest` bytes lie in it.
fn piece(position: u64, rest: u64) -> (u64, usize, usize) {
    let at = position % PAGE;
    let count = rest.min(PAGE - at);
    (position / PAGE, at as usize, count as usize)
}

fn pages_of(position: u64, len: u64) -> std::ops::Range<u64> {
    let end = match len {
        0 => position / PAGE,
        _ => (position + len).div_ceil(PAGE),
    };
    position / PAGE..end
}

/// What of the unsynced survives a cut: each page, entry and length with this chance, in quarters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keep(pub u64);

impl Keep {
    pub fn one(self, prng: &mut Prng) -> bool {
        prng.chance(self.0, 4)
    }
}

/// A file: its bytes as read now and as they stand on the platter.
#[derive(Clone, Debug, Default)]
pub(super) struct SimFileData {
    pub now: Content,
    durable: Content,
    /// Pages changed since they were last written back.
    dirty: BTreeSet<u64>,
    /// Pages whose write-back failed: clean in the cache, so that a later sync does not write them.
    given_up: BTreeSet<u64>,
    /// The least length that the file was cut to since the last sync. The cut is ordered before all writes that
    /// followed it, as in a journal: old bytes never reappear in between.
    cut_to: Option<u64>,
    pub modified: Timestamp,
    pub read_only: bool,
}

impl SimFileData {
    pub fn write(&mut self, bytes: &[u8], position: u64) {
        if bytes.is_empty() {
            return;
        }
        self.now.write(bytes, position);
        self.dirty.extend(pages_of(position, bytes.len() as u64));
    }

    pub fn set_len(&mut self, len: u64) {
        if len < self.now.len {
            self.cut_to = Some(self.cut_to.map_or(len, |least| least.min(len)));
            self.dirty.split_off(&len.div_ceil(PAGE));
        }
        self.now.set_len(len);
        self.dirty.insert(len / PAGE);
        self.dirty.split_off(&len.div_ceil(PAGE));
    }

    pub fn sync(&mut self) {
        self.settle_cut();
        for page in std::mem::take(&mut self.dirty) {
            self.durable.take_page(&self.now, page, None);
            self.given_up.remove(&page);
        }
        self.durable.set_len(self.now.len);
    }

    /// A sync that failed: what was dirty counts as written from now on, and is not.
    pub fn sync_fails(&mut self) {
        self.given_up.append(&mut self.dirty);
    }

    /// The kernel writes some pages back by itself.
    pub fn write_back_some(&mut self, prng: &mut Prng) {
        self.settle_cut();
        for page in self.dirty.clone() {
            if prng.chance(1, 2) {
                self.durable.take_page(&self.now, page, None);
                let end = self.now.len.min((page + 1) * PAGE);
                self.durable.len = self.durable.len.max(end);
                self.dirty.remove(&page);
            }
        }
    }

    pub fn power_cut(&mut self, keep: Keep, prng: &mut Prng) {
        self.given_up.append(&mut self.dirty);
        let unsynced = std::mem::take(&mut self.given_up);
        let cut = self.cut_to.take();
        let cut_is_lost = cut.is_some() && !keep.one(prng);
        if let (Some(len), false) = (cut, cut_is_lost) {
            self.durable.set_len(self.durable.len.min(len));
        }
        let bound = cut.filter(|_| cut_is_lost).map(|len| len / PAGE);
        let mut kept_end = 0;
        for page in unsynced {
            let possible = bound.is_none_or(|bound| page < bound);
            if possible && keep.one(prng) {
                let torn = prng.chance(1, 4);
                let new = &self.now;
                self.durable
                    .take_page(new, page, torn.then_some(&mut *prng));
                kept_end = (page + 1) * PAGE;
            }
        }
        let old = self.durable.len;
        let len = match cut_is_lost {
            true => old,
            false => length_left(old, self.now.len, kept_end, keep, prng),
        };
        self.durable.set_len(len);
        self.now = self.durable.clone();
    }

    /// Damages the stored bytes as well as the cached ones.
    pub fn flip_bit(&mut self, position: u64, bit: u8) {
        self.now.flip_bit(position, bit);
        self.durable.flip_bit(position, bit);
    }

    fn settle_cut(&mut self) {
        if let Some(len) = self.cut_to.take() {
            self.durable.set_len(self.durable.len.min(len));
        }
    }
}

/// The length of a file that grew from `old` to `new` without a sync. Where it is longer than what was kept, the
/// bytes between are zeros, as a journal that orders no data leaves them.
fn length_left(old: u64, new: u64, kept_end: u64, keep: Keep, prng: &mut Prng) -> u64 {
    if new <= old || keep.0 == 0 {
        return old;
    }
    if keep.0 == 4 {
        return new;
    }
    match prng.below(4) {
        0 => old,
        1 => new,
        2 => kept_end.clamp(old, new),
        _ => old + prng.below(new - old + 1),
    }
}
