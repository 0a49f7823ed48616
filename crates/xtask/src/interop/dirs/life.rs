//! The lives of one directory: what each writes, and what the next must show.

use std::collections::BTreeSet;
use std::fs;

use super::dump;
use crate::interop::place::Place;
use crate::interop::server::{End, Maker, Server};
use crate::interop::tool_host::ToolHost;

const CODECS: &[&str] = &["none", "gzip", "snappy", "lz4", "zstd"];
/// One partition; several segments, whose beginning is deleted bit by bit.
const SEGMENTS: &str = "segments";
/// The broker compresses it anew and stamps it.
const CONVERTED: &str = "converted";
const GROUP: &str = "readers";
/// Records of a life in each topic; those of `segments` are of 1 KiB, in segments of 1 MiB.
const RECORDS: usize = 40;
const LONG_RECORDS: usize = 1500;
/// What the group reads in a life, of `RECORDS` for each codec.
const GROUP_READS: usize = 130;
const DELETED: usize = 1100;

pub struct Story<'a> {
    place: &'a Place,
    tools: &'a mut ToolHost,
    pub life: usize,
    /// Values that consumers must get.
    written: BTreeSet<String>,
    /// Values that the group has read.
    group_read: BTreeSet<String>,
    /// Where `segments` begins.
    deleted: usize,
    /// What the last life showed before it ended.
    shown: Option<Shown>,
}

/// What tools show of a cluster, line by line, sorted.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    /// With partition, offset, timestamp, headers and key.
    records: Vec<String>,
    offsets: Vec<String>,
    group: Vec<String>,
    topics: Vec<String>,
    configs: Vec<String>,
}

