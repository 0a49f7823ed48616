//! A consumer group of 1,000 members and 10,000 partitions: what settling takes, and what the loss of one member does.
//! Counts, not times: a rebalance writes about those alone whom it moves.

use std::collections::BTreeMap;

use milena_base::Uuid;
use milena_group::{GroupConfig, GroupResponse};
use milena_protocol::consumer_group_heartbeat_request::TopicPartitions;
use milena_protocol::{ConsumerGroupHeartbeatRequest, Str};

use crate::world::{Seen, World};

const MEMBERS: usize = 1_000;
const TOPICS: u64 = 10;
const PARTITIONS: i32 = 1_000;
const SHARE: usize = TOPICS as usize * PARTITIONS as usize / MEMBERS;

#[derive(Default)]
struct Member {
    epoch: i32,
    owned: BTreeMap<Uuid, Vec<i32>>,
}

struct Large {
    world: World,
    members: BTreeMap<String, Member>,
    beats: usize,
    records: usize,
}

impl Large {
    fn beat(&mut self, id: &str) {
        let member = &self.members[id];
        let joins = member.epoch == 0;
        let owned = member
            .owned
            .iter()
            .map(|(topic, partitions)| TopicPartitions {
                topic_id: *topic,
                partitions: partitions.clone(),
            });
        let names = (1..=TOPICS).map(|topic| Str::from(format!("t{topic}")));
        let request = ConsumerGroupHeartbeatRequest {
            group_id: "g".into(),
            member_id: Str::copy(id),
            member_epoch: member.epoch,
            rebalance_timeout_ms: if joins { 60_000 } else { -1 },
            subscribed_topic_names: joins.then(|| names.collect()),
            topic_partitions: Some(owned.collect()),
            ..Default::default()
        };
        let (_, seen) = self.world.request(1, "c", request);
        self.beats += 1;
        for seen in seen {
            match seen {
                Seen::Appended(_) => self.records += 1,
                Seen::Reply(_, GroupResponse::ConsumerGroupHeartbeat(answer)) => {
                    assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
                    let member = self.members.get_mut(id).expect("it is there");
                    member.epoch = answer.member_epoch;
                    if let Some(assignment) = answer.assignment {
                        let topics = assignment.topic_partitions.into_iter();
                        member.owned = topics.map(|t| (t.topic_id, t.partitions)).collect();
                    }
                }
                _ => {}
            }
        }
    }

    /// Everybody beats until everybody has its share; how many beats and records that took.
    fn settle(&mut self, partitions: usize) -> (usize, usize) {
        let before = (self.beats, self.records);
        for _ in 0..5 {
            self.world.pass(1_000);
            for id in self.members.keys().cloned().collect::<Vec<_>>() {
                self.beat(&id);
            }
            let owned = self
                .members
                .values()
                .flat_map(|member| member.owned.values());
            if owned.map(Vec::len).sum::<usize>() == partitions {
                return (self.beats - before.0, self.records - before.1);
            }
        }
        panic!("the group does not settle");
    }
}

#[test]
fn a_large_group_moves_those_alone_who_have_to() {
    let config = GroupConfig::default();
    let mut large = Large {
        world: World::new(config, 1, 1),
        members: BTreeMap::new(),
        beats: 0,
        records: 0,
    };
    for topic in 1..=TOPICS {
        large
            .world
            .topics
            .create(&format!("t{topic}"), topic, PARTITIONS);
    }
    large.world.elect(0);
    for number in 0..MEMBERS {
        let id = format!("m{number:04}");
        large.members.insert(id.clone(), Member::default());
        large.beat(&id);
    }
    let all = TOPICS as usize * PARTITIONS as usize;
    let (beats, records) = large.settle(all);
    println!("{MEMBERS} members, {all} partitions: settled by {beats} beats, {records} records");

    let (lost, _) = large.members.pop_first().expect("one of them");
    let request = ConsumerGroupHeartbeatRequest {
        group_id: "g".into(),
        member_id: Str::from(lost),
        member_epoch: -1,
        ..Default::default()
    };
    large.world.request(1, "c", request);
    let owned = |large: &Large| -> Vec<usize> {
        let of = |member: &Member| member.owned.values().map(Vec::len).sum();
        large.members.values().map(of).collect()
    };
    let before = owned(&large);
    let (beats, records) = large.settle(all);
    let moved = before.iter().zip(owned(&large)).filter(|(a, b)| **a != *b);
    let moved = moved.count();
    println!(
        "one lost: settled by {beats} beats, {records} records, {moved} members have something new"
    );
    assert_eq!(
        moved, SHARE,
        "each partition of the lost one goes to another"
    );
    // A target for each that gets something, and for all the epoch that they reach.
    assert!(records <= moved + MEMBERS + 1, "{records} records");
}
