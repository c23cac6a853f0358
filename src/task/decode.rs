//! Turns a source's records into rows: the writer's schema picks a reader, compiled once, and the reader fills the slots.
//!
//! A schema id that is not known yet is asked for and stops its partition, not the task's thread: somebody with a registry at
//! hand answers through [`SourceDecoder::learn`].

use std::collections::HashMap;

use bytes::Bytes;

use crate::avro::{DecodePlan, Schema, frame, from_json};
use crate::base::ids::SchemaId;
use crate::base::record::{Headers, Record};
use crate::base::types::{Type, is_called, short_name};
use crate::base::value::{Text, Value};
use crate::operator::{SINGLE_OBJECT_MARKER, key_bytes, scalar_value};
use crate::plan::{KeyFormat, LayoutId, Payload, Reader, Source, ValueFormat};
use crate::task::cloud_event;

/// What a record's value turned out to be.
#[derive(Debug, PartialEq)]
pub(super) enum Decoded {
    /// The slots are filled.
    Row { layout: LayoutId, schema_id: Option<u32> },
    /// A record without value.
    Tombstone,
    /// Of a type that the topology does not read.
    Undeclared,
    /// Its schema is not known yet.
    NeedsSchema(SchemaId),
    /// It cannot be decoded, now or ever.
    Failed(String),
}

/// Decodes the values of one source.
#[derive(Debug)]
pub(super) struct SourceDecoder {
    kind: DecoderKind,
    writers: HashMap<u32, Writer>,
    /// Id of the schema that the last record was written with, and its reader: most topics have runs of one schema.
    last: Option<(u32, usize)>,
    plans: Vec<Compiled>,
    /// Records are CloudEvents.
    cloud_events: bool,
    /// Where keys are Avro in registry frames: what they are inside.
    keys: Option<FramedKeys>,
    /// Full names of the types that the source reads, by layout.
    type_names: Vec<(LayoutId, Text)>,
}

#[derive(Debug)]
enum DecoderKind {
    Registry(Vec<Target>),
    /// Plans by fingerprint.
    Internal(Vec<(u64, Compiled)>),
    /// Of several, the type of the CloudEvent says which.
    Json(Vec<Target>),
    Scalar {
        format: ValueFormat,
        layout: LayoutId,
        wanted: bool,
    },
}

#[derive(Debug)]
struct Target {
    schema: Schema,
    wanted: Vec<usize>,
    layout: LayoutId,
}

#[derive(Debug)]
struct Compiled {
    plan: DecodePlan,
    layout: LayoutId,
    slots: usize,
}

#[derive(Debug)]
enum Writer {
    Plan(usize),
    Undeclared,
    Unreadable(String),
}

impl SourceDecoder {
    /// Prepares to decode what a source's payload says.
    ///
    /// # Errors
    /// A repartition layout that does not read itself: a bug of the plan.
    pub(super) fn new(source: &Source) -> Result<Self, String> {
        let payload = &source.payload;
        let keys = source.framed_keys.then(|| FramedKeys::new(source.key.clone()));
        let kind = match payload {
            Payload::Registry { readers } => DecoderKind::Registry(readers.iter().map(Target::new).collect()),
            Payload::Internal { readers, .. } => DecoderKind::Internal(
                readers
                    .iter()
                    .map(|reader| Ok((reader.schema.fingerprint(), Target::new(reader).compile(&reader.schema)?)))
                    .collect::<Result<_, String>>()?,
            ),
            Payload::Json { readers } => DecoderKind::Json(readers.iter().map(Target::new).collect()),
            Payload::Scalar { format, reader } => {
                DecoderKind::Scalar { format: *format, layout: reader.layout, wanted: !reader.wanted.is_empty() }
            }
        };
        let type_name = |reader: &Reader| Text::new(reader.schema.full_name().unwrap_or_default());
        let type_names = payload.readers().iter().map(|reader| (reader.layout, type_name(reader))).collect();
        Ok(Self {
            kind,
            writers: HashMap::new(),
            last: None,
            plans: Vec::new(),
            cloud_events: source.cloud_events,
            keys,
            type_names,
        })
    }

