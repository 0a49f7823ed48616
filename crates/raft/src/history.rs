//! What control records say of the quorum, by offset: the voter sets and the `kraft.version`s that the log (also its
//! uncommitted end) and the latest snapshot hold. KRaft acts on the latest, committed or not, and takes back what is
//! truncated. Kafka class `KRaftControlRecordStateMachine`.

use std::collections::BTreeMap;

use milena_base::Offset;

use crate::batch::{ControlRecord, walk};
use crate::log::{Fault, ReplicatedLog, SnapshotId};
use crate::voters::VoterSet;

/// Bytes of the log read at once while control records are looked for.
const READ_BYTES: usize = 1 << 20;

/// Voter sets and kraft versions by the offset that they came with.
#[derive(Debug)]
pub(crate) struct ControlHistory {
    static_voters: VoterSet,
    /// Key −1: from the bootstrap snapshot, in the log not written yet.
    voters: BTreeMap<Offset, VoterSet>,
    kraft_versions: BTreeMap<Offset, i16>,
    /// The next offset to look at.
    next: Offset,
}

impl ControlHistory {
    /// Reads the latest snapshot and the log after it.
    pub fn load(static_voters: VoterSet, log: &dyn ReplicatedLog) -> Result<ControlHistory, Fault> {
        let mut history = ControlHistory {
            static_voters,
            voters: BTreeMap::new(),
            kraft_versions: BTreeMap::new(),
            next: log.start_offset(),
        };
        history.reload(log)?;
        Ok(history)
    }

    /// Starts anew from the latest snapshot: at the start, and where a snapshot replaced the log.
    pub fn reload(&mut self, log: &dyn ReplicatedLog) -> Result<(), Fault> {
        self.voters.clear();
        self.kraft_versions.clear();
        self.next = log.start_offset();
        if let Some(id) = log.latest_snapshot() {
            self.load_snapshot(log, id)?;
            self.next = id.offset;
        }
        self.catch_up(log)
    }

    fn load_snapshot(&mut self, log: &dyn ReplicatedLog, id: SnapshotId) -> Result<(), Fault> {
        // Control records of a snapshot stand in its first and last batches, and the last are footers: what counts is
        // found in the first batch.
        let head = log.read_snapshot(id, 0, READ_BYTES)?;
        let first = walk(head).next().transpose()?;
        let Some(first) = first else {
            return Err(Fault::corrupt(format!("snapshot {id} is empty")));
        };
        for record in first.control {
            self.note(id.offset - 1, record);
        }
        Ok(())
    }

    /// Looks at what was appended since.
    pub fn catch_up(&mut self, log: &dyn ReplicatedLog) -> Result<(), Fault> {
        while self.next < log.end_offset() {
            let bytes = log.read(self.next, READ_BYTES)?;
            let before = self.next;
            for batch in walk(bytes) {
                let batch = batch?;
                for (delta, record) in batch.control.into_iter().enumerate() {
                    self.note(batch.base_offset + delta as i64, record);
                }
                self.next = batch.last_offset + 1;
            }
            if self.next <= before {
                return Err(Fault::corrupt(format!(
                    "the metadata log has no batch at offset {before}, though it ends at {}",
                    log.end_offset()
                )));
            }
        }
        Ok(())
    }

    fn note(&mut self, offset: Offset, record: ControlRecord) {
        match record {
            ControlRecord::Voters(voters) => {
                self.voters.insert(offset, VoterSet::from_record(&voters));
            }
            ControlRecord::KRaftVersion(version) => {
                self.kraft_versions.insert(offset, version);
            }
            _ => {}
        }
    }

    /// Forgets what came at or after `end`.
    pub fn truncate(&mut self, end: Offset) {
        self.voters.split_off(&end);
        self.kraft_versions.split_off(&end);
        self.next = self.next.min(end);
    }

    /// The voter set in force.
    pub fn voters(&self) -> &VoterSet {
        self.voters
            .last_key_value()
            .map_or(&self.static_voters, |(_, voters)| voters)
    }

    /// The voter set that the one in force replaced, if it is known.
    pub fn voters_before(&self) -> Option<&VoterSet> {
        self.voters.values().rev().nth(1)
    }

    /// Where the voter set in force came from; −1 for the bootstrap snapshot, `None` for the configuration.
    pub fn voters_offset(&self) -> Option<Offset> {
        self.voters.last_key_value().map(|(offset, _)| *offset)
    }

    pub fn kraft_version(&self) -> i16 {
        self.kraft_versions
            .last_key_value()
            .map_or(0, |(_, version)| *version)
    }

    /// Kraft version and dynamic voter set as of the records below `end`.
    pub fn before(&self, end: Offset) -> (i16, Option<&VoterSet>) {
        let version = self.kraft_versions.range(..end).next_back();
        let voters = self.voters.range(..end).next_back();
        (version.map_or(0, |(_, v)| *v), voters.map(|(_, v)| v))
    }
}
