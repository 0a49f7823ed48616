//! Random conversations: members that behave, members that vanish, a log that refuses and lags, a coordinator that
//! moves. Checked after every step; at the end everything heals and has to converge.
//!
//! What holds for classic groups: every request is answered exactly once; a member gets what the leader of its
//! generation assigned to it, so nobody else has it in that generation; recorded generations never go back; a
//! committed offset read back is the last one acknowledged, or a later one whose fate is unknown; before a partition
//! is loaded nothing is told; static members keep their share over a restart.

use std::collections::{BTreeMap, BTreeSet};

use milena_base::Prng;
use milena_group::{Group, GroupConfig, GroupResponse, KeyValue, Token, classic::ClassicState};
use milena_protocol::join_group_request::JoinGroupRequestProtocol;
use milena_protocol::leave_group_request::MemberIdentity;
use milena_protocol::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use milena_protocol::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use milena_protocol::sync_group_request::SyncGroupRequestAssignment;
use milena_protocol::{
    GroupCoordinatorKey, GroupCoordinatorValue, HeartbeatRequest, JoinGroupRequest,
    JoinGroupResponse, LeaveGroupRequest, OffsetCommitRequest, OffsetFetchRequest, Str,
    SyncGroupRequest, SyncGroupResponse,
};
use milena_testkit::{Arbitrary, for_each_seed};

use crate::print::code;
use crate::world::{Seen, World};

const GROUP: &str = "g";
const SESSION_MS: i32 = 10_000;
const REBALANCE_MS: i32 = 15_000;
const HEARTBEAT_MS: u64 = 3_000;

#[derive(Clone, Debug, PartialEq)]
enum Phase {
    Out,
    Joining(Token),
    /// In a generation, to be synced.
    Joined(Vec<(Str, String)>),
    Syncing(Token),
    Stable,
}

#[derive(Debug)]
struct Client {
    instance: Option<Str>,
    version: i16,
    member_id: Str,
    generation: i32,
    phase: Phase,
    /// What it was last assigned, and in which generation.
    assignment: Option<(i32, String)>,
    heartbeat: Option<Token>,
    last_heartbeat_ms: u64,
    alive: bool,
}

impl Client {
    fn identity(&self) -> String {
        self.instance
            .as_ref()
            .map_or(self.member_id.to_string(), |i| i.to_string())
    }
}

/// What a committed offset may be: the last acknowledged, or one sent later whose fate is unknown.
#[derive(Debug, Default)]
struct OffsetModel {
    sent: i64,
    acknowledged: i64,
    unknown: BTreeSet<i64>,
}

struct Run {
    world: World,
    prng: Prng,
    clients: Vec<Client>,
    owners: BTreeMap<Token, usize>,
    commits: BTreeMap<Token, i64>,
    fetches: BTreeMap<Token, bool>,
    others: BTreeSet<Token>,
    offset: OffsetModel,
    recorded_generation: i32,
    rebalances: u64,
    refused: u64,
    led: bool,
}

#[test]
fn random_conversations_keep_what_groups_promise() {
    let (mut rebalances, mut commits) = (0, 0);
    for_each_seed(150, |seed| {
        let mut run = Run::new(seed);
        for _ in 0..400 {
            run.chaos();
            run.check();
        }
        run.heal();
        rebalances += run.rebalances;
        commits += run.offset.acknowledged;
    });
    // The test proves nothing if nothing happened.
    assert!(rebalances > 100, "only {rebalances} generations");
    assert!(commits > 100, "only {commits} commits");
}

impl Run {
    fn new(seed: u64) -> Run {
        let mut prng = Prng::new(seed);
        let config = GroupConfig {
            initial_rebalance_delay_ms: 500,
            members_max: if prng.chance(1, 4) { 3 } else { i32::MAX },
            ..GroupConfig::default()
        };
        let world = World::new(config, 1, seed);
        world.topics.create("t", 1, 1);
        let clients = (0..4).map(|i| Client {
            instance: (i >= 2).then(|| Str::from(format!("static-{i}"))),
            version: *prng.pick(&[2, 3, 4, 5, 7, 8, 9]),
            member_id: Str::EMPTY,
            generation: -1,
            phase: Phase::Out,
            assignment: None,
            heartbeat: None,
            last_heartbeat_ms: 0,
            alive: true,
        });
        let clients = clients.map(|mut client| {
            if client.instance.is_some() {
                client.version = client.version.max(5);
            }
            client
        });
        let mut run = Run {
            world,
            clients: clients.collect(),
            prng,
            owners: BTreeMap::new(),
            commits: BTreeMap::new(),
            fetches: BTreeMap::new(),
            others: BTreeSet::new(),
            offset: OffsetModel::default(),
            recorded_generation: 0,
            rebalances: 0,
            refused: 0,
            led: true,
        };
        let seen = run.world.elect(0);
        run.take(seen);
        run
    }

