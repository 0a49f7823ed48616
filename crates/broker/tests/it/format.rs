//! Formatting, on files.

use std::path::Path;
use std::sync::Arc;

use milena_base::{BrokerId, Prng, Timestamp};
use milena_broker::format::{DirectoryType, FormatRequest, InitialControllers, format};
use milena_broker::metadata_log::bootstrap_records;
use milena_disk::{Disk, OpenMode, SimDisk, read_all};
use milena_protocol::MetadataRecord;

use crate::replica::{Replica, at, directory_id, request};

fn disk() -> Arc<dyn Disk> {
    Arc::new(SimDisk::new(1))
}

fn formatted(disk: &Arc<dyn Disk>, request: &FormatRequest) -> Result<Vec<String>, String> {
    format(
        disk,
        request,
        &mut Prng::new(7),
        Timestamp(1_795_440_615_000),
    )
    .map(|formatted| formatted.lines())
    .map_err(|error| error.to_string())
}

/// Size of the bootstrap snapshot, by what Apache Kafka 4.4.0 wrote for the same request.
fn checkpoint_size(disk: &Arc<dyn Disk>, dir: &Path) -> Option<u64> {
    let name = "00000000000000000000-0000000000.checkpoint";
    let path = dir.join("one/__cluster_metadata-0").join(name);
    disk.stat(&path).unwrap().map(|stat| stat.len)
}

