//! The features beside `metadata.version`, and the finalised levels of all of them.

use std::collections::BTreeMap;

use milena_protocol::{FeatureLevelRecord, MetadataRecord, Str};

use crate::image::VersionedRecord;
use crate::{MetadataVersion, ReplayError, VersionRange};

pub const METADATA_VERSION: &str = "metadata.version";
pub const KRAFT_VERSION: &str = "kraft.version";
pub const TRANSACTION_VERSION: &str = "transaction.version";
pub const GROUP_VERSION: &str = "group.version";
pub const ELR_VERSION: &str = "eligible.leader.replicas.version";
pub const SHARE_VERSION: &str = "share.version";
pub const STREAMS_VERSION: &str = "streams.version";

/// One level of a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeatureLevel {
    pub level: i16,
    /// A new cluster of this `metadata.version` or later gets the level.
    pub bootstrap: MetadataVersion,
    /// Other features and the level that each needs.
    pub dependencies: &'static [(&'static str, i16)],
}

/// A feature with its levels, ascending from 0. All of them are production levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    pub name: &'static str,
    pub levels: &'static [FeatureLevel],
}

const fn level(level: i16, bootstrap: MetadataVersion) -> FeatureLevel {
    FeatureLevel {
        level,
        bootstrap,
        dependencies: &[],
    }
}

/// The features of Kafka 4.4.0 in its order, without `metadata.version`.
pub const FEATURES: [Feature; 6] = [
    Feature {
        name: KRAFT_VERSION,
        levels: &[
            level(0, MetadataVersion::MINIMUM),
            level(1, MetadataVersion::V3_9_IV0),
        ],
    },
    Feature {
        name: TRANSACTION_VERSION,
        levels: &[
            level(0, MetadataVersion::MINIMUM),
            level(1, MetadataVersion::V4_0_IV2),
            level(2, MetadataVersion::V4_0_IV2),
        ],
    },
    Feature {
        name: GROUP_VERSION,
        levels: &[
            level(0, MetadataVersion::MINIMUM),
            level(1, MetadataVersion::V4_0_IV0),
        ],
    },
    Feature {
        name: ELR_VERSION,
        levels: &[
            level(0, MetadataVersion::MINIMUM),
            FeatureLevel {
                level: 1,
                bootstrap: MetadataVersion::V4_1_IV0,
                dependencies: &[(METADATA_VERSION, 23)],
            },
        ],
    },
    Feature {
        name: SHARE_VERSION,
        levels: &[
            level(0, MetadataVersion::MINIMUM),
            level(1, MetadataVersion::V4_2_IV0),
            level(2, MetadataVersion::V4_4_IV0),
        ],
    },
    Feature {
        name: STREAMS_VERSION,
        levels: &[
            level(0, MetadataVersion::MINIMUM),
            level(1, MetadataVersion::V4_2_IV1),
        ],
    },
];

/// The feature of this name; `metadata.version` is not one of these.
pub fn feature(name: &str) -> Option<&'static Feature> {
    FEATURES.iter().find(|feature| feature.name == name)
}

/// What this release supports of each feature, `metadata.version` included: what a node registers with.
pub fn supported_features() -> BTreeMap<&'static str, VersionRange> {
    let metadata = VersionRange {
        min: MetadataVersion::MINIMUM.level(),
        max: MetadataVersion::LATEST_PRODUCTION.level(),
    };
    let others = FEATURES.iter().map(|f| (f.name, f.supported()));
    others.chain([(METADATA_VERSION, metadata)]).collect()
}

impl Feature {
    pub fn supported(&self) -> VersionRange {
        VersionRange {
            min: 0,
            max: self.levels[self.levels.len() - 1].level,
        }
    }

    /// The level that a new cluster of this `metadata.version` gets.
    pub fn default_level(&self, version: MetadataVersion) -> i16 {
        let reached = self.levels.iter().take_while(|l| l.bootstrap <= version);
        reached.last().map_or(0, |l| l.level)
    }

