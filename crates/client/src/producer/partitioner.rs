//! Which partition a record goes to when it does not say: by the hash of its key, or, without one, the same
//! partition until a batch is full and then another (KIP-794).

use std::collections::BTreeMap;

use milena_base::Prng;
use milena_protocol::Str;

/// Remembers where records without a key go.
#[derive(Debug, Default)]
pub struct Partitioner {
    sticky: BTreeMap<Str, Sticky>,
}

#[derive(Debug)]
struct Sticky {
    partition: i32,
    bytes: usize,
}

impl Partitioner {
    /// The partition of a keyed record: Kafka's `toPositive(murmur2(key)) % partitions`.
    pub fn of_key(key: &[u8], partitions: i32) -> i32 {
        (murmur2(key) & 0x7fff_ffff) % partitions
    }

    /// The partition of a record without key and of `bytes`, among those that have a leader.
    pub fn without_key(
        &mut self,
        topic: &Str,
        available: &[i32],
        bytes: usize,
        batch_bytes: usize,
        random: &mut Prng,
    ) -> i32 {
        let stays = |sticky: &&mut Sticky| {
            sticky.bytes < batch_bytes.max(1) && available.contains(&sticky.partition)
        };
        if let Some(sticky) = self.sticky.get_mut(topic).filter(stays) {
            sticky.bytes += bytes;
            return sticky.partition;
        }
        let before = self.sticky.get(topic).map(|sticky| sticky.partition);
        let others = available.iter().filter(|p| Some(**p) != before);
        let others: Vec<i32> = others.copied().collect();
        let among = if others.is_empty() {
            available
        } else {
            &others
        };
        let partition = among[random.below(among.len() as u64) as usize];
        let sticky = Sticky { partition, bytes };
        self.sticky.insert(topic.clone(), sticky);
        partition
    }
}

/// Kafka's 32-bit murmur2 (`Utils.murmur2`), seed included.
pub fn murmur2(data: &[u8]) -> i32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ data.len() as u32;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        k = k.wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (i, &byte) in rest.iter().enumerate() {
            hash ^= u32::from(byte) << (8 * i);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    (hash ^ (hash >> 15)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of Kafka's own `UtilsTest`.
    #[test]
    fn keys_hash_as_kafkas_do() {
        for (key, hash) in [
            ("21", -973932308),
            ("foobar", -790332482),
            ("a-little-bit-long-string", -985981536),
            ("a-little-bit-longer-string", -1486304829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58897971,
            ),
        ] {
            assert_eq!(murmur2(key.as_bytes()), hash, "{key}");
        }
        assert_eq!(murmur2(b"abc"), 479470107);
    }

    #[test]
    fn records_without_key_fill_one_partition_after_the_other() {
        let (mut partitioner, mut random) = (Partitioner::default(), Prng::new(7));
        let mut next = |available: &[i32]| {
            partitioner.without_key(&"t".into(), available, 50, 100, &mut random)
        };
        let first = next(&[0, 1, 2]);
        assert_eq!(next(&[0, 1, 2]), first);
        assert_ne!(next(&[0, 1, 2]), first);
        assert_eq!(next(&[5]), 5);
    }
}
