//! Java programs of `interop/java`, compiled at run time against Apache Kafka's jars.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The level that we claim.
pub const KAFKA: &str = "4.4.0";

/// The project's own directory.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Says what is missing of the programs that every part needs.
pub fn needed() -> Result<(), String> {
    let runs = |program: &str, flag: &str| {
        let mut command = Command::new(program);
        command.arg(flag).stdin(Stdio::null());
        let command = command.stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let programs = [("javac", "-version", "a JDK 17"), ("mvn", "-v", "Maven")];
    let missing = programs.iter().filter(|(name, flag, _)| !runs(name, flag));
    let missing: Vec<&str> = missing.map(|(_, _, what)| *what).collect();
    match missing.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "interop needs {} on the path",
            missing.join(" and ")
        )),
    }
}

/// The class path of a Kafka release; fetches the jars where they are not in the cache yet.
pub fn classpath(version: &str) -> Result<String, String> {
    let script = root().join("interop/apache-kafka");
    let output = Command::new(&script)
        .args([version, "classpath"])
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| format!("{}: {e}", script.display()))?;
    if !output.status.success() {
        return Err(format!("no jars of Apache Kafka {version}: see above"));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_string())
}

/// Runs the script `interop/apache-kafka`; what it printed.
pub fn script(arguments: &[&str]) -> Result<String, String> {
    let script = root().join("interop/apache-kafka");
    let output = Command::new(&script)
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| format!("{}: {e}", script.display()))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    match output.status.success() {
        true => Ok(said),
        false => Err(format!("apache-kafka {}: {said}", arguments.join(" "))),
    }
}

/// Compiles `interop/java/NAME.java` and starts its main class with a pipe to its standard input.
pub fn start(name: &str, version: &str, arguments: &[&str]) -> Result<Child, String> {
    spawn(name, version, arguments, Stdio::inherit())
}

/// Like [`start`], with a pipe from its standard output too.
pub fn start_answering(name: &str, version: &str, arguments: &[&str]) -> Result<Child, String> {
    spawn(name, version, arguments, Stdio::piped())
}

fn spawn(name: &str, version: &str, arguments: &[&str], stdout: Stdio) -> Result<Child, String> {
    let jars = classpath(version)?;
    let classes = target_dir().join("interop/classes").join(version);
    std::fs::create_dir_all(&classes).map_err(|e| format!("{}: {e}", classes.display()))?;
    let source = root().join("interop/java").join(format!("{name}.java"));
    let compiled = Command::new("javac")
        .args(["-nowarn", "-Xlint:none", "-cp", &jars, "-d"])
        .arg(&classes)
        .arg(&source)
        .status()
        .map_err(|e| format!("javac: {e}; a JDK 17 is needed"))?;
    if !compiled.success() {
        return Err(format!("{} does not compile", source.display()));
    }
    let logging = root().join("interop/java/log4j2.properties");
    Command::new("java")
        .args(["-Xmx1g", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
        .arg(format!("-Dlog4j2.configurationFile={}", logging.display()))
        .arg("-cp")
        .arg(format!("{}:{jars}", classes.display()))
        .arg(name)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(stdout)
        .spawn()
        .map_err(|e| format!("java: {e}"))
}

/// Build products, ours too, stay under cargo's target directory.
pub fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}
