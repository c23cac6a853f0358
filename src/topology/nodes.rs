//! Reading the table of each kind of node: its keys, which of them must be there, which exclude each other.

use super::parse::check_name;
use super::reader::{TableReader, TextOrFalse};
use super::sources::Located;
use super::spec::{
    AggregateSpec, Body, BranchSpec, CaseSpec, EntitySpec, Fields, FromSpec, JoinSpec, Shape, SinkSpec, StreamSpec,
    TopicSpec, Updates,
};
use super::terms::{Emit, JoinKind, Keep, KeyFormat, SubjectNaming, TumblingWindow, ValueFormat};
use crate::base::diag::{Diagnostic, Span};
use crate::base::time::SpanMs;
use crate::error::codes;

/// How long the rows of a closed window stay readable unless `retention` says otherwise (Kafka Streams: a day).
const RETENTION_DEFAULT: SpanMs = SpanMs(86_400_000);

const KEY_FORMATS: [(&str, KeyFormat); 3] =
    [("string", KeyFormat::String), ("long", KeyFormat::Long), ("bytes", KeyFormat::Bytes)];
const VALUE_FORMATS: [(&str, ValueFormat); 2] = [("avro", ValueFormat::Avro), ("json", ValueFormat::Json)];
const SUBJECTS: [(&str, SubjectNaming); 3] = [
    ("topic_name", SubjectNaming::TopicName),
    ("record_name", SubjectNaming::RecordName),
    ("topic_record_name", SubjectNaming::TopicRecordName),
];

/// Reads the table of a node; none when something that must be there is not, which is reported.
pub(super) fn read_body(kind: &str, table: &mut TableReader<'_>) -> Option<Body> {
    match kind {
        "stream" => read_stream(table),
        "table" => read_table(table),
        "entity" => read_entity(table).map(Body::Entity),
        "aggregate" => read_aggregate(table).map(Body::Aggregate),
        "merge" => read_merge(table),
        "branch" => read_branch(table).map(Body::Branch),
        "join" => read_join(table).map(Body::Join),
        _ => read_sink(table).map(Body::Sink),
    }
}

/// Reports a key that must be there and is not (a value of the wrong type is reported already).
fn required<T>(table: &mut TableReader<'_>, key: &'static str, value: Option<T>, help: &str) -> Option<T> {
    if value.is_none() && table.key_span(key).is_none() {
        table.missing(key, help);
    }
    value
}

fn required_text(table: &mut TableReader<'_>, key: &'static str, help: &str) -> Option<Located<String>> {
    let text = table.text(key);
    required(table, key, text, help)
}

/// Where rows come from: exactly one of `topic` and `from`.
enum Origin {
    Topic,
    From,
}

fn read_origin(table: &mut TableReader<'_>) -> Option<Origin> {
    match (table.key_span("topic"), table.key_span("from")) {
        (Some(_), None) => Some(Origin::Topic),
        (None, Some(_)) => Some(Origin::From),
        (Some(_), Some(span)) => {
            conflict(table, span, "`topic` and `from` exclude each other", "keep the one that the rows come from");
            None
        }
        (None, None) => {
            table.missing("topic` or `from", "say where the rows come from: a topic, or another node");
            None
        }
    }
}

fn conflict(table: &TableReader<'_>, span: Span, message: &str, help: &str) {
    table.file.report(Diagnostic::error(codes::TOML_CONFLICT, span, message).help(help));
}

/// Reads keys that would have a meaning with the other origin, to say so.
fn reject(table: &mut TableReader<'_>, keys: &[&'static str], why: &str, help: &str) {
    for key in keys {
        if let Some(span) = table.key_span(key) {
            conflict(table, span, &format!("`{key}` {why}"), help);
        }
    }
}

const TOPIC_KEYS: [&str; 6] = ["schemas", "subjects", "key_format", "value_format", "timestamp", "idle"];
const DERIVED_KEYS: [&str; 5] = ["on", "where", "select", "set", "select_key"];

