//! RE2's syntax, as far as it can match ASCII.

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::str::Chars;

/// Counted repetition, at most.
const REPEAT_MAX: u32 = 1_000;
/// Groups within groups, at most.
const DEPTH_MAX: usize = 100;

#[derive(Clone, Debug)]
pub(super) enum Node {
    Class(u128),
    Begin,
    End,
    Word(bool),
    Sequence(Vec<Node>),
    Either(Vec<Node>),
    Repeat(Box<Node>, u32, Option<u32>),
}

pub(super) fn parse(text: &str) -> Result<Node, String> {
    let mut parser = Parser {
        rest: text.chars().peekable(),
        depth: 0,
        fold: false,
        newline: false,
        names: BTreeSet::new(),
    };
    let node = parser.either()?;
    match parser.rest.next() {
        None => Ok(node),
        Some(_) => Err("unexpected )".into()),
    }
}

struct Parser<'a> {
    rest: Peekable<Chars<'a>>,
    depth: usize,
    /// Flag `i`.
    fold: bool,
    /// Flag `s`.
    newline: bool,
    names: BTreeSet<String>,
}

impl Parser<'_> {
    fn eat(&mut self, wanted: char) -> bool {
        self.rest.next_if_eq(&wanted).is_some()
    }

    /// Takes a text if it is next, whole.
    fn eat_all(&mut self, wanted: &str) -> bool {
        let mut ahead = self.rest.clone();
        let there = wanted.chars().all(|c| ahead.next() == Some(c));
        if there {
            self.rest = ahead;
        }
        there
    }

    /// Up to a closing bracket, which must be there; flags end with it.
    fn either(&mut self) -> Result<Node, String> {
        if self.depth > DEPTH_MAX {
            return Err("expression nests too deeply".into());
        }
        let mut branches = vec![self.sequence()?];
        while self.eat('|') {
            branches.push(self.sequence()?);
        }
        Ok(match branches.len() {
            1 => branches.remove(0),
            _ => Node::Either(branches),
        })
    }

    fn sequence(&mut self) -> Result<Node, String> {
        let mut nodes: Vec<Node> = Vec::new();
        let mut may_repeat = false;
        while let Some(&c) = self.rest.peek() {
            if matches!(c, '|' | ')') {
                break;
            }
            if let Some((min, max)) = self.repetition()? {
                if !may_repeat {
                    return Err("missing argument to repetition operator".into());
                }
                self.eat('?');
                if matches!(self.rest.peek(), Some('*' | '+' | '?')) {
                    return Err("invalid nested repetition operator".into());
                }
                let mut ahead = self.rest.clone();
                let again = self.repetition()?.is_some();
                if again {
                    return Err("invalid nested repetition operator".into());
                }
                std::mem::swap(&mut self.rest, &mut ahead);
                let last = nodes
                    .pop()
                    .ok_or("missing argument to repetition operator")?;
                nodes.push(Node::Repeat(Box::new(last), min, max));
                may_repeat = false;
                continue;
            }
            let before = nodes.len();
            self.one(&mut nodes)?;
            may_repeat = nodes.len() > before;
        }
        Ok(Node::Sequence(nodes))
    }

    /// A repetition operator, if one is next. What is no count in braces is text.
    fn repetition(&mut self) -> Result<Option<(u32, Option<u32>)>, String> {
        let simple = match self.rest.peek() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            Some('{') => return self.counted(),
            _ => return Ok(None),
        };
        self.rest.next();
        Ok(Some(simple))
    }

    fn counted(&mut self) -> Result<Option<(u32, Option<u32>)>, String> {
        let mut ahead = self.rest.clone();
        ahead.next();
        let Some(min) = number(&mut ahead) else {
            return Ok(None);
        };
        let mut max = Some(min);
        if ahead.next_if_eq(&',').is_some() {
            max = match ahead.peek() {
                Some('}') => None,
                _ => match number(&mut ahead) {
                    Some(max) => Some(max),
                    None => return Ok(None),
                },
            };
        }
        if ahead.next() != Some('}') {
            return Ok(None);
        }
        if min > REPEAT_MAX || max.is_some_and(|max| max > REPEAT_MAX || max < min) {
            return Err("invalid repeat count".into());
        }
        self.rest = ahead;
        Ok(Some((min, max)))
    }

    /// One thing that can be repeated, or none: flags are nothing.
    fn one(&mut self, nodes: &mut Vec<Node>) -> Result<(), String> {
        let Some(c) = self.rest.next() else {
            return Ok(());
        };
        let node = match c {
            '(' => return self.group(nodes),
            '[' => Node::Class(self.class()?),
            '^' => Node::Begin,
            '$' => Node::End,
            '.' => Node::Class(match self.newline {
                true => u128::MAX,
                false => !bit('\n'),
            }),
            '\\' => return self.escape(nodes),
            c => Node::Class(self.literal(c)),
        };
        nodes.push(node);
        Ok(())
    }

    fn literal(&self, c: char) -> u128 {
        match self.fold {
            true => folded(bit(c) | beyond_ascii(c)),
            false => bit(c),
        }
    }

    fn group(&mut self, nodes: &mut Vec<Node>) -> Result<(), String> {
        let flags = (self.fold, self.newline);
        if self.eat('?') {
            if self.eat_all("P<") || self.eat('<') {
                self.name()?;
            } else if self.flags()? {
                // They hold until the group around them ends.
                return Ok(());
            }
        }
        self.depth += 1;
        let node = self.either()?;
        self.depth -= 1;
        if !self.eat(')') {
            return Err("missing closing )".into());
        }
        (self.fold, self.newline) = flags;
        nodes.push(node);
        Ok(())
    }

    fn name(&mut self) -> Result<(), String> {
        let mut name = String::new();
        loop {
            match self.rest.next() {
                Some('>') => break,
                Some(c) if c.is_ascii_alphanumeric() || c == '_' => name.push(c),
                _ => return Err("invalid named capture".into()),
            }
        }
        if name.is_empty() {
            return Err("invalid named capture".into());
        }
        match self.names.insert(name) {
            true => Ok(()),
            false => Err("duplicate capture group name".into()),
        }
    }

    /// Whether the flags stand alone.
    fn flags(&mut self) -> Result<bool, String> {
        let (mut on, mut any) = (true, false);
        loop {
            match self.rest.next() {
                Some('i') => self.fold = on,
                Some('s') => self.newline = on,
                // Names have one line, and nobody asks which part was matched by what.
                Some('m' | 'U') => {}
                Some('-') if on => {
                    (on, any) = (false, false);
                    continue;
                }
                Some(c @ (':' | ')')) if on || any => return Ok(c == ')'),
                _ => return Err("invalid or unsupported Perl syntax".into()),
            }
            any = true;
        }
    }

    fn escape(&mut self, nodes: &mut Vec<Node>) -> Result<(), String> {
        let Some(&c) = self.rest.peek() else {
            return Err("trailing backslash at end of expression".into());
        };
        let node = match c {
            'A' => Node::Begin,
            'z' => Node::End,
            'b' => Node::Word(true),
            'B' => Node::Word(false),
            'Q' => {
                self.rest.next();
                while !self.eat_all("\\E") {
                    let Some(c) = self.rest.next() else {
                        break;
                    };
                    nodes.push(Node::Class(self.literal(c)));
                }
                return Ok(());
            }
            _ => {
                nodes.push(Node::Class(match self.class_escape()? {
                    Some(mask) => mask,
                    None => {
                        let c = self.char_escape()?;
                        self.literal(c)
                    }
                }));
                return Ok(());
            }
        };
        self.rest.next();
        nodes.push(node);
        Ok(())
    }

    /// `\d` and such; `\p{…}`. The backslash is gone.
    fn class_escape(&mut self) -> Result<Option<u128>, String> {
        let Some(&c) = self.rest.peek() else {
            return Ok(None);
        };
        if let Some(mask) = perl(c) {
            self.rest.next();
            return Ok(Some(mask));
        }
        if !matches!(c, 'p' | 'P') {
            return Ok(None);
        }
        self.rest.next();
        let mut name = String::new();
        match self.rest.next() {
            Some('{') => loop {
                match self.rest.next() {
                    Some('}') => break,
                    Some(c) => name.push(c),
                    None => return Err("invalid character class range".into()),
                }
            },
            Some(c) => name.push(c),
            None => return Err("invalid character class range".into()),
        }
        let (negated, name) = match name.strip_prefix('^') {
            Some(rest) => (c == 'p', rest),
            None => (c == 'P', name.as_str()),
        };
        let mask = unicode(name).ok_or("invalid character class range")?;
        let mask = match self.fold {
            true => folded(mask),
            false => mask,
        };
        Ok(Some(if negated { !mask } else { mask }))
    }

    /// A character by its escape. The backslash is gone.
    fn char_escape(&mut self) -> Result<char, String> {
        let invalid = || "invalid escape sequence".to_string();
        let c = self
            .rest
            .next()
            .ok_or("trailing backslash at end of expression")?;
        Ok(match c {
            '1'..='7' if !matches!(self.rest.peek(), Some('0'..='7')) => return Err(invalid()),
            '0'..='7' => {
                let mut code = c.to_digit(8).unwrap_or(0);
                for _ in 0..2 {
                    let digit = self.rest.next_if(|c| c.is_digit(8));
                    let Some(digit) = digit.and_then(|c| c.to_digit(8)) else {
                        break;
                    };
                    code = code * 8 + digit;
                }
                char::from_u32(code).ok_or_else(invalid)?
            }
            'x' => self.hexadecimal().ok_or_else(invalid)?,
            'a' => '\x07',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\x0b',
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => c,
            _ => return Err(invalid()),
        })
    }

    fn hexadecimal(&mut self) -> Option<char> {
        if !self.eat('{') {
            let high = self.rest.next()?.to_digit(16)?;
            let low = self.rest.next()?.to_digit(16)?;
            return char::from_u32(high * 16 + low);
        }
        let mut code: u32 = 0;
        let mut digits = 0;
        loop {
            match self.rest.next()? {
                '}' if digits > 0 => break,
                c => code = code.checked_mul(16)?.checked_add(c.to_digit(16)?)?,
            }
            digits += 1;
        }
        // What is no character by itself cannot match either.
        Some(char::from_u32(code).unwrap_or('\u{fffd}')).filter(|_| code <= 0x0010_ffff)
    }

    /// A class in brackets; the first is gone.
    fn class(&mut self) -> Result<u128, String> {
        let negated = self.eat('^');
        let mut mask = 0;
        let mut first = true;
        loop {
            let Some(&c) = self.rest.peek() else {
                return Err("missing closing ]".into());
            };
            if c == ']' && !first {
                self.rest.next();
                break;
            }
            first = false;
            mask |= self.class_item()?;
        }
        // Newlines are in no topic's name.
        Ok(if negated { !mask } else { mask })
    }

    fn class_item(&mut self) -> Result<u128, String> {
        if let Some(mask) = self.posix()? {
            return Ok(mask);
        }
        if self.rest.peek() == Some(&'\\') {
            let before = self.rest.clone();
            self.rest.next();
            if let Some(mask) = self.class_escape()? {
                return Ok(mask);
            }
            self.rest = before;
        }
        let low = self.class_char()?;
        let mut high = low;
        let mut ahead = self.rest.clone();
        if ahead.next() == Some('-') && !matches!(ahead.peek(), None | Some(']')) {
            self.rest = ahead;
            high = self.class_char()?;
        }
        if high < low {
            return Err("invalid character class range".into());
        }
        let mask = (low..=high.min('\x7f')).map(bit).fold(0, |a, b| a | b);
        Ok(match self.fold {
            true => {
                let kelvin = (low..=high).contains(&'\u{212a}').then_some(bit('k'));
                let long_s = (low..=high).contains(&'\u{17f}').then_some(bit('s'));
                folded(mask | kelvin.unwrap_or(0) | long_s.unwrap_or(0))
            }
            false => mask,
        })
    }

    fn class_char(&mut self) -> Result<char, String> {
        match self.rest.next() {
            None => Err("missing closing ]".into()),
            Some('\\') => self.char_escape(),
            Some(c) => Ok(c),
        }
    }

    /// `[:alpha:]` and such within a class.
    fn posix(&mut self) -> Result<Option<u128>, String> {
        let mut ahead = self.rest.clone();
        if ahead.next() != Some('[') || ahead.next() != Some(':') {
            return Ok(None);
        }
        let mut name = String::new();
        loop {
            match ahead.next() {
                Some(':') if ahead.peek() == Some(&']') => break,
                Some(c) => name.push(c),
                None => return Ok(None),
            }
        }
        ahead.next();
        self.rest = ahead;
        let (negated, name) = match name.strip_prefix('^') {
            Some(rest) => (true, rest),
            None => (false, name.as_str()),
        };
        let mask = posix_mask(name).ok_or("invalid character class range")?;
        Ok(Some(if negated { !mask } else { mask }))
    }
}

