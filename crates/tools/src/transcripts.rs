//! Conversations with parsers and tables, as text files in `tests/transcripts`.

use std::collections::{BTreeMap, BTreeSet};

use milena_base::{ErrorCode, Uuid};
use milena_client::Error;
use milena_client::consumer::Place;
use milena_protocol::api_versions_response::{FinalizedFeatureKey, SupportedFeatureKey};
use milena_protocol::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use milena_protocol::describe_quorum_response::{
    Listener, Node, PartitionData, ReplicaState, TopicData,
};
use milena_protocol::{ApiVersionsResponse, DescribeQuorumResponse};
use milena_testkit::check;

use crate::console_producer::{self, lines::LineReader};
use crate::consumer_groups::collect::{Group, Listed, Member};
use crate::consumer_groups::{self, tables};
use crate::options::{Options, Spec};
use crate::say::Stop;
use crate::topics::describe::{Partition, Report, Topic};
use crate::{
    client_metrics, cluster, configs, connect, console_consumer, delete_records, features,
    get_offsets, groups, leader_election, log_dirs, metadata_quorum, perf, reassign, reset_offsets,
    say, storage, subcommands, topics, transactions,
};

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_string).collect()
}

/// Lines with their ends made visible.
fn framed(text: &str) -> String {
    text.lines().map(|line| format!("|{line}|\n")).collect()
}

fn flags(spec: &Spec, check: fn(&Options) -> Result<(), Stop>, args: &[String]) -> String {
    match spec
        .parse(args)
        .map_err(Stop::Message)
        .and_then(|options| check(&options))
    {
        Ok(()) => "taken".to_string(),
        Err(Stop::Usage(message)) => format!("usage: {message}"),
        Err(Stop::Message(message)) => format!("refused: {message}"),
        Err(Stop::Status(status)) => format!("status {status}"),
    }
}

fn subcommand(tool: &subcommands::Tool, args: &[String]) -> String {
    match tool.parse(args) {
        Ok(parsed) => format!("{parsed:?}"),
        Err(subcommands::Refused::Help(_)) => "help".to_string(),
        Err(subcommands::Refused::Wrong(text)) => text,
    }
}

#[test]
fn command_lines() {
    check("command_lines.txt", |line| {
        let mut args = words(line);
        match args.remove(0).as_str() {
            "kafka-topics" => flags(&topics::flags::SPEC, topics::flags::check, &args),
            "kafka-console-producer" => flags(
                &console_producer::flags::SPEC,
                console_producer::flags::check,
                &args,
            ),
            "kafka-console-consumer" => flags(
                &console_consumer::flags::SPEC,
                console_consumer::flags::check,
                &args,
            ),
            "kafka-consumer-groups" => flags(
                &consumer_groups::flags::SPEC,
                consumer_groups::flags::check,
                &args,
            ),
            "kafka-configs" => flags(&configs::flags::SPEC, configs::flags::check, &args),
            "kafka-client-metrics" => flags(&client_metrics::SPEC, client_metrics::check, &args),
            "kafka-consumer-perf-test" => {
                flags(&perf::consumer::SPEC, perf::consumer::check, &args)
            }
            "kafka-e2e-latency" => flags(&perf::e2e::SPEC, perf::e2e::check, &args),
            "kafka-groups" => flags(&groups::SPEC, groups::check, &args),
            "kafka-get-offsets" => flags(&get_offsets::SPEC, get_offsets::check, &args),
            "kafka-delete-records" => flags(&delete_records::SPEC, delete_records::check, &args),
            "kafka-log-dirs" => flags(&log_dirs::SPEC, log_dirs::check, &args),
            "kafka-features" => subcommand(&features::TOOL, &args),
            "kafka-metadata-quorum" => subcommand(&metadata_quorum::TOOL, &args),
            "kafka-leader-election" => flags(&leader_election::SPEC, leader_election::check, &args),
            "kafka-reassign-partitions" => flags(&reassign::SPEC, reassign::check, &args),
            "kafka-cluster" => subcommand(&cluster::TOOL, &args),
            "kafka-storage" => subcommand(&storage::TOOL, &args),
            "kafka-transactions" => match transactions::TOOL.parse(&args) {
                Ok(parsed) => format!("{:?}", transactions::Work::of(&parsed)),
                Err(_) => subcommand(&transactions::TOOL, &args),
            },
            other => panic!("no tool {other}"),
        }
    });
}

