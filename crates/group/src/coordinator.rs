//! The group coordinator of a node: all partitions of `__consumer_offsets` that it leads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use milena_base::{ErrorCode, Instant, Now, Prng};
use milena_coordinator::{Effect, Event, Marker, Options, Producer, Runtime, Token, partition_for};
use milena_protocol::leave_group_request::MemberIdentity;
use milena_protocol::{
    ConsumerGroupHeartbeatRequest, DeleteGroupsRequest, JoinGroupRequest, LeaveGroupRequest,
    OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest, Str, TxnOffsetCommitRequest,
};

use crate::api::check_consumer_heartbeat;
use crate::api::{
    self, Gather, GroupRequest, GroupResponse, Held, Topics, offset_fetch_groups,
    plain_offset_commit, shape, split_offset_commit, split_offset_delete,
};
use crate::config::GroupConfig;
use crate::offsets::delete::DeletedTopic;
use crate::request::{RequestContext, ShardRequest, ShardResponse, consumer_heartbeat_error};
use crate::shard::GroupShard;

/// First version of SyncGroup that must name the protocol.
const SYNC_PROTOCOL_FROM: i16 = 5;
/// First version of LeaveGroup with a list of members.
const LEAVE_MEMBERS_FROM: i16 = 3;

/// What is waited for under an inner token.
enum Waiting {
    Whole {
        token: Token,
        version: i16,
        held: Held,
    },
    Part {
        gather: u64,
        index: usize,
    },
    Marker(Token),
    Nobody,
}

/// Single-owner mailbox: requests come in by [`GroupCoordinator::request`], what happens to the partitions by
/// [`GroupCoordinator::step`]; the owner carries the effects out, in order.
pub struct GroupCoordinator {
    config: Arc<GroupConfig>,
    runtime: Runtime<GroupShard>,
    topics: Arc<dyn Topics + Send + Sync>,
    partitions: i32,
    tokens: u64,
    waiting: BTreeMap<Token, Waiting>,
    gathers: BTreeMap<u64, Gather>,
}

impl GroupCoordinator {
    /// `partitions` is the number of partitions of `__consumer_offsets` (`offsets.topic.num.partitions` before it
    /// exists); `topics` tells which topics exist whenever it is asked.
    pub fn new(
        config: GroupConfig,
        partitions: i32,
        topics: Arc<dyn Topics + Send + Sync>,
        prng: Prng,
    ) -> GroupCoordinator {
        let config = Arc::new(config);
        let options = Options {
            commit_timeout: Duration::from_millis(config.offsets_commit_timeout_ms),
            batch_bytes_max: config.batch_bytes_max,
        };
        let for_shards = config.clone();
        let topics_of_shards = topics.clone();
        let make = move |_| GroupShard::new(for_shards.clone(), topics_of_shards.clone());
        GroupCoordinator {
            config,
            runtime: Runtime::new(options, prng, make),
            topics,
            partitions: partitions.max(1),
            tokens: 0,
            waiting: BTreeMap::new(),
            gathers: BTreeMap::new(),
        }
    }

    /// The number of partitions of `__consumer_offsets`, once it is known.
    pub fn set_partitions(&mut self, partitions: i32) {
        self.partitions = partitions.max(1);
    }

    /// The partition that a group's records are in.
    pub fn partition_for(&self, group_id: &str) -> i32 {
        partition_for(group_id, self.partitions)
    }

