//! Consumer groups of KIP-848 against a whole node, by heartbeats on a raw connection: who has which partition, what
//! happens to those of a member that falls silent, and the keys that say how long that takes.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant};

use milena_base::ErrorCode;
use milena_protocol::consumer_group_heartbeat_request::TopicPartitions;
use milena_protocol::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use milena_protocol::join_group_request::JoinGroupRequestProtocol;
use milena_protocol::{
    ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
    FindCoordinatorRequest, IncrementalAlterConfigsRequest, JoinGroupRequest, Str,
};

use crate::node::{Home, PATIENCE};
use crate::wire::Wire;

const GROUP: &str = "g";
/// The code of a group among the resources that have configs.
const GROUP_RESOURCE: i8 = 32;

/// A member as a client has it: it moves to its assignment at once.
struct Member {
    id: Str,
    epoch: i32,
    owned: BTreeSet<i32>,
}

impl Member {
    fn new(id: &str) -> Member {
        Member {
            id: Str::copy(id),
            epoch: 0,
            owned: BTreeSet::new(),
        }
    }

    fn request(&self, topic: (&str, milena_base::Uuid)) -> ConsumerGroupHeartbeatRequest {
        let owned = TopicPartitions {
            topic_id: topic.1,
            partitions: self.owned.iter().copied().collect(),
        };
        ConsumerGroupHeartbeatRequest {
            group_id: GROUP.into(),
            member_id: self.id.clone(),
            member_epoch: self.epoch,
            rebalance_timeout_ms: 10_000,
            subscribed_topic_names: Some(vec![Str::copy(topic.0)]),
            topic_partitions: Some(match self.owned.is_empty() {
                true => Vec::new(),
                false => vec![owned],
            }),
            ..Default::default()
        }
    }
}

/// All members that are alive; a dead one keeps what it had until the group takes it away.
struct Group {
    wire: Wire,
    topic: (&'static str, milena_base::Uuid),
    members: Vec<Member>,
    beats: usize,
}

impl Group {
    fn beat(&mut self) {
        for member in &mut self.members {
            let answer = self.wire.call(&member.request(self.topic), 1);
            assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
            member.epoch = answer.member_epoch;
            if let Some(assignment) = answer.assignment {
                let topics = assignment.topic_partitions.into_iter();
                member.owned = topics.flat_map(|topic| topic.partitions).collect();
            }
            self.beats += 1;
        }
        let mut owners = BTreeMap::new();
        for member in &self.members {
            for partition in &member.owned {
                let other = owners.insert(*partition, &member.id);
                assert_eq!(other, None, "{partition} is read by two");
            }
        }
    }

