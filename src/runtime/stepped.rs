//! A daemon that works only when it is told to, on a clock that it is given: what tests of topologies run on. The stream thread is
//! the production one; it has the process's whole time, so that the same inputs give the same outputs.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use serde_json::Value as Json;

use crate::base::time::Timestamp;
use crate::broker::Broker;
use crate::limits::STEPPED_TURNS_MAX;
use crate::plan::Plan;
use crate::registry::Registry;
use crate::runtime::cluster::Cluster;
use crate::runtime::follower::Follower;
use crate::runtime::options::Options;
use crate::runtime::query;
use crate::runtime::schemas::SchemaFetcher;
use crate::runtime::service::{Read, ReadError};
use crate::runtime::shared::Shared;
use crate::runtime::thread::{Connection, StreamThread, Wait};
use crate::runtime::{Error, clock};

/// A daemon without threads of its own.
pub struct Stepped {
    shared: Arc<Shared>,
    follower: Option<Follower>,
    thread: StreamThread,
}

impl std::fmt::Debug for Stepped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stepped").field("thread", &self.thread).finish_non_exhaustive()
    }
}

impl Stepped {
    /// Prepares the cluster and joins the group; nothing is worked on before [`Stepped::settle`].
    ///
    /// # Errors
    /// As [`crate::runtime::Daemon::start`].
    pub fn start(
        plan: Arc<Plan>,
        broker: Arc<dyn Broker>,
        registry: Arc<dyn Registry>,
        options: Options,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let cluster = Cluster::prepare(&plan, &*broker, &*registry, &options)?;
        let no_thread = |error: std::io::Error| Error::Bug { message: format!("a thread cannot be started: {error}") };
        let schemas = SchemaFetcher::start(registry).map_err(no_thread)?;
        let shared = Arc::new(Shared::new(plan, options, cluster, broker, schemas));
        let follower = Follower::open(&shared, now)?;
        let connection = Connection::open(0, &shared)?;
        // Nobody asks from another thread; reads are answered in place.
        let (_, incoming) = channel();
        let thread = StreamThread::new(0, Arc::clone(&shared), connection, incoming, now);
        Ok(Self { shared, follower, thread })
    }

    /// Works until all inputs are in and everything is committed; `now` is the wall clock.
    ///
    /// # Errors
    /// What a stream thread cannot go on after; a topology that never comes to rest.
    pub fn settle(&mut self, now: Timestamp) -> Result<(), Error> {
        self.follow(now)?;
        let mut quiet = 0;
        for _ in 0..STEPPED_TURNS_MAX {
            let before = self.thread.done_so_far();
            let wait = self.thread.turn(now, Wait::No)?;
            if self.thread.done_so_far() == before && self.thread.is_at_rest(now) {
                quiet += 1;
                if quiet == 2 {
                    return Ok(());
                }
            } else {
                quiet = 0;
                // A schema is being fetched by another thread.
                if matches!(wait, Wait::UpTo(_)) && self.thread.awaits_schema() {
                    clock::pause(Duration::from_micros(100));
                }
            }
        }
        Err(Error::Bug { message: format!("no rest after {STEPPED_TURNS_MAX} turns: two nodes keep each other busy") })
    }

    /// Brings the global tables up to the ends of their topics.
    fn follow(&mut self, now: Timestamp) -> Result<(), Error> {
        let Some(follower) = &mut self.follower else { return Ok(()) };
        let mut quiet = 0;
        for _ in 0..STEPPED_TURNS_MAX {
            if follower.turn(now, Duration::ZERO)? {
                quiet = 0;
            } else if follower.awaits_schema() {
                clock::pause(Duration::from_micros(100));
            } else if follower.is_at_rest() {
                quiet += 1;
                if quiet == 2 {
                    return Ok(());
                }
            }
        }
        Err(Error::Bug { message: format!("the global tables are not at rest after {STEPPED_TURNS_MAX} turns") })
    }

    /// Returns each task that has stopped, with why.
    pub fn stopped(&self) -> Vec<(String, String)> {
        let stopped = |(id, slot): (&crate::base::ids::TaskId, &crate::runtime::thread::Slot)| {
            Some((id.to_string(), slot.quarantined.as_ref()?.message.clone()))
        };
        self.thread.slots.iter().filter_map(stopped).collect()
    }

    /// Reads committed state, as over HTTP.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read(&self, read: &Read) -> Result<Json, ReadError> {
        query::read_here(&self.shared, &self.thread.slots, read)
    }
}
