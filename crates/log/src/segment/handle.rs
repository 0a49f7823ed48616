//! A file that is opened when it is first needed and may be closed when it has not been needed for a while, so that
//! ten thousand partitions do not hold fifty thousand descriptors.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use milena_disk::File;

#[derive(Debug, Default)]
pub(crate) struct Handle {
    slot: Mutex<Slot>,
}

#[derive(Debug, Default)]
struct Slot {
    file: Option<Arc<dyn File>>,
    used: bool,
    /// The name belongs to another file now: who still has the segment in view goes on with this one.
    pinned: bool,
}

impl Handle {
    pub(crate) fn opened(file: Arc<dyn File>) -> Handle {
        let handle = Handle::default();
        handle.slot().file = Some(file);
        handle
    }

    /// The open file; `open` is called where there is none.
    pub(crate) fn get(
        &self,
        open: impl FnOnce() -> io::Result<Arc<dyn File>>,
    ) -> io::Result<Arc<dyn File>> {
        let mut slot = self.slot();
        slot.used = true;
        if let Some(file) = &slot.file {
            return Ok(Arc::clone(file));
        }
        let file = open()?;
        slot.file = Some(Arc::clone(&file));
        Ok(file)
    }

    /// Like [`Handle::get`]; from here on the file stays open as long as the handle is there.
    pub(crate) fn pin(&self, open: impl FnOnce() -> io::Result<Arc<dyn File>>) -> io::Result<()> {
        let mut slot = self.slot();
        if slot.file.is_none() {
            slot.file = Some(open()?);
        }
        slot.pinned = true;
        Ok(())
    }

    /// Closes the file if nobody asked for it since the last call.
    pub(crate) fn close_if_idle(&self) {
        let mut slot = self.slot();
        if !std::mem::take(&mut slot.used) && !slot.pinned {
            slot.file = None;
        }
    }

    pub(crate) fn close(&self) {
        let mut slot = self.slot();
        if !slot.pinned {
            slot.file = None;
        }
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
