//! Where nodes run: on loopback, or each in a network namespace of its own, which root alone can make. Between namespaces
//! packets can be dropped, in one direction or in both.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::node::Home;

const BROKER_PORT: u16 = 9092;
const CONTROLLER_PORT: u16 = 9093;

pub enum Network {
    Loopback,
    Spaces(Spaces),
}

/// Three namespaces on one bridge, node N at 10.x.y.N; removed at the end.
pub struct Spaces {
    name: String,
    prefix: String,
}

/// Runs a command; whether it succeeded.
fn done(words: &str) -> bool {
    let mut words = words.split_whitespace();
    let mut command = Command::new(words.next().expect("a program"));
    command.args(words).stdin(Stdio::null());
    let command = command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

impl Spaces {
    /// `None` where this user may not make them.
    pub fn make() -> Option<Spaces> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let pid = std::process::id();
        let at = MADE.fetch_add(1, Ordering::Relaxed);
        let spaces = Spaces {
            name: format!("mi{}x{at}", pid % 1_000_000),
            prefix: format!("10.{}.{}", 64 + pid % 128, (pid / 128 + at) % 256),
        };
        let (name, prefix) = (&spaces.name, &spaces.prefix);
        let bridged = done(&format!("ip link add {name} type bridge"))
            && done(&format!("ip addr add {prefix}.254/24 dev {name}"))
            && done(&format!("ip link set {name} up"));
        let all = bridged && (1..=3).all(|id| spaces.add(id));
        all.then_some(spaces)
    }

    fn add(&self, id: i32) -> bool {
        let (name, prefix, space) = (&self.name, &self.prefix, self.space(id));
        [
            format!("ip netns add {space}"),
            format!("ip link add {space} type veth peer name eth0 netns {space}"),
            format!("ip link set {space} master {name} up"),
            format!("ip -n {space} addr add {prefix}.{id}/24 dev eth0"),
            format!("ip -n {space} link set eth0 up"),
            format!("ip -n {space} link set lo up"),
        ]
        .iter()
        .all(|words| done(words))
    }

    fn space(&self, id: i32) -> String {
        format!("{}n{id}", self.name)
    }

    pub fn voters(&self) -> String {
        let voter = |id: i32| format!("{id}@{}.{id}:{CONTROLLER_PORT}", self.prefix);
        [1, 2, 3].map(voter).join(",")
    }

    /// The node listens in its namespace, at fixed ports.
    pub fn place(&self, home: Home, id: usize) -> Home {
        let host = format!("{}.{id}", self.prefix);
        let listeners =
            format!("PLAINTEXT://{host}:{BROKER_PORT},CONTROLLER://{host}:{CONTROLLER_PORT}");
        let mut home = home.with("listeners", &listeners);
        home.namespace = Some(self.space(id as i32));
        home
    }

    /// Nothing gets from one node to the other any more.
    pub fn cut(&self, from: i32, to: i32) {
        let (space, prefix) = (self.space(from), &self.prefix);
        assert!(done(&format!(
            "ip -n {space} route add blackhole {prefix}.{to}/32"
        )));
    }

    pub fn mend(&self, from: i32, to: i32) {
        let (space, prefix) = (self.space(from), &self.prefix);
        assert!(done(&format!(
            "ip -n {space} route del blackhole {prefix}.{to}/32"
        )));
    }

    /// Every connection of the node ends, as its peers see it.
    pub fn end_connections(&self, id: i32) -> bool {
        let space = self.space(id);
        done(&format!("ip netns exec {space} ss -K state established"))
    }
}

impl Drop for Spaces {
    fn drop(&mut self) {
        for id in 1..=3 {
            done(&format!("ip netns del {}", self.space(id)));
        }
        done(&format!("ip link del {}", self.name));
    }
}
