//! `kafka-storage`: formats log directories, looks at them, and tells about feature levels.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use milena_base::{Timestamp, Uuid};
use milena_broker::format::{FormatRequest, InitialControllers, format, parse_feature};
use milena_config::NodeConfig;
use milena_disk::{Disk, OsDisk};
use milena_image::{FEATURES, METADATA_VERSION, MetadataVersion, feature};
use milena_log::meta_properties::{self, MetaProperties};

use crate::connect;
use crate::say::{self, out};
use crate::subcommands::{Arg, Command, Parsed, Tool, arg};

const CONFIG: Arg = arg("config", 'c', "The server's properties file.").required();

pub(crate) const TOOL: Tool = Tool {
    name: "kafka-storage",
    about: "Formats a node's log directories and shows what is in them.",
    globals: &[],
    commands: &[
        Command {
            name: "info",
            help: "Show the node's log directories and what they belong to.",
            args: &[CONFIG],
        },
        Command {
            name: "format",
            help: "Make the node's log directories ready for its first start.",
            args: &[
                CONFIG,
                arg("cluster-id", 't', "The id of the cluster (kafka-storage random-uuid makes one).").required(),
                arg("add-scram", 'S', "A SCRAM credential that the cluster begins with, for example 'SCRAM-SHA-256=[name=alice,password=secret]'; may be repeated."),
                arg("ignore-formatted", 'g', "Leave directories that are formatted already as they are.").switch(),
                arg("release-version", 'r', "The release (3.9) or metadata.version (3.9-IV0) whose features the cluster begins with."),
                arg("feature", 'f', "The level of one feature, name=level; may be repeated."),
                arg("standalone", 's', "This controller alone is the quorum to begin with.").switch().one_of(1),
                arg("no-initial-controllers", 'N', "The quorum is known elsewhere.").switch().one_of(1),
                arg("initial-controllers", 'I', "The quorum to begin with: id@host:port:directory-id, separated by commas; the same on all of them.").one_of(1),
            ],
        },
        Command {
            name: "version-mapping",
            help: "Show the feature levels of a release.",
            args: &[arg("release-version", 'r', "The release or metadata.version; the latest without it.")],
        },
        Command {
            name: "feature-dependencies",
            help: "Show what a feature's level needs.",
            args: &[arg("feature", 'f', "name=level; may be repeated.").required()],
        },
        Command {
            name: "random-uuid",
            help: "Make an id for a new cluster.",
            args: &[],
        },
    ],
};

pub fn main(args: Vec<String>) -> i32 {
    TOOL.main(&args, 0, run)
}

fn run(parsed: &Parsed) -> Result<i32, String> {
    match parsed.command {
        "random-uuid" => {
            out(format_args!("{}\n", Uuid::random(&mut connect::seed())));
            Ok(0)
        }
        "version-mapping" => version_mapping(parsed.value("release-version")).map(shown),
        "feature-dependencies" => {
            let features = parsed.values("feature");
            let texts: Result<Vec<String>, String> =
                features.into_iter().map(dependencies).collect();
            texts.map(|texts| shown(texts.concat()))
        }
        "info" => info(parsed),
        _ => format_command(parsed),
    }
}

fn shown(text: String) -> i32 {
    out(text);
    0
}

pub(crate) fn version_mapping(release: Option<&str>) -> Result<String, String> {
    let latest = MetadataVersion::LATEST_PRODUCTION;
    let release = release.unwrap_or(latest.name());
    let Some(version) = MetadataVersion::parse(release) else {
        let oldest = MetadataVersion::MINIMUM.name();
        return Err(format!(
            "Unknown release version '{release}'. Supported versions are: {oldest} to {}",
            latest.name()
        ));
    };
    let mut text = format!("{METADATA_VERSION}={} ({release})\n", version.level());
    for feature in &FEATURES {
        let _ = writeln!(text, "{}={}", feature.name, feature.default_level(version));
    }
    Ok(text)
}

