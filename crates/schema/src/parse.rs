//! The text form. Lines: a header `Name = kind | …`, then fields, nested two blanks a level, then shared
//! `struct` blocks. Everything that is not understood is an error with its line: a schema is source code.

use std::fmt;
use std::path::Path;

use crate::model::{Default, Field, Kind, Listener, Message, Struct, Type, Versions};

/// Where and why a text is not a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    pub file: String,
    /// From 1; 0 where no line is meant.
    pub line: usize,
    pub why: String,
}

impl ParseError {
    fn at(line: usize, why: impl Into<String>) -> ParseError {
        ParseError {
            file: String::new(),
            line,
            why: why.into(),
        }
    }

    pub(crate) fn io(path: &Path, error: &std::io::Error) -> ParseError {
        ParseError::at(0, error.to_string()).in_file(path)
    }

    pub(crate) fn in_file(mut self, path: &Path) -> ParseError {
        self.file = path.display().to_string();
        self
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.why)
    }
}

impl std::error::Error for ParseError {}

type Result<T> = std::result::Result<T, ParseError>;

/// A line with its number and depth (0 = header).
#[derive(Clone, Copy)]
struct Line<'a> {
    number: usize,
    depth: usize,
    text: &'a str,
}

/// Parses all messages of one text.
pub fn parse(text: &str, group: &str) -> Result<Vec<Message>> {
    let lines = lines(text)?;
    let mut messages = Vec::new();
    for block in lines.chunk_by(|_, next| next.depth > 0) {
        messages.push(message(block, group)?);
    }
    Ok(messages)
}

fn lines(text: &str) -> Result<Vec<Line<'_>>> {
    let mut lines = Vec::new();
    for (i, raw) in text.lines().enumerate() {
        let body = raw.trim();
        let blanks = raw.len() - raw.trim_start().len();
        if body.is_empty() {
            continue;
        }
        if blanks % 2 != 0 {
            return Err(ParseError::at(i + 1, "two blanks a level"));
        }
        lines.push(Line {
            number: i + 1,
            depth: blanks / 2,
            text: body,
        });
    }
    Ok(lines)
}

