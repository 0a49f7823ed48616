//! The compiler from outside: what a text means, what is refused, and the code that one message becomes.

use std::path::Path;

use milena_schema::{Default, Kind, Listener, Type, Versions, emit, parse};

fn golden(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

fn small() -> String {
    std::fs::read_to_string(golden("small.txt")).unwrap()
}

#[test]
fn a_text_is_read_as_it_is_written() {
    let messages = parse(&small(), "api").unwrap();
    let [request, response] = &messages[..] else {
        panic!("two messages: {messages:?}")
    };
    assert_eq!(
        (request.kind, response.kind),
        (Kind::Request, Kind::Response)
    );
    assert_eq!((request.key, request.group.as_str()), (Some(7), "api"));
    assert_eq!(request.listeners, [Listener::Broker, Listener::Controller]);
    assert_eq!(request.flexible, Versions { low: 3, high: 4 });
    let names: Vec<_> = request.structs.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["SmallRequest", "Item", "Cursor"]);
    let fields = &request.structs[0].fields;
    assert!(
        fields.iter().all(|field| field.name != "Old"),
        "no version has it"
    );
    let [name, count, items, label, secret] = &fields[..] else {
        panic!("five fields: {fields:?}")
    };
    assert_eq!(name.nullable, Versions { low: 2, high: 4 });
    assert!(name.ignorable && name.key && name.default == Default::Null);
    assert_eq!((count.versions.low, count.versions.high), (2, 3));
    assert_eq!(count.default, Default::Int(-1));
    assert_eq!(items.ty, Type::Array(Box::new(Type::Struct("Item".into()))));
    assert_eq!(
        (label.tag, label.tagged.low, label.default),
        (Some(1), 4, Default::Zero)
    );
    assert!(secret.secret && secret.tag == Some(0));
    assert_eq!(request.structs[2].fields[0].default, Default::Int(127));
}

/// The emitted code, formatted, is a text that a person reads in a diff. `UPDATE=1` rewrites it.
#[test]
fn the_code_of_a_message_is_what_was_read_last() {
    let code = emit(&parse(&small(), "api").unwrap());
    let path = golden("small.rs.txt");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &code).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert!(
        code == expected,
        "the emitted code changed: UPDATE=1, then read the diff"
    );
}

#[test]
fn what_is_not_understood_is_an_error_with_its_line() {
    let head = "X = data | versions 0-1 | flexible none\n";
    for (text, line, why) in [
        ("X = thing | versions 0", 1, "unknown kind"),
        ("X = data | versions 0+", 1, "closed range"),
        ("X = data | versions 2-1", 1, "versions"),
        ("X = data | versions 0 | colour red", 1, "unknown attribute"),
        ("X", 1, "a header is"),
        ("  A: int8 | 0+\n", 1, "a header is"),
        (&format!("{head}  A: int9 | 0+"), 2, "type"),
        (&format!("{head}  A: int8"), 2, "versions are missing"),
        (&format!("{head}  A: int8 | 0+ | shiny"), 2, "shiny"),
        (&format!("{head}  A: int8 | 0+ | default x"), 2, "default x"),
        (&format!("{head}  A: bool | 0+ | default 1"), 2, "default 1"),
        (&format!("{head}   A: int8 | 0+"), 2, "two blanks"),
        (&format!("{head}    A: int8 | 0+"), 2, "a level is left out"),
        (
            &format!("{head}  A: int8 | 0+\n    B: int8 | 0+"),
            2,
            "under a scalar",
        ),
        (
            &format!("{head}  A: Nowhere | 0+"),
            1,
            "no structure Nowhere",
        ),
        (
            &format!("{head}  A: T | 0+\n    B: int8 | 0+\n  C: T | 0+\n    B: int16 | 0+"),
            4,
            "two different structures T",
        ),
        (
            &format!("{head}  A: int8 | 0+ | tag 3 in 0+\n  B: int8 | 0+ | tag 3 in 0+"),
            1,
            "tag 3 twice",
        ),
    ] {
        let error = parse(text, "test").expect_err(text);
        assert_eq!(error.line, line, "{text}: {error}");
        assert!(error.why.contains(why), "{text}: {error}");
    }
}
