//! Tools whose standard error is a terminal.

use std::fs::File;
use std::io::Read;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// Both ends of a terminal.
fn terminal() -> (File, OwnedFd) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&ours).expect("it is ours");
    unlockpt(&ours).expect("it is ours");
    let name = ptsname(&ours, Vec::new()).expect("it has a name");
    let theirs = open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).expect("it is there");
    (ours.into(), theirs)
}

/// Runs a tool against a server that takes connections and says nothing; what it says before `until` and with it.
fn said(args: &[&str], until: &str) -> String {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("it is bound").to_string();
    let (mut ours, theirs) = terminal();
    let mut child = Command::new(env!("CARGO_BIN_EXE_milena"))
        .args(args)
        .args(["--bootstrap-server", &address])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(theirs)
        .spawn()
        .expect("the tool is started");
    let (mut text, mut buffer) = (String::new(), [0; 1024]);
    // It gives up after a minute by itself, and then the terminal ends.
    while let Ok(count) = ours.read(&mut buffer) {
        text += &String::from_utf8_lossy(&buffer[..count]);
        if count == 0 || text.contains(until) {
            break;
        }
    }
    child.kill().expect("it is our child");
    child.wait().expect("it is our child");
    text
}

#[test]
fn who_waits_longer_than_a_second_is_told_so() {
    let until = "Waiting for the cluster for 1 s";
    let text = said(&["kafka-topics", "--list"], until);
    assert!(text.contains(until), "{text:?}");
}