    // The world.

    fn chaos(&mut self) {
        match self.prng.below(100) {
            0..=2 => self.world.refuse = Some(*self.prng.pick(&REFUSALS)),
            3..=9 => self.world.refuse = None,
            10..=12 => self.world.hold = true,
            13..=17 => {
                let seen = self.world.release();
                self.take(seen);
            }
            18..=19 => self.move_away(),
            20..=24 => self.come_back(),
            25..=27 => self.crash(),
            28..=30 => self.leave(),
            31..=40 => self.commit(),
            41..=50 => self.fetch(),
            51..=52 => self.stray(),
            _ => self.behave(1000),
        }
    }

    fn move_away(&mut self) {
        let seen = self.world.resign(0);
        self.led = false;
        self.take(seen);
        assert!(self.owners.is_empty() && self.commits.is_empty() && self.fetches.is_empty());
        if self.prng.chance(1, 2) {
            // What was not committed is gone with the old leader.
            self.world.truncate(0);
        }
        self.world.hold = false;
        self.world.refuse = None;
    }

    fn come_back(&mut self) {
        if self.led {
            return;
        }
        self.recorded_generation = 0;
        self.led = true;
        let seen = self.world.elect(0);
        self.take(seen);
    }

    /// Somebody is gone; a static member may come back under its instance id.
    fn crash(&mut self) {
        let at = self.prng.below(self.clients.len() as u64) as usize;
        let client = &mut self.clients[at];
        client.alive = !client.alive;
        client.phase = Phase::Out;
        client.member_id = Str::EMPTY;
        client.heartbeat = None;
        self.owners.retain(|_, owner| *owner != at);
        self.others.clear();
    }

    fn behave(&mut self, millis_max: u64) {
        for at in 0..self.clients.len() {
            if self.clients[at].alive {
                self.act(at);
            }
        }
        let millis = self.prng.below(millis_max) + 1;
        let seen = self.world.pass(millis);
        self.take(seen);
    }

    // The members.

    fn act(&mut self, at: usize) {
        let now_ms = self.world.now_ms;
        match self.clients[at].phase.clone() {
            Phase::Out => self.join(at),
            Phase::Joined(members) => self.sync(at, &members),
            Phase::Stable | Phase::Syncing(_)
                if self.clients[at].heartbeat.is_none()
                    && now_ms >= self.clients[at].last_heartbeat_ms + HEARTBEAT_MS =>
            {
                self.heartbeat(at);
            }
            _ => {}
        }
    }

    fn join(&mut self, at: usize) {
        let client = &self.clients[at];
        let request = JoinGroupRequest {
            group_id: GROUP.into(),
            session_timeout_ms: SESSION_MS,
            rebalance_timeout_ms: REBALANCE_MS,
            member_id: client.member_id.clone(),
            group_instance_id: client.instance.clone(),
            protocol_type: "consumer".into(),
            protocols: ["range", "sticky"]
                .map(|name| JoinGroupRequestProtocol {
                    name: name.into(),
                    metadata: b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff".as_slice().into(),
                })
                .to_vec(),
            reason: None,
        };
        let version = client.version;
        let (token, seen) = self.world.request(version, "c", request);
        self.clients[at].phase = Phase::Joining(token);
        self.owners.insert(token, at);
        self.take(seen);
    }

    fn sync(&mut self, at: usize, members: &[(Str, String)]) {
        let client = &self.clients[at];
        let generation = client.generation;
        let assignments = members
            .iter()
            .map(|(member_id, identity)| SyncGroupRequestAssignment {
                member_id: member_id.clone(),
                assignment: format!("{generation}/{identity}").into_bytes().into(),
            });
        let request = SyncGroupRequest {
            group_id: GROUP.into(),
            generation_id: generation,
            member_id: client.member_id.clone(),
            group_instance_id: client.instance.clone(),
            assignments: assignments.collect(),
            ..Default::default()
        };
        let (token, seen) = self.world.request(4, "c", request);
        self.clients[at].phase = Phase::Syncing(token);
        self.owners.insert(token, at);
        self.take(seen);
    }

