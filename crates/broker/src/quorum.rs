//! The quorum's mailbox: the raft replica, and on its leader the active controller. It carries out raft's effects in
//! their order, appends what the controller decides, and answers when that is committed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use milena_base::{Epoch, ErrorCode, Instant, Now, Offset};
use milena_controller::{
    Controller, ControllerAnswer, ControllerRequest, Decision, RECORDS_PER_BATCH_MAX,
};
use milena_image::{Image, Loader, Provenance, VersionedRecord};
use milena_protocol::MetadataRecord;
use milena_raft::{
    Effect, Event, Fault, LeaderAndEpoch, MetadataBatch, NotAppended, Raft, RaftResponse,
    Retention, SnapshotId, SnapshotPolicy, walk,
};
use tracing::{error, info, warn};

use crate::ask::{Ask, Wanted, deliver};
use crate::broker::Broker;
use crate::ctx::{Outbox, ReplyTo};
use crate::housekeeping::Chore;
use crate::mailbox::{Mailbox, Post};
use crate::metadata_log::write_quorum_state;
use crate::peers::PeerAnswer;
use crate::probes::{Probed, Probes};
use crate::publisher::MetadataEvent;
use crate::raft_calls::RaftCalls;
use crate::to_controller::{ActiveController, ToControllerEvent};

/// Committed batches are read in pieces of this size.
const READ_BYTES: usize = 1024 * 1024;
/// How long a stop waits for another voter to take over.
const STOP_MAX: Duration = Duration::from_secs(5);
/// Events that may go before a flush that is wanted: one fsync serves them all.
const EVENTS_BEFORE_FLUSH_MAX: u32 = 64;
/// Different notices of the quorum that are told.
const NOTICES_MAX: usize = 100;

/// What the mailbox is told.
#[derive(Debug)]
pub enum QuorumEvent {
    /// For the active controller, or for this node's replica of the quorum.
    Ask(Box<Ask>),
    /// What became of a request to another voter.
    Answered(PeerAnswer),
    /// The publisher's view at an offset, for a snapshot.
    SnapshotImage(Box<Image>),
    /// Whether the snapshot is complete on the disk.
    SnapshotWritten(SnapshotId, bool),
    Stop,
}

struct Parked {
    ask: Box<Ask>,
    answer: ControllerAnswer,
}

/// See the module's words.
pub struct Quorum {
    broker: Arc<Broker>,
    raft: Raft,
    controller: Controller,
    /// The epoch in which this node's controller is active.
    active: Option<Epoch>,
    /// Committed metadata up to `next`, until the publisher's view has come as far: a controller starts from it.
    committed: Option<Loader>,
    /// Next committed offset to hand on.
    next: Offset,
    /// Answers by the offset that has to be committed: everything below.
    parked: BTreeMap<Offset, Vec<Parked>>,
    asked: BTreeMap<u64, ReplyTo>,
    next_token: u64,
    /// Requests under way to other voters.
    calls: RaftCalls,
    probes: Probes,
    /// Directory of `__cluster_metadata-0`.
    dir: PathBuf,
    snapshots: SnapshotPolicy,
    retention: Retention,
    snapshot_under_way: bool,
    flush_wanted: bool,
    events_since_flush: u32,
    caught_up: bool,
    /// What was told already of other nodes.
    noticed: BTreeSet<String>,
    /// When a stop no longer waits for the others.
    stop_at: Option<Instant>,
    finished: bool,
}

/// What the mailbox is made of.
pub struct QuorumParts {
    pub raft: Raft,
    pub opening: Vec<Effect>,
    pub controller: Controller,
    /// Whether this node may become the active controller.
    pub is_controller: bool,
    /// Directory of `__cluster_metadata-0`.
    pub dir: PathBuf,
    pub snapshots: SnapshotPolicy,
    pub retention: Retention,
}

