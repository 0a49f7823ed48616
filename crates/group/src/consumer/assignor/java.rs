//! The order in which Java's `HashMap` and `HashSet` give what they hold. Kafka's `uniform` assignor goes through its
//! members, topics and partitions in that order, so that it decides who keeps what: to give the same assignments it
//! has to be known; and so has that of Kafka's own `TimelineHashMap`, from which the members come. (Bins that Java
//! makes into trees, from eight collisions on, are not followed.)

use milena_base::Uuid;
use milena_protocol::Str;

/// The table of a map that was not told how much will be in it.
pub(crate) const DEFAULT_CAPACITY: usize = 16;

/// The table of Kafka's map before anything is in it.
const TABLE_SLOTS_MIN: usize = 2;
/// 2⁶⁴ by the golden ratio, signed.
const FIBONACCI: i64 = -7_046_029_254_386_353_131;

/// `String.hashCode()`.
pub(crate) fn string_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    })
}

/// `Uuid.hashCode()` of Kafka.
pub(crate) fn uuid_hash(id: Uuid) -> i32 {
    let (high, low) = parts(id);
    let mixed = high ^ low;
    ((mixed >> 32) as i32) ^ (mixed as i32)
}

/// Both halves, signed, as Kafka compares ids.
pub(crate) fn parts(id: Uuid) -> (i64, i64) {
    let bits = u128::from_be_bytes(id.0);
    ((bits >> 64) as i64, bits as i64)
}

/// The table of a `HashSet` made of a collection.
pub(crate) fn capacity_for_copy(len: usize) -> usize {
    let wanted = (len as f32 / 0.75) as usize + 1;
    wanted.max(DEFAULT_CAPACITY).next_power_of_two()
}

/// The keys, given in the order in which they were put in, as a map gives them that began with `capacity`.
pub(crate) fn in_order<K>(keys: Vec<K>, capacity: usize, hash: impl Fn(&K) -> i32) -> Vec<K> {
    let mut capacity = capacity.max(1);
    while keys.len() > capacity * 3 / 4 {
        capacity *= 2;
    }
    let bin = |key: &K| {
        let hash = hash(key) as u32;
        (hash ^ (hash >> 16)) as usize & (capacity - 1)
    };
    let mut keys = keys;
    keys.sort_by_cached_key(bin);
    keys
}

/// Names in the order in which Kafka's `TimelineHashMap` gives them: by slots, the newest of a slot first. The table
/// grows with the names, and stays as large as it was.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    slots: Vec<Vec<Str>>,
    len: usize,
}

impl Default for Table {
    fn default() -> Table {
        Table {
            slots: vec![Vec::new(); TABLE_SLOTS_MIN],
            len: 0,
        }
    }
}

impl Table {
    /// Whether it grows before it takes anything, be it what it has already.
    pub(crate) fn is_full(&self) -> bool {
        (self.len + 1) * 3 > self.slots.len() * 4
    }

    /// A name that is in it stays where it is.
    pub(crate) fn put(&mut self, name: &Str) {
        if self.is_full() {
            let slots = self.slots.len() * 2;
            let before = std::mem::replace(&mut self.slots, vec![Vec::new(); slots]);
            for name in before.into_iter().flatten() {
                let slot = self.slot(&name);
                self.slots[slot].push(name);
            }
        }
        let slot = self.slot(name);
        if !self.slots[slot].contains(name) {
            self.slots[slot].push(name.clone());
            self.len += 1;
        }
    }

    pub(crate) fn remove(&mut self, name: &Str) {
        let slot = self.slot(name);
        let before = self.slots[slot].len();
        self.slots[slot].retain(|other| other != name);
        self.len -= before - self.slots[slot].len();
    }

    /// Fibonacci hashing: the highest bits of a product.
    fn slot(&self, name: &str) -> usize {
        let product = i64::from(string_hash(name)).wrapping_mul(FIBONACCI) as u64;
        (product >> (64 - self.slots.len().trailing_zeros())) as usize
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Str> {
        self.slots.iter().flat_map(|slot| slot.iter().rev())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values are those of a JVM.
    #[test]
    fn hashes_are_javas() {
        assert_eq!(string_hash(""), 0);
        assert_eq!(string_hash("uniform"), -286926412);
        assert_eq!(string_hash("été"), 227742);
    }
}