#[test]
fn static_voters() {
    let (disk, dir) = (disk(), Path::new("/data"));
    let lines = formatted(&disk, &request(dir, InitialControllers::Unspecified)).unwrap();
    assert_eq!(
        lines,
        [
            "Bootstrap metadata: BootstrapMetadata(records=[\
             ApiMessageAndVersion(FeatureLevelRecord(name='metadata.version', featureLevel=33) at version 0), \
             ApiMessageAndVersion(FeatureLevelRecord(name='eligible.leader.replicas.version', featureLevel=1) at version 0), \
             ApiMessageAndVersion(FeatureLevelRecord(name='group.version', featureLevel=1) at version 0), \
             ApiMessageAndVersion(FeatureLevelRecord(name='share.version', featureLevel=2) at version 0), \
             ApiMessageAndVersion(FeatureLevelRecord(name='streams.version', featureLevel=1) at version 0), \
             ApiMessageAndVersion(FeatureLevelRecord(name='transaction.version', featureLevel=2) at version 0)], \
             metadataVersionLevel=33, source=format command)",
            "Formatting metadata directory /data/one with metadata.version 4.4-IV2.",
            "Formatting data directory /data/two with metadata.version 4.4-IV2.",
        ]
    );
    assert_eq!(checkpoint_size(&disk, dir), Some(411));
    let records = bootstrap_records(&*disk, &dir.join("one")).unwrap();
    let names: Vec<String> = records
        .iter()
        .map(|record| match MetadataRecord::decode(record).unwrap() {
            MetadataRecord::FeatureLevel(level) => {
                format!("{}={}", level.name, level.feature_level)
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(names.len(), 6);
    assert_eq!(names[0], "metadata.version=33");
    assert!(
        bootstrap_records(&*disk, &dir.join("two"))
            .unwrap()
            .is_empty()
    );
    let meta = read_all(&*disk, &dir.join("two/meta.properties"), 1000)
        .unwrap()
        .unwrap();
    let meta = String::from_utf8(meta).unwrap();
    assert!(
        meta.starts_with("#\n#Mon Nov 23 13:30:15 UTC 2026\nnode.id=1\ndirectory.id="),
        "{meta}"
    );
    assert!(
        meta.ends_with("\nversion=1\ncluster.id=AAAAAAAAAAAAAAAAAAABzg\n"),
        "{meta}"
    );
    assert_ne!(
        directory_id(&*disk, &dir.join("one")),
        directory_id(&*disk, &dir.join("two"))
    );
}

#[test]
fn standalone_votes_with_its_own_directory() {
    let (disk, dir) = (disk(), Path::new("/deep/er/data"));
    let lines = formatted(&disk, &request(dir, InitialControllers::Standalone)).unwrap();
    assert!(lines[1].starts_with("Formatting dynamic metadata voter directory /deep/er/data/one"));
    assert_eq!(checkpoint_size(&disk, dir), Some(494));
    let replica = Replica::open(&disk, dir, 1 << 20, at(0)).unwrap();
    assert_eq!(replica.raft.kraft_version(), 1);
    let voter = replica.raft.voters().get(BrokerId(1)).unwrap();
    assert_eq!(
        voter.key.directory,
        Some(directory_id(&*disk, &dir.join("one")))
    );
    assert_eq!(replica.committed.0, 3, "LeaderChange, KRaftVersion, Voters");
}

#[test]
fn directories_that_are_formatted_are_left_alone() {
    let (disk, dir) = (disk(), Path::new("/data"));
    let mut again = request(dir, InitialControllers::Standalone);
    formatted(&disk, &again).unwrap();
    let id = directory_id(&*disk, &dir.join("one"));
    let refused = formatted(&disk, &again).unwrap_err();
    assert_eq!(
        refused,
        "Log directory /data/one is already formatted. Use --ignore-formatted to ignore this directory and format the others."
    );
    again.ignore_formatted = true;
    let lines = formatted(&disk, &again).unwrap();
    assert_eq!(lines, ["All of the log directories are already formatted."]);
    disk.remove_dir_all(&dir.join("two")).unwrap();
    let lines = formatted(&disk, &again).unwrap();
    assert_eq!(
        lines[1..],
        ["Formatting data directory /data/two with metadata.version 4.4-IV2."]
    );
    assert_eq!(directory_id(&*disk, &dir.join("one")), id);
    again.cluster_id = "another".to_owned();
    let refused = formatted(&disk, &again).unwrap_err();
    assert!(
        refused.contains("Expected another, but read AAAAAAAAAAAAAAAAAAABzg"),
        "{refused}"
    );
    again.cluster_id = crate::replica::CLUSTER.to_owned();
    again.node = BrokerId(2);
    let refused = formatted(&disk, &again).unwrap_err();
    assert!(
        refused.starts_with("Stored node id 1 doesn't match"),
        "{refused}"
    );
}

#[test]
fn the_flags_have_to_fit() {
    let dir = Path::new("/data");
    let with = |change: fn(&mut FormatRequest)| {
        let disk = disk();
        let mut request = request(dir, InitialControllers::Standalone);
        change(&mut request);
        let refused = formatted(&disk, &request).unwrap_err();
        assert_eq!(disk.stat(dir).unwrap(), None, "nothing was written");
        refused
    };
    let refused = with(|r| r.has_static_voters = true);
    assert!(
        refused.starts_with("You cannot specify controller.quorum.voters"),
        "{refused}"
    );
    let refused = with(|r| r.is_controller = false);
    assert_eq!(refused, "You can only use --standalone on a controller.");
    let refused = with(|r| r.initial_controllers = InitialControllers::Unspecified);
    assert!(
        refused.starts_with("Because controller.quorum.voters is not set"),
        "{refused}"
    );
    let refused = with(|r| r.release_version = Some("9.9".to_owned()));
    assert!(
        refused.starts_with("Unknown metadata.version '9.9'."),
        "{refused}"
    );
    let refused = with(|r| {
        r.release_version = Some("3.4".to_owned());
        r.scram = vec!["SCRAM-SHA-256=[name=a,password=b]".to_owned()];
    });
    assert!(refused.starts_with("SCRAM is only supported"), "{refused}");
}

#[test]
fn no_voters_but_a_version_where_they_are_elsewhere() {
    let (disk, dir) = (disk(), Path::new("/data"));
    formatted(&disk, &request(dir, InitialControllers::None)).unwrap();
    // Header and KRaftVersion, 99 bytes, as Apache Kafka writes them.
    assert_eq!(checkpoint_size(&disk, dir), Some(99 + 253 + 75));
    let listed = "1@127.0.0.1:29193:uPYOdvyMTbiwS7CT1Juthg,2@localhost:9:hF4SXCrPyl2i6YyEf8gAKg";
    let other = Path::new("/other");
    let listed = request(other, InitialControllers::Listed(listed.to_owned()));
    formatted(&disk, &listed).unwrap();
    assert_eq!(checkpoint_size(&disk, other), Some(218 + 253 + 75));
    let id = directory_id(&*disk, &other.join("one"));
    assert_eq!(id.to_string(), "uPYOdvyMTbiwS7CT1Juthg");
}

#[test]
fn a_broker_has_no_bootstrap_snapshot() {
    let (disk, dir) = (disk(), Path::new("/data"));
    let mut broker = request(dir, InitialControllers::Unspecified);
    broker.is_controller = false;
    broker.has_static_voters = false;
    let done = format(&disk, &broker, &mut Prng::new(7), Timestamp(1)).unwrap();
    assert_eq!(done.directories[0].1, DirectoryType::StaticMetadata);
    assert_eq!(checkpoint_size(&disk, dir), None);
}

#[test]
fn an_earlier_kafkas_bootstrap_file_is_read() {
    let (disk, dir) = (disk(), Path::new("/data"));
    formatted(&disk, &request(dir, InitialControllers::Unspecified)).unwrap();
    let one = dir.join("one");
    let snapshot = one.join("__cluster_metadata-0/00000000000000000000-0000000000.checkpoint");
    let bytes = read_all(&*disk, &snapshot, 1000).unwrap().unwrap();
    disk.remove_file(&snapshot).unwrap();
    assert!(bootstrap_records(&*disk, &one).unwrap().is_empty());
    let file = disk
        .open(&one.join("bootstrap.checkpoint"), OpenMode::Create)
        .unwrap();
    file.write_all_at(&[&bytes], 0).unwrap();
    assert_eq!(bootstrap_records(&*disk, &one).unwrap().len(), 6);
}
