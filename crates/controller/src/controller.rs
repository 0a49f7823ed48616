//! The active controller: one door in for requests, one for time, one for the records that were appended.

use std::collections::BTreeMap;
use std::time::Duration;

use milena_base::{ErrorCode, Instant, Now, Offset, Prng};
use milena_config::{Layers, NodeConfig};
use milena_image::{ConfigResource, Image, ReplayError, VersionedRecord};
use milena_protocol::MetadataRecord;

use crate::decision::{Decision, RECORDS_PER_BATCH_MAX};
use crate::heartbeats::Heartbeats;
use crate::placement::UsableBroker;
use crate::state::State;
use crate::timers::Timers;
use crate::{ControllerRequest, Refusal, RequestContext, refuse};

/// What a controller starts with.
#[derive(Clone, Debug)]
pub struct Options {
    pub cluster_id: String,
    /// The node's configuration as it started.
    pub config: NodeConfig,
    /// Records of the bootstrap checkpoint: what an empty log begins with.
    pub bootstrap: Vec<VersionedRecord>,
    /// Decides topic ids and placement.
    pub seed: u64,
}

/// Single-owner. Deciding sees all that was appended, committed or not; the owner appends a decision's records,
/// replays them here, and answers when they are committed.
#[derive(Debug)]
pub struct Controller {
    pub(crate) node_id: i32,
    pub(crate) cluster_id: String,
    /// Ids of the configured voters; empty where the quorum is dynamic.
    pub(crate) voters: Vec<i32>,
    pub(crate) bootstrap: Vec<VersionedRecord>,
    /// This node's configuration with what the metadata lays over it.
    pub(crate) layers: Layers,
    pub(crate) state: State,
    pub(crate) heartbeats: Heartbeats,
    pub(crate) prng: Prng,
    pub(crate) kraft_version: i16,
    /// Why the quorum can't raise `kraft.version` now.
    pub(crate) static_because: Option<String>,
    /// The broker whose last heartbeat left it in controlled shutdown, until the batch's end is known.
    pub(crate) leaving: Option<i32>,
    pub(crate) timers: Timers,
    epoch: Option<i32>,
    /// Who is active, as far as this node knows while it is not.
    leader: Option<i32>,
}

impl Controller {
    /// Not active yet.
    pub fn new(options: Options) -> Controller {
        let image = Image::default();
        let config = options.config;
        let mut controller = Controller {
            node_id: config.node_id().0,
            cluster_id: options.cluster_id,
            voters: config.voters().iter().map(|voter| voter.id.0).collect(),
            bootstrap: options.bootstrap,
            heartbeats: Heartbeats::new(Duration::ZERO, &image, Instant::ZERO),
            state: State::new(image, Offset::ZERO),
            layers: Layers::new(config),
            prng: Prng::new(options.seed),
            kraft_version: 0,
            static_because: None,
            leaving: None,
            timers: Timers::default(),
            epoch: None,
            leader: None,
        };
        controller.reset(Image::default(), Offset::ZERO, Instant::ZERO);
        controller
    }

    /// All state from an image, as after an election.
    fn reset(&mut self, image: Image, next_offset: Offset, now: Instant) {
        self.heartbeats = Heartbeats::new(self.session_timeout(), &image, now);
        self.state = State::new(image, next_offset);
        self.leaving = None;
        self.lay_configs();
    }

    pub(crate) fn session_timeout(&self) -> Duration {
        let millis = self.layers.fixed().int("broker.session.timeout.ms");
        Duration::from_millis(millis.max(0) as u64)
    }

    /// Lays the metadata's broker configs over the node's own. What cannot be used is left out; the broker on this
    /// node says so in its log.
    fn lay_configs(&mut self) {
        let configs = |resource| -> BTreeMap<String, String> {
            let values = self.state.image.configs.get(&resource);
            values
                .iter()
                .map(|(k, v)| (k.to_string(), v.to_string()))
                .collect()
        };
        let default = configs(ConfigResource::default_broker());
        let own = configs(ConfigResource::broker(self.node_id));
        self.layers = self.layers.with_dynamic(&default, &own).0;
    }

    /// This node leads the quorum in `epoch`, and `committed` holds everything below the epoch's start, outside of
    /// transactions; `in_transaction` says that the log ends within one. `next_offset` is the log's end.
    pub fn on_elected(
        &mut self,
        epoch: i32,
        committed: Image,
        in_transaction: bool,
        next_offset: Offset,
        now: Now,
    ) -> Decision {
        self.reset(committed, next_offset, now.mono);
        self.epoch = Some(epoch);
        self.leader = Some(self.node_id);
        self.timers = Timers::start(self, now.mono);
        self.activation(in_transaction)
    }

    /// This node does not lead (any more); `leader` is who does, if that is known. What was not committed is
    /// forgotten: the next election begins with the committed image.
    pub fn on_resigned(&mut self, leader: Option<i32>) {
        self.epoch = None;
        self.leader = leader;
        self.timers = Timers::default();
        self.reset(Image::default(), Offset::ZERO, Instant::ZERO);
    }

    /// Whether the quorum can raise `kraft.version`: to be told before an UpdateFeatures request.
    pub fn set_static_because(&mut self, why: Option<String>) {
        self.static_because = why;
    }

