//! A producer and a broker that gathers so many requests before it answers them, as its script says.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread::JoinHandle;

use bytes::Bytes;
use milena_base::{ErrorCode, Prng, Timestamp};
use milena_client::producer::{ProducerConfig, Record};
use milena_client::{Client, ClientConfig, Producer};
use milena_net::{Frame, Part, call};
use milena_protocol::api_versions_response::ApiVersion;
use milena_protocol::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use milena_protocol::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use milena_protocol::{
    ApiKey, ApiVersionsResponse, InitProducerIdResponse, Message, MetadataResponse, ProduceRequest,
    ProduceResponse, Reader, Records, RequestHeader, Str,
};
use milena_records::{CheckOptions, check};

const TOPIC: &str = "t";
/// Of the one topic.
const PARTITIONS: i32 = 4;

/// Requests to gather, and what each is answered; after the last round each is answered well at once.
type Round = Vec<ErrorCode>;

/// A batch as the broker got it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Got {
    request: usize,
    partition: i32,
    /// Producer id and first sequence.
    producer: (i64, i32),
    value: String,
    code: ErrorCode,
}

struct Broker {
    socket: TcpStream,
    port: u16,
    rounds: Vec<Round>,
    gathered: Vec<(RequestHeader, Bytes)>,
    got: Vec<Got>,
    requests: usize,
    /// The last producer id that was given out, on any connection.
    identities: Arc<AtomicI64>,
}

/// Serves one connection to its end.
fn broker(rounds: Vec<Round>) -> (u16, JoinHandle<Vec<Got>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("it is bound").port();
    let serve = move || {
        let mut got = Vec::new();
        let mut rounds = rounds;
        let identities = Arc::new(AtomicI64::new(6));
        rounds.reverse();
        // The bootstrap connection, then the broker's.
        let connections: Vec<JoinHandle<Vec<Got>>> = (0..2)
            .map(|_| {
                let (socket, _) = listener.accept().expect("a connection");
                let (rounds, identities) = (rounds.clone(), identities.clone());
                std::thread::spawn(move || {
                    let mut broker = Broker {
                        socket,
                        port,
                        rounds,
                        gathered: Vec::new(),
                        got: Vec::new(),
                        requests: 0,
                        identities,
                    };
                    while broker.step() {}
                    broker.got
                })
            })
            .collect();
        for connection in connections {
            got.extend(connection.join().expect("it does not panic"));
        }
        got
    };
    (port, std::thread::spawn(serve))
}

impl Broker {
    /// Whether the connection goes on.
    fn step(&mut self) -> bool {
        let mut length = [0; 4];
        if self.socket.read_exact(&mut length).is_err() {
            return false;
        }
        let mut frame = vec![0; i32::from_be_bytes(length) as usize];
        if self.socket.read_exact(&mut frame).is_err() {
            return false;
        }
        let (api, header, body) = call::request(frame.into())
            .expect("a header")
            .expect("known");
        match api {
            ApiKey::ApiVersions => self.answer(&header, &versions()),
            ApiKey::Metadata => self.answer(&header, &self.metadata()),
            ApiKey::InitProducerId => {
                let answer = InitProducerIdResponse {
                    producer_id: 1 + self.identities.fetch_add(1, Ordering::Relaxed),
                    producer_epoch: 0,
                    ..Default::default()
                };
                self.answer(&header, &answer);
            }
            ApiKey::Produce => {
                self.gathered.push((header, body));
                let wanted = self.rounds.last().map_or(1, Vec::len);
                if self.gathered.len() == wanted {
                    let codes = self.rounds.pop().unwrap_or_else(|| vec![ErrorCode::None]);
                    let gathered = std::mem::take(&mut self.gathered);
                    for ((header, body), code) in gathered.into_iter().zip(codes) {
                        self.produce(&header, body, code);
                    }
                }
            }
            other => panic!("{other}"),
        }
        true
    }

