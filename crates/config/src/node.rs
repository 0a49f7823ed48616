//! A node's configuration: the properties it was given, every broker key as a typed value, and the parsed
//! forms of what is more than one value (listeners, voters, directories).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use milena_base::BrokerId;

use crate::endpoint::{
    Endpoint, Listener, SecurityProtocol, Voter, check_distinct, parse_endpoint, parse_voters,
    split_address,
};
use crate::key::{Key, Keys, Scope, Support, Update, keys};
use crate::properties::Properties;
use crate::rules;
use crate::value::Value;

/// What a process does in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    Broker,
    Controller,
}

/// One thing wrong with a configuration: which key, what it says, and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub key: String,
    /// As it was given; `None` where nothing was.
    pub value: Option<String>,
    /// A sentence without the key and the value.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{}={}: {}", self.key, value, self.message),
            None => write!(f, "{}: {}", self.key, self.message),
        }
    }
}

/// Why a node does not start with a configuration; every problem that was found, one a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.problems.iter().enumerate() {
            let end = if at == 0 { "" } else { "\n" };
            write!(f, "{end}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// Something that a start goes on without, worth one line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning(pub String);

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A checked configuration of one node. Cheap enough to clone when a dynamic change makes a new one.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// What the file and the command line said, with `node.id` and `broker.id` standing for each other.
    pub(crate) originals: BTreeMap<String, String>,
    /// One value a row of the broker's table, in its order.
    pub(crate) values: Vec<Option<Value>>,
    pub(crate) roles: BTreeSet<Role>,
    pub(crate) protocols: BTreeMap<String, SecurityProtocol>,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) advertised: Option<Vec<Endpoint>>,
    pub(crate) controller_listener_names: Vec<String>,
    pub(crate) inter_broker_listener: String,
    pub(crate) voters: Vec<Voter>,
    pub(crate) bootstrap_servers: Vec<(String, u16)>,
    pub(crate) log_dirs: Vec<PathBuf>,
    pub(crate) metadata_log_dir: PathBuf,
}

pub(crate) fn table() -> &'static Keys {
    keys(Scope::Broker)
}

impl NodeConfig {
    /// Reads and checks what a properties file and overrides say.
    ///
    /// # Errors
    /// Every bad value, every broken rule between keys, and every key that is not built yet and set to other than
    /// its default.
    pub fn from_properties(
        properties: &Properties,
    ) -> Result<(NodeConfig, Vec<Warning>), ConfigError> {
        let originals = with_id_synonyms(properties.as_map());
        let mut problems = Vec::new();
        let values = parse_values(properties.as_map(), &originals, &mut problems);
        check_support(&originals, &values, &mut problems);
        let mut warnings = unknown_keys(&originals);
        if !problems.is_empty() {
            return Err(ConfigError { problems });
        }
        let mut config = NodeConfig::bare(originals, values);
        config.parse_parts().map_err(|problem| ConfigError {
            problems: vec![problem],
        })?;
        rules::check(&config, &mut warnings, &mut problems);
        if problems.is_empty() {
            Ok((config, warnings))
        } else {
            Err(ConfigError { problems })
        }
    }

    /// As [`NodeConfig::from_properties`] for properties with dynamic configs among them: those may be dynamic only,
    /// and support was decided when they were set.
    pub(crate) fn with_dynamic_values(properties: &Properties) -> Result<NodeConfig, ConfigError> {
        let originals = with_id_synonyms(properties.as_map());
        let (mut problems, mut warnings) = (Vec::new(), Vec::new());
        let values = parse_values(properties.as_map(), &originals, &mut problems);
        if !problems.is_empty() {
            return Err(ConfigError { problems });
        }
        let mut config = NodeConfig::bare(originals, values);
        config.parse_parts().map_err(|problem| ConfigError {
            problems: vec![problem],
        })?;
        rules::check(&config, &mut warnings, &mut problems);
        if problems.is_empty() {
            Ok(config)
        } else {
            Err(ConfigError { problems })
        }
    }

