//! The hash of what a group depends on (KIP-1101): id, name, partitions and racks of the topics that it subscribes to.
//! It is recorded, and compared by Kafka's brokers too, so it has Kafka's bytes: XXH3 over what hash4j puts together.

use milena_base::Uuid;
use milena_protocol::Str;
use xxhash_rust::xxh3::xxh3_64;

/// Kafka's version of the scheme.
const SCHEME: u8 = 0;

/// `racks`: those of each partition's replicas, sorted.
pub(crate) fn topic_hash(id: Uuid, name: &str, racks: &[Vec<Str>]) -> u64 {
    let mut bytes = vec![SCHEME];
    for half in [&id.0[..8], &id.0[8..]] {
        bytes.extend(half.iter().rev());
    }
    put_string(&mut bytes, name);
    put_int(&mut bytes, racks.len());
    for (partition, racks) in racks.iter().enumerate() {
        put_int(&mut bytes, partition);
        for rack in racks {
            put_int(&mut bytes, rack.encode_utf16().count());
            put_string(&mut bytes, rack);
        }
    }
    xxh3_64(&bytes)
}

/// Of the topics' hashes, in the order of their names; 0 for none.
pub(crate) fn group_hash(topics: impl Iterator<Item = u64>) -> i64 {
    let bytes: Vec<u8> = topics.flat_map(u64::to_le_bytes).collect();
    match bytes.is_empty() {
        true => 0,
        false => xxh3_64(&bytes) as i64,
    }
}

fn put_int(bytes: &mut Vec<u8>, number: usize) {
    bytes.extend((number as u32).to_le_bytes());
}

/// UTF-16, then how many units that were.
fn put_string(bytes: &mut Vec<u8>, text: &str) {
    let before = bytes.len();
    bytes.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
    let units = (bytes.len() - before) / 2;
    put_int(bytes, units);
}