impl Story<'_> {
    pub fn new<'a>(place: &'a Place, tools: &'a mut ToolHost) -> Story<'a> {
        Story {
            place,
            tools,
            life: 0,
            written: BTreeSet::new(),
            group_read: BTreeSet::new(),
            deleted: 0,
            shown: None,
        }
    }

    pub fn live(&mut self, maker: Maker, end: End) -> Result<(), String> {
        self.life += 1;
        let log = self
            .place
            .root
            .path()
            .join(format!("life-{}.log", self.life));
        let server = Server::start(maker, &self.place.properties(), self.place.port, &log)?;
        let told = self.tell(end);
        let shown = told.map_err(|why| format!("{why}\n-- the broker said:\n{}", server.said()))?;
        server.end(end)?;
        let read = dump::all(self.tools, &self.place.data())?;
        let compared = self.shown.as_ref().map_or(0, |shown| shown.records.len());
        println!(
            "    life {}, {maker:?}, ends {end:?}: {compared} records, {} partitions and {} group offsets as before; \
             {} records now; kafka-dump-log read {} files, {} batches, {} records",
            self.life,
            shown.offsets.len(),
            shown.group.len(),
            shown.records.len(),
            read.files,
            read.batches,
            read.records,
        );
        self.shown = Some(shown);
        Ok(())
    }

    fn tell(&mut self, end: End) -> Result<Shown, String> {
        match self.shown.take() {
            None => self.make_topics()?,
            Some(before) => {
                let now = self.look()?;
                before.must_be(&now)?;
                self.shown = Some(before);
            }
        }
        self.write()?;
        self.change_config()?;
        if end == End::Clean {
            // Where a log begins is written down once in a minute: a kill may take back what was deleted since.
            self.delete_records()?;
        }
        self.group_reads()?;
        let shown = self.look()?;
        self.check_values(&shown)?;
        Ok(shown)
    }

    fn tool(&mut self, name: &str, words: &[&str], typed: &str) -> Result<String, String> {
        let bootstrap = self.place.bootstrap();
        let mut all = vec!["--bootstrap-server", &bootstrap];
        all.extend(words);
        Ok(self.tools.ok(name, &all, typed)?.out)
    }

    fn make_topics(&mut self) -> Result<(), String> {
        for codec in CODECS {
            let topic = format!("codec-{codec}");
            self.make_topic(&topic, 2, &[])?;
        }
        self.make_topic(
            SEGMENTS,
            1,
            &[
                "segment.bytes=1048576",
                "retention.ms=-1",
                "index.interval.bytes=1024",
            ],
        )?;
        self.make_topic(
            CONVERTED,
            2,
            &[
                "compression.type=zstd",
                "message.timestamp.type=LogAppendTime",
            ],
        )
    }

    fn make_topic(&mut self, topic: &str, partitions: u32, configs: &[&str]) -> Result<(), String> {
        let partitions = partitions.to_string();
        let mut words = vec!["--create", "--topic", topic, "--partitions", &partitions];
        for config in configs {
            words.extend(["--config", config]);
        }
        self.tool("kafka-topics", &words, "").map(drop)
    }

    fn write(&mut self) -> Result<(), String> {
        for codec in CODECS {
            self.produce(&format!("codec-{codec}"), codec, RECORDS, 20)?;
        }
        self.produce(CONVERTED, "gzip", RECORDS, 20)?;
        self.produce(SEGMENTS, "none", LONG_RECORDS, 1000)
    }

    /// Through the idempotent producer; batches of about 2 KiB.
    fn produce(
        &mut self,
        topic: &str,
        codec: &str,
        records: usize,
        padding: usize,
    ) -> Result<(), String> {
        let mut typed = String::new();
        for at in 0..records {
            let value = format!("{topic}/{}/{at}/{}", self.life, "v".repeat(padding));
            typed += &format!("life:{},at:{at}\tkey{}\t{value}\n", self.life, at % 7);
            self.written.insert(value);
        }
        let words = [
            "--topic",
            topic,
            "--compression-codec",
            codec,
            "--batch-size",
            if padding > 100 { "16384" } else { "1024" },
            "--command-property",
            "enable.idempotence=true",
            "--reader-property",
            "parse.key=true",
            "--reader-property",
            "parse.headers=true",
        ];
        self.tool("kafka-console-producer", &words, &typed)
            .map(drop)
    }

    fn change_config(&mut self) -> Result<(), String> {
        let topic = format!("codec-{}", CODECS[self.life % CODECS.len()]);
        let config = format!(
            "retention.ms={},max.message.bytes={}",
            86_400_000_000 + self.life,
            900_000 + self.life
        );
        let words = [
            "--alter",
            "--entity-type",
            "topics",
            "--entity-name",
            &topic,
            "--add-config",
            &config,
        ];
        self.tool("kafka-configs", &words, "").map(drop)
    }

    fn delete_records(&mut self) -> Result<(), String> {
        self.deleted += DELETED;
        let until = self.deleted;
        let file = self.place.root.path().join("delete.json");
        let text = format!(
            r#"{{"partitions":[{{"topic":"{SEGMENTS}","partition":0,"offset":{until}}}],"version":1}}"#
        );
        fs::write(&file, text).map_err(|e| e.to_string())?;
        let out = self.tool(
            "kafka-delete-records",
            &["--offset-json-file", &file.display().to_string()],
            "",
        )?;
        if !out.contains(&format!("low_watermark: {until}")) {
            return Err(format!("kafka-delete-records: {out}"));
        }
        for at in until - DELETED..until {
            let (life, at) = (at / LONG_RECORDS + 1, at % LONG_RECORDS);
            self.written
                .remove(&format!("{SEGMENTS}/{life}/{at}/{}", "v".repeat(1000)));
        }
        Ok(())
    }

    fn group_reads(&mut self) -> Result<(), String> {
        let count = GROUP_READS.to_string();
        let words = [
            "--include",
            "codec-.*",
            "--group",
            GROUP,
            "--from-beginning",
            "--max-messages",
            &count,
            "--timeout-ms",
            "30000",
        ];
        let out = self.tool("kafka-console-consumer", &words, "")?;
        let read: Vec<&str> = out.lines().collect();
        if read.len() != GROUP_READS {
            return Err(format!(
                "the group read {} records, not {GROUP_READS}",
                read.len()
            ));
        }
        match read
            .into_iter()
            .find(|value| !self.group_read.insert((*value).to_owned()))
        {
            Some(twice) => Err(format!("the group read twice: {twice}")),
            None => Ok(()),
        }
    }

    fn look(&mut self) -> Result<Shown, String> {
        let earliest = self.tool(
            "kafka-get-offsets",
            &["--exclude-internal-topics", "--time", "earliest"],
            "",
        )?;
        let latest = self.tool(
            "kafka-get-offsets",
            &["--exclude-internal-topics", "--time", "latest"],
            "",
        )?;
        let count = sum(&latest)? - sum(&earliest)?;
        let group = self.tool(
            "kafka-consumer-groups",
            &["--describe", "--group", GROUP],
            "",
        )?;
        let configs = ["--describe", "--entity-type", "topics"];
        Ok(Shown {
            records: self.read(count)?,
            offsets: sorted(&(earliest + &latest)),
            group: sorted(&group),
            topics: in_order(&self.tool("kafka-topics", &["--describe"], "")?),
            configs: sorted(&self.tool("kafka-configs", &configs, "")?),
        })
    }

    fn read(&mut self, count: i64) -> Result<Vec<String>, String> {
        let max = count.to_string();
        let mut words = vec![
            "--include",
            "codec-.*|segments|converted",
            "--from-beginning",
        ];
        words.extend(["--max-messages", &max, "--timeout-ms", "30000"]);
        for property in [
            "print.key=true",
            "print.partition=true",
            "print.offset=true",
            "print.timestamp=true",
            "print.headers=true",
        ] {
            words.extend(["--formatter-property", property]);
        }
        let out = self.tool("kafka-console-consumer", &words, "")?;
        let lines = sorted(&out);
        match lines.len() as i64 == count {
            true => Ok(lines),
            false => Err(format!(
                "a consumer read {} records; offsets say {count}",
                lines.len()
            )),
        }
    }

    /// Consumers got every value that was written, each once, and no other.
    fn check_values(&self, shown: &Shown) -> Result<(), String> {
        let values = shown
            .records
            .iter()
            .filter_map(|line| line.rsplit('\t').next());
        let got: BTreeSet<String> = values.map(str::to_owned).collect();
        if got.len() != shown.records.len() {
            return Err(format!(
                "{} values in {} records",
                got.len(),
                shown.records.len()
            ));
        }
        match self.written.symmetric_difference(&got).next() {
            None => Ok(()),
            Some(value) => Err(format!(
                "{} values written, {} read; one is only in one of them: {value:.60}",
                self.written.len(),
                got.len()
            )),
        }
    }
}

