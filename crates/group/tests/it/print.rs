//! Records and answers as one line each. Member ids are random: they are named `m1`, `m2`… as they turn up.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bytes::Bytes;
use milena_base::ErrorCode;
use milena_group::{GroupResponse, KeyValue};
use milena_protocol::{GroupCoordinatorKey, GroupCoordinatorValue, Str};

use crate::consumer;

#[derive(Default)]
pub struct Names {
    by_id: BTreeMap<String, String>,
}

impl Names {
    /// The name of a member id.
    pub fn name(&mut self, id: &str) -> String {
        if id.is_empty() {
            return "-".to_string();
        }
        if id.len() < 36 {
            return id.to_string();
        }
        let next = format!("m{}", self.by_id.len() + 1);
        self.by_id.entry(id.to_string()).or_insert(next).clone()
    }

    /// The id that a name stands for.
    pub fn id(&self, name: &str) -> Str {
        let found = self.by_id.iter().find(|(_, n)| *n == name);
        Str::copy(found.map_or(name, |(id, _)| id))
    }

    pub fn record(&mut self, record: &KeyValue) -> String {
        let key = match GroupCoordinatorKey::decode(&record.key) {
            Ok(key) => key,
            Err(error) => return format!("unreadable key: {error}"),
        };
        let value = record.value.as_ref();
        let value = value.map(|v| GroupCoordinatorValue::decode(key.type_id(), v).unwrap());
        match (key, value) {
            (GroupCoordinatorKey::OffsetCommit(key), value) => {
                let of = format!("offset {} {}-{}", key.group, key.topic, key.partition);
                let Some((GroupCoordinatorValue::OffsetCommit(v), version)) = value else {
                    return format!("{of} tombstone");
                };
                format!(
                    "{of} v{version} offset={} epoch={} metadata={:?} at={} expires={} topic={}",
                    v.offset,
                    v.leader_epoch,
                    v.metadata,
                    v.commit_timestamp,
                    v.expire_timestamp,
                    v.topic_id
                )
            }
            (GroupCoordinatorKey::GroupMetadata(key), value) => {
                let Some((GroupCoordinatorValue::GroupMetadata(v), version)) = value else {
                    return format!("group {} tombstone", key.group);
                };
                let mut line = format!(
                    "group {} v{version} generation={} type={:?} protocol={} leader={} since={}",
                    key.group,
                    v.generation,
                    v.protocol_type,
                    v.protocol.as_deref().unwrap_or("null"),
                    v.leader.map_or("null".into(), |id| self.name(&id)),
                    v.current_state_timestamp
                );
                for m in &v.members {
                    let name = self.name(&m.member_id);
                    let _ = write!(
                        line,
                        " [{name} instance={} client={}{} session={} rebalance={} subscription={} assignment={}]",
                        m.group_instance_id.as_deref().unwrap_or("null"),
                        m.client_id,
                        m.client_host,
                        m.session_timeout,
                        m.rebalance_timeout,
                        text(&m.subscription),
                        assigned(&m.assignment)
                    );
                }
                line
            }
            (key, value) => {
                let known = consumer::record(self, &key, value.as_ref().map(|(v, _)| v));
                let value = value.map_or("tombstone", |_| "value");
                known.unwrap_or_else(|| format!("{} {value}", key.name()))
            }
        }
    }

