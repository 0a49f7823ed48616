//! The words of a transcript: one command a line, one fact a line back.

mod security;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use milena_base::{ErrorCode, Uuid};
use milena_controller::Decision;
use milena_image::{ConfigResource, MetadataVersion};
use milena_protocol::*;

use super::harness::{CLUSTER_ID, Harness, answer};

pub struct Script {
    harness: Harness,
    /// Texts of ids, and what a transcript calls them.
    names: BTreeMap<String, String>,
    /// Directories of each broker's last registration.
    last_epoch: BTreeMap<i32, i64>,
}

/// `word key=value flag`: values by key, and the words without `=`.
struct Words<'a> {
    plain: Vec<&'a str>,
    keyed: BTreeMap<&'a str, &'a str>,
}

impl<'a> Words<'a> {
    fn of(line: &'a str) -> Words<'a> {
        let words = line.split_whitespace();
        let (keyed, plain): (Vec<_>, Vec<_>) = words.partition(|w| w.contains('='));
        let keyed = keyed.into_iter().filter_map(|w| w.split_once('='));
        Words {
            plain,
            keyed: keyed.collect(),
        }
    }

    fn has(&self, flag: &str) -> bool {
        self.plain.contains(&flag)
    }

    fn number(&self, key: &str) -> Option<i64> {
        self.keyed.get(key).map(|n| n.parse().unwrap())
    }

    fn list(&self, key: &str) -> Option<Vec<&'a str>> {
        let list = self.keyed.get(key)?;
        Some(list.split(',').filter(|item| !item.is_empty()).collect())
    }
}

fn ids(list: &str, separator: char) -> Vec<i32> {
    let ids = list.split(separator).filter(|id| !id.is_empty());
    ids.map(|id| id.parse().unwrap()).collect()
}

/// `1:2,2:1` → one list of brokers a partition.
fn assignments(text: &str) -> Vec<Vec<i32>> {
    text.split(',').map(|replicas| ids(replicas, ':')).collect()
}

fn topic_partition(text: &str) -> (&str, i32) {
    let (topic, partition) = text.rsplit_once('-').unwrap();
    (topic, partition.parse().unwrap())
}

fn error(code: i16, message: Option<&Str>) -> String {
    let name = ErrorCode::from_code(code).unwrap().name();
    match message {
        Some(text) => format!("{name}: {text}"),
        None => name.to_owned(),
    }
}

impl Script {
    pub fn new() -> Script {
        Script::with(MetadataVersion::LATEST_PRODUCTION, "")
    }

    pub fn with(version: MetadataVersion, properties: &str) -> Script {
        Script {
            harness: Harness::new(version, properties, 42),
            names: BTreeMap::new(),
            last_epoch: BTreeMap::new(),
        }
    }

    /// What a transcript says to the machine, and what that answers.
    pub fn say(&mut self, line: &str) -> String {
        let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
        let words = Words::of(rest);
        match command {
            "restart-with" => {
                let level = rest.split(' ').next().unwrap();
                let properties = rest.strip_prefix(level).unwrap().trim().replace(' ', "\n");
                *self = Script::with(MetadataVersion::parse(level).unwrap(), &properties);
                String::new()
            }
            "elect" => self.show(String::new(), |h| h.elect()),
            "resign" => {
                self.harness
                    .controller
                    .on_resigned(words.number("leader").map(|id| id as i32));
                String::new()
            }
            "tick" => {
                let seconds: f64 = rest.trim_end_matches('s').parse().unwrap();
                let decisions = self.harness.pass(Duration::from_secs_f64(seconds));
                let shown = decisions.iter().filter(|d| !is_no_op(d));
                let shown: Vec<String> = shown.map(|d| self.records(d)).collect();
                shown.concat()
            }
            "register" => self.register(&words),
            "heartbeat" => self.heartbeat(&words),
            "unregister" => self.unregister(&words),
            "register-controller" => self.register_controller(&words),
            "unregister-controller" => self.unregister_controller(&words),
            "create" => self.create(&words),
            "delete" => self.delete(&words),
            "partitions" => self.partitions(&words),
            "describe" => self.describe(&words),
            "alter-configs" => self.alter_configs(&words),
            "replace-configs" => self.replace_configs(&words),
            "quotas" => self.quotas(rest),
            "scram" => self.scram(rest),
            "alter-partition" => self.alter_partition(&words),
            "assign-dir" => self.assign_dir(&words),
            "elect-leaders" => self.elect_leaders(&words),
            "reassign" => self.reassign(&words),
            "reassignments" => self.reassignments(),
            "features" => self.features(&words),
            "producer-ids" => self.producer_ids(&words),
            other => panic!("no command {other}"),
        }
    }

