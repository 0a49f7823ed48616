//! Transactions that reach over several brokers, and outlive their coordinator.

use std::collections::BTreeMap;

use milena_base::Uuid;
use milena_broker::format::InitialControllers;
use milena_protocol::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
use milena_protocol::{CreateTopicsRequest, FindCoordinatorRequest, Str};

use crate::cluster::{free_ports, home, static_voters, until};
use crate::node::{Home, Node};
use crate::transactional::{
    NEW, OLD, Producer, committed, ends, last_stable, offset_of_group, read,
};
use crate::wire::Wire;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

/// The broker that coordinates a key, as any broker tells it.
fn coordinator_of(wire: &mut Wire, key_type: i8, key: &str) -> Option<i32> {
    let find = FindCoordinatorRequest {
        key_type,
        coordinator_keys: vec![Str::copy(key)],
        ..Default::default()
    };
    let answer = wire.call(&find, 4);
    let found = &answer.coordinators[0];
    (found.error_code == 0).then_some(found.node_id)
}

/// A key of these that a broker coordinates.
fn key_at(wire: &mut Wire, key_type: i8, keys: &[&'static str], broker: i32) -> &'static str {
    let at = |wire: &mut Wire, key: &str| {
        until("a coordinator", || coordinator_of(wire, key_type, key)) == broker
    };
    let found = keys.iter().copied().find(|key| at(wire, key));
    found.unwrap_or_else(|| panic!("none of {keys:?} is at {broker}"))
}

/// A topic of one partition, on these brokers.
fn create(wire: &mut Wire, name: &str, brokers: &[i32]) {
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: Str::copy(name),
            num_partitions: -1,
            replication_factor: -1,
            assignments: vec![CreatableReplicaAssignment {
                partition_index: 0,
                broker_ids: brokers.to_vec(),
            }],
            ..CreatableTopic::default()
        }],
        timeout_ms: 20_000,
        ..CreateTopicsRequest::default()
    };
    let answer = wire.call(&request, 7);
    assert_eq!(answer.topics[0].error_code, 0, "{answer:?}");
}

/// A controller that is a broker too, and two brokers.
fn three() -> Vec<Home> {
    let ports = free_ports(1);
    let voters = static_voters(&ports);
    let roles = ["broker,controller", "broker", "broker"];
    let homes = roles.iter().enumerate().map(|(at, roles)| {
        let home = home(at + 1, roles, &[ports[0], 0, 0])
            .with("controller.quorum.voters", &voters)
            .with("broker.session.timeout.ms", "3000")
            .with("broker.heartbeat.interval.ms", "200")
            .with("offsets.topic.replication.factor", "3")
            .with("offsets.topic.num.partitions", "6")
            .with("transaction.state.log.replication.factor", "3")
            .with("transaction.state.log.num.partitions", "6");
        home.format_with(&Uuid([7; 16]).to_string(), InitialControllers::Unspecified);
        home
    });
    homes.collect()
}

#[test]
fn a_transaction_reaches_over_brokers_and_outlives_its_coordinator() {
    let homes = three();
    let started: Vec<_> = homes.iter().map(Home::spawn).collect();
    let nodes = started.into_iter().map(|node| node.wait_ready());
    let mut nodes: BTreeMap<i32, Node> = (1..).zip(nodes).collect();
    let mut wires: BTreeMap<i32, Wire> = nodes
        .iter()
        .map(|(id, node)| (*id, Wire::connect(&node.address)))
        .collect();
    let first = wires.get_mut(&1).expect("it runs");
    // Coordinated at 2, written at 3, with the offsets of a group at 3.
    let keys = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
    let group = key_at(first, GROUP, &keys, 3);
    let old = key_at(first, TRANSACTION, &keys, 2);
    let other = keys.iter().copied().filter(|key| *key != old);
    let new = key_at(first, TRANSACTION, &other.collect::<Vec<_>>(), 2);
    create(first, "t", &[3]);
    let mut third = wires.remove(&3).expect("it runs");
    third.log_end("t");
    let address = |nodes: &BTreeMap<i32, Node>, id: i32| Wire::connect(&nodes[&id].address);
    let mut offset = 0;
    for (name, versions) in [(old, OLD), (new, NEW)] {
        let wires = [address(&nodes, 3), address(&nodes, 2)];
        let mut producer = Producer::of(wires, name, group, versions, 60_000);
        for commits in [true, false, true] {
            let before = last_stable(&mut third, "t");
            producer.sent("t", &format!("{name} {commits}"));
            assert_eq!(last_stable(&mut third, "t"), before);
            assert_eq!(producer.commit_offset("t", offset + 1), 0);
            assert_eq!(producer.end(commits), 0);
            offset += i64::from(commits);
            let state = if commits {
                "CompleteCommit"
            } else {
                "CompleteAbort"
            };
            ends(&mut producer.coordinator, name, state);
            assert_eq!(last_stable(&mut third, "t"), before + 2);
            assert_eq!(offset_of_group(&mut third, group, "t", true), (0, offset));
        }
    }
    let kept = |name: &str| format!("{name} true");
    let mut all = vec![kept(old), kept(old), kept(new), kept(new)];
    assert_eq!(committed(&mut third, "t"), all);
    assert_eq!(read(&mut third, "t", 0).len(), 6);
    // The coordinator dies with an open transaction; the next one ends it.
    let wires = [address(&nodes, 3), address(&nodes, 2)];
    let mut producer = Producer::of(wires, new, group, NEW, 60_000);
    producer.sent("t", "outlived");
    nodes.remove(&2).expect("it runs").kill();
    let mut first = address(&nodes, 1);
    let next = until("another coordinator", || {
        let found = coordinator_of(&mut first, TRANSACTION, new);
        found.filter(|id| *id != 2)
    });
    producer.coordinator = address(&nodes, next);
    assert_eq!(producer.end(true), 0);
    ends(&mut producer.coordinator, new, "CompleteCommit");
    all.push("outlived".into());
    assert_eq!(committed(&mut third, "t"), all);
    println!("transactions over brokers: 7, one of them with two coordinators");
}
