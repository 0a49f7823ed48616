//! The newest offset of each key of the dirty part of a log, in a table of fixed size: 24 bytes a key, as Kafka's
//! `SkimpyOffsetMap`. A key is known by 128 bits of a SHA-256 over a secret and the key, so that nobody can choose two
//! keys that are taken for one (Kafka's MD5 lets whoever writes them lose another's record).

use milena_base::Offset;
use sha2::{Digest, Sha256};

const HASH_BYTES: usize = 16;
const ENTRY_BYTES: usize = HASH_BYTES + 8;
/// Probes at places that the hash names, before the search goes on from place to place.
const HASHED_PROBES: usize = HASH_BYTES / 4;

pub(super) type Secret = [u8; 16];

pub(super) struct OffsetMap {
    secret: Secret,
    /// Zeros where nothing is: an offset is stored plus one.
    table: Vec<u8>,
    slots: usize,
    entries: usize,
    entries_max: usize,
    /// Every record up to here has been seen; −1 where none has.
    latest: Offset,
}

impl OffsetMap {
    /// A table of at most `bytes_max` bytes, and not more than `offsets` records can need, of which `load_factor` is
    /// used. Holds at least one key.
    pub(super) fn new(secret: Secret, bytes_max: u64, load_factor: f64, offsets: u64) -> OffsetMap {
        let load_factor = load_factor.clamp(f64::EPSILON, 1.0);
        let slots_max = (bytes_max / ENTRY_BYTES as u64).clamp(1, u64::from(u32::MAX));
        let entries_max = ((slots_max as f64 * load_factor) as u64).max(1);
        let wanted = (offsets.min(entries_max) as f64 / load_factor) as u64 + 1;
        let slots = wanted.min(slots_max) as usize;
        OffsetMap {
            secret,
            table: vec![0; slots * ENTRY_BYTES],
            slots,
            entries: 0,
            entries_max: entries_max as usize,
            latest: Offset::NONE,
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.entries >= self.entries_max
    }

    pub(super) fn entries(&self) -> usize {
        self.entries
    }

    pub(super) fn latest(&self) -> Offset {
        self.latest
    }

    pub(super) fn set_latest(&mut self, offset: Offset) {
        self.latest = offset;
    }

    /// Notes the newest offset of a key. The map must not be full.
    pub(super) fn put(&mut self, key: &[u8], offset: Offset) {
        debug_assert!(!self.is_full());
        let hash = self.hash(key);
        let Some(slot) = self.find(&hash) else {
            unreachable!("a map that is not full has a place");
        };
        let place = slot * ENTRY_BYTES;
        if self.offset_at(slot).is_none() {
            self.entries += 1;
            self.table[place..place + HASH_BYTES].copy_from_slice(&hash);
        }
        let stored = (offset.0 + 1).to_be_bytes();
        self.table[place + HASH_BYTES..place + ENTRY_BYTES].copy_from_slice(&stored);
        self.latest = offset;
    }

    /// The newest offset of a key, where the map has it.
    pub(super) fn get(&self, key: &[u8]) -> Option<Offset> {
        let hash = self.hash(key);
        self.find(&hash).and_then(|slot| self.offset_at(slot))
    }

    fn hash(&self, key: &[u8]) -> [u8; HASH_BYTES] {
        let digest = Sha256::new_with_prefix(self.secret)
            .chain_update(key)
            .finalize();
        let mut hash = [0; HASH_BYTES];
        hash.copy_from_slice(&digest[..HASH_BYTES]);
        hash
    }

    /// The place of a hash, or the free place where it belongs; `None` where neither is left.
    fn find(&self, hash: &[u8; HASH_BYTES]) -> Option<usize> {
        let (words, _) = hash.as_chunks::<4>();
        let words: [usize; HASHED_PROBES] =
            std::array::from_fn(|index| u32::from_be_bytes(words[index]) as usize % self.slots);
        let last = words[HASHED_PROBES - 1];
        let further = (1..self.slots).map(|step| (last + step) % self.slots);
        let mut places = words.into_iter().chain(further);
        places.find(|slot| {
            let place = slot * ENTRY_BYTES;
            self.table[place..place + HASH_BYTES] == *hash || self.offset_at(*slot).is_none()
        })
    }

    fn offset_at(&self, slot: usize) -> Option<Offset> {
        let at = slot * ENTRY_BYTES + HASH_BYTES;
        let mut stored = [0; 8];
        stored.copy_from_slice(&self.table[at..at + 8]);
        let stored = i64::from_be_bytes(stored);
        (stored > 0).then(|| Offset(stored - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_offset_of_each_key_up_to_the_bound() {
        // A hundred places, all of them used.
        let mut map = OffsetMap::new([7; 16], 100 * 24 + 23, 1.0, 1_000_000);
        let mut offset = 0;
        for key in 0..100u32 {
            for _ in 0..3 {
                if !map.is_full() {
                    map.put(&key.to_be_bytes(), Offset(offset));
                    offset += 1;
                }
            }
        }
        assert_eq!(map.entries(), 100);
        assert!(map.is_full());
        for key in 0..99u32 {
            let newest = Offset(i64::from(key) * 3 + 2);
            assert_eq!(map.get(&key.to_be_bytes()), Some(newest));
        }
        assert_eq!(map.get(b"another"), None);
        assert_eq!(map.latest(), Offset(offset - 1));
    }

    #[test]
    fn a_short_dirty_part_takes_a_small_table() {
        let map = OffsetMap::new([0; 16], 128 << 20, 0.9, 9);
        assert!(map.table.len() <= 11 * ENTRY_BYTES, "{}", map.table.len());
        let least = OffsetMap::new([0; 16], 0, 0.5, 9);
        assert!(!least.is_full());
    }
}
