//! Consumer groups beside Kafka's own classes, clients and broker.

mod assignors;
mod client;
mod driver;
mod facts;
mod node;
mod takeover;

pub fn run() -> Result<(), String> {
    assignors::run()?;
    facts::run()?;
    takeover::run()
}
