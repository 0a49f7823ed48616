//! `kafka-topics`: creates, lists, describes, alters and deletes topics.

pub(crate) mod describe;
pub(crate) mod flags;

use std::collections::BTreeMap;

use milena_base::ErrorCode;
use milena_client::{Client, Error, Target};
use milena_protocol::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsTopic,
};
use milena_protocol::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use milena_protocol::delete_topics_request::DeleteTopicState;
use milena_protocol::{CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, Str};

use crate::connect;
use crate::filter::{NameFilter, is_internal};
use crate::options::Options;
use crate::say::{self, Stop, out};

const LOGGER: &str = "org.apache.kafka.tools.TopicCommand";

pub fn main(args: Vec<String>) -> i32 {
    say::finish(&flags::SPEC, run(&args))
}

fn run(args: &[String]) -> Result<i32, Stop> {
    let options = flags::SPEC.parse(args)?;
    flags::check(&options)?;
    let mut properties = match options.value("command-config")? {
        Some(path) => connect::load(path)?,
        None => connect::Properties::new(),
    };
    let servers = options.value("bootstrap-server")?.unwrap_or_default();
    properties.insert("bootstrap.servers".into(), servers.into());
    let client = connect::open(&properties)?;
    match crate::progress::run(execute(client, &options)) {
        Ok(()) => Ok(0),
        Err(failure) => {
            out(format_args!(
                "Error while executing topic command : {}\n",
                failure.sentence
            ));
            say::log("ERROR", format_args!("{}\n", failure.detail), LOGGER);
            Ok(1)
        }
    }
}

/// What went wrong: in words, and with the name of Kafka's exception.
struct Failure {
    sentence: String,
    detail: String,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure {
            sentence: error.to_string(),
            detail: say::with_exception(&error),
        }
    }
}

impl From<String> for Failure {
    fn from(sentence: String) -> Failure {
        let detail = format!("java.lang.IllegalArgumentException: {sentence}");
        Failure { sentence, detail }
    }
}

async fn execute(mut client: Client, options: &Options) -> Result<(), Failure> {
    if options.has("create") {
        create(&mut client, options).await
    } else if options.has("alter") {
        alter(&mut client, options).await
    } else if options.has("list") {
        let topics = matching(&mut client, options).await?;
        out(format_args!("{}\n", topics.join("\n")));
        Ok(())
    } else if options.has("describe") {
        describe::run(&mut client, options).await
    } else {
        delete(&mut client, options).await
    }
}

/// The name that `--create` makes: not a pattern.
fn topic(options: &Options) -> Result<&str, String> {
    Ok(options.value("topic")?.unwrap_or_default())
}

/// The names of existing topics that `--topic` matches, sorted; all of them without it.
async fn matching(client: &mut Client, options: &Options) -> Result<Vec<String>, Failure> {
    let filter = options.value("topic")?.map(NameFilter::new).transpose()?;
    let exclude_internal = options.has("exclude-internal");
    let metadata = client.metadata("listTopics", None).await?;
    let mut names: Vec<String> = Vec::new();
    for topic in &metadata.topics {
        let Some(name) = &topic.name else { continue };
        let internal = topic.is_internal || is_internal(name);
        let taken = filter.as_ref().is_none_or(|filter| filter.takes(name));
        if taken && !(exclude_internal && internal) {
            names.push(name.to_string());
        }
    }
    names.sort();
    Ok(names)
}

fn must_exist(found: &[String], options: &Options) -> Result<(), String> {
    let topic = topic(options)?;
    match topic.is_empty() || !found.is_empty() || options.has("if-exists") {
        true => Ok(()),
        false => Err(format!("Topic '{topic}' does not exist as expected")),
    }
}

