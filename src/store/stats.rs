//! The memory that a task's stores may take, and the plain numbers they keep for metrics.

use crate::base::time::Timestamp;
use crate::store::{SetAsideReason, TaskStores};

/// Memory that one task's stores may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoresBudget {
    /// Decoded rows: clean ones are evicted above this; uncommitted ones stay, so the caller commits before they fill it.
    pub cache_bytes: usize,
    /// Committed rows that wait for the backend: at this they are written.
    pub write_behind_bytes: usize,
}

/// Plain counters and gauges of one task's stores.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub gets: u64,
    pub puts: u64,
    pub cache_evictions: u64,
    pub cache_entries: u64,
    pub cache_bytes: u64,
    /// Decoded bytes of rows changed in the open generation.
    pub open_bytes: u64,
    /// The same of the sealed generation.
    pub sealed_bytes: u64,
    /// Encoded bytes that are committed but not yet in the backend.
    pub committed_overlay_bytes: u64,
    pub committed_overlay_rows: u64,
    /// Rows handed to the changelog.
    pub changelog_rows: u64,
    /// Bytes handed to the changelog.
    pub changelog_bytes: u64,
    /// Rows written to the backend.
    pub written_rows: u64,
    /// Bytes written to the backend.
    pub written_bytes: u64,
    pub flushes: u64,
    /// Bytes in the backend that a crash would lose and a restore replays.
    pub unflushed_bytes: u64,
    /// Wall clock of the last flush.
    pub last_flush: Option<Timestamp>,
}

/// Plain counters of one store since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreCounters {
    /// Reads answered from uncommitted rows or the cache.
    pub cache_hits: u64,
    /// Reads that went to the committed overlay or the backend.
    pub cache_misses: u64,
    /// Changelog records folded in by restores.
    pub restored_records: u64,
    /// How often the store was set aside, by [`SetAsideReason::index`].
    pub set_aside: [u64; SetAsideReason::ALL.len()],
}

impl Stats {
    /// Returns the decoded bytes of rows that are not committed.
    pub fn uncommitted_bytes(&self) -> u64 {
        self.open_bytes + self.sealed_bytes
    }
}

impl TaskStores {
    pub(super) fn note_levels(&mut self) {
        self.stats.cache_bytes = self.cache.size_bytes() as u64;
        self.stats.cache_entries = self.cache.len() as u64;
        self.stats.committed_overlay_bytes = self.committed_bytes();
        self.stats.committed_overlay_rows = self.stores.iter().map(|store| store.committed.len() as u64).sum();
    }
}