    fn heartbeat(&mut self, at: usize) {
        let client = &self.clients[at];
        let request = HeartbeatRequest {
            group_id: GROUP.into(),
            generation_id: client.generation,
            member_id: client.member_id.clone(),
            group_instance_id: client.instance.clone(),
        };
        let (token, seen) = self.world.request(4, "c", request);
        self.clients[at].heartbeat = Some(token);
        self.clients[at].last_heartbeat_ms = self.world.now_ms;
        self.owners.insert(token, at);
        self.take(seen);
    }

    fn leave(&mut self) {
        let at = self.prng.below(self.clients.len() as u64) as usize;
        let client = &mut self.clients[at];
        if !client.alive || client.phase != Phase::Stable {
            return;
        }
        let request = LeaveGroupRequest {
            group_id: GROUP.into(),
            members: vec![MemberIdentity {
                member_id: client.member_id.clone(),
                group_instance_id: client.instance.clone(),
                reason: Some("enough".into()),
            }],
            ..Default::default()
        };
        client.phase = Phase::Out;
        client.member_id = Str::EMPTY;
        client.heartbeat = None;
        self.owners.retain(|_, owner| *owner != at);
        let (token, seen) = self.world.request(5, "c", request);
        self.others.insert(token);
        self.take(seen);
    }

    /// Somebody who has nothing to say here.
    fn stray(&mut self) {
        let request = SyncGroupRequest {
            group_id: GROUP.into(),
            generation_id: self.prng.below(20) as i32 - 2,
            member_id: Str::from(self.prng.text(3)),
            ..Default::default()
        };
        let (token, seen) = self.world.request(3, "stray", request);
        self.others.insert(token);
        self.take(seen);
        assert!(
            !self.others.contains(&token),
            "strangers are answered at once"
        );
    }

    // Offsets.

