//! Committed metadata becomes what this broker does: logs opened, roles taken, coordinators elected, and last the
//! view that requests see.

use std::collections::BTreeSet;
use std::sync::Arc;

use milena_base::{BrokerId, Epoch, Now, Offset, Prng, TopicIdPartition, TopicPartition, Uuid};
use milena_config::TopicSettings;
use milena_image::{
    ConfigResource, Delta, Image, LeaderRecoveryState, Loader, Partition as Assigned,
    PartitionDelta, Provenance,
};
use milena_log::LogOptions;
use milena_log::names::DirectoryKind;
use milena_protocol::assign_replicas_to_dirs_request as assign;
use milena_protocol::{MetadataRecord, Str};
use milena_replica::{Assignment, Partition};
use tracing::{error, info, warn};

use crate::ask::Origin;
use crate::broker::{Broker, Hosted};
use crate::cleaner::CleanerEvent;
use crate::ctx::Outbox;
use crate::followers::{FollowersEvent, Following};
use crate::groups::GroupsEvent;
use crate::housekeeping::Chore;
use crate::insync::InSyncEvent;
use crate::lifecycle::LifecycleEvent;
use crate::mailbox::{Mailbox, Post};
use crate::quorum::QuorumEvent;
use crate::topic_rules;
use crate::topics;
use crate::transactions::TxnEvent;

/// What the mailbox is told.
#[derive(Debug)]
pub enum MetadataEvent {
    /// A committed batch; `last` names its last record.
    Batch {
        records: Vec<MetadataRecord>,
        last: Provenance,
    },
    /// A snapshot in place of all that was before.
    Snapshot {
        records: Vec<MetadataRecord>,
        last: Provenance,
    },
    /// All that was committed when the node started has been handed over: what no topic claims is stray.
    CaughtUp,
    /// A snapshot is due: hand the view over.
    WantSnapshot,
    Stop,
}

/// See the module's words.
pub struct Publisher {
    broker: Arc<Broker>,
    loader: Loader,
    prng: Prng,
    published_once: bool,
    /// Until then nothing is published: roles of earlier lives would write under their old epochs.
    caught_up: bool,
    stopped: bool,
}

impl Publisher {
    pub fn new(broker: Arc<Broker>, prng: Prng) -> Publisher {
        Publisher {
            broker,
            loader: Loader::default(),
            prng,
            published_once: false,
            caught_up: false,
            stopped: false,
        }
    }

    fn publish(&mut self, delta: &Delta, now: Now, out: &mut Outbox) {
        let image = delta.image();
        self.reconfigure(delta, out);
        for change in delta.partitions() {
            let id = TopicIdPartition::new(change.topic_id, change.partition);
            let name = TopicPartition::new(change.topic.name.as_str(), change.partition);
            match change.new {
                Some(assigned) if self.is_mine(assigned) => {
                    self.assign(image, id, &name, assigned, now, out);
                }
                Some(_) | None => self.unassign(id, &name, change.new.is_none(), now, out),
            }
        }
        self.broker.set_image(image.clone());
        self.tell_followers(delta, out);
        for change in delta.partitions() {
            self.tell_coordinator(&change, out);
            let id = TopicIdPartition::new(change.topic_id, change.partition);
            self.broker.wake(id, out);
        }
        self.tell_groups_of_topics(delta, out);
        for topic in delta.deleted_topics() {
            out.post(GroupsEvent::TopicDeleted {
                id: topic.id,
                name: topic.name.clone(),
            });
        }
        let me = image.cluster.broker(self.broker.node().0);
        out.post(LifecycleEvent::Published {
            offset: image.provenance.offset,
            is_unfenced: me.is_some_and(|broker| !broker.fenced),
        });
        if !self.published_once {
            self.published_once = true;
            out.post(LifecycleEvent::LogsLoaded);
            out.post(Chore::LogsLoaded);
        }
    }

    fn me(&self) -> BrokerId {
        self.broker.node()
    }

    fn is_mine(&self, assigned: &Assigned) -> bool {
        assigned.replicas.contains(&self.me().0)
    }

