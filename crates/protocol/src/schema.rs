//! The table of fields behind each message, for what is not worth generated code: JSON, random instances.

/// A structure. Versions are those of the message that it is part of.
#[derive(Debug)]
pub struct Schema {
    pub name: &'static str,
    /// First flexible version; `i16::MAX` where there is none.
    pub flexible_from: i16,
    /// In the order of the schema, which is that of the wire but for tagged fields.
    pub fields: &'static [Field],
}

/// Ranges are inclusive; `(0, -1)` is empty.
#[derive(Debug)]
pub struct Field {
    /// As in Kafka's JSON, for example `topicId`.
    pub name: &'static str,
    pub ty: Type,
    pub versions: (i16, i16),
    pub nullable: (i16, i16),
    /// Tag, and the versions in which the field is a tagged one.
    pub tag: Option<(u32, (i16, i16))>,
    /// False: keeps the old length encoding also in flexible versions.
    pub flexible: bool,
    pub default: Preset,
    /// May be dropped in versions that lack it.
    pub ignorable: bool,
    /// Must not be printed in logs.
    pub secret: bool,
}

#[derive(Clone, Copy, Debug)]
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
    Struct(&'static Schema),
    Array(&'static Type),
}

/// A field's default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// Zero, false, empty, or a structure of defaults.
    Zero,
    Null,
    /// A number, or `true` as 1.
    Int(i64),
}

impl Field {
    pub fn is_in(&self, version: i16) -> bool {
        within(self.versions, version)
    }

    pub fn is_nullable_in(&self, version: i16) -> bool {
        within(self.nullable, version)
    }

    /// The tag, where the field is a tagged one in this version.
    pub fn tag_in(&self, version: i16) -> Option<u32> {
        self.tag
            .filter(|&(_, versions)| within(versions, version))
            .map(|(tag, _)| tag)
    }
}

fn within((low, high): (i16, i16), version: i16) -> bool {
    low <= version && version <= high
}
