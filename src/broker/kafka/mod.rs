//! The adapter to Apache Kafka and what speaks its protocol (Event Hubs), through rdkafka.
//!
//! This file decides what the parts share: the settings of a cluster, the clients' common context (librdkafka's log goes to
//! `tracing`), deadlines, and the largest record each described topic takes. Invariants: the caller's thread never waits for
//! longer than it asked for plus a slice of 200 ms, and never for a client that hangs while closing (a thread of its own waits
//! for that one). Not here: how librdkafka is configured (`config`), what its errors mean (`error`), what its safe interface
//! lacks (`native`, the one module with unsafe code).

mod admin;
mod callbacks;
mod config;
mod consumer;
mod convert;
mod error;
mod figures;
mod native;
mod producer;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;

use crate::base::ids::{Offset, Topic, TopicPartition};
use crate::broker::{
    Admin, Broker, ClientFigures, Consumer, ConsumerSettings, Error, Producer, ProducerSettings, Watermarks,
};
use figures::Figures;

/// No wait inside the client is longer, so that the caller can beat, serve and stop in between.
const SLICE: Duration = Duration::from_millis(200);

/// For how long a topic must be missed to be taken for missing: a broker that has just started, or one that hears late of a new topic, does not
/// know it yet.
const MISSED_MAX: Duration = Duration::from_secs(5);

/// How to reach a cluster.
#[derive(Clone, Debug)]
pub struct KafkaSettings {
    /// `host:port`, comma-separated: where to ask for the rest of the cluster.
    pub bootstrap_servers: String,
    /// Any of librdkafka's properties (security, timeouts, buffers), over this adapter's defaults. Those that correctness rests on
    /// (`enable.auto.commit`, `isolation.level`, `acks`, …) are refused.
    pub properties: BTreeMap<String, String>,
    /// Name of this process in the brokers' logs and quotas.
    pub client_id: String,
}

/// A Kafka cluster.
pub struct KafkaBroker {
    cluster: Arc<Cluster>,
}

/// What all clients of a cluster share.
struct Cluster {
    settings: KafkaSettings,
    /// Bytes of the largest record batch that each topic takes, as far as an admin client has seen it.
    limits: Mutex<HashMap<Topic, usize>>,
    /// Asks for watermarks: of a `read_committed` consumer librdkafka would ask for the last stable offset instead.
    probe: OnceLock<BaseConsumer<Logging>>,
    figures: Arc<Figures>,
}

impl KafkaBroker {
    /// Takes the settings of a cluster; nothing is contacted yet.
    ///
    /// # Errors
    /// [`Error::Invalid`] when `properties` names one that is not the user's to set, or librdkafka does not know one.
    pub fn new(settings: KafkaSettings) -> Result<Self, Error> {
        config::check(&settings)?;
        Ok(Self {
            cluster: Arc::new(Cluster {
                settings,
                limits: Mutex::default(),
                probe: OnceLock::new(),
                figures: Arc::default(),
            }),
        })
    }
}

impl fmt::Debug for KafkaBroker {
    /// Without the properties: they hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers = &self.cluster.settings.bootstrap_servers;
        f.debug_struct("KafkaBroker").field("bootstrap_servers", servers).finish_non_exhaustive()
    }
}

impl Broker for KafkaBroker {
    fn consumer(&self, settings: &ConsumerSettings) -> Result<Box<dyn Consumer>, Error> {
        Ok(Box::new(consumer::KafkaConsumer::new(Arc::clone(&self.cluster), settings)?))
    }

    fn producer(&self, settings: &ProducerSettings) -> Result<Box<dyn Producer>, Error> {
        Ok(Box::new(producer::KafkaProducer::new(Arc::clone(&self.cluster), settings)?))
    }

    fn admin(&self) -> Result<Box<dyn Admin>, Error> {
        Ok(Box::new(admin::KafkaAdmin::new(Arc::clone(&self.cluster))?))
    }

    fn client_figures(&self) -> Vec<ClientFigures> {
        self.cluster.figures.all()
    }
}

