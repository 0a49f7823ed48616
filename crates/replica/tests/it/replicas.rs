//! Three replicas of one partition, their fetchers, a controller's decisions and a careless network, from a seed: no
//! acknowledged record is lost, and the logs end alike.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use milena_base::{
    BrokerId, Epoch, ErrorCode, Now, Offset, Prng, TopicIdPartition, TopicPartition, Uuid,
};
use milena_disk::SimDisk;
use milena_log::{AppendOrigin, Log, LogOptions, OpenHints};
use milena_records::{BatchBuilder, Codec, NewRecord, batches, check_replicated};
use milena_replica::fetcher::{Fetched, Fetcher, Found, Order, Settled, Standing, Told, Verdict};
use milena_replica::{
    Assignment, FetchNote, IsrAnswer, IsrProposal, Partition, ReadAnswer, ReadFrom, ReadRefused,
    Wanted,
};
use milena_testkit::for_each_seed;

const BROKERS: [i32; 3] = [1, 2, 3];
const MIN_INSYNC: i32 = 2;
const LAG_MAX: Duration = Duration::from_millis(400);

fn id() -> TopicIdPartition {
    TopicIdPartition::new(Uuid([7; 16]), 0)
}

/// An answer on its way, with what it answers.
enum Reply {
    Fetch(Result<(ReadAnswer, Vec<u8>), ErrorCode>),
    Offsets(Vec<Result<Offset, ErrorCode>>),
    Lost,
}

struct Node {
    partition: Partition,
    /// Newest metadata that was published here.
    known: usize,
    alive: bool,
    fetcher: Option<(BrokerId, Fetcher)>,
    order: Option<Order>,
    reply: Option<Reply>,
}

struct World {
    prng: Prng,
    mono: u64,
    nodes: BTreeMap<i32, Node>,
    /// All that the controller committed, in order.
    metadata: Vec<Assignment>,
    proposal: Option<(i32, IsrProposal, Option<IsrAnswer>)>,
    /// Value and place of what waits for its replicas: leader, epoch, end.
    pending: Vec<(u64, i32, Epoch, Offset)>,
    acked: BTreeMap<Offset, u64>,
    next_value: u64,
    unclean: bool,
    elections: u32,
    truncations: u32,
}

fn node(broker: i32, seed: u64) -> Node {
    let name = TopicPartition::new("t", 0);
    let disk = Arc::new(SimDisk::new(seed));
    let now = Now::from_millis(0, 0);
    let options = LogOptions::default();
    let dir = Path::new("/t-0");
    let (log, _) = Log::open(disk, dir, name.clone(), options, OpenHints::NEW, now).unwrap();
    let partition = Partition::new(id(), name, BrokerId(broker), log, Offset::ZERO);
    partition.set_min_insync(MIN_INSYNC);
    Node {
        partition,
        known: 0,
        alive: true,
        fetcher: None,
        order: None,
        reply: None,
    }
}

impl World {
    fn new(seed: u64) -> World {
        let all: Vec<BrokerId> = BROKERS.map(BrokerId).to_vec();
        let first = Assignment {
            leader: BrokerId(1),
            leader_epoch: Epoch(0),
            partition_epoch: 0,
            replicas: all.clone(),
            isr: all,
            recovering: false,
        };
        let mut world = World {
            prng: Prng::new(seed),
            mono: 1,
            nodes: BROKERS.map(|b| (b, node(b, seed))).into(),
            metadata: vec![first],
            proposal: None,
            pending: Vec::new(),
            acked: BTreeMap::new(),
            next_value: 0,
            unclean: seed % 4 == 3,
            elections: 0,
            truncations: 0,
        };
        for broker in BROKERS {
            world.publish(broker, 0);
        }
        world
    }

    fn now(&self) -> Now {
        Now::from_millis(self.mono, self.mono as i64)
    }

    fn current(&self) -> &Assignment {
        self.metadata.last().unwrap()
    }

