//! What is built is read back, whatever it is.

use milena_base::{Epoch, Offset, Prng, Timestamp};
use milena_records::{
    Batch, BatchBuilder, BuildError, CheckOptions, Codec, Compression, ControlType, Limits,
    NewRecord, TimestampType, check, control_record_key,
};
use proptest::prelude::*;

use crate::{NOW, plain, sample};

#[test]
fn every_codec_round_trips_and_passes_the_check() {
    let mut prng = Prng::new(1);
    for compression in Compression::ALL {
        for count in [1, 2, 50, 3000] {
            let built = sample(compression, count, &mut prng);
            let bytes = built.to_bytes();
            let valid = check(bytes.clone(), &CheckOptions::default(), NOW).unwrap();
            assert_eq!(valid.to_bytes(), bytes, "a right batch is not touched");
            let batch = Batch::parse(bytes).unwrap();
            let records: Result<Vec<_>, _> = batch.records(Limits::default()).collect();
            let records = records.unwrap();
            assert_eq!(records.len() as i64, count);
            for (index, record) in (0..).zip(&records) {
                assert_eq!(record.offset, Offset(index));
                assert_eq!(record.key.as_deref(), Some(&index.to_be_bytes()[..]));
            }
            let largest = records.iter().map(|record| record.timestamp).max();
            assert_eq!(Some(batch.header().max_timestamp()), largest);
        }
    }
}

#[test]
fn a_header_says_what_it_was_told() {
    let mut builder = BatchBuilder::new(Codec::NONE)
        .base_offset(Offset(100))
        .leader_epoch(Epoch(7))
        .producer(42, 3, i32::MAX)
        .transactional(true)
        .control(true);
    let key = control_record_key(ControlType::Commit);
    for _ in 0..3 {
        let record = NewRecord {
            key: Some(&key),
            ..plain(b"")
        };
        builder.append(record).unwrap();
    }
    let valid = builder.build();
    let header = valid.header();
    assert_eq!(
        (header.base_offset(), header.last_offset()),
        (Offset(100), Offset(102))
    );
    assert_eq!(header.leader_epoch(), Epoch(7));
    assert!(header.is_transactional() && header.is_control());
    assert_eq!(
        (header.base_sequence(), header.last_sequence()),
        (i32::MAX, 1)
    );
    assert_eq!(header.delete_horizon(), None);
    let sequences: Vec<i32> = valid
        .records(Limits::default())
        .map(|record| record.unwrap().sequence)
        .collect();
    assert_eq!(sequences, [i32::MAX, 0, 1]);
}

#[test]
fn stamping_places_a_batch_and_keeps_its_crc_right() {
    let mut prng = Prng::new(2);
    for compression in Compression::ALL {
        let mut valid = sample(compression, 20, &mut prng);
        valid.stamp(Offset(1000), Epoch(9), None);
        let placed = Batch::parse(valid.to_bytes()).unwrap();
        placed.check_crc().unwrap();
        assert_eq!(placed.header().next_offset(), Offset(1020));

        valid.stamp(Offset(5), Epoch(10), Some(Timestamp(NOW.0 + 77)));
        let timed = Batch::parse(valid.to_bytes()).unwrap();
        timed.check_crc().unwrap();
        assert_eq!(
            timed.header().timestamp_type(),
            TimestampType::LogAppendTime
        );
        for record in timed.records(Limits::default()) {
            assert_eq!(record.unwrap().timestamp, Timestamp(NOW.0 + 77));
        }
    }
}

#[test]
fn what_cannot_be_in_a_batch_is_refused() {
    let mut builder = BatchBuilder::new(Codec::NONE);
    builder.append_at(3, plain(b"x")).unwrap();
    assert_eq!(
        builder.append_at(3, plain(b"y")),
        Err(BuildError::OffsetDelta(3))
    );
    assert_eq!(
        builder.append_at(1 << 31, plain(b"y")),
        Err(BuildError::OffsetDelta(1 << 31))
    );
    let early = NewRecord {
        timestamp: Timestamp(-2),
        ..plain(b"y")
    };
    assert_eq!(
        builder.append(early),
        Err(BuildError::NegativeTimestamp(-2))
    );
    let valid = builder.build();
    assert_eq!(
        (valid.header().count(), valid.header().last_offset_delta()),
        (1, 3)
    );
}

type Fields = (
    i64,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Vec<(Vec<u8>, Option<Vec<u8>>)>,
);

fn fields() -> impl Strategy<Value = Fields> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..300);
    let headers = prop::collection::vec((bytes(), prop::option::of(bytes())), 0..4);
    let timestamp = prop_oneof![
        Just(-1),
        0..i64::MAX,
        1_600_000_000_000..1_800_000_000_000i64
    ];
    (
        timestamp,
        prop::option::of(bytes()),
        prop::option::of(bytes()),
        headers,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..Default::default() })]

    #[test]
    fn any_records_are_read_back(all in prop::collection::vec(fields(), 1..40), codec in 0i16..5) {
        let compression = Compression::from_id(codec).unwrap();
        let mut builder = BatchBuilder::new(compression);
        for (timestamp, key, value, headers) in &all {
            let headers: Vec<(&[u8], Option<&[u8]>)> =
                headers.iter().map(|(key, value)| (&key[..], value.as_deref())).collect();
            let record = NewRecord {
                timestamp: Timestamp(*timestamp),
                key: key.as_deref(),
                value: value.as_deref(),
                headers: &headers,
            };
            builder.append(record).unwrap();
        }
        let batch = Batch::parse(builder.build().to_bytes()).unwrap();
        batch.check_crc().unwrap();
        let mut records = batch.records(Limits::default());
        for (timestamp, key, value, headers) in all {
            let record = records.next().unwrap().unwrap();
            let read: Vec<_> = record
                .headers
                .iter()
                .map(|header| (header.key.to_vec(), header.value.as_ref().map(|value| value.to_vec())))
                .collect();
            prop_assert_eq!(record.timestamp, Timestamp(timestamp));
            prop_assert_eq!(record.key.map(|key| key.to_vec()), key);
            prop_assert_eq!(record.value.map(|value| value.to_vec()), value);
            prop_assert_eq!(read, headers);
        }
        prop_assert!(records.next().is_none());
    }
}
