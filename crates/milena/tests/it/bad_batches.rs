//! Batches that must not be stored (INVARIANTS F21, F22): each gets an error code and leaves the log as it was.

use bytes::Bytes;
use milena_base::{ErrorCode, Prng};
use milena_records::{BatchHeader, Codec, Compression, HEADER_BYTES};

use crate::node::Home;
use crate::wire::{ANSWER_WITHIN, Outcome, Wire, batch, produce};

const LENGTH: usize = 8;
const MAGIC: usize = 16;
const CRC: usize = 17;
const ATTRIBUTES: usize = 21;
const LAST_DELTA: usize = 23;
const BASE_TIMESTAMP: usize = 27;
const COUNT: usize = 57;
const NOW: i64 = 1_700_000_000_000;

fn good() -> Vec<u8> {
    batch(&[b"one", b"two", b"three"], NOW, Codec::NONE).to_vec()
}

/// Writes bytes into a batch and makes its CRC right again.
fn with(mut batch: Vec<u8>, at: usize, bytes: &[u8]) -> Bytes {
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    sealed(batch)
}

fn sealed(mut batch: Vec<u8>) -> Bytes {
    let header = BatchHeader::parse(&batch).expect("a whole header");
    let crc = header.computed_crc(&batch[HEADER_BYTES..]);
    batch[CRC..CRC + 4].copy_from_slice(&crc.to_be_bytes());
    batch.into()
}

/// A name, the bytes, and the codes of which one must be the answer.
type Case = (&'static str, Bytes, &'static [ErrorCode]);

const INVALID: &[ErrorCode] = &[ErrorCode::InvalidRecord];
const CORRUPT: &[ErrorCode] = &[ErrorCode::CorruptMessage];
const EITHER: &[ErrorCode] = &[ErrorCode::CorruptMessage, ErrorCode::InvalidRecord];
const TOO_LARGE: &[ErrorCode] = &[ErrorCode::MessageTooLarge];
const TOO_LATE: &[ErrorCode] = &[ErrorCode::InvalidTimestamp];

fn bad_frames() -> Vec<Case> {
    let mut wrong_crc = good();
    wrong_crc[CRC] ^= 1;
    let mut flipped = good();
    *flipped.last_mut().expect("bytes") ^= 0x10;
    let two_gib = [0x7f, 0xff, 0xff, 0xff];
    let trailed = [good(), vec![0; 20]].concat();
    vec![
        ("no bytes", Bytes::new(), INVALID),
        ("a header cut", good()[..40].to_vec().into(), EITHER),
        ("records cut", good()[..70].to_vec().into(), EITHER),
        ("bytes after the batch", trailed.into(), EITHER),
        ("two batches", good().repeat(2).into(), INVALID),
        ("wrong CRC", wrong_crc.into(), CORRUPT),
        ("a bit flipped in a record", flipped.into(), CORRUPT),
        ("magic 0", with(good(), MAGIC, &[0]), EITHER),
        ("magic 1", with(good(), MAGIC, &[1]), EITHER),
        ("magic 3", with(good(), MAGIC, &[3]), EITHER),
        ("magic -1", with(good(), MAGIC, &[0xff]), EITHER),
        ("length 0", with(good(), LENGTH, &[0; 4]), EITHER),
        ("length -1", with(good(), LENGTH, &[0xff; 4]), EITHER),
        ("length 2 GiB", with(good(), LENGTH, &two_gib), EITHER),
    ]
}

fn bad_contents() -> Vec<Case> {
    let gzipped = batch(&[&[b'a'; 500]], NOW, Codec::of(Compression::Gzip)).to_vec();
    let broken = gzipped.len() - 20;
    let large = batch(&[&vec![b'x'; 1_100_000]], NOW, Codec::NONE);
    let late = with(
        good(),
        BASE_TIMESTAMP,
        &(NOW + 1_000_000_000_000).to_be_bytes(),
    );
    let most = [0x7f, 0xff, 0xff, 0xff];
    let coded = |codec| with(good(), ATTRIBUTES, &[0, codec]);
    let counted = |count: &[u8; 4]| with(good(), COUNT, count);
    vec![
        ("control", with(good(), ATTRIBUTES, &[0, 0x20]), INVALID),
        ("gzip that is none", coded(1), EITHER),
        ("snappy that is none", coded(2), EITHER),
        ("lz4 that is none", coded(3), EITHER),
        ("zstd that is none", coded(4), EITHER),
        (
            "gzip broken inside",
            with(gzipped, broken, &[0xff; 8]),
            EITHER,
        ),
        ("one record too few", counted(&[0, 0, 0, 4]), INVALID),
        ("one record too many", counted(&[0, 0, 0, 2]), INVALID),
        ("count 0", counted(&[0; 4]), INVALID),
        ("count -1", counted(&[0xff; 4]), INVALID),
        ("count 2^31", counted(&most), INVALID),
        (
            "last delta",
            with(good(), LAST_DELTA, &[0, 0, 0, 9]),
            INVALID,
        ),
        (
            "last delta -1",
            with(good(), LAST_DELTA, &[0xff; 4]),
            INVALID,
        ),
        (
            "a record's length",
            with(good(), HEADER_BYTES, &[0xff]),
            INVALID,
        ),
        ("far in the future", late, TOO_LATE),
        ("too large", large, TOO_LARGE),
    ]
}