    fn bare(originals: BTreeMap<String, String>, values: Vec<Option<Value>>) -> NodeConfig {
        NodeConfig {
            originals,
            values,
            roles: BTreeSet::new(),
            protocols: BTreeMap::new(),
            listeners: Vec::new(),
            advertised: None,
            controller_listener_names: Vec::new(),
            inter_broker_listener: String::new(),
            voters: Vec::new(),
            bootstrap_servers: Vec::new(),
            log_dirs: Vec::new(),
            metadata_log_dir: PathBuf::new(),
        }
    }

    /// Fills in what is parsed out of several values, in the order in which they need each other.
    fn parse_parts(&mut self) -> Result<(), Problem> {
        let role = |name: &String| match name.as_str() {
            "broker" => Role::Broker,
            _ => Role::Controller,
        };
        self.roles = self.list("process.roles").iter().map(role).collect();
        let names = self.list("controller.listener.names");
        self.controller_listener_names = names.iter().map(|name| name.to_uppercase()).collect();
        self.protocols = self.parse_protocols()?;
        self.listeners = self
            .parse_endpoints("listeners", true)?
            .into_iter()
            .map(|endpoint| Listener {
                controller: self.controller_listener_names.contains(&endpoint.listener),
                endpoint,
            })
            .collect();
        if self.value("advertised.listeners").is_some() {
            self.advertised = Some(self.parse_endpoints("advertised.listeners", false)?);
        }
        self.inter_broker_listener = self.parse_inter_broker_listener()?;
        self.voters = parse_voters(self.list("controller.quorum.voters"))
            .map_err(|why| self.problem("controller.quorum.voters", why))?;
        let servers = self.list("controller.quorum.bootstrap.servers");
        self.bootstrap_servers = servers
            .iter()
            .filter_map(|text| split_address(text))
            .collect();
        let dirs_key = if self.value("log.dirs").is_some() {
            "log.dirs"
        } else {
            "log.dir"
        };
        self.log_dirs = self.list(dirs_key).iter().map(PathBuf::from).collect();
        self.metadata_log_dir = match self.text("metadata.log.dir") {
            Some(dir) => PathBuf::from(dir),
            None => self.log_dirs.first().cloned().unwrap_or_default(),
        };
        Ok(())
    }

    /// The protocol of each listener name. Without an explicit map, controller listeners are PLAINTEXT unless
    /// another protocol is in use.
    fn parse_protocols(&self) -> Result<BTreeMap<String, SecurityProtocol>, Problem> {
        const KEY: &str = "listener.security.protocol.map";
        let mut map = BTreeMap::new();
        for entry in crate::java::split_list(self.text(KEY).unwrap_or_default()) {
            let (name, protocol) = entry.split_once(':').ok_or_else(|| {
                self.problem(KEY, "expected NAME:PROTOCOL, separated by commas".into())
            })?;
            let protocol = SecurityProtocol::from_name(protocol.trim()).ok_or_else(|| {
                let all = SecurityProtocol::ALL.map(SecurityProtocol::name).join(", ");
                self.problem(
                    KEY,
                    format!("no security protocol {protocol}; there are {all}"),
                )
            })?;
            if map.insert(name.trim().to_uppercase(), protocol).is_some() {
                return Err(self.problem(KEY, format!("listener {name} is mapped twice")));
            }
        }
        if !self.is_set(KEY) && !self.names_secure_listener() {
            for name in &self.controller_listener_names {
                map.entry(name.clone())
                    .or_insert(SecurityProtocol::Plaintext);
            }
        }
        Ok(map)
    }

    /// Whether a listener is named after a protocol other than PLAINTEXT.
    fn names_secure_listener(&self) -> bool {
        let listeners = self
            .list("listeners")
            .iter()
            .filter_map(|text| text.split(':').next());
        let controllers = self.controller_listener_names.iter().map(String::as_str);
        listeners
            .chain(controllers)
            .filter_map(SecurityProtocol::from_name)
            .any(|protocol| protocol != SecurityProtocol::Plaintext)
    }

    fn parse_endpoints(&self, key: &str, ports: bool) -> Result<Vec<Endpoint>, Problem> {
        let parse = |text: &String| parse_endpoint(text, &self.protocols);
        let endpoints: Result<Vec<Endpoint>, String> = self.list(key).iter().map(parse).collect();
        let endpoints = endpoints.map_err(|why| self.problem(key, why))?;
        check_distinct(&endpoints, ports).map_err(|why| self.problem(key, why))?;
        Ok(endpoints)
    }

