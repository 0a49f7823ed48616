//! Log levels that clients see and set: DescribeConfigs and IncrementalAlterConfigs of a BROKER_LOGGER. They last as
//! long as the process, as in Kafka.
//!
//! A logger is a crate that logs, or `root` for whatever has no level of its own. The edge owns the filter.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;

use milena_base::ErrorCode;
use milena_config::alter::Op;
use milena_protocol::incremental_alter_configs_request::AlterConfigsResource;

use crate::altering::Refusal;

pub const ROOT: &str = "root";

/// The crates that say something in the log.
const CRATES: [&str; 6] = [
    "milena",
    "milena_broker",
    "milena_coordinator",
    "milena_group",
    "milena_node",
    "milena_txn",
];

/// Kafka's levels, in the order of the alphabet.
const LEVELS: [&str; 6] = ["DEBUG", "ERROR", "FATAL", "INFO", "TRACE", "WARN"];

/// Takes the levels into effect: directives as `MILENA_LOG` takes them, parted by commas.
pub type Apply = Box<dyn Fn(&str) + Send + Sync>;

/// The levels of the process.
pub struct Loggers {
    /// What the process was started with.
    begun: String,
    levels: Mutex<BTreeMap<String, String>>,
    apply: Apply,
}

impl fmt::Debug for Loggers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loggers")
            .field("begun", &self.begun)
            .finish_non_exhaustive()
    }
}

impl Loggers {
    /// `begun` are the directives that are in effect now.
    pub fn new(begun: String, apply: Apply) -> Loggers {
        Loggers {
            begun,
            levels: Mutex::default(),
            apply,
        }
    }

    /// Every logger with the level that it has.
    pub(crate) fn all(&self) -> BTreeMap<String, String> {
        let set = self
            .levels
            .lock()
            .expect("nothing panics with the lock")
            .clone();
        let begun: BTreeMap<&str, &str> = self.begun.split(',').map(directive).collect();
        let level = |name: &str| {
            let begun = begun.get(name).map(|level| level.to_uppercase());
            set.get(name).cloned().or(begun)
        };
        let root = level(ROOT).unwrap_or_else(|| "ERROR".into());
        let others = begun.keys().filter(|name| name.starts_with("milena"));
        let names = CRATES.iter().chain(others).map(|name| name.to_string());
        let mut all: BTreeMap<String, String> = names
            .map(|name| (name.clone(), level(&name).unwrap_or_else(|| root.clone())))
            .collect();
        all.insert(ROOT.into(), root);
        all
    }

    /// Checks all changes, then makes them; `dry` makes none.
    pub(crate) fn alter(&self, resource: &AlterConfigsResource, dry: bool) -> Result<(), Refusal> {
        let known = self.all();
        let mut changes = Vec::new();
        for config in &resource.configs {
            let (name, level) = (config.name.to_string(), config.value.as_deref());
            changes.push((check(&known, &name, config.config_operation, level)?, name));
        }
        if dry {
            return Ok(());
        }
        let mut levels = self.levels.lock().expect("nothing panics with the lock");
        for (level, name) in changes {
            match level {
                Some(level) => {
                    tracing::warn!("the log level of {name} is {level} from now on");
                    levels.insert(name, level);
                }
                None => {
                    tracing::warn!("the log level of {name} is what it was at the start");
                    levels.remove(&name);
                }
            }
        }
        (self.apply)(&directives(&self.begun, &levels));
        Ok(())
    }
}

/// `target=level` or a level alone.
fn directive(text: &str) -> (&str, &str) {
    text.trim().split_once('=').unwrap_or((ROOT, text.trim()))
}

