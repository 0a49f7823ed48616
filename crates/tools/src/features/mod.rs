//! `kafka-features`: the levels of features that a cluster supports and has finalised, and changing them (KIP-584).

pub(crate) mod update;

use std::fmt::Write as _;

use milena_client::{Client, Error, Target};
use milena_image::{METADATA_VERSION, MetadataVersion};
use milena_protocol::ApiVersionsResponse;

use self::update::{Update, parse_level};
use crate::connect;
use crate::say::{self, out};
use crate::storage;
use crate::subcommands::{Arg, COMMAND_CONFIG, Command, Parsed, Refused, Tool, arg, status};

const METADATA: Arg = arg(
    "metadata",
    'm',
    "Deprecated: the level of metadata.version by name (3.9-IV0).",
)
.long_only();
const RELEASE: Arg = arg(
    "release-version",
    'r',
    "Every feature to its level in this release (3.9, 3.9-IV0).",
)
.long_only();
const FEATURE: Arg = arg(
    "feature",
    'f',
    "A feature and its level (metadata.version=5); may be repeated.",
)
.long_only();
const UNSAFE: Arg = arg("unsafe", 'u', "Also where metadata would be lost.")
    .long_only()
    .switch();
const DRY_RUN: Arg = arg("dry-run", 'n', "Only say whether it can be done.")
    .long_only()
    .switch();

pub(crate) const TOOL: Tool = Tool {
    name: "kafka-features",
    about: "Describes and changes the finalised levels of features.",
    globals: &[
        COMMAND_CONFIG,
        arg(
            "bootstrap-server",
            'b',
            "Brokers to begin with, host:port[,host:port…].",
        )
        .long_only()
        .required()
        .one_of(1),
        arg("bootstrap-controller", 'C', "Controllers to begin with.")
            .long_only()
            .required()
            .one_of(1),
    ],
    commands: &[
        Command {
            name: "describe",
            help: "Show what is supported and finalised.",
            args: &[arg("node-id", 'n', "Ask this node instead of any.").long_only()],
        },
        Command {
            name: "upgrade",
            help: "Raise levels.",
            args: &[METADATA, RELEASE, FEATURE, DRY_RUN],
        },
        Command {
            name: "downgrade",
            help: "Lower levels.",
            args: &[METADATA, RELEASE, FEATURE, UNSAFE, DRY_RUN],
        },
        Command {
            name: "disable",
            help: "Lower features to level 0.",
            args: &[
                arg("feature", 'f', "A feature; may be repeated.").long_only(),
                UNSAFE,
                DRY_RUN,
            ],
        },
        Command {
            name: "version-mapping",
            help: "Show the levels that belong to a release.",
            args: &[arg(
                "release-version",
                'r',
                "The release; without it, the latest.",
            )
            .long_only()],
        },
        Command {
            name: "feature-dependencies",
            help: "Show what levels of other features a level needs.",
            args: &[FEATURE.required()],
        },
    ],
};

pub fn main(args: Vec<String>) -> i32 {
    let parsed = match TOOL.parse(&args) {
        Ok(parsed) => parsed,
        Err(Refused::Help(text)) => {
            out(text);
            return 0;
        }
        Err(Refused::Wrong(text)) => {
            // As Kafka's tool: no usage, and no line end.
            let what = TOOL.sentence(&text);
            eprint!("Command line error: {what}. Type --help for help.");
            return 1;
        }
    };
    status(run(&parsed).map(|()| 0))
}

fn run(parsed: &Parsed) -> Result<(), String> {
    let properties = connect::of_subcommand(parsed)?;
    let client = connect::admin(&properties)
        .map_err(|error| format!("Failed to create new KafkaAdminClient\n{error}"))?;
    match parsed.command {
        "describe" => {
            let node = parsed.value("node-id").map(node_id).transpose()?;
            let done = crate::progress::run(describe(client, node));
            done.map_err(|error| say::with_exception(&error))
        }
        "version-mapping" => {
            out(storage::version_mapping(parsed.value("release-version"))?);
            Ok(())
        }
        "feature-dependencies" => {
            for feature in parsed.values("feature") {
                parse_level(feature)?;
                out(storage::dependencies(feature)?);
            }
            Ok(())
        }
        command => {
            let update = Update::of(command, parsed)?;
            crate::progress::run(update::run(client, &update))
        }
    }
}

fn node_id(text: &str) -> Result<i32, String> {
    match text.parse() {
        Ok(id) if id >= 0 => Ok(id),
        Ok(id) => Err(format!("Invalid node id {id}: must be non-negative.")),
        Err(_) => Err(format!(
            "argument --node-id: could not convert '{text}' to Integer"
        )),
    }
}

async fn describe(mut client: Client, node: Option<i32>) -> Result<(), Error> {
    let text = client.retry("describeFeatures", async |client: &mut Client| {
        let target = match node {
            Some(id) => {
                client.describe_cluster(false).await?;
                Target::Node(id)
            }
            None => Target::Any,
        };
        let connection = client.connection(target).await?;
        Ok(table(connection.api_versions()))
    });
    out(text.await?);
    Ok(())
}

/// A level as Kafka shows it: of `metadata.version` the name.
fn level(feature: &str, level: i16) -> String {
    match MetadataVersion::from_level(level) {
        _ if feature != METADATA_VERSION => level.to_string(),
        Some(version) => version.name().to_owned(),
        None => format!("UNKNOWN {level}"),
    }
}

/// A line for each feature that the node supports.
pub fn table(answer: &ApiVersionsResponse) -> String {
    let mut features: Vec<_> = answer.supported_features.iter().collect();
    features.sort_by_key(|feature| feature.name.as_str());
    let epoch = match answer.finalized_features_epoch {
        epoch if epoch >= 0 => epoch.to_string(),
        _ => "-".to_owned(),
    };
    let mut text = String::new();
    for feature in features {
        let name = feature.name.as_str();
        let mut finalised = answer.finalized_features.iter();
        let finalised = finalised.find(|other| other.name == feature.name);
        let finalised = finalised.map_or(0, |finalised| finalised.max_version_level);
        let [min, max, finalised] =
            [feature.min_version, feature.max_version, finalised].map(|n| level(name, n));
        let _ = writeln!(
            text,
            "Feature: {name:<40}  SupportedMinVersion: {min:<15}  SupportedMaxVersion: {max:<15}  FinalizedVersionLevel: {finalised:<15}  Epoch: {epoch}"
        );
    }
    text
}
