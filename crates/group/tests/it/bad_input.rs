//! Nothing that a client sends, and nothing that stands in a log, makes the coordinator panic.

use bytes::Bytes;
use milena_base::{Prng, Uuid};
use milena_group::GroupResponse;
use milena_group::{GroupConfig, GroupRequest, KeyValue, Payload};
use milena_protocol::consumer_group_heartbeat_request::TopicPartitions;
use milena_protocol::join_group_request::JoinGroupRequestProtocol;
use milena_protocol::leave_group_request::MemberIdentity;
use milena_protocol::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use milena_protocol::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use milena_protocol::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use milena_protocol::sync_group_request::SyncGroupRequestAssignment;
use milena_protocol::{
    ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, DeleteGroupsRequest,
    DescribeGroupsRequest, HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest,
    ListGroupsRequest, Message, OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest, Str,
    SyncGroupRequest,
};
use milena_testkit::{Arbitrary, for_each_seed};

use crate::records::written;
use crate::world::{Seen, World};

/// The longest string that a request can hold.
const STRING_BYTES_MAX: usize = 32_767;

#[test]
fn requests_of_nonsense_are_answered_in_their_version() {
    let mut answers = 0;
    for_each_seed(40, |seed| {
        let mut prng = Prng::new(seed);
        let config = GroupConfig {
            initial_rebalance_delay_ms: 0,
            ..GroupConfig::default()
        };
        let mut world = World::new(config, 2, seed);
        world.topics.create("t", 1, 1);
        world.elect(0);
        world.elect(1);
        let mut nonsense = Nonsense {
            prng: &mut prng,
            members: Vec::new(),
        };
        for _ in 0..300 {
            let (version, request) = nonsense.request();
            let (_, seen) = world.request(version, "c", request);
            nonsense.learn(&seen);
            answers += encode_answers(version, seen);
            let passed = world.pass(nonsense.prng.below(2_000));
            nonsense.learn(&passed);
        }
    });
    assert!(answers > 1000);
}

/// An answer at once is in the version of the request: it must have bytes in it.
fn encode_answers(version: i16, seen: Vec<Seen>) -> usize {
    let mut answers = 0;
    let last = seen.into_iter().rev().find_map(|seen| match seen {
        Seen::Reply(_, response) => Some(response),
        _ => None,
    });
    if let Some(response) = last {
        let bytes = match response {
            // Others may have been answered by this request, each in its own version.
            GroupResponse::JoinGroup(_) | GroupResponse::SyncGroup(_) => return 1,
            GroupResponse::Heartbeat(r) => r.to_bytes(version),
            GroupResponse::LeaveGroup(r) => r.to_bytes(version),
            GroupResponse::OffsetCommit(r) => r.to_bytes(version),
            GroupResponse::OffsetFetch(r) => r.to_bytes(version),
            GroupResponse::OffsetDelete(r) => r.to_bytes(version),
            GroupResponse::ListGroups(r) => r.to_bytes(version),
            GroupResponse::DescribeGroups(r) => r.to_bytes(version),
            GroupResponse::DeleteGroups(r) => r.to_bytes(version),
            GroupResponse::ConsumerGroupHeartbeat(r) => r.to_bytes(version),
            GroupResponse::ConsumerGroupDescribe(r) => r.to_bytes(version),
            GroupResponse::TxnOffsetCommit(r) => r.to_bytes(version),
            GroupResponse::TransactionEnded(_) => return 0,
        };
        bytes.expect("an answer can be encoded");
        answers += 1;
    }
    answers
}

struct Nonsense<'a> {
    prng: &'a mut Prng,
    members: Vec<Str>,
}

