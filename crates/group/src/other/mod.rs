//! Groups of the kinds that are not served yet: share groups and streams groups that an Apache Kafka broker wrote. Their records are kept as they are, they are listed under their kind, keep their
//! committed offsets, and nobody takes their id while they have members. When a kind gets a folder of its own, its
//! groups leave this one.

use std::collections::BTreeMap;

use bytes::Bytes;
use milena_base::ErrorCode;
use milena_protocol::offset_fetch_request::OffsetFetchRequestGroup;

use crate::record::GroupRecord;
use milena_protocol::Str;

/// Kafka's `GroupType`, without those that are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherKind {
    Share,
    Streams,
}

impl OtherKind {
    /// The kind whose records have this type, as in the first two bytes of a key.
    pub(crate) fn of_record(type_id: i16) -> OtherKind {
        match type_id {
            9..=15 => OtherKind::Share,
            _ => OtherKind::Streams,
        }
    }

    /// As in ListGroups.
    pub fn name(self) -> &'static str {
        match self {
            OtherKind::Share => "Share",
            OtherKind::Streams => "Streams",
        }
    }

    /// As in ListGroups.
    pub fn protocol_type(self) -> &'static str {
        match self {
            OtherKind::Share => "share",
            OtherKind::Streams => "streams",
        }
    }

    fn member_record(self) -> i16 {
        match self {
            OtherKind::Share => 10,
            OtherKind::Streams => 19,
        }
    }

    fn group_record(self) -> i16 {
        match self {
            OtherKind::Share => 11,
            OtherKind::Streams => 17,
        }
    }
}

/// One group, as its records. Invariant: there is at least one record.
#[derive(Clone, Debug)]
pub struct OtherGroup {
    pub kind: OtherKind,
    /// By type, then by key.
    records: BTreeMap<(i16, Bytes), Bytes>,
}

impl OtherGroup {
    pub(crate) fn new(kind: OtherKind) -> OtherGroup {
        OtherGroup {
            kind,
            records: BTreeMap::new(),
        }
    }

    /// Takes a record in; false when none is left.
    pub(crate) fn replay(&mut self, type_id: i16, key: Bytes, value: Option<Bytes>) -> bool {
        match value {
            Some(value) => _ = self.records.insert((type_id, key), value),
            None => _ = self.records.remove(&(type_id, key)),
        }
        !self.records.is_empty()
    }

    /// Whether the group has no member.
    pub fn is_empty(&self) -> bool {
        let kind = self.kind.member_record();
        let mut members = self.records.range((kind, Bytes::new())..);
        members.next().is_none_or(|((found, _), _)| *found != kind)
    }

    /// As in ListGroups. What goes on among the members is not known here.
    pub fn state(&self) -> &'static str {
        match self.is_empty() {
            true => "Empty",
            false => "Stable",
        }
    }

    /// Whether another kind of group may take the id: Kafka converts empty consumer and streams groups.
    pub(crate) fn may_be_replaced(&self) -> bool {
        self.is_empty() && self.kind != OtherKind::Share
    }

    /// Members commit through their own protocol, which is not served.
    pub(crate) fn validate_offset_commit(&self, member_epoch: i32) -> Result<(), ErrorCode> {
        match self.kind {
            OtherKind::Share => Err(ErrorCode::GroupIdNotFound),
            _ if member_epoch < 0 && self.is_empty() => Ok(()),
            _ => Err(ErrorCode::UnknownMemberId),
        }
    }

    pub(crate) fn validate_offset_fetch(
        &self,
        request: &OffsetFetchRequestGroup,
    ) -> Result<(), ErrorCode> {
        match request.member_id.is_none() && request.member_epoch < 0 {
            true => Ok(()),
            false => Err(ErrorCode::UnknownMemberId),
        }
    }

    /// Tombstones of all records, members before the group itself, as a replaying broker wants them.
    pub(crate) fn tombstones(&self, group: &Str, records: &mut Vec<GroupRecord>) {
        let last = self.kind.group_record();
        let keys = self.records.keys().rev();
        let (group_keys, rest): (Vec<_>, Vec<_>) = keys.partition(|(type_id, _)| *type_id == last);
        let tombstone = |(type_id, key): &(i16, Bytes)| GroupRecord::Other {
            group: group.clone(),
            type_id: *type_id,
            key: key.clone(),
            value: None,
        };
        records.extend(rest.into_iter().chain(group_keys).map(tombstone));
    }
}
