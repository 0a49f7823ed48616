//! What `--alter` changes.

use milena_base::ScramMechanism;
use milena_client::Client;
use milena_image::ConfigResource;

use super::describe::singular;
use super::flags::Entities;
use super::pairs::{self, Added};
use super::{Failure, quotas, resources};
use crate::options::Options;
use crate::say::out;

const CLIENT_QUOTAS: [&str; 4] = [
    "consumer_byte_rate",
    "controller_mutation_rate",
    "producer_byte_rate",
    "request_percentage",
];
const IP_QUOTAS: [&str; 1] = ["connection_creation_rate"];

pub async fn run(
    client: &mut Client,
    options: &Options,
    entities: &Entities,
) -> Result<(), Failure> {
    if entities.types.len() != entities.names.len() {
        let text = "An entity name must be specified for every entity type";
        return Err(Failure::Wrong(text.into()));
    }
    let (kind, name) = (&entities.types[0], &entities.names[0]);
    let added = pairs::added(options)?;
    let deleted = pairs::deleted(options);
    match &kind[..] {
        "users" | "clients" => alter_client(client, entities, &added, &deleted).await?,
        "ips" => {
            check_ip_keys(&added, &deleted)?;
            alter_quotas(client, entities, &added, &deleted).await?;
        }
        _ => {
            let number = resources::kind_of(kind).expect("the kinds were checked");
            if number == ConfigResource::BROKER_LOGGER {
                check_loggers(client, name, &added, &deleted).await?;
            }
            let set = added.iter().map(|(k, v)| (k.as_str(), v.as_str()));
            let delete = deleted.iter().map(String::as_str);
            resources::alter(client, number, name, set, delete).await?;
        }
    }
    match name.is_empty() {
        false => out(format_args!(
            "Completed updating config for {} {name}.\n",
            singular(kind)
        )),
        true => out(format_args!(
            "Completed updating default config for {kind} in the cluster.\n"
        )),
    }
    Ok(())
}

async fn check_loggers(
    client: &mut Client,
    name: &str,
    added: &Added,
    deleted: &[String],
) -> Result<(), Failure> {
    let known = resources::describe(client, ConfigResource::BROKER_LOGGER, name).await?;
    let named = deleted.iter().chain(added.keys());
    let unknown = named.filter(|logger| !known.iter().any(|k| *k.name == ***logger));
    let unknown: Vec<&str> = unknown.map(String::as_str).collect();
    match unknown.is_empty() {
        true => Ok(()),
        false => Err(format!("Invalid broker logger(s): {}", unknown.join(",")).into()),
    }
}

fn check_ip_keys(added: &Added, deleted: &[String]) -> Result<(), String> {
    let keys = added.keys().chain(deleted);
    let unknown: Vec<&str> = keys
        .map(String::as_str)
        .filter(|key| !IP_QUOTAS.contains(key))
        .collect();
    match unknown.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "Only connection quota configs can be added for 'ips' using --bootstrap-server. Unexpected config names: {}",
            unknown.join(",")
        )),
    }
}

/// Keys of one kind of change, by what they are.
struct Keys<'a> {
    quotas: bool,
    scram: Vec<&'a str>,
    unknown: Vec<&'a str>,
}

impl<'a> Keys<'a> {
    fn of(keys: impl Iterator<Item = &'a String>) -> Keys<'a> {
        let mut sorted = Keys {
            quotas: false,
            scram: Vec::new(),
            unknown: Vec::new(),
        };
        for key in keys {
            if CLIENT_QUOTAS.contains(&key.as_str()) {
                sorted.quotas = true;
            } else if ScramMechanism::from_name(key).is_some() {
                sorted.scram.push(key);
            } else {
                sorted.unknown.push(key);
            }
        }
        sorted
    }
}

/// Which keys users and clients may have, in Kafka's words.
pub fn check_client_keys(
    entities: &Entities,
    added: &Added,
    deleted: &[String],
) -> Result<(), String> {
    let (add, delete) = (Keys::of(added.keys()), Keys::of(deleted.iter()));
    let of_client = entities.types.len() == 2 || entities.types[0] == "clients";
    for (keys, done, list) in [(&add, "added", "Set"), (&delete, "deleted", "ArrayBuffer")] {
        let mut unexpected = keys.unknown.clone();
        if of_client {
            unexpected.extend(&keys.scram);
        }
        if unexpected.is_empty() {
            continue;
        }
        let (what, kind) = match of_client {
            true => ("quota", "clients"),
            false => ("quota and SCRAM credential", "users"),
        };
        return Err(format!(
            "Only {what} configs can be {done} for '{kind}' using --bootstrap-server. Unexpected config names: {list}({})",
            unexpected.join(", ")
        ));
    }
    if add.scram.is_empty() && delete.scram.is_empty() {
        return Ok(());
    }
    if entities.names.iter().any(String::is_empty) {
        return Err("The use of --entity-default or --user-defaults is not allowed with User SCRAM Credentials using --bootstrap-server.".into());
    }
    if add.quotas || delete.quotas {
        return Err("Cannot alter both quota and SCRAM credential configs simultaneously for 'users' using --bootstrap-server.".into());
    }
    Ok(())
}

async fn alter_client(
    client: &mut Client,
    entities: &Entities,
    added: &Added,
    deleted: &[String],
) -> Result<(), Failure> {
    check_client_keys(entities, added, deleted)?;
    let quotas = Keys::of(added.keys()).quotas || Keys::of(deleted.iter()).quotas;
    if quotas {
        return alter_quotas(client, entities, added, deleted).await;
    }
    let mut set = Vec::new();
    for (key, text) in added {
        let mechanism = ScramMechanism::from_name(key).expect("the keys were checked");
        let (iterations, password) = pairs::credential(key, text)?;
        set.push((mechanism, iterations, password));
    }
    let delete = deleted
        .iter()
        .filter_map(|key| ScramMechanism::from_name(key));
    let delete: Vec<ScramMechanism> = delete.collect();
    quotas::alter_credentials(client, &entities.names[0], &set, &delete).await?;
    note("Note: Milena stores SCRAM credentials and does not authenticate with them yet.");
    Ok(())
}

async fn alter_quotas(
    client: &mut Client,
    entities: &Entities,
    added: &Added,
    deleted: &[String],
) -> Result<(), Failure> {
    let current = quotas::describe(client, entities).await?;
    let has = |key: &String| {
        let mut values = current.iter().flat_map(|entry| &entry.values);
        values.any(|value| *value.key == **key)
    };
    let missing: Vec<&str> = deleted
        .iter()
        .filter(|key| !has(key))
        .map(String::as_str)
        .collect();
    if !missing.is_empty() {
        return Err(format!("Invalid config(s): {}", missing.join(",")).into());
    }
    let set = quotas::numbers(added)?;
    quotas::alter(client, entities, &set, deleted).await?;
    note("Note: Milena stores client quotas and does not enforce them yet.");
    Ok(())
}

/// For people: results are on stdout.
fn note(text: &str) {
    eprintln!("{text}");
}
