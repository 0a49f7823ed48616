//! UpdateFeatures (KIP-584). v1: upgrade types and validate-only. v2: no results by feature.

use std::collections::BTreeMap;

use milena_base::ErrorCode;
use milena_image::{
    ELR_VERSION, KRAFT_VERSION, METADATA_VERSION, MetadataVersion, VersionRange, feature,
    supported_features,
};
use milena_protocol::update_features_request::FeatureUpdateKey;
use milena_protocol::update_features_response::UpdatableFeatureResult;
use milena_protocol::{
    FeatureLevelRecord, NoOpRecord, Str, UpdateFeaturesRequest, UpdateFeaturesResponse,
};

use crate::decision::{Decision, Records};
use crate::{Controller, Refusal, RequestContext};

const UPGRADE: i8 = 1;
const SAFE_DOWNGRADE: i8 = 2;
const UNSAFE_DOWNGRADE: i8 = 3;

impl Controller {
    pub(crate) fn update_features(
        &self,
        request: &UpdateFeaturesRequest,
        ctx: &RequestContext,
    ) -> Decision {
        match self.feature_records(request) {
            Err(refusal) => Decision::answer(UpdateFeaturesResponse {
                error_code: refusal.code.code(),
                error_message: Some(Str::from(format!(
                    "The update failed for all features since the following feature had an error: {}",
                    refusal.message.as_deref().unwrap_or("null")
                ))),
                ..UpdateFeaturesResponse::default()
            }),
            Ok(records) => {
                let names = request.feature_updates.iter().filter(|_| ctx.version <= 1);
                let results = names.map(|update| UpdatableFeatureResult {
                    feature: update.feature.clone(),
                    error_code: ErrorCode::None.code(),
                    error_message: Some(Str::from_static("NONE")),
                });
                let answer = UpdateFeaturesResponse {
                    error_message: None,
                    results: results.collect(),
                    ..UpdateFeaturesResponse::default()
                };
                let made = if request.validate_only {
                    Records::default()
                } else {
                    records
                };
                let mut decision = Decision::records(made).with_answer(answer).atomic();
                let mut updates = request.feature_updates.iter();
                decision.raises_kraft_version = !request.validate_only
                    && updates.any(|u| {
                        *u.feature == *KRAFT_VERSION && u.max_version_level > self.kraft_version
                    });
                decision
            }
        }
    }

    fn feature_records(&self, request: &UpdateFeaturesRequest) -> Result<Records, Refusal> {
        let features = &self.state.image.features;
        let mut proposed: BTreeMap<&str, i16> = BTreeMap::new();
        proposed.extend(
            features
                .finalized()
                .map(|(name, level)| (name.as_str(), level)),
        );
        proposed.insert(METADATA_VERSION, features.level(METADATA_VERSION));
        let updates = request.feature_updates.iter();
        proposed.extend(updates.map(|u| (u.feature.as_str(), u.max_version_level)));
        let mut records = Records::default();
        if proposed.get(ELR_VERSION).is_some_and(|level| *level > 0)
            && request
                .feature_updates
                .iter()
                .any(|u| *u.feature == *ELR_VERSION)
        {
            records.append(self.elr_safety_records());
        }
        for update in &request.feature_updates {
            self.update_feature(update, &proposed, &mut records)?;
        }
        Ok(records)
    }

    fn update_feature(
        &self,
        update: &FeatureUpdateKey,
        proposed: &BTreeMap<&str, i16>,
        records: &mut Records,
    ) -> Result<(), Refusal> {
        let name = update.feature.as_str();
        let (level, upgrade_type) = (update.max_version_level, update.upgrade_type);
        let invalid = |why: &str| {
            let text = format!("Invalid update version {level} for feature {name}. {why}");
            Refusal::new(ErrorCode::InvalidUpdateVersion, text)
        };
        if !(UPGRADE..=UNSAFE_DOWNGRADE).contains(&upgrade_type) {
            return Err(invalid(
                "The controller does not support the given upgrade type.",
            ));
        }
        let current = match name {
            KRAFT_VERSION => self.kraft_version,
            name => self.state.image.features.level(name),
        };
        if level < 0 {
            return Err(invalid("A feature version cannot be less than 0."));
        }
        if let Some(reason) = self.unsupported(name, level) {
            return Err(invalid(&reason));
        }
        if level < current && upgrade_type == UPGRADE {
            return Err(invalid(
                "Can't downgrade the version of this feature without setting the upgrade type to \
                 either safe or unsafe downgrade.",
            ));
        }
        if level > current && upgrade_type != UPGRADE {
            return Err(invalid("Can't downgrade to a newer version."));
        }
        match name {
            METADATA_VERSION => self.check_metadata_version(level, upgrade_type)?,
            KRAFT_VERSION => return self.update_kraft_version(update, &invalid, records),
            _ => check_dependencies(name, level, proposed).map_err(|why| invalid(&why))?,
        }
        let record = FeatureLevelRecord {
            name: update.feature.clone(),
            feature_level: level,
        };
        records.push(record, 0);
        Ok(())
    }

