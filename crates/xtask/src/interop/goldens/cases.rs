//! Files of commands. A case is a paragraph:
//!
//! ```text
//! == its name
//! $ kafka-topics.sh --bootstrap-server BROKER --list
//! < a line that is typed
//! | NAME: a line of the input file WORK/NAME
//! while GROUP: a console consumer that is a member of the group from here to the end of the file
//! any order
//! any order of configs
//! mask REGEX
//! differs WHO: reason
//! not yet WHO: reason
//! ```
//!
//! `BROKER`, `CONTROLLER`, `DATA` and `WORK` stand for the world's own. `any order`: lines of stdout are compared
//! sorted. `any order of configs`: what follows `Configs: ` is. `mask`: what matches, on stdout, is not compared.
//! `differs`: who is `tool` (our tools), `broker` (Milena), `both` (only our tools on Milena), or several of these; the
//! difference has to be there. `not yet` likewise, but the difference may be gone.

use std::fmt::Write;

use super::masks::Masks;
use super::worlds::{Answer, Tools};
use crate::interop::java;
use crate::interop::server::Maker;

pub const SETUP: &str = "setup";

#[derive(Debug, Default)]
pub struct Case {
    pub prefix: String,
    title: String,
    pub command: String,
    pub typed: String,
    /// Names and texts.
    pub files: Vec<(String, String)>,
    /// Groups and the commands of their members.
    pub members: Vec<(String, String)>,
    any_order: bool,
    any_config_order: bool,
    masks: Vec<String>,
    /// Who, and why.
    differs: Vec<(String, String)>,
    not_yet: Vec<(String, String)>,
}

/// What is compared of an answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    status: i32,
    out: Vec<String>,
    complaint: String,
}

/// All cases in order.
pub fn read(prefixes: &[&str]) -> Result<Vec<Case>, String> {
    let mut all = Vec::new();
    for prefix in prefixes {
        let path = java::root().join(format!("interop/goldens/{prefix}.txt"));
        let text =
            std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let cases = parse(prefix, &text).map_err(|line| format!("{}: {line:?}", path.display()))?;
        all.extend(cases);
    }
    Ok(all)
}

/// The cases of a file, or the line that is no part of one.
fn parse(prefix: &str, text: &str) -> Result<Vec<Case>, String> {
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(title) = line.strip_prefix("== ") {
            cases.push(Case {
                prefix: prefix.to_owned(),
                title: title.to_owned(),
                ..Case::default()
            });
            continue;
        }
        let case = cases.last_mut().ok_or(line)?;
        case.take(line).ok_or(line)?;
    }
    match cases.iter().find(|case| case.command.is_empty()) {
        Some(case) => Err(case.title.clone()),
        None => Ok(cases),
    }
}

/// A word on the exit status where it is another too.
pub fn status(wanted: &Seen, seen: &Seen) -> String {
    match (wanted.status, seen.status) {
        (wanted, seen) if wanted == seen => String::new(),
        (wanted, seen) => format!(" (and the status is {seen}, not {wanted})"),
    }
}

/// What is between the two, line by line.
pub fn difference(wanted: &Seen, seen: &Seen) -> String {
    let mut text = String::new();
    let mut side = |mark: char, one: &Seen, other: &Seen| {
        if one.status != other.status {
            let _ = writeln!(text, "    {mark} status {}", one.status);
        }
        let mut rest: Vec<&String> = other.out.iter().collect();
        for line in &one.out {
            match rest.iter().position(|there| *there == line) {
                Some(at) => drop(rest.remove(at)),
                None => drop(writeln!(text, "    {mark} {line}")),
            }
        }
        if one.complaint != other.complaint {
            let _ = writeln!(text, "    {mark} stderr: {}", one.complaint);
        }
    };
    side('-', wanted, seen);
    side('+', seen, wanted);
    if text.is_empty() {
        text += "    the same lines in another order\n";
    }
    text
}

impl Case {
    fn take(&mut self, line: &str) -> Option<()> {
        let named = |rest: &str| {
            let (name, text) = rest.split_once(':')?;
            Some((name.trim().to_owned(), text.trim().to_owned()))
        };
        if let Some(command) = line.strip_prefix("$ ") {
            self.command = command.to_owned();
        } else if let Some(typed) = line.strip_prefix("< ") {
            self.typed += &format!("{}\n", typed.replace("\\t", "\t"));
        } else if let Some(rest) = line.strip_prefix("| ") {
            let (name, text) = named(rest)?;
            match self.files.iter_mut().find(|(there, _)| *there == name) {
                Some((_, all)) => *all += &format!("{text}\n"),
                None => self.files.push((name, format!("{text}\n"))),
            }
        } else if let Some(rest) = line.strip_prefix("while ") {
            self.members.push(named(rest)?);
        } else if let Some(rest) = line.strip_prefix("differs ") {
            self.differs.push(named(rest)?);
        } else if let Some(rest) = line.strip_prefix("not yet ") {
            self.not_yet.push(named(rest)?);
        } else if let Some(regex) = line.strip_prefix("mask ") {
            self.masks.push(regex.to_owned());
        } else if line == "any order" {
            self.any_order = true;
        } else if line == "any order of configs" {
            self.any_config_order = true;
        } else {
            return None;
        }
        Some(())
    }

