//! Malformed frames and bodies (INVARIANTS F18, F19): each is answered with an error or closes its connection;
//! other connections go on being served and memory stays bounded.

use std::time::Duration;

use milena_base::{ErrorCode, Prng};
use milena_net::call;
use milena_protocol::arbitrary::{Codec, Shape, codecs};
use milena_protocol::describe_quorum_request::{PartitionData, TopicData};
use milena_protocol::{
    ApiKey, ApiVersionsRequest, DescribeQuorumRequest, Message, MetadataRequest, RequestHeader,
    Writer,
};

use crate::node::{Home, Node};
use crate::wire::{ANSWER_WITHIN, Outcome, Wire, api_versions};

/// How long is waited for what may rightly stay unanswered (a join waits for its group).
const A_MOMENT: Duration = Duration::from_millis(30);
/// What a node may hold at most after all of this, in MiB.
const MEMORY_MIB_MAX: u64 = 200;

/// A frame with its length prefix.
fn frame(body: &[u8]) -> Vec<u8> {
    let mut frame = (body.len() as i32).to_be_bytes().to_vec();
    frame.extend_from_slice(body);
    frame
}

fn request(api: ApiKey, version: i16, body: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new();
    let header = RequestHeader {
        request_api_key: api.code(),
        request_api_version: version,
        correlation_id: 1,
        client_id: Some("raw".into()),
    };
    let form = api.request_header_version(version);
    header.encode(&mut writer, form).expect("a header");
    writer.raw(body);
    frame(&writer.into_bytes().expect("bytes"))
}

/// Sends bytes on a connection of their own.
fn sent(address: &str, bytes: &[u8], within: Duration) -> Outcome {
    let mut wire = Wire::connect(address);
    wire.send_raw(bytes);
    wire.outcome(within)
}

/// Address and served APIs of both listeners.
fn listeners(node: &Node) -> Vec<(String, Vec<(ApiKey, i16)>)> {
    let mut wire = Wire::connect(&node.address);
    let quorum = DescribeQuorumRequest {
        topics: vec![TopicData {
            topic_name: "__cluster_metadata".into(),
            partitions: vec![PartitionData::default()],
        }],
    };
    let nodes = wire.call(&quorum, 2).nodes;
    let controller = format!("127.0.0.1:{}", nodes[0].listeners[0].port);
    let all = [node.address.clone(), controller].into_iter();
    all.map(|address| {
        let versions = Wire::connect(&address).call(&api_versions(), 3);
        let served = versions.api_keys.iter().map(|row| {
            let api = ApiKey::from_code(row.api_key).expect("a key that we know");
            (api, row.max_version)
        });
        (address, served.collect())
    })
    .collect()
}

fn codec(api: ApiKey) -> &'static Codec {
    let name = format!("{}Request", api.name());
    let found = codecs().iter().find(|codec| codec.name == name);
    found.unwrap_or_else(|| panic!("no {name}"))
}

/// The end of each test here: a connection that was open all along, a new one, no panic, little memory.
fn still_well(home: &Home, node: &Node, bystander: &mut Wire) {
    assert!(bystander.is_served(), "the bystander is served");
    assert!(Wire::connect(&node.address).is_served(), "a newcomer is");
    let log = home.log();
    let panics: Vec<&str> = log.lines().filter(|l| l.contains("panicked")).collect();
    assert_eq!(panics, Vec::<&str>::new(), "{log}");
    let peak = node.peak_mib();
    assert!(peak < MEMORY_MIB_MAX, "{peak} MiB");
}

