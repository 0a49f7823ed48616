//! The active controller: one door in for requests, one for time, one for the records that were appended.

use std::time::Duration;

use milena_base::{ErrorCode, Instant, Now, Offset, Prng};
use milena_image::{Image, ReplayError, VersionedRecord};
use milena_protocol::MetadataRecord;

use crate::decision::{Decision, RECORDS_PER_BATCH_MAX};
use crate::heartbeats::Heartbeats;
use crate::placement::UsableBroker;
use crate::state::State;
use crate::timers::Timers;
use crate::{ConfigRules, ControllerRequest, Refusal, RequestContext, refuse};

/// What a controller is configured with.
#[derive(Clone, Debug)]
pub struct Options {
    pub node_id: i32,
    pub cluster_id: String,
    /// Ids of the quorum's voters.
    pub voters: Vec<i32>,
    /// Records of the bootstrap checkpoint: what an empty log begins with.
    pub bootstrap: Vec<VersionedRecord>,
    /// `default.replication.factor`.
    pub default_replication_factor: i16,
    /// `num.partitions`.
    pub default_partitions: i32,
    /// `delete.topic.enable`.
    pub delete_topics_enabled: bool,
    /// `min.insync.replicas` as configured statically, or its default.
    pub min_insync_replicas: i32,
    /// `unclean.leader.election.enable` as configured statically, or its default.
    pub unclean_leader_election: bool,
    /// `broker.session.timeout.ms`.
    pub session_timeout: Duration,
    /// `metadata.max.idle.interval.ms`; `None` for 0.
    pub max_idle_interval: Option<Duration>,
    /// `leader.imbalance.check.interval.seconds`; `None` where `auto.leader.rebalance.enable` is off.
    pub leader_imbalance_check_interval: Option<Duration>,
    /// `unclean.leader.election.interval.ms`.
    pub unclean_election_interval: Duration,
}

impl Options {
    /// Kafka's defaults for a node that is the only voter.
    pub fn new(node_id: i32, cluster_id: impl Into<String>) -> Options {
        Options {
            node_id,
            cluster_id: cluster_id.into(),
            voters: vec![node_id],
            bootstrap: Vec::new(),
            default_replication_factor: 1,
            default_partitions: 1,
            delete_topics_enabled: true,
            min_insync_replicas: 1,
            unclean_leader_election: false,
            session_timeout: Duration::from_millis(9000),
            max_idle_interval: Some(Duration::from_millis(500)),
            leader_imbalance_check_interval: Some(Duration::from_secs(300)),
            unclean_election_interval: Duration::from_secs(300),
        }
    }
}

/// Single-owner. Deciding sees all that was appended, committed or not; the owner appends a decision's records,
/// replays them here, and answers when they are committed.
#[derive(Debug)]
pub struct Controller {
    pub(crate) options: Options,
    pub(crate) rules: Box<dyn ConfigRules>,
    pub(crate) state: State,
    pub(crate) heartbeats: Heartbeats,
    pub(crate) prng: Prng,
    pub(crate) kraft_version: i16,
    /// The broker whose last heartbeat left it in controlled shutdown, until the batch's end is known.
    pub(crate) leaving: Option<i32>,
    pub(crate) timers: Timers,
    epoch: Option<i32>,
    /// Who is active, as far as this node knows while it is not.
    leader: Option<i32>,
}

impl Controller {
    /// Not active yet. `seed` decides topic ids and placement.
    pub fn new(options: Options, rules: Box<dyn ConfigRules>, seed: u64) -> Controller {
        let image = Image::default();
        Controller {
            heartbeats: Heartbeats::new(options.session_timeout, &image, Instant::ZERO),
            state: State::new(image, Offset::ZERO),
            options,
            rules,
            prng: Prng::new(seed),
            kraft_version: 0,
            leaving: None,
            timers: Timers::default(),
            epoch: None,
            leader: None,
        }
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
        self.heartbeats = Heartbeats::new(self.options.session_timeout, &committed, now.mono);
        self.state = State::new(committed, next_offset);
        self.leaving = None;
        self.epoch = Some(epoch);
        self.leader = Some(self.options.node_id);
        self.timers = Timers::start(self, now.mono);
        self.activation(in_transaction)
    }

    /// This node does not lead (any more); `leader` is who does, if that is known. What was not committed is
    /// forgotten: the next election begins with the committed image.
    pub fn on_resigned(&mut self, leader: Option<i32>) {
        self.epoch = None;
        self.leader = leader;
        self.leaving = None;
        self.timers = Timers::default();
        self.state = State::new(Image::default(), Offset::ZERO);
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
