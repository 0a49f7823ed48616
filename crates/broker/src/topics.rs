//! Facts about topic names.

/// Topics that clients may not write to or create at will (Kafka's `Topic.isInternal`).
pub const INTERNAL: [&str; 3] = [
    "__consumer_offsets",
    "__transaction_state",
    "__share_group_state",
];

pub const CONSUMER_OFFSETS: &str = INTERNAL[0];
pub const TRANSACTION_STATE: &str = INTERNAL[1];
pub const SHARE_GROUP_STATE: &str = INTERNAL[2];

/// Longest legal name.
const NAME_CHARS_MAX: usize = 249;

pub fn is_internal(name: &str) -> bool {
    INTERNAL.contains(&name)
}

/// Whether Kafka takes this as a topic's name.
pub fn is_legal(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty()
        && name != "."
        && name != ".."
        && name.len() <= NAME_CHARS_MAX
        && name.chars().all(legal)
}
