//! A registry that speaks Confluent's HTTP interface (Confluent, Apicurio's `ccompat`, Karapace, Redpanda).
//!
//! Decides what is tried again (no answer, 408, 429, 5xx: with growing pauses, until the caller's wait is over) and what the
//! answers mean. The calls go through `schema_registry_converter`'s functions, which keep no failures; those it lacks (looking up
//! without registering, the verdict with its reasons) stand beside them. Invariants: one fetch per id at a time, and none once it is
//! known; the calling thread only waits, so it may belong to an async runtime. Not here: what a schema means.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use schema_registry_converter::async_impl::schema_registry::{
    SrSettings, get_all_subjects, get_all_versions, get_referenced_schema, get_schema_by_id,
    get_schema_by_subject_and_version, post_schema,
};
use schema_registry_converter::error::SRCError;
use schema_registry_converter::schema_registry_common::{RawError, RegisteredSchema, SchemaType, SuppliedSchema};
use serde::Deserialize;
use serde_json::Value;
use tokio::runtime::Runtime;

use super::references::inline;
use crate::base::ids::SchemaId;
use crate::limits::REGISTRATIONS_AT_ONCE;
use crate::registry::{Error, Registry, SubjectVersion, Verdict};

/// The registry's type of content.
const JSON: &str = "application/vnd.schemaregistry.v1+json";

/// The first pause before a call is made again; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// References of a schema and of those that it refers to.
const REFERENCES_MAX: usize = 1000;

/// What stands as it is in a path's segment (RFC 3986, unreserved).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// How to prove who asks.
#[derive(Clone, Default)]
pub enum Auth {
    #[default]
    None,
    Basic {
        user: String,
        password: String,
    },
    /// A token that does not change.
    Bearer {
        token: String,
    },
}

impl fmt::Debug for Auth {
    /// Without the secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Basic { .. } => "Basic",
            Self::Bearer { .. } => "Bearer",
        })
    }
}

/// How to reach a registry.
#[derive(Clone, Debug)]
pub struct ConfluentSettings {
    /// Base addresses, `http://host:8081` or `http://host:8080/apis/ccompat/v7`; each call tries them in this order.
    pub urls: Vec<String>,
    pub auth: Auth,
    /// How long one request may take; a call as a whole is bounded by its own `wait`.
    pub timeout: Duration,
}

/// A registry behind HTTP.
pub struct ConfluentRegistry {
    remote: Arc<Remote>,
    /// None once dropped.
    runtime: Option<Runtime>,
    known: Mutex<Known>,
    arrived: Condvar,
}

#[derive(Default)]
struct Known {
    schemas: HashMap<SchemaId, Arc<str>>,
    /// Being fetched by some thread.
    underway: HashSet<SchemaId>,
}

/// What the calls need.
struct Remote {
    urls: Vec<String>,
    auth: Auth,
    http: reqwest::Client,
    converter: SrSettings,
}

/// Why a call failed.
#[derive(Debug)]
enum Failure {
    /// It may go better next time.
    Passing { message: String },
    /// The registry's own words.
    Answer { status: u16, code: u32, message: String },
}

#[derive(Deserialize)]
struct FoundSchema {
    id: u32,
}

#[derive(Deserialize)]
struct Level {
    #[serde(rename = "compatibilityLevel", alias = "compatibility")]
    compatibility_level: String,
}

#[derive(Deserialize)]
struct Compatibility {
    is_compatible: bool,
    #[serde(default)]
    messages: Vec<String>,
    /// Apicurio's.
    #[serde(default)]
    reason: Option<String>,
}

