//! The order in which Java's `HashMap` and `HashSet` give what they hold. Kafka's `uniform` assignor goes through its
//! members, topics and partitions in that order, so that it decides who keeps what: to give the same assignments it
//! has to be known. (Bins that Java makes into trees, from eight collisions on, are not followed.)

use milena_base::Uuid;

/// The table of a map that was not told how much will be in it.
pub(crate) const DEFAULT_CAPACITY: usize = 16;

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
