//! What the controller is asked, and what it answers: the protocol's own structures.

use bytes::Bytes;
use milena_base::ErrorCode;
use milena_protocol::{
    AllocateProducerIdsRequest, AllocateProducerIdsResponse, AlterClientQuotasRequest,
    AlterClientQuotasResponse, AlterConfigsRequest, AlterConfigsResponse,
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, AlterPartitionRequest,
    AlterPartitionResponse, AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse,
    ApiKey, AssignReplicasToDirsRequest, AssignReplicasToDirsResponse, BrokerHeartbeatRequest,
    BrokerHeartbeatResponse, BrokerRegistrationRequest, BrokerRegistrationResponse,
    ControllerRegistrationRequest, ControllerRegistrationResponse, CreatePartitionsRequest,
    CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse, DecodeError,
    DeleteTopicsRequest, DeleteTopicsResponse, ElectLeadersRequest, ElectLeadersResponse,
    EncodeError, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse, Message, Request,
    UnregisterBrokerRequest, UnregisterBrokerResponse, UnregisterControllerRequest,
    UnregisterControllerResponse, UpdateFeaturesRequest, UpdateFeaturesResponse, Writer,
};

use crate::refusal::default_text;
use crate::{Refusal, refuse};

macro_rules! requests {
    ($($variant:ident $request:ident $response:ident,)*) => {
        /// A request to the active controller.
        #[derive(Clone, Debug, PartialEq)]
        pub enum ControllerRequest { $($variant($request),)* }

        /// The answer of the same kind, throttle time not set.
        #[derive(Clone, Debug, PartialEq)]
        pub enum ControllerAnswer { $($variant($response),)* }

        impl ControllerRequest {
            pub fn api_key(&self) -> ApiKey {
                match self { $(ControllerRequest::$variant(_) => $request::API_KEY,)* }
            }

            /// Writes the body of the request.
            pub fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
                match self { $(ControllerRequest::$variant(r) => r.encode(w, version),)* }
            }
        }

        impl ControllerAnswer {
            pub fn api_key(&self) -> ApiKey {
                match self { $(ControllerAnswer::$variant(_) => $request::API_KEY,)* }
            }

            /// Reads the body of a response; `None` for an API that the controller does not answer.
            pub fn decode(
                api: ApiKey,
                body: Bytes,
                version: i16,
            ) -> Result<Option<ControllerAnswer>, DecodeError> {
                Ok(Some(match api {
                    $(ApiKey::$variant => $response::from_bytes(body, version)?.into(),)*
                    _ => return Ok(None),
                }))
            }

            /// Writes the body of the response.
            pub fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
                match self { $(ControllerAnswer::$variant(answer) => answer.encode(w, version),)* }
            }
        }

        $(
            impl From<$request> for ControllerRequest {
                fn from(request: $request) -> ControllerRequest {
                    ControllerRequest::$variant(request)
                }
            }

            impl From<$response> for ControllerAnswer {
                fn from(response: $response) -> ControllerAnswer {
                    ControllerAnswer::$variant(response)
                }
            }

            /// Gives the answer back where it is of another kind.
            impl TryFrom<ControllerAnswer> for $response {
                type Error = ControllerAnswer;
                fn try_from(answer: ControllerAnswer) -> Result<$response, ControllerAnswer> {
                    match answer {
                        ControllerAnswer::$variant(response) => Ok(response),
                        other => Err(other),
                    }
                }
            }
        )*
    };
}

requests! {
    CreateTopics CreateTopicsRequest CreateTopicsResponse,
    DeleteTopics DeleteTopicsRequest DeleteTopicsResponse,
    CreatePartitions CreatePartitionsRequest CreatePartitionsResponse,
    AlterPartition AlterPartitionRequest AlterPartitionResponse,
    AlterPartitionReassignments AlterPartitionReassignmentsRequest AlterPartitionReassignmentsResponse,
    ListPartitionReassignments ListPartitionReassignmentsRequest ListPartitionReassignmentsResponse,
    ElectLeaders ElectLeadersRequest ElectLeadersResponse,
    IncrementalAlterConfigs IncrementalAlterConfigsRequest IncrementalAlterConfigsResponse,
    AlterConfigs AlterConfigsRequest AlterConfigsResponse,
    AlterClientQuotas AlterClientQuotasRequest AlterClientQuotasResponse,
    AlterUserScramCredentials AlterUserScramCredentialsRequest AlterUserScramCredentialsResponse,
    BrokerRegistration BrokerRegistrationRequest BrokerRegistrationResponse,
    BrokerHeartbeat BrokerHeartbeatRequest BrokerHeartbeatResponse,
    UnregisterBroker UnregisterBrokerRequest UnregisterBrokerResponse,
    ControllerRegistration ControllerRegistrationRequest ControllerRegistrationResponse,
    UnregisterController UnregisterControllerRequest UnregisterControllerResponse,
    AllocateProducerIds AllocateProducerIdsRequest AllocateProducerIdsResponse,
    UpdateFeatures UpdateFeaturesRequest UpdateFeaturesResponse,
    AssignReplicasToDirs AssignReplicasToDirsRequest AssignReplicasToDirsResponse,
}

/// Who asks, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestContext {
    /// Version in which the request came (and the answer goes).
    pub version: i16,
    /// For example `User:ANONYMOUS`.
    pub principal: String,
    pub client_id: String,
    /// Whether a broker passed it on (its own listeners' requests included), having checked what a broker checks.
    pub forwarded: bool,
}

impl ControllerRequest {
    /// The answer that refuses it with one code, as Kafka words it. `version` is the request's.
    pub fn refused(&self, code: ErrorCode, version: i16) -> ControllerAnswer {
        let text = default_text(code);
        let decision = refuse::all(self, &Refusal::new(code, text), version);
        decision.answer.expect("a refusal answers")
    }
}

impl ControllerAnswer {
    /// Whether a broker's own request went to a node whose controller is not the active one.
    pub fn is_not_controller(&self) -> bool {
        let not_controller = ErrorCode::NotController.code();
        let code = match self {
            ControllerAnswer::BrokerRegistration(a) => a.error_code,
            ControllerAnswer::BrokerHeartbeat(a) => a.error_code,
            ControllerAnswer::ControllerRegistration(a) => a.error_code,
            ControllerAnswer::AllocateProducerIds(a) => a.error_code,
            ControllerAnswer::AlterPartition(a) => a.error_code,
            ControllerAnswer::AssignReplicasToDirs(a) => a.error_code,
            ControllerAnswer::CreateTopics(a) => a.topics.first().map_or(0, |t| t.error_code),
            _ => 0,
        };
        code == not_controller
    }
}