    fn parse_inter_broker_listener(&self) -> Result<String, Problem> {
        const NAME: &str = "inter.broker.listener.name";
        let Some(name) = self.text(NAME) else {
            return Ok(self
                .text("security.inter.broker.protocol")
                .unwrap_or("PLAINTEXT")
                .into());
        };
        if self.is_set("security.inter.broker.protocol") {
            let why = "set either this or security.inter.broker.protocol, not both";
            return Err(self.problem(NAME, why.into()));
        }
        let name = name.to_uppercase();
        if !self.protocols.contains_key(&name) {
            let known: Vec<&str> = self.protocols.keys().map(String::as_str).collect();
            let known = known.join(", ");
            let why = format!("not in listener.security.protocol.map, which has {known}");
            return Err(self.problem(NAME, why));
        }
        Ok(name)
    }

    /// A problem with a key, with the value that it has.
    pub(crate) fn problem(&self, key: &str, message: String) -> Problem {
        let value = match self.originals.get(key) {
            Some(_) if table().get(key).is_some_and(Key::is_sensitive) => Some("[hidden]".into()),
            Some(text) => Some(text.clone()),
            None => self.value(key).map(Value::to_text),
        };
        Problem {
            key: key.into(),
            value,
            message,
        }
    }

    /// Whether the properties set this key, be it to its default.
    pub fn is_set(&self, key: &str) -> bool {
        self.originals.contains_key(key)
    }

    /// What the properties said, before anything dynamic; `node.id` and `broker.id` stand for each other.
    pub fn originals(&self) -> &BTreeMap<String, String> {
        &self.originals
    }

    /// What this process does.
    pub fn roles(&self) -> &BTreeSet<Role> {
        &self.roles
    }

    pub fn is_broker(&self) -> bool {
        self.roles.contains(&Role::Broker)
    }

    pub fn is_controller(&self) -> bool {
        self.roles.contains(&Role::Controller)
    }

    /// `node.id`.
    pub fn node_id(&self) -> BrokerId {
        BrokerId(self.int("node.id"))
    }

    /// What to bind.
    pub fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// Upper-case names of controller listeners; the first is the one that brokers and voters use.
    pub fn controller_listener_names(&self) -> &[String] {
        &self.controller_listener_names
    }

    /// Upper-case name of the listener between brokers.
    pub fn inter_broker_listener(&self) -> &str {
        &self.inter_broker_listener
    }

    /// The protocol of each listener name.
    pub fn security_protocols(&self) -> &BTreeMap<String, SecurityProtocol> {
        &self.protocols
    }

    /// What brokers' clients are told. A host may be empty: then the edge fills in the machine's name. A port may be
    /// 0: then the edge fills in what was bound.
    pub fn advertised_broker_listeners(&self) -> Vec<Endpoint> {
        let all: Vec<Endpoint> = match &self.advertised {
            Some(advertised) => advertised.clone(),
            None => self
                .listeners
                .iter()
                .map(|listener| listener.endpoint.clone())
                .collect(),
        };
        let is_controller = |e: &Endpoint| self.controller_listener_names.contains(&e.listener);
        all.into_iter()
            .filter(|endpoint| !is_controller(endpoint))
            .collect()
    }

    /// What other nodes are told of this controller, in the order of `controller.listener.names`. The first one takes the
    /// address in `controller.quorum.voters` where it has none of its own.
    pub fn advertised_controller_listeners(&self) -> Vec<Endpoint> {
        let mut found = Vec::new();
        for (at, name) in self.controller_listener_names.iter().enumerate() {
            let advertised = self
                .advertised
                .iter()
                .flatten()
                .find(|e| e.listener == *name);
            if let Some(endpoint) = advertised {
                found.push(endpoint.clone());
                continue;
            }
            let bound = self.listeners.iter().find(|l| l.endpoint.listener == *name);
            let Some(mut endpoint) = bound.map(|listener| listener.endpoint.clone()) else {
                continue;
            };
            let own = self.voters.iter().find(|voter| voter.id == self.node_id());
            let unroutable = endpoint.host.is_empty() || endpoint.host == "0.0.0.0";
            match own.filter(|_| at == 0 && unroutable) {
                Some(voter) => endpoint.host = voter.host.clone(),
                None if at == 0 && unroutable => endpoint.host = String::new(),
                None => {}
            }
            found.push(endpoint);
        }
        found
    }