    fn publish(&mut self, broker: i32, version: usize) {
        let assignment = self.metadata[version].clone();
        let now = self.now();
        let node = self.nodes.get_mut(&broker).unwrap();
        node.known = version;
        if assignment.leader.0 == broker {
            node.partition.lead(&assignment, now);
            node.fetcher = None;
            return;
        }
        node.partition.follow(&assignment);
        let same = matches!(&node.fetcher, Some((leader, _)) if *leader == assignment.leader);
        if !same {
            let fetcher = Fetcher::new(Duration::from_millis(50));
            node.fetcher = Some((assignment.leader, fetcher));
            (node.order, node.reply) = (None, None);
        }
        if let Some((_, fetcher)) = &mut node.fetcher {
            fetcher.follow(id(), assignment.leader_epoch);
        }
    }

    fn step(&mut self) {
        self.mono += self.prng.below(20);
        let broker = BROKERS[self.prng.below(3) as usize];
        match self.prng.below(200) {
            0..30 => self.produce(broker),
            30..155 => self.fetch(broker),
            155..175 => self.propose(broker),
            175..197 => self.learn(broker),
            197..198 => self.toggle(broker),
            _ => self.elect(),
        }
        self.acknowledge();
    }

    fn produce(&mut self, broker: i32) {
        let now = self.now();
        let (value, node) = (self.next_value, &self.nodes[&broker]);
        if !node.alive {
            return;
        }
        let mut builder = BatchBuilder::new(Codec::NONE);
        builder
            .append(NewRecord {
                timestamp: now.wall,
                value: Some(&value.to_be_bytes()),
                ..Default::default()
            })
            .unwrap();
        let all = self.prng.chance(3, 4);
        let batch = builder.build();
        let origin = AppendOrigin::Client;
        if let Ok(done) = node.partition.append_as_leader(batch, all, origin, now) {
            self.next_value += 1;
            if all {
                let pending = (value, broker, done.leader_epoch, done.end);
                self.pending.push(pending);
            }
        }
    }

    fn acknowledge(&mut self) {
        let (nodes, acked, unclean) = (&self.nodes, &mut self.acked, self.unclean);
        self.pending.retain(|(value, leader, epoch, end)| {
            let node = &nodes[leader];
            let replicated = node.partition.replicated(*end, *epoch);
            if node.alive && replicated == Some(Ok(())) {
                let before = acked.insert(Offset(end.0 - 1), *value);
                let once = before.is_none() || unclean;
                assert!(once, "two acknowledged records at offset {end}");
            }
            replicated.is_none()
        });
    }

    /// One of a fetch's steps: ask, be read, be answered. Any may be lost.
    fn fetch(&mut self, broker: i32) {
        let now = self.now();
        let lost = self.prng.chance(1, 20);
        let Some((leader, _)) = self.nodes[&broker].fetcher else {
            return;
        };
        let node = self.nodes.get_mut(&broker).unwrap();
        if !node.alive {
            return;
        }
        if node.order.is_none() {
            let reader = node.partition.reader();
            let standing = Standing {
                log_end: reader.log_end(),
                log_start: reader.log_start(),
                last_epoch: reader.latest_epoch(),
                throttled: false,
            };
            let (_, fetcher) = node.fetcher.as_mut().unwrap();
            node.order = fetcher.next(now.mono, |_| Some(standing));
        } else if node.reply.is_none() {
            let order = node.order.clone().unwrap();
            let there = self.nodes.get(&leader.0).filter(|n| n.alive && !lost);
            let reply = match there {
                Some(leader) => serve(&leader.partition, broker, &order, now),
                None => Reply::Lost,
            };
            self.nodes.get_mut(&broker).unwrap().reply = Some(reply);
        } else {
            let reply = match lost {
                true => Reply::Lost,
                false => node.reply.take().unwrap(),
            };
            node.reply = None;
            let order = node.order.take().unwrap();
            self.take(broker, &order, reply);
        }
    }

