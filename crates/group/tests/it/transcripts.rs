//! Plays `tests/transcripts`: each file is a conversation with one coordinator.

use milena_base::{ErrorCode, Uuid};
use milena_group::{
    ConsumerGroupSettings, GroupConfig, GroupRequest, Marker, MigrationPolicy, Payload, Producer,
};
use milena_protocol::join_group_request::JoinGroupRequestProtocol;
use milena_protocol::leave_group_request::MemberIdentity;
use milena_protocol::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use milena_protocol::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use milena_protocol::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use milena_protocol::sync_group_request::SyncGroupRequestAssignment;
use milena_protocol::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use milena_protocol::{
    ConsumerProtocolSubscription, DeleteGroupsRequest, DescribeGroupsRequest, HeartbeatRequest,
    JoinGroupRequest, LeaveGroupRequest, ListGroupsRequest, OffsetCommitRequest,
    OffsetDeleteRequest, OffsetFetchRequest, Str, SyncGroupRequest, TxnOffsetCommitRequest,
    encode_versioned,
};
use milena_testkit::{Command, check_each};

use crate::consumer;
use crate::print::Names;
use crate::records;
use crate::world::{Seen, World};

#[test]
fn classic() {
    check_each("classic", player);
}

#[test]
fn offsets() {
    check_each("offsets", player);
}

#[test]
fn runtime() {
    check_each("runtime", player);
}

pub fn player() -> impl FnMut(&str) -> String {
    let mut player = Player {
        config: GroupConfig::default(),
        partitions: 1,
        world: None,
        names: Names::default(),
    };
    move |line| player.say(line)
}

fn within(topic: OffsetCommitRequestTopic) -> TxnOffsetCommitRequestTopic {
    let partitions = topic.partitions.into_iter();
    TxnOffsetCommitRequestTopic {
        name: topic.name,
        topic_id: topic.topic_id,
        partitions: partitions
            .map(|p| TxnOffsetCommitRequestPartition {
                partition_index: p.partition_index,
                committed_offset: p.committed_offset,
                committed_leader_epoch: p.committed_leader_epoch,
                committed_metadata: p.committed_metadata,
            })
            .collect(),
    }
}

fn txn_commit(
    c: &Command,
    generation: Option<i32>,
    group_id: Str,
    member_id: Str,
    instance: Option<Str>,
) -> GroupRequest {
    TxnOffsetCommitRequest {
        transactional_id: "tx".into(),
        group_id,
        producer_id: c.get("producer"),
        producer_epoch: c.find("epoch").unwrap_or(0),
        generation_id_or_member_epoch: generation.unwrap_or(-1),
        member_id,
        group_instance_id: instance,
        topics: commits(c).into_iter().map(within).collect(),
    }
    .into()
}

fn marker(c: &Command) -> Marker {
    Marker {
        producer: Producer {
            id: c.get("producer"),
            epoch: c.find("epoch").unwrap_or(1),
        },
        coordinator_epoch: 0,
        committed: c.find("committed").unwrap_or(true),
        transaction_version: 2,
    }
}

fn delete(c: &Command) -> GroupRequest {
    let groups_names = words(c);
    DeleteGroupsRequest { groups_names }.into()
}

/// Says a transcript's lines to a coordinator.
pub struct Player {
    config: GroupConfig,
    partitions: i32,
    world: Option<World>,
    names: Names,
}

impl Player {
    pub fn of(world: World) -> Player {
        Player {
            config: GroupConfig::default(),
            partitions: 1,
            world: Some(world),
            names: Names::default(),
        }
    }

    fn world(&mut self) -> &mut World {
        let (config, partitions) = (&self.config, self.partitions);
        self.world
            .get_or_insert_with(|| World::new(config.clone(), partitions, 7))
    }

