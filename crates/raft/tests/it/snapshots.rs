//! The bytes of snapshots, against what Apache Kafka 4.4.0 wrote.

use bytes::Bytes;
use milena_base::{BrokerId, Timestamp, Uuid};
use milena_raft::{
    BOOTSTRAP_SNAPSHOT, ControlRecord, Endpoint, ReplicaKey, SnapshotBuilder, Voter, VoterSet, walk,
};

/// `kafka-storage format` (static voters): header, six feature levels, footer.
const KAFKA: &str = "00000000000000000000004700000000022dfe81d3002000000000000001a20899a12d000001a20899a12dffffffffff\
ffffffffffffffffff000000012a0000000800000003160000000001a20899a0e100000000000000000001000000f100\
00000002f2ff2584000000000005000001a20899a18f000001a20899a18fffffffffffffffffffffffffffff00000006\
3a000000012e010c00116d657461646174612e76657273696f6e002100005a000002014e010c0021656c696769626c65\
2e6c65616465722e7265706c696361732e76657273696f6e00010000340000040128010c000e67726f75702e76657273\
696f6e00010000340000060128010c000e73686172652e76657273696f6e0002000038000008012c010c001073747265\
616d732e76657273696f6e000100004000000a0134010c00147472616e73616374696f6e2e76657273696f6e00020000\
00000000000000070000003f0000000002142aed3a002000000000000001a20899a1ab000001a20899a1abffffffffff\
ffffffffffffffffff000000011a00000008000000040600000000";

fn hex(text: &str) -> Bytes {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let bytes = digits.chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair).unwrap();
        u8::from_str_radix(pair, 16).unwrap()
    });
    bytes.collect()
}

#[test]
fn bytes_are_kafkas() {
    let kafka = hex(KAFKA);
    assert_eq!(kafka.len(), 411);
    let batches: Vec<_> = walk(kafka.clone()).collect::<Result<_, _>>().unwrap();
    let Some(ControlRecord::SnapshotHeader {
        last_contained_log_timestamp,
    }) = batches[0].control.first()
    else {
        panic!("{:?}", batches[0]);
    };
    let times: Vec<Timestamp> = batches.iter().map(|batch| batch.append_timestamp).collect();
    let mut builder = SnapshotBuilder::new(
        BOOTSTRAP_SNAPSHOT,
        *last_contained_log_timestamp,
        (0, None),
        times[0],
    );
    for value in &batches[1].values {
        builder.append(value.clone(), times[1]);
    }
    // The records' batch is closed by its own time, the footer by the last.
    let mut ours = builder.take();
    let (records, footer) = {
        let mut two = builder.finish(times[1]);
        let footer = two.pop().unwrap();
        (two, footer)
    };
    ours.extend(records);
    assert_eq!(ours.concat(), kafka[..336]);
    assert_eq!(footer.len(), 75);
}

#[test]
fn a_dynamic_quorum_names_its_voters_in_the_header() {
    let voters = VoterSet::new([Voter {
        key: ReplicaKey::new(BrokerId(1), Uuid::from_parts(3, 4)),
        endpoints: vec![Endpoint {
            name: "CONTROLLER".into(),
            host: "127.0.0.1".into(),
            port: 29193,
        }],
        kraft_versions: (0, 1),
    }]);
    let time = Timestamp(5);
    let builder = SnapshotBuilder::new(BOOTSTRAP_SNAPSHOT, time, (1, Some(&voters)), time);
    let bytes = Bytes::from(builder.finish(time).concat());
    let batches: Vec<_> = walk(bytes).collect::<Result<_, _>>().unwrap();
    // 166 is the size that Apache Kafka's header batch has for such a voter.
    assert_eq!(batches[0].bytes, 166);
    assert_eq!(batches[0].control[1], ControlRecord::KRaftVersion(1));
    assert_eq!(
        batches[0].control[2],
        ControlRecord::Voters(voters.to_record())
    );
    assert_eq!(batches[1].control, [ControlRecord::SnapshotFooter]);
}

#[test]
fn a_flipped_bit_is_found() {
    let kafka = hex(KAFKA);
    for at in (0..kafka.len()).step_by(7) {
        let mut broken = kafka.to_vec();
        broken[at] ^= 1;
        let read: Result<Vec<_>, _> = walk(Bytes::from(broken)).collect();
        let whole = read.as_ref().is_ok_and(|batches| batches.len() == 3);
        let header_only = [0..8usize, 83..91, 336..344]
            .iter()
            .any(|base| base.contains(&at))
            || [12..16usize, 95..99, 348..352]
                .iter()
                .any(|epoch| epoch.contains(&at));
        assert!(!whole || header_only, "byte {at}");
    }
}
