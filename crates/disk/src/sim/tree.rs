//! The simulated directories: names as seen now, as they stand on the platter, and the changes between.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Component, Path};

use milena_base::{Prng, Timestamp};

use super::content::{Keep, SimFileData};
use crate::DirEntry;

pub(super) type NodeId = u64;
const ROOT: NodeId = 0;

#[derive(Clone, Debug)]
enum Node {
    File(SimFileData),
    Dir(SimDir),
}

#[derive(Clone, Debug, Default)]
struct SimDir {
    now: BTreeMap<String, NodeId>,
    durable: BTreeMap<String, NodeId>,
}

/// A change of names that no sync has confirmed. It is stored wholly or not at all.
#[derive(Clone, Debug)]
enum Change {
    Link(NodeId, String, NodeId),
    Unlink(NodeId, String),
    Rename((NodeId, String), (NodeId, String), NodeId),
}

impl Change {
    fn touches(&self, dir: NodeId) -> bool {
        match self {
            Change::Link(parent, ..) | Change::Unlink(parent, _) => *parent == dir,
            Change::Rename(from, to, _) => from.0 == dir || to.0 == dir,
        }
    }
}

/// All files and directories under `/`.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    nodes: BTreeMap<NodeId, Node>,
    changes: Vec<Change>,
    next: NodeId,
}

impl Tree {
    pub fn new() -> Tree {
        Tree {
            nodes: BTreeMap::from([(ROOT, Node::Dir(SimDir::default()))]),
            changes: Vec::new(),
            next: ROOT + 1,
        }
    }

    /// The node at a path.
    pub fn find(&self, path: &Path) -> io::Result<NodeId> {
        let mut at = ROOT;
        for name in names(path)? {
            at = *self.dir(at)?.now.get(name).ok_or(ErrorKind::NotFound)?;
        }
        Ok(at)
    }

