//! Conversations with parsers and tables, as text files in `tests/transcripts`.

use std::collections::{BTreeMap, BTreeSet};

use milena_client::consumer::Place;
use milena_testkit::check;

use crate::console_producer::{self, lines::LineReader};
use crate::consumer_groups::collect::{Group, Listed, Member};
use crate::consumer_groups::{self, tables};
use crate::options::{Options, Spec};
use crate::say::Stop;
use crate::topics::describe::{Partition, Report, Topic};
use crate::{
    client_metrics, cluster, configs, connect, console_consumer, perf, storage, subcommands, topics,
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
            "kafka-cluster" => subcommand(&cluster::TOOL, &args),
            "kafka-storage" => subcommand(&storage::TOOL, &args),
            other => panic!("no tool {other}"),
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
