//! Reads topics for people: the ends of their partitions, and committed records decoded to JSON.
//!
//! Each read has a consumer of its own, outside any group, and leaves no trace on the broker. The stream threads know nothing of
//! it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value as Json, json};

use crate::avro::{DecodePlan, Schema, frame, to_json};
use crate::base::ids::{Offset, SchemaId, Topic, TopicPartition};
use crate::base::record::{Headers, Record};
use crate::base::types::Type;
use crate::base::value::Value;
use crate::broker::{Broker, Consumer, ConsumerSettings, Event, Isolation, Leave};
use crate::error::codes;
use crate::limits;
use crate::registry::Registry;
use crate::runtime::clock::Stopwatch;
use crate::runtime::service::{ReadError, TopicPage};

/// Looks into topics.
pub(super) struct TopicReader {
    broker: Arc<dyn Broker>,
    registry: Arc<dyn Registry>,
    /// An id never changes its schema.
    schemas: Mutex<HashMap<SchemaId, Arc<Decoder>>>,
}

#[derive(Debug)]
struct Decoder {
    schema: Schema,
    value_type: Type,
    plan: DecodePlan,
}

impl std::fmt::Debug for TopicReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TopicReader").field("broker", &self.broker).finish_non_exhaustive()
    }
}

impl TopicReader {
    /// Nothing is contacted before the first read.
    pub(super) fn new(broker: Arc<dyn Broker>, registry: Arc<dyn Registry>) -> Self {
        Self { broker, registry, schemas: Mutex::new(HashMap::new()) }
    }

    /// Returns the partitions of a topic with their first offset and the one after their last.
    pub(super) fn topic(&self, topic: &str, wait: Duration) -> Result<Json, ReadError> {
        let count = self.partitions(topic, wait)?;
        let mut consumer = self.consumer()?;
        let mut partitions = Vec::new();
        for partition in 0..count {
            let ends = consumer.watermarks(&TopicPartition::new(topic, partition), wait);
            let ends = ends.map_err(|error| broker_failed(&error))?;
            partitions.push(json!({"partition": partition, "start": ends.low.0, "end": ends.high.0}));
        }
        consumer.close(Leave::Group);
        Ok(json!({"topic": topic, "partitions": partitions}))
    }

    /// Returns committed records of a partition, and where to go on. An offset beyond the end waits for nothing.
    pub(super) fn records(&self, wanted: &TopicPage, wait: Duration) -> Result<Json, ReadError> {
        let TopicPage { topic, partition, offset, limit } = wanted;
        let count = self.partitions(topic, wait)?;
        if *partition >= count {
            let detail = format!("topic `{topic}` has {count} partitions and no partition {partition}");
            return Err(ReadError::NotFound { code: codes::TOPIC_MISSING, detail });
        }
        let place = TopicPartition::new(topic.as_str(), *partition);
        let mut consumer = self.consumer()?;
        let ends = consumer.watermarks(&place, wait).map_err(|error| broker_failed(&error))?;
        let from = Offset((*offset).max(ends.low.0));
        let mut page = Page { records: Vec::new(), next: from, bytes: 0 };
        if from < ends.high {
            consumer.assign(&[(place, from)]).map_err(|error| broker_failed(&error))?;
            page.fill(&mut *consumer, *limit, ends.high, wait).map_err(|error| broker_failed(&error))?;
        }
        consumer.close(Leave::Group);
        let records: Vec<Json> = page.records.iter().map(|record| self.shown(record, wait)).collect();
        Ok(json!({"topic": topic, "partition": partition, "records": records, "next": page.next.0}))
    }

    fn partitions(&self, topic: &str, wait: Duration) -> Result<i32, ReadError> {
        let name = Topic::new(topic);
        let described = self.broker.admin().and_then(|mut admin| admin.describe(std::slice::from_ref(&name), wait));
        match described.map_err(|error| broker_failed(&error))?.into_iter().flatten().next() {
            Some(found) => Ok(i32::try_from(found.partitions).unwrap_or(i32::MAX)),
            None => {
                let detail = format!("there is no topic `{topic}`");
                Err(ReadError::NotFound { code: codes::TOPIC_MISSING, detail })
            }
        }
    }

