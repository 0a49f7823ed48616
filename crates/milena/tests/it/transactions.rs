//! Transactions over a raw socket: what readers see before and after their end, who is fenced, what a crash between
//! decision and markers leaves, and what the keys change.

use std::fs::{self, OpenOptions};
use std::path::Path;

use bytes::Bytes;
use milena_base::ErrorCode;
use milena_protocol::describe_producers_request::TopicRequest;
use milena_protocol::{
    DescribeProducersRequest, EndTxnRequest, FetchRequest, ListTransactionsRequest, Str,
};
use milena_records::batches;

use crate::node::Home;
use crate::tools::tool;
use crate::transactional::*;
use crate::wire::Wire;

/// A node that is taken back soon after it was killed.
fn soon_back() -> Home {
    let home = Home::new().with("broker.session.timeout.ms", "1000");
    home.with("broker.heartbeat.interval.ms", "200")
}

#[test]
fn readers_of_committed_records_see_transactions_whole_or_not_at_all() {
    for versions in [OLD, NEW] {
        let home = soon_back();
        let node = home.start();
        let mut wire = Wire::connect(&node.address);
        wire.create_topic("in", 1, &[]);
        wire.create_topic("out", 1, &[]);
        let mut producer = Producer::start(&node, "copier", versions, 60_000);
        producer.sent("out", "a");
        producer.sent("in", "a");
        assert_eq!(committed(&mut wire, "out"), [""; 0]);
        assert_eq!(read(&mut wire, "out", 0), ["a"]);
        assert_eq!((last_stable(&mut wire, "out"), wire.log_end("out")), (0, 1));
        // A reader that waits is woken by the end.
        let mut waiting = fetch_request(&mut wire, "out", 0, READ_COMMITTED);
        waiting.max_wait_ms = 120_000;
        let mut reader = Wire::connect(&node.address);
        reader.send(&waiting, 17);
        assert_eq!(producer.commit_offset("in", 1), 0);
        assert_eq!(offset_of(&mut wire, "in", false), (0, -1));
        let unstable = ErrorCode::UnstableOffsetCommit.code();
        assert_eq!(offset_of(&mut wire, "in", true).0, unstable);
        assert_eq!(producer.end(true), 0);
        let found = reader.receive::<FetchRequest>(17);
        assert_eq!(values(&found.responses[0].partitions[0]), ["a"]);
        ends(&mut wire, "copier", "CompleteCommit");
        assert_eq!(offset_of(&mut wire, "in", true), (0, 1));
        assert_eq!(last_stable(&mut wire, "out"), 2);
        // The next is aborted.
        producer.sent("out", "b");
        assert_eq!(producer.commit_offset("in", 2), 0);
        assert_eq!(producer.end(false), 0);
        ends(&mut wire, "copier", "CompleteAbort");
        producer.sent("out", "c");
        assert_eq!(producer.end(true), 0);
        ends(&mut wire, "copier", "CompleteCommit");
        assert_eq!(committed(&mut wire, "out"), ["a", "c"]);
        assert_eq!(read(&mut wire, "out", 0), ["a", "b", "c"]);
        assert_eq!(offset_of(&mut wire, "in", true), (0, 1));
        node.kill();
        let node = home.start();
        let mut wire = Wire::connect(&node.address);
        wire.log_end("out");
        assert_eq!(committed(&mut wire, "out"), ["a", "c"]);
    }
    println!("transactions: 2 protocols, 6 transactions, 2 kills");
}

