//! The quorum's mailbox: the raft replica, and on its leader the active controller. It carries out raft's effects in
//! their order, appends what the controller decides, and answers when that is committed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use milena_base::{Epoch, Instant, Now, Offset};
use milena_controller::{
    Controller, ControllerAnswer, ControllerRequest, Decision, RECORDS_PER_BATCH_MAX,
    RequestContext,
};
use milena_image::{Image, Loader, Provenance, VersionedRecord};
use milena_net::Frame;
use milena_protocol::{
    DescribeQuorumRequest, MetadataRecord, alter_configs_response,
    incremental_alter_configs_response,
};
use milena_raft::{
    Effect, Event, Fault, MetadataBatch, NotAppended, Raft, RaftRequest, RaftResponse, Retention,
    SnapshotId, SnapshotPolicy, walk,
};
use tracing::{error, info};

use crate::broker::Broker;
use crate::ctx::{Outbox, ReplyTo};
use crate::housekeeping::Chore;
use crate::insync::InSyncEvent;
use crate::lifecycle::LifecycleEvent;
use crate::mailbox::{Mailbox, Post};
use crate::metadata_log::write_quorum_state;
use crate::peers::PeerAnswer;
use crate::producer_ids;
use crate::publisher::MetadataEvent;
use crate::raft_calls::RaftCalls;

/// Committed batches are read in pieces of this size.
const READ_BYTES: usize = 1024 * 1024;
/// Events that may go before a flush that is wanted: one fsync serves them all.
const EVENTS_BEFORE_FLUSH_MAX: u32 = 64;

/// Who asked the controller.
#[derive(Clone, Debug)]
pub enum Origin {
    Client(ReplyTo),
    /// With the resources that the broker itself refused.
    IncrementalAlterConfigs(
        ReplyTo,
        Vec<incremental_alter_configs_response::AlterConfigsResourceResponse>,
    ),
    AlterConfigs(
        ReplyTo,
        Vec<alter_configs_response::AlterConfigsResourceResponse>,
    ),
    Lifecycle,
    ProducerIds,
    InSync,
    /// The answer is not looked at: the committed records tell.
    Nobody,
}

/// What the mailbox is told.
#[derive(Debug)]
pub enum QuorumEvent {
    Request {
        origin: Origin,
        request: Box<ControllerRequest>,
        context: RequestContext,
    },
    DescribeQuorum {
        to: ReplyTo,
        request: DescribeQuorumRequest,
    },
    /// What became of a request to another voter.
    Answered(PeerAnswer),
    /// The publisher's view at an offset, for a snapshot.
    SnapshotImage(Box<Image>),
    /// Whether the snapshot is complete on the disk.
    SnapshotWritten(SnapshotId, bool),
    Stop,
}

struct Parked {
    origin: Origin,
    answer: ControllerAnswer,
}

/// See the module's words.
pub struct Quorum {
    broker: Arc<Broker>,
    raft: Raft,
    controller: Controller,
    /// The epoch in which this node's controller is active.
    active: Option<Epoch>,
    /// Committed metadata, as the controller starts from.
    committed: Loader,
    /// Next committed offset to hand on.
    next: Offset,
    /// Answers by the offset that has to be committed: everything below.
    parked: BTreeMap<Offset, Vec<Parked>>,
    /// Requests that came before a controller was active.
    early: Vec<(Origin, ControllerRequest, RequestContext)>,
    asked: BTreeMap<u64, ReplyTo>,
    next_token: u64,
    /// Requests under way to other voters.
    calls: RaftCalls,
    /// Directory of `__cluster_metadata-0`.
    dir: PathBuf,
    snapshots: SnapshotPolicy,
    retention: Retention,
    snapshot_under_way: bool,
    flush_wanted: bool,
    events_since_flush: u32,
    caught_up: bool,
    stopping: bool,
    finished: bool,
}

