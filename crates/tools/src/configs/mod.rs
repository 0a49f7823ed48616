//! `kafka-configs`: shows and changes dynamic configs, quotas and SCRAM credentials.

mod alter;
pub(crate) mod describe;
pub(crate) mod flags;
pub(crate) mod pairs;
mod quotas;
pub(crate) mod resources;

#[cfg(test)]
pub(crate) use self::alter::check_client_keys;

use milena_client::{Client, Error};

use self::flags::Entities;
use crate::connect;
use crate::options::Options;
use crate::say::{self, Stop};

pub fn main(args: Vec<String>) -> i32 {
    say::finish(&flags::SPEC, run(&args))
}

/// What went wrong.
#[derive(Debug)]
pub(crate) enum Failure {
    /// By whoever wrote the command line: said without its arguments.
    Wrong(String),
    /// On the way, or by the cluster.
    Failed(Error),
}

impl From<String> for Failure {
    fn from(text: String) -> Failure {
        Failure::Wrong(text)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        match error {
            Error::Config(text) => Failure::Wrong(text),
            error => Failure::Failed(error),
        }
    }
}

fn run(args: &[String]) -> Result<i32, Stop> {
    let options = flags::SPEC.parse(args)?;
    flags::check(&options)?;
    let entities = Entities::of(&options)?;
    let mut properties = match options.value("command-config")? {
        Some(path) => connect::load(path)?,
        None => connect::Properties::new(),
    };
    for flag in ["bootstrap-server", "bootstrap-controller"] {
        if let Some(addresses) = options.value(flag)? {
            let key = format!("{}s", flag.replace('-', "."));
            properties.insert(key, addresses.to_owned());
        }
    }
    let client = connect::admin(&properties).map_err(|error| error.to_string())?;
    match crate::progress::run(execute(client, &options, &entities)) {
        Ok(()) => Ok(0),
        Err(Failure::Wrong(text)) => Err(Stop::Message(text)),
        Err(Failure::Failed(error)) => Err(Stop::Message(format!(
            "Error while executing config command with args '{}'\njava.util.concurrent.ExecutionException: {}",
            shown(args),
            say::with_exception(&error)
        ))),
    }
}

/// The arguments as they were given, but for passwords.
fn shown(args: &[String]) -> String {
    let text = args.join(" ");
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(at) = rest.find("password=") {
        let (before, after) = rest.split_at(at + "password=".len());
        out.push_str(before);
        out.push_str("[hidden]");
        rest = after.find([',', ']', ' ']).map_or("", |end| &after[end..]);
    }
    out + rest
}

async fn execute(
    mut client: Client,
    options: &Options,
    entities: &Entities,
) -> Result<(), Failure> {
    match options.has("alter") {
        true => alter::run(&mut client, options, entities).await,
        false => describe::run(&mut client, options, entities).await,
    }
}
