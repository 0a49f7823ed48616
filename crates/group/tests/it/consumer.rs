//! Consumer groups (KIP-848) in transcripts: what a line asks, and records and answers as lines.

use std::fmt::Write as _;

use bytes::Bytes;
use milena_base::Uuid;
use milena_group::GroupRequest;
use milena_protocol::consumer_group_heartbeat_request::TopicPartitions;
use milena_protocol::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse, ConsumerProtocolAssignment, GroupCoordinatorKey,
    GroupCoordinatorValue, Str, consumer_group_describe_response as describe,
    consumer_protocol_assignment as protocol_assignment,
    consumer_protocol_subscription as subscription, decode_versioned, encode_versioned,
};
use milena_testkit::{Command, check_each};

use crate::print::{Names, code};
use crate::transcripts::player;

#[test]
fn consumer() {
    check_each("consumer", player);
}

/// `beat member=a epoch=0 topics=t,u`; `owns=t-0,t-1` with topics by the number of their id, `owns=none` for nothing.
/// Whoever joins says everything that it must.
pub fn beat(c: &Command, group_id: Str, member_id: Str, instance: Option<Str>) -> GroupRequest {
    let epoch: i32 = c.get("epoch");
    let joins = epoch == 0 && !c.find("bare").unwrap_or(false);
    let text = |key: &str| c.find::<String>(key).map(|text| Str::from(unquoted(&text)));
    let topics: Option<String> = c.find("topics");
    let topics = topics.map(|topics| {
        let names = topics.split(',').filter(|name| *name != "none");
        names.map(Str::copy).collect()
    });
    let owns: Option<String> = c.find("owns");
    ConsumerGroupHeartbeatRequest {
        group_id: Str::from(unquoted(&group_id)),
        member_id,
        member_epoch: epoch,
        instance_id: instance.map(|id| Str::from(unquoted(&id))),
        rack_id: text("rack"),
        rebalance_timeout_ms: c
            .find("rebalance")
            .unwrap_or(if joins { 30_000 } else { -1 }),
        subscribed_topic_names: topics,
        subscribed_topic_regex: text("regex"),
        server_assignor: text("assignor"),
        topic_partitions: owns.map(|owns| owned(&owns)).or(joins.then(Vec::new)),
    }
    .into()
}

pub fn describe(group_ids: Vec<Str>) -> GroupRequest {
    ConsumerGroupDescribeRequest {
        group_ids,
        ..Default::default()
    }
    .into()
}

/// `''` is the empty text.
fn unquoted(text: &str) -> String {
    match text {
        "''" => String::new(),
        text => text.to_string(),
    }
}

fn owned(text: &str) -> Vec<TopicPartitions> {
    let mut topics: Vec<TopicPartitions> = Vec::new();
    for partition in text.split(',').filter(|p| *p != "none") {
        let (topic, partition) = partition.split_once('-').expect("topic-partition");
        let topic_id = Uuid::from_parts(0, topic.parse().expect("the number of an id"));
        let partition = partition.parse().expect("a number");
        match topics.iter_mut().find(|topic| topic.topic_id == topic_id) {
            Some(topic) => topic.partitions.push(partition),
            None => topics.push(TopicPartitions {
                topic_id,
                partitions: vec![partition],
            }),
        }
    }
    topics
}

/// What a member of the classic protocol says it has.
pub fn owned_by_name(c: &Command) -> Vec<subscription::TopicPartition> {
    let owned: Vec<String> = c.list("owns");
    let named = owned.iter().map(|partition| {
        let (topic, partition) = partition.rsplit_once('-').expect("topic-partition");
        subscription::TopicPartition {
            topic: Str::copy(topic),
            partitions: vec![partition.parse().expect("a number")],
        }
    });
    named.collect()
}

