//! What `--describe` prints.

use std::fmt::Write as _;

use milena_base::ScramMechanism;
use milena_client::{Client, Error};
use milena_image::ConfigResource;
use milena_protocol::Str;
use milena_protocol::describe_client_quotas_response::EntryData;
use milena_protocol::describe_configs_response::DescribeConfigsResourceResult;

use super::flags::Entities;
use super::{Failure, quotas, resources};
use crate::exceptions::exception;
use crate::options::Options;
use crate::say::out;

const SOURCES: [&str; 9] = [
    "UNKNOWN",
    "DYNAMIC_TOPIC_CONFIG",
    "DYNAMIC_BROKER_CONFIG",
    "DYNAMIC_DEFAULT_BROKER_CONFIG",
    "STATIC_BROKER_CONFIG",
    "DEFAULT_CONFIG",
    "DYNAMIC_BROKER_LOGGER_CONFIG",
    "DYNAMIC_CLIENT_METRICS_CONFIG",
    "DYNAMIC_GROUP_CONFIG",
];

pub async fn run(
    client: &mut Client,
    options: &Options,
    entities: &Entities,
) -> Result<(), Failure> {
    let kind = &entities.types[0];
    match resources::kind_of(kind) {
        Some(number) => {
            let name = entities.names.first().map(String::as_str);
            describe_resources(client, kind, number, name, options.has("all")).await
        }
        None => describe_quotas(client, entities).await,
    }
}

/// `topics` without its last letter.
pub fn singular(kind: &str) -> &str {
    &kind[..kind.len() - 1]
}

async fn describe_resources(
    client: &mut Client,
    kind: &str,
    number: i8,
    name: Option<&str>,
    all: bool,
) -> Result<(), Failure> {
    let names = match name {
        None => {
            let mut names = resources::names(client, number).await?;
            if number == ConfigResource::BROKER {
                names.push(String::new());
            }
            names
        }
        Some(name) => {
            if !all && !name.is_empty() && !exists(client, number, name).await? {
                let kind = singular(kind);
                out(format_args!(
                    "The {kind} '{name}' doesn't exist and doesn't have dynamic config.\n"
                ));
                return Ok(());
            }
            vec![name.to_owned()]
        }
    };
    for name in names {
        let configs = resources::describe(client, number, &name).await?;
        out(table(kind, number, &name, &configs, all));
    }
    Ok(())
}

async fn exists(client: &mut Client, number: i8, name: &str) -> Result<bool, Error> {
    let names = resources::names(client, number).await?;
    Ok(names.iter().any(|known| known == name))
}

/// The lines of one resource: without `all` those that were set for it.
pub fn table(
    kind: &str,
    number: i8,
    name: &str,
    configs: &[DescribeConfigsResourceResult],
    all: bool,
) -> String {
    let mut text = match (name.is_empty(), all) {
        (true, _) => format!("Default configs for {kind} in the cluster are:\n"),
        (false, true) => format!("All configs for {} {name} are:\n", singular(kind)),
        (false, false) => format!("Dynamic configs for {} {name} are:\n", singular(kind)),
    };
    let own = match number {
        ConfigResource::TOPIC => Some(1),
        ConfigResource::BROKER if name.is_empty() => Some(3),
        ConfigResource::BROKER => Some(2),
        ConfigResource::CLIENT_METRICS => Some(7),
        ConfigResource::GROUP => Some(8),
        _ => None,
    };
    let shown = |config: &&DescribeConfigsResourceResult| {
        all || own.is_none_or(|own| config.config_source == own)
    };
    let value = |value: &Option<Str>| value.as_deref().unwrap_or("null").to_owned();
    for config in configs.iter().filter(shown) {
        let synonyms = config.synonyms.iter().map(|synonym| {
            let source = SOURCES.get(synonym.source as usize).unwrap_or(&SOURCES[0]);
            format!("{source}:{}={}", synonym.name, value(&synonym.value))
        });
        let synonyms: Vec<String> = synonyms.collect();
        let _ = writeln!(
            text,
            "  {}={} sensitive={} synonyms={{{}}}",
            config.name,
            value(&config.value),
            config.is_sensitive,
            synonyms.join(", ")
        );
    }
    text
}

async fn describe_quotas(client: &mut Client, entities: &Entities) -> Result<(), Failure> {
    for entry in quotas::describe(client, entities).await? {
        out(quota_line(&entry));
    }
    let of_clients = entities.types.iter().any(|kind| kind == "clients");
    let of_ips = entities.types.iter().any(|kind| kind == "ips");
    let of_default = entities.names.iter().any(String::is_empty);
    if of_clients || of_ips || of_default {
        return Ok(());
    }
    for (user, told) in quotas::credentials(client, &entities.names).await? {
        match told {
            Ok(infos) => out(credential_line(&user, &infos)),
            Err(error) => {
                let class = error.code().map(exception).unwrap_or_default();
                let class = class.rsplit('.').next().unwrap_or_default();
                out(format_args!(
                    "Error retrieving SCRAM credential configs for user-principal '{user}': {class}: {error}\n"
                ));
            }
        }
    }
    Ok(())
}

pub fn quota_line(entry: &EntryData) -> String {
    let part = |(kind, called): (&str, &str)| {
        let part = entry
            .entity
            .iter()
            .find(|part| *part.entity_type == *kind)?;
        Some(match &part.entity_name {
            Some(name) => format!("{called} '{name}'"),
            None => format!("the default {called}"),
        })
    };
    let kinds = [
        ("user", "user-principal"),
        ("client-id", "client-id"),
        ("ip", "ip"),
    ];
    let entity: Vec<String> = kinds.into_iter().filter_map(part).collect();
    let values = entry.values.iter();
    let values = values.map(|v| format!("{}={}", v.key, milena_config::java_double(v.value)));
    let values: Vec<String> = values.collect();
    format!(
        "Quota configs for {} are {}\n",
        entity.join(", "),
        values.join(", ")
    )
}

pub fn credential_line(user: &str, infos: &[(i8, i32)]) -> String {
    let info = |(mechanism, iterations): &(i8, i32)| {
        let name = ScramMechanism::from_id(*mechanism).map_or("null", ScramMechanism::name);
        format!("{name}=iterations={iterations}")
    };
    let infos: Vec<String> = infos.iter().map(info).collect();
    format!(
        "SCRAM credential configs for user-principal '{user}' are {}\n",
        infos.join(", ")
    )
}
