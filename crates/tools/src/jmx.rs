//! `kafka-jmx`: there is no JVM to ask. The tool says so, and what there is instead.

use crate::options::{HELP, Spec, VERSION, switch, value};
use crate::say::{self, Stop};

/// Kafka's flags, so that a script's command line is understood before it is refused.
pub const SPEC: Spec = Spec {
    about: "Milena runs in no JVM and has no JMX; an endpoint for metrics is not built yet.",
    flags: &[
        HELP,
        VERSION,
        value("object-name", "name", "Taken, and of no use here."),
        value("attributes", "name", "Taken, and of no use here."),
        value("reporting-interval", "ms", "Taken, and of no use here.").or("2000"),
        value("one-time", "one-time", "Taken, and of no use here.")
            .optional()
            .or("false"),
        value("date-format", "format", "Taken, and of no use here."),
        value("jmx-url", "service-url", "Taken, and of no use here."),
        value(
            "report-format",
            "report-format",
            "Taken, and of no use here.",
        ),
        value(
            "jmx-auth-prop",
            "jmx-auth-prop",
            "Taken, and of no use here.",
        ),
        value("jmx-ssl-enable", "ssl-enable", "Taken, and of no use here."),
        switch("wait", "Taken, and of no use here."),
    ],
};

const INSTEAD: &str = "kafka-jmx: Milena runs in no JVM, so there is no JMX to connect to, and its endpoint for metrics is not built yet. \
Until then: kafka-consumer-groups.sh --describe shows how far groups are behind, and the server's log (MILENA_LOG) what it does.";

pub fn main(args: Vec<String>) -> i32 {
    say::finish(&SPEC, run(&args))
}

fn run(args: &[String]) -> Result<i32, Stop> {
    let options = SPEC.parse(args)?;
    say::help_or_version(&options)?;
    Err(Stop::Message(INSTEAD.into()))
}
