//! What a schema text says, as values.

use std::fmt;

/// An inclusive range of versions; empty where `low > high`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    pub low: i16,
    pub high: i16,
}

impl Versions {
    pub const NONE: Versions = Versions { low: 0, high: -1 };

    pub fn is_empty(self) -> bool {
        self.low > self.high
    }

    pub fn contains(self, version: i16) -> bool {
        self.low <= version && version <= self.high
    }

    #[must_use]
    pub fn intersect(self, other: Versions) -> Versions {
        let both = Versions {
            low: self.low.max(other.low),
            high: self.high.min(other.high),
        };
        if both.is_empty() {
            Versions::NONE
        } else {
            both
        }
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            v if v.is_empty() => f.write_str("none"),
            v if v.high == i16::MAX => write!(f, "{}+", v.low),
            v if v.low == v.high => write!(f, "{}", v.low),
            v => write!(f, "{}-{}", v.low, v.high),
        }
    }
}

/// What a message is to the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Request,
    Response,
    Header,
    /// A record with a varint frame (`__cluster_metadata`, `__remote_log_metadata`).
    Metadata,
    CoordinatorKey,
    CoordinatorValue,
    /// Anything else that has a body: control records, embedded structures.
    Data,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    Broker,
    Controller,
}

/// One message with all structures it uses. `structs[0]` is its body.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    pub name: String,
    /// Folder that the text came from, for example `records-metadata`.
    pub group: String,
    pub kind: Kind,
    pub key: Option<i16>,
    pub versions: Versions,
    pub flexible: Versions,
    /// The highest version is not advertised by default.
    pub latest_unstable: bool,
    pub listeners: Vec<Listener>,
    pub structs: Vec<Struct>,
}

impl Message {
    pub fn find(&self, name: &str) -> &Struct {
        self.structs
            .iter()
            .find(|s| s.name == name)
            .expect("the parser resolved every structure's name")
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Struct {
    pub name: String,
    pub fields: Vec<Field>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    pub name: String,
    pub ty: Type,
    /// All ranges are cut to the message's valid versions.
    pub versions: Versions,
    pub nullable: Versions,
    pub tag: Option<u32>,
    /// Versions in which the field is a tagged one.
    pub tagged: Versions,
    /// False: keeps the old length encoding also in flexible versions.
    pub flexible: bool,
    pub default: Default,
    pub ignorable: bool,
    /// Part of the key of the array that it stands in.
    pub key: bool,
    /// Must not be printed.
    pub secret: bool,
}

/// A field's value where nothing else is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Default {
    /// Zero, false, empty, or a structure of defaults.
    Zero,
    Null,
    True,
    Int(i64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    Bool,
    Int8,
    Int16,
    Uint16,
    Int32,
    Uint32,
    Int64,
    Float64,
    Uuid,
    String,
    Bytes,
    Records,
    Struct(String),
    Array(Box<Type>),
}