    /// Returns the full name of the type whose rows have this layout.
    pub(super) fn type_name(&self, layout: LayoutId) -> Text {
        self.type_names.iter().find(|(known, _)| *known == layout).map(|(_, name)| name.clone()).unwrap_or_default()
    }

    /// Takes a CloudEvent apart; none where the record is as it is to be seen.
    pub(super) fn opened(&self, record: &Record) -> Result<Option<Record>, Decoded> {
        if !self.cloud_events {
            return Ok(None);
        }
        cloud_event::opened(record).map_err(Decoded::Failed)
    }

    /// The schema of a JSON value: the only one, or that of the event's type, by its full name, an alias or the name without namespace.
    fn json_target<'a>(&self, targets: &'a [Target], headers: &Headers) -> Option<&'a Target> {
        if !self.cloud_events {
            return targets.first();
        }
        let kind = headers.text("ce_type")?;
        let named = |target: &&Target| {
            is_called(target.schema.full_name().unwrap_or_default(), kind)
                || target.schema.aliases().iter().any(|alias| alias == kind)
        };
        targets.iter().find(named)
    }

    /// Returns a record's bare key where it comes in a frame; none where the record has it as it is.
    pub(super) fn bare_key(&self, record: &Record) -> Result<Option<Bytes>, Decoded> {
        match (&self.keys, &record.key) {
            (Some(keys), Some(key)) => keys.bare(key).map(Some),
            (_, _) => Ok(None),
        }
    }

    /// Decodes a record's value into `slots`.
    pub(super) fn decode(&mut self, record: &Record, slots: &mut Vec<Value>) -> Decoded {
        let Some(value) = &record.value else { return Decoded::Tombstone };
        match &self.kind {
            DecoderKind::Registry(_) => match frame::split(value) {
                Ok((id, datum)) => self.decode_framed(id, datum, slots),
                Err(error) => Decoded::Failed(error.to_string()),
            },
            DecoderKind::Internal(plans) => decode_internal(plans, value, slots),
            DecoderKind::Json(targets) => match self.json_target(targets, &record.headers) {
                Some(target) => decode_json(target, value, slots),
                None => Decoded::Undeclared,
            },
            DecoderKind::Scalar { format, layout, wanted } => match scalar_value(*format, value) {
                Ok(value) => {
                    slots.clear();
                    slots.extend(Some(value).filter(|_| *wanted));
                    Decoded::Row { layout: *layout, schema_id: None }
                }
                Err(message) => Decoded::Failed(message),
            },
        }
    }

    fn decode_framed(&mut self, id: SchemaId, datum: &[u8], slots: &mut Vec<Value>) -> Decoded {
        let plan = match self.last {
            Some((last, plan)) if last == id.0 => plan,
            _ => match self.writers.get(&id.0) {
                None => return Decoded::NeedsSchema(id),
                Some(Writer::Undeclared) => return Decoded::Undeclared,
                Some(Writer::Unreadable(message)) => return Decoded::Failed(message.clone()),
                Some(Writer::Plan(plan)) => {
                    self.last = Some((id.0, *plan));
                    *plan
                }
            },
        };
        self.plans[plan].decode(datum, slots, Some(id.0))
    }

    /// Takes the schema of an id that was asked for, or why there is none.
    pub(super) fn learn(&mut self, id: SchemaId, schema: Result<&str, &str>) {
        if let Some(keys) = &mut self.keys {
            keys.learn(id, schema);
        }
        let DecoderKind::Registry(targets) = &self.kind else { return };
        let writer = match schema.map_err(str::to_owned).and_then(|text| {
            Schema::parse(text).map_err(|error| format!("schema {id} of the registry cannot be read: {error}"))
        }) {
            Err(message) => Writer::Unreadable(message),
            Ok(schema) => match target_of(targets, &schema) {
                None => Writer::Undeclared,
                Some(target) => match target.compile(&schema) {
                    Err(message) => Writer::Unreadable(format!("schema {id}: {message}")),
                    Ok(compiled) => {
                        self.plans.push(compiled);
                        Writer::Plan(self.plans.len() - 1)
                    }
                },
            },
        };
        self.writers.insert(id.0, writer);
    }

    /// Forgets that an id could not be read, so that it is asked for again.
    pub(super) fn forget_failures(&mut self) {
        self.writers.retain(|_, writer| !matches!(writer, Writer::Unreadable(_)));
        if let Some(keys) = &mut self.keys {
            keys.writers.retain(|_, writer| writer.is_ok());
        }
    }
}

