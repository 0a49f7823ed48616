//! `Element` of a structure: one pass to read, one to write.

use crate::emit::expr::{When, when};
use crate::emit::{expr, line};
use crate::model::{Field, Message, Struct, Type, Versions};
use crate::names;

pub fn emit(out: &mut String, message: &Message, s: &Struct) {
    let size = expr::min_size(message, &Type::Struct(s.name.clone()));
    line(out, format_args!("impl Element for {} {{", s.name));
    line(out, format_args!("const MIN_SIZE: usize = {size};"));
    read(out, message, s);
    write(out, message, s);
    line(out, format_args!("}}"));
}

fn tagged(s: &Struct) -> Vec<&Field> {
    let mut fields: Vec<&Field> = s.fields.iter().filter(|f| !f.tagged.is_empty()).collect();
    fields.sort_by_key(|f| f.tag);
    fields
}

/// Versions in which the field stands in the body.
fn untagged(message: &Message, field: &Field) -> Versions {
    match field.tagged {
        t if t.is_empty() => field.versions,
        t => Versions {
            low: field.versions.low,
            high: t.low - 1,
        }
        .intersect(message.versions),
    }
}

fn read(out: &mut String, message: &Message, s: &Struct) {
    let mutable = if s.fields.is_empty() { "" } else { "mut " };
    line(
        out,
        format_args!(
            "fn read(r: &mut Reader, version: i16, flex: bool) -> Result<Self, DecodeError> {{"
        ),
    );
    line(out, format_args!("let {mutable}m = Self::default();"));
    for field in &s.fields {
        let versions = untagged(message, field);
        let name = names::field(&field.name);
        let value = read_expr(field, versions, false);
        guarded(
            out,
            &when(versions, message.versions),
            &format!("m.{name} = {value};"),
        );
    }
    let flexible = when(message.flexible, message.versions);
    guarded(out, &flexible, &read_tags(s, message.flexible));
    line(out, format_args!("Ok(m) }}"));
}

fn guarded(out: &mut String, when: &When, statement: &str) {
    match when {
        When::Always => line(out, format_args!("{statement}")),
        When::Never => {}
        When::If(condition) => line(out, format_args!("if {condition} {{ {statement} }}")),
    }
}

fn read_tags(s: &Struct, flexible: Versions) -> String {
    let fields = tagged(s);
    if fields.is_empty() {
        return "r.skip_tags()?;".into();
    }
    let mut text = String::from(
        "let mut tags = r.tags()?; while let Some(tag) = r.next_tag(&mut tags)? { match tag {\n",
    );
    for field in fields {
        let tag = field.tag.expect("only tagged fields are here");
        let name = names::field(&field.name);
        let value = read_expr(field, field.tagged, true);
        if let When::If(condition) = when(field.tagged, flexible) {
            text +=
                &format!("{tag} if !({condition}) => return Err(r.tag_of_another_version(tag)),\n");
        }
        text += &format!("{tag} => m.{name} = {value},\n");
    }
    text + "_ => r.skip_tag(&tags), } }"
}

fn flex(field: &Field, tag: bool) -> &'static str {
    match (tag, field.flexible) {
        (true, _) => "true",
        (false, true) => "flex",
        (false, false) => "false",
    }
}

/// The call that reads the field in `versions`.
fn read_expr(field: &Field, versions: Versions, tag: bool) -> String {
    let flex = flex(field, tag);
    let null = when(field.nullable, versions).expr();
    let option = expr::is_option(field);
    match &field.ty {
        Type::Struct(_) if option && tag => "r.nullable_tagged(version)?".into(),
        Type::Struct(_) if option => format!("r.nullable_struct(version, flex, {null})?"),
        Type::Struct(name) => format!("{name}::read(r, version, {flex})?"),
        Type::Array(_) if option => format!("r.nullable_array(version, {flex}, {null})?"),
        Type::Array(_) => format!("r.array(version, {flex})?"),
        Type::String | Type::Bytes | Type::Records => {
            let what = kind(&field.ty);
            if option {
                format!("r.nullable_{what}({flex}, {null})?")
            } else {
                format!("r.{what}({flex})?")
            }
        }
        ty => format!("r.{}()?", kind(ty)),
    }
}

