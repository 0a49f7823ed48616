//! Formatting: what `kafka-storage format` and a first run write into new log directories. Every directory gets a
//! `meta.properties`; a controller's metadata directory gets, before that, the bootstrap snapshot 0-0 with the feature
//! levels (and the voters of a dynamic quorum) that the first controller begins with. KIP-631, KIP-853, KIP-1170; Kafka
//! class `Formatter`.
//!
//! `meta.properties` comes last, and is what makes a directory formatted: a crash in between leaves one that can be
//! formatted again.

mod directories;
mod features;
mod scram;
mod text;
mod voters;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use milena_base::{BrokerId, Prng, Timestamp, Uuid};
use milena_config::NodeConfig;
use milena_disk::Disk;
use milena_image::{METADATA_VERSION, MetadataVersion};
use milena_log::meta_properties::{self, MetaProperties};
use milena_protocol::{FeatureLevelRecord, MetadataRecord};
use milena_raft::{BOOTSTRAP_SNAPSHOT, Fault, SnapshotBuilder, VoterSet};

use crate::metadata_log::{SnapshotWriter, metadata_partition_dir};

pub use directories::{Ensemble, verify};
pub use features::{FeatureLevels, parse_feature};
pub use voters::{parse_initial_controllers, standalone_voter};

/// Why nothing was formatted, in a sentence for whoever asked. Nothing was written unless it says so.
#[derive(Debug)]
pub enum FormatError {
    Refused(String),
    Fault(Fault),
}

impl FormatError {
    fn refuse<T>(why: impl Into<String>) -> Result<T, FormatError> {
        Err(FormatError::Refused(why.into()))
    }
}

impl From<Fault> for FormatError {
    fn from(fault: Fault) -> FormatError {
        FormatError::Fault(fault)
    }
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FormatError::Refused(why) => f.write_str(why),
            FormatError::Fault(fault) => fault.fmt(f),
        }
    }
}

impl std::error::Error for FormatError {}

/// Who the first controllers are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InitialControllers {
    /// No flag: right on a broker, and where `controller.quorum.voters` is set.
    Unspecified,
    /// `--standalone`: this node alone.
    Standalone,
    /// `--no-initial-controllers`: they are known elsewhere.
    None,
    /// `--initial-controllers`: `id@host:port:directory`, separated by commas.
    Listed(String),
}

/// What is to be formatted, and how.
#[derive(Clone, Debug)]
pub struct FormatRequest {
    pub node: BrokerId,
    pub cluster_id: String,
    /// `log.dirs`; `metadata_dir` may be among them and is formatted anyway.
    pub log_dirs: Vec<PathBuf>,
    /// `metadata.log.dir`, or the first of `log.dirs`.
    pub metadata_dir: PathBuf,
    /// `process.roles` has the controller in it.
    pub is_controller: bool,
    /// `controller.quorum.voters` is set.
    pub has_static_voters: bool,
    /// The first of `controller.listener.names`.
    pub controller_listener: String,
    /// Where this node's controller is reached, for `--standalone`.
    pub controller_endpoint: Option<(String, u16)>,
    pub initial_controllers: InitialControllers,
    /// `--release-version`: a `metadata.version` by name or release.
    pub release_version: Option<String>,
    /// `--feature`, as given: name and level.
    pub features: Vec<(String, i16)>,
    /// `--ignore-formatted`.
    pub ignore_formatted: bool,
    /// `--add-scram`, as given.
    pub scram: Vec<String>,
}

impl FormatRequest {
    /// A request for a node's configuration, without any flag.
    pub fn new(config: &NodeConfig, cluster_id: impl Into<String>) -> FormatRequest {
        let endpoints = config.advertised_controller_listeners();
        let endpoint = endpoints.first().map(|endpoint| {
            let host = match endpoint.host.as_str() {
                "" => "localhost",
                host => host,
            };
            (host.to_owned(), endpoint.port)
        });
        FormatRequest {
            node: config.node_id(),
            cluster_id: cluster_id.into(),
            log_dirs: config.log_dirs().to_vec(),
            metadata_dir: config.metadata_log_dir().to_path_buf(),
            is_controller: config.is_controller(),
            has_static_voters: !config.voters().is_empty(),
            controller_listener: config
                .controller_listener_names()
                .first()
                .cloned()
                .unwrap_or_default(),
            controller_endpoint: endpoint,
            initial_controllers: InitialControllers::Unspecified,
            release_version: None,
            features: Vec::new(),
            ignore_formatted: false,
            scram: Vec::new(),
        }
    }

