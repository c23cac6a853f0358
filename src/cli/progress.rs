//! Progress of long work: a bar on a terminal, elsewhere a line every few seconds. It goes to stderr.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Time between two lines where no terminal is.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Progress of one piece of work.
#[derive(Debug)]
pub(crate) struct Progress {
    what: String,
    unit: &'static str,
    total: u64,
    shown: Shown,
}

#[derive(Debug)]
enum Shown {
    Bar(ProgressBar),
    Lines { started: Instant, last: Instant },
}

impl Progress {
    /// Begins work of `total` units; 0 where the total is not known.
    pub(crate) fn start(what: impl Into<String>, unit: &'static str, total: u64) -> Self {
        let what = what.into();
        let shown = if std::io::stderr().is_terminal() {
            let bar =
                ProgressBar::with_draw_target((total > 0).then_some(total), ProgressDrawTarget::stderr_with_hz(8));
            let form = if total > 0 {
                format!("{{msg}} {{wide_bar}} {{human_pos}} of {{human_len}} {unit}, {{per_sec}}, {{eta}} left")
            } else {
                format!("{{spinner}} {{msg}} {{human_pos}} {unit}, {{per_sec}}, {{elapsed}}")
            };
            bar.set_style(ProgressStyle::with_template(&form).unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_message(what.clone());
            Shown::Bar(bar)
        } else {
            let now = now();
            Shown::Lines { started: now, last: now }
        };
        Self { what, unit, total, shown }
    }

    /// Says where the work stands.
    pub(crate) fn at(&mut self, done: u64) {
        match &mut self.shown {
            Shown::Bar(bar) => bar.set_position(done),
            Shown::Lines { started, last } => {
                let now = now();
                if now.duration_since(*last) >= LINE_EVERY {
                    *last = now;
                    say(&line(&self.what, self.unit, done, self.total, now.duration_since(*started)));
                }
            }
        }
    }

    /// Ends the work; what was done stays to be read.
    pub(crate) fn finish(self, done: u64) {
        let elapsed = match self.shown {
            Shown::Bar(bar) => {
                bar.finish_and_clear();
                bar.elapsed()
            }
            Shown::Lines { started, .. } => now().duration_since(started),
        };
        say(&line(&self.what, self.unit, done, 0, elapsed));
    }
}

fn line(what: &str, unit: &str, done: u64, total: u64, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64();
    let rate = if seconds > 0.0 { done as f64 / seconds } else { 0.0 };
    let of = if total > 0 { format!(" of {}", grouped(total)) } else { String::new() };
    format!("{what}: {}{of} {unit} in {seconds:.1} s, {} a second", grouped(done), grouped(rate as u64))
}

/// Writes a number with a comma between thousands.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn say(line: &str) {
    // Progress is lost with the terminal that showed it; the work goes on.
    drop(writeln!(std::io::stderr(), "{line}"));
}

#[expect(clippy::disallowed_methods, reason = "a person's time: nothing that is kept depends on it")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_how_much_and_how_fast() {
        let text = line("replaying", "events", 1_234_567, 2_000_000, Duration::from_secs(10));
        assert_eq!(text, "replaying: 1,234,567 of 2,000,000 events in 10.0 s, 123,456 a second");
        assert_eq!(line("x", "events", 0, 0, Duration::ZERO), "x: 0 events in 0.0 s, 0 a second");
        assert_eq!([grouped(999), grouped(1000)], ["999", "1,000"]);
    }
}