impl Quorum {
    /// Carries out what opening the replica asked for.
    pub fn start(broker: Arc<Broker>, parts: QuorumParts, now: Now, out: &mut Outbox) -> Quorum {
        let mut quorum = Quorum {
            broker,
            raft: parts.raft,
            controller: parts.controller,
            active: None,
            committed: parts.is_controller.then(Loader::default),
            next: Offset::ZERO,
            parked: BTreeMap::new(),
            asked: BTreeMap::new(),
            next_token: 0,
            calls: RaftCalls::default(),
            probes: Probes::default(),
            dir: parts.dir,
            snapshots: parts.snapshots,
            retention: parts.retention,
            snapshot_under_way: false,
            flush_wanted: false,
            events_since_flush: 0,
            caught_up: false,
            noticed: BTreeSet::new(),
            stop_at: None,
            finished: false,
        };
        let done = quorum.carry_out(parts.opening, now, out);
        let done = done.and_then(|()| quorum.flush_if_wanted(now, out));
        quorum.halt_on(done, out);
        quorum
    }

    /// The replica, for whoever watches.
    pub fn raft(&self) -> &Raft {
        &self.raft
    }

    fn halt_on(&mut self, done: Result<(), Fault>, out: &mut Outbox) {
        if let Err(fault) = done {
            self.finished = true;
            out.post(Post::Halt(format!("the metadata log failed: {fault}")));
        }
    }

    fn carry_out(&mut self, effects: Vec<Effect>, now: Now, out: &mut Outbox) -> Result<(), Fault> {
        for effect in effects {
            match effect {
                Effect::Persist(bytes) => self.persist(&bytes)?,
                Effect::Flush => self.flush_wanted = true,
                Effect::Send {
                    to,
                    correlation,
                    request,
                } => {
                    let deadline = now.mono + self.broker.settings.quorum_request_timeout;
                    self.calls.send(to, correlation, request, deadline, out);
                }
                Effect::Answer { token, response } => self.answer_quorum(token, response, out),
                Effect::Leader(leader) => {
                    let (id, role) = (leader.leader.map_or(-1, |id| id.0), self.raft.role_name());
                    info!(leader = id, epoch = leader.epoch.0, role, "quorum");
                    self.on_leader(leader, out);
                }
                Effect::Committed { high_watermark } => {
                    self.broker.set_kraft_version(self.raft.kraft_version());
                    self.hand_on(high_watermark, now, out)?;
                }
                Effect::Active { epoch, .. } => self.activate(epoch, now, out)?,
                Effect::SnapshotLoaded(id) => self.load_snapshot(id, out)?,
                Effect::Notice(text) => self.notice(text),
                Effect::Stopped => self.finished = true,
            }
        }
        Ok(())
    }

    /// Told once: it comes again with every try.
    fn notice(&mut self, text: String) {
        if self.noticed.len() < NOTICES_MAX && !self.noticed.contains(&text) {
            warn!("{text}");
            self.noticed.insert(text);
        }
    }

    fn persist(&self, bytes: &[u8]) -> Result<(), Fault> {
        write_quorum_state(&*self.broker.dirs.disk, &self.dir, bytes)
    }

    /// Another leader, or none: requests of this node go elsewhere, or wait.
    fn on_leader(&mut self, leader: LeaderAndEpoch, out: &mut Outbox) {
        let me = self.broker.node();
        let id = leader.leader.map_or(-1, |id| id.0);
        self.broker.set_active_controller(id);
        let goes_on = self.active == Some(leader.epoch) && leader.leader == Some(me);
        if self.active.is_some() && !goes_on {
            self.step_down(leader.leader.map(|id| id.0), out);
        }
        if leader.leader == Some(me) {
            // Told when the controller is active.
            return;
        }
        let peer = leader.leader.and_then(|_| self.raft.leader_peer());
        let active = peer.map(|peer| ActiveController {
            node: peer.id,
            host: peer.host,
            port: peer.port,
        });
        out.post(ToControllerEvent::Active(active));
    }

