//! Which parts of an image a stretch of records touched. What became of them is read off the two images.

use std::collections::BTreeSet;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use milena_base::Uuid;
use milena_protocol::{MetadataRecord, Str};

use crate::{ConfigResource, Image, QuotaEntity, Quotas};

/// Names of what was touched; a thing may be named and yet be what it was before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Feature names, `metadata.version` among them.
    pub features: BTreeSet<Str>,
    pub brokers: BTreeSet<i32>,
    pub controllers: BTreeSet<i32>,
    /// Topics created or deleted.
    pub topics: BTreeSet<Uuid>,
    pub partitions: BTreeSet<(Uuid, i32)>,
    pub configs: BTreeSet<ConfigResource>,
    pub quotas: BTreeSet<QuotaEntity>,
    pub producer_ids: bool,
    pub acls: BTreeSet<Uuid>,
    /// Mechanism and user.
    pub scram: BTreeSet<(i8, Str)>,
    pub tokens: BTreeSet<Str>,
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        *self == Changes::default()
    }

    /// Notes what `record` is about to do to `image`.
    pub(crate) fn note(&mut self, image: &Image, record: &MetadataRecord) {
        use MetadataRecord as R;
        match record {
            R::FeatureLevel(r) => drop(self.features.insert(r.name.detached())),
            R::RegisterBroker(r) => drop(self.brokers.insert(r.broker_id)),
            R::UnregisterBroker(r) => drop(self.brokers.insert(r.broker_id)),
            R::FenceBroker(r) => drop(self.brokers.insert(r.id)),
            R::UnfenceBroker(r) => drop(self.brokers.insert(r.id)),
            R::BrokerRegistrationChange(r) => drop(self.brokers.insert(r.broker_id)),
            R::RegisterController(r) => drop(self.controllers.insert(r.controller_id)),
            R::UnregisterController(r) => drop(self.controllers.insert(r.controller_id)),
            R::Topic(r) => drop(self.topics.insert(r.topic_id)),
            R::Partition(r) => drop(self.partitions.insert((r.topic_id, r.partition_id))),
            R::PartitionChange(r) => drop(self.partitions.insert((r.topic_id, r.partition_id))),
            R::ClearElr(r) => self
                .partitions
                .extend(image.topics.with_elr(r).unwrap_or_default()),
            R::RemoveTopic(r) => self.note_removal(image, r.topic_id),
            R::Config(r) => {
                let name = r.resource_name.detached();
                self.configs
                    .insert(ConfigResource::new(r.resource_type, name));
            }
            R::ClientQuota(r) => drop(self.quotas.insert(Quotas::entity(r))),
            R::ProducerIds(_) => self.producer_ids = true,
            R::AccessControlEntry(r) => drop(self.acls.insert(r.id)),
            R::RemoveAccessControlEntry(r) => drop(self.acls.insert(r.id)),
            R::UserScramCredential(r) => drop(self.scram.insert((r.mechanism, r.name.detached()))),
            R::RemoveUserScramCredential(r) => {
                self.scram.insert((r.mechanism, r.name.detached()));
            }
            R::DelegationToken(r) => drop(self.tokens.insert(r.token_id.detached())),
            R::RemoveDelegationToken(r) => drop(self.tokens.insert(r.token_id.detached())),
            R::ZkMigrationState(_) | R::NoOp(_) => {}
            R::BeginTransaction(_) | R::EndTransaction(_) | R::AbortTransaction(_) => {}
        }
    }

    fn note_removal(&mut self, image: &Image, id: Uuid) {
        self.topics.insert(id);
        let Some(topic) = image.topics.get(id) else {
            return;
        };
        self.partitions
            .extend(topic.partitions.keys().map(|partition| (id, *partition)));
        let resource = ConfigResource::topic(&topic.name);
        if !image.configs.get(&resource).is_empty() {
            self.configs.insert(resource);
        }
    }

    /// What differs between two images.
    pub(crate) fn between(old: &Image, new: &Image) -> Changes {
        let mut changes = Changes {
            features: old.features.differing(&new.features).into_iter().collect(),
            brokers: differing(&old.cluster.brokers, &new.cluster.brokers),
            controllers: differing(&old.cluster.controllers, &new.cluster.controllers),
            configs: differing(old.configs.map(), new.configs.map()),
            quotas: differing(old.quotas.map(), new.quotas.map()),
            producer_ids: old.next_producer_id != new.next_producer_id,
            acls: differing(&old.security.acls, &new.security.acls),
            scram: differing(&old.security.scram, &new.security.scram),
            tokens: differing(&old.security.tokens, &new.security.tokens),
            ..Changes::default()
        };
        let empty = OrdMap::new();
        for id in differing(old.topics.map(), new.topics.map()) {
            let (before, after) = (old.topics.get(id), new.topics.get(id));
            if before.is_some() != after.is_some() {
                changes.topics.insert(id);
            }
            let before = before.map_or(&empty, |topic| &topic.partitions);
            let after = after.map_or(&empty, |topic| &topic.partitions);
            let differing = differing(before, after);
            changes
                .partitions
                .extend(differing.into_iter().map(|p| (id, p)));
        }
        changes
    }
}

fn differing<K: Ord + Clone, V: PartialEq + Clone>(
    old: &OrdMap<K, V>,
    new: &OrdMap<K, V>,
) -> BTreeSet<K> {
    let key = |item: DiffItem<'_, '_, K, V>| match item {
        DiffItem::Add(key, _) | DiffItem::Remove(key, _) => key.clone(),
        DiffItem::Update { new: (key, _), .. } => key.clone(),
    };
    old.diff(new).map(key).collect()
}