    fn show(&mut self, told: String, act: impl FnOnce(&mut Harness) -> Decision) -> String {
        let decision = act(&mut self.harness);
        let mut out = told;
        out.push_str(&self.records(&decision));
        out
    }

    /// Facts of the answer, then the records.
    fn tell(&mut self, facts: &[String], decision: &Decision) -> String {
        let mut out = String::new();
        for fact in facts {
            let _ = writeln!(out, "{}", self.readable(fact));
        }
        out.push_str(&self.records(decision));
        out
    }

    fn records(&mut self, decision: &Decision) -> String {
        let mut out = String::new();
        for (record, version) in &decision.records {
            if let MetadataRecord::Topic(topic) = record {
                let name = format!("@{}", topic.name);
                self.names.insert(topic.topic_id.to_string(), name);
            }
            let json = record.json(*version).unwrap();
            let line = format!("+ {} v{version} {json}", record.type_name());
            let _ = writeln!(out, "{}", self.readable(&line));
        }
        out
    }

    fn readable(&self, text: &str) -> String {
        let reserved = [
            (Uuid::DIRECTORY_MIGRATING, "MIGRATING"),
            (Uuid::DIRECTORY_UNASSIGNED, "UNASSIGNED"),
        ];
        let mut text = text.to_owned();
        for (id, name) in &self.names {
            text = text.replace(id, name);
        }
        for (id, name) in reserved {
            text = text.replace(&id.to_string(), name);
        }
        text
    }

    /// The id that a transcript calls so.
    fn id(&mut self, name: &str) -> Uuid {
        let mut low = 1000;
        for byte in name.bytes() {
            low = low * 256 + u64::from(byte);
        }
        let id = Uuid::from_parts(77, low);
        self.names.insert(id.to_string(), name.to_owned());
        id
    }

    fn epoch(&self, words: &Words, broker: i32) -> i64 {
        let last = self.last_epoch.get(&broker).copied();
        words.number("epoch").or(last).unwrap_or(-1)
    }

    fn register(&mut self, words: &Words) -> String {
        let broker_id: i32 = words.plain[0].parse().unwrap();
        let dirs = words.list("dirs").unwrap_or_default();
        let log_dirs = dirs.iter().map(|name| self.id(name)).collect();
        let max = words.number("max").unwrap_or(33) as i16;
        let feature = |(name, range): (&&'static str, &milena_image::VersionRange)| {
            broker_registration_request::Feature {
                name: Str::from(*name),
                min_supported_version: range.min,
                max_supported_version: if *name == "metadata.version" {
                    max
                } else {
                    range.max
                },
            }
        };
        let request = BrokerRegistrationRequest {
            broker_id,
            cluster_id: Str::copy(words.keyed.get("cluster").unwrap_or(&CLUSTER_ID)),
            incarnation_id: self.id(words.keyed.get("incarnation").unwrap_or(&"i1")),
            listeners: Vec::new(),
            features: if words.has("no-features") {
                Vec::new()
            } else {
                milena_image::supported_features()
                    .iter()
                    .map(feature)
                    .collect()
            },
            rack: words.keyed.get("rack").map(|rack| Str::copy(rack)),
            is_migrating_zk_broker: words.has("zk"),
            log_dirs,
            previous_broker_epoch: words.number("previous").unwrap_or(-1),
        };
        let mut decision = self.harness.ask(request, 4);
        let response: BrokerRegistrationResponse = answer(decision.clone());
        for (record, _) in &mut decision.records {
            if let MetadataRecord::RegisterBroker(record) = record {
                record.features.clear();
            }
        }
        let mut facts = vec![error(response.error_code, None)];
        if response.error_code == 0 {
            self.last_epoch.insert(broker_id, response.broker_epoch);
            facts[0] = format!("epoch={}", response.broker_epoch);
        }
        self.tell(&facts, &decision)
    }

