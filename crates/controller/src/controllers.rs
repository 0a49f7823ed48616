//! Registrations of controllers (KIP-919), and their end.

use milena_base::ErrorCode;
use milena_protocol::register_controller_record::{ControllerEndpoint, ControllerFeature};
use milena_protocol::{
    ControllerRegistrationRequest, ControllerRegistrationResponse, RegisterControllerRecord,
    UnregisterControllerRecord, UnregisterControllerRequest, UnregisterControllerResponse,
};

use crate::decision::{Decision, Records};
use crate::{Controller, Refusal};

impl Controller {
    pub(crate) fn register_controller(
        &self,
        request: &ControllerRegistrationRequest,
    ) -> Result<Decision, Refusal> {
        let version = self.state.image.metadata_version();
        if !version.supports_controller_registration() {
            let text =
                "The current MetadataVersion is too old to support controller registrations.";
            return Err(Refusal::new(ErrorCode::UnsupportedVersion, text));
        }
        let endpoints = request.listeners.iter().map(|listener| ControllerEndpoint {
            name: listener.name.clone(),
            host: listener.host.clone(),
            port: listener.port,
            security_protocol: listener.security_protocol,
        });
        let features = request.features.iter().map(|feature| ControllerFeature {
            name: feature.name.clone(),
            min_supported_version: feature.min_supported_version,
            max_supported_version: feature.max_supported_version,
        });
        let record = RegisterControllerRecord {
            controller_id: request.controller_id,
            incarnation_id: request.incarnation_id,
            zk_migration_ready: false,
            end_points: endpoints.collect(),
            features: features.collect(),
        };
        let mut records = Records::default();
        records.push(record, 0);
        let answer = ControllerRegistrationResponse::default();
        Ok(Decision::records(records).with_answer(answer).atomic())
    }

    pub(crate) fn unregister_controller(
        &self,
        request: &UnregisterControllerRequest,
    ) -> Result<Decision, Refusal> {
        let controller_id = request.controller_id;
        if controller_id == self.node_id {
            let text = "Controller cannot unregister itself while it is active.";
            return Err(Refusal::new(ErrorCode::InvalidRequest, text));
        }
        let version = self.state.image.metadata_version();
        if !version.supports_controller_unregistration() {
            let text =
                "The current MetadataVersion is too old to support controller unregistration.";
            return Err(Refusal::new(ErrorCode::UnsupportedVersion, text));
        }
        if self.state.image.cluster.controller(controller_id).is_none() {
            let text = format!("Controller ID {controller_id} is not currently registered.");
            return Err(Refusal::new(ErrorCode::ControllerIdNotRegistered, text));
        }
        let mut records = Records::default();
        records.push(UnregisterControllerRecord { controller_id }, 0);
        let answer = UnregisterControllerResponse::default();
        Ok(Decision::records(records).with_answer(answer).atomic())
    }
}