impl Nonsense<'_> {
    fn learn(&mut self, seen: &[Seen]) {
        for seen in seen {
            match seen {
                Seen::Reply(_, GroupResponse::JoinGroup(response)) => {
                    self.members.push(response.member_id.clone());
                }
                Seen::Reply(_, GroupResponse::ConsumerGroupHeartbeat(response)) => {
                    self.members.extend(response.member_id.clone());
                }
                _ => {}
            }
        }
    }

    fn text(&mut self) -> Str {
        match self.prng.below(4) {
            0 => Str::EMPTY,
            1 => Str::from(self.prng.text(6)),
            _ => "g".into(),
        }
    }

    fn member(&mut self) -> Str {
        match self.members.is_empty() || self.prng.chance(1, 4) {
            true => self.text(),
            false => self.prng.pick(&self.members).clone(),
        }
    }

    fn instance(&mut self) -> Option<Str> {
        self.prng.chance(1, 3).then(|| Str::from(self.prng.text(1)))
    }

    fn number(&mut self) -> i32 {
        match self.prng.below(6) {
            0 => i32::MIN,
            1 => i32::MAX,
            2 => -1,
            _ => self.prng.below(5) as i32,
        }
    }

    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.prng.below(4)).map(|_| item(self)).collect()
    }

    fn version(&mut self, first: i16, last: i16) -> i16 {
        first + self.prng.below((last - first + 1) as u64) as i16
    }

    fn request(&mut self) -> (i16, GroupRequest) {
        match self.prng.below(17) {
            0..=2 => (self.version(0, 9), self.join().into()),
            3 => (self.version(0, 5), self.sync().into()),
            4 => (
                self.version(0, 4),
                HeartbeatRequest {
                    group_id: self.text(),
                    generation_id: self.number(),
                    member_id: self.member(),
                    group_instance_id: self.instance(),
                }
                .into(),
            ),
            5 => (
                self.version(0, 5),
                LeaveGroupRequest {
                    group_id: self.text(),
                    member_id: self.member(),
                    members: self.list(|n| MemberIdentity {
                        member_id: n.member(),
                        group_instance_id: n.instance(),
                        reason: n.instance(),
                    }),
                }
                .into(),
            ),
            6 => (self.version(2, 10), self.commit().into()),
            7 => {
                let version = self.version(1, 10);
                (version, self.fetch(version).into())
            }
            8 => (0, self.offset_delete().into()),
            9 => (
                self.version(0, 5),
                ListGroupsRequest {
                    states_filter: self.list(Self::text),
                    types_filter: self.list(Self::text),
                }
                .into(),
            ),
            10 => (
                self.version(0, 6),
                DescribeGroupsRequest {
                    groups: self.list(Self::text),
                    ..Default::default()
                }
                .into(),
            ),
            11..=14 => (self.version(0, 1), self.consumer_heartbeat().into()),
            15 => (self.version(0, 1), self.consumer_describe().into()),
            _ => (
                self.version(0, 3),
                DeleteGroupsRequest {
                    groups_names: self.list(Self::text),
                }
                .into(),
            ),
        }
    }

    fn offset_delete(&mut self) -> OffsetDeleteRequest {
        OffsetDeleteRequest {
            group_id: self.text(),
            topics: self.list(|n| OffsetDeleteRequestTopic {
                name: n.text(),
                partitions: n.list(|n| OffsetDeleteRequestPartition {
                    partition_index: n.number(),
                }),
            }),
        }
    }

    fn consumer_describe(&mut self) -> ConsumerGroupDescribeRequest {
        ConsumerGroupDescribeRequest {
            group_ids: self.list(Self::text),
            include_authorized_operations: false,
        }
    }

    fn consumer_heartbeat(&mut self) -> ConsumerGroupHeartbeatRequest {
        let joins = self.prng.chance(1, 2);
        let names = |n: &mut Self| match n.prng.chance(1, 2) {
            true => "t".into(),
            false => n.text(),
        };
        ConsumerGroupHeartbeatRequest {
            group_id: self.text(),
            member_id: self.member(),
            member_epoch: if joins { 0 } else { self.number() },
            instance_id: self.instance(),
            rack_id: self.instance(),
            rebalance_timeout_ms: self.number(),
            subscribed_topic_names: self.prng.chance(1, 2).then(|| self.list(names)),
            subscribed_topic_regex: self.prng.chance(1, 3).then(|| self.text()),
            server_assignor: self.prng.chance(1, 4).then(|| "range".into()),
            topic_partitions: match joins {
                true => Some(Vec::new()),
                false => self.prng.chance(1, 2).then(|| {
                    self.list(|n| TopicPartitions {
                        topic_id: Uuid::from_parts(0, n.prng.below(3)),
                        partitions: n.list(Self::number),
                    })
                }),
            },
        }
    }

    fn join(&mut self) -> JoinGroupRequest {
        JoinGroupRequest {
            group_id: self.text(),
            session_timeout_ms: if self.prng.chance(3, 4) {
                6000
            } else {
                self.number()
            },
            rebalance_timeout_ms: self.number(),
            member_id: self.member(),
            group_instance_id: self.instance(),
            protocol_type: if self.prng.chance(3, 4) {
                "consumer".into()
            } else {
                self.text()
            },
            // The same name may come twice, and metadata is whatever it is.
            protocols: self.list(|n| JoinGroupRequestProtocol {
                name: Str::from(n.prng.text(1)),
                metadata: n.prng.bytes(12).into(),
            }),
            reason: self.instance(),
        }
    }

    fn sync(&mut self) -> SyncGroupRequest {
        SyncGroupRequest {
            group_id: self.text(),
            generation_id: self.number(),
            member_id: self.member(),
            group_instance_id: self.instance(),
            protocol_type: self.instance(),
            protocol_name: self.instance(),
            assignments: self.list(|n| SyncGroupRequestAssignment {
                member_id: n.member(),
                assignment: n.prng.bytes(9).into(),
            }),
        }
    }

    fn commit(&mut self) -> OffsetCommitRequest {
        OffsetCommitRequest {
            group_id: self.text(),
            generation_id_or_member_epoch: self.number(),
            member_id: self.member(),
            group_instance_id: self.instance(),
            retention_time_ms: i64::from(self.number()),
            topics: self.list(|n| OffsetCommitRequestTopic {
                name: if n.prng.chance(1, 2) {
                    "t".into()
                } else {
                    n.text()
                },
                topic_id: Uuid::from_parts(0, n.prng.below(3)),
                partitions: n.list(|n| OffsetCommitRequestPartition {
                    partition_index: n.number(),
                    committed_offset: i64::from(n.number()),
                    committed_leader_epoch: n.number(),
                    committed_metadata: n.instance(),
                }),
            }),
        }
    }

    fn fetch(&mut self, version: i16) -> OffsetFetchRequest {
        if version < 8 {
            return OffsetFetchRequest {
                group_id: self.text(),
                topics: None,
                require_stable: version == 7,
                ..Default::default()
            };
        }
        OffsetFetchRequest {
            require_stable: self.prng.chance(1, 2),
            groups: self.list(|n| OffsetFetchRequestGroup {
                group_id: n.text(),
                member_id: n.instance(),
                member_epoch: n.number(),
                topics: n.prng.chance(1, 2).then(|| {
                    n.list(|n| OffsetFetchRequestTopics {
                        name: n.text(),
                        topic_id: Uuid::from_parts(0, n.prng.below(3)),
                        partition_indexes: n.list(Self::number),
                    })
                }),
            }),
            ..Default::default()
        }
    }
}