    /// Every directory to be formatted, in order.
    fn directories(&self) -> Vec<PathBuf> {
        let mut all = self.log_dirs.clone();
        all.push(self.metadata_dir.clone());
        all.sort();
        all.dedup();
        all
    }
}

/// What was formatted.
#[derive(Clone, Debug)]
pub struct Formatted {
    /// The records that the first controller begins with.
    pub records: Vec<MetadataRecord>,
    pub metadata_version: MetadataVersion,
    /// What was written, in order; empty where all directories were formatted already.
    pub directories: Vec<(PathBuf, DirectoryType)>,
}

/// What a directory is for, as the tool says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectoryType {
    Log,
    StaticMetadata,
    DynamicMetadataNonVoter,
    DynamicMetadataVoter,
}

impl DirectoryType {
    /// Kafka's words.
    pub fn description(self) -> &'static str {
        match self {
            DirectoryType::Log => "data directory",
            DirectoryType::StaticMetadata => "metadata directory",
            DirectoryType::DynamicMetadataNonVoter => "dynamic metadata directory",
            DirectoryType::DynamicMetadataVoter => "dynamic metadata voter directory",
        }
    }
}

/// What is written, decided before anything is.
struct Plan {
    voters: Option<VoterSet>,
    levels: FeatureLevels,
    records: Vec<MetadataRecord>,
}

/// Formats the directories that are not yet. `prng` (seeded by the operating system) draws directory ids and salts.
/// Blocks on the disk; the bytes are durable when it returns.
pub fn format(
    disk: &Arc<dyn Disk>,
    request: &FormatRequest,
    prng: &mut Prng,
    now: Timestamp,
) -> Result<Formatted, FormatError> {
    let plan = plan(request, prng)?;
    let ensemble = Ensemble::load(&**disk, &request.directories())?;
    let verified = verify(&ensemble, Some(&request.cluster_id), Some(request.node));
    verified.map_err(FormatError::Refused)?;
    if let (Some((dir, _)), false) = (ensemble.formatted.first(), request.ignore_formatted) {
        return FormatError::refuse(format!(
            "Log directory {} is already formatted. Use --ignore-formatted to ignore this directory and format the others.",
            dir.display()
        ));
    }
    let mut done = Vec::new();
    for dir in &ensemble.empty {
        let kind = directory_type(dir, request, plan.voters.as_ref());
        let id = directory_id(request.node, kind, plan.voters.as_ref(), &ensemble, prng);
        write_directory(disk, request, &plan, dir, id, now)?;
        done.push((dir.clone(), kind));
    }
    Ok(Formatted {
        records: plan.records,
        metadata_version: plan.levels.metadata_version,
        directories: done,
    })
}

fn plan(request: &FormatRequest, prng: &mut Prng) -> Result<Plan, FormatError> {
    if request.node.0 < 0 {
        return FormatError::refuse("You must specify a valid non-negative node ID.");
    }
    if request.log_dirs.is_empty() {
        return FormatError::refuse("You must specify at least one directory to format");
    }
    let voters = initial_voters(request, prng)?;
    let dynamic = voters.is_some() || !request.has_static_voters;
    let levels = features::resolve(
        request.release_version.as_deref(),
        &request.features,
        dynamic && request.is_controller,
    )?;
    let mut records = bootstrap_records(&levels);
    if !request.scram.is_empty() {
        if !levels.metadata_version.supports_scram() {
            return FormatError::refuse(
                "SCRAM is only supported in metadata.version 3.5-IV2 or later.",
            );
        }
        for argument in &request.scram {
            records.push(scram::credential(argument, prng)?.into());
        }
    }
    Ok(Plan {
        voters,
        levels,
        records,
    })
}

