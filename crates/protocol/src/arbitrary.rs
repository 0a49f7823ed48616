//! Random instances of every message, by its field table: for the tests of this crate and `xtask interop`.

use bytes::Bytes;
use milena_base::{Prng, Uuid};

use crate::dynamic::Value;
use crate::{DecodeError, EncodeError, Field, Json, Message, Preset, Schema, Str, Type, Writer};

/// What an instance is to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Null where it may be, else empty or zero.
    Least,
    /// Arrays of two, every tagged field set, texts in ASCII.
    Full,
    /// Texts beyond ASCII and with what JSON escapes.
    Foreign,
    /// Smallest and largest numbers, lengths around the limits of their encoding.
    Extreme,
    Any,
}

impl Shape {
    pub const ALL: [Shape; 5] = [
        Shape::Least,
        Shape::Full,
        Shape::Foreign,
        Shape::Extreme,
        Shape::Any,
    ];
}

/// Every message of the crate.
pub fn codecs() -> &'static [Codec] {
    crate::CODECS
}

/// A message's codec without its type.
#[derive(Debug)]
pub struct Codec {
    /// Folder of its schema text, for example `records-metadata`.
    pub group: &'static str,
    pub name: &'static str,
    pub key: i16,
    pub min: i16,
    pub max: i16,
    pub schema: &'static Schema,
    recode: fn(Bytes, i16, i16) -> Result<Recoded, DecodeError>,
    json: fn(Bytes, i16) -> Result<Result<Json, EncodeError>, DecodeError>,
    decodes: fn(Bytes, i16) -> bool,
    default_bytes: fn(i16) -> Recoded,
}

/// What a decoded message is in another version.
pub type Recoded = Result<Bytes, EncodeError>;

impl Codec {
    pub(crate) const fn of<M: Message>(group: &'static str) -> Codec {
        Codec {
            group,
            name: M::NAME,
            key: M::KEY,
            min: M::MIN_VERSION,
            max: M::MAX_VERSION,
            schema: M::SCHEMA,
            recode: recode::<M>,
            json: json::<M>,
            decodes: decodes::<M>,
            default_bytes: |version| M::default().to_bytes(version),
        }
    }

    pub fn versions(&self) -> std::ops::RangeInclusive<i16> {
        self.min..=self.max
    }

    /// Decodes in one version and encodes in another. Panics where decoding leaves bytes, or where what was
    /// encoded in the same version decodes to another value.
    pub fn recode(&self, bytes: Bytes, from: i16, to: i16) -> Result<Recoded, DecodeError> {
        (self.recode)(bytes, from, to)
    }

    /// Decodes, and gives the value's JSON. (A text that was repaired may have become too long to be encoded.)
    pub fn json(
        &self,
        bytes: Bytes,
        version: i16,
    ) -> Result<Result<Json, EncodeError>, DecodeError> {
        (self.json)(bytes, version)
    }

    /// Whether it can be decoded; does nothing else, so that its cost can be measured.
    pub fn decodes(&self, bytes: Bytes, version: i16) -> bool {
        (self.decodes)(bytes, version)
    }

    /// The bytes of a message that is all defaults; not every version can carry one.
    pub fn default_bytes(&self, version: i16) -> Recoded {
        (self.default_bytes)(version)
    }

    /// A body whose arrays hold `count` empty elements: the most memory for the fewest bytes.
    pub fn dense(&self, version: i16, count: usize) -> Bytes {
        let mut value = self.instance(version, Shape::Least, &mut Prng::new(0));
        fill_arrays(self.schema, &mut value, version, count);
        self.bytes(&value, version, false)
    }

    /// A random body.
    pub fn instance(&self, version: i16, shape: Shape, prng: &mut Prng) -> Value {
        Maker {
            version,
            shape,
            prng,
        }
        .structure(self.schema)
    }

    /// Its bytes; with `unknown`, every structure carries a tagged field that nobody knows.
    pub fn bytes(&self, value: &Value, version: i16, unknown: bool) -> Bytes {
        let mut w = Writer::new();
        write_struct(&mut w, self.schema, value, version, unknown);
        w.into_bytes().expect("no external records are made")
    }
}

