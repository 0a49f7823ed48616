//! Conversations on one connection, as bytes.

use bytes::{BufMut, Bytes};
use milena_net::{Connection, Frame, Incoming, Limits, Part, Refused, call};
use milena_protocol::{
    ApiKey, ApiVersionsRequest, FetchRequest, HeartbeatRequest, HeartbeatResponse, MetadataRequest,
    MetadataResponse, Request,
};

fn serves(api: ApiKey, version: i16) -> bool {
    api.has_version(version)
}

fn send<R: Request>(connection: &mut Connection, request: &R, version: i16, correlation: i32) {
    let bytes = call::encode(request, version, correlation, Some("me".into())).unwrap();
    connection.read_buffer().put_slice(&bytes);
}

fn next(connection: &mut Connection) -> Option<Incoming> {
    connection.next_request(serves).unwrap()
}

fn sent(connection: &mut Connection) -> Option<Bytes> {
    let frame = connection.poll_transmit()?;
    let bytes = frame.parts.iter().flat_map(|part| match part {
        Part::Bytes(bytes) => bytes.to_vec(),
        Part::Slice(slice) => slice.read().unwrap(),
    });
    Some(bytes.collect())
}

#[test]
fn a_request_comes_out_as_it_went_in() {
    let mut connection = Connection::new(Limits::default());
    send(&mut connection, &MetadataRequest::default(), 12, 7);
    let incoming = next(&mut connection).unwrap();
    assert_eq!((incoming.api, incoming.version), (ApiKey::Metadata, 12));
    assert_eq!(incoming.client_id.as_deref(), Some("me"));
    let body = MetadataResponse::default();
    let frame =
        Frame::response(incoming.api, 12, incoming.correlation_id, &body, Vec::new()).unwrap();
    connection.complete(incoming.sequence, Some(frame));
    let bytes = sent(&mut connection).unwrap();
    assert_eq!(
        bytes.len(),
        4 + i32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize
    );
    let answer = bytes.slice(4..);
    assert_eq!(call::correlation_id(&answer), Some(7));
    assert_eq!(call::decode::<MetadataRequest>(answer, 12), Ok(body));
}

#[test]
fn a_waiting_fetch_is_passed_and_answers_keep_their_order() {
    let mut connection = Connection::new(Limits::default());
    send(&mut connection, &FetchRequest::default(), 12, 1);
    send(&mut connection, &HeartbeatRequest::default(), 4, 2);
    send(&mut connection, &HeartbeatRequest::default(), 4, 3);
    let fetch = next(&mut connection).unwrap();
    let heartbeat = next(&mut connection).unwrap();
    assert!(
        next(&mut connection).is_none(),
        "a waiting heartbeat is not passed"
    );
    let answer = |incoming: &Incoming| {
        let body = HeartbeatResponse::default();
        Frame::response(ApiKey::Heartbeat, 4, incoming.correlation_id, &body, vec![]).ok()
    };
    connection.complete(heartbeat.sequence, answer(&heartbeat));
    assert!(sent(&mut connection).is_none(), "the fetch comes first");
    let last = next(&mut connection).unwrap();
    connection.complete(last.sequence, None);
    connection.complete(fetch.sequence, answer(&fetch));
    for correlation in [1, 2] {
        let bytes = sent(&mut connection).unwrap();
        assert_eq!(call::correlation_id(&bytes[4..]), Some(correlation));
    }
    assert!(
        sent(&mut connection).is_none(),
        "nothing is sent for the last"
    );
    assert_eq!(connection.in_flight(), 0);
}

#[test]
fn unknown_apis_close_and_unknown_api_versions_are_told_apart() {
    let mut connection = Connection::new(Limits::default());
    let mut bytes = call::encode(&ApiVersionsRequest::default(), 0, 9, None)
        .unwrap()
        .to_vec();
    bytes[7] = 99; // version 99
    connection.read_buffer().put_slice(&bytes);
    let incoming = next(&mut connection).unwrap();
    assert!(incoming.unsupported_version);
    assert_eq!(incoming.correlation_id, 9);

    for (key, version) in [(1000i16, 0i16), (3, 99), (-1, 0), (4, 0)] {
        let mut connection = Connection::new(Limits::default());
        let mut bytes = vec![0, 0, 0, 10];
        bytes.extend(key.to_be_bytes());
        bytes.extend(version.to_be_bytes());
        bytes.extend([0, 0, 0, 1, 0xff, 0xff]);
        connection.read_buffer().put_slice(&bytes);
        let refused = connection.next_request(serves);
        assert_eq!(refused.err(), Some(Refused::Api { key, version }));
    }
}

#[test]
fn a_header_cut_short_is_refused() {
    for length in 0..12usize {
        let mut connection = Connection::new(Limits::default());
        let header = [0, 3, 0, 12, 0, 0, 0, 1, 0, 5, b'a', b'b'];
        connection.read_buffer().put_u32(length as u32);
        connection.read_buffer().put_slice(&header[..length]);
        let result = connection.next_request(serves);
        assert!(
            matches!(result, Err(Refused::Header(_))),
            "{length}: {result:?}"
        );
    }
}

#[test]
fn requests_beyond_the_limit_are_there_once_answers_were_sent() {
    let limits = Limits {
        requests_in_flight_max: 2,
        ..Limits::default()
    };
    let mut connection = Connection::new(limits);
    for id in 0..3 {
        send(&mut connection, &MetadataRequest::default(), 12, id);
    }
    for _ in 0..2 {
        let incoming = next(&mut connection).unwrap();
        connection.complete(incoming.sequence, Some(Frame::default()));
    }
    assert!(!connection.has_request());
    assert!(next(&mut connection).is_none());
    while connection.poll_transmit().is_some() {}
    // No byte has arrived since: only this says that there is one more.
    assert!(connection.has_request());
    assert!(next(&mut connection).is_some());
    assert!(!connection.has_request());
}