    fn heartbeat(&mut self, words: &Words) -> String {
        let broker_id: i32 = words.plain[0].parse().unwrap();
        let end = self.harness.end.0;
        let offline = words.list("offline").unwrap_or_default();
        let cordoned = words.list("cordoned");
        let request = BrokerHeartbeatRequest {
            broker_id,
            broker_epoch: self.epoch(words, broker_id),
            current_metadata_offset: words.number("offset").unwrap_or(end - 1),
            want_fence: words.has("fence"),
            want_shut_down: words.has("shutdown"),
            offline_log_dirs: offline.iter().map(|name| self.id(name)).collect(),
            cordoned_log_dirs: cordoned.map(|c| c.iter().map(|name| self.id(name)).collect()),
        };
        let decision = self.harness.ask(request, 2);
        let response: BrokerHeartbeatResponse = answer(decision.clone());
        let fact = match response.error_code {
            0 => format!(
                "caught_up={} fenced={} shut_down={}",
                response.is_caught_up, response.is_fenced, response.should_shut_down
            ),
            code => error(code, None),
        };
        self.tell(&[fact], &decision)
    }

    fn unregister(&mut self, words: &Words) -> String {
        let broker_id = words.plain[0].parse().unwrap();
        let decision = self.harness.ask(UnregisterBrokerRequest { broker_id }, 0);
        let response: UnregisterBrokerResponse = answer(decision.clone());
        let fact = error(response.error_code, response.error_message.as_ref());
        self.tell(&[fact], &decision)
    }

    fn register_controller(&mut self, words: &Words) -> String {
        let request = ControllerRegistrationRequest {
            controller_id: words.plain[0].parse().unwrap(),
            incarnation_id: self.id(words.keyed.get("incarnation").unwrap_or(&"i1")),
            ..ControllerRegistrationRequest::default()
        };
        let decision = self.harness.ask(request, 0);
        let response: ControllerRegistrationResponse = answer(decision.clone());
        let fact = error(response.error_code, response.error_message.as_ref());
        self.tell(&[fact], &decision)
    }

    fn unregister_controller(&mut self, words: &Words) -> String {
        let controller_id = words.plain[0].parse().unwrap();
        let decision = self
            .harness
            .ask(UnregisterControllerRequest { controller_id }, 0);
        let response: UnregisterControllerResponse = answer(decision.clone());
        let fact = error(response.error_code, response.error_message.as_ref());
        self.tell(&[fact], &decision)
    }