/// Times, partitions and files of `--reset-offsets`; `\n` stands for a line's end.
#[test]
fn offset_resets() {
    let told =
        |answer: Result<String, String>| answer.unwrap_or_else(|why| format!("refused: {why}"));
    let plans = |text: &str, single: Option<&str>| {
        reset_offsets::csv::parse(&text.replace("\\n", "\n"), single)
    };
    check("offset_resets.txt", |line| {
        let (what, rest) = line.split_once(' ').unwrap_or((line, ""));
        match what {
            "datetime" => told(reset_offsets::times::datetime(rest).map(say::timestamp)),
            "duration" => told(reset_offsets::times::duration(rest).map(|ms| format!("{ms} ms"))),
            "partitions" => {
                told(reset_offsets::partitions(rest).map(|places| format!("{places:?}")))
            }
            "file" => {
                told(plans(rest, Some("g1")).map(|plans| framed(&reset_offsets::table(&plans))))
            }
            "file-of-groups" => {
                told(plans(rest, None).map(|plans| framed(&reset_offsets::table(&plans))))
            }
            "export" => told(
                plans(rest, None).map(|plans| framed(&reset_offsets::csv::text(&plans, false))),
            ),
            "deleted" => {
                let result = |code: ErrorCode| match code {
                    ErrorCode::None => Ok(()),
                    code => Err(Error::refused(code, None)),
                };
                let results = [
                    (("alpha".into(), 1), result(ErrorCode::None)),
                    (
                        ("nope".into(), -1),
                        result(ErrorCode::UnknownTopicOrPartition),
                    ),
                ];
                framed(&consumer_groups::change::deleted(&results.into()))
            }
            other => panic!("no {other}"),
        }
    });
}

/// A line is a plan's file, or `topics …` with one of topics; the answer is what is understood.
#[test]
fn reassignment_plans() {
    check("reassignment_plans.txt", |line| {
        let shown = match line.strip_prefix("topics ") {
            Some(text) => reassign::plan::topics(text).map(|topics| topics.join(" ")),
            None => reassign::plan::Plan::parse_to_execute(line)
                .map(|plan| reassign::plan::json(&plan.assignment(), &plan.dirs)),
        };
        match shown {
            Ok(text) => text,
            Err(failure) => format!("{failure:?}"),
        }
    });
}

/// `reader key=value …` sets the reader up, everything else is a line that it reads; `\t` stands for a tab.
#[test]
fn lines_become_records() {
    let mut reader = None;
    check("line_reader.txt", |line| {
        if let Some(properties) = line.strip_prefix("reader") {
            let pairs: Vec<&str> = properties.split_whitespace().collect();
            let properties = connect::pairs(&pairs).unwrap();
            return match LineReader::new("t", &properties) {
                Ok(made) => {
                    reader = Some(made);
                    String::new()
                }
                Err(why) => why,
            };
        }
        let reader = reader.as_mut().expect("a reader is set up first");
        match reader.read(&line.replace("\\t", "\t"), 7) {
            Ok(record) => {
                let headers: Vec<_> = record.headers.iter().collect();
                format!(
                    "key={:?} value={:?} headers={headers:?}",
                    record.key, record.value
                )
            }
            Err(why) => why,
        }
    });
}

