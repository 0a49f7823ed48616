//! librdkafka against the node: every codec, the idempotent producer, topics made and deleted.

use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};

use crate::node::Home;
use crate::wire::Wire;

/// How long a client may take for one step.
pub const STEP: Duration = Duration::from_secs(30);

pub fn config(address: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", address)
        .set("broker.address.family", "v4")
        .set("socket.timeout.ms", "15000")
        .set("message.timeout.ms", "25000");
    config
}

/// Sends records with these values, one key for each, and waits until all are acknowledged.
pub fn produce(address: &str, topic: &str, values: &[String], settings: &[(&str, &str)]) {
    let mut config = config(address);
    for (key, value) in settings {
        config.set(*key, *value);
    }
    let producer: ThreadedProducer<Confirmed> = config
        .create_with_context(Confirmed::default())
        .expect("a producer");
    for (index, value) in values.iter().enumerate() {
        let key = format!("key-{index}");
        let headers = OwnedHeaders::new().insert(Header {
            key: "index",
            value: Some(&key),
        });
        let record = BaseRecord::to(topic)
            .key(&key)
            .payload(value)
            .headers(headers);
        assert!(producer.send(record).is_ok(), "{value} is queued");
    }
    producer.flush(STEP).expect("all is acknowledged in time");
    let failed = producer.context().failed.lock().expect("no panic").clone();
    assert_eq!(failed, Vec::<String>::new());
}

/// Notes what was not delivered.
#[derive(Default)]
struct Confirmed {
    failed: std::sync::Mutex<Vec<String>>,
}

impl rdkafka::ClientContext for Confirmed {}

impl rdkafka::producer::ProducerContext for Confirmed {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &rdkafka::producer::DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            let mut failed = self.failed.lock().expect("no panic");
            failed.push(error.to_string());
        }
    }
}

/// Reads this many records of a topic from its beginning: partition, offset, value.
pub fn consume(
    address: &str,
    topic: &str,
    partitions: i32,
    count: usize,
) -> Vec<(i32, i64, String)> {
    let consumer: BaseConsumer = config(address)
        .set("group.id", "readers")
        .set("enable.auto.commit", "false")
        .set("check.crcs", "true")
        .create()
        .expect("a consumer");
    let mut wanted = TopicPartitionList::new();
    for partition in 0..partitions {
        wanted
            .add_partition_offset(topic, partition, Offset::Beginning)
            .expect("a partition");
    }
    consumer.assign(&wanted).expect("it is assigned");
    let mut found = Vec::new();
    let deadline = Instant::now() + STEP;
    while found.len() < count {
        assert!(Instant::now() < deadline, "{} of {count}", found.len());
        let Some(message) = consumer.poll(Duration::from_millis(100)) else {
            continue;
        };
        let message = message.expect("a record");
        let value = message.payload_view::<str>().expect("a value").expect("text");
        let key = message.key_view::<str>().expect("a key").expect("text");
        let headers = message.headers().expect("headers");
        assert_eq!(headers.get(0).value, Some(key.as_bytes()));
        found.push((message.partition(), message.offset(), value.to_owned()));
    }
    let more = consumer.poll(Duration::from_millis(200));
    assert!(more.is_none(), "more than the {count} records produced");
    found
}

pub fn admin(address: &str) -> AdminClient<DefaultClientContext> {
    config(address).create().expect("an admin client")
}

/// Runs an admin call, whose answer comes within [`STEP`].
pub fn wait<F: Future>(answer: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    runtime
        .block_on(async { tokio::time::timeout(STEP, answer).await })
        .expect("an answer in time")
}

pub fn values(count: usize, marker: &str) -> Vec<String> {
    (0..count)
        .map(|index| format!("{marker}-{index}-{}", "x".repeat(index % 300)))
        .collect()
}

