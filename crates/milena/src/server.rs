//! `kafka-server-start`: a server from a properties file, or one with defaults.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use milena_base::{Prng, Uuid};
use milena_broker::Loggers;
use milena_broker::format::{FormatRequest, InitialControllers, format};
use milena_config::{NodeConfig, Properties};
use milena_disk::{Disk, OsDisk};
use milena_node::{Clock, Ready};
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

/// Where a broker without a properties file keeps its data, under the current directory.
pub const DEFAULT_DATA_DIR: &str = "milena-data";
/// What such a broker is configured with, its data directory apart.
const DEFAULTS: &str = "\
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093
advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers=localhost:9093
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
";
const USAGE: &str =
    "USAGE: kafka-server-start [-daemon] [server.properties] [--override key=value]*";

/// Starts a server and stays until it is told to stop.
pub fn start(args: Vec<OsString>) -> ExitCode {
    let wanted = match parse(args) {
        Ok(Some(wanted)) => wanted,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            eprintln!("{why}\n{USAGE}");
            return ExitCode::FAILURE;
        }
    };
    let loggers = log_to_stderr();
    match run(wanted, loggers) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            tracing::error!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn log_to_stderr() -> Loggers {
    let filter = std::env::var("MILENA_LOG").unwrap_or_else(|_| "info".into());
    let log = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .with_env_filter(EnvFilter::new(&filter))
        .with_filter_reloading();
    let handle = log.reload_handle();
    log.init();
    let apply = move |directives: &str| {
        if let Err(error) = handle.reload(EnvFilter::new(directives)) {
            warn!("log levels stay as they are: {error}");
        }
    };
    Loggers::new(filter, Box::new(apply))
}

struct Wanted {
    file: Option<PathBuf>,
    overrides: Vec<String>,
}

fn parse(args: Vec<OsString>) -> Result<Option<Wanted>, String> {
    let mut wanted = Wanted {
        file: None,
        overrides: Vec::new(),
    };
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let text = arg.to_string_lossy().into_owned();
        match text.as_str() {
            "--help" | "-h" => return Ok(None),
            "--override" => {
                let value = args.next().ok_or("--override wants key=value")?;
                wanted.overrides.push(value.to_string_lossy().into_owned());
            }
            flag if flag.starts_with("--override=") => {
                wanted
                    .overrides
                    .push(flag["--override=".len()..].to_owned());
            }
            flag if flag.starts_with('-') => return Err(format!("unknown option {flag}")),
            _ if wanted.file.is_some() => return Err(format!("unexpected argument {text}")),
            _ => wanted.file = Some(PathBuf::from(arg)),
        }
    }
    Ok(Some(wanted))
}

fn run(wanted: Wanted, loggers: Loggers) -> Result<(), String> {
    let mut properties = match &wanted.file {
        Some(path) => read(path)?,
        None => defaults()?,
    };
    for text in &wanted.overrides {
        properties
            .set_override(text)
            .map_err(|error| error.to_string())?;
    }
    let (config, warnings) =
        NodeConfig::from_properties(&properties).map_err(|error| error.to_string())?;
    for warning in warnings {
        warn!("{}", warning.0);
    }
    if wanted.file.is_none() {
        format_if_new(&config)?;
    }
    let data = config.log_dirs()[0].display().to_string();
    let ready = move |ready: &Ready| say_ready(ready, &data);
    milena_node::run(config, ready, None, loggers).map_err(|error| error.to_string())
}

fn read(path: &Path) -> Result<Properties, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Properties::parse(&bytes).map_err(|error| format!("{}: {error}", path.display()))
}

fn defaults() -> Result<Properties, String> {
    let mut properties =
        Properties::parse(DEFAULTS.as_bytes()).map_err(|error| error.to_string())?;
    let here = std::env::current_dir().map_err(|error| error.to_string())?;
    let data = here.join(DEFAULT_DATA_DIR);
    properties.set("log.dirs", data.display().to_string());
    Ok(properties)
}

/// Formats the default data directory on its first use: a cluster of this node alone.
fn format_if_new(config: &NodeConfig) -> Result<(), String> {
    let dir = &config.log_dirs()[0];
    if dir.join("meta.properties").exists() {
        return Ok(());
    }
    let seed = milena_node::seed().map_err(|error| format!("no randomness: {error}"))?;
    let mut prng = Prng::new(seed);
    let mut request = FormatRequest::new(config, Uuid::random(&mut prng).to_string());
    request.initial_controllers = InitialControllers::Standalone;
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    let now = Clock::start().now().wall;
    format(&disk, &request, &mut prng, now).map_err(|error| error.to_string())?;
    info!(dir = %dir.display(), cluster = %request.cluster_id, "formatted a new data directory");
    Ok(())
}

fn say_ready(ready: &Ready, data: &str) {
    let (host, port) = &ready.addresses[0];
    let millis = ready.after.as_millis();
    println!(
        "Milena serves on {host}:{port} after {millis} ms, data in {data}. Try: \
         bin/kafka-topics.sh --create --topic test --bootstrap-server {host}:{port}"
    );
}
