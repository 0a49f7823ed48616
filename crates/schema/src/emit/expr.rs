//! Expressions of the generated code: types, defaults, conditions on the version.

use crate::model::{Default, Field, Message, Type, Versions};

/// The Rust type of an element or of a field that is not nullable.
pub fn plain_type(ty: &Type) -> String {
    match ty {
        Type::Bool => "bool".into(),
        Type::Int8 => "i8".into(),
        Type::Int16 => "i16".into(),
        Type::Uint16 => "u16".into(),
        Type::Int32 => "i32".into(),
        Type::Uint32 => "u32".into(),
        Type::Int64 => "i64".into(),
        Type::Float64 => "f64".into(),
        Type::Uuid => "Uuid".into(),
        Type::String => "Str".into(),
        Type::Bytes => "Bytes".into(),
        Type::Records => "Records".into(),
        Type::Struct(name) => name.clone(),
        Type::Array(element) => format!("Vec<{}>", plain_type(element)),
    }
}

pub fn is_option(field: &Field) -> bool {
    !field.nullable.is_empty()
}

pub fn field_type(field: &Field) -> String {
    let plain = plain_type(&field.ty);
    if is_option(field) {
        format!("Option<{plain}>")
    } else {
        plain
    }
}

/// The default, where it is not what `Default::default()` gives.
pub fn special_default(field: &Field) -> Option<String> {
    match (field.default, is_option(field)) {
        (Default::Null, _) => None,
        (Default::Int(n), _) if field.ty == Type::Float64 => Some(format!("{n}f64")),
        (Default::Int(n), _) => Some(n.to_string()),
        (Default::True, _) => Some("true".into()),
        (Default::Zero, true) => Some("Some(Default::default())".into()),
        (Default::Zero, false) => None,
    }
}

/// True where `place` differs from the field's default.
pub fn differs(field: &Field, place: &str) -> String {
    match (&field.ty, field.default) {
        (_, Default::Null) => format!("{place}.is_some()"),
        (_, Default::True) => format!("!{place}"),
        (_, Default::Int(n)) => format!("{place} != {n}"),
        (ty, Default::Zero) => differs_from_zero(ty, is_option(field), place),
    }
}

fn differs_from_zero(ty: &Type, option: bool, place: &str) -> String {
    match ty {
        Type::Bool => place.to_string(),
        Type::Float64 => format!("{place} != 0.0"),
        Type::Uuid => format!("!{place}.is_zero()"),
        Type::Struct(name) if option => {
            format!("{place}.as_ref() != Some(&{name}::default())")
        }
        Type::Struct(name) => format!("{place} != {name}::default()"),
        Type::String | Type::Bytes | Type::Records | Type::Array(_) if option => {
            format!("!{place}.as_ref().is_some_and(|v| v.is_empty())")
        }
        Type::String | Type::Bytes | Type::Records | Type::Array(_) => {
            format!("!{place}.is_empty()")
        }
        _ => format!("{place} != 0"),
    }
}

/// Whether a version of `within` lies in `wanted`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    Always,
    Never,
    If(String),
}

impl When {
    pub fn expr(&self) -> String {
        match self {
            When::Always => "true".into(),
            When::Never => "false".into(),
            When::If(condition) => condition.clone(),
        }
    }
}

pub fn when(wanted: Versions, within: Versions) -> When {
    let both = wanted.intersect(within);
    if both.is_empty() {
        return When::Never;
    }
    match (both.low == within.low, both.high == within.high) {
        (true, true) => When::Always,
        (true, false) => When::If(format!("version <= {}", both.high)),
        (false, true) => When::If(format!("version >= {}", both.low)),
        (false, false) if both.low == both.high => When::If(format!("version == {}", both.low)),
        (false, false) => When::If(format!("({}..={}).contains(&version)", both.low, both.high)),
    }
}

/// Fewest bytes that any version of the structure takes; at least 1, so that counts can be bounded by it.
pub fn min_size(message: &Message, ty: &Type) -> usize {
    let smallest = (message.versions.low..=message.versions.high)
        .map(|version| size_in(message, ty, version, true))
        .min();
    smallest.unwrap_or(1).max(1)
}

fn size_in(message: &Message, ty: &Type, version: i16, field_flexible: bool) -> usize {
    let flexible = field_flexible && message.flexible.contains(version);
    match ty {
        Type::Bool | Type::Int8 => 1,
        Type::Int16 | Type::Uint16 => 2,
        Type::Int32 | Type::Uint32 => 4,
        Type::Int64 | Type::Float64 => 8,
        Type::Uuid => 16,
        Type::String | Type::Bytes | Type::Records | Type::Array(_) if flexible => 1,
        Type::String => 2,
        Type::Bytes | Type::Records | Type::Array(_) => 4,
        Type::Struct(name) => {
            let fields = message.find(name).fields.iter();
            let sizes = fields
                .filter(|f| f.versions.contains(version) && !f.tagged.contains(version))
                .map(|f| match &f.ty {
                    Type::Struct(_) if f.nullable.contains(version) => 1,
                    ty => size_in(message, ty, version, f.flexible),
                });
            sizes.sum::<usize>() + usize::from(message.flexible.contains(version))
        }
    }
}
