//! Flags of `kafka-configs`, which of them go together, and what they name.

use crate::options::{COMMAND_CONFIG, HELP, Options, Spec, VERSION, switch, value};
use crate::say::{self, Stop};

/// Kinds of entities, in the order in which Kafka lists them.
pub const TYPES: [&str; 8] = [
    "topics",
    "clients",
    "users",
    "brokers",
    "ips",
    "client-metrics",
    "groups",
    "broker-loggers",
];

/// Flags that name an entity of one kind, in the order in which Kafka looks for them.
const NAMED: [(&str, &str); 8] = [
    ("topic", "topics"),
    ("client", "clients"),
    ("user", "users"),
    ("broker", "brokers"),
    ("broker-logger", "broker-loggers"),
    ("ip", "ips"),
    ("client-metrics", "client-metrics"),
    ("group", "groups"),
];

const DEFAULTS: [(&str, &str); 4] = [
    ("client-defaults", "clients"),
    ("user-defaults", "users"),
    ("broker-defaults", "brokers"),
    ("ip-defaults", "ips"),
];

pub const SPEC: Spec = Spec {
    about: "Shows and changes the configs of topics, brokers, loggers, groups, client metrics, and the quotas and credentials of users, clients and addresses.",
    flags: &[
        HELP,
        VERSION,
        value(
            "bootstrap-server",
            "server to connect to",
            "Brokers to begin with, host:port[,host:port…].",
        ),
        value(
            "bootstrap-controller",
            "controller to connect to",
            "Controllers to begin with, instead of brokers.",
        ),
        COMMAND_CONFIG,
        switch("alter", "Change configs."),
        switch("describe", "Show configs: those that were set dynamically."),
        switch(
            "all",
            "With --describe: all configs, those from files and the defaults too.",
        ),
        value(
            "entity-type",
            "String",
            "What to configure: topics, clients, users, brokers, broker-loggers, ips, client-metrics or groups; may be repeated for a user's client.",
        ),
        value(
            "entity-name",
            "String",
            "Its name: of a topic, client, user, broker, address, client metrics resource or group.",
        ),
        switch(
            "entity-default",
            "The defaults of clients, users, brokers or ips.",
        ),
        value(
            "add-config",
            "String",
            "Configs to set, k1=v1,k2=[v1,v2],k3=v3: brackets keep a value with commas together.",
        ),
        value(
            "add-config-file",
            "String",
            "A properties file with configs to set.",
        ),
        value(
            "delete-config",
            "String",
            "Keys to take away, k1,k2; may be repeated.",
        ),
        value("topic", "String", "A topic."),
        value("client", "String", "A client id."),
        switch("client-defaults", "The defaults of all clients."),
        value("user", "String", "A user's principal name."),
        switch("user-defaults", "The defaults of all users."),
        value("broker", "String", "A broker's id."),
        switch("broker-defaults", "The defaults of all brokers."),
        value(
            "broker-logger",
            "String",
            "The id of the broker whose loggers are meant.",
        ),
        switch("ip-defaults", "The defaults of all addresses."),
        value("ip", "String", "An address."),
        value("group", "String", "A group."),
        value("client-metrics", "String", "A client metrics resource."),
    ],
};

/// What is named: kinds, and names for them; the empty name is a kind's default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entities {
    pub types: Vec<String>,
    pub names: Vec<String>,
}

impl Entities {
    pub fn of(options: &Options) -> Result<Entities, String> {
        let owned = |texts: Vec<&str>| texts.into_iter().map(str::to_owned).collect::<Vec<_>>();
        let mut types = owned(options.values("entity-type"));
        let given = NAMED
            .iter()
            .chain(&DEFAULTS)
            .filter(|(flag, _)| options.has(flag));
        types.extend(given.map(|(_, kind)| kind.to_string()));
        let mut by_name = options.values("entity-name").into_iter();
        let mut names = Vec::new();
        for flag in options.order() {
            match *flag {
                "entity-name" => names.push(by_name.next().unwrap_or_default().to_owned()),
                "entity-default" => names.push(String::new()),
                _ => {}
            }
        }
        for (flag, _) in NAMED.iter().filter(|(flag, _)| options.has(flag)) {
            names.push(options.value(flag)?.unwrap_or_default().to_owned());
        }
        let defaults = DEFAULTS.iter().filter(|(flag, _)| options.has(flag));
        names.extend(defaults.map(|_| String::new()));
        Ok(Entities { types, names })
    }

    fn has(&self, kinds: &[&str]) -> bool {
        self.types.iter().any(|kind| kinds.contains(&kind.as_str()))
    }

    fn listed(&self) -> String {
        self.types.join(",")
    }
}

