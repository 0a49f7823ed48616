//! Unkind days of a quorum: its active controller is killed and paused while metadata changes; nodes of another cluster or
//! with a copied directory are refused by name; what a cluster of several nodes refuses.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};

use milena_base::{ErrorCode, Uuid};
use milena_broker::format::InitialControllers;
use milena_protocol::create_topics_request::CreatableTopic;
use milena_protocol::update_features_request::FeatureUpdateKey;
use milena_protocol::{
    CreateTopicsRequest, MetadataRequest, UnregisterBrokerRequest, UnregisterControllerRequest,
    UpdateFeaturesRequest,
};

use crate::cluster::{all_caught_up, describe, free_ports, home, static_voters, until};
use crate::node::{Home, Node};
use crate::wire::Wire;

/// Kills and pauses of the active controller, in turns.
const ROUNDS: usize = 6;

/// Three controllers, then brokers.
fn homes(brokers: usize) -> Vec<Home> {
    let ports = free_ports(3);
    let voters = static_voters(&ports);
    let cluster = Uuid([7; 16]).to_string();
    let homes = (1..=3 + brokers).map(|id| {
        let roles = if id <= 3 { "controller" } else { "broker" };
        let home = home(id, roles, &ports)
            .with("controller.quorum.voters", &voters)
            .with("controller.quorum.fetch.timeout.ms", "500")
            .with("controller.quorum.election.timeout.ms", "300");
        home.format_with(&cluster, InitialControllers::Unspecified);
        home
    });
    homes.collect()
}

fn start(homes: &[Home]) -> Vec<Option<Node>> {
    let started: Vec<_> = homes.iter().map(Home::spawn).collect();
    let started = started.into_iter().map(|node| Some(node.wait_ready()));
    started.collect()
}

fn request(topic: &str, replication_factor: i16) -> CreateTopicsRequest {
    CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: topic.to_owned().into(),
            num_partitions: 1,
            replication_factor,
            ..CreatableTopic::default()
        }],
        timeout_ms: 20_000,
        ..CreateTopicsRequest::default()
    }
}

/// Creates topics one after the other until told to stop; those that were acknowledged, and the longest wait for one.
fn create_until(address: &str, stop: &AtomicBool) -> (Vec<String>, Duration) {
    let (mut acked, mut longest) = (Vec::new(), Duration::ZERO);
    let mut wire = Wire::connect(address);
    for at in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let name = format!("t{at}");
        let begun = Instant::now();
        let answer = wire.call(&request(&name, 1), 7);
        longest = longest.max(begun.elapsed());
        if answer.topics[0].error_code == 0 {
            acked.push(name);
        }
        thread::sleep(Duration::from_millis(10));
    }
    (acked, longest)
}

fn topics(address: &str) -> BTreeSet<String> {
    let request = MetadataRequest {
        topics: None,
        ..MetadataRequest::default()
    };
    let answer = Wire::connect(address).call(&request, 12);
    let names = answer.topics.into_iter().filter_map(|topic| topic.name);
    names.map(|name| name.to_string()).collect()
}

#[test]
fn metadata_outlives_its_controllers() {
    let homes = homes(1);
    let mut nodes = start(&homes);
    let broker = nodes[3].as_ref().expect("it runs").address.clone();
    let stop = Arc::new(AtomicBool::new(false));
    let creating = thread::spawn({
        let (broker, stop) = (broker.clone(), stop.clone());
        move || create_until(&broker, &stop)
    });
    let mut slowest = Duration::ZERO;
    for round in 0..ROUNDS {
        let quorum = until("every replica caught up", || all_caught_up(&broker, 4));
        let (leader, epoch) = (quorum.leader_id as usize, quorum.leader_epoch);
        let begun = Instant::now();
        let node = nodes[leader - 1].take().expect("it runs");
        let paused = if round % 2 == 0 {
            node.kill();
            None
        } else {
            node.pause();
            Some(node)
        };
        until("another leads", || {
            let now = describe(&broker);
            (now.leader_epoch > epoch && now.leader_id as usize != leader).then_some(())
        });
        slowest = slowest.max(begun.elapsed());
        nodes[leader - 1] = Some(match paused {
            None => homes[leader - 1].start(),
            Some(node) => {
                node.resume();
                node
            }
        });
    }
    stop.store(true, Ordering::Relaxed);
    let (acked, longest) = creating.join().expect("the creating thread");
    let quorum = until("every replica caught up", || all_caught_up(&broker, 4));
    assert!(acked.len() > ROUNDS, "metadata went on: {}", acked.len());
    until("every acknowledged topic is there", || {
        let there = topics(&broker);
        acked.iter().all(|name| there.contains(name)).then_some(())
    });
    println!(
        "{} topics acknowledged, none lost; {ROUNDS} faults, epoch {}; slowest succession {slowest:?}, longest wait of a client {longest:?}",
        acked.len(),
        quorum.leader_epoch
    );
}

fn code(code: i16) -> ErrorCode {
    ErrorCode::from_code(code).expect("a known code")
}

