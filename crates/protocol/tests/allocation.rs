//! What a peer says reserves no memory that its bytes do not pay for. A binary of its own, since the allocator
//! that counts is the process's.

use std::alloc::System;

use bytes::Bytes;
use milena_base::{Prng, Uuid};
use milena_protocol::arbitrary::{Codec, Shape, codecs};
use milena_protocol::fetch_request::{FetchPartition, FetchTopic};
use milena_protocol::fetch_response::{FetchableTopicResponse, PartitionData};
use milena_protocol::produce_request::{PartitionProduceData, TopicProduceData};
use milena_protocol::{
    DECODED_BYTES_PER_BYTE_MAX, FetchRequest, FetchResponse, Message, ProduceRequest, Records, Str,
    Writer,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What an input of any size may cost besides.
const FREE: usize = 4096;

/// Bytes that one decode ever allocates, growth of vectors included.
fn cost(codec: &Codec, version: i16, input: &Bytes) -> usize {
    let region = Region::new(ALLOCATOR);
    codec.decodes(input.clone(), version);
    let change = region.change();
    change.bytes_allocated + change.bytes_reallocated.max(0) as usize
}

/// One test, since another thread's allocations would be counted too.
#[test]
fn memory_is_paid_for() {
    decoding_costs_a_fixed_factor_of_the_input();
    hot_messages_allocate_for_their_arrays_alone();
}

fn decoding_costs_a_fixed_factor_of_the_input() {
    let mut prng = Prng::new(7);
    let mut inputs = 0;
    let (mut worst, mut request) = ((0, String::new()), (0, String::new()));
    for codec in codecs() {
        for version in codec.versions() {
            for input in hostile(codec, version, &mut prng) {
                let spent = cost(codec, version, &input);
                let allowed = input.len() * DECODED_BYTES_PER_BYTE_MAX + FREE;
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

/// Produce and Fetch, both ways: an allocation an array, none a field.
fn hot_messages_allocate_for_their_arrays_alone() {
    const TOPICS: usize = 20;
    const PARTITIONS: usize = 50;
    for (name, version, arrays) in [
        ("ProduceRequest", 13, 1 + TOPICS),
        ("ProduceRequest", 9, 1 + TOPICS),
        ("FetchRequest", 17, 1 + TOPICS),
        ("FetchRequest", 11, 1 + TOPICS),
    ] {
        let input = hot(name, version, TOPICS, PARTITIONS);
        let codec = codecs().iter().find(|codec| codec.name == name).unwrap();
        let region = Region::new(ALLOCATOR);
        assert!(codec.decodes(input.clone(), version));
        let change = region.change();
        println!(
            "{name} {version} of {} bytes: {} allocations, {} regrown, {} bytes",
            input.len(),
            change.allocations,
            change.reallocations,
            change.bytes_allocated
        );
        assert_eq!((change.allocations, change.reallocations), (arrays, 0));
    }
    encoding_allocates_for_its_buffer_alone();
}

fn encoding_allocates_for_its_buffer_alone() {
    let partition = PartitionData {
        records: Some(Records::External { id: 1, length: 900 }),
        ..Default::default()
    };
    let response = FetchResponse {
        responses: vec![FetchableTopicResponse {
            topic_id: Uuid::ONE,
            partitions: vec![partition; 100],
            ..Default::default()
        }],
        ..Default::default()
    };
    let mut writer = Writer::with_capacity(1 << 16);
    let region = Region::new(ALLOCATOR);
    response.encode(&mut writer, 17).unwrap();
    let change = region.change();
    // The list of holes, which grows to 128.
    assert_eq!((change.allocations, change.reallocations), (1, 5));
}

fn hot(name: &str, version: i16, topics: usize, partitions: usize) -> Bytes {
    let encoded = if name == "FetchRequest" {
        let topic = FetchTopic {
            topic: if version < 13 {
                "a.topic.of.some.length".into()
            } else {
                Str::EMPTY
            },
            topic_id: Uuid::ONE,
            partitions: vec![FetchPartition::default(); partitions],
        };
        let request = FetchRequest {
            topics: vec![topic; topics],
            ..Default::default()
        };
        request.to_bytes(version)
    } else {
        let partition = PartitionProduceData {
            records: Some(Bytes::from_static(&[7; 120]).into()),
            ..Default::default()
        };
        let topic = TopicProduceData {
            name: if version < 13 {
                "a.topic.of.some.length".into()
            } else {
                Str::EMPTY
            },
            topic_id: Uuid::ONE,
            partition_data: vec![partition; partitions],
        };
        let request = ProduceRequest {
            topic_data: vec![topic; topics],
            ..Default::default()
        };
        request.to_bytes(version)
    };
    encoded.unwrap()
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
