//! ConsumerGroupHeartbeat: what is wrong with a request whatever the group. v1: the member brings an id from the start.

use milena_base::ErrorCode;
use milena_protocol::{ConsumerGroupHeartbeatRequest, Str};

use crate::consumer::assignor::Assignor;
use crate::consumer::{LEAVE_EPOCH, LEAVE_STATIC_EPOCH};

/// First version in which the member makes its own id (KIP-1082).
const MEMBER_ID_FROM: i16 = 1;

/// # Errors
/// `INVALID_REQUEST` or `UNSUPPORTED_ASSIGNOR`, with Kafka's sentence.
pub(crate) fn check(
    request: &ConsumerGroupHeartbeatRequest,
    version: i16,
    assignors: &[Assignor],
) -> Result<(), (ErrorCode, String)> {
    if let Some(why) = what_is_wrong(request, version) {
        return Err((ErrorCode::InvalidRequest, why.into()));
    }
    let wanted = request.server_assignor.as_deref();
    let known = |name: &str| assignors.iter().any(|assignor| assignor.name() == name);
    match wanted {
        Some(name) if !known(name) => {
            let names: Vec<&str> = assignors.iter().map(|assignor| assignor.name()).collect();
            let names = names.join(", ");
            let why =
                format!("ServerAssignor {name} is not supported. Supported assignors: {names}.");
            Err((ErrorCode::UnsupportedAssignor, why))
        }
        _ => Ok(()),
    }
}

fn what_is_wrong(request: &ConsumerGroupHeartbeatRequest, version: i16) -> Option<&'static str> {
    let is_empty = |text: &str| text.trim().is_empty();
    let is_empty_option = |text: &Option<Str>| text.as_deref().is_some_and(is_empty);
    let epoch = request.member_epoch;
    let names_itself = version >= MEMBER_ID_FROM || epoch > 0 || epoch == LEAVE_EPOCH;
    if names_itself && is_empty(&request.member_id) {
        return Some("MemberId can't be empty.");
    }
    if is_empty(&request.group_id) {
        return Some("GroupId can't be empty.");
    }
    if is_empty_option(&request.instance_id) {
        return Some("InstanceId can't be empty.");
    }
    if is_empty_option(&request.rack_id) {
        return Some("RackId can't be empty.");
    }
    match epoch {
        0 => what_is_missing(request),
        LEAVE_STATIC_EPOCH if request.instance_id.is_none() => Some("InstanceId can't be null."),
        LEAVE_STATIC_EPOCH | LEAVE_EPOCH | 1.. => None,
        _ => Some("MemberEpoch is invalid."),
    }
}

/// Whoever joins says everything.
fn what_is_missing(request: &ConsumerGroupHeartbeatRequest) -> Option<&'static str> {
    if request.rebalance_timeout_ms == -1 {
        return Some("RebalanceTimeoutMs must be provided in first request.");
    }
    if request
        .topic_partitions
        .as_ref()
        .is_none_or(|owned| !owned.is_empty())
    {
        return Some("TopicPartitions must be empty when (re-)joining.");
    }
    let nothing =
        request.subscribed_topic_names.is_none() && request.subscribed_topic_regex.is_none();
    nothing.then_some(
        "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
    )
}