/// The new level; none where it is what it was.
fn check(
    known: &BTreeMap<String, String>,
    name: &str,
    operation: i8,
    level: Option<&str>,
) -> Result<Option<String>, Refusal> {
    let request = |why: String| Err((ErrorCode::InvalidRequest, why));
    let config = |why: String| Err((ErrorCode::InvalidConfig, why));
    let op = Op::from_id(operation);
    if matches!(op, Some(Op::Set | Op::Delete)) && !known.contains_key(name) {
        return config(format!("Logger {name} does not exist!"));
    }
    match op {
        Some(Op::Set) => match level.filter(|level| LEVELS.contains(level)) {
            Some(level) => Ok(Some(level.to_string())),
            None => config(format!(
                "Cannot set the log level of {name} to {} as it is not a supported log level. Valid log levels are {}",
                level.unwrap_or("null"),
                LEVELS.join(", ")
            )),
        },
        Some(Op::Delete) if name == ROOT => request(format!(
            "Removing the log level of the {ROOT} logger is not allowed"
        )),
        Some(Op::Delete) => Ok(None),
        Some(op) => request(format!(
            "{} operation is not allowed for the BROKER_LOGGER resource",
            op.name()
        )),
        None => request(format!(
            "Unknown operation type {operation} is not allowed for the BROKER_LOGGER resource"
        )),
    }
}

/// What is in effect: later directives win. There is nothing above an error here, so FATAL lets no line pass.
fn directives(begun: &str, levels: &BTreeMap<String, String>) -> String {
    let mut all = begun.to_string();
    for (name, level) in levels {
        let level = match &level[..] {
            "FATAL" => "off".into(),
            level => level.to_lowercase(),
        };
        all += &match &name[..] {
            ROOT => format!(",{level}"),
            name => format!(",{name}={level}"),
        };
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use milena_protocol::Str;
    use milena_protocol::incremental_alter_configs_request::AlterableConfig;
    use std::sync::Arc;

    fn resource(name: &str, operation: i8, level: Option<&str>) -> AlterConfigsResource {
        let config = AlterableConfig {
            name: Str::copy(name),
            config_operation: operation,
            value: level.map(Str::copy),
        };
        AlterConfigsResource {
            configs: vec![config],
            ..Default::default()
        }
    }

    #[test]
    fn a_level_is_set_and_taken_back() {
        let applied = Arc::new(Mutex::new(String::new()));
        let sink = applied.clone();
        let apply = move |text: &str| text.clone_into(&mut sink.lock().unwrap());
        let loggers = Loggers::new("info,milena_node=debug".into(), Box::new(apply));
        let level = |name: &str| loggers.all()[name].clone();
        assert_eq!(
            (level(ROOT), level("milena_node")),
            ("INFO".into(), "DEBUG".into())
        );
        loggers
            .alter(&resource("milena_txn", 0, Some("TRACE")), true)
            .unwrap();
        assert_eq!(
            (level("milena_txn"), &applied.lock().unwrap()[..]),
            ("INFO".into(), "")
        );
        loggers
            .alter(&resource("milena_txn", 0, Some("TRACE")), false)
            .unwrap();
        loggers
            .alter(&resource(ROOT, 0, Some("FATAL")), false)
            .unwrap();
        assert_eq!(level("milena_txn"), "TRACE");
        assert_eq!(level("milena_group"), "FATAL");
        assert_eq!(
            *applied.lock().unwrap(),
            "info,milena_node=debug,milena_txn=trace,off"
        );
        loggers
            .alter(&resource("milena_txn", 1, None), false)
            .unwrap();
        assert_eq!(level("milena_txn"), "FATAL");
        assert_eq!(*applied.lock().unwrap(), "info,milena_node=debug,off");
    }

    #[test]
    fn what_is_not_allowed_says_so() {
        let loggers = Loggers::new("info".into(), Box::new(|_| panic!("nothing changes")));
        let refused = |name: &str, operation: i8, level: Option<&str>| {
            let altered = loggers.alter(&resource(name, operation, level), false);
            altered.expect_err("it is refused")
        };
        let config = ErrorCode::InvalidConfig;
        assert_eq!(
            refused("nope", 0, Some("INFO")),
            (config, "Logger nope does not exist!".into())
        );
        let (code, why) = refused(ROOT, 0, Some("LOUD"));
        assert!(
            code == config && why.starts_with("Cannot set the log level of root to LOUD"),
            "{why}"
        );
        for (name, operation) in [(ROOT, 1), (ROOT, 2), (ROOT, 3), (ROOT, 9)] {
            assert_eq!(refused(name, operation, None).0, ErrorCode::InvalidRequest);
        }
    }
}
