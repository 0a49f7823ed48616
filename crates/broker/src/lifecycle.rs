//! The broker's life as its controller sees it: registered, fenced until it has caught up, alive while it
//! beats, shutting down by leave.
//!
//! It speaks to the controller only through requests that any broker would send (KIP-631), also when both live
//! in one process.

use std::time::Duration;

use milena_base::{ErrorCode, Instant, Now, Offset, Uuid};
use milena_protocol::broker_registration_request::{Feature, Listener};
use milena_protocol::{
    BrokerHeartbeatRequest, BrokerHeartbeatResponse, BrokerRegistrationRequest,
    BrokerRegistrationResponse, Str,
};
use tracing::{info, warn};

use crate::ask::{Ask, Origin};
use crate::controller_registration::ControllerLife;
use crate::ctx::Outbox;
use crate::mailbox::{Mailbox, Post};
use crate::to_controller::ToControllerEvent;
use milena_controller::ControllerRequest;

/// Pause after a refused registration of the controller.
const CONTROLLER_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What the mailbox is told.
#[derive(Debug)]
pub enum LifecycleEvent {
    /// A controller answers to requests: at start, and again when the leader changes.
    ControllerReady,
    Registered(Box<BrokerRegistrationResponse>),
    Beaten(Box<BrokerHeartbeatResponse>),
    /// What the registration of this node's controller was answered with.
    ControllerRegistered(i16),
    /// The broker's view has reached this metadata offset.
    Published {
        offset: Offset,
        /// Whether it shows this broker as one that serves.
        is_unfenced: bool,
    },
    /// Every log is open and every coordinator can be elected.
    LogsLoaded,
    /// A log directory failed: its replicas here are lost until the next start (KIP-858).
    DirectoryFailed(Uuid),
    /// Leave: hand over leadership, then stop.
    Stop,
    /// The node is stopping: nothing more is said.
    Ended,
}

/// Where the broker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifeState {
    Starting,
    CatchingUp,
    Fenced,
    Running,
    Leaving,
    Gone,
}

/// What the broker registers with.
#[derive(Clone, Debug)]
pub struct Registration {
    pub broker_id: i32,
    pub cluster_id: String,
    pub incarnation: Uuid,
    pub listeners: Vec<Listener>,
    pub features: Vec<Feature>,
    pub rack: Option<String>,
    pub log_dirs: Vec<Uuid>,
    /// From the clean-shutdown marker; −1 after an unclean stop.
    pub previous_broker_epoch: i64,
    pub heartbeat_interval: Duration,
    /// `initial.broker.registration.timeout.ms`.
    pub registration_timeout: Duration,
}

/// See the module's words.
pub struct Lifecycle {
    /// `None` on a controller that is no broker.
    registration: Option<Registration>,
    /// `None` on a broker that is no controller.
    controller: Option<ControllerLife>,
    state: LifeState,
    epoch: i64,
    registered_at_offset: Offset,
    published: Offset,
    is_seen_unfenced: bool,
    /// Clients are served.
    lets_in: bool,
    logs_loaded: bool,
    failed_dirs: Vec<Uuid>,
    stopping: bool,
    in_flight: bool,
    /// Something changed while an answer was awaited: beat again at once.
    again: bool,
    next_beat: Instant,
    /// When the controller's registration is tried again.
    controller_again: Instant,
    met_former_self: bool,
    /// The node stops where it is not registered by then, as in Kafka; never once it was.
    register_until: Instant,
    ended: bool,
}

impl Lifecycle {
    pub fn new(
        registration: Option<Registration>,
        controller: Option<ControllerLife>,
        now: Now,
    ) -> Lifecycle {
        let timeout = registration.as_ref().map(|r| r.registration_timeout);
        Lifecycle {
            register_until: timeout.map_or(Instant::NEVER, |timeout| now.mono + timeout),
            registration,
            controller,
            state: LifeState::Starting,
            epoch: -1,
            registered_at_offset: Offset::NONE,
            published: Offset::NONE,
            is_seen_unfenced: false,
            lets_in: false,
            logs_loaded: false,
            failed_dirs: Vec::new(),
            stopping: false,
            in_flight: false,
            again: false,
            next_beat: Instant::NEVER,
            controller_again: Instant::NEVER,
            met_former_self: false,
            ended: false,
        }
    }

    pub fn state(&self) -> LifeState {
        self.state
    }

    fn register(&mut self, out: &mut Outbox) {
        let Some(r) = &self.registration else {
            return;
        };
        let request = BrokerRegistrationRequest {
            broker_id: r.broker_id,
            cluster_id: r.cluster_id.clone().into(),
            incarnation_id: r.incarnation,
            listeners: r.listeners.clone(),
            features: r.features.clone(),
            rack: r.rack.clone().map(Str::from),
            log_dirs: self.online_dirs(r),
            previous_broker_epoch: r.previous_broker_epoch,
            ..BrokerRegistrationRequest::default()
        };
        self.ask(out, request.into());
    }

    fn online_dirs(&self, registration: &Registration) -> Vec<Uuid> {
        let dirs = registration.log_dirs.iter().copied();
        dirs.filter(|id| !self.failed_dirs.contains(id)).collect()
    }

