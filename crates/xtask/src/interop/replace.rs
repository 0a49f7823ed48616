//! Three Apache Kafka nodes with data and groups, under the work of Apache Kafka's own clients, are replaced by Milena one
//! at a time on the same directories and properties files, and then back. Nothing that was acknowledged is lost, nothing is
//! there twice, and nobody is stuck.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout};
use std::time::{Duration, Instant};

use super::java;
use super::quorum::cluster::{Cluster, Roles, Voters};
use super::server::{End, Maker};

use Maker::{Kafka, Milena};

const NODES: [u16; 3] = [1, 2, 3];
const ALL: &str = "1,2,3";
const PLAIN: &str = "plain";
const IN_TRANSACTIONS: &str = "moved";
/// What is replicated thrice, and has to be in sync before the next node may go.
const TOPICS: [&str; 4] = [
    PLAIN,
    IN_TRANSACTIONS,
    "__consumer_offsets",
    "__transaction_state",
];
/// Three replicas of everything; two have to hold what is acknowledged.
const PROPERTIES: &str = "\
offsets.topic.num.partitions=3
offsets.topic.replication.factor=3
transaction.state.log.num.partitions=3
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
min.insync.replicas=2
group.initial.rebalance.delay.ms=0
";
/// How long the clients may take until they have come further.
const PATIENCE: Duration = Duration::from_secs(60);
/// Records that each of them has to come further by.
const FURTHER: u64 = 50;

/// How much work there is, and by which release.
struct Load {
    kafka: String,
    records_per_second: u64,
    /// Records that all have to come further between one replacement and the next.
    between: u64,
}

impl Load {
    fn small() -> Load {
        Load {
            kafka: java::KAFKA.to_owned(),
            records_per_second: 100,
            between: FURTHER,
        }
    }
}

pub fn run() -> Result<(), String> {
    replace(&Load::small())
}

/// `cargo xtask replace`: the same as large as wanted, with any release.
pub fn command(arguments: &[String]) -> Result<(), String> {
    java::needed()?;
    let mut load = Load::small();
    for pair in arguments.chunks(2) {
        let [flag, value] = pair else {
            return Err(format!("{}: its value is missing", pair[0]));
        };
        let number = || value.parse().map_err(|_| format!("{flag}: no number"));
        match flag.as_str() {
            "--kafka" => value.clone_into(&mut load.kafka),
            "--rate" => load.records_per_second = number()?,
            "--between" => load.between = number()?,
            _ => return Err(format!("{flag}: it takes --kafka, --rate and --between")),
        }
    }
    println!("replace: Apache Kafka {} by Milena, and back", load.kafka);
    replace(&load)
}

/// The clients' process.
struct Work {
    child: Child,
    asks: ChildStdin,
    tells: BufReader<ChildStdout>,
}

/// Records sent by the idempotent producer, committed by the transactional one, and read by the group.
type Progress = [u64; 3];

impl Work {
    fn start(cluster: &Cluster, load: &Load) -> Result<Work, String> {
        let bootstrap = NODES.map(|id| cluster.broker(id)).join(",");
        let rate = load.records_per_second.to_string();
        let words = [&*bootstrap, PLAIN, IN_TRANSACTIONS, &rate];
        let mut child = java::start_answering("Workload", java::KAFKA, &words)?;
        let (asks, tells) = (child.stdin.take(), child.stdout.take());
        let (asks, tells) = asks.zip(tells).ok_or("no pipes")?;
        Ok(Work {
            child,
            asks,
            tells: BufReader::new(tells),
        })
    }

    fn ask(&mut self, word: &str) -> Result<String, String> {
        writeln!(self.asks, "{word}").map_err(|e| format!("the clients are gone: {e}"))?;
        let mut line = String::new();
        let read = self.tells.read_line(&mut line);
        match read {
            Ok(1..) => Ok(line.trim().to_owned()),
            Ok(0) => Err("the clients' process has ended".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn progress(&mut self) -> Result<Progress, String> {
        let line = self.ask("progress")?;
        let number = |name: &str| number(&line, name);
        Ok([number("sent")?, number("committed")?, number("read")?])
    }

    /// Waits until all of them have come further.
    fn goes_on(&mut self, by: u64) -> Result<(), String> {
        let before = self.progress()?;
        let until = Instant::now() + PATIENCE;
        loop {
            let now = self.progress()?;
            if now.iter().zip(before).all(|(now, then)| *now >= then + by) {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(format!("the clients are stuck: {before:?}, later {now:?}"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The number behind a word.
fn number(line: &str, name: &str) -> Result<u64, String> {
    let mut words = line.split_whitespace().skip_while(|word| *word != name);
    let found = words.nth(1).and_then(|text| text.parse().ok());
    found.ok_or_else(|| format!("no {name} in {line:?}"))
}

fn replace(load: &Load) -> Result<(), String> {
    let begun = Instant::now();
    let all = NODES.map(|id| (id, Kafka, Roles::Both));
    let cluster = Cluster::new(true, &all);
    let mut cluster = cluster.with(PROPERTIES).of_release(&load.kafka);
    for id in NODES {
        cluster.format(id, Voters::Static)?;
    }
    for id in NODES {
        cluster.launch(id)?;
    }
    cluster.wait_alive(1, &NODES)?;
    cluster.create(1, PLAIN, "1:2:3,2:3:1,3:1:2")?;
    cluster.create(1, IN_TRANSACTIONS, "3:2:1,1:3:2")?;
    let mut work = Work::start(&cluster, load)?;
    let told = under_work(&mut cluster, &mut work, load, begun);
    told.map_err(|why| cluster.report(&why))
}

fn under_work(
    cluster: &mut Cluster,
    work: &mut Work,
    load: &Load,
    begun: Instant,
) -> Result<(), String> {
    work.goes_on(load.between)?;
    for maker in [Milena, Kafka] {
        for id in NODES {
            exchange(cluster, work, id, maker, load)?;
            let at = begun.elapsed().as_secs();
            let line = work.ask("progress")?;
            println!("    {at:>3} s  node {id} is {maker:?} now: {line}");
        }
    }
    let line = work.ask("end")?;
    println!("    {:>3} s  {line}", begun.elapsed().as_secs());
    for bad in ["failed", "lost", "twice", "unreal", "unread"] {
        if number(&line, bad)? > 0 {
            return Err(line);
        }
    }
    for topic in TOPICS {
        cluster.wait_led(1, topic, "", ALL)?;
    }
    for id in NODES {
        cluster.end(id, End::Killed)?;
    }
    Ok(())
}

/// The node stops in order, and the other program takes over its directories and its properties file.
fn exchange(
    cluster: &mut Cluster,
    work: &mut Work,
    id: u16,
    maker: Maker,
    load: &Load,
) -> Result<(), String> {
    let other = id % 3 + 1;
    for topic in TOPICS {
        cluster.wait_led(other, topic, "", ALL)?;
    }
    cluster.end(id, End::Clean)?;
    cluster.become_of(id, maker);
    cluster.launch(id)?;
    cluster.wait_alive(other, &NODES)?;
    for topic in TOPICS {
        cluster.wait_led(other, topic, "", ALL)?;
    }
    // It leads again what it led before, so that every node is a leader once under each program.
    cluster.elect_preferred(other)?;
    work.goes_on(load.between)
}
