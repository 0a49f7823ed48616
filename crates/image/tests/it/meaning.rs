//! What single records mean, where Kafka's rules are easily got wrong.

use milena_base::Uuid;
use milena_image::{Image, LeaderRecoveryState, MetadataVersion};
use milena_protocol::{
    ClearElrRecord, ConfigRecord, MetadataRecord, PartitionChangeRecord, PartitionRecord,
    RegisterBrokerRecord, RemoveTopicRecord, TopicRecord, UnfenceBrokerRecord,
};

const ID: Uuid = Uuid::from_parts(7, 7);

fn image(records: &[MetadataRecord]) -> Image {
    let mut image = Image::default();
    for record in records {
        image.replay(record).unwrap();
    }
    image
}

fn topic() -> MetadataRecord {
    TopicRecord {
        name: "t".into(),
        topic_id: ID,
    }
    .into()
}

fn partition() -> PartitionRecord {
    PartitionRecord {
        partition_id: 0,
        topic_id: ID,
        replicas: vec![1, 2],
        isr: vec![1, 2],
        leader: 1,
        leader_epoch: 4,
        partition_epoch: 9,
        ..PartitionRecord::default()
    }
}

fn change() -> PartitionChangeRecord {
    PartitionChangeRecord {
        partition_id: 0,
        topic_id: ID,
        ..PartitionChangeRecord::default()
    }
}

#[test]
fn naming_a_leader_raises_the_leader_epoch() {
    let same_leader = PartitionChangeRecord {
        leader: 1,
        ..change()
    };
    let shrink = PartitionChangeRecord {
        isr: Some(vec![1]),
        ..change()
    };
    let image = image(&[
        topic(),
        partition().into(),
        same_leader.into(),
        shrink.into(),
    ]);
    let p = image.topics.partition(ID, 0).unwrap();
    assert_eq!((p.leader, p.leader_epoch, p.partition_epoch), (1, 5, 11));
    assert_eq!(p.isr, [1]);
    assert_eq!(p.leader_recovery_state, LeaderRecoveryState::Recovered);
}

#[test]
fn directories_of_old_records_are_migrating() {
    let image = image(&[topic(), partition().into()]);
    let p = image.topics.partition(ID, 0).unwrap();
    assert_eq!(p.directories, [Uuid::DIRECTORY_MIGRATING; 2]);
    assert_eq!(p.directory(2), Some(Uuid::DIRECTORY_MIGRATING));
    assert_eq!(p.directory(3), None);
    let wrong = PartitionChangeRecord {
        directories: Some(vec![ID]),
        ..change()
    };
    assert!(image.clone().replay(&wrong.into()).is_err());
}

#[test]
fn clearing_elr_changes_only_where_there_is_some() {
    let with_elr = PartitionRecord {
        eligible_leader_replicas: Some(vec![2]),
        ..partition()
    };
    let without = PartitionRecord {
        partition_id: 1,
        ..partition()
    };
    let clear = ClearElrRecord {
        topic_name: "t".into(),
    };
    let image = image(&[topic(), with_elr.into(), without.into(), clear.into()]);
    let epoch = |p| image.topics.partition(ID, p).unwrap().partition_epoch;
    assert_eq!((epoch(0), epoch(1)), (10, 9));
    assert!(image.topics.partition(ID, 0).unwrap().elr.is_empty());
}

#[test]
fn a_deleted_topic_takes_its_configuration_with_it() {
    let config = ConfigRecord {
        resource_type: 2,
        resource_name: "t".into(),
        name: "retention.ms".into(),
        value: Some("1".into()),
    };
    let gone = RemoveTopicRecord { topic_id: ID };
    let image = image(&[topic(), config.into(), gone.into()]);
    assert_eq!(image, Image::default());
}

#[test]
fn records_that_do_not_fit_are_errors() {
    let refused = |records: &[MetadataRecord], last: MetadataRecord| {
        image(records).replay(&last).unwrap_err().to_string()
    };
    assert_eq!(
        refused(&[topic()], topic()),
        format!("topic t exists already, as {ID}")
    );
    assert_eq!(
        refused(&[], partition().into()),
        format!("no topic with id {ID}")
    );
    assert_eq!(
        refused(&[topic()], change().into()),
        format!("no partition 0 of {ID}")
    );
    let register = RegisterBrokerRecord {
        broker_id: 1,
        broker_epoch: 5,
        ..RegisterBrokerRecord::default()
    };
    let unfence = UnfenceBrokerRecord { id: 1, epoch: 4 };
    assert_eq!(
        refused(&[register.into()], unfence.into()),
        "broker 1 has epoch 5, not 4"
    );
}

#[test]
fn a_lower_level_says_what_it_would_lose() {
    let with_dir = PartitionRecord {
        directories: vec![ID, ID],
        ..partition()
    };
    let image = image(&[topic(), with_dir.into()]);
    let loss = image.to_records(MetadataVersion::V3_6_IV0).unwrap_err();
    assert_eq!(
        loss.to_string(),
        "this metadata.version cannot hold the directory assignment state of one or more replicas"
    );
}
