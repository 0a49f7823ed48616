//! A whole request refused, in the shape that Kafka gives each answer then (its `getErrorResponse`).

use milena_protocol::{
    AllocateProducerIdsRequest, AllocateProducerIdsResponse, AlterConfigsRequest,
    AlterConfigsResponse, AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
    AlterPartitionRequest, AlterPartitionResponse, AssignReplicasToDirsRequest,
    AssignReplicasToDirsResponse, BrokerHeartbeatRequest, BrokerHeartbeatResponse,
    BrokerRegistrationRequest, BrokerRegistrationResponse, ControllerRegistrationRequest,
    ControllerRegistrationResponse, CreatePartitionsRequest, CreatePartitionsResponse,
    CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest, DeleteTopicsResponse,
    ElectLeadersRequest, ElectLeadersResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse, ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse, Request, Str, UnregisterBrokerRequest,
    UnregisterBrokerResponse, UnregisterControllerRequest, UnregisterControllerResponse,
    UpdateFeaturesRequest, UpdateFeaturesResponse,
};
use milena_protocol::{
    alter_configs_response, alter_partition_reassignments_response, create_partitions_response,
    create_topics_response, delete_topics_response, elect_leaders_response,
    incremental_alter_configs_response, list_partition_reassignments_response,
};

use crate::refusal::default_text;
use crate::{ControllerAnswer, ControllerRequest, Decision, Refusal, quotas, scram};

/// No records, and the refusal wherever the answer has a place for it. `version` is the request's.
pub(crate) fn all(request: &ControllerRequest, refusal: &Refusal, version: i16) -> Decision {
    use ControllerRequest as R;
    let (code, text) = (refusal.code.code(), refusal.message.clone());
    let answer: ControllerAnswer = match request {
        R::CreateTopics(r) => r.refused(code, text).into(),
        R::DeleteTopics(r) => delete_topics(r, code, version).into(),
        R::CreatePartitions(r) => r.refused(code, text).into(),
        R::AlterPartition(r) => r.refused(code, text).into(),
        R::AlterPartitionReassignments(r) => r.refused(code, text).into(),
        R::ListPartitionReassignments(r) => r.refused(code, text).into(),
        R::ElectLeaders(r) => r.refused(code, text).into(),
        R::IncrementalAlterConfigs(r) => r.refused(code, text).into(),
        R::AlterConfigs(r) => r.refused(code, text).into(),
        R::AlterClientQuotas(r) => quotas::refused(r, refusal).into(),
        R::AlterUserScramCredentials(r) => scram::refused(r, refusal).into(),
        R::BrokerRegistration(r) => r.refused(code, text).into(),
        R::BrokerHeartbeat(r) => r.refused(code, text).into(),
        R::UnregisterBroker(r) => r.refused(code, text).into(),
        R::ControllerRegistration(r) => {
            let text = Str::from_static(default_text(refusal.code));
            r.refused(code, Some(text)).into()
        }
        R::UnregisterController(r) => r.refused(code, text).into(),
        R::AllocateProducerIds(r) => r.refused(code, text).into(),
        R::UpdateFeatures(r) => r.refused(code, text).into(),
        R::AssignReplicasToDirs(r) => r.refused(code, text).into(),
    };
    Decision::answer(answer)
}

trait Refused: Request {
    fn refused(&self, code: i16, text: Option<Str>) -> Self::Response;
}

/// Answers with one code for all, and maybe a text.
macro_rules! refused_at_the_top {
    ($($request:ident $response:ident ($($text:ident)?),)*) => {
        $(impl Refused for $request {
            fn refused(&self, error_code: i16, _text: Option<Str>) -> $response {
                $response {
                    error_code,
                    $($text: _text,)?
                    ..$response::default()
                }
            }
        })*
    };
}

refused_at_the_top! {
    AlterPartitionRequest AlterPartitionResponse (),
    BrokerRegistrationRequest BrokerRegistrationResponse (),
    BrokerHeartbeatRequest BrokerHeartbeatResponse (),
    UnregisterBrokerRequest UnregisterBrokerResponse (error_message),
    ControllerRegistrationRequest ControllerRegistrationResponse (error_message),
    UnregisterControllerRequest UnregisterControllerResponse (error_message),
    AllocateProducerIdsRequest AllocateProducerIdsResponse (),
    UpdateFeaturesRequest UpdateFeaturesResponse (error_message),
    AssignReplicasToDirsRequest AssignReplicasToDirsResponse (),
}

