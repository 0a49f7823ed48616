//! What a leader does for those that follow: Fetch (long poll), FetchSnapshot, and the high watermark that rises with it.

use std::time::Duration;

use bytes::Bytes;
use milena_base::{BrokerId, Epoch, ErrorCode, Instant, Now, Offset, Uuid};
use milena_protocol::Records;
use milena_protocol::fetch_request::{FetchPartition, FetchRequest};
use milena_protocol::fetch_response::{self, FetchResponse};
use milena_protocol::fetch_snapshot_request::{self, FetchSnapshotRequest};
use milena_protocol::fetch_snapshot_response::{self, FetchSnapshotResponse};

use super::{Position, Raft};
use crate::batch::BATCH_BYTES_MAX;
use crate::log::{BOOTSTRAP_SNAPSHOT, Fault, OffsetAndEpoch};
use crate::message::{Effect, METADATA_TOPIC, RaftResponse};
use crate::role::Role;
use crate::voters::ReplicaKey;

/// First version of Fetch that names topics by id.
const TOPIC_IDS_FROM: i16 = 13;
/// First version of Fetch and FetchSnapshot that tells where the leader is.
const FETCH_ENDPOINTS_FROM: i16 = 17;
/// Longest time that a fetch waits, whatever it asks for.
const FETCH_WAIT_MAX: Duration = Duration::from_secs(60);

/// A fetch that found nothing new and waits for it.
#[derive(Debug)]
pub(super) struct ParkedFetch {
    token: u64,
    version: i16,
    replica: ReplicaKey,
    partition: FetchPartition,
    pub until: Instant,
}

impl Raft {
    pub(super) fn on_fetch(
        &mut self,
        token: u64,
        version: i16,
        request: FetchRequest,
        now: Now,
        out: &mut Vec<Effect>,
    ) -> Result<(), Fault> {
        let partition = match self.fetch_partition(version, &request) {
            Ok(partition) => partition.clone(),
            Err(error) => {
                answer(token, fetch_refused(error), out);
                return Ok(());
            }
        };
        let impossible = request.max_wait_ms < 0
            || partition.fetch_offset < 0
            || partition.last_fetched_epoch < 0
            || partition.last_fetched_epoch > partition.current_leader_epoch;
        if impossible {
            answer(
                token,
                self.fetch_error(version, ErrorCode::InvalidRequest),
                out,
            );
            return Ok(());
        }
        let id = match request.replica_state.replica_id {
            id if id >= 0 => id,
            _ => request.replica_id,
        };
        let fetch = ParkedFetch {
            token,
            version,
            replica: ReplicaKey::new(BrokerId(id), partition.replica_directory_id),
            partition,
            until: now.mono + Duration::from_millis(request.max_wait_ms as u64).min(FETCH_WAIT_MAX),
        };
        let (response, complete) = self.try_fetch(&fetch, now, out)?;
        if complete || request.max_wait_ms == 0 {
            answer(token, response, out);
        } else {
            self.parked.push(fetch);
        }
        Ok(())
    }

