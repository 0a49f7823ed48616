//! `find-hanging`: transactions that a partition has open and that no coordinator knows of.

use std::collections::{BTreeMap, BTreeSet};

use milena_base::{ErrorCode, TopicPartition};
use milena_client::{Client, Error};
use milena_protocol::Str;
use milena_protocol::describe_producers_response::ProducerState;

use super::{ask, failed, number};
use crate::subcommands::Parsed;
use crate::{pretty, say};

const MINUTE_MS: i64 = 60_000;
/// Kafka's `--max-transaction-timeout`, in minutes.
const TIMEOUT_MINUTES: i32 = 15;

/// Where is searched, and for what.
#[derive(Debug)]
pub(crate) struct Search {
    broker: Option<i32>,
    topic: Option<String>,
    partition: Option<i32>,
    longer_than_ms: i64,
}

/// An open transaction in a partition.
#[derive(Clone, Debug)]
pub(crate) struct Open {
    pub at: TopicPartition,
    pub producer: ProducerState,
}

impl Search {
    pub(super) fn of(parsed: &Parsed) -> Result<Search, String> {
        let minutes = number(parsed, "max-transaction-timeout", "Integer")?;
        let search = Search {
            broker: number(parsed, "broker-id", "Integer")?,
            topic: parsed.value("topic").map(str::to_owned),
            partition: number(parsed, "partition", "Integer")?,
            longer_than_ms: i64::from(minutes.unwrap_or(TIMEOUT_MINUTES)) * MINUTE_MS,
        };
        match &search {
            Search {
                broker: None,
                topic: None,
                ..
            } => Err("The `find-hanging` command requires either --topic or --broker-id to limit the scope of the search".into()),
            Search {
                topic: None,
                partition: Some(_),
                ..
            } => Err("The --partition argument requires --topic to be provided".into()),
            _ => Ok(search),
        }
    }

    pub(super) async fn run(&self, client: &mut Client) -> Result<Vec<Open>, String> {
        let partitions = self.partitions(client).await?;
        let candidates = self.candidates(client, &partitions).await?;
        let producers: BTreeSet<i64> = candidates
            .iter()
            .map(|open| open.producer.producer_id)
            .collect();
        if producers.is_empty() {
            return Ok(candidates);
        }
        let ids: Vec<i64> = producers.into_iter().collect();
        let what = format!("Failed to list transactions for {} producers", ids.len());
        let listed = ask::list(client, -1, None, &ids).await;
        let listed = listed.map_err(failed(&what))?;
        let mut expected = BTreeMap::new();
        for listed in &listed {
            let found = described(client, &listed.id).await;
            let what = format!("Failed to describe {} transactions", ids.len());
            expected.insert(listed.producer_id, found.map_err(failed(&what))?);
        }
        Ok(hanging(candidates, &expected))
    }

    async fn partitions(&self, client: &mut Client) -> Result<Vec<TopicPartition>, String> {
        if let (Some(topic), Some(partition)) = (&self.topic, self.partition) {
            return Ok(vec![TopicPartition::new(topic, partition)]);
        }
        let names = self.topic.as_ref().map(|topic| vec![Str::copy(topic)]);
        let what = match names {
            Some(_) => "Failed to describe 1 topics",
            None => "Failed to list topics",
        };
        let answer = client.metadata("listTopics", names.as_deref()).await;
        let answer = answer.map_err(failed(what))?;
        let mut found = Vec::new();
        for topic in &answer.topics {
            Error::check(topic.error_code, None).map_err(failed(what))?;
            let name = topic.name.as_deref().unwrap_or_default();
            let searched = |replicas: &[i32]| self.broker.is_none_or(|id| replicas.contains(&id));
            let partitions = topic.partitions.iter();
            let partitions = partitions.filter(|p| searched(&p.replica_nodes));
            found.extend(partitions.map(|p| TopicPartition::new(name, p.partition_index)));
        }
        found.sort();
        Ok(found)
    }