pub(crate) fn dependencies(argument: &str) -> Result<String, String> {
    let Some((name, level)) = argument.split_once('=') else {
        return Err(format!(
            "Invalid feature {argument}: name=level is expected"
        ));
    };
    let wrong = || format!("Invalid version format: {level} for feature {name}");
    let level: i16 = level.parse().map_err(|_| wrong())?;
    if name == METADATA_VERSION {
        let known = MetadataVersion::from_level(level);
        let version = known.ok_or_else(|| format!("Unknown metadata.version {level}"))?;
        let version = version.name();
        return Ok(format!("{name}={level} ({version}) has no dependencies.\n"));
    }
    let known = feature(name).ok_or_else(|| format!("Unknown feature: {name}"))?;
    let unsupported = || format!("Feature level {level} is not supported for feature {name}");
    let needs = known.level(level).ok_or_else(unsupported)?.dependencies;
    if needs.is_empty() {
        return Ok(format!("{name}={level} has no dependencies.\n"));
    }
    let mut text = format!("{name}={level} requires:\n");
    for (other, level) in needs {
        let version = MetadataVersion::from_level(*level).filter(|_| *other == METADATA_VERSION);
        let _ = match version {
            Some(version) => writeln!(text, "    {other}={level} ({})", version.name()),
            None => writeln!(text, "    {other}={level}"),
        };
    }
    Ok(text)
}

/// The node's configuration; warnings go to stderr.
fn config(parsed: &Parsed) -> Result<NodeConfig, String> {
    let path = parsed.value("config").unwrap_or_default();
    let bytes = std::fs::read(path).map_err(|error| format!("{path}: {error}"))?;
    let properties = milena_config::Properties::parse(&bytes);
    let properties = properties.map_err(|error| format!("{path}: {error}"))?;
    let loaded = NodeConfig::from_properties(&properties);
    let (config, warnings) = loaded.map_err(|error| error.to_string())?;
    for warning in warnings {
        say::log("WARN", warning.0, "kafka-storage");
    }
    Ok(config)
}

fn format_command(parsed: &Parsed) -> Result<i32, String> {
    let config = config(parsed)?;
    let cluster_id = parsed.value("cluster-id").unwrap_or_default();
    let mut request = FormatRequest::new(&config, cluster_id);
    request.ignore_formatted = parsed.has("ignore-formatted");
    request.release_version = parsed.value("release-version").map(str::to_string);
    request.scram = parsed
        .values("add-scram")
        .into_iter()
        .map(str::to_string)
        .collect();
    let features = parsed.values("feature").into_iter().map(parse_feature);
    request.features = features
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())?;
    request.initial_controllers = if parsed.has("standalone") {
        InitialControllers::Standalone
    } else if parsed.has("no-initial-controllers") {
        InitialControllers::None
    } else if let Some(list) = parsed.value("initial-controllers") {
        InitialControllers::Listed(list.to_string())
    } else {
        InitialControllers::Unspecified
    };
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    let now = Timestamp(say::now_millis());
    let formatted = format(&disk, &request, &mut connect::seed(), now);
    let formatted = formatted.map_err(|error| error.to_string())?;
    for line in formatted.lines() {
        out(format_args!("{line}\n"));
    }
    Ok(0)
}

fn info(parsed: &Parsed) -> Result<i32, String> {
    let config = config(parsed)?;
    let mut directories: Vec<PathBuf> = config.log_dirs().to_vec();
    directories.push(config.metadata_log_dir().to_path_buf());
    directories.sort();
    directories.dedup();
    let (text, problems) = look(&directories);
    out(text);
    Ok(i32::from(problems))
}