/// `--add-config` and what is said of the keys of a kind of entity: `clients k=v` or `add k=v`; `scram …` a credential.
#[test]
fn config_pairs() {
    check("config_pairs.txt", |line| {
        let (kind, text) = line.split_once(' ').unwrap();
        if kind == "scram" {
            return match configs::pairs::credential("SCRAM-SHA-256", text) {
                Ok((iterations, password)) => format!("{iterations} iterations of {password:?}"),
                Err(why) => why,
            };
        }
        let pairs = match configs::pairs::pairs(text) {
            Ok(pairs) => pairs,
            Err(why) => return why,
        };
        if kind == "add" {
            let pairs = pairs
                .iter()
                .map(|(key, value)| format!("{key} = {value:?}\n"));
            return pairs.collect();
        }
        let named = |name: &str| configs::flags::Entities {
            types: vec![kind.to_string()],
            names: vec![name.to_string()],
        };
        let added = pairs.into_iter().collect();
        let say = |name: &str| match configs::check_client_keys(&named(name), &added, &[]) {
            Ok(()) => "taken".to_string(),
            Err(why) => why,
        };
        format!("by name: {}\nby default: {}", say("x"), say(""))
    });
}

fn places(text: &str) -> BTreeSet<Place> {
    let place = |part: &str| {
        let (topic, partition) = part.split_once(':').unwrap();
        (topic.to_string().into(), partition.parse().unwrap())
    };
    text.split(',')
        .filter(|part| !part.is_empty())
        .map(place)
        .collect()
}

/// A group of which some partitions are assigned, some only committed, and one has no end.
fn group(state: &str) -> Group {
    let member = |id: &str, assigned: &str| Member {
        id: id.to_string(),
        client_id: "app".to_string(),
        host: "/127.0.0.1".to_string(),
        assigned: places(assigned),
        ..Member::default()
    };
    let members = match state {
        "Stable" => vec![
            member("app-1", "alpha:0"),
            member("app-2-a-long-member-id", "alpha:1,alpha:2"),
            member("app-3", ""),
        ],
        _ => Vec::new(),
    };
    let offset =
        |text: &str, offset: i64, epoch: i32| (places(text).pop_first().unwrap(), (offset, epoch));
    Group {
        id: "g1".to_string(),
        coordinator: ("127.0.0.1".to_string(), 9092, 1),
        assignor: if members.is_empty() {
            String::new()
        } else {
            "range".to_string()
        },
        state: state.to_string(),
        epochs: None,
        members,
        committed: BTreeMap::from([
            offset("alpha:0", 3, 0),
            offset("alpha:1", 5, -1),
            offset("gone:0", 9, 2),
        ]),
        ends: places("alpha:0,alpha:1,alpha:2")
            .into_iter()
            .map(|place| (place, 8))
            .collect(),
    }
}

#[test]
fn group_tables() {
    check("group_tables.txt", |line| {
        let words = words(line);
        let verbose = words.iter().any(|word| word == "verbose");
        if words[0] == "list" {
            let listed = |id: &str, group_type: &str, state: &str| Listed {
                id: id.to_string(),
                group_type: group_type.to_string(),
                protocol: "consumer".to_string(),
                state: state.to_string(),
            };
            let groups = [
                listed("gc1", "Classic", "Empty"),
                listed("a-group", "Consumer", "Stable"),
            ];
            let has = |what: &str| words.iter().any(|word| word == what);
            return framed(&tables::listing(&groups, has("type"), has("state")));
        }
        let group = group(&words[1]);
        let table = match &words[0][..] {
            "offsets" => tables::offsets(&group, verbose),
            "members" => tables::members(&group, verbose),
            "state" => tables::state(&group, verbose),
            other => panic!("no table {other}"),
        };
        let notice = table
            .notice
            .map_or(String::new(), |notice| format!("notice: {notice}\n"));
        notice + &framed(&table.text)
    });
}

