//! What is asked of one shard, and what it answers.

use std::sync::Arc;

use milena_base::ErrorCode;
use milena_coordinator::Producer;
use milena_protocol::consumer_group_describe_response;
use milena_protocol::delete_groups_response::DeletableGroupResult;
use milena_protocol::describe_groups_response::DescribedGroup;
use milena_protocol::leave_group_response::MemberResponse;
use milena_protocol::list_groups_response::ListedGroup;
use milena_protocol::offset_fetch_request::OffsetFetchRequestGroup;
use milena_protocol::offset_fetch_response::OffsetFetchResponseGroup;
use milena_protocol::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, HeartbeatRequest,
    HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse,
    ListGroupsRequest, OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest,
    OffsetDeleteResponse, Str, SyncGroupRequest, SyncGroupResponse,
};

use crate::offsets::commit::commit_error;
use crate::offsets::delete::DeletedTopic;
use crate::offsets::fetch::fetch_error;

/// Who asks, in which version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestContext {
    pub api_version: i16,
    /// Of the request header; empty where there is none.
    pub client_id: Str,
    /// The peer's address as Java prints an `InetAddress`: `/127.0.0.1`.
    pub client_host: Str,
}

/// A question for one partition's shard.
#[derive(Clone, Debug)]
pub enum ShardRequest {
    Join(RequestContext, JoinGroupRequest),
    Sync(SyncGroupRequest),
    Heartbeat(HeartbeatRequest),
    Leave(LeaveGroupRequest),
    Commit(i16, OffsetCommitRequest),
    /// Answered by [`ShardResponse::Commit`].
    TxnCommit(Producer, OffsetCommitRequest),
    Fetch(OffsetFetchRequestGroup, bool),
    OffsetDelete(OffsetDeleteRequest),
    List(Arc<ListGroupsRequest>),
    Describe(i16, Str),
    ConsumerHeartbeat(RequestContext, Box<ConsumerGroupHeartbeatRequest>),
    ConsumerDescribe(Str),
    Delete(Str),
    TopicsDeleted(Arc<[DeletedTopic]>),
    /// Topics that were created, deleted, or have more partitions; whether any was created.
    TopicsChanged(Arc<[Str]>, bool),
}

/// The answer to the [`ShardRequest`] of the same name.
#[derive(Clone, Debug, PartialEq)]
pub enum ShardResponse {
    Join(JoinGroupResponse),
    Sync(SyncGroupResponse),
    Heartbeat(HeartbeatResponse),
    Leave(LeaveGroupResponse),
    Commit(OffsetCommitResponse),
    Fetch(OffsetFetchResponseGroup),
    OffsetDelete(OffsetDeleteResponse),
    List(Result<Vec<ListedGroup>, ErrorCode>),
    Describe(DescribedGroup),
    ConsumerHeartbeat(ConsumerGroupHeartbeatResponse),
    ConsumerDescribe(consumer_group_describe_response::DescribedGroup),
    Delete(DeletableGroupResult),
    Done,
    /// A transaction ended in the partition, or could not.
    Ended(ErrorCode),
}

impl ShardRequest {
    /// The answer to a member whose request is wrong in itself.
    pub(crate) fn refused_before_asking(self, error: ErrorCode) -> ShardResponse {
        match self {
            ShardRequest::Join(_, request) => {
                ShardResponse::Join(join_error(request.member_id, error))
            }
            other => other.refused(error),
        }
    }

    /// The answer when no shard can be asked.
    pub(crate) fn refused(self, error: ErrorCode) -> ShardResponse {
        match self {
            ShardRequest::Join(..) => ShardResponse::Join(join_error(Str::EMPTY, error)),
            ShardRequest::Sync(_) => ShardResponse::Sync(sync_error(error)),
            ShardRequest::Heartbeat(_) => ShardResponse::Heartbeat(match error {
                // The member may well be there; it shall go on until that is known.
                ErrorCode::CoordinatorLoadInProgress => heartbeat(ErrorCode::None),
                error => heartbeat(error),
            }),
            ShardRequest::Leave(request) => ShardResponse::Leave(leave_error(&request, error)),
            ShardRequest::Commit(_, request) | ShardRequest::TxnCommit(_, request) => {
                ShardResponse::Commit(commit_error(&request, error))
            }
            ShardRequest::Fetch(request, _) => {
                ShardResponse::Fetch(fetch_error(request.group_id, error))
            }
            ShardRequest::OffsetDelete(_) => ShardResponse::OffsetDelete(OffsetDeleteResponse {
                error_code: error.code(),
                ..Default::default()
            }),
            // A partition that moved away is listed by its new leader.
            ShardRequest::List(_) if error == ErrorCode::NotCoordinator => {
                ShardResponse::List(Ok(Vec::new()))
            }
            ShardRequest::List(_) => ShardResponse::List(Err(error)),
            ShardRequest::Describe(_, group_id) => {
                ShardResponse::Describe(describe_error(group_id, error))
            }
            ShardRequest::ConsumerHeartbeat(..) => {
                ShardResponse::ConsumerHeartbeat(consumer_heartbeat_error(error, None))
            }
            ShardRequest::ConsumerDescribe(group_id) => {
                ShardResponse::ConsumerDescribe(consumer_describe_error(group_id, error))
            }
            ShardRequest::Delete(group_id) => ShardResponse::Delete(DeletableGroupResult {
                group_id,
                error_code: error.code(),
                ..Default::default()
            }),
            ShardRequest::TopicsDeleted(_) | ShardRequest::TopicsChanged(..) => ShardResponse::Done,
        }
    }
}

