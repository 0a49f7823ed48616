//! Groups with members of both protocols, which come, leave, die and change over, while the group changes its kind
//! with them. What must hold: no partition is with two members at once; the group's sums are right; and when nothing
//! changes any more every partition is with somebody.

use std::collections::{BTreeMap, BTreeSet};

use milena_base::{ErrorCode, Prng};
use milena_group::{Group, GroupConfig, GroupResponse, Token};
use milena_protocol::consumer_group_heartbeat_request::TopicPartitions;
use milena_protocol::consumer_protocol_assignment::TopicPartition;
use milena_protocol::join_group_request::JoinGroupRequestProtocol;
use milena_protocol::leave_group_request::MemberIdentity;
use milena_protocol::sync_group_request::SyncGroupRequestAssignment;
use milena_protocol::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, ConsumerProtocolAssignment,
    ConsumerProtocolSubscription, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, Str, SyncGroupRequest, SyncGroupResponse, decode_versioned,
    encode_versioned,
};
use milena_testkit::for_each_seed;

use crate::world::{Seen, World};

const PARTITIONS: i32 = 5;
const ROUND_MS: u64 = 400;
/// Rounds in which things change, and rounds at most until the group is settled.
const RESTLESS: u64 = 60;
const SETTLING: u64 = 400;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Next {
    Join,
    Sync,
    Beat,
    /// A request is under way.
    Wait,
}

#[derive(Debug)]
struct Client {
    classic: bool,
    id: Str,
    /// Or the epoch of the member.
    generation: i32,
    owned: BTreeSet<i32>,
    next: Next,
    /// What a leader assigns.
    members: Vec<Str>,
}

struct Mixed {
    world: World,
    prng: Prng,
    clients: BTreeMap<u32, Client>,
    made: u32,
    waiting: BTreeMap<Token, u32>,
    changes: u64,
    last_kind: Option<&'static str>,
}

#[test]
fn members_of_both_protocols_share_a_group() {
    let (mut changes, mut requests) = (0, 0);
    for_each_seed(60, |seed| {
        let mut mixed = Mixed::new(seed);
        for _ in 0..RESTLESS {
            mixed.change();
            mixed.round();
        }
        mixed.settle();
        changes += mixed.changes;
        requests += mixed.world.now_ms / ROUND_MS;
    });
    println!("{changes} changes of kind in {requests} rounds");
    assert!(changes > 60, "groups change their kind: {changes}");
}

impl Mixed {
    fn new(seed: u64) -> Mixed {
        let mut config = GroupConfig {
            initial_rebalance_delay_ms: 0,
            ..GroupConfig::default()
        };
        config.consumer.defaults.assignment_interval_ms = 0;
        config.consumer.defaults.session_timeout_ms = 6_000;
        let mut world = World::new(config, 1, seed);
        world.topics.create("t", 1, PARTITIONS);
        world.elect(0);
        Mixed {
            world,
            prng: Prng::new(seed),
            clients: BTreeMap::new(),
            made: 0,
            waiting: BTreeMap::new(),
            changes: 0,
            last_kind: None,
        }
    }

    fn change(&mut self) {
        match self.prng.below(8) {
            0..=1 if self.clients.len() < 7 => self.add(),
            2 => self.leave(),
            3 => _ = self.some().map(|at| self.kill(at)),
            _ => {}
        }
    }

    fn some(&mut self) -> Option<u32> {
        let ids: Vec<u32> = self.clients.keys().copied().collect();
        let at = self.prng.below(ids.len().max(1) as u64) as usize;
        ids.get(at).copied()
    }

    fn add(&mut self) {
        self.made += 1;
        let classic = self.prng.chance(1, 2);
        self.clients.insert(
            self.made,
            Client {
                classic,
                id: match classic {
                    true => Str::EMPTY,
                    false => Str::from(format!("n{}", self.made)),
                },
                generation: 0,
                owned: BTreeSet::new(),
                next: Next::Join,
                members: Vec::new(),
            },
        );
    }

    fn kill(&mut self, at: u32) {
        self.clients.remove(&at);
        self.waiting.retain(|_, client| *client != at);
    }

