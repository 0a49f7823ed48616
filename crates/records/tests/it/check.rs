//! The rules of a produce, one by one.

use bytes::Bytes;
use milena_base::{Epoch, ErrorCode, Offset, Prng, Timestamp};
use milena_records::{
    Batch, BatchBuilder, CheckOptions, Codec, Compression, Limits, NewRecord, Rejected,
    TimestampType, ValidBatch, check,
};

use crate::{NOW, patched, plain, resealed, sample};

fn two() -> ValidBatch {
    let mut builder = BatchBuilder::new(Codec::NONE);
    builder.append(plain(b"first")).unwrap();
    builder.append(plain(b"second")).unwrap();
    builder.build()
}

fn refused(bytes: impl Into<Bytes>, options: &CheckOptions) -> Rejected {
    check(bytes.into(), options, NOW).unwrap_err()
}

fn code(bytes: impl Into<Bytes>) -> ErrorCode {
    refused(bytes, &CheckOptions::default()).code
}

#[test]
fn exactly_one_batch_of_format_2() {
    let good = two().to_bytes();
    assert_eq!(code(""), ErrorCode::InvalidRecord);
    assert_eq!(code(good.slice(..good.len() - 1)), ErrorCode::InvalidRecord);
    assert_eq!(
        code([&good[..], &good[..]].concat()),
        ErrorCode::InvalidRecord
    );
    for magic in [0, 1] {
        let old = patched(&two(), |bytes| bytes[16] = magic);
        assert_eq!(code(old), ErrorCode::InvalidRecord);
    }
    assert_eq!(
        code(patched(&two(), |bytes| bytes[16] = 3)),
        ErrorCode::CorruptMessage
    );
    let mut tiny = good.to_vec();
    tiny[8..12].copy_from_slice(&13i32.to_be_bytes());
    assert_eq!(code(tiny), ErrorCode::CorruptMessage);
}

#[test]
fn a_cut_batch_behind_the_first_is_passed_over() {
    let good = two().to_bytes();
    let with_tail = [&good[..], &good[..40]].concat();
    let valid = check(with_tail.into(), &CheckOptions::default(), NOW).unwrap();
    assert_eq!(valid.to_bytes(), good);
}

#[test]
fn bytes_must_be_intact() {
    let good = two().to_bytes();
    for at in (17..good.len()).filter(|at| !(53..61).contains(at)) {
        let mut bytes = good.to_vec();
        bytes[at] ^= 0x10;
        assert_eq!(code(bytes), ErrorCode::CorruptMessage, "byte {at}");
    }
}

#[test]
fn headers_of_clients() {
    let set = |at: usize, value: i32| {
        patched(&two(), |bytes| {
            bytes[at..at + 4].copy_from_slice(&value.to_be_bytes())
        })
    };
    assert_eq!(code(set(57, 0)), ErrorCode::InvalidRecord, "no records");
    assert_eq!(code(set(57, -1)), ErrorCode::InvalidRecord);
    assert_eq!(
        code(set(57, 3)),
        ErrorCode::InvalidRecord,
        "count and offsets differ"
    );
    assert_eq!(
        code(set(23, 5)),
        ErrorCode::InvalidRecord,
        "offsets and count differ"
    );
    assert_eq!(code(set(23, -3)), ErrorCode::InvalidRecord);
    let control = patched(&two(), |bytes| bytes[22] |= 0x20);
    assert_eq!(code(control), ErrorCode::InvalidRecord);
    let moved = patched(&two(), |bytes| bytes[7] = 1);
    assert_eq!(code(moved), ErrorCode::InvalidRecord, "base offset 1");
    let unsequenced = patched(&two(), |bytes| {
        bytes[43..51].copy_from_slice(&9i64.to_be_bytes())
    });
    assert_eq!(code(unsequenced), ErrorCode::InvalidRecord);
    let unknown_codec = patched(&two(), |bytes| bytes[22] = 5);
    assert_eq!(code(unknown_codec), ErrorCode::InvalidRecord);
}

#[test]
fn both_ends_of_a_lying_count_are_found() {
    let three = |count: i32| {
        patched(&two(), |bytes| {
            bytes[57..61].copy_from_slice(&count.to_be_bytes());
            bytes[23..27].copy_from_slice(&(count - 1).to_be_bytes());
        })
    };
    assert_eq!(code(three(1)), ErrorCode::InvalidRecord, "bytes are left");
    assert_eq!(
        code(three(3)),
        ErrorCode::InvalidRecord,
        "bytes are missing"
    );
}

