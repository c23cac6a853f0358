//! Writes events that people give as JSON: encodes them by the topic's subjects, then sends them, all or none encoded before the
//! first is sent.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::avro::{Encoder, Schema, frame, from_json};
use crate::base::diag::suggestion;
use crate::base::hash::partition_of;
use crate::base::ids::{Offset, Partition, SchemaId, Topic};
use crate::base::record::{Header, Headers, Outgoing};
use crate::base::time::{DateTime, Timestamp};
use crate::base::types::is_called;
use crate::broker::{Broker, Producer, ProducerSettings};
use crate::error::codes;
use crate::registry::Registry;
use crate::runtime::commands::Taken;
use crate::runtime::service::{NewEvent, Produced, ReadError};

/// Encodes and sends events. Schemas are asked for once per topic and type.
pub(super) struct EventWriter {
    broker: Arc<dyn Broker>,
    registry: Arc<dyn Registry>,
    producer: Option<Box<dyn Producer>>,
    schemas: HashMap<String, (SchemaId, Schema)>,
}

impl std::fmt::Debug for EventWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventWriter").field("schemas", &self.schemas.len()).finish_non_exhaustive()
    }
}

impl EventWriter {
    /// Nothing is contacted before the first event.
    pub(super) fn new(broker: Arc<dyn Broker>, registry: Arc<dyn Registry>) -> Self {
        Self { broker, registry, producer: None, schemas: HashMap::new() }
    }

    /// Writes events to a topic.
    pub(super) fn write(
        &mut self,
        topic: &str,
        events: &[NewEvent],
        now: Timestamp,
        wait: Duration,
    ) -> Result<Vec<Produced>, ReadError> {
        let name = Topic::new(topic);
        let described = self.broker.admin().and_then(|mut admin| admin.describe(std::slice::from_ref(&name), wait));
        let described = described.map_err(|error| broker_failed(&error))?;
        let Some(found) = described.into_iter().flatten().next() else {
            let detail = format!("there is no topic `{topic}`");
            return Err(ReadError::NotFound { code: codes::TOPIC_MISSING, detail });
        };
        let mut records = Vec::with_capacity(events.len());
        for (place, event) in events.iter().enumerate() {
            let record = self.record(&name, found.partitions, event, now, wait);
            records.push(record.map_err(|error| in_place(error, place, events.len()))?);
        }
        let producer = self.producer()?;
        let mut produced = Vec::with_capacity(records.len());
        for record in records {
            let partition = record.partition;
            let offset = producer.send_and_wait(record, wait).map_err(|error| broker_failed(&error))?;
            produced.push(Produced { partition: partition.0, offset: offset.0 });
        }
        Ok(produced)
    }

    /// Writes a command under the schema that its entity reads it with.
    pub(super) fn write_command(
        &mut self,
        taken: &Taken<'_>,
        value: &serde_json::Value,
        now: Timestamp,
        wait: Duration,
    ) -> Result<Offset, ReadError> {
        let invalid = |detail: String| ReadError::Invalid { code: codes::READ_INVALID, detail };
        let datum = from_json(value, taken.schema).map_err(|error| invalid(error.to_string()))?;
        let mut bytes = Vec::new();
        if let Some(subject) = taken.subject {
            let id = match self.schemas.get(subject) {
                Some((id, _)) => *id,
                None => {
                    let id = self.registry.register(subject, taken.schema.text(), wait);
                    let id = id.map_err(|error| registry_failed(&error))?;
                    self.schemas.insert(subject.to_owned(), (id, taken.schema.clone()));
                    id
                }
            };
            frame::write(id, &mut bytes);
            let encoded = Encoder::compile(taken.schema).encode_value(&datum, &mut bytes);
            encoded.map_err(|error| invalid(error.to_string()))?;
        } else {
            bytes = value.to_string().into_bytes();
        }
        let header = |(name, value): &(String, String)| Header::text(name, value.as_str());
        let record = Outgoing {
            topic: taken.place.topic.clone(),
            partition: taken.place.partition,
            timestamp: now,
            key: Some(Bytes::from(taken.key.clone())),
            value: Some(Bytes::from(bytes)),
            headers: Headers::new(taken.headers.iter().map(header).collect()),
        };
        self.producer()?.send_and_wait(record, wait).map_err(|error| broker_failed(&error))
    }

    fn producer(&mut self) -> Result<&mut Box<dyn Producer>, ReadError> {
        match &mut self.producer {
            Some(producer) => Ok(producer),
            empty @ None => {
                let made = self.broker.producer(&ProducerSettings::default());
                Ok(empty.insert(made.map_err(|error| broker_failed(&error))?))
            }
        }
    }

