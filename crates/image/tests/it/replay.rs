//! One image, however the records come.

use milena_base::Prng;
use milena_image::{Delta, Image, MetadataVersion};
use milena_protocol::MetadataRecord;

use super::generator::{history, random_record};

const LATEST: MetadataVersion = MetadataVersion::LATEST_PRODUCTION;

/// ELR is in the state but, while the feature is off, not in a snapshot: what a snapshot cannot say is left out here.
fn as_snapshot(image: &Image) -> Image {
    let mut loaded = Image::default();
    for (record, version) in image.to_records(LATEST).unwrap() {
        let bytes = record.encode(version).unwrap();
        loaded
            .replay(&MetadataRecord::decode(&bytes).unwrap())
            .unwrap();
    }
    loaded
}

#[test]
fn a_snapshot_replays_to_the_same_image() {
    let mut with_elr = 0;
    for seed in 0..1500 {
        let (image, _) = history(&mut Prng::new(seed), 60);
        let loaded = as_snapshot(&image);
        if image.features.elr_enabled() {
            with_elr += 1;
            assert_eq!(loaded, image, "seed {seed}");
        }
        assert_eq!(as_snapshot(&loaded), loaded, "seed {seed}");
        let records = |image: &Image| image.to_records(LATEST).unwrap();
        assert_eq!(records(&loaded), records(&image), "seed {seed}");
    }
    assert!(
        with_elr > 300,
        "the interesting case came up {with_elr} times"
    );
}

#[test]
fn a_delta_of_records_is_a_delta_between_the_images() {
    for seed in 0..1500 {
        let mut prng = Prng::new(seed);
        let (base, _) = history(&mut prng, 40);
        let mut delta = Delta::new(&base);
        for _ in 0..30 {
            if let Some(record) = random_record(&mut prng, delta.image()) {
                delta.replay(&record).unwrap();
            }
        }
        let between = Delta::between(&base, delta.image());
        assert_eq!(delta.base(), &base, "seed {seed}");
        check_covers(&delta, &between, seed);
    }
}

/// Everything that differs was noted, and what is told of topics and partitions is the same either way.
fn check_covers(noted: &Delta, exact: &Delta, seed: u64) {
    let (n, e) = (noted.changes(), exact.changes());
    assert!(n.features.is_superset(&e.features), "seed {seed}");
    assert!(n.brokers.is_superset(&e.brokers), "seed {seed}");
    assert!(n.controllers.is_superset(&e.controllers), "seed {seed}");
    assert!(n.topics.is_superset(&e.topics), "seed {seed}");
    assert!(n.partitions.is_superset(&e.partitions), "seed {seed}");
    assert!(n.configs.is_superset(&e.configs), "seed {seed}");
    assert!(n.quotas.is_superset(&e.quotas), "seed {seed}");
    assert!(n.producer_ids || !e.producer_ids, "seed {seed}");
    assert!(n.acls.is_superset(&e.acls), "seed {seed}");
    assert!(n.scram.is_superset(&e.scram), "seed {seed}");
    assert!(n.tokens.is_superset(&e.tokens), "seed {seed}");
    let created = |d: &Delta| d.created_topics().cloned().collect::<Vec<_>>();
    let deleted = |d: &Delta| d.deleted_topics().cloned().collect::<Vec<_>>();
    assert_eq!(created(noted), created(exact), "seed {seed}");
    assert_eq!(deleted(noted), deleted(exact), "seed {seed}");
    let partitions = |d: &Delta| {
        d.partitions()
            .map(|p| (p.topic_id, p.partition, p.old.cloned(), p.new.cloned()))
            .collect::<Vec<_>>()
    };
    assert_eq!(partitions(noted), partitions(exact), "seed {seed}");
}

#[test]
fn a_clone_does_not_change_with_its_origin() {
    let mut prng = Prng::new(7);
    let (mut image, _) = history(&mut prng, 200);
    let (kept, records) = (image.clone(), image.to_records(LATEST).unwrap());
    for _ in 0..200 {
        if let Some(record) = random_record(&mut prng, &image) {
            image.replay(&record).unwrap();
        }
    }
    assert_eq!(kept.to_records(LATEST).unwrap(), records);
    assert_ne!(image, kept);
}
