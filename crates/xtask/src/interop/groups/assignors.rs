//! Random histories of groups: members join, leave, change what they subscribe to and which assignor they like, static
//! members come back under another id, topics get more partitions. After every step the targets that are recorded have
//! to be those of Kafka's own group and assignors, with the same records before them (`interop/java/Groups.java`).

use std::io::{BufWriter, Write};

use milena_base::{Prng, Uuid};
use milena_group::consumer::assignor::Assignor;
use milena_protocol::{ConsumerGroupHeartbeatRequest, Str};

use super::driver::{Driver, GROUP};
use crate::interop::java;

/// Histories; `MILENA_INTEROP_INSTANCES` multiplies them.
const HISTORIES: u64 = 200;
const STEPS: u64 = 14;
/// A member leaves for a while, and for good.
const LEAVE_FOR_A_WHILE: i32 = -2;
const LEAVE: i32 = -1;

pub fn run() -> Result<(), String> {
    let mut child = java::start("Groups", java::KAFKA, &[])?;
    let pipe = child.stdin.take().ok_or("no pipe to java")?;
    let sent = send(BufWriter::new(pipe)).map_err(|e| format!("to java: {e}"));
    let status = child.wait().map_err(|e| e.to_string())?;
    match status.success() {
        true => sent,
        false => Err("Kafka assigns otherwise: see above".into()),
    }
}