    /// This node's controller is active no more. What waits for records to be committed is asked again of the next one,
    /// or refused: whether they will be committed is the next leader's to know.
    fn step_down(&mut self, leader: Option<i32>, out: &mut Outbox) {
        self.active = None;
        self.controller.on_resigned(leader);
        let parked = std::mem::take(&mut self.parked);
        for waiting in parked.into_values().flatten() {
            self.pass_on(waiting.ask, out);
        }
    }

    /// What this node's controller can't answer.
    fn pass_on(&self, ask: Box<Ask>, out: &mut Outbox) {
        if ask.travels && self.stop_at.is_none() {
            return out.post(ToControllerEvent::Ask(ask));
        }
        match ask.reply_to().and_then(|to| Some((to, to.envelope?))) {
            Some((to, envelope)) => {
                let frame = envelope.refused(ErrorCode::NotController);
                out.replies.push((to, frame));
            }
            None => ask.refuse(&self.broker, ErrorCode::NotController, out),
        }
    }

    /// Committed metadata up to `next`: what the publisher shows, and the log's batches after it.
    fn committed(&mut self, out: &mut Outbox) -> Result<Loader, Fault> {
        if let Some(loader) = self.committed.take() {
            return Ok(loader);
        }
        let image = Image::clone(&self.broker.image());
        let mut at = image.provenance.offset + 1;
        if at < self.raft.log().start_offset() {
            let why = "the published metadata is older than the log";
            out.post(Post::Halt(why.to_owned()));
            return Err(Fault::corrupt(why));
        }
        let mut loader = Loader::new(image);
        while at < self.next {
            let from = at;
            for batch in walk(self.raft.log().read(at, READ_BYTES)?) {
                let batch = batch?;
                if batch.last_offset >= self.next {
                    break;
                }
                at = batch.last_offset + 1;
                let records = decode(&batch.values)?;
                let loaded = loader.load_batch(&records, provenance(&batch));
                loaded.map_err(|why| Fault::corrupt(why.to_string()))?;
            }
            if at == from {
                return Err(Fault::corrupt("a committed batch can't be read"));
            }
        }
        Ok(loader)
    }

    /// The publisher has caught up: the second copy of the metadata goes.
    fn forget_committed(&mut self) {
        let caught_up = self.caught_up && self.broker.image().provenance.offset + 1 >= self.next;
        if caught_up && self.next > Offset::ZERO {
            self.committed = None;
        }
    }

    /// Reads what has been committed since the last time and hands it to the publisher and to the answers.
    fn hand_on(&mut self, high_watermark: Offset, now: Now, out: &mut Outbox) -> Result<(), Fault> {
        let latest = self.raft.log().latest_snapshot();
        if let Some(id) = latest.filter(|id| id.offset > self.next) {
            self.load_snapshot(id, out)?;
        }
        while self.next < high_watermark {
            let bytes = self.raft.log().read(self.next, READ_BYTES)?;
            let from = self.next;
            for batch in walk(bytes) {
                let batch = batch?;
                if batch.last_offset >= high_watermark {
                    break;
                }
                self.next = batch.last_offset + 1;
                if batch.base_offset >= from || batch.last_offset >= from {
                    self.hand_on_batch(batch, now, out)?;
                }
            }
            if self.next == from {
                return Err(Fault::corrupt("a committed batch can't be read"));
            }
        }
        if !self.caught_up {
            self.caught_up = true;
            out.post(MetadataEvent::CaughtUp);
        }
        self.release(out);
        Ok(())
    }

    fn hand_on_batch(
        &mut self,
        batch: MetadataBatch,
        now: Now,
        out: &mut Outbox,
    ) -> Result<(), Fault> {
        let records = decode(&batch.values)?;
        let last = provenance(&batch);
        if let Some(committed) = &mut self.committed {
            let loaded = committed.load_batch(&records, last);
            loaded.map_err(|why| Fault::corrupt(why.to_string()))?;
        }
        if self.snapshots.loaded(batch.bytes as u64, now.mono) && !self.snapshot_under_way {
            self.snapshot_under_way = true;
            out.post(MetadataEvent::Batch { records, last });
            out.post(MetadataEvent::WantSnapshot);
            return Ok(());
        }
        out.post(MetadataEvent::Batch { records, last });
        Ok(())
    }

