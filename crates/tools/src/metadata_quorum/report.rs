//! The reports of `kafka-metadata-quorum describe`, letter for letter.

use milena_base::Uuid;
use milena_client::Address;
use milena_protocol::DescribeQuorumResponse;
use milena_protocol::describe_quorum_response::{PartitionData, ReplicaState};

use crate::pretty;

fn partition(quorum: &DescribeQuorumResponse) -> Result<&PartitionData, String> {
    let topic = quorum.topics.first();
    let partition = topic.and_then(|topic| topic.partitions.first());
    partition.ok_or_else(|| "The answer does not describe the quorum.".into())
}

fn leader(quorum: &PartitionData) -> Result<&ReplicaState, String> {
    let mut voters = quorum.current_voters.iter();
    let leader = voters.find(|voter| voter.replica_id == quorum.leader_id);
    leader.ok_or_else(|| "The quorum has no leader among its voters now; try again.".into())
}

/// `--status`.
pub fn status(cluster_id: &str, quorum: &DescribeQuorumResponse) -> Result<String, String> {
    let partition = partition(quorum)?;
    let leader = leader(partition)?;
    let voters = partition.current_voters.iter();
    let last = voters
        .min_by_key(|voter| voter.log_end_offset)
        .unwrap_or(leader);
    let lag_ms = match (
        leader.last_caught_up_timestamp,
        last.last_caught_up_timestamp,
    ) {
        _ if last.replica_id == leader.replica_id => 0,
        (leader, last) if leader >= 0 && last >= 0 => leader - last,
        _ => -1,
    };
    Ok(format!(
        "ClusterId:              {cluster_id}
LeaderId:               {}
LeaderEpoch:            {}
HighWatermark:          {}
MaxFollowerLag:         {}
MaxFollowerLagTimeMs:   {lag_ms}
CurrentVoters:          {}
CurrentObservers:       {}
",
        partition.leader_id,
        partition.leader_epoch,
        partition.high_watermark,
        leader.log_end_offset - last.log_end_offset,
        replicas(quorum, &partition.current_voters),
        replicas(quorum, &partition.observers),
    ))
}

/// `[{"id": 1, "directoryId": "…", "endpoints": ["CONTROLLER://host:port"]}]`.
fn replicas(quorum: &DescribeQuorumResponse, replicas: &[ReplicaState]) -> String {
    let text = |replica: &ReplicaState| {
        let directory = match replica.replica_directory_id {
            Uuid::ZERO => "null".to_owned(),
            id => format!("\"{id}\""),
        };
        let nodes = quorum.nodes.iter();
        let mine = nodes.filter(|node| node.node_id == replica.replica_id);
        let endpoints: Vec<String> = mine
            .flat_map(|node| &node.listeners)
            .map(|l| format!("\"{}://{}\"", l.name, Address::new(l.host.as_str(), l.port)))
            .collect();
        let endpoints = match endpoints.is_empty() {
            true => String::new(),
            false => format!(", \"endpoints\": [{}]", endpoints.join(", ")),
        };
        let id = replica.replica_id;
        format!("{{\"id\": {id}, \"directoryId\": {directory}{endpoints}}}")
    };
    let texts: Vec<String> = replicas.iter().map(text).collect();
    format!("[{}]", texts.join(", "))
}

/// `--replication`; with the time, how long ago each replica fetched.
pub fn replication(quorum: &DescribeQuorumResponse, now: Option<i64>) -> Result<String, String> {
    let partition = partition(quorum)?;
    let leader = leader(partition)?;
    let followers = partition.current_voters.iter();
    let followers = followers.filter(|voter| voter.replica_id != leader.replica_id);
    let mut rows = vec![row(leader, leader, "Leader", now)?];
    for follower in followers {
        rows.push(row(leader, follower, "Follower", now)?);
    }
    for observer in &partition.observers {
        rows.push(row(leader, observer, "Observer", now)?);
    }
    let head = [
        "NodeId",
        "DirectoryId",
        "LogEndOffset",
        "Lag",
        "LastFetchTimestamp",
        "LastCaughtUpTimestamp",
        "Status",
    ];
    Ok(pretty::table(&head, &rows))
}

fn row(
    leader: &ReplicaState,
    replica: &ReplicaState,
    status: &str,
    now: Option<i64>,
) -> Result<Vec<String>, String> {
    let time = |at: i64, what: &str| match now {
        Some(now) if at >= 0 => ago(now, at, what),
        _ => Ok(at.max(-1).to_string()),
    };
    Ok(vec![
        replica.replica_id.to_string(),
        replica.replica_directory_id.to_string(),
        replica.log_end_offset.to_string(),
        (leader.log_end_offset - replica.log_end_offset).to_string(),
        time(replica.last_fetch_timestamp, "last fetch")?,
        time(replica.last_caught_up_timestamp, "last caught up")?,
        status.to_owned(),
    ])
}

fn ago(now: i64, at: i64, what: &str) -> Result<String, String> {
    match at > 0 && at <= now {
        true => Ok(format!("{} ms ago", now - at)),
        false => Err(format!(
            "Error while computing relative time, possible drift in system clock.\nCurrent timestamp is {now}, {what} timestamp is {at}"
        )),
    }
}
