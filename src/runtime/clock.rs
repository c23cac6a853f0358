//! The real clock: the one place that reads it.
#![expect(clippy::disallowed_methods, reason = "this is the clock that everything else is given")]

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

/// A moment on the monotonic clock, to measure spans from.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts to measure.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Returns how long it has been.
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}
