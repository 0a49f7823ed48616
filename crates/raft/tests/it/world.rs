//! Replicas in one process: a clock, a network that can be cut, and every effect carried out in order.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use milena_base::{BrokerId, Epoch, ErrorCode, Instant, Now, Offset, Prng, Timestamp, Uuid};
use milena_protocol::{
    AddRaftVoterRequest, ApiVersionsResponse, DescribeQuorumRequest, RemoveRaftVoterRequest,
};
use milena_protocol::{add_raft_voter_request, api_versions_response, describe_quorum_request};
use milena_raft::{
    BOOTSTRAP_SNAPSHOT, Effect, Endpoint, Event, METADATA_TOPIC, QuorumState, Raft, RaftConfig,
    RaftRequest, RaftResponse, ReplicaKey, SnapshotBuilder, SnapshotId, Unanswered, Voter,
    VoterSet,
};
use milena_testkit::Command;

use crate::memory_log::MemoryLog;

const LATENCY: Duration = Duration::from_millis(1);
const STEPS_MAX: usize = 200_000;

struct Node {
    log: MemoryLog,
    raft: Option<Raft>,
    high_watermark: Offset,
    active: Option<Epoch>,
}

enum Mail {
    Request {
        from: i32,
        correlation: u64,
        request: RaftRequest,
    },
    Response {
        correlation: u64,
        result: Result<RaftResponse, Unanswered>,
    },
}

pub struct World {
    now: u64,
    nodes: BTreeMap<i32, Node>,
    voters: VoterSet,
    /// Whom nodes ask that know no leader.
    servers: Vec<i32>,
    dynamic: bool,
    mail: BTreeMap<(Instant, u64), (i32, Mail)>,
    next: u64,
    /// Requests whose answer is due: token → who asked.
    asked: BTreeMap<u64, (i32, u64)>,
    cut: BTreeSet<(i32, i32)>,
    trace: bool,
    /// Nodes whose flushes are due but don't happen.
    held: BTreeSet<i32>,
    /// Nodes that listen elsewhere from their next start on.
    moved: BTreeSet<i32>,
    /// How often a node got a new disk.
    disks: BTreeMap<i32, u64>,
    out: String,
    /// Committed once is committed for good: the longest prefix that anybody called committed.
    committed: Vec<Bytes>,
    leaders: BTreeMap<Epoch, i32>,
}

fn endpoint(id: i32) -> Endpoint {
    Endpoint {
        name: "CONTROLLER".into(),
        host: format!("n{id}"),
        port: 9093,
    }
}

fn directory(id: i32) -> Uuid {
    Uuid::from_parts(0xD1, id as u64)
}

impl World {
    pub fn new() -> World {
        World {
            now: 0,
            nodes: BTreeMap::new(),
            voters: VoterSet::default(),
            servers: Vec::new(),
            dynamic: false,
            mail: BTreeMap::new(),
            next: 0,
            asked: BTreeMap::new(),
            cut: BTreeSet::new(),
            trace: false,
            held: BTreeSet::new(),
            moved: BTreeSet::new(),
            disks: BTreeMap::new(),
            out: String::new(),
            committed: Vec::new(),
            leaders: BTreeMap::new(),
        }
    }

    fn now(&self) -> Now {
        Now::from_millis(self.now, 1_000_000 + self.now as i64)
    }

