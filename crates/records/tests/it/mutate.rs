//! A mutator that knows the format: fields are set to extremes, bytes flipped, cut, doubled, and the CRC mostly made
//! right again, so that the damage gets past it. Whatever comes out, nothing panics, and what passes the check can be
//! read to its end and passes again.

use bytes::Bytes;
use milena_base::Prng;
use milena_records::{
    Batch, CheckOptions, Compression, HEADER_BYTES, Limits, batches, check, check_replicated,
};

use crate::{NOW, resealed, sample};

const CASES: u64 = 6000;
const EXTREMES: [u64; 8] = [0, 1, 2, 0x7f, 0x80, 0x7fff_ffff, 0xffff_ffff, u64::MAX];

fn mutate(bytes: &mut Vec<u8>, prng: &mut Prng) {
    let at = prng.below(bytes.len() as u64) as usize;
    match prng.below(6) {
        0 => bytes[at] ^= 1 << prng.below(8),
        1 => bytes[at] = prng.next_u64() as u8,
        2 => bytes.truncate(at.max(HEADER_BYTES)),
        3 => {
            let slice = bytes[at..].to_vec();
            bytes.extend(slice);
        }
        4 => {
            let value = EXTREMES[prng.below(8) as usize].to_be_bytes();
            let width = [1, 2, 4, 8][prng.below(4) as usize];
            let end = bytes.len().min(at + width);
            bytes[at..end].copy_from_slice(&value[8 - (end - at)..]);
        }
        _ => bytes.insert(at, prng.next_u64() as u8),
    }
}

/// Half of the mutations strike the uncompressed records or the header, where they mean most.
fn case(seed: u64) -> Bytes {
    let mut prng = Prng::new(seed);
    let compression = Compression::ALL[prng.below(5) as usize];
    let count = 1 + prng.below(6) as i64;
    let mut bytes = sample(compression, count, &mut prng).to_bytes().to_vec();
    for _ in 0..=prng.below(4) {
        mutate(&mut bytes, &mut prng);
    }
    match prng.chance(7, 8) {
        true => resealed(bytes),
        false => bytes.into(),
    }
}

#[test]
fn no_bytes_panic_and_what_passes_is_readable() {
    let limits = Limits {
        record_bytes_max: 1 << 20,
        batch_bytes_max: 1 << 22,
    };
    let (mut passed, mut refused) = (0, 0);
    for seed in 0..CASES {
        let bytes = case(seed);
        let options = CheckOptions {
            limits,
            compression: (seed % 3 == 0).then(|| Compression::ALL[seed as usize % 5].into()),
            compacted: seed % 7 == 0,
            ..Default::default()
        };
        for batch in batches(bytes.clone()).flatten() {
            let _ = batch.records(limits).count();
        }
        let _ = check_replicated(bytes.clone());
        let Ok(valid) = check(bytes, &options, NOW) else {
            refused += 1;
            continue;
        };
        passed += 1;
        let batch = Batch::parse(valid.to_bytes()).unwrap();
        batch.check_crc().unwrap();
        let read: Result<Vec<_>, _> = batch.records(limits).collect();
        let read = read.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(read.len() as i32, batch.header().count(), "seed {seed}");
        check(
            valid.to_bytes(),
            &CheckOptions {
                compression: None,
                ..options
            },
            NOW,
        )
        .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
    assert!(
        passed > 100 && refused > 1000,
        "{passed} passed, {refused} were refused"
    );
}
