//! One partition's next state, and the record that leads there (Kafka's `PartitionChangeBuilder`): who leads, who is
//! in the ISR and ELR, when a reassignment is complete.

use std::collections::{BTreeMap, BTreeSet};

use milena_base::Uuid;
use milena_image::{LeaderRecoveryState, MetadataVersion, NO_LEADER, NO_LEADER_CHANGE, Partition};
use milena_protocol::PartitionChangeRecord;

use crate::reassignment;

/// Which leader is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Election {
    /// The preferred replica where it can lead; else the present leader; else any in sync.
    Preferred,
    /// The present leader, or any in sync.
    Online,
    /// As a last resort also a replica that is not in sync.
    Unclean,
}

/// What a change depends on beside the partition.
pub(crate) struct Circumstances<'a> {
    /// Whether the broker is active (or about to be) and the replica's directory online.
    pub can_lead: &'a dyn Fn(i32) -> bool,
    pub default_directory: &'a dyn Fn(i32) -> Uuid,
    pub version: MetadataVersion,
    pub elr_enabled: bool,
    /// Effective min.insync.replicas: no more than there are replicas.
    pub min_isr: usize,
}

/// A change in the making: fields start as the partition is; [`Change::build`] settles the rest.
pub(crate) struct Change<'a> {
    partition: &'a Partition,
    topic_id: Uuid,
    partition_id: i32,
    given: Circumstances<'a>,
    pub election: Election,
    pub isr: Vec<i32>,
    pub replicas: Vec<i32>,
    pub removing: Vec<i32>,
    pub adding: Vec<i32>,
    pub recovery: LeaderRecoveryState,
    /// Brokers whose last stop lost what they had not flushed: never eligible.
    pub unclean_shutdown: Vec<i32>,
    directories: BTreeMap<i32, Uuid>,
    elr: Vec<i32>,
}

/// An elected leader, or none.
struct Elected {
    leader: i32,
    unclean: bool,
}