    /// Carries out a line of a transcript; what happened.
    pub fn command(&mut self, line: &str) -> String {
        let command = Command::parse(line);
        match command.name() {
            "voters" => self.set_voters(&command),
            "start" => self.start(command.word(0)),
            "kill" => self.kill(command.word(0)),
            "power-cut" => self.power_cut(command.word(0)),
            "stop" => self.event(command.word(0), Event::Stop),
            "run" => self.run(command.millis(&command.words()[0])),
            "append" => self.append(command.word(0), command.word(1)),
            "cut" => self.set_cut(command.word(0), command.word(1), true),
            "heal" => self.set_cut(command.word(0), command.word(1), false),
            "trace" => self.trace = command.word::<String>(0) == "on",
            "hold-flush" => {
                self.held.insert(command.word(0));
            }
            "flush" => {
                self.held.remove(&command.word(0));
                self.flush(command.word(0));
            }
            "snapshot" => self.snapshot(command.word(0)),
            "clean" => self.clean(command.word(0)),
            "resign" => self.resign(command.word(0)),
            "join" => self.start_to_join(command.word(0)),
            "move" => self.moved.extend([command.word::<i32>(0)]),
            "lose-disk" => self.lose_disk(command.word(0)),
            "add-voter" => self.add_voter(command.word(0), command.word(1)),
            "remove-voter" => self.remove_voter(command.word(0), command.word(1)),
            "voters-of" => self.show_voters(command.word(0)),
            "describe" => self.describe(command.word(0), command.word(1)),
            "log" => self.show_log(command.word(0)),
            "roles" => self.show_roles(),
            "state" => self.show_state(command.word(0)),
            "fail-flush" => self.nodes[&command.word(0)].log.disk().fail_flush = true,
            other => panic!("no command {other}"),
        }
        std::mem::take(&mut self.out)
    }

    fn set_voters(&mut self, command: &Command) {
        let ids: Vec<i32> = command.list("ids");
        self.dynamic = command.find("dynamic").unwrap_or(false);
        self.servers = ids.clone();
        self.servers.extend(command.list::<i32>("servers"));
        self.voters = VoterSet::new(ids.iter().map(|&id| Voter {
            key: ReplicaKey {
                id: BrokerId(id),
                directory: self.dynamic.then(|| directory(id)),
            },
            endpoints: vec![endpoint(id)],
            kraft_versions: (0, 1),
        }));
        for id in ids {
            let log = MemoryLog::default();
            if self.dynamic {
                let head = (1, Some(&self.voters));
                let time = Timestamp(1);
                let bytes = SnapshotBuilder::new(BOOTSTRAP_SNAPSHOT, time, head, time).finish(time);
                let bytes = Bytes::from(bytes.concat());
                log.disk().snapshots.insert(BOOTSTRAP_SNAPSHOT, bytes);
            }
            self.add_node(id, log);
        }
    }

    fn add_node(&mut self, id: i32, log: MemoryLog) {
        let node = Node {
            log,
            raft: None,
            high_watermark: Offset::ZERO,
            active: None,
        };
        self.nodes.insert(id, node);
    }

    pub fn start(&mut self, id: i32) {
        self.open(id, false);
    }

    /// Starts a node that asks to be a voter by itself.
    fn start_to_join(&mut self, id: i32) {
        self.open(id, true);
    }

    fn directory(&self, id: i32) -> Uuid {
        let disk = self.disks.get(&id).copied().unwrap_or(0);
        Uuid::from_parts(0xD1 + disk, id as u64)
    }

    fn lose_disk(&mut self, id: i32) {
        let node = self.nodes.get_mut(&id).unwrap();
        node.raft = None;
        node.active = None;
        node.log = MemoryLog::default();
        *self.disks.entry(id).or_default() += 1;
    }

    fn open(&mut self, id: i32, auto_join: bool) {
        if !self.nodes.contains_key(&id) {
            self.add_node(id, MemoryLog::default());
        }
        let mut config = RaftConfig::new(BrokerId(id), self.directory(id), "cluster");
        config.endpoints = vec![endpoint(id)];
        if self.moved.contains(&id) {
            config.endpoints[0].port = 9999;
        }
        config.auto_join = auto_join;
        if !self.dynamic {
            config.static_voters = self.voters.clone();
        }
        let servers = self.servers.iter().filter(|other| **other != id);
        config.bootstrap = servers.map(|other| (format!("n{other}"), 9093)).collect();
        let log = self.nodes[&id].log.clone();
        let stored = log.disk().quorum_state.clone();
        let stored = stored.map(|bytes| QuorumState::from_file(&bytes).unwrap());
        let mut effects = Vec::new();
        let prng = Prng::new(id as u64 * 1000 + self.now);
        let raft = Raft::open(
            config,
            Box::new(log),
            stored,
            prng,
            self.now(),
            &mut effects,
        );
        let node = self.nodes.get_mut(&id).unwrap();
        node.raft = Some(raft.unwrap());
        node.high_watermark = Offset::ZERO;
        self.carry_out(id, effects);
    }

