//! A topology in a world of its own: broker, registry and state in memory, one partition a topic unless more are asked for, a clock that is told the time.
//!
//! Invariant: each input is worked on to the end, through every repartition, before the next: the same inputs give the same outputs
//! in the same order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value as Json;

use super::inputs::{Input, Inputs};
use crate::avro::{DecodePlan, Schema, frame, to_json};
use crate::base::diag::suggestion;
use crate::base::ids::{Offset, Partition, TopicPartition};
use crate::base::record::Record;
use crate::base::time::{SpanMs, Timestamp};
use crate::broker::local::LocalBroker;
use crate::broker::{Broker, Consumer, ConsumerSettings, Event, Isolation, Producer, ProducerSettings};
use crate::error::codes;
use crate::limits::TASK_RUN_RECORDS_MAX;
use crate::operator::{WindowSpan, key_value, scalar_value};
use crate::plan::{KeyFormat, NodeKind, Plan, SinkKey, TopicRole, ValueFormat};
use crate::registry::Registry;
use crate::registry::local::LocalRegistry;
use crate::runtime::service::{Read, ReadError};
use crate::runtime::{Clock, Ground, Guarantee, Options, Stepped};
use crate::store::memory::MemoryBackends;
use crate::task::{FirstStart, opened_event};

/// Nothing here waits for anything outside the process; what takes longer is a bug.
pub(super) const WAIT: Duration = Duration::from_secs(10);

/// A record that the topology wrote.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    pub key: Option<Json>,
    /// Where the sink writes windows into its keys.
    pub window: Option<WindowSpan>,
    /// Full name of the record type; none of a tombstone.
    pub event_type: Option<String>,
    pub value: Option<Json>,
    pub at: Timestamp,
    pub headers: BTreeMap<String, String>,
    /// As written: what a dead letter is known by.
    pub bytes: Option<Bytes>,
}

/// A topic that others read.
#[derive(Debug)]
struct Written {
    format: KeyFormat,
    key: SinkKey,
    values: ValueFormat,
    /// Structured ones are shown as binary ones.
    cloud_events: bool,
    /// How far each partition was looked at.
    seen: Vec<Offset>,
}

/// What a world has of its own.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Of each topic.
    pub partitions: u32,
    /// Bytes that caches and queues share.
    pub memory_budget_bytes: usize,
}

impl Default for Setup {
    fn default() -> Self {
        Self { partitions: 1, memory_budget_bytes: 64 << 20 }
    }
}

/// A topology and all it needs.
pub struct World {
    /// None only while it is restarted.
    stepped: Option<Stepped>,
    plan: Arc<Plan>,
    broker: Arc<dyn Broker>,
    registry: Arc<dyn Registry>,
    producer: Box<dyn Producer>,
    inputs: Inputs,
    sinks: BTreeMap<String, Written>,
    /// What was written from outside to topics that the topology writes, since they were looked at.
    fed: BTreeMap<String, BTreeSet<(Partition, Offset)>>,
    now: Timestamp,
    setup: Setup,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("stepped", &self.stepped).field("now", &self.now).finish_non_exhaustive()
    }
}

/// What went wrong outside the topology's own rules.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct WorldError(pub String);

pub(super) fn failed(error: impl std::fmt::Display) -> WorldError {
    WorldError(error.to_string())
}

impl World {
    /// Makes the topics that the topology reads, registers its schemas and starts it; the clock stands at `now`.
    ///
    /// # Errors
    /// The plan cannot start.
    pub fn new(plan: Arc<Plan>, now: Timestamp) -> Result<Self, WorldError> {
        Self::with(plan, now, Setup::default())
    }

