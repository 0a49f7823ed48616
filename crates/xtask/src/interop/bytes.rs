//! Random instances of every message and record in every version, sent to `interop/java/MessageBytes.java`,
//! which lets Kafka's own classes read, write and print them and compares.
//!
//! The stream: items of a tag byte and fields; text and bytes behind an int32 length (−1: none). See `Item`.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};

use bytes::Bytes;
use milena_base::{ErrorCode, Prng};
use milena_protocol::arbitrary::{Codec, Shape, codecs};
use milena_protocol::dynamic::Value;
use milena_protocol::{
    ApiKey, GroupCoordinatorKey, GroupCoordinatorValue, MetadataRecord, RemoteLogMetadataRecord,
    ShareCoordinatorKey, ShareCoordinatorValue, TransactionCoordinatorKey,
    TransactionCoordinatorValue,
};

use super::java;

/// Instances of each shape; `MILENA_INTEROP_INSTANCES` overrides.
const INSTANCES: u64 = 3;
const SEED: u64 = 44;

/// First byte of an item.
#[derive(Clone, Copy)]
enum Item {
    End = 0,
    /// A body: alone, with unknown tagged fields, as JSON, and in all other versions.
    Body = 1,
    /// The encoding of a message of defaults.
    Defaults = 2,
    /// A metadata record's value with its frame.
    Framed = 3,
    /// Key and value of a coordinator's record.
    Coordinator = 4,
    /// A row of the API table.
    Api = 5,
    /// A row of the error table.
    Error = 6,
}

pub fn run() -> Result<(), String> {
    let mut child = java::start("MessageBytes", java::KAFKA, &[])?;
    let pipe = child.stdin.take().ok_or("no pipe to java")?;
    let sent = send(&mut Stream(BufWriter::new(pipe)));
    let status = child.wait().map_err(|e| e.to_string())?;
    match (sent, status.success()) {
        (Ok(counts), true) => {
            let text = counts.iter().map(|(what, count)| format!("{count} {what}"));
            println!("sent {}", text.collect::<Vec<_>>().join(", "));
            Ok(())
        }
        (Err(why), true) => Err(why),
        (_, false) => Err("Kafka's classes disagree: see above".into()),
    }
}

struct Stream<W>(W);

impl<W: Write> Stream<W> {
    fn raw(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.0.write_all(bytes).map_err(|e| format!("to java: {e}"))
    }

    fn item(&mut self, item: Item) -> Result<(), String> {
        self.raw(&[item as u8])
    }

    fn i16(&mut self, value: i16) -> Result<(), String> {
        self.raw(&value.to_be_bytes())
    }

    fn flag(&mut self, value: bool) -> Result<(), String> {
        self.raw(&[value.into()])
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.raw(&(bytes.len() as i32).to_be_bytes())?;
        self.raw(bytes)
    }

    fn none(&mut self) -> Result<(), String> {
        self.raw(&(-1i32).to_be_bytes())
    }

    fn text(&mut self, text: &str) -> Result<(), String> {
        self.bytes(text.as_bytes())
    }
}

type Counts = BTreeMap<&'static str, u64>;