impl ConfluentRegistry {
    /// Takes the settings of a registry; nothing is contacted yet.
    ///
    /// # Errors
    /// [`Error::Refused`] when there is no address or one is no URL; [`Error::Unavailable`] when there is no thread to be had.
    pub fn new(settings: ConfluentSettings) -> Result<Self, Error> {
        let refused = |message: String| Error::Refused { message };
        let urls: Vec<String> = settings.urls.iter().map(|url| url.trim_end_matches('/').to_owned()).collect();
        let [first, others @ ..] = urls.as_slice() else { return Err(refused("no address is given".into())) };
        for url in &urls {
            reqwest::Url::parse(url).map_err(|error| refused(format!("`{url}` is no address: {error}")))?;
        }
        let mut builder = SrSettings::new_builder(first.clone());
        for url in others {
            builder.add_url(url.clone());
        }
        match &settings.auth {
            Auth::None => {}
            Auth::Basic { user, password } => drop(builder.set_basic_authorization(user, Some(password))),
            Auth::Bearer { token } => drop(builder.set_token_authorization(token)),
        }
        builder.set_timeout(settings.timeout);
        let converter = builder.build().map_err(|error| refused(error.to_string()))?;
        let http = reqwest::Client::builder().timeout(settings.timeout).build();
        let http = http.map_err(|error| refused(error.to_string()))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(4)
            .thread_name("registry")
            .enable_all()
            .build()
            .map_err(|error| Error::Unavailable { message: error.to_string() })?;
        let remote = Remote { urls, auth: settings.auth, http, converter };
        Ok(Self { remote: Arc::new(remote), runtime: Some(runtime), known: Mutex::default(), arrived: Condvar::new() })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a call on the runtime, again and again while it fails for reasons that pass, for `wait` at most.
    fn call<T, F, C>(&self, wait: Duration, call: C) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Failure>> + Send + 'static,
        C: Fn(Arc<Remote>) -> F + Send + 'static,
    {
        let remote = Arc::clone(&self.remote);
        let (answer, answered) = mpsc::channel();
        let said = Arc::new(Mutex::new(String::from("no answer in time")));
        let last = Arc::clone(&said);
        let attempts = async move {
            let mut pause = PAUSE_MIN;
            loop {
                match call(Arc::clone(&remote)).await {
                    Err(Failure::Passing { message }) => {
                        tracing::debug!(message, "the registry is asked again");
                        *last.lock().unwrap_or_else(PoisonError::into_inner) = message;
                        tokio::time::sleep(pause).await;
                        pause = (pause * 2).min(PAUSE_MAX);
                    }
                    outcome => return outcome,
                }
            }
        };
        let runtime = self.runtime.as_ref().expect("taken in `drop` only");
        runtime.spawn(async move {
            if let Ok(outcome) = tokio::time::timeout(wait, attempts).await {
                // The caller may have given up in the same moment.
                answer.send(outcome).ok();
            }
        });
        answered.recv_timeout(wait + PAUSE_MIN).unwrap_or_else(|_| {
            let message = said.lock().unwrap_or_else(PoisonError::into_inner).clone();
            Err(Failure::Passing { message })
        })
    }

    fn fetch(&self, id: SchemaId, wait: Duration) -> Result<Arc<str>, Error> {
        let fetched = self.call(wait, move |remote| async move {
            let schema = get_schema_by_id(id.0, &remote.converter).await.map_err(Failure::of)?;
            remote.standalone(schema).await
        });
        match fetched {
            Ok(schema) => Ok(schema.schema.into()),
            Err(Failure::Answer { status: 404, .. }) => Err(Error::UnknownId { id }),
            Err(failure) => Err(failure.into_error()),
        }
    }
}

impl Drop for ConfluentRegistry {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waiting for the rest would panic on a thread of another runtime.
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for ConfluentRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (urls, auth) = (&self.remote.urls, &self.remote.auth);
        f.debug_struct("ConfluentRegistry").field("urls", urls).field("auth", auth).finish_non_exhaustive()
    }
}

