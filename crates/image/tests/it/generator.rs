//! Random records, each possible on the image before it.

use milena_base::{Prng, Uuid};
use milena_image::{Image, MetadataVersion};
use milena_protocol::client_quota_record::EntityData;
use milena_protocol::register_broker_record::{BrokerEndpoint, BrokerFeature};
use milena_protocol::{
    AccessControlEntryRecord, BrokerRegistrationChangeRecord, ClearElrRecord, ClientQuotaRecord,
    ConfigRecord, DelegationTokenRecord, FeatureLevelRecord, FenceBrokerRecord, MetadataRecord,
    NoOpRecord, PartitionChangeRecord, PartitionRecord, ProducerIdsRecord, RegisterBrokerRecord,
    RegisterControllerRecord, RemoveAccessControlEntryRecord, RemoveDelegationTokenRecord,
    RemoveTopicRecord, RemoveUserScramCredentialRecord, Str, TopicRecord, UnfenceBrokerRecord,
    UnregisterBrokerRecord, UnregisterControllerRecord, UserScramCredentialRecord,
};

pub fn metadata_version(level: i16) -> MetadataRecord {
    let name = "metadata.version".into();
    let feature_level = level;
    MetadataRecord::FeatureLevel(FeatureLevelRecord {
        name,
        feature_level,
    })
}

/// An image reached by `count` random records at the latest level, with the records.
pub fn history(prng: &mut Prng, count: usize) -> (Image, Vec<MetadataRecord>) {
    let mut image = Image::default();
    let mut records = vec![metadata_version(MetadataVersion::LATEST_PRODUCTION.level())];
    image.replay(&records[0]).unwrap();
    while records.len() < count {
        let Some(record) = random_record(prng, &image) else {
            continue;
        };
        image.replay(&record).unwrap();
        records.push(record);
    }
    (image, records)
}

fn pick<'a, T>(prng: &mut Prng, items: &'a [T]) -> Option<&'a T> {
    match items.len() {
        0 => None,
        n => Some(&items[prng.below(n as u64) as usize]),
    }
}

fn word(prng: &mut Prng, what: &str) -> Str {
    Str::from(format!("{what}{}", prng.below(4)))
}

fn ids(prng: &mut Prng) -> Vec<i32> {
    let mut ids: Vec<i32> = (1..=4).filter(|_| prng.chance(1, 2)).collect();
    prng.shuffle(&mut ids);
    ids
}

pub fn random_record(prng: &mut Prng, image: &Image) -> Option<MetadataRecord> {
    match prng.below(12) {
        0 | 1 => broker(prng, image),
        2 => controller(prng, image),
        3 | 4 => topic(prng, image),
        5..=7 => partition(prng, image),
        8 => Some(feature_or_config(prng)),
        9 => Some(quota_or_producer(prng, image)),
        10 => security(prng, image),
        _ => Some(MetadataRecord::NoOp(NoOpRecord::default())),
    }
}

fn broker(prng: &mut Prng, image: &Image) -> Option<MetadataRecord> {
    let known: Vec<(i32, i64)> = image
        .cluster
        .brokers
        .values()
        .map(|b| (b.id, b.epoch))
        .collect();
    let draw = prng.below(6);
    if draw <= 1 {
        return Some(registration(prng).into());
    }
    let (id, epoch) = *pick(prng, &known)?;
    Some(match draw {
        2 => FenceBrokerRecord { id, epoch }.into(),
        3 => UnfenceBrokerRecord { id, epoch }.into(),
        4 => BrokerRegistrationChangeRecord {
            broker_id: id,
            broker_epoch: epoch,
            fenced: prng.below(3) as i8 - 1,
            in_controlled_shutdown: prng.below(2) as i8,
            log_dirs: (0..prng.below(3)).map(|_| Uuid::random(prng)).collect(),
            cordoned_log_dirs: prng.chance(1, 2).then(Vec::new),
        }
        .into(),
        _ => UnregisterBrokerRecord {
            broker_id: id,
            broker_epoch: epoch,
        }
        .into(),
    })
}

fn registration(prng: &mut Prng) -> RegisterBrokerRecord {
    RegisterBrokerRecord {
        broker_id: 1 + prng.below(4) as i32,
        is_migrating_zk_broker: false,
        incarnation_id: Uuid::random(prng),
        broker_epoch: prng.below(1000) as i64,
        end_points: vec![BrokerEndpoint {
            name: "PLAINTEXT".into(),
            host: word(prng, "host"),
            port: prng.below(65536) as u16,
            security_protocol: 0,
        }],
        features: vec![BrokerFeature {
            name: "metadata.version".into(),
            min_supported_version: 7,
            max_supported_version: 33,
        }],
        rack: prng.chance(1, 2).then(|| word(prng, "rack")),
        fenced: prng.chance(1, 2),
        in_controlled_shutdown: prng.chance(1, 4),
        log_dirs: (0..prng.below(3)).map(|_| Uuid::random(prng)).collect(),
        cordoned_log_dirs: prng.chance(1, 2).then(Vec::new),
    }
}

fn controller(prng: &mut Prng, image: &Image) -> Option<MetadataRecord> {
    if prng.chance(2, 3) {
        let record = RegisterControllerRecord {
            controller_id: 1 + prng.below(3) as i32,
            incarnation_id: Uuid::random(prng),
            ..RegisterControllerRecord::default()
        };
        return Some(record.into());
    }
    let known: Vec<i32> = image.cluster.controllers.keys().copied().collect();
    let controller_id = *pick(prng, &known)?;
    Some(UnregisterControllerRecord { controller_id }.into())
}

