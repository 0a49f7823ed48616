//! The one binary: the server, and every tool under Kafka's name.
//!
//! `milena` alone runs a broker with defaults; `milena kafka-topics …` is the tool of that name.
#![forbid(unsafe_code)]

mod server;

use std::ffi::OsString;
use std::process::ExitCode;

const SERVER_START: &str = "kafka-server-start";

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let program = args.next().unwrap_or_default();
    let mut args: Vec<OsString> = args.collect();
    let called_as = std::path::Path::new(&program)
        .file_stem()
        .and_then(|stem| stem.to_str())
        .unwrap_or_default()
        .to_owned();
    let name = match milena_tools::NAMES.contains(&called_as.as_str()) {
        true => called_as,
        false if args.is_empty() => SERVER_START.to_owned(),
        false => args.remove(0).to_string_lossy().into_owned(),
    };
    match name.trim_end_matches(".sh") {
        SERVER_START if args.iter().any(|arg| arg == "--version") => {
            println!("{}", version());
            ExitCode::SUCCESS
        }
        SERVER_START => server::start(args),
        "--version" | "-V" => {
            println!("{}", version());
            ExitCode::SUCCESS
        }
        "--help" | "-h" | "help" => {
            print!("{}", help());
            ExitCode::SUCCESS
        }
        "completion" => completion(&args),
        tool if milena_tools::NAMES.contains(&tool) => {
            ExitCode::from(milena_tools::run(tool, args).clamp(0, 255) as u8)
        }
        other => {
            eprintln!("milena: there is no command {other:?}; `milena --help` lists them");
            ExitCode::from(2)
        }
    }
}

/// Prints the completion script of a shell.
fn completion(args: &[OsString]) -> ExitCode {
    let shell = args
        .first()
        .and_then(|shell| shell.to_str())
        .unwrap_or_default();
    match milena_tools::completion::script(shell) {
        Some(script) => {
            print!("{script}");
            ExitCode::SUCCESS
        }
        None => {
            eprintln!("milena completion: say for which shell: bash, zsh or fish");
            ExitCode::from(2)
        }
    }
}

fn version() -> String {
    milena_tools::version()
}

fn help() -> String {
    let mut text = format!(
        "{}\n\n  milena                                       a broker with defaults: localhost:9092, data in ./{}\n  \
         milena {SERVER_START} server.properties [--override key=value]…\n  bin/kafka-server-stop.sh\n\nTools, each with its own --help:\n",
        version(),
        server::DEFAULT_DATA_DIR,
    );
    for name in milena_tools::NAMES {
        text += &format!("  milena {name}\n");
    }
    text
}
