//! A controller that is to be a voter, as its properties file describes it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use milena_base::Uuid;
use milena_client::Address;
use milena_log::meta_properties;
use milena_protocol::Str;
use milena_protocol::add_raft_voter_request::Listener;

use crate::connect::Properties;
use crate::storage;

#[derive(Clone, Debug)]
pub struct NewController {
    pub id: i32,
    pub directory_id: Uuid,
    pub listeners: Vec<Listener>,
}

impl NewController {
    /// From the controller's properties and the `meta.properties` of its metadata directory.
    pub fn of(properties: &Properties) -> Result<NewController, String> {
        Ok(NewController {
            id: node_id(properties)?,
            directory_id: directory_id(properties)?,
            listeners: listeners(properties)?,
        })
    }
}

impl fmt::Display for NewController {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoints = self.listeners.iter().map(|listener| {
            let address = Address::new(listener.host.as_str(), listener.port);
            format!("{}://{address}", listener.name)
        });
        let endpoints: Vec<String> = endpoints.collect();
        write!(
            f,
            "controller {} with directory id {} and endpoints: {}",
            self.id,
            self.directory_id,
            endpoints.join(", ")
        )
    }
}

const VALID: &str = "Is this a valid controller configuration file?";

fn node_id(properties: &Properties) -> Result<i32, String> {
    let Some(text) = properties.get("node.id") else {
        return Err(format!("node.id not found in configuration file. {VALID}"));
    };
    let wrong = |_| format!("For input string: \"{text}\" (node.id is a number)");
    let id: i32 = text.trim().parse().map_err(wrong)?;
    if id < 0 {
        return Err(format!(
            "node.id was negative in configuration file. {VALID}"
        ));
    }
    match properties.get("process.roles") {
        Some(roles) if roles.contains("controller") => Ok(id),
        _ => Err(format!(
            "process.roles did not contain 'controller' in configuration file. {VALID}"
        )),
    }
}

fn directory_id(properties: &Properties) -> Result<Uuid, String> {
    let first = |list: &String| list.trim().split(',').next().unwrap_or_default().to_owned();
    let directory = properties
        .get("metadata.log.dir")
        .cloned()
        .or_else(|| properties.get("log.dirs").map(first))
        .ok_or_else(|| format!("Neither metadata.log.dir nor log.dirs were found. {VALID}"))?;
    let meta = storage::read(&Path::new(&directory).join(meta_properties::FILE))?;
    let meta = meta.ok_or_else(|| format!("Unable to read meta.properties from {directory}"))?;
    meta.directory_id
        .ok_or_else(|| format!("No directory id found in {directory}"))
}

/// The controller listeners, at their advertised addresses.
fn listeners(properties: &Properties) -> Result<Vec<Listener>, String> {
    let mut known = BTreeMap::new();
    for key in ["listeners", "advertised.listeners"] {
        let list = properties.get(key).map(String::as_str).unwrap_or_default();
        for part in list
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            let wrong = || format!("Unable to parse {part} to a broker endpoint");
            let (name, address) = part.split_once("://").ok_or_else(wrong)?;
            let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
            let port: u16 = port.parse().map_err(|_| wrong())?;
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let host = if host.is_empty() { "localhost" } else { host };
            known.insert(name.to_uppercase(), (host.to_owned(), port));
        }
    }
    let Some(names) = properties.get("controller.listener.names") else {
        return Err(format!("controller.listener.names was not found. {VALID}"));
    };
    let listener = |name: &str| {
        let name = name.trim().to_uppercase();
        let found = known.get(&name);
        let (host, port) = found.ok_or_else(|| {
            format!("Cannot find information about controller listener name: {name}")
        })?;
        Ok(Listener {
            name: Str::copy(&name),
            host: Str::copy(host),
            port: *port,
        })
    };
    names.split(',').map(listener).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_controller_is_known_by_its_file() {
        let mut properties = Properties::new();
        let mut set = |key: &str, value: &str| {
            let before = NewController::of(&properties).unwrap_err();
            properties.insert(key.into(), value.into());
            before
        };
        assert!(set("node.id", "-1").starts_with("node.id not found in"));
        assert!(set("node.id", "7").starts_with("node.id was negative"));
        assert!(set("process.roles", "broker,controller").starts_with("process.roles did not"));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().display().to_string();
        assert!(set("log.dirs", &path).starts_with("Neither metadata.log.dir nor log.dirs"));
        let missing = set("listeners", "PLAINTEXT://:1,CONTROLLER://:2");
        assert_eq!(
            missing,
            format!("Unable to read meta.properties from {path}")
        );
        let meta = "version=1\nnode.id=7\ncluster.id=x\ndirectory.id=AAAAAAAAAAAAAAAAAAAACQ\n";
        std::fs::write(dir.path().join("meta.properties"), meta).unwrap();
        assert!(set("controller.listener.names", "ssl").starts_with("controller.listener.names"));
        let unknown = set("controller.listener.names", "Controller");
        assert_eq!(
            unknown,
            "Cannot find information about controller listener name: SSL"
        );
        properties.insert("advertised.listeners".into(), "CONTROLLER://[::1]:3".into());
        assert_eq!(
            NewController::of(&properties).unwrap().to_string(),
            "controller 7 with directory id AAAAAAAAAAAAAAAAAAAACQ and endpoints: CONTROLLER://[::1]:3"
        );
    }
}
