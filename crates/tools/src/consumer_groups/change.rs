//! `--reset-offsets` and `--delete-offsets`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use milena_base::ErrorCode;
use milena_client::consumer::Place;
use milena_client::{Client, Error};
use milena_protocol::Str;

use super::collect;
use crate::options::Options;
use crate::reset_offsets::{self, Failure, Plan, STRATEGIES, Strategy, csv};
use crate::say::{self, out};

/// Which partitions of a group.
enum Scope {
    /// What it has offsets of.
    All,
    These(BTreeSet<Place>),
    /// The file says.
    File,
}

pub async fn reset(
    client: &mut Client,
    options: &Options,
    groups: &[String],
) -> Result<(), Failure> {
    let single = match options.values("group")[..] {
        [group] => Some(group),
        _ => None,
    };
    let mut plans = BTreeMap::new();
    for group in groups {
        let state = match collect::describe(client, group).await {
            Ok(described) => described.state,
            Err(error) if error.code() == Some(ErrorCode::GroupIdNotFound) => "Dead".into(),
            Err(error) => return Err(error.into()),
        };
        if !matches!(&state[..], "Empty" | "Dead") {
            out(format_args!(
                "\nError: Assignments can only be reset if the group '{group}' is inactive, but the current state is {state}.\n"
            ));
            plans.insert(group.clone(), Plan::new());
            continue;
        }
        let plan = plan(client, options, group, single).await?;
        if options.has("execute") && !plan.is_empty() {
            collect::commit(client, group, &plan).await?;
        }
        plans.insert(group.clone(), plan);
    }
    match options.has("export") {
        true => out(csv::text(&plans, single.is_some()) + "\n"),
        false => out(reset_offsets::table(&plans)),
    }
    Ok(())
}

/// A group's new offsets.
async fn plan(
    client: &mut Client,
    options: &Options,
    group: &str,
    single: Option<&str>,
) -> Result<Plan, Failure> {
    let scope = scope(client, options).await?;
    let mut committed = Plan::new();
    if matches!(scope, Scope::All) || options.count_of(&["shift-by", "to-current"]) > 0 {
        let found = collect::committed_by(client, group).await?.into_iter();
        committed.extend(found.map(|(place, (offset, _))| (place, offset)));
    }
    let places = match scope {
        Scope::All => committed.keys().cloned().collect(),
        Scope::These(places) => places,
        Scope::File => BTreeSet::new(),
    };
    let Some(strategy) = Strategy::of(options, single)? else {
        let flags = STRATEGIES.map(|flag| format!("[{flag}]")).join(", ");
        return Err(Failure::Usage(format!(
            "Option '[reset-offsets]' requires one of the following scenarios: [{flags}]"
        )));
    };
    strategy.plan(client, group, &places, &committed).await
}

async fn scope(client: &mut Client, options: &Options) -> Result<Scope, Failure> {
    if options.has("all-topics") {
        return Ok(Scope::All);
    }
    if options.has("topic") {
        let (listed, whole) = listed(&options.values("topic")).map_err(Failure::Usage)?;
        let mut places = reset_offsets::of_topics(client, &whole).await?;
        places.extend(listed);
        return Ok(Scope::These(places));
    }
    match options.has("from-file") {
        true => Ok(Scope::File),
        false => Err(Failure::Usage(
            "One of the reset scopes should be defined: --all-topics, --topic.".into(),
        )),
    }
}

/// Partitions that are named, and topics that are meant as a whole.
fn listed(arguments: &[&str]) -> Result<(Vec<Place>, Vec<Str>), String> {
    let (mut places, mut whole) = (Vec::new(), Vec::new());
    for argument in arguments {
        match argument.contains(':') {
            true => places.extend(reset_offsets::partitions(argument)?),
            false => whole.push(Str::copy(argument)),
        }
    }
    Ok((places, whole))
}

pub async fn delete_offsets(
    client: &mut Client,
    options: &Options,
    groups: &[String],
) -> Result<(), Failure> {
    let (listed, whole) = listed(&options.values("topic")).map_err(Failure::Usage)?;
    let mut places: BTreeSet<Place> = listed.into_iter().collect();
    let mut results = BTreeMap::new();
    for topic in whole {
        match reset_offsets::of_topics(client, std::slice::from_ref(&topic)).await {
            Ok(found) => places.extend(found),
            Err(error) => drop(results.insert((topic, -1), Err(error))),
        }
    }
    let group = groups.first().map(String::as_str).unwrap_or_default();
    let first = match collect::delete_offsets(client, group, &places).await {
        Ok(found) => {
            let first = found.values().find_map(|result| result.clone().err());
            results.extend(found);
            first
        }
        Err(error) => {
            let failed = |place| (place, Err(error.clone()));
            results.extend(places.into_iter().map(failed));
            Some(error)
        }
    };
    out(headline(group, first.as_ref()) + &deleted(&results));
    Ok(())
}

/// The sentence on the whole.
fn headline(group: &str, error: Option<&Error>) -> String {
    use ErrorCode as Code;
    let Some(error) = error else {
        return format!("Request succeeded for deleting offsets from group {group}.\n");
    };
    match error.code() {
        Some(
            Code::GroupSubscribedToTopic
            | Code::TopicAuthorizationFailed
            | Code::UnknownTopicOrPartition,
        ) => "\nError: Encountered some partition-level error, see the follow-up details.\n".into(),
        Some(
            Code::InvalidGroupId
            | Code::GroupIdNotFound
            | Code::GroupAuthorizationFailed
            | Code::NonEmptyGroup,
        ) => format!("\nError: {error}\n"),
        Some(code) => format!("\nError: Encountered some unknown error: {}\n", code.name()),
        None => format!("\nError: {}\n", say::with_exception(error)),
    }
}

/// The table of what became of each partition; partition −1 stands for a topic that is not there.
pub fn deleted(results: &BTreeMap<Place, Result<(), Error>>) -> String {
    let topics = results
        .keys()
        .map(|place| place.0.len())
        .fold(15, usize::max);
    let mut text = String::new();
    let mut row = |topic: &str, partition: &str, status: &str| {
        let _ = write!(text, "\n{topic:<topics$} {partition:<10} {status:<15}");
    };
    row("TOPIC", "PARTITION", "STATUS");
    for ((topic, partition), result) in results {
        let partition = match partition {
            0.. => partition.to_string(),
            _ => "-".into(),
        };
        let status = match result {
            Ok(()) => "Successful".into(),
            Err(error) => format!("Error: {}", say::with_exception(error)),
        };
        row(topic, &partition, &status);
    }
    text.push('\n');
    text
}
