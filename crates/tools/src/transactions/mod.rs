//! `kafka-transactions`: transactions, their producers, and the ends of those that nobody ends (KIP-664).

mod ask;
mod hanging;

use milena_base::TopicPartition;
use milena_client::{Client, Error};
use milena_protocol::Str;
use milena_protocol::describe_producers_response::ProducerState;
use milena_protocol::describe_transactions_response::TransactionState;

use self::ask::Abort;
use crate::say::{self, out};
use crate::subcommands::{Arg, COMMAND_CONFIG, Command, Parsed, Tool, arg};
use crate::{connect, pretty};

const TOPIC: Arg = arg("topic", 't', "The topic.").long_only().required();
const PARTITION: Arg = arg("partition", 'p', "The number of the partition.")
    .long_only()
    .required();

pub(crate) const TOOL: Tool = Tool {
    name: "kafka-transactions.sh",
    about: "Shows transactions and the producers that have them open, finds those that nobody ends, and aborts them.",
    globals: &[
        arg("version", 'v', "Print Milena's version and Kafka's level.").switch(),
        COMMAND_CONFIG,
        arg(
            "bootstrap-server",
            'b',
            "Brokers to begin with, host:port[,host:port…].",
        )
        .long_only()
        .required(),
    ],
    commands: &[
        Command {
            name: "list",
            help: "List transactional ids and how their transactions stand.",
            args: &[
                arg(
                    "duration-filter",
                    'd',
                    "Only those that have been running for longer than so many ms; below 0: all.",
                )
                .long_only(),
                arg(
                    "transactional-id-pattern",
                    'i',
                    "Only ids that this regular expression matches.",
                )
                .long_only(),
            ],
        },
        Command {
            name: "describe",
            help: "Describe the transaction of a transactional id.",
            args: &[arg("transactional-id", 'i', "The transactional id.")
                .long_only()
                .required()],
        },
        Command {
            name: "describe-producers",
            help: "Describe the producers that a partition knows.",
            args: &[
                arg(
                    "broker-id",
                    'b',
                    "Ask this replica; without it the leader is asked.",
                )
                .long_only(),
                TOPIC,
                PARTITION,
            ],
        },
        Command {
            name: "abort",
            help: "Write the abort of a hanging transaction into its partition.",
            args: &[
                TOPIC,
                PARTITION,
                arg(
                    "start-offset",
                    'o',
                    "Where the transaction begins; enough for brokers from 3.0 on.",
                )
                .long_only(),
                arg("producer-id", 'i', "Its producer's id, for older brokers.").long_only(),
                arg(
                    "producer-epoch",
                    'e',
                    "Its producer's epoch, for older brokers.",
                )
                .long_only(),
                arg(
                    "coordinator-epoch",
                    'c',
                    "Its coordinator's epoch, for older brokers.",
                )
                .long_only(),
            ],
        },
        Command {
            name: "find-hanging",
            help: "Find transactions that are open in a partition and that no coordinator is going to end.",
            args: &[
                arg("broker-id", 'b', "Search the partitions of this broker.").long_only(),
                arg(
                    "max-transaction-timeout",
                    'm',
                    "Only what has been open for longer than so many minutes (15).",
                )
                .long_only(),
                arg("topic", 't', "Search this topic.").long_only(),
                arg("partition", 'p', "Search this partition of --topic.").long_only(),
            ],
        },
        Command {
            name: "forceTerminateTransaction",
            help: "Abort the open transaction of a transactional id, and fence its producer.",
            args: &[arg("transactionalId", 'i', "The transactional id.")
                .long_only()
                .required()],
        },
    ],
};

pub fn main(args: Vec<String>) -> i32 {
    // As the other tools' parser, this one prints the version wherever the flag stands before the command.
    let first = args.iter().take_while(|word| word.starts_with('-'));
    if first
        .clone()
        .any(|word| word == "--version" || word == "-v")
    {
        out(format_args!("{}\n", say::version()));
        return 0;
    }
    TOOL.main(&args, 0, |parsed| run(parsed).map(|()| 0))
}