    pub fn say(&mut self, line: &str) -> String {
        let c = Command::parse(line);
        let seen = match c.name() {
            "config" => {
                self.configure(&c);
                Vec::new()
            }
            "elect" => {
                let shard = c.find("shard").unwrap_or(0);
                self.world().elect(shard)
            }
            "elect_without_loading" => {
                let world = self.world();
                world.epoch += 1;
                let epoch = milena_base::Epoch(world.epoch);
                world.step(milena_group::Event::Elected { shard: 0, epoch })
            }
            "finish_load" => self.world().finish_load(0),
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
            "high_watermark" => {
                let offset = c.word(0);
                self.world().set_high_watermark(0, offset);
                Vec::new()
            }
            "topic" => {
                let (name, id): (String, u64) = (c.word(0), c.get("id"));
                let partitions = c.find("partitions").unwrap_or(2);
                self.world().topic_changed(&name, id, partitions)
            }
            "group_config" => {
                let group: String = c.find("group").unwrap_or("g".to_string());
                let settings = ConsumerGroupSettings {
                    session_timeout_ms: c.find("session").unwrap_or(45_000),
                    heartbeat_interval_ms: c.find("heartbeat").unwrap_or(5_000),
                    assignment_interval_ms: c.find("interval").unwrap_or(1_000),
                };
                self.world().topics.configure(&group, settings);
                Vec::new()
            }
            "delete_topic" => {
                let name: String = c.word(0);
                self.world().topic_deleted(&name)
            }
            "written" => {
                self.written(&c);
                Vec::new()
            }
            "end_transaction" => self.world().end_transaction(0, marker(&c)).1,
            _ => {
                let (version, client, request) = self.request(&c);
                self.world().request(version, &client, request).1
            }
        };
        self.print(seen)
    }

