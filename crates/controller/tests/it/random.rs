//! Random conversations with clusters of several brokers. The harness checks after each batch that the index is the
//! image's, that no partition is impossible, and that listeners see what the controller sees.

use std::collections::BTreeMap;
use std::time::Duration;

use milena_base::{Prng, Uuid};
use milena_controller::ControllerRequest;
use milena_image::{LeaderRecoveryState, MetadataVersion};
use milena_protocol::*;

use super::harness::{CLUSTER_ID, Harness, answer};

const BROKERS: u64 = 4;

/// What a broker process is, as far as the controller hears of it.
#[derive(Clone)]
struct Process {
    epoch: i64,
    directories: Vec<Uuid>,
    alive: bool,
}

struct World {
    harness: Harness,
    prng: Prng,
    processes: BTreeMap<i32, Process>,
}

impl World {
    fn new(version: MetadataVersion, seed: u64) -> World {
        let mut prng = Prng::new(seed);
        let properties = "min.insync.replicas=2\nmetadata.max.idle.interval.ms=60000";
        let mut harness = Harness::new(version, properties, prng.next_u64());
        harness.elect();
        let mut world = World {
            harness,
            prng,
            processes: BTreeMap::new(),
        };
        for id in 1..=BROKERS as i32 {
            let count = 1 + world.prng.below(2);
            let directories = (0..count).map(|_| Uuid::random(&mut world.prng)).collect();
            let process = Process {
                epoch: -1,
                directories,
                alive: false,
            };
            world.processes.insert(id, process);
            world.start(id, false);
        }
        world
    }

    fn start(&mut self, id: i32, clean: bool) {
        let process = self.processes[&id].clone();
        let feature = |(name, range): (&&'static str, &milena_image::VersionRange)| {
            broker_registration_request::Feature {
                name: Str::from(*name),
                min_supported_version: range.min,
                max_supported_version: range.max,
            }
        };
        let request = BrokerRegistrationRequest {
            broker_id: id,
            cluster_id: Str::from_static(CLUSTER_ID),
            incarnation_id: Uuid::random(&mut self.prng),
            features: milena_image::supported_features()
                .iter()
                .map(feature)
                .collect(),
            rack: None,
            log_dirs: process.directories,
            previous_broker_epoch: if clean { process.epoch } else { -1 },
            ..BrokerRegistrationRequest::default()
        };
        let decision = self.harness.ask(request, 4);
        let response: BrokerRegistrationResponse = answer(decision);
        if response.error_code == 0 {
            let process = self.processes.get_mut(&id).unwrap();
            process.epoch = response.broker_epoch;
            process.alive = true;
        }
    }

    fn heartbeat(&mut self, id: i32, shut_down: bool) {
        let end = self.harness.end.0;
        let process = &self.processes[&id];
        let request = BrokerHeartbeatRequest {
            broker_id: id,
            broker_epoch: process.epoch,
            current_metadata_offset: end - 1 - self.prng.below(3) as i64,
            want_fence: self.prng.chance(1, 20),
            want_shut_down: shut_down,
            ..BrokerHeartbeatRequest::default()
        };
        let response: BrokerHeartbeatResponse = answer(self.harness.ask(request, 2));
        if response.should_shut_down {
            self.processes.get_mut(&id).unwrap().alive = false;
        }
    }

    fn broker(&mut self) -> i32 {
        1 + self.prng.below(BROKERS) as i32
    }

    fn some_partition(&mut self) -> Option<(Uuid, Str, i32)> {
        let topics: Vec<_> = self
            .harness
            .controller
            .image()
            .topics
            .iter()
            .cloned()
            .collect();
        if topics.is_empty() {
            return None;
        }
        let topic = &topics[self.prng.below(topics.len() as u64) as usize];
        let index = self.prng.below(topic.partitions.len() as u64) as i32;
        Some((topic.id, topic.name.clone(), index))
    }

