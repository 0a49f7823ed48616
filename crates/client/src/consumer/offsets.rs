//! Where to begin and how far we are: ListOffsets, OffsetFetch, OffsetCommit.

use std::collections::BTreeMap;

use milena_base::ErrorCode;
use milena_protocol::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use milena_protocol::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use milena_protocol::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use milena_protocol::{
    ApiKey, ListOffsetsRequest, OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, Str,
};
use tokio::time::{Duration, Instant};

use super::{Consumer, Event, Place, Position};
use crate::{Client, Error, Target};

/// Partition indexes by topic.
fn by_topic<'a>(places: impl Iterator<Item = &'a Place>) -> BTreeMap<Str, Vec<i32>> {
    let mut topics: BTreeMap<Str, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in places {
        topics.entry(topic.clone()).or_default().push(*partition);
    }
    topics
}

/// An offset with its leader epoch (−1 unknown).
pub type OffsetAndEpoch = (i64, i32);

/// Asks the leaders for offsets by timestamp. One try; `Err` where one partition can't be answered now.
pub async fn list_offsets(
    client: &mut Client,
    asked: &BTreeMap<Place, i64>,
    read_committed: bool,
) -> Result<BTreeMap<Place, OffsetAndEpoch>, Error> {
    let mut by_leader: BTreeMap<i32, Vec<&Place>> = BTreeMap::new();
    for place in asked.keys() {
        let leader = client
            .topic(&place.0)
            .and_then(|t| t.partitions.get(&place.1));
        match leader.filter(|leader| leader.node >= 0) {
            Some(leader) => by_leader.entry(leader.node).or_default().push(place),
            None => return Err(Error::refused(ErrorCode::LeaderNotAvailable, None)),
        }
    }
    let mut found = BTreeMap::new();
    for (leader, places) in by_leader {
        let topics = by_topic(places.into_iter())
            .into_iter()
            .map(|(name, partitions)| {
                let partition = |partition_index: i32| ListOffsetsPartition {
                    partition_index,
                    current_leader_epoch: -1,
                    timestamp: asked[&(name.clone(), partition_index)],
                };
                let partitions = partitions.into_iter().map(partition).collect();
                ListOffsetsTopic { name, partitions }
            });
        let request = ListOffsetsRequest {
            replica_id: -1,
            isolation_level: i8::from(read_committed),
            topics: topics.collect(),
            timeout_ms: client.config().request_timeout.as_millis() as i32,
        };
        let answer = client
            .connection(Target::Node(leader))
            .await?
            .call(&request)
            .await?;
        for topic in &answer.topics {
            for part in &topic.partitions {
                Error::check(part.error_code, None)?;
                let place = (topic.name.detached(), part.partition_index);
                found.insert(place, (part.offset, part.leader_epoch));
            }
        }
    }
    Ok(found)
}

