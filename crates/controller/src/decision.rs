//! What deciding yields.

use milena_image::VersionedRecord;
use milena_protocol::MetadataRecord;

use crate::ControllerAnswer;

/// Most records of one atomic batch, and of one user's operation.
pub const RECORDS_PER_BATCH_MAX: usize = 10_000;

/// Records to append, and the answer to give once they (and all before them) are committed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    pub records: Vec<VersionedRecord>,
    /// `None` where nobody asked (activation, timers).
    pub answer: Option<ControllerAnswer>,
    /// Whether all records have to go into one batch; otherwise they may be split at
    /// [`RECORDS_PER_BATCH_MAX`].
    pub atomic: bool,
    /// Whether the quorum raises `kraft.version` to 1 before the records.
    pub raises_kraft_version: bool,
}

impl Decision {
    pub(crate) fn answer(answer: impl Into<ControllerAnswer>) -> Decision {
        Decision {
            answer: Some(answer.into()),
            ..Decision::default()
        }
    }

    pub(crate) fn records(records: Records) -> Decision {
        Decision {
            records: records.0,
            ..Decision::default()
        }
    }

    pub(crate) fn with_answer(mut self, answer: impl Into<ControllerAnswer>) -> Decision {
        self.answer = Some(answer.into());
        self
    }

    pub(crate) fn atomic(mut self) -> Decision {
        self.atomic = true;
        self
    }
}

/// Records in the making.
#[derive(Clone, Debug, Default)]
pub(crate) struct Records(pub Vec<VersionedRecord>);

impl Records {
    pub fn push(&mut self, record: impl Into<MetadataRecord>, version: i16) {
        self.0.push((record.into(), version));
    }

    pub fn append(&mut self, mut other: Records) {
        self.0.append(&mut other.0);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}
