//! `sim` is the other edge: N whole nodes in one thread, from one seed, with a virtual clock, a simulated network and
//! simulated disks ([`milena_disk::SimDisk`]). It runs what `node` runs: [`milena_broker::start::start`] makes a node's
//! parts, and here, too, each mailbox is stepped with one event at a time, requests come as frames on connections, and
//! requests to other nodes are effects. What `node` leaves to the operating system, the order in which threads run and
//! messages arrive, is drawn from the seed.
//!
//! It decides nothing about Kafka and nothing depends on it. A [`plan::Plan`] says what a seed means; [`run`] runs it; what was
//! promised is watched after every event by [`atlas::Atlas`] (partitions) and [`council::Council`] (quorum and metadata), which
//! know no fault. A run ends by healing everything and waiting, in virtual time, for what was promised to come.
//!
//! Start at [`world::World`], then [`steps`] and [`serve`] for what happens, [`weather`] for the faults.
#![forbid(unsafe_code)]

pub mod atlas;
mod calls;
mod clients;
pub mod council;
mod course;
mod life;
mod link;
mod net;
mod node;
pub mod plan;
mod serve;
pub mod shrink;
mod steps;
mod transcript;
mod weather;
pub mod world;

use milena_base::Prng;

use atlas::broken;
use clients::admin::{Admin, topic_name};
use clients::consumer::Consumer;
use clients::producer::Producer;
use clients::{Actor, Client};
use plan::{MILLI, Plan, Time};
pub use transcript::Transcript;
use world::{Event, Failure, Figures, World};

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// Of every effect, message and byte written.
    pub digest: u64,
    pub failure: Option<Failure>,
    pub figures: Figures,
    /// Virtual time at the end.
    pub ended: Time,
    pub lines: Vec<String>,
}

/// Runs a plan to its end.
pub fn run(plan: &Plan, transcript: Transcript) -> Outcome {
    match transcript.is_on() {
        true => transcript::listening(|| run_it(plan, transcript)),
        false => run_it(plan, transcript),
    }
}

fn run_it(plan: &Plan, transcript: Transcript) -> Outcome {
    let (nodes, why) = match life::machines(plan) {
        Ok(nodes) => (nodes, None),
        Err(why) => (Vec::new(), Some(why)),
    };
    let mut world = World::new(plan.clone(), nodes, clients(plan), transcript);
    let shape = format!("{:?}", plan.shape);
    world.note("---", format!("seed {}: {shape}", plan.seed));
    if let Some(why) = why {
        world.check(broken("it-begins", why));
    }
    for node in 0..world.nodes.len() {
        let at = world.prng.below(200 * MILLI);
        world.at(at, Event::Boot { node });
    }
    world.at(0, Event::Look);
    if world.failure.is_none() {
        world.run();
    }
    let ended = world.now;
    world.note("---", world.figures);
    Outcome {
        digest: world.digest.value(),
        failure: world.failure,
        figures: world.figures,
        ended,
        lines: world.transcript.into_lines(),
    }
}

fn clients(plan: &Plan) -> Vec<Client> {
    let mut prng = Prng::new(plan.seed ^ 0x636c_6965);
    let brokers = (0..)
        .zip(&plan.shape.nodes)
        .filter(|(_, roles)| roles.broker);
    let brokers: Vec<usize> = brokers.map(|(index, _)| index).collect();
    let topics: Vec<String> = (0..plan.shape.topics.len()).map(topic_name).collect();
    let mut client = |name: String, actor: Box<dyn Actor>| Client {
        name,
        actor,
        prng: prng.fork(),
        lines: Default::default(),
        timer: Time::MAX,
    };
    let mut clients = vec![client(
        "admin".into(),
        Box::new(Admin::new(brokers.clone(), &plan.shape)),
    )];
    for at in 0..plan.shape.producers {
        let first = (at as u64 + 1) << 32;
        let in_flight_max = plan.shape.in_flight_max;
        let producer = Producer::new(
            brokers.clone(),
            topics.clone(),
            plan.batches,
            in_flight_max,
            first,
        );
        clients.push(client(format!("producer{at}"), Box::new(producer)));
    }
    let consumer = Consumer::new(brokers, topics);
    clients.push(client("consumer".into(), Box::new(consumer)));
    clients
}
