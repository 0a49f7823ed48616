//! The configuration keys: what the table of `config` says about each, and which test sets it.

use milena_config::{Key, Scope, Support, keys};

use super::table;
use crate::files::TextFile;

const SCOPES: &[(Scope, &str)] = &[
    (Scope::Broker, "Broker keys"),
    (Scope::Topic, "Topic keys"),
    (Scope::Group, "Group keys"),
    (Scope::ClientMetrics, "Client metrics keys"),
];
/// Where tests set a key without a part that would act upon it.
const NO_EFFECT_THERE: &[&str] = &[
    "crates/client/",
    "crates/config/",
    "crates/controller/tests/transcripts/configs.txt",
    "crates/controller/tests/transcripts/one_node.txt",
    "crates/milena/tests/it/refusals.rs",
    "crates/tools/",
    "crates/xtask/",
];

const LEGEND: &str = "\
## Configuration keys

- **yes**: acted upon, and the test named sets the key.
- **partly (untested)**: acted upon, but no test sets the key by its name; what it tunes may have tests of its own.
- **inert**: any value is accepted; it tunes a part that this server does not have, or a feature that is off.
- **no (refused when set)**: the server does not start when it is set to other than its default.
- **no (taken, without effect)**: a topic, group or subscription keeps the value and shows it, and nothing acts upon it.
";

pub fn section(files: &[TextFile]) -> String {
    let tests: Vec<TestText> = files.iter().filter_map(test_text).collect();
    let mut text = LEGEND.to_owned();
    for (scope, title) in SCOPES {
        let rows: Vec<Vec<String>> = keys(*scope)
            .iter()
            .map(|key| vec![format!("`{}`", key.name), status(key, &tests)])
            .collect();
        let served = keys(*scope)
            .iter()
            .filter(|key| key.support == Support::Served);
        text += &format!(
            "\n### {title}\n\n{} of {} acted upon.\n\n{}",
            served.count(),
            rows.len(),
            table(&["Key", "Here"], &rows)
        );
    }
    text
}

fn status(key: &Key, tests: &[TestText]) -> String {
    match key.support {
        Support::NotYet if key.scope == Scope::Broker => "no (refused when set)".into(),
        Support::NotYet => "no (taken, without effect)".into(),
        Support::Inert => "inert".into(),
        Support::Served => match tests.iter().find_map(|test| test.sets(key.name)) {
            Some(name) => format!("yes ({name})"),
            None => "partly (untested)".into(),
        },
    }
}

/// The part of a file that is test.
struct TestText<'a> {
    path: &'a str,
    text: &'a str,
}

fn test_text(file: &TextFile) -> Option<TestText<'_>> {
    let krate = file.krate()?;
    if NO_EFFECT_THERE
        .iter()
        .any(|path| file.path.starts_with(path))
    {
        return None;
    }
    let whole = file.path.starts_with(&format!("crates/{krate}/tests/"));
    let from = match whole {
        true => 0,
        false if file.is_rust() => file.text.find("#[cfg(test)]")?,
        false => return None,
    };
    Some(TestText {
        path: &file.path,
        text: &file.text[from..],
    })
}

impl TestText<'_> {
    /// The name of a test that gives this key a value: the nearest test above the place, or else the file.
    fn sets(&self, key: &str) -> Option<String> {
        let mut places = self.text.match_indices(key).map(|(at, _)| at);
        let at = places.find(|at| is_set(self.text, *at, key))?;
        let above = &self.text[..at];
        let name = above.rfind("#[test]").and_then(|test| {
            let (_, after) = above[test..].split_once("fn ")?;
            after.split_once('(').map(|(name, _)| name.to_owned())
        });
        Some(match name {
            Some(name) => format!("`{}` {name}", self.path),
            None => format!("`{}`", self.path),
        })
    }
}

/// Whether the key stands there whole, as a string or before `=`.
fn is_set(text: &str, at: usize, key: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || "._-`".contains(c);
    let after = &text[at + key.len()..];
    let closed = after.starts_with(['=', '"']);
    closed && !text[..at].ends_with(inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_sets_a_key_is_found() {
        let text = "#[test]\nfn rolls() {\n  set(\"segment.bytes=100\");\n  let other = \"log.retention.ms\";\n}";
        let test = TestText { path: "p", text };
        assert_eq!(test.sets("segment.bytes").as_deref(), Some("`p` rolls"));
        assert_eq!(test.sets("log.retention.ms").as_deref(), Some("`p` rolls"));
        assert_eq!(test.sets("retention.ms"), None, "part of a longer key");
        assert_eq!(test.sets("segment.ms"), None);
    }
}