#[test]
fn frames_that_are_none_close_their_connection() {
    let home = Home::new();
    let node = home.start();
    let mut bystander = Wire::connect(&node.address);
    let mut cases = 0;
    for (address, _) in listeners(&node) {
        let mut bad: Vec<Vec<u8>> = Vec::new();
        for length in [-1, i32::MIN, i32::MAX, (100 << 20) + 1] {
            bad.push(length.to_be_bytes().to_vec());
        }
        bad.push(frame(b""));
        bad.push(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec());
        bad.push(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec());
        for (key, version) in [
            (-1, 0),
            (999, 0),
            (i16::MAX, 3),
            (3, 99),
            (3, -1),
            (0, 2),
            (7, 0),
        ] {
            let (key, version): (i16, i16) = (key, version);
            let mut body = [key.to_be_bytes(), version.to_be_bytes()].concat();
            body.extend_from_slice(&[0, 0, 0, 1, 0, 1, b'a', 0]);
            bad.push(frame(&body));
        }
        let whole = call::encode(&MetadataRequest::default(), 12, 1, Some("raw".into())).unwrap();
        for cut in 1..14 {
            bad.push(frame(&whole[4..4 + cut]));
        }
        for bytes in &bad {
            let outcome = sent(&address, bytes, ANSWER_WITHIN);
            assert_eq!(outcome, Outcome::Closed, "{bytes:02x?}");
            cases += 1;
        }
        // A frame of which only a part ever comes is no reason to hold on to anything.
        let mut wire = Wire::connect(&address);
        wire.send_raw(&whole[..10]);
        wire.finish();
        assert_eq!(wire.outcome(ANSWER_WITHIN), Outcome::Closed);
        cases += 1;
    }
    still_well(&home, &node, &mut bystander);
    println!("bad frames: {cases} cases");
}

#[test]
fn an_unknown_version_of_api_versions_is_answered_in_version_0() {
    let home = Home::new();
    let node = home.start();
    let mut cases = 0;
    for (address, _) in listeners(&node) {
        for version in [6, 99, i16::MAX, -1] {
            let bytes = request(ApiKey::ApiVersions, version, b"\x04abc\x04def\0");
            let mut wire = Wire::connect(&address);
            wire.send_raw(&bytes);
            let Outcome::Answered(frame) = wire.outcome(ANSWER_WITHIN) else {
                panic!("version {version} is not answered");
            };
            let answer = call::decode::<ApiVersionsRequest>(frame, 0).expect("version 0");
            let refused = ErrorCode::UnsupportedVersion.code();
            assert_eq!(answer.error_code, refused, "{version}");
            let row = &answer.api_keys[0];
            assert_eq!((row.api_key, row.min_version, row.max_version), (18, 0, 5));
            assert!(
                wire.is_served(),
                "the connection stays, so that it can be tried again"
            );
            cases += 1;
        }
    }
    println!("ApiVersions: {cases} versions that nobody speaks");
}

#[test]
fn bodies_cut_short_close_their_connection() {
    let home = Home::new();
    let node = home.start();
    let mut bystander = Wire::connect(&node.address);
    let mut prng = Prng::new(18);
    let (mut cases, mut apis) = (0, 0);
    for (address, served) in listeners(&node) {
        for (api, version) in served {
            let codec = codec(api);
            apis += 1;
            for shape in [Shape::Full, Shape::Any] {
                let value = codec.instance(version, shape, &mut prng);
                let body = codec.bytes(&value, version, false);
                for _ in 0..3 {
                    let Some(bound) = (body.len() as u64).checked_sub(1).filter(|b| *b > 0) else {
                        continue;
                    };
                    let cut = prng.below(bound) as usize;
                    let bytes = request(api, version, &body[..cut]);
                    let outcome = sent(&address, &bytes, ANSWER_WITHIN);
                    let cut_at = format!("{api:?} v{version} cut at {cut} of {}", body.len());
                    // ApiVersions v0 to v2 have no body; from v3 on, an unreadable one is answered or closed.
                    assert_eq!(outcome, Outcome::Closed, "{cut_at}");
                    cases += 1;
                }
            }
        }
    }
    still_well(&home, &node, &mut bystander);
    println!("cut bodies: {cases} cases over {apis} APIs of both listeners");
}

