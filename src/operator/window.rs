//! Windows as spans of time: which of them a timestamp falls into, and when one is closed.
//!
//! One rule for all (D3): a window is closed when its end, exclusive, and its grace are reached. Sliding windows and sessions have
//! their last millisecond as their end, so theirs is one later; a session waits for its gap, too, since a row within it would
//! make the session longer.

use crate::base::time::Timestamp;
use crate::plan::{Window, WindowShape};

/// A window: `[start, end)`, for sliding windows and sessions `[start, end]` (as Kafka Streams' `Window.end()`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WindowSpan {
    pub start: Timestamp,
    pub end: Timestamp,
}

impl WindowSpan {
    /// Returns the operator time from which on the window is closed: late rows are dropped, its result is final.
    pub fn closes_at(&self, window: &Window) -> Timestamp {
        let last = match window.shape {
            WindowShape::Hopping { .. } => self.end,
            WindowShape::Sliding { .. } => Timestamp(self.end.0.saturating_add(1)),
            WindowShape::Session { gap } => Timestamp(self.end.saturating_add(gap).0.saturating_add(1)),
        };
        last.saturating_add(window.grace)
    }

    /// Returns the operator time from which on the window's row is not kept any more.
    pub fn kept_until(&self, window: &Window) -> Timestamp {
        let grace = window.retention.max(window.grace);
        self.closes_at(&Window { grace, ..*window })
    }

    /// Tells whether rows for this window are late at `operator_time`.
    pub fn is_closed(&self, window: &Window, operator_time: Timestamp) -> bool {
        self.closes_at(window) <= operator_time
    }
}

/// Windows that begin at fixed times, a multiple of `advance` each, and are `size` long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hops {
    size: i64,
    advance: i64,
}

impl Hops {
    /// Returns the hops of a window that has them.
    pub fn of(window: &Window) -> Option<Self> {
        match window.shape {
            WindowShape::Hopping { size, advance } => Some(Self { size: size.0.max(1), advance: advance.0.max(1) }),
            WindowShape::Sliding { .. } | WindowShape::Session { .. } => None,
        }
    }

    /// Returns the window that starts at `start`.
    pub fn starting_at(self, start: Timestamp) -> WindowSpan {
        WindowSpan { start, end: Timestamp(start.0.saturating_add(self.size)) }
    }

    /// Returns the windows that `timestamp` falls into, by start. Before 1970 there are none for what came later (Kafka Streams'
    /// `TimeWindows.windowsFor`).
    pub fn containing(self, timestamp: Timestamp) -> impl Iterator<Item = WindowSpan> {
        let last = self.floor(timestamp.0);
        let count = (self.size - (timestamp.0.saturating_sub(last)) + self.advance - 1) / self.advance;
        let starts = (0..count).rev().map(move |back| last.saturating_sub(back * self.advance));
        let least = if timestamp.0 < 0 { i64::MIN } else { 0 };
        starts.filter(move |start| *start >= least).map(move |start| self.starting_at(Timestamp(start)))
    }

    /// Returns the first start whose window is not closed at `operator_time`.
    pub fn first_open_start(self, window: &Window, operator_time: Timestamp) -> Timestamp {
        if operator_time == Timestamp::UNKNOWN {
            return Timestamp(i64::MIN);
        }
        // start + size + grace <= time  <=>  start <= time - grace - size; starts are multiples of advance.
        let last_closed = operator_time.saturating_sub(window.grace).0.saturating_sub(self.size);
        Timestamp(self.floor(last_closed).saturating_add(self.advance))
    }

    /// Returns a start below which no window was kept at the time when `closed_until` was the first open one.
    pub fn kept_from(self, window: &Window, closed_until: Timestamp) -> Timestamp {
        let longer = window.retention.0.saturating_sub(window.grace.0).max(0);
        Timestamp(closed_until.0.saturating_sub(longer).saturating_sub(2 * self.advance))
    }

