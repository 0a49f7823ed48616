//! Membership of a classic group: find the coordinator, join, sync, heartbeat, and all over again.
//!
//! With the range assignor everything is given up before joining (eager); with cooperative-sticky alone a member
//! keeps what it has and gives up only what the new assignment takes away, then joins once more.

use std::collections::{BTreeMap, BTreeSet};

use milena_base::ErrorCode;
use milena_protocol::join_group_request::JoinGroupRequestProtocol;
use milena_protocol::leave_group_request::MemberIdentity;
use milena_protocol::sync_group_request::SyncGroupRequestAssignment;
use milena_protocol::{
    ApiKey, HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, Str, SyncGroupRequest, SyncGroupResponse,
};
use tokio::time::{Duration, Instant};

use super::assignor::{Assignor, Place};
use super::offsets::committed;
use super::{Consumer, Event, Position, Subscription, member};
use crate::{Error, Target};

const PROTOCOL_TYPE: &str = "consumer";
/// How much longer than the rebalance timeout an answer to JoinGroup may take (as Kafka's clients wait).
const JOIN_GRACE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// To join, not before then.
    Out(Instant),
    Joining,
    Syncing,
    Stable,
}

/// Our place in the group.
#[derive(Debug)]
pub struct Group {
    pub id: Str,
    pub member_id: Str,
    pub generation: i32,
    pub coordinator: Option<i32>,
    phase: Phase,
    /// Counts joins: an answer of an earlier one is old.
    round: u64,
    owned: BTreeSet<Place>,
    /// Topics as they were when we joined, with their partitions.
    seen: BTreeMap<Str, i32>,
    leader: bool,
    next_heartbeat: Instant,
    heartbeat_under_way: bool,
    last_contact: Instant,
    next_commit: Instant,
}

impl Group {
    pub fn new(id: Str) -> Group {
        let now = Instant::now();
        Group {
            id,
            member_id: Str::EMPTY,
            generation: -1,
            coordinator: None,
            phase: Phase::Out(now),
            round: 0,
            owned: BTreeSet::new(),
            seen: BTreeMap::new(),
            leader: false,
            next_heartbeat: now,
            heartbeat_under_way: false,
            last_contact: now,
            next_commit: now,
        }
    }

    /// Whether a heartbeat or a commit should not wait longer.
    pub fn is_due(&self, now: Instant) -> bool {
        self.phase != Phase::Stable || now >= self.next_heartbeat.min(self.next_commit)
    }

    fn rejoin(&mut self, at: Instant) {
        self.phase = Phase::Out(at);
    }

    /// The coordinator does not know us (any more).
    fn forget_membership(&mut self) {
        self.member_id = Str::EMPTY;
        self.generation = -1;
    }
}

impl Consumer {
    fn group(&mut self) -> &mut Group {
        self.group.as_mut().expect("only members come here")
    }

    fn cooperative(&self) -> bool {
        self.config
            .assignors
            .iter()
            .all(|assignor| *assignor == Assignor::CooperativeSticky)
    }

    /// Does what is due; returns when something will be.
    pub(super) async fn tick_group(&mut self) -> Result<Instant, Error> {
        let now = Instant::now();
        let later = now + Duration::from_millis(500);
        let session_timeout = self.config.session_timeout;
        match self.group().phase {
            Phase::Out(at) if at > now => return Ok(at),
            Phase::Out(_) => return self.join().await.map(|()| later),
            Phase::Joining | Phase::Syncing => return Ok(later),
            Phase::Stable => {}
        }
        if self.topics_changed() {
            self.group().rejoin(now);
            return Ok(now);
        }
        if now.duration_since(self.group().last_contact) > session_timeout {
            self.group().coordinator = None;
            self.group().last_contact = now;
        }
        if now >= self.group().next_heartbeat && !self.group().heartbeat_under_way {
            self.send_heartbeat().await?;
        }
        if self.config.auto_commit && now >= self.group().next_commit {
            let interval = self.config.auto_commit_interval;
            self.group().next_commit = now + interval;
            self.commit_in_background().await;
        }
        let group = self.group();
        Ok(group
            .next_heartbeat
            .min(group.next_commit)
            .max(now + Duration::from_millis(10)))
    }

    /// The topics that we want, as metadata has them, with their partitions.
    fn wanted(&self) -> BTreeMap<Str, i32> {
        let count = |name: &Str| {
            let known = self
                .client
                .topic(name)
                .filter(|topic| !topic.partitions.is_empty());
            known.map(|topic| (name.clone(), topic.partitions.len() as i32))
        };
        match &self.subscription {
            Subscription::Topics(topics) => topics.iter().filter_map(count).collect(),
            Subscription::Pattern(takes) => {
                let exclude = self.config.exclude_internal_topics;
                let internal =
                    |name: &str| self.client.topic(name).is_some_and(|topic| topic.internal);
                let taken = |name: &&Str| takes(name) && !(exclude && internal(name));
                self.client
                    .topic_names()
                    .filter(taken)
                    .filter_map(count)
                    .collect()
            }
            Subscription::Partitions(_) => BTreeMap::new(),
        }
    }