fn delete_topics(request: &DeleteTopicsRequest, code: i16, version: i16) -> DeleteTopicsResponse {
    use delete_topics_response::DeletableTopicResult;
    let result = |name: Option<&Str>, topic_id| DeletableTopicResult {
        name: name.cloned(),
        topic_id,
        error_code: code,
        error_message: None,
    };
    let topics = request
        .topics
        .iter()
        .map(|t| result(t.name.as_ref(), t.topic_id));
    let names = request
        .topic_names
        .iter()
        .map(|name| result(Some(name), Default::default()));
    DeleteTopicsResponse {
        responses: if version >= 6 {
            topics.collect()
        } else {
            names.collect()
        },
        ..DeleteTopicsResponse::default()
    }
}

impl Refused for CreateTopicsRequest {
    fn refused(&self, error_code: i16, error_message: Option<Str>) -> CreateTopicsResponse {
        let result = |name: &Str| create_topics_response::CreatableTopicResult {
            name: name.clone(),
            error_code,
            error_message: error_message.clone(),
            ..Default::default()
        };
        CreateTopicsResponse {
            topics: self.topics.iter().map(|t| result(&t.name)).collect(),
            ..CreateTopicsResponse::default()
        }
    }
}

impl Refused for CreatePartitionsRequest {
    fn refused(&self, error_code: i16, error_message: Option<Str>) -> CreatePartitionsResponse {
        let result = |name: &Str| create_partitions_response::CreatePartitionsTopicResult {
            name: name.clone(),
            error_code,
            error_message: error_message.clone(),
        };
        CreatePartitionsResponse {
            results: self.topics.iter().map(|t| result(&t.name)).collect(),
            ..CreatePartitionsResponse::default()
        }
    }
}

impl Refused for AlterPartitionReassignmentsRequest {
    fn refused(
        &self,
        error_code: i16,
        error_message: Option<Str>,
    ) -> AlterPartitionReassignmentsResponse {
        use alter_partition_reassignments_response::{
            ReassignablePartitionResponse, ReassignableTopicResponse,
        };
        let partition = |partition_index| ReassignablePartitionResponse {
            partition_index,
            error_code,
            error_message: error_message.clone(),
        };
        let responses = self.topics.iter().map(|topic| {
            let indexes = topic.partitions.iter().map(|p| p.partition_index);
            ReassignableTopicResponse {
                name: topic.name.clone(),
                partitions: indexes.map(partition).collect(),
            }
        });
        AlterPartitionReassignmentsResponse {
            error_code,
            error_message: error_message.clone(),
            responses: responses.collect(),
            ..AlterPartitionReassignmentsResponse::default()
        }
    }
}

impl Refused for ListPartitionReassignmentsRequest {
    fn refused(
        &self,
        error_code: i16,
        error_message: Option<Str>,
    ) -> ListPartitionReassignmentsResponse {
        use list_partition_reassignments_response::{
            OngoingPartitionReassignment, OngoingTopicReassignment,
        };
        let partition = |partition_index: &i32| OngoingPartitionReassignment {
            partition_index: *partition_index,
            ..OngoingPartitionReassignment::default()
        };
        let topics = self
            .topics
            .iter()
            .flatten()
            .map(|topic| OngoingTopicReassignment {
                name: topic.name.clone(),
                partitions: topic.partition_indexes.iter().map(partition).collect(),
            });
        ListPartitionReassignmentsResponse {
            error_code,
            error_message,
            topics: topics.collect(),
            ..ListPartitionReassignmentsResponse::default()
        }
    }
}

impl Refused for ElectLeadersRequest {
    fn refused(&self, error_code: i16, error_message: Option<Str>) -> ElectLeadersResponse {
        use elect_leaders_response::{PartitionResult, ReplicaElectionResult};
        let partition = |partition_id: &i32| PartitionResult {
            partition_id: *partition_id,
            error_code,
            error_message: error_message.clone(),
        };
        let topics = self.topic_partitions.iter().flatten();
        let results = topics.map(|topic| ReplicaElectionResult {
            topic: topic.topic.clone(),
            partition_result: topic.partitions.iter().map(partition).collect(),
        });
        ElectLeadersResponse {
            error_code,
            replica_election_results: results.collect(),
            ..ElectLeadersResponse::default()
        }
    }
}

macro_rules! refused_configs {
    ($request:ident $response:ident $module:ident) => {
        impl Refused for $request {
            fn refused(&self, error_code: i16, error_message: Option<Str>) -> $response {
                let responses =
                    self.resources
                        .iter()
                        .map(|resource| $module::AlterConfigsResourceResponse {
                            error_code,
                            error_message: error_message.clone(),
                            resource_type: resource.resource_type,
                            resource_name: resource.resource_name.clone(),
                        });
                $response {
                    responses: responses.collect(),
                    ..$response::default()
                }
            }
        }
    };
}

refused_configs! { AlterConfigsRequest AlterConfigsResponse alter_configs_response }
refused_configs! {
    IncrementalAlterConfigsRequest IncrementalAlterConfigsResponse incremental_alter_configs_response
}
