//! The `meta.properties` of several directories together: they name one cluster and one node, and no directory id twice.
//! Kafka class `MetaPropertiesEnsemble`.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use milena_base::{BrokerId, Uuid};
use milena_disk::{Disk, read_all};
use milena_log::meta_properties::{self, MetaProperties};
use milena_raft::Fault;

/// A `meta.properties` is a few lines.
const BYTES_MAX: u64 = 1 << 20;

/// Directories by what is in them.
#[derive(Clone, Debug, Default)]
pub struct Ensemble {
    pub formatted: Vec<(PathBuf, MetaProperties)>,
    /// Without `meta.properties`, or not there at all.
    pub empty: Vec<PathBuf>,
}

impl Ensemble {
    /// Reads every directory's file. One that can't be read is a fault: what it holds is not known.
    pub fn load(disk: &dyn Disk, directories: &[PathBuf]) -> Result<Ensemble, Fault> {
        let mut ensemble = Ensemble::default();
        for dir in directories {
            let path = dir.join(meta_properties::FILE);
            match read(disk, &path).map_err(|error| Fault::io(path.display().to_string(), error))? {
                Some(meta) => ensemble.formatted.push((dir.clone(), meta)),
                None => ensemble.empty.push(dir.clone()),
            }
        }
        Ok(ensemble)
    }

    /// Whether one of the directories has this id.
    pub fn has_directory_id(&self, id: Uuid) -> bool {
        self.formatted
            .iter()
            .any(|(_, meta)| meta.directory_id == Some(id))
    }

    /// The cluster that the directories belong to.
    pub fn cluster_id(&self) -> Option<&str> {
        self.formatted
            .iter()
            .find_map(|(_, meta)| meta.cluster_id.as_deref())
    }
}

fn read(disk: &dyn Disk, path: &Path) -> io::Result<Option<MetaProperties>> {
    let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
    let Some(bytes) = read_all(disk, path, BYTES_MAX)? else {
        return Ok(None);
    };
    let text = String::from_utf8(bytes).map_err(|_| invalid("not UTF-8".to_owned()))?;
    let meta = MetaProperties::parse(&text).map_err(|error| invalid(error.to_string()))?;
    Ok(Some(meta))
}

/// Whether the formatted directories agree with each other and with what is expected; the sentence that says where they
/// don't.
pub fn verify(
    ensemble: &Ensemble,
    cluster: Option<&str>,
    node: Option<BrokerId>,
) -> Result<(), String> {
    let mut cluster = cluster.map(str::to_owned);
    let mut node = node;
    let mut ids: BTreeMap<Uuid, &Path> = BTreeMap::new();
    for (dir, meta) in &ensemble.formatted {
        let path = dir.join(meta_properties::FILE);
        let path = path.display();
        match (&meta.cluster_id, &cluster) {
            (None, _) if meta.version >= 1 => {
                return Err(format!(
                    "cluster.id was not specified in the v1 file: {path}"
                ));
            }
            (Some(read), Some(expected)) if read != expected => {
                return Err(format!(
                    "Invalid cluster.id in: {path}. Expected {expected}, but read {read}"
                ));
            }
            (read, _) => cluster = cluster.or_else(|| read.clone()),
        }
        match (meta.node_id, node) {
            (None, _) if meta.version >= 1 => {
                return Err(format!("node.id was not specified in {path}"));
            }
            (Some(read), Some(expected)) if read != expected => {
                return Err(format!(
                    "Stored node id {read} doesn't match previous node id {expected} in {path}. If you moved your data, make \
                     sure your configured node id matches. If you intend to create a new node, you should remove all data in \
                     your data directories."
                ));
            }
            (read, _) => node = node.or(read),
        }
        if let Some(id) = meta.directory_id
            && let Some(other) = ids.insert(id, dir)
        {
            return Err(format!(
                "Duplicate directory ID {id} found. It was the ID of {}, but also of {}",
                other.display(),
                dir.display()
            ));
        }
    }
    Ok(())
}

/// Makes a directory and makes its name, and those of the parents that were made with it, durable.
pub(super) fn make_durable(disk: &dyn Disk, dir: &Path) -> Result<(), Fault> {
    let make = || -> io::Result<()> {
        let mut parents = Vec::new();
        let mut at = dir;
        while let Some(parent) = at.parent() {
            parents.push(parent);
            if disk.stat(parent)?.is_some() {
                break;
            }
            at = parent;
        }
        disk.create_dir_all(dir)?;
        parents
            .into_iter()
            .try_for_each(|parent| disk.sync_dir(parent))
    };
    make().map_err(|error| Fault::io(dir.display().to_string(), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(cluster: &str, node: i32, directory: u64) -> MetaProperties {
        MetaProperties {
            version: 1,
            cluster_id: Some(cluster.to_owned()),
            node_id: Some(BrokerId(node)),
            directory_id: Some(Uuid::from_parts(5, directory)),
        }
    }

    #[test]
    fn directories_have_to_agree() {
        let with = |second: MetaProperties| Ensemble {
            formatted: vec![("/a".into(), meta("c", 1, 1)), ("/b".into(), second)],
            empty: Vec::new(),
        };
        assert_eq!(
            verify(&with(meta("c", 1, 2)), Some("c"), Some(BrokerId(1))),
            Ok(())
        );
        assert_eq!(verify(&with(meta("c", 1, 2)), None, None), Ok(()));
        for (second, word) in [
            (meta("d", 1, 2), "cluster.id"),
            (meta("c", 2, 2), "node id"),
            (meta("c", 1, 1), "Duplicate"),
        ] {
            let refused = verify(&with(second), None, None).unwrap_err();
            assert!(refused.contains(word), "{refused}");
        }
        let refused = verify(&with(meta("c", 1, 2)), Some("x"), None).unwrap_err();
        assert!(refused.contains("Expected x, but read c"), "{refused}");
    }
}
