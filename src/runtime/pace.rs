//! How fast changelogs are read to restore state: all stream threads of the process together keep to `state.restore_bytes_per_second`.

use std::sync::{Mutex, PoisonError};

use crate::base::time::Timestamp;

/// An allowance that grows with time and is used up by what is read; nothing is read while it is used up. What one poll brings may go
/// beyond it, and is waited for afterwards.
#[derive(Debug)]
pub(super) struct RestorePace {
    /// None: as fast as it can be.
    bytes_per_second: Option<u64>,
    allowance: Mutex<Allowance>,
}

#[derive(Debug, Default)]
struct Allowance {
    /// Thousandths of a byte, so that a millisecond of any rate counts; negative while more was read than was allowed.
    milli_bytes: i64,
    /// When it was counted last.
    at: Option<Timestamp>,
}

impl RestorePace {
    pub(super) fn new(bytes_per_second: Option<u64>) -> Self {
        Self { bytes_per_second, allowance: Mutex::default() }
    }

    /// Tells whether there is a rate to keep to.
    pub(super) fn is_limited(&self) -> bool {
        self.bytes_per_second.is_some()
    }

    /// Tells whether more may be read now.
    pub(super) fn may_read(&self, now: Timestamp) -> bool {
        let Some(rate) = self.bytes_per_second else { return true };
        let rate = i64::try_from(rate).unwrap_or(i64::MAX);
        let mut allowance = self.allowance.lock().unwrap_or_else(PoisonError::into_inner);
        // The first second is free. A clock that was put back gives nothing, and takes nothing away.
        let passed_ms = allowance.at.replace(now).map_or(1000, |since| now.0.saturating_sub(since.0).max(0));
        let grown = allowance.milli_bytes.saturating_add(rate.saturating_mul(passed_ms));
        allowance.milli_bytes = grown.min(rate.saturating_mul(1000));
        allowance.milli_bytes > 0
    }

    /// So much was read.
    pub(super) fn has_read(&self, bytes: usize) {
        if self.bytes_per_second.is_some() {
            let mut allowance = self.allowance.lock().unwrap_or_else(PoisonError::into_inner);
            let milli_bytes = i64::try_from(bytes).unwrap_or(i64::MAX).saturating_mul(1000);
            allowance.milli_bytes = allowance.milli_bytes.saturating_sub(milli_bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_keeps_to_the_rate_however_large_its_pieces_are() {
        for (rate, piece) in [(1000, 10), (1000, 700), (1000, 20_000), (100_000, 7), (64, 100)] {
            let pace = RestorePace::new(Some(rate));
            let (mut read, seconds) = (0, 100);
            for now in 0..seconds * 1000 {
                while pace.may_read(Timestamp(now)) {
                    pace.has_read(piece);
                    read += piece as u64;
                }
            }
            let allowed = rate * (1 + seconds.unsigned_abs());
            let piece = piece as u64;
            assert!(
                (allowed - rate.div_ceil(1000)..allowed + piece).contains(&read),
                "{read} of {allowed} in pieces of {piece}"
            );
        }
    }

    #[test]
    fn without_a_rate_nothing_waits_and_a_clock_that_is_put_back_stops_nothing_for_good() {
        let free = RestorePace::new(None);
        free.has_read(usize::MAX);
        assert!(free.may_read(Timestamp(0)));
        let pace = RestorePace::new(Some(1000));
        assert!(pace.may_read(Timestamp(1_000_000)));
        pace.has_read(1500);
        assert!(!pace.may_read(Timestamp(1_000_000)));
        assert!(!pace.may_read(Timestamp(0)), "nothing is given");
        assert!(!pace.may_read(Timestamp(499)));
        assert!(pace.may_read(Timestamp(501)));
    }
}
