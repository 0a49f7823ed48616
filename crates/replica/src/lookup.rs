//! Offsets by time and by epoch (ListOffsets, OffsetForLeaderEpoch).

use milena_base::{Epoch, ErrorCode, Offset, Timestamp};
use milena_log::FoundOffset;

use crate::{Isolation, Partition, ReadRefused};

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// The end that the reader may see.
    Latest,
    /// The end of the log itself, for a replica that has lost its place.
    LogEnd,
    /// The log's start; also its local start, while nothing is tiered.
    Earliest,
    /// The record with the largest timestamp.
    MaxTimestamp,
    /// An offset in tiered storage, of which there is none.
    Tiered,
    /// The first record at or after this time.
    Timestamp(Timestamp),
}

/// What was found; −1 where it is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    pub offset: Offset,
    pub timestamp: Timestamp,
    pub epoch: Epoch,
}

impl Partition {
    /// Looks an offset up as its leader.
    ///
    /// Errors: OFFSET_NOT_AVAILABLE while a new leader's high watermark lags behind the start of its epoch (KIP-207).
    pub fn look_up(
        &self,
        lookup: Lookup,
        isolation: Isolation,
        current_leader_epoch: i32,
    ) -> Result<Option<Found>, ReadRefused> {
        let role = self.leader_for(current_leader_epoch)?;
        let offsets = self.offsets();
        let bound = match isolation {
            Isolation::ReadUncommitted => offsets.high_watermark,
            Isolation::ReadCommitted => offsets.last_stable,
        };
        let in_doubt = || match role.epoch_start > offsets.high_watermark {
            true => Err(ReadRefused::Code(ErrorCode::OffsetNotAvailable)),
            false => Ok(None),
        };
        let found = match lookup {
            Lookup::Tiered => return Ok(None),
            Lookup::Earliest => return Ok(Some(self.reader().earliest().into())),
            Lookup::LogEnd => {
                return Ok(Some(Found {
                    offset: offsets.log_end,
                    timestamp: Timestamp::NONE,
                    epoch: role.leader_epoch,
                }));
            }
            Lookup::Latest => {
                in_doubt()?;
                return Ok(Some(Found {
                    offset: bound,
                    timestamp: Timestamp::NONE,
                    epoch: role.leader_epoch,
                }));
            }
            Lookup::MaxTimestamp => self.reader().max_timestamp()?,
            Lookup::Timestamp(at) => self.reader().offset_for_timestamp(at)?,
        };
        match found {
            Some(found) if found.offset < bound => Ok(Some(found.into())),
            _ => in_doubt(),
        }
    }

    /// The largest epoch up to `asked` and its end. `None` where it is not known.
    pub fn end_of_epoch(
        &self,
        asked: Epoch,
        current_leader_epoch: i32,
    ) -> Result<Option<(Epoch, Offset)>, ErrorCode> {
        self.leader_for(current_leader_epoch)?;
        Ok(self.reader().end_offset_for_epoch(asked))
    }
}

impl From<FoundOffset> for Found {
    fn from(found: FoundOffset) -> Found {
        Found {
            offset: found.offset,
            timestamp: found.timestamp,
            epoch: found.leader_epoch.unwrap_or(Epoch::NONE),
        }
    }
}
