//! A controller with a log: what it decides is appended, replayed here and by a loader, and compared.

use std::time::Duration;

use milena_base::{Epoch, Instant, Now, Offset, Timestamp};
use milena_config::{NodeConfig, Properties};
use milena_controller::{
    Controller, ControllerAnswer, ControllerRequest, Decision, Options, RequestContext,
};
use milena_image::{FEATURES, Image, Loader, MetadataVersion, Provenance, VersionedRecord};
use milena_protocol::{FeatureLevelRecord, MetadataRecord};

pub const CLUSTER_ID: &str = "AAAAAAAAAAAAAAAAAAAAAQ";

pub struct Harness {
    pub controller: Controller,
    /// What committed records make, as every other node sees it.
    pub loader: Loader,
    pub now: Now,
    pub end: Offset,
    epoch: i32,
}

/// What `kafka-storage format` bootstraps a cluster of this level with.
pub fn bootstrap(version: MetadataVersion) -> Vec<VersionedRecord> {
    let mut levels: Vec<(&'static str, i16)> = FEATURES
        .iter()
        .filter(|f| f.name != "kraft.version")
        .map(|f| (f.name, f.default_level(version)))
        .filter(|(_, level)| *level > 0)
        .collect();
    levels.sort_unstable();
    levels.insert(0, ("metadata.version", version.level()));
    let record = |(name, feature_level): (&'static str, i16)| {
        let name = name.into();
        let record = FeatureLevelRecord {
            name,
            feature_level,
        };
        (MetadataRecord::FeatureLevel(record), 0)
    };
    levels.into_iter().map(record).collect()
}

pub fn config(more: &str) -> NodeConfig {
    let text = format!(
        "process.roles=broker,controller\nnode.id=1\n\
         listeners=PLAINTEXT://127.0.0.1:19092,CONTROLLER://127.0.0.1:19093\n\
         controller.listener.names=CONTROLLER\ncontroller.quorum.voters=1@127.0.0.1:19093\n\
         log.dirs=/nowhere\n{more}\n"
    );
    let properties = Properties::parse(text.as_bytes()).unwrap();
    NodeConfig::from_properties(&properties).unwrap().0
}

impl Harness {
    pub fn new(version: MetadataVersion, properties: &str, seed: u64) -> Harness {
        let mut controller = Controller::new(Options {
            cluster_id: CLUSTER_ID.to_owned(),
            config: config(properties),
            bootstrap: bootstrap(version),
            seed,
        });
        controller.set_kraft_version(1);
        Harness {
            controller,
            loader: Loader::default(),
            now: Now::from_millis(0, 1_700_000_000_000),
            end: Offset::ZERO,
            epoch: 0,
        }
    }

    /// Wins an election: the LeaderChange takes one offset.
    pub fn elect(&mut self) -> Decision {
        self.epoch += 1;
        self.end += 1;
        let committed = self.loader.image().clone();
        let decision = self
            .controller
            .on_elected(self.epoch, committed, false, self.end, self.now);
        self.append(&decision);
        decision
    }

    pub fn ask(&mut self, request: impl Into<ControllerRequest>, version: i16) -> Decision {
        let ctx = RequestContext {
            version,
            forwarded: true,
            ..RequestContext::default()
        };
        let decision = self.controller.handle(&request.into(), &ctx, self.now);
        self.append(&decision);
        decision
    }

    /// Lets time pass; what timers decide is appended.
    pub fn pass(&mut self, time: Duration) -> Vec<Decision> {
        let end = self.now.mono + time;
        let mut decisions = Vec::new();
        loop {
            let next = self.controller.next_deadline().min(end);
            self.set_time(next.max(self.now.mono));
            while let Some(decision) = self.controller.tick(self.now) {
                self.append(&decision);
                decisions.push(decision);
            }
            if self.now.mono >= end {
                return decisions;
            }
        }
    }

    fn set_time(&mut self, mono: Instant) {
        let passed = mono.as_millis() - self.now.mono.as_millis();
        self.now = Now {
            mono,
            wall: Timestamp(self.now.wall.0 + passed as i64),
        };
    }

    /// Appends as raft would, in records' own encoding; commits at once; checks what has to hold after each batch.
    fn append(&mut self, decision: &Decision) {
        let mut batch = Vec::new();
        for (record, version) in &decision.records {
            let bytes = record.encode(*version).expect("a record fits its version");
            let record = MetadataRecord::decode(&bytes).unwrap();
            let replayed = self.controller.replay(&record, self.end);
            replayed.expect("the controller's own records fit its state");
            self.end += 1;
            batch.push(record);
        }
        self.controller.batch_end(self.end);
        if !batch.is_empty() {
            let last = Provenance {
                offset: self.end - 1,
                epoch: Epoch(self.epoch),
                timestamp: self.now.wall,
            };
            self.loader.load_batch(&batch, last).unwrap();
        }
        self.check();
    }

    fn check(&self) {
        self.controller.check_invariants();
        if self.controller.active_epoch().is_none() {
            return;
        }
        let mut committed = self.loader.image().clone();
        committed.provenance = Provenance::default();
        let mut appended: Image = self.controller.image().clone();
        appended.provenance = Provenance::default();
        assert_eq!(committed, appended, "controller and listeners see the same");
    }
}

/// The answer, of the kind that was asked for.
pub fn answer<T: TryFrom<ControllerAnswer>>(decision: Decision) -> T {
    let answer = decision.answer.expect("a request is answered");
    T::try_from(answer).unwrap_or_else(|_| panic!("an answer of another kind"))
}
