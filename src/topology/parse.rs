//! TOML text → [`Spec`]: which tables and keys there are and what they may hold. Names are resolved elsewhere.

use std::cell::RefCell;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::reader::{File, TableReader, not_yet, span_of};
use super::sources::{Located, Sources};
use super::spec::{ErrorActions, NodeSpec, Spec};
use super::terms::{ErrorAction, OnError, Retry};
use super::{entities, nodes};
use crate::base::diag::{Diagnostic, FileId, Span, suggestion};
use crate::base::ids::Topic;
use crate::base::time::SpanMs;
use crate::error::codes;
use crate::limits::{RETRY_ATTEMPTS_MAX, RETRY_BACKOFF_MAX_MS, TOPOLOGY_NAME_BYTES_MAX};

/// The version of the language, `[topology] format`.
pub const FORMAT: i64 = 1;

pub(super) const KINDS: [&str; 14] = [
    "stream",
    "table",
    "global_table",
    "entity",
    "aggregate",
    "merge",
    "branch",
    "join",
    "suppress",
    "dedupe",
    "timer",
    "punctuate",
    "log",
    "sink",
];

/// Top-level tables that are no nodes.
pub(super) const TABLES: [&str; 2] = ["topology", "defaults"];

/// Kinds that the language has and this version does not run.
const KINDS_LATER: [&str; 2] = ["upcast", "process"];

/// Reads all files; every finding goes into `findings`.
pub(super) fn parse(sources: &Sources, findings: &RefCell<Vec<Diagnostic>>) -> Spec {
    let mut spec = Spec::default();
    let mut topology_seen = false;
    for (index, source) in sources.files.iter().enumerate() {
        let file = File { id: FileId(index), text: &source.text, findings };
        let (table, errors) = DeTable::parse_recoverable(&source.text);
        for error in &errors {
            let span = error.span().map_or_else(Span::default, |range| Span::new(range.start, range.end));
            file.report(Diagnostic::error(codes::TOML_SYNTAX, span, error.message().trim().replace('\n', ", ")));
        }
        topology_seen |= read_file(file, table.get_ref(), &mut spec);
    }
    if !topology_seen {
        let message = "no file has a `[topology]` table";
        findings.borrow_mut().push(
            Diagnostic::error(codes::TOML_MISSING_KEY, Span::default(), message)
                .help("begin one file with `[topology]`, `format = 1` and `application_id = \"…\"`"),
        );
    }
    spec
}

/// Reads one file; tells whether it has the `[topology]` table.
fn read_file(file: File<'_>, root: &DeTable<'_>, spec: &mut Spec) -> bool {
    let mut topology_seen = false;
    for (name, value) in in_order(root) {
        let (key, at) = (name.get_ref().as_ref(), span_of(name));
        let Some(table) = TableReader::new(file, root, at, "").sub_table(key, at, value) else { continue };
        topology_seen |= key == "topology";
        match TABLES.iter().chain(&KINDS).find(|known| **known == key) {
            Some(known) => read_table(known, table, spec),
            None if KINDS_LATER.contains(&key) => file.report(not_yet(at, &format!("`[{key}]`"))),
            None => {
                let known = KINDS.iter().chain(&TABLES).copied();
                let message = format!("unknown table `[{key}]`");
                file.report(Diagnostic::error(codes::TOML_UNKNOWN_KEY, at, message).help(suggestion(key, known)));
            }
        }
    }
    topology_seen
}

/// Reads a top-level table.
pub(super) fn read_table(name: &'static str, table: TableReader<'_>, spec: &mut Spec) {
    match name {
        "topology" => read_topology(table, spec),
        "defaults" => read_defaults(table, spec),
        kind => read_kind(kind, &table, spec),
    }
}

fn in_order<'a, 'i>(table: &'a DeTable<'i>) -> Vec<(&'a Spanned<std::borrow::Cow<'i, str>>, &'a Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    entries
}

