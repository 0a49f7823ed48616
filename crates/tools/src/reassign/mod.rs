//! `kafka-reassign-partitions`: proposes, starts, follows and cancels moves of replicas between brokers (KIP-455) and
//! between the log directories of one broker (KIP-113).

mod actions;
mod cluster;
pub(crate) mod moves;
pub(crate) mod placement;
pub(crate) mod plan;
mod states;

use milena_client::Error;

use crate::connect::{self, Properties};
use crate::options::{Flag, HELP, Options, Spec, VERSION, switch, value};
use crate::say::{self, Stop, out};

const SERVERS: Flag = value(
    "bootstrap-server",
    "Server(s) to use for bootstrapping",
    "Brokers to begin with, host:port[,host:port…].",
)
.optional();
const CONTROLLERS: Flag = value(
    "bootstrap-controller",
    "bootstrap controller to connect to",
    "Controllers to begin with; for --cancel and --list.",
)
.optional();
const PLAN: Flag = value(
    "reassignment-json-file",
    "manual assignment json file path",
    "Where the replicas are to be: {\"version\":1,\"partitions\":[{\"topic\":\"foo\",\"partition\":1,\"replicas\":[1,2,3],\"log_dirs\":[\"any\",\"any\",\"/data\"]}]}; log_dirs may be left out.",
);
const TOPICS: Flag = value(
    "topics-to-move-json-file",
    "topics to reassign json file path",
    "What --generate proposes places for: {\"version\":1,\"topics\":[{\"topic\":\"foo\"}]}.",
);
const THROTTLE: Flag = value(
    "throttle",
    "throttle",
    "Bytes a second that the moves of --execute may take between brokers; with --additional it changes that of moves under way.",
)
.or("-1");
const DIR_THROTTLE: Flag = value(
    "replica-alter-log-dirs-throttle",
    "replicaAlterLogDirsThrottle",
    "The same for moves between the directories of one broker.",
)
.or("-1");

pub const SPEC: Spec = Spec {
    about: "Moves replicas of partitions between brokers and log directories.",
    flags: &[
        HELP,
        VERSION,
        switch(
            "verify",
            "Tell how far the moves of --reassignment-json-file are; once all are done, take the throttles away.",
        ),
        switch(
            "generate",
            "Propose a plan for topics on brokers, without carrying it out.",
        ),
        switch("execute", "Start the moves of --reassignment-json-file."),
        switch("cancel", "Cancel moves that are under way."),
        switch("list", "List the moves that are under way."),
        SERVERS,
        value(
            "command-config",
            "Admin client property file",
            "Properties for the client, by Kafka's names.",
        ),
        PLAN,
        TOPICS,
        value(
            "broker-list",
            "brokerlist",
            "Brokers that --generate may use: 0,1,2.",
        ),
        CONTROLLERS,
        switch("disable-rack-aware", "Let --generate ignore racks."),
        THROTTLE,
        DIR_THROTTLE,
        value(
            "timeout",
            "timeout",
            "Milliseconds in which moves between log directories have to begin.",
        )
        .or("10000"),
        switch(
            "additional",
            "Start these moves beside others that are under way.",
        ),
        switch("preserve-throttles", "Leave throttles as they are."),
        switch(
            "disallow-replication-factor-change",
            "Refuse a plan that changes the number of a partition's replicas.",
        ),
    ],
};

/// Each action with what it needs and what it may have beside that and the addresses.
const ACTIONS: [(&str, &[&str], &[&str]); 5] = [
    (
        "generate",
        &["topics-to-move-json-file", "broker-list"],
        &["command-config", "disable-rack-aware"],
    ),
    (
        "execute",
        &["reassignment-json-file"],
        &[
            "additional",
            "command-config",
            "throttle",
            "replica-alter-log-dirs-throttle",
            "timeout",
            "disallow-replication-factor-change",
        ],
    ),
    (
        "verify",
        &["reassignment-json-file"],
        &["command-config", "preserve-throttles"],
    ),
    (
        "cancel",
        &["reassignment-json-file"],
        &["command-config", "preserve-throttles", "timeout"],
    ),
    ("list", &[], &["command-config"]),
];

/// What went wrong, as Kafka's tool tells it apart.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A sentence is enough.
    Terse(String),
    /// With the exception that Kafka's tool would have thrown.
    Command(String),
    Operation(String),
    Cluster(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Cluster(error)
    }
}

pub fn main(args: Vec<String>) -> i32 {
    say::finish(&SPEC, run(&args))
}

