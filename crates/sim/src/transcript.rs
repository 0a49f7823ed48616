//! The story of a run, for a person: faults, the nodes' own log lines, and what the watchers saw.

use std::cell::RefCell;
use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::plan::{MILLI, SECOND, Time};

thread_local! {
    /// Log lines of the node that is being stepped.
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Where lines go; without a listener nothing is formatted.
#[derive(Debug, Default)]
pub struct Transcript {
    lines: Option<Vec<String>>,
    printing: bool,
}

impl Transcript {
    pub fn kept() -> Transcript {
        Transcript {
            lines: Some(Vec::new()),
            printing: false,
        }
    }

    pub fn printed() -> Transcript {
        Transcript {
            lines: Some(Vec::new()),
            printing: true,
        }
    }

    pub fn is_on(&self) -> bool {
        self.lines.is_some()
    }

    pub fn line(&mut self, at: Time, who: impl fmt::Display, what: impl fmt::Display) {
        let Some(lines) = &mut self.lines else {
            return;
        };
        let (seconds, micros) = (at / SECOND, at % SECOND / (MILLI / 1000));
        let line = format!("{seconds:>4}.{micros:06} {who:<4} {what}");
        if self.printing {
            println!("{line}");
        }
        lines.push(line);
    }

    /// Takes over what a node logged since the last time.
    pub fn node_lines(&mut self, at: Time, who: impl fmt::Display + Copy) {
        if self.is_on() {
            for line in LINES.take() {
                self.line(at, who, line);
            }
        }
    }

    pub fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }
}

/// Runs with the nodes' log lines going to the transcript.
pub fn listening<T>(body: impl FnOnce() -> T) -> T {
    tracing::subscriber::with_default(Collector, body)
}

struct Collector;

impl Subscriber for Collector {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        let level = match *event.metadata().level() {
            Level::ERROR => "ERROR ",
            Level::WARN => "warn ",
            _ => "",
        };
        let line = format!("{level}{}{}", text.message, text.fields);
        LINES.with_borrow_mut(|lines| lines.push(line));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing into a string can't fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}