fn message(block: &[Line<'_>], group: &str) -> Result<Message> {
    let (head, body) = block
        .split_first()
        .ok_or_else(|| ParseError::at(0, "an empty text"))?;
    let mut message = header(head, group)?;
    message.structs.push(Struct {
        name: message.name.clone(),
        fields: Vec::new(),
    });
    let fields = fields(&mut message, body, 1)?;
    message.structs[0].fields = fields;
    resolve(&message, head.number)?;
    Ok(message)
}

fn header(line: &Line<'_>, group: &str) -> Result<Message> {
    let wrong = |why: &str| ParseError::at(line.number, format!("{why}: {}", line.text));
    let (name, rest) = line
        .text
        .split_once(" = ")
        .ok_or_else(|| wrong("a header is `Name = kind | …`"))?;
    let mut parts = rest.split(" | ");
    let kind = kind(parts.next().unwrap_or_default()).ok_or_else(|| wrong("unknown kind"))?;
    let mut message = Message {
        name: name.to_string(),
        group: group.to_string(),
        kind,
        key: None,
        versions: Versions::NONE,
        flexible: Versions::NONE,
        latest_unstable: false,
        listeners: Vec::new(),
        structs: Vec::new(),
    };
    for part in parts {
        match part.split_once(' ') {
            Some(("key", key)) => message.key = Some(key.parse().map_err(|_| wrong("key"))?),
            Some(("versions", v)) => {
                message.versions = versions(v).ok_or_else(|| wrong("versions"))?
            }
            Some(("flexible", v)) => {
                message.flexible = versions(v).ok_or_else(|| wrong("flexible"))?
            }
            Some(("latest", "unstable")) => message.latest_unstable = true,
            Some(("listeners", list)) => {
                message.listeners = listeners(list).ok_or_else(|| wrong("listeners"))?
            }
            _ => return Err(wrong("unknown attribute")),
        }
    }
    if message.versions.is_empty() || message.versions.high == i16::MAX {
        return Err(wrong("a message has a closed range of versions"));
    }
    message.flexible = message.flexible.intersect(message.versions);
    Ok(message)
}

fn kind(text: &str) -> Option<Kind> {
    Some(match text {
        "request" => Kind::Request,
        "response" => Kind::Response,
        "header" => Kind::Header,
        "metadata" => Kind::Metadata,
        "coordinator-key" => Kind::CoordinatorKey,
        "coordinator-value" => Kind::CoordinatorValue,
        "data" => Kind::Data,
        _ => return None,
    })
}

fn listeners(text: &str) -> Option<Vec<Listener>> {
    text.split(',')
        .map(|name| match name {
            "broker" => Some(Listener::Broker),
            "controller" => Some(Listener::Controller),
            _ => None,
        })
        .collect()
}

fn versions(text: &str) -> Option<Versions> {
    let number = |n: &str| n.parse::<i16>().ok();
    if text == "none" {
        return Some(Versions::NONE);
    }
    let (low, high) = if let Some(low) = text.strip_suffix('+') {
        (number(low)?, i16::MAX)
    } else if let Some((low, high)) = text.split_once('-') {
        (number(low)?, number(high)?)
    } else {
        (number(text)?, number(text)?)
    };
    (low <= high).then_some(Versions { low, high })
}

/// Fields at `depth`; what is deeper belongs to the structure of the field before it.
fn fields(message: &mut Message, lines: &[Line<'_>], depth: usize) -> Result<Vec<Field>> {
    let mut out = Vec::new();
    for block in lines.chunk_by(|_, next| next.depth > depth) {
        let (head, body) = (block[0], &block[1..]);
        if head.depth != depth {
            return Err(ParseError::at(
                head.number,
                "a level is left out, or fields stand under a scalar",
            ));
        }
        if let Some(rest) = head.text.strip_prefix("struct ") {
            let (name, _) = rest
                .split_once(": ")
                .ok_or_else(|| ParseError::at(head.number, "`struct Name: versions`"))?;
            define(message, name, body, depth, head.number)?;
            continue;
        }
        let field = field(message, &head)?;
        if !body.is_empty() {
            let Some(name) = struct_name(&field.ty) else {
                return Err(ParseError::at(head.number, "fields under a scalar"));
            };
            define(message, name, body, depth, head.number)?;
        }
        if !field.versions.is_empty() {
            out.push(field);
        }
    }
    Ok(out)
}

fn define(
    message: &mut Message,
    name: &str,
    body: &[Line<'_>],
    depth: usize,
    number: usize,
) -> Result<()> {
    let slot = message.structs.len();
    message.structs.push(Struct {
        name: name.to_string(),
        fields: Vec::new(),
    });
    let fields = fields(message, body, depth + 1)?;
    message.structs[slot].fields = fields;
    let twin = message.structs[..slot].iter().position(|s| s.name == name);
    if let Some(twin) = twin {
        if message.structs[twin] != message.structs[slot] {
            return Err(ParseError::at(
                number,
                format!("two different structures {name}"),
            ));
        }
        message.structs.remove(slot);
    }
    Ok(())
}

fn struct_name(ty: &Type) -> Option<&str> {
    match ty {
        Type::Struct(name) => Some(name),
        Type::Array(element) => struct_name(element),
        _ => None,
    }
}

fn field(message: &Message, line: &Line<'_>) -> Result<Field> {
    let wrong = |why: &str| ParseError::at(line.number, format!("{why}: {}", line.text));
    let (name, rest) = line
        .text
        .split_once(": ")
        .ok_or_else(|| wrong("a field is `Name: type | versions …`"))?;
    let mut parts = rest.split(" | ");
    let ty = ty(parts.next().unwrap_or_default()).ok_or_else(|| wrong("type"))?;
    let stated = parts.next().ok_or_else(|| wrong("versions are missing"))?;
    let mut field = Field {
        name: name.to_string(),
        ty,
        versions: Versions::NONE,
        nullable: Versions::NONE,
        tag: None,
        tagged: Versions::NONE,
        flexible: true,
        default: Default::Zero,
        ignorable: false,
        key: false,
        secret: false,
    };
    for part in parts {
        attribute(&mut field, part).ok_or_else(|| wrong(part))?;
    }
    // Without versions of its own a field has those of its tag.
    field.versions = match stated {
        "all" => field.tagged,
        stated => versions(stated).ok_or_else(|| wrong("versions"))?,
    };
    if field.ty == Type::Records {
        field.default = Default::Null;
    }
    settle(message, &mut field);
    Ok(field)
}

fn attribute(field: &mut Field, part: &str) -> Option<()> {
    match part.split_once(' ').unwrap_or((part, "")) {
        ("nullable", v) => field.nullable = versions(v)?,
        ("tag", rest) => {
            let (tag, v) = rest.split_once(" in ")?;
            field.tag = Some(tag.parse().ok()?);
            field.tagged = versions(v)?;
        }
        ("flexible", "none") => field.flexible = false,
        ("default", value) => field.default = default(&field.ty, value)?,
        ("ignorable", "") => field.ignorable = true,
        ("key", "") => field.key = true,
        ("secret", "") => field.secret = true,
        ("entity", _) | ("zerocopy", "") => {}
        _ => return None,
    }
    Some(())
}

/// Cuts all ranges to the versions that the message has.
fn settle(message: &Message, field: &mut Field) {
    field.versions = field.versions.intersect(message.versions);
    field.nullable = field.nullable.intersect(field.versions);
    field.tagged = field.tagged.intersect(field.versions);
    if field.nullable.is_empty() && field.default == Default::Null {
        field.default = Default::Zero;
    }
}

fn default(ty: &Type, value: &str) -> Option<Default> {
    Some(match (ty, value) {
        (_, "null") => Default::Null,
        (Type::Bool, "true") => Default::True,
        (Type::Bool, "false") | (Type::String, "\"\"") => Default::Zero,
        (Type::Bool | Type::String, _) => return None,
        (_, value) => {
            let number = match value.strip_prefix("0x") {
                Some(digits) => i64::from_str_radix(digits, 16).ok()?,
                None => value.parse().ok()?,
            };
            match number {
                0 => Default::Zero,
                number => Default::Int(number),
            }
        }
    })
}

fn ty(text: &str) -> Option<Type> {
    Some(match text {
        "bool" => Type::Bool,
        "int8" => Type::Int8,
        "int16" => Type::Int16,
        "uint16" => Type::Uint16,
        "int32" => Type::Int32,
        "uint32" => Type::Uint32,
        "int64" => Type::Int64,
        "float64" => Type::Float64,
        "uuid" => Type::Uuid,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "records" => Type::Records,
        _ => match text.strip_prefix("[]") {
            Some(element) => Type::Array(Box::new(ty(element)?)),
            None if text.starts_with(|c: char| c.is_ascii_uppercase()) => {
                Type::Struct(text.to_string())
            }
            None => return None,
        },
    })
}

/// Every structure that a field names is there, and no tag is used twice.
fn resolve(message: &Message, line: usize) -> Result<()> {
    for s in &message.structs {
        let mut tags = Vec::new();
        for field in &s.fields {
            if let Some(name) = struct_name(&field.ty)
                && !message.structs.iter().any(|s| s.name == name)
            {
                return Err(ParseError::at(line, format!("no structure {name}")));
            }
            if let Some(tag) = field.tag {
                if tags.contains(&tag) {
                    return Err(ParseError::at(
                        line,
                        format!("tag {tag} twice in {}", s.name),
                    ));
                }
                tags.push(tag);
            }
        }
    }
    Ok(())
}