    fn create(&mut self, words: &Words) -> String {
        use create_topics_request::*;
        let assigned = words.keyed.get("assign").map(|text| assignments(text));
        let assignments = assigned.into_iter().flatten().enumerate();
        let first = words.number("first").unwrap_or(0) as i32;
        let assignments: Vec<_> = assignments
            .map(|(at, broker_ids)| CreatableReplicaAssignment {
                partition_index: first + at as i32,
                broker_ids,
            })
            .collect();
        let configs = words.keyed.iter().filter(|(key, _)| key.contains('.'));
        let topic = |name: &str| CreatableTopic {
            name: Str::copy(name.trim_matches('"')),
            num_partitions: words.number("partitions").unwrap_or(-1) as i32,
            replication_factor: words.number("factor").unwrap_or(-1) as i16,
            assignments: assignments.clone(),
            configs: configs
                .clone()
                .map(|(name, value)| CreatableTopicConfig {
                    name: Str::copy(name),
                    value: (*value != "null").then(|| Str::copy(value)),
                })
                .collect(),
        };
        let names = words.plain.iter().filter(|w| **w != "validate");
        let request = CreateTopicsRequest {
            topics: names.map(|name| topic(name)).collect(),
            validate_only: words.has("validate"),
            ..CreateTopicsRequest::default()
        };
        let decision = self.harness.ask(request, 7);
        let response: CreateTopicsResponse = answer(decision.clone());
        let facts: Vec<String> = response
            .topics
            .iter()
            .map(|t| match t.error_code {
                0 => {
                    let configs = t.configs.iter().flatten();
                    let set = configs.filter(|c| c.config_source != 5);
                    let show = |c: &create_topics_response::CreatableTopicConfigs| {
                        let value = c.value.as_deref().unwrap_or("null");
                        format!(" {}={value} ({})", c.name, c.config_source)
                    };
                    let set: String = set.map(show).collect();
                    let (count, factor) = (t.num_partitions, t.replication_factor);
                    format!("{} created: {count} partition(s) × {factor}{set}", t.name)
                }
                code => format!("{:?} {}", t.name, error(code, t.error_message.as_ref())),
            })
            .collect();
        self.tell(&facts, &decision)
    }

    fn delete(&mut self, words: &Words) -> String {
        let mut topics = Vec::new();
        for word in &words.plain {
            let (name, topic_id) = match word.strip_prefix('@') {
                Some("nothing") => (None, Uuid::ZERO),
                Some(name) => (None, self.topic_id(name)),
                None => (Some(Str::copy(word)), Uuid::ZERO),
            };
            topics.push(delete_topics_request::DeleteTopicState { name, topic_id });
        }
        let request = DeleteTopicsRequest {
            topics,
            ..DeleteTopicsRequest::default()
        };
        let decision = self.harness.ask(request, 6);
        let response: DeleteTopicsResponse = answer(decision.clone());
        let fact = |r: &delete_topics_response::DeletableTopicResult| {
            let name = r.name.as_deref().unwrap_or("null");
            format!(
                "{name} {} {}",
                r.topic_id,
                error(r.error_code, r.error_message.as_ref())
            )
        };
        let facts: Vec<String> = response.responses.iter().map(fact).collect();
        self.tell(&facts, &decision)
    }

    /// Of a topic that is there, else one made of its name.
    fn topic_id(&mut self, name: &str) -> Uuid {
        let known = self.harness.controller.image().topics.id(name);
        known.unwrap_or_else(|| self.id(name))
    }

    fn partitions(&mut self, words: &Words) -> String {
        use create_partitions_request::*;
        let assigned = words.keyed.get("assign").map(|text| assignments(text));
        let assigned = assigned.map(|lists| {
            let assignment = |broker_ids| CreatePartitionsAssignment { broker_ids };
            lists.into_iter().map(assignment).collect()
        });
        let names = words.plain.iter().filter(|w| **w != "validate");
        let request = CreatePartitionsRequest {
            topics: names
                .map(|name| CreatePartitionsTopic {
                    name: Str::copy(name),
                    count: words.number("count").unwrap() as i32,
                    assignments: assigned.clone(),
                })
                .collect(),
            validate_only: words.has("validate"),
            ..CreatePartitionsRequest::default()
        };
        let decision = self.harness.ask(request, 3);
        let response: CreatePartitionsResponse = answer(decision.clone());
        let results = response.results.iter();
        let facts: Vec<String> = results
            .map(|r| {
                format!(
                    "{} {}",
                    r.name,
                    error(r.error_code, r.error_message.as_ref())
                )
            })
            .collect();
        self.tell(&facts, &decision)
    }

