//! What a topology under test is given: its input topics, and records for them as their producers would write them.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::Value as Json;

use super::world::{WAIT, WorldError, failed};
use crate::avro::{Encoder, Schema, frame, from_json};
use crate::base::diag::suggestion;
use crate::base::hash::partition_of;
use crate::base::ids::{Partition, SchemaId, Topic};
use crate::base::record::{Header, Headers, Outgoing};
use crate::base::time::Timestamp;
use crate::base::types::is_called;
use crate::base::value::Value;
use crate::broker::{Broker, NewTopic};
use crate::operator::{KeyWriter, key_bytes, scalar_bytes};
use crate::plan::{KeyFormat, Payload, Plan, ValueFormat};
use crate::registry::Registry;

/// A record for one of the topology's input topics.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    pub topic: String,
    /// Text or, where the topic's keys are numbers, a number; none for a record without key.
    pub key: Option<Json>,
    /// Record type, full or short; may be left out where the topic has one only.
    pub event_type: Option<String>,
    /// None is a tombstone. Fields that are left out get their schema's default.
    pub value: Option<Json>,
    pub at: Timestamp,
    pub headers: BTreeMap<String, String>,
}

/// How records of an input topic are written.
#[derive(Debug)]
struct Source {
    key: KeyFormat,
    /// Writes keys that are Avro in frames.
    key_writer: Option<KeyWriter>,
    format: ValueFormat,
    /// Headers that an event must have, and an input leaves out, are made up.
    cloud_events: bool,
    /// None of the types has an id where values have no frame.
    types: Vec<(Option<SchemaId>, Schema)>,
}

/// The input topics of a plan.
#[derive(Debug)]
pub struct Inputs {
    sources: BTreeMap<String, Source>,
    partitions: u32,
}

impl Inputs {
    /// Creates the input topics and registers what is read from them.
    ///
    /// # Errors
    /// The broker or the registry refuses.
    pub fn prepare(
        plan: &Plan,
        broker: &dyn Broker,
        registry: &dyn Registry,
        partitions: u32,
    ) -> Result<Self, WorldError> {
        let mut admin = broker.admin().map_err(failed)?;
        let mut sources = BTreeMap::new();
        for source in plan.read_topics() {
            let types = match &source.payload {
                Payload::Internal { .. } => continue,
                Payload::Json { readers } => readers.iter().map(|reader| (None, reader.schema.clone())).collect(),
                Payload::Scalar { reader, .. } => vec![(None, reader.schema.clone())],
                Payload::Registry { readers } => {
                    let mut types = Vec::with_capacity(readers.len());
                    for reader in readers {
                        let subject = format!("{}-{}", source.topic, reader.schema.full_name().unwrap_or_default());
                        let id = registry.register(&subject, reader.schema.text(), WAIT).map_err(failed)?;
                        types.push((Some(id), reader.schema.clone()));
                    }
                    types
                }
            };
            let configs = BTreeMap::from([("retention.ms".to_owned(), "-1".to_owned())]);
            let topic = NewTopic { topic: source.topic.clone(), partitions, replication_factor: None, configs };
            admin.create(&topic, WAIT).map_err(failed)?;
            let format = match &source.payload {
                Payload::Json { .. } => ValueFormat::Json,
                Payload::Scalar { format, .. } => *format,
                Payload::Registry { .. } | Payload::Internal { .. } => ValueFormat::Avro,
            };
            let key_writer = if source.framed_keys {
                let subject = format!("{}-key", source.topic);
                let id = registry.register(&subject, source.key.schema_text(), WAIT).map_err(failed)?;
                Some(KeyWriter::new(&source.key, id).map_err(failed)?)
            } else {
                None
            };
            sources.insert(
                source.topic.to_string(),
                Source { key: source.key.clone(), key_writer, format, cloud_events: source.cloud_events, types },
            );
        }
        Ok(Self { sources, partitions })
    }