    fn take(&mut self, broker: i32, order: &Order, reply: Reply) {
        let now = self.now();
        let node = self.nodes.get_mut(&broker).unwrap();
        let (partition, (_, fetcher)) = (&node.partition, node.fetcher.as_mut().unwrap());
        match (order, reply) {
            (Order::Fetch(_), Reply::Fetch(answer)) => {
                fetcher.fetched(Fetched::Answered { session_id: 0 }, now.mono);
                self.truncations += take_fetch(partition, fetcher, answer, now);
            }
            (Order::Offsets(asked), Reply::Offsets(answers)) => {
                fetcher.offsets_answered(true, now.mono);
                for ((id, epoch, which), answer) in asked.iter().zip(answers) {
                    let log_end = partition.reader().log_end();
                    let asked = (*epoch, *which);
                    let done = match fetcher.judge_offset(*id, asked, answer, log_end, now.mono) {
                        Found::Nothing => continue,
                        Found::TruncateTo {
                            leader_epoch,
                            offset,
                        } => partition.truncate_to(leader_epoch, offset, now),
                        Found::RestartAt {
                            leader_epoch,
                            offset,
                        } => partition.restart_at(leader_epoch, offset, now),
                    };
                    let settled = match done {
                        Ok(()) => Settled::Done { lag: 1 },
                        Err(_) => Settled::Again,
                    };
                    fetcher.settled(*id, *epoch, settled, now.mono);
                }
            }
            (Order::Fetch(_), _) => fetcher.fetched(Fetched::Lost, now.mono),
            (Order::Offsets(_), _) => fetcher.offsets_answered(false, now.mono),
        }
    }

    /// A leader's proposal, the controller's decision, the answer: each a step.
    fn propose(&mut self, broker: i32) {
        let now = self.now();
        match self.proposal.take() {
            None => {
                let alive: BTreeSet<i32> = self.alive();
                let node = &self.nodes[&broker];
                let eligible = |id: BrokerId, _| alive.contains(&id.0);
                let proposal = node.partition.propose_isr(LAG_MAX, eligible, now);
                self.proposal = proposal.map(|proposal| (broker, proposal, None));
            }
            Some((leader, proposal, None)) => {
                let answer = self.decide(leader, &proposal);
                // Where the answer is lost, the leader asks again.
                let answer = (!self.prng.chance(1, 10)).then_some(answer);
                self.proposal = Some((leader, proposal, answer));
            }
            Some((leader, proposal, Some(answer))) => {
                self.nodes[&leader]
                    .partition
                    .on_isr_answer(&proposal, &answer);
            }
        }
    }

    fn decide(&mut self, leader: i32, proposal: &IsrProposal) -> IsrAnswer {
        let now = self.current();
        if now.leader.0 != leader || now.leader_epoch != proposal.leader_epoch {
            return IsrAnswer::Failed(ErrorCode::FencedLeaderEpoch);
        }
        if now.partition_epoch != proposal.partition_epoch {
            return IsrAnswer::Failed(ErrorCode::InvalidUpdateVersion);
        }
        let alive = self.alive();
        let isr: Vec<BrokerId> = proposal.isr.iter().map(|(id, _)| *id).collect();
        if isr.iter().any(|id| !alive.contains(&id.0)) {
            return IsrAnswer::Failed(ErrorCode::IneligibleReplica);
        }
        let next = Assignment {
            partition_epoch: now.partition_epoch + 1,
            isr: isr.clone(),
            recovering: false,
            ..now.clone()
        };
        let answer = IsrAnswer::Committed {
            leader_epoch: next.leader_epoch,
            partition_epoch: next.partition_epoch,
            isr,
        };
        self.metadata.push(next);
        answer
    }

    fn alive(&self) -> BTreeSet<i32> {
        let alive = self.nodes.iter().filter(|(_, node)| node.alive);
        alive.map(|(id, _)| *id).collect()
    }

    /// A broker sees some more of the metadata.
    fn learn(&mut self, broker: i32) {
        let known = self.nodes[&broker].known;
        if self.nodes[&broker].alive && known + 1 < self.metadata.len() {
            let more = 1 + self.prng.below((self.metadata.len() - known - 1) as u64) as usize;
            self.publish(broker, known + more);
        }
    }

