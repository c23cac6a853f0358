//! How a daemon runs: the settings that the runtime itself needs, apart from files and environments.

use std::path::PathBuf;
use std::time::Duration;

use crate::base::time::SpanMs;
use crate::runtime::memory::MemoryBudget;
use crate::task::FirstStart;

/// What happens to a record that was processed when the daemon crashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarantee {
    /// Its effects are there once.
    ExactlyOnce,
    /// Its effects are there once or more, never not at all; state may count it twice.
    AtLeastOnce,
}

/// Settings of a running daemon.
#[derive(Clone, Debug)]
pub struct Options {
    /// Group id, prefix of internal topics and transactional ids.
    pub application_id: String,
    /// This instance's name; stable across restarts, unique in the application.
    pub instance_id: String,
    pub guarantee: Guarantee,
    pub commit_interval: SpanMs,
    pub threads: usize,
    /// State stands in `<state_dir>/<application_id>/<task>/`; without a folder, in memory, for tests of topologies.
    pub state_dir: Option<PathBuf>,
    /// Bytes for RocksDB, row caches, rows and records on their way, and the broker's clients together.
    pub memory_budget_bytes: usize,
    pub first_start: FirstStart,
    /// Whether missing topics are created.
    pub create_topics: bool,
    /// None: the broker's default.
    pub replication_factor: Option<u16>,
    /// Partitions of a sink's topic that has to be created.
    pub default_partitions: u32,
    /// A record dated further ahead of the clock than this goes to `on_error`.
    pub max_future: SpanMs,
    /// Without a heartbeat for this long an instance is out of the group.
    pub session_timeout: Duration,
    /// The broker aborts a transaction that is open for longer.
    pub transaction_timeout: Duration,
    /// The topology's text, for instances that run another one to compare theirs with; none where there are no others, or it is too
    /// large.
    pub deployed: Option<Vec<u8>>,
    /// A topology whose results readers of the running one's cannot read waits for those to leave; else it is refused.
    pub allow_breaking_readers: bool,
    /// Bytes of changelogs that all threads together read a second to restore state; none: as fast as it can be.
    pub restore_bytes_per_second: Option<u64>,
    /// Copies of each task's stores that follow it on other instances.
    pub standby_replicas: usize,
    /// How many set-aside stores are kept.
    pub keep_set_aside: usize,
}

impl Options {
    pub(super) fn memory(&self) -> MemoryBudget {
        MemoryBudget::new(self.memory_budget_bytes, self.threads)
    }
}