    fn beat(&mut self, now: Now, out: &mut Outbox) {
        let Some(registration) = self.registration.as_ref().filter(|_| self.epoch >= 0) else {
            return;
        };
        if self.in_flight {
            self.again = true;
            // The next look is an interval away: an answer that is late must not keep this thread busy.
            self.next_beat = now.mono + registration.heartbeat_interval;
            return;
        }
        self.again = false;
        self.next_beat = now.mono + registration.heartbeat_interval;
        let request = BrokerHeartbeatRequest {
            broker_id: registration.broker_id,
            broker_epoch: self.epoch,
            current_metadata_offset: self.published.0,
            want_fence: !self.logs_loaded,
            want_shut_down: self.stopping,
            offline_log_dirs: self.failed_dirs.clone(),
            ..BrokerHeartbeatRequest::default()
        };
        self.ask(out, request.into());
    }

    fn ask(&mut self, out: &mut Outbox, request: ControllerRequest) {
        self.in_flight = true;
        let ask = Box::new(Ask::own(Origin::Lifecycle, request));
        out.post(ToControllerEvent::Ask(ask));
    }

    fn on_registered(&mut self, answer: &BrokerRegistrationResponse, now: Now, out: &mut Outbox) {
        self.in_flight = false;
        if self.state == LifeState::Gone {
            return;
        }
        if answer.error_code != 0 {
            match answer.error_code == ErrorCode::DuplicateBrokerRegistration.code() {
                true => self.meet_former_self(),
                false => self.complain("registration", answer.error_code),
            }
            self.next_beat = now.mono + self.interval();
            return;
        }
        self.epoch = answer.broker_epoch;
        self.register_until = Instant::NEVER;
        self.registered_at_offset = Offset(answer.broker_epoch);
        self.state = LifeState::CatchingUp;
        info!(epoch = self.epoch, "registered with the controller");
        out.post(Post::BrokerEpoch(self.epoch));
        self.beat(now, out);
    }

    fn on_beaten(&mut self, answer: &BrokerHeartbeatResponse, now: Now, out: &mut Outbox) {
        self.in_flight = false;
        if answer.error_code != 0 {
            self.complain("heartbeat", answer.error_code);
            let stale = answer.error_code == ErrorCode::StaleBrokerEpoch.code();
            if stale && !self.stopping {
                self.state = LifeState::Starting;
                self.register(out);
            }
            return;
        }
        if self.stopping && answer.should_shut_down {
            self.state = LifeState::Gone;
            self.next_beat = Instant::NEVER;
            out.post(Post::Left);
            return;
        }
        self.state = match (self.stopping, answer.is_caught_up, answer.is_fenced) {
            (true, _, _) => LifeState::Leaving,
            (_, false, _) => LifeState::CatchingUp,
            (_, true, true) => LifeState::Fenced,
            (_, true, false) => LifeState::Running,
        };
        self.let_clients_in(out);
        if self.again && (self.state != LifeState::Running || !self.failed_dirs.is_empty()) {
            self.beat(now, out);
        }
    }

    /// Once the controller counts this broker in, and the image that clients are shown does too.
    fn let_clients_in(&mut self, out: &mut Outbox) {
        let serves = self.state == LifeState::Running && self.is_seen_unfenced;
        if serves && !std::mem::replace(&mut self.lets_in, true) {
            out.post(Post::Unfenced);
        }
    }

    fn interval(&self) -> Duration {
        let registration = self.registration.as_ref();
        registration.map_or(Duration::MAX, |r| r.heartbeat_interval)
    }

    /// Nothing has to be handed over: a controller that is no broker, or a broker that was never registered.
    fn stop(&mut self, now: Now, out: &mut Outbox) {
        self.stopping = true;
        self.register_until = Instant::NEVER;
        self.state = LifeState::Leaving;
        if self.epoch < 0 {
            self.state = LifeState::Gone;
            return out.post(Post::Left);
        }
        self.beat(now, out);
    }

    fn register_controller(&mut self, now: Now, out: &mut Outbox) {
        if let Some(controller) = &mut self.controller {
            controller.register(out);
            self.controller_again = match controller.is_wanting() {
                true => now.mono + CONTROLLER_AGAIN_AFTER,
                false => Instant::NEVER,
            };
        }
    }

    fn complain(&self, what: &str, code: i16) {
        if code == ErrorCode::InvalidRegistration.code() {
            warn!(
                "a log directory of this node may belong to another broker: a copied directory keeps its directory.id"
            );
        }
        let name = ErrorCode::from_code(code).map_or("an unknown error", ErrorCode::name);
        warn!("the controller refused the {what}: {name}");
    }

    /// A node that was killed and starts again meets its former self until that one's session is over: told once.
    fn meet_former_self(&mut self) {
        if !self.met_former_self {
            warn!(
                "the controller counts another process with this node.id as alive: where that is this node before it was killed, this one takes over when the session ends (broker.session.timeout.ms)"
            );
        }
        self.met_former_self = true;
    }
}

