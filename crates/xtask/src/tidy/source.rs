//! Rust text as tidy looks at it: without comments and literals, and cut into functions.

/// The same text with comments, strings and characters blanked out, line for line.
pub fn code(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = literal_end(&chars, at).unwrap_or(at);
        if end == at {
            code.push(chars[at]);
            at += 1;
            continue;
        }
        let blank = |c: &char| if *c == '\n' { '\n' } else { ' ' };
        code.extend(chars[at..end].iter().map(blank));
        at = end;
    }
    code
}

/// Where the comment or literal that starts here ends.
fn literal_end(chars: &[char], at: usize) -> Option<usize> {
    let next = |n: usize| chars.get(at + n).copied().unwrap_or('\n');
    let before = at.checked_sub(1).map_or(' ', |before| chars[before]);
    match chars[at] {
        '/' if next(1) == '/' => Some(find(chars, at, '\n')),
        '/' if next(1) == '*' => Some(block_end(chars, at)),
        '"' => Some(quoted_end(chars, at + 1, '"')),
        'r' if !is_word(before) || before == 'b' => raw_end(chars, at),
        '\'' if next(1) == '\\' => Some(quoted_end(chars, at + 1, '\'')),
        '\'' if next(2) == '\'' => Some(at + 3),
        _ => None,
    }
}

/// Whether a character belongs to an identifier.
pub fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn find(chars: &[char], from: usize, wanted: char) -> usize {
    let rest = &chars[from.min(chars.len())..];
    let found = rest.iter().position(|c| *c == wanted);
    found.map_or(chars.len(), |found| from + found)
}

fn block_end(chars: &[char], start: usize) -> usize {
    let (mut depth, mut at) = (0, start);
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => (depth, at) = (depth + 1, at + 2),
            ('*', '/') => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

fn quoted_end(chars: &[char], mut at: usize, quote: char) -> usize {
    while at < chars.len() && chars[at] != quote {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

fn raw_end(chars: &[char], start: usize) -> Option<usize> {
    let hashes = chars[start + 1..].iter().take_while(|c| **c == '#').count();
    let open = start + 1 + hashes;
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let mut at = open + 1;
    loop {
        at = find(chars, at, '"') + 1;
        if at > chars.len() {
            return Some(chars.len());
        }
        let closing = chars[at..].iter().take_while(|c| **c == '#').take(hashes);
        if closing.count() == hashes {
            return Some(at + hashes);
        }
    }
}

/// A function with a body: its name, and its lines from `fn` to the closing brace.
#[derive(Debug, PartialEq)]
pub struct Function {
    pub name: String,
    pub lines: usize,
}

/// The functions of a text that [`code`] has blanked.
pub fn functions(code: &str) -> Vec<Function> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let starts = !code[..at].ends_with(is_word);
        let rest = &code[at + 3..];
        let name: String = rest.chars().take_while(|c| is_word(*c)).collect();
        if let (true, false, Some(end)) = (starts, name.is_empty(), body_end(rest)) {
            let lines = rest[..end].matches('\n').count() + 1;
            found.push(Function { name, lines });
        }
    }
    found
}

/// Where the body after a signature ends; `None` where there is no body.
fn body_end(rest: &str) -> Option<usize> {
    let (mut round, mut curly) = (0, 0);
    for (at, c) in rest.char_indices() {
        match c {
            '(' | '[' => round += 1,
            ')' | ']' => round -= 1,
            ';' if round == 0 && curly == 0 => return None,
            '{' => curly += 1,
            '}' if curly == 1 => return Some(at + 1),
            '}' => curly -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_is_left() {
        let text = "a(\"x // \\\" y\"); // c\nlet c = '\"'; let r = r#\"q\"w\"#; /* a /* b */ c */ fn f<'a>() {}";
        let left = code(text);
        let words: Vec<&str> = left.split_whitespace().collect();
        let wanted = "a( ); let c = ; let r = ; fn f<'a>() {}";
        assert_eq!(words.join(" "), wanted);
        assert_eq!(left.lines().count(), text.lines().count());
    }

    #[test]
    fn functions_are_measured() {
        let text =
            "trait T { fn a(&self); }\nfn b(x: [u8; 2]) {\n  if x {\n  }\n}\nconst fn c() {}\n";
        let found = functions(&code(text));
        let said: Vec<(&str, usize)> = found.iter().map(|f| (&f.name[..], f.lines)).collect();
        assert_eq!(said, [("b", 4), ("c", 1)]);
    }
}
