//! What a leader knows of its epoch: how far each replica has come, and so what is committed. Kafka class `LeaderState`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use milena_base::{BrokerId, Epoch, Instant, Now, Offset, Timestamp};

use crate::change::Change;
use crate::voters::{ReplicaKey, VoterSet};

/// An observer that has not fetched for so long is forgotten.
const OBSERVER_SESSION: Duration = Duration::from_secs(300);

/// A replica that is to become a voter has fetched within this time.
const CAUGHT_UP_SESSION: Duration = Duration::from_secs(3600);

/// One replica as the leader sees it.
#[derive(Clone, Debug)]
pub(crate) struct ReplicaState {
    pub key: ReplicaKey,
    /// Everything below is on the replica's disk.
    pub end: Option<Offset>,
    pub last_fetch: Timestamp,
    pub last_caught_up: Timestamp,
    /// The leader's end when the replica fetched last.
    leader_end_at_fetch: Option<Offset>,
    last_fetch_mono: Instant,
    /// Whether it answered BeginQuorumEpoch or fetched in this epoch.
    pub acknowledged: bool,
}

impl ReplicaState {
    fn new(key: ReplicaKey) -> ReplicaState {
        ReplicaState {
            key,
            end: None,
            last_fetch: Timestamp::NONE,
            last_caught_up: Timestamp::NONE,
            leader_end_at_fetch: None,
            last_fetch_mono: Instant::ZERO,
            acknowledged: false,
        }
    }

    fn is(&self, replica: ReplicaKey) -> bool {
        self.key.id == replica.id
            && (self.key.directory.is_none() || self.key.directory == replica.directory)
    }
}

/// Leading one epoch.
///
/// Invariants: the high watermark never goes back; it is set only when a record of this epoch is on a majority; the
/// leader itself counts with what it has flushed, never with what it has only written.
#[derive(Debug)]
pub(crate) struct Leader {
    local: ReplicaKey,
    pub epoch: Epoch,
    /// The log's end when the epoch began: the offset of the LeaderChange record.
    pub epoch_start: Offset,
    voters: BTreeMap<BrokerId, ReplicaState>,
    observers: BTreeMap<ReplicaKey, ReplicaState>,
    pub high_watermark: Option<Offset>,
    /// Whether the owner was told that it may append.
    pub active: bool,
    /// Voters that fetched since `check_quorum_at` was set.
    fetched: BTreeSet<BrokerId>,
    pub check_quorum_at: Instant,
    check_quorum_timeout: Duration,
    pub begin_quorum_at: Instant,
    begin_quorum_timeout: Duration,
    /// The change of the voter set that is under way.
    pub change: Option<Change>,
}

impl Leader {
    pub fn new(
        local: ReplicaKey,
        epoch: Epoch,
        epoch_start: Offset,
        voters: &VoterSet,
        fetch_timeout: Duration,
        now: Instant,
    ) -> Leader {
        let states = voters.iter().map(|voter| {
            let mut state = ReplicaState::new(voter.key);
            state.acknowledged = voter.is(local);
            (voter.key.id, state)
        });
        let check_quorum_timeout = fetch_timeout * 3 / 2;
        Leader {
            local,
            epoch,
            epoch_start,
            voters: states.collect(),
            observers: BTreeMap::new(),
            high_watermark: None,
            active: false,
            fetched: BTreeSet::new(),
            check_quorum_at: now + check_quorum_timeout,
            check_quorum_timeout,
            begin_quorum_at: now,
            begin_quorum_timeout: fetch_timeout / 2,
            change: None,
        }
    }

    fn state_mut(&mut self, replica: ReplicaKey) -> &mut ReplicaState {
        if self.is_voter(replica) {
            return self.voters.get_mut(&replica.id).expect("checked just now");
        }
        self.observers
            .entry(replica)
            .or_insert_with(|| ReplicaState::new(replica))
    }

    fn is_voter(&self, replica: ReplicaKey) -> bool {
        self.voters.get(&replica.id).is_some_and(|s| s.is(replica))
    }

