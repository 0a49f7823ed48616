//! Several nodes on loopback: a quorum of three, roles alone and together, the loss of the active controller.

use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use milena_base::Uuid;
use milena_broker::format::InitialControllers;
use milena_protocol::create_topics_request::CreatableTopic;
use milena_protocol::describe_quorum_request::{PartitionData, TopicData};
use milena_protocol::describe_quorum_response::PartitionData as Described;
use milena_protocol::{CreateTopicsRequest, DescribeQuorumRequest};

use crate::node::{Home, Node, PATIENCE};
use crate::wire::Wire;

const NOT_CONTROLLER: i16 = 41;

/// Ports that were free a moment ago.
pub fn free_ports(count: usize) -> Vec<u16> {
    let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let held: Vec<TcpListener> = (0..count).map(|_| bind()).collect();
    let port = |l: &TcpListener| l.local_addr().expect("it is bound").port();
    held.iter().map(port).collect()
}

/// A node of this id and these roles, not formatted yet. Controllers listen on their own of the given ports.
pub fn home(id: usize, roles: &str, controllers: &[u16]) -> Home {
    let controller = controllers.get(id - 1).copied();
    let mut listeners = Vec::new();
    if roles.contains("broker") {
        listeners.push("PLAINTEXT://127.0.0.1:0".to_owned());
    }
    if let Some(port) = controller.filter(|_| roles.contains("controller")) {
        listeners.push(format!("CONTROLLER://127.0.0.1:{port}"));
    }
    Home::unformatted()
        .with("process.roles", roles)
        .with("node.id", &id.to_string())
        .with("listeners", &listeners.join(","))
}

pub fn static_voters(ports: &[u16]) -> String {
    let voters = ports.iter().enumerate();
    let voters: Vec<String> = voters
        .map(|(at, port)| format!("{}@127.0.0.1:{port}", at + 1))
        .collect();
    voters.join(",")
}

/// Asks until the answer is one; what was asked last where none came in time.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

fn describe(address: &str) -> Described {
    let request = DescribeQuorumRequest {
        topics: vec![TopicData {
            topic_name: "__cluster_metadata".into(),
            partitions: vec![PartitionData::default()],
        }],
    };
    let mut answer = Wire::connect(address).call(&request, 2);
    assert_eq!(answer.error_code, 0);
    answer.topics.remove(0).partitions.remove(0)
}

fn create(address: &str, topic: &str) -> i16 {
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: topic.to_owned().into(),
            num_partitions: 1,
            replication_factor: 1,
            ..CreatableTopic::default()
        }],
        timeout_ms: 20_000,
        ..CreateTopicsRequest::default()
    };
    Wire::connect(address).call(&request, 7).topics[0].error_code
}

/// Everybody has what is committed, as the leader tells through the broker at `address`.
fn all_caught_up(address: &str, replicas: usize) -> Option<Described> {
    let quorum = describe(address);
    let ends = quorum.current_voters.iter().chain(&quorum.observers);
    let there = ends.filter(|r| r.log_end_offset >= quorum.high_watermark);
    (quorum.error_code == 0 && there.count() == replicas).then_some(quorum)
}

/// Two controllers, a node that is both, and a broker.
#[test]
fn a_quorum_goes_on_without_its_active_controller() {
    let ports = free_ports(3);
    let voters = static_voters(&ports);
    let roles = ["controller", "controller", "broker,controller", "broker"];
    let homes = roles.iter().enumerate().map(|(at, roles)| {
        let home = home(at + 1, roles, &ports).with("controller.quorum.voters", &voters);
        home.format_with(&Uuid([7; 16]).to_string(), InitialControllers::Unspecified);
        home
    });
    let homes: Vec<Home> = homes.collect();
    let started: Vec<_> = homes.iter().map(Home::spawn).collect();
    let started = started.into_iter().map(|node| Some(node.wait_ready()));
    let mut nodes: Vec<Option<Node>> = started.collect();
    let broker = nodes[3].as_ref().expect("it runs").address.clone();
    // The broker passes on what is the controller's, wherever that is.
    assert_eq!(create(&broker, "before"), 0);
    let quorum = until("every replica caught up", || all_caught_up(&broker, 4));
    let leader = quorum.leader_id as usize;
    assert_eq!(quorum.current_voters.len(), 3);
    assert_eq!(quorum.observers[0].replica_id, 4);
    let other = format!("127.0.0.1:{}", ports[leader % 3]);
    assert_eq!(create(&other, "nowhere"), NOT_CONTROLLER);
    // The active controller dies: the others elect one, and the broker finds it.
    let dead = nodes[leader - 1].take().expect("it runs");
    dead.kill();
    assert_eq!(create(&broker, "between"), 0);
    let quorum = describe(&broker);
    assert_ne!(quorum.leader_id as usize, leader);
    // It comes back as a follower, and the new leader hands over when it stops.
    nodes[leader - 1] = Some(homes[leader - 1].start());
    let quorum = until("the lost one caught up", || all_caught_up(&broker, 4));
    let second = quorum.leader_id as usize;
    let epoch = quorum.leader_epoch;
    nodes[second - 1].take().expect("it runs").stop();
    assert_eq!(create(&broker, "after"), 0);
    let quorum = describe(&broker);
    assert!(quorum.leader_epoch > epoch);
    assert_ne!(quorum.leader_id as usize, second);
    println!("leaders {leader}, {second}, {}", quorum.leader_id);
    // The broker leaves while there is a controller to let it go.
    nodes[3].take().expect("it runs").stop();
}