    fn describe(&mut self, words: &Words) -> String {
        let topic = self.harness.controller.image().topics.named(words.plain[0]);
        let mut out = String::new();
        for (id, p) in topic.into_iter().flat_map(|t| t.partitions.iter()) {
            let _ = writeln!(
                out,
                "{id}: leader={} epoch={}/{} replicas={:?} isr={:?} elr={:?} last_elr={:?} {:?}",
                p.leader,
                p.leader_epoch,
                p.partition_epoch,
                p.replicas,
                p.isr,
                p.elr,
                p.last_known_elr,
                p.leader_recovery_state
            );
        }
        out
    }

    /// `topic:alpha` or `broker:1` or `broker:` or `7:name`.
    fn resource(text: &str) -> (i8, Str) {
        let (kind, name) = text.split_once(':').unwrap();
        let kind = match kind {
            "topic" => ConfigResource::TOPIC,
            "broker" => ConfigResource::BROKER,
            "group" => ConfigResource::GROUP,
            "client-metrics" => ConfigResource::CLIENT_METRICS,
            other => other.parse().unwrap(),
        };
        (kind, Str::copy(name))
    }

    /// `topic:alpha key=value key-= key+=value key-=value`: a lone `key-=` deletes.
    fn alter_configs(&mut self, words: &Words) -> String {
        use incremental_alter_configs_request::*;
        let op = |(key, value): (&&str, &&str)| {
            let (name, op) = match key.as_bytes().last() {
                Some(b'+') => (&key[..key.len() - 1], 2),
                Some(b'-') if value.is_empty() => (&key[..key.len() - 1], 1),
                Some(b'-') => (&key[..key.len() - 1], 3),
                _ => (*key, 0),
            };
            AlterableConfig {
                name: Str::copy(name),
                config_operation: op,
                value: Some(Str::copy(value)),
            }
        };
        let names = words.plain.iter().filter(|w| **w != "validate");
        let resource = |text: &&str| {
            let (resource_type, resource_name) = Script::resource(text);
            AlterConfigsResource {
                resource_type,
                resource_name,
                configs: words.keyed.iter().map(op).collect(),
            }
        };
        let request = IncrementalAlterConfigsRequest {
            resources: names.map(resource).collect(),
            validate_only: words.has("validate"),
        };
        let decision = self.harness.ask(request, 1);
        let response: IncrementalAlterConfigsResponse = answer(decision.clone());
        let results = response.responses.iter();
        let facts: Vec<String> = results
            .map(|r| {
                let told = error(r.error_code, r.error_message.as_ref());
                format!("{}:{} {told}", r.resource_type, r.resource_name)
            })
            .collect();
        self.tell(&facts, &decision)
    }

    fn replace_configs(&mut self, words: &Words) -> String {
        use alter_configs_request::*;
        let (resource_type, resource_name) = Script::resource(words.plain[0]);
        let configs = words.keyed.iter().map(|(name, value)| AlterableConfig {
            name: Str::copy(name),
            value: Some(Str::copy(value)),
        });
        let resource = AlterConfigsResource {
            resource_type,
            resource_name,
            configs: configs.collect(),
        };
        let request = AlterConfigsRequest {
            resources: vec![resource],
            validate_only: false,
        };
        let decision = self.harness.ask(request, 2);
        let response: AlterConfigsResponse = answer(decision.clone());
        let result = &response.responses[0];
        self.tell(
            &[error(result.error_code, result.error_message.as_ref())],
            &decision,
        )
    }

