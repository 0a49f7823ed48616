//! `kafka-consumer-groups`: lists and describes groups of consumers, sets and deletes their offsets, and deletes
//! empty ones.

pub(crate) mod change;
pub(crate) mod collect;
pub(crate) mod flags;
pub(crate) mod tables;

use std::collections::BTreeMap;

use milena_client::{Client, Error};
use regex_lite::Regex;

use self::tables::Table;
use crate::connect;
use crate::options::Options;
use crate::reset_offsets::Failure;
use crate::say::{self, Stop, out};

pub fn main(args: Vec<String>) -> i32 {
    say::finish(&flags::SPEC, run(&args))
}

fn run(args: &[String]) -> Result<i32, Stop> {
    let options = flags::SPEC.parse(args)?;
    flags::check(&options)?;
    if let Some(pattern) = options.value("validate-regex")? {
        validate(pattern);
        return Ok(0);
    }
    let filters = (
        names(&options, "state", &STATES)?,
        names(&options, "type", &TYPES)?,
    );
    let mut properties = match options.value("command-config")? {
        Some(path) => connect::load(path)?,
        None => connect::Properties::new(),
    };
    let servers = options.value("bootstrap-server")?.unwrap_or_default();
    properties.insert("bootstrap.servers".into(), servers.into());
    let timeout: i64 = options.number("timeout")?.unwrap_or(30_000);
    properties.insert("default.api.timeout.ms".into(), timeout.to_string());
    let done = connect::admin(&properties)
        .map_err(Trouble::from)
        .and_then(|client| crate::progress::run(execute(client, &options, filters)));
    // As Kafka's tool: said on standard output, and the status is still 0.
    let failed = |message: String, thrown: String| {
        out(format_args!(
            "\nError: Executing consumer group command failed due to {message}\n"
        ));
        eprintln!("{thrown}");
        Ok(0)
    };
    match done {
        Ok(()) => Ok(0),
        Err(Trouble::Call(error)) => {
            let shown = say::with_exception(&error);
            failed(shown.clone(), shown)
        }
        Err(Trouble::Reset(Failure::Usage(message))) => Err(Stop::Usage(message)),
        Err(Trouble::Reset(Failure::Said { message, thrown })) => failed(message, thrown),
    }
}

/// What ends a command early.
enum Trouble {
    /// Said with the name of its exception.
    Call(Error),
    Reset(Failure),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Trouble {
        Trouble::Call(error)
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Trouble {
        Trouble::Reset(failure)
    }
}

const STATES: [&str; 7] = [
    "Reconciling",
    "PreparingRebalance",
    "Assigning",
    "Stable",
    "Dead",
    "Empty",
    "CompletingRebalance",
];
const TYPES: [&str; 2] = ["Consumer", "Classic"];

/// The value of `--state` or `--type` as Kafka's names.
fn names(options: &Options, flag: &str, known: &[&str]) -> Result<Vec<String>, Stop> {
    let Some(text) = options.value(flag)?.filter(|text| !text.is_empty()) else {
        return Ok(Vec::new());
    };
    let name = |part: &str| {
        let found = known
            .iter()
            .find(|name| name.eq_ignore_ascii_case(part.trim()));
        found.map(|name| name.to_string())
    };
    let found: Option<Vec<String>> = text.split(',').map(name).collect();
    let what = if flag == "state" {
        ("state", "states")
    } else {
        ("types", "types")
    };
    found.ok_or_else(|| {
        let known = known.join(", ");
        Stop::Usage(format!(
            "Invalid {} list '{text}'. Valid {} are: {known}",
            what.0, what.1
        ))
    })
}

fn validate(pattern: &str) {
    match Regex::new(pattern) {
        Ok(_) => out(format_args!(
            "The regular expression `{pattern}` is valid.\n"
        )),
        Err(error) => {
            out(format_args!(
                "The regular expression `{pattern}` is invalid: {error}.\n"
            ));
        }
    }
}

async fn execute(
    mut client: Client,
    options: &Options,
    (states, types): (Vec<String>, Vec<String>),
) -> Result<(), Trouble> {
    if options.has("list") {
        let groups = collect::list(&mut client, &states, &types).await?;
        let (with_type, with_state) = (options.has("type"), options.has("state"));
        out(tables::listing(&groups, with_type, with_state));
        return Ok(());
    }
    let groups = match options.has("all-groups") {
        true => {
            let listed = collect::list(&mut client, &[], &[]).await?;
            listed.into_iter().map(|group| group.id).collect()
        }
        false => options
            .values("group")
            .iter()
            .map(|id| id.to_string())
            .collect::<Vec<_>>(),
    };
    if options.has("reset-offsets") {
        return Ok(change::reset(&mut client, options, &groups).await?);
    }
    if options.has("delete-offsets") {
        return Ok(change::delete_offsets(&mut client, options, &groups).await?);
    }
    match options.has("delete") {
        true => delete(&mut client, &groups).await?,
        false => describe(&mut client, options, &groups).await?,
    }
    Ok(())
}

async fn describe(client: &mut Client, options: &Options, groups: &[String]) -> Result<(), Error> {
    let verbose = options.has("verbose");
    let with_offsets = !options.has("members") && !options.has("state");
    let mut described = BTreeMap::new();
    for id in groups {
        let mut group = collect::describe(client, id).await?;
        if with_offsets {
            collect::add_offsets(client, &mut group).await?;
        }
        described.insert(id.clone(), group);
    }
    for group in described.values() {
        let table = if with_offsets {
            tables::offsets(group, verbose)
        } else if options.has("members") {
            tables::members(group, verbose)
        } else {
            tables::state(group, verbose)
        };
        print(table);
    }
    Ok(())
}

fn print(table: Table) {
    match &table.notice {
        Some(notice) if table.is_error => out(format_args!("\nError: {notice}\n")),
        Some(notice) => eprintln!("\n{notice}"),
        None => {}
    }
    if !table.text.is_empty() {
        out(table.text);
    }
}

async fn delete(client: &mut Client, groups: &[String]) -> Result<(), Error> {
    let (mut deleted, mut failed) = (Vec::new(), Vec::new());
    for id in groups {
        match collect::delete(client, id).await {
            Ok(()) => deleted.push(format!("'{id}'")),
            Err(error) => failed.push(format!(
                "* Group '{id}' could not be deleted due to: {}",
                say::with_exception(&error)
            )),
        }
    }
    let deleted = deleted.join(", ");
    if failed.is_empty() {
        out(format_args!(
            "Deletion of requested consumer groups ({deleted}) was successful.\n"
        ));
        return Ok(());
    }
    out(format_args!(
        "\nError: Deletion of some consumer groups failed:\n{}\n",
        failed.join("\n")
    ));
    if !deleted.is_empty() {
        out(format_args!(
            "\nThese consumer groups were deleted successfully: {deleted}\n"
        ));
    }
    Ok(())
}
