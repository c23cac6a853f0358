//! A daemon that works only when it is told to, on a clock that it is given: what tests of topologies and the simulator run on.
//! The stream threads are the production ones, without threads of the process under them, so that the same steps give the same
//! outputs.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value as Json;

use crate::base::ids::TaskId;
use crate::base::time::Timestamp;
use crate::broker::{Broker, Leave};
use crate::error::Kind;
use crate::limits::STEPPED_TURNS_MAX;
use crate::plan::Plan;
use crate::registry::Registry;
use crate::runtime::cluster::Cluster;
use crate::runtime::follower::Follower;
use crate::runtime::instances::Presence;
use crate::runtime::options::Options;
use crate::runtime::query::{self, Request};
use crate::runtime::replay::Replay;
use crate::runtime::rollout::Rollout;
use crate::runtime::schemas::SchemaFetcher;
use crate::runtime::service::{Read, ReadError};
use crate::runtime::shared::{Host, Shared, pause_after};
use crate::runtime::standbys::{self, Keeper};
use crate::runtime::thread::{Connection, StreamThread, Wait};
use crate::runtime::{Clock, Error};
use crate::store::{Backend, Backends, TaskStores};
use crate::task::Witness;

/// What a stepped daemon stands on.
#[derive(Clone, Debug)]
pub struct Ground {
    pub broker: Arc<dyn Broker>,
    pub registry: Arc<dyn Registry>,
    /// Told the time with every step.
    pub clock: Clock,
    pub backends: Arc<dyn Backends>,
    pub witness: Option<Arc<dyn Witness>>,
    /// Records that a task gets in a turn.
    pub turn_records: usize,
}

/// A daemon without threads of its own.
pub struct Stepped {
    shared: Arc<Shared>,
    follower: Option<Follower>,
    company: Option<Company>,
    seats: Vec<Seat>,
    turn_records: usize,
}

/// What this instance has to do with the others, where there are to be standbys: they stand where the tasks do not run.
struct Company {
    rollout: Rollout,
    presence: Option<Presence>,
    keeper: Option<Keeper>,
}

impl Company {
    /// What fails is opened anew in a turn to come.
    fn turn(&mut self, shared: &Arc<Shared>, now: Timestamp) {
        if self.presence.is_none() {
            self.presence = Presence::open(shared).ok();
        }
        if let Some(presence) = &mut self.presence
            && presence.turn(&mut self.rollout, now, Duration::ZERO).is_err()
        {
            self.presence = None;
        }
        if self.keeper.is_none() {
            self.keeper = Keeper::open(shared).ok();
        }
        if let Some(keeper) = &mut self.keeper
            && keeper.turn(now).is_err()
        {
            standbys::close(shared, now);
            self.keeper = None;
        }
    }
}

/// A stream thread's place in the daemon.
struct Seat {
    state: State,
    /// Failures since it worked last.
    failures: u32,
}

enum State {
    Works(Box<StreamThread>),
    /// It joins the group anew when this span is over; a clock that was put back ends it, too.
    Pauses {
        since: Timestamp,
        until: Timestamp,
    },
    /// What a new start cannot mend.
    Ended(Error),
}

impl std::fmt::Debug for Stepped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stepped").field("threads", &self.seats.len()).finish_non_exhaustive()
    }
}

impl Stepped {
    /// Prepares the cluster; nothing is worked on, and the group is not joined, before the first turn.
    ///
    /// # Errors
    /// As [`crate::runtime::Daemon::start`].
    pub fn start(plan: Arc<Plan>, ground: Ground, options: Options, now: Timestamp) -> Result<Self, Error> {
        let Ground { broker, registry, clock, backends, witness, turn_records } = ground;
        clock.tell(now);
        let cluster = Cluster::prepare(&plan, &*broker, &*registry, &options)?;
        let schemas = SchemaFetcher::in_place(registry);
        let seat = |_| Seat { state: State::Pauses { since: now, until: now }, failures: 0 };
        let seats = (0..options.threads).map(seat).collect();
        let host = Host { broker, schemas, clock, backends, witness };
        let shared = Arc::new(Shared::new(plan, options, cluster, host));
        let follower = Follower::open(&shared, now)?;
        let keeps_standbys = shared.options.standby_replicas > 0;
        let company = keeps_standbys.then(|| Company { rollout: Rollout::new(&shared), presence: None, keeper: None });
        Ok(Self { shared, follower, company, seats, turn_records })
    }

    /// One turn of one stream thread, as a running daemon gives it: with a new start after what a new start can mend.
    pub fn turn(&mut self, thread: usize, now: Timestamp) {
        self.shared.clock.tell(now);
        let connect = |shared: &Shared| Connection::open(thread, shared, || shared.open_producer(thread));
        let seat = &mut self.seats[thread];
        match &mut seat.state {
            State::Ended(_) => {}
            State::Pauses { since, until } if (*since..*until).contains(&now) => {}
            State::Pauses { .. } => match connect(&self.shared) {
                Ok(connection) => {
                    let now = self.shared.clock.now();
                    let (shared, records) = (Arc::clone(&self.shared), Some(self.turn_records));
                    let thread = StreamThread::new(thread, shared, connection, no_asks(), records, now);
                    seat.state = State::Works(Box::new(thread));
                }
                Err(failure) => seat.failed(failure, now),
            },
            State::Works(works) => match works.turn(now, Wait::No) {
                Ok(_) => seat.failures = 0,
                Err(failure) => {
                    works.park_all();
                    seat.failed(failure, now);
                }
            },
        }
        if let Some(company) = &mut self.company {
            company.turn(&self.shared, now);
        }
    }