    /// Paused or gone (its page cache stays), or back.
    fn toggle(&mut self, broker: i32) {
        let node = self.nodes.get_mut(&broker).unwrap();
        node.alive = !node.alive;
        if !node.alive {
            (node.order, node.reply) = (None, None);
            let leader = node.fetcher.take().map(|(leader, _)| leader);
            if let Some(leader) = leader {
                let mut fetcher = Fetcher::new(Duration::from_millis(50));
                let epoch = self.metadata[node.known].leader_epoch;
                fetcher.follow(id(), epoch);
                node.fetcher = Some((leader, fetcher));
            }
        }
    }

    /// The controller elects another leader, from the in-sync replicas unless it may not.
    fn elect(&mut self) {
        let alive = self.alive();
        let now = self.current().clone();
        let in_sync = now.isr.iter().filter(|id| alive.contains(&id.0));
        let mut fit: Vec<BrokerId> = in_sync.copied().collect();
        let unclean = fit.is_empty() && self.unclean;
        if unclean {
            fit = alive.iter().map(|id| BrokerId(*id)).collect();
        }
        if fit.is_empty() {
            return;
        }
        let leader = fit[self.prng.below(fit.len() as u64) as usize];
        if leader == now.leader {
            return;
        }
        let isr = match unclean {
            true => vec![leader],
            false if self.prng.chance(1, 2) => fit,
            false => now.isr.clone(),
        };
        self.elections += 1;
        self.metadata.push(Assignment {
            leader,
            leader_epoch: Epoch(now.leader_epoch.0 + 1),
            partition_epoch: now.partition_epoch + 1,
            isr,
            recovering: unclean,
            ..now
        });
    }

    /// No more faults: everybody comes back, learns all, and copies until nothing is left to copy.
    fn heal(&mut self) {
        let last = self.metadata.len() - 1;
        for broker in BROKERS {
            self.nodes.get_mut(&broker).unwrap().alive = true;
            self.publish(broker, last);
        }
        for _ in 0..3000 {
            self.mono += 10;
            for broker in BROKERS {
                self.fetch(broker);
                self.learn(broker);
            }
            let leader = self.current().leader.0;
            self.propose(leader);
            self.acknowledge();
            let ends: BTreeSet<_> = self.nodes.values().map(offsets).collect();
            let committed = ends.iter().all(|(end, high)| end == high);
            if ends.len() == 1 && committed && self.current().isr.len() == 3 {
                return;
            }
        }
        let ends: Vec<_> = self.nodes.values().map(offsets).collect();
        panic!("the replicas do not meet: {ends:?} {:?}", self.current());
    }

    fn check(&self) {
        let logs: Vec<Vec<u8>> = self.nodes.values().map(|n| bytes(&n.partition)).collect();
        if let Some(other) = logs.iter().find(|log| **log != logs[0]) {
            panic!(
                "the logs differ:\n{:?}\n{:?}",
                spans(&logs[0]),
                spans(other)
            );
        }
        if self.unclean {
            return;
        }
        let mut there = BTreeMap::new();
        for batch in batches(logs[0].clone().into()) {
            let batch = batch.unwrap();
            for record in batch.records(Default::default()) {
                let record = record.unwrap();
                let value = record.value.unwrap();
                there.insert(
                    record.offset,
                    u64::from_be_bytes(value[..].try_into().unwrap()),
                );
            }
        }
        for (offset, value) in &self.acked {
            assert_eq!(there.get(offset), Some(value), "acknowledged at {offset}");
        }
    }
}

fn offsets(node: &Node) -> (Offset, Offset) {
    let offsets = node.partition.offsets();
    (offsets.log_end, offsets.high_watermark)
}

/// Base offset, leader epoch and bytes of each batch.
fn spans(log: &[u8]) -> Vec<(i64, i32, usize)> {
    let batches = batches(log.to_vec().into()).map(Result::unwrap);
    let span = |b: milena_records::Batch| {
        let header = b.header();
        let (base, epoch) = (header.base_offset().0, header.leader_epoch().0);
        (base, epoch, b.bytes().len())
    };
    batches.map(span).collect()
}