/// The committed offsets of a group: of these partitions, or of all that it has (`None`). Partitions without one
/// are left out. One try, at the group's coordinator.
pub async fn committed(
    client: &mut Client,
    coordinator: i32,
    group: &Str,
    places: Option<&[Place]>,
) -> Result<BTreeMap<Place, OffsetAndEpoch>, Error> {
    let connection = client.connection(Target::Node(coordinator)).await?;
    let topics = places.map(|places| by_topic(places.iter()));
    let grouped = connection.version(ApiKey::OffsetFetch) >= Some(8);
    let mut request = OffsetFetchRequest::default();
    if grouped {
        let topic = |(name, partition_indexes)| OffsetFetchRequestTopics {
            name,
            partition_indexes,
            ..Default::default()
        };
        request.groups = vec![OffsetFetchRequestGroup {
            group_id: group.clone(),
            member_id: None,
            topics: topics.map(|topics| topics.into_iter().map(topic).collect()),
            ..Default::default()
        }];
    } else {
        let topic = |(name, partition_indexes)| OffsetFetchRequestTopic {
            name,
            partition_indexes,
        };
        request.group_id = group.clone();
        request.topics = topics.map(|topics| topics.into_iter().map(topic).collect());
    }
    // Version 10 speaks of topic ids, which a group's offsets of deleted topics do not have.
    let answer = connection.send_capped(&request, 9)?.response().await?;
    Error::check(answer.error_code, None)?;
    let mut found = BTreeMap::new();
    let mut take = |topic: &Str, partition, code, offset: i64, epoch| {
        Error::check(code, None)?;
        if offset >= 0 {
            found.insert((topic.detached(), partition), (offset, epoch));
        }
        Ok::<(), Error>(())
    };
    for group in &answer.groups {
        Error::check(group.error_code, None)?;
        for t in &group.topics {
            for p in &t.partitions {
                let (offset, epoch) = (p.committed_offset, p.committed_leader_epoch);
                take(&t.name, p.partition_index, p.error_code, offset, epoch)?;
            }
        }
    }
    for t in &answer.topics {
        for p in &t.partitions {
            let (offset, epoch) = (p.committed_offset, p.committed_leader_epoch);
            take(&t.name, p.partition_index, p.error_code, offset, epoch)?;
        }
    }
    Ok(found)
}

impl Consumer {
    /// Finds out where to begin where that is not known yet. Returns when to try again.
    pub(super) async fn look_up_positions(&mut self) -> Result<Instant, Error> {
        let never = Instant::now() + Duration::from_secs(3600);
        let unknown: BTreeMap<Place, i64> = self
            .positions
            .iter()
            .filter(|(_, position)| position.offset.is_none())
            .map(|(place, position)| (place.clone(), position.start))
            .collect();
        if unknown.is_empty() {
            return Ok(never);
        }
        if self.lookup_resume > Instant::now() {
            return Ok(self.lookup_resume);
        }
        match list_offsets(&mut self.client, &unknown, self.config.read_committed).await {
            Ok(found) => {
                for (place, (offset, epoch)) in found {
                    self.fetched.retain(|fetched| fetched.place != place);
                    self.positions.insert(place, Position::at(offset, epoch));
                }
                self.failures = 0;
                Ok(never)
            }
            Err(error) if error.is_retriable() => {
                self.retry_metadata(&error);
                self.lookup_resume = self.soon();
                Ok(self.lookup_resume)
            }
            Err(error) => Err(error),
        }
    }

    /// Offsets that were handed out and are not committed.
    fn uncommitted(&self) -> BTreeMap<Place, i64> {
        let changed = self.positions.iter().filter_map(|(place, position)| {
            let offset = position
                .offset
                .filter(|_| position.committed != position.offset)?;
            Some((place.clone(), offset))
        });
        changed.collect()
    }

    fn commit_request(&self, offsets: &BTreeMap<Place, i64>) -> Option<OffsetCommitRequest> {
        let group = self.group.as_ref()?;
        let topics = by_topic(offsets.keys())
            .into_iter()
            .map(|(name, partitions)| {
                let partition = |partition_index: i32| {
                    let place = (name.clone(), partition_index);
                    OffsetCommitRequestPartition {
                        partition_index,
                        committed_offset: offsets[&place],
                        committed_leader_epoch: self
                            .positions
                            .get(&place)
                            .map_or(-1, |p| p.leader_epoch),
                        committed_metadata: Some(Str::EMPTY),
                    }
                };
                let partitions = partitions.into_iter().map(partition).collect();
                OffsetCommitRequestTopic {
                    name,
                    partitions,
                    ..Default::default()
                }
            });
        Some(OffsetCommitRequest {
            group_id: group.id.clone(),
            generation_id_or_member_epoch: group.generation,
            member_id: group.member_id.clone(),
            group_instance_id: self.config.instance_id.clone(),
            topics: topics.collect(),
            ..Default::default()
        })
    }

