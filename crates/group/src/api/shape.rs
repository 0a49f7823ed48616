//! Answers of one shard in the client's version.

use milena_protocol::offset_commit_response::OffsetCommitResponseTopic;
use milena_protocol::offset_delete_response::OffsetDeleteResponseTopic;
use milena_protocol::{JoinGroupResponse, LeaveGroupResponse, Str};

use crate::api::{GroupResponse, offset_commit, offset_delete, txn_offset_commit};
use crate::request::ShardResponse;

/// First version of JoinGroup whose protocol name may be null.
const NULL_PROTOCOL_NAME_FROM: i16 = 7;
/// First version of LeaveGroup with a list of members.
const LEAVE_MEMBERS_FROM: i16 = 3;

/// What was answered before the shard was asked.
#[derive(Debug)]
pub(crate) enum Held {
    Nothing,
    Commit(Vec<OffsetCommitResponseTopic>),
    TxnCommit(Vec<OffsetCommitResponseTopic>),
    Delete(Vec<OffsetDeleteResponseTopic>),
}

/// `None` for answers that are gathered.
pub(crate) fn shape(response: ShardResponse, version: i16, held: Held) -> Option<GroupResponse> {
    Some(match (response, held) {
        (ShardResponse::Join(response), _) => join(response, version).into(),
        (ShardResponse::Sync(response), _) => response.into(),
        (ShardResponse::Heartbeat(response), _) => response.into(),
        (ShardResponse::ConsumerHeartbeat(response), _) => response.into(),
        (ShardResponse::Leave(response), _) => leave(response, version).into(),
        (ShardResponse::Commit(mut response), Held::TxnCommit(refused)) => {
            response.topics = offset_commit::merge(refused, response.topics);
            txn_offset_commit::response(response, version).into()
        }
        (ShardResponse::Commit(mut response), held) => {
            if let Held::Commit(refused) = held {
                response.topics = offset_commit::merge(refused, response.topics);
            }
            response.into()
        }
        (ShardResponse::OffsetDelete(mut response), held) => {
            if let Held::Delete(refused) = held
                && response.error_code == 0
            {
                response.topics = offset_delete::merge(refused, response.topics);
            }
            response.into()
        }
        (
            ShardResponse::Fetch(_)
            | ShardResponse::List(_)
            | ShardResponse::Describe(_)
            | ShardResponse::ConsumerDescribe(_)
            | ShardResponse::Delete(_)
            | ShardResponse::Done
            | ShardResponse::Ended(_),
            _,
        ) => return None,
    })
}

fn join(mut response: JoinGroupResponse, version: i16) -> JoinGroupResponse {
    if version < NULL_PROTOCOL_NAME_FROM {
        response.protocol_name.get_or_insert(Str::EMPTY);
    }
    response
}

/// Before v3 the one member's error is that of the whole.
fn leave(mut response: LeaveGroupResponse, version: i16) -> LeaveGroupResponse {
    if version < LEAVE_MEMBERS_FROM {
        let members = std::mem::take(&mut response.members);
        let failed = members.iter().find(|member| member.error_code != 0);
        if let Some(failed) = failed.filter(|_| response.error_code == 0) {
            response.error_code = failed.error_code;
        }
    }
    response
}
