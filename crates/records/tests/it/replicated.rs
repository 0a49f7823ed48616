//! What a leader sends.

use bytes::Bytes;
use milena_base::{Epoch, Offset, Prng};
use milena_records::{BatchError, Compression, batches, check_replicated};

use crate::sample;

fn stored(base: i64, count: i64) -> Bytes {
    let mut valid = sample(Compression::Lz4, count, &mut Prng::new(base as u64));
    valid.stamp(Offset(base), Epoch(3), None);
    valid.to_bytes()
}

#[test]
fn whole_batches_pass_and_a_cut_one_is_dropped() {
    let bytes: Bytes = [stored(10, 5), stored(15, 1), stored(20, 2).slice(..30)]
        .concat()
        .into();
    let valid = check_replicated(bytes.clone()).unwrap();
    let bases: Vec<Offset> = valid
        .iter()
        .map(|batch| batch.header().base_offset())
        .collect();
    assert_eq!(bases, [Offset(10), Offset(15)]);
    let mut all = batches(bytes);
    assert_eq!(all.by_ref().count(), 2);
    assert_eq!(all.rest().len(), 30);
}

#[test]
fn offsets_must_increase_and_bytes_be_intact() {
    let backwards: Bytes = [stored(10, 5), stored(14, 1)].concat().into();
    let order = BatchError::OffsetOrder { last: 14, next: 14 };
    assert_eq!(check_replicated(backwards).unwrap_err(), order);
    let mut damaged = stored(10, 5).to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    assert!(matches!(
        check_replicated(damaged.into()),
        Err(BatchError::Crc { .. })
    ));
    assert!(check_replicated(Bytes::new()).unwrap().is_empty());
}
