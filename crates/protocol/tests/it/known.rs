//! Bytes that are known from Kafka's documentation of its formats.

use bytes::Bytes;
use milena_base::Uuid;
use milena_protocol::metadata_response::MetadataResponseBroker;
use milena_protocol::*;

#[test]
fn a_request_header_keeps_its_client_id_in_the_old_form() {
    let header = RequestHeader {
        request_api_key: 18,
        request_api_version: 3,
        correlation_id: 7,
        client_id: Some("ab".into()),
    };
    let bytes = header.to_bytes(2).unwrap();
    assert_eq!(bytes, &b"\0\x12\0\x03\0\0\0\x07\0\x02ab\0"[..]);
    assert_eq!(RequestHeader::from_bytes(bytes, 2), Ok(header));
}

#[test]
fn header_versions_follow_the_message() {
    assert_eq!(ApiKey::Fetch.request_header_version(11), 1);
    assert_eq!(ApiKey::Fetch.request_header_version(12), 2);
    assert_eq!(ApiKey::Fetch.response_header_version(12), 1);
    assert_eq!(ApiKey::ApiVersions.request_header_version(3), 2);
    assert_eq!(ApiKey::ApiVersions.response_header_version(3), 0);
    assert_eq!(ApiKey::OffsetDelete.request_header_version(0), 1);
    assert_eq!(ApiKey::from_code(4), None);
    assert_eq!(ApiKey::from_code(94), Some(ApiKey::UnregisterController));
    assert_eq!(ApiKey::InitProducerId.max_version(), 5);
    assert_eq!(ApiKey::InitProducerId.max_version_unstable(), 6);
    assert_eq!(<FetchRequest as Request>::API_KEY, ApiKey::Fetch);
}

#[test]
fn a_metadata_record_has_a_frame_and_nothing_after_it() {
    let record = MetadataRecord::from(FeatureLevelRecord {
        name: "kraft.version".into(),
        feature_level: 1,
    });
    let bytes = record.encode(0).unwrap();
    assert_eq!(bytes, &b"\x01\x0c\0\x0ekraft.version\0\x01\0"[..]);
    assert_eq!(MetadataRecord::decode(&bytes), Ok(record));
    let longer = Bytes::from([&bytes[..], b"x"].concat());
    assert!(matches!(
        MetadataRecord::decode(&longer),
        Err(DecodeError::Garbage { remaining: 1, .. })
    ));
    let unknown = Bytes::from_static(b"\x01\x7f\0");
    assert_eq!(
        MetadataRecord::decode(&unknown),
        Err(DecodeError::UnknownRecord { type_id: 127 })
    );
}

#[test]
fn coordinator_records_carry_their_kind_in_the_key() {
    let key = GroupCoordinatorKey::from(OffsetCommitKey {
        group: "g".into(),
        topic: "t".into(),
        partition: 3,
    });
    let bytes = key.encode().unwrap();
    assert_eq!(bytes, &b"\0\x01\0\x01g\0\x01t\0\0\0\x03"[..]);
    assert_eq!(GroupCoordinatorKey::decode(&bytes), Ok(key));
    let value = GroupCoordinatorValue::from(OffsetCommitValue {
        offset: 5,
        ..Default::default()
    });
    let bytes = value.encode(3).unwrap();
    assert_eq!(GroupCoordinatorValue::decode(1, &bytes), Ok((value, 3)));
}

#[test]
fn external_records_leave_a_hole() {
    let mut response = FetchResponse::default();
    response
        .responses
        .push(fetch_response::FetchableTopicResponse {
            topic_id: Uuid::ONE,
            partitions: vec![fetch_response::PartitionData {
                records: Some(Records::External { id: 9, length: 300 }),
                ..Default::default()
            }],
            ..Default::default()
        });
    let mut w = Writer::new();
    response.encode(&mut w, 17).unwrap();
    let encoded = w.finish();
    let hole = encoded.holes[0];
    assert_eq!((hole.id, hole.length), (9, 300));
    // The hole is followed by the three empty tag sections of partition, topic and response.
    assert_eq!(hole.at, encoded.bytes.len() - 3);
    assert_eq!(encoded.len(), encoded.bytes.len() + 300);
    let mut filled = encoded.bytes[..hole.at].to_vec();
    filled.extend([7; 300]);
    filled.extend(&encoded.bytes[hole.at..]);
    let back = FetchResponse::from_bytes(filled.into(), 17).unwrap();
    let records = back.responses[0].partitions[0].records.as_ref().unwrap();
    assert_eq!(records.as_bytes().unwrap(), &[7u8; 300][..]);
    assert_eq!(response.to_bytes(17), Err(EncodeError::External));
}

