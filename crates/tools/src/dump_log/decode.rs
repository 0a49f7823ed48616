//! Keys and values as text: plain, or as the JSON of an internal topic.

use std::fmt::Write as _;

use bytes::Bytes;
use milena_protocol::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, DecodeError, EncodeError,
    GroupCoordinatorKey, GroupCoordinatorValue, Json, KRaftVersionRecord, LeaderChangeMessage,
    Message, MetadataRecord, Schema, ShareCoordinatorKey, ShareCoordinatorValue,
    SnapshotFooterRecord, SnapshotHeaderRecord, TransactionCoordinatorKey,
    TransactionCoordinatorValue, VotersRecord,
};
use milena_records::{ControlType, Record};

/// How records are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoder {
    Plain { key: Plain, value: Plain },
    Offsets,
    Transactions,
    Metadata,
    ShareState,
}

/// Kafka's plain decoders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plain {
    Text,
    Int,
    Long,
    Hex,
}

impl Plain {
    fn new(class: &str) -> Result<Plain, String> {
        match class.rsplit('.').next().unwrap_or(class) {
            "StringDecoder" => Ok(Plain::Text),
            "IntegerDecoder" => Ok(Plain::Int),
            "LongDecoder" => Ok(Plain::Long),
            "DefaultDecoder" => Ok(Plain::Hex),
            _ => Err(format!(
                "{class} is none of the decoders that are known here"
            )),
        }
    }

    fn text(self, bytes: &Bytes) -> String {
        let number = match self {
            Plain::Int => bytes
                .first_chunk()
                .map(|b| i64::from(i32::from_be_bytes(*b))),
            Plain::Long => bytes.first_chunk().map(|b| i64::from_be_bytes(*b)),
            _ => None,
        };
        match (self, number) {
            (_, Some(number)) => number.to_string(),
            (Plain::Text, _) => String::from_utf8_lossy(bytes).into_owned(),
            _ => bytes.iter().fold(String::new(), |mut text, byte| {
                let _ = write!(text, "{byte:02x}");
                text
            }),
        }
    }
}

/// Key and value as they are shown.
pub type Shown = (Option<String>, Option<String>);

impl Decoder {
    pub fn plain(key: &str, value: &str) -> Result<Decoder, String> {
        let (key, value) = (Plain::new(key)?, Plain::new(value)?);
        Ok(Decoder::Plain { key, value })
    }

    /// Whether it is that of an internal topic.
    pub fn is_special(self) -> bool {
        !matches!(self, Decoder::Plain { .. })
    }

    pub fn show(self, record: &Record) -> Shown {
        let (key, value) = (record.key.as_ref(), record.value.as_ref());
        match self {
            Decoder::Plain { key: k, value: v } => {
                (key.map(|key| k.text(key)), value.map(|value| v.text(value)))
            }
            Decoder::Metadata => (None, Some(metadata(record))),
            _ => self.internal(record).unwrap_or_else(|error| {
                let offset = record.offset.0;
                let what = match error {
                    Trouble::Unknown(kind) => {
                        format!("Unknown record type {kind} at offset {offset}, skipping.")
                    }
                    Trouble::Broken(why) => format!("Error at offset {offset}, skipping. {why}"),
                };
                (Some(what), None)
            }),
        }
    }

    fn internal(self, record: &Record) -> Result<Shown, Trouble> {
        let no_key = || Trouble::Broken("the record has no key".to_string());
        let key = record.key.as_ref().ok_or_else(no_key)?;
        let value = record.value.as_ref();
        let (type_id, key, value) = match self {
            Decoder::Offsets => {
                let key = GroupCoordinatorKey::decode(key)?;
                let id = key.type_id();
                let value = value
                    .map(|value| GroupCoordinatorValue::decode(id, value))
                    .transpose()?;
                let value = value.map(|(value, version)| {
                    let mut json = value.json(version)?;
                    show_members(&mut json, &value);
                    Ok::<_, EncodeError>((json, version))
                });
                (id, key.json(0)?, value.transpose()?)
            }
            Decoder::Transactions => {
                let key = TransactionCoordinatorKey::decode(key)?;
                let id = key.type_id();
                let value = value.map(|value| TransactionCoordinatorValue::decode(id, value));
                let value = value.transpose()?;
                let value = value.map(|(value, v)| value.json(v).map(|json| (json, v)));
                (id, key.json(0)?, value.transpose()?)
            }
            _ => {
                let key = ShareCoordinatorKey::decode(key)?;
                let id = key.type_id();
                let value = value
                    .map(|value| ShareCoordinatorValue::decode(id, value))
                    .transpose()?;
                let value = value.map(|(value, v)| value.json(v).map(|json| (json, v)));
                (id, key.json(0)?, value.transpose()?)
            }
        };
        let text = |number: i16| Json::Text(number.to_string().into());
        let key = Json::object([("type", text(type_id)), ("data", key)]);
        let value = match value {
            Some((data, version)) => {
                Json::object([("version", text(version)), ("data", data)]).to_string()
            }
            None => "<DELETE>".to_string(),
        };
        Ok((Some(key.to_string()), Some(value)))
    }
}

