//! Reading the table of each kind of node: its keys, which of them must be there, which exclude each other.

use super::parse::check_name;
use super::reader::TableReader;
use super::sources::{Located, Place};
use super::spec::{
    AggregateSpec, Body, BranchSpec, CaseSpec, Fields, FoldSpec, FromSpec, JoinSpec, LogSpec, Shape, SinkKeyWord,
    SinkSpec, StreamSpec, TopicSpec, Updates,
};
use super::terms::{ContentMode, Emit, JoinKind, KeyFormat, LogLevel, SubjectNaming, ValueFormat};
use super::{entities, time, windows};
use crate::base::diag::{Diagnostic, Span};
use crate::base::time::SpanMs;
use crate::base::types::Type;
use crate::error::codes;
use crate::limits::{LOG_LINES_PER_SECOND_DEFAULT, LOG_LINES_PER_SECOND_MAX};

const KEY_TYPES: [(&str, KeyFormat); 3] =
    [("string", KeyFormat::String), ("long", KeyFormat::Long), ("bytes", KeyFormat::Bytes)];
/// None where `key_type` says it: Avro.
const KEY_FORMATS: [(&str, Option<KeyFormat>); 4] = [
    ("string", Some(KeyFormat::String)),
    ("long", Some(KeyFormat::Long)),
    ("bytes", Some(KeyFormat::Bytes)),
    ("avro", None),
];
const ENVELOPES: [(&str, ()); 1] = [("cloudevents", ())];
const SINK_ENVELOPES: [(&str, ContentMode); 2] =
    [("cloudevents", ContentMode::Binary), ("cloudevents_structured", ContentMode::Structured)];
const SUBJECTS: [(&str, SubjectNaming); 3] = [
    ("topic_name", SubjectNaming::TopicName),
    ("record_name", SubjectNaming::RecordName),
    ("topic_record_name", SubjectNaming::TopicRecordName),
];

/// Reads the table of a node; none when something that must be there is not, which is reported.
pub(super) fn read_body(kind: &str, name: &Located<String>, table: &mut TableReader<'_>) -> Option<Body> {
    match kind {
        "stream" => read_stream(table),
        "table" => read_table(table),
        "global_table" => read_global_table(table).map(Body::GlobalTable),
        "entity" => entities::read(name, table).map(Box::new).map(Body::Entity),
        "aggregate" => read_aggregate(table).map(Body::Aggregate),
        "merge" => read_merge(table),
        "branch" => read_branch(table).map(Body::Branch),
        "join" => read_join(table).map(Body::Join),
        "suppress" => time::read_suppress(table).map(Body::Suppress),
        "dedupe" => time::read_dedupe(table).map(Body::Dedupe),
        "timer" => time::read_timer(table).map(Body::Timer),
        "punctuate" => time::read_punctuate(table).map(Body::Punctuate),
        "log" => read_log(table).map(Body::Log),
        _ => read_sink(table).map(Body::Sink),
    }
}

/// Reports a key that must be there and is not (a value of the wrong type is reported already).
pub(super) fn required<T>(table: &mut TableReader<'_>, key: &'static str, value: Option<T>, help: &str) -> Option<T> {
    if value.is_none() && table.key_span(key).is_none() {
        table.missing(key, help);
    }
    value
}

pub(super) fn required_text(table: &mut TableReader<'_>, key: &'static str, help: &str) -> Option<Located<String>> {
    let text = table.text(key);
    required(table, key, text, help)
}

/// Where rows come from: exactly one of `topic` and `from`.
enum Origin {
    Topic,
    From,
}

fn read_origin(table: &mut TableReader<'_>) -> Option<Origin> {
    table.exclusive(&["topic", "from"]);
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

pub(super) fn conflict(table: &TableReader<'_>, span: Span, message: &str, help: &str) {
    table.file.report(Diagnostic::error(codes::TOML_CONFLICT, span, message).help(help));
}

/// Reads keys that would have a meaning with the other origin, to say so.
fn reject(table: &mut TableReader<'_>, keys: &[&'static str], why: &str, help: &str) {
    for key in keys {
        if let Some(span) = table.key_span(key) {
            conflict(table, span, &format!("`{key}` {why}"), help);
        }
        table.refused(key);
    }
}

const TOPIC_KEYS: [&str; 9] =
    ["schemas", "subjects", "key_format", "key_type", "key_schema", "value_format", "envelope", "timestamp", "idle"];
const DERIVED_KEYS: [&str; 6] = ["on", "where", "flatten", "select", "set", "select_key"];
const SHAPING_KEYS: [&str; 3] = ["where", "select", "set"];