fn topic(prng: &mut Prng, image: &Image) -> Option<MetadataRecord> {
    if prng.chance(3, 5) {
        let name = word(prng, "topic");
        let topic_id = Uuid::random(prng);
        let free = image.topics.id(&name).is_none();
        return free.then(|| TopicRecord { name, topic_id }.into());
    }
    let known: Vec<Uuid> = image.topics.iter().map(|t| t.id).collect();
    let topic_id = *pick(prng, &known)?;
    Some(RemoveTopicRecord { topic_id }.into())
}

fn partition(prng: &mut Prng, image: &Image) -> Option<MetadataRecord> {
    let topics: Vec<_> = image.topics.iter().cloned().collect();
    let topic = pick(prng, &topics)?;
    let partitions: Vec<i32> = topic.partitions.keys().copied().collect();
    if prng.chance(1, 10) {
        let topic_name = match prng.chance(1, 2) {
            true => topic.name.clone(),
            false => Str::EMPTY,
        };
        return Some(ClearElrRecord { topic_name }.into());
    }
    if partitions.is_empty() || prng.chance(1, 2) {
        let replicas = ids(prng);
        let record = PartitionRecord {
            partition_id: prng.below(3) as i32,
            topic_id: topic.id,
            isr: replicas.clone(),
            leader: replicas.first().copied().unwrap_or(-1),
            leader_epoch: prng.below(5) as i32,
            partition_epoch: prng.below(5) as i32,
            directories: replicas.iter().map(|_| Uuid::random(prng)).collect(),
            removing_replicas: ids(prng),
            eligible_leader_replicas: prng.chance(1, 3).then(|| ids(prng)),
            replicas,
            ..PartitionRecord::default()
        };
        return Some(record.into());
    }
    let change = PartitionChangeRecord {
        partition_id: *pick(prng, &partitions)?,
        topic_id: topic.id,
        isr: prng.chance(1, 2).then(|| ids(prng)),
        leader: prng.below(5) as i32 - 2,
        leader_recovery_state: prng.below(3) as i8 - 1,
        eligible_leader_replicas: prng.chance(1, 3).then(|| ids(prng)),
        last_known_elr: prng.chance(1, 3).then(|| ids(prng)),
        adding_replicas: prng.chance(1, 4).then(|| ids(prng)),
        ..PartitionChangeRecord::default()
    };
    Some(change.into())
}

fn feature_or_config(prng: &mut Prng) -> MetadataRecord {
    if prng.chance(1, 3) {
        let name = ["group.version", "eligible.leader.replicas.version"][prng.below(2) as usize];
        let record = FeatureLevelRecord {
            name: name.into(),
            feature_level: prng.below(2) as i16,
        };
        return record.into();
    }
    let record = ConfigRecord {
        resource_type: [2, 4, 32][prng.below(3) as usize],
        resource_name: word(prng, "topic"),
        name: word(prng, "key"),
        value: prng.chance(2, 3).then(|| word(prng, "value")),
    };
    record.into()
}

fn quota_or_producer(prng: &mut Prng, image: &Image) -> MetadataRecord {
    if prng.chance(1, 4) {
        let record = ProducerIdsRecord {
            next_producer_id: image.next_producer_id.unwrap_or(0) + 1000,
            ..ProducerIdsRecord::default()
        };
        return record.into();
    }
    let user = EntityData {
        entity_type: "user".into(),
        entity_name: prng.chance(1, 2).then(|| word(prng, "user")),
    };
    let client = EntityData {
        entity_type: "client-id".into(),
        entity_name: None,
    };
    let record = ClientQuotaRecord {
        entity: if prng.chance(1, 2) {
            vec![user, client]
        } else {
            vec![client, user]
        },
        key: word(prng, "key"),
        value: prng.below(100) as f64,
        remove: prng.chance(1, 3),
    };
    record.into()
}

fn security(prng: &mut Prng, image: &Image) -> Option<MetadataRecord> {
    Some(match prng.below(6) {
        0 => AccessControlEntryRecord {
            id: Uuid::random(prng),
            principal: word(prng, "User:"),
            ..AccessControlEntryRecord::default()
        }
        .into(),
        1 => {
            let known: Vec<Uuid> = image.security.acls.keys().copied().collect();
            let id = *pick(prng, &known)?;
            RemoveAccessControlEntryRecord { id }.into()
        }
        2 => UserScramCredentialRecord {
            name: word(prng, "user"),
            mechanism: 1 + prng.below(2) as i8,
            iterations: 4096 + prng.below(9) as i32,
            ..UserScramCredentialRecord::default()
        }
        .into(),
        3 => RemoveUserScramCredentialRecord {
            name: word(prng, "user"),
            mechanism: 1 + prng.below(2) as i8,
        }
        .into(),
        4 => DelegationTokenRecord {
            token_id: word(prng, "token"),
            max_timestamp: prng.below(1000) as i64,
            ..DelegationTokenRecord::default()
        }
        .into(),
        _ => RemoveDelegationTokenRecord {
            token_id: word(prng, "token"),
        }
        .into(),
    })
}