/// Keys that come as Avro in registry frames: a string, a number or bytes.
#[derive(Debug)]
struct FramedKeys {
    format: KeyFormat,
    /// By schema id: how a key is read, or why it cannot be.
    writers: HashMap<u32, Result<DecodePlan, String>>,
}

impl FramedKeys {
    fn new(format: KeyFormat) -> Self {
        Self { format, writers: HashMap::new() }
    }

    fn bare(&self, framed: &[u8]) -> Result<Bytes, Decoded> {
        let failed = |message: String| Decoded::Failed(format!("the key: {message}"));
        let (id, datum) = frame::split(framed).map_err(|error| failed(error.to_string()))?;
        let plan = match self.writers.get(&id.0) {
            None => return Err(Decoded::NeedsSchema(id)),
            Some(Err(message)) => return Err(failed(message.clone())),
            Some(Ok(plan)) => plan,
        };
        let value = plan.decode_value(datum).map_err(|error| failed(error.to_string()))?;
        let mut bytes = Vec::new();
        key_bytes(&value, &self.format, &mut bytes).map_err(|error| failed(error.to_string()))?;
        Ok(Bytes::from(bytes))
    }

    fn learn(&mut self, id: SchemaId, schema: Result<&str, &str>) {
        let plan = schema.map_err(str::to_owned).and_then(|text| {
            let read = |error: String| format!("schema {id} is no {} key: {error}", self.format.name());
            let writer = Schema::parse(text).map_err(|error| read(error.to_string()))?;
            let reader = Schema::parse(self.format.schema_text()).map_err(|error| read(error.to_string()))?;
            let fits = match (writer.value_type(), &self.format) {
                (Type::String | Type::Enum(_), KeyFormat::String)
                | (Type::Int, KeyFormat::Long)
                | (Type::Bytes, KeyFormat::Bytes)
                | (Type::Record(_), KeyFormat::Record(_)) => true,
                (_, KeyFormat::String | KeyFormat::Long | KeyFormat::Bytes | KeyFormat::Record(_)) => false,
            };
            if !fits {
                return Err(read(format!("it is {}", writer.value_type())));
            }
            // An enum's symbols are read as they stand; numbers are promoted.
            let reader = if matches!(writer.value_type(), Type::Enum(_)) { &writer } else { &reader };
            DecodePlan::whole(&writer, reader).map_err(|error| read(error.to_string()))
        });
        self.writers.insert(id.0, plan);
    }
}

/// The reader of the writer's name, an alias of it, or the same unqualified name (Avro specification, "Schema Resolution").
fn target_of<'a>(targets: &'a [Target], writer: &Schema) -> Option<&'a Target> {
    let name = writer.full_name()?;
    targets
        .iter()
        .find(|target| target.schema.full_name() == Some(name))
        .or_else(|| targets.iter().find(|target| target.schema.aliases().iter().any(|alias| alias == name)))
        .or_else(|| targets.iter().find(|target| target.schema.full_name().map(short_name) == Some(short_name(name))))
}

impl Target {
    fn new(reader: &Reader) -> Self {
        Self { schema: reader.schema.clone(), wanted: reader.wanted.clone(), layout: reader.layout }
    }

    fn compile(&self, writer: &Schema) -> Result<Compiled, String> {
        let plan = DecodePlan::compile(writer, &self.schema, &self.wanted).map_err(|error| error.to_string())?;
        Ok(Compiled { plan, layout: self.layout, slots: self.wanted.len() })
    }
}

