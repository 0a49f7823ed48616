//! Envelope (KIP-590): a client's request that a broker passes on, with the client's principal and address. Version 0 only.
//! A controller that is not the active one answers NOT_CONTROLLER in the envelope, so that the broker looks for another.

use std::net::IpAddr;

use milena_base::ErrorCode;
use milena_net::{Incoming, call};
use milena_protocol::{ApiKey, EnvelopeRequest, EnvelopeResponse};

use crate::api;
use crate::broker::Broker;
use crate::ctx::{Ctx, Enveloped, Outbox, Reply};
use crate::to_controller::principal_from_bytes;

pub(super) fn handle(
    broker: &Broker,
    ctx: &Ctx,
    request: EnvelopeRequest,
    out: &mut Outbox,
) -> Reply {
    let refuse = |code: ErrorCode| {
        ctx.now_frame(&EnvelopeResponse {
            error_code: code.code(),
            ..EnvelopeResponse::default()
        })
    };
    let (api, header, body) = match call::request(request.request_data) {
        Ok(Some(found)) => found,
        Ok(None) => return refuse(ErrorCode::UnsupportedVersion),
        Err(error) => return Reply::Close(format!("a request in an envelope: {error}")),
    };
    let Some(host) = address(&request.client_host_address) else {
        return refuse(ErrorCode::InvalidRequest);
    };
    let principal = request.request_principal.and_then(principal_from_bytes);
    let Some(principal) = principal else {
        return refuse(ErrorCode::PrincipalDeserializationFailure);
    };
    let version = header.request_api_version;
    let served = api::serves(broker.listener_kind(ctx.listener), api, version);
    if !is_forwardable(api) || !served {
        return refuse(ErrorCode::InvalidRequest);
    }
    let mut to = ctx.to;
    to.envelope = Some(Enveloped {
        version: ctx.to.version,
        correlation_id: ctx.to.correlation_id,
    });
    (to.api, to.version, to.correlation_id) = (api, version, header.correlation_id);
    let inner = Ctx {
        to,
        client_id: header.client_id.clone(),
        client_host: host,
        principal: Some(principal.into()),
        ..ctx.clone()
    };
    let incoming = Incoming {
        sequence: to.sequence,
        api,
        version,
        correlation_id: header.correlation_id,
        client_id: header.client_id,
        unsupported_version: false,
        body,
    };
    api::dispatch(broker, &inner, incoming, out)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4: Result<[u8; 4], _> = bytes.try_into();
    let v6: Result<[u8; 16], _> = bytes.try_into();
    v4.map(IpAddr::from).or(v6.map(IpAddr::from)).ok()
}

/// What Kafka calls forwardable (`ApiKeys.forwardable`).
fn is_forwardable(api: ApiKey) -> bool {
    matches!(
        api,
        ApiKey::CreateTopics
            | ApiKey::DeleteTopics
            | ApiKey::CreateAcls
            | ApiKey::DeleteAcls
            | ApiKey::AlterConfigs
            | ApiKey::CreateDelegationToken
            | ApiKey::RenewDelegationToken
            | ApiKey::ExpireDelegationToken
            | ApiKey::CreatePartitions
            | ApiKey::ElectLeaders
            | ApiKey::IncrementalAlterConfigs
            | ApiKey::AlterPartitionReassignments
            | ApiKey::ListPartitionReassignments
            | ApiKey::AlterClientQuotas
            | ApiKey::AlterUserScramCredentials
            | ApiKey::DescribeQuorum
            | ApiKey::UnregisterBroker
            | ApiKey::UnregisterController
            | ApiKey::UpdateFeatures
            | ApiKey::AddRaftVoter
            | ApiKey::RemoveRaftVoter
    )
}