    /// `controller.quorum.voters`: static voters, empty when the quorum is dynamic.
    pub fn voters(&self) -> &[Voter] {
        &self.voters
    }

    /// `controller.quorum.bootstrap.servers`.
    pub fn bootstrap_servers(&self) -> &[(String, u16)] {
        &self.bootstrap_servers
    }

    /// `log.dirs`, or `log.dir`.
    pub fn log_dirs(&self) -> &[PathBuf] {
        &self.log_dirs
    }

    /// Where the metadata log is: `metadata.log.dir`, or the first of the log directories.
    pub fn metadata_log_dir(&self) -> &Path {
        &self.metadata_log_dir
    }
}

/// `node.id` and `broker.id` stand for each other when only one is set.
fn with_id_synonyms(given: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut all = given.clone();
    match (given.get("broker.id"), given.get("node.id")) {
        (None, Some(id)) => all.insert("broker.id".into(), id.clone()),
        (Some(id), None) => all.insert("node.id".into(), id.clone()),
        _ => None,
    };
    all
}

/// Types every broker key; what does not parse is a problem and stays at its default.
fn parse_values(
    given: &BTreeMap<String, String>,
    originals: &BTreeMap<String, String>,
    problems: &mut Vec<Problem>,
) -> Vec<Option<Value>> {
    let mut values = Vec::with_capacity(table().iter().len());
    for key in table().iter() {
        let value = match originals.get(key.name) {
            Some(text) => match key.parse(text) {
                Ok(value) => Some(value),
                Err(_) => {
                    if given.contains_key(key.name) {
                        problems.push(bad_value(key, text));
                    }
                    key.default.clone()
                }
            },
            None if key.required => {
                let message = format!("is required: {}", key.expectation());
                problems.push(Problem {
                    key: key.name.into(),
                    value: None,
                    message,
                });
                None
            }
            None => key.default.clone(),
        };
        values.push(value);
    }
    values
}

fn bad_value(key: &Key, text: &str) -> Problem {
    let value = if key.is_sensitive() { "[hidden]" } else { text };
    let message = format!("expected {}", key.expectation());
    Problem {
        key: key.name.into(),
        value: Some(value.into()),
        message,
    }
}

/// Refuses keys that are not built and set to other than their default.
fn check_support(
    originals: &BTreeMap<String, String>,
    values: &[Option<Value>],
    problems: &mut Vec<Problem>,
) {
    for (at, key) in table().iter().enumerate() {
        let Some(text) = originals.get(key.name) else {
            continue;
        };
        let value = if key.is_sensitive() {
            "[hidden]".into()
        } else {
            text.clone()
        };
        if key.support == Support::NotYet && !is_default(key, values[at].as_ref()) {
            let message = match key.default_text() {
                Some(default) => {
                    format!("not built yet: only the default, {default:?}, is possible")
                }
                None => "not built yet: leave it out".into(),
            };
            problems.push(Problem {
                key: key.name.into(),
                value: Some(value),
                message,
            });
        } else if key.update == Update::DynamicOnly {
            let message = "only a dynamic config, not one of a properties file".into();
            problems.push(Problem {
                key: key.name.into(),
                value: Some(value),
                message,
            });
        }
    }
}

/// Whether a value says the same as leaving the key out; empty text and an empty list count as leaving it out where
/// the default is null.
fn is_default(key: &Key, value: Option<&Value>) -> bool {
    match (value, &key.default) {
        (Some(Value::String(text) | Value::Class(text)), None) => text.is_empty(),
        (Some(Value::List(items)), None) => items.is_empty(),
        (value, default) => value == default.as_ref(),
    }
}

/// Keys that no one reads, but for the prefixes that belong to plugins and single listeners.
fn unknown_keys(originals: &BTreeMap<String, String>) -> Vec<Warning> {
    originals
        .keys()
        .filter(|name| table().get(name).is_none())
        .map(|name| {
            Warning(format!(
                "{name} is not a known configuration key and is ignored"
            ))
        })
        .collect()
}
