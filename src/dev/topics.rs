//! Reads a topic from its beginning to its end, decoded to JSON: for answers, for `consume`, for tests.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value as Json;

use crate::avro::{DecodePlan, Schema, frame, to_json};
use crate::base::ids::{Offset, SchemaId, Topic, TopicPartition};
use crate::base::record::Record;
use crate::base::types::Type;
use crate::broker::{self, Broker, ConsumerSettings, Event, Isolation, Leave};
use crate::registry::{self, Registry};

const WAIT: Duration = Duration::from_secs(10);

/// A record of a topic, decoded.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicRecord {
    pub partition: i32,
    pub offset: i64,
    pub timestamp: String,
    pub key: Option<String>,
    /// Full name of the record type.
    pub record_type: Option<String>,
    /// Null for a tombstone; text of the bytes where they are no registry frame.
    pub value: Json,
}

/// Why a topic could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Broker(#[from] broker::Error),
    #[error(transparent)]
    Registry(#[from] registry::Error),
    #[error("{partition} offset {offset}: {message}")]
    Record { partition: TopicPartition, offset: Offset, message: String },
}

/// Decodes records by the schema they were written with.
pub struct Decoder<'a> {
    registry: &'a dyn Registry,
    plans: HashMap<SchemaId, (DecodePlan, Type, Option<String>)>,
}

impl std::fmt::Debug for Decoder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder").field("schemas", &self.plans.len()).finish_non_exhaustive()
    }
}

impl<'a> Decoder<'a> {
    /// Asks `registry` for schemas as they come up.
    pub fn new(registry: &'a dyn Registry) -> Self {
        Self { registry, plans: HashMap::new() }
    }

    /// Decodes a record.
    ///
    /// # Errors
    /// The registry's; bytes that are not what their schema says.
    pub fn decode(&mut self, partition: &TopicPartition, record: &Record) -> Result<TopicRecord, Error> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut shown = TopicRecord {
            partition: partition.partition.0,
            offset: record.offset.0,
            timestamp: record.timestamp.to_string(),
            key: record.key.as_deref().map(text),
            record_type: None,
            value: Json::Null,
        };
        let Some(value) = &record.value else { return Ok(shown) };
        let Ok((id, datum)) = frame::split(value) else {
            shown.value = Json::String(text(value));
            return Ok(shown);
        };
        let failed = |message: String| Error::Record { partition: partition.clone(), offset: record.offset, message };
        if !self.plans.contains_key(&id) {
            let schema = Schema::parse(&self.registry.schema(id, WAIT)?).map_err(|error| failed(error.to_string()))?;
            let plan = DecodePlan::whole(&schema, &schema).map_err(|error| failed(error.to_string()))?;
            self.plans.insert(id, (plan, schema.value_type(), schema.full_name().map(str::to_owned)));
        }
        let (plan, value_type, name) = &self.plans[&id];
        let value = plan.decode_value(datum).map_err(|error| failed(error.to_string()))?;
        shown.value = to_json(&value, value_type);
        shown.record_type.clone_from(name);
        Ok(shown)
    }
}

/// Hands every committed record of a topic, to its present end, to `visit`; partition by partition in order.
///
/// # Errors
/// The broker's, the registry's, a record that cannot be decoded.
pub fn read(
    broker: &dyn Broker,
    registry: &dyn Registry,
    topic: &Topic,
    visit: &mut dyn FnMut(TopicRecord),
) -> Result<(), Error> {
    let described = broker.admin()?.describe(std::slice::from_ref(topic), WAIT)?;
    let Some(found) = described.into_iter().flatten().next() else {
        return Err(broker::Error::UnknownTopic { topic: topic.clone() }.into());
    };
    let mut consumer = broker.consumer(&ConsumerSettings {
        group: None,
        isolation: Isolation::ReadCommitted,
        prefetch_bytes_max: 8 << 20,
    })?;
    let mut open = Vec::new();
    for partition in 0..found.partitions {
        let partition = TopicPartition::new(topic.clone(), partition as i32);
        let ends = consumer.watermarks(&partition, WAIT)?;
        if ends.low < ends.high {
            open.push((partition, ends));
        }
    }
    let positions: Vec<_> = open.iter().map(|(partition, ends)| (partition.clone(), ends.low)).collect();
    if !positions.is_empty() {
        consumer.assign(&positions)?;
    }
    let mut decoder = Decoder::new(registry);
    let mut events = Vec::new();
    while !open.is_empty() {
        consumer.poll(Duration::from_millis(200), &mut events)?;
        for event in events.drain(..) {
            match event {
                Event::Records(fetched) => {
                    for record in &fetched.records {
                        visit(decoder.decode(&fetched.partition, record)?);
                    }
                }
                Event::EndOfPartition { partition, position } => {
                    open.retain(|(other, ends)| *other != partition || position < ends.high);
                }
                Event::Assigned(_) | Event::Revoked(_) | Event::Lost(_) => {}
            }
        }
    }
    consumer.close(Leave::Group);
    Ok(())
}
