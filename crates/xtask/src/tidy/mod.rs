//! `cargo xtask tidy`: the rules of style that a machine can keep.

mod ratchet;
mod source;

use crate::arrows::{EDGE_ROW, ROWS, row_of};
use crate::files::{self, TextFile};
use source::is_word;

/// What code below the edge never says: it is told the time, its randomness and what others do.
const BANNED_BELOW_EDGE: &[&str] = &[
    "async fn",
    ".await",
    "Instant::now",
    "SystemTime::now",
    "rand::",
    "getrandom",
    "RandomState",
    "HashMap",
    "HashSet",
    "TcpStream",
    "TcpListener",
    "ToSocketAddrs",
    "tokio",
];
/// Nor does it start threads; but tests do, to show that readers without locks see what they should.
const THREADS: &[&str] = &["thread::"];
/// What is nowhere: promises instead of code, and tests that don't run and don't say why.
const BANNED: &[&str] = &["todo!", "unimplemented!", "dbg!", "#[ignore]"];
/// Where people's and machines' own files lie; split so that this file does not name them.
const MACHINE_PATHS: &[[&str; 2]] = &[
    ["/ho", "me/"],
    ["/ro", "ot/"],
    ["/Us", "ers/"],
    ["/wo", "rk/"],
];
/// Crates that may have unsafe code, for the operating system's sake.
const MAY_BE_UNSAFE: &[&str] = &["disk", "node"];

pub fn run(arguments: &[String]) -> Result<(), String> {
    let files = files::all()?;
    if arguments.iter().any(|argument| argument == "--update") {
        return ratchet::update(&files);
    }
    let wrong = check(&files)?;
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "{} lines to mend:\n{}",
            wrong.len(),
            wrong.join("\n")
        )),
    }
}

/// Everything that is not tidy, in one line each.
fn check(files: &[TextFile]) -> Result<Vec<String>, String> {
    let mut wrong = Vec::new();
    for file in files {
        wrong.extend(machine_paths(file));
        if file.is_rust() {
            wrong.extend(banned_words(file));
            wrong.extend(opening(file));
        }
    }
    wrong.extend(ratchet::check(files)?);
    wrong.extend(documents()?);
    Ok(wrong)
}

fn machine_paths(file: &TextFile) -> Vec<String> {
    let says = |line: &str| {
        MACHINE_PATHS
            .iter()
            .any(|parts| line.contains(&parts.concat()))
    };
    let lines = file.text.lines().enumerate().filter(|(_, line)| says(line));
    let said = |(at, line): (usize, &str)| {
        format!("{}:{}: a path of one machine: {line}", file.path, at + 1)
    };
    lines.map(said).collect()
}

fn banned_words(file: &TextFile) -> Vec<String> {
    let row = file.krate().and_then(row_of);
    let below_edge = row.is_some_and(|row| row < EDGE_ROW);
    let tests = file.path.contains("/tests/");
    let edge_words = if below_edge { BANNED_BELOW_EDGE } else { &[] };
    let threads = if below_edge && !tests { THREADS } else { &[] };
    let code = source::code(&file.text);
    let mut wrong = Vec::new();
    for (at, line) in code.lines().enumerate() {
        let words = BANNED.iter().chain(edge_words).chain(threads);
        for word in words.filter(|word| says(line, word)) {
            wrong.push(format!("{}:{}: {word} may not be here", file.path, at + 1));
        }
    }
    wrong
}

/// Whether a line has a word, not as a part of a longer one.
fn says(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + word.len()..]);
        let inside_left = word.starts_with(is_word) && before.ends_with(is_word);
        let inside_right = word.ends_with(is_word) && after.starts_with(is_word);
        !inside_left && !inside_right
    })
}

/// A crate opens with what it decides, and forbids unsafe code.
fn opening(file: &TextFile) -> Vec<String> {
    let Some(krate) = file.krate() else {
        return Vec::new();
    };
    let roots = ["lib", "main"].map(|root| format!("crates/{krate}/src/{root}.rs"));
    if !roots.contains(&file.path) {
        return Vec::new();
    }
    let mut wrong = Vec::new();
    if !file.text.starts_with("//! ") {
        wrong.push(format!(
            "{}: it should open with //! and what it decides",
            file.path
        ));
    }
    let forbids = file.text.contains("#![forbid(unsafe_code)]");
    if !forbids && !MAY_BE_UNSAFE.contains(&krate) {
        wrong.push(format!("{}: #![forbid(unsafe_code)] is missing", file.path));
    }
    wrong
}

/// The README says how to test, and the map names every crate that there is.
fn documents() -> Result<Vec<String>, String> {
    let mut wrong = Vec::new();
    if !files::read("README.md")?.contains("cargo test --workspace") {
        wrong.push("README.md: the command that tests is missing".into());
    }
    let map = files::read("ARCHITECTURE.md")?;
    let root = files::root();
    let crates = ROWS.iter().copied().flatten().chain(&["testkit", "xtask"]);
    for krate in crates.filter(|krate| root.join("crates").join(krate).is_dir()) {
        if !map.contains(&format!("`{krate}`")) {
            wrong.push(format!("ARCHITECTURE.md: `{krate}` is not on the map"));
        }
    }
    Ok(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_project_is_tidy() {
        let wrong = check(&files::all().unwrap()).unwrap();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn words_are_whole() {
        assert!(says("use std::thread::spawn;", "thread::"));
        assert!(!says("operand::new()", "rand::"));
        assert!(!says("MyHashMap::new()", "HashMap"));
        assert!(says("{BTreeMap, HashMap}", "HashMap"));
    }

    #[test]
    fn what_is_wrong_is_found() {
        let file = |path: &str, text: &str| TextFile {
            path: path.into(),
            text: text.into(),
        };
        let bad = file(
            "crates/log/src/lib.rs",
            "fn f() { let t = Instant::now(); }",
        );
        assert_eq!(banned_words(&bad).len(), 1);
        assert_eq!(opening(&bad).len(), 2);
        let edge = file(
            "crates/node/src/x.rs",
            "// todo!\nfn f() { Instant::now(); }",
        );
        assert_eq!(banned_words(&edge), Vec::<String>::new());
        let path = file("README.md", &MACHINE_PATHS[0].concat());
        assert_eq!(machine_paths(&path).len(), 1);
    }
}
