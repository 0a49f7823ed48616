//! Answers that several shards contribute to.

use milena_base::ErrorCode;
use milena_coordinator::Token;
use milena_protocol::{
    ConsumerGroupDescribeResponse, DeleteGroupsResponse, DescribeGroupsResponse, ListGroupsResponse,
};

use crate::api::offset_fetch::{self, HeldTopics};
use crate::api::{GroupResponse, Topics};
use crate::request::ShardResponse;

/// What the parts make up.
#[derive(Debug)]
pub(crate) enum Kind {
    List,
    Describe,
    ConsumerDescribe,
    Delete,
    Fetch(Vec<HeldTopics>),
}

/// An answer in the making. The parts stand in the order of the questions.
#[derive(Debug)]
pub(crate) struct Gather {
    pub(crate) token: Token,
    version: i16,
    kind: Kind,
    parts: Vec<Option<ShardResponse>>,
    missing: usize,
}

impl Gather {
    pub(crate) fn new(token: Token, version: i16, kind: Kind, parts: usize) -> Gather {
        Gather {
            token,
            version,
            kind,
            parts: (0..parts).map(|_| None).collect(),
            missing: parts,
        }
    }

    pub(crate) fn put(&mut self, index: usize, part: ShardResponse) {
        if let Some(slot @ None) = self.parts.get_mut(index) {
            *slot = Some(part);
            self.missing -= 1;
        }
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.missing == 0
    }

    pub(crate) fn answer(self, topics: &dyn Topics) -> GroupResponse {
        let parts = self.parts.into_iter().flatten();
        match self.kind {
            Kind::List => list(parts).into(),
            Kind::Describe => {
                let groups = parts.filter_map(|part| match part {
                    ShardResponse::Describe(group) => Some(group),
                    _ => None,
                });
                GroupResponse::DescribeGroups(DescribeGroupsResponse {
                    groups: groups.collect(),
                    ..Default::default()
                })
            }
            Kind::ConsumerDescribe => {
                let groups = parts.filter_map(|part| match part {
                    ShardResponse::ConsumerDescribe(group) => Some(group),
                    _ => None,
                });
                GroupResponse::ConsumerGroupDescribe(ConsumerGroupDescribeResponse {
                    groups: groups.collect(),
                    ..Default::default()
                })
            }
            Kind::Delete => {
                let results = parts.filter_map(|part| match part {
                    ShardResponse::Delete(result) => Some(result),
                    _ => None,
                });
                GroupResponse::DeleteGroups(DeleteGroupsResponse {
                    results: results.collect(),
                    ..Default::default()
                })
            }
            Kind::Fetch(held) => {
                let groups = parts.filter_map(|part| match part {
                    ShardResponse::Fetch(group) => Some(group),
                    _ => None,
                });
                let groups = groups.zip(held).collect();
                offset_fetch::answer(groups, self.version, topics).into()
            }
        }
    }
}

/// One shard that cannot answer makes the whole list an error: half a list would be taken for all of it.
fn list(parts: impl Iterator<Item = ShardResponse>) -> ListGroupsResponse {
    let mut response = ListGroupsResponse::default();
    for part in parts {
        match part {
            ShardResponse::List(Ok(groups)) => response.groups.extend(groups),
            ShardResponse::List(Err(error)) => response.error_code = error.code(),
            _ => response.error_code = ErrorCode::UnknownServerError.code(),
        }
    }
    if response.error_code != 0 {
        response.groups.clear();
    }
    response
}
