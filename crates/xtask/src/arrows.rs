//! `cargo xtask arrows`: a crate depends only on crates of lower rows. The rows are the house's floor plan; the
//! arrows are read from the `Cargo.toml` files.

use crate::files;

/// Rows from the ground up; a crate stands in one of them.
pub const ROWS: &[&[&str]] = &[
    &["base", "schema"],
    &["protocol", "records", "disk", "config"],
    &["log", "raft", "image", "net"],
    &["auth", "replica", "controller", "coordinator"],
    &["group", "share", "txn"],
    &["broker"],
    &["node", "sim", "client"],
    &["tools", "console"],
    &["milena"],
];
/// Crates for developers: they may use any, and none may use them but in its tests.
const DEVELOPERS: &[&str] = &["microbench", "testkit", "xtask"];
/// The first row that may wait, listen and look at a clock.
pub const EDGE_ROW: usize = 6;
/// Crates of others that only the edge may use.
const EDGE_ONLY: &[&str] = &["tokio", "rdkafka"];

/// The row of a crate, `None` for those of developers.
pub fn row_of(krate: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&krate))
}

/// A dependency as a `Cargo.toml` names it.
#[derive(Debug, PartialEq)]
struct Arrow {
    to: String,
    dev: bool,
}

pub fn run(_: &[String]) -> Result<(), String> {
    let wrong = check()?;
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(format!("arrows that may not be:\n{}", wrong.join("\n"))),
    }
}

/// Every arrow that may not be, in one line each.
pub fn check() -> Result<Vec<String>, String> {
    let mut wrong = Vec::new();
    let files = files::all()?;
    let manifests = files.iter().filter(|file| {
        file.krate()
            .is_some_and(|krate| file.path == format!("crates/{krate}/Cargo.toml"))
    });
    for manifest in manifests {
        let krate = manifest.krate().unwrap_or_default();
        if row_of(krate).is_none() && !DEVELOPERS.contains(&krate) {
            wrong.push(format!("{krate} stands in no row"));
        }
        let package = match krate {
            "milena" => "name = \"milena\"".to_owned(),
            _ => format!("name = \"milena-{krate}\""),
        };
        if !manifest.text.lines().any(|line| line == package) {
            wrong.push(format!("{}: it should say {package}", manifest.path));
        }
        let arrows = arrows(&manifest.text);
        wrong.extend(arrows.iter().filter_map(|arrow| refuse(krate, arrow)));
    }
    Ok(wrong)
}

/// Why an arrow may not be.
fn refuse(from: &str, arrow: &Arrow) -> Option<String> {
    let own_row = row_of(from)?;
    if EDGE_ONLY.contains(&arrow.to.as_str()) {
        let below = own_row < EDGE_ROW && !arrow.dev;
        return below.then(|| format!("{from} may not depend on {}: only the edge may", arrow.to));
    }
    let to = arrow.to.strip_prefix("milena-")?;
    if arrow.dev && (to == from || to == "testkit") {
        return None;
    }
    let lower = row_of(to).is_some_and(|row| row < own_row);
    (!lower).then(|| format!("{from} (row {own_row}) may not depend on {to}"))
}

/// The dependencies of a manifest, in its order.
fn arrows(manifest: &str) -> Vec<Arrow> {
    let mut section = "";
    let mut arrows = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line.trim_matches(['[', ']']);
        } else if section.ends_with("dependencies")
            && let Some((key, _)) = line.split_once('=')
            && !line.starts_with('#')
        {
            let to = key.split('.').next().unwrap_or(key).trim().to_owned();
            let dev = section.ends_with("dev-dependencies");
            arrows.push(Arrow { to, dev });
        }
    }
    arrows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_house_stands() {
        assert_eq!(check().unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_manifest_is_read() {
        let text = "[package]\nname = \"x\"\n[dependencies]\n# why\nbytes.workspace = true\nmilena-log = { path = \"\" }\n\
                    [dev-dependencies]\nmilena-testkit.workspace = true\n";
        let found = arrows(text);
        let said: Vec<(&str, bool)> = found.iter().map(|a| (a.to.as_str(), a.dev)).collect();
        let wanted = [
            ("bytes", false),
            ("milena-log", false),
            ("milena-testkit", true),
        ];
        assert_eq!(said, wanted);
    }

    #[test]
    fn only_downwards() {
        let refused = |from, to: &str, dev| {
            let to = to.to_owned();
            refuse(from, &Arrow { to, dev }).is_some()
        };
        assert!(!refused("log", "milena-disk", false));
        assert!(refused("log", "milena-raft", false), "within a row");
        assert!(refused("log", "milena-broker", true), "upwards in tests");
        assert!(!refused("log", "milena-log", true), "itself in tests");
        assert!(refused("log", "milena-testkit", false));
        assert!(!refused("log", "milena-testkit", true));
        assert!(refused("milena", "milena-xtask", true));
        assert!(refused("broker", "tokio", false));
        assert!(!refused("node", "tokio", false));
        assert!(!refused("xtask", "milena-milena", false));
    }
}
