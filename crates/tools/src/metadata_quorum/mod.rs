//! `kafka-metadata-quorum`: who leads the metadata quorum, how far its replicas are, and its voters (KIP-836, KIP-853).

mod controller;
pub(crate) mod report;

use milena_base::Uuid;
use milena_client::{Client, Error, Target};
use milena_protocol::describe_quorum_request::{PartitionData, TopicData};
use milena_protocol::{
    AddRaftVoterRequest, DescribeQuorumRequest, DescribeQuorumResponse, RemoveRaftVoterRequest,
};

use self::controller::NewController;
use crate::connect;
use crate::say::{self, out};
use crate::subcommands::{Arg, Command, Parsed, Tool, arg};

const DRY_RUN: Arg = arg("dry-run", 'n', "Only say what would be done.")
    .long_only()
    .switch();

pub(crate) const TOOL: Tool = Tool {
    name: "kafka-metadata-quorum",
    about: "Describes the metadata quorum, and adds and removes its voters.",
    globals: &[
        arg("command-config", 'c', "Properties for the client, by Kafka's names; with add-controller, the properties of that controller.").long_only(),
        arg("bootstrap-server", 'b', "Brokers to begin with, host:port[,host:port…].")
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
            help: "Show the quorum.",
            args: &[
                arg("status", 's', "Its leader, its voters and how far they are.")
                    .long_only()
                    .switch(),
                arg("replication", 'r', "How far each replica is.")
                    .long_only()
                    .switch(),
                arg("human-readable", 'h', "With --replication: times as how long ago.")
                    .long_only()
                    .switch(),
            ],
        },
        Command {
            name: "add-controller",
            help: "Make a controller a voter.",
            args: &[DRY_RUN],
        },
        Command {
            name: "remove-controller",
            help: "Take a controller out of the voters.",
            args: &[
                arg("controller-id", 'i', "The controller's id.").required(),
                arg("controller-directory-id", 'd', "The id of its metadata directory.").required(),
                DRY_RUN,
            ],
        },
    ],
};

pub fn main(args: Vec<String>) -> i32 {
    TOOL.main(&args, 0, |parsed| run(parsed).map(|()| 0))
}

fn run(parsed: &Parsed) -> Result<(), String> {
    if let Some(path) = parsed
        .value("command-config")
        .filter(|path| !std::path::Path::new(path).exists())
    {
        return Err(format!("Properties file {path} does not exists!"));
    }
    let properties = connect::of_subcommand(parsed)?;
    let client = connect::admin(&properties)
        .map_err(|error| format!("Failed to create new KafkaAdminClient\n{error}"))?;
    let done = match parsed.command {
        "describe" => {
            check_describe(parsed)?;
            crate::progress::run(describe(client, parsed))
        }
        "add-controller" => {
            if !parsed.has("command-config") {
                return Err("You must supply the configuration file of the controller you are adding when using add-controller.".into());
            }
            let new = NewController::of(&properties)?;
            crate::progress::run(add(client, &new, parsed.has("dry-run")))
        }
        _ => {
            let (id, directory) = to_remove(parsed)?;
            crate::progress::run(remove(client, id, directory, parsed.has("dry-run")))
        }
    };
    done.map_err(|error| say::with_exception(&error))
}

fn check_describe(parsed: &Parsed) -> Result<(), String> {
    let text = match (parsed.has("status"), parsed.has("replication")) {
        (true, true) => {
            "Only one of --status or --replication should be specified with describe sub-command"
        }
        (false, false) => {
            "One of --status or --replication must be specified with describe sub-command"
        }
        (true, false) if parsed.has("human-readable") => {
            "The option --human-readable is only supported along with --replication"
        }
        _ => return Ok(()),
    };
    Err(text.into())
}

async fn describe(mut client: Client, parsed: &Parsed) -> Result<(), Error> {
    let client = &mut client;
    if parsed.has("replication") {
        let quorum = describe_quorum(client).await?;
        let now = say::now_millis();
        let human = parsed.has("human-readable");
        out(report::replication(&quorum, human.then_some(now)).map_err(Error::Config)?);
        return Ok(());
    }
    let cluster = client
        .retry("describeCluster", async |client: &mut Client| {
            client.describe_cluster(false).await
        })
        .await?;
    let quorum = describe_quorum(client).await?;
    out(report::status(&cluster.cluster_id, &quorum).map_err(Error::Config)?);
    Ok(())
}

async fn describe_quorum(client: &mut Client) -> Result<DescribeQuorumResponse, Error> {
    let request = DescribeQuorumRequest {
        topics: vec![TopicData {
            topic_name: "__cluster_metadata".into(),
            partitions: vec![PartitionData::default()],
        }],
    };
    let describe = async |client: &mut Client| {
        let connection = client.connection(Target::Controller).await?;
        let answer = connection.call(&request).await?;
        Error::check(answer.error_code, answer.error_message.as_deref())?;
        let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
        for partition in partitions {
            Error::check(partition.error_code, partition.error_message.as_deref())?;
        }
        Ok(answer)
    };
    client.retry("describeMetadataQuorum", describe).await
}

async fn add(mut client: Client, new: &NewController, dry_run: bool) -> Result<(), Error> {
    if !dry_run {
        let request = AddRaftVoterRequest {
            cluster_id: None,
            timeout_ms: client.config().api_timeout.as_millis() as i32,
            voter_id: new.id,
            voter_directory_id: new.directory_id,
            listeners: new.listeners.clone(),
            ..Default::default()
        };
        let call = async |client: &mut Client| {
            let connection = client.connection(Target::Controller).await?;
            let answer = connection.call(&request).await?;
            Error::check(answer.error_code, answer.error_message.as_deref())
        };
        client.retry("addRaftVoter", call).await?;
    }
    let done = if dry_run {
        "DRY RUN of adding"
    } else {
        "Added"
    };
    out(format_args!("{done} {new}\n"));
    Ok(())
}

/// The flags of `remove-controller`.
fn to_remove(parsed: &Parsed) -> Result<(i32, Uuid), String> {
    let text = parsed.value("controller-id").unwrap_or_default();
    let id: i32 = text.parse().map_err(|_| {
        let name = TOOL.name;
        format!("{name}: error: argument --controller-id/-i: could not convert '{text}' to Integer")
    })?;
    if id < 0 {
        return Err(format!("Invalid negative --controller-id: {id}"));
    }
    let text = parsed.value("controller-directory-id").unwrap_or_default();
    let directory = text
        .parse()
        .map_err(|error| format!("Failed to parse --controller-directory-id: {error}"))?;
    Ok((id, directory))
}

async fn remove(mut client: Client, id: i32, directory: Uuid, dry_run: bool) -> Result<(), Error> {
    if !dry_run {
        let request = RemoveRaftVoterRequest {
            cluster_id: None,
            voter_id: id,
            voter_directory_id: directory,
        };
        let call = async |client: &mut Client| {
            let connection = client.connection(Target::Controller).await?;
            let answer = connection.call(&request).await?;
            Error::check(answer.error_code, answer.error_message.as_deref())
        };
        client.retry("removeRaftVoter", call).await?;
    }
    // Two blanks, as Kafka's tool has them.
    let done = if dry_run {
        "DRY RUN of removing "
    } else {
        "Removed "
    };
    out(format_args!(
        "{done} KRaft controller {id} with directory id {directory}\n"
    ));
    Ok(())
}