    fn parent_of<'a>(&self, path: &'a Path) -> io::Result<(NodeId, &'a str)> {
        let all = names(path)?;
        let (name, dirs) = all.split_last().ok_or(ErrorKind::InvalidInput)?;
        let mut at = ROOT;
        for dir in dirs {
            at = *self.dir(at)?.now.get(*dir).ok_or(ErrorKind::NotFound)?;
        }
        self.dir(at)?;
        Ok((at, name))
    }

    fn dir(&self, id: NodeId) -> io::Result<&SimDir> {
        match &self.nodes[&id] {
            Node::Dir(dir) => Ok(dir),
            Node::File(_) => Err(ErrorKind::NotADirectory.into()),
        }
    }

    fn dir_mut(&mut self, id: NodeId) -> &mut SimDir {
        match self.nodes.get_mut(&id) {
            Some(Node::Dir(dir)) => dir,
            _ => unreachable!("a change names a directory"),
        }
    }

    pub fn is_dir(&self, id: NodeId) -> bool {
        matches!(self.nodes[&id], Node::Dir(_))
    }

    pub fn file(&self, id: NodeId) -> io::Result<&SimFileData> {
        match &self.nodes[&id] {
            Node::File(file) => Ok(file),
            Node::Dir(_) => Err(ErrorKind::IsADirectory.into()),
        }
    }

    pub fn file_mut(&mut self, id: NodeId) -> io::Result<&mut SimFileData> {
        match self.nodes.get_mut(&id) {
            Some(Node::File(file)) => Ok(file),
            _ => Err(ErrorKind::IsADirectory.into()),
        }
    }

    fn add(&mut self, node: Node, path: &Path) -> io::Result<NodeId> {
        let (parent, name) = self.parent_of(path)?;
        if self.dir(parent)?.now.contains_key(name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let id = self.next;
        self.next += 1;
        self.nodes.insert(id, node);
        self.dir_mut(parent).now.insert(name.to_string(), id);
        self.changes
            .push(Change::Link(parent, name.to_string(), id));
        Ok(id)
    }

    pub fn add_file(&mut self, path: &Path, modified: Timestamp) -> io::Result<NodeId> {
        let mut file = SimFileData::default();
        file.modified = modified;
        self.add(Node::File(file), path)
    }

    pub fn add_dir(&mut self, path: &Path) -> io::Result<NodeId> {
        self.add(Node::Dir(SimDir::default()), path)
    }

    pub fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let id = self.find(from)?;
        let (source, old_name) = self.parent_of(from)?;
        let (target, new_name) = self.parent_of(to)?;
        if to.starts_with(from) {
            return match to == from {
                true => Ok(()),
                false => Err(ErrorKind::InvalidInput.into()),
            };
        }
        if let Some(&replaced) = self.dir(target)?.now.get(new_name) {
            match (self.is_dir(id), self.is_dir(replaced)) {
                (true, false) => return Err(ErrorKind::NotADirectory.into()),
                (false, true) => return Err(ErrorKind::IsADirectory.into()),
                (true, true) if !self.dir(replaced)?.now.is_empty() => {
                    return Err(ErrorKind::DirectoryNotEmpty.into());
                }
                _ => {}
            }
        }
        self.dir_mut(source).now.remove(old_name);
        self.dir_mut(target).now.insert(new_name.to_string(), id);
        self.changes.push(Change::Rename(
            (source, old_name.to_string()),
            (target, new_name.to_string()),
            id,
        ));
        Ok(())
    }

    /// Removes the entry of a file or an empty directory.
    pub fn unlink(&mut self, path: &Path) -> io::Result<()> {
        let id = self.find(path)?;
        let (parent, name) = self.parent_of(path)?;
        if self.is_dir(id) && !self.dir(id)?.now.is_empty() {
            return Err(ErrorKind::DirectoryNotEmpty.into());
        }
        self.dir_mut(parent).now.remove(name);
        self.changes.push(Change::Unlink(parent, name.to_string()));
        Ok(())
    }

    pub fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let dir = self.dir(self.find(path)?)?;
        let entry = |(name, id): (&String, &NodeId)| DirEntry {
            name: name.clone(),
            is_dir: self.is_dir(*id),
            len: self.file(*id).map_or(0, |file| file.now.len),
        };
        Ok(dir.now.iter().map(entry).collect())
    }

    pub fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        let id = self.find(path)?;
        self.dir(id)?;
        let (settled, left): (Vec<_>, Vec<_>) = std::mem::take(&mut self.changes)
            .into_iter()
            .partition(|change| change.touches(id));
        self.changes = left;
        for change in settled {
            self.settle(change);
        }
        Ok(())
    }

    fn settle(&mut self, change: Change) {
        match change {
            Change::Link(dir, name, id) => {
                self.dir_mut(dir).durable.insert(name, id);
            }
            Change::Unlink(dir, name) => {
                self.dir_mut(dir).durable.remove(&name);
            }
            Change::Rename(from, to, id) => {
                let source = &mut self.dir_mut(from.0).durable;
                if source.get(&from.1) == Some(&id) {
                    source.remove(&from.1);
                }
                self.dir_mut(to.0).durable.insert(to.1, id);
            }
        }
    }

    /// Loses what no sync has confirmed, each piece with its own luck.
    pub fn power_cut(&mut self, pages: Keep, entries: Keep, prng: &mut Prng) {
        let changes = std::mem::take(&mut self.changes);
        // A journal loses the last changes; other file systems any of them.
        let in_order = prng.chance(1, 2);
        let mut reached = true;
        for change in changes {
            let kept = entries.one(prng);
            reached = reached && kept;
            if (in_order && reached) || (!in_order && kept) {
                self.settle(change);
            }
        }
        for node in self.nodes.values_mut() {
            match node {
                Node::Dir(dir) => dir.now = dir.durable.clone(),
                Node::File(file) => file.power_cut(pages, prng),
            }
        }
        self.sweep(&BTreeSet::new());
    }

    /// Forgets nodes that no name, no unconfirmed change and no open handle leads to.
    pub fn sweep(&mut self, open: &BTreeSet<NodeId>) {
        let mut reached: BTreeSet<NodeId> = BTreeSet::new();
        let mut todo: Vec<NodeId> = open.iter().copied().chain([ROOT]).collect();
        for change in &self.changes {
            match change {
                Change::Link(dir, _, id) => todo.extend([*dir, *id]),
                Change::Unlink(dir, _) => todo.push(*dir),
                Change::Rename(from, to, id) => todo.extend([from.0, to.0, *id]),
            }
        }
        while let Some(id) = todo.pop() {
            if reached.insert(id)
                && let Some(Node::Dir(dir)) = self.nodes.get(&id)
            {
                todo.extend(dir.now.values().chain(dir.durable.values()));
            }
        }
        self.nodes.retain(|id, _| reached.contains(id));
    }

    /// Bytes allocated to files that have a name now or an open handle.
    pub fn used(&self, open: &BTreeSet<NodeId>) -> u64 {
        let mut todo: Vec<NodeId> = open.iter().copied().chain([ROOT]).collect();
        let mut seen = BTreeSet::new();
        let mut pages = 0;
        while let Some(id) = todo.pop() {
            if !seen.insert(id) {
                continue;
            }
            match &self.nodes[&id] {
                Node::File(file) => pages += file.now.pages_held(),
                Node::Dir(dir) => todo.extend(dir.now.values()),
            }
        }
        pages * super::content::PAGE
    }

    /// Paths of all files, relative to `dir`, with their bytes.
    pub fn files(&self, dir: NodeId, prefix: &str, into: &mut BTreeMap<String, Vec<u8>>) {
        let Node::Dir(dir) = &self.nodes[&dir] else {
            return;
        };
        for (name, id) in &dir.now {
            let path = format!("{prefix}{name}");
            match &self.nodes[id] {
                Node::File(file) => {
                    into.insert(path, file.now.bytes());
                }
                Node::Dir(_) => self.files(*id, &format!("{path}/"), into),
            }
        }
    }
}

fn names(path: &Path) -> io::Result<Vec<&str>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => names.push(name.to_str().ok_or(ErrorKind::InvalidInput)?),
            Component::ParentDir | Component::Prefix(_) => {
                return Err(ErrorKind::InvalidInput.into());
            }
        }
    }
    match path.is_absolute() {
        true => Ok(names),
        false => Err(ErrorKind::InvalidInput.into()),
    }
}