/// Digits, without a sign and without a zero before others.
fn number(chars: &mut Peekable<Chars<'_>>) -> Option<u32> {
    let first = chars.next_if(char::is_ascii_digit)?;
    let mut number = first.to_digit(10)?;
    if first == '0' && chars.peek().is_some_and(char::is_ascii_digit) {
        return None;
    }
    while let Some(digit) = chars.next_if(char::is_ascii_digit) {
        number = number
            .saturating_mul(10)
            .saturating_add(digit.to_digit(10)?);
    }
    Some(number)
}

fn bit(c: char) -> u128 {
    match c.is_ascii() {
        true => 1 << (c as u32),
        false => 0,
    }
}

/// The two characters beyond ASCII that fold to one within.
fn beyond_ascii(c: char) -> u128 {
    match c {
        '\u{212a}' => bit('k'),
        '\u{17f}' => bit('s'),
        _ => 0,
    }
}

fn mask_of(wanted: impl Fn(&char) -> bool) -> u128 {
    let all = (0..128u8).map(char::from);
    all.filter(wanted).map(bit).fold(0, |a, b| a | b)
}

fn folded(mask: u128) -> u128 {
    let lower = mask_of(char::is_ascii_lowercase);
    let upper = mask_of(char::is_ascii_uppercase);
    mask | (mask & upper) << 32 | (mask & lower) >> 32
}

