//! Names given as regular expressions: `--topic` and `--include`.

use regex_lite::Regex;

/// A pattern over whole names. A comma is an alternative, blanks and quotes around are dropped, as in Kafka's
/// `TopicFilter`. Java's syntax beyond what both engines share (look-around, back references) is refused.
#[derive(Clone, Debug)]
pub struct NameFilter(Regex);

impl NameFilter {
    pub fn new(text: &str) -> Result<NameFilter, String> {
        let text = text.trim().replace(',', "|").replace(' ', "");
        let text = text.trim_matches(['"', '\'']);
        match Regex::new(&format!("^(?:{text})$")) {
            Ok(regex) => Ok(NameFilter(regex)),
            Err(error) => Err(format!("{text} is an invalid regex: {error}")),
        }
    }

    pub fn takes(&self, name: &str) -> bool {
        self.0.is_match(name)
    }
}

/// Kafka's own topics.
pub fn is_internal(topic: &str) -> bool {
    matches!(
        topic,
        "__consumer_offsets" | "__transaction_state" | "__share_group_state"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_a_whole() {
        let takes = |pattern: &str, name: &str| NameFilter::new(pattern).unwrap().takes(name);
        assert!(takes("al.*|delta", "alpha") && takes("a, delta", "delta") && takes("'a'", "a"));
        assert!(!takes("al", "alpha") && !takes("a|b", "ab"));
        assert!(
            NameFilter::new("foo[")
                .unwrap_err()
                .starts_with("foo[ is an invalid regex")
        );
    }
}
