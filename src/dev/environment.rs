//! The broker and the registry a daemon stands on: embedded, in a folder, or the ones that the settings name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::avro::{Schema, can_read};
use crate::base::ids::Topic;
use crate::base::time::SpanMs;
use crate::broker::kafka::{KafkaBroker, KafkaSettings};
use crate::broker::local::LocalBroker;
use crate::broker::{self, Broker, NewTopic};
use crate::config::{Guarantee, OffsetReset, RegistryAuth, Settings, TopicCreation};
use crate::plan::{Payload, Plan, TopicRole};
use crate::registry::confluent::{Auth, ConfluentRegistry, ConfluentSettings};
use crate::registry::local::{Compatibility, LocalRegistry};
use crate::registry::{self, Registry};
use crate::runtime::{self, Options};
use crate::task::FirstStart;

const WAIT: Duration = Duration::from_secs(30);

/// Partitions of source topics that `dev` makes.
const DEV_PARTITIONS: u32 = 4;

/// A broker and a registry.
#[derive(Clone, Debug)]
pub struct Environment {
    pub broker: Arc<dyn Broker>,
    pub registry: Arc<dyn Registry>,
}

/// Why there is no environment.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Broker(#[from] broker::Error),
    #[error(transparent)]
    Registry(#[from] registry::Error),
    #[error("`{path}`: {message}")]
    Folder { path: PathBuf, message: String },
}

impl Environment {
    /// Opens the embedded broker and registry in `folder`: nothing else is needed, and what they acknowledged survives a kill.
    ///
    /// # Errors
    /// The folder is in use by another process, or cannot be read.
    pub fn embedded(folder: &Path) -> Result<Self, Error> {
        let failed = |error: std::io::Error| Error::Folder { path: folder.to_owned(), message: error.to_string() };
        std::fs::create_dir_all(folder).map_err(failed)?;
        let broker = LocalBroker::open(&folder.join("broker"))?;
        let registry = LocalRegistry::open(folder.join("registry.jsonl"))?
            .with_compatibility(Compatibility::Backward(problems_of_reading));
        Ok(Self { broker: Arc::new(broker), registry: Arc::new(registry) })
    }

    /// Connects to the brokers and the registry that the settings name. Without a registry URL, one in the state folder serves.
    ///
    /// # Errors
    /// Settings that the clients refuse, a secret that cannot be read.
    pub fn of_settings(settings: &Settings, bootstrap_servers: &str) -> Result<Self, Error> {
        let mut properties = BTreeMap::new();
        for (name, property) in &settings.kafka.properties {
            properties.insert(name.clone(), property.expose().to_owned());
        }
        let broker = KafkaBroker::new(KafkaSettings {
            bootstrap_servers: bootstrap_servers.to_owned(),
            properties,
            client_id: "tidemill".to_owned(),
        })?;
        let registry = registry_of(settings)?;
        Ok(Self { broker: Arc::new(broker), registry })
    }

    /// Makes the topics that a topology reads where they are missing, and registers the schemas it reads them with: so that
    /// events can be written by hand at once. For `dev` only: elsewhere a missing topic is a mistake.
    ///
    /// # Errors
    /// The broker's, the registry's.
    pub fn prepare_sources(&self, plan: &Plan) -> Result<(), Error> {
        let mut admin = self.broker.admin()?;
        let sources: Vec<Topic> = plan
            .topics
            .iter()
            .filter(|(_, planned)| planned.role == TopicRole::Source)
            .map(|(topic, _)| topic.clone())
            .collect();
        for (topic, found) in sources.iter().zip(admin.describe(&sources, WAIT)?) {
            if found.is_none() {
                let configs = [("cleanup.policy", "delete"), ("retention.ms", "-1")];
                let configs = configs.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
                let topic = topic.clone();
                let wanted = NewTopic { topic, partitions: DEV_PARTITIONS, replication_factor: None, configs };
                admin.create(&wanted, WAIT)?;
            }
        }
        for source in plan.read_topics() {
            let Payload::Registry { readers } = &source.payload else { continue };
            for reader in readers {
                let subject = match (readers.len(), reader.schema.full_name()) {
                    (2.., Some(name)) => format!("{}-{name}", source.topic),
                    _ => format!("{}-value", source.topic),
                };
                self.registry.register(&subject, reader.schema.text(), WAIT)?;
            }
        }
        Ok(())
    }
}

