//! The machine around the simulated files: faults, counters, the crash that is due, the boot it is in.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::Path;

use milena_base::{Digest, Prng, Timestamp};

use super::content::Keep;
use super::tree::{NodeId, Tree};
use crate::{DiskError, Op};

/// How much of an operation is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    Nothing,
    Part,
    All,
}

/// What becomes of an operation: a share of it is done, then the caller is told this.
pub(super) struct Fate {
    pub share: Share,
    pub error: Option<io::Error>,
}

impl Fate {
    const GOES_WELL: Fate = Fate {
        share: Share::All,
        error: None,
    };
}

/// An error that is due.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub op: Op,
    pub path_part: String,
    pub kind: ErrorKind,
    /// Calls that still fail; `u32::MAX` stands for all.
    pub times: u32,
}

#[derive(Clone, Debug)]
pub(super) struct State {
    pub tree: Tree,
    pub prng: Prng,
    /// Counts restarts; handles and locks of an earlier boot are dead.
    pub boot: u64,
    pub now: Timestamp,
    pub open: BTreeMap<NodeId, u32>,
    pub locked: BTreeSet<NodeId>,
    pub faults: Vec<Fault>,
    pub calls: BTreeMap<Op, u64>,
    pub mutations: u64,
    pub crash_at: Option<u64>,
    pub crashed: Option<String>,
    pub quota: Option<u64>,
    pub sync_lies: bool,
    /// Every change that was asked for, and the bytes written.
    pub digest: Digest,
}

impl State {
    pub fn new(seed: u64) -> State {
        State {
            tree: Tree::new(),
            prng: Prng::new(seed),
            boot: 0,
            now: Timestamp(0),
            open: BTreeMap::new(),
            locked: BTreeSet::new(),
            faults: Vec::new(),
            calls: BTreeMap::new(),
            mutations: 0,
            crash_at: None,
            crashed: None,
            quota: None,
            sync_lies: false,
            digest: Digest::default(),
        }
    }

    /// Counts a call that changes nothing.
    pub fn look(&mut self, op: Op, path: &Path) -> io::Result<()> {
        self.check_power()?;
        *self.calls.entry(op).or_default() += 1;
        match self.due_fault(op, path) {
            Some(kind) => Err(injected(kind)),
            None => Ok(()),
        }
    }

    /// Counts a call that changes something, and says what becomes of it.
    pub fn change(&mut self, op: Op, path: &Path) -> io::Result<Fate> {
        self.check_power()?;
        *self.calls.entry(op).or_default() += 1;
        self.mutations += 1;
        self.digest.word(op as u64);
        self.digest.bytes(path.as_os_str().as_encoded_bytes());
        if self.crash_at == Some(self.mutations) {
            self.crash_at = None;
            self.crashed = Some(format!("{op:?} {}", path.display()));
            let share = match self.prng.below(3) {
                0 => Share::Nothing,
                1 => Share::Part,
                _ => Share::All,
            };
            let error = Some(powerless());
            return Ok(Fate { share, error });
        }
        Ok(match self.due_fault(op, path) {
            Some(kind) => Fate {
                share: Share::Part,
                error: Some(injected(kind)),
            },
            None => Fate::GOES_WELL,
        })
    }

    /// A change that is done wholly or not at all.
    pub fn change_whole(
        &mut self,
        op: Op,
        path: &Path,
        act: impl FnOnce(&mut State) -> io::Result<()>,
    ) -> io::Result<()> {
        let fate = self.change(op, path)?;
        if fate.share == Share::All {
            act(self)?;
        }
        fate.error.map_or(Ok(()), Err)
    }

    fn check_power(&self) -> io::Result<()> {
        match self.crashed {
            Some(_) => Err(powerless()),
            None => Ok(()),
        }
    }

    fn due_fault(&mut self, op: Op, path: &Path) -> Option<ErrorKind> {
        let path = path.to_string_lossy();
        let due = self
            .faults
            .iter()
            .position(|fault| fault.op == op && path.contains(&fault.path_part))?;
        let fault = &mut self.faults[due];
        let kind = fault.kind;
        match fault.times {
            u32::MAX => {}
            0 | 1 => drop(self.faults.remove(due)),
            _ => fault.times -= 1,
        }
        Some(kind)
    }

    pub fn open_nodes(&self) -> BTreeSet<NodeId> {
        self.open.keys().copied().collect()
    }

    /// Bytes that may still be allocated.
    pub fn free(&self) -> u64 {
        match self.quota {
            Some(quota) => quota.saturating_sub(self.tree.used(&self.open_nodes())),
            None => u64::MAX,
        }
    }

    /// How many of `len` bytes at `position` fit under the quota.
    pub fn fitting(&self, id: NodeId, position: u64, len: u64) -> io::Result<u64> {
        if self.quota.is_none() {
            return Ok(len);
        }
        let content = &self.tree.file(id)?.now;
        let room = self.free() / super::content::PAGE;
        let mut fits = len;
        while content.pages_missing(position, fits) > room {
            let last_page = (position + fits - 1) / super::content::PAGE;
            fits = (last_page * super::content::PAGE).saturating_sub(position);
        }
        Ok(fits)
    }

    pub fn close(&mut self, id: NodeId) {
        if let Some(count) = self.open.get_mut(&id) {
            *count -= 1;
            if *count == 0 {
                self.open.remove(&id);
                self.tree.sweep(&self.open_nodes());
            }
        }
    }

    /// The process is gone, and with it handles and locks.
    pub fn restart(&mut self) {
        self.boot += 1;
        self.crash_at = None;
        self.crashed = None;
        self.open.clear();
        self.locked.clear();
        self.tree.sweep(&BTreeSet::new());
    }

    pub fn power_cut(&mut self, pages: Keep, entries: Keep) {
        self.tree.power_cut(pages, entries, &mut self.prng);
        self.restart();
    }
}

pub(super) fn powerless() -> io::Error {
    io::Error::other("the simulated machine has stopped")
}

fn injected(kind: ErrorKind) -> io::Error {
    io::Error::new(kind, "injected fault")
}

pub(super) fn at<'a>(op: Op, path: &'a Path) -> impl Fn(io::Error) -> io::Error + 'a {
    move |source| DiskError::wrap(op, path, source)
}
