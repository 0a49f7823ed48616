//! Names: the schema writes `TopicId`, Kafka's JSON `topicId`, Rust `topic_id`.

const KEYWORDS: &[&str] = &["type", "match", "ref", "use", "in", "move", "loop", "fn"];

/// Kafka's JSON name: the first letter small.
pub fn camel(name: &str) -> String {
    let mut letters = name.chars();
    match letters.next() {
        Some(first) => first.to_ascii_lowercase().to_string() + letters.as_str(),
        None => String::new(),
    }
}

/// The name of a Rust field or module: a word begins at a capital that follows a small letter or a digit, or
/// that ends a run of capitals. `KRaft` is one word.
pub fn snake(name: &str) -> String {
    let name = name.replace("KRaft", "Kraft").replace("kRaft", "Kraft");
    let letters: Vec<char> = name.chars().collect();
    let mut out = String::new();
    for (i, &c) in letters.iter().enumerate() {
        let follows_small = i > 0 && !letters[i - 1].is_ascii_uppercase();
        let ends_run = i > 0 && letters.get(i + 1).is_some_and(|n| n.is_ascii_lowercase());
        if c.is_ascii_uppercase() && (follows_small || ends_run) {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// The same, usable as an identifier.
pub fn field(name: &str) -> String {
    let name = snake(name);
    if KEYWORDS.contains(&name.as_str()) {
        format!("r#{name}")
    } else {
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_begin_at_capitals() {
        for (name, expected) in [
            ("TopicId", "topic_id"),
            ("KRaftVersion", "kraft_version"),
            ("V3AndBelowTopics", "v3_and_below_topics"),
            ("protocolType", "protocol_type"),
            ("LastKnownELRSet", "last_known_elr_set"),
        ] {
            assert_eq!(snake(name), expected);
        }
        assert_eq!(field("Type"), "r#type");
        assert_eq!(camel("KRaftVersion"), "kRaftVersion");
    }
}
