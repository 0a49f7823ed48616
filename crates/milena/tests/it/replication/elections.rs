//! An unclean election: the only replica in sync is dead, and somebody decides that the other one is to go on without what
//! it lacks (KIP-460).

use milena_protocol::ElectLeadersRequest;
use milena_protocol::elect_leaders_request::TopicPartitions;

use super::cluster::{Client, Cluster};
use super::{in_sync, write};
use crate::cluster::until;

const TOPIC: &str = "risky";
const UNCLEAN: i8 = 1;
const PREFERRED: i8 = 0;
const PREFERRED_LEADER_NOT_AVAILABLE: i16 = 80;

fn elect(client: &Client, election_type: i8) -> i16 {
    let request = ElectLeadersRequest {
        election_type,
        topic_partitions: Some(vec![TopicPartitions {
            topic: TOPIC.into(),
            partitions: vec![0],
        }]),
        timeout_ms: 10_000,
    };
    let answer = until("an answer to the election", || {
        let answer = client.ask(&request, 2)?;
        (answer.error_code == 0).then_some(answer)
    });
    answer.replica_election_results[0].partition_result[0].error_code
}

#[test]
fn an_unclean_election_goes_on_without_what_is_lost() {
    let mut cluster = Cluster::start();
    let client = cluster.client();
    client.create_topic(TOPIC, &[&[1, 2]], 1);
    assert_eq!(write(&client, TOPIC, 0, 100, -1), 0);
    cluster.kill(2);
    until("the dead replica has left", || {
        (in_sync(&client, TOPIC) == 1).then_some(())
    });
    assert_eq!(write(&client, TOPIC, 100, 50, -1), 0);
    cluster.kill(1);
    cluster.restart(2);
    let leaderless = || {
        let (partitions, nodes) = client.topic(TOPIC)?;
        (partitions[0].leader_id == -1 && nodes.contains_key(&2)).then_some(())
    };
    until("nobody leads, though a replica lives", leaderless);
    assert_eq!(elect(&client, PREFERRED), PREFERRED_LEADER_NOT_AVAILABLE);
    until("still nobody leads", leaderless);
    assert_eq!(elect(&client, UNCLEAN), 0);
    until("the other replica leads", || {
        client.leader(TOPIC, 0).filter(|leader| leader.0 == 2)
    });
    assert_eq!(write(&client, TOPIC, 1000, 10, -1), 0);
    cluster.restart(1);
    until("in sync again", || client.all_in_sync(TOPIC));
    cluster.kill_all();
    let log = cluster.log(2, TOPIC, 0);
    assert!(cluster.log(1, TOPIC, 0) == log, "the replicas differ");
    let kept: Vec<i64> = (0..100).chain(1000..1010).collect();
    assert_eq!(super::records::numbers(log), kept);
    println!("50 records given up by an unclean election, 110 kept by both replicas");
}
