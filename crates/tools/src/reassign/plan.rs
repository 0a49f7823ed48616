//! Plans as JSON: where replicas are to be, and which topics are to be moved.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::Value;

use super::Failure;

/// What a plan calls a directory that is left to the broker.
pub const ANY_DIR: &str = "any";

/// Topic and partition; printed as Kafka prints it.
pub type Place = (String, i32);

/// Broker, topic and partition: the order in which Kafka lists replicas.
pub type Replica = (i32, String, i32);

/// Replicas of partitions.
pub type Assignment = BTreeMap<Place, Vec<i32>>;

pub fn named(place: &Place) -> String {
    format!("{}-{}", place.0, place.1)
}

/// `topic-partition-broker`.
pub fn named_replica((broker, topic, partition): &Replica) -> String {
    format!("{topic}-{partition}-{broker}")
}

/// A number of things in Kafka's words: its plural ends in s.
pub fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

pub fn joined<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    items.join(",")
}

/// Where replicas are to be, and those of them that name a directory.
#[derive(Debug, Default)]
pub struct Plan {
    /// In the file's order; a partition may stand there twice.
    pub targets: Vec<(Place, Vec<i32>)>,
    pub dirs: BTreeMap<Replica, String>,
}

impl Plan {
    pub fn parse(text: &str) -> Result<Plan, Failure> {
        let json = versioned(text)?;
        let mut plan = Plan::default();
        for row in list(&json, "partitions")? {
            plan.take(row)?;
        }
        Ok(plan)
    }

    /// The same, and what can be executed: not empty, nothing named twice.
    pub fn parse_to_execute(text: &str) -> Result<Plan, Failure> {
        let plan = Plan::parse(text)?;
        let wrong = |text: String| Err(Failure::Command(text));
        if plan.targets.is_empty() {
            return wrong("Partition reassignment list cannot be empty".into());
        }
        if plan.targets.iter().any(|(_, replicas)| replicas.is_empty()) {
            return wrong("Partition replica list cannot be empty".into());
        }
        let twice = duplicates(plan.targets.iter().map(|(place, _)| place));
        if !twice.is_empty() {
            return wrong(format!(
                "Partition reassignment contains duplicate topic partitions: {}",
                joined(twice.iter().map(|place| named(place)))
            ));
        }
        let mut texts = Vec::new();
        for (place, replicas) in &plan.targets {
            let twice = duplicates(replicas);
            if !twice.is_empty() {
                texts.push(format!(
                    "{} contains multiple entries for {}",
                    named(place),
                    joined(twice)
                ));
            }
        }
        match texts.is_empty() {
            true => Ok(plan),
            false => wrong(format!(
                "Partition replica lists may not contain duplicate entries: {}",
                texts.join(". ")
            )),
        }
    }

    fn take(&mut self, row: &Value) -> Result<(), Failure> {
        let topic = field(row, "topic", Value::as_str)?.to_owned();
        let partition = field(row, "partition", integer)?;
        let replicas = field(row, "replicas", Value::as_array)?;
        let replicas: Vec<i32> = replicas
            .iter()
            .map(|id| integer(id).ok_or_else(|| malformed(row, "replicas")))
            .collect::<Result<_, _>>()?;
        let dirs = match row.get("log_dirs") {
            None => vec![ANY_DIR.to_owned(); replicas.len()],
            Some(dirs) => {
                let dirs = dirs.as_array().ok_or_else(|| malformed(row, "log_dirs"))?;
                let dir = |dir: &Value| dir.as_str().map(str::to_owned);
                dirs.iter()
                    .map(|d| dir(d).ok_or_else(|| malformed(row, "log_dirs")))
                    .collect::<Result<_, _>>()?
            }
        };
        if dirs.len() != replicas.len() {
            return Err(Failure::Command(format!(
                "Size of replicas list [{}] is different from size of log dirs list [{}] for partition {topic}-{partition}",
                spaced(&replicas),
                spaced(&dirs)
            )));
        }
        for (broker, dir) in replicas.iter().zip(dirs) {
            if dir != ANY_DIR {
                self.dirs.insert((*broker, topic.clone(), partition), dir);
            }
        }
        self.targets.push(((topic, partition), replicas));
        Ok(())
    }