/// What is in the directories, and whether something is wrong with them.
fn look(directories: &[PathBuf]) -> (String, bool) {
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    let mut first: Option<MetaProperties> = None;
    for directory in directories {
        let shown = directory.display();
        if !directory.is_dir() {
            problems.push(match directory.exists() {
                true => format!("{shown} is not a directory"),
                false => format!("{shown} does not exist"),
            });
            continue;
        }
        found.push(shown.to_string());
        match read(&directory.join(meta_properties::FILE)) {
            Ok(None) => problems.push(format!("{shown} is not formatted.")),
            Ok(Some(meta)) => match &first {
                None => first = Some(meta),
                Some(other) => problems.extend(mismatch(other, &meta)),
            },
            Err(problem) => problems.push(problem),
        }
    }
    if first.as_ref().is_some_and(|meta| meta.version == 0) {
        problems.push(
            "The kafka configuration file appears to be for a cluster in KRaft mode, but the directories are formatted for legacy mode.".into(),
        );
    }
    let mut text = String::new();
    let mut list = |one: &str, many: &str, items: &[String]| {
        if !items.is_empty() {
            let _ = writeln!(text, "{}:", if items.len() == 1 { one } else { many });
            items.iter().for_each(|item| {
                let _ = writeln!(text, "  {item}");
            });
            text.push('\n');
        }
    };
    list("Found log directory", "Found log directories", &found);
    if let Some(meta) = &first {
        let fields: Vec<String> = fields(meta)
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect();
        let _ = writeln!(text, "Found metadata: {{{}}}\n", fields.join(", "));
    }
    let mut list = |items: &[String]| {
        if !items.is_empty() {
            let s = if items.len() == 1 { "" } else { "s" };
            let _ = writeln!(text, "Found problem{s}:\n  {}\n", items.join("\n  "));
        }
    };
    list(&problems);
    (text, !problems.is_empty())
}

pub(crate) fn read(path: &Path) -> Result<Option<MetaProperties>, String> {
    let wrong = |why: String| format!("Error loading {}: {why}", path.display());
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let meta = MetaProperties::parse(&text);
            meta.map(Some).map_err(|error| wrong(error.to_string()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(wrong(error.to_string())),
    }
}

fn mismatch(first: &MetaProperties, other: &MetaProperties) -> Option<String> {
    let what = if first.cluster_id != other.cluster_id {
        "cluster IDs"
    } else if first.node_id != other.node_id {
        "node IDs"
    } else {
        return None;
    };
    Some(format!("Mismatched {what} between storage directories."))
}

/// The file's keys, sorted.
fn fields(meta: &MetaProperties) -> BTreeMap<&'static str, String> {
    let mut fields = BTreeMap::from([("version", meta.version.to_string())]);
    let cluster = meta.cluster_id.clone();
    fields.extend(cluster.map(|id| ("cluster.id", id)));
    let node = if meta.version == 0 {
        "broker.id"
    } else {
        "node.id"
    };
    fields.extend(meta.node_id.map(|id| (node, id.0.to_string())));
    fields.extend(meta.directory_id.map(|id| ("directory.id", id.to_string())));
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_told_as_kafka_tells_them() {
        let old = version_mapping(Some("4.0")).unwrap();
        assert!(
            old.starts_with("metadata.version=25 (4.0)\nkraft.version=1\ntransaction.version=2\n")
        );
        let latest = version_mapping(None).unwrap();
        assert!(latest.starts_with("metadata.version=33 (4.4-IV2)\n"));
        assert!(
            version_mapping(Some("9.9"))
                .unwrap_err()
                .starts_with("Unknown release version '9.9'.")
        );
        assert_eq!(
            dependencies("eligible.leader.replicas.version=1").unwrap(),
            "eligible.leader.replicas.version=1 requires:\n    metadata.version=23 (4.0-IV1)\n"
        );
        assert_eq!(
            dependencies("metadata.version=23").unwrap(),
            "metadata.version=23 (4.0-IV1) has no dependencies.\n"
        );
        assert_eq!(dependencies("nope=1").unwrap_err(), "Unknown feature: nope");
    }
}
