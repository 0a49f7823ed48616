//! Messages by their field table instead of by their type: what JSON and the tests walk. Slower than the
//! generated codec, and written apart from it, so that each checks the other.

use bytes::Bytes;
use milena_base::Uuid;

use crate::{DecodeError, Field, Reader, Schema, Str, Type};

/// A field's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Not on the wire: the version lacks the field, or a tagged field has its default.
    Absent,
    Null,
    Bool(bool),
    /// Every integer type.
    Int(i64),
    Float(f64),
    Uuid(Uuid),
    Text(Str),
    Bytes(Bytes),
    Records(Bytes),
    Array(Vec<Value>),
    /// One value for each field of the schema.
    Struct(Vec<Value>),
}

/// Reads a message's body by its table.
pub fn read(schema: &Schema, r: &mut Reader, version: i16) -> Result<Value, DecodeError> {
    let flex = version >= schema.flexible_from;
    let mut values = Vec::with_capacity(schema.fields.len());
    for field in schema.fields {
        let here = field.is_in(version) && field.tag_in(version).is_none();
        values.push(match here {
            true => read_field(field, r, version, flex && field.flexible)?,
            false => Value::Absent,
        });
    }
    if flex {
        read_tags(schema, r, version, &mut values)?;
    }
    Ok(Value::Struct(values))
}

fn read_tags(
    schema: &Schema,
    r: &mut Reader,
    version: i16,
    values: &mut [Value],
) -> Result<(), DecodeError> {
    let mut tags = r.tags()?;
    while let Some(tag) = r.next_tag(&mut tags)? {
        let known = |f: &&Field| f.tag_in(version) == Some(tag);
        match schema.fields.iter().position(|f| known(&f)) {
            Some(i) => values[i] = read_tagged(&schema.fields[i], r, version)?,
            None => r.skip_tag(&tags),
        }
    }
    Ok(())
}

fn read_tagged(field: &Field, r: &mut Reader, version: i16) -> Result<Value, DecodeError> {
    match field.ty {
        Type::Struct(_) if field.is_nullable_in(version) && r.uvarint()? == 0 => Ok(Value::Null),
        ty => read_type(ty, r, version, true, field.is_nullable_in(version)),
    }
}

fn read_field(
    field: &Field,
    r: &mut Reader,
    version: i16,
    flex: bool,
) -> Result<Value, DecodeError> {
    let nullable = field.is_nullable_in(version);
    match field.ty {
        Type::Struct(_) if nullable && r.i8()? < 0 => Ok(Value::Null),
        ty => read_type(ty, r, version, flex, nullable),
    }
}

fn read_type(
    ty: Type,
    r: &mut Reader,
    version: i16,
    flex: bool,
    null_ok: bool,
) -> Result<Value, DecodeError> {
    Ok(match ty {
        Type::Bool => Value::Bool(r.bool()?),
        Type::Int8 => Value::Int(r.i8()?.into()),
        Type::Int16 => Value::Int(r.i16()?.into()),
        Type::Uint16 => Value::Int(r.u16()?.into()),
        Type::Int32 => Value::Int(r.i32()?.into()),
        Type::Uint32 => Value::Int(r.u32()?.into()),
        Type::Int64 => Value::Int(r.i64()?),
        Type::Float64 => Value::Float(r.f64()?),
        Type::Uuid => Value::Uuid(r.uuid()?),
        Type::String => or_null(r.nullable_string(flex, null_ok)?.map(Value::Text)),
        Type::Bytes => or_null(r.nullable_bytes(flex, null_ok)?.map(Value::Bytes)),
        Type::Records => or_null(r.nullable_bytes(flex, null_ok)?.map(Value::Records)),
        Type::Struct(schema) => read(schema, r, version)?,
        Type::Array(element) => {
            let Some(count) = r.count(flex, null_ok)? else {
                return Ok(Value::Null);
            };
            let items = (0..count).map(|_| read_type(*element, r, version, flex, false));
            Value::Array(items.collect::<Result<_, _>>()?)
        }
    })
}

fn or_null(value: Option<Value>) -> Value {
    value.unwrap_or(Value::Null)
}