    /// A commit by the member that is asked, or by nobody.
    fn commit(&mut self) {
        let at = self.prng.below(self.clients.len() as u64) as usize;
        let client = &self.clients[at];
        self.offset.sent += 1;
        let value = self.offset.sent;
        let (member_id, generation) = (client.member_id.clone(), client.generation);
        let request = OffsetCommitRequest {
            group_id: GROUP.into(),
            generation_id_or_member_epoch: generation,
            member_id: member_id.clone(),
            group_instance_id: client.instance.clone(),
            topics: vec![OffsetCommitRequestTopic {
                name: "t".into(),
                partitions: vec![OffsetCommitRequestPartition {
                    committed_offset: value,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let before = self.world.log_len(0);
        let current = self
            .classic()
            .map(|(_, generation, members)| (generation, members));
        let (token, seen) = self.world.request(8, "c", request);
        if self.world.log_len(0) > before && generation >= 0 {
            let (now, members) = current.expect("only a group takes a member's commit");
            assert_eq!(generation, now, "a commit of another generation");
            assert!(members.contains(&member_id), "a commit of a stranger");
        }
        self.commits.insert(token, value);
        self.take(seen);
    }

    fn fetch(&mut self) {
        let stable = self.prng.chance(1, 2);
        let request = OffsetFetchRequest {
            groups: vec![OffsetFetchRequestGroup {
                group_id: GROUP.into(),
                topics: Some(vec![OffsetFetchRequestTopics {
                    name: "t".into(),
                    partition_indexes: vec![0],
                    ..Default::default()
                }]),
                ..Default::default()
            }],
            require_stable: stable,
            ..Default::default()
        };
        let (token, seen) = self.world.request(9, "c", request);
        self.fetches.insert(token, stable);
        self.take(seen);
    }

    // Answers.

    fn take(&mut self, seen: Vec<Seen>) {
        for seen in seen {
            match seen {
                Seen::Appended(record) => self.recorded(&record),
                Seen::Refused(_) => self.refused += 1,
                Seen::Within(..) | Seen::Ended(..) => unreachable!("nobody asks for transactions"),
                Seen::Loading(_) => {}
                Seen::Reply(token, response) => self.answered(token, response),
            }
        }
    }

    fn recorded(&mut self, record: &KeyValue) {
        let Ok(GroupCoordinatorKey::GroupMetadata(_)) = GroupCoordinatorKey::decode(&record.key)
        else {
            return;
        };
        let Some(value) = &record.value else {
            self.recorded_generation = 0;
            return;
        };
        let (value, _) = GroupCoordinatorValue::decode(2, value).unwrap();
        if let GroupCoordinatorValue::GroupMetadata(value) = value {
            assert!(
                value.generation >= self.recorded_generation,
                "the generation went back"
            );
            self.recorded_generation = value.generation;
        }
    }

    fn answered(&mut self, token: Token, response: GroupResponse) {
        match response {
            GroupResponse::OffsetCommit(response) => {
                let value = self.commits.remove(&token).expect("answered once");
                self.committed(value, response.topics[0].partitions[0].error_code);
            }
            GroupResponse::OffsetFetch(response) => {
                self.fetches.remove(&token).expect("answered once");
                self.fetched(&response.groups[0]);
            }
            response => match self.owners.remove(&token) {
                Some(at) => self.told(at, token, response),
                // Of one that is gone, or a stranger.
                None => _ = self.others.remove(&token),
            },
        }
    }

    fn committed(&mut self, value: i64, error: i16) {
        match code(error) {
            "NONE" => {
                self.offset.acknowledged = self.offset.acknowledged.max(value);
                let acknowledged = self.offset.acknowledged;
                self.offset
                    .unknown
                    .retain(|unknown| *unknown > acknowledged);
            }
            "COORDINATOR_NOT_AVAILABLE" | "NOT_COORDINATOR" => {
                self.offset.unknown.insert(value);
            }
            "UNKNOWN_MEMBER_ID"
            | "ILLEGAL_GENERATION"
            | "REBALANCE_IN_PROGRESS"
            | "FENCED_INSTANCE_ID" => {}
            other => panic!("a commit is answered {other}"),
        }
    }

    fn fetched(
        &mut self,
        group: &milena_protocol::offset_fetch_response::OffsetFetchResponseGroup,
    ) {
        if group.error_code != 0 {
            assert_eq!(code(group.error_code), "NOT_COORDINATOR");
            return;
        }
        let value = group.topics[0].partitions[0].committed_offset.max(0);
        let under_way = self.commits.values().any(|sent| *sent == value);
        assert!(
            value == self.offset.acknowledged || self.offset.unknown.contains(&value) || under_way,
            "read {value}, which is not {:?}",
            self.offset
        );
    }

    fn told(&mut self, at: usize, token: Token, response: GroupResponse) {
        match response {
            GroupResponse::JoinGroup(response) => self.joined(at, response),
            GroupResponse::SyncGroup(response) => self.synced(at, &response),
            GroupResponse::Heartbeat(response) => {
                if self.clients[at].heartbeat == Some(token) {
                    self.clients[at].heartbeat = None;
                }
                self.heard(at, response.error_code);
            }
            other => panic!("nobody asked for {other:?}"),
        }
    }

    fn joined(&mut self, at: usize, response: JoinGroupResponse) {
        let client = &mut self.clients[at];
        client.phase = Phase::Out;
        match code(response.error_code) {
            "NONE" => {}
            "MEMBER_ID_REQUIRED" => return client.member_id = response.member_id,
            "UNKNOWN_MEMBER_ID" | "FENCED_INSTANCE_ID" | "GROUP_MAX_SIZE_REACHED" => {
                return client.member_id = Str::EMPTY;
            }
            "COORDINATOR_NOT_AVAILABLE" | "NOT_COORDINATOR" | "REBALANCE_IN_PROGRESS" => return,
            other => panic!("a join is answered {other}"),
        }
        assert!(!response.member_id.is_empty());
        client.member_id = response.member_id.clone();
        client.generation = response.generation_id;
        client.last_heartbeat_ms = self.world.now_ms;
        let leads = response.leader == response.member_id && !response.skip_assignment;
        assert_eq!(
            !response.members.is_empty(),
            response.leader == response.member_id
        );
        let members = response
            .members
            .into_iter()
            .filter(|_| leads)
            .map(|member| {
                let identity = member
                    .group_instance_id
                    .as_ref()
                    .unwrap_or(&member.member_id);
                (member.member_id.clone(), identity.to_string())
            });
        client.phase = Phase::Joined(members.collect());
        self.rebalances += u64::from(leads);
    }

    fn synced(&mut self, at: usize, response: &SyncGroupResponse) {
        let client = &mut self.clients[at];
        if response.error_code != 0 {
            return self.heard(at, response.error_code);
        }
        let share = String::from_utf8(response.assignment.to_vec()).unwrap();
        let expected = format!("{}/{}", client.generation, client.identity());
        assert_eq!(share, expected, "somebody else's share");
        client.assignment = Some((client.generation, share));
        client.phase = Phase::Stable;
    }

    /// What a member makes of an error.
    fn heard(&mut self, at: usize, error: i16) {
        let client = &mut self.clients[at];
        match code(error) {
            "NONE" => {}
            "REBALANCE_IN_PROGRESS" => client.phase = Phase::Out,
            "ILLEGAL_GENERATION" | "UNKNOWN_MEMBER_ID" | "FENCED_INSTANCE_ID" => {
                client.phase = Phase::Out;
                client.member_id = Str::EMPTY;
            }
            "COORDINATOR_NOT_AVAILABLE" | "NOT_COORDINATOR" => {
                if matches!(client.phase, Phase::Syncing(_)) {
                    client.phase = Phase::Out;
                }
            }
            other => panic!("a member is told {other}"),
        }
        let phase = &client.phase;
        if *phase == Phase::Out {
            // Its other requests belong to the old life.
            client.heartbeat = None;
            self.owners.retain(|_, owner| *owner != at);
        }
    }

    // Checks.

    fn classic(&self) -> Option<(ClassicState, i32, BTreeSet<Str>)> {
        let (shard, _) = self.world.coordinator.runtime().peek(0)?;
        let group = shard.groups().find(|(id, _)| **id == GROUP)?.1;
        match group {
            Group::Classic(group) => {
                group.check();
                let members = group.member_ids().cloned().collect();
                Some((group.state(), group.generation(), members))
            }
            Group::Consumer(_) | Group::Other(_) => panic!("nobody made a group of another kind"),
        }
    }

    fn check(&self) {
        self.classic();
    }

    /// Without faults, all members that are there get into one generation within bounded time.
    fn heal(&mut self) {
        self.come_back();
        self.world.refuse = None;
        let seen = self.world.release();
        self.take(seen);
        self.clients
            .iter_mut()
            .for_each(|client| client.alive = true);
        let end = self.world.now_ms + 120_000;
        while self.world.now_ms < end {
            self.behave(500);
            self.check();
        }
        let (state, generation, members) = self.classic().expect("there is a group");
        let within = self.clients.iter().filter(|c| c.phase == Phase::Stable);
        let within: Vec<&Client> = within.collect();
        assert_eq!(state, ClassicState::Stable);
        let full = members.len() == 3 && within.len() == 3;
        assert!(
            within.len() == self.clients.len() || full,
            "{:?}",
            self.clients
        );
        for client in within {
            assert_eq!(client.generation, generation);
            assert!(members.contains(&client.member_id));
            assert!(client.assignment.is_some());
        }
        self.restart_static();
        self.fetch();
        let seen = self.world.resign(0);
        self.take(seen);
        assert!(self.owners.is_empty(), "unanswered: {:?}", self.owners);
        assert!(self.commits.is_empty() && self.fetches.is_empty());
    }

    /// A static member comes back within its session: nobody rebalances, and it has what it had.
    fn restart_static(&mut self) {
        let found = self
            .clients
            .iter()
            .position(|c| c.instance.is_some() && c.phase == Phase::Stable);
        let Some(at) = found else {
            return;
        };
        let share = self.clients[at].assignment.clone();
        self.clients[at].member_id = Str::EMPTY;
        self.clients[at].phase = Phase::Out;
        self.clients[at].heartbeat = None;
        let before = self.classic().expect("it is there").1;
        self.join(at);
        self.act(at);
        assert_eq!(self.clients[at].phase, Phase::Stable);
        assert_eq!(self.clients[at].assignment, share);
        assert_eq!(self.classic().expect("it is there").1, before);
    }
}

use milena_base::ErrorCode;

const REFUSALS: [ErrorCode; 3] = [
    ErrorCode::NotLeaderOrFollower,
    ErrorCode::NotEnoughReplicas,
    ErrorCode::KafkaStorageError,
];