fn read_stream(table: &mut TableReader<'_>) -> Option<Body> {
    table.later(&["limit"]);
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
    for key in TOPIC_KEYS.iter().chain(&DERIVED_KEYS).chain(&["versioned", "ttl"]) {
        table.key_span(key);
    }
}

pub(super) fn read_topic(table: &mut TableReader<'_>) -> Option<TopicSpec> {
    let topic = table.text("topic");
    let subjects = table.choice("subjects", &SUBJECTS);
    let (key_format, framed_key, key_schema) = read_key_format(table);
    let value_format = table.choice("value_format", &ValueFormat::ALL);
    let cloud_events = table.choice("envelope", &ENVELOPES).is_some();
    let timestamp = table.expression("timestamp");
    let idle = table.duration("idle").map(|idle| idle.value);
    let schemas = read_schemas(table, value_format.unwrap_or(ValueFormat::Avro))?;
    if let (Some(ValueFormat::Json), Some(second), false) = (value_format, schemas.get(1), cloud_events) {
        let help = "a JSON object does not say its type; keep one schema, or let `ce_type` say it: `envelope = \"cloudevents\"`";
        conflict(table, second.place.span, "JSON values have one schema", help);
    }
    Some(TopicSpec {
        topic: topic?,
        schemas,
        subjects: subjects.unwrap_or(SubjectNaming::TopicName),
        key_format,
        framed_key,
        key_schema,
        value_format: value_format.unwrap_or(ValueFormat::Avro),
        cloud_events,
        timestamp,
        idle,
        versioned: None,
        ttl: None,
    })
}

/// The schemas of a topic's events; where values are no records there are none to name.
fn read_schemas(table: &mut TableReader<'_>, format: ValueFormat) -> Option<Vec<Located<String>>> {
    let schemas = table.texts("schemas");
    if format.scalar().is_some() {
        for key in ["schemas", "subjects"] {
            if let Some(span) = table.key_span(key) {
                let message = format!("`{key}` has no meaning for `value_format = \"{}\"`", format.name());
                conflict(table, span, &message, "the value is no record: leave it out");
            }
        }
        return Some(Vec::new());
    }
    let schemas = required(table, "schemas", schemas, "name the Avro schemas of its events: `schemas = [\"X.avsc\"]`")?;
    if schemas.is_empty() {
        table.missing("schemas", "the list is empty: a topic's events need at least one schema");
        return None;
    }
    Some(schemas)
}

/// How keys are written; where it stands that they are Avro, for inside they are bare; and their schema where they are records.
fn read_key_format(table: &mut TableReader<'_>) -> (KeyFormat, Option<Place>, Option<Located<String>>) {
    let format = table.choice("key_format", &KEY_FORMATS);
    table.exclusive(&["key_type", "key_schema"]);
    let key_type = table.choice("key_type", &KEY_TYPES);
    let key_schema = table.text("key_schema");
    for key in ["key_type", "key_schema"] {
        if let (None | Some(Some(_)), Some(span)) = (&format, table.key_span(key)) {
            let help = "`key_format = \"avro\"` has a `key_type` or a `key_schema`; the others say it themselves";
            conflict(table, span, &format!("`{key}` needs `key_format = \"avro\"`"), help);
        }
    }
    match format {
        Some(None) => {
            let place = table.key_span("key_format").map(|span| table.file.place(span));
            (key_type.unwrap_or(KeyFormat::String), place, key_schema)
        }
        Some(Some(format)) => (format, None, None),
        None => (KeyFormat::String, None, None),
    }
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
    let flatten = table.expression("flatten");
    let select_key = table.expression("select_key");
    let shape = read_shape(table);
    if let (Some(_), Some(Shape::Set(_)), Some(span)) = (&flatten, &shape, table.key_span("set")) {
        let help = "an element is a row of its own: say with `select` what it holds, of `item` and of `value`";
        conflict(table, span, "`flatten` and `set` exclude each other", help);
    }
    Some(StreamSpec { from: from?, on, filter, flatten, shape, select_key })
}

/// `select` or `set`, not both.
fn read_shape(table: &mut TableReader<'_>) -> Option<Shape> {
    table.exclusive(&["select", "set"]);
    let (select, set) = (table.expressions("select"), table.expressions("set"));
    if let (Some(_), Some(span)) = (&select, table.key_span("set")) {
        conflict(
            table,
            span,
            "`select` and `set` exclude each other",
            "`select` gives the whole row, `set` changes fields",
        );
    }
    match (select, set) {
        (Some(fields), _) => Some(Shape::Select(fields)),
        (None, Some(fields)) => Some(Shape::Set(fields)),
        (None, None) => None,
    }
}

