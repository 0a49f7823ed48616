//! Which partition of an internal topic a name's records are in.

/// Java's `String.hashCode` of a group or transactional id, without its sign, modulo the number of partitions.
pub fn partition_for(id: &str, partitions: i32) -> i32 {
    let hash = id.encode_utf16().fold(0i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    // Kafka takes the absolute value, and 0 where there is none.
    hash.checked_abs().unwrap_or(0) % partitions.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values are `Utils.abs(id.hashCode()) % 50` of a JVM.
    #[test]
    fn groups_are_where_kafka_looks_for_them() {
        for (group, partition) in PLACES {
            assert_eq!(partition_for(group, 50), *partition, "{group:?}");
        }
    }

    const PLACES: &[(&str, i32)] = &[
        ("", 0),
        ("g", 3),
        ("group", 47),
        ("console-consumer-12345", 6),
        ("my-group", 12),
        ("été", 42),
        ("😀", 49),
        ("polygenelubricants", 0),
        ("connect-cluster", 13),
    ];
}
