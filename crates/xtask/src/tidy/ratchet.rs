//! Sizes: 70 lines a function, 800 a file. What was bigger when the rule came stands in a list with its size, and
//! may only shrink; `cargo xtask tidy --update` writes the list anew, for a person to read the diff.

use std::collections::BTreeMap;

use super::source;
use crate::files::{self, TextFile};

const FUNCTION_LINES_MAX: usize = 70;
const FILE_LINES_MAX: usize = 800;
const LIST: &str = "crates/xtask/tidy-exceptions.txt";
const HEADER: &str =
    "# Bigger than the rule allows, with its lines: may only shrink (cargo xtask tidy --update).\n";

/// What is too big, `path` or `path name`, and its lines.
type Sizes = BTreeMap<String, usize>;

fn too_big(files: &[TextFile]) -> Sizes {
    let mut sizes = Sizes::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let lines = file.text.lines().count();
        if lines > FILE_LINES_MAX {
            sizes.insert(file.path.clone(), lines);
        }
        for function in source::functions(&source::code(&file.text)) {
            if function.lines > FUNCTION_LINES_MAX {
                let name = format!("{} {}", file.path, function.name);
                let size = sizes.entry(name).or_default();
                *size = function.lines.max(*size);
            }
        }
    }
    sizes
}

fn listed() -> Result<Sizes, String> {
    let text = files::read(LIST)?;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let entry = |line: &str| {
        let (name, lines) = line.rsplit_once(' ')?;
        Some((name.to_owned(), lines.parse().ok()?))
    };
    let entries = lines.map(|line| entry(line).ok_or(format!("{LIST}: not an entry: {line}")));
    entries.collect()
}

/// What grew past its size, and entries that are no longer so big.
pub fn check(files: &[TextFile]) -> Result<Vec<String>, String> {
    Ok(compare(&too_big(files), &listed()?))
}

fn compare(found: &Sizes, listed: &Sizes) -> Vec<String> {
    let grew = |name: &&String| found[*name] > listed.get(*name).copied().unwrap_or(0);
    let grown = found.keys().filter(grew);
    let grown = grown.map(|name| format!("{name}: grew to {} lines", found[name]));
    let stale = |(name, size): &(&String, &usize)| found.get(*name).is_none_or(|now| now < *size);
    let shrunk = listed.iter().filter(stale);
    let shrunk = shrunk.map(|(name, _)| format!("{name}: shrank; run cargo xtask tidy --update"));
    grown.chain(shrunk).collect()
}

/// Writes the list as it is now.
pub fn update(files: &[TextFile]) -> Result<(), String> {
    let mut text = HEADER.to_owned();
    for (name, lines) in too_big(files) {
        text += &format!("{name} {lines}\n");
    }
    files::write(LIST, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_smaller() {
        let sizes = |all: &[(&str, usize)]| all.iter().map(|(n, l)| ((*n).into(), *l)).collect();
        let listed: Sizes = sizes(&[("a f", 90), ("b g", 80), ("c h", 75)]);
        let found: Sizes = sizes(&[("a f", 90), ("b g", 81), ("d i", 71)]);
        let wrong = compare(&found, &listed);
        assert_eq!(wrong.len(), 3, "{wrong:?}");
        assert!(wrong[0].starts_with("b g: grew"), "{wrong:?}");
        assert!(wrong[1].starts_with("d i: grew"), "{wrong:?}");
        assert!(wrong[2].starts_with("c h: shrank"), "{wrong:?}");
    }
}
