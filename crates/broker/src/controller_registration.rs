//! The controller's own registration (KIP-919): once in an active controller's epoch, so that clients can find it.

use milena_base::{BrokerId, ErrorCode, Uuid};
use milena_protocol::ControllerRegistrationRequest;
use milena_protocol::broker_registration_request as broker;
use milena_protocol::controller_registration_request as controller;

use tracing::warn;

use crate::ask::{Ask, Origin};
use crate::ctx::Outbox;
use crate::to_controller::ToControllerEvent;

/// What this node's controller registers with.
pub struct ControllerLife {
    request: ControllerRegistrationRequest,
    registered: bool,
    in_flight: bool,
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
            in_flight: false,
        }
    }

    /// Registers with the active controller, until that has succeeded once.
    pub fn register(&mut self, out: &mut Outbox) {
        if self.registered || std::mem::replace(&mut self.in_flight, true) {
            return;
        }
        let ask = Ask::own(Origin::Lifecycle, self.request.clone());
        out.post(ToControllerEvent::Ask(Box::new(ask)));
    }

    /// The answer came; where it is a refusal that may pass, the next active controller is asked again.
    pub fn on_registered(&mut self, code: i16) {
        self.in_flight = false;
        // Before metadata version 3.7-IV0 controllers do not register.
        let old = code == ErrorCode::UnsupportedVersion.code();
        self.registered = code == 0 || old;
        if !self.registered {
            let name = ErrorCode::from_code(code).map_or("an unknown error", ErrorCode::name);
            warn!("the controller's registration was refused: {name}");
        }
    }

    /// Whether a registration has to be tried again.
    pub fn is_wanting(&self) -> bool {
        !self.registered && !self.in_flight
    }
}