    /// How many partitions each member has, once the group looks so.
    fn settles_at(&mut self, wanted: &[usize]) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.beat();
            let mut has: Vec<usize> = self.members.iter().map(|m| m.owned.len()).collect();
            has.sort_unstable();
            if has == wanted {
                return;
            }
            assert!(Instant::now() < deadline, "{has:?} instead of {wanted:?}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn join(&mut self, id: &str) {
        self.members.push(Member::new(id));
    }
}

fn home() -> Home {
    Home::new()
        .with("group.consumer.min.session.timeout.ms", "500")
        .with("group.consumer.session.timeout.ms", "1500")
        .with("group.consumer.min.heartbeat.interval.ms", "50")
        .with("group.consumer.heartbeat.interval.ms", "100")
        .with("group.consumer.assignment.interval.ms", "0")
}

/// The coordinator's topic is made for whoever asks for the coordinator.
fn coordinator_serves(wire: &mut Wire) {
    let find = FindCoordinatorRequest {
        coordinator_keys: vec![GROUP.into()],
        ..Default::default()
    };
    let describe = ConsumerGroupDescribeRequest {
        group_ids: vec![GROUP.into()],
        ..Default::default()
    };
    let deadline = Instant::now() + PATIENCE;
    loop {
        let _ = wire.call(&find, 4);
        let answer = wire.call(&describe, 1);
        if answer.groups[0].error_code == ErrorCode::GroupIdNotFound.code() {
            return;
        }
        assert!(Instant::now() < deadline, "the coordinator does not serve");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn partitions_have_one_reader_and_move_when_it_dies() {
    let node = home().start();
    let mut wire = Wire::connect(&node.address);
    wire.create_topic("t", 3, &[]);
    let topic = ("t", wire.topic_id("t"));
    coordinator_serves(&mut wire);
    let mut group = Group {
        wire,
        topic,
        members: Vec::new(),
        beats: 0,
    };
    group.join("one");
    group.settles_at(&[3]);
    group.join("two");
    group.join("three");
    group.settles_at(&[1, 1, 1]);
    group.join("four");
    group.settles_at(&[0, 1, 1, 1]);
    // A busy member falls silent; its partition moves when its session is over.
    let busy = group.members.iter().position(|m| !m.owned.is_empty());
    group.members.remove(busy.expect("three of them"));
    group.settles_at(&[1, 1, 1]);
    group.members.truncate(1);
    group.settles_at(&[3]);
    println!("{} heartbeats", group.beats);
}

/// What a member of the classic protocol is told that joins a group which a member of the new one is in.
fn classic_join_under(policy: &str) -> i16 {
    let home = home().with("group.consumer.migration.policy", policy);
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    wire.create_topic("t", 1, &[]);
    coordinator_serves(&mut wire);
    let first = join(&mut wire, "a", None);
    assert_eq!(first.error_code, 0, "{:?}", first.error_message);
    let request = JoinGroupRequest {
        group_id: GROUP.into(),
        session_timeout_ms: 10_000,
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".into(),
            metadata: vec![0; 10].into(),
        }],
        ..Default::default()
    };
    wire.call(&request, 9).error_code
}

#[test]
fn the_policy_says_whether_protocols_mix() {
    let refused = classic_join_under("disabled");
    assert_eq!(refused, ErrorCode::InconsistentGroupProtocol.code());
    // It is told its id, and may join with that.
    let taken = classic_join_under("Bidirectional");
    assert_eq!(taken, ErrorCode::MemberIdRequired.code());
}

#[test]
fn keys_bound_classic_groups() {
    let home = Home::new()
        .with("group.min.session.timeout.ms", "2000")
        .with("group.max.session.timeout.ms", "4000")
        .with("group.max.size", "1")
        .with("group.initial.rebalance.delay.ms", "0");
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    coordinator_serves(&mut wire);
    let mut join = |session_timeout_ms| {
        let request = JoinGroupRequest {
            group_id: GROUP.into(),
            session_timeout_ms,
            rebalance_timeout_ms: 5_000,
            protocol_type: "consumer".into(),
            protocols: vec![JoinGroupRequestProtocol {
                name: "range".into(),
                metadata: vec![0; 10].into(),
            }],
            ..Default::default()
        };
        // So old a client is in the group at once.
        wire.call(&request, 3).error_code
    };
    assert_eq!(join(1_999), ErrorCode::InvalidSessionTimeout.code());
    assert_eq!(join(4_001), ErrorCode::InvalidSessionTimeout.code());
    assert_eq!(join(4_000), 0);
    assert_eq!(join(2_000), ErrorCode::GroupMaxSizeReached.code());
}

fn join(wire: &mut Wire, member: &str, assignor: Option<&str>) -> ConsumerGroupHeartbeatResponse {
    let request = ConsumerGroupHeartbeatRequest {
        server_assignor: assignor.map(Str::copy),
        ..Member::new(member).request(("t", milena_base::Uuid::ZERO))
    };
    wire.call(&request, 1)
}

#[test]
fn keys_bound_groups_and_a_group_has_keys_of_its_own() {
    let home = home()
        .with("group.consumer.max.size", "1")
        .with("group.consumer.max.heartbeat.interval.ms", "400")
        .with("group.consumer.max.session.timeout.ms", "2000")
        .with("group.consumer.assignors", "range");
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    wire.create_topic("t", 1, &[]);
    coordinator_serves(&mut wire);
    let first = join(&mut wire, "a", None);
    assert_eq!(first.error_code, 0, "{:?}", first.error_message);
    assert_eq!(first.heartbeat_interval_ms, 100);
    let refused = |answer: ConsumerGroupHeartbeatResponse| answer.error_code;
    let full = join(&mut wire, "b", None);
    assert_eq!(refused(full), ErrorCode::GroupMaxSizeReached.code());
    let unknown = join(&mut wire, "a", Some("uniform"));
    assert_eq!(refused(unknown), ErrorCode::UnsupportedAssignor.code());

    let set = |name: &str, value: &str| AlterableConfig {
        name: Str::copy(name),
        config_operation: 0,
        value: Some(Str::copy(value)),
    };
    let request = IncrementalAlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type: GROUP_RESOURCE,
            resource_name: GROUP.into(),
            configs: vec![
                set("consumer.heartbeat.interval.ms", "300"),
                set("consumer.session.timeout.ms", "600"),
                set("consumer.assignment.interval.ms", "10"),
            ],
        }],
        validate_only: false,
    };
    let altered = wire.call(&request, 1);
    assert_eq!(
        altered.responses[0].error_code, 0,
        "{:?}",
        altered.responses[0].error_message
    );
    let deadline = Instant::now() + PATIENCE;
    while join(&mut wire, "a", None).heartbeat_interval_ms != 300 {
        assert!(
            Instant::now() < deadline,
            "the group's interval is not told"
        );
        thread::sleep(Duration::from_millis(20));
    }
    // It falls silent: there is room for another once its session is over.
    while refused(join(&mut wire, "b", None)) != 0 {
        assert!(Instant::now() < deadline, "the session does not end");
        thread::sleep(Duration::from_millis(20));
    }
}
