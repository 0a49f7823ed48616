//! Requests as clients send them: whole, in any version, for any number of groups. Here they are checked, cut into
//! questions for single shards, and the answers are put together again in the client's version.

mod consumer_heartbeat;
mod gather;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod shape;
mod txn_offset_commit;

pub(crate) use consumer_heartbeat::check as check_consumer_heartbeat;
pub(crate) use gather::{Gather, Kind};
pub(crate) use offset_commit::split as split_offset_commit;
pub(crate) use offset_delete::split as split_offset_delete;
pub(crate) use offset_fetch::groups as offset_fetch_groups;
pub(crate) use shape::{Held, shape};
pub(crate) use txn_offset_commit::request as plain_offset_commit;

use milena_base::{ErrorCode, Uuid};
use milena_protocol::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse, DeleteGroupsRequest, DeleteGroupsResponse,
    DescribeGroupsRequest, DescribeGroupsResponse, HeartbeatRequest, HeartbeatResponse,
    JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, ListGroupsRequest,
    ListGroupsResponse, OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest,
    OffsetDeleteResponse, OffsetFetchRequest, OffsetFetchResponse, Str, SyncGroupRequest,
    SyncGroupResponse, TxnOffsetCommitRequest, TxnOffsetCommitResponse,
};

use crate::config::ConsumerGroupSettings;

/// What the cluster knows of topics now: a view of the metadata image.
pub trait Topics {
    /// The name of a topic that exists.
    fn name(&self, id: Uuid) -> Option<Str>;
    /// The id of a topic that exists.
    fn id(&self, name: &str) -> Option<Uuid>;
    /// Whether the topic exists and has the partition.
    fn has_partition(&self, name: &str, partition: i32) -> bool;
    /// The number of partitions of a topic that exists.
    fn partitions(&self, name: &str) -> Option<i32>;
    /// For each partition of a topic that exists: the racks of its replicas, sorted.
    fn racks(&self, name: &str) -> Option<Vec<Vec<Str>>>;
    /// The names of all topics, ascending.
    fn names(&self) -> Vec<Str>;
    /// Which metadata this is: the offset of its last record.
    fn version(&self) -> i64;
    /// What a consumer group has of its own configs; `None`: nothing.
    fn consumer_settings(&self, group_id: &str) -> Option<ConsumerGroupSettings>;
}

/// A request about groups.
#[derive(Clone, Debug)]
pub enum GroupRequest {
    JoinGroup(JoinGroupRequest),
    SyncGroup(SyncGroupRequest),
    Heartbeat(HeartbeatRequest),
    LeaveGroup(LeaveGroupRequest),
    OffsetCommit(OffsetCommitRequest),
    OffsetFetch(OffsetFetchRequest),
    OffsetDelete(OffsetDeleteRequest),
    ListGroups(ListGroupsRequest),
    DescribeGroups(DescribeGroupsRequest),
    DeleteGroups(DeleteGroupsRequest),
    ConsumerGroupHeartbeat(ConsumerGroupHeartbeatRequest),
    ConsumerGroupDescribe(ConsumerGroupDescribeRequest),
    TxnOffsetCommit(TxnOffsetCommitRequest),
}

/// The answer to the [`GroupRequest`] of the same name, ready to be encoded in the request's version.
#[derive(Clone, Debug, PartialEq)]
pub enum GroupResponse {
    JoinGroup(JoinGroupResponse),
    SyncGroup(SyncGroupResponse),
    Heartbeat(HeartbeatResponse),
    LeaveGroup(LeaveGroupResponse),
    OffsetCommit(OffsetCommitResponse),
    OffsetFetch(OffsetFetchResponse),
    OffsetDelete(OffsetDeleteResponse),
    ListGroups(ListGroupsResponse),
    DescribeGroups(DescribeGroupsResponse),
    DeleteGroups(DeleteGroupsResponse),
    ConsumerGroupHeartbeat(ConsumerGroupHeartbeatResponse),
    ConsumerGroupDescribe(ConsumerGroupDescribeResponse),
    TxnOffsetCommit(TxnOffsetCommitResponse),
    /// To [`crate::GroupCoordinator::end_transaction`]; NONE where the marker is written.
    TransactionEnded(ErrorCode),
}

macro_rules! conversions {
    ($($variant:ident $request:ident $response:ident;)*) => {$(
        impl From<$request> for GroupRequest {
            fn from(request: $request) -> GroupRequest {
                GroupRequest::$variant(request)
            }
        }
        impl From<$response> for GroupResponse {
            fn from(response: $response) -> GroupResponse {
                GroupResponse::$variant(response)
            }
        }
    )*};
}

conversions! {
    JoinGroup JoinGroupRequest JoinGroupResponse;
    SyncGroup SyncGroupRequest SyncGroupResponse;
    Heartbeat HeartbeatRequest HeartbeatResponse;
    LeaveGroup LeaveGroupRequest LeaveGroupResponse;
    OffsetCommit OffsetCommitRequest OffsetCommitResponse;
    OffsetFetch OffsetFetchRequest OffsetFetchResponse;
    OffsetDelete OffsetDeleteRequest OffsetDeleteResponse;
    ListGroups ListGroupsRequest ListGroupsResponse;
    DescribeGroups DescribeGroupsRequest DescribeGroupsResponse;
    DeleteGroups DeleteGroupsRequest DeleteGroupsResponse;
    ConsumerGroupHeartbeat ConsumerGroupHeartbeatRequest ConsumerGroupHeartbeatResponse;
    ConsumerGroupDescribe ConsumerGroupDescribeRequest ConsumerGroupDescribeResponse;
    TxnOffsetCommit TxnOffsetCommitRequest TxnOffsetCommitResponse;
}
