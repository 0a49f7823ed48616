//! The follower's half of a fetch session (KIP-227): the leader remembers what is wanted, so that a request says only
//! what changed.

use std::collections::{BTreeMap, BTreeSet};

use milena_base::{ErrorCode, TopicIdPartition};

use super::{Ask, FetchOrder};

#[derive(Debug, Default)]
pub(super) struct Session {
    /// 0: none.
    id: i32,
    /// Of the next request; 0 asks for a session.
    epoch: i32,
    /// Everything that is wanted now.
    wanted: BTreeMap<TopicIdPartition, Ask>,
    /// What of it the leader has not been told.
    changed: BTreeSet<TopicIdPartition>,
    /// What the leader still believes is wanted.
    forgotten: BTreeSet<TopicIdPartition>,
}

impl Session {
    pub fn wants_any(&self) -> bool {
        !self.wanted.is_empty()
    }

    pub fn want(&mut self, id: TopicIdPartition, ask: Ask) {
        if self.wanted.insert(id, ask) != Some(ask) {
            self.changed.insert(id);
        }
        self.forgotten.remove(&id);
    }

    pub fn forget(&mut self, id: TopicIdPartition) {
        self.changed.remove(&id);
        if self.wanted.remove(&id).is_some() {
            self.forgotten.insert(id);
        }
    }

    /// What was last asked of a partition.
    pub fn asked(&self, id: TopicIdPartition) -> Option<Ask> {
        self.wanted.get(&id).copied()
    }

    /// The next request; `None` where nothing is wanted.
    pub fn order(&mut self) -> Option<FetchOrder> {
        if self.wanted.is_empty() {
            return None;
        }
        let full = self.epoch == 0;
        let changed = std::mem::take(&mut self.changed);
        let forgotten = std::mem::take(&mut self.forgotten);
        let wanted: Vec<_> = match full {
            true => self.wanted.iter().map(|(id, ask)| (*id, *ask)).collect(),
            false => changed.iter().map(|id| (*id, self.wanted[id])).collect(),
        };
        Some(FetchOrder {
            session_id: self.id,
            session_epoch: self.epoch,
            wanted,
            forgotten: match full {
                true => Vec::new(),
                false => forgotten.into_iter().collect(),
            },
        })
    }

    /// The answer came. A leader without room answers a full request with session 0.
    pub fn answered(&mut self, session_id: i32) {
        match (session_id, self.epoch) {
            (0, _) => (self.id, self.epoch) = (0, 0),
            (id, 0) => (self.id, self.epoch) = (id, 1),
            (_, i32::MAX) => self.epoch = 1,
            (_, _) => self.epoch += 1,
        }
    }

    /// The leader does not have the session as we do: the next request asks for a new one, and closes the old.
    pub fn refused(&mut self, code: ErrorCode) {
        self.epoch = 0;
        if code == ErrorCode::FetchSessionIdNotFound {
            self.id = 0;
        }
    }

    /// Nobody knows whether the leader has seen the last request.
    pub fn lost(&mut self) {
        self.epoch = 0;
    }
}
