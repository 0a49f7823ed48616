//! Apache Kafka's tools of one release in one JVM, one invocation after the other: `interop/java/Tools.java`.

use std::collections::BTreeMap;
use std::io::{BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::java;

/// How long a tool may take, in milliseconds, before it is ended and its process with it.
const TOOL_MS_MAX: u32 = 90_000;
/// The process itself enforces that limit; this is for the case that it does not.
const ANSWER_LIMIT: Duration = Duration::from_millis(TOOL_MS_MAX as u64 + 30_000);

/// What a tool left behind.
#[derive(Debug)]
pub struct Said {
    pub status: i32,
    pub out: String,
    pub err: String,
}

/// A JVM with one release's tools; dropping it ends it.
pub struct ToolHost {
    version: &'static str,
    child: Child,
    pipe: ChildStdin,
    answers: Receiver<Said>,
    mains: BTreeMap<String, String>,
    pub invocations: u32,
}

impl ToolHost {
    pub fn start(version: &'static str) -> Result<ToolHost, String> {
        let mut child = java::start_answering("Tools", version, &[])?;
        let pipe = child.stdin.take().ok_or("no pipe to java")?;
        let stdout = child.stdout.take().ok_or("no pipe from java")?;
        let (sender, answers) = channel();
        std::thread::spawn(move || {
            let mut stdout = BufReader::new(stdout);
            while let Ok(said) = answer(&mut stdout) {
                if sender.send(said).is_err() {
                    return;
                }
            }
        });
        Ok(ToolHost {
            version,
            child,
            pipe,
            answers,
            mains: BTreeMap::new(),
            invocations: 0,
        })
    }

    /// Runs a tool by its script's name, with or without `.sh`.
    pub fn run(&mut self, tool: &str, words: &[&str], typed: &str) -> Result<Said, String> {
        let main = self.main_class(tool)?;
        let sent = self.send(&main, words, typed);
        sent.map_err(|e| format!("{tool} {}: no JVM to run it: {e}", self.version))?;
        self.invocations += 1;
        let said = self.answers.recv_timeout(ANSWER_LIMIT);
        said.map_err(|e| format!("{tool} {} {words:?}: {e}", self.version))
    }

    /// Like [`ToolHost::run`] for a tool that has to succeed; what it printed.
    pub fn ok(&mut self, tool: &str, words: &[&str], typed: &str) -> Result<Said, String> {
        let said = self.run(tool, words, typed)?;
        match said.status {
            0 => Ok(said),
            status => Err(format!(
                "{tool} {} {words:?}: status {status}\n{}{}",
                self.version, said.out, said.err
            )),
        }
    }

    fn main_class(&mut self, tool: &str) -> Result<String, String> {
        if let Some(main) = self.mains.get(tool) {
            return Ok(main.clone());
        }
        let main = java::script(&[self.version, "main", tool])?;
        let main = main.trim().to_owned();
        self.mains.insert(tool.to_owned(), main.clone());
        Ok(main)
    }

    fn send(&mut self, main: &str, words: &[&str], typed: &str) -> std::io::Result<()> {
        let mut bytes = TOOL_MS_MAX.to_be_bytes().to_vec();
        let text = |text: &str, bytes: &mut Vec<u8>| {
            bytes.extend((text.len() as u32).to_be_bytes());
            bytes.extend(text.as_bytes());
        };
        text(main, &mut bytes);
        bytes.extend((words.len() as u32).to_be_bytes());
        for word in words {
            text(word, &mut bytes);
        }
        text(typed, &mut bytes);
        self.pipe.write_all(&bytes)?;
        self.pipe.flush()
    }
}

impl Drop for ToolHost {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn answer(stdout: &mut BufReader<ChildStdout>) -> std::io::Result<Said> {
    let status = number(stdout)?;
    Ok(Said {
        status,
        out: text(stdout)?,
        err: text(stdout)?,
    })
}

fn number(stdout: &mut BufReader<ChildStdout>) -> std::io::Result<i32> {
    let mut bytes = [0; 4];
    stdout.read_exact(&mut bytes)?;
    Ok(i32::from_be_bytes(bytes))
}

fn text(stdout: &mut BufReader<ChildStdout>) -> std::io::Result<String> {
    let mut bytes = vec![0; number(stdout)?.max(0) as usize];
    stdout.read_exact(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
