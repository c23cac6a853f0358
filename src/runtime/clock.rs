//! The real clock, the one place that reads it; and one that is told the time, for daemons that somebody steps.
#![expect(clippy::disallowed_methods, reason = "this is the clock that everything else is given")]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::base::time::Timestamp;

/// Returns the wall clock.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Waits this long, where what is awaited gives no signal.
pub(super) fn pause(span: Duration) {
    std::thread::park_timeout(span);
}

/// What a daemon reads the time from.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The machine's.
    #[default]
    Machine,
    /// Milliseconds since 1970 that whoever steps the daemon sets; no time passes by itself.
    Told(Arc<AtomicI64>),
}

impl Clock {
    /// Makes a clock that is told the time.
    pub fn told(now: Timestamp) -> Self {
        Self::Told(Arc::new(AtomicI64::new(now.0)))
    }

    /// Tells it the time; the machine's clock is not told.
    pub fn tell(&self, now: Timestamp) {
        match self {
            Self::Machine => {}
            Self::Told(told) => told.store(now.0, Ordering::Relaxed),
        }
    }

    /// Returns the wall clock.
    pub fn now(&self) -> Timestamp {
        match self {
            Self::Machine => now(),
            Self::Told(told) => Timestamp(told.load(Ordering::Relaxed)),
        }
    }

    /// Starts to measure a span.
    pub(super) fn stopwatch(&self) -> Stopwatch {
        match self {
            Self::Machine => Stopwatch::start(),
            Self::Told(told) => Stopwatch(Since::Told(Arc::clone(told), told.load(Ordering::Relaxed))),
        }
    }
}

/// A moment, to measure spans from.
#[derive(Clone, Debug)]
pub struct Stopwatch(Since);

#[derive(Clone, Debug)]
enum Since {
    /// On the monotonic clock.
    Machine(Instant),
    Told(Arc<AtomicI64>, i64),
}

impl Stopwatch {
    /// Starts to measure, on the machine's monotonic clock.
    pub fn start() -> Self {
        Self(Since::Machine(Instant::now()))
    }

    /// Returns how long it has been.
    pub fn elapsed(&self) -> Duration {
        match &self.0 {
            Since::Machine(since) => since.elapsed(),
            Since::Told(told, since) => {
                let passed = told.load(Ordering::Relaxed).saturating_sub(*since);
                Duration::from_millis(u64::try_from(passed).unwrap_or(0))
            }
        }
    }
}
