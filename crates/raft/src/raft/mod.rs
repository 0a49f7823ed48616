//! The replica: its state, the door in, the transitions between roles.

mod answers;
mod changing;
mod describe;
mod election;
mod epochs;
mod following;
mod joining;
mod leading;
mod timers;

use bytes::Bytes;
use milena_base::{BrokerId, Epoch, ErrorCode, Instant, Now, Offset, Prng, Timestamp};

use crate::batch::data_batch;
use crate::history::ControlHistory;
use crate::log::{Fault, OffsetAndEpoch, ReplicatedLog, SnapshotId};
use crate::message::{
    Effect, Event, KRAFT_VERSIONS, LeaderAndEpoch, Peer, RaftConfig, RaftRequest, RaftResponse,
};
use crate::peers::Peers;
use crate::quorum_state::QuorumState;
use crate::role::{Resigned, Role, Unattached};
use crate::snapshot::SnapshotBuilder;
use crate::voters::{ReplicaKey, VoterSet};

use leading::ParkedFetch;

/// Where appended records went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    pub first: Offset,
    pub last: Offset,
}

/// Why nothing was appended.
#[derive(Debug)]
pub enum NotAppended {
    /// This node does not lead that epoch, or not yet ([`Effect::Active`]).
    NotLeader,
    /// The records don't fit into one batch ([`crate::BATCH_BYTES_MAX`]): append them in parts.
    TooLarge,
    /// The disk is full. Nothing was written, and appending may be tried again.
    Full(Fault),
    /// The log can't be written: the node stops.
    Fault(Fault),
}

impl From<Fault> for NotAppended {
    fn from(fault: Fault) -> NotAppended {
        if fault.is_full() {
            NotAppended::Full(fault)
        } else {
            NotAppended::Fault(fault)
        }
    }
}

/// Why a snapshot is not begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotRefused {
    /// It is there already, or the log begins after it.
    NotNeeded,
    /// Its end is not committed, or its epoch is not the log's.
    Invalid(String),
}

/// One replica of the quorum.
///
/// Invariants: `high_watermark <= log.end_offset()`; what was [`Effect::Persist`]ed last is the role's state; a parked
/// fetch exists only while this replica leads.
#[derive(Debug)]
pub struct Raft {
    config: RaftConfig,
    log: Box<dyn ReplicatedLog>,
    control: ControlHistory,
    epoch: Epoch,
    role: Role,
    high_watermark: Option<Offset>,
    persisted: Option<QuorumState>,
    announced: Option<LeaderAndEpoch>,
    peers: Peers,
    parked: Vec<ParkedFetch>,
    prng: Prng,
    flush_asked: bool,
    /// What the log's end was at the last flush.
    flushed: Offset,
    stopping: bool,
    stopped: bool,
}

impl Raft {
    /// Opens the replica on its log. `stored` is the file `quorum-state`, where there is one. A lone voter elects itself
    /// at once; carry out the effects before anything else.
    pub fn open(
        config: RaftConfig,
        mut log: Box<dyn ReplicatedLog>,
        stored: Option<QuorumState>,
        seed: Prng,
        now: Now,
        out: &mut Vec<Effect>,
    ) -> Result<Raft, Fault> {
        assert!(
            !config.directory.is_zero(),
            "a formatted directory has an id"
        );
        log.truncate_to_latest_snapshot(now)?;
        let control = ControlHistory::load(config.static_voters.clone(), log.as_ref())?;
        check_kraft_version(&control)?;
        let peers = Peers::new(
            &config.bootstrap,
            config.request_timeout,
            config.retry_backoff,
        );
        let mut raft = Raft {
            epoch: Epoch::ZERO,
            role: Role::Unattached(Unattached {
                leader: None,
                voted: None,
                election_at: Instant::NEVER,
            }),
            high_watermark: None,
            persisted: stored.clone(),
            announced: None,
            peers,
            parked: Vec::new(),
            prng: seed,
            // What a killed process left is in the page cache, and counts only when it is on disk.
            flush_asked: log.end_offset() > log.start_offset(),
            flushed: Offset::NONE,
            stopping: false,
            stopped: false,
            control,
            log,
            config,
        };
        if raft.flush_asked {
            out.push(Effect::Flush);
        }
        raft.start(stored, now, out)?;
        raft.poll(now, out)?;
        Ok(raft)
    }

