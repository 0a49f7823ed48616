//! One segment: a log file with its indexes. The writer appends; readers find batches by offset or timestamp without
//! a lock on the data path.

mod handle;
mod offset_index;
pub(crate) mod scan;
mod search;
mod time_index;
mod txn_index;
mod write;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use milena_base::{Offset, Timestamp};
use milena_disk::{Disk, File, OpenMode};

use crate::error::Fault;
use crate::names::{CLEANED, DELETED, FileKind};
use crate::options::LogOptions;
use handle::Handle;
use offset_index::OffsetIndex;
pub use offset_index::{OFFSET_ENTRY_BYTES, OffsetEntry, parse_offset_index};
use scan::{BatchView, Scan, SmallWindow};
use time_index::TimeIndex;
pub use time_index::{TIME_ENTRY_BYTES, TimeEntry, parse_time_index};
pub use txn_index::{AbortedTxn, TXN_ENTRY_BYTES, parse_txn_index};
pub(crate) use write::{Appended, Appender};

/// Where a log lives: shared by its writer, its readers and its segments.
#[derive(Debug)]
pub(crate) struct Env {
    pub disk: Arc<dyn Disk>,
    pub dir: PathBuf,
}

impl Env {
    pub(crate) fn fault(&self, source: io::Error) -> Fault {
        Fault::new(&self.dir, source)
    }
}

/// Lengths of a segment's files, as the directory lists them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FileLens {
    pub log: u64,
    pub offset_index: Option<u64>,
    pub time_index: Option<u64>,
    pub txn_index: u64,
}

#[derive(Debug)]
pub(crate) struct Segment {
    env: Arc<Env>,
    base: Offset,
    /// A cleaner's output, whose files have the names of one.
    is_cleaned: AtomicBool,
    /// The log file is longer than what was appended: zeros, until the segment is sealed (`preallocate`).
    has_room: AtomicBool,
    /// The next offset relative to `base` in the upper half, the length of the log file in the lower: one word, so
    /// that readers see a pair that belongs together.
    end: AtomicU64,
    log: Handle,
    offsets: OffsetIndex,
    offsets_file: Handle,
    times: Mutex<TimeIndex>,
    times_file: Handle,
    txns_len: AtomicU32,
    txns_file: Handle,
}

/// A batch found in a segment's file.
pub(crate) type Found = BatchView;

impl Segment {
    /// A segment whose files are there. Nothing is read: `next` is the offset behind its last record.
    pub(crate) fn of_files(env: &Arc<Env>, base: Offset, lens: FileLens, next: Offset) -> Segment {
        let segment = Segment {
            env: Arc::clone(env),
            base,
            is_cleaned: AtomicBool::new(false),
            has_room: AtomicBool::new(false),
            end: AtomicU64::new(0),
            log: Handle::default(),
            offsets: OffsetIndex::of_len(lens.offset_index.unwrap_or(0)),
            offsets_file: Handle::default(),
            times: Mutex::new(TimeIndex::of_len(lens.time_index.unwrap_or(0))),
            times_file: Handle::default(),
            txns_len: AtomicU32::new(lens.txn_index as u32),
            txns_file: Handle::default(),
        };
        segment.set_end(next, lens.log as u32);
        segment
    }

    /// Makes the files of an empty segment; the log file gets its full size at once where `preallocate` says so.
    pub(crate) fn create(
        env: &Arc<Env>,
        base: Offset,
        options: &LogOptions,
    ) -> io::Result<Segment> {
        let path = FileKind::TxnIndex.path(&env.dir, base);
        if env.disk.stat(&path)?.is_some() {
            env.disk.remove_file(&path)?;
        }
        let empty = |kind: FileKind| {
            let file = env
                .disk
                .open(&kind.path(&env.dir, base), OpenMode::Create)?;
            if file.len()? > 0 {
                file.set_len(0)?;
            }
            Ok::<_, io::Error>(file)
        };
        let mut segment = Segment::of_files(env, base, FileLens::default(), base);
        empty(FileKind::OffsetIndex)?;
        empty(FileKind::TimeIndex)?;
        let log = empty(FileKind::Log)?;
        if options.preallocate {
            log.set_len(options.segment_bytes.into())?;
            segment.has_room.store(true, Ordering::Release);
        }
        segment.log = Handle::opened(log);
        Ok(segment)
    }