/// `kafka-metadata-quorum`, which has to succeed.
fn quorum_tool(args: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_milena"))
        .arg("kafka-metadata-quorum")
        .args(args)
        .output()
        .expect("the tool runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {said}");
}

fn directory_id(home: &Home) -> String {
    let text = std::fs::read_to_string(home.data().join("meta.properties")).expect("it is there");
    let line = text.lines().find_map(|l| l.strip_prefix("directory.id="));
    line.expect("it has an id").to_owned()
}

/// Waits until exactly these vote, and every replica has everything.
fn wait_voters(address: &str, ids: &[i32], replicas: usize) -> Described {
    until(&format!("{ids:?} vote"), || {
        let quorum = all_caught_up(address, replicas)?;
        let voters = quorum.current_voters.iter().map(|voter| voter.replica_id);
        let mut voters: Vec<i32> = voters.collect();
        voters.sort_unstable();
        (voters == ids).then_some(quorum)
    })
}

/// KIP-853: a second controller is added by the tool, a third joins by itself, the first is removed while it leads.
#[test]
fn a_quorum_grows_and_loses_its_first_leader() {
    let ports = free_ports(3);
    let servers: Vec<String> = ports.iter().map(|p| format!("127.0.0.1:{p}")).collect();
    let servers = servers.join(",");
    let roles = ["broker,controller", "controller", "controller"];
    let cluster_id = Uuid([7; 16]).to_string();
    let homes = roles.iter().enumerate().map(|(at, roles)| {
        let home =
            home(at + 1, roles, &ports).with("controller.quorum.bootstrap.servers", &servers);
        let home = match at {
            2 => home.with("controller.quorum.auto.join.enable", "true"),
            _ => home,
        };
        let controllers = match at {
            0 => InitialControllers::Standalone,
            _ => InitialControllers::None,
        };
        home.format_with(&cluster_id, controllers);
        home
    });
    let homes: Vec<Home> = homes.collect();
    let first = homes[0].start();
    let broker = first.address.clone();
    wait_voters(&broker, &[1], 1);
    let second = homes[1].start();
    wait_voters(&broker, &[1], 2);
    let properties = homes[1].path().join("server.properties");
    let properties = properties.display().to_string();
    let by_broker = [
        "--bootstrap-server",
        &broker,
        "--command-config",
        &properties,
    ];
    quorum_tool(&[&by_broker[..], &["add-controller"]].concat());
    wait_voters(&broker, &[1, 2], 2);
    let third = homes[2].start();
    let quorum = wait_voters(&broker, &[1, 2, 3], 3);
    assert_eq!(quorum.leader_id, 1);
    let directory = directory_id(&homes[0]);
    let remove = [
        "remove-controller",
        "--controller-id",
        "1",
        "--controller-directory-id",
        &directory,
    ];
    quorum_tool(&[&["--bootstrap-controller", &servers][..], &remove].concat());
    let quorum = wait_voters(&broker, &[2, 3], 3);
    assert_ne!(quorum.leader_id, 1);
    assert_eq!(quorum.observers[0].replica_id, 1);
    assert_eq!(create(&broker, "later"), 0);
    println!("leaders 1, {}", quorum.leader_id);
    first.stop();
    third.stop();
    second.kill();
}
