//! Constants: what `Message` states of each message, and the field table that JSON and the tests walk.

use crate::emit::line;
use crate::model::{Default, Field, Kind, Message, Struct, Type, Versions};
use crate::names;

/// The table of one structure's fields.
pub fn emit(out: &mut String, message: &Message, s: &Struct) {
    line(
        out,
        format_args!(
            "pub(crate) static {}: Schema = Schema {{ name: {:?}, flexible_from: {}, fields: &[",
            table(&s.name),
            s.name,
            flexible_from(message)
        ),
    );
    for field in &s.fields {
        row(out, field);
    }
    line(out, format_args!("] }};"));
}

fn table(name: &str) -> String {
    names::snake(name).to_ascii_uppercase()
}

fn flexible_from(message: &Message) -> String {
    match message.flexible {
        v if v.is_empty() => "i16::MAX".into(),
        v => v.low.to_string(),
    }
}

fn row(out: &mut String, field: &Field) {
    let tag = match field.tag {
        Some(tag) => format!("Some(({tag}, {}))", range(field.tagged)),
        None => "None".into(),
    };
    line(
        out,
        format_args!(
            "Field {{ name: {:?}, ty: {}, versions: {}, nullable: {}, tag: {tag}, flexible: {}, default: {}, ignorable: {}, secret: {} }},",
            names::camel(&field.name),
            ty(&field.ty),
            range(field.versions),
            range(field.nullable),
            field.flexible,
            default(field),
            field.ignorable,
            field.secret,
        ),
    );
}

fn range(versions: Versions) -> String {
    format!("({}, {})", versions.low, versions.high)
}

fn default(field: &Field) -> String {
    match field.default {
        Default::Zero => "Preset::Zero".into(),
        Default::Null => "Preset::Null".into(),
        Default::True => "Preset::Int(1)".into(),
        Default::Int(n) => format!("Preset::Int({n})"),
    }
}

fn ty(ty: &Type) -> String {
    match ty {
        Type::Struct(name) => format!("Type::Struct(&{})", table(name)),
        Type::Array(element) => format!("Type::Array(&{})", self::ty(element)),
        scalar => format!("Type::{scalar:?}"),
    }
}

/// What `Message` and `Request` state.
pub fn message(out: &mut String, message: &Message) {
    let name = &message.name;
    line(
        out,
        format_args!(
            "impl Message for {name} {{ const NAME: &'static str = {name:?}; const KEY: i16 = {}; const MIN_VERSION: i16 = {}; const MAX_VERSION: i16 = {}; const FLEXIBLE_FROM: i16 = {}; const SCHEMA: &'static Schema = &{}; }}",
            message.key.unwrap_or(-1),
            message.versions.low,
            message.versions.high,
            flexible_from(message),
            table(name)
        ),
    );
    if message.kind == Kind::Request {
        let api = name.strip_suffix("Request").unwrap_or(name);
        line(
            out,
            format_args!(
                "impl Request for {name} {{ type Response = crate::{api}Response; const API_KEY: ApiKey = ApiKey::{api}; }}"
            ),
        );
    }
}
