//! Plays `tests/transcripts`: each file is a conversation with one coordinator.
//!
//! `t-0` after a request is a partition; `p=1000:0` a producer's id and epoch.

use std::fmt::Write;

use milena_base::{ErrorCode, TopicPartition};
use milena_protocol::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use milena_protocol::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, DescribeTransactionsRequest, EndTxnRequest,
    InitProducerIdRequest, ListTransactionsRequest, Str, TransactionCoordinatorKey,
    TransactionCoordinatorValue,
};
use milena_testkit::{Command, check_each};
use milena_txn::{KeyValue, Markers, TxnConfig, TxnRequest, TxnResponse};

use crate::world::{Seen, World};

#[test]
fn transcripts() {
    check_each(".", || {
        let mut player = Player {
            config: TxnConfig::default(),
            world: None,
        };
        move |line: &str| player.say(line)
    });
}

struct Player {
    config: TxnConfig,
    world: Option<World>,
}

impl Player {
    fn world(&mut self) -> &mut World {
        let config = &self.config;
        self.world
            .get_or_insert_with(|| World::new(config.clone(), 1))
    }

    fn say(&mut self, line: &str) -> String {
        let c = Command::parse(line);
        let seen = match c.name() {
            "config" => {
                self.configure(&c);
                Vec::new()
            }
            "elect" => self.world().elect(0),
            "resign" => self.world().resign(0),
            "tick" => {
                let millis = c.millis(&c.word::<String>(0));
                self.world().pass(millis)
            }
            "hold" => {
                self.world().hold = true;
                Vec::new()
            }
            "release" => self.world().release(),
            "refuse" => {
                let name: String = c.word(0);
                let error = ErrorCode::ALL.iter().find(|e| e.name() == name);
                self.world().refuse = error.copied().filter(|e| !e.is_none());
                Vec::new()
            }
            "written" => self.world().write_markers(),
            "ids" => {
                match c.word::<String>(0).as_str() {
                    "none" => self.world().cluster.use_up(),
                    _ => self.world().cluster.grant(10),
                }
                Vec::new()
            }
            "level" => {
                let level = c.word(0);
                let cluster = &self.world().cluster;
                cluster
                    .version
                    .store(level, std::sync::atomic::Ordering::Relaxed);
                Vec::new()
            }
            "spin" => self.spin("x", c.word(0)),
            "spin_id" => self.spin(&c.word::<String>(0), c.word(1)),
            _ => {
                let (version, request) = request(&c);
                self.world().request(version, request).1
            }
        };
        let lines: Vec<String> = seen.into_iter().map(print).collect();
        lines.join("\n")
    }

    /// Has producers start until one has this epoch.
    fn spin(&mut self, id: &str, epoch: i16) -> Vec<Seen> {
        loop {
            let mut seen = self.say_init(id);
            if let Some(Seen::Reply(_, response)) = seen.pop()
                && let TxnResponse::InitProducerId(r) = &*response
                && r.producer_epoch == epoch
            {
                return Vec::new();
            }
        }
    }

    fn say_init(&mut self, id: &str) -> Vec<Seen> {
        let (version, request) = request(&Command::parse(&format!("init id={id}")));
        self.world().request(version, request).1
    }

    fn configure(&mut self, c: &Command) {
        let config = &mut self.config;
        let value: i64 = c.word(1);
        match c.word::<String>(0).as_str() {
            "timeout_max" => config.timeout_ms_max = value as i32,
            "id_expiration" => config.id_expiration_ms = value,
            other => panic!("no such setting: {other}"),
        }
    }
}

