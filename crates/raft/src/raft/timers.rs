//! What time does: timeouts of each role, and the requests that are due.

use std::time::Duration;

use milena_base::{Instant, Now};

use super::Raft;
use crate::log::Fault;
use crate::message::{Effect, Peer, RaftRequest};
use crate::role::{Role, Unattached};

/// Transitions that one event can set off; more would be a circle.
const TRANSITIONS_MAX: usize = 8;

impl Raft {
    /// When [`crate::Event::Tick`] is due next; [`Instant::NEVER`] where nothing waits for time.
    pub fn deadline(&self) -> Instant {
        if self.stopped {
            return Instant::NEVER;
        }
        let role = match &self.role {
            Role::Resigned(role) if self.stopping => {
                self.next_retry(role.unacknowledged.iter().copied())
            }
            // Whoever stops stands for no election, and waits for nothing but its owner's patience.
            _ if self.stopping => Instant::NEVER,
            Role::Unattached(role) if self.is_voter() => role.election_at,
            Role::Unattached(role) if self.may_stand() => {
                role.election_at.min(self.next_bootstrap_fetch())
            }
            Role::Unattached(_) => self.next_bootstrap_fetch(),
            Role::Prospective(role) | Role::Candidate(role) => match role.back_off_until {
                Some(until) => until,
                None => role
                    .election_at
                    .min(self.next_retry(self.open_voters(role))),
            },
            Role::Follower(role) if self.may_stand() => {
                let fetch = self.peers.busy_until(role.leader.id);
                role.fetch_at.min(fetch.unwrap_or(Instant::NEVER))
            }
            Role::Follower(role) => {
                let paused = self.peers.busy_until(role.leader.id);
                let awaited = self.peers.awaited_until(role.leader.id);
                let next = awaited.unwrap_or_else(|| {
                    let paused = paused.unwrap_or(Instant::NEVER);
                    paused.min(self.next_bootstrap_fetch())
                });
                role.fetch_at.min(next)
            }
            Role::Leader(role) => {
                let change = role.change.as_ref().map(|change| change.until);
                let others = match role.needs_others() {
                    true => role.check_quorum_at.min(role.begin_quorum_at),
                    false => Instant::NEVER,
                };
                others.min(change.unwrap_or(Instant::NEVER))
            }
            Role::Resigned(role) => {
                let untold = role.unacknowledged.iter().copied();
                role.election_at.min(self.next_retry(untold))
            }
        };
        let parked = self.parked.iter().map(|fetch| fetch.until).min();
        role.min(parked.unwrap_or(Instant::NEVER))
    }

    fn next_bootstrap_fetch(&self) -> Instant {
        self.peers.bootstrap_busy_until().unwrap_or(Instant::NEVER)
    }

    fn next_retry(&self, peers: impl IntoIterator<Item = milena_base::BrokerId>) -> Instant {
        let busy = peers.into_iter().filter_map(|id| self.peers.busy_until(id));
        busy.min().unwrap_or(Instant::NEVER)
    }

    /// Does what is due now, until nothing is.
    pub(super) fn poll(&mut self, now: Now, out: &mut Vec<Effect>) -> Result<(), Fault> {
        for _ in 0..TRANSITIONS_MAX {
            if self.stopped || !self.poll_once(now, out)? {
                break;
            }
        }
        self.expire_parked(now, out)?;
        self.peers.end_pauses(now.mono);
        self.announce(out);
        self.announce_active(out);
        self.maybe_stop(out);
        Ok(())
    }

    /// Whether the role changed.
    fn poll_once(&mut self, now: Now, out: &mut Vec<Effect>) -> Result<bool, Fault> {
        match &self.role {
            Role::Unattached(_) => self.poll_unattached(now, out),
            Role::Prospective(_) | Role::Candidate(_) => self.poll_canvass(now, out),
            Role::Follower(_) => self.poll_follower(now, out),
            Role::Leader(_) => self.poll_leader(now, out),
            Role::Resigned(_) => self.poll_resigned(now, out),
        }
    }

    fn poll_unattached(&mut self, now: Now, out: &mut Vec<Effect>) -> Result<bool, Fault> {
        let Role::Unattached(role) = &self.role else {
            return Ok(false);
        };
        let alone = self.control.voters().is_only(self.config.key());
        let due = alone || role.election_at <= now.mono;
        if self.may_stand() && due && !self.stopping {
            self.become_prospective(None, now, out)?;
            return Ok(true);
        }
        if !self.is_voter() {
            self.fetch_from_bootstrap(now, out);
        }
        Ok(false)
    }

