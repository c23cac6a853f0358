//! A test hook: makes the process die at a named step of a commit, a restore or a stop, as `kill -9` would, so that tests can
//! prove what a crash leaves behind at each of them.
//!
//! `TIDEMILL_CRASH_AT=step:count` arms it: the process aborts when the step is reached for the `count`-th time. Read once, when a
//! daemon starts; unarmed it is one relaxed load per batch, commit or restore, and nothing per record. Nothing is decided here
//! and nothing is cleaned up: that is the point.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

/// The environment variable that arms the hook.
pub const VARIABLE: &str = "TIDEMILL_CRASH_AT";

macro_rules! steps {
    ($($(#[$doc:meta])* $step:ident = $name:literal,)*) => {
        /// Where the process can be made to die, in the order of a daemon's life.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Step { $($(#[$doc])* $step,)* }

        impl Step {
            /// All steps.
            pub const ALL: &[Self] = &[$(Self::$step,)*];

            /// Returns the name that the environment variable takes.
            pub fn name(self) -> &'static str {
                match self { $(Self::$step => $name,)* }
            }
        }
    };
}

steps! {
    /// The group has given partitions and they are assigned; no store is open.
    Assigned = "assigned",
    /// A task's stores are open and its restore has begun.
    RestoreBegun = "restore_begun",
    /// A batch of a changelog is folded in; more is to come.
    RestoreBatch = "restore_batch",
    /// A task's stores are complete; it has not started.
    Restored = "restored",
    /// A generation is sealed; nothing of its changelog rows is with the producer.
    Sealed = "sealed",
    /// Every record of the generation is with the producer; the commit has not begun.
    HandedOver = "handed_over",
    /// The broker has acknowledged every record; no offsets are in the transaction.
    Delivered = "delivered",
    /// The offsets are in the transaction, which has not been ended.
    OffsetsSent = "offsets_sent",
    /// The transaction is committed; the stream thread has not heard of it.
    Ended = "ended",
    /// The stream thread knows that its writes stand. With `at_least_once` the offsets are not committed yet.
    Answered = "answered",
    /// The offsets are committed apart from the writes (`at_least_once` only).
    OffsetsCommitted = "offsets_committed",
    /// The rows count as committed; they are in memory only.
    Confirmed = "confirmed",
    /// Committed rows are in RocksDB's memory, and not flushed.
    WrittenBehind = "written_behind",
    /// Partitions are being taken away: what was processed is committed, the tasks are not given up.
    Revoking = "revoking",
    /// At a stop: everything is committed, nothing of it is flushed.
    Closing = "closing",
    /// At a stop: one task's stores are flushed, others may not be.
    Flushed = "flushed",
    /// Dead letters go back: the records and the marks are with the producer, and not committed.
    LettersSent = "letters_sent",
    /// The same: they are committed, and nobody was told.
    LettersSettled = "letters_settled",
}

/// In [`ARMED`]: steps are told to the thread's own hook.
const SIMULATED: u8 = u8::MAX;

/// What is told of the steps that a thread reaches.
pub type Hook = Box<dyn FnMut(Step)>;

thread_local! {
    static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
}

/// Has each step that this thread reaches told to `hook`, in place of the process's death: a simulator runs many daemons in one
/// process, and lets one of them die by unwinding out of the hook. None ends it.
pub fn simulate(hook: Option<Hook>) {
    if hook.is_some() {
        ARMED.store(SIMULATED, Ordering::Release);
    }
    HOOK.with(|slot| *slot.borrow_mut() = hook);
}

/// The step to die at, from 1; 0: none.
static ARMED: AtomicU8 = AtomicU8::new(0);
/// How often it is still to be passed, this time included.
static LEFT: AtomicU32 = AtomicU32::new(0);

/// Arms the hook if the environment says so.
///
/// # Errors
/// Says what is wrong with the variable's value.
#[expect(clippy::disallowed_methods, reason = "a hook for tests, and none of the daemon's settings")]
pub fn arm_from_environment() -> Result<(), String> {
    match std::env::var(VARIABLE) {
        Ok(text) => arm(&text).ok_or_else(|| format!("{VARIABLE}={text}: it is `step:count`, the count from 1")),
        Err(_) => Ok(()),
    }
}

fn arm(text: &str) -> Option<()> {
    let (step, count) = parse(text)?;
    LEFT.store(count, Ordering::Relaxed);
    ARMED.store(step as u8 + 1, Ordering::Release);
    Some(())
}

fn parse(text: &str) -> Option<(Step, u32)> {
    let (name, count) = text.split_once(':')?;
    let step = Step::ALL.iter().find(|step| step.name() == name)?;
    Some((*step, count.parse().ok().filter(|count| *count > 0)?))
}

/// Says that a step was reached; dies here when it is the one.
#[inline]
pub fn at(step: Step) {
    let armed = ARMED.load(Ordering::Relaxed);
    if armed != 0 && (armed == step as u8 + 1 || armed == SIMULATED) {
        reached(step);
    }
}

#[cold]
fn reached(step: Step) {
    if ARMED.load(Ordering::Relaxed) == SIMULATED {
        HOOK.with(|hook| {
            if let Some(hook) = &mut *hook.borrow_mut() {
                hook(step);
            }
        });
        return;
    }
    if LEFT.fetch_sub(1, Ordering::AcqRel) == 1 {
        eprintln!("crashing at {}", step.name());
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_named_with_its_count() {
        assert_eq!(parse("offsets_sent:3"), Some((Step::OffsetsSent, 3)));
        for wrong in ["", "sealed", "sealed:0", "sealed:x", "seal:1"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
