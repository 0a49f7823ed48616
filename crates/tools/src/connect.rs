//! From flags to a client: property files, bootstrap addresses, and where a seed comes from.

use std::collections::BTreeMap;
use std::net::ToSocketAddrs;

use milena_base::Prng;
use milena_client::{Address, Client, ClientConfig, Error};

use crate::options::Options;
use crate::say::{self, Stop};
use crate::subcommands::Parsed;

/// Properties by Kafka's names.
pub type Properties = BTreeMap<String, String>;

/// Reads a Java properties file.
pub fn load(path: &str) -> Result<Properties, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("{path}: {error}"))?;
    let parsed = milena_config::Properties::parse(&bytes);
    let parsed = parsed.map_err(|error| format!("{path}: {error}"))?;
    Ok(parsed.as_map().clone())
}

/// The client's properties: the file of `--command-config`, then the addresses.
pub fn of_flags(options: &Options) -> Result<Properties, Stop> {
    let mut properties = match options.value("command-config")? {
        Some(path) => load(path)?,
        None => Properties::new(),
    };
    let servers = options.value("bootstrap-server")?.unwrap_or_default();
    properties.insert("bootstrap.servers".into(), servers.into());
    Ok(properties)
}

/// The same from a command line with subcommands.
pub fn of_subcommand(parsed: &Parsed) -> Result<Properties, String> {
    let mut properties = match parsed.value("command-config").or(parsed.value("config")) {
        Some(path) => load(path)?,
        None => Properties::new(),
    };
    for flag in ["bootstrap-server", "bootstrap-controller"] {
        if let Some(addresses) = parsed.value(flag) {
            let key = format!("{}s", flag.replace('-', "."));
            properties.insert(key, addresses.into());
        }
    }
    Ok(properties)
}

/// `key=value` arguments as Kafka's `parseKeyValueArgs` takes them: a missing value is an error, an empty one not.
pub fn pairs(args: &[&str]) -> Result<Properties, String> {
    let mut properties = Properties::new();
    for arg in args.iter().filter(|arg| !arg.is_empty()) {
        let (key, value) = arg
            .split_once('=')
            .ok_or_else(|| format!("Missing value for key {arg}"))?;
        properties.insert(key.to_string(), value.to_string());
    }
    Ok(properties)
}

/// A client for an admin tool; failures that are tried again are told once each.
pub fn admin(properties: &Properties) -> Result<Client, Error> {
    let mut properties = properties.clone();
    let id = properties.entry("client.id".into()).or_default();
    if id.is_empty() {
        *id = "adminclient-1".into();
    }
    let config = ClientConfig::new(&properties)?;
    resolvable(&config)?;
    Ok(Client::new(config, seed()).with_notice(warn))
}

/// A tool need not try for a minute when no address has a host that there is.
fn resolvable(config: &ClientConfig) -> Result<(), Error> {
    let found = |address: &Address| {
        (address.host.as_str(), address.port)
            .to_socket_addrs()
            .is_ok()
    };
    if config.bootstrap.iter().any(found) {
        return Ok(());
    }
    let hosts: Vec<&str> = config
        .bootstrap
        .iter()
        .map(|address| address.host.as_str())
        .collect();
    Err(Error::Config(format!(
        "No resolvable bootstrap urls given in bootstrap.servers: {} is not known",
        hosts.join(", ")
    )))
}

/// The same, with the sentence that Kafka's tools begin with when there can't be a client.
pub fn open(properties: &Properties) -> Result<Client, Stop> {
    admin(properties)
        .map_err(|error| Stop::Message(format!("Failed to create new KafkaAdminClient\n{error}")))
}

/// Says a failure that is going to be tried again, but not the same one over and over.
pub fn warn(error: &Error) {
    static LAST: std::sync::Mutex<String> = std::sync::Mutex::new(String::new());
    let text = error.to_string();
    let mut last = LAST.lock().expect("nothing panics with the lock");
    if *last != text {
        say::log("WARN", format_args!("{text}; trying again"), "milena");
        *last = text;
    }
}

/// Randomness from the system, by the way std seeds its maps.
pub fn seed() -> Prng {
    use std::hash::{BuildHasher, Hasher};
    Prng::new(
        std::collections::hash_map::RandomState::new()
            .build_hasher()
            .finish(),
    )
}
