//! Starts that must fail: each says what is wrong, naming the key or the file, and changes nothing.

use std::fs;
use std::net::TcpListener;

use milena_base::Uuid;

use crate::node::Home;
use crate::wire::Wire;

fn assert_says(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let listeners = format!("PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:0");
    let home = Home::new().with("listeners", &listeners);
    assert_says(
        &home.refusal(),
        &["PLAINTEXT", &format!("127.0.0.1:{port}")],
    );
    drop(taken);
    // Nothing was left behind that would hinder the next start.
    let listeners = "PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:0";
    home.with("listeners", listeners).start().stop();
    println!("refusals: 1 port");
}

#[test]
fn directories_of_somebody_else_are_named() {
    let unformatted = Home::unformatted();
    let data = unformatted.data().display().to_string();
    assert_says(&unformatted.refusal(), &[&data, "format"]);
    assert_eq!(
        fs::read_dir(unformatted.data()).unwrap().count(),
        1,
        "the lock alone"
    );

    let other_node = Home::new().with("node.id", "2");
    assert_says(
        &other_node.refusal(),
        &["meta.properties", "node 1", "node.id is 2"],
    );

    let mut split = Home::new();
    let second = split.path().join("second");
    fs::create_dir(&second).unwrap();
    let first = split.data().display().to_string();
    split
        .properties
        .set("log.dirs", second.display().to_string());
    split.format(&Uuid([8; 16]).to_string());
    split
        .properties
        .set("log.dirs", format!("{first},{}", second.display()));
    let ids = [Uuid([7; 16]).to_string(), Uuid([8; 16]).to_string()];
    let said = split.refusal();
    assert_says(&said, &["meta.properties", &ids[0], &ids[1]]);

    let broken = Home::new();
    fs::write(
        broken.data().join("meta.properties"),
        b"version=1\nnode.id=one\n",
    )
    .unwrap();
    assert_says(&broken.refusal(), &["meta.properties"]);

    let file = Home::new();
    let no_dir = file.path().join("file");
    fs::write(&no_dir, b"").unwrap();
    let file = file.with("log.dirs", &no_dir.display().to_string());
    assert_says(&file.refusal(), &[&no_dir.display().to_string()]);
    println!("refusals: 5 directories");
}

#[test]
fn a_second_process_on_the_same_directory_is_refused() {
    let home = Home::new();
    let node = home.start();
    assert_says(
        &home.refusal(),
        &[&home.data().display().to_string(), ".lock"],
    );
    assert!(
        Wire::connect(&node.address).is_served(),
        "the first goes on"
    );
    node.kill();
    // A lock dies with its process.
    home.start().stop();
    println!("refusals: 1 lock");
}

#[test]
fn bad_values_and_keys_that_are_not_built_are_named() {
    let cases = [
        ("num.partitions", "none"),
        ("num.partitions", "0"),
        ("log.segment.bytes", "3"),
        ("compression.type", "brotli"),
        ("log.cleanup.policy", "keep"),
        ("unclean.leader.election.enable", "maybe"),
        ("process.roles", "brokers"),
        ("node.id", "-5"),
        ("listeners", "PLAINTEXT//127.0.0.1"),
        // Known, not built yet, and set to other than its default.
        (
            "authorizer.class.name",
            "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        ),
        ("remote.log.storage.system.enable", "true"),
    ];
    for (key, value) in cases {
        let said = Home::new().with(key, value).refusal();
        assert_says(&said, &[key]);
    }
    // What nobody knows is only warned of.
    let home = Home::new().with("no.such.key", "1");
    home.start().stop();
    assert_says(&home.log(), &["no.such.key"]);
    println!("refusals: {} values", cases.len());
}
