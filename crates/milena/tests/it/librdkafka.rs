//! librdkafka, by the rdkafka crate, as its users use it: idempotent and transactional producers, codecs, headers, and
//! consumers of a group.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};

use crate::node::{Home, Node};
use crate::wire::Wire;

const WITHIN: Duration = Duration::from_secs(30);

fn client(node: &Node) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &node.address);
    config
}

/// Its deliveries are told on a thread of its own.
type Sender = ThreadedProducer<DefaultProducerContext>;

fn producer(config: &ClientConfig) -> Sender {
    config.create().expect("a producer")
}

fn send(producer: &Sender, topic: &str, number: usize) {
    let (key, value) = (format!("key {number}"), format!("value {number}"));
    let headers = OwnedHeaders::new().insert(Header {
        key: "number",
        value: Some(&number.to_string()),
    });
    let record = BaseRecord::to(topic)
        .key(&key)
        .payload(&value)
        .headers(headers);
    producer
        .send(record)
        .map_err(|(error, _)| error)
        .expect("it is taken");
}

fn consumer(node: &Node, group: &str, topics: &[&str]) -> BaseConsumer {
    let mut config = client(node);
    config
        .set("group.id", group)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed");
    let consumer: BaseConsumer = config.create().expect("a consumer");
    consumer.subscribe(topics).expect("it subscribes");
    consumer
}

/// The numbers of the next `count` records, each with its topic; key, value and header are looked at.
fn read(consumer: &BaseConsumer, count: usize) -> Vec<(String, usize)> {
    let deadline = Instant::now() + WITHIN;
    let mut found = Vec::new();
    while found.len() < count {
        assert!(Instant::now() < deadline, "{} of {count} came", found.len());
        let Some(message) = consumer.poll(Duration::from_millis(100)) else {
            continue;
        };
        let message = message.expect("no error");
        let text =
            |bytes: Option<&[u8]>| String::from_utf8(bytes.expect("there").to_vec()).expect("text");
        let header = message.headers().expect("headers").get(0);
        let number = text(header.value);
        assert_eq!(
            (header.key, text(message.key())),
            ("number", format!("key {number}"))
        );
        assert_eq!(text(message.payload()), format!("value {number}"));
        found.push((
            message.topic().to_owned(),
            number.parse().expect("a number"),
        ));
    }
    found
}

#[test]
fn every_codec_goes_through_an_idempotent_producer_and_a_group() {
    const EACH: usize = 500;
    let home = Home::new();
    let node = home.start();
    let codecs = ["none", "gzip", "snappy", "lz4"];
    for codec in codecs {
        Wire::connect(&node.address).create_topic(codec, 1, &[]);
        let mut config = client(&node);
        config
            .set("enable.idempotence", "true")
            .set("compression.codec", codec)
            .set("linger.ms", "5");
        let producer = producer(&config);
        for number in 0..EACH {
            send(&producer, codec, number);
        }
        producer.flush(WITHIN).expect("all are acknowledged");
    }
    // The first member reads a part and commits it; the next goes on from there.
    let first = consumer(&node, "readers", &codecs);
    let mut found = read(&first, EACH);
    first
        .commit_consumer_state(CommitMode::Sync)
        .expect("committed");
    drop(first);
    let second = consumer(&node, "readers", &codecs);
    found.extend(read(&second, (codecs.len() - 1) * EACH));
    let mut by_topic: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (topic, number) in found {
        by_topic.entry(topic).or_default().push(number);
    }
    for codec in codecs {
        assert!(
            by_topic[codec].iter().copied().eq(0..EACH),
            "{codec}: {:?}",
            by_topic[codec]
        );
    }
    println!(
        "librdkafka: {} records in {} codecs, in order, once",
        codecs.len() * EACH,
        codecs.len()
    );
}

#[test]
fn transactions_are_seen_whole_or_not_at_all_and_a_zombie_is_fenced() {
    let home = Home::new()
        .with("transaction.state.log.replication.factor", "1")
        .with("transaction.state.log.min.isr", "1");
    let node = home.start();
    Wire::connect(&node.address).create_topic("ledger", 1, &[]);
    let mut config = client(&node);
    config.set("transactional.id", "writer");
    let writer = producer(&config);
    writer.init_transactions(WITHIN).expect("it has an epoch");
    for turn in 0..6 {
        writer.begin_transaction().expect("it begins");
        for number in 0..10 {
            send(&writer, "ledger", turn * 10 + number);
        }
        match turn % 2 {
            0 => writer.commit_transaction(WITHIN).expect("committed"),
            _ => writer.abort_transaction(WITHIN).expect("aborted"),
        }
    }
    writer.begin_transaction().expect("it begins");
    send(&writer, "ledger", 60);
    let newer = producer(&config);
    newer
        .init_transactions(WITHIN)
        .expect("it has a newer epoch");
    writer.commit_transaction(WITHIN).expect_err("it is fenced");
    newer.begin_transaction().expect("it begins");
    send(&newer, "ledger", 70);
    newer.commit_transaction(WITHIN).expect("committed");
    let reader = consumer(&node, "auditors", &["ledger"]);
    let found = read(&reader, 31).into_iter().map(|(_, number)| number);
    let committed = (0..60).filter(|number| number / 10 % 2 == 0).chain([70]);
    assert!(found.eq(committed));
    println!("librdkafka: 4 transactions committed, 3 aborted, 1 producer fenced");
}