    fn step(&mut self) {
        match self.prng.below(14) {
            0 => {
                let time = Duration::from_millis(100 + self.prng.below(4000));
                self.harness.pass(time);
            }
            1..=4 => self.brokers_step(),
            5 => self.create(),
            6 => drop(
                self.some_partition()
                    .map(|(_, name, _)| self.grow_or_delete(name)),
            ),
            7..=9 => self.alter_partition(),
            10 => self.reassign(),
            11 => self.configure(),
            12 => self.assign(),
            _ => {
                let election_type = self.prng.below(2) as i8;
                let request = ElectLeadersRequest {
                    election_type,
                    topic_partitions: None,
                    timeout_ms: 0,
                };
                self.harness.ask(request, 2);
            }
        }
    }

    fn brokers_step(&mut self) {
        let id = self.broker();
        if !self.processes[&id].alive {
            let clean = self.prng.chance(1, 2);
            return self.start(id, clean);
        }
        match self.prng.below(12) {
            // Killed: silence until the next start.
            0 => self.processes.get_mut(&id).unwrap().alive = false,
            1 => self.heartbeat(id, true),
            2 => drop(self.harness.elect()),
            _ => self.heartbeat(id, false),
        }
    }

    fn create(&mut self) {
        let factor = 1 + self.prng.below(3) as i16;
        let request = CreateTopicsRequest {
            topics: vec![create_topics_request::CreatableTopic {
                name: Str::from(format!("t.{}", self.prng.below(6))),
                num_partitions: 1 + self.prng.below(3) as i32,
                replication_factor: factor,
                ..Default::default()
            }],
            ..CreateTopicsRequest::default()
        };
        self.harness.ask(request, 7);
    }

    fn grow_or_delete(&mut self, name: Str) {
        let request: ControllerRequest = if self.prng.chance(1, 3) {
            let topic = delete_topics_request::DeleteTopicState {
                name: Some(name),
                topic_id: Uuid::ZERO,
            };
            let request = DeleteTopicsRequest {
                topics: vec![topic],
                ..DeleteTopicsRequest::default()
            };
            request.into()
        } else {
            let topic = create_partitions_request::CreatePartitionsTopic {
                name,
                count: 1 + self.prng.below(5) as i32,
                assignments: None,
            };
            let request = CreatePartitionsRequest {
                topics: vec![topic],
                ..CreatePartitionsRequest::default()
            };
            request.into()
        };
        self.harness.ask(request, 3);
    }

    fn alter_partition(&mut self) {
        use alter_partition_request::*;
        let Some((topic_id, _, partition_index)) = self.some_partition() else {
            return;
        };
        let image = self.harness.controller.image().clone();
        let p = image.topics.partition(topic_id, partition_index).unwrap();
        let Some(leader) = self.processes.get(&p.leader).cloned() else {
            return;
        };
        let prng = &mut self.prng;
        let mut isr: Vec<i32> = p
            .replicas
            .iter()
            .copied()
            .filter(|_| prng.chance(2, 3))
            .collect();
        if !isr.contains(&p.leader) && prng.chance(9, 10) {
            isr.push(p.leader);
        }
        let stay = p.leader_recovery_state == LeaderRecoveryState::Recovering && prng.chance(1, 2);
        let partition = PartitionData {
            partition_index,
            leader_epoch: p.leader_epoch + prng.below(12) as i32 / 11,
            new_isr: isr,
            leader_recovery_state: i8::from(stay),
            partition_epoch: p.partition_epoch - prng.below(12) as i32 / 11,
            ..PartitionData::default()
        };
        let request = AlterPartitionRequest {
            broker_id: p.leader,
            broker_epoch: leader.epoch,
            topics: vec![TopicData {
                topic_id,
                partitions: vec![partition],
            }],
        };
        self.harness.ask(request, 2);
    }

    fn reassign(&mut self) {
        use alter_partition_reassignments_request::*;
        let Some((_, name, partition_index)) = self.some_partition() else {
            return;
        };
        let mut target: Vec<i32> = (1..=BROKERS as i32).collect();
        self.prng.shuffle(&mut target);
        target.truncate(1 + self.prng.below(3) as usize);
        let request = AlterPartitionReassignmentsRequest {
            topics: vec![ReassignableTopic {
                name,
                partitions: vec![ReassignablePartition {
                    partition_index,
                    replicas: self.prng.chance(2, 3).then_some(target),
                }],
            }],
            ..AlterPartitionReassignmentsRequest::default()
        };
        self.harness.ask(request, 1);
    }