    /// Makes the files of an empty segment that a cleaner fills, over those that an interrupted one left.
    pub(crate) fn create_cleaned(env: &Arc<Env>, base: Offset) -> io::Result<Segment> {
        let segment = Segment::of_files(env, base, FileLens::default(), base);
        segment.is_cleaned.store(true, Ordering::Release);
        segment.remove_cleaned()?;
        for kind in [FileKind::Log, FileKind::OffsetIndex, FileKind::TimeIndex] {
            let path = segment.path(kind);
            let file = env.disk.open(&path, OpenMode::CreateNew)?;
            segment.handle(kind).get(|| Ok(file))?;
        }
        Ok(segment)
    }

    /// Removes the files of a cleaner's output.
    pub(crate) fn remove_cleaned(&self) -> io::Result<()> {
        for kind in FileKind::OF_SEGMENT {
            match self.env.disk.remove_file(&self.path(kind)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// The cleaner's output has got the names of a segment.
    pub(crate) fn set_in_place(&self) {
        self.is_cleaned.store(false, Ordering::Release);
    }

    fn handle(&self, kind: FileKind) -> &Handle {
        match kind {
            FileKind::OffsetIndex => &self.offsets_file,
            FileKind::TimeIndex => &self.times_file,
            FileKind::TxnIndex => &self.txns_file,
            FileKind::Log | FileKind::ProducerSnapshot => &self.log,
        }
    }

    /// Opens what readers of this segment may need, for as long as it is in anybody's view: its names will belong to
    /// other files.
    pub(crate) fn pin_files(&self) -> io::Result<()> {
        for kind in FileKind::OF_SEGMENT {
            let has_aborted = self.txns_len.load(Ordering::Acquire) > 0;
            if kind != FileKind::TxnIndex || has_aborted {
                self.handle(kind).pin(|| self.open(kind))?;
            }
        }
        Ok(())
    }

    /// Bytes of the offset index and of the time index.
    pub(crate) fn index_bytes(&self) -> (u64, u64) {
        let times = u64::from(self.times().count()) * TIME_ENTRY_BYTES as u64;
        (self.offsets.len_bytes(), times)
    }

    /// Where in the file a walk that is to see `offset` may begin: at a batch, not behind the one that holds it.
    pub(crate) fn position_near(&self, offset: Offset) -> io::Result<u32> {
        Ok(self.scan_near(offset, self.size())?.position())
    }

    /// The largest timestamp of the first batch; `None` where there is no batch.
    pub(crate) fn first_timestamp(&self) -> io::Result<Option<Timestamp>> {
        let mut scan = Scan::small(self.log_file()?, 0, self.size());
        Ok(scan.next()?.map(|batch| batch.max_timestamp))
    }

    pub(crate) fn base(&self) -> Offset {
        self.base
    }

    /// The offset behind the last record and the length of the log file, as one.
    pub(crate) fn end(&self) -> (Offset, u32) {
        let word = self.end.load(Ordering::Acquire);
        (self.base + (word >> 32) as i64, word as u32)
    }

    pub(crate) fn next_offset(&self) -> Offset {
        self.end().0
    }

    pub(crate) fn size(&self) -> u32 {
        self.end().1
    }

    fn set_end(&self, next: Offset, size: u32) {
        let relative = (next - self.base) as u64;
        self.end
            .store(relative << 32 | u64::from(size), Ordering::Release);
    }

    /// `offset` relative to the base, where an index can hold it.
    pub(crate) fn relative(&self, offset: Offset) -> Option<u32> {
        let relative = offset - self.base;
        (0..=i64::from(i32::MAX))
            .contains(&relative)
            .then_some(relative as u32)
    }

    pub(crate) fn path(&self, kind: FileKind) -> PathBuf {
        let path = kind.path(&self.env.dir, self.base);
        match self.is_cleaned.load(Ordering::Acquire) {
            true => suffixed(&path, CLEANED),
            false => path,
        }
    }

    fn open(&self, kind: FileKind) -> io::Result<Arc<dyn File>> {
        self.env.disk.open(&self.path(kind), OpenMode::ReadWrite)
    }

    pub(crate) fn log_file(&self) -> io::Result<Arc<dyn File>> {
        self.log.get(|| self.open(FileKind::Log))
    }

    fn offsets_file(&self) -> io::Result<Arc<dyn File>> {
        self.offsets_file.get(|| {
            let path = self.path(FileKind::OffsetIndex);
            self.env.disk.open(&path, OpenMode::Create)
        })
    }

    fn times_file(&self) -> io::Result<Arc<dyn File>> {
        self.times_file.get(|| {
            let path = self.path(FileKind::TimeIndex);
            self.env.disk.open(&path, OpenMode::Create)
        })
    }

    fn times(&self) -> MutexGuard<'_, TimeIndex> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn loaded_times(&self) -> io::Result<MutexGuard<'_, TimeIndex>> {
        let mut times = self.times();
        if !times.is_loaded() {
            times.load(&*self.times_file()?)?;
        }
        Ok(times)
    }

    /// The first batch that holds `offset` or anything behind it, below the file position `end`.
    pub(crate) fn find(&self, offset: Offset, end: u32) -> io::Result<Option<Found>> {
        let mut scan = self.scan_near(offset, end)?;
        while let Some(batch) = scan.next()? {
            if batch.last_offset >= offset {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }

    /// A walk that begins shortly before `offset`. The index is only a hint: where its entry does not point at the
    /// batch it names the walk begins at the front.
    fn scan_near(&self, offset: Offset, end: u32) -> io::Result<Scan<SmallWindow>> {
        let relative = (offset - self.base).clamp(0, i64::from(i32::MAX)) as u32;
        let entry = self.index_entry(self.offsets.floor(relative, || self.offsets_file()))?;
        let file = self.log_file()?;
        if let Some(entry) = entry.filter(|entry| entry.position < end) {
            let scan = Scan::small(Arc::clone(&file), entry.position, end);
            if let Some(scan) = self.if_at(scan, entry)? {
                return Ok(scan);
            }
        }
        Ok(Scan::small(file, 0, end))
    }

    /// The walk as it came, if the batch it begins with is the one that the entry names.
    fn if_at(
        &self,
        mut scan: Scan<SmallWindow>,
        entry: OffsetEntry,
    ) -> io::Result<Option<Scan<SmallWindow>>> {
        match scan.step()? {
            scan::Step::Batch(batch) if batch.last_offset == entry.offset(self.base) => {
                scan.go_to(entry.position);
                Ok(Some(scan))
            }
            _ => Ok(None),
        }
    }

    /// An index that is shorter than it was says nothing.
    fn index_entry<T>(&self, entry: io::Result<Option<T>>) -> io::Result<Option<T>> {
        match entry {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            other => other,
        }
    }

    /// The offset behind the last batch of a file of `size` bytes, found from the last index entry on. `None` where
    /// the index or the end of the file is not as it should be.
    pub(crate) fn read_next_offset(&self, size: u32) -> io::Result<Option<Offset>> {
        if size == 0 {
            return Ok((self.offsets.count() == 0).then_some(self.base));
        }
        let last = self.index_entry(self.offsets.last(|| self.offsets_file()))?;
        let start = last.map_or(0, |entry| entry.position);
        if start >= size || last.is_none() && self.offsets.count() > 0 {
            return Ok(None);
        }
        let scan = Scan::small(self.log_file()?, start, size);
        let scan = match last {
            Some(entry) => self.if_at(scan, entry)?,
            None => Some(scan),
        };
        let Some(mut scan) = scan else {
            return Ok(None);
        };
        let (mut next, mut end) = (self.base, start);
        loop {
            match scan.step()? {
                scan::Step::Batch(batch) => {
                    next = batch.last_offset + 1;
                    end = batch.end();
                }
                scan::Step::End => return Ok((end == size).then_some(next)),
                scan::Step::Corrupt => return Ok(None),
            }
        }
    }

    pub(crate) fn set_next_offset(&self, next: Offset) {
        self.set_end(next, self.size());
    }

    /// The largest timestamp of a record, and the last offset of the batch that has it.
    pub(crate) fn largest_timestamp(&self) -> io::Result<Option<(Timestamp, Offset)>> {
        let largest = self.loaded_times()?.largest();
        Ok(largest.map(|entry| (entry.timestamp, entry.offset(self.base))))
    }

    /// The largest timestamp or, without timestamps, when the file was last written: what retention goes by.
    pub(crate) fn age_timestamp(&self) -> io::Result<Timestamp> {
        if let Some((timestamp, _)) = self.largest_timestamp()? {
            return Ok(timestamp);
        }
        let stat = self.env.disk.stat(&self.path(FileKind::Log))?;
        Ok(stat.map_or(Timestamp::NONE, |stat| stat.modified))
    }

    /// The batches that may hold the first record with a timestamp of at least `timestamp` and an offset of at least
    /// `from`.
    pub(crate) fn scan_for_timestamp(
        &self,
        timestamp: Timestamp,
        from: Offset,
    ) -> io::Result<Scan<SmallWindow>> {
        let times = self.loaded_times()?;
        let entry = self.index_entry(times.floor(timestamp, || self.times_file()))?;
        drop(times);
        let near = entry.map_or(self.base, |entry| entry.offset(self.base));
        self.scan_from(near.max(from))
    }

    /// The batches from shortly before `offset` on.
    pub(crate) fn scan_from(&self, offset: Offset) -> io::Result<Scan<SmallWindow>> {
        self.scan_near(offset, self.size())
    }

    /// The batches from shortly before `offset` on, up to the position `end`, in large reads.
    pub(crate) fn sweep_from(&self, offset: Offset, end: u32) -> io::Result<Scan<Vec<u8>>> {
        let start = self.scan_near(offset, end)?.position();
        Ok(Scan::large(self.log_file()?, start, end))
    }

    /// An offset that a slice of the file up to `position` certainly does not reach beyond.
    pub(crate) fn upper_bound_at(&self, position: u64) -> io::Result<Option<Offset>> {
        let entry = self
            .offsets
            .first_at_position(position, || self.offsets_file())?;
        Ok(entry.map(|entry| entry.offset(self.base)))
    }

    /// The aborted transactions whose markers are in this segment.
    pub(crate) fn aborted_txns(&self) -> io::Result<Vec<AbortedTxn>> {
        let length = self.txns_len.load(Ordering::Acquire) as usize;
        if length < TXN_ENTRY_BYTES {
            return Ok(Vec::new());
        }
        let mut bytes = vec![0; length];
        let file = self.txns_file.get(|| self.open(FileKind::TxnIndex))?;
        file.read_exact_at(&mut bytes, 0)?;
        parse_txn_index(&bytes)
            .map_err(|malformed| io::Error::new(io::ErrorKind::InvalidData, malformed))
    }

    /// Closes the files that nobody has used since the last call.
    pub(crate) fn close_idle_files(&self) {
        for handle in [
            &self.log,
            &self.offsets_file,
            &self.times_file,
            &self.txns_file,
        ] {
            handle.close_if_idle();
        }
    }

    pub(crate) fn close_files(&self) {
        for handle in [
            &self.log,
            &self.offsets_file,
            &self.times_file,
            &self.txns_file,
        ] {
            handle.close();
        }
    }

    /// The files that a flush of this segment has to sync; only those that exist.
    pub(crate) fn files_to_sync(&self) -> io::Result<Vec<Arc<dyn File>>> {
        let mut files = vec![self.log_file()?, self.offsets_file()?, self.times_file()?];
        if self.txns_len.load(Ordering::Acquire) > 0 {
            files.push(self.txns_file.get(|| self.open(FileKind::TxnIndex))?);
        }
        Ok(files)
    }
}

/// Renames these files of a segment to `.deleted`; they are removed later, by [`remove_files`]. Returns the new names.
pub(crate) fn rename_to_deleted(
    env: &Env,
    base: Offset,
    kinds: &[FileKind],
) -> io::Result<Vec<PathBuf>> {
    let mut renamed = Vec::new();
    for kind in kinds {
        let path = kind.path(&env.dir, base);
        let target = deleted_name(&path);
        match env.disk.rename(&path, &target) {
            Ok(()) => renamed.push(target),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(renamed)
}

/// Removes the files that [`Log::take_due_deletions`](crate::Log::take_due_deletions) names. Needs no lock. A file
/// that is gone already is passed over: the same offset may have been deleted twice.
pub fn remove_files(disk: &dyn Disk, paths: &[PathBuf]) -> io::Result<()> {
    for path in paths {
        match disk.remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

pub(crate) fn deleted_name(path: &Path) -> PathBuf {
    suffixed(path, DELETED)
}

pub(crate) fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(suffix);
    PathBuf::from(name)
}
