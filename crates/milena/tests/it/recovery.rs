//! What a crash leaves behind: a torn segment is cut back to its last whole batch, lost indexes are made again.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use milena_protocol::MetadataRequest;
use milena_records::Codec;

use crate::node::{Home, PATIENCE};
use crate::wire::{Wire, batch};

const NOW: i64 = 1_700_000_000_000;

/// Twenty batches of two records, a second apart.
fn fill(wire: &mut Wire) {
    wire.create_topic("kept", 1, &[]);
    for index in 0..20 {
        let values: [&[u8]; 2] = [&[b'v'; 5000], b"two"];
        let records = batch(&values, NOW + index * 1000, Codec::NONE);
        let answer = wire.produce("kept", records, -1);
        assert_eq!((answer.error_code, answer.base_offset), (0, 2 * index));
    }
}

fn assert_whole(wire: &mut Wire) {
    assert_eq!(wire.log_end("kept"), 40);
    for index in [0, 7, 19] {
        let found = wire.list_offset("kept", 0, NOW + index * 1000);
        assert_eq!(found, (0, NOW + index * 1000, 2 * index));
    }
    let next = batch(&[b"next"], NOW, Codec::NONE);
    let answer = wire.produce("kept", next, -1);
    assert_eq!((answer.error_code, answer.base_offset), (0, 40));
}

#[test]
fn a_torn_segment_is_cut_back_to_what_was_acknowledged() {
    let torn = batch(&[&[b't'; 3000]], NOW, Codec::NONE);
    let mut flipped = torn.to_vec();
    flipped[100] ^= 1;
    // A batch's first bytes, a batch without its last byte, one with a flipped bit, a page of zeros.
    let tails = [
        torn[..30].to_vec(),
        torn[..torn.len() - 1].to_vec(),
        flipped,
        vec![0; 4096],
    ];
    for tail in &tails {
        let home = Home::new();
        let node = home.start();
        fill(&mut Wire::connect(&node.address));
        node.kill();
        let segment = home.partition_file("kept", ".log");
        let before = fs::metadata(&segment).unwrap().len();
        let mut file = OpenOptions::new().append(true).open(&segment).unwrap();
        file.write_all(tail).unwrap();
        let node = home.start();
        assert_eq!(fs::metadata(&segment).unwrap().len(), before);
        assert_whole(&mut Wire::connect(&node.address));
        node.stop();
    }
    println!("recovery: {} torn tails", tails.len());
}

#[test]
fn lost_indexes_are_made_again() {
    let mut cases = 0;
    for clean in [true, false] {
        for ending in [".index", ".timeindex"] {
            let home = Home::new();
            let node = home.start();
            fill(&mut Wire::connect(&node.address));
            match clean {
                true => node.stop(),
                false => node.kill(),
            }
            let index = home.partition_file("kept", ending);
            fs::remove_file(&index).unwrap();
            let node = home.start();
            assert_whole(&mut Wire::connect(&node.address));
            node.stop();
            assert!(
                fs::metadata(&index).unwrap().len() > 0,
                "{ending} is there again"
            );
            cases += 1;
        }
    }
    println!("recovery: {cases} lost indexes");
}

#[test]
fn topics_and_configs_outlive_a_kill() {
    let home = Home::new();
    for round in 0..3 {
        let node = home.start();
        let mut wire = Wire::connect(&node.address);
        for earlier in 0..round {
            assert_eq!(wire.log_end(&format!("round-{earlier}")), 1);
        }
        let topic = format!("round-{round}");
        wire.create_topic(&topic, 1, &[]);
        let answer = wire.produce(&topic, batch(&[b"x"], NOW, Codec::NONE), -1);
        assert_eq!(answer.error_code, 0);
        node.kill();
    }
    println!("recovery: 3 kills");
}

#[test]
fn early_clients_wait_until_the_broker_is_one() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let listeners = format!("PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:0");
    let home = Home::new()
        .with("listeners", &listeners)
        .with("broker.session.timeout.ms", "1000")
        .with("broker.heartbeat.interval.ms", "200");
    home.start().kill();
    // The controller fences the one that was killed before it takes the new one.
    let starting = home.spawn();
    let address = format!("127.0.0.1:{port}");
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(&address).is_err() {
        assert!(Instant::now() < deadline, "nobody listens");
        thread::sleep(Duration::from_millis(5));
    }
    let mut wire = Wire::connect(&address);
    let request = MetadataRequest::default();
    let mut answers = 0;
    let node = thread::scope(|scope| {
        let ready = scope.spawn(|| starting.wait_ready());
        while !ready.is_finished() || answers == 0 {
            let answer = wire.call(&request, 12);
            assert_eq!(answer.brokers.len(), 1, "answer {answers}");
            answers += 1;
        }
        ready.join().unwrap()
    });
    println!("{answers} answers name the broker");
    node.stop();
}
