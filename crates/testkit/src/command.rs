//! A transcript's command: `name word … key=value …`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::str::FromStr;

/// A parsed command. Everything panics with the line: the file is wrong, not the machine. When it is dropped,
/// arguments that nobody asked for are a panic too (a misspelt key would test nothing).
#[derive(Debug)]
pub struct Command {
    line: String,
    name: String,
    words: Vec<String>,
    pairs: RefCell<BTreeMap<String, String>>,
}

impl Command {
    pub fn parse(line: &str) -> Command {
        let mut parts = line.split_whitespace();
        let name = parts.next().unwrap_or_default().to_string();
        let (mut words, mut pairs) = (Vec::new(), BTreeMap::new());
        for part in parts {
            match part.split_once('=') {
                Some((key, value)) => {
                    let old = pairs.insert(key.to_string(), value.to_string());
                    assert!(old.is_none(), "{key} twice in {line:?}");
                }
                None => words.push(part.to_string()),
            }
        }
        Command {
            line: line.to_string(),
            name,
            words,
            pairs: RefCell::new(pairs),
        }
    }

    /// The first word.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The words after the name that are no pairs.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// The word at this place after the name.
    pub fn word<T: FromStr<Err: Debug>>(&self, at: usize) -> T {
        let word = self.words.get(at);
        self.value(word.unwrap_or_else(|| panic!("word {at} is missing in {:?}", self.line)))
    }

    /// The value of a key that must be there.
    pub fn get<T: FromStr<Err: Debug>>(&self, key: &str) -> T {
        self.find(key)
            .unwrap_or_else(|| panic!("{key}= is missing in {:?}", self.line))
    }

    /// The value of a key that may be left out.
    pub fn find<T: FromStr<Err: Debug>>(&self, key: &str) -> Option<T> {
        let value = self.pairs.borrow_mut().remove(key);
        value.map(|value| self.value(&value))
    }

    /// A list, `key=[1,2,3]` or `key=1,2,3`; empty where the key is left out.
    pub fn list<T: FromStr<Err: Debug>>(&self, key: &str) -> Vec<T> {
        let text: String = self.find(key).unwrap_or_default();
        let items = text.trim_matches(['[', ']']).split(',');
        items
            .filter(|item| !item.is_empty())
            .map(|item| self.value(item))
            .collect()
    }

    /// A time in milliseconds: `250`, `250ms`, `31s` or `2m`.
    pub fn millis(&self, text: &str) -> u64 {
        let (digits, factor) = match text {
            _ if text.ends_with("ms") => (&text[..text.len() - 2], 1),
            _ if text.ends_with('s') => (&text[..text.len() - 1], 1000),
            _ if text.ends_with('m') => (&text[..text.len() - 1], 60_000),
            _ => (text, 1),
        };
        self.value::<u64>(digits) * factor
    }

    fn value<T: FromStr<Err: Debug>>(&self, text: &str) -> T {
        text.parse()
            .unwrap_or_else(|e| panic!("{text:?} in {:?}: {e:?}", self.line))
    }
}

impl Drop for Command {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let left: Vec<String> = self.pairs.borrow().keys().cloned().collect();
            assert!(left.is_empty(), "nobody reads {left:?} of {:?}", self.line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_pairs_are_told_apart() {
        let command = Command::parse("fetch 31s from=2 isr=[1,3]");
        assert_eq!((command.name(), command.get::<i32>("from")), ("fetch", 2));
        assert_eq!(command.list::<i32>("isr"), [1, 3]);
        assert_eq!(command.millis(&command.word::<String>(0)), 31_000);
        assert_eq!(command.find::<i32>("epoch"), None);
    }

    #[test]
    #[should_panic = "nobody reads [\"form\"]"]
    fn a_misspelt_key_is_no_silent_default() {
        let command = Command::parse("fetch form=2");
        assert_eq!(command.find::<i32>("from"), None);
    }
}
