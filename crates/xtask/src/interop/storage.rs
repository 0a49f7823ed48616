//! A storage directory that goes to and fro: we format it, Apache Kafka starts on it and bootstraps from our snapshot; we
//! open what it wrote, win the next epoch, append and take a snapshot; Apache Kafka starts on that, with and without the
//! log before the snapshot. `kafka-dump-log` reads every file in between.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use milena_base::{BrokerId, Now, Prng, Timestamp};
use milena_broker::format::{FormatRequest, InitialControllers, format};
use milena_broker::metadata_log::{
    MetadataLog, MetadataLogOptions, SnapshotWriter, metadata_partition_dir, read_quorum_state,
    write_quorum_state,
};
use milena_disk::{Disk, OsDisk};
use milena_image::{Loader, Provenance};
use milena_log::meta_properties::MetaProperties;
use milena_protocol::{MetadataRecord, NoOpRecord};
use milena_raft::{
    ControlRecord, Effect, Endpoint, Event, MetadataBatch, Raft, RaftConfig, ReplicaKey, Retention,
    SnapshotId, Voter, VoterSet, walk,
};

use super::java;

/// The release whose tools read what we write (4.4.0 comes without tools).
const TOOLS: &str = "4.3.1";
const START_LIMIT: Duration = Duration::from_secs(60);

pub fn run() -> Result<(), String> {
    for (name, initial) in [
        ("static voters", InitialControllers::Unspecified),
        ("a dynamic quorum of one", InitialControllers::Standalone),
    ] {
        println!("  {name}");
        to_and_fro(initial)?;
    }
    Ok(())
}

fn now() -> Now {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let millis = since.expect("the clock is past 1970").as_millis() as u64;
    Now::from_millis(millis, millis as i64)
}

struct Place {
    /// Removed at the end.
    root: tempfile::TempDir,
    port: u16,
    controller_port: u16,
    is_static: bool,
}

impl Place {
    fn data(&self) -> PathBuf {
        self.root.path().join("data")
    }

    fn partition(&self) -> PathBuf {
        metadata_partition_dir(&self.data())
    }

    fn properties(&self) -> Result<PathBuf, String> {
        let (port, controller_port) = (self.port, self.controller_port);
        let quorum = match self.is_static {
            true => format!("controller.quorum.voters=1@127.0.0.1:{controller_port}"),
            false => format!("controller.quorum.bootstrap.servers=127.0.0.1:{controller_port}"),
        };
        let text = format!(
            "process.roles=broker,controller\nnode.id=1\n{quorum}\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}\n\
             controller.listener.names=CONTROLLER\ninter.broker.listener.name=PLAINTEXT\n\
             listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\n\
             log.dirs={},{}\noffsets.topic.replication.factor=1\n",
            self.data().display(),
            self.root.path().join("data2").display()
        );
        let path = self.root.path().join("server.properties");
        fs::write(&path, text).map_err(|e| e.to_string())?;
        Ok(path)
    }
}

fn to_and_fro(initial: InitialControllers) -> Result<(), String> {
    let [port, controller_port] = milena_testkit::free_ports();
    let place = Place {
        root: milena_testkit::temp_dir(),
        port,
        controller_port,
        is_static: initial == InitialControllers::Unspecified,
    };
    format_place(&place, initial)?;
    kafka_lives(&place, 1)?;
    check_first_records(&place)?;
    we_live(&place, 2, false)?;
    dump(&place)?;
    kafka_lives(&place, 3)?;
    we_live(&place, 4, true)?;
    dump(&place)?;
    kafka_lives(&place, 5)?;
    println!("    5 lives in turn, each in the next epoch");
    Ok(())
}

fn format_place(place: &Place, initial: InitialControllers) -> Result<(), String> {
    let request = FormatRequest {
        node: BrokerId(1),
        cluster_id: "AAAAAAAAAAAAAAAAAAABzg".to_owned(),
        log_dirs: vec![place.data(), place.root.path().join("data2")],
        metadata_dir: place.data(),
        is_controller: true,
        has_static_voters: place.is_static,
        controller_listener: "CONTROLLER".to_owned(),
        controller_endpoint: Some(("127.0.0.1".to_owned(), place.controller_port)),
        initial_controllers: initial,
        release_version: None,
        features: Vec::new(),
        ignore_formatted: false,
        scram: vec!["SCRAM-SHA-256=[name=alice,password=x]".to_owned()],
    };
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    let seed = now().mono.0;
    format(&disk, &request, &mut Prng::new(seed), now().wall).map_err(|e| e.to_string())?;
    Ok(())
}

