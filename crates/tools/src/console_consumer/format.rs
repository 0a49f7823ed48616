//! From a record to what stands on standard output.

use bytes::Bytes;
use milena_client::consumer::ConsumerRecord;
use milena_protocol::{
    DecodeError, GroupCoordinatorKey, GroupCoordinatorValue, Json, ShareCoordinatorKey,
    ShareCoordinatorValue, TransactionCoordinatorKey, TransactionCoordinatorValue,
};

use super::flags::DEFAULT_FORMATTER;
use crate::connect::Properties;
use crate::say;

/// Kafka's formatters by the last part of their names.
#[derive(Debug)]
pub enum Formatter {
    Default(Columns),
    /// The default one's line, and one in the log.
    Logging(Columns),
    NoOp,
    /// Keys and values of an internal topic as JSON.
    Internal(Internal),
}

/// Which internal records are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Internal {
    Offsets,
    GroupMetadata,
    TransactionLog,
    ShareGroupState,
}

/// How the default formatter is set.
#[derive(Debug)]
pub struct Columns {
    timestamp: bool,
    partition: bool,
    offset: bool,
    delivery: bool,
    epoch: bool,
    headers: bool,
    key: bool,
    value: bool,
    key_separator: Vec<u8>,
    line_separator: Vec<u8>,
    headers_separator: Vec<u8>,
    null_literal: Bytes,
    key_form: Form,
    value_form: Form,
    headers_form: Form,
}

/// How bytes are read (Kafka's deserializers that have a text).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Raw,
    Short,
    Int,
    Long,
    Float,
    Double,
    Bool,
    Uuid,
}

impl Formatter {
    /// By the name of Kafka's class. The error is the name, as Kafka says it.
    pub fn new(class: &str, properties: &Properties) -> Result<Formatter, String> {
        let name = class.rsplit('.').next().unwrap_or(class);
        let known = class == name
            || class.starts_with("org.apache.kafka.tools.consumer.")
            || class.starts_with("kafka.tools.")
            || class.starts_with("kafka.coordinator.");
        let simple = name.rsplit('$').next().unwrap_or(name);
        match simple {
            _ if class == DEFAULT_FORMATTER => Ok(Formatter::Default(Columns::new(properties)?)),
            _ if !known => Err(class.to_string()),
            "DefaultMessageFormatter" => Ok(Formatter::Default(Columns::new(properties)?)),
            "LoggingMessageFormatter" => Ok(Formatter::Logging(Columns::new(properties)?)),
            "NoOpMessageFormatter" => Ok(Formatter::NoOp),
            "OffsetsMessageFormatter" => Ok(Formatter::Internal(Internal::Offsets)),
            "GroupMetadataMessageFormatter" => Ok(Formatter::Internal(Internal::GroupMetadata)),
            "TransactionLogMessageFormatter" => Ok(Formatter::Internal(Internal::TransactionLog)),
            "ShareGroupStateMessageFormatter" => Ok(Formatter::Internal(Internal::ShareGroupState)),
            _ => Err(class.to_string()),
        }
    }

    /// Appends the record's text.
    pub fn write(&self, record: &ConsumerRecord, out: &mut Vec<u8>) -> Result<(), String> {
        match self {
            Formatter::Default(columns) => columns.write(record, out),
            Formatter::Logging(columns) => {
                columns.write(record, out)?;
                let text = |bytes: &Option<Bytes>| match bytes {
                    Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                    None => "null".into(),
                };
                let time = format!("{}:{}, ", record.timestamp_type.name(), record.timestamp);
                let (key, value) = (text(&record.key), text(&record.value));
                let line = format_args!("{time}key:{key}, value:{value}");
                say::log(
                    "INFO",
                    line,
                    "org.apache.kafka.tools.consumer.LoggingMessageFormatter",
                );
                Ok(())
            }
            Formatter::NoOp => Ok(()),
            Formatter::Internal(internal) => {
                if let Some(json) = internal.json(record) {
                    out.extend_from_slice(json.to_string().as_bytes());
                }
                Ok(())
            }
        }
    }
}

impl Columns {
    fn new(properties: &Properties) -> Result<Columns, String> {
        let flag = |key: &str, default: bool| {
            let value = properties.get(key).map(|value| value.trim());
            value.map_or(default, |value| value.eq_ignore_ascii_case("true"))
        };
        let text = |key: &str, default: &str| {
            let value = properties.get(key).map_or(default, String::as_str);
            value.as_bytes().to_vec()
        };
        let form = |key: &str| {
            properties
                .get(key)
                .map_or(Ok(Form::Raw), |class| Form::new(class))
        };
        Ok(Columns {
            timestamp: flag("print.timestamp", false),
            partition: flag("print.partition", false),
            offset: flag("print.offset", false),
            delivery: flag("print.delivery", false),
            epoch: flag("print.epoch", false),
            headers: flag("print.headers", false),
            key: flag("print.key", false),
            value: flag("print.value", true),
            key_separator: text("key.separator", "\t"),
            line_separator: text("line.separator", "\n"),
            headers_separator: text("headers.separator", ","),
            null_literal: text("null.literal", "null").into(),
            key_form: form("key.deserializer")?,
            value_form: form("value.deserializer")?,
            headers_form: form("headers.deserializer")?,
        })
    }

