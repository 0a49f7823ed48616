//! What a peer says reserves no memory that its bytes do not pay for. A binary of its own, since the allocator
//! that counts is the process's.

use std::alloc::System;

use bytes::Bytes;
use milena_base::Prng;
use milena_protocol::arbitrary::{Codec, Shape, codecs};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Bytes ever allocated for one byte of input, growth of vectors included.
const FACTOR_MAX: usize = 200;
/// What an input of any size may cost besides.
const FREE: usize = 4096;

/// Allocated bytes of one decode.
fn cost(codec: &Codec, version: i16, input: &Bytes) -> usize {
    let region = Region::new(ALLOCATOR);
    codec.decodes(input.clone(), version);
    let change = region.change();
    change.bytes_allocated + change.bytes_reallocated.max(0) as usize
}

#[test]
fn decoding_costs_a_fixed_factor_of_the_input() {
    let mut prng = Prng::new(7);
    let mut inputs = 0;
    let (mut worst, mut request) = ((0, String::new()), (0, String::new()));
    for codec in codecs() {
        for version in codec.versions() {
            for input in hostile(codec, version, &mut prng) {
                let spent = cost(codec, version, &input);
                let allowed = input.len() * FACTOR_MAX + FREE;
                assert!(
                    spent <= allowed,
                    "{} {version}: {spent} bytes for an input of {}",
                    codec.name,
                    input.len()
                );
                let factor = spent.saturating_sub(FREE) / input.len().max(1);
                let found = (factor, format!("{} {version}", codec.name));
                if codec.name.ends_with("Request") {
                    request = request.max(found.clone());
                }
                worst = worst.max(found);
                inputs += 1;
            }
        }
    }
    println!("{inputs} inputs; the worst factors: {worst:?}, of requests {request:?}");
}

/// Absurd counts and lengths, dense arrays, noise.
fn hostile(codec: &Codec, version: i16, prng: &mut Prng) -> Vec<Bytes> {
    let mut inputs = Vec::new();
    for byte in [0x00, 0x01, 0x02, 0x03, 0x7f, 0x80, 0xff] {
        inputs.push(vec![byte; 20_000]);
    }
    let mut noise = vec![0; 20_000];
    prng.fill(&mut noise);
    inputs.push(noise);
    inputs.push(codec.dense(version, 5_000).to_vec());
    for shape in Shape::ALL {
        let value = codec.instance(version, shape, prng);
        let bytes = codec.bytes(&value, version, false);
        // Each place in turn becomes a huge count, in both encodings; the rest stays what it was.
        for at in (0..bytes.len()).step_by(bytes.len() / 24 + 1) {
            for count in [
                &[0xff, 0xff, 0xff, 0xff, 0x07][..],
                &[0x7f, 0xff, 0xff, 0xff],
            ] {
                let mut damaged = bytes.to_vec();
                let end = damaged.len().min(at + count.len());
                damaged[at..end].copy_from_slice(&count[..end - at]);
                inputs.push(damaged);
            }
        }
    }
    inputs.into_iter().map(Bytes::from).collect()
}