    fn leave(&mut self) {
        let Some(at) = self.some() else { return };
        let client = &self.clients[&at];
        if client.id.is_empty() {
            return;
        }
        let id = client.id.clone();
        let seen = match client.classic {
            true => {
                let request = LeaveGroupRequest {
                    group_id: "g".into(),
                    members: vec![MemberIdentity {
                        member_id: id,
                        ..Default::default()
                    }],
                    ..Default::default()
                };
                self.world.request(5, "c", request).1
            }
            false => {
                let request = ConsumerGroupHeartbeatRequest {
                    group_id: "g".into(),
                    member_id: id,
                    member_epoch: -1,
                    ..Default::default()
                };
                self.world.request(1, "c", request).1
            }
        };
        self.kill(at);
        self.learn(seen);
    }

    /// Everybody does what it has to, in some order, and some time passes.
    fn round(&mut self) {
        let mut order: Vec<u32> = self.clients.keys().copied().collect();
        while !order.is_empty() {
            let at = order.swap_remove(self.prng.below(order.len() as u64) as usize);
            if self.clients.contains_key(&at) {
                self.act(at);
            }
        }
        let seen = self.world.pass(ROUND_MS);
        self.learn(seen);
    }

    fn act(&mut self, at: u32) {
        let client = self.clients.get_mut(&at).expect("it is there");
        let (token, seen) = match (client.classic, client.next) {
            (_, Next::Wait) => return,
            (false, _) => {
                let request = beat(client);
                self.world.request(1, "c", request)
            }
            (true, Next::Join) => {
                // It gives everything up before it joins.
                client.owned.clear();
                let request = join(client);
                self.world.request(9, "c", request)
            }
            (true, Next::Sync) => {
                let request = sync(client);
                self.world.request(5, "c", request)
            }
            (true, Next::Beat) => {
                let request = HeartbeatRequest {
                    group_id: "g".into(),
                    generation_id: client.generation,
                    member_id: client.id.clone(),
                    ..Default::default()
                };
                self.world.request(4, "c", request)
            }
        };
        self.clients.get_mut(&at).expect("it is there").next = Next::Wait;
        self.waiting.insert(token, at);
        self.learn(seen);
    }

    fn learn(&mut self, seen: Vec<Seen>) {
        for seen in seen {
            let Seen::Reply(token, response) = seen else {
                continue;
            };
            let Some(at) = self.waiting.remove(&token) else {
                continue;
            };
            let client = self.clients.get_mut(&at).expect("the living wait");
            match response {
                GroupResponse::JoinGroup(answer) => joined(client, answer),
                GroupResponse::SyncGroup(answer) => synced(client, &answer),
                GroupResponse::Heartbeat(answer) => {
                    client.next = match answer.error_code {
                        0 => Next::Beat,
                        code => refused(client, code),
                    };
                }
                GroupResponse::ConsumerGroupHeartbeat(answer) => beaten(client, answer),
                other => panic!("nobody asked for {other:?}"),
            }
        }
        self.check();
    }

    fn check(&mut self) {
        let (shard, _) = self.world.coordinator.runtime().peek(0).expect("it is led");
        let kind = shard.groups().next().map(|(_, group)| match group {
            Group::Consumer(group) => {
                group.check();
                "consumer"
            }
            Group::Classic(group) => {
                group.check();
                "classic"
            }
            Group::Other(_) => "other",
        });
        if kind.is_some() && self.last_kind.is_some() && kind != self.last_kind {
            self.changes += 1;
        }
        self.last_kind = kind.or(self.last_kind);
        let mut owners = BTreeMap::new();
        for (at, client) in &self.clients {
            for partition in &client.owned {
                let other = owners.insert(*partition, at);
                assert_eq!(other, None, "{partition} is with two: {:#?}", self.clients);
            }
        }
    }

