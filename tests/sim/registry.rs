//! The registry of a simulated world, which is away when the fates say so.

use std::time::Duration;

use tidemill::base::ids::SchemaId;
use tidemill::registry::local::LocalRegistry;
use tidemill::registry::{Error, Registry, SubjectVersion, Verdict};

use super::fates::{Fates, Fault};

#[derive(Debug)]
pub(crate) struct SimRegistry {
    pub(crate) fates: Fates,
    pub(crate) local: LocalRegistry,
}

impl SimRegistry {
    fn there(&self) -> Result<(), Error> {
        self.fates.moment("ask the registry");
        if self.fates.registry_is_down() || self.fates.strikes(Fault::RegistryDown, 1, 30) {
            return Err(Error::Unavailable { message: "simulated".to_owned() });
        }
        Ok(())
    }
}

impl Registry for SimRegistry {
    fn schema(&self, id: SchemaId, wait: Duration) -> Result<String, Error> {
        self.there()?;
        self.local.schema(id, wait)
    }

    fn register(&self, subject: &str, schema: &str, wait: Duration) -> Result<SchemaId, Error> {
        self.there()?;
        self.local.register(subject, schema, wait)
    }

    fn lookup(&self, subject: &str, schema: &str, wait: Duration) -> Result<Option<SchemaId>, Error> {
        self.there()?;
        self.local.lookup(subject, schema, wait)
    }

    fn latest(&self, subject: &str, wait: Duration) -> Result<Option<SubjectVersion>, Error> {
        self.there()?;
        self.local.latest(subject, wait)
    }

    fn versions(&self, subject: &str, wait: Duration) -> Result<Vec<SubjectVersion>, Error> {
        self.there()?;
        self.local.versions(subject, wait)
    }

    fn subjects(&self, wait: Duration) -> Result<Vec<String>, Error> {
        self.there()?;
        self.local.subjects(wait)
    }

    fn level(&self, subject: &str, wait: Duration) -> Result<String, Error> {
        self.there()?;
        self.local.level(subject, wait)
    }

    fn compatible(&self, subject: &str, schema: &str, wait: Duration) -> Result<Verdict, Error> {
        self.there()?;
        self.local.compatible(subject, schema, wait)
    }
}