    /// As [`World::new`], with so many partitions and so much memory.
    ///
    /// # Errors
    /// The plan cannot start.
    pub fn with(plan: Arc<Plan>, now: Timestamp, setup: Setup) -> Result<Self, WorldError> {
        let broker: Arc<dyn Broker> = Arc::new(LocalBroker::in_memory());
        let registry: Arc<dyn Registry> = Arc::new(LocalRegistry::in_memory());
        let inputs = Inputs::prepare(&plan, &*broker, &*registry, setup.partitions)?;
        let sinks = written(&plan, setup.partitions);
        let producer = broker.producer(&ProducerSettings::default()).map_err(failed)?;
        let mut world =
            Self { stepped: None, plan, broker, registry, producer, inputs, sinks, fed: BTreeMap::new(), now, setup };
        world.start()?;
        Ok(world)
    }

    fn start(&mut self) -> Result<(), WorldError> {
        let ground = Ground {
            broker: Arc::clone(&self.broker),
            registry: Arc::clone(&self.registry),
            clock: Clock::told(self.now),
            backends: Arc::new(MemoryBackends),
            witness: None,
            turn_records: TASK_RUN_RECORDS_MAX,
        };
        let options = options(&self.plan.application_id, self.setup);
        let stepped = Stepped::start(Arc::clone(&self.plan), ground, options, self.now).map_err(failed)?;
        self.stepped = Some(stepped);
        self.settle()
    }

    fn settle(&mut self) -> Result<(), WorldError> {
        let now = self.now;
        self.stepped.as_mut().map_or(Ok(()), |stepped| stepped.settle(now).map_err(failed))
    }

    /// Stops the daemon and starts another: it finds its state in the changelogs, as on another machine.
    ///
    /// # Errors
    /// What was worked on cannot be committed; the plan cannot start.
    pub fn restart(&mut self) -> Result<(), WorldError> {
        if let Some(stepped) = self.stepped.take() {
            stepped.stop(self.now).map_err(failed)?;
        }
        self.start()
    }

    /// Returns the wall clock.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Writes a record and lets the topology work it off. The clock goes on to the record's time where it stands before it.
    ///
    /// # Errors
    /// A topic that the topology does not read, a value that is not of its schema, a daemon that cannot go on.
    pub fn feed(&mut self, input: &Input) -> Result<(), WorldError> {
        self.put(input)?;
        self.settle()
    }

    /// Writes records without letting the topology work on them; [`World::advance`] does.
    ///
    /// # Errors
    /// As [`World::feed`].
    pub fn write(&mut self, inputs: &[Input]) -> Result<(), WorldError> {
        for input in inputs {
            self.put(input)?;
        }
        Ok(())
    }

    fn put(&mut self, input: &Input) -> Result<(), WorldError> {
        let record = self.inputs.record(input)?;
        let partition = record.partition;
        let offset = self.producer.send_and_wait(record, WAIT).map_err(failed)?;
        if self.sinks.contains_key(&input.topic) {
            self.fed.entry(input.topic.clone()).or_default().insert((partition, offset));
        }
        self.now = self.now.max(input.at);
        Ok(())
    }

    /// Lets time pass.
    ///
    /// # Errors
    /// A daemon that cannot go on.
    pub fn advance(&mut self, span: SpanMs) -> Result<(), WorldError> {
        self.now = self.now.saturating_add(span);
        self.settle()
    }

    /// Returns the topics that the topology writes for others.
    pub fn written_topics(&self) -> impl Iterator<Item = &str> {
        self.sinks.keys().map(String::as_str)
    }

    /// Returns what was written to a topic since the last call, one partition after the other.
    ///
    /// # Errors
    /// A topic that the topology does not write.
    pub fn outputs(&mut self, topic: &str) -> Result<Vec<Output>, WorldError> {
        let Some(sink) = self.sinks.get(topic) else {
            let known = self.sinks.keys().map(String::as_str);
            return Err(WorldError(format!("nothing is written to topic `{topic}`; {}", suggestion(topic, known))));
        };
        // What the test itself wrote to a topic that the topology writes, too, is no output.
        let fed = self.fed.remove(topic).unwrap_or_default();
        let (mut outputs, mut seen) = (Vec::new(), Vec::with_capacity(sink.seen.len()));
        for (partition, from) in (0..).map(Partition).zip(&sink.seen) {
            let (records, next) = self.written_to(topic, partition, *from)?;
            seen.push(next);
            for record in records.iter().filter(|record| !fed.contains(&(partition, record.offset))) {
                outputs.push(self.shown(record, sink)?);
            }
        }
        if let Some(sink) = self.sinks.get_mut(topic) {
            sink.seen = seen;
        }
        Ok(outputs)
    }