    /// The names to subscribe to: those that were asked for, there or not, or those that match now.
    fn subscribed(&self) -> BTreeSet<Str> {
        match &self.subscription {
            Subscription::Topics(topics) => topics.iter().cloned().collect(),
            _ => self.wanted().into_keys().collect(),
        }
    }

    /// Whether metadata calls for another assignment: by the leader for everybody, by each for its own pattern.
    fn topics_changed(&self) -> bool {
        let Some(group) = &self.group else {
            return false;
        };
        let wanted = self.wanted();
        let by_name = matches!(self.subscription, Subscription::Pattern(_))
            && !wanted.keys().eq(group.seen.keys());
        by_name || group.leader && wanted != group.seen
    }

    async fn find_coordinator(&mut self) -> Result<Option<i32>, Error> {
        if let Some(coordinator) = self.group().coordinator {
            return Ok(Some(coordinator));
        }
        let id = self.group().id.clone();
        match self.client.coordinator_once(&id).await {
            Ok(node) => {
                self.group().coordinator = Some(node.id);
                Ok(Some(node.id))
            }
            Err(error) if error.is_retriable() => {
                self.join_later(&error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn join_later(&mut self, error: &Error) {
        self.client.tell(error);
        let at = self.soon();
        self.failures += 1;
        self.group().rejoin(at);
    }

    async fn join(&mut self) -> Result<(), Error> {
        let Some(coordinator) = self.find_coordinator().await? else {
            return Ok(());
        };
        if !self.cooperative() {
            if self.config.auto_commit && self.group().generation >= 0 {
                self.commit_now()
                    .await
                    .unwrap_or_else(|error| self.client.tell(&error));
            }
            self.give_up(None);
        }
        let request = self.join_request();
        let within = self.config.poll_interval_max + JOIN_GRACE;
        let sent = match self.client.connection(Target::Node(coordinator)).await {
            Ok(connection) => connection.send(&request),
            Err(error) => Err(error),
        };
        let seen = self.wanted();
        let group = self.group();
        group.seen = seen;
        match sent {
            Ok(pending) => {
                group.phase = Phase::Joining;
                group.round += 1;
                let round = group.round;
                self.under_way.spawn(async move {
                    Event::Joined(round, pending.within(within).response().await)
                });
            }
            Err(error) => {
                group.coordinator = None;
                self.join_later(&error);
            }
        }
        Ok(())
    }

    fn join_request(&mut self) -> JoinGroupRequest {
        let topics = self.subscribed();
        let config = self.config.clone();
        let group = self.group();
        let protocols = config
            .assignors
            .iter()
            .map(|assignor| JoinGroupRequestProtocol {
                name: assignor.name().into(),
                metadata: member::subscription(*assignor, &topics, &group.owned, group.generation),
            });
        JoinGroupRequest {
            group_id: group.id.clone(),
            session_timeout_ms: config.session_timeout.as_millis() as i32,
            rebalance_timeout_ms: config.poll_interval_max.as_millis() as i32,
            member_id: group.member_id.clone(),
            group_instance_id: config.instance_id.clone(),
            protocol_type: PROTOCOL_TYPE.into(),
            protocols: protocols.collect(),
            reason: None,
        }
    }

    /// Partitions that are no longer ours (all, or those that are not in `kept`).
    fn give_up(&mut self, kept: Option<&BTreeSet<Place>>) {
        let stays = |place: &Place| kept.is_some_and(|kept| kept.contains(place));
        self.positions.retain(|place, _| stays(place));
        self.fetched.retain(|fetched| stays(&fetched.place));
        self.group().owned.retain(|place| stays(place));
    }

    pub(super) async fn take_join(
        &mut self,
        round: u64,
        result: Result<JoinGroupResponse, Error>,
    ) -> Result<(), Error> {
        if self.group().round != round {
            return Ok(());
        }
        let answer = match result {
            Ok(answer) => answer,
            Err(error) => return self.group_failed(&error),
        };
        let code = ErrorCode::from_code(answer.error_code).unwrap_or(ErrorCode::UnknownServerError);
        match code {
            ErrorCode::None => self.sync(answer).await,
            ErrorCode::MemberIdRequired => {
                let group = self.group();
                group.member_id = answer.member_id.detached();
                group.rejoin(Instant::now());
                Ok(())
            }
            code => self.group_failed(&Error::refused(code, None)),
        }
    }

    /// Kafka's reactions to what a coordinator answers instead of a yes.
    fn group_failed(&mut self, error: &Error) -> Result<(), Error> {
        match error.code() {
            Some(ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration) => {
                self.group().forget_membership();
                self.give_up(None);
                self.group().rejoin(Instant::now());
                Ok(())
            }
            Some(ErrorCode::RebalanceInProgress) => {
                self.group().rejoin(Instant::now());
                Ok(())
            }
            Some(ErrorCode::CoordinatorLoadInProgress) => {
                self.join_later(error);
                Ok(())
            }
            _ if error.is_retriable() => {
                self.group().coordinator = None;
                self.join_later(error);
                Ok(())
            }
            _ => Err(error.clone()),
        }
    }

    async fn sync(&mut self, joined: JoinGroupResponse) -> Result<(), Error> {
        let protocol = joined.protocol_name.clone().unwrap_or_default();
        let group = self.group();
        group.member_id = joined.member_id.detached();
        group.generation = joined.generation_id;
        group.leader = joined.leader == joined.member_id;
        let assignments = match group.leader && !joined.skip_assignment {
            true => self.assign(&joined, &protocol).await?,
            false => Vec::new(),
        };
        let instance_id = self.config.instance_id.clone();
        let group = self.group();
        let request = SyncGroupRequest {
            group_id: group.id.clone(),
            generation_id: group.generation,
            member_id: group.member_id.clone(),
            group_instance_id: instance_id,
            protocol_type: Some(PROTOCOL_TYPE.into()),
            protocol_name: Some(protocol.detached()),
            assignments,
        };
        let (coordinator, round) = (group.coordinator.unwrap_or(-1), group.round);
        group.phase = Phase::Syncing;
        let within = self.config.poll_interval_max;
        let pending = match self.client.connection(Target::Node(coordinator)).await {
            Ok(connection) => connection.send(&request),
            Err(error) => Err(error),
        };
        match pending {
            Ok(pending) => {
                self.under_way.spawn(async move {
                    Event::Synced(round, pending.within(within).response().await)
                });
                Ok(())
            }
            Err(error) => self.group_failed(&error),
        }
    }

    /// The leader's work: everybody's partitions.
    async fn assign(
        &mut self,
        joined: &JoinGroupResponse,
        protocol: &Str,
    ) -> Result<Vec<SyncGroupRequestAssignment>, Error> {
        let assignor = Assignor::from_name(protocol).ok_or_else(|| Error::Unsupported {
            peer: "this consumer".into(),
            what: format!("the assignor {protocol} that the group chose"),
        })?;
        let mut members = BTreeMap::new();
        for one in &joined.members {
            let read = member::member(one).map_err(|error| Error::Malformed {
                peer: format!("the member {}", one.member_id),
                what: format!("a subscription that can't be read: {error}"),
            })?;
            members.insert(one.member_id.detached(), read);
        }
        let topics: BTreeSet<Str> = members
            .values()
            .flat_map(|m| m.topics.iter().cloned())
            .collect();
        let topics: Vec<Str> = topics.into_iter().collect();
        let call = self.client.metadata("metadata", Some(&topics));
        call.await?;
        let count = |name: &Str| {
            let known = self
                .client
                .topic(name)
                .filter(|topic| !topic.partitions.is_empty());
            known.map(|topic| (name.clone(), topic.partitions.len() as i32))
        };
        let partitions: BTreeMap<Str, i32> = topics.iter().filter_map(count).collect();
        let assigned = assignor.assign(&members, &partitions);
        let wanted = self.wanted();
        self.group().seen = wanted;
        let assignment = |(member_id, places): (Str, BTreeSet<Place>)| SyncGroupRequestAssignment {
            member_id,
            assignment: member::assignment(&places),
        };
        Ok(assigned.into_iter().map(assignment).collect())
    }

    pub(super) async fn take_sync(
        &mut self,
        round: u64,
        result: Result<SyncGroupResponse, Error>,
    ) -> Result<(), Error> {
        if self.group().round != round {
            return Ok(());
        }
        let checked = result.and_then(|answer| {
            Error::check(answer.error_code, None)?;
            member::assigned(&answer.assignment).map_err(|error| Error::Malformed {
                peer: "the leader of the group".into(),
                what: format!("an assignment that can't be read: {error}"),
            })
        });
        let assigned = match checked {
            Ok(assigned) => assigned,
            Err(error) => return self.group_failed(&error),
        };
        let (now, interval) = (Instant::now(), self.config.auto_commit_interval);
        let heartbeat = self.config.heartbeat_interval;
        let revoked = self
            .group()
            .owned
            .iter()
            .any(|place| !assigned.contains(place));
        if revoked && self.config.auto_commit {
            self.commit_now()
                .await
                .unwrap_or_else(|error| self.client.tell(&error));
        }
        self.give_up(Some(&assigned));
        let added: Vec<Place> = assigned.difference(&self.group().owned).cloned().collect();
        let group = self.group();
        group.owned = assigned;
        group.phase = Phase::Stable;
        group.next_heartbeat = now + heartbeat;
        group.heartbeat_under_way = false;
        group.last_contact = now;
        group.next_commit = now + interval;
        self.failures = 0;
        // Topics that only metadata of the whole group told about may be new to us.
        self.metadata_since = None;
        self.begin(&added).await?;
        if revoked && self.cooperative() {
            self.group().rejoin(Instant::now());
        }
        Ok(())
    }

    /// Positions of new partitions: what the group committed, else by `auto.offset.reset`.
    async fn begin(&mut self, added: &[Place]) -> Result<(), Error> {
        if added.is_empty() {
            return Ok(());
        }
        let group = self.group().id.clone();
        let coordinator = self.group().coordinator.unwrap_or(-1);
        let call = self
            .client
            .retry("offsetFetch", async |client: &mut crate::Client| {
                committed(client, coordinator, &group, Some(added)).await
            });
        let offsets = match call.await {
            Ok(offsets) => offsets,
            Err(error) if error.code() == Some(ErrorCode::NotCoordinator) => {
                return self.group_failed(&error);
            }
            Err(error) => return Err(error),
        };
        for place in added {
            let position = match offsets.get(place) {
                Some((offset, epoch)) => Position {
                    committed: Some(*offset),
                    ..Position::at(*offset, *epoch)
                },
                None => {
                    let (topic, partition) = place;
                    let none = || {
                        let message = format!(
                            "Undefined offset with no reset policy for partitions: [{topic}-{partition}]"
                        );
                        Error::refused(ErrorCode::OffsetOutOfRange, Some(&message))
                    };
                    Position::looked_up(self.config.reset.timestamp().ok_or_else(none)?)
                }
            };
            self.positions.insert(place.clone(), position);
        }
        Ok(())
    }

    async fn send_heartbeat(&mut self) -> Result<(), Error> {
        let Some(coordinator) = self.find_coordinator().await? else {
            return Ok(());
        };
        let instance_id = self.config.instance_id.clone();
        let interval = self.config.heartbeat_interval;
        let group = self.group();
        let request = HeartbeatRequest {
            group_id: group.id.clone(),
            generation_id: group.generation,
            member_id: group.member_id.clone(),
            group_instance_id: instance_id,
        };
        let round = group.round;
        group.next_heartbeat = Instant::now() + interval;
        let sent = match self.client.connection(Target::Node(coordinator)).await {
            Ok(connection) => connection.send(&request),
            Err(error) => Err(error),
        };
        match sent {
            Ok(pending) => {
                self.group().heartbeat_under_way = true;
                self.under_way
                    .spawn(async move { Event::Heartbeat(round, pending.response().await) });
            }
            Err(error) => {
                self.client.tell(&error);
                self.group().coordinator = None;
            }
        }
        Ok(())
    }

    pub(super) fn take_heartbeat(
        &mut self,
        round: u64,
        result: Result<HeartbeatResponse, Error>,
    ) -> Result<(), Error> {
        let group = self.group();
        if group.round != round || group.phase != Phase::Stable {
            return Ok(());
        }
        group.heartbeat_under_way = false;
        let checked = result.and_then(|answer| Error::check(answer.error_code, None));
        match checked {
            Ok(()) => {
                group.last_contact = Instant::now();
                Ok(())
            }
            Err(error) if error.is_retriable() => {
                // Still a member until the session is over: another coordinator may answer.
                group.coordinator = None;
                group.next_heartbeat = Instant::now() + Duration::from_millis(100);
                self.client.tell(&error);
                Ok(())
            }
            Err(error) => self.group_failed(&error),
        }
    }

    /// Leaves the group at once instead of by its session timeout. Static members stay.
    pub(super) async fn leave(&mut self) -> Result<(), Error> {
        let static_member = self.config.instance_id.is_some();
        let Some(group) = &self.group else {
            return Ok(());
        };
        let (Some(coordinator), false) = (
            group.coordinator,
            group.member_id.is_empty() || static_member,
        ) else {
            return Ok(());
        };
        let connection = self.client.connection(Target::Node(coordinator)).await?;
        let group = self.group();
        let mut request = LeaveGroupRequest {
            group_id: group.id.clone(),
            ..Default::default()
        };
        match connection.version(ApiKey::LeaveGroup) >= Some(3) {
            true => {
                request.members = vec![MemberIdentity {
                    member_id: group.member_id.clone(),
                    group_instance_id: None,
                    reason: Some("the consumer is being closed".into()),
                }];
            }
            false => request.member_id = group.member_id.clone(),
        }
        let answer = connection.call(&request).await?;
        Error::check(answer.error_code, None)
    }
}
