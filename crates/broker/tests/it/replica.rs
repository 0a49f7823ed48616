//! A lone replica over real files of a disk, with its effects carried out.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use milena_base::{BrokerId, Epoch, Now, Offset, Prng, Uuid};
use milena_broker::format::{FormatRequest, InitialControllers};
use milena_broker::metadata_log::{
    MetadataLog, MetadataLogOptions, SnapshotWriter, metadata_partition_dir, read_quorum_state,
    write_quorum_state,
};
use milena_disk::{Disk, read_all};
use milena_log::meta_properties::MetaProperties;
use milena_raft::{
    Appended, Effect, Endpoint, Event, Fault, NotAppended, Raft, RaftConfig, ReplicaKey,
    SnapshotId, Voter, VoterSet, walk,
};

pub const CLUSTER: &str = "AAAAAAAAAAAAAAAAAAABzg";

pub fn at(millis: u64) -> Now {
    Now::from_millis(millis, 1_795_440_000_000 + millis as i64)
}

pub fn request(dir: &Path, initial_controllers: InitialControllers) -> FormatRequest {
    FormatRequest {
        node: BrokerId(1),
        cluster_id: CLUSTER.to_owned(),
        log_dirs: vec![dir.join("one"), dir.join("two")],
        metadata_dir: dir.join("one"),
        is_controller: true,
        has_static_voters: initial_controllers == InitialControllers::Unspecified,
        controller_listener: "CONTROLLER".to_owned(),
        controller_endpoint: Some(("127.0.0.1".to_owned(), 29193)),
        initial_controllers,
        release_version: None,
        features: Vec::new(),
        ignore_formatted: false,
        scram: Vec::new(),
    }
}

/// The node's replica, and what it has promised.
pub struct Replica {
    pub raft: Raft,
    disk: Arc<dyn Disk>,
    partition: PathBuf,
    pub committed: Offset,
    pub active: Option<Epoch>,
}

impl Replica {
    /// Opens a formatted directory. `segment_bytes` small rolls often.
    pub fn open(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        segment_bytes: u32,
        now: Now,
    ) -> Result<Replica, Fault> {
        let log_dir = dir.join("one");
        let options = MetadataLogOptions {
            segment_bytes,
            ..MetadataLogOptions::default()
        };
        let (log, _) = MetadataLog::open(Arc::clone(disk), &log_dir, options, now)?;
        let partition = metadata_partition_dir(&log_dir);
        let stored = read_quorum_state(&**disk, &partition)?;
        let mut config = RaftConfig::new(BrokerId(1), directory_id(&**disk, &log_dir), CLUSTER);
        config.endpoints = vec![Endpoint {
            name: "CONTROLLER".into(),
            host: "127.0.0.1".into(),
            port: 29193,
        }];
        config.static_voters = VoterSet::new([Voter {
            key: ReplicaKey {
                id: BrokerId(1),
                directory: None,
            },
            endpoints: config.endpoints.clone(),
            kraft_versions: (0, 1),
        }]);
        let mut effects = Vec::new();
        let raft = Raft::open(
            config,
            Box::new(log),
            stored,
            Prng::new(3),
            now,
            &mut effects,
        )?;
        let mut replica = Replica {
            raft,
            disk: Arc::clone(disk),
            partition,
            committed: Offset::ZERO,
            active: None,
        };
        replica.carry_out(effects, now)?;
        Ok(replica)
    }

    fn carry_out(&mut self, effects: Vec<Effect>, now: Now) -> Result<(), Fault> {
        let mut flush = false;
        for effect in effects {
            match effect {
                Effect::Persist(bytes) => write_quorum_state(&*self.disk, &self.partition, &bytes)?,
                Effect::Flush => flush = true,
                Effect::Committed { high_watermark } => {
                    assert!(high_watermark >= self.committed);
                    self.committed = high_watermark;
                }
                Effect::Active { epoch, .. } => self.active = Some(epoch),
                Effect::Leader(_) => {}
                other => panic!("{other:?}"),
            }
        }
        if flush {
            let mut effects = Vec::new();
            self.raft.flush(now, &mut effects)?;
            self.carry_out(effects, now)?;
        }
        Ok(())
    }

    pub fn append(&mut self, values: &[Bytes], now: Now) -> Result<Appended, NotAppended> {
        let mut effects = Vec::new();
        let epoch = self.active.expect("a lone voter is active at once");
        let appended = self.raft.append(epoch, values, now, &mut effects)?;
        self.carry_out(effects, now)?;
        Ok(appended)
    }

    /// Takes a snapshot of everything committed.
    pub fn snapshot(&mut self, now: Now) -> Result<SnapshotId, Fault> {
        let id = SnapshotId {
            offset: self.committed,
            epoch: self.raft.log().last_epoch(),
        };
        let values = self.values();
        let mut builder = self.raft.begin_snapshot(id, now.wall, now.wall).unwrap();
        let mut writer = SnapshotWriter::create(Arc::clone(&self.disk), &self.partition, id)?;
        for value in values {
            builder.append(value, now.wall);
            writer.append(&builder.take())?;
        }
        writer.append(&builder.finish(now.wall))?;
        writer.freeze()?;
        let mut effects = Vec::new();
        self.raft
            .step(Event::SnapshotFrozen(id), now, &mut effects)?;
        self.carry_out(effects, now)?;
        Ok(id)
    }

    /// Every committed value: those of the latest snapshot, then those of the log behind it.
    pub fn values(&self) -> Vec<Bytes> {
        let log = self.raft.log();
        let mut values = Vec::new();
        let mut next = log.start_offset();
        if let Some(id) = log.latest_snapshot() {
            let size = log.snapshot_size(id).unwrap().unwrap() as usize;
            for batch in walk(log.read_snapshot(id, 0, size).unwrap()) {
                values.extend(batch.unwrap().values);
            }
            next = id.offset;
        }
        while next < self.committed {
            let before = next;
            for batch in walk(log.read(next, 1 << 16).unwrap()) {
                let batch = batch.unwrap();
                if batch.base_offset >= next {
                    values.extend(batch.values);
                    next = batch.last_offset + 1;
                }
            }
            assert!(next > before, "the log has no batch at {before}");
        }
        values
    }
}

pub fn directory_id(disk: &dyn Disk, log_dir: &Path) -> Uuid {
    let bytes = read_all(disk, &log_dir.join("meta.properties"), 1 << 20)
        .unwrap()
        .unwrap();
    let meta = MetaProperties::parse(std::str::from_utf8(&bytes).unwrap()).unwrap();
    meta.directory_id.unwrap()
}
