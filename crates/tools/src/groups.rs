//! `kafka-groups`: groups of every type.

use std::fmt::Write as _;

use milena_client::Error;

use crate::connect;
use crate::consumer_groups::collect::{self, Listed};
use crate::options::{
    BOOTSTRAP_SERVER, COMMAND_CONFIG, HELP, Options, Spec, VERSION, switch, value,
};
use crate::say::{self, Stop, out};

const LOGGER: &str = "org.apache.kafka.tools.GroupsCommand";
const TYPES: [&str; 4] = ["Consumer", "Classic", "Share", "Streams"];

pub const SPEC: Spec = Spec {
    about: "Lists groups of every type.",
    flags: &[
        HELP,
        VERSION,
        BOOTSTRAP_SERVER,
        COMMAND_CONFIG,
        switch("list", "List the groups."),
        value(
            "group-type",
            "type",
            "Only groups of this type: classic, consumer, share or streams.",
        ),
        value("protocol", "protocol", "Only groups of this protocol type."),
        switch(
            "consumer",
            "Only groups of consumers, whichever protocol they use.",
        ),
        switch("share", "Only share groups."),
        switch("streams", "Only streams groups."),
    ],
};

/// Kafka's checks, in its order.
pub fn check(options: &Options) -> Result<(), Stop> {
    say::help_or_version(options)?;
    if !options.has("bootstrap-server") {
        let text = "Missing required option(s) [bootstrap-server]";
        return Err(Stop::Usage(text.into()));
    }
    if !options.has("list") {
        let text = "Command must include exactly one action: --list.";
        return Err(Stop::Usage(text.into()));
    }
    if options.has("group-type") && group_type(options)?.is_none() {
        let text = "--group-type must be a valid group type.";
        return Err(Stop::Message(text.into()));
    }
    let filters = ["group-type", "protocol", "consumer", "share", "streams"];
    for alone in ["consumer", "share", "streams"] {
        options.exclude(alone, &filters).map_err(Stop::Usage)?;
    }
    Ok(())
}

fn group_type(options: &Options) -> Result<Option<&'static str>, String> {
    let text = options.value("group-type")?.unwrap_or_default();
    let known = TYPES.iter().find(|name| name.eq_ignore_ascii_case(text));
    Ok(known.copied())
}

/// Which groups are shown.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub group_type: Option<&'static str>,
    pub protocol: Option<String>,
    pub consumer: bool,
    pub share: bool,
    pub streams: bool,
}

impl Filter {
    pub fn of(options: &Options) -> Result<Filter, Stop> {
        Ok(Filter {
            group_type: group_type(options)?,
            protocol: options.value("protocol")?.map(str::to_owned),
            consumer: options.has("consumer"),
            share: options.has("share"),
            streams: options.has("streams"),
        })
    }

    fn takes(&self, group: &Listed) -> bool {
        let of_type = |name: &str| group.group_type == name;
        let of_protocol = |name: &String| group.protocol == *name;
        if let Some(name) = self.group_type {
            of_type(name) && self.protocol.as_ref().is_none_or(of_protocol)
        } else if let Some(protocol) = &self.protocol {
            of_protocol(protocol)
        } else if self.consumer {
            matches!(&group.protocol[..], "consumer" | "") || of_type("Consumer")
        } else if self.share {
            of_type("Share")
        } else if self.streams {
            of_type("Streams")
        } else {
            true
        }
    }
}

/// The groups that the filter takes, in columns of one width.
pub fn table(groups: &[Listed], filter: &Filter) -> String {
    let groups: Vec<[&str; 3]> = groups
        .iter()
        .filter(|group| filter.takes(group))
        .map(|group| [&group.id[..], &group.group_type, &group.protocol])
        .collect();
    let lengths = groups.iter().flatten().map(|cell| cell.len());
    let width = lengths.fold(20, usize::max);
    let mut text = format!(
        "{:<width$} {:<width$} {:<width$}\n",
        "GROUP", "TYPE", "PROTOCOL"
    );
    for row in groups {
        for cell in row {
            let _ = write!(text, "{cell:<width$} ");
        }
        text.push('\n');
    }
    text
}

pub fn main(args: Vec<String>) -> i32 {
    say::finish(&SPEC, run(&args))
}

fn run(args: &[String]) -> Result<i32, Stop> {
    let options = SPEC.parse(args).map_err(Stop::Usage)?;
    check(&options)?;
    let filter = Filter::of(&options)?;
    let mut client = connect::open(&connect::of_flags(&options)?)?;
    match crate::progress::run(collect::list_all(&mut client)) {
        Ok(groups) => {
            out(table(&groups, &filter));
            Ok(0)
        }
        Err(error) => Ok(failed(&error)),
    }
}

fn failed(error: &Error) -> i32 {
    out(format_args!(
        "Error while executing groups command : {error}\n"
    ));
    let shown = say::with_exception(error);
    say::log("ERROR", format_args!("{shown}\n"), LOGGER);
    1
}
