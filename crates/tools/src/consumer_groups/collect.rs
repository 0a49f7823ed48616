//! What the cluster knows about groups: who they are, members, offsets.

use std::collections::{BTreeMap, BTreeSet};

use milena_base::ErrorCode;
use milena_client::consumer::{Place, assigned, committed, list_offsets};
use milena_client::{Client, Error, Node, Target};
use milena_protocol::consumer_group_describe_response::{self, Assignment};
use milena_protocol::describe_groups_response;
use milena_protocol::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use milena_protocol::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use milena_protocol::{
    ApiKey, ConsumerGroupDescribeRequest, DeleteGroupsRequest, DescribeGroupsRequest,
    ListGroupsRequest, OffsetCommitRequest, OffsetDeleteRequest, Str,
};

/// A group in a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    pub id: String,
    pub group_type: String,
    pub protocol: String,
    pub state: String,
}

/// A group with all that is shown of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    pub id: String,
    /// Host, port and id of the broker.
    pub coordinator: (String, u16, i32),
    pub assignor: String,
    pub state: String,
    /// Of the group and of its target assignment; only groups of the consumer protocol have them.
    pub epochs: Option<(i32, i32)>,
    pub members: Vec<Member>,
    /// Committed offsets with their leader epochs (−1: none).
    pub committed: BTreeMap<Place, (i64, i32)>,
    pub ends: BTreeMap<Place, i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    pub id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub host: String,
    pub assigned: BTreeSet<Place>,
    /// Epoch, and what is to be assigned in the end; only in groups of the consumer protocol.
    pub epoch: Option<i32>,
    pub target: BTreeSet<Place>,
}

/// Groups of consumers on all brokers, sorted by id.
pub async fn list(
    client: &mut Client,
    states: &[String],
    types: &[String],
) -> Result<Vec<Listed>, Error> {
    let takes =
        |wanted: &[String], value: &str| wanted.is_empty() || wanted.iter().any(|one| one == value);
    let known = |group: &Listed| {
        matches!(&group.group_type[..], "" | "Classic" | "Consumer")
            && matches!(&group.protocol[..], "" | "consumer")
    };
    let groups = list_all(client).await?.into_iter().filter(|group| {
        known(group) && takes(states, &group.state) && takes(types, &group.group_type)
    });
    Ok(groups.collect())
}

/// Groups of every type on all brokers, sorted by id.
pub async fn list_all(client: &mut Client) -> Result<Vec<Listed>, Error> {
    let request = ListGroupsRequest::default();
    let groups = client.retry("findAllBrokers", async |client: &mut Client| {
        client.metadata_once(Some(&[]), false).await?;
        let brokers: Vec<i32> = client.nodes().keys().copied().collect();
        let mut groups = BTreeSet::new();
        for broker in brokers {
            let connection = client.connection(Target::Node(broker)).await?;
            let answer = connection.call(&request).await?;
            Error::check(answer.error_code, None)?;
            groups.extend(answer.groups.iter().map(|group| Listed {
                id: group.group_id.to_string(),
                group_type: capitalised(&group.group_type),
                protocol: group.protocol_type.to_string(),
                state: group.group_state.to_string(),
            }));
        }
        Ok(groups)
    });
    Ok(groups.await?.into_iter().collect())
}