#[test]
fn size_limits() {
    let good = two().to_bytes();
    let options = CheckOptions {
        message_bytes_max: good.len() - 1,
        ..Default::default()
    };
    assert_eq!(refused(good, &options).code, ErrorCode::MessageTooLarge);

    let mut builder = BatchBuilder::new(Compression::Zstd);
    builder.append(plain(&vec![0; 1 << 20])).unwrap();
    let bomb = builder.build().to_bytes();
    assert!(bomb.len() < 300);
    let small_records = CheckOptions {
        limits: Limits {
            record_bytes_max: 1 << 19,
            ..Default::default()
        },
        ..Default::default()
    };
    assert_eq!(
        refused(bomb.clone(), &small_records).code,
        ErrorCode::InvalidRecord
    );
    let small_batches = CheckOptions {
        limits: Limits {
            batch_bytes_max: 1 << 19,
            ..Default::default()
        },
        ..Default::default()
    };
    assert_eq!(
        refused(bomb, &small_batches).code,
        ErrorCode::MessageTooLarge
    );
}

#[test]
fn old_requests_carry_no_zstd() {
    let batch = sample(Compression::Zstd, 3, &mut Prng::new(5)).to_bytes();
    let version = |produce_version| CheckOptions {
        produce_version,
        ..Default::default()
    };
    assert_eq!(
        refused(batch.clone(), &version(6)).code,
        ErrorCode::UnsupportedCompressionType
    );
    assert!(check(batch, &version(7), NOW).is_ok());
}

#[test]
fn compacted_topics_need_keys_and_say_which_records_lack_them() {
    let mut builder = BatchBuilder::new(Codec::NONE);
    for key in [Some(&b"k"[..]), None, Some(b""), None] {
        builder.append(NewRecord { key, ..plain(b"v") }).unwrap();
    }
    let options = CheckOptions {
        compacted: true,
        ..Default::default()
    };
    for codec in Compression::ALL {
        let options = CheckOptions {
            compression: None,
            ..options.clone()
        };
        let mut builder = BatchBuilder::new(codec);
        for key in [Some(&b"k"[..]), None, Some(b""), None] {
            builder.append(NewRecord { key, ..plain(b"v") }).unwrap();
        }
        let rejected = refused(builder.build().to_bytes(), &options);
        assert_eq!(rejected.code, ErrorCode::InvalidRecord);
        let indexes: Vec<i32> = rejected
            .record_errors
            .iter()
            .map(|(index, _)| *index)
            .collect();
        assert_eq!(indexes, [1, 3]);
    }
}

#[test]
fn timestamps_within_bounds() {
    let options = CheckOptions {
        timestamp_before_ms_max: 1000,
        timestamp_after_ms_max: 500,
        ..Default::default()
    };
    let at = |timestamp: i64| {
        let mut builder = BatchBuilder::new(Codec::NONE);
        let record = NewRecord {
            timestamp: Timestamp(timestamp),
            ..plain(b"v")
        };
        builder.append(record).unwrap();
        check(builder.build().to_bytes(), &options, NOW)
    };
    assert!(at(NOW.0 - 1000).is_ok());
    assert!(at(NOW.0 + 500).is_ok());
    assert!(at(-1).is_ok());
    for timestamp in [NOW.0 - 1001, NOW.0 + 501, 0] {
        let rejected = at(timestamp).unwrap_err();
        assert_eq!(rejected.code, ErrorCode::InvalidTimestamp);
        assert_eq!(rejected.record_errors.len(), 1);
    }
}

#[test]
fn a_wrong_largest_timestamp_is_corrected() {
    let lying = patched(&two(), |bytes| {
        bytes[35..43].copy_from_slice(&7i64.to_be_bytes())
    });
    let valid = check(lying, &CheckOptions::default(), NOW).unwrap();
    assert_eq!(valid.max_timestamp(), NOW);
    Batch::parse(valid.to_bytes()).unwrap().check_crc().unwrap();
}

