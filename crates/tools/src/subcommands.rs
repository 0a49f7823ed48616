//! Command lines with subcommands, as the JVM tools' other parser (argparse4j) takes them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::say::out;

/// A flag: `--name value`, `--name=value`, `-n value`, or a switch.
#[derive(Clone, Copy, Debug)]
pub struct Arg {
    pub name: &'static str,
    pub short: Option<char>,
    pub takes_value: bool,
    pub required: bool,
    /// Flags of one number: at most one may be given, exactly one where they are required.
    pub group: Option<u8>,
    pub help: &'static str,
}

/// A flag with a value.
pub const fn arg(name: &'static str, short: char, help: &'static str) -> Arg {
    Arg {
        name,
        short: Some(short),
        takes_value: true,
        required: false,
        group: None,
        help,
    }
}

/// What most tools that speak to a server have.
pub const COMMAND_CONFIG: Arg = arg(
    "command-config",
    'c',
    "Properties for the client, by Kafka's names.",
)
.long_only();

impl Arg {
    pub const fn switch(self) -> Arg {
        Arg {
            takes_value: false,
            ..self
        }
    }

    pub const fn long_only(self) -> Arg {
        Arg {
            short: None,
            ..self
        }
    }

    pub const fn required(self) -> Arg {
        Arg {
            required: true,
            ..self
        }
    }

    pub const fn one_of(self, group: u8) -> Arg {
        Arg {
            group: Some(group),
            ..self
        }
    }

    fn shown(&self) -> String {
        let long = self.name.to_string();
        match self.short {
            Some(short) => format!("--{long}/-{short}"),
            None => format!("--{long}"),
        }
    }

    fn usage(&self) -> String {
        let called = self.name.to_uppercase().replace('-', "_");
        let value = if self.takes_value {
            format!(" {called}")
        } else {
            String::new()
        };
        format!("--{}{value}", self.name)
    }
}

/// A subcommand.
#[derive(Clone, Copy, Debug)]
pub struct Command {
    pub name: &'static str,
    pub help: &'static str,
    pub args: &'static [Arg],
}

/// A tool of subcommands.
#[derive(Clone, Copy, Debug)]
pub struct Tool {
    pub name: &'static str,
    pub about: &'static str,
    /// Flags that stand before the subcommand.
    pub globals: &'static [Arg],
    pub commands: &'static [Command],
}

/// A command line taken apart.
#[derive(Clone, Debug, Default)]
pub struct Parsed {
    pub command: &'static str,
    given: BTreeMap<&'static str, Vec<String>>,
}

impl Parsed {
    pub fn has(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// The last value of a flag.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.given
            .get(name)
            .and_then(|values| values.last())
            .map(String::as_str)
    }

    pub fn values(&self, name: &str) -> Vec<&str> {
        let values = self.given.get(name).into_iter().flatten();
        values.map(String::as_str).collect()
    }
}

/// The exit status of what a tool did; why it failed goes to standard error.
pub(crate) fn status(done: Result<i32, String>) -> i32 {
    done.unwrap_or_else(|message| {
        eprintln!("{message}");
        1
    })
}

/// How a command line that names no work ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// `--help` was asked for: the text.
    Help(String),
    /// The text for standard error.
    Wrong(String),
}

type Words<'a> = std::slice::Iter<'a, String>;

impl Tool {
    /// Takes a command line apart and does what it says. The exit status: that of `run`, 1 where the command line is wrong,
    /// `help_status` where it asks for help.
    pub(crate) fn main(
        &self,
        args: &[String],
        help_status: i32,
        run: impl FnOnce(&Parsed) -> Result<i32, String>,
    ) -> i32 {
        match self.parse(args) {
            Ok(parsed) => status(run(&parsed)),
            Err(Refused::Help(text)) => {
                out(text);
                help_status
            }
            Err(Refused::Wrong(text)) => {
                eprint!("{text}");
                1
            }
        }
    }

    pub fn parse(&self, args: &[String]) -> Result<Parsed, Refused> {
        let mut parsed = Parsed::default();
        let mut words = args.iter();
        self.take(None, &mut words, &mut parsed)?;
        self.check_groups(None, &parsed)?;
        let Some(first) = words.next() else {
            return Err(self.wrong(None, "too few arguments"));
        };
        let Some(command) = self.commands.iter().find(|command| command.name == first) else {
            let names = self.commands.iter().map(|c| format!("'{}'", c.name));
            let names = names.collect::<Vec<_>>().join(", ");
            let what = format!("invalid choice: '{first}' (choose from {names})");
            return Err(self.wrong(None, &what));
        };
        parsed.command = command.name;
        self.take(Some(command), &mut words, &mut parsed)?;
        self.check_groups(Some(command), &parsed)?;
        self.check_required(Some(command), &parsed)?;
        self.check_required(None, &parsed)?;
        Ok(parsed)
    }