    fn floor(self, time: i64) -> i64 {
        time.saturating_sub(time.rem_euclid(self.advance))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::time::SpanMs;

    fn hopping(size: i64, advance: i64, grace: i64) -> Window {
        let shape = WindowShape::Hopping { size: SpanMs(size), advance: SpanMs(advance) };
        Window { shape, grace: SpanMs(grace), retention: SpanMs(grace) }
    }

    fn starts(window: &Window, at: i64) -> Vec<i64> {
        Hops::of(window).unwrap().containing(Timestamp(at)).map(|span| span.start.0).collect()
    }

    #[test]
    fn tumbling_windows_are_half_open_and_aligned_to_the_epoch() {
        let hour = hopping(3_600_000, 3_600_000, 0);
        assert_eq!(starts(&hour, 0), [0]);
        assert_eq!(starts(&hour, 3_599_999), [0]);
        assert_eq!(starts(&hour, 3_600_000), [3_600_000]);
        assert_eq!(starts(&hour, -1), [-3_600_000]);
    }

    #[test]
    fn a_time_falls_into_every_hop_that_holds_it() {
        assert_eq!(starts(&hopping(10, 5, 0), 12), [5, 10]);
        assert_eq!(starts(&hopping(10, 5, 0), 10), [5, 10]);
        assert_eq!(starts(&hopping(10, 4, 0), 11), [4, 8]);
        assert_eq!(starts(&hopping(10, 4, 0), 13), [4, 8, 12]);
        assert_eq!(starts(&hopping(10, 4, 0), 3), [0]);
        assert_eq!(starts(&hopping(10, 4, 0), -3), [-12, -8, -4]);
    }

    #[test]
    fn a_window_closes_when_its_end_and_grace_are_reached() {
        let span = WindowSpan { start: Timestamp(0), end: Timestamp(10) };
        let closes = |shape| {
            let window = Window { shape, grace: SpanMs(5), retention: SpanMs(5) };
            span.closes_at(&window).0
        };
        assert_eq!(closes(WindowShape::Hopping { size: SpanMs(10), advance: SpanMs(10) }), 15);
        assert_eq!(closes(WindowShape::Sliding { difference: SpanMs(10) }), 16);
        assert_eq!(closes(WindowShape::Session { gap: SpanMs(3) }), 19);
    }

    proptest! {
        #[test]
        fn the_first_open_start_divides_closed_windows_from_open_ones(
            time in -10_000_i64..10_000,
            advance in 1_i64..500,
            more in 0_i64..500,
            grace in 0_i64..500,
        ) {
            let window = hopping(advance + more, advance, grace);
            let hops = Hops::of(&window).unwrap();
            let open = hops.first_open_start(&window, Timestamp(time));
            prop_assert_eq!(open.0.rem_euclid(advance), 0);
            prop_assert!(!hops.starting_at(open).is_closed(&window, Timestamp(time)));
            prop_assert!(hops.starting_at(Timestamp(open.0 - advance)).is_closed(&window, Timestamp(time)));
        }

        #[test]
        fn nothing_was_kept_before_what_is_looked_for(
            time in -10_000_i64..10_000,
            advance in 1_i64..500,
            more in 0_i64..500,
            grace in 0_i64..500,
            longer in 0_i64..500,
        ) {
            let window = Window { retention: SpanMs(grace + longer), ..hopping(advance + more, advance, grace) };
            let kept = Window { grace: window.retention, ..window };
            let hops = Hops::of(&window).unwrap();
            let open = hops.first_open_start(&window, Timestamp(time));
            prop_assert!(hops.kept_from(&window, open) <= hops.first_open_start(&kept, Timestamp(time)));
        }

        #[test]
        fn the_windows_of_a_time_are_those_that_hold_it(time in -1_000_i64..1_000, advance in 1_i64..50, more in 0_i64..200) {
            let window = hopping(advance + more, advance, 0);
            let holding: Vec<i64> = (-2_000..2_000_i64)
                .filter(|start| start.rem_euclid(advance) == 0 && *start <= time && time < start + advance + more)
                .filter(|start| time < 0 || *start >= 0)
                .collect();
            prop_assert_eq!(starts(&window, time), holding);
        }
    }
}
