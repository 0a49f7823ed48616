//! Conversations of the admin tools with a node, as text.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use milena_testkit::check;

use crate::node::{Home, Node};

struct Shell {
    home: Home,
    node: Node,
    commands: u32,
}

impl Shell {
    fn new() -> Shell {
        let home = Home::new();
        let node = home.start();
        Shell {
            home,
            node,
            commands: 0,
        }
    }

    /// `file NAME TEXT`, `stdin TEXT | TOOL …` (`;` ends a line), `~TOOL …` (numbers are hidden), or `TOOL …`.
    /// Tools get the node's address; `WORK` is the test's directory.
    fn run(&mut self, line: &str) -> String {
        let work = self.home.path().display().to_string();
        if let Some(rest) = line.strip_prefix("file ") {
            let (name, text) = rest.split_once(' ').expect("a name and a text");
            let text = text.replace(';', "\n");
            fs::write(self.home.path().join(name), text).expect("it can be written");
            return String::new();
        }
        let (stdin, line) = match line.strip_prefix("stdin ") {
            Some(rest) => rest.split_once(" | ").expect("a text and a tool"),
            None => ("", line),
        };
        let (hidden, line) = match line.strip_prefix('~') {
            Some(line) => (true, line),
            None => (false, line),
        };
        let mut words = line.split(' ').map(|word| word.replace("WORK", &work));
        let name = words.next().expect("a tool");
        self.commands += 1;
        let mut child = Command::new(env!("CARGO_BIN_EXE_milena"))
            .arg(name)
            .args(["--bootstrap-server", &self.node.address])
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the tool runs");
        let input = stdin.replace(';', "\n") + "\n";
        let mut pipe = child.stdin.take().expect("it is piped");
        // A tool that does not read may have ended by now.
        let _ = pipe.write_all(if stdin.is_empty() {
            b""
        } else {
            input.as_bytes()
        });
        drop(pipe);
        let output = child.wait_with_output().expect("the tool ends");
        let shown = |bytes: &[u8], mark: &str| {
            let text = String::from_utf8_lossy(bytes);
            let text = text
                .replace(&work, "WORK")
                .replace(&self.node.address, "HOST:PORT");
            let lines = text.lines().filter(|line| !line.starts_with("[20"));
            let lines = lines.take_while(|line| !line.starts_with("Option  "));
            lines.fold(String::new(), |mut all, line| {
                let line = redact(line, hidden);
                let _ = writeln!(all, "{mark}{line}|");
                all
            })
        };
        let stdout = shown(&output.stdout, "|");
        let stderr = shown(&output.stderr, "!");
        let status = output.status.code().expect("a status");
        format!("{stdout}{stderr}status {status}\n")
    }
}

/// Offsets of the metadata log and the controller's port are hidden; where that is asked for, all numbers and the
/// blanks that fill their columns.
fn redact(line: &str, hidden: bool) -> String {
    let mut out = String::new();
    let mut digits = false;
    for (at, c) in line.char_indices() {
        let before = &line[..at];
        let offset = ["Epoch: ", "HighWatermark:", "CONTROLLER://"]
            .iter()
            .any(|name| before.contains(name));
        if c.is_ascii_digit() && (hidden || offset) {
            if !digits {
                out.push('N');
            }
            digits = true;
        } else if !(hidden && c == ' ' && before.ends_with(' ')) {
            out.push(c);
            digits = false;
        }
    }
    out
}

#[test]
fn admin_tools_speak_with_a_node() {
    let mut shell = Shell::new();
    check("admin_tools.txt", |line| shell.run(line));
    println!("tools: {} command lines", shell.commands);
}