    fn assign(
        &mut self,
        image: &Image,
        id: TopicIdPartition,
        name: &TopicPartition,
        assigned: &Assigned,
        now: Now,
        out: &mut Outbox,
    ) {
        let hosted = match self.broker.hosted(id) {
            Some(hosted) => hosted,
            None => match self.open(image, id, name, assigned, now, out) {
                Some(hosted) => hosted,
                None => return,
            },
        };
        if self.broker.dirs.get(hosted.dir).is_offline() {
            return; // lost until the next start
        }
        let assignment = assignment(assigned);
        match assignment.leader == self.me() {
            true => {
                // In-sync replicas may have left: what waited for them has waited enough.
                if hosted.partition.lead(&assignment, now) {
                    self.broker.high_watermark_moved(id, &hosted, out);
                }
            }
            false => hosted.partition.follow(&assignment),
        }
    }

    fn open(
        &mut self,
        image: &Image,
        id: TopicIdPartition,
        name: &TopicPartition,
        assigned: &Assigned,
        now: Now,
        out: &mut Outbox,
    ) -> Option<Arc<Hosted>> {
        let dirs = &self.broker.dirs;
        let wanted = assigned.directory(self.me().0).unwrap_or(Uuid::ZERO);
        let there = dirs.index_of(wanted).or_else(|| dirs.holding(name));
        if there.is_some_and(|index| dirs.get(index).is_offline()) {
            return None; // as it was when the directory failed
        }
        let Some(index) = there.or_else(|| dirs.emptiest(&self.broker)) else {
            error!(partition = %name, "no log directory is online");
            return None;
        };
        let settings = self.broker.topic_settings(image, &name.topic);
        let options = self.log_options(&settings, id);
        let opened = dirs.open(index, name, options, now);
        let (mut log, high_watermark) = match opened {
            Ok(opened) => opened,
            Err(fault) => {
                self.broker.on_fault(fault, out);
                return None;
            }
        };
        if let Err(refused) = log.assign_topic_id(id.topic_id) {
            error!(partition = %name, "the directory belongs to another topic: {refused}");
            return None;
        }
        let partition = Partition::new(id, name.clone(), self.me(), log, high_watermark);
        partition.set_min_insync(settings.min_insync_replicas);
        let hosted = Arc::new(Hosted::new(
            partition,
            topic_rules::rules(&settings, id.partition, self.me()),
            index,
        ));
        self.broker.host(id, hosted.clone());
        if wanted != dirs.get(index).id {
            self.tell_directory(id, index, out);
        }
        Some(hosted)
    }

    fn log_options(&self, settings: &TopicSettings, id: TopicIdPartition) -> LogOptions {
        let layers = self.broker.layers();
        let expiration = layers.current().int("producer.id.expiration.ms");
        topic_rules::log_options(settings, id, i64::from(expiration))
    }

    /// Tells the controller in which directory a replica lies (KIP-858).
    fn tell_directory(&self, id: TopicIdPartition, index: usize, out: &mut Outbox) {
        let request = milena_protocol::AssignReplicasToDirsRequest {
            broker_id: self.me().0,
            broker_epoch: self.broker.broker_epoch(),
            directories: vec![assign::DirectoryData {
                id: self.broker.dirs.get(index).id,
                topics: vec![assign::TopicData {
                    topic_id: id.topic_id,
                    partitions: vec![assign::PartitionData {
                        partition_index: id.partition,
                    }],
                }],
            }],
        };
        self.broker.ask_controller(Origin::Nobody, request, out);
    }

    fn unassign(
        &mut self,
        id: TopicIdPartition,
        name: &TopicPartition,
        _deleted: bool,
        now: Now,
        out: &mut Outbox,
    ) {
        let Some(hosted) = self.broker.unhost(id) else {
            return;
        };
        let delay = hosted
            .partition
            .with_log(|log| log.options().file_delete_delay);
        drop(hosted.partition.take_log());
        out.post(CleanerEvent::Gone {
            name: name.clone(),
            dir: hosted.dir,
        });
        let unique = Uuid::random(&mut self.prng);
        let kind = DirectoryKind::Deleted;
        match self.broker.dirs.retire(hosted.dir, name, kind, unique) {
            Ok(path) => out.post(Chore::RemoveDir {
                dir: hosted.dir,
                path,
                due: now.mono + delay.unwrap_or_default(),
            }),
            Err(fault) => self.broker.on_fault(fault, out),
        }
        self.broker.wake(id, out);
    }

