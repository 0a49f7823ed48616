//! Transcripts: a conversation as a text file that a person can read and argue about.
//!
//! ```text
//! # A follower that does not fetch leaves the ISR.
//! > fetch from=2 offset=7
//! high_watermark=5
//!
//! > tick 31s
//! send alter_partition isr=[1,3] epoch=5
//! ```
//!
//! A line that opens with `>` is said to the machine, what follows is what it must answer; lines that open with
//! `#` are comments. `UPDATE=1 cargo test` rewrites the answers; the diff is read before it is committed.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Plays `tests/transcripts/<file>` of the crate under test: `answer` gets each line without its `> ` and says
/// what the machine did, a fact a line (nothing: `""`). Panics where the file says otherwise.
pub fn check(file: &str, answer: impl FnMut(&str) -> String) {
    play(&transcripts().join(file), answer);
}

/// Plays every file of `tests/transcripts/<folder>`, each with a machine of its own. Panics where there is none.
pub fn check_each<A: FnMut(&str) -> String>(folder: &str, mut machine: impl FnMut() -> A) {
    let folder = transcripts().join(folder);
    let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|e| e == "txt"));
    files.sort();
    assert!(!files.is_empty(), "no transcript in {}", folder.display());
    for file in files {
        play(&file, machine());
    }
}

fn transcripts() -> PathBuf {
    let root = std::env::var_os("CARGO_MANIFEST_DIR").expect("tests run under cargo");
    Path::new(&root).join("tests/transcripts")
}

fn play(file: &Path, answer: impl FnMut(&str) -> String) {
    let expected = fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let actual =
        replay(&expected, answer).unwrap_or_else(|trouble| panic!("{}: {trouble}", file.display()));
    if actual == expected {
        return;
    }
    if std::env::var_os("UPDATE").is_some_and(|update| update == "1") {
        fs::write(file, actual).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        return;
    }
    panic!(
        "{} differs (- file, + machine; UPDATE=1 rewrites it)\n{}",
        file.display(),
        difference(&expected, &actual)
    );
}

/// The transcript as the machine would have it.
fn replay(text: &str, mut answer: impl FnMut(&str) -> String) -> Result<String, String> {
    let mut out = String::new();
    let mut said = 0;
    // Comments and blank lines stand between the answer and the next command, and are kept.
    let mut in_answer = false;
    for line in text.lines() {
        if let Some(command) = line.strip_prefix('>') {
            said += 1;
            let _ = writeln!(out, "{line}");
            write_answer(&mut out, &answer(command.trim()))?;
            in_answer = true;
        } else if line.is_empty() || line.starts_with('#') {
            in_answer = false;
            let _ = writeln!(out, "{line}");
        } else if !in_answer {
            return Err(format!("{line:?} answers no command"));
        }
    }
    match said {
        0 => Err("it says nothing to the machine".to_string()),
        _ => Ok(out),
    }
}

fn write_answer(out: &mut String, answer: &str) -> Result<(), String> {
    for line in answer.lines().filter(|line| !line.is_empty()) {
        if line.starts_with(['>', '#']) {
            return Err(format!("an answer may not open with > or #: {line:?}"));
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
    Ok(())
}

/// The lines that differ, with the command that each belongs to; as long as the difference, no longest match.
fn difference(expected: &str, actual: &str) -> String {
    let mut out = String::new();
    for (old, new) in sections(expected).iter().zip(sections(actual)) {
        if *old != new {
            let _ = writeln!(out, "  {}", old[0]);
            for line in old[1..].iter().filter(|line| !new[1..].contains(line)) {
                let _ = writeln!(out, "- {line}");
            }
            for line in new[1..].iter().filter(|line| !old[1..].contains(line)) {
                let _ = writeln!(out, "+ {line}");
            }
        }
    }
    out
}

/// Each command with its answer; both texts have the same commands.
fn sections(text: &str) -> Vec<Vec<&str>> {
    let mut sections: Vec<Vec<&str>> = Vec::new();
    for line in text.lines() {
        match (line.starts_with('>'), sections.last_mut()) {
            (true, _) => sections.push(vec![line]),
            (false, Some(section)) if !line.is_empty() => section.push(line),
            _ => {}
        }
    }
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echo(line: &str) -> String {
        line.replace(' ', "\n")
    }

    #[test]
    fn a_right_transcript_is_left_as_it_is() {
        let text = "# why\n> a b\na\nb\n\n# then\n>\n> c\nc\n";
        assert_eq!(replay(text, echo).unwrap(), text);
    }

    #[test]
    fn a_wrong_one_is_shown_by_its_command() {
        let text = "> a b\na\n\n> c\nc\n";
        let actual = replay(text, echo).unwrap();
        assert_eq!(actual, "> a b\na\nb\n\n> c\nc\n");
        assert_eq!(difference(text, &actual), "  > a b\n+ b\n");
    }

    #[test]
    fn what_can_prove_nothing_is_refused() {
        assert!(replay("# only words\n", echo).is_err());
        assert!(replay("stray\n> a\n", echo).is_err());
        assert!(replay("> a\n", |_| "> b".to_string()).is_err());
    }
}