/// Partition 0 is well, 1 lacks a replica, 2 has no leader, 3 is led by a broker that is gone, 4 is being moved.
fn topics() -> Vec<Topic> {
    let partition = |index, leader, replicas: &[i32], isr: &[i32]| Partition {
        index,
        leader,
        replicas: replicas.to_vec(),
        isr: isr.to_vec(),
        elr: Some(Vec::new()),
        last_known_elr: None,
        reassignment: None,
    };
    let config = |name: &str, value: &str, default| (name.to_string(), value.to_string(), default);
    let mut partitions = vec![
        partition(0, 1, &[1, 2], &[1, 2]),
        partition(1, 1, &[1, 2], &[1]),
        partition(2, -1, &[2], &[]),
        partition(3, 9, &[9, 1], &[9, 1]),
        partition(4, 1, &[1, 2, 3], &[1, 2, 3]),
    ];
    partitions[4].reassignment = Some((vec![3], vec![2]));
    vec![
        Topic {
            name: "alpha".to_string(),
            id: "YlTYInzLRKKOL7CLRmQ8Ng".parse().unwrap(),
            partitions,
            configs: vec![
                config("min.insync.replicas", "2", false),
                config("retention.ms", "604800000", true),
            ],
        },
        Topic {
            name: "plain".to_string(),
            partitions: vec![partition(0, 1, &[1], &[1])],
            ..Topic::default()
        },
    ]
}

#[test]
fn topic_reports() {
    check("topic_reports.txt", |line| {
        let has = |what: &str| words(line).iter().any(|word| word == what);
        let report = Report {
            under_replicated: has("under-replicated-partitions"),
            unavailable: has("unavailable-partitions"),
            under_min_isr: has("under-min-isr-partitions"),
            at_min_isr: has("at-min-isr-partitions"),
            overrides: has("topics-with-overrides"),
        };
        let text = report.text(&topics(), &BTreeSet::from([1, 2, 3]));
        framed(&text.replace('\t', "  "))
    });
}

/// `wanted FLAGS` shows which partitions of two topics are meant, `time WORD` a time, `delete JSON` offsets.
#[test]
fn partitions_and_offsets() {
    check("partitions.txt", |line| {
        let (what, rest) = line.split_once(' ').unwrap();
        match what {
            "time" => get_offsets::time(rest).map_or_else(|why| why, |time| time.to_string()),
            "delete" => match delete_records::parse(rest) {
                Ok(offsets) => format!("{offsets:?}"),
                Err(why) => why,
            },
            _ => {
                let args: Vec<String> = words(rest);
                let wanted = get_offsets::SPEC.parse(&args).unwrap();
                let wanted = match get_offsets::Wanted::of(&wanted) {
                    Ok(wanted) => wanted,
                    Err(why) => return why,
                };
                let all = ["alpha", "delta"].map(|t| (0..6).map(move |p| (t, p)));
                let taken = all
                    .into_iter()
                    .flatten()
                    .filter(|(t, p)| wanted.takes(t, *p));
                let taken: Vec<String> = taken.map(|(t, p)| format!("{t}:{p}")).collect();
                taken.join(" ")
            }
        }
    });
}

fn quorum() -> DescribeQuorumResponse {
    let replica = |id: i32, end: i64, at: i64| ReplicaState {
        replica_id: id,
        replica_directory_id: Uuid::from_parts(0, id as u64),
        log_end_offset: end,
        last_fetch_timestamp: at,
        last_caught_up_timestamp: at,
    };
    let listener = |name: &'static str, host: &'static str, port| Listener {
        name: name.into(),
        host: host.into(),
        port,
    };
    let node = |node_id: i32, listeners| Node { node_id, listeners };
    DescribeQuorumResponse {
        topics: vec![TopicData {
            partitions: vec![PartitionData {
                leader_id: 1,
                leader_epoch: 4,
                high_watermark: 100,
                current_voters: vec![replica(2, 90, 7_000), replica(1, 101, 9_000)],
                observers: vec![replica(5, 50, -1)],
                ..Default::default()
            }],
            ..Default::default()
        }],
        nodes: vec![
            node(1, vec![listener("CONTROLLER", "h", 9093)]),
            node(2, vec![listener("A", "::1", 1), listener("B", "b", 2)]),
        ],
        ..Default::default()
    }
}

