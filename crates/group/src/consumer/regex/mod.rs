//! Regular expressions over topic names, in RE2's syntax as RE2/J takes it for Kafka's brokers. A name is matched as a
//! whole. Topic names are ASCII, so a class of characters is a mask of 128 bits; what is beyond ASCII never matches.
//! Matching takes time in proportion to name times expression, whatever the expression.

mod parse;

use parse::Node;

/// States of a compiled expression, at most.
const STATES_MAX: usize = 10_000;

#[derive(Clone, Copy, Debug)]
enum State {
    /// One character of the mask, then the next state.
    Class(u128),
    /// Either of two states, without a character.
    Fork(usize, usize),
    Begin,
    End,
    /// Whether this is to be the edge of a word.
    Word(bool),
    Match,
}

/// A regular expression, ready to match.
#[derive(Clone, Debug)]
pub struct Regex(Vec<State>);

impl Regex {
    /// # Errors
    /// What is wrong with it, without a full stop.
    pub fn parse(text: &str) -> Result<Regex, String> {
        let node = parse::parse(text)?;
        let mut states = Vec::new();
        compile(&node, &mut states)?;
        states.push(State::Match);
        Ok(Regex(states))
    }

    /// Whether it matches all of a text.
    pub fn matches(&self, text: &str) -> bool {
        let bytes = text.as_bytes();
        let mut now = Active::new(self.0.len());
        let mut next = Active::new(self.0.len());
        self.enter(&mut now, 0, bytes, 0);
        for (at, &byte) in bytes.iter().enumerate() {
            next.clear();
            for i in 0..now.list.len() {
                let state = now.list[i];
                if let State::Class(mask) = self.0[state]
                    && byte < 128
                    && mask >> byte & 1 == 1
                {
                    self.enter(&mut next, state + 1, bytes, at + 1);
                }
            }
            std::mem::swap(&mut now, &mut next);
        }
        now.has(self.0.len() - 1)
    }

    /// Adds a state, and those that are reached from it without a character.
    fn enter(&self, active: &mut Active, state: usize, text: &[u8], at: usize) {
        let mut waiting = vec![state];
        while let Some(state) = waiting.pop() {
            if !active.add(state) {
                continue;
            }
            match self.0[state] {
                State::Class(_) | State::Match => {}
                State::Fork(one, other) => waiting.extend([other, one]),
                State::Begin if at == 0 => waiting.push(state + 1),
                State::End if at == text.len() => waiting.push(state + 1),
                State::Word(wanted) if is_edge(text, at) == wanted => waiting.push(state + 1),
                State::Begin | State::End | State::Word(_) => {}
            }
        }
    }
}

fn is_edge(text: &[u8], at: usize) -> bool {
    let word = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
    word(at.checked_sub(1).and_then(|at| text.get(at))) != word(text.get(at))
}

/// A set of states, in the order in which they came.
struct Active {
    list: Vec<usize>,
    there: Vec<bool>,
}

impl Active {
    fn new(len: usize) -> Active {
        Active {
            list: Vec::new(),
            there: vec![false; len],
        }
    }

    fn add(&mut self, state: usize) -> bool {
        let new = !std::mem::replace(&mut self.there[state], true);
        if new {
            self.list.push(state);
        }
        new
    }

    fn has(&self, state: usize) -> bool {
        self.there[state]
    }

    fn clear(&mut self) {
        for state in self.list.drain(..) {
            self.there[state] = false;
        }
    }
}

/// Appends states that go on with the one after them.
fn compile(node: &Node, states: &mut Vec<State>) -> Result<(), String> {
    if states.len() >= STATES_MAX {
        return Err("expression is too large".into());
    }
    match node {
        Node::Class(mask) => states.push(State::Class(*mask)),
        Node::Begin => states.push(State::Begin),
        Node::End => states.push(State::End),
        Node::Word(wanted) => states.push(State::Word(*wanted)),
        Node::Sequence(nodes) => {
            for node in nodes {
                compile(node, states)?;
            }
        }
        Node::Either(nodes) => compile_either(nodes, states)?,
        Node::Repeat(node, min, max) => compile_repeat(node, *min, *max, states)?,
    }
    Ok(())
}

fn compile_either(nodes: &[Node], states: &mut Vec<State>) -> Result<(), String> {
    let mut ends = Vec::new();
    for (i, node) in nodes.iter().enumerate() {
        if i + 1 == nodes.len() {
            compile(node, states)?;
            break;
        }
        let fork = states.len();
        states.push(State::Fork(fork + 1, 0));
        compile(node, states)?;
        ends.push(states.len());
        states.push(State::Fork(0, 0));
        states[fork] = State::Fork(fork + 1, states.len());
    }
    for end in ends {
        states[end] = State::Fork(states.len(), states.len());
    }
    Ok(())
}