    fn kill(&mut self, id: i32) {
        let node = self.nodes.get_mut(&id).unwrap();
        node.raft = None;
        node.active = None;
        node.log
            .disk()
            .quorum_state
            .as_ref()
            .expect("it was started");
    }

    fn power_cut(&mut self, id: i32) {
        self.kill(id);
        self.nodes[&id].log.disk().cut_power();
    }

    fn set_cut(&mut self, a: i32, b: i32, cut: bool) {
        for link in [(a, b), (b, a)] {
            match cut {
                true => self.cut.insert(link),
                false => self.cut.remove(&link),
            };
        }
    }

    fn event(&mut self, id: i32, event: Event) {
        let now = self.now();
        let Some(raft) = &mut self.nodes.get_mut(&id).unwrap().raft else {
            return;
        };
        let mut effects = Vec::new();
        raft.step(event, now, &mut effects).unwrap();
        self.carry_out(id, effects);
    }

    fn carry_out(&mut self, id: i32, effects: Vec<Effect>) {
        let mut flush = false;
        for effect in effects {
            match effect {
                Effect::Persist(bytes) => {
                    let text = String::from_utf8(bytes.clone()).unwrap();
                    self.note_trace(id, &format!("persist {text}"));
                    self.nodes[&id].log.disk().quorum_state = Some(bytes);
                }
                Effect::Flush => flush = true,
                Effect::Send {
                    to,
                    correlation,
                    request,
                } => {
                    self.note_trace(
                        id,
                        &format!("send {} to {}", request_text(&request), to.host),
                    );
                    let target: i32 = to.host.trim_start_matches('n').parse().unwrap();
                    self.post(
                        id,
                        target,
                        Mail::Request {
                            from: id,
                            correlation,
                            request,
                        },
                    );
                }
                Effect::Answer { token, response } => self.answer(id, token, response),
                Effect::Leader(leader) => {
                    let who = leader
                        .leader
                        .map_or("nobody".to_string(), |l| l.to_string());
                    self.note(id, &format!("leader {who} epoch {}", leader.epoch));
                    if leader.leader == Some(BrokerId(id)) {
                        let other = self.leaders.insert(leader.epoch, id);
                        assert!(other.is_none_or(|o| o == id), "one leader in an epoch");
                    } else {
                        self.nodes.get_mut(&id).unwrap().active = None;
                    }
                }
                Effect::Committed { high_watermark } => self.on_committed(id, high_watermark),
                Effect::Active { epoch, next_offset } => {
                    self.note(id, &format!("active epoch {epoch} next {next_offset}"));
                    self.nodes.get_mut(&id).unwrap().active = Some(epoch);
                }
                Effect::SnapshotLoaded(snapshot) => {
                    self.note(id, &format!("snapshot {snapshot}"));
                }
                Effect::Stopped => {
                    self.note(id, "stopped");
                    self.nodes.get_mut(&id).unwrap().raft = None;
                }
            }
        }
        if flush && !self.held.contains(&id) {
            self.flush(id);
        }
    }

    fn flush(&mut self, id: i32) {
        let now = self.now();
        let Some(raft) = &mut self.nodes.get_mut(&id).unwrap().raft else {
            return;
        };
        let mut effects = Vec::new();
        match raft.flush(now, &mut effects) {
            Ok(()) => self.carry_out(id, effects),
            Err(fault) => {
                self.note(id, &format!("halts: {fault}"));
                self.nodes.get_mut(&id).unwrap().raft = None;
            }
        }
    }

    fn on_committed(&mut self, id: i32, high_watermark: Offset) {
        self.note(id, &format!("committed {high_watermark}"));
        let node = self.nodes.get_mut(&id).unwrap();
        assert!(high_watermark >= node.high_watermark, "it never goes back");
        node.high_watermark = high_watermark;
        let disk = node.log.disk();
        if disk.dump().starts_with("start=0 ") {
            let prefix = disk.prefix(high_watermark);
            let common = prefix.len().min(self.committed.len());
            assert_eq!(
                prefix[..common],
                self.committed[..common],
                "committed once, committed for good"
            );
            if prefix.len() > self.committed.len() {
                self.committed = prefix;
            }
        }
    }