/// The action, after Kafka's checks in its order.
fn action(options: &Options) -> Result<&'static str, Stop> {
    say::help_or_version(options)?;
    let mut given = ACTIONS.iter().filter(|(name, ..)| options.has(name));
    let (Some((action, needed, allowed)), None) = (given.next(), given.next()) else {
        return Err(Stop::Usage(
            "Command must include exactly one action: --generate, --execute, --verify, --cancel, --list"
                .into(),
        ));
    };
    let (server, controller) = ("bootstrap-server", "bootstrap-controller");
    match options.count_of(&[server, controller]) {
        1 => {}
        0 => {
            let text = "Please specify either --bootstrap-server or --bootstrap-controller";
            return Err(Stop::Usage(text.into()));
        }
        _ => {
            let text = "Please don't specify both --bootstrap-server and --bootstrap-controller";
            return Err(Stop::Usage(text.into()));
        }
    }
    options.require(needed).map_err(Stop::Usage)?;
    let by_controllers = ["cancel", "list"].contains(action);
    let fits = |name: &str| {
        name == *action
            || name == server
            || (name == controller && by_controllers)
            || needed.contains(&name)
            || allowed.contains(&name)
    };
    match options.order().iter().find(|name| !fits(name)) {
        Some(other) => Err(Stop::Usage(format!(
            "Option \"[{other}]\" can't be used with action \"[{action}]\""
        ))),
        None => Ok(action),
    }
}

/// Which flags go together.
#[cfg(test)]
pub fn check(options: &Options) -> Result<(), Stop> {
    action(options).map(drop)
}

fn run(args: &[String]) -> Result<i32, Stop> {
    let options = SPEC.parse(args)?;
    let action = action(&options)?;
    match act(action, &options) {
        Ok(()) => Ok(0),
        Err(failure) => {
            // Kafka's tool says these on its standard output.
            out(told(failure));
            Err(Stop::Status(1))
        }
    }
}

fn told(failure: Failure) -> String {
    let (text, class) = match failure {
        Failure::Terse(text) => return format!("{text}\n"),
        Failure::Command(text) => (text, "AdminCommandFailedException"),
        Failure::Operation(text) => (text, "AdminOperationException"),
        Failure::Cluster(error) => {
            let text = say::with_exception(&error);
            return format!(
                "Error: {text}\njava.util.concurrent.ExecutionException: {text}\nCaused by: {text}\n\n"
            );
        }
    };
    format!("Error: {text}\norg.apache.kafka.tools.{class}: {text}\n\n")
}

fn properties(options: &Options) -> Result<Properties, Failure> {
    let mut properties = match options.value("command-config").map_err(Failure::Command)? {
        Some(path) => connect::load(path).map_err(Failure::Operation)?,
        None => Properties::new(),
    };
    for flag in ["bootstrap-server", "bootstrap-controller"] {
        if let Some(addresses) = options.value(flag).map_err(Failure::Command)? {
            properties.insert(format!("{}s", flag.replace('-', ".")), addresses.into());
        }
    }
    let id = properties.entry("client.id".into());
    id.or_insert_with(|| "reassign-partitions-tool".into());
    Ok(properties)
}

fn act(action: &str, options: &Options) -> Result<(), Failure> {
    let client = connect::admin(&properties(options)?)?;
    let text = |flag: &str| -> Result<String, Failure> {
        let path = options.value(flag).map_err(Failure::Command)?;
        let path = path.unwrap_or_default();
        std::fs::read_to_string(path).map_err(|e| Failure::Operation(format!("{path}: {e}")))
    };
    let number = |flag: &str| -> Result<i64, Failure> {
        let given = options.number(flag).map_err(Failure::Command)?;
        Ok(given.unwrap_or(-1))
    };
    let mut at = actions::At { client };
    match action {
        "generate" => {
            let topics = text("topics-to-move-json-file")?;
            let brokers = options.value("broker-list").map_err(Failure::Command)?;
            let brokers = brokers.unwrap_or_default();
            let racks = !options.has("disable-rack-aware");
            crate::progress::run(at.generate(&topics, brokers, racks))
        }
        "list" => crate::progress::run(at.list()),
        "execute" => {
            let execution = actions::Execution {
                additional: options.has("additional"),
                throttle: number("throttle")?,
                dir_throttle: number("replica-alter-log-dirs-throttle")?,
                timeout_ms: number("timeout")?,
                allow_factor_change: !options.has("disallow-replication-factor-change"),
            };
            let plan = plan::Plan::parse_to_execute(&text("reassignment-json-file")?)?;
            crate::progress::run(at.execute(&plan, &execution))
        }
        other => {
            let plan = plan::Plan::parse(&text("reassignment-json-file")?)?;
            let preserve = options.has("preserve-throttles");
            match other {
                "verify" => crate::progress::run(at.verify(&plan, preserve)),
                _ => crate::progress::run(at.cancel(&plan, preserve, number("timeout")?)),
            }
        }
    }
}
