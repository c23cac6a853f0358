//! One memory budget for the process (`memory.budget`), divided by name among all that holds data.
//!
//! Shares are fixed parts of the budget; what one task or one partition gets of a share follows from how many of them run in this
//! process now. Bytes count as they are held, bookkeeping included.

use crate::limits::{
    GENERATION_BYTES_MAX, PREFETCH_BYTES_MAX, PREFETCH_BYTES_MIN, PROCESS_BYTES, PRODUCER_QUEUE_BYTES_MAX,
    PRODUCER_QUEUE_BYTES_MIN, QUEUED_BYTES_MAX, QUEUED_BYTES_MIN, ROW_CACHE_BYTES_MIN, SOURCE_QUEUE_BYTES_MIN,
    WRITE_BEHIND_BYTES_MAX, WRITE_BEHIND_BYTES_MIN,
};
use crate::store::StoresBudget;

/// Into so many parts the budget is divided, but for what is the process's own. Those that are left over are for what the allocator takes
/// beside what is held, and for what has no bound of its own.
const PARTS: usize = 20;
/// The most: rows take less room there than decoded ones, so where keys are many, it is here that most reads find theirs.
const ROCKSDB: usize = 9;
const ROW_CACHES: usize = 2;
const COMMITTED: usize = 1;
const UNCOMMITTED: usize = 1;
const QUEUED: usize = 1;
const PREFETCHED: usize = 1;
const PRODUCED: usize = 1;
const LEFT_OVER: usize = 4;
const _: () =
    assert!(ROCKSDB + ROW_CACHES + COMMITTED + UNCOMMITTED + QUEUED + PREFETCHED + PRODUCED + LEFT_OVER == PARTS);

/// The process's budget.
#[derive(Clone, Copy, Debug)]
pub(super) struct MemoryBudget {
    bytes: usize,
    threads: usize,
}

impl MemoryBudget {
    /// Takes the budget in bytes and the number of stream threads, which share it equally where each holds its own.
    pub(super) fn new(bytes: usize, threads: usize) -> Self {
        Self { bytes, threads: threads.max(1) }
    }

    fn share(self, parts: usize) -> usize {
        self.bytes.saturating_sub(PROCESS_BYTES) / PARTS * parts
    }

    /// RocksDB's block cache, memtables included.
    pub(super) fn rocksdb(self) -> usize {
        self.share(ROCKSDB)
    }

    /// The stores of one of `tasks` tasks: decoded rows, and rows that wait for the backend.
    pub(super) fn stores(self, tasks: usize) -> StoresBudget {
        let tasks = tasks.max(1);
        StoresBudget {
            cache_bytes: (self.share(ROW_CACHES) / tasks).max(ROW_CACHE_BYTES_MIN),
            write_behind_bytes: (self.share(COMMITTED) / tasks).clamp(WRITE_BEHIND_BYTES_MIN, WRITE_BEHIND_BYTES_MAX),
        }
    }

    /// Sends and state that one thread's tasks hold uncommitted, together.
    pub(super) fn uncommitted(self) -> usize {
        (self.share(UNCOMMITTED) / self.threads).min(GENERATION_BYTES_MAX)
    }

    /// Records that wait in all queues of one thread.
    pub(super) fn queued(self) -> usize {
        (self.share(QUEUED) / self.threads).clamp(QUEUED_BYTES_MIN, QUEUED_BYTES_MAX)
    }

    /// What of it is one partition's, of a thread's `partitions`.
    pub(super) fn queued_of(self, partitions: usize) -> usize {
        (self.queued() / partitions.max(1)).max(SOURCE_QUEUE_BYTES_MIN)
    }

    /// What one thread's consumer fetches ahead.
    pub(super) fn prefetched(self) -> usize {
        (self.share(PREFETCHED) / self.threads).clamp(PREFETCH_BYTES_MIN, PREFETCH_BYTES_MAX)
    }

    /// What waits in one thread's producer to be sent.
    pub(super) fn produced(self) -> usize {
        (self.share(PRODUCED) / self.threads).clamp(PRODUCER_QUEUE_BYTES_MIN, PRODUCER_QUEUE_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MEMORY_BUDGET_MIN_BYTES;

    /// What all of it comes to, by so many threads, tasks and partitions.
    fn all(budget: MemoryBudget, tasks: usize) -> usize {
        let stores = budget.stores(tasks);
        let of_threads = budget.uncommitted() + budget.queued() + budget.prefetched() + budget.produced();
        budget.rocksdb() + tasks * (stores.cache_bytes + stores.write_behind_bytes) + budget.threads * of_threads
    }

    #[test]
    fn the_shares_leave_a_fifth_and_what_the_process_has() {
        for (bytes, threads, tasks) in [(128 << 20, 1, 1), (256 << 20, 2, 16), (1 << 30, 4, 64), (16 << 30, 8, 8)] {
            let budget = MemoryBudget::new(bytes, threads);
            let all = all(budget, tasks);
            assert!(all <= (bytes - PROCESS_BYTES) / 5 * 4, "{bytes} by {threads} threads and {tasks} tasks: {all}");
        }
    }

    #[test]
    fn the_least_budget_gives_everyone_something() {
        let least = MEMORY_BUDGET_MIN_BYTES as usize;
        assert!(all(MemoryBudget::new(least, 1), 4) <= least - PROCESS_BYTES);
        let budget = MemoryBudget::new(0, 0);
        assert_eq!((budget.queued_of(1000), budget.prefetched()), (SOURCE_QUEUE_BYTES_MIN, PREFETCH_BYTES_MIN));
        assert!(budget.stores(0).cache_bytes > 0 && budget.stores(1000).write_behind_bytes > 0);
    }
}
