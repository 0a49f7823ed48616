//! One member of a classic group.

use bytes::Bytes;
use milena_coordinator::Token;
use milena_protocol::Str;
use milena_protocol::describe_groups_response::DescribedGroupMember;
use milena_protocol::group_metadata_value::MemberMetadata;
use milena_protocol::join_group_request::JoinGroupRequestProtocol;

/// A protocol that a member can take part in, in its order of preference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Protocol {
    pub(crate) name: Str,
    pub(crate) metadata: Bytes,
}

/// Copies what a request holds, so that the request need not be kept.
pub(crate) fn detached(protocols: &[JoinGroupRequestProtocol]) -> Vec<Protocol> {
    let copy = |protocol: &JoinGroupRequestProtocol| Protocol {
        name: protocol.name.detached(),
        metadata: Bytes::copy_from_slice(&protocol.metadata),
    };
    protocols.iter().map(copy).collect()
}

#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) id: Str,
    pub(crate) instance_id: Option<Str>,
    pub(crate) client_id: Str,
    pub(crate) client_host: Str,
    pub(crate) rebalance_timeout_ms: i32,
    pub(crate) session_timeout_ms: i32,
    pub(crate) protocols: Vec<Protocol>,
    pub(crate) assignment: Bytes,
    /// The JoinGroup that waits for the next generation.
    pub(crate) awaiting_join: Option<Token>,
    /// The SyncGroup that waits for the assignment.
    pub(crate) awaiting_sync: Option<Token>,
    /// Has no generation yet, so it cannot send heartbeats.
    pub(crate) is_new: bool,
}

impl Member {
    pub(crate) fn metadata(&self, protocol: &Str) -> Option<&Bytes> {
        let found = self.protocols.iter().find(|p| p.name == *protocol);
        found.map(|protocol| &protocol.metadata)
    }

    pub(crate) fn supports(&self, protocol: &Str) -> bool {
        self.metadata(protocol).is_some()
    }

    /// The candidate that the member likes best.
    pub(crate) fn vote(&self, is_candidate: impl Fn(&Str) -> bool) -> Option<&Str> {
        let mut names = self.protocols.iter().map(|protocol| &protocol.name);
        names.find(|name| is_candidate(name))
    }

    /// Same protocols, same metadata, same order.
    pub(crate) fn matches(&self, protocols: &[JoinGroupRequestProtocol]) -> bool {
        let same = |(own, other): (&Protocol, &JoinGroupRequestProtocol)| {
            own.name == other.name && own.metadata == other.metadata
        };
        self.protocols.len() == protocols.len() && self.protocols.iter().zip(protocols).all(same)
    }

    /// Whoever waits for an answer needs no heartbeat, but for those that do not know their id yet.
    pub(crate) fn has_satisfied_heartbeat(&self) -> bool {
        !self.is_new && (self.awaiting_join.is_some() || self.awaiting_sync.is_some())
    }

    /// A member as it was recorded; it has the group's protocol alone.
    pub(crate) fn from_record(member: MemberMetadata, protocol: Option<&Str>) -> Member {
        let protocol = Protocol {
            name: protocol.cloned().unwrap_or_default(),
            metadata: member.subscription,
        };
        Member {
            id: member.member_id,
            instance_id: member.group_instance_id,
            client_id: member.client_id,
            client_host: member.client_host,
            rebalance_timeout_ms: match member.rebalance_timeout {
                -1 => member.session_timeout,
                timeout => timeout,
            },
            session_timeout_ms: member.session_timeout,
            protocols: vec![protocol],
            assignment: member.assignment,
            awaiting_join: None,
            awaiting_sync: None,
            is_new: false,
        }
    }

    pub(crate) fn to_record(&self, protocol: &Str, assignment: Bytes) -> MemberMetadata {
        MemberMetadata {
            member_id: self.id.clone(),
            group_instance_id: self.instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            rebalance_timeout: self.rebalance_timeout_ms,
            session_timeout: self.session_timeout_ms,
            subscription: self.metadata(protocol).cloned().unwrap_or_default(),
            assignment,
        }
    }

    pub(crate) fn describe(&self, protocol: Option<&Str>) -> DescribedGroupMember {
        let metadata = protocol.and_then(|protocol| self.metadata(protocol));
        DescribedGroupMember {
            member_id: self.id.clone(),
            group_instance_id: self.instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            member_metadata: metadata.cloned().unwrap_or_default(),
            member_assignment: self.assignment.clone(),
        }
    }
}
