//! Fetches writer schemas beside the stream threads: a thread asks, goes on with its other partitions, and finds the answer
//! later (a stepped daemon asks in place, so that nothing happens beside it). An id that the registry does not know is asked for again for a while (registries replicate), then it is an error of
//! the records that carry it; a registry that does not answer is asked without end, and stops nothing whose schemas are known.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::{info, warn};

use crate::base::ids::SchemaId;
use crate::limits;
use crate::registry::{self, Registry};
use crate::runtime::clock::Stopwatch;

/// What is known about an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Schema(Arc<str>),
    Failed(String),
}

/// By id: the answer and when it came; none while it is being asked for.
type Answers = HashMap<SchemaId, Option<(Answer, Stopwatch)>>;

/// Asks a registry for schemas.
#[derive(Debug)]
pub(super) enum SchemaFetcher {
    /// On a thread of its own, which ends when this is dropped.
    Beside { requests: Sender<SchemaId>, answers: Arc<Mutex<Answers>> },
    /// When it is asked, once each time: for a daemon that somebody steps.
    InPlace { registry: Arc<dyn Registry>, tried: Mutex<HashMap<SchemaId, Tried>> },
}

/// How far an id has come that is asked for in place.
#[derive(Debug)]
pub(super) enum Tried {
    Unknown { times: u32 },
    Answered(Answer),
}

impl SchemaFetcher {
    /// Starts the thread.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(super) fn start(registry: Arc<dyn Registry>) -> std::io::Result<Self> {
        let (requests, incoming) = channel();
        let answers = Arc::new(Mutex::new(HashMap::new()));
        let shared = Arc::clone(&answers);
        std::thread::Builder::new().name("schemas".to_owned()).spawn(move || fetch(&*registry, &incoming, &shared))?;
        Ok(Self::Beside { requests, answers })
    }

    /// Asks in place, without a thread.
    pub(super) fn in_place(registry: Arc<dyn Registry>) -> Self {
        Self::InPlace { registry, tried: Mutex::default() }
    }

    /// Returns the answer for an id, or none while it is being asked for.
    pub(super) fn schema(&self, id: SchemaId) -> Option<Answer> {
        let (requests, answers) = match self {
            Self::Beside { requests, answers } => (requests, answers),
            Self::InPlace { registry, tried } => return ask(&**registry, tried, id),
        };
        let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
        match answers.get(&id) {
            Some(Some((Answer::Failed(message), since))) if since.elapsed() < limits::SCHEMA_FAILURE_KEPT => {
                return Some(Answer::Failed(message.clone()));
            }
            // Whoever asks again after a while wants to know whether it is there by now.
            Some(Some((Answer::Failed(_), _))) | None => {}
            Some(known) => return known.as_ref().map(|(answer, _)| answer.clone()),
        }
        answers.insert(id, None);
        // The receiver lives as long as this sender: a send that fails means that the process is ending.
        if requests.send(id).is_err() {
            return Some(Answer::Failed("the daemon is stopping".to_owned()));
        }
        None
    }
}

fn ask(registry: &dyn Registry, tried: &Mutex<HashMap<SchemaId, Tried>>, id: SchemaId) -> Option<Answer> {
    let mut tried = tried.lock().unwrap_or_else(PoisonError::into_inner);
    let entry = tried.entry(id).or_insert(Tried::Unknown { times: 0 });
    let times = match entry {
        Tried::Answered(answer) => return Some(answer.clone()),
        Tried::Unknown { times } => times,
    };
    let answer = match registry.schema(id, Duration::ZERO) {
        Ok(schema) => Answer::Schema(Arc::from(schema)),
        Err(registry::Error::UnknownId { .. }) if *times < limits::SCHEMA_UNKNOWN_TRIES_MAX => {
            *times += 1;
            return None;
        }
        Err(registry::Error::Unavailable { .. }) => return None,
        Err(error) => Answer::Failed(error.to_string()),
    };
    *entry = Tried::Answered(answer.clone());
    Some(answer)
}

fn fetch(registry: &dyn Registry, incoming: &Receiver<SchemaId>, answers: &Mutex<Answers>) {
    while let Ok(id) = incoming.recv() {
        let answer = fetch_one(registry, id);
        answers.lock().unwrap_or_else(PoisonError::into_inner).insert(id, Some((answer, Stopwatch::start())));
    }
}

fn fetch_one(registry: &dyn Registry, id: SchemaId) -> Answer {
    let mut unknown = 0;
    let mut pause = Duration::from_millis(50);
    loop {
        match registry.schema(id, limits::REGISTRY_WAIT) {
            Ok(schema) => {
                info!(id = id.0, "learned a writer schema");
                return Answer::Schema(Arc::from(schema));
            }
            Err(registry::Error::UnknownId { .. }) if unknown < limits::SCHEMA_UNKNOWN_TRIES_MAX => unknown += 1,
            Err(registry::Error::Unavailable { message }) => warn!(id = id.0, message, "waiting for the registry"),
            Err(error) => return Answer::Failed(error.to_string()),
        }
        // A bounded wait on nothing else than time passing: the registry sends no signal.
        std::thread::park_timeout(pause);
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}