    fn poll_follower(&mut self, now: Now, out: &mut Vec<Effect>) -> Result<bool, Fault> {
        let Role::Follower(role) = &self.role else {
            return Ok(false);
        };
        let gone = role.fetch_at <= now.mono || role.fetch_at == Instant::NEVER;
        let leader = role.leader.clone();
        if self.may_stand() {
            if gone && !self.stopping {
                self.become_prospective(Some(leader), now, out)?;
                return Ok(true);
            }
            self.tell_leader(&leader, now, out);
            self.fetch_from(leader, now, out);
        } else if gone {
            self.give_leader_up();
            self.fetch_from_bootstrap(now, out);
        } else if self.peers.timed_out(leader.id, now.mono) {
            self.peers.forget(leader.id);
            self.fetch_from_bootstrap(now, out);
        } else if self.peers.is_backing_off(leader.id, now.mono) {
            self.fetch_from_bootstrap(now, out);
        } else if !self.peers.any_awaited(now.mono) {
            self.tell_leader(&leader, now, out);
            self.fetch_from(leader, now, out);
        }
        Ok(false)
    }

    /// An observer whose leader is silent goes on asking the others, until one answers.
    fn give_leader_up(&mut self) {
        if let Role::Follower(role) = &mut self.role {
            role.fetch_at = Instant::NEVER;
            let leader = role.leader.id;
            self.peers.forget(leader);
        }
    }

    fn poll_leader(&mut self, now: Now, out: &mut Vec<Effect>) -> Result<bool, Fault> {
        self.expire_change(now, out);
        let removed = self.is_removed();
        let Role::Leader(role) = &mut self.role else {
            return Ok(false);
        };
        let gives_up = removed || (self.stopping && role.needs_others());
        if gives_up || role.lost_quorum(now.mono) {
            let epoch = role.epoch;
            self.resign(epoch, now, out)?;
            return Ok(true);
        }
        if role.needs_others() && role.begin_quorum_at <= now.mono {
            role.begin_quorum_sent(now.mono);
            self.send_begin_quorum(now, out);
        }
        Ok(false)
    }

    fn poll_resigned(&mut self, now: Now, out: &mut Vec<Effect>) -> Result<bool, Fault> {
        let Role::Resigned(role) = &self.role else {
            return Ok(false);
        };
        if self.stopping {
            self.send_end_quorum(now, out);
            return Ok(false);
        }
        if self.control.voters().is_only(self.config.key()) {
            self.become_candidate(now, out)?;
            return Ok(true);
        }
        if role.election_at <= now.mono {
            // Nobody leads this epoch any more, and this replica must not again.
            self.epoch = self.epoch.next();
            let election_at = self.election_time(now.mono);
            let role = Role::Unattached(Unattached {
                leader: None,
                voted: None,
                election_at,
            });
            self.become_role(role, out)?;
            return Ok(true);
        }
        self.send_end_quorum(now, out);
        Ok(false)
    }

    /// Sends, where nothing is under way to this peer.
    pub(super) fn send(
        &mut self,
        to: Peer,
        request: impl FnOnce(&Raft) -> RaftRequest,
        now: Now,
        out: &mut Vec<Effect>,
    ) {
        if !self.peers.is_ready(to.id, now.mono) {
            return;
        }
        let request = request(self);
        let correlation = self.peers.sent(to.id, now.mono);
        out.push(Effect::Send {
            to,
            correlation,
            request,
        });
    }

    /// One to two election timeouts from now.
    pub(super) fn election_time(&mut self, now: Instant) -> Instant {
        let timeout = self.config.election_timeout;
        now + timeout + self.random_below(timeout)
    }

    pub(super) fn random_below(&mut self, bound: Duration) -> Duration {
        let bound = bound.as_millis().max(1) as u64;
        Duration::from_millis(self.prng.below(bound))
    }

    /// Kafka's `maybeCompleteShutdown`: an observer, a lone voter or one that knows another leader is not needed.
    fn maybe_stop(&mut self, out: &mut Vec<Effect>) {
        if !self.stopping || self.stopped {
            return;
        }
        let alone = self.control.voters().is_only(self.config.key());
        let other_leads = matches!(self.role, Role::Follower(_));
        let all_told = matches!(&self.role, Role::Resigned(role) if role.unacknowledged.is_empty());
        if !self.is_voter() || alone || other_leads || all_told {
            self.stopped = true;
            out.push(Effect::Stopped);
        }
    }
}