#[test]
fn a_fenced_producer_can_do_nothing() {
    let home = Home::new();
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    wire.create_topic("t", 1, &[]);
    for (name, versions) in [("old", OLD), ("new", NEW)] {
        let mut first = Producer::start(&node, name, versions, 60_000);
        first.sent("t", "lost");
        let mut second = Producer::start(&node, name, versions, 60_000);
        assert!(second.epoch > first.epoch);
        // What the first left open is over.
        ends(&mut wire, name, "Empty");
        let epoch = ErrorCode::InvalidProducerEpoch.code();
        let fenced = ErrorCode::ProducerFenced.code();
        assert_eq!(first.send("t", "zombie").error_code, epoch);
        assert_eq!(first.end(true), fenced);
        assert_eq!(first.add("t"), fenced);
        second.sent("t", name);
        assert_eq!(second.end(true), 0);
        ends(&mut wire, name, "CompleteCommit");
    }
    assert_eq!(committed(&mut wire, "t"), ["old", "new"]);
    // An end of the transaction before changes nothing in the next.
    let mut producer = Producer::start(&node, "late", NEW, 60_000);
    producer.sent("t", "one");
    let late = EndTxnRequest {
        transactional_id: "late".into(),
        producer_id: producer.id,
        producer_epoch: producer.epoch,
        committed: false,
    };
    assert_eq!(producer.end(true), 0);
    producer.sent("t", "two");
    let answer = wire.call(&late, 5);
    assert_eq!(answer.error_code, ErrorCode::ProducerFenced.code());
    assert_eq!(state(&mut wire, "late"), "Ongoing");
    assert_eq!(producer.end(true), 0);
    ends(&mut wire, "late", "CompleteCommit");
    assert_eq!(committed(&mut wire, "t"), ["old", "new", "one", "two"]);
    println!("transactions: 2 fenced, 1 late end");
}

#[test]
fn a_batch_outside_of_its_transaction_is_refused() {
    let home = Home::new();
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    wire.create_topic("t", 1, &[]);
    let mut old = Producer::start(&node, "old", OLD, 60_000);
    let refused = old.send("t", "not added");
    assert_eq!(refused.error_code, ErrorCode::InvalidTxnState.code());
    assert_eq!(refused.base_offset, -1);
    old.versions.0 = 11;
    let refused = old.send("t", "not added");
    assert_eq!(refused.error_code, ErrorCode::TransactionAbortable.code());
    assert_eq!(wire.log_end("t"), 0);
    let unknown = EndTxnRequest {
        transactional_id: "nobody".into(),
        producer_id: old.id,
        ..Default::default()
    };
    let mapping = ErrorCode::InvalidProducerIdMapping.code();
    assert_eq!(wire.call(&unknown, 5).error_code, mapping);
    node.stop();
    // Without verification the batch is taken, and the partition waits for an end that nobody will decide.
    let home = home.with("transaction.partition.verification.enable", "false");
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    wire.log_end("t");
    let mut old = Producer::start(&node, "old", OLD, 60_000);
    assert_eq!(old.send("t", "hanging").error_code, 0);
    assert_eq!((last_stable(&mut wire, "t"), wire.log_end("t")), (0, 1));
    let hanging = DescribeProducersRequest {
        topics: vec![TopicRequest {
            name: "t".into(),
            partition_indexes: vec![0],
        }],
    };
    let answer = wire.call(&hanging, 0);
    let producers = &answer.topics[0].partitions[0].active_producers;
    assert_eq!(producers[0].producer_id, old.id);
    assert_eq!(producers[0].current_txn_start_offset, 0);
    println!("transactions: 3 refused, 1 hanging");
}

#[test]
fn a_decided_transaction_is_completed_after_a_crash() {
    let home = soon_back().with("transaction.state.log.num.partitions", "1");
    let home = home.with("transaction.state.log.load.buffer.size", "200");
    let mut seen = 0;
    for (committed_before, name) in [(true, "kept"), (false, "dropped")] {
        let node = home.start();
        let mut wire = Wire::connect(&node.address);
        if committed_before {
            wire.create_topic("t", 1, &[]);
        }
        wire.log_end("t");
        let mut producer = Producer::start(&node, name, NEW, 60_000);
        producer.sent("t", name);
        assert_eq!(producer.end(committed_before), 0);
        let state = if committed_before {
            "CompleteCommit"
        } else {
            "CompleteAbort"
        };
        ends(&mut wire, name, state);
        let (epoch, sequence) = (producer.epoch, 0);
        drop((wire, producer));
        node.kill();
        // As if the crash had come before the markers: neither they nor the word of their end are in the logs.
        cut_last_batch(&home.partition_file("t", ".log"));
        cut_last_batch(&home.partition_file("__transaction_state", ".log"));
        let node = home.start();
        let mut wire = Wire::connect(&node.address);
        wire.log_end("t");
        ends(&mut wire, name, state);
        seen += 1;
        let all = committed(&mut wire, "t");
        assert_eq!(all, ["kept"], "{epoch} {sequence}");
        assert_eq!(last_stable(&mut wire, "t"), 2 * seen);
        node.stop();
    }
    println!("transactions: {seen} crashes between decision and markers");
}

