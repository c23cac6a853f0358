//! Reading `window = { … }`: which spans of time, how long they wait, how long they are kept.

use super::reader::TableReader;
use super::sources::Located;
use super::terms::{JoinWindow, Window, WindowShape};
use crate::base::diag::{Diagnostic, Span};
use crate::base::time::SpanMs;
use crate::error::codes;

/// How long the rows of a closed window stay readable unless `retention` says otherwise (Kafka Streams: a day).
const RETENTION_DEFAULT: SpanMs = SpanMs(86_400_000);

const SHAPES: [&str; 4] = ["tumbling", "hopping", "sliding", "session"];

/// Reads a window. What is wrong with it is reported, and a window comes back all the same: the rows are windowed.
pub(super) fn read(mut table: TableReader<'_>) -> Window {
    let shape = read_shape(&mut table);
    let grace = read_grace(&mut table, "10m");
    let retention = table.duration("retention");
    if let Some(short) = retention.as_ref().filter(|retention| retention.value < grace) {
        let help = "a window must be kept at least until it closes";
        misuse(&table, short.place.span, "`retention` is shorter than `grace`", help);
    }
    table.finish();
    Window {
        shape,
        grace,
        retention: retention.map_or_else(|| RETENTION_DEFAULT.max(grace), |retention| retention.value),
    }
}

/// Exactly one of the shapes, and `advance` beside `hopping`.
fn read_shape(table: &mut TableReader<'_>) -> WindowShape {
    let said: Vec<&'static str> = SHAPES.into_iter().filter(|shape| table.key_span(shape).is_some()).collect();
    table.exclusive(&SHAPES);
    if said.is_empty() {
        table.missing(
            "tumbling`, `hopping`, `sliding` or `session",
            "say how long each window is: `tumbling = \"1h\"` (or `hopping`, `sliding`, `session`)",
        );
    }
    if let [first, second, ..] = said.as_slice()
        && let Some(span) = table.key_span(second)
    {
        misuse(table, span, format!("`{first}` and `{second}` exclude each other"), "a window has one shape: keep one");
    }
    let lengths: Vec<Option<Located<SpanMs>>> = said.iter().map(|shape| table.duration(shape)).collect();
    let advance = table.duration("advance");
    let advance_span = table.key_span("advance");
    let length = lengths.into_iter().next().flatten();
    let shape = said.first().copied().unwrap_or("tumbling");
    if let Some(none) = length.as_ref().filter(|length| length.value.0 == 0 && shape != "sliding") {
        let help = format!("say how long it is: `{shape} = \"1h\"`");
        misuse(table, none.place.span, "a window cannot be 0 long", &help);
    }
    if let (Some(span), true) = (advance_span, shape != "hopping") {
        let help = "only hopping windows advance by less than their size: `{ hopping = \"1h\", advance = \"10m\", … }`";
        misuse(table, span, format!("`advance` has no meaning for `{shape}`"), help);
    }
    let length = length.map_or(SpanMs(1), |length| length.value);
    match shape {
        "hopping" => WindowShape::Hopping { size: length, advance: read_advance(table, length, advance, advance_span) },
        "sliding" => WindowShape::Sliding { difference: length },
        "session" => WindowShape::Session { gap: length },
        _ => WindowShape::Hopping { size: length, advance: length },
    }
}

/// Kafka Streams' rule (`TimeWindows.advanceBy`): more than nothing, and not more than the size, or rows would fall between windows.
fn read_advance(table: &TableReader<'_>, size: SpanMs, advance: Option<Located<SpanMs>>, at: Option<Span>) -> SpanMs {
    match advance {
        None => {
            if at.is_none() {
                table.missing(
                    "advance",
                    "say how far apart windows begin: `{ hopping = \"1h\", advance = \"10m\", … }`",
                );
            }
            size
        }
        Some(advance) if advance.value.0 == 0 || advance.value > size => {
            let message = format!("`advance` is {}, the window {size}", advance.value);
            misuse(table, advance.place.span, message, "it is more than 0, and at most the window's size");
            size
        }
        Some(advance) => advance.value,
    }
}

/// Reads a join's window; what is wrong with it is reported.
pub(super) fn read_join(mut table: TableReader<'_>) -> JoinWindow {
    let said = table.has("before") || table.has("after");
    let (before, after) = (table.duration("before"), table.duration("after"));
    if !said {
        let help = "say how far apart two rows may be: `window = { before = \"5m\", after = \"5m\", grace = \"1m\" }`";
        table.missing("before` or `after", help);
    }
    let grace = read_grace(&mut table, "1m");
    table.finish();
    let span = |said: Option<Located<SpanMs>>| said.map_or(SpanMs(0), |said| said.value);
    JoinWindow { before: span(before), after: span(after), grace }
}

/// `grace` must be said; where it is not, a length that might be meant is told.
fn read_grace(table: &mut TableReader<'_>, example: &str) -> SpanMs {
    let grace = table.duration("grace");
    if grace.is_none() && !table.has("grace") {
        let help =
            format!("say how long a window waits for late records: `grace = \"{example}\"`; \"0s\" waits for none");
        table.missing_as(codes::WINDOW_MISUSE, "grace", help);
    }
    grace.map_or(SpanMs(0), |grace| grace.value)
}

fn misuse(table: &TableReader<'_>, span: Span, message: impl Into<String>, help: &str) {
    table.file.report(Diagnostic::error(codes::WINDOW_MISUSE, span, message).help(help));
}
