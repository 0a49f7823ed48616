//! What a follower or observer does: fetch records or a snapshot, append, truncate, learn what is committed.

use std::time::Duration;

use bytes::Bytes;
use milena_base::{BrokerId, Epoch, ErrorCode, Instant, Now, Offset, Uuid};
use milena_protocol::Records;
use milena_protocol::fetch_request::{self, FetchRequest};
use milena_protocol::fetch_response;
use milena_protocol::fetch_snapshot_request::{self, FetchSnapshotRequest};
use milena_protocol::fetch_snapshot_response;
use milena_records::check_replicated;

use super::Raft;
use crate::log::{Fault, OffsetAndEpoch};
use crate::message::{Effect, METADATA_TOPIC, Peer, RaftRequest};
use crate::role::{Download, Follower, Role};
use crate::voters::ReplicaKey;

/// How long the leader may hold a fetch.
const FETCH_WAIT: Duration = Duration::from_millis(500);

impl Raft {
    pub(super) fn follower(&self, leader: Peer, voted: Option<ReplicaKey>, now: Instant) -> Role {
        Role::Follower(Follower {
            leader,
            voted,
            fetch_at: now + self.config.fetch_timeout,
            has_fetched: false,
            update_at: now + self.config.fetch_timeout,
            has_updated: false,
            unflushed: self.flush_asked,
            download: None,
        })
    }

    pub(super) fn become_follower(
        &mut self,
        epoch: Epoch,
        leader: Peer,
        now: Now,
        out: &mut Vec<Effect>,
    ) -> Result<(), Fault> {
        // The vote belongs to its epoch.
        let voted = self.role.voted().filter(|_| epoch == self.epoch);
        self.epoch = epoch;
        let role = self.follower(leader, voted, now.mono);
        self.become_role(role, out)
    }

    pub(super) fn fetch_from(&mut self, leader: Peer, now: Now, out: &mut Vec<Effect>) {
        let request = match &self.role {
            Role::Follower(role) if role.unflushed => return,
            Role::Follower(role) => role.download,
            _ => None,
        };
        match request {
            Some(download) => self.send(leader, |raft| raft.snapshot_request(download), now, out),
            None => self.send(leader, Raft::fetch_request, now, out),
        }
    }

    /// Asks whoever answers; the answer says who leads.
    pub(super) fn fetch_from_bootstrap(&mut self, now: Now, out: &mut Vec<Effect>) {
        if let Some(server) = self.peers.bootstrap(now.mono) {
            self.send(server, Raft::fetch_request, now, out);
        }
    }

    fn fetch_request(&self) -> RaftRequest {
        let end = self.end();
        let partition = fetch_request::FetchPartition {
            partition: 0,
            current_leader_epoch: self.epoch.0,
            fetch_offset: end.offset.0,
            last_fetched_epoch: end.epoch.0,
            replica_directory_id: self.config.directory,
            high_watermark: self.high_watermark.map_or(-1, |hw| hw.0),
            ..Default::default()
        };
        RaftRequest::Fetch(FetchRequest {
            cluster_id: Some(self.config.cluster_id.clone().into()),
            replica_state: fetch_request::ReplicaState {
                replica_id: self.config.node.0,
                ..Default::default()
            },
            max_wait_ms: FETCH_WAIT.as_millis() as i32,
            max_bytes: self.config.fetch_bytes_max,
            topics: vec![fetch_request::FetchTopic {
                topic_id: Uuid::METADATA_TOPIC,
                partitions: vec![partition],
                ..Default::default()
            }],
            ..Default::default()
        })
    }

    fn snapshot_request(&self, download: Download) -> RaftRequest {
        RaftRequest::FetchSnapshot(FetchSnapshotRequest {
            cluster_id: Some(self.config.cluster_id.clone().into()),
            replica_id: self.config.node.0,
            max_bytes: self.config.snapshot_bytes_max,
            topics: vec![fetch_snapshot_request::TopicSnapshot {
                name: METADATA_TOPIC.into(),
                partitions: vec![fetch_snapshot_request::PartitionSnapshot {
                    partition: 0,
                    current_leader_epoch: self.epoch.0,
                    snapshot_id: fetch_snapshot_request::SnapshotId {
                        end_offset: download.id.offset.0,
                        epoch: download.id.epoch.0,
                    },
                    position: download.position as i64,
                    replica_directory_id: self.config.directory,
                }],
            }],
        })
    }

    /// The leader's answer to a fetch; `false` where it makes no sense.
    pub(super) fn on_fetched(
        &mut self,
        from: BrokerId,
        partition: fetch_response::PartitionData,
        now: Now,
        out: &mut Vec<Effect>,
    ) -> Result<bool, Fault> {
        let Role::Follower(role) = &self.role else {
            return Ok(true);
        };
        let from_leader = role.leader.id == from || from.0 < 0;
        if !from_leader || partition.error_code != ErrorCode::None.code() {
            return Ok(false);
        }
        let diverging = &partition.diverging_epoch;
        let snapshot = &partition.snapshot_id;
        if diverging.epoch >= 0 || diverging.end_offset >= 0 {
            if diverging.epoch < 0 || diverging.end_offset < 0 {
                return Ok(false);
            }
            let point = OffsetAndEpoch::new(diverging.end_offset, diverging.epoch);
            self.truncate_to(point, now)?;
        } else if snapshot.epoch >= 0 || snapshot.end_offset >= 0 {
            if snapshot.epoch < 0 || snapshot.end_offset < 0 {
                return Ok(false);
            }
            let id = OffsetAndEpoch::new(snapshot.end_offset, snapshot.epoch);
            self.start_download(id);
        } else {
            if !self.append_fetched(partition.records, now, out)? {
                return Ok(false);
            }
            self.take_high_watermark(Offset(partition.high_watermark), out);
        }
        self.leader_answered(now);
        Ok(true)
    }

