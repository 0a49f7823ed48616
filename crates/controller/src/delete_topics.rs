//! DeleteTopics. v5: error messages. v6: topics by id.

use std::collections::{BTreeMap, BTreeSet};

use milena_base::{ErrorCode, Uuid};
use milena_protocol::delete_topics_response::DeletableTopicResult;
use milena_protocol::{DeleteTopicsRequest, DeleteTopicsResponse, RemoveTopicRecord, Str};

use crate::decision::{Decision, Records};
use crate::{Controller, Refusal, RequestContext};

/// What the request names, once each, and what is wrong with the rest.
#[derive(Default)]
struct Asked {
    names: BTreeSet<Str>,
    duplicate_names: BTreeSet<Str>,
    ids: BTreeSet<Uuid>,
    duplicate_ids: BTreeSet<Uuid>,
    results: Vec<DeletableTopicResult>,
}

impl Asked {
    fn of(request: &DeleteTopicsRequest) -> Asked {
        let mut asked = Asked::default();
        for name in &request.topic_names {
            asked.add_name(name);
        }
        for topic in &request.topics {
            match (&topic.name, topic.topic_id.is_zero()) {
                (None, true) => {
                    let text = "Neither topic name nor id were specified.";
                    asked.refuse(None, Uuid::ZERO, invalid(text));
                }
                (None, false) => asked.add_id(topic.topic_id),
                (Some(name), true) => asked.add_name(name),
                (Some(name), false) => {
                    let text = "You may not specify both topic name and topic id.";
                    asked.refuse(Some(name), topic.topic_id, invalid(text));
                }
            }
        }
        for name in asked.duplicate_names.clone() {
            asked.names.remove(&name);
            asked.refuse(Some(&name), Uuid::ZERO, invalid("Duplicate topic name."));
        }
        for id in asked.duplicate_ids.clone() {
            asked.ids.remove(&id);
            asked.refuse(None, id, invalid("Duplicate topic id."));
        }
        asked
    }

    fn add_name(&mut self, name: &Str) {
        if !self.names.insert(name.clone()) {
            self.duplicate_names.insert(name.clone());
        }
    }

    fn add_id(&mut self, id: Uuid) {
        if !self.ids.insert(id) {
            self.duplicate_ids.insert(id);
        }
    }

    fn refuse(&mut self, name: Option<&Str>, topic_id: Uuid, refusal: Refusal) {
        self.results.push(DeletableTopicResult {
            name: name.cloned(),
            topic_id,
            error_code: refusal.code.code(),
            error_message: refusal.message,
        });
    }
}

fn invalid(text: &str) -> Refusal {
    Refusal::new(ErrorCode::InvalidRequest, text)
}

impl Controller {
    pub(crate) fn delete_topics(
        &self,
        request: &DeleteTopicsRequest,
        ctx: &RequestContext,
    ) -> Result<Decision, Refusal> {
        if !self.layers.fixed().boolean("delete.topic.enable") {
            if ctx.version < 3 {
                return Err(invalid("Topic deletion is disabled."));
            }
            return Err(Refusal::bare(ErrorCode::TopicDeletionDisabled));
        }
        let mut asked = Asked::of(request);
        let found = self.resolve(&mut asked);
        let mut records = Records::default();
        for (topic_id, name) in found {
            records.push(RemoveTopicRecord { topic_id }, 0);
            asked.results.push(DeletableTopicResult {
                name: Some(name),
                topic_id,
                error_code: ErrorCode::None.code(),
                error_message: None,
            });
        }
        let answer = DeleteTopicsResponse {
            responses: asked.results,
            ..DeleteTopicsResponse::default()
        };
        Ok(Decision::records(records).with_answer(answer).atomic())
    }

    /// The topics that are there; the others are answered.
    fn resolve(&self, asked: &mut Asked) -> BTreeMap<Uuid, Str> {
        let mut found = BTreeMap::new();
        for id in std::mem::take(&mut asked.ids) {
            match self.state.topic(id) {
                Some(topic) => drop(found.insert(id, topic.name.clone())),
                None => {
                    let unknown = Refusal::with_default_text(ErrorCode::UnknownTopicId);
                    asked.refuse(None, id, unknown);
                }
            }
        }
        for name in std::mem::take(&mut asked.names) {
            let Some(id) = self.state.image.topics.id(&name) else {
                let unknown = Refusal::with_default_text(ErrorCode::UnknownTopicOrPartition);
                asked.refuse(Some(&name), Uuid::ZERO, unknown);
                continue;
            };
            if asked.duplicate_ids.contains(&id) || found.remove(&id).is_some() {
                asked.duplicate_ids.insert(id);
                let text = "The provided topic name maps to an ID that was already supplied.";
                asked.refuse(Some(&name), id, invalid(text));
                continue;
            }
            found.insert(id, name);
        }
        found
    }
}
