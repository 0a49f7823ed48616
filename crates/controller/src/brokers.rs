//! Brokers: registration, heartbeats with fencing and controlled shutdown, unregistration.

use std::collections::{BTreeMap, BTreeSet};

use milena_base::{ErrorCode, Instant};
use milena_image::{KRAFT_VERSION, METADATA_VERSION, VersionRange};
use milena_protocol::register_broker_record::{BrokerEndpoint, BrokerFeature};
use milena_protocol::{
    BrokerHeartbeatRequest, BrokerHeartbeatResponse, BrokerRegistrationChangeRecord,
    BrokerRegistrationRequest, BrokerRegistrationResponse, RegisterBrokerRecord,
    UnregisterBrokerRecord, UnregisterBrokerRequest, UnregisterBrokerResponse,
};

use crate::decision::{Decision, Records};
use crate::elections::BrokerEvent;
use crate::heartbeats::{BrokerState, Wish};
use crate::index::is_reserved_directory;
use crate::{Controller, Refusal, RequestContext};

const FENCE: i8 = 1;
const UNFENCE: i8 = -1;
const IN_CONTROLLED_SHUTDOWN: i8 = 1;

impl Controller {
    pub(crate) fn register_broker(
        &mut self,
        request: &BrokerRegistrationRequest,
        ctx: &RequestContext,
        now: Instant,
    ) -> Result<Decision, Refusal> {
        self.check_registration(request, now)?;
        let existing = self
            .state
            .image
            .cluster
            .brokers
            .get(&request.broker_id)
            .cloned();
        let same = existing
            .clone()
            .filter(|b| b.incarnation == request.incarnation_id);
        let mut records = Records::default();
        let mut record = self.registration_record(request)?;
        if let Some(same) = &same {
            record.fenced = same.fenced;
            record.in_controlled_shutdown = same.in_controlled_shutdown;
            record.broker_epoch = same.epoch;
        } else {
            let stored = existing.as_ref().map_or(-2, |broker| broker.epoch);
            let clean = ctx.version >= 3 && stored == request.previous_broker_epoch;
            self.clean_up_after(request.broker_id, clean, &mut records);
            record.broker_epoch = self.state.next_offset.0;
        }
        let answer = BrokerRegistrationResponse {
            broker_epoch: record.broker_epoch,
            ..BrokerRegistrationResponse::default()
        };
        let version = self.state.image.metadata_version();
        records.push(record, version.register_broker_record_version());
        Ok(Decision::records(records).with_answer(answer))
    }

    fn check_registration(
        &self,
        request: &BrokerRegistrationRequest,
        now: Instant,
    ) -> Result<(), Refusal> {
        if *request.cluster_id != *self.cluster_id {
            let text = format!(
                "Expected cluster ID {}, but got cluster ID {}",
                self.cluster_id, request.cluster_id
            );
            return Err(Refusal::new(ErrorCode::InconsistentClusterId, text));
        }
        if let Some(existing) = self.state.broker(request.broker_id) {
            let alive = self
                .heartbeats
                .has_session(existing.id, existing.epoch, now);
            if alive && existing.incarnation != request.incarnation_id {
                let text = "Another broker is registered with that broker id. If the broker was \
                            recently restarted this should self-resolve once the heartbeat manager \
                            expires the broker's session.";
                return Err(Refusal::new(ErrorCode::DuplicateBrokerRegistration, text));
            }
        }
        if request.is_migrating_zk_broker {
            let text = "Controller does not support registering ZK brokers.";
            return Err(Refusal::new(ErrorCode::BrokerIdNotRegistered, text));
        }
        self.check_directories(request)
    }

    fn check_directories(&self, request: &BrokerRegistrationRequest) -> Result<(), Refusal> {
        let version = self.state.image.metadata_version();
        if !version.supports_directory_assignment() {
            return Ok(());
        }
        let invalid = |text: &str| Err(Refusal::new(ErrorCode::InvalidRegistration, text));
        if request.log_dirs.is_empty() {
            return invalid("No directories specified in request");
        }
        if request.log_dirs.iter().any(|d| is_reserved_directory(*d)) {
            return invalid("Reserved directory ID in request");
        }
        let distinct: BTreeSet<_> = request.log_dirs.iter().collect();
        if distinct.len() != request.log_dirs.len() {
            return invalid("Duplicate directory ID in request");
        }
        for directory in &request.log_dirs {
            let owner = self.state.index.directory_owner(*directory);
            if let Some(owner) = owner.filter(|owner| *owner != request.broker_id) {
                return invalid(&format!(
                    "Broker {owner} is already registered with directory {directory}"
                ));
            }
        }
        Ok(())
    }