    /// The quorum's finalised `kraft.version`.
    pub fn set_kraft_version(&mut self, version: i16) {
        self.kraft_version = version;
    }

    /// The epoch in which this controller is active.
    pub fn active_epoch(&self) -> Option<i32> {
        self.epoch
    }

    /// All that was appended, committed or not. For what clients read, the published image is to be asked.
    pub fn image(&self) -> &Image {
        &self.state.image
    }

    /// Decides one request. The records, if any, have to be appended and replayed before the next call.
    pub fn handle(
        &mut self,
        request: &ControllerRequest,
        ctx: &RequestContext,
        now: Now,
    ) -> Decision {
        if self.epoch.is_none() {
            return refuse::all(request, &self.not_controller(), ctx.version);
        }
        let decision = self.decide(request, ctx, now.mono);
        match decision {
            Err(refusal) => refuse::all(request, &refusal, ctx.version),
            Ok(decision) if decision.atomic && decision.records.len() > RECORDS_PER_BATCH_MAX => {
                let text = "Unable to perform excessively large batch operation.";
                let refusal = Refusal::new(ErrorCode::PolicyViolation, text);
                refuse::all(request, &refusal, ctx.version)
            }
            Ok(decision) => decision,
        }
    }

    fn decide(
        &mut self,
        request: &ControllerRequest,
        ctx: &RequestContext,
        now: Instant,
    ) -> Result<Decision, Refusal> {
        use ControllerRequest as R;
        match request {
            R::CreateTopics(r) => self.create_topics(r, ctx),
            R::DeleteTopics(r) => self.delete_topics(r, ctx),
            R::CreatePartitions(r) => self.create_partitions(r),
            R::AlterPartition(r) => self.alter_partition(r, ctx),
            R::AlterPartitionReassignments(r) => Ok(self.alter_reassignments(r)),
            R::ListPartitionReassignments(r) => Ok(self.list_reassignments(r)),
            R::ElectLeaders(r) => self.elect_leaders(r),
            R::IncrementalAlterConfigs(r) => Ok(self.incremental_alter_configs(r, ctx)),
            R::AlterConfigs(r) => Ok(self.alter_configs(r, ctx)),
            R::AlterClientQuotas(r) => Ok(self.alter_client_quotas(r)),
            R::AlterUserScramCredentials(r) => Ok(self.alter_scram(r)),
            R::BrokerRegistration(r) => self.register_broker(r, ctx, now),
            R::BrokerHeartbeat(r) => self.heartbeat(r, now),
            R::UnregisterBroker(r) => self.unregister_broker(r),
            R::ControllerRegistration(r) => self.register_controller(r),
            R::UnregisterController(r) => self.unregister_controller(r),
            R::AllocateProducerIds(r) => self.allocate_producer_ids(r),
            R::UpdateFeatures(r) => Ok(self.update_features(r, ctx)),
            R::AssignReplicasToDirs(r) => self.assign_replicas_to_dirs(r),
        }
    }

    fn not_controller(&self) -> Refusal {
        let text = match self.leader {
            Some(leader) => format!("The active controller appears to be node {leader}."),
            None => "No controller appears to be active.".to_owned(),
        };
        Refusal::new(ErrorCode::NotController, text)
    }

    /// Replays one record that was appended at `offset`.
    pub fn replay(&mut self, record: &MetadataRecord, offset: Offset) -> Result<(), ReplayError> {
        use MetadataRecord as R;
        self.state.replay(record, offset)?;
        match record {
            R::RegisterBroker(r) => {
                self.heartbeats.remove(r.broker_id);
                self.heartbeats.register(r.broker_id, r.fenced);
            }
            R::UnregisterBroker(r) => self.heartbeats.remove(r.broker_id),
            R::BrokerRegistrationChange(r) => {
                let broker = self.state.broker(r.broker_id);
                let fenced = broker.is_some_and(|b| b.fenced);
                self.heartbeats.register(r.broker_id, fenced);
            }
            R::Config(r) if r.resource_type == ConfigResource::BROKER => self.lay_configs(),
            _ => {}
        }
        Ok(())
    }

    /// All records of a decision (also of one without any) were replayed; the log now ends before `next_offset`.
    pub fn batch_end(&mut self, next_offset: Offset) {
        self.state.next_offset = next_offset;
        if let Some(broker) = self.leaving.take() {
            self.heartbeats
                .set_shutdown_offset(broker, next_offset.0 - 1);
        }
    }

    /// When [`Controller::tick`] has something to do.
    pub fn next_deadline(&self) -> Instant {
        self.timers.next_deadline()
    }

    /// For tests and the simulator: panics where what is derived differs from what it is derived from, or where a
    /// partition is in a state that no controller may write.
    pub fn check_invariants(&self) {
        self.state.check();
    }

    pub(crate) fn usable_brokers(&self) -> Vec<UsableBroker> {
        let usable = |(id, fenced)| {
            let broker = self.state.broker(id)?;
            broker.has_uncordoned_dirs().then(|| UsableBroker {
                id,
                rack: broker.rack.clone(),
                fenced,
            })
        };
        self.heartbeats.staying().filter_map(usable).collect()
    }
}
