//! DescribeTopicPartitions (KIP-966): topics in pages, with eligible leader replicas.

use milena_base::ErrorCode;
use milena_image::{Image, Topic};
use milena_protocol::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition as PartitionRow,
    DescribeTopicPartitionsResponseTopic as TopicRow,
};
use milena_protocol::{DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, Str};

use super::metadata::{leader_error, offline_replicas};
use crate::broker::Broker;
use crate::ctx::{Ctx, Outbox, Reply};
use crate::{operations, topics};

pub(super) fn handle(
    broker: &Broker,
    ctx: &Ctx,
    request: DescribeTopicPartitionsRequest,
    _out: &mut Outbox,
) -> Reply {
    if request.cursor.as_ref().is_some_and(|c| c.partition_index < 0) {
        return Reply::Close("a cursor's partition is negative".into());
    }
    let image = broker.image();
    let limit = request
        .response_partition_limit
        .clamp(1, broker.settings().partitions_per_page_max);
    let mut page = Page {
        image: &image,
        listener: broker.listener_name(ctx.listener),
        left: limit as usize,
        topics: Vec::new(),
        next: None,
    };
    let (first, mut start) = match request.cursor {
        Some(cursor) => (cursor.topic_name, cursor.partition_index),
        None => (Str::default(), 0),
    };
    for name in names(&image, &request.topics, &first) {
        let from = if name == first { start } else { 0 };
        start = 0;
        if !page.add(&name, from) {
            break;
        }
    }
    ctx.now_frame(&DescribeTopicPartitionsResponse {
        topics: page.topics,
        next_cursor: page.next,
        ..DescribeTopicPartitionsResponse::default()
    })
}

fn names(
    image: &Image,
    wanted: &[milena_protocol::describe_topic_partitions_request::TopicRequest],
    first: &Str,
) -> Vec<Str> {
    let mut names: Vec<Str> = match wanted.is_empty() {
        true => image.topics.by_name().map(|topic| topic.name.clone()).collect(),
        false => wanted.iter().map(|topic| topic.name.clone()).collect(),
    };
    names.sort();
    names.dedup();
    names.retain(|name| name >= first);
    names
}

struct Page<'a> {
    image: &'a Image,
    listener: &'a str,
    left: usize,
    topics: Vec<TopicRow>,
    next: Option<Cursor>,
}

impl Page<'_> {
    /// False when the page is full.
    fn add(&mut self, name: &Str, from: i32) -> bool {
        let Some(topic) = self.image.topics.named(name) else {
            let code = match topics::is_legal(name) {
                true => ErrorCode::UnknownTopicOrPartition,
                false => ErrorCode::InvalidTopicException,
            };
            self.topics.push(TopicRow {
                error_code: code.code(),
                name: Some(name.clone()),
                topic_authorized_operations: operations::UNASKED,
                ..TopicRow::default()
            });
            return true;
        };
        if self.left == 0 {
            self.next = Some(cursor(name, from));
            return false;
        }
        let all = topic.partitions.range(from..);
        let rows: Vec<PartitionRow> = all
            .take(self.left)
            .map(|(index, partition)| self.row(*index, partition))
            .collect();
        let end = rows.last().map_or(from, |row| row.partition_index + 1);
        self.left -= rows.len();
        self.push(topic, rows);
        if topic.partitions.range(end..).next().is_some() {
            self.next = Some(cursor(name, end));
            return false;
        }
        true
    }

    fn push(&mut self, topic: &Topic, partitions: Vec<PartitionRow>) {
        self.topics.push(TopicRow {
            error_code: ErrorCode::None.code(),
            name: Some(topic.name.clone()),
            topic_id: topic.id,
            is_internal: topics::is_internal(&topic.name),
            partitions,
            topic_authorized_operations: operations::TOPIC,
        });
    }

    fn row(&self, index: i32, partition: &milena_image::Partition) -> PartitionRow {
        let code = leader_error(self.image, self.listener, partition);
        PartitionRow {
            error_code: code.code(),
            partition_index: index,
            leader_id: if code.is_none() { partition.leader } else { -1 },
            leader_epoch: partition.leader_epoch,
            replica_nodes: partition.replicas.clone(),
            isr_nodes: partition.isr.clone(),
            eligible_leader_replicas: Some(partition.elr.clone()),
            last_known_elr: Some(partition.last_known_elr.clone()),
            offline_replicas: offline_replicas(self.image, self.listener, partition),
        }
    }
}

fn cursor(name: &Str, partition_index: i32) -> Cursor {
    Cursor {
        topic_name: name.clone(),
        partition_index,
    }
}