    fn print(&mut self, seen: Vec<Seen>) -> String {
        let lines = seen.into_iter().map(|seen| match seen {
            Seen::Appended(record) => format!("write {}", self.names.record(&record)),
            Seen::Within(producer, record) => {
                format!("write within {producer} {}", self.names.record(&record))
            }
            Seen::Ended(producer, committed) => {
                format!(
                    "end {producer} {}",
                    if committed { "commit" } else { "abort" }
                )
            }
            Seen::Refused(record) => format!("refused {}", self.names.record(&record)),
            Seen::Loading(shard) => format!("load {shard}"),
            Seen::Reply(token, response) => {
                format!("[{}] {}", token.0, self.names.response(&response))
            }
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    fn configure(&mut self, c: &Command) {
        let config = &mut self.config;
        let set = |key: &str, field: &mut i32| {
            *field = c.find(key).unwrap_or(*field);
        };
        set("max_size", &mut config.members_max);
        set("initial_delay", &mut config.initial_rebalance_delay_ms);
        set("new_member_timeout", &mut config.new_member_join_timeout_ms);
        set("consumer_max_size", &mut config.consumer.members_max);
        set(
            "consumer_session",
            &mut config.consumer.defaults.session_timeout_ms,
        );
        set(
            "interval",
            &mut config.consumer.defaults.assignment_interval_ms,
        );
        if let Some(first) = c.find::<String>("assignors") {
            let named = first
                .split(',')
                .filter_map(milena_group::consumer::assignor::Assignor::named);
            config.consumer.assignors = named.collect();
        }
        set("partitions", &mut self.partitions);
        if let Some(policy) = c.find::<String>("policy") {
            let policy = MigrationPolicy::named(&policy);
            config.consumer.migration = policy.expect("a policy");
        }
        if let Some(max) = c.find("metadata_max") {
            self.config.offset_metadata_max = max;
        }
        if let Some(ms) = c.find("retention_ms") {
            self.config.offsets_retention_ms = ms;
        }
        if let Some(ms) = c.find("check_ms") {
            self.config.offsets_retention_check_interval_ms = ms;
        }
        if let Some(max) = c.find("batch_bytes") {
            self.config.batch_bytes_max = max;
        }
    }

    /// Records that an Apache Kafka broker left.
    fn written(&mut self, c: &Command) {
        let producer = c.find("producer").unwrap_or(-1);
        let what: String = c.word(0);
        let payload = match what.as_str() {
            "commit" => Payload::EndTransaction { committed: true },
            "abort" => Payload::EndTransaction { committed: false },
            kind => Payload::Data(records::written(kind, c)),
        };
        self.world().write_foreign(0, producer, payload);
    }

    fn request(&self, c: &Command) -> (i16, String, GroupRequest) {
        let group = Str::from(c.find::<String>("group").unwrap_or("g".to_string()));
        let member_id = self
            .names
            .id(&c.find::<String>("member").unwrap_or_default());
        let instance = c.find::<String>("instance").map(Str::from);
        let client = c.find("client").unwrap_or("c".to_string());
        let generation: Option<i32> = c.find("generation");
        let (version, request): (i16, GroupRequest) = match c.name() {
            "join" => (
                9,
                JoinGroupRequest {
                    group_id: group,
                    session_timeout_ms: c.find("session").unwrap_or(10_000),
                    rebalance_timeout_ms: c.find("rebalance").unwrap_or(60_000),
                    member_id,
                    group_instance_id: instance,
                    protocol_type: c.find("type").unwrap_or("consumer".to_string()).into(),
                    protocols: protocols(c),
                    reason: None,
                }
                .into(),
            ),
            "sync" => (
                5,
                self.sync(c, group, member_id, instance, generation.unwrap_or(1)),
            ),
            "heartbeat" => (
                4,
                HeartbeatRequest {
                    group_id: group,
                    generation_id: generation.unwrap_or(1),
                    member_id,
                    group_instance_id: instance,
                }
                .into(),
            ),
            "leave" => (
                5,
                LeaveGroupRequest {
                    group_id: group,
                    member_id,
                    members: self.leaving(c),
                }
                .into(),
            ),
            "commit" => (
                9,
                OffsetCommitRequest {
                    group_id: group,
                    generation_id_or_member_epoch: generation.unwrap_or(-1),
                    member_id,
                    group_instance_id: instance,
                    retention_time_ms: c.find("retention").unwrap_or(-1),
                    topics: commits(c),
                }
                .into(),
            ),
            "txn_commit" => (5, txn_commit(c, generation, group, member_id, instance)),
            "fetch" => (9, fetch(c, group)),
            "fetch_old" => (7, fetch_old(c, group)),
            "delete_offsets" => (
                0,
                OffsetDeleteRequest {
                    group_id: group,
                    topics: deletions(c),
                }
                .into(),
            ),
            "list" => (
                5,
                ListGroupsRequest {
                    states_filter: strs(c, "states"),
                    types_filter: strs(c, "types"),
                }
                .into(),
            ),
            "describe" => (
                6,
                DescribeGroupsRequest {
                    groups: words(c),
                    ..Default::default()
                }
                .into(),
            ),
            "beat" => (1, consumer::beat(c, group, member_id, instance)),
            "describe_consumer" => (1, consumer::describe(words(c))),
            "delete" => (3, delete(c)),
            other => panic!("nobody knows what {other:?} is"),
        };
        (c.find("v").unwrap_or(version), client, request)
    }

    fn sync(
        &self,
        c: &Command,
        group_id: Str,
        member_id: Str,
        group_instance_id: Option<Str>,
        generation_id: i32,
    ) -> GroupRequest {
        SyncGroupRequest {
            group_id,
            generation_id,
            member_id,
            group_instance_id,
            protocol_type: Some(c.find("type").unwrap_or("consumer".to_string()).into()),
            protocol_name: Some(c.find("protocol").unwrap_or("range".to_string()).into()),
            assignments: self.assignments(c),
        }
        .into()
    }

    fn assignments(&self, c: &Command) -> Vec<SyncGroupRequestAssignment> {
        let given: Vec<String> = c.list("assign");
        let given = given
            .iter()
            .map(|a| a.split_once(':').expect("member:assignment"));
        given
            .map(|(member, assignment)| SyncGroupRequestAssignment {
                member_id: self.names.id(member),
                assignment: consumer::assignment(assignment),
            })
            .collect()
    }

    /// `members=m1,m2:instance,:instance`.
    fn leaving(&self, c: &Command) -> Vec<MemberIdentity> {
        let members: Vec<String> = c.list("members");
        let members = members.iter().map(|member| {
            let (id, instance) = member.split_once(':').unwrap_or((member, ""));
            MemberIdentity {
                member_id: self.names.id(id),
                group_instance_id: Some(instance).filter(|i| !i.is_empty()).map(Str::copy),
                reason: None,
            }
        });
        members.collect()
    }
}

/// `protocols=range:x,roundrobin:y`, or `topics=a,b` for a consumer that ranges over them; it may say `owns=a-0,b-1`.
fn protocols(c: &Command) -> Vec<JoinGroupRequestProtocol> {
    let topics: Vec<String> = c.list("topics");
    if !topics.is_empty() {
        let subscription = ConsumerProtocolSubscription {
            topics: topics.into_iter().map(Str::from).collect(),
            owned_partitions: consumer::owned_by_name(c),
            ..Default::default()
        };
        return vec![JoinGroupRequestProtocol {
            name: "range".into(),
            metadata: encode_versioned(&subscription, 1).unwrap(),
        }];
    }
    let given: Option<String> = c.find("protocols");
    let given = given.unwrap_or("range:x".to_string());
    let given = given.split(',').filter(|p| *p != "none");
    given
        .map(|protocol| {
            let (name, metadata) = protocol.split_once(':').expect("name:metadata");
            JoinGroupRequestProtocol {
                name: Str::copy(name),
                metadata: metadata.as_bytes().to_vec().into(),
            }
        })
        .collect()
}

/// Each `topic-partition`, with what follows `=`.
fn partitions(c: &Command) -> Vec<(String, i32, String)> {
    let parse = |word: &String| {
        let (partition, rest) = word.split_once(':').unwrap_or((word, ""));
        let (topic, partition) = partition.rsplit_once('-').expect("topic-partition");
        (
            topic.to_string(),
            partition.parse().expect("a number"),
            rest.to_string(),
        )
    };
    c.words().iter().map(parse).collect()
}

fn id_of(topic: &str) -> Option<Uuid> {
    topic
        .strip_prefix('#')
        .map(|id| Uuid::from_parts(0, id.parse().expect("a number")))
}

/// `commit t-0:5` or `commit t-0:5:metadata`; `#7-0:5` names the topic by id.
fn commits(c: &Command) -> Vec<OffsetCommitRequestTopic> {
    let epoch = c.find("epoch").unwrap_or(-1);
    let commits = partitions(c).into_iter().map(|(topic, partition, rest)| {
        let (offset, metadata) = match rest.split_once(':') {
            Some((offset, metadata)) => (offset, Some(metadata)),
            None => (rest.as_str(), None),
        };
        OffsetCommitRequestTopic {
            name: if id_of(&topic).is_some() {
                Str::EMPTY
            } else {
                Str::copy(&topic)
            },
            topic_id: id_of(&topic).unwrap_or(Uuid::ZERO),
            partitions: vec![OffsetCommitRequestPartition {
                partition_index: partition,
                committed_offset: offset.parse().expect("an offset"),
                committed_leader_epoch: epoch,
                committed_metadata: metadata.map(Str::copy),
            }],
        }
    });
    commits.collect()
}

fn fetch(c: &Command, group: Str) -> GroupRequest {
    let all = c.words().is_empty();
    let topics = partitions(c)
        .into_iter()
        .map(|(topic, partition, _)| OffsetFetchRequestTopics {
            name: if id_of(&topic).is_some() {
                Str::EMPTY
            } else {
                Str::copy(&topic)
            },
            topic_id: id_of(&topic).unwrap_or(Uuid::ZERO),
            partition_indexes: vec![partition],
        });
    let topics: Vec<_> = topics.collect();
    let also: Vec<Str> = strs(c, "groups");
    let groups = if also.is_empty() { vec![group] } else { also };
    OffsetFetchRequest {
        require_stable: c.find("stable").unwrap_or(false),
        groups: groups
            .into_iter()
            .map(|group_id| OffsetFetchRequestGroup {
                group_id,
                topics: Some(topics.clone()).filter(|_| !all),
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    }
    .into()
}

fn fetch_old(c: &Command, group: Str) -> GroupRequest {
    let topics = partitions(c)
        .into_iter()
        .map(|(topic, partition, _)| OffsetFetchRequestTopic {
            name: Str::from(topic),
            partition_indexes: vec![partition],
        });
    OffsetFetchRequest {
        group_id: group,
        topics: Some(topics.collect()).filter(|_| !c.words().is_empty()),
        require_stable: c.find("stable").unwrap_or(false),
        ..Default::default()
    }
    .into()
}

fn deletions(c: &Command) -> Vec<OffsetDeleteRequestTopic> {
    let deletions = partitions(c)
        .into_iter()
        .map(|(topic, partition_index, _)| OffsetDeleteRequestTopic {
            name: Str::from(topic),
            partitions: vec![OffsetDeleteRequestPartition { partition_index }],
        });
    deletions.collect()
}

fn words(c: &Command) -> Vec<Str> {
    c.words().iter().map(|word| Str::copy(word)).collect()
}

fn strs(c: &Command, key: &str) -> Vec<Str> {
    c.list::<String>(key).into_iter().map(Str::from).collect()
}
