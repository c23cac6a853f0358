//! Reading the nodes that hold rows until a time comes: `suppress`, `dedupe`, `timer`.

use super::nodes::{conflict, required, required_text};
use super::reader::TableReader;
use super::sources::Located;
use super::spec::{DedupeSpec, SuppressSpec, TimerSpec};
use super::terms::Clock;
use crate::base::diag::Diagnostic;
use crate::base::time::SpanMs;
use crate::error::codes;

pub(super) fn read_suppress(table: &mut TableReader<'_>) -> Option<SuppressSpec> {
    table.later(&["max_bytes"]);
    let from = required_text(table, "from", "name the table or the windowed aggregate whose changes it holds back");
    let until = table.text("until");
    let help = "say how long: `until = \"10s\"`, or `\"window_close\"` for one final result a window";
    let until = required(table, "until", until, help).and_then(|until| read_until(table, &until));
    let records_max = table.integer("max_records").and_then(|most| {
        if most.value < 1 {
            let help = "leave it out to hold as many as there are";
            conflict(table, most.place.span, "`max_records` is at least 1", help);
        }
        u64::try_from(most.value).ok().filter(|most| *most > 0)
    });
    table.choice("when_full", &[("emit", ())]);
    Some(SuppressSpec { from: from?, until: until?, records_max })
}

fn read_until(table: &TableReader<'_>, until: &Located<String>) -> Option<Located<Option<SpanMs>>> {
    let place = until.place;
    if until.value == "window_close" {
        return Some(Located { value: None, place });
    }
    match SpanMs::parse(&until.value) {
        Ok(span) => Some(Located { value: Some(span), place }),
        Err(_) => {
            let message = format!("`until` cannot be {:?}", until.value);
            let help = "a span of time, `\"10s\"`, or `\"window_close\"`";
            table.file.report(Diagnostic::error(codes::TOML_VALUE, place.span, message).help(help));
            None
        }
    }
}

pub(super) fn read_dedupe(table: &mut TableReader<'_>) -> Option<DedupeSpec> {
    let from = required_text(table, "from", "name the stream whose rows may come twice");
    let on = table.texts("on");
    let id = table.expression("id");
    let id = required(table, "id", id, "say what tells rows apart: `id = 'headers.ce_id'`");
    let within = table.duration("within");
    let within = required(table, "within", within, "say how long an id is remembered: `within = \"24h\"`");
    Some(DedupeSpec { from: from?, on, id: id?, within: within?.value })
}

pub(super) fn read_timer(table: &mut TableReader<'_>) -> Option<TimerSpec> {
    let from = required_text(table, "from", "name the stream whose rows set it");
    let cancel = table.text("cancel");
    let after = table.duration("after");
    let after = required(table, "after", after, "say how long it runs: `after = \"1h\"`");
    let clocks = [("stream_time", Clock::Stream), ("wall_clock_time", Clock::Wall)];
    let clock = table.choice("clock", &clocks).unwrap_or(Clock::Stream);
    let select = table.expressions("select");
    let select = required(table, "select", select, "say what its row holds: `select = { total = 'value.total' }`");
    Some(TimerSpec { from: from?, cancel, after: after?.value, clock, select: select? })
}
