//! Topics that come to be because somebody asks for them: by a metadata request, or as a coordinator's log.

use std::time::Duration;

use milena_protocol::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use milena_protocol::{CreateTopicsRequest, Str};

use crate::ask::Origin;
use crate::broker::Broker;
use crate::ctx::{Ctx, Outbox};
use crate::topics;

/// A creation that was asked for is not asked for again within this time.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);
const TIMEOUT_MS: i32 = 30_000;
const TOPICS_MAX: usize = 10_000;

impl Broker {
    /// Asks the controller for topics that are not there. Internal topics are made whatever
    /// `auto.create.topics.enable` says.
    pub(crate) fn auto_create(&self, ctx: &Ctx, names: &[Str], out: &mut Outbox) {
        let mut creating = self.creating.lock().expect("no panic while held");
        creating.retain(|_, asked_at| ctx.now.mono.since(*asked_at) < ASK_AGAIN_AFTER);
        let mut wanted = Vec::new();
        for name in names {
            let allowed = self.settings.auto_create_topics || topics::is_internal(name);
            if !allowed || creating.contains_key(name) || creating.len() >= TOPICS_MAX {
                continue;
            }
            creating.insert(name.detached(), ctx.now.mono);
            wanted.push(self.creatable(name));
        }
        if wanted.is_empty() {
            return;
        }
        let request = CreateTopicsRequest {
            topics: wanted,
            timeout_ms: TIMEOUT_MS,
            ..CreateTopicsRequest::default()
        };
        self.ask_controller(Origin::Nobody, request, out);
    }

    fn creatable(&self, name: &Str) -> CreatableTopic {
        let s = &self.settings;
        let mut topic = CreatableTopic {
            name: name.detached(),
            num_partitions: -1,
            replication_factor: -1,
            ..CreatableTopic::default()
        };
        if name.as_str() == topics::CONSUMER_OFFSETS {
            topic.num_partitions = s.offsets_topic_partitions;
            topic.replication_factor = s.offsets_topic_replication;
            let segment = s.offsets_topic_segment_bytes.to_string();
            topic.configs = vec![
                config("cleanup.policy", "compact"),
                config("segment.bytes", &segment),
                config("compression.type", "producer"),
            ];
        }
        if name.as_str() == topics::TRANSACTION_STATE {
            topic.num_partitions = s.transaction_topic_partitions;
            topic.replication_factor = s.transaction_topic_replication;
            let segment = s.transaction_topic_segment_bytes.to_string();
            topic.configs = vec![
                config("unclean.leader.election.enable", "false"),
                config("compression.type", "uncompressed"),
                config("cleanup.policy", "compact"),
                config(
                    "min.insync.replicas",
                    &s.transaction_topic_min_isr.to_string(),
                ),
                config("segment.bytes", &segment),
            ];
        }
        topic
    }
}

fn config(name: &'static str, value: &str) -> CreatableTopicConfig {
    CreatableTopicConfig {
        name: name.into(),
        value: Some(Str::copy(value)),
    }
}
