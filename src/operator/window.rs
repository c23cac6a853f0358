//! Tumbling windows: which window a timestamp falls into, and when it is closed.

use crate::base::time::Timestamp;
use crate::plan::TumblingWindow;

/// A window `[start, end)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WindowSpan {
    pub start: Timestamp,
    pub end: Timestamp,
}

/// Returns the window that `timestamp` falls into: aligned to the epoch, `[start, end)` (Kafka Streams' `TimeWindows`).
pub fn window_of(window: &TumblingWindow, timestamp: Timestamp) -> WindowSpan {
    let start = timestamp.0.saturating_sub(timestamp.0.rem_euclid(window.size.0));
    WindowSpan { start: Timestamp(start), end: Timestamp(start).saturating_add(window.size) }
}

impl WindowSpan {
    /// Tells whether records for this window are late at `operator_time`: `end + grace <= operator time` (rule D3).
    pub fn is_closed(&self, window: &TumblingWindow, operator_time: Timestamp) -> bool {
        self.end.saturating_add(window.grace) <= operator_time
    }
}

/// Returns the first window start that is not closed at `operator_time`.
pub(crate) fn first_open_start(window: &TumblingWindow, operator_time: Timestamp) -> Timestamp {
    if operator_time == Timestamp::UNKNOWN {
        return Timestamp(i64::MIN);
    }
    // end + grace <= time  <=>  start <= time - grace - size; starts are multiples of size.
    let last_closed = operator_time.saturating_sub(window.grace).saturating_sub(window.size);
    window_of(window, last_closed).end
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::time::SpanMs;

    fn hour(grace: i64) -> TumblingWindow {
        TumblingWindow { size: SpanMs(3_600_000), grace: SpanMs(grace), retention: SpanMs(grace) }
    }

    #[test]
    fn windows_are_half_open_and_aligned_to_the_epoch() {
        assert_eq!(window_of(&hour(0), Timestamp(0)).start, Timestamp(0));
        assert_eq!(window_of(&hour(0), Timestamp(3_599_999)).start, Timestamp(0));
        assert_eq!(window_of(&hour(0), Timestamp(3_600_000)).start, Timestamp(3_600_000));
        assert_eq!(window_of(&hour(0), Timestamp(-1)).start, Timestamp(-3_600_000));
    }

    #[test]
    fn a_window_closes_when_its_end_and_grace_are_reached() {
        let window = hour(600_000);
        let span = window_of(&window, Timestamp(0));
        assert!(!span.is_closed(&window, Timestamp(4_199_999)));
        assert!(span.is_closed(&window, Timestamp(4_200_000)));
    }

    proptest! {
        #[test]
        fn the_first_open_start_divides_closed_windows_from_open_ones(time in -10_000_i64..10_000, size in 1_i64..500, grace in 0_i64..500) {
            let window = TumblingWindow { size: SpanMs(size), grace: SpanMs(grace), retention: SpanMs(grace) };
            let open = first_open_start(&window, Timestamp(time));
            prop_assert!(!window_of(&window, open).is_closed(&window, Timestamp(time)));
            prop_assert!(window_of(&window, Timestamp(open.0 - 1)).is_closed(&window, Timestamp(time)));
        }
    }
}