fn perl(c: char) -> Option<u128> {
    let space = |c: &char| matches!(c, '\t' | '\n' | '\x0c' | '\r' | ' ');
    let word = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
    Some(match c {
        'd' => mask_of(char::is_ascii_digit),
        'D' => !mask_of(char::is_ascii_digit),
        's' => mask_of(space),
        'S' => !mask_of(space),
        'w' => mask_of(word),
        'W' => !mask_of(word),
        _ => return None,
    })
}

fn posix_mask(name: &str) -> Option<u128> {
    Some(match name {
        "alnum" => mask_of(char::is_ascii_alphanumeric),
        "alpha" => mask_of(char::is_ascii_alphabetic),
        "ascii" => u128::MAX,
        "blank" => bit(' ') | bit('\t'),
        "cntrl" => mask_of(char::is_ascii_control),
        "digit" => mask_of(char::is_ascii_digit),
        "graph" => mask_of(char::is_ascii_graphic),
        "lower" => mask_of(char::is_ascii_lowercase),
        "print" => mask_of(|c| c.is_ascii_graphic() || *c == ' '),
        "punct" => mask_of(char::is_ascii_punctuation),
        "space" => mask_of(|c| matches!(c, '\t'..='\r' | ' ')),
        "upper" => mask_of(char::is_ascii_uppercase),
        "word" => mask_of(|c| c.is_ascii_alphanumeric() || *c == '_'),
        "xdigit" => mask_of(char::is_ascii_hexdigit),
        _ => return None,
    })
}