    /// The flags of a subcommand, or those before it.
    fn known(&self, command: Option<&Command>) -> &'static [Arg] {
        command.map_or(self.globals, |command| command.args)
    }

    /// Takes flags; without a subcommand, up to the first word that is none.
    fn take(
        &self,
        command: Option<&Command>,
        words: &mut Words,
        parsed: &mut Parsed,
    ) -> Result<(), Refused> {
        while let Some(text) = words.as_slice().first() {
            if command.is_none() && !text.starts_with('-') {
                break;
            }
            words.next();
            if matches!(&text[..], "-h" | "--help") {
                return Err(Refused::Help(self.help(command)));
            }
            let (name, inline) = match text.split_once('=') {
                Some((name, value)) if text.starts_with("--") => (name, Some(value.to_string())),
                _ => (&text[..], None),
            };
            let is_it = |arg: &&Arg| {
                let short = arg.short.map(|short| format!("-{short}"));
                name.strip_prefix("--") == Some(arg.name) || short.as_deref() == Some(name)
            };
            let Some(arg) = self.known(command).iter().find(is_it) else {
                let what = format!("unrecognized arguments: '{text}'");
                return Err(self.wrong(command, &what));
            };
            let value = match (arg.takes_value, inline) {
                (false, _) => String::new(),
                (true, Some(value)) => value,
                (true, None) => words.next().cloned().ok_or_else(|| {
                    let what = format!("argument {}: expected one argument", arg.shown());
                    self.wrong(command, &what)
                })?,
            };
            parsed.given.entry(arg.name).or_default().push(value);
        }
        Ok(())
    }

    /// Flags of one number, in the order of the table.
    fn groups(&self, command: Option<&Command>) -> BTreeMap<u8, Vec<&'static Arg>> {
        let mut groups: BTreeMap<u8, Vec<&Arg>> = BTreeMap::new();
        for arg in self.known(command) {
            if let Some(group) = arg.group {
                groups.entry(group).or_default().push(arg);
            }
        }
        groups
    }

    /// At most one of a group.
    fn check_groups(&self, command: Option<&Command>, parsed: &Parsed) -> Result<(), Refused> {
        for args in self.groups(command).values() {
            let given: Vec<&&Arg> = args.iter().filter(|arg| parsed.has(arg.name)).collect();
            if given.len() > 1 {
                let (second, first) = (given[1].shown(), given[0].shown());
                let what = format!("argument {second}: not allowed with argument {first}");
                return Err(self.wrong(command, &what));
            }
        }
        Ok(())
    }

    fn check_required(&self, command: Option<&Command>, parsed: &Parsed) -> Result<(), Refused> {
        let lacking = |arg: &&Arg| arg.group.is_none() && arg.required && !parsed.has(arg.name);
        if let Some(arg) = self.known(command).iter().find(lacking) {
            let what = format!("argument {} is required", arg.shown());
            return Err(self.wrong(command, &what));
        }
        for args in self.groups(command).values() {
            let given = args.iter().any(|arg| parsed.has(arg.name));
            if !given && args.iter().any(|arg| arg.required) {
                let names: Vec<String> = args.iter().map(|arg| arg.shown()).collect();
                let what = format!("one of the arguments {} is required", names.join(" "));
                return Err(self.wrong(command, &what));
            }
        }
        Ok(())
    }

    /// The last sentence of a refusal, without the usage.
    pub fn sentence<'a>(&self, text: &'a str) -> &'a str {
        let mark = format!("{}: error: ", self.name);
        let at = text.find(&mark).map_or(0, |at| at + mark.len());
        text[at..].trim_end()
    }

    fn wrong(&self, command: Option<&Command>, what: &str) -> Refused {
        Refused::Wrong(format!(
            "{}{}: error: {what}\n",
            self.usage(command),
            self.name
        ))
    }

    fn usage(&self, command: Option<&Command>) -> String {
        let mut text = format!("usage: {}", self.name);
        if let Some(command) = command {
            let _ = write!(text, " {}", command.name);
        }
        text.push_str(" [-h]");
        let args = self.known(command);
        let mut last_group = None;
        for (at, arg) in args.iter().enumerate() {
            let next_group = args.get(at + 1).and_then(|next| next.group);
            let joined = arg.group.is_some() && arg.group == last_group;
            let open = if arg.required { ("(", ")") } else { ("[", "]") };
            let lead = if joined { " | " } else { " " };
            let first = if arg.group.is_some() && !joined {
                open.0
            } else {
                ""
            };
            let last = if arg.group.is_some() && next_group != arg.group {
                open.1
            } else {
                ""
            };
            let shown = match arg.required || arg.group.is_some() {
                true => arg.usage(),
                false => format!("[{}]", arg.usage()),
            };
            let _ = write!(text, "{lead}{first}{shown}{last}");
            last_group = arg.group;
        }
        if command.is_none() {
            let names: Vec<&str> = self.commands.iter().map(|command| command.name).collect();
            let _ = write!(text, " {{{}}} ...", names.join(","));
        }
        text + "\n"
    }

    fn help(&self, command: Option<&Command>) -> String {
        let mut text = self.usage(command);
        let row = |name: &str, help: &str| format!("  {name:<32} {help}\n");
        let about = command.map_or(self.about, |command| command.help);
        let _ = write!(text, "\n{about}\n\n");
        if command.is_none() {
            text.push_str("commands:\n");
            for command in self.commands {
                text.push_str(&row(command.name, command.help));
            }
        }
        let args = self.known(command);
        if command.is_some() || !args.is_empty() {
            text.push_str("options:\n");
            text.push_str(&row("-h, --help", "Print this."));
        }
        for arg in args {
            let short = arg.short.map(|short| format!("-{short}, "));
            let name = format!("{}{}", short.unwrap_or_default(), arg.usage());
            text.push_str(&row(&name, arg.help));
        }
        text
    }
}
