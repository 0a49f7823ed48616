//! Offsets by time (ListOffsets), with an answer of its own for each partition.

use std::collections::BTreeMap;

use milena_client::consumer::Place;
use milena_client::{Client, Error, Target};
use milena_protocol::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use milena_protocol::{ApiKey, ListOffsetsRequest, Str};

pub const LATEST: i64 = -1;
pub const EARLIEST: i64 = -2;
/// Of the record with the largest timestamp.
pub const MAX_TIMESTAMP: i64 = -3;
pub const EARLIEST_LOCAL: i64 = -4;
pub const LATEST_TIERED: i64 = -5;
pub const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// An offset (−1: none) or why there is no answer.
pub type Found = BTreeMap<Place, Result<i64, Error>>;

/// The version of ListOffsets from which a special time is known.
fn version_min(time: i64) -> i16 {
    match time {
        MAX_TIMESTAMP => 7,
        EARLIEST_LOCAL => 8,
        LATEST_TIERED => 9,
        EARLIEST_PENDING_UPLOAD => 11,
        _ => 0,
    }
}

/// Asks the leaders; what may come later is asked again until the client's time is over.
pub async fn look_up(client: &mut Client, asked: &BTreeMap<Place, i64>) -> Result<Found, Error> {
    let mut found = Found::new();
    let done = client.retry("listOffsets", async |client: &mut Client| {
        let open: BTreeMap<&Place, i64> = asked
            .iter()
            .filter(|(place, _)| !found.contains_key(*place))
            .map(|(place, time)| (place, *time))
            .collect();
        ask(client, &open, &mut found).await
    });
    done.await?;
    Ok(found)
}

/// One try. `Err` while an answer is to be asked for again; what is known by then is in `found`.
async fn ask(
    client: &mut Client,
    asked: &BTreeMap<&Place, i64>,
    found: &mut Found,
) -> Result<(), Error> {
    let mut topics: Vec<Str> = asked.keys().map(|place| place.0.clone()).collect();
    topics.dedup();
    if topics.is_empty() {
        return Ok(());
    }
    client.metadata_once(Some(&topics), false).await?;
    let mut later = None;
    let mut by_leader: BTreeMap<i32, BTreeMap<&Str, Vec<ListOffsetsPartition>>> = BTreeMap::new();
    for (place, timestamp) in asked {
        match leader(client, place) {
            Ok(leader) => by_leader
                .entry(leader)
                .or_default()
                .entry(&place.0)
                .or_default()
                .push(ListOffsetsPartition {
                    partition_index: place.1,
                    current_leader_epoch: -1,
                    timestamp: *timestamp,
                }),
            Err(error) => later = Some(error),
        }
    }
    for (leader, topics) in by_leader {
        let topics = topics
            .into_iter()
            .map(|(name, partitions)| ListOffsetsTopic {
                name: name.clone(),
                partitions,
            });
        if let Some(error) = ask_one(client, leader, topics.collect(), found).await? {
            later = Some(error);
        }
    }
    later.map_or(Ok(()), Err)
}

fn leader(client: &Client, place: &Place) -> Result<i32, Error> {
    let topic = client.topic(&place.0);
    if let Some(topic) = topic {
        Error::check(topic.error, None)?;
    }
    let leader = topic.and_then(|topic| topic.partitions.get(&place.1));
    match leader {
        Some(leader) if leader.node >= 0 => Ok(leader.node),
        Some(_) => Err(Error::NotKnown(format!(
            "{}-{} has no leader now",
            place.0, place.1
        ))),
        None => Err(Error::NotKnown(format!(
            "{} has no partition {}",
            place.0, place.1
        ))),
    }
}

/// Asks one broker. Returns the last error that may pass.
async fn ask_one(
    client: &mut Client,
    leader: i32,
    mut topics: Vec<ListOffsetsTopic>,
    found: &mut Found,
) -> Result<Option<Error>, Error> {
    let connection = client.connection(Target::Node(leader)).await?;
    let version = connection.version(ApiKey::ListOffsets).unwrap_or(0);
    for topic in &mut topics {
        let name = topic.name.clone();
        topic.partitions.retain(|partition| {
            let known = version_min(partition.timestamp) <= version;
            if !known {
                let what = format!("ListOffsets with the time {}", partition.timestamp);
                let peer = connection.peer().to_owned();
                let place = (name.clone(), partition.partition_index);
                found.insert(place, Err(Error::Unsupported { peer, what }));
            }
            known
        });
    }
    topics.retain(|topic| !topic.partitions.is_empty());
    if topics.is_empty() {
        return Ok(None);
    }
    let request = ListOffsetsRequest {
        replica_id: -1,
        isolation_level: 0,
        topics,
        timeout_ms: client.config().request_timeout.as_millis() as i32,
    };
    let answer = connection.call(&request).await?;
    let mut later = None;
    for topic in &answer.topics {
        for partition in &topic.partitions {
            let place = (topic.name.detached(), partition.partition_index);
            match Error::check(partition.error_code, None) {
                Err(error) if error.is_retriable() => later = Some(error),
                Err(error) => drop(found.insert(place, Err(error))),
                Ok(()) => drop(found.insert(place, Ok(partition.offset))),
            }
        }
    }
    Ok(later)
}