fn send<W: Write>(out: &mut Stream<W>) -> Result<Counts, String> {
    let mut counts = Counts::new();
    let mut prng = Prng::new(SEED);
    let instances = std::env::var("MILENA_INTEROP_INSTANCES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(INSTANCES);
    for codec in codecs() {
        *counts.entry("messages").or_default() += 1;
        for version in codec.versions() {
            *counts.entry("versions").or_default() += 1;
            defaults(out, codec, version)?;
            for shape in Shape::ALL {
                for _ in 0..instances {
                    body(out, codec, version, shape, &mut prng, &mut counts)?;
                }
            }
        }
    }
    apis(out)?;
    errors(out)?;
    out.item(Item::End)?;
    out.0.flush().map_err(|e| format!("to java: {e}"))?;
    Ok(counts)
}

fn body<W: Write>(
    out: &mut Stream<W>,
    codec: &Codec,
    version: i16,
    shape: Shape,
    prng: &mut Prng,
    counts: &mut Counts,
) -> Result<(), String> {
    let value = codec.instance(version, shape, prng);
    let made = codec.bytes(&value, version, false);
    let bytes = in_version(codec, &made, version, version)
        .map_err(|e| format!("{} {version}: {e}", codec.name))?;
    let json = codec
        .json(bytes.clone(), version)
        .map_err(|e| e.to_string())?;
    let json = json.map_err(|e| e.to_string())?;
    out.item(Item::Body)?;
    out.text(codec.group)?;
    out.text(codec.name)?;
    out.i16(version)?;
    out.bytes(&bytes)?;
    if version >= codec.schema.flexible_from {
        out.bytes(&codec.bytes(&value, version, true))?;
    } else {
        out.none()?;
    }
    out.text(&json.to_string())?;
    out.flag(holds_records(&value))?;
    out.i16(codec.versions().count() as i16)?;
    for other in codec.versions() {
        out.i16(other)?;
        match in_version(codec, &bytes, version, other) {
            Ok(bytes) => out.bytes(&bytes)?,
            Err(_) => out.none()?,
        }
    }
    *counts.entry("instances").or_default() += 1;
    records(out, codec, version, &bytes, counts)
}

/// Decodes with the generated codec and encodes in another version.
fn in_version(codec: &Codec, bytes: &Bytes, from: i16, to: i16) -> Result<Bytes, String> {
    let recoded = codec.recode(bytes.clone(), from, to);
    recoded
        .map_err(|e| e.to_string())?
        .map_err(|e| e.to_string())
}

/// JSON does not carry record batches.
fn holds_records(value: &Value) -> bool {
    match value {
        Value::Records(bytes) => !bytes.is_empty(),
        Value::Array(values) | Value::Struct(values) => values.iter().any(holds_records),
        _ => false,
    }
}

fn defaults<W: Write>(out: &mut Stream<W>, codec: &Codec, version: i16) -> Result<(), String> {
    out.item(Item::Defaults)?;
    out.text(codec.group)?;
    out.text(codec.name)?;
    out.i16(version)?;
    match codec.default_bytes(version) {
        Ok(bytes) => out.bytes(&bytes),
        Err(_) => out.none(),
    }
}

/// The same body as a whole record, where it is one of an internal topic.
fn records<W: Write>(
    out: &mut Stream<W>,
    codec: &Codec,
    version: i16,
    body: &Bytes,
    counts: &mut Counts,
) -> Result<(), String> {
    match codec.group {
        "records-metadata" | "records-storage" if codec.key >= 0 => {
            out.item(Item::Framed)?;
            out.text(codec.group)?;
            out.text(codec.name)?;
            out.i16(version)?;
            out.bytes(&framed(codec, version, body)?)?;
            *counts.entry("framed records").or_default() += 1;
        }
        group if codec.name.ends_with("Value") && group.ends_with("-coordinator") => {
            let (key, value) = keyed(codec, version, body)?;
            out.item(Item::Coordinator)?;
            out.text(group)?;
            out.text(codec.name)?;
            out.i16(version)?;
            out.bytes(&key)?;
            out.bytes(&value)?;
            *counts.entry("coordinator records").or_default() += 1;
        }
        _ => {}
    }
    Ok(())
}

fn framed(codec: &Codec, version: i16, body: &Bytes) -> Result<Bytes, String> {
    let value = Bytes::from([&[1, codec.key as u8, version as u8][..], body].concat());
    let written = if codec.group == "records-metadata" {
        let record = MetadataRecord::decode(&value).map_err(|e| e.to_string())?;
        record.encode(version)
    } else {
        let record = RemoteLogMetadataRecord::decode(&value).map_err(|e| e.to_string())?;
        record.encode(version)
    };
    written.map_err(|e| e.to_string())
}

/// Key and value through the enums of the topic; the key's own content is that of a random instance.
fn keyed(codec: &Codec, version: i16, body: &Bytes) -> Result<(Bytes, Bytes), String> {
    let name = codec.name.replace("Value", "Key");
    let key_codec = codecs().iter().find(|c| c.name == name);
    let key_codec = key_codec.ok_or_else(|| format!("{} has no key", codec.name))?;
    let key = key_codec.instance(0, Shape::Foreign, &mut Prng::new(body.len() as u64));
    let key = prefixed(codec.key, &key_codec.bytes(&key, 0, false));
    let value = prefixed(version, body);
    macro_rules! through {
        ($keys:ident, $values:ident) => {{
            let key = $keys::decode(&key).map_err(|e| e.to_string())?;
            let (value, version) =
                $values::decode(key.type_id(), &value).map_err(|e| e.to_string())?;
            let key = key.encode().map_err(|e| e.to_string())?;
            let value = value.encode(version).map_err(|e| e.to_string())?;
            Ok((key, value))
        }};
    }
    match codec.group {
        "records-group-coordinator" => through!(GroupCoordinatorKey, GroupCoordinatorValue),
        "records-share-coordinator" => through!(ShareCoordinatorKey, ShareCoordinatorValue),
        _ => through!(TransactionCoordinatorKey, TransactionCoordinatorValue),
    }
}

fn prefixed(prefix: i16, body: &[u8]) -> Bytes {
    Bytes::from([&prefix.to_be_bytes()[..], body].concat())
}

fn apis<W: Write>(out: &mut Stream<W>) -> Result<(), String> {
    for api in ApiKey::ALL {
        out.item(Item::Api)?;
        out.i16(api.code())?;
        out.text(api.name())?;
        out.i16(api.min_version())?;
        out.i16(api.max_version())?;
        out.i16(api.max_version_unstable())?;
        out.flag(api.listeners().broker)?;
        out.flag(api.listeners().controller)?;
        for version in api.min_version()..=api.max_version_unstable() {
            out.i16(api.request_header_version(version))?;
            out.i16(api.response_header_version(version))?;
        }
    }
    Ok(())
}

fn errors<W: Write>(out: &mut Stream<W>) -> Result<(), String> {
    for error in ErrorCode::ALL {
        out.item(Item::Error)?;
        out.i16(error.code())?;
        out.text(error.name())?;
        out.flag(error.is_retriable())?;
    }
    Ok(())
}
