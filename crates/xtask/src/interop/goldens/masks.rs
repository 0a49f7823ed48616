//! What changes from one run to the next and is not compared, and which of the words on standard error are.

use regex_lite::{Captures, Regex};

/// Everywhere on stdout and in the first sentence on stderr: an expression and what stands for it.
const RULES: &[(&str, &str)] = &[
    // Ids are drawn when a topic is made, a directory is formatted, or a member joins.
    (r"TopicId: [\w-]{22}", "TopicId: ID"),
    (r#""topicId":"[\w-]{22}""#, r#""topicId":"ID""#),
    (r"directory\.id=[\w-]{22}", "directory.id=ID"),
    (r#"([dD]irectoryId"?[:=] ?"?)[\w-]{22}"#, "${1}ID"),
    (
        r"-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        "-MEMBER",
    ),
    // Java's wrappers, and how far it writes a usage before the line ends.
    (r"^java\.util\.concurrent\.ExecutionException: ", ""),
    (r#"^Exception in thread "main" joptsimple\.\w+: "#, ""),
    (r"^(usage: [\w-]+( [a-z][\w-]+)*).*", "${1}"),
    // Times of now.
    (r"CreateTime: ?[0-9]{13}", "CreateTime: NOW"),
    (r#"([tT]imestamp"?:)[0-9]{13}"#, "${1}NOW"),
];

/// Lines of stderr that are advertisements of the Java clients.
const ADVERTISEMENTS: &[&str] = &["The consumer rebalance protocol (KIP-848) is production-ready!"];

/// Options that a parser lists: `[group], [all-groups]`. Kafka's are in the order of a set, another in each JVM.
const OPTIONS: &str = r"\[[\w-]+\](, \[[\w-]+\])+";

pub struct Masks {
    rules: Vec<(Regex, &'static str)>,
    options: Regex,
}

impl Masks {
    pub fn new() -> Masks {
        let regex = |text| Regex::new(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        Masks {
            rules: RULES
                .iter()
                .map(|(rule, word)| (regex(rule), *word))
                .collect(),
            options: regex(OPTIONS),
        }
    }

    pub fn apply(&self, line: &str) -> String {
        let line = self
            .rules
            .iter()
            .fold(line.to_owned(), |line, (rule, word)| {
                rule.replace_all(&line, *word).into_owned()
            });
        let sorted = |options: &Captures| {
            let mut names: Vec<&str> = options[0].split(", ").collect();
            names.sort_unstable();
            names.join(", ")
        };
        self.options.replace_all(&line, sorted).into_owned()
    }
}

/// The first sentence that is no log line, no stack frame and no advertisement.
pub fn first_sentence(err: &str) -> String {
    let mut logged = false;
    for line in err.lines() {
        // A log line, then what belongs to it: the logger on a line of its own, or an exception.
        if is_log_line(line) {
            logged = true;
            continue;
        }
        let thrown = logged && is_exception(line);
        logged &= !thrown;
        let belongs = thrown || logged && line.starts_with(" (");
        let frame = line.starts_with("\tat ") || line.starts_with("Caused by: ");
        let advertised = ADVERTISEMENTS.iter().any(|text| line.starts_with(text));
        if line.trim().is_empty() || belongs || frame || advertised {
            continue;
        }
        let end = line.find(". ").map_or(line.len(), |at| at + 1);
        return line[..end].trim_end().to_owned();
    }
    String::new()
}

/// `[2026-11-25 20:00:00,000] WARN …`, or `2026-11-25T20:00:00.000000Z  WARN …` of our server.
fn is_log_line(line: &str) -> bool {
    let year = line.strip_prefix('[').unwrap_or(line);
    let date = year.get(..5).unwrap_or_default();
    date.ends_with('-') && date[..4].bytes().all(|byte| byte.is_ascii_digit())
}

/// `org.apache.kafka.common.errors.TimeoutException: …`
fn is_exception(line: &str) -> bool {
    let class = line.split(':').next().unwrap_or_default();
    let named = class.ends_with("Exception") || class.ends_with("Error");
    named && class.contains('.') && !class.contains(' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_anew_is_masked() {
        let masks = Masks::new();
        let line = "Topic: a\tTopicId: YlTYInzLRKKOL7CLRmQ8Ng\tPartitionCount: 3";
        assert_eq!(
            masks.apply(line),
            "Topic: a\tTopicId: ID\tPartitionCount: 3"
        );
        let line = "CreateTime:1795404224989\tcl1-9bcc06e7-45a1-4e6a-a1d2-b200ebf01e0e";
        assert_eq!(masks.apply(line), "CreateTime: NOW\tcl1-MEMBER");
        assert_eq!(
            masks.apply("offset: 1795404224989"),
            "offset: 1795404224989"
        );
        let line = |listed| masks.apply(&format!("Option [describe] takes one of: {listed}"));
        assert_eq!(line("[group], [all-groups]"), line("[all-groups], [group]"));
        assert_ne!(line("[group]"), line("[all-groups]"));
    }

    #[test]
    fn a_first_sentence_is_what_a_person_is_told() {
        let log = "[2026-11-25 20:00:00,000] ERROR org.x.Exception: no\n (org.x.Tool)\n";
        assert_eq!(first_sentence(log), "");
        let log = format!("2026-11-25T20:00:00.000000Z  WARN it was so\n{log}");
        assert_eq!(first_sentence(&log), "");
        let text = format!("{log}\nIt is so. Do that.\n");
        assert_eq!(first_sentence(&text), "It is so.");
        let text = format!("{log}org.x.AException: a\norg.x.BException: b\n");
        assert_eq!(first_sentence(&text), "org.x.BException: b");
        let text = "org.x.NoException: no such thing 1.5\n\tat org.x.Y\n";
        assert_eq!(first_sentence(text), "org.x.NoException: no such thing 1.5");
    }
}
