//! From a changed membership to the next generation.

use milena_base::ErrorCode;
use milena_protocol::Str;

use crate::classic::group::{ClassicGroup, ClassicState, InitialDelay};
use crate::classic::{Turn, Write};
use crate::config::GroupConfig;
use crate::request::{join_error, sync_error};
use crate::shard::{After, Timer, after_ms};

impl ClassicGroup {
    pub(crate) fn rebalance_or_complete_join(
        &mut self,
        config: &GroupConfig,
        turn: &mut Turn<'_>,
    ) -> Option<Write> {
        match self.state {
            ClassicState::PreparingRebalance => self.maybe_complete_join(turn),
            _ => self.prepare_rebalance(config, turn),
        }
    }

    /// Everybody has to join again. The first time a group waits a while for more members; later it goes on as soon
    /// as all are there, or the longest rebalance timeout has passed.
    pub(crate) fn prepare_rebalance(
        &mut self,
        config: &GroupConfig,
        turn: &mut Turn<'_>,
    ) -> Option<Write> {
        if self.state == ClassicState::CompletingRebalance {
            self.reset_assignment(ErrorCode::RebalanceInProgress, turn);
        }
        self.pending_sync.clear();
        turn.cancel(&Timer::Sync(self.id.clone()));
        let first = self.state == ClassicState::Empty;
        self.transition(ClassicState::PreparingRebalance, turn);
        if !first {
            return self.complete_join_or_wait(turn);
        }
        let delay_ms = config.initial_rebalance_delay_ms;
        let remaining_ms = self.rebalance_timeout_ms().saturating_sub(delay_ms).max(0);
        self.wait_initially(
            InitialDelay {
                delay_ms,
                remaining_ms,
            },
            turn,
        );
        None
    }

    fn wait_initially(&mut self, delay: InitialDelay, turn: &mut Turn<'_>) {
        self.initial_delay = Some(delay);
        turn.schedule(
            Timer::Join(self.id.clone()),
            after_ms(turn.now, delay.delay_ms),
        );
    }

    fn complete_join_or_wait(&mut self, turn: &mut Turn<'_>) -> Option<Write> {
        if self.has_all_members_joined() {
            return self.complete_join(turn);
        }
        self.wait_for_members(turn);
        None
    }

    fn wait_for_members(&mut self, turn: &mut Turn<'_>) {
        self.initial_delay = None;
        let deadline = after_ms(turn.now, self.rebalance_timeout_ms());
        turn.schedule(Timer::Join(self.id.clone()), deadline);
    }

    /// Completes as soon as all are there; but the first rebalance always takes its time.
    pub(crate) fn maybe_complete_join(&mut self, turn: &mut Turn<'_>) -> Option<Write> {
        let preparing = self.state == ClassicState::PreparingRebalance;
        let first = self.previous_state == ClassicState::Empty;
        match preparing && !first && self.has_all_members_joined() {
            true => self.complete_join(turn),
            false => None,
        }
    }

    /// The time to join is over. A first rebalance is put off again if somebody came, within the rebalance timeout.
    pub(crate) fn join_timer(
        &mut self,
        config: &GroupConfig,
        turn: &mut Turn<'_>,
    ) -> Option<Write> {
        if self.state != ClassicState::PreparingRebalance {
            return None;
        }
        if let Some(delay) = self.initial_delay
            && self.new_member_added
            && delay.remaining_ms != 0
        {
            self.new_member_added = false;
            let next = InitialDelay {
                delay_ms: config.initial_rebalance_delay_ms.min(delay.remaining_ms),
                remaining_ms: delay.remaining_ms.saturating_sub(delay.delay_ms).max(0),
            };
            self.wait_initially(next, turn);
            return None;
        }
        self.complete_join(turn)
    }

    /// Begins the next generation with those that have joined, and with the static members.
    pub(crate) fn complete_join(&mut self, turn: &mut Turn<'_>) -> Option<Write> {
        turn.cancel(&Timer::Join(self.id.clone()));
        self.initial_delay = None;
        let absent = self.members.values();
        let absent = absent.filter(|m| m.awaiting_join.is_none() && m.instance_id.is_none());
        let absent: Vec<Str> = absent.map(|member| member.id.clone()).collect();
        for member_id in &absent {
            self.remove(member_id);
            self.cancel_session(member_id, turn);
        }
        if !self.elect_joined_leader() && !self.members.is_empty() {
            // Only static members are left, and none has come: their sessions will decide.
            self.wait_for_members(turn);
            return None;
        }
        self.init_next_generation(turn);
        if self.members.is_empty() {
            tracing::info!(group = %self.id, generation = self.generation, "group is empty");
            let record = self.to_record(|_| Default::default());
            let after = After::Emptied {
                group: self.id.clone(),
            };
            return Some(Write::new(vec![record]).without_replay().after(after));
        }
        self.announce_generation(turn);
        None
    }

