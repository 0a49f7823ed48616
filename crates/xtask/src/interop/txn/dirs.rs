//! A directory with finished and open transactions goes from one program to the other: the producers go on.

use std::fs::OpenOptions;
use std::io::Write;
use std::time::{Duration, Instant};

use super::Clients;
use crate::interop::place::Place;
use crate::interop::server::{End, Maker, Server};

/// What the place's properties lack: small topics, quick ends.
const MORE: &str = "\
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
transaction.abort.timed.out.transaction.cleanup.interval.ms=500
broker.session.timeout.ms=1000
broker.heartbeat.interval.ms=200
";
const IN_TIME: Duration = Duration::from_secs(60);

/// A place where transactions work.
pub fn place() -> Result<Place, String> {
    let place = Place::standalone()?;
    let file = OpenOptions::new().append(true).open(place.properties());
    let written = file.and_then(|mut file| file.write_all(MORE.as_bytes()));
    written.map_err(|e| e.to_string())?;
    Ok(place)
}

pub fn run() -> Result<(), String> {
    for (first, second, end) in [
        (Maker::Milena, Maker::Kafka, End::Killed),
        (Maker::Kafka, Maker::Milena, End::Clean),
    ] {
        let place = place()?;
        place.format(first)?;
        let mut journey = Journey { place, lives: 0 };
        journey
            .run(first, second, end)
            .map_err(|why| format!("from {first:?} ({end:?}) to {second:?}: {why}"))?;
        println!(
            "  {first:?} ends {end:?}, {second:?} goes on: 1 finished, 3 open and 1 late transaction as they should be, also back again"
        );
    }
    Ok(())
}

struct Journey {
    place: Place,
    lives: usize,
}

impl Journey {
    fn start(&mut self, maker: Maker) -> Result<Server, String> {
        self.lives += 1;
        let log = self.place.root.path().join(format!("{}.log", self.lives));
        Server::start(maker, &self.place.properties(), self.place.port, &log)
    }

    fn run(&mut self, first: Maker, second: Maker, end: End) -> Result<(), String> {
        let server = self.start(first)?;
        let mut clients = Clients::start(&self.place.bootstrap())?;
        let said =
            |why: String, server: &Server| format!("{why}\n-- the broker said:\n{}", server.said());
        before(&mut clients).map_err(|why| said(why, &server))?;
        server.end(end)?;
        let server = self.start(second)?;
        after(&mut clients).map_err(|why| said(why, &server))?;
        server.end(end)?;
        let server = self.start(first)?;
        back(&mut clients).map_err(|why| said(why, &server))?;
        server.end(End::Clean)
    }
}

fn before(clients: &mut Clients) -> Result<(), String> {
    clients.all(&[
        "topic t",
        "topic u",
        "topic v",
        "topic w",
        "start done done 60000",
        "begin done",
        "send done t a",
        "commit done",
        "begin done",
        "send done t b",
        "abort done",
        "begin done",
        "send done t c",
        "offset done group t 1",
        "commit done",
        // Left open: to be committed, to be fenced, to run out of time.
        "start open open 60000",
        "begin open",
        "send open t d",
        "offset open group t 2",
        "start taken taken 60000",
        "begin taken",
        "send taken u x",
        "start slow slow 12000",
        "begin slow",
        "send slow v y",
    ])?;
    clients.expect("read read_committed t", "a c")
}

fn after(clients: &mut Clients) -> Result<(), String> {
    clients.expect("read read_committed t", "a c")?;
    clients.expect("read read_uncommitted t", "a b c d")?;
    clients.expect("describe done", "CompleteCommit")?;
    clients.expect("describe open", "Ongoing")?;
    // The same producer goes on with its open transaction.
    clients.all(&["send open t e", "commit open"])?;
    eventually(clients, "describe open", "CompleteCommit")?;
    clients.expect("read read_committed t", "a c d e")?;
    clients.expect("offsets group t", "2")?;
    // Another takes the id over: what was open is aborted, and the one before is fenced.
    clients.all(&[
        "start taken heir 60000",
        "begin heir",
        "send heir u z",
        "commit heir",
    ])?;
    clients.expect("commit taken", "ProducerFencedException")?;
    eventually(clients, "read read_committed u", "z")?;
    // Nobody ends this one but its timeout.
    eventually(clients, "describe slow", "CompleteAbort")?;
    clients.expect("read read_committed v", "")?;
    clients.all(&["begin done", "send done t f", "commit done"])?;
    clients.all(&["begin heir", "send heir w g"])?;
    eventually(clients, "read read_committed t", "a c d e f")
}

fn back(clients: &mut Clients) -> Result<(), String> {
    clients.expect("read read_committed t", "a c d e f")?;
    clients.expect("read read_committed u", "z")?;
    clients.expect("offsets group t", "2")?;
    clients.expect(
        "describe heir-is-not-an-id",
        "TransactionalIdNotFoundException",
    )?;
    clients.expect(
        "list",
        "done=CompleteCommit open=CompleteCommit slow=CompleteAbort taken=Ongoing",
    )?;
    clients.all(&["commit heir"])?;
    eventually(clients, "read read_committed w", "g")?;
    clients.all(&[
        "start slow again 60000",
        "begin again",
        "send again v h",
        "commit again",
    ])?;
    eventually(clients, "read read_committed v", "h")
}

/// Asks until the answer is this.
pub fn eventually(clients: &mut Clients, command: &str, wanted: &str) -> Result<(), String> {
    let deadline = Instant::now() + IN_TIME;
    loop {
        let said = clients.say(command)?;
        if said == wanted {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("{command}: still {said:?}, not {wanted:?}"));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