fn bytes(partition: &Partition) -> Vec<u8> {
    let reader = partition.reader();
    let (mut at, mut bytes) = (reader.log_start(), Vec::new());
    while at < reader.log_end() {
        let read = reader.read(at, 1 << 20, reader.log_end(), true).unwrap();
        let piece = read.file.unwrap().read().unwrap();
        let last = batches(piece.clone().into()).map(Result::unwrap).last();
        at = last.unwrap().header().next_offset();
        bytes.extend_from_slice(&piece);
    }
    bytes
}

/// What a leader answers.
fn serve(leader: &Partition, follower: i32, order: &Order, now: Now) -> Reply {
    match order {
        Order::Fetch(order) => {
            let (_, ask) = order.wanted[0];
            let wanted = Wanted {
                offset: ask.offset,
                bytes_max: 200,
                at_least_one: true,
                current_leader_epoch: ask.leader_epoch.0,
                last_fetched_epoch: ask.last_epoch.map_or(-1, |epoch| epoch.0),
                from: ReadFrom::Replica,
            };
            let note = FetchNote {
                follower: BrokerId(follower),
                offset: ask.offset,
                log_start: ask.log_start,
                broker_epoch: -1,
            };
            Reply::Fetch(match leader.read_as_follower(wanted, &note, now) {
                Ok((answer, _)) => {
                    let slice = answer.slice.as_ref();
                    let bytes = slice.map(|slice| slice.read().unwrap());
                    Ok((answer, bytes.unwrap_or_default()))
                }
                Err(ReadRefused::Code(code)) => Err(code),
                Err(ReadRefused::Fault(fault)) => panic!("{fault}"),
            })
        }
        Order::Offsets(asked) => {
            use milena_replica::{Isolation, Lookup, fetcher::Which};
            let answers = asked.iter().map(|(_, epoch, which)| {
                let lookup = match which {
                    Which::End => Lookup::LogEnd,
                    Which::Start => Lookup::Earliest,
                };
                let found = leader.look_up(lookup, Isolation::ReadUncommitted, epoch.0);
                match found {
                    Ok(found) => Ok(found.unwrap().offset),
                    Err(ReadRefused::Code(code)) => Err(code),
                    Err(ReadRefused::Fault(fault)) => panic!("{fault}"),
                }
            });
            Reply::Offsets(answers.collect())
        }
    }
}

/// Whether the log was truncated.
fn take_fetch(
    partition: &Partition,
    fetcher: &mut Fetcher,
    answer: Result<(ReadAnswer, Vec<u8>), ErrorCode>,
    now: Now,
) -> u32 {
    let told = Told {
        error: answer.as_ref().err().copied().unwrap_or(ErrorCode::None),
        divergence: answer.as_ref().ok().and_then(|(a, _)| a.divergence),
    };
    let (epoch, done, cut) = match fetcher.judge(id(), told, now.mono) {
        Verdict::Nothing => return 0,
        Verdict::Truncate { leader_epoch, told } => {
            let done = partition.truncate_as_told(leader_epoch, told, now);
            (leader_epoch, done.is_ok(), 1)
        }
        Verdict::Append {
            leader_epoch,
            fetched_from,
        } => {
            let (answer, bytes) = answer.unwrap();
            let batches = check_replicated(bytes.into()).unwrap();
            let (high, start) = (answer.high_watermark, answer.log_start);
            let done = partition.append_as_follower(
                leader_epoch,
                fetched_from,
                &batches,
                high,
                start,
                now,
            );
            (leader_epoch, done.is_ok(), 0)
        }
    };
    let settled = match done {
        true => Settled::Done { lag: 1 },
        false => Settled::Again,
    };
    fetcher.settled(id(), epoch, settled, now.mono);
    cut
}

#[test]
fn no_acknowledged_record_is_lost() {
    let (mut acked, mut elections, mut truncations) = (0, 0, 0);
    for_each_seed(150, |seed| {
        let mut world = World::new(seed);
        for _ in 0..2000 {
            world.step();
        }
        world.heal();
        world.check();
        acked += world.acked.len();
        elections += world.elections;
        truncations += world.truncations;
    });
    println!("{acked} acknowledged, {elections} elections, {truncations} truncations");
    if std::env::var_os("SEED").is_none() {
        assert!(acked > 3_000 && elections > 600 && truncations > 400);
    }
}