/// Bytes that announce the longest array, string or bytes, in the old and in the flexible form.
const HUGE: [&[u8]; 3] = [
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\xff\x07",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
];

#[test]
fn announced_lengths_reserve_nothing() {
    let home = Home::new();
    let node = home.start();
    let mut bystander = Wire::connect(&node.address);
    let mut prng = Prng::new(19);
    let (mut cases, mut answered, mut waiting) = (0, 0, 0);
    for (address, served) in listeners(&node) {
        for (api, version) in served {
            let codec = codec(api);
            let value = codec.instance(version, Shape::Full, &mut prng);
            let body = codec.bytes(&value, version, false);
            for huge in HUGE {
                let at = prng.below(body.len() as u64 + 1) as usize;
                let mut bad = body[..at].to_vec();
                bad.extend_from_slice(huge);
                bad.extend_from_slice(&body[at..]);
                match sent(&address, &request(api, version, &bad), A_MOMENT) {
                    Outcome::Answered(_) => answered += 1,
                    Outcome::Nothing => waiting += 1,
                    Outcome::Closed => {}
                }
                cases += 1;
            }
        }
    }
    still_well(&home, &node, &mut bystander);
    println!("huge lengths: {cases} cases, {answered} answered, {waiting} waiting");
}

#[test]
fn random_requests_break_nothing() {
    let home = Home::new();
    let node = home.start();
    let mut bystander = Wire::connect(&node.address);
    let mut prng = Prng::new(20);
    let (mut cases, mut answered) = (0, 0);
    let both = listeners(&node);
    let (address, served) = &both[0];
    for &(api, version) in served {
        for shape in Shape::ALL {
            let value = codec(api).instance(version, shape, &mut prng);
            let mut body = codec(api).bytes(&value, version, true).to_vec();
            if shape == Shape::Any && !body.is_empty() {
                let at = prng.below(body.len() as u64) as usize;
                body[at] ^= 1 << prng.below(8);
            }
            let outcome = sent(address, &request(api, version, &body), A_MOMENT);
            answered += usize::from(matches!(outcome, Outcome::Answered(_)));
            cases += 1;
        }
    }
    still_well(&home, &node, &mut bystander);
    println!("random requests: {cases} cases, {answered} answered at once");
}

#[test]
fn frames_beyond_the_limit_are_not_waited_for() {
    let home = Home::new().with("socket.request.max.bytes", "1048576");
    let node = home.start();
    let mut bystander = Wire::connect(&node.address);
    let small = vec![0_u8; 64 * 1024];
    // Above the limit by one, and far above: closed at the prefix, before anything follows.
    for length in [1_048_577_i32, 100 << 20, i32::MAX] {
        let outcome = sent(&node.address, &length.to_be_bytes(), ANSWER_WITHIN);
        assert_eq!(outcome, Outcome::Closed, "{length}");
    }
    // Within the limit but never finished: many such connections hold what they have sent, and no more.
    let mut slow: Vec<Wire> = (0..50).map(|_| Wire::connect(&node.address)).collect();
    for wire in &mut slow {
        wire.send_raw(&1_048_576_i32.to_be_bytes());
        wire.send_raw(&small);
    }
    still_well(&home, &node, &mut bystander);
    drop(slow);
    // Many requests queued on one connection are all answered, in order.
    let mut eager = Wire::connect(&node.address);
    let queued = request(ApiKey::ApiVersions, 3, b"\x04raw\x021\0");
    eager.send_raw(&queued.repeat(500));
    for at in 0..500 {
        let outcome = eager.outcome(ANSWER_WITHIN);
        assert!(
            matches!(outcome, Outcome::Answered(_)),
            "the answer {at}: {outcome:?}"
        );
    }
    still_well(&home, &node, &mut bystander);
    println!("limits: 3 oversized frames, 50 unfinished ones, 500 queued requests");
}