/// An assignment as a leader makes it: `=t-0+t-1` in the form that consumers have, other text as it is.
pub fn assignment(text: &str) -> Bytes {
    let Some(partitions) = text.strip_prefix('=') else {
        return text.as_bytes().to_vec().into();
    };
    let each = partitions
        .split('+')
        .filter(|partition| !partition.is_empty());
    let assigned = each.map(|partition| {
        let (topic, partition) = partition.rsplit_once('-').expect("topic-partition");
        protocol_assignment::TopicPartition {
            topic: Str::copy(topic),
            partitions: vec![partition.parse().expect("a number")],
        }
    });
    let assignment = ConsumerProtocolAssignment {
        assigned_partitions: assigned.collect(),
        user_data: None,
    };
    encode_versioned(&assignment, 1).expect("short")
}

/// The other way.
pub fn assignment_text(assignment: &Bytes) -> Option<String> {
    let readable = assignment.first() == Some(&0) && assignment.get(1).is_some_and(|v| *v < 4);
    let (read, _) = readable
        .then(|| decode_versioned::<ConsumerProtocolAssignment>(assignment).ok())
        .flatten()?;
    let topics = read.assigned_partitions.iter();
    let each = topics.flat_map(|t| t.partitions.iter().map(|p| format!("{}-{p}", t.topic)));
    Some(format!("={}", each.collect::<Vec<_>>().join("+")))
}

fn place(id: Uuid, partition: i32) -> String {
    let bits = u128::from_be_bytes(id.0);
    match bits <= 1_000 {
        true => format!("{bits}-{partition}"),
        false => format!("{id}-{partition}"),
    }
}

fn places<'a>(topics: impl Iterator<Item = (Uuid, &'a Vec<i32>)>) -> String {
    let each = topics.flat_map(|(id, partitions)| partitions.iter().map(move |p| place(id, *p)));
    format!("[{}]", each.collect::<Vec<_>>().join(" "))
}

pub fn heartbeat(names: &mut Names, r: &ConsumerGroupHeartbeatResponse) -> String {
    if r.error_code != 0 {
        let why = r.error_message.as_deref().unwrap_or("null");
        return format!("ConsumerGroupHeartbeat {} {why:?}", code(r.error_code));
    }
    let member = r.member_id.as_deref().unwrap_or("null");
    let mut line = format!(
        "ConsumerGroupHeartbeat member={} epoch={} interval={}",
        names.name(member),
        r.member_epoch,
        r.heartbeat_interval_ms
    );
    if let Some(assignment) = &r.assignment {
        let topics = assignment.topic_partitions.iter();
        let _ = write!(
            line,
            " assignment={}",
            places(topics.map(|t| (t.topic_id, &t.partitions)))
        );
    }
    line
}

pub fn described(names: &mut Names, r: &ConsumerGroupDescribeResponse) -> String {
    let mut line = "ConsumerGroupDescribe".to_string();
    let assigned = |a: &describe::Assignment| {
        places(
            a.topic_partitions
                .iter()
                .map(|t| (t.topic_id, &t.partitions)),
        )
    };
    for g in &r.groups {
        let _ = write!(line, " {} {}", g.group_id, code(g.error_code));
        if let Some(why) = &g.error_message {
            let _ = write!(line, " {why:?}");
        }
        if g.error_code != 0 {
            continue;
        }
        let _ = write!(
            line,
            " {} epoch={} assignment={} {}",
            g.group_state, g.group_epoch, g.assignment_epoch, g.assignor_name
        );
        for m in &g.members {
            let _ = write!(
                line,
                "\n  {} epoch={} instance={} rack={} {}{} topics={:?} regex={} has={} target={} type={}",
                names.name(&m.member_id),
                m.member_epoch,
                m.instance_id.as_deref().unwrap_or("null"),
                m.rack_id.as_deref().unwrap_or("null"),
                m.client_id,
                m.client_host,
                m.subscribed_topic_names,
                m.subscribed_topic_regex.as_deref().unwrap_or("null"),
                assigned(&m.assignment),
                assigned(&m.target_assignment),
                m.member_type
            );
        }
    }
    line
}