fn read_stream(table: &mut TableReader<'_>) -> Option<Body> {
    table.later(&["envelope", "limit", "flatten"]);
    match read_origin(table) {
        Some(Origin::Topic) => {
            let body = read_topic(table);
            reject(
                table,
                &DERIVED_KEYS,
                "needs `from`",
                "a stream that reads a topic gives its records as they are; put a second stream with `from` behind it",
            );
            body.map(Body::StreamOfTopic)
        }
        Some(Origin::From) => {
            let body = read_derived(table);
            reject(table, &TOPIC_KEYS, "needs `topic`", "it belongs to the stream that reads the topic");
            body.map(Body::StreamFrom)
        }
        None => {
            read_topic_keys_quietly(table);
            None
        }
    }
}

/// With both origins or none, no key can be called unknown that either would have.
fn read_topic_keys_quietly(table: &mut TableReader<'_>) {
    for key in TOPIC_KEYS.iter().chain(&DERIVED_KEYS).chain(&["versioned"]) {
        table.key_span(key);
    }
}

fn read_topic(table: &mut TableReader<'_>) -> Option<TopicSpec> {
    let topic = table.text("topic");
    let schemas = table.texts("schemas");
    let schemas = required(table, "schemas", schemas, "name the Avro schemas of its events: `schemas = [\"X.avsc\"]`");
    let subjects = table.choice("subjects", &SUBJECTS);
    let key_format = table.choice("key_format", &KEY_FORMATS);
    let value_format = table.choice("value_format", &VALUE_FORMATS);
    let timestamp = table.expression("timestamp");
    let idle = table.duration("idle").map(|idle| idle.value);
    let schemas = schemas?;
    if schemas.is_empty() {
        table.missing("schemas", "the list is empty: a topic's events need at least one schema");
        return None;
    }
    if let (Some(ValueFormat::Json), Some(second)) = (value_format, schemas.get(1)) {
        conflict(
            table,
            second.place.span,
            "JSON values have one schema",
            "a JSON object does not say its type; keep one schema",
        );
    }
    Some(TopicSpec {
        topic: topic?,
        schemas,
        subjects: subjects.unwrap_or(SubjectNaming::TopicName),
        key_format: key_format.unwrap_or(KeyFormat::String),
        value_format: value_format.unwrap_or(ValueFormat::Avro),
        timestamp,
        idle,
        versioned: None,
    })
}

fn read_derived(table: &mut TableReader<'_>) -> Option<StreamSpec> {
    let from = table.text("from");
    let on = table.texts("on");
    if let (Some([]), Some(span)) = (on.as_deref(), table.key_span("on")) {
        conflict(
            table,
            span,
            "`on` names no event type, so no row would pass",
            "name one, or leave `on` out to take all",
        );
    }
    let filter = table.expression("where");
    let select_key = table.expression("select_key");
    let (select, set) = (table.expressions("select"), table.expressions("set"));
    if let (Some(_), Some(span)) = (&select, table.key_span("set")) {
        conflict(
            table,
            span,
            "`select` and `set` exclude each other",
            "`select` gives the whole row, `set` changes fields",
        );
    }
    let shape = match (select, set) {
        (Some(fields), _) => Some(Shape::Select(fields)),
        (None, Some(fields)) => Some(Shape::Set(fields)),
        (None, None) => None,
    };
    Some(StreamSpec { from: from?, on, filter, shape, select_key })
}

fn read_table(table: &mut TableReader<'_>) -> Option<Body> {
    table.later(&["where", "select", "set", "ttl"]);
    let origin = read_origin(table);
    let versioned = table.duration("versioned").map(|versioned| versioned.value);
    match origin {
        Some(Origin::Topic) => {
            let mut topic = read_topic(table)?;
            topic.versioned = versioned;
            if let Some(second) = topic.schemas.get(1) {
                conflict(
                    table,
                    second.place.span,
                    "a table has one schema",
                    "its rows have one shape; keep one schema",
                );
            }
            Some(Body::TableOfTopic(topic))
        }
        Some(Origin::From) => {
            reject(table, &TOPIC_KEYS, "needs `topic`", "it belongs to the node that reads the topic");
            Some(Body::TableFrom(FromSpec { from: table.text("from")?, versioned }))
        }
        None => {
            read_topic_keys_quietly(table);
            None
        }
    }
}

