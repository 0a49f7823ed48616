//! Tables over many messages: `ApiKey`, and one enum for each kind of record.

use crate::emit::line;
use crate::model::{Kind, Listener, Message};

pub fn emit(out: &mut String, messages: &[Message]) {
    api_keys(out, messages);
    let framed = |group| pick(messages, group, Kind::Metadata);
    family(
        out,
        "MetadataRecord",
        "a record of `__cluster_metadata`",
        FRAMED,
        &framed("records-metadata"),
    );
    family(
        out,
        "RemoteLogMetadataRecord",
        "a record of `__remote_log_metadata`",
        FRAMED,
        &framed("records-storage"),
    );
    for (group, name, topic) in [
        ("records-group-coordinator", "Group", "__consumer_offsets"),
        (
            "records-transaction-coordinator",
            "Transaction",
            "__transaction_state",
        ),
        ("records-share-coordinator", "Share", "__share_group_state"),
    ] {
        let keys = pick(messages, group, Kind::CoordinatorKey);
        let values = pick(messages, group, Kind::CoordinatorValue);
        let key = format!("{name}CoordinatorKey");
        let value = format!("{name}CoordinatorValue");
        family(
            out,
            &key,
            &format!("the key of a record of `{topic}`"),
            KEYED,
            &keys,
        );
        family(
            out,
            &value,
            &format!("the value of a record of `{topic}`"),
            VALUED,
            &values,
        );
    }
    codecs(out, messages);
}

/// The macro of `records.rs` that completes the enum: which framing it has.
const FRAMED: (&str, &[&str]) = ("framed_records", &["Record"]);
const KEYED: (&str, &[&str]) = ("coordinator_keys", &["Key"]);
const VALUED: (&str, &[&str]) = ("coordinator_values", &["Value"]);

fn pick<'a>(messages: &'a [Message], group: &str, kind: Kind) -> Vec<&'a Message> {
    let mut picked: Vec<&Message> = messages
        .iter()
        .filter(|m| m.group == group && m.kind == kind)
        .collect();
    picked.sort_by_key(|m| m.key);
    picked
}

fn family(out: &mut String, name: &str, doc: &str, form: (&str, &[&str]), members: &[&Message]) {
    let (makro, suffixes) = form;
    line(
        out,
        format_args!("crate::records::{makro}! {{ {doc:?} {name}"),
    );
    for member in members {
        let suffix = suffixes.iter().find_map(|s| member.name.strip_suffix(s));
        let variant = suffix.unwrap_or(&member.name);
        let key = member.key.unwrap_or(-1);
        line(out, format_args!("{key} {variant} {},", member.name));
    }
    line(out, format_args!("}}"));
}

fn api_keys(out: &mut String, messages: &[Message]) {
    let mut requests: Vec<&Message> = messages
        .iter()
        .filter(|m| m.kind == Kind::Request)
        .collect();
    requests.sort_by_key(|m| m.key);
    line(out, format_args!("crate::api_key::api_keys! {{"));
    for request in requests {
        let api = request
            .name
            .strip_suffix("Request")
            .unwrap_or(&request.name);
        let response = messages.iter().find(|m| m.name == format!("{api}Response"));
        let response = response.unwrap_or_else(|| panic!("{api} has no response"));
        let has = |l| request.listeners.contains(&l);
        line(
            out,
            format_args!(
                "{} {api} {api:?} {} {} {} {} {} {} {},",
                request.key.unwrap_or(-1),
                request.versions.low,
                request.versions.high,
                request.versions.high - i16::from(request.latest_unstable),
                flexible_from(request),
                flexible_from(response),
                has(Listener::Broker),
                has(Listener::Controller),
            ),
        );
    }
    line(out, format_args!("}}"));
}

fn flexible_from(message: &Message) -> i16 {
    match message.flexible {
        v if v.is_empty() => i16::MAX,
        v => v.low,
    }
}

/// Every message's codec by name, for the tests that walk all of them.
fn codecs(out: &mut String, messages: &[Message]) {
    line(out, format_args!("#[cfg(feature = \"arbitrary\")]"));
    line(
        out,
        format_args!("pub(crate) static CODECS: &[crate::arbitrary::Codec] = &["),
    );
    for message in messages {
        line(
            out,
            format_args!(
                "crate::arbitrary::Codec::of::<{}>({:?}),",
                message.name, message.group
            ),
        );
    }
    line(out, format_args!("];"));
}