fn read_topology(mut table: TableReader<'_>, spec: &mut Spec) {
    let file = table.file;
    match table.integer("format") {
        Some(format) if format.value != FORMAT => file.report(
            Diagnostic::error(
                codes::TOML_VALUE,
                format.place.span,
                format!("format {} is not one this version reads", format.value),
            )
            .help(format!("this version of tidemill reads format {FORMAT}")),
        ),
        Some(_) => {}
        None if table.key_span("format").is_none() => table.missing("format", "write `format = 1`"),
        None => {}
    }
    match table.text("application_id") {
        Some(id) => {
            if !is_topic_part(&id.value) {
                file.report(
                    Diagnostic::error(
                        codes::TOML_VALUE,
                        id.place.span,
                        format!("`{}` cannot be an application id", id.value),
                    )
                    .help("it stands in topic names: letters, digits, `.`, `_` and `-`, 100 at most"),
                );
            }
            if let Some(first) = &spec.application_id {
                let message = format!("`application_id` is said twice (first: `{}`)", first.value);
                file.report(Diagnostic::error(codes::DUPLICATE_NAME, id.place.span, message).help("keep one of them"));
            } else {
                spec.application_id = Some(id);
            }
        }
        None if table.key_span("application_id").is_none() => {
            table.missing("application_id", "it names the consumer group and stands in front of internal topics");
        }
        None => {}
    }
    table.finish();
}