fn capitalised(name: &str) -> String {
    let mut letters = name.chars();
    let first = letters.next().map(|c| c.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

/// Calls the group's coordinator, looked up anew for each try.
async fn at_coordinator<T>(
    client: &mut Client,
    id: &str,
    call: &'static str,
    mut ask: impl AsyncFnMut(&mut Client, &Node) -> Result<T, Error>,
) -> Result<T, Error> {
    let id = Str::copy(id);
    client
        .retry(call, async |client: &mut Client| {
            let node = client.coordinator_once(&id).await?;
            ask(client, &node).await
        })
        .await
}

/// A group by whichever protocol it is of; an error where there is none.
pub async fn describe(client: &mut Client, id: &str) -> Result<Group, Error> {
    at_coordinator(
        client,
        id,
        "describeConsumerGroups",
        async |client: &mut Client, node: &Node| {
            let connection = client.connection(Target::Node(node.id)).await?;
            if connection.version(ApiKey::ConsumerGroupDescribe).is_some() {
                match of_consumer_protocol(client, id, node).await {
                    Err(error) if is_other(&error) => {}
                    done => return done,
                }
            }
            classic(client, id, node).await
        },
    )
    .await
}

fn is_other(error: &Error) -> bool {
    matches!(
        error.code(),
        Some(ErrorCode::GroupIdNotFound | ErrorCode::UnsupportedVersion)
    )
}

fn coordinator(node: &Node) -> (String, u16, i32) {
    (node.address.host.clone(), node.address.port, node.id)
}

async fn of_consumer_protocol(client: &mut Client, id: &str, node: &Node) -> Result<Group, Error> {
    let request = ConsumerGroupDescribeRequest {
        group_ids: vec![Str::copy(id)],
        ..Default::default()
    };
    let answer = client
        .connection(Target::Node(node.id))
        .await?
        .call(&request)
        .await?;
    let group = answer.groups.first().ok_or_else(|| missing(id))?;
    Error::check(group.error_code, group.error_message.as_deref())?;
    Ok(Group {
        id: id.to_string(),
        coordinator: coordinator(node),
        assignor: group.assignor_name.to_string(),
        state: group.group_state.to_string(),
        epochs: Some((group.group_epoch, group.assignment_epoch)),
        members: group.members.iter().map(consumer_member).collect(),
        ..Group::default()
    })
}

fn consumer_member(member: &consumer_group_describe_response::Member) -> Member {
    let places = |assignment: &Assignment| {
        let topics = assignment.topic_partitions.iter();
        topics
            .flat_map(|t| t.partitions.iter().map(|p| (t.topic_name.detached(), *p)))
            .collect()
    };
    Member {
        id: member.member_id.to_string(),
        instance_id: member.instance_id.as_ref().map(Str::to_string),
        client_id: member.client_id.to_string(),
        host: member.client_host.to_string(),
        assigned: places(&member.assignment),
        epoch: Some(member.member_epoch),
        target: places(&member.target_assignment),
    }
}

async fn classic(client: &mut Client, id: &str, node: &Node) -> Result<Group, Error> {
    let request = DescribeGroupsRequest {
        groups: vec![Str::copy(id)],
        ..Default::default()
    };
    let answer = client
        .connection(Target::Node(node.id))
        .await?
        .call(&request)
        .await?;
    let group = answer.groups.first().ok_or_else(|| missing(id))?;
    Error::check(group.error_code, group.error_message.as_deref())?;
    let protocol = &group.protocol_type;
    if !protocol.is_empty() && *protocol != "consumer" {
        return Err(Error::Config(format!(
            "GroupId {id} is not a consumer group ({protocol})."
        )));
    }
    let members = group
        .members
        .iter()
        .map(classic_member)
        .collect::<Result<_, _>>()?;
    Ok(Group {
        id: id.to_string(),
        coordinator: coordinator(node),
        assignor: group.protocol_data.to_string(),
        state: group.group_state.to_string(),
        members,
        ..Group::default()
    })
}

fn classic_member(
    member: &describe_groups_response::DescribedGroupMember,
) -> Result<Member, Error> {
    let assigned = assigned(&member.member_assignment).map_err(|error| Error::Malformed {
        peer: "the coordinator".into(),
        what: format!(
            "an assignment of {} that can't be read: {error}",
            member.member_id
        ),
    })?;
    Ok(Member {
        id: member.member_id.to_string(),
        instance_id: member.group_instance_id.as_ref().map(Str::to_string),
        client_id: member.client_id.to_string(),
        host: member.client_host.to_string(),
        assigned,
        ..Member::default()
    })
}

fn missing(id: &str) -> Error {
    let message = format!("Group {id} not found.");
    Error::refused(ErrorCode::GroupIdNotFound, Some(&message))
}

/// What is committed, with leader epochs (−1: none).
pub async fn committed_by(
    client: &mut Client,
    id: &str,
) -> Result<BTreeMap<Place, (i64, i32)>, Error> {
    let id = Str::copy(id);
    let ask = async |client: &mut Client, node: &Node| committed(client, node.id, &id, None).await;
    at_coordinator(client, &id, "listConsumerGroupOffsets", ask).await
}

/// Commits offsets of a group that has no members.
pub async fn commit(
    client: &mut Client,
    id: &str,
    offsets: &BTreeMap<Place, i64>,
) -> Result<(), Error> {
    let mut topics: BTreeMap<&Str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
    for ((topic, partition_index), offset) in offsets {
        let partitions = topics.entry(topic).or_default();
        partitions.push(OffsetCommitRequestPartition {
            partition_index: *partition_index,
            committed_offset: *offset,
            committed_metadata: Some(Str::EMPTY),
            ..Default::default()
        });
    }
    let topics = topics
        .into_iter()
        .map(|(name, partitions)| OffsetCommitRequestTopic {
            name: name.clone(),
            partitions,
            ..Default::default()
        });
    let request = OffsetCommitRequest {
        group_id: Str::copy(id),
        generation_id_or_member_epoch: -1,
        topics: topics.collect(),
        ..Default::default()
    };
    let call = async |client: &mut Client, node: &Node| {
        let connection = client.connection(Target::Node(node.id)).await?;
        // Version 10 speaks of topic ids.
        let answer = connection.send_capped(&request, 9)?.response().await?;
        let mut parts = answer.topics.iter().flat_map(|topic| &topic.partitions);
        parts.try_for_each(|part| Error::check(part.error_code, None))
    };
    at_coordinator(client, id, "alterConsumerGroupOffsets", call).await
}

/// Deletes committed offsets. An error of the whole group, or what became of each partition.
pub async fn delete_offsets(
    client: &mut Client,
    id: &str,
    places: &BTreeSet<Place>,
) -> Result<BTreeMap<Place, Result<(), Error>>, Error> {
    let mut topics: BTreeMap<&Str, Vec<OffsetDeleteRequestPartition>> = BTreeMap::new();
    for (topic, partition_index) in places {
        let partition_index = *partition_index;
        let partitions = topics.entry(topic).or_default();
        partitions.push(OffsetDeleteRequestPartition { partition_index });
    }
    let topics = topics
        .into_iter()
        .map(|(name, partitions)| OffsetDeleteRequestTopic {
            name: name.clone(),
            partitions,
        });
    let request = OffsetDeleteRequest {
        group_id: Str::copy(id),
        topics: topics.collect(),
    };
    let call = async |client: &mut Client, node: &Node| {
        let connection = client.connection(Target::Node(node.id)).await?;
        let answer = connection.call(&request).await?;
        Error::check(answer.error_code, None)?;
        let mut results = BTreeMap::new();
        for topic in &answer.topics {
            for part in &topic.partitions {
                let place = (topic.name.detached(), part.partition_index);
                results.insert(place, Error::check(part.error_code, None));
            }
        }
        Ok(results)
    };
    at_coordinator(client, id, "offsetDelete", call).await
}

/// Adds what is committed, and the ends of every partition that is assigned or committed.
pub async fn add_offsets(client: &mut Client, group: &mut Group) -> Result<(), Error> {
    group.committed = committed_by(client, &group.id).await?;
    let assigned = group.members.iter().flat_map(|member| &member.assigned);
    let places: BTreeSet<Place> = assigned.chain(group.committed.keys()).cloned().collect();
    let topics: BTreeSet<Str> = places.iter().map(|place| place.0.clone()).collect();
    if topics.is_empty() {
        return Ok(());
    }
    let topics: Vec<Str> = topics.into_iter().collect();
    let ends = client.retry("listOffsets", async |client: &mut Client| {
        client.metadata_once(Some(&topics), false).await?;
        let led = places.iter().filter(|(topic, partition)| {
            let leader = client
                .topic(topic)
                .and_then(|t| t.partitions.get(partition));
            leader.is_some_and(|leader| leader.node >= 0)
        });
        let asked: BTreeMap<Place, i64> = led.map(|place| (place.clone(), -1)).collect();
        list_offsets(client, &asked, false).await
    });
    let ends = ends
        .await?
        .into_iter()
        .map(|(place, (offset, _))| (place, offset));
    group.ends = ends.collect();
    Ok(())
}

/// Deletes a group that has no members.
pub async fn delete(client: &mut Client, id: &str) -> Result<(), Error> {
    let request = DeleteGroupsRequest {
        groups_names: vec![Str::copy(id)],
    };
    at_coordinator(
        client,
        id,
        "deleteConsumerGroups",
        async |client: &mut Client, node: &Node| {
            let connection = client.connection(Target::Node(node.id)).await?;
            let answer = connection.call(&request).await?;
            let result = answer.results.first().ok_or_else(|| missing(id))?;
            Error::check(result.error_code, None)
        },
    )
    .await
}