/// What the mailbox is made of.
pub struct QuorumParts {
    pub raft: Raft,
    pub opening: Vec<Effect>,
    pub controller: Controller,
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
            committed: Loader::default(),
            next: Offset::ZERO,
            parked: BTreeMap::new(),
            early: Vec::new(),
            asked: BTreeMap::new(),
            next_token: 0,
            calls: RaftCalls::default(),
            dir: parts.dir,
            snapshots: parts.snapshots,
            retention: parts.retention,
            snapshot_under_way: false,
            flush_wanted: false,
            events_since_flush: 0,
            caught_up: false,
            stopping: false,
            finished: false,
        };
        let done = quorum.carry_out(parts.opening, now, out);
        let done = done.and_then(|()| quorum.flush_if_wanted(now, out));
        quorum.halt_on(done, out);
        quorum
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
                    let id = leader.leader.map_or(-1, |id| id.0);
                    info!(leader = id, epoch = leader.epoch.0, "quorum");
                    self.broker.set_active_controller(id);
                    if self.active.is_some_and(|epoch| epoch != leader.epoch) {
                        self.step_down(leader.leader.map(|id| id.0), out);
                    }
                }
                Effect::Committed { high_watermark } => {
                    self.broker.set_kraft_version(self.raft.kraft_version());
                    self.hand_on(high_watermark, now, out)?;
                }
                Effect::Active { epoch, .. } => self.activate(epoch, now, out)?,
                Effect::SnapshotLoaded(id) => self.load_snapshot(id, out)?,
                Effect::Stopped => self.finished = true,
            }
        }
        Ok(())
    }

    fn persist(&self, bytes: &[u8]) -> Result<(), Fault> {
        write_quorum_state(&*self.broker.dirs.disk, &self.dir, bytes)
    }

    /// This node's controller is active no more. In a quorum of one that happens only on the way out: otherwise
    /// nobody would be left to lead, and the committed view has been given to the controller.
    fn step_down(&mut self, leader: Option<i32>, out: &mut Outbox) {
        self.active = None;
        self.parked.clear();
        self.controller.on_resigned(leader);
        if !self.stopping {
            let why = "the only voter of the quorum lost its leadership".to_owned();
            out.post(Post::Halt(why));
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
        let last = Provenance {
            offset: batch.last_offset,
            epoch: batch.epoch,
            timestamp: batch.append_timestamp,
        };
        if self.active.is_none() {
            let loaded = self.committed.load_batch(&records, last);
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
        let loaded = self.committed.load_snapshot(records.clone(), last);
        loaded.map_err(|why| Fault::corrupt(why.to_string()))?;
        self.next = id.offset;
        info!(offset = id.offset.0, "loaded a metadata snapshot");
        out.post(MetadataEvent::Snapshot { records, last });
        Ok(())
    }

    fn activate(&mut self, epoch: Epoch, now: Now, out: &mut Outbox) -> Result<(), Fault> {
        self.active = Some(epoch);
        let image = self.committed.image().clone();
        let next = self.raft.log().end_offset();
        let in_transaction = self.committed.in_transaction();
        // From here on the controller's own image is the newest: the second copy goes.
        self.committed = Loader::default();
        self.controller.set_kraft_version(self.raft.kraft_version());
        let decision = self
            .controller
            .on_elected(epoch.0, image, in_transaction, next, now);
        self.append(decision, None, now, out)?;
        for (origin, request, context) in std::mem::take(&mut self.early) {
            self.ask(origin, request, context, now, out)?;
        }
        out.post(LifecycleEvent::ControllerReady);
        Ok(())
    }

    fn ask(
        &mut self,
        origin: Origin,
        request: ControllerRequest,
        context: RequestContext,
        now: Now,
        out: &mut Outbox,
    ) -> Result<(), Fault> {
        if self.active.is_none() {
            self.early.push((origin, request, context));
            return Ok(());
        }
        let decision = self.controller.handle(&request, &context, now);
        self.append(decision, Some(origin), now, out)
    }

    /// Appends a decision's records, replays them, and parks its answer until they are committed.
    fn append(
        &mut self,
        decision: Decision,
        origin: Option<Origin>,
        now: Now,
        out: &mut Outbox,
    ) -> Result<(), Fault> {
        let batch_max = match decision.atomic {
            true => usize::MAX,
            false => RECORDS_PER_BATCH_MAX,
        };
        for records in decision
            .records
            .chunks(batch_max.min(decision.records.len().max(1)))
        {
            self.append_batch(records, now, out)?;
        }
        self.controller.batch_end(self.raft.log().end_offset());
        if let (Some(origin), Some(answer)) = (origin, decision.answer) {
            let until = self.raft.log().end_offset();
            let parked = Parked { origin, answer };
            self.parked.entry(until).or_default().push(parked);
            self.release(out);
        }
        Ok(())
    }

    fn append_batch(
        &mut self,
        records: &[VersionedRecord],
        now: Now,
        out: &mut Outbox,
    ) -> Result<(), Fault> {
        let Some(epoch) = self.active else {
            return Err(Fault::corrupt("a decision without an active controller"));
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
            }
        }
        self.carry_out(effects, now, out)
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
                answer(&self.broker, parked, out);
            }
        }
    }

    fn answer_quorum(&mut self, token: u64, response: RaftResponse, out: &mut Outbox) {
        if let (Some(to), RaftResponse::DescribeQuorum(body)) =
            (self.asked.remove(&token), response)
        {
            out.reply(to, &body);
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
            QuorumEvent::Request {
                origin,
                request,
                context,
            } => self.ask(origin, *request, context, now, out)?,
            QuorumEvent::DescribeQuorum { to, request } => {
                let token = self.next_token;
                self.next_token += 1;
                self.asked.insert(token, to);
                let event = Event::Request {
                    token,
                    version: to.version,
                    request: RaftRequest::DescribeQuorum(request),
                };
                self.raft.step(event, now, &mut effects)?;
            }
            QuorumEvent::Answered(answer) => {
                if let Some(event) = self.calls.answered(answer) {
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
                self.stopping = true;
                self.raft.step(Event::Stop, now, &mut effects)?;
            }
        }
        self.carry_out(effects, now, out)
    }

    fn time(&mut self, now: Now, out: &mut Outbox) -> Result<(), Fault> {
        let mut effects = Vec::new();
        self.raft.step(Event::Tick, now, &mut effects)?;
        self.carry_out(effects, now, out)?;
        if self.active.is_some() {
            while let Some(decision) = self.controller.tick(now) {
                self.append(decision, None, now, out)?;
            }
        }
        self.flush_if_wanted(now, out)
    }
}