    /// Returns the record of an input; its partition is the key's, as Kafka's own producers choose it.
    ///
    /// # Errors
    /// A topic that the topology does not read, a value that is not of its schema.
    pub fn record(&self, input: &Input) -> Result<Outgoing, WorldError> {
        let Some(source) = self.sources.get(&input.topic) else {
            let known = self.sources.keys().map(String::as_str);
            let help = suggestion(&input.topic, known);
            return Err(WorldError(format!("the topology does not read a topic `{}`; {help}", input.topic)));
        };
        let mut said = input.headers.clone();
        let structured = said.get("content-type").is_some_and(|kind| kind.starts_with("application/cloudevents"));
        if source.cloud_events && !structured && input.value.is_some() {
            let (_, schema) = source.type_of(input)?;
            let id = format!("{}@{}", input.topic, input.at.0);
            let made = [("ce_specversion", "1.0"), ("ce_id", &id), ("ce_source", "/test")];
            for (name, value) in made.into_iter().chain([("ce_type", schema.full_name().unwrap_or_default())]) {
                said.entry(name.to_owned()).or_insert_with(|| value.to_owned());
            }
        }
        let headers = said.iter().map(|(name, value)| Header::text(name, value.as_str()));
        let key = input.key.as_ref().map(|key| source.key_of(key)).transpose()?;
        Ok(Outgoing {
            topic: Topic::new(&input.topic),
            partition: key.as_deref().map_or(Partition(0), |key| partition_of(key, self.partitions)),
            timestamp: input.at,
            key,
            value: input.value.as_ref().map(|value| source.value_of(value, input)).transpose()?,
            headers: Headers::new(headers.collect()),
        })
    }
}

impl Source {
    fn key_of(&self, key: &Json) -> Result<Bytes, WorldError> {
        let value = match (&self.key, key) {
            (KeyFormat::String, Json::String(text)) => Value::text(text),
            (KeyFormat::Long, Json::Number(number)) if number.is_i64() => {
                Value::Int(number.as_i64().unwrap_or_default())
            }
            (KeyFormat::Bytes, Json::String(text)) => Value::Bytes(text.as_bytes().into()),
            (KeyFormat::Record(datums), key) => from_json(key, datums.schema()).map_err(failed)?,
            (format, other) => {
                return Err(WorldError(format!("key {other} is not of the topic's format, `{}`", format.name())));
            }
        };
        let mut bytes = Vec::new();
        key_bytes(&value, &self.key, &mut bytes).map_err(failed)?;
        match &self.key_writer {
            Some(writer) => writer.encode(&bytes).map(Bytes::from).map_err(failed),
            None => Ok(Bytes::from(bytes)),
        }
    }

    fn value_of(&self, value: &Json, input: &Input) -> Result<Bytes, WorldError> {
        if input.headers.get("content-type").is_some_and(|kind| kind.starts_with("application/cloudevents")) {
            return Ok(Bytes::from(value.to_string()));
        }
        let (id, schema) = self.type_of(input)?;
        if let (Some(_), [field]) = (self.format.scalar(), schema.fields()) {
            let object = Json::Object([(field.name.to_string(), value.clone())].into_iter().collect());
            let Value::Record(fields) = from_json(&object, schema).map_err(failed)? else { return Ok(Bytes::new()) };
            let mut bytes = Vec::new();
            scalar_bytes(self.format, &fields[0], &mut bytes).map_err(failed)?;
            return Ok(Bytes::from(bytes));
        }
        let Some(id) = id else { return Ok(Bytes::from(value.to_string())) };
        let datum = from_json(value, schema).map_err(failed)?;
        let mut bytes = Vec::new();
        frame::write(*id, &mut bytes);
        Encoder::compile(schema).encode_value(&datum, &mut bytes).map_err(failed)?;
        Ok(Bytes::from(bytes))
    }

    fn type_of(&self, input: &Input) -> Result<&(Option<SchemaId>, Schema), WorldError> {
        let name = |entry: &(Option<SchemaId>, Schema)| entry.1.full_name().unwrap_or_default().to_owned();
        let names: Vec<String> = self.types.iter().map(name).collect();
        let Some(wanted) = &input.event_type else {
            return match self.types.as_slice() {
                [only] => Ok(only),
                _ => Err(WorldError(format!(
                    "topic `{}` has several record types, say which with `type`: `{}`",
                    input.topic,
                    names.join("`, `")
                ))),
            };
        };
        let found = names.iter().position(|full| is_called(full, wanted)).map(|index| &self.types[index]);
        found.ok_or_else(|| {
            let help = suggestion(wanted, names.iter().map(String::as_str));
            WorldError(format!("topic `{}` has no record type `{wanted}`; {help}", input.topic))
        })
    }
}