    /// Hands changed topic configurations to their logs.
    fn reconfigure(&self, delta: &Delta, out: &mut Outbox) {
        let image = delta.image();
        let broker_wide = |r: &ConfigResource| r.kind == ConfigResource::BROKER;
        let all = delta.changes().configs.iter().any(broker_wide);
        if all {
            self.broker.relayer(image);
            self.broker.set_replication_rates();
            out.post(FollowersEvent::Reconfigured);
            out.post(CleanerEvent::Reconfigured);
        }
        if delta.changes().configs.is_empty() {
            return;
        }
        for (id, hosted) in self.broker.all_hosted() {
            let name = &hosted.partition.name.topic;
            let mine = ConfigResource::topic(name);
            if !all && !delta.changes().configs.contains(&mine) {
                continue;
            }
            if image.topics.get(id.topic_id).is_none() {
                continue;
            }
            let settings = self.broker.topic_settings(image, name);
            let least = settings.min_insync_replicas;
            if hosted.partition.set_min_insync(least) {
                self.broker.high_watermark_moved(id, &hosted, out);
            }
            hosted.set_rules(topic_rules::rules(&settings, id.partition, self.me()));
            let options = self.log_options(&settings, id);
            hosted.partition.with_log(|log| log.set_options(options));
        }
    }

    /// Replicas that this broker copies from others by now, or does not any more. What has one replica never had
    /// anything to copy.
    fn tell_followers(&self, delta: &Delta, out: &mut Outbox) {
        let mut all = Vec::new();
        for change in delta.partitions() {
            let replicas = |p: Option<&Arc<Assigned>>| p.map_or(0, |p| p.replicas.len());
            if replicas(change.new).max(replicas(change.old)) < 2 {
                continue;
            }
            let id = TopicIdPartition::new(change.topic_id, change.partition);
            let hosted = self.broker.hosted(id);
            let alive = hosted.is_some_and(|h| !self.broker.dirs.get(h.dir).is_offline());
            let here = change.new.filter(|p| alive && self.is_mine(p));
            let leader = here.filter(|p| p.has_leader() && p.leader != self.me().0);
            let leader = leader.map(|p| (BrokerId(p.leader), Epoch(p.leader_epoch)));
            all.push(Following { id, leader });
            let recovering = LeaderRecoveryState::Recovering;
            if here.is_some_and(|p| p.leader_recovery_state == recovering && leader.is_none()) {
                out.post(InSyncEvent::Look(id));
            }
        }
        if !all.is_empty() {
            out.post(FollowersEvent::Assigned(all));
        }
    }

    /// Tells the coordinator whose log the partition is that it is elected, or is no more.
    fn tell_coordinator(&self, change: &PartitionDelta<'_>, out: &mut Outbox) {
        let shard = change.partition;
        let groups = match change.topic.name.as_str() {
            topics::CONSUMER_OFFSETS => true,
            topics::TRANSACTION_STATE => false,
            _ => return,
        };
        let epoch = change.new.map(|p| Epoch(p.leader_epoch));
        let elected = change.new.filter(|p| p.leader == self.me().0);
        if elected.is_none() || self.missed_a_leader(change) {
            out.posts.push(match groups {
                true => GroupsEvent::Resigned { shard, epoch }.into(),
                false => TxnEvent::Resigned { shard, epoch }.into(),
            });
        }
        if let Some(elected) = elected {
            let epoch = Epoch(elected.leader_epoch);
            out.posts.push(match groups {
                true => GroupsEvent::Elected { shard, epoch }.into(),
                false => TxnEvent::Elected { shard, epoch }.into(),
            });
        }
    }

    /// Led here before and now, but in between, maybe not: a snapshot tells of the last leader alone.
    fn missed_a_leader(&self, change: &PartitionDelta<'_>) -> bool {
        let led = |p: &&Arc<Assigned>| p.leader == self.me().0;
        match (change.old.filter(led), change.new.filter(led)) {
            (Some(old), Some(new)) => new.leader_epoch > old.leader_epoch + 1,
            _ => false,
        }
    }