/// A number among the flags.
fn number<T: std::str::FromStr>(
    parsed: &Parsed,
    name: &str,
    kind: &str,
) -> Result<Option<T>, String> {
    let Some(text) = parsed.value(name) else {
        return Ok(None);
    };
    let wrong = |_| {
        format!(
            "{}: error: argument --{name}: could not convert '{text}' to {kind} ('{text}' is not a number of this kind)",
            TOOL.name
        )
    };
    text.parse().map(Some).map_err(wrong)
}

fn partition(parsed: &Parsed) -> Result<TopicPartition, String> {
    let topic = parsed.value("topic").unwrap_or_default();
    let index: i32 = number(parsed, "partition", "Integer")?.unwrap_or_default();
    Ok(TopicPartition::new(topic, index))
}

/// Kafka's sentence around a failure.
fn failed(what: &str) -> impl FnOnce(Error) -> String {
    move |error| {
        let because = say::because(&error);
        format!("{what}: {error}{because}. Enable debug logging for additional detail.")
    }
}

fn run(parsed: &Parsed) -> Result<(), String> {
    let work = Work::of(parsed)?;
    let properties = connect::of_subcommand(parsed)?;
    let mut client = connect::admin(&properties)
        .map_err(|error| format!("Failed to create new KafkaAdminClient\n{error}"))?;
    crate::progress::run(work.done(&mut client))
}

/// What a command line asks for.
#[derive(Debug)]
pub(crate) enum Work {
    List {
        duration_ms: i64,
        pattern: Option<Str>,
    },
    Describe(Str),
    DescribeProducers {
        of: TopicPartition,
        broker: Option<i32>,
    },
    AbortAt {
        of: TopicPartition,
        start: i64,
    },
    Abort(Abort),
    FindHanging(hanging::Search),
    Terminate(Str),
}

impl Work {
    pub(crate) fn of(parsed: &Parsed) -> Result<Work, String> {
        Ok(match parsed.command {
            "list" => Work::List {
                duration_ms: number(parsed, "duration-filter", "Long")?.unwrap_or(-1),
                pattern: parsed.value("transactional-id-pattern").map(Str::copy),
            },
            "describe" => Work::Describe(Str::copy(
                parsed.value("transactional-id").unwrap_or_default(),
            )),
            "describe-producers" => Work::DescribeProducers {
                of: partition(parsed)?,
                broker: number(parsed, "broker-id", "Integer")?,
            },
            "abort" => Work::of_abort(parsed)?,
            "find-hanging" => Work::FindHanging(hanging::Search::of(parsed)?),
            _ => Work::Terminate(Str::copy(
                parsed.value("transactionalId").unwrap_or_default(),
            )),
        })
    }

    fn of_abort(parsed: &Parsed) -> Result<Work, String> {
        let of = partition(parsed)?;
        if let Some(start) = number(parsed, "start-offset", "Long")? {
            return Ok(Work::AbortAt { of, start });
        }
        let Some(producer_id) = number(parsed, "producer-id", "Long")? else {
            return Err("The transaction to abort must be identified either with --start-offset (for brokers on 3.0 or above) or with --producer-id, --producer-epoch, and --coordinator-epoch (for older brokers)".into());
        };
        let missing = |flag: &str| format!("Missing required argument --{flag}");
        let producer_epoch = number(parsed, "producer-epoch", "Short")?;
        let coordinator_epoch: Option<i32> = number(parsed, "coordinator-epoch", "Integer")?;
        Ok(Work::Abort(Abort {
            of,
            producer_id,
            producer_epoch: producer_epoch.ok_or_else(|| missing("producer-epoch"))?,
            // A producer without an end so far has none; 0 is below every coordinator's.
            coordinator_epoch: coordinator_epoch
                .ok_or_else(|| missing("coordinator-epoch"))?
                .max(0),
        }))
    }