    /// Whether this node and every registered one can take the level.
    fn unsupported(&self, name: &str, level: i16) -> Option<String> {
        let local = supported_features().get(name).copied().unwrap_or_default();
        let reason = outside(level, &format!("Local controller {}", self.node_id), local);
        if reason.is_some() {
            return reason;
        }
        let cluster = &self.state.image.cluster;
        for broker in cluster.brokers.values() {
            let range = broker.features.get(name).copied().unwrap_or_default();
            let reason = outside(level, &format!("Broker {}", broker.id), range);
            if reason.is_some() {
                return reason;
            }
        }
        if !self
            .state
            .image
            .metadata_version()
            .supports_controller_registration()
        {
            return None;
        }
        let others = cluster.controllers.values();
        for other in others.filter(|c| c.id != self.node_id) {
            let range = other.features.get(name).copied().unwrap_or_default();
            let reason = outside(level, &format!("Controller {}", other.id), range);
            if reason.is_some() {
                return reason;
            }
        }
        let known = |id: &i32| *id == self.node_id || cluster.controller(*id).is_some();
        let missing = self.voters.iter().find(|id| !known(id))?;
        Some(format!(
            "controller {missing} has not registered, and may not support this feature"
        ))
    }

    fn check_metadata_version(&self, level: i16, upgrade_type: i8) -> Result<(), Refusal> {
        let refuse = |text| Err(Refusal::new(ErrorCode::InvalidUpdateVersion, text));
        let Some(new) = MetadataVersion::from_level(level) else {
            return refuse(format!(
                "Invalid metadata.version {level}. Valid versions are from {} to {}.",
                MetadataVersion::MINIMUM.level(),
                MetadataVersion::LATEST_TESTING.level()
            ));
        };
        let current = self.state.image.metadata_version();
        if new >= current || !MetadataVersion::metadata_changed_between(current, new) {
            return Ok(());
        }
        let why = match upgrade_type {
            UNSAFE_DOWNGRADE => "Unsafe metadata downgrade is not supported in this version.",
            _ => {
                "Refusing to perform the requested downgrade because it might delete metadata \
                 information."
            }
        };
        refuse(format!(
            "Unsupported metadata.version downgrade from {} to {level}. {why}",
            current.level()
        ))
    }

    /// `kraft.version` lives in the quorum's control records: the quorum raises it, where its voters can.
    fn update_kraft_version(
        &self,
        update: &FeatureUpdateKey,
        invalid: &dyn Fn(&str) -> Refusal,
        records: &mut Records,
    ) -> Result<(), Refusal> {
        let level = update.max_version_level;
        if update.upgrade_type == SAFE_DOWNGRADE || update.upgrade_type == UNSAFE_DOWNGRADE {
            if level != self.kraft_version {
                return Err(invalid("Can't downgrade the version of this feature."));
            }
            return Ok(());
        }
        if level != self.kraft_version
            && let Some(why) = &self.static_because
        {
            return Err(invalid(why));
        }
        records.push(NoOpRecord::default(), 0);
        Ok(())
    }
}

fn outside(level: i16, who: &str, range: VersionRange) -> Option<String> {
    if range.contains(level) {
        return None;
    }
    if range.max == 0 {
        return Some(format!("{who} does not support this feature."));
    }
    if range.min == range.max {
        return Some(format!("{who} only supports versions {}", range.min));
    }
    Some(format!(
        "{who} only supports versions {}-{}",
        range.min, range.max
    ))
}

fn check_dependencies(
    name: &str,
    level: i16,
    proposed: &BTreeMap<&str, i16>,
) -> Result<(), String> {
    let known = feature(name).and_then(|f| f.level(level));
    let known = known.ok_or_else(|| format!("No feature:{name} with feature level {level}"))?;
    for (other, needed) in known.dependencies {
        if proposed.get(other).is_none_or(|has| has < needed) {
            return Err(format!(
                "{name} could not be set to {level} because it depends on {other} level {needed}"
            ));
        }
    }
    Ok(())
}