    /// The committed records of a partition from an offset on, and where they end.
    fn written_to(&self, topic: &str, partition: Partition, from: Offset) -> Result<(Vec<Record>, Offset), WorldError> {
        let place = TopicPartition::new(topic, partition.0);
        let settings = ConsumerSettings {
            group: None,
            isolation: Isolation::ReadCommitted,
            prefetch_bytes_max: 1 << 20,
            end_wait: None,
        };
        let mut consumer = self.broker.consumer(&settings).map_err(failed)?;
        let end = consumer.watermarks(&place, WAIT).map_err(failed)?.high;
        if from >= end {
            return Ok((Vec::new(), from));
        }
        consumer.assign(&[(place, from)]).map_err(failed)?;
        read_to(&mut *consumer, from, end)
    }

    /// Returns each task that has stopped, with why.
    pub fn stopped(&self) -> Vec<(String, String)> {
        self.stepped.as_ref().map_or_else(Vec::new, Stepped::stopped)
    }

    /// Reads committed state, as over HTTP.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read(&self, read: &Read) -> Result<Json, ReadError> {
        let missing = || {
            let detail = "the daemon is not running".to_owned();
            ReadError::Unavailable { code: codes::READ_UNAVAILABLE, detail }
        };
        self.stepped.as_ref().ok_or_else(missing)?.read(read)
    }

    fn shown(&self, record: &Record, sink: &Written) -> Result<Output, WorldError> {
        let opened = if sink.cloud_events { opened_event(record).map_err(WorldError)? } else { None };
        let record = opened.as_ref().unwrap_or(record);
        let (key, window) = record.key.as_deref().map(|key| sink.key_of(key)).transpose()?.unzip();
        let decoded = record.value.as_deref().map(|bytes| self.decoded(bytes, sink.values)).transpose()?.flatten();
        let (event_type, value) = decoded.map_or((None, None), |(event_type, value)| (event_type, Some(value)));
        let headers = record.headers.iter().map(|header| {
            let value = header.value.as_deref().unwrap_or_default();
            (header.name.to_string(), String::from_utf8_lossy(value).into_owned())
        });
        Ok(Output {
            key,
            window: window.flatten(),
            event_type,
            value,
            at: record.timestamp,
            headers: headers.collect(),
            bytes: record.value.clone(),
        })
    }

    /// None where the bytes are nothing of the format: a dead letter may be anything.
    fn decoded(&self, bytes: &[u8], format: ValueFormat) -> Result<Option<(Option<String>, Json)>, WorldError> {
        if format == ValueFormat::Json {
            return Ok(serde_json::from_slice(bytes).ok().map(|value| (None, value)));
        }
        if let Some((_, of)) = format.scalar() {
            let value = scalar_value(format, bytes).map_err(failed)?;
            return Ok(Some((None, to_json(&value, &of))));
        }
        let Ok((id, datum)) = frame::split(bytes) else { return Ok(None) };
        let Ok(text) = self.registry.schema(id, WAIT) else { return Ok(None) };
        let schema = Schema::parse(&text).map_err(failed)?;
        let plan = DecodePlan::whole(&schema, &schema).map_err(failed)?;
        let Ok(value) = plan.decode_value(datum) else { return Ok(None) };
        Ok(Some((schema.full_name().map(str::to_owned), to_json(&value, &schema.value_type()))))
    }
}