    fn alter_partition(&mut self, words: &Words) -> String {
        use alter_partition_request::*;
        let (topic, index) = topic_partition(words.plain[0]);
        let topic_id = self.topic_id(topic);
        let image = self.harness.controller.image();
        let known = image.topics.partition(topic_id, index).cloned();
        let known = known.unwrap_or_default();
        let leader = i64::from(known.leader);
        let broker_id = words.number("broker").unwrap_or(leader) as i32;
        let epochs: Vec<i64> = words.list("epochs").map_or(Vec::new(), |list| {
            list.iter().map(|e| e.parse().unwrap()).collect()
        });
        let isr = words.list("isr").unwrap_or_default();
        let state = |(at, id): (usize, &&str)| BrokerState {
            broker_id: id.parse().unwrap(),
            broker_epoch: epochs.get(at).copied().unwrap_or(-1),
        };
        let partition = PartitionData {
            partition_index: index,
            leader_epoch: words
                .number("leader_epoch")
                .unwrap_or(known.leader_epoch.into()) as i32,
            new_isr: Vec::new(),
            new_isr_with_epochs: isr.iter().enumerate().map(state).collect(),
            leader_recovery_state: i8::from(words.has("recovering")),
            partition_epoch: words
                .number("partition_epoch")
                .unwrap_or(known.partition_epoch.into()) as i32,
        };
        let request = AlterPartitionRequest {
            broker_id,
            broker_epoch: self.epoch(words, broker_id),
            topics: vec![TopicData {
                topic_id,
                partitions: vec![partition],
            }],
        };
        let decision = self.harness.ask(request, 3);
        let response: AlterPartitionResponse = answer(decision.clone());
        let fact = match response.topics.first().map(|t| &t.partitions[0]) {
            None => error(response.error_code, None),
            Some(p) if p.error_code != 0 => error(p.error_code, None),
            Some(p) => format!(
                "leader={} epoch={}/{} isr={:?} recovery={}",
                p.leader_id, p.leader_epoch, p.partition_epoch, p.isr, p.leader_recovery_state
            ),
        };
        self.tell(&[fact], &decision)
    }

    fn assign_dir(&mut self, words: &Words) -> String {
        use assign_replicas_to_dirs_request::*;
        let broker_id = words.number("broker").unwrap() as i32;
        let mut topics = Vec::new();
        for word in &words.plain {
            let (topic, partition_index) = topic_partition(word);
            topics.push(TopicData {
                topic_id: self.topic_id(topic),
                partitions: vec![PartitionData { partition_index }],
            });
        }
        let request = AssignReplicasToDirsRequest {
            broker_id,
            broker_epoch: self.epoch(words, broker_id),
            directories: vec![DirectoryData {
                id: self.id(words.keyed["dir"]),
                topics,
            }],
        };
        let decision = self.harness.ask(request, 0);
        let response: AssignReplicasToDirsResponse = answer(decision.clone());
        let mut facts = vec![error(response.error_code, None)];
        for topic in response.directories.iter().flat_map(|d| &d.topics) {
            for partition in &topic.partitions {
                let told = error(partition.error_code, None);
                facts.push(format!(
                    "{}-{} {told}",
                    topic.topic_id, partition.partition_index
                ));
            }
        }
        self.tell(&facts, &decision)
    }

    fn elect_leaders(&mut self, words: &Words) -> String {
        use elect_leaders_request::TopicPartitions;
        let wanted = words.plain.iter().filter(|w| w.contains('-'));
        let topics = wanted.map(|word| {
            let (topic, partition) = topic_partition(word);
            TopicPartitions {
                topic: Str::copy(topic),
                partitions: vec![partition],
            }
        });
        let request = ElectLeadersRequest {
            election_type: match words.plain[0] {
                "preferred" => 0,
                "unclean" => 1,
                other => other.parse().unwrap(),
            },
            topic_partitions: (!words.has("all")).then(|| topics.collect()),
            timeout_ms: 0,
        };
        let decision = self.harness.ask(request, 2);
        let response: ElectLeadersResponse = answer(decision.clone());
        let mut facts = vec![error(response.error_code, None)];
        for topic in &response.replica_election_results {
            for p in &topic.partition_result {
                let told = error(p.error_code, p.error_message.as_ref());
                facts.push(format!("{}-{} {told}", topic.topic, p.partition_id));
            }
        }
        self.tell(&facts, &decision)
    }