fn compile_repeat(
    node: &Node,
    min: u32,
    max: Option<u32>,
    states: &mut Vec<State>,
) -> Result<(), String> {
    for _ in 0..min {
        compile(node, states)?;
    }
    let Some(max) = max else {
        let fork = states.len();
        states.push(State::Fork(fork + 1, 0));
        compile(node, states)?;
        states.push(State::Fork(fork, fork));
        states[fork] = State::Fork(fork + 1, states.len());
        return Ok(());
    };
    let mut forks = Vec::new();
    for _ in min..max {
        forks.push(states.len());
        states.push(State::Fork(0, 0));
        compile(node, states)?;
    }
    for fork in forks {
        states[fork] = State::Fork(fork + 1, states.len());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MATCHES: &[(&str, &[&str], &[&str])] = &[
        ("foo", &["foo"], &["foobar", "xfoo", ""]),
        (
            "foo.*|ba[rz]",
            &["foo", "foo-1", "bar", "baz"],
            &["ba", "barz"],
        ),
        ("", &[""], &["a"]),
        ("a{2,3}", &["aa", "aaa"], &["a", "aaaa"]),
        ("a{2}b?c+", &["aac", "aabcc"], &["aab", "abc"]),
        ("(a|b)*c", &["c", "ababc"], &["abx"]),
        ("(?i)Topic-[^0-9]+", &["tOPIC-x"], &["topic-1"]),
        ("a(?i)b(?-i)c", &["abc", "aBc"], &["Abc", "abC"]),
        ("a(?i:b)c", &["aBc"], &["aBC"]),
        (r"\Qa.b\E.", &["a.bc"], &["axbc", "a.b"]),
        (r"\w+\d", &["ab_1"], &["ab-1"]),
        (r"[[:alpha:]]+[[:^digit:]]", &["ab-"], &["ab1"]),
        (r"\p{Lu}\pL*\PL", &["Abc1"], &["abc1", "Abc"]),
        (r"^a\b.\bb$", &["a.b"], &["axb"]),
        (r"\x41\x{42}\103", &["ABC"], &["abc"]),
        ("a{,3}", &["a{,3}"], &["aaa"]),
        ("[]a]+", &["]a"], &["b"]),
        ("[a-]+", &["a-"], &["b"]),
        ("(?P<n>a)(?<m>b)(?:c)", &["abc"], &["ab"]),
        ("é|a", &["a"], &["b"]),
        ("(|a)b", &["b", "ab"], &["aab"]),
        ("a*?b+?", &["aab"], &["a"]),
    ];

    #[test]
    fn names_match_as_a_whole() {
        for (regex, yes, no) in MATCHES {
            let parsed = Regex::parse(regex).unwrap_or_else(|why| panic!("{regex}: {why}"));
            for name in *yes {
                assert!(parsed.matches(name), "{regex} matches {name}");
            }
            for name in *no {
                assert!(!parsed.matches(name), "{regex} does not match {name}");
            }
        }
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        let wrong = [
            "(",
            ")",
            "a)",
            "[",
            "[a",
            "a**",
            "*a",
            "(|*)",
            "+",
            "?",
            "a{2,1}",
            "a{1001}",
            r"\1",
            r"\8",
            r"\y",
            r"\",
            "[z-a]",
            "(?=a)",
            "(?!a)",
            "(?<a",
            "(?P<1-2>a)",
            "(?x)a",
            r"\pX",
            r"\p{Nope}",
            r"a\",
            "[[:nope:]]",
            r"\x{110000}",
            r"\xg",
            "(?i",
            "a*+",
            "(?<n>a)(?<n>b)",
        ];
        for regex in wrong {
            assert!(Regex::parse(regex).is_err(), "{regex:?} is refused");
        }
        let large = format!("({}){{1000}}", "a".repeat(100));
        assert!(Regex::parse(&large).is_err());
        assert!(Regex::parse(&"(".repeat(100_000)).is_err());
    }

    /// An expression that makes backtracking matchers run for ever.
    #[test]
    fn time_is_bounded() {
        let regex = Regex::parse("(a*)*(a*)*(a|aa)*b").expect("it is one");
        assert!(!regex.matches(&"a".repeat(249)));
    }
}
