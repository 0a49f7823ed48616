//! Reading at a replica in one's own rack (KIP-392), and replicas whose copying is throttled (KIP-73).

use milena_base::Uuid;
use milena_protocol::fetch_request::{FetchPartition, FetchTopic};
use milena_protocol::fetch_response::PartitionData;
use milena_protocol::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use milena_protocol::{FetchRequest, IncrementalAlterConfigsRequest, Records, Str};

use super::cluster::{Client, Cluster};
use super::network::Network;
use super::records::{batch, numbers, produce};
use crate::cluster::until;
use crate::node::Home;
use crate::wire::Wire;

const NO_PRODUCER: (i64, i16) = (-1, -1);

fn write(client: &Client, topic: &str, first: i64, count: i64) {
    until("an acknowledged batch", || {
        let (_, leader) = client.leader(topic, 0)?;
        let request = produce(topic, 0, &batch(NO_PRODUCER, first, count), -1);
        let answer = Wire::try_connect(&leader)?.try_call(&request, 9)?;
        (answer.responses[0].partition_responses[0].error_code == 0).then_some(())
    });
}

/// What a reader in this rack gets of the topic's partition 0 from its beginning.
fn fetch(address: &str, topic_id: Uuid, rack: &str) -> PartitionData {
    let request = FetchRequest {
        max_wait_ms: 1000,
        min_bytes: 1,
        max_bytes: 1 << 20,
        session_epoch: -1,
        topics: vec![FetchTopic {
            topic_id,
            partitions: vec![FetchPartition {
                current_leader_epoch: -1,
                last_fetched_epoch: -1,
                partition_max_bytes: 1 << 20,
                ..FetchPartition::default()
            }],
            ..FetchTopic::default()
        }],
        rack_id: Str::copy(rack),
        ..FetchRequest::default()
    };
    let mut answer = Wire::connect(address).call(&request, 13);
    assert_eq!(answer.error_code, 0);
    answer.responses.remove(0).partitions.remove(0)
}

fn read(data: PartitionData) -> Vec<i64> {
    assert_eq!(data.error_code, 0);
    match data.records {
        Some(Records::Bytes(bytes)) => numbers(bytes.to_vec()),
        _ => Vec::new(),
    }
}

#[test]
fn a_reader_reads_in_its_own_rack() {
    let racked = |home: Home| {
        let id = home.properties.get("node.id").expect("it has one");
        let rack = format!("rack-{id}");
        let selector = "org.apache.kafka.common.replica.RackAwareReplicaSelector";
        home.with("broker.rack", &rack)
            .with("replica.selector.class", selector)
    };
    let mut cluster = Cluster::start_each(Network::Loopback, racked);
    let client = cluster.client();
    client.create_topic("near", &[&[1, 2]], 1);
    write(&client, "near", 0, 100);
    let (leader, at_leader) = until("a leader", || client.leader("near", 0));
    assert_eq!(leader, 1);
    let topic_id = Wire::connect(&at_leader).topic_id("near");
    // The leader sends the reader to its rack, where it reads the same.
    let there = until("the follower has told what it has", || {
        let data = fetch(&at_leader, topic_id, "rack-2");
        (data.preferred_read_replica == 2).then_some(data)
    });
    assert_eq!(read(there), [] as [i64; 0]);
    let at_follower = &cluster.node(2).address;
    let all: Vec<i64> = (0..100).collect();
    until("the follower knows what is committed", || {
        let found = read(fetch(at_follower, topic_id, "rack-2"));
        (found == all).then_some(())
    });
    // In the leader's rack, and where there is no replica, the leader is read.
    for rack in ["rack-1", "rack-3", ""] {
        let data = fetch(&at_leader, topic_id, rack);
        assert_eq!(data.preferred_read_replica, -1);
        assert_eq!(read(data), all);
    }
    // Alone, it sends nobody anywhere.
    cluster.kill(2);
    until("the follower has left", || {
        let data = fetch(&at_leader, topic_id, "rack-2");
        (data.preferred_read_replica == -1).then_some(())
    });
    cluster.kill_all();
    println!(
        "100 records read at the follower in the reader's rack, and at the leader from 3 other racks"
    );
}

const TOPIC_RESOURCE: i8 = 2;
const BROKER_RESOURCE: i8 = 4;
const SET: i8 = 0;
const DELETE: i8 = 1;

/// Sets (or with `None` deletes) one key of a topic, or of all brokers where the name is empty.
fn configure(client: &Client, resource: (i8, &str), key: &str, value: Option<&str>) {
    let request = IncrementalAlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type: resource.0,
            resource_name: Str::copy(resource.1),
            configs: vec![AlterableConfig {
                name: Str::copy(key),
                config_operation: if value.is_some() { SET } else { DELETE },
                value: value.map(Str::copy),
            }],
        }],
        ..IncrementalAlterConfigsRequest::default()
    };
    until("a changed config", || {
        let answer = client.ask(&request, 1)?;
        (answer.responses[0].error_code == 0).then_some(())
    });
}

/// Throttled to next to nothing, a replica that fell behind does not catch up, while one of another topic does. Once
/// the throttle is gone it does too. By the follower's rate, then by the leader's.
#[test]
fn throttled_replicas_do_not_catch_up() {
    let (slow, quick) = ("slow", "quick");
    let mut cluster = Cluster::start_each(Network::Loopback, |home| {
        home.with("replica.fetch.max.bytes", "5000")
            .with("replica.fetch.response.max.bytes", "10000")
    });
    let client = cluster.client();
    for topic in [slow, quick] {
        client.create_topic(topic, &[&[1, 3]], 1);
    }
    let sides = [
        (
            "follower.replication.throttled.rate",
            "follower.replication.throttled.replicas",
        ),
        (
            "leader.replication.throttled.rate",
            "leader.replication.throttled.replicas",
        ),
    ];
    for (rate, replicas) in sides {
        configure(&client, (TOPIC_RESOURCE, slow), replicas, Some("*"));
        configure(&client, (BROKER_RESOURCE, ""), rate, Some("1"));
        cluster.kill(3);
        for at in 0..40 {
            write(&client, slow, at * 100, 100);
            write(&client, quick, at * 100, 100);
        }
        let fenced = |topic: &str| {
            let (partitions, _) = client.topic(topic)?;
            (partitions[0].isr_nodes == [1]).then_some(())
        };
        until("the dead replica has left", || {
            fenced(slow).and(fenced(quick))
        });
        cluster.restart(3);
        until("the other has caught up", || client.all_in_sync(quick));
        assert!(client.all_in_sync(slow).is_none(), "{rate} has no effect");
        configure(&client, (BROKER_RESOURCE, ""), rate, None);
        until("it catches up without the throttle", || {
            client.all_in_sync(slow)
        });
        configure(&client, (TOPIC_RESOURCE, slow), replicas, None);
    }
    cluster.kill_all();
    println!("2 throttles: 4000 records held back, and let go");
}