    async fn done(self, client: &mut Client) -> Result<(), String> {
        match self {
            Work::List {
                duration_ms,
                pattern,
            } => {
                let found = ask::list(client, duration_ms, pattern.as_ref(), &[]).await;
                out(listing(
                    &found.map_err(failed("Failed to list transactions"))?,
                ));
            }
            Work::Describe(id) => {
                let what =
                    format!("Failed to describe transaction state of transactional-id `{id}`");
                let (coordinator, state) =
                    ask::describe(client, &id).await.map_err(failed(&what))?;
                out(description(coordinator, &state, say::now_millis()));
            }
            Work::DescribeProducers { of, broker } => {
                let at = broker.map_or("leader".into(), |id| format!("broker {id}"));
                let what = format!("Failed to describe producers for partition {of} on {at}");
                let found = ask::producers(client, &of, broker).await;
                out(producers(&found.map_err(failed(&what))?));
            }
            Work::AbortAt { of, start } => {
                let abort = Abort::at(client, of, start).await?;
                abort.carry_out(client).await?;
            }
            Work::Abort(abort) => abort.carry_out(client).await?,
            Work::FindHanging(search) => {
                let found = search.run(client).await?;
                out(hanging::table(&found, say::now_millis()));
            }
            Work::Terminate(id) => {
                let what = format!("Failed to force terminate transactionalId `{id}`");
                ask::terminate(client, &id).await.map_err(failed(&what))?;
            }
        }
        Ok(())
    }
}

/// A transactional id, as its coordinator lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub id: Str,
    pub coordinator: i32,
    pub producer_id: i64,
    pub state: Str,
}

pub(crate) fn listing(found: &[Listed]) -> String {
    let rows = found.iter().map(|listed| {
        vec![
            listed.id.to_string(),
            listed.coordinator.to_string(),
            listed.producer_id.to_string(),
            listed.state.to_string(),
        ]
    });
    pretty::table(
        &[
            "TransactionalId",
            "Coordinator",
            "ProducerId",
            "TransactionState",
        ],
        &rows.collect::<Vec<_>>(),
    )
}

pub(crate) fn description(coordinator: i32, state: &TransactionState, now_ms: i64) -> String {
    let started = Some(state.transaction_start_time_ms).filter(|at| *at >= 0);
    let or_none = |ms: Option<i64>| ms.map_or("None".into(), |ms| ms.to_string());
    let partitions = ask::partitions_of(state);
    let partitions: Vec<String> = partitions.iter().map(ToString::to_string).collect();
    let row = vec![
        coordinator.to_string(),
        state.transactional_id.to_string(),
        state.producer_id.to_string(),
        state.producer_epoch.to_string(),
        state.transaction_state.to_string(),
        state.transaction_timeout_ms.to_string(),
        or_none(started),
        or_none(started.map(|at| now_ms - at)),
        partitions.join(","),
    ];
    pretty::table(
        &[
            "CoordinatorId",
            "TransactionalId",
            "ProducerId",
            "ProducerEpoch",
            "TransactionState",
            "TransactionTimeoutMs",
            "CurrentTransactionStartTimeMs",
            "TransactionDurationMs",
            "TopicPartitions",
        ],
        &[row],
    )
}

pub(crate) fn producers(found: &[ProducerState]) -> String {
    let rows = found.iter().map(|producer| {
        let start = producer.current_txn_start_offset;
        vec![
            producer.producer_id.to_string(),
            producer.producer_epoch.to_string(),
            producer.coordinator_epoch.max(-1).to_string(),
            producer.last_sequence.to_string(),
            producer.last_timestamp.to_string(),
            match start < 0 {
                true => "None".into(),
                false => start.to_string(),
            },
        ]
    });
    pretty::table(
        &[
            "ProducerId",
            "ProducerEpoch",
            "LatestCoordinatorEpoch",
            "LastSequence",
            "LastTimestamp",
            "CurrentTransactionStartOffset",
        ],
        &rows.collect::<Vec<_>>(),
    )
}
