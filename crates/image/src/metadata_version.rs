//! The levels of `metadata.version` and what each allows (Kafka's `MetadataVersion`, 4.4.0).

use std::fmt;

/// A finalised or supported level of `metadata.version`. Ordered as the levels are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MetadataVersion(i16);

/// Name, and whether its records differ from those of the level before; level 7 comes first.
const LEVELS: [(&str, bool); 28] = [
    ("3.3-IV3", true),
    ("3.4-IV0", true),
    ("3.5-IV0", false),
    ("3.5-IV1", false),
    ("3.5-IV2", true),
    ("3.6-IV0", false),
    ("3.6-IV1", true),
    ("3.6-IV2", true),
    ("3.7-IV0", true),
    ("3.7-IV1", false),
    ("3.7-IV2", true),
    ("3.7-IV3", false),
    ("3.7-IV4", false),
    ("3.8-IV0", false),
    ("3.9-IV0", false),
    ("4.0-IV0", false),
    ("4.0-IV1", true),
    ("4.0-IV2", false),
    ("4.0-IV3", false),
    ("4.1-IV0", false),
    ("4.1-IV1", false),
    ("4.2-IV0", false),
    ("4.2-IV1", false),
    ("4.3-IV0", true),
    ("4.4-IV0", false),
    ("4.4-IV1", true),
    ("4.4-IV2", true),
    ("4.5-IV0", false),
];
const FIRST: i16 = 7;

impl MetadataVersion {
    pub const V3_3_IV3: MetadataVersion = MetadataVersion(7);
    pub const V3_4_IV0: MetadataVersion = MetadataVersion(8);
    pub const V3_5_IV0: MetadataVersion = MetadataVersion(9);
    pub const V3_5_IV1: MetadataVersion = MetadataVersion(10);
    pub const V3_5_IV2: MetadataVersion = MetadataVersion(11);
    pub const V3_6_IV0: MetadataVersion = MetadataVersion(12);
    pub const V3_6_IV1: MetadataVersion = MetadataVersion(13);
    pub const V3_6_IV2: MetadataVersion = MetadataVersion(14);
    pub const V3_7_IV0: MetadataVersion = MetadataVersion(15);
    pub const V3_7_IV2: MetadataVersion = MetadataVersion(17);
    pub const V3_7_IV4: MetadataVersion = MetadataVersion(19);
    pub const V3_9_IV0: MetadataVersion = MetadataVersion(21);
    pub const V4_0_IV0: MetadataVersion = MetadataVersion(22);
    pub const V4_0_IV1: MetadataVersion = MetadataVersion(23);
    pub const V4_0_IV2: MetadataVersion = MetadataVersion(24);
    pub const V4_0_IV3: MetadataVersion = MetadataVersion(25);
    pub const V4_1_IV0: MetadataVersion = MetadataVersion(26);
    pub const V4_1_IV1: MetadataVersion = MetadataVersion(27);
    pub const V4_2_IV0: MetadataVersion = MetadataVersion(28);
    pub const V4_2_IV1: MetadataVersion = MetadataVersion(29);
    pub const V4_3_IV0: MetadataVersion = MetadataVersion(30);
    pub const V4_4_IV0: MetadataVersion = MetadataVersion(31);
    pub const V4_4_IV1: MetadataVersion = MetadataVersion(32);
    pub const V4_4_IV2: MetadataVersion = MetadataVersion(33);

    /// The lowest level that a 4.x node opens.
    pub const MINIMUM: MetadataVersion = MetadataVersion::V3_3_IV3;
    /// What a new cluster gets, and the highest level that is supported.
    pub const LATEST_PRODUCTION: MetadataVersion = MetadataVersion::V4_4_IV2;
    /// Highest level that has a name, production or not.
    pub const LATEST_TESTING: MetadataVersion = MetadataVersion(FIRST + LEVELS.len() as i16 - 1);

    /// The level with this number, production or not.
    pub fn from_level(level: i16) -> Option<MetadataVersion> {
        (MetadataVersion::MINIMUM.0..=MetadataVersion::LATEST_TESTING.0)
            .contains(&level)
            .then_some(MetadataVersion(level))
    }

    /// All production levels, ascending.
    pub fn production() -> impl DoubleEndedIterator<Item = MetadataVersion> {
        (MetadataVersion::MINIMUM.0..=MetadataVersion::LATEST_PRODUCTION.0).map(MetadataVersion)
    }

    /// The number in the records.
    pub fn level(self) -> i16 {
        self.0
    }