/// Kafka's checks, in its order.
pub fn check(options: &Options) -> Result<(), Stop> {
    if options.is_empty() {
        return Err(Stop::Usage(SPEC.about.to_string()));
    }
    say::help_or_version(options)?;
    if options.count_of(&["alter", "describe"]) != 1 {
        let text = "Command must include exactly one action: --describe, --alter";
        return Err(Stop::Usage(text.into()));
    }
    options
        .exclude("describe", &["add-config", "delete-config"])
        .map_err(Stop::Usage)?;
    let entities = Entities::of(options)?;
    check_types(options, &entities)?;
    check_names(options, &entities)?;
    if options.has("describe") {
        check_describe(options, &entities)?;
    }
    if options.has("alter") {
        check_alter(options, &entities)?;
    }
    Ok(())
}

fn check_types(options: &Options, entities: &Entities) -> Result<(), String> {
    let types = &entities.types;
    let again = types
        .iter()
        .enumerate()
        .filter(|(at, kind)| types[..*at].contains(kind));
    let again: Vec<&str> = again.map(|(_, kind)| kind.as_str()).collect();
    if !again.is_empty() {
        return Err(format!(
            "Duplicate entity type(s) specified: {}",
            again.join(",")
        ));
    }
    if options.count_of(&["bootstrap-server", "bootstrap-controller"]) == 0 {
        let text = "Either --bootstrap-server or --bootstrap-controller must be specified.";
        return Err(text.into());
    }
    if let Some(unknown) = types.iter().find(|kind| !TYPES.contains(&kind.as_str())) {
        return Err(format!(
            "Invalid entity type {unknown}, the entity type must be one of {} with a --bootstrap-server or --bootstrap-controller argument",
            TYPES.join(", ")
        ));
    }
    if types.is_empty() {
        return Err("At least one entity type must be specified".into());
    }
    let pair = types.len() == 2 && entities.has(&["users"]) && entities.has(&["clients"]);
    if types.len() > 1 && !pair {
        let text = "Only 'users' and 'clients' entity types may be specified together";
        return Err(text.into());
    }
    Ok(())
}

fn check_names(options: &Options, entities: &Entities) -> Result<(), String> {
    let general = options.count_of(&["entity-name", "entity-type", "entity-default"]) > 0;
    let special = NAMED
        .iter()
        .chain(&DEFAULTS)
        .any(|(flag, _)| options.has(flag));
    if general && special {
        let text = "--entity-{type,name,default} should not be used in conjunction with specific entity flags";
        return Err(text.into());
    }
    if options.count_of(&["bootstrap-server", "bootstrap-controller"]) == 2 {
        let text = "Only one of --bootstrap-server or --bootstrap-controller can be specified";
        return Err(text.into());
    }
    let listed = entities.listed();
    for name in entities.names.iter().filter(|name| !name.is_empty()) {
        if entities.has(&["brokers", "broker-loggers"]) && name.parse::<i32>().is_err() {
            return Err(format!(
                "The entity name for {listed} must be a valid integer broker id, but it is: {name}"
            ));
        }
        if entities.has(&["ips"]) && !is_host(name) {
            return Err(format!(
                "The entity name for {listed} must be a valid IP or resolvable host, but it is: {name}"
            ));
        }
    }
    Ok(())
}

/// As Java's `InetAddress.getByName`: an address, or a name that the resolver knows.
fn is_host(name: &str) -> bool {
    use std::net::{IpAddr, ToSocketAddrs};
    name.parse::<IpAddr>().is_ok() || (name, 0).to_socket_addrs().is_ok()
}

fn check_describe(options: &Options, entities: &Entities) -> Result<(), String> {
    let listed = entities.listed();
    let with_defaults = entities.has(&["users", "clients", "brokers", "ips"]);
    if !with_defaults && options.has("entity-default") {
        return Err(format!(
            "--entity-default must not be specified with --describe of {listed}"
        ));
    }
    let named = entities.names.iter().any(|name| !name.is_empty());
    if entities.has(&["broker-loggers"]) && !named {
        return Err(format!(
            "An entity name must be specified with --describe of {listed}"
        ));
    }
    Ok(())
}

fn check_alter(options: &Options, entities: &Entities) -> Result<(), String> {
    let named = entities.names.iter().any(|name| !name.is_empty());
    if entities.has(&["users", "clients", "brokers", "ips"]) {
        if entities.names.is_empty() {
            let text = "An entity-name or default entity must be specified with --alter of users, clients, brokers or ips";
            return Err(text.into());
        }
    } else if !named {
        let listed = entities.listed();
        return Err(format!(
            "An entity name must be specified with --alter of {listed}"
        ));
    }
    if options.count_of(&["add-config", "add-config-file"]) == 2 {
        return Err("Only one of --add-config or --add-config-file must be specified".into());
    }
    if options.count_of(&["add-config", "add-config-file", "delete-config"]) == 0 {
        let text = "At least one of --add-config, --add-config-file, or --delete-config must be specified with --alter";
        return Err(text.into());
    }
    Ok(())
}