impl<'a> Change<'a> {
    pub fn new(
        partition: &'a Partition,
        topic_id: Uuid,
        partition_id: i32,
        given: Circumstances<'a>,
    ) -> Change<'a> {
        let replicas = partition.replicas.iter().copied();
        Change {
            topic_id,
            partition_id,
            given,
            election: Election::Online,
            isr: partition.isr.clone(),
            replicas: partition.replicas.clone(),
            removing: partition.removing_replicas.clone(),
            adding: partition.adding_replicas.clone(),
            recovery: partition.leader_recovery_state,
            unclean_shutdown: Vec::new(),
            directories: replicas
                .zip(partition.directories.iter().copied())
                .collect(),
            elr: partition.elr.clone(),
            partition,
        }
    }

    pub fn set_directory(&mut self, broker: i32, directory: Uuid) {
        self.directories.insert(broker, directory);
    }

    /// The record with its version; `None` where nothing changes.
    pub fn build(mut self) -> Option<(PartitionChangeRecord, i16)> {
        let mut record = PartitionChangeRecord {
            partition_id: self.partition_id,
            topic_id: self.topic_id,
            ..PartitionChangeRecord::default()
        };
        self.complete_reassignment();
        self.settle_elr();
        self.elect(&mut record);
        self.bump_epoch_for_reassignment(&mut record);
        self.write_elr(&mut record);
        let may_be_empty = self.given.elr_enabled || !self.isr.is_empty();
        if record.isr.is_none() && may_be_empty && self.isr != self.partition.isr {
            record.isr = Some(self.isr.clone());
        }
        self.bump_epoch_for_isr_shrink(&mut record);
        self.write_last_known_leader(&mut record);
        self.write_assignment(&mut record);
        if self.recovery != self.partition.leader_recovery_state {
            record.leader_recovery_state = self.recovery.value();
        }
        let nothing = PartitionChangeRecord {
            partition_id: self.partition_id,
            topic_id: self.topic_id,
            ..PartitionChangeRecord::default()
        };
        (record != nothing).then(|| (record, self.given.version.partition_record_version()))
    }

    fn complete_reassignment(&mut self) {
        let completed =
            reassignment::complete(&self.removing, &self.adding, &self.replicas, &self.isr);
        if let Some((replicas, isr)) = completed {
            self.replicas = replicas;
            self.isr = isr;
            self.removing.clear();
            self.adding.clear();
        }
    }

    /// While the ISR is too small, who was in it stays eligible, but for unclean stops (KIP-966). Who is no replica
    /// any more is not (Kafka 4.4.0 keeps such ids, which can never lead and keep others from it).
    fn settle_elr(&mut self) {
        if !self.given.elr_enabled {
            return;
        }
        if self.isr.len() >= self.given.min_isr {
            self.elr.clear();
            return;
        }
        let mut candidates: BTreeSet<i32> = self.elr.iter().copied().collect();
        candidates.extend(&self.partition.isr);
        let eligible = |r: &&i32| {
            self.replicas.contains(r) && !self.isr.contains(r) && !self.unclean_shutdown.contains(r)
        };
        self.elr = candidates.iter().filter(eligible).copied().collect();
    }

    fn elect(&mut self, record: &mut PartitionChangeRecord) {
        let elected = self.elected();
        if elected.leader == self.partition.leader {
            return;
        }
        if self.elr.contains(&elected.leader) {
            self.isr = vec![elected.leader];
            self.elr.retain(|r| *r != elected.leader);
        }
        record.leader = elected.leader;
        if elected.unclean {
            record.isr = Some(vec![elected.leader]);
            if self.partition.leader_recovery_state != LeaderRecoveryState::Recovering {
                record.leader_recovery_state = LeaderRecoveryState::Recovering.value();
            }
        }
    }

    fn elected(&self) -> Elected {
        let clean = |leader| Elected {
            leader,
            unclean: false,
        };
        let unclean = |leader| Elected {
            leader,
            unclean: true,
        };
        let preferred = self.replicas.first().copied();
        let first_choice = preferred.filter(|_| self.election == Election::Preferred);
        let in_order = first_choice.into_iter().chain([self.partition.leader]);
        let mut in_order = in_order.chain(self.replicas.iter().copied());
        if let Some(leader) = in_order.find(|r| self.is_in_sync(*r)) {
            return clean(leader);
        }
        if let Some(leader) = self.last_known_leader() {
            return unclean(leader);
        }
        let any = self
            .replicas
            .iter()
            .copied()
            .find(|r| (self.given.can_lead)(*r));
        match any {
            Some(leader) if self.election == Election::Unclean => unclean(leader),
            _ => clean(NO_LEADER),
        }
    }

    fn is_in_sync(&self, replica: i32) -> bool {
        let eligible = self.isr.is_empty() && self.elr.contains(&replica);
        (self.isr.contains(&replica) || eligible) && (self.given.can_lead)(replica)
    }

    /// Where ISR and ELR are both empty, who led last, if nobody else could have more.
    fn last_known_leader(&self) -> Option<i32> {
        let empty = self.isr.is_empty() && self.elr.is_empty();
        match self.partition.last_known_elr[..] {
            [only] if self.given.elr_enabled && empty && (self.given.can_lead)(only) => Some(only),
            _ => None,
        }
    }

    /// A replica that goes must hear of it by a new leader epoch.
    fn bump_epoch_for_reassignment(&self, record: &mut PartitionChangeRecord) {
        let gone = |r: &i32| !self.replicas.contains(r);
        if record.leader == NO_LEADER_CHANGE && self.partition.replicas.iter().any(gone) {
            record.leader = self.partition.leader;
        }
    }

    fn bump_epoch_for_isr_shrink(&self, record: &mut PartitionChangeRecord) {
        if !self.given.version.bumps_leader_epoch_on_isr_shrink() {
            return;
        }
        let Some(isr) = &record.isr else {
            return;
        };
        let shrinks = self.partition.isr.iter().any(|r| !isr.contains(r));
        if record.leader == NO_LEADER_CHANGE && shrinks {
            record.leader = self.partition.leader;
        }
    }

    fn write_elr(&mut self, record: &mut PartitionChangeRecord) {
        if record.isr.is_some() || !self.given.elr_enabled {
            self.elr.clear();
        }
        if self.elr != self.partition.elr {
            record.eligible_leader_replicas = Some(self.elr.clone());
        }
    }

    /// The last leader is remembered in `last_known_elr` while there is none (KIP-966, balanced recovery).
    fn write_last_known_leader(&self, record: &mut PartitionChangeRecord) {
        if !self.given.elr_enabled {
            return;
        }
        let remembered = !self.partition.last_known_elr.is_empty();
        match record.leader {
            NO_LEADER if !remembered => record.last_known_elr = Some(vec![self.partition.leader]),
            leader if leader >= 0 && remembered => record.last_known_elr = Some(Vec::new()),
            _ => {}
        }
    }

    fn write_assignment(&self, record: &mut PartitionChangeRecord) {
        if !self.replicas.is_empty() {
            if self.given.version.supports_directory_assignment() {
                let known = |r: &i32| self.directories.get(r).copied();
                let directory = |r| known(r).unwrap_or_else(|| (self.given.default_directory)(*r));
                let directories: Vec<Uuid> = self.replicas.iter().map(directory).collect();
                if directories != self.partition.directories {
                    record.directories = Some(directories);
                }
            }
            if self.replicas != self.partition.replicas {
                record.replicas = Some(self.replicas.clone());
            }
        }
        if self.removing != self.partition.removing_replicas {
            record.removing_replicas = Some(self.removing.clone());
        }
        if self.adding != self.partition.adding_replicas {
            record.adding_replicas = Some(self.adding.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: Uuid = Uuid::from_parts(9, 9);

    fn partition(replicas: &[i32], isr: &[i32], leader: i32) -> Partition {
        Partition {
            replicas: replicas.to_vec(),
            directories: vec![TOPIC; replicas.len()],
            isr: isr.to_vec(),
            leader,
            ..Partition::default()
        }
    }

    /// The partition after a change among these live brokers, with ELR and min ISR 2.
    fn after(
        partition: &Partition,
        live: &[i32],
        edit: impl FnOnce(&mut Change),
    ) -> Option<Partition> {
        let can_lead = |r| live.contains(&r);
        let default_directory = |_| TOPIC;
        let given = Circumstances {
            can_lead: &can_lead,
            default_directory: &default_directory,
            version: MetadataVersion::LATEST_PRODUCTION,
            elr_enabled: true,
            min_isr: 2,
        };
        let mut change = Change::new(partition, TOPIC, 0, given);
        edit(&mut change);
        let (record, version) = change.build()?;
        assert_eq!(version, 2);
        Some(partition.merge(&record).unwrap())
    }

    #[test]
    fn a_shrinking_isr_leaves_eligible_replicas_and_the_last_leader() {
        let start = partition(&[1, 2, 3], &[1, 2, 3], 1);
        let one = after(&start, &[1], |c| c.isr = vec![1]).unwrap();
        assert_eq!(
            (&one.isr[..], &one.elr[..], one.leader),
            (&[1][..], &[2, 3][..], 1)
        );
        let none = after(&one, &[], |c| c.isr = vec![]).unwrap();
        assert_eq!((&none.isr[..], &none.elr[..]), (&[][..], &[1, 2, 3][..]));
        assert_eq!(
            (none.leader, &none.last_known_elr[..]),
            (NO_LEADER, &[1][..])
        );
        let back = after(&none, &[2], |_| ()).unwrap();
        assert_eq!(
            (back.leader, &back.isr[..], &back.elr[..]),
            (2, &[2][..], &[1, 3][..])
        );
        assert!(back.last_known_elr.is_empty());
        assert_eq!(back.leader_recovery_state, LeaderRecoveryState::Recovered);
    }

    #[test]
    fn an_unclean_stop_of_the_only_replica_ends_in_recovery_by_itself() {
        let start = partition(&[1], &[1], 1);
        let stopped = after(&start, &[], |c| {
            c.isr = vec![];
            c.unclean_shutdown = vec![1];
        });
        let stopped = stopped.unwrap();
        assert_eq!(
            (stopped.leader, stopped.isr.len(), stopped.elr.len()),
            (NO_LEADER, 0, 0)
        );
        assert_eq!(stopped.last_known_elr, [1]);
        let back = after(&stopped, &[1], |_| ()).unwrap();
        assert_eq!((back.leader, &back.isr[..]), (1, &[1][..]));
        assert_eq!(back.leader_recovery_state, LeaderRecoveryState::Recovering);
        let recovered = after(&back, &[1], |c| c.recovery = LeaderRecoveryState::Recovered);
        let recovered = recovered.unwrap();
        assert_eq!(
            recovered.leader_recovery_state,
            LeaderRecoveryState::Recovered
        );
        assert_eq!(recovered.leader_epoch, back.leader_epoch);
    }

    #[test]
    fn the_preferred_leader_comes_back_only_where_it_is_in_sync() {
        let start = partition(&[1, 2], &[2], 2);
        assert!(after(&start, &[1, 2], |c| c.election = Election::Preferred).is_none());
        let start = partition(&[1, 2], &[2, 1], 2);
        let balanced = after(&start, &[1, 2], |c| c.election = Election::Preferred).unwrap();
        assert_eq!(balanced.leader, 1);
        assert!(after(&start, &[1, 2], |_| ()).is_none());
    }
}