#[test]
fn every_codec_comes_back_as_it_went_in() {
    let home = Home::new();
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    let mut cases = 0;
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = format!("codec-{codec}");
        wire.create_topic(&topic, 1, &[]);
        let sent = values(400, codec);
        let settings = [("compression.type", codec), ("linger.ms", "20")];
        produce(&node.address, &topic, &sent, &settings);
        let found = consume(&node.address, &topic, 1, sent.len());
        let offsets: Vec<i64> = found.iter().map(|(_, offset, _)| *offset).collect();
        assert_eq!(offsets, (0..400).collect::<Vec<_>>(), "{codec}");
        let got: Vec<&String> = found.iter().map(|(_, _, value)| value).collect();
        assert_eq!(got, sent.iter().collect::<Vec<_>>(), "{codec}");
        cases += sent.len();
    }
    println!("codecs: {cases} records in 5 codecs");
    node.stop();
}

#[test]
fn an_idempotent_producer_writes_each_record_once_and_in_order() {
    let home = Home::new();
    let node = home.start();
    Wire::connect(&node.address).create_topic("once", 3, &[]);
    let sent = values(1500, "once");
    let settings = [
        ("enable.idempotence", "true"),
        ("linger.ms", "1"),
        ("batch.num.messages", "20"),
    ];
    produce(&node.address, "once", &sent, &settings);
    let mut found = consume(&node.address, "once", 3, sent.len());
    found.sort();
    let mut by_partition: [Vec<i64>; 3] = Default::default();
    for (partition, offset, _) in &found {
        by_partition[*partition as usize].push(*offset);
    }
    for offsets in &by_partition {
        let dense: Vec<i64> = (0..offsets.len() as i64).collect();
        assert_eq!(offsets, &dense);
    }
    // In each partition the records stand in the order in which they were sent.
    for window in found.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
        let place = |value: &str| value.split('-').nth(1).unwrap().parse::<usize>().unwrap();
        assert!(place(&window[0].2) < place(&window[1].2));
    }
    let mut got: Vec<String> = found.into_iter().map(|(_, _, value)| value).collect();
    let mut sent = sent;
    got.sort();
    sent.sort();
    assert_eq!(got, sent);
    println!("idempotent: {} records in 3 partitions", sent.len());
    node.stop();
}

#[test]
fn topics_are_made_grown_and_deleted() {
    let home = Home::new().with("auto.create.topics.enable", "false");
    let node = home.start();
    let admin = admin(&node.address);
    let options = AdminOptions::new().request_timeout(Some(STEP));
    let topics = [
        NewTopic::new("first", 2, TopicReplication::Fixed(1)),
        NewTopic::new("second", 1, TopicReplication::Fixed(1)).set("retention.ms", "1000"),
        NewTopic::new("bad name", 1, TopicReplication::Fixed(1)),
        NewTopic::new("too-many", 1, TopicReplication::Fixed(2)),
    ];
    let made = wait(admin.create_topics(&topics, &options)).expect("an answer");
    let codes: Vec<String> = made.iter().map(|topic| format!("{topic:?}")).collect();
    assert!(made[0].is_ok() && made[1].is_ok(), "{codes:?}");
    assert!(codes[2].contains("InvalidTopic"), "{codes:?}");
    assert!(codes[3].contains("InvalidReplicationFactor"), "{codes:?}");
    let again = wait(admin.create_topics(&topics[..1], &options)).expect("an answer");
    assert!(format!("{:?}", again[0]).contains("TopicAlreadyExists"));
    let more = [NewPartitions::new("first", 5)];
    let grown = wait(admin.create_partitions(&more, &options)).expect("an answer");
    assert!(grown[0].is_ok(), "{grown:?}");
    assert_eq!(partitions(&node.address, "first"), Some(5));
    let names = ["first", "missing"];
    let deleted = wait(admin.delete_topics(&names, &options)).expect("an answer");
    assert!(deleted[0].is_ok(), "{deleted:?}");
    assert!(deleted[1].is_err(), "{deleted:?}");
    assert_eq!(partitions(&node.address, "first"), None);
    assert_eq!(partitions(&node.address, "second"), Some(1));
    println!("admin: 5 creations, 1 growth, 2 deletions");
    node.stop();
}

/// Number of a topic's partitions, once the metadata says the same twice.
fn partitions(address: &str, topic: &str) -> Option<usize> {
    let client: BaseProducer = config(address).create().expect("a client");
    let metadata = client.client().fetch_metadata(None, STEP).expect("metadata");
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    found.map(|found| found.partitions().len())
}