    /// The role to begin with: never leader, and never again in an epoch that was led before.
    fn start(
        &mut self,
        stored: Option<QuorumState>,
        now: Now,
        out: &mut Vec<Effect>,
    ) -> Result<(), Fault> {
        let state = stored.unwrap_or(QuorumState {
            epoch: Epoch::ZERO,
            leader: None,
            voted: None,
        });
        let election_at = self.election_time(now.mono);
        let unattached = |leader, voted| {
            Role::Unattached(Unattached {
                leader,
                voted,
                election_at,
            })
        };
        let last_epoch = self.log.last_epoch();
        if state.epoch < last_epoch {
            self.epoch = last_epoch;
            return self.become_role(unattached(None, None), out);
        }
        self.epoch = state.epoch;
        let leader = state.leader.filter(|&leader| leader != self.config.node);
        let role = if state.leader == Some(self.config.node) {
            self.resigned(Vec::new(), now.mono)
        } else if let Some(peer) = leader.and_then(|leader| self.voter_peer(leader)) {
            self.follower(peer, state.voted, now.mono)
        } else {
            unattached(leader, state.voted)
        };
        self.become_role(role, out)
    }

    /// The one door for what happens. After an error the replica is not to be used any more: the node stops.
    pub fn step(&mut self, event: Event, now: Now, out: &mut Vec<Effect>) -> Result<(), Fault> {
        self.resign_if_overdue(now, out)?;
        match event {
            Event::Tick => {}
            Event::Request {
                token,
                version,
                request,
            } => self.on_request(token, version, request, now, out)?,
            Event::Response {
                correlation,
                result,
            } => self.on_response(correlation, result, now, out)?,
            Event::SnapshotFrozen(id) => self.log.snapshot_frozen(id),
            Event::Resign(epoch) => self.resign(epoch, now, out)?,
            Event::Stop => self.stopping = true,
        }
        self.poll(now, out)
    }

    /// A leader that was paused resigns before it takes up what waited meanwhile: neither an old fetch nor the answer to
    /// one is a sign that it is still followed.
    fn resign_if_overdue(&mut self, now: Now, out: &mut Vec<Effect>) -> Result<(), Fault> {
        match &self.role {
            Role::Leader(role) if role.lost_quorum(now.mono) => self.poll(now, out),
            _ => Ok(()),
        }
    }

    /// Appends the controller's records in one batch, all or none. They are committed when the high watermark passes
    /// `last`.
    pub fn append(
        &mut self,
        epoch: Epoch,
        values: &[Bytes],
        now: Now,
        out: &mut Vec<Effect>,
    ) -> Result<Appended, NotAppended> {
        assert!(!values.is_empty(), "an empty batch has no offsets");
        let resigned = self.resign_if_overdue(now, out);
        resigned.map_err(NotAppended::Fault)?;
        match &self.role {
            Role::Leader(leader) if leader.epoch == epoch && leader.active => {}
            _ => return Err(NotAppended::NotLeader),
        }
        let batch = data_batch(values, now.wall).ok_or(NotAppended::TooLarge)?;
        let (first, last) = self.log.append_as_leader(batch.build(), epoch, now)?;
        self.after_append(now, out)?;
        Ok(Appended { first, last })
    }

    /// Makes the log durable and counts what was appended: what [`Effect::Flush`] asks for. Blocks on the disk.
    pub fn flush(&mut self, now: Now, out: &mut Vec<Effect>) -> Result<(), Fault> {
        self.flush_asked = false;
        let withheld = self.withholds();
        let end = self.log.end_offset();
        if self.flushed != end {
            self.log.flush(now)?;
            self.flushed = end;
        }
        let risen = match &mut self.role {
            Role::Leader(leader) => leader.on_flushed(end, self.control.voters()),
            Role::Follower(follower) => {
                follower.unflushed = false;
                false
            }
            _ => false,
        };
        if risen {
            self.on_high_watermark(now, out)?;
        } else if withheld {
            self.answer_parked(now, out)?;
        }
        self.poll(now, out)
    }

    /// Begins a snapshot of everything below `id.offset`. The caller writes its bytes to a file, and reports
    /// [`Event::SnapshotFrozen`] when the file has its final name.
    pub fn begin_snapshot(
        &self,
        id: SnapshotId,
        last_contained_log_timestamp: Timestamp,
        now: Timestamp,
    ) -> Result<SnapshotBuilder, SnapshotRefused> {
        if id.offset < self.log.start_offset() || self.log.snapshots().contains(&id) {
            return Err(SnapshotRefused::NotNeeded);
        }
        if self.high_watermark.is_none_or(|hw| id.offset > hw) {
            return Err(SnapshotRefused::Invalid(format!(
                "snapshot {id} would hold what is not committed"
            )));
        }
        // The epoch is that of the last record in it: older epochs end before that record.
        let before = self.log.end_offset_for_epoch(Epoch(id.epoch.0 - 1));
        if self.check_position(id.offset, id.epoch) != Position::Valid || before.offset >= id.offset
        {
            return Err(SnapshotRefused::Invalid(format!(
                "snapshot {id} has an epoch that the log does not have there"
            )));
        }
        Ok(SnapshotBuilder::new(
            id,
            last_contained_log_timestamp,
            self.control.before(id.offset),
            now,
        ))
    }