fn read_entity(table: &mut TableReader<'_>) -> Option<EntitySpec> {
    table.later(&["commands", "decide", "upcast"]);
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
    Some(EntitySpec { from: from?, schema: schema?, history, history_headers, apply: apply? })
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

/// Reads `<Type>.set = { … }` for each type.
fn by_type(table: Option<TableReader<'_>>) -> Option<Vec<(Located<String>, Fields)>> {
    let table = table?;
    let mut types = Vec::new();
    for (name, value) in table.entries() {
        let Some(mut inner) = table.sub_table(&name.value, name.place.span, value) else { continue };
        let fields = inner.expressions("set");
        let fields = required(&mut inner, "set", fields, "say what changes: `set = { status = '\"OPEN\"' }`");
        inner.finish();
        types.push((name, fields.unwrap_or_default()));
    }
    Some(types)
}

fn read_aggregate(table: &mut TableReader<'_>) -> Option<AggregateSpec> {
    table.later(&["fold", "where", "limit"]);
    let from = required_text(table, "from", "name the stream that it aggregates");
    let group_by = table.expression("group_by");
    let on = table.table("on");
    let select = table.expressions("select");
    let updates = match (select, on) {
        (Some(fields), None) => Some(Updates::Select(fields)),
        (None, Some(on)) => by_type(Some(on)).map(Updates::On),
        (Some(fields), Some(on)) => {
            let message = "`select` and `on` exclude each other";
            conflict(table, on.at, message, "`select` counts every row, `on.Type.set` counts by event type");
            Some(Updates::Select(fields))
        }
        (None, None) => {
            if table.key_span("select").is_none() && table.key_span("on").is_none() {
                table.missing("select` or `on", "say what it computes: `select = { orders = 'count()' }`");
            }
            None
        }
    };
    let window_span = table.key_span("window");
    let window = table.table("window").map(read_window);
    let emits = [("on_commit", Emit::OnCommit), ("on_update", Emit::OnUpdate), ("on_close", Emit::OnClose)];
    let emit = table.choice("emit", &emits).unwrap_or(Emit::OnCommit);
    if let (Emit::OnClose, None, Some(span)) = (emit, window_span, table.key_span("emit")) {
        table.file.report(
            Diagnostic::error(codes::WINDOW_MISUSE, span, "`emit = \"on_close\"` needs a `window`").help(
                "only a window closes: add `window = { tumbling = \"1h\", grace = \"10m\" }`, or emit \"on_commit\"",
            ),
        );
    }
    Some(AggregateSpec { from: from?, group_by, updates: updates?, window, emit })
}

/// Reads a window. What is wrong with it is reported, and a window comes back all the same: the rows are windowed.
fn read_window(mut table: TableReader<'_>) -> TumblingWindow {
    table.later(&["hopping", "advance", "session", "sliding"]);
    let other = ["hopping", "session", "sliding"].iter().any(|key| table.has(key));
    let size = table.duration("tumbling");
    if size.is_none() && !table.has("tumbling") && !other {
        table.missing("tumbling", "say how long each window is: `tumbling = \"1h\"`");
    }
    let grace = table.duration("grace");
    if grace.is_none() && !table.has("grace") {
        let message = format!("{} has no `grace`", table.title);
        misuse(
            &table,
            table.at,
            message,
            "say how long a window waits for late records: `grace = \"10m\"`; \"0s\" waits for none",
        );
    }
    let retention = table.duration("retention");
    if let Some(size) = size.as_ref().filter(|size| size.value.0 == 0) {
        misuse(&table, size.place.span, "a window cannot be 0 long", "say how long it is: `tumbling = \"1h\"`");
    }
    let grace = grace.map_or(SpanMs(0), |grace| grace.value);
    if let Some(short) = retention.as_ref().filter(|retention| retention.value < grace) {
        let help = "a window must be kept at least until it closes";
        misuse(&table, short.place.span, "`retention` is shorter than `grace`", help);
    }
    table.finish();
    TumblingWindow {
        size: size.map_or(SpanMs(1), |size| size.value),
        grace,
        retention: retention.map_or_else(|| RETENTION_DEFAULT.max(grace), |retention| retention.value),
    }
}

fn misuse(table: &TableReader<'_>, span: Span, message: impl Into<String>, help: &str) {
    table.file.report(Diagnostic::error(codes::WINDOW_MISUSE, span, message).help(help));
}

fn read_merge(table: &mut TableReader<'_>) -> Option<Body> {
    let from = table.texts("from");
    let from = required(table, "from", from, "name the streams that it brings together: `from = [\"a\", \"b\"]`")?;
    if from.is_empty() {
        table.missing("from", "the list is empty: name the streams that it brings together");
        return None;
    }
    for (index, name) in from.iter().enumerate() {
        if from[..index].iter().any(|earlier| earlier.value == name.value) {
            let message = format!("`{}` stands twice", name.value);
            conflict(table, name.place.span, &message, "name each stream once; every row of it would come twice");
        }
    }
    Some(Body::Merge { from })
}

fn read_branch(table: &mut TableReader<'_>) -> Option<BranchSpec> {
    let from = required_text(table, "from", "name the stream that it divides");
    let tables = table.tables("case");
    let tables = required(table, "case", tables, "add `[[branch.….case]]` tables with `name` and `where`")?;
    let count = tables.len();
    let mut cases = Vec::new();
    for (index, mut case) in tables.into_iter().enumerate() {
        let name = required_text(&mut case, "name", "later nodes take the case's rows by its name");
        let filter = case.expression("where");
        if filter.is_none() && !case.has("where") && index + 1 < count {
            conflict(
                &case,
                case.at,
                "a case without `where` takes every row, so no later case gets any",
                "move it to the end, or give it a `where`",
            );
        }
        let file = case.file;
        case.finish();
        if let Some(name) = name {
            check_name(file, &name);
            cases.push(CaseSpec { name, filter });
        }
    }
    Some(BranchSpec { from: from?, cases })
}

fn read_join(table: &mut TableReader<'_>) -> Option<JoinSpec> {
    table.later(&["window", "foreign_key", "grace", "key"]);
    let left = required_text(table, "left", "name the stream whose rows it extends");
    let right = required_text(table, "right", "name the table that it looks rows up in");
    let kinds = [("inner", Some(JoinKind::Inner)), ("left", Some(JoinKind::Left)), ("outer", None)];
    let kind = match table.choice("kind", &kinds) {
        Some(None) => {
            let span = table.key_span("kind").unwrap_or(table.at);
            table.file.report(super::reader::not_yet(span, "a join of kind \"outer\""));
            None
        }
        Some(kind) => kind,
        None => None,
    };
    let select = table.expressions("select");
    let select =
        required(table, "select", select, "say what the joined row holds: `select = { total = 'left.total' }`");
    Some(JoinSpec { left: left?, right: right?, kind: kind.unwrap_or(JoinKind::Inner), select: select? })
}

fn read_sink(table: &mut TableReader<'_>) -> Option<SinkSpec> {
    table.later(&["value_format", "key_format", "partition", "headers", "timestamp"]);
    let from = required_text(table, "from", "name the stream whose rows it writes");
    let topic = required_text(table, "topic", "name the topic that it writes to");
    let record = table.text("record");
    let schema = table.text("schema");
    let subjects = table.choice("subjects", &SUBJECTS);
    Some(SinkSpec { from: from?, topic: topic?, record, schema, subjects })
}