fn recode<M: Message>(bytes: Bytes, from: i16, to: i16) -> Result<Recoded, DecodeError> {
    let mut r = crate::Reader::new(bytes);
    let message = M::decode(&mut r, from)?;
    assert_eq!(r.remaining(), 0, "{} {from}: bytes are left", M::NAME);
    let encoded = message.to_bytes(to);
    if let (true, Ok(bytes)) = (from == to, &encoded) {
        let again = M::from_bytes(bytes.clone(), to)?;
        assert_eq!(again, message, "{} {from}", M::NAME);
    }
    Ok(encoded)
}

fn json<M: Message>(bytes: Bytes, version: i16) -> Result<Result<Json, EncodeError>, DecodeError> {
    let message = M::from_bytes(bytes, version)?;
    Ok(Json::of(&message, version))
}

fn decodes<M: Message>(bytes: Bytes, version: i16) -> bool {
    M::from_bytes(bytes, version).is_ok()
}

fn fill_arrays(schema: &Schema, value: &mut Value, version: i16, count: usize) {
    let Value::Struct(values) = value else {
        return;
    };
    let mut prng = Prng::new(0);
    let mut maker = Maker {
        version,
        shape: Shape::Least,
        prng: &mut prng,
    };
    for (field, value) in schema.fields.iter().zip(values) {
        match field.ty {
            Type::Array(element) if field.is_in(version) => {
                *value = Value::Array((0..count).map(|_| maker.typed(*element)).collect());
            }
            Type::Struct(schema) => fill_arrays(schema, value, version, count),
            _ => {}
        }
    }
}

struct Maker<'a> {
    version: i16,
    shape: Shape,
    prng: &'a mut Prng,
}