    fn record(
        &mut self,
        topic: &Topic,
        partitions: u32,
        event: &NewEvent,
        now: Timestamp,
        wait: Duration,
    ) -> Result<Outgoing, ReadError> {
        let invalid = |detail: String| ReadError::Invalid { code: codes::READ_INVALID, detail };
        let value = match &event.value {
            None => None,
            Some(json) => {
                let (id, schema) = self.schema(topic, event.event_type.as_deref(), wait)?;
                let value = from_json(json, schema).map_err(|error| invalid(error.to_string()))?;
                let mut bytes = Vec::new();
                frame::write(*id, &mut bytes);
                Encoder::compile(schema)
                    .encode_value(&value, &mut bytes)
                    .map_err(|error| invalid(error.to_string()))?;
                Some(Bytes::from(bytes))
            }
        };
        let headers = event.headers.iter();
        let headers = headers.map(|(name, value)| Header::text(name, value.as_str())).collect();
        Ok(Outgoing {
            topic: topic.clone(),
            partition: event.key.as_ref().map_or(Partition(0), |key| partition_of(key.as_bytes(), partitions)),
            timestamp: event.timestamp.map_or(now, DateTime::to_timestamp),
            key: event.key.clone().map(Bytes::from),
            value,
            headers: Headers::new(headers),
        })
    }

    /// The newest schema of a type on a topic: by record name on the topic, else the topic's one value subject.
    fn schema(
        &mut self,
        topic: &Topic,
        event_type: Option<&str>,
        wait: Duration,
    ) -> Result<&(SchemaId, Schema), ReadError> {
        let subject = self.subject(topic, event_type, wait)?;
        if !self.schemas.contains_key(&subject) {
            let latest = self.registry.latest(&subject, wait).map_err(|error| registry_failed(&error))?;
            let latest = latest.ok_or_else(|| ReadError::NotFound {
                code: codes::READ_UNKNOWN_STORE,
                detail: format!("the registry has no subject `{subject}`"),
            })?;
            let schema = Schema::parse(&latest.schema).map_err(|error| ReadError::Failed {
                code: codes::READ_INVALID,
                detail: format!("the schema of subject `{subject}`: {error}"),
                kind: crate::error::Kind::Config,
            })?;
            self.schemas.insert(subject.clone(), (latest.id, schema));
        }
        Ok(&self.schemas[&subject])
    }

    fn subject(&self, topic: &Topic, event_type: Option<&str>, wait: Duration) -> Result<String, ReadError> {
        let subjects = self.registry.subjects(wait).map_err(|error| registry_failed(&error))?;
        let by_topic = format!("{topic}-value");
        let prefix = format!("{topic}-");
        let types: Vec<&str> =
            subjects.iter().filter(|s| **s != by_topic).filter_map(|s| s.strip_prefix(&prefix)).collect();
        let invalid = |detail: String| ReadError::Invalid { code: codes::READ_INVALID, detail };
        let Some(wanted) = event_type else {
            return match types.as_slice() {
                _ if subjects.contains(&by_topic) => Ok(by_topic),
                [only] => Ok(format!("{prefix}{only}")),
                [] => Err(invalid(format!("the registry has no subject for topic `{topic}`"))),
                several => Err(invalid(format!(
                    "topic `{topic}` has several record types, say which with `type`: `{}`",
                    several.join("`, `")
                ))),
            };
        };
        match types.iter().find(|known| is_called(known, wanted)) {
            Some(known) => Ok(format!("{prefix}{known}")),
            None if types.is_empty() && subjects.contains(&by_topic) => Ok(by_topic),
            None => {
                Err(invalid(format!("topic `{topic}` has no record type `{wanted}`; {}", suggestion(wanted, types))))
            }
        }
    }
}

fn in_place(error: ReadError, place: usize, of: usize) -> ReadError {
    match error {
        ReadError::Invalid { code, detail } if of > 1 => {
            ReadError::Invalid { code, detail: format!("event {} of {of}: {detail}", place + 1) }
        }
        other @ (ReadError::Invalid { .. }
        | ReadError::NotFound { .. }
        | ReadError::Unavailable { .. }
        | ReadError::Failed { .. }) => other,
    }
}

fn broker_failed(error: &crate::broker::Error) -> ReadError {
    ReadError::Unavailable { code: codes::READ_UNAVAILABLE, detail: error.to_string() }
}

fn registry_failed(error: &crate::registry::Error) -> ReadError {
    ReadError::Unavailable { code: codes::READ_UNAVAILABLE, detail: error.to_string() }
}