    fn post(&mut self, from: i32, to: i32, mail: Mail) {
        self.next += 1;
        let at = Instant::from_millis(self.now) + LATENCY;
        if self.cut.contains(&(from, to)) {
            if let Mail::Request { correlation, .. } = mail {
                let result = Err(Unanswered::Unreachable);
                self.mail.insert(
                    (at, self.next),
                    (
                        from,
                        Mail::Response {
                            correlation,
                            result,
                        },
                    ),
                );
            }
            return;
        }
        self.mail.insert((at, self.next), (to, mail));
    }

    fn answer(&mut self, id: i32, token: u64, response: RaftResponse) {
        if let RaftResponse::DescribeQuorum(response) = &response {
            let partition = &response.topics[0].partitions[0];
            let text = format!("{partition:?} nodes={:?}", response.nodes);
            self.note(id, &text);
            return;
        }
        let Some((asker, correlation)) = self.asked.remove(&token) else {
            return self.answer_client(id, response);
        };
        let result = Ok(response);
        self.post(
            id,
            asker,
            Mail::Response {
                correlation,
                result,
            },
        );
    }

    fn answer_client(&mut self, id: i32, response: RaftResponse) {
        let (what, code, why) = match response {
            RaftResponse::AddRaftVoter(r) => ("add-voter", r.error_code, r.error_message),
            RaftResponse::RemoveRaftVoter(r) => ("remove-voter", r.error_code, r.error_message),
            other => panic!("answered twice: {other:?}"),
        };
        let code = ErrorCode::from_code(code).unwrap();
        let why = why.unwrap_or_default();
        self.note(id, format!("{what} {code:?} {why}").trim_end());
    }

    fn add_voter(&mut self, leader: i32, id: i32) {
        let endpoint = endpoint(id);
        let request = RaftRequest::AddRaftVoter(AddRaftVoterRequest {
            cluster_id: None,
            voter_id: id,
            voter_directory_id: self.directory(id),
            listeners: vec![add_raft_voter_request::Listener {
                name: endpoint.name.into(),
                host: endpoint.host.into(),
                port: endpoint.port,
            }],
            ..AddRaftVoterRequest::default()
        });
        self.ask(leader, request);
    }

    fn remove_voter(&mut self, leader: i32, id: i32) {
        let request = RaftRequest::RemoveRaftVoter(RemoveRaftVoterRequest {
            cluster_id: None,
            voter_id: id,
            voter_directory_id: self.directory(id),
        });
        self.ask(leader, request);
    }

    fn ask(&mut self, id: i32, request: RaftRequest) {
        self.next += 1;
        let token = self.next;
        let version = 1;
        self.event(
            id,
            Event::Request {
                token,
                version,
                request,
            },
        );
    }

    fn show_voters(&mut self, id: i32) {
        let Some(raft) = &self.nodes[&id].raft else {
            return;
        };
        let voters = raft.voters().iter().map(|voter| {
            let endpoint = &voter.endpoints[0];
            format!("{}@{}:{}", voter.key, endpoint.host, endpoint.port)
        });
        let voters: Vec<String> = voters.collect();
        self.note(id, &voters.join(" "));
    }