/// Takes the last batch from a segment.
fn cut_last_batch(path: &Path) {
    let bytes = Bytes::from(fs::read(path).expect("a segment"));
    let last = batches(bytes.clone())
        .map_while(Result::ok)
        .last()
        .expect("a batch");
    let length = bytes.len() as u64 - last.bytes().len() as u64;
    let file = OpenOptions::new()
        .write(true)
        .open(path)
        .expect("the segment");
    file.set_len(length).expect("it is cut");
}

#[test]
fn an_open_transaction_ends_after_its_timeout() {
    let home = Home::new()
        .with("transaction.max.timeout.ms", "30000")
        .with(
            "transaction.abort.timed.out.transaction.cleanup.interval.ms",
            "50",
        )
        .with("transaction.state.log.num.partitions", "1")
        .with("transaction.state.log.segment.bytes", "1048576");
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    wire.create_topic("t", 1, &[]);
    let mut producer = Producer::start(&node, "slow", NEW, 300);
    let too_long = wire.call(&init_request("slow", 30_001), 5);
    assert_eq!(
        too_long.error_code,
        ErrorCode::InvalidTransactionTimeout.code()
    );
    producer.sent("t", "late");
    ends(&mut wire, "slow", "CompleteAbort");
    assert_eq!(last_stable(&mut wire, "t"), 2);
    assert_eq!(committed(&mut wire, "t"), [""; 0]);
    let fenced = producer.send("t", "zombie");
    assert_eq!(fenced.error_code, ErrorCode::InvalidProducerEpoch.code());
    assert_ne!(producer.end(true), 0);
    println!("transactions: 1 timeout");
}

#[test]
fn an_unused_transactional_id_is_forgotten() {
    let home = Home::new()
        .with("transactional.id.expiration.ms", "300")
        .with(
            "transaction.remove.expired.transaction.cleanup.interval.ms",
            "50",
        );
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    let producer = Producer::start(&node, "once", NEW, 60_000);
    ends(&mut wire, "once", "Some(TransactionalIdNotFound)");
    let all = ListTransactionsRequest {
        duration_filter: -1,
        ..Default::default()
    };
    assert_eq!(wire.call(&all, 1).transaction_states, []);
    let again = Producer::start(&node, "once", NEW, 60_000);
    assert!((again.id, again.epoch) != (producer.id, producer.epoch));
    println!("transactions: 1 id forgotten");
}

