//! Which feature levels a new cluster gets.

use std::collections::BTreeMap;

use milena_image::{FEATURES, KRAFT_VERSION, METADATA_VERSION, MetadataVersion, feature};

use super::FormatError;

/// A level for every feature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureLevels {
    pub metadata_version: MetadataVersion,
    pub kraft_version: i16,
    /// The features beside these two, by name.
    pub others: BTreeMap<&'static str, i16>,
}

/// Parses `--feature name=level`.
pub fn parse_feature(text: &str) -> Result<(String, i16), FormatError> {
    let wrong = || {
        FormatError::Refused(format!(
            "Can't parse feature=level string {text}: a name, an equals sign and a 16-bit number are wanted."
        ))
    };
    let (name, level) = text.split_once('=').ok_or_else(wrong)?;
    let level = level.trim().parse().map_err(|_| wrong())?;
    Ok((name.trim().to_owned(), level))
}

/// The defaults of the release, but for what is given. `dynamic` is whether the quorum's voters are in its log.
pub(super) fn resolve(
    release: Option<&str>,
    given: &[(String, i16)],
    dynamic: bool,
) -> Result<FeatureLevels, FormatError> {
    let given: BTreeMap<&str, i16> = given.iter().map(|(n, l)| (n.as_str(), *l)).collect();
    let metadata_version = metadata_version(release, given.get(METADATA_VERSION).copied())?;
    let unknown = |name: &&&str| **name != METADATA_VERSION && feature(name).is_none();
    if let Some(name) = given.keys().find(unknown) {
        let mut known: Vec<&str> = FEATURES.iter().map(|f| f.name).collect();
        known.sort_unstable();
        return FormatError::refuse(format!(
            "Unsupported feature: {name}. Supported features are: {}",
            known.join(", ")
        ));
    }
    let mut others = BTreeMap::new();
    for feature in FEATURES.iter().filter(|f| f.name != KRAFT_VERSION) {
        let level = given.get(feature.name).copied();
        others.insert(
            feature.name,
            level.unwrap_or(feature.default_level(metadata_version)),
        );
    }
    let levels = FeatureLevels {
        metadata_version,
        kraft_version: kraft_version(given.get(KRAFT_VERSION).copied(), dynamic)?,
        others,
    };
    check(&levels)?;
    Ok(levels)
}

fn metadata_version(
    release: Option<&str>,
    level: Option<i16>,
) -> Result<MetadataVersion, FormatError> {
    match (release, level) {
        (Some(_), Some(_)) => FormatError::refuse(
            "Use --release-version instead of --feature metadata.version=X to avoid ambiguity.",
        ),
        (Some(text), None) => MetadataVersion::parse(text).ok_or_else(|| {
            let known: Vec<&str> = MetadataVersion::production().map(|v| v.name()).collect();
            FormatError::Refused(format!(
                "Unknown metadata.version '{text}'. Supported metadata.version are: {}",
                known.join(", ")
            ))
        }),
        (None, Some(level)) => match MetadataVersion::from_level(level) {
            Some(version) if version <= MetadataVersion::LATEST_PRODUCTION => Ok(version),
            Some(version) => FormatError::refuse(format!(
                "metadata.version {} is not yet stable.",
                version.name()
            )),
            None => FormatError::refuse(format!(
                "No feature:metadata.version with feature level {level}"
            )),
        },
        (None, None) => Ok(MetadataVersion::LATEST_PRODUCTION),
    }
}

fn kraft_version(given: Option<i16>, dynamic: bool) -> Result<i16, FormatError> {
    match (given, dynamic) {
        (None, dynamic) => Ok(i16::from(dynamic)),
        (Some(0), true) => FormatError::refuse(
            "Cannot set kraft.version to 0 if controller.quorum.voters is empty and one of the flags --standalone, \
             --initial-controllers, or --no-initial-controllers is used. For dynamic controllers support, try removing the \
             --feature flag for kraft.version.",
        ),
        (Some(level), false) if level > 0 => FormatError::refuse(format!(
            "Cannot set kraft.version to {level} unless controller.quorum.voters is empty and one of the flags --standalone, \
             --initial-controllers, or --no-initial-controllers is used. For dynamic controllers support, try using one of \
             --standalone, --initial-controllers, or --no-initial-controllers and removing controller.quorum.voters."
        )),
        (Some(level), _) => Ok(level),
    }
}

/// Every level exists, and what it depends on is there.
fn check(levels: &FeatureLevels) -> Result<(), FormatError> {
    let of = |name: &str| match name {
        METADATA_VERSION => levels.metadata_version.level(),
        KRAFT_VERSION => levels.kraft_version,
        name => levels.others.get(name).copied().unwrap_or(0),
    };
    for feature in &FEATURES {
        let level = of(feature.name);
        let Some(known) = feature.level(level) else {
            return FormatError::refuse(format!(
                "No feature:{} with feature level {level}",
                feature.name
            ));
        };
        for (name, needed) in known.dependencies {
            if of(name) < *needed {
                return FormatError::refuse(format!(
                    "{} could not be set to {level} because it depends on {name} level {needed}",
                    feature.name
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(release: Option<&str>, given: &[(&str, i16)]) -> Result<FeatureLevels, String> {
        let given: Vec<(String, i16)> = given.iter().map(|(n, l)| (n.to_string(), *l)).collect();
        resolve(release, &given, true).map_err(|error| error.to_string())
    }

    #[test]
    fn a_release_gives_its_defaults() {
        let levels = resolved(None, &[]).unwrap();
        assert_eq!(levels.metadata_version, MetadataVersion::V4_4_IV2);
        assert_eq!(levels.kraft_version, 1);
        let given: Vec<(&str, i16)> = levels.others.into_iter().collect();
        let kafka = [
            ("eligible.leader.replicas.version", 1),
            ("group.version", 1),
            ("share.version", 2),
            ("streams.version", 1),
            ("transaction.version", 2),
        ];
        assert_eq!(given, kafka);
        let old = resolved(Some("3.3-IV3"), &[]).unwrap();
        assert!(old.others.values().all(|level| *level == 0));
        assert_eq!(
            old.kraft_version, 1,
            "as Kafka has it: the flag decides, not the release"
        );
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for (release, given, word) in [
            (None, ("nope", 1), "Unsupported feature: nope"),
            (
                None,
                ("group.version", 9),
                "No feature:group.version with feature level 9",
            ),
            (
                Some("3.9"),
                ("eligible.leader.replicas.version", 1),
                "depends on metadata.version level 23",
            ),
            (Some("4.0"), ("metadata.version", 25), "to avoid ambiguity"),
            (None, ("kraft.version", 0), "Cannot set kraft.version to 0"),
            (
                Some("9.9"),
                ("group.version", 1),
                "Unknown metadata.version '9.9'",
            ),
        ] {
            let refused = resolved(release, &[given]).unwrap_err();
            assert!(refused.contains(word), "{refused}");
        }
        assert!(resolve(None, &[("kraft.version".to_owned(), 1)], false).is_err());
    }
}