#[test]
fn bad_batches_are_refused_and_nothing_is_stored() {
    let home = Home::new();
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    wire.create_topic("strict", 1, &[]);
    assert_eq!(wire.produce("strict", good().into(), -1).error_code, 0);
    let all = [bad_frames(), bad_contents()].concat();
    for (what, bytes, codes) in &all {
        let answer = wire.produce("strict", bytes.clone(), 1);
        let code = ErrorCode::from_code(answer.error_code);
        let code = code.unwrap_or_else(|| panic!("{what}: code {}", answer.error_code));
        assert!(
            codes.contains(&code),
            "{what}: {code:?} {:?}",
            answer.error_message
        );
        assert_eq!(answer.base_offset, -1, "{what}");
        assert_eq!(wire.log_end("strict"), 3, "{what}");
    }
    // Fewer bytes after the batch than one could begin with are dropped, as Kafka drops them.
    let rest = [good(), vec![0; 11]].concat();
    assert_eq!(wire.produce("strict", rest.into(), 1).error_code, 0);
    let segment = std::fs::metadata(home.partition_file("strict", ".log"));
    assert_eq!(segment.unwrap().len(), 2 * good().len() as u64);
    let unknown_acks = wire.produce("strict", good().into(), 7);
    let refused = ErrorCode::InvalidRequiredAcks.code();
    assert_eq!(unknown_acks.error_code, refused);
    // Without acks there is no answer that could say so: the connection is closed.
    let mut silent = Wire::connect(&node.address);
    silent.send(&produce("strict", all[5].1.clone(), 0), 9);
    assert_eq!(silent.outcome(ANSWER_WITHIN), Outcome::Closed);
    assert_eq!(wire.log_end("strict"), 6);
    println!("bad batches: {} cases", all.len() + 3);
}

#[test]
fn batches_with_random_bits_break_nothing() {
    let home = Home::new();
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    wire.create_topic("bits", 1, &[]);
    let mut prng = Prng::new(22);
    let (mut taken, mut refused) = (0, 0);
    for compression in [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        for _ in 0..60 {
            let values: [&[u8]; 2] = [&[b'a'; 100], b"0123456789"];
            let mut bytes = batch(&values, NOW, Codec::of(compression)).to_vec();
            // Not in length and magic, where a batch ends to be one.
            let at = ATTRIBUTES + prng.below((bytes.len() - ATTRIBUTES) as u64) as usize;
            bytes[at] ^= 1 << prng.below(8);
            match wire.produce("bits", sealed(bytes), 1).error_code {
                0 => taken += 1,
                _ => refused += 1,
            }
        }
    }
    let good = wire.produce("bits", good().into(), 1);
    assert_eq!(good.error_code, 0, "the log still takes what is right");
    assert!(refused > 0, "no bit matters");
    assert!(!home.log().contains("panicked"), "{}", home.log());
    println!("random bits: {refused} batches refused, {taken} taken");
}

#[test]
fn decompression_is_bounded() {
    let home = Home::new();
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    wire.create_topic("bombs", 1, &[("max.message.bytes", "10000000")]);
    let zeros = vec![0_u8; 100 << 20];
    let mut cases = 0;
    for compression in [Compression::Gzip, Compression::Lz4, Compression::Zstd] {
        let bomb = batch(&[&zeros], NOW, Codec::of(compression));
        wire.produce("bombs", bomb, 1);
        cases += 1;
    }
    assert!(wire.is_served());
    let peak = node.peak_mib();
    assert!(peak < 90, "{peak} MiB for a record of 100 MiB of zeros");
    println!("bombs: {cases} codecs, {peak} MiB at most");
}
