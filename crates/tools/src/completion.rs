//! Shell completion: scripts for bash, zsh and fish, made from the tools' own tables of flags.

use std::fmt::Write as _;

use crate::NAMES;
use crate::options::Spec;
use crate::subcommands::Tool;

/// A word that may follow, and what it is for.
type Word = (String, &'static str);

enum Table {
    Flags(&'static Spec),
    Commands(&'static Tool),
}

fn table(name: &str) -> Option<Table> {
    use crate::*;
    Some(match name {
        "kafka-broker-api-versions" => Table::Flags(&api_versions::SPEC),
        "kafka-client-metrics" => Table::Flags(&client_metrics::SPEC),
        "kafka-cluster" => Table::Commands(&cluster::TOOL),
        "kafka-configs" => Table::Flags(&configs::flags::SPEC),
        "kafka-console-consumer" => Table::Flags(&console_consumer::flags::SPEC),
        "kafka-console-producer" => Table::Flags(&console_producer::flags::SPEC),
        "kafka-consumer-groups" => Table::Flags(&consumer_groups::flags::SPEC),
        "kafka-consumer-perf-test" => Table::Flags(&perf::consumer::SPEC),
        "kafka-delete-records" => Table::Flags(&delete_records::SPEC),
        "kafka-dump-log" => Table::Flags(&dump_log::flags::SPEC),
        "kafka-e2e-latency" => Table::Flags(&perf::e2e::SPEC),
        "kafka-features" => Table::Commands(&features::TOOL),
        "kafka-get-offsets" => Table::Flags(&get_offsets::SPEC),
        "kafka-groups" => Table::Flags(&groups::SPEC),
        "kafka-jmx" => Table::Flags(&jmx::SPEC),
        "kafka-leader-election" => Table::Flags(&leader_election::SPEC),
        "kafka-log-dirs" => Table::Flags(&log_dirs::SPEC),
        "kafka-metadata-quorum" => Table::Commands(&metadata_quorum::TOOL),
        "kafka-producer-perf-test" => Table::Commands(&perf::producer::TOOL),
        "kafka-reassign-partitions" => Table::Flags(&reassign::SPEC),
        "kafka-storage" => Table::Commands(&storage::TOOL),
        "kafka-topics" => Table::Flags(&topics::flags::SPEC),
        "kafka-transactions" => Table::Commands(&transactions::TOOL),
        "kafka-verifiable-consumer" => Table::Commands(&perf::verifiable_consumer::TOOL),
        "kafka-verifiable-producer" => Table::Commands(&perf::verifiable_producer::TOOL),
        _ => return None,
    })
}

/// What may follow a tool's name: its flags, or its subcommands with all of their flags.
fn words(name: &str) -> Vec<Word> {
    let mut words: Vec<Word> = match table(name) {
        Some(Table::Flags(spec)) => {
            let flags = spec.flags.iter();
            flags
                .map(|flag| (format!("--{}", flag.name), flag.help))
                .collect()
        }
        Some(Table::Commands(tool)) => {
            let globals = tool.globals.iter();
            let mut words: Vec<Word> = globals
                .map(|arg| (format!("--{}", arg.name), arg.help))
                .collect();
            for command in tool.commands {
                words.push((command.name.to_owned(), command.help));
                let args = command.args.iter();
                words.extend(args.map(|arg| (format!("--{}", arg.name), arg.help)));
            }
            words
        }
        None => vec![("--help".to_owned(), "Print this.")],
    };
    words.sort();
    words.dedup_by(|a, b| a.0 == b.0);
    words
}

/// The script of a shell; `None` for one that is not known.
pub fn script(shell: &str) -> Option<String> {
    match shell {
        "bash" => Some(bash()),
        "zsh" => Some(zsh()),
        "fish" => Some(fish()),
        _ => None,
    }
}

fn joined(name: &str) -> String {
    let words: Vec<String> = words(name).into_iter().map(|(word, _)| word).collect();
    words.join(" ")
}

fn bash() -> String {
    let mut cases = String::new();
    for name in NAMES {
        let _ = writeln!(cases, "        {name}) words=\"{}\" ;;", joined(name));
    }
    format!(
        "# Milena's completion for bash: source <(milena completion bash)
_milena() {{
    local tool=${{COMP_WORDS[0]##*/}} word=${{COMP_WORDS[COMP_CWORD]}} words=\"\"
    if [ \"$tool\" = milena ]; then
        if [ \"$COMP_CWORD\" -le 1 ]; then
            COMPREPLY=($(compgen -W \"kafka-server-start {}\" -- \"$word\"))
            return
        fi
        tool=${{COMP_WORDS[1]}}
    fi
    case ${{tool%.sh}} in
{cases}    esac
    COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))
}}
complete -o default -F _milena milena {}
",
        NAMES.join(" "),
        scripts().join(" "),
    )
}

fn zsh() -> String {
    format!(
        "# Milena's completion for zsh: source <(milena completion zsh)
autoload -U +X bashcompinit && bashcompinit
{}",
        bash()
    )
}

fn fish() -> String {
    let mut text =
        String::from("# Milena's completion for fish: milena completion fish | source\n");
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('\'', "\\'");
    for name in NAMES {
        let _ = writeln!(
            text,
            "complete -c milena -n __fish_use_subcommand -f -a {name}"
        );
        for (word, help) in words(name) {
            let help = quoted(help);
            let what = match word.strip_prefix("--") {
                Some(flag) => format!("-l {flag}"),
                None => format!("-a {word}"),
            };
            let _ = writeln!(text, "complete -c {name}.sh {what} -d '{help}'");
            let _ = writeln!(
                text,
                "complete -c milena -n '__fish_seen_subcommand_from {name}' {what} -d '{help}'"
            );
        }
    }
    text
}

fn scripts() -> Vec<String> {
    NAMES.iter().map(|name| format!("{name}.sh")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_has_a_table() {
        for name in NAMES {
            assert!(table(name).is_some(), "{name} has no row in the completion");
        }
    }

    #[test]
    fn scripts_know_tools_and_flags() {
        for shell in ["bash", "zsh", "fish"] {
            let text = script(shell).unwrap();
            assert!(NAMES.iter().all(|name| text.contains(name)), "{shell}");
            let flag = if shell == "fish" {
                "-l partitions"
            } else {
                "--partitions"
            };
            assert!(text.contains(flag), "{shell}");
        }
        assert_eq!(script("tcsh"), None);
    }
}
