//! L4: the seam to schema registries: ids to schemas and back, by subject, in the Confluent sense.
//!
//! Implementations: [`confluent`] (HTTP) and [`local`] (in memory or a file). What a schema means is `avro`'s business; here it
//! is text.

pub mod confluent;
pub mod local;
mod references;

use std::fmt;
use std::time::Duration;

use crate::base::ids::SchemaId;
use crate::error::{Code, Kind, codes};

/// A registered version of a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectVersion {
    pub subject: String,
    pub version: u32,
    pub id: SchemaId,
    /// The Avro schema's JSON, references inlined.
    pub schema: String,
}

/// A registry's verdict on a schema that is not registered yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub compatible: bool,
    /// What breaks, in the registry's words; empty when compatible or when it does not say.
    pub messages: Vec<String>,
}

/// Looks up and registers schemas. Calls block for up to `wait`; callers that must not block call from a thread of their own.
///
/// Successful look-ups by id are cached without end: an id never changes its schema.
pub trait Registry: Send + Sync + fmt::Debug {
    /// Returns the schema of an id.
    ///
    /// # Errors
    /// [`Error::UnknownId`] (which may pass: registries replicate), [`Error::Unavailable`].
    fn schema(&self, id: SchemaId, wait: Duration) -> Result<String, Error>;

    /// Registers a schema under a subject, or finds it there, and returns its id.
    ///
    /// # Errors
    /// [`Error::Incompatible`] with the registry's reasons, [`Error::Unavailable`].
    fn register(&self, subject: &str, schema: &str, wait: Duration) -> Result<SchemaId, Error>;

    /// Registers schemas, each with its subject, as [`Registry::register`] does one; ids come in their order. At once, where waiting for each answer
    /// takes time.
    ///
    /// # Errors
    /// The first in their order; others may be registered all the same.
    fn register_all(&self, schemas: &[(String, String)], wait: Duration) -> Result<Vec<SchemaId>, Error> {
        schemas.iter().map(|(subject, schema)| self.register(subject, schema, wait)).collect()
    }

    /// Returns the id of a schema that is registered under the subject, without registering it.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    fn lookup(&self, subject: &str, schema: &str, wait: Duration) -> Result<Option<SchemaId>, Error>;

    /// Returns the newest version of a subject.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    fn latest(&self, subject: &str, wait: Duration) -> Result<Option<SubjectVersion>, Error>;

    /// Returns all versions of a subject, oldest first; none for an unknown subject.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    fn versions(&self, subject: &str, wait: Duration) -> Result<Vec<SubjectVersion>, Error>;

    /// Returns all subjects, sorted.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    fn subjects(&self, wait: Duration) -> Result<Vec<String>, Error>;

    /// Returns the compatibility level that holds for the subject: its own, else the registry's; in the registry's words.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    fn level(&self, subject: &str, wait: Duration) -> Result<String, Error>;

    /// Asks whether a schema may be registered under the subject's compatibility level.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    fn compatible(&self, subject: &str, schema: &str, wait: Duration) -> Result<Verdict, Error>;
}

/// What went wrong at the registry.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the registry is not available: {message}")]
    Unavailable { message: String },
    #[error("the registry knows no schema with id {id}")]
    UnknownId { id: SchemaId },
    #[error("the registry refuses the schema for subject `{subject}`: {message}")]
    Incompatible { subject: String, message: String },
    #[error("the registry refuses: {message}")]
    Refused { message: String },
    #[error("the registry's file: {message}")]
    Storage { message: String },
}

impl Error {
    /// Tells what the caller should do.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Unavailable { .. } => Kind::Retry,
            Self::UnknownId { .. } => Kind::Record,
            Self::Incompatible { .. } | Self::Refused { .. } => Kind::Config,
            Self::Storage { .. } => Kind::Corrupt,
        }
    }

    /// Returns the code of the page that helps, where there is one.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Unavailable { .. } => Some(codes::REGISTRY_UNAVAILABLE),
            Self::Incompatible { .. } | Self::Refused { .. } => Some(codes::SCHEMA_REFUSED),
            Self::UnknownId { .. } | Self::Storage { .. } => None,
        }
    }
}