    fn load_snapshot(&mut self, id: SnapshotId, out: &mut Outbox) -> Result<(), Fault> {
        let mut bytes = Vec::new();
        let size = self.raft.log().snapshot_size(id)?.unwrap_or(0);
        while (bytes.len() as u64) < size {
            let piece = self
                .raft
                .log()
                .read_snapshot(id, bytes.len() as u64, READ_BYTES)?;
            if piece.is_empty() {
                return Err(Fault::corrupt(format!("snapshot {id} ends early")));
            }
            bytes.extend_from_slice(&piece);
        }
        let mut records = Vec::new();
        for batch in walk(Bytes::from(bytes)) {
            records.extend(decode(&batch?.values)?);
        }
        let last = Provenance {
            offset: id.offset - 1,
            epoch: id.epoch,
            timestamp: milena_raft::last_contained_log_timestamp(self.raft.log(), id)?,
        };
        if let Some(committed) = &mut self.committed {
            let loaded = committed.load_snapshot(records.clone(), last);
            loaded.map_err(|why| Fault::corrupt(why.to_string()))?;
        }
        self.next = id.offset;
        info!(offset = id.offset.0, "loaded a metadata snapshot");
        out.post(MetadataEvent::Snapshot { records, last });
        Ok(())
    }

    fn activate(&mut self, epoch: Epoch, now: Now, out: &mut Outbox) -> Result<(), Fault> {
        self.active = Some(epoch);
        let committed = self.committed(out)?;
        let image = committed.image().clone();
        let next = self.raft.log().end_offset();
        let in_transaction = committed.in_transaction();
        self.controller.set_kraft_version(self.raft.kraft_version());
        let decision = self
            .controller
            .on_elected(epoch.0, image, in_transaction, next, now);
        self.append(decision, None, now, out)?;
        out.post(ToControllerEvent::Active(Some(ActiveController {
            node: self.broker.node(),
            host: String::new(),
            port: 0,
        })));
        Ok(())
    }

    fn ask(&mut self, ask: Box<Ask>, now: Now, out: &mut Outbox) -> Result<(), Fault> {
        match &ask.wanted {
            Wanted::Controller(..) if self.active.is_none() => {
                self.pass_on(ask, out);
                Ok(())
            }
            Wanted::Controller(request, context) => {
                if let ControllerRequest::UpdateFeatures(_) = &**request {
                    let why = self.raft.dynamic_voters().err();
                    self.controller.set_static_because(why);
                }
                let decision = self.controller.handle(request, context, now);
                self.append(decision, Some(ask), now, out)
            }
            Wanted::Quorum(_) => self.ask_quorum(*ask, now, out),
        }
    }

    fn ask_quorum(&mut self, ask: Ask, now: Now, out: &mut Outbox) -> Result<(), Fault> {
        let (Some(to), Wanted::Quorum(request)) = (ask.reply_to(), ask.wanted) else {
            return Ok(());
        };
        let token = self.next_token;
        self.next_token += 1;
        self.asked.insert(token, to);
        let event = Event::Request {
            token,
            version: to.version,
            request,
        };
        let mut effects = Vec::new();
        self.raft.step(event, now, &mut effects)?;
        self.carry_out(effects, now, out)
    }

    /// Appends a decision's records, replays them, and parks its answer until they are committed.
    fn append(
        &mut self,
        decision: Decision,
        ask: Option<Box<Ask>>,
        now: Now,
        out: &mut Outbox,
    ) -> Result<(), Fault> {
        if decision.raises_kraft_version {
            let mut effects = Vec::new();
            self.raft.become_dynamic(now, &mut effects)?;
            self.carry_out(effects, now, out)?;
            self.controller.set_kraft_version(self.raft.kraft_version());
        }
        let batch_max = match decision.atomic {
            true => usize::MAX,
            false => RECORDS_PER_BATCH_MAX,
        };
        for records in decision
            .records
            .chunks(batch_max.min(decision.records.len().max(1)))
        {
            if !self.append_batch(records, now, out)? {
                if let Some(ask) = ask {
                    self.pass_on(ask, out);
                }
                return Ok(());
            }
        }
        self.controller.batch_end(self.raft.log().end_offset());
        if let (Some(ask), Some(answer)) = (ask, decision.answer) {
            let until = self.raft.log().end_offset();
            let parked = Parked { ask, answer };
            self.parked.entry(until).or_default().push(parked);
            self.release(out);
        }
        Ok(())
    }

