//! What a reader may see.

use milena_base::{Epoch, ErrorCode, Now, Offset};
use milena_disk::FileSlice;
use milena_log::{Fault, ReadError};

use crate::{FetchNote, Noted, Partition};

/// How far a consumer reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    ReadUncommitted,
    ReadCommitted,
}

/// Who reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFrom {
    /// A consumer that knows the leader alone.
    Consumer(Isolation),
    /// A consumer that may read at any replica (KIP-392).
    Nearest(Isolation),
    Replica,
}

/// One partition of a fetch.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    pub offset: Offset,
    pub bytes_max: u32,
    /// A first batch larger than `bytes_max` is given all the same, so that a reader gets on.
    pub at_least_one: bool,
    /// −1: not checked.
    pub current_leader_epoch: i32,
    /// −1: no truncation check.
    pub last_fetched_epoch: i32,
    pub from: ReadFrom,
}

/// The reader's log differs from ours above this point (KIP-595).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Divergence {
    pub epoch: Epoch,
    pub end_offset: Offset,
}

/// What is there, and the offsets that go with it.
#[derive(Clone, Debug)]
pub struct ReadAnswer {
    pub slice: Option<FileSlice>,
    pub divergence: Option<Divergence>,
    pub high_watermark: Offset,
    pub last_stable: Offset,
    pub log_start: Offset,
    /// Readers of committed data get the aborted transactions of the offsets in `slice`: producer id and first
    /// offset of each.
    pub aborted: Option<Vec<(i64, Offset)>>,
    /// Bytes that a longer wait could not make fewer: what lies between the offset and the reader's bound.
    pub at_bound: bool,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum ReadRefused {
    Code(ErrorCode),
    Fault(Fault),
}

impl From<ReadError> for ReadRefused {
    fn from(error: ReadError) -> ReadRefused {
        match error {
            ReadError::OutOfRange => ReadRefused::Code(ErrorCode::OffsetOutOfRange),
            ReadError::Corrupt(_) => ReadRefused::Code(ErrorCode::CorruptMessage),
            ReadError::Fault(fault) => ReadRefused::Fault(fault),
        }
    }
}

impl From<ErrorCode> for ReadRefused {
    fn from(code: ErrorCode) -> ReadRefused {
        ReadRefused::Code(code)
    }
}

impl Partition {
    /// Reads without a lock.
    pub fn read(&self, wanted: Wanted) -> Result<ReadAnswer, ReadRefused> {
        match wanted.from {
            ReadFrom::Nearest(_) => self.replica_for(wanted.current_leader_epoch)?,
            ReadFrom::Consumer(_) | ReadFrom::Replica => {
                self.leader_for(wanted.current_leader_epoch)?
            }
        };
        let mut answer = self.empty_answer();
        if let Some(divergence) = self.divergence(wanted, answer.log_start)? {
            answer.divergence = Some(divergence);
            return Ok(answer);
        }
        self.fill(wanted, &mut answer)?;
        Ok(answer)
    }

    /// Reads for a follower, and notes what its fetch says: `wanted.offset` is its log's end. What the leader answers
    /// has seen the note. A fetch that is told to truncate, or refused, is not noted.
    pub fn read_as_follower(
        &self,
        wanted: Wanted,
        fetch: &FetchNote,
        now: Now,
    ) -> Result<(ReadAnswer, Noted), ReadRefused> {
        self.leader_for(wanted.current_leader_epoch)?;
        let mut answer = self.empty_answer();
        if let Some(divergence) = self.divergence(wanted, answer.log_start)? {
            answer.divergence = Some(divergence);
            return Ok((answer, Noted::default()));
        }
        if wanted.offset < answer.log_start || wanted.offset > self.reader().log_end() {
            return Err(ErrorCode::OffsetOutOfRange.into());
        }
        let noted = self.on_fetch(fetch, now)?;
        let mut answer = self.empty_answer();
        self.fill(wanted, &mut answer)?;
        Ok((answer, noted))
    }

    fn empty_answer(&self) -> ReadAnswer {
        let offsets = self.offsets();
        ReadAnswer {
            slice: None,
            divergence: None,
            high_watermark: offsets.high_watermark,
            last_stable: offsets.last_stable,
            log_start: offsets.log_start,
            aborted: None,
            at_bound: false,
        }
    }

    fn fill(&self, wanted: Wanted, answer: &mut ReadAnswer) -> Result<(), ReadRefused> {
        let reader = self.reader();
        let isolation = match wanted.from {
            ReadFrom::Replica => None,
            ReadFrom::Consumer(isolation) | ReadFrom::Nearest(isolation) => Some(isolation),
        };
        let bound = match isolation {
            None => reader.log_end(),
            Some(Isolation::ReadUncommitted) => answer.high_watermark,
            Some(Isolation::ReadCommitted) => answer.last_stable,
        };
        let committed = isolation == Some(Isolation::ReadCommitted);
        if committed {
            answer.aborted = Some(Vec::new());
        }
        if wanted.offset < answer.log_start || wanted.offset > reader.log_end() {
            return Err(ErrorCode::OffsetOutOfRange.into());
        }
        if wanted.offset >= bound {
            answer.at_bound = true;
            return Ok(());
        }
        let slice = reader.read(wanted.offset, wanted.bytes_max, bound, wanted.at_least_one)?;
        if committed && !slice.is_empty() {
            let aborted = reader.aborted_in_slice(wanted.offset, &slice)?;
            let pairs = aborted
                .iter()
                .map(|txn| (txn.producer_id, txn.first_offset));
            answer.aborted = Some(pairs.collect());
        }
        answer.slice = slice.file.filter(|file| file.length > 0);
        Ok(())
    }

    fn divergence(
        &self,
        wanted: Wanted,
        log_start: Offset,
    ) -> Result<Option<Divergence>, ErrorCode> {
        if wanted.last_fetched_epoch < 0 {
            return Ok(None);
        }
        let asked = Epoch(wanted.last_fetched_epoch);
        let found = self.reader().end_offset_for_epoch(asked);
        let Some((epoch, end_offset)) = found else {
            return Err(ErrorCode::OffsetOutOfRange);
        };
        if wanted.offset < log_start {
            return Err(ErrorCode::OffsetOutOfRange);
        }
        let differs = epoch < asked || end_offset < wanted.offset;
        Ok(differs.then_some(Divergence { epoch, end_offset }))
    }
}