    /// The leader's own log is durable up to `end`, with `voters` in force. Whether the high watermark rose.
    pub fn on_flushed(&mut self, end: Offset, voters: &VoterSet) -> bool {
        let local = self.local;
        let state = self.state_mut(local);
        assert!(
            state.end.is_none_or(|before| before <= end),
            "a leader's log never gets shorter"
        );
        state.end = Some(end);
        self.take_voters(voters);
        self.raise_high_watermark()
    }

    /// A replica fetched from `offset`: everything below is on its disk. Whether the high watermark rose.
    pub fn on_fetch(&mut self, replica: ReplicaKey, offset: Offset, end: Offset, now: Now) -> bool {
        let state = self.state_mut(replica);
        if offset >= end {
            state.last_caught_up = state.last_caught_up.max(now.wall);
        } else if state.leader_end_at_fetch.is_some_and(|end| offset >= end) {
            state.last_caught_up = state.last_caught_up.max(state.last_fetch);
        }
        state.leader_end_at_fetch = Some(end);
        state.last_fetch = state.last_fetch.max(now.wall);
        state.last_fetch_mono = now.mono;
        state.end = Some(offset);
        state.acknowledged = true;
        self.on_contact(replica, now.mono);
        self.is_voter(replica) && self.raise_high_watermark()
    }

    /// A replica fetched records or a snapshot: it follows. When enough voters do, the leader need not resign yet.
    pub fn on_contact(&mut self, replica: ReplicaKey, now: Instant) {
        if self.is_voter(replica) {
            self.fetched.insert(replica.id);
        }
        let own = usize::from(self.is_voter(self.local));
        let majority = self.voters.len() / 2 + 1 - own;
        if self.fetched.len() >= majority {
            self.fetched.clear();
            self.check_quorum_at = now + self.check_quorum_timeout;
        }
    }

    pub fn acknowledged(&mut self, voter: BrokerId) {
        if let Some(state) = self.voters.get_mut(&voter) {
            state.acknowledged = true;
        }
    }

    /// Whether too few voters fetched for too long. Never so where the leader decides alone.
    pub fn lost_quorum(&self, now: Instant) -> bool {
        self.needs_others() && self.check_quorum_at <= now
    }

    /// Whether others vote too.
    pub fn needs_others(&self) -> bool {
        self.voters.values().any(|state| !state.is(self.local))
    }

    pub fn begin_quorum_sent(&mut self, now: Instant) {
        self.begin_quorum_at = now + self.begin_quorum_timeout;
    }

    /// The voters but the leader, furthest first: who should lead next.
    pub fn successors(&self) -> Vec<ReplicaKey> {
        let mut others: Vec<&ReplicaState> =
            self.voters.values().filter(|s| !s.is(self.local)).collect();
        others.sort_by_key(|state| std::cmp::Reverse(state.end));
        others.into_iter().map(|state| state.key).collect()
    }

    pub fn voter_states(&self) -> impl Iterator<Item = &ReplicaState> {
        self.voters.values()
    }

    /// Observers that fetched lately.
    pub fn observer_states(&mut self, now: Instant) -> impl Iterator<Item = &ReplicaState> {
        let local = self.local;
        self.observers.retain(|key, state| {
            *key == local || now.since(state.last_fetch_mono) < OBSERVER_SESSION
        });
        self.observers.values()
    }

    pub fn is_local(&self, state: &ReplicaState) -> bool {
        state.is(self.local)
    }

    /// Whether a replica that is no voter has had everything once, and fetched within the hour.
    pub fn is_caught_up(&self, replica: ReplicaKey, now: Instant) -> bool {
        self.observers.get(&replica).is_some_and(|state| {
            state.last_caught_up > Timestamp(0)
                && now.since(state.last_fetch_mono) < CAUGHT_UP_SESSION
        })
    }