/// `None`: not the record of a consumer group.
pub fn record(
    names: &mut Names,
    key: &GroupCoordinatorKey,
    value: Option<&GroupCoordinatorValue>,
) -> Option<String> {
    use GroupCoordinatorKey as Key;
    let of = match key {
        Key::ConsumerGroupMetadata(k) => format!("epoch {}", k.group_id),
        Key::ConsumerGroupPartitionMetadata(k) => format!("partition_metadata {}", k.group_id),
        Key::ConsumerGroupMemberMetadata(k) => {
            format!("member {} {}", k.group_id, names.name(&k.member_id))
        }
        Key::ConsumerGroupTargetAssignmentMetadata(k) => format!("target_epoch {}", k.group_id),
        Key::ConsumerGroupTargetAssignmentMember(k) => {
            format!("target {} {}", k.group_id, names.name(&k.member_id))
        }
        Key::ConsumerGroupCurrentMemberAssignment(k) => {
            format!("current {} {}", k.group_id, names.name(&k.member_id))
        }
        Key::ConsumerGroupRegularExpression(k) => {
            format!("regex {} {}", k.group_id, k.regular_expression)
        }
        _ => return None,
    };
    Some(match value {
        Some(value) => format!("{of} {}", value_of(value)),
        None => format!("{of} tombstone"),
    })
}

fn value_of(value: &GroupCoordinatorValue) -> String {
    use GroupCoordinatorValue as Value;
    match value {
        Value::ConsumerGroupMetadata(v) => format!("{} hash={:x}", v.epoch, v.metadata_hash),
        Value::ConsumerGroupMemberMetadata(v) => {
            let mut line = format!(
                "{}{} topics={:?} rebalance={}",
                v.client_id, v.client_host, v.subscribed_topic_names, v.rebalance_timeout_ms
            );
            for (name, value) in [
                ("instance", &v.instance_id),
                ("rack", &v.rack_id),
                ("regex", &v.subscribed_topic_regex),
                ("assignor", &v.server_assignor),
            ] {
                let value = value.as_deref().filter(|value| !value.is_empty());
                let _ = value.map(|value| write!(line, " {name}={value}"));
            }
            if let Some(classic) = &v.classic_member_metadata {
                let names = classic.supported_protocols.iter().map(|p| p.name.as_str());
                let names = names.collect::<Vec<_>>().join(",");
                let _ = write!(
                    line,
                    " classic={names} session={}",
                    classic.session_timeout_ms
                );
            }
            line
        }
        Value::ConsumerGroupTargetAssignmentMetadata(v) => {
            format!("{} at={}", v.assignment_epoch, v.assignment_timestamp)
        }
        Value::ConsumerGroupTargetAssignmentMember(v) => places(
            v.topic_partitions
                .iter()
                .map(|t| (t.topic_id, &t.partitions)),
        ),
        Value::ConsumerGroupCurrentMemberAssignment(v) => {
            let owned = |topics: &[milena_protocol::consumer_group_current_member_assignment_value::TopicPartitions]| {
                let each = topics.iter().flat_map(|t| {
                    let epochs = t.assignment_epochs.clone().unwrap_or_default();
                    let of = move |(i, p): (usize, &i32)| {
                        format!("{}@{}", place(t.topic_id, *p), epochs.get(i).unwrap_or(&-1))
                    };
                    t.partitions.iter().enumerate().map(of).collect::<Vec<_>>()
                });
                format!("[{}]", each.collect::<Vec<_>>().join(" "))
            };
            format!(
                "{} before={} state={} has={} revoked={}",
                v.member_epoch,
                v.previous_member_epoch,
                v.state,
                owned(&v.assigned_partitions),
                owned(&v.partitions_pending_revocation)
            )
        }
        Value::ConsumerGroupRegularExpression(v) => {
            format!("{:?} version={} at={}", v.topics, v.version, v.timestamp)
        }
        _ => "value".to_string(),
    }
}