    /// What has been open for too long.
    async fn candidates(
        &self,
        client: &mut Client,
        partitions: &[TopicPartition],
    ) -> Result<Vec<Open>, String> {
        let at = self
            .broker
            .map_or("Optional.empty".into(), |id| format!("Optional[{id}]"));
        let count = partitions.len();
        let what = format!("Failed to describe producers for {count} partitions on broker {at}");
        let mut found = Vec::new();
        for partition in partitions {
            let producers = ask::producers(client, partition, self.broker).await;
            let now_ms = say::now_millis();
            let is_old = |p: &ProducerState| {
                p.current_txn_start_offset >= 0 && now_ms - p.last_timestamp > self.longer_than_ms
            };
            let producers = producers.map_err(failed(&what))?;
            let old = producers.into_iter().filter(is_old);
            found.extend(old.map(|producer| Open {
                at: partition.clone(),
                producer,
            }));
        }
        Ok(found)
    }
}

/// The partitions of an id's transaction; none where nobody knows the id any more.
async fn described(client: &mut Client, id: &Str) -> Result<BTreeSet<TopicPartition>, Error> {
    match ask::describe(client, id).await {
        Ok((_, state)) => Ok(ask::partitions_of(&state)),
        Err(error) if error.code() == Some(ErrorCode::TransactionalIdNotFound) => {
            Ok(BTreeSet::new())
        }
        Err(error) => Err(error),
    }
}

/// Those that no coordinator is going to write a marker for; `expected` has the partitions of each producer's
/// transaction.
pub(crate) fn hanging(
    open: Vec<Open>,
    expected: &BTreeMap<i64, BTreeSet<TopicPartition>>,
) -> Vec<Open> {
    let is_expected = |open: &Open| {
        let partitions = expected.get(&open.producer.producer_id);
        partitions.is_some_and(|partitions| partitions.contains(&open.at))
    };
    open.into_iter().filter(|open| !is_expected(open)).collect()
}

pub(crate) fn table(found: &[Open], now_ms: i64) -> String {
    let rows = found.iter().map(|open| {
        let producer = &open.producer;
        vec![
            open.at.topic.to_string(),
            open.at.partition.to_string(),
            producer.producer_id.to_string(),
            producer.producer_epoch.to_string(),
            producer.coordinator_epoch.max(-1).to_string(),
            producer.current_txn_start_offset.to_string(),
            producer.last_timestamp.to_string(),
            ((now_ms - producer.last_timestamp) / MINUTE_MS).to_string(),
        ]
    });
    pretty::table(
        &[
            "Topic",
            "Partition",
            "ProducerId",
            "ProducerEpoch",
            "CoordinatorEpoch",
            "StartOffset",
            "LastTimestamp",
            "Duration(min)",
        ],
        &rows.collect::<Vec<_>>(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_coordinator_still_ends_does_not_hang() {
        let open = |partition, producer_id| Open {
            at: TopicPartition::new("t", partition),
            producer: ProducerState {
                producer_id,
                coordinator_epoch: -1,
                current_txn_start_offset: 7,
                last_timestamp: 1000,
                ..Default::default()
            },
        };
        let expected = BTreeMap::from([
            (1, BTreeSet::from([TopicPartition::new("t", 0)])),
            (2, BTreeSet::new()),
        ]);
        let all = vec![open(0, 1), open(1, 1), open(0, 2), open(0, 3)];
        let found = hanging(all, &expected);
        let seen: Vec<_> = found
            .iter()
            .map(|o| (o.at.partition, o.producer.producer_id))
            .collect();
        assert_eq!(seen, [(1, 1), (0, 2), (0, 3)]);
        let text = table(&found[..1], 181_000);
        let row = text.lines().nth(1).unwrap().split_whitespace();
        assert_eq!(
            row.collect::<Vec<_>>(),
            ["t", "1", "1", "0", "-1", "7", "1000", "3"]
        );
    }
}
