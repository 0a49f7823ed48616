//! A client on a raw socket, and the few requests that most tests need.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use milena_base::Timestamp;
use milena_net::call;
use milena_protocol::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use milena_protocol::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use milena_protocol::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use milena_protocol::produce_request::{PartitionProduceData, TopicProduceData};
use milena_protocol::produce_response::PartitionProduceResponse;
use milena_protocol::{
    ApiVersionsRequest, CreateTopicsRequest, IncrementalAlterConfigsRequest, ListOffsetsRequest,
    MetadataRequest, ProduceRequest, Records, Request, Str,
};
use milena_records::{BatchBuilder, Codec, NewRecord};

/// How long an answer may take.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// What a node makes of bytes that were sent to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A frame without its length prefix.
    Answered(Bytes),
    Closed,
    /// Neither within the time given.
    Nothing,
}

pub struct Wire {
    stream: TcpStream,
    correlation_id: i32,
    /// How long `try_call` waits.
    patience: Duration,
}

impl Wire {
    pub fn connect(address: &str) -> Wire {
        Wire::try_connect(address).expect("the node listens")
    }

    /// `None` where nobody listens.
    pub fn try_connect(address: &str) -> Option<Wire> {
        let address: SocketAddr = address.parse().ok()?;
        let stream = TcpStream::connect_timeout(&address, ANSWER_WITHIN).ok()?;
        stream.set_nodelay(true).expect("an option");
        stream
            .set_read_timeout(Some(ANSWER_WITHIN))
            .expect("an option");
        stream
            .set_write_timeout(Some(ANSWER_WITHIN))
            .expect("an option");
        Some(Wire {
            stream,
            correlation_id: 0,
            patience: ANSWER_WITHIN,
        })
    }

    /// For processes that may stand still: `try_call` waits no longer.
    pub fn within(mut self, patience: Duration) -> Wire {
        self.patience = patience;
        self
    }

    /// `None` where the connection ended instead of an answer.
    pub fn try_call<R: Request>(&mut self, request: &R, version: i16) -> Option<R::Response> {
        self.correlation_id += 1;
        let client = Some(Str::from("raw"));
        let bytes = call::encode(request, version, self.correlation_id, client);
        let bytes = bytes.expect("a request that can be sent");
        self.stream.write_all(&bytes).ok()?;
        match self.outcome(self.patience) {
            Outcome::Answered(frame) => call::decode::<R>(frame, version).ok(),
            Outcome::Closed | Outcome::Nothing => None,
        }
    }

    pub fn send<R: Request>(&mut self, request: &R, version: i16) {
        self.correlation_id += 1;
        let client = Some(Str::from("raw"));
        let bytes = call::encode(request, version, self.correlation_id, client);
        let bytes = bytes.expect("a request that can be sent");
        self.stream.write_all(&bytes).expect("it can be sent");
    }

    pub fn receive<R: Request>(&mut self, version: i16) -> R::Response {
        let Outcome::Answered(frame) = self.outcome(ANSWER_WITHIN) else {
            panic!("{} v{version} was not answered", R::NAME);
        };
        assert_eq!(call::correlation_id(&frame), Some(self.correlation_id));
        call::decode::<R>(frame, version).expect("an answer in this version")
    }

    pub fn call<R: Request>(&mut self, request: &R, version: i16) -> R::Response {
        self.send(request, version);
        self.receive::<R>(version)
    }

    /// The next answer is that of the request `count` before the one that was to be next.
    pub fn take_back(&mut self, count: i32) {
        self.correlation_id -= count;
    }

    /// Sends bytes as they are. The node may close before it has read them all.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Ends the sending side; answers can still come.
    pub fn finish(&mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }

    pub fn outcome(&mut self, within: Duration) -> Outcome {
        self.stream
            .set_read_timeout(Some(within))
            .expect("an option");
        let mut prefix = [0; 4];
        if let Err(error) = self.stream.read_exact(&mut prefix) {
            return ended(&error);
        }
        let length = usize::try_from(i32::from_be_bytes(prefix)).expect("a length");
        assert!(length < 64 << 20, "an answer of {length} bytes");
        let mut frame = vec![0; length];
        match self.stream.read_exact(&mut frame) {
            Ok(()) => Outcome::Answered(frame.into()),
            Err(error) => ended(&error),
        }
    }