    pub fn assignment(&self) -> Assignment {
        self.targets.iter().cloned().collect()
    }
}

fn spaced<T: ToString>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(T::to_string).collect();
    items.join(", ")
}

/// Topics that are to be moved.
pub fn topics(text: &str) -> Result<Vec<String>, Failure> {
    let json = versioned(text)?;
    let rows = list(&json, "topics")?.iter();
    let topics = rows.map(|row| field(row, "topic", Value::as_str).map(str::to_owned));
    let topics: Vec<String> = topics.collect::<Result<_, _>>()?;
    let twice = duplicates(&topics);
    match twice.is_empty() {
        true => Ok(topics),
        false => Err(Failure::Command(format!(
            "List of topics to reassign contains duplicate entries: [{}]",
            spaced(&twice)
        ))),
    }
}

/// The ids of `0,1,2`.
pub fn brokers(text: &str) -> Result<Vec<i32>, Failure> {
    let id = |id: &str| {
        let wrong = |_| Failure::Operation(format!("For input string: \"{id}\""));
        id.parse().map_err(wrong)
    };
    let ids: Vec<i32> = text.split(',').map(id).collect::<Result<_, _>>()?;
    let twice = duplicates(&ids);
    match twice.is_empty() {
        true => Ok(ids),
        false => Err(Failure::Command(format!(
            "Broker list contains duplicate entries: [{}]",
            spaced(&twice)
        ))),
    }
}

fn duplicates<T: Ord + Copy>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut seen = BTreeSet::new();
    let twice: BTreeSet<T> = items.into_iter().filter(|i| !seen.insert(*i)).collect();
    twice.into_iter().collect()
}

fn versioned(text: &str) -> Result<Value, Failure> {
    let json: Value = serde_json::from_str(text)
        .map_err(|error| Failure::Operation(format!("The file is no JSON: {error}")))?;
    match json.get("version") {
        None => Ok(json),
        Some(version) if version.as_i64() == Some(1) => Ok(json),
        Some(other) => Err(Failure::Operation(format!(
            "Not supported version field value {other}"
        ))),
    }
}

fn list<'a>(json: &'a Value, key: &str) -> Result<&'a [Value], Failure> {
    match json.get(key) {
        None => Ok(&[]),
        Some(rows) => rows
            .as_array()
            .map(Vec::as_slice)
            .ok_or_else(|| malformed(json, key)),
    }
}

fn integer(value: &Value) -> Option<i32> {
    value.as_i64().and_then(|id| i32::try_from(id).ok())
}

fn field<'a, T>(
    row: &'a Value,
    key: &str,
    read: impl Fn(&'a Value) -> Option<T>,
) -> Result<T, Failure> {
    row.get(key)
        .and_then(read)
        .ok_or_else(|| malformed(row, key))
}

fn malformed(row: &Value, key: &str) -> Failure {
    Failure::Operation(format!("\"{key}\" is missing or of another type in {row}"))
}

/// Kafka's JSON of an assignment, in its order; replicas without a known directory are `any`.
pub fn json(assignment: &Assignment, dirs: &BTreeMap<Replica, String>) -> String {
    let mut out = String::from("{\"version\":1,\"partitions\":[");
    for (i, ((topic, partition), replicas)) in assignment.iter().enumerate() {
        let comma = if i == 0 { "" } else { "," };
        let dir = |broker: &i32| {
            let dir = dirs.get(&(*broker, topic.clone(), *partition));
            Value::from(dir.map_or(ANY_DIR, String::as_str)).to_string()
        };
        let _ = write!(
            out,
            "{comma}{{\"topic\":{},\"partition\":{partition},\"replicas\":[{}],\"log_dirs\":[{}]}}",
            Value::from(topic.as_str()),
            joined(replicas),
            joined(replicas.iter().map(dir))
        );
    }
    out + "]}"
}