fn request(c: &Command) -> (i16, TxnRequest) {
    let id: Str = c.find::<String>("id").unwrap_or("x".to_string()).into();
    let (producer_id, producer_epoch) = producer(c);
    match c.name() {
        "init" => {
            let request = InitProducerIdRequest {
                transactional_id: Some(id),
                transaction_timeout_ms: c.find("timeout").unwrap_or(60_000),
                producer_id,
                producer_epoch,
                enable2_pc: c.find("two_phase").unwrap_or(false),
                ..Default::default()
            };
            (c.find("v").unwrap_or(5), request.into())
        }
        "add" | "verify" => add_partitions(c, id, (producer_id, producer_epoch)),
        "add_offsets" => {
            let request = AddOffsetsToTxnRequest {
                transactional_id: id,
                producer_id,
                producer_epoch,
                group_id: "g".into(),
            };
            (c.find("v").unwrap_or(4), request.into())
        }
        "commit" | "abort" => {
            let request = EndTxnRequest {
                transactional_id: id,
                producer_id,
                producer_epoch,
                committed: c.name() == "commit",
            };
            (c.find("v").unwrap_or(5), request.into())
        }
        "list" => {
            let request = ListTransactionsRequest {
                state_filters: c
                    .list::<String>("states")
                    .into_iter()
                    .map(Str::from)
                    .collect(),
                producer_id_filters: c.list("producers"),
                duration_filter: c.find("duration").unwrap_or(-1),
                transactional_id_pattern: c.find::<String>("pattern").map(Str::from),
            };
            (2, request.into())
        }
        "describe" => {
            let ids = c.list::<String>("ids");
            let request = DescribeTransactionsRequest {
                transactional_ids: ids.into_iter().map(Str::from).collect(),
            };
            (0, request.into())
        }
        other => panic!("no such request: {other}"),
    }
}

fn add_partitions(
    c: &Command,
    id: Str,
    (producer_id, producer_epoch): (i64, i16),
) -> (i16, TxnRequest) {
    let version = c.find("v").unwrap_or(5);
    let topics = topics(c);
    let request = match version >= 4 {
        true => AddPartitionsToTxnRequest {
            transactions: vec![AddPartitionsToTxnTransaction {
                transactional_id: id,
                producer_id,
                producer_epoch,
                verify_only: c.name() == "verify",
                topics,
            }],
            ..Default::default()
        },
        false => AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: id,
            v3_and_below_producer_id: producer_id,
            v3_and_below_producer_epoch: producer_epoch,
            v3_and_below_topics: topics,
            ..Default::default()
        },
    };
    (version, request.into())
}

fn producer(c: &Command) -> (i64, i16) {
    let text = c.find::<String>("p").unwrap_or("-1:-1".to_string());
    let (id, epoch) = text.split_once(':').expect("id:epoch");
    (id.parse().unwrap(), epoch.parse().unwrap())
}

fn topics(c: &Command) -> Vec<AddPartitionsToTxnTopic> {
    let mut topics: Vec<AddPartitionsToTxnTopic> = Vec::new();
    for word in c.words() {
        let (name, partition) = word.rsplit_once('-').expect("topic-partition");
        let partition: i32 = partition.parse().unwrap();
        match topics.last_mut().filter(|t| t.name == name) {
            Some(topic) => topic.partitions.push(partition),
            None => topics.push(AddPartitionsToTxnTopic {
                name: Str::copy(name),
                partitions: vec![partition],
            }),
        }
    }
    topics
}

fn print(seen: Seen) -> String {
    match seen {
        Seen::Appended(record) => format!("write {}", record_text(&record)),
        Seen::Refused(record) => format!("refused {}", record_text(&record)),
        Seen::Loading(shard) => format!("load {shard}"),
        Seen::Markers(markers) => markers_text(&markers),
        Seen::Reply(token, response) => format!("[{}] {}", token.0, response_text(&response)),
    }
}

fn markers_text(markers: &Markers) -> String {
    let m = &markers.marker;
    let partitions = markers.partitions.iter().map(TopicPartition::to_string);
    format!(
        "markers {} {} p={}:{} coordinator_epoch={} tv={} [{}]",
        markers.transactional_id,
        if m.committed { "commit" } else { "abort" },
        m.producer.id,
        m.producer.epoch,
        m.coordinator_epoch,
        m.transaction_version,
        partitions.collect::<Vec<_>>().join(" ")
    )
}