    pub fn name(&self) -> String {
        format!("{} {}", self.prefix, self.title)
    }

    /// The script's name.
    pub fn tool(&self) -> &str {
        self.command.split(' ').next().unwrap_or_default()
    }

    /// Why this world's answer is meant to differ.
    pub fn differs(&self, tools: Tools, broker: Maker) -> Option<&str> {
        reason(&self.differs, tools, broker)
    }

    /// Why this world's answer may differ still.
    pub fn not_yet(&self, tools: Tools, broker: Maker) -> Option<&str> {
        reason(&self.not_yet, tools, broker)
    }

    /// What is compared of an answer.
    pub fn seen(&self, answer: &Answer, masks: &Masks) -> Result<Seen, String> {
        let mut out: Vec<String> = answer.out.lines().map(|line| masks.apply(line)).collect();
        for mask in &self.masks {
            let regex = regex_lite::Regex::new(mask)
                .map_err(|e| format!("{}: {mask}: {e}", self.name()))?;
            for line in &mut out {
                *line = regex.replace_all(line, "*").into_owned();
            }
        }
        if self.any_config_order {
            out.iter_mut().for_each(sort_configs);
        }
        if self.any_order {
            out.sort_unstable();
        }
        Ok(Seen {
            status: answer.status,
            out,
            complaint: masks.apply(&super::masks::first_sentence(&answer.err)),
        })
    }
}

/// The reason for who is among the names.
fn reason(reasons: &[(String, String)], tools: Tools, broker: Maker) -> Option<&str> {
    let who = match (tools, broker) {
        (Tools::Milena, Maker::Milena) => &["tool", "broker", "both"][..],
        (Tools::Milena, Maker::Kafka) => &["tool"],
        (Tools::Kafka, _) => &["broker"],
    };
    let meant = reasons
        .iter()
        .find(|(name, _)| name.split(' ').any(|name| who.contains(&name)))?;
    Some(&meant.1)
}

/// Sorts what is between the commas after `Configs: `.
fn sort_configs(line: &mut String) {
    if let Some((before, configs)) = line.split_once("Configs: ") {
        let mut configs: Vec<&str> = configs.split(',').collect();
        configs.sort_unstable();
        *line = format!("{before}Configs: {}", configs.join(","));
    }
}

/// Words of a command as a shell splits them: blanks part, single quotes keep.
pub fn words(command: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut open) = (Vec::new(), String::new(), false, false);
    for c in command.chars() {
        match c {
            '\'' => (quoted, open) = (!quoted, true),
            ' ' if !quoted => {
                if open {
                    words.push(std::mem::take(&mut word));
                }
                open = false;
            }
            c => {
                word.push(c);
                open = true;
            }
        }
    }
    if open {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
# a remark
== one
$ kafka-x.sh --topic 'a b' --empty ''
< typed\\tline
| in.json: {\"a\":1}
any order
differs tool: it says more
";

    #[test]
    fn a_file_is_parsed() {
        let cases = parse("x", FILE).expect("it is well formed");
        let case = &cases[0];
        assert_eq!(
            words(&case.command),
            ["kafka-x.sh", "--topic", "a b", "--empty", ""]
        );
        assert_eq!((case.name().as_str(), case.tool()), ("x one", "kafka-x.sh"));
        assert_eq!(case.typed, "typed\tline\n");
        assert_eq!(case.files, [("in.json".into(), "{\"a\":1}\n".into())]);
        assert_eq!(
            case.differs(Tools::Milena, Maker::Kafka),
            Some("it says more")
        );
        assert_eq!(case.differs(Tools::Kafka, Maker::Milena), None);
        assert_eq!(parse("x", "== one\n").unwrap_err(), "one");
        assert_eq!(parse("x", "== one\nwhat\n").unwrap_err(), "what");
    }

    #[test]
    fn order_counts_unless_it_does_not() {
        let mut case = Case::default();
        let answer = |out: &str| Answer {
            status: 0,
            out: out.into(),
            err: String::new(),
        };
        let masks = Masks::new();
        let seen = |case: &Case, out| case.seen(&answer(out), &masks).expect("no masks");
        let (there, back) = ("a\nb\n", "b\na\n");
        assert_ne!(seen(&case, there), seen(&case, back));
        let text = difference(&seen(&case, there), &seen(&case, back));
        assert!(text.contains("another order"));
        case.any_order = true;
        assert_eq!(seen(&case, there), seen(&case, back));
        let text = difference(&seen(&case, "a\nb\n"), &seen(&case, "a\nc\n"));
        assert_eq!(text, "    - b\n    + c\n");
    }
}
