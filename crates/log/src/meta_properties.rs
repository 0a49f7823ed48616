//! `meta.properties`: to which cluster and node a log directory belongs.

use std::collections::BTreeMap;
use std::fmt::Write;

use milena_base::{BrokerId, Timestamp, Uuid};

use crate::error::Malformed;

/// Name of the file, in each log directory and in the metadata log's.
pub const FILE: &str = "meta.properties";

/// What the file says. Version 1 is written; version 0, of clusters before KRaft, is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetaProperties {
    pub version: i32,
    pub cluster_id: Option<String>,
    pub node_id: Option<BrokerId>,
    pub directory_id: Option<Uuid>,
}

impl MetaProperties {
    /// The file's text as Java writes properties: a comment with the time in front.
    pub fn format(&self, now: Timestamp) -> String {
        let mut text = format!("#\n#{}\n", java_date(now));
        let entries = [
            ("node.id", self.node_id.map(|id| id.to_string())),
            ("directory.id", self.directory_id.map(|id| id.to_string())),
            ("version", Some(self.version.to_string())),
            ("cluster.id", self.cluster_id.clone()),
        ];
        for (key, value) in entries {
            if let Some(value) = value {
                let value = escape(&value);
                writeln!(text, "{key}={value}").expect("a String takes every write");
            }
        }
        text
    }

    pub fn parse(text: &str) -> Result<MetaProperties, Malformed> {
        let entries = properties(text);
        let get = |key: &str| entries.get(key).map(String::as_str);
        let version =
            get("version").ok_or_else(|| Malformed("no version in meta.properties".into()))?;
        let node_key = match version {
            "0" => "broker.id",
            "1" => "node.id",
            _ => {
                return Err(Malformed(format!(
                    "unknown version {version:?} of meta.properties"
                )));
            }
        };
        let bad = |key: &str, value: &str| Malformed(format!("{key}={value} is malformed"));
        let node_id =
            get(node_key).map(|id| id.parse().map(BrokerId).map_err(|_| bad(node_key, id)));
        let directory_id =
            get("directory.id").map(|id| id.parse().map_err(|_| bad("directory.id", id)));
        Ok(MetaProperties {
            version: i32::from(version == "1"),
            cluster_id: get("cluster.id").map(String::from),
            node_id: node_id.transpose()?,
            directory_id: directory_id.transpose()?,
        })
    }
}

/// `Mon Nov 23 13:20:41 UTC 2026`, as `java.util.Date` prints itself.
fn java_date(now: Timestamp) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let seconds = now.0.max(0) / 1000;
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil_date(days);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let weekday = DAYS[(days % 7) as usize];
    let month = MONTHS[(month - 1) as usize];
    format!("{weekday} {month} {day:02} {hour:02}:{minute:02}:{second:02} UTC {year}")
}

/// Year, month and day of a day since 1970 (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn civil_date(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for (index, c) in value.chars().enumerate() {
        if matches!(c, '\\' | '=' | ':' | '#' | '!') || (c == ' ' && index == 0) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// The properties that this file needs of Java's format: comments, `key=value`, backslashes.
fn properties(text: &str) -> BTreeMap<String, String> {
    let mut entries = BTreeMap::new();
    for line in text.lines() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let Some((key, value)) = line.split_once(['=', ':']) else {
            continue;
        };
        entries.insert(key.trim_end().to_string(), unescape(value.trim_start()));
    }
    entries
}

fn unescape(value: &str) -> String {
    let mut plain = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => plain.extend(chars.next()),
            c => plain.push(c),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_read_back() {
        let properties = MetaProperties {
            version: 1,
            cluster_id: Some("a:b=c\\d".into()),
            node_id: Some(BrokerId(7)),
            directory_id: Some(Uuid([3; 16])),
        };
        let text = properties.format(Timestamp(1_795_440_041_000));
        assert!(
            text.starts_with("#\n#Mon Nov 23 13:20:41 UTC 2026\n"),
            "{text}"
        );
        assert_eq!(MetaProperties::parse(&text), Ok(properties));
    }

    #[test]
    fn version_0_names_the_broker() {
        let parsed = MetaProperties::parse("version=0\nbroker.id=3\n").expect("version 0");
        assert_eq!(parsed.node_id, Some(BrokerId(3)));
        for text in [
            "",
            "version=2\n",
            "version=1\nnode.id=x\n",
            "version=1\ndirectory.id=x\n",
        ] {
            assert!(MetaProperties::parse(text).is_err(), "{text:?}");
        }
    }
}