impl Compiled {
    fn decode(&self, datum: &[u8], slots: &mut Vec<Value>, schema_id: Option<u32>) -> Decoded {
        slots.resize(self.slots, Value::Null);
        match self.plan.decode(datum, slots) {
            Ok(()) => Decoded::Row { layout: self.layout, schema_id },
            Err(error) => Decoded::Failed(error.to_string()),
        }
    }
}

fn decode_internal(plans: &[(u64, Compiled)], value: &[u8], slots: &mut Vec<Value>) -> Decoded {
    let Some((head, datum)) = value.split_at_checked(10).filter(|(head, _)| head[..2] == SINGLE_OBJECT_MARKER) else {
        return Decoded::Failed("the value is not in Avro's single-object encoding".to_owned());
    };
    let fingerprint = u64::from_le_bytes(head[2..].try_into().expect("8 bytes: split at 10 above"));
    match plans.iter().find(|(known, _)| *known == fingerprint) {
        Some((_, compiled)) => compiled.decode(datum, slots, None),
        None => Decoded::Failed(format!(
            "the record has layout {fingerprint:016x}, which this topology does not write: drain the repartition topic with the topology that wrote it"
        )),
    }
}

fn decode_json(target: &Target, value: &[u8], slots: &mut Vec<Value>) -> Decoded {
    let parsed: serde_json::Value = match serde_json::from_slice(value) {
        Ok(parsed) => parsed,
        Err(error) => return Decoded::Failed(format!("the value is not JSON: {error}")),
    };
    match from_json(&parsed, &target.schema) {
        Ok(Value::Record(fields)) => {
            slots.clear();
            slots.extend(target.wanted.iter().map(|field| fields[*field].clone()));
            Decoded::Row { layout: target.layout, schema_id: None }
        }
        Ok(_) => Decoded::Failed("the value is not a JSON object".to_owned()),
        Err(error) => Decoded::Failed(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(id: u32, datum: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        frame::write(SchemaId(id), &mut bytes);
        bytes.extend_from_slice(datum);
        bytes
    }

    #[test]
    fn a_framed_key_is_what_it_says_whatever_its_id() {
        let mut keys = FramedKeys::new(KeyFormat::String);
        assert_eq!(keys.bare(&framed(7, b"\x04ab")), Err(Decoded::NeedsSchema(SchemaId(7))));
        keys.learn(SchemaId(7), Ok("\"string\""));
        keys.learn(SchemaId(8), Ok(r#"{"type": "enum", "name": "E", "symbols": ["x", "ab"]}"#));
        assert_eq!(keys.bare(&framed(7, b"\x04ab")), Ok(Bytes::from_static(b"ab")));
        assert_eq!(keys.bare(&framed(8, b"\x02")), Ok(Bytes::from_static(b"ab")));
        let mut numbers = FramedKeys::new(KeyFormat::Long);
        numbers.learn(SchemaId(1), Ok("\"int\""));
        numbers.learn(SchemaId(2), Ok("\"long\""));
        for id in [1, 2] {
            assert_eq!(numbers.bare(&framed(id, &[6])), Ok(Bytes::from_static(&[0, 0, 0, 0, 0, 0, 0, 3])));
        }
    }

    #[test]
    fn a_key_of_another_kind_cannot_be_decoded() {
        let mut keys = FramedKeys::new(KeyFormat::Long);
        keys.learn(SchemaId(1), Ok("\"string\""));
        keys.learn(SchemaId(2), Ok(r#"{"type": "record", "name": "K", "fields": []}"#));
        keys.learn(SchemaId(3), Ok("\"long\""));
        for (key, told) in [
            (framed(1, b"\x02a"), "the key: schema 1 is no long key: it is string"),
            (framed(2, b""), "the key: schema 2 is no long key: it is record K"),
        ] {
            assert_eq!(keys.bare(&key), Err(Decoded::Failed(told.to_owned())));
        }
        assert!(matches!(keys.bare(&framed(3, &[6, 6])), Err(Decoded::Failed(_))), "bytes behind the key");
        assert!(matches!(keys.bare(b"plain"), Err(Decoded::Failed(_))), "a key without a frame");
    }
}
