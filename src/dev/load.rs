//! Writes the demo's year into a broker, as its producers would: each record type under its subject, each topic by key. A load
//! that was interrupted goes on where it stopped: the order is the same every time, so what a partition holds is a prefix of
//! what it is to hold.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use crate::avro::{Encoder, Schema, frame};
use crate::base::hash::partition_of;
use crate::base::ids::{Partition, SchemaId, Topic, TopicPartition};
use crate::base::record::{Headers, Outgoing};
use crate::broker::{
    self, Broker, Commit, CommitProgress, Consumer, ConsumerSettings, Isolation, NewTopic, Producer, ProducerSettings,
};
use crate::dev::flights::{
    AIRLINES_TOPIC, AIRPORTS_TOPIC, DemoEvent, EventSchema, FLIGHTS_TOPIC, PLANES_TOPIC, WEATHER_TOPIC, Year,
};
use crate::registry::{self, Registry};

/// Partitions of the flights' topic; the tables have one each, weather as many as the airports it is joined by need.
const FLIGHTS_PARTITIONS: u32 = 6;

/// Records handed to the producer at once.
const BATCH_RECORDS: usize = 2000;

const WAIT: Duration = Duration::from_secs(30);

/// What a load found and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Records that were there already.
    pub found: u64,
    /// Records written now.
    pub written: u64,
}

/// Why the year could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Broker(#[from] broker::Error),
    #[error(transparent)]
    Registry(#[from] registry::Error),
    #[error("an event of `{record}` does not fit its schema: {message}")]
    Event { record: &'static str, message: String },
}

/// How one record type is written.
struct Writer {
    id: SchemaId,
    encoder: Encoder,
}

/// Loads one topic after the other, record by record in the order of occurrence.
struct Loader<'a> {
    producer: Box<dyn Producer>,
    writers: BTreeMap<&'static str, Writer>,
    registry: &'a dyn Registry,
    partitions: BTreeMap<&'static str, u32>,
    /// Records that a partition holds already and that are passed over.
    there: BTreeMap<TopicPartition, u64>,
    batch: VecDeque<Outgoing>,
    loaded: Loaded,
}

/// Writes the first `events` events of the year (all: `year.events_total()`) and the tables. `progress` is told how many of
/// them are done.
///
/// # Errors
/// The broker's, the registry's; call again to go on.
pub fn load(
    year: &Year,
    events: usize,
    broker: &dyn Broker,
    registry: &dyn Registry,
    progress: &mut dyn FnMut(usize),
) -> Result<Loaded, Error> {
    let topics = [FLIGHTS_TOPIC, WEATHER_TOPIC, AIRLINES_TOPIC, AIRPORTS_TOPIC, PLANES_TOPIC];
    let partitions = create_topics(broker, &topics)?;
    let mut loader = Loader {
        there: records_there(broker, &partitions)?,
        producer: broker.producer(&ProducerSettings::default())?,
        writers: BTreeMap::new(),
        registry,
        partitions,
        batch: VecDeque::new(),
        loaded: Loaded::default(),
    };
    loader.loaded.found = loader.there.values().sum();
    for event in year.tables() {
        loader.write(event)?;
    }
    for (place, event) in year.events(0..events).enumerate() {
        loader.write(event)?;
        if place % BATCH_RECORDS == 0 {
            progress(place);
        }
    }
    loader.finish()?;
    progress(events);
    Ok(loader.loaded)
}

/// Registers every schema of the demo under its subject, the first versions before the second ones.
///
/// # Errors
/// The registry's.
pub fn register(registry: &dyn Registry) -> Result<(), Error> {
    for schema in EventSchema::ALL {
        registry.register(&subject(schema), schema.text(), WAIT)?;
    }
    Ok(())
}

/// The subject of a record type: by record name on the flights' topic, by topic elsewhere.
fn subject(schema: EventSchema) -> String {
    match schema.topic() {
        FLIGHTS_TOPIC => format!("{FLIGHTS_TOPIC}-{}", schema.record()),
        topic => format!("{topic}-value"),
    }
}