    /// The log, to read from.
    pub fn log(&self) -> &dyn ReplicatedLog {
        self.log.as_ref()
    }

    /// The log, for retention ([`crate::Retention::clean`]).
    pub fn log_mut(&mut self) -> &mut dyn ReplicatedLog {
        self.log.as_mut()
    }

    /// What is committed, as far as known here; `None` until a leader of this epoch said so.
    pub fn high_watermark(&self) -> Option<Offset> {
        self.high_watermark
    }

    /// Who leads, as far as known here.
    pub fn leader_and_epoch(&self) -> LeaderAndEpoch {
        let leader = match self.role {
            Role::Resigned(_) => None,
            _ => self.role.leader(self.config.node),
        };
        LeaderAndEpoch {
            leader,
            epoch: self.epoch,
        }
    }

    /// The voter set in force.
    pub fn voters(&self) -> &VoterSet {
        self.control.voters()
    }

    /// The finalised `kraft.version`.
    pub fn kraft_version(&self) -> i16 {
        self.control.kraft_version()
    }

    /// Kafka's name of the role, as in the metric `current-state`.
    pub fn role_name(&self) -> &'static str {
        match &self.role {
            Role::Unattached(role) if role.voted.is_some() => "unattached-voted",
            Role::Unattached(_) => "unattached",
            Role::Prospective(role) if role.voted.is_some() => "prospective-voted",
            Role::Prospective(_) => "prospective",
            Role::Candidate(_) => "candidate",
            Role::Follower(_) if self.is_voter() => "follower",
            Role::Follower(_) => "observer",
            Role::Leader(_) => "leader",
            Role::Resigned(_) => "resigned",
        }
    }

    fn is_voter(&self) -> bool {
        self.control.voters().contains(self.config.key())
    }

    /// Whether this replica may ask for votes. So may one whose removal is perhaps not committed: others may not have it,
    /// and then can't win against its longer log (Ongaro's dissertation, 4.2.2). Its own vote does not count.
    fn may_stand(&self) -> bool {
        let set = self.control.voters_offset();
        let open = set.is_some_and(|at| self.high_watermark.is_none_or(|hw| at >= hw));
        let before = self.control.voters_before();
        self.is_voter() || (open && before.is_some_and(|set| set.contains(self.config.key())))
    }

    fn end(&self) -> OffsetAndEpoch {
        OffsetAndEpoch {
            offset: self.log.end_offset(),
            epoch: self.log.last_epoch(),
        }
    }

    /// Where a voter listens for controllers.
    fn voter_peer(&self, id: BrokerId) -> Option<Peer> {
        let voter = self.control.voters().get(id)?;
        let endpoint = voter
            .endpoints
            .iter()
            .find(|endpoint| endpoint.name == self.config.listener)?;
        Some(Peer {
            id,
            host: endpoint.host.clone(),
            port: endpoint.port,
        })
    }

    /// Takes a role: its state becomes durable before anything that follows is said.
    fn become_role(&mut self, role: Role, out: &mut Vec<Effect>) -> Result<(), Fault> {
        let led = matches!(self.role, Role::Leader(_));
        if let Role::Leader(leader) = &mut self.role
            && let Some(mut change) = leader.change.take()
        {
            change.answer(ErrorCode::NotLeaderOrFollower, None, out);
        }
        let state = role.quorum_state(self.epoch, self.config.node);
        self.role = role;
        self.peers.reset();
        if self.persisted.as_ref() != Some(&state) {
            let version = self.control.kraft_version();
            let bytes = state.to_file(version, self.control.voters().ids());
            // Nothing was said since the last state: only the newest counts.
            if matches!(out.last(), Some(Effect::Persist(_))) {
                out.pop();
            }
            out.push(Effect::Persist(bytes));
            self.persisted = Some(state);
        }
        if led {
            // Answered in the new role: an answer says who leads.
            self.refuse_parked(ErrorCode::NotLeaderOrFollower, out);
        }
        Ok(())
    }

    /// Tells the owner who leads, if that changed.
    fn announce(&mut self, out: &mut Vec<Effect>) {
        let leader = self.leader_and_epoch();
        if self.announced != Some(leader) {
            self.announced = Some(leader);
            out.push(Effect::Leader(leader));
        }
    }

    /// Something was written at the log's end.
    fn after_append(&mut self, now: Now, out: &mut Vec<Effect>) -> Result<(), Fault> {
        let voters_before = self.control.voters_offset();
        self.control.catch_up(self.log.as_ref())?;
        if let Role::Leader(leader) = &mut self.role
            && self.control.voters_offset() != voters_before
        {
            leader.take_voters(self.control.voters());
        }
        if !self.flush_asked {
            self.flush_asked = true;
            out.push(Effect::Flush);
        }
        self.answer_parked(now, out)
    }

    fn resigned(&mut self, successors: Vec<ReplicaKey>, now: Instant) -> Role {
        let others = self.control.voters().ids();
        Role::Resigned(Resigned {
            unacknowledged: others.filter(|&id| id != self.config.node).collect(),
            successors,
            election_at: self.election_time(now),
        })
    }

    fn resign(&mut self, epoch: Epoch, now: Now, out: &mut Vec<Effect>) -> Result<(), Fault> {
        let successors = match &self.role {
            Role::Leader(leader) if leader.epoch == epoch => leader.successors(),
            _ => return Ok(()),
        };
        let role = self.resigned(successors, now.mono);
        self.become_role(role, out)
    }

    fn on_request(
        &mut self,
        token: u64,
        version: i16,
        request: RaftRequest,
        now: Now,
        out: &mut Vec<Effect>,
    ) -> Result<(), Fault> {
        let response = match request {
            RaftRequest::Vote(request) => RaftResponse::Vote(self.on_vote(request, now, out)?),
            RaftRequest::BeginQuorumEpoch(request) => {
                RaftResponse::BeginQuorumEpoch(self.on_begin_quorum(request, now, out)?)
            }
            RaftRequest::EndQuorumEpoch(request) => {
                RaftResponse::EndQuorumEpoch(self.on_end_quorum(request, now, out)?)
            }
            RaftRequest::Fetch(request) => {
                return self.on_fetch(token, version, request, now, out);
            }
            RaftRequest::FetchSnapshot(request) => {
                RaftResponse::FetchSnapshot(self.on_fetch_snapshot(version, request, now)?)
            }
            RaftRequest::DescribeQuorum(request) => {
                RaftResponse::DescribeQuorum(self.describe_quorum(version, &request, now))
            }
            RaftRequest::AddRaftVoter(request) => {
                self.on_add_voter(token, request, now, out);
                return Ok(());
            }
            RaftRequest::RemoveRaftVoter(request) => {
                return self.on_remove_voter(token, &request, now, out);
            }
            RaftRequest::UpdateRaftVoter(request) => {
                RaftResponse::UpdateRaftVoter(self.on_update_voter(&request, now, out)?)
            }
            // Replicas ask this, and the listener answers.
            RaftRequest::ApiVersions(_) => return Ok(()),
        };
        out.push(Effect::Answer { token, response });
        Ok(())
    }
}