impl Registry for ConfluentRegistry {
    fn schema(&self, id: SchemaId, wait: Duration) -> Result<String, Error> {
        let end = end_of(wait);
        let mut known = self.known();
        loop {
            if let Some(schema) = known.schemas.get(&id) {
                return Ok(schema.as_ref().to_owned());
            }
            if known.underway.insert(id) {
                break;
            }
            let left = left_until(end);
            if left.is_zero() {
                return Err(Error::Unavailable { message: format!("schema {id} is still being fetched") });
            }
            known = self.arrived.wait_timeout(known, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(known);
        let outcome = self.fetch(id, left_until(end));
        let mut known = self.known();
        known.underway.remove(&id);
        if let Ok(schema) = &outcome {
            known.schemas.insert(id, Arc::clone(schema));
        }
        drop(known);
        self.arrived.notify_all();
        outcome.map(|schema| schema.as_ref().to_owned())
    }

    fn register(&self, subject: &str, schema: &str, wait: Duration) -> Result<SchemaId, Error> {
        let (path, text) = (segment(subject), schema.to_owned());
        let registered = self.call(wait, move |remote| {
            let (path, text) = (path.clone(), text.clone());
            async move {
                let supplied = SuppliedSchema::new(None, SchemaType::Avro, text);
                let post = || post_schema(&remote.converter, path.clone(), supplied.clone());
                match post().await.map_err(Failure::of) {
                    // Also said to one of several who register a schema at once; the others' is there when it asks again.
                    Err(Failure::Answer { status: 409, .. }) => post().await.map_err(Failure::of),
                    outcome => outcome,
                }
            }
        });
        match registered {
            Ok(schema) => Ok(SchemaId(schema.id)),
            Err(Failure::Answer { status: 409, message, .. }) => {
                Err(Error::Incompatible { subject: subject.to_owned(), message })
            }
            Err(failure) => Err(failure.into_error()),
        }
    }

    fn register_all(&self, schemas: &[(String, String)], wait: Duration) -> Result<Vec<SchemaId>, Error> {
        let mut ids = Vec::with_capacity(schemas.len());
        for some in schemas.chunks(REGISTRATIONS_AT_ONCE) {
            let answers: Result<Vec<_>, Error> = std::thread::scope(|scope| {
                let ask = |(subject, schema): &'_ (String, String)| self.register(subject, schema, wait);
                let asked: Vec<_> = some.iter().map(|schema| scope.spawn(move || ask(schema))).collect();
                asked.into_iter().map(|answer| answer.join().expect("it does not panic")).collect()
            });
            ids.extend(answers?);
        }
        Ok(ids)
    }

    fn lookup(&self, subject: &str, schema: &str, wait: Duration) -> Result<Option<SchemaId>, Error> {
        let (path, body) = (format!("/subjects/{}", segment(subject)), body_of(schema));
        let found: Result<FoundSchema, Failure> = self.call(wait, move |remote| {
            let (path, body) = (path.clone(), body.clone());
            async move { remote.post(&path, &body).await }
        });
        absent_as_none(found.map(|found| SchemaId(found.id)))
    }

    fn latest(&self, subject: &str, wait: Duration) -> Result<Option<SubjectVersion>, Error> {
        let path = segment(subject);
        let found = self.call(wait, move |remote| {
            let path = path.clone();
            async move { remote.version(&path, None).await }
        });
        let named = found.map(|version| SubjectVersion { subject: subject.to_owned(), ..version });
        absent_as_none(named)
    }

    fn versions(&self, subject: &str, wait: Duration) -> Result<Vec<SubjectVersion>, Error> {
        let path = segment(subject);
        let found = self.call(wait, move |remote| {
            let path = path.clone();
            async move {
                let mut numbers = get_all_versions(&remote.converter, path.clone()).await.map_err(Failure::of)?;
                numbers.sort_unstable();
                let mut versions = Vec::with_capacity(numbers.len());
                for number in numbers {
                    versions.push(remote.version(&path, Some(number)).await?);
                }
                Ok(versions)
            }
        });
        let named = |version| SubjectVersion { subject: subject.to_owned(), ..version };
        let versions = absent_as_none(found)?.unwrap_or_default();
        Ok(versions.into_iter().map(named).collect())
    }

    fn subjects(&self, wait: Duration) -> Result<Vec<String>, Error> {
        let listed =
            self.call(wait, |remote| async move { get_all_subjects(&remote.converter).await.map_err(Failure::of) });
        let mut subjects = listed.map_err(Failure::into_error)?;
        subjects.sort_unstable();
        Ok(subjects)
    }

    fn level(&self, subject: &str, wait: Duration) -> Result<String, Error> {
        let path = format!("/config/{}?defaultToGlobal=true", segment(subject));
        let answer: Result<Level, Failure> = self.call(wait, move |remote| {
            let path = path.clone();
            async move { remote.get(&path).await }
        });
        let found = match absent_as_none(answer)? {
            Some(level) => level,
            // A registry that does not know the question's second half.
            None => {
                self.call(wait, |remote| async move { remote.get("/config").await }).map_err(Failure::into_error)?
            }
        };
        Ok(found.compatibility_level)
    }

    fn compatible(&self, subject: &str, schema: &str, wait: Duration) -> Result<Verdict, Error> {
        let path = format!("/compatibility/subjects/{}/versions?verbose=true", segment(subject));
        let body = body_of(schema);
        let answer: Result<Compatibility, Failure> = self.call(wait, move |remote| {
            let (path, body) = (path.clone(), body.clone());
            async move { remote.post(&path, &body).await }
        });
        // Nothing is registered there, so nothing can break.
        let Some(answer) = absent_as_none(answer)? else {
            return Ok(Verdict { compatible: true, messages: Vec::new() });
        };
        let mut messages = answer.messages;
        if !answer.is_compatible {
            messages.extend(answer.reason);
        }
        Ok(Verdict { compatible: answer.is_compatible, messages })
    }
}

impl Remote {
    /// Fetches a version of a subject; the newest without a number. `path` is the subject as a path's segment.
    async fn version(&self, path: &str, number: Option<u32>) -> Result<SubjectVersion, Failure> {
        let found = get_schema_by_subject_and_version(&self.converter, path, number).await.map_err(Failure::of)?;
        let (id, version) = (SchemaId(found.id), found.version.or(number).unwrap_or_default());
        let schema = self.standalone(found).await?.schema;
        Ok(SubjectVersion { subject: String::new(), version, id, schema })
    }

    /// Puts what a schema refers to into it.
    async fn standalone(&self, mut schema: RegisteredSchema) -> Result<RegisteredSchema, Failure> {
        if schema.schema_type != SchemaType::Avro {
            let message = format!("schema {} is not Avro", schema.id);
            return Err(Failure::Answer { status: 422, code: 0, message });
        }
        if schema.references.is_empty() {
            return Ok(schema);
        }
        let mut definitions = BTreeMap::new();
        self.collect(&schema, &mut definitions).await?;
        schema.schema = inline(parse(&schema.schema)?, &definitions).to_string();
        Ok(schema)
    }

    fn collect<'a>(
        &'a self,
        schema: &'a RegisteredSchema,
        definitions: &'a mut BTreeMap<String, Value>,
    ) -> Pin<Box<dyn Future<Output = Result<(), Failure>> + Send + 'a>> {
        Box::pin(async move {
            for reference in &schema.references {
                if definitions.contains_key(&reference.name) {
                    continue;
                }
                if definitions.len() >= REFERENCES_MAX {
                    let message = format!("more than {REFERENCES_MAX} references");
                    return Err(Failure::Answer { status: 422, code: 0, message });
                }
                let mut encoded = reference.clone();
                encoded.subject = segment(&reference.subject);
                let found = get_referenced_schema(&self.converter, &encoded).await.map_err(Failure::of)?;
                definitions.insert(reference.name.clone(), parse(&found.schema)?);
                self.collect(&found, definitions).await?;
            }
            Ok(())
        })
    }