#[test]
fn a_set_field_is_not_dropped_silently() {
    let mut request = FetchRequest {
        replica_state: fetch_request::ReplicaState {
            replica_id: 4,
            ..Default::default()
        },
        ..Default::default()
    };
    assert!(matches!(
        request.to_bytes(14),
        Err(EncodeError::Absent { .. })
    ));
    request.replica_state = Default::default();
    assert!(request.to_bytes(14).is_ok());
}

#[test]
fn null_is_refused_where_the_version_has_none() {
    let request = MetadataRequest {
        topics: None,
        ..Default::default()
    };
    assert!(request.to_bytes(1).is_ok());
    assert_eq!(
        request.to_bytes(0),
        Err(EncodeError::Null {
            field: "MetadataRequest.Topics"
        })
    );
    let null = Bytes::from_static(b"\xff\xff\xff\xff");
    assert!(matches!(
        MetadataRequest::from_bytes(null, 0),
        Err(DecodeError::Null { .. })
    ));
}

#[test]
fn secrets_are_not_printed() {
    let request = SaslAuthenticateRequest {
        auth_bytes: Bytes::from_static(b"hunter2"),
    };
    let text = format!("{request:?}");
    assert!(
        text.contains("hidden") && !text.contains("hunter2"),
        "{text}"
    );
}

#[test]
fn defaults_are_the_schemas() {
    let fetch = FetchRequest::default();
    assert_eq!((fetch.max_bytes, fetch.session_epoch), (i32::MAX, -1));
    assert!(MetadataRequest::default().allow_auto_topic_creation);
    assert_eq!(PartitionChangeRecord::default().leader, -2);
    assert_eq!(MetadataResponseBroker::default().rack, None);
    assert!(RegisterBrokerRecord::default().fenced);
}

#[test]
fn counts_beyond_kafkas_are_refused() {
    // DeleteTopics v1: an array of names. A million and one empty names are there, and one too many.
    let mut many = 1_000_001i32.to_be_bytes().to_vec();
    many.resize(2 * 1_000_001 + 8, 0);
    assert_eq!(
        DeleteTopicsRequest::from_bytes(many.into(), 1),
        Err(DecodeError::Length {
            at: 0,
            length: 1_000_001
        })
    );
    // A response header v1 with 10,001 tagged fields.
    let mut tags = vec![0, 0, 0, 1, 0x91, 0x4e];
    tags.resize(2 * 10_001 + 6, 0);
    assert_eq!(
        ResponseHeader::from_bytes(tags.into(), 1),
        Err(DecodeError::Length {
            at: 4,
            length: 10_001
        })
    );
}

#[test]
fn a_length_that_does_not_fit_is_refused() {
    // A varint of five bytes whose last one exceeds 32 bits, and a length of 2^31.
    for (bytes, expected) in [
        (&b"\xff\xff\xff\xff\x1f"[..], DecodeError::Varint { at: 0 }),
        (
            &b"\x81\x80\x80\x80\x08"[..],
            DecodeError::Length {
                at: 0,
                length: 1 << 31,
            },
        ),
        (&b"\x80\x80\x80\x80\x80"[..], DecodeError::Varint { at: 0 }),
    ] {
        let read = SaslAuthenticateRequest::from_bytes(Bytes::from_static(bytes), 2);
        assert_eq!(read, Err(expected));
    }
}

#[test]
fn a_tagged_field_takes_what_it_states() {
    // FetchRequest v12 holds its cluster id in tag 0; the size says one byte more than the string has.
    let request = FetchRequest {
        cluster_id: Some("c".into()),
        ..Default::default()
    };
    let mut bytes = request.to_bytes(12).unwrap().to_vec();
    let end = bytes.len();
    assert_eq!(bytes[end - 5..], [1, 0, 2, 2, b'c']);
    bytes[end - 3] = 3;
    bytes.push(0);
    assert!(matches!(
        FetchRequest::from_bytes(bytes.into(), 12),
        Err(DecodeError::TagSize { tag: 0, .. })
    ));
}
