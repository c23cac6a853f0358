//! Reading the table of an entity: its state, its history, which commands it takes and what it decides.

use super::nodes::{by_type, conflict, read_topic, required, required_text};
use super::parse::{check_name, read_on_error};
use super::reader::{TableReader, TextOrFalse};
use super::sources::Located;
use super::spec::{Body, CommandsSpec, DecideSpec, EmitSpec, EntitySpec, NodeSpec, RejectSpec};
use super::terms::Keep;
use crate::base::diag::Diagnostic;
use crate::base::time::SpanMs;
use crate::error::codes;
use crate::limits::COMMANDS_WITHIN_DEFAULT_MS;

/// Reads the table of an entity; none when something that must be there is not, which is reported.
pub(super) fn read(name: &Located<String>, table: &mut TableReader<'_>) -> Option<EntitySpec> {
    table.later(&["upcast"]);
    let from = required_text(table, "from", "name the stream whose events it folds");
    let schema = required_text(table, "schema", "name the Avro schema of its state: `schema = \"Order.avsc\"`");
    let history = read_history(table);
    let history_headers = table.texts("history_headers").unwrap_or_default();
    if let (None, Some(first)) = (history, history_headers.first()) {
        conflict(table, first.place.span, "`history_headers` needs `history`", "without history there is none to keep");
    }
    let apply = table.table("apply");
    let apply = required(table, "apply", apply, "say what each event changes: `apply.OrderPlaced.set = { … }`");
    let apply = by_type(apply);
    let commands = read_commands(name, table);
    Some(EntitySpec { from: from?, schema: schema?, history, history_headers, apply: apply?, commands })
}

/// Takes the stream of an entity's commands out of its table: it is a node of its own.
pub(super) fn stream_of_commands(body: &mut Body) -> Option<NodeSpec> {
    let Body::Entity(entity) = body else { return None };
    let commands = entity.commands.as_mut()?;
    let (topic, on_error) = commands.topic.take()?;
    let name = commands.stream.clone();
    Some(NodeSpec { name, kind: "stream", on_error, was: None, body: Some(Body::StreamOfTopic(topic)) })
}

/// Reads `history = "forever" | "90d" | false`; without it there is none.
fn read_history(table: &mut TableReader<'_>) -> Option<Keep> {
    let TextOrFalse::Text(text) = table.text_or_false("history")? else { return None };
    if text.value == "forever" {
        return Some(Keep::Forever);
    }
    match SpanMs::parse(&text.value) {
        Ok(span) if span.0 > 0 => Some(Keep::For(span)),
        Ok(_) | Err(_) => {
            let message = format!("`history` cannot be \"{}\"", text.value);
            table.file.report(
                Diagnostic::error(codes::TOML_VALUE, text.place.span, message)
                    .help("\"forever\", a duration like \"90d\", or `false` for none"),
            );
            None
        }
    }
}

/// Reads `commands`, `replies` and `decide`, which go together.
fn read_commands(name: &Located<String>, table: &mut TableReader<'_>) -> Option<CommandsSpec> {
    let at = table.key_span("commands");
    let commands = table.table("commands");
    let replies = table.text("replies");
    let decide = table.table("decide").map(read_decide);
    for (key, said) in [("decide", decide.is_some()), ("replies", replies.is_some())] {
        if at.is_none() && said {
            table.missing("commands", format!("`{key}` needs it: `commands = {{ topic = \"…\", schemas = [\"…\"] }}`"));
        }
    }
    let (mut commands, at) = (commands?, at?);
    let stream = Located { value: format!("{}_commands", name.value), place: table.file.place(at) };
    let on_error = read_on_error(&mut commands).unwrap_or_default();
    if commands.key_span("topic").is_none() {
        commands.missing("topic", "name the topic that commands come by: `topic = \"orders.commands\"`");
    }
    let topic = read_topic(&mut commands);
    let within = commands.duration("within").map_or(SpanMs(COMMANDS_WITHIN_DEFAULT_MS), |within| within.value);
    commands.finish();
    Some(CommandsSpec { stream, topic: Some((topic?, on_error)), within, replies, decide: decide.unwrap_or_default() })
}

/// Reads `[entity.order.decide.CancelOrder]` for each command.
fn read_decide(table: TableReader<'_>) -> Vec<(Located<String>, DecideSpec)> {
    let mut decide = Vec::new();
    for (name, value) in table.entries() {
        let Some(mut inner) = table.sub_table(&name.value, name.place.span, value) else { continue };
        let reject = inner.tables("reject").unwrap_or_default().into_iter().filter_map(read_reject).collect();
        let emit = inner.tables("emit").unwrap_or_default().into_iter().filter_map(read_emit).collect();
        if !inner.has("reject") && !inner.has("emit") {
            inner
                .missing("emit", "say what comes of it: `emit = [{ OrderCancelled = { reason = 'command.reason' } }]`");
        }
        inner.finish();
        decide.push((name, DecideSpec { reject, emit }));
    }
    decide
}

fn read_reject(mut table: TableReader<'_>) -> Option<RejectSpec> {
    let when = table.expression("when");
    let when = required(&mut table, "when", when, "say when it is refused: `when = 'state == null'`");
    let code = required_text(&mut table, "code", "those who sent the command go by it: `code = \"not_open\"`");
    let message = table.text("message");
    if let Some(code) = &code {
        check_name(table.file, code);
    }
    table.finish();
    Some(RejectSpec { when: when?, code: code?, message })
}

/// Reads `{ OrderCancelled = { reason = '…' }, when = '…' }`.
fn read_emit(mut table: TableReader<'_>) -> Option<EmitSpec> {
    let when = table.expression("when");
    let events: Vec<_> = table.entries().into_iter().filter(|(name, _)| name.value != "when").collect();
    let [(event, value)] = events.as_slice() else {
        let message = format!("{} names {} events, and an item has one", table.title, events.len());
        table.file.report(Diagnostic::error(codes::TOML_CONFLICT, table.at, message).help(
            "one event with its fields, and `when` if need be: `{ OrderCancelled = { reason = 'command.reason' } }`; \
                       further events are items of their own",
        ));
        return None;
    };
    let inner = table.sub_table(&event.value, event.place.span, value)?;
    let fields = inner.all_expressions();
    Some(EmitSpec { event: event.clone(), fields, when })
}
