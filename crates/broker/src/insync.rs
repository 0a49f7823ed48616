//! The mailbox that keeps the in-sync replicas of what this broker leads: who has caught up joins, who lags leaves, each
//! by an AlterPartition that the active controller commits (KIP-497).
//!
//! One request is under way at a time; what is due meanwhile goes with the next.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use milena_base::{BrokerId, Epoch, ErrorCode, Instant, Now, TopicIdPartition};
use milena_protocol::alter_partition_request::{BrokerState, PartitionData, TopicData};
use milena_protocol::alter_partition_response::PartitionData as Answered;
use milena_protocol::{AlterPartitionRequest, AlterPartitionResponse};
use milena_replica::{IsrAnswer, IsrProposal};
use tracing::{info, warn};

use crate::ask::Origin;
use crate::broker::{Broker, Hosted};
use crate::ctx::Outbox;
use crate::mailbox::Mailbox;

/// Pause before what brought no answer, or an error of the whole request, is sent again (Kafka's 50 ms).
const PAUSE: Duration = Duration::from_millis(50);
/// A request without an answer is given up after this time.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// What the mailbox is told.
#[derive(Debug)]
pub enum InSyncEvent {
    /// A follower has caught up, or a leader is to say that it recovered.
    Look(TopicIdPartition),
    Answered(Box<AlterPartitionResponse>),
    /// The request was not carried out, or nobody knows.
    Unanswered,
    Stop,
}

type Proposals = BTreeMap<TopicIdPartition, IsrProposal>;

/// See the module's words.
pub struct InSync {
    broker: Arc<Broker>,
    waiting: Proposals,
    /// With the time until which an answer is awaited.
    in_flight: Option<(Proposals, Instant)>,
    not_before: Instant,
    next_sweep: Instant,
    stopped: bool,
}

impl InSync {
    pub fn new(broker: Arc<Broker>, now: Now) -> InSync {
        let next_sweep = now.mono + broker.settings().replica_lag_time_max / 2;
        InSync {
            broker,
            waiting: BTreeMap::new(),
            in_flight: None,
            not_before: Instant::ZERO,
            next_sweep,
            stopped: false,
        }
    }

    fn look(&mut self, id: TopicIdPartition, now: Now) {
        let Some(hosted) = self.broker.hosted(id) else {
            return;
        };
        let image = self.broker.image();
        let eligible = |broker: BrokerId, epoch: i64| {
            let known = image.cluster.broker(broker.0);
            known.is_some_and(|b| {
                !b.fenced && !b.in_controlled_shutdown && (epoch == -1 || epoch == b.epoch)
            })
        };
        let lag_max = self.broker.settings().replica_lag_time_max;
        let proposal = hosted.partition.propose_isr(lag_max, eligible, now);
        if let Some(proposal) = proposal {
            self.waiting.insert(id, proposal);
        }
    }

    /// Looks for replicas that lag in everything that is led here.
    fn sweep(&mut self, now: Now) {
        self.next_sweep = now.mono + self.broker.settings().replica_lag_time_max / 2;
        for (id, hosted) in self.broker.all_hosted() {
            if hosted.partition.role().is_leader {
                self.look(id, now);
            }
        }
    }

    fn send(&mut self, now: Now, out: &mut Outbox) {
        if self.in_flight.is_some() || self.waiting.is_empty() || now.mono < self.not_before {
            return;
        }
        let broker = &self.broker;
        let led_still = |id: &TopicIdPartition, proposal: &IsrProposal| {
            let hosted = broker.hosted(*id);
            let role = hosted.and_then(|h| h.partition.leader_view().ok());
            role.is_some_and(|role| role.leader_epoch == proposal.leader_epoch)
        };
        let mut proposals = std::mem::take(&mut self.waiting);
        proposals.retain(|id, proposal| led_still(id, proposal));
        if proposals.is_empty() {
            return;
        }
        let request = request(broker, &proposals);
        self.in_flight = Some((proposals, now.mono + ANSWER_WAIT));
        self.broker.ask_controller(Origin::InSync, request, out);
    }

    fn answered(&mut self, response: &AlterPartitionResponse, now: Now, out: &mut Outbox) {
        let Some((proposals, _)) = self.in_flight.take() else {
            return; // given up before
        };
        if response.error_code != 0 {
            warn!("AlterPartition was refused: {}", name(response.error_code));
            return self.again(proposals, now);
        }
        let mut answers = BTreeMap::new();
        for topic in &response.topics {
            for data in &topic.partitions {
                let id = TopicIdPartition::new(topic.topic_id, data.partition_index);
                answers.insert(id, data);
            }
        }
        for (id, proposal) in proposals {
            let Some(hosted) = self.broker.hosted(id) else {
                continue;
            };
            match answers.get(&id) {
                Some(data) => self.settle(id, &hosted, proposal, data, now, out),
                None => self.again(BTreeMap::from([(id, proposal)]), now),
            }
        }
    }