impl Shown {
    fn must_be(&self, now: &Shown) -> Result<(), String> {
        for (what, before, now) in [
            ("records", &self.records, &now.records),
            ("offsets", &self.offsets, &now.offsets),
            ("group", &self.group, &now.group),
            ("topics", &self.topics, &now.topics),
            ("configs", &self.configs, &now.configs),
        ] {
            if before != now {
                let only = |one: &[String], other: &[String]| {
                    let lines = one.iter().filter(|line| !other.contains(line)).take(5);
                    lines
                        .map(|line| format!("\n    {line:.300}"))
                        .collect::<String>()
                };
                return Err(format!(
                    "{what} differ from what the life before showed\n  only before:{}\n  only now:{}",
                    only(before, now),
                    only(now, before)
                ));
            }
        }
        Ok(())
    }
}

/// Of lines `topic:partition:offset`.
fn sum(offsets: &str) -> Result<i64, String> {
    let numbers = offsets
        .lines()
        .map(|line| line.rsplit(':').next().unwrap_or_default().parse::<i64>());
    numbers
        .sum::<Result<i64, _>>()
        .map_err(|e| format!("kafka-get-offsets: {e}:\n{offsets}"))
}

/// Lines of `kafka-topics --describe`; the configs in a line come in any order.
fn in_order(topics: &str) -> Vec<String> {
    let mut lines = sorted(topics);
    for line in &mut lines {
        if let Some((topic, configs)) = line.split_once("Configs: ") {
            let mut configs: Vec<&str> = configs.split(',').collect();
            configs.sort_unstable();
            *line = format!("{topic}Configs: {}", configs.join(","));
        }
    }
    lines
}

fn sorted(text: &str) -> Vec<String> {
    let lines = text
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty());
    let mut lines: Vec<String> = lines.map(str::to_owned).collect();
    lines.sort();
    lines
}