impl Maker<'_> {
    fn structure(&mut self, schema: &Schema) -> Value {
        let fields = schema.fields.iter();
        Value::Struct(fields.map(|field| self.field(field)).collect())
    }

    fn field(&mut self, field: &Field) -> Value {
        if !field.is_in(self.version) {
            return Value::Absent;
        }
        let tagged = field.tag_in(self.version).is_some();
        if tagged && self.shape == Shape::Any && self.prng.chance(1, 2) {
            return Value::Absent;
        }
        let value = self.present(field, tagged);
        if tagged && is_default(field, &value) {
            return Value::Absent;
        }
        value
    }

    fn present(&mut self, field: &Field, tagged: bool) -> Value {
        let null = match self.shape {
            // A tagged null whose default is another value is rare, and has to be tried.
            Shape::Least => true,
            Shape::Any => self.prng.chance(1, 3),
            _ => false,
        };
        if null && field.is_nullable_in(self.version) {
            return Value::Null;
        }
        let mut value = self.typed(field.ty);
        // Nearly every value is not the default; a few tries reach one.
        for _ in 0..20 {
            if !(tagged && self.shape != Shape::Least && is_default(field, &value)) {
                break;
            }
            value = self.typed(field.ty);
        }
        value
    }

    fn typed(&mut self, ty: Type) -> Value {
        match ty {
            Type::Bool => Value::Bool(self.shape != Shape::Least && self.prng.chance(1, 2)),
            Type::Int8 => self.int(i8::MIN.into(), i8::MAX.into()),
            Type::Int16 => self.int(i16::MIN.into(), i16::MAX.into()),
            Type::Uint16 => self.int(0, u16::MAX.into()),
            Type::Int32 => self.int(i32::MIN.into(), i32::MAX.into()),
            Type::Uint32 => self.int(0, u32::MAX.into()),
            Type::Int64 => self.int(i64::MIN, i64::MAX),
            Type::Float64 => self.float(),
            Type::Uuid => self.uuid(),
            Type::String => self.text(),
            Type::Bytes => Value::Bytes(self.blob()),
            Type::Records => Value::Records(self.blob()),
            Type::Struct(schema) => self.structure(schema),
            Type::Array(element) => {
                let count = self.count();
                Value::Array((0..count).map(|_| self.typed(*element)).collect())
            }
        }
    }

    fn int(&mut self, low: i64, high: i64) -> Value {
        let drawn = self.prng.next_u64() as i64;
        Value::Int(match self.shape {
            Shape::Least => 0,
            Shape::Extreme => [low, high, 0, -1][self.prng.below(4) as usize].max(low),
            _ if low == i64::MIN => drawn,
            _ => low + drawn.rem_euclid(high - low + 1),
        })
    }

    /// No NaN, which equals nothing, and nothing whose shortest digits differ between Java releases.
    fn float(&mut self) -> Value {
        let choice = [
            0.0,
            1.0,
            -2.5,
            2048.0,
            1e7,
            1.5e-9,
            f64::MAX,
            f64::MIN,
            123456.789,
        ];
        Value::Float(match self.shape {
            Shape::Least => 0.0,
            _ => choice[self.prng.below(choice.len() as u64) as usize],
        })
    }

    fn uuid(&mut self) -> Value {
        Value::Uuid(match self.shape {
            Shape::Least => Uuid::ZERO,
            Shape::Extreme => Uuid([0xff; 16]),
            _ => Uuid::random(self.prng),
        })
    }

    fn text(&mut self) -> Value {
        const FOREIGN: [&str; 6] = [
            "žluťoučký kůň",
            "日本語",
            "🦀🐘",
            "\"\\/\n\t\u{1}\u{7f}",
            "\u{2028}ß",
            "ﷺ",
        ];
        let letter = || "x";
        Value::Text(match self.shape {
            Shape::Least => Str::EMPTY,
            Shape::Foreign => FOREIGN[self.prng.below(6) as usize].into(),
            Shape::Extreme => {
                let length = self.edge_length(0x7fff);
                letter().repeat(length).into()
            }
            _ => format!("t{}", self.prng.below(1000)).into(),
        })
    }

    fn blob(&mut self) -> Bytes {
        let length = match self.shape {
            Shape::Least => 0,
            Shape::Extreme => self.edge_length(0x4001),
            _ => self.prng.below(12) as usize,
        };
        let mut bytes = vec![0; length];
        self.prng.fill(&mut bytes);
        bytes.into()
    }

    /// A length where its encoding changes; the longest ones seldom, since structures hold many texts.
    fn edge_length(&mut self, longest: usize) -> usize {
        match self.prng.below(40) {
            0 => longest,
            1 => 0x3ffe + self.prng.below(3) as usize,
            n => [0, 1, 126, 127, 128][n as usize % 5],
        }
    }

    fn count(&mut self) -> u64 {
        match self.shape {
            Shape::Least => 0,
            Shape::Any => self.prng.below(4),
            _ => 2,
        }
    }
}

/// Whether the value is the field's default, so that it is not written as a tagged field.
fn is_default(field: &Field, value: &Value) -> bool {
    match (field.default, value) {
        (_, Value::Absent) => true,
        (Preset::Null, Value::Null) => true,
        (Preset::Null, _) | (_, Value::Null) => false,
        (Preset::Int(n), Value::Bool(b)) => (n != 0) == *b,
        (Preset::Int(n), Value::Int(m)) => n == *m,
        (Preset::Int(n), Value::Float(x)) => n as f64 == *x,
        (Preset::Int(_), _) => false,
        (Preset::Zero, value) => is_zero(field.ty, value),
    }
}

fn is_zero(ty: Type, value: &Value) -> bool {
    match (ty, value) {
        (_, Value::Bool(b)) => !b,
        (_, Value::Int(n)) => *n == 0,
        (_, Value::Float(x)) => *x == 0.0,
        (_, Value::Uuid(id)) => id.is_zero(),
        (_, Value::Text(text)) => text.is_empty(),
        (_, Value::Bytes(bytes) | Value::Records(bytes)) => bytes.is_empty(),
        (_, Value::Array(items)) => items.is_empty(),
        (Type::Struct(schema), Value::Struct(values)) => {
            let mut pairs = schema.fields.iter().zip(values);
            pairs.all(|(field, value)| is_default(field, value))
        }
        _ => false,
    }
}