    /// Posts to each address in turn until one answers.
    async fn post<T: for<'de> Deserialize<'de>>(&self, path: &str, body: &str) -> Result<T, Failure> {
        self.ask(path, |url| self.http.post(url).header(CONTENT_TYPE, JSON).body(body.to_owned())).await
    }

    /// Asks each address in turn until one answers.
    async fn get<T: for<'de> Deserialize<'de>>(&self, path: &str) -> Result<T, Failure> {
        self.ask(path, |url| self.http.get(url)).await
    }

    async fn ask<T: for<'de> Deserialize<'de>>(
        &self,
        path: &str,
        request: impl Fn(String) -> reqwest::RequestBuilder,
    ) -> Result<T, Failure> {
        let mut failure = Failure::Passing { message: "no address is given".into() };
        for url in &self.urls {
            match self.send(request(format!("{url}{path}"))).await {
                Err(Failure::Passing { message }) => failure = Failure::Passing { message },
                outcome => return outcome,
            }
        }
        Err(failure)
    }

    async fn send<T: for<'de> Deserialize<'de>>(&self, request: reqwest::RequestBuilder) -> Result<T, Failure> {
        let passing = |error: reqwest::Error| Failure::Passing { message: with_causes(&error) };
        let request = request.header(ACCEPT, JSON);
        let request = match &self.auth {
            Auth::None => request,
            Auth::Basic { user, password } => request.basic_auth(user, Some(password)),
            Auth::Bearer { token } => request.bearer_auth(token),
        };
        let response = request.send().await.map_err(passing)?;
        let status = response.status();
        let text = response.text().await.map_err(passing)?;
        if status.is_success() {
            return serde_json::from_str(&text).map_err(|error| Failure::Answer {
                status: status.as_u16(),
                code: 0,
                message: format!("an answer that is none: {error}"),
            });
        }
        let (code, message) = match serde_json::from_str::<RawError>(&text) {
            Ok(said) => (said.error_code, said.message),
            Err(_) => (0, format!("status {status}")),
        };
        Err(Failure::answered(status.as_u16(), code, message))
    }
}

