//! The controller's own registration (KIP-919): once in an active controller's epoch, so that clients can find it.

use milena_base::{BrokerId, Uuid};
use milena_controller::RequestContext;
use milena_protocol::ControllerRegistrationRequest;
use milena_protocol::broker_registration_request as broker;
use milena_protocol::controller_registration_request as controller;

use crate::ctx::Outbox;
use crate::quorum::{Origin, QuorumEvent};

/// What this node's controller registers with.
pub struct ControllerLife {
    request: ControllerRegistrationRequest,
    registered: bool,
}

impl ControllerLife {
    pub fn new(
        node: BrokerId,
        incarnation: Uuid,
        listeners: Vec<broker::Listener>,
        features: Vec<broker::Feature>,
    ) -> ControllerLife {
        let listeners = listeners.into_iter().map(|l| controller::Listener {
            name: l.name,
            host: l.host,
            port: l.port,
            security_protocol: l.security_protocol,
        });
        let features = features.into_iter().map(|f| controller::Feature {
            name: f.name,
            min_supported_version: f.min_supported_version,
            max_supported_version: f.max_supported_version,
        });
        ControllerLife {
            request: ControllerRegistrationRequest {
                controller_id: node.0,
                incarnation_id: incarnation,
                zk_migration_ready: false,
                listeners: listeners.collect(),
                features: features.collect(),
            },
            registered: false,
        }
    }

    /// Registers, once.
    pub fn register(&mut self, out: &mut Outbox) {
        if std::mem::replace(&mut self.registered, true) {
            return;
        }
        out.post(QuorumEvent::Request {
            origin: Origin::Nobody,
            request: Box::new(self.request.clone().into()),
            context: RequestContext {
                forwarded: true,
                ..RequestContext::default()
            },
        });
    }
}