    fn configure(&mut self) {
        use incremental_alter_configs_request::*;
        let Some((_, name, _)) = self.some_partition() else {
            return;
        };
        let (key, value) = match self.prng.below(3) {
            0 => ("min.insync.replicas", "1"),
            1 => ("min.insync.replicas", "2"),
            _ => ("unclean.leader.election.enable", "true"),
        };
        let config = AlterableConfig {
            name: key.into(),
            config_operation: self.prng.below(2) as i8,
            value: Some(value.into()),
        };
        let request = IncrementalAlterConfigsRequest {
            resources: vec![AlterConfigsResource {
                resource_type: 2,
                resource_name: name,
                configs: vec![config],
            }],
            validate_only: self.prng.chance(1, 4),
        };
        self.harness.ask(request, 1);
    }

    fn assign(&mut self) {
        use assign_replicas_to_dirs_request::*;
        let Some((topic_id, _, partition_index)) = self.some_partition() else {
            return;
        };
        let broker_id = self.broker();
        let process = self.processes[&broker_id].clone();
        let at = self.prng.below(process.directories.len() as u64) as usize;
        let request = AssignReplicasToDirsRequest {
            broker_id,
            broker_epoch: process.epoch,
            directories: vec![DirectoryData {
                id: process.directories[at],
                topics: vec![TopicData {
                    topic_id,
                    partitions: vec![PartitionData { partition_index }],
                }],
            }],
        };
        self.harness.ask(request, 0);
    }

    /// Brings every broker up and keeps it up; then each partition that can have a leader has one.
    fn heal(&mut self) {
        for _ in 0..40 {
            self.harness.pass(Duration::from_secs(1));
            for id in 1..=BROKERS as i32 {
                if !self.processes[&id].alive {
                    self.start(id, false);
                }
                // Kept out until the session of its predecessor is over.
                if !self.processes[&id].alive {
                    continue;
                }
                // Who has begun to leave goes on asking, also a new controller.
                let image = self.harness.controller.image();
                let leaving = image
                    .cluster
                    .broker(id)
                    .is_some_and(|b| b.in_controlled_shutdown);
                let request = BrokerHeartbeatRequest {
                    broker_id: id,
                    broker_epoch: self.processes[&id].epoch,
                    current_metadata_offset: self.harness.end.0 - 1,
                    want_shut_down: leaving,
                    ..BrokerHeartbeatRequest::default()
                };
                let response: BrokerHeartbeatResponse = answer(self.harness.ask(request, 2));
                // Stuck in controlled shutdown, or fenced for good: only a new incarnation helps.
                if response.error_code != 0 || response.should_shut_down {
                    self.processes.get_mut(&id).unwrap().alive = false;
                }
            }
        }
        let image = self.harness.controller.image();
        for topic in image.topics.iter() {
            for (id, p) in &topic.partitions {
                let candidates = p.isr.len() + p.elr.len() + p.last_known_elr.len();
                assert!(
                    p.has_leader() || candidates == 0,
                    "{}-{id}: {p:?}",
                    topic.name
                );
            }
        }
    }
}

fn play(version: MetadataVersion, seed: u64, steps: usize) -> World {
    let mut world = World::new(version, seed);
    for _ in 0..steps {
        world.step();
    }
    world
}

#[test]
fn whatever_happens_the_metadata_stays_sound_and_leaders_come_back() {
    for seed in 0..20 {
        for version in [33, 21, 7] {
            let version = MetadataVersion::from_level(version).unwrap();
            play(version, seed, 150).heal();
        }
    }
}

#[test]
fn one_seed_gives_one_log() {
    let log = |seed| {
        let world = play(MetadataVersion::LATEST_PRODUCTION, seed, 200);
        let image = world.harness.loader.image().clone();
        image
            .to_records(MetadataVersion::LATEST_PRODUCTION)
            .unwrap()
    };
    assert_eq!(log(3), log(3));
    assert_ne!(log(3), log(4));
}