    /// False where this node's controller is active no more.
    fn append_batch(
        &mut self,
        records: &[VersionedRecord],
        now: Now,
        out: &mut Outbox,
    ) -> Result<bool, Fault> {
        let Some(epoch) = self.active else {
            return Ok(false);
        };
        let values: Result<Vec<Bytes>, _> = records
            .iter()
            .map(|(record, version)| record.encode(*version))
            .collect();
        let values = values.map_err(|error| Fault::corrupt(error.to_string()))?;
        let mut effects = Vec::new();
        match self.raft.append(epoch, &values, now, &mut effects) {
            Ok(appended) => {
                for (at, (record, _)) in records.iter().enumerate() {
                    let offset = appended.first + at as i64;
                    let replayed = self.controller.replay(record, offset);
                    replayed.map_err(|why| Fault::corrupt(why.to_string()))?;
                }
            }
            Err(NotAppended::Fault(fault)) => return Err(fault),
            Err(other) => {
                error!("the controller's records were not appended: {other:?}");
                self.step_down(None, out);
                self.raft.step(Event::Resign(epoch), now, &mut effects)?;
            }
        }
        self.carry_out(effects, now, out)?;
        Ok(self.active.is_some())
    }

    /// Sends the answers whose records are committed.
    fn release(&mut self, out: &mut Outbox) {
        let Some(committed) = self.raft.high_watermark() else {
            return;
        };
        while let Some(entry) = self.parked.first_entry() {
            if *entry.key() > committed {
                return;
            }
            for parked in entry.remove() {
                deliver(&self.broker, parked.ask.origin, parked.answer, out);
            }
        }
    }

    fn answer_quorum(&mut self, token: u64, response: RaftResponse, out: &mut Outbox) {
        let Some(to) = self.asked.remove(&token) else {
            return;
        };
        match response {
            RaftResponse::Vote(body) => out.reply(to, &body),
            RaftResponse::BeginQuorumEpoch(body) => out.reply(to, &body),
            RaftResponse::EndQuorumEpoch(body) => out.reply(to, &body),
            RaftResponse::Fetch(body) => out.reply(to, &body),
            RaftResponse::FetchSnapshot(body) => out.reply(to, &body),
            RaftResponse::DescribeQuorum(body) => out.reply(to, &body),
            RaftResponse::AddRaftVoter(body) => out.reply(to, &body),
            RaftResponse::RemoveRaftVoter(body) => out.reply(to, &body),
            RaftResponse::UpdateRaftVoter(body) => out.reply(to, &body),
            RaftResponse::ApiVersions(body) => out.reply(to, &body),
        }
    }

    fn flush_if_wanted(&mut self, now: Now, out: &mut Outbox) -> Result<(), Fault> {
        while self.flush_wanted {
            self.flush_wanted = false;
            self.events_since_flush = 0;
            let mut effects = Vec::new();
            self.raft.flush(now, &mut effects)?;
            self.carry_out(effects, now, out)?;
        }
        Ok(())
    }

    fn begin_snapshot(&mut self, image: Image, now: Now, out: &mut Outbox) {
        let p = image.provenance;
        let id = SnapshotId {
            offset: p.offset + 1,
            epoch: p.epoch,
        };
        match self.raft.begin_snapshot(id, p.timestamp, now.wall) {
            Ok(builder) => out.post(Chore::Snapshot {
                builder: Box::new(builder),
                image: Box::new(image),
            }),
            Err(why) => {
                self.snapshot_under_way = false;
                info!("no snapshot is taken at {id}: {why:?}");
            }
        }
    }