    pub(super) fn leader_answered(&mut self, now: Now) {
        let fetch_at = now.mono + self.config.fetch_timeout;
        if let Role::Follower(role) = &mut self.role {
            role.fetch_at = fetch_at;
            role.has_fetched = true;
        }
    }

    /// Goes back to where this log and the leader's are the same.
    fn truncate_to(&mut self, leaders: OffsetAndEpoch, now: Now) -> Result<(), Fault> {
        let here = self.log.end_offset_for_epoch(leaders.epoch);
        let offset = if leaders.epoch == Epoch::ZERO {
            leaders.offset.min(self.log.end_offset())
        } else if here.epoch == leaders.epoch {
            here.offset.min(leaders.offset)
        } else {
            here.offset
        };
        if self.high_watermark.is_some_and(|hw| offset < hw) {
            return Err(Fault::corrupt(format!(
                "the leader of epoch {} asks to cut the metadata log at {offset}, below what is committed",
                self.epoch
            )));
        }
        self.log.truncate_to(offset, now)?;
        self.flushed = self.flushed.min(offset);
        self.control.truncate(offset);
        Ok(())
    }

    fn append_fetched(
        &mut self,
        records: Option<Records>,
        now: Now,
        out: &mut Vec<Effect>,
    ) -> Result<bool, Fault> {
        let Some(Records::Bytes(bytes)) = records else {
            return Ok(true);
        };
        let Ok(batches) = check_replicated(bytes) else {
            return Ok(false);
        };
        let Some(first) = batches.first() else {
            return Ok(true);
        };
        if first.header().base_offset() != self.log.end_offset() {
            return Ok(false);
        }
        self.log.append_as_follower(batches, now)?;
        if let Role::Follower(role) = &mut self.role {
            role.unflushed = true;
        }
        self.after_append(now, out)?;
        Ok(true)
    }

    /// What the leader says is committed, as far as it is here.
    fn take_high_watermark(&mut self, leaders: Offset, out: &mut Vec<Effect>) {
        let high_watermark = leaders.min(self.log.end_offset());
        let rises = self
            .high_watermark
            .is_none_or(|before| high_watermark > before);
        if leaders >= Offset::ZERO && rises {
            self.high_watermark = Some(high_watermark);
            self.log.set_high_watermark(high_watermark);
            out.push(Effect::Committed { high_watermark });
        }
    }

    fn start_download(&mut self, id: OffsetAndEpoch) {
        let known = self.log.snapshots().contains(&id);
        if let Role::Follower(role) = &mut self.role
            && !known
        {
            role.download = Some(Download { id, position: 0 });
        }
    }

    /// The leader's answer to a fetch of a snapshot; `false` where it makes no sense.
    pub(super) fn on_snapshot_fetched(
        &mut self,
        part: fetch_snapshot_response::PartitionSnapshot,
        now: Now,
        out: &mut Vec<Effect>,
    ) -> Result<bool, Fault> {
        let Role::Follower(role) = &mut self.role else {
            return Ok(true);
        };
        let Some(download) = role.download else {
            return Ok(false);
        };
        let not_found = part.error_code == ErrorCode::SnapshotNotFound.code();
        if not_found || part.snapshot_id.end_offset < 0 || part.snapshot_id.epoch < 0 {
            // The leader deleted it meanwhile: the next fetch names another.
            role.download = None;
            self.leader_answered(now);
            return Ok(true);
        }
        let id = OffsetAndEpoch::new(part.snapshot_id.end_offset, part.snapshot_id.epoch);
        let expected = id == download.id && part.position == download.position as i64;
        let bytes = match part.unaligned_records {
            Records::Bytes(bytes) => bytes,
            Records::External { .. } => Bytes::new(),
        };
        let end = download.position + bytes.len() as u64;
        if part.error_code != ErrorCode::None.code() || !expected || end > part.size.max(0) as u64 {
            return Ok(false);
        }
        role.download = Some(Download { id, position: end });
        self.log.write_downloaded(id, download.position, &bytes)?;
        self.leader_answered(now);
        if end == part.size as u64 {
            self.finish_download(id, now, out)?;
        }
        Ok(true)
    }

    fn finish_download(
        &mut self,
        id: OffsetAndEpoch,
        now: Now,
        out: &mut Vec<Effect>,
    ) -> Result<(), Fault> {
        self.log.freeze_downloaded(id)?;
        self.log.snapshot_frozen(id);
        if let Role::Follower(role) = &mut self.role {
            role.download = None;
        }
        if !self.log.truncate_to_latest_snapshot(now)? {
            return Err(Fault::corrupt(format!(
                "the leader sent snapshot {id}, which is not beyond this log's end {}",
                self.end()
            )));
        }
        self.flushed = self.log.end_offset();
        self.control.reload(self.log.as_ref())?;
        out.push(Effect::SnapshotLoaded(id));
        self.take_high_watermark(id.offset, out);
        Ok(())
    }
}