#[test]
fn a_hanging_transaction_is_found_and_aborted_by_the_tool() {
    let home = Home::new().with("transaction.partition.verification.enable", "false");
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    wire.create_topic("t", 1, &[]);
    let mut hangs = Producer::start(&node, "hangs", OLD, 60_000);
    assert_eq!(hangs.send("t", "nobody ends this").error_code, 0);
    let mut open = Producer::start(&node, "open", NEW, 60_000);
    open.sent("t", "somebody ends this");
    let run = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let (status, out, err) = tool(&node, "kafka-transactions", &words);
        let cells = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let rows: Vec<String> = out.lines().skip(1).map(cells).collect();
        (status, rows, err)
    };
    let (status, rows, _) = run("list");
    let listed = [
        format!("hangs 1 {} Empty", hangs.id),
        format!("open 1 {} Ongoing", open.id),
    ];
    assert_eq!(status, 0);
    assert!(
        rows.len() == 2 && listed.iter().all(|row| rows.contains(row)),
        "{rows:?}"
    );
    let (_, rows, _) = run("list --transactional-id-pattern o.*");
    assert_eq!(rows, [listed[1].clone()]);
    // What has never begun counts as long ago, as in Kafka.
    assert_eq!(run("list --duration-filter 3600000").1, [listed[0].clone()]);
    let (_, rows, _) = run("describe --transactional-id open");
    let begins = format!("1 open {} {} Ongoing 60000 ", open.id, open.epoch);
    assert!(
        rows[0].starts_with(&begins) && rows[0].ends_with(" t-0"),
        "{rows:?}"
    );
    let (status, _, err) = run("describe --transactional-id nobody");
    assert!(
        status == 1 && err.contains("failed because the ID could not be found"),
        "{err}"
    );
    // Only what no coordinator is going to end hangs.
    let search = "find-hanging --topic t --max-transaction-timeout 0";
    let rows = eventually("a hanging transaction", || {
        let (_, rows, _) = run(search);
        (!rows.is_empty()).then_some(rows)
    });
    let row = format!("t 0 {} 0 -1 0 ", hangs.id);
    assert!(rows.len() == 1 && rows[0].starts_with(&row), "{rows:?}");
    let (_, rows, _) = run("describe-producers --topic t --partition 0");
    assert_eq!(rows.len(), 2);
    let (status, _, err) = run("abort --topic t --partition 0 --start-offset 7");
    assert!(
        status == 1 && err.contains("Could not find any open transactions"),
        "{err}"
    );
    let (status, _, err) = run("abort --topic t --partition 0 --start-offset 0");
    assert_eq!((status, err.as_str()), (0, ""));
    assert_eq!(run(search).1, [""; 0]);
    assert_eq!(last_stable(&mut wire, "t"), 1);
    let (status, _, err) = run("forceTerminateTransaction --transactionalId open");
    assert_eq!(status, 0, "{err}");
    eventually("an end", || {
        (last_stable(&mut wire, "t") == 4).then_some(())
    });
    assert_ne!(open.end(true), 0);
    assert_eq!(committed(&mut wire, "t"), [""; 0]);
    println!("transactions: 1 hanging found and aborted, 1 terminated, by the tool");
}

/// Ids of the producers that partition 0 knows.
fn known(wire: &mut Wire, topic: &str) -> Vec<i64> {
    let request = DescribeProducersRequest {
        topics: vec![TopicRequest {
            name: Str::copy(topic),
            partition_indexes: vec![0],
        }],
    };
    let answer = wire.call(&request, 0);
    let producers = &answer.topics[0].partitions[0].active_producers;
    producers
        .iter()
        .map(|producer| producer.producer_id)
        .collect()
}

#[test]
fn a_silent_producer_is_forgotten_but_not_with_an_open_transaction() {
    let home = Home::new()
        .with("producer.id.expiration.ms", "300")
        .with("producer.id.expiration.check.interval.ms", "50");
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    wire.create_topic("t", 1, &[]);
    let mut silent = Producer::start(&node, "silent", NEW, 60_000);
    silent.sent("t", "ended");
    assert_eq!(silent.end(true), 0);
    let mut open = Producer::start(&node, "open", NEW, 60_000);
    open.sent("t", "open");
    eventually("one is forgotten", || {
        (known(&mut wire, "t") == [open.id]).then_some(())
    });
    // The one goes on as if it were new, and the other ends what it has open.
    silent.sent("t", "again");
    assert_eq!((silent.end(true), open.end(true)), (0, 0));
    ends(&mut wire, "silent", "CompleteCommit");
    ends(&mut wire, "open", "CompleteCommit");
    eventually("all are forgotten", || {
        known(&mut wire, "t").is_empty().then_some(())
    });
    assert_eq!(committed(&mut wire, "t"), ["ended", "open", "again"]);
    println!("transactions: 2 silent producers forgotten");
}