fn read_table(table: &mut TableReader<'_>) -> Option<Body> {
    let origin = read_origin(table);
    let versioned = table.duration("versioned").map(|versioned| versioned.value);
    let ttl = read_ttl(table);
    match origin {
        Some(Origin::Topic) => {
            let topic = read_topic(table);
            let help =
                "a table that reads a topic holds its records as they are; put a second table with `from` behind it";
            reject(table, &SHAPING_KEYS, "needs `from`", help);
            let mut topic = topic?;
            (topic.versioned, topic.ttl) = (versioned, ttl);
            if let Some(place) = topic.framed_key {
                let message =
                    "a table's keys cannot be Avro: other topics would have the same keys in other partitions";
                let help = "read the topic as a `[stream.…]`, and keep its rows in a `[table.…]` with `from`";
                conflict(table, place.span, message, help);
            }
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
            let from = table.text("from");
            let filter = table.expression("where");
            let shape = read_shape(table);
            Some(Body::TableFrom(FromSpec { from: from?, filter, shape, versioned, ttl }))
        }
        None => {
            read_topic_keys_quietly(table);
            None
        }
    }
}

/// How long a row is kept after its last change.
fn read_ttl(table: &mut TableReader<'_>) -> Option<SpanMs> {
    let ttl = table.duration("ttl")?;
    if ttl.value.0 == 0 {
        let help = "say how long a row is kept after its last change: `ttl = \"30d\"`";
        table.file.report(Diagnostic::error(codes::TOML_VALUE, ttl.place.span, "`ttl` is 0").help(help));
    }
    if let Some(span) = table.key_span("versioned") {
        let help = "a versioned table lets go of versions as `versioned` says; put a second table with `ttl` behind it";
        conflict(table, span, "`ttl` and `versioned` exclude each other", help);
    }
    Some(ttl.value)
}

/// A global table holds a topic's rows as they are. Nothing of it goes by time.
fn read_global_table(table: &mut TableReader<'_>) -> Option<TopicSpec> {
    table.later(&["ttl"]);
    if table.key_span("topic").is_none() {
        table.missing("topic", "name the topic that every instance reads: `topic = \"countries\"`");
    }
    let body = read_topic(table);
    let help = "it holds a topic's records as they are: write other rows to a topic with a sink, and read that";
    reject(table, &["from", "on", "where", "select", "set", "select_key"], "is not for a global table", help);
    let help = "rows look up what is newest when they are worked on: leave it out, or use a `[table.…]`";
    reject(table, &["timestamp", "idle", "versioned", "envelope"], "has no meaning for a global table", help);
    let body = body?;
    if let Some(second) = body.schemas.get(1) {
        conflict(table, second.place.span, "a table has one schema", "its rows have one shape; keep one schema");
    }
    Some(body)
}

