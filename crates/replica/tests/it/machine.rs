//! A partition on a simulated disk, driven by the lines of a transcript. Broker 1 is the one under test.

use std::fmt::{Debug, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use milena_base::{
    BrokerId, Epoch, ErrorCode, Now, Offset, Timestamp, TopicIdPartition, TopicPartition, Uuid,
};
use milena_disk::SimDisk;
use milena_log::{AppendOrigin, Log, LogOptions, OpenHints};
use milena_records::{
    BatchBuilder, Codec, ControlType, NewRecord, ValidBatch, batches, control_record_key,
};
use milena_replica::{
    AppendRefused, Assignment, Divergence, FetchNote, Isolation, IsrAnswer, IsrProposal, Lookup,
    Offsets, Partition, ReadFrom, ReadRefused, Wanted,
};
use milena_testkit::Command;

pub const LAG_MAX: Duration = Duration::from_secs(30);
const START: i64 = 1_000_000;

pub fn partition(options: LogOptions) -> Partition {
    partition_on(&SimDisk::new(1), options)
}

pub fn partition_on(disk: &SimDisk, options: LogOptions) -> Partition {
    let name = TopicPartition::new("t", 0);
    let disk = Arc::new(disk.clone());
    let now = Now::from_millis(0, START);
    let dir = Path::new("/t-0");
    let (log, _) = Log::open(disk, dir, name.clone(), options, OpenHints::NEW, now).unwrap();
    let id = TopicIdPartition::new(Uuid([7; 16]), 0);
    Partition::new(id, name, BrokerId(1), log, Offset::ZERO)
}

/// `count` records, the first with this timestamp and each a millisecond later.
pub fn records(count: u32, timestamp: i64) -> BatchBuilder {
    let mut builder = BatchBuilder::new(Codec::NONE);
    for index in 0..count {
        let record = NewRecord {
            timestamp: Timestamp(timestamp + i64::from(index)),
            value: Some(b"value"),
            ..Default::default()
        };
        builder.append(record).unwrap();
    }
    builder
}

pub struct Machine {
    partition: Partition,
    mono: u64,
    proposal: Option<IsrProposal>,
    shown: Option<Offsets>,
    fenced: Vec<i32>,
}

impl Machine {
    pub fn new() -> Machine {
        Machine {
            partition: partition(LogOptions::default()),
            mono: 0,
            proposal: None,
            shown: None,
            fenced: Vec::new(),
        }
    }

    fn now(&self) -> Now {
        Now::from_millis(self.mono, START + self.mono as i64)
    }

    /// What it answers, and the offsets where they changed.
    pub fn answer(&mut self, line: &str) -> String {
        let command = Command::parse(line);
        let mut out = self.act(&command);
        let offsets = self.partition.offsets();
        assert!(offsets.log_start <= offsets.last_stable, "{offsets:?}");
        assert!(offsets.last_stable <= offsets.high_watermark, "{offsets:?}");
        assert!(offsets.high_watermark <= offsets.log_end, "{offsets:?}");
        if self.shown != Some(offsets) {
            let Offsets {
                log_start,
                last_stable,
                high_watermark,
                log_end,
            } = offsets;
            let _ = write!(
                out,
                "\nstart={log_start} stable={last_stable} high_watermark={high_watermark} end={log_end}"
            );
            self.shown = Some(offsets);
        }
        out
    }

    fn act(&mut self, command: &Command) -> String {
        match command.name() {
            "lead" => said("high_watermark_moved", self.lead(command)),
            "follow" => self.follow(command),
            "offline" => {
                self.partition.go_offline();
                String::new()
            }
            "tick" => {
                self.mono += command.millis(&command.word::<String>(0));
                String::new()
            }
            "min_insync" => said(
                "high_watermark_moved",
                self.partition.set_min_insync(command.word(0)),
            ),
            "append" => self.append(command),
            "marker" => self.marker(command),
            "replicated" => {
                let epoch = Epoch(command.get("epoch"));
                match self.partition.replicated(Offset(command.word(0)), epoch) {
                    None => "waits".into(),
                    Some(Ok(())) => "done".into(),
                    Some(Err(code)) => code.to_string(),
                }
            }
            "fetch" => self.fetch(command),
            "fence" => {
                self.fenced = command.list("brokers");
                String::new()
            }
            "propose" => self.propose(),
            "answer" => self.isr_answer(command),
            "replicate" => self.replicate(command),
            "told" => self.told(command),
            "truncate" => self.truncate(command),
            "restart" => {
                let epoch = Epoch(command.get("epoch"));
                let at = Offset(command.get("at"));
                done(self.partition.restart_at(epoch, at, self.now()))
            }
            "read" => self.read(command),
            "list" => self.list(command),
            "end_of" => self.end_of(command),
            "delete" => {
                let before = Offset(command.get("before"));
                match self.partition.delete_records(before) {
                    Ok(start) => format!("low={start}"),
                    Err(refused) => code_of(refused),
                }
            }
            "low_watermark" => {
                let alive: Vec<i32> = command.list("alive");
                let low = self.partition.low_watermark(|id| alive.contains(&id.0));
                format!("{low}")
            }
            other => panic!("no command {other:?}"),
        }
    }

    fn assignment(&self, command: &Command) -> Assignment {
        let ids = |key| command.list(key).into_iter().map(BrokerId).collect();
        Assignment {
            leader: BrokerId(command.find("leader").unwrap_or(1)),
            leader_epoch: Epoch(command.get("epoch")),
            partition_epoch: command.get("partition_epoch"),
            replicas: ids("replicas"),
            isr: ids("isr"),
            recovering: command.find("recovering").unwrap_or(false),
        }
    }

    fn lead(&mut self, command: &Command) -> bool {
        self.partition.lead(&self.assignment(command), self.now())
    }

    fn follow(&mut self, command: &Command) -> String {
        self.partition.follow(&self.assignment(command));
        String::new()
    }

    fn append(&mut self, command: &Command) -> String {
        let count = command.word(0);
        let timestamp = command.find("at").unwrap_or(START);
        let mut builder = records(count, timestamp);
        if let Some(producer) = command.find("producer") {
            builder = builder
                .producer(producer, 0, command.find("sequence").unwrap_or(0))
                .transactional(command.find("transactional").unwrap_or(false));
        }
        let all = command
            .find::<String>("acks")
            .is_some_and(|acks| acks == "all");
        self.appended(builder.build(), all, AppendOrigin::Client)
    }

    fn appended(&mut self, batch: ValidBatch, all: bool, origin: AppendOrigin) -> String {
        let appended = self
            .partition
            .append_as_leader(batch, all, origin, self.now());
        match appended {
            Ok(done) => format!(
                "appended {}..{} epoch={}",
                done.first, done.end, done.leader_epoch
            ),
            Err(refused) => code_of(refused),
        }
    }

    /// A transaction's end.
    fn marker(&mut self, command: &Command) -> String {
        let control = match command.word::<String>(0).as_str() {
            "commit" => ControlType::Commit,
            "abort" => ControlType::Abort,
            other => panic!("no marker {other:?}"),
        };
        let value = [0, 0, 0, 0, 0, 0];
        let mut builder = BatchBuilder::new(Codec::NONE)
            .producer(command.get("producer"), 0, -1)
            .transactional(true)
            .control(true);
        let record = NewRecord {
            timestamp: self.now().wall,
            key: Some(&control_record_key(control)),
            value: Some(&value),
            ..Default::default()
        };
        builder.append(record).unwrap();
        self.appended(builder.build(), false, AppendOrigin::Coordinator)
    }

    fn fetch(&mut self, command: &Command) -> String {
        let note = FetchNote {
            follower: BrokerId(command.get("from")),
            offset: Offset(command.get("offset")),
            log_start: Offset(command.find("log_start").unwrap_or(0)),
            broker_epoch: command.find("broker_epoch").unwrap_or(-1),
        };
        match self.partition.on_fetch(&note, self.now()) {
            Ok(noted) => said("high_watermark_moved", noted.high_watermark_moved),
            Err(code) => code.to_string(),
        }
    }

    fn propose(&mut self) -> String {
        let eligible = |id: BrokerId, _| !self.fenced.contains(&id.0);
        let proposal = self.partition.propose_isr(LAG_MAX, eligible, self.now());
        let Some(proposal) = proposal else {
            return "nothing".into();
        };
        let isr: Vec<String> = proposal
            .isr
            .iter()
            .map(|(id, epoch)| format!("{id}@{epoch}"))
            .collect();
        let text = format!(
            "alter_partition isr=[{}] epoch={} partition_epoch={}",
            isr.join(","),
            proposal.leader_epoch,
            proposal.partition_epoch
        );
        self.proposal = Some(proposal);
        text
    }

    fn isr_answer(&mut self, command: &Command) -> String {
        let proposal = self.proposal.clone().expect("a proposal to answer");
        let answer = match command.find::<i16>("error") {
            Some(code) => IsrAnswer::Failed(ErrorCode::from_code(code).unwrap()),
            None => IsrAnswer::Committed {
                leader_epoch: proposal.leader_epoch,
                partition_epoch: command.get("partition_epoch"),
                isr: proposal.isr.iter().map(|(id, _)| *id).collect(),
            },
        };
        let (moved, again) = self.partition.on_isr_answer(&proposal, &answer);
        said("high_watermark_moved", moved) + &said(" send_again", again)
    }

    fn replicate(&mut self, command: &Command) -> String {
        let epochs: Vec<i32> = command.list("batches");
        let from = Offset(command.get("from"));
        let mut base = from;
        let mut bytes = Vec::new();
        for epoch in epochs {
            let mut batch = records(2, START).build();
            batch.stamp(base, Epoch(epoch), None);
            base = batch.header().next_offset();
            bytes.extend_from_slice(&batch.to_bytes());
        }
        let valid = milena_records::check_replicated(bytes.into()).unwrap();
        let done = self.partition.append_as_follower(
            Epoch(command.get("epoch")),
            from,
            &valid,
            Offset(command.get("high_watermark")),
            Offset(command.find("log_start").unwrap_or(0)),
            self.now(),
        );
        match done {
            Ok(done) => said("high_watermark_moved", done.high_watermark_moved),
            Err(refused) => code_of(refused),
        }
    }

    fn told(&mut self, command: &Command) -> String {
        let told = Divergence {
            epoch: Epoch(command.get("epoch")),
            end_offset: Offset(command.get("end")),
        };
        let under = Epoch(command.get("under"));
        match self.partition.truncate_as_told(under, told, self.now()) {
            Ok(done) => said(&format!("end={} complete", done.log_end), done.complete),
            Err(refused) => code_of(refused),
        }
    }

    fn truncate(&mut self, command: &Command) -> String {
        let to = Offset(command.get("to"));
        let epoch = Epoch(command.get("epoch"));
        done(self.partition.truncate_to(epoch, to, self.now()))
    }

    fn read(&self, command: &Command) -> String {
        let from = match command.find::<String>("as").as_deref() {
            None => ReadFrom::Consumer(Isolation::ReadUncommitted),
            Some("committed") => ReadFrom::Consumer(Isolation::ReadCommitted),
            Some("replica") => ReadFrom::Replica,
            Some(other) => panic!("nobody reads as {other:?}"),
        };
        let read = self.partition.read(Wanted {
            offset: Offset(command.word(0)),
            bytes_max: 1 << 20,
            at_least_one: true,
            current_leader_epoch: command.find("epoch").unwrap_or(-1),
            last_fetched_epoch: command.find("last_epoch").unwrap_or(-1),
            from,
        });
        let answer = match read {
            Ok(answer) => answer,
            Err(refused) => return read_code(refused),
        };
        if let Some(told) = answer.divergence {
            return format!("diverges epoch={} end={}", told.epoch, told.end_offset);
        }
        let mut out = match &answer.slice {
            None => String::from("nothing"),
            Some(slice) => {
                let mut bytes = vec![0; slice.length as usize];
                slice
                    .file
                    .read_exact_at(&mut bytes, slice.position)
                    .unwrap();
                let spans = batches(bytes.into()).map(|batch| {
                    let header = *batch.unwrap().header();
                    format!("{}..{}", header.base_offset(), header.next_offset())
                });
                spans.collect::<Vec<_>>().join(" ")
            }
        };
        if let Some(aborted) = answer.aborted.filter(|aborted| !aborted.is_empty()) {
            let _ = write!(out, " aborted={aborted:?}");
        }
        out
    }

    fn list(&self, command: &Command) -> String {
        let lookup = match command.word::<String>(0).as_str() {
            "latest" => Lookup::Latest,
            "earliest" => Lookup::Earliest,
            "max" => Lookup::MaxTimestamp,
            "tiered" => Lookup::Tiered,
            at => Lookup::Timestamp(Timestamp(at.parse().unwrap())),
        };
        let isolation = match command.find::<String>("as") {
            None => Isolation::ReadUncommitted,
            Some(_) => Isolation::ReadCommitted,
        };
        let epoch = command.find("epoch").unwrap_or(-1);
        match self.partition.look_up(lookup, isolation, epoch) {
            Ok(None) => "unknown".into(),
            Ok(Some(found)) => format!(
                "offset={} timestamp={} epoch={}",
                found.offset, found.timestamp.0, found.epoch
            ),
            Err(refused) => read_code(refused),
        }
    }

    fn end_of(&self, command: &Command) -> String {
        let asked = Epoch(command.word(0));
        let current = command.find("epoch").unwrap_or(-1);
        match self.partition.end_of_epoch(asked, current) {
            Ok(None) => "unknown".into(),
            Ok(Some((epoch, end))) => format!("epoch={epoch} end={end}"),
            Err(code) => code.to_string(),
        }
    }
}

fn said(what: &str, so: bool) -> String {
    match so {
        true => what.to_string(),
        false => String::new(),
    }
}

fn done(result: Result<(), AppendRefused>) -> String {
    result.map_or_else(code_of, |()| String::new())
}

fn code_of(refused: AppendRefused) -> String {
    match refused {
        AppendRefused::Refused(code, _) => code.to_string(),
        AppendRefused::Fault(fault) => unexpected(fault),
    }
}

fn read_code(refused: ReadRefused) -> String {
    match refused {
        ReadRefused::Code(code) => code.to_string(),
        ReadRefused::Fault(fault) => unexpected(fault),
    }
}

fn unexpected(fault: impl Debug) -> String {
    panic!("the simulated disk was told to work: {fault:?}")
}