    /// A leader that has not joined gives way to a member that has. False where nobody has.
    fn elect_joined_leader(&mut self) -> bool {
        let Some(leader) = &self.leader else {
            return false;
        };
        if self
            .members
            .get(leader)
            .is_some_and(|leader| leader.awaiting_join.is_some())
        {
            return true;
        }
        let joined = self
            .members
            .values()
            .find(|member| member.awaiting_join.is_some());
        match joined.map(|member| member.id.clone()) {
            Some(member_id) => {
                self.leader = Some(member_id);
                true
            }
            None => false,
        }
    }

    fn announce_generation(&mut self, turn: &mut Turn<'_>) {
        tracing::info!(group = %self.id, generation = self.generation, members = self.members.len(), "generation begins");
        let member_ids: Vec<Str> = self.members.keys().cloned().collect();
        for member_id in member_ids {
            self.answer_join(&member_id, turn, |group| group.joined(&member_id));
            self.reschedule_session(&member_id, turn);
            if let Some(member) = self.members.get_mut(&member_id) {
                member.is_new = false;
            }
            self.pending_sync.insert(member_id);
        }
        self.sync_generation = self.generation;
        let deadline = after_ms(turn.now, self.rebalance_timeout_ms());
        turn.schedule(Timer::Sync(self.id.clone()), deadline);
    }

    /// Who has not asked for its share of the generation in time is out.
    pub(crate) fn sync_timer(
        &mut self,
        config: &GroupConfig,
        turn: &mut Turn<'_>,
    ) -> Option<Write> {
        let settled = matches!(
            self.state,
            ClassicState::CompletingRebalance | ClassicState::Stable
        );
        if !settled || self.sync_generation != self.generation || self.pending_sync.is_empty() {
            return None;
        }
        for member_id in std::mem::take(&mut self.pending_sync) {
            self.answer_join(&member_id, turn, |_| {
                join_error(Str::EMPTY, ErrorCode::UnknownMemberId)
            });
            self.answer_sync(&member_id, turn, || sync_error(ErrorCode::UnknownMemberId));
            self.remove(&member_id);
            self.cancel_session(&member_id, turn);
        }
        self.prepare_rebalance(config, turn)
    }

    /// A member, or one that was told its id, has been silent too long.
    pub(crate) fn session_timer(
        &mut self,
        member_id: &Str,
        config: &GroupConfig,
        turn: &mut Turn<'_>,
    ) -> Option<Write> {
        if self.pending_join.contains(member_id) {
            self.remove(member_id);
            return self.complete_if_joined(turn);
        }
        let member = self.members.get(member_id)?;
        if member.has_satisfied_heartbeat() {
            return None;
        }
        tracing::info!(group = %self.id, member = %member_id, "session timed out");
        self.drop_member(member_id, turn);
        match self.state {
            ClassicState::Stable | ClassicState::CompletingRebalance => {
                self.rebalance_or_complete_join(config, turn)
            }
            ClassicState::PreparingRebalance => self.complete_if_joined(turn),
            ClassicState::Empty => None,
        }
    }

    fn complete_if_joined(&mut self, turn: &mut Turn<'_>) -> Option<Write> {
        match self.state == ClassicState::PreparingRebalance && self.has_all_members_joined() {
            true => self.complete_join(turn),
            false => None,
        }
    }

    /// Takes a member out and answers what it waits with, so that it joins again if it is there.
    pub(crate) fn drop_member(&mut self, member_id: &Str, turn: &mut Turn<'_>) {
        let unknown = ErrorCode::UnknownMemberId;
        self.answer_join(member_id, turn, |_| join_error(Str::EMPTY, unknown));
        self.answer_sync(member_id, turn, || sync_error(unknown));
        self.cancel_session(member_id, turn);
        self.remove(member_id);
    }
}
