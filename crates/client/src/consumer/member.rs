//! What members of a classic group say to each other inside of JoinGroup and SyncGroup (`ConsumerProtocol`).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use milena_protocol::join_group_response::JoinGroupResponseMember;
use milena_protocol::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, DecodeError, Message, Reader, Str,
    consumer_protocol_assignment, consumer_protocol_subscription, encode_versioned,
};

use super::assignor::{Assignor, Member, Place};

/// Version of both messages that we write.
const VERSION: i16 = 3;

fn grouped(places: &BTreeSet<Place>) -> BTreeMap<&Str, Vec<i32>> {
    let mut topics: BTreeMap<&Str, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in places {
        topics.entry(topic).or_default().push(*partition);
    }
    topics
}

/// Our subscription for an assignor.
pub fn subscription(
    assignor: Assignor,
    topics: &BTreeSet<Str>,
    owned: &BTreeSet<Place>,
    generation: i32,
) -> Bytes {
    let cooperative = assignor == Assignor::CooperativeSticky;
    let owned_partitions = grouped(owned).into_iter().map(|(topic, partitions)| {
        let topic = topic.clone();
        consumer_protocol_subscription::TopicPartition { topic, partitions }
    });
    let message = ConsumerProtocolSubscription {
        topics: topics.iter().cloned().collect(),
        // Older members look for the generation here.
        user_data: cooperative.then(|| Bytes::copy_from_slice(&generation.to_be_bytes())),
        owned_partitions: owned_partitions.collect(),
        generation_id: generation,
        rack_id: None,
    };
    encode_versioned(&message, VERSION).expect("a subscription fits its version")
}

/// Reads a versioned message of any version from ours down; one from above ours begins like ours.
fn decode<M: Message>(bytes: &Bytes) -> Result<(M, i16), DecodeError> {
    let mut reader = Reader::new(bytes.clone());
    let version = reader.i16()?;
    Ok((
        M::decode(&mut reader, version.min(M::MAX_VERSION))?,
        version,
    ))
}

/// A member as its subscription shows it.
pub fn member(joined: &JoinGroupResponseMember) -> Result<Member, DecodeError> {
    let (message, version): (ConsumerProtocolSubscription, i16) = decode(&joined.metadata)?;
    let user_data = message.user_data.unwrap_or_default();
    let told = user_data
        .first_chunk::<4>()
        .map(|bytes| i32::from_be_bytes(*bytes));
    let owned = message.owned_partitions.iter().flat_map(|topic| {
        let name = topic.topic.detached();
        topic
            .partitions
            .iter()
            .map(move |partition| (name.clone(), *partition))
    });
    Ok(Member {
        instance_id: joined.group_instance_id.as_ref().map(Str::detached),
        topics: message.topics.iter().map(Str::detached).collect(),
        owned: owned.collect(),
        generation: match version {
            2.. => message.generation_id,
            _ => told.unwrap_or(-1),
        },
    })
}

/// Partitions for SyncGroup.
pub fn assignment(places: &BTreeSet<Place>) -> Bytes {
    let assigned = grouped(places).into_iter().map(|(topic, partitions)| {
        let topic = topic.clone();
        consumer_protocol_assignment::TopicPartition { topic, partitions }
    });
    let message = ConsumerProtocolAssignment {
        assigned_partitions: assigned.collect(),
        user_data: None,
    };
    encode_versioned(&message, VERSION).expect("an assignment fits its version")
}

/// The partitions of an assignment, as SyncGroup and DescribeGroups carry it; none where it is empty.
pub fn assigned(bytes: &Bytes) -> Result<BTreeSet<Place>, DecodeError> {
    if bytes.is_empty() {
        return Ok(BTreeSet::new());
    }
    let (message, _): (ConsumerProtocolAssignment, i16) = decode(bytes)?;
    let places = message.assigned_partitions.iter().flat_map(|topic| {
        let name = topic.topic.detached();
        topic
            .partitions
            .iter()
            .map(move |partition| (name.clone(), *partition))
    });
    Ok(places.collect())
}
