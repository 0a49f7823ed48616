//! Plans as comma-separated values: `topic,partition,offset` of a single group, `group,topic,partition,offset` of more.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use milena_protocol::Str;

use super::Plan;

/// Longer values stand in quotes, as those that need them do.
const UNQUOTED_CHARS_MAX: usize = 24;

/// A plan's lines. The group's name is left out where only one was asked for.
pub fn text(plans: &BTreeMap<String, Plan>, single: bool) -> String {
    let mut text = String::new();
    for (group, plan) in plans {
        for ((topic, partition), offset) in plan {
            if !single {
                let _ = write!(text, "{},", quoted(group));
            }
            let _ = writeln!(text, "{},{partition},{offset}", quoted(topic));
        }
    }
    text
}

fn quoted(value: &str) -> String {
    let needed =
        value.chars().count() > UNQUOTED_CHARS_MAX || value.contains([',', '"', '\n', '\r']);
    match needed {
        true => format!("\"{}\"", value.replace('"', "\"\"")),
        false => value.to_string(),
    }
}

/// Plans by group. Lines of three values are the single group's.
pub fn parse(text: &str, single: Option<&str>) -> Result<BTreeMap<String, Plan>, String> {
    let mut plans: BTreeMap<String, Plan> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let wrong = || {
            let columns = match single {
                Some(_) => "topic,partition,offset or group,topic,partition,offset",
                None => "group,topic,partition,offset",
            };
            format!("The line {line:?} is not of the form {columns}")
        };
        let values = values(line).ok_or_else(wrong)?;
        let (group, rest) = match (&values[..], single) {
            ([group, rest @ ..], _) if values.len() == 4 => (group.as_str(), rest),
            (rest, Some(group)) if values.len() == 3 => (group, rest),
            _ => return Err(wrong()),
        };
        let partition: i32 = rest[1].trim().parse().map_err(|_| wrong())?;
        let offset: i64 = rest[2].trim().parse().map_err(|_| wrong())?;
        let plan = plans.entry(group.to_string()).or_default();
        plan.insert((Str::copy(&rest[0]), partition), offset);
    }
    Ok(plans)
}

/// The values of a line; `None` where a quote is not closed.
fn values(line: &str) -> Option<Vec<String>> {
    let (mut values, mut value, mut open) = (Vec::new(), String::new(), false);
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if open && letters.next_if_eq(&'"').is_some() => value.push('"'),
            '"' => open = !open,
            ',' if !open => values.push(std::mem::take(&mut value)),
            letter => value.push(letter),
        }
    }
    values.push(value);
    (!open).then_some(values)
}
