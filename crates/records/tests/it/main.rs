//! Batches from outside: what is built is read back, what is wrong is refused with Kafka's code, and no bytes at all
//! make anything panic.

mod builder;
mod check;
mod memory;
mod mutate;
mod replicated;

use bytes::Bytes;
use milena_base::{Prng, Timestamp};
use milena_records::{BatchBuilder, Compression, HEADER_BYTES, NewRecord, ValidBatch};

pub const NOW: Timestamp = Timestamp(1_700_000_000_000);

/// A batch of `count` records with keys, values and now and then a header.
pub fn sample(compression: Compression, count: i64, prng: &mut Prng) -> ValidBatch {
    let mut builder = BatchBuilder::new(compression);
    for index in 0..count {
        let mut value = vec![0; prng.below(200) as usize];
        prng.fill(&mut value);
        let key = index.to_be_bytes();
        let headers: [(&[u8], Option<&[u8]>); 2] = [(b"trace", Some(&key[4..])), (b"none", None)];
        builder
            .append(NewRecord {
                timestamp: Timestamp(NOW.0 - prng.below(1000) as i64),
                key: Some(&key),
                value: prng.chance(9, 10).then_some(&value),
                headers: &headers[..prng.below(3) as usize],
            })
            .unwrap();
    }
    builder.build()
}

/// One record with a value.
pub fn plain(value: &[u8]) -> NewRecord<'_> {
    NewRecord {
        timestamp: NOW,
        key: None,
        value: Some(value),
        headers: &[],
    }
}

/// Changes bytes of a batch and makes its CRC right again.
pub fn patched(batch: &ValidBatch, change: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut bytes = batch.to_bytes().to_vec();
    change(&mut bytes);
    resealed(bytes)
}

/// Makes length and CRC right.
pub fn resealed(mut bytes: Vec<u8>) -> Bytes {
    assert!(bytes.len() >= HEADER_BYTES);
    let length = (bytes.len() - 12) as i32;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    let header = milena_records::BatchHeader::parse(&bytes).unwrap();
    let crc = header.computed_crc(&bytes[HEADER_BYTES..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}
