//! DescribeLogDirs (KIP-113). v4: total and usable bytes. v5: whether new replicas may be placed there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use milena_base::ErrorCode;
use milena_protocol::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use milena_protocol::{DescribeLogDirsRequest, DescribeLogDirsResponse, Str};

use crate::broker::{Broker, Hosted};
use crate::ctx::{Ctx, Outbox, Reply};

type Wanted = Option<BTreeMap<String, BTreeSet<i32>>>;

pub(super) fn handle(
    broker: &Broker,
    ctx: &Ctx,
    request: DescribeLogDirsRequest,
    _out: &mut Outbox,
) -> Reply {
    let wanted: Wanted = request.topics.map(|topics| {
        let topics = topics.into_iter();
        topics
            .map(|t| (t.topic.to_string(), t.partitions.into_iter().collect()))
            .collect()
    });
    let hosted = broker.all_hosted();
    let dirs = broker.dirs.all().iter().enumerate();
    let results = dirs.map(|(index, dir)| {
        let path: Str = dir.log_dir.path().display().to_string().into();
        if dir.is_offline() {
            return DescribeLogDirsResult {
                error_code: ErrorCode::KafkaStorageError.code(),
                log_dir: path,
                ..DescribeLogDirsResult::default()
            };
        }
        let space = broker.dirs.disk.space(dir.log_dir.path());
        let (total, free) = space.map_or((-1, -1), |s| (s.total as i64, s.free as i64));
        let mine = hosted.iter().filter(|(_, h)| h.dir == index).map(|(_, h)| h);
        DescribeLogDirsResult {
            log_dir: path,
            topics: topics(mine, &wanted),
            total_bytes: total,
            usable_bytes: free,
            ..DescribeLogDirsResult::default()
        }
    });
    ctx.now_frame(&DescribeLogDirsResponse {
        results: results.collect(),
        ..DescribeLogDirsResponse::default()
    })
}

fn topics<'a>(
    hosted: impl Iterator<Item = &'a Arc<Hosted>>,
    wanted: &Wanted,
) -> Vec<DescribeLogDirsTopic> {
    let mut topics: BTreeMap<String, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    for hosted in hosted {
        let name = &hosted.partition.name;
        let asked = |w: &BTreeMap<String, BTreeSet<i32>>| {
            w.get(&name.topic).is_some_and(|p| p.contains(&name.partition))
        };
        if !wanted.as_ref().is_none_or(asked) {
            continue;
        }
        let partitions = topics.entry(name.topic.clone()).or_default();
        partitions.push(DescribeLogDirsPartition {
            partition_index: name.partition,
            partition_size: hosted.partition.reader().size_bytes() as i64,
            ..DescribeLogDirsPartition::default()
        });
    }
    let topics = topics.into_iter();
    topics
        .map(|(name, partitions)| DescribeLogDirsTopic {
            name: name.into(),
            partitions,
        })
        .collect()
}