    fn fetch_partition<'a>(
        &self,
        version: i16,
        request: &'a FetchRequest,
    ) -> Result<&'a FetchPartition, ErrorCode> {
        self.check_cluster(request.cluster_id.as_deref())?;
        match request.topics.as_slice() {
            [topic] if version >= TOPIC_IDS_FROM && topic.topic_id != Uuid::METADATA_TOPIC => {
                Err(ErrorCode::InvalidRequest)
            }
            [topic] if version < TOPIC_IDS_FROM && &*topic.topic != METADATA_TOPIC => {
                Err(ErrorCode::InvalidRequest)
            }
            [topic] => match topic.partitions.as_slice() {
                [partition] if partition.partition == 0 => Ok(partition),
                _ => Err(ErrorCode::InvalidRequest),
            },
            _ => Err(ErrorCode::InvalidRequest),
        }
    }

    /// The answer as of now, and whether it is worth giving before the fetch's time is up.
    fn try_fetch(
        &mut self,
        fetch: &ParkedFetch,
        now: Now,
        out: &mut Vec<Effect>,
    ) -> Result<(FetchResponse, bool), Fault> {
        let asked = &fetch.partition;
        if let Some(error) = self.refuse_to_follower(Epoch(asked.current_leader_epoch)) {
            return Ok((self.fetch_error(fetch.version, error), true));
        }
        let (offset, epoch) = (Offset(asked.fetch_offset), Epoch(asked.last_fetched_epoch));
        let latest = self
            .log
            .latest_snapshot()
            .filter(|id| *id != BOOTSTRAP_SNAPSHOT);
        let position = match latest {
            Some(latest) if offset == Offset::ZERO => Position::Snapshot(latest),
            _ => self.check_position(offset, epoch),
        };
        let mut records = Bytes::new();
        if position == Position::Valid {
            if !self.withholds() {
                records = self.log.read(offset, BATCH_BYTES_MAX)?;
            }
            self.note_fetch(fetch.replica, offset, now, out)?;
        }
        let high_watermark = self.high_watermark;
        let complete = !records.is_empty()
            || position != Position::Valid
            || high_watermark.is_some_and(|hw| asked.high_watermark < hw.0);
        let response = self.fetch_answer(fetch.version, ErrorCode::None, records, position);
        Ok((response, complete))
    }

    /// Whether nothing is sent because a voter set is not on this leader's disk yet. A set that others act upon and the
    /// leader forgets could leave nobody who can win.
    pub(super) fn withholds(&self) -> bool {
        let voters = self.control.voters_offset();
        voters.is_some_and(|at| at >= self.flushed && at >= Offset::ZERO)
    }

    /// A replica fetched from here: what lies before is on its disk.
    fn note_fetch(
        &mut self,
        replica: ReplicaKey,
        offset: Offset,
        now: Now,
        out: &mut Vec<Effect>,
    ) -> Result<(), Fault> {
        let end = self.log.end_offset();
        let known = replica.id.0 >= 0 && replica.id != self.config.node;
        let Role::Leader(leader) = &mut self.role else {
            return Ok(());
        };
        if known && leader.on_fetch(replica, offset, end, now) {
            self.on_high_watermark(now, out)?;
        }
        Ok(())
    }

    /// The leader's high watermark rose: it is the replica's now.
    pub(super) fn on_high_watermark(
        &mut self,
        now: Now,
        out: &mut Vec<Effect>,
    ) -> Result<(), Fault> {
        let Role::Leader(leader) = &self.role else {
            return Ok(());
        };
        let Some(high_watermark) = leader.high_watermark else {
            return Ok(());
        };
        self.high_watermark = Some(high_watermark);
        self.log.set_high_watermark(high_watermark);
        out.push(Effect::Committed { high_watermark });
        self.settle_change(out);
        self.answer_parked(now, out)
    }

    /// Once everything up to the epoch's own first record is committed, the owner may append.
    pub(super) fn announce_active(&mut self, out: &mut Vec<Effect>) {
        let next_offset = self.log.end_offset();
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        if !leader.active && leader.high_watermark.is_some() {
            leader.active = true;
            out.push(Effect::Active {
                epoch: leader.epoch,
                next_offset,
            });
        }
    }

    /// Answers the fetches that now have something to say.
    pub(super) fn answer_parked(&mut self, now: Now, out: &mut Vec<Effect>) -> Result<(), Fault> {
        let waiting = std::mem::take(&mut self.parked);
        for fetch in waiting {
            let (response, complete) = self.try_fetch(&fetch, now, out)?;
            if complete {
                answer(fetch.token, response, out);
            } else {
                self.parked.push(fetch);
            }
        }
        Ok(())
    }

    pub(super) fn expire_parked(&mut self, now: Now, out: &mut Vec<Effect>) -> Result<(), Fault> {
        let due = |fetch: &ParkedFetch| fetch.until <= now.mono;
        let (expired, waiting) = std::mem::take(&mut self.parked).into_iter().partition(due);
        self.parked = waiting;
        for fetch in Vec::<ParkedFetch>::into_iter(expired) {
            let (response, _) = self.try_fetch(&fetch, now, out)?;
            answer(fetch.token, response, out);
        }
        Ok(())
    }

    pub(super) fn refuse_parked(&mut self, error: ErrorCode, out: &mut Vec<Effect>) {
        for fetch in std::mem::take(&mut self.parked) {
            let response = self.fetch_error(fetch.version, error);
            answer(fetch.token, response, out);
        }
    }

    /// Why a follower's request is not served.
    pub(super) fn refuse_to_follower(&self, epoch: Epoch) -> Option<ErrorCode> {
        if epoch < self.epoch {
            Some(ErrorCode::FencedLeaderEpoch)
        } else if epoch > self.epoch {
            Some(ErrorCode::UnknownLeaderEpoch)
        } else if !matches!(self.role, Role::Leader(_)) {
            Some(ErrorCode::NotLeaderOrFollower)
        } else {
            None
        }
    }

    fn fetch_error(&self, version: i16, error: ErrorCode) -> FetchResponse {
        let mut response = self.fetch_answer(version, error, Bytes::new(), Position::Valid);
        response.responses[0].partitions[0].high_watermark = -1;
        response
    }

    fn fetch_answer(
        &self,
        version: i16,
        error: ErrorCode,
        records: Bytes,
        position: Position,
    ) -> FetchResponse {
        let (leader_id, leader_epoch) = self.leader_fields();
        let mut partition = fetch_response::PartitionData {
            partition_index: 0,
            error_code: error.code(),
            high_watermark: self.high_watermark.map_or(-1, |hw| hw.0),
            log_start_offset: self.log.start_offset().0,
            records: Some(Records::Bytes(records)),
            current_leader: fetch_response::LeaderIdAndEpoch {
                leader_id,
                leader_epoch,
            },
            ..Default::default()
        };
        let point = |at: OffsetAndEpoch| (at.epoch.0, at.offset.0);
        match position {
            Position::Valid => {}
            Position::Diverging(at) => {
                let (epoch, end_offset) = point(at);
                partition.diverging_epoch = fetch_response::EpochEndOffset { epoch, end_offset };
            }
            Position::Snapshot(at) => {
                let (epoch, end_offset) = point(at);
                partition.snapshot_id = fetch_response::SnapshotId { end_offset, epoch };
            }
        }
        let mut topic = fetch_response::FetchableTopicResponse {
            partitions: vec![partition],
            ..Default::default()
        };
        match version >= TOPIC_IDS_FROM {
            true => topic.topic_id = Uuid::METADATA_TOPIC,
            false => topic.topic = METADATA_TOPIC.into(),
        }
        let endpoint = self
            .leader_peer()
            .filter(|_| version >= FETCH_ENDPOINTS_FROM);
        FetchResponse {
            responses: vec![topic],
            node_endpoints: endpoint
                .map(|peer| fetch_response::NodeEndpoint {
                    node_id: peer.id.0,
                    host: peer.host.into(),
                    port: peer.port.into(),
                    rack: None,
                })
                .into_iter()
                .collect(),
            ..Default::default()
        }
    }

    pub(super) fn on_fetch_snapshot(
        &mut self,
        version: i16,
        request: FetchSnapshotRequest,
        now: Now,
    ) -> Result<FetchSnapshotResponse, Fault> {
        let refuse = |error: ErrorCode| FetchSnapshotResponse {
            error_code: error.code(),
            ..FetchSnapshotResponse::default()
        };
        if let Err(error) = self.check_cluster(request.cluster_id.as_deref()) {
            return Ok(refuse(error));
        }
        let asked = match request.topics.as_slice() {
            [topic] if topic.partitions.len() == 1 => (&topic.name, &topic.partitions[0]),
            _ => return Ok(refuse(ErrorCode::InvalidRequest)),
        };
        let (name, asked) = asked;
        let mut partition = fetch_snapshot_response::PartitionSnapshot {
            index: asked.partition,
            ..Default::default()
        };
        let error = if &**name != METADATA_TOPIC || asked.partition != 0 {
            ErrorCode::UnknownTopicOrPartition
        } else {
            self.serve_snapshot(&request, asked, &mut partition, now)?
        };
        partition.error_code = error.code();
        Ok(FetchSnapshotResponse {
            topics: vec![fetch_snapshot_response::TopicSnapshot {
                name: name.clone(),
                partitions: vec![partition],
            }],
            node_endpoints: self
                .leader_peer()
                .filter(|_| version >= 1)
                .map(|peer| fetch_snapshot_response::NodeEndpoint {
                    node_id: peer.id.0,
                    host: peer.host.into(),
                    port: peer.port,
                })
                .into_iter()
                .collect(),
            ..Default::default()
        })
    }

    fn serve_snapshot(
        &mut self,
        request: &FetchSnapshotRequest,
        asked: &fetch_snapshot_request::PartitionSnapshot,
        partition: &mut fetch_snapshot_response::PartitionSnapshot,
        now: Now,
    ) -> Result<ErrorCode, Fault> {
        let (leader_id, leader_epoch) = self.leader_fields();
        partition.current_leader = fetch_snapshot_response::LeaderIdAndEpoch {
            leader_id,
            leader_epoch,
        };
        if let Some(error) = self.refuse_to_follower(Epoch(asked.current_leader_epoch)) {
            return Ok(error);
        }
        let id = OffsetAndEpoch::new(asked.snapshot_id.end_offset, asked.snapshot_id.epoch);
        let Some(size) = self
            .log
            .snapshot_size(id)?
            .filter(|_| id != BOOTSTRAP_SNAPSHOT)
        else {
            return Ok(ErrorCode::SnapshotNotFound);
        };
        let position = match u64::try_from(asked.position) {
            Ok(position) if position < size => position,
            _ => return Ok(ErrorCode::PositionOutOfRange),
        };
        let max_bytes = (request.max_bytes.max(0) as usize).min(BATCH_BYTES_MAX);
        let bytes = self.log.read_snapshot(id, position, max_bytes)?;
        let replica = ReplicaKey::new(BrokerId(request.replica_id), asked.replica_directory_id);
        if let Role::Leader(leader) = &mut self.role {
            leader.on_contact(replica, now.mono);
        }
        partition.snapshot_id = fetch_snapshot_response::SnapshotId {
            end_offset: id.offset.0,
            epoch: id.epoch.0,
        };
        partition.size = size as i64;
        partition.position = asked.position;
        partition.unaligned_records = Records::Bytes(bytes);
        Ok(ErrorCode::None)
    }
}

fn answer(token: u64, response: FetchResponse, out: &mut Vec<Effect>) {
    out.push(Effect::Answer {
        token,
        response: RaftResponse::Fetch(response),
    });
}

fn fetch_refused(error: ErrorCode) -> FetchResponse {
    FetchResponse {
        error_code: error.code(),
        ..FetchResponse::default()
    }
}