/// Sends an answer to whoever asked.
fn answer(broker: &Broker, parked: Parked, out: &mut Outbox) {
    let Parked { origin, answer } = parked;
    match (origin, answer) {
        (Origin::Client(to), answer) => {
            let encode = |w: &mut milena_protocol::Writer| answer.encode(w, to.version);
            let frame = Frame::response_with(to.api, to.version, to.correlation_id, encode);
            let frame = frame.unwrap_or_else(|why| panic!("{:?} v{}: {why}", to.api, to.version));
            out.replies.push((to, frame));
        }
        (
            Origin::IncrementalAlterConfigs(to, refused),
            ControllerAnswer::IncrementalAlterConfigs(mut body),
        ) => {
            body.responses.extend(refused);
            out.reply(to, &body);
        }
        (Origin::AlterConfigs(to, refused), ControllerAnswer::AlterConfigs(mut body)) => {
            body.responses.extend(refused);
            out.reply(to, &body);
        }
        (Origin::Lifecycle, ControllerAnswer::BrokerRegistration(body)) => {
            out.post(LifecycleEvent::Registered(Box::new(body)));
        }
        (Origin::Lifecycle, ControllerAnswer::BrokerHeartbeat(body)) => {
            out.post(LifecycleEvent::Beaten(Box::new(body)));
        }
        (Origin::ProducerIds, ControllerAnswer::AllocateProducerIds(body)) => {
            producer_ids::on_block(broker, &body, out);
        }
        (Origin::InSync, ControllerAnswer::AlterPartition(body)) => {
            out.post(InSyncEvent::Answered(Box::new(body)));
        }
        // An answer of another kind than its request is not made.
        (_, _) => {}
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
        self.raft.deadline().min(controller)
    }

    fn is_finished(&self) -> bool {
        self.finished
    }
}