/// What of a general category or script is in ASCII.
fn unicode(name: &str) -> Option<u128> {
    let of = |text: &str| text.chars().map(bit).fold(0, |a, b| a | b);
    Some(match name {
        "Any" => u128::MAX,
        "L" | "Latin" => mask_of(char::is_ascii_alphabetic),
        "Lu" => mask_of(char::is_ascii_uppercase),
        "Ll" => mask_of(char::is_ascii_lowercase),
        "N" | "Nd" => mask_of(char::is_ascii_digit),
        "P" => of("!\"#%&'()*,-./:;?@[\\]_{}"),
        "Pc" => bit('_'),
        "Pd" => bit('-'),
        "Ps" => of("([{"),
        "Pe" => of(")]}"),
        "Po" => of("!\"#%&'*,./:;?@\\"),
        "S" => of("$+<=>^`|~"),
        "Sm" => of("+<=>|~"),
        "Sc" => bit('$'),
        "Sk" => of("^`"),
        "Z" | "Zs" => bit(' '),
        "C" | "Cc" => mask_of(char::is_ascii_control),
        "Common" => !mask_of(char::is_ascii_alphabetic),
        "Cf" | "Co" | "Cs" | "Lm" | "Lo" | "Lt" | "M" | "Mc" | "Me" | "Mn" | "Nl" | "No" | "Pf"
        | "Pi" | "So" | "Zl" | "Zp" => 0,
        script => SCRIPTS
            .split_whitespace()
            .find(|known| *known == script)
            .map(|_| 0)?,
    })
}

/// Scripts without a character in ASCII.
const SCRIPTS: &str = "Arabic Armenian Avestan Balinese Bamum Batak Bengali Bopomofo Brahmi Braille \
    Buginese Buhid Canadian_Aboriginal Carian Chakma Cham Cherokee Coptic Cuneiform Cypriot Cyrillic \
    Deseret Devanagari Egyptian_Hieroglyphs Ethiopic Georgian Glagolitic Gothic Greek Gujarati Gurmukhi \
    Han Hangul Hanunoo Hebrew Hiragana Imperial_Aramaic Inherited Inscriptional_Pahlavi \
    Inscriptional_Parthian Javanese Kaithi Kannada Katakana Kayah_Li Kharoshthi Khmer Lao Lepcha Limbu \
    Linear_B Lisu Lycian Lydian Malayalam Mandaic Meetei_Mayek Meroitic_Cursive Meroitic_Hieroglyphs \
    Miao Mongolian Myanmar New_Tai_Lue Nko Ogham Ol_Chiki Old_Italic Old_Persian Old_South_Arabian \
    Old_Turkic Oriya Osmanya Phags_Pa Phoenician Rejang Runic Samaritan Saurashtra Sharada Shavian \
    Sinhala Sora_Sompeng Sundanese Syloti_Nagri Syriac Tagalog Tagbanwa Tai_Le Tai_Tham Tai_Viet Takri \
    Tamil Telugu Thaana Thai Tibetan Tifinagh Ugaritic Vai Yi";
