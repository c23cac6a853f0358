//! What the driver itself asks of broker and registry: topics and schemas of names that no other run uses, how far a group is.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{ClientConfig, TopicPartitionList};
use tidemill::base::ids::{SchemaId, Topic};
use tidemill::broker::kafka::{KafkaBroker, KafkaSettings};
use tidemill::broker::{Admin, Broker, NewTopic};
use tidemill::registry::Registry;
use tidemill::registry::confluent::{Auth, ConfluentRegistry, ConfluentSettings};

use crate::contender::Place;

pub(crate) const PARTITIONS: u32 = 4;
const WAIT: Duration = Duration::from_secs(30);

pub(crate) struct Cluster {
    pub(crate) brokers: String,
    admin: RefCell<Box<dyn Admin>>,
    registry: ConfluentRegistry,
}

impl Cluster {
    pub(crate) fn connect(place: &Place) -> Result<Self> {
        let broker = KafkaBroker::new(KafkaSettings {
            bootstrap_servers: place.brokers.clone(),
            properties: BTreeMap::new(),
            client_id: "tidemill-peer".into(),
        })?;
        let urls = vec![place.registry.clone()];
        let registry = ConfluentRegistry::new(ConfluentSettings { urls, auth: Auth::None, timeout: WAIT })?;
        Ok(Self { brokers: place.brokers.clone(), admin: RefCell::new(broker.admin()?), registry })
    }

    /// Makes a topic with a name of its own, which keeps its records.
    pub(crate) fn topic(&self, stem: &str) -> Result<String> {
        let name = unique(stem);
        let configs = BTreeMap::from([("retention.ms".to_owned(), "-1".to_owned())]);
        let new =
            NewTopic { topic: Topic::new(name.as_str()), partitions: PARTITIONS, replication_factor: Some(1), configs };
        self.admin.borrow_mut().create(&new, WAIT)?;
        Ok(name)
    }

    pub(crate) fn drop_topic(&self, topic: &str) -> Result<()> {
        Ok(self.admin.borrow_mut().delete(&Topic::new(topic), WAIT)?)
    }

    /// Registers a schema for the values of a topic.
    pub(crate) fn register(&self, topic: &str, schema: &str) -> Result<SchemaId> {
        Ok(self.registry.register(&format!("{topic}-value"), schema, WAIT)?)
    }

    /// Opens a look at what a group has committed of a topic.
    pub(crate) fn progress(&self, group: &str, topic: &str) -> Result<Progress> {
        // Offsets in a transaction that is still open do not count, and are not waited for.
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.brokers)
            .set("group.id", group)
            .set("isolation.level", "read_uncommitted")
            .create()?;
        Ok(Progress { consumer, topic: topic.to_owned() })
    }
}

/// A name that no other run has.
pub(crate) fn unique(stem: &str) -> String {
    format!("{stem}-{}", uuid::Uuid::new_v4().simple())
}

pub(crate) struct Progress {
    consumer: BaseConsumer,
    topic: String,
}

impl Progress {
    /// Returns how many records of the topic the group has committed. They begin at offset 0, and no transaction wrote them.
    pub(crate) fn committed(&self) -> Result<u64> {
        let mut partitions = TopicPartitionList::new();
        partitions.add_partition_range(&self.topic, 0, PARTITIONS.cast_signed() - 1);
        let committed = match self.consumer.committed_offsets(partitions, WAIT) {
            Ok(committed) => committed,
            // The first group of a broker has no coordinator until its topic of offsets is there.
            Err(KafkaError::MetadataFetch(
                RDKafkaErrorCode::NotCoordinator
                | RDKafkaErrorCode::CoordinatorNotAvailable
                | RDKafkaErrorCode::CoordinatorLoadInProgress,
            )) => return Ok(0),
            Err(error) => return Err(error).context("the group's offsets"),
        };
        let offsets = committed.elements().into_iter().filter_map(|element| element.offset().to_raw());
        // What was never committed is negative.
        Ok(offsets.map(|offset| offset.max(0).unsigned_abs()).sum())
    }
}