    pub fn take_voters(&mut self, voters: &VoterSet) {
        let mut before = std::mem::take(&mut self.voters);
        for voter in voters.iter() {
            let known = before
                .get(&voter.key.id)
                .is_some_and(|state| state.key == voter.key || state.is(voter.key));
            let mut state = known
                .then(|| before.remove(&voter.key.id))
                .flatten()
                .or_else(|| self.observers.remove(&voter.key))
                .unwrap_or_else(|| ReplicaState::new(voter.key));
            state.key = voter.key;
            self.voters.insert(voter.key.id, state);
        }
        for (_, state) in before {
            self.observers.entry(state.key).or_insert(state);
        }
    }

    /// The largest offset that a majority has; committed only once a record of this epoch is below it.
    fn raise_high_watermark(&mut self) -> bool {
        let mut ends: Vec<Option<Offset>> = self.voters.values().map(|state| state.end).collect();
        ends.sort_by_key(|end| std::cmp::Reverse(*end));
        let Some(Some(candidate)) = ends.get(self.voters.len() / 2).copied() else {
            return false;
        };
        let rises = candidate > self.epoch_start
            && self.high_watermark.is_none_or(|before| candidate > before);
        if rises {
            self.high_watermark = Some(candidate);
        }
        rises
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::voters::Voter;
    use milena_base::Uuid;

    fn key(id: i32) -> ReplicaKey {
        ReplicaKey::new(BrokerId(id), Uuid::from_parts(7, id as u64))
    }

    fn voters(ids: &[i32]) -> VoterSet {
        VoterSet::new(ids.iter().map(|&id| Voter {
            key: key(id),
            endpoints: Vec::new(),
            kraft_versions: (0, 1),
        }))
    }

    fn leader(ids: &[i32], epoch_start: i64) -> Leader {
        let timeout = Duration::from_secs(2);
        let set = voters(ids);
        Leader::new(
            key(1),
            Epoch(3),
            Offset(epoch_start),
            &set,
            timeout,
            Instant::ZERO,
        )
    }

    #[test]
    fn a_lone_leader_commits_what_it_flushed() {
        let mut leader = leader(&[1], 10);
        let set = voters(&[1]);
        assert!(
            !leader.on_flushed(Offset(10), &set),
            "nothing of this epoch yet"
        );
        assert!(leader.on_flushed(Offset(11), &set));
        assert_eq!(leader.high_watermark, Some(Offset(11)));
        assert!(!leader.on_flushed(Offset(11), &set));
        assert!(!leader.lost_quorum(Instant::NEVER));
    }

    #[test]
    fn a_majority_commits_only_with_a_record_of_the_epoch() {
        let mut leader = leader(&[1, 2, 3], 10);
        let set = voters(&[1, 2, 3]);
        let now = Now::from_millis(5, 1005);
        assert!(!leader.on_flushed(Offset(12), &set));
        assert!(
            !leader.on_fetch(key(2), Offset(10), Offset(12), now),
            "older epochs wait"
        );
        assert!(leader.on_fetch(key(2), Offset(11), Offset(12), now));
        assert_eq!(leader.high_watermark, Some(Offset(11)));
        assert!(
            !leader.on_fetch(key(9), Offset(12), Offset(12), now),
            "an observer"
        );
        let other_disk = ReplicaKey::new(BrokerId(3), Uuid::from_parts(9, 9));
        assert!(
            !leader.on_fetch(other_disk, Offset(12), Offset(12), now),
            "not that voter"
        );
        assert!(leader.on_fetch(key(3), Offset(12), Offset(12), now));
        assert_eq!(leader.high_watermark, Some(Offset(12)));
    }

    #[test]
    fn a_leader_without_a_majority_has_to_resign() {
        let mut leader = leader(&[1, 2, 3], 0);
        let at = Instant::from_millis;
        leader.on_contact(key(2), at(1000));
        assert!(!leader.lost_quorum(at(3999)));
        leader.on_contact(key(9), at(3000));
        assert!(leader.lost_quorum(at(4000)), "an observer is no voter");
    }
}
