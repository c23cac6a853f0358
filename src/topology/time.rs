//! Reading the nodes that hold rows until a time comes: `suppress`, `dedupe`, `timer`.

use super::nodes::{conflict, required, required_text};
use super::reader::TableReader;
use super::sources::Located;
use super::spec::{DedupeSpec, PunctuateSpec, SuppressSpec, TimerSpec};
use super::terms::{Clock, SuppressBounds, WhenFull};
use crate::base::diag::Diagnostic;
use crate::base::time::SpanMs;
use crate::error::codes;

const CLOCKS: [(&str, Clock); 2] = [("stream_time", Clock::Stream), ("wall_clock_time", Clock::Wall)];

pub(super) fn read_suppress(table: &mut TableReader<'_>) -> Option<SuppressSpec> {
    let from = required_text(table, "from", "name the table or the windowed aggregate whose changes it holds back");
    let until = table.text("until");
    let help = "say how long: `until = \"10s\"`, or `\"window_close\"` for one final result a window";
    let until = required(table, "until", until, help).and_then(|until| read_until(table, &until));
    let records_max = read_bound(table, "max_records");
    let bytes_max = read_bound(table, "max_bytes");
    let words = [("emit_early", WhenFull::EmitEarly), ("stop", WhenFull::Stop)];
    let when_full = table.choice("when_full", &words);
    let bounded = records_max.or(bytes_max).is_some();
    let at = table.key_span("when_full");
    if let (Some(_), false, Some(span)) = (when_full, bounded, at) {
        let help = "say how much is held: `max_records = 10000`, `max_bytes = 10000000`; or leave it out";
        conflict(table, span, "`when_full` needs `max_records` or `max_bytes`", help);
    }
    let final_results = matches!(&until, Some(Located { value: None, .. }));
    if let (true, true, WhenFull::EmitEarly) = (final_results, bounded, when_full.unwrap_or(WhenFull::EmitEarly)) {
        let message = "a result that goes early is not final";
        let help = "with `until = \"window_close\"` say `when_full = \"stop\"`, or leave the bound out";
        conflict(table, at.unwrap_or(table.at), message, help);
    }
    let bounds = SuppressBounds { records_max, bytes_max, when_full: when_full.unwrap_or(WhenFull::EmitEarly) };
    Some(SuppressSpec { from: from?, until: until?, bounds })
}

fn read_bound(table: &mut TableReader<'_>, key: &'static str) -> Option<u64> {
    let most = table.integer(key)?;
    if most.value < 1 {
        let help = "leave it out to hold as many as there are";
        conflict(table, most.place.span, &format!("`{key}` is at least 1"), help);
    }
    u64::try_from(most.value).ok().filter(|most| *most > 0)
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
    let clock = table.choice("clock", &CLOCKS).unwrap_or(Clock::Stream);
    let select = table.expressions("select");
    let select = required(table, "select", select, "say what its row holds: `select = { total = 'value.total' }`");
    Some(TimerSpec { from: from?, cancel, after: after?.value, clock, select: select? })
}

pub(super) fn read_punctuate(table: &mut TableReader<'_>) -> Option<PunctuateSpec> {
    let of = required_text(table, "table", "name the table, aggregate or entity whose rows it goes through");
    let every = table.duration("every");
    if let Some(none) = every.as_ref().filter(|every| every.value.0 == 0) {
        let help = "say how often: `every = \"1h\"`";
        table.file.report(Diagnostic::error(codes::TOML_VALUE, none.place.span, "`every` is 0").help(help));
    }
    let every = required(table, "every", every, "say how often: `every = \"1h\"`");
    let clock = table.choice("clock", &CLOCKS).unwrap_or(Clock::Stream);
    let filter = table.expression("where");
    let select = table.expressions("select");
    let select = required(table, "select", select, "say what its rows hold: `select = { total = 'value.total' }`");
    Some(PunctuateSpec { table: of?, every: every?.value, clock, filter, select: select? })
}