fn set_feature(wire: &mut Wire, name: &'static str, level: i16, kind: i8) -> ErrorCode {
    let request = UpdateFeaturesRequest {
        feature_updates: vec![FeatureUpdateKey {
            feature: name.into(),
            max_version_level: level,
            upgrade_type: kind,
            ..FeatureUpdateKey::default()
        }],
        timeout_ms: 20_000,
        ..UpdateFeaturesRequest::default()
    };
    code(wire.call(&request, 2).error_code)
}

fn unregister_broker(wire: &mut Wire, broker_id: i32) -> ErrorCode {
    code(
        wire.call(&UnregisterBrokerRequest { broker_id }, 0)
            .error_code,
    )
}

fn unregister_controller(wire: &mut Wire, controller_id: i32) -> ErrorCode {
    let request = UnregisterControllerRequest { controller_id };
    code(wire.call(&request, 0).error_code)
}

#[test]
fn what_several_nodes_refuse() {
    let homes = homes(2);
    let mut nodes = start(&homes);
    let broker = nodes[3].as_ref().expect("it runs").address.clone();
    let mut wire = Wire::connect(&broker);
    let answer = wire.call(&request("wide", 3), 7);
    let refused = &answer.topics[0];
    assert_eq!(
        code(refused.error_code),
        ErrorCode::InvalidReplicationFactor
    );
    let why = "Unable to replicate the partition 3 time(s): The target replication factor of 3 cannot be reached because only 2 broker(s) are registered or some brokers have all their log directories cordoned.";
    assert_eq!(refused.error_message.as_deref(), Some(why));
    // A level that nobody knows, one that is lower without a word that it may be, then down and up.
    let wrong = ErrorCode::InvalidUpdateVersion;
    assert_eq!(set_feature(&mut wire, "group.version", 9, 1), wrong);
    assert_eq!(set_feature(&mut wire, "group.version", 0, 1), wrong);
    // Not before every controller has registered.
    until("group.version goes down", || {
        let done = set_feature(&mut wire, "group.version", 0, 2);
        (done == ErrorCode::None).then_some(())
    });
    assert_eq!(
        set_feature(&mut wire, "group.version", 1, 1),
        ErrorCode::None
    );
    // The quorum of the configuration becomes a dynamic one, and no other again.
    until("kraft.version goes up", || {
        let done = set_feature(&mut wire, "kraft.version", 1, 1);
        (done == ErrorCode::None).then_some(())
    });
    let quorum = until("every replica caught up", || all_caught_up(&broker, 5));
    let voters = quorum.current_voters.iter();
    assert!(
        voters
            .clone()
            .all(|voter| !voter.replica_directory_id.is_zero())
    );
    assert_eq!(set_feature(&mut wire, "kraft.version", 0, 3), wrong);
    // A broker that is gone is taken off the list.
    let unknown = ErrorCode::BrokerIdNotRegistered;
    assert_eq!(unregister_broker(&mut wire, 9), unknown);
    nodes[4].take().expect("it runs").stop();
    assert_eq!(unregister_broker(&mut wire, 5), ErrorCode::None);
    assert_eq!(unregister_broker(&mut wire, 5), unknown);
    // So is a controller, unless it is the active one.
    let leader = describe(&broker).leader_id;
    let other = leader % 3 + 1;
    nodes[other as usize - 1].take().expect("it runs").kill();
    let refused = unregister_controller(&mut wire, leader);
    assert_eq!(refused, ErrorCode::InvalidRequest);
    assert_eq!(unregister_controller(&mut wire, other), ErrorCode::None);
    let refused = unregister_controller(&mut wire, other);
    assert_eq!(refused, ErrorCode::ControllerIdNotRegistered);
    println!("refusals: 7");
}

#[test]
fn strangers_are_refused_by_name() {
    let ports = free_ports(3);
    let servers = format!("127.0.0.1:{}", ports[0]);
    let member = |id: usize, roles: &str| {
        home(id, roles, &ports)
            .with("controller.quorum.bootstrap.servers", &servers)
            .with("initial.broker.registration.timeout.ms", "2000")
    };
    let cluster = Uuid([7; 16]).to_string();
    let first = member(1, "broker,controller");
    first.format_with(&cluster, InitialControllers::Standalone);
    let _node = first.start();
    let stranger = member(4, "broker");
    let other = Uuid([8; 16]).to_string();
    stranger.format_with(&other, InitialControllers::Unspecified);
    let said = stranger.refusal();
    let words =
        format!("{servers} belongs to another cluster: the cluster.id of this node is {other}");
    assert!(said.contains(&words), "{said}");
    let key = "initial.broker.registration.timeout.ms";
    assert!(said.contains(key), "{said}");
    // A copy of another broker's directory, made to look like this node's.
    let copy = member(5, "broker");
    copy.format_with(&cluster, InitialControllers::Unspecified);
    let theirs = fs::read_to_string(first.data().join("meta.properties")).expect("it is there");
    let ours = theirs.replace("node.id=1", "node.id=5");
    assert_ne!(ours, theirs);
    fs::write(copy.data().join("meta.properties"), ours).expect("it is written");
    let said = copy.refusal();
    assert!(said.contains("INVALID_REGISTRATION"), "{said}");
    assert!(said.contains("directory.id"), "{said}");
    println!("strangers: 2");
}
