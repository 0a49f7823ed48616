//! An administrator: creates the topics, and moves leaders about when a fault says so.

use std::collections::VecDeque;

use milena_base::ErrorCode;
use milena_broker::Answered;
use milena_protocol::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use milena_protocol::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use milena_protocol::{
    AlterPartitionReassignmentsRequest, CreateTopicsRequest, ElectLeadersRequest, Str,
};

use super::{AGAIN, Actor, Cx};
use crate::atlas::{Atlas, Check};
use crate::plan::{Shape, Time};

/// What an administrator wants.
#[derive(Clone, Debug)]
pub enum Wish {
    Create(String, i32),
    Elect,
    /// Puts a partition's replicas in another order.
    Reassign(String, i32, Vec<i32>),
}

/// See the module's words.
pub struct Admin {
    brokers: Vec<usize>,
    configs: Vec<(&'static str, &'static str)>,
    wishes: VecDeque<Wish>,
    asked: bool,
    wake: Time,
    done: u64,
}

impl Admin {
    pub fn new(brokers: Vec<usize>, shape: &Shape) -> Admin {
        let mut configs = vec![("min.insync.replicas", "2")];
        if shape.flushed {
            configs.push(("flush.messages", "1"));
        }
        if shape.small_segments {
            configs.push(("internal.segment.bytes", "1024"));
        }
        let topics = shape.topics.iter().enumerate();
        Admin {
            brokers,
            configs,
            wishes: topics
                .map(|(at, n)| Wish::Create(topic_name(at), *n))
                .collect(),
            asked: false,
            wake: 0,
            done: 0,
        }
    }

    fn creation(&self, name: &str, partitions: i32) -> CreateTopicsRequest {
        let config = |(name, value): &(&'static str, &'static str)| CreatableTopicConfig {
            name: (*name).into(),
            value: Some((*value).into()),
        };
        CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: name.to_owned().into(),
                num_partitions: partitions,
                replication_factor: 3,
                assignments: Vec::new(),
                configs: self.configs.iter().map(config).collect(),
            }],
            timeout_ms: 5000,
            validate_only: false,
        }
    }
}

pub fn topic_name(at: usize) -> String {
    format!("t{at}")
}

fn order(topic: &str, partition: i32, replicas: &[i32]) -> AlterPartitionReassignmentsRequest {
    AlterPartitionReassignmentsRequest {
        timeout_ms: 5000,
        topics: vec![ReassignableTopic {
            name: Str::from(topic.to_owned()),
            partitions: vec![ReassignablePartition {
                partition_index: partition,
                replicas: Some(replicas.to_vec()),
            }],
        }],
        ..AlterPartitionReassignmentsRequest::default()
    }
}

impl Actor for Admin {
    fn tick(&mut self, cx: &mut Cx<'_>) -> Check {
        self.wake = cx.now + AGAIN;
        if self.asked {
            return Ok(());
        }
        let Some(wish) = self.wishes.front().cloned() else {
            return Ok(());
        };
        self.asked = true;
        let node = cx.any(&self.brokers);
        match wish {
            Wish::Create(name, partitions) => {
                cx.ask(node, self.creation(&name, partitions), 7, self.done);
            }
            Wish::Elect => {
                let request = ElectLeadersRequest {
                    election_type: 0,
                    topic_partitions: None,
                    timeout_ms: 5000,
                };
                cx.ask(node, request, 2, self.done);
            }
            Wish::Reassign(topic, partition, replicas) => {
                cx.ask(node, order(&topic, partition, &replicas), 0, self.done);
            }
        }
        Ok(())
    }

    fn answered(&mut self, _: u64, answer: Option<Answered>, cx: &mut Cx<'_>) -> Check {
        self.asked = false;
        // Moves of leaders are tried once; topics are created in any case.
        let done = match self.wishes.front() {
            Some(Wish::Create(..)) => answer.is_some_and(|answer| is_created(answer, cx)),
            _ => true,
        };
        if done {
            self.wishes.pop_front();
            self.done += 1;
        }
        Ok(())
    }

    fn wish(&mut self, wish: Wish) {
        self.wishes.push_back(wish);
    }

    fn wakes_at(&self) -> Time {
        self.wake
    }

    fn unfinished(&self, _: &Atlas) -> Option<String> {
        let left = self.wishes.len();
        (left > 0).then(|| format!("{left} wishes of the administrator are open"))
    }

    fn done(&self) -> u64 {
        self.done
    }
}

fn is_created(answer: Answered, cx: &mut Cx<'_>) -> bool {
    let Ok(response) = answer.decode::<CreateTopicsRequest>() else {
        return false;
    };
    let code = response.topics.first().map_or(-1, |topic| topic.error_code);
    let code = ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError);
    let done = matches!(code, ErrorCode::None | ErrorCode::TopicAlreadyExists);
    if !done {
        cx.note(format!("no topic: {}", code.name()));
    }
    done
}