/// A tag that no schema uses.
const UNKNOWN_TAG: u32 = 10_000;

fn write_struct(w: &mut Writer, schema: &Schema, value: &Value, version: i16, unknown: bool) {
    let Value::Struct(values) = value else {
        panic!("{} is a structure", schema.name)
    };
    let flex = version >= schema.flexible_from;
    let mut tagged = Vec::new();
    for (field, value) in schema.fields.iter().zip(values) {
        match (field.tag_in(version), value) {
            (_, Value::Absent) => {}
            (Some(tag), value) => tagged.push((tag, field, value)),
            (None, value) => write_field(w, field, value, version, flex, unknown),
        }
    }
    if flex {
        tagged.sort_by_key(|&(tag, ..)| tag);
        write_tags(w, &tagged, version, unknown);
    }
}

fn write_tags(w: &mut Writer, tagged: &[(u32, &Field, &Value)], version: i16, unknown: bool) {
    w.uvarint(tagged.len() as u32 + u32::from(unknown));
    for &(tag, field, value) in tagged {
        let mut content = Writer::new();
        match (field.ty, field.is_nullable_in(version), value) {
            (Type::Struct(_), true, Value::Null) => content.uvarint(0),
            (Type::Struct(schema), true, value) => {
                content.uvarint(1);
                write_struct(&mut content, schema, value, version, unknown);
            }
            (ty, _, value) => write_type(&mut content, ty, value, version, true, unknown),
        }
        let content = content.into_bytes().expect("no external records are made");
        w.uvarint(tag);
        w.uvarint(content.len() as u32);
        w.raw(&content);
    }
    if unknown {
        w.uvarint(UNKNOWN_TAG);
        w.uvarint(3);
        w.raw(b"abc");
    }
}

fn write_field(
    w: &mut Writer,
    field: &Field,
    value: &Value,
    version: i16,
    flex: bool,
    unknown: bool,
) {
    match (field.ty, field.is_nullable_in(version), value) {
        (Type::Struct(_), true, Value::Null) => w.i8(-1),
        (Type::Struct(schema), true, value) => {
            w.i8(1);
            write_struct(w, schema, value, version, unknown);
        }
        (ty, _, value) => write_type(w, ty, value, version, flex && field.flexible, unknown),
    }
}

fn write_type(w: &mut Writer, ty: Type, value: &Value, version: i16, flex: bool, unknown: bool) {
    match (ty, value) {
        (Type::String, Value::Null) if !flex => w.i16(-1),
        (_, Value::Null) => write_length(w, -1, flex),
        (_, Value::Bool(b)) => w.bool(*b),
        (Type::Int8, Value::Int(n)) => w.i8(*n as i8),
        (Type::Int16 | Type::Uint16, Value::Int(n)) => w.i16(*n as i16),
        (Type::Int32 | Type::Uint32, Value::Int(n)) => w.i32(*n as i32),
        (_, Value::Int(n)) => w.i64(*n),
        (_, Value::Float(x)) => w.f64(*x),
        (_, Value::Uuid(id)) => w.uuid(*id),
        (_, Value::Text(text)) => {
            if flex {
                write_length(w, text.len() as i32, true);
            } else {
                w.i16(text.len() as i16);
            }
            w.raw(text.as_bytes());
        }
        (_, Value::Bytes(bytes) | Value::Records(bytes)) => {
            write_length(w, bytes.len() as i32, flex);
            w.raw(bytes);
        }
        (Type::Array(element), Value::Array(items)) => {
            write_length(w, items.len() as i32, flex);
            for item in items {
                write_type(w, *element, item, version, flex, unknown);
            }
        }
        (Type::Struct(schema), value) => write_struct(w, schema, value, version, unknown),
        (ty, value) => panic!("{value:?} is no {ty:?}"),
    }
}

fn write_length(w: &mut Writer, length: i32, flex: bool) {
    if flex {
        w.uvarint((length + 1) as u32);
    } else {
        w.i32(length);
    }
}