// ---- Apache Kafka's lives

/// A node that is stopped when it is dropped.
struct Node(u32);

impl Node {
    fn kill(&self, signal: &str) -> bool {
        let status = Command::new("kill")
            .args([signal, &self.0.to_string()])
            .status();
        status.is_ok_and(|status| status.success())
    }

    fn stop(self) -> Result<(), String> {
        let end = Instant::now() + START_LIMIT;
        self.kill("-TERM");
        while Path::new(&format!("/proc/{}", self.0)).exists() {
            if Instant::now() > end {
                return Err("Apache Kafka does not stop".into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if Path::new(&format!("/proc/{}", self.0)).exists() {
            self.kill("-KILL");
        }
    }
}

/// Starts Apache Kafka, waits until its broker is unfenced in this epoch, and stops it.
fn kafka_lives(place: &Place, epoch: i32) -> Result<(), String> {
    let log = place.root.path().join(format!("node{epoch}.log"));
    let pid = java::script(&[
        java::KAFKA,
        "node",
        &place.properties()?.display().to_string(),
        &log.display().to_string(),
    ])?;
    let node = Node(pid.trim().parse().map_err(|_| format!("no pid: {pid}"))?);
    let end = Instant::now() + START_LIMIT;
    loop {
        let leads = batches(place)?
            .iter()
            .any(|batch| batch.epoch.0 == epoch && unfences(batch));
        if leads {
            return node.stop();
        }
        let gone = !Path::new(&format!("/proc/{}", node.0)).exists();
        if gone || Instant::now() > end {
            let said = fs::read_to_string(&log).unwrap_or_default();
            return Err(format!(
                "Apache Kafka did not come up in epoch {epoch} on what we wrote:\n{said}"
            ));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn unfences(batch: &MetadataBatch) -> bool {
    batch.values.iter().any(|value| {
        matches!(
            MetadataRecord::decode(value),
            Ok(MetadataRecord::BrokerRegistrationChange(change)) if change.fenced == -1 && change.broker_epoch >= 0
                && change.in_controlled_shutdown == 0
        )
    })
}

/// Every batch of the log's segments, in order; one that is being written is left out.
fn batches(place: &Place) -> Result<Vec<MetadataBatch>, String> {
    let mut segments: Vec<PathBuf> = fs::read_dir(place.partition())
        .map_err(|e| e.to_string())?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "log"))
        .collect();
    segments.sort();
    let mut all = Vec::new();
    for segment in segments {
        let bytes = fs::read(&segment).unwrap_or_default();
        all.extend(walk(Bytes::from(bytes)).map_while(Result::ok));
    }
    Ok(all)
}

/// Apache Kafka began with what our bootstrap snapshot says, in its order.
fn check_first_records(place: &Place) -> Result<(), String> {
    let batches = batches(place)?;
    let first = batches.first().ok_or("Apache Kafka wrote nothing")?;
    let expected = if place.is_static { 1 } else { 3 };
    if first.control.len() != expected
        || !matches!(first.control[0], ControlRecord::LeaderChange(_))
    {
        return Err(format!("Apache Kafka's first batch: {:?}", first.control));
    }
    let values: Vec<&Bytes> = batches.iter().flat_map(|batch| &batch.values).collect();
    let disk = OsDisk;
    let ours = milena_broker::metadata_log::bootstrap_records(&disk, &place.data());
    let ours = ours.map_err(|e| e.to_string())?;
    // Its transaction begins with a record of its own.
    let taken = values.get(1..=ours.len()).unwrap_or_default();
    if taken.iter().copied().ne(&ours) {
        return Err("Apache Kafka's first records are not those of our bootstrap snapshot".into());
    }
    Ok(())
}

/// `kafka-dump-log` on segments, snapshots and indexes.
fn dump(place: &Place) -> Result<(), String> {
    let entries = fs::read_dir(place.partition()).map_err(|e| e.to_string())?;
    let paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    let readable = |path: &&PathBuf| {
        let extension = path
            .extension()
            .and_then(|e| e.to_str())
            .unwrap_or_default();
        ["log", "index", "timeindex", "checkpoint", "snapshot"].contains(&extension)
    };
    let files: Vec<String> = paths
        .iter()
        .filter(readable)
        .map(|p| p.display().to_string())
        .collect();
    let output = java::script(&[
        TOOLS,
        "tool",
        "kafka-dump-log",
        "--cluster-metadata-decoder",
        "--files",
        &files.join(","),
    ])?;
    let troubles = [
        "isvalid: false",
        "rror",
        "Mismatch",
        "Found timestamp mismatch",
        "xception",
    ];
    if let Some(line) = output
        .lines()
        .find(|line| troubles.iter().any(|t| line.contains(t)))
    {
        return Err(format!("kafka-dump-log: {line}"));
    }
    let batches = output
        .lines()
        .filter(|line| line.starts_with("baseOffset: "))
        .count();
    println!(
        "    kafka-dump-log read {} files, {batches} batches",
        files.len()
    );
    Ok(())
}

// ---- our lives

struct Replica {
    raft: Raft,
    disk: Arc<dyn Disk>,
    partition: PathBuf,
    next: milena_base::Offset,
    active: Option<milena_base::Epoch>,
    loader: Loader,
}

/// Opens what Apache Kafka wrote, wins `epoch`, appends; with `trim` what lies before the snapshot goes.
fn we_live(place: &Place, epoch: i32, trim: bool) -> Result<(), String> {
    let mut replica = Replica::open(place)?;
    let active = replica.active.ok_or("we did not win an epoch")?;
    if active.0 != epoch {
        return Err(format!("we lead epoch {active}, not {epoch}"));
    }
    let value = MetadataRecord::from(NoOpRecord::default())
        .encode(0)
        .expect("version 0");
    let mut effects = Vec::new();
    for _ in 0..20 {
        let appended =
            replica
                .raft
                .append(active, std::slice::from_ref(&value), now(), &mut effects);
        appended.map_err(|e| format!("{e:?}"))?;
    }
    replica.carry_out(effects)?;
    replica.snapshot()?;
    if trim {
        let all = Retention {
            bytes_max: 0,
            age_ms_max: -1,
        };
        let cleaned = all.clean(replica.raft.log_mut(), now());
        if !cleaned.map_err(|e| e.to_string())? {
            return Err("nothing was cleaned".into());
        }
    }
    Ok(())
}

impl Replica {
    fn open(place: &Place) -> Result<Replica, String> {
        let disk: Arc<dyn Disk> = Arc::new(OsDisk);
        let (data, partition) = (place.data(), place.partition());
        let options = MetadataLogOptions::default();
        let (log, _) = MetadataLog::open(Arc::clone(&disk), &data, options, now())
            .map_err(|e| e.to_string())?;
        let stored = read_quorum_state(&*disk, &partition).map_err(|e| e.to_string())?;
        let meta = fs::read_to_string(data.join("meta.properties")).map_err(|e| e.to_string())?;
        let meta = MetaProperties::parse(&meta).map_err(|e| e.to_string())?;
        let directory = meta.directory_id.ok_or("no directory id")?;
        let mut config = RaftConfig::new(BrokerId(1), directory, "AAAAAAAAAAAAAAAAAAABzg");
        config.endpoints = vec![Endpoint {
            name: "CONTROLLER".into(),
            host: "127.0.0.1".into(),
            port: place.controller_port,
        }];
        if place.is_static {
            config.static_voters = VoterSet::new([Voter {
                key: ReplicaKey {
                    id: BrokerId(1),
                    directory: None,
                },
                endpoints: config.endpoints.clone(),
                kraft_versions: (0, 1),
            }]);
        }
        let mut effects = Vec::new();
        let raft = Raft::open(
            config,
            Box::new(log),
            stored,
            Prng::new(1),
            now(),
            &mut effects,
        );
        let mut replica = Replica {
            raft: raft.map_err(|e| e.to_string())?,
            disk,
            partition,
            next: milena_base::Offset::ZERO,
            active: None,
            loader: Loader::default(),
        };
        replica.carry_out(effects)?;
        Ok(replica)
    }

    fn carry_out(&mut self, effects: Vec<Effect>) -> Result<(), String> {
        let mut flush = false;
        for effect in effects {
            match effect {
                Effect::Persist(bytes) => {
                    let written = write_quorum_state(&*self.disk, &self.partition, &bytes);
                    written.map_err(|e| e.to_string())?;
                }
                Effect::Flush => flush = true,
                Effect::Committed { high_watermark } => self.load(high_watermark)?,
                Effect::Active { epoch, .. } => self.active = Some(epoch),
                _ => {}
            }
        }
        if flush {
            let mut effects = Vec::new();
            self.raft
                .flush(now(), &mut effects)
                .map_err(|e| e.to_string())?;
            self.carry_out(effects)?;
        }
        Ok(())
    }

    fn load(&mut self, high_watermark: milena_base::Offset) -> Result<(), String> {
        let log = self.raft.log();
        let latest = log.latest_snapshot().filter(|id| id.offset > self.next);
        if let Some(id) = latest {
            let size = log
                .snapshot_size(id)
                .map_err(|e| e.to_string())?
                .unwrap_or(0);
            let bytes = log
                .read_snapshot(id, 0, size as usize)
                .map_err(|e| e.to_string())?;
            let mut records = Vec::new();
            for batch in walk(bytes) {
                records.extend(decoded(&batch.map_err(|e| e.to_string())?)?);
            }
            let last = provenance(id, now().wall);
            self.loader
                .load_snapshot(records, last)
                .map_err(|e| e.to_string())?;
            self.next = id.offset;
        }
        while self.next < high_watermark {
            let bytes = log.read(self.next, 1 << 20).map_err(|e| e.to_string())?;
            for batch in walk(bytes) {
                let batch = batch.map_err(|e| e.to_string())?;
                if batch.last_offset < self.next {
                    continue;
                }
                let last = Provenance {
                    offset: batch.last_offset,
                    epoch: batch.epoch,
                    timestamp: batch.append_timestamp,
                };
                let loaded = self.loader.load_batch(&decoded(&batch)?, last);
                loaded.map_err(|e| e.to_string())?;
                self.next = batch.last_offset + 1;
            }
        }
        Ok(())
    }

    fn snapshot(&mut self) -> Result<(), String> {
        let id = SnapshotId {
            offset: self.next,
            epoch: self.raft.log().last_epoch(),
        };
        let time = now().wall;
        let builder = self.raft.begin_snapshot(id, time, time);
        let mut builder = builder.map_err(|e| format!("{e:?}"))?;
        let image = self.loader.image();
        let records = image
            .to_records(image.metadata_version())
            .map_err(|e| format!("{e:?}"))?;
        for (record, version) in &records {
            let value = record.encode(*version).map_err(|e| e.to_string())?;
            builder.append(value, time);
        }
        let writer = SnapshotWriter::create(Arc::clone(&self.disk), &self.partition, id);
        let mut writer = writer.map_err(|e| e.to_string())?;
        writer
            .append(&builder.finish(time))
            .map_err(|e| e.to_string())?;
        writer.freeze().map_err(|e| e.to_string())?;
        let mut effects = Vec::new();
        let stepped = self
            .raft
            .step(Event::SnapshotFrozen(id), now(), &mut effects);
        stepped.map_err(|e| e.to_string())
    }
}

fn provenance(id: SnapshotId, timestamp: Timestamp) -> Provenance {
    Provenance {
        offset: id.offset - 1,
        epoch: id.epoch,
        timestamp,
    }
}

fn decoded(batch: &MetadataBatch) -> Result<Vec<MetadataRecord>, String> {
    let values = batch.values.iter();
    values
        .map(|value| MetadataRecord::decode(value).map_err(|e| e.to_string()))
        .collect()
}