    pub fn level(&self, level: i16) -> Option<&'static FeatureLevel> {
        self.levels.iter().find(|l| l.level == level)
    }
}

/// The finalised levels. `kraft.version` is not among them: the quorum keeps it in control records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Features {
    metadata_version: Option<MetadataVersion>,
    finalized: BTreeMap<Str, i16>,
}

impl Features {
    /// `None` until the bootstrap records have been replayed.
    pub fn metadata_version(&self) -> Option<MetadataVersion> {
        self.metadata_version
    }

    /// The finalised level, 0 where the feature is off.
    pub fn level(&self, name: &str) -> i16 {
        if name == METADATA_VERSION {
            return self.metadata_version.map_or(0, MetadataVersion::level);
        }
        self.finalized.get(name).copied().unwrap_or(0)
    }

    /// Finalised features that are on, without `metadata.version`.
    pub fn finalized(&self) -> impl Iterator<Item = (&Str, i16)> {
        self.finalized.iter().map(|(name, level)| (name, *level))
    }

    /// Whether eligible leader replicas are on (KIP-966).
    pub fn elr_enabled(&self) -> bool {
        self.level(ELR_VERSION) >= 1
    }

    pub(crate) fn replay(&mut self, record: &FeatureLevelRecord) -> Result<(), ReplayError> {
        match record.name.as_str() {
            METADATA_VERSION => {
                let known = MetadataVersion::from_level(record.feature_level)
                    .filter(|v| *v <= MetadataVersion::LATEST_PRODUCTION);
                self.metadata_version = Some(known.ok_or_else(|| unsupported(record))?);
            }
            KRAFT_VERSION => {}
            name => {
                let range = feature(name).map(Feature::supported).unwrap_or_default();
                if !range.contains(record.feature_level) {
                    return Err(unsupported(record));
                }
                if record.feature_level == 0 {
                    self.finalized.remove(name);
                } else {
                    let name = record.name.detached();
                    self.finalized.insert(name, record.feature_level);
                }
            }
        }
        Ok(())
    }

    pub(crate) fn write(&self, version: MetadataVersion, out: &mut dyn FnMut(VersionedRecord)) {
        let mut write = |name: Str, feature_level| {
            let record = FeatureLevelRecord {
                name,
                feature_level,
            };
            out((MetadataRecord::FeatureLevel(record), 0));
        };
        write(Str::from_static(METADATA_VERSION), version.level());
        for (name, level) in &self.finalized {
            write(name.clone(), *level);
        }
    }

    pub(crate) fn differing(&self, other: &Features) -> Vec<Str> {
        let mut names: Vec<Str> = self.finalized.keys().cloned().collect();
        names.extend(other.finalized.keys().cloned());
        names.push(Str::from_static(METADATA_VERSION));
        names.retain(|name| self.level(name) != other.level(name));
        names
    }
}

fn unsupported(record: &FeatureLevelRecord) -> ReplayError {
    let supported = supported_features()
        .get(record.name.as_str())
        .map_or("not at all".to_owned(), |r| {
            format!("{} to {}", r.min, r.max)
        });
    ReplayError::new(format!(
        "the log finalises {} at level {}, which this release supports {supported}",
        record.name, record.feature_level
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_cluster_gets_kafkas_levels() {
        let defaults = |level| {
            let version = MetadataVersion::from_level(level).unwrap();
            FEATURES.map(|feature| feature.default_level(version))
        };
        assert_eq!(defaults(7), [0, 0, 0, 0, 0, 0]);
        assert_eq!(defaults(21), [1, 0, 0, 0, 0, 0]);
        assert_eq!(defaults(24), [1, 2, 1, 0, 0, 0]);
        assert_eq!(defaults(28), [1, 2, 1, 1, 1, 0]);
        assert_eq!(defaults(33), [1, 2, 1, 1, 2, 1]);
    }
}