impl Failure {
    /// Sorts an answer by whether asking again can help.
    fn answered(status: u16, code: u32, message: String) -> Self {
        if matches!(status, 408 | 429 | 500..) {
            Self::Passing { message: format!("{message} (status {status})") }
        } else {
            Self::Answer { status, code, message }
        }
    }

    /// Reads what `schema_registry_converter` says; it gives the status as text only.
    fn of(error: SRCError) -> Self {
        let said = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<RawError>());
        let status = error.error.split_once("failed with status ").and_then(|(_, rest)| rest.get(..3)?.parse().ok());
        match (status, said) {
            (Some(status), Some(said)) => Self::answered(status, said.error_code, said.message.clone()),
            (Some(status), None) => Self::answered(status, 0, error.error),
            (None, _) if error.retriable => Self::Passing { message: with_causes(&error) },
            (None, _) => Self::Answer { status: 200, code: 0, message: with_causes(&error) },
        }
    }

    fn into_error(self) -> Error {
        match self {
            Self::Passing { message } => Error::Unavailable { message },
            Self::Answer { status, code, message } => {
                Error::Refused { message: format!("{message} (status {status}, code {code})") }
            }
        }
    }
}

/// What is not there is no failure.
fn absent_as_none<T>(outcome: Result<T, Failure>) -> Result<Option<T>, Error> {
    match outcome {
        Ok(found) => Ok(Some(found)),
        Err(Failure::Answer { status: 404, .. }) => Ok(None),
        Err(failure) => Err(failure.into_error()),
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

fn parse(schema: &str) -> Result<Value, Failure> {
    serde_json::from_str(schema).map_err(|error| Failure::Answer {
        status: 200,
        code: 0,
        message: format!("a schema that is not JSON: {error}"),
    })
}

fn body_of(schema: &str) -> String {
    serde_json::json!({ "schema": schema, "schemaType": "AVRO" }).to_string()
}

fn segment(subject: &str) -> String {
    utf8_percent_encode(subject, SEGMENT).to_string()
}

#[expect(clippy::disallowed_methods, reason = "bounds waits on sockets; no decision rests on it")]
fn end_of(wait: Duration) -> Instant {
    Instant::now() + wait.min(Duration::from_secs(86_400))
}

#[expect(clippy::disallowed_methods, reason = "bounds waits on sockets; no decision rests on it")]
fn left_until(end: Instant) -> Duration {
    end.saturating_duration_since(Instant::now())
}