fn record_text(record: &KeyValue) -> String {
    let TransactionCoordinatorKey::TransactionLog(key) =
        TransactionCoordinatorKey::decode(&record.key).expect("a key");
    let Some(value) = &record.value else {
        return format!("{} tombstone", key.transactional_id);
    };
    let (TransactionCoordinatorValue::TransactionLog(v), version) =
        TransactionCoordinatorValue::decode(0, value).expect("a value");
    let mut text = format!(
        "{} v{version} status={} p={}:{} timeout={} start={} update={}",
        key.transactional_id,
        v.transaction_status,
        v.producer_id,
        v.producer_epoch,
        v.transaction_timeout_ms,
        v.transaction_start_timestamp_ms,
        v.transaction_last_update_timestamp_ms
    );
    if version >= 1 {
        let _ = write!(
            text,
            " previous={} next={} tv={}",
            v.previous_producer_id, v.next_producer_id, v.client_transaction_version
        );
    }
    match &v.transaction_partitions {
        None => text += " partitions=null",
        Some(topics) => {
            let topic = |t: &milena_protocol::transaction_log_value::PartitionsSchema| {
                format!("{}{:?}", t.topic, t.partition_ids)
            };
            let topics: Vec<String> = topics.iter().map(topic).collect();
            let _ = write!(text, " partitions=[{}]", topics.join(" "));
        }
    }
    text
}

fn code(code: i16) -> &'static str {
    ErrorCode::from_code(code).expect("a known code").name()
}

fn response_text(response: &TxnResponse) -> String {
    match response {
        TxnResponse::InitProducerId(r) if r.error_code != 0 => {
            format!("InitProducerId {}", code(r.error_code))
        }
        TxnResponse::InitProducerId(r) => {
            format!("InitProducerId p={}:{}", r.producer_id, r.producer_epoch)
        }
        TxnResponse::AddOffsetsToTxn(r) => format!("AddOffsetsToTxn {}", code(r.error_code)),
        TxnResponse::EndTxn(r) if r.error_code != 0 => format!("EndTxn {}", code(r.error_code)),
        TxnResponse::EndTxn(r) => format!("EndTxn p={}:{}", r.producer_id, r.producer_epoch),
        TxnResponse::AddPartitionsToTxn(r) => {
            let mut text = "AddPartitionsToTxn".to_string();
            let batched = r
                .results_by_transaction
                .iter()
                .flat_map(|t| &t.topic_results);
            for topic in batched.chain(&r.results_by_topic_v3_and_below) {
                for p in &topic.results_by_partition {
                    let error = code(p.partition_error_code);
                    let _ = write!(text, " {}-{}={error}", topic.name, p.partition_index);
                }
            }
            text
        }
        TxnResponse::ListTransactions(r) => {
            let mut text = format!("ListTransactions {}", code(r.error_code));
            for t in &r.transaction_states {
                let _ = write!(
                    text,
                    " [{} {} {}]",
                    t.transactional_id, t.producer_id, t.transaction_state
                );
            }
            if !r.unknown_state_filters.is_empty() {
                let _ = write!(text, " unknown={:?}", r.unknown_state_filters);
            }
            text
        }
        TxnResponse::DescribeTransactions(r) => {
            let states = r.transaction_states.iter();
            let states = states.map(|state| match state.error_code {
                0 => format!(
                    "{} {} p={}:{} timeout={} start={} {:?}",
                    state.transactional_id,
                    state.transaction_state,
                    state.producer_id,
                    state.producer_epoch,
                    state.transaction_timeout_ms,
                    state.transaction_start_time_ms,
                    state
                        .topics
                        .iter()
                        .map(|t| (&t.topic, &t.partitions))
                        .collect::<Vec<_>>()
                ),
                error => format!("{} {}", state.transactional_id, code(error)),
            });
            states.collect::<Vec<_>>().join("\n")
        }
    }
}
