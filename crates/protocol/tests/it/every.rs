//! Every message and record in every version, on random instances made from the field tables.

use bytes::Bytes;
use milena_base::Prng;
use milena_protocol::arbitrary::{Codec, Shape, codecs};
use milena_protocol::{ApiKey, DecodeError, EncodeError};

const SEED: u64 = 20_260_101;

/// Calls with each message, version and shape, and a generator of its own.
fn each(mut check: impl FnMut(&Codec, i16, Shape, &mut Prng)) {
    let mut prng = Prng::new(SEED);
    for codec in codecs() {
        for version in codec.versions() {
            for shape in Shape::ALL {
                check(codec, version, shape, &mut prng.fork());
            }
        }
    }
}

#[test]
fn nothing_is_missing() {
    let count = |group: &str| codecs().iter().filter(|c| c.group == group).count();
    assert_eq!(count("api"), 2 * ApiKey::ALL.len());
    assert_eq!(ApiKey::ALL.len(), 91);
    assert_eq!(count("records-metadata"), 27);
    assert_eq!(count("header"), 2);
    assert_eq!(codecs().len(), 278);
}

#[test]
fn what_is_decoded_is_encoded_to_the_same_bytes() {
    let mut instances = 0;
    let mut versions = 0;
    each(|codec, version, shape, prng| {
        versions += usize::from(shape == Shape::Least);
        for _ in 0..4 {
            let value = codec.instance(version, shape, prng);
            let bytes = codec.bytes(&value, version, false);
            let recoded = codec.recode(bytes.clone(), version, version);
            assert_eq!(
                recoded,
                Ok(Ok(bytes)),
                "{} {version} {shape:?}: {value:?}",
                codec.name
            );
            instances += 1;
        }
    });
    println!(
        "{} messages, {versions} versions, {instances} instances",
        codecs().len()
    );
    assert!(versions > 600 && instances == versions * 4 * Shape::ALL.len());
}

#[test]
fn unknown_tagged_fields_are_passed_over() {
    let mut instances = 0;
    each(|codec, version, shape, prng| {
        if version < codec.schema.flexible_from {
            return;
        }
        let value = codec.instance(version, shape, prng);
        let (plain, tagged) = (
            codec.bytes(&value, version, false),
            codec.bytes(&value, version, true),
        );
        assert!(tagged.len() > plain.len());
        let recoded = codec.recode(tagged, version, version);
        assert_eq!(recoded, Ok(Ok(plain)), "{} {version}", codec.name);
        instances += 1;
    });
    println!("{instances} instances with unknown tagged fields in every structure");
    assert!(instances > 2000);
}

#[test]
fn every_cut_is_an_error() {
    let mut cuts = 0;
    each(|codec, version, shape, prng| {
        let value = codec.instance(version, shape, prng);
        let bytes = codec.bytes(&value, version, false);
        // Long instances are texts in the main; their cuts are sampled.
        let step = bytes.len() / 400 + 1;
        for length in (0..bytes.len()).step_by(step) {
            let cut = codec.recode(bytes.slice(..length), version, version);
            assert!(
                matches!(cut, Err(DecodeError::Truncated { .. })),
                "{} {version} cut to {length} of {}: {cut:?}",
                codec.name,
                bytes.len()
            );
            cuts += 1;
        }
    });
    println!("{cuts} cuts");
    assert!(cuts > 200_000);
}

#[test]
fn damaged_bytes_never_panic() {
    let (mut refused, mut taken) = (0, 0);
    each(|codec, version, shape, prng| {
        let value = codec.instance(version, shape, prng);
        let bytes = codec.bytes(&value, version, false);
        for _ in 0..8 {
            let mut damaged = bytes.to_vec();
            for _ in 0..=prng.below(3) {
                if damaged.is_empty() {
                    break;
                }
                let at = prng.below(damaged.len() as u64) as usize;
                damaged[at] =
                    [0, 1, 0x7f, 0x80, 0xff, prng.next_u64() as u8][prng.below(6) as usize];
            }
            match codec.json(Bytes::from(damaged), version) {
                Ok(_) => taken += 1,
                Err(_) => refused += 1,
            }
        }
    });
    println!("{refused} damaged instances refused, {taken} decoded to something");
    assert!(refused > 1000 && taken > 1000);
}

#[test]
fn another_version_carries_the_value_or_says_that_it_cannot() {
    let (mut carried, mut absent, mut null) = (0, 0, 0);
    each(|codec, from, shape, prng| {
        let value = codec.instance(from, shape, prng);
        let bytes = codec.bytes(&value, from, false);
        for to in codec.versions() {
            match codec.recode(bytes.clone(), from, to).unwrap() {
                // What was carried is a stable value of that version.
                Ok(other) => {
                    let again = codec.recode(other.clone(), to, to);
                    assert_eq!(again, Ok(Ok(other)), "{} {from} as {to}", codec.name);
                    carried += 1;
                }
                Err(EncodeError::Absent { .. }) => absent += 1,
                Err(EncodeError::Null { .. }) => null += 1,
                Err(other) => panic!("{} {from} as {to}: {other}", codec.name),
            }
        }
    });
    println!("{carried} carried, {absent} refused for a set field, {null} for a null");
    assert!(carried > 1000 && absent > 1000 && null > 10);
}

#[test]
fn a_version_that_is_not_there_is_refused() {
    for codec in codecs() {
        for version in [codec.min - 1, codec.max + 1, i16::MIN, i16::MAX] {
            let refused = codec.recode(Bytes::from_static(&[0; 64]), version, version);
            let name = codec.name;
            assert_eq!(refused, Err(DecodeError::Version { name, version }));
        }
    }
}

#[test]
fn the_table_and_the_codec_agree_in_json() {
    let mut instances = 0;
    each(|codec, version, shape, prng| {
        let value = codec.instance(version, shape, prng);
        let bytes = codec.bytes(&value, version, false);
        let decoded = codec.json(bytes.clone(), version).unwrap().unwrap();
        let direct = milena_protocol::Json::of_bytes(codec.schema, bytes, version).unwrap();
        assert_eq!(decoded, direct);
        instances += 1;
    });
    assert!(instances > 3000);
}