    /// `alpha-0 to=2,3` or `alpha-0 cancel`.
    fn reassign(&mut self, words: &Words) -> String {
        use alter_partition_reassignments_request::*;
        let (topic, partition_index) = topic_partition(words.plain[0]);
        let partition = ReassignablePartition {
            partition_index,
            replicas: words.keyed.get("to").map(|list| ids(list, ',')),
        };
        let request = AlterPartitionReassignmentsRequest {
            allow_replication_factor_change: !words.has("same-factor"),
            topics: vec![ReassignableTopic {
                name: Str::copy(topic),
                partitions: vec![partition],
            }],
            ..AlterPartitionReassignmentsRequest::default()
        };
        let decision = self.harness.ask(request, 1);
        let response: AlterPartitionReassignmentsResponse = answer(decision.clone());
        let p = &response.responses[0].partitions[0];
        self.tell(&[error(p.error_code, p.error_message.as_ref())], &decision)
    }

    fn reassignments(&mut self) -> String {
        let request = ListPartitionReassignmentsRequest::default();
        let decision = self.harness.ask(request, 0);
        let response: ListPartitionReassignmentsResponse = answer(decision.clone());
        let mut facts = Vec::new();
        for topic in &response.topics {
            for p in &topic.partitions {
                facts.push(format!(
                    "{}-{} replicas={:?} adding={:?} removing={:?}",
                    topic.name,
                    p.partition_index,
                    p.replicas,
                    p.adding_replicas,
                    p.removing_replicas
                ));
            }
        }
        self.tell(&facts, &decision)
    }

    /// `name=level` each; `safe`, `unsafe`, `validate`, `v1`.
    fn features(&mut self, words: &Words) -> String {
        use update_features_request::FeatureUpdateKey;
        let upgrade_type = match () {
            () if words.has("safe") => 2,
            () if words.has("unsafe") => 3,
            () if words.has("strange") => 0,
            () => 1,
        };
        let updates = words.keyed.iter().map(|(name, level)| FeatureUpdateKey {
            feature: Str::copy(name),
            max_version_level: level.parse().unwrap(),
            allow_downgrade: false,
            upgrade_type,
        });
        let request = UpdateFeaturesRequest {
            feature_updates: updates.collect(),
            validate_only: words.has("validate"),
            ..UpdateFeaturesRequest::default()
        };
        let decision = self
            .harness
            .ask(request, if words.has("v1") { 1 } else { 2 });
        let response: UpdateFeaturesResponse = answer(decision.clone());
        let mut facts = vec![error(response.error_code, response.error_message.as_ref())];
        for result in &response.results {
            let told = error(result.error_code, result.error_message.as_ref());
            facts.push(format!("{} {told}", result.feature));
        }
        self.tell(&facts, &decision)
    }

    fn producer_ids(&mut self, words: &Words) -> String {
        let broker_id = words.number("broker").unwrap() as i32;
        let request = AllocateProducerIdsRequest {
            broker_id,
            broker_epoch: self.epoch(words, broker_id),
        };
        let decision = self.harness.ask(request, 0);
        let response: AllocateProducerIdsResponse = answer(decision.clone());
        let fact = match response.error_code {
            0 => format!(
                "{} from {}",
                response.producer_id_len, response.producer_id_start
            ),
            code => error(code, None),
        };
        self.tell(&[fact], &decision)
    }
}

fn is_no_op(decision: &Decision) -> bool {
    let no_op = |(record, _): &(MetadataRecord, i16)| matches!(record, MetadataRecord::NoOp(_));
    decision.records.iter().all(no_op)
}
