//! `--add-config` and `--delete-config` taken apart.

use std::collections::BTreeMap;

use crate::connect;
use crate::options::Options;

/// Configs to set, by key.
pub type Added = BTreeMap<String, String>;

/// What `--add-config` or `--add-config-file` sets.
pub fn added(options: &Options) -> Result<Added, String> {
    let mut added = Added::new();
    if let Some(path) = options.value("add-config-file")? {
        added = connect::load(path)?;
    }
    if let Some(text) = options.value("add-config")? {
        added.extend(pairs(text)?);
    }
    for key in added.keys() {
        let legal = |c: char| c.is_ascii_alphanumeric() || "$._-".contains(c);
        if !key.chars().all(legal) {
            return Err(format!("Invalid character found for config key: {key}"));
        }
    }
    Ok(added)
}

/// What `--delete-config` takes away.
pub fn deleted(options: &Options) -> Vec<String> {
    let given = options.values("delete-config").into_iter();
    let keys = given.flat_map(|text| text.split(','));
    keys.map(str::trim)
        .filter(|key| !key.is_empty())
        .map(str::to_owned)
        .collect()
}

/// `k1=v1,k2=[v1,v2]`: brackets group, and are dropped.
pub fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut parts = split(text, ',');
    while parts.len() > 1 && parts.last().is_some_and(|part| part.is_empty()) {
        parts.pop();
    }
    let pair = |part: &&str| {
        match split(part, '=')[..] {
        [key, value] => Ok((key.trim().to_owned(), value.replace(['[', ']'], "").trim().to_owned())),
        _ => Err(
            "requirement failed: Invalid entity config: all configs to be added must be in the format \"key=val\" or  \"key=[val1,val2]\" to group values which contain commas.".to_owned(),
        ),
    }
    };
    parts.iter().map(pair).collect()
}

/// Parts between separators that stand outside of brackets.
fn split(text: &str, separator: char) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    for (at, c) in text.char_indices().filter(|(_, c)| *c == separator) {
        let rest = &text[at + c.len_utf8()..];
        let inside = match (rest.find(']'), rest.find('[')) {
            (Some(close), Some(open)) => close < open,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if !inside {
            parts.push(&text[start..at]);
            start = at + c.len_utf8();
        }
    }
    parts.push(&text[start..]);
    parts
}

/// A SCRAM credential's iterations and password. What can't be read is not repeated: it holds a password.
pub fn credential(mechanism: &str, text: &str) -> Result<(i32, String), String> {
    let wrong = || format!("Invalid credential property {mechanism}");
    let (iterations, rest) = match text.strip_prefix("iterations=") {
        Some(rest) => {
            let (count, rest) = rest.split_once(',').ok_or_else(wrong)?;
            (count.parse::<i32>().map_err(|_| wrong())?, rest)
        }
        None => (4096, text),
    };
    let password = rest.strip_prefix("password=").ok_or_else(wrong)?;
    if iterations < 4096 {
        return Err(format!(
            "Iterations {iterations} is less than the minimum 4096 required for {mechanism}"
        ));
    }
    Ok((iterations, password.to_owned()))
}

/// `Double.parseDouble`, for quotas.
pub fn quota(key: &str, text: &str) -> Result<f64, String> {
    let number = text.trim().trim_end_matches(['d', 'D', 'f', 'F']);
    let wrong = || format!("Cannot parse quota configuration value for {key}: {text}");
    number.parse().map_err(|_| wrong())
}
