//! What is published, and when.

use milena_base::{Epoch, Offset, Prng, Timestamp};
use milena_image::{Loader, Provenance};
use milena_protocol::{
    AbortTransactionRecord, BeginTransactionRecord, ConfigRecord, EndTransactionRecord,
    MetadataRecord,
};

use super::generator::{history, metadata_version};

fn at(offset: i64) -> Provenance {
    Provenance {
        offset: Offset(offset),
        epoch: Epoch(1),
        timestamp: Timestamp(offset * 10),
    }
}

fn config(value: &'static str) -> MetadataRecord {
    let record = ConfigRecord {
        resource_type: 4,
        name: "key".into(),
        value: Some(value.into()),
        ..ConfigRecord::default()
    };
    record.into()
}

fn begin() -> MetadataRecord {
    BeginTransactionRecord::default().into()
}
fn end() -> MetadataRecord {
    EndTransactionRecord::default().into()
}
fn abort() -> MetadataRecord {
    AbortTransactionRecord::default().into()
}

/// Loads batches of two or so and prints what each published: offset and value of `key`.
fn run(batches: &[&[MetadataRecord]]) -> Vec<Vec<String>> {
    let mut loader = Loader::default();
    let mut end = -1;
    let mut told = Vec::new();
    for batch in batches {
        end += batch.len() as i64;
        let published = loader.load_batch(batch, at(end)).unwrap();
        let show = |d: &milena_image::Delta| {
            let values = d.image().configs.iter().next().map(|(_, v)| v.clone());
            let value = values
                .and_then(|v| v.get("key").cloned())
                .unwrap_or_default();
            format!("{}={value}", d.image().provenance.offset)
        };
        told.push(published.iter().map(show).collect());
    }
    told
}

#[test]
fn a_transaction_shows_at_its_end() {
    let told = run(&[
        &[config("a")],
        &[begin(), config("b")],
        &[config("c")],
        &[config("d"), end()],
    ]);
    assert_eq!(told, [vec!["0=a"], vec![], vec![], vec!["5=d"]]);
}

#[test]
fn a_begin_inside_a_batch_shows_what_came_before() {
    let told = run(&[&[config("a"), begin(), config("b")], &[end(), config("c")]]);
    assert_eq!(told, [vec!["0=a"], vec!["4=c"]]);
}

#[test]
fn an_aborted_transaction_leaves_no_trace() {
    let told = run(&[&[config("a")], &[begin(), config("b")], &[abort()]]);
    assert_eq!(told, [vec!["0=a"], vec![], vec!["3=a"]]);
}

#[test]
fn markers_out_of_place_are_errors() {
    for batch in [
        vec![end()],
        vec![abort()],
        vec![begin(), begin()],
        vec![begin(), end(), end()],
    ] {
        let last = at(batch.len() as i64 - 1);
        assert!(Loader::default().load_batch(&batch, last).is_err());
    }
}

#[test]
fn a_level_from_the_future_is_refused() {
    for level in [6, 34] {
        let mut loader = Loader::default();
        let error = loader
            .load_batch(&[metadata_version(level)], at(0))
            .unwrap_err();
        let text = format!(
            "the log finalises metadata.version at level {level}, which this release supports 7 to 33"
        );
        assert_eq!(error.to_string(), text);
    }
}

#[test]
fn a_snapshot_arrives_as_a_delta_that_also_deletes() {
    for seed in 0..200 {
        let mut prng = Prng::new(seed);
        let (old, old_records) = history(&mut prng, 50);
        let (new, new_records) = history(&mut prng, 50);
        let mut loader = Loader::default();
        loader.load_batch(&old_records, at(49)).unwrap();
        let delta = loader.load_snapshot(new_records, at(99)).unwrap();
        assert_eq!(delta.base().topics, old.topics);
        assert_eq!(delta.image().topics, new.topics);
        assert_eq!(loader.image().provenance, at(99));
        let gone = delta.deleted_topics().count();
        let kept = old
            .topics
            .iter()
            .filter(|t| new.topics.get(t.id).is_some())
            .count();
        assert_eq!(gone + kept, old.topics.len());
    }
}