fn send(mut out: impl Write) -> std::io::Result<()> {
    let factor = std::env::var("MILENA_INTEROP_INSTANCES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(1);
    for seed in 0..HISTORIES * factor {
        let mut history = History::new(seed);
        history.begin(&mut out)?;
        for _ in 0..STEPS {
            history.step(&mut out)?;
        }
    }
    out.flush()
}

fn topic_name(prng: &mut Prng) -> String {
    let letter = |prng: &mut Prng| char::from(b'a' + prng.below(26) as u8);
    (0..1 + prng.below(12)).map(|_| letter(prng)).collect()
}

struct Member {
    id: String,
    instance: Option<String>,
    /// Static, and away for a while.
    away: bool,
    /// Static, and in the group: it can join only after it went.
    there: bool,
}

struct History {
    seed: u64,
    prng: Prng,
    driver: Driver,
    first: Assignor,
    topics: Vec<(String, Uuid, i32)>,
    members: Vec<Member>,
    /// How many members there are to be, about.
    size: u64,
    /// All subscribe to the same, mostly.
    alike: bool,
    mixed_assignors: bool,
}

impl History {
    fn new(seed: u64) -> History {
        let mut prng = Prng::new(seed);
        let first = match prng.chance(2, 3) {
            true => Assignor::Uniform,
            false => Assignor::Range,
        };
        let topics = (0..1 + prng.below(6)).map(|_| {
            let id = Uuid::random(&mut prng);
            let partitions = 1 + prng.below(24) as i32;
            (topic_name(&mut prng), id, partitions)
        });
        let topics: Vec<_> = topics.collect();
        History {
            seed,
            driver: Driver::new(first, seed),
            first,
            topics,
            members: Vec::new(),
            size: [3, 8, 30][prng.below(3) as usize],
            alike: prng.chance(1, 2),
            mixed_assignors: prng.chance(1, 4),
            prng,
        }
    }

    fn begin(&mut self, out: &mut impl Write) -> std::io::Result<()> {
        writeln!(out, "group {} {}", self.seed, self.first.name())?;
        for at in 0..self.topics.len() {
            self.tell_topic(at, out)?;
        }
        Ok(())
    }

    fn tell_topic(&mut self, at: usize, out: &mut impl Write) -> std::io::Result<()> {
        let (name, id, partitions) = &self.topics[at];
        self.driver.topics.put(name, *id, *partitions);
        let bits = u128::from_be_bytes(id.0);
        let (high, low) = ((bits >> 64) as i64, bits as i64);
        writeln!(out, "topic {name} {high} {low} {partitions}")?;
        let name = name.clone();
        self.driver.topic_changed(&name);
        Ok(())
    }

    fn step(&mut self, out: &mut impl Write) -> std::io::Result<()> {
        let few = (self.members.len() as u64) < self.size;
        match self.prng.below(10) {
            0..=4 if few => {
                for _ in 0..1 + self.prng.below(self.size / 2 + 1) {
                    self.join(out)?;
                }
            }
            0..=2 if !self.members.is_empty() => self.leave(out)?,
            3..=5 if !self.members.is_empty() => {
                let at = self.some_member();
                self.beat(at, out)?;
            }
            6..=7 => self.come_back(out)?,
            8 => {
                let at = self.prng.below(self.topics.len() as u64) as usize;
                self.topics[at].2 += 1 + self.prng.below(8) as i32;
                self.tell_topic(at, out)?;
            }
            _ => self.join(out)?,
        }
        Ok(())
    }

    fn some_member(&mut self) -> usize {
        self.prng.below(self.members.len() as u64) as usize
    }

    /// Ids as clients make them.
    fn new_id(&mut self) -> String {
        Uuid::random(&mut self.prng).to_string()
    }

    fn join(&mut self, out: &mut impl Write) -> std::io::Result<()> {
        let id = self.new_id();
        let instance = self
            .prng
            .chance(1, 3)
            .then(|| format!("i{}", self.members.len()));
        let taken = |m: &Member| m.instance.is_some() && m.instance == instance;
        if self.members.iter().any(taken) {
            return Ok(());
        }
        self.members.push(Member {
            id,
            instance,
            away: false,
            there: false,
        });
        self.beat(self.members.len() - 1, out)
    }

    fn leave(&mut self, out: &mut impl Write) -> std::io::Result<()> {
        let at = self.some_member();
        if self.members[at].instance.is_some() && self.prng.chance(2, 3) {
            let request = self.leaving(at, LEAVE_FOR_A_WHILE);
            self.members[at].away = true;
            return self.take_answer(request).map(|_| ());
        }
        let request = self.leaving(at, LEAVE);
        writeln!(out, "leave {}", self.members[at].id)?;
        self.members.remove(at);
        self.take_answer(request).map(|_| ())
    }

    fn leaving(&self, at: usize, epoch: i32) -> ConsumerGroupHeartbeatRequest {
        let member = &self.members[at];
        ConsumerGroupHeartbeatRequest {
            group_id: GROUP.into(),
            member_id: Str::copy(&member.id),
            instance_id: member.instance.as_deref().map(Str::copy),
            member_epoch: epoch,
            ..Default::default()
        }
    }

    /// A static member that was away has another id now.
    fn come_back(&mut self, out: &mut impl Write) -> std::io::Result<()> {
        let Some(at) = self.members.iter().position(|member| member.away) else {
            return Ok(());
        };
        self.members[at].id = self.new_id();
        self.members[at].away = false;
        self.members[at].there = false;
        self.beat(at, out)
    }

    /// A member says everything, as when it joins.
    fn beat(&mut self, at: usize, out: &mut impl Write) -> std::io::Result<()> {
        if self.members[at].away {
            return Ok(());
        }
        if self.members[at].there {
            let gone = self.leaving(at, LEAVE_FOR_A_WHILE);
            self.take_answer(gone)?;
            self.members[at].id = self.new_id();
        }
        self.members[at].there = self.members[at].instance.is_some();
        let mut topics: Vec<String> = self.topics.iter().map(|topic| topic.0.clone()).collect();
        if !self.alike || self.prng.chance(1, 10) {
            topics.retain(|_| self.prng.chance(2, 3));
        }
        topics.sort();
        topics.dedup();
        let assignor = match self.mixed_assignors && self.prng.chance(1, 2) {
            true => Some(["uniform", "range"][self.prng.below(2) as usize]),
            false => None,
        };
        let member = &self.members[at];
        let request = ConsumerGroupHeartbeatRequest {
            group_id: GROUP.into(),
            member_id: Str::copy(&member.id),
            member_epoch: 0,
            instance_id: member.instance.as_deref().map(Str::copy),
            rebalance_timeout_ms: 10_000,
            subscribed_topic_names: Some(topics.iter().map(|topic| Str::copy(topic)).collect()),
            server_assignor: assignor.map(Str::copy),
            topic_partitions: Some(Vec::new()),
            ..Default::default()
        };
        let words = format!(
            "member {} {} {} {}",
            member.id,
            member.instance.as_deref().unwrap_or("-"),
            assignor.unwrap_or("-"),
            match topics.is_empty() {
                true => "-".to_string(),
                false => topics.join(","),
            }
        );
        let assigned = self.take_answer(request)?;
        writeln!(out, "{words} {}", if assigned { "assign" } else { "keep" })?;
        for (member, topics) in self.driver.recorded.drain(..) {
            writeln!(out, "record {member} {}", topics.join(" "))?;
        }
        writeln!(out, "done")
    }

    /// Whether there is a new target.
    fn take_answer(&mut self, request: ConsumerGroupHeartbeatRequest) -> std::io::Result<bool> {
        let before = self.driver.computed;
        let leaves = request.member_epoch < 0;
        let answer = self.driver.beat(request);
        match answer.error_code {
            0 => Ok(!leaves && self.driver.computed > before),
            code => Err(std::io::Error::other(format!(
                "history {}: error {code}: {:?}",
                self.seed, answer.error_message
            ))),
        }
    }
}