fn is_topic_part(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= TOPOLOGY_NAME_BYTES_MAX
        && text != "."
        && text != ".."
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

fn read_defaults(mut table: TableReader<'_>, spec: &mut Spec) {
    if let Some(actions) = read_on_error(&mut table) {
        let defaults = &mut spec.defaults;
        for (said, new) in [
            (&mut defaults.decode, actions.decode),
            (&mut defaults.process, actions.process),
            (&mut defaults.produce, actions.produce),
        ] {
            if said.is_some() && new.is_some() {
                table.file.report(
                    Diagnostic::error(codes::DUPLICATE_NAME, table.at, "`[defaults.on_error]` is said twice")
                        .help("keep it in one file"),
                );
            }
            *said = said.take().or(new);
        }
    }
    table.finish();
}

/// Reads `on_error`: what happens to records that cannot be decoded, worked on, written.
pub(super) fn read_on_error(table: &mut TableReader<'_>) -> Option<ErrorActions> {
    let mut on_error = table.table("on_error")?;
    let actions = ErrorActions {
        decode: on_error.table("decode").and_then(read_action),
        process: on_error.table("process").and_then(read_action),
        produce: on_error.table("produce").and_then(read_action),
    };
    on_error.finish();
    Some(actions)
}

#[derive(Clone, Copy, PartialEq)]
enum Action {
    StopTask,
    Skip,
    DeadLetter,
    Retry,
}

const ACTIONS: [(&str, Action); 4] = [
    ("stop_task", Action::StopTask),
    ("skip", Action::Skip),
    ("dead_letter", Action::DeadLetter),
    ("retry", Action::Retry),
];

fn read_action(mut table: TableReader<'_>) -> Option<OnError> {
    let file = table.file;
    let action = table.choice("action", &ACTIONS);
    if action.is_none() && !table.has("action") {
        table.missing("action", "one of \"stop_task\", \"skip\", \"dead_letter\", \"retry\"");
    }
    let retry = read_retry(&mut table, action == Some(Action::Retry));
    let last = match action {
        Some(Action::Retry) => match table.choice("then", &ACTIONS[..3]) {
            None if !table.has("then") => Some(Action::StopTask),
            then => then,
        },
        other => other,
    };
    let topic = table.text("topic");
    let action = match last {
        Some(Action::StopTask) => Some(ErrorAction::StopTask),
        Some(Action::Skip) => Some(ErrorAction::Skip),
        Some(Action::DeadLetter) => match &topic {
            Some(topic) => Some(ErrorAction::DeadLetter { topic: Topic::new(&topic.value) }),
            None => {
                table.missing("topic", "dead letters need a topic: `topic = \"orders.dlq\"`");
                None
            }
        },
        Some(Action::Retry) | None => None,
    };
    if let (Some(topic), Some(Action::StopTask | Action::Skip)) = (&topic, last) {
        file.report(
            Diagnostic::error(codes::TOML_CONFLICT, topic.place.span, "only \"dead_letter\" has a `topic`")
                .help("leave `topic` out, or write `action = \"dead_letter\"`"),
        );
    }
    table.finish();
    Some(OnError { retry: retry?, action: action? })
}

/// Reads `attempts`, `backoff` and `then`, which only a retry has. None: something is wrong, and reported.
fn read_retry(table: &mut TableReader<'_>, retries: bool) -> Option<Option<Retry>> {
    let file = table.file;
    if !retries {
        let mut only = true;
        for key in ["attempts", "backoff", "then"] {
            if let Some(at) = table.key_span(key) {
                only = false;
                let message = format!("only \"retry\" has `{key}`");
                let help = format!("leave `{key}` out, or write `action = \"retry\"`");
                file.report(Diagnostic::error(codes::TOML_CONFLICT, at, message).help(help));
            }
        }
        return only.then_some(None);
    }
    let attempts = table.integer("attempts");
    if attempts.is_none() && !table.has("attempts") {
        table.missing("attempts", "how often to try again before `then`: `attempts = 5`");
    }
    let backoff = table.duration("backoff");
    if backoff.is_none() && !table.has("backoff") {
        table.missing(
            "backoff",
            "how long to wait before the first time: `backoff = \"1s\"`; each wait is twice the one before",
        );
    }
    let (attempts, backoff) = (attempts?, backoff?);
    let bounded = u32::try_from(attempts.value).ok().filter(|count| (1..=RETRY_ATTEMPTS_MAX).contains(count));
    if bounded.is_none() {
        let message = format!("`attempts` cannot be {}", attempts.value);
        let help = format!("between 1 and {RETRY_ATTEMPTS_MAX}");
        file.report(Diagnostic::error(codes::TOML_VALUE, attempts.place.span, message).help(help));
    }
    let waits = (1..=RETRY_BACKOFF_MAX_MS).contains(&backoff.value.0);
    if !waits {
        let message = format!("`backoff` cannot be {}", backoff.value);
        let help = format!("between 1ms and {}", SpanMs(RETRY_BACKOFF_MAX_MS));
        file.report(Diagnostic::error(codes::TOML_VALUE, backoff.place.span, message).help(help));
    }
    Some(Some(Retry { attempts: bounded.filter(|_| waits)?, backoff: backoff.value }))
}

/// Reads all nodes of one kind in one file.
fn read_kind(kind: &'static str, table: &TableReader<'_>, spec: &mut Spec) {
    for (name, value) in table.entries() {
        let Some(mut node) = table.sub_table(&name.value, name.place.span, value) else { continue };
        check_name(table.file, &name);
        let on_error = if kind == "branch" { None } else { read_on_error(&mut node) }.unwrap_or_default();
        let was = if matches!(kind, "branch" | "sink" | "global_table") { None } else { node.text("was") };
        if let Some(was) = &was {
            check_name(table.file, was);
        }
        let mut body = nodes::read_body(kind, &name, &mut node);
        let decodes = kind != "sink" && node.has("topic");
        if on_error.decode.is_some()
            && !decodes
            && let Some(at) = node.key_span("on_error")
        {
            table.file.report(
                Diagnostic::error(codes::TOML_CONFLICT, at, "`on_error.decode` needs `topic`")
                    .help("only a node that reads a topic decodes records; here `on_error.process` and `on_error.produce` can be said"),
            );
        }
        node.finish();
        spec.nodes.extend(body.as_mut().and_then(entities::stream_of_commands));
        spec.nodes.push(NodeSpec { name, kind, on_error, was, body });
    }
}

/// Reports names that could not stand in topic names, folders and Avro records.
pub(super) fn check_name(file: File<'_>, name: &Located<String>) {
    if name.value.len() > TOPOLOGY_NAME_BYTES_MAX || !is_avro_name(&name.value) || name.value.starts_with('_') {
        file.report(
            Diagnostic::error(codes::NAME_NOT_ALLOWED, name.place.span, format!("`{}` cannot be a name", name.value))
                .help("names have letters, digits and `_`, begin with a letter, and are 100 long at most"),
        );
    }
}

/// Tells whether the Avro specification allows the text as a name (without a namespace).
pub(super) fn is_avro_name(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && text.bytes().next().is_some_and(|byte| !byte.is_ascii_digit())
}