    /// When the next [`Event::Tick`] is wanted.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.runtime.next_deadline()
    }

    /// The runtime, to look at.
    pub fn runtime(&self) -> &Runtime<GroupShard> {
        &self.runtime
    }

    /// Takes an event; `shard` in it is a partition of `__consumer_offsets`.
    pub fn step(&mut self, event: Event, now: Now, out: &mut Vec<Effect<GroupResponse>>) {
        let mut effects = Vec::new();
        self.runtime.step(event, now, &mut effects);
        self.pass_on(effects, out);
    }

    /// Topics were deleted: their offsets are to end.
    pub fn topics_deleted(
        &mut self,
        topics: Vec<DeletedTopic>,
        now: Now,
        out: &mut Vec<Effect<GroupResponse>>,
    ) {
        let topics: Arc<[DeletedTopic]> = topics.into();
        for shard in self.runtime.active().collect::<Vec<_>>() {
            let request = ShardRequest::TopicsDeleted(topics.clone());
            self.ask(shard, Waiting::Nobody, request, now, out);
        }
    }

    /// Topics were created (`created`: one at least), deleted, or have more partitions: assignments may have to change.
    pub fn topics_changed(
        &mut self,
        names: Vec<Str>,
        created: bool,
        now: Now,
        out: &mut Vec<Effect<GroupResponse>>,
    ) {
        let names: Arc<[Str]> = names.into();
        for shard in self.runtime.active().collect::<Vec<_>>() {
            let request = ShardRequest::TopicsChanged(names.clone(), created);
            self.ask(shard, Waiting::Nobody, request, now, out);
        }
    }

    /// Takes a request. Exactly one [`Effect::Reply`] follows, at some time, for the token.
    pub fn request(
        &mut self,
        token: Token,
        context: RequestContext,
        request: GroupRequest,
        now: Now,
        out: &mut Vec<Effect<GroupResponse>>,
    ) {
        let version = context.api_version;
        match request {
            GroupRequest::JoinGroup(request) => {
                let refusal = self.join_refusal(&request);
                let shard = self.partition_for(&request.group_id);
                let request = ShardRequest::Join(context, request);
                self.ask_member(token, version, shard, request, refusal, now, out);
            }
            GroupRequest::SyncGroup(request) => {
                let unnamed = request.protocol_type.is_none() || request.protocol_name.is_none();
                let refusal = match version >= SYNC_PROTOCOL_FROM && unnamed {
                    true => Some(ErrorCode::InconsistentGroupProtocol),
                    false => group_id_refusal(&request.group_id),
                };
                let shard = self.partition_for(&request.group_id);
                let request = ShardRequest::Sync(request);
                self.ask_member(token, version, shard, request, refusal, now, out);
            }
            GroupRequest::Heartbeat(request) => {
                let refusal = group_id_refusal(&request.group_id);
                let shard = self.partition_for(&request.group_id);
                let request = ShardRequest::Heartbeat(request);
                self.ask_member(token, version, shard, request, refusal, now, out);
            }
            GroupRequest::LeaveGroup(request) => {
                let refusal = group_id_refusal(&request.group_id);
                let shard = self.partition_for(&request.group_id);
                let request = ShardRequest::Leave(with_members(request, version));
                self.ask_member(token, version, shard, request, refusal, now, out);
            }
            GroupRequest::OffsetCommit(request) => self.commit(token, version, request, now, out),
            GroupRequest::TxnOffsetCommit(request) => {
                self.commit_in_transaction(token, version, request, now, out);
            }
            GroupRequest::OffsetDelete(request) => self.delete(token, version, request, now, out),
            GroupRequest::OffsetFetch(request) => self.fetch(token, version, request, now, out),
            GroupRequest::ListGroups(request) => {
                let request = Arc::new(request);
                let shards = self.runtime.led();
                let ask = |shard| (shard, ShardRequest::List(request.clone()));
                let parts = shards.map(ask).collect();
                self.gather(token, version, api::Kind::List, parts, now, out);
            }
            GroupRequest::DescribeGroups(request) => {
                let parts = self.of_each(request.groups, |id| ShardRequest::Describe(version, id));
                self.gather(token, version, api::Kind::Describe, parts, now, out);
            }
            GroupRequest::ConsumerGroupHeartbeat(request) => {
                self.consumer_heartbeat(token, context, request, now, out);
            }
            GroupRequest::ConsumerGroupDescribe(request) => {
                let parts = self.of_each(request.group_ids, ShardRequest::ConsumerDescribe);
                self.gather(token, version, api::Kind::ConsumerDescribe, parts, now, out);
            }
            GroupRequest::DeleteGroups(request) => {
                let parts = self.of_each(distinct(request), ShardRequest::Delete);
                self.gather(token, version, api::Kind::Delete, parts, now, out);
            }
        }
    }

    /// A question about each group, for the shard that it is in.
    fn of_each(
        &self,
        groups: Vec<Str>,
        ask: impl Fn(Str) -> ShardRequest,
    ) -> Vec<(i32, ShardRequest)> {
        let ask = |id: Str| (self.partition_for(&id), ask(id));
        groups.into_iter().map(ask).collect()
    }

    fn consumer_heartbeat(
        &mut self,
        token: Token,
        context: RequestContext,
        request: ConsumerGroupHeartbeatRequest,
        now: Now,
        out: &mut Vec<Effect<GroupResponse>>,
    ) {
        let version = context.api_version;
        let assignors = &self.config.consumer.assignors;
        if let Err((code, why)) = check_consumer_heartbeat(&request, version, assignors) {
            let response = consumer_heartbeat_error(code, Some(why)).into();
            return out.push(Effect::Reply { token, response });
        }
        let waiting = Waiting::Whole {
            token,
            version,
            held: Held::Nothing,
        };
        let shard = self.partition_for(&request.group_id);
        let request = ShardRequest::ConsumerHeartbeat(context, Box::new(request));
        self.ask(shard, waiting, request, now, out);
    }

    fn join_refusal(&self, request: &JoinGroupRequest) -> Option<ErrorCode> {
        let bounds = self.config.session_timeout_ms_min..=self.config.session_timeout_ms_max;
        let unbounded = !bounds.contains(&request.session_timeout_ms);
        group_id_refusal(&request.group_id)
            .or(unbounded.then_some(ErrorCode::InvalidSessionTimeout))
    }

    #[allow(clippy::too_many_arguments)]
    fn ask_member(
        &mut self,
        token: Token,
        version: i16,
        shard: i32,
        request: ShardRequest,
        refusal: Option<ErrorCode>,
        now: Now,
        out: &mut Vec<Effect<GroupResponse>>,
    ) {
        let held = Held::Nothing;
        let Some(error) = refusal else {
            let waiting = Waiting::Whole {
                token,
                version,
                held,
            };
            return self.ask(shard, waiting, request, now, out);
        };
        let response = shape(request.refused_before_asking(error), version, held);
        out.extend(response.map(|response| Effect::Reply { token, response }));
    }

    fn commit(
        &mut self,
        token: Token,
        version: i16,
        mut request: OffsetCommitRequest,
        now: Now,
        out: &mut Vec<Effect<GroupResponse>>,
    ) {
        let refused = split_offset_commit(&mut request, version, &*self.topics);
        if request.topics.is_empty() {
            let response = milena_protocol::OffsetCommitResponse {
                topics: refused,
                ..Default::default()
            };
            let response = response.into();
            return out.push(Effect::Reply { token, response });
        }
        let shard = self.partition_for(&request.group_id);
        let waiting = Waiting::Whole {
            token,
            version,
            held: Held::Commit(refused),
        };
        self.ask(
            shard,
            waiting,
            ShardRequest::Commit(version, request),
            now,
            out,
        );
    }

    fn commit_in_transaction(
        &mut self,
        token: Token,
        version: i16,
        request: TxnOffsetCommitRequest,
        now: Now,
        out: &mut Vec<Effect<GroupResponse>>,
    ) {
        let producer = Producer {
            id: request.producer_id,
            epoch: request.producer_epoch,
        };
        let (mut request, plain_version) = plain_offset_commit(request, version);
        let refusal = group_id_refusal(&request.group_id);
        let refused = match refusal {
            Some(_) => Vec::new(),
            None => split_offset_commit(&mut request, plain_version, &*self.topics),
        };
        let held = Held::TxnCommit(refused);
        let shard = self.partition_for(&request.group_id);
        let nothing_left = request.topics.is_empty();
        let question = ShardRequest::TxnCommit(producer, request);
        if refusal.is_some() || nothing_left {
            let error = refusal.unwrap_or(ErrorCode::None);
            let response = shape(question.refused_before_asking(error), version, held);
            return out.extend(response.map(|response| Effect::Reply { token, response }));
        }
        let waiting = Waiting::Whole {
            token,
            version,
            held,
        };
        self.ask(shard, waiting, question, now, out);
    }

    /// Writes the end of a transaction to a partition of `__consumer_offsets`, in the order of everything else. The
    /// answer is a [`GroupResponse::TransactionEnded`].
    pub fn end_transaction(
        &mut self,
        token: Token,
        shard: i32,
        marker: Marker,
        now: Now,
        out: &mut Vec<Effect<GroupResponse>>,
    ) {
        self.tokens += 1;
        let inner = Token(self.tokens);
        self.waiting.insert(inner, Waiting::Marker(token));
        let mut effects = Vec::new();
        let done = ShardResponse::Ended(ErrorCode::None);
        self.runtime
            .end_transaction(shard, inner, marker, done, now, &mut effects);
        self.pass_on(effects, out);
    }

    fn delete(
        &mut self,
        token: Token,
        version: i16,
        mut request: OffsetDeleteRequest,
        now: Now,
        out: &mut Vec<Effect<GroupResponse>>,
    ) {
        let refusal = group_id_refusal(&request.group_id);
        let held = Held::Delete(split_offset_delete(&mut request, &*self.topics));
        let shard = self.partition_for(&request.group_id);
        let request = ShardRequest::OffsetDelete(request);
        if refusal.is_some() {
            return self.ask_member(token, version, shard, request, refusal, now, out);
        }
        let waiting = Waiting::Whole {
            token,
            version,
            held,
        };
        self.ask(shard, waiting, request, now, out);
    }

    fn fetch(
        &mut self,
        token: Token,
        version: i16,
        request: OffsetFetchRequest,
        now: Now,
        out: &mut Vec<Effect<GroupResponse>>,
    ) {
        let stable = request.require_stable;
        let groups = offset_fetch_groups(request, version, &*self.topics);
        let (groups, held): (Vec<_>, Vec<_>) = groups.into_iter().unzip();
        let ask = |group: milena_protocol::offset_fetch_request::OffsetFetchRequestGroup| {
            let shard = self.partition_for(&group.group_id);
            (shard, ShardRequest::Fetch(group, stable))
        };
        let parts = groups.into_iter().map(ask).collect();
        self.gather(token, version, api::Kind::Fetch(held), parts, now, out);
    }

    /// Asks several shards for one answer.
    fn gather(
        &mut self,
        token: Token,
        version: i16,
        kind: api::Kind,
        parts: Vec<(i32, ShardRequest)>,
        now: Now,
        out: &mut Vec<Effect<GroupResponse>>,
    ) {
        let gather = Gather::new(token, version, kind, parts.len());
        if gather.is_complete() {
            let response = gather.answer(&*self.topics);
            return out.push(Effect::Reply { token, response });
        }
        self.tokens += 1;
        let id = self.tokens;
        self.gathers.insert(id, gather);
        for (index, (shard, request)) in parts.into_iter().enumerate() {
            let waiting = Waiting::Part { gather: id, index };
            self.ask(shard, waiting, request, now, out);
        }
    }

    fn ask(
        &mut self,
        shard: i32,
        waiting: Waiting,
        request: ShardRequest,
        now: Now,
        out: &mut Vec<Effect<GroupResponse>>,
    ) {
        self.tokens += 1;
        let inner = Token(self.tokens);
        self.waiting.insert(inner, waiting);
        let mut effects = Vec::new();
        self.runtime
            .request(shard, inner, request, now, &mut effects);
        self.pass_on(effects, out);
    }

    fn pass_on(
        &mut self,
        effects: Vec<Effect<ShardResponse>>,
        out: &mut Vec<Effect<GroupResponse>>,
    ) {
        for effect in effects {
            match effect.translate() {
                Ok(effect) => out.push(effect),
                Err((token, response)) => out.extend(self.answer(token, response)),
            }
        }
    }

    /// Turns a shard's answer into the client's, where that is complete.
    fn answer(&mut self, inner: Token, response: ShardResponse) -> Option<Effect<GroupResponse>> {
        match self.waiting.remove(&inner)? {
            Waiting::Nobody => None,
            Waiting::Marker(token) => {
                let error = match response {
                    ShardResponse::Ended(error) => error,
                    _ => ErrorCode::UnknownServerError,
                };
                let response = GroupResponse::TransactionEnded(error);
                Some(Effect::Reply { token, response })
            }
            Waiting::Whole {
                token,
                version,
                held,
            } => {
                let response = shape(response, version, held)?;
                Some(Effect::Reply { token, response })
            }
            Waiting::Part { gather: id, index } => {
                let gather = self.gathers.get_mut(&id)?;
                gather.put(index, response);
                if !gather.is_complete() {
                    return None;
                }
                let gather = self.gathers.remove(&id)?;
                let token = gather.token;
                let response = gather.answer(&*self.topics);
                Some(Effect::Reply { token, response })
            }
        }
    }
}

fn group_id_refusal(group_id: &Str) -> Option<ErrorCode> {
    group_id.is_empty().then_some(ErrorCode::InvalidGroupId)
}

/// Before v3 the one member stands apart.
fn with_members(mut request: LeaveGroupRequest, version: i16) -> LeaveGroupRequest {
    if version < LEAVE_MEMBERS_FROM {
        let member_id = std::mem::take(&mut request.member_id);
        request.members = vec![MemberIdentity {
            member_id,
            ..Default::default()
        }];
    }
    request
}

/// Each group once, in the order of the request.
fn distinct(request: DeleteGroupsRequest) -> Vec<Str> {
    let mut seen = BTreeSet::new();
    let mut groups = request.groups_names;
    groups.retain(|group| seen.insert(group.clone()));
    groups
}
