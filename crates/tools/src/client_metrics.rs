//! `kafka-client-metrics`: which metrics clients are to push (KIP-714), by named resources.

use milena_client::{Client, Error};
use milena_image::ConfigResource;

use crate::configs::resources;
use crate::connect;
use crate::options::{
    BOOTSTRAP_SERVER, COMMAND_CONFIG, HELP, Options, Spec, VERSION, switch, value,
};
use crate::say::{self, Stop, out};

const LOGGER: &str = "org.apache.kafka.tools.ClientMetricsCommand";
const KIND: i8 = ConfigResource::CLIENT_METRICS;
/// `DYNAMIC_CLIENT_METRICS_CONFIG`.
const SET_HERE: i8 = 7;

pub const SPEC: Spec = Spec {
    about: "Shows and changes which metrics clients are asked to push.",
    flags: &[
        HELP,
        VERSION,
        BOOTSTRAP_SERVER,
        COMMAND_CONFIG,
        switch("alter", "Set a resource's configs."),
        switch("delete", "Delete a resource."),
        switch("describe", "Show the configs of a resource, or of all."),
        switch("list", "List the resources."),
        value("name", "name", "A resource."),
        switch("generate-name", "With --alter: draw a name."),
        value(
            "interval",
            "push interval",
            "Milliseconds between pushes; empty resets it.",
        ),
        value(
            "match",
            "k1=v1,k2=v2",
            "Which clients, by selectors: client_id, client_instance_id, client_software_name, client_software_version, client_source_address, client_source_port.",
        ),
        value("metrics", "m1,m2", "Prefixes of metrics' names."),
    ],
};

pub fn main(args: Vec<String>) -> i32 {
    say::finish(&SPEC, run(&args))
}

/// Kafka's checks, in its order.
pub fn check(options: &Options) -> Result<(), Stop> {
    if options.is_empty() {
        return Err(Stop::Usage(SPEC.about.to_string()));
    }
    say::help_or_version(options)?;
    if options.count_of(&["alter", "delete", "describe", "list"]) != 1 {
        let text =
            "Command must include exactly one action: --alter, --delete, --describe or --list.";
        return Err(Stop::Usage(text.into()));
    }
    if !options.has("bootstrap-server") {
        return Err(Stop::Message(
            "--bootstrap-server must be specified.".into(),
        ));
    }
    let changes = ["generate-name", "interval", "match", "metrics"];
    for action in ["delete", "describe"] {
        options.exclude(action, &changes).map_err(Stop::Usage)?;
    }
    let mut others = vec!["name"];
    others.extend(changes);
    options.exclude("list", &others).map_err(Stop::Usage)?;
    if options.has("alter") {
        if options.count_of(&["name", "generate-name"]) != 1 {
            let text = "One of --name or --generate-name must be specified with --alter.";
            return Err(Stop::Message(text.into()));
        }
        let interval = options.value("interval")?.unwrap_or_default();
        if !interval.is_empty() && interval.parse::<i32>().is_err() {
            let text = "Invalid interval value. Enter an integer, or leave empty to reset.";
            return Err(Stop::Message(text.into()));
        }
    }
    if options.has("delete") && !options.has("name") {
        let text = "A client metrics resource name must be specified with --delete.";
        return Err(Stop::Message(text.into()));
    }
    Ok(())
}

fn run(args: &[String]) -> Result<i32, Stop> {
    let options = SPEC.parse(args)?;
    check(&options)?;
    let mut properties = match options.value("command-config")? {
        Some(path) => connect::load(path)?,
        None => connect::Properties::new(),
    };
    let servers = options.value("bootstrap-server")?.unwrap_or_default();
    properties.insert("bootstrap.servers".into(), servers.into());
    let client = connect::admin(&properties).map_err(|error| error.to_string())?;
    match crate::progress::run(execute(client, &options)) {
        Ok(()) => Ok(0),
        Err(error) => {
            out(format_args!(
                "Error while executing client metrics command : {error}\n"
            ));
            say::log(
                "ERROR",
                format_args!("{}\n", say::with_exception(&error)),
                LOGGER,
            );
            Ok(1)
        }
    }
}

async fn execute(mut client: Client, options: &Options) -> Result<(), Error> {
    let client = &mut client;
    let name = options.value("name").map_err(Error::Config)?;
    if options.has("list") {
        let names = sorted(client).await?;
        out(format_args!("{}\n", names.join("\n")));
        Ok(())
    } else if options.has("describe") {
        describe(client, name).await
    } else if options.has("delete") {
        delete(client, name.unwrap_or_default()).await
    } else {
        alter(client, options, name).await
    }
}

async fn sorted(client: &mut Client) -> Result<Vec<String>, Error> {
    let mut names = resources::list(client, KIND).await?;
    names.sort();
    Ok(names)
}

/// What is set for a resource, by key.
async fn set_of(client: &mut Client, name: &str) -> Result<Vec<(String, String)>, Error> {
    let configs = resources::describe(client, KIND, name).await?.into_iter();
    let set = configs.filter(|config| config.config_source == SET_HERE);
    let pair = set.map(|c| {
        (
            c.name.to_string(),
            c.value.map(|v| v.to_string()).unwrap_or_default(),
        )
    });
    Ok(pair.collect())
}

async fn describe(client: &mut Client, name: Option<&str>) -> Result<(), Error> {
    let mut names = sorted(client).await?;
    if let Some(name) = name {
        if !names.iter().any(|known| known == name) {
            out(format_args!(
                "The client metric resource {name} doesn't exist and doesn't have dynamic config.\n"
            ));
            return Ok(());
        }
        names = vec![name.to_owned()];
    }
    for name in names {
        let set = set_of(client, &name).await?;
        let lines: String = set
            .iter()
            .map(|(key, value)| format!("  {key}={value}\n"))
            .collect();
        out(format_args!(
            "Client metrics configs for {name} are:\n{lines}"
        ));
    }
    Ok(())
}

async fn delete(client: &mut Client, name: &str) -> Result<(), Error> {
    let set = set_of(client, name).await?;
    let keys = set.iter().map(|(key, _)| key.as_str());
    resources::alter(client, KIND, name, [], keys).await?;
    out(format_args!("Deleted client metrics config for {name}.\n"));
    Ok(())
}

async fn alter(client: &mut Client, options: &Options, name: Option<&str>) -> Result<(), Error> {
    let name = match name {
        Some(name) => name.to_owned(),
        None => {
            let mut bytes = [0; 16];
            client.random().fill(&mut bytes);
            milena_base::Uuid(bytes).to_string()
        }
    };
    let (mut set, mut delete) = (Vec::new(), Vec::new());
    for (flag, key) in [
        ("interval", "interval.ms"),
        ("match", "match"),
        ("metrics", "metrics"),
    ] {
        if !options.has(flag) {
            continue;
        }
        match options.values(flag).join(",") {
            empty if empty.is_empty() => delete.push(key),
            value => set.push((key, value)),
        }
    }
    let set = set.iter().map(|(key, value)| (*key, value.as_str()));
    resources::alter(client, KIND, &name, set, delete).await?;
    out(format_args!("Altered client metrics config for {name}.\n"));
    Ok(())
}
