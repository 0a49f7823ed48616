//! Upgrades, downgrades and disabling of features.

use std::collections::BTreeMap;

use milena_client::{Client, Error, Target};
use milena_image::{FEATURES, METADATA_VERSION, MetadataVersion};
use milena_protocol::update_features_request::FeatureUpdateKey;
use milena_protocol::{Str, UpdateFeaturesRequest};

use crate::say::out;
use crate::subcommands::Parsed;

const UPGRADE: i8 = 1;
const SAFE_DOWNGRADE: i8 = 2;
const UNSAFE_DOWNGRADE: i8 = 3;

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Update {
    pub command: String,
    pub upgrade_type: i8,
    pub levels: BTreeMap<String, i16>,
    pub dry_run: bool,
}

/// `name=level`.
pub fn parse_level(text: &str) -> Result<(String, i16), String> {
    let wrong = |why: &str| format!("Can't parse feature=level string {text}: {why}");
    let (name, level) = text
        .split_once('=')
        .ok_or_else(|| wrong("equals sign not found."))?;
    let (name, level) = (name.trim(), level.trim());
    let number = level
        .parse()
        .map_err(|_| wrong(&format!("unable to parse {level} as a short.")))?;
    Ok((name.to_owned(), number))
}

fn metadata_version(text: &str) -> Result<MetadataVersion, String> {
    MetadataVersion::parse(text).ok_or_else(|| {
        let known: Vec<&str> = MetadataVersion::production().map(|v| v.name()).collect();
        format!(
            "Unknown metadata.version {text}. Supported metadata.version are {}",
            known.join(", ")
        )
    })
}

impl Update {
    pub fn of(command: &str, parsed: &Parsed) -> Result<Update, String> {
        let upgrade_type = match command {
            "upgrade" => UPGRADE,
            _ if parsed.has("unsafe") => UNSAFE_DOWNGRADE,
            _ => SAFE_DOWNGRADE,
        };
        let levels = match (command, parsed.value("release-version")) {
            ("disable", _) => disabled(parsed)?,
            (_, Some(release)) => {
                if parsed.has("metadata") || parsed.has("feature") {
                    let text = "Can not specify `release-version` with other feature flags.";
                    return Err(text.into());
                }
                of_release(release, upgrade_type)?
            }
            (_, None) => named(parsed)?,
        };
        if levels.is_empty() {
            return Err(format!(
                "You must specify at least one feature to {command}"
            ));
        }
        Ok(Update {
            command: command.to_owned(),
            upgrade_type,
            levels,
            dry_run: parsed.has("dry-run"),
        })
    }

    fn request(&self, timeout_ms: i32) -> UpdateFeaturesRequest {
        let updates = self.levels.iter().map(|(name, level)| FeatureUpdateKey {
            feature: Str::copy(name),
            max_version_level: *level,
            upgrade_type: self.upgrade_type,
            ..Default::default()
        });
        UpdateFeaturesRequest {
            timeout_ms,
            feature_updates: updates.collect(),
            validate_only: self.dry_run,
        }
    }

    /// What is said of each feature: whether it was done, or why not.
    pub fn line(&self, feature: &str, failed: Option<&str>) -> String {
        let (command, level) = (&self.command, self.levels[feature]);
        let disable = command == "disable";
        match failed {
            Some(why) => {
                let helper = if self.dry_run { "Can not" } else { "Could not" };
                let what = match disable {
                    true => format!("disable {feature}"),
                    false => format!("{command} {feature} to {level}"),
                };
                format!("{helper} {what}. {why}\n")
            }
            None => {
                let verb = if self.dry_run { "can be" } else { "was" };
                let what = match disable {
                    true => "disabled.".to_owned(),
                    false => format!("{command}d to {level}."),
                };
                format!("{feature} {verb} {what}\n")
            }
        }
    }
}

fn disabled(parsed: &Parsed) -> Result<BTreeMap<String, i16>, String> {
    let mut levels = BTreeMap::new();
    for feature in parsed.values("feature") {
        if levels.insert(feature.to_owned(), 0).is_some() {
            return Err(format!("Feature {feature} was specified more than once."));
        }
    }
    Ok(levels)
}

/// The levels that belong to a release; an upgrade does not name those that are 0.
fn of_release(release: &str, upgrade_type: i8) -> Result<BTreeMap<String, i16>, String> {
    let version = metadata_version(release)?;
    let mut levels = BTreeMap::from([(METADATA_VERSION.to_owned(), version.level())]);
    for feature in &FEATURES {
        let level = feature.default_level(version);
        if upgrade_type != UPGRADE || level > 0 {
            levels.insert(feature.name.to_owned(), level);
        }
    }
    Ok(levels)
}

fn named(parsed: &Parsed) -> Result<BTreeMap<String, i16>, String> {
    let mut levels = BTreeMap::new();
    if let Some(text) = parsed.value("metadata") {
        out(" `metadata` flag is deprecated and may be removed in a future release.\n");
        levels.insert(METADATA_VERSION.to_owned(), metadata_version(text)?.level());
    }
    for feature in parsed.values("feature") {
        let (name, level) = parse_level(feature)?;
        if levels.insert(name.clone(), level).is_some() {
            return Err(format!("Feature {name} was specified more than once."));
        }
    }
    Ok(levels)
}

/// Sends the update and says how each feature fared.
pub async fn run(mut client: Client, update: &Update) -> Result<(), String> {
    let timeout_ms = client.config().request_timeout.as_millis() as i32;
    let request = update.request(timeout_ms);
    let call = client.retry("updateFeatures", async |client: &mut Client| {
        let connection = client.connection(Target::Controller).await?;
        let answer = connection.call(&request).await?;
        Error::check(answer.error_code, answer.error_message.as_deref())?;
        let of_one = answer.results.iter().map(|result| {
            let failed = Error::check(result.error_code, result.error_message.as_deref()).err();
            (
                result.feature.to_string(),
                failed.map(|error| error.to_string()),
            )
        });
        Ok(of_one.collect::<BTreeMap<_, _>>())
    });
    let done = call.await;
    let mut failures = 0;
    for feature in update.levels.keys() {
        let failed = match &done {
            Ok(results) => results.get(feature).cloned().flatten(),
            Err(error) => Some(error.to_string()),
        };
        failures += usize::from(failed.is_some());
        out(update.line(feature, failed.as_deref()));
    }
    match failures {
        0 => Ok(()),
        _ => Err(format!(
            "{failures} out of {} operation(s) failed.",
            update.levels.len()
        )),
    }
}
