//! Who may commit and read offsets in a consumer group.

use milena_base::{ErrorCode, Uuid};
use milena_protocol::Str;

use crate::consumer::group::ConsumerGroup;
use crate::consumer::member::ConsumerMember;

/// First version of OffsetCommit whose generation may be a member epoch.
const MEMBER_EPOCH_FROM: i16 = 9;

/// Which partitions a member may commit for.
pub(crate) enum Committer<'a> {
    Any,
    /// The member has moved on: partitions that it has had since this epoch or before (KIP-1251).
    Since(&'a ConsumerMember, i32),
}

impl Committer<'_> {
    pub(crate) fn check(&self, topic: Uuid, partition: i32) -> Result<(), ErrorCode> {
        let Committer::Since(member, epoch) = self else {
            return Ok(());
        };
        match member.partition_epoch(topic, partition) {
            Some(since) if *epoch >= since => Ok(()),
            _ => Err(stale(member)),
        }
    }
}

fn stale(member: &ConsumerMember) -> ErrorCode {
    match member.uses_classic_protocol() {
        true => ErrorCode::IllegalGeneration,
        false => ErrorCode::StaleMemberEpoch,
    }
}

impl ConsumerGroup {
    /// `version`: of the OffsetCommit; `None` within a transaction. Transactional commits without member come from
    /// producers that say nothing about the group.
    pub(crate) fn validate_offset_commit(
        &self,
        member_id: &str,
        instance_id: Option<&Str>,
        epoch: i32,
        version: Option<i16>,
    ) -> Result<Committer<'_>, ErrorCode> {
        if epoch < 0 && self.is_empty() {
            return Ok(Committer::Any);
        }
        if version.is_none() && epoch == -1 && member_id.is_empty() && instance_id.is_none() {
            return Ok(Committer::Any);
        }
        let member = self.member(member_id).ok_or(ErrorCode::UnknownMemberId)?;
        let too_old = version.is_some_and(|version| version < MEMBER_EPOCH_FROM);
        if too_old && !member.uses_classic_protocol() {
            return Err(ErrorCode::UnsupportedVersion);
        }
        match epoch.cmp(&member.epoch) {
            std::cmp::Ordering::Equal => Ok(Committer::Any),
            std::cmp::Ordering::Greater => Err(stale(member)),
            std::cmp::Ordering::Less => Ok(Committer::Since(member, epoch)),
        }
    }

    /// Without a member anybody may read.
    pub(crate) fn validate_offset_fetch(
        &self,
        member_id: Option<&Str>,
        epoch: i32,
    ) -> Result<(), ErrorCode> {
        if member_id.is_none() && epoch < 0 {
            return Ok(());
        }
        let member = member_id.and_then(|id| self.member(id));
        let member = member.ok_or(ErrorCode::UnknownMemberId)?;
        match epoch == member.epoch {
            true => Ok(()),
            false => Err(stale(member)),
        }
    }
}
