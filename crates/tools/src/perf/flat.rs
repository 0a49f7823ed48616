//! Command lines without subcommands in the form of the JVM tools' other parser (argparse4j).

use crate::connect::{self, Properties};
use crate::say::{Stop, out};
use crate::subcommands::{Parsed, Refused, Tool};

/// Takes a command line apart. `many` are flags that take values until the next flag.
pub fn parse(tool: &Tool, args: &[String], many: &[&str]) -> Result<Parsed, Stop> {
    let asks = args.iter().any(|arg| arg == "-h" || arg == "--help");
    let mut line = vec![tool.commands[0].name.to_owned()];
    let mut collecting: Option<&str> = None;
    for arg in args {
        let name = arg.strip_prefix("--");
        if arg.starts_with('-') && arg.len() > 1 && arg.parse::<f64>().is_err() {
            collecting = many.iter().copied().find(|flag| name == Some(flag));
            if collecting.is_none() {
                line.push(arg.clone());
            }
        } else if let Some(flag) = collecting {
            line.extend([format!("--{flag}"), arg.clone()]);
        } else {
            line.push(arg.clone());
        }
    }
    let without_command = |text: String| {
        let command = format!("{} {} ", tool.name, tool.commands[0].name);
        text.replacen(&command, &format!("{} ", tool.name), 1)
    };
    // Kafka's tools print their usage, and succeed, where nothing was asked of them.
    if args.is_empty() || asks {
        let help = tool.parse(&[tool.commands[0].name.to_owned(), "--help".to_owned()]);
        if let Err(Refused::Help(text)) = help {
            out(without_command(text));
        }
        return Err(Stop::Status(if asks { 1 } else { 0 }));
    }
    tool.parse(&line).map_err(|refused| match refused {
        Refused::Help(text) | Refused::Wrong(text) => {
            eprint!("{}", without_command(text));
            Stop::Status(1)
        }
    })
}

/// A number with Kafka's words for what is none.
pub fn number<T: std::str::FromStr>(
    tool: &Tool,
    parsed: &Parsed,
    name: &str,
) -> Result<Option<T>, Stop> {
    let parse = |text: &str| {
        text.parse().map_err(|_| {
            let tool = tool.name;
            Stop::Message(format!(
                "{tool}: error: argument --{name}: could not convert '{text}' to a number"
            ))
        })
    };
    parsed.value(name).map(parse).transpose()
}

/// The client's properties: from the file of `files` that is given, then from `pairs`, then the addresses.
pub fn properties(parsed: &Parsed, files: &[&str], pairs: &[&str]) -> Result<Properties, Stop> {
    let mut properties = Properties::new();
    let given: Vec<&&str> = files.iter().filter(|file| parsed.has(file)).collect();
    if given.len() > 1 {
        return Err(Stop::Message(format!(
            "--{} and --{} cannot be specified together.",
            files[0], files[1]
        )));
    }
    if let Some(path) = given.first().and_then(|file| parsed.value(file)) {
        properties = connect::load(path)?;
    }
    for flag in pairs.iter().filter(|flag| parsed.has(flag)) {
        properties.extend(connect::pairs(&parsed.values(flag))?);
    }
    if let Some(servers) = parsed.value("bootstrap-server") {
        properties.insert("bootstrap.servers".into(), servers.into());
    }
    Ok(properties)
}