/// Connects to the registry that the settings name; without a URL, one in the state folder serves.
///
/// # Errors
/// Settings that the client refuses, a folder that cannot be written.
pub fn registry_of(settings: &Settings) -> Result<Arc<dyn Registry>, Error> {
    if settings.registry.urls.is_empty() {
        let failed =
            |error: std::io::Error| Error::Folder { path: settings.state.dir.clone(), message: error.to_string() };
        std::fs::create_dir_all(&settings.state.dir).map_err(failed)?;
        return Ok(Arc::new(LocalRegistry::open(settings.state.dir.join("registry.jsonl"))?));
    }
    Ok(Arc::new(ConfluentRegistry::new(ConfluentSettings {
        urls: settings.registry.urls.clone(),
        auth: registry_auth(&settings.registry.auth),
        timeout: settings.registry.timeout,
    })?))
}

fn registry_auth(auth: &RegistryAuth) -> Auth {
    match auth {
        RegistryAuth::None => Auth::None,
        RegistryAuth::Basic { username, password } => {
            Auth::Basic { user: username.clone(), password: password.expose().to_owned() }
        }
        RegistryAuth::Bearer(token) => Auth::Bearer { token: token.expose().to_owned() },
    }
}

fn problems_of_reading(reader: &str, writer: &str) -> Vec<String> {
    match (Schema::parse(reader), Schema::parse(writer)) {
        (Ok(reader), Ok(writer)) => can_read(&reader, &writer)
            .into_iter()
            .map(|problem| format!("{}: {}", problem.path, problem.message))
            .collect(),
        (Err(error), _) | (_, Err(error)) => vec![error.to_string()],
    }
}

/// Makes the runtime's options of the settings. `event_hubs` and the like are librdkafka properties; here is what tidemill
/// itself decides.
///
/// # Errors
/// The state folder cannot be written: the instance's name is kept there.
pub fn options(settings: &Settings, plan: &Plan) -> Result<Options, Error> {
    let instance_id = match &settings.instance_id {
        Some(id) => id.clone(),
        None => kept_instance_id(&settings.state.dir)?,
    };
    Ok(Options {
        application_id: plan.application_id.clone(),
        instance_id,
        guarantee: match settings.processing_guarantee {
            Guarantee::ExactlyOnce => runtime::Guarantee::ExactlyOnce,
            Guarantee::AtLeastOnce => runtime::Guarantee::AtLeastOnce,
        },
        commit_interval: SpanMs(i64::try_from(settings.commit_interval.as_millis()).unwrap_or(i64::MAX)),
        threads: settings.num_stream_threads,
        state_dir: Some(settings.state.dir.clone()),
        memory_budget_bytes: usize::try_from(settings.memory.budget_bytes).unwrap_or(usize::MAX),
        first_start: match settings.auto_offset_reset {
            OffsetReset::Earliest => FirstStart::Earliest,
            OffsetReset::Latest => FirstStart::Latest,
            OffsetReset::Error => FirstStart::Error,
        },
        create_topics: settings.topics.creation == TopicCreation::Create,
        replication_factor: u16::try_from(settings.topics.replication_factor).ok(),
        default_partitions: DEV_PARTITIONS,
        max_future: SpanMs(3_600_000),
        session_timeout: Duration::from_secs(10),
        transaction_timeout: Duration::from_secs(10),
        deployed: None,
        allow_breaking_readers: settings.allow_breaking_readers,
        restore_bytes_per_second: settings.state.restore_bytes_per_second,
        standby_replicas: settings.num_standby_replicas,
        keep_set_aside: settings.state.keep_set_aside,
    })
}

/// The name this instance gave itself at its first start, kept in the state folder.
fn kept_instance_id(state: &Path) -> Result<String, Error> {
    let path = state.join("instance-id");
    let failed = |error: std::io::Error| Error::Folder { path: path.clone(), message: error.to_string() };
    match std::fs::read_to_string(&path) {
        Ok(kept) if !kept.trim().is_empty() => return Ok(kept.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    std::fs::create_dir_all(state).map_err(failed)?;
    let made = uuid::Uuid::new_v4().to_string();
    std::fs::write(&path, &made).map_err(failed)?;
    Ok(made)
}
