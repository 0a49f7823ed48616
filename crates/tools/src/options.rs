//! Command lines as the JVM tools' parser (joptsimple, without abbreviations) takes them: `--flag value` or
//! `--flag=value`, and values that are converted when they are asked for.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Whether a flag has a value, and what the usage calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arg {
    None,
    Required(&'static str),
    Optional(&'static str),
}

/// A flag of a tool.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    pub name: &'static str,
    pub arg: Arg,
    /// Flags of which at least one must stand beside this one (joptsimple's `availableIf`); empty: always fine.
    pub needs: &'static [&'static str],
    pub default: Option<&'static str>,
    pub help: &'static str,
}

/// A flag without a value.
pub const fn switch(name: &'static str, help: &'static str) -> Flag {
    Flag {
        name,
        arg: Arg::None,
        needs: &[],
        default: None,
        help,
    }
}

/// A flag with a value, which the usage calls `called`.
pub const fn value(name: &'static str, called: &'static str, help: &'static str) -> Flag {
    Flag {
        arg: Arg::Required(called),
        ..switch(name, help)
    }
}

impl Flag {
    pub const fn or(self, default: &'static str) -> Flag {
        Flag {
            default: Some(default),
            ..self
        }
    }

    pub const fn with(self, needs: &'static [&'static str]) -> Flag {
        Flag { needs, ..self }
    }

    /// Makes the value optional.
    pub const fn optional(self) -> Flag {
        let arg = match self.arg {
            Arg::Required(called) | Arg::Optional(called) => Arg::Optional(called),
            Arg::None => Arg::None,
        };
        Flag { arg, ..self }
    }
}

/// A tool: a sentence about it, and its flags.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    pub about: &'static str,
    pub flags: &'static [Flag],
}

/// What every tool has.
pub const HELP: Flag = switch("help", "Print this.");
pub const VERSION: Flag = switch("version", "Print the version.");

/// What most tools that speak to a server have.
pub const BOOTSTRAP_SERVER: Flag = value(
    "bootstrap-server",
    "server to connect to",
    "REQUIRED: brokers to begin with, host:port[,host:port…].",
);
pub const COMMAND_CONFIG: Flag = value(
    "command-config",
    "command config property file",
    "Properties for the client, by Kafka's names.",
);

impl Spec {
    /// Takes a command line apart. The error is a sentence as Kafka words it.
    pub fn parse(&self, args: &[String]) -> Result<Options, String> {
        let mut options = Options {
            spec: *self,
            given: BTreeMap::new(),
            order: Vec::new(),
            count: args.len(),
        };
        let mut args = args.iter().peekable();
        while let Some(arg) = args.next() {
            if arg == "--" {
                break;
            }
            let Some(text) = arg.strip_prefix("--").or(arg.strip_prefix('-')) else {
                continue;
            };
            if text.is_empty() {
                continue;
            }
            let (name, mut value) = match text.split_once('=') {
                Some((name, value)) => (name, Some(value.to_string())),
                None => (text, None),
            };
            let flag = self.flag(name);
            let flag = flag.ok_or_else(|| format!("{name} is not a recognized option"))?;
            match flag.arg {
                Arg::None => value = None,
                Arg::Required(_) if value.is_none() => {
                    let next = args.next().cloned();
                    value =
                        Some(next.ok_or_else(|| format!("Option {name} requires an argument"))?);
                }
                Arg::Optional(_) if value.is_none() => {
                    value = args.next_if(|next| !next.starts_with('-')).cloned();
                }
                _ => {}
            }
            options.order.push(flag.name);
            options.given.entry(flag.name).or_default().extend([value]);
        }
        options.check_needs()?;
        Ok(options)
    }