    pub fn response(&mut self, response: &GroupResponse) -> String {
        match response {
            GroupResponse::JoinGroup(r) => {
                if r.error_code != 0 {
                    let member = self.name(&r.member_id);
                    return format!("JoinGroup {} member={member}", code(r.error_code));
                }
                let members: Vec<String> = r
                    .members
                    .iter()
                    .map(|m| {
                        let name = self.name(&m.member_id);
                        match &m.group_instance_id {
                            Some(instance) => format!("{name}({instance})={}", text(&m.metadata)),
                            None => format!("{name}={}", text(&m.metadata)),
                        }
                    })
                    .collect();
                format!(
                    "JoinGroup generation={} type={} protocol={} leader={} member={}{} members=[{}]",
                    r.generation_id,
                    r.protocol_type.as_deref().unwrap_or("null"),
                    r.protocol_name.as_deref().unwrap_or("null"),
                    self.name(&r.leader),
                    self.name(&r.member_id),
                    if r.skip_assignment {
                        " skip_assignment"
                    } else {
                        ""
                    },
                    members.join(", ")
                )
            }
            GroupResponse::SyncGroup(r) if r.error_code != 0 => {
                format!("SyncGroup {}", code(r.error_code))
            }
            GroupResponse::SyncGroup(r) => format!(
                "SyncGroup type={} protocol={} assignment={}",
                r.protocol_type.as_deref().unwrap_or("null"),
                r.protocol_name.as_deref().unwrap_or("null"),
                assigned(&r.assignment)
            ),
            GroupResponse::Heartbeat(r) => format!("Heartbeat {}", code(r.error_code)),
            GroupResponse::LeaveGroup(r) => {
                let mut line = format!("LeaveGroup {}", code(r.error_code));
                for m in &r.members {
                    let name = self.name(&m.member_id);
                    let instance = m.group_instance_id.as_deref().unwrap_or("null");
                    let _ = write!(line, " [{name} instance={instance} {}]", code(m.error_code));
                }
                line
            }
            GroupResponse::OffsetCommit(r) => {
                let errors = r.topics.iter().flat_map(|t| {
                    let partitions = t.partitions.iter();
                    partitions.map(|p| (&t.name, (p.partition_index, p.error_code)))
                });
                with_errors("OffsetCommit", errors)
            }
            GroupResponse::TransactionEnded(error) => format!("TransactionEnded {error}"),
            GroupResponse::TxnOffsetCommit(r) => {
                let errors = r.topics.iter().flat_map(|t| {
                    let partitions = t.partitions.iter();
                    partitions.map(|p| (&t.name, (p.partition_index, p.error_code)))
                });
                with_errors("TxnOffsetCommit", errors)
            }
            GroupResponse::OffsetDelete(r) => {
                let errors = r.topics.iter().flat_map(|t| {
                    let partitions = t.partitions.iter();
                    partitions.map(|p| (&t.name, (p.partition_index, p.error_code)))
                });
                with_errors(&format!("OffsetDelete {}", code(r.error_code)), errors)
            }
            GroupResponse::OffsetFetch(r) => fetched(r),
            GroupResponse::ListGroups(r) => listed(r),
            GroupResponse::DescribeGroups(r) => {
                let mut line = "DescribeGroups".to_string();
                for g in &r.groups {
                    let _ = write!(
                        line,
                        " {} {} state={} type={:?} protocol={:?}",
                        g.group_id,
                        code(g.error_code),
                        g.group_state,
                        g.protocol_type,
                        g.protocol_data
                    );
                    if let Some(message) = &g.error_message {
                        let _ = write!(line, " {message:?}");
                    }
                    for m in &g.members {
                        let name = self.name(&m.member_id);
                        let _ = write!(
                            line,
                            " [{name} {}{} metadata={} assignment={}]",
                            m.client_id,
                            m.client_host,
                            text(&m.member_metadata),
                            assigned(&m.member_assignment)
                        );
                    }
                }
                line
            }
            GroupResponse::ConsumerGroupHeartbeat(r) => consumer::heartbeat(self, r),
            GroupResponse::ConsumerGroupDescribe(r) => consumer::described(self, r),
            GroupResponse::DeleteGroups(r) => {
                let mut line = "DeleteGroups".to_string();
                for g in &r.results {
                    let _ = write!(line, " {}={}", g.group_id, code(g.error_code));
                }
                line
            }
        }
    }
}

fn listed(r: &milena_protocol::ListGroupsResponse) -> String {
    let mut line = format!("ListGroups {}", code(r.error_code));
    for g in &r.groups {
        let _ = write!(
            line,
            " [{} {:?} {} {}]",
            g.group_id, g.protocol_type, g.group_state, g.group_type
        );
    }
    line
}

fn fetched(r: &milena_protocol::OffsetFetchResponse) -> String {
    let mut line = format!("OffsetFetch {}", code(r.error_code));
    for t in &r.topics {
        for p in &t.partitions {
            let _ = write!(
                line,
                " {}-{}={}",
                t.name, p.partition_index, p.committed_offset
            );
            if p.error_code != 0 {
                let _ = write!(line, "({})", code(p.error_code));
            }
        }
    }
    for g in &r.groups {
        let _ = write!(line, " [{} {}", g.group_id, code(g.error_code));
        for t in &g.topics {
            for p in &t.partitions {
                let name = if t.name.is_empty() {
                    t.topic_id.to_string()
                } else {
                    t.name.to_string()
                };
                let _ = write!(line, " {name}-{}={}", p.partition_index, p.committed_offset);
                if p.committed_leader_epoch != -1 {
                    let _ = write!(line, "@{}", p.committed_leader_epoch);
                }
                if let Some(metadata) = p.metadata.as_ref().filter(|m| !m.is_empty()) {
                    let _ = write!(line, "{metadata:?}");
                }
                if p.error_code != 0 {
                    let _ = write!(line, "({})", code(p.error_code));
                }
            }
        }
        line.push(']');
    }
    line
}

pub fn code(error: i16) -> &'static str {
    ErrorCode::from_code(error).map_or("unknown code", ErrorCode::name)
}

/// Printable bytes as they are; a consumer's subscription as its topics.
fn text(bytes: &Bytes) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.chars().all(|c| c.is_ascii_graphic()) => format!("{text:?}"),
        _ => format!("{} bytes", bytes.len()),
    }
}

/// A consumer's assignment as its partitions.
fn assigned(assignment: &Bytes) -> String {
    consumer::assignment_text(assignment).unwrap_or_else(|| text(assignment))
}

/// What each partition was told, after `said`.
fn with_errors<'a>(said: &str, errors: impl Iterator<Item = (&'a Str, (i32, i16))>) -> String {
    errors.fold(said.to_string(), |line, (topic, (partition, error))| {
        format!("{line} {topic}-{partition}={}", code(error))
    })
}