    fn settle(&mut self) {
        if self.clients.is_empty() {
            self.add();
        }
        for _ in 0..SETTLING {
            self.round();
            let owned: usize = self.clients.values().map(|client| client.owned.len()).sum();
            let calm = self
                .clients
                .values()
                .all(|client| client.next == Next::Beat);
            if owned == PARTITIONS as usize && calm {
                return;
            }
        }
        panic!("the group does not settle: {:#?}", self.clients);
    }
}

fn join(client: &Client) -> JoinGroupRequest {
    let subscription = ConsumerProtocolSubscription {
        topics: vec!["t".into()],
        ..Default::default()
    };
    JoinGroupRequest {
        group_id: "g".into(),
        session_timeout_ms: 6_000,
        rebalance_timeout_ms: 6_000,
        member_id: client.id.clone(),
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".into(),
            metadata: encode_versioned(&subscription, 1).expect("short"),
        }],
        ..Default::default()
    }
}

/// Nobody has anything while the leader assigns: it deals all out anew.
fn sync(client: &Client) -> SyncGroupRequest {
    let members = client.members.len().max(1);
    let dealt = client.members.iter().enumerate().map(|(at, member)| {
        let partitions = (0..PARTITIONS).filter(|p| *p as usize % members == at);
        let assignment = ConsumerProtocolAssignment {
            assigned_partitions: vec![TopicPartition {
                topic: "t".into(),
                partitions: partitions.collect(),
            }],
            user_data: None,
        };
        SyncGroupRequestAssignment {
            member_id: member.clone(),
            assignment: encode_versioned(&assignment, 1).expect("short"),
        }
    });
    SyncGroupRequest {
        group_id: "g".into(),
        generation_id: client.generation,
        member_id: client.id.clone(),
        protocol_type: Some("consumer".into()),
        protocol_name: Some("range".into()),
        assignments: dealt.collect(),
        ..Default::default()
    }
}

fn beat(client: &Client) -> ConsumerGroupHeartbeatRequest {
    let owned = TopicPartitions {
        topic_id: milena_base::Uuid::from_parts(0, 1),
        partitions: client.owned.iter().copied().collect(),
    };
    ConsumerGroupHeartbeatRequest {
        group_id: "g".into(),
        member_id: client.id.clone(),
        member_epoch: client.generation,
        rebalance_timeout_ms: 6_000,
        subscribed_topic_names: Some(vec!["t".into()]),
        topic_partitions: Some(match client.owned.is_empty() {
            true => Vec::new(),
            false => vec![owned],
        }),
        ..Default::default()
    }
}

fn joined(client: &mut Client, answer: JoinGroupResponse) {
    if answer.error_code != 0 {
        if !answer.member_id.is_empty() {
            client.id = answer.member_id;
        }
        client.next = refused(client, answer.error_code);
        return;
    }
    client.id = answer.member_id;
    client.generation = answer.generation_id;
    client.members = answer.members.into_iter().map(|m| m.member_id).collect();
    client.next = Next::Sync;
}

fn synced(client: &mut Client, answer: &SyncGroupResponse) {
    if answer.error_code != 0 {
        client.next = refused(client, answer.error_code);
        return;
    }
    let read = decode_versioned::<ConsumerProtocolAssignment>(&answer.assignment);
    let (assignment, _) = read.expect("an assignment");
    let topics = assignment.assigned_partitions.into_iter();
    client.owned = topics.flat_map(|topic| topic.partitions).collect();
    client.next = Next::Beat;
}

fn beaten(client: &mut Client, answer: ConsumerGroupHeartbeatResponse) {
    if answer.error_code != 0 {
        client.owned.clear();
        client.generation = 0;
        client.next = Next::Join;
        return;
    }
    client.generation = answer.member_epoch;
    if let Some(assignment) = answer.assignment {
        let topics = assignment.topic_partitions.into_iter();
        client.owned = topics.flat_map(|topic| topic.partitions).collect();
    }
    client.next = Next::Beat;
}

/// What a classic member does after an error; it gives up its id where nobody knows it.
fn refused(client: &mut Client, code: i16) -> Next {
    client.owned.clear();
    if code == ErrorCode::UnknownMemberId.code() {
        client.id = Str::EMPTY;
    }
    Next::Join
}