    /// Works until all inputs are in and everything is committed; `now` is the wall clock.
    ///
    /// # Errors
    /// What a stream thread cannot go on after; a topology that never comes to rest.
    pub fn settle(&mut self, now: Timestamp) -> Result<(), Error> {
        self.follow(now)?;
        let mut quiet = 0;
        for _ in 0..STEPPED_TURNS_MAX {
            let before = self.done_so_far();
            for thread in 0..self.seats.len() {
                self.turn(thread, now);
                if let State::Ended(_) = &self.seats[thread].state {
                    return Err(self.take_failure(thread));
                }
            }
            quiet = if self.done_so_far() == before && self.is_at_rest(now) { quiet + 1 } else { 0 };
            if quiet == 2 {
                return Ok(());
            }
        }
        Err(Error::Bug { message: format!("no rest after {STEPPED_TURNS_MAX} turns: two nodes keep each other busy") })
    }

    /// Brings the global tables up to the ends of their topics.
    fn follow(&mut self, now: Timestamp) -> Result<(), Error> {
        let Some(follower) = &mut self.follower else { return Ok(()) };
        let mut quiet = 0;
        for _ in 0..STEPPED_TURNS_MAX {
            quiet = if !follower.turn(now, Duration::ZERO)? && follower.is_at_rest() { quiet + 1 } else { 0 };
            if quiet == 2 {
                return Ok(());
            }
        }
        Err(Error::Bug { message: format!("the global tables are not at rest after {STEPPED_TURNS_MAX} turns") })
    }

    fn take_failure(&mut self, thread: usize) -> Error {
        let again = State::Pauses { since: Timestamp(0), until: Timestamp(0) };
        match std::mem::replace(&mut self.seats[thread].state, again) {
            State::Ended(failure) => failure,
            State::Works(_) | State::Pauses { .. } => Error::Bug { message: "the thread has not ended".to_owned() },
        }
    }

    /// Stops as an operator stops a daemon: commits, writes the stores out, leaves the group.
    ///
    /// # Errors
    /// As [`crate::runtime::Daemon::stop`].
    pub fn stop(self, now: Timestamp) -> Result<(), Error> {
        self.shared.clock.tell(now);
        let mut outcome = Ok(());
        for seat in self.seats {
            if let State::Works(thread) = seat.state {
                let closed = thread.close(now, Leave::Group).map(drop);
                outcome = outcome.and(closed);
            }
        }
        if let Some(company) = self.company {
            standbys::close(&self.shared, now);
            company.presence.into_iter().for_each(|presence| presence.leave(now));
        }
        let written = self.shared.close_parked(now).map_err(Error::from);
        outcome.and(written)
    }

    /// Counts records and commits: two equal answers mean that nothing was done in between.
    pub fn done_so_far(&self) -> (u64, u64) {
        let done = self.working().map(StreamThread::done_so_far);
        done.fold((0, 0), |sum, done| (sum.0 + done.0, sum.1 + done.1))
    }

    /// Tells whether everything that was fetched has been processed and committed, by all threads.
    pub fn is_at_rest(&self, now: Timestamp) -> bool {
        self.working().count() == self.seats.len() && self.working().all(|thread| thread.is_at_rest(now))
    }

    /// Returns the tasks that run here, those that have stopped included.
    pub fn tasks(&self) -> Vec<TaskId> {
        self.working().flat_map(|thread| thread.slots.keys().cloned()).collect()
    }

    /// Returns each task that has stopped, with why.
    pub fn stopped(&self) -> Vec<(String, String)> {
        let quarantines = self.working().flat_map(StreamThread::quarantines);
        quarantines.map(|(id, quarantine)| (id.to_string(), quarantine.message.clone())).collect()
    }

    /// Returns what ended a thread for good: each one's kind, and what it says.
    pub fn ended(&self) -> Vec<(Kind, String)> {
        let ended = |seat: &Seat| match &seat.state {
            State::Ended(failure) => Some((failure.kind(), failure.to_string())),
            State::Works(_) | State::Pauses { .. } => None,
        };
        self.seats.iter().filter_map(ended).collect()
    }

    /// Reads committed state, as over HTTP.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read(&self, read: &Read) -> Result<Json, ReadError> {
        query::read_here(&self.shared, self.working().map(|thread| &thread.slots), read)
    }

    /// Opens a task's stores on a backend, to be looked at.
    ///
    /// # Errors
    /// The backend's; bytes that are not known here.
    pub fn look_into(&self, task: &TaskId, backend: Box<dyn Backend>) -> Result<TaskStores, Error> {
        Ok(self.shared.stores_on(backend, task)?)
    }

    /// A task of this daemon's plan on empty stores, to be given what another one took.
    ///
    /// # Errors
    /// A plan that does not fit itself.
    pub fn replay(&self, task: &TaskId) -> Result<Replay, Error> {
        Replay::new(Arc::clone(&self.shared), task)
    }

    fn working(&self) -> impl Iterator<Item = &StreamThread> {
        self.seats.iter().filter_map(|seat| match &seat.state {
            State::Works(thread) => Some(&**thread),
            State::Pauses { .. } | State::Ended(_) => None,
        })
    }
}

impl Seat {
    fn failed(&mut self, failure: Error, now: Timestamp) {
        self.state = match pause_after(&failure, &mut self.failures) {
            Some(pause) => {
                let until = Timestamp(now.0.saturating_add(pause.as_millis() as i64));
                State::Pauses { since: now, until }
            }
            None => State::Ended(failure),
        };
    }
}

/// Nobody asks from another thread; reads are answered in place.
fn no_asks() -> Receiver<Request> {
    channel().1
}