fn initial_voters(
    request: &FormatRequest,
    prng: &mut Prng,
) -> Result<Option<VoterSet>, FormatError> {
    let names_voters = !matches!(
        request.initial_controllers,
        InitialControllers::Unspecified | InitialControllers::None
    );
    if names_voters && request.has_static_voters {
        return FormatError::refuse(
            "You cannot specify controller.quorum.voters and format the node with --initial-controllers or --standalone. \
             If you want to use dynamic quorum, please remove controller.quorum.voters and specify \
             controller.quorum.bootstrap.servers instead.",
        );
    }
    match &request.initial_controllers {
        InitialControllers::None => Ok(None),
        InitialControllers::Unspecified if request.is_controller && !request.has_static_voters => {
            FormatError::refuse(
                "Because controller.quorum.voters is not set on this controller, you must specify one of the following: \
                 --standalone, --initial-controllers, or --no-initial-controllers.",
            )
        }
        InitialControllers::Unspecified => Ok(None),
        InitialControllers::Standalone if !request.is_controller => {
            FormatError::refuse("You can only use --standalone on a controller.")
        }
        InitialControllers::Standalone => match &request.controller_endpoint {
            None => FormatError::refuse("No controller listeners found."),
            Some((host, port)) => Ok(Some(standalone_voter(
                request.node,
                Uuid::random(prng),
                &request.controller_listener,
                host,
                *port,
            ))),
        },
        InitialControllers::Listed(text) => {
            parse_initial_controllers(text, &request.controller_listener)
                .map(Some)
                .map_err(FormatError::Refused)
        }
    }
}

/// `metadata.version` first, the others by name, levels of zero left out; `kraft.version` is no record of the
/// controller's.
fn bootstrap_records(levels: &FeatureLevels) -> Vec<MetadataRecord> {
    let record = |name: &str, level: i16| {
        MetadataRecord::from(FeatureLevelRecord {
            name: name.to_owned().into(),
            feature_level: level,
        })
    };
    let mut records = vec![record(METADATA_VERSION, levels.metadata_version.level())];
    let others = levels.others.iter().filter(|(_, level)| **level > 0);
    records.extend(others.map(|(name, level)| record(name, *level)));
    records
}

fn directory_type(dir: &Path, request: &FormatRequest, voters: Option<&VoterSet>) -> DirectoryType {
    if dir != request.metadata_dir {
        return DirectoryType::Log;
    }
    match voters {
        None => DirectoryType::StaticMetadata,
        Some(voters) if voters.get(request.node).is_some() => DirectoryType::DynamicMetadataVoter,
        Some(_) => DirectoryType::DynamicMetadataNonVoter,
    }
}

/// A voter's directory has the id that the voter set says.
fn directory_id(
    node: BrokerId,
    kind: DirectoryType,
    voters: Option<&VoterSet>,
    ensemble: &Ensemble,
    prng: &mut Prng,
) -> Uuid {
    let voter = voters.and_then(|voters| voters.get(node));
    match voter.and_then(|voter| voter.key.directory) {
        Some(id) if kind == DirectoryType::DynamicMetadataVoter => id,
        _ => loop {
            let id = Uuid::random(prng);
            if !ensemble.has_directory_id(id) {
                break id;
            }
        },
    }
}

fn write_directory(
    disk: &Arc<dyn Disk>,
    request: &FormatRequest,
    plan: &Plan,
    dir: &Path,
    id: Uuid,
    now: Timestamp,
) -> Result<(), FormatError> {
    directories::make_durable(&**disk, dir)?;
    if dir == request.metadata_dir && request.is_controller {
        write_bootstrap_snapshot(disk, dir, plan, now)?;
    }
    let meta = MetaProperties {
        version: 1,
        cluster_id: Some(request.cluster_id.clone()),
        node_id: Some(request.node),
        directory_id: Some(id),
    };
    let path = dir.join(meta_properties::FILE);
    milena_disk::replace(&**disk, &path, meta.format(now).as_bytes())
        .map_err(|error| Fault::io(path.display().to_string(), error))?;
    Ok(())
}

fn write_bootstrap_snapshot(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    plan: &Plan,
    now: Timestamp,
) -> Result<(), FormatError> {
    let dynamic = (plan.levels.kraft_version, plan.voters.as_ref());
    let mut builder = SnapshotBuilder::new(BOOTSTRAP_SNAPSHOT, now, dynamic, now);
    for record in &plan.records {
        let encoded = record
            .encode(0)
            .expect("bootstrap records have a version 0");
        builder.append(encoded, now);
    }
    let batches: Vec<Bytes> = builder.finish(now);
    let partition = metadata_partition_dir(dir);
    directories::make_durable(&**disk, &partition)?;
    let mut writer = SnapshotWriter::create(Arc::clone(disk), &partition, BOOTSTRAP_SNAPSHOT)?;
    writer.append(&batches)?;
    writer.freeze()?;
    Ok(())
}