/// The method of `Reader` and `Writer`.
fn kind(ty: &Type) -> &'static str {
    match ty {
        Type::Bool => "bool",
        Type::Int8 => "i8",
        Type::Int16 => "i16",
        Type::Uint16 => "u16",
        Type::Int32 => "i32",
        Type::Uint32 => "u32",
        Type::Int64 => "i64",
        Type::Float64 => "f64",
        Type::Uuid => "uuid",
        Type::String => "string",
        Type::Bytes => "bytes",
        Type::Records => "records",
        Type::Struct(_) => "struct",
        Type::Array(_) => "array",
    }
}

fn write(out: &mut String, message: &Message, s: &Struct) {
    line(
        out,
        format_args!(
            "fn write(&self, w: &mut Writer, version: i16, flex: bool) -> Result<(), EncodeError> {{"
        ),
    );
    for field in &s.fields {
        write_field(out, message, s, field);
    }
    let flexible = when(message.flexible, message.versions);
    guarded(out, &flexible, &write_tags(s, message.flexible));
    line(out, format_args!("Ok(()) }}"));
}

fn write_field(out: &mut String, message: &Message, s: &Struct, field: &Field) {
    let versions = untagged(message, field);
    let present = when(versions, message.versions);
    guarded(out, &present, &write_expr(s, field, versions, false));
    if field.ignorable {
        return;
    }
    if let When::If(condition) = when(field.versions, message.versions) {
        let name = names::field(&field.name);
        let differs = expr::differs(field, &format!("self.{name}"));
        line(
            out,
            format_args!(
                "if !({condition}) && {differs} {{ return Err(EncodeError::absent(\"{}.{}\", version)); }}",
                s.name, field.name
            ),
        );
    }
}

/// The statement that writes the field in `versions`.
fn write_expr(s: &Struct, field: &Field, versions: Versions, tag: bool) -> String {
    let name = names::field(&field.name);
    let flex = flex(field, tag);
    let null = when(field.nullable, versions).expr();
    let path = format!("\"{}.{}\"", s.name, field.name);
    let option = expr::is_option(field);
    match &field.ty {
        Type::Struct(_) if option && tag => format!("w.nullable_tagged(&self.{name}, version)?;"),
        Type::Struct(_) if option => {
            format!("w.nullable_struct(&self.{name}, version, flex, {null}, {path})?;")
        }
        Type::Struct(_) => format!("self.{name}.write(w, version, {flex})?;"),
        Type::Array(_) if option => {
            format!("w.nullable_array(&self.{name}, version, {flex}, {null}, {path})?;")
        }
        Type::Array(_) => format!("w.array(&self.{name}, version, {flex})?;"),
        Type::String | Type::Bytes | Type::Records => {
            let what = kind(&field.ty);
            if option {
                format!("w.nullable_{what}(&self.{name}, {flex}, {null}, {path})?;")
            } else {
                format!("w.{what}(&self.{name}, {flex})?;")
            }
        }
        ty => format!("w.{}(self.{name});", kind(ty)),
    }
}

/// Only tagged fields that differ from their default are written, in the order of their tags.
fn write_tags(s: &Struct, flexible: Versions) -> String {
    let fields = tagged(s);
    if fields.is_empty() {
        return "w.no_tags();".into();
    }
    let mut text = String::from("let mut tags = w.tags();\n");
    for field in fields {
        let tag = field.tag.expect("only tagged fields are here");
        let name = names::field(&field.name);
        let differs = expr::differs(field, &format!("self.{name}"));
        let value = write_expr(s, field, field.tagged, true);
        let condition = match when(field.tagged, flexible) {
            When::If(condition) => format!("{condition} && {differs}"),
            _ => differs,
        };
        text += &format!(
            "if {condition} {{ let at = w.tag(&mut tags, {tag}); {value} w.end_tag(at); }}\n"
        );
    }
    text
}