    /// Makes a topic with one replica for each of its partitions.
    pub fn create_topic(&mut self, name: &str, partitions: i32, configs: &[(&str, &str)]) {
        let configs = configs.iter().map(|(name, value)| CreatableTopicConfig {
            name: Str::copy(name),
            value: Some(Str::copy(value)),
        });
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: Str::copy(name),
                num_partitions: partitions,
                replication_factor: 1,
                configs: configs.collect(),
                ..CreatableTopic::default()
            }],
            timeout_ms: 10_000,
            ..CreateTopicsRequest::default()
        };
        let answer = self.call(&request, 7);
        let topic = &answer.topics[0];
        assert_eq!(topic.error_code, 0, "{name}: {:?}", topic.error_message);
        self.wait_for_leaders(name, partitions);
    }

    pub fn wait_for_leaders(&mut self, name: &str, partitions: i32) {
        for _ in 0..200 {
            let (mut response, all) = (self.list_offset(name, 0, -1), partitions - 1);
            if response.0 == 0 && all > 0 {
                response = self.list_offset(name, all, -1);
            }
            if response.0 == 0 {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("{name} has no leaders");
    }

    /// Error code, timestamp and offset of a ListOffsets v11 for one partition.
    pub fn list_offset(&mut self, topic: &str, partition: i32, timestamp: i64) -> (i16, i64, i64) {
        let request = ListOffsetsRequest {
            replica_id: -1,
            topics: vec![ListOffsetsTopic {
                name: Str::copy(topic),
                partitions: vec![ListOffsetsPartition {
                    partition_index: partition,
                    timestamp,
                    ..ListOffsetsPartition::default()
                }],
            }],
            timeout_ms: 5_000,
            ..ListOffsetsRequest::default()
        };
        let answer = self.call(&request, 11);
        let found = &answer.topics[0].partitions[0];
        (found.error_code, found.timestamp, found.offset)
    }

    /// Sets a config of a resource (2: topic, 4: broker, …), or takes it away; the error code and what goes with it.
    pub fn alter_config(
        &mut self,
        kind: i8,
        name: &str,
        key: &str,
        value: Option<&str>,
    ) -> (i16, Option<String>) {
        let request = IncrementalAlterConfigsRequest {
            resources: vec![AlterConfigsResource {
                resource_type: kind,
                resource_name: Str::copy(name),
                configs: vec![AlterableConfig {
                    name: Str::copy(key),
                    config_operation: i8::from(value.is_none()),
                    value: value.map(Str::copy),
                }],
            }],
            validate_only: false,
        };
        let answer = self.call(&request, 1);
        let one = &answer.responses[0];
        (
            one.error_code,
            one.error_message.as_ref().map(|text| text.to_string()),
        )
    }

    /// The log end offset of partition 0. After a start, a partition may be without its leader for a moment, which
    /// clients wait out.
    pub fn log_end(&mut self, topic: &str) -> i64 {
        self.wait_for_leaders(topic, 1);
        let (code, _, offset) = self.list_offset(topic, 0, -1);
        assert_eq!(code, 0, "the end of {topic}");
        offset
    }

    pub fn topic_id(&mut self, topic: &str) -> milena_base::Uuid {
        let request = MetadataRequest {
            topics: Some(vec![
                milena_protocol::metadata_request::MetadataRequestTopic {
                    name: Some(Str::copy(topic)),
                    ..Default::default()
                },
            ]),
            ..MetadataRequest::default()
        };
        let answer = self.call(&request, 12);
        assert_eq!(answer.topics[0].error_code, 0);
        answer.topics[0].topic_id
    }

    /// Produce v9 of raw records to partition 0.
    pub fn produce(&mut self, topic: &str, records: Bytes, acks: i16) -> PartitionProduceResponse {
        let answer = self.call(&produce(topic, records, acks), 9);
        answer.responses[0].partition_responses[0].clone()
    }

    /// Whether the node answers on this connection.
    pub fn is_served(&mut self) -> bool {
        let answer = self.call(&api_versions(), 3);
        answer.error_code == 0 && !answer.api_keys.is_empty()
    }
}

fn ended(error: &io::Error) -> Outcome {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Outcome::Nothing,
        _ => Outcome::Closed,
    }
}

pub fn api_versions() -> ApiVersionsRequest {
    ApiVersionsRequest {
        client_software_name: "raw".into(),
        client_software_version: "1".into(),
        ..ApiVersionsRequest::default()
    }
}

pub fn produce(topic: &str, records: Bytes, acks: i16) -> ProduceRequest {
    ProduceRequest {
        acks,
        timeout_ms: 10_000,
        topic_data: vec![TopicProduceData {
            name: Str::copy(topic),
            partition_data: vec![PartitionProduceData {
                index: 0,
                records: Some(Records::Bytes(records)),
            }],
            ..TopicProduceData::default()
        }],
        ..ProduceRequest::default()
    }
}

/// A batch of records with these values, timestamps counting up from `timestamp`.
pub fn batch(values: &[&[u8]], timestamp: i64, codec: Codec) -> Bytes {
    let mut builder = BatchBuilder::new(codec);
    for (index, value) in values.iter().enumerate() {
        let record = NewRecord {
            timestamp: Timestamp(timestamp + index as i64),
            key: Some(b"key"),
            value: Some(value),
            headers: &[],
        };
        builder.append(record).expect("it fits");
    }
    builder.build().to_bytes()
}