impl Written {
    /// Takes a key apart into the base key and its window.
    fn key_of(&self, key: &[u8]) -> Result<(Json, Option<WindowSpan>), WorldError> {
        let take = |bytes: &mut &[u8]| -> Option<Timestamp> {
            let (rest, time) = bytes.split_last_chunk::<8>()?;
            *bytes = rest;
            Some(Timestamp(i64::from_be_bytes(*time)))
        };
        let mut base = key;
        if self.key == SinkKey::Avro {
            return self.framed_key(key).map(|key| (key, None));
        }
        let start = if self.key == SinkKey::Plain { None } else { take(&mut base) };
        let window = start.and_then(|start| {
            let end = match self.key {
                SinkKey::Plain | SinkKey::Avro => None,
                SinkKey::Start { length } => Some(start.saturating_add(length)),
                SinkKey::EndAndStart => take(&mut base),
            };
            Some(WindowSpan { start, end: end? })
        });
        let value = key_value(Some(base), &self.format).map_err(failed)?;
        Ok((to_json(&value, &self.format.key_type()), window))
    }
}

impl Written {
    fn framed_key(&self, key: &[u8]) -> Result<Json, WorldError> {
        let (_, datum) = frame::split(key).map_err(failed)?;
        let schema = Schema::parse(self.format.schema_text()).map_err(failed)?;
        let value = DecodePlan::whole(&schema, &schema).map_err(failed)?.decode_value(datum).map_err(failed)?;
        Ok(to_json(&value, &self.format.key_type()))
    }
}

/// The topics that sinks and dead letters go to; those of dead letters have their keys as text.
fn written(plan: &Plan, partitions: u32) -> BTreeMap<String, Written> {
    let mut written = BTreeMap::new();
    let seen = vec![Offset(0); partitions as usize];
    for (topic, planned) in &plan.topics {
        if matches!(planned.role, TopicRole::Sink | TopicRole::DeadLetter) {
            let (format, key, values) = (KeyFormat::String, SinkKey::Plain, ValueFormat::Avro);
            let plain = Written { format, key, values, cloud_events: false, seen: seen.clone() };
            written.insert(topic.to_string(), plain);
        }
    }
    for node in plan.sub_topologies.iter().flat_map(|sub| &sub.nodes) {
        if let NodeKind::Sink { topic, format, key, cloud_events, writers } = &node.kind {
            // What writes no rows writes answers to commands.
            let values = writers.iter().next().map_or(ValueFormat::Json, |(_, writer)| writer.format);
            let (format, key, cloud_events, seen) = (format.clone(), *key, cloud_events.is_some(), seen.clone());
            written.insert(topic.to_string(), Written { format, key, values, cloud_events, seen });
        }
    }
    written
}

fn options(application_id: &str, setup: Setup) -> Options {
    Options {
        application_id: application_id.to_owned(),
        instance_id: "test".to_owned(),
        guarantee: Guarantee::ExactlyOnce,
        commit_interval: SpanMs(0),
        threads: 1,
        state_dir: None,
        memory_budget_bytes: setup.memory_budget_bytes,
        first_start: FirstStart::Earliest,
        create_topics: true,
        replication_factor: None,
        default_partitions: setup.partitions,
        max_future: SpanMs(i64::MAX),
        session_timeout: WAIT,
        transaction_timeout: WAIT,
        deployed: None,
        allow_breaking_readers: false,
        restore_bytes_per_second: None,
        standby_replicas: 0,
        keep_set_aside: 0,
    }
}

/// Reads a partition to its end.
fn read_to(consumer: &mut dyn Consumer, from: Offset, end: Offset) -> Result<(Vec<Record>, Offset), WorldError> {
    let (mut records, mut next, mut events) = (Vec::new(), from, Vec::new());
    while next < end {
        consumer.poll(Duration::ZERO, &mut events).map_err(failed)?;
        for event in events.drain(..) {
            match event {
                Event::Records(fetched) => {
                    next = fetched.records.last().map_or(next, |last| last.offset.next());
                    records.extend(fetched.records);
                }
                // Behind the last record stand the markers of transactions.
                Event::EndOfPartition { position, .. } => next = next.max(position).max(end),
                Event::Assigned(_) | Event::Revoked(_) | Event::Lost(_) => {}
            }
        }
    }
    Ok((records, next))
}
