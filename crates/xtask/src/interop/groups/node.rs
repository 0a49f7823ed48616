//! The broker that the clients talk to: Milena or Apache Kafka, on one directory and one port.

use std::fs::File;
use std::io::Write;
use std::process::Command;

use crate::interop::place::Place;
use crate::interop::server::{End, Maker, Server, milena};

/// An assignor with which members of the classic protocol keep what stays theirs.
pub const COOPERATIVE: &str =
    "partition.assignment.strategy=org.apache.kafka.clients.consumer.CooperativeStickyAssignor";

pub struct Node {
    place: Place,
    server: Option<Server>,
}

impl Node {
    /// A Milena with further properties, a line each.
    pub fn start(properties: &str) -> Result<Node, String> {
        let place = Place::standalone()?;
        let file = File::options().append(true).open(place.properties());
        let written = file.and_then(|mut file| file.write_all(properties.as_bytes()));
        written.map_err(|e| e.to_string())?;
        place.format(Maker::Milena)?;
        let mut node = Node {
            place,
            server: None,
        };
        node.serve(Maker::Milena)?;
        Ok(node)
    }

    fn serve(&mut self, maker: Maker) -> Result<(), String> {
        let log = self.place.root.path().join("broker.log");
        let server = Server::start(maker, &self.place.properties(), self.place.port, &log)?;
        self.server = Some(server);
        Ok(())
    }

    /// The other program goes on with the directory.
    pub fn hand_over_to(&mut self, maker: Maker) -> Result<(), String> {
        if let Some(server) = self.server.take() {
            server.end(End::Clean)?;
        }
        self.serve(maker)
    }

    pub fn stop(mut self) -> Result<(), String> {
        match self.server.take() {
            Some(server) => server.end(End::Clean),
            None => Ok(()),
        }
    }

    pub fn said(&self) -> String {
        self.server.as_ref().map(Server::said).unwrap_or_default()
    }

    pub fn bootstrap(&self) -> String {
        self.place.bootstrap()
    }

    pub fn create_topic(&self, topic: &str, partitions: u32) -> Result<(), String> {
        let partitions = partitions.to_string();
        self.tool(&[
            "kafka-topics",
            "--create",
            "--topic",
            topic,
            "--partitions",
            &partitions,
        ])
        .map(drop)
    }

    /// Small records, dealt out to all partitions.
    pub fn produce(&self, topic: &str, records: u64) -> Result<(), String> {
        let records = records.to_string();
        self.tool(&[
            "kafka-producer-perf-test",
            "--topic",
            topic,
            "--num-records",
            &records,
            "--record-size",
            "10",
            "--throughput",
            "-1",
        ])
        .map(drop)
    }

    /// A tool of ours; what it printed.
    pub fn tool(&self, words: &[&str]) -> Result<String, String> {
        let output = Command::new(milena()?)
            .args(words)
            .args(["--bootstrap-server", &self.bootstrap()])
            .output()
            .map_err(|e| e.to_string())?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        match output.status.success() {
            true => Ok(said),
            false => Err(format!(
                "{words:?}: {said}{}",
                String::from_utf8_lossy(&output.stderr)
            )),
        }
    }
}