    /// Sends what is not committed; the answer comes as an event.
    pub(super) async fn commit_in_background(&mut self) {
        let offsets = self.uncommitted();
        let coordinator = self.group.as_ref().and_then(|group| group.coordinator);
        let (Some(coordinator), Some(request)) = (coordinator, self.commit_request(&offsets))
        else {
            return;
        };
        if offsets.is_empty() {
            return;
        }
        if let Ok(connection) = self.client.connection(Target::Node(coordinator)).await
            && let Ok(pending) = connection.send_capped(&request, 9)
        {
            self.under_way
                .spawn(async move { Event::Committed(offsets, pending.response().await) });
        }
    }

    /// Commits what was handed out, and waits until all of it is. Where the coordinator has moved it is looked for, as
    /// long as the session can bear that no heartbeat goes out.
    pub async fn commit(&mut self) -> Result<(), Error> {
        let bearable = self.config.session_timeout / 2;
        let deadline = Instant::now() + self.client.config().api_timeout.min(bearable);
        for tries in 0.. {
            match self.commit_now().await {
                Err(error) if !error.is_retriable() => return Err(error),
                Err(error) => self.lose_coordinator(&error),
                Ok(()) if self.uncommitted().is_empty() => return Ok(()),
                Ok(()) => {}
            }
            let pause = self.client.config().backoff(tries);
            let pause = self.client.jittered(pause);
            if !self.has_lost_coordinator() || Instant::now() + pause >= deadline {
                break;
            }
            tokio::time::sleep(pause).await;
            self.look_for_coordinator().await?;
        }
        Err(Error::NotKnown(
            "the offsets were not committed: the group is being rebalanced, or its coordinator has moved".into(),
        ))
    }

    fn lose_coordinator(&mut self, error: &Error) {
        self.client.tell(error);
        if let Some(group) = &mut self.group {
            group.coordinator = None;
        }
    }

    fn has_lost_coordinator(&self) -> bool {
        let group = self.group.as_ref();
        group.is_some_and(|group| group.coordinator.is_none())
    }

    /// One try to find the coordinator of a group that we are still in.
    async fn look_for_coordinator(&mut self) -> Result<(), Error> {
        let Some(group) = &self.group else {
            return Ok(());
        };
        let id = group.id.clone();
        match self.client.coordinator_once(&id).await {
            Ok(node) => {
                let group = self.group.as_mut();
                group.expect("it was just there").coordinator = Some(node.id);
                Ok(())
            }
            Err(error) if error.is_retriable() => {
                self.client.tell(&error);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Commits and waits for the answer; a refusal is told and not tried again.
    pub(super) async fn commit_now(&mut self) -> Result<(), Error> {
        let offsets = self.uncommitted();
        let coordinator = self.group.as_ref().and_then(|group| group.coordinator);
        let (Some(coordinator), Some(request)) = (coordinator, self.commit_request(&offsets))
        else {
            return Ok(());
        };
        if offsets.is_empty() {
            return Ok(());
        }
        let connection = self.client.connection(Target::Node(coordinator)).await?;
        let answer = connection.send_capped(&request, 9)?.response().await;
        self.take_commit(&offsets, answer)
    }

    pub(super) fn take_commit(
        &mut self,
        offsets: &BTreeMap<Place, i64>,
        result: Result<OffsetCommitResponse, Error>,
    ) -> Result<(), Error> {
        let answer = match result {
            Ok(answer) => answer,
            Err(error) => {
                self.lose_coordinator(&error);
                return Ok(());
            }
        };
        for topic in &answer.topics {
            for part in &topic.partitions {
                let place = (topic.name.clone(), part.partition_index);
                match Error::check(part.error_code, None) {
                    Ok(()) => {
                        if let Some(position) = self.positions.get_mut(&place) {
                            position.committed = offsets.get(&place).copied();
                        }
                    }
                    Err(error) if error.is_retriable() => self.lose_coordinator(&error),
                    Err(error) => self.client.tell(&error),
                }
            }
        }
        Ok(())
    }
}