fn create_topics(broker: &dyn Broker, topics: &[&'static str]) -> Result<BTreeMap<&'static str, u32>, broker::Error> {
    let mut admin = broker.admin()?;
    let names: Vec<Topic> = topics.iter().map(|topic| Topic::new(*topic)).collect();
    let found = admin.describe(&names, WAIT)?;
    let mut partitions = BTreeMap::new();
    for ((topic, name), found) in topics.iter().zip(names).zip(found) {
        let wanted = if *topic == FLIGHTS_TOPIC { FLIGHTS_PARTITIONS } else { 1 };
        if found.is_none() {
            // Event times are of 2013: a topic that forgets by age would forget everything at once.
            let policy = if *topic == FLIGHTS_TOPIC || *topic == WEATHER_TOPIC { "delete" } else { "compact" };
            let configs =
                [("cleanup.policy", policy), ("retention.ms", "-1"), ("message.timestamp.type", "CreateTime")];
            admin.create(
                &NewTopic {
                    topic: name,
                    partitions: wanted,
                    replication_factor: None,
                    configs: configs.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
                },
                WAIT,
            )?;
        }
        partitions.insert(*topic, found.map_or(wanted, |found| found.partitions));
    }
    Ok(partitions)
}

fn records_there(
    broker: &dyn Broker,
    partitions: &BTreeMap<&'static str, u32>,
) -> Result<BTreeMap<TopicPartition, u64>, broker::Error> {
    let mut consumer: Box<dyn Consumer> = broker.consumer(&ConsumerSettings {
        group: None,
        isolation: Isolation::ReadCommitted,
        prefetch_bytes_max: 1 << 20,
        end_wait: None,
    })?;
    let mut there = BTreeMap::new();
    for (topic, count) in partitions {
        for partition in 0..*count {
            let partition = TopicPartition::new(*topic, partition as i32);
            let ends = consumer.watermarks(&partition, WAIT)?;
            there.insert(partition, ends.high.0.unsigned_abs());
        }
    }
    consumer.close(broker::Leave::Group);
    Ok(there)
}

impl Loader<'_> {
    fn write(&mut self, event: DemoEvent) -> Result<(), Error> {
        let partitions = self.partitions[event.topic];
        let partition = partition_of(event.key.as_bytes(), partitions);
        let place = TopicPartition { topic: Topic::new(event.topic), partition };
        if let Some(there) = self.there.get_mut(&place).filter(|there| **there > 0) {
            *there -= 1;
            return Ok(());
        }
        let record = self.encode(event, place.topic, partition)?;
        self.batch.push_back(record);
        self.loaded.written += 1;
        if self.batch.len() >= BATCH_RECORDS { self.send() } else { Ok(()) }
    }

    fn encode(&mut self, event: DemoEvent, topic: Topic, partition: Partition) -> Result<Outgoing, Error> {
        let writer = match self.writers.entry(event.schema.file()) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(empty) => {
                let text = event.schema.text();
                let id = self.registry.register(&subject(event.schema), text, WAIT)?;
                let schema = Schema::parse(text)
                    .map_err(|error| Error::Event { record: event.schema.record(), message: error.to_string() })?;
                empty.insert(Writer { id, encoder: Encoder::compile(&schema) })
            }
        };
        let mut value = Vec::with_capacity(96);
        frame::write(writer.id, &mut value);
        writer
            .encoder
            .encode(&event.fields, &mut value)
            .map_err(|error| Error::Event { record: event.schema.record(), message: error.to_string() })?;
        Ok(Outgoing {
            topic,
            partition,
            timestamp: event.timestamp,
            key: Some(Bytes::copy_from_slice(event.key.as_bytes())),
            value: Some(Bytes::from(value)),
            headers: Headers::default(),
        })
    }

    /// Hands the batch over, waiting for room as often as the client's queue is full.
    fn send(&mut self) -> Result<(), Error> {
        self.producer.send(&mut self.batch)?;
        while !self.batch.is_empty() {
            self.wait_for_room()?;
            self.producer.send(&mut self.batch)?;
        }
        Ok(())
    }

    fn wait_for_room(&mut self) -> Result<(), Error> {
        self.producer.commit(Commit::default());
        self.wait_for_acknowledgement()
    }

    fn wait_for_acknowledgement(&mut self) -> Result<(), Error> {
        loop {
            match self.producer.poll_commit(WAIT) {
                CommitProgress::Pending => {}
                CommitProgress::Idle => return Ok(()),
                CommitProgress::Finished(outcome) => return Ok(outcome.map(|_| ())?),
            }
        }
    }

    fn finish(&mut self) -> Result<(), Error> {
        self.send()?;
        self.wait_for_room()
    }
}