impl Mailbox for Lifecycle {
    type Event = LifecycleEvent;

    fn step(&mut self, event: LifecycleEvent, now: Now, out: &mut Outbox) {
        match event {
            LifecycleEvent::ControllerReady => {
                self.register_controller(now, out);
                if self.state == LifeState::Starting && !self.in_flight {
                    self.register(out);
                }
            }
            LifecycleEvent::Registered(answer) => self.on_registered(&answer, now, out),
            LifecycleEvent::Beaten(answer) => self.on_beaten(&answer, now, out),
            LifecycleEvent::ControllerRegistered(code) => {
                if let Some(controller) = &mut self.controller {
                    controller.on_registered(code);
                    if controller.is_wanting() {
                        self.controller_again = now.mono + CONTROLLER_AGAIN_AFTER;
                    }
                }
            }
            LifecycleEvent::Published {
                offset,
                is_unfenced,
            } => {
                self.published = offset;
                self.is_seen_unfenced = is_unfenced;
                self.let_clients_in(out);
                let waited_for = offset >= self.registered_at_offset;
                let waits = match self.state {
                    LifeState::CatchingUp => waited_for,
                    LifeState::Leaving => true,
                    _ => false,
                };
                if waits {
                    self.beat(now, out);
                }
            }
            LifecycleEvent::LogsLoaded => {
                self.logs_loaded = true;
                if self.registration.is_none() {
                    out.post(Post::Unfenced);
                }
                if matches!(self.state, LifeState::CatchingUp | LifeState::Fenced) {
                    self.beat(now, out);
                }
            }
            LifecycleEvent::DirectoryFailed(id) => {
                self.failed_dirs.push(id);
                self.beat(now, out);
            }
            LifecycleEvent::Ended => self.ended = true,
            LifecycleEvent::Stop => self.stop(now, out),
        }
    }

    fn tick(&mut self, now: Now, out: &mut Outbox) {
        if self.register_until <= now.mono {
            self.register_until = Instant::NEVER;
            out.post(Post::Halt(
                "no controller registered this broker within initial.broker.registration.timeout.ms"
                    .into(),
            ));
        }
        if self.controller_again <= now.mono {
            self.controller_again = Instant::NEVER;
            self.register_controller(now, out);
        }
        if now.mono < self.next_beat {
            return;
        }
        if self.state == LifeState::Starting {
            self.next_beat = Instant::NEVER;
            self.register(out);
        } else {
            self.beat(now, out);
        }
    }

    fn deadline(&self) -> Instant {
        self.next_beat
            .min(self.controller_again)
            .min(self.register_until)
    }

    fn is_finished(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use milena_base::BrokerId;

    use super::*;

    fn lifecycle() -> Lifecycle {
        let registration = Registration {
            broker_id: 1,
            cluster_id: "c".into(),
            incarnation: Uuid::ONE,
            listeners: Vec::new(),
            features: Vec::new(),
            rack: None,
            log_dirs: Vec::new(),
            previous_broker_epoch: -1,
            heartbeat_interval: Duration::from_secs(2),
            registration_timeout: Duration::from_secs(60),
        };
        let controller = ControllerLife::new(BrokerId(1), Uuid::ONE, Vec::new(), Vec::new());
        Lifecycle::new(Some(registration), Some(controller), Now::default())
    }

    fn refused(code: ErrorCode) -> LifecycleEvent {
        LifecycleEvent::Registered(Box::new(BrokerRegistrationResponse {
            error_code: code.code(),
            ..BrokerRegistrationResponse::default()
        }))
    }

    #[test]
    fn one_that_is_not_registered_in_time_halts() {
        let (mut life, mut out, now) = (lifecycle(), Outbox::default(), Now::default());
        life.step(LifecycleEvent::ControllerReady, now, &mut out);
        out = Outbox::default();
        assert!(life.deadline() <= now.mono + Duration::from_secs(60));
        life.tick(Now::from_millis(59_000, 0), &mut out);
        assert!(!out.posts.iter().any(|post| matches!(post, Post::Halt(_))));
        life.tick(Now::from_millis(60_000, 0), &mut out);
        assert!(out.posts.iter().any(|post| matches!(post, Post::Halt(_))));
    }

    #[test]
    fn one_that_no_controller_knows_leaves_at_once() {
        let (mut life, mut out, now) = (lifecycle(), Outbox::default(), Now::default());
        life.step(LifecycleEvent::ControllerReady, now, &mut out);
        life.step(
            refused(ErrorCode::DuplicateBrokerRegistration),
            now,
            &mut out,
        );
        assert_eq!(life.state(), LifeState::Starting);
        assert!(life.deadline() > now.mono && life.deadline() < Instant::NEVER);
        out = Outbox::default();
        life.step(LifecycleEvent::Stop, now, &mut out);
        assert!(matches!(out.posts[..], [Post::Left]));
        // An answer that comes late changes nothing.
        life.step(refused(ErrorCode::None), now, &mut out);
        assert_eq!(life.state(), LifeState::Gone);
        assert_eq!(out.posts.len(), 1);
    }
}
