//! The same commands live, in four worlds: Kafka's tools and ours, each on Apache Kafka and on Milena. Every world has
//! a broker of its own and goes through the files of `interop/goldens` in order, so each command finds the same state.
//!
//! What Kafka's tools say of Apache Kafka is the reference. Compared are exit status, standard output and the first
//! sentence on standard error. What changes from run to run is masked (`masks`); a difference that is meant is named
//! in its file, with its reason, and has to be there.

mod cases;
mod masks;
mod worlds;

use std::collections::BTreeMap;

use cases::{Case, SETUP, Seen};
use masks::Masks;
use worlds::{Answer, Tools, World};

use super::server::Maker;
use super::tool_host::ToolHost;

/// The release whose tools are published.
const TOOLS: &str = "4.3.1";

/// Prefixes in the order in which they run; each is a file.
const PREFIXES: &[&str] = &[
    SETUP,
    "topics",
    "console",
    "groups",
    "configs",
    "offsets",
    "delrecords",
    "logdirs",
    "features",
    "quorum",
    "dump",
    "perf",
    "apiversions",
    "cluster",
    "storage",
    "unreachable",
    "server",
];

/// What Kafka has commands for and these files do not yet, with the reason where it is not that the tools are to come.
const NOT_YET: &[&str] = &[
    "acls",
    "clientmetrics",
    "election",
    "jmx",
    "reassign",
    "share",
    "shell",
    "streams",
    "tokens",
    "txn",
    "verifiable tools (they end in a shutdown hook, which a JVM that lives on does not run)",
];

/// What one world said to one command; none where the tool is not there.
type Answers = Vec<Option<Answer>>;

pub fn run() -> Result<(), String> {
    let cases = cases::read(PREFIXES)?;
    let [kafka, milena, kafka_ours, milena_ours] = std::thread::scope(|scope| {
        let start = |tools, broker| scope.spawn(move || World::start(tools, broker));
        let started = [
            start(Tools::Kafka, Maker::Kafka),
            start(Tools::Kafka, Maker::Milena),
            start(Tools::Milena, Maker::Kafka),
            start(Tools::Milena, Maker::Milena),
        ];
        started.map(|world| world.join().unwrap_or_else(|_| Err("a thread died".into())))
    });
    let (theirs, ours) = ([kafka?, milena?], [kafka_ours?, milena_ours?]);
    let (theirs, ours) = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| play(theirs, &cases));
        let ours = scope.spawn(|| play(ours, &cases));
        let end = || Err("a thread died".to_owned());
        (
            theirs.join().unwrap_or_else(|_| end()),
            ours.join().unwrap_or_else(|_| end()),
        )
    });
    let [reference, milena] = theirs?;
    let [kafka_ours, milena_ours] = ours?;
    let others = [
        (Tools::Kafka, Maker::Milena, milena),
        (Tools::Milena, Maker::Kafka, kafka_ours),
        (Tools::Milena, Maker::Milena, milena_ours),
    ];
    report(&cases, &reference, &others)
}

/// Runs every case in both worlds, one after the other.
fn play(mut worlds: [World; 2], cases: &[Case]) -> Result<[Answers; 2], String> {
    let mut host = match worlds[0].tools {
        Tools::Kafka => Some(ToolHost::start(TOOLS)?),
        Tools::Milena => None,
    };
    let mut answers = [Vec::new(), Vec::new()];
    for case in cases {
        for (world, answers) in worlds.iter_mut().zip(&mut answers) {
            let answer = world.play(case, host.as_mut())?;
            if case.prefix == SETUP && answer.as_ref().is_some_and(|said| said.status != 0) {
                return Err(format!("{}: {}: {answer:?}", world.name(), case.command));
            }
            answers.push(answer);
        }
    }
    for world in worlds {
        world.end()?;
    }
    Ok(answers)
}

fn report(
    cases: &[Case],
    reference: &Answers,
    others: &[(Tools, Maker, Answers)],
) -> Result<(), String> {
    let masks = Masks::new();
    let mut found = Found::default();
    for (at, case) in cases.iter().enumerate() {
        let wanted = reference[at].as_ref().ok_or("no reference")?;
        let wanted = case.seen(wanted, &masks)?;
        for (tools, broker, answers) in others {
            match &answers[at] {
                None => found.missing(case.tool()),
                Some(answer) => {
                    let seen = case.seen(answer, &masks)?;
                    found.compare(case, (*tools, *broker), &wanted, &seen);
                }
            }
        }
    }
    found.report(cases.len())
}

/// What the comparison has found.
#[derive(Default)]
struct Found {
    equal: usize,
    wrong: Vec<String>,
    meant: Vec<String>,
    not_yet: Vec<String>,
    missing: BTreeMap<String, usize>,
}

impl Found {
    fn missing(&mut self, tool: &str) {
        *self.missing.entry(tool.to_owned()).or_default() += 1;
    }

    fn compare(&mut self, case: &Case, who: (Tools, Maker), wanted: &Seen, seen: &Seen) {
        let (tools, broker) = who;
        let name = format!("{}: {tools:?}'s tools on {broker:?}", case.name());
        let meant = case.differs(tools, broker);
        if seen == wanted {
            match meant {
                None => self.equal += 1,
                Some(_) => self.wrong.push(format!("{name}: no longer differs")),
            }
        } else if let Some(reason) = meant {
            let status = cases::status(wanted, seen);
            self.meant.push(format!("{name}: {reason}{status}"));
        } else if let Some(reason) = case.not_yet(tools, broker) {
            self.not_yet.push(format!("{name}: {reason}"));
        } else {
            let difference = cases::difference(wanted, seen);
            self.wrong
                .push(format!("{name}\n  {}\n{difference}", case.command));
        }
    }

    fn report(self, commands: usize) -> Result<(), String> {
        for (tool, count) in self.missing {
            println!("  {tool} is not here yet: {} commands", count / 2);
        }
        let print =
            |mark, lines: &[String]| lines.iter().for_each(|line| println!("  {mark}: {line}"));
        print("meant", &self.meant);
        print("not yet", &self.not_yet);
        println!("  not yet: {}", NOT_YET.join(", "));
        let (equal, meant, not_yet) = (self.equal, self.meant.len(), self.not_yet.len());
        println!(
            "  {commands} commands; {equal} of {} answers are as Apache Kafka's by its own tools, {meant} differ and are meant to, {not_yet} differ still",
            equal + meant + not_yet + self.wrong.len(),
        );
        match self.wrong.len() {
            0 => Ok(()),
            count => Err(format!("{count} differences:\n{}", self.wrong.join("\n"))),
        }
    }
}
