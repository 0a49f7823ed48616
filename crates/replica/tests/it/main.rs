//! A partition in conversation (`tests/transcripts/partition`), and its readers while it is written.

mod durable;
mod machine;
mod publication;

#[test]
fn transcripts() {
    milena_testkit::check_each("partition", || {
        let mut machine = machine::Machine::new();
        move |line: &str| machine.answer(line)
    });
}