    fn answer<M: Message>(&self, header: &RequestHeader, body: &M) {
        let api = ApiKey::from_code(header.request_api_key).expect("known");
        let (version, id) = (header.request_api_version, header.correlation_id);
        let frame = Frame::response(api, version, id, body, Vec::new()).expect("it can be written");
        let mut socket = &self.socket;
        for part in frame.parts {
            let Part::Bytes(bytes) = part else {
                panic!("no files here");
            };
            // The client may have gone.
            let _ = socket.write_all(&bytes);
        }
    }

    fn metadata(&self) -> MetadataResponse {
        let partition = |partition_index| MetadataResponsePartition {
            partition_index,
            leader_id: 1,
            leader_epoch: 0,
            replica_nodes: vec![1],
            isr_nodes: vec![1],
            ..Default::default()
        };
        MetadataResponse {
            brokers: vec![MetadataResponseBroker {
                node_id: 1,
                host: Str::from("127.0.0.1"),
                port: self.port.into(),
                ..Default::default()
            }],
            controller_id: 1,
            topics: vec![MetadataResponseTopic {
                name: Some(Str::from(TOPIC)),
                partitions: (0..PARTITIONS).map(partition).collect(),
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    fn produce(&mut self, header: &RequestHeader, body: Bytes, code: ErrorCode) {
        let version = header.request_api_version;
        let request =
            ProduceRequest::decode(&mut Reader::new(body), version).expect("it can be read");
        let mut responses = Vec::new();
        for topic in &request.topic_data {
            let mut partition_responses = Vec::new();
            for part in &topic.partition_data {
                let Some(Records::Bytes(bytes)) = &part.records else {
                    panic!("no records");
                };
                self.take(part.index, bytes.clone(), code);
                partition_responses.push(PartitionProduceResponse {
                    index: part.index,
                    error_code: code.code(),
                    ..Default::default()
                });
            }
            responses.push(TopicProduceResponse {
                name: topic.name.clone(),
                topic_id: topic.topic_id,
                partition_responses,
            });
        }
        self.requests += 1;
        let answer = ProduceResponse {
            responses,
            ..Default::default()
        };
        self.answer(header, &answer);
    }

    fn take(&mut self, partition: i32, bytes: Bytes, code: ErrorCode) {
        let batch = check(bytes, &CheckOptions::default(), Timestamp(0)).expect("a good batch");
        let header = *batch.header();
        let mut values = Vec::new();
        for record in batch.records(milena_records::Limits::default()) {
            let value = record.expect("a good record").value.expect("a value");
            values.push(String::from_utf8(value.to_vec()).expect("text"));
        }
        self.got.push(Got {
            request: self.requests,
            partition,
            producer: (header.producer_id(), header.base_sequence()),
            value: values.join("+"),
            code,
        });
    }
}

fn versions() -> ApiVersionsResponse {
    let apis = [
        (ApiKey::Produce, 9),
        (ApiKey::Metadata, 9),
        (ApiKey::InitProducerId, 4),
        (ApiKey::ApiVersions, 3),
    ];
    let api_keys = apis.map(|(api, max_version)| ApiVersion {
        api_key: api.code(),
        min_version: max_version,
        max_version,
    });
    ApiVersionsResponse {
        api_keys: api_keys.to_vec(),
        ..Default::default()
    }
}

/// Sends values to partitions, all at once; what the broker got, and which failed.
fn send(
    rounds: &[&[ErrorCode]],
    properties: &[(&str, &str)],
    values: &[(i32, &str)],
) -> (Vec<Got>, Vec<ErrorCode>) {
    let (port, served) = broker(rounds.iter().map(|round| round.to_vec()).collect());
    let mut all: BTreeMap<String, String> = properties
        .iter()
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect();
    all.insert("bootstrap.servers".into(), format!("127.0.0.1:{port}"));
    all.insert("retry.backoff.ms".into(), "1".into());
    // A script that waits for more than comes ends here.
    all.insert("delivery.timeout.ms".into(), "20000".into());
    let failed = milena_client::run(async {
        let client = Client::new(ClientConfig::new(&all).expect("good"), Prng::new(1));
        let mut producer = Producer::new(client, ProducerConfig::new(&all).expect("good"));
        for (partition, value) in values {
            let record = Record {
                topic: Str::from(TOPIC),
                partition: Some(*partition),
                value: Some(Bytes::copy_from_slice(value.as_bytes())),
                ..Record::default()
            };
            producer.append(record).await.expect("it is taken in");
        }
        producer.flush().await.expect("it ends");
        producer.take_failed()
    });
    let got = served.join().expect("it does not panic");
    let codes = failed
        .into_iter()
        .map(|failed| failed.error.code().expect("a code"));
    (got, codes.collect())
}

fn lines(got: &[Got]) -> Vec<String> {
    let line = |got: &Got| {
        let (id, sequence) = got.producer;
        let code = match got.code {
            ErrorCode::None => String::new(),
            code => format!(" {}", code.name()),
        };
        format!(
            "{}: {} to {} by {id}/{sequence}{code}",
            got.request, got.value, got.partition
        )
    };
    got.iter().map(line).collect()
}

const OK: ErrorCode = ErrorCode::None;
/// Each record is a batch.
const SINGLE: (&str, &str) = ("batch.size", "0");

#[test]
fn as_many_requests_are_under_way_as_the_config_says() {
    let values = [(0, "a"), (0, "b"), (0, "c"), (0, "d"), (0, "e")];
    let rounds: &[&[ErrorCode]] = &[&[OK; 3], &[OK; 2]];
    let three = ("max.in.flight.requests.per.connection", "3");
    let (got, failed) = send(rounds, &[SINGLE, three], &values);
    let wanted = [
        "0: a to 0 by 7/0",
        "1: b to 0 by 7/1",
        "2: c to 0 by 7/2",
        "3: d to 0 by 7/3",
        "4: e to 0 by 7/4",
    ];
    assert_eq!(
        (lines(&got), failed),
        (wanted.map(str::to_string).to_vec(), vec![])
    );
}

#[test]
fn a_request_takes_a_batch_of_every_partition() {
    let values = [(0, "a"), (1, "b"), (2, "c"), (0, "d"), (3, "e")];
    let linger = ("linger.ms", "10000");
    let (got, failed) = send(&[&[OK]], &[linger], &values);
    let wanted = [
        "0: a+d to 0 by 7/0",
        "0: b to 1 by 7/0",
        "0: c to 2 by 7/0",
        "0: e to 3 by 7/0",
    ];
    assert_eq!(
        (lines(&got), failed),
        (wanted.map(str::to_string).to_vec(), vec![])
    );
}

#[test]
fn batches_behind_one_that_failed_are_sent_again_after_it() {
    let values = [(0, "a"), (0, "b"), (0, "c")];
    let (moved, behind) = (
        ErrorCode::NotLeaderOrFollower,
        ErrorCode::OutOfOrderSequenceNumber,
    );
    let (got, failed) = send(&[&[moved, behind, behind]], &[SINGLE], &values);
    let written: Vec<Got> = got.iter().filter(|got| got.code == OK).cloned().collect();
    let values: Vec<&str> = written.iter().map(|got| got.value.as_str()).collect();
    assert_eq!(
        (values, failed),
        (vec!["a", "b", "c"], vec![]),
        "{:?}",
        lines(&got)
    );
    let sequences: Vec<(i64, i32)> = written.iter().map(|got| got.producer).collect();
    assert_eq!(sequences, [(7, 0), (7, 1), (7, 2)]);
}

/// The broker has seen no record of the new identity: its sequences begin anew.
#[test]
fn batches_behind_one_that_was_given_up_are_sent_under_a_new_identity() {
    let values = [(0, "a"), (0, "b"), (0, "c")];
    let (large, behind) = (
        ErrorCode::MessageTooLarge,
        ErrorCode::OutOfOrderSequenceNumber,
    );
    let (got, failed) = send(&[&[large, behind, behind]], &[SINGLE], &values);
    assert_eq!(failed, [large]);
    let written: Vec<String> = lines(&got).into_iter().skip(3).collect();
    assert_eq!(written, ["3: b to 0 by 8/0", "4: c to 0 by 8/1"]);
}