impl ShardResponse {
    /// The same answer with an error in place of success, after its records could not be committed.
    pub(crate) fn failed(self, error: ErrorCode) -> ShardResponse {
        let code = visible(error).code();
        match self {
            ShardResponse::Join(response) => {
                ShardResponse::Join(join_error(response.member_id, visible(error)))
            }
            ShardResponse::Sync(_) => ShardResponse::Sync(sync_error(visible(error))),
            ShardResponse::Heartbeat(_) => ShardResponse::Heartbeat(heartbeat(visible(error))),
            ShardResponse::Leave(_) => ShardResponse::Leave(LeaveGroupResponse {
                error_code: code,
                ..Default::default()
            }),
            ShardResponse::Commit(mut response) => {
                let partitions = response.topics.iter_mut().flat_map(|t| &mut t.partitions);
                partitions.for_each(|partition| partition.error_code = code);
                ShardResponse::Commit(response)
            }
            ShardResponse::Fetch(response) => {
                ShardResponse::Fetch(fetch_error(response.group_id, visible_to_fetch(error)))
            }
            ShardResponse::OffsetDelete(_) => ShardResponse::OffsetDelete(OffsetDeleteResponse {
                error_code: code,
                ..Default::default()
            }),
            ShardResponse::List(_) => ShardResponse::List(Err(visible(error))),
            ShardResponse::Describe(group) => {
                ShardResponse::Describe(describe_error(group.group_id, visible(error)))
            }
            ShardResponse::ConsumerHeartbeat(_) => {
                ShardResponse::ConsumerHeartbeat(consumer_heartbeat_error(visible(error), None))
            }
            ShardResponse::ConsumerDescribe(group) => {
                let error = visible(error);
                ShardResponse::ConsumerDescribe(consumer_describe_error(group.group_id, error))
            }
            ShardResponse::Delete(result) => ShardResponse::Delete(DeletableGroupResult {
                error_code: code,
                ..result
            }),
            ShardResponse::Done => ShardResponse::Done,
            ShardResponse::Ended(_) => ShardResponse::Ended(error),
        }
    }
}

/// An append's error as group members are to see it.
pub(crate) fn visible(error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::UnknownTopicOrPartition
        | ErrorCode::NotEnoughReplicas
        | ErrorCode::NotEnoughReplicasAfterAppend
        | ErrorCode::RequestTimedOut => ErrorCode::CoordinatorNotAvailable,
        ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError => ErrorCode::NotCoordinator,
        ErrorCode::MessageTooLarge
        | ErrorCode::RecordListTooLarge
        | ErrorCode::InvalidFetchSize => ErrorCode::UnknownServerError,
        other => other,
    }
}

/// Consumers before 3.9 retry OffsetFetch only after `NOT_COORDINATOR`.
fn visible_to_fetch(error: ErrorCode) -> ErrorCode {
    match visible(error) {
        ErrorCode::CoordinatorNotAvailable => ErrorCode::NotCoordinator,
        other => other,
    }
}

pub(crate) fn join_error(member_id: Str, error: ErrorCode) -> JoinGroupResponse {
    JoinGroupResponse {
        error_code: error.code(),
        protocol_name: None,
        member_id,
        ..Default::default()
    }
}

pub(crate) fn sync_error(error: ErrorCode) -> SyncGroupResponse {
    SyncGroupResponse {
        error_code: error.code(),
        ..Default::default()
    }
}

pub(crate) fn heartbeat(error: ErrorCode) -> HeartbeatResponse {
    HeartbeatResponse {
        error_code: error.code(),
        ..Default::default()
    }
}

/// An unknown group means unknown members.
pub(crate) fn leave_error(request: &LeaveGroupRequest, error: ErrorCode) -> LeaveGroupResponse {
    if error != ErrorCode::UnknownMemberId {
        return LeaveGroupResponse {
            error_code: error.code(),
            ..Default::default()
        };
    }
    let unknown = request.members.iter().map(|member| MemberResponse {
        member_id: member.member_id.clone(),
        group_instance_id: member.group_instance_id.clone(),
        error_code: error.code(),
    });
    LeaveGroupResponse {
        members: unknown.collect(),
        ..Default::default()
    }
}

pub(crate) fn describe_error(group_id: Str, error: ErrorCode) -> DescribedGroup {
    DescribedGroup {
        group_id,
        error_code: error.code(),
        ..Default::default()
    }
}

pub(crate) fn consumer_heartbeat_error(
    error: ErrorCode,
    message: Option<String>,
) -> ConsumerGroupHeartbeatResponse {
    ConsumerGroupHeartbeatResponse {
        error_code: error.code(),
        error_message: message.map(Str::from),
        ..Default::default()
    }
}

pub(crate) fn consumer_describe_error(
    group_id: Str,
    error: ErrorCode,
) -> consumer_group_describe_response::DescribedGroup {
    consumer_group_describe_response::DescribedGroup {
        group_id,
        error_code: error.code(),
        ..Default::default()
    }
}