    /// Assignments depend on which partitions there are, and in which racks.
    fn tell_groups_of_topics(&self, delta: &Delta, out: &mut Outbox) {
        let placed = |p: Option<&Arc<Assigned>>| p.map(|p| p.replicas.clone());
        let changed = delta
            .partitions()
            .filter(|change| placed(change.old) != placed(change.new));
        let names: BTreeSet<Str> = changed.map(|change| change.topic.name.clone()).collect();
        if !names.is_empty() {
            out.post(GroupsEvent::TopicsChanged {
                names: names.into_iter().collect(),
                created: delta.created_topics().next().is_some(),
            });
        }
    }

    /// Renames directories of partitions that the metadata does not place here.
    fn retire_strays(&mut self, out: &mut Outbox) {
        let broker = self.broker.clone();
        for (index, dir) in broker.dirs.all().iter().enumerate() {
            let found = match dir.log_dir.partitions() {
                Ok(found) => found,
                Err(fault) => {
                    broker.on_fault(fault, out);
                    continue;
                }
            };
            for entry in found {
                match entry.kind {
                    DirectoryKind::Current => self.retire_if_stray(index, &entry.partition, out),
                    DirectoryKind::Deleted => out.post(Chore::RemoveDir {
                        dir: index,
                        path: entry.path,
                        due: milena_base::Instant::ZERO,
                    }),
                    _ => {}
                }
            }
        }
    }

    fn retire_if_stray(&mut self, index: usize, name: &TopicPartition, out: &mut Outbox) {
        let image = self.loader.image();
        let known = image.topics.named(&name.topic);
        let assigned = known.and_then(|topic| topic.partitions.get(&name.partition));
        if assigned.is_some_and(|partition| self.is_mine(partition)) {
            return;
        }
        warn!(partition = %name, "no topic claims this directory: it is set aside as stray");
        out.post(CleanerEvent::Gone {
            name: name.clone(),
            dir: index,
        });
        let unique = Uuid::random(&mut self.prng);
        let retired = self
            .broker
            .dirs
            .retire(index, name, DirectoryKind::Stray, unique);
        if let Err(fault) = retired {
            self.broker.on_fault(fault, out);
        }
    }

    fn halt(&mut self, why: String, out: &mut Outbox) {
        self.stopped = true;
        out.post(Post::Halt(why));
    }
}

fn assignment(assigned: &Assigned) -> Assignment {
    let brokers = |ids: &[i32]| ids.iter().map(|id| BrokerId(*id)).collect();
    Assignment {
        leader: BrokerId(assigned.leader),
        leader_epoch: Epoch(assigned.leader_epoch),
        partition_epoch: assigned.partition_epoch,
        replicas: brokers(&assigned.replicas),
        isr: brokers(&assigned.isr),
        recovering: assigned.leader_recovery_state == LeaderRecoveryState::Recovering,
    }
}

impl Mailbox for Publisher {
    type Event = MetadataEvent;

    fn step(&mut self, event: MetadataEvent, now: Now, out: &mut Outbox) {
        let loaded = match event {
            MetadataEvent::Batch { records, last } => self.loader.load_batch(&records, last),
            MetadataEvent::Snapshot { records, last } => self
                .loader
                .load_snapshot(records, last)
                .map(|delta| vec![delta]),
            MetadataEvent::CaughtUp => {
                self.caught_up = true;
                let image = self.loader.image();
                if image.provenance.offset >= Offset::ZERO {
                    let all = Delta::between(&Image::default(), image);
                    self.publish(&all, now, out);
                }
                self.retire_strays(out);
                info!(
                    offset = self.loader.image().provenance.offset.0,
                    "metadata caught up"
                );
                return;
            }
            MetadataEvent::WantSnapshot => {
                let image = Box::new(self.loader.image().clone());
                out.post(QuorumEvent::SnapshotImage(image));
                return;
            }
            MetadataEvent::Stop => {
                self.stopped = true;
                return;
            }
        };
        match loaded {
            // Shown with all the rest when the node has caught up.
            Ok(_) if !self.caught_up => {}
            Ok(deltas) => deltas
                .iter()
                .for_each(|delta| self.publish(delta, now, out)),
            Err(why) => self.halt(format!("committed metadata can't be applied: {why}"), out),
        }
    }

    fn tick(&mut self, _now: Now, _out: &mut Outbox) {}

    fn deadline(&self) -> milena_base::Instant {
        milena_base::Instant::NEVER
    }

    fn is_finished(&self) -> bool {
        self.stopped
    }
}
