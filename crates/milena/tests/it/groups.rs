//! Consumer groups of librdkafka: who gets which partitions, and what becomes of committed offsets.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use crate::clients::{STEP, config, produce, values};
use crate::node::Home;
use crate::wire::Wire;

const PARTITIONS: i32 = 4;

fn member(address: &str, group: &str, strategy: &str) -> BaseConsumer {
    let consumer: BaseConsumer = config(address)
        .set("group.id", group)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .set("partition.assignment.strategy", strategy)
        .set("session.timeout.ms", "20000")
        .set("heartbeat.interval.ms", "200")
        .create()
        .expect("a consumer");
    consumer.subscribe(&["shared"]).expect("it subscribes");
    consumer
}

fn assigned(consumer: &BaseConsumer) -> BTreeSet<i32> {
    let list = consumer.assignment().expect("an assignment");
    list.elements().iter().map(|e| e.partition()).collect()
}

/// Polls all members until their assignments satisfy `settled`; gives the number of records read meanwhile.
fn poll_until(members: &[&BaseConsumer], settled: impl Fn(&[BTreeSet<i32>]) -> bool) -> usize {
    let deadline = Instant::now() + STEP;
    let mut read = 0;
    loop {
        for member in members {
            if let Some(message) = member.poll(Duration::from_millis(20)) {
                message.expect("a record");
                read += 1;
            }
        }
        let now: Vec<BTreeSet<i32>> = members.iter().map(|member| assigned(member)).collect();
        if settled(&now) {
            return read;
        }
        assert!(Instant::now() < deadline, "assignments stay at {now:?}");
    }
}

fn shared(sets: &[BTreeSet<i32>]) -> bool {
    let all: BTreeSet<i32> = sets.iter().flatten().copied().collect();
    let sum: usize = sets.iter().map(BTreeSet::len).sum();
    all.len() == PARTITIONS as usize && sum == all.len() && sets.iter().all(|set| set.len() == 2)
}

#[test]
fn one_member_takes_all_partitions_and_two_share_them() {
    let home = Home::new();
    let node = home.start();
    Wire::connect(&node.address).create_topic("shared", PARTITIONS, &[]);
    let mut cases = 0;
    for strategy in ["range", "cooperative-sticky"] {
        let first = member(&node.address, strategy, strategy);
        poll_until(&[&first], |sets| sets[0].len() == PARTITIONS as usize);
        let second = member(&node.address, strategy, strategy);
        poll_until(&[&first, &second], shared);
        drop(second);
        poll_until(&[&first], |sets| sets[0].len() == PARTITIONS as usize);
        cases += 3;
    }
    println!("groups: {cases} assignments");
    node.stop();
}

fn commit(address: &str, group: &str, offset: i64) {
    let consumer = member(address, group, "range");
    let mut offsets = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        let at = Offset::Offset(offset + i64::from(partition));
        offsets
            .add_partition_offset("shared", partition, at)
            .expect("a partition");
    }
    poll_until(&[&consumer], |sets| sets[0].len() == PARTITIONS as usize);
    consumer.commit(&offsets, CommitMode::Sync).expect("it is committed");
}

fn committed(address: &str, group: &str) -> Vec<i64> {
    let consumer: BaseConsumer = config(address)
        .set("group.id", group)
        .create()
        .expect("a consumer");
    let mut wanted = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        wanted.add_partition("shared", partition);
    }
    let found = consumer.committed_offsets(wanted, STEP).expect("offsets");
    let offsets = found.elements().into_iter().map(|e| match e.offset() {
        Offset::Offset(offset) => offset,
        _ => -1,
    });
    offsets.collect()
}

#[test]
fn committed_offsets_outlive_a_stop_and_a_kill() {
    let home = Home::new();
    let node = home.start();
    Wire::connect(&node.address).create_topic("shared", PARTITIONS, &[]);
    produce(&node.address, "shared", &values(40, "shared"), &[]);
    assert_eq!(committed(&node.address, "keepers"), [-1, -1, -1, -1]);
    commit(&node.address, "keepers", 2);
    assert_eq!(committed(&node.address, "keepers"), [2, 3, 4, 5]);
    node.stop();
    let node = home.start();
    assert_eq!(committed(&node.address, "keepers"), [2, 3, 4, 5]);
    commit(&node.address, "keepers", 3);
    node.kill();
    let node = home.start();
    assert_eq!(committed(&node.address, "keepers"), [3, 4, 5, 6]);
    let ends: i64 = (0..PARTITIONS)
        .map(|partition| {
            let mut wire = Wire::connect(&node.address);
            wire.list_offset("shared", partition, -1).2
        })
        .sum();
    assert_eq!(ends, 40, "no record was lost");
    println!("groups: offsets read back after 1 stop and 1 kill");
    node.stop();
}
