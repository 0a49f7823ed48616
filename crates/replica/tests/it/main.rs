//! A partition in conversation (`tests/transcripts/partition`), its readers while it is written, a fetcher in
//! conversation (`tests/transcripts/fetcher`), and three replicas that copy from one another.

mod durable;
mod fetching;
mod machine;
mod publication;
mod replicas;
mod stable;

#[test]
fn transcripts() {
    milena_testkit::check_each("partition", || {
        let mut machine = machine::Machine::new();
        move |line: &str| machine.answer(line)
    });
    milena_testkit::check_each("fetcher", || {
        let mut machine = fetching::Machine::new();
        move |line: &str| machine.answer(line)
    });
}