/// A client id of the greatest length still makes a member id that fits into answers and records.
#[test]
fn the_longest_client_id_can_be_a_member() {
    let config = GroupConfig {
        initial_rebalance_delay_ms: 0,
        ..GroupConfig::default()
    };
    let mut world = World::new(config, 1, 1);
    world.elect(0);
    for client in [
        "c".repeat(STRING_BYTES_MAX),
        "é".repeat(STRING_BYTES_MAX / 2),
    ] {
        let group_id = Str::copy(&client);
        let request = JoinGroupRequest {
            group_id: group_id.clone(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 60_000,
            protocol_type: "consumer".into(),
            protocols: vec![JoinGroupRequestProtocol {
                name: "range".into(),
                metadata: Bytes::from_static(b"x"),
            }],
            ..Default::default()
        };
        let (_, seen) = world.request(3, &client, request);
        let joined = seen.iter().find_map(|seen| match seen {
            Seen::Reply(_, GroupResponse::JoinGroup(response)) => Some(response.clone()),
            _ => None,
        });
        let joined = joined.expect("the first member is alone");
        assert!(joined.to_bytes(3).is_ok());
        let request = SyncGroupRequest {
            group_id,
            generation_id: joined.generation_id,
            member_id: joined.member_id,
            ..Default::default()
        };
        let before = world.log_len(0);
        let (_, seen) = world.request(3, &client, request);
        assert_eq!(world.log_len(0), before + 1);
        let Some(Seen::Reply(_, GroupResponse::SyncGroup(response))) = seen.last() else {
            panic!("the sync is answered at once");
        };
        assert_eq!(response.error_code, 0);
    }
}

/// Every record kind with its end cut off, or with a bit turned, loads or fails to; it never panics.
#[test]
fn records_of_nonsense_load_or_are_refused() {
    let kinds = [
        "offset topic=t offset=5 id=7",
        "offset topic=t tombstone=true",
        "classic members=a,b,c since=7",
        "consumer",
        "consumer_member",
        "share",
        "streams",
    ];
    let (mut loaded, mut refused) = (0, 0);
    for kind in kinds {
        let command = milena_testkit::Command::parse(&format!("written {kind}"));
        let whole = written(&command.word::<String>(0), &command);
        for broken in broken(&whole) {
            let mut world = World::new(GroupConfig::default(), 1, 1);
            world.write_foreign(0, -1, Payload::Data(broken));
            world.elect(0);
            match world.coordinator.runtime().peek(0) {
                Some(_) => loaded += 1,
                None => refused += 1,
            }
            world.pass(700_000);
        }
    }
    assert!(
        loaded > 50 && refused > 50,
        "{loaded} loaded, {refused} refused"
    );
}

fn broken(whole: &KeyValue) -> Vec<KeyValue> {
    let mut all = vec![whole.clone()];
    for length in 0..whole.key.len() {
        let key = whole.key.slice(..length);
        all.push(KeyValue {
            key,
            value: whole.value.clone(),
        });
    }
    if let Some(value) = &whole.value {
        for length in 0..value.len() {
            let value = Some(value.slice(..length));
            all.push(KeyValue {
                key: whole.key.clone(),
                value,
            });
        }
        for bit in 0..value.len() * 8 {
            let mut turned = value.to_vec();
            turned[bit / 8] ^= 1 << (bit % 8);
            let value = Some(turned.into());
            all.push(KeyValue {
                key: whole.key.clone(),
                value,
            });
        }
    }
    all
}