    fn flag(&self, name: &str) -> Option<&'static Flag> {
        self.flags.iter().find(|flag| flag.name == name)
    }

    /// The table of flags.
    pub fn usage(&self) -> String {
        let head = |flag: &Flag| match flag.arg {
            Arg::None => format!("--{}", flag.name),
            Arg::Required(called) => format!("--{} <{called}>", flag.name),
            Arg::Optional(called) => format!("--{} [{called}]", flag.name),
        };
        let mut flags: Vec<&Flag> = self.flags.iter().collect();
        flags.sort_by_key(|flag| flag.name);
        let mut out = String::from("Option                                   Description\n");
        out.push_str("------                                   -----------\n");
        for flag in flags {
            let mut help = flag.help.to_string();
            if let Some(default) = flag.default {
                let _ = write!(help, " (default: {default})");
            }
            let mut head = head(flag);
            if head.len() > 40 {
                let _ = writeln!(out, "{head}");
                head.clear();
            }
            for line in wrap(&help, 78) {
                let _ = writeln!(out, "{head:<40} {line}");
                head.clear();
            }
        }
        out
    }
}

/// Words in lines of at most so many letters; a line break in the text stays one.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        for word in paragraph.split(' ') {
            if !line.is_empty() && line.len() + 1 + word.len() > width {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    lines
}

/// A command line taken apart.
#[derive(Clone, Debug)]
pub struct Options {
    spec: Spec,
    given: BTreeMap<&'static str, Vec<Option<String>>>,
    /// Names in the order in which they were given.
    order: Vec<&'static str>,
    count: usize,
}

impl Options {
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Whether the command line was empty.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn has(&self, name: &str) -> bool {
        debug_assert!(self.spec.flag(name).is_some(), "{name} is no flag");
        self.given.contains_key(name)
    }

    /// The flags in the order in which they were given.
    pub fn order(&self) -> &[&'static str] {
        &self.order
    }

    /// How many of these flags were given.
    pub fn count_of(&self, names: &[&str]) -> usize {
        names.iter().filter(|name| self.has(name)).count()
    }

    /// Every value of a repeatable flag, in order.
    pub fn values(&self, name: &str) -> Vec<&str> {
        let given = self.given.get(name).into_iter().flatten();
        given.filter_map(Option::as_deref).collect()
    }

    /// The value of a flag: given, else its default. More than one is an error.
    pub fn value(&self, name: &str) -> Result<Option<&str>, String> {
        match self.values(name)[..] {
            [] => Ok(self.spec.flag(name).and_then(|flag| flag.default)),
            [value] => Ok(Some(value)),
            _ => Err(format!(
                "Found multiple arguments for option {name}, but you asked for only one"
            )),
        }
    }

    /// The value of a flag as a number.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, String> {
        let parse = |text: &str| {
            let wrong = || format!("Cannot parse argument '{text}' of option {name}");
            text.parse().map_err(|_| wrong())
        };
        self.value(name)?.map(parse).transpose()
    }

    /// Kafka's `checkRequiredArgs`.
    pub fn require(&self, names: &[&str]) -> Result<(), String> {
        match names.iter().find(|name| !self.has(name)) {
            Some(name) => Err(format!("Missing required argument \"[{name}]\"")),
            None => Ok(()),
        }
    }

    /// Kafka's `checkInvalidArgs`: none of `others` beside `used`.
    pub fn exclude(&self, used: &str, others: &[&str]) -> Result<(), String> {
        let clash = others
            .iter()
            .find(|other| **other != used && self.has(other));
        match clash {
            Some(other) if self.has(used) => Err(format!(
                "Option \"[{used}]\" can't be used with option \"[{other}]\""
            )),
            _ => Ok(()),
        }
    }

    fn check_needs(&self) -> Result<(), String> {
        let lacks = |flag: &&Flag| {
            let alone = !flag.needs.iter().any(|need| self.given.contains_key(need));
            self.given.contains_key(flag.name) && !flag.needs.is_empty() && alone
        };
        let lacking: Vec<&str> = self
            .spec
            .flags
            .iter()
            .filter(lacks)
            .map(|flag| flag.name)
            .collect();
        match lacking.is_empty() || self.given.contains_key("help") {
            true => Ok(()),
            false => Err(format!(
                "Option(s) [{}] are unavailable given other options on the command line",
                lacking.join(", ")
            )),
        }
    }
}