#[test]
fn a_producer_may_not_mark_log_append_time_where_the_broker_sets_it() {
    let mut builder = BatchBuilder::new(Codec::NONE).log_append_time(NOW);
    builder.append(plain(b"v")).unwrap();
    let marked = builder.build().to_bytes();
    let options = CheckOptions {
        timestamp_type: TimestampType::LogAppendTime,
        ..Default::default()
    };
    assert_eq!(
        refused(marked.clone(), &options).code,
        ErrorCode::InvalidTimestamp
    );
    // On a create-time topic Kafka takes the mark off.
    let valid = check(marked, &CheckOptions::default(), NOW).unwrap();
    assert_eq!(valid.header().timestamp_type(), TimestampType::CreateTime);
    Batch::parse(valid.to_bytes()).unwrap().check_crc().unwrap();
}

#[test]
fn compression_type_of_the_topic_wins() {
    let mut prng = Prng::new(6);
    for from in Compression::ALL {
        let sent = sample(from, 30, &mut prng);
        for to in Compression::ALL {
            let options = CheckOptions {
                compression: Some(to.into()),
                ..Default::default()
            };
            let mut valid = check(sent.to_bytes(), &options, NOW).unwrap();
            valid.stamp(Offset(50), Epoch(1), None);
            assert_eq!(valid.header().compression(), Ok(to));
            let stored = Batch::parse(valid.to_bytes()).unwrap();
            stored.check_crc().unwrap();
            let pairs = stored
                .records(Limits::default())
                .zip(sent.records(Limits::default()));
            for (stored, sent) in pairs {
                let (stored, sent) = (stored.unwrap(), sent.unwrap());
                assert_eq!(stored.offset, sent.offset + 50);
                assert_eq!((stored.timestamp, stored.key), (sent.timestamp, sent.key));
                assert_eq!((stored.value, stored.headers), (sent.value, sent.headers));
            }
        }
    }
}

#[test]
fn a_batch_that_grows_past_the_limit_is_refused() {
    let mut builder = BatchBuilder::new(Compression::Gzip);
    builder.append(plain(&[0; 10_000])).unwrap();
    let options = CheckOptions {
        message_bytes_max: 1000,
        compression: Some(Codec::NONE),
        ..Default::default()
    };
    let rejected = refused(builder.build().to_bytes(), &options);
    assert_eq!(rejected.code, ErrorCode::MessageTooLarge);
}

#[test]
fn offsets_in_a_batch_count_up_or_are_made_to() {
    for compression in Compression::ALL {
        let mut builder = BatchBuilder::new(compression).producer(4, 0, 10);
        builder.append_at(1, plain(b"a")).unwrap();
        builder.append_at(2, plain(b"b")).unwrap();
        let odd = patched(&builder.build(), |bytes| {
            bytes[23..27].copy_from_slice(&1i32.to_be_bytes());
        });
        assert_eq!(code(odd.clone()), ErrorCode::InvalidRecord);
        let to = Compression::ALL[(compression.id() as usize + 1) % 5];
        let options = CheckOptions {
            compression: Some(to.into()),
            ..Default::default()
        };
        let valid = check(odd, &options, NOW).unwrap();
        let offsets: Vec<Offset> = valid
            .records(Limits::default())
            .map(|record| record.unwrap().offset)
            .collect();
        assert_eq!(offsets, [Offset(0), Offset(1)]);
        assert_eq!(valid.header().base_sequence(), 10);
    }
}

#[test]
fn a_stream_that_does_not_decompress_is_no_batch() {
    for compression in &Compression::ALL[1..] {
        let mut bytes = two().to_bytes().to_vec();
        bytes[22] = compression.id() as u8;
        let rejected = refused(resealed(bytes), &CheckOptions::default());
        assert_eq!(rejected.code, ErrorCode::InvalidRecord, "{compression}");
    }
}

#[test]
fn reported_record_errors_are_bounded() {
    let mut builder = BatchBuilder::new(Compression::Zstd);
    for _ in 0..5000 {
        builder.append(plain(b"")).unwrap();
    }
    let options = CheckOptions {
        compacted: true,
        ..Default::default()
    };
    let rejected = refused(builder.build().to_bytes(), &options);
    assert_eq!(rejected.record_errors.len(), 1000);
    assert!(rejected.message.contains("5000"));
}
