//! One partition as the metadata log describes it (Kafka's `PartitionRegistration`).

use milena_base::Uuid;
use milena_protocol::{PartitionChangeRecord, PartitionRecord};

use crate::{Loss, MetadataVersion, ReplayError};

/// No leader.
pub const NO_LEADER: i32 = -1;
/// In a PartitionChangeRecord: the leader stays.
pub const NO_LEADER_CHANGE: i32 = -2;

/// Whether the leader still has to recover from an unclean election.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LeaderRecoveryState {
    #[default]
    Recovered,
    Recovering,
}

impl LeaderRecoveryState {
    /// In a PartitionChangeRecord: the state stays.
    pub const NO_CHANGE: i8 = -1;

    pub fn value(self) -> i8 {
        match self {
            LeaderRecoveryState::Recovered => 0,
            LeaderRecoveryState::Recovering => 1,
        }
    }

    pub fn from_value(value: i8) -> Option<LeaderRecoveryState> {
        match value {
            0 => Some(LeaderRecoveryState::Recovered),
            1 => Some(LeaderRecoveryState::Recovering),
            _ => None,
        }
    }
}

/// Invariant: `directories` has one entry for each replica.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partition {
    /// Preferred leader first.
    pub replicas: Vec<i32>,
    /// Log directory of each replica, or one of the reserved ids.
    pub directories: Vec<Uuid>,
    pub isr: Vec<i32>,
    pub removing_replicas: Vec<i32>,
    pub adding_replicas: Vec<i32>,
    /// Eligible leader replicas (KIP-966).
    pub elr: Vec<i32>,
    pub last_known_elr: Vec<i32>,
    /// [`NO_LEADER`] while there is none.
    pub leader: i32,
    pub leader_recovery_state: LeaderRecoveryState,
    pub leader_epoch: i32,
    pub partition_epoch: i32,
}

impl Partition {
    pub(crate) fn from_record(record: &PartitionRecord) -> Result<Partition, ReplayError> {
        Ok(Partition {
            replicas: record.replicas.clone(),
            directories: directories(&record.directories, record.replicas.len())?,
            isr: record.isr.clone(),
            removing_replicas: record.removing_replicas.clone(),
            adding_replicas: record.adding_replicas.clone(),
            elr: record.eligible_leader_replicas.clone().unwrap_or_default(),
            last_known_elr: record.last_known_elr.clone().unwrap_or_default(),
            leader: record.leader,
            leader_recovery_state: recovery_state(record.leader_recovery_state)?,
            leader_epoch: record.leader_epoch,
            partition_epoch: record.partition_epoch,
        })
    }

    /// The partition after the change. Each change raises the partition epoch; naming a leader, also the same one,
    /// raises the leader epoch.
    pub fn merge(&self, change: &PartitionChangeRecord) -> Result<Partition, ReplayError> {
        let keep = |new: &Option<Vec<i32>>, old: &Vec<i32>| new.as_ref().unwrap_or(old).clone();
        let replicas = keep(&change.replicas, &self.replicas);
        let named = change.directories.as_ref().unwrap_or(&self.directories);
        let (leader, leader_epoch) = match change.leader {
            NO_LEADER_CHANGE => (self.leader, self.leader_epoch),
            leader => (leader, self.leader_epoch + 1),
        };
        let leader_recovery_state = match change.leader_recovery_state {
            LeaderRecoveryState::NO_CHANGE => self.leader_recovery_state,
            value => recovery_state(value)?,
        };
        Ok(Partition {
            directories: directories(named, replicas.len())?,
            replicas,
            isr: keep(&change.isr, &self.isr),
            removing_replicas: keep(&change.removing_replicas, &self.removing_replicas),
            adding_replicas: keep(&change.adding_replicas, &self.adding_replicas),
            elr: keep(&change.eligible_leader_replicas, &self.elr),
            last_known_elr: keep(&change.last_known_elr, &self.last_known_elr),
            leader,
            leader_recovery_state,
            leader_epoch,
            partition_epoch: self.partition_epoch + 1,
        })
    }

    pub fn has_leader(&self) -> bool {
        self.leader != NO_LEADER
    }

    /// The first replica; [`NO_LEADER`] where there is no replica at all.
    pub fn preferred_replica(&self) -> i32 {
        self.replicas.first().copied().unwrap_or(NO_LEADER)
    }

    pub fn has_preferred_leader(&self) -> bool {
        self.leader == self.preferred_replica()
    }

    pub fn is_reassigning(&self) -> bool {
        !self.removing_replicas.is_empty() || !self.adding_replicas.is_empty()
    }

    /// The log directory of a replica; `None` where the broker is no replica.
    pub fn directory(&self, replica: i32) -> Option<Uuid> {
        let at = self.replicas.iter().position(|r| *r == replica)?;
        self.directories.get(at).copied()
    }

    /// The record that makes this partition. `elr_enabled` is whether the feature is on: otherwise ELR is not written.
    pub fn to_record(
        &self,
        topic_id: Uuid,
        partition_id: i32,
        version: MetadataVersion,
        elr_enabled: bool,
    ) -> Result<(PartitionRecord, i16), Loss> {
        let elr = |ids: &Vec<i32>| (elr_enabled && !ids.is_empty()).then(|| ids.clone());
        let mut record = PartitionRecord {
            partition_id,
            topic_id,
            replicas: self.replicas.clone(),
            isr: self.isr.clone(),
            removing_replicas: self.removing_replicas.clone(),
            adding_replicas: self.adding_replicas.clone(),
            leader: self.leader,
            leader_recovery_state: self.leader_recovery_state.value(),
            leader_epoch: self.leader_epoch,
            partition_epoch: self.partition_epoch,
            directories: Vec::new(),
            eligible_leader_replicas: elr(&self.elr),
            last_known_elr: elr(&self.last_known_elr),
        };
        if version.supports_directory_assignment() {
            record.directories = self.directories.clone();
        } else if self
            .directories
            .iter()
            .any(|d| *d != Uuid::DIRECTORY_MIGRATING)
        {
            let what = "the directory assignment state of one or more replicas";
            return Err(Loss(what.to_owned()));
        }
        Ok((record, version.partition_record_version()))
    }

    /// A change that clears ELR, as ClearElrRecord implies it; `None` where there is nothing to clear.
    pub(crate) fn without_elr(&self) -> Option<Partition> {
        if self.elr.is_empty() && self.last_known_elr.is_empty() {
            return None;
        }
        Some(Partition {
            elr: Vec::new(),
            last_known_elr: Vec::new(),
            partition_epoch: self.partition_epoch + 1,
            ..self.clone()
        })
    }
}

fn recovery_state(value: i8) -> Result<LeaderRecoveryState, ReplayError> {
    LeaderRecoveryState::from_value(value)
        .ok_or_else(|| ReplayError::new(format!("{value} is no leader recovery state")))
}

/// Directories as named; `MIGRATING` for every replica where none is (records from before 3.7-IV2).
fn directories(named: &[Uuid], replicas: usize) -> Result<Vec<Uuid>, ReplayError> {
    if named.iter().all(|d| *d == Uuid::DIRECTORY_MIGRATING) {
        return Ok(vec![Uuid::DIRECTORY_MIGRATING; replicas]);
    }
    if named.len() != replicas {
        return Err(ReplayError::new(format!(
            "{} directories for {replicas} replicas",
            named.len()
        )));
    }
    Ok(named.to_vec())
}
