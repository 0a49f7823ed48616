//! Disks that fail under replicas: one directory of several, and all that a node had.

use std::fs;

use super::cluster::{Client, Cluster};
use super::network::Network;
use super::records::{batch, produce};
use crate::cluster::until;
use crate::wire::Wire;

const TOPIC: &str = "kept";
/// Some more than a segment's least size.
const SEGMENT_BYTES: usize = 1 << 20;
const NO_PRODUCER: (i64, i16) = (-1, -1);

/// One batch of the numbers from `first` on, acknowledged by all replicas.
fn write(client: &Client, first: i64, count: i64) {
    until("an acknowledged batch", || {
        let (_, leader) = client.leader(TOPIC, 0)?;
        let request = produce(TOPIC, 0, &batch(NO_PRODUCER, first, count), -1);
        let answer = Wire::try_connect(&leader)?.try_call(&request, 9)?;
        (answer.responses[0].partition_responses[0].error_code == 0).then_some(())
    });
}

/// A replica's directory is gone under a running leader. It finds out when it begins the next segment: the other
/// directory goes on, and another broker leads.
#[test]
fn leaders_move_away_from_a_failed_directory() {
    let mut cluster = Cluster::start_each(Network::Loopback, |home| {
        let second = home.path().join("second");
        fs::create_dir(&second).expect("a second directory");
        let both = format!("{},{}", home.data().display(), second.display());
        home.with("log.dirs", &both)
            .with("metadata.log.dir", &home_of_metadata(&both))
            .with("log.segment.bytes", &SEGMENT_BYTES.to_string())
    });
    let client = cluster.client();
    let topics: Vec<&[i32]> = vec![&[1, 2, 3]; 2];
    client.create_topic(TOPIC, &topics, 2);
    let home = &cluster.homes[0];
    let second = home.path().join("second");
    // Of two partitions each directory gets one; the other one's is the metadata log's.
    let partition = i32::from(second.join(format!("{TOPIC}-1")).exists());
    let lost = second.join(format!("{TOPIC}-{partition}"));
    assert!(lost.exists(), "{} is there", lost.display());
    fs::remove_dir_all(&second).expect("it is removed");
    let long = vec![b'x'; SEGMENT_BYTES / 2];
    until("another leads", || {
        let (leader, at) = client.leader(TOPIC, partition)?;
        if leader != 1 {
            return Some(());
        }
        let records = crate::wire::batch(&[&long], 1_700_000_000_000, milena_records::Codec::NONE);
        Wire::connect(&at).try_call(&produce(TOPIC, partition, &records, -1), 9);
        None
    });
    // The broker is alive, and leads what lies in its other directory.
    let (partitions, nodes) = until("the topic", || client.topic(TOPIC));
    assert!(nodes.contains_key(&1));
    assert_eq!(partitions[1 - partition as usize].leader_id, 1);
    let failed = &partitions[partition as usize];
    assert!(!failed.isr_nodes.contains(&1), "{failed:?}");
    assert_eq!(failed.offline_replicas, [1]);
    assert!(cluster.homes[0].log().contains("second is offline"));
    cluster.kill_all();
    println!(
        "directory lost: partition {partition} moved from 1 to {}",
        failed.leader_id
    );
}

/// The first of two directories.
fn home_of_metadata(both: &str) -> String {
    let first = both.split(',').next();
    first.expect("there are two").to_owned()
}

/// A node loses its disk and is formatted anew: it copies everything.
#[test]
fn a_replica_that_lost_its_disk_copies_everything() {
    let mut cluster = Cluster::start();
    let client = cluster.client();
    client.create_topic(TOPIC, &[&[1, 2, 3]], 2);
    write(&client, 0, 500);
    cluster.kill(1);
    cluster.lose_disk(1);
    write(&client, 500, 500);
    cluster.restart(1);
    until("in sync again", || client.all_in_sync(TOPIC));
    write(&client, 1000, 10);
    until("in sync", || client.all_in_sync(TOPIC));
    cluster.kill_all();
    let total = super::assert_kept_once(&cluster, TOPIC, &[1010]);
    println!("disk lost: {total} records copied to the empty replica, none lost");
}
