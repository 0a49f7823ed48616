//! The structures: fields, defaults, `Debug` where something must not be printed.

use crate::emit::{expr, line};
use crate::model::{Field, Message, Struct, Type};
use crate::names;

pub fn emit(out: &mut String, message: &Message, s: &Struct) {
    let hides = s.fields.iter().any(|f| f.secret);
    let special = s.fields.iter().any(|f| expr::special_default(f).is_some());
    doc(out, message, s);
    let mut derives = vec!["Clone", "PartialEq"];
    if !hides {
        derives.push("Debug");
    }
    if !special {
        derives.push("Default");
    }
    line(out, format_args!("#[derive({})]", derives.join(", ")));
    line(out, format_args!("pub struct {} {{", s.name));
    for field in &s.fields {
        line(out, format_args!("/// {}", field_doc(field)));
        let (name, ty) = (names::field(&field.name), expr::field_type(field));
        line(out, format_args!("pub {name}: {ty},"));
    }
    line(out, format_args!("}}"));
    if !holds_float(message, s) {
        line(out, format_args!("impl Eq for {} {{}}", s.name));
    }
    if special {
        default(out, s);
    }
    if hides {
        debug(out, s);
    }
}

fn doc(out: &mut String, message: &Message, s: &Struct) {
    if s.name == message.name {
        let (kind, versions) = (message.kind, message.versions);
        line(
            out,
            format_args!(
                "/// {kind:?}, versions {versions}, flexible {}.",
                message.flexible
            ),
        );
    } else {
        line(out, format_args!("/// Part of [`{}`].", message.name));
    }
}

fn field_doc(field: &Field) -> String {
    let mut text = format!("Versions {}", field.versions);
    if expr::is_option(field) {
        text += &format!(", nullable {}", field.nullable);
    }
    if let Some(tag) = field.tag {
        text += &format!(", tag {tag}");
    }
    if field.ignorable {
        text += ", ignorable";
    }
    text + "."
}

fn holds_float(message: &Message, s: &Struct) -> bool {
    fn ty_holds(message: &Message, ty: &Type) -> bool {
        match ty {
            Type::Float64 => true,
            Type::Struct(name) => holds_float(message, message.find(name)),
            Type::Array(element) => ty_holds(message, element),
            _ => false,
        }
    }
    s.fields.iter().any(|f| ty_holds(message, &f.ty))
}

fn default(out: &mut String, s: &Struct) {
    line(out, format_args!("impl Default for {} {{", s.name));
    line(out, format_args!("fn default() -> Self {{ Self {{"));
    for field in &s.fields {
        let value = expr::special_default(field);
        let value = value.as_deref().unwrap_or("Default::default()");
        line(out, format_args!("{}: {value},", names::field(&field.name)));
    }
    line(out, format_args!("}} }} }}"));
}

fn debug(out: &mut String, s: &Struct) {
    line(out, format_args!("impl std::fmt::Debug for {} {{", s.name));
    line(
        out,
        format_args!("fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {{"),
    );
    line(out, format_args!("f.debug_struct({:?})", s.name));
    for field in &s.fields {
        let name = names::field(&field.name);
        let value = if field.secret {
            "&Hidden".to_string()
        } else {
            format!("&self.{name}")
        };
        let label = names::snake(&field.name);
        line(out, format_args!(".field({label:?}, {value})"));
    }
    line(out, format_args!(".finish() }} }}"));
}