/// Reads `<Type>.set = { … }` for each type.
pub(super) fn by_type(table: Option<TableReader<'_>>) -> Option<Vec<(Located<String>, Fields)>> {
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
    table.later(&["where", "limit"]);
    let from = required_text(table, "from", "name the stream or table that it aggregates");
    let group_by = table.expression("group_by");
    let updates = read_updates(table);
    let window_span = table.key_span("window");
    let window = table.table("window").map(windows::read);
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

/// Exactly one of `select`, `on` and `fold`.
fn read_updates(table: &mut TableReader<'_>) -> Option<Updates> {
    table.exclusive(&["select", "on", "fold"]);
    let (on, fold) = (table.table("on"), table.table("fold"));
    let select = table.expressions("select");
    let said: Vec<(&str, Span)> =
        ["select", "on", "fold"].into_iter().filter_map(|key| Some((key, table.key_span(key)?))).collect();
    if let [(first, _), (second, span), ..] = said.as_slice() {
        let message = format!("`{first}` and `{second}` exclude each other");
        let help =
            "`select` feeds every row to all functions, `on.Type.set` by event type, `fold` has expressions of its own";
        conflict(table, *span, &message, help);
    }
    match (select, on, fold) {
        (Some(fields), ..) => Some(Updates::Select(fields)),
        (None, Some(on), _) => by_type(Some(on)).map(Updates::On),
        (None, None, Some(fold)) => Some(Updates::Fold(read_folds(fold))),
        (None, None, None) => {
            if said.is_empty() {
                table.missing("select`, `on` or `fold", "say what it computes: `select = { orders = 'count()' }`");
            }
            None
        }
    }
}

const FOLD_TYPES: [(&str, Type); 6] = [
    ("boolean", Type::Bool),
    ("long", Type::Int),
    ("double", Type::Double),
    ("string", Type::String),
    ("bytes", Type::Bytes),
    ("timestamp", Type::DateTime),
];

/// Reads `fold.total = { type = "double", initial = '0.0', update = 'state.total + value.total' }`.
fn read_folds(table: TableReader<'_>) -> Vec<FoldSpec> {
    let mut folds = Vec::new();
    for (name, value) in table.entries() {
        let Some(mut inner) = table.sub_table(&name.value, name.place.span, value) else { continue };
        let kinds: Vec<(&str, usize)> = FOLD_TYPES.iter().enumerate().map(|(at, (name, _))| (*name, at)).collect();
        let kind = inner.choice("type", &kinds);
        let kind = required(&mut inner, "type", kind, "say what it holds: `type = \"long\"`");
        let initial = inner.expression("initial");
        let initial =
            required(&mut inner, "initial", initial, "say what it holds before the first row: `initial = '0'`");
        let update = inner.expression("update");
        let help = "say what it holds after a row: `update = 'state.total + value.total'`";
        let update = required(&mut inner, "update", update, help);
        let (merge, retract) = (inner.expression("merge"), inner.expression("retract"));
        inner.finish();
        if let (Some(kind), Some(initial), Some(update)) = (kind, initial, update) {
            folds.push(FoldSpec { name, field_type: FOLD_TYPES[kind].1.clone(), initial, update, merge, retract });
        }
    }
    folds
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
    let left = required_text(table, "left", "name the stream or table on its left");
    let right = required_text(table, "right", "name the table or stream that its rows meet");
    let kinds = [("inner", JoinKind::Inner), ("left", JoinKind::Left), ("outer", JoinKind::Outer)];
    let kind = table.choice("kind", &kinds);
    let window_at = table.key_span("window").map(|span| table.file.place(span));
    let window = table.table("window").map(windows::read_join).zip(window_at);
    let grace = table.duration("grace");
    let (key, foreign_key) = (table.expression("key"), table.expression("foreign_key"));
    let select = table.expressions("select");
    let select =
        required(table, "select", select, "say what the joined row holds: `select = { total = 'left.total' }`");
    Some(JoinSpec {
        left: left?,
        right: right?,
        kind: kind.unwrap_or(JoinKind::Inner),
        window,
        grace,
        key,
        foreign_key,
        select: select?,
    })
}

fn read_log(table: &mut TableReader<'_>) -> Option<LogSpec> {
    let from = required_text(table, "from", "name the node whose rows it tells of");
    let message = table.expression("message");
    let message = required(table, "message", message, "say what a line says: `message = '\"order \" + value.id'`");
    let level = table.choice("level", &LogLevel::ALL).unwrap_or(LogLevel::Info);
    let most = table.integer("lines_per_second");
    if let Some(most) = most.as_ref().filter(|most| !(1..=i64::from(LOG_LINES_PER_SECOND_MAX)).contains(&most.value)) {
        let message = format!("`lines_per_second` is {}", most.value);
        let help =
            format!("1 to {LOG_LINES_PER_SECOND_MAX}: a log that tells of every row of a busy topic is of no use");
        table.file.report(Diagnostic::error(codes::TOML_VALUE, most.place.span, message).help(help));
    }
    let most = most.and_then(|most| u32::try_from(most.value).ok());
    let lines_per_second = most.unwrap_or(LOG_LINES_PER_SECOND_DEFAULT);
    Some(LogSpec { from: from?, message: message?, level, lines_per_second })
}

fn read_sink(table: &mut TableReader<'_>) -> Option<SinkSpec> {
    table.later(&["partition", "headers", "timestamp"]);
    let from = required_text(table, "from", "name the stream whose rows it writes");
    let topic = required_text(table, "topic", "name the topic that it writes to");
    let record = table.text("record");
    let schema = table.text("schema");
    let subjects = table.choice("subjects", &SUBJECTS);
    let words = [("plain", SinkKeyWord::Plain), ("windowed", SinkKeyWord::Windowed), ("avro", SinkKeyWord::Avro)];
    let key = table.choice("key_format", &words);
    let key_at = table.key_span("key_format").map(|span| table.file.place(span));
    let value_format = table.choice("value_format", &ValueFormat::ALL);
    let value_at = table.key_span("value_format").map(|span| table.file.place(span));
    if let Some(format) = value_format.filter(|format| *format != ValueFormat::Avro) {
        let keys: &[&'static str] =
            if format == ValueFormat::Json { &["record", "subjects"] } else { &["record", "subjects", "schema"] };
        for key in keys {
            if let Some(span) = table.key_span(key) {
                let message = format!("`{key}` has no meaning for `value_format = \"{}\"`", format.name());
                conflict(table, span, &message, "it belongs to Avro in a registry's frame: leave it out");
            }
        }
    }
    let cloud_events = table.choice("envelope", &SINK_ENVELOPES);
    let (key, value_format) = (key.zip(key_at), value_format.zip(value_at));
    Some(SinkSpec { from: from?, topic: topic?, record, schema, subjects, key, value_format, cloud_events })
}
