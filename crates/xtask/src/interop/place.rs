//! A directory for one node, with its properties file, and its format by either program.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::java;
use super::server::{Maker, milena};

const CLUSTER_ID: &str = "AAAAAAAAAAAAAAAAAAABzg";

/// How the quorum of one is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quorum {
    StaticVoters,
    Standalone,
}

/// A directory for one node, and its properties file.
pub struct Place {
    /// Removed at the end.
    pub root: tempfile::TempDir,
    pub port: u16,
    controller_port: u16,
    quorum: Quorum,
}

impl Place {
    pub fn new(quorum: Quorum) -> Result<Place, String> {
        let [port, controller_port] = milena_testkit::free_ports();
        let place = Place {
            root: milena_testkit::temp_dir(),
            port,
            controller_port,
            quorum,
        };
        fs::write(place.properties(), place.text()).map_err(|e| e.to_string())?;
        Ok(place)
    }

    pub fn standalone() -> Result<Place, String> {
        Place::new(Quorum::Standalone)
    }

    pub fn properties(&self) -> PathBuf {
        self.root.path().join("server.properties")
    }

    pub fn data(&self) -> PathBuf {
        self.root.path().join("data")
    }

    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn controller(&self) -> String {
        format!("127.0.0.1:{}", self.controller_port)
    }

    fn text(&self) -> String {
        let (port, controller_port) = (self.port, self.controller_port);
        let quorum = match self.quorum {
            Quorum::StaticVoters => {
                format!("controller.quorum.voters=1@127.0.0.1:{controller_port}")
            }
            Quorum::Standalone => {
                format!("controller.quorum.bootstrap.servers=127.0.0.1:{controller_port}")
            }
        };
        format!(
            "process.roles=broker,controller\nnode.id=1\n{quorum}\n\
            listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}\n\
            controller.listener.names=CONTROLLER\ninter.broker.listener.name=PLAINTEXT\n\
            listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\n\
            log.dirs={}\nnum.partitions=2\noffsets.topic.num.partitions=4\noffsets.topic.replication.factor=1\n\
            group.initial.rebalance.delay.ms=0\nlog.initial.task.delay.ms=600000\n",
            self.data().display()
        )
    }

    pub fn format(&self, maker: Maker) -> Result<(), String> {
        let properties = self.properties().display().to_string();
        let mut words = vec![
            "format",
            "--cluster-id",
            CLUSTER_ID,
            "--config",
            &properties,
        ];
        if self.quorum == Quorum::Standalone {
            words.push("--standalone");
        }
        if maker == Maker::Kafka {
            let mut all = vec![java::KAFKA, "tool", "kafka-storage"];
            all.append(&mut words);
            return java::script(&all).map(drop);
        }
        let output = Command::new(milena()?)
            .arg("kafka-storage")
            .args(words)
            .output();
        let output = output.map_err(|e| e.to_string())?;
        match output.status.success() {
            true => Ok(()),
            false => Err(format!(
                "milena kafka-storage format: {}",
                String::from_utf8_lossy(&output.stderr)
            )),
        }
    }
}