/// How a replica's position compares with this log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Position {
    Valid,
    /// The logs part ways: this is where the other's last epoch ends here.
    Diverging(OffsetAndEpoch),
    /// What the replica asks for is gone: it needs this snapshot first.
    Snapshot(SnapshotId),
}

impl Raft {
    /// Kafka's `ReplicatedLog.validateOffsetAndEpoch`.
    fn check_position(&self, offset: Offset, epoch: Epoch) -> Position {
        let start = self.log.start_offset();
        if start == Offset::ZERO && offset == Offset::ZERO {
            return Position::Valid;
        }
        if let (Some(earliest), Some(latest)) =
            (self.log.earliest_snapshot(), self.log.latest_snapshot())
        {
            let gone = offset < start
                || (offset == start && epoch != earliest.epoch)
                || epoch < earliest.epoch;
            if gone {
                return Position::Snapshot(latest);
            }
        }
        let end = self.log.end_offset_for_epoch(epoch);
        if end.epoch != epoch || end.offset < offset {
            Position::Diverging(end)
        } else {
            Position::Valid
        }
    }
}

fn check_kraft_version(control: &ControlHistory) -> Result<(), Fault> {
    let (version, (min, max)) = (control.kraft_version(), KRAFT_VERSIONS);
    if (min..=max).contains(&version) {
        return Ok(());
    }
    Err(Fault::corrupt(format!(
        "the metadata log is at kraft.version {version}, but only {min} to {max} are supported"
    )))
}
