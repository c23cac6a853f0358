//! A test hook: mistakes that the engine can be made to make, by name, so that the simulator can show that it would notice them. None
//! is made unless the thread that runs the engine was told to; unarmed a place costs one relaxed load, and none lies on the way
//! of a record.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// A rewind leaves the times of nodes and windows where they are.
    TimesNotRewound,
    /// A rewind leaves uncommitted rows in the cache.
    RowsNotRewound,
    /// A rewind does not read the inputs again.
    InputsNotRewound,
    /// A commit leaves its last changelog row out.
    ChangelogRowLost,
    /// A commit leaves the task's meta out.
    MetaForgotten,
    /// How far the upstream tasks are is not read from the meta.
    UpstreamForgotten,
    /// Offsets are committed before the outputs are.
    OffsetsFirst,
    /// A commit without an answer is taken for one that did not happen.
    UnknownTakenForAborted,
    /// A commit confirms what was processed after it was sealed, too.
    NextGenerationConfirmed,
    /// Each batch of a restore loses its last row.
    RestoredRowLost,
    /// A restore leaves deletions out.
    RestoredDeletionLost,
    /// Rows that were read before a restore stay in the cache.
    CacheOutlivesRestore,
    /// The first row of a batch does not reach the disk.
    RowAtRestLost,
    /// A record that cannot be read goes nowhere.
    DeadLetterForgotten,
    /// How far a table was gone through is not read from the meta.
    CursorForgotten,
    /// A standby reads records and keeps none of them.
    StandbyRowsLost,
}

impl Mistake {
    /// All mistakes.
    pub const ALL: [Self; 16] = [
        Self::TimesNotRewound,
        Self::RowsNotRewound,
        Self::InputsNotRewound,
        Self::ChangelogRowLost,
        Self::MetaForgotten,
        Self::UpstreamForgotten,
        Self::OffsetsFirst,
        Self::UnknownTakenForAborted,
        Self::NextGenerationConfirmed,
        Self::RestoredRowLost,
        Self::RestoredDeletionLost,
        Self::CacheOutlivesRestore,
        Self::RowAtRestLost,
        Self::DeadLetterForgotten,
        Self::CursorForgotten,
        Self::StandbyRowsLost,
    ];
}

static ARMED: AtomicBool = AtomicBool::new(false);

thread_local! {
    static MADE: Cell<Option<Mistake>> = const { Cell::new(None) };
}

/// Has the engine make a mistake, where this thread runs it; none ends it.
pub fn plant(mistake: Option<Mistake>) {
    if mistake.is_some() {
        ARMED.store(true, Ordering::Release);
    }
    MADE.with(|made| made.set(mistake));
}

/// Tells whether a mistake is to be made.
#[inline]
pub fn is(mistake: Mistake) -> bool {
    ARMED.load(Ordering::Relaxed) && MADE.with(|made| made.get() == Some(mistake))
}