/// `quorum …`, `groups FILTER`, `features`, `update COMMAND FLAGS` and `logdirs TOPICS`.
#[test]
fn cluster_tables() {
    check("cluster_tables.txt", |line| {
        let words = words(line);
        match &words[0][..] {
            "quorum" => framed(&quorum_report(&words[1], &words[2..])),
            "features" => framed(&features::table(&api_versions())),
            "update" => update(&words[1..]),
            "logdirs" => {
                let topics = words[1..].iter().cloned().collect();
                framed(&log_dirs::json(
                    &BTreeMap::from([(1, directories())]),
                    &topics,
                ))
            }
            "groups" => {
                let args: Vec<String> = words[1..].to_vec();
                let options = groups::SPEC.parse(&args).unwrap();
                let filter = groups::Filter::of(&options).unwrap();
                let listed = |id: &str, group_type: &str, protocol: &str| Listed {
                    id: id.to_string(),
                    group_type: group_type.to_string(),
                    protocol: protocol.to_string(),
                    state: "Stable".to_string(),
                };
                let all = [
                    listed("connect", "Classic", "connect"),
                    listed("new", "Consumer", "consumer"),
                    listed("old", "Classic", "consumer"),
                    listed("share", "Share", "share"),
                    listed("simple-and-of-a-long-name", "Classic", ""),
                ];
                framed(&groups::table(&all, &filter))
            }
            other => panic!("no table {other}"),
        }
    });
}

fn quorum_report(kind: &str, more: &[String]) -> String {
    let now = more.first().map(|text| text.parse().unwrap());
    let text = match kind {
        "status" => metadata_quorum::report::status("cluster", &quorum()),
        _ => metadata_quorum::report::replication(&quorum(), now),
    };
    text.unwrap_or_else(|why| why).replace('\t', "→")
}

fn api_versions() -> ApiVersionsResponse {
    let range = |name: &'static str, max| SupportedFeatureKey {
        name: name.into(),
        min_version: if max > 9 { 7 } else { 0 },
        max_version: max,
    };
    let finalised = |name: &'static str, level| FinalizedFeatureKey {
        name: name.into(),
        max_version_level: level,
        min_version_level: level,
    };
    ApiVersionsResponse {
        supported_features: vec![range("metadata.version", 99), range("group.version", 1)],
        finalized_features: vec![finalised("metadata.version", 33)],
        finalized_features_epoch: 17,
        ..Default::default()
    }
}

/// What an update asks for, and both lines that may be said of its features.
fn update(words: &[String]) -> String {
    let mut args = vec!["--bootstrap-server".to_string(), "h:1".to_string()];
    args.extend_from_slice(words);
    let parsed = features::TOOL.parse(&args).unwrap();
    match features::update::Update::of(parsed.command, &parsed) {
        Err(why) => why,
        Ok(update) => {
            let lines = update
                .levels
                .keys()
                .map(|name| update.line(name, None) + &update.line(name, Some("Why not.")));
            format!(
                "upgrade type {}\n{}",
                update.upgrade_type,
                lines.collect::<String>()
            )
        }
    }
}

fn directories() -> Vec<DescribeLogDirsResult> {
    let partition = |index, size| DescribeLogDirsPartition {
        partition_index: index,
        partition_size: size,
        ..Default::default()
    };
    let topic = |name: &'static str, partitions| DescribeLogDirsTopic {
        name: name.into(),
        partitions,
    };
    vec![
        DescribeLogDirsResult {
            log_dir: "/d/\"1\"".into(),
            topics: vec![
                topic("beta", vec![partition(0, 5)]),
                topic("alpha", vec![partition(1, 70), partition(0, 9)]),
            ],
            ..Default::default()
        },
        DescribeLogDirsResult {
            error_code: 56,
            log_dir: "/d/2".into(),
            ..Default::default()
        },
    ]
}