    fn write(&self, record: &ConsumerRecord, out: &mut Vec<u8>) -> Result<(), String> {
        let mut columns: Vec<Vec<u8>> = Vec::new();
        if self.timestamp {
            let time = format!("{}:{}", record.timestamp_type.name(), record.timestamp);
            columns.push(time.into());
        }
        if self.partition {
            columns.push(format!("Partition:{}", record.partition).into());
        }
        if self.offset {
            columns.push(format!("Offset:{}", record.offset).into());
        }
        if self.delivery {
            columns.push(b"Delivery:NOT_PRESENT".to_vec());
        }
        if self.epoch {
            // Kafka's consumer tool does not pass the epoch on to its formatters.
            columns.push(b"Epoch:NOT_PRESENT".to_vec());
        }
        if self.headers {
            columns.push(self.headers(record)?);
        }
        if self.key {
            columns.push(self.field(&record.key, self.key_form)?);
        }
        if self.value {
            columns.push(self.field(&record.value, self.value_form)?);
        }
        if !columns.is_empty() {
            out.extend(columns.join(&self.key_separator[..]));
            out.extend_from_slice(&self.line_separator);
        }
        Ok(())
    }

    fn field(&self, bytes: &Option<Bytes>, form: Form) -> Result<Vec<u8>, String> {
        match bytes {
            Some(bytes) => form.text(bytes),
            None => Ok(self.null_literal.to_vec()),
        }
    }

    fn headers(&self, record: &ConsumerRecord) -> Result<Vec<u8>, String> {
        if record.headers.is_empty() {
            return Ok(b"NO_HEADERS".to_vec());
        }
        let header = |header: &milena_records::Header| {
            let mut text = header.key.to_vec();
            text.push(b':');
            text.extend(self.field(&header.value, self.headers_form)?);
            Ok::<_, String>(text)
        };
        let headers = record
            .headers
            .iter()
            .map(header)
            .collect::<Result<Vec<_>, _>>()?;
        Ok(headers.join(&self.headers_separator[..]))
    }
}

impl Form {
    fn new(class: &str) -> Result<Form, String> {
        let name = class
            .strip_prefix("org.apache.kafka.common.serialization.")
            .unwrap_or(class);
        match name {
            "StringDeserializer" | "ByteArrayDeserializer" | "BytesDeserializer" => Ok(Form::Raw),
            "ShortDeserializer" => Ok(Form::Short),
            "IntegerDeserializer" => Ok(Form::Int),
            "LongDeserializer" => Ok(Form::Long),
            "FloatDeserializer" => Ok(Form::Float),
            "DoubleDeserializer" => Ok(Form::Double),
            "BooleanDeserializer" => Ok(Form::Bool),
            "UUIDDeserializer" => Ok(Form::Uuid),
            _ => Err(format!(
                "{class} is none of the deserializers that are known here"
            )),
        }
    }

    fn text(self, bytes: &Bytes) -> Result<Vec<u8>, String> {
        fn fixed<const N: usize>(bytes: &Bytes) -> Result<[u8; N], String> {
            let wrong = |_| format!("{} bytes are no value of {N} bytes", bytes.len());
            <[u8; N]>::try_from(&bytes[..]).map_err(wrong)
        }
        let text = match self {
            Form::Raw | Form::Uuid => return Ok(bytes.to_vec()),
            Form::Short => i16::from_be_bytes(fixed(bytes)?).to_string(),
            Form::Int => i32::from_be_bytes(fixed(bytes)?).to_string(),
            Form::Long => i64::from_be_bytes(fixed(bytes)?).to_string(),
            Form::Float => Json::Float(f32::from_be_bytes(fixed(bytes)?).into()).to_string(),
            Form::Double => Json::Float(f64::from_be_bytes(fixed(bytes)?)).to_string(),
            Form::Bool => (fixed::<1>(bytes)? != [0]).to_string(),
        };
        Ok(text.into())
    }
}

impl Internal {
    /// Kafka's form: type and data of the key, version and data of the value. `None`: of another kind.
    fn json(self, record: &ConsumerRecord) -> Option<Json> {
        let key = record.key.as_ref()?;
        let value = record.value.as_ref();
        let (type_id, shown, value) = match self {
            Internal::Offsets | Internal::GroupMetadata => {
                let key = GroupCoordinatorKey::decode(key).ok()?;
                let offsets = matches!(key.type_id(), 0 | 1);
                if offsets != (self == Internal::Offsets) || key.type_id() > 2 {
                    return None;
                }
                let value = value.map(|value| GroupCoordinatorValue::decode(key.type_id(), value));
                (
                    key.type_id(),
                    key.json(0),
                    shown(value, |value, v| value.json(v)),
                )
            }
            Internal::TransactionLog => {
                let key = TransactionCoordinatorKey::decode(key).ok()?;
                let value =
                    value.map(|value| TransactionCoordinatorValue::decode(key.type_id(), value));
                (
                    key.type_id(),
                    key.json(0),
                    shown(value, |value, v| value.json(v)),
                )
            }
            Internal::ShareGroupState => {
                let key = ShareCoordinatorKey::decode(key).ok()?;
                let value = value.map(|value| ShareCoordinatorValue::decode(key.type_id(), value));
                (
                    key.type_id(),
                    key.json(0),
                    shown(value, |value, v| value.json(v)),
                )
            }
        };
        let data = shown.ok()?;
        let key = Json::object([("type", Json::Int(type_id.into())), ("data", data)]);
        Some(Json::object([("key", key), ("value", value)]))
    }
}

fn shown<V>(
    value: Option<Result<(V, i16), DecodeError>>,
    json: impl Fn(&V, i16) -> Result<Json, milena_protocol::EncodeError>,
) -> Json {
    match value {
        None => Json::Null,
        Some(Ok((value, version))) => match json(&value, version) {
            Ok(data) => Json::object([("version", Json::Int(version.into())), ("data", data)]),
            Err(_) => Json::Null,
        },
        Some(Err(_)) => Json::Text("unknown".into()),
    }
}