    fn consumer(&self) -> Result<Box<dyn Consumer>, ReadError> {
        let settings = ConsumerSettings {
            group: None,
            isolation: Isolation::ReadCommitted,
            prefetch_bytes_max: limits::TOPIC_PAGE_BYTES_MAX,
            end_wait: Some(limits::END_WAIT),
        };
        self.broker.consumer(&settings).map_err(|error| broker_failed(&error))
    }

    fn shown(&self, record: &Record, wait: Duration) -> Json {
        let mut shown = Map::new();
        shown.insert("offset".to_owned(), json!(record.offset.0));
        shown.insert("timestamp".to_owned(), json!(record.timestamp.to_string()));
        shown.insert("key".to_owned(), record.key.as_deref().map_or(Json::Null, text));
        match record.value.as_deref().map(|bytes| self.decoded(bytes, wait)) {
            None => drop(shown.insert("value".to_owned(), Json::Null)),
            Some(Ok((name, value))) => {
                shown.insert("type".to_owned(), json!(name));
                shown.insert("value".to_owned(), value);
            }
            Some(Err(error)) => drop(shown.insert("error".to_owned(), json!(error))),
        }
        shown.insert("headers".to_owned(), headers(&record.headers));
        Json::Object(shown)
    }

    pub(super) fn decoded(&self, bytes: &[u8], wait: Duration) -> Result<(Option<String>, Json), String> {
        let (id, datum) = match frame::split(bytes) {
            Ok(split) => split,
            // Other formats do not say what they are: an object is JSON, anything else that can be read is text.
            Err(error) => {
                let text = std::str::from_utf8(bytes).map_err(|_| error.to_string())?;
                let object = serde_json::from_str(text).ok().filter(Json::is_object);
                return Ok((None, object.unwrap_or_else(|| json!(text))));
            }
        };
        let decoder = self.decoder(id, wait)?;
        let value = decoder.plan.decode_value(datum).map_err(|error| error.to_string())?;
        Ok((decoder.schema.full_name().map(str::to_owned), to_json(&value, &decoder.value_type)))
    }

    fn decoder(&self, id: SchemaId, wait: Duration) -> Result<Arc<Decoder>, String> {
        let known = || self.schemas.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(decoder) = known().get(&id) {
            return Ok(Arc::clone(decoder));
        }
        let text = self.registry.schema(id, wait).map_err(|error| error.to_string())?;
        let schema = Schema::parse(&text).map_err(|error| error.to_string())?;
        let plan = DecodePlan::whole(&schema, &schema).map_err(|error| error.to_string())?;
        let decoder = Arc::new(Decoder { value_type: schema.value_type(), schema, plan });
        known().insert(id, Arc::clone(&decoder));
        Ok(decoder)
    }
}

/// What has been read of a partition.
struct Page {
    records: Vec<Record>,
    next: Offset,
    bytes: usize,
}

impl Page {
    /// Reads on until the page is full, the partition ends, or the wait is over.
    fn fill(
        &mut self,
        consumer: &mut dyn Consumer,
        limit: usize,
        end: Offset,
        wait: Duration,
    ) -> Result<(), crate::broker::Error> {
        let watch = Stopwatch::start();
        let mut events = Vec::new();
        while self.next < end && watch.elapsed() < wait {
            consumer.poll(Duration::from_millis(100), &mut events)?;
            for event in events.drain(..) {
                match event {
                    Event::Records(fetched) => {
                        for record in fetched.records {
                            if self.records.len() >= limit || self.bytes >= limits::TOPIC_PAGE_BYTES_MAX {
                                return Ok(());
                            }
                            self.next = record.offset.next();
                            self.bytes += record.size_bytes();
                            self.records.push(record);
                        }
                    }
                    // Behind the last record shown may stand what aborted transactions and their markers left.
                    Event::EndOfPartition { position, .. } => {
                        self.next = self.next.max(position);
                        return Ok(());
                    }
                    Event::Assigned(_) | Event::Revoked(_) | Event::Lost(_) => {}
                }
            }
        }
        Ok(())
    }
}