impl Cluster {
    /// Returns the bytes of the largest record batch a topic takes, when that is known.
    fn limit(&self, topic: &Topic) -> Option<usize> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner).get(topic).copied()
    }

    fn remember_limit(&self, topic: &Topic, bytes: usize) {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner).insert(topic.clone(), bytes);
    }

    /// Returns the smallest limit known, which no batch may exceed.
    fn smallest_limit(&self) -> Option<usize> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner).values().copied().min()
    }

    fn watermarks(&self, partition: &TopicPartition, wait: Duration) -> Result<Watermarks, Error> {
        let probe = match self.probe.get() {
            Some(probe) => probe,
            None => {
                let made = BaseConsumer::from_config_and_context(&config::probe(&self.settings), Logging)
                    .map_err(|e| error::refused(&e))?;
                self.probe.get_or_init(|| made)
            }
        };
        serve_logs(probe);
        // Who waits for a moment only asks again by himself.
        let missed_max = if wait > SLICE { wait.min(MISSED_MAX) } else { Duration::ZERO };
        let (deadline, missed) = (Deadline::after(wait), Deadline::after(missed_max));
        loop {
            let asked = probe.fetch_watermarks(partition.topic.as_str(), partition.partition.0, deadline.left());
            match asked.map_err(|e| error::map(&e, Some(&partition.topic))) {
                Ok((low, high)) => return Ok(Watermarks { low: Offset(low), high: Offset(high) }),
                Err(Error::Unavailable { .. }) if !deadline.passed() => deadline.pause(Duration::from_millis(20)),
                Err(error @ Error::UnknownTopic { .. }) => {
                    // librdkafka may believe for a quarter of an hour what it heard once; what it is told now takes its place.
                    drop(probe.fetch_metadata(Some(partition.topic.as_str()), deadline.slice()));
                    if missed.passed() {
                        return Err(error);
                    }
                    missed.pause(Duration::from_millis(50));
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Hands the log lines that a consumer without a group has queued to its context.
fn serve_logs(consumer: &BaseConsumer<Logging>) {
    for _ in 0..8 {
        // Errors of such a consumer were handed to the context by `poll` already.
        drop(consumer.poll(Duration::ZERO));
    }
}

/// The context of clients that need no callbacks.
#[derive(Clone, Copy, Debug)]
struct Logging;

impl ClientContext for Logging {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        log_error(&error, reason);
    }
}

impl ConsumerContext for Logging {}

/// Passes one of librdkafka's log lines on. Its errors are about one connection and pass by themselves: warnings here.
fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(target: "librdkafka", facility, message, "librdkafka");
        }
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => {
            tracing::warn!(target: "librdkafka", facility, message, "librdkafka");
        }
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
            tracing::info!(target: "librdkafka", facility, message, "librdkafka");
        }
        RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", facility, message, "librdkafka"),
    }
}

/// Logs an error event that concerns a client as a whole; whoever waits for something gets an error of its own.
fn log_error(error: &KafkaError, reason: &str) {
    if error.rdkafka_error_code() != Some(rdkafka::error::RDKafkaErrorCode::PartitionEOF) {
        tracing::warn!(target: "librdkafka", %error, reason, "client error");
    }
}

/// The end of a wait.
#[derive(Clone, Copy, Debug)]
struct Deadline(Instant);

#[expect(clippy::disallowed_methods, reason = "bounds waits on sockets; no decision rests on it")]
impl Deadline {
    /// The moment `wait` from now; a day at most, so that no sum overflows.
    fn after(wait: Duration) -> Self {
        Self(Instant::now() + wait.min(Duration::from_secs(86_400)))
    }

    fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    fn passed(self) -> bool {
        self.left().is_zero()
    }

    /// The time left, one slice at most.
    fn slice(self) -> Duration {
        self.left().min(SLICE)
    }

    /// Lets `pause` go by, or what is left.
    fn pause(self, pause: Duration) {
        std::thread::park_timeout(pause.min(self.left()));
    }
}