    fn handle(&mut self, event: QuorumEvent, now: Now, out: &mut Outbox) -> Result<(), Fault> {
        let mut effects = Vec::new();
        match event {
            QuorumEvent::Ask(ask) => self.ask(ask, now, out)?,
            QuorumEvent::Answered(answer) => {
                if let Some(probed) = self.probes.answered(&answer) {
                    self.probed(&probed, now);
                } else if let Some(event) = self.calls.answered(answer) {
                    self.raft.step(event, now, &mut effects)?;
                }
            }
            QuorumEvent::SnapshotImage(image) => self.begin_snapshot(*image, now, out),
            QuorumEvent::SnapshotWritten(_, false) => self.snapshot_under_way = false,
            QuorumEvent::SnapshotWritten(id, true) => {
                self.snapshot_under_way = false;
                self.raft
                    .step(Event::SnapshotFrozen(id), now, &mut effects)?;
                self.retention.clean(self.raft.log_mut(), now)?;
            }
            QuorumEvent::Stop => {
                self.stop_at = Some(now.mono + STOP_MAX);
                self.raft.step(Event::Stop, now, &mut effects)?;
            }
        }
        self.carry_out(effects, now, out)
    }

    /// A silent broker was looked for.
    fn probed(&mut self, probed: &Probed, now: Now) {
        let broker = probed.broker;
        if probed.gone && self.active.is_some() && self.controller.presume_gone(broker, now) {
            info!(
                broker,
                "nobody listens where this broker did: its session ends"
            );
        }
    }

    fn probe_silent(&mut self, now: Now, out: &mut Outbox) {
        let me = self.broker.node().0;
        let silent = self.controller.silent_brokers(now).into_iter();
        self.probes.send(silent.filter(|id| *id != me), now, out);
    }

    fn time(&mut self, now: Now, out: &mut Outbox) -> Result<(), Fault> {
        let mut effects = Vec::new();
        self.raft.step(Event::Tick, now, &mut effects)?;
        self.carry_out(effects, now, out)?;
        while self.active.is_some()
            && let Some(decision) = self.controller.tick(now)
        {
            self.append(decision, None, now, out)?;
        }
        if self.active.is_some() {
            self.probe_silent(now, out);
        }
        if self.stop_at.is_some_and(|at| at <= now.mono) {
            self.finished = true;
        }
        self.flush_if_wanted(now, out)
    }
}

fn provenance(batch: &MetadataBatch) -> Provenance {
    Provenance {
        offset: batch.last_offset,
        epoch: batch.epoch,
        timestamp: batch.append_timestamp,
    }
}

fn decode(values: &[Bytes]) -> Result<Vec<MetadataRecord>, Fault> {
    let records = values.iter().map(MetadataRecord::decode);
    let records: Result<Vec<_>, _> = records.collect();
    records.map_err(|why| Fault::corrupt(format!("a metadata record can't be read: {why}")))
}

impl Mailbox for Quorum {
    type Event = QuorumEvent;

    fn step(&mut self, event: QuorumEvent, now: Now, out: &mut Outbox) {
        if self.committed.is_some() {
            self.forget_committed();
        }
        let mut done = self.handle(event, now, out);
        self.events_since_flush += 1;
        if self.events_since_flush >= EVENTS_BEFORE_FLUSH_MAX {
            done = done.and_then(|()| self.flush_if_wanted(now, out));
        }
        self.halt_on(done, out);
    }

    fn tick(&mut self, now: Now, out: &mut Outbox) {
        let done = self.time(now, out);
        self.halt_on(done, out);
    }

    fn deadline(&self) -> Instant {
        if self.flush_wanted {
            return Instant::ZERO;
        }
        let controller = match self.active {
            Some(_) => self.controller.next_deadline(),
            None => Instant::NEVER,
        };
        let stop = self.stop_at.unwrap_or(Instant::NEVER);
        self.raft.deadline().min(controller).min(stop)
    }

    fn is_finished(&self) -> bool {
        self.finished
    }
}