    fn registration_record(
        &self,
        request: &BrokerRegistrationRequest,
    ) -> Result<RegisterBrokerRecord, Refusal> {
        self.check_features(request)?;
        let endpoints = request.listeners.iter().map(|listener| BrokerEndpoint {
            name: listener.name.clone(),
            host: listener.host.clone(),
            port: listener.port,
            security_protocol: listener.security_protocol,
        });
        let features = request.features.iter().map(|feature| BrokerFeature {
            name: feature.name.clone(),
            min_supported_version: feature.min_supported_version,
            max_supported_version: feature.max_supported_version,
        });
        let version = self.state.image.metadata_version();
        let log_dirs = match version.supports_directory_assignment() {
            true => request.log_dirs.clone(),
            false => Vec::new(),
        };
        Ok(RegisterBrokerRecord {
            broker_id: request.broker_id,
            is_migrating_zk_broker: false,
            incarnation_id: request.incarnation_id,
            broker_epoch: 0,
            end_points: endpoints.collect(),
            features: features.collect(),
            rack: request.rack.clone(),
            fenced: true,
            in_controlled_shutdown: false,
            log_dirs,
            cordoned_log_dirs: None,
        })
    }

    /// A broker has to support every level that is finalised; what it does not name it supports at 0 only.
    fn check_features(&self, request: &BrokerRegistrationRequest) -> Result<(), Refusal> {
        let features = &self.state.image.features;
        let mut finalized: BTreeMap<&str, i16> = BTreeMap::new();
        finalized.extend(
            features
                .finalized()
                .map(|(name, level)| (name.as_str(), level)),
        );
        finalized.insert(METADATA_VERSION, features.level(METADATA_VERSION));
        finalized.insert(KRAFT_VERSION, self.kraft_version);
        let mut named_metadata_version = false;
        for feature in &request.features {
            let level = finalized.remove(feature.name.as_str()).unwrap_or(0);
            let range = VersionRange {
                min: feature.min_supported_version,
                max: feature.max_supported_version,
            };
            check_feature(&feature.name, level, range)?;
            named_metadata_version |= *feature.name == *METADATA_VERSION;
        }
        if !named_metadata_version {
            let text = "Request features do not contain 'metadata.version'";
            return Err(Refusal::new(ErrorCode::InvalidRegistration, text));
        }
        let unnamed = finalized.into_iter().filter(|(_, level)| *level != 0);
        for (name, level) in unnamed {
            check_feature(name, level, VersionRange::default())?;
        }
        Ok(())
    }

    /// A new incarnation begins: the old one led and held nothing that may be relied on any more. With ELR, an
    /// incarnation that did not stop cleanly may have lost what it had not flushed.
    fn clean_up_after(&self, broker: i32, clean: bool, records: &mut Records) {
        let index = &self.state.index;
        if self.state.image.features.elr_enabled() && !clean {
            let event = BrokerEvent {
                unclean: Some(broker),
                ..BrokerEvent::default()
            };
            self.update_leaders(event, index.in_isr(broker), records);
            self.update_leaders(event, index.in_elr(broker), records);
        } else {
            self.update_leaders(removed(broker), index.in_isr(broker), records);
        }
    }

    pub(crate) fn check_broker_epoch(&self, broker: i32, epoch: i64) -> Result<(), Refusal> {
        let stale = |text| Err(Refusal::new(ErrorCode::StaleBrokerEpoch, text));
        match self.state.broker(broker).map(|b| b.epoch) {
            None => stale(format!(
                "No broker registration found for broker id {broker}"
            )),
            Some(known) if known != epoch => stale(format!(
                "Expected broker epoch {known}, but got broker epoch {epoch}"
            )),
            Some(_) => Ok(()),
        }
    }