    /// Kafka's name, for example `4.4-IV2`.
    pub fn name(self) -> &'static str {
        LEVELS[(self.0 - FIRST) as usize].0
    }

    /// The release, for example `4.4`.
    pub fn release(self) -> &'static str {
        self.name().split('-').next().unwrap_or_default()
    }

    /// Whether records changed with this level, so that going below it may lose some.
    pub fn did_metadata_change(self) -> bool {
        LEVELS[(self.0 - FIRST) as usize].1
    }

    /// Parses a level's name, or a release (`4.4`, `4.4.1`), which stands for its last production level.
    pub fn parse(text: &str) -> Option<MetadataVersion> {
        let mut dots = text.match_indices('.').map(|(at, _)| at);
        let key = dots.nth(1).map_or(text, |at| &text[..at]);
        let named = |v: &MetadataVersion| v.name() == key || v.release() == key;
        MetadataVersion::production().rev().find(named)
    }

    /// Whether going from `from` to `to` (either way) passes a level whose records differ.
    pub fn metadata_changed_between(from: MetadataVersion, to: MetadataVersion) -> bool {
        let (low, high) = (from.min(to), from.max(to));
        (low.0 + 1..=high.0).any(|level| MetadataVersion(level).did_metadata_change())
    }

    pub fn supports_scram(self) -> bool {
        self >= MetadataVersion::V3_5_IV2
    }
    /// Below 3.6-IV0 a shrinking ISR raises the leader epoch.
    pub fn bumps_leader_epoch_on_isr_shrink(self) -> bool {
        self < MetadataVersion::V3_6_IV0
    }
    pub fn supports_metadata_transactions(self) -> bool {
        self >= MetadataVersion::V3_6_IV1
    }
    pub fn supports_delegation_tokens(self) -> bool {
        self >= MetadataVersion::V3_6_IV2
    }
    pub fn supports_controller_registration(self) -> bool {
        self >= MetadataVersion::V3_7_IV0
    }
    pub fn supports_directory_assignment(self) -> bool {
        self >= MetadataVersion::V3_7_IV2
    }
    pub fn supports_elr(self) -> bool {
        self >= MetadataVersion::V4_0_IV1
    }
    pub fn supports_cordoned_log_dirs(self) -> bool {
        self >= MetadataVersion::V4_3_IV0
    }
    pub fn supports_cidr_acls(self) -> bool {
        self >= MetadataVersion::V4_4_IV1
    }
    pub fn supports_controller_unregistration(self) -> bool {
        self >= MetadataVersion::V4_4_IV2
    }

    pub fn register_broker_record_version(self) -> i16 {
        match self {
            v if v.supports_cordoned_log_dirs() => 4,
            v if v.supports_directory_assignment() => 3,
            v if v >= MetadataVersion::V3_4_IV0 => 2,
            _ => 1,
        }
    }

    /// Version of PartitionRecord and of PartitionChangeRecord.
    pub fn partition_record_version(self) -> i16 {
        match self {
            v if v.supports_elr() => 2,
            v if v.supports_directory_assignment() => 1,
            _ => 0,
        }
    }

    /// Version of Fetch between replicas.
    pub fn fetch_request_version(self) -> i16 {
        match self {
            v if v >= MetadataVersion::V4_1_IV1 => 18,
            v if v >= MetadataVersion::V3_9_IV0 => 17,
            v if v >= MetadataVersion::V3_7_IV4 => 16,
            v if v >= MetadataVersion::V3_5_IV1 => 15,
            v if v >= MetadataVersion::V3_5_IV0 => 14,
            _ => 13,
        }
    }

    /// Version of ListOffsets between replicas.
    pub fn list_offsets_request_version(self) -> i16 {
        match self {
            v if v >= MetadataVersion::V4_2_IV1 => 11,
            v if v >= MetadataVersion::V4_0_IV3 => 10,
            v if v >= MetadataVersion::V3_9_IV0 => 9,
            v if v >= MetadataVersion::V3_5_IV0 => 8,
            _ => 7,
        }
    }
}

impl fmt::Display for MetadataVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for MetadataVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_releases_are_kafkas() {
        assert_eq!(MetadataVersion::LATEST_PRODUCTION.name(), "4.4-IV2");
        assert_eq!(MetadataVersion::parse("4.4").unwrap().level(), 33);
        assert_eq!(MetadataVersion::parse("4.4.1").unwrap().level(), 33);
        assert_eq!(MetadataVersion::parse("3.7").unwrap().level(), 19);
        assert_eq!(MetadataVersion::parse("3.7-IV2").unwrap().level(), 17);
        assert_eq!(MetadataVersion::parse("4.5-IV0"), None);
        assert_eq!(MetadataVersion::parse("3.2"), None);
        assert_eq!(MetadataVersion::from_level(6), None);
        assert_eq!(MetadataVersion::LATEST_TESTING.name(), "4.5-IV0");
    }

    #[test]
    fn a_downgrade_is_harmless_only_where_no_record_changed() {
        let v = |level| MetadataVersion::from_level(level).unwrap();
        assert!(!MetadataVersion::metadata_changed_between(v(33), v(33)));
        assert!(MetadataVersion::metadata_changed_between(v(33), v(32)));
        assert!(!MetadataVersion::metadata_changed_between(v(29), v(23)));
        assert!(MetadataVersion::metadata_changed_between(v(29), v(22)));
        assert!(!MetadataVersion::metadata_changed_between(v(30), v(31)));
    }

    #[test]
    fn record_versions_follow_the_reference_table() {
        let v = |level| MetadataVersion::from_level(level).unwrap();
        let row = |m: MetadataVersion| {
            [
                m.fetch_request_version(),
                m.list_offsets_request_version(),
                m.register_broker_record_version(),
                m.partition_record_version(),
            ]
        };
        assert_eq!(row(v(7)), [13, 7, 1, 0]);
        assert_eq!(row(v(8)), [13, 7, 2, 0]);
        assert_eq!(row(v(10)), [15, 8, 2, 0]);
        assert_eq!(row(v(17)), [15, 8, 3, 1]);
        assert_eq!(row(v(21)), [17, 9, 3, 1]);
        assert_eq!(row(v(23)), [17, 9, 3, 2]);
        assert_eq!(row(v(25)), [17, 10, 3, 2]);
        assert_eq!(row(v(29)), [18, 11, 3, 2]);
        assert_eq!(row(v(33)), [18, 11, 4, 2]);
    }
}
