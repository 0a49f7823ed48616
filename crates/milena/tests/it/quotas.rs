//! Client quotas and SCRAM credentials are stored, described, and still there after a restart.

use milena_base::ErrorCode;
use milena_protocol::alter_client_quotas_request::{EntityData, EntryData, OpData};
use milena_protocol::alter_user_scram_credentials_request::ScramCredentialUpsertion;
use milena_protocol::describe_client_quotas_request::ComponentData;
use milena_protocol::describe_user_scram_credentials_request::UserName;
use milena_protocol::{
    AlterClientQuotasRequest, AlterUserScramCredentialsRequest, DescribeClientQuotasRequest,
    DescribeUserScramCredentialsRequest, Str,
};

use crate::node::Home;
use crate::wire::Wire;

fn set(wire: &mut Wire, kind: &str, name: Option<&str>, key: &str, value: f64, version: i16) {
    let request = AlterClientQuotasRequest {
        entries: vec![EntryData {
            entity: vec![EntityData {
                entity_type: Str::copy(kind),
                entity_name: name.map(Str::copy),
            }],
            ops: vec![OpData {
                key: Str::copy(key),
                value,
                remove: false,
            }],
        }],
        validate_only: false,
    };
    assert_eq!(wire.call(&request, version).entries[0].error_code, 0);
}

/// Type, match type, and name of a filter's component.
type Part<'a> = (&'a str, i8, Option<&'a str>);

/// `type=name key=value` of what matches; the error code otherwise.
fn quotas(wire: &mut Wire, filter: &[Part], strict: bool) -> String {
    let component = |(kind, match_type, name): &Part| ComponentData {
        entity_type: Str::copy(kind),
        match_type: *match_type,
        r#match: name.map(Str::copy),
    };
    let request = DescribeClientQuotasRequest {
        components: filter.iter().map(component).collect(),
        strict,
    };
    let answer = wire.call(&request, 1);
    if answer.error_code != 0 {
        assert_eq!(answer.entries, None);
        return ErrorCode::from_code(answer.error_code)
            .unwrap()
            .name()
            .to_owned();
    }
    let mut lines = Vec::new();
    for entry in answer.entries.unwrap() {
        let part = &entry.entity[0];
        let name = part.entity_name.as_deref().unwrap_or("<default>");
        let values = entry
            .values
            .iter()
            .map(|v| format!(" {}={}", v.key, v.value));
        lines.push(format!(
            "{}={name}{}",
            part.entity_type,
            values.collect::<String>()
        ));
    }
    lines.join("; ")
}

/// A user, an error code, and mechanisms with iterations.
type Described = (String, i16, Vec<(i8, i32)>);

fn scram(wire: &mut Wire, users: Option<&[&str]>) -> Vec<Described> {
    let name = |name: &&str| UserName {
        name: Str::copy(name),
    };
    let request = DescribeUserScramCredentialsRequest {
        users: users.map(|users| users.iter().map(name).collect()),
    };
    let results = wire.call(&request, 0).results.into_iter();
    let infos = results.map(|result| {
        let infos = result.credential_infos.iter();
        let infos = infos.map(|info| (info.mechanism, info.iterations));
        (result.user.to_string(), result.error_code, infos.collect())
    });
    infos.collect()
}

#[test]
fn quotas_are_kept_and_described() {
    let home = Home::new();
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    set(
        &mut wire,
        "user",
        Some("alice"),
        "producer_byte_rate",
        1024.0,
        0,
    );
    set(&mut wire, "user", None, "request_percentage", 12.5, 1);
    set(
        &mut wire,
        "client-id",
        Some("c1"),
        "consumer_byte_rate",
        2048.0,
        1,
    );
    node.stop();
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    let all = "client-id=c1 consumer_byte_rate=2048; user=<default> request_percentage=12.5; user=alice producer_byte_rate=1024";
    let cases: [(&[Part], bool, &str); 9] = [
        (&[], false, all),
        (&[], true, ""),
        (
            &[("user", 0, Some("alice"))],
            true,
            "user=alice producer_byte_rate=1024",
        ),
        (
            &[("user", 1, None)],
            true,
            "user=<default> request_percentage=12.5",
        ),
        (
            &[("client-id", 2, None)],
            true,
            "client-id=c1 consumer_byte_rate=2048",
        ),
        (&[("user", 0, None)], true, "INVALID_REQUEST"),
        (&[("planet", 2, None)], true, "UNSUPPORTED_VERSION"),
        (
            &[("ip", 2, None), ("user", 2, None)],
            true,
            "INVALID_REQUEST",
        ),
        (&[("user", 7, None)], true, "INVALID_REQUEST"),
    ];
    for (filter, strict, expected) in cases {
        assert_eq!(quotas(&mut wire, filter, strict), expected, "{filter:?}");
    }
    println!("quotas: 3 kept, {} filters", cases.len());
}

#[test]
fn scram_credentials_are_kept_and_described() {
    let home = Home::new();
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    let upsertion = |name: &str, mechanism, iterations| ScramCredentialUpsertion {
        name: Str::copy(name),
        mechanism,
        iterations,
        salt: b"salt"[..].into(),
        salted_password: b"salted"[..].into(),
    };
    for wanted in [
        upsertion("alice", 1, 4096),
        upsertion("alice", 2, 8192),
        upsertion("bob", 2, 4096),
    ] {
        let request = AlterUserScramCredentialsRequest {
            upsertions: vec![wanted],
            ..AlterUserScramCredentialsRequest::default()
        };
        assert_eq!(wire.call(&request, 0).results[0].error_code, 0);
    }
    node.stop();
    let node = home.start();
    let mut wire = Wire::connect(&node.address);
    let alice = ("alice".to_owned(), 0, vec![(1, 4096), (2, 8192)]);
    let bob = ("bob".to_owned(), 0, vec![(2, 4096)]);
    assert_eq!(scram(&mut wire, None), [alice.clone(), bob]);
    assert_eq!(scram(&mut wire, Some(&["alice"])), [alice]);
    let code = |code: ErrorCode, user: &str| (user.to_owned(), code.code(), Vec::new());
    assert_eq!(
        scram(&mut wire, Some(&["nobody", "bob", "bob"])),
        [
            code(ErrorCode::DuplicateResource, "bob"),
            code(ErrorCode::ResourceNotFound, "nobody")
        ]
    );
    println!("scram: 3 credentials, 2 errors");
}