    pub(crate) fn heartbeat(
        &mut self,
        request: &BrokerHeartbeatRequest,
        now: Instant,
    ) -> Result<Decision, Refusal> {
        let (broker, epoch) = (request.broker_id, request.broker_epoch);
        self.heartbeats.contact(broker, epoch, now);
        self.check_broker_epoch(broker, epoch)?;
        let registered_at = self
            .state
            .registered_at
            .get(&broker)
            .copied()
            .unwrap_or(epoch);
        let wish = Wish {
            fence: request.want_fence,
            shut_down: request.want_shut_down,
            metadata_offset: request.current_metadata_offset,
            registered_at,
            has_leaderships: self.state.index.leads_any(broker),
        };
        let (current, next) = self
            .heartbeats
            .next_state(broker, wish)
            .ok_or_else(|| Refusal::bare(ErrorCode::UnknownServerError))?;
        let mut records = Records::default();
        if current != next {
            self.move_broker(broker, epoch, next, &mut records);
        }
        self.heartbeats
            .touch(broker, next.is_fenced(), request.current_metadata_offset);
        self.directories_offline(broker, epoch, &request.offline_log_dirs, &mut records);
        if let Some(cordoned) = &request.cordoned_log_dirs {
            self.directories_cordoned(broker, epoch, cordoned, &mut records);
        }
        if next == BrokerState::ControlledShutdown {
            self.leaving = Some(broker);
        }
        let answer = BrokerHeartbeatResponse {
            is_caught_up: request.current_metadata_offset >= registered_at,
            is_fenced: next.is_fenced(),
            should_shut_down: next == BrokerState::ShutdownNow,
            ..BrokerHeartbeatResponse::default()
        };
        Ok(Decision::records(records).with_answer(answer))
    }

    fn move_broker(&self, broker: i32, epoch: i64, next: BrokerState, records: &mut Records) {
        match next {
            BrokerState::Fenced | BrokerState::ShutdownNow => {
                self.fence_broker(broker, epoch, records);
            }
            BrokerState::Unfenced => {
                let mut change = registration_change(broker, epoch);
                change.fenced = UNFENCE;
                records.push(change, 0);
                let event = BrokerEvent {
                    added: Some(broker),
                    ..BrokerEvent::default()
                };
                self.update_leaders(event, self.state.index.leaderless(), records);
            }
            BrokerState::ControlledShutdown => {
                let announced = self.state.broker(broker);
                if announced.is_none_or(|b| !b.in_controlled_shutdown) {
                    let mut change = registration_change(broker, epoch);
                    change.in_controlled_shutdown = IN_CONTROLLED_SHUTDOWN;
                    records.push(change, 1);
                }
                let partitions = self.state.index.in_isr(broker);
                self.update_leaders(removed(broker), partitions, records);
            }
        }
    }

    fn fence_broker(&self, broker: i32, epoch: i64, records: &mut Records) {
        let partitions = self.state.index.in_isr(broker);
        self.update_leaders(removed(broker), partitions, records);
        let mut change = registration_change(broker, epoch);
        change.fenced = FENCE;
        records.push(change, 0);
    }

    /// Fences one broker whose session is over. `None` where no session is; no records where the session belonged to
    /// a registration that is gone.
    pub(crate) fn fence_one_stale_broker(&mut self, now: Instant) -> Option<Records> {
        let (broker, epoch) = self.heartbeats.take_expired(now)?;
        let mut records = Records::default();
        match self.state.broker(broker).map(|b| b.epoch) {
            None => self.heartbeats.remove(broker),
            Some(current) if current != epoch => {}
            Some(_) => {
                self.fence_broker(broker, epoch, &mut records);
                self.heartbeats.fence(broker);
            }
        }
        Some(records)
    }

    pub(crate) fn unregister_broker(
        &self,
        request: &UnregisterBrokerRequest,
    ) -> Result<Decision, Refusal> {
        let id = request.broker_id;
        let Some(broker) = self.state.broker(id) else {
            let text = format!("Broker ID {id} is not currently registered");
            return Err(Refusal::new(ErrorCode::BrokerIdNotRegistered, text));
        };
        let mut records = Records::default();
        self.update_leaders(removed(id), self.state.index.in_isr(id), &mut records);
        self.update_leaders(removed(id), self.state.index.in_elr(id), &mut records);
        let record = UnregisterBrokerRecord {
            broker_id: id,
            broker_epoch: broker.epoch,
        };
        records.push(record, 0);
        Ok(Decision::records(records).with_answer(UnregisterBrokerResponse::default()))
    }
}

pub(crate) fn removed(broker: i32) -> BrokerEvent {
    BrokerEvent {
        removed: Some(broker),
        ..BrokerEvent::default()
    }
}

pub(crate) fn registration_change(broker: i32, epoch: i64) -> BrokerRegistrationChangeRecord {
    BrokerRegistrationChangeRecord {
        broker_id: broker,
        broker_epoch: epoch,
        ..BrokerRegistrationChangeRecord::default()
    }
}

fn check_feature(name: &str, finalized: i16, range: VersionRange) -> Result<(), Refusal> {
    if range.contains(finalized) {
        return Ok(());
    }
    let text = format!(
        "Unable to register because the broker does not support finalized version {finalized} of \
         {name}. The broker wants a version between {} and {}, inclusive.",
        range.min, range.max
    );
    Err(Refusal::new(ErrorCode::UnsupportedVersion, text))
}
