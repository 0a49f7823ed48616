//! Cases in text files: `=== name`, the input, `--- `, what came of it. `UPDATE=1` rewrites the outcomes.

use std::fmt::Write;
use std::path::PathBuf;

/// Runs each case of a file through `outcome` and compares.
pub fn check(file: &str, outcome: impl Fn(&str) -> String) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/it")
        .join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    let mut actual = String::new();
    let mut count = 0;
    for case in text.split("=== ").skip(1) {
        let (name, rest) = case.split_once('\n').unwrap();
        let (input, _) = rest.split_once("---\n").unwrap();
        let result = outcome(input);
        writeln!(actual, "=== {name}\n{input}---\n{}\n", result.trim_end()).unwrap();
        count += 1;
    }
    assert!(count > 0, "{file} has no cases");
    let head = text.split("=== ").next().unwrap();
    let actual = format!("{head}{}\n", actual.trim_end());
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, actual).unwrap();
    } else {
        assert_eq!(text, actual, "{file} (UPDATE=1 rewrites it)");
    }
}