    /// Lets time pass, event by event.
    fn run(&mut self, millis: u64) {
        let end = self.now + millis;
        for _ in 0..STEPS_MAX {
            let mail = self
                .mail
                .first_key_value()
                .map(|((at, _), _)| at.as_millis());
            let timers = self.nodes.iter().filter_map(|(id, node)| {
                let deadline = node.raft.as_ref()?.deadline();
                (deadline != Instant::NEVER).then(|| (deadline.as_millis().max(self.now), *id))
            });
            let timer = timers.min();
            let next = mail.into_iter().chain(timer.map(|(at, _)| at)).min();
            let Some(next) = next.filter(|&at| at <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            if mail.is_some_and(|at| at <= next) {
                let ((_, _), (to, mail)) = self.mail.pop_first().unwrap();
                self.deliver(to, mail);
            } else if let Some((_, id)) = timer {
                self.now += u64::from(self.is_idle(id));
                self.event(id, Event::Tick);
            }
        }
        let state: Vec<String> = self
            .nodes
            .iter()
            .filter_map(|(id, node)| {
                let raft = node.raft.as_ref()?;
                Some(format!(
                    "{id}: {} until {:?}",
                    raft.role_name(),
                    raft.deadline()
                ))
            })
            .collect();
        panic!(
            "the world does not come to rest at {}: {state:?}\n{}",
            self.now, self.out
        );
    }

    /// A deadline in the past that a tick does not move would stop the clock.
    fn is_idle(&self, id: i32) -> bool {
        let raft = self.nodes[&id].raft.as_ref();
        raft.is_some_and(|raft| raft.deadline().as_millis() < self.now)
    }

    fn deliver(&mut self, to: i32, mail: Mail) {
        match mail {
            Mail::Request {
                from,
                correlation,
                request,
            } => {
                if self.nodes.get(&to).is_none_or(|node| node.raft.is_none()) {
                    let result = Err(Unanswered::Unreachable);
                    self.post(
                        to,
                        from,
                        Mail::Response {
                            correlation,
                            result,
                        },
                    );
                    return;
                }
                if let RaftRequest::ApiVersions(_) = request {
                    let result = Ok(RaftResponse::ApiVersions(supports_reconfiguration()));
                    return self.post(
                        to,
                        from,
                        Mail::Response {
                            correlation,
                            result,
                        },
                    );
                }
                self.next += 1;
                let token = self.next;
                self.asked.insert(token, (from, correlation));
                let version = match request {
                    RaftRequest::Fetch(_) => 18,
                    _ => 1,
                };
                self.event(
                    to,
                    Event::Request {
                        token,
                        version,
                        request,
                    },
                );
            }
            Mail::Response {
                correlation,
                result,
            } => {
                self.event(
                    to,
                    Event::Response {
                        correlation,
                        result,
                    },
                );
            }
        }
    }

    fn append(&mut self, id: i32, count: usize) {
        let now = self.now();
        let node = self.nodes.get_mut(&id).unwrap();
        let epoch = node.active.unwrap_or(Epoch(99));
        let Some(raft) = &mut node.raft else { return };
        let values: Vec<Bytes> = (0..count)
            .map(|i| Bytes::from(format!("{id}.{epoch}.{i}")))
            .collect();
        let mut effects = Vec::new();
        match raft.append(epoch, &values, now, &mut effects) {
            Ok(at) => self.note(id, &format!("appended {}-{}", at.first, at.last)),
            Err(why) => self.note(id, &format!("not appended: {why:?}")),
        }
        self.carry_out(id, effects);
    }

    fn snapshot(&mut self, id: i32) {
        let now = self.now();
        let node = self.nodes.get_mut(&id).unwrap();
        let raft = node.raft.as_ref().unwrap();
        let end = node.high_watermark;
        let at = SnapshotId {
            offset: end,
            epoch: node.log.disk().epoch_before(end),
        };
        match raft.begin_snapshot(at, now.wall, now.wall) {
            Ok(mut builder) => {
                builder.append(Bytes::from_static(b"state"), now.wall);
                let bytes = Bytes::from(builder.finish(now.wall).concat());
                node.log.disk().snapshots.insert(at, bytes);
                self.event(id, Event::SnapshotFrozen(at));
                self.note(id, &format!("snapshot {at}"));
            }
            Err(why) => self.note(id, &format!("no snapshot {at}: {why:?}")),
        }
    }

    fn clean(&mut self, id: i32) {
        let now = self.now();
        let raft = self.nodes.get_mut(&id).unwrap().raft.as_mut().unwrap();
        let retention = milena_raft::Retention {
            bytes_max: 1,
            age_ms_max: -1,
        };
        let cleaned = retention.clean(raft.log_mut(), now).unwrap();
        self.note(id, &format!("cleaned {cleaned}"));
    }

    fn resign(&mut self, id: i32) {
        let raft = self.nodes[&id].raft.as_ref().unwrap();
        let epoch = raft.leader_and_epoch().epoch;
        self.event(id, Event::Resign(epoch));
    }

    fn describe(&mut self, id: i32, version: i16) {
        let request = RaftRequest::DescribeQuorum(DescribeQuorumRequest {
            topics: vec![describe_quorum_request::TopicData {
                topic_name: METADATA_TOPIC.into(),
                partitions: vec![describe_quorum_request::PartitionData { partition_index: 0 }],
            }],
        });
        self.event(
            id,
            Event::Request {
                token: 0,
                version,
                request,
            },
        );
    }

    /// Nodes that run and call themselves active, with their epochs.
    pub fn active(&self) -> Vec<(i32, Epoch)> {
        let nodes = self.nodes.iter();
        nodes
            .filter_map(|(id, node)| Some((*id, node.active?)))
            .collect()
    }

    /// Whether this node runs.
    pub fn is_up(&self, id: i32) -> bool {
        self.nodes[&id].raft.is_some()
    }

    /// Every replica's high watermark and log, to see whether they agree.
    pub fn ends(&self) -> Vec<(Offset, String)> {
        let nodes = self.nodes.values();
        nodes
            .map(|node| {
                let dump = node.log.disk().dump();
                let log = dump.split(" snapshot").next().unwrap_or_default();
                let log = log.split_once(' ').map_or("", |(_, batches)| batches);
                (node.high_watermark, log.to_owned())
            })
            .collect()
    }

    fn show_log(&mut self, id: i32) {
        let dump = self.nodes[&id].log.disk().dump();
        self.note(id, &dump);
    }

    fn show_roles(&mut self) {
        let roles = self.nodes.iter().map(|(id, node)| {
            let role = node.raft.as_ref().map_or("down", |raft| raft.role_name());
            format!("{id}={role}")
        });
        let roles: Vec<String> = roles.collect();
        let _ = writeln!(self.out, "{}", roles.join(" "));
    }

    fn show_state(&mut self, id: i32) {
        let state = self.nodes[&id].log.disk().quorum_state.clone().unwrap();
        self.note(id, &String::from_utf8(state).unwrap());
    }

    fn note(&mut self, id: i32, text: &str) {
        let _ = writeln!(self.out, "{id}: {text}");
    }

    fn note_trace(&mut self, id: i32, text: &str) {
        if self.trace {
            self.note(id, text);
        }
    }
}

/// What a replica of this release says of itself.
fn supports_reconfiguration() -> ApiVersionsResponse {
    ApiVersionsResponse {
        supported_features: vec![api_versions_response::SupportedFeatureKey {
            name: "kraft.version".into(),
            min_version: 0,
            max_version: 1,
        }],
        ..ApiVersionsResponse::default()
    }
}

fn request_text(request: &RaftRequest) -> String {
    match request {
        RaftRequest::Vote(request) => {
            let vote = &request.topics[0].partitions[0];
            let kind = if vote.pre_vote { "pre-vote" } else { "vote" };
            format!(
                "{kind} epoch={} end={} last-epoch={}",
                vote.replica_epoch, vote.last_offset, vote.last_offset_epoch
            )
        }
        RaftRequest::BeginQuorumEpoch(request) => {
            format!(
                "begin epoch={}",
                request.topics[0].partitions[0].leader_epoch
            )
        }
        RaftRequest::EndQuorumEpoch(request) => {
            let end = &request.topics[0].partitions[0];
            format!(
                "end epoch={} successors={:?}",
                end.leader_epoch, end.preferred_successors
            )
        }
        RaftRequest::Fetch(request) => {
            let fetch = &request.topics[0].partitions[0];
            format!(
                "fetch epoch={} from={}",
                fetch.current_leader_epoch, fetch.fetch_offset
            )
        }
        RaftRequest::FetchSnapshot(request) => {
            let fetch = &request.topics[0].partitions[0];
            format!(
                "fetch-snapshot {} from={}",
                fetch.snapshot_id.end_offset, fetch.position
            )
        }
        RaftRequest::DescribeQuorum(_) => "describe".to_string(),
        RaftRequest::AddRaftVoter(request) => format!("add-voter {}", request.voter_id),
        RaftRequest::RemoveRaftVoter(request) => format!("remove-voter {}", request.voter_id),
        RaftRequest::UpdateRaftVoter(request) => format!("update-voter {}", request.voter_id),
        RaftRequest::ApiVersions(_) => "api-versions".to_string(),
    }
}