/// Why an internal record can't be shown.
enum Trouble {
    Unknown(i32),
    Broken(String),
}

impl From<DecodeError> for Trouble {
    fn from(error: DecodeError) -> Trouble {
        match error {
            DecodeError::UnknownRecord { type_id } => Trouble::Unknown(type_id),
            error => Trouble::Broken(error.to_string()),
        }
    }
}

impl From<EncodeError> for Trouble {
    fn from(error: EncodeError) -> Trouble {
        Trouble::Broken(error.to_string())
    }
}

fn metadata(record: &Record) -> String {
    let value = record.value.clone().unwrap_or_default();
    let shown = MetadataRecord::decode_with_version(&value).map_err(|error| error.to_string());
    let shown = shown.and_then(|(record, version)| {
        let data = record.json(version).map_err(|error| error.to_string())?;
        let name = Json::Text(record.type_name().into());
        let version = Json::Int(version.into());
        Ok(Json::object([("type", name), ("version", version), ("data", data)]).to_string())
    });
    shown.unwrap_or_else(|why| format!("Error at {}, skipping. {why}", record.offset.0))
}

/// Members of a group of consumers: what they say to each other is shown instead of its bytes.
fn show_members(json: &mut Json, value: &GroupCoordinatorValue) {
    let GroupCoordinatorValue::GroupMetadata(group) = value else {
        return;
    };
    if group.protocol_type != "consumer" {
        return;
    }
    let Some(Json::Array(members)) = json.get_mut("members") else {
        return;
    };
    for (shown, member) in members.iter_mut().zip(&group.members) {
        let parts = [
            (
                "subscription",
                &member.subscription,
                ConsumerProtocolSubscription::SCHEMA,
            ),
            (
                "assignment",
                &member.assignment,
                ConsumerProtocolAssignment::SCHEMA,
            ),
        ];
        for (name, bytes, schema) in parts {
            if let (Some(field), Some(json)) = (shown.get_mut(name), versioned(bytes, schema)) {
                *field = json;
            }
        }
    }
}

/// A body after its int16 version.
fn versioned(bytes: &Bytes, schema: &Schema) -> Option<Json> {
    let version = i16::from_be_bytes(*bytes.first_chunk()?);
    Json::of_bytes(schema, bytes.slice(2..), version).ok()
}

/// A control record after its sizes, as Kafka shows each kind.
pub fn control(record: &Record) -> String {
    let key = record.key.clone().unwrap_or_default();
    let value = record.value.clone().unwrap_or_default();
    let Some(kind) = ControlType::of_key(&key) else {
        let id = key
            .get(2..4)
            .map_or(-1, |id| i16::from_be_bytes([id[0], id[1]]));
        return format!(" controlType: UNKNOWN({id})");
    };
    let (name, schema) = match kind {
        ControlType::Abort | ControlType::Commit => {
            let name = if kind == ControlType::Abort {
                "ABORT"
            } else {
                "COMMIT"
            };
            let epoch = value.get(2..6).and_then(|bytes| bytes.first_chunk());
            let epoch = epoch.map_or(-1, |bytes| i32::from_be_bytes(*bytes));
            return format!(" endTxnMarker: {name} coordinatorEpoch: {epoch}");
        }
        ControlType::LeaderChange => ("LeaderChange:", LeaderChangeMessage::SCHEMA),
        ControlType::SnapshotHeader => ("SnapshotHeader", SnapshotHeaderRecord::SCHEMA),
        ControlType::SnapshotFooter => ("SnapshotFooter", SnapshotFooterRecord::SCHEMA),
        ControlType::KRaftVersion => ("KRaftVersion", KRaftVersionRecord::SCHEMA),
        ControlType::KRaftVoters => ("KRaftVoters", VotersRecord::SCHEMA),
    };
    // Each of these has its version as its first field.
    let version = value
        .first_chunk()
        .map_or(0, |bytes| i16::from_be_bytes(*bytes));
    match Json::of_bytes(schema, value, version) {
        Ok(json) => format!(" {name} {json}"),
        Err(error) => format!(" {name} can't be read: {error}"),
    }
}