    fn settle(
        &mut self,
        id: TopicIdPartition,
        hosted: &Hosted,
        proposal: IsrProposal,
        data: &Answered,
        now: Now,
        out: &mut Outbox,
    ) {
        let code = ErrorCode::from_code(data.error_code).unwrap_or(ErrorCode::UnknownServerError);
        let partition = &hosted.partition.name;
        let answer = match code {
            ErrorCode::None => {
                info!(%partition, isr = ?data.isr, partition_epoch = data.partition_epoch, "in-sync replicas");
                IsrAnswer::Committed {
                    leader_epoch: Epoch(data.leader_epoch),
                    partition_epoch: data.partition_epoch,
                    isr: data.isr.iter().map(|id| BrokerId(*id)).collect(),
                }
            }
            code => {
                info!(%partition, "a change of the in-sync replicas was refused: {}", code.name());
                IsrAnswer::Failed(code)
            }
        };
        let (moved, again) = hosted.partition.on_isr_answer(&proposal, &answer);
        // Also where the watermark stays: a produce may have been waiting for members that left.
        match moved {
            true => self.broker.high_watermark_moved(id, hosted, out),
            false => self.broker.wake(id, out),
        }
        if again {
            self.again(BTreeMap::from([(id, proposal)]), now);
        } else if code.is_none() {
            self.look(id, now);
        }
    }

    fn again(&mut self, proposals: Proposals, now: Now) {
        self.not_before = now.mono + PAUSE;
        for (id, proposal) in proposals {
            // What waits already builds on newer metadata; without it the leader would wait for an answer for ever.
            self.waiting.entry(id).or_insert(proposal);
        }
    }

    fn give_up(&mut self, now: Now) {
        if let Some((proposals, _)) = self.in_flight.take() {
            self.again(proposals, now);
        }
    }
}

fn name(code: i16) -> &'static str {
    ErrorCode::from_code(code).map_or("an unknown error", ErrorCode::name)
}

fn request(broker: &Broker, proposals: &Proposals) -> AlterPartitionRequest {
    let (me, my_epoch) = (broker.node(), broker.broker_epoch());
    let member = |(id, epoch): &(BrokerId, i64)| BrokerState {
        broker_id: id.0,
        broker_epoch: if *id == me { my_epoch } else { *epoch },
    };
    let mut topics: Vec<TopicData> = Vec::new();
    for (id, proposal) in proposals {
        let data = PartitionData {
            partition_index: id.partition,
            leader_epoch: proposal.leader_epoch.0,
            new_isr_with_epochs: proposal.isr.iter().map(member).collect(),
            leader_recovery_state: 0,
            partition_epoch: proposal.partition_epoch,
            ..PartitionData::default()
        };
        match topics.last_mut().filter(|t| t.topic_id == id.topic_id) {
            Some(topic) => topic.partitions.push(data),
            None => topics.push(TopicData {
                topic_id: id.topic_id,
                partitions: vec![data],
            }),
        }
    }
    AlterPartitionRequest {
        broker_id: me.0,
        broker_epoch: my_epoch,
        topics,
    }
}

impl Mailbox for InSync {
    type Event = InSyncEvent;

    fn step(&mut self, event: InSyncEvent, now: Now, out: &mut Outbox) {
        match event {
            InSyncEvent::Look(id) => self.look(id, now),
            InSyncEvent::Answered(response) => self.answered(&response, now, out),
            InSyncEvent::Unanswered => self.give_up(now),
            InSyncEvent::Stop => self.stopped = true,
        }
        self.send(now, out);
    }

    fn tick(&mut self, now: Now, out: &mut Outbox) {
        if now.mono >= self.next_sweep {
            self.sweep(now);
        }
        if self
            .in_flight
            .as_ref()
            .is_some_and(|(_, until)| now.mono >= *until)
        {
            self.give_up(now);
        }
        self.send(now, out);
    }

    fn deadline(&self) -> Instant {
        let due = match &self.in_flight {
            Some((_, until)) => *until,
            None if self.waiting.is_empty() => Instant::NEVER,
            None => self.not_before,
        };
        due.min(self.next_sweep)
    }

    fn is_finished(&self) -> bool {
        self.stopped
    }
}