/// Text as it is, other bytes as base64.
pub(super) fn text(bytes: &[u8]) -> Json {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => to_json(&Value::Bytes(bytes.into()), &Type::Bytes),
    }
}

pub(super) fn headers(headers: &Headers) -> Json {
    headers
        .iter()
        .map(|header| (header.name.to_string(), header.value.as_deref().map_or(Json::Null, text)))
        .collect::<Map<_, _>>()
        .into()
}

fn broker_failed(error: &crate::broker::Error) -> ReadError {
    ReadError::Unavailable { code: codes::READ_UNAVAILABLE, detail: error.to_string() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::base::time::Timestamp;
    use crate::broker::NewTopic;
    use crate::broker::local::LocalBroker;
    use crate::registry::local::LocalRegistry;
    use crate::runtime::events::EventWriter;
    use crate::runtime::service::NewEvent;

    const WAIT: Duration = Duration::from_secs(5);
    const SCHEMA: &str = r#"{"type":"record","name":"Reading","namespace":"t","fields":[{"name":"n","type":"long"}]}"#;

    fn event(key: &str, value: Option<Json>) -> NewEvent {
        let headers = BTreeMap::from([("h".to_owned(), "v".to_owned())]);
        NewEvent { key: Some(key.to_owned()), event_type: None, value, timestamp: None, headers }
    }

    fn reader() -> TopicReader {
        let broker: Arc<dyn Broker> = Arc::new(LocalBroker::in_memory());
        let registry: Arc<dyn Registry> = Arc::new(LocalRegistry::in_memory());
        let topic = NewTopic { topic: "t".into(), partitions: 1, replication_factor: None, configs: BTreeMap::new() };
        broker.admin().unwrap().create(&topic, WAIT).unwrap();
        registry.register("t-value", SCHEMA, WAIT).unwrap();
        let mut writer = EventWriter::new(Arc::clone(&broker), Arc::clone(&registry));
        let events = [event("a", Some(json!({"n": 1}))), event("b", None), event("c", Some(json!({"n": 3})))];
        writer.write("t", &events, Timestamp(1000), WAIT).unwrap();
        TopicReader::new(broker, registry)
    }

    fn page(topic: &str, partition: i32, offset: i64, limit: usize) -> TopicPage {
        TopicPage { topic: topic.to_owned(), partition, offset, limit }
    }

    #[test]
    fn a_topic_tells_its_partitions_and_their_ends() {
        let told = reader().topic("t", WAIT).unwrap();
        assert_eq!(told, json!({"topic": "t", "partitions": [{"partition": 0, "start": 0, "end": 3}]}));
    }

    #[test]
    fn pages_follow_one_another_to_the_end() {
        let reader = reader();
        let first = reader.records(&page("t", 0, 0, 2), WAIT).unwrap();
        let at = "1970-01-01T00:00:01Z";
        let expected = json!({"topic": "t", "partition": 0, "next": 2, "records": [
            {"offset": 0, "timestamp": at, "key": "a", "type": "t.Reading", "value": {"n": 1}, "headers": {"h": "v"}},
            {"offset": 1, "timestamp": at, "key": "b", "value": null, "headers": {"h": "v"}},
        ]});
        assert_eq!(first, expected);
        let second = reader.records(&page("t", 0, 2, 2), WAIT).unwrap();
        assert_eq!((second["records"].as_array().unwrap().len(), second["next"].as_i64()), (1, Some(3)));
        let third = reader.records(&page("t", 0, 3, 2), WAIT).unwrap();
        assert_eq!(third, json!({"topic": "t", "partition": 0, "next": 3, "records": []}));
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        let reader = reader();
        assert!(matches!(reader.topic("x", WAIT), Err(ReadError::NotFound { .. })));
        assert!(matches!(reader.records(&page("t", 1, 0, 1), WAIT), Err(ReadError::NotFound { .. })));
    }
}