async fn create(client: &mut Client, options: &Options) -> Result<(), Failure> {
    let new = creatable(options)?;
    let name = new.name.clone();
    if name.contains(['.', '_']) {
        out(
            "WARNING: Due to limitations in metric names, topics with a period ('.') or underscore ('_') could \
             collide. To avoid issues it is best to use either, but not both.\n",
        );
    }
    if new.num_partitions == 0 || new.num_partitions < -1 {
        return Err("The partitions must be greater than 0".to_string().into());
    }
    let request = CreateTopicsRequest {
        topics: vec![new],
        timeout_ms: client.config().request_timeout.as_millis() as i32,
        validate_only: false,
    };
    let created = client
        .retry("createTopics", async |client: &mut Client| {
            let connection = client.connection(Target::Controller).await?;
            let answer = connection.call(&request).await?;
            let topic = answer.topics.first().ok_or_else(|| unanswered(&name))?;
            Error::check(topic.error_code, topic.error_message.as_deref())
        })
        .await;
    match created {
        Ok(()) => out(format_args!("Created topic {name}.\n")),
        Err(error) if exists(&error) && options.has("if-not-exists") => {}
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

fn exists(error: &Error) -> bool {
    error.code() == Some(ErrorCode::TopicAlreadyExists)
}

fn unanswered(name: &str) -> Error {
    Error::Malformed {
        peer: "the broker".into(),
        what: format!("an answer without the topic {name}"),
    }
}

fn creatable(options: &Options) -> Result<CreatableTopic, String> {
    let partitions: Option<i32> = options.number("partitions")?;
    let factor: Option<i32> = options.number("replication-factor")?;
    if factor.is_some_and(|factor| !(1..=i32::from(i16::MAX)).contains(&factor)) {
        return Err(format!(
            "The replication factor must be between 1 and {} inclusive",
            i16::MAX
        ));
    }
    let assignments: Vec<_> = assignment(options)?
        .into_iter()
        .map(|(partition_index, broker_ids)| CreatableReplicaAssignment {
            partition_index,
            broker_ids,
        })
        .collect();
    Ok(CreatableTopic {
        name: Str::copy(topic(options)?),
        // −1 stands for the cluster's default, and for an assignment that says it all; 0 is refused.
        num_partitions: match partitions {
            Some(n) if n < 1 => 0,
            n => n.unwrap_or(-1),
        },
        replication_factor: factor.map_or(-1, |factor| factor as i16),
        assignments,
        configs: configs(options)?,
    })
}

/// `--config key=value`, blanks around the sign dropped; the last of a key wins.
fn configs(options: &Options) -> Result<Vec<CreatableTopicConfig>, String> {
    let mut configs = BTreeMap::new();
    for text in options.values("config") {
        let parts: Vec<&str> = text.split('=').map(str::trim).collect();
        match parts[..] {
            [key, value] if !value.is_empty() => configs.insert(key, value),
            _ => {
                return Err(
                    "requirement failed: Invalid topic config: all configs to be added must be in the format \"key=val\"."
                        .to_string(),
                );
            }
        };
    }
    let config = |(name, value)| CreatableTopicConfig {
        name: Str::copy(name),
        value: Some(Str::copy(value)),
    };
    Ok(configs.into_iter().map(config).collect())
}

/// `--replica-assignment`: brokers of partition 0, of partition 1 and so on.
fn assignment(options: &Options) -> Result<BTreeMap<i32, Vec<i32>>, String> {
    let mut assignment: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    let text = options.value("replica-assignment")?.unwrap_or_default();
    for (partition, list) in text.split(',').filter(|_| !text.is_empty()).enumerate() {
        let brokers = list.split(':').map(|id| {
            let id = id.trim();
            id.parse::<i32>()
                .map_err(|_| format!("For input string: \"{id}\""))
        });
        let brokers = brokers.collect::<Result<Vec<i32>, _>>()?;
        let twice: Vec<String> = (1..brokers.len())
            .filter(|&i| brokers[..i].contains(&brokers[i]))
            .map(|i| brokers[i].to_string())
            .collect();
        if !twice.is_empty() {
            return Err(format!(
                "Partition replica lists may not contain duplicate entries: {}",
                twice.join(",")
            ));
        }
        if assignment
            .get(&0)
            .is_some_and(|first| first.len() != brokers.len())
        {
            return Err(format!(
                "Partition {partition} has different replication factor: {brokers:?}"
            ));
        }
        assignment.insert(partition as i32, brokers);
    }
    Ok(assignment)
}

async fn alter(client: &mut Client, options: &Options) -> Result<(), Failure> {
    let count: i32 = options.number("partitions")?.unwrap_or(0);
    let assigned = assignment(options)?;
    configs(options)?;
    let topics = matching(client, options).await?;
    must_exist(&topics, options)?;
    if topics.is_empty() {
        return Ok(());
    }
    let names: Vec<Str> = topics.iter().map(|name| Str::copy(name)).collect();
    let metadata = client.metadata("describeTopics", Some(&names)).await?;
    let grown = metadata.topics.iter().map(|topic| {
        let more = assigned.values().skip(topic.partitions.len());
        let more = more.map(|brokers| CreatePartitionsAssignment {
            broker_ids: brokers.clone(),
        });
        CreatePartitionsTopic {
            name: topic.name.clone().unwrap_or_default(),
            count,
            assignments: (!assigned.is_empty()).then(|| more.collect()),
        }
    });
    let request = CreatePartitionsRequest {
        topics: grown.collect(),
        timeout_ms: client.config().request_timeout.as_millis() as i32,
        validate_only: false,
    };
    let done = client.retry("createPartitions", async |client: &mut Client| {
        let connection = client.connection(Target::Controller).await?;
        let answer = connection.call(&request).await?;
        answer
            .results
            .iter()
            .try_for_each(|topic| Error::check(topic.error_code, topic.error_message.as_deref()))
    });
    Ok(done.await?)
}

async fn delete(client: &mut Client, options: &Options) -> Result<(), Failure> {
    let topics = matching(client, options).await?;
    must_exist(&topics, options)?;
    if topics.is_empty() {
        return Ok(());
    }
    let names: Vec<Str> = topics.iter().map(|name| Str::copy(name)).collect();
    let timeout_ms = client.config().request_timeout.as_millis() as i32;
    let done = client.retry("deleteTopics", async |client: &mut Client| {
        let connection = client.connection(Target::Controller).await?;
        let mut request = DeleteTopicsRequest {
            timeout_ms,
            ..Default::default()
        };
        match connection.version(milena_protocol::ApiKey::DeleteTopics) >= Some(6) {
            true => {
                let state = |name: &Str| DeleteTopicState {
                    name: Some(name.clone()),
                    ..Default::default()
                };
                request.topics = names.iter().map(state).collect();
            }
            false => request.topic_names = names.clone(),
        }
        let answer = connection.call(&request).await?;
        answer
            .responses
            .iter()
            .try_for_each(|topic| Error::check(topic.error_code, topic.error_message.as_deref()))
    });
    Ok(done.await?)
}
